"""The state cache: folded states of sessions, each continued from its last event with one call of the log."""

import threading
from collections import OrderedDict
from collections.abc import Iterable, Iterator
from itertools import chain
from typing import Generic, NamedTuple, Protocol, TypeVar

from eventstore.errors import SessionNotFound
from eventstore.events import EventRedacted
from eventstore.log.base import BEGINNING, Head
from eventstore.log.engine import EventLog
from eventstore.record import codec, hash_chain, message_run
from projections.fold import Fold, FoldInput

S = TypeVar("S")


class Mark(NamedTuple):
    """The identity of a log's file at one moment: inode, size in bytes, time of last change in nanoseconds."""

    inode: int
    size_bytes: int
    mtime_ns: int

    def follows(self, other: "Mark") -> bool:
        """Return whether this may be the same file after more appends."""
        return self.inode == other.inode and self.size_bytes > other.size_bytes and self.mtime_ns >= other.mtime_ns


class CachedState(NamedTuple, Generic[S]):
    """A folded state, and the place in the log that it includes. The state is shared: do not change it.

    `mark` is set where the state came from a snapshot: the events before the snapshot were not verified.
    """

    head: Head
    state: S
    mark: Mark | None = None


class Opener(Protocol[S]):
    """Folds a session from a snapshot, or from a state that this returned before; None if a full replay is needed."""

    def __call__(
        self, session_id: str, known: CachedState[S] | None = None, version: int | None = None
    ) -> CachedState[S] | None: ...


class StateCache(Generic[S]):
    """The states of sessions under one projection. Safe for threads.

    The last state stays cached; older ones stay while all cached sessions together have at most `most_events` events.
    `from_snapshot` folds a session that is not cached from its snapshot.
    """

    def __init__(self, log: EventLog, projection: Fold[S], most_events: int) -> None:
        self._log, self._projection, self._most_events = log, projection, most_events
        self.from_snapshot: Opener[S] = _replay
        self._kept: OrderedDict[str, CachedState[S]] = OrderedDict()
        self._events = 0
        self._mutex = threading.Lock()

    def get(self, session_id: str, head: Head | None = None) -> CachedState[S]:
        """Fold a session up to its end. Raises SessionNotFound, LogDamaged.

        `head` is an end that this returned before, for a caller who knows that the log did not change since: the log is not asked
        while that state is cached.
        """
        with self._mutex:
            known = self._kept.get(session_id)
        if known is not None and known.head == head:
            return known
        if known is None or known.mark is not None:
            found = self.from_snapshot(session_id, known)
            if found is not None:
                if found is not known:
                    self._keep(session_id, found)
                return found
            known = None
        found = self._read_on(session_id, known) or self._read_on(session_id, None)
        if found is None:
            raise SessionNotFound(session_id)
        if found is not known:
            self._keep(session_id, found)
        return found

    def get_sized(self, session_id: str) -> CachedState[S]:
        """Fold a session as `get` does, with the size of the log in `head`. Costs one more call of the log.

        The end is asked for once, and the state folded up to it: looking for it again and again stays behind a busy writer.
        """
        while True:
            found: CachedState[S] | None = self.get(session_id)
            head = self._log.head(session_id)
            if found is not None and found.head.version < head.version:
                found = self._read_on(session_id, found, head.version)
            if found is not None and (found.head.version, found.head.hash) == (head.version, head.hash):
                if found.head != head:
                    found = found._replace(head=head)
                self._keep(session_id, found)
                return found

    def get_verified(self, session_id: str) -> CachedState[S]:
        """Fold a session up to its end as `get` does, with every event verified; no snapshot is used."""
        with self._mutex:
            known = self._kept.get(session_id)
        if known is None or known.mark is not None:
            head = self._log.head(session_id)
            self._keep(session_id, CachedState(head, self._fold(session_id, head.version)))
        return self.get_sized(session_id)

    def has(self, session_id: str) -> bool:
        """Return whether a session's state is cached."""
        return session_id in self._kept

    def get_at(self, session_id: str, version: int) -> S:
        """Fold a session up to a version. Raises SessionNotFound, LogDamaged."""
        snapshot = None if self.has(session_id) else self.from_snapshot(session_id, None, version)
        if snapshot is not None:
            return snapshot.state
        found = self.get(session_id) if self._log.head(session_id).version == version else None
        return self._fold(session_id, version) if found is None or found.head.version != version else found.state

    def forget(self, session_id: str) -> None:
        """Drop the cached state of a session."""
        with self._mutex:
            self._drop(session_id)

    def _read_on(self, session_id: str, known: CachedState[S] | None, upto: int | None = None) -> CachedState[S] | None:
        """Fold the events after a known state, with one call of the log; None if the log was replaced or redacted."""
        place = BEGINNING if known is None else known.head
        chunks = self._log.chunks(session_id, max(place.version - 1, 0), upto)
        if known is not None:
            line, _, rest = next(chunks, b"").partition(b"\n")
            parts = hash_chain.split(line)
            if parts is None or parts[1].hex() != place.hash:
                return None
            chunks = chain([rest], chunks) if rest else chunks
        first = next(chunks, b"")
        if not first:
            return known
        passed = _Passed(chain([first], chunks))
        try:
            events = _unless_redacted(passed.events(), place.version)
            state = self._projection.fold(events, None if known is None else known.state)
        except _Redacted:
            return None
        last = codec.decode(passed.last[passed.last.rfind(b"\n", 0, -1) + 1 : -1])
        mark = None if known is None else known.mark
        return CachedState(Head(last.seq, last.at, last.hash, place.size_bytes + passed.size_bytes), state, mark)

    def _fold(self, session_id: str, version: int) -> S:
        return self._projection.fold(self._log.skim(session_id, 0, version))

    def _keep(self, session_id: str, found: CachedState[S]) -> None:
        with self._mutex:
            self._drop(session_id)
            self._kept[session_id] = found
            self._events += found.head.version
            while self._events > self._most_events and len(self._kept) > 1:  # the newest stays, however long it is
                self._drop(next(iter(self._kept)))

    def _drop(self, session_id: str) -> None:
        gone = self._kept.pop(session_id, None)
        if gone is not None:
            self._events -= gone.head.version


class _Passed:
    """Passes chunks to a fold, and keeps their total size and the last one."""

    def __init__(self, chunks: Iterable[bytes]) -> None:
        self._chunks, self.size_bytes, self.last = chunks, 0, b""

    def events(self) -> Iterator[FoldInput]:
        """Stream the events in them."""
        for chunk in self._chunks:
            self.size_bytes, self.last = self.size_bytes + len(chunk), chunk
            yield from message_run.read_runs(chunk)


class _Redacted(Exception):
    """Events that are included in a state were redacted."""


def _unless_redacted(new: Iterable[FoldInput], version: int) -> Iterator[FoldInput]:
    """Stream the events after a version. Raises _Redacted where one of them redacts an event up to that version."""
    for told in new:
        if isinstance(told, EventRedacted) and told.target <= version:
            raise _Redacted
        yield told


def _replay(session_id: str, known: object = None, version: int | None = None) -> None:
    """The default opener: there is no snapshot."""
