"""Commands on sessions: list, show, stats, diff, tree."""

from collections.abc import Iterator, Sequence
from datetime import UTC, datetime
from typing import TYPE_CHECKING, Any, get_args

import click

from eventstore.cli import naming
from eventstore.cli.place import no_sessions
from eventstore.cli.reading import Style, paged, print_session
from eventstore.cli.store import (
    as_moment,
    at_option,
    exit_for,
    list_rows,
    open_manager,
    since_option,
    store_option,
    until_option,
)
from eventstore.cli.sub_agents import as_json as sub_agents_json
from eventstore.cli.sub_agents import below, print_sub_agents
from eventstore.cli.terminal import (
    Cell,
    Column,
    cells,
    clean,
    cost,
    count,
    cut,
    duration,
    is_terminal,
    moment,
    one_line,
    plain,
    print_json,
    print_pairs,
    print_table,
    relative,
    some,
    tokens,
    width,
)
from eventstore.derived.listing import Filter, Sort
from eventstore.errors import LogDamaged, SessionNotFound
from eventstore.record import clock

if TYPE_CHECKING:
    from eventstore import At, Change, Session, SessionManager

_json = click.option("--json", "as_json", is_flag=True, help="Print JSON, one object per line.")
_COLUMNS = (
    Column("ID", "cyan", name="session_id"),
    Column("STATUS", name="status", drop=4),
    Column("UPDATED", name="updated_at"),
    Column("PROJECT", "magenta", name="project", least=10, drop=2),
    Column("TITLE", name="purpose", least=24),
    Column("CALLS", number=True, name="total_invocations", drop=5),
    Column("TOKENS", number=True, name="tokens", drop=1),
    Column("COST", number=True, name="estimated_cost", drop=3),
    Column("USER", name="user_id", least=6, drop=6),
    Column("TAGS", "yellow", name="tags", least=6, drop=7),
)
_STATUS_COLOURS = {"completed": "green", "failed": "red", "abandoned": "yellow"}


def load(manager: "SessionManager", session_id: str, at: "At | None" = None) -> "Session":
    """Load a session, now or as of a moment. Raises SessionNotFound, also if it began later."""
    session = manager.get_session(session_id, at)
    if session is None:
        raise SessionNotFound(session_id, not_begun=at is not None)
    return session


@click.command("list", short_help="List sessions, the most recently updated first.")
@click.option("--user", help="Only sessions of this user.")
@click.option(
    "--status", type=click.Choice(["active", "completed", "failed", "abandoned"]), help="Only with this status."
)
@click.option("--tag", "tags", multiple=True, help="Only with this tag; may be repeated.")
@click.option("--purpose", help="Only with this text in their title.")
@click.option("--project", help="Only in this folder: its name, or a path (. is this folder).")
@since_option("Only updated at or after this, such as yesterday, 7d or 2025-10.")
@until_option("Only updated at or before this.")
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
@click.option("--sub-agents", is_flag=True, help="Also sub-agents, which calls of other sessions started.")
@at_option
@_json
@store_option
def list_command(
    store: str | None,
    user: str | None,
    status: str | None,
    tags: Sequence[str],
    purpose: str | None,
    project: str | None,
    since: str | None,
    until: str | None,
    sort: Sort,
    limit: int,
    sub_agents: bool,
    at: str | int | None,
    as_json: bool,
) -> None:
    """List sessions, the most recently updated first, without sub-agents. Times are shown in your time zone."""
    damaged: list[LogDamaged] = []
    wanted = Filter(user, status, tags, purpose, _as_time(since), _as_time(until), sort, min(limit, 2**53))
    wanted = wanted._replace(sub_agents=sub_agents or _is_about_sub_agents(tags))
    if project is None:
        found = list_rows(store, wanted, at, damaged.append)
    else:
        every = list_rows(store, wanted._replace(limit=None), at, damaged.append)
        wanted_project = naming.as_project(project)
        found = [one for one in every if naming.is_of(one["custom_metadata"], wanted_project)][:limit]
    if as_json:
        for one in found:
            print_json(one)
    elif found:
        print_table(_COLUMNS, _rows(store, found))
        if len(found) == limit and is_terminal():
            click.echo(f"the first {limit}: --limit shows more, --project, --since or --purpose fewer", err=True)
    elif not damaged:
        asked = (user, status, tags, purpose, project, since, until, at is not None, not limit)
        click.echo(no_sessions(store, every=not any(asked)), err=True)
    exit_for(damaged)


def _is_about_sub_agents(tags: Sequence[str]) -> bool:
    """Return whether a request for these tags includes sub-agents."""
    return "sub-agent" in tags


def _as_time(text: str | None) -> str | None:
    """Parse a time into the format of the catalogue. Raises NoSuchMoment."""
    if text is None:
        return None
    from eventstore.store import as_of as moments

    return clock.to_iso(moments.as_text(text))


def _rows(store: str | None, found: Sequence[dict[str, Any]]) -> Iterator[list[str | Cell]]:
    short = naming.short_ids(store, [one["session_id"] for one in found])
    now = datetime.now(UTC)
    for one in found:
        updated, used = datetime.fromisoformat(one["updated_at"]), sum((one["token_usage"] or {}).values())
        yield [
            Cell(short(one["session_id"]), one["session_id"]),
            Cell("" if one["status"] == "active" else one["status"], one["status"], _STATUS_COLOURS.get(one["status"])),
            Cell(relative(updated, now), moment(updated)),
            clean(naming.project_of(one["custom_metadata"])),
            _title(one),
            Cell(f"{one['total_invocations']:,}" if one["total_invocations"] else "", str(one["total_invocations"])),
            Cell(count(used) if used else "", str(used)),
            cost(one["estimated_cost"]),
            clean(one["user_id"] or ""),
            clean(",".join(one["tags"])),
        ]


def _title(one: dict[str, Any]) -> str | Cell:
    """Return the purpose of a session; in a terminal, where there is none, the name that another program has for it."""
    if one["purpose"]:
        return one_line(one["purpose"], 200)
    key = one.get("external_key")
    return Cell(one_line(key, 200), "") if key else Cell("(none)", "", "bright_black")


@click.command("show", short_help="Show a session: its metadata and its conversation.")
@click.argument("session_id", metavar="SESSION[:SEQ]")
@click.option(
    "-C", "--context", type=click.IntRange(min=0), default=3, show_default=True, help="With :SEQ, messages around it."
)
@click.option("--full", is_flag=True, help="Fold nothing.")
@click.option("--plain", is_flag=True, help="Show texts as they were written, without Markdown.")
@click.option("--pager/--no-pager", default=True, help="Show long output in a pager [default: in a terminal].")
@at_option
@_json
@store_option
def show_command(
    store: str | None,
    session_id: str,
    context: int,
    full: bool,
    plain: bool,
    pager: bool,
    at: str | int | None,
    as_json: bool,
) -> None:
    """Show the metadata and the conversation of a session; with SESSION:SEQ, one event and the messages around it.

    In a terminal Markdown is rendered and long outputs are folded. Redacted events are marked where they were.
    """
    from eventstore.cli import calls as tool_calls  # late: `list` loads this module too, and shows none

    style = Style(full=full, plain=plain)
    with open_manager(store) as manager, paged(wanted=pager and not as_json):
        name, seq = naming.split(session_id)
        if seq is not None and at is None:
            from eventstore.cli.around import show_around  # it knows all events; a list does not

            show_around(manager, naming.session(manager, name), seq, context, style, as_json=as_json)
            return
        session_id, at = naming.at_moment(manager, session_id, at)
        session = load(manager, session_id, at)
        agents, calls = below(manager, session_id), tool_calls.told_in_events(manager, session_id, at)
        if as_json:
            more = {"calls": tool_calls.as_json(calls), "sub_agents": sub_agents_json(agents)}
            print_json({**session.to_dict(), **{name: found for name, found in more.items() if found}})
        else:
            print_session(session, manager.events(session_id), style)
            tool_calls.print_calls(calls)
            print_sub_agents(agents)


@click.command("stats", short_help="Show a session's figures.")
@click.argument("session_id", metavar="SESSION")
@click.option("--with-sub-agents", is_flag=True, help="Add the figures of its sub-agents.")
@at_option
@_json
@store_option
def stats_command(
    store: str | None, session_id: str, with_sub_agents: bool, at: str | int | None, as_json: bool
) -> None:
    """Show a session's figures: times, tool calls, messages, tokens, cost."""
    with open_manager(store) as manager:
        session_id, at = naming.at_moment(manager, session_id, at)
        found = manager.get_session_statistics(session_id, at, with_sub_agents=with_sub_agents)
        if found is None:
            raise SessionNotFound(session_id, not_begun=at is not None)
    if as_json:
        print_json(found)
        return
    print_pairs(_figures(found))


def _figures(found: dict[str, Any]) -> list[tuple[str, str]]:
    return [
        ("session", found["session_id"]),
        ("status", found["status"]),
        ("created", moment(datetime.fromisoformat(found["created_at"]))),
        ("updated", moment(datetime.fromisoformat(found["updated_at"]))),
        ("lasted", duration(found["duration_seconds"] * 1000)),
        *([("sub-agents", f"{found['sub_agents']:,}")] if "sub_agents" in found else []),
        ("messages", f"{found['message_count']:,}"),
        ("tool calls", f"{found['total_invocations']:,}"),
        ("in tools", duration(found["total_duration_ms"]) if found["total_duration_ms"] else ""),
        ("tools", clean(", ".join(found["tools_used"]))),
        ("tokens", tokens(found["token_usage"])),
        ("cost", cost(found["estimated_cost"])),
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
        session_id = naming.session(manager, session_id)
        changes = manager.diff(session_id, as_moment(a), None if b is None else as_moment(b))
    for change in changes:
        if as_json:
            print_json({"kind": change.kind, "key": change.key, "before": change.before, "after": change.after})
        else:
            _print_change(change)


def _print_change(change: "Change") -> None:
    name = f"{change.kind} {one_line(str(change.key), 40)}"
    for sign, colour, value in (("-", "red", change.before), ("+", "green", change.after)):
        if value is not None:
            line = f"{sign} {name}: {one_line(plain(value), 200)}"
            click.echo(click.style(cut(line, width()) if is_terminal() else line, fg=colour))


@click.command("tree", short_help="Show a session's tool calls, where their folders are, and its sub-agents.")
@click.argument("session_id", metavar="SESSION")
@at_option
@_json
@store_option
def tree_command(store: str | None, session_id: str, at: str | int | None, as_json: bool) -> None:
    """Show the links to a session's tool calls, and its sub-agents. Targets are relative to the history folder, or absolute."""
    with open_manager(store) as manager:
        session_id, at = naming.at_moment(manager, session_id, at)
        links = manager.tree(session_id, at)
        history = manager.tool_history
        agents = below(manager, session_id)
        count = len(manager.storage.summary(session_id, at).metadata.calls) - len(links)
    if as_json:
        print_json({**links, **({"sub_agents": sub_agents_json(agents)} if agents else {})})
        return
    if not links and not agents and not count:
        click.echo(f"{session_id} has neither tool calls nor sub-agents", err=True)
        return
    if links or is_terminal():
        print_tree(session_id, links, str(history.path) if history else "")
    print_sub_agents(agents, apart=bool(links) or is_terminal())
    if count > 0:
        without = "1 tool call has" if count == 1 else f"{count:,} tool calls have"
        click.echo(f"{without} no folder: `eventstore show {session_id}` lists all", err=True)


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
        name = link.partition("/")[2]
        arrow = "" if name == target else " → "
        room = width() - 8 - len(arrow)
        shown = cut(clean(target), room if not arrow else max(room - cells(name), room // 2)) if arrow else ""
        calls.add(Text.assemble(cut(name, room - cells(shown)), (arrow, "dim"), (shown, "green")))
    root.add(Text(f"{some(len(links), 'link')} into {clean(history)}", style="dim", no_wrap=True, overflow="ellipsis"))
    console().print(root)
