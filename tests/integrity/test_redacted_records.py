"""A redaction of records or data, completely or inside: every other entry keeps its value, its order and its place."""

from collections.abc import Callable
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st
from msgspec.structs import replace
from record_histories import PUTS, REMOVALS, TOKEN

from eventstore import MemorySessionStorage, SessionManager
from eventstore.errors import RedactionRefused
from eventstore.events import Event, InvocationStarted, RecordPut, RecordRemoved
from eventstore.integrity import redaction, verify_session

Streams = dict[str, list[tuple[str | None, Any, int, int]]]


def streams(manager: SessionManager, session_id: str = "s") -> Streams:
    return {
        name: [(one.key, one.value, one.first, one.seq) for one in manager.records.list(session_id, name)]
        for name in manager.records.streams(session_id)
    }


def values(manager: SessionManager, session_id: str = "s") -> dict[str, list[tuple[str | None, Any]]]:
    return {name: [one[:2] for one in entries] for name, entries in streams(manager, session_id).items()}


def test_a_replaced_value_that_is_redacted_leaves_the_later_one_in_its_place(manager: SessionManager) -> None:
    manager.create_session("s")
    manager.append("s", [RecordPut(stream="q", key=key, value=value) for key, value in ("b1", "c1", "b2")])
    manager.redactions.redact("s", [2], "asked to")
    assert [one[:3] for one in streams(manager)["q"]] == [("b", "2", 2), ("c", "1", 3)]
    manager.append("s", [RecordPut(stream="q", key="b", value="3")])
    assert [one[:3] for one in streams(manager)["q"]] == [("b", "3", 2), ("c", "1", 3)]
    assert not verify_session(manager.storage, "s").findings


def test_what_was_taken_from_the_end_of_a_list_can_be_redacted_and_the_rest_stays(manager: SessionManager) -> None:
    manager.create_session("s")
    manager.append("s", [RecordPut(stream="q", value=value) for value in ("a", "b")])
    manager.append("s", [RecordRemoved(stream="q", last=True)])
    manager.redactions.redact("s", [3], "asked to")
    assert values(manager) == {"q": [(None, "a")]}


@pytest.mark.parametrize("removal", [{"key": "b"}, {"last": True}, {}])
def test_a_removal_that_is_redacted_brings_nothing_back(manager: SessionManager, removal: dict[str, Any]) -> None:
    manager.create_session("s")
    manager.append("s", [RecordPut(stream="q", key="a", value=1), RecordPut(stream="q", key="b", value=2)])
    manager.append("s", [RecordRemoved(stream="q", **removal)])
    before = values(manager)
    manager.redactions.redact("s", [4], "asked to")
    assert values(manager) == before


def test_what_a_redacted_value_replaced_does_not_come_back(manager: SessionManager) -> None:
    manager.create_session("s")
    manager.append("s", [RecordPut(stream="q", key="b", value=value) for value in (1, 2)])
    manager.redactions.redact("s", [3], "asked to")
    assert values(manager) == {}


def test_data_that_was_replaced_or_deleted_does_not_come_back(manager: SessionManager) -> None:
    manager.create_session("s")
    for key, value in (("a", 1), ("a", 2), ("b", 1), ("key of ana", 1), ("same", 1), ("same", 1)):
        manager.set_data("s", key, value)
    manager.delete_data("s", "key of ana")
    assert [event.type for event in manager.events("s")][1:] == ["data.set"] * 6 + ["data.deleted"]
    manager.fork_session("s", new_id="f")
    manager.redactions.redact("s", [3, 7, 8], "asked to")
    for session_id in ("s", "f"):
        assert manager.data(session_id) == {"b": 1, "same": 1}
        assert not verify_session(manager.storage, session_id).findings
    manager.redactions.redact("s", [5], "asked to")
    for session_id in ("s", "f"):
        assert manager.data(session_id) == {"b": 1, "same": 1}
        assert not any(b"of ana" in line for line in manager.storage.log.lines(session_id))


def test_the_copy_of_a_value_is_redacted_with_it_and_the_value_with_its_copy(manager: SessionManager) -> None:
    for session_id, shows in (("s", 4), ("t", 5)):
        manager.create_session(session_id)
        puts = [
            RecordPut(stream="q", key=key, value=value)
            for key, value in (("key of ana", 1), ("c", 1), ("key of ana", "name"))
        ]
        manager.append(session_id, puts)
        manager.fork_session(session_id, new_id=f"{session_id}-fork")
        manager.redactions.redact(session_id, [2], "moves the value")
        for one in (session_id, f"{session_id}-fork"):
            assert values(manager, one) == {"q": [("key of ana", "name"), ("c", 1)]}
        number = next(item.seq for item in manager.records.list(session_id, "q"))
        manager.redactions.redact(session_id, [number if shows == 5 else 4], "asked to")
        for one in (session_id, f"{session_id}-fork"):
            assert values(manager, one) == {"q": [("c", 1)]}
            assert not any(
                b"of ana" in line for line in manager.storage.log.lines(one)
            )  # nor as the key that is removed
            assert not verify_session(manager.storage, one).findings


@pytest.mark.parametrize("inside", [True, False])
@pytest.mark.parametrize("parent", ["a", "z"])
def test_a_plan_keeps_no_secret_of_a_fork_that_it_removes_next(
    manager: SessionManager, inside: bool, parent: str
) -> None:
    manager.create_session(parent)
    item = RecordPut(stream="list", value=TOKEN)
    manager.append(parent, [item, RecordPut(stream="q", key="b", value=f"theirs {TOKEN}")])
    manager.fork_session(parent, new_id="f")
    manager.append("f", [item, RecordRemoved(stream="list", last=True)])
    manager.append("f", [RecordPut(stream="q", key="b", value=f"mine {TOKEN}")])
    manager.redactions.carry_out(manager.redactions.plan(), "asked to", inside=inside)
    assert manager.redactions.plan() == []
    for session_id, whose in ((parent, "theirs"), ("f", "mine")):
        assert not any(TOKEN.encode() in line for line in manager.storage.log.lines(session_id))
        mark = "[redacted:github-token]"
        expected = {"list": [(None, mark)], "q": [("b", f"{whose} {mark}")]} if inside else {}
        assert values(manager, session_id) == expected


def test_a_refused_redaction_appends_nothing_also_not_to_a_fork(manager: SessionManager) -> None:
    manager.create_session("s")
    manager.append("s", [RecordPut(stream="q", key="b", value=value) for value in (1, 2)])
    manager.fork_session("s", new_id="f")
    manager.redactions.redact("s", [2], "moves the value in both")
    heads = [manager.head(one) for one in ("s", "f")]
    for refused in (99, heads[0].version):
        with pytest.raises(RedactionRefused):
            manager.redactions.redact("s", [3, refused], "asked to")
    assert [manager.head(one) for one in ("s", "f")] == heads


Act = Callable[[SessionManager], object]
WAYS: dict[str, Act] = {
    "by number": lambda manager: manager.redactions.redact("s", [2], "asked to"),
    "inside": lambda manager: manager.redactions.carry_out(manager.redactions.plan(), "asked to", inside=True),
}


@pytest.mark.parametrize("way", WAYS)
def test_a_value_that_is_put_while_others_are_kept_is_not_replaced_by_an_older_one(
    manager: SessionManager, monkeypatch: pytest.MonkeyPatch, way: str
) -> None:
    """Another writer appends between the reading of the streams and the append of what keeps them."""
    manager.create_session("s")
    for value in (TOKEN, "old"):
        manager.append("s", [RecordPut(stream="q", key="b", value=value)])
    log, pending = type(manager.storage.log), ["new"]
    real = log.append

    def append(self: Any, session_id: str, events: Any, **options: Any) -> Any:
        if session_id == "s" and pending:
            real(self, "s", [RecordPut(stream="q", key="b", value=pending.pop())])
        return real(self, session_id, events, **options)

    monkeypatch.setattr(log, "append", append)
    WAYS[way](manager)
    assert [one[:3] for one in streams(manager)["q"]] == [("b", "new", 2)]
    assert not pending


def test_a_redaction_that_stopped_half_way_can_be_finished_with_more_events(
    manager: SessionManager, monkeypatch: pytest.MonkeyPatch
) -> None:
    """What it had appended already is not appended again, and does not keep the rest from being appended."""
    manager.create_session("s")
    manager.append("s", [InvocationStarted(invocation_id="1", tool_name="t", input={"a": TOKEN})])
    with monkeypatch.context() as broken:
        broken.setattr(redaction, "Redaction", None)
        with pytest.raises(TypeError):
            WAYS["inside"](manager)
    manager.append("s", [InvocationStarted(invocation_id="2", tool_name="t", input={"a": TOKEN})])
    WAYS["inside"](manager)
    assert manager.redactions.plan() == []
    kept = [one for one in manager.events("s") if isinstance(one, InvocationStarted)]
    assert [(one.invocation_id, one.input) for one in kept] == [(n, {"a": "[redacted:github-token]"}) for n in "12"]


HISTORIES = st.lists(PUTS | PUTS | REMOVALS, min_size=1, max_size=10)


@given(HISTORIES, st.sets(st.integers(2, 14), min_size=1, max_size=4), st.booleans(), HISTORIES, st.integers(2, 25))
def test_a_redaction_takes_away_only_what_it_names(
    history: list[Event], numbers: set[int], is_whole: bool, later: list[Event], number: int
) -> None:
    """In a session and in its fork: by number, or inside with all that is found; and once more after more was appended."""
    manager = SessionManager(MemorySessionStorage())
    manager.create_session("s")
    for place, event in enumerate(history):
        manager.append("s", [told_apart(event, place)])
    manager.fork_session("s", new_id="f")
    if is_whole:
        redact_and_check(manager, numbers)
    else:
        before = streams(manager)
        WAYS["inside"](manager)
        cleaned = (
            [(key, str(value).replace(TOKEN, "[redacted:github-token]"), first) for key, value, first, _ in before["q"]]
            if before
            else []
        )
        assert [one[:3] for one in streams(manager).get("q", [])] == cleaned
    for place, event in enumerate(later, 100):
        manager.append("s", [told_apart(event, place)])
        manager.append("f", [told_apart(event, 2 * place)])
    redact_and_check(manager, {number})


def told_apart(event: Event, place: int) -> Event:
    """Return an event whose value no other one has."""
    return replace(event, value=f"{place} {event.value}") if isinstance(event, RecordPut) else event


def redact_and_check(manager: SessionManager, numbers: set[int]) -> None:
    """Redact events of a session, and compare it and its fork with what they had before, without the values of these events."""
    named = {event.seq: event for event in manager.events("s") if event.seq in numbers}
    named = {seq: event for seq, event in named.items() if isinstance(event, RecordPut | RecordRemoved)}
    if not named:
        return
    gone = {event.value for event in named.values() if isinstance(event, RecordPut)}
    both = {session_id: streams(manager, session_id) for session_id in ("s", "f")}
    manager.redactions.redact("s", sorted(named), "asked to")
    for session_id, before in both.items():
        expected = [one[:3] for one in before.get("q", []) if one[1] not in gone]
        assert [one[:3] for one in streams(manager, session_id).get("q", [])] == expected
        assert not verify_session(manager.storage, session_id).findings
