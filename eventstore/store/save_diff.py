"""The events that lead from one state of a session to another, for a saved object."""

from collections.abc import Iterable, Sequence
from typing import Any, cast

import msgspec
from msgspec.structs import replace

from eventstore import events as e
from eventstore.record import clock
from projections import session as session_fold
from projections.models import Conversation, ConversationMessage, Session, SessionMetadata, SessionStatus, check_role

_FIGURES = (
    "user_id",
    "total_invocations",
    "total_duration_ms",
    "estimated_cost",
    "token_usage",
    "custom_metadata",
)


class Changes(msgspec.Struct, frozen=True):
    """Events to append; `rebasing`: they keep their meaning after events that others append first."""

    events: tuple[e.Event, ...]
    rebasing: bool


def find_changes(stored: Session | None, state: session_fold.State, wanted: Session) -> Changes:
    """Find the fewest events that lead from `stored`, folded in `state`, to `wanted`.

    `stored` is None if the session does not exist yet. Figures and times that were set by hand come last, as one
    `session.adjusted`. All events carry `occurred_at`, so that the session has the times of the object.
    """
    found = [] if stored else [_created(wanted.metadata)]
    base = stored or _empty(wanted.metadata)
    found += _updated(base.metadata, wanted.metadata) if stored else []
    found += _conversation(base.conversation, wanted.conversation, wanted.metadata)
    found += _invocations(base, wanted, state)
    found += _data(base.data, wanted.data)
    found += _pinned(base.metadata, wanted.metadata)
    found += _status(base.metadata.status, wanted.metadata.status)
    stamped = [_at(event, wanted.metadata) for event in found]
    rest = _adjusted(stamped, state, wanted)
    removing = any(isinstance(event, e.ConversationCleared | e.InvocationUnlinked | e.DataCleared) for event in stamped)
    return Changes((*stamped, *rest), rebasing=not (rest or removing))


def _empty(metadata: SessionMetadata) -> Session:
    return Session(SessionMetadata(metadata.session_id, created_at=metadata.created_at, updated_at=metadata.created_at))


def _at(event: e.Event, metadata: SessionMetadata) -> e.Event:
    return event if event.occurred_at else replace(event, occurred_at=clock.to_text(metadata.updated_at))


def _created(metadata: SessionMetadata) -> e.Event:
    return e.SessionCreated(
        purpose=metadata.purpose,
        user_id=metadata.user_id,
        tags=tuple(metadata.tags),
        custom_metadata=metadata.custom_metadata,
        occurred_at=clock.to_text(metadata.created_at),
    )


def _updated(old: SessionMetadata, new: SessionMetadata) -> list[e.Event]:
    fields: dict[str, Any] = {}
    if old.purpose != new.purpose:
        fields["purpose"] = new.purpose
    if list(old.tags) != list(new.tags):
        fields["tags"] = tuple(new.tags)
    merged = {
        key: value
        for key, value in new.custom_metadata.items()
        if key not in old.custom_metadata or old.custom_metadata[key] != value
    }
    if merged and set(old.custom_metadata) <= set(new.custom_metadata):
        fields["custom_metadata"] = merged
    return [e.SessionUpdated(**fields)] if fields else []


def _conversation(
    old: Sequence[ConversationMessage], new: Sequence[ConversationMessage], metadata: SessionMetadata
) -> list[e.Event]:
    kept = Conversation(new).begins_with(old)
    added: list[e.Event] = [_message(message) for message in (new[len(old) :] if kept else new)]
    return added if kept else [_at(e.ConversationCleared(), metadata), *added]


def _message(message: ConversationMessage) -> e.Event:
    return e.MessageAdded(
        role=check_role(message.role),
        content=message.content,
        tool_name=message.tool_name,
        invocation_id=message.invocation_id,
        blocks=message.blocks,
        blobs=message.blobs,
        occurred_at=clock.to_text(message.timestamp),
    )


def _invocations(old: Session, new: Session, state: session_fold.State) -> list[e.Event]:
    wanted = list(dict.fromkeys(new.invocation_ids))
    gone = [one for one in old.invocation_ids if one not in set(wanted)]
    stay = [one for one in old.invocation_ids if one not in set(gone)]
    if wanted[: len(stay)] != stay:
        gone, stay = list(old.invocation_ids), []
    unlinked: Iterable[e.Event] = (e.InvocationUnlinked(invocation_id=one) for one in gone)
    return [*unlinked, *(_linked(one, new, state) for one in wanted[len(stay) :])]


def _linked(invocation_id: str, new: Session, state: session_fold.State) -> e.Event:
    known = state.invocations.get(invocation_id)
    duration = new.duration_of(invocation_id)
    if known is None:
        return e.InvocationLinked(invocation_id=invocation_id, duration_ms=duration)
    return e.InvocationLinked(
        invocation_id=invocation_id,
        tool_name=known.tool_name,
        invocation_dir=known.invocation_dir,
        duration_ms=known.duration_ms if duration is None else duration,
        success=known.success,
        error=known.error,
    )


def _data(old: dict[str, Any], new: dict[str, Any]) -> list[e.Event]:
    if old and not new:
        return [e.DataCleared()]
    deleted: list[e.Event] = [e.DataDeleted(key=key) for key in old if key not in new]
    return deleted + [
        e.DataSet(key=key, value=value) for key, value in new.items() if key not in old or old[key] != value
    ]


def _pinned(old: SessionMetadata, new: SessionMetadata) -> list[e.Event]:
    return [] if old.pinned == new.pinned else [e.SessionPinned(pinned=new.pinned)]


def _status(old: SessionStatus, new: SessionStatus) -> list[e.Event]:
    if old is new:
        return []
    if new is SessionStatus.ACTIVE:
        return [e.SessionReopened()]
    return [e.SessionCompleted(status=cast("e.Status", new.value))]


def _adjusted(stamped: Sequence[e.Event], state: session_fold.State, wanted: Session) -> list[e.Event]:
    """Return a `session.adjusted` for what differs after folding the events, if anything."""
    numbered = [replace(event, seq=wanted.version + place) for place, event in enumerate(stamped, 1)]
    reached = session_fold.projection.fold(numbered, state).to_model(wanted.metadata.session_id).metadata
    target = wanted.metadata
    fields: dict[str, Any] = {
        name: getattr(target, name) for name in _FIGURES if getattr(reached, name) != getattr(target, name)
    }
    if list(reached.tools_used) != list(target.tools_used):
        fields["tools_used"] = tuple(target.tools_used)
    for name in ("created_at", "updated_at"):
        if getattr(reached, name) != getattr(target, name):
            fields[name] = clock.to_text(getattr(target, name))
    return [e.SessionAdjusted(**fields, occurred_at=clock.to_text(target.updated_at))] if fields else []
