"""Checks of what callers give to the manager. A wrong value is a ValueError that names the argument; nothing was done then."""

from collections.abc import Collection, Iterable, Mapping, Sequence
from datetime import date, datetime, timedelta
from math import isfinite
from pathlib import Path
from typing import Any, Literal, TypeVar

from eventstore.record import clock
from eventstore.store.as_of import as_text

T = TypeVar("T")
MOST = 2**53
"""The largest count that every part can hold: SQLite, JSON and readers in other languages. A larger limit means the same."""


def text(name: str, given: str | None) -> str | None:
    """Return a text that UTF-8 can hold, or None."""
    if given is None:
        return None
    if not isinstance(given, str):
        raise ValueError(f"{name} is a {type(given).__name__}, not text; nothing was done")
    if not given.isascii() and any("\ud800" <= one <= "\udfff" for one in given):
        raise ValueError(f"{name} holds half of a surrogate pair, which UTF-8 cannot hold; nothing was done")
    return given


def needed_text(name: str, given: str) -> str:
    """Return a text that UTF-8 can hold."""
    found = text(name, given)
    if found is None:
        raise ValueError(f"{name} is None, not text; nothing was done")
    return found


def query(name: str, given: str) -> str:
    """Return a text to search for; half of a surrogate pair, which no stored text holds, becomes a question mark."""
    if not isinstance(given, str):
        raise ValueError(f"{name} is a {type(given).__name__}, not text; nothing was done")
    return given.encode("utf-8", "replace").decode()


def choice(name: str, given: T, choices: Collection[str]) -> T:
    """Return one of several texts."""
    if not isinstance(given, str) or given not in choices:
        raise ValueError(f"{name} {given!r} is not one of {', '.join(choices)}; nothing was done")
    return given


def path(name: str, given: Path | str | None) -> Path | str | None:
    """Return a path, or None."""
    if not isinstance(given, Path | str | None):
        raise ValueError(f"{name} is a {type(given).__name__}, not a path; nothing was written")
    return given


def instances(name: str, given: Iterable[T], kind: type[T]) -> list[T]:
    """Return things of one kind as a list."""
    found = list(given) if isinstance(given, Iterable) else [None]
    if not all(isinstance(one, kind) for one in found):
        raise ValueError(f"{name} is not a list of {kind.__name__}; nothing was done")
    return found


def texts(name: str, given: Collection[str] | None) -> tuple[str, ...]:
    """Return a list of texts as a tuple; None gives an empty one."""
    if given is None:
        return ()
    if isinstance(given, str | bytes | Mapping) or not isinstance(given, Collection):
        raise ValueError(f"{name} is not a list of texts; nothing was done")
    found = tuple(given)
    if not all(isinstance(one, str) for one in found):
        raise ValueError(f"{name} is not a list of texts; nothing was done")
    return found


def filters(name: str, given: Collection[str] | None) -> tuple[str, ...] | None:
    """Return a list of texts to filter by as a tuple; None means no filter."""
    if given is None:
        return None
    for one in (found := texts(name, given)):
        text(name, one)
    return found


def whole(name: str, given: int) -> int:
    """Return a whole number from 0; one beyond 2**53 as 2**53."""
    if not isinstance(given, int) or isinstance(given, bool) or given < 0:
        raise ValueError(f"{name} is not a whole number from 0; nothing was done")
    return min(given, MOST)


def limit(name: str, given: int | None) -> int | None:
    """Return a limit, a whole number from 0, or None for no limit."""
    return None if given is None else whole(name, given)


def number(name: str, given: float | None) -> float | None:
    """Return a finite number from 0 as a float, or None."""
    if given is None:
        return None
    try:
        if isfinite(given) and given >= 0:
            return float(given)
    except (TypeError, ValueError, OverflowError):
        pass
    raise ValueError(f"{name} is not a number from 0; nothing was written")


def length(name: str, given: float, unit: Literal["days", "hours"]) -> timedelta:
    """Return a length of time, given in days or hours from 0. One that is too large to hold is as long as can be."""
    try:
        if isinstance(given, bool) or not (isfinite(given) and given >= 0):
            raise ValueError
    except (TypeError, ValueError):
        raise ValueError(f"{name} is not a number of {unit} from 0; nothing was done") from None
    except OverflowError:  # an integer beyond all floats
        return timedelta.max if given > 0 else length(name, -1, unit)
    try:
        return timedelta(**{unit: given})
    except OverflowError:
        return timedelta.max


def counts(given: Mapping[str, int]) -> dict[str, int]:
    """Return tokens by kind: whole numbers from 0 that 63 bits can hold."""
    if not isinstance(given, Mapping):
        raise ValueError("tokens are not numbers by kind; nothing was written")
    for kind, count in given.items():
        is_whole = isinstance(count, int) and not isinstance(count, bool)
        if not isinstance(kind, str) or not is_whole or not 0 <= count < 2**63:
            raise ValueError(f"tokens of kind {kind!r} are not a whole number from 0; nothing was written")
    return dict(given)


def mapping(name: str, given: Mapping[str, Any] | None) -> dict[str, Any]:
    """Return an object with texts as keys as a new dict; None gives an empty one."""
    if given is None:
        return {}
    if not isinstance(given, Mapping) or not all(isinstance(key, str) for key in given):
        raise ValueError(f"{name} is not an object with texts as keys; nothing was written")
    return dict(given)


def moment(name: str, given: datetime | str | None) -> str | None:
    """Write a time as records hold it, or None. Raises ValueError for what is no time, or outside of the years 1 to 9999."""
    if given is None:
        return None
    try:
        return clock.to_text(given if isinstance(given, datetime) else clock.to_datetime(given))
    except ValueError as error:
        raise ValueError(f"{name} is not an RFC 3339 time or a datetime: {error}; nothing was written") from None


def since(given: datetime | str | None) -> str | None:
    """Write a time to filter by as records hold it, or None. Raises NoSuchMoment."""
    return None if given is None else as_text(given)


def day(name: str, given: date | str | None) -> str | None:
    """Return a day, such as 2026-01-31, or None.

    A datetime gives its day in UTC; of a longer text the first ten characters count.
    """
    if given is None:
        return None
    try:
        if isinstance(given, datetime):
            return clock.to_text(given)[:10]
        if isinstance(given, date):
            return given.isoformat()
        if isinstance(given, str):
            return date.fromisoformat(given[:10]).isoformat()
    except ValueError:
        pass
    raise ValueError(f"{name} is not a day such as 2026-01-31; nothing was done")


def seqs(given: int | Sequence[int]) -> list[int]:
    """Return the numbers of events as a list. Raises ValueError for anything but whole numbers."""
    found = [given] if isinstance(given, int) else given
    if isinstance(found, str | bytes) or not isinstance(found, Collection):
        raise ValueError("seqs is not the number of an event, nor a list of such numbers; nothing was done")
    if any(not isinstance(one, int) or isinstance(one, bool) for one in found):
        raise ValueError("seqs holds what is not the number of an event; nothing was done")
    return list(found)
