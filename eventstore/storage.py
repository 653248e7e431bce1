"""Sessions on a log: whole objects in, events out, and back; listing, deleting, views."""

import fcntl
import os
import sqlite3
import threading
import time
import warnings
import weakref
from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from pathlib import Path
from types import TracebackType
from typing import Any, Literal, Self

from eventstore import codec
from eventstore.analytics import Analytics, By, Figures
from eventstore.catalog import FOLDER, Catalog, Filter, Sizes
from eventstore.changes import find_changes
from eventstore.cursors import FOLDER as CURSORS
from eventstore.cursors import Cursors
from eventstore.errors import (
    InvalidSessionId,
    LogDamaged,
    NoSuchMoment,
    SessionExists,
    SessionNotFound,
    VersionConflict,
)
from eventstore.events import (
    Event,
    InvocationLinked,
    SessionCompleted,
    SessionCreated,
    StoreSessionCreated,
    StoreSessionDeleted,
    StoreSessionForked,
    StoreSessionRestored,
    StoreSessionTrashed,
    StoreTrashPurged,
)
from eventstore.folds import Folds
from eventstore.history import ToolHistory
from eventstore.log.base import Append, Appended, EventLog, Head, Repair, Written
from eventstore.log.filesystem import TRASH, FileSystemEventLog
from eventstore.log.memory import MemoryEventLog
from eventstore.moments import At, as_text, version_at
from eventstore.names import STORE_ID, TEMPLATE, Fsync, check_session_id, file_name, id_of
from eventstore.search import Asked, Hit, Search
from eventstore.views import Views
from projections import session as session_fold
from projections import store as store_fold
from projections import summary as summary_fold
from projections.models import Session, SessionMetadata, SessionStatus

_WHOLE_EVENTS, _SUMMARY_EVENTS = 50_000, 5_000_000
_VIEW_DELAY_SECONDS = 0.1
_GRACE_DAYS = 7.0
_LOCK = "_lock"


def tell_damage(damage: LogDamaged) -> None:
    """Warn of a session that cannot be read and was left out of an answer."""
    warnings.warn(str(damage), RuntimeWarning, stacklevel=2)


@dataclass(frozen=True)
class Page:
    """Some of the sessions that fit, and the cursor that the next page is asked for with; None behind the last one."""

    sessions: list[SessionMetadata]
    cursor: str | None


class _LogSizes(Sizes):
    """The sizes of logs that are no files: all are looked at each time."""

    def __init__(self, log: EventLog) -> None:
        self._log = log

    def state(self) -> str:
        return self.boot()

    def boot(self) -> str:
        return str(time.time_ns())

    def all(self) -> dict[str, int]:
        found = {name: self.size(name) for name in self._log.ids()}
        return {name: size for name, size in found.items() if size is not None}

    def size(self, session_id: str) -> int | None:
        try:
            return self._log.head(session_id).size_bytes
        except (SessionNotFound, LogDamaged):
            return None


@dataclass(frozen=True)
class Expiry:
    """What retention does with a session, and why: `trash` it, `purge` it out of the trash for good, or `keep` it.

    `name` is what it is called in the trash, `size_bytes` that of its log.
    """

    session_id: str
    action: Literal["trash", "purge", "keep"]
    reason: str
    updated_at: datetime | None = None
    name: str = ""
    size_bytes: int = 0


class SessionStorage:
    """Sessions kept on any EventLog. Safe for threads.

    `history` is the tool side, where there is one.
    """

    history: ToolHistory | None = None

    def __init__(self, log: EventLog) -> None:
        self.log = log
        self._wholes = Folds(log, session_fold.projection, _WHOLE_EVENTS)
        self._summaries = Folds(log, summary_fold.projection, _SUMMARY_EVENTS)
        self._stores = Folds(log, store_fold.projection, _SUMMARY_EVENTS)
        self.catalog = Catalog()
        self.cursors = Cursors()
        self._forking = threading.RLock()
        self._sizes: Sizes = _LogSizes(log)
        self._search, self._analytics = Search(log, self.catalog), Analytics(log, self.catalog)

    # --- events

    def append(self, session_id: str, events: Sequence[Event], *, expected_version: int | None = None) -> Appended:
        """Append events as one batch, as `EventLog.append` does, and see to the views."""
        if session_id == STORE_ID:
            check_session_id(session_id)
        self.catalog.mark(session_id)
        result = self.log.append(session_id, events, expected_version=expected_version)
        if result.first == 1 and not result.repeated:
            self._began(session_id)
        self._changed(session_id, events)
        return result

    def append_many(self, appends: Sequence[Append], *, wait: bool = True) -> Written:
        """Append for several callers, as `EventLog.append_many` does, and see to the views."""
        for append in appends:
            with suppress(InvalidSessionId):  # its outcome says so
                self.catalog.mark(append.session_id)
        written = self.log.append_many(appends, wait=wait)
        for append, outcome in zip(appends, written.outcomes, strict=True):
            if isinstance(outcome, Appended):
                if outcome.first == 1 and not outcome.repeated:
                    self._began(append.session_id)
                self._changed(append.session_id, append.events)
        return written

    def extend(self, session_id: str, batches: Sequence[Sequence[Event]], *, expected_version: int) -> Appended:
        """Append several batches, as `EventLog.extend` does, and see to the views."""
        self.catalog.mark(session_id)
        result = self.log.extend(check_session_id(session_id), batches, expected_version=expected_version)
        if result.first == 1:
            self._began(session_id)
        self._changed(session_id, [event for events in batches for event in events])
        return result

    def _began(self, session_id: str) -> None:
        """Note in the store's own log that a session came into being."""
        first = next(self.log.read(session_id, 0, 1))
        self._note(StoreSessionCreated(session_id=session_id, first_hash=first.hash))

    def fold(self, session_id: str, at: At | None = None, *, recorded: bool = False) -> session_fold.State:
        """Fold the whole session, as it is or was; the state is shared, nobody changes it.

        `at` and `recorded` are those of `version_at`. Raises SessionNotFound, also where the session had not begun, LogDamaged
        and NoSuchMoment.
        """
        if at is None:
            return self._wholes.get(check_session_id(session_id)).state
        return self._wholes.get_at(session_id, self.version_at(session_id, at, recorded=recorded))

    def summary(self, session_id: str, at: At | None = None, *, recorded: bool = False) -> summary_fold.State:
        """Fold all but what was said, as `fold` does, at a fraction of its price. Raises as `fold` does."""
        if at is None:
            return self._summaries.get(check_session_id(session_id)).state
        return self._summaries.get_at(session_id, self.version_at(session_id, at, recorded=recorded))

    def version_at(self, session_id: str, at: At | None, *, recorded: bool = False) -> int:
        """Return how many of a session's events had happened at a version or time; None means now.

        A time means the greatest time of the events so far, so that the answer is always a prefix of the log; `recorded` asks
        when events were written down instead. Raises SessionNotFound, also where the session had not begun, LogDamaged,
        NoSuchMoment.
        """
        check_session_id(session_id)
        if at is None:
            return self.log.head(session_id).version
        version = version_at(self.log, session_id, at, recorded=recorded)
        if not version:
            raise SessionNotFound(session_id)
        return version

    def _note(self, event: Event) -> None:
        """Append to the store's own log, making it where it is not there yet."""
        try:
            self.log.append(STORE_ID, [event])
        except SessionNotFound:
            try:
                self.log.append(STORE_ID, [event], expected_version=0)
            except VersionConflict:
                self.log.append(STORE_ID, [event])

    # --- forks

    def fork_session(self, session_id: str, parent: str, version: int, event: SessionCreated) -> None:
        """Begin a session with the first `version` events of another, as `EventLog.fork` does. Raises as that does.

        Its views are written when something is appended to it: until then they would be copies.
        """
        self.catalog.mark(session_id)
        with self._lineages():
            if self.log.exists(session_id):
                raise SessionExists(session_id)
            self._fork(session_id, parent, version, event)

    def _fork(self, log_id: str, parent: str, version: int, event: SessionCreated) -> None:
        self.log.point_at(parent, version)
        self._note(StoreSessionForked(session_id=log_id, parent=parent, upto=version))
        try:
            self.log.fork(log_id, parent, version, event)
        except VersionConflict:
            raise SessionExists(log_id.removeprefix(TEMPLATE)) from None
        first = next(self.log.read(log_id, version, version + 1))
        self._note(StoreSessionCreated(session_id=log_id, first_hash=first.hash))

    def save_template(self, name: str, parent: str, version: int, event: SessionCreated) -> None:
        """Keep the first `version` events of a session as a template. Raises SessionExists where the name is taken."""
        with self._lineages():
            if self.log.exists(TEMPLATE + check_session_id(name)):
                raise SessionExists(name)
            self._fork(TEMPLATE + name, parent, version, event)

    def use_template(self, name: str, session_id: str, event: SessionCreated) -> None:
        """Begin a session with a template's past. Raises SessionNotFound for the template, SessionExists for the session."""
        try:
            version = self.log.head(TEMPLATE + check_session_id(name)).version
        except SessionNotFound:
            raise SessionNotFound(name) from None
        self.fork_session(session_id, TEMPLATE + name, version, event)

    def templates(self) -> list[str]:
        """List the names of templates."""
        return [name for name in self._store().templates() if self.log.exists(TEMPLATE + name)]

    def load_template(self, name: str) -> Session:
        """Return a template as a session object. Raises SessionNotFound."""
        return self._wholes.get(TEMPLATE + check_session_id(name)).state.to_model(name)

    def remove_template(self, name: str) -> bool:
        """Remove a template; sessions made of it stay. False where there was none."""
        with self._lineages():
            return self._delete(TEMPLATE + check_session_id(name), "template removed")

    def _store(self) -> store_fold.State:
        """Fold the store's own log."""
        try:
            return self._stores.get(STORE_ID).state
        except SessionNotFound:
            return store_fold.State()

    def has_forks(self) -> bool:
        """Tell whether any log of the store ever went on from another."""
        return self._store().forks > 0

    @contextmanager
    def hold_lineages(self) -> Iterator[None]:
        """Hold off others who fork, delete, put in the trash, restore or redact."""
        with self._lineages():
            yield

    def note(self, event: Event) -> None:
        """Append to the store's own log."""
        self._note(event)

    def forget_trashed_views(self, name: str) -> None:
        """Remove what was made of a session that is in the trash; it is made anew when it comes back."""

    @contextmanager
    def _lineages(self) -> Iterator[None]:
        """Hold off others who fork, delete, put in the trash or restore: a parent goes only when no fork of it is being made."""
        with self._forking:
            yield

    def _make_descendants_whole(self, log_id: str) -> None:
        """Copy to the forks of a session what they have of it, before it goes."""
        for one in self._store().descendants(log_id):
            with suppress(SessionNotFound):
                self.log.make_whole(one)

    # --- whole sessions

    def save_session(self, session: Session) -> None:
        """Append the events that lead from the stored state to this object; nothing where they are equal.

        An object that was loaded is compared with the version it was loaded at, one built by hand with what is stored. Where
        others appended in between, additions are made on top of theirs and the object then shows both; anything else
        raises VersionConflict and writes nothing.
        """
        session_id = session.metadata.session_id
        base, state = self._base(session)
        changes = find_changes(base, state, session)
        if changes.events:
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

    def load_session(self, session_id: str, at: At | None = None, *, recorded: bool = False) -> Session | None:
        """Return the session as a new object, as it is or was, or None. Raises InvalidSessionId, LogDamaged, NoSuchMoment."""
        try:
            return self.fold(session_id, at, recorded=recorded).to_model(session_id)
        except SessionNotFound:
            return None

    def session_exists(self, session_id: str) -> bool:
        """Tell whether there is such a session."""
        return self.log.exists(check_session_id(session_id))

    def link_invocation(self, session_id: str, invocation_id: str, invocation_dir: Path | str | None) -> None:
        """Link a tool call's folder, which may not exist yet, to a session. Raises SessionNotFound."""
        target = self.relative(invocation_dir)
        self.append(session_id, [InvocationLinked(invocation_id=invocation_id, invocation_dir=target)])

    def relative(self, invocation_dir: Path | str | None) -> str | None:
        """Name a tool call's folder as events do: relative to the history folder where it lies inside."""
        if invocation_dir is None:
            return None
        return self.history.relative(invocation_dir) if self.history else str(invocation_dir)

    def delete_session(self, session_id: str, reason: str | None = None) -> bool:
        """Delete a session for good, a damaged one too; False where there was none.

        The store's own log keeps its size and last hash, of a damaged one those of what is readable. Forks of it are made whole
        first; one that cannot be, because it or this session is damaged, is an error and nothing is deleted. Raises LogDamaged.
        """
        check_session_id(session_id)
        with self._lineages():
            return self._delete(session_id, reason)

    def _delete(self, session_id: str, reason: str | None) -> bool:
        try:
            head = self.log.head(session_id)
        except SessionNotFound:
            return False
        except LogDamaged as damage:
            head = Head(damage.readable, "", "", damage.offset_bytes)
            reason = f"{reason or 'no reason given'}; its log was damaged at line {damage.line}"
        self._make_descendants_whole(session_id)
        self._note(
            StoreSessionDeleted(
                session_id=session_id,
                events=head.version,
                size_bytes=head.size_bytes,
                head_hash=head.hash,
                reason=reason,
            )
        )
        self._forget(session_id)
        return self.log.remove(session_id)

    # --- retention

    def was_used(self, session_id: str) -> bool:
        """Tell whether a session with this id was deleted, or put in the trash."""
        return session_id in self._store().used

    def ended(self, session_id: str) -> int:
        """Tell how many events a session with this id had that was deleted or put in the trash, at most; 0 where none was."""
        return self._store().used.get(session_id, 0)

    def trash_session(self, session_id: str, reason: str | None = None) -> bool:
        """Put a session in the trash, out of which `restore_session` brings it back; False where there is none.

        It and forks of it are made whole first. Raises LogDamaged where that cannot be.
        """
        check_session_id(session_id)
        with self._lineages():
            return self._trash(session_id, reason)

    def _trash(self, session_id: str, reason: str | None) -> bool:
        try:
            head = self.log.head(session_id)
            self._make_descendants_whole(session_id)
            self.log.make_whole(session_id)
            name = self.log.trash(session_id)
        except SessionNotFound:
            return False
        self._forget(session_id)
        self._note(
            StoreSessionTrashed(
                session_id=session_id,
                name=name,
                events=head.version,
                size_bytes=head.size_bytes,
                head_hash=head.hash,
                reason=reason,
            )
        )
        return True

    def restore_session(self, session_id: str) -> None:
        """Bring the session that was last put in the trash under this id back. Raises SessionNotFound, SessionExists."""
        names = [name for name in self.log.trashed() if id_of(name) == check_session_id(session_id)]
        if not names:
            raise SessionNotFound(session_id)
        name = max(names, key=lambda one: int(one.partition("~")[2] or 1))
        self.catalog.mark(session_id)
        with self._lineages():
            self.log.restore(name)
            self._note(StoreSessionRestored(session_id=session_id, name=name))

    def plan_cleanup(self, cutoff: datetime, trashed_before: datetime) -> list[Expiry]:
        """Plan which sessions go to the trash, which of those in it go for good, and which are kept though they are old."""
        plan = [self._judge(one) for one in self.list_metadata(limit=None) if one.updated_at < cutoff.astimezone()]
        limit = codec.to_text(trashed_before)
        since = self._store().trashed
        gone = [name for name in self.log.trashed() if name in since and since[name] < limit]
        plan += [Expiry(id_of(name), "purge", f"in the trash since {since[name]}", name=name) for name in gone]
        return plan

    def _judge(self, one: SessionMetadata) -> Expiry:
        try:
            size = self.log.head(one.session_id).size_bytes
        except (SessionNotFound, LogDamaged):
            return Expiry(one.session_id, "keep", "its log is damaged: repair or delete it", one.updated_at)
        last = f"last updated {one.updated_at:%Y-%m-%d %H:%M:%S} UTC"
        if one.pinned:
            return Expiry(one.session_id, "keep", f"pinned; {last}", one.updated_at, size_bytes=size)
        return Expiry(one.session_id, "trash", last, one.updated_at, size_bytes=size)

    def clean_up(self, plan: Iterable[Expiry]) -> list[Expiry]:
        """Do what a plan says; return what was done. A session that was updated, pinned or deleted since is left alone."""
        return [one for one in plan if self._expire(one)]

    def _expire(self, one: Expiry) -> bool:
        if one.action == "purge":
            if one.name not in self.log.trashed():
                return False
            self._note(StoreTrashPurged(session_id=one.session_id, name=one.name))
            return self.log.purge(one.name)
        if one.action == "keep":
            return False
        try:
            known = self.metadata(one.session_id)
        except (SessionNotFound, LogDamaged):
            return False
        if known.updated_at != one.updated_at or known.pinned:
            return False
        return self.trash_session(one.session_id, f"retention: {one.reason}")

    def cleanup_sessions(self, cutoff_date: datetime) -> int:
        """Put the sessions last updated before a moment (without a zone: local) in the trash; return how many there were."""
        plan = self.plan_cleanup(cutoff_date, datetime.now(UTC) - timedelta(days=_GRACE_DAYS))
        return sum(one.action == "trash" for one in self.clean_up(plan))

    def redone(self, session_id: str) -> None:
        """Make anew all that is kept of a session besides its log, after something in it was redacted."""
        self._wholes.forget(session_id)
        self._summaries.forget(session_id)
        self._search.forget(session_id)

    def compact(self) -> None:
        """See that nothing is left in the catalogue's files of what was dropped."""
        self.page(Filter(limit=0))
        self._search.compact()
        self.catalog.scrub()

    def _forget(self, session_id: str) -> None:
        """Drop what is kept of a session that goes."""
        self._wholes.forget(session_id)
        self._summaries.forget(session_id)
        self.catalog.remove(session_id)

    # --- lists

    def list_sessions(
        self,
        user_id: str | None = None,
        status: SessionStatus | str | None = None,
        tags: Sequence[str] | None = None,
        limit: int | None = 100,
        at: At | None = None,
    ) -> list[Session]:
        """List whole sessions, as `list_metadata` lists what is known of them."""
        found = self.list_metadata(user_id, status, tags, limit, at=at)
        return [session for one in found if (session := self._load_or_tell(one.session_id, at)) is not None]

    def _load_or_tell(self, session_id: str, at: At | None) -> Session | None:
        try:
            return self.load_session(session_id, at)
        except LogDamaged as damage:
            tell_damage(damage)
            return None

    def list_metadata(
        self,
        user_id: str | None = None,
        status: SessionStatus | str | None = None,
        tags: Sequence[str] | None = None,
        limit: int | None = 100,
        on_damage: Callable[[LogDamaged], None] = tell_damage,
        at: At | None = None,
    ) -> list[SessionMetadata]:
        """List sessions that fit all filters, the most recently updated first, then by id; at most `limit` of them.

        `at`, a time, lists the sessions there were then, as they were. `tags` match any. A session whose log cannot be read
        hides no other: `on_damage` hears of it, by default as a warning.
        """
        if isinstance(tags, str):
            raise ValueError("tags is not a list of texts")
        wanted = None if status is None else SessionStatus(status).value
        return self.page(Filter(user_id, wanted, tags, limit=limit), on_damage, at).sessions

    def page(self, wanted: Filter, on_damage: Callable[[LogDamaged], None] = tell_damage, at: At | None = None) -> Page:
        """List the sessions that fit, a page of them, as `list_metadata` does. Raises ValueError for a cursor that is none."""
        if at is not None:
            then = Catalog()
            then.put(self._rows(self.log.ids(), on_damage, _time(at)))
            rows, cursor = then.find(wanted)
        else:
            try:
                rows, cursor = self._find(wanted, on_damage)
            except sqlite3.DatabaseError:  # it was thrown away: the second time it is made anew
                rows, cursor = self._find(wanted, on_damage)
        return Page([SessionMetadata.from_dict(row) for row in rows], cursor)

    def _find(self, wanted: Filter, on_damage: Callable[[LogDamaged], None]) -> tuple[list[dict[str, Any]], str | None]:
        self.catalog.put(self._rows(self.catalog.stale(self._sizes), on_damage, None))
        return self.catalog.find(wanted)

    def search(self, asked: Asked, at: At | None = None) -> list[Hit]:
        """Search what was said in all sessions; `at` as it was at a time. Raises NoSuchMoment."""
        moment = None if at is None else _time(at)
        versions: dict[str, int] = {}

        def is_visible(session_id: str, seq: int) -> bool:
            if moment is None:
                return True
            if session_id not in versions:
                versions[session_id] = version_at(self.log, session_id, moment)
            return seq <= versions[session_id]

        self.page(Filter(limit=0))
        return self._search.find(asked, is_visible)

    def analytics(
        self,
        by: By,
        user_id: str | None = None,
        tag: str | None = None,
        since: str | None = None,
        until: str | None = None,
    ) -> list[Figures]:
        """Sum up what all sessions did, as `SessionManager.analytics` does."""
        self.page(Filter(limit=0))
        return self._analytics.figures(by, user_id, tag, since, until)

    def texts_of(self, hits: Iterable[Hit]) -> list[tuple[Hit, str]]:
        """Give hits with the whole texts they were found in."""
        return [(hit, self._search.text_of(hit.session_id, hit.seq)) for hit in hits]

    def _rows(
        self, session_ids: Iterable[str], on_damage: Callable[[LogDamaged], None], at: str | None
    ) -> list[tuple[dict[str, Any], int]]:
        """Tell what is known of sessions, and the size their logs had before they were looked at."""
        rows = []
        for session_id in session_ids:
            size = self._sizes.size(session_id) or 0
            try:
                known = self.metadata(session_id) if at is None else self._metadata_at(session_id, at)
            except SessionNotFound:
                continue  # deleted since it was listed, or not begun then
            except LogDamaged as damage:
                on_damage(damage)
            else:
                rows.append((known.to_dict(), size))
        return rows

    def rows(self) -> list[dict[str, Any]]:
        """Give all that the catalogue has, as `SessionMetadata.to_dict` gives it, caught up."""
        return self._find(Filter(limit=None), lambda damage: None)[0]

    def _metadata_at(self, session_id: str, at: str) -> SessionMetadata:
        return self.summary(session_id, at).metadata.to_model(session_id)

    def metadata(self, session_id: str) -> SessionMetadata:
        """Return what is known of one session. Raises SessionNotFound, LogDamaged."""
        return self.summary(session_id).metadata.to_model(session_id)

    def repair_session(self, session_id: str, *, dry_run: bool = True) -> Repair | None:
        """Plan how to set a damaged log right, or do it; None where nothing is wrong. Raises SessionNotFound."""
        self.catalog.mark(check_session_id(session_id))
        plan = self.log.repair(session_id, dry_run=dry_run)
        if plan is not None and not dry_run:
            self._wholes.forget(session_id)
            self._summaries.forget(session_id)
        return plan

    def recover(self, silent_for: timedelta) -> list[str]:
        """Mark active sessions as abandoned whose writer is gone and that recorded nothing for so long; return their ids."""
        before = codec.to_text(datetime.now(UTC) - silent_for)
        found = [one.session_id for one in self.list_metadata(status=SessionStatus.ACTIVE, limit=None)]
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
            return False  # deleted, gone on with, or damaged meanwhile
        return True

    # --- views and ends

    def redo_views(self) -> int:
        """Write the views that do not stand for their logs as they are, say after a crash; return how many sessions had such."""
        return 0

    def check_views(self, session_id: str) -> Iterator[str]:
        """Compare views with what the log gives, where they stand for the log as it is; yield what differs."""
        return iter(())

    def _changed(self, session_id: str, events: Sequence[Event]) -> None:
        """See to what depends on the log, after an append."""

    def flush_views(self, session_id: str | None = None) -> None:
        """Write the views of one session, or of all that changed, at once. There are none here."""

    def rebuild(self, on_damage: Callable[[LogDamaged], None] = tell_damage) -> Iterator[str]:
        """Make all views anew from the logs, and yield each session's id. There are none here."""
        return iter(())

    def flush(self) -> None:
        """Return when events are on stable storage and views are written."""
        self.flush_views()
        self.log.flush()

    def close(self) -> None:
        """Flush, and let go of files."""
        self.flush_views()
        self.log.close()
        self.catalog.close()

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()


class MemorySessionStorage(SessionStorage):
    """Sessions that live as long as the object; tool calls get folders below `history_dir` where one is given."""

    def __init__(self, history_dir: Path | str | None = None) -> None:
        super().__init__(MemoryEventLog())
        self.history = None if history_dir is None else ToolHistory(history_dir)


class FileSystemSessionStorage(SessionStorage):
    """Sessions in folders below `sessions_dir`, with views for people and links into `history_dir`.

    `fsync` is the durability of an append: `always`, `everysec` or `no`. Views are written at most 100 ms late.
    """

    def __init__(self, sessions_dir: Path | str, history_dir: Path | str, *, fsync: Fsync = "always") -> None:
        super().__init__(FileSystemEventLog(sessions_dir, fsync=fsync))
        self.catalog = Catalog(Path(sessions_dir, FOLDER))
        self.cursors = Cursors(Path(sessions_dir, CURSORS))
        self._sizes = Sizes(Path(sessions_dir))
        self._search, self._analytics = Search(self.log, self.catalog), Analytics(self.log, self.catalog)
        self.sessions_dir, self.history_dir = Path(sessions_dir), Path(history_dir)
        self.history = ToolHistory(history_dir)
        self.views = Views(self.log, Path(sessions_dir), Path(history_dir))
        self._begin()
        _begin_in_child(self)

    def _begin(self) -> None:
        self._forking = threading.RLock()
        self._stale: set[str] = set()
        self._due = threading.Condition()
        self._writer: threading.Thread | None = None
        self._flushing = threading.RLock()

    @contextmanager
    def _lineages(self) -> Iterator[None]:
        """Hold off others, in other processes too, who fork, delete, put in the trash or restore."""
        with super()._lineages():
            self.sessions_dir.mkdir(0o700, parents=True, exist_ok=True)
            flags = os.O_RDWR | os.O_CREAT | os.O_CLOEXEC | os.O_NOFOLLOW
            file = os.open(self.sessions_dir / _LOCK, flags, 0o600)
            try:
                fcntl.flock(file, fcntl.LOCK_EX)
                yield
            finally:
                os.close(file)

    def metadata(self, session_id: str) -> SessionMetadata:
        """Return what is known of one session: from its view where that stands for the log as it is, else folded."""
        return self.views.metadata(check_session_id(session_id)) or super().metadata(session_id)

    def _changed(self, session_id: str, events: Sequence[Event]) -> None:
        for event in events:
            if isinstance(event, InvocationLinked) and event.invocation_dir:
                with suppress(OSError):  # the views are told of as soon as they are written, and the event is safe
                    self.views.link(session_id, f"invocations/{file_name(event.invocation_id)}", event.invocation_dir)
        if session_id in self._stale:
            return  # whoever takes it out reads the log after that
        with self._due:
            self._stale.add(session_id)
            if self._writer is None:
                self._writer = threading.Thread(target=_write_views, args=(weakref.ref(self),), daemon=True)
                self._writer.start()

    def repair_session(self, session_id: str, *, dry_run: bool = True) -> Repair | None:
        """Plan how to set a damaged log right, or do it, views too; None where nothing is wrong. Raises SessionNotFound."""
        plan = super().repair_session(session_id, dry_run=dry_run)
        if plan is not None and not dry_run:
            self.views.remove(session_id)
            self._write_views(session_id)
        return plan

    def redo_views(self) -> int:
        """Write the views that do not stand for their logs as they are, say after a crash; return how many sessions had such."""
        stale = [session_id for session_id in self.log.ids() if self.views.metadata(session_id) is None]
        with self._due:
            self._stale.update(stale)
        self.flush_views()
        return len(stale)

    def check_views(self, session_id: str) -> Iterator[str]:
        """Compare views with what the log gives, where they stand for the log as it is; yield what differs."""
        fold = self._summaries.get(check_session_id(session_id))
        return self.views.check(session_id, fold.state, fold.head)

    def flush_views(self, session_id: str | None = None) -> None:
        """Write the views of one session, or of all that changed, at once."""
        with self._flushing:
            with self._due:
                due = set(self._stale) if session_id is None else self._stale & {session_id}
                self._stale -= due
            for one in due:
                self._write_or_tell(one)

    def _write_or_tell(self, session_id: str) -> None:
        """Write views; where that fails the log is whole all the same, and the views are known to be stale."""
        try:
            self._write_views(session_id)
        except (SessionNotFound, LogDamaged):
            return
        except OSError as error:
            warnings.warn(
                f"views of session {session_id!r} could not be written ({error}); its log is whole: rebuild them later",
                RuntimeWarning,
                stacklevel=3,
            )

    def _write_views(self, session_id: str) -> None:
        fold = self._summaries.get(session_id)
        self.views.write(session_id, fold.state, fold.head)

    def rebuild(self, on_damage: Callable[[LogDamaged], None] = tell_damage) -> Iterator[str]:
        """Delete all views, make them anew from the logs, and yield each session's id when it is done.

        The views of a damaged session stay as they are; `on_damage` hears of it.
        """
        self.catalog.clear()
        for session_id in sorted(self.log.ids()):
            try:
                self.rebuild_session(session_id)
            except LogDamaged as damage:
                on_damage(damage)
            else:
                yield session_id

    def rebuild_session(self, session_id: str) -> None:
        """Delete the views of one session and make them anew. Raises SessionNotFound, and LogDamaged: then they stay."""
        self._summaries.get(check_session_id(session_id))
        self.views.remove(session_id)
        self._write_views(session_id)

    def forget_trashed_views(self, name: str) -> None:
        """Remove what was made of a session that is in the trash; it is made anew when it comes back."""
        Views(self.log, self.sessions_dir / TRASH, self.history_dir).remove(name)

    def redone(self, session_id: str) -> None:
        """Make anew all that is kept of a session besides its log, after something in it was redacted."""
        super().redone(session_id)
        self.views.remove(session_id)
        self._write_or_tell(session_id)

    def delete_session(self, session_id: str, reason: str | None = None) -> bool:
        """Delete a session for good, views and all; False where there was none."""
        with self._due:
            self._stale.discard(session_id)
        return super().delete_session(session_id, reason)


def _time(at: At) -> str:
    """Check that a moment is a time: a version is one session's. Raises NoSuchMoment."""
    if isinstance(at, int):
        raise NoSuchMoment(at, "sessions are listed as of a time; a version is one session's")
    return as_text(at)


def _write_views(storage: "weakref.ref[FileSystemSessionStorage]") -> None:
    """Write views a moment after the append that made them stale; end when nothing is left to write."""
    pause = threading.Event()
    while True:
        pause.wait(_VIEW_DELAY_SECONDS)
        kept = storage()
        if kept is None:
            return
        with suppress(Exception):  # a view that cannot be written is seen to be stale and folded instead
            kept.flush_views()
        with kept._due:
            if not kept._stale:
                kept._writer = None
                return
        del kept


def _begin_in_child(storage: FileSystemSessionStorage) -> None:
    kept = weakref.ref(storage)

    def begin() -> None:
        found = kept()
        if found is not None:
            found._begin()
            found.catalog.begin_in_child()

    os.register_at_fork(after_in_child=begin)


def _show(session: Session, found: Session) -> None:
    """Let the caller's object show what is stored."""
    fields: dict[str, Any] = vars(found)
    for name, value in fields.items():
        setattr(session, name, value)
