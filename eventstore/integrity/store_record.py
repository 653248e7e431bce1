"""What the store's own log records about sessions: which ones should exist, which ended, what was signed and redacted.

It is read before the sessions and only compared with them. The verdict on that log itself shows whether it can be trusted.
"""

from base64 import b64encode
from collections import Counter
from collections.abc import Iterable, Iterator, Mapping
from contextlib import suppress
from dataclasses import dataclass, field
from typing import TypeAlias, TypeGuard

import msgspec

from eventstore.errors import EventStoreError
from eventstore.events import (
    Event,
    StoreCheckpointSigned,
    StoreEventsRedacted,
    StoreRedactionFinished,
    StoreSessionCreated,
    StoreSessionDeleted,
    StoreSessionForked,
    StoreSessionRestored,
    StoreSessionTrashed,
    StoreTrashPurged,
)
from eventstore.ids import STORE_ID, id_of
from eventstore.integrity.merkle import Tree
from eventstore.integrity.reader import leaf_behind, read_chain, split_lines
from eventstore.record import codec
from eventstore.store.storage import SessionStorage

Roots: TypeAlias = dict[int, set[str]]
"""Merkle roots in base64, by the number of events that were signed."""


@dataclass
class StoreRecord:
    """The fold of the store's own log.

    `made` maps sessions that should exist to the hash of their first event, `aside` maps names in the trash to the
    same. `forks` maps sessions to the numbers of events after which they may begin, `signed` maps sessions to the
    signed roots. `again` are sessions that were created while they existed. `ended` maps sessions to the last record of
    their end.
    """

    made: dict[str, str] = field(default_factory=dict)
    aside: dict[str, str] = field(default_factory=dict)
    forks: dict[str, set[int]] = field(default_factory=dict)
    signed: dict[str, Roots] = field(default_factory=dict)
    again: set[str] = field(default_factory=set)
    ended: dict[str, str] = field(default_factory=dict)
    created_at: dict[str, str] = field(default_factory=dict)
    _events: Counter[str] = field(default_factory=Counter)
    _past: dict[str, list[tuple[int, Roots]]] = field(default_factory=dict)
    _asked: dict[str, set[int]] = field(default_factory=dict)
    _redacted: dict[str, set[int]] = field(default_factory=dict)
    _unfinished: dict[int, str] = field(default_factory=dict)
    _family: dict[str, str] = field(default_factory=dict)
    _signed_aside: dict[str, Roots] = field(default_factory=dict)
    _forks_aside: dict[str, set[int]] = field(default_factory=dict)

    def take(self, event: Event) -> None:
        """Apply one event of the store's own log."""
        self._events[getattr(event, "session_id", "")] += 1
        if self._is_another(event):
            self.again.add(event.session_id)
        match event:
            case StoreSessionCreated():
                self._begin(event)
            case StoreSessionForked():
                self.forks.setdefault(event.session_id, set()).add(event.upto)
                self._family[self._root_of(event.session_id)] = self._root_of(event.parent)
            case StoreSessionTrashed():
                self.ended[event.session_id] = "its move to the trash"
                self.aside[event.name] = self.made.pop(event.session_id, "")
                self._signed_aside[event.name] = self.signed.pop(event.session_id, {})
                self._forks_aside[event.name] = self.forks.pop(event.session_id, set())
            case StoreSessionRestored():
                if event.name in self.aside or event.session_id not in self.made:
                    self._bring_back(event.session_id, event.name)
            case StoreTrashPurged():
                self.aside.pop(event.name, None)
                self._forks_aside.pop(event.name, None)
                self._end(event.session_id, event.seq, self._signed_aside.pop(event.name, {}))
            case StoreSessionDeleted():
                self.forks.pop(event.session_id, None)
                self.made.pop(event.session_id, None)
                self.ended[event.session_id] = "its deletion"
                self._end(event.session_id, event.seq, self.signed.pop(event.session_id, {}))
            case StoreCheckpointSigned():
                self.signed.setdefault(event.session_id, {}).setdefault(event.size, set()).add(event.root)
            case StoreEventsRedacted():
                self._asked.setdefault(event.session_id, set()).update(event.targets)
                self._redacted.setdefault(event.session_id, set()).update(event.targets)
                if event.whole is not None and event.targets:
                    self._unfinished[event.seq] = event.session_id
            case StoreRedactionFinished():
                self._unfinished.pop(event.record, None)

    def _begin(self, event: StoreSessionCreated) -> None:
        if self.made.get(event.session_id) != event.first_hash:
            self._asked.pop(event.session_id, None)
        self.made[event.session_id] = event.first_hash
        self.created_at[event.session_id] = event.at
        self.ended.pop(event.session_id, None)

    def _bring_back(self, session_id: str, name: str) -> None:
        self.made[session_id] = self.aside.pop(name, "")
        self.signed[session_id] = self._signed_aside.pop(name, {})
        self.forks[session_id] = self._forks_aside.pop(name, set())

    def _end(self, session_id: str, seq: int, signed: Roots) -> None:
        self._past.setdefault(session_id, []).append((seq, signed))

    def _is_another(self, event: Event) -> TypeGuard[StoreSessionCreated | StoreSessionRestored]:
        """Return whether a session was created under an id that is in use.

        This does not count a session that was lost and restored from an archive, nor one whose move to the trash was
        not recorded.
        """
        if isinstance(event, StoreSessionRestored):
            return event.session_id in self.made and event.name in self.aside
        if not isinstance(event, StoreSessionCreated):
            return False
        return self.made.get(event.session_id, event.first_hash) != event.first_hash

    def _root_of(self, session_id: str) -> str:
        """Return the first session of a line of forks. It represents all of them, deleted ones too."""
        found = session_id
        while (parent := self._family.get(found, found)) != found:
            found = parent
        return found

    def ended_at(self, session_id: str, size: int, root: str) -> int:
        """Return the seq of the event that records the end of the session of a checkpoint; 0 if there is none."""
        past = self._past.get(session_id, ())
        return next((seq for seq, signed in past if root in signed.get(size, ())), 0)

    def unknown_redactions(self, session_id: str, redacted: Mapping[int, str]) -> list[int]:
        """List the redacted events of a session that no `store.events_redacted` names.

        `redacted` maps their numbers to the times of the events that recorded it: a record older than the session in
        this store came with an archive. A redaction is recorded for one session, and carried out in all sessions that
        have the event.
        """
        created = self.created_at.get(session_id)
        if created is None or session_id not in self.made:
            return []
        known = self._redacted_in_family(session_id)
        return sorted(seq for seq, at in redacted.items() if at > created and seq not in known)

    def _redacted_in_family(self, session_id: str) -> set[int]:
        family = self._root_of(session_id)
        return {seq for one, seqs in self._redacted.items() if self._root_of(one) == family for seq in seqs}

    def about(self, session_id: str) -> tuple[object, ...]:
        """Return what differs whenever something was recorded of a session in the meantime."""
        redacted = self._redacted_in_family(session_id) if self._redacted else ()
        return self._events[session_id], self.made.get(session_id), len(redacted)

    def undone_redactions(self, session_id: str, redacted: Iterable[int], events: int) -> list[int]:
        """List the events whose redaction was recorded here but which the session still has."""
        return sorted(seq for seq in self._asked.get(session_id, set()) - set(redacted) if seq <= events)

    def has_unfinished_redaction(self, session_id: str) -> bool:
        """Return whether a redaction of a session was recorded here and not finished: derived files may still have the text."""
        return session_id in self._unfinished.values()

    def settle(self, there: set[str], trashed: set[str]) -> list[str]:
        """Remove from the record what a crash between two steps explains; return notes on each case and how to finish it."""
        said = []
        for name in sorted(self.aside.keys() - trashed):
            session_id = id_of(name)
            if session_id in there - self.made.keys():
                self._bring_back(session_id, name)
                said.append(
                    f"session {session_id}: a move to or from the trash was not finished; trash it again, or continue it"
                )
        for name in sorted(trashed - self.aside.keys()):
            session_id = id_of(name)
            if session_id in self.made.keys() - there:
                del self.made[session_id]
                text = "a move to or from the trash was not finished, and it is in the trash; restore it, or leave it there"
            else:
                text = "its move to the trash, or its purge from there, was not finished; clean up the trash, or restore it"
            self.again.discard(session_id)
            said.append(f"session {session_id}: {text}")
        for session_id in sorted(there - self.made.keys()):
            ended = self.ended.get(session_id)
            text = "its creation stopped after its first event, or its folder was copied to here; continue it"
            if ended is not None:
                text = (
                    f"{ended}, or the creation of another one after that, was not finished; check it, then repeat that "
                    "step or continue it"
                )
            said.append(f"session {session_id}: {text}")
        return said


def read_store_record(storage: SessionStorage) -> StoreRecord:
    """Fold the store's own log as far as its chain is valid."""
    record = StoreRecord()
    with suppress(EventStoreError, OSError):
        raw = storage.log.raw(STORE_ID)
        for link in read_chain(STORE_ID, raw.root, raw.chunks):
            with suppress(msgspec.MsgspecError, ValueError, KeyError, TypeError):
                record.take(codec.decode(link.line))
    return record


def roots_of(lines: Iterable[bytes], sizes: Iterable[int]) -> tuple[int, dict[int, str]]:
    """Count lines and compute the roots, in base64, after some sizes. The chain is not verified."""
    tree, wanted, found = Tree(), set(sizes), dict[int, str]()
    for line in lines:
        tree.append(leaf_behind(line))
        if tree.size in wanted:
            found[tree.size] = b64encode(tree.root()).decode()
    return tree.size, found


def raw_lines(storage: SessionStorage, session_id: str) -> Iterator[bytes]:
    """Stream the lines of a log as they are. Raises SessionNotFound, OSError."""
    return (line for line, _ in split_lines(storage.log.raw(session_id).chunks))
