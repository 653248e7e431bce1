"""The contract of a log, on every backend that is built in."""

from collections.abc import Iterator
from pathlib import Path

import pytest

from eventstore import EventLog, FileSystemEventLog, MemoryEventLog
from eventstore.events import SessionCreated
from eventstore.log.base import Appended
from eventstore.log.contract import EventLogContract
from eventstore.log.contract.sample import said


def test_a_key_of_a_redacted_batch_is_known_to_who_reads_the_log_anew(log: EventLog) -> None:
    log.append("s", [SessionCreated()], expected_version=0)
    log.append("s", [said("a", "1"), said("b", "2")])
    log.redact("s", [2], "a secret")
    again = EventLog(log._port._backend)
    assert again.append("s", [said("a", "1"), said("b", "2")]) == Appended(2, 3, repeated=True)


def test_a_small_intact_log_is_read_at_once_and_any_other_as_chunks(tmp_path: Path) -> None:
    with FileSystemEventLog(tmp_path, fsync="no") as log:
        for name in ("plain", "long", "redacted", "damaged", "torn", "unended"):
            log.append(name, [SessionCreated()], expected_version=0)
            log.append(name, [said("a"), said("b")])
        log.append("long", [said("x" * 70_000)])
        log.fork("fork", "plain", 3, SessionCreated())
        log.redact("redacted", [2], "a secret")
        for name, old, new in (("damaged", b'"a"', b'"c"'), ("torn", b"", b'{"type":'), ("unended", b"\n", b"")):
            path = tmp_path / name / "events.jsonl"
            head, _, tail = path.read_bytes().rpartition(old) if old else (path.read_bytes(), b"", b"")
            path.write_bytes(head + new + tail)
    with FileSystemEventLog(tmp_path, fsync="no") as log:
        assert log.small("plain") == b"".join(log.chunks("plain"))
        others = ("long", "redacted", "damaged", "torn", "unended", "fork", "missing")
        assert [log.small(name) for name in others] == [None] * 7
        log.make_whole("fork")
        assert log.small("fork") is None


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
