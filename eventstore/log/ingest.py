"""Whole logs that come from elsewhere: verified from the first byte to the last before they are believed."""

from collections.abc import Collection, Iterable, Iterator
from dataclasses import dataclass, field
from itertools import chain

from eventstore.errors import LogDamaged, LogTampered
from eventstore.ids import check_log_id
from eventstore.log.base import Head
from eventstore.record import codec, hash_chain, tombstone
from eventstore.record.fork_point import ForkPoint, read_fork_point
from eventstore.record.scan import UNTOLD, Scan, Tip


@dataclass(frozen=True, slots=True)
class Whole:
    """A log that is whole.

    `root` names the log whose chain it is. `fork` tells where it goes on from another, which has what was before; `origin` tells
    the same, also of a fork that was made whole. `first_hash` is the hash (hex) of the event it began with, `head` its end, of
    which the size is that of its own lines. `ids` are those of `Scan`, `digests` maps numbers that were asked for to the chain's
    digest there, `redactions` maps what is told to be redacted, and is not, to its leaf hash.
    """

    session_id: str
    root: str
    fork: ForkPoint | None
    origin: ForkPoint | None
    first_hash: str
    head: Head
    ids: dict[str, tuple[int, int]]
    digests: dict[int, bytes]
    redactions: dict[int, bytes]

    @property
    def inherited(self) -> int:
        """How many events come before its own."""
        return self.fork.seq if self.fork else 0


def verify_whole(
    session_id: str,
    chunks: Iterable[bytes],
    *,
    root: str | None = None,
    wanted: Collection[int] = (),
    max_event_bytes: int = codec.MAX_EVENT_BYTES,
    file: str = "its log",
) -> Whole:
    """Verify chain, numbers, times, batches and redactions of all lines of a log, given in chunks of any size.

    `root` names the log whose chain it is, which a fork that was made whole must be given; `file` is what errors call it. Whether
    a parent has what a fork goes on from is not looked at. Raises InvalidSessionId, LogDamaged, LogTampered.
    """
    check_log_id(session_id)
    aligned = _whole_lines(chunks, max_event_bytes)
    start = next(aligned, b"")
    fork, chain_root, here = _beginning(session_id, start.partition(b"\n")[0], root)
    seen = _Seen(session_id, here.seq, frozenset(wanted))
    scan = Scan(here, max_event_bytes)
    scan.feed(seen.watch(chain([start], aligned)))
    scan.judge_stubs()
    first = fork.seq if fork else 0
    why = _fault(scan, seen, first, session_id, chain_root, root)
    if why:
        line, offset, reason = why
        kind = LogTampered if reason.endswith(UNTOLD) else LogDamaged
        raise kind(session_id, file, line, offset, reason, scan.here.seq)
    end = scan.here
    return Whole(
        session_id,
        chain_root,
        fork,
        seen.origin if fork or chain_root != session_id else None,
        seen.origin_hash if seen.origin and (fork or chain_root != session_id) else seen.first_hash,
        Head(end.seq, end.at, end.digest.hex(), end.offset),
        scan.ids,
        seen.digests,
        {seq: leaf for seq, leaf in scan.redactions.items() if seq > first and seq not in scan.stubs},
    )


def _beginning(session_id: str, line: bytes, root: str | None) -> tuple[ForkPoint | None, str, Tip]:
    """Tell what a log goes on from, whose chain it is, and the position in front of its first line."""
    fork = read_fork_point(line)
    if fork is not None and fork.into == session_id:
        check_log_id(fork.parent)
        check_log_id(fork.root)
        return fork, fork.root, Tip(fork.digest, 0, fork.seq)
    own = hash_chain.first_hash(session_id)
    if root is None or tombstone.digest_after(line, own) is not None:
        return None, session_id, Tip(own)
    return None, root, Tip(hash_chain.first_hash(check_log_id(root)))


def _fault(
    scan: Scan, seen: "_Seen", first: int, session_id: str, chain_root: str, root: str | None
) -> tuple[int, int, str] | None:
    """Say what is wrong: the line, the byte it begins at, and why."""
    if scan.fault is not None:
        return scan.fault.line, scan.fault.offset_bytes, f"the line {scan.fault.reason}"
    if scan.unended:
        return scan.here.seq + 1, scan.here.offset, "the line has no end"
    if scan.here.seq == first:
        return first + 1, 0, "there is no event"
    if root is not None and chain_root != root:
        return first + 1, 0, f"its chain is that of {chain_root!r}, not of {root!r}"
    if not first and chain_root != session_id and (seen.origin is None or seen.origin.root != chain_root):
        return 1, 0, f"its chain is that of {chain_root!r}, and no line of it tells why"
    return None


@dataclass(slots=True)
class _Seen:
    """What is picked up while lines go by: the line that tells of a fork, the first hash, digests that are wanted."""

    session_id: str
    seq: int
    wanted: frozenset[int]
    first_hash: str = ""
    origin: ForkPoint | None = None
    origin_hash: str = ""
    digests: dict[int, bytes] = field(default_factory=dict)

    def watch(self, chunks: Iterable[bytes]) -> Iterator[bytes]:
        told = b'"into":"%b"' % self.session_id.encode("ascii")
        for chunk in chunks:
            count = chunk.count(b"\n")
            reached = range(self.seq + 1, self.seq + count + 1)
            if not self.first_hash or told in chunk or any(seq in reached for seq in self.wanted):
                for seq, line in zip(reached, chunk.split(b"\n"), strict=False):
                    self._take(seq, line, told)
            self.seq += count
            yield chunk

    def _take(self, seq: int, line: bytes, told: bytes) -> None:
        parts = hash_chain.split(line)
        if parts is None:
            return
        self.first_hash = self.first_hash or parts[1].hex()
        if seq in self.wanted:
            self.digests[seq] = parts[1]
        point = read_fork_point(line) if self.origin is None and told in line else None
        if point is not None and point.into == self.session_id:
            self.origin, self.origin_hash = point, parts[1].hex()


def _whole_lines(chunks: Iterable[bytes], max_event_bytes: int) -> Iterator[bytes]:
    """Cut chunks behind line ends; what is behind the last, or over the limit, comes as it is."""
    rest = b""
    for chunk in chunks:
        whole, lf, rest = (rest + chunk).rpartition(b"\n")
        if lf:
            yield whole + b"\n"
        if len(rest) > max_event_bytes:
            yield rest
            rest = b""
    if rest:
        yield rest
