"""What one engine object knows about one log: how far it is verified, its fork point, and who may append."""

import threading
from collections.abc import Iterable, Iterator
from itertools import chain

from eventstore.errors import LogDamaged, LogTampered, OutcomeUnknown
from eventstore.ids import owner_of
from eventstore.log.base import Appended
from eventstore.log.batch import Batch
from eventstore.log.group import Group
from eventstore.log.port import Backend, Missing, Moved, Reading
from eventstore.record import hash_chain, tombstone
from eventstore.record.fork_point import ForkPoint, read_fork_point
from eventstore.record.scan import UNTOLD, Scan, Tip

_LINGER = 1.0  # over a network
_FULL_READS = 5  # a fault that changes between so many reads comes from another writer, again and again


class LogState:
    """One log. `writing` is held during an append, `scanning` while `scan` is read and moved; always taken in that order.

    `scan` is the verified part: `scan.here.life` is empty while nothing is known. `fork` is the fork point of the log, `root`
    names the log whose chain it is. `unfinished` are redactions that are recorded but not carried out.
    """

    def __init__(self, backend: Backend, name: str, max_event_bytes: int) -> None:
        self.name, self.session_id = name, owner_of(name)
        self._backend, self._max_event_bytes = backend, max_event_bytes
        self.writing, self.scanning = threading.Lock(), threading.RLock()
        able = backend.capabilities
        self.queue: Group[tuple[Batch, int | None], Appended] = Group(
            self.writing, self._interrupted, _LINGER if able.blocking else 0.0, able.write_seconds
        )
        self.forget()

    def forget(self) -> None:
        """Forget everything: the next call reads the log from its beginning."""
        self.fork: ForkPoint | None = None
        self.root, self.first_digest = self.session_id, hash_chain.first_hash(self.session_id)
        self.scan = Scan(Tip(self.first_digest), self._max_event_bytes)
        self.unfinished: list[int] = []
        self.end = 0
        self._digests: dict[int, bytes] = {}

    @property
    def inherited(self) -> int:
        """The number of inherited events."""
        return self.fork.seq if self.fork else 0

    def catch_up(self) -> Scan:
        """Read and verify new lines, and return the scan; `scanning` is held. Raises Missing; then nothing is known any more.

        Damage is reported only if the complete log was read twice with the same result: a failed append that was cut back, or a
        redaction in progress, may have been read before it was complete.
        """
        if self.scan.here.life and self._read_on():
            return self.scan
        self.forget()
        seen = None
        for _ in range(_FULL_READS):
            self._read_all()
            fault = self.scan.fault
            if fault is None or fault.torn or fault == seen:
                break
            seen = fault
        return self.scan

    def _read_on(self) -> bool:
        """Verify the lines after the scan; return False if everything must be read again."""
        scan = self.scan
        try:
            reading = self._backend.read(self.name, scan.here)
        except Moved:
            return False
        if reading.end < scan.here.offset:
            return False
        if reading.end > scan.here.offset:
            scan.feed(reading.chunks)
        else:
            scan.fault, scan.unended = None, None
        self._judge(reading)
        return scan.fault is None or scan.fault.torn

    def _read_all(self) -> None:
        reading = self._backend.read(self.name)
        line, chunks = first_line(reading.chunks, self._max_event_bytes)
        self.fork, self.root, here = self.beginning(line.removesuffix(b"\n"))
        self.first_digest = here.digest
        here.life = reading.life
        self.scan = Scan(here, self._max_event_bytes)
        self.scan.feed(chunks)
        self._digests.clear()
        self._judge(reading)

    def _judge(self, reading: Reading) -> None:
        """Check that redactions are recorded, and collect recorded redactions that are not carried out yet."""
        scan, self.end = self.scan, reading.end
        scan.judge_stubs()
        self.unfinished = [seq for seq in scan.redactions if seq > self.inherited and seq not in scan.stubs]

    def move_on(self, data: bytes, tip: Tip) -> None:
        """Advance the scan over lines that were verified and written, to a tip."""
        self.scan.feed([data])
        self.scan.here.life = tip.life
        self.end = tip.offset
        self.unfinished = [seq for seq in self.scan.redactions if seq > self.inherited and seq not in self.scan.stubs]

    def beginning(self, line: bytes) -> tuple[ForkPoint | None, str, Tip]:
        """Read from a first line: the fork point, the root of the chain, and the tip before the line."""
        point = read_fork_point(line)
        if point is not None and point.into == self.session_id:
            return point, point.root, Tip(point.digest, 0, point.seq)
        here = Tip(hash_chain.first_hash(self.session_id))
        if line and tombstone.digest_after(line, here.digest) is None:
            root = self._find_root()
            if root is not None:
                return None, root, Tip(hash_chain.first_hash(root))
        return None, self.session_id, here

    def _find_root(self) -> str | None:
        """Find the root of the chain of an independent fork: a line in the middle records its fork point."""
        wanted = b'"into":"%b"' % self.session_id.encode("ascii")
        for _, line in numbered(self._backend.read(self.name).chunks, self._max_event_bytes):
            point = read_fork_point(line) if wanted in line else None
            if point is not None and point.into == self.session_id:
                return point.root
        return None

    def digest_at(self, seq: int) -> bytes | None:
        """Return the chain's digest after an event of this log's own lines; None if there is none."""
        if seq == self.scan.here.seq:
            return self.scan.here.digest
        if seq not in self._digests:
            try:
                line = read_line(self._backend.read(self.name, seq - 1, seq), seq)[1]
            except Missing:  # it was removed in the meantime
                return None
            parts = hash_chain.split(line)
            if parts is None:
                return None
            self._digests[seq] = parts[1]
        return self._digests[seq]

    def damage(self) -> LogDamaged | None:
        """Return the error for a fault that a crash cannot explain."""
        fault = self.scan.fault
        if fault is None or fault.torn:
            return None
        kind = LogTampered if fault.reason == UNTOLD else LogDamaged
        reason = f"the line {fault.reason}"
        where = self._backend.where(self.name)
        return kind(self.session_id, where, fault.line, fault.offset_bytes, reason, self.scan.here.seq)

    def _interrupted(self) -> OutcomeUnknown:
        return OutcomeUnknown(self.session_id, self._backend.where(self.name), 4)


def first_line(chunks: Iterator[bytes], max_line_bytes: int) -> tuple[bytes, Iterator[bytes]]:
    """Return the first line with its LF, or the part of it that exists, and all chunks again."""
    seen: list[bytes] = []
    size = 0
    for chunk in chunks:
        seen.append(chunk)
        size += len(chunk)
        if b"\n" in chunk or size > max_line_bytes:
            break
    line, lf, _ = b"".join(seen).partition(b"\n")
    return line + lf, chain(seen, chunks)


def whole_lines(chunks: Iterable[bytes], count: int | None = None) -> Iterator[bytes]:
    """Cut chunks into chunks of complete lines, at most `count` lines; drop a rest without LF."""
    parts: list[bytes] = []
    if count == 0:
        return
    for chunk in chunks:
        whole, lf, rest = chunk.rpartition(b"\n")
        if not lf:
            parts.append(chunk)
            continue
        data = b"".join([*parts, whole, lf])
        parts = [rest] if rest else []
        if count is not None:
            found = data.count(b"\n")
            if found > count:
                data, found = first_lines(data, count), count
            count -= found
        yield data
        if count == 0:
            return


def first_lines(data: bytes, count: int) -> bytes:
    """Return so many lines of a chunk of at least as many complete lines."""
    return b"".join(line + b"\n" for line in data.split(b"\n", count)[:count])


def numbered(chunks: Iterable[bytes], max_line_bytes: int) -> Iterator[tuple[int, bytes]]:
    """Stream lines without their LF, each with its first byte; a line over the limit comes in pieces that are not records."""
    parts: list[bytes] = []
    start = size = 0
    for chunk in chunks:
        *whole, rest = chunk.split(b"\n")
        for line in whole:
            if parts:
                line, parts, size = b"".join([*parts, line]), [], 0
            yield start, line
            start += len(line) + 1
        parts.append(rest)
        size += len(rest)
        if size > max_line_bytes:
            yield start, b"".join(parts)
            start, parts, size = start + size, [], 0
    if size:
        yield start, b"".join(parts)


def read_line(reading: Reading, seq: int) -> tuple[int, bytes]:
    """Return the first byte of line `seq` and the line with its LF; an empty line if it is not the one that was read."""
    for chunk in whole_lines(reading.chunks, 1):
        if hash_chain.line_number(chunk) == seq:
            return reading.offset, chunk
    return reading.offset, b""
