"""The contract of a log, on every backend that is built in."""

from collections.abc import Iterator
from pathlib import Path

import pytest

from eventstore import EventLog, FileSystemEventLog, MemoryEventLog
from eventstore.log.contract import EventLogContract


class TestMemoryEventLog(EventLogContract):
    @pytest.fixture
    def log(self) -> Iterator[EventLog]:
        with MemoryEventLog() as log:
            yield log


class TestFileSystemEventLog(EventLogContract):
    @pytest.fixture(params=["always", "everysec", "no"])
    def log(self, request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[EventLog]:
        with FileSystemEventLog(tmp_path / "logs", fsync=request.param) as log:
            yield log


class TestFileSystemEventLogWithOneDescriptor(EventLogContract):
    @pytest.fixture
    def log(self, tmp_path: Path) -> Iterator[EventLog]:
        with FileSystemEventLog(tmp_path / "logs", fsync="no", open_files=1) as log:
            yield log
