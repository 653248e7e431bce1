"""Playing rows in time: waits as in reality, cut where nothing happened for long, with keys to pause, step and seek."""

import os
import select
import sys
import time
from collections.abc import Callable, Iterator, Sequence
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from projections.timeline import Row

_BACK = 10
_FASTER = 1.5
_KEYS = {
    " ": "pause", "p": "pause", "n": "next", "\x1b[C": "next", "\x1bOC": "next", "b": "back", "\x1b[D": "back", "\x1bOD": "back",
    "+": "faster", "=": "faster", "-": "slower", "g": "end", "G": "end", "q": "quit", "\x1b": "quit", "\x03": "quit",
}  # fmt: skip


def waits(rows: Sequence["Row"], speed: float, most: float) -> Iterator[float]:
    """Return the seconds to wait before each row.

    Rows with an earlier time than the one before, such as redactions, do not wait.
    """
    latest = 0.0
    for row in rows:
        gap = max(row.since_start_seconds - latest, 0.0) / speed
        latest = max(latest, row.since_start_seconds)
        yield min(gap, most)


def play(rows: Sequence["Row"], speed: float, most: float, show: Callable[["Row", float], None]) -> None:
    """Show rows in time, each with the seconds that nothing happened before it, until the last one or until the user quits."""
    with _Keyboard() as keys:
        Player(rows, speed, most, show, keys.wait).run()


class Player:
    """The position of a replay. `wait` waits some seconds, for ever with None, and returns the pressed key, or nothing."""

    def __init__(
        self,
        rows: Sequence["Row"],
        speed: float,
        most: float,
        show: Callable[["Row", float], None],
        wait: Callable[[float | None], str],
    ) -> None:
        self._rows, self._speed, self._most, self._show, self._wait = rows, speed, most, show, wait
        self._gaps = list(waits(rows, 1.0, float("inf")))
        self._at, self._is_paused = 0, False

    def run(self) -> None:
        """Print rows until the end."""
        while self._at < len(self._rows):
            left = min(self._gaps[self._at] / self._speed, self._most)
            if not self._pass(left):
                return
            if self._at < len(self._rows):
                self._print()

    def _pass(self, left: float) -> bool:
        """Wait before the next row; False to quit."""
        sys.stdout.flush()
        until = time.monotonic() + left
        while True:
            if not self._is_paused and left <= 0:
                return True
            key = self._wait(None if self._is_paused else max(until - time.monotonic(), 0.0))
            what = _KEYS.get(key)
            if what == "quit":
                return False
            if not key and not self._is_paused:
                return True
            if what == "pause":
                self._is_paused = not self._is_paused
                until = time.monotonic() + left
            elif what == "next":
                return True
            elif what == "back":
                self._at = max(self._at - _BACK, 0)
                return True
            elif what in ("faster", "slower"):
                self._speed *= _FASTER if what == "faster" else 1 / _FASTER
            elif what == "end":
                while self._at < len(self._rows):
                    self._print()
                return True

    def _print(self) -> None:
        self._show(self._rows[self._at], self._gaps[self._at])
        self._at += 1


class _Keyboard:
    """Reads single keys from standard input, if that is a terminal."""

    def __enter__(self) -> "_Keyboard":
        self._is_there = sys.stdin.isatty() and sys.stdout.isatty()
        if self._is_there:
            import termios
            import tty

            self._before = termios.tcgetattr(0)
            tty.setcbreak(0)
        return self

    def __exit__(self, *_: object) -> None:
        if self._is_there:
            import termios

            termios.tcsetattr(0, termios.TCSADRAIN, self._before)

    def wait(self, seconds: float | None) -> str:
        """Wait for a key, some seconds at most; an empty text where none came."""
        if not self._is_there:
            time.sleep(seconds or 0.0)
            return ""
        ready, _, _ = select.select([0], [], [], seconds)
        if not ready:
            return ""
        found = os.read(0, 8).decode("utf-8", "replace")
        return found if found else "q"  # the terminal was closed
