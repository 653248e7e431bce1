"""One event with the messages around it: `eventstore show SESSION:SEQ`."""

from collections import deque
from datetime import datetime
from typing import TYPE_CHECKING, Any

import click
from msgspec import UNSET

from eventstore.cli.reading import COLOURS, Style, print_text
from eventstore.cli.terminal import clean, moment, print_json, some
from eventstore.errors import NoSuchMoment
from eventstore.events import Event, MessageAdded

if TYPE_CHECKING:
    from eventstore import SessionManager

_STEP = 256  # events read at once when looking back


def show_around(
    manager: "SessionManager", session_id: str, seq: int, count: int, style: Style, *, as_json: bool
) -> None:
    """Print an event with `count` messages before and after it. Raises SessionNotFound, NoSuchMoment."""
    log = manager.storage.log
    here: Event | None = next(log.read(session_id, seq - 1, seq), None) if seq else None
    if here is None:
        raise NoSuchMoment(seq, f"session {session_id!r} has {some(log.head(session_id).version, 'event')}")
    before, start = deque[Event](), seq - 1
    while start > 0 and len(before) < count:
        end, start = start, max(0, start - _STEP)
        found = [event for event in log.read(session_id, start, end) if isinstance(event, MessageAdded)]
        before.extendleft(reversed(found[-(count - len(before)) :] if count else []))
    after = list[Event]()
    for following in log.read(session_id, seq) if count else ():
        if isinstance(following, MessageAdded):
            after.append(following)
        if len(after) == count:
            break
    for shown in [*before, here, *after]:
        if as_json:
            print_json(_as_dict(shown, is_asked=shown is here))
        else:
            _print(shown, style, is_asked=shown is here)


def _texts(event: Event) -> tuple[str, str]:
    """Return the author of an event, and its text."""
    if isinstance(event, MessageAdded):
        return (f"{event.role} · {event.tool_name}" if event.tool_name else event.role), event.content
    found = _fields(event)
    return str(type(event).__struct_config__.tag or ""), "\n".join(f"{name}: {value}" for name, value in found.items())


def _fields(event: Event) -> dict[str, Any]:
    hidden = ("seq", "at", "occurred_at", "v", "id", "batch", "by", "origin", "salt", "hash")
    return {
        name: value
        for name in event.__struct_fields__
        if name not in hidden and (value := getattr(event, name)) not in (None, "", (), {}, UNSET)
    }


def _as_dict(event: Event, *, is_asked: bool) -> dict[str, Any]:
    return {
        "seq": event.seq,
        "time": event.time,
        "type": type(event).__struct_config__.tag,
        "hit": is_asked,
        **_fields(event),
    }


def _print(event: Event, style: Style, *, is_asked: bool) -> None:
    who, text = _texts(event)
    role = event.role if isinstance(event, MessageAdded) else ""
    mark = click.style("> ", fg="red", bold=True) if is_asked else ""
    place = click.style(f"{moment(datetime.fromisoformat(event.time))}  :{event.seq}", dim=True)
    click.echo(f"{mark}{click.style(clean(who), fg=COLOURS.get(role), bold=True)}  {place}")
    print_text(text, style._replace(full=style.full or is_asked), role=role, seq=event.seq)
    click.echo()
