"""Locks with a name, for all processes: a lease that its holder renews, in an object that is swapped.

No clocks of two machines are compared: a lease is free when a waiting process has seen it unchanged for its full time.
A holder that was stopped for longer may find that another one holds it too. Therefore everything that locks guard is
also swapped by version.
"""

import os
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager, suppress

from eventstore.backends.objectstore.keys import lock_key
from eventstore.backends.objectstore.objects import Found, Lost, Objects, Version
from eventstore.log.port import PortError

_FIRST_LOOK, _LAST_LOOK = 0.01, 0.5
_FREE = b"free"


class Locks:
    """The locks of one store, as one handle takes them. A thread that holds one may take it again."""

    def __init__(self, objects: Objects, lease_seconds: float) -> None:
        self._objects, self._lease_seconds = objects, lease_seconds
        self._mutex = threading.Lock()
        self._threads: dict[str, threading.RLock] = {}
        self._held: dict[str, int] = {}
        self._free: dict[str, Version] = {}

    @contextmanager
    def held(self, name: str) -> Iterator[None]:
        """Hold a lock until the block ends. Raises Refused, Unclear."""
        with self._mutex:
            turn = self._threads.setdefault(name, threading.RLock())
        with turn:
            mine = 0
            lease = None if self._held.get(name) else _Lease(self._objects, lock_key(name), self._lease_seconds)
            try:
                if lease is not None:
                    lease.begin(self._take(name))
                self._held[name] = self._held.get(name, 0) + 1
                mine = 1
                yield
            finally:
                if mine:  # not what it was before: after a Ctrl-C, a block inside may end after this one
                    self._held[name] -= 1
                if lease is not None:
                    lease.held.release()
                    free = lease.end()
                    if free is not None:
                        self._free[name] = free

    def _take(self, name: str) -> tuple[bytes, Version]:
        """Wait until the lock is free, and take it."""
        key, mine = lock_key(name), os.urandom(16).hex().encode()
        expect, pause = self._free.pop(name, None), _FIRST_LOOK
        seen, since = b"", time.monotonic()
        while True:
            try:
                return mine, self._objects.swap(key, mine, expect)
            except Lost as lost:
                found = lost.found
            while found is not None and not found.data.startswith(_FREE):
                if found.data != seen:
                    seen, since = found.data, time.monotonic()
                if time.monotonic() - since >= self._lease_seconds:
                    break
                time.sleep(pause)
                pause = min(2 * pause, _LAST_LOOK)
                found = self._look(key, found)
            expect = None if found is None else found.version

    def _look(self, key: str, before: Found) -> Found | None:
        found = self._objects.get_new(key, before.version)
        return before if found is True else found


class _Lease:
    """A held lock: a thread renews it from time to time, so that others see that its holder is alive.

    The thread ends when `held` is released. That is one call of C: no Ctrl-C keeps it from happening, so others never wait
    longer than the lease.
    """

    def __init__(self, objects: Objects, key: str, seconds: float) -> None:
        self._objects, self._key, self._seconds = objects, key, seconds
        self._data = b""
        self._version: Version | None = None
        self.held = threading.Lock()
        self.held.acquire()
        self._thread = threading.Thread(target=self._renew, name="eventstore-lease", daemon=True)

    def begin(self, taken: tuple[bytes, Version]) -> None:
        """Keep the lock, which was taken with that data and version."""
        self._data, self._version = taken
        self._thread.start()

    def _renew(self) -> None:
        while not self.held.acquire(timeout=self._seconds / 3):
            data = self._data + b"."
            try:
                self._version = self._objects.swap(self._key, data, self._version)
            except PortError:  # lost, or refused: what the lock guards is also swapped by version
                return
            self._data = data

    def end(self) -> Version | None:
        """Free the lock, and return the version in which it is; None if it was not taken, or lost in the meantime."""
        if self._version is None:
            return None
        if self._thread.ident is not None:
            self._thread.join()
        with suppress(PortError):
            return self._objects.swap(self._key, _FREE + os.urandom(8).hex().encode(), self._version)
        return None
