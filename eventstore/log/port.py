"""The port: what an engine of storage does for `EventLog`. It knows lines of bytes and small blobs, and no events.

A log is a name and whole lines of bytes. Names are those of `eventstore.ids`: a session's id, a template's, the registry's, or
`_trash/NAME`, for a log in the trash is a log with another name. A backend is done when it passes
`eventstore.log.contract.BackendContract`.
"""

from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import AbstractContextManager
from dataclasses import dataclass
from typing import NamedTuple, Protocol, TypeAlias

from eventstore.log.base import Changes
from eventstore.log.watch import Watch
from eventstore.record.scan import Tip

__all__ = [
    "UNKEPT_KEYS",
    "UNSEEN_WRITERS",
    "Backend",
    "Busy",
    "Capabilities",
    "Changes",
    "Cut",
    "Exists",
    "Key",
    "Missing",
    "Moved",
    "NotStored",
    "Poisoned",
    "PortError",
    "Reading",
    "Refused",
    "Tip",
    "Unclear",
]


UNSEEN_WRITERS = "tell whether a living program has a log open for writing"
UNKEPT_KEYS = "find an idempotency key without reading the log"
"""What NotSupported says where `shows_writers` or `keeps_tip` is missing from the capabilities."""


class PortError(Exception):
    """What a backend raises. The engine translates it: no caller of `EventLog` sees one."""


class Missing(PortError):
    """There is no such log. Nothing was done."""


class Exists(PortError):
    """There is such a log already. Nothing was done."""


class Moved(PortError):
    """The log does not end, or does not stand, where the caller thought. Nothing was done by this call.

    An earlier attempt of the same caller may be the reason, so the engine looks before it believes that somebody else wrote.
    """


class Refused(PortError):
    """The engine of storage refused, and surely nothing was written. `where` and `errno` say what refused, for the error."""

    def __init__(self, where: str, errno: int, cause: str = "") -> None:
        super().__init__(where, errno, cause)
        self.where, self.errno, self.cause = where, errno, cause


class Unclear(Refused):
    """The answer was lost: the write may be there, may come, or may never come. The engine looks, and tries the same again."""


class Busy(PortError):
    """The call would have had to wait, and was asked not to. Nothing was done."""


class Poisoned(Refused):
    """Forcing this log to stable storage failed before, and no later success would mean anything. Nothing was written."""


class NotStored(Refused):
    """The bytes were written and could not be forced to stable storage. Nobody can know whether they survive a power loss."""


@dataclass(frozen=True)
class Capabilities:
    """What a backend can do. What it cannot raises `NotSupported`; no method returns an empty answer instead.

    - `durable`: it survives the end of the process;
    - `keeps_tip`: it keeps version, hash and idempotency keys itself, so that an append need not read the log first;
    - `torn_tails`: a crash may leave half a line at the end;
    - `blocking`: calls wait for a network, so they never run on an event loop;
    - `shows_writers`: `is_open` tells whether a living program has a log open for writing;
    - `shared`: other processes may use the same store.
    """

    durable: bool = True
    keeps_tip: bool = False
    torn_tails: bool = False
    blocking: bool = False
    shows_writers: bool = False
    shared: bool = True


class Reading(NamedTuple):
    """A log as it was at the moment of the call.

    `life` names this incarnation of the log: one that was deleted and made anew has another. `offset` is the byte of the log at
    which `chunks` begin, `end` where they end. Chunks end anywhere; the last line may be torn where the backend has torn tails.
    """

    life: str
    offset: int
    end: int
    chunks: Iterator[bytes]


class Cut(NamedTuple):
    """What `Backend.cut` removed: the blob that keeps it, as `log.repaired` names it, and how many bytes."""

    quarantine: str
    removed_bytes: int


Key: TypeAlias = tuple[str, int, int]
"""An idempotency key, and the first and the last number of the append it came with."""


class Backend(Protocol):
    """One store of logs. Safe for threads; for processes where `capabilities.shared`.

    Every method that takes `expect` does nothing and raises Moved when the log does not end there: same incarnation, version,
    hash. Errors of the engine underneath come out as PortError, never raw.
    """

    @property
    def capabilities(self) -> Capabilities:
        """What this backend can do."""

    def where(self, log: str) -> str:
        """Name the place of a log for errors, without passwords."""

    def tip(self, log: str) -> Tip:
        """Return where a log seems to end, at a price that does not grow with it. Raises Missing."""

    def read(self, log: str, after: Tip | int = 0, upto: int | None = None) -> Reading:
        """Read the lines behind a tip or a number, to the end of this moment, or at least to line `upto`.

        A tip without a life is found by its version and hash; its offset says where to look first. Raises Missing, and Moved
        where the log does not have that tip, has another life, or may have been overwritten in front of a tip with a life.
        """

    def append(
        self,
        log: str,
        lines: bytes,
        *,
        expect: Tip | None,
        tip: Tip,
        keys: Sequence[Key] = (),
        sync: bool = True,
        wait: bool = True,
    ) -> str:
        """Append whole lines, all or nothing; return the life of the log. None for `expect` makes a new log.

        `tip` is where the log ends afterwards. With `sync` it returns when the durability level is reached, else `sync` is to be
        called. A lone line feed gives a last record the one that a crash took: `expect` is the end of that record then.
        Without `wait` it raises Busy where it would have to wait for a lock or to open the log.
        Raises Missing, Exists, Moved, Refused, Unclear, NotStored, Poisoned.
        """

    def sync(self, log: str, tip: Tip) -> None:
        """Return when a log is durable up to a tip, as the durability level asks. Raises NotStored."""

    def write_whole(
        self,
        log: str,
        fill: Callable[[Callable[[bytes], None]], Tip],
        blobs: Iterable[tuple[str, Iterable[bytes]]] = (),
        *,
        expect: Tip | None,
    ) -> str:
        """Write a log as a whole, which nobody sees before it is durable; return its life.

        `fill` is called once: it passes the lines, in pieces that end anywhere, to what it is given, and returns where they end.
        What it raises comes out, and nothing was written. None for `expect` makes a new log, with `blobs` beside it; else the log
        that ends there is replaced and keeps its blobs. Raises Exists, Missing, Moved, Refused.
        """

    def overwrite(self, log: str, seq: int, offset: int, line: bytes) -> None:
        """Put a line in the place of the line `seq`, which begins at byte `offset` and is as long. It is durable then.

        Raises Missing, and Moved where no line `seq` of that length begins there.
        """

    def cut(self, log: str, tip: Tip) -> Cut:
        """Remove all that stands behind a tip, and keep it in a blob, both durable. Raises Missing, Moved."""

    def move(self, log: str, to: str, *, expect: Tip | None) -> None:
        """Give a log, with its blobs, another name. Raises Missing, Exists, Moved, Refused."""

    def delete(self, log: str, *, expect: Tip | None) -> bool:
        """Delete a log with its blobs; False where there was none. Raises Moved, Refused.

        None for `expect` deletes whatever is there, an empty tip only what a killed creation or deletion left without a line.
        """

    def changed(self, since: str | None = None) -> Changes:
        """Tell in one call which logs may have changed since a token; None, and a token that is not known, mean all.

        It may name a log that did not change; it never leaves out one whose append returned before this call began. Logs in the
        trash are not named.
        """

    def trashed(self) -> list[str]:
        """Name the logs in the trash, without `_trash/`."""

    def find_key(self, log: str, key: str) -> tuple[int, int] | None:
        """Return what an idempotency key came with, in the log that lives now. Raises NotSupported without `keeps_tip`."""

    def lock(self, name: str) -> AbstractContextManager[object]:
        """Hold a lock that keeps others out, in all processes, until the block ends; a thread may take it again inside.

        `log/NAME` is the lock that appends to that log take themselves.
        """

    def blobs(self, log: str) -> list[str]:
        """Name the blobs beside a log, sorted. Raises Missing."""

    def get_blob(self, log: str, name: str) -> Iterator[bytes]:
        """Stream a blob. Raises Missing."""

    def put_blob(self, log: str, name: str, data: bytes) -> None:
        """Write a blob, whole or not at all, and durable. Raises Missing for the log, Refused."""

    def delete_blob(self, log: str, name: str) -> None:
        """Delete a blob; nothing happens where it is not there. Raises Refused."""

    def watch(self, log: str | None) -> Watch:
        """Watch one log, or all, for changes: a hint, never the truth."""

    def is_open(self, log: str) -> bool:
        """Return whether a living program has the log open. Raises NotSupported without `shows_writers`."""

    def flush(self) -> None:
        """Return when everything appended so far is on stable storage, whatever the durability level. Raises NotStored."""

    def close(self) -> None:
        """Bring everything to stable storage and let go of handles; another call opens them anew."""
