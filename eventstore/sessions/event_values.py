"""The values that a new event may have, for the methods that make one and for `append`, which accepts any.

Logs may have events with other values, which were written before there was a limit: they are read as they are.
"""

from collections.abc import Callable, Mapping
from math import isfinite
from typing import Any, TypeVar

from msgspec import UNSET
from msgspec.structs import replace

from eventstore import events as e
from eventstore.errors import EventNotEncodable
from eventstore.record import clock

E = TypeVar("E", bound=e.Event)
MOST = 2**53
"""The largest integer that SQLite, JSON and other languages all represent exactly."""


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
    e.RecordRemoved: {"item": _SEQ},
    e.ForeignRecorded: {"withheld_bytes": _COUNT},
}
