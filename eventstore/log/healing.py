"""Make a log ready for appends: complete what a crash interrupted, and move a torn tail to quarantine."""

import errno
from contextlib import suppress

from eventstore.errors import (
    AppendRefused,
    OutcomeUnknown,
    ReadRefused,
)
from eventstore.events import LogRepaired
from eventstore.log.batch import prepare, seal
from eventstore.log.port import Exists, Missing, Moved, Refused
from eventstore.log.redact import finish_redactions, finish_torn_redaction
from eventstore.log.state import LogState
from eventstore.log.swap import Swapper
from eventstore.record import clock, codec
from eventstore.record.scan import Scan, Tip


class Healer(Swapper):
    """Completes interrupted operations in the logs of `States`. The caller holds the log's `writing` and `scanning`."""

    def ready(self, state: LogState) -> Scan:
        """Verify what other writers wrote, complete what a crash interrupted, and raise an error for damage.

        A torn tail stays until a line is written: a refused append changes nothing.
        """
        try:
            scan = state.catch_up()
            if scan.unended is not None or state.unfinished or (scan.fault is not None and not scan.fault.torn):
                self._heal(state)
        except Missing:
            state.forget()
            return state.scan
        except ReadRefused as error:
            raise AppendRefused(state.session_id, error.file, error.errno) from error
        except Refused as error:
            raise AppendRefused(state.session_id, error.where, error.errno or errno.EIO) from error
        return self._with_events(state)

    def _heal(self, state: LogState) -> None:
        """Complete, under the log's lock, what a crash interrupted. Raises LogDamaged, Missing, Refused."""
        with self._backend.lock(f"log/{state.name}"):
            scan = state.catch_up()
            if scan.unended is not None:
                self._end_last_line(state, scan.unended)
                scan = state.catch_up()
            if scan.fault is not None and not scan.fault.torn and finish_torn_redaction(self._backend, state):
                scan = state.catch_up()
            damage = state.damage()
            if damage:
                raise damage
            finish_redactions(self._backend, state)

    def _with_events(self, state: LogState) -> Scan:
        """Return the scan. A log without events, as a killed creation leaves it, gets the scan of a missing log."""
        scan = state.scan
        if not scan.here.offset and not state.end:
            state.forget()
        return state.scan

    def _end_last_line(self, state: LogState, end: Tip) -> None:
        """Add the line feed that a crash removed from a complete last record."""
        before = Tip(end.digest, end.offset - 1, end.seq, end.at, end.life)
        with suppress(Moved, Exists):  # another writer did it first
            self._backend.append(state.name, b"\n", expect=before, tip=end)

    def cut_tail(self, state: LogState) -> bool:
        """Move a torn tail to quarantine, and record that; `scanning` is held. False if another writer wrote in the meantime.

        Raises LogDamaged.
        """
        version = state.scan.here.seq
        try:
            with self._backend.lock(f"log/{state.name}"):
                scan = state.catch_up()
                damage = state.damage()
                if damage:
                    raise damage
                if scan.fault is not None and scan.here.seq == version:
                    self.cut(state, "torn tail")
                    return state.scan.here.seq == version + 1
                return False
        except (Moved, Missing):
            return False
        except (OutcomeUnknown, ReadRefused) as error:
            raise AppendRefused(state.session_id, error.file, error.errno) from error
        except Refused as error:
            raise AppendRefused(state.session_id, error.where, error.errno or errno.EIO) from error

    def cut(self, state: LogState, reason: str) -> None:
        """Move everything after the scan to quarantine, and append the event that records it. The log's lock is held."""
        scan = state.scan
        place = scan.here.offset
        found = self._backend.cut(state.name, scan.here)
        event = LogRepaired(
            offset_bytes=place, removed_bytes=found.removed_bytes, quarantine=found.quarantine, reason=reason
        )
        scan.fault, scan.unended, state.end = None, None, place
        batch = prepare([event], codec.MAX_EVENT_BYTES)
        data, tip = seal(batch, scan.here, max(clock.now(), scan.here.at))
        if self._swap(state, scan.here, data, tip, [], sync=True) < tip.seq:
            state.forget()
            return
        scan.here, state.end = tip, tip.offset

    def _drop_fragment(self, state: LogState) -> None:
        """Delete a log that has no event, only a part of a first line whose writer crashed."""
        with suppress(Missing), self._backend.lock(f"log/{state.name}"):
            scan = state.catch_up()
            is_torn = scan.unended is None and (scan.fault is None or scan.fault.torn)
            state.forget()
            if is_torn and not scan.here.seq:
                try:
                    self._backend.delete(state.name, expect=None)
                except Refused as error:
                    raise AppendRefused(state.session_id, error.where, error.errno or errno.EIO) from error
