"""Events to lines and back: the only file that knows bytes and JSON.

A line is `{"type":...,"seq":...,"at":...,<optional head>,<own fields>,<by, origin, salt>,"hash":"<64 hex>"}` and LF. Its body
is what stands before `,"hash":"`. `leaf = SHA-256(0x00 || body)` as in RFC 6962, `hash = SHA-256(0x01 || previous || leaf)`.
"""

import os
from base64 import urlsafe_b64encode
from binascii import hexlify
from collections.abc import Callable, Iterable, Iterator
from contextlib import suppress
from hashlib import sha256
from itertools import product
from typing import Any, Literal, NamedTuple, get_args, get_origin, get_type_hints

import msgspec
from msgspec.structs import astuple, replace

from eventstore.errors import EventNotEncodable, EventTooLarge
from eventstore.events import EVENT_TYPES, AnyEvent, Event, EventRedacted, RedactedEvent, UnknownEvent
from eventstore.record import clock, hash_chain, tombstone
from eventstore.record.fields import check_fields, check_value, shown

MAX_EVENT_BYTES = 16 * 1024 * 1024
"""The default limit of one encoded line."""
_ROOM = 256
"""Bytes of a line besides what is prepared before its place is known, at most."""
_STUB_ROOM = 57
"""Bytes that a stub needs between `at` and `hash`: a line with less text than that is filled up with spaces."""

_NO_TEXT = frozenset(
    ["session.reopened", "conversation.cleared", "conversation.rewound", "data.cleared", "usage.recorded"]
)
_encoder = msgspec.json.Encoder()
_encode = _encoder.encode
_decoder: msgspec.json.Decoder[AnyEvent] = msgspec.json.Decoder(AnyEvent)
_raw_decoder: msgspec.json.Decoder[dict[str, Any]] = msgspec.json.Decoder(dict[str, Any])


class Piece(msgspec.Struct, frozen=True, gc=False):
    """An event encoded as far as it can be before its place is known: `head` goes before seq, `tail` behind batch."""

    head: bytes
    optional: bytes
    tail: bytes


class Head(msgspec.Struct, frozen=True, gc=False):
    """What a log needs of a line without knowing its meaning."""

    type: str
    seq: int
    at: str
    id: str | None = None
    batch: tuple[int, int] | None = None


_head_decoder = msgspec.json.Decoder(Head)


# --- encoding


class _Salts:
    """Random bits from a buffer, not one system call each; a forked child draws its own."""

    def __init__(self) -> None:
        self._drop()
        os.register_at_fork(after_in_child=self._drop)

    def _drop(self) -> None:
        self._stock: list[bytes] = []

    def draw(self) -> bytes:
        """Return a salt's key and value, as a line holds them."""
        try:
            return self._stock.pop()
        except IndexError:
            bits = os.urandom(16 * 256)
            stock = [b',"salt":"%b"' % urlsafe_b64encode(bits[i : i + 16])[:22] for i in range(0, len(bits), 16)]
            salt = stock.pop()
            self._stock = stock
            return salt


_salts = _Salts()


class _Kind(NamedTuple):
    """What encoding needs of an event type.

    `plain` are types of its fields with which they are fit whatever they hold; of the first one `choices` are given, if any.
    """

    tag: str
    head: bytes
    start: int
    salted: bool
    plain: frozenset[tuple[type, ...]]
    choices: frozenset[Any]


def prepare(event: Event, max_bytes: int = MAX_EVENT_BYTES) -> Piece:
    """Encode all of an event but its place in a log.

    `seq`, `at`, `batch`, `v`, `salt` and `hash` of the event are ignored: the log stamps them. Raises EventNotEncodable for a
    value that JSON cannot hold faithfully (NaN, infinity, lone surrogates, bytes, nesting over 200) and EventTooLarge.
    """
    kind = _KINDS[type(event)]
    if kind is None:
        raise EventNotEncodable(event.type, "$", "is not a type of the catalogue")
    values = astuple(event)
    if values[:_OWN] != _BLANK:
        return _prepare_headed(event, kind, max_bytes)
    fit = tuple(map(type, values[_OWN:])) in kind.plain
    if not fit or (kind.choices and values[_OWN] not in kind.choices):
        check_fields(event, kind.tag)
    try:
        tail = _encode(event)[kind.start : -1]
    except UnicodeEncodeError:
        check_fields(event, kind.tag)
        raise
    if kind.salted:
        tail += _salts.draw()
        if len(tail) < _STUB_ROOM:
            tail = tail.ljust(_STUB_ROOM)
    if len(tail) > max_bytes - _ROOM:
        raise EventTooLarge(kind.tag, len(tail) + _ROOM, max_bytes)
    return Piece(kind.head, b"", tail)


def _prepare_headed(event: Event, kind: _Kind, max_bytes: int) -> Piece:
    """Encode an event that brings a head or a tail of its own."""
    if not (event.id is None or isinstance(event.id, str)):
        raise EventNotEncodable(kind.tag, "$.id", f"is {shown(event.id)}, not text")
    if not (event.by is None or isinstance(event.by, dict)):
        raise EventNotEncodable(kind.tag, "$.by", f"is {shown(event.by)}, not an object")
    own = replace(event, **_NO_ENVELOPE)
    check_fields(own, kind.tag)
    optional, tail = b"", _encode(own)[kind.start : -1]
    try:
        if event.occurred_at is not None:
            optional += b',"occurred_at":' + _encode(_normal_time(event.occurred_at, kind.tag))
        if event.version != 1:
            optional += b',"v":%d' % event.version
        if event.id is not None:
            optional += b',"id":' + _encode(event.id)
        if event.by:
            check_value(event.by, kind.tag, "$.by", 1)
            tail += b',"by":' + _encode(event.by)
        if event.origin is not None:
            tail += b',"origin":' + _encode(event.origin)
    except UnicodeEncodeError:
        raise EventNotEncodable(kind.tag, "$.id, $.by or $.origin", "holds a lone surrogate") from None
    if kind.salted or event.by or event.origin is not None:
        tail = (tail + _salts.draw()).ljust(_STUB_ROOM)
    if len(optional) + len(tail) > max_bytes - _ROOM:
        raise EventTooLarge(kind.tag, len(optional) + len(tail) + _ROOM, max_bytes)
    return Piece(kind.head, optional, tail)


def _normal_time(text: str, event_type: str) -> str:
    try:
        return clock.to_text(clock.to_datetime(text))
    except ValueError:
        raise EventNotEncodable(event_type, "$.occurred_at", "is not an RFC 3339 time") from None


_ENVELOPE = Event.__struct_fields__
_OWN = len(_ENVELOPE)
_NO_ENVELOPE: dict[str, Any] = dict(zip(_ENVELOPE, Event.__struct_defaults__, strict=True))
_BLANK = tuple(_NO_ENVELOPE.values())


def _kind_of(tag: str, kind: type[Event]) -> _Kind:
    hints = get_type_hints(kind)
    own = [hints[name] for name in kind.__struct_fields__[_OWN:]]
    choices = frozenset(get_args(own[0])) if own and get_origin(own[0]) is Literal else frozenset[Any]()
    if choices:
        own[0] = str
    fit = [[one for one in get_args(hint) or [hint] if one in (str, bool, type(None))] for hint in own]
    plain = frozenset(product(*fit)) if kind.version == 1 else frozenset[tuple[type, ...]]()
    start = b'{"type":"%b"' % tag.encode("ascii")
    return _Kind(tag, start + b',"seq":', len(start), tag not in _NO_TEXT, plain, choices)


class _Kinds(dict[type[Event], _Kind | None]):
    """What is known of each type, found out when it is first written: programs that only read never ask."""

    def __missing__(self, kind: type[Event]) -> _Kind | None:
        tag = str(kind.__struct_config__.tag)
        found = self[kind] = _kind_of(tag, kind) if EVENT_TYPES.get(tag) is kind else None
        return found


_KINDS = _Kinds()


def seal(piece: Piece, seq: int, at: bytes, batch: tuple[int, int] | None, previous: bytes) -> tuple[bytes, bytes]:
    """Give a piece its place. Returns the line with its LF, and the chain's digest after it."""
    numbers = b',"batch":[%d,%d]' % batch if batch else b""
    body = b'%b%d,"at":"%b"%b%b%b' % (piece.head, seq, at, piece.optional, numbers, piece.tail)
    digest = sha256(b"\x01" + previous + sha256(b"\x00" + body).digest()).digest()
    return b'%b,"hash":"%b"}\n' % (body, hexlify(digest)), digest


# --- decoding


def head(line: bytes) -> Head | None:
    """Read a line's place in its log; None where it is not a record."""
    try:
        line.decode()
        return _head_decoder.decode(line)
    except (msgspec.DecodeError, UnicodeDecodeError, RecursionError, MemoryError):
        return None


def heads(whole: bytes) -> list[Head] | None:
    """Read the places of several lines at once, the last of them without its LF; None where one of them is not a record."""
    try:
        whole.decode()
        return _head_decoder.decode_lines(whole)
    except (msgspec.DecodeError, UnicodeDecodeError, RecursionError, MemoryError):
        return None


def decode(line: bytes) -> AnyEvent | UnknownEvent:
    """Decode one verified line. Unknown types and newer schema versions come back as UnknownEvent, redacted as RedactedEvent."""
    if tombstone.MARK in line:
        stub = tombstone.read_tombstone(line.rstrip(b"\n"))
        if stub is not None:
            return _decode_stub(line, stub)
    try:
        event = _decoder.decode(line)
    except (msgspec.DecodeError, RecursionError):
        return _decode_slowly(line)
    return event if event.v == event.version else _decode_slowly(line)


def read_redaction(line: bytes) -> EventRedacted | None:
    """Decode a line that tells of a redaction; None for any other."""
    if not line.startswith(b'{"type":"event.redacted",'):
        return None
    try:
        event = _decoder.decode(line)
    except (msgspec.DecodeError, RecursionError):
        return None
    return event if isinstance(event, EventRedacted) else None


def decode_lines(chunk: bytes) -> Iterable[AnyEvent | UnknownEvent]:
    """Decode a chunk of whole verified lines, in order; one call for the usual chunk of known events."""
    if tombstone.MARK in chunk:
        return [decode(line) for line in lines(chunk)]
    try:
        events = _decoder.decode_lines(chunk)
    except (msgspec.DecodeError, RecursionError):
        return [decode(line) for line in lines(chunk)]
    if UPCASTERS:
        return [decode(line) for line in lines(chunk)]
    return events


def lines(chunk: bytes) -> Iterator[bytes]:
    """Split a chunk of whole lines at LF only, each line without it."""
    found = chunk.split(b"\n")
    found.pop()
    return iter(found)


def to_json(event: Event) -> bytes:
    """Show an event as one JSON object: the line as it is where the event is unknown, else the decoded fields."""
    return event.raw if isinstance(event, UnknownEvent) else _encode(event)


# --- upcasting

Upcaster = Callable[[dict[str, Any]], dict[str, Any]]
UPCASTERS: dict[tuple[str, int], Upcaster] = {}
"""Old schema versions to the next: `(type, v)` to a pure function on the raw object. Empty: every type is at 1."""


def check_upcasters(upcasters: dict[tuple[str, int], Upcaster], types: dict[str, type[Event]]) -> None:
    """Raise TypeError unless every type can be led from version 1 to its own without a gap."""
    for tag, kind in types.items():
        missing = [v for v in range(1, kind.version) if (tag, v) not in upcasters]
        if missing:
            raise TypeError(f"{tag} has no upcaster from version {missing[0]}")
    stray = [f"{tag} {v}" for tag, v in upcasters if tag not in types or v >= types[tag].version]
    if stray:
        raise TypeError(f"upcasters that lead nowhere: {', '.join(stray)}")


check_upcasters(UPCASTERS, EVENT_TYPES)


def _decode_stub(line: bytes, stub: tombstone.Tombstone) -> RedactedEvent:
    return RedactedEvent(
        known_as=stub.type,
        raw=line.rstrip(b"\n"),
        seq=stub.seq,
        at=stub.at,
        leaf=stub.leaf.hex(),
        hash=stub.digest.hex(),
    )


def _decode_slowly(line: bytes) -> AnyEvent | UnknownEvent:
    head = _head_decoder.decode(line)
    try:
        raw = _raw_decoder.decode(line)
    except (msgspec.DecodeError, RecursionError):
        return _unknown(line, head)  # it holds a number, say, that no field of ours could
    v = raw.pop("v", 1)
    if not isinstance(v, int) or v < 1:
        return _unknown(line, head)
    kind = EVENT_TYPES.get(head.type)
    if kind is not None and v <= kind.version:
        for step in range(v, kind.version):
            raw = UPCASTERS[head.type, step](raw)
        with suppress(msgspec.ValidationError):
            event: AnyEvent = msgspec.convert(raw, AnyEvent)
            return replace(event, v=kind.version)
    occurred_at = raw.get("occurred_at")
    return _unknown(line, head, v, occurred_at if isinstance(occurred_at, str) else None)


def _unknown(line: bytes, head: Head, v: int = 1, occurred_at: str | None = None) -> UnknownEvent:
    parts = hash_chain.split(line)
    return UnknownEvent(
        known_as=head.type,
        raw=line.rstrip(b"\n"),
        seq=head.seq,
        at=head.at,
        id=head.id,
        batch=head.batch,
        occurred_at=occurred_at,
        v=v,
        hash=parts[1].hex() if parts else "",
    )
