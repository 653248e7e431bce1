"""The change feed of a folder of logs: one file that records which logs may have changed since the last read.

The file is `_changes` below the sessions folder. A header comes first: `eventstore changes 1`, a random id, the time it was made
(Unix milliseconds), padded with `#` to 1,024 bytes. Then come records, each between two line feeds, so that a torn one hides no
other: `name` (that log may have changed), `-name` (it was removed), `?` (a look: a reader has read everything before it).

The rule that makes it exact: when an append returns, a mark of its log comes after every look that was in the file
then. A writer reads the size of the file before it appends and again afterwards, and marks its log if a look came in
between. A reader skips only marks before a look that was there before it read the logs. So it depends on no clock,
process id or lock.

The file may be lost, damaged or replaced at any time: if it cannot be trusted, the reader checks every log.
"""

import errno
import os
import re
import stat
import threading
import time
import warnings
from contextlib import suppress
from functools import lru_cache
from itertools import islice
from pathlib import Path
from typing import NamedTuple

from eventstore.backends.files.descriptor import SAFE
from eventstore.errors import InvalidSessionId
from eventstore.ids import check_log_id
from eventstore.log.changes import NO_LOG, Changes

NAME = "_changes"
_HEADER_BYTES = 1_024
"""Long, so that an emptied file does not reach its old size by the few marks that are being written."""
_HEADER = re.compile(rb"eventstore changes 1 ([0-9a-f]{32}) ([0-9]{1,15}) #*\n", re.ASCII)
_LOOK = b"\n?\n"
MOST_BYTES = 1_000_000
"""A larger feed is replaced by an empty one: the next reader checks every log, 0.2 s for 100,000."""
LOOK_AFTER = 256
"""Each reader checks up to so many marks again (0.5 ms). With more, it adds a look, and writers mark again."""
SETTLING_SECONDS = 10.0
"""The age a feed must have before it is trusted, and the time for which marks are checked again.

The first covers writers that still have an open file that was moved away (they check its path every `_PATH_SECONDS`), the
second a writer that is killed after its append and before its second mark.
"""
FIRST_SETTLING_SECONDS = 1.0
"""The same age for the first feed of a store: nobody can have an older one open, unless all logs were just removed by hand."""
CHECKING_SECONDS = 1.0
"""How often marks before a look are checked again while they settle: an append of a killed writer may be seen late."""
_PATH_SECONDS = 0.1
_APPENDING = os.O_RDWR | os.O_APPEND | SAFE


class _Place(NamedTuple):
    """A token: marks before `start` are settled; those before `next_start` will be, `SETTLING_SECONDS` after `since`.

    Marks before `looked`, the end of a look, were checked after that look, the last time at `checked`.
    `boot` identifies the boot of the system: a power cut may remove lines that a log already had. `folder_ns` is when
    entries of the sessions folder last changed.
    """

    feed: str
    boot: str
    folder_ns: int
    start: int
    next_start: int
    since: float
    looked: int
    checked: float

    @classmethod
    def read(cls, token: str | None) -> "_Place | None":
        try:
            feed, boot, folder_ns, start, next_start, since, looked, checked = (token or "").split(" ")
            places = int(start), int(next_start), float(since), int(looked), float(checked)
            return cls(feed, boot, int(folder_ns), *places)
        except ValueError:
            return None

    def __str__(self) -> str:
        return " ".join(map(str, self))


class _Seen(NamedTuple):
    """The content of the file for a reader: its header, and the records after `start`."""

    feed: str
    born: float
    size: int
    start: int
    data: bytes

    def logs(self, after: int = 0) -> set[str]:
        """Return the names of the logs that are marked after a byte."""
        data = self.data[max(after - self.start, 0) :]
        lines = {line.removeprefix(b"-").decode("ascii", "replace") for line in data.split(b"\n")}
        return {line for line in lines if _is_log(line)}

    def last_look(self) -> int:
        """Return the byte after the last look."""
        found = self.data.rfind(_LOOK)
        return self.start if found < 0 else self.start + found + len(_LOOK)

    def unseen(self) -> int:
        """Count, approximately, the records after the last look."""
        return self.data.count(b"\n", self.last_look() - self.start) // 2

    def removals(self) -> dict[str, int]:
        """Return the bytes where the last removal of each log is recorded."""
        found, place = dict[str, int](), self.data.find(b"\n-")
        while place >= 0:
            end = self.data.find(b"\n", place + 1)
            found[self.data[place + 2 : end].decode("ascii", "replace")] = self.start + place
            place = self.data.find(b"\n-", place + 1)
        return found


class ChangeFeed:
    """The feed of one sessions folder, for its writers and its readers. Safe for threads and processes; never raises OSError.

    A writer calls `before` and `after` around each change of a log, and `gone` after it removed one.
    """

    def __init__(self, root: Path) -> None:
        self._root, self._path = str(root), f"{root}/{NAME}"
        self._file = -1
        self.begin_in_child()

    def begin_in_child(self) -> None:
        """Start with nothing open, after a fork of the process."""
        self._mutex = threading.Lock()
        self._end, self._look_at_path = 0, 0.0
        self._marked: set[str] = set()
        with suppress(OSError):
            self._drop()
        self._identity = (0, 0)

    def close(self) -> None:
        """Close the file. The next call opens it again."""
        with self._mutex:
            self._drop()

    # --- writers

    def before(self, log: str) -> None:
        """Mark a log before it changes. If it is marked already, this costs one lseek."""
        try:
            if (  # the size is read first: a set that is read after it is at least as new
                os.lseek(self._file, 0, os.SEEK_END) == self._end
                and log in self._marked
                and time.monotonic() < self._look_at_path
            ):
                return
        except OSError:
            pass
        self._mark(log)

    def after(self, log: str) -> None:
        """Mark a changed log, if a reader looked since `before`. Otherwise this costs one lseek."""
        try:
            if os.lseek(self._file, 0, os.SEEK_END) == self._end and log in self._marked:
                return
        except OSError:
            pass
        self._mark(log)

    def gone(self, log: str) -> None:
        """Record that a log was removed: a new log of the same name must not be mistaken for it."""
        self._mark(log, removed=True)

    def _mark(self, log: str, *, removed: bool = False) -> None:
        with self._mutex:
            if self._file < 0 and time.monotonic() < self._look_at_path:
                return  # it could not be made a moment ago: readers check every log
            try:
                is_even = self._catch_up()
                if is_even and log in self._marked and not removed:
                    return
                _write(self._file, b"\n%b%b\n" % (b"-" if removed else b"", log.encode("ascii")))
                self._marked.add(log)
            except OSError as error:
                self._void(error)

    def _catch_up(self) -> bool:
        """Open the file at the path, and read new records; return False if it ends in a torn record. Raises OSError."""
        if self._file >= 0:
            found = os.fstat(self._file)
            if found.st_size < self._end or found.st_nlink != 1 or not self._is_at_path():
                self._drop()
        if self._file < 0:
            self._open()
        size = os.fstat(self._file).st_size
        if size > MOST_BYTES:
            self._replace()
            size = _HEADER_BYTES
        data = _read(self._file, self._end, size)
        data = data[: data.rfind(b"\n") + 1]
        lines = data.split(b"\n")
        marked = self._marked
        if b"?" in lines:
            marked = set()
            lines = lines[len(lines) - lines[::-1].index(b"?") :]
        marked.update(line.decode("ascii", "replace") for line in lines)
        self._marked = marked  # before the end: `before` and `after` read them in the other order, without the mutex
        self._end += len(data)
        self._look_at_path = time.monotonic() + _PATH_SECONDS
        return self._end == size

    def _is_at_path(self) -> bool:
        try:
            found = os.stat(self._path, follow_symlinks=False)
        except FileNotFoundError:
            return False
        return (found.st_dev, found.st_ino) == self._identity

    def _open(self) -> None:
        """Open the feed, or make one if there is no usable one. Raises OSError."""
        file = self._open_feed()
        if file < 0:
            try:
                self._replace()
                return
            except FileExistsError:  # another process made one in between
                file = self._open_feed()
        if file < 0:
            raise OSError(errno.EAGAIN, "other programs replace it all the time", self._path)
        self._begin(file)

    def _open_feed(self) -> int:
        """Open the feed at the path; -1 if it is missing, a link, a folder, a pipe, another user's file or not a feed."""
        try:
            file = os.open(self._path, _APPENDING)
        except OSError as error:
            if error.errno in (errno.EMFILE, errno.ENFILE):
                raise
            return -1
        if _header(file) is not None:
            return file
        os.close(file)
        return -1

    def _begin(self, file: int) -> None:
        found = os.fstat(file)
        self._marked, self._end, self._identity = set(), _HEADER_BYTES, (found.st_dev, found.st_ino)
        self._file = file

    def _replace(self) -> None:
        """Replace whatever is there by a new feed. Writers that have the old one open notice that it was emptied."""
        if self._file >= 0:
            os.ftruncate(self._file, 0)
            self._drop()
        _remove(self._path)
        file = os.open(self._path, _APPENDING | os.O_CREAT | os.O_EXCL, 0o600)
        try:
            born = time.time_ns() // 1_000_000
            if self._is_first():
                born -= int(1_000 * max(SETTLING_SECONDS - FIRST_SETTLING_SECONDS, 0))
            text = f"eventstore changes 1 {os.urandom(16).hex()} {max(born, 0)} "
            _write(file, text.encode("ascii").ljust(_HEADER_BYTES - 1, b"#") + b"\n")
        except OSError:
            os.close(file)
            _remove(self._path)
            raise
        self._begin(file)

    def _is_first(self) -> bool:
        """Return whether the store begins: it has no log but perhaps the one that is about to be marked."""
        with os.scandir(self._root) as entries:
            logs = (entry for entry in entries if _is_log(entry.name))
            return len(list(islice(logs, 2))) < 2  # not all of 100,000: a writer waits

    def _void(self, error: OSError) -> None:
        """Invalidate the feed, because a mark could not be written: readers then check every log."""
        with suppress(OSError):
            if self._file >= 0:
                os.ftruncate(self._file, 0)  # works on a full disk
        with suppress(OSError):
            _remove(self._path)
        with suppress(OSError):
            self._drop()
        self._look_at_path = time.monotonic() + _PATH_SECONDS
        if self._see_once(None) is not None:
            warnings.warn(
                f"{self._path} can neither be written nor removed ({error.strerror}): lists of other programs may be"
                " out of date; remove that file, then they are complete",
                RuntimeWarning,
                stacklevel=4,
            )

    def _drop(self) -> None:
        file, self._file = self._file, -1
        self._end, self._marked = 0, set()
        if file >= 0:
            os.close(file)

    # --- readers

    def changed(self, since: str | None) -> Changes:
        """Answer `EventLog.changed`."""
        folder_ns = self._folder_ns()
        place = _Place.read(since)
        seen = self._see(place)
        if seen is None:
            return Changes(self._all({}), "", complete=True)
        now, looked, removals = time.time(), seen.last_look(), seen.removals()
        is_known = place is not None and (place.feed, place.boot, place.start) == (seen.feed, _boot(), seen.start)
        marked = seen.logs(place.looked) if place is not None and is_known else set()
        # a folder that changed without a mark was not changed by a writer: for example, a session was copied in by hand
        if place is None or not is_known or (place.folder_ns != folder_ns and not marked):
            is_settled = 0 <= now - seen.born >= SETTLING_SECONDS
            start = _Place(seen.feed, _boot(), folder_ns, _HEADER_BYTES, looked, now, looked, now)
            return Changes(self._all(removals), str(start) if is_settled else "", complete=True)
        following = place._replace(folder_ns=folder_ns, looked=looked)
        is_over = not 0 <= now - place.since < SETTLING_SECONDS
        if is_over or not 0 <= now - place.checked < CHECKING_SECONDS:
            marked, following = seen.logs(), following._replace(checked=now)
        if is_over:
            following = following._replace(start=place.next_start, next_start=looked, since=now)
        logs = [(log, self._text(log, removals)) for log in sorted(marked)]
        return Changes(logs, str(following), complete=False)

    def _see(self, place: _Place | None) -> _Seen | None:
        """Read the feed, from a place if that is valid in it; None if there is no usable feed."""
        seen = self._see_once(place)
        if seen is None and os.path.isdir(self._root):
            with self._mutex, suppress(OSError):
                self._drop()
                self._catch_up()
            seen = self._see_once(place)
        return seen

    def _see_once(self, place: _Place | None) -> _Seen | None:
        try:
            file = self._open_to_read()
        except OSError:
            return None
        try:
            return self._read(file, place)
        except OSError:
            return None
        finally:
            os.close(file)

    def _open_to_read(self) -> int:
        try:
            return os.open(self._path, _APPENDING)
        except OSError as error:
            if error.errno not in (errno.EACCES, errno.EPERM, errno.EROFS):
                raise
            return os.open(self._path, os.O_RDONLY | SAFE)

    def _read(self, file: int, place: _Place | None) -> _Seen | None:
        header = _header(file)
        if header is None:
            return None
        found = os.fstat(file)
        feed, born = f"{header[0]}-{found.st_ino}", header[1]
        start = _HEADER_BYTES
        if place is not None and place.feed == feed and start <= place.start <= place.next_start <= found.st_size:
            start = place.start
        data = _read(file, start, found.st_size)
        seen = _Seen(feed, born, found.st_size, start, data[: data.rfind(b"\n") + 1])
        if seen.unseen() > LOOK_AFTER:
            with suppress(OSError):  # a reader without write permission checks the same marks again
                os.write(file, _LOOK)
        return seen

    def _folder_ns(self) -> int:
        try:
            return os.stat(self._root).st_mtime_ns
        except OSError:
            return 0

    def _all(self, removals: dict[str, int]) -> list[tuple[str, str | None]]:
        """Check every log. Raises OSError where the folder may not be read: its logs are not gone."""
        try:
            with os.scandir(self._root) as entries:
                names = sorted((one.name, one.is_symlink()) for one in entries if one.is_dir() or one.is_symlink())
        except (FileNotFoundError, NotADirectoryError):
            return []
        looked = (
            (name, NO_LOG if is_link else self._text_of_file(name, removals))
            for name, is_link in names
            if _is_log(name)
        )
        return [(name, text) for name, text in looked if text is not None]

    def _text(self, log: str, removals: dict[str, int]) -> str | None:
        """Describe the content of a log by its size, inode and time, and by its last removal; None if it was removed."""
        try:
            if stat.S_ISLNK(os.stat(f"{self._root}/{log}", follow_symlinks=False).st_mode):
                return NO_LOG
        except OSError:
            return None
        return self._text_of_file(log, removals)

    def _text_of_file(self, log: str, removals: dict[str, int]) -> str | None:
        """Describe the content of a log whose folder is no link."""
        try:
            found = os.stat(f"{self._root}/{log}/events.jsonl", follow_symlinks=False)
        except OSError:
            return None
        if stat.S_ISREG(found.st_mode) and not found.st_size:
            return None  # a killed creation left it: it is not a log
        removal = removals.get(log)
        return f"{found.st_size}-{found.st_ino}-{found.st_mtime_ns}" + (f"-{removal}" if removal else "")


def _header(file: int) -> tuple[str, float] | None:
    """Return the id of a feed and when it was made; None if it is not a feed, or its time is in the future."""
    found = os.fstat(file)
    if not stat.S_ISREG(found.st_mode) or found.st_nlink != 1 or found.st_size > 8 * MOST_BYTES:
        return None
    parts = _HEADER.fullmatch(os.pread(file, _HEADER_BYTES, 0))
    if parts is None or int(parts[2]) / 1000 > time.time() + SETTLING_SECONDS:
        return None
    return parts[1].decode("ascii"), int(parts[2]) / 1000


def _read(file: int, start: int, end: int) -> bytes:
    """Read bytes of a file; fewer if it ends before."""
    parts = []
    while start < end:
        part = os.pread(file, end - start, start)
        if not part:
            break
        parts.append(part)
        start += len(part)
    return b"".join(parts)


def _write(file: int, data: bytes) -> None:
    if os.write(file, data) != len(data):
        raise OSError(errno.ENOSPC, "it was written only in part")


def _remove(path: str) -> None:
    """Remove a file, a link or an empty folder, if there is one. Raises OSError."""
    try:
        os.unlink(path)
    except FileNotFoundError:
        return
    except (IsADirectoryError, PermissionError):
        os.rmdir(path)


def _is_log(name: str) -> bool:
    try:
        check_log_id(name)
    except InvalidSessionId:
        return False
    return True


@lru_cache(maxsize=1)
def _boot() -> str:
    """Return the id of this boot of the system, if it has one."""
    try:
        return Path("/proc/sys/kernel/random/boot_id").read_text("ascii").strip() or "unknown"
    except (OSError, ValueError):
        return "unknown"
