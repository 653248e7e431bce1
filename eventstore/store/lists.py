"""Lists of sessions, search and figures: what the catalogue answers, caught up with the logs first."""

from collections.abc import Callable, Iterable, Sequence
from typing import Any

from eventstore.derived.analytics import Analytics, By, Figures
from eventstore.derived.catalog import Catalog, CatalogLost, Filter, Sizes
from eventstore.derived.search import Asked, Hit, Search
from eventstore.errors import LogDamaged, SessionNotFound
from eventstore.log.base import EventLog
from eventstore.store.as_of import At, version_at
from eventstore.store.folded import FoldedSessions
from eventstore.store.pages import LogSizes, Page, Track, as_time, tell_damage
from projections.models import Session, SessionMetadata, SessionStatus


class ListedSessions(FoldedSessions):
    """Sessions that can be listed, searched and summed up."""

    def __init__(self, log: EventLog) -> None:
        super().__init__(log)
        self._list_with(self.catalog, LogSizes(log))

    def _list_with(self, catalog: Catalog, sizes: Sizes) -> None:
        """Answer from this catalogue from now on."""
        self.catalog, self._sizes = catalog, sizes
        self._search, self._analytics = Search(self.log, catalog), Analytics(self.log, catalog)

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
            except CatalogLost:  # it was thrown away: the second time it is rebuilt
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

    def forget_found(self, session_ids: Iterable[str]) -> None:
        """Drop sessions from the search index; what their logs still hold is read again. Raises CatalogLost."""
        for session_id in session_ids:
            self._search.forget(session_id)

    def compact(self) -> None:
        """See that nothing is left in the catalogue's files of what was dropped."""
        self.page(Filter(limit=0), lambda damage: None)
        self._search.compact()
        self.catalog.scrub()
