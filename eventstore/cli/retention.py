"""Commands on what goes and what stays: cleanup, pin, restore, fork."""

from collections.abc import Iterable

import click

from eventstore.cli.store import as_moment, exit_for, open_manager, store_option
from eventstore.cli.terminal import Column, Finite, clean, print_json, print_table
from eventstore.errors import LogDamaged
from eventstore.settings import load_settings
from eventstore.store.retention import Expiry

_COLUMNS = (Column("SESSION"), Column("DOES", "cyan"), Column("BYTES", number=True), Column("WHY"))
_DONE = {"trash": "moved to the trash", "purge": "deleted for good"}


@click.command("cleanup", short_help="Put old sessions in the trash, after saying which and why.")
@click.option("--days", type=Finite(min=0), help="How old: without it the settings say.")
@click.option("--grace", type=Finite(min=0), default=7, show_default=True, help="Days in the trash.")
@click.option("--dry-run", is_flag=True, help="Only say what would be done, and why.")
@click.option("--json", "as_json", is_flag=True, help="Print JSON, one session a line.")
@store_option
def cleanup_command(store: str | None, days: float | None, grace: float, dry_run: bool, as_json: bool) -> None:
    """Put sessions in the trash that were last updated so many days ago, and delete for good what is in it for long enough.

    Pinned sessions stay. What is in the trash comes back with `eventstore restore`, until its days of grace are over.
    """
    age = load_settings().retention_days if days is None else days
    damaged: list[LogDamaged] = []
    with open_manager(store) as manager:
        plan = manager.trash.plan_cleanup(age, grace, damaged.append)
        done = [] if dry_run else manager.trash.clean_up(plan)
    shown = plan if dry_run else done
    if as_json:
        for one in shown:
            print_json({**vars(one), "done": not dry_run})
    elif shown:
        print_table(_COLUMNS, ([one.session_id, one.action, f"{one.size_bytes:,}", clean(one.reason)] for one in shown))
    click.echo("nothing was changed" if dry_run else _summary(done), err=True)
    exit_for(damaged)


def _summary(done: Iterable[Expiry]) -> str:
    actions = [one.action for one in done]
    return ", ".join(f"{actions.count(action)} {text}" for action, text in _DONE.items())  # type: ignore[arg-type]


@click.command("pin", short_help="Keep a session whatever its age.")
@click.argument("session_id", metavar="SESSION")
@click.option("--remove", is_flag=True, help="Let it age again.")
@store_option
def pin_command(store: str | None, session_id: str, remove: bool) -> None:
    """Keep a session whatever its age, or no longer."""
    with open_manager(store) as manager:
        manager.pin_session(session_id, not remove)
    click.echo(f"{session_id} {'ages again' if remove else 'is kept'}")


@click.command("restore", short_help="Restore a session from the trash.")
@click.argument("session_id", metavar="SESSION")
@store_option
def restore_command(store: str | None, session_id: str) -> None:
    """Bring back the session that was last put in the trash under this id."""
    with open_manager(store) as manager:
        manager.trash.restore(session_id)
    click.echo(f"{session_id} is back")


@click.command("fork", short_help="Start a session with the events of another so far.")
@click.argument("session_id", metavar="SESSION")
@click.argument("new_id", metavar="[NEW]", required=False)
@click.option("--at", metavar="MOMENT", help="Up to then: after so many events, or at a time.")
@store_option
def fork_command(store: str | None, session_id: str, new_id: str | None, at: str | None) -> None:
    """Begin a session with another's past, to the end or a moment, without copying it, and print its id."""
    with open_manager(store) as manager:
        click.echo(manager.fork_session(session_id, None if at is None else as_moment(at), new_id))
