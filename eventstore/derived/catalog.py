"""The catalogue: the metadata of every session, in SQLite. The cost of a list grows with what changed since the last one.

Rows hold only `SessionMetadata.to_dict`; `EventLog.changed` names the sessions to read. Each row has a checksum: a damaged row is
read from the log again. This module imports only the standard library, so that a list starts fast.
"""

import binascii
import json
import math
import sqlite3
from base64 import urlsafe_b64decode, urlsafe_b64encode
from collections.abc import Callable, Iterable, Mapping, Sequence
from contextlib import suppress
from functools import partial
from pathlib import Path
from typing import Any, Literal, NamedTuple, TypeAlias, get_args
from zlib import crc32

from eventstore.derived.database import FOLDER, Cache, Database
from eventstore.errors import LogDamaged, SessionNotFound
from eventstore.log.base import Changes
from eventstore.log.engine import EventLog

__all__ = ["FOLDER", "Catalog", "Filter", "Sort"]

Sort: TypeAlias = Literal["updated", "created", "cost"]
Row: TypeAlias = tuple[Mapping[str, Any], str]
"""A session's metadata, from `SessionMetadata.to_dict`, and the text that `EventLog.changed` gave before it was read."""

_MOST_ROWS = 2**31
_COLUMNS = "updated, created, cost, status, user, purpose, sum"
_MOST_CURSOR = 2_000
_ROWS_AT_ONCE = 200
_SCHEMA = """
CREATE TABLE IF NOT EXISTS sessions (
    session_id TEXT PRIMARY KEY, text TEXT, updated TEXT, created TEXT, cost REAL, status TEXT, user TEXT, purpose TEXT,
    shown TEXT, sum INTEGER
) WITHOUT ROWID;
CREATE INDEX IF NOT EXISTS by_updated ON sessions (updated DESC, session_id);
CREATE INDEX IF NOT EXISTS by_created ON sessions (created DESC, session_id);
CREATE INDEX IF NOT EXISTS by_cost ON sessions (cost DESC, session_id);
CREATE INDEX IF NOT EXISTS by_user ON sessions (user, status, updated DESC, session_id);
CREATE INDEX IF NOT EXISTS by_status ON sessions (status, updated DESC, session_id);
CREATE TABLE IF NOT EXISTS tags (
    tag TEXT, updated TEXT, session_id TEXT, PRIMARY KEY (tag, updated DESC, session_id)
) WITHOUT ROWID;
CREATE INDEX IF NOT EXISTS tags_of ON tags (session_id);
"""


class Filter(NamedTuple):
    """Which sessions to list, in which order.

    `tags` match any, `purpose` a part of it in any case, times the last update (ISO, UTC). `limit` is how many at most.
    """

    user_id: str | None = None
    status: str | None = None
    tags: Sequence[str] | None = None
    purpose: str | None = None
    since: str | None = None
    until: str | None = None
    sort: Sort = "updated"
    limit: int | None = 100
    cursor: str | None = None


class Catalog(Cache):
    """A catalogue in a folder, or in memory without one. Safe for threads and processes.

    No method raises an error of SQLite or of the system: see `Database`.
    """

    def __init__(self, folder: Path | None = None) -> None:
        super().__init__(Database(folder, "catalog.db", _SCHEMA, ("sessions", "tags")))

    def page(
        self,
        wanted: Filter,
        log: EventLog,
        describe: Callable[[str], Mapping[str, Any]],
        on_damage: Callable[[LogDamaged], None],
        track: Callable[[Sequence[str]], Iterable[str]] = iter,
    ) -> tuple[list[dict[str, Any]], str | None]:
        """Update the catalogue and list the sessions that match, as `find` does.

        `describe` returns a session's metadata, or raises SessionNotFound or LogDamaged; `on_damage` is called with the latter.
        `track` receives the ids of the sessions to read, and yields each one when it is to be read.
        Raises ValueError as `find` does.
        """
        _query(wanted)

        def work() -> tuple[list[dict[str, Any]], str | None]:
            self._base.catch_up(log, lambda stale: self._take(stale, describe, on_damage, track))
            return self._find(wanted)

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

        def piece(row: Row, base: sqlite3.Connection) -> None:
            if self._base.is_at(base, state):
                _write_row(base, *row)
            else:
                refused.append(row[0]["session_id"])

        self._base.in_slices(partial(piece, row) for row in rows)
        return refused

    def find(self, wanted: Filter) -> tuple[list[dict[str, Any]], str | None]:
        """List the metadata of the sessions that match, and the cursor of the next page; None after the last page.

        Raises ValueError for an invalid cursor, one of another order, and an invalid filter or limit.
        """
        return self._base.run(lambda: self._find(wanted))

    def _find(self, wanted: Filter) -> tuple[list[dict[str, Any]], str | None]:
        text, values, limit = _query(wanted)
        with self._base.reading() as base:
            found = base.execute(text, values).fetchall()
        more = None
        if limit is not None and len(found) > limit:
            found = found[:limit]
            more = _cursor(wanted.sort, found[-1][1], found[-1][2]) if found else None
        bad = [session_id for shown, _, session_id, total in found if _sum(session_id, shown) != total]
        if bad:
            for session_id in bad:
                self._base.forget(session_id)
            raise _BadRows
        return [json.loads(shown) for shown, *_ in found], more

    def content(self, log: EventLog, describe: Callable[[str], Mapping[str, Any]]) -> dict[str, list[tuple[Any, ...]]]:
        """Update the catalogue and return all rows, by session, damaged ones too, for a comparison."""

        def work() -> dict[str, list[tuple[Any, ...]]]:
            found = dict[str, list[tuple[Any, ...]]]()
            self._base.catch_up(log, lambda stale: self._take(stale, describe, lambda damage: None, iter))
            with self._base.reading() as base:
                for row in base.execute(f"SELECT session_id, shown, {_COLUMNS} FROM sessions"):  # noqa: S608 - ours
                    found[row[0]] = [row]
                for row in base.execute("SELECT session_id, tag, updated FROM tags ORDER BY 1, 2, 3"):
                    found.setdefault(row[0], []).append(row)
            return found

        return self._base.run(work)

    def find_if_current(self, wanted: Filter, changed: Callable[[str | None], Changes]) -> list[dict[str, Any]] | None:
        """List as `find` does where no log changed since the last list; else return None. Raises ValueError."""
        with suppress(_BadRows):
            return self._base.run(lambda: self._find(wanted)[0] if self._base.is_current(changed) else None)
        return None


class _BadRows(Exception):
    """Rows were damaged and have been deleted."""


def _write_row(base: sqlite3.Connection, known: Mapping[str, Any], text: str) -> None:
    session_id, updated, purpose = known["session_id"], known["updated_at"], known["purpose"]
    shown = json.dumps(known, ensure_ascii=False)
    base.execute(
        "INSERT OR REPLACE INTO sessions VALUES (?, ?, ?, ?, ?, ?, ?, ?, ?, ?)",
        (
            session_id,
            text,
            updated,
            known["created_at"],
            known["estimated_cost"] or 0.0,
            known["status"],
            known["user_id"],
            None if purpose is None else purpose.casefold(),
            shown,
            _sum(session_id, shown),
        ),
    )
    base.execute("DELETE FROM tags WHERE session_id = ?", (session_id,))
    base.executemany(
        "INSERT OR IGNORE INTO tags VALUES (?, ?, ?)", [(tag, updated, session_id) for tag in known["tags"]]
    )


def _sum(session_id: object, shown: object) -> int:
    """Return the checksum of a row."""
    return crc32(f"{session_id} {shown}".encode("utf-8", "replace"))


def _query(wanted: Filter) -> tuple[str, list[Any], int | None]:
    """Return the SQL statement of a filter, its values, and its limit. Raises ValueError."""
    if wanted.sort not in get_args(Sort):
        raise ValueError(f"sort {wanted.sort!r} is not one of {', '.join(get_args(Sort))}")
    limit = check_limit(wanted.limit)
    tags = [check_text("a tag", tag) for tag in wanted.tags or ()]
    source, order, conditions, values = "sessions", f"sessions.{wanted.sort}", list[str](), list[Any]()
    if len(tags) == 1 and wanted.sort == "updated":
        source, order = "tags JOIN sessions USING (session_id)", "tags.updated"
        conditions.append("tags.tag = ?")
        values.append(tags[0])
    elif tags:
        conditions.append("session_id IN (SELECT session_id FROM tags WHERE tag IN (SELECT value FROM json_each(?)))")
        values.append(json.dumps(tags))
    for name, condition, value in (
        ("user_id", "sessions.user = ?", wanted.user_id),
        ("status", "sessions.status = ?", wanted.status),
        ("purpose", "instr(sessions.purpose, ?) > 0", wanted.purpose),
        ("since", "sessions.updated >= ?", wanted.since),
        ("until", "sessions.updated <= ?", wanted.until),
    ):
        if value is not None:
            text = check_text(name, value)
            conditions.append(condition)
            values.append(text.casefold() if name == "purpose" else text)
    if wanted.cursor is not None:
        last, session_id = _read_cursor(wanted.sort, wanted.cursor)
        conditions.append(f"({order} < ? OR ({order} = ? AND session_id > ?))")
        values += [last, last, session_id]
    where = f" WHERE {' AND '.join(conditions)}" if conditions else ""
    most = "" if limit is None else f" LIMIT {limit + 1}"
    text = (
        f"SELECT shown, {order}, session_id, sum FROM {source}{where}"  # noqa: S608 - names of ours
        f" ORDER BY {order} DESC, session_id{most}"
    )
    return text, values, limit


def check_limit(limit: object) -> int | None:
    """Return the greatest number of rows; None for all. Raises ValueError."""
    if limit is None:
        return None
    if isinstance(limit, bool) or not isinstance(limit, int):
        raise ValueError(f"limit {str(limit)[:40]!a} is not a whole number")
    return min(max(limit, 0), _MOST_ROWS)


def check_text(name: str, value: object) -> str:
    """Return the value if it is valid text. Raises ValueError."""
    if not isinstance(value, str):
        raise ValueError(f"{name} {str(value)[:40]!a} is not text")
    try:
        value.encode("utf-8")
    except UnicodeEncodeError:
        raise ValueError(f"{name} {value[:40]!a} is not valid Unicode") from None
    return value


def _cursor(sort: Sort, value: object, session_id: str) -> str:
    return urlsafe_b64encode(json.dumps([sort, value, session_id]).encode()).decode("ascii").rstrip("=")


def _read_cursor(sort: Sort, text: object) -> tuple[str | float, str]:
    """Decode a cursor. Raises ValueError for one that no list of this order gave."""
    try:
        found = _decoded(text)
        place, value, session_id = found
        if place == sort:
            return _check_value(sort, value), check_text("an id", session_id)
    except (ValueError, TypeError, RecursionError, OverflowError, binascii.Error):
        pass
    raise ValueError(f"cursor {str(text)[:40]!a} is not one that a list sorted by {sort} gave")


def _decoded(text: object) -> list[Any]:
    if not isinstance(text, str) or len(text) > _MOST_CURSOR:
        raise ValueError
    found = json.loads(urlsafe_b64decode(text + "=" * (-len(text) % 4)))
    if not isinstance(found, list):
        raise TypeError
    return found


def _check_value(sort: Sort, value: object) -> str | float:
    if sort != "cost":
        return check_text("a time", value)
    if isinstance(value, bool) or not isinstance(value, int | float) or not math.isfinite(value):
        raise ValueError
    return float(value)
