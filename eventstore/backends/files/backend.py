"""Logs in folders of one POSIX machine: `<root>/<log>/events.jsonl`, one file for each log, with only the lines of the log."""

import errno
import os
import threading
import weakref
from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import contextmanager, suppress
from functools import wraps
from pathlib import Path
from typing import Any, TypeVar, cast, get_args

from eventstore.backends.files.atomic_folder import open_stage
from eventstore.backends.files.blobs import Blobs
from eventstore.backends.files.change_feed import ChangeFeed
from eventstore.backends.files.descriptor import SHOWS_WRITERS, is_being_written
from eventstore.backends.files.folders import LOG, Folders
from eventstore.backends.files.handles import Handles, is_in_trash
from eventstore.backends.files.locks import NamedLocks
from eventstore.backends.files.naming import delete, is_there, make, place_of, put, rename
from eventstore.backends.files.reader import read_log, read_small, read_tip
from eventstore.backends.files.rewriting import Fill, FillFailed, announced, cut, overwrite, replace
from eventstore.backends.posix import require_posix
from eventstore.errors import EventStoreError, InvalidSetting, NotSupported
from eventstore.ids import TRASH, Fsync, check_log_name
from eventstore.log.base import Changes
from eventstore.log.port import (
    UNKEPT_KEYS,
    UNSEEN_WRITERS,
    Backend,
    Capabilities,
    Cut,
    Key,
    Missing,
    NotStored,
    PortError,
    Reading,
    Refused,
)
from eventstore.log.watch import FolderWatch, Watch
from eventstore.record.scan import Tip

_POLL_ONE_SECONDS, _POLL_ALL_SECONDS = 0.005, 0.25
F = TypeVar("F", bound=Callable[..., Any])


def _translated(method: F) -> F:
    """Raise errors of the system as Refused, with the path and the error number."""

    @wraps(method)
    def call(self: "FilesBackend", log: str, *args: Any, **kwargs: Any) -> Any:
        try:
            return method(self, log, *args, **kwargs)
        except EventStoreError:  # NotARegularFile is an OSError as well
            raise
        except OSError as error:
            raise Refused(self.where(log), error.errno or errno.EIO, method.__name__) from error

    return cast("F", call)


class FilesBackend(Backend):
    """One folder for each log below `root`, which is made with the first log. Safe for threads, processes and fork.

    `fsync` is the time at which an append is on stable storage: `always` (before it returns), `everysec` (within a second) or
    `no` (when the operating system decides). At most `open_files` descriptors are kept open, by default a quarter of the
    process's limit and no more than 4096.

    An object in the place of a log that is not a plain file, or not a folder, raises NotARegularFile; it is neither followed nor
    changed.
    """

    capabilities = Capabilities(torn_tails=True, shows_writers=SHOWS_WRITERS, at_once=True)

    def __init__(self, root: Path | str, *, fsync: Fsync = "always", open_files: int | None = None) -> None:
        require_posix(str(root))
        if fsync not in get_args(Fsync):
            raise ValueError(f"fsync {fsync!r} is not one of {', '.join(get_args(Fsync))}; nothing was opened")
        try:
            self.root, self.fsync = Path(os.path.abspath(root)), fsync
        except FileNotFoundError:
            wanted = "a path that can be used: it is relative, and the working folder does not exist any more"
            raise InvalidSetting("the folder", str(root), wanted) from None
        self._folders = Folders(self.root, durable=fsync != "no")
        self._feed = ChangeFeed(self.root)
        self._handles = Handles(self._folders, self._feed, open_files, flushes=fsync != "no")
        self._blobs = Blobs(self._folders)
        self._forget()
        _living.add(self)

    def _forget(self) -> None:
        self._mutex = threading.Lock()
        self._locks = NamedLocks(self._folders)
        self._flusher: _Flusher | None = None

    def begin_in_child(self) -> None:
        """Release everything that the parent had open when the process was forked."""
        self._locks.drop_in_child()
        self._handles.begin_in_child()
        self._feed.begin_in_child()
        self._forget()

    def where(self, log: str) -> str:
        """Return the path of a log's file."""
        return f"{self._folders.path(log)}/{LOG}"

    # --- reading

    @_translated
    def tip(self, log: str) -> Tip:
        """Return the end of the last complete record; without any record, the beginning, with an empty digest."""
        return read_tip(self._handles.of(log))

    @_translated
    def read(self, log: str, after: Tip | int = 0, upto: int | None = None) -> Reading:
        """Read lines. With `upto` the chunks may end before `Reading.end`; they have a file open until they end or are closed."""
        return read_log(self._handles.of(log), after, upto)

    @_translated
    def read_small(self, log: str, most_bytes: int) -> bytes | None:
        """Read all bytes of a log of at most `most_bytes`. It gets no handle: those of 100,000 logs are 100 MB."""
        return read_small(self._folders, check_log_name(log), most_bytes)

    # --- writing

    def append(
        self,
        log: str,
        lines: bytes,
        *,
        expect: Tip | None,
        tip: Tip,
        keys: Sequence[Key] = (),
        sync: bool = True,
    ) -> str:
        handle = self._handles.to_write(log)
        try:
            if expect is not None and handle.append_last(lines, expect, tip):
                life = expect.life
            else:
                life = handle.append(lines, expect, tip)
        except EventStoreError:
            raise
        except OSError as error:
            raise Refused(handle.path, error.errno or errno.EIO, "append") from error
        if self.fsync == "everysec":
            self._flush_soon()
        elif sync and self.fsync == "always":
            handle.flush(tip.offset)
        return life

    def append_at_once(self, log: str, lines: bytes, *, expect: Tip, tip: Tip) -> bool | None:
        handle = self._handles.opened(log)
        try:
            if handle is None or not handle.append_last(lines, expect, tip):
                return None
        except OSError as error:
            raise Refused(self.where(log), error.errno or errno.EIO, "append") from error
        if self.fsync == "everysec":
            self._flush_soon()
        return self.fsync != "always"

    def sync(self, log: str, tip: Tip) -> None:
        if self.fsync == "always":
            self._handles.of(log).flush(tip.offset)

    def write_whole(
        self,
        log: str,
        fill: Fill,
        blobs: Iterable[tuple[str, Iterable[bytes]]] = (),
        *,
        expect: Tip | None,
    ) -> str:
        try:
            return self._write_whole(log, fill, blobs, expect)
        except FillFailed as failed:
            raise failed.error from None

    @_translated
    def _write_whole(
        self, log: str, fill: Fill, blobs: Iterable[tuple[str, Iterable[bytes]]], expect: Tip | None
    ) -> str:
        if expect is not None:
            return replace(self._handles.to_write(log), fill, expect)
        handle = self._handles.of(log)
        os.close(self._folders.open("", create=True))
        with open_stage(self.root) as stage:
            life = make(stage, fill, blobs, handle.path)
            with announced(handle):
                put(self._folders, stage, log)
        return life

    @_translated
    def overwrite(self, log: str, seq: int, offset: int, line: bytes) -> None:
        overwrite(self._handles.to_write(log), seq, offset, line)

    @_translated
    def cut(self, log: str, tip: Tip) -> Cut:
        return cut(self._handles.to_write(log), tip)

    # --- names

    @_translated
    def move(self, log: str, to: str, *, expect: Tip | None) -> None:
        handle, other = self._handles.to_write(log), self._handles.of(to)
        with handle.held() as found:
            handle.expect(expect, found)
            handle.raise_if_poisoned()
            if self.fsync != "no":
                handle.sync("move")  # also bytes of another process: it would look for the old name to flush them
            with announced(handle), announced(other):
                rename(self._folders, log, to)
            handle.close()
        self._handles.drop(log)
        self._handles.drop(to)
        if not log.startswith(TRASH):
            self._feed.gone(log)

    @_translated
    def delete(self, log: str, *, expect: Tip | None) -> bool:
        """Delete a log's folder and its content in one step: no reader sees a part of it. Return False if there was no log.

        A folder that a killed creation or deletion left is removed too.
        """
        handle = self._handles.to_write(log)
        try:
            with place_of(self._folders, log) as (folder, name):
                if not is_there(name, folder):
                    return False
                deleted = delete(handle, folder, name, expect)
        except Missing:
            return False
        finally:
            self._handles.drop(log)
        if not log.startswith(TRASH):
            self._feed.gone(log)
        return deleted

    # --- which logs there are

    def changed(self, since: str | None = None) -> Changes:
        try:
            return self._feed.changed(since)
        except OSError as error:
            raise Refused(str(self.root), error.errno or errno.EIO, "changed") from error

    def trashed(self) -> list[str]:
        try:
            folder = self._folders.open(TRASH.rstrip("/"))
        except Missing:
            return []
        try:
            return sorted(filter(is_in_trash, os.listdir(folder)))
        except OSError as error:
            raise Refused(f"{self.root}/{TRASH}", error.errno or errno.EIO, "trashed") from error
        finally:
            os.close(folder)

    def find_key(self, log: str, key: str) -> tuple[int, int] | None:
        """Raise NotSupported: the engine finds keys in the lines."""
        raise NotSupported(log, self.where(log), UNKEPT_KEYS, "read the log")

    def watch(self, log: str | None) -> Watch:
        return FolderWatch(self.root, log, _POLL_ALL_SECONDS if log is None else _POLL_ONE_SECONDS)

    @_translated
    def is_open(self, log: str) -> bool:
        if not self.capabilities.shows_writers:
            raise NotSupported(log, self.where(log), UNSEEN_WRITERS, "ask its writers")
        try:
            descriptor = self._folders.open_log(check_log_name(log))
        except Missing:
            return False
        try:
            return is_being_written(descriptor)
        finally:
            os.close(descriptor)

    # --- locks

    @contextmanager
    def lock(self, name: str) -> Iterator[None]:
        """Hold a lock.

        `log/NAME` is the lock of the log's file, which must exist; `registry` is the lock that earlier releases use.
        """
        kind, _, log = name.partition("/")
        handle = self._handles.to_write(log) if kind == "log" else None
        is_held = False
        try:
            # no ExitStack: what a Ctrl-C leaves of one is a circle, and only the collector would release the lock
            with self._locks.held(name) if handle is None else handle.held():
                if handle is not None:
                    handle.remove_unfinished()  # another program may have been killed after this one opened the log
                is_held = True
                yield
        except OSError as error:
            if is_held or isinstance(error, EventStoreError):
                raise
            where = f"{self.root}: {name}" if handle is None else handle.path
            raise Refused(where, error.errno or errno.EIO, "lock") from error

    # --- blobs

    @_translated
    def blobs(self, log: str) -> list[str]:
        return self._blobs.list(log)

    @_translated
    def get_blob(self, log: str, name: str) -> Iterator[bytes]:
        return self._blobs.get(log, name)

    @_translated
    def put_blob(self, log: str, name: str, data: bytes) -> None:
        self._blobs.put(log, name, data)

    @_translated
    def delete_blob(self, log: str, name: str) -> None:
        self._blobs.delete(log, name)

    # --- stable storage, and the end

    def flush(self) -> None:
        """Bring everything that was written through this object to stable storage. Raises NotStored, after trying all files."""
        self._handles.flush()

    def _flush_soon(self) -> None:
        if self._flusher is None:
            with self._mutex:
                if self._flusher is None:
                    self._flusher = _Flusher(self)

    def close(self) -> None:
        with self._mutex:
            flusher, self._flusher = self._flusher, None
        if flusher is not None:
            flusher.stop()
        handles = self._handles.open()
        self._handles.forget()
        self._feed.close()
        failed: NotStored | None = None
        for handle in handles:
            with handle.writing:
                try:
                    if not handle.poison:
                        handle.flush(handle.written)
                except NotStored as error:
                    failed = error
                finally:
                    handle.close()
        if failed is not None:
            raise failed


class _Flusher:
    """A thread that flushes a backend once a second, until it is stopped or the backend is deleted."""

    def __init__(self, backend: FilesBackend) -> None:
        self._backend = weakref.ref(backend)
        self._stopped = threading.Event()
        self._thread = threading.Thread(target=self._run, name="eventstore-flush", daemon=True)
        self._thread.start()

    def stop(self) -> None:
        self._stopped.set()
        self._thread.join()

    def _run(self) -> None:
        while not self._stopped.wait(1.0):
            backend = self._backend()
            if backend is None:
                return
            with suppress(PortError):  # the handle is poisoned: its next append raises
                backend.flush()
            del backend


_living: "weakref.WeakSet[FilesBackend]" = weakref.WeakSet()


def _begin_in_child() -> None:
    for backend in list(_living):
        backend.begin_in_child()


os.register_at_fork(after_in_child=_begin_in_child)
