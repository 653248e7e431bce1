"""Arguments of a request: parameters and bodies are read into Structs, and what is wrong with one is said in plain words.

The sentence names the argument and what it has to be, and never quotes a value: it may be long, or content.
"""

import re
from collections.abc import Callable, Mapping
from typing import Any

import msgspec
from msgspec import inspect

from eventstore.server.problems import Refusal

_PLACE = re.compile(r" - at `\$(.*)`\Z", re.DOTALL)
_STEP = re.compile(r"\.(\w+)|\[")
_UNKNOWN, _MISSING = re.compile(r"unknown field `(.*?)`", re.DOTALL), re.compile(r"missing required field `(\w+)`")
_HALF = re.compile(rb"\\u[dD][89abAB]..\\u[dD][c-fC-F]..|(\\u[dD][89a-fA-F])|\\.", re.DOTALL)


def read_query(kind: type, given: Mapping[str, list[str]]) -> Any:
    """Read the parameters of a URL into a struct. Raises Refusal, which names the parameter."""
    fields = {one.encode_name: one.type for one in msgspec.structs.fields(kind)}
    values: dict[str, Any] = {}
    for name, found in given.items():
        if "list" in str(fields.get(name)):
            values[name] = found
        elif len(found) == 1:
            values[name] = found[0]
        else:
            raise _wrong(f"parameter {_short(name)} was given {len(found)} times")
    read = _read(kind, "parameter", lambda: msgspec.convert(values, kind, strict=False))
    for name in values:
        if getattr(read, name) is None:  # `null` is no value: what is left out has none
            raise _wrong(f"parameter {name} is not {_wanted(kind, name)}")
    return read


def read_body(kind: Any, body: bytes) -> Any:
    """Read a JSON body into a struct. Raises Refusal, which names the field."""
    return _read(kind, "field", lambda: msgspec.json.decode(body, type=kind), body)


def _read(kind: type, what: str, read: Callable[[], Any], body: bytes = b"") -> Any:
    try:
        return read()
    except msgspec.ValidationError as error:
        raise _wrong(_fault(kind, what, str(error))) from None
    except UnicodeDecodeError:
        raise _wrong("the body is not UTF-8") from None
    except RecursionError:
        raise _wrong("the body is nested too deeply") from None
    except msgspec.DecodeError:
        if any(found[1] for found in _HALF.finditer(body)):
            raise _wrong("a text in the body holds half of a surrogate pair, which is no character") from None
        raise _wrong("the body is not JSON") from None


def _wrong(fault: str) -> Refusal:
    return Refusal(422, f"{fault}; nothing was done", "Wrong argument")


def _fault(kind: type, what: str, told: str) -> str:
    """Say what is wrong with a struct's values, from what msgspec told."""
    names = [one.encode_name for one in msgspec.structs.fields(kind)]
    if found := _MISSING.search(told):
        return f"{what} {found[1]} is missing: it is {_wanted(kind, found[1])}"
    if found := _UNKNOWN.search(told):
        return f"there is no {what} {_short(found[1])}: this takes {', '.join(names) or 'none'}"
    place = _PLACE.search(told)
    if place is None:
        return "the body is not a JSON object"
    return f"{what} {place[1].removeprefix('.')} is not {_wanted(kind, place[1])}"


def _wanted(kind: type, place: str) -> str:
    """Say what the value at a place in a struct has to be; a place is a name, or what msgspec calls `$.name[0]`."""
    wanted: Any = inspect.type_info(kind)
    for step in _STEP.finditer(place if place.startswith(".") else f".{place}"):
        if isinstance(wanted, inspect.UnionType):
            wanted = next(one for one in wanted.types if not isinstance(one, inspect.NoneType))
        if isinstance(wanted, inspect.StructType):
            wanted = next(one.type for one in wanted.fields if one.encode_name == step[1])
        else:
            wanted = wanted.value_type if isinstance(wanted, inspect.DictType) else wanted.item_type
    return _described(wanted)


def _described(wanted: Any) -> str:
    match wanted:
        case inspect.UnionType(types=types):
            return " or ".join(_described(one) for one in types if not isinstance(one, inspect.NoneType))
        case inspect.LiteralType(values=values):
            return f"one of {', '.join(map(str, values))}"
        case inspect.IntType(ge=least, le=most):
            return f"a whole number{_range(least, most)}"
        case inspect.StrType(min_length=least):
            return "a text that is not empty" if least else "a text"
        case inspect.ListType(item_type=item, min_length=least, max_length=most):
            return f"a list{_range(least, most).replace(' from', ' of')}, each {_described(item)}"
        case inspect.DictType(value_type=item):
            return f"an object, each value {_described(item)}"
        case inspect.BoolType():
            return "true or false"
        case inspect.FloatType():
            return "a number"
    return "a JSON value"


def _range(least: int | None, most: int | None) -> str:
    if most is None:
        return "" if least is None else f" of at least {least}"
    return f" of at most {most}" if least is None else f" from {least} to {most}"


def _short(name: str) -> str:
    return ascii(name if len(name) <= 40 else name[:37] + "...")
