"""Is it whole? Every byte of a session's log read again, its views made again, and the store's own log asked."""

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

from eventstore.errors import EventStoreError, SessionNotFound
from eventstore.events import (
    LogRepaired,
    StoreSessionCreated,
    StoreSessionDeleted,
    StoreSessionForked,
    StoreSessionRestored,
    StoreSessionTrashed,
)
from eventstore.names import STORE_ID, TEMPLATE
from eventstore.storage import SessionStorage


@dataclass(frozen=True)
class Finding:
    """One thing that is wrong with a session. `part` is log, tail, views, quarantine or store."""

    session_id: str
    part: str
    text: str

    def to_dict(self) -> dict[str, str]:
        """Give the fields as JSON values."""
        return dict(vars(self))


@dataclass(frozen=True)
class Verdict:
    """What was found of one session: how many events are whole, the hash of the last of them, and what is wrong."""

    session_id: str
    events: int
    hash: str
    findings: tuple[Finding, ...] = ()

    @property
    def is_whole(self) -> bool:
        """Tell whether there are events and nothing is wrong with them."""
        return self.events > 0 and not self.findings

    def to_dict(self) -> dict[str, Any]:
        """Give the fields as JSON values."""
        return {**vars(self), "findings": [one.to_dict() for one in self.findings], "whole": self.is_whole}


def verify_session(storage: SessionStorage, session_id: str) -> Verdict:
    """Verify chain, numbers, times, batches, tail, views and quarantine of one session. Reads only."""
    events, last, kept = 0, "", set[str]()
    try:
        for event in storage.log.read(session_id):
            events, last = event.seq, event.hash
            if isinstance(event, LogRepaired):
                kept.add(event.quarantine)
    except SessionNotFound:
        return Verdict(session_id, 0, "", (Finding(session_id, "log", "holds no event"),))
    except (EventStoreError, OSError) as error:
        return Verdict(session_id, events, last, (Finding(session_id, "log", str(error)),))
    return Verdict(session_id, events, last, tuple(_findings(storage, session_id, kept)))


def _findings(storage: SessionStorage, session_id: str, kept: set[str]) -> Iterator[Finding]:
    tail = storage.log.tail(session_id)
    if tail is not None:
        yield Finding(session_id, "tail", f"{tail}; the next append sets it right")
    for text in storage.check_views(session_id):
        yield Finding(session_id, "views", text)
    for name in storage.log.quarantine(session_id):
        if name not in kept:
            yield Finding(session_id, "quarantine", f"{name} is not told of in the log: a repair was cut short")


def verify_store(storage: SessionStorage) -> Verdict:
    """Verify the store's own log, and the sessions that are there against those it tells of."""
    told: dict[str, str] = {}
    aside: dict[str, str] = {}
    forks: dict[str, set[int]] = {}
    events, last = 0, ""
    try:
        for event in storage.log.read(STORE_ID):
            events, last = event.seq, event.hash
            if isinstance(event, StoreSessionCreated):
                told[event.session_id] = event.first_hash
            elif isinstance(event, StoreSessionForked):
                forks.setdefault(event.session_id, set()).add(event.upto)
            elif isinstance(event, StoreSessionTrashed):
                aside[event.name] = told.pop(event.session_id, "")
            elif isinstance(event, StoreSessionRestored):
                told[event.session_id] = aside.pop(event.name, "")
            elif isinstance(event, StoreSessionDeleted):
                forks.pop(event.session_id, None)
                told.pop(event.session_id, None)
    except SessionNotFound:
        pass
    except (EventStoreError, OSError) as error:
        return Verdict(STORE_ID, events, last, (Finding(STORE_ID, "log", str(error)),))
    return Verdict(STORE_ID, events, last, tuple(_against_store(storage, told, forks)))


def _against_store(storage: SessionStorage, told: dict[str, str], forks: dict[str, set[int]]) -> Iterator[Finding]:
    there = {*storage.log.ids(), *(TEMPLATE + name for name in storage.templates())}
    for session_id in sorted(told.keys() - there):
        yield Finding(session_id, "store", "is gone, and nothing tells of its deletion")
    for session_id in sorted(there - told.keys()):
        yield Finding(
            session_id, "store", "is not in the store's own log: its creation was cut short, or it came from elsewhere"
        )
    for session_id in sorted(told.keys() & there):
        starts = {0, *forks.get(session_id, ())}
        try:
            first = [event for start in starts for event in storage.log.read(session_id, start, start + 1)]
        except (EventStoreError, OSError):
            continue  # its own verdict says so
        if not any(event.hash == told[session_id] or isinstance(event, LogRepaired) for event in first):
            yield Finding(session_id, "store", "is not the session that was created: its first event is another")
