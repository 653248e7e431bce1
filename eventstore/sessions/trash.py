"""Trash: trashed sessions and retention."""

from collections.abc import Callable, Iterable
from typing import TYPE_CHECKING, TypeAlias

from eventstore.errors import LogDamaged
from eventstore.sessions import arguments
from eventstore.store.as_of import ago
from eventstore.store.pages import warn_damaged
from eventstore.store.storage import SessionStorage

if TYPE_CHECKING:  # loaded by who looks into the trash
    from eventstore.store.retention import Expiry, Trashed

Plan: TypeAlias = "list[Expiry]"


class Trash:
    """The trash of a store: `manager.trash`."""

    def __init__(self, storage: SessionStorage) -> None:
        self._storage = storage

    def put(self, session_id: str) -> bool:
        """Move a session to the trash; `restore` reverses it. False if it does not exist.

        Its forks become independent, also if it is restored: what they inherited is then counted and found in each of them.
        """
        return self._storage.trash_session(session_id, "by the caller")

    def restore(self, session_id: str) -> None:
        """Restore the session of this id that was trashed last. Raises SessionNotFound, SessionExists."""
        self._storage.restore_session(session_id)

    def list(self) -> "list[Trashed]":
        """List the sessions in the trash, the most recently trashed first."""
        return self._storage.list_trash()

    def plan_cleanup(
        self,
        max_age_days: float = 30,
        grace_days: float = 7,
        on_damage: Callable[[LogDamaged], None] = warn_damaged,
    ) -> Plan:
        """Plan what `SessionManager.cleanup_old_sessions` does, with reasons: what is removed, and what is old but kept.

        Ages are in days. Changes nothing. Sessions that cannot be read are reported to `on_damage` and are not in the plan.
        """
        cutoff = ago(arguments.length("max_age_days", max_age_days, "days"))
        trashed_before = ago(arguments.length("grace_days", grace_days, "days"))
        return self._storage.plan_cleanup(cutoff, trashed_before, on_damage)

    def clean_up(self, plan: "Iterable[Expiry]") -> Plan:
        """Carry out a plan and return what was done. Sessions that were updated, pinned or deleted since are skipped."""
        from eventstore.store.retention import Expiry

        return self._storage.clean_up(arguments.instances("plan", plan, Expiry))
