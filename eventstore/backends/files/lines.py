"""Lines of a file, read by its descriptor: its position stays where it is."""

import os
import re
from collections.abc import Iterable, Iterator

CHUNK = 128 * 1024
SMALL = 4 * 1024
SEQ = re.compile(rb'\{"type":"[^"]*","seq":([0-9]+),')
_NUMBER_BYTES = 256
"""So many bytes from its start a line's number surely ends: types are short."""
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


def read_line(descriptor: int, start: int, end: int, max_line_bytes: int) -> bytes:
    """Read one line without its LF, or what there is of it."""
    parts: list[bytes] = []
    size = 0
    for block in growing_blocks(descriptor, start, end):
        line, lf, _ = block.partition(b"\n")
        parts.append(line)
        size += len(line)
        if lf or size > max_line_bytes:
            break
    return b"".join(parts)


def numbered_lines(descriptor: int, end: int, max_line_bytes: int) -> Iterator[tuple[int, bytes]]:
    """Stream lines without their LF and the byte each begins at; one over the limit comes in pieces that are no records."""
    parts: list[bytes] = []
    start = size = 0
    for block in blocks(descriptor, 0, end):
        *whole, rest = block.split(b"\n")
        for line in whole:
            if parts:
                line, parts, size = b"".join([*parts, line]), [], 0
            yield start, line
            start += len(line) + 1
        parts.append(rest)
        size += len(rest)
        if size > max_line_bytes:
            yield start, b"".join(parts)
            start, parts, size = start + size, [], 0
    if size:
        yield start, b"".join(parts)


def last_line(descriptor: int, end: int) -> tuple[bytes, int] | None:
    """Return the last line that is whole, without its LF, and the byte behind it; None where it is too long to look for."""
    start = max(end - CHUNK // 2, 0)
    data = read_bytes(descriptor, start, end)
    whole = data.rfind(b"\n")
    before = data.rfind(b"\n", 0, max(whole, 0))
    if whole < 0 or (before < 0 and start):
        return None
    return data[before + 1 : whole], start + whole + 1


def read_lines(descriptor: int, after: int, count: int | None, end: int) -> Iterator[bytes]:
    """Stream chunks of whole lines up to the byte `end`: those behind line `after`, at most `count` of them."""
    start = find_line(descriptor, after + 1, end) if after > 0 else 0
    size = SMALL if count == 1 else CHUNK
    while start < end and count != 0:
        block = os.pread(descriptor, min(size, end - start), start)
        chunk = block[: block.rfind(b"\n") + 1]
        if not chunk:
            if len(block) < min(size, end - start):
                return
            size *= 2  # a line longer than a block
            continue
        start += len(chunk)
        if count is not None:
            chunk, count = _first_lines(chunk, count)
        yield chunk


def first_lines(chunks: Iterable[bytes], count: int) -> Iterator[bytes]:
    """Stream chunks that end anywhere, up to the end of the line `count`."""
    for chunk in chunks:
        if not count:
            return
        kept, count = _first_lines(chunk, count) if chunk.count(b"\n") >= count else (chunk, count - chunk.count(b"\n"))
        yield kept


def _first_lines(chunk: bytes, count: int) -> tuple[bytes, int]:
    """Cut a chunk after `count` lines; return it and how many lines are still wanted."""
    found = chunk.count(b"\n")
    if found < count or (found == count and chunk.endswith(b"\n")):
        return chunk, count - found
    return b"".join(line + b"\n" for line in chunk.split(b"\n", count)[:count]), 0


def find_line(descriptor: int, seq: int, end: int) -> int:
    """Find the byte that the first line numbered `seq` or higher begins at, or `end`: bisect on the numbers, then walk.

    No byte is read more than a few times, however long the lines are.
    """
    low, high = 0, end
    while high - low > SMALL:
        middle = (low + high) // 2
        found = _first_line(descriptor, middle, high)
        if found is None or found[1] > seq:
            high = middle
        else:
            low = found[0]
    return _walk(descriptor, low, seq, end)


def _walk(descriptor: int, start: int, seq: int, end: int) -> int:
    """Find the byte that line `seq` begins at, or `end`, from the start of an earlier line on."""
    while start < end:
        found = SEQ.match(os.pread(descriptor, min(_NUMBER_BYTES, end - start), start))
        if found is not None and int(found[1]) >= seq:
            return start
        start = _line_end(descriptor, start, end)
    return end


def _line_end(descriptor: int, start: int, end: int) -> int:
    """Return the byte behind the first line feed from `start` on, or `end`."""
    for block in growing_blocks(descriptor, start, end):
        found = block.find(b"\n")
        if found >= 0:
            return start + found + 1
        start += len(block)
    return end


def _first_line(descriptor: int, offset: int, end: int) -> tuple[int, int] | None:
    """Return where the first line begins that starts behind `offset`, and its number; None where none does before `end`."""
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
    """Return the byte behind the last line feed in front of `end`; 0 without one."""
    size = SMALL
    while end > 0:
        start = max(end - size, 0)
        found = read_bytes(descriptor, start, end).rfind(b"\n")
        if found >= 0:
            return start + found + 1
        end, size = start, min(size * 4, CHUNK)
    return 0
