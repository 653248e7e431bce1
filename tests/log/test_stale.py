"""An engine that has not looked since another one wrote: what it answers holds for the log as it is now."""

from collections.abc import Callable, Iterator
from contextlib import ExitStack
from pathlib import Path

import pytest

from eventstore import EventLog, FileSystemEventLog
from eventstore.backends.memory import MemoryBackend
from eventstore.errors import IdReused, SessionNotFound, VersionConflict
from eventstore.events import SessionCreated
from eventstore.log.base import Append, Appended
from eventstore.log.contract.sample import said


class Pair:
    """Two engines on one store. The first has seen session `s` with a key `k` at version 2."""

    def __init__(self, first: EventLog, other: EventLog) -> None:
        self.log, self.other = first, other
        first.append("s", [SessionCreated()], expected_version=0)
        first.append("s", [said("a", "k")])

    def replace(self) -> None:
        """Let the other engine delete the session and create one of that id, with one event."""
        self.other.remove("s")
        self.other.append("s", [SessionCreated()], expected_version=0)


@pytest.fixture(params=["memory", "filesystem"])
def pair(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[Pair]:
    with ExitStack() as opened:
        backend = MemoryBackend()
        both = [
            opened.enter_context(
                EventLog(backend) if request.param == "memory" else FileSystemEventLog(tmp_path, fsync="no")
            )
            for _ in range(2)
        ]
        yield Pair(*both)


Write = Callable[[EventLog, str | None, int], Appended]


def append_many(log: EventLog, key: str | None, version: int) -> Appended:
    (outcome,) = log.append_many([Append("s", [said("b", key)], expected_version=version)]).outcomes
    assert outcome is not None
    if isinstance(outcome, BaseException):
        raise outcome
    return outcome


WRITES: dict[str, Write] = {
    "append": lambda log, key, version: log.append("s", [said("b", key)], expected_version=version),
    "append many": append_many,
    "extend": lambda log, key, version: log.extend("s", [[said("b", key)]], expected_version=version),
}
each_write = pytest.mark.parametrize("write", WRITES.values(), ids=WRITES)


@each_write
def test_the_version_that_another_engine_wrote_is_accepted(pair: Pair, write: Write) -> None:
    for version in (3, 5):
        pair.other.append("s", [said("c")])
        assert write(pair.log, None, version) == Appended(version + 1, version + 1)


@each_write
def test_a_version_that_another_engine_moved_on_from_is_refused_with_the_one_there_is_now(
    pair: Pair, write: Write
) -> None:
    pair.other.append("s", [said("c")])
    for version in (0, 1, 2, 4):
        with pytest.raises(VersionConflict) as caught:
            write(pair.log, None, version)
        assert caught.value.actual == 3


@each_write
def test_the_version_of_a_session_that_replaced_another_is_accepted(pair: Pair, write: Write) -> None:
    pair.replace()
    assert write(pair.log, None, 1) == Appended(2, 2)


@each_write
def test_a_key_of_a_session_that_was_replaced_is_new_again(pair: Pair, write: Write) -> None:
    pair.replace()
    assert write(pair.log, "k", 1) == Appended(2, 2)


@each_write
def test_a_key_of_a_session_that_was_deleted_is_not_reported_as_written(pair: Pair, write: Write) -> None:
    pair.other.remove("s")
    with pytest.raises(SessionNotFound):
        write(pair.log, "k", 2)


def test_a_session_that_another_engine_deleted_can_be_created_at_once(pair: Pair) -> None:
    pair.other.remove("s")
    assert pair.log.append("s", [SessionCreated()], expected_version=0) == Appended(1, 1)


def test_keys_that_mix_only_in_a_session_that_was_deleted_are_no_mix(pair: Pair) -> None:
    pair.replace()
    assert pair.log.append("s", [said("a", "k"), said("b", "new")]) == Appended(2, 3)
    with pytest.raises(IdReused):
        pair.other.append("s", [said("a", "k"), said("c", "newer")])
    assert pair.other.append("s", [said("a", "k"), said("b", "new")]) == Appended(2, 3, repeated=True)


def test_each_of_several_appends_has_the_answer_that_the_log_gives_now(pair: Pair) -> None:
    pair.replace()
    wanted = [
        Append("s", [said("a", "k")]),
        Append("s", [said("b")], expected_version=2),
        Append("s", [said("c")], expected_version=2),
    ]
    first, second, third = pair.log.append_many(wanted).outcomes
    assert (first, second) == (Appended(2, 2), Appended(3, 3))
    assert isinstance(third, VersionConflict)
    assert third.actual == 3
