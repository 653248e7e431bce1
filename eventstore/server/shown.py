"""What the API shows of events: their fields without the salt, and never the foreign line they came from unless asked."""

from typing import Any

import msgspec

from eventstore.events import Event, RedactedEvent, UnknownEvent
from projections.timeline import Row

TEXT_CHARACTERS = 200
"""Characters of a text in a row; the event holds the rest."""

_HIDDEN = ("salt",)


class ShownRow(msgspec.Struct, omit_defaults=True):
    """A row of the timeline. `text` is cut; `length` is that of the complete text in characters; `failed` is of a call."""

    seq: int
    time: str
    since: float
    who: str
    what: str
    text: str = ""
    length: int = 0
    tool: str | None = None
    duration_ms: float | None = None
    tokens: dict[str, int] | None = None
    failed: bool = False


def show_row(row: Row, characters: int = TEXT_CHARACTERS) -> ShownRow:
    """Show a row with at most so many characters of its text."""
    return ShownRow(
        row.seq,
        row.time,
        row.since_start_seconds,
        row.who,
        row.what,
        row.text[:characters],
        len(row.text),
        row.tool_name,
        row.duration_ms,
        row.tokens or None,
        row.what == "failed",
    )


def show_event(event: Event, *, raw: bool = False) -> dict[str, Any]:
    """Show an event as JSON values. `raw` adds the foreign line it was imported from."""
    raw_line = event.raw if isinstance(event, UnknownEvent) else None
    found = {"type": event.type, **msgspec.to_builtins(event)} if raw_line is None else _fields_of(raw_line)
    for name in _HIDDEN:
        found.pop(name, None)
    if not raw:
        origin = found.pop("origin", None)
        if isinstance(origin, dict):
            found["origin"] = {"format": origin.get("format")}
    if isinstance(event, RedactedEvent):
        found["redacted"] = True
    return found


def _fields_of(line: bytes) -> dict[str, Any]:
    try:
        found = msgspec.json.decode(line)
    except (msgspec.DecodeError, RecursionError):
        return {}
    return found if isinstance(found, dict) else {}
