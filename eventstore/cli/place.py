"""Where the store of a command is. Loads nothing that opens a store, nor click: completion asks here too."""

import os
from collections.abc import Iterator
from contextlib import suppress
from dataclasses import replace
from pathlib import Path
from typing import NamedTuple

from eventstore.escape import clean
from eventstore.settings import Settings, load_settings, source_of

SESSIONS, HISTORY = ".sessions", ".history"
CATALOGUE = "_catalog/catalog.db"
"""The catalogue below the sessions folder, as `derived/catalog.py` writes it."""


class Place(NamedTuple):
    """Where a store is, and why it is looked for there. `sessions` is None for a store in memory, or one with a URL."""

    settings: Settings
    sessions: Path | None
    why: str

    @property
    def name(self) -> str:
        """Return how to name the store to people."""
        if self.sessions is not None:
            return clean(str(self.sessions.absolute()))
        if self.settings.url is None:
            return "memory"
        from eventstore.backends.open import shown

        return clean(shown(self.settings.url))

    @property
    def is_default(self) -> bool:
        """Return True for the store of the user, which is used where nothing names another."""
        return self.why == _DEFAULT


_DEFAULT = "the default: no option, setting or folder names another"


def locate(store: str | None) -> Place:
    """Find the store of a command. Raises InvalidSetting.

    The first of these that holds: `--store`; the settings; `.sessions` in the working folder or the nearest folder above it that
    belongs to this user; the data folder of the user.
    """
    settings = load_settings()
    if store is not None and _is_url(store):
        return Place(replace(settings, url=store, storage_enabled=True), None, "--store")
    if store is not None:
        return _at(settings, folder_of(store), "--store")
    if settings.storage_enabled and settings.url is not None:
        return Place(settings, None, "SESSION_STORAGE_URL")
    if not settings.storage_enabled or settings.backend == "memory":
        return Place(settings, None, "by the settings")
    if source := source_of("SESSION_STORAGE_PATH"):
        return Place(settings, settings.storage_path, f"SESSION_STORAGE_PATH in {source}")
    if (found := _nearest()) is not None:
        return _at(settings, found, f"{SESSIONS} in {'this folder' if found == Path() else 'a folder above'}")
    return _at(settings, data_folder(), _DEFAULT)


def _is_url(store: str) -> bool:
    if ":" not in store:
        return False
    from eventstore.backends.open import is_url  # imported here: it loads the port of logs

    return is_url(store)


def _at(settings: Settings, folder: Path, why: str) -> Place:
    history = settings.history_path if why != "--store" and source_of("TOOL_HISTORY_PATH") else folder / HISTORY
    found = replace(settings, storage_path=folder / SESSIONS, history_path=history)
    found = replace(found, storage_enabled=True, backend="filesystem", url=None)
    return Place(found, folder / SESSIONS, why)


def folder_of(store: str) -> Path:
    """Return the folder that holds `.sessions`, which may be named itself."""
    folder = Path(store)
    return folder.parent if folder.name == SESSIONS else folder


def _nearest() -> Path | None:
    """Return the nearest folder with `.sessions`, from the working folder up. Above it, only folders of this user count."""
    if Path(SESSIONS).is_dir():
        return Path()
    try:
        above = Path.cwd().parents
    except OSError:
        return None
    for folder in above:
        try:
            if (folder / SESSIONS).is_dir() and (folder / SESSIONS).stat().st_uid == os.getuid():
                return folder
        except OSError:
            continue
    return None


def data_folder() -> Path:
    """Return the folder of the user's default store."""
    from platformdirs import user_data_path  # imported here: only a command without another store needs it

    return user_data_path("eventstore", appauthor=False)


def count_sessions(folder: Path) -> int | None:
    """Count the sessions in a folder; None if it does not exist or cannot be read."""
    try:
        with os.scandir(folder) as found:
            return sum(1 for one in found if one.name[0] not in "._" and one.is_dir(follow_symlinks=False))
    except OSError:
        return None


def no_sessions(store: str | None, *, every: bool = False) -> str:
    """Return what to say where a command found nothing: that nothing fits, or where no store is. `every`: it asked for all.

    Raises PermissionError where the folder of the sessions may not be read.
    """
    place = locate(store)
    if place.sessions is None:
        return f"no sessions in {place.name}"
    where = place.name
    with suppress(FileNotFoundError, NotADirectoryError), os.scandir(place.sessions):
        pass
    if count := count_sessions(place.sessions):
        if every:
            return (
                f"none of the sessions in {where}, {count:,} in all, can be read: `eventstore repair --all` shows why"
            )
        return f"no sessions that fit, of {count:,} in {where}"
    return f"no sessions in {where}: `eventstore import` fills it, `eventstore where` explains why this place is used"


def ids_in(folder: Path) -> Iterator[str]:
    """Return the ids of the sessions in a folder, without opening the store."""
    with suppress(OSError), os.scandir(folder) as found:
        for one in found:
            if one.name[0] not in "._":
                yield one.name
