"""Retention: what goes to the trash, comes back out of it, or goes for good, and why."""

from collections.abc import Callable, Iterable
from contextlib import suppress
from dataclasses import dataclass
from datetime import datetime
from typing import Literal

from eventstore.derived.catalog import Catalog
from eventstore.errors import InvalidSessionId, LogDamaged, SessionExists, SessionNotFound, VersionConflict
from eventstore.events import StoreSessionRestored, StoreSessionTrashed, StoreTrashPurged
from eventstore.ids import STORE_ID, check_session_id, id_of
from eventstore.log.base import EventLog, Head
from eventstore.record import codec
from eventstore.store.registry import Lineages
from projections.models import SessionMetadata

GRACE_DAYS = 7.0


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


@dataclass(frozen=True)
class Trashed:
    """A session in the trash, where it is called `name`, since when, and what its log held.

    `since` is empty where the store's own log does not tell of it, say because a crash came in between.
    """

    session_id: str
    name: str
    since: str
    events: int
    size_bytes: int


class Retention:
    """The trash of a log.

    `metadata` tells what is known of a session and raises SessionNotFound and LogDamaged; `forget` is told of one that goes.
    """

    def __init__(
        self,
        log: EventLog,
        catalog: Catalog,
        lineages: Lineages,
        metadata: Callable[[str], SessionMetadata],
        forget: Callable[[str], None],
    ) -> None:
        self._log, self._catalog, self._lineages = log, catalog, lineages
        self._metadata, self._forget = metadata, forget

    def trash(self, session_id: str, reason: str | None = None) -> bool:
        """Put a session in the trash, out of which `restore` brings it back; False where there is none.

        It and forks of it are made whole first. Raises LogDamaged where that cannot be.
        """
        check_session_id(session_id)
        with self._lineages.locked():
            try:
                head, name = self._take(session_id)
            except SessionNotFound:
                return False
            self._forget(session_id)
            self._lineages.note(
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

    def _take(self, session_id: str) -> tuple[Head, str]:
        """Move a session to the trash; return where its log ended then, and its name there."""
        while True:
            self._lineages.make_descendants_whole(session_id)
            self._log.make_whole(session_id)
            head = self._log.head(session_id)
            with suppress(VersionConflict):  # somebody appended since: look again
                return head, self._log.trash(session_id, expected_version=head.version)

    def restore(self, session_id: str) -> None:
        """Bring the session that was last put in the trash under this id back. Raises SessionNotFound, SessionExists."""
        names = [name for name in self._log.trashed() if id_of(name) == check_session_id(session_id)]
        if not names:
            raise SessionExists(session_id) if self._is_there(session_id) else SessionNotFound(session_id)
        name = max(names, key=lambda one: int(one.partition("~")[2] or 1))
        self._catalog.mark(session_id)
        with self._lineages.locked():
            self._log.restore(name)
            self._lineages.note(StoreSessionRestored(session_id=session_id, name=name))

    def _is_there(self, session_id: str) -> bool:
        try:
            return self._log.exists(session_id)
        except LogDamaged:
            return True

    def trashed(self) -> list[Trashed]:
        """List what is in the trash, what came there last first."""
        told = dict[str, StoreSessionTrashed]()
        with suppress(SessionNotFound):
            events = self._log.read(STORE_ID)
            told = {event.name: event for event in events if isinstance(event, StoreSessionTrashed)}
        since, found = self._lineages.state().trashed, list[Trashed]()
        for name in self._log.trashed():
            with suppress(InvalidSessionId):
                one = told.get(name) if name in since else None
                size = (one.events, one.size_bytes) if one else (0, 0)
                found.append(Trashed(id_of(name), name, since.get(name, ""), *size))
        return sorted(found, key=lambda one: (one.since, one.name), reverse=True)

    def plan(self, sessions: Iterable[SessionMetadata], cutoff: datetime, trashed_before: datetime) -> list[Expiry]:
        """Plan which sessions go to the trash, which of those in it go for good, and which are kept though they are old."""
        plan = [self._judge(one) for one in sessions if one.updated_at < codec.to_utc(cutoff)]
        limit = codec.to_text(trashed_before)
        gone = [one for one in reversed(self.trashed()) if one.since and one.since < limit]
        plan += [
            Expiry(one.session_id, "purge", f"in the trash since {one.since}", name=one.name, size_bytes=one.size_bytes)
            for one in gone
        ]
        return plan

    def _judge(self, one: SessionMetadata) -> Expiry:
        try:
            size = self._log.head(one.session_id).size_bytes
        except (SessionNotFound, LogDamaged):
            return Expiry(one.session_id, "keep", "its log is damaged: repair or delete it", one.updated_at)
        last = f"last updated {one.updated_at.isoformat(' ', 'seconds')[:19]} UTC"
        if one.pinned:
            return Expiry(one.session_id, "keep", f"pinned; {last}", one.updated_at, size_bytes=size)
        return Expiry(one.session_id, "trash", last, one.updated_at, size_bytes=size)

    def clean_up(self, plan: Iterable[Expiry]) -> list[Expiry]:
        """Do what a plan says; return what was done. A session that was updated, pinned or deleted since is left alone."""
        return [one for one in plan if self._expire(one)]

    def _expire(self, one: Expiry) -> bool:
        if one.action == "purge":
            if one.name not in self._log.trashed():
                return False
            self._lineages.note(StoreTrashPurged(session_id=one.session_id, name=one.name))
            return self._log.purge(one.name)
        if one.action == "keep":
            return False
        try:
            known = self._metadata(one.session_id)
        except (SessionNotFound, LogDamaged):
            return False
        if known.updated_at != one.updated_at or known.pinned:
            return False
        return self.trash(one.session_id, f"retention: {one.reason}")
