"""Append events to sessions, and fold them: as they are, or as of a moment."""

import threading
from collections.abc import Callable, Sequence
from functools import cached_property, partial
from typing import TYPE_CHECKING, Any, TypeVar

from eventstore.derived.state_cache import CachedState, StateCache
from eventstore.errors import SessionNotFound
from eventstore.events import Event, SessionCreated
from eventstore.ids import STORE_ID, check_new_session_id, check_session_id
from eventstore.log.base import Append, Appended, Head, Outcome, Written
from eventstore.log.engine import EventLog
from eventstore.store.as_of import At, version_at
from eventstore.store.call_values import is_ready
from eventstore.store.registry import Registry
from eventstore.store.tool_history import ToolHistory
from projections import records as records_fold
from projections import session as session_fold
from projections import statistics as statistics_fold
from projections import summary as summary_fold
from projections.models import Session, SessionMetadata
from projections.projection import Folded, Projection

if TYPE_CHECKING:
    from eventstore.derived.moment_file import MomentFiles
    from eventstore.derived.moment_index import MomentIndexes

S = TypeVar("S")
_SESSION_EVENTS, _SUMMARY_EVENTS, _PROJECTED_EVENTS = 50_000, 500_000, 500_000
_RECORD_EVENTS = 200_000
_MOST_PROJECTIONS = 32


class FoldedSessions:
    """Sessions on a log, appended to and folded. Safe for threads.

    `history` is the history folder of tool calls, if any; `registry` the registry of the store.
    """

    history: ToolHistory | None = None

    def __init__(self, log: EventLog) -> None:
        self.log = log
        self.registry = Registry(log)
        self._sessions = StateCache(log, session_fold.projection, _SESSION_EVENTS)
        self._summaries = StateCache(log, summary_fold.projection, _SUMMARY_EVENTS)
        self._records = StateCache(log, records_fold.projection, _RECORD_EVENTS)
        self._projected: dict[Projection[Any], StateCache[Any]] = {}
        self._projected_mutex = threading.Lock()

    @cached_property
    def moments(self) -> "MomentIndexes":
        """Indexes of the moments of sessions, loaded when somebody asks for one."""
        from eventstore.derived.moment_index import MomentIndexes

        return MomentIndexes(self.log, self._moment_files())

    def _moment_files(self) -> "MomentFiles | None":
        """Return what keeps the indexes of moments in files, if anything does."""
        return None

    def append(self, session_id: str, events: Sequence[Event], *, expected_version: int | None = None) -> Appended:
        """Append events as one batch, as `EventLog.append` does, and mark the views as outdated.

        The first event of a session creates it, and the registry then records that. Where the record fails, the session exists
        and the next writer records it.
        """
        if session_id == STORE_ID:
            check_session_id(session_id)
        if events and isinstance(events[0], SessionCreated):
            check_new_session_id(session_id)
        try:
            result = self.log.append(session_id, events, expected_version=expected_version)
        finally:
            if self.log.unsettled:
                self.log.settle_values(session_id, events)
        if result.first == 1 and not result.repeated:
            self.registry.note_created({session_id: 0})
        self._changed(session_id, events)
        return result

    def append_many(self, appends: Sequence[Append], *, imported: bool = False) -> Written:
        """Append for several callers, as `EventLog.append_many` does, and mark the views as outdated.

        `imported` says that they are of a file that is imported: no conversation is written for people then.
        """
        written = self.log.append_many(appends)
        self._note_outcomes(appends, written.outcomes, imported=imported)
        return written

    def append_at_once(self, session_id: str, appends: Sequence[Append]) -> Written | None:
        """Append for several callers to one session, as `EventLog.append_at_once` does, and mark the views as outdated."""
        if not all(is_ready(append.events) for append in appends):
            return None
        written = self.log.append_at_once(session_id, appends)
        if written is not None:
            self._note_written(appends, written)
        return written

    def append_joined(self, appends: Sequence[Append]) -> Written:
        """Append for several callers in one step, as `EventLog.append_joined` does, and mark the views as outdated."""
        written = self.log.append_joined(appends)
        self._note_written(appends, written)
        return written

    def _note_written(self, appends: Sequence[Append], written: Written) -> None:
        """Note what was appended; what is left is noted when it is made."""
        self._note_outcomes(appends, written.outcomes)
        for number, (places, make) in enumerate(written.left):
            written.left[number] = places, partial(self._make_left, [appends[place] for place in places], make)

    def _make_left(self, appends: Sequence[Append], make: Callable[[], Sequence[Outcome]]) -> Sequence[Outcome]:
        outcomes = make()
        self._note_outcomes(appends, outcomes)
        return outcomes

    def _note_outcomes(
        self, appends: Sequence[Append], outcomes: Sequence[Outcome | None], *, imported: bool = False
    ) -> None:
        """Note what was appended; None is an append that is not made yet."""
        created: dict[str, int] = {}
        for append, outcome in zip(appends, outcomes, strict=True):
            if outcome is not None and self.log.unsettled:
                self.log.settle_values(append.session_id, append.events)
            if isinstance(outcome, Appended):
                if outcome.first == 1 and not outcome.repeated:
                    created[append.session_id] = 0
                self._changed(append.session_id, append.events, imported=imported)
        if created:
            self.registry.note_created(created)

    def extend(self, session_id: str, batches: Sequence[Sequence[Event]], *, expected_version: int) -> Appended:
        """Append several batches of an import, as `EventLog.extend` does, and mark the views as outdated."""
        if batches and batches[0] and isinstance(batches[0][0], SessionCreated):
            check_new_session_id(session_id)
        result = self.log.extend(check_session_id(session_id), batches, expected_version=expected_version)
        if result.first == 1:
            self.registry.note_created({session_id: 0})
        self._changed(session_id, [event for events in batches for event in events], imported=True)
        return result

    def fold(self, session_id: str, at: At | None = None, *, recorded: bool = False) -> session_fold.State:
        """Fold a session, as it is or was. The state is shared: do not change it.

        `at` and `recorded` are those of `version_at`. Raises SessionNotFound, also before the session's first event, LogDamaged
        and NoSuchMoment.
        """
        if at is None:
            return self._sessions.get(check_session_id(session_id)).state
        return self._sessions.get_at(session_id, self.version_at(session_id, at, recorded=recorded))

    def summary(self, session_id: str, at: At | None = None, *, recorded: bool = False) -> summary_fold.State:
        """Fold all but the texts of messages, as `fold` does, at a fraction of its cost. Raises as `fold` does."""
        if at is None:
            return self._summaries.get(check_session_id(session_id)).state
        return self._summaries.get_at(session_id, self.version_at(session_id, at, recorded=recorded))

    def records(self, session_id: str, at: At | None = None, *, recorded: bool = False) -> records_fold.State:
        """Fold the streams of a session, as `fold` does. The state is shared: do not change it. Raises as `fold` does."""
        if at is None:
            return self.records_to(session_id).state
        return self._records.get_at(session_id, self.version_at(session_id, at, recorded=recorded))

    def records_to(self, session_id: str, head: Head | None = None) -> CachedState[records_fold.State]:
        """Fold the streams of a session, with the end of the log that they include. Raises SessionNotFound, LogDamaged.

        `head` is an end that this returned before, for a caller who knows that the log did not change since: it is not read then.
        """
        return self._records.get(session_id if head else check_session_id(session_id), head)

    def project(self, session_id: str, projection: Projection[S], at: At | None = None, *, recorded: bool = False) -> S:
        """Fold a session with a projection of a program, and return a copy of the state. Raises as `fold` does."""
        cache = self._cache_of(projection)
        if at is None:
            folded = cache.get(check_session_id(session_id)).state
        else:
            folded = cache.get_at(session_id, self.version_at(session_id, at, recorded=recorded))
        return projection.copy(folded.state)

    def _cache_of(self, projection: Projection[S]) -> StateCache[Folded[S]]:
        """Return the cache of a projection. The caches of those that were not used for longest are dropped."""
        with self._projected_mutex:
            cache = self._projected.pop(projection, None)
            if cache is None:
                cache = StateCache(self.log, projection.as_fold(), _PROJECTED_EVENTS)
            self._projected[projection] = cache
            while len(self._projected) > _MOST_PROJECTIONS:
                del self._projected[next(iter(self._projected))]
            return cache

    def statistics(self, session_id: str, at: At | None = None, *, recorded: bool = False) -> dict[str, Any]:
        """Return a session's figures as JSON values, as they are or were. Raises as `fold` does."""
        return statistics_fold.to_dict(self.summary(session_id, at, recorded=recorded), session_id)

    def version_at(self, session_id: str, at: At | None, *, recorded: bool = False) -> int:
        """Return how many of a session's events had happened at a version or time; None means now.

        The answer is always a prefix of the log: it ends before the first event of a later time. `recorded` compares the times of
        writing instead. Raises SessionNotFound, also before the session's first event, LogDamaged, NoSuchMoment.
        """
        check_session_id(session_id)
        if at is None:
            return self.log.head(session_id).version
        version = version_at(self.log, session_id, at, recorded=recorded)
        if not version:
            raise SessionNotFound(session_id, not_begun=True)
        return version

    def metadata(self, session_id: str) -> SessionMetadata:
        """Return a session's metadata. Raises SessionNotFound, LogDamaged."""
        return self.summary(session_id).metadata.to_model(session_id)

    def load_session(self, session_id: str, at: At | None = None, *, recorded: bool = False) -> Session | None:
        """Return the session as a new object, as it is or was, or None. Raises InvalidSessionId, LogDamaged, NoSuchMoment."""
        try:
            return self.fold(session_id, at, recorded=recorded).to_model(session_id)
        except SessionNotFound:
            return None

    def session_exists(self, session_id: str) -> bool:
        """Return whether the session exists."""
        return self.log.exists(check_session_id(session_id))

    def _changed(self, session_id: str, events: Sequence[Event], *, imported: bool = False) -> None:
        """Mark derived state as outdated, after an append."""

    def _drop_folds(self, session_id: str) -> None:
        """Drop the cached states of a session: its log was replaced or deleted."""
        self._sessions.forget(session_id)
        self._summaries.forget(session_id)
        if "moments" in vars(self):
            self.moments.forget(session_id)
        self._records.forget(session_id)
        with self._projected_mutex:
            caches = list(self._projected.values())
        for cache in caches:
            cache.forget(session_id)
