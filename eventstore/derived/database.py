"""A local cache in SQLite that is fed by `EventLog.changed`: connections, transactions, fallback to memory.

The file can always be rebuilt. Where it is locked or full it is left alone, where it is damaged it is deleted; the answer then
comes from a copy in memory that is updated from the logs. No error of SQLite leaves this package.
"""

import math
import sqlite3
import time
from collections.abc import Callable, Iterable
from contextlib import suppress
from functools import partial
from typing import TYPE_CHECKING, NamedTuple, TypeVar

from eventstore.derived.cache_file import MEMORY_SECONDS, CacheFile, is_unavailable
from eventstore.ids import STORE_ID, TEMPLATE
from eventstore.log.changes import Changes

if TYPE_CHECKING:
    from eventstore.log.engine import EventLog  # a list that is current opens no log, and must start fast

T = TypeVar("T")

SLICE_SECONDS = 0.05
"""The longest time for which a transaction may write: other writers wait for it."""
_MANY_COMPARED = 256
"""After comparing so many logs that had not changed, it is worth a write to begin behind them the next time."""
_READINGS = 5
_REFUSED = (sqlite3.ProgrammingError, sqlite3.InterfaceError, sqlite3.DataError, sqlite3.NotSupportedError)


class _Compared(NamedTuple):
    """A comparison of a cache with the logs.

    It has the state and the token of the cache, the next token, the sessions to read with their texts, the deleted ones, and how
    many were compared.
    """

    state: str
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


def _checked(work: Callable[[], T]) -> T:
    try:
        return work()
    except _REFUSED as error:  # the question is wrong, not the file
        raise ValueError(f"the catalogue cannot be asked that ({type(error).__name__})") from error


def is_session(name: str) -> bool:
    """Return whether a log is a session, and not a template or the store's own log: only sessions have rows."""
    return name != STORE_ID and not name.startswith(TEMPLATE)


class Database(CacheFile):
    """One cache: a file that is fed by `EventLog.changed`. Safe for threads and processes.

    Its schema has a table `sessions` with the columns `session_id` and `text`, the text that `EventLog.changed` gave.
    """

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
            if not is_unavailable(error):
                raise ValueError(f"{what} damaged ({error})") from error
            self._use_memory(self._base)
        return _checked(work)

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

    # --- catching up

    def state(self) -> str:
        """Return a text that changes with each `forget` and each new file: what was read before must not be written after it."""
        with self.reading() as base:
            return _state_of(base)

    def is_at(self, base: sqlite3.Connection, state: str) -> bool:
        """Check, in a transaction, that nothing was forgotten since `state`, and that the file is the same."""
        return _state_of(base) == state

    def after(self, update: Callable[[], object], read: Callable[[sqlite3.Connection], T]) -> T:
        """Return what `read` finds in the file that `update` has updated, as far as others do not delete from it all the time.

        A file that was deleted after the update is a new one without rows, which looks like a store without sessions.
        """
        return self._read_after(update, read)[0]

    def settled(self, update: Callable[[], object], read: Callable[[sqlite3.Connection], T]) -> T | None:
        """Return what `read` finds after `update`; None where others delete rows each time between the two."""
        found, is_settled = self._read_after(update, read)
        return found if is_settled else None

    def _read_after(self, update: Callable[[], object], read: Callable[[sqlite3.Connection], T]) -> tuple[T, bool]:
        for _ in range(_READINGS):
            state = self.state()
            update()
            with self.reading() as base:
                found, is_settled = read(base), self.is_at(base, state)
            if is_settled:
                break
        return found, is_settled

    def catch_up(self, log: "EventLog", take: Callable[[list[tuple[str, str]]], set[str] | None]) -> bool:
        """Update the database with one call of the log's `changed`; `take` reads the sessions that changed.

        `take` receives ids with their texts, writes both, and returns the ids that it could not read: they are tried again the
        next time. Deleted sessions are forgotten. Where `take` stops early it returns None; then False is returned, and the next
        call continues.
        """
        for _ in range(4):
            state, token, following, stale, gone, _ = self._compare(log.changed)
            if gone:
                self.in_slices(partial(self._delete, name) for name in gone)
            bad = take(list(stale.items())) if stale else set()
            if bad is None:
                return False
            if token == following and not stale and not gone:
                return True
            texts = {name: text for name, text in stale.items() if name not in bad}
            if self._settle(state, following, texts, bad):
                return True
        return True

    def is_current(self, changed: Callable[[str | None], Changes]) -> bool:
        """Return whether no log changed since the last update. After many comparisons, the next call begins behind them."""
        _, token, following, stale, gone, compared = self._compare(changed)
        if stale or gone:
            return False
        if compared >= _MANY_COMPARED and following not in ("", token):
            with suppress(sqlite3.Error, OSError), self.writing() as base:  # a reader may not be allowed to write
                if get(base, "token") == token:
                    put(base, "token", following)
        return True

    def _compare(self, changed: Callable[[str | None], Changes]) -> "_Compared":
        with self.reading() as base:
            state, token = _state_of(base), get(base, "token")
            failed = set((get(base, "failed") or "").split())
        found = changed(token)
        named = {name: text for name, text in found.logs if is_session(name)}
        failed = {one for one in filter(is_session, failed) if named.get(one) or not (found.complete or one in named)}
        with self.reading() as base:
            rows = _texts(base, None if found.complete else [*named, *failed])
        gone = [name for name in rows if (found.complete or name in named) and named.get(name) is None]
        stale = {name: text for name, text in named.items() if text is not None and rows.get(name) != text}
        stale.update((name, named.get(name) or "") for name in failed)
        return _Compared(state, token, found.token, stale, gone, len(found.logs))

    def _settle(self, state: str, token: str, texts: dict[str, str], failed: set[str]) -> bool:
        """Store the token and return True; False, to repeat the update, if others wrote older rows or deleted some meanwhile."""
        with self.writing() as base:
            if not self.is_at(base, state):  # also a new file: the token says that all rows before it are there
                return False
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


def _state_of(base: sqlite3.Connection) -> str:
    return f"{get(base, 'epoch')} {get(base, 'forgotten')}"


def get(base: sqlite3.Connection, name: str) -> str | None:
    """Return the value stored under a name."""
    found = base.execute("SELECT value FROM known WHERE name = ?", (name,)).fetchone()
    return found[0] if found else None


def put(base: sqlite3.Connection, name: str, value: str) -> None:
    """Store a value under a name."""
    base.execute("INSERT OR REPLACE INTO known VALUES (?, ?)", (name, value))
