"""Carry out redactions: a tombstone of the same length replaces a line, so that chain and offsets stay."""

from base64 import b64decode
from collections.abc import Iterable, Mapping
from typing import Any

from eventstore.errors import RedactionRefused
from eventstore.events import CheckpointSigned, EventRedacted, LogRepaired, Origin, RedactedEvent, SessionCreated
from eventstore.log.port import Backend, Moved, Unclear
from eventstore.log.state import LogState, numbered, read_line
from eventstore.record import codec, hash_chain, tombstone

_TRIES = 3
_LEAF_CHARACTERS = 64


def record_redaction(
    session_id: str, seq: int, line: bytes, reason: str, by: dict[str, Any] | None, *, inherited: bool = False
) -> EventRedacted:
    """Return the event that records the redaction of a line, before it is carried out. Raises RedactionRefused.

    An inherited line may already be redacted in the parent: the fork records it too.
    """
    event, leaf = codec.decode(line), tombstone.leaf_of(line)
    if isinstance(event, RedactedEvent):
        if inherited:
            return EventRedacted(
                target=seq, leaf=event.leaf, reason=reason, by=by, target_type=event.type, target_at=event.at
            )
        raise RedactionRefused(session_id, seq, "it was redacted before")
    if isinstance(event, EventRedacted | LogRepaired | CheckpointSigned):
        raise RedactionRefused(session_id, seq, "it is about the log itself")
    if isinstance(event, SessionCreated) and event.forked_from is not None:
        raise RedactionRefused(session_id, seq, "it records what the session was forked from")
    if leaf is None or tombstone.make_tombstone(line) is None:
        raise RedactionRefused(session_id, seq, "it has no text")
    return EventRedacted(
        target=seq,
        leaf=leaf.hex(),
        reason=reason,
        by=by,
        target_type=event.type,
        target_at=event.at,
        target_id=event.id,
        target_batch=event.batch,
        target_origin_bytes=None if event.origin is None else _size_of(event.origin),
        target_time=event.time,
    )


def _size_of(origin: Origin) -> int:
    if origin.line is not None:
        return len(origin.line.encode())
    return len(b64decode(origin.line_base64 or ""))


def recorded_leaf(event: EventRedacted) -> bytes:
    """Return the leaf hash of the event that a redaction is about, 32 bytes; nothing where the record has no leaf hash."""
    try:
        leaf = bytes.fromhex(event.leaf)
    except ValueError:
        return b""
    return leaf if len(event.leaf) == 2 * len(leaf) == _LEAF_CHARACTERS else b""


def record_earlier_redaction(line: bytes) -> EventRedacted:
    """Return the event by which a fork records that an inherited line was, or is being, redacted in its parent."""
    event, leaf = codec.decode(line), tombstone.leaf_of(line)
    reason = "redacted in the session that this one was forked from"
    return EventRedacted(
        target=event.seq,
        leaf=(leaf or b"").hex(),
        reason=reason,
        target_type=event.type,
        target_at=event.at,
        target_time=None if isinstance(event, RedactedEvent) else event.time,
    )


def finish_redactions(backend: Backend, state: LogState) -> None:
    """Carry out recorded redactions that a crash, or another process, left undone. The log's lock is held."""
    for seq in state.unfinished:
        overwrite_with_tombstone(backend, state, seq, state.scan.redactions[seq])
    state.unfinished = []


def overwrite_with_tombstone(backend: Backend, state: LogState, seq: int, leaf: bytes) -> bool:
    """Overwrite the line of an event whose redaction is recorded; return False if the line is another one.

    A lost answer, or a line that has moved, is settled by reading it again. Raises Missing, Refused.
    """
    unclear: Unclear | None = None
    for _ in range(_TRIES):
        offset, line = read_line(backend.read(state.name, seq - 1, seq), seq)
        stub = tombstone.read_tombstone(line[:-1])
        if stub is None:
            new = tombstone.make_tombstone(line[:-1]) if line and tombstone.leaf_of(line[:-1]) == leaf else None
            if new is None:
                return False
            try:
                stub = _put(backend, state, seq, offset, new)
            except Unclear as error:
                unclear = error
        if stub is not None:
            state.scan.stubs[seq] = stub, offset
            return True
    if unclear is not None:
        raise unclear
    return False


def finish_torn_redaction(backend: Backend, state: LogState) -> bool:
    """Overwrite a line again if a power cut left it partly overwritten. The log's lock is held."""
    fault = state.scan.fault
    if fault is None:
        return False
    before, torn, leaf = _around(backend, state, fault.line)
    parts, start = hash_chain.split(torn), hash_chain.line_start(torn)
    if leaf is None or parts is None or start is None or hash_chain.next_hash(before, leaf) != parts[1]:
        return False
    new = tombstone.build_tombstone(start, leaf, parts[1], len(torn))
    return new is not None and _put(backend, state, fault.line, fault.offset_bytes, new) is not None


def _around(backend: Backend, state: LogState, seq: int) -> tuple[bytes, bytes, bytes | None]:
    """Return the digest before a faulty line, the line, and the leaf hash that a later line records for it."""
    offset = state.scan.fault.offset_bytes if state.scan.fault else 0
    torn, leaf = b"", None
    for start, line in numbered(backend.read(state.name).chunks, codec.MAX_EVENT_BYTES):
        if start == offset:
            torn = line
        elif start > offset and (found := codec.read_redaction(line)) is not None and found.target == seq:
            try:
                leaf = bytes.fromhex(found.leaf)
            except ValueError:  # a custom event, which has no leaf hash
                continue
            break
    return _digest_before(backend, state, offset), torn, leaf


def _digest_before(backend: Backend, state: LogState, offset: int) -> bytes:
    last = state.first_digest
    for start, line in numbered(backend.read(state.name).chunks, codec.MAX_EVENT_BYTES):
        if start >= offset:
            break
        parts = hash_chain.split(line)
        last = parts[1] if parts else last
    return last


def _put(backend: Backend, state: LogState, seq: int, offset: int, new: bytes) -> tombstone.Tombstone | None:
    try:
        backend.overwrite(state.name, seq, offset, new + b"\n")
    except Moved:
        return None
    return tombstone.read_tombstone(new)


class UnrecordedTombstone(Exception):
    """A tombstone was copied, but its event.redacted is not among the copied lines: read again, and record it."""


class TombstoneCheck:
    """Checks that each tombstone among copied lines has its event.redacted among them too."""

    def __init__(self) -> None:
        self._tombstones: set[int] = set()
        self._recorded: set[int] = set()

    def watch(self, chunk: bytes) -> None:
        """Check complete lines."""
        if b'"redacted' not in chunk and b"event.redacted" not in chunk:
            return
        for line in codec.lines(chunk):
            stub, event = tombstone.read_tombstone(line), codec.read_redaction(line)
            if stub is not None:
                self._tombstones.add(stub.seq)
            if event is not None:
                self._recorded.add(event.target)

    def end(self) -> None:
        """Raise UnrecordedTombstone if one has none."""
        if self._tombstones - self._recorded:
            raise UnrecordedTombstone


def missing_records(lines: Iterable[bytes], recorded: Mapping[int, bytes]) -> list[EventRedacted]:
    """Return the events for tombstones among `lines` that none of them records; `recorded` maps more numbers to leaf hashes."""
    leaves = {seq: leaf.hex() for seq, leaf in recorded.items()}
    found: dict[int, tuple[bytes, str]] = {}
    for line in lines:
        stub = tombstone.read_tombstone(line)
        if stub is not None:
            found[stub.seq] = line, stub.leaf.hex()
        elif (event := codec.read_redaction(line)) is not None:
            leaves.setdefault(event.target, event.leaf)
    return [record_earlier_redaction(line) for seq, (line, leaf) in found.items() if leaves.get(seq) != leaf]
