"""The head of a log: one object with the end of the log, the list of its segments, and the lines after them.

An object at the key of a head is one of these. Its size shows which one, so that listing keys is enough:
- a head: one line of JSON, padded with spaces to a size divisible by 4, then the lines of the tail;
- a reserved head: the same, with a size of 1 modulo 4. It becomes valid when the tombstone of the old name records the move;
- a tombstone: less than `LEAST_HEAD` bytes. It stays for ever, so that a name is never free for a stale writer.
"""

import os
from dataclasses import dataclass, replace
from typing import NamedTuple

import msgspec

from eventstore.record import hash_chain
from eventstore.record.scan import Tip

LEAST_HEAD = 512
_FORMAT = 1


class Segment(NamedTuple):
    """Lines in a sealed object of their own: up to number `last`, their size in bytes, and the object's name."""

    last: int
    size: int
    name: str


class _Header(msgspec.Struct, omit_defaults=True):
    eventstore: int
    life: str
    edits: int
    first: int
    seq: int
    hash: str
    at: str
    size: int
    write: str  # random: no two writes are the same bytes, so that an entity tag names one write
    segments: list[Segment] = msgspec.field(default_factory=list)
    reserved: str = ""


class _Tomb(msgspec.Struct, omit_defaults=True):
    gone: str
    write: str
    to: str = ""


class Broken(Exception):
    """The object is not a head that this version can read."""


@dataclass(frozen=True)
class Tombstone:
    """A removed log: its life, and the name it was moved to; an empty life if nothing of it is left."""

    life: str = ""
    to: str = ""

    def render(self) -> bytes:
        """Return the object."""
        data = msgspec.json.encode(_Tomb(self.life, os.urandom(8).hex(), self.to)) if self.life else b""
        assert len(data) < LEAST_HEAD  # noqa: S101 - names have at most 150 characters
        return data


@dataclass(frozen=True)
class Head:
    """One state of a log. `edits` counts changes before the end; `base` names the incarnation."""

    base: str
    first: int
    seq: int
    digest: bytes
    at: str
    size: int
    segments: tuple[Segment, ...] = ()
    tail: bytes = b""
    edits: int = 0
    reserved: str = ""

    @property
    def life(self) -> str:
        """The life as the port defines it: a new one after each edit, so that readers start again."""
        return f"{self.base}.{self.edits}"

    def tip(self) -> Tip:
        """Return where the log ends."""
        return Tip(self.digest, self.size, self.seq, self.at, self.life)

    def ends_at(self, tip: Tip) -> bool:
        """Return whether the log ends at this tip, in this incarnation."""
        return (tip.life, tip.seq, tip.digest) == (self.life, self.seq, self.digest)

    @property
    def sealed_to(self) -> int:
        """The number of the last line that is in a segment."""
        return self.segments[-1].last if self.segments else self.first - 1

    def with_end(self, tip: Tip, tail: bytes, segments: tuple[Segment, ...]) -> "Head":
        """Return the head with another end and other lines."""
        size = sum(one.size for one in segments) + len(tail)
        return replace(
            self, seq=tip.seq, digest=tip.digest, at=tip.at, size=size, segments=segments, tail=tail, reserved=""
        )

    def render(self) -> bytes:
        """Return the object; no two calls return the same."""
        header = _Header(
            _FORMAT,
            self.base,
            self.edits,
            self.first,
            self.seq,
            self.digest.hex(),
            self.at,
            self.size,
            os.urandom(8).hex(),
            list(self.segments),
            self.reserved,
        )
        text = msgspec.json.encode(header)
        length = max(LEAST_HEAD, len(text) + 1) + len(self.tail)
        length += (bool(self.reserved) - length) % 4
        return text.ljust(length - len(self.tail) - 1) + b"\n" + self.tail


def new_base() -> str:
    """Return a name for a new incarnation."""
    return os.urandom(16).hex()


def parse(data: bytes) -> Head | Tombstone:
    """Read the object at the key of a head. Raises Broken."""
    if not data:
        return Tombstone()
    try:
        if len(data) < LEAST_HEAD:
            tomb = msgspec.json.decode(data, type=_Tomb)
            return Tombstone(tomb.gone, tomb.to)
        text, _, tail = data.partition(b"\n")
        header = msgspec.json.decode(text, type=_Header)
        digest = bytes.fromhex(header.hash)
    except (msgspec.DecodeError, ValueError) as error:
        raise Broken from error
    if header.eventstore != _FORMAT:
        raise Broken
    return Head(
        header.life,
        header.first,
        header.seq,
        digest,
        header.at,
        header.size,
        tuple(header.segments),
        tail,
        header.edits,
        header.reserved,
    )


def is_head(size: int) -> bool | None:
    """Return, from an object's size, whether it is a head; None if it is a reserved one."""
    if size < LEAST_HEAD:
        return False
    return None if size % 4 else True


def place_behind(data: bytes, first: int, tip: Tip) -> int | None:
    """Return the byte after the line of a tip, in lines that begin with number `first`; None if it is another line."""
    start = line_at(data, tip.seq - first)
    end = -1 if start is None else data.find(b"\n", start) + 1
    if start is None or end <= 0:
        return None
    parts = hash_chain.split(data[start:end])
    return end if parts is not None and parts[1] == tip.digest else None


def line_at(data: bytes, index: int) -> int | None:
    """Return the first byte of line `index`, from 0; the end if there are exactly so many lines; None if there are fewer."""
    start = 0
    for _ in range(index):
        start = data.find(b"\n", start) + 1
        if not start:
            return None
    return start if index >= 0 else None
