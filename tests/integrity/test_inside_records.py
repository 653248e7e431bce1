"""A redaction inside of records: every stream keeps its entries, their order and their places."""

from typing import Any

from hypothesis import given
from hypothesis import strategies as st
from record_histories import PUTS, REMOVALS, TOKEN

from eventstore import MemorySessionStorage, Patterns, SessionManager
from eventstore.events import Event, RecordPut, RecordRemoved
from eventstore.integrity import verify_session

MARK = "[redacted:github-token]"


def streams(manager: SessionManager) -> dict[str, list[tuple[str | None, Any, int]]]:
    return {
        name: [(one.key, one.value, one.first) for one in manager.records.list("s", name)]
        for name in manager.records.streams("s")
    }


def redact(manager: SessionManager) -> None:
    manager.redactions.carry_out(manager.redactions.plan(Patterns()), "asked to", inside=True)
    assert manager.redactions.plan(Patterns()) == []
    assert not verify_session(manager.storage, "s").findings


def test_an_item_stays_where_it_was_in_its_list(manager: SessionManager) -> None:
    manager.create_session("s")
    put = [RecordPut(stream="items", value=one) for one in ("a", f"b {TOKEN}", "c")]
    first = manager.append("s", put).first
    redact(manager)
    assert streams(manager) == {"items": [(None, "a", first), (None, f"b {MARK}", first + 1), (None, "c", first + 2)]}
    manager.append("s", [RecordRemoved(stream="items", item=first + 1)])
    assert [value for _, value, _ in streams(manager)["items"]] == ["a", "c"]


def test_a_value_that_was_replaced_or_removed_since_does_not_come_back(manager: SessionManager) -> None:
    manager.create_session("s")
    given_events = [
        RecordPut(stream="state", key="a", value=TOKEN),
        RecordPut(stream="state", key="b", value=TOKEN),
        RecordPut(stream="state", key="c", value=1),
        RecordPut(stream="state", key="a", value=2),
        RecordRemoved(stream="state", key="b"),
        RecordPut(stream="popped", value="stays"),
        RecordPut(stream="popped", value=TOKEN),
        RecordRemoved(stream="popped", last=True),
        RecordPut(stream="once", key="k", value=TOKEN, once=True),
        RecordPut(stream="once", key="k", value="too late", once=True),
    ]
    manager.append("s", given_events)
    before = streams(manager)
    redact(manager)
    assert streams(manager) == {**before, "once": [("k", MARK, before["once"][0][2])]}


def test_a_large_value_is_cleaned_and_stays_in_its_place(manager: SessionManager) -> None:
    manager.create_session("s")
    large = [f"{TOKEN} {'x' * 300_000}", {"b": 1}]
    manager.append("s", [RecordPut(stream="items", value=one) for one in large])
    redact(manager)
    assert [value for _, value, _ in streams(manager)["items"]] == [large[0].replace(TOKEN, MARK), {"b": 1}]  # type: ignore[attr-defined]


@given(st.lists(PUTS | PUTS | REMOVALS, min_size=1, max_size=12), st.lists(PUTS | REMOVALS, max_size=4))
def test_any_history_of_a_stream_has_the_same_entries_without_the_secrets(
    history: list[Event], later: list[Event]
) -> None:
    """Also after a second redaction, and with what is appended between the two."""
    manager = SessionManager(MemorySessionStorage())
    manager.create_session("s")
    for events in (history, later):
        for event in events:
            manager.append("s", [event])
        expected = {
            name: [(key, str(value).replace(TOKEN, MARK), first) for key, value, first in entries]
            for name, entries in streams(manager).items()
        }
        redact(manager)
        assert streams(manager) == expected
