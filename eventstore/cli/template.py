"""Templates: saved beginnings of sessions."""

from typing import TYPE_CHECKING

import click

from eventstore.cli import naming
from eventstore.cli.reading import print_session
from eventstore.cli.store import as_moment, exit_for, open_manager, store_option
from eventstore.cli.terminal import Column, clean, one_line, print_json, print_table
from eventstore.errors import LogDamaged, SessionExists

if TYPE_CHECKING:
    from eventstore import SessionManager

_COLUMNS = (Column("TEMPLATE"), Column("MESSAGES", number=True), Column("CALLS", number=True), Column("PURPOSE"))
_name = click.argument("name", metavar="NAME")
_json = click.option("--json", "as_json", is_flag=True, help="Print JSON, one object per line.")


@click.group("template", short_help="Save, list, show and remove templates for new sessions.")
def template_command() -> None:
    """Save sessions as templates; `eventstore create --template NAME` creates a session from one."""


@template_command.command("save", short_help="Save a session's events so far as a template.")
@_name
@click.argument("session_id", metavar="SESSION")
@click.option("--at", metavar="MOMENT", help="Up to this moment: a number of events, or a time.")
@store_option
def save_command(store: str | None, name: str, session_id: str, at: str | None) -> None:
    """Save a session, up to its end or an earlier moment, as a template. Later changes of the session do not affect it."""
    with open_manager(store) as manager:
        session_id, moment = naming.at_moment(manager, session_id, None if at is None else as_moment(at))
        try:
            manager.templates.save(name, session_id, moment)
        except SessionExists:
            raise click.ClickException(
                f"template {name!r} exists already; nothing was saved: remove it, or choose another name"
            ) from None
    click.echo(f"{name} is saved")


@template_command.command("list", short_help="List templates by name.")
@_json
@store_option
def list_command(store: str | None, as_json: bool) -> None:
    """List templates by name."""
    rows, damaged = [], list[LogDamaged]()
    with open_manager(store) as manager:
        for name in sorted(manager.templates.list()):
            try:
                found = manager.templates.get(name)
            except LogDamaged as damage:
                damaged.append(damage)
                continue
            rows.append((name, len(found.conversation), found.metadata.total_invocations, found.metadata.purpose))
    if as_json:
        for row in rows:
            print_json(dict(zip(("name", "messages", "calls", "purpose"), row, strict=True)))
    elif rows:
        shown = ((name, f"{count:,}", f"{calls:,}", one_line(text or "", 200)) for name, count, calls, text in rows)
        print_table(_COLUMNS, shown)
    elif not damaged:
        click.echo("no templates", err=True)
    exit_for(damaged)


@template_command.command("show", short_help="Show a template as a session.")
@_name
@_json
@store_option
def show_command(store: str | None, name: str, as_json: bool) -> None:
    """Show a template as the session that would be created from it."""
    with open_manager(store) as manager:
        _need(manager, name)
        found = manager.templates.get(name)
    if as_json:
        print_json(found.to_dict())
    else:
        print_session(found)


@template_command.command("remove", short_help="Remove a template.")
@_name
@store_option
def remove_command(store: str | None, name: str) -> None:
    """Remove a template. Sessions created from it do not change."""
    with open_manager(store) as manager:
        _need(manager, name)
        manager.templates.remove(name)
    click.echo(f"{name} is removed")


def _need(manager: "SessionManager", name: str) -> None:
    if name not in manager.templates.list():
        raise click.ClickException(f"there is no template {clean(name)!r}: `eventstore template list` shows them")
