"""Backends for tests: one that counts its calls, one that fails at a call, and a memory whose last line may be torn."""

from collections import Counter
from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import AbstractContextManager, suppress
from dataclasses import replace
from enum import StrEnum
from functools import partial
from typing import Any, TypeVar

from eventstore.backends.memory import MemoryBackend, _Log
from eventstore.log.base import Changes
from eventstore.log.port import (
    Backend,
    Capabilities,
    Cut,
    Exists,
    Key,
    Moved,
    NotStored,
    PortError,
    Reading,
    Refused,
    Swap,
    Tables,
    Tip,
    Unclear,
)
from eventstore.log.watch import Watch
from eventstore.record import hash_chain

R = TypeVar("R")


class Killed(BaseException):
    """The process died at this call. It is no Exception, so that nobody handles it."""


class Passing:
    """A backend in front of another, where every call of the port passes `around`."""

    def __init__(self, inner: Backend) -> None:
        self.inner = inner
        self.capabilities = inner.capabilities

    def around(self, method: str, do: Callable[[], R], args: tuple[Any, ...] = ()) -> R:
        """Do one call of the port; `args` are what a fault must know of it."""
        return do()

    def where(self, log: str) -> str:
        return self.inner.where(log)

    def tip(self, log: str) -> Tip:
        return self.around("tip", partial(self.inner.tip, log))

    def read(self, log: str, after: Tip | int = 0, upto: int | None = None) -> Reading:
        return self.around("read", partial(self.inner.read, log, after, upto))

    def tables(self) -> Tables:
        return self.inner.tables()

    def vacuum(self) -> tuple[str, ...]:
        return self.around("vacuum", self.inner.vacuum)

    def read_small(self, log: str, most_bytes: int) -> bytes | None:
        return self.around("read_small", partial(self.inner.read_small, log, most_bytes))

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
        do = partial(self.inner.append, log, lines, expect=expect, tip=tip, keys=keys, sync=sync)
        return self.around("append", do, (log, lines, expect))

    def append_at_once(self, log: str, lines: bytes, *, expect: Tip, tip: Tip) -> bool | None:
        do = partial(self.inner.append_at_once, log, lines, expect=expect, tip=tip)
        return self.around("append_at_once", do, (log, lines, expect))

    def append_many(self, swaps: Sequence[Swap]) -> list[str | None]:
        return self.around("append_many", partial(self.inner.append_many, swaps))

    def sync(self, log: str, tip: Tip) -> None:
        self.around("sync", partial(self.inner.sync, log, tip))

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
        kept = [(name, list(pieces)) for name, pieces in blobs]

        def again(write: Callable[[bytes], None]) -> Tip:
            for part in parts:
                write(part)
            return end

        return self.around("write_whole", partial(self.inner.write_whole, log, again, kept, expect=expect), (expect,))

    def overwrite(self, log: str, seq: int, offset: int, line: bytes) -> None:
        self.around("overwrite", partial(self.inner.overwrite, log, seq, offset, line))

    def cut(self, log: str, tip: Tip) -> Cut:
        return self.around("cut", partial(self.inner.cut, log, tip))

    def move(self, log: str, to: str, *, expect: Tip | None) -> None:
        self.around("move", partial(self.inner.move, log, to, expect=expect), (expect,))

    def delete(self, log: str, *, expect: Tip | None) -> bool:
        return self.around("delete", partial(self.inner.delete, log, expect=expect), (expect,))

    def changed(self, since: str | None = None) -> Changes:
        return self.around("changed", partial(self.inner.changed, since))

    def trashed(self) -> list[str]:
        return self.around("trashed", self.inner.trashed)

    def find_key(self, log: str, key: str) -> tuple[int, int] | None:
        return self.around("find_key", partial(self.inner.find_key, log, key))

    def lock(self, name: str) -> AbstractContextManager[object]:
        return self.around("lock", partial(self.inner.lock, name))

    def blobs(self, log: str) -> list[str]:
        return self.around("blobs", partial(self.inner.blobs, log))

    def get_blob(self, log: str, name: str) -> Iterator[bytes]:
        return self.around("get_blob", partial(self.inner.get_blob, log, name))

    def put_blob(self, log: str, name: str, data: bytes) -> None:
        self.around("put_blob", partial(self.inner.put_blob, log, name, data))

    def delete_blob(self, log: str, name: str) -> None:
        self.around("delete_blob", partial(self.inner.delete_blob, log, name))

    def watch(self, log: str | None) -> Watch:
        return self.inner.watch(log)

    def is_open(self, log: str) -> bool:
        return self.around("is_open", partial(self.inner.is_open, log))

    def flush(self) -> None:
        self.around("flush", self.inner.flush)

    def close(self) -> None:
        self.around("close", self.inner.close)


class CountingBackend(Passing):
    """Counts calls by method. With `blocking` it says that calls wait for a network, so that the engine spares them."""

    def __init__(self, inner: Backend, *, blocking: bool = False) -> None:
        super().__init__(inner)
        self.capabilities = replace(inner.capabilities, blocking=blocking)
        self.calls: Counter[str] = Counter()

    def around(self, method: str, do: Callable[[], R], args: tuple[Any, ...] = ()) -> R:
        self.calls[method] += 1
        return do()


class Fault(StrEnum):
    """What happens at a call."""

    REFUSED = "refused"  # nothing is done, and that is sure
    UNCLEAR = "unclear"  # nothing is done, and nobody knows
    LOST = "lost"  # it is done, and the answer is lost
    MOVED = "moved"  # it is done, and the engine, which tried again by itself, says that the log is another
    AGAIN = "again"  # it is done twice, and the answer is the second one
    LATE = "late"  # the answer is lost, and it is done behind the next call
    NOT_STORED = "not stored"  # it is done, and not on stable storage
    BROKEN = "broken"  # what is read breaks off
    TORN = "torn"  # a part of the bytes is written, and the answer is lost
    TORN_AND_KILLED = "torn and killed"
    KILLED_BEFORE = "killed before"
    KILLED_AFTER = "killed after"


KILLS = [Fault.KILLED_BEFORE, Fault.KILLED_AFTER]
_CHANGING = [Fault.REFUSED, Fault.UNCLEAR, Fault.LOST, Fault.MOVED, Fault.AGAIN, Fault.LATE, *KILLS]
_FAULTS: dict[str, list[Fault]] = {
    "append": [*_CHANGING, Fault.NOT_STORED, Fault.TORN, Fault.TORN_AND_KILLED],
    "write_whole": _CHANGING,
    "overwrite": _CHANGING,
    "cut": _CHANGING,
    "move": _CHANGING,
    "delete": _CHANGING,
    "put_blob": [Fault.REFUSED, Fault.UNCLEAR, Fault.LOST, Fault.AGAIN, Fault.LATE, *KILLS],
    "sync": [Fault.NOT_STORED, *KILLS],
    "flush": [Fault.NOT_STORED, *KILLS],
    "close": [Fault.NOT_STORED, *KILLS],
    "read": [Fault.REFUSED, Fault.BROKEN, *KILLS],
    "get_blob": [Fault.REFUSED, Fault.BROKEN, *KILLS],
}


def faults_of(method: str, capabilities: Capabilities) -> list[Fault]:
    """List what may happen at a call of a method."""
    found = _FAULTS.get(method, [Fault.REFUSED, *KILLS])
    return [one for one in found if capabilities.torn_tails or not one.startswith("torn")]


class FaultyBackend(Passing):
    """Fails at the call number `at`, counted from 1 since `arm`; calls before and behind it are done."""

    def __init__(self, inner: Backend) -> None:
        super().__init__(inner)
        self.fault: Fault | None = None
        self.at = self.fired = 0
        self.methods: list[str] = []
        self.dead = False
        self._late: list[Callable[[], object]] = []

    def arm(self, at: int = 0, fault: Fault | None = None) -> None:
        """Count from here; without a fault only note which methods are called."""
        self.at, self.fault, self.methods = at, fault, []

    def settle(self) -> None:
        """Do what is late."""
        late, self._late = self._late, []
        for do in late:
            with suppress(PortError):
                do()

    def around(self, method: str, do: Callable[[], R], args: tuple[Any, ...] = ()) -> R:
        if self.dead:
            raise Killed
        self.methods.append(method)
        late, self._late = self._late, []
        try:
            if len(self.methods) == self.at and self.fault is not None:
                self.fired += 1
                return self._fail(self.fault, method, do, args)
            return do()
        finally:
            for one in late:
                with suppress(PortError):
                    one()

    def _fail(self, fault: Fault, method: str, do: Callable[[], R], args: tuple[Any, ...]) -> R:
        self._before(fault, do, args)
        found = do()
        if fault is Fault.BROKEN:
            return self._broken(found)
        if fault is Fault.AGAIN or (fault is Fault.MOVED and method in ("move", "delete") and args[0] is None):
            return self._again(method, do, args)
        if fault is Fault.LOST:
            raise Unclear("memory", 110, "the answer was lost")
        if fault is Fault.NOT_STORED:
            raise NotStored("memory", 5, "not flushed")
        if fault is Fault.MOVED:
            raise Exists(method) if method == "write_whole" and args[0] is None else Moved(method)
        self.dead = True
        raise Killed

    def _before(self, fault: Fault, do: Callable[[], object], args: tuple[Any, ...]) -> None:
        """Raise where the call is not done now."""
        if fault is Fault.REFUSED:
            raise Refused("memory", 28, "refused")
        if fault is Fault.UNCLEAR:
            raise Unclear("memory", 110, "the answer was lost")
        if fault is Fault.LATE:
            self._late.append(do)
            raise Unclear("memory", 110, "the answer was lost")
        if fault in (Fault.TORN, Fault.TORN_AND_KILLED):
            assert isinstance(self.inner, TornMemory)
            log, lines, expect = args
            self.inner.tear(log, lines[: len(lines) * 2 // 3], expect)
            if fault is Fault.TORN:
                raise Unclear("memory", 5, "the disk failed in the middle")
        if fault in (Fault.KILLED_BEFORE, Fault.TORN_AND_KILLED):
            self.dead = True
            raise Killed

    def _again(self, method: str, do: Callable[[], R], args: tuple[Any, ...]) -> R:
        if method == "write_whole":
            raise Exists(method) if args[0] is None else Moved(method)
        return do()

    def _broken(self, found: R) -> R:
        if isinstance(found, Reading):
            return found._replace(chunks=_breaking(found.chunks))
        return _breaking(found)  # type: ignore[return-value, arg-type]


def _breaking(chunks: Iterator[bytes]) -> Iterator[bytes]:
    """Give half of the first chunk, and break off."""
    for chunk in chunks:
        yield chunk[: len(chunk) // 2]
        break
    raise Refused("memory", 5, "the disk failed in the middle")


class TornMemory(MemoryBackend):
    """A memory where a crash may leave half a line at the end of a log, as on a disk."""

    capabilities = Capabilities(durable=False, shared=False, torn_tails=True)

    def tear(self, log: str, data: bytes, expect: Tip | None = None) -> None:
        """Leave a part of an append at the end of a log, or of a new one."""
        with self._mutex:
            found = self._logs.get(log)
            if found is None:
                found = _Log(f"memory-{next(self._numbers)}", expect.seq + 1 if expect else 1)
            if found.lines and not found.lines[-1].endswith(b"\n"):
                raise Moved(log)
            *whole, rest = data.split(b"\n")
            found.lines += [line + b"\n" for line in whole] + ([rest] if rest else [])
            found.size += len(data)
            self._put(log, found)

    def tip(self, log: str) -> Tip:
        with self._mutex:
            found = self._find(log)
            whole = [line for line in found.lines if line.endswith(b"\n")]
            if not whole or hash_chain.split(whole[-1]) is None:
                raise Moved(log)
            return _Log(found.life, found.first, whole, size=sum(map(len, whole))).end()

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
            found = self._logs.get(log)
            if found is not None and expect is not None:
                torn = bool(found.lines) and not found.lines[-1].endswith(b"\n")
                if lines == b"\n":
                    if not torn or not found.ends_at(expect):
                        raise Moved(log)
                    found.lines[-1] += b"\n"
                    found.size += 1
                    self._put(log, found)
                    return found.life
                if torn:
                    raise Moved(log)
                if not found.lines and (expect.life, expect.seq) == (found.life, found.first - 1):
                    found.add(lines)
                    self._put(log, found)
                    return found.life
        return super().append(log, lines, expect=expect, tip=tip, keys=keys, sync=sync)


class JoiningMemory(MemoryBackend):
    """A memory that appends to many logs in one step, as a server does."""

    capabilities = Capabilities(durable=False, shared=False, blocking=True, joins_appends=True)

    def append_many(self, swaps: Sequence[Swap]) -> list[str | None]:
        found: list[str | None] = []
        for log, lines, expect, tip, keys in swaps:
            try:
                found.append(self.append(log, lines, expect=expect, tip=tip, keys=keys))
            except PortError:
                found.append(None)
        return found


__all__ = ["KILLS", "CountingBackend", "Fault", "FaultyBackend", "JoiningMemory", "Killed", "Passing", "TornMemory"]
