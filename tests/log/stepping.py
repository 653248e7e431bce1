"""Two programs on one store, one call of the port at a time: whose turn it is, is chosen by the test."""

import threading
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, contextmanager
from typing import Any, TypeAlias, TypeVar

from log.faulty import Killed, Passing

from eventstore.log.port import Backend

R = TypeVar("R")
_TIMEOUT_SECONDS = 60


class Schedule:
    """Lets one of two threads at a time do its next call. `turns` says whose turn it is; after it the lower one that can goes on.

    Locks of the store are kept here, so that a thread that would wait for one is passed over.
    """

    def __init__(self, turns: list[int], kill: int | None = None) -> None:
        self._turns, self._kill = list(turns), kill
        self._changed = threading.Condition()
        self._active: set[int] = {0, 1}
        self._asking: dict[int, str | None] = {}
        self._granted: int | None = None
        self._holders: dict[str, list[int]] = {}
        self.steps = [0, 0]
        self.taken: list[int] = []

    def ask(self, who: int, lock: str | None = None) -> None:
        """Wait for a turn; with `lock` also until nobody else holds that lock, which is held then."""
        with self._changed:
            self._asking[who] = lock
            self._choose()
            if not self._changed.wait_for(lambda: self._granted == who, _TIMEOUT_SECONDS):
                raise AssertionError(f"nobody can go on: {self._asking}, {self._holders}")
            self._granted = None
            self.steps[who] += 1
            if who == 0 and self.steps[0] == self._kill:
                raise Killed
            if lock is not None:
                self._holders.setdefault(lock, []).append(who)

    def release(self, who: int, lock: str) -> None:
        with self._changed:
            self._holders[lock].remove(who)

    def leave(self, who: int) -> None:
        """Say that a thread is done."""
        with self._changed:
            self._active.discard(who)
            self._choose()

    def _choose(self) -> None:
        """Grant a turn once each thread that is still there asks for one."""
        if self._granted is not None or set(self._asking) != self._active or not self._active:
            return
        free = [who for who in sorted(self._active) if self._can(who)]
        assert free, f"a deadlock: {self._asking}, {self._holders}"
        wanted = self._turns.pop(0) if self._turns else free[0]
        who = wanted if wanted in free else free[0]
        self.taken.append(who)
        del self._asking[who]
        self._granted = who
        self._changed.notify_all()

    def _can(self, who: int) -> bool:
        lock = self._asking[who]
        return lock is None or all(holder == who for holder in self._holders.get(lock, []))


class Stepping(Passing):
    """A program's handle on a store: each call waits for its turn. A killed one does nothing any more.

    Without `takes_turns` calls are made at once: to let an engine see the store before the steps begin.
    """

    def __init__(self, inner: Backend, schedule: Schedule, who: int) -> None:
        super().__init__(inner)
        self._schedule, self._who, self._dead = schedule, who, False
        self.takes_turns = True

    def around(self, method: str, do: Callable[[], R], args: tuple[Any, ...] = ()) -> R:
        self._wait(None)
        return do()

    def _wait(self, lock: str | None) -> None:
        if self._dead:
            raise Killed
        if not self.takes_turns:
            return
        try:
            self._schedule.ask(self._who, lock)
        except Killed:
            self._dead = True
            raise

    def lock(self, name: str) -> AbstractContextManager[object]:
        return self._held(name)

    @contextmanager
    def _held(self, name: str) -> Iterator[None]:
        self._wait(name)
        try:
            yield
        finally:
            self._schedule.release(self._who, name)


Program: TypeAlias = Callable[[Stepping], object]


def run_both(inner: Backend, schedule: Schedule, programs: tuple[Program, Program]) -> list[object]:
    """Run two programs, each on a handle of its own, and return what each returned or raised."""
    found: list[object] = [None, None]

    def run(who: int) -> None:
        try:
            found[who] = programs[who](Stepping(inner, schedule, who))
        except BaseException as error:
            found[who] = error
        finally:
            schedule.leave(who)

    threads = [threading.Thread(target=run, args=(who,)) for who in (0, 1)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    return found
