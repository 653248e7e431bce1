"""Appends of several callers that are written together: what each hears if the write fails in the middle or repairs the log."""

import errno
import os
from pathlib import Path

import pytest
from log.faulty import Fault, FaultyBackend

from eventstore import AppendRefused, FileSystemEventLog, OutcomeUnknown
from eventstore.backends.memory import MemoryBackend
from eventstore.events import SessionCreated
from eventstore.log.base import Append, Appended
from eventstore.log.contract.sample import said
from eventstore.log.engine import EventLog
from eventstore.log.port import Refused


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


def test_a_caller_whose_append_is_there_is_not_refused_because_those_behind_it_are(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The disk is full in the second of three lines and stays so, and the first line cannot be cut back."""
    write, is_full = os.write, False

    def writing(descriptor: int, data: bytes) -> int:
        nonlocal is_full
        if is_full:
            raise OSError(errno.ENOSPC, "no space left")
        if data.count(b"\n") < 3:
            return write(descriptor, data)
        is_full = True
        return write(descriptor, data[: data.index(b"\n") + 20])

    def truncating(descriptor: int, size: int) -> None:
        raise OSError(errno.EIO, "input/output error")

    with FileSystemEventLog(tmp_path) as log:
        log.append("s", [SessionCreated()], expected_version=0)
        with monkeypatch.context() as patched:
            patched.setattr(os, "write", writing)
            patched.setattr(os, "ftruncate", truncating)
            first, second, third = log.append_many([Append("s", [said(text)]) for text in "abc"]).outcomes
        assert isinstance(first, OutcomeUnknown)
        assert isinstance(second, AppendRefused)
        assert isinstance(third, AppendRefused)
        assert [getattr(event, "content", None) for event in log.read("s", 1)] == ["a"]


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
