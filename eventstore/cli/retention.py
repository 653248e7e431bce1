"""Commands on retention, and fork: cleanup, pin, restore, fork."""

import sys
from collections.abc import Iterable

import click

from eventstore.cli import naming
from eventstore.cli.store import as_moment, exit_for, open_manager, store_option
from eventstore.cli.terminal import Cell, Column, Finite, clean, print_json, print_table
from eventstore.errors import LogDamaged
from eventstore.settings import load_settings
from eventstore.store.retention import Expiry

_COLUMNS = (
    Column("SESSION", least=12, name="session_id"),
    Column("ACTION", "cyan", name="action"),
    Column("BYTES", number=True, name="size_bytes", drop=1),
    Column("WHY", name="reason", least=24),
)
_DONE = {"trash": "moved to the trash", "purge": "deleted permanently"}


@click.command("cleanup", short_help="Move old sessions to the trash, with the reasons.")
@click.option("--days", type=Finite(min=0), help="Age in days [default: from the settings].")
@click.option("--grace", type=Finite(min=0), default=7, show_default=True, help="Days in the trash.")
@click.option("--yes", is_flag=True, help="Do it. Without this, show what would be done, with exit status 1.")
@click.option("--dry-run", is_flag=True, help="Only show what would be done, and why, with exit status 0.")
@click.option("--json", "as_json", is_flag=True, help="Print JSON, one session per line.")
@store_option
def cleanup_command(
    store: str | None, days: float | None, grace: float, yes: bool, dry_run: bool, as_json: bool
) -> None:
    """Move sessions that were last updated --days ago to the trash; delete those that were in the trash for --grace days.

    Without --yes nothing is done: the plan is shown. What was imported counts from the import, where that is later. Pinned
    sessions are kept. `eventstore restore` restores a session from the trash.
    """
    age = load_settings().retention_days if days is None else days
    damaged: list[LogDamaged] = []
    with open_manager(store) as manager:
        plan = manager.trash.plan_cleanup(age, grace, damaged.append)
        is_asked = not yes and not dry_run and any(one.action != "keep" for one in plan)
        is_done = not dry_run and not is_asked
        done = manager.trash.clean_up(plan) if is_done else []
    shown = done if is_done else plan
    if as_json:
        for one in shown:
            print_json({**vars(one), "done": is_done})
    elif shown:
        short = naming.short_ids(store, [one.session_id for one in shown])
        print_table(_COLUMNS, (_row(one, short) for one in shown))
    if is_asked:
        click.echo("nothing was changed: use --yes to do this", err=True)
        sys.exit(1)
    click.echo(_summary(done) if is_done else "nothing was changed", err=True)
    exit_for(damaged)


def _row(one: Expiry, short: naming.ShortIds) -> list[str | Cell]:
    size = Cell(f"{one.size_bytes:,}", str(one.size_bytes))
    return [Cell(short(one.session_id), one.session_id), one.action, size, clean(one.reason)]


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
        session_id = naming.session(manager, session_id)
        manager.pin_session(session_id, not remove)
    click.echo(f"{session_id} is {'no longer pinned' if remove else 'pinned'}")


@click.command("restore", short_help="Restore a session from the trash.")
@click.argument("session_id", metavar="SESSION")
@store_option
def restore_command(store: str | None, session_id: str) -> None:
    """Restore the session of this id that was trashed last."""
    with open_manager(store) as manager:
        found = naming.trashed(manager, session_id)
        if naming.exists(manager, found.session_id):
            raise click.ClickException(
                f"session {found.session_id!r} is in the store already, and a log cannot change its id; nothing was done: "
                f"`eventstore fork {found.session_id} NEW` keeps the present one as NEW, then delete it and restore again"
            )
        manager.trash.restore(found.session_id)
    click.echo(f"{found.session_id} is restored")


@click.command("fork", short_help="Start a session with the events of another so far.")
@click.argument("session_id", metavar="SESSION")
@click.argument("new_id", metavar="[NEW]", required=False)
@click.option("--at", metavar="MOMENT", help="Up to this moment: a number of events, or a time.")
@store_option
def fork_command(store: str | None, session_id: str, new_id: str | None, at: str | None) -> None:
    """Fork a session at its end or an earlier moment, and print the id of the fork. No event is copied.

    What a fork inherits is counted and found once, in the parent, until that is trashed or deleted: then in each of its forks.
    """
    with open_manager(store) as manager:
        session_id, moment = naming.at_moment(manager, session_id, None if at is None else as_moment(at))
        new_id = manager.fork_session(session_id, moment, new_id)
        naming.remember(manager, new_id)
    click.echo(new_id)
