"""What a field of an event may hold: what msgspec would change, or refuse without saying where, is refused with its path."""

from collections.abc import Callable
from functools import cache
from math import isfinite
from typing import Any, Literal, NamedTuple, get_args, get_origin, get_type_hints

import msgspec

from eventstore.errors import EventNotEncodable
from eventstore.events import Event

MAX_DEPTH = 200
"""How deep JSON may nest: deeper lines could be unreadable from a deep call stack."""


def check_fields(own: Event, event_type: str) -> None:
    """Check every field against its annotation. Raises EventNotEncodable with the path of the first that is not fit."""
    for name, wanted in _tests_of(type(own)):
        value = getattr(own, name)
        if value is msgspec.UNSET:
            continue
        if not wanted.holds(value):
            raise EventNotEncodable(event_type, f"$.{name}", f"is {shown(value)}, not {wanted.what}")
        if value is not None:
            check_value(value, event_type, f"$.{name}", 1)


def shown(value: object) -> str:
    """Name the type of a value that was refused: its content is nobody's business."""
    return "None" if value is None else f"of type {type(value).__name__}"


class _Wanted(NamedTuple):
    """What a field may hold, in words and as a test."""

    what: str
    holds: Callable[[Any], bool]


def _is_whole(value: object) -> bool:
    return isinstance(value, int) and not isinstance(value, bool)


_SIMPLE: dict[Any, _Wanted] = {
    str: _Wanted("text", lambda value: isinstance(value, str)),
    int: _Wanted("a whole number", _is_whole),
    float: _Wanted("a number", lambda value: isinstance(value, float) or _is_whole(value)),
    bool: _Wanted("true or false", lambda value: isinstance(value, bool)),
    type(None): _Wanted("None", lambda value: value is None),
    dict[str, Any]: _Wanted("an object", lambda value: isinstance(value, dict)),
    dict[str, int]: _Wanted(
        "whole numbers by text", lambda value: isinstance(value, dict) and all(map(_is_whole, value.values()))
    ),
    tuple[str, ...]: _Wanted(
        "a tuple of texts", lambda value: isinstance(value, tuple) and all(isinstance(one, str) for one in value)
    ),
    tuple[int, ...]: _Wanted(
        "a tuple of whole numbers", lambda value: isinstance(value, tuple) and all(map(_is_whole, value))
    ),
    tuple[int, int]: _Wanted(
        "two whole numbers", lambda value: isinstance(value, tuple) and len(value) == 2 and all(map(_is_whole, value))
    ),
    Any: _Wanted("JSON", lambda value: True),
}


def _wanted(hint: Any) -> _Wanted:
    """Make the test for the annotation of a field."""
    if hint in _SIMPLE:
        return _SIMPLE[hint]
    parts = get_args(hint)
    if get_origin(hint) is Literal:
        return _Wanted(f"one of {', '.join(parts)}", lambda value: isinstance(value, str) and value in parts)
    tests = [_wanted(part) for part in parts if part is not msgspec.UnsetType]
    holds = tuple(test.holds for test in tests)
    return _Wanted(" or ".join(test.what for test in tests), lambda value: any(test(value) for test in holds))


@cache
def _tests_of(kind: type[Event]) -> tuple[tuple[str, _Wanted], ...]:
    hints = get_type_hints(kind)
    return tuple((name, _wanted(hints[name])) for name in kind.__struct_fields__[len(Event.__struct_fields__) :])


def check_value(value: object, event_type: str, path: str, depth: int) -> None:
    """Refuse what msgspec would change or fail on without saying where."""
    kind = type(value)
    if kind is str:
        try:
            value.encode()  # type: ignore[attr-defined]
        except UnicodeEncodeError:
            raise EventNotEncodable(event_type, path, "holds a lone surrogate, which UTF-8 cannot carry") from None
    elif value is None or kind is bool:
        return
    elif kind is int:
        if not -(2**63) <= value < 2**64:  # type: ignore[operator]
            raise EventNotEncodable(event_type, path, "is an integer beyond 64 bits")
    elif kind is float:
        if not isfinite(value):  # type: ignore[arg-type]
            raise EventNotEncodable(event_type, path, "is NaN or infinite, which JSON cannot hold")
    elif depth >= MAX_DEPTH:
        raise EventNotEncodable(event_type, path[:80], f"nests deeper than {MAX_DEPTH}")
    elif isinstance(value, dict):
        for key, item in value.items():
            if not isinstance(key, str):
                raise EventNotEncodable(event_type, path, f"has a key of type {type(key).__name__}, not text")
            check_value(key, event_type, f"{path}{{key}}", depth)
            check_value(item, event_type, f"{path}.{ascii(key)[1:-1]}", depth + 1)
    elif isinstance(value, list | tuple):
        for index, item in enumerate(value):
            check_value(item, event_type, f"{path}[{index}]", depth + 1)
    elif isinstance(value, str | int | float):
        check_value(kind.__mro__[-2](value), event_type, path, depth)  # a subclass, such as a str Enum
    else:
        raise EventNotEncodable(event_type, path, f"is a {kind.__name__}, which has no JSON")
