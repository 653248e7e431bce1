"""Forks of the process: what a child must not take along."""

import os
import threading


def hold_while_forking(lock: threading.Lock) -> None:
    """Let no child of this process begin while a lock is held, by whatever thread.

    A child has the descriptors of its parent, and with them the locks on files, but not the thread that would let go of them.
    """
    os.register_at_fork(before=lock.acquire, after_in_parent=lock.release, after_in_child=lock.release)
