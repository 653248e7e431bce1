"""Create folders atomically: in a temporary folder, with fsync, then rename; only by descriptors, following no symlinks."""

import errno
import os
from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager, suppress
from functools import partial
from pathlib import Path

from eventstore.backends.files.descriptor import FOLDER, LINKED_FOLDER, NEW
from eventstore.backends.files.durability import sync_data
from eventstore.backends.posix import fcntl

ASIDE = "_adopt"
"""The folder, in a sessions or history folder, in which folders are made. The next use removes what a crash left in it."""
_MADE = "made"


class Stage:
    """A temporary folder in which folders are made one after the other. `open_stage` yields one."""

    def __init__(self, root: int, aside: int) -> None:
        self._root, self._aside = root, aside

    def begin(self) -> None:
        """Begin a new, empty folder; remove one that was not moved to its place."""
        self.clear()
        os.mkdir(_MADE, 0o700, dir_fd=self._aside)

    @contextmanager
    def open(self, path: str) -> Iterator[Callable[[bytes], None]]:
        """Make a file in the folder, at a path of plain names, and yield a writer for it. Modes are 0600 and 0700.

        It is on stable storage at the end. Raises OSError, FileExistsError for a twin.
        """
        *folders, name = path.split("/")
        with open_below(self._aside, [_MADE, *folders], create=True) as folder:
            file = os.open(name, NEW, 0o600, dir_fd=folder)
        try:
            yield partial(_write_all, file)
            sync_data(file)
        finally:
            os.close(file)

    def stat(self, path: str) -> os.stat_result:
        """Return the status of a file in the folder; it is the same file after the folder is moved to its place."""
        return os.stat(f"{_MADE}/{path}", dir_fd=self._aside, follow_symlinks=False)

    def put(self, path: str) -> None:
        """Move the folder to its path below the root. Raises OSError if the path exists (EEXIST, ENOTEMPTY, ENOTDIR)."""
        for _, _, _, inside in os.fwalk(_MADE, dir_fd=self._aside):
            os.fsync(inside)
        *folders, name = path.split("/")
        with open_below(self._root, folders, create=True) as folder:
            os.rename(_MADE, name, src_dir_fd=self._aside, dst_dir_fd=folder)
            os.fsync(folder)
        os.fsync(self._aside)

    def clear(self) -> None:
        """Remove a folder that was made but not moved to its place."""
        for name in os.listdir(self._aside):
            with suppress(FileNotFoundError):
                _remove(name, self._aside)


@contextmanager
def open_stage(root: str | os.PathLike[str]) -> Iterator[Stage]:
    """Yield the stage of a root folder, created if missing; one at a time among all processes."""
    Path(root).mkdir(0o700, parents=True, exist_ok=True)
    whole = os.open(root, LINKED_FOLDER)
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
                )  # a child forked in the meantime has the descriptor too: closing would not unlock
    finally:
        os.close(whole)


def remove_at_once(root: int, folder: int, name: str) -> None:
    """Remove a file or folder with its content in one step, durably; links in it are not followed.

    It is moved into the stage first, so that no reader sees a part of it. The next use removes what a crash left there.
    Raises OSError, FileNotFoundError if nothing has that name.
    """
    with open_below(root, [ASIDE], create=True) as aside:
        gone = f"gone-{os.urandom(8).hex()}"
        os.rename(name, gone, src_dir_fd=folder, dst_dir_fd=aside)
        os.fsync(folder)
        _remove_all(gone, aside)
        with suppress(OSError):  # another process makes a folder here: it removes the rest when it is done
            fcntl.flock(aside, fcntl.LOCK_EX | fcntl.LOCK_NB)
            try:
                Stage(root, aside).clear()
            finally:
                fcntl.flock(aside, fcntl.LOCK_UN)


def _remove_all(name: str, folder: int) -> None:
    """Remove a file or a folder, even while another process writes into it or removes it too. Raises OSError."""
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
    """Remove what a crash left in the stage of a root folder; wait for a process that makes a folder there."""
    if os.path.isdir(os.path.join(root, ASIDE)):
        with open_stage(root):
            pass


@contextmanager
def open_below(root: int, folders: Iterable[str], *, create: bool = False) -> Iterator[int]:
    """Yield a descriptor of a folder, opened from that of another without following any link. Raises OSError."""
    inside = os.dup(root)
    try:
        for name in folders:
            if create:
                with suppress(FileExistsError):
                    os.mkdir(name, 0o700, dir_fd=inside)
                    os.fsync(inside)
            found = os.open(name, FOLDER, dir_fd=inside)
            os.close(inside)
            inside = found
        yield inside
    finally:
        os.close(inside)


def _remove(name: str, folder: int) -> None:
    try:
        os.unlink(name, dir_fd=folder)
    except (IsADirectoryError, PermissionError):
        import shutil  # it loads compressors, and hardly ever is a folder there

        shutil.rmtree(name, dir_fd=folder)


def _write_all(descriptor: int, data: bytes) -> None:
    while data:
        data = data[os.write(descriptor, data) :]
