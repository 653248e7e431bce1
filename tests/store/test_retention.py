"""Retention: what goes, why, by way of the trash; and ids that were used before."""

from datetime import UTC, datetime
from operator import attrgetter
from pathlib import Path
from typing import Any

import pytest

from eventstore import FileSystemSessionStorage, SessionExists, SessionManager, SessionNotFound
from eventstore import events as e
from eventstore.errors import NotARegularFile, OperationRefused
from eventstore.integrity import verify_all, verify_session, verify_store

OLD = "2020-01-01T00:00:00Z"


@pytest.fixture
def old(manager: SessionManager) -> SessionManager:
    manager.create_session("old", "p", occurred_at=OLD)
    manager.add_conversation_message("old", "user", "hi", occurred_at=OLD)
    manager.create_session("new")
    return manager


def listed(manager: SessionManager) -> list[str]:
    return sorted(one.metadata.session_id for one in manager.list_sessions())


def test_a_plan_says_what_and_why_and_changes_nothing(old: SessionManager) -> None:
    old.create_session("kept", occurred_at=OLD)
    old.pin_session("kept", occurred_at=OLD)
    plan = {one.session_id: one for one in old.trash.plan_cleanup(30)}
    assert {name: one.action for name, one in plan.items()} == {"old": "trash", "kept": "keep"}
    assert "last updated 2020-01-01" in plan["old"].reason
    assert "pinned" in plan["kept"].reason
    assert plan["old"].size_bytes == old.head("old").size_bytes
    assert listed(old) == ["kept", "new", "old"]
    old.pin_session("kept", False, occurred_at=OLD)
    assert [one.action for one in old.trash.plan_cleanup(30)] == ["trash", "trash"]


def test_a_reason_names_the_date_that_counted(old: SessionManager) -> None:
    """Of an imported session the import counts, where it is later than the conversation."""
    old.append(
        "imported",
        [e.DataCleared(occurred_at=OLD)],
        create=e.SessionCreated(custom_metadata={"source": "codex"}, occurred_at=OLD),
    )
    today = old.head("imported").at[:10]
    plan = {one.session_id: one.reason for one in old.trash.plan_cleanup(0)}
    assert plan["imported"].startswith(f"imported or written here {today}")
    assert plan["old"].startswith("last updated 2020-01-01")
    assert "imported" not in {one.session_id for one in old.trash.plan_cleanup(30)}


def test_what_is_old_goes_to_the_trash_comes_back_and_goes_for_good(old: SessionManager) -> None:
    before = old.get_session("old")
    assert old.cleanup_old_sessions(30) == 1
    assert listed(old) == ["new"]
    assert old.get_session("old") is None
    with pytest.raises(SessionNotFound):
        old.add_conversation_message("old", "user", "x")
    assert verify_store(old.storage).is_whole
    old.trash.restore("old")
    assert old.get_session("old") == before
    assert verify_store(old.storage).is_whole
    assert verify_session(old.storage, "old").is_whole
    assert old.cleanup_old_sessions(30) == 1
    assert old.cleanup_old_sessions(30) == 0
    assert old.storage.log.trashed() == ["old"]
    (purge,) = old.trash.plan_cleanup(30, 0)
    assert (purge.session_id, purge.action) == ("old", "purge")
    assert old.cleanup_old_sessions(30, 0) == 0
    assert old.storage.log.trashed() == []
    with pytest.raises(SessionNotFound):
        old.trash.restore("old")
    assert verify_store(old.storage).is_whole


def test_a_session_that_was_updated_after_the_plan_stays(old: SessionManager) -> None:
    plan = old.trash.plan_cleanup(30)
    old.add_conversation_message("old", "user", "still here")
    assert old.storage.clean_up(plan) == []
    assert listed(old) == ["new", "old"]


def test_an_id_used_again_is_a_new_session_that_says_so(old: SessionManager) -> None:
    assert old.trash.put("old")
    assert not old.trash.put("old")
    again = old.create_session("old", "another")
    assert len(again.conversation) == 0
    (created,) = old.events("old")
    assert isinstance(created, e.SessionCreated)
    assert created.used_before
    with pytest.raises(SessionExists):
        old.trash.restore("old")
    old.trash.put("old")
    assert old.storage.log.trashed() == ["old", "old~2"]
    old.trash.restore("old")
    assert old.storage.metadata("old").purpose == "another"
    old.delete_session("old")
    old.trash.restore("old")
    assert old.storage.metadata("old").purpose == "p"
    old.delete_session("new")
    old.create_session("new")
    assert [event.used_before for event in old.events("new") if isinstance(event, e.SessionCreated)] == [True]
    old.create_session("fresh")
    assert [event.used_before for event in old.events("fresh") if isinstance(event, e.SessionCreated)] == [False]


def test_forks_outlive_a_parent_in_the_trash(old: SessionManager) -> None:
    old.fork_session("old", new_id="f")
    before = old.get_session("f")
    old.trash.put("old")
    assert old.get_session("f") == before
    assert verify_session(old.storage, "f").is_whole


def test_a_pin_shows_and_is_saved(manager: SessionManager) -> None:
    session = manager.create_session("s")
    assert "pinned" not in session.metadata.to_dict()
    session.metadata.pinned = True
    manager.storage.save_session(session)
    found = manager.get_session("s")
    assert found is not None
    assert found.metadata.pinned
    assert found.metadata.to_dict()["pinned"] is True


def test_nonsense_is_refused(manager: SessionManager) -> None:
    for bad in (-1, float("nan"), float("inf")):
        with pytest.raises(ValueError, match="max_age_days"):
            manager.trash.plan_cleanup(bad)
        with pytest.raises(ValueError, match="grace_days"):
            manager.trash.plan_cleanup(1, bad)
    for name in ("a~b", "../a", "a~", "_store"):
        with pytest.raises(ValueError):  # noqa: PT011 - each kind has its own words
            manager.storage.log.purge(name)


def test_another_writer_does_not_go_on_in_the_trash(tmp_path: Path) -> None:
    places = tmp_path / ".sessions", tmp_path / ".history"
    with FileSystemSessionStorage(*places) as one, FileSystemSessionStorage(*places) as other:
        ours, theirs = SessionManager(one), SessionManager(other)
        ours.create_session("s")
        theirs.add_conversation_message("s", "user", "a")
        ours.trash.put("s")
        with pytest.raises(SessionNotFound):
            theirs.add_conversation_message("s", "user", "b")
        ours.trash.restore("s")
        theirs.add_conversation_message("s", "user", "c")
        assert [message.content for message in ours.conversation("s")] == ["a", "c"]


def test_a_trash_that_is_a_link_is_not_followed(tmp_path: Path) -> None:
    outside = tmp_path / "outside"
    outside.mkdir()
    with FileSystemSessionStorage(tmp_path / ".sessions", tmp_path / ".history") as storage:
        manager = SessionManager(storage)
        manager.create_session("s", occurred_at=datetime(2020, 1, 1, tzinfo=UTC))
        (tmp_path / ".sessions" / "_trash").symlink_to(outside)
        with pytest.raises((OperationRefused, NotARegularFile), match="_trash"):
            manager.cleanup_old_sessions()
        assert manager.get_session("s") is not None
    assert list(outside.iterdir()) == []


def test_deleting_takes_the_folders_of_tool_calls_along_only_when_asked(
    manager: SessionManager, tmp_path: Path
) -> None:
    for session_id in ("kept", "gone"):
        manager.create_session(session_id)
        for tool in ("grep", "sed"):
            with manager.invocation(session_id, tool):
                pass
    manager.link_invocation("gone", "outside", "x", tmp_path / "elsewhere")
    (tmp_path / "elsewhere").mkdir()
    manager.fork_session("gone", 3, "fork")
    history = tmp_path / ".history"
    assert manager.delete_session("kept")
    assert len(list(history.iterdir())) == 4
    assert manager.delete_session("gone", history=True)
    (shared,) = {folder.name for folder in history.iterdir() if folder.name in manager.tree("fork").values()}
    assert shared.endswith("_grep")
    assert len(list(history.iterdir())) == 3
    assert (tmp_path / "elsewhere").is_dir()


@pytest.mark.parametrize("way", ["delete_session", "trash.put"])
def test_what_is_told_of_a_session_that_went_counts_what_was_appended_last(
    manager: SessionManager, monkeypatch: pytest.MonkeyPatch, way: str
) -> None:
    manager.create_session("s")
    log = manager.storage.log
    remove, trash = log.remove, log.trash
    late = iter([True])

    def append_late() -> None:
        if next(late, False):
            log.append("s", [e.DataCleared()])

    def remove_later(session_id: str, **named: Any) -> bool:
        append_late()
        return remove(session_id, **named)

    def trash_later(session_id: str, **named: Any) -> str:
        append_late()
        return trash(session_id, **named)

    monkeypatch.setattr(log, "remove", remove_later)
    monkeypatch.setattr(log, "trash", trash_later)
    assert attrgetter(way)(manager)("s")
    assert manager.storage.ended("s") == 2


@pytest.mark.parametrize("end", ["torn", "without its line feed"])
@pytest.mark.parametrize("how", ["trash", "delete", "cleanup", "remove template"])
def test_a_session_whose_last_line_a_kill_left_unfinished_goes_once(tmp_path: Path, how: str, end: str) -> None:
    """What the next append would repair is repaired first: else the log never ends where it is expected to."""
    with SessionManager(FileSystemSessionStorage(tmp_path / ".sessions", tmp_path / ".history", fsync="no")) as manager:
        manager.create_session("s")
        manager.templates.save("t", "s")
        manager.fork_session("s", new_id="f")
        manager.set_data("s", "key", 1)
    name = "_template.t" if how == "remove template" else "s"
    (log,) = (
        one
        for one in (tmp_path / ".sessions").rglob("events.jsonl")
        if one.parent.name in (name, name.partition(".")[2])
    )
    data = log.read_bytes()
    log.write_bytes(data + b'{"type":"data.set"' if end == "torn" else data[:-1])
    with SessionManager(FileSystemSessionStorage(tmp_path / ".sessions", tmp_path / ".history", fsync="no")) as manager:
        if how == "trash":
            assert manager.trash.put("s")
        elif how == "delete":
            assert manager.delete_session("s")
        elif how == "cleanup":
            for _ in range(2):  # an event whose line feed was missing is one that came after the plan
                manager.trash.clean_up(manager.trash.plan_cleanup(0, 30))
        else:
            assert manager.templates.remove("t")
        assert not manager.storage.log.exists(name)
        assert manager.head("_store").version < 12
        assert [one for verdict in verify_all(manager.storage) for one in verdict.findings] == []
        if how == "trash":
            manager.trash.restore("s")
            assert manager.data("s") == {"key": 1}
