"""What a subscription delivers."""

from typing import Protocol

from eventstore.events import AnyEvent, UnknownEvent
from eventstore.log.base import Head
from eventstore.subscriptions.journal import Chunk


class _Cursors(Protocol):
    def cursor_at(self, chunk: Chunk, place: Head) -> str: ...


class Delivered:
    """An event, the session it is in, and the cursor to go on behind it with."""

    __slots__ = ("_offset", "_subscription", "chunk", "event", "session_id")

    def __init__(self, subscription: _Cursors, chunk: Chunk, event: AnyEvent | UnknownEvent, offset: int) -> None:
        self.session_id, self.event = chunk.session_id, event
        self._subscription, self.chunk, self._offset = subscription, chunk, offset

    @property
    def cursor(self) -> str:
        """A short text, valid after restarts of reader and writer: give it as `after` to go on behind this event.

        Of a subscription to all sessions it is to be asked for in time: raises ValueError once thousands of later ones were
        taken, PositionNotSaved where it needs to be written down and cannot be.
        """
        return self._subscription.cursor_at(self.chunk, self.place)

    @property
    def place(self) -> Head:
        """The place in the session behind this event."""
        return Head(self.event.seq, self.event.at, self.event.hash, self._offset)

    def __repr__(self) -> str:
        return f"<Delivered {self.session_id!r} event {self.event.seq} {self.event.type}>"
