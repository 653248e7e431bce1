"""An archive's zip file: opened, its list of files and its manifest verified. Treat it as hostile."""

import os
import stat
import struct
import zipfile
import zlib
from collections.abc import Iterator
from hashlib import sha256
from pathlib import Path
from typing import BinaryIO, NoReturn

import msgspec

from eventstore.errors import ImportRefused
from eventstore.importers.archive_manifest import FORMAT, MANIFEST, Manifest, find_twins, odd_name, place_of

MAX_FILES = 500_000
"""An archive with more files is refused: each file takes about 2 KB of memory."""
MAX_MANIFEST_BYTES = 200_000_000
"""A longer manifest is refused."""
MAX_RATIO = 250
"""An archive that unpacks to over a gigabyte, and to more than this many times its size, is refused unless more is allowed."""

_RATIO_FLOOR_BYTES = 1 << 30
_BLOCK = 1 << 17
_ENTRY_BYTES = 46 + 2 * 4000
_END = struct.Struct("<4s4H2LH")
_END_64 = struct.Struct("<4sQ2H2L4Q")
_LOCATOR = struct.Struct("<4sLQL")
NEXT = "nothing was written: "


class OpenedArchive:
    """An open archive with a valid list of files and a valid manifest. Raises ImportRefused."""

    def __init__(self, path: Path, max_ratio: int) -> None:
        self.path, self._max_ratio = path, max_ratio
        try:
            self._stream = path.open("rb")
        except OSError as error:
            self.refuse(f"it cannot be read: {error.strerror}", "check the path")
        try:
            size = self._size()
            self._zip = self._open_zip()
            self._entries = self._list(size)
            self.manifest = self._read_manifest()
            self._compare(size)
        except BaseException:
            self._stream.close()
            raise

    def __enter__(self) -> "OpenedArchive":
        return self

    def __exit__(self, *error: object) -> None:
        self._zip.close()
        self._stream.close()

    def refuse(self, reason: str, advice: str = "get it again from where it was written") -> NoReturn:
        """Raise the error that gives the reason why the archive is not imported."""
        raise ImportRefused(str(self.path), 0, f"{reason}; {NEXT}{advice}")

    def _size(self) -> int:
        found = os.fstat(self._stream.fileno())
        if not stat.S_ISREG(found.st_mode):
            self.refuse("it is not a regular file", "give the path of an archive")
        return found.st_size

    def _open_zip(self) -> zipfile.ZipFile:
        count, size = _directory_of(self._stream)
        if count is None:
            self.refuse(
                "it is not a complete zip file, or has bytes before or after it", "give what `export --archive` wrote"
            )
        if count > MAX_FILES or size > MAX_FILES * 400 or size > count * _ENTRY_BYTES + 100:
            self.refuse(
                f"it lists more than {MAX_FILES:,} files, or its list is too long", "export fewer sessions at once"
            )
        try:
            return zipfile.ZipFile(self._stream)
        except (zipfile.BadZipFile, NotImplementedError, ValueError, OSError, struct.error, UnicodeError):
            self.refuse("it is not a complete zip file")

    def _list(self, size: int) -> dict[str, zipfile.ZipInfo]:
        found: dict[str, zipfile.ZipInfo] = {}
        for one in self._zip.infolist():
            shown = f"its file {one.orig_filename[:200]!a}"
            why = odd_name(one.orig_filename) or _odd_entry(one, size)
            if why:
                self.refuse(f"{shown} {why}")
            if one.filename in found:
                self.refuse(f"{shown} is listed twice")
            found[one.filename] = one
        twins = find_twins(found)
        if twins:
            self.refuse(f"{twins[0][:200]!a} and {twins[1][:200]!a} are the same file on some systems")
        return found

    def _read_manifest(self) -> Manifest:
        listed = self._entries.pop(MANIFEST, None)
        if listed is None:
            self.refuse(f"it has no {MANIFEST}", "give what `export --archive` wrote")
        if listed.file_size > MAX_MANIFEST_BYTES:
            self.refuse(f"its {MANIFEST} is longer than {MAX_MANIFEST_BYTES:,} bytes")
        try:
            data = b"".join(self._chunks(listed))
            form = msgspec.json.decode(data, type=dict[str, msgspec.Raw]).get("format", b"")
            if bytes(form) != msgspec.json.encode(FORMAT):
                self.refuse(f"its format is not {FORMAT}", "use the release that wrote it, or a later one")
            return msgspec.json.decode(data, type=Manifest)
        except (msgspec.DecodeError, UnicodeDecodeError, RecursionError) as error:
            self.refuse(f"its {MANIFEST} is invalid ({error})")

    def _compare(self, size: int) -> None:
        """Compare the manifest with the files of the zip, and refuse a decompression bomb."""
        files = self.manifest.files
        for name in sorted(files.keys() ^ self._entries.keys()):
            where = f"is in its {MANIFEST} only" if name in files else f"is not in its {MANIFEST}"
            self.refuse(f"the file {name[:200]!a} {where}")
        for name, entry in self._entries.items():
            if entry.file_size != files[name].size_bytes:
                self.refuse(f"the file {name[:200]!a} has another size than its {MANIFEST} lists")
            if place_of(name) is None:
                self.refuse(f"the file {name[:200]!a} belongs to no session and no tool call")
        unpacked = sum(entry.file_size for entry in self._entries.values())
        if unpacked > _RATIO_FLOOR_BYTES and unpacked > self._max_ratio * size:
            self.refuse(
                f"it would unpack to {unpacked:,} bytes, {unpacked // max(size, 1)} times its size",
                "allow more with `max_ratio`, or export fewer sessions at once",
            )

    def read(self, name: str) -> Iterator[bytes]:
        """Stream a file. Raises ImportRefused at its end where its size or hash is not that of the manifest."""
        listed, hashed, size = self.manifest.files[name], sha256(), 0
        for chunk in self._chunks(self._entries[name]):
            hashed.update(chunk)
            size += len(chunk)
            yield chunk
        if (size, hashed.hexdigest()) != (listed.size_bytes, listed.sha256):
            self.refuse(f"the file {name[:200]!a} has another hash than its {MANIFEST} lists")

    def _chunks(self, entry: zipfile.ZipInfo) -> Iterator[bytes]:
        left = entry.file_size
        try:
            with self._zip.open(entry) as stream:
                while chunk := stream.read(_BLOCK):
                    left -= len(chunk)
                    if left < 0:
                        break
                    yield chunk
        except (
            zipfile.BadZipFile,
            zlib.error,
            OSError,
            ValueError,
            EOFError,
            NotImplementedError,
            RuntimeError,
            struct.error,
        ) as error:
            self.refuse(f"its file {entry.filename[:200]!a} cannot be unpacked ({type(error).__name__})")
        if left:
            self.refuse(f"its file {entry.filename[:200]!a} has another size than the zip lists")


def _directory_of(stream: BinaryIO) -> tuple[int | None, int]:
    """Return the number of files at the end record of a zip, and the size of their list in bytes, without reading the list."""
    size = stream.seek(0, os.SEEK_END)
    if size < _END.size:
        return None, 0
    stream.seek(size - _END.size)
    mark, _, _, _, count, length, _, comment = _END.unpack(stream.read(_END.size))
    if mark != b"PK\5\6" or comment:
        return None, 0
    locator = size - _END.size - _LOCATOR.size
    if locator < 0:
        return count, length
    stream.seek(locator)
    mark, _, where, _ = _LOCATOR.unpack(stream.read(_LOCATOR.size))
    if mark != b"PK\6\7":
        return count, length
    if where != locator - _END_64.size:
        return None, 0
    stream.seek(where)
    mark, *_, count, length, _ = _END_64.unpack(stream.read(_END_64.size))
    return (count, length) if mark == b"PK\6\6" else (None, 0)


def _odd_entry(one: zipfile.ZipInfo, size: int) -> str | None:
    """Return the reason why an entry of a zip is not a plain file; None for a plain file."""
    kind = stat.S_IFMT(one.external_attr >> 16)
    if kind not in (0, stat.S_IFREG) or one.external_attr & 0x10:
        return "is a link, a folder or a device"
    if one.filename != one.orig_filename:
        return "has two names"
    if one.flag_bits & 0x1:
        return "is encrypted"
    if one.compress_type not in (zipfile.ZIP_STORED, zipfile.ZIP_DEFLATED):
        return "is packed by an unsupported method"
    if one.compress_size > size or one.file_size > one.compress_size * 1100 + 100:
        return "declares an impossible size"
    return None
