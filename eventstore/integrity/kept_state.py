"""What keeps the streams and the data of a session as they are when events of them are redacted.

A redacted event counts as if it had never had an effect. Here that is not enough: a value would move to the place where it was
replaced last, what was replaced or removed would come back, and "remove the last one" would remove another one.
"""

from collections.abc import Callable, Collection
from dataclasses import dataclass
from typing import TypeAlias, TypeVar

from msgspec.structs import fields, replace

from eventstore import events as e
from eventstore.errors import VersionConflict
from eventstore.record import codec, tombstone
from eventstore.store.replaced_lines import NAME
from eventstore.store.storage import SessionStorage
from projections import data, records

E = TypeVar("E", bound=e.Event)
_Record: TypeAlias = e.RecordPut | e.RecordRemoved
_Data: TypeAlias = e.DataSet | e.DataDeleted | e.DataCleared
_TRIES = 10  # at each, another writer appended since the log was read: then the log is read again
_RECORD, _DATA = b'{"type":"record.', b'{"type":"data.'
_PLACE = {"seq": 0, "at": "", "salt": None, "hash": "", "batch": None, "origin": None}


def is_record(line: bytes) -> bool:
    """Return whether a line puts or removes records, or did before it was redacted."""
    return line.startswith(_RECORD)


def has_state(line: bytes) -> bool:
    """Return whether a line changes records or data, or did before it was redacted."""
    return line.startswith((_RECORD, _DATA))


@dataclass
class State:
    """The events of a log that change its records and its data, those of them that are redacted next, and its version."""

    records: list[_Record]
    data: list[_Data]
    gone: set[int]
    version: int = 0


def read_state(storage: SessionStorage, log_id: str, gone: Collection[int], leaves: Collection[bytes] = ()) -> State:
    """Read what a log does to its records and data. `gone` are numbers, and `leaves` leaf hashes, of what is redacted next.

    Raises SessionNotFound, LogDamaged.
    """
    read = State([], [], {*gone})
    for line in storage.log.lines(log_id):
        read.version += 1
        event = codec.decode(line) if has_state(line) else None
        if isinstance(event, _Record):
            read.records.append(event)
        elif isinstance(event, _Data):
            read.data.append(event)
        if event is not None and leaves and tombstone.leaf_of(line) in leaves:
            read.gone.add(event.seq)
    return read


def keep_state(storage: SessionStorage, log_id: str, gone: Collection[int], leaves: Collection[bytes]) -> int:
    """Append what keeps all other records and data of a log when events of it are redacted next; see `read_state`.

    Return the version of the log with it: what others append later may need more.
    Raises SessionNotFound, LogDamaged, AppendRefused, OutcomeUnknown.
    """
    while True:
        state = read_state(storage, log_id, gone, leaves)
        surplus, lost = kept_records(state, with_gone=False)
        puts = [again(event, id_at(event.seq, state.version)) for event in lost]
        kept = [*kept_data(state), *surplus, *puts]
        try:
            if kept:
                storage.log.append(log_id, kept, expected_version=state.version)
        except VersionConflict:  # another writer changed something: its change would be lost
            continue
        return state.version + len(kept)


def redact_keeping(
    redact: Callable[..., object],
    storage: SessionStorage,
    log_id: str,
    gone: Collection[int],
    leaves: Collection[bytes],
    version: int | None,
) -> None:
    """Redact events of a log at the version for which `keep_state` has kept the others; None if it was not called.

    What others appended since may need more. `redact` raises VersionConflict for another version than `expected_version`.
    Raises what it raises, and as `keep_state` does.
    """
    for _ in range(_TRIES):
        if version is None:
            version = keep_state(storage, log_id, gone, leaves)
        try:
            redact(expected_version=version)
        except VersionConflict:
            new = list(storage.log.lines(log_id, version))
            version = None if any(map(has_state, new)) else version + len(new)
        else:
            return
    redact()  # others append all the time: rather a value in another place than one that stays


def kept_records(state: State, *, with_gone: bool) -> tuple[list[e.RecordRemoved], list[e.RecordPut]]:
    """Return the events that keep the streams as they are.

    First come removals of what would come back, then the values that would be lost or move, each as it was recorded but for
    `first`. Entries that have their value from an event that is redacted next are among them only `with_gone`; otherwise they
    are removed, and what they replaced does not come back.
    """
    now = records.projection.fold(state.records).streams
    left = records.projection.fold(event for event in state.records if event.seq not in state.gone).streams
    surplus, lost = list[e.RecordRemoved](), dict[int, int]()
    for name in now | left:
        there = left.get(name, {})
        stays = {place: one for place, one in now.get(name, {}).items() if with_gone or one.seq not in state.gone}
        for place, one in there.items():
            if place not in stays:
                item, made = one.first if one.key is None else None, id_at(one.seq, state.version)
                surplus.append(e.RecordRemoved(stream=name, key=one.key, item=item, id=made))
        lost |= {one.seq: one.first for place, one in stays.items() if there.get(place) != one}
    puts = (event for event in state.records if isinstance(event, e.RecordPut) and event.seq in lost)
    return surplus, [replace(event, once=False, first=lost[event.seq]) for event in puts]


def kept_data(state: State) -> list[e.DataDeleted]:
    """Return the events that keep what was replaced or deleted in the data from coming back."""
    stay = [event for event in state.data if event.seq not in state.gone]
    now, left = data.projection.fold(state.data), data.projection.fold(stay)
    sets = {event.key: event.seq for event in stay if isinstance(event, e.DataSet)}
    back = (key for key, value in left.items() if key not in now or now[key] != value)
    return [e.DataDeleted(key=key, id=id_at(sets[key], state.version)) for key in back]


def id_at(seq: int, version: int) -> str:
    """Return an id for what is appended because of event `seq` to a log that has this version: no other event has it."""
    return f"{NAME}{seq}.{version}"


def again(event: E, name: str) -> E:
    """Return an event of a log to be appended once more, with the id `name` and the time when it happened."""
    known = {one.name for one in fields(event)}
    place = {one: value for one, value in _PLACE.items() if one in known}
    return replace(event, **place, id=name, occurred_at=event.time)
