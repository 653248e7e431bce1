"""The half of the log that reads: it takes no lock and changes nothing."""

from collections.abc import Iterator
from contextlib import suppress

from eventstore.errors import (
    LogDamaged,
    LogRolledBack,
    NoSuchMoment,
    NotARegularFile,
    NotSupported,
    SessionNotFound,
)
from eventstore.events import AnyEvent, UnknownEvent
from eventstore.ids import STORE_ID, TEMPLATE, check_log_id
from eventstore.log.base import BEGINNING, NO_LOG, Changes, Head
from eventstore.log.lineage import LogLineage
from eventstore.log.port import UNSEEN_WRITERS, Missing, Moved
from eventstore.log.state import LogState, whole_lines
from eventstore.log.states import Span
from eventstore.log.watch import Watch
from eventstore.record import codec, message_run
from eventstore.record.scan import Scan, Tip

_READ_ON_BYTES = 128 * 1024


class LogReader(LogLineage):
    """What can be asked of logs. Streams end where the log ended at the call."""

    def chunks(self, session_id: str, after: int = 0, upto: int | None = None) -> Iterator[bytes]:
        """Stream the lines numbered `after` + 1 to `upto` (None: to the end), as chunks of whole verified lines.

        Raises SessionNotFound at the call, LogDamaged where the damage is reached.
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
    ) -> Iterator[AnyEvent | UnknownEvent | message_run.MessageRun]:
        """Stream events as `read` does, messages in a row as one: for folds that need not look into each. Raises as it does."""
        for chunk in self.chunks(session_id, after, upto):
            yield from message_run.read_runs(chunk)

    def resume(self, session_id: str, after: Head = BEGINNING) -> tuple[bytes, Head]:
        """Read on behind a place that was read to before: some whole batches, verified from there, and where they end.

        No lines where there are none yet; behind a place inside a batch the rest of that batch comes first. Of the place its
        version and hash count; its size is where to look first. The cost is that of what is new. Raises LogRolledBack where the
        log does not have that event, SessionNotFound, LogDamaged.
        """
        state = self._states.of(check_log_id(session_id))
        try:
            place = Tip(bytes.fromhex(after.hash), after.size_bytes, after.version, after.at)
        except ValueError:
            raise LogRolledBack(session_id, after.version) from None
        if after.version:
            with suppress(Moved):
                return self._read_on(state, place)
        try:
            fork = self.fork_point(session_id)
        except SessionNotFound:
            if self._has_begun(session_id):
                return b"", after  # half a first line: it is not known yet what the log goes on from
            raise
        if fork is None and after.version:
            raise LogRolledBack(session_id, after.version)
        if fork is None:
            return self._read_on(state, self._start(state), is_start=True)
        if after.version > fork.seq or (after.version == fork.seq and place.digest != fork.digest):
            raise LogRolledBack(session_id, after.version)
        if after.version == fork.seq:
            return self._read_on(state, Tip(fork.digest, 0, fork.seq, after.at), is_start=True)
        return self._resume_inherited(state, place, after)

    def _has_begun(self, name: str) -> bool:
        """Tell whether a log holds any byte."""
        try:
            return self._port.read(name).end > 0
        except Missing:
            return False

    def _resume_inherited(self, state: LogState, place: Tip, after: Head) -> tuple[bytes, Head]:
        """Read on in what a fork has of its parents, through as many of them as hold about 128 KiB."""
        self._states.verified(state.name)
        parts: list[bytes] = []
        size = 0
        for span in self._states.spans(state, after.version, state.inherited):
            data, after = self._read_span(state, span, place, after)
            place = Tip(bytes.fromhex(after.hash), after.size_bytes, after.version, after.at)
            parts.append(data)
            size += len(data)
            if size >= _READ_ON_BYTES or after.version < span.upto:
                break
        return b"".join(parts), after

    def _read_span(self, state: LogState, span: Span, place: Tip, after: Head) -> tuple[bytes, Head]:
        """Read on in one of the logs that hold what a fork has of its parents, not behind what it has of that one."""
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
        """Read whole committed lines behind a place, or from the first own line on, verified. Raises Moved, LogDamaged."""
        seen = None
        while True:
            start, data, scan, is_all = self._read_part(state, place, is_start=is_start)
            here = scan.here
            if here.seq > place.seq:
                kept = data[: here.offset - start]
                return kept, Head(here.seq, here.at, here.digest.hex(), here.offset)
            fault = scan.fault
            if not is_all or fault is None or fault.torn:
                return b"", Head(place.seq, place.at, place.digest.hex() if place.seq else "", place.offset)
            if fault == seen:
                where = self._port.where(state.name)
                reason = f"the line {fault.reason}"
                raise LogDamaged(state.session_id, where, fault.line, fault.offset_bytes, reason, place.seq)
            seen = fault  # it may have been an append that was cut back meanwhile: look again

    def _read_part(self, state: LogState, place: Tip, *, is_start: bool) -> tuple[int, bytes, Scan, bool]:
        """Read about 128 KiB behind a place, more where that holds no whole batch.

        Returns the byte it begins at, what was read, its scan, and whether that is all there is.
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
        """Tell where a session's log ends. Raises SessionNotFound, LogDamaged."""
        state = self._states.verified(check_log_id(session_id))
        with state.scanning:
            damage, here = state.damage(), state.scan.here
        if damage:
            raise damage
        return Head(here.seq, here.at, here.digest.hex(), here.offset)

    def peek(self, session_id: str) -> Head:
        """Tell where a log seems to end, at a price that does not grow with it: what is in front is not verified.

        Good for nothing but to read on from. Raises SessionNotFound, LogDamaged.
        """
        try:
            here = self._port.tip(check_log_id(session_id))
        except Missing:
            raise SessionNotFound(session_id) from None
        except Moved:
            return self.head(session_id)
        return Head(here.seq, here.at, here.digest.hex(), here.offset)

    def exists(self, session_id: str) -> bool:
        """Tell whether the session has a log with at least one event."""
        try:
            return self.head(session_id).version > 0
        except SessionNotFound:
            return False

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

    def size_bytes(self, session_id: str) -> int:
        """Tell how large a session's log is; another number means that it changed. 0 where there is none."""
        try:
            return self._port.tip(check_log_id(session_id)).offset
        except (Missing, Moved, NotARegularFile):
            return 0

    def changed(self, since: str | None = None) -> Changes:
        """Tell in one call which logs may have changed since a token, each with a text that differs whenever it differs.

        None, and a token that is not known, mean all. It never leaves out a log whose append returned before the call began.
        """
        return self._port.changed(since)

    def ids(self) -> Iterator[str]:
        """Stream the ids of all sessions, in no particular order, without the store's own log and templates."""
        names = (name for name, text in self.changed().logs if text is not None and text != NO_LOG)
        return (name for name in names if name != STORE_ID and not name.startswith(TEMPLATE))

    def watch(self, session_id: str | None = None) -> Watch:
        """Watch one log, or all of them and the store's own, for changes. Close what is returned."""
        if session_id is not None:
            check_log_id(session_id)
        return self._port.watch(session_id)

    def is_being_written(self, session_id: str) -> bool:
        """Tell whether a program that is alive has the session open for writing. Raises NotSupported, SessionNotFound."""
        check_log_id(session_id)
        if not self._port.capabilities.shows_writers:
            raise NotSupported(session_id, self._port.where(session_id), UNSEEN_WRITERS, "ask its writers")
        try:
            return self._port.is_open(session_id)
        except Missing:
            raise SessionNotFound(session_id) from None
