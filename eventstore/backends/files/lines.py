"""Lines of a file, read by its descriptor: its position stays where it is."""

import os
import re
from collections.abc import Iterable, Iterator

CHUNK = 128 * 1024
SMALL = 4 * 1024
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


def read_bytes(descriptor: int, start: int, end: int) -> bytes:
    """Read the bytes of a file from `start` to `end`, without moving its position."""
    return b"".join(blocks(descriptor, start, end))


def read_line(descriptor: int, start: int, end: int, max_line_bytes: int) -> bytes:
    """Read one line without its LF, or what there is of it."""
    size = SMALL
    while True:
        block = os.pread(descriptor, min(size, end - start), start)
        line, lf, _ = block.partition(b"\n")
        if lf or start + size >= end or size > max_line_bytes:
            return line
        size *= 4


def numbered_lines(descriptor: int, end: int, max_line_bytes: int) -> Iterator[tuple[int, bytes]]:
    """Stream lines without their LF and the byte each begins at; one over the limit comes in pieces that are no records."""
    rest, start = b"", 0
    for block in blocks(descriptor, 0, end):
        *whole, rest = (rest + block).split(b"\n")
        for line in whole:
            yield start, line
            start += len(line) + 1
        if len(rest) > max_line_bytes:
            yield start, rest
            start, rest = start + len(rest), b""
    if rest:
        yield start, rest


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
    """Find the byte that line `seq` begins at, or `end`: bisect on the numbers that lines carry, then walk."""
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
    rest = b""
    for block in blocks(descriptor, start, end, SMALL):
        *whole, rest = (rest + block).split(b"\n")
        for line in whole:
            found = SEQ.match(line)
            if found is not None and int(found[1]) >= seq:
                return start
            start += len(line) + 1
    return end


def _first_line(descriptor: int, offset: int, end: int) -> tuple[int, int] | None:
    """Return where the first line begins that starts behind `offset`, and its number; None where none does before `end`."""
    start, rest = offset, b""
    for block in blocks(descriptor, offset, end, SMALL):
        rest += block
        found = _LINE_START.search(rest)
        if found is not None:
            return start + found.start() + 1, int(found[1])
        cut = max(len(rest) - 256, 0)
        start, rest = start + cut, rest[cut:]
    return None
