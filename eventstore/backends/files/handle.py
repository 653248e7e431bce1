"""One log file that is open for writing: its lock, its identity, appends to it, and their durability."""

import errno
import os
import threading
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from typing import Protocol

import msgspec

from eventstore.backends.files.atomic import temporary_name
from eventstore.backends.files.chunks import HEAD_BYTES, ends_with, life_of, read_life
from eventstore.backends.files.descriptor import mark_as_written
from eventstore.backends.files.durability import sync_data
from eventstore.backends.files.folders import LOG, Folders
from eventstore.backends.posix import fcntl
from eventstore.log.locking import try_lock
from eventstore.log.port import Exists, Missing, Moved, NotStored, Poisoned, Refused, Unclear
from eventstore.record.scan import Scan, Tip

_ATTEMPTS = 1_000


class Feed(Protocol):
    """Called around each change of a log, so that readers need not check all logs to find the change."""

    def before(self, log: str) -> None:
        """Record that a log is about to change."""

    def after(self, log: str) -> None:
        """Record that a log was changed."""


class NoFeed:
    """The feed of logs in the trash: they are in no list."""

    def before(self, log: str) -> None:
        """Do nothing."""

    def after(self, log: str) -> None:
        """Do nothing."""


_OVERWRITTEN = -1


class Seen(msgspec.Struct, frozen=True, gc=False):
    """A log file as it was last read or written here. A file of the same size with another time was overwritten since."""

    life: str = ""
    size: int = -1
    mtime_ns: int = 0

    def is_overwritten(self, life: str, size: int, mtime_ns: int) -> bool:
        """Return whether lines may have been overwritten since. It stays true until the complete file was read."""
        return self.life == life and (self.is_tainted or (self.size == size and self.mtime_ns != mtime_ns))

    @property
    def is_tainted(self) -> bool:
        """Whether another process overwrote lines before a change by this one."""
        return self.mtime_ns == _OVERWRITTEN


class Handle:
    """The file of one log, for all threads of one backend.

    `writing` is held during an append, and longer if another process holds the file's lock; a thread may take it again.
    `flushing` is held during a flush and while the descriptor is closed, `noting` while `seen` changes. They are taken in
    that order. A flush that failed poisons the handle: the system may have dropped the bytes; a later success proves nothing.
    """

    def __init__(self, name: str, folders: Folders, feed: Feed) -> None:
        self.name, self.path = name, f"{folders.path(name)}/{LOG}"
        self.folders, self.feed = folders, feed
        self.writing, self.flushing, self.noting = threading.RLock(), threading.Lock(), threading.Lock()
        self.descriptor, self.poison = -1, 0
        self.life, self.seen, self.changes = "", Seen(), 0
        self.written = self.flushed = 0
        self.depth, self._is_locked, self._is_new = 0, False, False
        self._opened, self.last_digest = (0, 0), b""

    # --- the lock, which keeps other threads and processes out

    @contextmanager
    def held(self, *, create: bool = False) -> Iterator[os.stat_result]:
        """Hold the lock of the file, after making sure that it is the one at the path; yield what is known of it.

        A Ctrl-C anywhere in it leaves nothing locked. Raises Missing, NotARegularFile, OSError.
        """
        with self.writing:
            mine = 0
            try:
                found = self._lock_current(create=create)
                self.depth, mine = self.depth + 1, 1
                yield found
            finally:
                self.depth -= mine  # not what it was before: after a Ctrl-C, a block inside may end after this one
                # At once, in no function of its own: a Ctrl-C would come before it.
                if not self.depth and self._is_locked:
                    self._is_locked = False
                    try:
                        fcntl.flock(self.descriptor, fcntl.LOCK_UN)
                    except OSError:
                        self.close()

    def _lock_current(self, *, create: bool) -> os.stat_result:
        cause = errno.EAGAIN
        for _ in range(_ATTEMPTS):
            if self.descriptor < 0:
                try:
                    self._open(create=create)
                except Missing:
                    if not create:
                        raise
                    cause = errno.ENOENT
                    continue  # the folder was deleted after it was made, or the system makes none there
            if not self._is_locked:
                self._is_locked = True  # before it is: a Ctrl-C between the two would leave it locked
                fcntl.flock(self.descriptor, fcntl.LOCK_EX)
            with suppress(FileNotFoundError, NotADirectoryError):
                found = os.stat(self.path, follow_symlinks=False)
                if (found.st_dev, found.st_ino) == self._opened and found.st_nlink == 1:
                    if self._is_new:
                        self._is_new = False
                        if found.st_size:
                            self.remove_unfinished()
                    return found
            self.close()
        raise OSError(cause, "other programs replace or delete the log all the time", self.path)

    def _open(self, *, create: bool) -> None:
        descriptor = self.folders.open_log(self.name, os.O_RDWR | os.O_APPEND, create=create)
        found = os.fstat(descriptor)
        self._opened, self.life = (found.st_dev, found.st_ino), read_life(descriptor, found)
        self.written, self.flushed, self.last_digest = found.st_size, 0, b""
        self.descriptor, self._is_new = descriptor, True
        mark_as_written(descriptor)

    def remove_unfinished(self) -> None:
        """Remove the new file of a killed program that did not replace the log with it. The lock is held. Raises OSError."""
        folder = self.folders.open(self.name)
        try:
            with suppress(FileNotFoundError):
                os.unlink(temporary_name(LOG), dir_fd=folder)
        finally:
            os.close(folder)

    def close(self) -> None:
        """Close the file, and with it the lock, when no flush is running.

        A child forked in the meantime does not keep the lock.
        """
        with self.flushing:
            descriptor, self.descriptor = self.descriptor, -1
            if descriptor >= 0:
                if self._is_locked:
                    self._is_locked = False
                    fcntl.flock(descriptor, fcntl.LOCK_UN)
                os.close(descriptor)

    def drop_in_child(self) -> None:
        """Close the file in a forked child, and leave the lock to the parent."""
        descriptor, self.descriptor, self._is_locked = self.descriptor, -1, False
        if descriptor >= 0:
            os.close(descriptor)

    # --- what is known of the file

    def is_at(self, tip: Tip) -> bool:
        """Return, from one stat, whether a log ends at a tip and no one changed it; False also if that is not certain."""
        seen, last = self.seen, self.last_digest
        if self.descriptor < 0 or tip.life != seen.life or tip.offset != seen.size or tip.digest != last:
            return False
        try:
            found = os.stat(self.path, follow_symlinks=False)
        except OSError:
            return False
        return self.descriptor >= 0 and (
            (found.st_dev, found.st_ino) == self._opened
            and found.st_nlink == 1
            and (found.st_size, found.st_mtime_ns) == (seen.size, seen.mtime_ns)
        )

    def note_seen(self, seen: Seen, changes: int) -> None:
        """Record the file's state after reading all of it, unless this program made further changes after `changes` changes."""
        with self.noting:
            if self.changes == changes and self.seen != seen:
                self.seen, self.last_digest = seen, b""

    def note_change(self, found: os.stat_result, digest: bytes = b"") -> int:
        """Record the file's state after a change by this process; before it, the state was `found`. Return the file's size.

        If another process overwrote earlier lines, readers can still notice that. `digest` is that of the last line.
        """
        with self.noting:
            now = os.fstat(self.descriptor)
            seen = self.seen
            is_same = (seen.life, seen.size, seen.mtime_ns) == (self.life, found.st_size, found.st_mtime_ns)
            overwritten = not is_same and seen.is_overwritten(self.life, found.st_size, found.st_mtime_ns)
            self.changes += 1
            self.seen = Seen(self.life, now.st_size, _OVERWRITTEN if overwritten else now.st_mtime_ns)
            self.last_digest = digest
        return now.st_size

    def expect(self, tip: Tip | None, found: os.stat_result) -> None:
        """Raise Missing or Moved if the locked log does not end at a tip. None only requires that the log exists."""
        if not found.st_size and (tip is None or tip.offset):
            raise Missing(self.name)
        if tip is not None and not self._ends_at(tip, found, line_feed=True):
            raise Moved(self.name)

    def _ends_at(self, tip: Tip, found: os.stat_result, *, line_feed: bool) -> bool:
        size, mtime_ns = found.st_size, found.st_mtime_ns
        if size != tip.offset:
            return False
        if not size:
            return True
        if tip.life:
            if tip.life != self.life:  # a file that was empty, or was emptied since, begins with another line now
                self.life = read_life(self.descriptor, found)
            if tip.life != self.life or self.seen.is_overwritten(self.life, size, mtime_ns):
                return False
        if tip.digest == self.last_digest and self.seen == Seen(self.life, size, mtime_ns):
            return True
        return ends_with(self.descriptor, size, tip.digest, line_feed=line_feed)

    # --- appending

    def append(self, lines: bytes, expect: Tip | None, tip: Tip) -> str:
        """Append lines if the log ends at `expect`, and return its life; None makes a new log. `flush` makes it durable.

        Where the log exists, `append_last` is tried first. Raises Missing, Exists, Moved, Poisoned, Refused, Unclear,
        NotARegularFile, OSError.
        """
        self.raise_if_poisoned()
        with self.held(create=expect is None) as found:
            start = found.st_size
            if expect is None:
                if start:
                    raise Exists(self.name)
            elif not self._ends_at(expect, found, line_feed=lines != b"\n"):
                raise Moved(self.name) if start else Missing(self.name)
            if start < self.written:
                self._shrank_to(start)
            self.feed.before(self.name)
            try:
                self._write(lines, expect, found, tip.digest)
            finally:
                self.feed.after(self.name)
            return self.life

    def append_last(self, lines: bytes, expect: Tip, tip: Tip) -> bool:
        """Append if this handle wrote last and no one else has the lock; else return False, and nothing was done.

        It waits for nobody. The same steps as `append`, in one function: most appends come here.
        """
        taken = list[bool]()
        try:
            taken.extend(map(try_lock, (self.writing,)))  # no Ctrl-C comes between the two
            # Another thread may wait in it for another process, or this one holds the lock already.
            if True not in taken or self.depth or self.poison or self.descriptor < 0:
                return False
            self._is_locked = True  # before it is: a Ctrl-C between the two would leave it locked
            try:
                fcntl.flock(self.descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
                found, seen = os.stat(self.path, follow_symlinks=False), self.seen
                if (
                    (found.st_dev, found.st_ino) != self._opened
                    or found.st_nlink != 1
                    or not found.st_size == expect.offset == seen.size == self.written
                    or found.st_mtime_ns != seen.mtime_ns
                    or not expect.life == seen.life == self.life
                    or expect.digest != self.last_digest
                ):
                    return False
                self.feed.before(self.name)
                try:
                    self._write(lines, expect, found, tip.digest)
                finally:
                    self.feed.after(self.name)
                return True
            finally:
                if self._is_locked:
                    self._is_locked = False
                    try:
                        fcntl.flock(self.descriptor, fcntl.LOCK_UN)
                    except OSError:  # the bytes are written: closing releases the lock as well
                        self.close()
        except (BlockingIOError, FileNotFoundError, NotADirectoryError):
            return False
        finally:
            if True in taken:
                self.writing.release()

    def _write(self, lines: bytes, expect: Tip | None, found: os.stat_result, digest: bytes) -> None:
        """Write all lines with the lock held, or none of them. Raises Refused, and Unclear if some may remain."""
        start = found.st_size
        try:
            written = os.write(self.descriptor, lines)
            while written < len(lines):
                written += os.write(self.descriptor, lines[written:])
            if not start:
                self.life = life_of(*self._opened, lines[:HEAD_BYTES])
            if self.note_change(found, digest) != start + len(lines):
                raise OSError(errno.EIO, "the file did not grow by the number of bytes written", self.path)
        except BaseException as failed:
            self._cut_back(lines, expect, found, failed)
            raise
        self.written = start + len(lines)

    def _cut_back(self, lines: bytes, expect: Tip | None, found: os.stat_result, failed: BaseException) -> None:
        """Cut what was written of lines, except complete batches: readers may have seen those."""
        start = found.st_size
        try:
            there = os.fstat(self.descriptor).st_size - start  # a Ctrl-C hides what `write` returned
            kept = len(lines) if there == len(lines) else _complete_bytes(lines[: max(there, 0)], expect)
            try:
                os.ftruncate(self.descriptor, start + kept)
            except OSError as error:
                if os.fstat(self.descriptor).st_size != start + kept:
                    raise Unclear(self.path, error.errno or errno.EIO, "cut back") from failed
            self.note_change(found)
        except OSError as error:
            raise Unclear(self.path, error.errno or errno.EIO, "look") from failed
        if kept:
            self.written = start + kept
        if isinstance(failed, OSError):
            kind = Unclear if kept else Refused
            raise kind(self.path, failed.errno or errno.EIO, "write") from failed

    def _shrank_to(self, size: int) -> None:
        """Forget flushes of bytes that were cut since: the bytes that replace them are not flushed."""
        with self.flushing:
            self.written, self.flushed = size, min(self.flushed, size)

    # --- stable storage

    def flush(self, upto: int) -> None:
        """Return when the first `upto` bytes are on stable storage. One flush serves all waiting callers. Raises NotStored."""
        if self.flushed >= upto:
            return
        with self.flushing:
            if self.flushed >= upto or self.descriptor < 0:  # closed: closing a log flushes it first
                return
            if self.poison:
                raise NotStored(self.path, self.poison, "an earlier flush failed")
            reached = self.written  # before the flush: bytes written while it runs are not part of it
            self.sync("flush")
            self.flushed = reached

    def raise_if_poisoned(self) -> None:
        """Raise Poisoned after a flush that failed."""
        if self.poison:
            raise Poisoned(self.path, self.poison, "an earlier flush failed")

    def sync(self, what: str, descriptor: int = -1) -> None:
        """Flush the file, with another descriptor if one is given; a failure poisons the handle. Raises NotStored."""
        try:
            sync_data(self.descriptor if descriptor < 0 else descriptor)
        except OSError as error:
            self.poison = error.errno or errno.EIO
            raise NotStored(self.path, self.poison, what) from error


def _complete_bytes(lines: bytes, here: Tip | None) -> int:
    """Return how many bytes of lines after a position are complete batches. A new log, without a position, has only one."""
    if here is None:
        return 0
    scan = Scan(Tip(here.digest, here.offset, here.seq, here.at))
    scan.feed([lines])
    return scan.here.offset - here.offset
