"""Append for one caller, or for several at once."""

from collections.abc import Sequence
from functools import partial
from itertools import compress, takewhile

from eventstore.errors import EventStoreError
from eventstore.events import Event, EventRedacted
from eventstore.ids import check_log_id
from eventstore.log.append import Plan
from eventstore.log.base import Append, Appended, Outcome, Written
from eventstore.log.batch import Batch, prepare, prepare_many, seal
from eventstore.log.joined import JoinedAppender, Taken
from eventstore.log.locking import release, run, try_lock
from eventstore.log.port import Backend, PortError, Unclear
from eventstore.log.state import LogState
from eventstore.log.unverified import UnverifiedReader
from eventstore.record import clock, codec
from eventstore.record.scan import Tip

_MOST_BYTES_AT_ONCE = 256 * 1024
"""More bytes are written in a thread: an event loop would stand still for milliseconds."""


class LogWriter(UnverifiedReader):
    """Appends to logs, in the order of the calls of one thread."""

    def __init__(self, backend: Backend, *, max_event_bytes: int = codec.MAX_EVENT_BYTES) -> None:
        super().__init__(backend, max_event_bytes)
        self._appender = JoinedAppender(self._states)
        able = backend.capabilities
        self._always_grouped = able.blocking  # one request more costs more than a wait
        self._appends_alone = not (able.blocking or able.keeps_tip)

    def append(self, session_id: str, events: Sequence[Event], *, expected_version: int | None = None) -> Appended:
        """Append events as one batch and return their numbers.

        `expected_version` is the version that the caller based its decision on: None means any version of an existing
        session, 0 a session that does not exist yet. Envelope fields that the log sets are ignored.

        Raises InvalidSessionId, EventRefused (nothing of the batch is written), VersionConflict, LogDamaged;
        SessionNotFound if `expected_version` is None or more than 0 and the session does not exist; AppendRefused,
        OutcomeUnknown.
        """
        if self._appends_alone and isinstance(session_id, str) and len(events) == 1 and session_id[:1] != "_":
            known = self._states.known.get(session_id)
            done = None if known is None else self._append_alone(known, events[0], expected_version)
            if done is not None:
                return done
        state = self._states.of(check_log_id(session_id))
        batch = prepare(events, self._max_event_bytes)
        taken = list[bool]()
        try:
            if not self._always_grouped:
                taken.extend(map(try_lock, (state.writing,)))
            if True not in taken:
                return state.queue.do((batch, expected_version), lambda pieces: self._appender.append(state, pieces))
            (outcome,) = self._appender.append(state, [(batch, expected_version)])
        finally:
            if True in taken:
                state.writing.release()
        if isinstance(outcome, Appended):
            return outcome
        raise outcome

    def _append_alone(self, state: LogState, event: Event, expected_version: int | None) -> Appended | None:
        """Append one event without a key, if the log is verified to its end and no one else appends; None otherwise.

        It does in one function what `Appender` does in many: each call costs a tenth of the write.
        """
        scan = state.scan
        here = scan.here
        if (
            event.id is not None
            or not here.life
            or (expected_version is not None and expected_version != here.seq)
            or scan.fault is not None
            or scan.unended is not None
            or state.unfinished
            or type(event) is EventRedacted
        ):
            return None
        piece = codec.prepare(event, self._max_event_bytes)
        taken = list[bool]()
        try:
            taken.extend(map(try_lock, (state.writing,)))
            if True not in taken:
                return None
            with state.scanning:
                if state.scan is not scan or scan.here is not here:
                    return None
                at = clock.now()
                at = at if at > here.at else here.at
                line, digest = codec.seal(piece, here.seq + 1, at.encode(), None, here.digest)
                tip = Tip(digest, here.offset + len(line), here.seq + 1, at, here.life)
                try:
                    self.backend.append(state.name, line, expect=here, tip=tip, sync=False)
                except PortError as error:
                    if not self._appender.settle(state, here, line, tip, error):
                        return None
                scan.here, state.end = tip, tip.offset
            try:  # noqa: SIM105 - suppress takes three calls, and each append comes here
                self._states.known.move_to_end(state.name)
            except KeyError:  # forgotten in the meantime
                pass
            try:
                self.backend.sync(state.name, tip)
            except PortError:
                self._appender.sync(state, tip)  # it says what that means
        finally:
            if True in taken:
                state.writing.release()
        return Appended(tip.seq, tip.seq)

    def extend(self, session_id: str, batches: Sequence[Sequence[Event]], *, expected_version: int) -> Appended:
        """Append several batches in order, at the cost of one append; return the first and the last number.

        After a crash, any number of complete batches may be there. Raises as `append` does, and IdReused if a key is already
        known; then none of them is written.
        """
        state = self._states.of(check_log_id(session_id))
        prepared = prepare_many(batches, self._max_event_bytes)
        with state.writing:
            return self._appender.extend(state, prepared, expected_version)

    def append_many(self, appends: Sequence[Append]) -> Written:
        """Append for several callers; within a session in the given order. Each append has its own outcome.

        All appends to one session are written together.
        """
        if self.capabilities.joins_appends:
            written = self.append_joined(appends)
            written.complete()
            return written
        written = Written([None] * len(appends))
        for state, places, pieces in self._by_log(appends, written):
            with state.writing:
                outcomes = self._appender.append(state, pieces, sync=False)
            written.put(places, outcomes)
            if any(isinstance(outcome, Appended) for outcome in outcomes):
                written.unflushed.append((places, partial(self._appender.sync, state)))
        return written

    def append_at_once(self, session_id: str, appends: Sequence[Append]) -> Written | None:
        """Append for several callers to one session, as `append_many` does, if nothing has to be waited for before the flush.

        None if nothing was done: `append_many` waits, or says what is wrong. Appends whose outcome is unclear are `left`: to find
        it out may take long. Raises AppendRefused.
        """
        if not self.capabilities.at_once or not isinstance(session_id, str) or session_id[:1] == "_":
            return None
        state = self._states.known.get(session_id)
        if state is None or any(type(event) is EventRedacted for one in appends for event in one.events):
            return None
        batches, size = list[Batch](), 0
        for one in appends:
            try:
                batch = prepare(one.events, self._max_event_bytes)
            except (EventStoreError, ValueError):
                return None
            size += sum(len(piece.tail) for piece in batch.pieces)
            if batch.ids or size > _MOST_BYTES_AT_ONCE:  # the others are not prepared in vain
                return None
            batches.append(batch)
        locks, taken = (state.writing, state.scanning), list[bool]()
        releasing = map(release, compress(locks, taken))
        try:
            taken.extend(takewhile(bool, map(try_lock, locks)))
            if len(taken) < len(locks):
                return None
            return self._write_at_once(state, batches, [one.expected_version for one in appends])
        finally:
            run(releasing)

    def _write_at_once(
        self, state: LogState, batches: Sequence[Batch], expected: Sequence[int | None]
    ) -> Written | None:
        here, now = state.scan.here, clock.now()
        if not here.life or state.scan.fault is not None or state.scan.unended is not None or state.unfinished:
            return None
        tip, at = here, now if now > here.at else here.at
        parts, outcomes = list[bytes](), list[Outcome]()
        for batch, version in zip(batches, expected, strict=True):
            if version not in (None, tip.seq):
                return None
            data, after = seal(batch, tip, at)
            parts.append(data)
            outcomes.append(Appended(tip.seq + 1, after.seq))
            tip = after
        data = b"".join(parts)
        if len(data) > _MOST_BYTES_AT_ONCE:
            return None
        places = list(range(len(outcomes)))
        try:
            is_stored = self.backend.append_at_once(state.name, data, expect=here, tip=tip)
        except PortError as error:
            self._appender.raise_refused(state, error)
            pieces = list(zip(batches, expected, strict=True))
            taken = Taken(0, state, pieces, here, Plan(data, tip, [], outcomes))
            later = partial(self._appender.settle_later, taken, error if isinstance(error, Unclear) else None)
            return Written([None] * len(places), left=[(places, later)])
        if is_stored is None:
            return None
        state.scan.here, state.end = tip, tip.offset
        written = Written([*outcomes])
        if not is_stored:
            written.unflushed.append((places, partial(self._appender.sync, state, tip)))
        return written

    def append_joined(self, appends: Sequence[Append]) -> Written:
        """Append as `append_many` does, in one step for all sessions; what has to wait is `left`, not made yet.

        The backend has `joins_appends`.
        """
        written = Written([None] * len(appends))
        groups = self._by_log(appends, written)
        found = self._appender.append_joined([(state, pieces) for state, _, pieces in groups])
        for (_, places, _), outcomes in zip(groups, found, strict=True):
            if callable(outcomes):
                written.left.append((places, outcomes))
            else:
                written.put(places, outcomes)
        return written

    def _by_log(
        self, appends: Sequence[Append], written: Written
    ) -> list[tuple[LogState, list[int], list[tuple[Batch, int | None]]]]:
        """Prepare appends, and return those to each log with their places; note the errors of those that are refused."""
        found: dict[str, tuple[LogState, list[int], list[tuple[Batch, int | None]]]] = {}
        for place, one in enumerate(appends):
            try:
                group = found.get(one.session_id)
                if group is None:
                    group = self._states.of(check_log_id(one.session_id)), [], []
                group[2].append((prepare(one.events, self._max_event_bytes), one.expected_version))
                group[1].append(place)
                found[one.session_id] = group
            except (EventStoreError, ValueError) as error:
                written.outcomes[place] = error
        return list(found.values())
