"""A local cache in SQLite that is fed by `EventLog.changed`: connections, transactions, fallback to memory.

The file can always be rebuilt. Where it is locked or full it is left alone, where it is damaged it is deleted; the answer then
comes from a copy in memory that is updated from the logs. No error of SQLite leaves this package.
"""

import errno
import math
import os
import sqlite3
import stat
import threading
import time
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager, suppress
from functools import partial
from inspect import signature
from pathlib import Path
from typing import TYPE_CHECKING, Any, NamedTuple, TypeVar

from eventstore.backends.files.descriptor import SAFE
from eventstore.backends.fork_safety import hold_while_forking
from eventstore.ids import STORE_ID, TEMPLATE
from eventstore.log.changes import Changes

if TYPE_CHECKING:
    from eventstore.log.engine import EventLog  # a list that is current opens no log, and must start fast

T = TypeVar("T")

FOLDER = "_catalog"
SLICE_SECONDS = 0.05
"""The longest time for which a transaction may write: other writers wait for it."""
BUSY_SECONDS = 2.0
"""How long a transaction waits for others before the answer comes from memory."""
MEMORY_SECONDS = 10.0
"""How long answers come from memory before the file is tried again."""
_MANY_COMPARED = 256
"""After comparing so many logs that had not changed, it is worth a write to begin behind them the next time."""
_VERSION = 8
_SCHEMA = "CREATE TABLE IF NOT EXISTS known (name TEXT PRIMARY KEY, value TEXT) WITHOUT ROWID;"
_REFUSED = (sqlite3.ProgrammingError, sqlite3.InterfaceError, sqlite3.DataError, sqlite3.NotSupportedError)
_UNAVAILABLE = {3, 5, 6, 7, 8, 9, 10, 13, 14, 15, 22, 23}
"""Result codes of SQLite for a file that is locked, read-only, full, or cannot be opened or read at present: the file stays."""

_making = threading.Lock()
"""Held while a file is made. To close any descriptor of a file gives up the locks that SQLite has on it for this whole process:
another one would then take its connection for the last, and delete what ours still read. So a file that is there is not opened.
"""


class _Compared(NamedTuple):
    """A comparison of a cache with the logs.

    It has the stored token, the next one, the sessions to read with their texts, the deleted ones, and how many were compared.
    """

    token: str | None
    following: str
    stale: dict[str, str]
    gone: list[str]
    compared: int


def _texts(base: sqlite3.Connection, names: Iterable[str] | None) -> dict[str, str]:
    if names is None:
        return dict(base.execute("SELECT session_id, text FROM sessions"))
    found = (
        base.execute("SELECT session_id, text FROM sessions WHERE session_id = ?", (name,)).fetchone() for name in names
    )
    return {row[0]: row[1] for row in found if row is not None}


def _is_unavailable(error: Exception) -> bool:
    code = getattr(error, "sqlite_errorcode", 0) & 0xFF
    return isinstance(error, OSError) or code in _UNAVAILABLE


def _checked(work: Callable[[], T]) -> T:
    try:
        return work()
    except _REFUSED as error:  # the question is wrong, not the file
        raise ValueError(f"the catalogue cannot be asked that ({type(error).__name__})") from error


def is_session(name: str) -> bool:
    """Return whether a log is a session, and not a template or the store's own log: only sessions have rows."""
    return name != STORE_ID and not name.startswith(TEMPLATE)


class Database:
    """One cache: a file in the folder of caches, or in memory where there is none. Safe for threads and processes.

    Its schema has a table `sessions` with the columns `session_id` and `text`, the text that `EventLog.changed` gave. `tables`
    are all tables with a column `session_id`. `functions` are those that the schema and the questions call, by name.
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
        self.begin_in_child()

    def begin_in_child(self) -> None:
        """Open new connections after a fork of the process: a connection must not be shared with the parent.

        Forks wait for transactions: in the child SQLite would count the locks of one that never ends there.
        """
        self._mutex = threading.RLock()
        hold_while_forking(self._mutex)
        self._base: sqlite3.Connection | None = None
        self._identity: tuple[int, int] | None = None
        self._memory_until = 0.0

    # --- transactions

    def run(self, work: Callable[[], T]) -> T:
        """Run `work`. Where the file cannot be used, run it again on a new file or in memory."""
        for _ in range(2):
            try:
                return _checked(work)
            except (sqlite3.Error, OSError) as error:
                self._recover_from(error)
        self._use_memory(None)
        self._memory_until = math.inf  # however long it takes: in the middle of it the file must not come back
        try:
            return _checked(work)
        finally:
            self._memory_until = time.monotonic() + MEMORY_SECONDS

    def examine(self, work: Callable[[], T], what: str) -> T:
        """Run `work` on what questions are answered from: a copy in memory where the file is locked, or cannot be written to.

        Raises ValueError, which names `what`, where the file is damaged; it stays as it is.
        """
        try:
            return _checked(work)
        except (sqlite3.Error, OSError) as error:
            if not _is_unavailable(error):
                raise ValueError(f"{what} damaged ({error})") from error
            self._use_memory(self._base)
        return _checked(work)

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
            base.execute(begin)
            try:
                yield base
                base.execute("COMMIT")
            except BaseException:
                with suppress(sqlite3.Error):
                    base.execute("ROLLBACK")
                raise

    def in_slices(self, pieces: Iterable[Callable[[sqlite3.Connection], object]]) -> None:
        """Run pieces of work, as many in one transaction as fit in `SLICE_SECONDS`."""
        waiting = iter(pieces)
        piece = next(waiting, None)
        while piece is not None:
            with self.writing() as base:
                until = time.monotonic() + SLICE_SECONDS
                while piece is not None:
                    piece(base)
                    piece = next(waiting, None)
                    if time.monotonic() >= until:
                        break

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
            is_unavailable = _is_unavailable(error)
            if is_unavailable or (self._identity is None and self._base is not None):
                self._use_memory(self._base if is_unavailable else None)
            else:
                self.clear()

    def _drop(self) -> None:
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
                for end in ("", "-wal", "-shm", "-journal"):
                    with suppress(OSError):
                        (self._folder / f"{self._name}{end}").unlink()

    # --- catching up

    def state(self) -> str:
        """Return a text that changes with each `forget`: what was read from logs before it must not be written after it."""
        with self.reading() as base:
            return f"{get(base, 'epoch')} {get(base, 'forgotten')}"

    def is_at(self, base: sqlite3.Connection, state: str) -> bool:
        """Check, in a transaction that writes, that nothing was forgotten since `state`."""
        return f"{get(base, 'epoch')} {get(base, 'forgotten')}" == state

    def catch_up(self, log: "EventLog", take: Callable[[list[tuple[str, str]]], set[str] | None]) -> bool:
        """Update the database with one call of the log's `changed`; `take` reads the sessions that changed.

        `take` receives ids with their texts, writes both, and returns the ids that it could not read: they are tried again the
        next time. Deleted sessions are forgotten. Where `take` stops early it returns None; then False is returned, and the next
        call continues.
        """
        for _ in range(4):
            token, following, stale, gone, _ = self._compare(log.changed)
            if gone:
                self.in_slices(partial(self._delete, name) for name in gone)
            bad = take(list(stale.items())) if stale else set()
            if bad is None:
                return False
            if token == following and not stale and not gone:
                return True
            if self._settle(following, {name: text for name, text in stale.items() if name not in bad}, bad):
                return True
        return True

    def is_current(self, changed: Callable[[str | None], Changes]) -> bool:
        """Return whether no log changed since the last update. After many comparisons, the next call begins behind them."""
        token, following, stale, gone, compared = self._compare(changed)
        if stale or gone:
            return False
        if compared >= _MANY_COMPARED and following not in ("", token):
            with suppress(sqlite3.Error, OSError), self.writing() as base:  # a reader may not be allowed to write
                if get(base, "token") == token:
                    put(base, "token", following)
        return True

    def _compare(self, changed: Callable[[str | None], Changes]) -> "_Compared":
        with self.reading() as base:
            token = get(base, "token")
            failed = set((get(base, "failed") or "").split())
        found = changed(token)
        named = {name: text for name, text in found.logs if is_session(name)}
        failed = {one for one in filter(is_session, failed) if named.get(one) or not (found.complete or one in named)}
        with self.reading() as base:
            rows = _texts(base, None if found.complete else [*named, *failed])
        gone = [name for name in rows if (found.complete or name in named) and named.get(name) is None]
        stale = {name: text for name, text in named.items() if text is not None and rows.get(name) != text}
        stale.update((name, named.get(name) or "") for name in failed)
        return _Compared(token, found.token, stale, gone, len(found.logs))

    def _settle(self, token: str, texts: dict[str, str], failed: set[str]) -> bool:
        """Store the token and return True; False, to repeat the update, if another process wrote older rows in the meantime."""
        with self.writing() as base:
            known = _texts(base, texts if len(texts) < 1_000 else None)
            if any(known.get(name) != text for name, text in texts.items() if text):
                return False
            put(base, "token", token)
            put(base, "failed", " ".join(sorted(failed)))
        return True

    def _delete(self, session_id: str, base: sqlite3.Connection) -> None:
        for table in self._tables:
            base.execute(f"DELETE FROM {table} WHERE session_id = ?", (session_id,))  # noqa: S608 - names of ours

    def forget(self, session_id: str) -> None:
        """Delete all rows of a session; where that fails, delete everything. The rows are read from the logs again."""
        try:
            with self.writing() as base:
                self._delete(session_id, base)
                put(base, "forgotten", str(int(get(base, "forgotten") or 0) + 1))
                put(base, "failed", f"{get(base, 'failed') or ''} {session_id}")  # so that it is read again
        except (sqlite3.Error, OSError, ValueError):
            self.clear()

    def scrub(self) -> None:
        """Rewrite the file without the deleted rows. A file that is in use is deleted.

        Takes as much memory as the file is large: a temporary file would be outside the store.
        """
        with self._mutex:
            try:
                base = self._opened()
                base.execute("PRAGMA temp_store=MEMORY")
                base.execute("VACUUM")
                (busy, *_) = base.execute("PRAGMA wal_checkpoint(TRUNCATE)").fetchone()
                is_done = not busy and (self._folder is None or self._identity is not None)
            except (sqlite3.Error, OSError):
                is_done = False
            if not is_done:
                self.clear()


class Cache:
    """A cache of facts about sessions in a `Database`: the base of the catalogue, the search index and the figures."""

    def __init__(self, base: Database) -> None:
        self._base = base

    def forget(self, session_id: str) -> None:
        """Delete all rows of a session. The next question reads its log again."""
        self._base.forget(session_id)

    def scrub(self) -> None:
        """Remove deleted rows from the file for good."""
        self._base.scrub()

    def clear(self) -> None:
        """Delete everything. The next question rebuilds it."""
        self._base.clear()

    def close(self) -> None:
        """Close the file."""
        self._base.close()

    def begin_in_child(self) -> None:
        """Open new connections after a fork of the process."""
        self._base.begin_in_child()


def _made(path: Path) -> os.stat_result:
    """Return what is known of a file, after making it, for its owner only, if there is none. Raises OSError, also for a link."""
    with _making:
        try:
            found = os.stat(path, follow_symlinks=False)
        except FileNotFoundError:
            with suppress(FileExistsError):  # of another process
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


def get(base: sqlite3.Connection, name: str) -> str | None:
    """Return the value stored under a name."""
    found = base.execute("SELECT value FROM known WHERE name = ?", (name,)).fetchone()
    return found[0] if found else None


def put(base: sqlite3.Connection, name: str, value: str) -> None:
    """Store a value under a name."""
    base.execute("INSERT OR REPLACE INTO known VALUES (?, ?)", (name, value))


def make_private(folder: Path) -> None:
    """Make a folder inside the sessions folder, both for their owner only. Raises NotADirectoryError for a link, OSError."""
    folder.parent.mkdir(0o700, parents=True, exist_ok=True)
    folder.mkdir(0o700, exist_ok=True)
    if folder.is_symlink():
        raise NotADirectoryError(errno.ENOTDIR, "a link leads out of the sessions folder", str(folder))
