"""The tool calls of a session, in the order of their first link. Later links of a call are merged into it."""

from typing import Any

from msgspec import Struct
from msgspec.structs import replace

from eventstore.events import Event, InvocationEvent, InvocationStarted, InvocationUnlinked
from projections.fold import Fold


class Invocation(Struct, frozen=True, gc=False):
    """One tool call. `time` is when it began or was first linked, RFC 3339; `duration_ms` in milliseconds.

    `started`: its start was recorded as a separate event, so if the call ended, its end is recorded too.
    `sub_session` is the session of the sub-agent that it ran.
    """

    invocation_id: str
    time: str
    tool_name: str | None = None
    invocation_dir: str | None = None
    duration_ms: float | None = None
    success: bool | None = None
    error: str | None = None
    started: bool = False
    sub_session: str | None = None

    @property
    def is_open(self) -> bool:
        """Return whether it began and did not end: it is running, or the program that made it crashed."""
        return self.started and self.success is None and self.duration_ms is None


def merge(known: Invocation | None, event: InvocationEvent) -> Invocation:
    """Return a call after an event: fields that the event leaves out stay unchanged."""
    fields = reported(event)
    return Invocation(event.invocation_id, event.time, **fields) if known is None else replace(known, **fields)


def reported(event: InvocationEvent) -> dict[str, Any]:
    """Return the fields of a call that an event reports."""
    fields = {
        "tool_name": event.tool_name,
        "invocation_dir": event.invocation_dir,
        "duration_ms": getattr(event, "duration_ms", None),
        "success": getattr(event, "success", None),
        "error": getattr(event, "error", None),
        "sub_session": getattr(event, "sub_session", None),
        "started": True if isinstance(event, InvocationStarted) else None,
    }
    return {name: value for name, value in fields.items() if value is not None}


def apply(state: dict[str, Invocation], event: Event) -> None:
    """Apply one event."""
    if isinstance(event, InvocationEvent):
        state[event.invocation_id] = merge(state.get(event.invocation_id), event)
    elif isinstance(event, InvocationUnlinked):
        state.pop(event.invocation_id, None)


projection: Fold[dict[str, Invocation]] = Fold(dict, dict, apply)
"""Calls by id."""
