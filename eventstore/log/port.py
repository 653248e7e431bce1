"""The port: what a storage engine does for `EventLog`. It knows lines of bytes and small blobs, but no events.

A log is a name and complete lines of bytes. Names are those of `eventstore.ids`: the id of a session, a template or the
registry, or `_trash/NAME`: a log in the trash is a log with another name. A backend is done when it passes
`eventstore.log.contract.BackendContract`.
"""

from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import AbstractContextManager
from dataclasses import dataclass
from typing import Any, NamedTuple, Protocol, TypeAlias

from eventstore.errors import NotSupported
from eventstore.log.base import Changes
from eventstore.log.watch import Watch
from eventstore.record.scan import Tip

__all__ = [
    "UNHURRIED",
    "UNJOINED",
    "UNKEPT_KEYS",
    "UNKEPT_TABLES",
    "UNSEEN_WRITERS",
    "Backend",
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
    "Seen",
    "Swap",
    "Tables",
    "Tip",
    "Unclear",
]


UNSEEN_WRITERS = "check whether a running program has a log open for writing"
UNKEPT_KEYS = "find an idempotency key without reading the log"
UNKEPT_TABLES = "keep tables beside the logs"
UNJOINED = "append to many logs in one step"
UNHURRIED = "append without waiting"
"""Texts of NotSupported for `shows_writers`, `keeps_tip`, `keeps_tables`, `joins_appends` and `at_once`."""


class PortError(Exception):
    """An error of a backend. The engine translates it: callers of `EventLog` never see it."""


class Missing(PortError):
    """There is no such log. Nothing was done."""


class Exists(PortError):
    """A log of that name exists already. Nothing was done."""


class Moved(PortError):
    """The log has not the end, or not the line, that the caller expected. This call did nothing.

    An earlier attempt of the same caller may be the reason, so the engine reads before it concludes that another writer wrote.
    """


class Refused(PortError):
    """The storage engine refused, and certainly nothing was written. `where` and `errno` describe what refused, for the error."""

    def __init__(self, where: str, errno: int, cause: str = "") -> None:
        super().__init__(where, errno, cause)
        self.where, self.errno, self.cause = where, errno, cause


class Unclear(Refused):
    """The answer was lost: the write may be there, may come later, or may never come. The engine reads, then repeats the same."""


class Poisoned(Refused):
    """An earlier flush of this log to stable storage failed, so a later success would prove nothing. Nothing was written."""


class NotStored(Refused):
    """The bytes were written, but the flush to stable storage failed. It is unknown whether they survive a power loss."""


@dataclass(frozen=True)
class Capabilities:
    """What a backend can do. A missing capability raises `NotSupported`; no method returns an empty answer instead.

    - `durable`: it survives the end of the process;
    - `keeps_tip`: it stores version, hash and idempotency keys itself, so that an append need not read the log first;
    - `torn_tails`: a crash may leave an incomplete line at the end;
    - `blocking`: calls wait for a network, so they never run on an event loop;
    - `shows_writers`: `is_open` reports whether a running program has a log open for writing;
    - `shared`: other processes may use the same store;
    - `keeps_tables`: it keeps tables of what is derived from logs, and answers questions about them in SQL;
    - `joins_appends`: `append_many` appends to many logs at little more than the price of one;
    - `at_once`: `append_at_once` appends where nothing has to be waited for, so it may run on an event loop;
    - `write_seconds`: the least time between two appends to one log;
    - `residue`: a description of where overwritten or deleted text stays for a while, out of reach of this package.
    """

    durable: bool = True
    keeps_tip: bool = False
    torn_tails: bool = False
    blocking: bool = False
    shows_writers: bool = False
    shared: bool = True
    keeps_tables: bool = False
    joins_appends: bool = False
    at_once: bool = False
    write_seconds: float = 0.0
    residue: tuple[str, ...] = ()


class Reading(NamedTuple):
    """A log as it was at the moment of the call.

    `life` names this incarnation of the log: a log that was deleted and created again has another. `offset` is the byte
    of the log at which `chunks` begin, `end` where they end. Chunks can end inside a line; the last line may be torn if
    the backend has torn tails.
    """

    life: str
    offset: int
    end: int
    chunks: Iterator[bytes]


class Cut(NamedTuple):
    """The result of `Backend.cut`: the blob that keeps the removed bytes, as `log.repaired` names it, and how many bytes."""

    quarantine: str
    removed_bytes: int


Key: TypeAlias = tuple[str, int, int]
"""An idempotency key, and the first and last number of its append."""


class Swap(NamedTuple):
    """One append of `Backend.append_many`: the arguments of `append`."""

    log: str
    lines: bytes
    expect: Tip
    tip: Tip
    keys: Sequence[Key] = ()


class Seen(NamedTuple):
    """What a look at derived tables returned: the row of the question, and where logs and tables were at that moment.

    `token` says which changes of logs were seen, `edition` counts the writes of the tables.
    """

    row: tuple[Any, ...]
    token: str
    edition: int


class Tables(Protocol):
    """Tables in the store that are made from its logs and can be thrown away. What is in them is a matter of who asks.

    They are written by compare-and-swap on their edition: who writes has seen what all others wrote. In the SQL, PostgreSQL's,
    `{s}` is the schema. Raises Refused, and Missing where the tables of that name were not made.
    """

    def define(self, name: str, script: str) -> None:
        """Make tables by statements that do nothing where they are there."""

    def settled(self, name: str) -> str | None:
        """Return the token up to which the tables have what changed; None where they were never complete."""

    def look(self, name: str, since: str | None, query: str, args: Sequence[object]) -> Seen:
        """Ask a question with one row for an answer, and what changed since a token, in one look.

        The query may read `changes (name, text)`, the logs that changed since then, as `Backend.changed` names them, and
        `present (name, text)`, all logs; None, and a token that is not known, mean that all changed. `{complete}` says so in the
        query.
        """

    def ask(self, name: str, query: str, args: Sequence[object]) -> list[tuple[Any, ...]]:
        """Ask a question."""

    def write(self, name: str, edition: int | None, settled: str | None, parts: str, args: Sequence[object]) -> bool:
        """Write, where the edition is still that one; return whether it was. None is any edition.

        `parts` are common table expressions, each behind a comma, that do something for each row of `mine`. They are written
        together with `settled`, the token of the look that is now dealt with, if any.
        """


class Backend(Protocol):
    """One store of logs. Safe for threads; for processes where `capabilities.shared`.

    Every method with `expect` does nothing and raises Moved if the log does not end there: same incarnation, version,
    hash. Errors of the underlying engine are raised as PortError, never raw.
    """

    @property
    def capabilities(self) -> Capabilities:
        """What this backend can do."""

    def where(self, log: str) -> str:
        """Return the place of a log for error texts, without passwords."""

    def tip(self, log: str) -> Tip:
        """Return where a log seems to end, at a constant cost. Raises Missing, and Moved for a damaged end."""

    def read(self, log: str, after: Tip | int = 0, upto: int | None = None) -> Reading:
        """Read the lines after a tip or a number, to the present end, or at least to line `upto`.

        A tip without a life is found by its version and hash; its offset is where to look first. Raises Missing, and Moved if the
        log does not have that tip, has another life, or may have been overwritten before a tip with a life.
        """

    def read_small(self, log: str, most_bytes: int) -> bytes | None:
        """Read all bytes of a log, or return None if it has more than `most_bytes`. Raises Missing.

        Nothing is remembered of the log, so that reading very many of them costs little.
        """
        reading = self.read(log)
        return b"".join(reading.chunks) if reading.end <= most_bytes else None

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
        """Append complete lines, all or nothing; return the life of the log. None for `expect` makes a new log.

        `tip` is where the log ends afterwards. With `sync` it returns when the durability level is reached, else the caller calls
        `sync`. A single line feed completes a last record that lost its own in a crash: then `expect` is the end of that record.
        After Unclear any complete batches of them may be there: what a reader may have seen stays.
        Raises Missing, Exists, Moved, Refused, Unclear, NotStored, Poisoned.
        """

    def append_many(self, swaps: Sequence[Swap]) -> list[str | None]:
        """Append to several existing logs in one step, as `append` does with `sync`; return the life of each log.

        Each log is there once. None for a log to which nothing was written: `append` finds out why, or waits where this does
        not. Raises Unclear and NotStored, which hold for all of them, and NotSupported without `joins_appends`.
        """
        raise NotSupported("", self.where(""), UNJOINED, "append to one after the other")

    def append_at_once(self, log: str, lines: bytes, *, expect: Tip, tip: Tip) -> bool | None:
        """Append as `append` does, if no lock, no flush and no opening of a file has to be waited for.

        Returns None if nothing was done: `append` finds out why, or waits. Else whether the lines are as durable as the level
        asks; if not, the caller calls `sync`. Raises Refused, Unclear, and NotSupported without `at_once`.
        """
        raise NotSupported(log, self.where(log), UNHURRIED, "append, in a thread")

    def sync(self, log: str, tip: Tip) -> None:
        """Return when a log is durable up to a tip, as the durability level asks. Raises NotStored, Missing."""

    def write_whole(
        self,
        log: str,
        fill: Callable[[Callable[[bytes], None]], Tip],
        blobs: Iterable[tuple[str, Iterable[bytes]]] = (),
        *,
        expect: Tip | None,
    ) -> str:
        """Write a complete log, which becomes visible only when it is durable; return its life.

        `fill` is called once, with a function that receives the lines in pieces of any size; it returns where the lines end. Its
        errors are raised, and then nothing was written. None for `expect` makes a new log with `blobs`; else the log that ends
        there is replaced and keeps its blobs. Raises Exists, Missing, Moved, Refused.
        """

    def overwrite(self, log: str, seq: int, offset: int, line: bytes) -> None:
        """Replace the line `seq`, which begins at byte `offset`, by a line of the same length, durably.

        Raises Missing, and Moved if no line `seq` of that length begins there.
        """

    def cut(self, log: str, tip: Tip) -> Cut:
        """Move everything after a tip into a blob, durably. Raises Missing, Moved."""

    def move(self, log: str, to: str, *, expect: Tip | None) -> None:
        """Move a log, with its blobs, to another name. Raises Missing, Exists, Refused, and Moved if `expect` is given."""

    def delete(self, log: str, *, expect: Tip | None) -> bool:
        """Delete a log with its blobs; return False if there was none. Raises Moved, Refused.

        Moved only if `expect` is given. None deletes any log. An empty tip deletes only a log without lines, left by a
        killed creation or deletion.
        """

    def changed(self, since: str | None = None) -> Changes:
        """Return in one call which logs may have changed since a token; None and an unknown token mean all.

        It may name a log that did not change. It never omits a log whose append returned before this call began. Logs in the
        trash are not named.
        """

    def trashed(self) -> list[str]:
        """List the logs in the trash, without `_trash/`."""

    def find_key(self, log: str, key: str) -> tuple[int, int] | None:
        """Return the append of an idempotency key, in the present life of the log. Raises NotSupported without `keeps_tip`."""

    def lock(self, name: str) -> AbstractContextManager[object]:
        """Hold a lock against all other threads and processes, until the block ends. A thread may take it again inside.

        Appends to a log take the lock `log/NAME`; it raises Missing if there is no such log.
        """

    def blobs(self, log: str) -> list[str]:
        """List the blobs of a log, sorted. Raises Missing."""

    def get_blob(self, log: str, name: str) -> Iterator[bytes]:
        """Stream a blob. Raises Missing."""

    def put_blob(self, log: str, name: str, data: bytes) -> None:
        """Write a blob, atomically and durably. Raises Missing for the log, Refused."""

    def delete_blob(self, log: str, name: str) -> None:
        """Delete a blob; do nothing if it does not exist. Raises Refused."""

    def tables(self) -> Tables:
        """Return the derived tables of this store. Raises NotSupported without `keeps_tables`."""
        raise NotSupported("", self.where(""), UNKEPT_TABLES, "keep them on this machine")

    def watch(self, log: str | None) -> Watch:
        """Watch one log, or all, for changes. A report is only a hint."""

    def is_open(self, log: str) -> bool:
        """Return whether a living program has the log open. Raises NotSupported without `shows_writers`."""

    def flush(self) -> None:
        """Return when everything appended so far is on stable storage, whatever the durability level. Raises NotStored."""

    def vacuum(self) -> tuple[str, ...]:
        """Remove overwritten and deleted bytes for good, as far as the engine can, and return the remaining `residue`.

        It may block all other calls for as long as it takes. Raises Refused.
        """
        return self.capabilities.residue

    def close(self) -> None:
        """Bring everything to stable storage and release handles; the next call opens them again."""
