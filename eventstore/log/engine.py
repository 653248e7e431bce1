"""EventLog: the one log, on every backend. It decides, seals, appends, forks, redacts, reads and verifies."""

import errno
from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import suppress
from types import TracebackType
from typing import Any, Self

from msgspec.structs import replace

from eventstore.errors import (
    EventStoreError,
    InvalidSessionId,
    OutcomeUnknown,
    ReadRefused,
    RedactionRefused,
    SessionExists,
    SessionNotFound,
    VersionConflict,
)
from eventstore.events import Event, EventRedacted, SessionCreated
from eventstore.ids import STORE_ID, TRASH, check_log_id, check_session_id, free_name, id_of, is_beside
from eventstore.log.append import Appender
from eventstore.log.base import Append, Appended, Head, Outcome, Repair, Written, types_of
from eventstore.log.batch import Batch, prepare, prepare_many
from eventstore.log.ingest import Whole, verify_whole
from eventstore.log.moves import clear_leftover, ends_at, is_there, move_log
from eventstore.log.port import Backend, Exists, Missing, Moved, Refused, Unclear
from eventstore.log.reader import LogReader
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
from eventstore.record.fragment import blank
from eventstore.record.scan import Tip

_ATTEMPTS = 100


class EventLog(LogReader):
    """Append-only logs, one a session, on a backend.

    - An append is one batch: all of its events are read, next to each other, or none is.
    - Numbers are dense from 1; `at` never goes back inside a session; the order is that of the appends.
    - Readers see whole committed batches only, and always a prefix of the truth.
    - An append whose events carry an `id` seen before in that session writes nothing and returns the first result.

    Not promised: any order between the events of two sessions. Safe for threads; for processes and fork where the backend is.
    """

    def __init__(self, backend: Backend, *, max_event_bytes: int = codec.MAX_EVENT_BYTES) -> None:
        super().__init__(backend, max_event_bytes)
        self._appender = Appender(self._states)

    # --- appending

    def append(self, session_id: str, events: Sequence[Event], *, expected_version: int | None = None) -> Appended:
        """Append events as one batch and return their numbers.

        `expected_version` is the version that the caller decided on: None stands for any version of a session that is
        there, 0 for a session that is not there yet. Envelope fields that the log stamps are ignored.

        Raises InvalidSessionId, EventRefused (nothing of the batch is written), VersionConflict, LogDamaged; SessionNotFound
        where `expected_version` is None or more than 0 and the session is not there; AppendRefused, OutcomeUnknown.
        """
        state = self._states.of(check_log_id(session_id))
        batch = prepare(events, self._max_event_bytes)
        if not state.writing.acquire(blocking=False):
            return state.queue.do((batch, expected_version), lambda pieces: self._appender.append(state, pieces))
        try:
            (outcome,) = self._appender.append(state, [(batch, expected_version)])
        finally:
            state.writing.release()
        if isinstance(outcome, Appended):
            return outcome
        raise outcome

    def extend(self, session_id: str, batches: Sequence[Sequence[Event]], *, expected_version: int) -> Appended:
        """Append several batches in order, at the price of one append; return the first and the last number.

        A crash may leave any whole number of them. Raises as `append` does, IdReused also where a key is known already; then
        none of them is written.
        """
        state = self._states.of(check_log_id(session_id))
        prepared = prepare_many(batches, self._max_event_bytes)
        with state.writing:
            return self._appender.extend(state, prepared, expected_version)

    def append_many(self, appends: Sequence[Append], *, wait: bool = True) -> Written:
        """Append for several callers, of each session in the order given; the outcome of one is no other's.

        What goes to one session is written together. Without `wait` what would have to wait for a lock, a network, or for a log
        to be read, is left untried.
        """
        by_session: dict[str, list[int]] = {}
        for place, one in enumerate(appends):
            by_session.setdefault(one.session_id, []).append(place)
        written = Written([None] * len(appends))
        for session_id, places in by_session.items():
            self._append_group(session_id, [(place, appends[place]) for place in places], written, wait)
        return written

    def _append_group(self, session_id: str, group: list[tuple[int, Append]], written: Written, wait: bool) -> None:
        prepared: list[tuple[int, tuple[Batch, int | None]]] = []
        try:
            state = self._states.of(check_log_id(session_id))
        except InvalidSessionId as error:
            for place, _ in group:
                written.outcomes[place] = error
            return
        for place, one in group:
            try:
                prepared.append((place, (prepare(one.events, self._max_event_bytes), one.expected_version)))
            except (EventStoreError, ValueError) as error:
                written.outcomes[place] = error
        if prepared and (wait or not self._port.capabilities.blocking):
            self._write_group(state, prepared, written, wait)

    def _write_group(
        self, state: LogState, prepared: list[tuple[int, tuple[Batch, int | None]]], written: Written, wait: bool
    ) -> None:
        if not state.writing.acquire(blocking=wait):
            return
        try:
            pieces = [piece for _, piece in prepared]
            outcomes = (
                self._appender.append(state, pieces, sync=False) if wait else self._appender.append_now(state, pieces)
            )
        finally:
            state.writing.release()
        places = [place for place, _ in prepared]
        for place, outcome in zip(places, outcomes or [], strict=outcomes is not None):
            written.outcomes[place] = outcome
        if any(isinstance(outcome, Appended) for outcome in outcomes or ()):
            written.unflushed.append((places, lambda: self._flush(state)))

    def _flush(self, state: LogState) -> None:
        outcomes: list[Outcome] = [Appended(0, 0)]
        self._appender.sync(state, outcomes)
        if isinstance(outcomes[0], Exception):
            raise outcomes[0]

    # --- forks

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

    # --- whole logs from elsewhere

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

    # --- the end of logs

    def remove(self, session_id: str, *, expected_version: int | None = None) -> bool:
        """Remove a session's log for good, a damaged one too; False where there was none.

        An `expected_version` of 0 removes only what a killed creation left. Raises VersionConflict where a version is expected
        and it has another: then nothing is removed.
        """
        state = self._states.of(check_log_id(session_id))
        if expected_version == 0 and not is_there(self._port, session_id):
            clear_leftover(self._port, session_id)
            return False
        was_there = False
        with state.writing, state.scanning:
            for _ in range(_ATTEMPTS):
                try:
                    expect = self._expected(state, expected_version)
                    was_there = was_there or expect is not None
                    return self._port.delete(session_id, expect=expect) or was_there
                except (SessionNotFound, Missing):
                    return was_there
                except Moved:
                    continue
                except Refused as error:
                    raise self._states.refused(state, error) from error
                finally:
                    state.forget()
        raise VersionConflict(session_id, expected_version or 0, self.head(session_id).version)

    def _expected(self, state: LogState, version: int | None) -> Tip | None:
        """Return the tip of a log that is to be at a version. Raises VersionConflict, SessionNotFound."""
        if version is None:
            return None
        scan = self._states.verified(state.name).scan
        if scan.here.seq != version:
            since = types_of(self._states.lines(state, min(version, scan.here.seq), min(version + 20, scan.here.seq)))
            raise VersionConflict(state.session_id, version, scan.here.seq, since)
        return scan.here

    def trash(self, session_id: str, *, expected_version: int | None = None) -> str:
        """Move a session to the trash, so that its id is free, and return the name it has there.

        Raises SessionNotFound, and VersionConflict where a version is expected and it has another: then it stays.
        """
        check_session_id(session_id)
        state = self._states.of(session_id)
        with state.writing, state.scanning:
            for _ in range(_ATTEMPTS):
                try:
                    expect = self._expected(state, expected_version)
                    name = free_name(session_id, self._port.trashed())
                    move_log(self._port, session_id, TRASH + name, expect=expect)
                except (Moved, Exists):
                    continue
                except Missing:
                    raise SessionNotFound(session_id) from None
                except Refused as error:
                    raise self._states.refused(state, error) from error
                else:
                    return name
                finally:
                    state.forget()
        raise VersionConflict(session_id, expected_version or 0, self.head(session_id).version)

    def restore(self, name: str) -> str:
        """Move a session back out of the trash, and return its id. Raises SessionNotFound, SessionExists."""
        session_id = id_of(name)
        try:
            move_log(self._port, TRASH + name, session_id, expect=None)
        except Missing:
            raise SessionNotFound(name) from None
        except Exists:
            raise SessionExists(session_id) from None
        except Refused as error:
            raise self._states.refused(self._states.of(session_id), error) from error
        self._states.drop(TRASH + name)
        return session_id

    def purge(self, name: str) -> bool:
        """Delete what is in the trash under a name for good; False where there is nothing. Raises InvalidSessionId."""
        id_of(name)
        try:
            return self._port.delete(TRASH + name, expect=None)
        except Refused as error:
            raise self._states.refused(self._states.of(TRASH + name), error) from error
        finally:
            self._states.drop(TRASH + name)

    # --- what is redacted, and after damage

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

    def scrub(self, session_id: str, removed: Sequence[bytes], *, trashed: str | None = None) -> list[str]:
        """Overwrite removed texts and parts of them in all that is kept of a log besides its lines; name what was changed.

        That is what repairs have cut from it, a torn tail included. `removed` are texts as `record.fragment.blank` takes them,
        `trashed` is the name of a session in the trash. Raises SessionNotFound, LogDamaged, AppendRefused.
        """
        name = self._name(session_id, trashed)
        state = self._states.of(name)
        with state.writing, state.scanning:
            self._states.verified(name)
            self._appender.ready(state)
            if state.scan.fault is not None:
                self._appender.cut_tail(state)  # a torn tail is text too: it moves to quarantine first
            try:
                with self._port.lock(f"log/{name}"):
                    return self._scrub(name, removed)
            except Missing:
                raise SessionNotFound(state.session_id) from None
            except Refused as error:
                raise self._states.refused(state, error) from error

    def _scrub(self, name: str, removed: Sequence[bytes]) -> list[str]:
        changed, failed = list[str](), list[Refused]()
        for blob in self._blobs(name, "quarantine/"):
            try:
                old = b"".join(self._port.get_blob(name, blob))
                new = blank(old, removed)
                if new != old:
                    self._port.put_blob(name, blob, new)
                    changed.append(blob)
            except Missing:  # it was removed meanwhile
                continue
            except Refused as error:  # the others are cleaned all the same
                failed.append(error)
        if failed:
            raise self._states.unknown(self._states.of(name), failed[0]) from failed[0]
        return changed

    def keep_note(self, session_id: str, name: str, note: bytes) -> None:
        """Keep a signed note beside the log, on stable storage. Raises SessionNotFound, NotARegularFile, AppendRefused."""
        try:
            self._port.put_blob(session_id, f"checkpoints/{name}", note)
        except Missing:
            raise SessionNotFound(session_id) from None
        except Refused as error:
            raise self._states.refused(self._states.of(session_id), error) from error

    # --- closing

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
