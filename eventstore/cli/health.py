"""Commands on what may be wrong: verify, repair, recover."""

import sys
from collections.abc import Iterator, Sequence
from pathlib import Path

import click

import eventstore
from eventstore.cli.store import exit_for, open_manager, store_option
from eventstore.cli.terminal import Finite, clean, print_json
from eventstore.errors import CheckpointRefused, KeyRefused
from eventstore.ids import STORE_ID
from eventstore.integrity import Verdict, VerifierKey, verify_all, verify_session, verify_store
from eventstore.integrity.log_audit import read_claim
from eventstore.integrity.verification import is_empty, is_known, limits, worst_of

_sessions = click.argument("sessions", metavar="SESSION...", nargs=-1)
_all = click.option("--all", "every", is_flag=True, help="All sessions, and the store's own log.")
_foreign = click.option(
    "--format",
    "form",
    type=click.Choice(["claude-code", "codex"]),
    help="Look at transcripts of that tool instead: SESSION... are then files.",
)
_json = click.option("--json", "as_json", is_flag=True, help="Print JSON, one object a line.")


_STATUS = {"whole": 0, "damaged": 3, "tampered": 4, "incomplete": 5, "unreadable": 6}


@click.command("verify", short_help="Verify that sessions are intact, and show what is proven.")
@_sessions
@_all
@_foreign
@click.option(
    "--key", "keys", multiple=True, metavar="KEY", help="A verifier key that you trust, or a file that holds one."
)
@click.option(
    "--checkpoint",
    "kept",
    multiple=True,
    metavar="FILE",
    type=click.Path(path_type=Path, exists=True),
    help="A checkpoint that you kept elsewhere, or a folder of *.note files; alone, it names the sessions.",
)
@_json
@store_option
def verify_command(
    store: str | None,
    sessions: Sequence[str],
    every: bool,
    form: str | None,
    keys: Sequence[str],
    kept: Sequence[Path],
    as_json: bool,
) -> None:
    """Read every byte of sessions again: chain, numbers, times, batches, redactions, checkpoints, views, the store's own log.

    Prints one line a session, then what could not be shown. Nothing is changed, and no key is taken from the store.

    \b
    The exit status is the first of these that holds:
      4  tampered, or inconsistent with a checkpoint: what no accident explains
      3  damaged: bytes are not what they were
      6  unreadable: the system would not let it be read, or there is nothing
      5  incomplete: whole, but events at its end are not proven (where --key or --checkpoint was given)
      0  whole; where checkpoints (else keys) were given, proven to the last event
    1 and 2 are other errors and wrong usage: nothing was verified. With --format, 1 says that something is wrong.
    """
    _need_some([*sessions, *map(str, kept)], every and form is None)
    if form is not None:
        sys.exit(_verify_files([Path(name) for name in sessions], as_json))
    pinned = [_read_key(one) for one in keys]
    anchors = [_read_note(one) for given in kept for one in _notes_in(given)]
    asked = set(sessions) if sessions and not every else None
    others = len([one for one in anchors if asked is not None and read_claim(one).session_id not in asked])
    with open_manager(store) as manager:
        if every and not anchors and is_empty(manager.storage):
            click.echo("no sessions: nothing was verified", err=True)
            sys.exit(1)
        verdicts = list(_verdicts(manager, sessions, every, pinned, anchors))
    for verdict in verdicts:
        if as_json:
            print_json(verdict.to_dict())
        else:
            text = clean(verdict.describe(with_keys=bool(pinned)))
            click.echo(click.style(text, fg="red") if verdict.findings else text)
    outcome = worst_of(verdict.outcome for verdict in verdicts)
    if not as_json:
        for limit in limits(pinned, anchors, verdicts):
            click.echo(f"note: {limit}")
        if others:
            click.echo(f"note: {others} kept checkpoints are of sessions that were not asked about")
        click.echo(f"{outcome} (exit status {_STATUS[outcome]})")
    sys.exit(_STATUS[outcome])


def _read_key(given: str) -> "eventstore.VerifierKey":
    path = Path(given)
    try:
        text = path.read_text("utf-8") if "+" not in given or path.is_file() else given
    except (OSError, UnicodeDecodeError):
        raise click.BadParameter(
            f"{given if 'PRIVATE+KEY+' not in given else 'what was given'} is neither a verifier key nor a file that "
            "holds one",
            param_hint="--key",
        ) from None
    name = "what was given" if text is given else str(path)
    if text.strip().startswith("PRIVATE+KEY+"):
        raise click.BadParameter(
            f"{name} holds a secret key, which verifies nothing: give the verifier key that keygen printed, or its file",
            param_hint="--key",
        )
    try:
        return VerifierKey.from_text(text)
    except KeyRefused as refused:
        raise click.BadParameter(
            f"{name} holds no verifier key ({refused.reason}): give <name>+<8 hex>+<base64>, or a file that holds it",
            param_hint="--key",
        ) from None


def _notes_in(given: Path) -> list[Path]:
    """List a note, or those of a folder."""
    if not given.is_dir():
        return [given]
    found = sorted(one for one in given.glob("*.note") if not one.name.startswith("."))
    if not found:
        raise click.BadParameter(f"{given} is a folder without *.note files", param_hint="--checkpoint")
    return found


def _read_note(path: Path) -> bytes:
    note = path.read_bytes()
    try:
        read_claim(note)
    except CheckpointRefused as refused:
        raise click.BadParameter(f"{path}: {refused}", param_hint="--checkpoint") from None
    return note


def _need_some(sessions: Sequence[str], every: bool) -> None:
    if not sessions and not every:
        raise click.UsageError("name sessions, or say --all")


def _verdicts(
    manager: "eventstore.SessionManager",
    sessions: Sequence[str],
    every: bool,
    keys: "Sequence[VerifierKey]",
    anchors: Sequence[bytes],
) -> "Iterator[Verdict]":
    storage = manager.storage
    if every:
        yield from verify_all(storage, keys, anchors)
        return
    anchored = [read_claim(one).session_id for one in anchors]
    for session_id in sessions:
        if session_id not in anchored and not is_known(storage, session_id):
            raise eventstore.SessionNotFound(session_id)
    for session_id in dict.fromkeys(sessions or anchored):
        verify = verify_store(storage, keys=keys, anchors=anchors) if session_id == STORE_ID else None
        yield verify or verify_session(storage, session_id, keys=keys, anchors=anchors)


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


@click.command("repair", short_help="Repair damaged logs, after showing how.")
@_sessions
@_all
@_foreign
@click.option("--yes", is_flag=True, help="Do it. Without this the plan is shown and nothing is changed.")
@store_option
def repair_command(store: str | None, sessions: Sequence[str], every: bool, form: str | None, yes: bool) -> None:
    """Show what it takes to set damaged logs right, and with --yes do it.

    Everything from the damage on goes to quarantine/ beside the log; the records behind it that are still linked to each other
    are appended anew with the times they had; `log.repaired` says so. Forks and checkpoints that the cut breaks are named. Of a
    foreign file the one as it was stays beside it. The exit status is 1 where something is wrong that cannot be mended so.
    """
    _need_some(sessions, every and form is None)
    if form is not None:
        _repair_files([Path(name) for name in sessions], yes)
        return
    planned, damaged, left = 0, list[eventstore.LogDamaged](), list[Verdict]()
    with open_manager(store) as manager:
        if yes:
            manager.storage.settle()
        for session_id in sorted(manager.storage.log.ids()) if every else sessions:
            try:
                plan = manager.storage.repair_session(session_id, dry_run=not yes)
            except eventstore.LogDamaged as damage:
                damaged.append(damage)
                continue
            planned += plan is not None
            if plan is not None:
                _tell_plan(plan)
            else:
                left.append(verify_session(manager.storage, session_id))
        if every:
            left.append(verify_store(manager.storage))
    wrong = [one for one in left if any(finding.part != "tail" for finding in one.findings)]
    for verdict in wrong:
        click.echo(f"eventstore: {clean(verdict.describe(with_keys=False))}", err=True)
    if planned and not yes:
        click.echo("nothing was changed: say --yes to do it")
    if not planned:
        click.echo("nothing that repair can mend" if wrong or damaged else "nothing is wrong")
    exit_for(damaged)
    sys.exit(1 if wrong else 0)


def _tell_plan(plan: "eventstore.Repair") -> None:
    click.echo(
        f"{plan.session_id}: line {plan.line}, byte {plan.offset_bytes}, {clean(plan.reason)}: "
        f"{plan.removed_bytes} bytes to quarantine, {plan.restored} events behind the damage appended anew, "
        f"{plan.aside} pieces kept in quarantine only"
    )
    if plan.forks:
        names = ", ".join(plan.forks)
        click.echo(f"{plan.session_id}: these go on from an event that is cut, and cannot be whole any more: {names}")
    if plan.checkpoint:
        click.echo(
            f"{plan.session_id}: the cut is in front of event {plan.checkpoint}, up to which a checkpoint was signed: "
            "against that one the log will be inconsistent"
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
@click.option("--silent-hours", type=Finite(min=0), default=24, show_default=True, help="Silent for so long.")
@store_option
def recover_command(store: str | None, silent_hours: float) -> None:
    """Mark active sessions as abandoned that no program has open and that recorded nothing for a while; redo stale views."""
    damaged: list[eventstore.LogDamaged] = []
    with open_manager(store) as manager:
        found = manager.recover_sessions(silent_hours, damaged.append)
        refresh_derived = manager.storage.redo_views()
    for session_id in found:
        click.echo(f"{session_id}: abandoned")
    click.echo(f"{len(found)} sessions marked as abandoned, views of {refresh_derived} sessions refresh_derived")
    exit_for(damaged)
