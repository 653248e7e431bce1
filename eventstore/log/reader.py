"""The reading half of the log: it takes no lock and changes nothing."""

from collections.abc import Iterator
from contextlib import suppress

from eventstore.custom_events import ReadEvent
from eventstore.errors import (
    EventStoreError,
    LogDamaged,
    LogRolledBack,
    NoSuchMoment,
    NotARegularFile,
    NotSupported,
    SessionNotFound,
)
from eventstore.ids import STORE_ID, TEMPLATE, check_log_id
from eventstore.log.base import BEGINNING, NO_LOG, Changes, Head, head_of, tip_of
from eventstore.log.lineage import LogLineage
from eventstore.log.port import UNSEEN_WRITERS, Missing, Moved, Reading
from eventstore.log.state import LogState, read_line, whole_lines
from eventstore.log.states import Span
from eventstore.log.watch import Watch
from eventstore.record import codec, hash_chain, message_run, tombstone
from eventstore.record.scan import Scan, Tip

_READ_ON_BYTES, _SMALL_BYTES = 128 * 1024, 64 * 1024


class LogReader(LogLineage):
    """Reads logs. Streams end where the log ended at the call."""

    def chunks(self, session_id: str, after: int = 0, upto: int | None = None) -> Iterator[bytes]:
        """Stream the lines numbered `after` + 1 to `upto` (None: to the end), as chunks of complete, verified lines.

        Raises SessionNotFound at the call, LogDamaged when the stream reaches the damage.
        """
        return self._chunks(check_log_id(session_id), after, upto)

    def _chunks(self, name: str, after: int, upto: int | None) -> Iterator[bytes]:
        state = self._states.verified(name)
        with state.scanning:
            end, damage = state.scan.here.seq, state.damage()
        if upto is not None and upto <= end:
            end, damage = upto, None
        return self._stream(state, max(after, 0), end, damage)

    def _stream(self, state: LogState, after: int, upto: int, damage: LogDamaged | None) -> Iterator[bytes]:
        yield from self._states.lines(state, after, upto)
        if damage is not None:
            raise damage

    def small(self, session_id: str) -> bytes | None:
        """Return all lines of a small log, verified; None if `chunks` is needed to say what the log holds.

        That is where it is longer than 64 KiB, a fork, redacted, or not intact to its last byte. Costs one read, and nothing of
        the log is remembered: for those who ask about very many logs once.
        """
        try:
            data = self._port.read_small(check_log_id(session_id), _SMALL_BYTES)
        except Missing:
            return None
        if data is None:
            return None
        scan = Scan(Tip(hash_chain.first_hash(session_id)), self._max_event_bytes)
        scan.feed([data])
        is_plain = scan.here.offset == len(data) and not scan.stubs and not scan.redactions
        return data if is_plain else None

    def lines(self, session_id: str, after: int = 0, upto: int | None = None) -> Iterator[bytes]:
        """Stream verified lines, each without its LF. Raises as `chunks` does."""
        for chunk in self.chunks(session_id, after, upto):
            yield from codec.lines(chunk)

    def read(self, session_id: str, after: int = 0, upto: int | None = None) -> Iterator[ReadEvent]:
        """Stream events in order. Raises as `chunks` does."""
        for chunk in self.chunks(session_id, after, upto):
            yield from codec.decode_lines(chunk)

    def window(self, session_id: str, after: int, upto: int) -> Iterator[bytes]:
        """Stream lines as `chunks` does; of a log that was not read yet without reading the lines before them.

        Then each line is verified to follow from the one before it, the first one from what line `after` records of itself.
        Damage elsewhere in the log is not noticed. Raises as `chunks` does.
        """
        state = self._states.of(check_log_id(session_id))
        if state.scan.here.seq < upto:
            with suppress(EventStoreError, Missing, Moved):
                data = self._apart(state, max(after, 0), upto)
                if data is not None:
                    return iter([data])
        return self._chunks(state.name, after, upto)

    def _apart(self, state: LogState, after: int, upto: int) -> bytes | None:
        """Read lines as `window` does; None for those that a fork inherits, and where a line is blanked: others record that."""
        if after:
            return _following(None, self._port.read(state.name, after - 1, upto), after, upto)
        fork, _, start = self._beginning(state)
        return _following(start.digest, self._port.read(state.name, 0, upto), 0, upto) if fork is None else None

    def skim(
        self, session_id: str, after: int = 0, upto: int | None = None
    ) -> Iterator[ReadEvent | message_run.MessageRun]:
        """Stream events as `read` does, but consecutive messages as one and imported lines compressed: for folds.

        Raises as it does.
        """
        for chunk in self.chunks(session_id, after, upto):
            yield from message_run.read_runs(chunk)

    def resume(self, session_id: str, after: Head = BEGINNING) -> tuple[bytes, Head]:
        """Continue reading after an earlier position: return some complete batches, verified from there, and where they end.

        Returns no lines if there are no new ones. After a position inside a batch, the rest of that batch comes first. Version
        and hash identify the position; its size is where to look first. The cost grows only with the new lines. Raises
        LogRolledBack if the log does not have that event, SessionNotFound, LogDamaged.
        """
        state = self._states.of(check_log_id(session_id))
        try:
            place = tip_of(after)
        except ValueError:
            raise LogRolledBack(session_id, after.version) from None
        if after.version:
            known = state.scan.here
            if known.life and (known.seq, known.digest, known.offset) == (place.seq, place.digest, place.offset):
                with suppress(Moved):  # from its life a backend knows at once that nothing is new
                    return self._read_on(state, known)
            with suppress(Moved):
                return self._read_on(state, place)
        try:
            fork = self.fork_point(session_id)
        except SessionNotFound:
            if self._has_begun(session_id):
                return b"", after  # the first line is incomplete: the fork point is not known yet
            raise
        if after.version > (fork.seq if fork else 0):
            moved = self._moved(state, place)
            if moved is not None:
                with suppress(Moved):
                    return self._read_on(state, moved)
        if fork is None and after.version:
            raise LogRolledBack(session_id, after.version)
        if fork is None:
            return self._read_on(state, self._start(state), is_start=True)
        if after.version > fork.seq or (after.version == fork.seq and place.digest != fork.digest):
            raise LogRolledBack(session_id, after.version)
        if after.version == fork.seq:
            return self._read_on(state, Tip(fork.digest, 0, fork.seq, after.at), is_start=True)
        return self._resume_inherited(state, place, after)

    def _moved(self, state: LogState, place: Tip) -> Tip | None:
        """Find a position by its number in a log that was compacted since; None if the log has another event there."""
        try:
            offset, line = read_line(self._port.read(state.name, place.seq - 1, place.seq), place.seq)
        except Missing:
            return None
        parts = hash_chain.split(line)
        if parts is None or parts[1] != place.digest or offset + len(line) == place.offset:
            return None
        return Tip(place.digest, offset + len(line), place.seq, place.at)

    def _has_begun(self, name: str) -> bool:
        """Check whether a log has any byte."""
        try:
            return self._port.read(name).end > 0
        except Missing:
            return False

    def _resume_inherited(self, state: LogState, place: Tip, after: Head) -> tuple[bytes, Head]:
        """Continue reading the inherited events of a fork, through as many parents as have about 128 KiB."""
        self._states.verified(state.name)
        parts: list[bytes] = []
        size = 0
        for span in self._states.spans(state, after.version, state.inherited):
            data, after = self._read_span(state, span, place, after)
            place = tip_of(after)
            parts.append(data)
            size += len(data)
            if size >= _READ_ON_BYTES or after.version < span.upto:
                break
        return b"".join(parts), after

    def _read_span(self, state: LogState, span: Span, place: Tip, after: Head) -> tuple[bytes, Head]:
        """Continue reading in one of a fork's parents, not beyond the events that the fork inherits from it."""
        owner = self._states.of(span.log)
        is_start = after.version == owner.inherited
        if is_start:
            before = owner.fork.digest if owner.fork else owner.first_digest
            if after.version and place.digest != before:
                raise LogRolledBack(state.session_id, after.version)
            place = Tip(before, 0, owner.inherited, after.at)
        try:
            data, here = self._read_on(owner, place, is_start=is_start)
        except Moved:
            raise LogRolledBack(state.session_id, after.version) from None
        if here.version > span.upto:
            behind = here.size_bytes - len(data)
            data = b"".join(whole_lines([data], span.upto - after.version))
            last = codec.decode(data[data.rfind(b"\n", 0, -1) + 1 : -1])
            here = Head(last.seq, last.at, last.hash, behind + len(data))
        return data, here

    def _read_on(self, state: LogState, place: Tip, *, is_start: bool = False) -> tuple[bytes, Head]:
        """Read complete, committed lines after a position, or from the first own line on, verified. Raises Moved, LogDamaged."""
        seen = None
        while True:
            start, data, scan, is_all = self._read_part(state, place, is_start=is_start)
            here = scan.here
            if here.seq > place.seq:
                kept = data[: here.offset - start]
                return kept, head_of(here)
            fault = scan.fault
            if not is_all or fault is None or fault.torn:
                return b"", Head(place.seq, place.at, place.digest.hex() if place.seq else "", place.offset)
            if fault == seen:
                where = self._port.where(state.name)
                reason = f"the line {fault.reason}"
                raise LogDamaged(state.session_id, where, fault.line, fault.offset_bytes, reason, place.seq)
            seen = fault  # it may have been an append that was cut back in the meantime: read again

    def _read_part(self, state: LogState, place: Tip, *, is_start: bool) -> tuple[int, bytes, Scan, bool]:
        """Read about 128 KiB after a position, more if that has no complete batch.

        Returns the first byte, the bytes read, their scan, and whether the end of the log was reached.
        """
        try:
            reading = self._port.read(state.name, 0 if is_start else place)
        except Missing:
            raise SessionNotFound(state.session_id) from None
        place = Tip(place.digest, reading.offset, place.seq, place.at)
        parts: list[bytes] = []
        size, wanted = 0, _READ_ON_BYTES
        for chunk in reading.chunks:
            parts.append(chunk)
            size += len(chunk)
            if size >= wanted:
                data = b"".join(parts)
                scan = self._scan(place, data, joins=not is_start)
                if scan.here.seq > place.seq:
                    return reading.offset, data, scan, False
                parts, wanted = [data], wanted * 4
        data = b"".join(parts)
        return reading.offset, data, self._scan(place, data, joins=not is_start), True

    def _scan(self, place: Tip, data: bytes, *, joins: bool) -> Scan:
        scan = Scan(place, self._max_event_bytes, joins=joins)
        scan.feed([data])
        return scan

    def head(self, session_id: str) -> Head:
        """Return where a session's log ends. Raises SessionNotFound, LogDamaged."""
        state = self._states.verified(check_log_id(session_id))
        with state.scanning:
            damage, here = state.damage(), state.scan.here
        if damage:
            raise damage
        return head_of(here)

    def tail_position(self, session_id: str) -> Head:
        """Return where a log seems to end, at a constant cost: earlier lines are not verified.

        Use it only to continue reading from there. Raises SessionNotFound, LogDamaged.
        """
        try:
            here = self._port.tip(check_log_id(session_id))
        except Missing:
            raise SessionNotFound(session_id) from None
        except Moved:
            return self.head(session_id)
        return head_of(here)

    def exists(self, session_id: str) -> bool:
        """Return whether the session has a log with at least one event."""
        try:
            return self.head(session_id).version > 0
        except SessionNotFound:
            return False

    def point_at(self, session_id: str, version: int) -> Head:
        """Return what `head` returned, without the size, when the log had `version` events. Raises as `fork` does."""
        line = _line_at(self, session_id, version)
        if line is None:
            raise NoSuchMoment(version, f"session {session_id!r} has {self.head(session_id).version} events")
        first, last = _batch_around(self, session_id, version, line)
        if last > version:
            ends = f"{first - 1} or {last}"
            raise NoSuchMoment(version, f"event {version} is inside a batch that was appended as one: ask for {ends}")
        event = codec.decode(line)
        return Head(version, event.at, event.hash, 0)

    def batch_of(self, session_id: str, seq: int) -> tuple[int, int]:
        """Return the first and last number of the batch of an event. Of a redacted batch nothing is known: it is `seq` itself."""
        return _batch_around(self, session_id, seq, _line_at(self, session_id, seq))

    def size_bytes(self, session_id: str) -> int:
        """Return the size of a session's log; another number means that it changed. 0 if there is none."""
        try:
            return self._port.tip(check_log_id(session_id)).offset
        except (Missing, Moved, NotARegularFile):
            return 0

    def changed(self, since: str | None = None) -> Changes:
        """Return in one call which logs may have changed since a token, each with a text that differs if its content does.

        None and an unknown token mean all. It never omits a log whose append returned before the call began.
        """
        return self._port.changed(since)

    def ids(self) -> Iterator[str]:
        """Stream the ids of all sessions, in no particular order, without the store's own log and templates."""
        names = (name for name, text in self.changed().logs if text is not None and text != NO_LOG)
        return (name for name in names if name != STORE_ID and not name.startswith(TEMPLATE))

    def watch(self, session_id: str | None = None) -> Watch:
        """Watch one log, or all of them and the store's own, for changes. The caller closes the returned watch."""
        if session_id is not None:
            check_log_id(session_id)
        return self._port.watch(session_id)

    def is_being_written(self, session_id: str) -> bool:
        """Return whether a running program has the session open for writing. Raises NotSupported, SessionNotFound."""
        check_log_id(session_id)
        if not self._port.capabilities.shows_writers:
            raise NotSupported(session_id, self._port.where(session_id), UNSEEN_WRITERS, "ask its writers")
        try:
            return self._port.is_open(session_id)
        except Missing:
            raise SessionNotFound(session_id) from None


def _line_at(log: LogReader, session_id: str, seq: int) -> bytes | None:
    return next(log.lines(session_id, seq - 1, seq), None) if seq > 0 else None


def _batch_around(log: LogReader, session_id: str, seq: int, own: bytes | None) -> tuple[int, int]:
    """Return the batch of an event with the line `own`. If it is redacted, its nearest neighbours that are not know it."""
    for step in (-1, 1):
        at, line = seq, own
        while line is not None:
            if tombstone.read_tombstone(line) is None:
                index, count = codec.decode(line).batch or (0, 1)
                first = at - index
                if first <= seq < first + count:
                    return first, first + count - 1
                break
            at += step
            line = _line_at(log, session_id, at)
    return seq, seq


def _following(digest: bytes | None, reading: Reading, after: int, upto: int) -> bytes | None:
    """Return the lines after a number if each fits on the one before it, and none is blanked; else None.

    The first one is to fit on a digest. Without one, line `after` was read as well, and has it.
    """
    data = b"".join(whole_lines(reading.chunks, upto - after + (digest is None)))
    if digest is None:
        before, _, data = data.partition(b"\n")
        parts = hash_chain.split(before)
        if parts is None or hash_chain.line_number(before) != after:
            return None
        digest = parts[1]
    lines = data[:-1].split(b"\n")
    if tombstone.MARK in data or len(lines) != upto - after:
        return None
    return data if hash_chain.count_fitting(data[:-1], lines, digest) == len(lines) else None
