"""Progress of long work: one line on standard error, which everything else that is printed moves out of its way."""

import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

from eventstore.cli.screen import cut, width

_EVERY_SECONDS = 0.1
_AFTER_SECONDS = 0.3  # work that is done sooner shows nothing
_BAR = 20
_CLEAR = "\r\x1b[K"


class Bar:
    """A line that shows how much is done. Without a terminal it does nothing."""

    task_ids = (0,)

    def __init__(self, title: str, total: int | None, *, is_shown: bool) -> None:
        self._title, self._total, self._done = title, total, 0
        self._is_shown, self._is_drawn = is_shown, False
        self._began = time.monotonic()
        self._next = self._began + _AFTER_SECONDS

    def advance(self, task: int = 0, count: int = 1) -> None:
        """Count one more, or `count`."""
        self._done += count
        self.tick()

    def update(self, task: int = 0, *, completed: int | None = None, total: int | None = None, title: str = "") -> None:
        """Set what is done, what is to be done, or the title."""
        self._done = self._done if completed is None else completed
        self._total = self._total if total is None else total
        self._title = title or self._title
        self.tick()

    def tick(self) -> None:
        """Draw the line again, if the last time is a while ago."""
        now = time.monotonic()
        if self._is_shown and now >= self._next:
            self._next = now + _EVERY_SECONDS
            _real(sys.stderr).write(_CLEAR + cut(self._text(now), width() - 1))
            _real(sys.stderr).flush()
            self._is_drawn = True

    def clear(self) -> None:
        """Remove the line from the screen until it is drawn again."""
        if self._is_drawn:
            _real(sys.stderr).write(_CLEAR)
            _real(sys.stderr).flush()
            self._is_drawn = False

    def _text(self, now: float) -> str:
        if not self._total:
            return f"{self._title}  {self._done:,}"
        share = min(self._done / self._total, 1.0)
        full = round(share * _BAR)
        left = (now - self._began) * (1 / share - 1) if share else 0.0
        rest = f"  {_short(left)} left" if share and left >= 1 else ""
        return f"{self._title}  {'█' * full}{'░' * (_BAR - full)}  {self._done:,} of {self._total:,}{rest}"


class _Cleared:
    """A stream that removes the line of progress from the screen before anything is written to it."""

    def __init__(self, stream: Any, bar: Bar) -> None:
        self._stream, self._bar = stream, bar

    def write(self, text: str) -> int:
        self._bar.clear()
        return int(self._stream.write(text))

    def __getattr__(self, name: str) -> Any:
        return getattr(self._stream, name)


def _real(stream: Any) -> Any:
    return stream._stream if isinstance(stream, _Cleared) else stream


def _short(seconds: float) -> str:
    minutes, rest = divmod(round(seconds), 60)
    return f"{minutes} min {rest:02d} s" if minutes else f"{rest} s"


@contextmanager
def progress(title: str, total: int | None = None) -> Iterator[Bar]:
    """Show progress on standard error while the block runs, if that is a terminal.

    Other output in the meantime stays readable.
    """
    bar = Bar(title, total, is_shown=sys.stderr.isatty())
    if not sys.stderr.isatty():
        yield bar
        return
    before = sys.stdout, sys.stderr
    sys.stderr = _Cleared(sys.stderr, bar)
    if sys.stdout.isatty():
        sys.stdout = _Cleared(sys.stdout, bar)
    try:
        yield bar
    finally:
        bar.clear()
        sys.stdout, sys.stderr = before
