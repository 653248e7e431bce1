"""Appending for one caller, or for several at once."""

from collections.abc import Sequence

from eventstore.errors import (
    EventStoreError,
    InvalidSessionId,
)
from eventstore.events import Event, EventRedacted
from eventstore.ids import check_log_id
from eventstore.log.append import Appender
from eventstore.log.base import Append, Appended, Outcome, Written
from eventstore.log.batch import Batch, prepare, prepare_many
from eventstore.log.port import Backend, PortError
from eventstore.log.state import LogState
from eventstore.log.unverified import UnverifiedReader
from eventstore.record import clock, codec
from eventstore.record.scan import Tip


class LogWriter(UnverifiedReader):
    """Appends to logs, in the order of the calls of one thread."""

    def __init__(self, backend: Backend, *, max_event_bytes: int = codec.MAX_EVENT_BYTES) -> None:
        super().__init__(backend, max_event_bytes)
        self._appender = Appender(self._states)
        able = backend.capabilities
        self._appends_alone = not (able.blocking or able.keeps_tip)

    def append(self, session_id: str, events: Sequence[Event], *, expected_version: int | None = None) -> Appended:
        """Append events as one batch and return their numbers.

        `expected_version` is the version that the caller decided on: None stands for any version of a session that is
        there, 0 for a session that is not there yet. Envelope fields that the log stamps are ignored.

        Raises InvalidSessionId, EventRefused (nothing of the batch is written), VersionConflict, LogDamaged; SessionNotFound
        where `expected_version` is None or more than 0 and the session is not there; AppendRefused, OutcomeUnknown.
        """
        if self._appends_alone and isinstance(session_id, str) and len(events) == 1 and session_id[:1] != "_":
            known = self._states.known.get(session_id)
            done = None if known is None else self._append_alone(known, events[0], expected_version)
            if done is not None:
                return done
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

    def _append_alone(self, state: LogState, event: Event, expected_version: int | None) -> Appended | None:
        """Append one event without a key to a log that is verified to its end, where nobody else appends; None otherwise.

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
        if not state.writing.acquire(blocking=False):
            return None
        try:
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
            except KeyError:  # forgotten meanwhile
                pass
            try:
                self.backend.sync(state.name, tip)
            except PortError:
                outcomes: list[Outcome] = [Appended(tip.seq, tip.seq)]
                self._appender.sync(state, outcomes)
                if isinstance(outcomes[0], Exception):
                    raise outcomes[0] from None
        finally:
            state.writing.release()
        return Appended(tip.seq, tip.seq)

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
