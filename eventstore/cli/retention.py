"""Commands on retention, and fork: cleanup, pin, restore, fork."""

from collections.abc import Iterable

import click

from eventstore.cli.store import as_moment, exit_for, open_manager, store_option
from eventstore.cli.terminal import Column, Finite, clean, print_json, print_table
from eventstore.errors import LogDamaged
from eventstore.settings import load_settings
from eventstore.store.retention import Expiry

_COLUMNS = (Column("SESSION"), Column("ACTION", "cyan"), Column("BYTES", number=True), Column("WHY"))
_DONE = {"trash": "moved to the trash", "purge": "deleted permanently"}


@click.command("cleanup", short_help="Move old sessions to the trash, with the reasons.")
@click.option("--days", type=Finite(min=0), help="Age in days [default: from the settings].")
@click.option("--grace", type=Finite(min=0), default=7, show_default=True, help="Days in the trash.")
@click.option("--dry-run", is_flag=True, help="Only show what would be done, and why.")
@click.option("--json", "as_json", is_flag=True, help="Print JSON, one session per line.")
@store_option
def cleanup_command(store: str | None, days: float | None, grace: float, dry_run: bool, as_json: bool) -> None:
    """Move sessions that were last updated --days ago to the trash; delete those that were in the trash for --grace days.

    Pinned sessions are kept. `eventstore restore` restores a session from the trash.
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
@click.option("--remove", is_flag=True, help="Unpin it.")
@store_option
def pin_command(store: str | None, session_id: str, remove: bool) -> None:
    """Keep a session whatever its age; with --remove, no longer."""
    with open_manager(store) as manager:
        manager.pin_session(session_id, not remove)
    click.echo(f"{session_id} is {'no longer pinned' if remove else 'pinned'}")


@click.command("restore", short_help="Restore a session from the trash.")
@click.argument("session_id", metavar="SESSION")
@store_option
def restore_command(store: str | None, session_id: str) -> None:
    """Restore the session of this id that was trashed last."""
    with open_manager(store) as manager:
        manager.trash.restore(session_id)
    click.echo(f"{session_id} is restored")


@click.command("fork", short_help="Start a session with the events of another so far.")
@click.argument("session_id", metavar="SESSION")
@click.argument("new_id", metavar="[NEW]", required=False)
@click.option("--at", metavar="MOMENT", help="Up to this moment: a number of events, or a time.")
@store_option
def fork_command(store: str | None, session_id: str, new_id: str | None, at: str | None) -> None:
    """Fork a session at its end or an earlier moment, and print the id of the fork. No event is copied."""
    with open_manager(store) as manager:
        click.echo(manager.fork_session(session_id, None if at is None else as_moment(at), new_id))
