"""Threads: the thread pool of AsyncSessionManager."""

import asyncio
import os
from collections.abc import AsyncIterator, Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from itertools import islice
from typing import TypeVar
from weakref import WeakSet

T = TypeVar("T")
_CHUNK = 256  # items per thread switch: a switch costs more than reading an event


class Threads:
    """A thread pool for everything that may wait for a disk or a lock, so that the event loop never does. Safe for fork."""

    def __init__(self, most: int) -> None:
        self._most, self._is_closed = most, False
        self._begin()
        _living.add(self)

    def _begin(self) -> None:
        self.pool = ThreadPoolExecutor(self._most, thread_name_prefix="eventstore")

    def begin_in_child(self) -> None:
        """Use threads of this process: the pool counts on those of the parent, which do not run here."""
        self._begin()
        if self._is_closed:
            self.close()

    async def run(self, work: Callable[[], T]) -> T:
        """Run a function in one of the threads."""
        return await asyncio.get_running_loop().run_in_executor(self.pool, work)

    async def stream(self, begin: Callable[[], Iterator[T]]) -> AsyncIterator[T]:
        """Iterate in the threads, a chunk of items at a time."""
        found = await self.run(begin)
        while chunk := await self.run(lambda: list(islice(found, _CHUNK))):
            for one in chunk:
                yield one

    def close(self) -> None:
        """Accept no more work. Running work continues to its end."""
        self._is_closed = True
        self.pool.shutdown(wait=False)


_living: WeakSet[Threads] = WeakSet()


def _begin_in_child() -> None:
    for threads in list(_living):
        threads.begin_in_child()


if hasattr(os, "register_at_fork"):
    os.register_at_fork(after_in_child=_begin_in_child)
