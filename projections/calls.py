"""A tool call with its input and result, assembled from its events: the start, the outcome, and messages with its id.

`invocations.py` has the fields that a session keeps of each call. This module also has the values, for showing and
exporting calls.
"""

from dataclasses import dataclass, field
from typing import Any, TypeGuard, TypeVar

from msgspec import UNSET, json
from msgspec.structs import replace

from eventstore import events as e
from projections.invocations import Invocation, merge

E = TypeVar("E", bound=e.Event)
INLINE_BYTES = 256 * 1024
"""The largest JSON text of an input or result that is stored in an event."""
VALUE_OF: dict[type[e.Event], tuple[str, str, str]] = {
    kind: (name, f"{name}_bytes", f"{name}_sha256")
    for kind, name in ((e.InvocationStarted, "input"), (e.InvocationLinked, "result"), (e.RecordPut, "value"))
}
"""The fields of a value, of its size and of its hash, by type of event."""


def call_of(event: e.Event) -> str | None:
    """Return the id of the tool call that an event belongs to, or None."""
    if isinstance(event, e.InvocationEvent):
        return event.invocation_id
    if isinstance(event, e.MessageAdded) and event.role in ("assistant", "tool"):
        return event.invocation_id
    return None


@dataclass(slots=True)
class Value:
    """An input or a result. `value` is the JSON value that an event holds, UNSET without one; `texts` are those of messages.

    `size_bytes` and `sha256` (hex) are those of a value that is an attachment of the log.
    """

    value: Any = UNSET
    size_bytes: int | None = None
    sha256: str | None = None
    texts: list[str] = field(default_factory=list)

    @property
    def is_known(self) -> bool:
        """Return whether an event has the value, directly or by its hash."""
        return self.value is not UNSET or self.sha256 is not None

    def take(self, event: e.InvocationEvent, name: str) -> None:
        """Add the `input` or `result` of an event, if it has one."""
        found, sha256 = getattr(event, name, UNSET), getattr(event, f"{name}_sha256", None)
        if found is not UNSET or sha256 is not None:
            self.value, self.size_bytes, self.sha256 = found, getattr(event, f"{name}_bytes"), sha256

    @property
    def text(self) -> str | None:
        """The value as text: a text unchanged, any other value as JSON; None if nothing is recorded.

        The value in an event takes precedence over the texts of messages.
        """
        if self.value is not UNSET:
            return text_of(self.value)
        if self.sha256 is not None:
            return f"[{self.size_bytes or 0:,} bytes, kept with the log as values/{self.sha256}]"
        return "\n".join(self.texts) if self.texts else None


def text_of(value: Any) -> str:
    """Return a text unchanged, and any other JSON value as JSON."""
    return value if isinstance(value, str) else json.encode(value).decode()


@dataclass(slots=True)
class Call:
    """A tool call so far. `seq` and `start` (RFC 3339) are those of its first event, `end` is the time of its outcome.

    `known` has the fields from the events about the call itself.
    """

    invocation_id: str
    seq: int
    start: str
    end: str | None = None
    named: str | None = None
    known: Invocation = field(init=False)
    input: Value = field(default_factory=Value)
    result: Value = field(default_factory=Value)

    def __post_init__(self) -> None:
        self.known = Invocation(self.invocation_id, self.start)

    @property
    def tool_name(self) -> str | None:
        """The name of the tool: from the call's events, else from its messages."""
        return self.known.tool_name or self.named

    @property
    def is_told(self) -> bool:
        """Return whether events about the call itself have its input and its result or error: enough for its record."""
        return self.input.is_known and (self.result.is_known or self.known.error is not None)

    def add(self, event: e.Event) -> None:
        """Add an event of the call."""
        if isinstance(event, e.InvocationEvent):
            self.known = merge(self.known, event)
            self.input.take(event, "input")
            self.result.take(event, "result")
            if isinstance(event, e.InvocationLinked) and (event.success is not None or event.duration_ms is not None):
                self.end = event.time
        elif isinstance(event, e.MessageAdded):
            self.named = self.named or event.tool_name
            (self.input if event.role == "assistant" else self.result).texts.append(event.content)
            if event.role != "assistant":
                self.end = event.time


def begin(event: e.Event) -> Call:
    """Return a call with its first event."""
    invocation_id = call_of(event)
    assert invocation_id is not None  # noqa: S101 - the caller checks
    call = Call(invocation_id, event.seq, event.time)
    call.add(event)
    return call


def has_input(event: e.Event | None) -> TypeGuard[e.InvocationStarted]:
    """Return whether an event has the input of a call, directly or by its hash."""
    return isinstance(event, e.InvocationStarted) and (event.input is not UNSET or event.input_sha256 is not None)


def large_values(event: e.Event | None) -> list[tuple[str, int, str]]:
    """Return (field, size in bytes, SHA-256) of each value of an event that is an attachment of the log."""
    found = []
    if isinstance(event, e.MessageAdded) and event.blobs:
        found += [("blocks", one["value_bytes"], one["value_sha256"]) for one in event.blobs]
    fields = VALUE_OF.get(type(event))  # type: ignore[arg-type]
    if fields is not None:
        name, size, digest = fields
        if getattr(event, digest) is not None:
            found.append((name, getattr(event, size) or 0, getattr(event, digest)))
    return found


def with_value(event: E, name: str, value: Any) -> E:
    """Return an event with a value added; its size and hash stay."""
    return replace(event, **{name: value})
