"""Settling: interrupted operations are finished, or recorded as not done. The caller holds the store's lock.

The registry records an operation before it happens. So a difference between the registry and the log means that a crash or a full
disk interrupted an operation.
"""

from collections.abc import Iterator
from contextlib import suppress
from functools import partial

from eventstore.errors import EventStoreError, InvalidSessionId, LogDamaged, SessionNotFound
from eventstore.events import Event, StoreSessionCreated, StoreSessionRestored, StoreSessionTrashed
from eventstore.ids import TEMPLATE, free_name, id_of
from eventstore.log.engine import EventLog
from eventstore.record import hash_chain
from eventstore.store.registry_log import RegistryLog
from projections.store import Life, State

_AT_ONCE = 200


def settle(log: EventLog, registry: RegistryLog, *, everything: bool) -> None:
    """Compare the registry with the log, and repair the registry where they differ.

    Without `everything` only the operations recorded since the last call are compared. Raises EventStoreError and OSError.
    """
    _settle_trash(log, registry, everything=everything)
    _settle_sessions(log, registry, everything=everything)


def _settle_trash(log: EventLog, registry: RegistryLog, *, everything: bool) -> None:
    names = registry.look(lambda state: set(state.trashed if everything else state.unsettled_names))
    if not names and not everything:
        return
    in_trash = set(log.trashed())
    known = registry.look(lambda state: set(state.trashed))
    candidates = names | in_trash if everything else names
    for name in sorted(candidates):
        if (name in in_trash) != (name in known):
            with suppress(InvalidSessionId):  # a user's own folder
                _settle_name(log, registry, name, in_trash)
    registry.look(lambda state: state.unsettled_names.clear())


def _settle_name(log: EventLog, registry: RegistryLog, name: str, in_trash: set[str]) -> None:
    session_id = id_of(name)
    if name not in in_trash:
        registry.record(lambda state: _not_in_trash(registry, state, session_id, name))
    elif registry.look(lambda state: name in state.purged):
        log.purge(name)  # its end was recorded, and nothing can restore it any more
    else:
        registry.record(lambda state: list(_found_in_trash(log, registry, state, name, in_trash)))


def _not_in_trash(registry: RegistryLog, state: State, session_id: str, name: str) -> list[Event]:
    """Record that a session is not in the trash: it was never moved, or its return was not recorded."""
    trashed = state.trashed.get(name)
    if trashed is None or session_id in state.there or not registry.fits(trashed.life, session_id):
        return []  # it is missing: `verify` reports that
    return [StoreSessionRestored(session_id=session_id, name=name)]


def _found_in_trash(
    log: EventLog, registry: RegistryLog, state: State, name: str, in_trash: set[str]
) -> Iterator[Event]:
    """Record a session that is in the trash without a record, so that it can be purged later.

    Each record moves the session that the registry has under the id. So where that is another session, it is recorded as moved to
    a free name first, and as restored afterwards.
    """
    session_id = id_of(name)
    first, trashed, is_same = _read_trashed(log, name, state.lives.get(session_id, Life()))
    created = [StoreSessionCreated(session_id=session_id, first_hash=first)] if first else []
    if session_id not in state.there:
        yield from [] if is_same else created
        yield trashed
    elif is_same or not registry.birth(session_id):
        yield trashed
    else:
        spare = free_name(session_id, in_trash | state.trashed.keys())
        yield StoreSessionTrashed(session_id=session_id, name=spare, events=0, size_bytes=0, head_hash="")
        yield from created
        yield trashed
        yield StoreSessionRestored(session_id=session_id, name=spare)


def _read_trashed(log: EventLog, name: str, life: Life) -> tuple[str, StoreSessionTrashed, bool]:
    """Read a log in the trash: the hash of its first event, its record, and whether it is the session that was recorded."""
    first, last, size, count, is_same = "", "", 0, 0, False
    with suppress(SessionNotFound, LogDamaged):  # then only the readable part counts
        for line in log.trashed_lines(name):
            last = _hash_of(line)
            first = first or last
            is_same = is_same or (count in (0, life.upto) and last == life.first_hash)
            count, size = count + 1, size + len(line) + 1
    reason = "found in the trash without a record"
    trashed = StoreSessionTrashed(
        session_id=id_of(name), name=name, events=count, size_bytes=size, head_hash=last, reason=reason
    )
    return first, trashed, is_same


def _hash_of(line: bytes) -> str:
    parts = hash_chain.split(line)
    return "" if parts is None else parts[1].hex()


def _settle_sessions(log: EventLog, registry: RegistryLog, *, everything: bool) -> None:
    """Record sessions that exist without a record: an interrupted creation or deletion, or a copied folder."""
    if everything:
        templates = registry.look(lambda state: [one for one in state.parents if one.startswith(TEMPLATE)])
        there = [*log.ids(), *templates]
    else:
        there = registry.look(lambda state: sorted(state.unsettled_ids))
    new = registry.look(lambda state: [one for one in there if one not in state.there])
    for start in range(0, len(new), _AT_ONCE):
        registry.record(partial(_births, registry, new[start : start + _AT_ONCE]))
    registry.look(lambda state: state.unsettled_ids.clear())


def _births(registry: RegistryLog, session_ids: list[str], state: State) -> list[Event]:
    return [event for one in session_ids if one not in state.there for event in registry.birth(one)]


def settle_quietly(log: EventLog, registry: RegistryLog, *, everything: bool) -> bool:
    """Settle, and return False if that failed: an operation does not fail because an earlier one did."""
    try:
        settle(log, registry, everything=everything)
    except (EventStoreError, OSError):
        return False
    return True
