"""What one engine knows of a log is old as soon as another engine has written: it refuses and repeats nothing by it."""

import pytest

from eventstore.backends.memory import MemoryBackend
from eventstore.errors import IdReused, VersionConflict
from eventstore.events import MessageAdded, SessionCreated
from eventstore.log.engine import EventLog


@pytest.fixture
def engines() -> tuple[EventLog, EventLog]:
    backend = MemoryBackend()
    return EventLog(backend), EventLog(backend)


def said(text: str, key: str | None = None) -> MessageAdded:
    return MessageAdded(role="user", content=text, id=key)


def test_a_version_that_another_wrote_is_accepted_at_once(engines: tuple[EventLog, EventLog]) -> None:
    mine, other = engines
    mine.append("s", [SessionCreated()], expected_version=0)
    other.append("s", [said("one")])
    assert mine.append("s", [said("two")], expected_version=2).last == 3


def test_a_version_of_a_log_made_anew_is_judged_by_that_log(engines: tuple[EventLog, EventLog]) -> None:
    mine, other = engines
    mine.append("s", [SessionCreated()], expected_version=0)
    mine.append("s", [said("one")])
    other.remove("s")
    assert mine.append("s", [SessionCreated()], expected_version=0).last == 1
    other.remove("s")
    other.append("s", [SessionCreated()], expected_version=0)
    with pytest.raises(VersionConflict) as conflict:
        mine.append("s", [said("x")], expected_version=7)
    assert conflict.value.actual == 1


def test_a_key_of_a_deleted_log_is_not_known_in_the_one_made_anew(engines: tuple[EventLog, EventLog]) -> None:
    mine, other = engines
    mine.append("s", [SessionCreated()], expected_version=0)
    mine.append("s", [said("one", "key")])
    other.trash("s")
    other.append("s", [SessionCreated()], expected_version=0)
    done = mine.append("s", [said("again", "key")])
    assert (done.first, done.repeated) == (2, False)
    assert [event.seq for event in other.read("s")] == [1, 2]


def test_several_batches_are_refused_only_by_keys_that_are_there(engines: tuple[EventLog, EventLog]) -> None:
    mine, other = engines
    mine.append("s", [SessionCreated()], expected_version=0)
    mine.append("s", [said("one", "key")])
    other.remove("s")
    other.append("s", [SessionCreated()], expected_version=0)
    assert mine.extend("s", [[said("x", "key")]], expected_version=1).last == 2
    with pytest.raises(IdReused):
        other.extend("s", [[said("x", "key")]], expected_version=2)
