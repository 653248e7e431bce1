"""Read a log by its descriptor: find where to begin, where it seems to end, and stream chunks that own the descriptor."""

import os
from binascii import hexlify
from collections.abc import Iterator
from contextlib import suppress

from eventstore.backends.files.lines import CHUNK, SEQ, SMALL, find_line, line_end, line_feed_before, read_bytes
from eventstore.log.port import Refused
from eventstore.record import codec
from eventstore.record.hash_chain import LINE_START, split
from eventstore.record.scan import Tip
from eventstore.record.tombstone import digest_after

HEAD_BYTES = 256
"""A line's number and time certainly end within so many bytes: types are short."""


class Chunks(Iterator[bytes]):
    """Bytes of a file, read on demand. The descriptor is closed at the end, by `close`, or when this object is collected.

    For one line, the blocks are small at first, and the last is the one with the line feed. Who wants several lines stops by
    itself: to count them here costs as much as to read them.
    """

    def __init__(self, descriptor: int, start: int, end: int, path: str, *, one_line: bool = False) -> None:
        self._descriptor, self._start, self._end, self._path = descriptor, start, end, path
        self._one_line = one_line
        self._size = SMALL if one_line else CHUNK

    def __next__(self) -> bytes:
        if self._descriptor < 0:
            raise StopIteration
        block = b""
        if self._start < self._end:
            try:
                block = os.pread(self._descriptor, min(self._size, self._end - self._start), self._start)
            except OSError as error:
                self.close()
                raise Refused(self._path, error.errno or 5, "read") from error
        if not block:
            self.close()
            raise StopIteration
        self._start += len(block)
        self._size = min(self._size * 4, CHUNK)
        if self._one_line and b"\n" in block:
            self._end = self._start
        return block

    def close(self) -> None:
        """Close the file. The stream ends."""
        descriptor, self._descriptor = self._descriptor, -1
        if descriptor >= 0:
            os.close(descriptor)

    def __del__(self) -> None:
        with suppress(OSError, AttributeError):
            self.close()


def life_of(device: int, inode: int, head: bytes) -> str:
    """Return the life of a log: from its file, and from number and time of its first line, which begins with `head`.

    A redaction keeps those. The inode alone is not enough: a file system may reuse the inode of a deleted file.
    """
    found = LINE_START.match(head)
    first = f"{int(found[1])}.{found[2].decode('ascii', 'replace')}" if found else ""
    return f"{device:x}.{inode:x}.{first}"


def read_life(descriptor: int, found: os.stat_result) -> str:
    """Return the life of the log that a descriptor has open."""
    return life_of(found.st_dev, found.st_ino, os.pread(descriptor, HEAD_BYTES, 0))


def ends_with(descriptor: int, offset: int, digest: bytes, *, line_feed: bool = True) -> bool:
    """Check whether the record that ends at `offset`, with or without its line feed, has that hash."""
    end = (b'"%b"}\n' if line_feed else b'"%b"}') % hexlify(digest)
    return offset >= len(end) and os.pread(descriptor, len(end), offset - len(end)) == end


def find_tip(descriptor: int, tip: Tip, size: int) -> int | None:
    """Find the byte after the record with a tip's number and hash, first at the tip's offset; None if there is none."""
    end = b'"%b"}\n' % hexlify(tip.digest)
    if tip.offset >= len(end):
        block = os.pread(descriptor, len(end) + HEAD_BYTES, tip.offset - len(end))
        if block.startswith(end):
            following = SEQ.match(block, len(end))
            if (following and int(following[1]) == tip.seq + 1) or _is_numbered(descriptor, tip):
                return tip.offset
    elif not tip.seq or _begins_behind(descriptor, tip, size):
        return 0
    start = find_line(descriptor, tip.seq, size)
    found = SEQ.match(os.pread(descriptor, HEAD_BYTES, start))
    if found is None or int(found[1]) != tip.seq:
        return None
    offset = line_end(descriptor, start, size)
    return offset if ends_with(descriptor, offset, tip.digest) else None


def _is_numbered(descriptor: int, tip: Tip) -> bool:
    """Check whether the record that ends at a tip has its number; a tip with a life was returned for exactly that record."""
    if tip.life:
        return True
    start = line_feed_before(descriptor, tip.offset - 1)
    found = SEQ.match(os.pread(descriptor, HEAD_BYTES, start))
    return found is not None and int(found[1]) == tip.seq


def _begins_behind(descriptor: int, tip: Tip, size: int) -> bool:
    """Check whether a log's first line continues another log from a tip; an incomplete first line may."""
    found = SEQ.match(os.pread(descriptor, HEAD_BYTES, 0))
    if found is None or int(found[1]) != tip.seq + 1:
        return found is None
    line = read_bytes(descriptor, 0, line_end(descriptor, 0, size))
    return not line.endswith(b"\n") or digest_after(line[:-1], tip.digest) is not None


def last_tip(descriptor: int, size: int, life: str) -> Tip | None:
    """Return the end of the last complete record that, by its own fields, ends its batch; None without any line.

    If there are lines but no such record, it is the beginning, with an empty digest.
    """
    end = line_feed_before(descriptor, size)
    if not end:
        return None
    while end:
        start = line_feed_before(descriptor, end - 1)
        line = read_bytes(descriptor, start, end - 1)
        parts, head = split(line), codec.head(line)
        if parts is not None and head is not None and (head.batch is None or head.batch[0] + 1 == head.batch[1]):
            return Tip(parts[1], end, head.seq, head.at, life)
        end = start
    return Tip(b"", life=life)
