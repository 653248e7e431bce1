"""Verify a store: read every byte of its logs again, rebuild and compare its views, and compare it with its own log.

One log is judged in `log_audit`; what the store's own log records about sessions is in `store_record`.
"""

from base64 import b64encode
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass, field, replace
from functools import partial
from pathlib import Path
from typing import Any

import msgspec

from eventstore.errors import EventStoreError, NotARegularFile, ReadRefused, SessionNotFound
from eventstore.events import LogRepaired
from eventstore.ids import STORE_ID, TEMPLATE, check_log_id, id_of
from eventstore.integrity.checkpoint import VerifierKey
from eventstore.integrity.known_sessions import all_ids, in_trash
from eventstore.integrity.log_audit import MOST_FLAWS, Checkpoints, Claim, Examination, Outcome, examine, read_claim
from eventstore.integrity.store_record import Roots, StoreRecord, raw_lines, read_store_record, roots_of
from eventstore.store.local_storage import FileSystemSessionStorage
from eventstore.store.processes import spread
from eventstore.store.storage import SessionStorage

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
    """Verify one session: chain, numbers, times, batches, redactions, checkpoints, tail, views, calls and quarantine.

    Only reads. Every byte is read again, whatever this process read before. `keys` are the keys that the caller trusts,
    `anchors` the notes of checkpoints that the caller kept elsewhere; both decide what is proven, and then a session
    with unproven events is incomplete. Anchors of other sessions are ignored. The checkpoints and redactions that the
    store's own log records must fit in any case. `on_read` is called with the number of events that were verified, from time
    to time; what it raises ends the verification. Raises CheckpointRefused for an anchor that is not a checkpoint,
    InvalidSessionId.
    """
    pinned = _Pinned.of(keys, anchors)
    pinned.on_read = on_read
    if check_log_id(session_id) == STORE_ID:
        return _verify(storage, session_id, pinned, StoreRecord())
    return _verify_one(storage, session_id, pinned, _read_settled(storage)[0])


def verify_store(
    storage: SessionStorage, *, keys: Sequence[VerifierKey] = (), anchors: Iterable[str | bytes] = ()
) -> Verdict:
    """Verify the store's own log, as `verify_session` does, and compare the existing sessions with those it records."""
    pinned = _Pinned.of(keys, anchors)
    return _verify_store_twice(storage, pinned)


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
    store = _verify_store_twice(storage, pinned, are_roots_held=True)
    record, _ = _read_settled(storage)
    past = _take_out_past(pinned, record, store.proven_to)
    there = set(all_ids(storage)) | (pinned.anchors.keys() - {STORE_ID})
    if jobs > 1 and isinstance(storage, FileSystemSessionStorage):
        do = partial(_verify_some, storage.sessions_dir, storage.history_dir, pinned, record)
        found = list(spread(sorted(there), do, jobs))
    else:
        found = [_verify_one(storage, one, pinned, record) for one in sorted(there)]
    notes = (*store.notes, *past)
    return [*found, replace(store, notes=notes)]


def _verify_some(
    sessions_dir: Path, history_dir: Path, pinned: _Pinned, record: StoreRecord, session_ids: Sequence[str]
) -> list[Verdict]:
    """Verify some sessions in another process, with a storage of its own."""
    with FileSystemSessionStorage(sessions_dir, history_dir, fsync="no") as storage:
        return [_verify_one(storage, one, pinned, record) for one in session_ids]


def _verify_one(storage: SessionStorage, session_id: str, pinned: _Pinned, record: StoreRecord) -> Verdict:
    """Verify a session; retry if it does not fit the store's own log, which may have grown since it was read."""
    found = _verify(storage, session_id, pinned, record)
    if not any(one.part == "store" for one in found.findings):
        return found
    return _verify(storage, session_id, pinned, _read_settled(storage)[0])


def _verify_store_twice(storage: SessionStorage, pinned: _Pinned, *, are_roots_held: bool = False) -> Verdict:
    """Verify the store's own log; retry if a session does not fit it: the session may have changed since it was read."""
    found = _verify_store(storage, pinned, are_roots_held=are_roots_held)
    if not any(one.part == "store" for one in found.findings):
        return found
    return _verify_store(storage, pinned, are_roots_held=are_roots_held)


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


def _read_settled(storage: SessionStorage) -> tuple[StoreRecord, list[str]]:
    """Read the store's own log; also return notes on what a crash between two steps explains."""
    record = read_store_record(storage)
    return record, record.settle(set(all_ids(storage)), in_trash(storage))


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
            findings = [_gone(session_id)]
        elif checkpoints.anchors and (notes := _in_trash(storage, session_id, checkpoints.anchors)):
            return Verdict(session_id, 0, "", "incomplete", notes=notes, proof_asked=True)
        outcome = worst_of(one.outcome for one in findings)
        return Verdict(session_id, 0, "", outcome, tuple(findings), proof_asked=pinned.wants_proof)
    if found.fault is None or findings[0].part == "tail":
        findings += _beside(storage, session_id, found)
    if not found.tree.size and session_id in record.made:
        findings.append(_gone(session_id))
    points = {size: b64encode(root).decode() for size, (root, _) in found.points.items()}
    findings += _against_signed(session_id, found.tree.size, points, signed)
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
_NOT_BEGUN = (
    "the store's own log has no event: the program that created the first session was killed before it recorded that; "
    "the next creation of a session begins the log"
)
_ENDED = (
    "event {} of the store's own log records that it ended after a checkpoint of it was kept, and nothing proves that event: "
    "sign the store's own log, and verify with that checkpoint"
)


def _gone(session_id: str) -> Finding:
    return Finding(session_id, "store", "is missing, and no event records its deletion", "tampered")


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


def _against_signed(session_id: str, events: int, roots: Mapping[int, str], signed: Roots) -> list[Finding]:
    """Compare the roots of a log, by size, with the checkpoints that the store's own log records."""
    size = max(signed, default=0)
    if events < size:
        text = (
            f"has {events} events, and the store's own log records a checkpoint of {size}: it was truncated or set back"
        )
        return [Finding(session_id, "store", text, "tampered")]
    for size in sorted(signed):
        if signed[size] != {roots.get(size)}:
            text = (
                f"does not fit the checkpoint of {size} events that the store's own log records: "
                f"its first {size} events are not those that were signed"
            )
            return [Finding(session_id, "store", text, "tampered")]
    return []


def _verify_store(storage: SessionStorage, pinned: _Pinned, *, are_roots_held: bool = False) -> Verdict:
    checkpoints = pinned.checkpoints(STORE_ID)
    found, findings = _examine(storage, STORE_ID, checkpoints)
    if (found is None or not found.tree.size) and not checkpoints.anchors and _is_just_begun(storage):
        begun: Outcome = "incomplete" if pinned.wants_proof else "whole"
        return Verdict(STORE_ID, 0, "", begun, notes=(_NOT_BEGUN,), proof_asked=pinned.wants_proof)
    if found is None:
        outcome = worst_of(one.outcome for one in findings)
        return Verdict(STORE_ID, 0, "", outcome, tuple(findings), proof_asked=pinned.wants_proof)
    said: list[str] = []
    if not findings or findings[0].part == "tail":
        record, said = _read_settled(storage)
        findings += _against_store(storage, record, are_roots_held=are_roots_held)
    return _conclude(found, findings, pinned, said)


def _is_just_begun(storage: SessionStorage) -> bool:
    """Return whether the store's own log may have no event yet: it begins when the first session has been created."""
    try:
        return not storage.log.exists(STORE_ID) and len(list(all_ids(storage))) == 1 and not in_trash(storage)
    except (EventStoreError, OSError):
        return False


def _against_store(storage: SessionStorage, record: StoreRecord, *, are_roots_held: bool) -> Iterator[Finding]:
    there, trashed = set(all_ids(storage)), in_trash(storage)
    yield from map(_gone, sorted(record.made.keys() - there))
    for session_id in sorted(record.again):
        text = "was created again, and no event records the end of the earlier one"
        yield Finding(session_id, "store", text, "tampered")
    for name in sorted(record.aside.keys() - trashed):
        text = f"is missing from the trash, where it was {name}, and no event records its deletion"
        yield Finding(id_of(name), "store", text, "tampered")
    for session_id in sorted(record.made.keys() & there):
        yield from _against_record(storage, session_id, record, are_roots_held=are_roots_held)


def _against_record(
    storage: SessionStorage, session_id: str, record: StoreRecord, *, are_roots_held: bool
) -> Iterator[Finding]:
    """Compare a session with what the store's own log records about it."""
    starts, signed = {0, *record.forks.get(session_id, ())}, record.signed.get(session_id, {})
    if signed and not are_roots_held:
        with suppress(EventStoreError, OSError):
            yield from _against_signed(session_id, *roots_of(raw_lines(storage, session_id), signed), signed)
    try:
        first = [event for start in starts for event in storage.log.read(session_id, start, start + 1)]
    except (EventStoreError, OSError):
        return  # its own verdict reports that
    made = record.made[session_id]
    if made and not any(event.hash == made or isinstance(event, LogRepaired) for event in first):
        text = "is not the session that was created: its first event is another"
        yield Finding(session_id, "store", text, "tampered")


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
