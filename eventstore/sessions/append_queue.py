"""AppendQueue: group commit for asyncio. Appends of many tasks are written and flushed together."""

import asyncio
import errno
from collections.abc import Sequence
from contextlib import suppress
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

from eventstore.errors import OutcomeUnknown
from eventstore.events import Event
from eventstore.ids import check_log_id
from eventstore.log.base import Append, Appended, Outcome, Written
from eventstore.sessions.threads import Threads
from eventstore.store.call_values import made_ready
from eventstore.store.storage import SessionStorage

if TYPE_CHECKING:  # where secrets stay, nothing needs them
    from eventstore.secret_patterns import Patterns

Waiting = tuple[Append, "asyncio.Future[Appended]"]


@dataclass(slots=True)
class SessionQueue:
    """The waiting appends to one session. `busy` is True while earlier ones are being written or flushed."""

    loop: asyncio.AbstractEventLoop
    session_id: str
    waiting: list[Waiting] = field(default_factory=list)
    busy: bool = False


class AppendQueue:
    """Appends to a storage from asyncio tasks. All appends that arrive during a write share the next write and flush.

    What can take long runs in one of the `threads`: to verify events of another process, to wait for a lock, a disk or a server,
    to open a file.
    """

    def __init__(self, storage: SessionStorage, threads: Threads, secrets: "Patterns | None" = None) -> None:
        self._storage, self._threads, self._secrets = storage, threads, secrets
        self._queues: dict[asyncio.AbstractEventLoop, dict[str, SessionQueue]] = {}

    def append(
        self, session_id: str, events: Sequence[Event], expected_version: int | None
    ) -> "asyncio.Future[Appended]":
        """Queue an append of one batch. The future has the result or the error of `SessionStorage.append`.

        Raises InvalidSessionId.
        """
        loop = asyncio.get_running_loop()
        queues = self._queues.get(loop)
        if queues is None:
            self._forget_closed()
            queues = self._queues[loop] = {}
        queue = queues.get(session_id) if isinstance(session_id, str) else None
        if queue is None:  # to check the id once for all who wait is enough
            queue = queues[check_log_id(session_id)] = SessionQueue(loop, session_id)
        future: asyncio.Future[Appended] = loop.create_future()
        queue.waiting.append((Append(session_id, events, expected_version), future))
        if not queue.busy:
            queue.busy = True
            # Not at once: appends of other tasks that are ready in this turn of the loop join the same write.
            loop.call_soon(self._commit, queue)
        return future

    def _forget_closed(self) -> None:
        """Forget event loops that ended while their appends were written: nobody asks for the outcomes."""
        for loop in list(self._queues):
            if loop.is_closed():
                self._queues.pop(loop, None)

    def _commit(self, queue: SessionQueue) -> None:
        taken, queue.waiting = queue.waiting, []
        try:
            written = self._at_once(queue.session_id, taken)
        except Exception as error:  # nobody else would hear of it
            self._report(queue, taken, [error] * len(taken))
            return
        except BaseException:  # Ctrl-C ends the event loop, which may run again
            log = self._storage.log
            unknown = OutcomeUnknown(queue.session_id, log.backend.where(queue.session_id), errno.EINTR)
            self._report(queue, taken, [unknown] * len(taken))
            raise
        if written is not None and not written.unflushed and not written.left:
            self._report(queue, taken, written.outcomes)
            return
        try:
            if written is None:
                self._threads.pool.submit(self._write, queue, taken)
            else:
                self._threads.pool.submit(self._flush, queue, taken, written)
        except RuntimeError as error:  # the pool is shut down
            if written is None:
                self._report(queue, taken, [error] * len(taken))
            else:
                self._flush(queue, taken, written)

    def _at_once(self, session_id: str, taken: list[Waiting]) -> Written | None:
        """Write here, in the event loop, what waits for nobody: a thread would cost several times as much."""
        if self._secrets is not None:  # to look for them takes long in a long text
            return None
        return self._storage.append_at_once(session_id, [append for append, _ in taken])

    def _flush(self, queue: SessionQueue, taken: list[Waiting], written: Written) -> None:
        """Flush what is written, and find out what is unclear. Runs in a thread."""
        outcomes: Sequence[Outcome | BaseException | None] = written.outcomes
        try:
            written.complete()
            written.flush()
        except BaseException as error:  # nobody else would hear of it
            outcomes = [error] * len(taken)
        self._report_soon(queue, taken, outcomes)

    def _write(self, queue: SessionQueue, taken: list[Waiting]) -> None:
        """Write and flush. Runs in a thread."""
        outcomes: list[Outcome | BaseException | None] = [None] * len(taken)
        ready = dict[int, Append]()
        for place, (append, _) in enumerate(taken):
            try:
                ready[place] = self._prepared(append)
            except Exception as error:  # one that cannot be appended is no reason to refuse the others
                outcomes[place] = error
        try:
            written = self._storage.append_many(list(ready.values()))
            written.flush()
            found: Sequence[Outcome | BaseException | None] = written.outcomes
        except BaseException as error:
            found = [error] * len(ready)
        for place, outcome in zip(ready, found, strict=True):
            outcomes[place] = outcome
        self._report_soon(queue, taken, outcomes)

    def _prepared(self, append: Append) -> Append:
        """Replace secrets, and store large values as attachments of the log. Runs in the thread, because either may take long."""
        return append._replace(events=made_ready(self._storage.log, append.session_id, append.events, self._secrets))

    def _report_soon(
        self, queue: SessionQueue, taken: list[Waiting], outcomes: Sequence[Outcome | BaseException | None]
    ) -> None:
        with suppress(RuntimeError):  # the event loop is closed, so no task waits
            queue.loop.call_soon_threadsafe(self._report, queue, taken, outcomes)

    def _report(
        self, queue: SessionQueue, taken: list[Waiting], outcomes: Sequence[Outcome | BaseException | None]
    ) -> None:
        for (_, future), outcome in zip(taken, outcomes, strict=True):
            if future.done():
                continue  # the waiting task was cancelled
            if isinstance(outcome, Appended):
                future.set_result(outcome)
            else:
                future.set_exception(outcome or RuntimeError("the append was not attempted"))
        if queue.waiting:
            queue.loop.call_soon(self._commit, queue)
        else:
            queue.busy = False
            queues = self._queues.get(queue.loop, {})
            queues.pop(queue.session_id, None)
            if not queues:
                self._queues.pop(queue.loop, None)
