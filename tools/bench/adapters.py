"""Stores under one interface: ours, the limits of the machine, and what people write themselves."""

import asyncio
import fcntl
import json
import os
import sqlite3
from abc import ABC, abstractmethod
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import msgspec

from eventstore import (
    AsyncSessionManager,
    FileSystemEventLog,
    FileSystemSessionStorage,
    MemoryEventLog,
    MemorySessionStorage,
    SessionManager,
)
from eventstore import events as e
from eventstore.ids import Fsync
from eventstore.log.engine import EventLog

PAGE_CACHE, DISK, MEMORY = "page cache", "disk", "memory"


class Store(ABC):
    """A store of messages by session. `name` and `durability` are what the tables show.

    Durability is that of an append that has returned: `disk` survives a power cut, `page cache` a killed process.
    """

    name: str
    durability: str
    is_reference = False

    @abstractmethod
    def open(self, folder: Path, sessions: int) -> None:
        """Make an empty store with so many sessions in a folder of its own."""

    @abstractmethod
    def append(self, session: int, text: str) -> None:
        """Add one message of the user to a session."""

    def read(self, session: int) -> int:
        """Read a session's messages back as the store's own objects; return how many there are."""
        raise NotImplementedError

    def append_batch(self, session: int, texts: Sequence[str]) -> None:
        """Add several messages at once, where the store has a way to."""
        raise NotImplementedError

    async def append_async(self, session: int, text: str) -> None:
        """Add one message from one of many tasks, where the store has a way to."""
        raise NotImplementedError

    def close(self) -> None:  # noqa: B027 - most have nothing to let go of
        """Release files."""


class OursByManager(Store):
    """`SessionManager`, with views, as users hold it."""

    def __init__(self, fsync: Fsync) -> None:
        self.name = f"eventstore manager, fsync={fsync}"
        self.durability = {"always": DISK, "everysec": "disk within 1 s", "no": PAGE_CACHE}[fsync]
        self._fsync: Fsync = fsync

    def open(self, folder: Path, sessions: int) -> None:
        storage = FileSystemSessionStorage(folder / ".sessions", folder / ".history", fsync=self._fsync)
        self.manager = SessionManager(storage)
        for session in range(sessions):
            self.manager.create_session(f"s{session}")
        self._twin = AsyncSessionManager(self.manager)

    def append(self, session: int, text: str) -> None:
        self.manager.add_conversation_message(f"s{session}", "user", text)

    def read(self, session: int) -> int:
        return sum(1 for one in self.manager.events(f"s{session}") if isinstance(one, e.MessageAdded))

    async def append_async(self, session: int, text: str) -> None:
        await self._twin.add_conversation_message(f"s{session}", "user", text)

    def close(self) -> None:
        self.manager.close()


class OursByMemory(OursByManager):
    """`SessionManager` on sessions that live in memory."""

    def __init__(self) -> None:
        self.name, self.durability = "eventstore manager, in memory", MEMORY

    def open(self, folder: Path, sessions: int) -> None:
        self.manager = SessionManager(MemorySessionStorage())
        for session in range(sessions):
            self.manager.create_session(f"s{session}")
        self._twin = AsyncSessionManager(self.manager)


class OursByLog(Store):
    """The log alone."""

    def __init__(self, fsync: Fsync | None) -> None:
        self.name = "eventstore log, in memory" if fsync is None else f"eventstore log, fsync={fsync}"
        self.durability = {None: MEMORY, "always": DISK, "everysec": "disk within 1 s", "no": PAGE_CACHE}[fsync]
        self._fsync = fsync

    def open(self, folder: Path, sessions: int) -> None:
        self.log: EventLog = MemoryEventLog() if self._fsync is None else FileSystemEventLog(folder, fsync=self._fsync)
        for session in range(sessions):
            self.log.append(f"s{session}", [e.SessionCreated()], expected_version=0)

    def append(self, session: int, text: str) -> None:
        self.log.append(f"s{session}", [e.MessageAdded(role="user", content=text)])

    def append_batch(self, session: int, texts: Sequence[str]) -> None:
        self.log.append(f"s{session}", [e.MessageAdded(role="user", content=text) for text in texts])

    def read(self, session: int) -> int:
        return sum(1 for one in self.log.read(f"s{session}") if isinstance(one, e.MessageAdded))

    def close(self) -> None:
        self.log.close()


class Limit(Store):
    """What no store in Python can beat: the line is encoded already, the file open, and nothing is locked or checked."""

    is_reference = True

    def __init__(self, *, flushed: bool) -> None:
        self.name = "limit: os.write + fdatasync" if flushed else "limit: os.write"
        self.durability = DISK if flushed else PAGE_CACHE
        self._flushed = flushed

    def open(self, folder: Path, sessions: int) -> None:
        flags = os.O_RDWR | os.O_CREAT | os.O_APPEND
        self._files = [os.open(folder / str(session), flags) for session in range(sessions)]
        self._line = b"x" * (LINE_BYTES - 1) + b"\n"

    def append(self, session: int, text: str) -> None:
        os.write(self._files[session], self._line)
        if self._flushed:
            os.fdatasync(self._files[session])

    def append_batch(self, session: int, texts: Sequence[str]) -> None:
        os.write(self._files[session], self._line * len(texts))

    def close(self) -> None:
        for file in self._files:
            os.close(file)


class OurCalls(Limit):
    """The system calls of one append to our log, and nothing else: no line is checked, encoded, hashed or remembered.

    They are what the promises need: the lock keeps other writers out, the look at the path and the one after the write tell
    whether the file was replaced, moved or overwritten, and those at the change feed whether a list was made in between.
    """

    is_reference = False

    def __init__(self, *, flushed: bool) -> None:
        super().__init__(flushed=flushed)
        self.name = "the system calls of our append" + (", flushed" if flushed else "")

    def open(self, folder: Path, sessions: int) -> None:
        super().open(folder, sessions)
        self._paths = [str(folder / str(session)) for session in range(sessions)]
        self._feed = os.open(folder / "feed", os.O_RDWR | os.O_CREAT | os.O_APPEND)

    def append(self, session: int, text: str) -> None:
        file = self._files[session]
        fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
        os.stat(self._paths[session], follow_symlinks=False)  # noqa: PTH116 - the call is what is measured
        os.lseek(self._feed, 0, os.SEEK_END)
        os.write(file, self._line)
        os.fstat(file)
        os.lseek(self._feed, 0, os.SEEK_END)
        fcntl.flock(file, fcntl.LOCK_UN)
        if self._flushed:
            os.fdatasync(file)

    def close(self) -> None:
        super().close()
        os.close(self._feed)


class SharedFlush(Limit):
    """What no store of asyncio can beat: a future for each caller, one write for all who wait, and its flush in a thread."""

    def __init__(self) -> None:
        super().__init__(flushed=True)
        self._waiting, self._is_busy = list[asyncio.Future[None]](), False
        self._pool = ThreadPoolExecutor(1)

    async def append_async(self, session: int, text: str) -> None:
        loop = asyncio.get_running_loop()
        future = loop.create_future()
        self._waiting.append(future)
        if not self._is_busy:
            self._is_busy = True
            loop.call_soon(self._commit, loop)
        await future

    def _commit(self, loop: asyncio.AbstractEventLoop) -> None:
        taken, self._waiting = self._waiting, []
        os.write(self._files[0], self._line * len(taken))
        self._pool.submit(self._flush, loop, taken)

    def _flush(self, loop: asyncio.AbstractEventLoop, taken: "list[asyncio.Future[None]]") -> None:
        os.fdatasync(self._files[0])
        loop.call_soon_threadsafe(self._report, loop, taken)

    def _report(self, loop: asyncio.AbstractEventLoop, taken: "list[asyncio.Future[None]]") -> None:
        for future in taken:
            future.set_result(None)
        self._is_busy = bool(self._waiting)
        if self._is_busy:
            loop.call_soon(self._commit, loop)

    def close(self) -> None:
        self._pool.shutdown()
        super().close()


class NaiveLines(Store):
    """What most tools do: `json.dumps` and `open("a")` for each message."""

    name, durability = 'json.dumps + open("a")', PAGE_CACHE

    def open(self, folder: Path, sessions: int) -> None:
        self._folder = folder

    def append(self, session: int, text: str) -> None:
        with (self._folder / f"{session}.jsonl").open("a", encoding="utf-8") as file:
            file.write(json.dumps({"role": "user", "content": text, "timestamp": "2026-01-01T00:00:00Z"}) + "\n")

    def read(self, session: int) -> int:
        with (self._folder / f"{session}.jsonl").open(encoding="utf-8") as file:
            return sum(1 for line in file if json.loads(line)["role"] == "user")


class RewrittenMetadata(NaiveLines):
    """The same, with a metadata file rewritten for each message."""

    name, durability = "the same + metadata.json rewritten", PAGE_CACHE

    def append(self, session: int, text: str) -> None:
        super().append(session, text)
        known = {"session_id": str(session), "updated_at": "2026-01-01T00:00:00Z", "tags": [], "status": "active"}
        (self._folder / f"{session}.json").write_text(json.dumps(known, indent=2), encoding="utf-8")


class Wal(Store):
    """sqlite3 with a write-ahead log: one table, one transaction a message."""

    def __init__(self, synchronous: str) -> None:
        self.name = f"sqlite3 WAL, synchronous={synchronous}"
        self.durability = DISK if synchronous == "FULL" else PAGE_CACHE
        self._synchronous = synchronous

    def open(self, folder: Path, sessions: int) -> None:
        self._base = sqlite3.connect(folder / "messages.db", isolation_level=None, check_same_thread=False)
        self._base.execute("PRAGMA journal_mode=WAL")
        self._base.execute(f"PRAGMA synchronous={self._synchronous}")
        self._base.execute(
            "CREATE TABLE messages (id INTEGER PRIMARY KEY, session TEXT, role TEXT, content TEXT, at TEXT)"
        )
        self._base.execute("CREATE INDEX by_session ON messages (session, id)")

    def append(self, session: int, text: str) -> None:
        row = (str(session), "user", text, "2026-01-01T00:00:00Z")
        self._base.execute("INSERT INTO messages (session, role, content, at) VALUES (?, ?, ?, ?)", row)

    def append_batch(self, session: int, texts: Sequence[str]) -> None:
        rows = [(str(session), "user", text, "2026-01-01T00:00:00Z") for text in texts]
        self._base.execute("BEGIN")
        self._base.executemany("INSERT INTO messages (session, role, content, at) VALUES (?, ?, ?, ?)", rows)
        self._base.execute("COMMIT")

    def read(self, session: int) -> int:
        found = self._base.execute(
            "SELECT role, content, at FROM messages WHERE session = ? ORDER BY id", (str(session),)
        )
        return len(found.fetchall())

    def close(self) -> None:
        self._base.close()


Maker = Callable[[], Store]
OURS: tuple[Maker, ...] = (
    lambda: OursByManager("always"),
    lambda: OursByManager("everysec"),
    lambda: OursByManager("no"),
    OursByMemory,
    lambda: OursByLog("always"),
    lambda: OursByLog("everysec"),
    lambda: OursByLog("no"),
    lambda: OursByLog(None),
)
PLAIN: tuple[Maker, ...] = (
    lambda: Limit(flushed=False),
    lambda: Limit(flushed=True),
    NaiveLines,
    RewrittenMetadata,
    lambda: Wal("OFF"),
    lambda: Wal("FULL"),
)

LINE_BYTES = 300


def _text_of_one_line() -> str:
    """Find the text whose event is a line of 300 bytes, somewhere in the middle of a session."""
    log = MemoryEventLog()
    log.append("s", [e.SessionCreated()], expected_version=0)
    log.append("s", [e.MessageAdded(role="user", content="") for _ in range(1000)])
    log.append("s", [e.MessageAdded(role="user", content="")])
    (empty,) = log.lines("s", 1001)
    return ("the quick brown fox jumps over the lazy dog, " * 7)[: LINE_BYTES - len(empty) - 1]


TEXT = _text_of_one_line()
"""The message of all workloads: with it an event is a line of 300 bytes."""


def bare_decode(path: Path) -> int:
    """Decode a log's lines and drop the events: what reading is compared with. Returns how many there were."""
    decoder, count, rest = msgspec.json.Decoder(e.AnyEvent), 0, b""
    with path.open("rb", buffering=0) as file:
        while block := file.read(64 * 1024):
            whole, lf, rest = (rest + block).rpartition(b"\n")
            count += len(decoder.decode_lines(whole + lf))
    return count
