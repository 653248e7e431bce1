"""Export the file that a session was imported from, byte for byte."""

from collections.abc import Iterator

from eventstore.errors import ExportRefused
from eventstore.events import SessionCreated
from eventstore.importers import gemini
from eventstore.importers.pieces import import_start, pieces, redacted_pieces, replaced_pieces
from eventstore.store.storage import SessionStorage


def export_transcript(storage: SessionStorage, session_id: str, form: str) -> Iterator[bytes]:
    """Stream the transcript. `form` is the format it was imported from. Raises ExportRefused, SessionNotFound, LogDamaged."""
    own = import_start(storage, session_id)
    first = next(storage.log.read(session_id, own, own + 1))
    known = first.custom_metadata if isinstance(first, SessionCreated) else {}
    if "told_in" in known:
        raise ExportRefused(
            session_id, f"it was imported as a part of session {known.get('parent_session')!r}: export that one"
        )
    if known.get("source") != form:
        raise ExportRefused(session_id, f"it was not imported from {form}: export it as events")
    redacted = redacted_pieces(storage, session_id, own)
    replaced = replaced_pieces(storage, session_id, form, own) if redacted else {}
    lost = redacted.keys() - replaced.keys()
    if lost:
        raise ExportRefused(session_id, f"{len(lost)} lines of that file were redacted: export it as events")
    kept = pieces(storage.log.read(session_id, own), form, replaced)
    return gemini.exported(kept) if form == gemini.FORMAT else kept
