"""Compaction of a log on a backend that fails: an error of ours, and a log that is whole."""

from contextlib import suppress

import pytest

from eventstore.errors import EventStoreError
from eventstore.events import DataSet, RedactedEvent
from eventstore.log import EventLog


@pytest.fixture
def filled(log: EventLog) -> EventLog:
    for number in range(5):
        log.append("s", [DataSet(key=f"k{number}", value="x" * 3_000)], expected_version=number)
    return log


def test_compaction_empties_the_events_and_shortens_the_log(filled: EventLog) -> None:
    before = filled.head("s")
    freed = filled.compact("s", [1, 3], "r")
    assert freed > 4_000
    events = list(filled.read("s"))
    assert [isinstance(event, RedactedEvent) for event in events[:5]] == [True, False, True, False, False]
    assert events[4].hash == before.hash
    assert filled.head("s").size_bytes == before.size_bytes - freed
    assert filled.compact("s", [], "r") == 0
    filled.append("s", [DataSet(key="k", value=1)])
    assert filled.head("s").version == 8


def test_a_place_from_before_a_compaction_is_found_again(filled: EventLog) -> None:
    place = filled.head("s")
    filled.compact("s", [1], "r")
    lines, end = filled.resume("s", place)
    assert lines.count(b"\n") == 1
    assert end == filled.head("s")


@pytest.mark.parametrize("call", ["append", "sync", "write_whole", "lock", "read"])
def test_a_backend_that_refuses_gives_an_error_of_ours_and_a_whole_log(
    filled: EventLog, call: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    from eventstore.log.port import Refused

    def refuse(*args: object, **named: object) -> None:
        raise Refused("disk", 28)

    with monkeypatch.context() as patched:
        patched.setattr(filled.backend, call, refuse)
        with suppress(EventStoreError):
            filled.compact("s", [1, 3], "r")
    filled.append("s", [DataSet(key="k", value=1)])
    events = list(filled.read("s"))
    assert [event.seq for event in events] == list(range(1, len(events) + 1))
    filled.compact("s", [], "r")
    assert [event.seq for event in filled.read("s")] == list(range(1, len(events) + 1))
