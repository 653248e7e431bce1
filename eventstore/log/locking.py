"""Locks that no Ctrl-C leaves taken, and that no child process inherits taken."""

import os
import threading
from collections import deque
from collections.abc import Iterator
from contextlib import contextmanager
from functools import partial
from itertools import compress, takewhile
from operator import methodcaller
from typing import Any, Protocol
from weakref import WeakSet

_PATIENCE_SECONDS = 0.1


class Lock(Protocol):
    """A lock of `threading`."""

    def acquire(self, *, timeout: float) -> bool:
        """Take the lock, or return False after a number of seconds."""
        ...

    def release(self) -> None:
        """Release the lock."""
        ...


try_lock = methodcaller("acquire", blocking=False)
"""Takes a free lock. With `taken.extend(map(try_lock, locks))` no Ctrl-C comes between a lock and its entry in `taken`."""
wait_lock = methodcaller("acquire", timeout=-1)
"""Takes a lock, however long that takes: to be used as `try_lock`."""
release = methodcaller("release")
run = partial(deque[Any], maxlen=0)
"""Runs an iterator to its end, and no Ctrl-C comes between two of its steps.

`releasing = map(release, compress(locks, taken))`, made before any lock is taken, then releases all that are.
"""
_try = methodcaller("acquire", timeout=_PATIENCE_SECONDS)


class Locks:
    """Locks of this process that can be taken together. Safe for threads; a signal handler may take them inside."""

    def __init__(self) -> None:
        self._all: WeakSet[Lock] = WeakSet()
        self._adding = threading.RLock()

    def add(self, lock: Lock) -> None:
        """Add a lock, for as long as it exists. Waits while the locks are taken."""
        with self._adding:
            self._all.add(lock)

    @contextmanager
    def taken(self) -> Iterator[None]:
        """Hold all locks, also against new ones."""
        releasing = self.take()
        try:
            yield
        finally:
            run(releasing)

    def take(self) -> Iterator[None]:
        """Take all locks; return what releases them when it is run to its end.

        A thread may wait for a second lock while it holds one. So all are given back, and taken anew, where one is not to be had
        for `_PATIENCE_SECONDS`. That one is waited for first the next time. A Ctrl-C anywhere in it leaves none taken.
        """
        first: Lock | None = None
        while True:
            locks: list[Lock] = [self._adding]
            taken = list[bool]()  # is as long as many of them are taken, at any moment
            releasing: Iterator[None] = map(release, compress(locks, taken))
            try:
                taken.extend(map(wait_lock, locks))
                locks += sorted(self._all, key=lambda one: one is not first)
                taken.extend(takewhile(bool, map(_try, locks[1:])))
                if len(taken) == len(locks):
                    return releasing
                first = locks[len(taken)]
            except BaseException:
                run(releasing)
                raise
            run(releasing)


_held = Locks()
_taken: list[Iterator[None]] = []


def hold_while_forking(lock: Lock) -> None:
    """Delay forks of this process while any thread holds a lock, for as long as the lock exists.

    A child has the descriptors of its parent, and with them the file locks, but not the thread that would release them. The lock
    is reentrant: a thread that holds it may fork.
    """
    _held.add(lock)


def _before() -> None:
    releasing: Iterator[None] = iter(())
    try:
        releasing = _held.take()
    finally:
        _taken.append(releasing)


# Not a function of Python: a Ctrl-C during the fork would be raised where that begins, and nothing would be released.
_after = partial(next, map(run, iter(_taken.pop, None)))
os.register_at_fork(before=_before, after_in_parent=_after, after_in_child=_after)  # once: it is never undone
