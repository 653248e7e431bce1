"""Redactions that come with copies of sessions from another store: carried out in all logs of this store that have the events."""

import json
from collections.abc import Collection, Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager, suppress
from dataclasses import dataclass, field
from typing import TypeAlias

from eventstore.errors import LogDamaged, SessionNotFound
from eventstore.events import EventRedacted, StoreEventsRedacted, StoreSessionCreated
from eventstore.ids import STORE_ID
from eventstore.integrity.compaction import REASON as SUPERSEDED
from eventstore.integrity.redaction_files import still_there
from eventstore.integrity.redaction_plan import (
    Log,
    all_logs,
    inherited_of,
    leaves_of,
    lines_of,
    obstacle,
    read_lines,
)
from eventstore.integrity.redaction_steps import Redaction
from eventstore.integrity.repeats import Repeats
from eventstore.log.ingest import VerifiedLog
from eventstore.log.redact import recorded_leaf
from eventstore.record import codec, tombstone
from eventstore.store.known_redactions import known_redactions, redacted_folders
from eventstore.store.removed_text import Removed
from eventstore.store.storage import SessionStorage

_Found: TypeAlias = tuple[Log, dict[bytes, EventRedacted], dict[int, bytes]]
"""A log, the redactions that its family gets, and its lines of these events."""


@dataclass
class Arriving:
    """The redactions that copies bring: by the root of the chain, and by the leaf hash of the redacted event, 32 bytes.

    `new` are the leaf hashes of those that this store does not have yet in the sessions that are imported. The others are carried
    out only where an earlier import recorded them and was killed: a person may have brought content back since.
    """

    by_root: dict[str, dict[bytes, EventRedacted]] = field(default_factory=dict)
    new: set[bytes] = field(default_factory=set)

    def add(self, log: VerifiedLog, events: Iterable[EventRedacted], *, since: int) -> None:
        """Add the redactions that a log records; those after event `since` are new.

        The record of the log that has the event itself is preferred to that of a fork.
        """
        found = self.by_root.setdefault(log.root, {})
        for event in events:
            leaf = recorded_leaf(event)
            if event.seq > since:
                self.new.add(leaf)
            if leaf not in found or event.target > log.inherited:
                found[leaf] = event


@dataclass
class Here:
    """What arriving redactions remove in this store: the number of events, and the folders of the tool calls they belong to."""

    events: int = 0
    folders: set[str] = field(default_factory=set)


def look_here(storage: SessionStorage, arriving: Arriving) -> Here:
    """Find what redactions would remove in this store. Changes nothing."""
    here, leaves = Here(), set[bytes]()
    for log, wanted, lines in _with_content(storage, arriving):
        known = {leaf: _record(log, [event]) for leaf, event in wanted.items()}
        with suppress(SessionNotFound, LogDamaged):
            here.folders |= redacted_folders(lines_of(storage, log), known)
        leaves |= leaves_of(lines)
    here.events = len(leaves)
    return here


@contextmanager
def carrying_out(
    storage: SessionStorage, arriving: Arriving, here: Here, imported: Mapping[str, Sequence[EventRedacted]]
) -> Iterator[list[str]]:
    """Carry out redactions here while the copies that bring them are imported. At the end the list names what is left.

    Before: the store's own log records them, and so do forks here that have the events. The caller then replaces the sessions
    `imported` by longer copies with these redactions. After: all other logs are redacted, and derived data is rebuilt. After an
    error in between, the same import completes it. `here` is what `look_here` found before. Holds the store's lock. Raises as
    `redact` does.
    """
    left = list[str]()
    if not arriving.new and not here.events:
        yield left
        return
    with storage.registry.locked():
        begun = list(_begin(storage, arriving, imported))
        _record_others(storage, imported)
        yield left
        done = [one.end() for one in begun]
    removed = Removed()
    for one in begun:
        removed.update(one.removed)
    left += dict.fromkeys(name for one in done for name in one.left)
    left += still_there(storage, removed, left)


def _begin(storage: SessionStorage, arriving: Arriving, imported: Collection[str]) -> Iterator[Redaction]:
    """Begin a redaction for each log that has events which no earlier one had, and for each reason."""
    begun, found = set[bytes](), [*_with_content(storage, arriving), *_without_record(storage, arriving)]
    found = [*_repeated(storage, found, imported), *found]
    then = {leaf for _, _, lines in found for leaf in leaves_of(lines)}
    for log, wanted, lines in found:
        groups: dict[str, tuple[EventRedacted, dict[int, bytes]]] = {}
        for seq, line in lines.items():
            leaf = tombstone.leaf_of(line) or b""
            if leaf not in begun:
                begun.add(leaf)
                why = wanted[leaf]
                groups.setdefault(json.dumps([why.reason, why.by]), (why, {}))[1][seq] = line
        for why, group in groups.values():
            redaction = Redaction(storage, log, why.reason, why.by, None, imported=imported, then=then)
            redaction.begin(group)
            yield redaction


def _repeated(storage: SessionStorage, found: Sequence[_Found], imported: Collection[str]) -> Iterator[_Found]:
    """Stream what redactions here have appended to other sessions that repeats the events; a compaction takes no value away."""
    for log, wanted, lines in found:
        if log.log_id in imported and not log.trashed:
            continue
        reasons: dict[str, dict[int, bytes]] = {}
        for seq, line in lines.items():
            why = wanted[tombstone.leaf_of(line) or b""]
            if why.reason != SUPERSEDED:
                reasons.setdefault(json.dumps([why.reason, why.by]), {})[seq] = line
        if not reasons:
            continue
        repeats = Repeats(storage, log)
        for group in reasons.values():
            events = list(map(codec.decode, group.values()))
            again = read_lines(storage, log, repeats.of(events, repeats.originals(group)) - lines.keys())
            why = wanted[min(leaves_of(group))]
            if again:
                yield log, dict.fromkeys(leaves_of(again), why), again


def _record_others(storage: SessionStorage, imported: Mapping[str, Sequence[EventRedacted]]) -> None:
    """Record the redactions of events that only the copies have: verification accuses a redaction without a record."""
    known = known_redactions(storage.log)
    for session_id, events in imported.items():
        new = [one for one in events if recorded_leaf(one) not in known]
        if new:
            storage.registry.note(_record(Log(session_id), new))


def _record(log: Log, events: Collection[EventRedacted]) -> StoreEventsRedacted:
    targets, leaves = tuple(one.target for one in events), tuple(one.leaf for one in events)
    return StoreEventsRedacted(
        session_id=log.log_id, targets=targets, leaves=leaves, reason="redacted before the import"
    )


def _with_content(storage: SessionStorage, arriving: Arriving) -> Iterator[_Found]:
    """Stream the logs that have content of redacted events, with only these lines."""
    if not any(arriving.by_root.values()):
        return
    noted, begun = _times(storage)
    for log, wanted, lines in _sharing(storage, arriving):
        since = 0 if log.trashed else begun.get(log.log_id, 0)
        found = {
            seq: line
            for seq, line in lines.items()
            if (leaf := tombstone.leaf_of(line)) in arriving.new or noted.get(leaf or b"", -1) > since
            if not obstacle(log.log_id, seq, line)
        }
        if found:
            yield log, wanted, found


def _times(storage: SessionStorage) -> tuple[dict[bytes, int], dict[str, int]]:
    """Return the numbers of the registry's last records of each redaction, by leaf hash, and of each session's creation."""
    noted, begun = dict[bytes, int](), dict[str, int]()
    for event in storage.log.read(STORE_ID) if storage.log.exists(STORE_ID) else ():
        if isinstance(event, StoreEventsRedacted):
            noted |= {bytes.fromhex(leaf): event.seq for leaf in event.leaves}
        elif isinstance(event, StoreSessionCreated):
            begun[event.session_id] = event.seq
    return noted, begun


def _without_record(storage: SessionStorage, arriving: Arriving) -> Iterator[_Found]:
    """Stream the forks that inherit redacted events and do not record it, with only these lines."""
    for log, wanted, lines in _sharing(storage, arriving):
        inherited = inherited_of(storage, log)
        if inherited:
            own = lines_of(storage, log, inherited)
            recorded = {one.target for one in codec.read_redactions(own)}
            found = {seq: line for seq, line in lines.items() if seq <= inherited and seq not in recorded}
            if found:
                yield log, wanted, found


def _sharing(storage: SessionStorage, arriving: Arriving) -> Iterator[_Found]:
    """Stream the logs that have some of the events, redacted or not. Damaged ones are left out: verification reports them."""
    for log in all_logs(storage):
        with suppress(SessionNotFound, LogDamaged):
            root = storage.log.trashed_root(log.trashed) if log.trashed else storage.log.root_of(log.log_id)
            wanted = arriving.by_root.get(root)
            if wanted:
                lines = read_lines(storage, log, {one.target for one in wanted.values()})
                found = {seq: line for seq, line in lines.items() if tombstone.leaf_of(line) in wanted}
                if found:
                    yield log, wanted, found
