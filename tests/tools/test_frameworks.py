"""What the program that runs the frameworks' tests names is there."""

import frameworks
import pytest


@pytest.mark.parametrize("name", frameworks.FRAMEWORKS)
def test_each_framework_has_a_suite_and_a_row_on_the_page(name: str) -> None:
    assert (frameworks.SUITES / f"suite_{name}.py").exists()
    assert f"| `{name}` | " in (frameworks.SUITES / "README.md").read_text("utf-8")


def test_no_suite_is_without_a_framework_and_killed_ones_have_a_program() -> None:
    assert {path.stem.removeprefix("suite_") for path in frameworks.SUITES.glob("suite_*.py")} == set(
        frameworks.FRAMEWORKS
    )
    text = (frameworks.SUITES / "programs.py").read_text("utf-8")
    assert all(f'    "{name}": {name},' in text for name in frameworks.KILLED)
    assert set(frameworks.KILLED) <= set(frameworks.FRAMEWORKS)


def test_each_package_of_a_vendor_has_a_pinned_version() -> None:
    """The first one is the framework."""
    assert all("==" in suite.packages[0] for suite in frameworks.FRAMEWORKS.values())
