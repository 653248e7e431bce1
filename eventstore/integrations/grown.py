"""Values that continue an earlier one, such as a list of messages with one more: stored as what was added.

A value is the bytes of a MessagePack array: a header with the number of items, then the items. One that continues another has
its items, and more. Its record holds the key of the other one, the header, and what was added:
`{"base": key, "depth": 3, "kind": "msgpack", "head": base64, "tail": base64, "sha256": hex}`. `depth` is the number of values
that it is made from, besides itself.
"""

from base64 import b64encode
from binascii import a2b_base64
from collections.abc import Callable, Iterator, Mapping, Set
from hashlib import sha256
from typing import Any, NamedTuple

_KIND = "msgpack"
_LEAST_BYTES = 2_000  # a shorter value is stored as it is
_MOST_DEPTH = 100  # then one is stored as it is: reading takes a step for each


class Value(NamedTuple):
    """The bytes of a serialized value, and the keys of the values that its record is made from. `sha256` is hex, if known."""

    kind: str
    data: bytes
    bases: tuple[str, ...] = ()
    sha256: str = ""


def plain(value: Value) -> bytes:
    """Return the value of a record that stands for itself."""
    return value.kind.encode() + b"\0" + value.data


def added(key: str, base: Value, value: Value) -> dict[str, Any] | None:
    """Return the value of a record that continues `base`, the value of that key; None where it is better stored as it is."""
    cut, begin = _header_size(base.data), _header_size(value.data)
    size = len(base.data) - cut
    if value.kind != _KIND or base.kind != _KIND or not cut or not begin:
        return None
    if len(value.data) < _LEAST_BYTES or len(base.bases) >= _MOST_DEPTH:
        return None
    if value.data[begin : begin + size] != base.data[cut:]:
        return None
    return {
        "base": key,
        "depth": len(base.bases) + 1,
        "kind": _KIND,
        "head": b64encode(value.data[:begin]).decode(),
        "tail": b64encode(value.data[begin + size :]).decode(),
        "sha256": sha256(value.data).hexdigest(),
    }


def resolve(key: str, get: Callable[[str], Any]) -> Value | None:
    """Return the value of a key. `get` gives the value of a record, None for one that is not there.

    None, if it or a record that it is made from is not there, or is another one.
    """
    tails, bases, stored = list[bytes](), list[str](), get(key)
    here = stored
    while isinstance(here, Mapping):
        tails.append(a2b_base64(here["tail"]))
        if len(tails) > _MOST_DEPTH:  # more than any has: it leads back to itself
            return None
        bases.append(here["base"])
        here = get(here["base"])
    if here is None or not tails:
        return None if here is None else _read(here)
    first = _read(here).data
    data = b"".join([a2b_base64(stored["head"]), first[_header_size(first) :], *reversed(tails)])
    digest = sha256(data).hexdigest()
    return Value(stored["kind"], data, tuple(bases), digest) if digest == stored["sha256"] else None


def resolve_known(
    key: str, known: tuple[str, Value] | None, there: Set[str], get: Callable[[str], Any]
) -> Value | None:
    """Return the value of a key as `resolve` does. `known` is a value that this process has, with its key.

    It is used if the record still is that value, and all that it is made from is there: none of that was removed or redacted.
    """
    if known is not None and known[0] == key and there >= {key, *known[1].bases} and holds(get(key), known[1]):
        return known[1]
    return resolve(key, get)


def holds(stored: Any, value: Value) -> bool:
    """Return whether a record, given by its value, is that of `value`."""
    if isinstance(stored, Mapping):
        return bool(stored["sha256"] == (value.sha256 or sha256(value.data).hexdigest()))
    return bool(stored == plain(value))


def put(
    key: str, value: Value, known: tuple[str, Value] | None, there: Set[str], get: Callable[[str], Any]
) -> tuple[Value, dict[str, Any]]:
    """Return a value as it is kept, and the records to put, by key: none where it is there already.

    `known` is an earlier value with its key, `there` are the keys that have a record. Values that are made from another one of
    this key are put as they are, since that one is replaced.
    """
    records = dict[str, Any]()
    if key in there:
        stored = get(key)
        if holds(stored, value):
            return value._replace(bases=tuple(needed(key, get))[1:]), records
        for other in there:
            made = get(other)
            if isinstance(made, Mapping) and made["base"] == key and (whole := resolve(other, get)) is not None:
                records[other] = plain(whole)
    more = None
    if known is not None and known[0] != key and known[0] in there:
        more = added(*known, value)
        if more is not None and not holds(get(known[0]), known[1]):  # another process deleted and replaced it
            more = None
    records[key] = more or plain(value)
    if known is None or more is None:
        return value, records
    return value._replace(bases=(known[0], *known[1].bases), sha256=more["sha256"]), records


def needed(key: str, get: Callable[[str], Any]) -> Iterator[str]:
    """Stream a key and those of the records that its value is made from."""
    here: str | None = key
    for _ in range(_MOST_DEPTH + 1):
        if here is None:
            return
        yield here
        stored = get(here)
        here = stored["base"] if isinstance(stored, Mapping) else None


def _read(stored: bytes) -> Value:
    kind, _, data = stored.partition(b"\0")
    return Value(kind.decode(), data)


def _header_size(data: bytes) -> int:
    """Return the size of the header of a MessagePack array; 0 if it is none."""
    first = data[0] if data else 0
    return 1 if first & 0xF0 == 0x90 else {0xDC: 3, 0xDD: 5}.get(first, 0)
