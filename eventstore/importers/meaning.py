"""What one foreign line means, and how foreign JSON is read with suspicion."""

import json
from dataclasses import dataclass, field, replace
from typing import Any, Protocol

import msgspec

from eventstore.events import Event
from eventstore.record.clock import to_datetime, to_text

_decode = msgspec.json.Decoder().decode


@dataclass(frozen=True, slots=True)
class ToolCall:
    """A tool was called: its folder in the history is made at `time`, RFC 3339."""

    invocation_id: str
    tool_name: str
    arguments: Any
    time: str | None


@dataclass(frozen=True, slots=True)
class ToolAnswer:
    """A tool answered, `duration_ms` milliseconds after it was called where both times are known."""

    invocation_id: str
    result: Any
    duration_ms: float | None
    success: bool | None
    error: str | None


@dataclass(slots=True)
class Child:
    """Events of a sub-agent that is told of inside its parent's transcript; `created` begins its session."""

    session_id: str
    created: Event
    events: list[Event]
    key: str


@dataclass(slots=True)
class Meaning:
    """What a line adds. No events: the line is kept whole and means nothing of ours. `odd` says what is strange in it."""

    events: list[Event] = field(default_factory=list)
    children: list[Child] = field(default_factory=list)
    calls: list[ToolCall] = field(default_factory=list)
    answers: list[ToolAnswer] = field(default_factory=list)
    odd: str = ""


class Translator(Protocol):
    """Reads one transcript, line after line. Its answers depend on the lines alone, so that reading again gives the same."""

    format: str
    time: str | None
    """The last time that a line told, RFC 3339."""

    def read(self, line: dict[str, Any]) -> Meaning:
        """Tell what a line means. Raises ValueError, TypeError or KeyError for a line that is not as its type says."""
        ...

    def placed(self, seq: int) -> None:
        """Learn that the last event of the line just read has the number `seq`."""
        ...

    def unanswered(self) -> int:
        """Count the tool calls that nothing answered so far."""
        ...


class OpenCalls:
    """Calls that wait for their answers: tool name and time by id."""

    def __init__(self) -> None:
        self._open: dict[str, ToolCall] = {}

    def __len__(self) -> int:
        return len(self._open)

    def begin(self, call: ToolCall) -> ToolCall:
        """Remember a call, without its arguments."""
        self._open[call.invocation_id] = replace(call, arguments=None)
        return call

    def end(self, invocation_id: str) -> ToolCall | None:
        """Return the call that is answered now, or None for an answer to nothing."""
        return self._open.pop(invocation_id, None)


def decode(text: bytes) -> dict[str, Any] | None:
    """Read one JSON object; None where the text is none. Lone surrogates in it become `?`."""
    try:
        found = _decode(text)
    except (msgspec.DecodeError, UnicodeDecodeError, RecursionError):
        found = _decode_leniently(text)
    return found if isinstance(found, dict) else None


def _decode_leniently(text: bytes) -> Any:
    """Read what broken writers make: halves of surrogate pairs, integers of any size."""
    try:
        found = json.loads(text)
        return json.loads(json.dumps(found, ensure_ascii=False).encode("utf-8", "replace"))
    except (ValueError, RecursionError):
        return None


def time_of(value: object) -> str | None:
    """Write a foreign time as records hold it, or None where it is none."""
    try:
        return to_text(to_datetime(value)) if isinstance(value, str) else None
    except ValueError:
        return None


def between_ms(start: str | None, end: str | None) -> float | None:
    """Give the milliseconds from one time to another, or None where one is not known or they run backwards."""
    if start is None or end is None or end < start:
        return None
    return round((to_datetime(end) - to_datetime(start)).total_seconds() * 1000, 3)


def text_of(value: object) -> str:
    """Give a text as it is, and anything else as its JSON."""
    return value if isinstance(value, str) else json.dumps(value, ensure_ascii=False, separators=(",", ":"))


def count_of(value: object) -> int | None:
    """Give a whole number from 0 that a record can hold, or None."""
    whole = isinstance(value, int) and not isinstance(value, bool)
    return value if whole and 0 <= value < 2**53 else None  # type: ignore[operator, return-value]


def first_line(text: str, limit: int = 120) -> str:
    """Shorten a text to one line, as a title."""
    line = " ".join(text.split())
    return line if len(line) <= limit else line[: limit - 1] + "\N{HORIZONTAL ELLIPSIS}"
