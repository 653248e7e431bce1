"""Stable storage: the system calls after which bytes and folder entries survive a power loss."""

import errno
import os
from contextlib import suppress

from eventstore.backends.files.descriptor import LINKED_FOLDER
from eventstore.backends.posix import fcntl

_NOT_SUPPORTED = frozenset({errno.ENOTSUP, errno.EOPNOTSUPP, errno.ENOTTY, errno.EINVAL})


def sync_data(descriptor: int) -> None:
    """Force the bytes of a file to stable storage. Raises OSError.

    On macOS `fsync` returns while the drive still has the bytes in its cache; `F_FULLFSYNC` empties that too. For
    drives that do not support it, the plain call is used. On systems without `fdatasync`, `fsync` is used.
    """
    full = getattr(fcntl, "F_FULLFSYNC", None)
    if full is not None:
        try:
            fcntl.fcntl(descriptor, full)
        except OSError as error:
            if error.errno not in _NOT_SUPPORTED:
                raise
        else:
            return
    getattr(os, "fdatasync", os.fsync)(descriptor)


def sync_folder(folder: int | str) -> None:
    """Force the entries of a folder, given by descriptor or path, to stable storage; a missing path needs no flush."""
    if isinstance(folder, int):
        os.fsync(folder)
        return
    with suppress(FileNotFoundError):
        descriptor = os.open(folder, LINKED_FOLDER)
        try:
            os.fsync(descriptor)
        finally:
            os.close(descriptor)
