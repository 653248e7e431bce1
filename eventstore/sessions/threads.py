"""Threads: the thread pool of AsyncSessionManager."""

import asyncio
from collections.abc import AsyncIterator, Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from itertools import islice
from typing import TypeVar

T = TypeVar("T")
_CHUNK = 256  # items per thread switch: a switch costs more than reading an event


class Threads:
    """A thread pool for everything that may wait for a disk or a lock, so that the event loop never does."""

    def __init__(self, most: int) -> None:
        self.pool = ThreadPoolExecutor(most, thread_name_prefix="eventstore")

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
        self.pool.shutdown(wait=False)
