"""Read a log along its chain of hashes: lines, each with its leaf and digest.

Verification, signing, proofs and reports use it. `exporters/verify.py` has an independent copy, on purpose.
"""

from collections.abc import Iterable, Iterator
from typing import NamedTuple

from eventstore.errors import LogDamaged
from eventstore.record import hash_chain, tombstone

MAX_LINE_BYTES = 64 * 1024 * 1024
"""Reading stops at a longer line."""


class Link(NamedTuple):
    """A line (without its LF) that fits the chain: its number from 1, its first byte, its leaf and the digest after it."""

    line: bytes
    seq: int
    offset_bytes: int
    leaf: bytes
    digest: bytes


class Chain:
    """A place in a log: `seq` lines and `offset_bytes` bytes were read, `digest` is that of the last valid line.

    `before` is the digest before that line. After an invalid line, lines are only counted.
    """

    def __init__(self, root: str) -> None:
        self.digest = self.before = hash_chain.first_hash(root)
        self.seq = self.offset_bytes = 0

    def take(self, line: bytes, *, is_ended: bool = True) -> Link | None:
        """Advance past a line. Returns None and keeps the digest if the line has no LF or a wrong hash."""
        self.seq += 1
        start, self.offset_bytes = self.offset_bytes, self.offset_bytes + len(line) + is_ended
        leaf, parts = tombstone.leaf_of(line), hash_chain.split(line) if is_ended else None
        if leaf is None or parts is None or hash_chain.next_hash(self.digest, leaf) != parts[1]:
            return None
        self.before, self.digest = self.digest, parts[1]
        return Link(line, self.seq, start, leaf, self.digest)


def read_chain(session_id: str, root: str, chunks: Iterable[bytes]) -> Iterator[Link]:
    """Stream the lines of a log whose chain begins at `root`. Raises LogDamaged at the first invalid line."""
    chain = Chain(root)
    for line, is_ended in split_lines(chunks):
        start, link = chain.offset_bytes, chain.take(line, is_ended=is_ended)
        if link is None:
            seen = chain.seq - 1
            raise LogDamaged(session_id, "its log", seen + 1, start, "the line has a hash that does not fit", seen)
        yield link


def leaf_behind(line: bytes) -> bytes:
    """Return the leaf of an unverified line after a fault."""
    return tombstone.leaf_of(line) or hash_chain.leaf_hash(line[: -hash_chain.HASH_AT])


def split_lines(chunks: Iterable[bytes]) -> Iterator[tuple[bytes, bool]]:
    """Split at LF only; yield each line without it, and whether it had one. Stops at a line over the limit."""
    rest: list[bytes] = []
    size = 0
    for chunk in chunks:
        first, lf, more = chunk.partition(b"\n")
        rest.append(first)
        size += len(first)
        if not lf:
            if size > MAX_LINE_BYTES:
                break
            continue
        yield b"".join(rest), True
        *complete, last = more.split(b"\n")
        for line in complete:
            yield line, True
        rest, size = [last], len(last)
    if size:
        yield b"".join(rest), False
