"""The files of a store in a redaction: records of tool calls are cleaned, and every file is searched for what is left."""

from collections.abc import Callable, Collection, Iterable
from pathlib import Path
from typing import Any

from eventstore.store.removed_text import Removed, find_left
from eventstore.store.storage import SessionStorage


def still_there(storage: SessionStorage, removed: Removed, known: Collection[str]) -> list[str]:
    """Search every file of the store for texts; return the files that contain one and are not yet known."""
    try:
        return [name for name in find_left(roots_of(storage), removed.needles()) if name not in known]
    except OSError as error:
        return [f"the files of the store could not be searched: {error}"]


def roots_of(storage: SessionStorage) -> list[Path]:
    """List the folders in which a store keeps files."""
    return [*storage.local_folders(), *([storage.history.path] if storage.history is not None else [])]


def clean_records(
    storage: SessionStorage, folders: Iterable[str], clean: Callable[[Any], Any]
) -> tuple[list[str], list[str]]:
    """Redact the records of tool calls; return their folders, and the names of other files there or of failed steps."""
    records, left = list[str](), list[str]()
    history = storage.history
    for folder in folders if history is not None else ():
        assert history is not None  # noqa: S101 - checked before
        try:
            history.remove_unfinished(folder)
            left += [f"{folder}/{name}" for name in history.others(folder)]
            if history.redact(folder, clean):
                records.append(folder)
        except FileNotFoundError:
            continue
        except (OSError, ValueError) as error:
            left.append(f"{folder}: {error}")
    return records, left
