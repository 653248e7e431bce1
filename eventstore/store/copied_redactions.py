"""Redactions that come with a copy: in every log of the target that has the events, and in all that is derived from them.

Order: 1. the registry of the target records the redaction; 2. logs that only the target has are redacted; 3. forks are
continued before the log that has the event, as `integrity.redaction` does it; 4. derived data is removed, the log takes the
redaction, derived data is rebuilt. So what a killed copy leaves, the next one finds: the source has more events still.
"""

import sqlite3
from collections.abc import Collection, Iterable, Iterator
from contextlib import suppress

from eventstore.errors import EventStoreError, InvalidSessionId, LogDamaged, SessionNotFound
from eventstore.events import StoreEventsRedacted
from eventstore.ids import TEMPLATE, id_of
from eventstore.log.base import Head
from eventstore.log.redact import recorded_leaf
from eventstore.record import codec, tombstone
from eventstore.store.known_redactions import Known, redact_here, redact_in_trash, redacted_folders
from eventstore.store.removed_text import Removed, mark
from eventstore.store.storage import SessionStorage


def families(storage: SessionStorage) -> dict[str, list[str]]:
    """Return the sessions and templates by the roots of their chains of hashes: forks before their parents.

    Only those with the same root can share events. A damaged one is left out.
    """
    log, found = storage.log, dict[str, list[tuple[int, str]]]()
    has_forks = storage.registry.look(lambda state: state.forks) > 0
    for one in (*log.ids(), *(TEMPLATE + name for name in storage.templates())):
        with suppress(SessionNotFound, LogDamaged):
            root, place = (log.root_of(one), -log.inherited(one)) if has_forks else (one, 0)
            found.setdefault(root, []).append((place, one))
    return {root: [one for _, one in sorted(members)] for root, members in found.items()}


def relatives_in_trash(storage: SessionStorage, roots: Collection[str]) -> list[str]:
    """Return the ids of the sessions in the trash whose chains of hashes have one of some roots."""
    found = dict[str, None]()
    for name in storage.log.trashed():
        with suppress(SessionNotFound, LogDamaged, InvalidSessionId):  # a user's own folder there may have any name
            if storage.log.trashed_root(name) in roots:
                found[id_of(name)] = None
    return list(found)


def take_redacted(
    storage: SessionStorage, session_id: str, here: Head, data: bytes, *, trashed: str | None = None
) -> None:
    """Take lines that record redactions, as `SessionStorage.take` does, and remove the texts from all else.

    That are views, lists, search and figures, records of tool calls, and what repairs have cut from the log. Raises as
    `take` does.
    """
    gone, removed = _recorded(session_id, codec.lines(data)), Removed()
    lines = list(storage.log.lines(session_id) if trashed is None else storage.log.trashed_lines(trashed))
    for line in lines:
        if tombstone.read_tombstone(line) is None and tombstone.leaf_of(line) in gone:
            removed.add(codec.decode(line))
    if storage.history is not None:
        for folder in redacted_folders(lines, gone):
            with suppress(FileNotFoundError, ValueError):  # it is missing, or not inside the history
                storage.history.redact(folder, mark)
    forget_derived(storage, session_id, trashed)
    storage.take(session_id, here, data, trashed=trashed)
    storage.log.scrub(session_id, removed.values(), trashed=trashed)
    refresh_derived(storage, session_id, trashed)


def _recorded(session_id: str, lines: Iterable[bytes]) -> Known:
    """Return the redactions that some lines record, by the leaf hashes of the redacted events."""
    return {
        leaf: StoreEventsRedacted(session_id=session_id, targets=(one.target,), reason=one.reason)
        for one in codec.read_redactions(lines)
        if (leaf := recorded_leaf(one))
    }


def finish_redactions(storage: SessionStorage, session_id: str, *, trashed: str | None = None) -> None:
    """Carry out the redactions that a log records, where an earlier copy was killed in between."""
    if storage.log.finish_redactions(session_id, trashed=trashed):
        refresh_derived(storage, session_id, trashed)


def forget_derived(storage: SessionStorage, session_id: str, trashed: str | None = None) -> None:
    """Remove what is derived from a log and from its forks."""
    if trashed is not None:
        storage.forget_trashed_views(trashed)
        return
    there = list(_with_forks(storage, session_id))
    for one in there:
        storage.forget_derived(one)
    try:
        storage.forget_found(there)
        storage.compact()
    except (sqlite3.Error, OSError, EventStoreError):
        storage.clear_caches()


def refresh_derived(storage: SessionStorage, session_id: str, trashed: str | None = None) -> None:
    """Remove what is derived from a log and from its forks once more, and write their views."""
    forget_derived(storage, session_id, trashed)
    for one in _with_forks(storage, session_id) if trashed is None else ():
        storage.refresh_derived(one)


def _with_forks(storage: SessionStorage, session_id: str) -> Iterator[str]:
    """Yield the sessions that have the events of a log: itself, and its forks."""
    for one in (session_id, *storage.registry.look(lambda state: state.descendants(session_id))):
        if not one.startswith(TEMPLATE):
            yield one


def redact_live(storage: SessionStorage, session_ids: Iterable[str]) -> None:
    """Redact what the registry records as redacted in sessions and templates that no copy continues, forks first.

    These record it themselves. A damaged log stays as it is.
    """
    with storage.registry.locked():
        for session_id in session_ids:
            with suppress(SessionNotFound, LogDamaged):
                if redact_here(storage.log, session_id):
                    refresh_derived(storage, session_id)


def redact_trash(storage: SessionStorage, session_ids: Iterable[str]) -> None:
    """Redact what the registry records as redacted in the trash, where no copy did."""
    with storage.registry.locked():
        for session_id in session_ids:
            redact_in_trash(storage.log, session_id, storage.forget_trashed_views)
