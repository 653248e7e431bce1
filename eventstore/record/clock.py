"""Time as records hold it: RFC 3339 text, UTC, microseconds, `Z`."""

import time
from contextlib import suppress
from datetime import UTC, datetime
from typing import TypeVar

T = TypeVar("T")

_second = 0, ""
"""The microsecond at which the clock's last second began, and the text of that second."""


def now() -> str:
    """Return the present time as records hold it: RFC 3339, UTC, microseconds, `Z`."""
    global _second  # formatting the complete time costs six times as much
    reading = time.time_ns() // 1000
    began, text = _second
    rest = reading - began
    if not 0 <= rest < 1_000_000:
        rest = reading % 1_000_000
        try:
            text = datetime.fromtimestamp(reading // 1_000_000, UTC).strftime("%Y-%m-%dT%H:%M:%S.")
        except (ValueError, OverflowError, OSError):
            raise ValueError("the clock of this machine is after the year 9999; nothing was written: set it") from None
        _second = reading - rest, text
    return f"{text}{rest:06d}Z"


def to_utc(moment: datetime) -> datetime:
    """Return a moment in UTC. A time without a zone is taken as local. Raises ValueError outside of the years 1 to 9999."""
    if moment.tzinfo is UTC:
        return moment
    try:
        return moment.astimezone(UTC)
    except (OverflowError, OSError):  # a time that the C library cannot represent raises OSError
        raise ValueError("a time is outside of the years 1 to 9999 in UTC") from None


def to_text(moment: datetime) -> str:
    """Write a moment as records hold it. A time without a zone is taken as local. Raises ValueError as `to_utc` does."""
    return to_utc(moment).isoformat(timespec="microseconds")[:26] + "Z"  # strftime writes the year 1 as "1"


def to_iso(text: str) -> str:
    """Write a time of a record as Python's `isoformat` does, in UTC with microseconds. Raises ValueError."""
    if len(text) == 27 and text[26] == "Z":
        return text[:26] + "+00:00"
    return to_datetime(text).isoformat(timespec="microseconds")


def to_datetime(text: str) -> datetime:
    """Read an RFC 3339 time. One without a zone is taken as local. Raises ValueError, also for what is not text."""
    try:
        moment = datetime.fromisoformat(text)
    except TypeError:
        raise ValueError(f"a time is a {type(text).__name__}, not text") from None
    return to_utc(moment)


def moment_of(given: T) -> T | int:
    """Read a moment as people and models write it: digits are a version, any other text is a time, which is not checked here."""
    if isinstance(given, str) and given.isascii() and given.isdecimal() and len(given) < 18:
        return int(given)
    return given


def read_time(text: str, otherwise: str) -> datetime:
    """Read a time in a record; return `otherwise` if it cannot be read: one bad line must not hide a session.

    Older releases wrote the years before 1000 with fewer than four digits.
    """
    try:
        return to_datetime(text)
    except ValueError:
        for one in (text.zfill(27), otherwise):
            with suppress(ValueError):
                return to_datetime(one)
    return datetime.min.replace(tzinfo=UTC)
