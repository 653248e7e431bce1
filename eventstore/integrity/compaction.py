"""Compaction: remove superseded and deleted records of a session from its log, and free their bytes.

A record that no stream contains any more is redacted, and the log is rewritten with short tombstones. Numbers, hashes
and Merkle roots stay. A removed record cannot be read as of earlier moments.
"""

from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from itertools import islice
from typing import Any

from eventstore.errors import SessionNotFound
from eventstore.events import Event, RecordPut, RecordRemoved, StoreEventsRedacted
from eventstore.ids import check_session_id
from eventstore.integrity.kept_state import is_record
from eventstore.record import codec, tombstone
from eventstore.store.storage import SessionStorage
from projections import records
from projections.calls import large_values

REASON = "superseded record"
"""Why compacted events are redacted, as the logs record it."""
_LEAST_BYTES = 1024
"""A shorter line is kept: the event that records its redaction takes about 400 bytes."""
_AT_ONCE = 1000


@dataclass(frozen=True)
class Compacted:
    """The result of a compaction: how many events it emptied, and how many bytes it freed in the log and its values."""

    session_id: str
    events: int
    freed_bytes: int


def compact_records(storage: SessionStorage, session_id: str, by: dict[str, Any] | None = None) -> Compacted:
    """Empty the records of a session that no stream contains any more, and free their bytes.

    Records that a fork inherits stay, and so does a record that sets the position of a key. After a crash, call again:
    the log is intact at any moment. Raises SessionNotFound, LogDamaged, AppendRefused, OutcomeUnknown.
    """
    check_session_id(session_id)
    with storage.registry.locked():
        lines = _superseded(storage, session_id)
        for part in _parts(lines.items()):
            leaves = tuple((tombstone.leaf_of(line) or b"").hex() for _, line in part)
            targets = tuple(seq for seq, _ in part)
            storage.registry.note(
                StoreEventsRedacted(session_id=session_id, targets=targets, reason=REASON, by=by, leaves=leaves)
            )
        values = {digest for line in lines.values() for _, _, digest in large_values(codec.decode(line))}
        freed = storage.log.compact(session_id, list(lines), REASON, by)
        freed += _remove_values(storage, session_id, values)
        storage.refresh_derived(session_id)
        return Compacted(session_id, len(lines), freed)


def _superseded(storage: SessionStorage, session_id: str) -> dict[int, bytes]:
    """Return the lines, by number, of the records that can be removed without changing any stream."""
    first = max(storage.log.inherited(session_id), _last_fork(storage, session_id))
    lines: dict[int, bytes] = {}
    streams: dict[int, str] = {}
    events = list[Event]()
    for chunk in storage.log.chunks(session_id):
        for line in codec.lines(chunk):
            if not is_record(line):
                continue
            event = codec.decode(line)
            if isinstance(event, RecordPut | RecordRemoved):
                events.append(event)
            if isinstance(event, RecordPut) and event.seq > first and _is_worth(event, line):
                lines[event.seq] = line
                streams[event.seq] = event.stream
    state = records.projection.fold(events)
    for _, entry in state.entries():
        lines.pop(entry.seq, None)
        lines.pop(entry.first, None)
    # An event that removes "the last record" would then remove another record: such streams are not compacted.
    for _ in range(2):
        without = records.projection.fold(one for one in events if one.seq not in lines)
        other = {
            one for one in {**state.streams, **without.streams} if state.streams.get(one) != without.streams.get(one)
        }
        if not other:
            return lines
        lines = {seq: line for seq, line in lines.items() if streams[seq] not in other}
    return {}


def _is_worth(event: RecordPut, line: bytes) -> bool:
    return len(line) >= _LEAST_BYTES or event.value_sha256 is not None


def _last_fork(storage: SessionStorage, session_id: str) -> int:
    """Return the last event that a fork of the session inherits; 0 without forks."""
    last = 0
    for name in storage.registry.look(lambda state: list(state.descendants(session_id))):
        try:
            point = storage.log.fork_point(name)
        except SessionNotFound:
            continue
        if point is not None and point.parent == session_id:
            last = max(last, point.seq)
    return last


def _remove_values(storage: SessionStorage, session_id: str, gone: set[str]) -> int:
    """Remove stored values that no event names any more; return how many bytes they had."""
    if not gone:
        return 0
    for event in _valued(storage, session_id):
        gone -= {digest for _, _, digest in large_values(event)}
    freed = 0
    for digest in gone & set(storage.log.values(session_id)):
        freed += len(storage.log.read_value(session_id, digest))
        storage.log.remove_value(session_id, digest)
    return freed


def _valued(storage: SessionStorage, session_id: str) -> Iterator[Event]:
    for line in storage.log.lines(session_id):
        event = codec.read_valued(line)
        if event is not None:
            yield event


def _parts(lines: Iterable[tuple[int, bytes]]) -> Iterator[list[tuple[int, bytes]]]:
    left = iter(lines)
    while part := list(islice(left, _AT_ONCE)):
        yield part
