"""The store that a command works on, and making its views anew."""

import sys
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any, TypeVar

import click

import eventstore
from eventstore.catalog import FOLDER, Catalog, Filter, Sizes
from eventstore.cli.terminal import clean, progress
from eventstore.errors import LogDamaged
from eventstore.settings import load_settings

F = TypeVar("F", bound=Callable[..., Any])


def store_option(command: F) -> F:
    """Give a command the option --store; what the command itself is given wins over what stands before it."""
    return click.option(
        "--store",
        type=click.Path(file_okay=False),
        callback=lambda context, parameter, value: value or context.find_root().obj,
        help="The folder that holds .sessions and .history.",
    )(command)


def as_moment(text: str) -> str | int:
    """Read a moment: a whole number is a version, anything else a time."""
    return int(text) if text.isdecimal() and text.isascii() and len(text) < 18 else text


def at_option(command: F) -> F:
    """Give a command the option --at: a version (a whole number), or a time."""
    return click.option(
        "--at",
        metavar="MOMENT",
        callback=lambda context, parameter, value: None if value is None else as_moment(value),
        help="As it was then: after so many events, or at a time such as 2026-01-31T12:00.",
    )(command)


def list_rows(
    store: str | None, wanted: Filter, at: str | int | None, on_damage: Callable[[LogDamaged], None]
) -> list[dict[str, Any]]:
    """List what is known of sessions; where the catalogue is up to date nothing else is loaded. Raises InvalidSetting."""
    folder = _sessions_folder(store)
    if folder is not None and at is None:
        catalog = Catalog(folder / FOLDER)
        if folder.is_dir() and not catalog.stale(Sizes(folder)):
            return catalog.find(wanted)[0]
        catalog.close()
    with open_manager(store) as manager:
        return [one.to_dict() for one in manager.storage.page(wanted, on_damage, at).sessions]


def _sessions_folder(store: str | None) -> Path | None:
    settings = load_settings()
    if store is None:
        return settings.storage_path if settings.storage_enabled and settings.backend == "filesystem" else None
    return _folder_of(store) / ".sessions"


def _folder_of(store: str) -> Path:
    folder = Path(store)
    return folder.parent if folder.name == ".sessions" else folder


def open_manager(store: str | None, **changes: Any) -> "eventstore.SessionManager":
    """Open the store in a folder, or the one that the settings name. Raises InvalidSetting."""
    settings = load_settings()
    if store is None:
        return eventstore.SessionManager.from_settings(settings)
    folder = _folder_of(store)
    fsync = changes.get("fsync", settings.fsync)
    storage = eventstore.FileSystemSessionStorage(folder / ".sessions", folder / ".history", fsync=fsync)
    return eventstore.SessionManager(storage)


@click.command("rebuild", short_help="Make every view anew from the logs.")
@store_option
def rebuild_command(store: str | None) -> None:
    """Delete metadata.json, conversation.jsonl, invocations.json, data.json and the links of every session, and make them anew.

    They come back the same, byte for byte: the log is all that is needed.
    """
    with open_manager(store) as manager:
        total = sum(1 for _ in manager.storage.log.ids())
        done = 0
        damaged: list[LogDamaged] = []
        with progress("rebuilding", total) as bar:
            for _ in manager.storage.rebuild(damaged.append):
                done += 1
                if bar:
                    bar.advance(bar.task_ids[0])
    click.echo(f"{done} sessions rebuilt")
    exit_for(damaged)


def exit_for(damaged: Sequence[LogDamaged]) -> None:
    """Tell of sessions that could not be read, and end with status 1 if there are any."""
    for damage in damaged:
        click.echo(f"eventstore: {clean(str(damage))}", err=True)
    if damaged:
        sys.exit(1)
