"""Watches: one thread a root for all followers, and looking where the system reports nothing."""

import os
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import ExitStack
from pathlib import Path
from typing import Any

import pytest
import watchfiles

from eventstore import FileSystemSessionStorage, SessionManager, Subscription


@pytest.fixture
def manager(files: FileSystemSessionStorage) -> SessionManager:
    return SessionManager(files)


def threads() -> int:
    return sum(one.name == "eventstore-watch" for one in threading.enumerate())


def inotify_instances() -> int:
    found = 0
    for one in Path("/proc/self/fd").iterdir():
        try:
            found += str(one.readlink()) == "anon_inode:inotify"
        except FileNotFoundError:
            continue
    return found


def wait_until(condition: Callable[[], bool]) -> None:
    limit = time.monotonic() + 60
    while not condition():
        assert time.monotonic() < limit
        threading.Event().wait(0.01)


def next_seq(follower: Subscription) -> int:
    return next(follower).event.seq


def test_all_followers_of_a_store_share_one_thread_and_one_watch_of_the_system(manager: SessionManager) -> None:
    before = inotify_instances()
    manager.create_session("s")
    manager.create_session("t")
    with ExitStack() as stack:
        followers = [stack.enter_context(manager.follow(one, "now")) for one in ("s", "t", None) * 5]
        wait_until(lambda: inotify_instances() == before + 1)
        assert threads() == 1
        manager.set_data("s", "k", 1)
        manager.set_data("t", "k", 1)
        assert [next_seq(one) for one in followers] == [2] * 15
    assert threads() == 0
    wait_until(lambda: inotify_instances() == before)


def test_those_who_stay_are_served_when_others_leave(manager: SessionManager) -> None:
    manager.create_session("s")
    manager.create_session("t")
    with manager.follow("s", "now") as stays:
        with manager.follow(None, "now"), manager.follow("t", "now"):
            manager.set_data("s", "k", 1)
            assert next_seq(stays) == 2
        manager.set_data("s", "k", 2)
        assert next_seq(stays) == 3
        assert threads() == 1


@pytest.mark.parametrize("session_id", ["s", None])
def test_a_follower_looks_by_itself_where_the_system_has_no_watch_left(
    manager: SessionManager, session_id: str | None, monkeypatch: pytest.MonkeyPatch
) -> None:
    tried = threading.Event()

    def refuse(*_: Any, **__: Any) -> Iterator[set[Any]]:
        tried.set()
        raise watchfiles._rust_notify.WatchfilesRustInternalError("Too many open files (os error 24)")

    monkeypatch.setattr(watchfiles, "watch", refuse)
    manager.create_session("s")
    with manager.follow(session_id, "now") as follower:
        assert tried.wait(60)
        for number in range(3):
            manager.set_data("s", "k", number)
            assert next_seq(follower) == number + 2
        assert threads() == 1
    assert threads() == 0


def test_a_follower_in_a_child_process_has_a_thread_of_its_own(manager: SessionManager) -> None:
    manager.create_session("s")
    with manager.follow("s", "now") as follower:
        child = os.fork()
        if child == 0:
            status = 1
            try:
                with manager.follow("s", 0) as mine:
                    status = 0 if next_seq(mine) == 1 and threads() == 1 else 2
            finally:
                os._exit(status)
        assert os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]) == 0
        manager.set_data("s", "k", 1)
        assert next_seq(follower) == 2
