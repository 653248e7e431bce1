"""Fast-forward: replace a log by a longer copy of it, byte for byte."""

from collections.abc import Callable, Iterable

from eventstore.errors import SessionNotFound, VersionConflict
from eventstore.ids import check_log_id
from eventstore.log.base import Head, tip_of
from eventstore.log.ingest import VerifiedLog, passing, verify_whole
from eventstore.log.port import Missing, Moved, Refused, Tip
from eventstore.log.state import LogState
from eventstore.log.values import LogValues


class LogForward(LogValues):
    """Fast-forwards logs from longer copies of them."""

    def fast_forward(self, session_id: str, chunks: Iterable[bytes], *, root: str | None = None) -> Head:
        """Replace a log by a longer copy that begins with the same bytes, and return where it ends.

        `chunks` and `root` are those of `ingest`. Everything is verified before any of it is visible. Raises
        VersionConflict if the copy does not begin with the log, SessionNotFound, LogDamaged, AppendRefused; then
        nothing was changed.
        """
        state = self._states.of(check_log_id(session_id))
        with state.writing:
            self._states.verified(session_id)
            try:
                with self._port.lock(f"log/{state.name}"), state.scanning:
                    return self._forward(state, chunks, root)
            except Missing:  # it was removed since it was looked at
                raise SessionNotFound(session_id) from None

    def _forward(self, state: LogState, chunks: Iterable[bytes], root: str | None) -> Head:
        scan = state.catch_up()
        damage = state.damage()
        if damage is not None:
            raise damage
        here = state.scan.here
        conflict = VersionConflict(state.session_id, here.seq, here.seq)
        if scan.fault is not None:
            raise conflict  # a torn tail: the next writer cuts it
        found: list[VerifiedLog] = []

        def fill(write: Callable[[bytes], None]) -> Tip:
            where, limit = self._port.where(state.session_id), self._max_event_bytes
            whole = verify_whole(
                state.session_id, passing(chunks, write), root=root, max_event_bytes=limit, file=where,
                wanted={here.seq},
            )  # fmt: skip
            end = whole.head
            if end.version <= here.seq or whole.digests.get(here.seq) != here.digest:
                raise conflict
            found.append(whole)
            return tip_of(end)

        if not self._write_anew(state, here, fill):
            raise conflict
        return found[0].head

    def _write_anew(self, state: LogState, here: Tip, fill: Callable[[Callable[[bytes], None]], Tip]) -> bool:
        """Replace all lines of a log; False if it does not end at `here` any more. Its lock and `scanning` are held."""
        try:
            self._port.write_whole(state.name, fill, expect=here)
        except (Moved, Missing):
            return False
        except Refused as error:
            raise self._states.refused(state, error) from error
        finally:
            state.forget()
        return True
