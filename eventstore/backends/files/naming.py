"""Create, rename and delete logs: make them in a temporary folder, move them to the trash and back."""

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
from eventstore.backends.files.rewriting import Fill, FillFailed, announced, run_fill
from eventstore.errors import NotARegularFile
from eventstore.log.port import Exists, NotStored, Refused, Unclear
from eventstore.record.scan import Tip

_IN_THE_WAY = frozenset({errno.EEXIST, errno.ENOTEMPTY, errno.ENOTDIR, errno.EISDIR})
T = TypeVar("T")


@contextmanager
def place_of(folders: Folders, log: str, *, create: bool = False) -> Iterator[tuple[int, str]]:
    """Yield a descriptor of the parent folder of a log's folder, and the log's name in it. Raises Missing, OSError."""
    parent, _, name = log.rpartition("/")
    folder = folders.open(parent, create=create)
    try:
        yield folder, name
    finally:
        os.close(folder)


def is_there(name: str, folder: int) -> bool:
    """Return whether a name exists in a folder. Raises OSError."""
    try:
        os.stat(name, dir_fd=folder, follow_symlinks=False)
    except FileNotFoundError:
        return False
    return True


def make(stage: Stage, fill: Fill, blobs: Iterable[tuple[str, Iterable[bytes]]], path: str) -> str:
    """Make a log's folder in the stage; return the life that the log has when the folder is in its place.

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
    """Stream the caller's data; raise the caller's own OSErrors as FillFailed."""
    try:
        yield from items
    except OSError as error:
        raise FillFailed(error) from error


def put(folders: Folders, stage: Stage, log: str) -> None:
    """Move the new folder from the stage to its place. Raises Exists, OSError."""
    with place_of(folders, log) as (folder, name):
        if is_there(name, folder):  # an empty folder would be replaced: it may belong to a log that is being created
            raise Exists(log)
    try:
        stage.put(log)
    except OSError as error:
        raise (Exists(log) if error.errno in _IN_THE_WAY else error) from error


def rename(folders: Folders, log: str, to: str) -> None:
    """Rename a log's folder, durably. Its lock is held. Raises Exists, NotStored, OSError."""
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
    """Delete a log's folder, by its name in its parent folder; return False if there was no log in it.

    Raises Moved, Refused, Unclear, OSError.
    """
    try:
        # a folder without a log gets an empty one, so that a process about to make that log waits and checks again
        with handle.held(create=True) as found:
            if found.st_size:
                handle.expect(expect, found)
            with announced(handle):
                _remove(handle, folder, name)
                with suppress(OSError):  # earlier releases do not check the path each time, but they check the size
                    os.write(handle.descriptor, b"\0")
            handle.close()
    except NotARegularFile:  # no one can write to it; its target stays
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
