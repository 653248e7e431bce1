"""Encode events as lines and decode them: the only file that knows bytes and JSON.

A line is `{"type":...,"seq":...,"at":...,<optional head>,<own fields>,<by, origin, salt>,"hash":"<64 hex>"}` and LF.
Its body is everything before `,"hash":"`. `leaf = SHA-256(0x00 || body)` as in RFC 6962, `hash = SHA-256(0x01 ||
previous || leaf)`.
"""

import os
import warnings
from base64 import urlsafe_b64encode
from binascii import hexlify
from collections.abc import Callable, Iterable, Iterator
from contextlib import suppress
from functools import lru_cache
from hashlib import sha256
from typing import Any, Literal, NamedTuple, TypeVar, Union, get_args, get_origin, get_type_hints

import msgspec
from msgspec.structs import astuple, replace

from eventstore import custom_events
from eventstore.custom_events import CustomEvent, ReadEvent
from eventstore.errors import EventNotEncodable, EventTooLarge
from eventstore.events import (
    EVENT_TYPES,
    AnyEvent,
    Event,
    EventRedacted,
    InvocationEvent,
    MessageAdded,
    RecordPut,
    RedactedEvent,
    UnknownEvent,
)
from eventstore.record import accelerator, clock, hash_chain, packed_origin, tombstone, upcast
from eventstore.record.fields import NO_TEXT, check_fields, check_value, is_faithful, plain_types, shown

E = TypeVar("E", bound=Event)
MAX_EVENT_BYTES = 16 * 1024 * 1024
"""The default limit of one encoded line."""
_ROOM = 256
"""The most bytes that a line has besides the part that is prepared before its position is known."""
_STUB_ROOM = 57
"""Bytes that a stub needs between `at` and `hash`: a line with less text is padded with spaces."""

_NO_TEXT = frozenset(
    [
        "session.reopened",
        "conversation.cleared",
        "conversation.rewound",
        "messages.withdrawn",
        "data.cleared",
        "usage.recorded",
    ]
)
_chain = accelerator.load()
_encoder = msgspec.json.Encoder()
_encode = _encoder.encode
_decoder: msgspec.json.Decoder[AnyEvent] = msgspec.json.Decoder(AnyEvent)
_raw_decoder: msgspec.json.Decoder[dict[str, Any]] = msgspec.json.Decoder(dict[str, Any])


class Piece(msgspec.Struct, frozen=True, gc=False):
    """An event, encoded as far as possible before its position is known: `head` comes before seq, `tail` after batch."""

    head: bytes
    optional: bytes
    tail: bytes


class Head(msgspec.Struct, frozen=True, gc=False):
    """The fields of a line that a log needs, without its meaning."""

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

    `allowed` are for each field the types whose values are valid, if they are JSON; `plain` are the combinations of them that
    were seen. `choices` are the allowed values of the first field, if limited.
    """

    tag: str
    head: bytes
    start: int
    salted: bool
    allowed: tuple[frozenset[type], ...]
    plain: set[tuple[type, ...]]
    choices: frozenset[Any]
    is_headed: bool


def prepare(event: Event, max_bytes: int = MAX_EVENT_BYTES) -> Piece:
    """Encode everything of an event except its position in a log.

    `seq`, `at`, `batch`, `v`, `salt` and `hash` of the event are ignored: the log sets them. Raises EventNotEncodable for a
    value that JSON cannot hold faithfully (NaN, infinity, lone surrogates, bytes, nesting over 200) and EventTooLarge.
    """
    kind = _KINDS[type(event)]
    if kind is None:
        reason = (
            "is of a class without a tag" if isinstance(event, CustomEvent) else "is not a type that can be written"
        )
        raise EventNotEncodable(event.type, "$", reason)
    values = astuple(event)
    if kind.is_headed or values[:_OWN] != _BLANK:
        return _prepare_headed(event, values, kind, max_bytes)
    if not _is_plain(values, kind):
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


def _is_plain(values: tuple[Any, ...], kind: _Kind) -> bool:
    """Return whether the fields of an event are valid with any value."""
    types = tuple(map(type, values[_OWN:]))
    if types not in kind.plain:
        if not kind.allowed or not all(map(frozenset.__contains__, kind.allowed, types)):
            return False
        kind.plain.add(types)
    if kind.choices and values[_OWN] not in kind.choices:
        return False
    return NO_TEXT.isdisjoint(types) or all(is_faithful(one) for one in values[_OWN:] if type(one) in NO_TEXT)


def _prepare_headed(event: Event, values: tuple[Any, ...], kind: _Kind, max_bytes: int) -> Piece:
    """Encode an event that has its own head or tail."""
    if not (event.id is None or isinstance(event.id, str)):
        raise EventNotEncodable(kind.tag, "$.id", f"is {shown(event.id)}, not text")
    if not (event.by is None or isinstance(event.by, dict)):
        raise EventNotEncodable(kind.tag, "$.by", f"is {shown(event.by)}, not an object")
    own = replace(event, **_NO_ENVELOPE)
    if not _is_plain(values, kind):
        check_fields(own, kind.tag)
    try:
        optional, tail = b"", _encode(own)[kind.start : -1]
    except UnicodeEncodeError:
        check_fields(own, kind.tag)
        raise
    try:
        if event.occurred_at is not None:
            optional += b',"occurred_at":' + _encode(_normal_time(event.occurred_at, kind.tag))
        if event.schema_version != 1:
            optional += b',"v":%d' % event.schema_version
        if event.id is not None:
            optional += b',"id":' + _encode(event.id)
        if event.by:
            check_value(event.by, kind.tag, "$.by", 1)
            tail += b',"by":' + _encode(event.by)
        if event.origin is not None:
            tail += b',"origin":' + _encode(packed_origin.pack(event.origin, tail))
    except UnicodeEncodeError:
        raise EventNotEncodable(kind.tag, "$.id, $.by or $.origin", "holds a lone surrogate") from None
    except TypeError:
        check_value(event.id, kind.tag, "$.id", 1)  # of a subclass of str
        raise
    if kind.salted or event.by or event.origin is not None:
        tail = (tail + _salts.draw()).ljust(_STUB_ROOM)
    if len(optional) + len(tail) > max_bytes - _ROOM:
        raise EventTooLarge(kind.tag, len(optional) + len(tail) + _ROOM, max_bytes)
    return Piece(kind.head, optional, tail)


def _normal_time(text: str, event_type: str) -> str:
    try:
        return _utc_text(text)
    except (ValueError, TypeError):
        raise EventNotEncodable(event_type, "$.occurred_at", "is not an RFC 3339 time") from None


@lru_cache(256)  # the events of an imported line have the same
def _utc_text(text: str) -> str:
    return clock.to_text(clock.to_datetime(text))


_ENVELOPE = Event.__struct_fields__
_OWN = len(_ENVELOPE)
_NO_ENVELOPE: dict[str, Any] = dict(zip(_ENVELOPE, Event.__struct_defaults__, strict=True))
_BLANK = tuple(_NO_ENVELOPE.values())


def _kind_of(tag: str, kind: type[Event]) -> _Kind:
    if issubclass(kind, CustomEvent):
        start = b'{"type":"%b"' % tag.encode("ascii")
        return _Kind(tag, start + b',"seq":', len(start), True, (), set(), frozenset(), kind.schema_version != 1)
    hints = get_type_hints(kind)
    own = [hints[name] for name in kind.__struct_fields__[_OWN:]]
    choices = frozenset(get_args(own[0])) if own and get_origin(own[0]) is Literal else frozenset[Any]()
    if choices:
        own[0] = str
    allowed = tuple(map(plain_types, own)) if kind.schema_version == 1 else ()
    plain = set[tuple[type, ...]]([()])
    start = b'{"type":"%b"' % tag.encode("ascii")
    is_salted = tag not in _NO_TEXT
    return _Kind(tag, start + b',"seq":', len(start), is_salted, allowed, plain, choices, kind.schema_version != 1)


class _Kinds(dict[type[Event], _Kind | None]):
    """What encoding needs of each type, computed when the type is first written: programs that only read do not need it."""

    def __missing__(self, kind: type[Event]) -> _Kind | None:
        tag = str(kind.__struct_config__.tag)
        is_known = EVENT_TYPES.get(tag) is kind or custom_events.find(tag) is kind
        found = self[kind] = _kind_of(tag, kind) if is_known else None
        return found


_KINDS = _Kinds()


def seal(piece: Piece, seq: int, at: bytes, batch: tuple[int, int] | None, previous: bytes) -> tuple[bytes, bytes]:
    """Add the position to a piece. Returns the line with its LF, and the chain's digest after it."""
    if _chain is not None:
        return _chain.seal(piece.head, seq, at, piece.optional, batch, piece.tail, previous)
    numbers = b',"batch":[%d,%d]' % batch if batch else b""
    body = b'%b%d,"at":"%b"%b%b%b' % (piece.head, seq, at, piece.optional, numbers, piece.tail)
    digest = sha256(b"\x01" + previous + sha256(b"\x00" + body).digest()).digest()
    return b'%b,"hash":"%b"}\n' % (body, hexlify(digest)), digest


# --- decoding


def head(line: bytes) -> Head | None:
    """Read a line's position in its log; None if it is not a record."""
    try:
        line.decode()
        return _head_decoder.decode(line)
    except (msgspec.DecodeError, UnicodeDecodeError, RecursionError, MemoryError):
        return None


def heads(whole: bytes) -> list[Head] | None:
    """Read the positions of several lines at once, the last of them without its LF; None if one of them is not a record."""
    try:
        whole.decode()
        return _head_decoder.decode_lines(whole)
    except (msgspec.DecodeError, UnicodeDecodeError, RecursionError, MemoryError):
        return None


class _Decoding:
    """The decoder of all known types, rebuilt when a program defines more."""

    def __init__(self) -> None:
        self._decoder: msgspec.json.Decoder[Any] = _decoder
        self._built_at = 0

    def current(self) -> msgspec.json.Decoder[Any]:
        """Return the decoder."""
        if self._built_at != custom_events.changes():
            changes = custom_events.changes()
            kinds = tuple(kind for kind in custom_events.registered().values() if _is_readable(kind))
            self._decoder, self._built_at = msgspec.json.Decoder(Union[(AnyEvent, *kinds)]), changes
        return self._decoder


def _is_readable(kind: type[CustomEvent]) -> bool:
    """Return whether the annotations of a type can be resolved. A type that fails must not prevent reading the others."""
    try:
        msgspec.json.Decoder(kind)
    except (NameError, TypeError, AttributeError, SyntaxError):
        return False
    return True


_decoding = _Decoding()


def decode(line: bytes) -> ReadEvent:
    """Decode one verified line. Unknown types and newer schema versions become UnknownEvent, redacted lines RedactedEvent."""
    if tombstone.MARK in line:
        stub = tombstone.read_tombstone(line.rstrip(b"\n"))
        if stub is not None:
            return _decode_stub(line, stub)
    try:
        event: AnyEvent | CustomEvent = _decoding.current().decode(line)
    except (msgspec.DecodeError, RecursionError):
        return _decode_slowly(line)
    if event.v != event.schema_version:
        return _decode_slowly(line)
    if packed_origin.MARK in line:
        event = _unpacked(event, line)
    return upcast.upcast(event) if upcast.MARK in line else event


def _unpacked(event: E, line: bytes) -> E:
    """Return an event with the imported line that its record holds compressed."""
    return event if event.origin is None else replace(event, origin=packed_origin.unpack(event.origin, line))


def read_redaction(line: bytes) -> EventRedacted | None:
    """Decode a line that records a redaction; None for any other."""
    if not line.startswith(REDACTION):
        return None
    try:
        event = _decoder.decode(line)
    except (msgspec.DecodeError, RecursionError):
        return None
    return event if isinstance(event, EventRedacted) else None


def read_redactions(lines: Iterable[bytes]) -> Iterator[EventRedacted]:
    """Stream the redactions that lines record."""
    return (found for found in map(read_redaction, lines) if found is not None)


REDACTION = b'{"type":"event.redacted",'
"""How every line begins that records a redaction."""
INVOCATION = b'{"type":"invocation.'
"""How every line about a tool call begins."""


def read_invocation(line: bytes) -> InvocationEvent | None:
    """Decode a verified line about the start or the outcome of a tool call; None for any other, and for a redacted one."""
    event = decode(line) if line.startswith(INVOCATION) else None
    return event if isinstance(event, InvocationEvent) else None


def read_valued(line: bytes) -> InvocationEvent | RecordPut | MessageAdded | None:
    """Decode a verified line that may name values stored with the log; None for any other, and for a redacted one.

    A message is returned without the call that it belongs to: its files are its own.
    """
    is_valued = line.startswith(_VALUED) or (line.startswith(_MESSAGE) and _VALUE in line)
    event = decode(line) if is_valued else None
    if isinstance(event, MessageAdded):
        return replace(event, invocation_id=None)
    return event if isinstance(event, InvocationEvent | RecordPut) else None


_VALUED = INVOCATION, b'{"type":"record.put"'
_MESSAGE, _VALUE = b'{"type":"message.added"', b'_sha256":"'


def decode_lines(chunk: bytes, *, packed: bool = False) -> Iterable[ReadEvent]:
    """Decode a chunk of complete, verified lines, in order; one call for the usual chunk of known events.

    With `packed` imported lines stay compressed, for callers that do not read them, such as folds: that is most of the cost.
    """
    if UPCASTERS or tombstone.MARK in chunk or (packed_origin.MARK in chunk and not packed):
        return [decode(line) for line in lines(chunk)]
    try:
        events: list[ReadEvent] = _decoding.current().decode_lines(chunk)
    except (msgspec.DecodeError, RecursionError):
        return [decode(line) for line in lines(chunk)]
    if upcast.MARK not in chunk or not any(map(upcast.is_old, events)):
        return events
    return [decode(line) for line in lines(chunk)]


def lines(chunk: bytes) -> Iterator[bytes]:
    """Split a chunk of complete lines at LF only, each line without it."""
    found = chunk.split(b"\n")
    found.pop()
    return iter(found)


def to_json(event: Event) -> bytes:
    """Show an event as one JSON object: the unchanged line if the event is unknown, else the decoded fields."""
    return event.raw if isinstance(event, UnknownEvent) else _encode(event)


# --- upcasting

Upcaster = Callable[[dict[str, Any]], dict[str, Any]]
UPCASTERS: dict[tuple[str, int], Upcaster] = {}
"""Old schema versions to the next: `(type, v)` to a pure function on the raw object. Empty: every type is at 1."""


def check_upcasters(upcasters: dict[tuple[str, int], Upcaster], types: dict[str, type[Event]]) -> None:
    """Raise TypeError unless every type has upcasters from version 1 to its own version, without a gap."""
    for tag, kind in types.items():
        missing = [v for v in range(1, kind.schema_version) if (tag, v) not in upcasters]
        if missing:
            raise TypeError(f"{tag} has no upcaster from version {missing[0]}")
    stray = [f"{tag} {v}" for tag, v in upcasters if tag not in types or v >= types[tag].schema_version]
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


def _decode_slowly(line: bytes) -> ReadEvent:
    head = _head_decoder.decode(line)
    try:
        raw = _raw_decoder.decode(line)
    except (msgspec.DecodeError, RecursionError):
        return _unknown(line, head)  # for example, it has a number that no field of this package can hold
    v = raw.pop("v", 1)
    if not isinstance(v, int) or v < 1:
        return _unknown(line, head)
    custom = custom_events.find(head.type)
    if custom is not None:
        return _decode_custom(custom, raw, v, line) or _unknown(line, head, v, _text(raw, "occurred_at"))
    kind = EVENT_TYPES.get(head.type)
    if kind is not None and v <= kind.schema_version:
        for step in range(v, kind.schema_version):
            raw = UPCASTERS[head.type, step](raw)
        with suppress(msgspec.ValidationError):
            event: AnyEvent = msgspec.convert(raw, AnyEvent)
            return _unpacked(replace(event, v=kind.schema_version), line)
    return _unknown(line, head, v, _text(raw, "occurred_at"))


def _text(raw: dict[str, Any], name: str) -> str | None:
    value = raw.get(name)
    return value if isinstance(value, str) else None


def _decode_custom(kind: type[CustomEvent], raw: dict[str, Any], v: int, line: bytes) -> CustomEvent | None:
    """Decode an event of a program's own type from its JSON object; None if its class does not fit."""
    if v > kind.schema_version:
        return None
    for step in range(v, kind.schema_version):
        try:
            raw = kind.upcast(raw, step)
        except Exception as error:  # an error in the program's code must not prevent reading the rest of the log
            warnings.warn(f"{kind.__name__}.upcast failed on version {step}: {error!r}", RuntimeWarning, stacklevel=2)
            return None
    try:
        event = msgspec.json.decode(_encode(raw), type=kind)
    except (msgspec.DecodeError, RecursionError, NameError, TypeError):
        return None
    return _unpacked(replace(event, v=kind.schema_version), line)


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
