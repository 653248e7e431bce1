"""Change existing bytes of a log file, with its lock held: cut a tail, overwrite a line, replace the file."""

import errno
import os
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from datetime import UTC, datetime
from typing import TypeAlias

from eventstore.backends.files.atomic import replacing
from eventstore.backends.files.blobs import QUARANTINE, put_below
from eventstore.backends.files.chunks import HEAD_BYTES, find_tip
from eventstore.backends.files.folders import LOG, name_of, open_regular
from eventstore.backends.files.handle import Handle
from eventstore.backends.files.lines import SEQ, blocks, read_bytes
from eventstore.log.port import Cut, Moved, Refused, Unclear
from eventstore.record.scan import Tip


@contextmanager
def announced(handle: Handle) -> Iterator[None]:
    """Record in the change feed that a log changes during the block."""
    handle.feed.before(handle.name)
    try:
        yield
    finally:
        handle.feed.after(handle.name)


def cut(handle: Handle, tip: Tip) -> Cut:
    """Copy everything after a tip to quarantine, then remove it, both durably. Raises Missing, Moved, NotStored, OSError."""
    with handle.held() as found:
        handle.raise_if_poisoned()
        start, size = tip.offset, found.st_size
        if size <= start or (start and find_tip(handle.descriptor, tip, size) != start):
            raise Moved(handle.name)
        name = f"{datetime.now(UTC):%Y%m%dT%H%M%S.%fZ}-{start}.bin"
        folder = handle.folders.open(handle.name)
        try:
            put_below(folder, [QUARANTINE], name, blocks(handle.descriptor, start, size))
        finally:
            os.close(folder)
        with announced(handle):
            os.ftruncate(handle.descriptor, start)
            handle.note_change(found)
            handle.sync("cut")
        return Cut(f"{QUARANTINE}/{name}", size - start)


def overwrite(handle: Handle, seq: int, offset: int, line: bytes) -> None:
    """Overwrite the line `seq` with a line of the same length, durably.

    First the complete log is flushed to stable storage, whatever the durability level: otherwise a power loss could keep the
    tombstone and lose the event that records it, which would look like tampering.
    Raises Missing, Moved, Refused, Unclear, NotStored, OSError.
    """
    with handle.held() as found:
        handle.raise_if_poisoned()
        if not _has_line(handle, seq, offset, line, found.st_size):
            raise Moved(handle.name)
        handle.flush(found.st_size)
        with announced(handle):
            try:
                _put(handle, offset, line)
                handle.remove_unfinished()  # it has the line that was just overwritten
            finally:
                handle.note_change(found, handle.last_digest if handle.seen.size == found.st_size else b"")


def _has_line(handle: Handle, seq: int, offset: int, line: bytes, size: int) -> bool:
    """Check whether a line with that number and length begins at a byte, even a partly overwritten one."""
    length = len(line) if line.endswith(b"\n") else len(line) + 1
    if offset + length > size or (offset and os.pread(handle.descriptor, 1, offset - 1) != b"\n"):
        return False
    old = read_bytes(handle.descriptor, offset, offset + length)
    number = SEQ.match(old)
    return number is not None and int(number[1]) == seq and old.find(b"\n") == length - 1


def _put(handle: Handle, offset: int, line: bytes) -> None:
    """Overwrite bytes with a separate descriptor: the one for appends can only append."""
    folder = handle.folders.open(handle.name)
    try:
        file = open_regular(folder, LOG, os.O_WRONLY, handle.folders.path(handle.name), name_of(handle.name))
    finally:
        os.close(folder)
    began = False
    try:
        while line:
            written = os.pwrite(file, line, offset)
            began = True
            line, offset = line[written:], offset + written
        handle.sync("overwrite", file)
    except OSError as error:
        kind = Unclear if began else Refused
        raise kind(handle.path, error.errno or errno.EIO, "overwrite") from error
    finally:
        os.close(file)


Fill: TypeAlias = Callable[[Callable[[bytes], None]], Tip]
"""A function that passes the lines of a complete log to a writer, and returns where they end."""


class FillFailed(Exception):
    """An error of a caller's `fill`: not an error of the file system that is written to."""

    def __init__(self, error: OSError) -> None:
        super().__init__(error)
        self.error = error


def run_fill(fill: Fill, write: Callable[[bytes], None], path: str) -> bytes:
    """Let a caller write a complete log; return its beginning.

    Raises what `fill` raises (an OSError as FillFailed), and Refused.
    """
    head = b""

    def pass_on(data: bytes) -> None:
        nonlocal head
        if len(head) < HEAD_BYTES:
            head += data[:HEAD_BYTES]
        try:
            write(data)
        except OSError as error:
            raise Refused(path, error.errno or errno.EIO, "write") from error

    try:
        fill(pass_on)
    except OSError as error:
        raise FillFailed(error) from error
    return head


def replace(handle: Handle, fill: Fill, expect: Tip) -> str:
    """Replace a log's file by a new one, and return the new life of the log; readers of the old file keep it.

    Raises Missing, Moved, OSError, and what `run_fill` raises.
    """
    with handle.held() as found:
        handle.expect(expect, found)
        folder = handle.folders.open(handle.name)
        try:
            with announced(handle), replacing(LOG, folder=folder) as write:
                run_fill(fill, write, handle.path)
        finally:
            os.close(folder)
        handle.close()
        with handle.held():
            return handle.life
