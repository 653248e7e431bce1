"""Sign logs, and prove that an event is in a signed log, or that a longer log begins with it.

A checkpoint covers all events of a session, with a fork's inherited events. A proof and a checkpoint are enough for
`verify_inclusion` and `verify_consistency`, or any other code for RFC 9162; the other events stay private.
"""

from base64 import b64encode
from collections.abc import Iterator
from dataclasses import dataclass
from itertools import islice
from typing import Any

from eventstore.errors import CheckpointRefused, LogDamaged, LogTampered, NoSuchMoment
from eventstore.events import CheckpointSigned, StoreCheckpointSigned
from eventstore.ids import STORE_ID, TEMPLATE, check_log_id
from eventstore.integrity import merkle
from eventstore.integrity.checkpoint import Checkpoint, SigningKey, sign
from eventstore.integrity.log_audit import Checkpoints, Examination, examine, read_claim
from eventstore.integrity.reader import read_chain
from eventstore.log.engine import EventLog
from eventstore.record import clock
from eventstore.store.storage import SessionStorage


@dataclass(frozen=True)
class Inclusion:
    """Proof that event `seq` is in the log of `size` events with Merkle root `root`: the arguments of `verify_inclusion`.

    `leaf` is the event's leaf hash, `index` its place from 0, `hashes` the siblings along its path; all hashes have 32 bytes.
    """

    session_id: str
    seq: int
    leaf: bytes
    index: int
    size: int
    hashes: tuple[bytes, ...]
    root: bytes

    def to_dict(self) -> dict[str, Any]:
        """Return the fields as JSON values: hashes as hex digits, and the root also in the form of a checkpoint."""
        return _to_dict(self, "root")


@dataclass(frozen=True)
class Consistency:
    """Proof that the log of `new` events begins with the one of `old` events: the arguments of `verify_consistency`."""

    session_id: str
    old: int
    new: int
    old_root: bytes
    new_root: bytes
    hashes: tuple[bytes, ...]

    def to_dict(self) -> dict[str, Any]:
        """Return the fields as JSON values: hashes as hex digits, and the roots also in the form of checkpoints."""
        return _to_dict(self, "old_root", "new_root")


def _to_dict(proof: Inclusion | Consistency, *roots: str) -> dict[str, Any]:
    found = {name: value.hex() if isinstance(value, bytes) else value for name, value in vars(proof).items()}
    found["hashes"] = [one.hex() for one in proof.hashes]
    return found | {f"{name}_base64": _base64(vars(proof)[name]) for name in roots}


def sign_checkpoint(storage: SessionStorage, session_id: str, key: SigningKey) -> str:
    """Sign the present log of a session, and return the note. Have the note kept outside the store.

    Every byte is verified first, and the earlier checkpoints of the same key. The note is stored as an attachment of
    the log, then in an event `checkpoint.signed`, and the registry records it. If only checkpoints were appended since
    the last note of this key, that note is returned.

    Raises SessionNotFound, LogDamaged, and LogTampered if the log does not fit an earlier checkpoint of this key;
    nothing is signed then.
    """
    with storage.registry.locked():  # else the session may be deleted or trashed before the registry records the note
        return _sign_locked(storage, session_id, key)


def _sign_locked(storage: SessionStorage, session_id: str, key: SigningKey) -> str:
    size = storage.log.head(check_log_id(session_id)).version
    mine = Checkpoints([key.verifier_key], (), has_anchors=False)
    found = examine(storage.log, session_id, mine, sizes=[size])
    _require_intact(found, size)
    old = _last_note(storage.log, session_id, mine)
    if old is not None and read_claim(old).checkpoint.size >= mine.last_other:
        if all(record.claim.note != old for record in mine.records):  # a crash between the note and its event
            _record(storage, session_id, key, old)
        return old
    root, chain = found.points[size]
    checkpoint = Checkpoint(f"eventstore/{session_id}", size, root, (f"at {clock.now()}", f"chain {chain}"))
    note = sign(checkpoint, key)
    storage.log.keep_note(session_id, f"{size:012d}-{key.verifier_key.hash.hex()}.note", note.encode())
    _record(storage, session_id, key, note)
    return note


def _require_intact(found: Examination, size: int) -> None:
    """Raise LogDamaged or LogTampered for a fault in the first `size` events of a log."""
    for flaw in found.flaws():
        if flaw.line <= size or flaw.outcome == "tampered":
            kind = LogTampered if flaw.outcome == "tampered" else LogDamaged
            raise kind(found.session_id, "its log", flaw.line, flaw.offset_bytes, f"the line {flaw.text}", found.events)
    for flaw in found.checkpoints.flaws:
        if flaw.outcome == "tampered":
            line = flaw.line or found.events
            raise LogTampered(found.session_id, "its log", line, flaw.offset_bytes, flaw.text, 0)


def _record(storage: SessionStorage, session_id: str, key: SigningKey, note: str) -> None:
    """Append the events that record a note."""
    checkpoint = read_claim(note).checkpoint
    root = _base64(checkpoint.root)
    event = CheckpointSigned(size=checkpoint.size, root=root, note=note)
    if session_id == STORE_ID:
        storage.registry.note(event)
        return
    if session_id.startswith(TEMPLATE):
        storage.log.append(session_id, [event])
    else:
        storage.append(session_id, [event])
    recorded = StoreCheckpointSigned(session_id=session_id, size=checkpoint.size, root=root, key=key.verifier_key.id)
    storage.registry.note(recorded)


def _last_note(log: EventLog, session_id: str, mine: Checkpoints) -> str | None:
    """Return the last note of this log by a given key."""
    found: dict[int, str] = {}
    for note in _with_kept(log, session_id, [record.claim.note for record in mine.records]):
        try:
            claim = read_claim(note)
        except CheckpointRefused:
            continue
        if claim.session_id == session_id and mine.is_signed(claim.note):
            found.setdefault(claim.checkpoint.size, claim.note)
    return found[max(found)] if found else None


def checkpoints(storage: SessionStorage, session_id: str) -> list[str]:
    """List the signed notes of a session, attached to its log and in it, the newest last; no signature is verified.

    Raises SessionNotFound, LogDamaged.
    """
    found: dict[str, int] = {}
    events = storage.log.read(check_log_id(session_id))
    recorded = [event.note for event in events if isinstance(event, CheckpointSigned)]
    for note in _with_kept(storage.log, session_id, recorded):
        try:
            claim = read_claim(note)
        except CheckpointRefused:
            continue
        if claim.session_id == session_id:
            found.setdefault(claim.note, claim.checkpoint.size)
    return sorted(found, key=lambda note: found[note])


def _with_kept(log: EventLog, session_id: str, recorded: list[str]) -> Iterator[str | bytes]:
    yield from recorded
    for _, note in log.notes(session_id):
        yield note


# --- proofs


def prove_inclusion(storage: SessionStorage, session_id: str, seq: int, size: int | None = None) -> Inclusion:
    """Prove that an event is in the log of its first `size` events; None means all events. Memory use does not grow with the log.

    Raises NoSuchMoment for an event or a size beyond the log, SessionNotFound, LogDamaged.
    """
    last = _size(storage.log, session_id, size)
    if not 1 <= seq <= last:
        raise NoSuchMoment(seq, f"session {session_id!r} has no such event among its first {last}")
    ranges = [*merkle.inclusion_ranges(seq - 1, last), (seq - 1, seq)]
    *hashes, leaf = merkle.roots(_leaves(storage.log, session_id, last), ranges)
    root = merkle.root(_leaves(storage.log, session_id, last))
    return Inclusion(session_id, seq, leaf, seq - 1, last, tuple(hashes), root)


def prove_consistency(storage: SessionStorage, session_id: str, old: int, new: int | None = None) -> Consistency:
    """Prove that the log of `new` events (None: all) begins with that of `old`. Memory use does not grow with the log.

    Raises NoSuchMoment for sizes beyond the log, SessionNotFound, LogDamaged.
    """
    last = _size(storage.log, session_id, new)
    if not 1 <= old <= last:
        raise NoSuchMoment(old, f"session {session_id!r} had no such size on its way to {last} events")
    hashes = merkle.roots(_leaves(storage.log, session_id, last), merkle.consistency_ranges(old, last))
    tree, leaves = merkle.Tree(), _leaves(storage.log, session_id, last)
    tree.extend(islice(leaves, old))
    old_root = tree.root()
    tree.extend(leaves)
    return Consistency(session_id, old, last, old_root, tree.root(), tuple(hashes))


def _size(log: EventLog, session_id: str, size: int | None) -> int:
    events = log.head(check_log_id(session_id)).version
    if size is None:
        return events
    if not 1 <= size <= events:
        raise NoSuchMoment(size, f"session {session_id!r} has {events} events")
    return size


def _leaves(log: EventLog, session_id: str, size: int) -> Iterator[bytes]:
    """Stream the leaf hashes of the first events of a log, every byte read again. Raises LogDamaged."""
    raw, seen, offset = log.raw(session_id), 0, 0
    for link in islice(read_chain(session_id, raw.root, raw.chunks), size):
        yield link.leaf
        seen, offset = link.seq, link.offset_bytes + len(link.line) + 1
    if seen < size:
        raise LogDamaged(session_id, "its log", seen + 1, offset, "the line is not there", seen)


def _base64(raw: bytes) -> str:
    return b64encode(raw).decode("ascii")
