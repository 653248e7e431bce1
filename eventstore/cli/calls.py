"""Tool calls in the output of `show`: those whose input and result are events of their own, and in no message."""

from collections.abc import Iterable
from typing import TYPE_CHECKING, Any

import click

from eventstore.cli.terminal import Column, clean, duration, one_line, print_table
from projections.calls import Call, call_of

if TYPE_CHECKING:
    from eventstore import At, SessionManager
    from eventstore.events import Event

_COLUMNS = (
    Column("EVENT", number=True),
    Column("TOOL", "magenta"),
    Column("INPUT"),
    Column("RESULT"),
    Column("OUTCOME", "cyan"),
    Column("TOOK", number=True),
)


def told_in_events(manager: "SessionManager", session_id: str, at: "At | None" = None) -> list[Call]:
    """Return the calls of a session that no message is about, in the order in which they began. Raises SessionNotFound."""
    return _assembled(manager.storage.log.with_values(session_id, manager.events(session_id, at=at), strict=False))


def _assembled(events: "Iterable[Event]") -> list[Call]:
    calls: dict[str, Call] = {}
    for event in events:
        name = call_of(event)
        if name is not None:
            if name not in calls:
                calls[name] = Call(name, event.seq, event.time)
            calls[name].add(event)
    return [one for one in calls.values() if one.input.is_known and not (one.input.texts or one.result.texts)]


def as_json(calls: list[Call]) -> list[dict[str, Any]]:
    """Return calls as JSON values."""
    return [
        {
            "seq": one.seq,
            "invocation_id": one.invocation_id,
            "tool_name": one.tool_name,
            "time": one.start,
            "input": one.input.text,
            "result": one.result.text,
            "error": one.known.error,
            "success": one.known.success,
            "duration_ms": one.known.duration_ms,
        }
        for one in calls
    ]


def print_calls(calls: list[Call]) -> None:
    """Print calls as a table; nothing if there are none."""
    if calls:
        click.echo()
        print_table(_COLUMNS, [_row(one) for one in calls])


def _row(one: "Call") -> list[str]:
    known = one.known
    outcome = "no end recorded" if known.is_open else {True: "succeeded", False: "failed", None: ""}[known.success]
    return [
        str(one.seq),
        clean(one.tool_name or ""),
        one_line(one.input.text or "", 60),
        one_line(known.error or one.result.text or "", 60),
        outcome,
        "" if known.duration_ms is None else duration(known.duration_ms),
    ]
