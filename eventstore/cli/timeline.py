"""Replay: print the timeline of a session."""

import shutil
import sys
import time
from collections.abc import Iterator
from typing import TYPE_CHECKING

import click

from eventstore.cli.store import at_option, open_manager, store_option
from eventstore.cli.terminal import Finite, clean, duration, is_terminal, one_line, print_json, since_start, tokens

if TYPE_CHECKING:
    from projections.timeline import Row

_LONGEST_SLEEP_SECONDS = 3600.0
_COLOURS = {"user": "green", "assistant": "blue", "tool": "magenta", "model": "cyan", "session": "yellow", "log": "red"}


@click.command("replay", short_help="Show a session's timeline as it happened.")
@click.argument("session_id", metavar="SESSION")
@click.option(
    "--speed",
    type=Finite(min=0, min_open=True),
    help="Wait between rows as in reality, this many times faster: 1 is real time, 60 is a minute per second.",
)
@click.option("--full", is_flag=True, help="Print complete texts, not only their beginnings.")
@click.option("--json", "as_json", is_flag=True, help="Print JSON, one row per line.")
@at_option
@store_option
def replay_command(
    store: str | None, session_id: str, speed: float | None, full: bool, at: str | int | None, as_json: bool
) -> None:
    """Show a session's timeline, one row per event: time since the start, who, what, tool, duration, tokens."""
    with open_manager(store) as manager:
        for row in _in_time(manager.timeline(session_id, at), speed):
            if as_json:
                print_json(row.to_dict())
            else:
                print_row(row, full=full)


def _in_time(rows: "Iterator[Row]", speed: float | None) -> "Iterator[Row]":
    began = time.monotonic()
    for row in rows:
        wait = row.since_start_seconds / speed - (time.monotonic() - began) if speed else 0.0
        if wait > 0:
            sys.stdout.flush()
        while wait > 0:  # in steps: sleep raises OverflowError for very long waits
            time.sleep(min(wait, _LONGEST_SLEEP_SECONDS))
            wait -= _LONGEST_SLEEP_SECONDS
        yield row


def print_row(row: "Row", *, full: bool = False, front: str = "") -> None:
    """Print `front` and one row. The text is cut to the width of the terminal, and to 200 characters in a pipe."""
    facts = _facts(row)
    width = (
        shutil.get_terminal_size((100, 24)).columns - 35 - len(facts) - len(click.unstyle(front))
        if is_terminal()
        else 200
    )
    text = clean(row.text, keep_lf=True) if full else one_line(row.text, max(width, 20)) if row.text else ""
    parts = [
        front,
        click.style(since_start(row.since_start_seconds).rjust(12), dim=True),
        click.style(one_line(row.who, 10).ljust(10), fg=_COLOURS.get(row.who)),
        click.style(row.what.ljust(9), bold=True),
        click.style(facts, fg="cyan") if facts else "",
        text,
    ]
    click.echo(" ".join(part for part in parts if part).rstrip())


def _facts(row: "Row") -> str:
    found = [clean(row.tool_name or ""), duration(row.duration_ms), tokens(row.tokens)]
    text = ", ".join(fact for fact in found if fact)
    return f"[{text}]" if text else ""
