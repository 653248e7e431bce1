"""Figures over many sessions: each thing counts once, and the sums of every cut are the same."""

import pytest
from histories import HISTORIES
from hypothesis import given
from hypothesis import strategies as st
from msgspec.structs import replace

from eventstore import Figures, MemorySessionStorage, SessionManager
from eventstore import events as e
from eventstore.derived.analytics import By
from eventstore.derived.prices import estimate, price_table


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
        worked.analytics("decade")  # type: ignore[arg-type]


def test_figures_are_summed_by_week_month_and_project(worked: SessionManager) -> None:
    worked.create_session("w", occurred_at="2026-03-01T12:00:00Z")
    worked.update_session_metadata("w", custom_metadata={"cwd": "/home/ana/shop"}, occurred_at="2026-03-01T12:00:00Z")
    for when in ("2026-03-01T23:00:00Z", "2026-03-02T00:00:00Z", "9999-12-31T23:59:59Z"):
        worked.add_conversation_message("w", "user", "x", occurred_at=when)
    weeks = [(row.key, row.messages) for row in worked.analytics("week", since="2026-02-01")]
    assert weeks[:2] == [("2026-02-23", 1), ("2026-03-02", 1)]
    assert weeks[2][0].startswith("9999-12-")
    assert [row.key for row in worked.analytics("month", since="2026-02-01")] == ["2026-03", "9999-12"]
    assert ("/home/ana/shop", 3) in [(row.key, row.messages) for row in worked.analytics("project")]


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


@pytest.fixture
def evening(manager: SessionManager) -> SessionManager:
    """Make a session of the last evening of a year on the west coast of America, in a project."""
    created = e.SessionCreated(custom_metadata={"cwd": "/srv/app"}, occurred_at="2027-01-01T07:00:00Z")
    manager.storage.append("e", [created], expected_version=0)
    manager.add_conversation_message("e", "user", "late", occurred_at="2027-01-01T07:59:59Z")
    manager.add_conversation_message("e", "user", "later", occurred_at="2027-01-01T08:00:00Z")
    return manager


@pytest.mark.parametrize(
    ("by", "timezone", "keys"),
    [
        ("day", "UTC", ["2027-01-01"]),
        ("day", "America/Los_Angeles", ["2026-12-31", "2027-01-01"]),
        ("day", "Asia/Kathmandu", ["2027-01-01"]),
        ("week", "UTC", ["2026-12-28"]),
        ("month", "America/Los_Angeles", ["2026-12", "2027-01"]),
        ("project", "UTC", ["/srv/app"]),
        ("total", "UTC", [""]),
    ],
)
def test_times_are_those_of_a_zone(evening: SessionManager, by: By, timezone: str, keys: list[str]) -> None:
    rows = evening.analytics(by, timezone=timezone)
    assert [row.key for row in rows] == keys
    assert sum(row.messages for row in rows) == 2
    if timezone == "America/Los_Angeles" and by == "day":
        assert [row.messages for row in evening.analytics("day", since="2027-01-01", timezone=timezone)] == [1]
    with pytest.raises(ValueError, match="timezone"):
        evening.analytics("day", timezone="Mars/Base")


def test_costs_that_nobody_recorded_are_estimated(manager: SessionManager) -> None:
    pytest.importorskip("genai_prices")
    manager.create_session("a")
    tokens = {"input": 1000, "output": 90, "reasoning": 10, "cache_read": 5000, "cache_write": 400}
    used = e.UsageRecorded(tokens=tokens, model="claude-sonnet-4-5", key="k", cache_write_hour=300)
    told = e.UsageRecorded(tokens={"input": 7}, model="claude-sonnet-4-5", cost=0.5)
    manager.storage.append("a", [used, used, told, e.UsageRecorded(tokens={"input": 9}, model="nobody-knows-it")])
    (row,) = manager.analytics("total")
    rates = (
        estimate("claude-sonnet-4-5", {kind: 1_000_000}) for kind in ("input", "output", "cache_read", "cache_write")
    )
    read, wrote, cached, kept = rates
    kept_longer = estimate("claude-sonnet-4-5", {"cache_write": 1_000_000, "cache_write_hour": 1_000_000})
    wanted = (1000 * read + 100 * wrote + 5000 * cached + 100 * kept + 300 * kept_longer) / 1_000_000
    assert (row.cost, round(row.estimated_cost, 9)) == (0.5, round(wanted, 9))
    assert kept_longer > kept > read > cached > 0
    assert price_table() is not None
