"""Watch logs for changes. A report is a hint that there may be new events, nothing more."""

import os
import threading
from abc import ABC, abstractmethod
from pathlib import Path
from types import TracebackType
from typing import Self

_STEP_MS = 1  # with 1 ms, changes are reported within 2 ms, for 1.6 % of a core
_TICK_MS = 50
_MISSING_SECONDS = 0.02


class Watch(ABC):
    """Reports which logs may have changed. Close it after use."""

    @abstractmethod
    def wait(self, seconds: float) -> set[str] | None:
        """Wait for changes and return the ids of logs that may have changed; none after the timeout. None means any log."""

    @abstractmethod
    def wake(self) -> None:
        """Make a waiting call return at once. Safe for threads."""

    @abstractmethod
    def close(self) -> None:
        """Stop watching."""

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()


class Bell(Watch):
    """A watch that other code notifies."""

    def __init__(self) -> None:
        self._rung = threading.Condition()
        self._changed: set[str] | None = set()
        self._woken = False

    def ring(self, changed: set[str] | None) -> None:
        """Report logs that may have changed; None means any."""
        with self._rung:
            self._changed = None if changed is None or self._changed is None else self._changed | changed
            self._rung.notify_all()

    def wait(self, seconds: float) -> set[str] | None:
        with self._rung:
            self._rung.wait_for(lambda: self._woken or self._changed is None or self._changed, seconds)
            found, self._changed = self._changed, set()
            if found == set():  # else the next call ends: whoever woke this one may wait for an answer without changes
                self._woken = False
            return found

    def wake(self) -> None:
        with self._rung:
            self._woken = True
            self._rung.notify_all()

    def close(self) -> None:
        """Do nothing: the notifier drops it."""


class FolderWatch(Bell):
    """A watch on the folders of logs: by the system's reports of changed files or, without reports, by polling.

    All watches on one root in one process share a thread and the system's watch. At the start any log may have changed: changes
    before the system began to report are not known.
    """

    def __init__(self, root: Path, session_id: str | None, poll_seconds: float) -> None:
        super().__init__()
        self.root = root.resolve()
        self.session_id, self.poll_seconds = session_id, poll_seconds
        self.folder = self.root if session_id is None else self.root / session_id
        self._hub = _join(self)

    def close(self) -> None:
        """Stop watching. The last watch on a root ends its thread."""
        self._hub.leave(self)


class _Hub:
    """The one thread that watches a root for all watches; it ends with the last of them."""

    def __init__(self, root: Path) -> None:
        self.root = root
        self.changing = threading.Lock()
        self._watches: set[FolderWatch] = set()
        self._renew = threading.Event()
        self._thread = threading.Thread(target=self._run, name="eventstore-watch", daemon=True)

    def join(self, watch: FolderWatch) -> None:
        """Add a watch. The caller holds the lock of hubs."""
        with self.changing:
            before = self._folders()
            self._watches.add(watch)
            is_new = self._folders() != before
        if is_new:
            self._renew.set()
        else:
            watch.ring(None)  # the folder is watched already
        if self._thread.ident is None:
            self._thread.start()

    def leave(self, watch: FolderWatch) -> None:
        """Remove a watch; if it was the last one, return when the thread has ended."""
        with _opening:
            with self.changing:
                before = self._folders()
                self._watches.discard(watch)
                is_new, is_last = self._folders() != before, not self._watches
            if is_last and _hubs.get(self.root) is self:
                del _hubs[self.root]
        if is_new:
            self._renew.set()
        if is_last:
            self._thread.join()

    def _folders(self) -> set[Path]:
        """Return the folders to watch: one watch on the root covers everything below it."""
        wanted = {one.folder for one in self._watches}
        return {self.root} if self.root in wanted else wanted

    def _run(self) -> None:
        while True:
            self._renew.clear()
            with self.changing:
                folders = self._folders()
            if not folders:
                return
            try:
                self._listen(folders)
            except (
                Exception
            ):  # out of watches, no folder yet, a system without watches: a waiting call must not wait for ever
                self._look(folders)
                self._renew.wait(self._pause(folders))

    def _pause(self, folders: set[Path]) -> float:
        """Return the seconds until the next poll, for systems without reports."""
        if not any(folder.is_dir() for folder in folders):
            return _MISSING_SECONDS
        with self.changing:
            return min((one.poll_seconds for one in self._watches), default=0.0)

    def _listen(self, folders: set[Path]) -> None:
        """Pass on the system's reports, until other folders are wanted or a folder was replaced."""
        from watchfiles import watch  # costs as much as starting Python

        inodes = {folder: _inode(folder) for folder in folders}
        there, missing = [one for one in folders if inodes[one]], {one for one in folders if not inodes[one]}
        if not there:
            raise FileNotFoundError(str(self.root))
        first = True
        for changes in watch(
            *there,
            watch_filter=None,
            step=_STEP_MS,
            debounce=_STEP_MS,
            rust_timeout=_TICK_MS,
            force_polling=False,  # it loses appends
            yield_on_timeout=True,
            stop_event=self._renew,
            raise_interrupt=False,
        ):
            self._look(folders if first else missing)
            first = False
            self._report({self._id_of(path) for _, path in changes})
            if any(_inode(folder) != inode for folder, inode in inodes.items()):
                self._look(folders)
                return  # a watch on a folder that was replaced reports nothing any more

    def _look(self, folders: set[Path]) -> None:
        """Report that any log in these folders may have changed."""
        with self.changing:
            for one in self._watches:
                if one.folder in folders or self.root in folders:
                    one.ring(None)

    def _report(self, changed: set[str]) -> None:
        with self.changing:
            for one in self._watches:
                if found := changed if one.session_id is None else changed & {one.session_id}:
                    one.ring(found)

    def _id_of(self, path: str) -> str:
        inside = path[len(str(self.root)) + 1 :]
        return inside.partition("/")[0]


def _inode(folder: Path) -> int:
    """Return the inode number of a folder; 0 if it does not exist."""
    try:
        return folder.stat().st_ino
    except OSError:
        return 0


_hubs: dict[Path, _Hub] = {}
_opening = threading.Lock()
"""Guards the hubs of this process. Taken before a hub's own lock, never after it."""


def _join(watch: FolderWatch) -> _Hub:
    with _opening:
        hub = _hubs.get(watch.root)
        if hub is None:
            hub = _hubs[watch.root] = _Hub(watch.root)
        hub.join(watch)
        return hub


def _begin_in_child() -> None:
    """Forget the hubs of the parent process: their threads do not exist here, and one may have held a lock."""
    global _opening
    for hub in _hubs.values():
        hub.changing = threading.Lock()
    _hubs.clear()
    _opening = threading.Lock()


os.register_at_fork(after_in_child=_begin_in_child)
