"""Decide one append and seal its lines: the part that is the same for every backend."""

from collections.abc import Mapping, Sequence

import msgspec

from eventstore.errors import IdReused
from eventstore.events import Event
from eventstore.log.base import Appended
from eventstore.record import codec
from eventstore.record.codec import Piece
from eventstore.record.scan import Tip


class Batch(msgspec.Struct, frozen=True):
    """Events, encoded as far as possible before the lock is held, and their idempotency keys."""

    pieces: tuple[Piece, ...]
    ids: tuple[str, ...]


def prepare(events: Sequence[Event], max_event_bytes: int) -> Batch:
    """Encode and check a batch. Raises EventRefused for its first bad event, and ValueError if it is empty."""
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
    """Raise IdReused if one of several batches has a known key, or two of them have the same key."""
    seen = set(ids)
    for batch in batches:
        for one in batch.ids:
            if one in seen:
                raise IdReused(session_id, one)
        seen.update(batch.ids)


def find_repeat(session_id: str, batch: Batch, ids: Mapping[str, tuple[int, int]]) -> Appended | None:
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
    """Seal a batch after the position `here`: return its lines, and the position after them."""
    stamp, seq, digest, count = at.encode("ascii"), here.seq, here.digest, len(batch.pieces)
    if count == 1:
        line, digest = codec.seal(batch.pieces[0], seq + 1, stamp, None, digest)
        return line, Tip(digest, here.offset + len(line), seq + 1, at, here.life)
    lines = []
    for index, piece in enumerate(batch.pieces):
        line, digest = codec.seal(piece, seq + 1 + index, stamp, (index, count), digest)
        lines.append(line)
    data = b"".join(lines)
    return data, Tip(digest, here.offset + len(data), seq + count, at, here.life)
