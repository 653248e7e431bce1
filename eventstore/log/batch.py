"""Deciding one append and sealing its lines: the part that is the same for every backend."""

from base64 import b64decode
from collections.abc import Iterable, Mapping, Sequence
from typing import Any

import msgspec

from eventstore.errors import IdReused, RedactionRefused
from eventstore.events import CheckpointSigned, Event, EventRedacted, LogRepaired, Origin, RedactedEvent, SessionCreated
from eventstore.log.base import Appended
from eventstore.record import codec
from eventstore.record.codec import Piece
from eventstore.record.scan import Tip


class Batch(msgspec.Struct, frozen=True):
    """Events encoded as far as they can be before the lock is held, and their idempotency keys."""

    pieces: tuple[Piece, ...]
    ids: tuple[str, ...]


def prepare(events: Sequence[Event], max_event_bytes: int) -> Batch:
    """Encode and check a batch. Raises EventRefused for its first bad event, and ValueError where it is empty."""
    if len(events) == 1:
        event = events[0]
        piece = codec.prepare(event, max_event_bytes)
        return Batch((piece,), () if event.id is None else (event.id,))
    if not events:
        raise ValueError("an append needs at least one event; nothing was written")
    pieces = tuple(codec.prepare(event, max_event_bytes) for event in events)
    return Batch(pieces, tuple(event.id for event in events if event.id is not None))


def prepare_many(batches: Sequence[Sequence[Event]], max_event_bytes: int) -> list[Batch]:
    """Encode and check several batches. Raises as `prepare` does."""
    if not batches:
        raise ValueError("an append needs at least one event; nothing was written")
    return [prepare(events, max_event_bytes) for events in batches]


def refuse_known(session_id: str, batches: Sequence[Batch], ids: dict[str, tuple[int, int]]) -> None:
    """Raise IdReused where one of several batches carries a key that is known, or that another carries too."""
    seen = set(ids)
    for batch in batches:
        for one in batch.ids:
            if one in seen:
                raise IdReused(session_id, one)
        seen.update(batch.ids)


def tell_redaction(
    session_id: str, seq: int, line: bytes, reason: str, by: dict[str, Any] | None, *, inherited: bool = False
) -> EventRedacted:
    """Make the event that tells of a redaction, of the line that is to be redacted. Raises RedactionRefused.

    A line that a fork has of its parent may be redacted there already: the fork tells of it too.
    """
    event, leaf = codec.decode(line), codec.leaf_of(line)
    if isinstance(event, RedactedEvent):
        if inherited:
            return EventRedacted(
                target=seq, leaf=event.leaf, reason=reason, by=by, target_type=event.type, target_at=event.at
            )
        raise RedactionRefused(session_id, seq, "it was redacted before")
    if isinstance(event, EventRedacted | LogRepaired | CheckpointSigned):
        raise RedactionRefused(session_id, seq, "it tells of the log itself")
    if isinstance(event, SessionCreated) and event.forked_from is not None:
        raise RedactionRefused(session_id, seq, "it tells what the session goes on from")
    if leaf is None or codec.make_stub(line) is None:
        raise RedactionRefused(session_id, seq, "it holds no text")
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
    )


def _size_of(origin: Origin) -> int:
    if origin.line is not None:
        return len(origin.line.encode())
    return len(b64decode(origin.line_base64 or ""))


def untold_redactions(lines: Iterable[bytes], told: Mapping[int, bytes]) -> list[EventRedacted]:
    """Make the events by which a fork tells of redactions in its past, where no line does, nor by `told` anything else."""
    stubs: dict[int, codec.Stub] = {}
    leaves = {seq: leaf.hex() for seq, leaf in told.items()}
    for line in lines:
        stub = codec.read_stub(line)
        if stub is not None:
            stubs[stub.seq] = stub
        elif (telling := codec.read_redaction(line)) is not None:
            leaves.setdefault(telling.target, telling.leaf)
    return [told_before(stub) for stub in stubs.values() if leaves.get(stub.seq) != stub.leaf.hex()]


def told_before(stub: codec.Stub) -> EventRedacted:
    """Make the event that tells in a fork of what was redacted in the session it goes on from."""
    reason = "redacted in the session that this one goes on from"
    return EventRedacted(target=stub.seq, leaf=stub.leaf.hex(), reason=reason, target_type=stub.type, target_at=stub.at)


def find_repeat(session_id: str, batch: Batch, ids: dict[str, tuple[int, int]]) -> Appended | None:
    """Return the first result of a batch that was appended before, or None for a new one. Raises IdReused for a mix."""
    if not batch.ids:
        return None
    places = {ids.get(one) for one in batch.ids}
    if places == {None}:
        return None
    place = places.pop()
    if places or place is None:
        raise IdReused(session_id, next(one for one in batch.ids if one in ids))
    return Appended(*place, repeated=True)


def seal(batch: Batch, here: Tip, at: str) -> tuple[bytes, Tip]:
    """Give a batch its place behind `here`: its lines, and the position after it."""
    stamp, seq, digest, count = at.encode("ascii"), here.seq, here.digest, len(batch.pieces)
    if count == 1:
        line, digest = codec.seal(batch.pieces[0], seq + 1, stamp, None, digest)
        return line, Tip(digest, here.offset + len(line), seq + 1, at)
    lines = []
    for index, piece in enumerate(batch.pieces):
        line, digest = codec.seal(piece, seq + 1 + index, stamp, (index, count), digest)
        lines.append(line)
    data = b"".join(lines)
    return data, Tip(digest, here.offset + len(data), seq + count, at)
