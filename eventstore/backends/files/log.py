"""Logs in folders, opened by a path: most programs use this log."""

from pathlib import Path

from eventstore.backends.files.backend import FilesBackend
from eventstore.ids import Fsync
from eventstore.log.engine import EventLog
from eventstore.record import codec


class FileSystemEventLog(EventLog):
    """One folder for each session below `root`, which is made with the first session. Safe for threads, processes and fork.

    `fsync` is the time at which an append is on stable storage: `always` (before it returns), `everysec` (within a second) or
    `no` (when the operating system decides). At most `open_files` descriptors are kept open, by default a quarter of the
    process's limit and no more than 4096.
    """

    def __init__(
        self,
        root: Path | str,
        *,
        fsync: Fsync = "always",
        max_event_bytes: int = codec.MAX_EVENT_BYTES,
        open_files: int | None = None,
    ) -> None:
        backend = FilesBackend(root, fsync=fsync, open_files=open_files)
        super().__init__(backend, max_event_bytes=max_event_bytes)
        self.root, self.fsync = backend.root, fsync
