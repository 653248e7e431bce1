"""The file of a transcript: opened, read in pieces, and its lines decoded with their keys."""

import io
import os
import stat
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any, BinaryIO, cast

from eventstore.errors import ExtraMissing, ImportRefused
from eventstore.importers.identity import NO_KEYS, Identity, Keys
from eventstore.importers.meaning import decode

PIECE_BYTES = 2 * 1024 * 1024
"""Longer lines are stored in pieces of this size, so that each fits into an event even if every byte is escaped."""
LINE_BYTES = 64 * 1024 * 1024
"""Longer lines are stored, but not decoded, so that memory is bounded."""
WINDOW_BYTES = 1024 * 1024
"""About what is read, looked up and appended together: large enough that its flush costs little per event."""
_WINDOW_LINES = 256
_READ_BYTES = 1 << 16
COMPRESSED = ".zst"


def open_transcript(path: Path) -> BinaryIO:
    """Open a transcript; one that is compressed (`.zst`) is read as it was before. Raises ImportRefused, ExtraMissing."""
    try:
        descriptor = os.open(path, os.O_RDONLY | os.O_NONBLOCK | os.O_CLOEXEC)
    except OSError as error:
        raise ImportRefused(str(path), 0, f"{error.strerror}; nothing was imported") from None
    if not stat.S_ISREG(os.fstat(descriptor).st_mode):
        os.close(descriptor)
        raise ImportRefused(str(path), 0, "it is not a regular file; nothing was imported")
    file = os.fdopen(descriptor, "rb", _READ_BYTES)
    return _decompressed(file) if path.suffix == COMPRESSED else file


def _decompressed(file: BinaryIO) -> BinaryIO:
    try:
        import zstandard
    except ImportError:
        file.close()
        raise ExtraMissing("zstd", "reading a compressed transcript") from None
    stream = zstandard.ZstdDecompressor().stream_reader(file, read_across_frames=True, closefd=True)
    return cast("BinaryIO", io.BufferedReader(cast("io.RawIOBase", stream), 1 << 18))


@dataclass(slots=True)
class Line:
    """A piece of the file with its line number, and its line if it ends one: decoded, with what is odd and its keys."""

    piece: bytes
    number: int
    value: dict[str, Any] | None
    odd: str
    keys: Keys
    size_bytes: int
    is_end: bool = True


class LineReader:
    """Reads the lines of one file. `number` is that of the line that was begun last, `is_at_end` says that none follows."""

    def __init__(self, file: BinaryIO, identity: Identity) -> None:
        self._file, self._identity = file, identity
        self.number, self.is_at_end = 0, False
        self._pending = b""

    def read(self, size_bytes: int) -> bytes:
        """Read some bytes, which are not decoded."""
        return self._file.read(size_bytes)

    def window(self) -> Iterator[Line]:
        """Read and decode some lines, whose copies are looked up together."""
        count = size = 0
        while count < _WINDOW_LINES and size < WINDOW_BYTES:
            piece = self._file.readline(PIECE_BYTES)
            if not piece:
                self.is_at_end = True
                return
            count, size = count + 1, size + len(piece)
            yield self.decode(piece)

    def decode(self, piece: bytes) -> Line:
        """Decode a piece, joined with unfinished pieces before it."""
        text = self._pending + piece
        if not self._pending:
            self.number += 1
        unfinished = not piece.endswith(b"\n")
        value = None if unfinished and len(piece) == PIECE_BYTES else decode(text)
        self._pending = text if unfinished and value is None and len(text) <= LINE_BYTES else b""
        odd = "" if value is not None or (unfinished and len(piece) == PIECE_BYTES) else _oddity(text)
        is_end = not self._pending
        return Line(piece, self.number, value, odd, self._keys(value), len(text), is_end)

    def _keys(self, value: dict[str, Any] | None) -> Keys:
        try:
            return self._identity.read(value) if value is not None else NO_KEYS
        except (ValueError, TypeError, KeyError, AttributeError, RecursionError):
            return NO_KEYS


def _oddity(text: bytes) -> str:
    if not text.strip():
        return ""
    if b"\0" in text:
        return "contains NUL bytes: stored without a meaning"
    return "is incomplete" if not text.endswith(b"\n") else "is not a JSON object: stored without a meaning"
