"""Analytics: figures over many sessions, by day, user, tag, tool or model.

A local cache holds the facts of each session. `EventLog.changed` names the sessions that changed; only those are read. Events
that a fork inherits count once, for its parent.
"""

import sqlite3
from collections.abc import Callable, Mapping, Sequence
from functools import partial
from pathlib import Path
from typing import Any, Literal, NamedTuple, TypeAlias, get_args

from eventstore.derived.catalog import check_text
from eventstore.derived.database import Cache, Database
from eventstore.errors import LogDamaged, SessionNotFound
from eventstore.log.engine import EventLog
from projections import facts

By: TypeAlias = Literal["day", "user", "tag", "tool", "model"]
Describe = Callable[[str], Mapping[str, Any]]

_SCHEMA = """
CREATE TABLE IF NOT EXISTS facts (
    session_id TEXT, day TEXT, tool TEXT, model TEXT, messages INTEGER, calls INTEGER, errors INTEGER, duration_ms REAL,
    tokens INTEGER, input_tokens INTEGER, output_tokens INTEGER, cost REAL, PRIMARY KEY (session_id, day, tool, model)
) WITHOUT ROWID;
CREATE INDEX IF NOT EXISTS facts_of_day ON facts (day);
CREATE TABLE IF NOT EXISTS tags (session_id TEXT, tag TEXT, PRIMARY KEY (session_id, tag)) WITHOUT ROWID;
CREATE INDEX IF NOT EXISTS tagged ON tags (tag);
CREATE TABLE IF NOT EXISTS sessions (session_id TEXT PRIMARY KEY, text TEXT, user TEXT) WITHOUT ROWID;
"""
_SESSIONS_AT_ONCE = 100
_SUMS = "messages", "calls", "errors", "duration_ms", "tokens", "input_tokens", "output_tokens", "cost"
_KEYS = {
    "day": "facts.day",
    "user": "coalesce(sessions.user, '')",
    "tag": "coalesce(tags.tag, '')",
    "tool": "facts.tool",
    "model": "facts.model",
}


class Figures(NamedTuple):
    """The sums of one day, user, tag, tool or model (`key`; empty where there is none): durations in milliseconds.

    A session with two tags counts under both; sessions, messages and calls without a model count under none.
    """

    key: str
    sessions: int
    messages: int
    calls: int
    errors: int
    duration_ms: float
    tokens: int
    input_tokens: int
    output_tokens: int
    cost: float


class Analytics(Cache):
    """Figures over the sessions of a log, stored in a folder, or in memory without one."""

    def __init__(self, log: EventLog, folder: Path | None = None) -> None:
        super().__init__(Database(folder, "analytics.db", _SCHEMA, ("facts", "tags", "sessions")))
        self._log = log

    def figures(
        self,
        by: By,
        describe: Describe,
        on_damage: Callable[[LogDamaged], None],
        user_id: str | None = None,
        tag: str | None = None,
        since: str | None = None,
        until: str | None = None,
    ) -> list[Figures]:
        """Update the facts and sum them: days in order, other keys by cost and then messages, greatest first.

        Days are UTC, both included. `describe` returns a session's metadata, or raises SessionNotFound or LogDamaged;
        `on_damage` is called with the latter. Raises ValueError for an unknown `by`.
        """
        text, values = _query(by, user_id, tag, since, until)

        def work() -> list[Figures]:
            self.catch_up(describe, on_damage)
            with self._base.reading() as base:
                return [Figures(*row) for row in base.execute(text, values)]

        return self._base.run(work)

    def catch_up(self, describe: Describe, on_damage: Callable[[LogDamaged], None]) -> None:
        """Count the sessions that changed."""
        self._base.catch_up(self._log, lambda stale: self._take(stale, describe, on_damage))

    def _take(
        self, stale: Sequence[tuple[str, str]], describe: Describe, on_damage: Callable[[LogDamaged], None]
    ) -> set[str]:
        failed, before = set[str](), self._base.state()
        waiting = list[tuple[str, Callable[[sqlite3.Connection], object]]]()

        def write(state: str) -> None:
            def piece(name: str, work: Callable[[sqlite3.Connection], object], base: sqlite3.Connection) -> None:
                if self._base.is_at(base, state):
                    work(base)
                else:
                    failed.add(name)

            self._base.in_slices(partial(piece, *one) for one in waiting)
            waiting.clear()

        for session_id, text in stale:
            try:
                known = describe(session_id)
                state = facts.projection.fold(self._log.skim(session_id, self._log.inherited(session_id)))
            except SessionNotFound:
                failed.add(session_id)
            except LogDamaged as damage:
                failed.add(session_id)
                on_damage(damage)
            else:
                rows = [(session_id, *place, *(getattr(one, n) for n in _SUMS)) for place, one in state.facts.items()]
                waiting.append((session_id, partial(_put, session_id, text, known, rows)))
            if len(waiting) >= _SESSIONS_AT_ONCE:
                write(before)
                before = self._base.state()
        write(before)
        return failed

    def content(self, describe: Describe) -> dict[str, list[tuple[Any, ...]]]:
        """Update the facts and return all of them, by session. Raises ValueError where the cache cannot be read."""
        found = dict[str, list[tuple[Any, ...]]]()
        try:
            self.catch_up(describe, lambda damage: None)
            with self._base.reading() as base:
                for text in (
                    "SELECT session_id, user FROM sessions",
                    "SELECT * FROM tags ORDER BY 1, 2",
                    "SELECT * FROM facts ORDER BY 1, 2, 3, 4",
                ):
                    for row in base.execute(text):
                        found.setdefault(row[0], []).append(row)
        except sqlite3.Error as error:
            raise ValueError(f"the figures are damaged ({error})") from error
        return found


def _put(
    session_id: str, text: str, known: Mapping[str, Any], rows: Sequence[tuple[Any, ...]], base: sqlite3.Connection
) -> None:
    for table in ("facts", "tags"):
        base.execute(f"DELETE FROM {table} WHERE session_id = ?", (session_id,))  # noqa: S608 - names of ours
    base.executemany("INSERT INTO facts VALUES (?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?)", rows)
    base.executemany("INSERT OR IGNORE INTO tags VALUES (?, ?)", [(session_id, tag) for tag in known["tags"]])
    base.execute("INSERT OR REPLACE INTO sessions VALUES (?, ?, ?)", (session_id, text, known["user_id"]))


def _query(by: By, user_id: str | None, tag: str | None, since: str | None, until: str | None) -> tuple[str, list[Any]]:
    """Return the SQL statement of the sums, with its values. Raises ValueError."""
    if by not in get_args(By):
        raise ValueError(f"by {by!r} is not one of {', '.join(get_args(By))}")
    conditions, values = ["1"], list[Any]()
    for name, condition, value in (
        ("user_id", "sessions.user = ?", user_id),
        ("since", "facts.day >= ?", since),
        ("until", "facts.day <= ?", until),
        ("tag", "facts.session_id IN (SELECT session_id FROM tags WHERE tag = ?)", tag),
    ):
        if value is not None:
            conditions.append(condition)
            values.append(check_text(name, value)[: 10 if "day" in condition else None])
    sums = ", ".join(f"sum(facts.{name})" for name in _SUMS)
    tags = " LEFT JOIN tags ON tags.session_id = facts.session_id" if by == "tag" else ""
    order = "1" if by == "day" else "10 DESC, 3 DESC, 1"
    text = (
        f"SELECT {_KEYS[by]}, count(DISTINCT facts.session_id), {sums} FROM facts"  # noqa: S608 - names of ours
        f" JOIN sessions ON sessions.session_id = facts.session_id{tags}"
        f" WHERE {' AND '.join(conditions)} GROUP BY 1 ORDER BY {order}"
    )
    return text, values
