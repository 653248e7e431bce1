"""Is it whole, and what proves it? Every byte of a session's log read again, its views made again, the store's own log asked."""

from base64 import b64encode
from collections.abc import Iterable, Iterator, Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass, field
from typing import Any, TypeGuard

import msgspec

from eventstore.errors import EventStoreError, InvalidSessionId, NotARegularFile, SessionNotFound
from eventstore.events import (
    Event,
    LogRepaired,
    StoreCheckpointSigned,
    StoreSessionCreated,
    StoreSessionDeleted,
    StoreSessionForked,
    StoreSessionRestored,
    StoreSessionTrashed,
    StoreTrashPurged,
)
from eventstore.ids import STORE_ID, TEMPLATE, check_log_id, id_of
from eventstore.integrity.checkpoint import VerifierKey
from eventstore.integrity.log_audit import Checkpoints, Claim, Examination, Outcome, examine, read_claim
from eventstore.integrity.merkle import Tree
from eventstore.integrity.reader import leaf_behind, read_chain, split_lines
from eventstore.record import codec
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
    """What was found of one session: how many events are whole, the hash of the last of them, and what is wrong.

    `signed_to` and `anchored_to` are the last events that a checkpoint proves which a given key signed, and which was kept
    outside; 0 for none. `proven_to` is the last one that is proven: by anchors where there are any, else by keys; `recorded_to`
    is the last of the mere records of checkpoints behind it. `notes` are worth knowing, and not wrong.
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

    @property
    def is_whole(self) -> bool:
        """Tell whether there are events, nothing is wrong with them, and all is proven where that was asked for."""
        return self.outcome == "whole"

    def describe(self, *, with_keys: bool) -> str:
        """Say it in one line; `with_keys` tells that signatures were checked."""
        signed = f"signed to {self.signed_to}" if self.signed_to else "not signed by your keys"
        text = [f"{self.session_id}: whole to event {self.events}", signed if with_keys else "signatures not checked"]
        text.append(f"anchored outside to {self.anchored_to}" if self.anchored_to else "not anchored outside")
        more = [_told(self.session_id, one) for one in self.findings]
        if self.recorded_to < self.events:
            more.insert(0, f"events {self.recorded_to + 1}-{self.events} are unproven")
        if self.recorded_to > self.proven_to:
            more.append(f"events {self.proven_to + 1}-{self.recorded_to} only record checkpoints")
        notes = f" ({'; '.join(self.notes)})" if self.notes else ""
        return "; ".join([", ".join(text), *more]) + notes

    def to_dict(self) -> dict[str, Any]:
        """Give the fields as JSON values."""
        unproven = [self.recorded_to + 1, self.events] if self.recorded_to < self.events else None
        more = {"findings": [one.to_dict() for one in self.findings], "notes": list(self.notes)}
        return {**vars(self), **more, "unproven": unproven, "whole": self.is_whole}


def _told(session_id: str, finding: Finding) -> str:
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

    @classmethod
    def of(cls, keys: Sequence[VerifierKey], anchors: Iterable[str | bytes]) -> "_Pinned":
        found = cls(tuple(keys))
        for claim in map(read_claim, anchors):
            found.anchors.setdefault(claim.session_id, []).append(claim)
        return found

    def checkpoints(self, session_id: str) -> Checkpoints:
        return Checkpoints(self.keys, self.anchors.get(session_id, ()), has_anchors=bool(self.anchors))

    @property
    def wants_proof(self) -> bool:
        return bool(self.keys or self.anchors)


def verify_session(
    storage: SessionStorage,
    session_id: str,
    *,
    keys: Sequence[VerifierKey] = (),
    anchors: Iterable[str | bytes] = (),
) -> Verdict:
    """Verify chain, numbers, times, batches, redactions, checkpoints, tail, views and quarantine of one session. Reads only.

    Every byte is read anew, whatever this process saw before. `keys` are the ones that the caller trusts, `anchors` the notes of
    checkpoints that the caller kept elsewhere; both say what is proven, and then a session of which events are not is incomplete.
    Anchors of other sessions are not looked at. The checkpoints that the store's own log tells of must fit in any case.
    Raises CheckpointRefused for an anchor that is no checkpoint, InvalidSessionId.
    """
    pinned = _Pinned.of(keys, anchors)
    if check_log_id(session_id) == STORE_ID:
        return _verify(storage, session_id, pinned, _Story())
    return _verify(storage, session_id, pinned, _read_story(storage))


def verify_store(
    storage: SessionStorage, *, keys: Sequence[VerifierKey] = (), anchors: Iterable[str | bytes] = ()
) -> Verdict:
    """Verify the store's own log, as `verify_session` does, and the sessions that are there against those it tells of."""
    return _verify_store(storage, _Pinned.of(keys, anchors))


def verify_all(
    storage: SessionStorage, keys: Sequence[VerifierKey] = (), anchors: Iterable[str | bytes] = ()
) -> list[Verdict]:
    """Verify all sessions and templates, those of which there is an anchor and nothing else, and at last the store's own log.

    Raises as `verify_session` does.
    """
    pinned = _Pinned.of(keys, anchors)
    there, story = _all_ids(storage), _read_story(storage)
    found = [_verify(storage, one, pinned, story) for one in sorted(there | (pinned.anchors.keys() - {STORE_ID}))]
    return [*found, _verify_store(storage, pinned, are_roots_held=True)]


def _all_ids(storage: SessionStorage) -> set[str]:
    found = set(storage.log.ids())
    with suppress(EventStoreError, OSError):  # a store's own log that cannot be read says so in its own verdict
        found.update(TEMPLATE + name for name in storage.templates())
    return found


def is_known(storage: SessionStorage, session_id: str) -> bool:
    """Tell whether there is anything of a session, or the store's own log tells that there should be."""
    try:
        if storage.log.exists(check_log_id(session_id)):
            return True
    except InvalidSessionId:
        raise
    except (EventStoreError, OSError):
        return True  # something is there that cannot be read
    if session_id in _read_story(storage).made:
        return True
    with suppress(FileNotFoundError):
        return session_id in storage.log.ids()
    return False


def is_empty(storage: SessionStorage) -> bool:
    """Tell whether there is no session, none in the trash, and no log of the store's own."""
    with suppress(FileNotFoundError):
        return not (_all_ids(storage) or storage.log.trashed() or is_known(storage, STORE_ID))
    return True


# --- one session


def _verify(storage: SessionStorage, session_id: str, pinned: _Pinned, story: "_Story") -> Verdict:
    checkpoints, told = pinned.checkpoints(session_id), story.signed.get(session_id, {})
    found, findings = _examine(storage, session_id, checkpoints, None, told)
    if found is None:
        if session_id in story.made and not checkpoints.anchors and not _is_aside(storage, session_id, story):
            findings = [_gone(session_id)] if findings[0].text == _EMPTY else findings
        return Verdict(session_id, 0, "", worst_of(one.outcome for one in findings), tuple(findings))
    if found.fault is None or findings[0].part == "tail":
        findings += _beside(storage, session_id, found)
    if not found.tree.size and session_id in story.made:
        findings.append(_gone(session_id))
    points = {size: b64encode(root).decode() for size, (root, _) in found.points.items()}
    findings += _against_told(session_id, found.tree.size, points, told)
    return _conclude(found, findings, pinned)


def _conclude(found: Examination, findings: Sequence[Finding], pinned: _Pinned) -> Verdict:
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
        tuple(found.notes()),
    )


def _examine(
    storage: SessionStorage,
    session_id: str,
    checkpoints: Checkpoints,
    story: "_Story | None",
    sizes: Iterable[int] = (),
) -> tuple[Examination | None, list[Finding]]:
    """Read a log; None where it cannot be read at all."""
    try:
        found = examine(
            storage.log,
            session_id,
            checkpoints,
            sizes=sizes,
            others=lambda: sorted(_all_ids(storage) - {session_id}),
            hear=None if story is None else story.take,
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
    return Finding(session_id, "store", "is gone, and nothing tells of its deletion", "tampered")


def _is_aside(storage: SessionStorage, session_id: str, story: "_Story") -> bool:
    """Tell whether it is in the trash, and nothing tells of that: putting it there was cut short, or is going on."""
    return session_id in {id_of(name) for name in set(storage.log.trashed()) - story.aside.keys()}


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
            yield Finding(found.session_id, "tail", f"{tail}; the next append sets it right")
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
                yield Finding(session_id, "quarantine", f"{name} is not told of in the log: a repair was cut short")
    except OSError as error:
        yield Finding(session_id, "views", _why(error), "unreadable")
    except EventStoreError as error:
        if not list(found.flaws()):
            yield Finding(session_id, "views", str(error))
    except (msgspec.MsgspecError, ValueError, KeyError, TypeError):
        text = "cannot be made: an event in the log is not what its type holds, and its hash fits"
        yield Finding(session_id, "views", text, "tampered")


# --- the store


@dataclass
class _Story:
    """What the store's own log tells: `made` maps sessions that should be there to the hash of their first event.

    `aside` maps names in the trash to the same, `forks` sessions to the numbers of events they may begin behind, `signed`
    sessions to the roots that were signed, by their sizes. `again` are those that came into being while they were there.
    """

    made: dict[str, str] = field(default_factory=dict)
    aside: dict[str, str] = field(default_factory=dict)
    forks: dict[str, set[int]] = field(default_factory=dict)
    signed: dict[str, dict[int, set[str]]] = field(default_factory=dict)
    again: set[str] = field(default_factory=set)
    _signed_aside: dict[str, dict[int, set[str]]] = field(default_factory=dict)

    def take(self, event: Event) -> None:
        """Take in one event of the store's own log."""
        if self._is_another(event):
            self.again.add(event.session_id)
        if isinstance(event, StoreSessionCreated):
            self.made[event.session_id] = event.first_hash
        elif isinstance(event, StoreSessionForked):
            self.forks.setdefault(event.session_id, set()).add(event.upto)
        elif isinstance(event, StoreSessionTrashed):
            self.aside[event.name] = self.made.pop(event.session_id, "")
            self._signed_aside[event.name] = self.signed.pop(event.session_id, {})
        elif isinstance(event, StoreSessionRestored):
            self.made[event.session_id] = self.aside.pop(event.name, "")
            self.signed[event.session_id] = self._signed_aside.pop(event.name, {})
        elif isinstance(event, StoreTrashPurged):
            self.aside.pop(event.name, None)
        elif isinstance(event, StoreSessionDeleted):
            self.forks.pop(event.session_id, None)
            self.made.pop(event.session_id, None)
            self.signed.pop(event.session_id, None)
        elif isinstance(event, StoreCheckpointSigned):
            self.signed.setdefault(event.session_id, {}).setdefault(event.size, set()).add(event.root)

    def _is_another(self, event: Event) -> TypeGuard[StoreSessionCreated | StoreSessionRestored]:
        """Tell whether a session came into being under an id that one has; the same one, lost and brought back, is none."""
        if not isinstance(event, StoreSessionCreated | StoreSessionRestored):
            return False
        known = self.made.get(event.session_id)
        return known is not None and not (isinstance(event, StoreSessionCreated) and event.first_hash == known)


def _read_story(storage: SessionStorage) -> _Story:
    """Read what the store's own log tells as far as its chain fits; what is wrong with it, its own verdict says."""
    story = _Story()
    with suppress(EventStoreError, OSError):
        raw = storage.log.raw(STORE_ID)
        for link in read_chain(STORE_ID, raw.root, raw.chunks):
            with suppress(msgspec.MsgspecError, ValueError, KeyError, TypeError):
                story.take(codec.decode(link.line))
    return story


def _against_told(
    session_id: str, events: int, roots: Mapping[int, str], told: Mapping[int, set[str]]
) -> list[Finding]:
    """Hold the roots of a log, by sizes, against the checkpoints that the store's own log tells of."""
    size = max(told, default=0)
    if events < size:
        text = (
            f"has {events} events, and the store's own log tells of a checkpoint of {size}: it was cut off or set back"
        )
        return [Finding(session_id, "store", text, "tampered")]
    for size in sorted(told):
        if told[size] != {roots.get(size)}:
            text = (
                f"does not fit the checkpoint of {size} events that the store's own log tells of: "
                f"its first {size} events are not those that were signed"
            )
            return [Finding(session_id, "store", text, "tampered")]
    return []


def _roots(storage: SessionStorage, session_id: str, sizes: Iterable[int]) -> tuple[int, dict[int, str]]:
    """Count the lines of a log and compute the roots after some sizes; whether it is whole, its own verdict says."""
    tree, wanted, found = Tree(), set(sizes), dict[int, str]()
    for line, _ in split_lines(storage.log.raw(session_id).chunks):
        tree.append(leaf_behind(line))
        if tree.size in wanted:
            found[tree.size] = b64encode(tree.root()).decode()
    return tree.size, found


def _verify_store(storage: SessionStorage, pinned: _Pinned, *, are_roots_held: bool = False) -> Verdict:
    story, checkpoints = _Story(), pinned.checkpoints(STORE_ID)
    found, findings = _examine(storage, STORE_ID, checkpoints, story)
    if found is None:
        return Verdict(STORE_ID, 0, "", worst_of(one.outcome for one in findings), tuple(findings))
    if not findings or findings[0].part == "tail":
        findings += _against_store(storage, story, are_roots_held=are_roots_held)
    return _conclude(found, findings, pinned)


def _against_store(storage: SessionStorage, story: _Story, *, are_roots_held: bool) -> Iterator[Finding]:
    there, trashed = _all_ids(storage), set(storage.log.trashed())
    untold = {id_of(name) for name in trashed - story.aside.keys()}
    for session_id in sorted(story.made.keys() - there):
        if session_id in untold:
            text = "is in the trash, and nothing tells of that: putting it there was cut short"
            yield Finding(session_id, "store", text)
        else:
            yield _gone(session_id)
    for session_id in sorted(story.again - untold):
        text = "was created again, and nothing tells what became of the one before"
        yield Finding(session_id, "store", text, "tampered")
    for name in sorted(story.aside.keys() - trashed):
        if id_of(name) in there - story.made.keys():
            yield Finding(
                id_of(name), "store", f"came out of the trash, where it was {name}, and nothing tells of that"
            )
        else:
            text = f"is gone from the trash, where it was {name}, and nothing tells of its deletion"
            yield Finding(id_of(name), "store", text, "tampered")
    for session_id in sorted(there - story.made.keys()):
        text = "is not in the store's own log: its creation was cut short, or it came from elsewhere"
        yield Finding(session_id, "store", text)
    for session_id in sorted(story.made.keys() & there):
        yield from _against_story(storage, session_id, story, are_roots_held=are_roots_held)


def _against_story(
    storage: SessionStorage, session_id: str, story: _Story, *, are_roots_held: bool
) -> Iterator[Finding]:
    """Hold a session against what the store's own log tells of it."""
    starts, told = {0, *story.forks.get(session_id, ())}, story.signed.get(session_id, {})
    if told and not are_roots_held:
        with suppress(EventStoreError, OSError):
            yield from _against_told(session_id, *_roots(storage, session_id, told), told)
    try:
        first = [event for start in starts for event in storage.log.read(session_id, start, start + 1)]
    except (EventStoreError, OSError):
        return  # its own verdict says so
    if not any(event.hash == story.made[session_id] or isinstance(event, LogRepaired) for event in first):
        text = "is not the session that was created: its first event is another"
        yield Finding(session_id, "store", text, "tampered")


def limits(keys: Sequence[VerifierKey], anchors: Sequence[str | bytes]) -> list[str]:
    """Say what a verification with these keys and anchors could not show."""
    said = []
    if not keys and not anchors:
        said.append(
            "nothing signed outside proves that the chain was not recomputed: give --key and a --checkpoint kept outside"
        )
    elif not keys:
        said.append("no signature was checked: no --key was given, checkpoints kept outside were taken at their word")
    elif not anchors:
        said.append("no --checkpoint kept outside was given: a return to an older, signed state would not be seen")
    said.append("events after the last checkpoint are unproven")
    return said
