"""The handles of one backend: a limited number of open files, and the known states of the others."""

import threading
from collections import OrderedDict
from contextlib import suppress

from eventstore.backends.files.folders import Folders
from eventstore.backends.files.handle import Feed, Handle, NoFeed, Seen
from eventstore.backends.posix import resource
from eventstore.errors import InvalidSessionId
from eventstore.ids import TRASH, check_log_name, id_of
from eventstore.log.locking import try_lock
from eventstore.log.port import NotStored

_HANDLES_PER_FILE = 16
_MOST_REMEMBERED = 100_000


class Handles:
    """The handles by the names of their logs. The least recently used ones are closed, after a flush if `flushes` is set."""

    def __init__(self, folders: Folders, feed: Feed, open_files: int | None, *, flushes: bool) -> None:
        self._folders, self._feed, self._flushes = folders, feed, flushes
        self._most_open = open_files or usual_open_files()
        self._no_feed = NoFeed()
        self.forget()

    def forget(self) -> None:
        """Forget all handles."""
        self._mutex = threading.Lock()
        self._handles: dict[str, Handle] = {}
        self._open: OrderedDict[str, Handle] = OrderedDict()
        self._seen: OrderedDict[str, Seen] = OrderedDict()

    def begin_in_child(self) -> None:
        """Release everything that the parent had open at the fork: the locks are the parent's."""
        for handle in list(self._open.values()):
            with suppress(OSError):
                handle.drop_in_child()
        self.forget()

    def of(self, log: str) -> Handle:
        """Return the handle of a log, open or not; make it if there is none. Raises InvalidSessionId."""
        return self._handles.get(log) or self._make(log)

    def opened(self, log: str) -> Handle | None:
        """Return the handle of a log that is open for writing; None for any other log."""
        return self._open.get(log)

    def to_write(self, log: str) -> Handle:
        """Return the handle of a log that is about to be opened; make it if there is none. Raises InvalidSessionId."""
        handle = self._open.get(log)
        if handle is not None:
            try:  # noqa: SIM105 - suppress takes three calls, and each append comes here
                self._open.move_to_end(log)
            except KeyError:  # closed a moment ago: it opens again
                pass
            return handle
        handle = self.of(log)
        with self._mutex:
            self._open[log] = handle
            if len(self._open) > self._most_open:
                self._close_oldest(handle)
        return handle

    def _make(self, log: str) -> Handle:
        check_log_name(log)
        with self._mutex:
            found = self._handles.get(log)
            if found is None:
                feed = self._no_feed if log.startswith(TRASH) else self._feed
                found = self._handles[log] = Handle(log, self._folders, feed)
                found.seen = self._seen.pop(log, found.seen)
                if len(self._handles) > _HANDLES_PER_FILE * self._most_open:
                    self._drop_oldest()
            return found

    def _close_oldest(self, kept: Handle) -> None:
        """Close the least recently used files, an eighth of them at a time."""
        for name, handle in list(self._open.items())[: self._most_open // 8 + 1]:
            if handle is kept or handle.poison:
                continue
            taken = list[bool]()
            try:
                taken.extend(map(try_lock, (handle.writing,)))
                if True not in taken or handle.depth:  # another thread, or this one, has it locked
                    continue
                with suppress(NotStored):  # the handle is poisoned and stays: later calls for that log get the error
                    if self._flushes:
                        handle.flush(handle.written)
                    handle.close()
                    del self._open[name]
            finally:
                if True in taken:
                    handle.writing.release()

    def _drop_oldest(self) -> None:
        """Forget handles that are not open, but keep the states in which their logs were last read."""
        for name in [name for name in self._handles if name not in self._open][: self._most_open]:
            if not self._handles[name].poison:
                self._seen[name] = self._handles.pop(name).seen
        while len(self._seen) > _MOST_REMEMBERED:
            self._seen.popitem(last=False)

    def drop(self, log: str) -> None:
        """Forget a log that was deleted, or has another name."""
        with self._mutex:
            self._open.pop(log, None)
            self._handles.pop(log, None)
            self._seen.pop(log, None)

    def open(self) -> list[Handle]:
        """Return the handles that may be open."""
        with self._mutex:
            return list(self._open.values())

    def flush(self) -> None:
        """Flush all files that may be open. Raises NotStored, after trying all."""
        failed: NotStored | None = None
        for handle in self.open():
            try:
                handle.flush(handle.written)
            except NotStored as error:
                failed = error
        if failed is not None:
            raise failed


def usual_open_files() -> int:
    """Return a quarter of the descriptors that the process may have, at least 16 and at most 4096."""
    soft, _ = resource.getrlimit(resource.RLIMIT_NOFILE)
    return 4096 if soft == resource.RLIM_INFINITY else max(min(soft // 4, 4096), 16)


def is_in_trash(name: str) -> bool:
    """Return whether a name in the trash folder may be that of a log."""
    try:
        id_of(name)
    except InvalidSessionId:
        return False
    return True
