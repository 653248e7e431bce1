"""The life of a session: create, trash, delete."""

import sys
from collections.abc import Sequence
from datetime import datetime
from typing import TYPE_CHECKING

import click

from eventstore.cli.store import open_manager, store_option
from eventstore.cli.terminal import Column, clean, moment, print_json, print_table
from eventstore.errors import LogDamaged, SessionNotFound

if TYPE_CHECKING:
    from eventstore import SessionManager

_TRASH = (Column("SESSION"), Column("SINCE"), Column("EVENTS", number=True), Column("BYTES", number=True))
_session = click.argument("session_id", metavar="SESSION")


@click.command("create", short_help="Create a session, and print its id.")
@click.argument("session_id", metavar="[SESSION]", required=False)
@click.option("--purpose", help="What it is for.")
@click.option("--user", help="Whose it is.")
@click.option("--tag", "tags", multiple=True, help="A tag; may be given again.")
@click.option("--template", metavar="NAME", help="Begin with what this template holds.")
@store_option
def create_command(
    store: str | None,
    session_id: str | None,
    purpose: str | None,
    user: str | None,
    tags: Sequence[str],
    template: str | None,
) -> None:
    """Begin a session and print its id, which is made up where none is given.

    With --template it begins with all that was said and done there; --purpose and --tag replace the template's.
    """
    with open_manager(store) as manager:
        if template is not None and template not in manager.templates.list():
            raise click.ClickException(f"there is no template {clean(template)!r}; nothing was created")
        session = manager.create_session(session_id, purpose, user, tags or None, template=template)
    click.echo(session.metadata.session_id)


@click.command("trash", short_help="Put a session in the trash, or list what is there.")
@click.argument("session_id", metavar="[SESSION]", required=False)
@click.option("--list", "listing", is_flag=True, help="List what is in the trash; so does leaving out SESSION.")
@click.option("--json", "as_json", is_flag=True, help="List it as JSON, one session a line.")
@store_option
def trash_command(store: str | None, session_id: str | None, listing: bool, as_json: bool) -> None:
    """Put a session in the trash, out of which `eventstore restore` brings it back until cleanup empties it.

    Without SESSION, list what is there: since when, how many events, how many bytes.
    """
    if session_id is not None and (listing or as_json):
        raise click.UsageError("--list and --json go without SESSION")
    with open_manager(store) as manager:
        if session_id is None:
            _list_trash(manager, as_json=as_json)
            return
        if not manager.trash.put(session_id):
            raise _not_found(manager, session_id)
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


def _not_found(manager: "SessionManager", session_id: str) -> SessionNotFound:
    """Say whether a session that is not there is in the trash."""
    return SessionNotFound(session_id, in_trash=any(one.session_id == session_id for one in manager.trash.list()))


@click.command("delete", short_help="Delete a session for good, after saying what would go.")
@_session
@click.option("--yes", is_flag=True, help="Do it. Without this it is only said what would go, with exit status 1.")
@click.option("--history", is_flag=True, help="The folders of its tool calls too, those that no fork refers to.")
@store_option
def delete_command(store: str | None, session_id: str, yes: bool, history: bool) -> None:
    """Delete a session for good, its log and its views. Sessions forked from it stay whole, folders of tool calls stay.

    The store's own log keeps how many events it had and the hash of the last. `eventstore trash` can be taken back, this cannot.
    """
    with open_manager(store) as manager:
        if not yes:
            try:
                head = manager.head(session_id)
                told = f"{head.version:,} events, {head.size_bytes:,} bytes, the last of {head.at}"
            except LogDamaged as damage:
                told = f"a damaged log, {damage.readable:,} events of which can be read"
            except SessionNotFound:
                raise _not_found(manager, session_id) from None
            calls = " with the folders of its tool calls" if history else ""
            click.echo(f"{session_id}: {told}, and its views would be deleted for good{calls}")
            click.echo("nothing was deleted: say --yes to do it", err=True)
            sys.exit(1)
        if not manager.delete_session(session_id, history=history):
            raise _not_found(manager, session_id)
    click.echo(f"{session_id} is deleted for good")
