"""Commits: the appends of many asyncio tasks, written together and flushed together."""

import asyncio
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import suppress
from dataclasses import dataclass, field

from eventstore.events import Event
from eventstore.log.base import Append, Appended, Outcome
from eventstore.secret_patterns import Patterns
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
    """Appends to a storage for the tasks of event loops: one write and one flush for all that arrive while another is under way.

    All of it happens in a thread of `pool`: an append may have to verify what another process wrote, to wait for a lock, to open
    a file, or to ask a server, and nothing tells in advance how long that takes.
    """

    def __init__(self, storage: SessionStorage, pool: ThreadPoolExecutor, secrets: Patterns | None = None) -> None:
        self._storage, self._pool, self._secrets = storage, pool, secrets
        self._queues: dict[tuple[asyncio.AbstractEventLoop, str], _Queue] = {}

    def append(self, session_id: str, event: Event, expected_version: int | None) -> "asyncio.Future[Appended]":
        """Queue an append; the future gives what `SessionStorage.append` returns or raises."""
        loop = asyncio.get_running_loop()
        queue = self._queues.get((loop, session_id))
        if queue is None:
            queue = self._queues[loop, session_id] = _Queue(loop, session_id)
        future: asyncio.Future[Appended] = loop.create_future()
        queue.waiting.append((Append(session_id, [event], expected_version), future))
        if not queue.busy:
            queue.busy = True
            loop.call_soon(self._commit, queue)
        return future

    def _commit(self, queue: _Queue) -> None:
        taken, queue.waiting = queue.waiting, []
        try:
            self._pool.submit(self._write, queue, taken)
        except RuntimeError as error:  # the pool was shut down
            self._report(queue, taken, [error] * len(taken))

    def _write(self, queue: _Queue, taken: list[Waiting]) -> None:
        """Write and flush, in a thread."""
        outcomes: Sequence[Outcome | BaseException | None]
        try:
            written = self._storage.append_many([self._clean(append) for append, _ in taken])
            written.flush()
            outcomes = written.outcomes
        except BaseException as error:
            outcomes = [error] * len(taken)
        with suppress(RuntimeError):  # the loop has ended, and nobody waits
            queue.loop.call_soon_threadsafe(self._report, queue, taken, outcomes)

    def _clean(self, append: Append) -> Append:
        """Replace what looks like a secret: of a long text that takes its time too."""
        secrets = self._secrets
        return append if secrets is None else append._replace(events=[secrets.clean(one) for one in append.events])

    def _report(self, queue: _Queue, taken: list[Waiting], outcomes: Sequence[Outcome | BaseException | None]) -> None:
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
