"""The chain of hashes: SHA-256 over raw bytes, so that each line proves itself and its place."""

import re
from binascii import hexlify
from collections.abc import Sequence
from hashlib import sha256

from eventstore.record import accelerator

HASH_AT = 9 + 64 + 2
"""Bytes from `,"hash":"` to the closing brace, both included: the body ends this far before the LF."""
LINE_END = re.compile(rb',"hash":"([0-9a-f]{64})"\}')
LINE_START = re.compile(rb'\{"type":"[^"]*","seq":([0-9]+),"at":"([^"]*)"')


_chain = accelerator.load()


def first_hash(session_id: str) -> bytes:
    """The chain's digest before any event of the session, 32 bytes."""
    return sha256(b"eventstore/1\n" + session_id.encode("ascii")).digest()


def leaf_hash(body: bytes) -> bytes:
    """The RFC 6962 leaf hash of a line's body, 32 bytes."""
    return sha256(b"\x00" + body).digest()


def next_hash(previous: bytes, leaf: bytes) -> bytes:
    """The chain's digest after an event, 32 bytes."""
    return sha256(b"\x01" + previous + leaf).digest()


def split(line: bytes) -> tuple[bytes, bytes] | None:
    """Split a line (with or without its LF) into body and digest; None if it does not end like a record."""
    end = len(line) - line.endswith(b"\n")
    found = LINE_END.fullmatch(line, max(end - HASH_AT, 0), end)
    return (line[: found.start()], bytes.fromhex(found[1].decode("ascii"))) if found else None


def verify(line: bytes, previous: bytes) -> bytes | None:
    """Return the chain's digest after a line without its LF, or None if the line's hash does not fit on `previous`."""
    digest = sha256(b"\x01" + previous + sha256(b"\x00" + line[:-HASH_AT]).digest()).digest()
    return digest if line[-HASH_AT:] == b',"hash":"%b"}' % hexlify(digest) else None


def read_hash(line: bytes) -> bytes:
    """Return the digest that a verified line without its LF carries."""
    return bytes.fromhex(line[-66:-2].decode("ascii"))


def count_fitting(whole: bytes, lines: Sequence[bytes], digest: bytes) -> int:
    """Count the lines, from the first on, that fit on a digest and on each other. `whole` are they with LF between them."""
    if _chain is not None:
        return _chain.count_fitting(whole, digest)
    count = 0
    for line in lines:
        after = verify(line, digest)
        if after is None:
            break
        digest = after
        count += 1
    return count


def line_start(line: bytes) -> bytes | None:
    """Return the beginning of a line that a stub keeps: type, seq and at."""
    found = LINE_START.match(line)
    return found[0] if found else None


def line_number(line: bytes, start: int = 0) -> int | None:
    """Read the number of a line from its beginning, `start` in the bytes; None if it does not begin like a line."""
    found = LINE_START.match(line, start)
    return int(found[1]) if found else None


def last_number(chunk: bytes) -> int | None:
    """Read the number of the last of some complete lines: where they are verified, they need not be counted."""
    return line_number(chunk, chunk.rfind(b"\n", 0, -1) + 1)
