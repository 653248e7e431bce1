"""The output of an export with many files: a zip or a folder, written atomically and reproducibly."""

import os
import shutil
import zipfile
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from hashlib import sha256
from pathlib import Path
from typing import IO, Any, Protocol

from msgspec import json

from eventstore.errors import EventStoreError
from eventstore.exporters.report import Writer

_LONG_AGO = (1980, 1, 1, 0, 0, 0)  # the earliest time that a zip can hold, so that equal files give equal bytes
_BUFFER = 1 << 16  # bytes per hash update and write: single lines would cost a call each
_LEVEL = (
    "compress_level" if hasattr(zipfile.ZipInfo, "compress_level") else "_compresslevel"
)  # public since Python 3.13


def to_json(value: Any) -> bytes:
    """Encode a value as indented JSON with a line end."""
    return json.format(json.encode(value), indent=2) + b"\n"


class Target(Protocol):
    """A zip or a folder in progress."""

    files: int

    def open(self, name: str) -> IO[bytes]:
        """Start a new file."""

    def size_bytes(self) -> int:
        """Return the total size after everything is written."""

    def __enter__(self) -> "Target": ...

    def __exit__(self, *error: object) -> None: ...


class ZipTarget:
    """A zip file with fixed times and files in writing order, so that equal contents give equal bytes. `level` is for deflate."""

    def __init__(self, path: Path, level: int | None = None) -> None:
        self.files, self._path, self._level = 0, path, level
        self._stream = os.fdopen(os.open(path, os.O_RDWR | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC, 0o600), "w+b")
        self._zip = zipfile.ZipFile(self._stream, "w", zipfile.ZIP_DEFLATED)

    def open(self, name: str) -> IO[bytes]:
        """Start a new file."""
        self.files += 1
        entry = zipfile.ZipInfo(name, _LONG_AGO)
        setattr(entry, _LEVEL, self._level)
        # System 3 is Unix, on every system that writes the zip.
        entry.compress_type, entry.create_system, entry.external_attr = zipfile.ZIP_DEFLATED, 3, 0o100644 << 16
        return self._zip.open(entry, "w", force_zip64=True)

    def size_bytes(self) -> int:
        """Return the total size after everything is written."""
        return self._path.stat().st_size

    def __enter__(self) -> "ZipTarget":
        return self

    def __exit__(self, *error: object) -> None:
        with self._stream:
            self._zip.close()
            self._stream.flush()
            os.fsync(self._stream.fileno())


class FolderTarget:
    """A folder with the same layout."""

    def __init__(self, path: Path) -> None:
        self.files, self._path = 0, path
        path.mkdir(0o700)

    def open(self, name: str) -> IO[bytes]:
        """Start a new file."""
        self.files += 1
        path = self._path / name
        for folder in reversed(path.relative_to(self._path).parents[:-1]):
            (self._path / folder).mkdir(0o700, exist_ok=True)
        return os.fdopen(os.open(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC, 0o600), "wb")

    def size_bytes(self) -> int:
        """Return the total size after everything is written."""
        return sum(path.stat().st_size for path in self._path.rglob("*") if path.is_file())

    def __enter__(self) -> "FolderTarget":
        return self

    def __exit__(self, *error: object) -> None:
        for path in [*self._path.rglob("*"), self._path]:
            _sync(path)


class _Hashing:
    """Buffers small writes, and counts and hashes the bytes."""

    def __init__(self, stream: IO[bytes]) -> None:
        self._stream, self._hash, self._pieces, self._held = stream, sha256(), list[bytes](), 0
        self.size_bytes = 0

    def write(self, data: bytes, /) -> None:
        self._pieces.append(data)
        self._held += len(data)
        if self._held >= _BUFFER:
            self.flush()

    def flush(self) -> None:
        data = b"".join(self._pieces)
        self._pieces, self._held = [], 0
        self._hash.update(data)
        self.size_bytes += len(data)
        self._stream.write(data)

    def hexdigest(self) -> str:
        return self._hash.hexdigest()


class Files:
    """The files written so far, with hash and size, for the manifest."""

    def __init__(self, target: Target) -> None:
        self._target = target
        self.written: dict[str, dict[str, Any]] = {}

    @contextmanager
    def open(self, name: str) -> Iterator[Writer]:
        """Open a new file; it is added to `written` when it is complete."""
        with self._target.open(name) as stream:
            hashing = _Hashing(stream)
            yield hashing
            hashing.flush()
        self.written[name] = {"sha256": hashing.hexdigest(), "size_bytes": hashing.size_bytes}


@contextmanager
def naming_output(path: Path, temporary: Path) -> Iterator[None]:
    """Let an error of writing name the file that was asked for, not the temporary one, or none as on a full disk."""
    try:
        yield
    except OSError as error:
        is_ours = error.filename in (None, temporary, str(temporary))
        if not is_ours or error.errno is None or isinstance(error, EventStoreError):
            raise
        raise type(error)(error.errno, error.strerror, str(path)) from None


@contextmanager
def atomic_output(path: Path) -> Iterator[Path]:
    """Yield a temporary path in the folder of `path`. It is renamed to `path` if the block succeeds, else deleted.

    An OSError about the temporary path, or about none, names `path`.
    """
    temporary = path.with_name(f".{path.name}.{os.getpid()}.new")
    _drop(temporary)
    try:
        with naming_output(path, temporary):
            yield temporary
            temporary.replace(path)
        _sync(path.parent)
    finally:
        _drop(temporary)


def _drop(path: Path) -> None:
    with suppress(FileNotFoundError):
        if path.is_dir() and not path.is_symlink():
            shutil.rmtree(path)
        else:
            path.unlink()


def _sync(path: Path) -> None:
    descriptor = os.open(path, os.O_RDONLY | os.O_CLOEXEC)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)
