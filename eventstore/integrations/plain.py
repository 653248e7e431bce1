"""Objects of other libraries as JSON values: what an integration records of arguments and results, and keeps for a framework."""

import base64
import json
from collections.abc import Callable, Mapping
from dataclasses import fields, is_dataclass
from datetime import date, datetime
from enum import Enum
from math import isfinite
from pathlib import PurePath
from typing import Any

from eventstore.errors import EventNotEncodable
from eventstore.record.fields import check_value

_MOST_DEPTH = 64
_INT_MIN, _INT_MAX = -(2**63), 2**64 - 1


def plain(value: Any, depth: int = 0) -> Any:
    """Return a value as JSON: dataclasses, pydantic models and mappings as objects; what has no JSON form as text.

    Never fails and never changes the value: NaN, infinities and integers beyond 64 bits become text.
    """
    if value is None or isinstance(value, bool):
        return value
    if isinstance(value, Enum):  # first, for one may be a text or a number too
        return plain(value.value, depth)
    if isinstance(value, str):
        return str(value) if value.isascii() else value.encode("utf-8", "replace").decode()
    if isinstance(value, int):
        return int(value) if _INT_MIN <= value <= _INT_MAX else str(value)
    if isinstance(value, float):
        return float(value) if isfinite(value) else str(value)
    if isinstance(value, bytes | bytearray | memoryview):
        return base64.b64encode(value).decode("ascii")
    if isinstance(value, datetime | date):
        return value.isoformat()
    if depth >= _MOST_DEPTH:
        return _text(value)
    if isinstance(value, Mapping):
        return {_text(key): plain(item, depth + 1) for key, item in value.items()}
    if isinstance(value, tuple) and hasattr(value, "_asdict"):  # a named tuple
        return {name: plain(item, depth + 1) for name, item in value._asdict().items()}
    if isinstance(value, list | tuple | set | frozenset):
        return [plain(item, depth + 1) for item in value]
    if is_dataclass(value) and not isinstance(value, type):
        return {one.name: plain(getattr(value, one.name), depth + 1) for one in fields(value)}
    dump = getattr(value, "model_dump", None)
    if callable(dump) and not isinstance(value, type):
        try:
            return plain(dump(mode="json"), depth + 1)
        except Exception:  # a model that cannot show itself is shown as text
            return _text(value)
    if isinstance(value, PurePath):
        return str(value)
    return _text(value)


def packed(value: Any, others: Callable[[Any], Any] | None = None) -> Any:
    """Return a value in the form in which a record keeps it, so that `unpacked` gives it back unchanged.

    That is the value itself, or the bytes of its JSON where it holds what a log refuses: lone surrogates, integers beyond 64
    bits, NaN, infinities, deep nesting. `others` makes JSON of objects that have none, such as `plain`; without it a value that
    holds one comes back as it is, and the append that refuses it names its place.
    """
    if _is_storable(value):
        return value
    try:
        text = json.dumps(value, default=others)
        read = json.loads(text)
    except (TypeError, ValueError, RecursionError):  # an object, a name that is no text, a circle, very deep nesting
        return value if others is None else others(value)
    return read if _is_storable(read) else text.encode()


def unpacked(stored: Any) -> Any:
    """Return a value that `packed` was given."""
    return json.loads(stored) if isinstance(stored, bytes) else stored


def _is_storable(value: Any) -> bool:
    try:
        check_value(value, "record.put", "$.value", 1)
    except EventNotEncodable:
        return False
    return True


def _text(value: Any) -> str:
    try:
        text = value if isinstance(value, str) else str(value)
    except Exception:  # the object of a stranger may fail in its own way
        text = f"<{type(value).__name__}>"
    return text.encode("utf-8", "replace").decode()
