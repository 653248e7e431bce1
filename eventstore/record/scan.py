"""Verify a log's bytes: find where the committed prefix ends, and whether the rest is torn or damaged."""

from collections.abc import Iterable, Sequence
from contextlib import suppress
from dataclasses import dataclass, field
from typing import NamedTuple

import msgspec

from eventstore.record import codec, hash_chain, tombstone

UNTOLD = "is blanked, and no event records its redaction"
_HOLE = b"\0" * 512


class Fault(NamedTuple):
    """A line that does not fit: its number from 1, its first byte, why, and whether a crash explains it."""

    line: int
    offset_bytes: int
    reason: str
    torn: bool


class Tip(msgspec.Struct, gc=False):
    """The end of a committed prefix of a log.

    `digest` is the chain's digest (32 bytes) and `seq` the number of the last event: together they identify the
    position on any backend. `offset` is the byte in the log's own lines, `at` the time when that event was recorded.
    `life` is the backend's name for the incarnation of the log; empty if it is not known.
    """

    digest: bytes
    offset: int = 0
    seq: int = 0
    at: str = ""
    life: str = ""


@dataclass(slots=True)
class Scan:
    """A verified position in one log, moved forward by feeding it bytes.

    `here` is the end of the last complete batch, `ids` maps each idempotency key to the first and last seq of its
    append, `fault` is the first line that does not fit, `unended` is the end of a last record that lacks only its LF.
    `holed_batch` is the first seq of the batch that has a fault with a hole, or 0. `joins`: the next line may be in the
    middle of a batch, whose earlier lines are known to exist. `stubs` maps numbers of redacted lines to their leaf
    hashes and first bytes. `redactions` maps targets to leaf hashes, as later lines record them, and `told_at` is the
    number of the first such line. `denied` are stubs with another type or time than recorded; `told` are lines that
    record redactions in a batch that is not complete yet.
    """

    here: Tip
    max_line_bytes: int = codec.MAX_EVENT_BYTES
    ids: dict[str, tuple[int, int]] = field(default_factory=dict)
    fault: Fault | None = None
    unended: Tip | None = None
    holed_batch: int = 0
    joins: bool = False
    stubs: dict[int, tuple[tombstone.Tombstone, int]] = field(default_factory=dict)
    redactions: dict[int, bytes] = field(default_factory=dict)
    told_at: dict[int, int] = field(default_factory=dict)
    denied: set[int] = field(default_factory=set)
    told: list[bytes] = field(default_factory=list)

    def feed(self, chunks: Iterable[bytes]) -> None:
        """Read all bytes after `here`, in chunks of any size. The bytes after a fault are only searched for records."""
        self.fault, self.unended = None, None
        self.told.clear()
        pending: list[codec.Head] = []
        ahead = Tip(self.here.digest, self.here.offset, self.here.seq, self.here.at, self.here.life)
        parts: list[
            bytes
        ] = []  # parts of a line without an end yet: joined once, otherwise a long line has quadratic cost
        size = 0
        for chunk in chunks:
            whole, lf, rest = chunk.rpartition(b"\n")
            if lf:
                self._feed_lines(b"".join([*parts, whole]), ahead, pending)
                parts, size = [], 0
            parts.append(rest)
            size += len(rest)
            if size > self.max_line_bytes:
                self._fail(ahead, f"is longer than {self.max_line_bytes} bytes", torn=True)
                parts = [b"".join(parts)[-hash_chain.HASH_AT :]]
                size = hash_chain.HASH_AT
        rest = b"".join(parts)
        self._end(rest, ahead, pending)

    def _feed_lines(self, whole: bytes, ahead: Tip, pending: list[codec.Head]) -> None:
        """Read complete lines, the last of them without its LF."""
        lines = whole.split(b"\n")
        if self.joins and self.fault is None:
            self._take(lines.pop(0), ahead, pending)
            whole = whole.partition(b"\n")[2]
        for line in lines[self._take_records(whole, lines, ahead, pending) :]:
            self._take(line, ahead, pending)

    def _take_records(self, whole: bytes, lines: Sequence[bytes], ahead: Tip, pending: list[codec.Head]) -> int:
        """Read lines as long as they are the expected records; return how many. The usual case, at half the cost."""
        heads = codec.heads(whole) if self.fault is None and not self.joins else None
        if heads is None or len(heads) != len(lines):
            return 0
        seq, at, offset = ahead.seq, ahead.at, ahead.offset
        taken, ended = 0, (0, 0)
        fitting = hash_chain.count_fitting(whole, lines, ahead.digest)
        for line, head in zip(lines[:fitting], heads, strict=False):
            batch = head.batch
            if head.seq != seq + 1 or head.at < at:
                break
            if (batch is not None or pending) and not _continues(batch, pending):
                break
            if head.type == tombstone.REDACTED:
                self.told.append(line)
            seq, at = head.seq, head.at
            offset += len(line) + 1
            taken += 1
            if batch is not None or head.id is not None:
                pending.append(head)
            if batch is None or batch[0] + 1 == batch[1]:
                ended = taken, offset
                if pending:
                    self._know(pending)
                if self.told:
                    self._note_redactions()
        if taken:
            ahead.digest, ahead.offset, ahead.seq, ahead.at = hash_chain.read_hash(lines[taken - 1]), offset, seq, at
        if ended[0]:
            last = heads[ended[0] - 1]
            self.here = Tip(hash_chain.read_hash(lines[ended[0] - 1]), ended[1], last.seq, last.at, ahead.life)
        return taken

    def _take(self, line: bytes, ahead: Tip, pending: list[codec.Head]) -> None:
        if self.fault is not None:
            self._look_behind(line)
            return
        head, digest, reason = _judge(line, ahead, pending, self.joins)
        if head is None or digest is None:
            first = pending[0].seq if pending else ahead.seq + 1
            self.holed_batch = first if _HOLE in line else 0
            self._fail(ahead, reason, torn=not _has_shape(line))
            return
        stub = tombstone.read_tombstone(line)
        if stub is not None:
            self.stubs[head.seq] = stub, ahead.offset
        elif head.type == tombstone.REDACTED:
            self.told.append(line)
        _move(ahead, head, digest, len(line) + 1)
        self.joins = stub is not None  # the record of its batch was removed with it
        pending.append(head)
        if stub is not None or head.batch is None or head.batch[0] + 1 == head.batch[1]:
            self._commit(ahead, pending)

    def _commit(self, ahead: Tip, pending: list[codec.Head]) -> None:
        self._know(pending)
        self._note_redactions()
        self.here = Tip(ahead.digest, ahead.offset, ahead.seq, ahead.at, ahead.life)

    def note(self, lines: Iterable[bytes]) -> None:
        """Record the redactions in lines that were written after `here`."""
        self.told += lines
        self._note_redactions()

    def _note_redactions(self) -> None:
        """Record the redactions in lines, and the idempotency keys that were removed with the content."""
        for told in map(codec.read_redaction, self.told):
            if told is None or told.target >= told.seq or len(told.leaf) != 64:
                continue
            with suppress(ValueError):
                self.redactions[told.target] = bytes.fromhex(told.leaf)
                self.told_at.setdefault(told.target, told.seq)
                if told.target in self.stubs and not self.stubs[told.target][0].is_as_told(told):
                    self.denied.add(told.target)
            if told.target_id is not None:
                index, count = told.target_batch or (0, 1)
                first = told.target - index
                self.ids.setdefault(told.target_id, (first, first + count - 1))
        self.told.clear()

    def is_unrecorded(self) -> bool:
        """Return whether the fault is a tombstone that no event records."""
        return self.fault is not None and self.fault.reason == UNTOLD

    def judge_stubs(self) -> None:
        """Mark a tombstone without its event.redacted as a fault. Call after reading the complete log."""
        if self.fault is None:
            for seq, (stub, offset) in self.stubs.items():
                if self.redactions.get(seq) != stub.leaf or seq in self.denied:
                    self.fault = Fault(seq, offset, UNTOLD, torn=False)
                    return

    def _know(self, pending: list[codec.Head]) -> None:
        """Record the keys of a complete batch, from its lines; a redacted line has none."""
        for head in pending:
            if head.id is not None:
                index, count = head.batch or (0, 1)
                self.ids.setdefault(head.id, (head.seq - index, head.seq - index + count - 1))
        pending.clear()

    def _end(self, rest: bytes, ahead: Tip, pending: list[codec.Head]) -> None:
        if self.fault is not None:
            if rest:
                self._look_behind(rest)
            return
        if rest:
            head, digest, reason = _judge(rest, ahead, pending, self.joins)
            ends = head is not None and (head.batch is None or head.batch[0] + 1 == head.batch[1])
            if digest is not None and ends:
                assert head is not None  # noqa: S101 - it has a digest
                self.unended = Tip(digest, ahead.offset + len(rest) + 1, head.seq, head.at, ahead.life)
                return
            self._fail(ahead, reason or "is the middle of a batch", torn=True)
        elif pending:
            self._fail(ahead, "is missing: the last batch is not complete", torn=True)

    def _look_behind(self, line: bytes) -> None:
        """A record after a fault makes it damage, unless a power cut explains both: one batch, written at once, with a hole."""
        if self.fault is None or not _has_shape(line):
            return
        head = codec.head(line)
        batch = None if head is None else head.batch
        missing = self.fault.line  # the number of the missing event
        if head is None or batch is None or head.seq - batch[0] != self.holed_batch or head.seq <= missing:
            self.fault = self.fault._replace(torn=False)

    def _fail(self, ahead: Tip, reason: str, *, torn: bool) -> None:
        if self.fault is None:
            self.fault = Fault(ahead.seq + 1, ahead.offset, reason, torn)


def _has_shape(line: bytes) -> bool:
    """Return whether a line ends like a record and has no hole of a sector: only a disk that lost a write makes such a hole."""
    return hash_chain.split(line) is not None and _HOLE not in line


def _judge(
    line: bytes, ahead: Tip, pending: list[codec.Head], joins: bool
) -> tuple[codec.Head | None, bytes | None, str]:
    """Judge whether a line is the next record: return its head and digest, or why it is not."""
    leaf, parts = tombstone.leaf_of(line), hash_chain.split(line)
    if leaf is None or parts is None:
        return None, None, "holds NUL bytes" if b"\0" in line else "does not end like a record"
    digest = hash_chain.next_hash(ahead.digest, leaf)
    if digest != parts[1]:
        return None, None, "has a hash that does not fit: a byte of it, or the line before it, is not what was written"
    head = codec.head(line)
    if head is None:
        return None, None, "is not UTF-8 JSON with type, seq and at"
    if head.seq != ahead.seq + 1:
        return None, None, f"has seq {head.seq} where {ahead.seq + 1} belongs"
    if head.at < ahead.at:
        return None, None, "was recorded before the previous line"
    if not joins and tombstone.read_tombstone(line) is None and not _continues(head.batch, pending):
        return None, None, "does not continue its batch"
    return head, digest, ""


def _continues(batch: tuple[int, int] | None, pending: list[codec.Head]) -> bool:
    if not pending:
        return batch is None or (batch[0] == 0 and batch[1] > 1)
    before = pending[-1].batch
    return batch is not None and before is not None and batch == (before[0] + 1, before[1])


def _move(ahead: Tip, head: codec.Head, digest: bytes, size: int) -> None:
    ahead.digest, ahead.seq, ahead.at = digest, head.seq, head.at
    ahead.offset += size
