"""Full-text search in all sessions: ranked hits, each with the session id and event number to cite.

The index is a local cache. `EventLog.changed` names the sessions that changed, and only their new events are read. The index
holds the texts of messages, purposes and tool names. It can be deleted: it is rebuilt. Lists do not use it and never wait for it.
"""

import sqlite3
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from functools import partial
from pathlib import Path
from typing import Any, NamedTuple

from eventstore.derived.catalog import check_limit, check_text
from eventstore.derived.database import Cache, Database
from eventstore.errors import LogDamaged, SessionNotFound
from eventstore.events import Event, EventRedacted, InvocationLinked, MessageAdded, SessionCreated, SessionUpdated
from eventstore.log.engine import EventLog

_SCHEMA = """
CREATE TABLE IF NOT EXISTS said (
    id INTEGER PRIMARY KEY AUTOINCREMENT, session_id TEXT, seq INTEGER, role TEXT, tool TEXT, time TEXT, text TEXT
);
CREATE INDEX IF NOT EXISTS said_in ON said (session_id, seq);
CREATE VIRTUAL TABLE IF NOT EXISTS words USING fts5 (
    text, tool, content='said', content_rowid='id', tokenize="unicode61 remove_diacritics 2", prefix='2 3'
);
CREATE TRIGGER IF NOT EXISTS said_added AFTER INSERT ON said BEGIN
    INSERT INTO words (rowid, text, tool) VALUES (new.id, new.text, new.tool);
END;
CREATE TRIGGER IF NOT EXISTS said_deleted AFTER DELETE ON said BEGIN
    INSERT INTO words (words, rowid, text, tool) VALUES ('delete', old.id, old.text, old.tool);
END;
CREATE TABLE IF NOT EXISTS sessions (
    session_id TEXT PRIMARY KEY, text TEXT, user TEXT, since INTEGER, version INTEGER, hash TEXT
) WITHOUT ROWID;
"""
_ROWS_AT_ONCE = 100  # a transaction of so many messages takes 5 ms
_RANKED = 5_000  # ranking so many takes 15 ms
_MOST_WORDS, _TRIES = 200, 10
Describe = Callable[[str], Mapping[str, Any]]


class Hit(NamedTuple):
    """A place where a text was found: cite it by `session_id` and `seq`.

    `role` is the role of the message, `purpose` for a session's purpose, `call` for a tool call; `time` is when it happened.
    `snippet` is the text around the matching words, which are between `[` and `]`; a better hit has a greater `score`.
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

    All words must match; `"quoted words"` must be adjacent; `word*` is a prefix of at least two letters.
    """

    text: str
    user_id: str | None = None
    role: str | None = None
    tool: str | None = None
    since: str | None = None
    limit: int = 20


class Search(Cache):
    """The full-text index over the sessions of a log, in a folder, or in memory without one."""

    def __init__(self, log: EventLog, folder: Path | None = None) -> None:
        super().__init__(Database(folder, "search.db", _SCHEMA, ("said", "sessions")))
        self._log = log

    def find(
        self,
        asked: Asked,
        describe: Describe,
        on_damage: Callable[[LogDamaged], None],
        is_visible: Callable[[str, int], bool] = lambda session_id, seq: True,
    ) -> list[Hit]:
        """Update the index and return the best hits, the best first, without those that `is_visible` rejects.

        `describe` returns a session's metadata, or raises SessionNotFound or LogDamaged; `on_damage` is called with the latter.
        Raises ValueError for an invalid query.
        """
        words, asked = _as_match(asked.text), _checked(asked)

        def work() -> list[Hit]:
            self.catch_up(describe, on_damage)
            if not words:
                return []
            with self._base.reading() as base:
                found = _rows(base, asked, words)
                visible = (row for row in found if is_visible(row[0], row[1]))
                return [_hit(base, row, words) for row, _ in zip(visible, range(asked.limit), strict=False)]

        return self._base.run(work)

    def catch_up(self, describe: Describe, on_damage: Callable[[LogDamaged], None]) -> None:
        """Index the new events."""
        self._base.catch_up(self._log, lambda stale: self._take(stale, describe, on_damage))

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
                    "SELECT text FROM said WHERE session_id = ? AND seq = ?", (session_id, seq)
                ).fetchone()
            return found[0] if found else ""

        return self._base.run(work)

    def content(self, describe: Describe) -> dict[str, list[tuple[Any, ...]]]:
        """Update the index and return all rows, by session. Raises ValueError where it is damaged."""
        found = dict[str, list[tuple[Any, ...]]]()
        try:
            self.catch_up(describe, lambda damage: None)
            with self._base.writing() as base:
                base.execute("INSERT INTO words (words, rank) VALUES ('integrity-check', 1)")
                for row in base.execute("SELECT session_id, user FROM sessions"):
                    found[row[0]] = [row]
                for row in base.execute(
                    "SELECT session_id, seq, role, tool, time, text FROM said ORDER BY session_id, seq"
                ):
                    found.setdefault(row[0], []).append(row)
        except sqlite3.Error as error:
            raise ValueError(f"the search index is damaged ({error})") from error
        return found

    def _take(
        self, stale: Sequence[tuple[str, str]], describe: Describe, on_damage: Callable[[LogDamaged], None]
    ) -> set[str]:
        failed = set[str]()
        for session_id, text in stale:
            try:
                user = describe(session_id)["user_id"]
                if not any(self._index(session_id, text, user) for _ in range(_TRIES)):
                    failed.add(session_id)
            except SessionNotFound:
                failed.add(session_id)
            except LogDamaged as damage:
                failed.add(session_id)
                on_damage(damage)
        return failed

    def _index(self, session_id: str, text: str, user: str | None) -> bool:
        """Index the new events of a session, without inherited ones. False where another process does it."""
        state, since = self._base.state(), self._log.inherited(session_id)
        done = self._done(session_id, since)
        if done is None:
            self._empty(session_id)
            done = since, ""
        here, pieces = done, list[_Piece]()
        for event in self._log.read(session_id, done[0]):
            if isinstance(event, EventRedacted):  # its line was read before, or is not overwritten yet
                pieces.append(partial(_delete_one, session_id, event.target))
            pieces += [partial(_add, row) for row in _texts(session_id, event)]
            here = event.seq, event.hash
            if len(pieces) >= _ROWS_AT_ONCE:
                if not self._write(pieces, state, done, (session_id, "", user, since, *here)):
                    return False
                pieces, done = [], here
        return self._write(pieces, state, done, (session_id, text, user, since, *here))

    def _done(self, session_id: str, since: int) -> tuple[int, str] | None:
        """Return the number and hash of the last indexed event; None where the indexed log is not this one."""
        with self._base.reading() as base:
            row = base.execute(_PLACE, (session_id,)).fetchone()
        if row is None or row[0] != since:
            return None
        _, version, last = row
        event = next(self._log.read(session_id, version - 1, version), None) if version > since else None
        return (version, last) if version == since or (event is not None and event.hash == last) else None

    def _empty(self, session_id: str) -> None:
        """Delete the rows of a session; rows that others add meanwhile stay."""
        with self._base.writing() as base:
            base.execute("DELETE FROM sessions WHERE session_id = ?", (session_id,))
            (last,) = base.execute("SELECT max(id) FROM said WHERE session_id = ?", (session_id,)).fetchone()
        count = _ROWS_AT_ONCE if last is not None else 0
        while count == _ROWS_AT_ONCE:
            with self._base.writing() as base:
                some = "SELECT id FROM said WHERE session_id = ? AND id <= ? LIMIT ?"
                values = session_id, last, _ROWS_AT_ONCE
                count = base.execute(f"DELETE FROM said WHERE id IN ({some})", values).rowcount  # noqa: S608 - ours

    def _write(
        self,
        pieces: Sequence["_Piece"],
        state: str,
        done: tuple[int, str],
        row: tuple[str, str, str | None, int, int, str],
    ) -> bool:
        """Write rows; False where another process did, or `forget` was called since their events were read."""
        with self._base.writing() as base:
            known = base.execute(_PLACE, (row[0],)).fetchone()
            is_ours = known == (row[3], *done) if known is not None else done == (row[3], "")
            if not is_ours or not self._base.is_at(base, state):
                return False
            for piece in pieces:
                piece(base)
            base.execute("INSERT OR REPLACE INTO sessions VALUES (?, ?, ?, ?, ?, ?)", row)
        return True


_PLACE = "SELECT since, version, hash FROM sessions WHERE session_id = ?"
_Piece = Callable[[sqlite3.Connection], object]


def _add(row: Sequence[Any], base: sqlite3.Connection) -> None:
    base.execute("INSERT INTO said (session_id, seq, role, tool, time, text) VALUES (?, ?, ?, ?, ?, ?)", row)


def _delete_one(session_id: str, seq: int, base: sqlite3.Connection) -> None:
    base.execute("DELETE FROM said WHERE session_id = ? AND seq = ?", (session_id, seq))


def _checked(asked: Asked) -> Asked:
    """Return a valid query. Raises ValueError."""
    for name in ("user_id", "role", "tool", "since"):
        if getattr(asked, name) is not None:
            check_text(name, getattr(asked, name))
    return asked._replace(limit=check_limit(asked.limit) or 0)


def _texts(session_id: str, event: Event) -> Iterator[tuple[Any, ...]]:
    """Yield the rows of an event."""
    if isinstance(event, MessageAdded):
        yield session_id, event.seq, event.role, event.tool_name, event.time, event.content
    elif isinstance(event, SessionCreated | SessionUpdated) and isinstance(event.purpose, str):
        yield session_id, event.seq, "purpose", None, event.time, event.purpose
    elif isinstance(event, InvocationLinked) and event.tool_name is not None:
        yield session_id, event.seq, "call", event.tool_name, event.time, event.error or ""


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
    """Return the order of the hits: by rank; for very common words, which all have the same rank, the newest first."""
    common = "SELECT count(*) FROM (SELECT rowid FROM words WHERE words MATCH ? LIMIT ?)"
    (count,) = base.execute(common, (words, _RANKED + 1)).fetchone()
    return "words.rank, said.session_id, said.seq" if count <= _RANKED else "words.rowid DESC"


def _hit(base: sqlite3.Connection, row: tuple[Any, ...], words: str) -> Hit:
    (snippet,) = base.execute(
        "SELECT snippet(words, -1, '[', ']', '…', 24) FROM words WHERE words MATCH ? AND rowid = ?", (words, row[5])
    ).fetchone()
    return Hit(row[0], row[1], row[2], row[3], row[4], " ".join(snippet.split()), -row[6])


def _as_match(text: str) -> str:
    """Return a user's query as an FTS5 query with every word quoted, so that no word is an operator."""
    if not isinstance(text, str):
        raise ValueError(f"{str(text)[:40]!a} is not a text to search for")
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
    if len(parts) > _MOST_WORDS or sum(map(len, parts)) > _MOST_WORDS * 100:
        raise ValueError(f"{len(parts)} words are too many to search for: {_MOST_WORDS} are allowed")
    return " ".join(parts)


def pack(hits: Iterable[tuple[Hit, str]], budget_tokens: int, count: Callable[[str], int]) -> str:
    """Return the best hits as one text for a prompt: each in full after its citation, as many as fit the budget."""
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
    """Estimate tokens: a quarter of the UTF-8 bytes, and two for the blank line."""
    return len(text.encode("utf-8", "replace")) // 4 + 2
