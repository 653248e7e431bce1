"""Forks of the process: what a child must not inherit."""

import os
import threading
from weakref import WeakSet

_held: "WeakSet[threading.Lock | threading.RLock]" = WeakSet()
_taken: "list[threading.Lock | threading.RLock]" = []


def hold_while_forking(lock: "threading.Lock | threading.RLock") -> None:
    """Delay forks of this process while any thread holds a lock, for as long as the lock exists.

    A child has the descriptors of its parent, and with them the file locks, but not the thread that would release them.
    """
    _held.add(lock)


def _take() -> None:
    for lock in sorted(_held, key=id):
        lock.acquire()
        _taken.append(lock)


def _release() -> None:
    while _taken:
        _taken.pop().release()


os.register_at_fork(before=_take, after_in_parent=_release, after_in_child=_release)  # once: it is never undone
