"""Redaction inside events: append copies of the removed events in which only the secret is replaced.

No event in a log changes its position, so the copies are appended. All messages from the first removed one on are
withdrawn and appended again, so that their order stays. Messages without a secret are marked as copies and count at
their old position. A record takes the place in its stream that the removed one had, and only where a stream needs it: what was
removed or replaced since does not come back. An imported line is copied too, so that the transcript can still be
exported, with the secrets replaced.
"""

import json
from typing import Any

from msgspec.structs import fields, replace

from eventstore import events as e
from eventstore.record import codec
from eventstore.secret_patterns import Patterns
from eventstore.store.call_values import set_aside
from eventstore.store.replaced_lines import NAME
from eventstore.store.storage import SessionStorage
from projections import records
from projections.calls import large_values

_RECORDS = e.RecordPut, e.RecordRemoved
_ORDERED = e.ConversationCleared, e.ConversationRewound, e.MessagesWithdrawn
_PLACE = {"seq": 0, "at": "", "salt": None, "hash": "", "batch": None, "origin": None}


def keep_rest(storage: SessionStorage, session_id: str, lines: dict[int, bytes], patterns: Patterns) -> int:
    """Append copies of events without their secrets, as one batch. Return how many events were appended.

    `lines` are the lines of the events, by their numbers. The caller redacts them next. After a crash between the two
    steps, a second call finds the copies by their ids. Raises AppendRefused, SessionNotFound, LogDamaged.
    """
    events = {seq: event for seq, line in lines.items() if not isinstance(event := codec.decode(line), e.UnknownEvent)}
    if not events:
        return 0
    new = [
        *_conversation(storage, session_id, events, patterns),
        *_names(storage, session_id, events, patterns),
        *(kept for seq, event in events.items() for kept in _others(storage, session_id, seq, event, patterns)),
        *_records(storage, session_id, events, patterns),
        *_imported(lines, events, patterns),
    ]
    numbered = [
        one if one.id is not None else replace(one, id=f"{NAME}{max(events)}+{place}") for place, one in enumerate(new)
    ]
    if numbered:
        storage.append(session_id, numbered)
    return len(numbered)


def _conversation(
    storage: SessionStorage, session_id: str, events: dict[int, Any], patterns: Patterns
) -> list[e.Event]:
    """Return events that withdraw the conversation from the first removed message on and append it again."""
    messages = storage.fold(session_id).conversation.messages
    first = next((place for place, one in enumerate(messages) if one.seq in events), None)
    moves = any(isinstance(event, _ORDERED) for event in events.values())
    if first is None and not moves:
        return []
    first = len(messages) if first is None else first
    if moves:
        first = min(first, next((p for p, one in enumerate(messages) if one.seq > min(events)), first))
    head = {one.seq for one in messages[:first]}
    said = (event.seq for event in storage.log.read(session_id) if isinstance(event, e.MessageAdded))
    gone = tuple(seq for seq in said if seq not in head)
    found: list[e.Event] = [e.MessagesWithdrawn(targets=gone)] if gone else []
    for one in messages[first:]:
        is_removed = one.seq in events
        found.append(
            e.MessageAdded(
                role=one.role,
                content=patterns.replace(one.content) if is_removed else one.content,
                tool_name=one.tool_name,
                invocation_id=one.invocation_id,
                occurred_at=one.occurred_at or one.at,
                copied=not is_removed,
                id=f"{NAME}{one.seq}.message" if is_removed else None,
            )
        )
    return found


def _names(storage: SessionStorage, session_id: str, events: dict[int, Any], patterns: Patterns) -> list[e.Event]:
    """Return the title, metadata and data that the removed events set, if the session still has them, with their times."""
    known, data = storage.metadata(session_id), storage.fold(session_id).data
    purpose, metadata, tags, when = None, dict[str, Any](), None, ""
    kept = list[e.Event]()
    for event in events.values():
        if isinstance(event, e.SessionCreated | e.SessionUpdated):
            if isinstance(event.purpose, str) and event.purpose == known.purpose:
                purpose = patterns.replace(event.purpose)
            metadata |= {
                name: value for name, value in event.custom_metadata.items() if known.custom_metadata.get(name) == value
            }
            tags = event.tags if event.tags and list(event.tags) == list(known.tags) else tags
            when = max(when, event.time)
        elif isinstance(event, e.DataSet) and event.key in data and data[event.key] == event.value:
            value = patterns.replace_in({event.key: event.value})[event.key]
            kept.append(e.DataSet(key=event.key, value=value, occurred_at=event.time))
    metadata = patterns.replace_in(metadata)
    if purpose is not None or metadata or tags:
        given: dict[str, Any] = {"purpose": purpose} if purpose is not None else {}
        given |= {"tags": tuple(dict.fromkeys(map(patterns.replace, tags)))} if tags else {}
        kept.append(e.SessionUpdated(custom_metadata=metadata, occurred_at=when, **given))
    return kept


def _others(storage: SessionStorage, session_id: str, seq: int, event: e.Event, patterns: Patterns) -> list[e.Event]:
    """Return any other event without secrets: calls, which are folded by their id, reasoning, usage."""
    is_told = isinstance(event, e.MessageAdded | e.SessionCreated | e.SessionUpdated | e.DataSet | e.ForeignRecorded)
    if is_told or isinstance(event, (*_ORDERED, *_RECORDS)):
        return []
    return [_cleaned(storage, session_id, seq, event, patterns)]


def _records(storage: SessionStorage, session_id: str, events: dict[int, Any], patterns: Patterns) -> list[e.Event]:
    """Return what gives the streams their entries and their order again once the removed events have no effect."""
    if not any(isinstance(event, _RECORDS) for event in events.values()):
        return []
    now = storage.records(session_id).streams
    read = (event for event in storage.log.read(session_id) if isinstance(event, _RECORDS) and event.seq not in events)
    left = records.projection.fold(read).streams
    surplus, lost = list[e.Event](), dict[int, int]()
    for name in now | left:
        here, there = now.get(name, {}), left.get(name, {})
        for place, entry in there.items():
            if place not in here:
                item = entry.first if entry.key is None else None
                surplus.append(patterns.clean(e.RecordRemoved(stream=name, key=entry.key, item=item)))
        lost |= {entry.seq: entry.first for place, entry in here.items() if there.get(place) != entry}
    puts = (event for event in storage.log.read(session_id) if isinstance(event, e.RecordPut) and event.seq in lost)
    moved = (replace(event, once=False, first=lost[event.seq]) for event in puts)
    return [*surplus, *(_cleaned(storage, session_id, event.seq, event, patterns) for event in moved)]


def _cleaned(storage: SessionStorage, session_id: str, seq: int, event: e.Event, patterns: Patterns) -> e.Event:
    """Return an event without its secrets, to be appended in place of event `seq`."""
    large = large_values(event)
    if large:  # the secret is in the complete value: it is cleaned and stored again
        (event,) = storage.log.with_values(session_id, [event], strict=False)
        gone = {f"{name}_{what}": None for name, _, _ in large for what in ("bytes", "sha256")}
        event = replace(event, **gone)
    clean = patterns.clean(event)
    known = {one.name for one in fields(clean)}
    place = {name: value for name, value in _PLACE.items() if name in known}
    kept = replace(clean, **place, id=f"{NAME}{seq}.event", occurred_at=event.time)
    return set_aside(storage.log, session_id, kept) if large else kept


def _imported(lines: dict[int, bytes], events: dict[int, Any], patterns: Patterns) -> list[e.Event]:
    """Return the imported lines of the removed events without their secrets."""
    kept: list[e.Event] = []
    for seq in lines:
        origin = events[seq].origin if seq in events else None
        if origin is not None and origin.line is not None:
            line = clean_line(origin.line, patterns)
            kept.append(e.ForeignRecorded(id=f"{NAME}{seq}", origin=e.Origin(origin.format, line=line)))
    return kept


def clean_line(line: str, patterns: Patterns) -> str:
    """Return a line of a transcript without its secrets; a JSON line stays JSON."""
    clean = patterns.replace(line)
    try:
        value = json.loads(line)
    except (ValueError, RecursionError):
        return clean
    deep = patterns.replace_in(value)
    try:
        if patterns.replace_in(json.loads(clean)) == deep or deep is value:
            return clean
    except (ValueError, RecursionError):
        pass
    end = line[len(line.rstrip("\r\n")) :]
    return json.dumps(deep, ensure_ascii=False, separators=(",", ":")) + end
