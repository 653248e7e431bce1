"""What keeps the streams of a session as they are when events of them are redacted.

A redacted event counts as if it had never had an effect. For streams that is not enough: a value would move to the place where
it was replaced last, what was removed would come back, and "remove the last one" would remove another one.
"""

from collections.abc import Collection
from typing import TypeVar

from msgspec.structs import fields, replace

from eventstore import events as e
from eventstore.errors import VersionConflict
from eventstore.record import codec
from eventstore.store.replaced_lines import NAME
from eventstore.store.storage import SessionStorage
from projections import records

E = TypeVar("E", bound=e.Event)
_RECORD = b'{"type":"record.'
_PLACE = {"seq": 0, "at": "", "salt": None, "hash": "", "batch": None, "origin": None}


def is_record(line: bytes) -> bool:
    """Return whether a line puts or removes records, or did before it was redacted."""
    return line.startswith(_RECORD)


def keep_streams(storage: SessionStorage, log_id: str, gone: Collection[int]) -> None:
    """Append what keeps all other entries of the streams of a log when the events `gone` are redacted next.

    Raises SessionNotFound, LogDamaged, AppendRefused, OutcomeUnknown.
    """
    while True:
        surplus, lost, version = kept_records(storage, log_id, gone, with_gone=False)
        kept = [*surplus, *(again(event, id_at(event.seq, version)) for event in lost)]
        try:
            if kept:
                storage.log.append(log_id, kept, expected_version=version)
        except VersionConflict:  # another writer changed a stream: its change would be lost
            continue
        return


def kept_records(
    storage: SessionStorage, log_id: str, gone: Collection[int], *, with_gone: bool
) -> tuple[list[e.RecordRemoved], list[e.RecordPut], int]:
    """Return the events that keep the streams of a log as they are without the events `gone`, and the version they are for.

    First removals of what would come back, then the values that would be lost or move, each as it was recorded but for `first`.
    Entries that have their value from one of `gone` are among them only `with_gone`; otherwise they are removed, and what they
    replaced does not come back. Raises SessionNotFound, LogDamaged.
    """
    read, version = list[e.RecordPut | e.RecordRemoved](), 0
    for line in storage.log.lines(log_id):
        version += 1
        event = codec.decode(line) if is_record(line) else None
        if isinstance(event, e.RecordPut | e.RecordRemoved):
            read.append(event)
    now = records.projection.fold(read).streams
    left = records.projection.fold(event for event in read if event.seq not in gone).streams
    surplus, lost = list[e.RecordRemoved](), dict[int, int]()
    for name in now | left:
        there = left.get(name, {})
        stays = {place: one for place, one in now.get(name, {}).items() if with_gone or one.seq not in gone}
        for place, one in there.items():
            if place not in stays:
                item = one.first if one.key is None else None
                removed = e.RecordRemoved(stream=name, key=one.key, item=item, id=id_at(one.seq, version))
                surplus.append(removed)
        lost |= {one.seq: one.first for place, one in stays.items() if there.get(place) != one}
    puts = [
        replace(event, once=False, first=lost[event.seq])
        for event in read
        if isinstance(event, e.RecordPut) and event.seq in lost
    ]
    return surplus, puts, version


def id_at(seq: int, version: int) -> str:
    """Return an id for what is appended because of event `seq` to a log that has this version: no other event has it."""
    return f"{NAME}{seq}.{version}"


def again(event: E, name: str) -> E:
    """Return an event of a log to be appended once more, with the id `name` and the time when it happened."""
    known = {one.name for one in fields(event)}
    place = {one: value for one, value in _PLACE.items() if one in known}
    return replace(event, **place, id=name, occurred_at=event.time)
