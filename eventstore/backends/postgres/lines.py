"""The columns of lines: where each ends, its number, and its idempotency keys."""

import struct
from collections.abc import Callable, Iterable, Iterator, Sequence

from eventstore.log.port import Key
from eventstore.record import codec, hash_chain

COPY_BEGIN = b"PGCOPY\n\xff\r\n\0" + bytes(8)
COPY_END = b"\xff\xff"
_ROW = struct.Struct("!hiqiqiqi")
_LAST_BYTES = hash_chain.HASH_AT + 1


def split(data: bytes) -> list[bytes]:
    """Split complete lines, each with its LF."""
    return [line + b"\n" for line in data.split(b"\n")[:-1]]


def digest_of(end_of_line: bytes) -> bytes | None:
    """Return the digest at the end of a line, from its last bytes; None if it does not end like a record."""
    parts = hash_chain.split(end_of_line[-_LAST_BYTES:])
    return parts[1] if parts else None


def copy_rows(stream: int, seq: int, ends: int, lines: Sequence[bytes]) -> Iterator[bytes]:
    """Make rows of the table of lines in the binary format of COPY.

    `seq` is the first number, `ends` the start of the first line.
    """
    for number, line in enumerate(lines, seq):
        ends += len(line)
        yield _ROW.pack(4, 8, stream, 8, number, 8, ends, len(line))
        yield line


def keys_in(data: bytes) -> list[Key]:
    """Read the idempotency keys of complete lines, and those that a redaction removed from a line and recorded."""
    if b'"id":"' not in data and b'"target_id"' not in data:
        return []
    found: list[Key] = []
    for line in codec.lines(data):
        head = codec.head(line)
        if head is None:
            continue
        if head.id is not None:
            found.append((head.id, *_around(head.seq, head.batch)))
        told = codec.read_redaction(line) if b'"target_id"' in line else None
        if told is not None and told.target_id is not None:
            found.append((told.target_id, *_around(told.target, told.target_batch)))
    return found


def _around(seq: int, batch: tuple[int, int] | None) -> tuple[int, int]:
    index, count = batch or (0, 1)
    return seq - index, seq - index + count - 1


def bigints(numbers: Iterable[int]) -> str:
    """Write an array of numbers for a statement; psycopg would choose the type from the numbers in it."""
    return "{" + ",".join(map(str, numbers)) + "}"


def key_arrays(keys: Sequence[Key]) -> list[object]:
    """Make the arrays of keys for a statement: keys as bytes, because text cannot have NUL, and first and last numbers."""
    names = [key.encode("utf-8", "surrogatepass") for key, _, _ in keys]
    return [names, bigints(first for _, first, _ in keys), bigints(last for _, _, last in keys)]


def line_arrays(first: int, pieces: Sequence[bytes]) -> list[object]:
    """Make the arrays of lines for a statement: numbers, how many bytes of the append come after each, and lines."""
    behind, left = [], sum(map(len, pieces))
    for piece in pieces:
        left -= len(piece)
        behind.append(left)
    return [bigints(range(first, first + len(pieces))), bigints(behind), list(pieces)]


class Copier:
    """Receives pieces of any size, and passes complete lines on as rows. It also collects their keys."""

    def __init__(self, stream: int, write: Callable[[bytes], object]) -> None:
        self._stream, self._write = stream, write
        self._rest: list[bytes] = []
        self.first = self.count = self.size = 0
        self.keys: list[Key] = []
        write(COPY_BEGIN)

    def feed(self, piece: bytes) -> None:
        """Add the next bytes of the log."""
        whole, lf, rest = piece.rpartition(b"\n")
        if not lf:
            self._rest.append(piece)
            return
        data = b"".join([*self._rest, whole, lf])
        self._rest = [rest] if rest else []
        lines = split(data)
        if not self.count:
            self.first = hash_chain.line_number(lines[0]) or 1
        self.keys += keys_in(data)
        self._write(b"".join(copy_rows(self._stream, self.first + self.count, self.size, lines)))
        self.count += len(lines)
        self.size += len(data)

    def end(self) -> None:
        """End the stream: there are no more bytes."""
        self._write(COPY_END)
