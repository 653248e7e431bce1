"""One log file: opened with suspicion, verified once per byte, repaired only by a writer that holds its lock."""

import errno
import fcntl
import os
import stat
import threading
import time
from binascii import hexlify, unhexlify
from collections.abc import Iterable, Iterator
from contextlib import contextmanager, suppress
from datetime import UTC, datetime
from pathlib import Path

from eventstore.backends.files.attachments import QUARANTINE, keep_bytes
from eventstore.backends.files.change_feed import ChangeFeed
from eventstore.backends.files.descriptor import FOLDER, SAFE, kind_of, mark_as_written, sync_folders, write_all
from eventstore.backends.files.lines import CHUNK, SEQ, SMALL, blocks, find_line, numbered_lines, read_bytes, read_line
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
from eventstore.record import codec
from eventstore.record.scan import UNTOLD, Position, Scan

LOG = "events.jsonl"
IDENTITY_NS = 20_000
"""For how long a file at its path is trusted to be there still: looking costs a third of an append."""
_TICK_NS, _SLACK_NS = 20_000_000, 50_000_000  # how far behind the clock, and ahead, the time of our own write can lie
_HEAD_BYTES = 256


class LogFile:
    """The log of one session below a root folder.

    `writing` is held through an append, and longer where another process holds the file's lock; `scanning` whenever `scan` is
    looked at and moved, by an append or by what is read; `flushing` through a flush. They are taken in that order.
    """

    def __init__(
        self,
        root: Path,
        session_id: str,
        max_event_bytes: int,
        *,
        durable: bool,
        folder: str | None = None,
        feed: ChangeFeed | None = None,
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
        self._feed = feed
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
            data = read_bytes(descriptor, place.offset, min(place.offset + most_bytes, size))
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
            following = SEQ.match(block, len(end))
            if block.startswith(end) and following is not None and int(following[1]) == seq + 1:
                return offset
        size = os.fstat(descriptor).st_size
        start = find_line(descriptor, seq, size)
        line = read_line(descriptor, start, size, self._max_event_bytes) + b"\n"
        found, offset = SEQ.match(line), start + len(line)
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
                raise NotARegularFile(where, kind_of(where), "a folder", self.session_id) from None
            raise
        finally:
            os.close(root)
        try:
            yield folder
        finally:
            os.close(folder)

    def _open_root(self, *, create: bool) -> int:
        try:
            return os.open(self._root, FOLDER & ~os.O_NOFOLLOW)
        except FileNotFoundError:
            if not create:
                raise SessionNotFound(self.session_id) from None
        missing = [folder for folder in (self._root, *self._root.parents) if not folder.exists()]
        self._root.mkdir(0o700, parents=True, exist_ok=True)
        if self._durable:
            sync_folders(*(folder.parent for folder in missing))
        return os.open(self._root, FOLDER & ~os.O_NOFOLLOW)

    def _open_below(self, root: int, *, create: bool) -> int:
        try:
            return os.open(self._folder, FOLDER, dir_fd=root)
        except FileNotFoundError:
            if not create:
                raise SessionNotFound(self.session_id) from None
        with suppress(FileExistsError):
            os.mkdir(self._folder, 0o700, dir_fd=root)
        if self._durable:
            os.fsync(root)
        return os.open(self._folder, FOLDER, dir_fd=root)

    def _open(self, folder: int, flags: int) -> int:
        try:
            descriptor = os.open(LOG, flags | SAFE, 0o600, dir_fd=folder)
        except FileNotFoundError:
            raise SessionNotFound(self.session_id) from None
        except OSError as error:
            if error.errno in (errno.ELOOP, errno.EISDIR, errno.ENXIO):
                raise NotARegularFile(self.text, kind_of(self.text), session_id=self.session_id) from None
            raise
        found = os.fstat(descriptor)
        if stat.S_ISREG(found.st_mode) and found.st_nlink == 1:
            return descriptor
        os.close(descriptor)
        if not found.st_nlink:
            raise SessionNotFound(self.session_id)
        raise NotARegularFile(self.text, kind_of(self.text), session_id=self.session_id)

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
            self._see_tombstones(descriptor, scan, size)
            return self._judged(scan)
        began = scan.here.offset
        if size > began:
            scan.feed(blocks(descriptor, began, size))
        if began and (size < began or scan.fault):
            scan = self._begin(descriptor, size)
            scan.feed(blocks(descriptor, 0, size))
        self._see_tombstones(descriptor, scan, size)
        while self._judged(scan).fault and scan.is_unrecorded() and os.fstat(descriptor).st_size > scan.here.offset:
            # The event that records a redaction is in the file before the tombstone is: it may lie behind `size`.
            scan.feed(blocks(descriptor, scan.here.offset, os.fstat(descriptor).st_size))
        return scan

    def _see_tombstones(self, descriptor: int, scan: Scan, size: int) -> None:
        """Find the tombstones that were written over lines which were verified before."""
        for seq in self.own_redactions(scan):
            if seq not in scan.stubs:
                offset = find_line(descriptor, seq, size)
                stub = codec.read_stub(read_line(descriptor, offset, size, self._max_event_bytes))
                if stub is not None and stub.leaf == scan.redactions[seq]:
                    scan.stubs[seq] = stub, offset

    def tombstones_to_come(self, descriptor: int, version: int) -> Iterator[codec.Stub]:
        """Stream what will overwrite lines up to a version, where the log records redactions that are not carried out yet."""
        size = os.fstat(descriptor).st_size
        for seq in self.own_redactions(self.scan):
            if seq <= version and seq not in self.scan.stubs:
                line = read_line(descriptor, find_line(descriptor, seq, size), size, self._max_event_bytes)
                stub = codec.read_stub(codec.make_stub(line) or b"")
                if stub is not None and stub.leaf == self.scan.redactions[seq]:
                    yield stub

    def _judged(self, scan: Scan) -> Scan:
        """Mark a tombstone that no event records as a fault, and note whether a recorded redaction is still to be done."""
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
        line = read_line(descriptor, 0, size, self._max_event_bytes)
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
        return any(b"\n" in block for block in blocks(descriptor, 0, size, SMALL))

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
                    if self._feed is not None:
                        self._feed.before(self.session_id)
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
        if self._feed is not None:
            self._feed.after(self.session_id)
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
            file = os.open(new, os.O_WRONLY | os.O_CREAT | os.O_EXCL | SAFE, 0o600, dir_fd=folder)
            try:
                for chunk in chunks:
                    write_all(file, chunk)
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
            keep_bytes(folder, name, self.descriptor, start, size)
        os.ftruncate(self.descriptor, start)
        os.fsync(self.descriptor)
        scan.fault = None
        return LogRepaired(
            offset_bytes=start, removed_bytes=size - start, quarantine=f"{QUARANTINE}/{name}", reason=reason
        )

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
        offset = find_line(self.descriptor, seq, size)
        line = read_line(self.descriptor, offset, size, self._max_event_bytes)
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
        before = read_bytes(self.descriptor, offset - 67, offset - 3) if offset else b""
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
                with suppress(ValueError):  # somebody's own event, that tells of no leaf
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


def _is_where(descriptor: int, scan: Scan) -> bool:
    """Tell whether the last line that was verified still is where it was: a log made anew can have its number, size and time."""
    return os.pread(descriptor, 64, scan.here.offset - 67) == hexlify(scan.here.digest)
