"""Attachments of logs: signed notes, and bytes in quarantine; logs in the trash. `values.py` has the third kind."""

from collections.abc import Iterator, Sequence
from contextlib import suppress

from eventstore.errors import (
    SessionNotFound,
)
from eventstore.ids import TRASH, check_log_id, id_of, is_attachment
from eventstore.log.port import Missing, Refused
from eventstore.log.writer import LogWriter
from eventstore.record import codec
from eventstore.record.fragment import blank


class LogAttachments(LogWriter):
    """Data that is stored with a log, besides its lines."""

    def attachments(self, session_id: str) -> list[str]:
        """List the attachments of a log: `checkpoints/...`, `quarantine/...` and `values/...`. Raises SessionNotFound."""
        return [name for name in self._blobs(check_log_id(session_id), "") if is_attachment(name)]

    def read_beside(self, session_id: str, name: str) -> Iterator[bytes]:
        """Stream an attachment that `attachments` names. Raises SessionNotFound, FileNotFoundError."""
        if not is_attachment(name):
            raise FileNotFoundError(name)
        try:
            return self._port.get_blob(check_log_id(session_id), name)
        except Missing:
            raise FileNotFoundError(name) from None

    def quarantine(self, session_id: str) -> list[str]:
        """List the quarantine attachments that repairs wrote, named as in `log.repaired`. Raises SessionNotFound."""
        return self._blobs(check_log_id(session_id), "quarantine/")

    def notes(self, session_id: str) -> list[tuple[str, bytes]]:
        """Return the names and bytes of the signed notes of a log, in the order of their names. Raises SessionNotFound."""
        names = self._blobs(check_log_id(session_id), "checkpoints/")
        found: list[tuple[str, bytes]] = []
        for name in names:
            if name.endswith(".note"):
                with suppress(Missing):  # the log was removed in the meantime
                    found.append((name.partition("/")[2], b"".join(self._port.get_blob(session_id, name))))
        return found

    def keep_note(self, session_id: str, name: str, note: bytes) -> None:
        """Attach a signed note to the log, on stable storage. Raises SessionNotFound, NotARegularFile, AppendRefused."""
        try:
            self._port.put_blob(session_id, f"checkpoints/{name}", note)
        except Missing:
            raise SessionNotFound(session_id) from None
        except Refused as error:
            raise self._states.refused(self._states.of(session_id), error) from error

    def scrub(self, session_id: str, removed: Sequence[bytes], *, trashed: str | None = None) -> list[str]:
        """Overwrite removed texts and parts of them in all attachments of a log; return the names of the changed ones.

        These are the bytes that repairs have cut from the log, a torn tail included. `removed` are texts as
        `record.fragment.blank` takes them, `trashed` is the name of a session in the trash. Raises SessionNotFound,
        LogDamaged, AppendRefused.
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
            except Missing:  # it was removed in the meantime
                continue
            except Refused as error:  # the others are cleaned nevertheless
                failed.append(error)
        if failed:
            raise self._states.unknown(self._states.of(name), failed[0]) from failed[0]
        return changed

    def trashed(self) -> list[str]:
        """List the names of the sessions in the trash."""
        return self._port.trashed()

    def trashed_lines(self, name: str) -> Iterator[bytes]:
        """Stream the verified lines of a session in the trash, each without its LF. Raises SessionNotFound, LogDamaged."""
        id_of(name)
        for chunk in self._chunks(TRASH + name, 0, None):
            yield from codec.lines(chunk)

    def trashed_root(self, name: str) -> str:
        """Name the log whose chain of hashes a session in the trash has. Raises SessionNotFound."""
        id_of(name)
        return self._beginning(self._states.of(TRASH + name))[1]

    def trashed_attachments(self, name: str) -> list[str]:
        """Name the attachments of a session in the trash, as `attachments` does. Raises SessionNotFound."""
        id_of(name)
        return [one for one in self._blobs(TRASH + name, "") if is_attachment(one)]

    def read_trashed(self, name: str, attachment: str) -> Iterator[bytes]:
        """Stream an attachment of a session in the trash. Raises FileNotFoundError."""
        if not is_attachment(attachment):
            raise FileNotFoundError(attachment)
        id_of(name)
        try:
            return self._port.get_blob(TRASH + name, attachment)
        except Missing:
            raise FileNotFoundError(attachment) from None

    def _blobs(self, name: str, prefix: str) -> list[str]:
        try:
            return [one for one in self._port.blobs(name) if one.startswith(prefix)]
        except Missing:
            raise SessionNotFound(self._states.of(name).session_id) from None

    def _name(self, session_id: str, trashed: str | None) -> str:
        if trashed is None:
            return check_log_id(session_id)
        id_of(trashed)
        return TRASH + trashed
