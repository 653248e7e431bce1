"""EventLog: the one implementation of logs, for every backend. It appends, forks, redacts, reads and verifies."""

import errno
from collections.abc import Callable, Iterable, Mapping, Sequence
from contextlib import suppress
from types import TracebackType
from typing import Any, Self, TypeVar

from msgspec.structs import replace

from eventstore.errors import (
    AppendRefused,
    InvalidSessionId,
    OperationRefused,
    OutcomeUnknown,
    ReadRefused,
    RedactionRefused,
    SessionExists,
    SessionNotFound,
)
from eventstore.events import Event, EventRedacted, SessionCreated
from eventstore.ids import STORE_ID, check_log_id, is_attachment
from eventstore.log.base import Appended, Head, Repair, tip_of
from eventstore.log.batch import prepare
from eventstore.log.ingest import VerifiedLog, passing, verify_whole
from eventstore.log.moves import clear_leftover, ends_at, is_there
from eventstore.log.port import Exists, Missing, Refused, Unclear
from eventstore.log.redact import (
    TombstoneCheck,
    UnrecordedTombstone,
    overwrite_with_tombstone,
    record_earlier_redaction,
    record_redaction,
)
from eventstore.log.repair import plan_repair
from eventstore.log.state import LogState
from eventstore.log.taking import LogTaking
from eventstore.record import codec, tombstone
from eventstore.record.fork_point import ForkPoint
from eventstore.record.scan import Tip

R = TypeVar("R")

_ATTEMPTS = 100


class EventLog(LogTaking):
    """Append-only logs on a backend, one for each session.

    - An append is one batch: readers see all of its events, next to each other, or none.
    - Numbers are dense from 1; `at` never decreases inside a session; the order is that of the appends.
    - Readers see only complete, committed batches, and always a prefix of the log.
    - An append whose events carry an `id` seen before in that session writes nothing and returns the first result.

    Not promised: any order between the events of two sessions. Safe for threads; safe for processes and fork if the backend is.
    """

    def fork(self, session_id: str, parent: str, version: int, event: SessionCreated) -> Appended:
        """Begin a session with the first `version` events of another, and an event that records the fork.

        Afterwards the two are independent. The fork continues the numbers and the chain of hashes of its parent. It does not know
        the parent's idempotency keys. Raises VersionConflict if the session exists already, SessionNotFound for the parent,
        NoSuchMoment for a version that the parent has not reached or that is in the middle of a batch.
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
        """Copy the inherited events into a fork, so that it needs its parent no more. Raises SessionNotFound, LogDamaged.

        A redaction that the fork records, but that a crash left undone in the parent, is carried out in the copy.
        """
        state = self._states.of(check_log_id(session_id))
        with state.writing:
            self._until_alone(state, self._make_whole)
            with state.scanning, suppress(AppendRefused):  # the copy is made: the next writer carries the redaction out
                self._appender.ready(state)

    def _until_alone(self, state: LogState, step: Callable[[LogState], bool]) -> None:
        """Repeat a step on a verified log until no one else appended in the meantime. Raises SessionNotFound, AppendRefused."""
        for _ in range(_ATTEMPTS):
            self._states.verified(state.name)
            with suppress(Missing):  # it was removed in the meantime: the next read reports that
                if step(state):
                    return
        raise self._appender.too_busy(state)

    def _healed(self, state: LogState) -> Tip:
        """Cut a torn tail, and return where a log ends. Its lock and `scanning` are held. Raises LogDamaged, Missing."""
        scan = state.catch_up()
        if scan.fault is not None and state.damage() is None:
            self._appender.cut_tail(state)
        damage = state.damage()
        if damage is not None:
            raise damage
        return state.scan.here

    def _make_whole(self, state: LogState) -> bool:
        """Replace the fork's own lines by the complete log; return False if another writer appended in the meantime."""
        fork = state.fork
        if fork is None:
            return True
        with self._port.lock(f"log/{state.name}"), state.scanning:
            self._healed(state)
            recorded = self._unrecorded(state.name, state.scan.here.seq)
            if recorded:
                batch = prepare([record_earlier_redaction(line) for line in recorded], codec.MAX_EVENT_BYTES)
                self._appender.write(state, batch)
            here = state.scan.here
            self._copy_values(state, fork)

            def fill(write: Callable[[bytes], None]) -> Tip:
                size, check = 0, TombstoneCheck()
                for chunk in self._states.lines(state, 0, here.seq):
                    size += len(chunk)
                    check.watch(chunk)
                    write(chunk)
                check.end()  # the parent may be redacted while it is copied
                return Tip(here.digest, size, here.seq, here.at)

            with suppress(UnrecordedTombstone):
                return self._write_anew(state, here, fill)
            return False

    def compact(self, session_id: str, seqs: Sequence[int], reason: str, by: dict[str, Any] | None = None) -> int:
        """Redact own events, and rewrite the log with short tombstones; return how many bytes that freed.

        Numbers, hashes and Merkle roots stay; bytes after a redacted line move. After a crash, the next writer
        completes the redactions, and the next call shortens the lines. Raises as `redact` does.
        """
        state = self._states.of(check_log_id(session_id))
        with state.writing:
            self._states.verified(session_id)
            before = state.scan.here.offset
            recorded = [self._record(state, seq, reason, by) for seq in sorted(set(seqs)) if seq > state.inherited]
            if recorded:
                self._appender.write(state, prepare(recorded, self._max_event_bytes))
                self._appender.sync(state)
            leaves = {event.target: bytes.fromhex(event.leaf) for event in recorded}
            self._until_alone(state, lambda state: self._compact(state, leaves))
            self._states.verified(session_id)
            return before - state.scan.here.offset

    def _compact(self, state: LogState, leaves: Mapping[int, bytes]) -> bool:
        """Replace the log's own lines; return False if another writer appended in the meantime."""
        with self._port.lock(f"log/{state.name}"), state.scanning:
            here = self._healed(state)

            def fill(write: Callable[[bytes], None]) -> Tip:
                size, seq = 0, state.inherited
                for chunk in self._states.lines(state, seq, here.seq):
                    shorter, seq = tombstone.shorten(chunk, leaves, seq)
                    size += len(shorter)
                    write(shorter)
                return Tip(here.digest, size, here.seq, here.at)

            return self._write_anew(state, here, fill)

    def ingest(
        self,
        session_id: str,
        chunks: Iterable[bytes],
        beside: Iterable[tuple[str, Iterable[bytes]]] = (),
        *,
        root: str | None = None,
    ) -> Head:
        """Import a complete log from elsewhere, byte for byte, and return its end.

        `chunks` are its own lines, in pieces of any size. For a fork by reference these are the lines after the
        inherited ones; its parent must be here, with the event at the fork point. `root` names the log whose chain it
        is; an independent copy of a fork needs it. `beside` are its attachments, by their names. Everything is verified
        before any of it is visible, and is on stable storage, whatever the durability. Raises LogDamaged,
        SessionExists, InvalidSessionId; then nothing was imported.
        """
        if check_log_id(session_id) == STORE_ID:
            raise InvalidSessionId(session_id, "it is that of the store's own log")
        state = self._states.of(session_id)
        if is_there(self._port, session_id):
            raise SessionExists(session_id)
        found: list[VerifiedLog] = []

        def fill(write: Callable[[bytes], None]) -> Tip:
            where, limit = self._port.where(session_id), self._max_event_bytes
            whole = verify_whole(session_id, passing(chunks, write), root=root, max_event_bytes=limit, file=where)
            self._check_past(state, whole)
            found.append(whole)
            return tip_of(whole.head)

        try:
            clear_leftover(self._port, session_id)
            self._port.write_whole(session_id, fill, _attachments(beside), expect=None)
        except Exists:  # an earlier attempt, repeated by the storage engine, may have written this same log
            if not found or not ends_at(self._port, session_id, found[0].head):
                raise SessionExists(session_id) from None
        except Unclear as error:
            if not found or not ends_at(self._port, session_id, found[0].head):
                raise self._states.unknown(state, error) from error
        except Refused as error:
            raise self._states.refused(state, error) from error
        self._finish_ingest(state, found[0])
        return found[0].head

    def _finish_ingest(self, state: LogState, whole: VerifiedLog) -> None:
        """Carry out redactions that an imported log records but that were not carried out at its origin."""
        with state.writing, state.scanning:
            state.forget()
            try:
                for seq, leaf in whole.redactions.items():
                    overwrite_with_tombstone(self._port, state, seq, leaf)
            except (Refused, ReadRefused) as error:
                raise self._states.unknown(state, error) from error
            except Missing:  # it was removed in the meantime
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
        expected_version: int | None = None,
    ) -> Appended:
        """Remove the content of events permanently, and return the numbers of the events that record it, one for each.

        The records are appended first, on stable storage, whatever the durability. Then each line is overwritten by a tombstone
        that keeps type, number, time, leaf hash and hash: chain and Merkle root do not change. After a crash, the next writer
        completes it. For events that a fork inherits, only the record is written here. `trashed` is the name of a session in the
        trash. Raises RedactionRefused for an event that does not exist, has no text, is about the log itself, or was redacted
        before; SessionNotFound; LogDamaged; VersionConflict if there is another version than `expected_version`. Nothing is
        changed then. Raises OutcomeUnknown if it may be recorded and the text may still be there: redact again.
        """
        name = self._name(session_id, trashed)
        state = self._states.of(name)
        with state.writing:
            self._states.verified(name)
            recorded = [self._record(state, seq, reason, by) for seq in sorted(set(seqs))]
            batch = prepare(recorded, self._max_event_bytes)
            written = self._appender.write(state, batch, expected_version=expected_version)
            self._carry_out(state, recorded)
            return written

    def _carry_out(self, state: LogState, recorded: Sequence[EventRedacted]) -> None:
        """Overwrite the lines of events whose redaction was just recorded."""
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
        except Missing:  # it was removed in the meantime, with its text
            state.forget()

    def _record(self, state: LogState, seq: int, reason: str, by: dict[str, Any] | None) -> EventRedacted:
        version = state.scan.here.seq
        if not isinstance(seq, int) or not 1 <= seq <= version:
            raise RedactionRefused(state.session_id, seq, f"the session has {version} events")
        line = b"".join(self._states.lines(state, seq - 1, seq))[:-1]
        return record_redaction(state.session_id, seq, line, reason, by, inherited=seq <= state.inherited)

    def repair(self, session_id: str, *, dry_run: bool = True) -> Repair | None:
        """Plan how to repair a log, or do it; None if nothing is wrong. Every removed byte is kept in quarantine."""
        state = self._states.of(check_log_id(session_id))
        with state.writing:
            try:
                return plan_repair(self._appender, self._port, state, dry_run=dry_run)
            except Missing:
                raise SessionNotFound(session_id) from None

    def flush(self) -> None:
        """Return when everything appended so far is on stable storage, whatever the durability level."""
        self._settle(self._port.flush)

    def vacuum(self) -> tuple[str, ...]:
        """Remove overwritten and deleted text from the files of the storage engine; return where it still stays for a while.

        In PostgreSQL this rewrites all tables of the store: other calls wait for it. Raises OperationRefused.
        """
        try:
            return self._port.vacuum()
        except Refused as error:
            raise OperationRefused(STORE_ID, "vacuumed", error.where, error.errno or errno.EIO) from error

    def close(self) -> None:
        """Flush, and release files and locks. The next append opens them again; closing twice is allowed."""
        self._settle(self._port.close)

    def _settle(self, step: Callable[[], R]) -> R:
        try:
            return step()
        except Refused as error:
            raise OutcomeUnknown("", error.where, error.errno or errno.EIO) from error

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()


def _attachments(given: Iterable[tuple[str, Iterable[bytes]]]) -> Iterable[tuple[str, Iterable[bytes]]]:
    for name, parts in given:
        if not is_attachment(name):
            raise ValueError(f"{name[:80]!a} is not a name of an attachment; nothing was written")
        yield name, parts
