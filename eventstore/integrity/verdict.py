"""What a verification says: the verdict on one session, and what is wrong with it."""

from collections.abc import Iterable
from dataclasses import dataclass
from typing import Any

from eventstore.integrity.log_audit import Outcome

_WORST_FIRST: tuple[Outcome, ...] = ("tampered", "damaged", "unreadable", "incomplete", "whole")


@dataclass(frozen=True)
class Finding:
    """One thing that is wrong with a session, and its outcome.

    `part` is log, tail, checkpoint, views, calls, quarantine or store; `outcome` is damaged, tampered, unreadable or incomplete.
    """

    session_id: str
    part: str
    text: str
    outcome: Outcome = "damaged"

    def to_dict(self) -> dict[str, str]:
        """Return the fields as JSON values."""
        return dict(vars(self))


@dataclass(frozen=True)
class Verdict:
    """The result for one session: how many events are intact, the hash of the last one, and what is wrong.

    `signed_to` is the last event that a checkpoint signed by a given key proves, `anchored_to` the last one that a
    checkpoint kept outside proves; 0 for none. `proven_to` is the last proven event: by anchors if there are any, else
    by keys. `recorded_to` is the last of the events after it that only record checkpoints. `notes` are worth knowing
    but not wrong. `proof_asked`: keys or anchors were given.
    """

    session_id: str
    events: int
    hash: str
    outcome: Outcome
    findings: tuple[Finding, ...] = ()
    signed_to: int = 0
    anchored_to: int = 0
    proven_to: int = 0
    recorded_to: int = 0
    notes: tuple[str, ...] = ()
    proof_asked: bool = False

    @property
    def is_whole(self) -> bool:
        """Return whether there are events, nothing is wrong with them, and, if proof was asked for, all are proven."""
        return self.outcome == "whole"

    def describe(self, *, with_keys: bool) -> str:
        """Describe it in one line; `with_keys`: signatures were checked."""
        signed = f"signed to {self.signed_to}" if self.signed_to else "not signed by your keys"
        text = [f"{self.session_id}: whole to event {self.events}", signed if with_keys else "signatures not checked"]
        text.append(f"anchored outside to {self.anchored_to}" if self.anchored_to else "not anchored outside")
        more = [_described(self.session_id, one) for one in self.findings]
        if self.proof_asked and self.recorded_to < self.events:
            more.insert(0, f"{_range(self.recorded_to + 1, self.events)} unproven")
        if self.recorded_to > self.proven_to:
            is_one = self.recorded_to == self.proven_to + 1
            only = "only records a checkpoint" if is_one else "only record checkpoints"
            more.append(f"{_range(self.proven_to + 1, self.recorded_to).rpartition(' ')[0]} {only}")
        notes = f" ({'; '.join(self.notes)})" if self.notes else ""
        return "; ".join([", ".join(text), *more]) + notes

    def to_dict(self) -> dict[str, Any]:
        """Return the fields as JSON values."""
        unproven = [self.recorded_to + 1, self.events] if self.recorded_to < self.events else None
        more = {"findings": [one.to_dict() for one in self.findings], "notes": list(self.notes)}
        return {**vars(self), **more, "unproven": unproven, "whole": self.is_whole}


def _range(first: int, last: int) -> str:
    return f"event {last} is" if first == last else f"events {first}-{last} are"


def _described(session_id: str, finding: Finding) -> str:
    whose = "" if finding.session_id == session_id else f"session {finding.session_id} "
    return f"{finding.outcome}: {whose}{finding.text}"


def worst_of(outcomes: Iterable[Outcome]) -> Outcome:
    """Return the worst outcome: tampered before damaged, unreadable, incomplete, whole; unreadable if there are none."""
    found = set(outcomes)
    return next((outcome for outcome in _WORST_FIRST if outcome in found), "unreadable")
