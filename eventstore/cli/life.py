"""Commands on the life of a session: create, trash, delete."""

import sys
from collections.abc import Sequence
from datetime import datetime
from typing import TYPE_CHECKING

import click

from eventstore.cli import naming
from eventstore.cli.store import open_manager, store_option
from eventstore.cli.terminal import Column, clean, moment, print_json, print_table, some
from eventstore.errors import LogDamaged, SessionNotFound

if TYPE_CHECKING:
    from eventstore import SessionManager

_TRASH = (Column("SESSION"), Column("SINCE"), Column("EVENTS", number=True), Column("BYTES", number=True))
_session = click.argument("session_id", metavar="SESSION")


@click.command("create", short_help="Create a session, and print its id.")
@click.argument("session_id", metavar="[SESSION]", required=False)
@click.option("--purpose", help="The purpose.")
@click.option("--user", help="The user.")
@click.option("--tag", "tags", multiple=True, help="A tag; may be repeated.")
@click.option("--template", metavar="NAME", help="Start from this template.")
@store_option
def create_command(
    store: str | None,
    session_id: str | None,
    purpose: str | None,
    user: str | None,
    tags: Sequence[str],
    template: str | None,
) -> None:
    """Create a session and print its id. Without SESSION an id is generated.

    With --template it starts with the events of the template; --purpose and --tag replace the template's.
    """
    with open_manager(store) as manager:
        if template is not None and template not in manager.templates.list():
            raise click.ClickException(f"there is no template {clean(template)!r}; nothing was created")
        session = manager.create_session(session_id, purpose, user, tags or None, template=template)
        naming.remember(manager, session.metadata.session_id)
        is_kept = manager.storage.log.capabilities.durable
    click.echo(session.metadata.session_id)
    if not is_kept:
        click.echo(
            "eventstore: this session is gone with its store: name another with --store, see `eventstore where`",
            err=True,
        )


@click.command("trash", short_help="Move a session to the trash, or list the trash.")
@click.argument("session_id", metavar="[SESSION]", required=False)
@click.option("--list", "listing", is_flag=True, help="List the trash; the default without SESSION.")
@click.option("--json", "as_json", is_flag=True, help="List as JSON, one session per line.")
@store_option
def trash_command(store: str | None, session_id: str | None, listing: bool, as_json: bool) -> None:
    """Move a session to the trash. `eventstore restore` restores it, until cleanup empties the trash.

    Its forks become independent for good: what they have of it is then counted by `analytics` and found by `search` once for each
    of them, and once more if it is restored.

    Without SESSION, list the trash: since when, events, bytes.
    """
    if session_id is not None and (listing or as_json):
        raise click.UsageError("--list and --json cannot be used with SESSION")
    with open_manager(store) as manager:
        if session_id is None:
            _list_trash(manager, as_json=as_json)
            return
        session_id = naming.session(manager, session_id)
        if not manager.trash.put(session_id):
            raise SessionNotFound(session_id)  # another program was faster
    click.echo(f"{session_id} is in the trash")


def _list_trash(manager: "SessionManager", *, as_json: bool) -> None:
    found = manager.trash.list()
    if as_json:
        for one in found:
            print_json(vars(one))
    elif found:
        rows = ([one.session_id, _since(one.since), f"{one.events:,}", f"{one.size_bytes:,}"] for one in found)
        print_table(_TRASH, rows)
    else:
        click.echo("the trash is empty", err=True)


def _since(at: str) -> str:
    return moment(datetime.fromisoformat(at)) if at else "unknown"


@click.command("delete", short_help="Delete a session permanently; without --yes show what would be deleted.")
@_session
@click.option("--yes", is_flag=True, help="Delete it. Without this, show what would be deleted, with exit status 1.")
@click.option("--history", is_flag=True, help="Also delete the folders of its tool calls to which no fork refers.")
@store_option
def delete_command(store: str | None, session_id: str, yes: bool, history: bool) -> None:
    """Delete the log and the views of a session permanently. Its forks stay intact; folders of tool calls are kept.

    The registry records its number of events and its last hash. This cannot be undone; `eventstore trash` can.
    """
    with open_manager(store) as manager:
        session_id = naming.session(manager, session_id, fixed=True)
        if not yes:
            try:
                head = manager.head(session_id)
                last = moment(datetime.fromisoformat(head.at))
                size = f"{some(head.version, 'event')}, {head.size_bytes:,} bytes, the last of {last}"
            except LogDamaged as damage:
                size = f"a damaged log with {damage.readable:,} readable events"
            what = "its views and the folders of its tool calls" if history else "its views"
            click.echo(f"{session_id}, with {what}, would be deleted permanently:\n  {size}")
            click.echo("nothing was deleted: use --yes to delete", err=True)
            sys.exit(1)
        if not manager.delete_session(session_id, history=history):
            raise SessionNotFound(session_id)  # another program was faster
    click.echo(f"{session_id} is deleted permanently")
