"""Is a store intact, and what proves it: every byte of its logs read again, its views rebuilt and compared, its own log asked.

One log is judged in `log_audit`; what the store's own log records of sessions is in `store_record`.
"""

from base64 import b64encode
from collections.abc import Iterable, Iterator, Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass, field, replace
from typing import Any

import msgspec

from eventstore.errors import EventStoreError, NotARegularFile, SessionNotFound
from eventstore.events import LogRepaired
from eventstore.ids import STORE_ID, TEMPLATE, check_log_id, id_of
from eventstore.integrity.checkpoint import VerifierKey
from eventstore.integrity.log_audit import MOST_FLAWS, Checkpoints, Claim, Examination, Outcome, examine, read_claim
from eventstore.integrity.store_record import Roots, StoreRecord, raw_lines, read_store_record, roots_of
from eventstore.store.storage import SessionStorage

_WORST_FIRST: tuple[Outcome, ...] = ("tampered", "damaged", "unreadable", "incomplete", "whole")


@dataclass(frozen=True)
class Finding:
    """One thing that is wrong with a session, and what that makes of it.

    `part` is log, tail, checkpoint, views, quarantine or store; `outcome` is damaged, tampered or unreadable.
    """

    session_id: str
    part: str
    text: str
    outcome: Outcome = "damaged"

    def to_dict(self) -> dict[str, str]:
        """Give the fields as JSON values."""
        return dict(vars(self))


@dataclass(frozen=True)
class Verdict:
    """What was found of one session: how many events are intact, the hash of the last of them, and what is wrong.

    `signed_to` and `anchored_to` are the last events that a checkpoint proves which a given key signed, and which was kept
    outside; 0 for none. `proven_to` is the last one that is proven: by anchors where there are any, else by keys; `recorded_to`
    is the last of the mere records of checkpoints behind it. `notes` are worth knowing, and not wrong. `proof_asked` says that
    keys or anchors were given.
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
        """Return whether there are events, nothing is wrong with them, and all is proven where that was asked for."""
        return self.outcome == "whole"

    def describe(self, *, with_keys: bool) -> str:
        """Write it as one line; `with_keys` says that signatures were checked."""
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
    """Choose the outcome that the whole has: tampered before damaged, unreadable, incomplete, whole; of nothing, unreadable."""
    found = set(outcomes)
    return next((outcome for outcome in _WORST_FIRST if outcome in found), "unreadable")


@dataclass
class _Pinned:
    """What the caller trusts: never anything of the store."""

    keys: Sequence[VerifierKey]
    anchors: dict[str, list[Claim]] = field(default_factory=dict)
    has_anchors: bool = False

    @classmethod
    def of(cls, keys: Sequence[VerifierKey], anchors: Iterable[str | bytes]) -> "_Pinned":
        found = cls(tuple(keys))
        for claim in map(read_claim, anchors):
            found.anchors.setdefault(claim.session_id, []).append(claim)
        found.has_anchors = bool(found.anchors)
        return found

    def checkpoints(self, session_id: str) -> Checkpoints:
        return Checkpoints(self.keys, self.anchors.get(session_id, ()), has_anchors=self.has_anchors)

    @property
    def wants_proof(self) -> bool:
        return bool(self.keys or self.has_anchors)


def verify_session(
    storage: SessionStorage,
    session_id: str,
    *,
    keys: Sequence[VerifierKey] = (),
    anchors: Iterable[str | bytes] = (),
) -> Verdict:
    """Verify chain, numbers, times, batches, redactions, checkpoints, tail, views and quarantine of one session. Reads only.

    Every byte is read again, whatever this process saw before. `keys` are the ones that the caller trusts, `anchors` the notes of
    checkpoints that the caller kept elsewhere; both say what is proven, and then a session of which events are not is incomplete.
    Anchors of other sessions are not looked at. The checkpoints and redactions that the store's own log records must fit in any
    case. Raises CheckpointRefused for an anchor that is no checkpoint, InvalidSessionId.
    """
    pinned = _Pinned.of(keys, anchors)
    if check_log_id(session_id) == STORE_ID:
        return _verify(storage, session_id, pinned, StoreRecord())
    return _verify_one(storage, session_id, pinned, _read_settled(storage)[0])


def verify_store(
    storage: SessionStorage, *, keys: Sequence[VerifierKey] = (), anchors: Iterable[str | bytes] = ()
) -> Verdict:
    """Verify the store's own log, as `verify_session` does, and compare the sessions that are there with those it records."""
    pinned = _Pinned.of(keys, anchors)
    return _verify_store_twice(storage, pinned)


def verify_all(
    storage: SessionStorage, keys: Sequence[VerifierKey] = (), anchors: Iterable[str | bytes] = ()
) -> list[Verdict]:
    """Verify all sessions and templates, those of which there is an anchor and nothing else, and at last the store's own log.

    Raises as `verify_session` does.
    """
    pinned = _Pinned.of(keys, anchors)
    store = _verify_store_twice(storage, pinned, are_roots_held=True)
    record, _ = _read_settled(storage)
    past = _take_out_past(pinned, record, store.proven_to)
    there = set(_all_ids(storage)) | (pinned.anchors.keys() - {STORE_ID})
    found = [_verify_one(storage, one, pinned, record) for one in sorted(there)]
    notes = (*store.notes, *past)
    return [*found, replace(store, notes=notes)]


def _verify_one(storage: SessionStorage, session_id: str, pinned: _Pinned, record: StoreRecord) -> Verdict:
    """Verify a session; once more where the store's own log speaks against it, which may have grown since it was read."""
    found = _verify(storage, session_id, pinned, record)
    if not any(one.part == "store" for one in found.findings):
        return found
    return _verify(storage, session_id, pinned, _read_settled(storage)[0])


def _verify_store_twice(storage: SessionStorage, pinned: _Pinned, *, are_roots_held: bool = False) -> Verdict:
    """Verify the store's own log; once more where a session does not fit it, which may have changed since it was read."""
    found = _verify_store(storage, pinned, are_roots_held=are_roots_held)
    if not any(one.part == "store" for one in found.findings):
        return found
    return _verify_store(storage, pinned, are_roots_held=are_roots_held)


def _take_out_past(pinned: _Pinned, record: StoreRecord, proven_to: int) -> list[str]:
    """Take out the anchors of sessions whose end a proven event of the store's own log records; return notes that say so."""
    said = []
    for session_id, claims in list(pinned.anchors.items()):
        left = [
            one
            for one in claims
            if not record.is_past(session_id, one.checkpoint.size, b64encode(one.checkpoint.root).decode(), proven_to)
        ]
        if len(left) < len(claims):
            said.append(f"session {session_id}: {len(claims) - len(left)} kept checkpoints are of one that ended")
            pinned.anchors[session_id] = left
        if not left:
            del pinned.anchors[session_id]
    return said


def _all_ids(storage: SessionStorage) -> Iterator[str]:
    """Name all sessions and templates that are there; a log without a byte is none, but what a refused creation left."""
    found = set(storage.log.ids())
    with suppress(EventStoreError, OSError):  # a store's own log that cannot be read says so in its own verdict
        found.update(TEMPLATE + name for name in storage.templates())
    return (one for one in found if _is_there(storage, one))


def _is_there(storage: SessionStorage, session_id: str) -> bool:
    try:
        return storage.log.exists(session_id)
    except (EventStoreError, OSError):
        return True  # something is there that cannot be read


def _trashed(storage: SessionStorage) -> set[str]:
    with suppress(FileNotFoundError):
        return set(storage.log.trashed())
    return set()


def _read_settled(storage: SessionStorage) -> tuple[StoreRecord, list[str]]:
    """Read the store's own log, and what a crash between two steps explains; the latter in words."""
    record = read_store_record(storage)
    return record, record.settle(set(_all_ids(storage)), _trashed(storage))


def is_known(storage: SessionStorage, session_id: str) -> bool:
    """Return whether there is anything of a session, or the store's own log records that there should be."""
    check_log_id(session_id)
    return _is_there(storage, session_id) or session_id in read_store_record(storage).made


def is_empty(storage: SessionStorage) -> bool:
    """Return whether there is no session, none in the trash, and no log of the store's own."""
    with suppress(FileNotFoundError):
        return not (any(_all_ids(storage)) or _trashed(storage) or is_known(storage, STORE_ID))
    return True


# --- one session


def _verify(storage: SessionStorage, session_id: str, pinned: _Pinned, record: StoreRecord) -> Verdict:
    checkpoints, signed = pinned.checkpoints(session_id), record.signed.get(session_id, {})
    found, findings = _examine(storage, session_id, checkpoints, signed)
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
        text = f"event {seq} is redacted, and the store's own log records no such redaction: compare it with a backup"
        yield Finding(found.session_id, "store", text)


def _undone(found: Examination, record: StoreRecord) -> Iterator[str]:
    undone = record.undone_redactions(found.session_id, found.tombstones, found.events)
    if undone:
        some = ", ".join(map(str, undone[:MOST_FLAWS]))
        yield f"a redaction was recorded and cut short: event {some} is still there; redact it again"


def _examine(
    storage: SessionStorage,
    session_id: str,
    checkpoints: Checkpoints,
    sizes: Iterable[int] = (),
) -> tuple[Examination | None, list[Finding]]:
    """Read a log; None where it cannot be read at all."""
    try:
        found = examine(
            storage.log,
            session_id,
            checkpoints,
            sizes=sizes,
            others=lambda: sorted(set(_all_ids(storage)) - {session_id}),
        )
        return found, list(_in_log(storage, found))
    except SessionNotFound:
        return None, [_missing(session_id, checkpoints.anchors)]
    except OSError as error:
        return None, [Finding(session_id, "log", _why(error), "unreadable")]
    except EventStoreError as error:
        return None, [Finding(session_id, "log", str(error))]


_EMPTY = "holds no event"


def _gone(session_id: str) -> Finding:
    return Finding(session_id, "store", "is gone, and nothing records its deletion", "tampered")


def _in_trash(storage: SessionStorage, session_id: str, anchors: Sequence[Claim]) -> tuple[str, ...]:
    """Hold anchors against what is in the trash under this id; empty where not all of them fit the same log there."""
    wanted = {one.checkpoint.size: b64encode(one.checkpoint.root).decode() for one in anchors}
    for name in sorted(_trashed(storage)):
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
    text = f"is not there, and a checkpoint of {size} events of it was kept outside"
    return Finding(session_id, "log", text, "tampered")


def _why(error: OSError) -> str:
    """Say what the system said; paths stand in our own errors only."""
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
    """Look at what is kept beside a log that is whole."""
    try:
        if session_id != STORE_ID and not session_id.startswith(TEMPLATE):
            for text in storage.check_views(session_id):
                yield Finding(session_id, "views", text)
        for name in storage.log.quarantine(session_id):
            if name not in found.quarantine:
                yield Finding(session_id, "quarantine", f"{name} is not recorded in the log: a repair was cut short")
    except OSError as error:
        yield Finding(session_id, "views", _why(error), "unreadable")
    except EventStoreError as error:
        if not list(found.flaws()):
            yield Finding(session_id, "views", str(error))
    except (msgspec.MsgspecError, ValueError, KeyError, TypeError):
        text = "cannot be made: an event in the log is not what its type holds, and its hash fits"
        yield Finding(session_id, "views", text, "tampered")


# --- the store


def _against_signed(session_id: str, events: int, roots: Mapping[int, str], signed: Roots) -> list[Finding]:
    """Hold the roots of a log, by sizes, against the checkpoints that the store's own log records."""
    size = max(signed, default=0)
    if events < size:
        text = (
            f"has {events} events, and the store's own log records a checkpoint of {size}: it was cut off or set back"
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
    if found is None:
        outcome = worst_of(one.outcome for one in findings)
        return Verdict(STORE_ID, 0, "", outcome, tuple(findings), proof_asked=pinned.wants_proof)
    said: list[str] = []
    if not findings or findings[0].part == "tail":
        record, said = _read_settled(storage)
        findings += _against_store(storage, record, are_roots_held=are_roots_held)
    return _conclude(found, findings, pinned, said)


def _against_store(storage: SessionStorage, record: StoreRecord, *, are_roots_held: bool) -> Iterator[Finding]:
    there, trashed = set(_all_ids(storage)), _trashed(storage)
    yield from map(_gone, sorted(record.made.keys() - there))
    for session_id in sorted(record.again):
        text = "was created again, and nothing records what became of the one before"
        yield Finding(session_id, "store", text, "tampered")
    for name in sorted(record.aside.keys() - trashed):
        text = f"is gone from the trash, where it was {name}, and nothing records its deletion"
        yield Finding(id_of(name), "store", text, "tampered")
    for session_id in sorted(record.made.keys() & there):
        yield from _against_record(storage, session_id, record, are_roots_held=are_roots_held)


def _against_record(
    storage: SessionStorage, session_id: str, record: StoreRecord, *, are_roots_held: bool
) -> Iterator[Finding]:
    """Hold a session against what the store's own log records of it."""
    starts, signed = {0, *record.forks.get(session_id, ())}, record.signed.get(session_id, {})
    if signed and not are_roots_held:
        with suppress(EventStoreError, OSError):
            yield from _against_signed(session_id, *roots_of(raw_lines(storage, session_id), signed), signed)
    try:
        first = [event for start in starts for event in storage.log.read(session_id, start, start + 1)]
    except (EventStoreError, OSError):
        return  # its own verdict says so
    made = record.made[session_id]
    if made and not any(event.hash == made or isinstance(event, LogRepaired) for event in first):
        text = "is not the session that was created: its first event is another"
        yield Finding(session_id, "store", text, "tampered")


def limits(keys: Sequence[VerifierKey], anchors: Sequence[str | bytes], verdicts: Iterable[Verdict]) -> list[str]:
    """Write what a verification with these keys and anchors could not show, one sentence each."""
    said = []
    if not keys and not anchors:
        said.append(
            "nothing was proven: whoever can write the store could have recomputed all of it; "
            "give --key and a --checkpoint kept outside"
        )
    elif not keys:
        said.append("no signature was checked: no --key was given, and the checkpoints kept outside were believed")
    elif not anchors:
        said.append("no --checkpoint kept outside was given: a return to an older, signed state would not be seen")
    if (keys or anchors) and any(one.recorded_to < one.events for one in verdicts):
        said.append("unproven events are those after the last checkpoint: sign a new one")
    return said
