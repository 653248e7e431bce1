"""Full-text search in all sessions: ranked hits, each with the session id and event number to cite.

The index is a local cache. `EventLog.changed` names the sessions that changed, and only their new events are read. The index
holds the texts of messages, purposes, tool names, and inputs and results of tool calls. It can be deleted: it is rebuilt. Lists
do not use it and never wait for it, and a search does not wait for it either: it is updated in short transactions, for as long as
the caller allows.
"""

import sqlite3
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any, NamedTuple

from msgspec import UNSET

from eventstore.custom_events import ReadEvent
from eventstore.derived.database import Cache, Database
from eventstore.derived.search_query import TYPED, Asked, Hits, Indexing, best, checked
from eventstore.derived.search_query import Hit as Hit
from eventstore.derived.search_text import contains, parse, segmented
from eventstore.errors import LogDamaged, SessionNotFound
from eventstore.events import (
    Event,
    EventRedacted,
    InvocationEvent,
    InvocationLinked,
    InvocationStarted,
    MessageAdded,
    SessionCreated,
    SessionUpdated,
)
from eventstore.log.engine import EventLog
from eventstore.record import codec
from projections.calls import INLINE_BYTES, Value
from projections.project import is_in_project, project_of

_SCHEMA = """
CREATE TABLE IF NOT EXISTS said (
    id INTEGER PRIMARY KEY AUTOINCREMENT, session_id TEXT, seq INTEGER, role TEXT, tool TEXT, time TEXT, kind TEXT,
    parted TEXT, text TEXT, call TEXT
);
CREATE INDEX IF NOT EXISTS said_in ON said (session_id, seq);
CREATE INDEX IF NOT EXISTS said_call ON said (session_id, call) WHERE call IS NOT NULL AND tool IS NOT NULL;
CREATE VIEW IF NOT EXISTS indexed AS SELECT id, coalesce(parted, text) AS text, tool, kind FROM said;
CREATE VIRTUAL TABLE IF NOT EXISTS words USING fts5 (
    text, tool, kind, content='indexed', content_rowid='id', tokenize="unicode61 remove_diacritics 2"
);
INSERT INTO words (words, rank) VALUES ('automerge', 0);
CREATE TRIGGER IF NOT EXISTS said_deleted AFTER DELETE ON said BEGIN
    INSERT INTO words (words, rowid, text, tool, kind)
    VALUES ('delete', old.id, coalesce(old.parted, old.text), old.tool, old.kind);
END;
CREATE TABLE IF NOT EXISTS sessions (
    session_id TEXT PRIMARY KEY, text TEXT, user TEXT, project TEXT, title TEXT, since INTEGER, version INTEGER, hash TEXT
) WITHOUT ROWID;
"""
_FUNCTIONS: dict[str, Callable[..., Any]] = {"contains": contains, "in_project": is_in_project}
_ROWS_AT_ONCE = 2_000  # a transaction of so many messages takes 15 ms, and leaves a part of the index to be merged
_DELETED_AT_ONCE = 500  # so many take 10 ms
_CHARACTERS_AT_ONCE = 200_000  # indexing so many takes 25 ms
_EVENTS_AT_ONCE = 5_000  # reading so many without a text takes 25 ms
_MERGES, _MERGED_PAGES = 3, 40  # of 4 KB, for the 50 that a transaction writes at most
_TRIES = 10
Describe = Callable[[str], Mapping[str, Any]]


class Search(Cache):
    """The full-text index over the sessions of a log, in a folder, or in memory without one."""

    def __init__(self, log: EventLog, folder: Path | None = None) -> None:
        super().__init__(Database(folder, "search.db", _SCHEMA, ("said", "sessions"), _FUNCTIONS))
        self._log = log

    def find(
        self,
        asked: Asked,
        describe: Describe,
        on_damage: Callable[[LogDamaged], None],
        is_visible: Callable[[str, int], bool] = lambda session_id, seq: True,
        wait_s: float | None = None,
    ) -> Hits:
        """Update the index and return the best hits, the best first, without those that `is_visible` rejects.

        The update stops after `wait_s` seconds; with None it is completed. `describe` returns a session's metadata, or raises
        SessionNotFound or LogDamaged; `on_damage` is called with the latter. Raises ValueError for an invalid query.
        """
        parts, asked = parse(asked.text), checked(asked)

        indexing: Indexing | None = None

        def update() -> None:
            nonlocal indexing
            indexing = self.catch_up(describe, on_damage, wait_s)

        def read(base: sqlite3.Connection) -> Hits:
            return best(base, asked, parts, is_visible) if parts and asked.limit else Hits()

        hits = self._base.run(lambda: self._base.after(update, read))
        hits.indexing = indexing
        return hits

    def catch_up(
        self, describe: Describe, on_damage: Callable[[LogDamaged], None], wait_s: float | None = None
    ) -> Indexing | None:
        """Index the new events, for `wait_s` seconds or until all are indexed: then the result is None.

        At least one transaction is made, so that every call continues.
        """
        until = None if wait_s is None else time.monotonic() + wait_s
        left = 0

        def take(stale: list[tuple[str, str]]) -> set[str] | None:
            nonlocal left
            failed, left = self._take(stale, describe, on_damage, until)
            return None if left else failed

        if self._base.catch_up(self._log, take):
            return None
        with self._base.reading() as base:
            (known,) = base.execute("SELECT count(*) FROM sessions WHERE text != ''").fetchone()
        return Indexing(known, known + left)

    def scrub(self) -> None:
        """Remove the deleted texts from the index and its file."""
        try:
            with self._base.writing() as base:
                base.execute("INSERT INTO words (words) VALUES ('optimize')")
        except (sqlite3.Error, OSError):
            self._base.clear()
        super().scrub()

    def text_of(self, session_id: str, seq: int) -> str:
        """Return the full text of a hit."""

        def work() -> str:
            with self._base.reading() as base:
                found = base.execute(
                    "SELECT text FROM said WHERE session_id = ? AND seq = ? ORDER BY id", (session_id, seq)
                ).fetchall()
            return "".join(row[0] for row in found)

        return self._base.run(work)

    def content(self, describe: Describe) -> dict[str, list[tuple[Any, ...]]] | None:
        """Update the index and return all rows, by session; None if others keep deleting. Raises ValueError if it is damaged."""

        def read(base: sqlite3.Connection) -> dict[str, list[tuple[Any, ...]]]:
            found = dict[str, list[tuple[Any, ...]]]()
            for row in base.execute("SELECT session_id, user, project, title FROM sessions"):
                found[row[0]] = [row]
            for row in base.execute(
                "SELECT session_id, seq, role, tool, time, kind, text FROM said ORDER BY session_id, seq, id"
            ):
                found.setdefault(row[0], []).append(row)
            return found

        def update() -> None:
            self.catch_up(describe, lambda damage: None)
            with self._base.writing() as base:
                base.execute("INSERT INTO words (words, rank) VALUES ('integrity-check', 1)")

        return self._base.examine(lambda: self._base.settled(update, read), "the search index is")

    def _take(
        self,
        stale: Sequence[tuple[str, str]],
        describe: Describe,
        on_damage: Callable[[LogDamaged], None],
        until: float | None,
    ) -> tuple[set[str], int]:
        """Index sessions until a time. Return those that could not be read, and how many were not completed."""
        failed, waiting = set[str](), _Waiting()

        def index(session_id: str, text: str, until: float | None, waiting: _Waiting | None) -> bool:
            """Index one session, or let it wait; False at the time `until`."""
            try:
                about = _about(describe(session_id))
                for _ in range(_TRIES):
                    done = self._index(session_id, text, about, until, waiting)
                    if done is not None:
                        return done
                failed.add(session_id)
            except SessionNotFound:
                failed.add(session_id)
            except LogDamaged as damage:
                failed.add(session_id)
                on_damage(damage)
            return True

        def settle() -> None:
            for session_id, text in self._write_waiting(waiting):
                index(session_id, text, None, None)

        for place, (session_id, text) in enumerate(stale):
            is_done = index(session_id, text, until, waiting)
            is_late = until is not None and time.monotonic() >= until
            if is_late or waiting.is_full():
                settle()
            left = len(stale) - place - is_done
            if left and (is_late or not is_done):
                return failed, left
        settle()
        return failed, 0

    def _index(
        self, session_id: str, text: str, about: "_About", until: float | None, waiting: "_Waiting | None"
    ) -> bool | None:
        """Index the new events of a session, without inherited ones.

        True when all are indexed, or wait to be written; False at the time `until`, None if another process indexes them.
        """
        state, lines = self._base.state(), self._log.small(session_id)
        since = self._log.inherited(session_id) if lines is None else 0
        done = self._done(session_id, since)
        if done is None:
            self._empty(session_id)
            done = since, ""
        is_begun = False
        event, pieces, size = None, list[_Piece](), 0
        for event in self._events(session_id, done[0], lines):
            if isinstance(event, EventRedacted):  # its line was read before, or is not overwritten yet
                pieces.append(event.target)
            elif (row := _row_of(session_id, event)) is not None:
                size += len(row[-1])
                if len(row[-1]) <= _CHARACTERS_AT_ONCE:
                    pieces.append(row)
                else:
                    pieces += _split(row)
            is_far = until is not None and event.seq - done[0] >= _EVENTS_AT_ONCE
            if is_far or len(pieces) >= _ROWS_AT_ONCE or size >= _CHARACTERS_AT_ONCE:
                here = event.seq, event.hash
                if not self._write(pieces, state, done, (session_id, "", *about, since, *here)):
                    return None
                pieces, done, size, is_begun = [], here, 0, True
                if until is not None and time.monotonic() >= until:
                    return False
        here = done if event is None else (event.seq, event.hash)
        last = _Ready(pieces, state, done, (session_id, text, *about, since, *here))
        if waiting is None or is_begun:
            return self._write(*last) or None
        waiting.add(last, size)
        return True

    def _events(self, session_id: str, after: int, lines: bytes | None) -> Iterator[ReadEvent]:
        """Stream the events of a session after one, with their large values; `lines` are those of a small log."""
        if lines is None:
            events = self._log.read(session_id, after)
        else:
            events = (event for event in codec.decode_lines(lines, packed=True) if event.seq > after)
        return self._log.with_values(session_id, events, strict=False)

    def _done(self, session_id: str, since: int) -> tuple[int, str] | None:
        """Return the number and hash of the last indexed event; None if the indexed log is not this one."""
        with self._base.reading() as base:
            row = base.execute(_PLACE, (session_id,)).fetchone()
        if row is None or row[0] != since:
            return None
        _, version, last = row
        if "+" in last:  # another program stopped between the transactions of a large event
            last = self._restart(session_id, row)
        event = next(self._log.read(session_id, version - 1, version), None) if version > since else None
        return (version, last) if version == since or (event is not None and event.hash == last) else None

    def _restart(self, session_id: str, place: tuple[int, int, str]) -> str:
        """Delete the rows of events that were not indexed completely. Return the hash of the event before them."""
        _, version, last = place
        count = 1
        while count:
            with self._base.writing() as base:
                if base.execute(_PLACE, (session_id,)).fetchone() != place:
                    return last  # another program continues it
                some = "SELECT id FROM said WHERE session_id = ? AND seq > ? LIMIT 1"
                count = base.execute(f"DELETE FROM said WHERE id IN ({some})", (session_id, version)).rowcount  # noqa: S608 - ours
                if not count:
                    last = last.partition("+")[0]
                    base.execute("UPDATE sessions SET hash = ? WHERE session_id = ?", (last, session_id))
        return last

    def _empty(self, session_id: str) -> None:
        """Delete the rows of a session; rows that others add in the meantime stay."""
        with self._base.reading() as base:
            if base.execute(_ANY_ROW, (session_id, session_id)).fetchone() is None:
                return
        with self._base.writing() as base:
            base.execute("DELETE FROM sessions WHERE session_id = ?", (session_id,))
            (last,) = base.execute("SELECT max(id) FROM said WHERE session_id = ?", (session_id,)).fetchone()
        count = _DELETED_AT_ONCE if last is not None else 0
        while count == _DELETED_AT_ONCE:
            with self._base.writing() as base:
                some = "SELECT id FROM said WHERE session_id = ? AND id <= ? LIMIT ?"
                values = session_id, last, _DELETED_AT_ONCE
                count = base.execute(f"DELETE FROM said WHERE id IN ({some})", values).rowcount  # noqa: S608 - ours

    def _write(self, pieces: Sequence["_Piece"], state: str, done: tuple[int, str], row: tuple[Any, ...]) -> bool:
        """Write rows; False if another process did, or `forget` was called since their events were read.

        Large texts take several transactions. Each but the last adds `+` to the stored hash, so that another process notices it,
        and so that what a kill leaves is known as unfinished.
        """
        groups = _grouped(pieces)
        place = row[-3], *done
        for number, group in enumerate(groups, 1):
            is_last = number == len(groups)
            following = row[-3:] if is_last else (place[0], place[1], f"{place[2]}+")
            with self._base.writing() as base:
                if not self._is_ours(base, row, place, state):
                    return False
                _put(base, row[0], group)
                base.execute(_PUT, row if is_last else (row[0], "", *row[2:-3], *following))
            place = following
            self._merge()
        return True

    def _write_waiting(self, waiting: "_Waiting") -> list[tuple[str, str]]:
        """Write the sessions that wait, in one transaction; return those that are not ours any more, with their texts."""
        refused = list[tuple[str, str]]()
        if waiting.ready:
            with self._base.writing() as base:
                for pieces, state, done, row in waiting.ready:
                    if self._is_ours(base, row, (row[-3], *done), state):
                        _put(base, row[0], pieces)
                        base.execute(_PUT, row)
                    else:
                        refused.append((row[0], row[1]))
            self._merge()
        waiting.clear()
        return refused

    def _is_ours(self, base: sqlite3.Connection, row: tuple[Any, ...], place: tuple[Any, ...], state: str) -> bool:
        """Return whether a session is indexed up to a place, and nothing was forgotten since `state`."""
        known = base.execute(_PLACE, (row[0],)).fetchone()
        is_there = known == place if known is not None else place == (row[-3], row[-3], "")
        return is_there and self._base.is_at(base, state)

    def _merge(self) -> None:
        """Merge parts of the index that got many, a few pages in each transaction: SQLite would merge for 100 ms at once."""
        for _ in range(_MERGES):
            with self._base.writing() as base:
                before = base.total_changes
                base.execute("INSERT INTO words (words, rank) VALUES ('merge', ?)", (_MERGED_PAGES,))
                if base.total_changes - before < 2:  # nothing was merged
                    return


_PLACE = "SELECT since, version, hash FROM sessions WHERE session_id = ?"
_ANY_ROW = "SELECT 1 FROM sessions WHERE session_id = ? UNION ALL SELECT 1 FROM said WHERE session_id = ? LIMIT 1"
_COLUMNS = "session_id, seq, role, tool, time, call, kind, parted, text"
_VALUES = "(?, ?, ?, ?, ?, ?, ?, ?, ?)"
_IN_A_STATEMENT = 50
_ADD = f"INSERT INTO said ({_COLUMNS}) VALUES {_VALUES}"  # noqa: S608 - ours
_ADD_MANY = f"INSERT INTO said ({_COLUMNS}) VALUES {', '.join([_VALUES] * _IN_A_STATEMENT)}"  # noqa: S608 - ours
_PUT = "INSERT OR REPLACE INTO sessions VALUES (?, ?, ?, ?, ?, ?, ?, ?)"
_Row = tuple[Any, ...]
"""A row of `said`: session, number, role, tool, time, call, kind, words if they are not the text, and text."""
_Piece = _Row | int
"""A row to add, or the number of an event whose rows are to be deleted."""


class _Ready(NamedTuple):
    """What is to be written of a session: rows, the state they were read in, the place before them, the row of `sessions`."""

    pieces: Sequence[_Piece]
    state: str
    done: tuple[int, str]
    row: tuple[Any, ...]


class _Waiting:
    """Sessions that are read to their ends, and wait to be written in one transaction."""

    def __init__(self) -> None:
        self.clear()

    def clear(self) -> None:
        """Drop all waiting rows."""
        self.ready, self._rows, self._size = list[_Ready](), 0, 0

    def add(self, ready: _Ready, size: int) -> None:
        """Add one waiting row; `size` is the number of characters of its texts."""
        self.ready.append(ready)
        self._rows += 1 + len(ready.pieces)
        self._size += size

    def is_full(self) -> bool:
        """Return whether a transaction is full: twice as much is the most that waits."""
        return self._rows >= _ROWS_AT_ONCE or self._size >= _CHARACTERS_AT_ONCE


_About = tuple[str | None, str | None, str | None]
"""User, project and title of a session."""


def _about(metadata: Mapping[str, Any]) -> _About:
    return metadata["user_id"], project_of(metadata["custom_metadata"]), metadata["purpose"]


def _grouped(pieces: Sequence[_Piece]) -> list[list[_Piece]]:
    """Divide pieces into groups, one for each transaction: at least one."""
    groups, size = [list[_Piece]()], 0
    for piece in pieces:
        more = 0 if isinstance(piece, int) else len(piece[-1])
        if groups[-1] and size + more > _CHARACTERS_AT_ONCE:
            groups.append([])
            size = 0
        groups[-1].append(piece)
        size += more
    return groups


def _split(row: _Row) -> Iterator[_Row]:
    """Split the row of a very long text into several, between words where there are spaces."""
    *front, _, text = row
    while text:
        cut = len(text)
        if cut > _CHARACTERS_AT_ONCE:
            cut = text.rfind(" ", _CHARACTERS_AT_ONCE // 2, _CHARACTERS_AT_ONCE) + 1 or _CHARACTERS_AT_ONCE
        yield (*front, segmented(text[:cut]), text[:cut])
        text = text[cut:]


def _put(base: sqlite3.Connection, session_id: str, pieces: Sequence[_Piece]) -> None:
    """Add rows with their words, and delete those of redacted events, in order."""
    rows = list[_Row]()
    for piece in pieces:
        if isinstance(piece, int):
            _add(base, rows)
            rows = []
            base.execute("DELETE FROM said WHERE session_id = ? AND seq = ?", (session_id, piece))
        else:
            rows.append(piece)
    _add(base, rows)


def _add(base: sqlite3.Connection, rows: Sequence[_Row]) -> None:
    """Add rows and their words.

    Many rows in a statement take half the time of a statement for each. Words from a trigger would take twice as long: SQLite
    ends a part of the index with each row then.
    """
    if not rows:
        return
    ((last,),) = base.execute("SELECT coalesce(max(id), 0) FROM said").fetchall()
    whole = len(rows) - len(rows) % _IN_A_STATEMENT
    for begin in range(0, whole, _IN_A_STATEMENT):
        base.execute(_ADD_MANY, [value for row in rows[begin : begin + _IN_A_STATEMENT] for value in row])
    base.executemany(_ADD, rows[whole:])
    base.execute(
        "INSERT INTO words (rowid, text, tool, kind) SELECT id, text, tool, kind FROM indexed WHERE id > ?", (last,)
    )


def _row_of(session_id: str, event: Event) -> _Row | None:
    """Return the row of an event, None if it has no text."""
    role: str
    if isinstance(event, MessageAdded):
        if event.copied:
            return None
        role, tool, call, text = event.role, event.tool_name, event.invocation_id, event.content
    elif isinstance(event, SessionCreated | SessionUpdated) and isinstance(event.purpose, str):
        role, tool, call, text = "purpose", None, None, event.purpose
    elif isinstance(event, InvocationEvent) and not event.copied:
        role, call, text = "call", event.invocation_id, _said_of_call(event)
        # If the start of a call is an event, that event has the name: otherwise each call would be found twice.
        tool = event.tool_name if isinstance(event, InvocationStarted) or event.result is UNSET else None
        if not text and tool is None:
            return None
    else:
        return None
    if "\0" in text:
        text = text.replace("\0", " ")  # SQLite's LIKE reads to the first NUL
    kind = "typed" if role in TYPED else ""
    parted = segmented(text) if len(text) <= _CHARACTERS_AT_ONCE else None  # a longer one is split first
    return session_id, event.seq, role, tool, event.time, call, kind, parted, text


def _said_of_call(event: InvocationEvent) -> str:
    """Return the input, or the error and the result, that an event holds; of a large value its beginning."""
    value = Value()
    value.take(event, "input" if isinstance(event, InvocationStarted) else "result")
    error = event.error if isinstance(event, InvocationLinked) else None
    return "\n".join(one[:INLINE_BYTES] for one in (error, value.text) if one)
