"""Sessions on a log: saved objects become the events that lead to them."""

from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from eventstore import (
    ConversationMessage,
    FileSystemSessionStorage,
    MemorySessionStorage,
    Session,
    SessionMetadata,
    SessionStatus,
    SessionStorage,
    VersionConflict,
)
from eventstore import events as e
from eventstore.ids import STORE_ID

NOON = datetime(2026, 1, 2, 12, tzinfo=UTC)


def made(name: str = "s", **known: Any) -> Session:
    return Session(SessionMetadata(name, NOON, NOON + timedelta(hours=1), **known))


def types(storage: SessionStorage, name: str = "s") -> list[str]:
    return [event.type for event in storage.log.read(name)]


def loaded(storage: SessionStorage, name: str = "s") -> Session:
    found = storage.load_session(name)
    assert found is not None
    return found


def test_a_session_built_by_hand_comes_back_with_its_times(storage: SessionStorage) -> None:
    session = made(
        user_id="u",
        purpose="p",
        tags=["t"],
        status=SessionStatus.ABANDONED,
        total_invocations=7,
        total_duration_ms=3.5,
        tools_used=["x"],
        estimated_cost=0.5,
        token_usage={"input": 3},
        custom_metadata={"a": [1]},
    )
    session.invocation_ids.append("i")
    session.conversation.append(ConversationMessage("user", "hi", NOON, "t", "i"))
    session.data["k"] = {"deep": 1}
    storage.save_session(session)
    assert loaded(storage).to_dict() == session.to_dict()
    assert loaded(storage).metadata.created_at == NOON


def test_a_session_that_did_not_change_appends_nothing(storage: SessionStorage) -> None:
    storage.save_session(made())
    before = storage.log.head("s")
    storage.save_session(made())
    storage.save_session(loaded(storage))
    assert storage.log.head("s") == before


def test_a_changed_session_appends_only_what_leads_to_it(storage: SessionStorage) -> None:
    storage.save_session(made())
    before = len(types(storage))
    session = loaded(storage)
    session.add_message("user", "hi")
    session.set("k", 1)
    session.metadata.purpose = "new"
    session.metadata.status = SessionStatus.COMPLETED
    storage.save_session(session)
    assert types(storage)[before:] == ["session.updated", "message.added", "data.set", "session.completed"]
    assert loaded(storage) == session


def test_what_was_taken_away_is_taken_away(storage: SessionStorage) -> None:
    session = made()
    session.add_message("user", "a")
    session.add_invocation("i", 3)
    session.add_invocation("j", 4)
    session.set("k", 1)
    session.set("l", 1)
    storage.save_session(session)
    session = loaded(storage)
    session.conversation.clear()
    session.invocation_ids.remove("i")
    session.delete("k")
    session.metadata.custom_metadata = {"x": 1}
    storage.save_session(session)
    assert loaded(storage).to_dict() == session.to_dict()


def test_additions_are_made_on_top_of_what_others_appended(storage: SessionStorage) -> None:
    storage.save_session(made())
    mine, theirs = loaded(storage), loaded(storage)
    theirs.add_message("user", "theirs")
    storage.save_session(theirs)
    mine.add_message("assistant", "mine")
    storage.save_session(mine)
    assert [one.content for one in loaded(storage).conversation] == ["theirs", "mine"]
    assert [one.content for one in mine.conversation] == ["theirs", "mine"]


def test_a_change_that_others_made_meaningless_is_a_conflict(storage: SessionStorage) -> None:
    session = made()
    session.add_message("user", "a")
    storage.save_session(session)
    mine, theirs = loaded(storage), loaded(storage)
    theirs.add_message("user", "theirs")
    storage.save_session(theirs)
    mine.conversation.clear()
    before = storage.log.head("s")
    with pytest.raises(VersionConflict):
        storage.save_session(mine)
    assert storage.log.head("s") == before


DATA = st.dictionaries(st.sampled_from("abc"), st.integers().filter(lambda n: abs(n) < 2**63), max_size=3)
SESSIONS = st.builds(
    Session,
    metadata=st.builds(
        SessionMetadata,
        session_id=st.just("s"),
        created_at=st.datetimes(datetime(2020, 1, 1), datetime(2021, 1, 1), timezones=st.just(UTC)),
        updated_at=st.datetimes(datetime(2022, 1, 1), datetime(2023, 1, 1), timezones=st.just(UTC)),
        status=st.sampled_from(SessionStatus),
        user_id=st.none() | st.text(max_size=3),
        purpose=st.none() | st.text(max_size=3),
        tags=st.lists(st.text(max_size=3), max_size=2),
        total_invocations=st.integers(0, 5),
        total_duration_ms=st.integers(0, 5).map(float),
        tools_used=st.lists(st.sampled_from("xyz"), unique=True),
        estimated_cost=st.none() | st.integers(0, 5).map(float),
        token_usage=st.none() | st.dictionaries(st.sampled_from(["input", "output"]), st.integers(0, 9)),
        custom_metadata=DATA,
    ),
    invocation_ids=st.lists(st.sampled_from("ijk"), unique=True),
    conversation=st.lists(
        st.builds(
            ConversationMessage,
            role=st.sampled_from(["user", "assistant", "tool"]),
            content=st.text(max_size=3),
            timestamp=st.datetimes(datetime(2020, 1, 1), datetime(2023, 1, 1), timezones=st.just(UTC)),
        ),
        max_size=3,
    ),
    data=DATA,
)


@given(st.lists(SESSIONS, min_size=1, max_size=3))
def test_any_object_saved_over_any_other_comes_back(sessions: list[Session]) -> None:
    storage = MemorySessionStorage()
    for session in sessions:
        storage.save_session(session)
        assert loaded(storage).to_dict() == session.to_dict()


def test_links_exist_delete(storage: SessionStorage, tmp_path: Path) -> None:
    storage.save_session(made())
    storage.link_invocation("s", "i", tmp_path / ".history" / "x")
    assert loaded(storage).invocation_ids == ["i"]
    assert storage.fold("s").links() == {"invocations/i": "x"}
    assert (storage.session_exists("s"), storage.session_exists("t")) == (True, False)
    assert (storage.delete_session("s"), storage.delete_session("s")) == (True, False)
    assert storage.load_session("s") is None


def test_the_store_s_own_log_remembers_what_was_deleted(storage: SessionStorage) -> None:
    storage.save_session(made())
    head = storage.log.head("s")
    storage.delete_session("s", "because")
    created, deleted = storage.log.read(STORE_ID)
    assert isinstance(created, e.StoreSessionCreated)
    assert isinstance(deleted, e.StoreSessionDeleted)
    assert (deleted.session_id, deleted.events, deleted.reason) == ("s", head.version, "because")
    assert (deleted.head_hash, deleted.size_bytes) == (head.hash, head.size_bytes)


def test_old_sessions_are_cleaned_up_by_their_last_update(storage: SessionStorage) -> None:
    storage.save_session(made("old"))
    storage.save_session(Session(SessionMetadata("new", NOON, NOON + timedelta(days=3))))
    assert storage.cleanup_sessions(NOON + timedelta(days=1)) == 1
    assert [one.session_id for one in storage.list_metadata()] == ["new"]


def test_a_list_is_filtered_then_sorted_then_cut(storage: SessionStorage) -> None:
    for n in range(6):
        known = SessionMetadata(
            f"s{n}",
            NOON,
            NOON + timedelta(minutes=(n * 5) % 6),
            user_id="ann" if n % 2 else "bob",
            tags=["even" if n % 2 == 0 else "odd", f"t{n}"],
            status=SessionStatus.FAILED if n == 4 else SessionStatus.ACTIVE,
        )
        storage.save_session(Session(known))

    def names(**filters: Any) -> list[str]:
        return [session.metadata.session_id for session in storage.list_sessions(**filters)]

    assert names() == ["s1", "s2", "s3", "s4", "s5", "s0"]
    assert names(limit=2) == ["s1", "s2"]
    assert names(user_id="bob", limit=1) == ["s2"]
    assert names(tags=["t5", "t0", "nope"]) == ["s5", "s0"]
    assert names(status="failed") == names(status=SessionStatus.FAILED) == ["s4"]
    assert names(user_id="ann", tags=["even"]) == []
    assert names(limit=0) == []
    with pytest.raises(ValueError, match="finished"):
        names(status="finished")


def test_a_list_is_right_after_another_program_wrote(files: FileSystemSessionStorage, tmp_path: Path) -> None:
    files.save_session(made())
    assert [one.purpose for one in files.list_metadata()] == [None]
    with FileSystemSessionStorage(tmp_path / ".sessions", tmp_path / ".history", fsync="no") as other:
        other.log.append("s", [e.SessionUpdated(purpose="new")])
    assert [one.purpose for one in files.list_metadata()] == ["new"]


def damage(folder: Path, name: str) -> None:
    path = folder / ".sessions" / name / "events.jsonl"
    data = path.read_bytes()
    path.write_bytes(data[:30] + b"X" + data[31:] + b"\n")


def test_a_damaged_session_hides_no_other_and_is_told(files: FileSystemSessionStorage, tmp_path: Path) -> None:
    for name in ("good", "bad"):
        files.save_session(made(name))
    damage(tmp_path, "bad")
    with pytest.warns(RuntimeWarning, match=r"'bad' is damaged.*line 1"):
        assert [one.session_id for one in files.list_metadata()] == ["good"]
    with pytest.warns(RuntimeWarning, match="'bad' is damaged"):
        assert list(files.rebuild()) == ["good"]
    with pytest.warns(RuntimeWarning, match="'bad' is damaged"):
        assert files.cleanup_sessions(NOON + timedelta(days=9)) == 1
    assert files.delete_session("bad") is True
    *_, last = files.log.read(STORE_ID)
    assert isinstance(last, e.StoreSessionDeleted)
    assert "damaged at line 1" in (last.reason or "")


def test_a_fold_is_never_that_of_another_log(files: FileSystemSessionStorage, tmp_path: Path) -> None:
    """A session that another program deleted and made anew shows the new one, also where it is longer."""
    files.save_session(made(purpose="first"))
    assert loaded(files).metadata.purpose == "first"
    with FileSystemSessionStorage(tmp_path / ".sessions", tmp_path / ".history", fsync="no") as other:
        other.delete_session("s")
        other.append("s", [e.SessionCreated(purpose="second")], expected_version=0)
        for _ in range(5):
            other.append("s", [e.MessageAdded(role="user", content="x")])
    assert loaded(files).metadata.purpose == "second"
    assert len(loaded(files).conversation) == 5
