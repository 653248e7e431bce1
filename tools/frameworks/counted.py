"""Run test files of a vendor with pytest, and count."""

from collections.abc import Callable, Sequence
from typing import Any

import pytest


class Counted:
    """A plugin that counts what pytest ran, and leaves out the tests that `wanted` does not take."""

    def __init__(self, wanted: Callable[[Any], bool]) -> None:
        self.passed, self.left_out = 0, list[str]()
        self.failures = list[str]()
        self._wanted = wanted

    def pytest_collection_modifyitems(self, config: Any, items: list[Any]) -> None:
        """Leave out tests, by name."""
        kept = [one for one in items if self._wanted(one)]
        names = {_name(one) for one in kept}
        self.left_out += dict.fromkeys(_name(one) for one in items if _name(one) not in names)
        config.hook.pytest_deselected(items=[one for one in items if one not in kept])
        items[:] = kept

    def pytest_runtest_logreport(self, report: pytest.TestReport) -> None:
        """Count a test once, when its call ended, or where it did not come to that."""
        if report.failed:
            self.failures.append(report.nodeid)
        elif report.when == "call" and report.passed:
            self.passed += 1


def _name(item: Any) -> str:
    """Name a test without its parameters."""
    return str(item.nodeid).partition("[")[0]


def run(paths: Sequence[str], wanted: Callable[[Any], bool] = lambda _: True, *options: str) -> Counted:
    """Run test files; print what failed."""
    counted = Counted(wanted)
    status = pytest.main(
        ["-q", "-p", "no:cacheprovider", "-p", "no:pytest-retry", "--tb=short", *options, *paths], plugins=[counted]
    )
    if status not in (pytest.ExitCode.OK, pytest.ExitCode.TESTS_FAILED):
        counted.failures.append(f"pytest ended with {status!r}")
    print()
    return counted
