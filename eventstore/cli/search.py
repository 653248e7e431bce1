"""Search: find messages, purposes and tool calls in all sessions."""

import sys

import click

from eventstore.cli.store import at_option, exit_for, open_manager, store_option
from eventstore.cli.terminal import clean, print_json
from eventstore.errors import LogDamaged


@click.command("search", short_help="Search the messages and tool calls of all sessions.")
@click.argument("text", nargs=-1, required=True)
@click.option("--user", help="Only in sessions of this user.")
@click.option("--role", help="Only of this role: user, assistant, tool, system; purpose, or call.")
@click.option("--tool", help="Only of this tool.")
@click.option("--since", metavar="TIME", help="Only from this time on.")
@click.option("--limit", type=click.IntRange(min=0), default=20, show_default=True, help="The maximum number of hits.")
@click.option("--json", "as_json", is_flag=True, help="Print JSON, one hit per line.")
@at_option
@store_option
def search_command(
    store: str | None,
    text: tuple[str, ...],
    user: str | None,
    role: str | None,
    tool: str | None,
    since: str | None,
    limit: int,
    as_json: bool,
    at: str | int | None,
) -> None:
    """Find messages, purposes and tool calls, the best first. All words must match; word* matches a prefix.

    The exit status is 1 if nothing was found, or a session could not be read.
    """
    damaged: list[LogDamaged] = []
    with open_manager(store) as manager:
        hits = manager.search(
            " ".join(text),
            user_id=user,
            role=role,
            tool=tool,
            since=since,
            at=at,
            limit=limit,
            on_damage=damaged.append,
        )
    for hit in hits:
        if as_json:
            print_json(hit._asdict())
            continue
        place = click.style(f"{hit.session_id}:{hit.seq}", fg="cyan")
        who = click.style(clean(f"{hit.role} {hit.tool_name}" if hit.tool_name else hit.role), dim=True)
        click.echo(f"{place}  {who}  {clean(hit.snippet)}")
    exit_for(damaged)
    sys.exit(0 if hits else 1)
