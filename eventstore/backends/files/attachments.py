"""What lies beside a log in its folder: the notes that sign it, and what repairs have cut from it."""

import errno
import os
import stat
from collections.abc import Sequence
from contextlib import suppress

from eventstore.backends.files.atomic_folder import open_below
from eventstore.backends.files.descriptor import FOLDER, SAFE, write_all
from eventstore.backends.files.lines import blocks, read_bytes
from eventstore.errors import NotARegularFile
from eventstore.ids import is_beside
from eventstore.record.fragment import blank

CHECKPOINTS, QUARANTINE = "checkpoints", "quarantine"
MAX_NOTE_BYTES = 1_000_000
"""Of a note no more is read: one that is longer is no note."""


def list_beside(folder: int) -> list[str]:
    """Name the files in a session folder that go with its log: signed checkpoints, and what repairs have kept."""
    found = []
    for inner in (CHECKPOINTS, QUARANTINE):
        with (
            suppress(FileNotFoundError, NotADirectoryError),
            open_below(folder, [inner]) as inside,
            os.scandir(inside) as entries,
        ):
            found += [f"{inner}/{one.name}" for one in entries if one.is_file(follow_symlinks=False)]
    return sorted(filter(is_beside, found))


def open_beside(folder: int, name: str) -> int:
    """Open for reading what `list_beside` names. Raises FileNotFoundError, OSError."""
    inner, _, last = name.partition("/")
    if not is_beside(name):
        raise FileNotFoundError(errno.ENOENT, os.strerror(errno.ENOENT), name)
    with open_below(folder, [inner]) as inside:
        descriptor = os.open(last, os.O_RDONLY | SAFE, dir_fd=inside)
    if stat.S_ISREG(os.fstat(descriptor).st_mode):
        return descriptor
    os.close(descriptor)
    raise NotARegularFile(name, "no file")


def list_quarantine(folder: int) -> list[str]:
    """Name the files in a session folder's quarantine, as `log.repaired` names them."""
    try:
        quarantine = os.open(QUARANTINE, FOLDER, dir_fd=folder)
    except FileNotFoundError:
        return []
    try:
        return sorted(f"{QUARANTINE}/{name}" for name in os.listdir(quarantine))
    finally:
        os.close(quarantine)


def scrub_quarantine(folder: int, removed: Sequence[bytes]) -> list[str]:
    """Overwrite removed texts, and parts of them, in the files in a session folder's quarantine; name those that had any.

    `removed` are texts as `blank` takes them. Raises OSError, after all files were tried.
    """
    changed, failed = list[str](), list[OSError]()
    for name in list_quarantine(folder):
        try:
            if _scrub_file(folder, name, removed):
                changed.append(name)
        except OSError as error:
            failed.append(error)
    if failed:
        raise failed[0]
    return changed


def _scrub_file(folder: int, name: str, removed: Sequence[bytes]) -> bool:
    file = os.open(name, os.O_RDWR | SAFE, dir_fd=folder)
    try:
        old = read_bytes(file, 0, os.fstat(file).st_size)
        new = blank(old, removed)
        if new == old:
            return False
        start = 0
        while start < len(new):
            start += os.pwrite(file, new[start:], start)
        os.fsync(file)
        return True
    finally:
        os.close(file)


def remove_unfinished(folder: int, name: str) -> bool:
    """Remove what a writer that was killed left of a new version of a file; False where there is none. Raises OSError."""
    try:
        os.unlink(f".{name}.new", dir_fd=folder)
    except FileNotFoundError:
        return False
    return True


def keep_bytes(folder: int, name: str, descriptor: int, start: int, end: int) -> None:
    """Copy bytes of a log to a new file in its folder's quarantine, on stable storage."""
    with suppress(FileExistsError):
        os.mkdir(QUARANTINE, 0o700, dir_fd=folder)
    quarantine = os.open(QUARANTINE, FOLDER, dir_fd=folder)
    try:
        copy = os.open(name, os.O_WRONLY | os.O_CREAT | os.O_EXCL | SAFE, 0o600, dir_fd=quarantine)
        try:
            for block in blocks(descriptor, start, end):
                write_all(copy, block)
            os.fsync(copy)
        finally:
            os.close(copy)
        os.fsync(quarantine)
    finally:
        os.close(quarantine)
    os.fsync(folder)


def keep_note(folder: int, name: str, note: bytes) -> None:
    """Write a note into a session folder's checkpoints, whole or not at all, and force it to stable storage."""
    with suppress(FileExistsError):
        os.mkdir(CHECKPOINTS, 0o700, dir_fd=folder)
    notes = os.open(CHECKPOINTS, FOLDER, dir_fd=folder)
    new = f".{name}.new"
    try:
        with suppress(FileNotFoundError):
            os.unlink(new, dir_fd=notes)
        file = os.open(new, os.O_WRONLY | os.O_CREAT | os.O_EXCL | SAFE, 0o600, dir_fd=notes)
        try:
            write_all(file, note)
            os.fsync(file)
        finally:
            os.close(file)
        os.replace(new, name, src_dir_fd=notes, dst_dir_fd=notes)
        os.fsync(notes)
    finally:
        os.close(notes)
    os.fsync(folder)


def read_notes(folder: int) -> list[tuple[str, bytes]]:
    """Read the notes in a session folder's checkpoints, in the order of their names; what is no plain file reads as nothing."""
    try:
        notes = os.open(CHECKPOINTS, FOLDER, dir_fd=folder)
    except FileNotFoundError:
        return []
    try:
        names = sorted(name for name in os.listdir(notes) if name.endswith(".note"))
        return [(name, _read_note(notes, name)) for name in names]
    finally:
        os.close(notes)


def _read_note(notes: int, name: str) -> bytes:
    try:
        file = os.open(name, os.O_RDONLY | SAFE, dir_fd=notes)
    except OSError as error:
        if error.errno in (errno.ELOOP, errno.ENXIO):
            return b""
        raise
    try:
        return read_bytes(file, 0, MAX_NOTE_BYTES) if stat.S_ISREG(os.fstat(file).st_mode) else b""
    finally:
        os.close(file)


def remove_notes(folder: int) -> None:
    """Remove the notes in a session folder's checkpoints: they must not outlive the log that they are of."""
    try:
        notes = os.open(CHECKPOINTS, FOLDER, dir_fd=folder)
    except (FileNotFoundError, NotADirectoryError):
        return
    try:
        for name in os.listdir(notes):
            with suppress(OSError):
                os.unlink(name, dir_fd=notes)
        os.fsync(notes)
    finally:
        os.close(notes)
