"""One log file: opened with suspicion, verified once per byte, repaired only by a writer that holds its lock."""

import errno
import fcntl
import os
import re
import stat
import struct
import threading
import time
from binascii import hexlify, unhexlify
from collections.abc import Iterable, Iterator, Sequence
from contextlib import contextmanager, suppress
from datetime import UTC, datetime
from pathlib import Path

from eventstore import codec
from eventstore.errors import (
    HandlePoisoned,
    LogDamaged,
    LogTampered,
    NotARegularFile,
    OutcomeUnknown,
    SessionNotFound,
)
from eventstore.events import LogRepaired
from eventstore.log.base import Appended
from eventstore.log.batch import Batch
from eventstore.log.group import Group
from eventstore.log.scan import UNTOLD, Position, Scan
from eventstore.names import is_beside
from eventstore.staging import open_below

LOG = "events.jsonl"
CHECKPOINTS, QUARANTINE = "checkpoints", "quarantine"
MAX_NOTE_BYTES = 1_000_000
"""Of a note no more is read: one that is longer is no note."""
CHUNK = 128 * 1024
IDENTITY_NS = 20_000
"""For how long a file at its path is trusted to be there still: looking costs a third of an append."""
_TICK_NS, _SLACK_NS = 20_000_000, 50_000_000  # how far behind the clock, and ahead, the time of our own write can lie
_SAFE = os.O_CLOEXEC | os.O_NOFOLLOW | os.O_NONBLOCK
_FOLDER = os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC | os.O_NOFOLLOW
_SMALL = 4 * 1024
_HEAD_BYTES = 256
_SEQ = re.compile(rb'\{"type":"[^"]*","seq":([0-9]+),')
_LINE_START = re.compile(rb'\n\{"type":"[^"]*","seq":([0-9]+),')


class LogFile:
    """The log of one session below a root folder.

    `writing` is held through an append, and longer where another process holds the file's lock; `scanning` whenever `scan` is
    looked at and moved, by an append or by what is read; `flushing` through a flush. They are taken in that order.
    """

    def __init__(
        self, root: Path, session_id: str, max_event_bytes: int, *, durable: bool, folder: str | None = None
    ) -> None:
        self._folder = folder or session_id
        self.session_id, self.path = session_id, root / self._folder / LOG
        self.writing, self.scanning, self.flushing = threading.Lock(), threading.RLock(), threading.Lock()
        self.group: Group[tuple[Batch, int | None], Appended] = Group(self._interrupted)
        self.descriptor = -1
        self.poison: int | None = None
        self.written = self._flushed = 0
        self._seen_at = 0
        self._changed, self.is_touched = (0, 0), True
        self.is_unfinished = False
        self._root, self._max_event_bytes, self._durable = root, max_event_bytes, durable
        self._identity, self._opened = (0, 0), (0, 0)
        self.text = str(self.path)
        self.fork: codec.ForkPoint | None = None
        self.root, self.first_digest = session_id, codec.first_hash(session_id)
        self.scan = self.fresh()

    def fresh(self) -> Scan:
        """Begin in front of the first line of a log that goes on from no other, as far as is known yet."""
        self.fork, self.root, self.first_digest = None, self.session_id, codec.first_hash(self.session_id)
        return Scan(Position(self.first_digest), self._max_event_bytes)

    # --- opening

    def open_to_write(self, *, create: bool) -> None:
        """Have a descriptor for appending that is the file at the path. Raises SessionNotFound, NotARegularFile, OSError."""
        with self.open_folder(create=create) as folder:
            self.descriptor = self._open(folder, os.O_RDWR | os.O_APPEND | (os.O_CREAT if create else 0))
            size = os.fstat(self.descriptor).st_size
            if create and self._durable and not size:
                os.fsync(folder)
        self.written, self._flushed = size, 0
        mark_as_written(self.descriptor)
        with self.scanning:
            self._identify(self.descriptor)
            self._opened = self._identity

    def _is_current(self) -> bool:
        """Tell whether the descriptor still is the one file at the path."""
        try:
            found = os.stat(self.text, follow_symlinks=False)
        except (FileNotFoundError, NotADirectoryError):
            return False
        self._seen_at = time.time_ns()
        self.is_touched = not self._changed[0] <= found.st_mtime_ns <= self._changed[1]
        return (found.st_dev, found.st_ino) == self._opened and found.st_nlink == 1

    @contextmanager
    def open_to_read(self) -> Iterator[int]:
        """Lend a descriptor for reading, with `scan` standing for the file behind it, and `scanning` held."""
        with self.open_folder(create=False) as folder:
            descriptor = self._open(folder, os.O_RDONLY)
        try:
            with self.scanning:
                self._identify(descriptor)
                yield descriptor
        finally:
            os.close(descriptor)

    @contextmanager
    def open_aside(self) -> Iterator[int]:
        """Lend a descriptor for reading that has nothing to do with `scan`."""
        with self.open_folder(create=False) as folder:
            descriptor = self._open(folder, os.O_RDONLY)
        try:
            yield descriptor
        finally:
            os.close(descriptor)

    def read_on(self, descriptor: int, place: Position, most_bytes: int = CHUNK) -> tuple[bytes, Position]:
        """Read whole committed lines behind a place, verified from there, about so many bytes; and tell where they end.

        Raises LogDamaged.
        """
        size, seen = os.fstat(descriptor).st_size, None
        while place.offset < size:
            data = _read(descriptor, place.offset, min(place.offset + most_bytes, size))
            scan = Scan(place, self._max_event_bytes, joins=place.offset > 0)
            scan.feed([data])
            if scan.here.offset > place.offset:
                return data[: scan.here.offset - place.offset], scan.here
            if place.offset + len(data) < size:
                most_bytes *= 4
                continue
            damage = self.damage(scan)
            if damage is None:
                break
            if seen == damage.args:
                raise damage
            size, seen = (
                os.fstat(descriptor).st_size,
                damage.args,
            )  # it may have been an append that was cut back meanwhile
        return b"", place

    def find(self, descriptor: int, seq: int, digest: bytes, offset: int) -> int | None:
        """Find the byte behind event `seq` with that digest; `offset` is where to look first. None where it is not there."""
        end = b'"%b"}\n' % hexlify(digest)
        if offset >= len(end):
            block = os.pread(descriptor, len(end) + _HEAD_BYTES, offset - len(end))
            following = _SEQ.match(block, len(end))
            if block.startswith(end) and following is not None and int(following[1]) == seq + 1:
                return offset
        size = os.fstat(descriptor).st_size
        start = _find_line(descriptor, seq, size)
        line = _read_line(descriptor, start, size, self._max_event_bytes) + b"\n"
        found, offset = _SEQ.match(line), start + len(line)
        if found is None or int(found[1]) != seq or not line.endswith(end) or offset > size:
            return None
        return offset

    @contextmanager
    def open_folder(self, *, create: bool) -> Iterator[int]:
        """Lend a descriptor of the session's folder, walked to from the root without following any link."""
        root = self._open_root(create=create)
        try:
            folder = self._open_below(root, create=create)
        except OSError as error:
            if error.errno in (errno.ELOOP, errno.ENOTDIR):
                where = str(self.path.parent)
                raise NotARegularFile(where, _kind(where), "a folder") from None
            raise
        finally:
            os.close(root)
        try:
            yield folder
        finally:
            os.close(folder)

    def _open_root(self, *, create: bool) -> int:
        try:
            return os.open(self._root, _FOLDER & ~os.O_NOFOLLOW)
        except FileNotFoundError:
            if not create:
                raise SessionNotFound(self.session_id) from None
        missing = [folder for folder in (self._root, *self._root.parents) if not folder.exists()]
        self._root.mkdir(0o700, parents=True, exist_ok=True)
        if self._durable:
            sync_folders(*(folder.parent for folder in missing))
        return os.open(self._root, _FOLDER & ~os.O_NOFOLLOW)

    def _open_below(self, root: int, *, create: bool) -> int:
        try:
            return os.open(self._folder, _FOLDER, dir_fd=root)
        except FileNotFoundError:
            if not create:
                raise SessionNotFound(self.session_id) from None
        with suppress(FileExistsError):
            os.mkdir(self._folder, 0o700, dir_fd=root)
        if self._durable:
            os.fsync(root)
        return os.open(self._folder, _FOLDER, dir_fd=root)

    def _open(self, folder: int, flags: int) -> int:
        try:
            descriptor = os.open(LOG, flags | _SAFE, 0o600, dir_fd=folder)
        except FileNotFoundError:
            raise SessionNotFound(self.session_id) from None
        except OSError as error:
            if error.errno in (errno.ELOOP, errno.EISDIR, errno.ENXIO):
                raise NotARegularFile(self.text, _kind(self.text)) from None
            raise
        found = os.fstat(descriptor)
        if stat.S_ISREG(found.st_mode) and found.st_nlink == 1:
            return descriptor
        os.close(descriptor)
        if not found.st_nlink:
            raise SessionNotFound(self.session_id)
        raise NotARegularFile(self.text, _kind(self.text))

    def _identify(self, descriptor: int) -> None:
        found = os.fstat(descriptor)
        if (found.st_dev, found.st_ino) != self._identity:
            self._identity, self.scan = (found.st_dev, found.st_ino), self.fresh()

    def close(self) -> None:
        """Let go of the descriptor, once nobody flushes it."""
        with self.flushing:
            if self.descriptor >= 0:
                os.close(self.descriptor)
                self.descriptor = -1

    # --- verifying

    def verify(self, descriptor: int) -> Scan:
        """Move the scan to the end of the file, reading only what is new, and return it. `scanning` is held.

        A file of the same size that somebody else changed is read again as a whole.

        A fault is believed only after the whole file was read again: an append that failed and was cut back may have been
        seen before it went away.
        """
        found = os.fstat(descriptor)
        size, (earliest, latest) = found.st_size, self._changed
        changed = not earliest <= found.st_mtime_ns <= latest
        self._changed, self.is_touched = (found.st_mtime_ns, found.st_mtime_ns), False
        scan = self.scan
        if size and (not scan.here.offset or (size == scan.here.offset and changed) or not _is_where(descriptor, scan)):
            scan = self._begin(descriptor, size)
        if size == scan.here.offset:
            scan.fault, scan.missing_lf = None, False
            return self._judged(scan)
        began = scan.here.offset
        if size > began:
            scan.feed(blocks(descriptor, began, size))
        if began and (size < began or scan.fault):
            scan = self._begin(descriptor, size)
            scan.feed(blocks(descriptor, 0, size))
        return self._judged(scan)

    def _judged(self, scan: Scan) -> Scan:
        """See that redacted lines are told of, and whether what is told of is still to be done."""
        scan.judge_stubs()
        self.is_unfinished = any(seq not in scan.stubs for seq in self.own_redactions(scan))
        return scan

    def own_redactions(self, scan: Scan) -> Iterator[int]:
        """Stream the numbers of the events that are said to be redacted and are in this file."""
        inherited = self.fork.seq if self.fork else 0
        return (seq for seq in scan.redactions if seq > inherited)

    def _begin(self, descriptor: int, size: int) -> Scan:
        """Stand in front of the first line: where its session begins, or goes on from another."""
        scan = self.fresh()
        self.scan = scan
        self.fork, self.root, scan.here = self.beginning(descriptor, size)
        self.first_digest = scan.here.digest
        return scan

    def beginning(self, descriptor: int, size: int) -> tuple[codec.ForkPoint | None, str, Position]:
        """Tell where the log goes on from another, if it does, whose chain it is, and the position in front of its first line."""
        line = _read_line(descriptor, 0, size, self._max_event_bytes)
        point = codec.fork_point(line)
        if point is not None and point.into == self.session_id:
            return point, point.root, Position(point.digest, 0, point.seq)
        here = Position(codec.first_hash(self.session_id))
        if codec.digest_after(line, here.digest) is None:
            root = self._find_root(descriptor, size)
            if root is not None:
                return None, root, Position(codec.first_hash(root))
        return None, self.session_id, here

    def has_begun(self, descriptor: int, size: int) -> bool:
        """Tell whether the first line is whole: until then it is not known what the log goes on from."""
        return any(b"\n" in block for block in blocks(descriptor, 0, size, _SMALL))

    def _find_root(self, descriptor: int, size: int) -> str | None:
        """Find whose chain it is, where a fork was made whole: the line is in the middle that tells what it came from."""
        told = b'"into":"%b"' % self.session_id.encode("ascii")
        for _, line in numbered_lines(descriptor, size, self._max_event_bytes):
            point = codec.fork_point(line) if told in line else None
            if point is not None and point.into == self.session_id:
                return point.root
        return None

    def damage(self, scan: Scan) -> LogDamaged | None:
        """Return the error for a fault that no crash explains."""
        fault = scan.fault
        if fault is None or fault.torn:
            return None
        reason = f"the line {fault.reason}"
        kind = LogTampered if fault.reason == UNTOLD else LogDamaged
        return kind(self.session_id, self.text, fault.line, fault.offset_bytes, reason, scan.here.seq)

    # --- writing, with the lock held

    def lock(self, *, create: bool, wait: bool = True) -> None:
        """Take the lock that keeps other writers out, of the file that surely is the one at the path.

        Raises what `open_to_write` raises, HandlePoisoned, and BlockingIOError where it must not wait and would have to.
        """
        while True:
            if self.poison is not None:
                self.raise_if_poisoned()
            if self.descriptor < 0:
                if not wait:
                    raise BlockingIOError(errno.EAGAIN, "the log has to be opened", self.text)
                self.open_to_write(create=create)
            fcntl.flock(self.descriptor, fcntl.LOCK_EX if wait else fcntl.LOCK_EX | fcntl.LOCK_NB)
            try:
                if 0 <= time.time_ns() - self._seen_at < IDENTITY_NS or self._is_current():
                    if self._identity != self._opened:  # a reader has seen another file at the path meanwhile
                        with self.scanning:
                            self._identify(self.descriptor)
                    return
            except BaseException:
                self.unlock()
                raise
            self.close()

    def is_verified(self) -> bool:
        """Tell whether all in the file is verified: nobody else wrote, as far as its size and a recent look tell."""
        scan = self.scan
        return (
            not self.is_touched
            and not self.is_unfinished
            and scan.fault is None
            and os.lseek(self.descriptor, 0, os.SEEK_END) == scan.here.offset > 0
        )

    def unlock(self) -> None:
        """Let the next writer in: what was written is written, whether the lock goes or has to be closed away."""
        if self.descriptor >= 0:
            try:
                fcntl.flock(self.descriptor, fcntl.LOCK_UN)
            except OSError:
                self.close()

    def begin_as_fork(self, point: codec.ForkPoint, at: str) -> None:
        """Let the first line, which is still to be written, go on from another log."""
        self.fork, self.root, self.first_digest = point, point.root, point.digest
        self.scan.here = Position(point.digest, 0, point.seq, at)

    def replace_by(self, chunks: Iterable[bytes]) -> None:
        """Put a whole new file at the path, in one step; the old one stays with whoever reads it. The descriptor is closed."""
        new = f".{LOG}.new"
        with self.open_folder(create=False) as folder:
            with suppress(FileNotFoundError):
                os.unlink(new, dir_fd=folder)
            file = os.open(new, os.O_WRONLY | os.O_CREAT | os.O_EXCL | _SAFE, 0o600, dir_fd=folder)
            try:
                for chunk in chunks:
                    _write_all(file, chunk)
                os.fsync(file)
            finally:
                os.close(file)
            os.replace(new, LOG, src_dir_fd=folder, dst_dir_fd=folder)
            os.fsync(folder)
        self.close()

    def finish_last_line(self) -> None:
        """Give a whole last record the LF that a crash took."""
        self.write(b"\n", os.fstat(self.descriptor).st_size)

    def cut(self, scan: Scan, reason: str) -> LogRepaired:
        """Copy all that is behind the scan to quarantine, cut it, and return the event that records it."""
        start, size = scan.here.offset, os.fstat(self.descriptor).st_size
        name = f"{datetime.now(UTC):%Y%m%dT%H%M%S.%fZ}-{start}.bin"
        with self.open_folder(create=False) as folder:
            self._keep(folder, name, start, size)
        os.ftruncate(self.descriptor, start)
        os.fsync(self.descriptor)
        scan.fault = None
        return LogRepaired(
            offset_bytes=start, removed_bytes=size - start, quarantine=f"{QUARANTINE}/{name}", reason=reason
        )

    def _keep(self, folder: int, name: str, start: int, size: int) -> None:
        """Copy bytes of the log to a new file in quarantine, on stable storage."""
        with suppress(FileExistsError):
            os.mkdir(QUARANTINE, 0o700, dir_fd=folder)
        quarantine = os.open(QUARANTINE, _FOLDER, dir_fd=folder)
        try:
            copy = os.open(name, os.O_WRONLY | os.O_CREAT | os.O_EXCL | _SAFE, 0o600, dir_fd=quarantine)
            try:
                for block in blocks(self.descriptor, start, size):
                    _write_all(copy, block)
                os.fsync(copy)
            finally:
                os.close(copy)
            os.fsync(quarantine)
        finally:
            os.close(quarantine)
        os.fsync(folder)

    def write(self, data: bytes, start: int) -> None:
        """Append all bytes at `start`, the end of the file, or cut back and raise the OSError.

        Raises OutcomeUnknown where all was written and neither that nor cutting back could be made sure.
        """
        wrote = False
        now = time.time_ns()
        try:
            written = os.write(self.descriptor, data)
            while written < len(data):
                written += os.write(self.descriptor, data[written:])
            wrote = True
            if os.lseek(self.descriptor, 0, os.SEEK_END) != start + len(data):
                raise OSError(errno.EIO, "the file did not grow by what was written", self.text)
        except BaseException as failed:
            try:
                os.ftruncate(self.descriptor, start)
            except OSError as error:
                if wrote:
                    raise OutcomeUnknown(self.session_id, self.text, error.errno or errno.EIO) from failed
            raise
        self.written = start + len(data)
        self._changed = (now - _TICK_NS, now + _SLACK_NS)

    def redact(self, seq: int, leaf: bytes) -> bool:
        """Overwrite the content of an event, of which the log tells already, in place; False where the line is another one."""
        size = os.fstat(self.descriptor).st_size
        offset = _find_line(self.descriptor, seq, size)
        line = _read_line(self.descriptor, offset, size, self._max_event_bytes)
        stub = codec.read_stub(line)
        if stub is None:
            new = codec.make_stub(line) if codec.leaf_of(line) == leaf else self._stub_of_torn(line, offset, leaf)
            stub = None if new is None else codec.read_stub(new)
            if new is None or stub is None:
                return False
            self._overwrite(offset, new)
        self.scan.stubs[seq] = stub, offset
        return True

    def _stub_of_torn(self, line: bytes, offset: int, leaf: bytes) -> bytes | None:
        """Make the stub of a line that a power cut left overwritten in part: how it starts and ends is the same in both."""
        parts, start = codec.split(line), codec.line_start(line)
        before = _read(self.descriptor, offset - 67, offset - 3) if offset else b""
        if parts is None or start is None:
            return None
        previous = unhexlify(before) if before else self.first_digest
        fits = codec.next_hash(previous, leaf) == parts[1]
        return codec.stub_of(start, leaf, parts[1], len(line)) if fits else None

    def _overwrite(self, offset: int, data: bytes) -> None:
        """Write bytes over others of the file, and force them to stable storage: an appending descriptor could only append."""
        now = time.time_ns()
        with self.open_folder(create=False) as folder:
            file = self._open(folder, os.O_WRONLY)
        try:
            while data:
                written = os.pwrite(file, data, offset)
                data, offset = data[written:], offset + written
            os.fdatasync(file)
        finally:
            os.close(file)
        self._changed = (now - _TICK_NS, time.time_ns() + _SLACK_NS)

    def told_redaction(self, seq: int) -> bytes | None:
        """Find what the rest of a log tells of the redaction of an event whose line cannot be read: its leaf hash."""
        for _, line in numbered_lines(self.descriptor, os.fstat(self.descriptor).st_size, self._max_event_bytes):
            told = codec.read_redaction(line)
            if told is not None and told.target == seq:
                return unhexlify(told.leaf)
        return None

    def disown(self) -> None:
        """Let the file, whose name is gone, grow: whoever has it open sees that it is not what it was, and looks for its name."""
        os.write(self.descriptor, b"\0")

    # --- flushing, without the lock

    def flush(self, upto: int) -> None:
        """Return when the first `upto` bytes are on stable storage.

        Raises OutcomeUnknown where that fails. Nothing more is believed then: everyone after gets HandlePoisoned.
        """
        if self._flushed >= upto:
            return
        with self.flushing:
            if self._flushed >= upto or self.descriptor < 0:
                return
            self.raise_if_poisoned()
            reached = self.written
            try:
                os.fdatasync(self.descriptor)
            except OSError as error:
                self.poison = error.errno or errno.EIO
                raise OutcomeUnknown(self.session_id, self.text, self.poison) from error
            self._flushed = reached

    def _interrupted(self) -> OutcomeUnknown:
        return OutcomeUnknown(self.session_id, self.text, errno.EINTR)

    def raise_if_poisoned(self) -> None:
        """Raise HandlePoisoned after a flush that failed."""
        if self.poison is not None:
            raise HandlePoisoned(self.session_id, self.text, self.poison)


def _read(descriptor: int, start: int, end: int) -> bytes:
    return b"".join(blocks(descriptor, start, end))


def _is_where(descriptor: int, scan: Scan) -> bool:
    """Tell whether the last line that was verified still is where it was: a log made anew can have its number, size and time."""
    return os.pread(descriptor, 64, scan.here.offset - 67) == hexlify(scan.here.digest)


def last_line(descriptor: int, end: int) -> tuple[bytes, int] | None:
    """Return the last line that is whole, without its LF, and the byte behind it; None where it is too long to look for."""
    start = max(end - CHUNK // 2, 0)
    data = _read(descriptor, start, end)
    whole = data.rfind(b"\n")
    before = data.rfind(b"\n", 0, max(whole, 0))
    if whole < 0 or (before < 0 and start):
        return None
    return data[before + 1 : whole], start + whole + 1


def _read_line(descriptor: int, start: int, end: int, max_line_bytes: int) -> bytes:
    """Read one line without its LF, or what there is of it."""
    size = _SMALL
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


def list_quarantine(folder: int) -> list[str]:
    """Name the files in a session folder's quarantine, as `log.repaired` names them."""
    try:
        quarantine = os.open(QUARANTINE, _FOLDER, dir_fd=folder)
    except FileNotFoundError:
        return []
    try:
        return sorted(f"{QUARANTINE}/{name}" for name in os.listdir(quarantine))
    finally:
        os.close(quarantine)


def keep_note(folder: int, name: str, note: bytes) -> None:
    """Write a note into a session folder's checkpoints, whole or not at all, and force it to stable storage."""
    with suppress(FileExistsError):
        os.mkdir(CHECKPOINTS, 0o700, dir_fd=folder)
    notes = os.open(CHECKPOINTS, _FOLDER, dir_fd=folder)
    new = f".{name}.new"
    try:
        with suppress(FileNotFoundError):
            os.unlink(new, dir_fd=notes)
        file = os.open(new, os.O_WRONLY | os.O_CREAT | os.O_EXCL | _SAFE, 0o600, dir_fd=notes)
        try:
            _write_all(file, note)
            os.fsync(file)
        finally:
            os.close(file)
        os.replace(new, name, src_dir_fd=notes, dst_dir_fd=notes)
        os.fsync(notes)
    finally:
        os.close(notes)
    os.fsync(folder)


def read_notes(folder: int) -> list[tuple[str, bytes]]:
    """Read the notes in a session folder's checkpoints, in the order of their names; what is no plain file reads as nothing."""
    try:
        notes = os.open(CHECKPOINTS, _FOLDER, dir_fd=folder)
    except FileNotFoundError:
        return []
    try:
        names = sorted(name for name in os.listdir(notes) if name.endswith(".note"))
        return [(name, _read_note(notes, name)) for name in names]
    finally:
        os.close(notes)


def _read_note(notes: int, name: str) -> bytes:
    try:
        file = os.open(name, os.O_RDONLY | _SAFE, dir_fd=notes)
    except OSError as error:
        if error.errno in (errno.ELOOP, errno.ENXIO):
            return b""
        raise
    try:
        return _read(file, 0, MAX_NOTE_BYTES) if stat.S_ISREG(os.fstat(file).st_mode) else b""
    finally:
        os.close(file)


def remove_notes(folder: int) -> None:
    """Remove the notes in a session folder's checkpoints: they must not outlive the log that they are of."""
    try:
        notes = os.open(CHECKPOINTS, _FOLDER, dir_fd=folder)
    except (FileNotFoundError, NotADirectoryError):
        return
    try:
        for name in os.listdir(notes):
            with suppress(OSError):
                os.unlink(name, dir_fd=notes)
        os.fsync(notes)
    finally:
        os.close(notes)


def first_lines(chunks: Iterable[bytes], count: int) -> Iterator[bytes]:
    """Stream chunks that end anywhere, up to the end of the line `count`."""
    for chunk in chunks:
        if not count:
            return
        kept, count = _first_lines(chunk, count) if chunk.count(b"\n") >= count else (chunk, count - chunk.count(b"\n"))
        yield kept


def scrub_quarantine(folder: int, needles: Sequence[bytes]) -> list[str]:
    """Overwrite byte strings wherever they stand in the files in a session folder's quarantine; name the files that had any."""
    changed = []
    for name in list_quarantine(folder):
        file = os.open(name, os.O_RDWR | _SAFE, dir_fd=folder)
        try:
            data = old = _read(file, 0, os.fstat(file).st_size)
            for needle in needles:
                data = data.replace(needle, b"*" * len(needle))
            if data != old:
                os.pwrite(file, data, 0)
                os.fsync(file)
                changed.append(name)
        finally:
            os.close(file)
    return changed


def list_beside(folder: int) -> list[str]:
    """Name the files in a session folder that go with its log: signed checkpoints, and what repairs have kept."""
    found = []
    for inner in (CHECKPOINTS, QUARANTINE):
        with (
            suppress(FileNotFoundError, NotADirectoryError),
            open_below(folder, [inner]) as inside,
            os.scandir(inside) as entries,
        ):
            found += [f"{inner}/{one.name}" for one in entries if one.is_file(follow_symlinks=False)]
    return sorted(filter(is_beside, found))


def open_beside(folder: int, name: str) -> int:
    """Open for reading what `list_beside` names. Raises FileNotFoundError, OSError."""
    inner, _, last = name.partition("/")
    if not is_beside(name):
        raise FileNotFoundError(errno.ENOENT, os.strerror(errno.ENOENT), name)
    with open_below(folder, [inner]) as inside:
        descriptor = os.open(last, os.O_RDONLY | _SAFE, dir_fd=inside)
    if stat.S_ISREG(os.fstat(descriptor).st_mode):
        return descriptor
    os.close(descriptor)
    raise NotARegularFile(name, "no file")


def mark_as_written(descriptor: int) -> None:
    """Show others that somebody has the log open for writing, for as long as the descriptor is open.

    A shared lock of the open file description, which `kill -9` takes away too; where the system has none nobody is shown.
    """
    if _OFD_SETLK is not None:
        with suppress(OSError):
            fcntl.fcntl(descriptor, _OFD_SETLK, _lock(fcntl.F_RDLCK))


def is_being_written(descriptor: int) -> bool:
    """Tell whether somebody, this process too, has the log of a descriptor open for writing."""
    if _OFD_GETLK is None:
        return False
    found = fcntl.fcntl(descriptor, _OFD_GETLK, _lock(fcntl.F_WRLCK))
    return bool(struct.unpack_from("h", found)[0] != fcntl.F_UNLCK)


_OFD_SETLK: int | None = getattr(fcntl, "F_OFD_SETLK", None)
_OFD_GETLK: int | None = getattr(fcntl, "F_OFD_GETLK", None)


def _lock(kind: int) -> bytes:
    return struct.pack("hhqqi4x", kind, os.SEEK_SET, 0, 0, 0)


def read_lines(descriptor: int, after: int, count: int | None, end: int) -> Iterator[bytes]:
    """Stream chunks of whole lines up to the byte `end`: those behind line `after`, at most `count` of them."""
    start = _find_line(descriptor, after + 1, end) if after > 0 else 0
    size = _SMALL if count == 1 else CHUNK
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


def _first_lines(chunk: bytes, count: int) -> tuple[bytes, int]:
    """Cut a chunk after `count` lines; return it and how many lines are still wanted."""
    found = chunk.count(b"\n")
    if found <= count:
        return chunk, count - found
    return b"".join(line + b"\n" for line in chunk.split(b"\n", count)[:count]), 0


def _find_line(descriptor: int, seq: int, end: int) -> int:
    """Find the byte that line `seq` begins at, or `end`: bisect on the numbers that lines carry, then walk."""
    low, high = 0, end
    while high - low > _SMALL:
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
    for block in blocks(descriptor, start, end, _SMALL):
        *whole, rest = (rest + block).split(b"\n")
        for line in whole:
            found = _SEQ.match(line)
            if found is not None and int(found[1]) >= seq:
                return start
            start += len(line) + 1
    return end


def _first_line(descriptor: int, offset: int, end: int) -> tuple[int, int] | None:
    """Return where the first line begins that starts behind `offset`, and its number; None where none does before `end`."""
    start, rest = offset, b""
    for block in blocks(descriptor, offset, end, _SMALL):
        rest += block
        found = _LINE_START.search(rest)
        if found is not None:
            return start + found.start() + 1, int(found[1])
        cut = max(len(rest) - 256, 0)
        start, rest = start + cut, rest[cut:]
    return None


def blocks(descriptor: int, start: int, end: int, size: int = CHUNK) -> Iterator[bytes]:
    """Stream the bytes of a file from `start` to `end`, without moving its position."""
    while start < end:
        block = os.pread(descriptor, min(size, end - start), start)
        if not block:
            return
        start += len(block)
        yield block


def _write_all(descriptor: int, data: bytes) -> None:
    written = os.write(descriptor, data)
    while written < len(data):
        written += os.write(descriptor, data[written:])


def sync_folders(*folders: Path) -> None:
    """Force the entries of folders to stable storage; one that is gone needs none."""
    for folder in folders:
        with suppress(FileNotFoundError):
            descriptor = os.open(folder, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
            try:
                os.fsync(descriptor)
            finally:
                os.close(descriptor)


_KINDS = (
    (stat.S_ISLNK, "a symbolic link"),
    (stat.S_ISDIR, "a folder"),
    (stat.S_ISFIFO, "a pipe"),
    (stat.S_ISSOCK, "a socket"),
    (stat.S_ISREG, "a file with more than one name"),
)


def _kind(path: str) -> str:
    try:
        mode = os.stat(path, follow_symlinks=False).st_mode
    except OSError:
        return "something unreachable"
    return next((kind for test, kind in _KINDS if test(mode)), "a device")
