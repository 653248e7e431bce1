"""The texts that a redaction removes: the forms they have in files, and a search for copies left in a store's files."""

import gzip
import html
import json
import os
import stat
import zipfile
import zlib
from base64 import b64encode
from collections.abc import Collection, Iterable, Iterator
from contextlib import closing, nullcontext
from pathlib import Path
from typing import IO, Any, NamedTuple

import msgspec

from eventstore.backends.files.descriptor import READ
from eventstore.derived.cache_file import FOLDER, all_closed
from eventstore.events import Event
from eventstore.record.packed_origin import find_packed
from eventstore.secret_patterns import cleaned, numbers, texts

_NAMES = ("role", "tool_name", "invocation_id", "key", "model", "id")
_SHORTEST, _SHORTEST_KEY, _SHORTEST_NAME = 8, 16, 4  # shorter texts are common: a match would mean nothing
_LONG_BYTES, _PIECE_BYTES, _PIECES = 256, 48, 8
_BLOCK = 1 << 22
_BUDGET = 1 << 33  # bytes times pieces: some seconds
_MOST_UNPACKED = 1 << 30
_LONGEST_RECORD = 1 << 26
_URL_SAFE = bytes.maketrans(b"+/", b"-_")
_PACKED = (b"(\xb5/\xfd", b"\xfd7zXZ", b"BZh", b"PAR1")  # zstd, xz, bzip2, Parquet: not unpacked here


def mark(value: Any) -> Any:
    """Return a value in the record of a tool call with every text in it replaced."""
    return cleaned(value, lambda text: "[redacted]" if text else text)


class Needle(NamedTuple):
    """A text in one of its forms in files; a long one as some pieces, since a database splits it into pages."""

    pieces: tuple[bytes, ...]

    def is_in(self, found: Collection[bytes]) -> bool:
        """Return whether enough of the pieces were found."""
        return 2 * sum(piece in found for piece in self.pieces) >= len(self.pieces)


class Removed:
    """The texts and numbers of redacted events. `names` are those of tools, keys and models, which other events may share."""

    def __init__(self) -> None:
        self._values: set[bytes] = set()
        self._texts: set[str] = set()
        self.names: set[str] = set()

    def add(self, event: Event) -> None:
        """Add the texts and numbers of an event."""
        names = {one for name in _NAMES if isinstance(one := getattr(event, name, None), str)}
        self.names |= {one for one in names - {getattr(event, "role", None)} if len(one) >= _SHORTEST_NAME}
        own = msgspec.structs.replace(event, by=None)
        self._texts |= {one for one in texts(own, keys=False) if len(one) >= _SHORTEST and one not in names}
        self._texts |= {one for one in texts(own) if len(one) >= _SHORTEST_KEY and one not in names}
        staying = {event.id, getattr(event, "role", None)}  # the key stays in the log, and a role is no secret
        self._values |= {form for one in texts(event) if one not in staying for form in _in_records(one)}
        self._values |= {msgspec.json.encode(one) for one in numbers(event)}

    def add_text(self, text: str) -> None:
        """Add one text, of an event that stays otherwise."""
        if len(text) >= _SHORTEST:
            self._texts.add(text)
        self._values |= _in_records(text)

    def update(self, other: "Removed") -> None:
        """Add all of another object."""
        self._values |= other._values
        self._texts |= other._texts
        self.names |= other.names

    def values(self) -> list[bytes]:
        """Return texts and numbers in the form of records, longest first, for `EventLog.scrub`."""
        return sorted(self._values, key=len, reverse=True)

    def needles(self) -> list[Needle]:
        """Return what to search for in files: texts of 8 characters and more, keys of 16."""
        forms = {form for text in self._texts for form in _in_files(text)}
        return [Needle(_pieces(form)) for form in sorted(forms)]


def needle(text: str) -> Needle:
    """Return the needle of one name."""
    return Needle((msgspec.json.encode(text)[1:-1],))


def _in_records(text: str) -> set[bytes]:
    escaped = json.dumps(text)[1:-1].encode()
    try:
        return {msgspec.json.encode(text)[1:-1], escaped} - {b""}
    except UnicodeEncodeError:
        return {escaped}


def _in_files(text: str) -> set[bytes]:
    plain = text.encode("utf-8", "replace")
    return {
        *_in_records(text),
        plain,
        html.escape(text).encode("utf-8", "replace"),
        text.encode("utf-16-le", "replace"),
        *_in_base64(plain),
    }


def _in_base64(data: bytes) -> Iterator[bytes]:
    """Stream what base64 of any bytes has where these begin at its first, second or third byte of three, in both alphabets."""
    for before in range(3):
        cut = (0, 2, 3)[before]  # characters that have bits of the bytes before
        whole = (before + len(data)) // 3 * 3 - before  # the last character of the rest has bits of the bytes behind
        form = b64encode(b"\0" * before + data[:whole])[cut:]
        if len(form) >= _SHORTEST:
            yield form
            yield form.translate(_URL_SAFE)


def _pieces(form: bytes) -> tuple[bytes, ...]:
    if len(form) <= _LONG_BYTES:
        return (form,)
    step = (len(form) - _PIECE_BYTES) // (_PIECES - 1)
    return tuple(form[at : at + _PIECE_BYTES] for at in range(0, step * _PIECES, step))


def find_left(roots: Iterable[Path], needles: Collection[Needle], budget: int = _BUDGET) -> list[str]:
    """Return the files below folders that contain a needle, relative to their folder, and those that could not be searched.

    Zip and gzip files are searched unpacked. No link is followed. Reading ends when bytes times pieces reach the budget; the
    last line gives the number of files that were not read then.
    """
    pieces = {piece for one in needles for piece in one.pieces}
    found, unread = list[str](), 0
    for root in roots if pieces else ():
        for path, size in _files(root):
            name = str(path.relative_to(root))
            if size * len(pieces) > budget:
                unread += 1
                continue
            budget -= size * len(pieces)
            try:
                with all_closed() if path.parent.name == FOLDER else nullcontext():
                    seen = _pieces_in(path, pieces)
            except FileNotFoundError:
                continue
            except (OSError, zlib.error, EOFError, zipfile.BadZipFile, NotImplementedError, RuntimeError) as error:
                found.append(f"{name}: could not be searched ({error})")
                continue
            if any(one.is_in(seen) for one in needles):
                found.append(name)
    if unread:
        found.append(
            f"{unread} files were not searched: there is too much to read; look for the text with plan_redactions"
        )
    return found


def _files(root: Path) -> Iterator[tuple[Path, int]]:
    """Stream the regular files below a folder, and their sizes in bytes; those deleted in the meantime are skipped."""
    for folder, folders, names in os.walk(root, followlinks=False):
        folders.sort()
        for name in sorted(names):
            path = Path(folder, name)
            try:
                found = path.lstat()
            except FileNotFoundError:
                continue
            if stat.S_ISREG(found.st_mode):
                yield path, found.st_size


def _pieces_in(path: Path, pieces: Collection[bytes]) -> set[bytes]:
    descriptor = os.open(path, READ)
    with os.fdopen(descriptor, "rb") as stream:
        start = stream.read(6)
        stream.seek(0)
        if start.startswith(_PACKED):
            raise OSError("it is compressed by an unsupported method")
        if start.startswith(b"PK\3\4"):
            with zipfile.ZipFile(stream) as packed:
                return set().union(*(_search(packed.open(one), pieces, _MOST_UNPACKED) for one in packed.infolist()))
        if start.startswith(b"\x1f\x8b"):
            return _search(gzip.GzipFile(fileobj=stream), pieces, _MOST_UNPACKED)
        return _search(stream, pieces)


def _search(stream: IO[bytes] | gzip.GzipFile, pieces: Collection[bytes], most_bytes: int | None = None) -> set[bytes]:
    """Return the pieces that a stream contains, also in the compressed lines of records, and close it.

    Raises OSError where it is longer than `most_bytes`.
    """
    found, rest, begun, size = set[bytes](), b"", b"", 0
    with closing(stream):
        while block := stream.read(_BLOCK):
            size += len(block)
            if most_bytes is not None and size > most_bytes:
                raise OSError(f"it unpacks to more than {most_bytes:,} bytes")
            data = rest + block
            found |= {piece for piece in pieces if piece not in found and piece in data}
            rest = data[-2 * _LONG_BYTES :]
            whole, _, begun = (begun + block).rpartition(b"\n")
            for one in find_packed(whole):
                line = one.line or b""
                found |= {piece for piece in pieces if piece not in found and piece in line}
            begun = begun if len(begun) <= _LONGEST_RECORD else b""
    return found
