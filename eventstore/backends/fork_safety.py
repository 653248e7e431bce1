"""Forks of the process: what a child must not inherit."""

import os
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Protocol
from weakref import WeakSet

_PATIENCE_SECONDS = 0.1


class Lock(Protocol):
    """A lock of `threading`, reentrant or not."""

    def acquire(self, *, timeout: float) -> bool:
        """Take the lock, or return False after a number of seconds."""
        ...

    def release(self) -> None:
        """Release the lock."""
        ...


class Locks:
    """Locks of this process that can be taken together. Safe for threads."""

    def __init__(self) -> None:
        self._all: WeakSet[Lock] = WeakSet()
        self._adding = threading.Lock()

    def add(self, lock: Lock) -> None:
        """Add a lock, for as long as it exists. Waits while the locks are taken."""
        with self._adding:
            self._all.add(lock)

    @contextmanager
    def taken(self) -> Iterator[None]:
        """Hold all locks, also against new ones."""
        locks = self.take()
        try:
            yield
        finally:
            self.release(locks)

    def take(self) -> list[Lock]:
        """Take all locks; return them for `release`.

        A thread may wait for a second lock while it holds one. So all are given back, and taken anew, where one is not to be had
        for `_PATIENCE_SECONDS`. That one is waited for first the next time.
        """
        first: Lock | None = None
        while True:
            taken = list[Lock]()
            self._adding.acquire()
            try:
                for lock in sorted(self._all, key=lambda one: one is not first):
                    if not lock.acquire(timeout=_PATIENCE_SECONDS):
                        first = lock
                        break
                    taken.append(lock)
                else:
                    return taken
            except BaseException:  # Ctrl-C
                self.release(taken)
                raise
            self.release(taken)

    def release(self, locks: list[Lock]) -> None:
        """Release what `take` returned."""
        self._adding.release()
        for lock in locks:
            lock.release()


_held = Locks()
_taken: list[list[Lock]] = []


def hold_while_forking(lock: Lock) -> None:
    """Delay forks of this process while any thread holds a lock, for as long as the lock exists.

    A child has the descriptors of its parent, and with them the file locks, but not the thread that would release them.
    """
    _held.add(lock)


def _before() -> None:
    _taken.append(_held.take())


def _after() -> None:
    while _taken:
        _held.release(_taken.pop())


os.register_at_fork(before=_before, after_in_parent=_after, after_in_child=_after)  # once: it is never undone
