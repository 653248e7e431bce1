"""Routes about what is proven of a session: chain, checkpoints, redactions, and proofs that a stranger can check."""

from typing import Annotated, Any

import msgspec
from msgspec import Meta

from eventstore.events import EventRedacted
from eventstore.server.route import Context, NoQuery, Request, Routes
from eventstore.sessions.manager import SessionManager

routes = Routes()
Seq = Annotated[int, Meta(ge=1)]


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


@routes.get("/sessions/{session_id}/proof", query=NoQuery, result=Proof)
def proof(context: Context, request: Request) -> Proof:
    """Return the state of proof of a session: chain, checkpoints, redactions."""
    return proof_of(context.manager, request.session_id)


class Checkpoints(msgspec.Struct):
    """The signed notes of a session, the newest last. Their signatures are not checked here."""

    version: int
    notes: list[str]


@routes.get("/sessions/{session_id}/checkpoints", query=NoQuery, result=Checkpoints)
def checkpoints(context: Context, request: Request) -> Checkpoints:
    """Return the signed checkpoints of a session."""
    manager, session_id = context.manager, request.session_id
    return Checkpoints(manager.head(session_id).version, manager.proofs.checkpoints(session_id))


class InclusionQuery(msgspec.Struct, forbid_unknown_fields=True):
    """Of which event, and in the log of how many events; without `size` of all."""

    seq: Seq
    size: Seq | None = None


class ConsistencyQuery(msgspec.Struct, forbid_unknown_fields=True):
    """The two sizes, in events; without `new` the present one."""

    old: Seq
    new: Seq | None = None


class MerkleProof(msgspec.Struct):
    """A proof of RFC 9162: the arguments of `verify_inclusion` or `verify_consistency`, hashes as hex digits."""

    version: int
    proof: dict[str, Any]


@routes.get("/sessions/{session_id}/inclusion", query=InclusionQuery, result=MerkleProof)
def inclusion(context: Context, request: Request) -> MerkleProof:
    """Prove that an event is in a session's log."""
    manager, asked = context.manager, request.query
    found = manager.proofs.prove_inclusion(request.session_id, asked.seq, asked.size)
    return MerkleProof(found.size, found.to_dict())


@routes.get("/sessions/{session_id}/consistency", query=ConsistencyQuery, result=MerkleProof)
def consistency(context: Context, request: Request) -> MerkleProof:
    """Prove that a session's log begins with its earlier log of so many events."""
    manager, asked = context.manager, request.query
    found = manager.proofs.prove_consistency(request.session_id, asked.old, asked.new)
    return MerkleProof(found.new, found.to_dict())


def _checkpoint(note: str) -> dict[str, Any]:
    lines = note.splitlines()
    signers = [line.split(" ")[1] for line in lines if line.startswith("— ") and line.count(" ") >= 2]
    size = int(lines[1]) if len(lines) > 2 and lines[1].isdecimal() else 0
    return {"size": size, "root": lines[2] if len(lines) > 2 else "", "signers": signers, "note": note}
