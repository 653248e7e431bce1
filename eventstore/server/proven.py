"""What is proven of a session, as the API shows it."""

from typing import Any

import msgspec

from eventstore.events import EventRedacted
from eventstore.sessions.manager import SessionManager


class Redaction(msgspec.Struct):
    """A redaction that the log records: event `seq` removed the content of event `target`."""

    seq: int
    target: int
    type: str | None
    reason: str
    time: str


class Proof(msgspec.Struct):
    """What is proven: the hash of the last event, the signed checkpoints, and what the redactions removed.

    No checkpoint proves the events after the last one. Signatures are not checked here: `eventstore verify` does.
    """

    version: int
    hash: str
    size_bytes: int
    checkpoints: list[dict[str, Any]]
    redactions: list[Redaction]


def proof_of(manager: SessionManager, session_id: str) -> Proof:
    """Return the state of proof of a session. Raises SessionNotFound, LogDamaged."""
    head = manager.head(session_id)
    notes = [_checkpoint(note) for note in manager.proofs.checkpoints(session_id)]
    rows = manager.moments.timeline(session_id, 0, 1000, kinds=["redaction"])
    events = manager.storage.moments.events(session_id, [row.seq for row in rows])
    removed = [
        Redaction(one.seq, one.target, one.target_type, one.reason, one.time)
        for one in events
        if isinstance(one, EventRedacted)
    ]
    return Proof(head.version, head.hash, head.size_bytes, notes, removed)


def _checkpoint(note: str) -> dict[str, Any]:
    lines = note.splitlines()
    signers = [line.split(" ")[1] for line in lines if line.startswith("— ") and line.count(" ") >= 2]
    size = int(lines[1]) if len(lines) > 2 and lines[1].isdecimal() else 0
    return {"size": size, "root": lines[2] if len(lines) > 2 else "", "signers": signers, "note": note}
