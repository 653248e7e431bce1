"""Import an archive that `export_archive` wrote. Treat it as hostile: all is verified before anything is written."""

from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any

from eventstore.errors import (
    EventStoreError,
    ImportRefused,
    LogDamaged,
    SessionExists,
    SessionNotFound,
    VersionConflict,
)
from eventstore.ids import TEMPLATE
from eventstore.importers.archive_check import VerifiedArchive, verify_archive
from eventstore.importers.archive_file import MAX_RATIO, OpenedArchive
from eventstore.integrity.redaction_import import carrying_out
from eventstore.sessions.manager import SessionManager
from eventstore.store.known_redactions import known_redactions
from eventstore.store.removed_text import mark
from eventstore.store.storage import SessionStorage
from eventstore.store.tool_history import RECORD, cleaned_record


@dataclass(frozen=True)
class ImportedArchive:
    """What was imported from an archive, or would be: new and skipped sessions, events, folders of tool calls.

    A session is `skipped` where the store has all of its events, and maybe more. It is `same`, and stays as it is here, where it
    was made by an import of a transcript that this store has imported by itself.

    `redacted` is the number of events that lose their content in this store, because they are redacted in the archive. `left`
    names what a person should check, as that of `Redacted` does.
    """

    path: Path
    sessions: tuple[str, ...]
    skipped: tuple[str, ...]
    same: tuple[str, ...]
    events: int
    history: int
    size_bytes: int
    redacted: int = 0
    left: tuple[str, ...] = ()

    def to_dict(self) -> dict[str, Any]:
        """Return the fields as JSON values."""
        return {
            **vars(self),
            "path": str(self.path),
            "sessions": list(self.sessions),
            "skipped": list(self.skipped),
            "same": list(self.same),
            "left": list(self.left),
        }


def import_archive(
    store: SessionStorage | SessionManager,
    path: Path | str,
    *,
    dry_run: bool = False,
    max_ratio: int = MAX_RATIO,
    again: bool = False,
    on_session: Callable[[str, bool], None] = lambda session_id, is_new: None,
) -> ImportedArchive:
    """Import the sessions of an archive with their attachments and tool calls. Logs are copied byte for byte.

    First all of it is read and verified: names, sizes, hashes, chains, forks, and conflicts with the store. An error means that
    nothing was written. Then each folder of a tool call and each session is created in a temporary folder and renamed; a crash
    leaves none of them incomplete, and a second import continues. A session is skipped where the store has all its events. It
    gets those that only the archive has, if its log is the beginning of the one there; a different one is refused. `dry_run`
    verifies only. `on_session` is called with each session's id, and whether it is new or has more.

    Events that the store has redacted are imported redacted, and so are the records of their tool calls, unless `again` is set.
    Events that are redacted in what is imported are redacted in all sessions here that have them, as `redact` does it.
    Modes and times of files are not kept: files get mode 0600 and the present time.

    Raises ImportRefused; OSError where the disk is full.
    """
    storage = store.storage if isinstance(store, SessionManager) else store
    with OpenedArchive(Path(path), max_ratio) as opened:
        verified = verify_archive(opened, storage, {} if again else known_redactions(storage.log))
        left = list[str]()
        if not dry_run:
            grown = {one: verified.redactions[one] for one in verified.grown}
            with carrying_out(storage, verified.arriving, verified.here, grown) as left:
                _write(opened, storage, verified, on_session, again=again)
            for log_id in grown:
                with suppress(EventStoreError, OSError):  # they are written with the next append
                    if not log_id.startswith(TEMPLATE):
                        storage.refresh_derived(log_id)
    new = [verified.logs[one] for one in verified.new]
    return ImportedArchive(
        opened.path,
        (*verified.new, *verified.grown),
        tuple(sorted(verified.logs.keys() - {*verified.new, *verified.grown, *verified.same})),
        tuple(sorted(verified.same)),
        sum(one.head.version - one.inherited for one in new)
        + sum(verified.logs[one].head.version - version for one, version in verified.grown.items()),
        len(verified.folders),
        sum(entry.size_bytes for entry in opened.manifest.files.values()),
        verified.here.events,
        tuple(left),
    )


def _write(
    opened: OpenedArchive,
    storage: SessionStorage,
    verified: VerifiedArchive,
    on_session: Callable[[str, bool], None],
    *,
    again: bool,
) -> None:
    """Write the verified content: the folders of tool calls, then the sessions."""
    with _refusing(opened):
        for folder, names in verified.folders.items():
            assert storage.history is not None  # noqa: S101 - verified before
            files = ((name, opened.read(f"history/{folder}/{name}")) for name in names)
            storage.history.ingest(folder, _redacted(files) if folder in verified.redacted else files)
        for log_id in verified.order:
            entry, log = verified.entries[log_id], verified.logs[log_id]
            attachments = ((name, opened.read(f"{entry.folder}/{name}")) for name in verified.attachments[log_id])
            read = partial(opened.read, entry.log)
            if log_id in verified.grown:
                storage.fast_forward(log, read, attachments, again=again)
            else:
                storage.ingest(log, read(), attachments, ended=entry.ended_events, again=again)
            on_session(log_id, True)
        for log_id in sorted(verified.logs.keys() - set(verified.order)):
            if log_id not in verified.same:
                storage.registry.record_imported(verified.logs[log_id])
            if not log_id.startswith(TEMPLATE):
                storage.renew_views(log_id)
            on_session(log_id, False)


def _redacted(files: Iterable[tuple[str, Iterable[bytes]]]) -> Iterator[tuple[str, Iterable[bytes]]]:
    """Redact the record among the files of a tool call."""
    for name, chunks in files:
        yield name, [cleaned_record(b"".join(chunks), mark)] if name == RECORD else chunks


@contextmanager
def _refusing(opened: OpenedArchive) -> Iterator[None]:
    """Raise ImportRefused if another writer was faster, or the archive changed since it was verified."""
    try:
        yield
    except (SessionExists, SessionNotFound, VersionConflict, FileExistsError, LogDamaged) as error:
        what = f"session {error.session_id!r}" if isinstance(error, EventStoreError) else "the folder of a tool call"
        raise ImportRefused(
            str(opened.path),
            0,
            f"{what} was written by another program in the meantime, or its parent was deleted; it was not "
            "imported, but all that came "
            "before it was: import again",
        ) from error
