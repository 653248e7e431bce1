"""Events to lines and back: the only file that knows bytes and JSON.

A line is `{"type":...,"seq":...,"at":...,<optional head>,<own fields>,<by, origin, salt>,"hash":"<64 hex>"}` and LF. Its body
is what stands before `,"hash":"`. `leaf = SHA-256(0x00 || body)` as in RFC 6962, `hash = SHA-256(0x01 || previous || leaf)`.
"""

import os
import re
import time
from base64 import urlsafe_b64decode, urlsafe_b64encode
from binascii import hexlify
from collections.abc import Callable, Iterable, Iterator
from contextlib import suppress
from datetime import UTC, datetime
from functools import cache
from hashlib import sha256
from itertools import product
from math import isfinite
from typing import Any, Literal, NamedTuple, get_args, get_origin, get_type_hints

import msgspec
from msgspec.structs import astuple, replace

from eventstore.errors import EventNotEncodable, EventTooLarge
from eventstore.events import EVENT_TYPES, AnyEvent, Event, EventRedacted, RedactedEvent, Role, UnknownEvent

MAX_EVENT_BYTES = 16 * 1024 * 1024
"""The default limit of one encoded line."""
MAX_DEPTH = 200
"""How deep JSON may nest: deeper lines could be unreadable from a deep call stack."""
_ROOM = 256
"""Bytes of a line besides what is prepared before its place is known, at most."""
_STUB_ROOM = 57
"""Bytes that a stub needs between `at` and `hash`: a line with less text than that is filled up with spaces."""
HASH_AT = 9 + 64 + 2
"""Bytes from `,"hash":"` to the closing brace, both included: the body ends this far before the LF."""

_NO_TEXT = frozenset(
    ["session.reopened", "conversation.cleared", "conversation.rewound", "data.cleared", "usage.recorded"]
)
_encoder = msgspec.json.Encoder()
_encode = _encoder.encode
_decoder: msgspec.json.Decoder[AnyEvent] = msgspec.json.Decoder(AnyEvent)
_raw_decoder: msgspec.json.Decoder[dict[str, Any]] = msgspec.json.Decoder(dict[str, Any])
_LINE_END = re.compile(rb',"hash":"([0-9a-f]{64})"\}')


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
_LINE_START = re.compile(rb'\{"type":"[^"]*","seq":([0-9]+),"at":"([^"]*)"')


class Message(msgspec.Struct, frozen=True, gc=False):
    """What a conversation holds of one message: the fields of `message.added` that say when, who and what."""

    seq: int
    at: str
    role: Role
    content: str
    occurred_at: str | None = None
    tool_name: str | None = None
    invocation_id: str | None = None

    @property
    def time(self) -> str:
        """When it was said, RFC 3339."""
        return self.occurred_at or self.at


class Messages(msgspec.Struct, frozen=True, gc=False):
    """Messages in a row, numbered `first` to `last`, recorded from `since` to `until` and said when they were recorded.

    `lines` are theirs, to be read by those who want to know what was said.
    """

    first: int
    last: int
    since: str
    until: str
    lines: bytes

    def read(self) -> list[Message]:
        """Decode the messages."""
        return _message_decoder.decode_lines(self.lines)


_message_decoder = msgspec.json.Decoder(Message)
_PLAIN_MESSAGE = (
    rb'\{"type":"message\.added","seq":[0-9]+,"at":".{27}","(?:b|ro)'  # next is `batch`, or `role`: no other head
)
_MESSAGE, _NO_MESSAGE = re.compile(_PLAIN_MESSAGE), re.compile(rb"\n(?!%b)" % _PLAIN_MESSAGE)
_WORTH_SKIMMING = 4096  # bytes of messages in a row: fewer are decoded faster than told apart


# --- time


_second = 0, ""
"""The microsecond at which the clock's last second began, and the text of that second."""


def now() -> str:
    """Tell the time as records hold it: RFC 3339, UTC, microseconds, `Z`."""
    global _second  # writing the whole time anew costs six times as much
    reading = time.time_ns() // 1000
    began, text = _second
    rest = reading - began
    if not 0 <= rest < 1_000_000:
        rest = reading % 1_000_000
        try:
            text = datetime.fromtimestamp(reading // 1_000_000, UTC).strftime("%Y-%m-%dT%H:%M:%S.")
        except (ValueError, OverflowError, OSError):
            raise ValueError("the clock of this machine is after the year 9999; nothing was written: set it") from None
        _second = reading - rest, text
    return f"{text}{rest:06d}Z"


def to_utc(moment: datetime) -> datetime:
    """Return a moment in UTC. A time without a zone is taken as local. Raises ValueError outside of the years 1 to 9999."""
    try:
        return moment.astimezone(UTC)
    except (OverflowError, OSError):  # what the C library cannot hold is an OSError
        raise ValueError("a time is outside of the years 1 to 9999 in UTC") from None


def to_text(moment: datetime) -> str:
    """Write a moment as records hold it. A time without a zone is taken as local. Raises ValueError as `to_utc` does."""
    return to_utc(moment).isoformat(timespec="microseconds")[:26] + "Z"  # strftime writes the year 1 as "1"


def to_iso(text: str) -> str:
    """Write a time of a record as Python's `isoformat` does, in UTC with microseconds. Raises ValueError."""
    if len(text) == 27 and text[26] == "Z":
        return text[:26] + "+00:00"
    return to_datetime(text).isoformat(timespec="microseconds")


def to_datetime(text: str) -> datetime:
    """Read an RFC 3339 time. One without a zone is taken as local. Raises ValueError, also for what is not text."""
    try:
        moment = datetime.fromisoformat(text)
    except TypeError:
        raise ValueError(f"a time is a {type(text).__name__}, not text") from None
    return moment if moment.tzinfo is UTC else to_utc(moment)


def read_time(text: str, otherwise: str) -> datetime:
    """Read a time that stands in a record, or `otherwise` where it cannot be read: one bad line must not hide a session.

    Older releases wrote the years before 1000 with fewer than four digits.
    """
    for one in (text, text.zfill(27), otherwise):
        with suppress(ValueError):
            return to_datetime(one)
    return datetime.min.replace(tzinfo=UTC)


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
        _check(event, kind.tag)
    try:
        tail = _encode(event)[kind.start : -1]
    except UnicodeEncodeError:
        _check(event, kind.tag)
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
        raise EventNotEncodable(kind.tag, "$.id", f"is {_shown(event.id)}, not text")
    if not (event.by is None or isinstance(event.by, dict)):
        raise EventNotEncodable(kind.tag, "$.by", f"is {_shown(event.by)}, not an object")
    own = replace(event, **_NO_ENVELOPE)
    _check(own, kind.tag)
    optional, tail = b"", _encode(own)[kind.start : -1]
    try:
        if event.occurred_at is not None:
            optional += b',"occurred_at":' + _encode(_normal_time(event.occurred_at, kind.tag))
        if event.version != 1:
            optional += b',"v":%d' % event.version
        if event.id is not None:
            optional += b',"id":' + _encode(event.id)
        if event.by:
            _check_value(event.by, kind.tag, "$.by", 1)
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
        return to_text(to_datetime(text))
    except ValueError:
        raise EventNotEncodable(event_type, "$.occurred_at", "is not an RFC 3339 time") from None


def _check(own: Event, event_type: str) -> None:
    for name, wanted in _tests_of(type(own)):
        value = getattr(own, name)
        if value is msgspec.UNSET:
            continue
        if not wanted.holds(value):
            raise EventNotEncodable(event_type, f"$.{name}", f"is {_shown(value)}, not {wanted.what}")
        if value is not None:
            _check_value(value, event_type, f"$.{name}", 1)


def _shown(value: object) -> str:
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
    return tuple((name, _wanted(hints[name])) for name in kind.__struct_fields__[10:])


def _check_value(value: object, event_type: str, path: str, depth: int) -> None:
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
            _check_value(key, event_type, f"{path}{{key}}", depth)
            _check_value(item, event_type, f"{path}.{ascii(key)[1:-1]}", depth + 1)
    elif isinstance(value, list | tuple):
        for index, item in enumerate(value):
            _check_value(item, event_type, f"{path}[{index}]", depth + 1)
    elif isinstance(value, str | int | float):
        _check_value(kind.__mro__[-2](value), event_type, path, depth)  # a subclass, such as a str Enum
    else:
        raise EventNotEncodable(event_type, path, f"is a {kind.__name__}, which has no JSON")


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


class ForkPoint(NamedTuple):
    """Where a log goes on from another: after event `seq` of the log `parent`, whose digest there is `digest`.

    `root` is the log whose chain it is, the first of the line; `into` is the log that goes on.
    """

    parent: str
    seq: int
    digest: bytes
    root: str
    into: str

    def to_dict(self) -> dict[str, Any]:
        """Give the fields as `session.created` holds them."""
        return {
            "session_id": self.parent,
            "seq": self.seq,
            "hash": self.digest.hex(),
            "root": self.root,
            "into": self.into,
        }


class _Forking(msgspec.Struct, frozen=True):
    """The part of `session.created` that tells of a fork."""

    session_id: str
    seq: int
    hash: str
    root: str
    into: str


class _ForkLine(msgspec.Struct, frozen=True):
    type: Literal["session.created"]
    seq: int
    forked_from: _Forking


_fork_decoder = msgspec.json.Decoder(_ForkLine)


def fork_point(line: bytes) -> ForkPoint | None:
    """Read where a log goes on from another of the line that says so; None for any other line."""
    try:
        found = _fork_decoder.decode(line)
        told = found.forked_from
        digest = bytes.fromhex(told.hash)
    except (msgspec.DecodeError, ValueError, RecursionError):
        return None
    if len(digest) != 32 or found.seq != told.seq + 1:
        return None
    return ForkPoint(told.session_id, told.seq, digest, told.root, told.into)


def first_hash(session_id: str) -> bytes:
    """The chain's digest before any event of the session, 32 bytes."""
    return sha256(b"eventstore/1\n" + session_id.encode("ascii")).digest()


def leaf_hash(body: bytes) -> bytes:
    """The RFC 6962 leaf hash of a line's body, 32 bytes."""
    return sha256(b"\x00" + body).digest()


def next_hash(previous: bytes, leaf: bytes) -> bytes:
    """The chain's digest after an event, 32 bytes."""
    return sha256(b"\x01" + previous + leaf).digest()


def seal(piece: Piece, seq: int, at: bytes, batch: tuple[int, int] | None, previous: bytes) -> tuple[bytes, bytes]:
    """Give a piece its place. Returns the line with its LF, and the chain's digest after it."""
    numbers = b',"batch":[%d,%d]' % batch if batch else b""
    body = b'%b%d,"at":"%b"%b%b%b' % (piece.head, seq, at, piece.optional, numbers, piece.tail)
    digest = sha256(b"\x01" + previous + sha256(b"\x00" + body).digest()).digest()
    return b'%b,"hash":"%b"}\n' % (body, hexlify(digest)), digest


# --- redaction: what a line says of itself is overwritten, and its place, its leaf and its hash stay

_STUB_MARK = b'","redacted":"'
_STUB = re.compile(
    rb'\{"type":"([^"]*)","seq":([0-9]+),"at":"([^"]*)","redacted":"([A-Za-z0-9_-]{43})" *,"hash":"([0-9a-f]{64})"\}'
)
REDACTED = "event.redacted"


class Stub(NamedTuple):
    """What is left of a redacted line."""

    type: str
    seq: int
    at: str
    leaf: bytes
    digest: bytes

    def is_as_told(self, told: EventRedacted) -> bool:
        """Tell whether type and time are what is told of the redaction of this leaf."""
        return told.leaf != self.leaf.hex() or (
            told.target_type in (None, self.type) and told.target_at in (None, self.at)
        )


def make_stub(line: bytes) -> bytes | None:
    """Give what overwrites a line, without its LF: as long as it is, with the leaf hash of what it was.

    None where the line is too short to hold that: it has no text then.
    """
    parts, start = split(line), _LINE_START.match(line)
    if parts is None or start is None:
        return None
    return stub_of(start[0], leaf_hash(parts[0]), parts[1], len(line))


def stub_of(start: bytes, leaf: bytes, digest: bytes, size: int) -> bytes | None:
    """Put a stub of `size` bytes together from how the line starts (type, seq, at), its leaf hash and its digest."""
    front = b'%b,"redacted":"%b"' % (start, urlsafe_b64encode(leaf)[:43])
    end = b',"hash":"%b"}' % hexlify(digest)
    room = size - len(front) - len(end)
    return None if room < 0 else front + b" " * room + end


def line_start(line: bytes) -> bytes | None:
    """Give the beginning of a line that a stub keeps: type, seq and at."""
    found = _LINE_START.match(line)
    return found[0] if found else None


def read_stub(line: bytes) -> Stub | None:
    """Read what is left of a redacted line (without its LF); None for any other line."""
    found = _STUB.fullmatch(line) if _STUB_MARK in line else None
    if found is None:
        return None
    kind, seq, at, told, digest = found.groups()
    leaf = urlsafe_b64decode(told + b"=")
    if urlsafe_b64encode(leaf)[:43] != told:
        return None  # the same bytes in another spelling: not what we wrote
    return Stub(
        kind.decode("utf-8", "replace"),
        int(seq),
        at.decode("utf-8", "replace"),
        leaf,
        bytes.fromhex(digest.decode("ascii")),
    )


def leaf_of(line: bytes) -> bytes | None:
    """The leaf hash of a line without its LF, of a redacted one that of what it was; None where it does not end as a record."""
    stub = read_stub(line)
    if stub is not None:
        return stub.leaf
    parts = split(line)
    return None if parts is None else leaf_hash(parts[0])


# --- decoding


def split(line: bytes) -> tuple[bytes, bytes] | None:
    """Split a line (with or without its LF) into body and digest; None where it does not end as a record does."""
    end = len(line) - line.endswith(b"\n")
    found = _LINE_END.fullmatch(line, max(end - HASH_AT, 0), end)
    return (line[: found.start()], bytes.fromhex(found[1].decode("ascii"))) if found else None


def verify(line: bytes, previous: bytes) -> bytes | None:
    """Return the chain's digest after a line without its LF, or None where the line's hash does not fit on `previous`."""
    digest = sha256(b"\x01" + previous + sha256(b"\x00" + line[:-HASH_AT]).digest()).digest()
    return digest if line[-HASH_AT:] == b',"hash":"%b"}' % hexlify(digest) else None


def digest_after(line: bytes, previous: bytes) -> bytes | None:
    """Return the chain's digest after a line without its LF, a redacted one too; None where it does not fit on `previous`."""
    leaf, parts = leaf_of(line), split(line)
    return parts[1] if leaf and parts and next_hash(previous, leaf) == parts[1] else None


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
    if _STUB_MARK in line:
        stub = read_stub(line.rstrip(b"\n"))
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
    if _STUB_MARK in chunk:
        return [decode(line) for line in lines(chunk)]
    try:
        events = _decoder.decode_lines(chunk)
    except (msgspec.DecodeError, RecursionError):
        return [decode(line) for line in lines(chunk)]
    if UPCASTERS:
        return [decode(line) for line in lines(chunk)]
    return events


def skim(chunk: bytes) -> Iterable[AnyEvent | UnknownEvent | Messages]:
    """Decode a chunk of whole verified lines, in order, but leave long rows of messages undecoded."""
    end = len(chunk)
    found: list[AnyEvent | UnknownEvent | Messages] = []
    done, row = 0, 0 if _MESSAGE.match(chunk) else chunk.find(b"\n") + 1
    for other in (*(line.start() + 1 for line in _NO_MESSAGE.finditer(chunk, 0, end - 1)), end):
        if other - row >= _WORTH_SKIMMING:
            found += decode_lines(chunk[done:row])
            found.append(_in_a_row(chunk[row:other]))
            done = other
        row = chunk.find(b"\n", other) + 1
    found += decode_lines(chunk[done:])
    return found


def _in_a_row(chunk: bytes) -> Messages:
    began, ended = _LINE_START.match(chunk), _LINE_START.match(chunk, chunk.rfind(b"\n", 0, -1) + 1)
    assert began is not None and ended is not None  # noqa: S101, PT018 - both were matched as messages before
    return Messages(int(began[1]), int(ended[1]), began[2].decode("ascii"), ended[2].decode("ascii"), chunk)


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


def _decode_stub(line: bytes, stub: Stub) -> RedactedEvent:
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
    parts = split(line)
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
