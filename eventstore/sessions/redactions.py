"""Redactions: permanent removal of event content."""

from collections.abc import Callable, Collection, Iterable, Mapping, Sequence
from typing import Any

from eventstore.errors import LogDamaged
from eventstore.integrity import redaction
from eventstore.integrity.redaction import Redacted
from eventstore.integrity.redaction_plan import Redactable, plan_redactions
from eventstore.secret_patterns import Patterns
from eventstore.sessions import arguments
from eventstore.store.pages import warn_damaged
from eventstore.store.storage import SessionStorage


class Redactions:
    """Redaction in the sessions of a store: `manager.redactions`. `who` completes the `by` of a caller."""

    def __init__(
        self, storage: SessionStorage, who: Callable[[Mapping[str, Any] | None], dict[str, Any] | None]
    ) -> None:
        self._storage, self._who = storage, who

    def redact(
        self, session_id: str, seqs: int | Sequence[int], reason: str, *, by: Mapping[str, Any] | None = None
    ) -> Redacted:
        """Remove the content of events permanently from the log, its forks and copies, and all derived data.

        The type, time and hash of the event stay, and who removed it and why, so that the chain and every checkpoint still
        verify. The imported line of an event is removed with it, and the record of a tool call with the events of the call.

        Raises RedactionRefused if an event does not exist, has no text, or is needed by the log itself; SessionNotFound;
        LogDamaged. Then nothing was changed.
        """
        why = arguments.needed_text("reason", reason)
        return redaction.redact(self._storage, session_id, arguments.seqs(seqs), why, self._who(by))

    def plan(
        self,
        patterns: Patterns | None = None,
        session_ids: Collection[str] | None = None,
        on_damage: Callable[[LogDamaged], None] = warn_damaged,
    ) -> list[Redactable]:
        """Find secrets in events and records of tool calls. Changes nothing; `carry_out` redacts what was found.

        `patterns` defaults to `SECRETS`. Without `session_ids` all sessions, templates and the trash are searched; a session that
        cannot be read is skipped and reported to `on_damage`. A session that is named and cannot be read raises LogDamaged.
        """
        wanted = arguments.filters("session_ids", session_ids)
        return list(plan_redactions(self._storage, _checked(patterns) or Patterns(), wanted, on_damage))

    def carry_out(
        self,
        plan: Iterable[Redactable],
        reason: str,
        patterns: Patterns | None = None,
        *,
        inside: bool = False,
        by: Mapping[str, Any] | None = None,
    ) -> list[Redacted]:
        """Carry out a plan: remove what its patterns found. Entries with an obstacle are skipped. Raises like `redact`.

        With `inside` only what matches is removed: the rest of each event is appended, and the event becomes a tombstone.
        What `patterns` find in the events of the plan is removed too. Entries that were made by hand know no patterns; they
        need these, else `SECRETS`, and are refused if nothing is found.
        """
        wanted = arguments.instances("plan", plan, Redactable)
        why = arguments.needed_text("reason", reason)
        return redaction.redact_plan(self._storage, wanted, _checked(patterns), why, self._who(by), inside=inside)

    def vacuum(self) -> tuple[str, ...]:
        """Remove redacted text from the files of the storage engine too; return where it still stays for a while.

        In PostgreSQL this rewrites all tables of the store, and other calls wait until it is done. Only their owner may do it.
        Raises OperationRefused where text may be left in a table.
        """
        return self._storage.log.vacuum()


def _checked(given: Patterns | None) -> Patterns | None:
    if not isinstance(given, Patterns | None):
        raise ValueError(f"patterns is a {type(given).__name__}, not Patterns; nothing was done")
    return given
