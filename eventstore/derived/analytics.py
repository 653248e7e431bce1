"""Analytics: figures over many sessions, by day, week, month, project, user, tag, tool or model.

A local cache holds the facts of each session. `EventLog.changed` names the sessions that changed; only those are read. Events
that a fork inherits count once, for its parent.
"""

import sqlite3
from collections import Counter
from collections.abc import Callable, Mapping, Sequence
from contextlib import suppress
from datetime import datetime, timedelta
from functools import lru_cache, partial
from pathlib import Path
from typing import Any, Literal, NamedTuple, TypeAlias, get_args

from eventstore.derived.database import Cache, Database
from eventstore.derived.listing import check_text
from eventstore.derived.prices import KINDS, estimate
from eventstore.errors import LogDamaged, SessionNotFound
from eventstore.log.engine import EventLog
from projections import facts, sum_range
from projections.project import project_of

By: TypeAlias = Literal["day", "week", "month", "project", "user", "tag", "tool", "model", "total"]
Describe = Callable[[str], Mapping[str, Any]]

_SCHEMA = """
CREATE TABLE IF NOT EXISTS facts (
    session_id TEXT, quarter TEXT, tool TEXT, model TEXT, messages INTEGER, calls INTEGER, errors INTEGER,
    duration_ms REAL, tokens INTEGER, input_tokens INTEGER, output_tokens INTEGER, cost REAL, unpriced_input INTEGER,
    unpriced_cache_read INTEGER, unpriced_cache_write INTEGER, unpriced_cache_write_hour INTEGER,
    unpriced_output INTEGER, PRIMARY KEY (session_id, quarter, tool, model)
) WITHOUT ROWID;
CREATE INDEX IF NOT EXISTS facts_of_quarter ON facts (quarter);
CREATE TABLE IF NOT EXISTS tags (session_id TEXT, tag TEXT, PRIMARY KEY (session_id, tag)) WITHOUT ROWID;
CREATE INDEX IF NOT EXISTS tagged ON tags (tag);
CREATE TABLE IF NOT EXISTS sessions (session_id TEXT PRIMARY KEY, text TEXT, user TEXT, project TEXT) WITHOUT ROWID;
"""
_SESSIONS_AT_ONCE = 100
_SUMS = "messages", "calls", "errors", "duration_ms", "tokens", "input_tokens", "output_tokens", "cost"
_TIMES = "day", "week", "month"
_UNPRICED = tuple(f"unpriced_{kind}" for kind in KINDS)
_COLUMNS = *_SUMS, *_UNPRICED
_REALS = frozenset(["duration_ms", "cost"])
_KEYS = {
    "day": "local_day(facts.quarter, 'day', :zone)",
    "week": "local_day(facts.quarter, 'week', :zone)",
    "month": "local_day(facts.quarter, 'month', :zone)",
    "project": "coalesce(sessions.project, '')",
    "total": "''",
    "user": "coalesce(sessions.user, '')",
    "tag": "coalesce(tags.tag, '')",
    "tool": "facts.tool",
    "model": "facts.model",
}


class Figures(NamedTuple):
    """The sums of one day, week, month, project, user, tag, tool or model, or of all: durations in milliseconds.

    `key` is its name, empty if there is none: that of a week is its Monday, that of a month `2026-01`, that of a
    project the path of its folder. `estimated_cost`, in US dollars, is that of tokens without a recorded cost, by the price
    table of the extra `prices`; 0.0 without it.

    Numbers of tokens above 2**53 are rounded; a sum that is too large is 2**63 - 1, or the greatest float.

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
    estimated_cost: float = 0.0


class Analytics(Cache):
    """Figures over the sessions of a log, stored in a folder, or in memory without one."""

    def __init__(self, log: EventLog, folder: Path | None = None) -> None:
        super().__init__(
            Database(folder, "analytics.db", _SCHEMA, ("facts", "tags", "sessions"), {"local_day": local_day})
        )
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
        timezone: str = "UTC",
    ) -> list[Figures]:
        """Update the facts and sum them: days, weeks and months in order, other keys by cost and then messages, greatest first.

        `since` and `until` are days, both included. Days are those of a time zone: an IANA name, or
        `local`. `describe` returns a session's metadata, or raises SessionNotFound or LogDamaged; `on_damage` is called with the
        latter. Raises ValueError for an unknown `by` or time zone.
        """
        text, prices, values = _query(by, user_id, tag, since, until, timezone)

        def read(base: sqlite3.Connection) -> list[Figures]:
            estimates = Counter[str]()
            for key, model, *counts in base.execute(prices, values):
                estimates[key] += estimate(model, dict(zip(KINDS, counts, strict=True)))  # type: ignore[assignment]
            found = [Figures(*row) for row in base.execute(text, values)]
            found = [row._replace(estimated_cost=float(estimates[row.key])) for row in found]
            return found if by in _TIMES else sorted(found, key=lambda row: -(row.cost + row.estimated_cost))

        return self._base.run(lambda: self._base.after(lambda: self.catch_up(describe, on_damage), read))

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
                rows = [(session_id, *place, *_row(one)) for place, one in state.facts.items()]
                waiting.append((session_id, partial(_put, session_id, text, known, rows)))
            if len(waiting) >= _SESSIONS_AT_ONCE:
                write(before)
                before = self._base.state()
        write(before)
        return failed

    def content(self, describe: Describe) -> dict[str, list[tuple[Any, ...]]] | None:
        """Update the facts and return all of them, by session; None if others keep deleting. Raises ValueError if damaged."""

        def read(base: sqlite3.Connection) -> dict[str, list[tuple[Any, ...]]]:
            found = dict[str, list[tuple[Any, ...]]]()
            for text in (
                "SELECT session_id, user, project FROM sessions",
                "SELECT * FROM tags ORDER BY 1, 2",
                "SELECT * FROM facts ORDER BY 1, 2, 3, 4",
            ):
                for row in base.execute(text):
                    found.setdefault(row[0], []).append(row)
            return found

        def update() -> None:
            self.catch_up(describe, lambda damage: None)

        return self._base.examine(lambda: self._base.settled(update, read), "the figures are")


def _row(fact: facts.Fact) -> list[float]:
    """Return what a row has in `_COLUMNS`: numbers that SQLite can hold."""
    return [
        sum_range.real(getattr(fact, name)) if name in _REALS else sum_range.whole(getattr(fact, name))
        for name in _COLUMNS
    ]


def _sum(name: str) -> str:
    """Return the SQL of a sum. It is exact to 2**53; a sum outside the range is the nearest number in it, where `sum` fails."""
    if name in _REALS:
        return f"max(min(total(facts.{name}), {sum_range.MOST_REAL!r}), {-sum_range.MOST_REAL!r})"
    return f"CAST(total(facts.{name}) AS INTEGER)"


def _put(
    session_id: str, text: str, known: Mapping[str, Any], rows: Sequence[tuple[Any, ...]], base: sqlite3.Connection
) -> None:
    for table in ("facts", "tags"):
        base.execute(f"DELETE FROM {table} WHERE session_id = ?", (session_id,))  # noqa: S608 - names of ours
    places = ", ".join("?" * (4 + len(_COLUMNS)))
    base.executemany(f"INSERT INTO facts VALUES ({places})", rows)  # noqa: S608 - question marks
    base.executemany("INSERT OR IGNORE INTO tags VALUES (?, ?)", [(session_id, tag) for tag in known["tags"]])
    project = project_of(known["custom_metadata"])
    base.execute("INSERT OR REPLACE INTO sessions VALUES (?, ?, ?, ?)", (session_id, text, known["user_id"], project))


def _query(
    by: By, user_id: str | None, tag: str | None, since: str | None, until: str | None, timezone: str
) -> tuple[str, str, dict[str, Any]]:
    """Return the SQL statements of the sums and of the tokens without a cost by model, with their values. Raises ValueError."""
    if by not in get_args(By):
        raise ValueError(f"by {by!r} is not one of {', '.join(get_args(By))}")
    conditions, values = ["1"], dict[str, Any](zone=_checked_zone(timezone))
    for name, condition, value in (
        ("user_id", "sessions.user = :user_id", user_id),
        ("since", "local_day(facts.quarter, 'day', :zone) >= :since", since),
        ("until", "local_day(facts.quarter, 'day', :zone) <= :until", until),
        ("tag", "facts.session_id IN (SELECT session_id FROM tags WHERE tag = :tag)", tag),
    ):
        if value is not None:
            conditions.append(condition)
            values[name] = check_text(name, value)[: 10 if "quarter" in condition else None]
    tags = " LEFT JOIN tags ON tags.session_id = facts.session_id" if by == "tag" else ""
    order = "1" if by in _TIMES else "10 DESC, 3 DESC, 1"
    source = (
        f" FROM facts JOIN sessions ON sessions.session_id = facts.session_id{tags}"
        f" WHERE {' AND '.join(conditions)} GROUP BY 1"
    )
    sums, unpriced = (", ".join(map(_sum, names)) for names in (_SUMS, _UNPRICED))
    text = f"SELECT {_KEYS[by]}, count(DISTINCT facts.session_id), {sums}{source} ORDER BY {order}"
    prices = f"SELECT {_KEYS[by]}, facts.model, {unpriced}{source}, 2"
    return text, prices, values


def _checked_zone(timezone: str) -> str:
    """Return the name of a time zone. Raises ValueError."""
    if timezone != "local":
        from zoneinfo import ZoneInfo, ZoneInfoNotFoundError

        check_text("timezone", timezone)
        try:
            ZoneInfo(timezone)
        except (ZoneInfoNotFoundError, ValueError, OSError) as error:  # `../x` is no key, and a folder is no zone
            raise ValueError(
                f"timezone {timezone!r} is not known: give `local` or an IANA name, such as Asia/Tokyo"
            ) from error
    return timezone


@lru_cache(maxsize=100_000)
def local_day(quarter: str, by: str, timezone: str) -> str:
    """Return the day, the Monday of the week, or the month in a time zone of a quarter of an hour in UTC."""
    from zoneinfo import ZoneInfo

    zone = None if timezone == "local" else ZoneInfo(timezone)
    try:
        moment = datetime.fromisoformat(f"{quarter}:00+00:00").astimezone(zone)
    except (ValueError, OverflowError):  # at the ends of the calendar
        return quarter[: 7 if by == "month" else 10]
    day = moment.date()
    if by == "week":
        with suppress(OverflowError):  # the first week of the calendar has no Monday
            day -= timedelta(days=day.weekday())
    return day.isoformat()[: 7 if by == "month" else None]
