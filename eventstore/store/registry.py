"""Sessions as wholes: created, imported, forked, kept as templates, deleted. Each step is recorded in the right order.

The README of this folder gives the order of the steps, and why.
"""

from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

from eventstore.errors import EventStoreError, LogDamaged, SessionExists, SessionNotFound, VersionConflict
from eventstore.events import Event, SessionCreated, StoreSessionCreated, StoreSessionDeleted, StoreSessionForked
from eventstore.ids import TEMPLATE, check_session_id
from eventstore.log.base import Head
from eventstore.log.engine import EventLog
from eventstore.log.ingest import Whole
from eventstore.store.lock import StoreLock, refusing
from eventstore.store.registry_log import RegistryLog
from eventstore.store.settling import settle_quietly
from projections.store import State


class Registry(RegistryLog):
    """What the sessions of a log have to do with each other. Safe for threads, with a `folder` for processes too."""

    def __init__(self, log: EventLog, folder: Path | None = None) -> None:
        self.lock = StoreLock(log, folder)
        self._is_settled = False
        super().__init__(log)

    def begin_in_child(self) -> None:
        """Let go of what another thread held when the process was forked."""
        super().begin_in_child()
        self.lock.begin_in_child()

    @contextmanager
    def locked(self) -> Iterator[None]:
        """Hold the lock of the store, and first settle what others left unfinished. A thread that holds it may take it again.

        Whoever changes the registry and a log together holds it: a parent is deleted only when no fork of it is being made.
        Raises OperationRefused where the system refuses the lock.
        """
        with self.lock.held():
            if self.lock.depth == 1:
                self._settle()
            yield

    def _settle(self) -> None:
        self._is_settled = settle_quietly(self._log, self, everything=not self._is_settled)

    def unsettle(self) -> None:
        """Let the next writer compare all of the registry with all of the log: something could not be recorded."""
        self._is_settled = False

    def settle_all(self) -> None:
        """Compare all of the registry with all of the log, and mend the registry where a crash left them apart."""
        self.unsettle()
        with self.locked():
            pass

    # --- sessions that came into being

    def note_created(self, created: dict[str, int]) -> None:
        """Record sessions that were created, by id, with the number of events before their first own one. Never fails.

        The first one of this object settles the store too, unless another writer has the lock: then that one does.
        """
        if not self.record_created(created):
            self.unsettle()
        elif not self._is_settled:
            with suppress(EventStoreError), self.lock.held(wait=False) as is_held:
                if is_held:
                    self._settle()

    def note_origin(self, whole: Whole) -> None:
        """Record that a log is about to be imported that is a fork of another."""
        assert whole.origin is not None  # noqa: S101 - asked before
        origin = whole.origin
        self.note(StoreSessionForked(session_id=whole.session_id, parent=origin.parent, upto=origin.seq))

    def note_adopted(self, whole: Whole, *, ended: int = 0, is_new: bool = False) -> None:
        """Record a log that was imported, where it is not recorded, say because a crash came in between.

        One that `is_new` is recorded in any case: an earlier session of that id, which did not end, is another one. `ended` is
        how many events a session of this id had that was deleted where the log came from.
        """
        self.record(lambda state: list(_adopted(state, whole, ended, is_new)))

    def clear_empty(self, log_id: str) -> None:
        """Remove the empty log that a killed or refused creation left under an id, so that a log can be moved there."""
        if self._log.size_bytes(log_id):
            return  # also a damaged log, of which no event can be read
        with suppress(EventStoreError, OSError):  # it has events by now: whoever moves a log there finds that out
            self._log.remove(log_id, expected_version=0)

    # --- forks

    def fork(self, session_id: str, parent: str, version: int, event: SessionCreated) -> None:
        """Begin a session with the first `version` events of another, as `EventLog.fork` does. Raises as that does."""
        with self.locked(), refusing(session_id, "forked"):
            if self._log.exists(session_id):
                raise SessionExists(session_id)
            self._fork(session_id, parent, version, event)

    def _fork(self, log_id: str, parent: str, version: int, event: SessionCreated) -> None:
        """Announce the fork, make it, record it. An announcement of one that was not made says nothing wrong."""
        self._log.point_at(parent, version)
        self.note(StoreSessionForked(session_id=log_id, parent=parent, upto=version))
        try:
            self._log.fork(log_id, parent, version, event)
        except VersionConflict:
            raise SessionExists(log_id.removeprefix(TEMPLATE)) from None
        self.note_created({log_id: version})

    def save_template(self, name: str, parent: str, version: int, event: SessionCreated) -> None:
        """Keep the first `version` events of a session as a template. Raises SessionExists where the name is taken."""
        log_id = TEMPLATE + check_session_id(name)
        with self.locked(), refusing(log_id, "made"):
            if self._log.exists(log_id):
                raise SessionExists(name)
            self._fork(log_id, parent, version, event)

    def template(self, name: str) -> tuple[str, int]:
        """Return the id of a template's log, and its version. Raises SessionNotFound for the template."""
        try:
            log_id = TEMPLATE + check_session_id(name)
            return log_id, self._log.head(log_id).version
        except SessionNotFound:
            raise SessionNotFound(name) from None

    def templates(self) -> list[str]:
        """List the names of templates, of damaged ones too."""
        return [name for name in self.look(State.templates) if self.is_there(TEMPLATE + name)]

    def is_there(self, log_id: str) -> bool:
        """Tell whether there is a log with events, or a damaged one."""
        try:
            return self._log.exists(log_id)
        except LogDamaged:
            return True

    def make_descendants_whole(self, log_id: str) -> None:
        """Copy to the forks of a session the events they have of it, before it is deleted. Raises LogDamaged."""
        for one in self.look(lambda state: state.descendants(log_id)):
            with suppress(SessionNotFound):
                self._log.make_whole(one)

    # --- ends

    def announce(self, event: Event, session_id: str) -> None:
        """Record the end of a session before it happens, and first its creation where that is missing."""
        self.record(lambda state: [*self.missing(state, session_id), event])

    def settled(self, *, names: tuple[str, ...] = (), ids: tuple[str, ...] = ()) -> None:
        """Say that what was announced has happened: nobody needs to look after it."""

        def strike(state: State) -> None:
            state.unsettled_names.difference_update(names)
            state.unsettled_ids.difference_update(ids)

        with suppress(EventStoreError):
            self.look(strike)

    def delete(self, log_id: str, reason: str | None) -> bool:
        """Delete a session or a template for good, a damaged one too; False where there was none.

        Raises LogDamaged where a fork cannot be made independent: then nothing is deleted. Raises OperationRefused.
        """
        with self.locked(), refusing(log_id, "deleted"):
            while True:
                with suppress(VersionConflict):  # somebody appended since: record again how much is deleted
                    return self._delete(log_id, reason)

    def _delete(self, log_id: str, reason: str | None) -> bool:
        version: int | None = None
        try:
            head = self._log.head(log_id)
            version = head.version
        except SessionNotFound:
            return False
        except LogDamaged as damage:
            head = Head(damage.readable, "", "", damage.offset_bytes)
            reason = f"{reason or 'no reason given'}; its log was damaged at line {damage.line}"
        self.make_descendants_whole(log_id)
        deleted = StoreSessionDeleted(
            session_id=log_id, events=head.version, size_bytes=head.size_bytes, head_hash=head.hash, reason=reason
        )
        self.announce(deleted, log_id)
        try:
            is_gone = self._log.remove(log_id, expected_version=version)
        except VersionConflict:
            raise
        except (EventStoreError, OSError):
            if self.is_there(log_id):
                self._settle()  # records that the session is still there
                raise
            is_gone = True  # the log is gone; what was derived from it may be left
        self.settled(ids=(log_id,))
        return is_gone


def _adopted(state: State, whole: Whole, ended: int, is_new: bool) -> Iterator[Event]:
    """Make the records that an imported log lacks."""
    session_id = whole.session_id
    parents = set(state.parents.keys() & {session_id})
    if ended > state.used.get(session_id, 0) and session_id not in state.there:
        reason = "reported by the archive that the session of this id came from"
        yield StoreSessionDeleted(session_id=session_id, events=ended, size_bytes=0, head_hash="", reason=reason)
        parents.clear()  # that record ends the fork as well
    if whole.origin and not parents:
        origin = whole.origin
        yield StoreSessionForked(session_id=session_id, parent=origin.parent, upto=origin.seq)
    if is_new or session_id not in state.there:
        yield StoreSessionCreated(session_id=session_id, first_hash=whole.first_hash)
