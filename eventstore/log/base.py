"""EventLog: what every backend does with the lines of sessions, and what it promises."""

from abc import ABC, abstractmethod
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass, field
from types import TracebackType
from typing import Any, NamedTuple, Self

import msgspec

from eventstore.errors import EventStoreError, LogDamaged, LogRolledBack, NoSuchMoment, SessionNotFound
from eventstore.events import AnyEvent, Event, SessionCreated, UnknownEvent
from eventstore.log.watch import Watch
from eventstore.record import codec
from eventstore.record.salvage import Remnant, salvage


class Appended(msgspec.Struct, frozen=True, gc=False):
    """Where an append stands: its events have the numbers `first` to `last`, both included.

    `repeated` tells that an append with the same id was recorded before, and that this one wrote nothing.
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
    """The bytes of a log as they are, verified by nobody; the first `inherited` lines are a fork's parent's.

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


BEGINNING = Head(0, "", "", 0)
"""The place in front of the first event of any log."""


@dataclass(frozen=True)
class Repair:
    """What it takes, or took, to set a log right: from `line` at `offset_bytes` on, `removed_bytes` go to quarantine.

    `restored` of the records behind the damage are appended anew, with the times they had; `aside` stay in quarantine only.
    The first `kept` events stay as they are. `forks` go on from an event behind them, and are not whole afterwards; `checkpoint`
    is the size of the largest checkpoint that holds an event behind them, which the log will not fit any more, 0 without one.
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


class EventLog(ABC):
    """Append-only logs, one a session.

    Promised by every backend, and tested by `eventstore.log.contract.EventLogContract`:

    - an append is one batch: all of its events are read, next to each other, or none is;
    - numbers are dense from 1; `at` never goes back inside a session; the order is that of the appends;
    - readers see whole committed batches only, and always a prefix of the truth;
    - an append whose events carry an `id` seen before in that session writes nothing and returns the first result.

    Not promised: any order between the events of two sessions.
    """

    @abstractmethod
    def append(self, session_id: str, events: Sequence[Event], *, expected_version: int | None = None) -> Appended:
        """Append events as one batch and return their numbers.

        `expected_version` is the version that the caller decided on: None stands for any version of a session that is
        there, 0 for a session that is not there yet. Envelope fields that the log stamps are ignored.

        Raises InvalidSessionId, EventRefused (nothing of the batch is written), VersionConflict, LogDamaged; SessionNotFound
        where `expected_version` is None or more than 0 and the session is not there.
        """

    @abstractmethod
    def extend(self, session_id: str, batches: Sequence[Sequence[Event]], *, expected_version: int) -> Appended:
        """Append several batches in order, at the price of one append; return the first and the last number.

        A crash may leave any whole number of them. Raises as `append` does, IdReused also where a key is known already; then
        none of them is written.
        """

    def append_many(self, appends: Sequence[Append], *, wait: bool = True) -> Written:
        """Append for several callers, of each session in the order given; the outcome of one is no other's.

        Cheaper than one by one where the backend can write together. Without `wait` what would have to wait for somebody else,
        or for a log to be opened, is left untried.
        """
        return Written([self._outcome(one) for one in appends])

    def _outcome(self, one: Append) -> Outcome:
        try:
            return self.append(one.session_id, one.events, expected_version=one.expected_version)
        except (EventStoreError, ValueError) as error:
            return error

    @abstractmethod
    def fork(self, session_id: str, parent: str, version: int, event: SessionCreated) -> Appended:
        """Begin a session with the first `version` events of another, and an event that tells of it.

        Both go on without the other noticing; numbers and the chain of hashes go on from those of the parent. Idempotency keys of
        the parent are not known to the fork. Raises VersionConflict where the session is there already, SessionNotFound for the
        parent, NoSuchMoment for a version it has not reached or that is in the middle of a batch.
        """

    def inherited(self, session_id: str) -> int:
        """Tell how many events of a fork are its parent's, not copied; 0 where it is whole. Raises SessionNotFound."""
        return 0

    def root_of(self, session_id: str) -> str:
        """Name the log whose chain of hashes it is: of a fork the first of its line, else itself. Raises SessionNotFound."""
        root = session_id
        for line in self.lines(session_id):
            point = codec.fork_point(line)
            if point is not None and point.into == session_id:
                root = point.root
        return root

    def make_whole(self, session_id: str) -> None:
        """Let a fork need its parent no more, where it does: what it has of it is copied. Raises SessionNotFound, LogDamaged."""
        return

    @abstractmethod
    def adopt(
        self,
        session_id: str,
        chunks: Iterable[bytes],
        beside: Iterable[tuple[str, Iterable[bytes]]] = (),
        *,
        root: str | None = None,
    ) -> Head:
        """Take in a whole log from elsewhere, byte for byte, and return where it ends.

        `chunks` are its own lines, in pieces of any size; of a fork by reference those behind what its parent has, which must be
        here with the event it goes on from. `root` names the log whose chain it is, which a fork that was made whole must be
        given. `beside` are files that go beside it, each named as `beside` names them. All is verified before any of it can be
        seen, and is on stable storage, whatever the durability. Raises LogDamaged, SessionExists, InvalidSessionId; then nothing
        was taken in.
        """

    def beside(self, session_id: str) -> list[str]:
        """Name the files kept beside a log: `checkpoints/...` and `quarantine/...`. Raises SessionNotFound."""
        return []

    def read_beside(self, session_id: str, name: str) -> Iterator[bytes]:
        """Stream a file that `beside` names. Raises SessionNotFound, FileNotFoundError."""
        raise FileNotFoundError(name)

    def point_at(self, session_id: str, version: int) -> Head:
        """Tell what `head` told, without the size, when the log had so many events. Raises as `fork` does for a parent."""
        line = next(self.lines(session_id, version - 1, version), None) if version > 0 else None
        if line is None:
            raise NoSuchMoment(version, f"session {session_id!r} has {self.head(session_id).version} events")
        event = codec.decode(line)
        if event.batch is not None and event.batch[0] + 1 < event.batch[1]:
            ends = f"{version - 1 - event.batch[0]} or {version - 1 - event.batch[0] + event.batch[1]}"
            raise NoSuchMoment(version, f"event {version} is inside a batch that was appended as one: ask for {ends}")
        return Head(version, event.at, event.hash, 0)

    @abstractmethod
    def chunks(self, session_id: str, after: int = 0, upto: int | None = None) -> Iterator[bytes]:
        """Stream the lines numbered `after` + 1 to `upto` (None: to the end), as chunks of whole verified lines.

        The end is that of the moment of the call. Raises SessionNotFound at the call, LogDamaged where the damage is reached.
        """

    def raw(self, session_id: str) -> Raw:
        """Give the bytes of a log for somebody who trusts nothing, this object neither: nothing it knows of them is used.

        Raises SessionNotFound, OSError, and LogDamaged where what a fork goes on from is not there.
        """
        return Raw(self.root_of(session_id), 0, self.chunks(session_id))

    def resume(self, session_id: str, after: Head = BEGINNING) -> tuple[bytes, Head]:
        """Read on behind a place that was read to before: some whole batches, verified from there, and where they end.

        No lines where there are none yet; behind a place inside a batch the rest of that batch comes first. Of the place its
        version and hash count; its size is where to look first. The cost is that of what is new. Raises LogRolledBack where the
        log does not have that event, SessionNotFound, LogDamaged.
        """
        if after.version:
            self._check_place(session_id, after)
        data = b""
        for chunk in self.chunks(session_id, after.version):
            data += chunk
            last = codec.decode(data[data.rfind(b"\n", 0, -1) + 1 : -1])
            if last.batch is None or last.batch[0] + 1 == last.batch[1]:
                return data, Head(last.seq, last.at, last.hash, after.size_bytes + len(data))
        return b"", after

    def _check_place(self, session_id: str, place: Head) -> None:
        line = next(self.lines(session_id, place.version - 1, place.version), b"")
        parts = codec.split(line)
        if parts is None or parts[1].hex() != place.hash:
            raise LogRolledBack(session_id, place.version)

    def own_beginning(self, session_id: str) -> Head:
        """Tell the place in front of the first event that is the session's own: behind what a fork has of its parent.

        Raises SessionNotFound, LogDamaged.
        """
        inherited = self.inherited(session_id)
        return BEGINNING if not inherited else self.point_at(session_id, inherited)

    def size_bytes(self, session_id: str) -> int:
        """Tell how large a session's log is; another number means that it changed. 0 where there is none.

        Raises InvalidSessionId.
        """
        try:
            return self.head(session_id).size_bytes
        except (SessionNotFound, LogDamaged):
            return 0

    @abstractmethod
    def changed(self, since: str | None) -> Changes:
        """Return which logs may have changed since a token was given out: sessions, templates and the store's own, each once.

        A log that did not change may be named. None that did is missing, if its append returned before this call began. A token
        that is None, unknown, old or of another store asks for all logs.
        """

    @abstractmethod
    def watch(self, session_id: str | None = None) -> Watch:
        """Watch one log, or all of them and the store's own, for changes. Close what is returned."""

    @abstractmethod
    def head(self, session_id: str) -> Head:
        """Tell where a session's log ends. Raises SessionNotFound, LogDamaged."""

    def peek(self, session_id: str) -> Head:
        """Tell where a log seems to end, at a price that does not grow with it: what is in front is not verified.

        Good for nothing but to read on from. Raises SessionNotFound, LogDamaged.
        """
        return self.head(session_id)

    @abstractmethod
    def ids(self) -> Iterator[str]:
        """Stream the ids of all sessions, in no particular order, without the store's own log."""

    @abstractmethod
    def remove(self, session_id: str, *, expected_version: int | None = None) -> bool:
        """Remove a session's log for good; False where there was none.

        Raises VersionConflict where a version is expected and it has another: then nothing is removed.
        """

    @abstractmethod
    def trash(self, session_id: str, *, expected_version: int | None = None) -> str:
        """Put a session aside, so that its id is free, and return the name it has in the trash.

        Raises SessionNotFound, and VersionConflict where a version is expected and it has another: then it stays.
        """

    @abstractmethod
    def restore(self, name: str) -> str:
        """Bring a session back out of the trash, and return its id. Raises SessionNotFound, SessionExists."""

    @abstractmethod
    def purge(self, name: str) -> bool:
        """Delete what is in the trash under a name for good; False where there is nothing."""

    @abstractmethod
    def trashed(self) -> list[str]:
        """List the names of what is in the trash."""

    @abstractmethod
    def flush(self) -> None:
        """Return when everything appended so far is on stable storage, whatever the durability level."""

    @abstractmethod
    def close(self) -> None:
        """Flush and let go of files and locks. Appending again opens them anew; closing twice is fine."""

    def is_being_written(self, session_id: str) -> bool:
        """Tell whether a program that is alive has the session open for writing, as far as the backend can tell."""
        return False

    def tail(self, session_id: str) -> str | None:
        """Describe the torn tail that readers stop in front of and the next writer cuts; None where there is none."""
        return None

    def quarantine(self, session_id: str) -> list[str]:
        """Name what repairs have kept, as `log.repaired` names it."""
        return []

    def keep_note(self, session_id: str, name: str, note: bytes) -> None:
        """Keep a signed note beside the log, on stable storage, where the backend has such a place.

        Raises SessionNotFound, NotARegularFile, AppendRefused.
        """
        return

    def notes(self, session_id: str) -> list[tuple[str, bytes]]:
        """Give the names and the bytes of the signed notes beside a log, in the order of their names. Raises SessionNotFound."""
        return []

    @abstractmethod
    def redact(
        self,
        session_id: str,
        seqs: Sequence[int],
        reason: str,
        by: dict[str, Any] | None = None,
        *,
        trashed: str | None = None,
    ) -> Appended:
        """Remove the content of events for good, and return the numbers of the events that tell of it, one each.

        These are appended first, and on stable storage, whatever the durability; then each line is overwritten in place by a stub
        that keeps type, number, time, leaf hash and hash: chain and Merkle root stay what they were. What a crash leaves undone
        is done by the next writer. Of what a fork has of its parent only the telling happens here. `trashed` is the name of a
        session in the trash. Raises RedactionRefused for an event that is not there, or has no text, or tells of the log itself,
        or was redacted before; SessionNotFound, LogDamaged. Nothing is changed then.
        """

    @abstractmethod
    def trashed_lines(self, name: str) -> Iterator[bytes]:
        """Stream the verified lines of a session in the trash, each without its LF. Raises SessionNotFound, LogDamaged."""

    def scrub(self, session_id: str, removed: Sequence[bytes], *, trashed: str | None = None) -> list[str]:
        """Overwrite removed texts and parts of them in all that is kept of a log besides its lines; name what was changed.

        That is what repairs have cut from it, a torn tail included. `removed` are texts as `record.fragment.blank` takes them,
        `trashed` is the name of a session in the trash. Raises SessionNotFound, LogDamaged, AppendRefused.
        """
        return []

    def salvage(self, session_id: str) -> Iterator[Remnant]:
        """Stream all that is left of a session, around any damage; of a fork what is its own. Raises SessionNotFound."""
        lines = ((0, line) for line in self.lines(session_id))
        return salvage(codec.first_hash(session_id), lines)

    def repair(self, session_id: str, *, dry_run: bool = True) -> Repair | None:
        """Plan how to set a log right, or do it; None where nothing is wrong. Every byte that goes is kept in quarantine."""
        return None

    def exists(self, session_id: str) -> bool:
        """Tell whether the session has a log with at least one event."""
        try:
            return self.head(session_id).version > 0
        except SessionNotFound:
            return False

    def lines(self, session_id: str, after: int = 0, upto: int | None = None) -> Iterator[bytes]:
        """Stream verified lines, each without its LF. Raises as `chunks` does."""
        for chunk in self.chunks(session_id, after, upto):
            yield from codec.lines(chunk)

    def read(self, session_id: str, after: int = 0, upto: int | None = None) -> Iterator[AnyEvent | UnknownEvent]:
        """Stream events in order. Raises as `chunks` does."""
        for chunk in self.chunks(session_id, after, upto):
            yield from codec.decode_lines(chunk)

    def skim(
        self, session_id: str, after: int = 0, upto: int | None = None
    ) -> Iterator[AnyEvent | UnknownEvent | codec.Messages]:
        """Stream events as `read` does, messages in a row as one: for folds that need not look into each. Raises as it does."""
        for chunk in self.chunks(session_id, after, upto):
            yield from codec.skim(chunk)

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()


def types_of(chunks: Iterable[bytes], most: int = 20) -> tuple[str, ...]:
    """Name the types of the first `most` events, for a conflict's sentence."""
    found: list[str] = []
    for chunk in chunks:
        for line in codec.lines(chunk):
            if len(found) == most:
                return tuple(found)
            found.append(codec.decode(line).type)
    return tuple(found)
