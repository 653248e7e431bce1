"""Commits: the appends of many asyncio tasks, written together and flushed together."""

import asyncio
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import suppress
from dataclasses import dataclass, field

from eventstore.events import Event
from eventstore.log.base import Append, Appended, Outcome, Written
from eventstore.store.storage import SessionStorage

Waiting = tuple[Append, "asyncio.Future[Appended]"]


@dataclass(slots=True)
class _Queue:
    """The appends to one session that wait for their turn; `busy` while others of them are being written or flushed."""

    loop: asyncio.AbstractEventLoop
    session_id: str
    waiting: list[Waiting] = field(default_factory=list)
    busy: bool = False


class Commits:
    """Appends to a storage for the tasks of event loops: one write and one flush for all that come in one turn of a loop.

    Bytes go to the operating system from the loop itself, which costs less than handing them to a thread; what may take its
    time (a flush, a lock that somebody else holds, a file that is not open) happens in a thread of `pool`.
    """

    def __init__(self, storage: SessionStorage, pool: ThreadPoolExecutor) -> None:
        self._storage, self._pool = storage, pool
        self._queues: dict[tuple[asyncio.AbstractEventLoop, str], _Queue] = {}

    def append(
        self, session_id: str, events: Sequence[Event], *, expected_version: int | None = None
    ) -> "asyncio.Future[Appended]":
        """Take an append in; the future tells what `SessionStorage.append` would return or raise."""
        loop = asyncio.get_running_loop()
        queue = self._queues.get((loop, session_id))
        if queue is None:
            queue = self._queues[loop, session_id] = _Queue(loop, session_id)
        future: asyncio.Future[Appended] = loop.create_future()
        queue.waiting.append((Append(session_id, events, expected_version), future))
        if not queue.busy:
            queue.busy = True
            loop.call_soon(self._commit, queue)
        return future

    def _commit(self, queue: _Queue) -> None:
        taken, queue.waiting = queue.waiting, []
        try:
            written = self._storage.append_many([append for append, _ in taken], wait=False)
            if written.is_done():
                self._tell(queue, taken, written.outcomes)
            else:
                self._pool.submit(self._finish, queue, taken, written)
        except Exception as error:  # nobody else would hear of it
            self._tell(queue, taken, [error] * len(taken))

    def _finish(self, queue: _Queue, taken: list[Waiting], written: Written) -> None:
        """Do, in a thread, what may take its time."""
        outcomes: list[Outcome | BaseException | None] = list(written.outcomes)
        try:
            left = [place for place, outcome in enumerate(outcomes) if outcome is None]
            late = self._storage.append_many([taken[place][0] for place in left]) if left else Written([])
            written.flush()
            late.flush()
            outcomes = list(written.outcomes)
            for place, outcome in zip(left, late.outcomes, strict=True):
                outcomes[place] = outcome
        except BaseException as error:
            outcomes = [error] * len(taken)
        with suppress(RuntimeError):  # the loop has ended, and nobody waits
            queue.loop.call_soon_threadsafe(self._tell, queue, taken, outcomes)

    def _tell(self, queue: _Queue, taken: list[Waiting], outcomes: Sequence[Outcome | BaseException | None]) -> None:
        for (_, future), outcome in zip(taken, outcomes, strict=True):
            if future.done():
                continue  # whoever waited was cancelled
            if isinstance(outcome, Appended):
                future.set_result(outcome)
            else:
                future.set_exception(outcome or RuntimeError("an append was not tried"))
        if queue.waiting:
            queue.loop.call_soon(self._commit, queue)
        else:
            queue.busy = False
            self._queues.pop((queue.loop, queue.session_id), None)
