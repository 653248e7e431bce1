"""Sessions on a log: whole objects in, events out, and back; listing, deleting, views."""

import sqlite3
from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import suppress
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from pathlib import Path
from types import TracebackType
from typing import Any, Self

import msgspec

from eventstore.derived.analytics import Analytics, By, Figures
from eventstore.derived.catalog import Catalog, Filter, Sizes
from eventstore.derived.search import Asked, Hit, Search
from eventstore.derived.state_cache import Folds
from eventstore.errors import InvalidSessionId, LogDamaged, SessionExists, SessionNotFound, VersionConflict
from eventstore.events import Event, InvocationLinked, SessionCompleted, SessionCreated
from eventstore.ids import STORE_ID, TEMPLATE, check_session_id
from eventstore.log.base import Append, Appended, Head, Repair, Written
from eventstore.log.engine import EventLog
from eventstore.log.ingest import Whole
from eventstore.record import clock
from eventstore.store.as_of import At, version_at
from eventstore.store.pages import LogSizes, Page, Track, as_time, tell_damage
from eventstore.store.registry import Lineages
from eventstore.store.retention import GRACE_DAYS, Expiry, Retention, Trashed
from eventstore.store.save_diff import find_changes
from eventstore.store.tool_history import ToolHistory
from eventstore.subscriptions.positions import Positions
from projections import session as session_fold
from projections import statistics as statistics_fold
from projections import summary as summary_fold
from projections.models import Session, SessionMetadata, SessionStatus

_WHOLE_EVENTS, _SUMMARY_EVENTS = 50_000, 5_000_000


class SessionStorage:
    """Sessions kept on any EventLog. Safe for threads.

    `history` is the tool side, where there is one; `lineages` the store's own log.
    """

    history: ToolHistory | None = None

    def __init__(self, log: EventLog) -> None:
        self.log = log
        self._wholes = Folds(log, session_fold.projection, _WHOLE_EVENTS)
        self._summaries = Folds(log, summary_fold.projection, _SUMMARY_EVENTS)
        self.catalog = Catalog()
        self.positions = Positions(log.backend)
        self.lineages = Lineages(log)
        self._sizes: Sizes = LogSizes(log)
        self._search, self._analytics = Search(log, self.catalog), Analytics(log, self.catalog)

    # --- events

    def append(self, session_id: str, events: Sequence[Event], *, expected_version: int | None = None) -> Appended:
        """Append events as one batch, as `EventLog.append` does, and see to the views."""
        if session_id == STORE_ID:
            check_session_id(session_id)
        self.catalog.mark(session_id)
        result = self.log.append(session_id, events, expected_version=expected_version)
        if result.first == 1 and not result.repeated:
            self.lineages.note_created(session_id)
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
                    self.lineages.note_created(append.session_id)
                self._changed(append.session_id, append.events)
        return written

    def extend(self, session_id: str, batches: Sequence[Sequence[Event]], *, expected_version: int) -> Appended:
        """Append several batches, as `EventLog.extend` does, and see to the views."""
        self.catalog.mark(session_id)
        result = self.log.extend(check_session_id(session_id), batches, expected_version=expected_version)
        if result.first == 1:
            self.lineages.note_created(session_id)
        self._changed(session_id, [event for events in batches for event in events])
        return result

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

    def statistics(self, session_id: str, at: At | None = None, *, recorded: bool = False) -> dict[str, Any]:
        """Give a session's figures as JSON values, as they are or were. Raises as `fold` does."""
        return statistics_fold.to_dict(self.summary(session_id, at, recorded=recorded), session_id)

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

    # --- whole logs from elsewhere

    def adopt(
        self,
        whole: Whole,
        chunks: Iterable[bytes],
        beside: Iterable[tuple[str, Iterable[bytes]]] = (),
        *,
        ended: int = 0,
    ) -> Head:
        """Take in the log of a session or template that was verified, as `EventLog.adopt` does; views are written anew.

        `ended` is how many events a session of this id had, where it came from, that was deleted there. Raises as that does, and
        LogDamaged where the chunks are not those that were verified; then nothing was taken in.
        """
        log_id = whole.session_id
        if not log_id.startswith(TEMPLATE):
            self.catalog.mark(log_id)
        with self.lineages.locked():
            if self.log.exists(log_id):
                raise SessionExists(log_id)
            if whole.origin:  # before it is there: who deletes its parent meanwhile must know of it
                self.lineages.note_origin(whole)
            root = None if whole.fork else whole.root
            head = self.log.adopt(log_id, _same(whole, chunks), beside, root=root)
            self.lineages.note_adopted(whole, ended=ended, is_new=True)
        if not log_id.startswith(TEMPLATE):
            self._changed(log_id, ())
            self.flush_views(log_id)
            self._wholes.forget(log_id)
            self._summaries.forget(log_id)
        return head

    # --- forks

    def fork_session(self, session_id: str, parent: str, version: int, event: SessionCreated) -> None:
        """Begin a session with the first `version` events of another, as `EventLog.fork` does. Raises as that does.

        Its views are written when something is appended to it: until then they would be copies.
        """
        self.catalog.mark(session_id)
        if self.was_used(session_id):
            event = msgspec.structs.replace(event, used_before=True)
        self.lineages.fork(session_id, parent, version, event)

    def save_template(self, name: str, parent: str, version: int, event: SessionCreated) -> None:
        """Keep the first `version` events of a session as a template. Raises SessionExists where the name is taken."""
        self.lineages.save_template(name, parent, version, event)

    def use_template(self, name: str, session_id: str, event: SessionCreated) -> None:
        """Begin a session with a template's past. Raises SessionNotFound for the template, SessionExists for the session."""
        self.fork_session(session_id, *self.lineages.template(name), event)

    def templates(self) -> list[str]:
        """List the names of templates."""
        return self.lineages.templates()

    def load_template(self, name: str) -> Session:
        """Return a template as a session object. Raises SessionNotFound."""
        return self._wholes.get(TEMPLATE + check_session_id(name)).state.to_model(name)

    def remove_template(self, name: str) -> bool:
        """Remove a template; sessions made of it stay. False where there was none."""
        return self.lineages.delete(TEMPLATE + check_session_id(name), "template removed", self._forget)

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

    def delete_session(self, session_id: str, reason: str | None = None, *, history: bool = False) -> bool:
        """Delete a session for good, a damaged one too; False where there was none.

        The store's own log keeps its size and last hash, of a damaged one those of what is readable. Forks of it are made whole
        first; one that cannot be, because it or this session is damaged, is an error and nothing is deleted. Raises LogDamaged.
        With `history` the folders of its tool calls go too, those inside the history folder that no fork of it refers to.
        """
        check_session_id(session_id)
        folders = self._folders_of(session_id) if history else set()
        for other in self.lineages.state().descendants(session_id) if folders else ():
            folders -= self._folders_of(other)
        gone = self.lineages.delete(session_id, reason, self._forget)
        if gone and self.history is not None:
            for folder in sorted(folders):
                with suppress(ValueError):  # it is not inside the history folder
                    self.history.remove(folder)
        return gone

    def _folders_of(self, session_id: str) -> set[str]:
        """Name the folders of a session's tool calls, as far as its log can be read."""
        found = set[str]()
        with suppress(SessionNotFound, LogDamaged):
            for event in self.log.skim(session_id):
                if isinstance(event, InvocationLinked) and event.invocation_dir:
                    found.add(event.invocation_dir)
        return found

    # --- retention

    def was_used(self, session_id: str) -> bool:
        """Tell whether a session with this id was deleted or put in the trash, or should be there: its end is told nowhere."""
        state = self.lineages.state()
        return session_id in state.used or session_id in state.there

    def ended(self, session_id: str) -> int:
        """Tell how many events a session with this id had that was deleted or put in the trash, at most; 0 where none was.

        Waits for whoever deletes or puts in the trash right now: only then it is told.
        """
        with suppress(OSError), self.lineages.locked():  # nobody does where nothing may be written
            return self.lineages.state().used.get(session_id, 0)
        return self.lineages.state().used.get(session_id, 0)

    def trash_session(self, session_id: str, reason: str | None = None) -> bool:
        """Put a session in the trash, out of which `restore_session` brings it back; False where there is none.

        It and forks of it are made whole first. Raises LogDamaged where that cannot be.
        """
        return self._retention().trash(session_id, reason)

    def restore_session(self, session_id: str) -> None:
        """Bring the session that was last put in the trash under this id back. Raises SessionNotFound, SessionExists."""
        self._retention().restore(session_id)

    def list_trash(self) -> list[Trashed]:
        """List what is in the trash, what came there last first."""
        return self._retention().trashed()

    def plan_cleanup(
        self, cutoff: datetime, trashed_before: datetime, on_damage: Callable[[LogDamaged], None] = tell_damage
    ) -> list[Expiry]:
        """Plan which sessions go to the trash, which of those in it go for good, and which are kept though they are old.

        `on_damage` hears of sessions that cannot be read: they are left alone.
        """
        return self._retention().plan(self.list_metadata(limit=None, on_damage=on_damage), cutoff, trashed_before)

    def clean_up(self, plan: Iterable[Expiry]) -> list[Expiry]:
        """Do what a plan says; return what was done. A session that was updated, pinned or deleted since is left alone."""
        return self._retention().clean_up(plan)

    def cleanup_sessions(self, cutoff_date: datetime) -> int:
        """Put the sessions last updated before a moment (without a zone: local) in the trash; return how many there were."""
        plan = self.plan_cleanup(cutoff_date, datetime.now(UTC) - timedelta(days=GRACE_DAYS))
        return sum(one.action == "trash" for one in self.clean_up(plan))

    def redone(self, session_id: str) -> None:
        """Make anew all that is kept of a session besides its log, after something in it was redacted."""
        self._wholes.forget(session_id)
        self._summaries.forget(session_id)
        self._search.forget(session_id)

    def forget_trashed_views(self, name: str) -> None:
        """Remove what was made of a session that is in the trash; it is made anew when it comes back."""

    def compact(self) -> None:
        """See that nothing is left in the catalogue's files of what was dropped."""
        self.page(Filter(limit=0), lambda damage: None)
        self._search.compact()
        self.catalog.scrub()

    def _retention(self) -> Retention:
        """Give the trash; made when asked for, so that a storage is in no circle and is freed when it is dropped."""
        return Retention(self.log, self.catalog, self.lineages, self.metadata, self._forget)

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

    def page(
        self,
        wanted: Filter,
        on_damage: Callable[[LogDamaged], None] = tell_damage,
        at: At | None = None,
        track: Track = iter,
    ) -> Page:
        """List the sessions that fit, a page of them, as `list_metadata` does. Raises ValueError for a cursor that is none.

        `track` is given the ids of the sessions that have to be looked at first, and gives them back as that goes on.
        """
        if at is not None:
            then = Catalog()
            then.put(self._rows(track(list(self.log.ids())), on_damage, as_time(at)))
            rows, cursor = then.find(wanted)
        else:
            try:
                rows, cursor = self._find(wanted, on_damage, track)
            except sqlite3.DatabaseError:  # it was thrown away: the second time it is made anew
                rows, cursor = self._find(wanted, on_damage, track)
        return Page([SessionMetadata.from_dict(row) for row in rows], cursor)

    def _find(
        self, wanted: Filter, on_damage: Callable[[LogDamaged], None], track: Track = iter
    ) -> tuple[list[dict[str, Any]], str | None]:
        self.catalog.put(self._rows(track(self.catalog.stale(self._sizes)), on_damage, None))
        return self.catalog.find(wanted)

    def search(
        self, asked: Asked, at: At | None = None, on_damage: Callable[[LogDamaged], None] = tell_damage
    ) -> list[Hit]:
        """Search what was said in all sessions; `at` as it was at a time. Raises NoSuchMoment.

        `on_damage` hears of sessions that cannot be read.
        """
        moment = None if at is None else as_time(at)
        versions: dict[str, int] = {}

        def is_visible(session_id: str, seq: int) -> bool:
            if moment is None:
                return True
            if session_id not in versions:
                versions[session_id] = version_at(self.log, session_id, moment)
            return seq <= versions[session_id]

        self.page(Filter(limit=0), on_damage)
        return self._search.find(asked, is_visible)

    def analytics(
        self,
        by: By,
        user_id: str | None = None,
        tag: str | None = None,
        since: str | None = None,
        until: str | None = None,
        on_damage: Callable[[LogDamaged], None] = tell_damage,
    ) -> list[Figures]:
        """Sum up what all sessions did, as `SessionManager.analytics` does."""
        self.page(Filter(limit=0), on_damage)
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
        plan = self.log.repair(session_id)
        if plan is None:
            return None
        forks, checkpoint = self._forks_behind(session_id, plan.kept), self._checkpoint_behind(session_id, plan.kept)
        if not dry_run:
            plan = self.log.repair(session_id, dry_run=False)
            self._wholes.forget(session_id)
            self._summaries.forget(session_id)
        return plan and replace(plan, forks=forks, checkpoint=checkpoint)

    def _forks_behind(self, session_id: str, kept: int) -> tuple[str, ...]:
        """Name the forks that have more than the first `kept` events of a session, and have them of it only."""
        parents, found = self.lineages.state().parents, dict[str, None]()
        for one in self.lineages.state().descendants(session_id):  # each is in front of its own
            if parents[one] == session_id or parents[one] in found:
                with suppress(SessionNotFound, LogDamaged):
                    if self.log.inherited(one) > kept:
                        found[one] = None
        return tuple(found)

    def _checkpoint_behind(self, session_id: str, kept: int) -> int:
        """Give the size of the largest checkpoint of more than the first `kept` events of a session; 0 without one."""
        digits = (name.partition("-")[0] for name, _ in self.log.notes(session_id))
        sizes = [int(one) for one in digits if one.isascii() and one.isdecimal()]
        return max((size for size in sizes if size > kept), default=0)

    def recover(self, silent_for: timedelta, on_damage: Callable[[LogDamaged], None] = tell_damage) -> list[str]:
        """Mark active sessions as abandoned whose writer is gone and that recorded nothing for so long; return their ids.

        `on_damage` hears of sessions that cannot be read: they stay as they are.
        """
        before = clock.to_text(datetime.now(UTC) - silent_for)
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


def _same(whole: Whole, chunks: Iterable[bytes]) -> Iterator[bytes]:
    """Pass on the bytes of a log that was verified; raise LogDamaged at the end where they are others."""
    last, size = b"", 0
    for chunk in chunks:
        last, size = (last + chunk)[-67:], size + len(chunk)
        yield chunk
    if size != whole.head.size_bytes or not last.startswith(whole.head.hash.encode("ascii")):
        raise LogDamaged(whole.session_id, "its log", 1, 0, "it is not the log that was verified before", 0)


def _show(session: Session, found: Session) -> None:
    """Let the caller's object show what is stored."""
    fields: dict[str, Any] = vars(found)
    for name, value in fields.items():
        setattr(session, name, value)
