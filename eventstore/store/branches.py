"""Forks, templates and imported logs: sessions that are created with events."""

from collections.abc import Callable, Iterable, Iterator
from contextlib import suppress
from typing import TypeAlias

import msgspec

from eventstore.errors import EventStoreError, LogDamaged, OperationRefused, SessionExists
from eventstore.events import SessionCreated
from eventstore.ids import TEMPLATE, check_session_id
from eventstore.log.base import Head
from eventstore.log.ingest import VerifiedLog
from eventstore.log.values import FOLDER as VALUES
from eventstore.record import codec, hash_chain
from eventstore.store.folded import FoldedSessions
from eventstore.store.lock import refusing
from projections.models import Session

_Chunks: TypeAlias = Iterable[bytes]
_Attachments: TypeAlias = Iterable[tuple[str, Iterable[bytes]]]
_Streams: TypeAlias = tuple[_Chunks, _Attachments]


class BranchedSessions(FoldedSessions):
    """Sessions that can be forked, saved as templates, and imported."""

    # --- forks

    def fork_session(self, session_id: str, parent: str, version: int, event: SessionCreated) -> None:
        """Begin a session with the first `version` events of another, as `EventLog.fork` does. Raises as that does.

        Its views are written after the first append: before that they would be copies.
        """
        if self.was_used(session_id):
            event = msgspec.structs.replace(event, used_before=True)
        self.registry.fork(session_id, parent, version, event)

    def save_template(self, name: str, parent: str, version: int, event: SessionCreated) -> None:
        """Save the first `version` events of a session as a template. Raises SessionExists if the name is taken."""
        self.registry.save_template(name, parent, version, event)

    def use_template(self, name: str, session_id: str, event: SessionCreated) -> None:
        """Begin a session with the events of a template. Raises SessionNotFound (template), SessionExists (session)."""
        self.fork_session(session_id, *self.registry.template(name), event)

    def templates(self) -> list[str]:
        """List the names of templates."""
        return self.registry.templates()

    def load_template(self, name: str) -> Session:
        """Return a template as a session object. Raises SessionNotFound."""
        return self._sessions.get(self.registry.template(name)[0]).state.to_model(name)

    def remove_template(self, name: str) -> bool:
        """Remove a template; sessions created from it stay. False if there was none."""
        return self.registry.delete(TEMPLATE + check_session_id(name, "template name"), "template removed")

    # --- imported logs

    def ingest(
        self,
        verified: VerifiedLog,
        chunks: _Chunks,
        attachments: _Attachments = (),
        *,
        ended: int = 0,
        again: bool = False,
    ) -> Head:
        """Import the verified log of a session or template, as `EventLog.ingest` does, and write its views.

        Events that this store has redacted are imported redacted, unless `again` is set. A fork records what is redacted in
        its parent here in any case.

        `ended` is the number of events of a deleted session of this id in the store that exported the log. Raises as that does,
        and LogDamaged if the chunks are not those that were verified; then nothing was imported.
        """
        log_id = verified.session_id
        with self.registry.locked(), refusing(log_id, "imported"):
            if self.log.exists(log_id):
                raise SessionExists(log_id)
            self.registry.clear_empty(log_id)
            if verified.origin:  # before the import: a deletion of its parent must find it
                self.registry.record_origin(verified)
            root = None if verified.fork else verified.root
            chunks, attachments = self._redacting(verified, chunks, attachments, again=again)
            head = self.log.ingest(log_id, chunks, attachments, root=root)
            try:
                self.registry.record_imported(verified, ended=ended, is_new=True)
            except (EventStoreError, OSError):
                self.registry.unsettle()  # it is imported: the next writer records it
        if not log_id.startswith(TEMPLATE):
            self._changed(log_id, ())
            self.flush_views(log_id)
            self._drop_folds(log_id)
        return head

    def _redacting(self, verified: VerifiedLog, chunks: _Chunks, attachments: _Attachments, *, again: bool) -> _Streams:
        """Return the streams of a verified log and its attachments with the redactions of this store applied."""
        from eventstore.store.known_redactions import RedactingImport, known_redactions  # it loads compressors

        known = {} if again else known_redactions(self.log)
        if not known and not verified.redactions and verified.fork is None:
            return _same(verified, chunks), attachments
        past = self.log.lines(verified.fork.parent, 0, verified.fork.seq) if verified.fork else ()
        redacting = RedactingImport(verified, known, past)
        return redacting.log(_same(verified, chunks)), redacting.attachments(attachments)

    def take(self, session_id: str, after: Head, data: bytes, *, trashed: str | None = None) -> Head:
        """Append lines from another store, as `EventLog.take` does; the registry records the redactions that came."""
        has_redactions = codec.REDACTION in data
        with self.registry.locked(), refusing(session_id, "continued"):
            if has_redactions:
                self.registry.record_redactions(session_id, codec.lines(data))
            head = self.log.take(session_id, after, data, trashed=trashed)
        if trashed is not None:
            if has_redactions:
                self.forget_trashed_views(trashed)
        elif not session_id.startswith(TEMPLATE):
            self._changed(session_id, ())
            if has_redactions:
                self.refresh_derived(session_id)
            self.flush_views(session_id)
        return head

    def forget_trashed_views(self, name: str) -> None:
        """Remove the derived files of a session in the trash. They are rebuilt after a restore."""

    def forget_derived(self, session_id: str) -> None:
        """Remove the state derived from a session's log, files too. It is rebuilt when it is needed."""
        self._drop_folds(session_id)

    def refresh_derived(self, session_id: str) -> None:
        """Rebuild the state derived from a session's log, after a redaction."""
        self.forget_derived(session_id)

    def fast_forward(
        self, verified: VerifiedLog, read: Callable[[], _Chunks], attachments: _Attachments = (), *, again: bool = False
    ) -> Head:
        """Add to a session the events of a longer, verified copy of its log, which `read` streams, with their large values.

        Events that this store has redacted are added redacted, as `ingest` does. If the copy has redactions, derived files are
        removed, and the caller calls `refresh_derived` once the parents are redacted too. Raises VersionConflict if the log
        here is no beginning of the copy, LogDamaged, SessionNotFound.
        """
        log_id = verified.session_id
        with self.registry.locked(), refusing(log_id, "imported"):
            lines, attachments = self._redacting(verified, read(), attachments, again=again)
            has_redactions = _has_redactions(lines)  # reads all: it also shows which values are redacted
            if has_redactions and not log_id.startswith(TEMPLATE):
                self.forget_derived(log_id)
            for name, parts in attachments:
                if name.startswith(VALUES):
                    self.log.keep_value(log_id, b"".join(parts))
            lines, _ = self._redacting(verified, read(), (), again=again)
            head = self.log.fast_forward(log_id, lines, root=None if verified.fork else verified.root)
            try:
                self.registry.record_imported(verified)
            except (EventStoreError, OSError):
                self.registry.unsettle()
        if not log_id.startswith(TEMPLATE):
            self._drop_folds(log_id)
            if not has_redactions:
                self._changed(log_id, ())
                self.flush_views(log_id)
        return head

    # --- used ids

    def was_used(self, session_id: str) -> bool:
        """Return whether this id was ever used: its session exists, was deleted or trashed, or its log is missing."""
        return self.registry.look(lambda state: session_id in state.used or session_id in state.there)

    def ended(self, session_id: str) -> int:
        """Return the greatest number of events of a deleted or trashed session with this id; 0 without one.

        Waits for a deletion in progress.
        """
        with suppress(OperationRefused), self.registry.lock.held():  # refused: then no deletion is possible either
            return self.registry.look(lambda state: state.used.get(session_id, 0))
        return self.registry.look(lambda state: state.used.get(session_id, 0))

    def flush_views(self, session_id: str | None = None) -> None:
        """Write the views of one session, or of all that changed, at once. There are none in memory."""


def _has_redactions(chunks: _Chunks) -> bool:
    """Read chunks of any size to the end, and return whether a line among them records a redaction."""
    found, last = False, b""
    for chunk in chunks:
        last += chunk
        found = found or codec.REDACTION in last
        last = last[-len(codec.REDACTION) :]
    return found


def _same(verified: VerifiedLog, chunks: Iterable[bytes]) -> Iterator[bytes]:
    """Stream the bytes of a verified log; raise LogDamaged at the end where they have changed."""
    last, size = list[bytes](), 0
    for chunk in chunks:
        size += len(chunk)
        cut = chunk.rfind(b"\n", 0, len(chunk) - 1) + 1
        last = [*last, chunk] if not cut else [chunk[cut:]]
        yield chunk
    parts = hash_chain.split(b"".join(last).removesuffix(b"\n"))
    if size != verified.head.size_bytes or parts is None or parts[1].hex() != verified.head.hash:
        raise LogDamaged(verified.session_id, "its log", 1, 0, "it is not the log that was verified before", 0)
