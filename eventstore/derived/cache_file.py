"""The SQLite file of a local cache: opened, replaced where another program deleted it, copied to memory where it must be."""

import errno
import os
import sqlite3
import stat
import threading
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager, suppress
from inspect import signature
from pathlib import Path
from typing import Any
from weakref import WeakSet

from eventstore.backends.files.descriptor import LINKED_FOLDER, SAFE
from eventstore.backends.posix import fcntl
from eventstore.log.locking import Locks, hold_while_forking

FOLDER = "_catalog"
BUSY_SECONDS = 2.0
"""How long a transaction waits for others before the answer comes from memory."""
MEMORY_SECONDS = 10.0
"""How long answers come from memory before the file is tried again."""
_LOOK_SECONDS = 0.002
_VERSION = 9
_SCHEMA = "CREATE TABLE IF NOT EXISTS known (name TEXT PRIMARY KEY, value TEXT) WITHOUT ROWID;"
_UNAVAILABLE = {3, 5, 6, 7, 8, 9, 10, 13, 14, 15, 22, 23}
"""Result codes of SQLite for a file that is locked, read-only, full, or cannot be opened or read at present: the file stays."""

_opening = threading.Lock()
"""Held while a file is opened, closed or deleted. Who has it waits for no other lock of this process."""
_mutexes = Locks()
_users: "WeakSet[CacheFile]" = WeakSet()


def is_unavailable(error: Exception) -> bool:
    """Return whether a file is locked, full or refused by the system, and not damaged."""
    code = getattr(error, "sqlite_errorcode", 0) & 0xFF
    return isinstance(error, OSError) or code in _UNAVAILABLE


class CacheFile:
    """One file in the folder of caches, or a database in memory where there is none. Safe for threads and processes.

    Its schema has a table `known` of names and values too. `tables` are all tables with a column `session_id`. `functions` are
    those that the schema and the questions call, by name.
    """

    def __init__(
        self,
        folder: Path | None,
        name: str,
        schema: str,
        tables: Sequence[str],
        functions: Mapping[str, Callable[..., Any]] | None = None,
    ) -> None:
        self._folder, self._name, self._schema, self._tables = folder, name, _SCHEMA + schema, tuple(tables)
        self._functions = dict(functions or {})
        self._base: sqlite3.Connection | None = None
        self._begin()
        with _opening:
            _users.add(self)

    def _begin(self) -> None:
        self._mutex = threading.RLock()
        _mutexes.add(self._mutex)
        hold_while_forking(self._mutex)  # in a child SQLite would count the locks of a transaction that never ends
        self._identity: tuple[int, int] | None = None
        self._memory_until = 0.0

    def begin_in_child(self) -> None:
        """Close the connection of the parent process, which must not be used after a fork.

        It is not enough to forget it: threads of the parent, which do not run here, may still refer to it. SQLite would then take
        the locks of the parent for those of the child, and open its next connection without any.
        """
        self._shut()
        self._begin()

    # --- transactions

    @contextmanager
    def reading(self) -> Iterator[sqlite3.Connection]:
        """Yield the connection in a transaction that reads one state of the database."""
        with self._transaction("BEGIN") as base:
            yield base

    @contextmanager
    def writing(self) -> Iterator[sqlite3.Connection]:
        """Yield the connection in a transaction that writes. It should not last longer than `SLICE_SECONDS`."""
        with self._transaction("BEGIN IMMEDIATE") as base:  # a deferred one that turns into a writer is refused at once
            yield base

    @contextmanager
    def _transaction(self, begin: str) -> Iterator[sqlite3.Connection]:
        with self._mutex:
            base = self._opened()
            if base.in_transaction:  # one inside another of this thread
                yield base
                return
            try:
                base.execute(begin)  # a Ctrl-C while it waits for others is raised when it has begun
                yield base
                base.execute("COMMIT")
            except BaseException:
                with suppress(sqlite3.Error):
                    base.execute("ROLLBACK")
                raise

    # --- opening

    def _opened(self) -> sqlite3.Connection:
        """Return a connection to the file at the path, or to memory where the file cannot be used."""
        if self._base is not None:
            is_waiting = self._identity is None and self._folder is not None
            if is_waiting and time.monotonic() >= self._memory_until and self._folder_is_there():
                self._drop()
            elif self._identity is not None and self._identity != self._at_path():
                self._drop()  # another program deleted or replaced the file
        if self._base is None:
            if self._folder is None or not self._folder_is_there():  # a list makes no sessions folder
                self._use_memory(None)
            else:
                self._base = self._connect(self._folder)
        assert self._base is not None  # noqa: S101 - made just now
        return self._base

    def _folder_is_there(self) -> bool:
        return self._folder is not None and self._folder.parent.is_dir()

    def _at_path(self) -> tuple[int, int] | None:
        assert self._folder is not None  # noqa: S101 - asked before
        try:
            found = os.stat(self._folder / self._name, follow_symlinks=False)
        except OSError:
            return None
        return found.st_dev, found.st_ino

    def _connect(self, folder: Path) -> sqlite3.Connection:
        make_private(folder)
        with _alone(folder):
            return self._connected(folder)

    def _connected(self, folder: Path) -> sqlite3.Connection:
        with suppress(OSError):
            (folder / "marks").unlink(missing_ok=True)  # of version 0.1.0
        path = folder / self._name
        found = _made(path)
        base = sqlite3.connect(path, timeout=BUSY_SECONDS, check_same_thread=False, isolation_level=None)
        try:
            has_tables = base.execute("SELECT 1 FROM sqlite_master").fetchone()
            (version,) = base.execute("PRAGMA user_version").fetchone()  # after that: both come in one transaction
            if version != _VERSION and (version or has_tables):
                raise sqlite3.DatabaseError("it is of another version")
            base.execute("PRAGMA journal_mode=WAL")
            base.execute("PRAGMA synchronous=OFF")
            self._prepare(base, is_new=not version)
        except BaseException:
            base.close()
            raise
        self._identity = found.st_dev, found.st_ino
        return base

    def _prepare(self, base: sqlite3.Connection, *, is_new: bool) -> None:
        base.execute("PRAGMA secure_delete=ON")
        for name, function in self._functions.items():
            count = len(signature(function).parameters)
            base.create_function(name, count, function, deterministic=True)
        if is_new:
            script = f"BEGIN IMMEDIATE; {self._schema} PRAGMA user_version={_VERSION};"
            epoch = f"INSERT OR IGNORE INTO known VALUES ('epoch', '{os.urandom(16).hex()}');"  # noqa: S608 - ours
            base.executescript(f"{script} {epoch} COMMIT;")

    def _use_memory(self, old: sqlite3.Connection | None) -> None:
        """Continue in memory, from a copy of the file where it can be read."""
        with self._mutex:
            base = sqlite3.connect(":memory:", check_same_thread=False, isolation_level=None)
            is_copy = False
            if old is not None:
                with suppress(sqlite3.Error, TimeoutError):
                    old.backup(base, progress=_limit(BUSY_SECONDS))  # without a limit it waits for ever
                    is_copy = True
            if not is_copy:
                base.close()
                base = sqlite3.connect(":memory:", check_same_thread=False, isolation_level=None)
            self._prepare(base, is_new=not is_copy)
            self._drop()
            self._base, self._memory_until = base, time.monotonic() + MEMORY_SECONDS

    def _recover_from(self, error: Exception) -> None:
        """Recover from an error: leave a file that is in use or cannot grow, delete one that is damaged."""
        with self._mutex:
            is_refused = is_unavailable(error)
            if is_refused or (self._identity is None and self._base is not None):
                self._use_memory(self._base if is_refused else None)
            elif self._identity is not None and self._identity != self._at_path():
                self._drop()  # the one that is there now is not damaged
            else:
                self.clear()

    def _drop(self) -> None:
        if self._identity is None or self._folder is None:
            self._shut()
        else:
            with _alone(self._folder):  # who is the last deletes the WAL, by its name
                self._shut()

    def _shut(self) -> None:
        base, self._base, self._identity = self._base, None, None
        if base is not None:
            with suppress(sqlite3.Error):
                base.close()

    def close(self) -> None:
        """Close the file. A database in memory stays."""
        with self._mutex:
            if self._folder is not None:
                self._drop()

    def clear(self) -> None:
        """Delete everything; the next question rebuilds it. Other processes keep the file that they have open."""
        with self._mutex:
            self._drop()
            if self._folder is not None and not self._folder.is_symlink():
                with _alone(self._folder):
                    for end in ("", "-wal", "-shm", "-journal"):
                        with suppress(OSError):
                            (self._folder / f"{self._name}{end}").unlink()


@contextmanager
def all_closed() -> Iterator[None]:
    """Keep the files of all caches of this process closed, while the caller reads such a file itself; threads that ask them wait.

    To close any descriptor of a file gives up the locks that SQLite has on it for this whole process. Another process would then
    take its connection for the last, delete what ours still read, and cut off memory that ours has mapped: SIGBUS.
    """
    with _mutexes.taken():
        with _opening:
            users = list(_users)
        for one in users:
            if one._identity is not None:
                one._drop()
        yield


@contextmanager
def _alone(folder: Path) -> Iterator[None]:
    """Exclude others, for at most `BUSY_SECONDS`, from opening, closing and deleting the files of a folder of caches.

    SQLite opens and deletes a WAL by its name. Beside somebody who deletes the file, that could be the WAL of another file.
    """
    descriptor = -1
    with _opening:
        try:
            with suppress(OSError):
                descriptor = os.open(folder, LINKED_FOLDER)
                until = time.monotonic() + BUSY_SECONDS
                while not _is_locked(descriptor) and time.monotonic() < until:
                    time.sleep(_LOOK_SECONDS)
            yield
        finally:
            # At once, with no ExitStack: a Ctrl-C in its functions would leave the folder locked.
            if descriptor >= 0:
                os.close(descriptor)


def _is_locked(descriptor: int) -> bool:
    try:
        fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        return False
    return True


def _made(path: Path) -> os.stat_result:
    """Return what is known of a file, after making it, for its owner only, if there is none. Raises OSError, also for a link.

    A file that is there is not opened: see `all_closed`.
    """
    with suppress(FileExistsError):
        os.close(os.open(path, os.O_RDWR | os.O_CREAT | os.O_EXCL | SAFE, 0o600))
    found = os.stat(path, follow_symlinks=False)
    if not stat.S_ISREG(found.st_mode):
        raise OSError(errno.ELOOP, "it is not a plain file", str(path))
    return found


def _limit(seconds: float) -> Callable[[int, int, int], None]:
    until = time.monotonic() + seconds

    def check(status: int, remaining: int, total: int) -> None:
        if status and time.monotonic() > until:
            raise TimeoutError

    return check


def make_private(folder: Path) -> None:
    """Make a folder inside the sessions folder, both for their owner only. Raises NotADirectoryError for a link, OSError."""
    folder.parent.mkdir(0o700, parents=True, exist_ok=True)
    folder.mkdir(0o700, exist_ok=True)
    if folder.is_symlink():
        raise NotADirectoryError(errno.ENOTDIR, "a link leads out of the sessions folder", str(folder))


def _begin_in_child() -> None:
    global _opening, _mutexes
    _opening, _mutexes = threading.Lock(), Locks()
    for one in list(_users):
        one.begin_in_child()


os.register_at_fork(after_in_child=_begin_in_child)
