"""Which sessions of the store hold an imported line: a local cache from keys of lines to sessions and events.

Agents copy history into new files. The importer asks here whether a line is known already. A key is 16 bytes that a copy of the
line has too; what it is made of is the importer's matter. The cache is fed by the importer, and from the logs where others wrote.
"""

import sqlite3
from collections.abc import Callable, Iterable, Sequence
from functools import partial
from pathlib import Path
from typing import NamedTuple, Protocol

from eventstore.derived.database import Cache, Database
from eventstore.errors import LogDamaged, SessionNotFound
from eventstore.events import Event
from eventstore.log.engine import EventLog

_SCHEMA = """
CREATE TABLE IF NOT EXISTS keys (key BLOB, session_id TEXT, seq INTEGER, PRIMARY KEY (key, session_id)) WITHOUT ROWID;
CREATE INDEX IF NOT EXISTS keys_of ON keys (session_id);
CREATE TABLE IF NOT EXISTS sessions (
    session_id TEXT PRIMARY KEY, text TEXT, inherited INTEGER, version INTEGER, family TEXT
) WITHOUT ROWID;
"""
_ROWS_AT_ONCE = 2_000
_KEYS_AT_ONCE = 500  # SQLite takes 999 values and more in a question


class Place(NamedTuple):
    """Where a line is: the session that holds it, and the last event that was made of it. `family` are ids it names."""

    session_id: str
    seq: int
    family: frozenset[str]


class Reader(Protocol):
    """Finds the keys in the events of one session, in order."""

    @property
    def family(self) -> set[str]:
        """The ids that the session's file names."""
        ...

    def keys(self, event: Event) -> Iterable[bytes]:
        """Return the keys of the line that an event was imported from; none if it has no line."""
        ...


class LineKeys(Cache):
    """The keys of the lines of a store's imported sessions, in a folder, or in memory without one."""

    def __init__(self, log: EventLog, folder: Path | None = None) -> None:
        super().__init__(Database(folder, "lines.db", _SCHEMA, ("keys", "sessions")))
        self._log = log
        self._reader: Callable[[], Reader] | None = None
        self._state = ""

    def find(self, keys: Sequence[bytes]) -> dict[bytes, list[Place]]:
        """Return the places of those keys that are known. What was deleted since `catch_up` is read again first."""

        def update() -> None:
            if self._reader is not None and self._base.state() != self._state:
                self._catch_up(self._reader)

        def read(base: sqlite3.Connection) -> dict[bytes, list[Place]]:
            found = dict[bytes, list[Place]]()
            families = dict[str, frozenset[str]]()
            for start in range(0, len(keys), _KEYS_AT_ONCE):
                some = keys[start : start + _KEYS_AT_ONCE]
                query = f"SELECT key, session_id, seq FROM keys WHERE key IN ({','.join('?' * len(some))})"  # noqa: S608 - ours
                for key, name, seq in base.execute(query, some):
                    if name not in families:
                        families[name] = _family(base, name)
                    found.setdefault(key, []).append(Place(name, seq, families[name]))
            return found

        return self._base.run(lambda: self._base.after(update, read))

    def add(self, session_id: str, rows: Sequence[tuple[bytes, int]], version: int, family: Iterable[str]) -> None:
        """Add keys with the numbers of their events, up to an event of a session. A key that is known keeps its place."""
        inherited = self._log.inherited(session_id)

        def work() -> None:
            self._base.in_slices(
                partial(_put, session_id, rows[start : start + _ROWS_AT_ONCE])
                for start in range(0, len(rows), _ROWS_AT_ONCE)
            )
            with self._base.writing() as base:
                _know(base, session_id, inherited, version, family)

        self._base.run(work)

    def catch_up(self, reader: Callable[[], Reader]) -> None:
        """Read what others appended. A session whose log is as it was when its keys were added is not read again."""
        self._reader = reader
        self._base.run(lambda: self._catch_up(reader))

    def _catch_up(self, reader: Callable[[], Reader]) -> None:
        state = self._base.state()
        self._base.catch_up(self._log, lambda stale: self._take(stale, reader))
        self._state = state

    def _take(self, stale: Sequence[tuple[str, str]], reader: Callable[[], Reader]) -> set[str]:
        failed = set[str]()
        for session_id, text in stale:
            try:
                inherited, version = self._log.inherited(session_id), self._log.head(session_id).version
                with self._base.reading() as base:
                    row = base.execute(
                        "SELECT inherited, version FROM sessions WHERE session_id = ?", (session_id,)
                    ).fetchone()
                if row != (inherited, version):
                    self._read(session_id, inherited, version, reader())
            except SessionNotFound:
                failed.add(session_id)
            except LogDamaged:
                pass  # its lines are not known: a copy of them is imported as new
            with self._base.writing() as base:
                base.execute(
                    "INSERT INTO sessions (session_id, text) VALUES (?, ?)"
                    " ON CONFLICT (session_id) DO UPDATE SET text = excluded.text",
                    (session_id, text),
                )
        return failed

    def _read(self, session_id: str, inherited: int, version: int, reader: Reader) -> None:
        rows = list[tuple[bytes, int]]()
        for event in self._log.read(session_id, inherited, version):
            last = event.seq if event.batch is None else event.seq + event.batch[1] - 1 - event.batch[0]
            rows += [(key, last) for key in reader.keys(event)]
            if len(rows) >= _ROWS_AT_ONCE:
                self._base.in_slices([partial(_put, session_id, rows)])
                rows = []
        self._base.in_slices([partial(_put, session_id, rows)])
        with self._base.writing() as base:
            _know(base, session_id, inherited, version, reader.family)


def _family(base: sqlite3.Connection, session_id: str) -> frozenset[str]:
    row = base.execute("SELECT family FROM sessions WHERE session_id = ?", (session_id,)).fetchone()
    return frozenset(((row and row[0]) or "").split("\n"))


def _put(session_id: str, rows: Sequence[tuple[bytes, int]], base: sqlite3.Connection) -> None:
    base.executemany("INSERT OR IGNORE INTO keys VALUES (?, ?, ?)", [(key, session_id, seq) for key, seq in rows])


def _know(base: sqlite3.Connection, session_id: str, inherited: int, version: int, family: Iterable[str]) -> None:
    base.execute(
        "INSERT INTO sessions (session_id, inherited, version, family) VALUES (?, ?, ?, ?) ON CONFLICT (session_id)"
        " DO UPDATE SET inherited = excluded.inherited, version = excluded.version, family = excluded.family",
        (session_id, inherited, version, "\n".join(sorted(family))),
    )
