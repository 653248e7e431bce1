"""Logs in memory: the smallest backend, and the executable definition of the port."""

import threading
from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import AbstractContextManager
from dataclasses import dataclass, field
from itertools import count
from weakref import WeakSet

from eventstore.errors import NotSupported
from eventstore.ids import TRASH
from eventstore.log.base import Changes
from eventstore.log.engine import EventLog
from eventstore.log.port import (
    UNKEPT_KEYS,
    UNSEEN_WRITERS,
    Backend,
    Capabilities,
    Cut,
    Exists,
    Key,
    Missing,
    Moved,
    Reading,
    Tip,
)
from eventstore.log.watch import Bell, Watch
from eventstore.record import codec, hash_chain

_CHUNK_LINES = 256


@dataclass
class _Log:
    """The lines of one log, each with its LF, the first of them numbered `first`."""

    life: str
    first: int
    lines: list[bytes] = field(default_factory=list)
    blobs: dict[str, bytes] = field(default_factory=dict)
    size: int = 0
    changes: int = 0

    def add(self, data: bytes) -> None:
        self.lines += [line + b"\n" for line in codec.lines(data)]
        self.size += len(data)

    def end(self) -> Tip:
        parts, head = hash_chain.split(self.lines[-1]), codec.head(self.lines[-1])
        assert parts is not None and head is not None  # noqa: S101, PT018 - only records come in
        return Tip(parts[1], self.size, head.seq, head.at, self.life)

    def ends_at(self, tip: Tip) -> bool:
        return self.life == tip.life and self.first + len(self.lines) - 1 == tip.seq and self._has(tip)

    def place_behind(self, tip: Tip) -> int | None:
        """Return the index of the line after a tip; None if the log does not have it."""
        return tip.seq - self.first + 1 if self._has(tip) else None

    def _has(self, tip: Tip) -> bool:
        index = tip.seq - self.first
        parts = hash_chain.split(self.lines[index]) if 0 <= index < len(self.lines) else None
        return parts is not None and parts[1] == tip.digest


class MemoryBackend(Backend):
    """Logs that exist as long as the object. One lock, safe for threads."""

    capabilities = Capabilities(durable=False, shared=False)

    def __init__(self) -> None:
        self._logs: dict[str, _Log] = {}
        self._store_blobs: dict[str, dict[str, bytes]] = {}
        self._changes: dict[str, int] = {}
        self._numbers = count(1)
        self._bells: WeakSet[Bell] = WeakSet()
        self._mutex = threading.Lock()
        self._locks: dict[str, threading.RLock] = {}

    def where(self, log: str) -> str:
        return "memory"

    def tip(self, log: str) -> Tip:
        with self._mutex:
            return self._find(log).end()

    def read(self, log: str, after: Tip | int = 0, upto: int | None = None) -> Reading:
        with self._mutex:
            found = self._find(log)
            if isinstance(after, int):
                start: int | None = max(after - found.first + 1, 0)
            else:
                start = None if after.life not in ("", found.life) else found.place_behind(after)
            if start is None:
                raise Moved(log)
            lines = found.lines[start : None if upto is None else max(upto - found.first + 1, start)]
            offset = found.size - sum(map(len, found.lines[start:]))
            end = offset + sum(map(len, lines))
        chunks = (b"".join(lines[one : one + _CHUNK_LINES]) for one in range(0, len(lines), _CHUNK_LINES))
        return Reading(found.life, offset, end, chunks)

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
        with self._mutex:
            if expect is None:
                if log in self._logs:
                    raise Exists(log)
                found = _Log(f"memory-{next(self._numbers)}", tip.seq - lines.count(b"\n") + 1)
            else:
                found = self._expect(log, expect)
            found.add(lines)
            self._put(log, found)
            return found.life

    def sync(self, log: str, tip: Tip) -> None:
        """Do nothing: there is no stable storage."""

    def write_whole(
        self,
        log: str,
        fill: Callable[[Callable[[bytes], None]], Tip],
        blobs: Iterable[tuple[str, Iterable[bytes]]] = (),
        *,
        expect: Tip | None,
    ) -> str:
        parts: list[bytes] = []
        end = fill(parts.append)
        data = b"".join(parts)
        kept = {name: b"".join(pieces) for name, pieces in blobs}
        with self._mutex:
            if expect is None and log in self._logs:
                raise Exists(log)
            if expect is not None:
                kept = self._expect(log, expect).blobs
            found = _Log(f"memory-{next(self._numbers)}", end.seq - data.count(b"\n") + 1, blobs=kept)
            found.add(data)
            self._put(log, found)
            return found.life

    def overwrite(self, log: str, seq: int, offset: int, line: bytes) -> None:
        with self._mutex:
            found = self._find(log)
            index = seq - found.first
            if not 0 <= index < len(found.lines) or len(found.lines[index]) != len(line):
                raise Moved(log)
            if sum(map(len, found.lines[:index])) != offset:
                raise Moved(log)
            found.lines[index] = line
            self._put(log, found)

    def cut(self, log: str, tip: Tip) -> Cut:
        with self._mutex:
            found = self._find(log)
            start = 0 if tip.offset == 0 else found.place_behind(tip)
            if start is None:
                raise Moved(log)
            removed = b"".join(found.lines[start:])
            name = f"quarantine/{next(self._numbers)}-{tip.offset}.bin"
            found.blobs[name] = removed
            del found.lines[start:]
            found.size -= len(removed)
            self._put(log, found)
            return Cut(name, len(removed))

    def move(self, log: str, to: str, *, expect: Tip | None) -> None:
        with self._mutex:
            found = self._find(log) if expect is None else self._expect(log, expect)
            if to in self._logs:
                raise Exists(to)
            del self._logs[log]
            self._put(to, found)
            self._note(log)

    def delete(self, log: str, *, expect: Tip | None) -> bool:
        with self._mutex:
            if log not in self._logs:
                return False
            if expect is not None:
                self._expect(log, expect)
            del self._logs[log]
            self._note(log)
            return True

    def changed(self, since: str | None = None) -> Changes:
        with self._mutex:
            before, lives = since.partition(":")[::2] if since else ("", "")
            known = before == str(id(self)) and lives.isdecimal()
            names = (name for name, number in self._changes.items() if not known or number > int(lives))
            logs = [(name, self._text(name)) for name in names if known or name in self._logs]
            return Changes(logs, f"{id(self)}:{next(self._numbers)}", complete=not known)

    def _text(self, log: str) -> str | None:
        return f"{self._logs[log].life} {self._changes[log]}" if log in self._logs else None

    def trashed(self) -> list[str]:
        with self._mutex:
            return sorted(name.removeprefix(TRASH) for name in self._logs if name.startswith(TRASH))

    def find_key(self, log: str, key: str) -> tuple[int, int] | None:
        raise NotSupported(log, "memory", UNKEPT_KEYS, "read the log")

    def lock(self, name: str) -> AbstractContextManager[object]:
        with self._mutex:
            return self._locks.setdefault(name, threading.RLock())

    def blobs(self, log: str) -> list[str]:
        with self._mutex:
            return sorted(self._blobs_of(log))

    def get_blob(self, log: str, name: str) -> Iterator[bytes]:
        with self._mutex:
            data = self._blobs_of(log).get(name)
        if data is None:
            raise Missing(name)
        return iter([data])

    def put_blob(self, log: str, name: str, data: bytes) -> None:
        with self._mutex:
            self._blobs_of(log)[name] = data

    def delete_blob(self, log: str, name: str) -> None:
        with self._mutex:
            self._blobs_of(log).pop(name, None)

    def _blobs_of(self, log: str) -> dict[str, bytes]:
        if log.startswith("_") and not log.startswith(("_trash/", "_template.")):
            return self._store_blobs.setdefault(log, {})
        return self._find(log).blobs

    def watch(self, log: str | None) -> Watch:
        bell = Bell()
        with self._mutex:
            self._bells.add(bell)
        return bell

    def is_open(self, log: str) -> bool:
        raise NotSupported(log, "memory", UNSEEN_WRITERS, "ask its writers")

    def flush(self) -> None:
        """Do nothing: there is no stable storage."""

    def close(self) -> None:
        """Do nothing: the logs exist as long as the object."""

    def _find(self, log: str) -> _Log:
        found = self._logs.get(log)
        if found is None:
            raise Missing(log)
        return found

    def _expect(self, log: str, tip: Tip) -> _Log:
        found = self._find(log)
        if not found.ends_at(tip):
            raise Moved(log)
        return found

    def _put(self, log: str, found: _Log) -> None:
        self._logs[log] = found
        self._note(log)

    def _note(self, log: str) -> None:
        """Record that a log changed, for `changed` and for watches."""
        if log.startswith(TRASH):
            return
        self._changes[log] = next(self._numbers)
        for bell in list(self._bells):
            bell.ring({log})


class MemoryEventLog(EventLog):
    """Logs that exist as long as the object, safe for threads."""

    def __init__(self, *, max_event_bytes: int = codec.MAX_EVENT_BYTES) -> None:
        super().__init__(MemoryBackend(), max_event_bytes=max_event_bytes)
