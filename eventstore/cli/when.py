"""Times as people write and read them: `yesterday`, `7d`, `2025-10` in; `5 min ago`, `Tue 14:02` out. All in the user's zone."""

import re
from datetime import UTC, datetime, timedelta
from typing import NamedTuple

_DAYS = ("monday", "tuesday", "wednesday", "thursday", "friday", "saturday", "sunday")
_SHORT_DAYS = tuple(name[:3] for name in _DAYS)
_UNITS = {"s": 1, "min": 60, "h": 3600, "d": 86_400, "w": 604_800, "mo": 2_592_000, "y": 31_536_000}
"""Seconds of a unit: a month is 30 days, a year 365."""
_WORDS = {
    **dict.fromkeys(("second", "sec"), "s"),
    **dict.fromkeys(("minute", "m"), "min"),
    **dict.fromkeys(("hour", "hr"), "h"),
    "day": "d",
    "week": "w",
    **dict.fromkeys(("month", "mon"), "mo"),
    "year": "y",
}
_AGO = re.compile(r"(\d{1,9})\s*([a-z]+)(?:\s+ago)?", re.ASCII)
_MONTH = re.compile(r"(\d{4})(?:-(\d{2}))?", re.ASCII)
_DAY = re.compile(r"\d{4}-\d{2}-\d{2}", re.ASCII)
_CLOCK = re.compile(r"(\d{1,2}):(\d{2})", re.ASCII)
HOW_DAY = "write yesterday, monday, 7d, 2025-10 or 2026-01-31"
HOW = "write yesterday, monday, 7d, 2025-10, 14:30, 2026-01-31 or 2026-01-31T12:00"


class Span(NamedTuple):
    """A period in the local zone: `start` is in it, `end` the first moment after it. Both are equal for a moment."""

    start: datetime
    end: datetime


def parse(text: str, now: datetime | None = None) -> Span | None:
    """Parse a time as people write it. None if it is none of theirs: it may be RFC 3339 text."""
    word = " ".join(text.lower().split())
    now = (now or datetime.now(UTC)).astimezone()
    today = _midnight(now)
    try:
        if word == "now":
            return Span(now, now)
        if word in ("today", "yesterday"):
            return _day(today if word == "today" else _shift(today, -1))
        if word in _DAYS or word in _SHORT_DAYS:
            day = (_DAYS if word in _DAYS else _SHORT_DAYS).index(word)
            return _day(_shift(today, -((today.weekday() - day) % 7)))
        if found := _AGO.fullmatch(word):
            return _ago(now, int(found[1]), found[2])
        if found := _MONTH.fullmatch(word):
            return _month(int(found[1]), int(found[2]) if found[2] else None)
        if _DAY.fullmatch(word):
            return _day(datetime.fromisoformat(word).astimezone())
        if found := _CLOCK.fullmatch(word):
            at = today.replace(hour=int(found[1]), minute=int(found[2]))
            return Span(at, at)
    except (ValueError, OverflowError, OSError):
        return None  # beyond the calendar, or no such hour
    return None


def _ago(now: datetime, count: int, unit: str) -> Span | None:
    known = _WORDS.get(unit, _WORDS.get(unit.removesuffix("s"), unit))
    if known not in _UNITS:
        return None
    at = now - timedelta(seconds=count * _UNITS[known])
    return Span(at, at)


def _midnight(when: datetime) -> datetime:
    return when.replace(hour=0, minute=0, second=0, microsecond=0, tzinfo=None).astimezone()


def _shift(day: datetime, days: int) -> datetime:
    """Return the midnight some days away, on the clock of that day."""
    return (day.replace(tzinfo=None) + timedelta(days=days)).astimezone()


def _day(start: datetime) -> Span:
    return Span(start, _shift(start, 1))


def _month(year: int, month: int | None) -> Span:
    start = datetime(year, month or 1, 1).astimezone()
    end = datetime(year + 1, 1, 1) if month in (None, 12) else datetime(year, (month or 1) + 1, 1)
    return Span(start, end.astimezone())


def since(text: str | None) -> str | None:
    """Return where a period begins as RFC 3339 text; a text that is no word of `parse` as it is."""
    found = None if text is None else parse(text)
    return text if found is None else _as_text(found.start)


def until(text: str | None) -> str | None:
    """Return the last moment of a period as RFC 3339 text; a text that is no word of `parse` as it is."""
    found = None if text is None else parse(text)
    if found is None:
        return text
    return _as_text(found.end if found.end == found.start else found.end - timedelta(microseconds=1))


def _as_text(when: datetime) -> str:
    return when.astimezone(UTC).isoformat().replace("+00:00", "Z")


def as_day(text: str | None, *, last: bool = False) -> str | None:
    """Return the first or last day of a period as `2026-01-31`, in the user's zone; a text that is none as it is."""
    found = None if text is None else parse(text)
    if found is None:
        return text
    when = found.end - timedelta(microseconds=1) if last and found.end != found.start else found.start
    return when.date().isoformat()


# --- out


def moment(when: datetime) -> str:
    """Format a time in the local zone, to the second; in UTC if the zone would leave the years 1 to 9999."""
    try:
        return when.astimezone().isoformat(" ", "seconds")[:19]
    except (OverflowError, OSError, ValueError):
        return when.astimezone(UTC).isoformat(" ", "seconds")[:19] + " UTC"


def relative(when: datetime, now: datetime | None = None) -> str:
    """Format a time as people say it, in 10 characters at most: `now`, `5 min ago`, `3 h ago`, `Tue 14:02`, `2026-03-12`."""
    now = now or datetime.now(UTC)
    seconds = (now - when).total_seconds()
    if seconds < 0:
        return moment(when)[:10]
    if seconds < 60:
        return "now"
    if seconds < 3600:
        return f"{int(seconds // 60)} min ago"
    try:
        local, today = when.astimezone(), now.astimezone()
    except (OverflowError, OSError, ValueError):
        return moment(when)[:10]
    if local.date() == today.date():
        return f"{int(seconds // 3600)} h ago"
    if seconds < 6 * 86_400:
        return f"{_DAYS[local.weekday()][:3].title()} {local:%H:%M}"
    return local.date().isoformat()
