"""Each test that takes `log`, `storage` or `manager` runs on every backend."""

from collections.abc import Iterator
from pathlib import Path

import pytest
from hypothesis import settings

# Without a deadline: how long an example takes says more of the machine than of the code. `.ci/run` asks for the patient profile.
settings.register_profile("house", deadline=None, max_examples=30)
settings.register_profile("patient", deadline=None, max_examples=200)
settings.load_profile("house")
pytest.register_assert_rewrite("eventstore.log.contract")

from eventstore import (  # noqa: E402 - the line above must come before the first import of it
    EventLog,
    FileSystemEventLog,
    FileSystemSessionStorage,
    MemoryEventLog,
    MemorySessionStorage,
    SessionManager,
    SessionStorage,
)

BACKENDS = ["memory", "filesystem"]


@pytest.fixture(params=BACKENDS)
def log(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[EventLog]:
    with MemoryEventLog() if request.param == "memory" else FileSystemEventLog(tmp_path / "logs", fsync="no") as log:
        yield log


@pytest.fixture(params=BACKENDS)
def storage(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[SessionStorage]:
    made: SessionStorage
    if request.param == "memory":
        made = MemorySessionStorage(tmp_path / ".history")
    else:
        made = FileSystemSessionStorage(tmp_path / ".sessions", tmp_path / ".history", fsync="no")
    with made:
        yield made


@pytest.fixture
def manager(storage: SessionStorage) -> SessionManager:
    return SessionManager(storage)


@pytest.fixture
def files(tmp_path: Path) -> Iterator[FileSystemSessionStorage]:
    with FileSystemSessionStorage(tmp_path / ".sessions", tmp_path / ".history", fsync="no") as storage:
        yield storage


LONG_FILES = frozenset(
    f"tests/{name}.py"
    for name in (
        "backends/test_odd_files",
        "cli/test_cli_edges",
        "cli/test_cli_follow",
        "cli/test_cli_life",
        "derived/test_catalog_faults",
        "exporters/test_archive",
        "exporters/test_verifier",
        "integrity/test_proofs",
        "integrity/test_redaction_left",
        "log/test_interleavings",
        "store/test_pairs",
        "store/test_store_steps",
        "subscriptions/test_positions",
    )
)
"""Half of the time of all tests: real processes, every order of two operations. `.ci/run` runs them, and who names one does."""


@pytest.hookimpl(tryfirst=True)
def pytest_collection_modifyitems(config: pytest.Config, items: list[pytest.Item]) -> None:
    """Mark the files of long tests, and give long tests more time: the limit is there to end what hangs."""
    asked = {Path(name.partition("::")[0]).as_posix() for name in config.args}
    for item in items:
        file = item.path.relative_to(config.rootpath).as_posix()
        if file in LONG_FILES and not any(name.endswith(file.removeprefix("tests/")) for name in asked):
            item.add_marker(pytest.mark.long)
        if item.get_closest_marker("long") and not item.get_closest_marker("timeout"):
            item.add_marker(pytest.mark.timeout(900))


def pytest_xdist_auto_num_workers(config: pytest.Config) -> int | None:
    """Run in this process where one file of tests is asked for: starting others takes longer than most files do."""
    asked = [name.partition("::")[0] for name in config.args]
    return 0 if len(set(asked)) == 1 and asked[0].endswith(".py") else None
