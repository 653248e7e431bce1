"""The life of a session: create, trash, delete."""

import sys
from collections.abc import Sequence

import click

from eventstore.cli.store import open_manager, store_option
from eventstore.cli.terminal import clean
from eventstore.errors import LogDamaged, SessionNotFound

_session = click.argument("session_id", metavar="SESSION")


@click.command("create", short_help="Begin a session, and print its id.")
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
        if template is not None and template not in manager.list_templates():
            raise click.ClickException(f"there is no template {clean(template)!r}; nothing was created")
        session = manager.create_session(session_id, purpose, user, tags or None, template=template)
    click.echo(session.metadata.session_id)


@click.command("trash", short_help="Put a session in the trash.")
@_session
@store_option
def trash_command(store: str | None, session_id: str) -> None:
    """Put a session in the trash, out of which `eventstore restore` brings it back until cleanup empties it."""
    with open_manager(store) as manager:
        if not manager.trash_session(session_id):
            raise SessionNotFound(session_id)
    click.echo(f"{session_id} is in the trash")


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
            calls = " with the folders of its tool calls" if history else ""
            click.echo(f"{session_id}: {told}, and its views would be deleted for good{calls}")
            click.echo("nothing was deleted: say --yes to do it", err=True)
            sys.exit(1)
        if not manager.delete_session(session_id, history=history):
            raise SessionNotFound(session_id)
    click.echo(f"{session_id} is deleted for good")
