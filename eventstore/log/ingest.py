"""Verify logs that come from elsewhere, from the first byte to the last, before they are imported."""

from collections.abc import Callable, Collection, Iterable, Iterator
from dataclasses import dataclass, field
from itertools import chain
from typing import NamedTuple

from eventstore.errors import LogDamaged, LogTampered
from eventstore.ids import check_log_id
from eventstore.log.base import Head, head_of
from eventstore.record import codec, hash_chain, tombstone
from eventstore.record.fork_point import ForkPoint, read_fork_point
from eventstore.record.scan import UNTOLD, Scan, Tip


class VerifiedLog(NamedTuple):
    """The result of verifying a complete log.

    `root` names the log whose chain it is. `fork` is the fork point of a fork by reference, whose parent has the
    earlier events; `origin` is the fork point of any fork, also of an independent one. `first_hash` is the hash (hex)
    of its first own event. `head` is its end; the size is that of its own lines. `ids` are those of `Scan`, `digests`
    maps requested numbers to the chain's digest there, `redactions` maps events that are recorded as redacted but are
    not to their leaf hashes.
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
        """The number of inherited events, before its own."""
        return self.fork.seq if self.fork else 0


def verify_whole(
    session_id: str,
    chunks: Iterable[bytes],
    *,
    root: str | None = None,
    wanted: Collection[int] = (),
    max_event_bytes: int = codec.MAX_EVENT_BYTES,
    file: str = "its log",
) -> VerifiedLog:
    """Verify chain, numbers, times, batches and redactions of all lines of a log, given in chunks of any size.

    `root` names the log whose chain it is; an independent copy of a fork needs it. `file` is its name in errors. It is
    not checked whether a parent has the event at the fork point. Raises InvalidSessionId, LogDamaged, LogTampered.
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
    return VerifiedLog(
        session_id,
        chain_root,
        fork,
        seen.origin if fork or chain_root != session_id else None,
        seen.origin_hash if seen.origin and (fork or chain_root != session_id) else seen.first_hash,
        head_of(scan.here),
        scan.ids,
        seen.digests,
        {seq: leaf for seq, leaf in scan.redactions.items() if seq > first and seq not in scan.stubs},
    )


def passing(chunks: Iterable[bytes], write: Callable[[bytes], None]) -> Iterator[bytes]:
    """Write chunks on their way."""
    for chunk in chunks:
        write(chunk)
        yield chunk


def _beginning(session_id: str, line: bytes, root: str | None) -> tuple[ForkPoint | None, str, Tip]:
    """Return the fork point of a log, the root of its chain, and the position before its first line."""
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
    """Return what is wrong: the line, its first byte, and why."""
    if scan.fault is not None:
        return scan.fault.line, scan.fault.offset_bytes, f"the line {scan.fault.reason}"
    if scan.unended:
        return scan.here.seq + 1, scan.here.offset, "the line has no end"
    if scan.here.seq == first:
        return first + 1, 0, "there is no event"
    if root is not None and chain_root != root:
        return first + 1, 0, f"its chain is that of {chain_root!r}, not of {root!r}"
    if not first and chain_root != session_id and (seen.origin is None or seen.origin.root != chain_root):
        return 1, 0, f"its chain is that of {chain_root!r}, and no line of it records why"
    return None


@dataclass(slots=True)
class _Seen:
    """Collects facts while lines are read: the line that records a fork, the first hash, the requested digests."""

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
    """Cut chunks after line ends; a rest after the last one, or a line over the limit, is passed on as it is."""
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
