"""The values that a field of an event may have. Values that msgspec would change, or refuse without a path, are refused here."""

import re
from collections.abc import Callable
from enum import Enum
from functools import cache
from math import isfinite
from types import UnionType
from typing import Any, Literal, NamedTuple, Union, get_args, get_origin, get_type_hints

import msgspec

from eventstore.custom_events import CustomEvent
from eventstore.errors import EventNotEncodable
from eventstore.events import Event

MAX_DEPTH = 200
"""How deep JSON may nest: deeper lines could be unreadable from a deep call stack."""


def check_fields(own: Event, event_type: str) -> None:
    """Check every field against its annotation. Raises EventNotEncodable with the path of the first invalid value."""
    if isinstance(own, CustomEvent):
        _check_custom(own, event_type)
        return
    for name, wanted in _tests_of(type(own)):
        value = getattr(own, name)
        if value is msgspec.UNSET:
            continue
        if not wanted.holds(value):
            raise EventNotEncodable(event_type, f"$.{name}", f"is {shown(value)}, not {wanted.what}")
        if value is not None:
            check_value(value, event_type, f"$.{name}", 1)


def _check_custom(own: CustomEvent, event_type: str) -> None:
    """Check an event of a program's own type: it has a JSON form, and can be read back from it."""
    try:
        raw = msgspec.to_builtins(own)
    except (TypeError, ValueError, RecursionError) as error:
        reason = f"has a value without a JSON form ({type(error).__name__})"
        raise EventNotEncodable(event_type, _place_of_refused(own), reason) from None
    for name, value in raw.items():
        check_value(value, event_type, f"$.{name}", 1)
    try:
        msgspec.json.decode(msgspec.json.encode(own), type=type(own))
    except msgspec.ValidationError as error:
        place = _PLACE.search(str(error))  # the rest of the message may quote content
        path = place[1] if place else "$"
        raise EventNotEncodable(event_type, path, "does not fit the annotation of its field") from None
    except (NameError, TypeError):
        raise EventNotEncodable(event_type, "$", "is of a class with an annotation that cannot be read") from None


def _place_of_refused(own: CustomEvent) -> str:
    """Return the path of the first field that has no JSON form."""
    for name in own.__struct_fields__:
        try:
            msgspec.to_builtins(getattr(own, name))
        except (TypeError, ValueError, RecursionError):
            return f"$.{name}"
    return "$"


_PLACE = re.compile(r"at `(\$[^`]*)`$")


def shown(value: object) -> str:
    """Return the type of a refused value, not its content, which may be private."""
    return "None" if value is None else f"of type {type(value).__name__}"


class _Wanted(NamedTuple):
    """The values that a field may have, as a description and as a test."""

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
    list[Any]: _Wanted("a list", lambda value: isinstance(value, list)),
    Any: _Wanted("JSON", lambda value: True),
}


def _wanted(hint: Any) -> _Wanted:
    """Return the test for the annotation of a field."""
    if hint in _SIMPLE:
        return _SIMPLE[hint]
    parts = get_args(hint)
    if get_origin(hint) is Literal:
        return _Wanted(f"one of {', '.join(parts)}", lambda value: isinstance(value, str) and value in parts)
    first, *others = (_wanted(part) for part in parts if part is not msgspec.UnsetType)
    for other in others:
        first = _either(first, other)
    return first


def _either(first: _Wanted, second: _Wanted) -> _Wanted:
    holds, also = first.holds, second.holds
    return _Wanted(f"{first.what} or {second.what}", lambda value: holds(value) or also(value))


_PLAIN = frozenset([str, bool, int, float, type(None)])
NO_TEXT = frozenset([int, float, dict, list])
"""Types of values that may be no JSON, and that encoding does not refuse as it refuses a text with half a character."""


def plain_types(hint: Any) -> frozenset[type]:
    """Return the types whose values a field with this annotation may have, as far as only `is_faithful` is left to ask."""
    parts = get_args(hint) if get_origin(hint) in (Union, UnionType) else (hint,)
    found = {one for one in parts if one in _PLAIN} | {msgspec.UnsetType}
    if float in found:
        found.add(int)
    if Any in parts:
        found |= _PLAIN | NO_TEXT
    return frozenset(found | {dict} if dict[str, Any] in parts else found)


@cache
def _tests_of(kind: type[Event]) -> tuple[tuple[str, _Wanted], ...]:
    hints = get_type_hints(kind)
    return tuple((name, _wanted(hints[name])) for name in kind.__struct_fields__[len(Event.__struct_fields__) :])


def check_value(value: object, event_type: str, path: str, depth: int) -> None:
    """Refuse values that msgspec would change, or refuse without a path."""
    if not is_faithful(value, depth):
        _find_refused(value, event_type, path, depth)


def is_faithful(value: Any, depth: int = 1) -> bool:
    """Return whether a value is JSON at first sight. Most are, and need no path. For one of False `check_value` decides."""
    kind = type(value)
    if kind is str:
        return bool(value.isascii())
    if kind is int:
        return bool(-(2**63) <= value < 2**64)
    if kind is float:
        return isfinite(value)
    if kind is dict and depth < MAX_DEPTH:
        for key, item in value.items():  # no generator: it would double the depth of the stack
            if type(key) is not str or not key.isascii() or not is_faithful(item, depth + 1):
                return False
        return True
    if kind is list and depth < MAX_DEPTH:
        for item in value:  # noqa: SIM110 - for the same reason
            if not is_faithful(item, depth + 1):
                return False
        return True
    return value is None or kind is bool


def _find_refused(value: object, event_type: str, path: str, depth: int) -> None:
    """Raise EventNotEncodable with the path of the first value that is refused, if there is one."""
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
            _find_refused(key, event_type, f"{path}{{key}}", depth)
            _find_refused(item, event_type, f"{path}.{ascii(key)[1:-1]}", depth + 1)
    elif isinstance(value, list | tuple):
        for index, item in enumerate(value):
            _find_refused(item, event_type, f"{path}[{index}]", depth + 1)
    elif isinstance(value, Enum) and isinstance(value, str | int | float):
        _find_refused(value.value, event_type, path, depth)
    else:
        raise EventNotEncodable(event_type, path, f"is of type {kind.__name__}, which has no JSON form")
