"""Lists of sessions, search and figures: each is answered from a cache that is updated first."""

import json
from collections.abc import Callable, Iterable, Iterator, Sequence
from functools import cached_property
from itertools import repeat
from pathlib import Path
from typing import TYPE_CHECKING, Any, TypeAlias

from eventstore.derived.catalog import Catalog
from eventstore.derived.line_keys import LineKeys
from eventstore.derived.listing import Filter
from eventstore.derived.search import Search
from eventstore.derived.search_query import Asked, Hit, Hits
from eventstore.errors import LogDamaged, SessionNotFound
from eventstore.log.engine import EventLog
from eventstore.record.message_run import read_runs
from eventstore.store.as_of import At, version_at
from eventstore.store.folded import FoldedSessions
from eventstore.store.pages import Page, Track, as_time, warn_damaged
from eventstore.store.sub_agents import SubAgent, joined, walk
from projections import metadata as metadata_fold
from projections.models import Session, SessionMetadata, SessionStatus

if TYPE_CHECKING:
    from eventstore.derived.analytics import Analytics, By, Figures  # loaded by who sums
    from eventstore.derived.shared_catalog import SharedCatalog

Rows: TypeAlias = list[tuple[Any, ...]]
Content: TypeAlias = dict[str, Rows]
_COMPARISONS = 5
_WORTH_PROCESSES = 4_000  # sessions: they take longer to read than processes to start


class ListedSessions(FoldedSessions):
    """Sessions that can be listed, searched and summed."""

    def __init__(self, log: EventLog) -> None:
        super().__init__(log)
        self._list_with(None)

    def _list_with(self, folder: Path | None) -> None:
        """Use caches in this folder, or in memory without one."""
        local = Catalog(folder)
        self.catalog: Catalog | SharedCatalog = self._shared(local) if self.log.capabilities.keeps_tables else local
        self._search, self._cache_folder = Search(self.log, folder), folder
        vars(self).pop("_analytics", None)
        self.line_keys = LineKeys(self.log, folder)

    def _shared(self, local: Catalog) -> "SharedCatalog":
        from eventstore.derived.shared_catalog import SharedCatalog  # stores in files have none

        return SharedCatalog(self.log.backend.tables(), local)

    @cached_property
    def _analytics(self) -> "Analytics":
        """The cache of figures, loaded when somebody asks for them."""
        from eventstore.derived.analytics import Analytics

        return Analytics(self.log, self._cache_folder)

    def caches(self, *, used: bool = False) -> "list[Catalog | SharedCatalog | Search | Analytics | LineKeys]":
        """Return the caches of lists, search, figures and imported lines; with `used` without those that were not asked."""
        figures = [] if used and "_analytics" not in vars(self) else [self._analytics]
        return [self.catalog, self._search, *figures, self.line_keys]

    def list_sessions(
        self,
        user_id: str | None = None,
        status: SessionStatus | str | None = None,
        tags: Sequence[str] | None = None,
        limit: int | None = 100,
        at: At | None = None,
    ) -> list[Session]:
        """List sessions as objects, with the filters of `list_metadata`."""
        found = self.list_metadata(user_id, status, tags, limit, at=at)
        return [session for one in found if (session := self._load_or_warn(one.session_id, at)) is not None]

    def _load_or_warn(self, session_id: str, at: At | None) -> Session | None:
        try:
            return self.load_session(session_id, at)
        except LogDamaged as damage:
            warn_damaged(damage)
            return None

    def list_metadata(
        self,
        user_id: str | None = None,
        status: SessionStatus | str | None = None,
        tags: Sequence[str] | None = None,
        limit: int | None = 100,
        on_damage: Callable[[LogDamaged], None] = warn_damaged,
        at: At | None = None,
    ) -> list[SessionMetadata]:
        """List the metadata of sessions that match all filters, the last updated first, then by id; at most `limit`.

        `at`, a time, lists the sessions of that time, as they were. `tags` match any. `on_damage` is called for each session
        whose log cannot be read, and the others are listed; by default it warns.
        """
        if isinstance(tags, str):
            raise ValueError("tags is not a list of texts")
        known = [one.value for one in SessionStatus]
        if status is not None and status not in known:
            raise ValueError(f"status {status!r} is not one of {', '.join(known)}; nothing was done")
        wanted = None if status is None else SessionStatus(status).value
        return self.page(Filter(user_id, wanted, tags, limit=limit), on_damage, at).sessions

    def page(
        self,
        wanted: Filter,
        on_damage: Callable[[LogDamaged], None] = warn_damaged,
        at: At | None = None,
        track: Track = iter,
        *,
        total: bool = False,
        jobs: int = 1,
    ) -> Page:
        """List one page of the sessions that match, as `list_metadata` does; with `total` count them all.

        Raises ValueError for an invalid cursor.

        `track` receives the ids of the sessions to read, and yields each one when it is to be read. Very many are read by `jobs`
        processes, as `spread` of `store.processes` says.
        """
        if at is not None:
            moment, then = as_time(at), Catalog()
            known = self._known_at(track(list(self.log.ids())), on_damage, moment)
            then.put((one.to_dict(), "") for one in known)
            found = then.find(wanted)._replace(total=then.count(wanted) if total else None)
        else:
            read, described = self._reading_ahead(track, jobs)
            found = self.catalog.page(wanted, self.log, described, on_damage, read, total=total)
        return Page([SessionMetadata.from_dict(row) for row in found.rows], found.cursor, found.total, found.previous)

    def sub_agents(self, session_id: str, on_damage: Callable[[LogDamaged], None] = warn_damaged) -> list[SubAgent]:
        """Return the sub-agents that calls of a session started, the oldest first. Raises SessionNotFound, LogDamaged."""
        calls = self.summary(session_id).metadata.calls
        wanted = Filter(sort="created", limit=None, parent=session_id)
        found = self.catalog.page(wanted, self.log, self._describe, on_damage)
        return joined(found.rows[::-1], calls)

    def all_sub_agents(self, session_id: str) -> Iterator[tuple[int, SubAgent]]:
        """Stream the sub-agents below a session, those of sub-agents too, each with its depth. Raises as `sub_agents` does.

        Sessions that cannot be read are left out.
        """
        return walk(session_id, lambda one: self.sub_agents(one, on_damage=lambda damage: None))

    def _reading_ahead(self, track: Track, jobs: int) -> tuple[Track, Callable[[str], dict[str, Any]]]:
        """Return a `track` and a `describe` for which other processes read, if there are very many sessions to read."""
        if jobs == 1:
            return track, self._describe
        ahead = dict[str, dict[str, Any] | None]()

        def read(names: Sequence[str]) -> Iterator[str]:
            rows = self._described(names, jobs) if len(names) >= _WORTH_PROCESSES else repeat(None)
            for name in track(names):
                ahead[name] = next(rows)
                yield name
            next(rows)  # the processes end

        return read, lambda session_id: ahead.pop(session_id, None) or self._describe(session_id)

    def _described(self, session_ids: Sequence[str], jobs: int) -> Iterator[dict[str, Any] | None]:
        """Stream what `_describe` returns, read by so many processes; None for each that has to be read here."""
        return repeat(None)

    def _describe(self, session_id: str) -> dict[str, Any]:
        """Return the metadata of a session: of a small log that is not folded yet by one read of it."""
        lines = None if self._summaries.has(session_id) else self.log.small(session_id)
        if lines is None:
            return self.metadata(session_id).to_dict()
        return metadata_fold.projection.fold(read_runs(lines)).to_model(session_id).to_dict()

    def search(
        self,
        asked: Asked,
        at: At | None = None,
        on_damage: Callable[[LogDamaged], None] = warn_damaged,
        wait_s: float | None = None,
    ) -> Hits:
        """Search the texts of all sessions; `at`, a time, as they were then. Raises NoSuchMoment.

        `on_damage` is called for each session that cannot be read. The index is updated for at most `wait_s` seconds.
        """
        moment = None if at is None else as_time(at)
        versions: dict[str, int] = {}

        def is_visible(session_id: str, seq: int) -> bool:
            if moment is None:
                return True
            if session_id not in versions:
                versions[session_id] = self._version_then(session_id, moment)
            return seq <= versions[session_id]

        return self._search.find(asked, self._describe, on_damage, is_visible, wait_s)

    def analytics(
        self,
        by: "By",
        user_id: str | None = None,
        tag: str | None = None,
        since: str | None = None,
        until: str | None = None,
        on_damage: Callable[[LogDamaged], None] = warn_damaged,
        timezone: str = "UTC",
    ) -> "list[Figures]":
        """Sum up what all sessions did, as `SessionManager.analytics` does."""
        return self._analytics.figures(by, self._describe, on_damage, user_id, tag, since, until, timezone)

    def texts_of(self, hits: Iterable[Hit]) -> list[tuple[Hit, str]]:
        """Return hits with the full texts they were found in."""
        return [(hit, self._search.text_of(hit.session_id, hit.seq)) for hit in hits]

    def _known_at(
        self, session_ids: Iterable[str], on_damage: Callable[[LogDamaged], None], at: str
    ) -> Iterator[SessionMetadata]:
        """Stream the metadata of sessions at a time."""
        for session_id in session_ids:
            try:
                yield self._metadata_at(session_id, at)
            except SessionNotFound:
                continue  # deleted in the meantime, or created later
            except LogDamaged as damage:
                on_damage(damage)

    def rows(self) -> list[dict[str, Any]]:
        """Return all rows of the updated catalogue, as `SessionMetadata.to_dict` does."""
        return self.catalog.page(Filter(limit=None), self.log, self._describe, lambda damage: None).rows

    def _metadata_at(self, session_id: str, at: str) -> SessionMetadata:
        version = self._version_then(session_id, at)
        if not version:
            raise SessionNotFound(session_id)
        return self.summary(session_id, version).metadata.to_model(session_id)

    def _version_then(self, session_id: str, at: str) -> int:
        """Return how many events a session had at a time; 0 before it was created, although a fork has older events."""
        version = version_at(self.log, session_id, at)
        return version if version > self.log.inherited(session_id) else 0

    def forget_found(self, session_ids: Iterable[str]) -> None:
        """Drop sessions from lists, search and figures; their logs are read again."""
        for session_id in session_ids:
            for one in self.caches():
                one.forget(session_id)

    def compact(self) -> None:
        """Remove deleted rows from the files of lists, search and figures for good."""
        for one in self.caches():
            one.scrub()

    def clear_caches(self) -> None:
        """Delete the caches of lists, search and figures. Each is rebuilt when it is used."""
        for one in self.caches():
            one.clear()

    def check_caches(self) -> Iterator[tuple[str, str]]:
        """Compare the caches of lists, search and figures with the logs; yield session ids with their differences.

        The id is empty if a cache cannot be read at all. A session that changes all the time is left out, and so is a cache from
        which others delete rows all the time.
        """
        ours, fresh = self.catalog, Catalog()
        yield from self._different(
            lambda: (ours.content(self.log, self._describe), fresh.content(self.log, self._describe_from_log)),
            _different_row,
        )
        yield from self._different_here("the search index", self._search, Search(self.log))
        yield from self._different_here("the figures", self._analytics, type(self._analytics)(self.log))

    def _different_here(
        self, name: str, ours: "Search | Analytics", fresh: "Search | Analytics"
    ) -> Iterator[tuple[str, str]]:
        try:
            yield from self._different(
                lambda: (ours.content(self._describe), fresh.content(self._describe)),
                lambda found, wanted: f"{name} has something else of it",
            )
        except ValueError as error:
            yield "", str(error)

    def _different(
        self,
        read: Callable[[], tuple[Content | None, Content | None]],
        describe: Callable[[Rows | None, Rows | None], str],
    ) -> Iterator[tuple[str, str]]:
        """Yield the sessions of which a cache has something else than the log.

        The two are read one after the other, so a session counts only if its log did not change from before the first to after
        the second; the others are compared again.
        """
        told = set[str]()
        for _ in range(_COMPARISONS):
            before = dict(self.log.changed().logs)
            found, wanted = read()
            if found is None or wanted is None:
                return
            after = dict(self.log.changed().logs)
            differing = [one for one in {*found, *wanted} if found.get(one) != wanted.get(one)]
            at_rest = {one for one in differing if before.get(one) == after.get(one)}
            for session_id in sorted(at_rest - told):
                yield session_id, describe(found.get(session_id), wanted.get(session_id))
            told |= at_rest
            if told.issuperset(differing):
                return

    def _describe_from_log(self, session_id: str) -> dict[str, Any]:
        """Return a session's metadata from its log alone, without views."""
        return self.summary(session_id).metadata.to_model(session_id).to_dict()


def _different_row(found: Rows | None, wanted: Rows | None) -> str:
    """Describe how the row of a session differs from its log."""
    if found is None or wanted is None:
        return "the catalogue does not have it" if found is None else "the catalogue has it, and its log does not"
    try:
        shown, right = json.loads(found[0][1]), json.loads(wanted[0][1])
        names = [name for name in right if shown.get(name) != right[name]]
    except (ValueError, TypeError, AttributeError):
        names = []
    return f"the catalogue has another {names[0] if names else 'row'}"
