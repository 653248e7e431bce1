"""Whole objects: what they hold, and that they come back from their dicts."""

from datetime import UTC, datetime, timedelta, timezone

import pytest

from eventstore import Conversation, ConversationMessage, Session, SessionManager, SessionMetadata, SessionStatus
from eventstore.record import Message

NOON = datetime(2026, 1, 2, 12, tzinfo=UTC)


def made() -> Session:
    return Session(SessionMetadata("s", NOON, NOON))


def test_a_new_object_has_the_original_s_fields_and_defaults() -> None:
    known = SessionMetadata("s", NOON, NOON)
    assert known.to_dict() == {
        "session_id": "s",
        "created_at": "2026-01-02T12:00:00.000000+00:00",
        "updated_at": "2026-01-02T12:00:00.000000+00:00",
        "status": "active",
        "user_id": None,
        "purpose": None,
        "tags": [],
        "total_invocations": 0,
        "total_duration_ms": 0.0,
        "tools_used": [],
        "estimated_cost": None,
        "token_usage": None,
        "custom_metadata": {},
    }


def test_a_call_added_twice_counts_once() -> None:
    session = made()
    session.add_invocation("i", 2.5)
    session.add_invocation("i", 2.5)
    assert (session.invocation_ids, session.metadata.total_invocations) == (["i"], 1)
    assert session.metadata.total_duration_ms == 2.5
    assert session.metadata.updated_at > NOON


def test_a_message_is_said_now() -> None:
    session = made()
    message = session.add_message("tool", "done", "grep", "i")
    assert session.conversation == [message]
    assert message.timestamp == session.metadata.updated_at
    assert message.to_dict()["tool_name"] == "grep"


def test_an_unknown_role_is_an_error() -> None:
    with pytest.raises(ValueError, match="'robot' is not one of"):
        made().add_message("robot", "x")


def test_data_is_set_got_and_deleted() -> None:
    session = made()
    session.set("k", [1])
    assert (session.get("k"), session.get("x", 3)) == ([1], 3)
    assert (session.delete("k"), session.delete("k")) == (True, False)
    session.set("a", 1)
    session.clear_data()
    assert session.data == {}


def test_a_whole_session_comes_back_from_its_dict() -> None:
    session = made()
    session.add_invocation("i", 2.5)
    session.add_message("user", "hi")
    session.set("k", {"deep": [1, None]})
    session.metadata.status = SessionStatus.FAILED
    session.metadata.token_usage = {"input": 3}
    assert Session.from_dict(session.to_dict()) == session


@pytest.mark.parametrize(
    ("kind", "data", "name"),
    [
        (SessionMetadata, {"session_id": "s", "created_at": "2026-01-01"}, "updated_at"),
        (SessionMetadata, {"session_id": "s", "created_at": "soon", "updated_at": "2026-01-01"}, "created_at"),
        (SessionMetadata, {"created_at": "2026-01-01", "updated_at": "2026-01-01"}, "session_id"),
        (ConversationMessage, {"role": "user", "timestamp": "2026-01-01"}, "content"),
        (Session, {}, "metadata"),
    ],
)
def test_a_dict_with_something_missing_or_wrong_names_it(
    kind: type[SessionMetadata | ConversationMessage | Session], data: dict[str, str], name: str
) -> None:
    with pytest.raises(ValueError, match=name):
        kind.from_dict(data)


def test_a_time_without_a_zone_is_local() -> None:
    local = datetime(2026, 1, 2, 3, 4, 5)
    known = SessionMetadata("s", local, local)
    assert known.created_at == local.astimezone(UTC)
    assert SessionMetadata.from_dict({**known.to_dict(), "created_at": "2026-01-02T03:04:05"}) == known


def test_a_status_is_given_by_its_value_too() -> None:
    assert SessionMetadata("s", NOON, NOON, status="failed").status is SessionStatus.FAILED  # type: ignore[arg-type]
    assert [status.value for status in SessionStatus] == ["active", "completed", "failed", "abandoned"]


def test_a_conversation_is_a_list_of_messages() -> None:
    """It was read as one thing and is shown as another, which nobody need notice."""
    read = [Message(seq, f"2026-01-01T00:00:0{seq}.000000Z", "user", f"m{seq}") for seq in range(1, 5)]
    plain = [ConversationMessage("user", f"m{seq}", datetime(2026, 1, 1, 0, 0, seq, tzinfo=UTC)) for seq in range(1, 5)]
    kept = Conversation(read)
    assert kept == plain
    assert plain == kept
    assert kept == Conversation(read)
    assert kept != plain[:3]
    assert kept != "abcd"
    assert (kept[0], kept[-1], kept[1:3], len(kept)) == (plain[0], plain[3], plain[1:3], 4)
    assert kept + plain[:1] == [*plain, plain[0]]
    assert repr(kept) == repr(plain)
    kept[0].content = "changed"
    assert kept[0].content == "changed"
    assert Conversation(read)[0].content == "m1"
    kept[0] = plain[3]
    kept.insert(1, plain[2])
    del kept[-1]
    kept.append(plain[0])
    assert list(kept) == [plain[3], plain[2], plain[1], plain[2], plain[0]]
    assert Conversation(read).begins_with(plain[:2])
    assert not Conversation(read[:1]).begins_with(plain)
    assert not Conversation(read).begins_with(Conversation(read[1:]))


def test_a_message_keeps_the_timestamp_it_was_given_until_it_is_stored(manager: SessionManager) -> None:
    naive = datetime(2026, 1, 2, 12)
    session = manager.create_session("s")
    session.conversation.append(ConversationMessage("user", "hi", naive))
    assert session.conversation[0].timestamp == naive
    manager.storage.save_session(session)
    (stored,) = manager.conversation("s")
    assert (stored.timestamp.tzinfo, stored.timestamp) == (UTC, naive.astimezone())
    assert session.conversation[0].timestamp == naive
    version = session.version
    session.conversation.append(ConversationMessage("user", "again", naive))
    manager.storage.save_session(session)
    assert session.version == version + 1, "the first message is the one that is stored"


def test_messages_are_equal_where_they_were_said_at_the_same_moment() -> None:
    naive, zoned = datetime(2026, 1, 2, 12), datetime(2026, 1, 2, 12).astimezone(timezone(timedelta(hours=5)))
    assert ConversationMessage("user", "x", naive) == ConversationMessage("user", "x", zoned)
    assert ConversationMessage("user", "x", naive) != ConversationMessage("user", "y", naive)


@pytest.mark.parametrize(
    "when", [datetime.max.replace(tzinfo=timezone(-timedelta(hours=1))), datetime.min.replace(tzinfo=timezone.max)]
)
def test_a_time_that_utc_cannot_hold_is_refused_by_name(when: datetime) -> None:
    with pytest.raises(ValueError, match="timestamp is outside the years 1 to 9999"):
        ConversationMessage("user", "x", when)
    with pytest.raises(ValueError, match="created_at is outside the years 1 to 9999"):
        SessionMetadata("s", when, when)
