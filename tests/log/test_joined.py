"""Appends to many sessions in one step: each has its own outcome, whatever happens to the step."""

from collections.abc import Iterator
from itertools import count
from pathlib import Path

import pytest
from interrupting import ends, interrupted_at
from log.faulty import Fault, FaultyBackend, JoiningMemory

from eventstore import FileSystemEventLog
from eventstore.errors import OutcomeUnknown, VersionConflict
from eventstore.events import MessageAdded, SessionCreated
from eventstore.log.base import Append, Appended
from eventstore.log.contract import EventLogContract, said
from eventstore.log.engine import EventLog

NAMES = [f"s{number}" for number in range(5)]


class TestJoiningLog(EventLogContract):
    @pytest.fixture
    def log(self) -> Iterator[EventLog]:
        with EventLog(JoiningMemory()) as log:
            yield log


@pytest.fixture
def backend() -> FaultyBackend:
    return FaultyBackend(JoiningMemory())


@pytest.fixture
def log(backend: FaultyBackend) -> EventLog:
    log = EventLog(backend)
    for name in NAMES:
        log.append(name, [SessionCreated()], expected_version=0)
        log.append(name, [said("one", "k")])
    backend.arm()
    return log


def texts(log: EventLog, name: str) -> list[str]:
    return [event.content for event in EventLog(log.backend).read(name) if isinstance(event, MessageAdded)]


def test_many_sessions_are_one_call_and_what_must_wait_is_left(log: EventLog, backend: FaultyBackend) -> None:
    appends = [
        *(Append(name, [said("two")]) for name in NAMES),
        Append("s0", [said("three", "new"), said("four")]),
        Append("new", [SessionCreated()], expected_version=0),
        Append("s1", [said("one", "k")]),
        Append("s2", [said("stale")], expected_version=2),
    ]
    written = log.append_joined(appends)
    assert backend.methods == ["append_many"]
    assert written.outcomes[:6] == [*([Appended(3, 3)] * 5), Appended(4, 5)]
    assert (written.outcomes[6], written.outcomes[7]) == (None, Appended(2, 2, repeated=True))
    assert isinstance(written.outcomes[8], VersionConflict)
    written.complete()
    assert written.outcomes[6] == Appended(1, 1)
    assert texts(log, "s0") == ["one", "two", "three", "four"]


def test_a_log_that_another_program_changed_is_left_and_the_others_are_written(
    log: EventLog, backend: FaultyBackend
) -> None:
    other = EventLog(backend.inner)
    other.append("s1", [said("theirs")])
    other.remove("s2")
    other.append("s2", [SessionCreated(), said("again")], expected_version=0)
    written = log.append_joined([Append(name, [said("two")]) for name in NAMES])
    assert [place for places, _ in written.left for place in places] == [1, 2]
    written.complete()
    assert written.outcomes == [Appended(3, 3), Appended(4, 4), *([Appended(3, 3)] * 3)]
    assert (texts(log, "s1"), texts(log, "s2")) == (["one", "theirs", "two"], ["again", "two"])


def test_more_sessions_than_one_step_takes_are_several_steps(log: EventLog, backend: FaultyBackend) -> None:
    names = [f"more{number}" for number in range(150)]
    log.append_many([Append(name, [SessionCreated()], expected_version=0) for name in names])
    backend.arm()
    written = log.append_many([Append(name, [said("two")]) for name in names])
    assert written.outcomes == [Appended(2, 2)] * 150
    assert backend.methods == ["append_many"] * 3


@pytest.mark.parametrize("fault", [Fault.REFUSED, Fault.UNCLEAR, Fault.LOST, Fault.AGAIN, Fault.LATE, Fault.NOT_STORED])
@pytest.mark.parametrize("key", [None, "new"])
def test_each_append_is_there_once_whatever_happens_to_the_step(
    log: EventLog, backend: FaultyBackend, fault: Fault, key: str | None
) -> None:
    backend.arm(1, fault)
    written = log.append_many([Append(name, [said("two", key), said("three")]) for name in NAMES])
    backend.settle()
    assert backend.fired == 1
    if fault is Fault.NOT_STORED:
        assert all(isinstance(one, OutcomeUnknown) for one in written.outcomes)
    else:
        assert [isinstance(one, Appended) and one.first == 3 for one in written.outcomes] == [True] * 5
    for name in NAMES:
        assert texts(log, name) == ["one", "two", "three"]
        assert log.append(name, [said("four")]) == Appended(5, 5)


def test_a_lost_answer_is_settled_where_another_program_appends_first(log: EventLog, backend: FaultyBackend) -> None:
    for fault in (Fault.LOST, Fault.UNCLEAR):
        before = texts(log, "s0")
        backend.arm(1, fault)
        written = log.append_joined([Append(name, [said(str(fault))]) for name in NAMES])
        assert written.outcomes == [None] * 5
        EventLog(backend.inner).append("s0", [said("theirs")])
        written.complete()
        assert all(isinstance(one, Appended) for one in written.outcomes)
        mine = [str(fault), "theirs"] if fault is Fault.LOST else ["theirs", str(fault)]
        assert texts(log, "s0") == [*before, *mine]


def test_an_append_whose_answer_was_lost_and_whose_log_was_deleted_is_unknown(
    log: EventLog, backend: FaultyBackend
) -> None:
    backend.arm(1, Fault.LOST)
    written = log.append_joined([Append(name, [said("two")]) for name in NAMES])
    EventLog(backend.inner).remove("s0")
    written.complete()
    assert isinstance(written.outcomes[0], OutcomeUnknown)
    assert all(isinstance(one, Appended) for one in written.outcomes[1:])


def test_a_ctrl_c_anywhere_in_a_step_leaves_all_its_sessions_to_other_threads(log: EventLog, tmp_path: Path) -> None:
    """The sessions whose locks were just taken, or not released yet, hung."""
    files = FileSystemEventLog(tmp_path, fsync="no")
    files.append(NAMES[0], [SessionCreated()], expected_version=0)
    works = [
        (log, NAMES, lambda: log.append_joined([Append(name, [said("mine")]) for name in NAMES])),
        (files, NAMES[:1], lambda: files.append_at_once(NAMES[0], [Append(NAMES[0], [said("mine")])])),
    ]
    for used, names, work in works:
        for number in count(1):
            if not interrupted_at(number, ("log/joined.py", "log/writer.py"), work):
                break
            assert ends(lambda: [used.append(name, [said("other")]) for name in names]), number  # noqa: B023 - used at once
        assert number > 10
