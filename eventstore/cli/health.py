"""Commands on what may be wrong: verify, repair, recover."""

import sys
from collections.abc import Iterator, Sequence
from pathlib import Path

import click

import eventstore
from eventstore.cli.store import open_manager, store_option
from eventstore.cli.terminal import clean, print_json

_sessions = click.argument("sessions", metavar="SESSION...", nargs=-1)
_all = click.option("--all", "every", is_flag=True, help="All sessions, and the store's own log.")
_foreign = click.option(
    "--format",
    "form",
    type=click.Choice(["claude-code", "codex"]),
    help="Look at transcripts of that tool instead: SESSION... are then files.",
)
_json = click.option("--json", "as_json", is_flag=True, help="Print JSON, one object a line.")


@click.command("verify", short_help="Check that sessions are whole.")
@_sessions
@_all
@_foreign
@_json
@store_option
def verify_command(store: str | None, sessions: Sequence[str], every: bool, form: str | None, as_json: bool) -> None:
    """Read every byte of sessions again: chain, numbers, times, batches, views, quarantine, the store's own log.

    Prints one line a session that is whole and one line a fault; the exit status is 1 if there is a fault. Nothing is changed.
    """
    _need_some(sessions, every and form is None)
    if form is not None:
        sys.exit(_verify_files([Path(name) for name in sessions], as_json))
    with open_manager(store) as manager:
        verdicts = list(_verdicts(manager, sessions, every))
    for verdict in verdicts:
        if as_json:
            print_json(verdict.to_dict())
        else:
            _tell(verdict)
    sys.exit(0 if all(verdict.is_whole for verdict in verdicts) and verdicts else 1)


def _need_some(sessions: Sequence[str], every: bool) -> None:
    if not sessions and not every:
        raise click.UsageError("name sessions, or say --all")


def _verdicts(
    manager: "eventstore.SessionManager", sessions: Sequence[str], every: bool
) -> "Iterator[eventstore.Verdict]":
    for session_id in sorted(manager.storage.log.ids()) if every else sessions:
        yield eventstore.verify_session(manager.storage, session_id)
    if every:
        yield eventstore.verify_store(manager.storage)


def _tell(verdict: "eventstore.Verdict") -> None:
    for finding in verdict.findings:
        click.echo(click.style(f"{clean(finding.session_id)}: {finding.part}: {clean(finding.text)}", fg="red"))
    if verdict.is_whole:
        click.echo(f"{clean(verdict.session_id)}: whole to event {verdict.events}, hash {verdict.hash}")
    elif not verdict.findings:
        click.echo(f"{clean(verdict.session_id)}: holds no event")


def _verify_files(files: Sequence[Path], as_json: bool) -> int:
    from eventstore.importers.inspection import inspect

    count = 0
    for file in files:
        found = 0
        for flaw in inspect(file):
            found += 1
            if as_json:
                print_json({"path": str(file), **flaw.to_dict()})
            else:
                told = f": {flaw.text}" if flaw.text else ""
                click.echo(f"{clean(str(file))}: line {flaw.line}, byte {flaw.offset_bytes}: {flaw.kind}{clean(told)}")
        if not found and not as_json:
            click.echo(f"{clean(str(file))}: nothing is wrong")
        count += found
    return 1 if count else 0


@click.command("repair", short_help="Set damaged logs right, after showing how.")
@_sessions
@_all
@_foreign
@click.option("--yes", is_flag=True, help="Do it. Without this the plan is shown and nothing is changed.")
@store_option
def repair_command(store: str | None, sessions: Sequence[str], every: bool, form: str | None, yes: bool) -> None:
    """Show what it takes to set damaged logs right, and with --yes do it.

    Everything from the damage on goes to quarantine/ beside the log; the records behind it that are still linked to each other
    are appended anew with the times they had; `log.repaired` says so. Of a foreign file the one as it was stays beside it.
    """
    _need_some(sessions, every and form is None)
    if form is not None:
        _repair_files([Path(name) for name in sessions], yes)
        return
    planned = 0
    with open_manager(store) as manager:
        for session_id in sorted(manager.storage.log.ids()) if every else sessions:
            plan = manager.storage.repair_session(session_id, dry_run=not yes)
            planned += plan is not None
            if plan is not None:
                _tell_plan(plan)
    if not planned:
        click.echo("nothing is wrong")
    elif not yes:
        click.echo("nothing was changed: say --yes to do it")


def _tell_plan(plan: "eventstore.Repair") -> None:
    click.echo(
        f"{plan.session_id}: line {plan.line}, byte {plan.offset_bytes}, {clean(plan.reason)}: "
        f"{plan.removed_bytes} bytes to quarantine, {plan.restored} events behind the damage appended anew, "
        f"{plan.aside} pieces kept in quarantine only"
    )


def _repair_files(files: Sequence[Path], yes: bool) -> None:
    from eventstore.importers.inspection import inspect, mend

    for file in files:
        found = [flaw for flaw in inspect(file) if flaw.mendable]
        for flaw in found:
            click.echo(f"{clean(str(file))}: line {flaw.line}, byte {flaw.offset_bytes}: {flaw.kind}")
        if not found:
            click.echo(f"{clean(str(file))}: nothing can be mended")
        elif yes:
            click.echo(f"{clean(str(file))}: mended; as it was: {clean(str(mend(file)))}")
        else:
            click.echo("nothing was changed: say --yes to do it")


@click.command("recover", short_help="Mark sessions abandoned whose program is gone.")
@click.option("--silent-hours", type=click.FloatRange(min=0), default=24, show_default=True, help="Silent for so long.")
@store_option
def recover_command(store: str | None, silent_hours: float) -> None:
    """Mark active sessions as abandoned that no program has open and that recorded nothing for a while; redo stale views."""
    with open_manager(store) as manager:
        found = manager.recover_sessions(silent_hours)
        redone = manager.storage.redo_views()
    for session_id in found:
        click.echo(f"{session_id}: abandoned")
    click.echo(f"{len(found)} sessions marked as abandoned, views of {redone} sessions redone")
