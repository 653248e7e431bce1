"""Watching logs for changes: a hint that something may be new, never the truth."""

import threading
from abc import ABC, abstractmethod
from pathlib import Path
from types import TracebackType
from typing import Self

_STEP_MS = 1  # with 1 ms the news comes within 2 ms, for 1.6 % of a core
_TICK_MS = 50
_MISSING_SECONDS = 0.02


class Watch(ABC):
    """Tells which logs may have changed. Close it when it is not needed any more."""

    @abstractmethod
    def wait(self, seconds: float) -> set[str] | None:
        """Return the ids of logs that may have changed, once there are any, or none after so long; None means any of them."""

    @abstractmethod
    def wake(self) -> None:
        """Let whoever waits return at once. Safe for threads."""

    @abstractmethod
    def close(self) -> None:
        """Watch no longer."""

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()


class Bell(Watch):
    """A watch that others ring."""

    def __init__(self) -> None:
        self._rung = threading.Condition()
        self._changed: set[str] | None = set()
        self._woken = False

    def ring(self, changed: set[str] | None) -> None:
        """Tell of logs that may have changed; None means any."""
        with self._rung:
            self._changed = None if changed is None or self._changed is None else self._changed | changed
            self._rung.notify_all()

    def wait(self, seconds: float) -> set[str] | None:
        with self._rung:
            self._rung.wait_for(lambda: self._woken or self._changed is None or self._changed, seconds)
            found, self._changed, self._woken = self._changed, set(), False
            return found

    def wake(self) -> None:
        with self._rung:
            self._woken = True
            self._rung.notify_all()

    def close(self) -> None:
        """Do nothing: whoever rings forgets it."""


class FolderWatch(Bell):
    """A watch on the folders of logs, by what the system tells of changed files; where it tells nothing, by asking often.

    Any log may have changed when it begins: what happened before the system began to tell is not known.
    """

    def __init__(self, root: Path, session_id: str | None, poll_seconds: float) -> None:
        super().__init__()
        self._root = root.resolve()
        self._folder = self._root if session_id is None else self._root / session_id
        self._stopped, self._poll_seconds = threading.Event(), poll_seconds
        self._thread = threading.Thread(target=self._run, name="eventstore-watch", daemon=True)
        self._thread.start()

    def close(self) -> None:
        """Watch no longer."""
        self._stopped.set()
        self._thread.join()

    def _run(self) -> None:
        while not self._stopped.is_set():
            try:
                self._listen()
            except OSError:  # too many watches, no folder yet, a system without: ask often
                self.ring(None)
                self._stopped.wait(self._poll_seconds if self._folder.is_dir() else _MISSING_SECONDS)

    def _listen(self) -> None:
        """Pass on what the system tells, until stopped or the folder is gone."""
        from watchfiles import watch  # costs as much as starting Python does

        inode = self._folder.stat().st_ino
        first = True
        for changes in watch(
            self._folder,
            watch_filter=None,
            step=_STEP_MS,
            debounce=_STEP_MS,
            rust_timeout=_TICK_MS,
            force_polling=False,  # it loses appends
            yield_on_timeout=True,
            stop_event=self._stopped,
            raise_interrupt=False,
        ):
            if first:
                self.ring(None)
                first = False
            self.ring({self._id_of(path) for _, path in changes})
            if self._folder.stat().st_ino != inode:  # a watch on a folder that was replaced tells nothing any more
                self.ring(None)
                return

    def _id_of(self, path: str) -> str:
        inside = path[len(str(self._root)) + 1 :]
        return inside.partition("/")[0]
