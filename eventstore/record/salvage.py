"""Read around damage: find every remaining record, and how far each is proven."""

import re
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from typing import Literal

from eventstore.custom_events import ReadEvent
from eventstore.record import codec, hash_chain, tombstone

Standing = Literal["proven", "linked", "unproven", "damaged"]
_START = re.compile(rb'\{"type":"')
_END = re.compile(rb',"hash":"([0-9a-f]{64})"\}')
_MOST_INNER = 32
_MOST_CLAIMS = 4
_MOST_CANDIDATES = 32
"""How many digests of damaged lines the next record may build on, the latest first: without a limit the cost is quadratic."""


@dataclass(frozen=True, slots=True)
class Remnant:
    """Bytes of a log: a record, or the rest of one.

    - `proven`: a record on an unbroken chain from the first;
    - `linked`: a record after damage that fits on the bytes before it: neither the record nor its position was changed alone;
    - `unproven`: has the form of a record, but its hash does not fit: it was changed, or its neighbour is missing;
    - `damaged`: not a record.
    """

    line: int
    offset_bytes: int
    raw: bytes
    standing: Standing

    def event(self) -> ReadEvent | None:
        """Decode the record; None if it is not one."""
        return None if self.standing == "damaged" or codec.head(self.raw) is None else codec.decode(self.raw)


def salvage(first_digest: bytes, lines: Iterable[tuple[int, bytes]]) -> Iterator[Remnant]:
    """Judge lines, given with the first byte of each and without their LF, one after the other.

    `first_digest` is the chain's digest before the first of them. The cost is linear in the number of lines, damaged or not.

    Records that are joined to a fragment or to each other are found inside their line. Blank lines are damage too: no
    writer writes them.
    """
    candidates, unbroken = [first_digest], True
    for number, (offset, line) in enumerate(lines, 1):
        for start, raw, digests, fits in _judge(line, candidates):
            record = hash_chain.split(raw) is not None and codec.head(raw) is not None
            unbroken = unbroken and fits
            standing: Standing = ("proven" if unbroken else "linked") if fits else "unproven" if record else "damaged"
            candidates = digests
            yield Remnant(number, offset + start, raw, standing)


def _judge(line: bytes, candidates: list[bytes]) -> Iterator[tuple[int, bytes, list[bytes], bool]]:
    """Split a line into parts: the start of each, its bytes, the digests that the next may build on, whether it fits."""
    digest = _fit(line, candidates)
    if digest is not None:
        yield 0, line, [digest], True
        return
    done = 0
    for start, end in _inner(line):
        digest = _fit(line[start:end], candidates) if start >= done else None
        if digest is None:
            continue
        if start > done:
            yield done, line[done:start], candidates, False
        candidates, done = [digest], end
        yield start, line[start:end], candidates, True
    if done < len(line) or not line:
        yield from _rest(line, done, candidates)


def _rest(line: bytes, done: int, candidates: list[bytes]) -> Iterator[tuple[int, bytes, list[bytes], bool]]:
    """Split bytes that do not fit into a fragment and the record that follows it in the same line, if there is one."""
    for found, _ in zip(_START.finditer(line, done + 1), range(_MOST_INNER), strict=False):
        record = line[found.start() :]
        if (
            hash_chain.split(line[done:]) is not None
            and codec.head(line[done:]) is None
            and codec.head(record) is not None
        ):
            yield done, line[done : found.start()], candidates, False
            done = found.start()
    rest = line[done:]
    *claimed, intact = _claims(rest, candidates) + candidates
    yield done, rest, [*claimed[:_MOST_CANDIDATES], intact], False


def _fit(raw: bytes, candidates: list[bytes]) -> bytes | None:
    """Return the digest after a record that builds on one of the candidates."""
    parts, leaf = hash_chain.split(raw), tombstone.leaf_of(raw)
    if parts is None or leaf is None:
        return None
    return parts[1] if any(hash_chain.next_hash(one, leaf) == parts[1] for one in candidates) else None


def _inner(line: bytes) -> Iterator[tuple[int, int]]:
    """Find the first place where a record may begin and the first where it may end inside a line: this limits the search."""
    starts = [found.start() for found, _ in zip(_START.finditer(line), range(_MOST_INNER), strict=False)]
    ends = [found.end() for found, _ in zip(_END.finditer(line), range(_MOST_INNER), strict=False)]
    return ((start, end) for start in starts for end in ends if end > start)


def _claims(raw: bytes, candidates: list[bytes]) -> list[bytes]:
    """List the possible digests after a line that does not fit: the one in the line, and the one computed from its body."""
    parts = hash_chain.split(raw)
    claimed = [] if parts is None else [parts[1]]
    body = raw[: -hash_chain.HASH_AT] if len(raw) > hash_chain.HASH_AT else raw
    return claimed + [hash_chain.next_hash(one, hash_chain.leaf_hash(body)) for one in candidates[:_MOST_CLAIMS]]
