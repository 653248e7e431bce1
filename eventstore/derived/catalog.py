"""The catalogue: the metadata of every session, in SQLite. The cost of a list grows with what changed since the last one.

Rows hold only `SessionMetadata.to_dict`; `EventLog.changed` names the sessions to read. Each row has a checksum: a damaged row is
read from the log again. This module imports only the standard library, so that a list starts fast.
"""

import json
import sqlite3
from collections.abc import Callable, Iterable, Mapping, Sequence
from contextlib import suppress
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any, NamedTuple, TypeAlias

from eventstore.derived.cache_file import FOLDER
from eventstore.derived.database import Cache, Database
from eventstore.derived.listing import COLUMNS, SQLITE, Filter, Listed, Query, columns_of, row_sum
from eventstore.errors import LogDamaged, SessionNotFound
from eventstore.log.changes import Changes

if TYPE_CHECKING:
    from eventstore.log.engine import EventLog  # as in database.py

__all__ = ["FOLDER", "Catalog"]

Row: TypeAlias = tuple[Mapping[str, Any], str]
"""A session's metadata, from `SessionMetadata.to_dict`, and the text that `EventLog.changed` gave before it was read."""

_ROWS_AT_ONCE, _ROWS_OF_STATEMENT = 200, 100
_encode = json.JSONEncoder(ensure_ascii=False).encode  # json.dumps makes an encoder for each row
_SCHEMA = """
CREATE TABLE IF NOT EXISTS sessions (
    session_id TEXT PRIMARY KEY, text TEXT, updated TEXT, created TEXT, cost REAL, status TEXT, user TEXT, purpose TEXT,
    external TEXT, parent TEXT, shown TEXT, sum INTEGER
) WITHOUT ROWID;
CREATE INDEX IF NOT EXISTS by_updated ON sessions (updated DESC, session_id);
CREATE INDEX IF NOT EXISTS by_created ON sessions (created DESC, session_id);
CREATE INDEX IF NOT EXISTS by_cost ON sessions (cost DESC, session_id);
CREATE INDEX IF NOT EXISTS by_user ON sessions (user, status, updated DESC, session_id);
CREATE INDEX IF NOT EXISTS by_user_updated ON sessions (user, updated DESC, session_id);
CREATE INDEX IF NOT EXISTS by_user_created ON sessions (user, created DESC, session_id);
CREATE INDEX IF NOT EXISTS by_status ON sessions (status, updated DESC, session_id);
CREATE INDEX IF NOT EXISTS by_external ON sessions (external, updated DESC, session_id) WHERE external IS NOT NULL;
CREATE INDEX IF NOT EXISTS by_parent ON sessions (parent, created DESC, session_id) WHERE parent IS NOT NULL;
CREATE TABLE IF NOT EXISTS tags (
    tag TEXT, updated TEXT, session_id TEXT, PRIMARY KEY (tag, updated DESC, session_id)
) WITHOUT ROWID;
CREATE INDEX IF NOT EXISTS tags_of ON tags (session_id);
"""


class Catalog(Cache):
    """A catalogue in a folder, or in memory without one. Safe for threads and processes.

    No method raises an error of SQLite or of the system: see `Database`.
    """

    def __init__(self, folder: Path | None = None) -> None:
        super().__init__(Database(folder, "catalog.db", _SCHEMA, ("sessions", "tags")))

    def page(
        self,
        wanted: Filter,
        log: "EventLog",
        describe: Callable[[str], Mapping[str, Any]],
        on_damage: Callable[[LogDamaged], None],
        track: Callable[[Sequence[str]], Iterable[str]] = iter,
        *,
        total: bool = False,
    ) -> Listed:
        """Update the catalogue and list the sessions that match, as `find` does; with `total` count them all.

        `describe` returns a session's metadata, or raises SessionNotFound or LogDamaged; `on_damage` is called with the latter.
        `track` receives the ids of the sessions to read, and yields each one when it is to be read.
        Raises ValueError as `find` does.
        """
        reading = _Reading.of(wanted, total=total)

        def update() -> None:
            self._base.catch_up(log, lambda stale: self._take(stale, describe, on_damage, track))

        def work() -> Listed:
            return self._listed(reading, self._base.after(update, reading.rows))

        for _ in range(2):
            with suppress(_BadRows):
                return self._base.run(work)
        self._base.clear()
        return self._base.run(work)

    def _take(
        self,
        stale: Sequence[tuple[str, str]],
        describe: Callable[[str], Mapping[str, Any]],
        on_damage: Callable[[LogDamaged], None],
        track: Callable[[Sequence[str]], Iterable[str]],
    ) -> set[str]:
        texts, failed = dict(stale), set[str]()
        state, waiting = self._base.state(), list[Row]()

        def write() -> None:
            again = self._put(waiting, state)
            failed.update(again)
            waiting.clear()

        for session_id in track([name for name, _ in stale]):
            try:
                waiting.append((describe(session_id), texts[session_id]))
            except SessionNotFound:
                failed.add(session_id)
            except LogDamaged as damage:
                failed.add(session_id)
                on_damage(damage)
            if len(waiting) >= _ROWS_AT_ONCE:
                write()
        write()
        return failed

    def put(self, rows: Iterable[Row]) -> None:
        """Write rows as they are."""
        self._base.run(lambda: self._put(list(rows), self._base.state()))

    def _put(self, rows: Sequence[Row], state: str) -> list[str]:
        """Write rows, unless `forget` was called since they were read; return the ids of rows that were not written."""
        refused = list[str]()

        def piece(some: Sequence[Row], base: sqlite3.Connection) -> None:
            if self._base.is_at(base, state):
                _write_rows(base, some)
            else:
                refused.extend(known["session_id"] for known, _ in some)

        starts = range(0, len(rows), _ROWS_OF_STATEMENT)
        self._base.in_slices(partial(piece, rows[start : start + _ROWS_OF_STATEMENT]) for start in starts)
        return refused

    def find(self, wanted: Filter) -> Listed:
        """List the metadata of the sessions that match, on one page.

        Raises ValueError for an invalid cursor, one of another order, and an invalid filter or limit.
        """
        reading = _Reading.of(wanted)

        def work() -> Listed:
            with self._base.reading() as base:
                found = reading.rows(base)
            return self._listed(reading, found)

        return self._base.run(work)

    def count(self, wanted: Filter) -> int:
        """Count the sessions that match, on all pages. Raises ValueError as `find` does."""

        def work() -> int:
            with self._base.reading() as base:
                return _Reading.of(wanted).count(base)

        return self._base.run(work)

    def _listed(self, reading: "_Reading", read: tuple[list[tuple[Any, ...]], int | None]) -> Listed:
        """Make a page of what was read. Raises _BadRows, after forgetting them."""
        rows, total = read
        found, cursor, previous = reading.query.ends(rows, lambda row: (row[1], row[2]))
        bad = [session_id for shown, _, session_id, checksum in found if row_sum(session_id, shown) != checksum]
        if bad:
            for session_id in bad:
                self._base.forget(session_id)
            raise _BadRows
        shown = ",".join([row[0] for row in found])  # one text: a call of json.loads costs as much as its row
        return Listed(json.loads(f"[{shown}]"), cursor, previous, total)

    def content(
        self, log: "EventLog", describe: Callable[[str], Mapping[str, Any]]
    ) -> dict[str, list[tuple[Any, ...]]] | None:
        """Update the catalogue and return all rows, by session, damaged ones too, for a comparison.

        None if others delete rows all the time.
        """

        def read(base: sqlite3.Connection) -> dict[str, list[tuple[Any, ...]]]:
            found = dict[str, list[tuple[Any, ...]]]()
            for row in base.execute(f"SELECT session_id, shown, {COLUMNS}, sum FROM sessions"):  # noqa: S608 - ours
                found[row[0]] = [row]
            for row in base.execute("SELECT session_id, tag, updated FROM tags ORDER BY 1, 2, 3"):
                found.setdefault(row[0], []).append(row)
            return found

        def update() -> None:
            self._base.catch_up(log, lambda stale: self._take(stale, describe, lambda damage: None, iter))

        return self._base.run(lambda: self._base.settled(update, read))

    def find_if_current(self, wanted: Filter, changed: Callable[[str | None], Changes]) -> list[dict[str, Any]] | None:
        """List as `find` does where no log changed since the last list; else return None. Raises ValueError."""
        reading = _Reading.of(wanted)

        def work() -> list[dict[str, Any]] | None:
            state = self._base.state()
            if not self._base.is_current(changed):
                return None
            with self._base.reading() as base:
                found, is_same = reading.rows(base), self._base.is_at(base, state)
            return self._listed(reading, found).rows if is_same else None

        with suppress(_BadRows):
            return self._base.run(work)
        return None


class _Reading(NamedTuple):
    """What is read for a page: the query of its rows, and that of all that match, if they are counted."""

    query: Query
    all: Query
    total: bool

    @classmethod
    def of(cls, wanted: Filter, *, total: bool = False) -> "_Reading":
        return cls(Query.of(wanted, SQLITE), Query.of(wanted._replace(cursor=None), SQLITE), total)

    def rows(self, base: sqlite3.Connection) -> tuple[list[tuple[Any, ...]], int | None]:
        """Read a page, and count what is on all pages if that was asked for."""
        columns = f"sessions.shown, {self.query.order}, sessions.session_id, sessions.sum"
        rows = base.execute(self.query.page(columns), self.query.values).fetchall()
        return rows, self.count(base) if self.total else None

    def count(self, base: sqlite3.Connection) -> int:
        """Count what is on all pages."""
        return int(base.execute(self.all.counting(), self.all.values).fetchone()[0])


class _BadRows(Exception):
    """Rows were damaged and have been deleted."""


def _write_rows(base: sqlite3.Connection, rows: Iterable[Row]) -> None:
    """Write rows with one statement for each table: row by row the statements cost more than their work."""
    found, tags = list[tuple[Any, ...]](), list[tuple[str, str, str]]()
    for known, text in rows:
        session_id, updated, shown = known["session_id"], known["updated_at"], _encode(known)
        found.append((session_id, text, *columns_of(known), shown, row_sum(session_id, shown)))
        tags += [(tag, updated, session_id) for tag in known["tags"]]
    base.executemany("INSERT OR REPLACE INTO sessions VALUES (?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?)", found)
    names = json.dumps([row[0] for row in found])
    base.execute("DELETE FROM tags WHERE session_id IN (SELECT value FROM json_each(?))", (names,))
    base.executemany("INSERT OR IGNORE INTO tags VALUES (?, ?, ?)", tags)
