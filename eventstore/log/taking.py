"""Append lines of the same log from another store, byte for byte: how a copy follows its original."""

from collections.abc import Iterator
from typing import NamedTuple

from eventstore.errors import LogDamaged, LogTampered, SessionNotFound, VersionConflict
from eventstore.ids import is_attachment
from eventstore.log.base import Head, head_of
from eventstore.log.forward import LogForward
from eventstore.log.port import Key, Missing, Refused
from eventstore.log.state import LogState
from eventstore.record import codec, tombstone
from eventstore.record.scan import UNTOLD, Scan, Tip

_MOST_BYTES = 4 * 1024 * 1024  # of lines, written at once


class _Piece(NamedTuple):
    """Whole batches, where they end, and the idempotency keys that come with them."""

    data: bytes
    tip: Tip
    keys: list[Key]


class LogTaking(LogForward):
    """Copies lines and attachments from another store."""

    def take(self, session_id: str, after: Head, data: bytes, *, trashed: str | None = None) -> Head:
        """Append complete batches of the same log from another store, byte for byte, after a position; return the new end.

        Everything is verified before any line is written; redactions that the lines record are carried out. `trashed` is
        the name of a session in the trash. Raises SessionNotFound. Raises VersionConflict if the log does not end at
        `after`, or another writer appends in the meantime: lines appended before that stay. Raises LogDamaged for lines
        that do not continue the log: then nothing was written.
        """
        state = self._states.of(self._name(session_id, trashed))
        with state.writing, state.scanning:
            here = self._appender.ready(state).here
            if not here.seq:
                raise SessionNotFound(session_id)
            if (here.seq, here.digest.hex()) != (after.version, after.hash):
                raise VersionConflict(session_id, after.version, here.seq)
            pieces = self._verify(state, data)
            if state.scan.fault is not None:
                self._drop_torn(state, data)
            for piece in pieces:
                if self._appender.write_sealed(state, piece.data, piece.tip, piece.keys) < piece.tip.seq:
                    state.forget()
                    raise VersionConflict(session_id, here.seq, self._appender.ready(state).here.seq)
                state.move_on(piece.data, piece.tip)
            here = self._appender.ready(state).here  # carries out the redactions that the lines record
            return head_of(here)

    def finish_redactions(self, session_id: str, *, trashed: str | None = None) -> bool:
        """Carry out redactions that a log records, but that a crash left undone; return whether there were any.

        `trashed` is the name of a session in the trash. Raises SessionNotFound, LogDamaged, AppendRefused.
        """
        state = self._states.verified(self._name(session_id, trashed))
        was_unfinished = bool(state.unfinished)
        if was_unfinished:
            with state.writing, state.scanning:
                self._appender.ready(state)
        return was_unfinished

    def _verify(self, state: LogState, data: bytes) -> list[_Piece]:
        """Verify complete batches after the end of a log. Raises LogDamaged, LogTampered."""
        here, known = state.scan.here, set(state.scan.ids)
        scan = Scan(Tip(here.digest, here.offset, here.seq, here.at, here.life), self._max_event_bytes)
        scan.joins = state.scan.joins
        found: list[_Piece] = []
        for piece in _pieces(data):
            end = scan.here.offset + len(piece)
            scan.feed([piece])
            if scan.fault is not None or scan.here.offset != end:
                line = scan.fault.line if scan.fault is not None else scan.here.seq + 1
                reason = scan.fault.reason if scan.fault is not None else "is not complete"
                raise self._wrong(state, LogDamaged, line, reason)
            keys = [(key, first, last) for key, (first, last) in scan.ids.items() if key not in known]
            known.update(scan.ids)
            found.append(_Piece(piece, scan.here, keys))
        scan.redactions = state.scan.redactions | scan.redactions
        scan.judge_stubs()
        if scan.fault is not None:
            raise self._wrong(state, LogTampered, scan.fault.line, UNTOLD)
        return found

    def _wrong(self, state: LogState, kind: type[LogDamaged], line: int, reason: str) -> LogDamaged:
        where = f"{self._port.where(state.name)}, what was to be appended"
        return kind(state.session_id, where, line, state.scan.here.offset, f"the line {reason}", state.scan.here.seq)

    def _drop_torn(self, state: LogState, data: bytes) -> None:
        """Remove a torn tail that an earlier attempt to append these same lines left. Raises LogDamaged for any other tail."""
        here = state.scan.here
        try:
            with self._port.lock(f"log/{state.name}"):
                torn = b"".join(self._port.read(state.name, here.seq).chunks)
                if not data.startswith(torn):
                    raise self._wrong(state, LogDamaged, here.seq + 1, "is torn here, and is not part of the copy")
                cut = self._port.cut(state.name, here)
                self._port.delete_blob(state.name, cut.quarantine)
        except Missing:
            raise SessionNotFound(state.session_id) from None
        except Refused as error:
            raise self._states.refused(state, error) from error
        state.scan.fault = None

    def take_attachment(self, session_id: str, name: str, data: bytes | None, *, trashed: str | None = None) -> None:
        """Store an attachment of a log as another store has it; None removes it.

        `trashed` is the name of a session in the trash. Raises SessionNotFound, AppendRefused.
        """
        if not is_attachment(name):
            raise ValueError(f"{name[:80]!a} is not a name of an attachment; nothing was written")
        log = self._name(session_id, trashed)
        try:
            if data is None:
                self._port.delete_blob(log, name)
            else:
                self._port.put_blob(log, name, data)
        except Missing:
            raise SessionNotFound(session_id) from None
        except Refused as error:
            raise self._states.refused(self._states.of(log), error) from error


def _pieces(data: bytes) -> Iterator[bytes]:
    """Cut lines into pieces of complete batches: each ends after a line that is marked as the last of its batch."""
    start = 0
    while len(data) - start > _MOST_BYTES:
        end = _batch_end(data, start, start + _MOST_BYTES)
        if end == start:
            break
        yield data[start:end]
        start = end
    if start < len(data):
        yield data[start:]


def _batch_end(data: bytes, start: int, upto: int) -> int:
    """Return the byte after the last line in a range that certainly ends a batch; `start` if there is none."""
    end = data.rfind(b"\n", start, upto) + 1
    while end > start:
        begin = data.rfind(b"\n", start, end - 1) + 1 or start
        line = data[begin : end - 1]
        head = None if tombstone.read_tombstone(line) else codec.head(line)
        if head is not None and (head.batch is None or head.batch[0] + 1 == head.batch[1]):
            return end
        end = begin
    return start
