"""SessionStorage: sessions stored as events on any log; saving, deleting, retention, repair."""

import warnings
from collections.abc import Callable, Iterable, Iterator
from contextlib import suppress
from dataclasses import replace
from datetime import datetime, timedelta
from functools import cached_property
from pathlib import Path
from types import TracebackType
from typing import TYPE_CHECKING, Any, Self

from eventstore.errors import LogDamaged, NotSupported, SessionNotFound, VersionConflict
from eventstore.events import InvocationEvent, InvocationLinked, SessionCompleted
from eventstore.ids import check_session_id
from eventstore.log.base import Repair
from eventstore.log.port import UNSEEN_WRITERS
from eventstore.record import clock
from eventstore.store.as_of import ago
from eventstore.store.branches import BranchedSessions
from eventstore.store.call_records import check_calls
from eventstore.store.lists import ListedSessions
from eventstore.store.lock import refusing
from eventstore.store.pages import warn_damaged
from eventstore.store.save_diff import find_changes
from projections import session as session_fold
from projections.models import Session, SessionStatus

if TYPE_CHECKING:  # loaded by the method that is asked
    from eventstore.store.retention import Expiry, Retention, Trashed
    from eventstore.subscriptions.positions import Positions


class SessionStorage(BranchedSessions, ListedSessions):
    """Sessions kept on any EventLog. Safe for threads."""

    @cached_property
    def positions(self) -> "Positions":
        """The positions of subscriptions, loaded when somebody follows."""
        from eventstore.subscriptions.positions import Positions

        return Positions(self.log.backend)

    # --- session objects

    def save_session(self, session: Session) -> None:
        """Append the events that lead from the stored state to this object; none where they are equal.

        A loaded object is compared with the version it was loaded at, another object with the stored state. Where other writers
        appended in between, additions are appended after theirs and the object then shows both; any other change raises
        VersionConflict and writes nothing. A message whose files are stored with another session raises EventNotEncodable.
        """
        session_id = session.metadata.session_id
        base, state = self._base(session)
        changes = find_changes(base, state, session)
        if changes.events:
            from eventstore.store.stored_values import check_saved  # programs that read save nothing

            check_saved(self.log, session_id, changes.events, is_new=not state.version)
            try:
                result = self.append(session_id, changes.events, expected_version=state.version)
            except VersionConflict:
                if base is None or not changes.rebasing:
                    raise
                self.append(session_id, changes.events)
                _show(session, self.fold(session_id).to_model(session_id))
            else:
                session.version = result.last
        self.flush_views(session_id)

    def _base(self, session: Session) -> tuple[Session | None, session_fold.State]:
        session_id = session.metadata.session_id
        try:
            state = self.fold(session_id)
        except SessionNotFound:
            return None, session_fold.State()
        if session.version and session.version < state.version:
            state = session_fold.projection.fold(self.log.skim(session_id, 0, session.version))
        return state.to_model(session_id), state

    def link_invocation(self, session_id: str, invocation_id: str, invocation_dir: Path | str | None) -> None:
        """Link a tool call's folder, which may not exist yet, to a session. Raises SessionNotFound."""
        target = self.relative(invocation_dir)
        self.append(session_id, [InvocationLinked(invocation_id=invocation_id, invocation_dir=target)])

    def relative(self, invocation_dir: Path | str | None) -> str | None:
        """Return a tool call's folder as events hold it: relative to the history folder if inside."""
        if invocation_dir is None:
            return None
        return self.history.relative(invocation_dir) if self.history else str(invocation_dir)

    def delete_session(self, session_id: str, reason: str | None = None, *, history: bool = False) -> bool:
        """Delete a session for good, a damaged one too; False if there was none.

        The registry records its size and last hash; for a damaged log, those of the readable part. Its forks first get a copy of
        their inherited events; where one is damaged, nothing is deleted. With `history` the folders of its tool calls inside the
        history folder are deleted too, except those that a fork uses. Raises LogDamaged, OperationRefused.
        """
        check_session_id(session_id)
        folders = self._folders_of(session_id) if history else set()
        for other in self.registry.look(lambda state: state.descendants(session_id)) if folders else ():
            folders -= self._folders_of(other)
        is_gone = self.registry.delete(session_id, reason)
        if is_gone:
            self._drop_derived(session_id)
        if is_gone and self.history is not None:
            for folder in sorted(folders):
                with suppress(ValueError):  # it is not inside the history folder
                    self.history.remove(folder)
        return is_gone

    def _folders_of(self, session_id: str) -> set[str]:
        """Return the folders of a session's tool calls in the readable part of its log."""
        found = set[str]()
        with suppress(SessionNotFound, LogDamaged):
            for event in self.log.skim(session_id):
                if isinstance(event, InvocationEvent) and event.invocation_dir:
                    found.add(event.invocation_dir)
        return found

    # --- retention

    def trash_session(self, session_id: str, reason: str | None = None) -> bool:
        """Move a session to the trash; False if there is none. `restore_session` restores it.

        First it and its forks become independent of each other. Raises LogDamaged if they cannot, OperationRefused.
        """
        is_gone = self._retention().trash(session_id, reason)
        if is_gone:
            self._drop_derived(session_id)
        return is_gone

    def restore_session(self, session_id: str) -> None:
        """Restore the session of this id that was moved to the trash last. Raises SessionNotFound, SessionExists.

        Recorded redactions are applied to the copy in the trash first.
        """
        from eventstore.store.known_redactions import redact_in_trash  # it loads compressors

        check_session_id(session_id)
        with self.registry.locked(), refusing(session_id, "restored"):
            redact_in_trash(self.log, session_id, self.forget_trashed_views)
            self._retention().restore(session_id)

    def list_trash(self) -> "list[Trashed]":
        """List the sessions in the trash, the newest first."""
        return self._retention().trashed()

    def plan_cleanup(
        self, cutoff: datetime, trashed_before: datetime, on_damage: Callable[[LogDamaged], None] = warn_damaged
    ) -> "list[Expiry]":
        """Plan which sessions to trash, which of the trash to purge, and which old ones to keep.

        `on_damage` is called for each session that cannot be read: those are left alone.
        """
        return self._retention().plan(self.list_metadata(limit=None, on_damage=on_damage), cutoff, trashed_before)

    def clean_up(self, plan: "Iterable[Expiry]") -> "list[Expiry]":
        """Carry out a plan and return what was done. A session that has changed since is left alone."""
        return self._retention().clean_up(plan, self._drop_derived)

    def cleanup_sessions(self, cutoff_date: datetime) -> int:
        """Move the sessions last updated before a moment (without a zone: local) to the trash; return their number."""
        from eventstore.store.retention import GRACE_DAYS

        plan = self.plan_cleanup(cutoff_date, ago(timedelta(days=GRACE_DAYS)))
        return sum(one.action == "trash" for one in self.clean_up(plan))

    def _retention(self) -> "Retention":
        """Return the trash. It is created on demand: kept, it would form a reference cycle with the storage."""
        from eventstore.store.retention import Retention

        return Retention(self.log, self.registry, self.metadata)

    def _drop_derived(self, session_id: str) -> None:
        """Drop the derived state of a deleted or moved session. Where that fails, the next list drops its row."""
        self._drop_folds(session_id)
        try:
            self._forget(session_id)
        except Exception as error:  # the session is deleted: derived state must not make that fail
            warnings.warn(
                f"derived state of session {session_id!r} is not removed yet ({error}): the session itself is gone, and a "
                "later list or rebuild removes the rest",
                RuntimeWarning,
                stacklevel=4,
            )

    def _forget(self, session_id: str) -> None:
        """Remove the derived state of a session. Lists, search and figures notice a deletion themselves."""

    def settle(self) -> None:
        """Finish interrupted operations, or record them as not done: creations, forks, deletions, moves to the trash."""
        self.registry.settle_all()

    def repair_session(self, session_id: str, *, dry_run: bool = True) -> Repair | None:
        """Plan how to repair a damaged log, or do it; None if nothing is wrong. Raises SessionNotFound."""
        check_session_id(session_id)
        plan = self.log.repair(session_id)
        if plan is None:
            return None
        forks, checkpoint = self._forks_behind(session_id, plan.kept), self._checkpoint_behind(session_id, plan.kept)
        if not dry_run:
            plan = self.log.repair(session_id, dry_run=False)
            self._drop_folds(session_id)
        return plan and replace(plan, forks=forks, checkpoint=checkpoint)

    def _forks_behind(self, session_id: str, kept: int) -> tuple[str, ...]:
        """List the forks that inherit more than the first `kept` events of a session and have no other copy of them."""
        forks = self.registry.look(lambda state: [(one, state.parents[one]) for one in state.descendants(session_id)])
        found = dict[str, None]()
        for one, parent in forks:  # each comes before its own forks
            if parent == session_id or parent in found:
                with suppress(SessionNotFound, LogDamaged):
                    if self.log.inherited(one) > kept:
                        found[one] = None
        return tuple(found)

    def _checkpoint_behind(self, session_id: str, kept: int) -> int:
        """Return the size of the largest checkpoint of more than `kept` events of a session; 0 without one."""
        digits = (name.partition("-")[0] for name, _ in self.log.notes(session_id))
        sizes = [int(one) for one in digits if one.isascii() and one.isdecimal()]
        return max((size for size in sizes if size > kept), default=0)

    def recover(self, silent_for: timedelta, on_damage: Callable[[LogDamaged], None] = warn_damaged) -> list[str]:
        """Mark active sessions as abandoned that have no writer and no event for `silent_for`; return their ids.

        `on_damage` is called for each session that cannot be read: it stays unchanged. Raises NotSupported, and changes nothing,
        if it is unknown which sessions are being written: in memory, and in files on systems other than Linux.
        """
        if not self.log.capabilities.shows_writers:
            instead = "complete the sessions whose programs you know to be gone"
            raise NotSupported("", "this store", UNSEEN_WRITERS, instead)
        before = clock.to_text(ago(silent_for))
        listed = self.list_metadata(status=SessionStatus.ACTIVE, limit=None, on_damage=on_damage)
        found = [one.session_id for one in listed]
        return [session_id for session_id in found if self._abandon(session_id, before)]

    def _abandon(self, session_id: str, before: str) -> bool:
        try:
            head = self.log.head(session_id)
            if head.at >= before or self.log.is_being_written(session_id):
                return False
            reason = f"nothing was recorded since {head.at} and no program has it open"
            ended = SessionCompleted(status="abandoned", reason=reason)
            self.append(session_id, [ended], expected_version=head.version)
        except (SessionNotFound, VersionConflict, LogDamaged):
            return False  # deleted, appended to, or damaged in the meantime
        return True

    # --- views and ends

    has_views = False
    """Whether files for people are stored with the logs, and links to the folders of tool calls."""

    def local_folders(self) -> list[Path]:
        """List the folders of this machine that hold something of the store, caches too; not that of tool calls."""
        return []

    def redo_views(self) -> int:
        """Write outdated views, for example after a crash; return the number of sessions that had them."""
        return 0

    def renew_views(self, session_id: str, *, imported: bool = False) -> None:
        """Have the views of a session written, where a kill left them outdated. Nothing is done for a session that is gone.

        `imported`: a transcript of it is there, so that the views need no conversation.
        """

    def check_views(self, session_id: str) -> Iterator[str]:
        """Compare up-to-date views with the log; yield the differences."""
        return iter(())

    def check_calls(self, session_id: str) -> Iterator[str]:
        """Compare the large values and the records of tool calls with the log; yield the differences.

        Raises SessionNotFound, LogDamaged.
        """
        return check_calls(self.log, self.history, session_id)

    def rebuild(self, on_damage: Callable[[LogDamaged], None] = warn_damaged) -> Iterator[str]:
        """Rebuild all views from the logs, and yield each session's id. There are none in memory."""
        return iter(())

    def flush(self) -> None:
        """Return when events are on stable storage and views are written."""
        self.flush_views()
        self.log.flush()

    def close(self) -> None:
        """Flush, and close all files."""
        self.flush_views()
        self.log.close()
        for one in self.caches(used=True):
            one.close()

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()


def _show(session: Session, found: Session) -> None:
    """Copy the stored state into the caller's object."""
    fields: dict[str, Any] = vars(found)
    for name, value in fields.items():
        setattr(session, name, value)
