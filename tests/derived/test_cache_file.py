"""The files of caches: who opens, closes, deletes and reads them beside others."""

import fcntl
import os
import sqlite3
import subprocess
import sys
import threading
from itertools import count
from operator import methodcaller
from pathlib import Path
from typing import Any

import pytest
from interrupting import interrupted_at

from eventstore import FileSystemSessionStorage, SessionManager
from eventstore.derived.cache_file import _alone
from eventstore.derived.database import Database
from eventstore.log import locking


def opened(folder: Path) -> SessionManager:
    return SessionManager(FileSystemSessionStorage(folder / ".sessions", folder / ".history"))


@pytest.fixture
def manager(tmp_path: Path) -> SessionManager:
    made = opened(tmp_path)
    for number in range(3):
        made.create_session(f"s{number}", "a purpose")
    assert listed(made) == ["s0", "s1", "s2"]
    return made


def listed(manager: SessionManager) -> list[str]:
    return sorted(one.session_id for one in manager.page_sessions().sessions)


def catalog(folder: Path) -> Path:
    return folder / ".sessions" / "_catalog" / "catalog.db"


def base_of(manager: SessionManager) -> Database:
    return manager.storage.catalog._base  # type: ignore[union-attr]


def test_no_process_opens_or_closes_a_cache_while_another_one_deletes_it(
    manager: SessionManager, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Between the file and its WAL a new file was made, whose WAL was deleted: it was damaged."""
    unlink, connect, steps = Path.unlink, sqlite3.connect, list[tuple[str, bool]]()

    def is_locked() -> bool:
        descriptor = os.open(catalog(tmp_path).parent, os.O_RDONLY)
        try:
            fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            return True
        finally:
            os.close(descriptor)
        return False

    class Connection(sqlite3.Connection):
        def close(self) -> None:
            steps.append(("close", is_locked()))
            super().close()

    def unlinking(path: Path, missing_ok: bool = False) -> None:
        steps.append(("delete", is_locked()))
        unlink(path, missing_ok)

    def connecting(*args: Any, **options: Any) -> sqlite3.Connection:
        steps.append(("open", is_locked()))
        return connect(*args, **options, factory=Connection)

    monkeypatch.setattr(Path, "unlink", unlinking)
    monkeypatch.setattr(sqlite3, "connect", connecting)
    base_of(manager).clear()
    assert listed(manager) == ["s0", "s1", "s2"]
    manager.close()
    assert {*steps} == {("delete", True), ("open", True), ("close", True)}


def test_a_process_that_stops_with_the_lock_hinders_nobody(
    manager: SessionManager, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("eventstore.derived.cache_file.BUSY_SECONDS", 0.02)
    descriptor = os.open(catalog(tmp_path).parent, os.O_RDONLY)
    fcntl.flock(descriptor, fcntl.LOCK_EX)
    base_of(manager).clear()
    assert not catalog(tmp_path).exists()
    assert listed(manager) == ["s0", "s1", "s2"]
    manager.close()
    os.close(descriptor)


def test_who_finds_a_damaged_cache_leaves_the_new_one_that_another_made(
    manager: SessionManager, tmp_path: Path
) -> None:
    """Each program that had the old file open deleted the new one again."""
    for end in ("", "-wal", "-shm"):
        Path(f"{catalog(tmp_path)}{end}").unlink()
    with opened(tmp_path) as second:
        listed(second)
        made = catalog(tmp_path).stat().st_ino
        base_of(manager)._recover_from(sqlite3.DatabaseError("database disk image is malformed"))
        assert catalog(tmp_path).stat().st_ino == made
        assert listed(manager) == listed(second)


@pytest.mark.parametrize("change", ["clear", "forget"])
def test_a_check_beside_a_redaction_of_another_program_accuses_no_session(
    manager: SessionManager, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, change: str
) -> None:
    """Rows that the other one deleted after the update were missing in the comparison."""
    real, seen = Database.catch_up, set[str]()
    second = opened(tmp_path)

    def catching_up(base: Database, *args: Any) -> bool:
        done = real(base, *args)
        if base._folder is not None and base._name not in seen:
            seen.add(base._name)
            if change == "clear":
                second.storage.clear_caches()
            else:
                second.storage.forget_found(["s1"])
        return done

    monkeypatch.setattr(Database, "catch_up", catching_up)
    assert list(manager.storage.check_caches()) == []
    assert {"catalog.db", "search.db", "analytics.db"} <= seen
    manager.close()
    second.close()


def test_a_check_ends_beside_a_program_that_deletes_rows_all_the_time(
    manager: SessionManager, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    real, second = Database.catch_up, opened(tmp_path)

    def catching_up(base: Database, *args: Any) -> bool:
        done = real(base, *args)
        second.storage.forget_found(["s1"])
        return done

    monkeypatch.setattr(Database, "catch_up", catching_up)
    assert list(manager.storage.check_caches()) == []
    manager.close()
    second.close()


def test_a_child_has_locks_of_its_own_though_a_thread_refers_to_the_parents_connection(
    manager: SessionManager, tmp_path: Path
) -> None:
    """SQLite took the locks of the parent for those of the child. Others cut off what the child had mapped: SIGBUS."""
    refers, ends = threading.Event(), threading.Event()

    def keep() -> None:
        with base_of(manager).reading() as connection:
            connection.execute("SELECT 1").fetchone()
        refers.set()
        ends.wait(60)
        del connection

    thread = threading.Thread(target=keep)
    thread.start()
    assert refers.wait(60)
    child = os.fork()
    if not child:
        status = 1
        try:
            assert listed(manager) == ["s0", "s1", "s2"]
            files = {Path(f"{catalog(tmp_path)}{end}").stat().st_ino for end in ("", "-shm")}
            locks = [line.split() for line in Path("/proc/locks").read_text().splitlines()]
            mine = {int(one[5].rpartition(":")[2]) for one in locks if one[1] == "POSIX" and one[4] == str(os.getpid())}
            status = 0 if files <= mine else 2
        finally:
            os._exit(status)
    ends.set()
    thread.join(60)
    assert os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]) == 0
    manager.close()


class Noting:
    """A lock that tells when somebody wants it for a limited time."""

    def __init__(self, wanted: threading.Event) -> None:
        self.lock, self._wanted = threading.Lock(), wanted

    def acquire(self, *, timeout: float) -> bool:
        self._wanted.set()
        return self.lock.acquire(timeout=timeout)

    def release(self) -> None:
        self.lock.release()


def test_locks_are_taken_together_beside_a_thread_that_waits_for_one_while_it_holds_another(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(locking, "_try", methodcaller("acquire", timeout=0.01))
    wanted = threading.Event()
    locks, pair, added = locking.Locks(), [Noting(wanted), Noting(wanted)], threading.Lock()
    for one in pair:
        locks.add(one)
    for first, second in (pair, pair[::-1]):
        holds = threading.Event()
        wanted.clear()

        def work(first: Noting = first, second: Noting = second, holds: threading.Event = holds) -> None:
            with first.lock:
                holds.set()
                assert wanted.wait(60)
                locks.add(added)
                with second.lock:
                    pass

        thread = threading.Thread(target=work, daemon=True)
        thread.start()
        assert holds.wait(60)
        with locks.taken():
            assert all(lock.locked() for lock in (pair[0].lock, pair[1].lock, added))
        thread.join(60)
        assert not thread.is_alive()


_INTERRUPTED = """
import os, random, signal, sys, threading
from eventstore.log import locking

chance, locks, is_armed = random.Random(1), [threading.RLock() for _ in range(6)], False
for lock in locks:
    locking.hold_while_forking(lock)


def interrupt(*_):
    if is_armed:
        raise KeyboardInterrupt


def fork():
    child = os.fork()
    if not child:
        os._exit(0)
    os.waitpid(child, 0)


def take():
    with locking._held.taken():
        pass


def look():
    for lock in [*locks, locking._held._adding]:
        if not lock.acquire(timeout=5):
            os._exit(3)
        lock.release()


signal.signal(signal.SIGALRM, interrupt)
sys.unraisablehook = lambda _: None  # what a hook of a fork raises
for _ in range(int(sys.argv[2])):
    is_armed = True
    try:
        signal.setitimer(signal.ITIMER_REAL, chance.random() * (1e-4 if sys.argv[1] == "take" else 2e-3) + 1e-6)
        for _ in range(20 if sys.argv[1] == "fork" else 100):
            {"fork": fork, "take": take}[sys.argv[1]]()
    except KeyboardInterrupt:
        pass
    is_armed = False
    thread = threading.Thread(target=look)
    thread.start()
    thread.join()
"""


@pytest.mark.parametrize(("what", "times"), [("take", 200), ("fork", 100)])
def test_a_ctrl_c_while_locks_are_taken_together_leaves_none_of_them_taken(what: str, times: int) -> None:
    """The process could not fork any more, and threads that asked a cache waited for ever."""
    done = subprocess.run([sys.executable, "-c", _INTERRUPTED, what, str(times)], timeout=60, check=False)
    assert done.returncode == 0


_HANDLER_FORKS = """
import os, signal, threading
from eventstore.log import locking


def fork(*_):
    child = os.fork()
    if not child:
        os._exit(0)
    os.waitpid(child, 0)
    done.append(child)


class Signalling:
    def acquire(self, *, timeout):
        if not sent:
            sent.append(True)
            os.kill(os.getpid(), signal.SIGUSR1)
        return True

    def release(self):
        pass


done, sent, lock = [], [], Signalling()
locking.hold_while_forking(lock)
signal.signal(signal.SIGUSR1, fork)
fork()
assert len(done) == 2
"""


def test_a_signal_handler_forks_while_the_thread_is_about_to_fork() -> None:
    """It waited for ever for the lock that its own thread held."""
    done = subprocess.run([sys.executable, "-c", _HANDLER_FORKS], timeout=60, check=False)
    assert done.returncode == 0


@pytest.mark.parametrize("begun", ["BEGIN", "BEGIN IMMEDIATE"])
def test_a_ctrl_c_when_a_transaction_has_just_begun_ends_it(
    manager: SessionManager, monkeypatch: pytest.MonkeyPatch, begun: str
) -> None:
    """It comes there if the transaction had to wait. The next one was taken for a part of it: nothing was stored any more."""
    base = base_of(manager)

    class Interrupted:
        """A connection; Ctrl-C is pressed while it begins a transaction."""

        def __init__(self, connection: sqlite3.Connection | None) -> None:
            assert connection is not None
            self.connection = connection

        def __getattr__(self, name: str) -> Any:
            return getattr(self.connection, name)

        def execute(self, text: str) -> None:
            self.connection.execute(text)
            if text == begun:
                raise KeyboardInterrupt

    with monkeypatch.context() as patched:
        patched.setattr(base, "_base", Interrupted(base._base))
        with pytest.raises(KeyboardInterrupt), base.reading() if begun == "BEGIN" else base.writing():
            pass
    assert base._base is not None
    assert not base._base.in_transaction


def test_a_ctrl_c_while_a_folder_of_caches_is_locked_leaves_it_to_others(tmp_path: Path) -> None:
    """Every later list of this process and of all others waited for it."""

    def work() -> None:
        with _alone(tmp_path):
            pass

    for number in count(1):
        if not interrupted_at(number, ("cache_file.py", "contextlib.py"), work):
            break
        folder = os.open(tmp_path, os.O_RDONLY)
        try:
            fcntl.flock(folder, fcntl.LOCK_EX | fcntl.LOCK_NB)
        finally:
            os.close(folder)
    assert number > 5
