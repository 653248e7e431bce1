"""What a subscription delivers."""

from typing import Protocol

from eventstore.custom_events import ReadEvent
from eventstore.log.base import Head
from eventstore.subscriptions.journal import Chunk


class _Cursors(Protocol):
    def cursor_at(self, chunk: Chunk, place: Head) -> str: ...


class Delivered:
    """An event, its session, and the cursor for continuing after it."""

    __slots__ = ("_offset", "_subscription", "chunk", "event", "session_id")

    def __init__(self, subscription: _Cursors, chunk: Chunk, event: ReadEvent, offset: int) -> None:
        self.session_id, self.event = chunk.session_id, event
        self._subscription, self.chunk, self._offset = subscription, chunk, offset

    @property
    def cursor(self) -> str:
        """A short text, valid after restarts of reader and writer: pass it as `after` to continue after this event.

        With a subscription to all sessions, read it in time: raises ValueError once thousands of later ones were
        taken, PositionNotSaved if it needs to be written down and cannot be.
        """
        return self._subscription.cursor_at(self.chunk, self.place)

    @property
    def place(self) -> Head:
        """The place in the session after this event."""
        return Head(self.event.seq, self.event.at, self.event.hash, self._offset)

    def __repr__(self) -> str:
        return f"<Delivered {self.session_id!r} event {self.event.seq} {self.event.type}>"
