"""Work on many sessions, spread over processes: started anew, not forked, and ended where the caller is interrupted."""

import signal
from collections import deque
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import Future, ProcessPoolExecutor
from contextlib import contextmanager
from multiprocessing import active_children, get_context
from typing import TypeVar, cast

R = TypeVar("R")
_AT_ONCE, _WORTH_A_PROCESS, _AHEAD = 64, 200, 8


def spread(names: Sequence[str], do: Callable[[Sequence[str]], Sequence[R]], jobs: int) -> Iterator[R]:
    """Yield what `do` returns for names, some at a time, in the order of the names, whatever `jobs` is.

    `jobs` is the number of processes at most; few names are worked on here. `do` and its results must pickle. The processes are
    a few results ahead of the caller, not more: results may be large. A program that asks for more than one process must be
    importable without doing its work (`if __name__ == "__main__"`).
    """
    parts = [names[start : start + _AT_ONCE] for start in range(0, len(names), _AT_ONCE)]
    processes = min(jobs, len(names) // _WORTH_A_PROCESS + 1)
    if processes == 1:
        for part in parts:
            yield from do(part)
        return
    others = set(active_children())
    pool = ProcessPoolExecutor(processes, get_context("spawn"), _start, (do,))
    try:
        waiting = deque[Future[Sequence[object]]]()
        for part in parts:  # not map: what that cancels, the pool reports as an error
            with _interrupts_blocked():
                waiting.append(pool.submit(_work, part))
            if len(waiting) >= _AHEAD * processes:
                yield from cast("Sequence[R]", waiting.popleft().result())
        while waiting:
            yield from cast("Sequence[R]", waiting.popleft().result())
    except BaseException:
        for child in set(active_children()) - others:
            child.terminate()
        raise
    finally:
        pool.shutdown()


_do: Callable[[Sequence[str]], Sequence[object]]
"""What a process does, sent to it once: it may hold what is known of all sessions."""


def _start(do: Callable[[Sequence[str]], Sequence[object]]) -> None:
    global _do
    _do = do


def _work(part: Sequence[str]) -> Sequence[object]:
    return _do(part)


@contextmanager
def _interrupts_blocked() -> Iterator[None]:
    """Start processes that Ctrl-C does not reach: the caller ends them."""
    before = signal.pthread_sigmask(signal.SIG_BLOCK, {signal.SIGINT})
    try:
        yield
    finally:
        signal.pthread_sigmask(signal.SIG_SETMASK, before)
