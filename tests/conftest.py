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

from object_servers import new_memory_backend, new_seaweed_backend  # noqa: E402
from postgres import new_backend  # noqa: E402

from eventstore import (  # noqa: E402 - the line above must come before the first import of it
    EventLog,
    FileSystemEventLog,
    FileSystemSessionStorage,
    MemoryEventLog,
    MemorySessionStorage,
    SessionManager,
    SessionStorage,
)
from eventstore.store import EngineSessionStorage  # noqa: E402

ENGINES = {"postgresql": new_backend, "objects": new_memory_backend, "seaweed": new_seaweed_backend}
MARKS = {"seaweed": pytest.mark.seaweed}
BACKENDS = [
    "memory",
    "filesystem",
    *(pytest.param(name, marks=MARKS.get(name, pytest.mark.engines)) for name in ENGINES),
]
"""Where tests of logs and sessions run. PostgreSQL and SeaweedFS are real servers, started for the first test that needs them."""


@pytest.fixture(params=BACKENDS)
def log(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[EventLog]:
    opened: EventLog
    if request.param == "memory":
        opened = MemoryEventLog()
    elif request.param == "filesystem":
        opened = FileSystemEventLog(tmp_path / "logs", fsync="no")
    else:
        opened = EventLog(ENGINES[request.param]())
    with opened as log:
        yield log


@pytest.fixture(params=BACKENDS)
def storage(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[SessionStorage]:
    made: SessionStorage
    if request.param == "memory":
        made = MemorySessionStorage(tmp_path / ".history")
    elif request.param in ENGINES:
        backend = ENGINES[request.param]()
        made = EngineSessionStorage(backend, cache_dir=tmp_path / ".cache", history_dir=tmp_path / ".history")
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
        "backends/objectstore/test_contract",
        "backends/objectstore/test_requests",
        "backends/objectstore/test_settling",
        "backends/test_change_feed",
        "backends/test_filesystem_log",
        "backends/test_odd_files",
        "cli/test_cli",
        "cli/test_cli_browse",
        "cli/test_cli_completion",
        "cli/test_cli_edges",
        "cli/test_cli_follow",
        "cli/test_cli_life",
        "cli/test_cli_moving",
        "cli/test_cli_search",
        "cli/test_cli_signals",
        "cli/test_cli_special",
        "derived/test_catalog_faults",
        "derived/test_snapshots",
        "exporters/test_archive",
        "exporters/test_audit",
        "exporters/test_verifier",
        "importers/test_sources",
        "importers/test_sub_agents",
        "integrations/test_mcp_record",
        "integrations/test_mcp_server",
        "integrity/test_proofs",
        "integrity/test_redaction_archive",
        "integrity/test_redaction_killed",
        "integrity/test_redaction_left",
        "integrity/test_redaction_races",
        "integrity/test_verification",
        "log/test_interleavings",
        "log/test_linear",
        "log/test_port_errors",
        "log/test_repair_tells",
        "projections/test_moments",
        "server/test_api",
        "server/test_conditions",
        "server/test_live",
        "server/test_one_file",
        "server/test_page",
        "server/test_problems",
        "server/test_process",
        "sessions/test_arguments",
        "store/test_copying",
        "store/test_copying_redactions",
        "store/test_pairs",
        "store/test_store_steps",
        "subscriptions/test_positions",
        "test_golden_store",
        "tools/test_order_mutants",
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
