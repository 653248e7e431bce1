"""Commands on sessions: list, show, stats, diff, tree."""

from collections.abc import Sequence
from datetime import datetime
from typing import TYPE_CHECKING, Any, get_args

import click

from eventstore.cli.store import as_moment, at_option, exit_for, list_rows, open_manager, store_option
from eventstore.cli.terminal import (
    Column,
    clean,
    duration,
    heading,
    is_terminal,
    moment,
    one_line,
    print_json,
    print_pairs,
    print_table,
    tokens,
)
from eventstore.derived.catalog import Filter, Sort
from eventstore.errors import LogDamaged, SessionNotFound
from eventstore.record import clock

if TYPE_CHECKING:
    from eventstore import At, Change, ConversationMessage, Session, SessionManager, SessionMetadata

_json = click.option("--json", "as_json", is_flag=True, help="Print JSON, one object per line.")
_COLOURS = {"user": "green", "assistant": "blue", "tool": "magenta", "system": "yellow"}
_COLUMNS = (
    Column("SESSION"),
    Column("STATUS", "cyan"),
    Column("UPDATED"),
    Column("CALLS", number=True),
    Column("USER"),
    Column("TAGS", "yellow"),
    Column("PURPOSE"),
)


def load(manager: "SessionManager", session_id: str, at: "At | None" = None) -> "Session":
    """Load a session, now or as of a moment. Raises SessionNotFound."""
    session = manager.get_session(session_id, at)
    if session is None:
        raise SessionNotFound(session_id)
    return session


@click.command("list", short_help="List sessions, the most recently updated first.")
@click.option("--user", help="Only sessions of this user.")
@click.option(
    "--status", type=click.Choice(["active", "completed", "failed", "abandoned"]), help="Only with this status."
)
@click.option("--tag", "tags", multiple=True, help="Only with this tag; may be repeated.")
@click.option("--purpose", help="Only with this text in their purpose.")
@click.option("--since", metavar="TIME", help="Only updated at or after this.")
@click.option("--until", metavar="TIME", help="Only updated at or before this.")
@click.option(
    "--sort",
    type=click.Choice(get_args(Sort)),
    default="updated",
    show_default=True,
    help="The order; the greatest value first.",
)
@click.option(
    "--limit", type=click.IntRange(min=0), default=100, show_default=True, help="The maximum number of sessions."
)
@at_option
@_json
@store_option
def list_command(
    store: str | None,
    user: str | None,
    status: str | None,
    tags: Sequence[str],
    purpose: str | None,
    since: str | None,
    until: str | None,
    sort: Sort,
    limit: int,
    at: str | int | None,
    as_json: bool,
) -> None:
    """List sessions, the most recently updated first. Times are shown in your time zone."""
    damaged: list[LogDamaged] = []
    wanted = Filter(user, status, tags, purpose, _as_time(since), _as_time(until), sort, min(limit, 2**53))
    found = list_rows(store, wanted, at, damaged.append)
    if as_json:
        for one in found:
            print_json(one)
    elif found:
        print_table(_COLUMNS, (_row(one) for one in found))
    elif not damaged:
        click.echo("no sessions", err=True)
    exit_for(damaged)


def _as_time(text: str | None) -> str | None:
    """Parse a time into the format of the catalogue. Raises NoSuchMoment."""
    if text is None:
        return None
    from eventstore.store import as_of as moments

    return clock.to_iso(moments.as_text(text))


def _row(one: dict[str, Any]) -> list[str]:
    return [
        one["session_id"],
        one["status"],
        moment(datetime.fromisoformat(one["updated_at"])),
        str(one["total_invocations"]),
        clean(one["user_id"] or ""),
        clean(",".join(one["tags"])),
        one_line(one["purpose"] or "", 200),
    ]


@click.command("show", short_help="Show a session: its metadata and its conversation.")
@click.argument("session_id", metavar="SESSION")
@at_option
@_json
@store_option
def show_command(store: str | None, session_id: str, at: str | int | None, as_json: bool) -> None:
    """Show the metadata and the conversation of a session."""
    with open_manager(store) as manager:
        session = load(manager, session_id, at)
    if as_json:
        print_json(session.to_dict())
    else:
        print_session(session)


def print_session(session: "Session") -> None:
    """Print the metadata and the conversation of a session."""
    _print_metadata(session.metadata)
    for message in session.conversation:
        _print_message(message)


def _print_metadata(known: "SessionMetadata") -> None:
    heading(one_line(known.purpose or known.session_id))
    print_pairs(
        [
            ("session", known.session_id),
            ("status", known.status.value),
            ("created", moment(known.created_at)),
            ("updated", moment(known.updated_at)),
            ("user", clean(known.user_id or "")),
            ("tags", clean(", ".join(known.tags))),
            ("tools", clean(", ".join(known.tools_used))),
            ("tool calls", f"{known.total_invocations} in {duration(known.total_duration_ms)}"),
            ("tokens", tokens(known.token_usage)),
            ("cost", "" if known.estimated_cost is None else f"{known.estimated_cost:.4f}"),
            *((clean(name), one_line(str(value))) for name, value in known.custom_metadata.items()),
        ]
    )


def _print_message(message: "ConversationMessage") -> None:
    who = f"{message.role} · {clean(message.tool_name)}" if message.tool_name else message.role
    when = moment(message.timestamp)
    click.echo()
    click.echo(click.style(who, fg=_COLOURS.get(message.role), bold=True) + click.style(f"  {when}", dim=True))
    click.echo(clean(message.content, keep_lf=True))


@click.command("stats", short_help="Show a session's figures.")
@click.argument("session_id", metavar="SESSION")
@at_option
@_json
@store_option
def stats_command(store: str | None, session_id: str, at: str | int | None, as_json: bool) -> None:
    """Show a session's figures: times, tool calls, messages, tokens, cost."""
    with open_manager(store) as manager:
        found = manager.get_session_statistics(session_id, at)
    if found is None:
        raise SessionNotFound(session_id)
    if as_json:
        print_json(found)
        return
    print_pairs(_figures(found))


def _figures(found: dict[str, Any]) -> list[tuple[str, str]]:
    cost = found["estimated_cost"]
    return [
        ("session", found["session_id"]),
        ("status", found["status"]),
        ("created", found["created_at"]),
        ("updated", found["updated_at"]),
        ("lasted", duration(found["duration_seconds"] * 1000)),
        ("messages", f"{found['message_count']:,}"),
        ("tool calls", f"{found['total_invocations']:,}"),
        ("in tools", duration(found["total_duration_ms"])),
        ("tools", clean(", ".join(found["tools_used"]))),
        ("tokens", tokens(found["token_usage"])),
        ("cost", "" if cost is None else f"{cost:.4f}"),
    ]


@click.command("diff", short_help="Show what changed in a session between two moments.")
@click.argument("session_id", metavar="SESSION")
@click.argument("a", metavar="FROM")
@click.argument("b", metavar="[TO]", required=False)
@_json
@store_option
def diff_command(store: str | None, session_id: str, a: str, b: str | None, as_json: bool) -> None:
    """Show what changed in a session between two moments, which are numbers of events or times. Without TO: until now."""
    with open_manager(store) as manager:
        changes = manager.diff(session_id, as_moment(a), None if b is None else as_moment(b))
    for change in changes:
        if as_json:
            print_json({"kind": change.kind, "key": change.key, "before": change.before, "after": change.after})
        else:
            _print_change(change)


def _print_change(change: "Change") -> None:
    name = f"{change.kind} {one_line(str(change.key), 60)}"
    for sign, colour, value in (("-", "red", change.before), ("+", "green", change.after)):
        if value is not None:
            click.echo(click.style(f"{sign} {name}: {one_line(str(value), 200)}", fg=colour))


@click.command("tree", short_help="Show a session's tool calls and where their folders are.")
@click.argument("session_id", metavar="SESSION")
@at_option
@_json
@store_option
def tree_command(store: str | None, session_id: str, at: str | int | None, as_json: bool) -> None:
    """Show the links to a session's tool calls. Targets are relative to the history folder, or absolute."""
    with open_manager(store) as manager:
        links = manager.tree(session_id, at)
        history = manager.tool_history
    if as_json:
        print_json(links)
        return
    print_tree(session_id, links, str(history.path) if history else "")


def print_tree(session_id: str, links: dict[str, str], history: str) -> None:
    """Print a session's links as a tree."""
    if not is_terminal():
        for link, target in links.items():
            click.echo(f"{session_id}/{link}\t{clean(target)}")
        return
    from rich.text import Text
    from rich.tree import Tree

    from eventstore.cli.terminal import console

    root = Tree(Text(session_id, style="bold"))
    calls = root.add(Text("invocations", style="cyan"))
    for link, target in links.items():
        calls.add(Text.assemble(link.partition("/")[2], (" → ", "dim"), (clean(target), "green")))
    root.add(Text(f"{len(links)} links into {clean(history)}", style="dim"))
    console().print(root)
