"""Replace a file in one step: readers see the old bytes or the new ones, also after a crash.

The new bytes are written to `.NAME.new` in the same folder, flushed, and renamed. The writer holds a lock on that file,
so two writers take turns. The next writer of the same name reuses a file that a crash left.
"""

import errno
import os
import stat
from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager, suppress
from functools import partial
from pathlib import Path

from eventstore.backends.files.descriptor import LINKED_FOLDER, SAFE, write_all
from eventstore.backends.files.durability import sync_data
from eventstore.backends.posix import fcntl

_ATTEMPTS = 1_000
_ODD = frozenset({errno.ELOOP, errno.ENXIO})


@contextmanager
def replacing(
    name: str, *, folder: int, durable: bool = True, mode: int = 0o600, temporary: str | None = None
) -> Iterator[Callable[[bytes], None]]:
    """Yield a writer for a new file, below the descriptor of its folder.

    It replaces the old file when the block ends without an error. `temporary` is the name of the file that is written first.
    Several files of a folder can share it: then they take turns. A link of that name is replaced, not followed. With `durable`
    both the bytes and the name are on stable storage afterwards. Raises OSError; the file is as it was then, unless flushing
    the folder is what failed.
    """
    temporary = temporary or temporary_name(name)
    file = _open_temporary(temporary, folder, mode)
    try:
        try:
            yield partial(write_all, file)
            if durable:
                sync_data(file)
            os.replace(temporary, name, src_dir_fd=folder, dst_dir_fd=folder)
        except BaseException:
            with suppress(OSError):
                os.unlink(temporary, dir_fd=folder)
            raise
    finally:
        _let_go(file)
    if durable:
        os.fsync(folder)


def replace_file(
    name: str,
    data: bytes | Iterable[bytes],
    *,
    folder: int,
    durable: bool = True,
    mode: int = 0o600,
    temporary: str | None = None,
) -> None:
    """Write a file atomically, below the descriptor of its folder; see `replacing`.

    Raises OSError, and what iterating over `data` raises.
    """
    with replacing(name, folder=folder, durable=durable, mode=mode, temporary=temporary) as write:
        for chunk in (data,) if isinstance(data, bytes) else data:
            write(chunk)


def replace_path(path: Path | str, data: bytes | Iterable[bytes], *, durable: bool = True, mode: int = 0o600) -> None:
    """Write a file atomically, by its path; its folder must exist. Raises as `replace_file` does."""
    folder, name = os.path.split(os.path.abspath(path))
    descriptor = os.open(folder, LINKED_FOLDER)
    try:
        replace_file(name, data, folder=descriptor, durable=durable, mode=mode)
    finally:
        os.close(descriptor)


def temporary_name(name: str) -> str:
    """Return the name of the file that has the new bytes until it is renamed."""
    return f".{name}.new"


def _open_temporary(temporary: str, folder: int, mode: int) -> int:
    """Open the temporary file, empty, and hold its lock. Raises OSError."""
    for _ in range(_ATTEMPTS):
        try:
            file = os.open(temporary, os.O_RDWR | os.O_CREAT | SAFE, mode, dir_fd=folder)
        except OSError as error:
            if error.errno not in _ODD:
                raise
            os.unlink(temporary, dir_fd=folder)
            continue
        try:
            fcntl.flock(file, fcntl.LOCK_EX)
            if _is_ours(file, temporary, folder):
                os.ftruncate(file, 0)
                os.fchmod(file, mode)
                return file
        except BaseException:
            _let_go(file)
            raise
        _let_go(file)
    raise OSError(errno.EAGAIN, "other programs replace the file all the time", temporary)


def _is_ours(file: int, temporary: str, folder: int) -> bool:
    """Check whether a file still has that name and no other name; remove an object that is not a plain file."""
    try:
        found = os.stat(temporary, dir_fd=folder, follow_symlinks=False)
    except FileNotFoundError:
        return False
    if not stat.S_ISREG(found.st_mode) or found.st_nlink != 1:
        os.unlink(temporary, dir_fd=folder)
        return False
    return os.path.samestat(found, os.fstat(file))


def _let_go(file: int) -> None:
    with suppress(OSError):  # a child that was forked meanwhile has the descriptor too: closing it would not unlock
        fcntl.flock(file, fcntl.LOCK_UN)
    os.close(file)
