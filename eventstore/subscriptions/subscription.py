"""Following: what was committed, then what is committed from now on, of one session or of all, none lost and none repeated.

A log is the only truth: what tells of changes is a hint to look, and there is a look without a hint from time to time. What is
read is verified from the place that was reached before, so that a log that is another one now is an error, never a restart.
"""

import threading
import time
from collections import deque
from collections.abc import Callable, Collection, Iterator, Sequence
from contextlib import suppress
from dataclasses import dataclass
from typing import Any, NamedTuple, Self

from eventstore.errors import CursorRefused, InvalidSessionId, LogDamaged, LogRolledBack, SessionNotFound
from eventstore.events import AnyEvent, SessionAdjusted, SessionCreated, SessionUpdated, UnknownEvent
from eventstore.ids import STORE_ID, check_session_id
from eventstore.log.base import BEGINNING, Head
from eventstore.log.engine import EventLog
from eventstore.record import codec
from eventstore.subscriptions.positions import Cursor, Cursors, Journal, Places, parse
from projections.models import SessionMetadata

_LOOK_SECONDS = 2.0
_SLICE_SECONDS, _PAUSE_SECONDS = 0.002, 0.002
_HOT_SECONDS, _HOT_STEP_SECONDS = 2.0, 0.005
_LOOK_SHARE = 100  # a look at all logs takes at most this part of the time
_SAVE_SECONDS = 0.1
_KEPT_CHUNKS = 4096
_NOW = "now"
_DESCRIBING = (SessionCreated, SessionUpdated, SessionAdjusted)


class Wanted(NamedTuple):
    """Which events a follower gives; all of these must fit.

    `types` and `tools` are those of the event; `user_id` and `tags` those of its session, as they are when it is given, tags any
    of them; `since` the time it was recorded, RFC 3339 UTC.
    """

    types: Collection[str] | None = None
    tools: Collection[str] | None = None
    user_id: str | None = None
    tags: Collection[str] | None = None
    since: str | None = None

    def takes(self, event: AnyEvent | UnknownEvent) -> bool:
        """Tell whether an event fits, whatever its session."""
        return (
            (self.types is None or event.type in self.types)
            and (self.tools is None or getattr(event, "tool_name", None) in self.tools)
            and (self.since is None or event.at >= self.since)
        )


@dataclass(slots=True)
class _Chunk:
    """Events read at once: whose, from which place on, and the line of the journal in front of them."""

    session_id: str
    start: Head
    end: Head
    mark: tuple[str, int, str] | None = None


class Followed:
    """An event that was followed to, the session it is in, and the cursor to go on behind it with."""

    __slots__ = ("_chunk", "_follower", "_offset", "event", "session_id")

    def __init__(self, follower: "Follower", chunk: _Chunk, event: AnyEvent | UnknownEvent, offset: int) -> None:
        self.session_id, self.event = chunk.session_id, event
        self._follower, self._chunk, self._offset = follower, chunk, offset

    @property
    def cursor(self) -> str:
        """A short text, valid after restarts of reader and writer: give it as `after` to go on behind this event.

        Of a follower of all sessions it is to be asked for in time: raises ValueError once thousands of later ones were taken.
        """
        event = self.event
        place = Head(event.seq, event.at, event.hash, self._offset)
        return self._follower.cursor_at(self._chunk, place)

    def __repr__(self) -> str:
        return f"<Followed {self.session_id!r} event {self.event.seq} {self.event.type}>"


@dataclass(frozen=True)
class Source:
    """What a follower follows: a log, the cursors beside it, and what else is known of sessions.

    `ended` tells how many events sessions had at most that had an id and were deleted or put in the trash; 0 where none were.
    """

    log: EventLog
    cursors: Cursors
    describe: Callable[[str], SessionMetadata]
    ended: Callable[[str], int]


class Follower(Iterator[Followed]):
    """Gives events as they are committed: whole batches, in order within a session. Iterate over it; close it in the end.

    Raises LogRolledBack where a log is another one now, LogDamaged where one cannot be read (of all sessions: `on_damage` hears
    of it); the next call goes on with the other sessions. One thread may iterate; `stop` may be called from any.
    """

    def __init__(
        self,
        source: Source,
        session_id: str | None,
        after: str | int | None,
        wanted: Wanted,
        *,
        live: bool,
        name: str | None,
        on_damage: Callable[[LogDamaged], None],
    ) -> None:
        self._source, self._log, self._session_id = source, source.log, session_id
        self._wanted, self._live, self._name, self._on_damage = wanted, live, name, on_damage
        self._ready: deque[Followed] = deque()
        self._due: dict[str, None] = {}
        self._hot: dict[str, float] = {}
        self._given_up: dict[str, int] = {}
        self._sizes: dict[str, int] = {}
        self._known: dict[str, SessionMetadata] = {}
        self._stopped, self._closed = False, False
        self._saving = threading.Lock()
        self._saved_at = 0.0
        self._last: Followed | None = None
        self._done: Followed | None = None
        self._given: Followed | None = None
        kept = source.cursors.load(name) if name is not None and after is None else None
        self._places, self._cursor = self._begin(after if kept is None else kept)
        self._skipped: Places = {}
        if after == _NOW or wanted.since is not None:
            self._skip(None if after == _NOW else wanted.since)
        self._start = None if self._cursor is None else str(self._cursor)
        self._base, self._chunks = dict(self._places), deque[_Chunk]()
        self._journal: Journal | None = None
        if name is not None and kept is None:
            self._save_start(name)
        self._watch = self._log.watch(session_id) if live else None
        self._store = BEGINNING
        self._next_look = self._earliest_look = self._looked_seconds = 0.0
        self._looking: Iterator[str] | None = None
        self._is_hinted = False
        if session_id is None:
            with suppress(SessionNotFound, LogDamaged):
                self._store = self._log.head(STORE_ID)
        while not self._look():
            pass
        self._due = dict.fromkeys(sorted(self._due))

    def _begin(self, after: str | int | None) -> tuple[Places, Cursor | None]:
        """Find where to go on. Raises CursorRefused, SessionNotFound, LogDamaged, LogRolledBack."""
        one = self._session_id
        if one is not None:
            self._log.head(check_session_id(one)) if isinstance(after, int) else self._log.own_beginning(one)
        if after is None or after == _NOW:
            return {}, None
        if isinstance(after, int):
            if one is None:
                raise CursorRefused(str(after), "is a number of events, which only one session has")
            if after == 0:
                return {}, None
            last = next(self._log.read(one, after - 1, after), None) if after > 0 else None
            if last is None:
                raise CursorRefused(str(after), f"is no number of events that session {one!r} has had")
            return {one: Head(after, "", last.hash, 0)}, None
        cursor = parse(after)
        if bool(cursor.journal) != (one is None):
            raise CursorRefused(after, f"is one of {'all sessions' if cursor.journal else 'one session'}")
        if one is None:
            return self._source.cursors.places(cursor), cursor
        if cursor.session_id != one:
            raise CursorRefused(after, f"is one of session {cursor.session_id!r}")
        return {one: cursor.place}, cursor

    def _skip(self, since: str | None) -> None:
        """Begin, where no cursor says otherwise, with what was recorded since a time; None means now.

        Where that is belongs to all cursors, so it is found at once.
        """
        for one in list(self._log.ids()) if self._session_id is None else [self._session_id]:
            if one not in self._places:
                with suppress(SessionNotFound, LogDamaged):  # reading on comes to it
                    self._skipped[one] = self._in_front_of(one, since)
        self._places |= self._skipped

    def _in_front_of(self, session_id: str, since: str | None) -> Head:
        """Find the place in front of the first event recorded since a time; None means the end.

        Raises SessionNotFound, and LogDamaged where not even the beginning can be read.
        """
        with suppress(LogDamaged):
            last = self._log.peek(session_id)
            if since is None or last.at < since:
                return last
        place = BEGINNING if self._session_id is not None else self._log.own_beginning(session_id)
        with suppress(LogDamaged):
            while True:
                data, end = self._log.resume(session_id, place)
                offset = max(end.size_bytes - len(data), 0)
                for event, line in zip(codec.decode_lines(data), codec.lines(data), strict=True):
                    if since is not None and event.at >= since:
                        return place
                    offset += len(line) + 1
                    place = Head(event.seq, event.at, event.hash, offset)
                if not data:
                    break
        return place

    def _save_start(self, name: str) -> None:
        """Keep where it begins under its name: what comes from now on is not lost if it ends before it gave anything."""
        try:
            self._source.cursors.save(name, self.cursor)
        except BaseException:
            if self._journal is not None:
                self._journal.close()
            raise

    # --- giving

    def __iter__(self) -> Self:
        return self

    def __next__(self) -> Followed:
        if self._last is not None:
            self.mark_done(self._last)
        if not self._find():
            raise StopIteration
        found = self._last = self._given = self._ready.popleft()
        return found

    def take(self) -> list[Followed]:
        """Return all that is there, waiting for the first of them; nothing once stopped, or at the end where it is not live."""
        if self._last is not None:
            self.mark_done(self._last)
        self._find()
        found = list(self._ready)
        self._ready.clear()
        if found:
            self._last = self._given = found[-1]
        return found

    def mark_done(self, one: Followed) -> None:
        """Tell that all up to an event is dealt with: its cursor may be kept under the name. Asking for the next tells so too."""
        self._last, self._done = None, one

    def _find(self) -> bool:
        """Wait until there is something to give; False where nothing comes any more."""
        while not self._ready:
            if self._stopped or not (self._due or self._live):
                self._save(force=True)
                return False
            if self._due:
                self._read(next(iter(self._due)))
            else:
                self._save(force=True)
                self._wait()
        self._save()
        return True

    def stop(self) -> None:
        """Let the iteration end, from any thread."""
        self._stopped = True
        if self._watch is not None:
            self._watch.wake()

    def close(self) -> None:
        """Save the cursor that has a name, and let go of files. What was not done with by then comes again. From any thread."""
        self.stop()
        self._save(force=True)
        if self._watch is not None:
            self._watch.close()
        with self._saving:
            self._closed = True
            if self._journal is not None:
                self._journal.close()

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def _save(self, *, force: bool = False) -> None:
        """Keep the cursor of the last event that was dealt with under the follower's name."""
        now = time.monotonic()
        if self._name is None or not (force or now - self._saved_at >= _SAVE_SECONDS):
            return
        with self._saving:
            done, self._done = self._done, None
            if done is not None:
                cursor = done.cursor
                if self._journal is not None:
                    self._journal.write(durable=True)
                self._source.cursors.save(self._name, cursor)
                self._saved_at = now

    # --- cursors

    @property
    def cursor(self) -> str:
        """Where it stands, as a cursor: behind the last event it gave, or where it began. It survives a crash of the machine.

        For the thread that iterates. Of all sessions it is to be asked for at the beginning, or in time, as those of events.
        """
        if self._given is not None:
            found = self._given.cursor
        elif self._start is not None:
            found = self._start
        elif self._session_id is not None:
            found = str(Cursor(self._session_id, self._base.get(self._session_id, BEGINNING)))
        else:
            found = self._begin_journal()[1]
        if self._journal is not None and not self._closed:
            self._journal.write(durable=True)
        return found

    def cursor_at(self, chunk: _Chunk, place: Head) -> str:
        """Make the cursor of a place in what was read."""
        if self._session_id is not None:
            return str(Cursor(chunk.session_id, place))
        journal = self._journal or self._begin_journal()[0]
        if chunk.mark is None:
            raise ValueError("the cursor of an event is to be asked for before thousands of later ones are taken")
        journal.write()
        if self._closed:
            journal.close()
        return str(Cursor(chunk.session_id, place, *chunk.mark))

    def _begin_journal(self) -> tuple[Journal, str]:
        """Write down where everything stood in front of the oldest chunk that is still known, and mark the others.

        The cursor of that place is returned too.
        """
        journal = self._journal = self._source.cursors.journal(self._base, self._cursor)
        if self._cursor is not None:
            for session_id, place in self._skipped.items():
                journal.add(session_id, place)
        start = str(Cursor("", BEGINNING, journal.name, journal.end, journal.check))
        self._start = self._start or start
        for chunk in self._chunks:
            chunk.mark = journal.name, journal.end, journal.check
            journal.add(chunk.session_id, chunk.end)
        self._chunks.clear()
        return journal, start

    def _keep(self, chunk: _Chunk) -> None:
        if self._session_id is not None:
            return
        if self._journal is not None:
            if self._journal.end > self._journal.enough:
                self._journal.close()
                self._journal = self._source.cursors.journal(self._places)
            chunk.mark = self._journal.name, self._journal.end, self._journal.check
            self._journal.add(chunk.session_id, chunk.end)
            return
        self._chunks.append(chunk)
        if len(self._chunks) > _KEPT_CHUNKS:
            oldest = self._chunks.popleft()
            self._base[oldest.session_id] = oldest.end
            self._cursor = None  # its journal does not lead here

    # --- reading

    def _read(self, session_id: str) -> None:
        """Read some of what is new in a session."""
        self._due.pop(session_id, None)
        if session_id == STORE_ID:
            self._read_store()
            return
        size = self._log.size_bytes(session_id)
        if self._given_up.get(session_id) == size:
            return
        try:
            place = self._places.get(session_id) or self._first_place(session_id)
            data, end = self._log.resume(session_id, place)
            events = list(codec.decode_lines(data))
            is_wanted = bool(events) and self._takes_session(session_id, events)
        except SessionNotFound:
            self._miss(session_id)
        except LogRolledBack as error:
            self._judge(session_id, error)
        except LogDamaged as damage:
            self._give_up(session_id, damage)
        else:
            self._given_up.pop(session_id, None)
            if not data or end.size_bytes == size:
                self._sizes[session_id] = size
            else:
                self._due[session_id] = None  # there may be more
            if not data:
                return
            chunk = _Chunk(session_id, place, end)
            self._keep(chunk)
            self._places[session_id] = end
            if is_wanted:
                self._give(chunk, events, data)

    def _first_place(self, session_id: str) -> Head:
        """Tell where a session begins for us: a follower of all reads what a fork inherits with its parent."""
        if self._wanted.since is not None:
            return self._in_front_of(session_id, self._wanted.since)
        return BEGINNING if self._session_id is not None else self._log.own_beginning(session_id)

    def _give(self, chunk: _Chunk, events: Sequence[AnyEvent | UnknownEvent], data: bytes) -> None:
        offset = max(chunk.end.size_bytes - len(data), 0)
        for event, line in zip(events, codec.lines(data), strict=True):
            offset += len(line) + 1
            if self._wanted.takes(event):
                self._ready.append(Followed(self, chunk, event, offset))

    def _takes_session(self, session_id: str, events: Sequence[AnyEvent | UnknownEvent]) -> bool:
        """Tell whether a session fits, as it is now; what was known of it is not believed where new events may change it."""
        wanted = self._wanted
        if wanted.user_id is None and wanted.tags is None:
            return True
        known = self._known.get(session_id)
        if known is None or any(isinstance(event, _DESCRIBING) for event in events):
            known = self._known[session_id] = self._source.describe(session_id)
        return (wanted.user_id is None or known.user_id == wanted.user_id) and (
            wanted.tags is None or any(tag in known.tags for tag in wanted.tags)
        )

    def _read_store(self) -> None:
        """See which sessions came and went, by the store's own log."""
        try:
            data, end = self._log.resume(STORE_ID, self._store)
        except (SessionNotFound, LogRolledBack, LogDamaged):
            return  # the look at all sessions finds them
        if not data:
            return
        for event in codec.decode_lines(data):
            named = getattr(event, "session_id", None)
            if named is not None and _is_session(named):
                self._warm(named)
        self._store = end
        self._due[STORE_ID] = None

    def _miss(self, session_id: str) -> None:
        """A session is not there: not begun yet, deleted, or gone without a word."""
        place = self._places.get(session_id)
        self._sizes[session_id] = 0
        if place is not None and self._source.ended(session_id) < place.version:
            error = LogRolledBack(session_id, place.version, "is gone, and nothing tells of its deletion")
            if not self._log.size_bytes(session_id):
                self._give_up(session_id, error)

    def _judge(self, session_id: str, error: LogRolledBack) -> None:
        """A log is not the one that was read: another session that has the id now, or one that was rolled back."""
        if self._source.ended(session_id) < error.seq:
            self._give_up(session_id, error)
        else:
            self._places.pop(session_id, None)
            self._due[session_id] = None

    def _give_up(self, session_id: str, error: LogRolledBack | LogDamaged) -> None:
        self._given_up[session_id] = self._sizes[session_id] = self._log.size_bytes(session_id)
        if isinstance(error, LogDamaged) and self._session_id is None:
            self._on_damage(error)
        else:
            raise error

    # --- waiting

    def _wait(self) -> None:
        """Wait for a hint, or until it is time to look without one."""
        assert self._watch is not None  # noqa: S101 - only who is live waits
        now = time.monotonic()
        rest = self._next_look - now if self._looking is None else _PAUSE_SECONDS
        if self._hot:
            rest = min(rest, _HOT_STEP_SECONDS)
        if rest > 0:
            hinted = self._watch.wait(rest)
            if hinted is None:
                self._next_look, self._is_hinted = min(self._next_look, self._earliest_look), True
            else:
                for one in hinted:
                    self._hint(one)
            self._look_at_hot()
        if self._looking is not None or time.monotonic() >= self._next_look:
            self._look()

    def _hint(self, one: str) -> None:
        if one == STORE_ID and self._session_id is None:
            self._due[one] = None
        elif one in self._places or (self._session_id is None and _is_session(one)):
            if one not in self._places:
                self._warm(one)
            self._due[one] = None
        elif one == self._session_id:
            self._due[one] = None

    def _warm(self, session_id: str) -> None:
        """Look at a session often for a while: the system may not tell yet of what happens in a folder that is new."""
        self._hot[session_id] = time.monotonic() + _HOT_SECONDS
        self._due[session_id] = None

    def _look_at_hot(self) -> None:
        now = time.monotonic()
        for session_id, until in list(self._hot.items()):
            if now > until:
                del self._hot[session_id]
            if self._log.size_bytes(session_id) != self._sizes.get(session_id):
                self._due[session_id] = None

    def _look(self) -> bool:
        """Find what is new without any hint, in slices: what comes meanwhile does not wait for all logs. True at the end."""
        began = time.monotonic()
        if self._looking is None:
            self._looking, self._looked_seconds, self._is_hinted = self._all(), 0.0, False
            if self._session_id is None:
                self._due[STORE_ID] = None
        for session_id in self._looking:
            if self._log.size_bytes(session_id) != self._sizes.get(session_id):
                self._due[session_id] = None
            if time.monotonic() - began > _SLICE_SECONDS:
                self._looked_seconds += time.monotonic() - began
                return False
        now = time.monotonic()
        self._looking, took = None, self._looked_seconds + now - began
        self._earliest_look = now + 20 * took
        self._next_look = self._earliest_look if self._is_hinted else now + max(_LOOK_SECONDS, _LOOK_SHARE * took)
        return True

    def _all(self) -> Iterator[str]:
        if self._session_id is not None:
            yield self._session_id
            return
        seen: set[str] = set()
        for session_id in self._log.ids():
            seen.add(session_id)
            yield session_id
        yield from [one for one in self._places if one not in seen]


def _is_session(name: str) -> bool:
    try:
        check_session_id(name)
    except InvalidSessionId:
        return False
    return True


def make_wanted(
    types: Collection[str] | None,
    tools: Collection[str] | None,
    user_id: str | None,
    tags: Collection[str] | None,
    since: str | None,
) -> Wanted:
    """Check what a follower is asked for. Raises ValueError for a text where several are wanted."""
    given: dict[str, Any] = {"types": types, "tools": tools, "tags": tags}
    for name, value in given.items():
        if isinstance(value, str):
            raise ValueError(f"{name} is not a list of texts")
    return Wanted(types, tools, user_id, tags, since)
