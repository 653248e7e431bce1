"""A subscription: what was committed, then what is committed from now on, of one session or of all, none lost, none repeated.

The log is the only truth: hints and looks say only what to read. What is read is verified from the place that was reached before,
so that a log that is another one now is an error, never a restart.
"""

import threading
import time
from collections import deque
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from typing import Self

from eventstore.custom_events import ReadEvent
from eventstore.errors import LogDamaged, LogRolledBack, SessionNotFound
from eventstore.log.base import BEGINNING, Head
from eventstore.log.engine import EventLog
from eventstore.record import codec
from eventstore.subscriptions import beginning
from eventstore.subscriptions.cursor import Cursor, Places
from eventstore.subscriptions.delivered import Delivered
from eventstore.subscriptions.due import DueSessions
from eventstore.subscriptions.event_filter import EventFilter, SessionFilter
from eventstore.subscriptions.journal import LONG, Chunk, Trail
from eventstore.subscriptions.positions import Positions
from projections.models import SessionMetadata

__all__ = ["Delivered", "Source", "Subscription"]

_SAVE_SECONDS = 0.1


@dataclass(frozen=True)
class Source:
    """What is subscribed to: a log, the positions kept with it, and what else is known of sessions.

    `ended` returns how many events sessions had at most that had an id and were deleted or put in the trash; 0 if none were.
    """

    log: EventLog
    positions: Positions
    describe: Callable[[str], SessionMetadata]
    ended: Callable[[str], int]


class Subscription(Iterator[Delivered]):
    """Delivers events as they are committed: complete batches, in order within a session. Iterate over it, and close it.

    Raises LogRolledBack if a log is another one now, LogDamaged if one cannot be read (of all sessions: `on_damage` is
    called with it), ReadRefused if the system refuses to read; the next call continues. PositionNotSaved where the position with
    a name cannot be stored. One thread may iterate; `stop` may be called from any.
    """

    def __init__(
        self,
        source: Source,
        session_id: str | None,
        after: str | int | None,
        wanted: EventFilter,
        *,
        live: bool,
        name: str | None,
        on_damage: Callable[[LogDamaged], None],
    ) -> None:
        self._source, self._log, self._session_id = source, source.log, session_id
        self._wanted, self._sessions = wanted.check(), SessionFilter(wanted, source.describe)
        self._live, self._name, self._on_damage = live, name, on_damage
        self._ready: deque[Delivered] = deque()
        self._given_up: dict[str, str] = {}
        self._stopped = False
        self._saving, self._saved_at = threading.Lock(), 0.0
        self._last: Delivered | None = None
        self._done: Delivered | None = None
        self._given: Delivered | None = None
        kept = source.positions.load(name) if name is not None and after is None else None
        self._trail, self._places = self._begin(after if kept is None else kept)
        self._due = DueSessions(self._log, session_id, self._places, live=live)
        try:
            self._due.look()
            self._skip(after)
            self._start = dict(self._places) if self._trail is None else {}
            if name is not None and kept is None:  # if it ends before it delivers anything, nothing from now on is lost
                source.positions.save(name, self._cursor(LONG))
        except BaseException:
            self._due.close()
            raise

    def _begin(self, after: str | int | None) -> tuple[Trail | None, Places]:
        if self._session_id is not None:
            return None, beginning.places_of_one(self._log, self._session_id, after)
        trail = Trail(self._source.positions, beginning.cursor_of_all(after))
        return trail, trail.places()

    def _skip(self, after: str | int | None) -> None:
        """Skip events recorded before now, or before a time, of sessions without a cursor.

        Where that is belongs to all cursors, so it is found at once.
        """
        since, is_now = self._wanted.since, after == beginning.NOW
        if not is_now and since is None:
            return
        alone = self._session_id is not None
        names = [name for name in self._due.names() if name not in self._places]
        skipped = beginning.skipped(self._log, names, None if is_now else since, is_alone=alone)
        self._places |= skipped
        if self._trail is not None:
            self._trail.skip(skipped)
        if is_now:
            self._due.drop(skipped)

    # --- delivering

    def __iter__(self) -> Self:
        return self

    def __next__(self) -> Delivered:
        if self._last is not None:
            self.mark_done(self._last)
        if not self._find():
            raise StopIteration
        found = self._last = self._given = self._ready.popleft()
        return found

    def take(self) -> list[Delivered]:
        """Return all that is there, waiting for the first of them; nothing once stopped, or at the end where it is not live."""
        if self._last is not None:
            self.mark_done(self._last)
        self._find()
        found = list(self._ready)
        self._ready.clear()
        if found:
            self._last = self._given = found[-1]
        return found

    def mark_done(self, one: Delivered) -> None:
        """Mark all events up to one as handled: its cursor may be stored under the name.

        Requesting the next event does the same.
        """
        self._last, self._done = None, one

    def _find(self) -> bool:
        """Wait until there is something to deliver; False if nothing comes any more."""
        while not self._ready:
            if self._stopped or not (self._due or self._live):
                self._save(force=True)
                return False
            if self._due:
                self._read(self._due.pop())
            else:
                self._save(force=True)
                self._due.wait()
        self._save()
        return True

    @property
    def is_stopped(self) -> bool:
        """Whether `stop` was called."""
        return self._stopped

    def stop(self) -> None:
        """Let the iteration end, from any thread."""
        self._stopped = True
        self._due.stop()

    def close(self) -> None:
        """Save the cursor that has a name, and watch no longer. What was not done with by then comes again. From any thread."""
        self.stop()
        try:
            self._save(force=True)
        finally:
            self._due.close()

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    # --- cursors

    @property
    def cursor(self) -> str:
        """Its position, as a cursor: after the last delivered event, or where it began; it survives a crash.

        For the thread that iterates. With all sessions, read it at the beginning, or in time, like the cursors of events.
        """
        return self._cursor()

    def _cursor(self, most: int | None = None) -> str:
        if self._given is not None:
            return self.cursor_at(self._given.chunk, self._given.place)
        if self._trail is not None:
            return self._trail.cursor(most)
        one = self._session_id or ""
        return str(Cursor(None, {one: self._start.get(one, BEGINNING)}))

    def cursor_at(self, chunk: Chunk, place: Head) -> str:
        """Make the cursor of a place in what was read. Raises as `Delivered.cursor` does."""
        if self._trail is not None:
            return self._trail.cursor_at(chunk, place)
        return str(Cursor(None, {chunk.session_id: place}))

    def _save(self, *, force: bool = False) -> None:
        """Keep the cursor of the last event that was dealt with under the subscription's name."""
        now = time.monotonic()
        if self._name is None or not (force or now - self._saved_at >= _SAVE_SECONDS):
            return
        with self._saving:
            done = self._done
            if done is not None:
                cursor = done.cursor if self._trail is None else self._trail.cursor_at(done.chunk, done.place, LONG)
                self._source.positions.save(self._name, cursor)
                self._saved_at = now
                if self._done is done:
                    self._done = None

    # --- reading

    def _read(self, session_id: str) -> None:
        """Read some of what is new in a session."""
        try:
            place = self._places.get(session_id) or self._first_place(session_id)
            data, end = self._log.resume(session_id, place)
            events = list(codec.decode_lines(data))
            fits = bool(events) and self._sessions.fits(session_id, events)
        except SessionNotFound:
            self._miss(session_id)
        except LogRolledBack as error:
            self._judge(session_id, error)
        except LogDamaged as damage:
            self._give_up(session_id, damage)
        except BaseException:
            self._due.add(session_id)
            raise
        else:
            self._given_up.pop(session_id, None)
            if data:
                self._due.add(session_id)  # there may be more
                chunk = Chunk(session_id, place, end)
                self._places[session_id] = end
                if self._trail is not None:
                    self._trail.add(chunk)
                if fits:
                    self._deliver(chunk, events, data)

    def _first_place(self, session_id: str) -> Head:
        """Find where a session begins; all that a fork inherits comes with its parent where all are subscribed to."""
        alone = self._session_id is not None
        return beginning.first_place(self._log, session_id, self._wanted.since, is_alone=alone)

    def _deliver(self, chunk: Chunk, events: Sequence[ReadEvent], data: bytes) -> None:
        offset = max(chunk.end.size_bytes - len(data), 0)
        for event, line in zip(events, codec.lines(data), strict=True):
            offset += len(line) + 1
            if self._wanted.fits(event):
                self._ready.append(Delivered(self, chunk, event, offset))

    def _miss(self, session_id: str) -> None:
        """Handle a missing session: not begun yet, deleted, or missing without a record of its deletion."""
        place = self._places.get(session_id)
        if place is not None and self._source.ended(session_id) < place.version:
            error = LogRolledBack(session_id, place.version, "is missing, and no event records its deletion")
            if not self._log.size_bytes(session_id):  # else it is there again
                self._give_up(session_id, error)

    def _judge(self, session_id: str, error: LogRolledBack) -> None:
        """A log is not the one that was read: another session that has the id now, or one that was rolled back."""
        if self._source.ended(session_id) < error.seq:
            self._give_up(session_id, error)
        else:
            self._places.pop(session_id, None)
            self._due.add(session_id)

    def _give_up(self, session_id: str, error: LogRolledBack | LogDamaged) -> None:
        """Report that a session cannot be read, once until that changes."""
        if self._given_up.get(session_id) == str(error):
            return
        self._given_up[session_id] = str(error)
        if isinstance(error, LogDamaged) and self._session_id is None:
            self._on_damage(error)
        else:
            raise error
