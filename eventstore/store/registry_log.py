"""The registry log `_store`: which sessions exist and existed. Its state is folded by `projections.store`.

The operations on sessions are in `registry` and `retention`.
"""

import errno
import threading
from collections.abc import Callable, Iterator, Sequence
from contextlib import suppress
from typing import NamedTuple, TypeVar

from eventstore.errors import (
    EventStoreError,
    LogDamaged,
    LogRolledBack,
    OutcomeUnknown,
    SessionNotFound,
    VersionConflict,
)
from eventstore.events import (
    Event,
    LogRepaired,
    SessionCreated,
    StoreSessionCreated,
    StoreSessionForked,
)
from eventstore.ids import STORE_ID
from eventstore.log.base import BEGINNING, Head
from eventstore.log.engine import EventLog
from eventstore.log.group import Group
from eventstore.record import codec
from projections import store as store_fold
from projections.store import Life, State

T = TypeVar("T")
_LINGER = 1.0  # over a network


class _Begun(NamedTuple):
    """A created session: the number of its inherited events, and the hash of its first own one; empty if it is gone."""

    before: int
    first: str


class RegistryLog:
    """The registry of one log, read incrementally: a question costs the events since the last one. Safe for threads."""

    def __init__(self, log: EventLog) -> None:
        self._log = log
        self._forget()
        self.begin_in_child()

    def begin_in_child(self) -> None:
        """Reset the locks that another thread may have held when the process was forked."""
        self._mutex = threading.Lock()  # guards the state and the place
        linger = _LINGER if self._log.capabilities.blocking else 0.0
        self._creating = Group[dict[str, _Begun], bool](threading.Lock(), self._interrupted, linger)

    def _forget(self) -> None:
        self._state, self._place = State(), BEGINNING

    # --- reading

    def look(self, question: Callable[[State], T]) -> T:
        """Answer a question about the present registry. The answer must not keep the state, which later calls change.

        Raises LogDamaged if the registry is damaged.
        """
        with self._mutex:
            self._catch_up()
            return question(self._state)

    def state(self) -> State:
        """Return a copy of the registry's state; the cost grows with the number of sessions. Raises LogDamaged."""
        return self.look(State.copy)

    def _catch_up(self) -> Head:
        """Apply the new events, and return the end of the registry."""
        while True:
            try:
                data, here = self._log.resume(STORE_ID, self._place)
            except (LogRolledBack, SessionNotFound):
                if not self._place.version:
                    return BEGINNING
                self._forget()  # the log was replaced: read the new one
                continue
            if not data:
                return self._place
            for event in codec.decode_lines(data):
                store_fold.apply(self._state, event)
            self._place = here

    # --- recording

    def note(self, event: Event) -> int:
        """Append an event to the registry without a check of its state; return its number. Raises as `EventLog.append`."""
        try:
            return self._log.append(STORE_ID, [event]).last
        except SessionNotFound:
            try:
                return self._log.append(STORE_ID, [event], expected_version=0).last
            except VersionConflict:
                return self._log.append(STORE_ID, [event]).last

    def record(self, decide: Callable[[State], Sequence[Event]]) -> None:
        """Append the events that `decide` returns for the state, as one batch. Repeats where another writer was faster.

        So `decide` has seen the state right before its events. Nothing is appended where it returns none.
        Raises what `EventLog.append` raises.
        """
        while True:
            with self._mutex:
                version = self._catch_up().version
                events = decide(self._state)
            if not events:
                return
            with suppress(VersionConflict, SessionNotFound):  # not found: the registry itself was deleted
                self._log.append(STORE_ID, events, expected_version=version)
                return

    def record_created(self, created: dict[str, int]) -> bool:
        """Record created sessions, by id, each with the number of inherited events.

        Threads that call at the same time share one append. Returns False if the registry could not be written: the sessions
        exist, and a later writer records them (see `settle`).
        """
        try:
            # Each thread reads its own, before it waits for the one that records them.
            begun = {one: _Begun(before, self.first_hash(one, before)) for one, before in created.items()}
            return self._creating.do(begun, self._record_all)
        except (EventStoreError, OSError):
            return False

    def _record_all(self, pieces: Sequence[dict[str, _Begun]]) -> list[bool]:
        """Record the created sessions of several threads in one append."""
        created = {session_id: begun for piece in pieces for session_id, begun in piece.items()}
        self.record(lambda state: list(self._unrecorded(state, created)))
        return [True] * len(pieces)

    def _interrupted(self) -> OutcomeUnknown:
        return OutcomeUnknown(STORE_ID, self._log.backend.where(STORE_ID), errno.EINTR)

    def _unrecorded(self, state: State, created: dict[str, _Begun]) -> Iterator[Event]:
        """Yield the records of sessions that still exist and are not recorded.

        A writer that trashes or deletes a session first records its creation if that is missing. So a session whose id the state
        does not know exists. Of an id that had another session it is read again: it may have been deleted or replaced.
        """
        for session_id, (before, first) in created.items():
            known = state.lives.get(session_id)
            if known is not None and known.first_hash != first:
                first = self.first_hash(session_id, before)
            if first and (known is None or known.first_hash != first):
                yield StoreSessionCreated(session_id=session_id, first_hash=first)

    # --- comparing with a log

    def first_hash(self, session_id: str, before: int) -> str:
        """Return the hash of a session's first own event, which follows `before` inherited ones; empty without one.

        The session may have been deleted and created again since it was created with `before`: then the event at that
        number may be one that a fork inherits, or any event of another session, and does not prove a creation.
        """
        with suppress(SessionNotFound, LogDamaged):
            head = self._log.head(session_id)
            if head.version == 1 and not before:  # just created: no line need be read
                return head.hash
            event = next(self._log.read(session_id, before, before + 1), None)
            if event is None or self._log.own_beginning(session_id).version > before:
                return ""
            begins = not before or (isinstance(event, SessionCreated) and event.forked_from is not None)
            return event.hash if begins else ""
        return ""

    def fits(self, life: Life, session_id: str) -> bool:
        """Return whether a log is the recorded session: it has the same first own event, or was repaired since."""
        with suppress(SessionNotFound, LogDamaged):
            for before in {0, life.upto}:
                for event in self._log.read(session_id, before, before + 1):
                    if event.hash == life.first_hash or isinstance(event, LogRepaired):
                        return True
        return False

    def birth(self, session_id: str) -> list[Event]:
        """Return the records of an unrecorded session; none where it cannot be read or has no event."""
        with suppress(SessionNotFound, LogDamaged):
            before = self._log.own_beginning(session_id).version
            first = next(self._log.read(session_id, before, before + 1), None)
            if first is None:
                return []
            made: list[Event] = [StoreSessionCreated(session_id=session_id, first_hash=first.hash)]
            if before and isinstance(first, SessionCreated) and first.forked_from:
                parent = str(first.forked_from["session_id"])
                made.insert(0, StoreSessionForked(session_id=session_id, parent=parent, upto=before))
            return made
        return []

    def missing(self, state: State, session_id: str) -> list[Event]:
        """Return the records that are missing before a session's end can be recorded."""
        life = state.lives.get(session_id)
        if life is not None and session_id in state.there:
            return []
        if life is not None and self.fits(life, session_id):
            return []
        return self.birth(session_id)
