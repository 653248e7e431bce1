"""Search: find messages, purposes and tool calls in all sessions."""

import re
import sys
from collections.abc import Sequence
from datetime import datetime
from typing import TYPE_CHECKING

import click

from eventstore.cli import naming
from eventstore.cli.place import count_sessions, locate, no_sessions
from eventstore.cli.store import at_option, exit_for, open_manager, since_option, store_option, until_option
from eventstore.cli.terminal import (
    Column,
    cells,
    clean,
    cut,
    is_terminal,
    moment,
    one_line,
    pad,
    print_json,
    print_table,
    progress,
    relative,
    width,
)
from eventstore.derived.search_query import SEARCH_WAIT_S
from eventstore.derived.search_text import parse
from eventstore.errors import LogDamaged

if TYPE_CHECKING:
    from eventstore import Hit, SessionManager
    from eventstore.derived.search_query import Hits

_NARROW = 24  # cells: a snippet gets its own line where less is left
_COLUMNS = [Column(name) for name in ("PLACE", "TIME", "WHO", "TEXT", "TITLE", "PROJECT")]
_FOUND = {
    "beginnings": "no message has these as complete words: these begin with them",
    "parts": "no word begins so: these have it inside of words",
    "some words": "no message has all of these words: these have some",
}


@click.command("search", short_help="Search the messages and tool calls of all sessions.")
@click.argument("text", nargs=-1, required=True)
@click.option("--user", help="Only in sessions of this user.")
@click.option(
    "--role",
    type=click.Choice(["user", "assistant", "tool", "system", "purpose", "call"]),
    help="Only of this role; purpose are titles, call are tool calls.",
)
@click.option("--tool", help="Only of this tool.")
@click.option("--project", help="Only in sessions of this folder: its name, or a path (. is this folder).")
@click.option("--session", "session_id", help="Only in this session.")
@since_option("Only from this time on, such as yesterday, 7d or 2025-10.")
@until_option("Only until this time.")
@click.option("--limit", type=click.IntRange(min=0), default=20, show_default=True, help="The maximum number of hits.")
@click.option("--wait", is_flag=True, help="Wait until everything is indexed.")
@click.option("--json", "as_json", is_flag=True, help="Print JSON, one hit per line.")
@at_option
@store_option
def search_command(
    store: str | None,
    text: tuple[str, ...],
    user: str | None,
    role: str | None,
    tool: str | None,
    project: str | None,
    session_id: str | None,
    since: str | None,
    until: str | None,
    limit: int,
    wait: bool,
    as_json: bool,
    at: str | int | None,
) -> None:
    """Find messages, purposes and tool calls, the best first; what people typed comes before what tools printed.

    All words must match; word* matches a beginning, *word* the inside of words. Where nothing has all words, parts of words are
    searched, then some of the words. `eventstore show ID:SEQ -C 3` shows a hit with the messages around it.

    The exit status is 1 if nothing was found, or a session could not be read.
    """
    _check_text(" ".join(text))
    damaged: list[LogDamaged] = []
    with open_manager(store) as manager:
        if wait:
            _index(manager, damaged)
        hits = manager.search(
            " ".join(text),
            user_id=user,
            role=role,
            tool=tool,
            project=None if project is None else naming.as_project(project),
            session_id=None if session_id is None else naming.session(manager, session_id),
            since=since,
            until=until,
            at=at,
            limit=limit,
            wait_s=SEARCH_WAIT_S,
            on_damage=damaged.append,
        )
    for hit in hits:
        if as_json:
            print_json({**hit._asdict(), "indexing": hits.indexing and hits.indexing._asdict(), "found": hits.found})
    if not as_json:
        _print(hits, store)
    if not hits and not damaged:
        click.echo(
            "eventstore: --limit is 0: no hit is shown" if limit == 0 else _nothing(store, " ".join(text)), err=True
        )
    if hits and hits.found in _FOUND:
        click.echo(f"eventstore: {_FOUND[hits.found]}", err=True)
    if hits.indexing:
        click.echo(
            f"eventstore: {hits.indexing.done:,} of {hits.indexing.total:,} sessions are indexed so far: search again, or with "
            "--wait",
            err=True,
        )
    exit_for(damaged)
    sys.exit(0 if hits else 1)


def _check_text(text: str) -> None:
    """Raise BadParameter for a text without a word, or with half a pair of quotation marks."""
    if text.count('"') % 2:
        raise click.BadParameter(
            f"{clean(text)} has a quotation mark without a second one: write eventstore search '\"exit code\" login'",
            param_hint="TEXT",
        )
    if not parse(text):
        raise click.BadParameter(
            f"{clean(text)!r} has no word to search for: write eventstore search login, or eventstore search 'log*'",
            param_hint="TEXT",
        )


def _index(manager: "SessionManager", damaged: list[LogDamaged]) -> None:
    """Index everything, with a progress bar."""
    with progress("indexing", None) as bar:
        while (found := manager.search("", limit=0, wait_s=0.5, on_damage=lambda damage: None).indexing) is not None:
            if bar:
                bar.update(bar.task_ids[0], completed=found.done, total=found.total)


def _nothing(store: str | None, text: str) -> str:
    """Return what to say where nothing was found."""
    folder = locate(store).sessions
    if folder is not None and not count_sessions(folder):
        return f"eventstore: {no_sessions(store)}"
    return f"eventstore: nothing found for '{one_line(text, 60)}': try fewer words, or fewer filters"


def _print(hits: "Hits", store: str | None) -> None:
    """Print hits: in a pipe one a line, with tabs; in a terminal those of one session together under its title."""
    if not is_terminal():
        if hits:
            print_table(_COLUMNS, (_row(hit) for hit in hits))
        return
    groups: dict[str, list[Hit]] = {}
    for hit in hits:
        groups.setdefault(hit.session_id, []).append(hit)
    short = naming.short_ids(store, list(groups))
    for number, found in enumerate(groups.values()):
        if number:
            click.echo()
        _print_group(found, short(found[0].session_id))


def _print_group(found: "Sequence[Hit]", name: str) -> None:
    first = found[0]
    project = naming.project_of({"cwd": first.project} if first.project else {})
    behind = "  ".join(part for part in (one_line(project, 20), relative(datetime.fromisoformat(first.time))) if part)
    title = cut(one_line(first.title or first.session_id), max(width() - cells(behind) - 2, 10))
    click.echo(f"{click.style(title, bold=True)}  {click.style(behind, dim=True)}")
    places = [f"{name}:{hit.seq}" for hit in found]
    front = max(map(cells, places))
    for hit, place in zip(found, places, strict=True):
        who = one_line(f"{hit.role} {hit.tool_name}" if hit.tool_name else hit.role, 14)
        room = width() - front - 2 - 2 - 14 - 2
        shown = f"  {click.style(pad(place, front), fg='cyan')}  {click.style(pad(who, 14), dim=True)}"
        click.echo(f"{shown}  {_marked(hit, room)}" if room >= _NARROW else f"{shown}\n    {_marked(hit, width() - 4)}")


def _row(hit: "Hit") -> list[str]:
    return [
        f"{hit.session_id}:{hit.seq}",
        moment(datetime.fromisoformat(hit.time)),
        clean(f"{hit.role} {hit.tool_name}" if hit.tool_name else hit.role),
        clean(hit.snippet),
        one_line(hit.title or ""),
        one_line(hit.project or ""),
    ]


def _marked(hit: "Hit", room: int) -> str:
    """Return the snippet on one line, cut, with its matches in colour instead of in brackets."""
    parts, done = list[tuple[str, bool]](), 0
    for start, end in hit.marks:
        parts += [(hit.snippet[done : start - 1], False), (hit.snippet[start:end], True)]
        done = end + 1
    parts.append((hit.snippet[done:], False))
    shown, used = list[str](), 0
    for text, is_match in parts:
        line = cut(_on_a_line(text), room - used)
        used += cells(line)
        shown.append(click.style(line, fg="red", bold=True) if is_match and line else line)
        if line.endswith("…") or used >= room:
            break
    return "".join(shown).strip()


def _on_a_line(text: str) -> str:
    return clean(re.sub(r"\s+", " ", text))
