"""Deciding one append and sealing its lines: the part that is the same for every backend."""

from collections.abc import Sequence
from typing import NamedTuple

from eventstore import codec
from eventstore.codec import Piece
from eventstore.errors import IdReused
from eventstore.events import Event
from eventstore.log.base import Appended
from eventstore.log.scan import Position


class Batch(NamedTuple):
    """Events encoded as far as they can be before the lock is held, and their idempotency keys."""

    pieces: tuple[Piece, ...]
    ids: tuple[str, ...]


def prepare(events: Sequence[Event], max_event_bytes: int) -> Batch:
    """Encode and check a batch. Raises EventRefused for its first bad event, and ValueError where it is empty."""
    if not events:
        raise ValueError("an append needs at least one event; nothing was written")
    pieces = tuple(codec.prepare(event, max_bytes=max_event_bytes) for event in events)
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


def seal(batch: Batch, here: Position, at: str) -> tuple[list[bytes], Position]:
    """Give a batch its place behind `here`: its lines with their LFs, and the position after it."""
    count = len(batch.pieces)
    digest, lines = here.digest, []
    for index, piece in enumerate(batch.pieces):
        place = (index, count) if count > 1 else None
        line, digest = codec.seal(piece, here.seq + 1 + index, at, place, digest)
        lines.append(line)
    return lines, Position(digest, here.offset + sum(map(len, lines)), here.seq + count, at)
