"""Sessions compared with what the store's own log records of them.

The two are not read at one moment: a session that is created, deleted, moved to the trash or redacted in between is no finding.
So what does not fit is compared again, and counts only if the session did not change meanwhile.
"""

from collections.abc import Iterator, Mapping
from contextlib import suppress
from typing import Any

from eventstore.errors import EventStoreError
from eventstore.events import LogRepaired
from eventstore.ids import id_of
from eventstore.integrity.known_sessions import all_ids, in_trash, read_settled
from eventstore.integrity.store_record import Roots, StoreRecord, raw_lines, roots_of
from eventstore.integrity.verdict import Finding
from eventstore.store.storage import SessionStorage

COMPARISONS = 10
"""How often a session is compared that changes each time."""


def place_of(storage: SessionStorage, record: StoreRecord, session_id: str) -> tuple[Any, ...]:
    """Return what stays the same while nothing happens to a session: its end, and what the store's own log records of it."""
    try:
        end = storage.log.tail_position(session_id)
    except (EventStoreError, OSError):
        end = None
    return (end, *record.about(session_id))


def against_store(storage: SessionStorage, *, are_roots_held: bool) -> tuple[list[Finding], list[str]]:
    """Compare all sessions with the store's own log: findings, and notes on what a crash between two steps explains."""
    record, notes = read_settled(storage)
    suspects = {one.session_id for one in _compare(storage, record, None, are_roots_held=are_roots_held)}
    found = list[Finding]()
    for _ in range(COMPARISONS if suspects or notes else 0):
        record, again = read_settled(storage)
        before = _places(storage, record, suspects)
        findings = list(_compare(storage, record, suspects, are_roots_held=are_roots_held))
        record, once_more = read_settled(storage)
        notes = [one for one in notes if one in again and one in once_more]
        after = _places(storage, record, suspects)
        at_rest = {one for one in suspects if before[one] == after[one]}
        found += [one for one in findings if one.session_id in at_rest]
        suspects -= at_rest
        if not suspects:
            break
    return found, notes


def _places(storage: SessionStorage, record: StoreRecord, session_ids: set[str]) -> dict[str, tuple[Any, ...]]:
    trashed = dict[str, list[str]]()
    for name in sorted(in_trash(storage)):
        trashed.setdefault(id_of(name), []).append(name)
    return {one: (*place_of(storage, record, one), trashed.get(one)) for one in session_ids}


def _compare(
    storage: SessionStorage, record: StoreRecord, only: set[str] | None, *, are_roots_held: bool
) -> Iterator[Finding]:
    """Find what does not fit, of some sessions or of all."""
    there, trashed = set(all_ids(storage)), in_trash(storage)
    made, again, aside = set(record.made), set(record.again), set(record.aside)
    if only is not None:
        made, again, aside = made & only, again & only, {name for name in aside if id_of(name) in only}
    yield from map(gone, sorted(made - there))
    for session_id in sorted(again):
        text = "was created again, and no event records the end of the earlier one"
        yield Finding(session_id, "store", text, "tampered")
    for name in sorted(aside - trashed):
        text = f"is missing from the trash, where it was {name}, and no event records its deletion"
        yield Finding(id_of(name), "store", text, "tampered")
    for session_id in sorted(made & there):
        yield from _against_record(storage, session_id, record, are_roots_held=are_roots_held)


def _against_record(
    storage: SessionStorage, session_id: str, record: StoreRecord, *, are_roots_held: bool
) -> Iterator[Finding]:
    """Compare a session with what the store's own log records about it."""
    starts, signed = {0, *record.forks.get(session_id, ())}, record.signed.get(session_id, {})
    if signed and not are_roots_held:
        with suppress(EventStoreError, OSError):
            yield from against_signed(session_id, *roots_of(raw_lines(storage, session_id), signed), signed)
    try:
        first = [event for start in starts for event in storage.log.read(session_id, start, start + 1)]
    except (EventStoreError, OSError):
        return  # its own verdict reports that
    made = record.made[session_id]
    if made and not any(event.hash == made or isinstance(event, LogRepaired) for event in first):
        text = "is not the session that was created: its first event is another"
        yield Finding(session_id, "store", text, "tampered")


def against_signed(session_id: str, events: int, roots: Mapping[int, str], signed: Roots) -> list[Finding]:
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


def gone(session_id: str) -> Finding:
    """Return the finding of a session that should exist."""
    return Finding(session_id, "store", "is missing, and no event records its deletion", "tampered")
