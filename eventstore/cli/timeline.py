"""Replay: print the timeline of a session, at once or as it happened."""

from collections.abc import Iterable, Iterator
from dataclasses import replace
from functools import partial
from typing import TYPE_CHECKING

import click

from eventstore.cli import naming
from eventstore.cli.reading import paged
from eventstore.cli.store import at_option, open_manager, store_option
from eventstore.cli.terminal import (
    Finite,
    cells,
    clean,
    cut,
    duration,
    is_terminal,
    one_line,
    pad,
    print_json,
    since_start,
    tokens,
    width,
)

if TYPE_CHECKING:
    from projections.timeline import Row

COLOURS = {"user": "green", "assistant": "blue", "tool": "magenta", "model": "cyan", "session": "yellow", "log": "red"}
_TALK = frozenset(["says", "calls", "thinks", "failed", "redacted", "created", "completed", "abandoned"])
"""The rows shown with --quiet: messages, and results."""
_WRITTEN = frozenset(["redacted", "redacts", "signed", "repaired"])
_LONG_AGO_SECONDS = 3_600.0
_NARROW = 72
_LEAST_TEXT, _LEAST_FACTS = 16, 12  # cells
_IN_A_PIPE = 200


@click.command("replay", short_help="Show a session's timeline as it happened.")
@click.argument("session_id", metavar="SESSION")
@click.option(
    "--speed",
    type=Finite(min=0, min_open=True),
    help="Wait between rows as in reality, this many times faster: 1 is real time, 60 is a minute per second.",
)
@click.option(
    "--max-wait",
    "most",
    type=Finite(min=0),
    default=2.0,
    show_default=True,
    help="With --speed, wait this many seconds at most between two rows.",
)
@click.option("--quiet", is_flag=True, help="Only what was said, thought and called, and what failed.")
@click.option("--full", is_flag=True, help="Print complete texts, not only their beginnings.")
@click.option("--pager/--no-pager", default=True, help="Show long output in a pager [default: in a terminal].")
@click.option("--json", "as_json", is_flag=True, help="Print JSON, one row per line.")
@at_option
@store_option
def replay_command(
    store: str | None,
    session_id: str,
    speed: float | None,
    most: float,
    quiet: bool,
    full: bool,
    pager: bool,
    at: str | int | None,
    as_json: bool,
) -> None:
    """Show a session's timeline, one row per event: time since the start, who, what, tool, duration, tokens.

    With --speed, keys in a terminal: space pauses, right or n shows the next row, left or b goes 10 rows back,
    + and - change the speed, g goes to the end, q quits.
    """
    with open_manager(store) as manager:
        session_id, at = naming.at_moment(manager, session_id, at)
        rows = (row for row in manager.timeline(session_id, at) if not quiet or row.what in _TALK)
        if as_json:
            for row in rows:
                print_json(row.to_dict())
        elif speed:
            from eventstore.cli.player import play

            play(list(in_order(rows)), speed, most, partial(_show_after, full=full))
        else:
            with paged(wanted=pager):
                for row in with_gaps(in_order(rows)):
                    print_row(row, full=full)


def _show_after(row: "Row", gap_seconds: float, *, full: bool) -> None:
    say_gap(gap_seconds)
    print_row(row, full=full)


def in_order(rows: "Iterable[Row]") -> "Iterator[Row]":
    """Return rows.

    Rows that have only the time of writing, such as redactions and checkpoints, get the time of their neighbour.
    """
    latest = 0.0
    for row in rows:
        if row.what in _WRITTEN:
            yield replace(row, since_start_seconds=latest)
        else:
            latest = row.since_start_seconds
            yield row


def with_gaps(rows: "Iterable[Row]") -> "Iterator[Row]":
    """Stream rows; in a terminal, mark gaps of more than an hour."""
    before: float | None = None
    for row in rows:
        if before is not None and is_terminal():
            say_gap(row.since_start_seconds - before)
        before = max(before or 0.0, row.since_start_seconds)
        yield row


def say_gap(seconds: float) -> None:
    """Print how long nothing happened, where that is more than an hour."""
    if seconds > _LONG_AGO_SECONDS:
        click.echo(click.style(f"{'…':>12} {long(seconds)} later", dim=True))


def long(seconds: float) -> str:
    """Format a long time in one unit: 3 hours, 12 days."""
    for size, name in ((86_400 * 2, "days"), (3_600, "hours"), (60, "minutes")):
        if seconds >= size:
            return f"{seconds / (86_400 if name == 'days' else size):,.0f} {name}"
    return f"{seconds:.0f} seconds"


def print_row(row: "Row", *, full: bool = False, front: str = "") -> None:
    """Print `front` and one row. The text is cut to the width of the terminal, and to 200 characters in a pipe."""
    is_narrow = is_terminal() and width() < _NARROW
    at = since_start(row.since_start_seconds)
    parts = [
        front,
        click.style((at.partition(".")[0] if is_narrow else at).rjust(6 if is_narrow else 12), dim=True),
        click.style(_name(row.who, is_narrow=is_narrow), fg=COLOURS.get(row.who)),
        click.style(row.what.ljust(9), bold=True, fg="red" if row.what == "failed" else None),
    ]
    left = width() - _used(parts) - (_LEAST_TEXT if row.text else 0) - len("[]")
    if facts := _facts(row, max(left, _LEAST_FACTS) if is_terminal() else None):
        parts.append(click.style(f"[{facts}]", fg="cyan"))
    room = max(width() - _used(parts), 0) if is_terminal() else _IN_A_PIPE
    if full:
        parts.append(clean(row.text, keep_lf=True))
    elif row.text.strip():
        parts.append(one_line(row.text, max(room, 1)))
    click.echo(" ".join(part for part in parts if part).rstrip())


def _name(who: str, *, is_narrow: bool) -> str:
    """Return who did it: filled to a column, and cut only where the name is very long."""
    least, most = (9, 20) if is_narrow else (10, 24)
    name = one_line(who, most)
    return name if cells(name) >= least else pad(name, least)


def _used(parts: "Iterable[str]") -> int:
    return sum(cells(click.unstyle(part)) + 1 for part in parts if part)


def _facts(row: "Row", room: int | None) -> str:
    """Return tool, duration and tokens in so many cells: the name of the tool is cut first."""
    name, used = clean(row.tool_name or ""), tokens(row.tokens)
    if room is not None and cells(used) > room:
        used = f"{sum(row.tokens.values()):,} tokens"
    rest = ", ".join(fact for fact in (duration(row.duration_ms) if row.duration_ms else "", used) if fact)
    if room is not None and name:
        name = cut(name, max(room - (cells(rest) + 2 if rest else 0), _LEAST_FACTS // 2))
    return ", ".join(fact for fact in (name, rest) if fact)
