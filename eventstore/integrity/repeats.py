"""Which events of a log repeat others: redactions appended them again, to keep what they did not remove."""

from collections.abc import Collection, Iterable, Mapping

import msgspec

from eventstore.events import DataDeleted, DataSet, Event, MessageAdded, RecordPut, RecordRemoved
from eventstore.integrity.redaction_plan import Log, leaves_of, lines_of, read_lines
from eventstore.record import codec, tombstone
from eventstore.store.replaced_lines import is_kept, kept_event_of, kept_event_of_id, may_be_kept
from eventstore.store.storage import SessionStorage

_REPEATING = "message.added", "record.put"


class Repeats:
    """What redactions appended to a log, which is read once. Raises SessionNotFound, LogDamaged.

    Such an event names in its id the one that it repeats, or whose rest it is. That is known of those that were redacted since,
    too: more of what they repeat may have been appended, to other logs as well.
    """

    def __init__(self, storage: SessionStorage, log: Log) -> None:
        self._storage, self._log = storage, log
        self._kept, self._links = list[Event](), dict[int, int]()
        for line in lines_of(storage, log):
            told = codec.read_redaction(line)
            if told is not None and told.target_type in _REPEATING:
                self._link(told.target, kept_event_of_id(told.target_id))
            elif may_be_kept(line) and is_kept(event := codec.decode(line)):
                self._kept.append(event)
                if isinstance(event, MessageAdded | RecordPut):
                    self._link(event.seq, kept_event_of(event))

    def _link(self, seq: int, repeated: int | None) -> None:
        if repeated is not None and 0 < repeated < seq:
            self._links[seq] = repeated

    def _original(self, seq: int) -> int:
        while seq in self._links:
            seq = self._links[seq]
        return seq

    def originals(self, seqs: Iterable[int]) -> dict[int, bytes]:
        """Return the lines of what some events of the log repeat, by their numbers; of others, their own lines.

        Events that are redacted already have none: what is left of such an event is another one.
        """
        lines = read_lines(self._storage, self._log, seqs)
        live = [seq for seq, line in lines.items() if tombstone.read_tombstone(line) is None]
        return read_lines(self._storage, self._log, map(self._original, live))

    def of(self, events: Collection[Event], originals: Mapping[int, bytes]) -> set[int]:
        """Return the numbers of the events of the log that repeat others, or are repeated by them.

        `events` are redacted, `originals` are the lines that `originals` returned for them, perhaps of another log. Copies of
        messages of 0.1.0 name no other event: they have its text and time. Removals, which are made again if they are still
        needed, have the same key.
        """
        keys = {key for event in events if (key := _removal(event))}
        texts = {_text(event) for event in events if isinstance(event, MessageAdded)}
        found = {
            event.seq
            for event in self._kept
            if (isinstance(event, RecordRemoved | DataDeleted) and _removal(event) in keys)
            or (isinstance(event, MessageAdded) and _is_old_copy(event) and _text(event) in texts)
        }
        if any(map(_is_old_copy, events)):
            said = map(codec.decode, lines_of(self._storage, self._log))
            found |= {event.seq for event in said if isinstance(event, MessageAdded) and _text(event) in texts}
        leaves = leaves_of(originals)
        repeated = read_lines(self._storage, self._log, {self._original(seq) for seq in self._links})
        same = {seq for seq, line in repeated.items() if tombstone.leaf_of(line) in leaves}
        found |= same.union(seq for seq in self._links if self._original(seq) in same)
        lines = read_lines(self._storage, self._log, found)
        return {seq for seq, line in lines.items() if tombstone.read_tombstone(line) is None}


def _is_old_copy(event: Event) -> bool:
    """Return whether an event is a copy of a message that does not name it."""
    return isinstance(event, MessageAdded) and is_kept(event) and kept_event_of(event) is None


def _text(event: MessageAdded) -> tuple[str, str, str]:
    return event.role, event.content, event.time


def _removal(event: Event) -> bytes:
    """Return what is repeated of an event if its key is removed."""
    if isinstance(event, RecordPut | RecordRemoved) and event.key is not None:
        return msgspec.json.encode((event.stream, event.key))
    return msgspec.json.encode([event.key]) if isinstance(event, DataSet | DataDeleted) else b""
