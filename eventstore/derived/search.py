"""Search: what was said in all sessions, by full text, ranked, each hit with the place it can be cited by.

The index is part of the catalogue's base and caught up with it: of a session that changed only the new events are read. It holds
the texts of messages, purposes and tool names; delete it and it comes back.
"""

import sqlite3
from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import suppress
from typing import Any, NamedTuple

from eventstore.derived.catalog import Catalog
from eventstore.errors import LogDamaged, SessionNotFound
from eventstore.events import Event, EventRedacted, InvocationLinked, MessageAdded, SessionCreated, SessionUpdated
from eventstore.log.engine import EventLog

_SCHEMA = """
CREATE TABLE IF NOT EXISTS said (
    id INTEGER PRIMARY KEY, session_id TEXT, seq INTEGER, role TEXT, tool TEXT, time TEXT, text TEXT
);
CREATE INDEX IF NOT EXISTS said_in ON said (session_id, seq);
CREATE VIRTUAL TABLE IF NOT EXISTS words USING fts5 (
    text, tool, content='said', content_rowid='id', tokenize="unicode61 remove_diacritics 2", prefix='2 3'
);
CREATE TABLE IF NOT EXISTS searched (
    session_id TEXT PRIMARY KEY, size INTEGER, since INTEGER, version INTEGER, hash TEXT
) WITHOUT ROWID;
"""
_TAKEN_AT_ONCE = 2_000
_RANKED = 5_000  # ranking so many takes 15 ms


class Hit(NamedTuple):
    """A place where a text was found: cite it by `session_id` and `seq`.

    `role` is that of the message, `purpose` for what a session was for and `call` for a tool call; `time` is when it happened.
    `snippet` is the text around the words found, which stand between `[` and `]`; `score` is greater for a better hit.
    """

    session_id: str
    seq: int
    role: str
    tool_name: str | None
    time: str
    snippet: str
    score: float


class Asked(NamedTuple):
    """What to search for.

    Words are all to be there, `"quoted ones"` next to each other; `word*` is a beginning, of two letters at least.
    """

    text: str
    user_id: str | None = None
    role: str | None = None
    tool: str | None = None
    since: str | None = None
    limit: int = 20


class Search:
    """The full-text index over the sessions of a log, kept in the base of their catalogue."""

    def __init__(self, log: EventLog, catalog: Catalog) -> None:
        self._log, self._catalog = log, catalog

    def find(self, asked: Asked, is_visible: Callable[[str, int], bool] = lambda session_id, seq: True) -> list[Hit]:
        """Return the best hits, the best first; `is_visible` may leave hits out. The catalogue is caught up already."""
        words = _as_match(asked.text)
        if not words:
            return []
        with self._catalog.using(_SCHEMA) as base:
            self._catch_up(base)
        with self._catalog.using(_SCHEMA) as base:
            found = _rows(base, asked, words)
            visible = (row for row in found if is_visible(row[0], row[1]))
            return [_hit(base, row, words) for row, _ in zip(visible, range(max(asked.limit, 0)), strict=False)]

    def forget(self, session_id: str) -> None:
        """Drop all that can be found of a session; what its log still holds is taken in anew."""
        with self._catalog.using(_SCHEMA) as base:
            _forget(base, session_id)

    def compact(self) -> None:
        """Write the index anew, so that nothing is left in it of what was dropped."""
        with self._catalog.using(_SCHEMA) as base:
            base.execute("INSERT INTO words (words) VALUES ('optimize')")

    def text_of(self, session_id: str, seq: int) -> str:
        """Return the whole text of a hit."""
        with self._catalog.using(_SCHEMA) as base:
            found = base.execute("SELECT text FROM said WHERE session_id = ? AND seq = ?", (session_id, seq)).fetchone()
        return found[0] if found else ""

    def _catch_up(self, base: sqlite3.Connection) -> None:
        """Take in what is new, and forget sessions that are gone."""
        for (gone,) in base.execute(
            "SELECT session_id FROM searched WHERE session_id NOT IN (SELECT session_id FROM sessions)"
        ).fetchall():
            _forget(base, gone)
        stale = base.execute(
            "SELECT sessions.session_id, sessions.size FROM sessions LEFT JOIN searched USING (session_id)"
            " WHERE searched.size IS NOT sessions.size"
        ).fetchall()
        for session_id, size in stale:
            with suppress(LogDamaged, SessionNotFound):  # lists tell of it
                self._take(base, session_id, size)

    def _take(self, base: sqlite3.Connection, session_id: str, size: int) -> None:
        """Take in a session's own events that are new: what a fork inherits is its parent's."""
        since = self._log.inherited(session_id)
        known = base.execute(
            "SELECT version, hash FROM searched WHERE session_id = ? AND since = ?", (session_id, since)
        ).fetchone()
        version, last = known or (since, "")
        if not known or next((event.hash for event in self._log.read(session_id, version - 1, version)), "") != last:
            _forget(base, session_id)
            version, known = since, None
        taken = version if known else 0
        rows = list[tuple[Any, ...]]()
        for event in self._log.read(session_id, version):
            if isinstance(event, EventRedacted) and event.target <= taken:
                _forget(base, session_id)
                self._take(base, session_id, size)
                return
            version, last = event.seq, event.hash
            rows += _texts(session_id, event)
            if len(rows) >= _TAKEN_AT_ONCE:
                _add(base, rows)
                rows = []
        _add(base, rows)
        base.execute("INSERT OR REPLACE INTO searched VALUES (?, ?, ?, ?, ?)", (session_id, size, since, version, last))


def _texts(session_id: str, event: Event) -> Iterator[tuple[Any, ...]]:
    """Tell what of an event can be found."""
    if isinstance(event, MessageAdded):
        yield session_id, event.seq, event.role, event.tool_name, event.time, event.content
    elif isinstance(event, SessionCreated | SessionUpdated) and isinstance(event.purpose, str):
        yield session_id, event.seq, "purpose", None, event.time, event.purpose
    elif isinstance(event, InvocationLinked) and event.tool_name is not None:
        yield session_id, event.seq, "call", event.tool_name, event.time, event.error or ""


def _add(base: sqlite3.Connection, rows: Sequence[tuple[Any, ...]]) -> None:
    if not rows:
        return
    first = base.execute("SELECT coalesce(max(id), 0) + 1 FROM said").fetchone()[0]
    numbered = [(first + place, *row) for place, row in enumerate(rows)]
    base.executemany("INSERT INTO said VALUES (?, ?, ?, ?, ?, ?, ?)", numbered)
    base.executemany(
        "INSERT INTO words (rowid, text, tool) VALUES (?, ?, ?)", [(row[0], row[6], row[4]) for row in numbered]
    )


def _forget(base: sqlite3.Connection, session_id: str) -> None:
    base.execute(
        "INSERT INTO words (words, rowid, text, tool) SELECT 'delete', id, text, tool FROM said WHERE session_id = ?",
        (session_id,),
    )
    base.execute("DELETE FROM said WHERE session_id = ?", (session_id,))
    base.execute("DELETE FROM searched WHERE session_id = ?", (session_id,))


def _rows(base: sqlite3.Connection, asked: Asked, words: str) -> Iterator[tuple[Any, ...]]:
    conditions, values = ["words MATCH ?"], [words]
    for column, value in (("said.role", asked.role), ("said.tool", asked.tool), ("sessions.user", asked.user_id)):
        if value is not None:
            conditions.append(f"{column} = ?")
            values.append(value)
    if asked.since is not None:
        conditions.append("said.time >= ?")
        values.append(asked.since)
    text = (
        "SELECT said.session_id, said.seq, said.role, said.tool, said.time, said.id, words.rank FROM words"  # noqa: S608 - ours
        " JOIN said ON said.id = words.rowid JOIN sessions ON sessions.session_id = said.session_id"
        f" WHERE {' AND '.join(conditions)} ORDER BY {_order(base, words)}"
    )
    return iter(base.execute(text, values))


def _order(base: sqlite3.Connection, words: str) -> str:
    """Rank what is found; of words that are nearly everywhere the newest come first, for no rank tells them apart."""
    common = "SELECT count(*) FROM (SELECT rowid FROM words WHERE words MATCH ? LIMIT ?)"
    (count,) = base.execute(common, (words, _RANKED + 1)).fetchone()
    return "words.rank, said.session_id, said.seq" if count <= _RANKED else "words.rowid DESC"


def _hit(base: sqlite3.Connection, row: tuple[Any, ...], words: str) -> Hit:
    (snippet,) = base.execute(
        "SELECT snippet(words, -1, '[', ']', '…', 24) FROM words WHERE words MATCH ? AND rowid = ?", (words, row[5])
    ).fetchone()
    return Hit(row[0], row[1], row[2], row[3], row[4], " ".join(snippet.split()), -row[6])


def _as_match(text: str) -> str:
    """Write what a person typed as an FTS5 query: every word quoted, so that nothing in it is an operator."""
    parts: list[str] = []
    plain = text.replace("\0", " ").encode("utf-8", "replace").decode()
    for place, part in enumerate(plain.split('"')):
        if place % 2:
            parts += ['"' + part + '"'] if any(one.isalnum() for one in part) else []
            continue
        for word in part.split():
            bare = word.rstrip("*")
            begins = word.endswith("*") and len(bare) > 1
            if any(one.isalnum() for one in bare):
                parts.append(f'"{bare}"' + ("*" if begins else ""))
    return " ".join(parts)


def pack(hits: Iterable[tuple[Hit, str]], budget_tokens: int, count: Callable[[str], int]) -> str:
    """Pack hits for a prompt, the best first, each whole and under its citation, as many as fit the budget."""
    packed: list[str] = []
    for hit, text in hits:
        who = f"{hit.role} ({hit.tool_name})" if hit.tool_name else hit.role
        part = f"[{hit.session_id}:{hit.seq}] {hit.time} {who}\n{text}"
        cost = count(part)
        if cost > budget_tokens:
            continue
        budget_tokens -= cost
        packed.append(part)
    return "\n\n".join(packed)


def count_tokens(text: str) -> int:
    """Estimate tokens: bytes of UTF-8 by four, and two for the blank line."""
    return len(text.encode("utf-8", "replace")) // 4 + 2
