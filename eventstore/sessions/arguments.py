"""Validation of the manager's arguments, and of the events that `append` is given.

A wrong value raises a ValueError that names the argument, or the event and its field; then nothing was done.
"""

import os
from binascii import a2b_base64, b2a_base64
from collections.abc import Callable, Collection, Iterable, Mapping, Sequence
from datetime import date, datetime, timedelta
from math import isfinite
from pathlib import Path
from typing import Any, Literal, TypeVar

from msgspec import UNSET
from msgspec.structs import replace

from eventstore import events as e
from eventstore.errors import EventNotEncodable
from eventstore.record import clock
from eventstore.store.as_of import as_text
from projections.content import text_of
from projections.models import SessionStatus

T = TypeVar("T")
E = TypeVar("E", bound=e.Event)
MOST = 2**53
"""The largest integer that SQLite, JSON and other languages all represent exactly."""


def text(name: str, given: str | None) -> str | None:
    """Return a text that UTF-8 can encode, or None."""
    if given is None:
        return None
    if not isinstance(given, str):
        raise ValueError(f"{name} is a {type(given).__name__}, not text; nothing was done")
    if not given.isascii() and any("\ud800" <= one <= "\udfff" for one in given):
        raise ValueError(f"{name} contains a lone surrogate, which UTF-8 cannot encode; nothing was done")
    return given


def needed_text(name: str, given: str) -> str:
    """Return a text that UTF-8 can encode."""
    found = text(name, given)
    if found is None:
        raise ValueError(f"{name} is None, not text; nothing was done")
    return found


def query(name: str, given: str) -> str:
    """Return a text to search for. A lone surrogate, which no stored text contains, becomes a question mark."""
    if not isinstance(given, str):
        raise ValueError(f"{name} is a {type(given).__name__}, not text; nothing was done")
    return given.encode("utf-8", "replace").decode()


def choice(name: str, given: T, choices: Collection[str]) -> T:
    """Return a text that is one of `choices`."""
    if not isinstance(given, str) or given not in choices:
        raise ValueError(f"{name} {given!r} is not one of {', '.join(choices)}; nothing was done")
    return given


def path(name: str, given: Path | str | None) -> Path | str | None:
    """Return a path, or None."""
    if not isinstance(given, Path | str | None):
        raise ValueError(f"{name} is a {type(given).__name__}, not a path; nothing was written")
    said = str(given)
    if "\0" in said:
        raise ValueError(f"{name} contains a NUL character, which no path can have; nothing was written")
    if not said.isascii():
        try:
            os.fsencode(said)
        except UnicodeEncodeError:
            raise ValueError(f"{name} contains a lone surrogate, which no path can have; nothing was written") from None
    return given


def events(name: str, given: Sequence[e.Event]) -> list[e.Event]:
    """Return events that a program may append, as a list with at least one."""
    if isinstance(given, e.Event) or not isinstance(given, Sequence):
        raise ValueError(f"{name} is a {type(given).__name__}, not a list of events; nothing was written")
    if not given:
        raise ValueError(f"{name} is empty; nothing was written")
    for one in given:
        if not isinstance(one, e.Event):
            raise ValueError(f"{name} holds a {type(one).__name__}, which is not an event; nothing was written")
        if isinstance(one, _RESERVED):
            raise ValueError(
                f"{name} holds a {one.type} event, which only the store itself writes; nothing was written"
            )
        if isinstance(one, e.RecordPut):
            _check_put(one)
        if isinstance(one, e.RecordRemoved):
            _check_removed(one)
    return [checked(one) for one in given]


def content(given: object) -> tuple[str, list[Any] | None]:
    """Return the text of a message, and its blocks if it is more than text."""
    if isinstance(given, str):
        return given, None
    if not isinstance(given, list | tuple) or not given:
        raise ValueError(f"content is a {type(given).__name__}, not text and no list of blocks; nothing was added")
    blocks = [dict(one) if isinstance(one, Mapping) else one for one in given]
    if not all(isinstance(one, dict) and isinstance(one.get("type"), str) for one in blocks):
        raise ValueError("content holds something that is not a block: an object with a `type`; nothing was added")
    return text_of(blocks), blocks


def _check_put(event: e.RecordPut) -> None:
    if not isinstance(event.stream, str) or not event.stream:
        raise ValueError(f"stream {event.stream!r} of a record.put event is not a name; nothing was written")
    if event.base64 and event.value_sha256 is None and not _is_bytes(event.value):
        raise ValueError("value of a record.put event is neither bytes nor their base64; nothing was written")
    if event.once and event.key is None:
        raise ValueError("once of a record.put event needs a key, whose first value stays; nothing was written")


def _is_bytes(value: object) -> bool:
    """Return whether a value is bytes, or text that is exactly their base64."""
    if not isinstance(value, str):
        return isinstance(value, bytes | bytearray | memoryview)
    try:
        return b2a_base64(a2b_base64(value), newline=False).decode("ascii") == value
    except ValueError:
        return False


def _check_removed(event: e.RecordRemoved) -> None:
    if event.stream == "":
        raise ValueError("stream '' of a record.removed event is not a name; nothing was written")
    chosen = (event.key is not None) + (event.item is not None) + event.last
    if (event.stream is None) == (event.prefix is None) or chosen > (event.prefix is None):
        raise ValueError(
            "a record.removed event needs a stream, with at most one of key, item and last, or a prefix alone; "
            "nothing was written"
        )


_RESERVED: tuple[type[e.Event], ...] = (
    e.SessionCreated,  # `create=` of the same method
    e.LogRepaired,
    e.EventRedacted,
    e.CheckpointSigned,
    *(kind for tag, kind in e.EVENT_TYPES.items() if tag.startswith("store.")),
)


def instances(name: str, given: Iterable[T], kind: type[T]) -> list[T]:
    """Return instances of one class as a list."""
    found = list(given) if isinstance(given, Iterable) else [None]
    if not all(isinstance(one, kind) for one in found):
        raise ValueError(f"{name} is not a list of {kind.__name__}; nothing was done")
    return found


def texts(name: str, given: Collection[object] | None) -> tuple[str, ...]:
    """Return a list of texts as a tuple; None gives an empty one."""
    if given is None:
        return ()
    if isinstance(given, str | bytes | Mapping) or not isinstance(given, Collection):
        raise ValueError(f"{name} is not a list of texts; nothing was done")
    found = list[str]()
    for one in given:
        if not isinstance(one, str):
            held = f"the class {one.__name__}" if isinstance(one, type) else f"a {type(one).__name__}"
            raise ValueError(f"{name} holds {held}, not only texts; nothing was done")
        found.append(one)
    return tuple(found)


def tags(given: Collection[str] | None) -> tuple[str, ...]:
    """Return the tags of a session as a tuple, none of them empty."""
    found = texts("tags", given)
    if not all(map(str.strip, found)):
        raise ValueError("tags holds an empty text; nothing was written")
    return found


def filters(name: str, given: Collection[str] | None) -> tuple[str, ...] | None:
    """Return a list of texts to filter by, as a tuple; None means no filter."""
    if given is None:
        return None
    for one in (found := texts(name, given)):
        text(name, one)
    return found


def integer(name: str, given: int) -> int:
    """Return an integer from 0; one above 2**53 becomes 2**53, which SQLite can hold."""
    if not isinstance(given, int) or isinstance(given, bool) or given < 0:
        raise ValueError(f"{name} is not an integer from 0; nothing was done")
    return min(given, MOST)


def limit(name: str, given: int | None) -> int | None:
    """Return a limit, an integer from 0, or None for no limit."""
    return None if given is None else integer(name, given)


def number(name: str, given: float | None) -> float | None:
    """Return a number from 0 to 2**53 as a float, or None."""
    if given is None:
        return None
    if is_amount(given):
        return float(given)
    raise ValueError(f"{name} is not a number from 0 to 2**53; nothing was written")


def length(name: str, given: float, unit: Literal["days", "hours"]) -> timedelta:
    """Return a duration, given in days or hours from 0. A duration that is too long becomes the longest timedelta."""
    try:
        if isinstance(given, bool) or not (isfinite(given) and given >= 0):
            raise ValueError
    except (TypeError, ValueError):
        raise ValueError(f"{name} is not a number of {unit} from 0; nothing was done") from None
    except OverflowError:  # an integer larger than every float
        return timedelta.max if given > 0 else length(name, -1, unit)
    try:
        return timedelta(**{unit: given})
    except OverflowError:
        return timedelta.max


def counts(given: Mapping[str, int]) -> dict[str, int]:
    """Return tokens by kind: integers from 0 to 2**53."""
    if not isinstance(given, Mapping):
        raise ValueError("tokens are not numbers by kind; nothing was written")
    for kind, count in given.items():
        if not isinstance(kind, str) or not is_count(count):
            raise ValueError(f"tokens of kind {kind!r} are not an integer from 0 to 2**53; nothing was written")
    return dict(given)


def mapping(name: str, given: Mapping[str, Any] | None) -> dict[str, Any]:
    """Return a copy of an object with texts as keys; None gives an empty one."""
    if given is None:
        return {}
    if not isinstance(given, Mapping) or not all(isinstance(key, str) for key in given):
        raise ValueError(f"{name} is not an object with texts as keys; nothing was written")
    return dict(given)


def moment(name: str, given: datetime | str | None) -> str | None:
    """Return a time as RFC 3339 UTC, or None. Raises ValueError if it is not a time, or outside the years 1 to 9999."""
    if given is None:
        return None
    try:
        return clock.to_text(given if isinstance(given, datetime) else clock.to_datetime(given))
    except ValueError as error:
        raise ValueError(f"{name} is not an RFC 3339 time or a datetime: {error}; nothing was written") from None


def since(name: str, given: datetime | str | None) -> str | None:
    """Return a time to filter by as RFC 3339 UTC, or None. Raises NoSuchMoment."""
    return None if given is None else as_text(given, name)


def status(given: SessionStatus | str) -> SessionStatus:
    """Return a status of a session."""
    return SessionStatus(choice("status", given, [one.value for one in SessionStatus]))


def end(given: SessionStatus | str) -> SessionStatus:
    """Return a status that ends a session."""
    if given == SessionStatus.ACTIVE:
        raise ValueError("a session cannot be completed as active; nothing was written: use reopen_session")
    return SessionStatus(
        choice("status", given, [one.value for one in SessionStatus if one is not SessionStatus.ACTIVE])
    )


def day(name: str, given: date | str | None) -> str | None:
    """Return a day, such as 2026-01-31, or None.

    A datetime gives its day in UTC. Of a longer text, only the first ten characters are read.
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
    """Return the numbers of events as a list. Raises ValueError for anything but integers."""
    found = [given] if isinstance(given, int) else given
    if isinstance(found, str | bytes) or not isinstance(found, Collection):
        raise ValueError("seqs is neither an event number nor a list of event numbers; nothing was done")
    if any(not isinstance(one, int) or isinstance(one, bool) for one in found):
        raise ValueError("seqs contains a value that is not an event number; nothing was done")
    return list(found)


# --- values of new events: for the methods that make one, and for `append`, which accepts any
#
# Logs may have events with other values, which were written before there was a limit: they are read as they are.


def is_count(value: object) -> bool:
    """Return whether a value is an integer from 0 to 2**53."""
    return isinstance(value, int) and not isinstance(value, bool) and 0 <= value <= MOST


def is_amount(value: object) -> bool:
    """Return whether a value is a number from 0 to 2**53."""
    try:
        return isfinite(value) and 0 <= value <= MOST  # type: ignore[arg-type, operator]
    except (TypeError, ValueError, OverflowError):
        return False


def checked(event: E) -> E:
    """Return a new event, with its times as logs hold them. Raises EventNotEncodable with the path of a value it cannot have.

    The types of fields are not checked here: the log does that.
    """
    if isinstance(event, e.SessionAdjusted):
        event = replace(event, **{name: _time(event, name) for name in ("created_at", "updated_at")})
    for name, reason in _RULES.get(type(event), {}).items():
        value = getattr(event, name)
        if value is None or value is UNSET:
            continue
        for path, one in _parts(name, value):
            if not _HOLDS[reason](one):
                raise EventNotEncodable(event.type, path, f"is not {reason}")
    return event


def _parts(name: str, value: Any) -> list[tuple[str, Any]]:
    """Return the values in a field, each with its path."""
    if isinstance(value, Mapping):
        return [(f"$.{name}.{ascii(key)[1:-1]}", one) for key, one in value.items()]
    if isinstance(value, tuple | list):
        return [(f"$.{name}[{place}]", one) for place, one in enumerate(value)]
    return [(f"$.{name}", value)]


def _time(event: e.SessionAdjusted, name: str) -> Any:
    text = getattr(event, name)
    if text is UNSET:
        return UNSET
    try:
        return clock.to_text(clock.to_datetime(text))
    except ValueError:
        raise EventNotEncodable(event.type, f"$.{name}", "is not an RFC 3339 time") from None


_COUNT, _AMOUNT = "a whole number from 0 to 2**53", "a number from 0 to 2**53"
_SEQ, _TAG, _END = "the number of an event, from 1", "a text with something in it", "completed, failed or abandoned"
_PATH = "a path: it contains a NUL character"
_HOLDS: dict[str, Callable[[Any], bool]] = {
    _COUNT: is_count,
    _AMOUNT: is_amount,
    _SEQ: lambda value: is_count(value) and value > 0,
    _TAG: lambda value: not isinstance(value, str) or bool(value.strip()),
    _PATH: lambda value: not isinstance(value, str) or "\0" not in value,
    _END: lambda value: value != "active",
}
_RULES: dict[type[e.Event], dict[str, str]] = {
    e.SessionCreated: {"tags": _TAG},
    e.SessionUpdated: {"tags": _TAG},
    e.SessionCompleted: {"status": _END},
    e.SessionAdjusted: {
        "total_invocations": _COUNT,
        "total_duration_ms": _AMOUNT,
        "estimated_cost": _AMOUNT,
        "token_usage": _COUNT,
    },
    e.ConversationRewound: {"to": _COUNT},
    e.MessagesWithdrawn: {"targets": _SEQ},
    e.InvocationStarted: {"invocation_dir": _PATH},
    e.InvocationLinked: {"invocation_dir": _PATH, "duration_ms": _AMOUNT},
    e.UsageRecorded: {"tokens": _COUNT, "cost": _AMOUNT, "cache_write_hour": _COUNT},
    e.RecordPut: {"first": _SEQ},
    e.RecordRemoved: {"item": _SEQ},
    e.ForeignRecorded: {"withheld_bytes": _COUNT},
}
