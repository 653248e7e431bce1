"""Trash: sessions that were put aside, and retention."""

from collections.abc import Callable, Iterable
from typing import TypeAlias

from eventstore.errors import LogDamaged
from eventstore.sessions import arguments
from eventstore.store.as_of import ago
from eventstore.store.pages import warn_damaged
from eventstore.store.retention import Expiry, Trashed
from eventstore.store.storage import SessionStorage

Plan: TypeAlias = list[Expiry]


class Trash:
    """The trash of a store: `manager.trash`."""

    def __init__(self, storage: SessionStorage) -> None:
        self._storage = storage

    def put(self, session_id: str) -> bool:
        """Put a session in the trash, from which `restore` brings it back. False where there is none."""
        return self._storage.trash_session(session_id, "by the caller")

    def restore(self, session_id: str) -> None:
        """Bring back the session that was last put in the trash under this id. Raises SessionNotFound, SessionExists."""
        self._storage.restore_session(session_id)

    def list(self) -> list[Trashed]:
        """List what is in the trash, the latest first."""
        return self._storage.list_trash()

    def plan_cleanup(
        self,
        max_age_days: float = 30,
        grace_days: float = 7,
        on_damage: Callable[[LogDamaged], None] = warn_damaged,
    ) -> Plan:
        """Plan what `SessionManager.cleanup_old_sessions` does, with reasons: what goes, and what is old but stays.

        Ages are in days. Changes nothing. Sessions that cannot be read are reported to `on_damage` and left alone.
        """
        cutoff = ago(arguments.length("max_age_days", max_age_days, "days"))
        trashed_before = ago(arguments.length("grace_days", grace_days, "days"))
        return self._storage.plan_cleanup(cutoff, trashed_before, on_damage)

    def clean_up(self, plan: Iterable[Expiry]) -> Plan:
        """Carry out a plan; return what was done. A session that was updated, pinned or deleted since is left alone."""
        return self._storage.clean_up(arguments.instances("plan", plan, Expiry))
