"""Read logs unverified: for audits that trust no cache, and for reading around damage."""

from collections.abc import Iterator

from eventstore.errors import (
    InvalidSessionId,
    LogDamaged,
    SessionNotFound,
)
from eventstore.ids import check_log_id
from eventstore.log.base import Raw
from eventstore.log.port import Missing, Reading
from eventstore.log.reader import LogReader
from eventstore.log.state import LogState, numbered, whole_lines
from eventstore.record import hash_chain, tombstone
from eventstore.record.fork_point import ForkPoint
from eventstore.record.salvage import Remnant, salvage

_EDGE = len(tombstone.MARK)


class UnverifiedReader(LogReader):
    """Reads logs without verifying them."""

    def raw(self, session_id: str) -> Raw:
        """Return the raw bytes of a log, unverified, bypassing all caches.

        Raises SessionNotFound, and LogDamaged if the events that a fork inherits are missing.
        """
        check_log_id(session_id)
        state = LogState(self._port, session_id, self._max_event_bytes)
        fork, root, _ = self._beginning(state)
        if fork is None:
            return Raw(root, 0, self._to_the_end(session_id))
        return Raw(root, fork.seq, self._raw(state, self._raw_spans(state, fork)))

    def _raw_spans(self, state: LogState, fork: ForkPoint) -> list[tuple[str, int]]:
        """Find, without verifying, which log holds which inherited lines of a fork: `(log, up to)`, the oldest first."""
        found: list[tuple[str, int]] = []
        wanted: ForkPoint | None = fork
        seen = {state.name}
        upto = fork.seq
        while wanted is not None:
            if wanted.parent in seen:
                raise self._states.without_past(state, fork)
            seen.add(wanted.parent)
            try:
                older = self.fork_point(wanted.parent)
            except (SessionNotFound, InvalidSessionId):
                raise self._states.without_past(state, fork) from None
            if older is None or older.seq < upto:
                found.append((wanted.parent, upto))
                upto = older.seq if older else 0
            wanted = older
        return found[::-1]

    def _raw(self, state: LogState, spans: list[tuple[str, int]]) -> Iterator[bytes]:
        before = 0
        for log, upto in spans:
            yield from whole_lines(self._read(log).chunks, upto - before)
            before = upto
        yield from self._to_the_end(state.name)

    def _to_the_end(self, name: str) -> Iterator[bytes]:
        """Stream a log's own bytes up to its end, and what was appended meanwhile.

        A redaction in progress is recorded before its line is blanked: the reader must reach the record of each tombstone that
        it has read. What is read after the first end is followed by more only where it has a tombstone as well: a log that others
        append to all the time has no final end.
        """
        return self._follow(name, self._read(name))

    def _follow(self, name: str, reading: Reading) -> Iterator[bytes]:
        after, is_first = 0, True
        while True:
            last, has_stubs = b"", is_first
            for chunk in reading.chunks:
                after = after or (hash_chain.line_number(chunk) or 1) - 1
                after += chunk.count(b"\n")
                has_stubs = has_stubs or tombstone.MARK in chunk or tombstone.MARK in last[-_EDGE:] + chunk[:_EDGE]
                last = chunk
                yield chunk
            if not last.endswith(b"\n") or not has_stubs:
                return
            end, is_first = reading.end, False
            try:
                reading = self._port.read(name, after)
            except Missing:
                return
            if reading.offset < end or reading.end == end:
                return

    def tail(self, session_id: str) -> str | None:
        """Describe the torn tail that readers ignore and the next writer cuts; None if there is none.

        Raises SessionNotFound.
        """
        try:
            state = self._states.verified(check_log_id(session_id))
        except LogDamaged:  # no event can be read: damage, not a torn tail
            return None
        with state.scanning:
            scan, left = state.scan, state.end - state.scan.here.offset
        if scan.unended is not None:
            return f"line {scan.here.seq + 1}, byte {scan.here.offset}: a complete record that lacks only its line feed"
        if scan.fault is None or not scan.fault.torn:
            return None
        return f"line {scan.fault.line}, byte {scan.here.offset}: a torn tail of {left} bytes"

    def salvage(self, session_id: str) -> Iterator[Remnant]:
        """Stream everything that is left of a session, around any damage; for a fork, its own lines. Raises SessionNotFound."""
        check_log_id(session_id)
        first = self._start(LogState(self._port, session_id, self._max_event_bytes))
        lines = numbered(self._read(session_id).chunks, self._max_event_bytes)
        return salvage(first.digest, lines)
