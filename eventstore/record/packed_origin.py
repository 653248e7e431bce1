"""Imported lines, compressed: most of such a line is in its record once more, as the text of the event.

`line_deflate` is the line as raw DEFLATE (RFC 1951) in base64. The dictionary are the `own_bytes` bytes of the record in front
of `,"origin"`: the event's own fields. So nothing but its own record is needed to read a line.
"""

import re
import zlib
from binascii import a2b_base64, b2a_base64
from typing import NamedTuple

from eventstore.events import Origin

MARK = b'"line_deflate":"'
"""Stands in every record with a compressed line."""
_START = b',"origin":{'
_SHORTEST = 160  # bytes of a line: shorter ones would hardly get smaller
_WINDOW = 1 << 15  # DEFLATE looks no further back
_LEVEL = 3  # level 5 saves 1 % of a line more and takes a fifth longer
_MEMORY = 7  # a larger table is not filled by a line, and emptying it takes longer than compressing
_PACKED = re.compile(rb',"origin":\{"format":"[^"]*","line_deflate":"([A-Za-z0-9+/=]*)"(?:,"own_bytes":([0-9]+))?\}')


def pack(origin: Origin, own: bytes) -> Origin:
    """Return an origin as the record keeps it; unchanged where compressing its line saves nothing.

    `own` are the bytes of the record before the origin. Raises UnicodeEncodeError.
    """
    if origin.line is None:
        return origin
    text = origin.line.encode()
    if len(text) < _SHORTEST:
        return origin
    own = own[-_WINDOW:]
    packer = zlib.compressobj(_LEVEL, zlib.DEFLATED, -15, _MEMORY, zlib.Z_DEFAULT_STRATEGY, own)
    found = b2a_base64(packer.compress(text) + packer.flush(), newline=False)
    if len(found) >= len(text):
        return origin
    return Origin(origin.format, line_deflate=found.decode("ascii"), own_bytes=len(own))


def unpack(origin: Origin, record: bytes) -> Origin:
    """Return an origin with its line, given the record that holds it. One that cannot be read stays as it is."""
    if origin.line_deflate is None:
        return origin
    end = record.rfind(_START)
    try:
        text = _inflate(origin.line_deflate.encode(), record[end - origin.own_bytes : end])
        return Origin(origin.format, line=text.decode())
    except (zlib.error, ValueError):
        return origin


class Packed(NamedTuple):
    """A compressed line in some bytes: where its base64 text is, and the line; None if it cannot be read."""

    start: int
    end: int
    line: bytes | None


def find_packed(data: bytes) -> list[Packed]:
    """Find the compressed lines in records, or in what is left of them."""
    found = list[Packed]()
    for match in _PACKED.finditer(data) if MARK in data else ():
        size = int(match[2] or 0)
        try:
            line = _inflate(match[1], data[match.start() - size : match.start()]) if size <= match.start() else None
        except (zlib.error, ValueError):
            line = None
        found.append(Packed(*match.span(1), line))
    return found


def _inflate(text: bytes, own: bytes) -> bytes:
    unpacker = zlib.decompressobj(-15, own)
    return unpacker.decompress(a2b_base64(text)) + unpacker.flush()
