"""Lists and maps that programs keep inside a session: the streams of `record.put` and `record.removed`."""

from collections.abc import Iterator
from dataclasses import dataclass, field
from typing import TypeAlias

import msgspec

from eventstore.events import RecordPut, RecordRemoved
from eventstore.record.message_run import MessageRun
from projections.fold import Fold, FoldInput

Place: TypeAlias = str | int
"""The id of an entry in its stream: its key, or the number of its event if it has none."""


class Entry(msgspec.Struct, frozen=True, gc=False):
    """A value in a stream.

    `first` is the event that set its position, `seq` and `time` are those of the event that set the value. `text` is the value
    as JSON. A value that is an attachment of the log has `sha256` (hex) instead.
    """

    key: str | None
    first: int
    seq: int
    time: str
    text: bytes
    base64: bool = False
    size_bytes: int = 0
    sha256: str | None = None

    @property
    def place(self) -> Place:
        """The id of the entry in its stream."""
        return self.first if self.key is None else self.key


@dataclass(slots=True)
class State:
    """The entries of each stream, in order. No stream is empty.

    `owned` are the streams whose entries no copy of this state shares: others are copied before they are changed.
    """

    version: int = 0
    streams: dict[str, dict[Place, Entry]] = field(default_factory=dict)
    owned: set[str] = field(default_factory=set, compare=False, repr=False)

    def copy(self) -> "State":
        """Return an independent state. Streams are shared until one of the two changes them."""
        self.owned = set()
        return State(self.version, self.streams.copy())

    def entries(self) -> Iterator[tuple[str, Entry]]:
        """Stream every entry with the name of its stream."""
        for name, stream in self.streams.items():
            for entry in stream.values():
                yield name, entry

    def _changing(self, name: str) -> dict[Place, Entry]:
        if name not in self.owned:
            self.streams[name] = self.streams.get(name, {}).copy()
            self.owned.add(name)
        return self.streams[name]

    def put(self, event: RecordPut) -> None:
        """Apply one event."""
        place: Place = (event.first or event.seq) if event.key is None else event.key
        old = self.streams.get(event.stream, {}).get(place)
        if old is not None and event.once:
            return
        text = b"" if event.value_sha256 else msgspec.json.encode(event.value)
        stream = self._changing(event.stream)
        stream[place] = Entry(
            event.key,
            event.first or (event.seq if old is None else old.first),
            event.seq,
            event.time,
            text,
            event.base64,
            event.value_bytes or len(text),
            event.value_sha256,
        )
        if event.first is not None:
            self.streams[event.stream] = dict(sorted(stream.items(), key=_first))

    def remove(self, event: RecordRemoved) -> None:
        """Apply one event."""
        if event.prefix is not None:
            for one in [name for name in self.streams if name.startswith(event.prefix)]:
                self._drop(one)
            return
        name = event.stream
        if name is None or name not in self.streams:
            return
        if event.last:
            self._changing(name).popitem()
        elif event.key is None and event.item is None:
            self._drop(name)
            return
        else:
            place = event.item if event.key is None else event.key
            if place in self.streams[name]:
                del self._changing(name)[place]
        if not self.streams[name]:
            self._drop(name)

    def _drop(self, name: str) -> None:
        del self.streams[name]
        self.owned.discard(name)


def _first(item: tuple[Place, Entry]) -> int:
    return item[1].first


def apply(state: State, event: FoldInput) -> None:
    """Apply one event, or one run of messages."""
    if isinstance(event, MessageRun):
        state.version = event.last
        return
    state.version = event.seq
    if isinstance(event, RecordPut):
        state.put(event)
    elif isinstance(event, RecordRemoved):
        state.remove(event)


projection: Fold[State] = Fold(State, State.copy, apply)
"""Entries by stream."""
