"""Analytics: figures over many sessions, by day, user, tag, tool or model.

Facts of each session are kept in the catalogue's base and caught up with it: of the sessions that changed only. A session counts
what is its own: what a fork inherits counts once, for its parent.
"""

import sqlite3
from contextlib import suppress
from typing import Any, Literal, NamedTuple, TypeAlias, get_args

from eventstore.derived.catalog import Catalog
from eventstore.errors import LogDamaged, SessionNotFound
from eventstore.log.engine import EventLog
from projections import facts

By: TypeAlias = Literal["day", "user", "tag", "tool", "model"]

_SCHEMA = """
CREATE TABLE IF NOT EXISTS facts (
    session_id TEXT, day TEXT, tool TEXT, model TEXT, messages INTEGER, calls INTEGER, errors INTEGER, duration_ms REAL,
    tokens INTEGER, input_tokens INTEGER, output_tokens INTEGER, cost REAL, PRIMARY KEY (session_id, day, tool, model)
) WITHOUT ROWID;
CREATE INDEX IF NOT EXISTS facts_of_day ON facts (day);
CREATE TABLE IF NOT EXISTS counted (session_id TEXT PRIMARY KEY, size INTEGER, since INTEGER) WITHOUT ROWID;
"""
_SUMS = "messages", "calls", "errors", "duration_ms", "tokens", "input_tokens", "output_tokens", "cost"
_KEYS = {
    "day": "facts.day",
    "user": "coalesce(sessions.user, '')",
    "tag": "coalesce(tags.tag, '')",
    "tool": "facts.tool",
    "model": "facts.model",
}


class Figures(NamedTuple):
    """The sums of one day, user, tag, tool or model (`key`; empty for what has none): durations in milliseconds.

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


class Analytics:
    """Figures over the sessions of a log, kept in the base of their catalogue."""

    def __init__(self, log: EventLog, catalog: Catalog) -> None:
        self._log, self._catalog = log, catalog

    def figures(
        self,
        by: By,
        user_id: str | None = None,
        tag: str | None = None,
        since: str | None = None,
        until: str | None = None,
    ) -> list[Figures]:
        """Sum up, by day in order, else the greatest cost first, then by messages. Days are UTC, both included.

        The catalogue is caught up already. Raises ValueError for what nothing is summed by.
        """
        if by not in get_args(By):
            raise ValueError(f"by {by!r} is not one of {', '.join(get_args(By))}")
        conditions, values = ["1"], list[Any]()
        for condition, value in (("sessions.user = ?", user_id), ("facts.day >= ?", since), ("facts.day <= ?", until)):
            if value is not None:
                conditions.append(condition)
                values.append(value[:10] if condition.startswith("facts.day") else value)
        if tag is not None:
            conditions.append("facts.session_id IN (SELECT session_id FROM tags WHERE tag = ?)")
            values.append(tag)
        key = _KEYS[by]
        sums = ", ".join(f"sum(facts.{name})" for name in _SUMS)
        tags = " LEFT JOIN tags ON tags.session_id = facts.session_id" if by == "tag" else ""
        order = "1" if by == "day" else "10 DESC, 3 DESC, 1"
        text = (
            f"SELECT {key}, count(DISTINCT facts.session_id), {sums} FROM facts"  # noqa: S608 - names of ours
            f" JOIN sessions ON sessions.session_id = facts.session_id{tags}"
            f" WHERE {' AND '.join(conditions)} GROUP BY 1 ORDER BY {order}"
        )
        with self._catalog.using(_SCHEMA) as base:
            self._catch_up(base)
            return [Figures(*row) for row in base.execute(text, values)]

    def _catch_up(self, base: sqlite3.Connection) -> None:
        for table in ("facts", "counted"):
            base.execute(f"DELETE FROM {table} WHERE session_id NOT IN (SELECT session_id FROM sessions)")  # noqa: S608
        stale = base.execute(
            "SELECT sessions.session_id, sessions.size FROM sessions LEFT JOIN counted USING (session_id)"
            " WHERE counted.size IS NOT sessions.size"
        ).fetchall()
        for session_id, size in stale:
            with suppress(LogDamaged, SessionNotFound):  # lists tell of it
                since = self._log.inherited(session_id)
                state = facts.projection.fold(self._log.skim(session_id, since))
                base.execute("DELETE FROM facts WHERE session_id = ?", (session_id,))
                base.executemany(
                    "INSERT INTO facts VALUES (?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?)",
                    [
                        (session_id, *place, *(getattr(fact, name) for name in _SUMS))
                        for place, fact in state.facts.items()
                    ],
                )
                base.execute("INSERT OR REPLACE INTO counted VALUES (?, ?, ?)", (session_id, size, since))
