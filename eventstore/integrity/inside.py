"""Redaction inside events: append copies of the removed events in which only the secret is replaced.

No event in a log changes its position, so the copies are appended. All messages from the first removed one on are
withdrawn and appended again, so that their order stays. Messages without a secret are marked as copies and count at
their old position. A record takes the place in its stream that the removed one had, and only where a stream needs it: what was
removed or replaced since does not come back. An imported line is copied too, so that the transcript can still be
exported, with the secrets replaced.
"""

import json
from typing import Any

from msgspec import UNSET, UnsetType
from msgspec.structs import replace

from eventstore import events as e
from eventstore.errors import VersionConflict
from eventstore.integrity.kept_state import again, id_at, kept_records, read_state
from eventstore.record import codec
from eventstore.secret_patterns import Patterns
from eventstore.store.call_values import set_aside
from eventstore.store.replaced_lines import NAME, may_be_kept
from eventstore.store.storage import SessionStorage
from projections.calls import large_values

_RECORDS = e.RecordPut, e.RecordRemoved
_ORDERED = e.ConversationCleared, e.ConversationRewound, e.MessagesWithdrawn


def keep_rest(storage: SessionStorage, session_id: str, lines: dict[int, bytes], patterns: Patterns) -> int:
    """Append copies of events without their secrets, as one batch. Return how many events were appended.

    `lines` are the lines of the events, by their numbers. The caller redacts them next. After a crash between the two
    steps, a second call finds the copies by their ids. Raises AppendRefused, SessionNotFound, LogDamaged.
    """
    events = {seq: event for seq, line in lines.items() if not isinstance(event := codec.decode(line), e.UnknownEvent)}
    if not events:
        return 0
    while True:
        version = storage.log.head(session_id).version
        known = _kept_before(storage, session_id)
        new = [one for one in _rest(storage, session_id, lines, events, patterns, version) if one.id not in known]
        numbered = [
            one if one.id is not None else replace(one, id=f"{NAME}{max(events)}+{version}.{place}")
            for place, one in enumerate(new)
        ]
        try:
            if numbered:
                storage.append(session_id, numbered, expected_version=version)
        except VersionConflict:  # another writer changed what this was made from: its changes would be lost
            continue
        return len(numbered)


def _kept_before(storage: SessionStorage, session_id: str) -> set[str | None]:
    """Return the ids of the copies that the log has: with new ones among them, a batch would be refused."""
    return {codec.decode(line).id for line in storage.log.lines(session_id) if may_be_kept(line)} - {None}


def _rest(
    storage: SessionStorage,
    session_id: str,
    lines: dict[int, bytes],
    events: dict[int, Any],
    patterns: Patterns,
    version: int,
) -> list[e.Event]:
    return [
        *_conversation(storage, session_id, events, patterns, version),
        *_names(storage, session_id, events, patterns),
        *(kept for event in events.values() for kept in _others(storage, session_id, event, patterns)),
        *_records(storage, session_id, events, patterns),
        *_imported(lines, events, patterns),
    ]


def _conversation(
    storage: SessionStorage, session_id: str, events: dict[int, Any], patterns: Patterns, version: int
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
    found = list[e.Event]()
    if gone:  # when the latest of them was said: a redaction is no activity
        when = max((one.occurred_at or one.at for one in messages[first:]), default=None)
        found.append(e.MessagesWithdrawn(targets=gone, occurred_at=when or max(one.time for one in events.values())))
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
                id=f"{NAME}{one.seq}.message" if is_removed else id_at(one.seq, version),
            )
        )
    return found


def _names(storage: SessionStorage, session_id: str, events: dict[int, Any], patterns: Patterns) -> list[e.Event]:
    """Return the names, metadata and data that the removed events set, if the session still has them, with their times."""
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
            if isinstance(event, e.SessionCreated):
                user = _clean_name(event.user_id, known.user_id, patterns)
                key = _clean_name(event.external_key, known.external_key, patterns)
                if user or key:
                    kept.append(e.SessionAdjusted(user_id=user, external_key=key, occurred_at=event.time))
        elif isinstance(event, e.DataSet) and event.key in data and data[event.key] == event.value:
            value = patterns.replace_in({event.key: event.value})[event.key]
            kept.append(e.DataSet(key=event.key, value=value, occurred_at=event.time))
    metadata = patterns.replace_in(metadata)
    if purpose is not None or metadata or tags:
        given: dict[str, Any] = {"purpose": purpose} if purpose is not None else {}
        given |= {"tags": tuple(dict.fromkeys(map(patterns.replace, tags)))} if tags else {}
        kept.append(e.SessionUpdated(custom_metadata=metadata, occurred_at=when, **given))
    return kept


def _clean_name(name: str | None, now: str | None, patterns: Patterns) -> str | UnsetType:
    return patterns.replace(name) if name and name == now else UNSET


def _others(storage: SessionStorage, session_id: str, event: e.Event, patterns: Patterns) -> list[e.Event]:
    """Return any other event without secrets: calls, which are folded by their id, reasoning, usage."""
    is_told = isinstance(event, e.MessageAdded | e.SessionCreated | e.SessionUpdated | e.DataSet | e.ForeignRecorded)
    if is_told or isinstance(event, (*_ORDERED, *_RECORDS)):
        return []
    return [_cleaned(storage, session_id, event, patterns)]


def _records(storage: SessionStorage, session_id: str, events: dict[int, Any], patterns: Patterns) -> list[e.Event]:
    """Return what gives the streams their entries and their order again once the removed events have no effect."""
    if not any(isinstance(event, _RECORDS) for event in events.values()):
        return []
    state = read_state(storage, session_id, events.keys())
    surplus, lost = kept_records(state, with_gone=True)
    names = {event.seq: None if event.seq in events else id_at(event.seq, state.version) for event in lost}
    kept = (_cleaned(storage, session_id, event, patterns, names[event.seq]) for event in lost)
    return [*map(patterns.clean, surplus), *kept]


def _cleaned(
    storage: SessionStorage, session_id: str, event: e.Event, patterns: Patterns, name: str | None = None
) -> e.Event:
    """Return an event without its secrets, to be appended again; without `name`, in the place of the one that is redacted."""
    name = name or f"{NAME}{event.seq}.event"
    large = large_values(event)
    if large:  # the secret is in the complete value: it is cleaned and stored again
        (event,) = storage.log.with_values(session_id, [event], strict=False)
        gone = {f"{name}_{what}": None for name, _, _ in large for what in ("bytes", "sha256")}
        event = replace(event, **gone)
    kept = again(patterns.clean(event), name)
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
