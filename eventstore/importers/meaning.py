"""The meaning of one line of a transcript."""

import json
from collections import Counter
from dataclasses import dataclass, field, replace
from typing import Any, NamedTuple, Protocol

from eventstore.events import Event, Status
from eventstore.record.clock import to_datetime, to_text
from eventstore.store.foreign_json import decode as decode

_encode = json.JSONEncoder(ensure_ascii=False, separators=(",", ":")).encode


@dataclass(frozen=True, slots=True)
class ToolCall:
    """A tool call. `time` is RFC 3339; the name of its history folder contains it."""

    invocation_id: str
    tool_name: str
    arguments: Any
    time: str | None


@dataclass(frozen=True, slots=True)
class ToolAnswer:
    """The result of a tool call. `duration_ms` is in milliseconds, None if a time is not known."""

    invocation_id: str
    result: Any
    duration_ms: float | None
    success: bool | None
    error: str | None


@dataclass(slots=True)
class Child:
    """Events of a sub-agent that is recorded inside its parent's transcript. `created` is the first event of its session."""

    session_id: str
    created: Event
    events: list[Event]
    key: str


@dataclass(slots=True)
class Meaning:
    """The events of a line. Without events the line is stored as ForeignRecorded. `odd` describes what is wrong with it.

    `waited` are those of its events that earlier lines told, and that are no copies because this line is one.
    """

    events: list[Event] = field(default_factory=list)
    children: list[Child] = field(default_factory=list)
    calls: list[ToolCall] = field(default_factory=list)
    answers: list[ToolAnswer] = field(default_factory=list)
    waited: list[Event] = field(default_factory=list)
    odd: str = ""


class Ending(NamedTuple):
    """How a session has ended so far: its status, and why."""

    status: Status
    reason: str


ACTIVE = Ending("active", "")
COMPLETED = Ending("completed", "")


class Translator(Protocol):
    """Translates one transcript line by line. The result depends on the lines alone, so that a second import gives the same."""

    format: str
    time: str | None
    """The time of the last line that has one, RFC 3339."""
    is_copy: bool
    """Set before `read`: the line is known to be a copy of one in another session."""

    def read(self, line: dict[str, Any]) -> Meaning:
        """Return the meaning of a line. Raises ValueError, TypeError or KeyError if its fields do not match its type."""
        ...

    def placed(self, seq: int) -> None:
        """Record that the last event of the line just read has the number `seq`."""
        ...

    def unanswered(self) -> int:
        """Return the number of tool calls without a result so far."""
        ...

    def ending(self) -> Ending:
        """Return how the session has ended, by the last lines so far."""
        ...


class OpenCalls:
    """Calls without a result so far: tool name and time by id. An id that was used before gets a number."""

    def __init__(self) -> None:
        self._open: dict[str, ToolCall] = {}
        self._begun: Counter[str] = Counter()

    def __len__(self) -> int:
        return len(self._open)

    def begin(self, call: ToolCall) -> ToolCall:
        """Remember a call, without its arguments, which may be large. Return it with an id that no call before it has."""
        self._begun[call.invocation_id] += 1
        known, times = call.invocation_id, self._begun[call.invocation_id]
        if times > 1:
            call = replace(call, invocation_id=f"{known}#{times}")
        self._open[known] = replace(call, arguments=None)
        return call

    def is_open(self, invocation_id: str) -> bool:
        """Return whether a call with this id has no result so far."""
        return invocation_id in self._open

    def last(self, invocation_id: str) -> str | None:
        """Return the id that the last call with this id was given, or None if there was none."""
        times = self._begun.get(invocation_id, 0)
        return None if not times else invocation_id if times == 1 else f"{invocation_id}#{times}"

    def end(self, invocation_id: str) -> ToolCall | None:
        """Remove and return the last call that was given this id, or None if it is not open."""
        return self._open.pop(invocation_id, None)


def time_of(value: object) -> str | None:
    """Return a foreign time as RFC 3339 UTC, or None if it is not a time."""
    try:
        return to_text(to_datetime(value)) if isinstance(value, str) else None
    except ValueError:
        return None


def between_ms(start: str | None, end: str | None) -> float | None:
    """Return the milliseconds from one time to another, or None if one is unknown or `end` is before `start`."""
    if start is None or end is None or end < start:
        return None
    return round((to_datetime(end) - to_datetime(start)).total_seconds() * 1000, 3)


def text_of(value: object) -> str:
    """Return a text unchanged, and anything else as JSON."""
    return value if isinstance(value, str) else _encode(value)


def count_of(value: object) -> int | None:
    """Return an integer from 0 to 2**53 - 1, which every JSON reader holds exactly, or None for anything else."""
    is_integer = isinstance(value, int) and not isinstance(value, bool)
    return value if is_integer and 0 <= value < 2**53 else None  # type: ignore[operator, return-value]


def first_line(text: str, limit: int = 120) -> str:
    """Return a text as one line of at most `limit` characters, as a title."""
    line = " ".join(text.split())
    return line if len(line) <= limit else line[: limit - 1] + "\N{HORIZONTAL ELLIPSIS}"
