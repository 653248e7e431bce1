"""Retention: moving sessions to the trash, restoring and purging them, and plans for that."""

from collections.abc import Callable, Iterable
from contextlib import suppress
from dataclasses import dataclass
from datetime import datetime
from typing import Literal

from eventstore.errors import (
    EventStoreError,
    InvalidSessionId,
    LogDamaged,
    SessionExists,
    SessionNotFound,
    VersionConflict,
)
from eventstore.events import EventRedacted, LogRepaired, StoreSessionRestored, StoreSessionTrashed, StoreTrashPurged
from eventstore.ids import check_session_id, free_name, id_of
from eventstore.log.base import Head
from eventstore.log.engine import EventLog
from eventstore.record import clock
from eventstore.store.lock import refusing
from eventstore.store.registry import Registry
from projections.models import SessionMetadata

GRACE_DAYS = 7.0


@dataclass(frozen=True)
class Expiry:
    """What retention does with a session, and why: `trash` it, `purge` it out of the trash, or `keep` it.

    `name` is its name in the trash, and `since` the time it was moved there (RFC 3339 text). `version`, `head_hash` and
    `size_bytes` describe its log when the plan was made: where the log has changed since, nothing is done.
    """

    session_id: str
    action: Literal["trash", "purge", "keep"]
    reason: str
    updated_at: datetime | None = None
    name: str = ""
    size_bytes: int = 0
    version: int = 0
    head_hash: str = ""
    since: str = ""


@dataclass(frozen=True)
class Trashed:
    """A session in the trash: its `name` there, the time it was moved, and the size of its log.

    `since` is empty if the registry has no record, for example after a crash: the next writer records it.
    """

    session_id: str
    name: str
    since: str
    events: int
    size_bytes: int
    head_hash: str = ""


class Retention:
    """The trash of a log. `metadata` returns a session's metadata, and raises SessionNotFound and LogDamaged."""

    def __init__(self, log: EventLog, registry: Registry, metadata: Callable[[str], SessionMetadata]) -> None:
        self._log, self._registry, self._metadata = log, registry, metadata

    # --- moving

    def trash(self, session_id: str, reason: str | None = None, planned: Expiry | None = None) -> bool:
        """Move a session to the trash. False if there is none, or it has changed since it was `planned`.

        First it and its forks become independent of each other. Raises LogDamaged if they cannot, OperationRefused.
        """
        check_session_id(session_id)
        with self._registry.locked(), refusing(session_id, "moved to the trash"):
            while True:
                head = self._prepare(session_id, planned)
                if head is None:
                    return False
                try:
                    self._move(session_id, head, reason)
                except VersionConflict:
                    continue  # another writer appended: try again
                except SessionNotFound:
                    return False
                return True

    def _prepare(self, session_id: str, planned: Expiry | None) -> Head | None:
        """Make a session independent of others and return its head; None if it is missing or has changed since the plan."""
        try:
            before = self._log.head(session_id)
            if planned is not None and (before.version, before.hash) != (planned.version, planned.head_hash):
                return None
            self._log.mend(session_id)
            self._registry.make_descendants_independent(session_id)
            self._log.make_whole(session_id)
            head = self._log.head(session_id)
            since = self._log.read(session_id, before.version, head.version)
            if planned is not None and not all(isinstance(event, EventRedacted | LogRepaired) for event in since):
                return None  # another writer appended more than the records of a repair and of becoming independent
        except SessionNotFound:
            return None
        return head

    def _move(self, session_id: str, head: Head, reason: str | None) -> None:
        """Record, then move. Where the move fails, record that the session is still there."""
        name = free_name(session_id, set(self._log.trashed()))
        self._announce(session_id, name, head, reason)
        try:
            moved = self._log.trash(session_id, expected_version=head.version)
        except (EventStoreError, OSError):
            self._take_back(session_id, name)
            raise
        if moved != name:
            self._take_back(session_id, name)
            self._announce(session_id, moved, head, reason)
        self._registry.settled(names=(moved,))

    def _announce(self, session_id: str, name: str, head: Head, reason: str | None) -> None:
        trashed = StoreSessionTrashed(
            session_id=session_id,
            name=name,
            events=head.version,
            size_bytes=head.size_bytes,
            head_hash=head.hash,
            reason=reason,
        )
        self._registry.announce(trashed, session_id)

    def _take_back(self, session_id: str, name: str) -> None:
        """Record that a session is not in the trash. Where that fails too, the next writer records it."""
        restored = StoreSessionRestored(session_id=session_id, name=name)
        try:
            self._registry.record(lambda state: [restored] if name in state.trashed else [])
        except (EventStoreError, OSError):
            self._registry.unsettle()
        else:
            self._registry.settled(names=(name,))

    def restore(self, session_id: str) -> None:
        """Restore the session of this id that was moved to the trash last. Raises SessionNotFound, SessionExists.

        It is moved first, then recorded: a session that exists and is recorded as trashed can only be a restored one. With the
        record first, the session would seem lost where another session of that id is created in between.
        """
        check_session_id(session_id)
        with self._registry.locked(), refusing(session_id, "restored"):
            names = [name for name in self._log.trashed() if _is_of(name, session_id)]
            if not names:
                there = self._registry.is_there(session_id)
                raise (
                    SessionExists(session_id, restoring=True)
                    if there
                    else SessionNotFound(session_id, kind="session in the trash")
                )
            name = max(names, key=lambda one: int(one.partition("~")[2] or 1))
            self._registry.clear_empty(session_id)
            self._log.restore(name)
            self._take_back(session_id, name)

    def purge(self, planned: Expiry) -> bool:
        """Delete a session in the trash for good, if it has not changed since the plan. Raises OperationRefused."""
        with self._registry.locked(), refusing(planned.session_id, "purged from the trash"):
            recorded = self._registry.look(lambda state: state.trashed.get(planned.name))
            if recorded is None or (recorded.since, recorded.head_hash) != (planned.since, planned.head_hash):
                return False
            if planned.name not in self._log.trashed():
                return False
            self._registry.note(StoreTrashPurged(session_id=planned.session_id, name=planned.name))
            is_gone = self._log.purge(planned.name)
            self._registry.settled(names=(planned.name,))
            return is_gone

    def trashed(self) -> list[Trashed]:
        """List the sessions in the trash, the newest first."""
        known, found = self._registry.look(lambda state: state.trashed.copy()), list[Trashed]()
        with refusing("_trash", "listed"):
            names = self._log.trashed()
        for name in names:
            with suppress(InvalidSessionId):
                one, session_id = known.get(name), id_of(name)
                found.append(
                    Trashed(session_id, name, "", 0, 0)
                    if one is None
                    else Trashed(session_id, name, one.since, one.events, one.size_bytes, one.head_hash)
                )
        return sorted(found, key=lambda one: (one.since, one.name), reverse=True)

    # --- plans

    def plan(self, sessions: Iterable[SessionMetadata], cutoff: datetime, trashed_before: datetime) -> list[Expiry]:
        """Plan which sessions to trash, which of the trash to purge, and which old ones to keep."""
        limit = clock.to_utc(cutoff)
        plan = [found for one in sessions if one.updated_at < limit and (found := self._judge(one, limit)) is not None]
        oldest = clock.to_text(trashed_before)
        gone = [one for one in reversed(self.trashed()) if one.since and one.since < oldest]
        plan += [
            Expiry(
                one.session_id,
                "purge",
                f"in the trash since {one.since}",
                name=one.name,
                size_bytes=one.size_bytes,
                version=one.events,
                head_hash=one.head_hash,
                since=one.since,
            )
            for one in gone
        ]
        return plan

    def _judge(self, one: SessionMetadata, limit: datetime) -> Expiry | None:
        """Plan for a session that was last updated before `limit`; None if it was imported since then."""
        try:
            head = self._log.head(one.session_id)
        except (SessionNotFound, LogDamaged):
            return Expiry(one.session_id, "keep", "its log is damaged: repair or delete it", one.updated_at)
        last = f"last updated {_shown(one.updated_at)}"
        if (
            "source" in one.custom_metadata
        ):  # however old the conversation is, its owner has had it only since the import
            written_at = clock.read_time(head.at, clock.to_text(one.updated_at))
            if written_at >= limit:
                return None
            if written_at > one.updated_at:
                last = f"imported or written here {_shown(written_at)}, after it was {last}"
        return Expiry(
            one.session_id,
            "keep" if one.pinned else "trash",
            f"pinned; {last}" if one.pinned else last,
            one.updated_at,
            size_bytes=head.size_bytes,
            version=head.version,
            head_hash=head.hash,
        )

    def clean_up(self, plan: Iterable[Expiry], forget: Callable[[str], None]) -> list[Expiry]:
        """Carry out a plan and return what was done. A session that has changed since is left alone.

        `forget` is called with the id of each session that was moved to the trash.
        """
        done = []
        for one in plan:
            if one.action == "purge" and self.purge(one):
                done.append(one)
            elif one.action == "trash" and self._expire(one):
                forget(one.session_id)
                done.append(one)
        return done

    def _expire(self, one: Expiry) -> bool:
        try:
            known = self._metadata(one.session_id)
            if known.updated_at != one.updated_at or known.pinned:
                return False
            return self.trash(one.session_id, f"retention: {one.reason}", one)
        except (SessionNotFound, LogDamaged):
            return False  # deleted or damaged in the meantime: a damaged one is for a person to repair


def _shown(moment: datetime) -> str:
    return f"{moment.isoformat(' ', 'seconds')[:19]} UTC"


def _is_of(name: str, session_id: str) -> bool:
    """Return whether a name in the trash belongs to a session. A user's own folder there may have any name."""
    with suppress(InvalidSessionId):
        return id_of(name) == session_id
    return False
