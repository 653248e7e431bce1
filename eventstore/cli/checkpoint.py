"""Keys, signed checkpoints, and proofs."""

import os
from collections.abc import Sequence
from contextlib import ExitStack
from pathlib import Path

import click

import eventstore
from eventstore.cli import naming
from eventstore.cli.store import exit_for, open_manager, store_option
from eventstore.cli.terminal import clean, print_json, print_pairs, progress, some
from eventstore.ids import STORE_ID, TEMPLATE, file_name
from eventstore.integrity import Consistency, Inclusion, SigningKey, parse_note


@click.command("keygen", short_help="Create a key for signing checkpoints.")
@click.argument("name")
@click.option(
    "-o", "--output", type=click.Path(path_type=Path, dir_okay=False), help="The file of the key [default: NAME.key]."
)
def keygen_command(name: str, output: Path | None) -> None:
    """Create an Ed25519 key. The secret key is written to a file that only you can read.

    The verifier key is written to standard output, and no file has it: `eventstore keygen NAME > NAME.vkey` keeps it. Give it to
    everyone who checks your signatures. NAME is part of every signature; a host name with a path is
    usual, such as example.com/sessions.
    """
    key = SigningKey.generate(name)
    path = output or Path(f"{file_name(name)}.key")
    key.save(path)
    click.echo(key.verifier_key.to_text())
    click.echo(f"the secret key is in {clean(str(path))}: keep it private", err=True)


@click.command("checkpoint", short_help="Sign checkpoints of sessions.")
@click.argument("sessions", metavar="SESSION...", nargs=-1)
@click.option("--all", "every", is_flag=True, help="All sessions.")
@click.option("--store-log", is_flag=True, help="Include the registry, which records all sessions; it is signed last.")
@click.option(
    "--key",
    "key_file",
    required=True,
    metavar="FILE",
    type=click.Path(path_type=Path),
    help="The file of the secret key.",
)
@click.option(
    "--out",
    type=click.Path(path_type=Path, file_okay=False),
    help="Write the notes to this folder, not to standard output.",
)
@store_option
def checkpoint_command(
    store: str | None, sessions: Sequence[str], every: bool, store_log: bool, key_file: Path, out: Path | None
) -> None:
    """Verify sessions, sign a checkpoint of each, and print the signed notes, or write them to a folder.

    Keep the notes elsewhere, where no one who can write to the store can change them. `verify --checkpoint` then shows that a
    session still begins with exactly those events. A session without new events keeps its checkpoint. A damaged session is not
    signed but reported, and the exit status is 1.
    """
    if every == bool(sessions) and not (store_log and not every):
        raise click.UsageError("name sessions, or use --all or --store-log")
    key = SigningKey.load(key_file)
    damaged, kept = list[eventstore.LogDamaged](), 0
    with open_manager(store) as manager, ExitStack() as bars:
        wanted = naming.sessions(manager, sessions, logs=True)
        if every:
            wanted = [*sorted(manager.storage.log.ids()), *(TEMPLATE + name for name in manager.templates.list())]
        signed = [*wanted, *([STORE_ID] if store_log else [])]
        bar = bars.enter_context(progress("signing", len(signed)))
        for session_id in signed:
            try:
                note = manager.proofs.sign_checkpoint(session_id, key)
            except eventstore.LogDamaged as damage:
                damaged.append(damage)
                continue
            if out is None:
                click.echo(note, nl=False)
            else:
                _keep(out, session_id, note, key)
                kept += 1
            bar.advance()
    if out is not None:
        click.echo(
            f"{some(kept, 'note')} in {clean(str(out))}: keep them where no one who can write to the store can change them"
        )
    exit_for(damaged)


def _keep(folder: Path, session_id: str, note: str, key: "eventstore.SigningKey") -> None:
    size = parse_note(note).checkpoint.size
    folder.mkdir(0o700, parents=True, exist_ok=True)
    path = folder / f"{session_id}-{size:012d}-{key.verifier_key.hash.hex()}.note"
    temporary = path.with_name(f".{path.name}.new")
    temporary.unlink(missing_ok=True)
    with os.fdopen(os.open(temporary, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600), "wb") as stream:
        stream.write(note.encode())
        stream.flush()
        os.fsync(stream.fileno())
    temporary.replace(path)


@click.command("prove", short_help="Print a proof about the events of a session.")
@click.argument("session_id", metavar="SESSION")
@click.option("--event", type=click.IntRange(min=1), metavar="N", help="Prove that event N is in the session.")
@click.option(
    "--since", type=click.IntRange(min=1), metavar="OLD", help="Prove that it still begins with its first OLD events."
)
@click.option(
    "--size",
    type=click.IntRange(min=1),
    metavar="M",
    help="For its first M events [default: those of the newest checkpoint that covers event N, else all].",
)
@click.option("--json", "as_json", is_flag=True, help="Print JSON.")
@store_option
def prove_command(
    store: str | None, session_id: str, event: int | None, since: int | None, size: int | None, as_json: bool
) -> None:
    """Print a proof (RFC 9162) for the holder of a checkpoint of M events, and for --since also of one of OLD events.

    The proof and the checkpoints are sufficient: nothing else of the session is needed. Hashes are hex digits, the deepest first;
    roots are also printed in base64, as in a checkpoint. Without --size the number of events is printed.
    """
    if (event is None) == (since is None):
        raise click.UsageError("use --event or --since")
    given = size is not None
    with open_manager(store) as manager:
        session_id = naming.session(manager, session_id, logs=True)
        proof: Inclusion | Consistency
        if event is not None:
            size = size or _newest_size(manager, session_id, event)
            proof = manager.proofs.prove_inclusion(session_id, event, size)
        else:
            proof = manager.proofs.prove_consistency(session_id, since or 0, size)
    found = proof.to_dict()
    if size is None:
        click.echo(f"for all {some(found.get('size') or found['new'], 'event')} of now", err=True)
    elif not given:
        click.echo(
            f"for the first {some(size, 'event')}, the size of the newest checkpoint that covers event {event}",
            err=True,
        )
    if as_json:
        print_json(found)
        return
    hashes = found.pop("hashes")
    print_pairs((name, str(value)) for name, value in found.items())
    for one in hashes:
        print_pairs([("hash", one)])


def _newest_size(manager: "eventstore.SessionManager", session_id: str, event: int) -> int | None:
    """Return the size of the newest checkpoint that covers an event, or None."""
    now = manager.head(session_id).version
    sizes = (parse_note(note).checkpoint.size for note in manager.proofs.checkpoints(session_id))
    return max((size for size in sizes if event <= size <= now), default=None)
