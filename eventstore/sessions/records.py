"""Records: lists and maps that programs keep inside sessions, such as the checkpoints or items of an agent framework."""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from itertools import islice
from typing import Any, Unpack

import msgspec

from eventstore import events as e
from eventstore.errors import SessionNotFound, VersionConflict
from eventstore.integrity.compaction import Compacted, compact_records
from eventstore.log.base import Appended
from eventstore.sessions import arguments
from eventstore.sessions.appending import AppendOptions
from eventstore.store.as_of import At
from eventstore.store.storage import SessionStorage
from projections.records import Entry, State


@dataclass(frozen=True, slots=True)
class Item:
    """A value in a stream: JSON, or bytes. The value belongs to the caller.

    `seq` is the number of the event that put it, `first` that of the event that gave the key its place, `time` (RFC 3339) when it
    was put.
    """

    stream: str
    key: str | None
    value: Any
    seq: int
    first: int
    time: str


class Records:
    """The streams of sessions: `manager.records`.

    A stream is a list of values, some with a key, in the order in which they were first put. Values are put and removed with
    `RecordPut` and `RecordRemoved` events, which `manager.append` takes together with any others.
    """

    def __init__(self, storage: SessionStorage, append: Callable[..., Appended]) -> None:
        self._storage, self._append = storage, append

    def list(
        self,
        session_id: str,
        stream: str,
        limit: int | None = None,
        at: At | None = None,
        *,
        after: int = 0,
        newest: bool = False,
    ) -> list[Item]:
        """Return the items of a stream in order, at most `limit`; with `newest` the last ones. Empty for an unknown stream.

        `after` leaves out items that were first put by an event up to that number. Raises SessionNotFound, LogDamaged.
        """
        most, first = arguments.limit("limit", limit), arguments.integer("after", after)
        name = arguments.needed_text("stream", stream)
        found = self._storage.records(session_id, at).streams.get(name, {})
        wanted = reversed(found.values()) if newest and most is not None else iter(found.values())
        entries = list(islice((one for one in wanted if one.first > first), most))
        if newest and most is not None:
            entries.reverse()
        return [item_of(self._storage, session_id, stream, one) for one in entries]

    def get(self, session_id: str, stream: str, key: str, at: At | None = None) -> Item | None:
        """Return the item of a key, or None. Raises SessionNotFound, LogDamaged."""
        name, wanted = arguments.needed_text("stream", stream), arguments.needed_text("key", key)
        entry = self._storage.records(session_id, at).streams.get(name, {}).get(wanted)
        return None if entry is None else item_of(self._storage, session_id, stream, entry)

    def streams(self, session_id: str, prefix: str = "", at: At | None = None) -> dict[str, int]:
        """Return how many items each stream has whose name begins with `prefix`. Raises SessionNotFound, LogDamaged."""
        begin = arguments.needed_text("prefix", prefix)
        found = self._storage.records(session_id, at).streams
        return {name: len(stream) for name, stream in found.items() if name.startswith(begin)}

    def append_new(
        self,
        session_id: str,
        events: Sequence[e.Event],
        create: e.SessionCreated | bool | None = None,
        **options: Unpack[AppendOptions],
    ) -> Appended | None:
        """Append as `manager.append` does, but leave out each `once` put of a key that is there already; None if nothing is left.

        So a batch that is sent again, completely or in part, is stored once.
        """
        arguments.events("events", events)
        expected = options.get("expected_version")
        while True:
            state = self._state(session_id)
            if (not state.version and not create) or (expected is not None and expected != state.version):
                return self._append(session_id, events, create, **options)  # raises SessionNotFound, VersionConflict
            left = _new(state, events)
            if not left:
                return None
            try:
                return self._append(session_id, left, create, **{**options, "expected_version": state.version})
            except VersionConflict:
                if expected is not None:
                    raise

    def pop(self, session_id: str, stream: str, **options: Unpack[AppendOptions]) -> Item | None:
        """Remove the last item of a stream and return it; None if there is none. No two callers get the same item."""
        arguments.needed_text("stream", stream)
        while True:
            state = self._storage.records(session_id)
            entry = next(reversed(state.streams.get(stream, {}).values()), None)
            if entry is None:
                return None
            item = item_of(self._storage, session_id, stream, entry)
            place = None if entry.key is not None else entry.first
            removed = e.RecordRemoved(stream=stream, key=entry.key, item=place)
            try:
                self._append(session_id, [removed], **{"expected_version": state.version, **options})
            except VersionConflict:
                if "expected_version" in options:
                    raise
            else:
                return item

    def compact(self, session_id: str, *, by: Mapping[str, Any] | None = None) -> Compacted:
        """Empty the records that no stream holds any more, and free their bytes; return how many.

        The events are redacted: their numbers, times and hashes stay, and earlier moments no longer show their values. Records
        that a fork inherits stay. Raises SessionNotFound, LogDamaged, AppendRefused.
        """
        return compact_records(self._storage, session_id, arguments.mapping("by", by) or None)

    def _state(self, session_id: str) -> State:
        try:
            return self._storage.records(session_id)
        except SessionNotFound:
            return State()


def text_of(storage: SessionStorage, session_id: str, entry: Entry) -> bytes:
    """Return an entry's value as JSON; bytes that are kept with the log as they are. Raises SessionNotFound, LogDamaged."""
    return entry.text if entry.sha256 is None else storage.log.verified_value(session_id, entry.seq, entry.sha256)


def value_of(storage: SessionStorage, session_id: str, entry: Entry) -> Any:
    """Return an entry's value, which belongs to the caller. Raises SessionNotFound, LogDamaged."""
    text = text_of(storage, session_id, entry)
    if not entry.base64:
        return msgspec.json.decode(text)
    return text if entry.sha256 is not None else msgspec.json.decode(text, type=bytes)


def item_of(storage: SessionStorage, session_id: str, stream: str, entry: Entry) -> Item:
    """Return an entry of a session's stream with its value. Raises SessionNotFound, LogDamaged."""
    value = value_of(storage, session_id, entry)
    return Item(stream, entry.key, value, entry.seq, entry.first, entry.time)


def values_of(storage: SessionStorage, session_id: str, entries: Sequence[Entry]) -> list[Any]:
    """Return the values of entries, decoded together: one by one costs twice as much. Raises SessionNotFound, LogDamaged."""
    if any(entry.base64 for entry in entries):
        return [value_of(storage, session_id, entry) for entry in entries]
    texts = [text_of(storage, session_id, entry) for entry in entries]
    return list(msgspec.json.decode(b"[%b]" % b",".join(texts)))


def _new(state: State, events: Sequence[e.Event]) -> list[e.Event]:
    """Return the events without `once` puts of keys that are there, or that come twice."""
    known: dict[str, set[Any]] = {}
    left = []
    for event in events:
        if isinstance(event, e.RecordPut) and event.once and event.key is not None:
            seen = known.setdefault(event.stream, set(state.streams.get(event.stream, {})))
            if event.key in seen:
                continue
            seen.add(event.key)
        left.append(event)
    return left
