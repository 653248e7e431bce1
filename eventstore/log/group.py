"""Group: several callers need the same expensive step, and one of them does it for all."""

import threading
import time
from collections.abc import Callable, Sequence
from typing import Generic, TypeVar

T = TypeVar("T")
R = TypeVar("R")
_MOST_LINGER_SECONDS, _LINGER_STEP_SECONDS = 0.05, 0.0005


class Group(Generic[T, R]):
    """Callers with one piece of work each. One leads and does the work of all; callers who come in the meantime are next.

    The leader takes `lock` first and only then collects, so that all who came while another one held it are served together.
    Each caller waits on its own lock, and the next leader is woken before those whose work is done: the disk is busy again
    while they wake up. With 16 threads, one condition that wakes all of them does half as much work. `lost` makes the error for
    callers whose leader was interrupted: then it is unknown what was done.

    If the last work was done for several callers, the next leader waits for the same number to come again, at most for `linger`
    times the duration of that work. Over a network, one more request costs more than this wait.

    With `apart`, two pieces of work begin at least so many seconds apart, and the leader collects after this wait, not before it:
    all who come during the wait are served by the next piece of work.
    """

    def __init__(
        self, lock: threading.Lock, lost: Callable[[], BaseException], linger: float = 0.0, apart: float = 0.0
    ) -> None:
        self._lock, self._lost, self._linger, self._apart = lock, lost, linger, apart
        self._served, self._took, self._due = 0, 0.0, 0.0
        self._mutex = threading.Lock()
        self._waiting: list[_Caller[T, R]] = []
        self._led = False

    def do(self, piece: T, work: Callable[[Sequence[T]], Sequence[R | BaseException]]) -> R:
        """Do a piece of work, together with those of other callers, and return its outcome or raise it.

        `work` returns one outcome for each piece.
        """
        mine = _Caller[T, R](piece)
        try:
            with self._mutex:
                self._waiting.append(mine)
                mine.leads, self._led = not self._led, True
            if not mine.leads:
                mine.lock.acquire()
            if mine.leads:
                self._lead(mine, work)
        finally:
            try:
                self._leave(mine)
            except BaseException:  # Ctrl-C while it leaves: nobody else would lead the others any more
                self._leave(mine)
                raise
        if isinstance(mine.outcome, BaseException):
            raise mine.outcome
        assert mine.outcome is not None  # noqa: S101 - the leader gave every piece its outcome
        return mine.outcome

    def _lead(self, mine: "_Caller[T, R]", work: Callable[[Sequence[T]], Sequence[R | BaseException]]) -> None:
        try:
            with self._lock:
                if self._apart:
                    time.sleep(max(self._due - time.monotonic(), 0.0))
                if self._linger and self._served > 1:
                    self._gather()
                began = time.monotonic()
                with self._mutex:
                    mine.taken, self._waiting = self._waiting, []
                mine.outcomes = work([caller.piece for caller in mine.taken])
                self._served, self._took, self._due = len(mine.taken), time.monotonic() - began, began + self._apart
        except Exception as error:
            mine.outcomes = [error] * len(mine.taken)

    def _leave(self, mine: "_Caller[T, R]") -> None:
        """Tell the others what became of their pieces, and let one of those that wait lead. Done twice it is done once."""
        with self._mutex:
            if mine in self._waiting:  # interrupted before anybody took its piece
                self._waiting.remove(mine)
            if mine.leads:
                following = self._waiting[0] if self._waiting else None
                mine.leads, self._led = False, following is not None
                if following is not None:
                    following.leads = True
                    following.lock.release()
        while mine.taken:
            outcomes = mine.outcomes or [self._lost() for _ in mine.taken]  # none: interrupted while it worked
            caller, outcome = mine.taken[-1], outcomes[len(mine.taken) - 1]
            if caller.outcome is None:
                caller.outcome = outcome
                if caller is not mine:
                    caller.lock.release()
            mine.taken.pop()

    def _gather(self) -> None:
        """Wait a moment for the callers of the last round to come again."""
        until = time.monotonic() + min(self._linger * self._took, _MOST_LINGER_SECONDS)
        while len(self._waiting) < self._served and time.monotonic() < until:
            time.sleep(_LINGER_STEP_SECONDS)


class _Caller(Generic[T, R]):
    """One caller and its piece of work: `lock` is released when the work is done, or when the caller must lead."""

    __slots__ = ("leads", "lock", "outcome", "outcomes", "piece", "taken")

    def __init__(self, piece: T) -> None:
        self.piece, self.leads = piece, False
        self.outcome: R | BaseException | None = None
        self.taken: list[_Caller[T, R]] = []
        self.outcomes: Sequence[R | BaseException] = ()
        self.lock = threading.Lock()
        self.lock.acquire()
