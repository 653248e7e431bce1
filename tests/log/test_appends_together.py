"""Appends of several callers that are written together: what each hears if the write fails in the middle or repairs the log."""

import errno
import os
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import pytest
from log.faulty import Fault, FaultyBackend

from eventstore import AppendRefused, FileSystemEventLog, OutcomeUnknown
from eventstore.backends.files.backend import FilesBackend
from eventstore.backends.memory import MemoryBackend
from eventstore.events import SessionCreated
from eventstore.log.base import Append, Appended, Head
from eventstore.log.contract.sample import said
from eventstore.log.engine import EventLog
from eventstore.log.port import Reading, Refused, Tip


def test_a_repeat_in_the_write_that_repairs_a_log_says_where_the_first_one_is(tmp_path: Path) -> None:
    """It named the event that records the repair."""
    with FileSystemEventLog(tmp_path) as log:
        log.append("s", [SessionCreated()], expected_version=0)
        with (tmp_path / "s" / "events.jsonl").open("ab") as file:
            file.write(b'{"type":')
        written = log.append_many([Append("s", [said("a", "key")]) for _ in range(3)])
        written.flush()
        assert written.outcomes == [Appended(3, 3), Appended(3, 3, repeated=True), Appended(3, 3, repeated=True)]
        assert log.append("s", [said("a", "key")]) == Appended(3, 3, repeated=True)


class FullDisk:
    """The disk is full in the second of three lines that are written together, and stays so. `during` is called meanwhile."""

    def __init__(self, patch: pytest.MonkeyPatch, during: Callable[[], object] = lambda: None) -> None:
        self.is_full, self._write, self._during = False, os.write, during
        patch.setattr(os, "write", self.write)

    def write(self, descriptor: int, data: bytes) -> int:
        if self.is_full:
            self._during()
            raise OSError(errno.ENOSPC, "no space left")
        if data.count(b"\n") < 3:
            return self._write(descriptor, data)
        self.is_full = True
        return self._write(descriptor, data[: data.index(b"\n") + 20])


@pytest.mark.parametrize("is_cut", [True, False])
def test_of_appends_of_which_only_some_have_space_each_hears_of_its_own(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, is_cut: bool
) -> None:
    """All were refused, though the first one was there where the file could not be cut back."""

    def truncating(descriptor: int, size: int) -> None:
        raise OSError(errno.EIO, "input/output error")

    with FileSystemEventLog(tmp_path) as log:
        log.append("s", [SessionCreated()], expected_version=0)
        with monkeypatch.context() as patched:
            FullDisk(patched)
            if not is_cut:
                patched.setattr(os, "ftruncate", truncating)
            written = log.append_many([Append("s", [said(text)]) for text in "abc"])
            written.flush()
        first, second, third = written.outcomes
        assert first == Appended(2, 2)
        assert isinstance(second, AppendRefused)
        assert isinstance(third, AppendRefused)
        assert [getattr(event, "content", None) for event in log.read("s", 1)] == ["a"]
        assert log.append("s", [said("d")]).last == (3 if is_cut else 4)


def test_what_is_there_of_several_appends_but_cannot_be_read_again_is_unclear(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    read = FilesBackend.read

    def refusing(backend: FilesBackend, log: str, after: Tip | int = 0, upto: int | None = None) -> Reading:
        if disk.is_full and isinstance(after, Tip) and upto is None:
            raise Refused("the disk", errno.EIO, "read")
        return read(backend, log, after, upto)

    with FileSystemEventLog(tmp_path) as log:
        log.append("s", [SessionCreated()], expected_version=0)
        with monkeypatch.context() as patched:
            disk = FullDisk(patched)
            patched.setattr(FilesBackend, "read", refusing)
            first, second, third = log.append_many([Append("s", [said(text)]) for text in "abc"]).outcomes
        assert isinstance(first, OutcomeUnknown)
        assert isinstance(second, AppendRefused)
        assert isinstance(third, AppendRefused)


def test_what_a_reader_has_seen_of_a_write_that_fails_stays(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """It was cut back: who followed the log had delivered an event that was not there, and ended with LogRolledBack."""
    seen = list[Head]()
    with FileSystemEventLog(tmp_path) as log, FileSystemEventLog(tmp_path) as other:
        log.append("s", [SessionCreated()], expected_version=0)
        with monkeypatch.context() as patched:
            FullDisk(patched, lambda: seen.append(other.head("s")))
            log.append_many([Append("s", [said(text)]) for text in "abc"])
        assert seen[0].version == 2
        assert other.resume("s", seen[0]) == (b"", seen[0])


def test_a_write_whose_answer_was_lost_is_not_called_refused_because_its_repetition_was() -> None:
    """It may arrive later."""

    class Late(FaultyBackend):
        """The answer to the first write is lost; its repetition is refused."""

        def append(self, *args: object, **named: object) -> str:
            if self.fired:
                raise Refused("memory", errno.ECONNREFUSED, "refused")
            return super().append(*args, **named)  # type: ignore[arg-type]

    backend = Late(MemoryBackend())
    log = EventLog(backend)
    log.append("s", [SessionCreated()], expected_version=0)
    backend.arm(1, Fault.UNCLEAR)
    with pytest.raises(OutcomeUnknown):
        log.append("s", [said("a")])
    assert backend.fired == 1


_INTERRUPTED = """
import os, random, signal, sys, threading
from eventstore import FileSystemEventLog
from eventstore.events import DataSet, SessionCreated

chance, is_armed, log = random.Random(1), False, FileSystemEventLog(sys.argv[1], fsync="no")
log.append("s", [SessionCreated()], expected_version=0)


def interrupt(*_):
    if is_armed:
        raise KeyboardInterrupt


signal.signal(signal.SIGALRM, interrupt)
for _ in range(500):
    is_armed = True
    try:
        signal.setitimer(signal.ITIMER_REAL, chance.random() * 1e-3 + 1e-6)
        for _ in range(30):
            log.append("s", [DataSet(key="k", value=1)])
    except KeyboardInterrupt:
        pass
    is_armed = False
    thread = threading.Thread(target=lambda: log.append("s", [DataSet(key="k", value=2)]), daemon=True)
    thread.start()
    thread.join(20)
    if thread.is_alive():
        os._exit(3)
"""


def test_a_ctrl_c_anywhere_in_an_append_leaves_the_session_to_other_threads(tmp_path: Path) -> None:
    """A lock that was taken without waiting stayed taken: that session hung."""
    done = subprocess.run([sys.executable, "-c", _INTERRUPTED, str(tmp_path / "logs")], timeout=60, check=False)
    assert done.returncode == 0
