"""The lock of a store, for changes of the registry together with a log. One holder among all threads and processes."""

import errno
import os
import threading
from collections.abc import Iterator
from contextlib import AbstractContextManager, contextmanager, nullcontext
from pathlib import Path
from weakref import WeakKeyDictionary

from eventstore.backends.posix import fcntl
from eventstore.errors import EventStoreError, OperationRefused, OutcomeUnknown, ReadRefused
from eventstore.ids import STORE_ID
from eventstore.log.engine import EventLog
from eventstore.log.locking import try_lock, wait_lock
from eventstore.log.port import Refused

_LOCK, _STORE_LOCK = "_lock", "store"
_FLAGS = os.O_RDWR | os.O_CREAT | os.O_CLOEXEC | os.O_NOFOLLOW

# Two managers may share one log in memory. It has no lock file, so they share a lock of threads.
_BY_LOG: WeakKeyDictionary[EventLog, threading.RLock] = WeakKeyDictionary()
_BY_LOG_MUTEX = threading.Lock()


class StoreLock:
    """The lock of one store. A thread that holds it may take it again; `depth` counts how often.

    With a `folder` it is a file there, which excludes other processes too. Without one it is shared by all users of the same log,
    and it is a lock of the backend as well where other processes may use the same store.
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
        """Close the copy of the descriptor that another thread of the parent held, and start with a free lock."""
        if self._file >= 0:
            os.close(self._file)
        self.depth, self._file = 0, -1
        with _BY_LOG_MUTEX:
            _BY_LOG.pop(self._log, None)
        self._threads = self._new_threads()

    @contextmanager
    def held(self, *, wait: bool = True) -> Iterator[bool]:
        """Hold the lock. Yields True; False at once where another one holds it and `wait` is false.

        A Ctrl-C anywhere in it leaves nothing locked. Raises OperationRefused if the system refuses the file of the lock.
        """
        threads, taken = self._threads, list[bool]()
        try:
            taken.extend(map(wait_lock if wait else try_lock, (threads,)))  # no Ctrl-C comes between the two
            if True not in taken:
                yield False
                return
            with self._outside(wait) as is_held:
                if not is_held:
                    yield False
                    return
                self.depth += 1
                try:
                    yield True
                finally:
                    if threads is self._threads:  # else this is a child that was forked here: the lock is its parent's
                        self.depth -= 1
        finally:
            if True in taken:
                threads.release()

    def _outside(self, wait: bool) -> AbstractContextManager[bool]:
        """Keep other processes out too, unless this thread does so already."""
        if self.depth:
            return nullcontext(True)
        return self._lock_backend() if self._folder is None else self._lock_file(self._folder, wait)

    @contextmanager
    def _lock_backend(self) -> Iterator[bool]:
        """Hold the lock of the backend, which is waited for: it is held for moments."""
        if not self._log.capabilities.shared:
            yield True
            return
        is_held = False
        try:
            with self._log.backend.lock(_STORE_LOCK):
                is_held = True
                yield True
        except Refused as error:
            if is_held:
                raise
            raise OperationRefused(STORE_ID, "locked", error.where, error.errno or errno.EIO) from error

    @contextmanager
    def _lock_file(self, folder: Path, wait: bool) -> Iterator[bool]:
        """Hold the lock of the file. Yields False if another process has it and `wait` is false."""
        threads = self._threads
        try:
            yield self._is_locked(folder, wait)
        finally:
            if threads is self._threads:  # not in a child that was forked here
                file, self._file = self._file, -1
                if file >= 0:
                    os.close(file)  # at once, in no function of its own: a Ctrl-C would come before it

    def _is_locked(self, folder: Path, wait: bool) -> bool:
        with refusing(STORE_ID, "locked"):
            folder.mkdir(0o700, parents=True, exist_ok=True)
            # Kept before it is locked: whatever comes now, it is closed.
            self._file = os.open(folder / _LOCK, _FLAGS, 0o600)
            try:
                fcntl.flock(self._file, fcntl.LOCK_EX if wait else fcntl.LOCK_EX | fcntl.LOCK_NB)
            except BlockingIOError:
                return False
            return True


@contextmanager
def refusing(session_id: str, done: str) -> Iterator[None]:
    """Raise OperationRefused for an OSError; `done` names what was not done to the session, for example "deleted".

    OutcomeUnknown, of one of the steps, then names it too.
    """
    try:
        yield
    except OutcomeUnknown as error:
        raise OutcomeUnknown(session_id, error.file, error.errno, error.done or done) from error
    except EventStoreError:
        raise
    except OSError as error:
        file = str(error.filename or "")
        raise OperationRefused(session_id, done, file, error.errno or errno.EIO) from error


@contextmanager
def reading_after_change(session_id: str) -> Iterator[None]:
    """Raise OutcomeUnknown for a ReadRefused after a change of the session: by itself it says that nothing was changed."""
    try:
        yield
    except ReadRefused as error:
        raise OutcomeUnknown(session_id, error.file, error.errno) from error
