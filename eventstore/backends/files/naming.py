"""Logs get, change and lose their names: made aside and put in place, moved to the trash and back, deleted."""

import errno
import os
from collections.abc import Iterable, Iterator
from contextlib import contextmanager, suppress
from typing import TypeVar

from eventstore.backends.files.atomic_folder import Stage, remove_at_once
from eventstore.backends.files.blobs import check_blob
from eventstore.backends.files.chunks import life_of
from eventstore.backends.files.folders import LOG, Folders
from eventstore.backends.files.handle import Handle
from eventstore.backends.files.rewriting import Fill, FillFailed, announced, run_fill, taken
from eventstore.errors import NotARegularFile
from eventstore.log.port import Exists, NotStored, Refused, Unclear
from eventstore.record.scan import Tip

_IN_THE_WAY = frozenset({errno.EEXIST, errno.ENOTEMPTY, errno.ENOTDIR, errno.EISDIR})
T = TypeVar("T")


@contextmanager
def place_of(folders: Folders, log: str, *, create: bool = False) -> Iterator[tuple[int, str]]:
    """Lend a descriptor of the folder that a log's folder is in, and the log's name in there. Raises Missing, OSError."""
    parent, _, name = log.rpartition("/")
    folder = folders.open(parent, create=create)
    try:
        yield folder, name
    finally:
        os.close(folder)


def is_there(name: str, folder: int) -> bool:
    """Tell whether anything has a name in a folder. Raises OSError."""
    try:
        os.stat(name, dir_fd=folder, follow_symlinks=False)
    except FileNotFoundError:
        return False
    return True


def make(stage: Stage, fill: Fill, blobs: Iterable[tuple[str, Iterable[bytes]]], path: str) -> str:
    """Make a log's folder aside; return the life that the log has once the folder is in its place.

    Raises OSError, Refused, and what `run_fill` and iterating over the blobs raise.
    """
    stage.begin()
    with stage.open(LOG) as write:
        head = run_fill(fill, write, path)
    for name, parts in passing(blobs):
        check_blob(name)
        with stage.open(name) as write:
            for part in passing(parts):
                write(part)
    found = stage.stat(LOG)
    return life_of(found.st_dev, found.st_ino, head)


def passing(items: Iterable[T]) -> Iterator[T]:
    """Stream what a caller gives, with its own OSErrors as FillFailed."""
    try:
        yield from items
    except OSError as error:
        raise FillFailed(error) from error


def put(folders: Folders, stage: Stage, log: str) -> None:
    """Put the folder that was made aside in its place. Raises Exists, OSError."""
    with place_of(folders, log) as (folder, name):
        if is_there(name, folder):  # an empty folder would be replaced: it may be that of a log that is just being made
            raise Exists(log)
    try:
        stage.put(log)
    except OSError as error:
        raise (Exists(log) if error.errno in _IN_THE_WAY else error) from error


def rename(folders: Folders, log: str, to: str) -> None:
    """Give a log's folder another name, durable. Its lock is held. Raises Exists, NotStored, OSError."""
    with place_of(folders, log) as (old, old_name), place_of(folders, to, create=True) as (new, new_name):
        if is_there(new_name, new):  # an empty folder would be replaced, see above
            raise Exists(to)
        try:
            os.rename(old_name, new_name, src_dir_fd=old, dst_dir_fd=new)
        except OSError as error:
            raise (Exists(to) if error.errno in _IN_THE_WAY else error) from error
        try:
            os.fsync(new)
            os.fsync(old)
        except OSError as error:
            raise NotStored(folders.path(to), error.errno or errno.EIO, "move") from error


def delete(handle: Handle, folder: int, name: str, expect: Tip | None) -> bool:
    """Delete a log's folder, which has that name in a folder; False where there was no log in it.

    Raises Moved, Refused, Unclear, OSError.
    """
    try:
        # a folder without a log gets an empty one, so that whoever is about to make that log waits and looks again
        with taken(handle, create=True) as found:
            if found.st_size:
                handle.expect(expect, found)
            with announced(handle):
                _remove(handle, folder, name)
                with suppress(OSError):  # earlier releases do not look at the path each time, but at the size they do
                    os.write(handle.descriptor, b"\0")
            handle.close()
    except NotARegularFile:  # nobody can write to it; what it leads to stays
        _remove(handle, folder, name)
        return True
    return found.st_size > 0


def _remove(handle: Handle, folder: int, name: str) -> None:
    root = handle.folders.open("")
    try:
        remove_at_once(root, folder, name)
    except FileNotFoundError:
        return
    except OSError as error:
        kind = Refused if is_there(name, folder) else Unclear
        raise kind(handle.path, error.errno or errno.EIO, "delete") from error
    finally:
        os.close(root)
