"""Sessions that begin with a past: forks, templates, and logs imported from elsewhere."""

from collections.abc import Iterable, Iterator
from contextlib import suppress

import msgspec

from eventstore.errors import EventStoreError, LogDamaged, OperationRefused, SessionExists
from eventstore.events import SessionCreated
from eventstore.ids import TEMPLATE, check_session_id
from eventstore.log.base import Head
from eventstore.log.ingest import Whole
from eventstore.record import hash_chain
from eventstore.store.folded import FoldedSessions
from eventstore.store.known_redactions import Again, known_redactions
from eventstore.store.lock import refusing
from projections.models import Session


class BranchedSessions(FoldedSessions):
    """Sessions that can be forked, kept as templates, and imported."""

    # --- forks

    def fork_session(self, session_id: str, parent: str, version: int, event: SessionCreated) -> None:
        """Begin a session with the first `version` events of another, as `EventLog.fork` does. Raises as that does.

        Its views are written when something is appended to it: until then they would be copies.
        """
        if self.was_used(session_id):
            event = msgspec.structs.replace(event, used_before=True)
        self.registry.fork(session_id, parent, version, event)

    def save_template(self, name: str, parent: str, version: int, event: SessionCreated) -> None:
        """Keep the first `version` events of a session as a template. Raises SessionExists where the name is taken."""
        self.registry.save_template(name, parent, version, event)

    def use_template(self, name: str, session_id: str, event: SessionCreated) -> None:
        """Begin a session with a template's past. Raises SessionNotFound for the template, SessionExists for the session."""
        self.fork_session(session_id, *self.registry.template(name), event)

    def templates(self) -> list[str]:
        """List the names of templates."""
        return self.registry.templates()

    def load_template(self, name: str) -> Session:
        """Return a template as a session object. Raises SessionNotFound."""
        return self._wholes.get(TEMPLATE + check_session_id(name)).state.to_model(name)

    def remove_template(self, name: str) -> bool:
        """Remove a template; sessions made of it stay. False where there was none."""
        return self.registry.delete(TEMPLATE + check_session_id(name), "template removed")

    # --- logs from elsewhere

    def adopt(
        self,
        whole: Whole,
        chunks: Iterable[bytes],
        beside: Iterable[tuple[str, Iterable[bytes]]] = (),
        *,
        ended: int = 0,
        again: bool = False,
    ) -> Head:
        """Import the verified log of a session or template, as `EventLog.adopt` does, and write its views.

        Events that this store knows to be redacted come in redacted, unless `again` says that they are wanted back.

        `ended` is how many events a session of this id had, where it came from, that was deleted there. Raises as that does, and
        LogDamaged where the chunks are not those that were verified; then nothing was imported.
        """
        log_id = whole.session_id
        with self.registry.locked(), refusing(log_id, "imported"):
            if self.log.exists(log_id):
                raise SessionExists(log_id)
            self.registry.clear_empty(log_id)
            if whole.origin:  # before it is there: who deletes its parent meanwhile must know of it
                self.registry.note_origin(whole)
            root = None if whole.fork else whole.root
            chunks = _same(whole, chunks)
            if known := {} if again else known_redactions(self.log):
                past = self.log.lines(whole.fork.parent, 0, whole.fork.seq) if whole.fork else ()
                redacting = Again(whole, known, past)
                chunks, beside = redacting.log(chunks), redacting.beside(beside)
            head = self.log.adopt(log_id, chunks, beside, root=root)
            try:
                self.registry.note_adopted(whole, ended=ended, is_new=True)
            except (EventStoreError, OSError):
                self.registry.unsettle()  # it is there: the next writer records it
        if not log_id.startswith(TEMPLATE):
            self._changed(log_id, ())
            self.flush_views(log_id)
            self._drop_folds(log_id)
        return head

    # --- ids that were used

    def was_used(self, session_id: str) -> bool:
        """Tell whether this id was used: its session was deleted or trashed, or should be there, as nothing records its end."""
        return self.registry.look(lambda state: session_id in state.used or session_id in state.there)

    def ended(self, session_id: str) -> int:
        """Return how many events a deleted or trashed session with this id had, at most; 0 where there was none.

        Waits for whoever deletes or trashes right now.
        """
        with suppress(OperationRefused), self.registry.lock.held():  # refused: then nobody can delete anything either
            return self.registry.look(lambda state: state.used.get(session_id, 0))
        return self.registry.look(lambda state: state.used.get(session_id, 0))

    def flush_views(self, session_id: str | None = None) -> None:
        """Write the views of one session, or of all that changed, at once. There are none here."""


def _same(whole: Whole, chunks: Iterable[bytes]) -> Iterator[bytes]:
    """Pass on the bytes of a log that was verified; raise LogDamaged at the end where they are others."""
    last, size = list[bytes](), 0
    for chunk in chunks:
        size += len(chunk)
        cut = chunk.rfind(b"\n", 0, len(chunk) - 1) + 1
        last = [*last, chunk] if not cut else [chunk[cut:]]
        yield chunk
    parts = hash_chain.split(b"".join(last).removesuffix(b"\n"))
    if size != whole.head.size_bytes or parts is None or parts[1].hex() != whole.head.hash:
        raise LogDamaged(whole.session_id, "its log", 1, 0, "it is not the log that was verified before", 0)
