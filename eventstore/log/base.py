"""Arguments and results of logs: plain values, independent of any backend."""

from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass, field
from typing import NamedTuple

import msgspec

from eventstore.errors import EventStoreError
from eventstore.events import Event
from eventstore.log.changes import NO_LOG as NO_LOG
from eventstore.log.changes import Changes as Changes
from eventstore.record import codec
from eventstore.record.scan import Tip


class Appended(msgspec.Struct, frozen=True, gc=False):
    """The result of an append: its events have the numbers `first` to `last`, both included.

    `repeated`: an append with the same id was recorded before, and this one wrote nothing.
    """

    first: int
    last: int
    repeated: bool = False


class Append(NamedTuple):
    """The append of one of several callers; the fields are the arguments of `EventLog.append`."""

    session_id: str
    events: Sequence[Event]
    expected_version: int | None = None


Outcome = Appended | EventStoreError | ValueError


@dataclass
class Written:
    """The outcomes of appends, in their order. They are final after `flush` has returned.

    None means that an append is not made yet, because it has to wait: `left` has the places of such appends to one log, and the
    function that makes them and returns their outcomes.
    """

    outcomes: list[Outcome | None]
    unflushed: list[tuple[list[int], Callable[[], None]]] = field(default_factory=list)
    left: list[tuple[list[int], Callable[[], Sequence[Outcome]]]] = field(default_factory=list)

    def put(self, places: Sequence[int], outcomes: Sequence[Outcome]) -> None:
        """Note the outcomes of the appends at some places."""
        for place, outcome in zip(places, outcomes, strict=True):
            self.outcomes[place] = outcome

    def complete(self) -> None:
        """Make the appends that are left."""
        for places, make in self.left:
            self.put(places, make())
        self.left.clear()

    def flush(self) -> None:
        """Bring the written lines to stable storage, as the durability level asks; if that fails, the outcome is the error."""
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

    `root` is the log whose chain it claims to be. Chunks can end inside a line.
    """

    root: str
    inherited: int
    chunks: Iterator[bytes]


class Head(NamedTuple):
    """The end of a session's log: its version, the time of the last write, its chain's hash (hex) and its size."""

    version: int
    at: str
    hash: str
    size_bytes: int


def tip_of(head: Head) -> Tip:
    """Return where a log ends, as the port takes it. Raises ValueError if the hash is none."""
    return Tip(bytes.fromhex(head.hash), head.size_bytes, head.version, head.at)


def head_of(tip: Tip) -> Head:
    """Return where a log ends, as callers see it."""
    return Head(tip.seq, tip.at, tip.digest.hex(), tip.offset)


BEGINNING = Head(0, "", "", 0)
"""The position before the first event of any log."""


@dataclass(frozen=True)
class Repair:
    """A planned or completed repair of a log: from `line` at `offset_bytes` on, `removed_bytes` move to quarantine.

    `restored` is the number of records after the damage that are appended again, with their old times; `aside` records stay
    only in quarantine. The first `kept` events stay unchanged. `forks` are forks that begin after the kept events: they are not
    intact afterwards. `checkpoint` is the size of the largest checkpoint that covers an event after the kept ones; the log will
    not fit it any more. It is 0 if there is none.
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
    """Return the types of the first `most` events, for the text of a conflict."""
    found: list[str] = []
    for chunk in chunks:
        for line in codec.lines(chunk):
            if len(found) == most:
                return tuple(found)
            found.append(codec.decode(line).type)
    return tuple(found)
