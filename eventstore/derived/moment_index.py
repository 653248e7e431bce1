"""The moment indexes of sessions: kept in memory, built at first use, continued by new events.

An index is built by one pass over the log: about four seconds for a million events, and about 100 bytes an event; or it is read
from the file that an earlier program left beside the log. Then every question about a moment is a search in memory, or that and
a read of the few events it names. After a redaction, and where the log was replaced, it is rebuilt.
"""

import threading
from collections.abc import Iterator, Sequence
from itertools import groupby
from typing import TYPE_CHECKING, Any

import msgspec

from eventstore.custom_events import ReadEvent
from eventstore.derived.state_cache import StateCache
from eventstore.events import DataSet
from eventstore.log.engine import EventLog
from eventstore.log.locking import hold_while_forking
from eventstore.record import codec
from projections import moments as moments_fold
from projections.moments import Moments
from projections.track import Kept

if TYPE_CHECKING:
    from eventstore.derived.moment_file import MomentFiles  # only stores in files have them

_MOST_EVENTS = 3_000_000
_NEAR = 256  # events that are this near to each other are read in one go, and only they are decoded: cheaper than another read


class MomentIndexes:
    """The indexes of the sessions of a log. Safe for threads.

    The last one stays; older ones while all have at most three million events together. `files` keep those of long sessions.
    """

    def __init__(self, log: EventLog, files: "MomentFiles | None" = None) -> None:
        self._log, self._files = log, files
        self._cache = StateCache(log, moments_fold.kept_projection, _MOST_EVENTS)
        if files is not None:
            self._cache.from_snapshot = files.open
        self._locks: dict[str, threading.Lock] = {}
        self._mutex = threading.RLock()
        hold_while_forking(self._mutex)

    def get(self, session_id: str) -> Moments:
        """Return the index of a session up to its end; it answers for every version up to its own.

        Other callers may continue it in the meantime, which changes no such answer. Raises SessionNotFound, LogDamaged.
        """
        with self._mutex:
            lock = self._locks.setdefault(session_id, threading.Lock())
        with lock:
            try:
                found = self._cache.get(session_id)
                files = self._files
                if files is not None and files.is_due(session_id, found.head.version):
                    mark = files.mark(session_id)
                    found = self._cache.get(session_id)
                    files.write(session_id, found, mark)
                return found.state
            except BaseException:
                self._cache.forget(session_id)  # it may be half way between two events
                raise

    def forget(self, session_id: str) -> None:
        """Drop the index of a session: its log was replaced, redacted or deleted."""
        self._cache.forget(session_id)
        if self._files is not None:
            self._files.forget(session_id)
        with self._mutex:
            lock = self._locks.get(session_id)
            if lock is not None and not lock.locked():
                del self._locks[session_id]

    def has(self, session_id: str) -> bool:
        """Return whether a session has an index now, so that no answer waits for it to be built."""
        return self._cache.has(session_id)

    def events(self, session_id: str, seqs: Sequence[int]) -> Iterator[ReadEvent]:
        """Read the events of these numbers, which are in order. Raises SessionNotFound, LogDamaged."""
        for near in _near(seqs):
            seq, wanted = near[0], set(near)
            for chunk in self._log.window(session_id, near[0] - 1, near[-1]):
                lines = chunk.split(b"\n")
                chosen = [line for seq, line in enumerate(lines, seq) if seq in wanted and line]
                seq += len(lines) - 1
                if chosen:
                    yield from codec.decode_lines(b"\n".join([*chosen, b""]))

    def values(self, session_id: str, found: Sequence[tuple[str, Kept]]) -> dict[str, Any]:
        """Return the values of a map, those that are not kept in the index from their events."""
        missing = sorted({kept.seq for _, kept in found if kept.json is None})
        events: dict[int, Any] = {event.seq: event for event in self.events(session_id, missing)}
        values: dict[str, Any] = {}
        for key, kept in found:
            if kept.json is not None:
                values[key] = msgspec.json.decode(kept.json)
                continue
            event = events.get(kept.seq)
            if isinstance(event, DataSet):
                values[key] = event.value
            else:
                values[key] = getattr(event, "custom_metadata", {}).get(key)
        return values


def _near(seqs: Sequence[int]) -> Iterator[list[int]]:
    """Group numbers in order, so that each is near to the one before it."""
    group, last = 0, 0
    places: list[tuple[int, int]] = []
    for seq in seqs:
        group += seq - last > _NEAR
        places.append((group, seq))
        last = seq
    return ([seq for _, seq in members] for _, members in groupby(places, key=lambda one: one[0]))
