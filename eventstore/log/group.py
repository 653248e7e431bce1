"""Group: callers who would each do the same costly thing, and one of them does it for all who are there."""

import threading
from collections.abc import Callable, Sequence
from typing import Generic, TypeVar

T = TypeVar("T")
R = TypeVar("R")


class Group(Generic[T, R]):
    """Callers with a piece of work each. One leads and does what all have brought; whoever comes meanwhile is next.

    The leader takes `lock` first and only then collects, so that all who came while somebody else held it are served together.
    Each caller waits on a lock of its own, and the next leader is woken before those whose work is done: the disk is busy again
    while they wake. One condition that wakes them all does half as much with 16 threads. `lost` makes the error for those whose
    leader was interrupted: nobody knows then what was done.
    """

    def __init__(self, lock: threading.Lock, lost: Callable[[], BaseException]) -> None:
        self._lock, self._lost = lock, lost
        self._mutex = threading.Lock()
        self._waiting: list[_Caller[T, R]] = []
        self._led = False

    def do(self, piece: T, work: Callable[[Sequence[T]], Sequence[R | BaseException]]) -> R:
        """Have a piece done, together with those of others, and return its outcome or raise it.

        `work` returns one outcome a piece.
        """
        mine = _Caller[T, R](piece)
        with self._mutex:
            self._waiting.append(mine)
            mine.leads, self._led = not self._led, True
        if not mine.leads:
            self._wait(mine)
        if mine.leads:
            self._lead(mine, work)
        if isinstance(mine.outcome, BaseException):
            raise mine.outcome
        assert mine.outcome is not None  # noqa: S101 - whoever led gave every piece its outcome
        return mine.outcome

    def _wait(self, mine: "_Caller[T, R]") -> None:
        mine.lock.acquire()
        try:
            mine.lock.acquire()
        except BaseException:  # Ctrl-C: others must not wait for somebody who has left
            with self._mutex:
                if mine in self._waiting:
                    self._waiting.remove(mine)
            if mine.leads:
                self._hand_on()
            raise

    def _lead(self, mine: "_Caller[T, R]", work: Callable[[Sequence[T]], Sequence[R | BaseException]]) -> None:
        taken: list[_Caller[T, R]] = []
        outcomes: Sequence[R | BaseException] = []
        try:
            with self._lock:
                with self._mutex:
                    taken, self._waiting = self._waiting, []
                outcomes = [self._lost() for _ in taken]
                outcomes = work([caller.piece for caller in taken])
        except Exception as error:
            outcomes = [error] * len(taken)
        finally:
            if mine not in taken:  # interrupted before it began
                with self._mutex:
                    self._waiting.remove(mine)
            self._hand_on()
            for caller, outcome in zip(taken, outcomes, strict=True):
                caller.outcome = outcome
                if caller is not mine:
                    caller.lock.release()

    def _hand_on(self) -> None:
        with self._mutex:
            following = self._waiting[0] if self._waiting else None
            self._led = following is not None
            if following is not None:
                following.leads = True
        if following is not None:
            following.lock.release()


class _Caller(Generic[T, R]):
    """Somebody with a piece of work: `lock` is released when it is done, or when it is theirs to lead."""

    __slots__ = ("leads", "lock", "outcome", "piece")

    def __init__(self, piece: T) -> None:
        self.piece, self.leads = piece, False
        self.outcome: R | BaseException | None = None
        self.lock = threading.Lock()
