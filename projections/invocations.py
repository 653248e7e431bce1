"""The tool calls of a session, in the order of their first link. Later links of a call are merged into it."""

from msgspec import Struct
from msgspec.structs import replace

from eventstore.events import Event, InvocationLinked, InvocationUnlinked
from projections.projection import Projection


class Invocation(Struct, frozen=True, gc=False):
    """One tool call. `time` is when it was first linked, RFC 3339; `duration_ms` in milliseconds."""

    invocation_id: str
    time: str
    tool_name: str | None = None
    invocation_dir: str | None = None
    duration_ms: float | None = None
    success: bool | None = None
    error: str | None = None


def merge(known: Invocation | None, event: InvocationLinked) -> Invocation:
    """Return the call after an event. Fields that the event does not set keep their value."""
    call = known or Invocation(event.invocation_id, event.time)
    linked = {
        "tool_name": event.tool_name,
        "invocation_dir": event.invocation_dir,
        "duration_ms": event.duration_ms,
        "success": event.success,
        "error": event.error,
    }
    return replace(call, **{name: value for name, value in linked.items() if value is not None})


def apply(state: dict[str, Invocation], event: Event) -> None:
    """Apply one event."""
    if isinstance(event, InvocationLinked):
        state[event.invocation_id] = merge(state.get(event.invocation_id), event)
    elif isinstance(event, InvocationUnlinked):
        state.pop(event.invocation_id, None)


projection: Projection[dict[str, Invocation]] = Projection(dict, dict, apply)
"""Calls by id."""
