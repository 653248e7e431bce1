"""Read a log file: open it again each time, follow no link, and check that it is the log that the reader knows."""

import os

from eventstore.backends.files.chunks import Chunks, find_tip, last_tip, read_life
from eventstore.backends.files.folders import Folders
from eventstore.backends.files.handle import Handle, Seen
from eventstore.backends.files.lines import CHUNK, SMALL, find_line, read_bytes
from eventstore.log.port import Missing, Moved, Reading
from eventstore.record.scan import Tip


def read_tip(handle: Handle) -> Tip:
    """Return where a log seems to end. Raises Missing, NotARegularFile, OSError."""
    descriptor = handle.folders.open_log(handle.name)
    try:
        found = os.fstat(descriptor)
        tip = last_tip(descriptor, found.st_size, read_life(descriptor, found))
    finally:
        os.close(descriptor)
    if tip is None:
        raise Missing(handle.name)
    return tip


def read_log(handle: Handle, after: Tip | int, upto: int | None) -> Reading:
    """Read the lines after a tip or a number, as `Backend.read` does. Raises Missing, Moved, NotARegularFile, OSError."""
    if not isinstance(after, int) and handle.is_at(after):
        return Reading(after.life, after.offset, after.offset, iter(()))
    changes = handle.changes
    descriptor = handle.folders.open_log(handle.name)
    try:
        found = os.fstat(descriptor)
        if not found.st_size:
            raise Missing(handle.name)
        seen = Seen(read_life(descriptor, found), found.st_size, found.st_mtime_ns)
        start = _place(descriptor, handle, after, seen)
        if upto is None and (not after if isinstance(after, int) else after.life):
            handle.note_seen(seen, changes)
        lines = None if upto is None else upto - (after if isinstance(after, int) else after.seq)
        if lines is not None and lines <= 0:
            start = seen.size
        if seen.size - start > (SMALL if lines == 1 else CHUNK):
            chunks = Chunks(descriptor, start, seen.size, handle.path, one_line=lines == 1)
            descriptor = -1  # the chunks close it
            return Reading(seen.life, start, seen.size, chunks)
        data = read_bytes(descriptor, start, seen.size)
        return Reading(seen.life, start, start + len(data), iter([data] if data else []))
    finally:
        if descriptor >= 0:
            os.close(descriptor)


def read_small(folders: Folders, log: str, most_bytes: int) -> bytes | None:
    """Read a log of at most so many bytes with one read; None for a larger one. Raises Missing, NotARegularFile, OSError."""
    descriptor = folders.open_log(log)
    try:
        data = os.read(descriptor, most_bytes + 1)
    finally:
        os.close(descriptor)
    if not data:
        raise Missing(log)
    return data if len(data) <= most_bytes else None


def _place(descriptor: int, handle: Handle, after: Tip | int, seen: Seen) -> int:
    """Find the byte after a tip or a number. Raises Moved."""
    if isinstance(after, int):
        return find_line(descriptor, after + 1, seen.size) if after > 0 else 0
    if after.life and (after.life != seen.life or _is_overwritten(handle, after, seen)):
        raise Moved(handle.name)
    start = find_tip(descriptor, after, seen.size)
    if start is None:
        raise Moved(handle.name)
    return start


def _is_overwritten(handle: Handle, tip: Tip, seen: Seen) -> bool:
    """Check whether lines before a tip may have been overwritten: if there are lines after it, they record which."""
    known = handle.seen
    return (tip.offset == seen.size or known.is_tainted) and known.is_overwritten(seen.life, seen.size, seen.mtime_ns)
