"""The registry's operations: sessions are created, imported, forked, saved as templates and deleted in a safe order.

The README of this folder gives the order of the steps, and why.
"""

from collections.abc import Iterable, Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

from eventstore.errors import EventStoreError, LogDamaged, SessionExists, SessionNotFound, VersionConflict
from eventstore.events import (
    Event,
    SessionCreated,
    StoreEventsRedacted,
    StoreSessionCreated,
    StoreSessionDeleted,
    StoreSessionForked,
)
from eventstore.ids import STORE_ID, TEMPLATE, check_session_id
from eventstore.log.base import Head
from eventstore.log.engine import EventLog
from eventstore.log.ingest import VerifiedLog
from eventstore.log.redact import recorded_leaf
from eventstore.record import codec
from eventstore.store.lock import StoreLock, refusing
from eventstore.store.registry_log import RegistryLog
from eventstore.store.settling import settle_quietly
from projections.store import State


class Registry(RegistryLog):
    """The sessions of a log and their forks. Safe for threads; with a `folder`, for processes too."""

    def __init__(self, log: EventLog, folder: Path | None = None) -> None:
        self.lock = StoreLock(log, folder)
        self._is_settled = False
        super().__init__(log)

    def begin_in_child(self) -> None:
        """Reset the locks that another thread may have held when the process was forked."""
        super().begin_in_child()
        self.lock.begin_in_child()

    @contextmanager
    def locked(self) -> Iterator[None]:
        """Hold the lock of the store, after settling interrupted operations. A thread that holds it may take it again.

        Every operation that changes the registry and a log holds it: so no parent is deleted while it is forked.
        Raises OperationRefused if the system refuses the lock.
        """
        with self.lock.held():
            if self.lock.depth == 1:
                self._settle()
            yield

    def _settle(self) -> None:
        self._is_settled = settle_quietly(self._log, self, everything=not self._is_settled)

    def unsettle(self) -> None:
        """Make the next writer compare the full registry with the full log: something could not be recorded."""
        self._is_settled = False

    def settle_all(self) -> None:
        """Compare the full registry with the full log, and repair the registry where a crash left a difference."""
        self.unsettle()
        with self.locked():
            pass

    # --- created and imported sessions

    def note_created(self, created: dict[str, int]) -> None:
        """Record created sessions, by id, with the number of inherited events. Never fails.

        The first call also settles the store, unless another writer holds the lock and does it.
        """
        if not self.record_created(created):
            self.unsettle()
        elif not self._is_settled:
            with suppress(EventStoreError), self.lock.held(wait=False) as is_held:
                if is_held:
                    self._settle()

    def record_origin(self, verified: VerifiedLog) -> None:
        """Record that a fork of another log is about to be imported."""
        assert verified.origin is not None  # noqa: S101 - the caller checks
        origin = verified.origin
        self.note(StoreSessionForked(session_id=verified.session_id, parent=origin.parent, upto=origin.seq))

    def record_imported(self, verified: VerifiedLog, *, ended: int = 0, is_new: bool = False) -> None:
        """Record an imported log, if it is not recorded yet, for example after a crash.

        One that `is_new` is always recorded: a recorded session of that id without an end is a different one. `ended` is the
        number of events of a deleted session of this id in the store that exported the log.
        """
        log_id = verified.session_id
        with self.locked():
            if not self._log.size_bytes(log_id):
                return  # it was trashed or deleted since it was looked at
            # first: what follows a crash looks new again
            if is_new or self.look(lambda state: log_id not in state.there):
                self.record_redactions(log_id, self._log.lines(log_id))
            self.record(lambda state: list(_ingested(state, verified, ended, is_new)))

    def record_redactions(self, log_id: str, lines: Iterable[bytes]) -> None:
        """Record the redactions that lines from elsewhere record: verification accuses one that the registry does not know."""
        found = list(filter(recorded_leaf, codec.read_redactions(lines)))
        if not found:
            return
        recorded = {
            pair
            for event in (self._log.read(STORE_ID) if self._log.exists(STORE_ID) else ())
            if isinstance(event, StoreEventsRedacted) and event.session_id == log_id
            for pair in zip(event.targets, event.leaves, strict=False)
        }
        new = [one for one in found if (one.target, one.leaf) not in recorded]
        if new:
            targets, leaves = tuple(one.target for one in new), tuple(one.leaf for one in new)
            self.note(
                StoreEventsRedacted(
                    session_id=log_id, targets=targets, leaves=leaves, reason="redacted before the import"
                )
            )

    def clear_empty(self, log_id: str) -> None:
        """Remove the empty log of a killed or refused creation, so that a log can be moved to this id."""
        if self._log.size_bytes(log_id):
            return  # also a damaged log, of which no event can be read
        with suppress(EventStoreError, OSError):  # another writer appended: the move to this id is refused then
            self._log.remove(log_id, expected_version=0)

    # --- forks

    def fork(self, session_id: str, parent: str, version: int, event: SessionCreated) -> None:
        """Begin a session with the first `version` events of another, as `EventLog.fork` does. Raises as that does."""
        with self.locked(), refusing(session_id, "forked"):
            if self._log.exists(session_id):
                raise SessionExists(session_id)
            self._fork(session_id, parent, version, event)

    def _fork(self, log_id: str, parent: str, version: int, event: SessionCreated) -> None:
        """Record the parent, fork, record the creation. A record of a parent without a fork does no harm."""
        self._log.point_at(parent, version)
        self.note(StoreSessionForked(session_id=log_id, parent=parent, upto=version))
        try:
            self._log.fork(log_id, parent, version, event)
        except VersionConflict:
            kind = "template" if log_id.startswith(TEMPLATE) else "session"
            raise SessionExists(log_id.removeprefix(TEMPLATE), kind=kind) from None
        self.note_created({log_id: version})

    def save_template(self, name: str, parent: str, version: int, event: SessionCreated) -> None:
        """Save the first `version` events of a session as a template. Raises SessionExists if the name is taken."""
        log_id = TEMPLATE + check_session_id(name, "template name")
        with self.locked(), refusing(log_id, "made"):
            if self._log.exists(log_id):
                raise SessionExists(name, kind="template")
            self._fork(log_id, parent, version, event)

    def template(self, name: str) -> tuple[str, int]:
        """Return the id of a template's log, and its version. Raises SessionNotFound for the template."""
        try:
            log_id = TEMPLATE + check_session_id(name, "template name")
            return log_id, self._log.head(log_id).version
        except SessionNotFound:
            raise SessionNotFound(name, kind="template") from None

    def templates(self) -> list[str]:
        """List the names of templates, of damaged ones too."""
        return [name for name in self.look(State.templates) if self.is_there(TEMPLATE + name)]

    def is_there(self, log_id: str) -> bool:
        """Return whether there is a log with events, or a damaged one."""
        try:
            return self._log.exists(log_id)
        except LogDamaged:
            return True

    def make_descendants_independent(self, log_id: str) -> None:
        """Copy the inherited events of a session into its forks, before it is deleted. Raises LogDamaged."""
        for one in self.look(lambda state: state.descendants(log_id)):
            with suppress(SessionNotFound):
                self._log.make_whole(one)

    # --- ends

    def announce(self, event: Event, session_id: str) -> None:
        """Record the end of a session before it happens, and first its creation where that is missing."""
        self.record(lambda state: [*self.missing(state, session_id), event])

    def settled(self, *, names: tuple[str, ...] = (), ids: tuple[str, ...] = ()) -> None:
        """Mark announced operations as done, so that `settle` does not check them."""

        def remove(state: State) -> None:
            state.unsettled_names.difference_update(names)
            state.unsettled_ids.difference_update(ids)

        with suppress(EventStoreError):
            self.look(remove)

    def delete(self, log_id: str, reason: str | None) -> bool:
        """Delete a session or a template for good, a damaged one too; False if there was none.

        Raises LogDamaged if a fork cannot be made independent: then nothing is deleted. Raises OperationRefused.
        """
        with self.locked(), refusing(log_id, "deleted"):
            while True:
                with suppress(VersionConflict):  # another writer appended: record the new size
                    return self._delete(log_id, reason)

    def _delete(self, log_id: str, reason: str | None) -> bool:
        version: int | None = None
        try:
            self._log.mend(log_id)
            head = self._log.head(log_id)
            version = head.version
        except SessionNotFound:
            return False
        except LogDamaged as damage:
            head = Head(damage.readable, "", "", damage.offset_bytes)
            reason = f"{reason or 'no reason given'}; its log was damaged at line {damage.line}"
        self.make_descendants_independent(log_id)
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
            is_gone = True  # the log is deleted; derived files may remain
        self.settled(ids=(log_id,))
        return is_gone


def _ingested(state: State, verified: VerifiedLog, ended: int, is_new: bool) -> Iterator[Event]:
    """Yield the records that are missing for an imported log."""
    session_id = verified.session_id
    parents = set(state.parents.keys() & {session_id})
    if ended > state.used.get(session_id, 0) and session_id not in state.there:
        reason = "reported by the archive that the session of this id came from"
        yield StoreSessionDeleted(session_id=session_id, events=ended, size_bytes=0, head_hash="", reason=reason)
        parents.clear()  # that record ends the fork as well
    if verified.origin and not parents:
        origin = verified.origin
        yield StoreSessionForked(session_id=session_id, parent=origin.parent, upto=origin.seq)
    if is_new or session_id not in state.there:
        yield StoreSessionCreated(session_id=session_id, first_hash=verified.first_hash)
