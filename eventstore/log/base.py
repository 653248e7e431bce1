"""What logs give and take: plain values, which know nothing of where they come from."""

from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass, field
from typing import NamedTuple

import msgspec

from eventstore.errors import EventStoreError
from eventstore.events import Event
from eventstore.record import codec


class Appended(msgspec.Struct, frozen=True, gc=False):
    """Where an append stands: its events have the numbers `first` to `last`, both included.

    `repeated` says that an append with the same id was recorded before, and that this one wrote nothing.
    """

    first: int
    last: int
    repeated: bool = False


class Append(NamedTuple):
    """What one of several callers wants appended, as `EventLog.append` takes it."""

    session_id: str
    events: Sequence[Event]
    expected_version: int | None = None


Outcome = Appended | EventStoreError | ValueError


@dataclass
class Written:
    """What became of appends, in the order they came; to be believed once `flush` has returned.

    None stands for one that was not tried, because it would have had to wait.
    """

    outcomes: list[Outcome | None]
    unflushed: list[tuple[list[int], Callable[[], None]]] = field(default_factory=list)

    def is_done(self) -> bool:
        """Tell whether every append has its outcome, and no flush is left to do."""
        return not self.unflushed and None not in self.outcomes

    def flush(self) -> None:
        """Bring what was written to stable storage, as the durability level asks; where that fails the outcome is the error."""
        for places, flush in self.unflushed:
            try:
                flush()
            except EventStoreError as error:
                for place in places:
                    if isinstance(self.outcomes[place], Appended):
                        self.outcomes[place] = error
        self.unflushed.clear()


class Raw(NamedTuple):
    """The bytes of a log, unverified; the first `inherited` lines are a fork's parent's.

    `root` is the log whose chain it claims to be. The chunks end anywhere.
    """

    root: str
    inherited: int
    chunks: Iterator[bytes]


class Head(NamedTuple):
    """The end of a session's log: its version, when it was last written, its chain's hash (hex) and its size."""

    version: int
    at: str
    hash: str
    size_bytes: int


class Changes(NamedTuple):
    """The logs that may have changed, and the token to ask with next time; see `EventLog.changed`.

    `logs` holds the id of a log and a short text that differs whenever its content differs; None where the log is gone.
    `complete` says that these are all the logs there are: a log that is not named is gone too.
    """

    logs: list[tuple[str, str | None]]
    token: str
    complete: bool


NO_LOG = "!"
"""The text of something that stands where a log should be, and is none: a link, say. Lists report it; nobody follows it."""

BEGINNING = Head(0, "", "", 0)
"""The place in front of the first event of any log."""


@dataclass(frozen=True)
class Repair:
    """What it takes, or took, to repair a log: from `line` at `offset_bytes` on, `removed_bytes` move to quarantine.

    `restored` of the records behind the damage are appended anew, with the times they had; `aside` stay in quarantine only.
    The first `kept` events stay as they are. `forks` are forks that begin behind them, and are not intact afterwards;
    `checkpoint` is the size of the largest checkpoint that holds an event behind them, which the log will not fit any more, 0
    without one.
    """

    session_id: str
    line: int
    offset_bytes: int
    reason: str
    removed_bytes: int
    restored: int
    aside: int
    kept: int = 0
    forks: tuple[str, ...] = ()
    checkpoint: int = 0


def types_of(chunks: Iterable[bytes], most: int = 20) -> tuple[str, ...]:
    """Name the types of the first `most` events, for a conflict's sentence."""
    found: list[str] = []
    for chunk in chunks:
        for line in codec.lines(chunk):
            if len(found) == most:
                return tuple(found)
            found.append(codec.decode(line).type)
    return tuple(found)
