"""The input of all exports: lines with their events, and tool calls assembled from their events.

Logs are streamed. Each pass ends at the same event, so events appended during an export are in no pass. Memory holds an id and
a number for each call and each usage key, and the texts of open calls only.
"""

from collections.abc import Iterator, Sequence
from dataclasses import replace as replace_row
from typing import NamedTuple, TypeAlias

import msgspec
from msgspec.structs import replace

from eventstore.custom_events import ReadEvent
from eventstore.events import (
    DataSet,
    EventRedacted,
    InvocationUnlinked,
    RedactedEvent,
    UsageRecorded,
)
from eventstore.log.engine import EventLog
from eventstore.record import codec
from eventstore.record.clock import to_datetime, to_text
from eventstore.record.fork_point import read_fork_point
from eventstore.sessions.manager import SessionManager
from eventstore.store.storage import SessionStorage
from projections import timeline
from projections.calls import Call, call_of

Source: TypeAlias = SessionStorage | SessionManager
"""The source of an export."""


class Record(NamedTuple):
    """A line without its LF, and its event. A redacted event has only its type, number, time and hash."""

    line: bytes
    event: ReadEvent
    redacted: bool = False


def sessions_of(source: Source, session_ids: str | Sequence[str]) -> list[tuple[EventLog, str, int]]:
    """Return (log, id, version) of each session. Raises SessionNotFound, LogDamaged."""
    log = (source.storage if isinstance(source, SessionManager) else source).log
    wanted = [session_ids] if isinstance(session_ids, str) else session_ids
    return [(log, one, log.head(one).version) for one in wanted]


def records(log: EventLog, session_id: str, after: int = 0, upto: int | None = None) -> Iterator[Record]:
    """Stream the records numbered `after` + 1 to `upto`. Raises SessionNotFound, and LogDamaged at the damage."""
    for chunk in log.chunks(session_id, after, upto):
        for line, event in zip(codec.lines(chunk), codec.decode_lines(chunk), strict=True):
            yield Record(line, _with_valid_time(event), redacted=isinstance(event, RedactedEvent))


def _with_valid_time(event: ReadEvent) -> ReadEvent:
    """Normalise `occurred_at`, or drop it if it is not a time: an unknown event may hold any text there."""
    if event.occurred_at is None:
        return event
    try:
        time = to_text(to_datetime(event.occurred_at))
    except ValueError:
        return replace(event, occurred_at=None)
    return event if time == event.occurred_at else replace(event, occurred_at=time)


def reasons(log: EventLog, session_id: str, upto: int | None = None) -> dict[int, str]:
    """Return the reason of each redaction, by the number of the redacted event."""
    found = (codec.decode(line) for line in _lines_of(log, session_id, b"event.redacted", upto))
    return {event.target: event.reason for event in found if isinstance(event, EventRedacted)}


def beginnings(log: EventLog, session_id: str, upto: int | None = None) -> list[tuple[int, str, str]]:
    """Return (seq, hash, session id) of the first own event of each session in a lineage, the oldest first.

    The last entry is the session itself. A session that is not a fork has one entry.
    """
    found: list[tuple[int, str, str]] = []
    for line in _lines_of(log, session_id, b"session.created", upto):
        head, point = codec.decode(line), read_fork_point(line)
        if not found:
            found.append((head.seq, head.hash, session_id))
        if point is not None:
            if len(found) == 1:
                found[0] = (*found[0][:2], point.root)
            found.append((head.seq, head.hash, point.into))
    if not found:
        first = next(records(log, session_id, 0, 1)).event
        found.append((first.seq, first.hash, session_id))
    found[-1] = (*found[-1][:2], session_id)
    return found


def _lines_of(log: EventLog, session_id: str, tag: bytes, upto: int | None) -> Iterator[bytes]:
    start = b'{"type":"%b",' % tag
    for chunk in log.chunks(session_id, 0, upto):
        if start in chunk:
            yield from (line for line in codec.lines(chunk) if line.startswith(start))


def text_of(state: timeline.State, event: ReadEvent) -> timeline.Row:
    """Return the timeline row of an event, with the value of set data and the reason of a redaction."""
    row = timeline.row(state, event)
    if isinstance(event, DataSet):
        return replace_row(row, text=f"{event.key} = {msgspec.json.encode(event.value).decode()}")
    if isinstance(event, EventRedacted):
        return replace_row(row, text=event.reason)
    return row


# --- tool calls


def called(event: ReadEvent) -> str | None:
    """Return the id of the call that an event belongs to, or None."""
    return event.invocation_id if isinstance(event, InvocationUnlinked) else call_of(event)


def last_events(log: EventLog, session_id: str, after: int, upto: int) -> tuple[dict[str, int], dict[str, int]]:
    """Return the number of the last event of each call, by its id, and of each use, by its key."""
    calls: dict[str, int] = {}
    uses: dict[str, int] = {}
    for _, event, _ in records(log, session_id, after, upto):
        call = called(event)
        if call is not None:
            calls[call] = event.seq
        elif isinstance(event, UsageRecorded) and event.key is not None:
            uses[event.key] = event.seq
    return calls, uses


class Calls:
    """Assembles calls while a log is read. A call is complete at its last event."""

    def __init__(self, last: dict[str, int]) -> None:
        self._last, self._open = last, dict[str, Call]()

    def done(self, event: ReadEvent) -> Call | None:
        """Add an event. Return its call if this is the last event of the call; an unlinked call is dropped."""
        invocation_id = called(event)
        if invocation_id is None:
            return None
        if isinstance(event, InvocationUnlinked):
            self._open.pop(invocation_id, None)
            return None
        call = self._open.get(invocation_id)
        if call is None:
            call = self._open[invocation_id] = Call(invocation_id, event.seq, event.time)
        call.add(event)
        return self._open.pop(invocation_id) if self._last[invocation_id] == event.seq else None
