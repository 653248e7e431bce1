"""The law of every fold, and that no fold changes what it is handed."""

import tracemalloc
from collections.abc import Iterator
from copy import deepcopy
from datetime import UTC, datetime
from typing import Any

import pytest
from histories import HISTORIES
from hypothesis import given
from hypothesis import strategies as st
from msgspec import json
from msgspec.structs import replace

from eventstore import MemoryEventLog
from eventstore import events as e
from projections import (
    audit,
    conversation,
    data,
    facts,
    invocations,
    metadata,
    moments,
    records,
    session,
    statistics,
    summary,
    timeline,
    tree,
)
from projections import store as store_fold
from projections.fold import Fold

PROJECTIONS: dict[str, Fold[Any]] = {
    module.__name__: module.projection
    for module in (
        conversation,
        data,
        facts,
        invocations,
        metadata,
        moments,
        records,
        session,
        statistics,
        store_fold,
        summary,
        timeline,
        tree,
    )
}
every_projection = pytest.mark.parametrize("projection", PROJECTIONS.values(), ids=PROJECTIONS)
AT = "2026-01-01T00:00:00.000000Z"


def numbered(*events: e.Event) -> list[e.Event]:
    return [replace(event, seq=seq, at=AT) for seq, event in enumerate(events, 1)]


@every_projection
@given(history=HISTORIES, cut=st.integers(0, 30))
def test_folding_a_prefix_and_then_the_rest_is_folding_the_whole(
    projection: Fold[Any], history: list[e.Event], cut: int
) -> None:
    prefix = projection.fold(history[:cut])
    assert projection.fold(history[cut:], prefix) == projection.fold(history)


@every_projection
@given(history=HISTORIES, cut=st.integers(0, 30))
def test_a_state_handed_in_is_never_changed(projection: Fold[Any], history: list[e.Event], cut: int) -> None:
    state = projection.fold(history[:cut])
    before = deepcopy(state)
    events = deepcopy(history)
    projection.fold(history[cut:], state)
    assert state == before
    assert history == events


@given(history=HISTORIES, runs=st.lists(st.integers(1, 60), max_size=4))
def test_a_fold_that_skims_gives_what_one_of_every_event_gives(history: list[e.Event], runs: list[int]) -> None:
    """Rows of messages are long enough to be skimmed, in batches and alone, between whatever else happened."""
    with MemoryEventLog() as log:
        log.append("s", [e.SessionCreated()], expected_version=0)
        for place, count in enumerate(runs):
            row = [e.MessageAdded(role="user", content="x" * 200, tool_name="t") for _ in range(count)]
            log.append("s", row) if place % 2 else [log.append("s", [one]) for one in row]
            log.append("s", history[place * 4 : place * 4 + 4] or [e.ReasoningRecorded(content="-")])
        for name in ("conversation", "data", "facts", "invocations", "metadata", "session", "statistics", "summary"):
            projection = PROJECTIONS[f"projections.{name}"]
            assert projection.fold(log.skim("s")) == projection.fold(log.read("s")), name


@given(HISTORIES)
def test_totals_are_those_of_the_calls_and_uses(history: list[e.Event]) -> None:
    """The running totals equal those counted from nothing, as long as nobody adjusted them."""
    events = [event for event in history if not isinstance(event, e.SessionAdjusted)]
    state = metadata.projection.fold(events)
    calls = list(state.calls.values())
    assert state.total_invocations == len(calls)
    assert state.total_duration_ms == sum(call.duration_ms or 0.0 for call in calls)
    assert set(state.tools_used) == {call.tool_name for call in calls} - {None}
    assert (state.token_usage or {}) == _usage_counted_plainly(events)


def _usage_counted_plainly(events: list[e.Event]) -> dict[str, int]:
    uses = [event for event in events if isinstance(event, e.UsageRecorded)]
    most: dict[tuple[str, str], int] = {}
    totals: dict[str, int] = {}
    for use in uses:
        for kind, count in use.tokens.items():
            if use.key is None:
                totals[kind] = totals.get(kind, 0) + count
            else:
                most[use.key, kind] = max(count, most.get((use.key, kind), 0))
    for (_, kind), count in most.items():
        totals[kind] = totals.get(kind, 0) + count
    return totals


@given(HISTORIES)
def test_the_whole_holds_what_its_parts_hold(history: list[e.Event]) -> None:
    whole = session.projection.fold(history)
    assert whole.metadata == metadata.projection.fold(history)
    assert whole.conversation == conversation.projection.fold(history)
    assert whole.data == data.projection.fold(history)
    assert whole.invocations == invocations.projection.fold(history)


@given(HISTORIES)
def test_a_session_comes_back_from_its_dict(history: list[e.Event]) -> None:
    from projections.models import Session

    model = session.projection.fold(history).to_model("s")
    assert Session.from_dict(model.to_dict()) == model


def test_a_session_s_times_are_those_of_what_happened() -> None:
    events = numbered(
        e.SessionCreated(occurred_at="2020-01-01T00:00:00.000000Z"),
        e.MessageAdded(role="user", content="a", occurred_at="2020-01-03T00:00:00.000000Z"),
        e.MessageAdded(role="user", content="b", occurred_at="2020-01-02T00:00:00.000000Z"),
    )
    state = session.projection.fold(events)
    known = state.metadata.to_model("s")
    assert known.created_at == datetime(2020, 1, 1, tzinfo=UTC)
    assert known.updated_at == datetime(2020, 1, 3, tzinfo=UTC)
    assert statistics.to_dict(state.summary, "s")["duration_seconds"] == 2 * 86400


def test_a_rewind_takes_away_what_was_said_after_it() -> None:
    events = numbered(
        e.SessionCreated(),
        e.MessageAdded(role="user", content="a"),
        e.MessageAdded(role="user", content="b"),
        e.ConversationRewound(to=2),
        e.MessageAdded(role="user", content="c"),
    )
    assert [one.content for one in conversation.projection.fold(events).messages] == ["a", "c"]


def test_usage_of_one_key_folds_by_maximum_per_field() -> None:
    events = numbered(
        e.UsageRecorded(tokens={"input": 5, "output": 1}, cost=1.0, key="k"),
        e.UsageRecorded(tokens={"input": 3, "output": 7}, cost=0.5, key="k"),
        e.UsageRecorded(tokens={"input": 2}, cost=0.25),
        e.UsageRecorded(tokens={"input": 2}, cost=0.25),
    )
    state = metadata.projection.fold(events)
    assert state.token_usage == {"input": 9, "output": 7}
    assert state.estimated_cost == 1.5


def test_a_tree_names_links_by_safe_names() -> None:
    events = numbered(
        e.InvocationLinked(invocation_id="../x", invocation_dir="f"), e.InvocationLinked(invocation_id="without")
    )
    assert tree.plan(tree.projection.fold(events).values()) == {"invocations/%2E.%2Fx": "f"}


def test_a_timeline_tells_each_event() -> None:
    events = numbered(
        e.SessionCreated(purpose="p", by={"actor": "ana"}),
        e.MessageAdded(role="assistant", content="{}", tool_name="grep", invocation_id="i"),
        e.InvocationLinked(invocation_id="i", duration_ms=3.0, success=False, error="boom"),
        e.UsageRecorded(tokens={"input": 3}, model="m"),
    )
    rows = [row.to_dict() for row in timeline.rows(events)]
    assert rows == [row.to_dict() for row in timeline.projection.fold(events).rows]
    assert [row["what"] for row in rows] == ["created", "calls", "failed", "used"]
    assert (rows[0]["who"], rows[2]["tool_name"], rows[2]["text"]) == ("ana", "grep", "boom")
    assert rows[3]["tokens"] == {"input": 3}


def told_of_calls(count: int) -> Iterator[e.Event]:
    """Make what a log tells of tool calls, each with an answer of a model, read from its lines as a fold reads them."""
    for n in range(count):
        call = f"toolu_{n:020d}"
        for event in (
            e.InvocationLinked(invocation_id=call, tool_name="grep", invocation_dir=f"2026/{n:08d}_grep"),
            e.InvocationLinked(invocation_id=call, duration_ms=float(n), success=True),
            e.UsageRecorded(tokens={"input": 900 + n, "output": 80}, cost=0.01, model="made-up", key=f"message {n}"),
        ):
            yield json.decode(json.encode(replace(event, seq=3 * n + 1, at=AT)), type=type(event))


@pytest.mark.long
@pytest.mark.parametrize(("projection", "most_bytes"), [(summary.projection, 650), (audit.projection, 700)])
def test_a_session_of_many_calls_takes_little_memory(projection: Fold[Any], most_bytes: int) -> None:
    """A call, its outcome and a use of tokens: 600 bytes; as plain objects it was 800 and 950, 145 MB for 100,000."""
    count = 20_000
    tracemalloc.start()
    state = projection.fold(told_of_calls(count))
    taken = tracemalloc.get_traced_memory()[0]
    tracemalloc.stop()
    assert taken < most_bytes * count
    del state
