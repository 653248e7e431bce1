"""Redactions: removing the content of events for good."""

from collections.abc import Callable, Collection, Iterable, Mapping, Sequence
from typing import Any

from eventstore.errors import LogDamaged
from eventstore.integrity import redaction
from eventstore.integrity.redaction import Redactable, Redacted
from eventstore.secret_patterns import Patterns
from eventstore.sessions import arguments
from eventstore.store.pages import warn_damaged
from eventstore.store.storage import SessionStorage


class Redactions:
    """What is removed from the sessions of a store: `manager.redactions`. `who` completes the `by` of a caller."""

    def __init__(
        self, storage: SessionStorage, who: Callable[[Mapping[str, Any] | None], dict[str, Any] | None]
    ) -> None:
        self._storage, self._who = storage, who

    def redact(
        self, session_id: str, seqs: int | Sequence[int], reason: str, *, by: Mapping[str, Any] | None = None
    ) -> Redacted:
        """Remove the content of events for good: out of the log, of its forks and copies, and of all that was made of it.

        What stays is that there was an event of that type, when, its hash, and who removed it and why: the chain and every
        checkpoint hold. An event that came out of an imported line takes the line along, one that tells of a tool call the record
        of that call. Raises RedactionRefused, where an event is not there, has no text, or is one that the log cannot do without,
        SessionNotFound, LogDamaged; nothing is changed then.
        """
        why = arguments.needed_text("reason", reason)
        return redaction.redact(self._storage, session_id, arguments.seqs(seqs), why, self._who(by))

    def plan(
        self,
        patterns: Patterns | None = None,
        session_ids: Collection[str] | None = None,
        on_damage: Callable[[LogDamaged], None] = warn_damaged,
    ) -> list[Redactable]:
        """Find secrets in sessions, if none are named in all, the trash and templates too: in events and records of tool calls.

        `patterns` are those of `SECRETS` where none are given. Changes nothing; `carry_out` does it. Where none
        are named, a session that cannot be read hides no other, and `on_damage` hears of it; one that is named raises LogDamaged.
        """
        wanted = arguments.filters("session_ids", session_ids)
        return list(redaction.plan_redactions(self._storage, _patterns(patterns), wanted, on_damage))

    def carry_out(
        self,
        plan: Iterable[Redactable],
        reason: str,
        patterns: Patterns | None = None,
        *,
        by: Mapping[str, Any] | None = None,
    ) -> list[Redacted]:
        """Carry out a plan made with these patterns; what has an obstacle is left out. Raises as `redact` does."""
        wanted = arguments.instances("plan", plan, Redactable)
        why = arguments.needed_text("reason", reason)
        return redaction.redact_plan(self._storage, wanted, _patterns(patterns), why, self._who(by))


def _patterns(given: Patterns | None) -> Patterns:
    if not isinstance(given, Patterns | None):
        raise ValueError(f"patterns is a {type(given).__name__}, not Patterns; nothing was done")
    return given or Patterns()
