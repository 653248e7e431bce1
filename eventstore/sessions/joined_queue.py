"""JoinedQueue: group commit for asyncio, over all sessions of a store that appends to many in one step."""

import asyncio
from collections.abc import Callable, Sequence
from contextlib import suppress
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, NamedTuple

from eventstore.log.base import Append, Outcome
from eventstore.sessions.append_queue import AppendQueue, SessionQueue, Waiting
from eventstore.sessions.threads import Threads
from eventstore.store.call_values import is_large
from eventstore.store.storage import SessionStorage

if TYPE_CHECKING:  # where secrets stay, nothing needs them
    from eventstore.secret_patterns import Patterns

_STEPS = 2  # while one waits for its commit, the other is prepared
_MOST = 64  # sessions in one step
_LEAST = 8  # fewer sessions are not divided between the steps


class _Group(NamedTuple):
    """The appends to one session that are written together, and their outcomes."""

    queue: SessionQueue
    taken: list[Waiting]
    outcomes: list[Outcome | BaseException | None]

    def put(self, numbers: Sequence[int], outcomes: Sequence[Outcome | BaseException]) -> None:
        """Note the outcomes of some of the appends."""
        for number, outcome in zip(numbers, outcomes, strict=True):
            self.outcomes[number] = outcome

    def failed(self, error: BaseException) -> "_Group":
        """Return the group with this error as the outcome of all appends."""
        return self._replace(outcomes=[error] * len(self.taken))


@dataclass(slots=True)
class _Loop:
    """The appends of one event loop: those that wait, and how many steps are running."""

    waiting: list[_Group] = field(default_factory=list)
    running: int = 0
    is_due: bool = False


class JoinedQueue(AppendQueue):
    """Appends to a storage whose log has `joins_appends`: what waits, for all sessions, shares a write and a flush.

    What has to wait for something else is written in a thread of its own, as large values are: nobody else waits for it.
    """

    def __init__(self, storage: SessionStorage, threads: Threads, secrets: "Patterns | None" = None) -> None:
        super().__init__(storage, threads, secrets)
        self._loops: dict[asyncio.AbstractEventLoop, _Loop] = {}

    def _forget_closed(self) -> None:
        super()._forget_closed()
        for loop in list(self._loops):
            if loop.is_closed():
                self._loops.pop(loop, None)

    def _commit(self, queue: SessionQueue) -> None:
        if any(is_large(event) for append, _ in queue.waiting for event in append.events):
            super()._commit(queue)
            return
        taken, queue.waiting = queue.waiting, []
        loop = self._loops.get(queue.loop)
        if loop is None:
            loop = self._loops[queue.loop] = _Loop()
        loop.waiting.append(_Group(queue, taken, [None] * len(taken)))
        if not loop.is_due:
            loop.is_due = True
            queue.loop.call_soon(self._send, queue.loop, loop)  # not at once: sessions that are ready in this turn join

    def _send(self, asyncio_loop: asyncio.AbstractEventLoop, loop: _Loop) -> None:
        loop.is_due = False
        while loop.waiting and loop.running < _STEPS:
            free, count = _STEPS - loop.running, len(loop.waiting)
            share = min(count if count < _LEAST else -(-count // free), _MOST)
            groups, loop.waiting = loop.waiting[:share], loop.waiting[share:]
            try:
                self._threads.pool.submit(self._join, asyncio_loop, loop, groups)
            except RuntimeError as error:  # the pool is shut down
                self._report_all([one.failed(error) for one in groups])
            else:
                loop.running += 1
        if not loop.running:
            self._loops.pop(asyncio_loop, None)

    def _join(self, asyncio_loop: asyncio.AbstractEventLoop, loop: _Loop, groups: list[_Group]) -> None:
        """Write for all sessions in one step. Runs in a thread."""
        left: list[_Group] = []
        try:
            left = self._write_joined(groups)
        except BaseException as error:
            groups = [one.failed(error) for one in groups]
        done = [one for one in groups if not any(one is other for other in left)]
        with suppress(RuntimeError):  # the event loop is closed, so no task waits
            asyncio_loop.call_soon_threadsafe(self._end, asyncio_loop, loop, done)

    def _write_joined(self, groups: Sequence[_Group]) -> list[_Group]:
        """Write what can be written now, and return the groups that are left, each to a thread of its own."""
        appends: list[Append] = []
        places: list[tuple[_Group, int]] = []
        for group in groups:
            for number, (append, _) in enumerate(group.taken):
                try:
                    appends.append(self._prepared(append))
                    places.append((group, number))
                except Exception as error:  # one that cannot be appended is no reason to refuse the others
                    group.outcomes[number] = error
        written = self._storage.append_joined(appends)
        for (group, number), outcome in zip(places, written.outcomes, strict=True):
            if outcome is not None:
                group.outcomes[number] = outcome
        left: list[_Group] = []
        for taken, make in written.left:
            group = places[taken[0]][0]
            numbers = [places[place][1] for place in taken]
            try:
                self._threads.pool.submit(self._write_left, group, numbers, make)
                left.append(group)
            except RuntimeError as error:  # the pool is shut down
                group.put(numbers, [error] * len(numbers))
        return left

    def _write_left(self, group: _Group, numbers: Sequence[int], make: Callable[[], Sequence[Outcome]]) -> None:
        """Write to one session. Runs in a thread."""
        found: Sequence[Outcome | BaseException]
        try:
            found = make()
        except BaseException as error:
            found = [error] * len(numbers)
        group.put(numbers, found)
        with suppress(RuntimeError):  # the event loop is closed, so no task waits
            group.queue.loop.call_soon_threadsafe(self._report_all, [group])

    def _end(self, asyncio_loop: asyncio.AbstractEventLoop, loop: _Loop, groups: Sequence[_Group]) -> None:
        loop.running -= 1
        self._report_all(groups)
        if not loop.is_due:
            self._send(asyncio_loop, loop)

    def _report_all(self, groups: Sequence[_Group]) -> None:
        for one in groups:
            self._report(one.queue, one.taken, one.outcomes)
