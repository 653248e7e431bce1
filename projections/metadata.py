"""The metadata of a session: status, tags, figures."""

from copy import deepcopy
from dataclasses import dataclass, field, replace
from typing import Any

import msgspec

from eventstore import events as e
from eventstore.record import clock
from eventstore.record.message_run import MessageRun
from projections import invocations, sum_range, usage
from projections.fold import Fold, FoldInput
from projections.invocations import Invocation
from projections.models import SessionMetadata, SessionStatus

_NO_UPDATE = frozenset([e.LogRepaired, e.EventRedacted, e.CheckpointSigned, e.RedactedEvent, e.SessionPinned])
"""Events about the log or its retention. They do not change `updated_at`."""

_NO_UPDATE_TYPES = frozenset(tag for tag, kind in e.EVENT_TYPES.items() if kind in _NO_UPDATE)


@dataclass(slots=True)
class State:
    """The metadata. `calls` and `uses` remember each call id and usage key, so that none counts twice.

    A use is stored as JSON, which takes a quarter of the memory: there is one per model response, and few are read again.
    `forks` are the ancestors as (session id, version at the fork), the oldest first. `began_redacted` is True while `created_at`
    is only the time of writing of a redacted event: when that happened is in a later event. `adjusted` has, by name, the event
    that set a time to another value than that of the events before it.
    """

    created_at: str = ""
    updated_at: str = ""
    status: str = "active"
    user_id: str | None = None
    purpose: str | None = None
    tags: tuple[str, ...] = ()
    total_invocations: int = 0
    total_duration_ms: float = 0.0
    tools_used: list[str] = field(default_factory=list)
    estimated_cost: float | None = None
    token_usage: dict[str, int] | None = None
    custom_metadata: dict[str, Any] = field(default_factory=dict)
    calls: dict[str, Invocation] = field(default_factory=dict)
    uses: dict[str, bytes] = field(default_factory=dict)
    forks: tuple[tuple[str, int], ...] = ()
    pinned: bool = False
    external_key: str | None = None
    began_redacted: bool = False
    adjusted: dict[str, int] = field(default_factory=dict)

    def copy(self) -> "State":
        """Return an independent state. Frozen values are shared."""
        return replace(
            self,
            tools_used=self.tools_used.copy(),
            token_usage=None if self.token_usage is None else self.token_usage.copy(),
            custom_metadata=_own(self.custom_metadata),
            calls=self.calls.copy(),
            uses=self.uses.copy(),
            adjusted=self.adjusted.copy(),
        )

    def to_model(self, session_id: str) -> SessionMetadata:
        """Return the metadata as the public object. Sums outside the range of `sum_range.py` are the nearest number in it."""
        return SessionMetadata(
            session_id=session_id,
            created_at=clock.read_time(self.created_at, _NEVER),
            updated_at=clock.read_time(self.updated_at, _NEVER),
            status=SessionStatus(self.status),
            user_id=self.user_id,
            purpose=self.purpose,
            tags=list(self.tags),
            total_invocations=self.total_invocations,
            total_duration_ms=sum_range.real(self.total_duration_ms),
            tools_used=self.tools_used.copy(),
            estimated_cost=None if self.estimated_cost is None else sum_range.real(self.estimated_cost),
            token_usage=None if self.token_usage is None else sum_range.wholes(self.token_usage),
            custom_metadata=_own(self.custom_metadata),
            pinned=self.pinned,
            external_key=self.external_key,
        )


def _own(values: dict[str, Any]) -> dict[str, Any]:
    """Return a copy of the custom metadata; most sessions have none, and `deepcopy` takes a microsecond for that."""
    return deepcopy(values) if values else {}


_USES = msgspec.json.Decoder(usage.Use)
_NEVER = "1970-01-01T00:00:00+00:00"


def apply(state: State, event: FoldInput) -> None:
    """Apply one event, or one run of messages."""
    if isinstance(event, MessageRun):
        _happened(state, event.since)
        _happened(state, event.until)
        return
    kind = type(event)
    if kind not in _NO_UPDATE:
        time = event.occurred_at or event.at
        if time > state.updated_at or state.began_redacted or not state.created_at:
            _happened(state, time)
    elif kind is e.RedactedEvent and not state.created_at:
        state.created_at = state.updated_at = event.at  # `occurred_at` was redacted with the rest
        state.began_redacted = True
    handler = _HANDLERS.get(kind)
    if handler is not None:
        handler(state, event)


def _happened(state: State, time: str) -> None:
    """Record the time of an activity."""
    is_first = not state.created_at or (state.began_redacted and time < state.created_at)
    state.began_redacted = False
    if is_first:  # what was redacted before it was written when it was imported, and happened earlier
        state.created_at = state.updated_at = time
    elif time > state.updated_at:
        state.updated_at = time


def _redacted(state: State, event: e.EventRedacted) -> None:
    """Count the time of an event that was redacted: a redaction is no activity, and takes none away."""
    time = event.target_time
    if time is None or event.target_type in _NO_UPDATE_TYPES:
        return
    if event.target > state.adjusted.get("updated_at", 0):
        _happened(state, time)
    if event.target == 1 and not state.forks and "created_at" not in state.adjusted:
        state.created_at = time


def _created(state: State, event: e.SessionCreated) -> None:
    state.external_key = event.external_key  # a fork is another session: it has none of its parent
    if event.forked_from is None:
        state.user_id, state.purpose, state.tags = event.user_id, event.purpose, event.tags
        state.custom_metadata = _own(event.custom_metadata)
        return
    state.forks += ((event.forked_from["session_id"], event.forked_from["seq"]),)
    state.created_at, state.status = event.time, "active"
    state.user_id, state.purpose = event.user_id or state.user_id, event.purpose or state.purpose
    state.tags = event.tags or state.tags
    state.custom_metadata.update(_own(event.custom_metadata))


def _updated(state: State, event: e.SessionUpdated) -> None:
    if event.purpose is not msgspec.UNSET:
        state.purpose = event.purpose
    if event.tags is not msgspec.UNSET:
        state.tags = event.tags
    state.custom_metadata.update(_own(event.custom_metadata))


def _completed(state: State, event: e.SessionCompleted) -> None:
    state.status = event.status


def _reopened(state: State, event: e.SessionReopened) -> None:
    state.status = "active"


def _pinned(state: State, event: e.SessionPinned) -> None:
    state.pinned = event.pinned


def _adjusted(state: State, event: e.SessionAdjusted) -> None:
    for name in event.__struct_fields__[10:]:
        value = getattr(event, name)
        if value is not msgspec.UNSET:
            setattr(state, name, list(value) if name == "tools_used" else deepcopy(value))
            if name in ("created_at", "updated_at"):
                state.adjusted[name] = event.seq


def _linked(state: State, event: e.InvocationEvent) -> None:
    old = state.calls.get(event.invocation_id)
    new = invocations.merge(old, event)
    state.calls[event.invocation_id] = new
    if old is None:
        state.total_invocations += 1
    if isinstance(event, e.InvocationLinked) and event.duration_ms is not None:
        state.total_duration_ms += event.duration_ms - ((old.duration_ms or 0.0) if old else 0.0)
    if event.tool_name is not None and (old is None or old.tool_name != event.tool_name):
        if old is not None:
            _drop_tool(state, old.tool_name)
        if event.tool_name not in state.tools_used:
            state.tools_used.append(event.tool_name)


def _unlinked(state: State, event: e.InvocationUnlinked) -> None:
    old = state.calls.pop(event.invocation_id, None)
    if old is not None:
        state.total_invocations -= 1
        state.total_duration_ms -= old.duration_ms or 0.0
        _drop_tool(state, old.tool_name)


def _drop_tool(state: State, tool_name: str | None) -> None:
    """Remove a tool that no call uses any more."""
    if tool_name in state.tools_used and all(call.tool_name != tool_name for call in state.calls.values()):
        state.tools_used.remove(tool_name)


def _used(state: State, event: e.UsageRecorded) -> None:
    kept = state.uses.get(event.key) if event.key is not None else None
    old = None if kept is None else _USES.decode(kept)
    added, use = usage.merge(old, event.tokens, event.cost)
    if added.tokens:
        totals = state.token_usage = state.token_usage or {}
        for kind, count in added.tokens.items():
            totals[kind] = totals.get(kind, 0) + count
    if added.cost is not None:
        state.estimated_cost = (state.estimated_cost or 0.0) + added.cost
    if event.key is not None:
        state.uses[event.key] = msgspec.json.encode(use)


_HANDLERS: dict[type[e.Event], Any] = {
    e.SessionCreated: _created,
    e.SessionUpdated: _updated,
    e.SessionCompleted: _completed,
    e.SessionReopened: _reopened,
    e.SessionPinned: _pinned,
    e.SessionAdjusted: _adjusted,
    e.InvocationStarted: _linked,
    e.InvocationLinked: _linked,
    e.InvocationUnlinked: _unlinked,
    e.UsageRecorded: _used,
    e.EventRedacted: _redacted,
}

projection: Fold[State] = Fold(State, State.copy, apply)
"""Metadata and figures."""
