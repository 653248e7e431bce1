"""What every program shares: a store to break, and what must hold of it afterwards."""

import shutil
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from eventstore import FileSystemEventLog
from eventstore import events as e
from eventstore.ids import Fsync

Counts = dict[str, int]


@contextmanager
def folder() -> Iterator[Path]:
    """Yield an empty folder, in memory if the machine has such a place."""
    memory = Path("/dev/shm")
    made = Path(tempfile.mkdtemp(prefix="eventstore-fault-", dir=memory if memory.is_dir() else None))
    try:
        yield made
    finally:
        shutil.rmtree(made, ignore_errors=True)


def said(text: str, key: str | None = None) -> e.Event:
    """Make a message."""
    return e.MessageAdded(role="user", content=text, id=key)


def opened(root: Path, fsync: Fsync = "no") -> FileSystemEventLog:
    """Open the log as a new program would."""
    return FileSystemEventLog(root, fsync=fsync)


def contents(log: FileSystemEventLog, session_id: str = "s") -> list[str]:
    """Read the messages, and check that numbers are dense."""
    events = list(log.read(session_id))
    assert [event.seq for event in events] == list(range(1, len(events) + 1)), "numbers are not dense"
    return [event.content for event in events if isinstance(event, e.MessageAdded)]


def sample(root: Path, messages: int, batch: int = 3, size: int = 60) -> Path:
    """Write a log with single events and batches; return its path."""
    with opened(root) as log:
        log.append("s", [e.SessionCreated(purpose="sample")], expected_version=0)
        for n in range(messages):
            many = batch if n % 3 == 2 else 1
            log.append("s", [said(f"{n}.{k} " + "x" * (size + 7 * n % 31)) for k in range(many)])
    return root / "s" / "events.jsonl"
