"""Verify a store: read every byte of its logs again, rebuild and compare its views, and compare it with its own log.

One log is judged in `log_audit`; what the store's own log records about sessions is in `store_record`.
"""

from base64 import b64encode
from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import suppress
from dataclasses import dataclass, field, replace
from functools import partial
from pathlib import Path
from typing import Any

import msgspec

from eventstore.errors import EventStoreError, NotARegularFile, ReadRefused, SessionNotFound
from eventstore.ids import STORE_ID, TEMPLATE, check_log_id, id_of
from eventstore.integrity.against_store import COMPARISONS, against_signed, against_store, gone, place_of
from eventstore.integrity.checkpoint import VerifierKey
from eventstore.integrity.known_sessions import all_ids, in_trash, is_there, read_record
from eventstore.integrity.log_audit import MOST_FLAWS, Checkpoints, Claim, Examination, Outcome, examine, read_claim
from eventstore.integrity.store_record import StoreRecord, roots_of
from eventstore.integrity.verdict import Finding, Verdict, worst_of
from eventstore.store.local_storage import FileSystemSessionStorage
from eventstore.store.processes import spread
from eventstore.store.storage import SessionStorage


@dataclass
class _Pinned:
    """What the caller trusts, and whom to tell how far the work is. Nothing of it comes from the store."""

    keys: Sequence[VerifierKey]
    anchors: dict[str, list[Claim]] = field(default_factory=dict)
    has_anchors: bool = False
    on_read: Callable[[int], None] | None = None

    @classmethod
    def of(cls, keys: Sequence[VerifierKey], anchors: Iterable[str | bytes]) -> "_Pinned":
        found = cls(tuple(keys))
        for claim in map(read_claim, anchors):
            found.anchors.setdefault(claim.session_id, []).append(claim)
        found.has_anchors = bool(found.anchors)
        return found

    def checkpoints(self, session_id: str, record: StoreRecord | None = None) -> Checkpoints:
        """Return the checkpoints to compare with a session: not those of an earlier session whose end is recorded."""
        claims = self.anchors.get(session_id, ())
        living = [one for one in claims if record is None or not _ended_at(record, one)]
        return Checkpoints(self.keys, living, has_anchors=self.has_anchors)

    @property
    def wants_proof(self) -> bool:
        return bool(self.keys or self.has_anchors)


def verify_session(
    storage: SessionStorage,
    session_id: str,
    *,
    keys: Sequence[VerifierKey] = (),
    anchors: Iterable[str | bytes] = (),
    on_read: Callable[[int], None] | None = None,
) -> Verdict:
    """Verify one session, as `verify_sessions` does, whatever else is in the store.

    `on_read` is called with the number of events that were verified, from time to time; what it raises ends the verification.
    """
    return next(verify_sessions(storage, [session_id], keys=keys, anchors=anchors, on_read=on_read))


def verify_sessions(
    storage: SessionStorage,
    session_ids: Iterable[str],
    *,
    keys: Sequence[VerifierKey] = (),
    anchors: Iterable[str | bytes] = (),
    on_read: Callable[[int], None] | None = None,
) -> Iterator[Verdict]:
    """Verify sessions, and stream a verdict for each.

    It covers chain, numbers, times, batches, redactions, checkpoints, tail, views, calls and quarantine.

    Only reads. Every byte is read again, whatever this process read before. `keys` are the keys that the caller trusts,
    `anchors` the notes of checkpoints that the caller kept elsewhere; both decide what is proven, and then a session
    with unproven events is incomplete. Anchors of other sessions are ignored. The checkpoints and redactions that the
    store's own log records must fit in any case; it is read once. Raises CheckpointRefused for an anchor that is not a
    checkpoint, InvalidSessionId.
    """
    pinned = _Pinned.of(keys, anchors)
    pinned.on_read = on_read
    record: StoreRecord | None = None
    for session_id in session_ids:
        if check_log_id(session_id) == STORE_ID:
            yield _verify(storage, session_id, pinned, StoreRecord())
        else:
            record = record or read_record(storage)
            yield _verify_at_rest(storage, [session_id], pinned, record)[session_id]


def verify_store(
    storage: SessionStorage, *, keys: Sequence[VerifierKey] = (), anchors: Iterable[str | bytes] = ()
) -> Verdict:
    """Verify the store's own log, as `verify_session` does, and compare the existing sessions with those it records."""
    return _verify_store(storage, _Pinned.of(keys, anchors))


def verify_all(
    storage: SessionStorage,
    keys: Sequence[VerifierKey] = (),
    anchors: Iterable[str | bytes] = (),
    *,
    jobs: int = 1,
) -> list[Verdict]:
    """Verify all sessions and templates, then missing sessions of which an anchor exists, and last the store's own log.

    With `jobs` many sessions in files are spread over so many processes, as `spread` of `store.processes` says. The verdicts and
    their order are the same. Raises as `verify_session` does.
    """
    pinned = _Pinned.of(keys, anchors)
    store = _verify_store(storage, pinned, are_roots_held=True)
    record = read_record(storage)
    past = _take_out_past(pinned, record, store.proven_to)
    there = set(all_ids(storage)) | (pinned.anchors.keys() - {STORE_ID})
    found = _verify_at_rest(storage, sorted(there), pinned, record, jobs)
    if any(one.findings for one in found.values()):
        made = read_record(storage).made  # without those that were deleted while the others were read
        found = {
            name: one
            for name, one in found.items()
            if not one.findings
            or name in pinned.anchors
            # one that was gone, as the store's own log said then, may be there again: that is another one
            or (one.findings != (Finding(name, "log", _EMPTY),) and (name in made or is_there(storage, name)))
        }
    return [*found.values(), replace(store, notes=(*store.notes, *past))]


def _verify_at_rest(
    storage: SessionStorage, session_ids: Sequence[str], pinned: _Pinned, record: StoreRecord, jobs: int = 1
) -> dict[str, Verdict]:
    """Verify sessions; those with findings again, as long as they change while they are read."""
    if jobs > 1 and isinstance(storage, FileSystemSessionStorage):
        do = partial(_verify_some, storage.sessions_dir, storage.history_dir, pinned, record)
        found = dict(zip(session_ids, spread(session_ids, do, jobs), strict=True))
    else:
        found = {one: _verify_in_place(storage, one, pinned, record) for one in session_ids}
    for attempt in range(1, COMPARISONS + 1):
        suspects = [one for one, (_, verdict) in found.items() if verdict.findings]
        if not suspects:
            break
        record = read_record(storage)
        moved = [one for one in suspects if found[one][0] != place_of(storage, record, one)]
        for one in moved:
            restless = Finding(one, "log", _RESTLESS, "unreadable")
            found[one] = (
                _verify_in_place(storage, one, pinned, record)
                if attempt < COMPARISONS
                else ((), replace(found[one][1], outcome="unreadable", findings=(restless,)))
            )
        if not moved:
            break
    return {one: verdict for one, (_, verdict) in found.items()}


def _verify_in_place(
    storage: SessionStorage, session_id: str, pinned: _Pinned, record: StoreRecord
) -> tuple[tuple[Any, ...], Verdict]:
    """Verify a session; also return where it was before it was read."""
    place = place_of(storage, record, session_id)
    return place, _verify(storage, session_id, pinned, record)


def _verify_some(
    sessions_dir: Path, history_dir: Path, pinned: _Pinned, record: StoreRecord, session_ids: Sequence[str]
) -> list[tuple[tuple[Any, ...], Verdict]]:
    """Verify some sessions in another process, with a storage of its own."""
    with FileSystemSessionStorage(sessions_dir, history_dir, fsync="no") as storage:
        return [_verify_in_place(storage, one, pinned, record) for one in session_ids]


def _take_out_past(pinned: _Pinned, record: StoreRecord, proven_to: int) -> list[str]:
    """Remove the anchors of sessions whose end a proven event of the store's own log records; return notes about them."""
    said = []
    for session_id, claims in list(pinned.anchors.items()):
        left = [one for one in claims if not 0 < _ended_at(record, one) <= proven_to]
        if len(left) < len(claims):
            said.append(
                f"session {session_id}: {len(claims) - len(left)} kept checkpoints are of an earlier one that ended"
            )
            pinned.anchors[session_id] = left
        if not left:
            del pinned.anchors[session_id]
    return said


def _ended_at(record: StoreRecord, claim: Claim) -> int:
    return record.ended_at(claim.session_id, claim.checkpoint.size, b64encode(claim.checkpoint.root).decode())


# --- one session


def _verify(storage: SessionStorage, session_id: str, pinned: _Pinned, record: StoreRecord) -> Verdict:
    ended = sorted({seq for claim in pinned.anchors.get(session_id, ()) if (seq := _ended_at(record, claim))})
    checkpoints, signed = pinned.checkpoints(session_id, record), record.signed.get(session_id, {})
    found, findings = _examine(storage, session_id, checkpoints, signed, pinned.on_read)
    if ended and found is None and not checkpoints.anchors:
        findings = []
    findings += [Finding(session_id, "store", _ENDED.format(seq), "incomplete") for seq in ended]
    if found is None:
        if findings[0].text == _EMPTY and session_id in record.made and not checkpoints.anchors:
            findings = [gone(session_id)]
        elif checkpoints.anchors and (notes := _in_trash(storage, session_id, checkpoints.anchors)):
            return Verdict(session_id, 0, "", "incomplete", notes=notes, proof_asked=True)
        outcome = worst_of(one.outcome for one in findings)
        return Verdict(session_id, 0, "", outcome, tuple(findings), proof_asked=pinned.wants_proof)
    if found.fault is None or findings[0].part == "tail":
        findings += _beside(storage, session_id, found)
    if not found.tree.size and session_id in record.made:
        findings.append(gone(session_id))
    points = {size: b64encode(root).decode() for size, (root, _) in found.points.items()}
    findings += against_signed(session_id, found.tree.size, points, signed)
    if found.fault is None:
        findings += _against_redactions(found, record)
    return _conclude(found, findings, pinned, _undone(found, record))


def _conclude(found: Examination, findings: Sequence[Finding], pinned: _Pinned, notes: Iterable[str] = ()) -> Verdict:
    checkpoints = found.checkpoints
    recorded = min(checkpoints.recorded(), found.events)
    outcome: Outcome = "incomplete" if pinned.wants_proof and recorded < found.events else "whole"
    return Verdict(
        found.session_id,
        found.events,
        found.hash,
        worst_of(one.outcome for one in findings) if findings else outcome,
        tuple(findings),
        min(checkpoints.signed, found.events),
        min(checkpoints.anchored, found.events),
        min(checkpoints.proven, found.events),
        recorded,
        (*found.notes(), *notes),
        pinned.wants_proof,
    )


def _against_redactions(found: Examination, record: StoreRecord) -> Iterator[Finding]:
    """Find redactions that the store's own log does not record, though `redact` records each before it changes anything."""
    for seq in record.unknown_redactions(found.session_id, found.redacted_at()):
        text = (
            f"event {seq} is redacted, and the store's own log does not record that redaction: compare it with a backup"
        )
        yield Finding(found.session_id, "store", text)


def _undone(found: Examination, record: StoreRecord) -> Iterator[str]:
    undone = record.undone_redactions(found.session_id, found.tombstones, found.events)
    if undone:
        some = ", ".join(map(str, undone[:MOST_FLAWS]))
        yield f"a redaction was recorded but not finished: event {some} is still there; redact it again"
    elif record.has_unfinished_redaction(found.session_id):
        yield "a redaction was not finished: derived files may still have the text; any redaction finishes it (redact --yes)"


def _examine(
    storage: SessionStorage,
    session_id: str,
    checkpoints: Checkpoints,
    sizes: Iterable[int] = (),
    on_read: Callable[[int], None] | None = None,
) -> tuple[Examination | None, list[Finding]]:
    """Read a log; None if it cannot be read at all."""
    try:
        found = examine(
            storage.log,
            session_id,
            checkpoints,
            sizes=sizes,
            others=lambda: sorted(set(all_ids(storage)) - {session_id}),
            on_read=on_read,
        )
        return found, list(_in_log(storage, found))
    except SessionNotFound:
        return None, [_missing(session_id, checkpoints.anchors)]
    except OSError as error:
        return None, [Finding(session_id, "log", _why(error), "unreadable")]
    except ReadRefused as error:
        return None, [Finding(session_id, "log", str(error), "unreadable")]
    except EventStoreError as error:
        return None, [Finding(session_id, "log", str(error))]


_EMPTY = "has no event"
_RESTLESS = "was changed each time it was read, and so it was not compared: verify it again"
_NOT_BEGUN = (
    "the store's own log has no event: the program that created the first session was killed before it recorded that; "
    "the next creation of a session begins the log"
)
_ENDED = (
    "event {} of the store's own log records that it ended after a checkpoint of it was kept, and nothing proves that event: "
    "sign the store's own log, and verify with that checkpoint"
)


def _in_trash(storage: SessionStorage, session_id: str, anchors: Sequence[Claim]) -> tuple[str, ...]:
    """Compare anchors with the logs in the trash under this id; empty if no log there fits all of them."""
    wanted = {one.checkpoint.size: b64encode(one.checkpoint.root).decode() for one in anchors}
    for name in sorted(in_trash(storage)):
        if id_of(name) == session_id:
            with suppress(EventStoreError, OSError):
                _, found = roots_of(storage.log.trashed_lines(name), wanted)
                if found == wanted:
                    return (f"it is in the trash as {name}, and the checkpoints that were kept outside fit it",)
    return ()


def _missing(session_id: str, anchors: Sequence[Claim]) -> Finding:
    if not anchors:
        return Finding(session_id, "log", _EMPTY)
    size = max(claim.checkpoint.size for claim in anchors)
    text = f"is missing, and a checkpoint of {size} events of it was kept outside"
    return Finding(session_id, "log", text, "tampered")


def _why(error: OSError) -> str:
    """Return the system's error text without its path; eventstore's own errors name paths."""
    return str(error) if isinstance(error, NotARegularFile) else f"cannot be read: {error.strerror}"


def _in_log(storage: SessionStorage, found: Examination) -> Iterator[Finding]:
    tail = storage.log.tail(found.session_id) if found.fault is not None else None
    for flaw in found.flaws():
        if tail is not None and flaw.outcome == "damaged" and tail.startswith(f"line {flaw.line}, "):
            yield Finding(found.session_id, "tail", f"{tail}; the next append repairs it")
        else:
            yield Finding(found.session_id, "log", str(flaw), flaw.outcome)
    for flaw in found.checkpoints.flaws:
        yield Finding(found.session_id, "checkpoint", str(flaw), flaw.outcome)


def _beside(storage: SessionStorage, session_id: str, found: Examination) -> Iterator[Finding]:
    """Check what is stored with an intact log."""
    try:
        if session_id != STORE_ID and not session_id.startswith(TEMPLATE):
            for text in storage.check_views(session_id):
                yield Finding(session_id, "views", text)
        for text in storage.check_calls(session_id):
            yield Finding(session_id, "calls", text)
        for name in storage.log.quarantine(session_id):
            if name not in found.quarantine:
                yield Finding(session_id, "quarantine", f"{name} is not recorded in the log: a repair was not finished")
    except OSError as error:
        yield Finding(session_id, "views", _why(error), "unreadable")
    except EventStoreError as error:
        if not list(found.flaws()):
            yield Finding(session_id, "views", str(error))
    except (msgspec.MsgspecError, ValueError, KeyError, TypeError):
        text = "cannot be made: the fields of an event are not those of its type, and its hash fits"
        yield Finding(session_id, "views", text, "tampered")


# --- the store


def _verify_store(storage: SessionStorage, pinned: _Pinned, *, are_roots_held: bool = False) -> Verdict:
    for _ in range(COMPARISONS):
        place = place_of(storage, StoreRecord(), STORE_ID)
        checkpoints = pinned.checkpoints(STORE_ID)
        found, findings = _examine(storage, STORE_ID, checkpoints)
        if not findings or place == place_of(storage, StoreRecord(), STORE_ID):
            break
    if (found is None or not found.tree.size) and not checkpoints.anchors and _is_just_begun(storage):
        begun: Outcome = "incomplete" if pinned.wants_proof else "whole"
        return Verdict(STORE_ID, 0, "", begun, notes=(_NOT_BEGUN,), proof_asked=pinned.wants_proof)
    if found is None:
        outcome = worst_of(one.outcome for one in findings)
        return Verdict(STORE_ID, 0, "", outcome, tuple(findings), proof_asked=pinned.wants_proof)
    said: list[str] = []
    if not findings or findings[0].part == "tail":
        unfitting, said = against_store(storage, are_roots_held=are_roots_held)
        findings += unfitting
    return _conclude(found, findings, pinned, said)


def _is_just_begun(storage: SessionStorage) -> bool:
    """Return whether the store's own log may have no event yet: it begins when the first session has been created."""
    try:
        return not storage.log.exists(STORE_ID) and len(list(all_ids(storage))) == 1 and not in_trash(storage)
    except (EventStoreError, OSError):
        return False


def limits(keys: Sequence[VerifierKey], anchors: Sequence[str | bytes], verdicts: Iterable[Verdict]) -> list[str]:
    """List what a verification with these keys and anchors cannot prove, one sentence each."""
    said = []
    if not keys and not anchors:
        said.append(
            "this shows damage, not who wrote it: anyone who can write the store can recompute all of it; "
            "--key and a --checkpoint kept outside prove it"
        )
    elif not keys:
        said.append("no signature was checked: no --key was given, and the checkpoints kept outside were trusted")
    elif not anchors:
        said.append("no --checkpoint kept outside was given: a return to an older, signed state would not be detected")
    if (keys or anchors) and any(one.recorded_to < one.events for one in verdicts):
        said.append("unproven events are those after the last checkpoint: sign a new one")
    return said
