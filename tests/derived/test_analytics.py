"""Figures over many sessions: each thing counts once, and the sums of every cut are the same."""

import pytest
from histories import HISTORIES
from hypothesis import given
from hypothesis import strategies as st
from msgspec.structs import replace

from eventstore import Figures, MemorySessionStorage, SessionManager
from eventstore import events as e


@pytest.fixture
def worked(manager: SessionManager) -> SessionManager:
    manager.create_session("a", user_id="ana", tags=["x", "y"])
    manager.add_conversation_message("a", "user", "hi", occurred_at="2026-01-01T10:00:00Z")
    manager.link_invocation("a", "i1", "grep", None, 5.0, success=True, occurred_at="2026-01-01T10:00:01Z")
    manager.link_invocation("a", "i2", "grep", None, occurred_at="2026-01-01T23:59:59Z")
    manager.link_invocation("a", "i2", None, None, 7.0, success=False, occurred_at="2026-01-02T00:00:01Z")
    manager.record_usage("a", {"input": 10, "output": 2}, 0.5, "m1", "k", occurred_at="2026-01-01T10:00:02Z")
    manager.record_usage("a", {"input": 12, "output": 1}, 0.75, "m1", "k", occurred_at="2026-01-02T10:00:02Z")
    manager.create_session("b", user_id="bo", tags=["y"])
    manager.add_conversation_message("b", "user", "hi", occurred_at="2026-01-02T10:00:00Z")
    manager.record_usage("b", {"input": 1}, None, "m2", occurred_at="2026-01-02T10:00:00Z")
    return manager


def test_each_cut_sums_up_what_happened(worked: SessionManager) -> None:
    assert worked.analytics("day") == [
        Figures("2026-01-01", 1, 1, 2, 1, 12.0, 12, 10, 2, 0.5),
        Figures("2026-01-02", 2, 1, 0, 0, 0.0, 3, 3, 0, 0.25),
    ]
    assert [(row.key, row.sessions, row.cost) for row in worked.analytics("user")] == [("ana", 1, 0.75), ("bo", 1, 0.0)]
    assert [(row.key, row.sessions, row.messages) for row in worked.analytics("tag")] == [("y", 2, 2), ("x", 1, 1)]
    grep = next(row for row in worked.analytics("tool") if row.key == "grep")
    assert (grep.calls, grep.errors, grep.duration_ms) == (2, 1, 12.0)
    assert next((row.key, row.tokens) for row in worked.analytics("model")) == ("m1", 14)


def test_cuts_are_filtered(worked: SessionManager) -> None:
    assert [row.key for row in worked.analytics("user", tag="x")] == ["ana"]
    assert [row.messages for row in worked.analytics("day", user_id="bo")] == [1]
    assert [row.key for row in worked.analytics("day", since="2026-01-02")] == ["2026-01-02"]
    assert [row.key for row in worked.analytics("day", until="2026-01-01T23:00:00Z")] == ["2026-01-01"]
    with pytest.raises(ValueError, match="by"):
        worked.analytics("week")  # type: ignore[arg-type]


def test_figures_are_caught_up_and_forks_count_once(worked: SessionManager) -> None:
    before = sum(row.messages for row in worked.analytics("day"))
    worked.fork_session("a", new_id="f")
    assert sum(row.messages for row in worked.analytics("day")) == before
    worked.add_conversation_message("f", "user", "more")
    assert sum(row.messages for row in worked.analytics("day")) == before + 1
    worked.delete_session("b")
    assert "bo" not in [row.key for row in worked.analytics("user")]


@given(st.lists(HISTORIES, min_size=1, max_size=3))
def test_every_cut_has_the_same_sums_as_the_sessions_have(histories: list[list[e.Event]]) -> None:
    manager = SessionManager(MemorySessionStorage())
    for place, history in enumerate(histories):
        manager.create_session(f"s{place}")
        for event in history:
            if not isinstance(event, e.SessionAdjusted | e.InvocationUnlinked):
                manager.storage.append(f"s{place}", [replace(event, id=None)])
    states = [manager.storage.summary(f"s{place}") for place in range(len(histories))]
    for by in ("day", "user", "tool", "model"):
        rows = manager.analytics(by)
        assert sum(row.calls for row in rows) == sum(len(state.metadata.calls) for state in states)
        assert sum(row.errors for row in rows) == sum(
            call.success is False for state in states for call in state.metadata.calls.values()
        )
        assert sum(row.duration_ms for row in rows) == sum(state.metadata.total_duration_ms for state in states)
        assert sum(row.tokens for row in rows) == sum(
            sum((state.metadata.token_usage or {}).values()) for state in states
        )
        assert sum(row.cost for row in rows) == sum(state.metadata.estimated_cost or 0.0 for state in states)
