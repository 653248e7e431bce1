"""Files of a log's calls: large values, and the records in the history folder, which are derived from the events.

A value is named by its hash, so it is compared with the event that names it. A record is rebuilt from the events and compared.
"""

import json
from collections.abc import Iterator
from contextlib import suppress
from dataclasses import dataclass, field, replace
from hashlib import sha256
from typing import Any, NamedTuple

from eventstore.errors import LogDamaged
from eventstore.events import InvocationEvent, MessageAdded, RecordPut, SessionCreated
from eventstore.log.engine import EventLog
from eventstore.record import codec, tombstone
from eventstore.record.clock import to_datetime
from eventstore.record.fork_point import read_fork_point
from eventstore.store.replaced_lines import is_kept
from eventstore.store.tool_history import Record, ToolHistory, read_record, record_of
from projections.calls import Call, call_of, large_values, text_of

_CREATED, _MESSAGE = b'{"type":"session.created"', b'{"type":"message.added"'
_CALL, _VALUE = b'"invocation_id":"', b'"value_sha256":"'


class _Line(NamedTuple):
    """An event about a call, or one with a large value, with its number and its line."""

    seq: int
    line: bytes
    event: InvocationEvent | RecordPut | MessageAdded


@dataclass
class _Ended:
    """A call and the lines of its events so far. `is_whole`: all of its values are as recorded."""

    call: Call
    lines: list[bytes] = field(default_factory=list)
    is_whole: bool = True


def check_calls(log: EventLog, history: ToolHistory | None, session_id: str) -> Iterator[str]:
    """Compare the large values and the records of a session's own calls with its events; yield what differs, one sentence each.

    A missing record is not a difference: a rebuild writes it again. Events that are being redacted give no difference
    either. Inherited events are checked in the parent. Raises SessionNotFound, LogDamaged.
    """
    own = _first_own(log, session_id)
    calls: dict[str, _Ended] = {}
    for one in _lines(log, session_id):
        wrong = list(_wrong_values(log, session_id, one))
        if wrong and not _is_being_redacted(log, [one.line]):
            yield from wrong
        ended = _add(log, session_id, calls, one, is_whole=not wrong)
        if ended is None or history is None or not _differs(history, session_id, ended, own):
            continue
        if not _is_being_redacted(log, ended.lines):
            where = f"call {ended.call.invocation_id!a} (history {ended.call.known.invocation_dir!a})"
            yield f"the record of {where} is not what the log gives"


def write_records(log: EventLog, history: ToolHistory | None, session_id: str) -> int:
    """Write the records of a session's own calls again where they differ from its events; return how many were written.

    If an event of a call was redacted, or a value is missing, its record stays unchanged. Raises SessionNotFound, LogDamaged,
    OSError.
    """
    if history is None:
        return 0
    own, written = _first_own(log, session_id), 0
    calls: dict[str, _Ended] = {}
    for one in _lines(log, session_id):
        ended = _add(log, session_id, calls, one, is_whole=True)
        if ended is None or ended.call.seq < own or not ended.is_whole or not ended.call.is_told:
            continue
        folder, wanted = ended.call.known.invocation_dir or "", record_of(ended.call, session_id)
        with suppress(ValueError):  # it is not inside the history folder
            kept = history.line(folder)
            if (kept is None or not _fits(kept, wanted)) and not _is_being_redacted(log, ended.lines):
                history.ensure(folder)
                history.write(folder, wanted)
                written += 1
    return written


def _lines(log: EventLog, session_id: str) -> Iterator[_Line]:
    """Stream the events about calls, and records with large values, in a session's own log.

    Of an imported session also the messages: they have the input and the result.
    """
    seq = log.inherited(session_id)
    first = next(log.read(session_id, seq, seq + 1), None)
    is_imported = isinstance(first, SessionCreated) and "source" in first.custom_metadata
    for chunk in log.chunks(session_id, seq):
        if _CALL not in chunk and _VALUE not in chunk:
            seq += chunk.count(b"\n")
            continue
        for line in codec.lines(chunk):
            seq += 1
            event = codec.read_valued(line)
            if event is not None:
                yield _Line(seq, line, event)
            elif is_imported and _CALL in line and line.startswith(_MESSAGE):
                message = codec.decode(line)
                if isinstance(message, MessageAdded) and call_of(message) is not None:
                    yield _Line(seq, line, message)


def _first_own(log: EventLog, session_id: str) -> int:
    """Return the number of the first event that was recorded under this id: copied events of a fork come before it."""
    if log.inherited(session_id) or log.root_of(session_id) == session_id:
        return 0
    first = 0
    for chunk in log.chunks(session_id):
        for line in codec.lines(chunk) if _CREATED in chunk else ():
            if line.startswith(_CREATED) and read_fork_point(line) is not None:
                first = codec.decode(line).seq
    return first


def _wrong_values(log: EventLog, session_id: str, one: _Line) -> Iterator[str]:
    for name, size, digest in large_values(one.event):
        try:
            text = log.read_value(session_id, digest)
        except FileNotFoundError:
            yield f"the {name} of event {one.seq}, stored as values/{digest}, is missing"
        else:
            if len(text) != size or sha256(text).hexdigest() != digest:
                yield f"the {name} of event {one.seq}, stored as values/{digest}, is not what was recorded"


def _add(log: EventLog, session_id: str, calls: dict[str, _Ended], one: _Line, *, is_whole: bool) -> _Ended | None:
    """Add an event to its call; return the call if the event ended it and its events are enough for its record."""
    name = call_of(one.event)
    if name is None:
        return None
    found = calls.get(name)
    if found is None:
        found = calls[name] = _Ended(Call(name, one.seq, one.event.time))
    found.lines.append(one.line)
    try:
        (event,) = log.with_values(session_id, [one.event])
    except LogDamaged:
        event, is_whole = one.event, False
    # The part of an event that a redaction kept was cleaned in another way than the record.
    found.is_whole = found.is_whole and is_whole and not is_kept(event)
    found.call.add(event)
    if found.call.end is None:
        return None
    del calls[name]
    known = found.call.known
    has_texts = bool(found.call.input.texts or found.call.result.texts)
    return found if known.invocation_dir and (found.call.is_told or has_texts) else None


def _differs(history: ToolHistory, session_id: str, ended: _Ended, own: int) -> bool:
    """Return whether the record of a call exists and differs from its events."""
    call = ended.call
    try:
        kept = history.line(call.known.invocation_dir or "")
        if kept is None or not ended.is_whole:
            return False
        # A copied call was recorded under the id of a deleted session, which only the record still names.
        whose = history.session_of(call.known.invocation_dir or "") if call.seq < own else session_id
    except (OSError, ValueError):
        return False
    return not (_fits(kept, record_of(call, whose)) if call.is_told else _says(kept, call))


def _fits(kept: bytes, wanted: Record) -> bool:
    """Return whether a record is the wanted one. An import may have written its time in another form, or none."""
    if kept == wanted.to_line():
        return True
    try:
        found = read_record(kept)
        is_then = not found.timestamp or to_datetime(found.timestamp) == to_datetime(wanted.timestamp)
    except ValueError:
        return False
    return is_then and found.to_line() == kept and replace(found, timestamp=wanted.timestamp) == wanted


def _says(kept: bytes, call: Call) -> bool:
    """Return whether a record has the input and the result of the messages of an imported call."""
    try:
        found = read_record(kept)
    except ValueError:
        return False
    pairs = ((call.input.texts, found.arguments), (call.result.texts, found.result))
    return all(
        not texts or value in texts or text_of(value) in texts or _is_json_of(value, texts) for texts, value in pairs
    )


def _is_json_of(value: Any, texts: list[str]) -> bool:
    """Return whether a value equals the JSON of one of some texts, ignoring white space."""
    for text in texts:
        with suppress(ValueError):
            if json.loads(text) == value:
                return True
    return False


def _is_being_redacted(log: EventLog, lines: list[bytes]) -> bool:
    """Return whether the registry records a redaction of one of these lines: a crash interrupted it, or it is in progress."""
    from eventstore.store.known_redactions import known_redactions  # it loads compressors

    known = known_redactions(log)
    return any((tombstone.leaf_of(line) or b"") in known for line in lines)
