"""Pace: how often the head of a log may be written, where the store allows so many writes a second."""

import threading
import time

_MOST_LOGS = 10_000


class Pace:
    """Lets each log be written at most once in `write_seconds`, by whatever operation; zero is no limit. Safe for threads."""

    def __init__(self, write_seconds: float) -> None:
        self._seconds = write_seconds
        self._written: dict[str, float] = {}
        self._mutex = threading.Lock()

    def wait(self, log: str) -> None:
        """Wait until a log may be written again."""
        if not self._seconds:
            return
        with self._mutex:
            now = time.monotonic()
            due = max(self._written.get(log, 0.0) + self._seconds, now)
            self._written[log] = due
            if len(self._written) > _MOST_LOGS:
                self._written = {name: at for name, at in self._written.items() if at > now - self._seconds}
        time.sleep(due - now)
