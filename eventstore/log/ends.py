"""The end of logs: removal, the move to the trash, and restoring from it."""

from eventstore.errors import (
    SessionExists,
    SessionNotFound,
    VersionConflict,
)
from eventstore.ids import TRASH, check_log_id, check_session_id, free_name, id_of
from eventstore.log.attachments import LogAttachments
from eventstore.log.base import types_of
from eventstore.log.moves import clear_leftover, is_there, move_log
from eventstore.log.port import Exists, Missing, Moved, Refused
from eventstore.log.state import LogState
from eventstore.record.scan import Tip

_ATTEMPTS = 100


class LogEnds(LogAttachments):
    """Removes logs, and moves them to the trash and back."""

    def remove(self, session_id: str, *, expected_version: int | None = None) -> bool:
        """Remove a session's log permanently, a damaged one too; return False if there was none.

        An `expected_version` of 0 removes only the empty log of a killed creation. Raises VersionConflict if the log has another
        version than the expected one: then nothing is removed.
        """
        state = self._states.of(check_log_id(session_id))
        if expected_version == 0 and not is_there(self._port, session_id):
            try:
                clear_leftover(self._port, session_id)
            except Refused as error:
                raise self._states.refused(state, error) from error
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

    def mend(self, session_id: str) -> None:
        """Complete what a crash interrupted, and move a torn tail to quarantine, as the next append does.

        Only a log that ends at a version can be removed or moved at that version. Raises SessionNotFound, LogDamaged,
        AppendRefused.
        """
        state = self._states.of(check_log_id(session_id))
        with state.writing, state.scanning:
            for _ in range(_ATTEMPTS):
                self._appender.ready(state)
                self._states.verified(session_id)
                if state.scan.fault is None or self._appender.cut_tail(state):
                    return
        raise self._appender.too_busy(state)

    def _expected(self, state: LogState, version: int | None) -> Tip | None:
        """Return the tip of a log that must be at a version. Raises VersionConflict, SessionNotFound."""
        if version is None:
            return None
        scan = self._states.verified(state.name).scan
        if scan.here.seq != version:
            since = types_of(self._states.lines(state, min(version, scan.here.seq), min(version + 20, scan.here.seq)))
            raise VersionConflict(state.session_id, version, scan.here.seq, since)
        return scan.here

    def trash(self, session_id: str, *, expected_version: int | None = None) -> str:
        """Move a session to the trash, so that its id is free, and return its name there.

        Raises SessionNotFound, and VersionConflict if it has another version than the expected one: then it is not moved.
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
        """Move a session out of the trash, back to its id, and return that id. Raises SessionNotFound, SessionExists."""
        session_id = id_of(name)
        try:
            move_log(self._port, TRASH + name, session_id, expect=None)
        except Missing:
            raise SessionNotFound(name, kind="session in the trash") from None
        except Exists:
            raise SessionExists(session_id, restoring=True) from None
        except Refused as error:
            raise self._states.refused(self._states.of(session_id), error) from error
        self._states.drop(TRASH + name)
        return session_id

    def purge(self, name: str) -> bool:
        """Delete the session with this name in the trash permanently; return False if there is none. Raises InvalidSessionId."""
        id_of(name)
        try:
            return self._port.delete(TRASH + name, expect=None)
        except Refused as error:
            raise self._states.refused(self._states.of(TRASH + name), error) from error
        finally:
            self._states.drop(TRASH + name)
