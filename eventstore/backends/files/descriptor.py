"""Descriptors: open, write and flush the files and folders of a log, and mark them as being written."""

import os
import stat
import struct
import sys
from contextlib import suppress

from eventstore.backends.posix import fcntl

SAFE = os.O_CLOEXEC | os.O_NOFOLLOW | os.O_NONBLOCK
FOLDER = os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC | os.O_NOFOLLOW
LINKED_FOLDER = FOLDER & ~os.O_NOFOLLOW  # for a root folder that the user named: it may be a link
READ = os.O_RDONLY | SAFE
NEW = os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC | os.O_NOFOLLOW


def write_all(descriptor: int, data: bytes) -> None:
    """Write all bytes, with as many calls as needed."""
    written = os.write(descriptor, data)
    while written < len(data):
        written += os.write(descriptor, data[written:])


def mark_as_written(descriptor: int) -> None:
    """Mark the log as open for writing, for as long as the descriptor is open.

    It is a shared lock of the open file description, which `kill -9` removes too. On systems without such locks it does nothing.
    """
    if _OFD_SETLK is not None:
        with suppress(OSError):
            fcntl.fcntl(descriptor, _OFD_SETLK, _lock(fcntl.F_RDLCK))


def is_being_written(descriptor: int) -> bool:
    """Return whether any process, also this one, has the log of a descriptor open for writing."""
    if _OFD_GETLK is None:
        return False
    found = fcntl.fcntl(descriptor, _OFD_GETLK, _lock(fcntl.F_WRLCK))
    return bool(struct.unpack_from("h", found)[0] != fcntl.F_UNLCK)


_PLATFORM: str = sys.platform
_OFD_SETLK: int | None = getattr(fcntl, "F_OFD_SETLK", None) if _PLATFORM == "linux" else None
_OFD_GETLK: int | None = getattr(fcntl, "F_OFD_GETLK", None) if _PLATFORM == "linux" else None
SHOWS_WRITERS = _OFD_GETLK is not None
"""Whether `is_being_written` works here: other systems have other locks, or another layout of `struct flock`."""


def _lock(kind: int) -> bytes:
    return struct.pack("hhqqi4x", kind, os.SEEK_SET, 0, 0, 0)


_KINDS = (
    (stat.S_ISLNK, "a symbolic link"),
    (stat.S_ISDIR, "a folder"),
    (stat.S_ISFIFO, "a pipe"),
    (stat.S_ISSOCK, "a socket"),
    (stat.S_ISREG, "a file with more than one name"),
)


def kind_of(path: str) -> str:
    """Describe the object at a path where a plain file should be."""
    try:
        mode = os.stat(path, follow_symlinks=False).st_mode
    except OSError:
        return "something unreachable"
    return next((kind for test, kind in _KINDS if test(mode)), "a device")
