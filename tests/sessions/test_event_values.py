"""What `append` accepts is what the methods accept; what older logs have is read as it is."""

import asyncio
from typing import Any

import pytest
from msgspec.structs import replace

from eventstore import AsyncSessionManager, MemorySessionStorage, SessionManager
from eventstore import events as e
from eventstore.errors import EventNotEncodable
from projections.models import SessionStatus

REFUSED: list[tuple[e.Event, str]] = [
    (e.UsageRecorded(tokens={"input": -5}), "$.tokens.input"),
    (e.UsageRecorded(tokens={"output": 1, "input": 2**53 + 1}), "$.tokens.input"),
    (e.UsageRecorded(cost=-1.0), "$.cost"),
    (e.UsageRecorded(cost=1e308), "$.cost"),
    (e.UsageRecorded(cost=float("nan")), "$.cost"),
    (e.UsageRecorded(cache_write_hour=-1), "$.cache_write_hour"),
    (e.InvocationLinked(invocation_id="i", duration_ms=-5.0), "$.duration_ms"),
    (e.InvocationLinked(invocation_id="i", duration_ms=1e300), "$.duration_ms"),
    (e.ConversationRewound(to=-1), "$.to"),
    (e.MessagesWithdrawn(targets=(1, 0)), "$.targets[1]"),
    (e.SessionAdjusted(created_at="garbage"), "$.created_at"),
    (e.SessionAdjusted(updated_at="2026-13-01T00:00:00Z"), "$.updated_at"),
    (e.SessionAdjusted(updated_at=None), "$.updated_at"),  # type: ignore[arg-type]
    (e.SessionAdjusted(total_invocations=-4), "$.total_invocations"),
    (e.SessionAdjusted(total_duration_ms=-0.5), "$.total_duration_ms"),
    (e.SessionAdjusted(estimated_cost=-1.0), "$.estimated_cost"),
    (e.SessionAdjusted(token_usage={"x": -1}), "$.token_usage.x"),
    (e.SessionCompleted(status="active"), "$.status"),
    (e.SessionUpdated(tags=("a", " ")), "$.tags[1]"),
    (e.RecordRemoved(stream="s", item=-1), "$.item"),
    (e.ForeignRecorded(withheld_bytes=-1), "$.withheld_bytes"),
]
ACCEPTED: list[e.Event] = [
    e.UsageRecorded(tokens={"input": 2**53, "mine": 0}, cost=2.0**53, cache_write_hour=0),
    e.UsageRecorded(cost=1),
    e.InvocationLinked(invocation_id="i", duration_ms=0.0),
    e.ConversationRewound(to=0),
    e.MessagesWithdrawn(targets=(1,)),
    e.SessionAdjusted(total_invocations=0, estimated_cost=None, token_usage=None, tools_used=("x",)),
    e.SessionUpdated(tags=(), purpose=None),
    e.SessionCompleted(status="failed"),
]


@pytest.fixture
def manager() -> SessionManager:
    manager = SessionManager(MemorySessionStorage())
    manager.create_session("s")
    return manager


@pytest.mark.parametrize(("event", "path"), REFUSED, ids=lambda one: one if isinstance(one, str) else one.type)
def test_append_refuses_what_the_methods_refuse(manager: SessionManager, event: e.Event, path: str) -> None:
    with pytest.raises(EventNotEncodable, match="nothing was written") as refused:
        manager.append("s", [e.ReasoningRecorded(content="x"), event])
    assert (refused.value.event_type, refused.value.path) == (event.type, path)
    with pytest.raises(EventNotEncodable):
        manager.append("t", [event], create=True)
    assert manager.head("s").version == 1
    assert not manager.storage.session_exists("t")


def test_the_async_manager_refuses_the_same(manager: SessionManager) -> None:
    async def run() -> None:
        async with AsyncSessionManager(manager) as many:
            for event, _ in REFUSED:
                with pytest.raises(EventNotEncodable):
                    await many.append("s", [event])

    asyncio.run(run())
    assert manager.head("s").version == 1


@pytest.mark.parametrize("event", ACCEPTED, ids=lambda one: one.type)
def test_append_accepts_what_the_methods_accept(manager: SessionManager, event: e.Event) -> None:
    manager.append("s", [event])
    (stored,) = list(manager.events("s"))[1:]
    blank: dict[str, Any] = {"seq": 0, "at": "", "hash": "", "salt": None}
    assert replace(stored, **blank) == event


def test_a_session_that_append_creates_has_no_empty_tag(manager: SessionManager) -> None:
    with pytest.raises(EventNotEncodable, match=r"\$\.tags\[0\]"):
        manager.append("t", [e.ReasoningRecorded(content="x")], create=e.SessionCreated(tags=("",)))


def test_times_of_an_adjustment_are_stored_as_logs_hold_them(manager: SessionManager) -> None:
    manager.append("s", [e.SessionAdjusted(created_at="2026-01-01T02:00:00+02:00")])
    (stored,) = list(manager.events("s"))[1:]
    assert isinstance(stored, e.SessionAdjusted)
    assert stored.created_at == "2026-01-01T00:00:00.000000Z"


@pytest.mark.parametrize("cost", [-1.0, 1e300, float("inf"), 10**400])
def test_the_methods_have_the_same_limits(manager: SessionManager, cost: float) -> None:
    with pytest.raises(ValueError, match="cost is not a number from 0 to 2\\*\\*53; nothing was written"):
        manager.record_usage("s", {}, cost)
    with pytest.raises(ValueError, match="duration_ms is not a number from 0 to 2\\*\\*53; nothing was written"):
        manager.link_invocation("s", "i", None, None, cost)
    with pytest.raises(ValueError, match="'x' are not an integer from 0 to 2\\*\\*53; nothing was written"):
        manager.record_usage("s", {"x": 2**53 + 1})


def test_older_logs_with_such_events_are_read_as_they_are(manager: SessionManager) -> None:
    manager.storage.append("s", [event for event, path in REFUSED if path not in ("$.updated_at", "$.cost")])
    manager.storage.append("s", [e.UsageRecorded(cost=-1.0)])
    found = manager.get_session_statistics("s")
    assert found is not None
    assert found["status"] == SessionStatus.ACTIVE
    assert len(manager.list_sessions()) == 1
