"""The registry: the log `_store`, which records what sessions there are and were. What it says is in `projections.store`.

How sessions are created, forked, deleted and moved is not in here.
"""

import threading
from collections.abc import Callable, Iterator, Sequence
from contextlib import suppress
from typing import TypeVar

from eventstore.errors import (
    EventStoreError,
    LogDamaged,
    LogRolledBack,
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
from eventstore.record import codec
from projections import store as store_fold
from projections.store import Life, State

T = TypeVar("T")


class RegistryLog:
    """The registry of one log, read incrementally: asking costs what was recorded since it was last asked. Safe for threads."""

    def __init__(self, log: EventLog) -> None:
        self._log = log
        self._forget()
        self.begin_in_child()

    def begin_in_child(self) -> None:
        """Let go of what another thread held when the process was forked."""
        self._mutex = threading.Lock()  # guards the state and the place
        self._creating = threading.Lock()  # one caller at a time records what all have created
        self._bringing = threading.Lock()  # guards what they have created
        self._created: dict[str, int] = {}

    def _forget(self) -> None:
        self._state, self._place = State(), BEGINNING

    # --- reading

    def look(self, question: Callable[[State], T]) -> T:
        """Answer a question about the registry as it is now. The answer must not hold the state: that goes on changing.

        Raises LogDamaged where the registry is damaged.
        """
        with self._mutex:
            self._catch_up()
            return question(self._state)

    def state(self) -> State:
        """Return a copy of all that the registry says; the cost grows with the number of sessions. Raises LogDamaged."""
        return self.look(State.copy)

    def _catch_up(self) -> Head:
        """Apply what was recorded since, and return where the registry ends."""
        while True:
            try:
                data, here = self._log.resume(STORE_ID, self._place)
            except (LogRolledBack, SessionNotFound):
                if not self._place.version:
                    return BEGINNING
                self._forget()  # somebody put another log in its place: read that one
                continue
            if not data:
                return self._place
            for event in codec.decode_lines(data):
                store_fold.apply(self._state, event)
            self._place = here

    # --- recording

    def note(self, event: Event) -> None:
        """Append an event to the registry, whatever it says by now. Raises what `EventLog.append` raises."""
        try:
            self._log.append(STORE_ID, [event])
        except SessionNotFound:
            try:
                self._log.append(STORE_ID, [event], expected_version=0)
            except VersionConflict:
                self._log.append(STORE_ID, [event])

    def record(self, decide: Callable[[State], Sequence[Event]]) -> None:
        """Append, as one batch, what `decide` makes of the state; it is asked again where another writer was faster.

        So what is recorded was true of the registry as it was right before. Nothing is appended where it returns nothing.
        Raises what `EventLog.append` raises.
        """
        while True:
            with self._mutex:
                version = self._catch_up().version
                events = decide(self._state)
            if not events:
                return
            with suppress(VersionConflict, SessionNotFound):  # not found: the registry itself was deleted meanwhile
                self._log.append(STORE_ID, events, expected_version=version)
                return

    def record_created(self, created: dict[str, int]) -> bool:
        """Record sessions that have their first own event, by id, each with the number of events before it.

        One append does for all threads that come at the same time. Returns False where the registry could not be written: the
        sessions are there all the same, and a later writer records them (see `settle`).
        """
        with self._bringing:
            self._created.update(created)
        with self._creating:
            with self._bringing:
                due, self._created = self._created, {}
            try:
                if due:
                    self.record(lambda state: list(self._unrecorded(state, due)))
            except (EventStoreError, OSError):
                return False
            return True

    def _unrecorded(self, state: State, created: dict[str, int]) -> Iterator[Event]:
        """Make the records of those that are still what the log has, and not recorded yet.

        A writer who trashes or deletes a session records its creation first where that is missing. So one that is not there any
        more, or was replaced, needs no record: it would come too late.
        """
        for session_id, before in created.items():
            first = self.first_hash(session_id, before)
            if first and state.lives.get(session_id, Life()).first_hash != first:
                yield StoreSessionCreated(session_id=session_id, first_hash=first)

    # --- comparing with a log

    def first_hash(self, session_id: str, before: int) -> str:
        """Return the hash of the event behind the first `before` ones; empty where it cannot be read."""
        with suppress(SessionNotFound, LogDamaged):
            event = next(self._log.read(session_id, before, before + 1), None)
            return "" if event is None else event.hash
        return ""

    def fits(self, life: Life, session_id: str) -> bool:
        """Tell whether a log is the session that was recorded: its first own event is the same, or was repaired since."""
        with suppress(SessionNotFound, LogDamaged):
            for before in {0, life.upto}:
                for event in self._log.read(session_id, before, before + 1):
                    if event.hash == life.first_hash or isinstance(event, LogRepaired):
                        return True
        return False

    def birth(self, session_id: str) -> list[Event]:
        """Make the records of a session that the registry does not know; none where it cannot be read, or has no event."""
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
        """Make the records that lack before a session's end can be recorded."""
        life = state.lives.get(session_id)
        if life is not None and session_id in state.there:
            return []
        if life is not None and self.fits(life, session_id):
            return []
        return self.birth(session_id)
