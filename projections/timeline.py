"""The timeline of a session, one row per event: time, actor, action, tool, duration, tokens."""

from collections.abc import Iterable, Iterator
from dataclasses import dataclass, field
from typing import Any

from eventstore import events as e
from eventstore.record.clock import read_time
from projections import calls
from projections.fold import Fold


@dataclass(frozen=True, slots=True)
class Row:
    """One event. `time` is RFC 3339, `since_start_seconds` counts from the first event, `tokens` are by kind."""

    seq: int
    time: str
    since_start_seconds: float
    who: str
    what: str
    text: str = ""
    tool_name: str | None = None
    duration_ms: float | None = None
    tokens: dict[str, int] = field(default_factory=dict)

    def to_dict(self) -> dict[str, Any]:
        """Return the row as JSON values, without empty fields."""
        shown = {name: getattr(self, name) for name in self.__slots__}
        return {name: value for name, value in shown.items() if value not in (None, "", {})}


@dataclass(slots=True)
class State:
    """The rows so far. `start` is the time of the first event, `tools` maps call ids to tool names."""

    rows: list[Row] = field(default_factory=list)
    start: str = ""
    tools: dict[str, str] = field(default_factory=dict)

    def copy(self) -> "State":
        """Return an independent state. Rows are frozen, so they are shared."""
        return State(self.rows.copy(), self.start, self.tools.copy())


def row(state: State, event: e.Event) -> Row:
    """Return the row of one event, and update `start` and `tools` of the state for later rows."""
    time = event.time
    if not state.start and not isinstance(event, e.RedactedEvent):  # of that one only the time of writing is left
        state.start = time
    who, what, text = _describe(event)
    actor = (event.by or {}).get("actor")
    return Row(
        seq=event.seq,
        time=time,
        since_start_seconds=(read_time(time, event.at) - read_time(state.start or time, event.at)).total_seconds(),
        who=actor if isinstance(actor, str) and not isinstance(event, e.MessageAdded) else who,
        what=what,
        text=text,
        tool_name=_tool(state, event),
        duration_ms=event.duration_ms if isinstance(event, e.InvocationLinked) else None,
        tokens=dict(event.tokens) if isinstance(event, e.UsageRecorded) else {},
    )


def rows(events: Iterable[e.Event]) -> Iterator[Row]:
    """Stream one row per event. Memory grows with the number of tool calls only."""
    state = State()
    return (row(state, event) for event in events)


def apply(state: State, event: e.Event) -> None:
    """Apply one event."""
    state.rows.append(row(state, event))


projection: Fold[State] = Fold(State, State.copy, apply)
"""All rows."""


def _tool(state: State, event: e.Event) -> str | None:
    if not isinstance(event, e.InvocationEvent | e.MessageAdded):
        return None
    if event.invocation_id is not None and event.tool_name is not None:
        state.tools[event.invocation_id] = event.tool_name
    return event.tool_name or state.tools.get(event.invocation_id or "")


def _describe(event: e.Event) -> tuple[str, str, str]:
    """Return who did what, and its text."""
    match event:
        case e.SessionCreated():
            return "session", "created", event.purpose or ""
        case e.SessionUpdated():
            return "session", "updated", _changed(event)
        case e.SessionPinned():
            return "session", "pinned" if event.pinned else "unpinned", ""
        case e.SessionCompleted():
            return "session", event.status, event.reason or ""
        case e.MessageAdded():
            called = event.role == "assistant" and event.invocation_id is not None
            return event.role, "calls" if called else "says", event.content
        case e.ReasoningRecorded():
            return "assistant", "thinks", event.content
        case e.InvocationStarted():
            return "tool", "starts", _value(event, "input")
        case e.InvocationLinked():
            return "tool", _outcome(event), event.error or _value(event, "result")
        case e.UsageRecorded():
            return "model", "used", event.model or ""
        case e.RecordPut() | e.RecordRemoved():
            return "program", event.type.partition(".")[2], _record(event)
        case e.DataSet() | e.DataDeleted():
            return "session", event.type.replace(".", " "), event.key
        case e.RedactedEvent():
            return "session", "redacted", event.type.replace(".", " ")
        case e.EventRedacted():
            return "log", "redacts", f"event {event.target}: {event.reason}"
        case e.CheckpointSigned():
            return "log", "signed", f"{event.size} events"
        case e.ForeignRecorded():
            return "import", "kept a line", event.origin.format if event.origin else ""
        case e.LogRepaired():
            return "log", "repaired", f"{event.removed_bytes} bytes moved to {event.quarantine}"
        case _:
            return "session", event.type.replace(".", " "), ""


def _value(event: e.InvocationEvent, name: str) -> str:
    """Return the input or result that an event holds, as text."""
    value = calls.Value()
    value.take(event, name)
    return value.text or ""


def _record(event: e.RecordPut | e.RecordRemoved) -> str:
    stream = event.stream if event.stream is not None else f"{getattr(event, 'prefix', None) or ''}*"
    return stream if event.key is None else f"{stream} {event.key}"


def _outcome(event: e.InvocationLinked) -> str:
    if event.success is None:
        return "linked" if event.duration_ms is None else "ran"
    return "succeeded" if event.success else "failed"


def _changed(event: e.SessionUpdated) -> str:
    parts = [event.purpose] if isinstance(event.purpose, str) else []
    if isinstance(event.tags, tuple):
        parts.append("tags " + ", ".join(event.tags))
    parts.extend(event.custom_metadata)
    return "; ".join(parts)
