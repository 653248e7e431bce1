"""Threads: where the work of the async manager happens."""

import asyncio
from collections.abc import AsyncIterator, Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from typing import TypeVar

T = TypeVar("T")
_CHUNK = 256


class Threads:
    """A pool of threads. The event loop never waits for a disk or a lock: whatever may wait runs here."""

    def __init__(self, most: int) -> None:
        self.pool = ThreadPoolExecutor(most, thread_name_prefix="eventstore")

    async def run(self, work: Callable[[], T]) -> T:
        """Do work in one of the threads."""
        return await asyncio.get_running_loop().run_in_executor(self.pool, work)

    async def stream(self, begin: Callable[[], Iterator[T]]) -> AsyncIterator[T]:
        """Iterate in the threads, some items at a time."""
        found = await self.run(begin)
        while chunk := await self.run(lambda: [one for one, _ in zip(found, range(_CHUNK), strict=False)]):
            for one in chunk:
                yield one

    def close(self) -> None:
        """Take no more work; what is under way ends by itself."""
        self.pool.shutdown(wait=False)
