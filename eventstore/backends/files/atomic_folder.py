"""Folders that appear whole or not at all: made aside, flushed, then renamed into place, below descriptors and past no link."""

import errno
import os
import shutil
from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager, suppress
from functools import partial
from pathlib import Path

from eventstore.backends.files.durability import sync_data
from eventstore.backends.posix import fcntl

ASIDE = "_adopt"
"""The folder, in a sessions or history folder, in which folders are made. What a crash leaves in it goes with the next use."""
_FOLDER = os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC | os.O_NOFOLLOW
_NEW = os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_NOFOLLOW | os.O_CLOEXEC
_MADE = "made"


class Stage:
    """A place in which one folder after the other is made. `open_stage` gives one."""

    def __init__(self, root: int, aside: int) -> None:
        self._root, self._aside = root, aside

    def begin(self) -> None:
        """Begin a new folder, empty; what was not put anywhere goes."""
        self.clear()
        os.mkdir(_MADE, 0o700, dir_fd=self._aside)

    @contextmanager
    def open(self, path: str) -> Iterator[Callable[[bytes], None]]:
        """Make a file in the folder, at a path of plain names, and lend what writes to it. Modes are 0600 and 0700.

        It is on stable storage at the end. Raises OSError, FileExistsError for a twin.
        """
        *folders, name = path.split("/")
        with open_below(self._aside, [_MADE, *folders], create=True) as folder:
            file = os.open(name, _NEW, 0o600, dir_fd=folder)
        try:
            yield partial(_write_all, file)
            sync_data(file)
        finally:
            os.close(file)

    def stat(self, path: str) -> os.stat_result:
        """Return what is known of a file in the folder, which stays the same file when the folder is put in place."""
        return os.stat(f"{_MADE}/{path}", dir_fd=self._aside, follow_symlinks=False)

    def put(self, path: str) -> None:
        """Move the folder to its path below the root. Raises OSError where something is there (EEXIST, ENOTEMPTY, ENOTDIR)."""
        for _, _, _, inside in os.fwalk(_MADE, dir_fd=self._aside):
            os.fsync(inside)
        *folders, name = path.split("/")
        with open_below(self._root, folders, create=True) as folder:
            os.rename(_MADE, name, src_dir_fd=self._aside, dst_dir_fd=folder)
            os.fsync(folder)
        os.fsync(self._aside)

    def clear(self) -> None:
        """Remove what is left of a folder that was made and not put anywhere."""
        for name in os.listdir(self._aside):
            with suppress(FileNotFoundError):
                _remove(name, self._aside)


@contextmanager
def open_stage(root: str | os.PathLike[str]) -> Iterator[Stage]:
    """Lend the stage of a root folder, which is made where it is not there; one at a time, in all processes."""
    Path(root).mkdir(0o700, parents=True, exist_ok=True)
    whole = os.open(root, _FOLDER & ~os.O_NOFOLLOW)
    try:
        with open_below(whole, [ASIDE], create=True) as aside:
            fcntl.flock(aside, fcntl.LOCK_EX)
            stage = Stage(whole, aside)
            try:
                yield stage
            finally:
                stage.clear()
                fcntl.flock(
                    aside, fcntl.LOCK_UN
                )  # a child forked meanwhile has the descriptor too: closing would not unlock
    finally:
        os.close(whole)


def remove_at_once(root: int, folder: int, name: str) -> None:
    """Remove what has a name in a folder, in one step and durable, with all in it; links in it are not followed.

    It is moved aside first, so that nobody sees half of it. What a crash leaves there is removed with the next use.
    Raises OSError, FileNotFoundError where nothing has that name.
    """
    with open_below(root, [ASIDE], create=True) as aside:
        gone = f"gone-{os.urandom(8).hex()}"
        os.rename(name, gone, src_dir_fd=folder, dst_dir_fd=aside)
        os.fsync(folder)
        _remove_all(gone, aside)
        with suppress(OSError):  # somebody makes a folder here: it clears what is left when it is done
            fcntl.flock(aside, fcntl.LOCK_EX | fcntl.LOCK_NB)
            try:
                Stage(root, aside).clear()
            finally:
                fcntl.flock(aside, fcntl.LOCK_UN)


def _remove_all(name: str, folder: int) -> None:
    """Remove a file or a folder, also where somebody still writes into it or helps to remove it. Raises OSError."""
    for last in (False, False, True):
        try:
            _remove(name, folder)
        except FileNotFoundError:
            continue
        except OSError as error:
            if last or error.errno != errno.ENOTEMPTY:
                raise
        else:
            return


def clear_stage(root: str | os.PathLike[str]) -> None:
    """Remove what a crash left in the stage of a root folder; waits for whoever makes a folder there right now."""
    if os.path.isdir(os.path.join(root, ASIDE)):
        with open_stage(root):
            pass


@contextmanager
def open_below(root: int, folders: Iterable[str], *, create: bool = False) -> Iterator[int]:
    """Lend a descriptor of a folder, walked to from that of another without following any link. Raises OSError."""
    inside = os.dup(root)
    try:
        for name in folders:
            if create:
                with suppress(FileExistsError):
                    os.mkdir(name, 0o700, dir_fd=inside)
                    os.fsync(inside)
            found = os.open(name, _FOLDER, dir_fd=inside)
            os.close(inside)
            inside = found
        yield inside
    finally:
        os.close(inside)


def _remove(name: str, folder: int) -> None:
    try:
        os.unlink(name, dir_fd=folder)
    except (IsADirectoryError, PermissionError):
        shutil.rmtree(name, dir_fd=folder)


def _write_all(descriptor: int, data: bytes) -> None:
    while data:
        data = data[os.write(descriptor, data) :]
