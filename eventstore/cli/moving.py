"""Commands that move sessions between stores: copy, mirror."""

import errno
import signal
import threading
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from typing import TYPE_CHECKING

import click

from eventstore.cli.store import open_manager, warn_lost
from eventstore.cli.terminal import clean, print_json, some
from eventstore.store.copying import Copied, copy_sessions, keep_copying
from eventstore.store.local_storage import FileSystemSessionStorage

if TYPE_CHECKING:
    from eventstore import SessionManager


@click.command("copy", short_help="Copy sessions from one store to another, byte for byte.")
@click.argument("sessions", metavar="[SESSION...]", nargs=-1)
@click.option("--from", "source", metavar="STORE", required=True, help="The store to read: a folder or a URL.")
@click.option("--to", "target", metavar="STORE", required=True, help="The store to write to: a folder or a URL.")
@click.option("--follow", is_flag=True, help="Go on with what changes, until Ctrl-C.")
@click.option("--json", "as_json", is_flag=True, help="Print JSON, one session per line.")
def copy_command(sessions: Sequence[str], source: str, target: str, follow: bool, as_json: bool) -> None:
    """Copy sessions with their notes and what they are forks of: the same lines, hashes and keys, all of them by default.

    Done again it copies what is new. A session that went another way in the target is refused, the others are copied, and the
    exit status is 1. If no session is named, the trash is copied too: its sessions go to the trash of the target, and their
    grace period starts again.
    """
    if follow and sessions:
        raise click.UsageError("--follow copies all sessions: name none")
    _copy(source, target, sessions or None, follow, as_json)


@click.command("mirror", short_help="Keep a folder with a copy of all sessions of a store.")
@click.argument("store", metavar="URL")
@click.argument("folder", metavar="DIRECTORY", type=click.Path(file_okay=False))
@click.option("--once", is_flag=True, help="Copy what is new, and stop.")
@click.option("--json", "as_json", is_flag=True, help="Print JSON, one session per line.")
def mirror_command(store: str, folder: str, once: bool, as_json: bool) -> None:
    """Mirror a store of a URL in a folder store: copy all sessions, then all changes, until Ctrl-C.

    People, grep and audits read there. Sessions that are deleted in the store stay in the folder.
    """
    _copy(store, folder, None, not once, as_json)


def _copy(source: str, target: str, sessions: Sequence[str] | None, follow: bool, as_json: bool) -> None:
    def show(session_id: str, outcome: str) -> None:
        if as_json:
            print_json({"session_id": session_id, "outcome": outcome})
        elif outcome in ("new", "continued"):
            click.echo(f"{clean(session_id)} {outcome}")

    with open_manager(source) as one, open_manager(target) as other:
        storage = one.storage
        if isinstance(storage, FileSystemSessionStorage) and not storage.sessions_dir.parent.is_dir():
            raise FileNotFoundError(errno.ENOENT, "there is no store", source)  # else it would be a copy of nothing
        if _is_same(one, source, other, target):
            raise click.UsageError(f"{clean(source)} and {clean(target)} are the same store; nothing was copied")
        if follow:
            with _until_interrupted() as stop:
                done = keep_copying(one.storage, other.storage, stop, on_session=show)
        else:
            done = copy_sessions(one.storage, other.storage, sessions, on_session=show)
        if not sessions:
            warn_lost(one)
    _report(done)


def _is_same(one: "SessionManager", source: str, other: "SessionManager", target: str) -> bool:
    first, second = one.storage, other.storage
    if isinstance(first, FileSystemSessionStorage) and isinstance(second, FileSystemSessionStorage):
        return first.sessions_dir.resolve() == second.sessions_dir.resolve()
    return source == target


@contextmanager
def _until_interrupted() -> Iterator[threading.Event]:
    """Yield what is set by Ctrl-C or a polite kill: the session that is being copied is finished."""
    stop = threading.Event()
    before = {one: signal.signal(one, lambda *_: stop.set()) for one in (signal.SIGINT, signal.SIGTERM)}
    try:
        yield stop
    finally:
        for one, handler in before.items():
            signal.signal(one, handler)


def _report(done: Copied) -> None:
    for session_id, why in sorted(done.refused.items()):
        click.echo(f"eventstore: {clean(session_id)} was not copied: {clean(why)}", err=True)
    counts = f"{len(done.new)} new, {len(done.continued)} continued, {done.unchanged} unchanged"
    click.echo(f"{counts}, {len(done.refused)} refused, {some(done.events, 'event')} copied", err=True)
    if done.refused:
        raise SystemExit(1)
