"""Tombstones of redacted lines. A tombstone keeps type, number, time, leaf hash and hash, and the length of the line."""

import re
from base64 import urlsafe_b64decode, urlsafe_b64encode
from binascii import hexlify
from collections.abc import Mapping
from typing import NamedTuple

from eventstore.events import EventRedacted
from eventstore.record import hash_chain

MARK = b'","redacted":"'
_STUB = re.compile(
    rb'\{"type":"([^"]*)","seq":([0-9]+),"at":"([^"]*)","redacted":"([A-Za-z0-9_-]{43})" *,"hash":"([0-9a-f]{64})"\}'
)
REDACTED = "event.redacted"


class Tombstone(NamedTuple):
    """The rest of a redacted line."""

    type: str
    seq: int
    at: str
    leaf: bytes
    digest: bytes

    def is_as_told(self, told: EventRedacted) -> bool:
        """Return whether type and time are those in the record of this leaf's redaction."""
        return told.leaf != self.leaf.hex() or (
            told.target_type in (None, self.type) and told.target_at in (None, self.at)
        )


def make_tombstone(line: bytes) -> bytes | None:
    """Return the tombstone for a line, without its LF: the same length, with the leaf hash of the old content.

    None if the line is too short for it: then it has no text.
    """
    parts, start = hash_chain.split(line), hash_chain.LINE_START.match(line)
    if parts is None or start is None:
        return None
    return build_tombstone(start[0], hash_chain.leaf_hash(parts[0]), parts[1], len(line))


def build_tombstone(start: bytes, leaf: bytes, digest: bytes, size: int) -> bytes | None:
    """Build a stub of `size` bytes from the start of the line (type, seq, at), its leaf hash and its digest."""
    front = b'%b,"redacted":"%b"' % (start, urlsafe_b64encode(leaf)[:43])
    end = b',"hash":"%b"}' % hexlify(digest)
    room = size - len(front) - len(end)
    return None if room < 0 else front + b" " * room + end


def shorten(chunk: bytes, leaves: Mapping[int, bytes], seq: int) -> tuple[bytes, int]:
    """Return complete lines after event `seq`, redacted ones as short as possible, and the number of the last line.

    Lines whose number and leaf hash are in `leaves` become tombstones.
    """
    lines = chunk.split(b"\n")
    for place, line in enumerate(lines[:-1]):
        leaf = leaves.get(seq + 1 + place)
        if leaf is not None and leaf_of(line) == leaf:
            line = make_tombstone(line) or line
        if read_tombstone(line) is not None:
            line = line[: -hash_chain.HASH_AT].rstrip(b" ") + line[-hash_chain.HASH_AT :]
        lines[place] = line
    return b"\n".join(lines), seq + len(lines) - 1


def read_tombstone(line: bytes) -> Tombstone | None:
    """Read a tombstone (without its LF); None for any other line."""
    found = _STUB.fullmatch(line) if MARK in line else None
    if found is None:
        return None
    kind, seq, at, told, digest = found.groups()
    leaf = urlsafe_b64decode(told + b"=")
    if urlsafe_b64encode(leaf)[:43] != told:
        return None  # the same bytes in another encoding: not written by this package
    return Tombstone(
        kind.decode("utf-8", "replace"),
        int(seq),
        at.decode("utf-8", "replace"),
        leaf,
        bytes.fromhex(digest.decode("ascii")),
    )


def leaf_of(line: bytes) -> bytes | None:
    """The leaf hash of a line without its LF; for a tombstone, that of the old content; None if it does not end like a record."""
    stub = read_tombstone(line)
    if stub is not None:
        return stub.leaf
    parts = hash_chain.split(line)
    return None if parts is None else hash_chain.leaf_hash(parts[0])


def digest_after(line: bytes, previous: bytes) -> bytes | None:
    """Return the chain's digest after a line without its LF, also a redacted one; None if it does not fit on `previous`."""
    leaf, parts = leaf_of(line), hash_chain.split(line)
    return parts[1] if leaf and parts and hash_chain.next_hash(previous, leaf) == parts[1] else None
