"""The store that a command works on, and the command rebuild."""

import os
import sys
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any, TypeVar

import click

import eventstore
from eventstore.backends.files.change_feed import ChangeFeed
from eventstore.cli import when
from eventstore.cli.place import count_sessions, locate, no_sessions
from eventstore.cli.terminal import clean, progress, some
from eventstore.derived.catalog import FOLDER, Catalog
from eventstore.derived.listing import Filter
from eventstore.errors import LogDamaged
from eventstore.record import clock

_MANY = 2_000  # sessions: fewer are read before a progress bar would be seen
F = TypeVar("F", bound=Callable[..., Any])


def store_option(command: F) -> F:
    """Add the option --store to a command. It overrides a --store before the command."""
    return click.option(
        "--store",
        metavar="STORE",
        callback=lambda context, parameter, value: _as_store(context.find_root().obj if value is None else value),
        help="The folder that holds .sessions and .history, or the URL of a store.",
    )(command)


def _as_store(value: str | None) -> str | None:
    if value == "":  # as of an unset variable of a shell: it must not become the store of this folder
        raise click.BadParameter("it is empty; nothing was done.")
    if value is not None and Path(value).is_file():
        raise click.BadParameter(f"Directory {value!r} is a file.")
    return value


def as_moment(text: str) -> str | int:
    """Parse a moment: an integer is a version, anything else a time as people say it, or RFC 3339 text."""
    found = clock.moment_of(text)
    if isinstance(found, int):
        return found
    if when.parse(text) is None:
        try:
            clock.to_datetime(text)
        except ValueError:
            raise click.BadParameter(f"{clean(text)!r} is neither a number of events nor a time: {when.HOW}") from None
    return when.since(text) or text


def _as_period(text: str | None, read: Callable[[str | None], str | None]) -> str | None:
    """Parse where a period begins or ends. Raises BadParameter."""
    found = read(text)
    if found is None:
        return None
    try:
        return clock.to_text(clock.to_datetime(found))
    except ValueError:
        raise click.BadParameter(f"{clean(str(text))!r} is not a time: {when.HOW}") from None


def since_option(text: str) -> Callable[[F], F]:
    """Return the option --since: where a period begins."""
    return click.option(
        "--since", metavar="TIME", callback=lambda context, parameter, value: _as_period(value, when.since), help=text
    )


def until_option(text: str) -> Callable[[F], F]:
    """Return the option --until: where a period ends."""
    return click.option(
        "--until", metavar="TIME", callback=lambda context, parameter, value: _as_period(value, when.until), help=text
    )


def at_option(command: F) -> F:
    """Add the option --at to a command: a version (an integer) or a time."""
    return click.option(
        "--at",
        metavar="MOMENT",
        callback=lambda context, parameter, value: None if value is None else as_moment(value),
        help="As of this moment: a number of events, or a time such as yesterday, 2h or 2026-01-31T12:00.",
    )(command)


def list_rows(
    store: str | None, wanted: Filter, at: str | int | None, on_damage: Callable[[LogDamaged], None]
) -> list[dict[str, Any]]:
    """List the metadata of sessions. If the catalogue is current, nothing else is loaded. Raises InvalidSetting."""
    folder = _sessions_folder(store)
    if folder is not None and at is None:
        catalog = Catalog(folder / FOLDER)
        rows = catalog.find_if_current(wanted, ChangeFeed(folder).changed) if folder.is_dir() else None
        catalog.close()
        if rows is not None:
            return rows
    with open_manager(store) as manager:
        found = manager.storage.page(wanted, on_damage, at, _tracked, jobs=os.cpu_count() or 1)
        return [one.to_dict() for one in found.sessions]


def _tracked(names: Sequence[str]) -> Iterator[str]:
    """Show a progress bar if many sessions must be read, as in the first list of a large store."""
    if len(names) < _MANY:
        yield from names
        return
    with progress("reading sessions", len(names)) as bar:
        for name in names:
            yield name
            if bar:
                bar.advance(bar.task_ids[0])


def _sessions_folder(store: str | None) -> Path | None:
    return locate(store).sessions


def open_manager(store: str | None) -> "eventstore.SessionManager":
    """Open the store of a command: see `place`. Raises as `open_store` does."""
    place = locate(store)
    manager = eventstore.SessionManager.from_settings(place.settings)
    if not manager.storage.log.capabilities.durable:
        click.echo(f"eventstore: the store is in memory ({place.why}): nothing is kept after this command", err=True)
    return manager


@click.command("rebuild", short_help="Rebuild all files derived from the logs, or compare them.")
@click.option("--check", is_flag=True, help="Change nothing: compare the existing files with the logs, byte for byte.")
@click.option("--jobs", type=click.IntRange(min=1), help="The number of processes [default: the number of cores].")
@store_option
def rebuild_command(store: str | None, check: bool, jobs: int | None) -> None:
    """Delete metadata.json, conversation.jsonl, invocations.json, data.json, links and the catalogue, and rebuild them.

    The rebuilt files are the same, byte for byte: only the logs are needed. With --check the files are compared instead, the
    first difference of each session is printed, and the exit status is 1 if there is one.
    """
    with open_manager(store) as manager:
        from eventstore.store.rebuild import check_all, rebuild_all

        storage = manager.storage
        if not isinstance(storage, eventstore.FileSystemSessionStorage):
            raise click.ClickException(
                "this store has no files that are derived from its logs: there is nothing to rebuild; nothing was changed"
            )
        total = sum(1 for _ in storage.log.ids())
        good, bad = 0, 0
        with progress("comparing" if check else "rebuilding", total) as bar:
            for one in (check_all if check else rebuild_all)(storage, jobs):
                if one.damage or one.difference:
                    bad += 1
                    click.echo(f"eventstore: {one.session_id}: {clean(one.damage or one.difference)}", err=True)
                else:
                    good += 1
                if bar:
                    bar.advance(bar.task_ids[0])
        if not check:
            storage.rows()
    fits = "matches its log" if good == 1 else "match their logs"
    click.echo(f"{some(good, 'session')} {fits if check else 'rebuilt'}")
    sys.exit(1 if bad else 0)


def exit_for(damaged: Sequence[LogDamaged]) -> None:
    """Print the damaged sessions, and exit with status 1 if there are any."""
    for damage in damaged:
        click.echo(f"eventstore: {clean(str(damage))}", err=True)
    if damaged:
        sys.exit(1)


def say_if_empty(store: str | None) -> None:
    """Say on standard error that a command that waits for sessions has none, and where it looks for them.

    Raises PermissionError where the folder of the sessions may not be read.
    """
    folder = _sessions_folder(store)
    if folder is not None and not count_sessions(folder):
        click.echo(no_sessions(store), err=True)


def warn_lost(manager: "eventstore.SessionManager") -> None:
    """Report the sessions that the store's own log records and that have no log any more: no output has them."""
    from eventstore.integrity.known_sessions import lost_ids

    for session_id in lost_ids(manager.storage):
        text = "the store records it, and its log is gone or empty: restore a backup"
        click.echo(f"eventstore: session {clean(session_id)!r} is missing: {text}", err=True)


@contextmanager
def naming_the_others(*, every: bool) -> Iterator[None]:
    """Add advice to the error if a damaged session prevents an export of all sessions."""
    try:
        yield
    except LogDamaged as damage:
        if not every:
            raise
        raise click.ClickException(
            f"{clean(str(damage))}; nothing was exported: name the sessions other than {damage.session_id!r} to export those"
        ) from damage
