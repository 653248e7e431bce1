"""Creating, forking, trashing, deleting: each is all or nothing, whatever the system refuses and whoever is killed."""

import multiprocessing
import os
import signal
import sqlite3
import subprocess
import sys
import threading
from collections.abc import Callable
from itertools import count
from operator import attrgetter
from pathlib import Path
from typing import Any

import pytest
from interrupting import ends, interrupted_at

from eventstore import (
    AppendRefused,
    EventStoreError,
    FileSystemSessionStorage,
    MemorySessionStorage,
    OutcomeUnknown,
    SessionExists,
    SessionManager,
)
from eventstore import events as e
from eventstore.ids import STORE_ID
from eventstore.integrity import Verdict, verify_all
from eventstore.log.port import Unclear
from eventstore.store.lock import StoreLock
from projections.store import State, projection


def opened(folder: Path) -> SessionManager:
    return SessionManager(FileSystemSessionStorage(folder / ".sessions", folder / ".history", fsync="no"))


def wrong(folder: Path) -> list[Verdict]:
    with opened(folder).storage as storage:
        return [one for one in verify_all(storage) if one.outcome != "whole"]


def recorded(manager: SessionManager) -> list[str]:
    return [event.type for event in manager.storage.log.read(STORE_ID)]


@pytest.fixture
def store(tmp_path: Path) -> SessionManager:
    manager = opened(tmp_path)
    manager.create_session("s")
    manager.add_conversation_message("s", "user", "precious")
    return manager


def refuse_registry(monkeypatch: pytest.MonkeyPatch, manager: SessionManager) -> None:
    """Let nothing be appended to the registry: its disk is full."""
    append = manager.storage.log.append

    def refused(session_id: str, *args: Any, **named: Any) -> Any:
        if session_id == STORE_ID:
            raise AppendRefused(STORE_ID, "_store/events.jsonl", 28)
        return append(session_id, *args, **named)

    monkeypatch.setattr(manager.storage.log, "append", refused)


# --- what the system refuses


def test_a_session_is_created_though_the_registry_cannot_be_written(
    tmp_path: Path, store: SessionManager, monkeypatch: pytest.MonkeyPatch
) -> None:
    with monkeypatch.context() as patch:
        refuse_registry(patch, store)
        assert store.create_session("new").metadata.session_id == "new"
    store.create_session("next")
    created = [one.session_id for one in store.storage.log.read(STORE_ID) if isinstance(one, e.StoreSessionCreated)]
    assert sorted(created) == ["new", "next", "s"]
    assert not wrong(tmp_path)


@pytest.mark.parametrize("way", ["delete_session", "trash.put"])
def test_nothing_is_deleted_or_trashed_where_that_cannot_be_recorded(
    tmp_path: Path, store: SessionManager, monkeypatch: pytest.MonkeyPatch, way: str
) -> None:
    with monkeypatch.context() as patch:
        refuse_registry(patch, store)
        with pytest.raises(AppendRefused):
            attrgetter(way)(store)("s")
    assert [one.content for one in store.conversation("s")] == ["precious"]
    assert not wrong(tmp_path)


def test_a_session_is_restored_though_the_registry_cannot_be_written(
    tmp_path: Path, store: SessionManager, monkeypatch: pytest.MonkeyPatch
) -> None:
    store.trash.put("s")
    with monkeypatch.context() as patch:
        refuse_registry(patch, store)
        store.trash.restore("s")
    store.create_session("next")
    store.trash.put("next")
    assert [one.content for one in store.conversation("s")] == ["precious"]
    assert not wrong(tmp_path)


@pytest.mark.parametrize("way", ["delete_session", "trash.put"])
def test_a_catalogue_that_others_have_locked_stops_no_deletion(
    tmp_path: Path, store: SessionManager, monkeypatch: pytest.MonkeyPatch, way: str
) -> None:
    monkeypatch.setattr("eventstore.derived.cache_file.BUSY_SECONDS", 0.02)
    store.list_sessions()
    other = sqlite3.connect(next(tmp_path.rglob("catalog.db")), isolation_level=None)
    other.execute("BEGIN IMMEDIATE")
    try:
        assert attrgetter(way)(store)("s")
        assert store.list_sessions() == []
    finally:
        other.close()
    assert store.list_sessions() == []
    assert store.get_session("s") is None
    assert not wrong(tmp_path)


@pytest.mark.parametrize(("way", "step"), [("delete_session", "remove"), ("trash.put", "trash")])
def test_an_end_that_the_system_refuses_is_taken_back(
    tmp_path: Path, store: SessionManager, monkeypatch: pytest.MonkeyPatch, way: str, step: str
) -> None:
    def refused(*args: object, **named: object) -> None:
        raise PermissionError(13, "no", "s")

    with monkeypatch.context() as patch:
        patch.setattr(store.storage.log, step, refused)
        with pytest.raises(EventStoreError, match=r"'s' was not (deleted|moved to the trash): Permission denied"):
            attrgetter(way)(store)("s")
    assert [one.content for one in store.conversation("s")] == ["precious"]
    assert not wrong(tmp_path)


# --- who is killed


def kill_at(folder: Path, work: str, kind: str) -> None:
    """Run a program that dies by `kill -9` where it appends this kind of event to the registry."""
    program = f"""
import os, signal
from eventstore import *
manager = SessionManager(FileSystemSessionStorage({str(folder / ".sessions")!r}, {str(folder / ".history")!r}))
append = manager.storage.log.append
def killed(session_id, events, **named):
    if session_id == "_store" and any(one.type == {kind!r} for one in events):
        os.kill(os.getpid(), signal.SIGKILL)
    return append(session_id, events, **named)
manager.storage.log.append = killed
{work}
"""
    done = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True)
    assert done.returncode == -signal.SIGKILL, done.stderr


@pytest.mark.parametrize(
    ("work", "kind"),
    [
        ("manager.create_session('new')", "store.session_created"),
        ("manager.fork_session('s', new_id='new')", "store.session_created"),
        ("manager.trash.put('s')", "store.session_trashed"),
        ("manager.trash.put('s'); manager.trash.restore('s')", "store.session_restored"),
        ("manager.delete_session('s')", "store.session_deleted"),
    ],
)
@pytest.mark.parametrize("heal", ["create", "settle", "rebuild"])
def test_what_a_kill_cuts_short_is_healed(
    tmp_path: Path, store: SessionManager, work: str, kind: str, heal: str
) -> None:
    store.close()
    kill_at(tmp_path, work, kind)
    with opened(tmp_path).storage as storage:
        if heal == "create":
            SessionManager(storage).create_session("other")
        elif heal == "settle":
            storage.settle()
        else:
            list(storage.rebuild())
        assert storage.session_exists("s")
    assert not wrong(tmp_path)


def test_an_empty_log_is_no_session(tmp_path: Path, store: SessionManager) -> None:
    """A creation that was killed or refused before its first byte leaves one."""
    for name in ("new", "s2"):
        (tmp_path / ".sessions" / name).mkdir()
        (tmp_path / ".sessions" / name / "events.jsonl").touch()
    assert [one.metadata.session_id for one in store.list_sessions()] == ["s"]
    assert not wrong(tmp_path)
    store.create_session("new")
    store.fork_session("s", new_id="s2")
    store.trash.put("s")
    (tmp_path / ".sessions" / "s").mkdir()
    (tmp_path / ".sessions" / "s" / "events.jsonl").touch()
    store.trash.restore("s")
    assert [one.content for one in store.conversation("s")] == ["precious"]
    assert not wrong(tmp_path)


def test_a_session_in_the_trash_without_a_record_gets_one(tmp_path: Path, store: SessionManager) -> None:
    """A version that moved first and recorded then was killed in between."""
    store.storage.log.trash("s")
    store.create_session("s")
    assert store.trash.list()[0].since == ""
    with opened(tmp_path).storage as other:
        SessionManager(other).create_session("z")
        (found,) = other.list_trash()
        assert (found.since != "", found.events, len(found.head_hash)) == (True, 2, 64)
        assert other.clean_up(SessionManager(other).trash.plan_cleanup(30, 0))
        assert other.list_trash() == []
        assert other.session_exists("s")


# --- plans


def test_a_session_restored_and_trashed_again_is_not_purged_by_an_old_plan(
    tmp_path: Path, store: SessionManager
) -> None:
    store.trash.put("s")
    plan = store.trash.plan_cleanup(30, 0)
    assert [one.action for one in plan] == ["purge"]
    with opened(tmp_path).storage as other:
        theirs = SessionManager(other)
        theirs.trash.restore("s")
        theirs.add_conversation_message("s", "user", "more")
        theirs.trash.put("s")
    assert store.storage.clean_up(plan) == []
    store.trash.restore("s")
    assert [one.content for one in store.conversation("s")] == ["precious", "more"]


def test_an_old_plan_trashes_no_session_that_was_deleted_and_created_again(store: SessionManager) -> None:
    old = "2020-01-01T00:00:00Z"
    store.create_session("old", occurred_at=old)
    plan = [one for one in store.trash.plan_cleanup(30) if one.session_id == "old"]
    store.delete_session("old")
    store.create_session("old", occurred_at=old)
    assert store.storage.clean_up(plan) == []
    assert store.get_session("old") is not None


def _clean_up(folder: Path, barrier: Any, failed: Any) -> None:
    manager = opened(folder)
    plan = manager.trash.plan_cleanup(0, 0)
    barrier.wait()
    try:
        manager.storage.clean_up(plan)
        manager.storage.clean_up(manager.trash.plan_cleanup(0, 0))
    except BaseException as error:
        failed.put(repr(error))


def test_two_programs_that_clean_up_at_once_do_not_hinder_each_other(tmp_path: Path, store: SessionManager) -> None:
    for n in range(12):
        store.create_session(f"s{n}", occurred_at="2020-01-01T00:00:00Z")
    store.close()
    context = multiprocessing.get_context("spawn")
    barrier, failed = context.Barrier(2), context.Queue()
    both = [context.Process(target=_clean_up, args=(tmp_path, barrier, failed)) for _ in range(2)]
    for one in both:
        one.start()
    for one in both:
        one.join(200)
    assert failed.empty(), failed.get()
    assert [one.exitcode for one in both] == [0, 0]
    with opened(tmp_path).storage as storage:
        assert [one.metadata.session_id for one in storage.list_sessions()] == []
        assert storage.list_trash() == []
    assert not wrong(tmp_path)


# --- locks, hooks and cost


@pytest.mark.parametrize("kind", [MemorySessionStorage, FileSystemSessionStorage])
def test_the_lock_may_be_taken_again_by_the_thread_that_holds_it(tmp_path: Path, kind: Callable[..., Any]) -> None:
    places = (tmp_path / "h",) if kind is MemorySessionStorage else (tmp_path / "s", tmp_path / "h")
    registry, done = kind(*places).registry, threading.Event()

    def nest() -> None:
        with registry.locked(), registry.locked():
            done.set()

    threading.Thread(target=nest, daemon=True).start()
    assert done.wait(60)


def test_storages_leave_no_hook_behind(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    hooks: list[str] = []
    monkeypatch.setattr(
        os, "register_at_fork", lambda **hook: hooks.extend(str(one.__module__) for one in hook.values())
    )
    for _ in range(3):
        opened(tmp_path).close()
    assert not [module for module in hooks if module.startswith("eventstore.store")]


@pytest.mark.parametrize("way", ["create", "fork", "trash"])
def test_what_a_creation_reads_of_the_registry_does_not_grow_with_the_store(
    store: SessionManager, monkeypatch: pytest.MonkeyPatch, way: str
) -> None:
    copies, decoded = [0], [0]
    copy, apply = State.copy, projection.apply
    monkeypatch.setattr(State, "copy", lambda state: (copies.__setitem__(0, copies[0] + 1), copy(state))[1])

    def counted(state: State, event: Any) -> None:
        decoded[0] += 1
        apply(state, event)

    monkeypatch.setattr("projections.store.apply", counted)

    def cost(name: str) -> int:
        before = decoded[0]
        if way == "fork":
            store.fork_session("s", new_id=name)
        else:
            store.create_session(name)
        if way == "trash":
            store.trash.put(name)
        store.storage.was_used("s")
        return decoded[0] - before

    few = cost("a")
    for n in range(50):
        store.create_session(f"more{n}")
    store.storage.was_used("s")
    assert cost("b") == few > 0
    assert copies == [0]


def test_the_forks_of_a_session_are_found_one_by_one() -> None:
    class Counting(dict[str, dict[str, None]]):
        looked = 0

        def get(self, key: str, default: Any = None) -> Any:
            Counting.looked += 1
            return super().get(key, default)

    forked = [e.StoreSessionForked(session_id=f"f{n}", parent="root", upto=1) for n in range(1000)]
    state = projection.fold(forked)
    state.children = Counting(state.children)
    assert len(state.descendants("root")) == 1000
    assert Counting.looked == 1001


def test_a_session_restored_where_another_was_created_stays_in_the_trash(tmp_path: Path, store: SessionManager) -> None:
    store.trash.put("s")
    store.create_session("s", "another")
    with pytest.raises(SessionExists):
        store.trash.restore("s")
    assert store.storage.log.trashed() == ["s"]
    assert not wrong(tmp_path)


@pytest.mark.parametrize("again", ["fork", "create"])
def test_a_creation_that_is_recorded_late_is_not_taken_for_that_of_a_session_made_anew(
    tmp_path: Path, again: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    def make(manager: SessionManager, how: str) -> None:
        if how == "fork":
            manager.fork_session("p", new_id="s")
            return
        manager.create_session("s")
        for n in range(4):
            manager.add_conversation_message("s", "user", str(n))

    with (
        FileSystemSessionStorage(tmp_path / "s", tmp_path / "h", fsync="no") as one,
        FileSystemSessionStorage(tmp_path / "s", tmp_path / "h", fsync="no") as two,
    ):
        mine, other = SessionManager(one), SessionManager(two)
        mine.create_session("p")
        mine.add_conversation_message("p", "user", "hi")
        record, late = one.registry.record_created, [True]

        def record_late(created: dict[str, int]) -> bool:
            if late.pop() if late else False:
                other.delete_session("s")
                make(other, again)
            return record(created)

        monkeypatch.setattr(one.registry, "record_created", record_late)
        make(mine, "create")  # a fork is recorded under the lock that a deletion takes too
        other.create_session("next")
        assert [one.outcome for one in verify_all(two) if one.outcome in ("damaged", "tampered")] == []
        assert not late


@pytest.mark.parametrize(
    ("step", "do", "done"),
    [
        ("delete", lambda manager: manager.delete_session("s"), "deleted"),
        ("move", lambda manager: manager.trash.put("s"), "moved to the trash"),
        ("sync", lambda manager: manager.fork_session("s", None, "f"), "forked"),
    ],
)
def test_an_operation_whose_outcome_is_unknown_says_what_may_have_happened(
    store: SessionManager, monkeypatch: pytest.MonkeyPatch, step: str, do: Callable[[SessionManager], object], done: str
) -> None:
    """It spoke of an append, which the caller had not made, and of an `id`."""

    def lost(*args: Any, **named: Any) -> Any:
        raise Unclear("disk", 110, "the answer was lost")

    monkeypatch.setattr(store.storage.log.backend, step, lost)
    with pytest.raises(OutcomeUnknown, match=f"may or may not be {done}: .*disk.*: open the store again and look"):
        do(store)


def test_a_child_forked_inside_the_lock_of_the_store_leaves_it_to_its_parent_and_takes_its_own(
    store: SessionManager,
) -> None:
    lock = store.storage.registry.lock
    with lock.held():
        child = os.fork()
    if not child:
        status = 1
        try:
            store.create_session("child")
            store.delete_session("s")
            status = 0 if (lock.depth, recorded(store)[-1]) == (0, "store.session_deleted") else 2
        finally:
            os._exit(status)
    assert os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]) == 0
    assert lock.depth == 0


@pytest.mark.parametrize("file", ["store/lock.py", "contextlib.py"])
def test_a_ctrl_c_anywhere_in_the_lock_of_the_store_leaves_it_to_others(tmp_path: Path, file: str) -> None:
    """A deletion that was stopped kept every later one waiting, in all processes."""
    log = MemorySessionStorage().log
    for number in count(1):
        locks = [StoreLock(log, tmp_path), StoreLock(log, tmp_path)]
        if not interrupted_at(number, (file,), lambda: twice(locks[0])):  # noqa: B023 - used at once
            break
        for lock in locks:
            assert ends(lambda: twice(lock)), number  # noqa: B023 - used at once
        assert locks[0].depth == 0
    assert number > 10


def twice(lock: StoreLock) -> None:
    """Hold the lock, and take it again inside."""
    with lock.held(), lock.held():
        pass
