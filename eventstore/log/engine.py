"""EventLog: the one log, on every backend. It decides, seals, appends, forks, redacts, reads and verifies."""

import errno
from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import suppress
from types import TracebackType
from typing import Any, Self

from msgspec.structs import replace

from eventstore.errors import (
    InvalidSessionId,
    OutcomeUnknown,
    ReadRefused,
    RedactionRefused,
    SessionExists,
    SessionNotFound,
)
from eventstore.events import Event, EventRedacted, SessionCreated
from eventstore.ids import STORE_ID, check_log_id, is_beside
from eventstore.log.base import Appended, Head, Repair
from eventstore.log.batch import prepare
from eventstore.log.ends import LogEnds
from eventstore.log.ingest import Whole, verify_whole
from eventstore.log.moves import clear_leftover, ends_at, is_there
from eventstore.log.port import Exists, Missing, Moved, Refused, Unclear
from eventstore.log.redact import (
    TombstoneCheck,
    UnrecordedTombstone,
    overwrite_with_tombstone,
    record_earlier_redaction,
    record_redaction,
)
from eventstore.log.repair import plan_repair
from eventstore.log.state import LogState
from eventstore.record import codec
from eventstore.record.fork_point import ForkPoint
from eventstore.record.scan import Tip

_ATTEMPTS = 100


class EventLog(LogEnds):
    """Append-only logs, one a session, on a backend.

    - An append is one batch: all of its events are read, next to each other, or none is.
    - Numbers are dense from 1; `at` never goes back inside a session; the order is that of the appends.
    - Readers see whole committed batches only, and always a prefix of the truth.
    - An append whose events carry an `id` seen before in that session writes nothing and returns the first result.

    Not promised: any order between the events of two sessions. Safe for threads; for processes and fork where the backend is.
    """

    def fork(self, session_id: str, parent: str, version: int, event: SessionCreated) -> Appended:
        """Begin a session with the first `version` events of another, and an event that says so.

        Both go on without the other noticing; numbers and the chain of hashes go on from those of the parent. Idempotency keys of
        the parent are not known to the fork. Raises VersionConflict where the session is there already, SessionNotFound for the
        parent, NoSuchMoment for a version it has not reached or that is in the middle of a batch.
        """
        state = self._states.of(check_log_id(session_id))
        point = self.point_at(parent, version)
        owner, root = self._owner_of(parent, version)
        digest = bytes.fromhex(point.hash)
        fork = ForkPoint(owner, version, digest, root, session_id)
        begun: list[Event] = [
            replace(event, forked_from=fork.to_dict()),
            *(record_earlier_redaction(line) for line in self._unrecorded(parent, version)),
        ]
        batch = prepare(begun, self._max_event_bytes)
        with state.writing:
            return self._appender.begin(state, Tip(digest, 0, version, point.at), batch)

    def make_whole(self, session_id: str) -> None:
        """Copy to a fork what it has of its parent, so that it needs its parent no more. Raises SessionNotFound, LogDamaged."""
        state = self._states.of(check_log_id(session_id))
        with state.writing:
            for _ in range(_ATTEMPTS):
                self._states.verified(session_id)
                fork = state.fork
                if fork is None:
                    return
                with suppress(Missing):  # it was removed since: the next look says so
                    if self._make_whole(state, fork):
                        return
        where = self._port.where(session_id)
        raise self._states.refused(state, Refused(where, errno.EAGAIN, "others append all the time"))

    def _make_whole(self, state: LogState, fork: ForkPoint) -> bool:
        """Write the whole log in the place of the fork's own lines; False where somebody appended meanwhile."""
        with self._port.lock(f"log/{state.name}"), state.scanning:
            scan = state.catch_up()
            if scan.fault is not None and state.damage() is None:
                self._appender.cut_tail(state)
            damage = state.damage()
            if damage is not None:
                raise damage
            recorded = self._unrecorded(state.name, state.scan.here.seq)
            if recorded:
                batch = prepare([record_earlier_redaction(line) for line in recorded], codec.MAX_EVENT_BYTES)
                self._appender.write(state, batch)
            here = state.scan.here

            def fill(write: Callable[[bytes], None]) -> Tip:
                size, check = 0, TombstoneCheck()
                for chunk in self._states.lines(state, 0, here.seq):
                    size += len(chunk)
                    check.watch(chunk)
                    write(chunk)
                check.end()  # the parent may be redacted while it is copied
                return Tip(here.digest, size, here.seq, here.at)

            try:
                self._port.write_whole(state.name, fill, expect=here)
            except (Moved, Missing, UnrecordedTombstone):
                return False
            except Refused as error:
                raise self._states.refused(state, error) from error
            finally:
                state.forget()
        return True

    def adopt(
        self,
        session_id: str,
        chunks: Iterable[bytes],
        beside: Iterable[tuple[str, Iterable[bytes]]] = (),
        *,
        root: str | None = None,
    ) -> Head:
        """Ingest a whole log from elsewhere, byte for byte, and return where it ends.

        `chunks` are its own lines, in pieces of any size; of a fork by reference those behind what its parent has, which must be
        here with the event it goes on from. `root` names the log whose chain it is, which a fork that was made whole must be
        given. `beside` are its attachments, each named as `beside` names them. All is verified before any of it can be
        seen, and is on stable storage, whatever the durability. Raises LogDamaged, SessionExists, InvalidSessionId; then nothing
        was ingested.
        """
        if check_log_id(session_id) == STORE_ID:
            raise InvalidSessionId(session_id, "it is that of the store's own log")
        state = self._states.of(session_id)
        if is_there(self._port, session_id):
            raise SessionExists(session_id)
        found: list[Whole] = []

        def fill(write: Callable[[bytes], None]) -> Tip:
            passing = _passing(chunks, write)
            where, limit = self._port.where(session_id), self._max_event_bytes
            whole = verify_whole(session_id, passing, root=root, max_event_bytes=limit, file=where)
            self._check_past(state, whole)
            found.append(whole)
            end = whole.head
            return Tip(bytes.fromhex(end.hash), end.size_bytes, end.version, end.at)

        try:
            clear_leftover(self._port, session_id)
            self._port.write_whole(session_id, fill, _attachments(beside), expect=None)
        except Exists:  # an attempt that the engine of storage repeated may have written this very log
            if not found or not ends_at(self._port, session_id, found[0].head):
                raise SessionExists(session_id) from None
        except Unclear as error:
            if not found or not ends_at(self._port, session_id, found[0].head):
                raise self._states.unknown(state, error) from error
        except Refused as error:
            raise self._states.refused(state, error) from error
        self._finish_adopting(state, found[0])
        return found[0].head

    def _finish_adopting(self, state: LogState, whole: Whole) -> None:
        """Carry out the redactions that an ingested log records and that were not carried out where it came from."""
        with state.writing, state.scanning:
            state.forget()
            try:
                for seq, leaf in whole.redactions.items():
                    overwrite_with_tombstone(self._port, state, seq, leaf)
            except (Refused, ReadRefused) as error:
                raise self._states.unknown(state, error) from error
            except Missing:  # it was removed meanwhile
                pass
            finally:
                state.forget()

    def redact(
        self,
        session_id: str,
        seqs: Sequence[int],
        reason: str,
        by: dict[str, Any] | None = None,
        *,
        trashed: str | None = None,
    ) -> Appended:
        """Remove the content of events for good, and return the numbers of the events that record it, one each.

        These are appended first, and on stable storage, whatever the durability; then each line is overwritten by a tombstone
        that keeps type, number, time, leaf hash and hash: chain and Merkle root stay what they were. What a crash leaves undone
        is done by the next writer. Of what a fork has of its parent only the record is made here. `trashed` is the name of a
        session in the trash. Raises RedactionRefused for an event that is not there, or has no text, or is about the log itself,
        or was redacted before; SessionNotFound, LogDamaged. Nothing is changed then. OutcomeUnknown where it may be recorded and
        the text may still be there: redact again.
        """
        name = self._name(session_id, trashed)
        state = self._states.of(name)
        with state.writing:
            self._states.verified(name)
            recorded = [self._record(state, seq, reason, by) for seq in sorted(set(seqs))]
            batch = prepare(recorded, self._max_event_bytes)
            written = self._appender.write(state, batch)
            self._carry_out(state, recorded)
            return written

    def _carry_out(self, state: LogState, recorded: Sequence[EventRedacted]) -> None:
        """Overwrite the lines of events whose redaction was recorded just now."""
        try:
            self._port.sync(state.name, state.scan.here)
            with state.scanning, self._port.lock(f"log/{state.name}"):
                for event in recorded:
                    if event.target > state.inherited:
                        overwrite_with_tombstone(self._port, state, event.target, bytes.fromhex(event.leaf))
                state.unfinished = []
        except (Refused, ReadRefused) as error:
            state.forget()
            raise self._states.unknown(state, error) from error
        except Missing:  # it was removed meanwhile, text and all
            state.forget()

    def _record(self, state: LogState, seq: int, reason: str, by: dict[str, Any] | None) -> EventRedacted:
        version = state.scan.here.seq
        if not isinstance(seq, int) or not 1 <= seq <= version:
            raise RedactionRefused(state.session_id, seq, f"the session has {version} events")
        line = b"".join(self._states.lines(state, seq - 1, seq))[:-1]
        return record_redaction(state.session_id, seq, line, reason, by, inherited=seq <= state.inherited)

    def repair(self, session_id: str, *, dry_run: bool = True) -> Repair | None:
        """Plan how to repair a log, or do it; None where nothing is wrong. Every byte that is cut is kept in quarantine."""
        state = self._states.of(check_log_id(session_id))
        with state.writing:
            try:
                return plan_repair(self._appender, self._port, state, dry_run=dry_run)
            except Missing:
                raise SessionNotFound(session_id) from None

    def flush(self) -> None:
        """Return when everything appended so far is on stable storage, whatever the durability level."""
        self._settle(self._port.flush)

    def close(self) -> None:
        """Flush and let go of files and locks. Appending again opens them anew; closing twice is fine."""
        self._settle(self._port.close)

    def _settle(self, step: Callable[[], None]) -> None:
        try:
            step()
        except Refused as error:
            raise OutcomeUnknown("", error.where, error.errno or errno.EIO) from error

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()


def _passing(chunks: Iterable[bytes], write: Callable[[bytes], None]) -> Iterator[bytes]:
    """Write chunks on their way."""
    for chunk in chunks:
        write(chunk)
        yield chunk


def _attachments(given: Iterable[tuple[str, Iterable[bytes]]]) -> Iterable[tuple[str, Iterable[bytes]]]:
    for name, parts in given:
        if not is_beside(name):
            raise ValueError(f"{name[:80]!a} is no name of an attachment; nothing was written")
        yield name, parts
