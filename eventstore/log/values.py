"""Values too large for a line: inputs and results of tool calls, stored as attachments of the log, named by their SHA-256.

An event has size and hash, so the chain covers the value as it covers the line. A fork reads the values of inherited
events from its parent, as it does with lines.
"""

from binascii import b2a_base64
from collections.abc import Iterable, Iterator
from contextlib import suppress
from hashlib import sha256
from typing import TypeVar

import msgspec

from eventstore.errors import EventStoreError, LogDamaged, SessionNotFound
from eventstore.events import Event, MessageAdded, RecordPut
from eventstore.ids import check_log_id
from eventstore.log.ends import LogEnds
from eventstore.log.port import Backend, Missing, PortError, Refused
from eventstore.log.state import LogState
from eventstore.record import codec
from eventstore.record.fork_point import ForkPoint
from projections.calls import large_values, with_value

FOLDER = "values/"
"""The first part of the names of these attachments."""
E = TypeVar("E", bound=Event)
_MOST_UNSETTLED = 256
_MARK = b'_sha256":"'


def _shown(event: Event, text: bytes) -> object:
    """Return a value in the form that the line of an event has."""
    if isinstance(event, RecordPut) and event.base64:
        return b2a_base64(text, newline=False).decode("ascii")
    return msgspec.json.decode(text)


class LogValues(LogEnds):
    """Large values, stored as attachments of logs.

    `unsettled` are values that were stored for an append that has not returned yet, by log and hash. While no line
    names the value, a redaction of another event with the same value removes it; `settle_values` then stores it again.
    """

    def __init__(self, backend: Backend, *, max_event_bytes: int = codec.MAX_EVENT_BYTES) -> None:
        super().__init__(backend, max_event_bytes=max_event_bytes)
        self.unsettled: dict[tuple[str, str], bytes] = {}

    def keep_value(self, session_id: str, text: bytes) -> str:
        """Store the JSON text of a value, durably, before its event is appended; return its SHA-256 in hex.

        Raises SessionNotFound, AppendRefused.
        """
        digest = self.put_value(session_id, text)
        self.unsettled[session_id, digest] = text
        while len(self.unsettled) > _MOST_UNSETTLED:
            self.unsettled.pop(next(iter(self.unsettled)), None)
        return digest

    def put_value(self, session_id: str, text: bytes) -> str:
        """Store a value as `keep_value` does, for an event that is already recorded. Raises as that does."""
        digest = sha256(text).hexdigest()
        try:
            self._port.put_blob(check_log_id(session_id), FOLDER + digest, text)
        except Missing:
            raise SessionNotFound(session_id) from None
        except Refused as error:
            raise self._states.refused(self._states.of(session_id), error) from error
        return digest

    def settle_values(self, session_id: str, events: Iterable[Event]) -> None:
        """Store the large values of an append again if a redaction removed them in the meantime. Call it after any outcome."""
        for event in events:
            for _, _, digest in large_values(event):
                text = self.unsettled.pop((session_id, digest), None)
                if text is not None:
                    with suppress(
                        EventStoreError, PortError
                    ):  # the append failed, or verification reports what is missing
                        if digest not in self.values(session_id):
                            self._port.put_blob(session_id, FOLDER + digest, text)

    def read_value(self, session_id: str, digest: str, *, trashed: str | None = None) -> bytes:
        """Return the JSON text of a value, from the log or its parents, without comparing it with the hash.

        Raises FileNotFoundError if no log has it, SessionNotFound.
        """
        name: str | None = self._name(session_id, trashed)
        while name is not None:
            with suppress(Missing):
                return b"".join(self._port.get_blob(name, FOLDER + digest))
            fork = None if trashed else self.fork_point(name)
            name = fork.parent if fork else None
        raise FileNotFoundError(FOLDER + digest)

    def with_values(
        self, session_id: str, events: Iterable[E], *, trashed: str | None = None, strict: bool = True
    ) -> Iterator[E]:
        """Stream events with their large values filled in. Raises LogDamaged if a value is missing or different.

        If not `strict`, such an event stays as it is. `trashed` is the name of a session in the trash.
        """
        for event in events:
            whole = event
            for name, _, digest in large_values(event) if not isinstance(event, MessageAdded) else ():
                try:
                    value = self.verified_value(session_id, event.seq, digest, trashed=trashed)
                    whole = with_value(whole, name, _shown(event, value))
                except LogDamaged:
                    if strict:
                        raise
            yield whole

    def verified_value(self, session_id: str, seq: int, digest: str, *, trashed: str | None = None) -> bytes:
        """Return the bytes of a value of event `seq`. Raises LogDamaged if it is missing or different."""
        try:
            text = self.read_value(session_id, digest, trashed=trashed)
        except FileNotFoundError:
            text = b""
        if sha256(text).hexdigest() != digest:
            reason = f"the value {FOLDER}{digest} of the event is {'another' if text else 'gone'}"
            raise LogDamaged(session_id, self._port.where(session_id), seq, 0, reason, seq - 1)
        return text

    def values(self, session_id: str, *, trashed: str | None = None) -> list[str]:
        """Return the hashes of the values that are stored with a log, without those of a parent. Raises SessionNotFound."""
        return [one.removeprefix(FOLDER) for one in self._blobs(self._name(session_id, trashed), FOLDER)]

    def remove_value(self, session_id: str, digest: str, *, trashed: str | None = None) -> None:
        """Remove a value permanently; do nothing if it does not exist. Raises AppendRefused."""
        name = self._name(session_id, trashed)
        try:
            self._port.delete_blob(name, FOLDER + digest)
        except Missing:  # the log was removed, and the value with it
            pass
        except Refused as error:
            raise self._states.refused(self._states.of(name), error) from error

    def _copy_values(self, state: LogState, fork: ForkPoint) -> None:
        """Copy the values of inherited events to a fork, before it becomes independent of its parent."""
        if not any(self._blobs(owner.name, FOLDER) for owner, _ in self._states.lineage(state) if owner is not state):
            return
        for chunk in self._states.lines(state, 0, fork.seq):
            for line in codec.lines(chunk) if _MARK in chunk else ():
                event = codec.read_valued(line) if _MARK in line else None
                for _, _, digest in large_values(event) if event is not None else ():
                    with suppress(FileNotFoundError):  # it is missing; verification reports that
                        self.put_value(state.name, self.read_value(state.name, digest))
