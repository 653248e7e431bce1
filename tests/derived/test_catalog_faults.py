"""Lists, search and figures when what they are answered from is locked, full, damaged or asked odd questions."""

import base64
import json
import multiprocessing
import os
import resource
import signal
import sqlite3
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Collection, Iterator
from contextlib import ExitStack
from itertools import count
from pathlib import Path
from typing import Any

import pytest

from eventstore import FileSystemSessionStorage, MemoryEventLog, SessionManager, SessionStorage
from eventstore.backends.files import change_feed
from eventstore.derived.cache_file import CacheFile
from eventstore.derived.database import Database
from eventstore.events import Event, MessageAdded
from eventstore.store import removed_text
from eventstore.store.rebuild import check_all

CACHES = "catalog.db", "search.db", "analytics.db"


def opened(folder: Path) -> SessionManager:
    return SessionManager(FileSystemSessionStorage(folder / ".sessions", folder / ".history", fsync="no"))


def filled(folder: Path) -> SessionManager:
    manager = opened(folder)
    for n in range(4):
        manager.create_session(f"s{n}", f"purpose {n}", "ana", ["t"])
        manager.add_conversation_message(f"s{n}", "user", f"needle number{n}")
    ask(manager)
    return manager


def ask(manager: SessionManager) -> dict[str, Any]:
    """Put one question of each kind."""
    return {
        "list": sorted(one.session_id for one in manager.page_sessions(limit=None).sessions),
        "purpose": sorted(one.session_id for one in manager.page_sessions(purpose="PURPOSE").sessions),
        "search": sorted(hit.session_id for hit in manager.search("needle", limit=100)),
        "figures": sum(one.messages for one in manager.analytics("day")),
    }


def caches(folder: Path) -> list[Path]:
    return [folder / ".sessions" / "_catalog" / name for name in CACHES]


def change_all(manager: SessionManager) -> None:
    """Do all that has to do with what is derived."""
    manager.create_session("new", "purpose new")
    manager.add_conversation_message("new", "user", "needle new")
    manager.redactions.redact("s0", [2], "why")
    manager.delete_session("s1")
    manager.trash.put("s2")


CHANGED = {"list": ["new", "s0", "s3"], "purpose": ["new", "s0", "s3"], "search": ["new", "s3"], "figures": 2}


@pytest.mark.parametrize("begin", ["BEGIN IMMEDIATE", "BEGIN EXCLUSIVE"])
def test_caches_that_others_hold_locked_hinder_nobody(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, begin: str
) -> None:
    monkeypatch.setattr("eventstore.derived.cache_file.BUSY_SECONDS", 0.02)
    with filled(tmp_path) as manager, ExitStack() as held:
        for path in caches(tmp_path):
            other = sqlite3.connect(path, isolation_level=None)
            held.callback(other.close)
            other.execute(begin)
        manager.create_session("new", "purpose new")
        assert ask(manager)["list"] == ["new", "s0", "s1", "s2", "s3"]
        manager.delete_session("new")
        with opened(tmp_path) as theirs:
            change_all(theirs)
            assert ask(theirs) == CHANGED
        assert ask(manager) == CHANGED
    with opened(tmp_path) as manager:
        assert ask(manager) == CHANGED


def test_a_second_manager_in_one_process_costs_the_first_no_lock(tmp_path: Path) -> None:
    """Who closes a descriptor of a file gives up its locks there, and another process takes its connection for the last."""
    places = tmp_path / ".sessions", tmp_path / ".history"
    script = (
        "import sys; from eventstore import FileSystemSessionStorage as S, SessionManager as M\n"
        "with M(S(*sys.argv[1:])) as manager: manager.page_sessions()"
    )
    with SessionManager(FileSystemSessionStorage(*places)) as manager:
        for number in range(40):
            manager.create_session(f"s{number}", "p")
        manager.page_sessions()
        made = (places[0] / "_catalog" / "catalog.db").stat().st_ino
        for number in range(3):
            with SessionManager(FileSystemSessionStorage(*places)) as second:
                second.page_sessions()
            manager.update_session_metadata("s7", purpose=f"{number}")
            subprocess.run([sys.executable, "-c", script, *places], check=True)
            assert manager.page_sessions(limit=1).sessions[0].purpose == f"{number}"
            with sqlite3.connect(places[0] / "_catalog" / "catalog.db") as base:
                shown = base.execute("SELECT count(*) FROM sessions").fetchone()
            base.close()
            assert shown == (40,)
        assert (places[0] / "_catalog" / "catalog.db").stat().st_ino == made


def test_a_redaction_reads_a_cache_only_while_no_manager_of_this_process_has_it_open(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """To close a second descriptor gave up the locks of the other manager: its process ended with SIGBUS."""
    real, still_open = removed_text._pieces_in, list[Path]()

    def reading(path: Path, pieces: Collection[bytes]) -> set[bytes]:
        mine = {one.resolve() for one in Path("/proc/self/fd").iterdir()}
        still_open.extend({path} if path.resolve() in mine and path in caches(tmp_path) else ())
        return real(path, pieces)

    monkeypatch.setattr(removed_text, "_pieces_in", reading)
    with filled(tmp_path) as manager, opened(tmp_path) as second:
        manager.redactions.redact("s0", [2], "why")
        ask(second)
        manager.redactions.redact("s1", [2], "why")
        assert still_open == []
        assert ask(second) == ask(manager)


def test_a_child_forked_while_a_thread_writes_a_cache_does_not_wait_for_that_thread(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The child has the locks of the parent's transaction in its memory, and nobody there who ends it."""
    manager = filled(tmp_path)
    base, writes, stop = manager.storage.catalog._base, threading.Event(), threading.Event()  # type: ignore[union-attr]

    def write() -> None:
        while not stop.is_set():
            with base.writing() as connection:
                for _ in range(1_000):
                    connection.execute("UPDATE known SET value = value")
                    writes.set()

    thread = threading.Thread(target=write)
    thread.start()
    assert writes.wait(60)
    child = os.fork()
    stop.set()
    if not child:
        status = 1
        try:
            monkeypatch.setattr(Database, "_recover_from", lambda self, error: os._exit(3))
            manager.create_session("child")
            status = 0 if len(manager.page_sessions().sessions) == 5 else 2
        finally:
            os._exit(status)
    thread.join(60)
    assert os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]) == 0
    assert len(manager.page_sessions().sessions) == 5
    manager.close()


def test_with_no_room_for_caches_all_answers_are_right(tmp_path: Path) -> None:
    """With a limit on the size of files, as on a full disk."""
    filled(tmp_path).close()
    child = os.fork()
    if not child:
        status = 1
        try:
            signal.signal(signal.SIGXFSZ, signal.SIG_IGN)
            resource.setrlimit(resource.RLIMIT_FSIZE, (5_000, 5_000))
            manager = opened(tmp_path)
            change_all(manager)
            status = 0 if ask(manager) == CHANGED else 2
        finally:
            os._exit(status)
    assert os.waitpid(child, 0)[1] == 0
    with opened(tmp_path) as manager:
        assert ask(manager) == CHANGED


def encoded(value: object) -> str:
    return base64.urlsafe_b64encode(json.dumps(value).encode()).decode().rstrip("=")


ODD: list[Callable[[SessionManager], object]] = [
    *(
        lambda manager, cursor=cursor: manager.page_sessions(cursor=cursor)
        for cursor in [
            "!!!",
            encoded(5),
            encoded(None),
            encoded([1, 2]),
            encoded("abc"),
            encoded(["updated", {"a": 1}, "s"]),
            encoded(["updated", None, None]),
            encoded(["updated", 10**30, "x"]),
            encoded(["updated", [1], [2]]),
            encoded(["updated", "\ud800", "x"]),
            base64.urlsafe_b64encode(b"[" * 100_000).decode(),
            "\ud800",
            "\u00e9" * 3,
            5,
        ]
    ),
    *(
        lambda manager, wrong=wrong: manager.page_sessions(**wrong)
        for wrong in [
            {"user_id": {}},
            {"user_id": 5},
            {"user_id": "\ud800"},
            {"tags": [5]},
            {"tags": ["\ud800"]},
            {"purpose": "\ud800"},
            {"limit": "x"},
            {"limit": 1.5},
            {"sort": "x;"},
        ]
    ),
    lambda manager: manager.page_sessions(sort="cost", cursor=encoded(["cost", 10**400, "x"])),
    lambda manager: manager.page_sessions(sort="cost", cursor=encoded(["cost", float("inf"), "x"])),
    lambda manager: manager.search(5),  # type: ignore[arg-type]
    lambda manager: manager.search("a* " * 3_000),
    lambda manager: manager.search("a", limit="3"),  # type: ignore[arg-type]
    lambda manager: manager.search("a", role=5),  # type: ignore[arg-type]
    lambda manager: manager.search("a", user_id="\ud800"),
    lambda manager: manager.analytics("day", user_id={}),  # type: ignore[arg-type]
]


@pytest.mark.parametrize("place", range(len(ODD)))
def test_an_odd_question_is_a_value_error_and_costs_nothing(tmp_path: Path, place: int) -> None:
    with filled(tmp_path) as manager:
        inodes = [path.stat().st_ino for path in caches(tmp_path)]
        with pytest.raises(ValueError):  # noqa: PT011 - each has its own words
            ODD[place](manager)
        assert [path.stat().st_ino for path in caches(tmp_path)] == inodes


def test_limits_of_any_size_are_limits(tmp_path: Path) -> None:
    with filled(tmp_path) as manager:
        inodes = [path.stat().st_ino for path in caches(tmp_path)]
        for limit in (sys.maxsize, 2**70, 4):
            assert len(manager.page_sessions(limit=limit).sessions) == 4
            assert len(manager.list_sessions(limit=limit)) == 4
            assert len(manager.search("needle", limit=limit)) == 4
        assert manager.page_sessions(tags=["t", *(f"x{n}" for n in range(40_000))], limit=1).sessions
        assert [path.stat().st_ino for path in caches(tmp_path)] == inodes


@pytest.mark.parametrize(
    ("purpose", "asked"),
    [
        ("\u00c9COLE NUM\u00c9RO", "\u00e9cole num\u00e9ro"),
        ("Stra\u00dfe", "STRASSE"),
        ("\u041f\u0440\u0438\u0432\u0435\u0442", "\u041f\u0420\u0418"),
        ("abc\0def", "\0DEF"),
    ],
)
def test_a_purpose_is_found_in_any_case_of_any_script(manager: SessionManager, purpose: str, asked: str) -> None:
    manager.create_session("s", purpose)
    manager.create_session("t", "something else")
    assert [one.session_id for one in manager.page_sessions(purpose=asked).sessions] == ["s"]
    found = manager.page_sessions(purpose=asked, at="2099-01-01T00:00:00Z")
    assert [one.session_id for one in found.sessions] == ["s"]


@pytest.mark.parametrize("shown", ["null", "5", "{}", "[", '{"session_id": "s1"}', None, b"\xff"])
def test_a_row_that_is_damaged_is_read_from_its_log_again(tmp_path: Path, shown: object) -> None:
    with filled(tmp_path) as manager:
        before = manager.page_sessions().sessions
        base = sqlite3.connect(caches(tmp_path)[0])
        with base:
            base.execute("UPDATE sessions SET shown = ? WHERE session_id = 's1'", (shown,))
        base.close()
        assert manager.page_sessions().sessions == before


@pytest.mark.parametrize(
    ("name", "change"),
    [
        ("catalog.db", "UPDATE sessions SET cost = 5 WHERE session_id = 's1'"),
        ("catalog.db", "DELETE FROM tags WHERE session_id = 's1'"),
        ("search.db", "DELETE FROM said WHERE session_id = 's1'"),
        ("search.db", "UPDATE said SET text = 'other' WHERE session_id = 's1'"),
        ("search.db", "UPDATE sessions SET user = 'bo' WHERE session_id = 's1'"),
        ("analytics.db", "UPDATE facts SET messages = 5 WHERE session_id = 's1'"),
    ],
)
def test_a_check_names_what_is_wrong_in_lists_search_and_figures(tmp_path: Path, name: str, change: str) -> None:
    with filled(tmp_path) as manager:
        assert isinstance(manager.storage, FileSystemSessionStorage)
        assert not any(one.difference for one in check_all(manager.storage, 1))
        base = sqlite3.connect(tmp_path / ".sessions" / "_catalog" / name)
        with base:
            base.execute(change)
        base.close()
        assert any(one.difference for one in check_all(manager.storage, 1))


def test_after_a_redaction_nothing_of_it_is_left_in_any_file(tmp_path: Path) -> None:
    """Neither text nor the names of tools, models and keys."""
    with filled(tmp_path) as manager:
        manager.create_session("x", "about topsecretone")
        manager.add_conversation_message("x", "assistant", "topsecrettwo", "topsecrettool", "i1")
        manager.link_invocation("x", "i1", "topsecrettool", None, 1.0)
        manager.record_usage("x", {"input": 5}, model="topsecretmodel", key="topsecretkey")
        ask(manager)
        manager.analytics("tool")
        for seq in (1, 2, 3, 4):
            manager.redactions.redact("x", [seq], "why")
        ask(manager)
    for path in caches(tmp_path):
        for one in path.parent.glob(f"{path.name}*"):
            assert b"topsecret" not in one.read_bytes(), one


def _work(folder: Path, kind: int, seconds: float, found: Any) -> None:
    manager, until, n = opened(folder), time.monotonic() + seconds, 0
    errors, redacted = list[str](), list[str]()
    while time.monotonic() < until:
        n += 1
        session_id, token = f"s{n % 4}", f"tokq{kind}q{n}q"
        try:
            if kind < 2:
                done = manager.add_conversation_message(session_id, "user", f"{token} words")
                manager.search(token)
                manager.redactions.redact(session_id, [done.first], "why")
                redacted.append(token)
            elif kind == 2:
                manager.search("words")
                manager.add_conversation_message(session_id, "user", "more words")
            else:
                manager.page_sessions(limit=5)
                manager.analytics("day")
                manager.add_conversation_message(session_id, "user", "more")
        except Exception as error:
            errors.append(f"{kind}: {type(error).__name__}: {error}")
    manager.close()
    found.put((errors, redacted))


def test_answers_are_right_whenever_the_files_of_the_caches_are_deleted(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Before each transaction of the questions in turn. A file that is deleted after the update is a new one without rows."""
    real, folder = CacheFile._transaction, tmp_path / ".sessions" / "_catalog"
    monkeypatch.setattr(change_feed, "SETTLING_SECONDS", 0.0)  # a question trusts what the one before it noted,
    monkeypatch.setattr(change_feed, "LOOK_AFTER", 0)  # and compares nothing again
    with filled(tmp_path) as manager:
        wanted = ask(manager)
    for place in count(1):
        transactions = count(1)

        def deleting(self: CacheFile, begin: str, place: int = place, made: Iterator[int] = transactions) -> Any:
            if next(made) == place:
                for one in folder.iterdir():
                    one.unlink()
            return real(self, begin)

        with opened(tmp_path) as manager:
            manager.add_conversation_message("s0", "user", "something new")
            wanted["figures"] += 1
            with monkeypatch.context() as patched:
                patched.setattr(CacheFile, "_transaction", deleting)
                assert ask(manager) == wanted, place
            assert ask(manager) == wanted, place
        with opened(tmp_path) as manager:
            assert ask(manager) == wanted, place
        if next(transactions) <= place:
            break
    assert place > 20


class Contents:
    """The texts of messages as keys."""

    def __init__(self) -> None:
        self.family = set[str]()

    def keys(self, event: Event) -> list[bytes]:
        return [event.content.encode()] if isinstance(event, MessageAdded) else []


def test_lines_are_known_though_their_file_was_deleted_after_it_was_caught_up(tmp_path: Path) -> None:
    """Else an import would take the lines of a resumed transcript as new ones."""
    with filled(tmp_path) as manager:
        known = manager.storage.line_keys
        known.catch_up(Contents)
        asked = [b"needle number1", b"needle number3", b"another"]
        found = known.find(asked)
        assert [one.session_id for places in found.values() for one in places] == ["s1", "s3"]
        for one in (tmp_path / ".sessions" / "_catalog").iterdir():
            one.unlink()
        assert known.find(asked) == found


def test_processes_that_redact_search_and_list_at_once_do_not_hinder_each_other(tmp_path: Path) -> None:
    """No call fails, and nothing of what was redacted is left."""
    filled(tmp_path).close()
    context = multiprocessing.get_context("fork")
    found = context.Queue()
    workers = [context.Process(target=_work, args=(tmp_path, kind, 4.0, found)) for kind in range(4)]
    for one in workers:
        one.start()
    results = [found.get(timeout=100) for _ in workers]
    for one in workers:
        one.join(60)
    assert [error for errors, _ in results for error in errors] == []
    redacted = [token for _, tokens in results for token in tokens]
    assert redacted
    for path in (tmp_path / ".sessions" / "_catalog").iterdir():
        data = path.read_bytes()
        assert not [token for token in redacted if token.encode() in data], path


class CountingLog(MemoryEventLog):
    """Counts the calls of its public methods, as each is a trip to a log that is far away."""

    def __init__(self) -> None:
        super().__init__()
        self.calls: list[str] = []
        self._depth = 0

    def __getattribute__(self, name: str) -> Any:
        found = super().__getattribute__(name)
        if name.startswith("_") or name in ("read", "skim", "lines") or not callable(found):
            return found

        def counted(*values: Any, **named: Any) -> Any:
            if not self._depth:
                self.calls.append(name)
            self._depth += 1
            try:
                return found(*values, **named)
            finally:
                self._depth -= 1

        return counted


def test_a_list_with_nothing_changed_asks_the_log_once() -> None:
    log = CountingLog()
    manager = SessionManager(SessionStorage(log))
    for n in range(50):
        manager.create_session(f"s{n}")
    for work in (
        lambda: manager.page_sessions(limit=10),
        lambda: manager.search("x"),
        lambda: manager.analytics("day"),
    ):
        work()
        log.calls.clear()
        work()
        assert log.calls == ["changed"]
