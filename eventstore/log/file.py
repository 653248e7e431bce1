"""One log file: opened with suspicion, verified once per byte, repaired only by a writer that holds its lock."""

import errno
import fcntl
import os
import re
import stat
import threading
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from datetime import UTC, datetime
from pathlib import Path

from eventstore import codec
from eventstore.errors import LogDamaged, NotARegularFile, SessionNotFound
from eventstore.events import LogRepaired
from eventstore.log.scan import Position, Scan

LOG = "events.jsonl"
QUARANTINE = "quarantine"
CHUNK = 256 * 1024
_SAFE = os.O_CLOEXEC | os.O_NOFOLLOW | os.O_NONBLOCK
_SEQ = re.compile(rb'\{"type":"[^"]*","seq":([0-9]+)')


class LogFile:
    """The log of one session below a root folder.

    `writing` is held through an append, `scan` may be moved by readers too, under `scanning`.
    """

    def __init__(self, root: Path, session_id: str, max_event_bytes: int) -> None:
        self.session_id, self.path = session_id, root / session_id / LOG
        self.writing, self.scanning = threading.Lock(), threading.Lock()
        self.descriptor = -1
        self.dirty = False
        self.poison: OSError | None = None
        self._root, self._max_event_bytes = root, max_event_bytes
        self._identity = (0, 0)
        self._text = str(self.path)
        self.scan = self._fresh()

    def _fresh(self) -> Scan:
        return Scan(Position(codec.first_hash(self.session_id)), self._max_event_bytes)

    # --- opening

    def open_to_write(self, *, create: bool) -> None:
        """Have a descriptor for appending that is the file at the path. Raises SessionNotFound, NotARegularFile."""
        if self.descriptor >= 0 and self._is_at_path():
            return
        self.close()
        if create:
            _make_folder(self._root, self.session_id)
        flags = os.O_RDWR | os.O_APPEND | (os.O_CREAT if create else 0)
        self.descriptor = self._open(flags)
        self._identify(self.descriptor)

    def _is_at_path(self) -> bool:
        try:
            found = os.stat(self._text, follow_symlinks=False)
        except (FileNotFoundError, NotADirectoryError):
            return False
        return (found.st_dev, found.st_ino) == self._identity and found.st_nlink == 1

    @contextmanager
    def open_to_read(self) -> Iterator[int]:
        """Lend a descriptor for reading, with `scan` standing for the file behind it."""
        descriptor = self._open(os.O_RDONLY)
        try:
            with self.scanning:
                self._identify(descriptor)
            yield descriptor
        finally:
            os.close(descriptor)

    def _open(self, flags: int) -> int:
        try:
            descriptor = os.open(self._text, flags | _SAFE, 0o600, dir_fd=None)
        except (FileNotFoundError, NotADirectoryError):
            raise SessionNotFound(self.session_id) from None
        except OSError as error:
            if error.errno in (errno.ELOOP, errno.EISDIR, errno.ENXIO):
                raise NotARegularFile(self._text, _kind(self._text)) from None
            raise
        found = os.fstat(descriptor)
        folder = os.stat(self.path.parent, follow_symlinks=False)
        if stat.S_ISREG(found.st_mode) and found.st_nlink == 1 and stat.S_ISDIR(folder.st_mode):
            return descriptor
        os.close(descriptor)
        if not found.st_nlink:
            raise SessionNotFound(self.session_id)
        raise NotARegularFile(self._text, _kind(self._text))

    def _identify(self, descriptor: int) -> None:
        found = os.fstat(descriptor)
        if (found.st_dev, found.st_ino) != self._identity:
            self._identity, self.scan = (found.st_dev, found.st_ino), self._fresh()

    def close(self) -> None:
        """Let go of the descriptor."""
        if self.descriptor >= 0:
            os.close(self.descriptor)
            self.descriptor = -1

    # --- verifying

    def verify(self, descriptor: int) -> Scan:
        """Move the scan to the end of the file, reading only what is new, and return it.

        A fault is believed only after the whole file was read again: an append that failed and was cut back may have been
        seen before it went away.
        """
        with self.scanning:
            size = os.fstat(descriptor).st_size
            scan = self.scan
            if size == scan.here.offset:
                scan.fault, scan.missing_lf = None, False
                return scan
            began = scan.here.offset
            if size > began:
                scan.feed(_blocks(descriptor, began, size))
            if began and (size < began or scan.fault):
                scan = self.scan = self._fresh()
                scan.feed(_blocks(descriptor, 0, size))
            return scan

    def damage(self, scan: Scan) -> LogDamaged | None:
        """Return the error for a fault that no crash explains."""
        fault = scan.fault
        if fault is None or fault.torn:
            return None
        return LogDamaged(self.session_id, self._text, fault.line, fault.offset_bytes, f"the line {fault.reason}")

    # --- writing, with the lock held

    def lock(self) -> None:
        """Wait for the lock that keeps other writers out."""
        fcntl.flock(self.descriptor, fcntl.LOCK_EX)

    def unlock(self) -> None:
        """Let the next writer in."""
        fcntl.flock(self.descriptor, fcntl.LOCK_UN)

    def is_current(self) -> bool:
        """Tell whether the locked descriptor is still the file at the path."""
        return self._is_at_path()

    def finish_last_line(self) -> None:
        """Give a whole last record the LF that a crash took."""
        self.write(b"\n", os.fstat(self.descriptor).st_size)

    def cut_tail(self, scan: Scan) -> LogRepaired:
        """Copy the torn tail to quarantine, cut it, and return the event that records it."""
        assert scan.fault is not None  # noqa: S101 - callers cut only where there is a fault
        start, size = scan.here.offset, os.fstat(self.descriptor).st_size
        name = f"{datetime.now(UTC):%Y%m%dT%H%M%S.%fZ}-{start}.bin"
        folder = self.path.parent / QUARANTINE
        folder.mkdir(0o700, exist_ok=True)
        copy = os.open(folder / name, os.O_WRONLY | os.O_CREAT | os.O_EXCL | _SAFE, 0o600)
        try:
            for block in _blocks(self.descriptor, start, size):
                _write_all(copy, block)
            os.fsync(copy)
        finally:
            os.close(copy)
        _sync_folders(folder, self.path.parent)
        os.ftruncate(self.descriptor, start)
        os.fsync(self.descriptor)
        scan.fault = None
        return LogRepaired(
            offset_bytes=start,
            removed_bytes=size - start,
            quarantine=f"{QUARANTINE}/{name}",
            reason="torn tail",
        )

    def write(self, data: bytes, start: int) -> None:
        """Append all bytes at `start`, the end of the file, or cut back and raise the OSError."""
        try:
            _write_all(self.descriptor, data)
            if os.fstat(self.descriptor).st_size != start + len(data):
                raise OSError(errno.EIO, "the file did not grow by what was written", self._text)
        except BaseException:
            os.ftruncate(self.descriptor, start)
            raise
        self.dirty = True

    def sync(self) -> None:
        """Force what was written to stable storage. After a failure nothing more is believed: the file is poisoned."""
        if self.poison is not None:
            raise self.poison
        if not self.dirty or self.descriptor < 0:
            return
        self.dirty = False
        try:
            os.fdatasync(self.descriptor)
        except OSError as error:
            self.poison = OSError(
                error.errno,
                f"{os.strerror(error.errno or 0)}: flushing failed, so what was appended last may be lost; "
                "appends are refused until the program opens the store anew",
                self._text,
            )
            raise self.poison from None


def read_lines(descriptor: int, after: int, count: int | None, end: int) -> Iterator[bytes]:
    """Stream chunks of whole lines up to the byte `end`: those behind line `after`, at most `count` of them."""
    start = _find_line(descriptor, after + 1, end) if after > 0 else 0
    rest = b""
    for block in _blocks(descriptor, start, end):
        whole, lf, rest = (rest + block).rpartition(b"\n")
        chunk = whole + lf
        if count is not None:
            chunk, count = _first_lines(chunk, count)
        if chunk:
            yield chunk
        if count == 0:
            return


def _first_lines(chunk: bytes, count: int) -> tuple[bytes, int]:
    """Cut a chunk after `count` lines; return it and how many lines are still wanted."""
    found = chunk.count(b"\n")
    if found <= count:
        return chunk, count - found
    return b"".join(line + b"\n" for line in chunk.split(b"\n", count)[:count]), 0


def _find_line(descriptor: int, seq: int, end: int) -> int:
    """Find the byte that line `seq` begins at, or `end`: bisect on the numbers that lines carry, then walk."""
    low, high = 0, end
    while high - low > CHUNK:
        middle = _next_start(descriptor, (low + high) // 2, high)
        found = _SEQ.match(os.pread(descriptor, 256, middle)) if middle < high else None
        if found is None or int(found[1]) > seq:
            high = (low + high) // 2
        else:
            low = middle
    return _walk(descriptor, low, seq, end)


def _walk(descriptor: int, start: int, seq: int, end: int) -> int:
    while start < end:
        found = _SEQ.match(os.pread(descriptor, 256, start))
        if found is not None and int(found[1]) >= seq:
            return start
        start = _next_start(descriptor, start, end)
    return end


def _next_start(descriptor: int, offset: int, end: int) -> int:
    """Return where the first line begins that starts behind `offset`."""
    while offset < end:
        block = os.pread(descriptor, min(4096, end - offset), offset)
        found = block.find(b"\n")
        if found >= 0:
            return offset + found + 1
        offset += len(block)
    return end


def _blocks(descriptor: int, start: int, end: int) -> Iterator[bytes]:
    while start < end:
        block = os.pread(descriptor, min(CHUNK, end - start), start)
        if not block:
            return
        start += len(block)
        yield block


def _write_all(descriptor: int, data: bytes) -> None:
    written = os.write(descriptor, data)
    while written < len(data):
        written += os.write(descriptor, data[written:])


def _make_folder(root: Path, session_id: str) -> None:
    """Make the session's folder, and the root where it is missing, on stable storage."""
    missing = [folder for folder in (root, *root.parents) if not folder.exists()]
    root.mkdir(0o700, parents=True, exist_ok=True)
    folder = root / session_id
    try:
        folder.mkdir(0o700)
    except FileExistsError:
        found = os.stat(folder, follow_symlinks=False)
        if not stat.S_ISDIR(found.st_mode):
            raise NotARegularFile(str(folder), _kind(str(folder))) from None
        return
    _sync_folders(root, *(one.parent for one in missing))


def _sync_folders(*folders: Path) -> None:
    for folder in folders:
        descriptor = os.open(folder, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
        try:
            os.fsync(descriptor)
        finally:
            os.close(descriptor)


def sync_folder(folder: Path) -> None:
    """Force a folder's entries to stable storage."""
    with suppress(FileNotFoundError):
        _sync_folders(folder)


_KINDS = (
    (stat.S_ISLNK, "a symbolic link"),
    (stat.S_ISDIR, "a folder"),
    (stat.S_ISFIFO, "a pipe"),
    (stat.S_ISSOCK, "a socket"),
    (stat.S_ISREG, "a file with more than one name, or below a link,"),
)


def _kind(path: str) -> str:
    try:
        mode = os.stat(path, follow_symlinks=False).st_mode
    except OSError:
        return "something unreachable"
    return next((kind for test, kind in _KINDS if test(mode)), "a device")
