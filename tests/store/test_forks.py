"""Forks and templates: a past in common, without a copy, whatever becomes of the parent."""

import multiprocessing
import random
from contextlib import suppress
from pathlib import Path

import pytest
from histories import HISTORIES
from hypothesis import given
from hypothesis import strategies as st
from msgspec.structs import replace

from eventstore import (
    FileSystemSessionStorage,
    InvalidSessionId,
    LogDamaged,
    MemorySessionStorage,
    NoSuchMoment,
    SessionExists,
    SessionManager,
    SessionNotFound,
)
from eventstore import events as e
from eventstore.integrity import verify_session, verify_store
from projections.branches import Ancestor


def talk(manager: SessionManager, session_id: str, *texts: str) -> None:
    for text in texts:
        manager.add_conversation_message(session_id, "user", text)


def said(manager: SessionManager, session_id: str) -> list[str]:
    return [one.content for one in manager.conversation(session_id)]


@pytest.fixture
def begun(manager: SessionManager) -> SessionManager:
    manager.create_session("s", "find out", "ana", ["bug"])
    talk(manager, "s", "a", "b", "c")
    return manager


@pytest.fixture
def stored(files: FileSystemSessionStorage) -> SessionManager:
    return SessionManager(files)


def test_a_fork_goes_on_alone(begun: SessionManager) -> None:
    assert begun.fork_session("s", 3, "f", purpose="try") == "f"
    talk(begun, "f", "x")
    talk(begun, "s", "d")
    assert (said(begun, "s"), said(begun, "f")) == (["a", "b", "c", "d"], ["a", "b", "x"])
    known = begun.storage.metadata("f")
    assert (known.session_id, known.purpose, known.user_id, known.tags) == ("f", "try", "ana", ["bug"])
    assert begun.lineage("f") == [Ancestor("s", 3), Ancestor("f", 5)]
    assert begun.storage.metadata(begun.fork_session("s")).purpose == "find out"
    assert {one.metadata.session_id for one in begun.list_sessions()} >= {"s", "f"}
    assert verify_session(begun.storage, "f").is_whole
    assert verify_store(begun.storage).is_whole


def test_a_finished_session_is_forked_into_an_active_one(begun: SessionManager) -> None:
    begun.complete_session("s")
    assert begun.storage.metadata(begun.fork_session("s")).status == "active"


def test_deleting_a_parent_leaves_its_forks_whole(begun: SessionManager) -> None:
    begun.fork_session("s", 2, "f")
    begun.fork_session("f", None, "g")
    begun.fork_session("g", 1, "h")
    talk(begun, "g", "x")
    before = {name: begun.get_session(name) for name in "fgh"}
    assert begun.delete_session("s")
    assert {name: begun.get_session(name) for name in "fgh"} == before
    assert begun.delete_session("f")
    talk(begun, "g", "y")
    assert said(begun, "g") == ["a", "x", "y"]
    assert all(verify_session(begun.storage, name).is_whole for name in "gh")
    assert verify_store(begun.storage).is_whole
    assert begun.lineage("g") == [Ancestor("s", 2), Ancestor("f", 3), Ancestor("g", 6)]


def test_branches_are_compared_from_where_they_part(begun: SessionManager) -> None:
    begun.fork_session("s", 3, "f")
    talk(begun, "s", "d", "e")
    begun.link_invocation("f", "i", "grep", None, 2.0)
    begun.record_usage("f", {"input": 10}, 0.5, key="k")
    begun.record_usage("f", {"input": 12}, 0.75, key="k")
    found = begun.compare_branches("s", "f")
    assert found.common == Ancestor("s", 3)
    ours, fork = found.branches
    assert (ours.session_id, ours.turns, ours.messages, ours.cost) == ("s", 3, 3, 0.0)
    assert (fork.turns, fork.tools, fork.tokens, fork.cost) == (0, {"grep": 1}, {"input": 12}, 0.75)
    begun.create_session("other")
    assert begun.compare_branches("s", "other").common is None


def test_a_damaged_template_is_listed_like_the_others(stored: SessionManager, tmp_path: Path) -> None:
    stored.create_session("s")
    for name in ("good", "bad"):
        stored.templates.save(name, "s")
    path = tmp_path / ".sessions" / "_template.bad" / "events.jsonl"
    path.write_bytes(path.read_bytes().replace(b"session.created", b"session.creatad") + b"\n")
    with FileSystemSessionStorage(tmp_path / ".sessions", tmp_path / ".history") as fresh:
        assert SessionManager(fresh).templates.list() == ["bad", "good"]


def test_templates_are_made_shown_used_and_removed(begun: SessionManager) -> None:
    begun.templates.save("opening", "s", 3)
    with pytest.raises(SessionExists):
        begun.templates.save("opening", "s")
    assert begun.templates.list() == ["opening"]
    assert [one.content for one in begun.templates.get("opening").conversation] == ["a", "b"]
    assert [one.metadata.session_id for one in begun.list_sessions()] == ["s"]
    made = begun.create_session("t", user_id="bo", template="opening")
    assert (made.metadata.user_id, made.metadata.purpose) == ("bo", "find out")
    talk(begun, "t", "x")
    begun.delete_session("s")
    assert begun.create_session("u", template="opening").metadata.tags == ["bug"]
    assert verify_store(begun.storage).is_whole
    assert begun.templates.remove("opening")
    assert not begun.templates.remove("opening")
    assert begun.templates.list() == []
    assert (said(begun, "t"), said(begun, "u")) == (["a", "b", "x"], ["a", "b"])
    assert all(verify_session(begun.storage, name).is_whole for name in "tu")
    with pytest.raises(SessionNotFound, match="opening"):
        begun.create_session(template="opening")
    with pytest.raises(InvalidSessionId):
        begun.templates.save("../x", "t")


def test_a_damaged_template_is_listed_and_can_be_removed(
    stored: SessionManager, files: FileSystemSessionStorage
) -> None:
    stored.create_session("s", "find out")
    stored.templates.save("bad", "s")
    stored.templates.save("good", "s")
    path = files.sessions_dir / "_template.bad" / "events.jsonl"
    path.write_bytes(path.read_bytes().replace(b"session.created", b"session.creatad") + b"\n")
    with FileSystemSessionStorage(files.sessions_dir, files.history_dir) as opened:
        manager = SessionManager(opened)
        assert sorted(manager.templates.list()) == ["bad", "good"]
        with pytest.raises(LogDamaged):
            manager.templates.get("bad")
        assert verify_store(opened).is_whole
        assert manager.templates.remove("bad")
        assert manager.templates.list() == ["good"]


def test_a_time_inside_a_batch_is_the_end_of_the_one_before(manager: SessionManager) -> None:
    manager.create_session("s", occurred_at="2020-01-01T00:00:00Z")
    batch = [
        e.MessageAdded(role="user", content=text, occurred_at=f"2020-01-0{day}T00:00:00Z")
        for day, text in enumerate("abc", 2)
    ]
    manager.storage.append("s", batch)
    assert manager.conversation(manager.fork_session("s", "2020-01-03T12:00:00Z", "f")) == []
    with pytest.raises(NoSuchMoment, match="1 or 4"):
        manager.fork_session("s", 3, "g")
    with pytest.raises(SessionExists):
        manager.fork_session("s", 1, "f")


@pytest.mark.parametrize("gone", [[3], [2, 3], [3, 4], [2], [4]])
def test_a_redaction_opens_no_batch_for_a_fork(manager: SessionManager, gone: list[int]) -> None:
    """A redacted event does not know its batch any more: `verify` would call a fork that ends inside of it tampered."""
    manager.create_session("s")
    manager.append("s", [e.MessageAdded(role="user", content=text) for text in "abc"])
    manager.redactions.redact("s", gone, "asked to")
    for inside in (2, 3):
        with pytest.raises(NoSuchMoment, match="1 or 4"):
            manager.fork_session("s", inside, "f")
    for at in (1, 4):
        manager.fork_session("s", at, f"f{at}")
        manager.set_data(f"f{at}", "k", 1)
        assert verify_session(manager.storage, f"f{at}").is_whole


@given(history=HISTORIES, cut=st.integers(1, 30), more=HISTORIES)
def test_a_fork_is_its_parent_s_prefix_and_then_its_own(history: list[e.Event], cut: int, more: list[e.Event]) -> None:
    manager = SessionManager(MemorySessionStorage())
    manager.create_session("s")
    for event in history:
        manager.storage.append("s", [replace(event, id=None)])
    cut = min(cut, len(history) + 1)
    manager.fork_session("s", cut, "f")
    past = list(manager.events("s", at=cut))
    for event in more[:5]:
        manager.storage.append("f", [replace(event, id=None)])
    assert list(manager.events("f"))[:cut] == past
    for version in range(1, cut + 1):
        assert manager.get_session_statistics("f", version) == {
            **(manager.get_session_statistics("s", version) or {}),
            "session_id": "f",
        }
    assert manager.compare_branches("s", "f").common == Ancestor("s", cut)


def test_a_fork_costs_its_one_line(stored: SessionManager, tmp_path: Path) -> None:
    stored.create_session("s")
    for _ in range(5):
        stored.storage.append("s", [e.MessageAdded(role="user", content="x" * 10_000)] * 20)
    stored.fork_session("s", new_id="f")
    assert (tmp_path / ".sessions" / "f" / "events.jsonl").stat().st_size < 1000


def test_a_fork_whose_parent_is_not_what_it_was_is_damaged(stored: SessionManager, tmp_path: Path) -> None:
    stored.create_session("s")
    talk(stored, "s", "a", "b")
    stored.fork_session("s", new_id="f")
    talk(stored, "f", "c")
    path = tmp_path / ".sessions" / "s" / "events.jsonl"
    kept = path.read_bytes()
    path.write_bytes(b"".join(kept.splitlines(keepends=True)[:2]))
    with FileSystemSessionStorage(tmp_path / ".sessions", tmp_path / ".history") as fresh:
        with pytest.raises(LogDamaged, match="goes on from event 3 of session 's'"):
            list(fresh.log.read("f"))
        assert not verify_session(fresh, "f").is_whole
        with pytest.raises(LogDamaged):
            fresh.log.make_whole("f")
        assert len(list(fresh.log.read("f", 3))) == 2
    path.write_bytes(kept)
    with FileSystemSessionStorage(tmp_path / ".sessions", tmp_path / ".history") as fresh:
        assert verify_session(fresh, "f").is_whole


def test_forks_are_safe_from_one_another_s_names(stored: SessionManager, tmp_path: Path) -> None:
    """The file of one fork put in the place of another is found: its first line says into whose log it goes."""
    stored.create_session("s")
    stored.fork_session("s", new_id="f")
    stored.fork_session("s", new_id="g")
    stored.close()
    sessions = tmp_path / ".sessions"
    (sessions / "g" / "events.jsonl").write_bytes((sessions / "f" / "events.jsonl").read_bytes())
    with FileSystemSessionStorage(sessions, tmp_path / ".history") as fresh:
        assert verify_session(fresh, "f").is_whole
        assert not verify_session(fresh, "g").is_whole


def test_a_fork_is_appended_to_read_and_repaired_anew(stored: SessionManager, tmp_path: Path) -> None:
    stored.create_session("s")
    talk(stored, "s", "a")
    stored.fork_session("s", new_id="f")
    talk(stored, "f", "b")
    stored.close()
    path = tmp_path / ".sessions" / "f" / "events.jsonl"
    with path.open("ab") as file:
        file.write(b'{"type":"torn')
    with FileSystemSessionStorage(tmp_path / ".sessions", tmp_path / ".history") as fresh:
        manager = SessionManager(fresh)
        assert said(manager, "f") == ["a", "b"]
        assert manager.add_conversation_message("f", "user", "c").last == 6
        assert [event.type for event in manager.events("f", 4)] == ["log.repaired", "message.added"]
        assert verify_session(fresh, "f").is_whole
        assert [one.standing for one in manager.salvage("f")] == ["proven"] * 4


def test_an_id_used_again_never_leads_in_a_circle(stored: SessionManager, tmp_path: Path) -> None:
    """Somebody removes a parent by hand, and makes it anew as a fork of its own fork: an error, not a program that hangs."""
    stored.create_session("s")
    stored.fork_session("s", 1, "f")
    kept = (tmp_path / ".sessions" / "f" / "events.jsonl").read_bytes()
    stored.delete_session("s")
    stored.fork_session("f", 1, "s")
    stored.close()
    (tmp_path / ".sessions" / "f" / "events.jsonl").write_bytes(kept)
    with FileSystemSessionStorage(tmp_path / ".sessions", tmp_path / ".history") as fresh:
        for name in "fs":
            with pytest.raises(LogDamaged, match="goes on from event 1"):
                list(fresh.log.read(name))
            with pytest.raises(LogDamaged):
                fresh.log.make_whole(name)


def test_a_fork_in_the_trash_outlives_its_parent(begun: SessionManager) -> None:
    begun.fork_session("s", new_id="f")
    before = begun.get_session("f")
    begun.trash.put("f")
    begun.delete_session("s")
    begun.trash.restore("f")
    assert begun.get_session("f") == before


def _fork_and_delete(folder: Path, seed: int) -> None:
    draw = random.Random(seed)
    with FileSystemSessionStorage(folder / ".sessions", folder / ".history", fsync="no") as storage:
        manager = SessionManager(storage)
        for _ in range(150):
            one, other = f"s{draw.randrange(5)}", f"s{draw.randrange(5)}"
            with suppress(SessionExists, SessionNotFound, NoSuchMoment):
                _step(manager, draw.randrange(8), one, other)


def _step(manager: SessionManager, what: int, one: str, other: str) -> None:
    if what == 0:
        manager.create_session(one)
    elif what == 1:
        manager.add_conversation_message(one, "user", "hi")
    elif what in (2, 3):
        manager.fork_session(one, new_id=other)
    elif what == 4:
        manager.delete_session(one)
    elif what == 5:
        manager.trash.put(one)
    elif what == 6:
        manager.trash.restore(one)
    else:
        manager.page_sessions()


def test_processes_that_fork_and_delete_leave_every_session_whole(tmp_path: Path) -> None:
    context = multiprocessing.get_context("spawn")
    work = [context.Process(target=_fork_and_delete, args=(tmp_path, seed)) for seed in range(3)]
    for process in work:
        process.start()
    for process in work:
        process.join(200)
    assert [process.exitcode for process in work] == [0, 0, 0]
    with FileSystemSessionStorage(tmp_path / ".sessions", tmp_path / ".history") as fresh:
        names = sorted(fresh.log.ids())
        assert [verify_session(fresh, name) for name in names if not verify_session(fresh, name).is_whole] == []
        assert sorted(one.session_id for one in fresh.list_metadata()) == names


def test_a_fork_of_a_session_whose_last_line_is_torn_is_whole(files: FileSystemSessionStorage, tmp_path: Path) -> None:
    with SessionManager(files) as manager:
        manager.create_session("parent")
        talk(manager, "parent", "one", "two")
        manager.flush()
        with (tmp_path / ".sessions" / "parent" / "events.jsonl").open("ab") as log:
            log.write(b'{"type":"message.added","seq":4')
        manager.fork_session("parent", new_id="fork")
        manager.fork_session("fork", new_id="deeper")
        talk(manager, "deeper", "three")
        assert said(manager, "deeper") == ["one", "two", "three"]
        assert [verify_session(files, name).findings for name in ("fork", "deeper")] == [(), ()]
