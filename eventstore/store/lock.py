"""The lock of a store: who changes the registry and a log together holds it. One holder among all threads and processes."""

import errno
import os
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from weakref import WeakKeyDictionary

from eventstore.backends.posix import fcntl
from eventstore.errors import EventStoreError, OperationRefused
from eventstore.ids import STORE_ID
from eventstore.log.engine import EventLog

_LOCK = "_lock"
_FLAGS = os.O_RDWR | os.O_CREAT | os.O_CLOEXEC | os.O_NOFOLLOW

# Two managers may share one log in memory. It has no file to lock, so they share the lock of its threads.
_BY_LOG: WeakKeyDictionary[EventLog, threading.RLock] = WeakKeyDictionary()
_BY_LOG_MUTEX = threading.Lock()


class StoreLock:
    """The lock of one store. A thread that holds it may take it again; `depth` counts how often its holder has it.

    With a `folder` it is a file there, which excludes other processes too; without one it is shared by all who use the same log.
    """

    def __init__(self, log: EventLog, folder: Path | None = None) -> None:
        self._log, self._folder = log, folder
        self.depth, self._file = 0, -1
        self._threads = self._new_threads()

    def _new_threads(self) -> threading.RLock:
        if self._folder is not None:
            return threading.RLock()
        with _BY_LOG_MUTEX:
            return _BY_LOG.setdefault(self._log, threading.RLock())

    def begin_in_child(self) -> None:
        """Let go of what another thread held when the process was forked: the child has a copy of its descriptor."""
        if self._file >= 0:
            os.close(self._file)
        self.depth, self._file = 0, -1
        with _BY_LOG_MUTEX:
            _BY_LOG.pop(self._log, None)
        self._threads = self._new_threads()

    @contextmanager
    def held(self, *, wait: bool = True) -> Iterator[bool]:
        """Hold the lock; yields True, or False at once where somebody else holds it and `wait` is false.

        Raises OperationRefused where the system refuses the file of the lock.
        """
        if not self._threads.acquire(blocking=wait):
            yield False
            return
        try:
            is_held = self.depth > 0 or self._lock_file(wait)
            if not is_held:
                yield False
                return
            self.depth += 1
            try:
                yield True
            finally:
                self.depth -= 1
                if not self.depth and self._file >= 0:
                    os.close(self._file)
                    self._file = -1
        finally:
            self._threads.release()

    def _lock_file(self, wait: bool) -> bool:
        """Lock the file, where there is one. False where somebody else has it and `wait` is false."""
        if self._folder is None:
            return True
        with refusing(STORE_ID, "locked"):
            self._folder.mkdir(0o700, parents=True, exist_ok=True)
            file = os.open(self._folder / _LOCK, _FLAGS, 0o600)
            try:
                fcntl.flock(file, fcntl.LOCK_EX if wait else fcntl.LOCK_EX | fcntl.LOCK_NB)
            except BaseException as error:
                os.close(file)
                if isinstance(error, BlockingIOError) and not wait:
                    return False
                raise
            self._file = file
            return True


@contextmanager
def refusing(session_id: str, done: str) -> Iterator[None]:
    """Turn what the system refuses into OperationRefused; `done` says what was not done to the session: "deleted", say."""
    try:
        yield
    except EventStoreError:
        raise
    except OSError as error:
        file = str(error.filename or "")
        raise OperationRefused(session_id, done, file, error.errno or errno.EIO) from error
