"""Commands on damage: verify, repair, recover."""

import os
import sys
from collections.abc import Iterator, Sequence
from pathlib import Path

import click

import eventstore
from eventstore.cli import naming
from eventstore.cli.store import exit_for, open_manager, store_option
from eventstore.cli.table import wrap
from eventstore.cli.terminal import Column, Finite, clean, is_terminal, print_json, print_table, progress, some, width
from eventstore.errors import CheckpointRefused, ImportRefused, KeyRefused
from eventstore.ids import STORE_ID
from eventstore.integrity import Verdict, VerifierKey, verify_all, verify_sessions, verify_store
from eventstore.integrity.known_sessions import is_empty, is_known
from eventstore.integrity.log_audit import read_claim
from eventstore.integrity.verdict import worst_of
from eventstore.integrity.verification import limits

_sessions = click.argument("sessions", metavar="SESSION...", nargs=-1)
_all = click.option("--all", "every", is_flag=True, help="All sessions, and the registry.")
_foreign = click.option(
    "--format",
    "form",
    type=click.Choice(["claude-code", "codex", "copilot", "gemini", "pi", "qwen"]),
    help="Inspect transcripts of that tool instead; SESSION... are then files.",
)
_json = click.option("--json", "as_json", is_flag=True, help="Print JSON, one object per line.")


_VERDICTS = (
    Column("SESSION", "cyan", least=12),
    Column("INTACT TO EVENT", number=True),
    Column("SIGNED TO", number=True),
    Column("KEPT OUTSIDE TO", number=True),
    Column("NOTES"),
)
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
    help="A checkpoint that you kept elsewhere, or a folder of *.note files. Without SESSION, it selects the sessions.",
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
    """Read every byte of sessions again: chain, numbers, times, batches, redactions, checkpoints, views, the registry.

    Prints one line per session, then what is not proven. Changes nothing, and uses no key from the store.

    \b
    The exit status is the first of these that holds:
      4  tampered, or inconsistent with a checkpoint:
         no accident explains it
      3  damaged: bytes have changed
      6  unreadable: the system refused to read it,
         or there is nothing to read
      5  incomplete: intact, but the last events are not proven
         (only with --key or --checkpoint)
      0  whole: intact; with checkpoints (else keys),
         proven to the last event

    1 and 2 are other errors and wrong usage: nothing was verified. With --format, 1 means that a fault was found, or a file of
    another format.
    """
    _need_some([*sessions, *map(str, kept)], every and form is None)
    if form is not None:
        sys.exit(_verify_files([Path(name) for name in sessions], form, as_json))
    pinned = [_read_key(one) for one in keys]
    anchors = [_read_note(one) for given in kept for one in _notes_in(given)]
    anchored = [read_claim(one).session_id for one in anchors]
    with open_manager(store) as manager:
        if not every:
            sessions = [
                one if one in anchored or is_known(manager.storage, one) else naming.session(manager, one)
                for one in sessions
            ]
        others = len([one for one in anchored if sessions and not every and one not in sessions])
        if every and not anchors and is_empty(manager.storage):
            click.echo("no sessions: nothing was verified", err=True)
            sys.exit(1)
        total = sum(1 for _ in manager.storage.log.ids()) if every else len(sessions)
        verdicts = []
        with progress("verifying", total) as bar:
            for verdict in _verdicts(manager, sessions, every, pinned, anchors):
                verdicts.append(verdict)
                bar.advance()
    if as_json or not is_terminal():
        for verdict in verdicts:
            _print_verdict(verdict, with_keys=bool(pinned), as_json=as_json)
    else:
        _show_verdicts(verdicts, naming.short_ids(store, [one.session_id for one in verdicts]), with_keys=bool(pinned))
    outcome = worst_of(verdict.outcome for verdict in verdicts)
    if not as_json:
        for limit in limits(pinned, anchors, verdicts):
            for line in wrap(f"note: {limit}", width()) if is_terminal() else [f"note: {limit}"]:
                click.echo(line)
        if others:
            click.echo(f"note: {others} kept checkpoints are of sessions that were not named")
        click.echo(f"{outcome} (exit status {_STATUS[outcome]})")
    sys.exit(_STATUS[outcome])


def _print_verdict(verdict: Verdict, *, with_keys: bool, as_json: bool) -> None:
    if as_json:
        print_json(verdict.to_dict())
    else:
        text = clean(verdict.describe(with_keys=with_keys))
        click.echo(click.style(text, fg="red") if verdict.findings else text)


def _show_verdicts(verdicts: Sequence[Verdict], short: naming.ShortIds, *, with_keys: bool) -> None:
    """Print a table of what is intact, and below it, uncut, what is not."""
    rows = (
        [
            short(one.session_id),
            f"{one.events:,}",
            f"{one.signed_to:,}" if with_keys and one.signed_to else "",
            f"{one.anchored_to:,}" if one.anchored_to else "",
            "; ".join(map(clean, one.notes)),
        ]
        for one in verdicts
        if not one.findings
    )
    print_table(_VERDICTS, rows)
    for one in verdicts:
        if one.findings:
            for line in wrap(clean(one.describe(with_keys=with_keys)), width()):
                click.echo(click.style(line, fg="red"))


def _read_key(given: str) -> "eventstore.VerifierKey":
    path = Path(given)
    try:
        text = path.read_text("utf-8") if "+" not in given or path.is_file() else given
    except (OSError, UnicodeDecodeError):
        raise click.BadParameter(
            f"{given if 'PRIVATE+KEY+' not in given else 'the given text'} is neither a verifier key nor a file that "
            "holds one",
            param_hint="--key",
        ) from None
    name = "the given text" if text is given else str(path)
    if text.strip().startswith("PRIVATE+KEY+"):
        raise click.BadParameter(
            f"{name} holds a secret key, which cannot verify: pass the verifier key that keygen printed, or its file",
            param_hint="--key",
        )
    try:
        return VerifierKey.from_text(text)
    except KeyRefused as refused:
        raise click.BadParameter(
            f"{name} is not a verifier key ({refused.reason}): pass <name>+<8 hex>+<base64>, or a file that holds it",
            param_hint="--key",
        ) from None


def _notes_in(given: Path) -> list[Path]:
    """Return the note, or the notes in a folder."""
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
        raise click.UsageError("name sessions, or use --all")


def _verdicts(
    manager: "eventstore.SessionManager",
    sessions: Sequence[str],
    every: bool,
    keys: "Sequence[VerifierKey]",
    anchors: Sequence[bytes],
) -> "Iterator[Verdict]":
    storage = manager.storage
    if every:
        yield from verify_all(storage, keys, anchors, jobs=os.cpu_count() or 1)
        return
    anchored = [read_claim(one).session_id for one in anchors]
    named = dict.fromkeys(sessions or anchored)
    found = verify_sessions(storage, (one for one in named if one != STORE_ID), keys=keys, anchors=anchors)
    for session_id in named:
        yield verify_store(storage, keys=keys, anchors=anchors) if session_id == STORE_ID else next(found)


def _verify_files(files: Sequence[Path], form: str, as_json: bool) -> int:
    from eventstore.importers.inspection import inspect

    count = 0
    for file in files:
        found = 0
        try:
            flaws = inspect(file, form)
        except ImportRefused as refused:
            click.echo(f"eventstore: {clean(str(refused))}", err=True)
            count += 1
            continue
        for flaw in flaws:
            found += 1
            if as_json:
                print_json({"path": str(file), **flaw.to_dict()})
            else:
                detail = f": {flaw.text}" if flaw.text else ""
                click.echo(
                    f"{clean(str(file))}: line {flaw.line}, byte {flaw.offset_bytes}: {flaw.kind}{clean(detail)}"
                )
        if not found and not as_json:
            click.echo(f"{clean(str(file))}: no faults found")
        count += found
    return 1 if count else 0


@click.command("repair", short_help="Repair damaged logs, after showing a plan.")
@_sessions
@_all
@_foreign
@click.option("--yes", is_flag=True, help="Carry out the plan. Without this, show it, with exit status 1.")
@store_option
def repair_command(store: str | None, sessions: Sequence[str], every: bool, form: str | None, yes: bool) -> None:
    """Show how damaged logs would be repaired; with --yes repair them.

    All bytes from the damage on are moved to the session's quarantine/ folder. Intact events after the damage are appended again
    with their original times, and `log.repaired` records the repair. Forks and checkpoints that this invalidates are named. Of a
    transcript the original is kept in the same folder. The exit status is 1 if there is a fault that is not repaired.
    """
    _need_some(sessions, every and form is None)
    if form is not None:
        _repair_files([Path(name) for name in sessions], form, yes)
        return
    planned, damaged, intact = 0, list[eventstore.LogDamaged](), list[str]()
    with open_manager(store) as manager:
        if yes:
            manager.storage.settle()
        for session_id in sorted(manager.storage.log.ids()) if every else naming.sessions(manager, sessions, logs=True):
            try:
                plan = manager.storage.repair_session(session_id, dry_run=not yes)
            except eventstore.LogDamaged as damage:
                damaged.append(damage)
                continue
            planned += plan is not None
            if plan is not None:
                _print_plan(plan)
            else:
                intact.append(session_id)
        left = list(verify_sessions(manager.storage, intact))
        if every and manager.storage.log.exists(STORE_ID):
            left.append(verify_store(manager.storage))
    wrong = [one for one in left if any(finding.part != "tail" for finding in one.findings)]
    for verdict in wrong:
        click.echo(f"eventstore: {clean(verdict.describe(with_keys=False))}", err=True)
    is_asked = planned > 0 and not yes
    if is_asked:
        click.echo("nothing was changed: use --yes to repair")
    if not planned:
        click.echo("nothing that repair can fix" if wrong or damaged else "no faults found")
    if any(finding.part == "views" for one in wrong for finding in one.findings):
        click.echo("files beside a log are derived from it: `eventstore rebuild` makes them anew", err=True)
    exit_for(damaged)
    sys.exit(1 if wrong or is_asked else 0)


def _print_plan(plan: "eventstore.Repair") -> None:
    click.echo(
        f"{plan.session_id}: line {plan.line}, byte {plan.offset_bytes}, {clean(plan.reason)}: "
        f"{some(plan.removed_bytes, 'byte')} to quarantine, {some(plan.restored, 'event')} after the damage appended again, "
        f"{some(plan.aside, 'piece')} in quarantine only"
    )
    if plan.forks:
        names = ", ".join(plan.forks)
        click.echo(f"{plan.session_id}: these forks start at an event that is removed, and become damaged: {names}")
    if plan.checkpoint:
        click.echo(
            f"{plan.session_id}: the damage is before event {plan.checkpoint}, the last one of a signed checkpoint: "
            "the repaired log will be inconsistent with that checkpoint"
        )


def _repair_files(files: Sequence[Path], form: str, yes: bool) -> None:
    from eventstore.importers.inspection import inspect, mend

    is_left = False
    for file in files:
        try:
            found = [flaw for flaw in inspect(file, form) if flaw.mendable]
        except ImportRefused as error:
            click.echo(f"eventstore: {clean(str(error))}", err=True)
            is_left = True
            continue
        for flaw in found:
            click.echo(f"{clean(str(file))}: line {flaw.line}, byte {flaw.offset_bytes}: {flaw.kind}")
        if not found:
            click.echo(f"{clean(str(file))}: nothing that repair can fix")
        elif yes:
            click.echo(f"{clean(str(file))}: repaired; the original is {clean(str(mend(file, form)))}")
        else:
            click.echo("nothing was changed: use --yes to repair")
            is_left = True
    if is_left:
        sys.exit(1)


@click.command("recover", short_help="Mark sessions as abandoned whose program has ended.")
@click.option("--silent-hours", type=Finite(min=0), default=24, show_default=True, help="Hours without an event.")
@store_option
def recover_command(store: str | None, silent_hours: float) -> None:
    """Mark active sessions as abandoned that no program has open and that had no event for some hours; update stale views."""
    damaged: list[eventstore.LogDamaged] = []
    with open_manager(store) as manager:
        found = manager.recover_sessions(silent_hours, damaged.append)
        updated = manager.storage.redo_views()
    for session_id in found:
        click.echo(f"{session_id}: abandoned")
    click.echo(f"{some(len(found), 'session')} marked as abandoned, views of {some(updated, 'session')} updated")
    exit_for(damaged)
