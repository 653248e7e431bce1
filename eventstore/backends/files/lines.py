"""Lines of a file, read by its descriptor: its position stays where it is."""

import os
import re
from collections.abc import Iterator

CHUNK = 128 * 1024
SMALL = 4 * 1024
_FARTHER = 64
_NUMBER_BYTES = 256
"""A line's number certainly ends within so many bytes: types are short."""
SEQ = re.compile(rb'\{"type":"[^"]*","seq":([0-9]+),')
_LINE_START = re.compile(rb'\n\{"type":"[^"]*","seq":([0-9]+),')


def blocks(descriptor: int, start: int, end: int, size: int = CHUNK) -> Iterator[bytes]:
    """Stream the bytes of a file from `start` to `end`, without moving its position."""
    while start < end:
        block = os.pread(descriptor, min(size, end - start), start)
        if not block:
            return
        start += len(block)
        yield block


def growing_blocks(descriptor: int, start: int, end: int) -> Iterator[bytes]:
    """Stream the bytes of a file from `start` to `end`, in blocks that begin small and grow: most lines are short."""
    size = SMALL
    while start < end:
        block = os.pread(descriptor, min(size, end - start), start)
        if not block:
            return
        yield block
        start += len(block)
        size = min(size * 4, CHUNK)


def read_bytes(descriptor: int, start: int, end: int) -> bytes:
    """Read the bytes of a file from `start` to `end`, without moving its position."""
    return b"".join(blocks(descriptor, start, end))


def find_line(descriptor: int, seq: int, end: int) -> int:
    """Find the first byte of the first line numbered `seq` or higher, or `end`: bisect on the numbers, then walk.

    No byte is read more than a few times, however long the lines are. It is looked for near the end first: most who ask want the
    newest lines, which then cost the same in a log of any length.
    """
    low, high, back = 0, end, SMALL
    while back < end:
        found = _first_line(descriptor, end - back, end)
        if found is not None and found[1] <= seq:
            low = found[0]
            break
        high, back = end - back, back * _FARTHER
    while high - low > SMALL:
        middle = (low + high) // 2
        found = _first_line(descriptor, middle, high)
        if found is None or found[1] > seq:
            high = middle
        else:
            low = found[0]
    return _walk(descriptor, low, seq, end)


def _walk(descriptor: int, start: int, seq: int, end: int) -> int:
    """Find the first byte of line `seq`, or `end`, from the start of an earlier line on."""
    while start < end:
        block, place = os.pread(descriptor, min(SMALL, end - start), start), 0
        while True:
            found = SEQ.match(block, place)
            if found is not None and int(found[1]) >= seq:
                return start + place
            behind = block.find(b"\n", place) + 1
            if not behind:
                break
            place = behind
        # a line that the block cut off is read again from its beginning; a line longer than a block is skipped
        start = start + place if place else line_end(descriptor, start, end)
    return end


def line_end(descriptor: int, start: int, end: int) -> int:
    """Return the byte after the first line feed from `start` on, or `end`."""
    for block in growing_blocks(descriptor, start, end):
        found = block.find(b"\n")
        if found >= 0:
            return start + found + 1
        start += len(block)
    return end


def _first_line(descriptor: int, offset: int, end: int) -> tuple[int, int] | None:
    """Return the start and number of the first line that begins after `offset`; None if there is none before `end`."""
    start, rest = offset, b""
    for block in growing_blocks(descriptor, offset, end):
        rest += block
        found = _LINE_START.search(rest)
        if found is not None:
            return start + found.start() + 1, int(found[1])
        cut = max(len(rest) - _NUMBER_BYTES, 0)
        start, rest = start + cut, rest[cut:]
    return None


def line_feed_before(descriptor: int, end: int) -> int:
    """Return the byte after the last line feed before `end`; 0 without one."""
    size = SMALL
    while end > 0:
        start = max(end - size, 0)
        found = read_bytes(descriptor, start, end).rfind(b"\n")
        if found >= 0:
            return start + found + 1
        end, size = start, min(size * 4, CHUNK)
    return 0
