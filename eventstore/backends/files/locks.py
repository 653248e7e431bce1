"""Named locks: one locked file for each name, for all processes that share a root folder."""

import os
import threading
from collections.abc import Iterator
from contextlib import AbstractContextManager, contextmanager, suppress

from eventstore.backends.files.descriptor import SAFE
from eventstore.backends.files.folders import Folders
from eventstore.backends.posix import fcntl
from eventstore.ids import file_name

REGISTRY = "registry"
"""The name of the lock `_lock` in the root folder: earlier releases take it to fork, delete and restore."""
FOLDER, _REGISTRY_FILE = "_locks", "_lock"


class NamedLock:
    """A lock that keeps other threads and processes out; a thread may take it again inside."""

    def __init__(self, name: str, folders: Folders) -> None:
        self._folder, self._file = ("", _REGISTRY_FILE) if name == REGISTRY else (FOLDER, file_name(name))
        self._folders = folders
        self._mutex, self._depth, self._descriptor = threading.RLock(), 0, -1

    @contextmanager
    def held(self) -> Iterator[None]:
        """Wait for the lock, and hold it. Raises OSError."""
        with self._mutex:
            mine = 0
            try:
                if self._descriptor < 0:
                    self._lock()
                self._depth, mine = self._depth + 1, 1
                yield
            finally:
                self._depth -= mine  # not what it was before: after a Ctrl-C, a block inside may end after this one
                if not self._depth and self._descriptor >= 0:
                    descriptor, self._descriptor = self._descriptor, -1
                    # A child forked meanwhile has it too: closing would not unlock.
                    fcntl.flock(descriptor, fcntl.LOCK_UN)
                    os.close(descriptor)

    def _lock(self) -> None:
        folder = self._folders.open(self._folder, create=True)
        try:
            self._descriptor = os.open(self._file, os.O_RDWR | os.O_CREAT | SAFE, 0o600, dir_fd=folder)
        finally:
            os.close(folder)
        try:
            fcntl.flock(self._descriptor, fcntl.LOCK_EX)
        except BaseException:
            descriptor, self._descriptor = self._descriptor, -1
            os.close(descriptor)
            raise

    def drop_in_child(self) -> None:
        """Close the file in a forked child, and leave the lock to the parent."""
        descriptor, self._descriptor = self._descriptor, -1
        if descriptor >= 0:
            os.close(descriptor)


class NamedLocks:
    """The locks with a name below one root folder."""

    def __init__(self, folders: Folders) -> None:
        self._folders = folders
        self._mutex = threading.Lock()
        self._locks: dict[str, NamedLock] = {}

    def held(self, name: str) -> AbstractContextManager[None]:
        """Return what waits for a lock, and holds it. Raises OSError."""
        with self._mutex:
            lock = self._locks.get(name)
            if lock is None:
                lock = self._locks[name] = NamedLock(name, self._folders)
        return lock.held()

    def drop_in_child(self) -> None:
        """Close all files in a forked child."""
        for lock in self._locks.values():
            with suppress(OSError):
                lock.drop_in_child()
