"""Following: what was, then what comes, of one session or of all; cursors that survive; what is an error and what is not."""

import asyncio
import shutil
import subprocess
import sys
import threading
import time
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from contextlib import suppress
from pathlib import Path
from typing import Any

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from eventstore import (
    AsyncSessionManager,
    Delivered,
    FileSystemSessionStorage,
    LogDamaged,
    MemorySessionStorage,
    SessionExists,
    SessionManager,
    SessionNotFound,
    SessionStorage,
    Subscription,
)
from eventstore.errors import CursorRefused, LogRolledBack
from eventstore.events import UsageRecorded
from eventstore.log.contract import said

ROOT = Path(__file__).parents[2]
Key = tuple[str, int, str]


def key(one: Delivered) -> Key:
    return one.session_id, one.event.seq, one.event.hash


def seqs(found: Subscription | list[Delivered]) -> list[int]:
    return [one.event.seq for one in found]


def rest(manager: SessionManager, session_id: str | None = None, after: Any = None, **options: Any) -> list[Delivered]:
    """All that there is, without waiting for more."""
    with manager.follow(session_id, after, live=False, **options) as follower:
        return list(follower)


def take(follower: Subscription, count: int) -> list[Delivered]:
    """So many events, waiting for them."""
    return [next(follower) for _ in range(count)]


def say(manager: SessionManager, session_id: str, *texts: str) -> None:
    manager.storage.append(session_id, [said(text) for text in texts])


def log_path(files: FileSystemSessionStorage, session_id: str) -> Path:
    return files.sessions_dir / session_id / "events.jsonl"


def in_another_process(files: FileSystemSessionStorage, code: str) -> None:
    begin = (
        "from eventstore import FileSystemSessionStorage, SessionManager\n"
        f"m = SessionManager(FileSystemSessionStorage({str(files.sessions_dir)!r}, {str(files.history_dir)!r}))\n"
    )
    subprocess.run([sys.executable, "-c", begin + code + "\nm.close()"], check=True, cwd=ROOT, timeout=60)


# --- catching up, then live


def test_what_was_comes_first_then_what_comes(manager: SessionManager) -> None:
    manager.create_session("s")
    say(manager, "s", "a", "b")
    with manager.follow("s") as follower:
        assert seqs(take(follower, 3)) == [1, 2, 3]
        say(manager, "s", "c")
        assert [one.event.content for one in take(follower, 1)] == ["c"]  # type: ignore[union-attr]


@pytest.mark.parametrize("session_id", ["s", None])
def test_nothing_is_lost_or_repeated_while_threads_append(manager: SessionManager, session_id: str | None) -> None:
    manager.create_session("s")
    manager.create_session("t")

    def write(writer: int) -> None:
        for n in range(40):
            say(manager, "st"[writer % 2], f"{writer}.{n}", f"{writer}.{n}+")

    with ThreadPoolExecutor(4) as pool, manager.follow(session_id) as follower:
        writing = [pool.submit(write, writer) for writer in range(4)]
        found = take(follower, 161 if session_id else 322)
        for one in writing:
            one.result()
    for name in {one.session_id for one in found}:
        mine = [one.event for one in found if one.session_id == name]
        assert mine == list(manager.events(name))
    assert {one.session_id for one in found} == ({"s"} if session_id else {"s", "t"})


def test_a_batch_comes_as_a_whole(manager: SessionManager) -> None:
    manager.create_session("s")
    say(manager, "s", *("x" * 900 for _ in range(500)))
    with manager.follow("s") as follower:
        found: list[Delivered] = []
        while len(found) < 501:
            found += follower.take()
            batch = found[-1].event.batch
            assert batch is None or batch[0] + 1 == batch[1]
    assert seqs(found) == list(range(1, 502))


def test_a_fork_s_past_comes_with_its_parent_when_all_are_followed(manager: SessionManager) -> None:
    manager.create_session("s")
    say(manager, "s", "a", "b")
    manager.fork_session("s", 1, "f")
    assert sorted(key(one)[:2] for one in rest(manager)) == [("f", 2), ("s", 1), ("s", 2), ("s", 3)]
    assert seqs(rest(manager, "f")) == [1, 2]


def test_a_session_that_is_not_there_is_an_error_but_an_empty_store_is_none(manager: SessionManager) -> None:
    with pytest.raises(SessionNotFound):
        manager.follow("s")
    with manager.follow() as follower, ThreadPoolExecutor(1) as pool:
        first = pool.submit(take, follower, 2)
        manager.create_session("s")
        say(manager, "s", "a")
        assert seqs(first.result(30)) == [1, 2]


def test_a_follower_of_all_sees_sessions_come_and_go(manager: SessionManager) -> None:
    with manager.follow() as follower:
        for n in range(20):
            manager.create_session(f"s{n}")
            assert [one.session_id for one in take(follower, 1)] == [f"s{n}"]
        manager.fork_session("s1", new_id="f")
        assert key(next(follower))[:2] == ("f", 2)
        manager.delete_session("s1")
        manager.trash.put("s2")
        manager.trash.restore("s2")
        say(manager, "s2", "a")
        assert key(next(follower))[:2] == ("s2", 2)
        manager.create_session("s1")
        assert key(next(follower))[:2] == ("s1", 1)


def test_the_first_session_of_a_store_and_those_of_other_processes_are_seen(files: FileSystemSessionStorage) -> None:
    manager = SessionManager(files)
    code = "for n in range(30):\n m.create_session(f'{x}{n}'); m.set_data(f'{x}{n}', 'k', 1)\n"
    with manager.follow() as follower:
        for x in "ab":
            in_another_process(files, f"x = {x!r}\n{code}")
            found = take(follower, 60)
            assert sorted(key(one)[:2] for one in found) == sorted((f"{x}{n}", k) for n in range(30) for k in (1, 2))


def test_one_session_is_followed_into_its_next_life(manager: SessionManager) -> None:
    manager.create_session("s")
    say(manager, "s", "a")
    with manager.follow("s") as follower:
        take(follower, 2)
        manager.delete_session("s")
        manager.create_session("s")
        (again,) = take(follower, 1)
        assert again.event.seq == 1
        manager.trash.put("s")
        manager.trash.restore("s")
        say(manager, "s", "b")
        assert seqs(take(follower, 1)) == [2]


# --- narrowing down


def test_only_what_is_asked_for_comes(manager: SessionManager) -> None:
    manager.create_session("s", user_id="ann", tags=["x", "y"])
    with manager.invocation("s", "grep"):
        pass
    manager.create_session("t", user_id="bob", tags=["z"])
    say(manager, "t", "a")

    def found(**options: Any) -> list[tuple[str, int]]:
        return sorted(key(one)[:2] for one in rest(manager, **options))

    everything = found()
    assert found(types=["session.created"]) == [("s", 1), ("t", 1)]
    assert found(tools=["grep"]) == [("s", 2), ("s", 3)]
    assert found(user_id="ann") == [one for one in everything if one[0] == "s"]
    assert found(tags=["z", "nope"]) == [("t", 1), ("t", 2)]
    assert found(types=["message.added"], tags=["x"]) == []
    last = rest(manager, "t")[-1].event.at
    assert found(since=last) == [("t", 2)]
    assert found(since="2999-01-01T00:00:00Z") == []
    for wrong in ({"types": "message.added"}, {"tags": "x"}, {"tools": "grep"}):
        with pytest.raises(ValueError, match="is not a list"):
            manager.follow(**wrong)  # type: ignore[arg-type]
    with pytest.raises(ValueError, match="types holds the class UsageRecorded, not only texts"):
        manager.follow(types=[UsageRecorded])  # type: ignore[list-item]


def test_a_session_is_judged_by_what_it_is_now(manager: SessionManager) -> None:
    manager.create_session("s", tags=["old"])
    with manager.follow(tags=["new"]) as follower:
        say(manager, "s", "a")
        manager.update_session_metadata("s", tags=["new"])
        say(manager, "s", "b")
        while next(follower).event.seq != 4:
            pass


def test_a_cursor_goes_on_behind_what_was_left_out(manager: SessionManager) -> None:
    manager.create_session("s")
    manager.create_session("t")
    for n in range(9):
        say(manager, "st"[n % 2], str(n))
    found = rest(manager, types=["session.created"])
    assert len(found) == 2
    assert rest(manager, after=found[1].cursor, types=["session.created"]) == []


# --- cursors


def test_every_cursor_of_one_session_goes_on_behind_its_event(manager: SessionManager) -> None:
    manager.create_session("s")
    say(manager, "s", "a", "b", "c")
    say(manager, "s", "d")
    manager.fork_session("s", 5, "f")
    say(manager, "f", "e")
    for name in ("s", "f"):
        everything = rest(manager, name)
        for place, one in enumerate(everything, 1):
            assert [key(other) for other in rest(manager, name, one.cursor)] == [
                key(other) for other in everything[place:]
            ]
            assert seqs(rest(manager, name, one.event.seq)) == seqs(everything[place:])
            assert len(one.cursor) < 90
        assert seqs(rest(manager, name, 0)) == seqs(everything)


def test_a_cursor_survives_the_fork_being_made_whole(manager: SessionManager) -> None:
    manager.create_session("s")
    say(manager, "s", "a", "b")
    manager.fork_session("s", 3, "f")
    say(manager, "f", "c")
    ones, everything = rest(manager, "f"), rest(manager)
    behind_all = everything[-1].cursor
    manager.delete_session("s")
    for one in ones:
        assert seqs(rest(manager, "f", one.cursor)) == list(range(one.event.seq + 1, 6))
    assert rest(manager, after=behind_all) == []


class History:
    """A store to which random things happen, and what each session was given of its own."""

    def __init__(self, storage: SessionStorage) -> None:
        self.manager, self.own = SessionManager(storage), set[Key]()

    def do(self, what: str, name: str, other: str, count: int) -> None:
        manager = self.manager
        before = manager.head(name).version if manager.storage.session_exists(name) else 0
        with suppress(SessionExists, SessionNotFound):
            if what == "create":
                manager.create_session(name)
            elif what == "append":
                manager.storage.append(name, [said("x") for _ in range(count)])
            elif what == "fork":
                manager.fork_session(other, new_id=name)
                before = manager.head(name).version - 1
                # a fork of what was made of an older session with this id inherits what was that one's own
                self.own = {one for one in self.own if one[0] != name or one[1] > before}
            elif what == "delete":
                manager.delete_session(name)
            elif what == "trash":
                manager.trash.put(name)
            elif what == "restore":
                manager.trash.restore(name)
            if what in ("create", "append", "fork"):
                self.own |= {(name, event.seq, event.hash) for event in manager.events(name, before)}

    def there(self) -> set[Key]:
        names = self.manager.storage.log.ids()
        return {(name, one.seq, one.hash) for name in names for one in self.manager.events(name)} & self.own

    def given(self, found: list[Delivered]) -> list[Key]:
        return [key(one) for one in found if key(one) in self.own]


NAMES = st.sampled_from("abcd")
WORDS = st.sampled_from(
    ["create", "create", "append", "append", "append", "fork", "fork", "delete", "trash", "restore"]
)
STEPS = st.lists(st.tuples(WORDS, NAMES, NAMES, st.integers(1, 3)), max_size=14)


@pytest.mark.parametrize("limits", [(8, 800, 4096), (1, 4, 9), (0, 2, 5)])
@pytest.mark.parametrize("kind", ["memory", "filesystem"])
@settings(suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(first=STEPS, then=STEPS)
def test_every_cursor_of_all_sessions_goes_on_exactly_behind_its_event(
    kind: str,
    limits: tuple[int, int, int],
    first: list[Any],
    then: list[Any],
    tmp_path_factory: pytest.TempPathFactory,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """Also where cursors name few sessions, and journals have few lines: each then needs several journals."""
    for name, limit in zip(("SHORT", "_FULL_LINES", "_CHAIN_LINES"), limits, strict=True):
        monkeypatch.setattr(f"eventstore.subscriptions.journal.{name}", limit)
    folder = tmp_path_factory.mktemp("s")
    made = MemorySessionStorage() if kind == "memory" else FileSystemSessionStorage(folder, folder / "h", fsync="no")
    with made as storage:
        history = History(storage)
        manager = history.manager
        for step in first:
            history.do(*step)
        with manager.follow() as live:
            everything = rest(manager)
            assert sorted(history.given(everything)) == sorted(history.there())
            seen = [next(live) for _ in everything]
            cursors = [one.cursor for one in everything]
            for place, cursor in enumerate(cursors, 1):
                assert sorted(map(key, rest(manager, after=cursor))) == sorted(map(key, everything[place:]))
            for step in then:
                history.do(*step)
            there = history.there()
            for place, cursor in enumerate(cursors, 1):
                found = history.given(rest(manager, after=cursor))
                assert sorted(found) == sorted(there - {key(one) for one in everything[:place]})
            new = there - {key(one) for one in seen}
            while new:
                new.discard(key(next(live)))
    shutil.rmtree(folder)


def test_cursors_are_taken_late_and_after_the_end(manager: SessionManager) -> None:
    for name in "abc":
        manager.create_session(name)
        say(manager, name, "x")
    with manager.follow(live=False) as follower:
        found = list(follower)
    for place, one in enumerate(found, 1):
        assert sorted(map(key, rest(manager, after=one.cursor))) == sorted(map(key, found[place:]))
    with manager.follow(live=False) as follower:
        early = next(follower)
        assert early.cursor
        late = list(follower)
    assert rest(manager, after=late[-1].cursor) == []


def test_what_is_no_cursor_is_refused(manager: SessionManager) -> None:
    for name in "st":
        manager.create_session(name)
    one, every = rest(manager, "s")[0].cursor, rest(manager)[0].cursor
    other = rest(manager, "t")[0].cursor
    for session_id, after in (
        ("s", "nonsense"), ("s", ""), ("s", every), (None, one), ("s", other), (None, 1), ("s", 2), ("s", -1),
        (None, every[:-1]), ("s", one.replace("1:s", "1:../s")),
    ):  # fmt: skip
        with pytest.raises(CursorRefused, match="nothing was read"):
            manager.follow(session_id, after)


# --- cursors with names


@pytest.mark.parametrize("session_id", ["s", None])
def test_a_named_follower_goes_on_where_it_was(manager: SessionManager, session_id: str | None) -> None:
    manager.create_session("s")
    say(manager, "s", "a", "b")
    assert seqs(rest(manager, session_id, name="n")) == [1, 2, 3]
    assert rest(manager, session_id, name="n") == []
    say(manager, "s", "c")
    assert seqs(rest(manager, session_id, name="n")) == [4]
    assert seqs(rest(manager, session_id, name="other")) == [1, 2, 3, 4]
    with pytest.raises(CursorRefused, match="name of a position"):
        manager.follow(session_id, name="../n")


def test_a_named_follower_that_saw_nothing_keeps_where_it_began(manager: SessionManager) -> None:
    for name in ("one", "two"):
        manager.create_session(name)
        say(manager, name, "old")
    assert rest(manager, None, "now", name="n") == []
    assert rest(manager, name="n") == []
    with manager.follow(None, "now", name="m") as follower:
        began = follower.cursor
        manager.create_session("three")
        say(manager, "one", "new")
        assert sorted(key(one)[:2] for one in take(follower, 2)) == [("one", 3), ("three", 1)]
        assert follower.cursor != began
    new = [("one", 3), ("three", 1)]
    assert sorted(key(one)[:2] for one in rest(manager, name="n")) == new
    assert rest(manager, name="n") == []
    assert sorted(key(one)[:2] for one in rest(manager, after=began)) == new
    assert sorted(key(one)[:2] for one in rest(manager, name="m")) in ([], new[:1], new[1:])
    assert rest(manager, "one", "now", name="o") == []
    say(manager, "one", "newer")
    assert seqs(rest(manager, "one", name="o")) == [4]
    with manager.follow("one", live=False) as follower:
        assert seqs(rest(manager, "one", follower.cursor)) == [1, 2, 3, 4]


def test_the_time_a_named_follower_began_with_is_kept(manager: SessionManager) -> None:
    manager.create_session("one")
    manager.create_session("two")
    say(manager, "two", "a")
    since = manager.head("two").at
    say(manager, "two", "b")
    assert rest(manager, name="n", since=since, types=["our.own"]) == []
    manager.create_session("three")
    assert sorted(key(one)[:2] for one in rest(manager, name="n")) == [("three", 1), ("two", 2), ("two", 3)]
    assert rest(manager, name="n") == []
    assert rest(manager, "two", name="t", since=since, types=["our.own"]) == []
    assert seqs(rest(manager, "two", name="t")) == [2, 3]


def test_what_a_time_left_out_stays_left_out_behind_a_cursor(manager: SessionManager) -> None:
    manager.create_session("one")
    rest(manager, name="n")
    manager.create_session("two")
    say(manager, "one", "a")
    since = manager.head("one").at
    assert [key(one)[:2] for one in rest(manager, name="n", since=since)] == [("one", 2)]
    assert rest(manager, name="n") == []


def test_what_was_not_dealt_with_comes_again(manager: SessionManager) -> None:
    manager.create_session("s")
    say(manager, "s", "a", "b", "c")
    with suppress(KeyError), manager.follow("s", name="n") as follower:
        for one in follower:
            if one.event.seq == 3:
                raise KeyError
    assert seqs(rest(manager, "s", name="n"))[0] == 3
    with manager.follow("s", name="m", live=False) as follower:
        assert seqs(follower.take()) == [1, 2, 3, 4]
    with manager.follow("s", name="m", live=False) as follower:
        found = follower.take()
        assert seqs(found) == [1, 2, 3, 4]
        follower.mark_done(found[1])
    assert seqs(rest(manager, "s", name="m")) == [3, 4]


def test_a_named_cursor_that_is_broken_is_refused(files: FileSystemSessionStorage) -> None:
    manager = SessionManager(files)
    manager.create_session("s")
    rest(manager, "s", name="n")
    path = files.sessions_dir / "_cursors" / "n.cursor"
    assert path.read_text().startswith("1:s:1:")
    for wrong in (b"", b"nonsense", b"\xff"):
        path.write_bytes(wrong)
        with pytest.raises(CursorRefused):
            manager.follow("s", name="n")


# --- logs that are not what they were


@pytest.fixture
def rolled_back(files: FileSystemSessionStorage) -> Callable[[], None]:
    """A session of five events, and a way to put its older self in its place."""
    manager = SessionManager(files)
    manager.create_session("s")
    manager.create_session("t")
    say(manager, "s", "a")
    path = log_path(files, "s")
    older = path.read_bytes()
    say(manager, "s", "b", "c", "d")

    def back() -> None:
        new = path.with_suffix(".new")
        new.write_bytes(older)
        new.replace(path)

    return back


def test_a_log_that_was_rolled_back_is_an_error(
    files: FileSystemSessionStorage, rolled_back: Callable[[], None]
) -> None:
    manager = SessionManager(files)
    one, every = rest(manager, "s")[-1].cursor, rest(manager)[-1].cursor
    with manager.follow("s") as live, manager.follow() as live_of_all:
        take(live, 5)
        take(live_of_all, 6)
        rolled_back()
        for follower in (live, live_of_all):
            with pytest.raises(LogRolledBack, match="'s'"):
                next(follower)
        say(manager, "t", "on")
        assert key(next(live_of_all))[:2] == ("t", 2)
    for session_id, cursor in (("s", one), (None, every)):
        with pytest.raises(LogRolledBack, match="event 5"):
            rest(manager, session_id, cursor)
    with manager.follow(after=every, live=False) as follower:
        with pytest.raises(LogRolledBack):
            next(follower)
        assert [key(one)[:2] for one in follower] == [("t", 2)]


def test_a_log_that_is_gone_is_an_error_unless_it_was_deleted(files: FileSystemSessionStorage) -> None:
    manager = SessionManager(files)
    for name in "abc":
        manager.create_session(name)
    cursor = rest(manager)[-1].cursor
    with manager.follow() as live:
        take(live, 3)
        manager.delete_session("a")
        manager.trash.put("b")
        say(manager, "c", "x")
        assert key(next(live))[:2] == ("c", 2)
        (files.sessions_dir / "c").rename(files.sessions_dir / ".elsewhere")
        with pytest.raises(LogRolledBack, match=r"'c'.* is missing"):
            next(live)
    with pytest.raises(LogRolledBack, match=r"'c'.* is missing"):
        rest(manager, after=cursor)


def test_a_damaged_session_is_told_of_and_the_others_go_on(files: FileSystemSessionStorage) -> None:
    manager = SessionManager(files)
    for name in "ab":
        manager.create_session(name)
        for text in "xyz":
            say(manager, name, text)
    path = log_path(files, "a")
    path.write_bytes(path.read_bytes().replace(b'"content":"y"', b'"content":"Y"'))
    damaged: list[LogDamaged] = []
    found = rest(manager, on_damage=damaged.append)
    assert sorted(key(one)[:2] for one in found) == [("a", 1), ("a", 2), ("b", 1), ("b", 2), ("b", 3), ("b", 4)]
    assert [(one.session_id, one.line) for one in damaged] == [("a", 3)]
    with manager.follow("a") as follower:
        take(follower, 2)
        with pytest.raises(LogDamaged, match="line 3"):
            next(follower)
    for options in ({"user_id": "u"}, {"tags": ["t"]}):
        damaged.clear()
        assert rest(manager, on_damage=damaged.append, **options) == []
        assert len(damaged) == 1


def test_a_torn_tail_is_waited_for(files: FileSystemSessionStorage) -> None:
    manager = SessionManager(files)
    manager.create_session("s")
    say(manager, "s", "a", "b")
    path = log_path(files, "s")
    data = path.read_bytes()
    path.write_bytes(data[:-5])
    with manager.follow("s") as follower, manager.follow() as of_all, ThreadPoolExecutor(2) as pool:
        for one in (follower, of_all):
            assert seqs(take(one, 1)) == [1]
        waiting = [pool.submit(take, one, 2) for one in (follower, of_all)]
        with path.open("r+b") as stream:
            stream.seek(len(data) - 5)
            stream.write(data[-5:])
        for found in waiting:
            assert seqs(found.result(30)) == [2, 3]


# --- ending


@pytest.mark.parametrize("how", ["stop", "close"])
@pytest.mark.parametrize("session_id", ["s", None])
def test_it_ends_at_once_when_another_thread_says_so(manager: SessionManager, session_id: str | None, how: str) -> None:
    manager.create_session("s")
    with manager.follow(session_id, name="n") as follower, ThreadPoolExecutor(1) as pool:
        reached = threading.Event()

        def follow() -> list[int]:
            found = []
            for one in follower:
                found.append(one.event.seq)
                reached.set()
            return found

        ended = pool.submit(follow)
        assert reached.wait(60)
        getattr(follower, how)()
        assert ended.result(1.5) == [1]
        assert list(follower) == []


def descriptors() -> int:
    folder = Path("/proc/self/fd")
    return len(list(folder.iterdir())) if folder.is_dir() else 0


def test_ends_leave_no_threads_and_no_files_open(files: FileSystemSessionStorage) -> None:
    manager = SessionManager(files)
    manager.create_session("s")

    def use() -> None:
        with manager.follow() as follower, manager.follow("s") as other:
            assert next(follower).cursor
            assert next(other).cursor

    use()
    threads = set(threading.enumerate())
    before = descriptors()
    for _ in range(5):
        use()
    assert not {one for one in threading.enumerate() if one.name == "eventstore-watch"} - threads
    until = time.monotonic() + 60
    while descriptors() > before:  # watchfiles lets go of its own a little later
        assert time.monotonic() < until


# --- asyncio


def test_it_is_followed_asynchronously(manager: SessionManager) -> None:
    async def main() -> None:
        async with AsyncSessionManager(manager) as twin:
            await twin.create_session("s")
            found: list[Delivered] = []
            following = twin.follow("s", name="n")
            async for one in following:
                found.append(one)
                if len(found) == 20:
                    break
                await twin.add_conversation_message("s", "user", "x")
            await following.aclose()  # type: ignore[attr-defined]
            assert seqs(found) == list(range(1, 21))
            again = [one.event.seq async for one in twin.follow("s", found[9].cursor, live=False)]
            assert again == list(range(11, 21))
            with pytest.raises(SessionNotFound):
                _ = [one async for one in twin.follow("nope")]

    asyncio.run(asyncio.wait_for(main(), 60))
    assert seqs(rest(manager, "s", name="n"))[-1:] == [20]


def test_a_follower_that_waits_is_cancelled(manager: SessionManager) -> None:
    manager.create_session("s")

    async def main() -> None:
        twin = AsyncSessionManager(manager)
        seen = asyncio.Event()

        async def follow() -> None:
            async for _ in twin.follow():
                seen.set()

        task = asyncio.create_task(follow())
        await seen.wait()
        task.cancel()
        with pytest.raises(asyncio.CancelledError):
            await task

    asyncio.run(asyncio.wait_for(main(), 60))
