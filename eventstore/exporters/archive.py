"""Archives: complete sessions in one zip file, for another store. `eventstore.importers.archive_manifest` defines the format."""

import os
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass
from datetime import datetime
from hashlib import sha256
from pathlib import Path, PurePosixPath
from typing import Any

from eventstore.backends.files.atomic_folder import ASIDE
from eventstore.errors import ExportRefused, InvalidSessionId, LogTampered, SessionNotFound
from eventstore.events import InvocationEvent
from eventstore.exporters.target import Files, ZipTarget, atomic_output, to_json
from eventstore.ids import STORE_ID, TEMPLATE, check_log_id
from eventstore.importers.archive_manifest import (
    FORMAT,
    MANIFEST,
    FileEntry,
    ForkedFrom,
    Manifest,
    SessionEntry,
    find_twins,
    odd_name,
)
from eventstore.log.base import Head
from eventstore.log.ingest import VerifiedLog, verify_whole
from eventstore.log.values import FOLDER
from eventstore.record import clock, codec, tombstone
from eventstore.record.fork_point import read_fork_point
from eventstore.release import version
from eventstore.sessions.manager import SessionManager
from eventstore.store.storage import SessionStorage
from projections.calls import large_values

_VALUE = b'"value_sha256":"'
_BLOCK = 1 << 17
_LEVEL = 1  # measured: a fifth of the time of level 6, for a file a fifth larger
_MEANWHILE = "its log was redacted, repaired or deleted in the meantime: export it again"


@dataclass(frozen=True)
class Archive:
    """The result of an export: path, sessions and templates, number of files, size, SHA-256 of the manifest (hex).

    `left_out` lists what is missing, one line each: folders of tool calls that do not exist or are outside the history, links.
    """

    path: Path
    sessions: tuple[str, ...]
    files: int
    size_bytes: int
    manifest_sha256: str
    left_out: tuple[str, ...] = ()

    def to_dict(self) -> dict[str, Any]:
        """Return the fields as JSON values."""
        return {
            **vars(self),
            "path": str(self.path),
            "sessions": list(self.sessions),
            "left_out": list(self.left_out),
        }


@dataclass(frozen=True)
class _Planned:
    """A log to export: its lines after `after`, up to `head`. `after` counts the lines that its exported parent has."""

    log_id: str
    head: Head
    after: int
    root: str


def export_archive(
    store: SessionStorage | SessionManager,
    output: Path | str,
    session_ids: Iterable[str] | None = None,
    *,
    made_at: datetime | None = None,
) -> Archive:
    """Write sessions and templates to one zip file. Templates are named `_template.<name>`. Without ids everything is written.

    Logs are copied byte for byte, with checkpoints, quarantine, large values and the folders of tool calls. Of a fork only its
    own events are written if its parent is in the archive, else all of them. Events appended during the export are not included.
    The same sessions and the same `made_at` (default: now) give the same bytes. The file is written atomically, with mode 0600,
    and replaces an existing one. Memory grows with the number of files, not with their sizes.

    Raises SessionNotFound, LogDamaged, InvalidSessionId, and ExportRefused, also if a session is deleted or redacted in
    the meantime. Then nothing was written.
    """
    storage = store.storage if isinstance(store, SessionManager) else store
    wanted = _wanted(storage, session_ids)
    plan = [_plan(storage, one, after) for one, after in _own_parts(storage, wanted).items()]
    path = Path(output)
    with atomic_output(path) as temporary:
        target = ZipTarget(temporary, _LEVEL)
        with target:
            writing = _Writing(Files(target), storage)
            for one in plan:
                writing.add_session(one)
            for folder in sorted(writing.linked):
                writing.add_history(folder)
            digest = writing.finish(clock.to_text(made_at) if made_at else clock.now())
        size = target.size_bytes()
    return Archive(path, tuple(wanted), target.files, size, digest, tuple(writing.left_out))


def _wanted(storage: SessionStorage, session_ids: Iterable[str] | None) -> list[str]:
    if session_ids is None:
        found = [*storage.log.ids(), *(TEMPLATE + name for name in storage.templates())]
    else:
        found = [check_log_id(one) for one in session_ids]
    if STORE_ID in found:
        raise InvalidSessionId(STORE_ID, "the registry cannot be exported")
    if not found:
        raise ExportRefused("", "there are none in the store" if session_ids is None else "no session was named")
    return sorted(set(found))


def _own_parts(storage: SessionStorage, wanted: list[str]) -> dict[str, int]:
    """Return how many events of each log its parent holds, if the parent is exported too; else 0.

    This runs before any head is read, so each head that is read later includes the fork points.
    """
    among = frozenset(wanted)
    return {one: _left_to_parent(storage, one, among) for one in wanted}


def _left_to_parent(storage: SessionStorage, log_id: str, wanted: frozenset[str]) -> int:
    after = storage.log.inherited(log_id)
    if not after:
        return 0
    point = read_fork_point(next(storage.log.lines(log_id, after, after + 1), b""))
    return after if point is not None and point.into == log_id and point.parent in wanted else 0


def _plan(storage: SessionStorage, log_id: str, after: int) -> _Planned:
    return _Planned(log_id, storage.log.head(log_id), after, storage.log.root_of(log_id))


class _Writing:
    """An archive in progress: its sessions, the tool call folders that they link to, and what was left out."""

    def __init__(self, files: Files, storage: SessionStorage) -> None:
        self._files, self._storage = files, storage
        self._sessions: list[SessionEntry] = []
        self._history: list[str] = []
        self._above: set[str] = set()
        self._values: set[str] = set()
        self.linked: set[str] = set()
        self.left_out: list[str] = []

    def add_session(self, one: _Planned) -> None:
        """Write a log, verified in the same pass, and its attachments."""
        log = self._storage.log
        folder = f"sessions/{one.log_id}"
        try:
            with self._files.open(f"{folder}/events.jsonl") as stream:
                lines = self._passing(log.chunks(one.log_id, one.after, one.head.version), stream.write)
                verified = verify_whole(one.log_id, lines, root=one.root)
        except LogTampered as error:
            if not one.after and error.line <= log.inherited(one.log_id):
                reason = (
                    f"event {error.line} was redacted in the session that it was forked from: export that session too"
                )
                raise ExportRefused(one.log_id, reason) from error
            raise ExportRefused(one.log_id, _MEANWHILE) from error
        except SessionNotFound as error:
            raise ExportRefused(one.log_id, _MEANWHILE) from error
        if (verified.inherited, verified.head.version, verified.head.hash) != (
            one.after,
            one.head.version,
            one.head.hash,
        ):
            raise ExportRefused(one.log_id, _MEANWHILE)
        self._refuse_unfinished(verified)
        for name in log.attachments(one.log_id):
            if not name.startswith(FOLDER):
                with self._files.open(f"{folder}/{name}") as stream:
                    for chunk in log.read_beside(one.log_id, name):
                        stream.write(chunk)
        self._add_values(one.log_id, folder)
        self._sessions.append(
            SessionEntry(
                one.log_id,
                verified.root,
                verified.head.version,
                verified.inherited,
                verified.head.hash,
                ForkedFrom(verified.origin.parent, verified.origin.seq, verified.origin.digest.hex())
                if verified.origin
                else None,
                self._storage.ended(one.log_id),
            )
        )

    def _add_values(self, log_id: str, folder: str) -> None:
        """Write the large values of the lines, also those that a fork has of a parent that is not exported."""
        for digest in sorted(self._values):
            try:
                text = self._storage.log.read_value(log_id, digest)
            except FileNotFoundError:
                self.left_out.append(f"session {log_id!a}: {FOLDER}{digest} does not exist")
                continue
            if sha256(text).hexdigest() != digest:
                raise ExportRefused(log_id, f"{FOLDER}{digest} is not what was recorded: verify the session")
            with self._files.open(f"{folder}/{FOLDER}{digest}") as stream:
                stream.write(text)
        self._values.clear()

    def _passing(self, chunks: Iterable[bytes], write: Callable[[bytes], object]) -> Iterator[bytes]:
        for chunk in chunks:
            write(chunk)
            if codec.INVOCATION in chunk or _VALUE in chunk:
                self._note_links(chunk)
            yield chunk

    def _note_links(self, chunk: bytes) -> None:
        for line in codec.lines(chunk):
            event = codec.read_valued(line)
            self._values |= {digest for _, _, digest in large_values(event)}
            if isinstance(event, InvocationEvent) and event.invocation_dir:
                self.linked.add(event.invocation_dir)

    def _refuse_unfinished(self, verified: VerifiedLog) -> None:
        """Refuse to export content whose redaction is recorded but unfinished, after a crash."""
        for seq, leaf in verified.redactions.items():
            line = next(self._storage.log.lines(verified.session_id, seq - 1, seq), b"")
            if (
                tombstone.read_tombstone(line) is None
                and tombstone.leaf_of(line) == leaf
                and tombstone.make_tombstone(line) is not None
            ):
                reason = f"event {seq} has an unfinished redaction: append to the session, which completes it"
                if verified.origin and seq <= verified.origin.seq:
                    reason = (
                        f"event {seq}, of {verified.origin.parent!r}, is redacted here only: export that session too"
                    )
                raise ExportRefused(verified.session_id, reason)

    def add_history(self, folder: str) -> None:
        """Write the regular files of a tool call folder."""
        history = self._storage.history
        why = odd_name(folder) or ("has a reserved name" if folder.split("/")[0] == ASIDE else None)
        if history is None or why:
            self.left_out.append(f"history {folder[:200]!a}: {why or 'there is no history folder'}")
            return
        if not self._above.isdisjoint(str(one) for one in PurePosixPath(folder).parents):
            return  # inside a folder that is already written
        try:
            for name, file in history.files(folder):
                self._add_file(f"{folder}/{name}", file)
        except FileNotFoundError:
            self.left_out.append(f"history {folder!a}: does not exist")
        except ValueError:
            self.left_out.append(f"history {folder!a}: is a link or outside the history folder")
        else:
            self._history.append(folder)
            self._above.add(folder)

    def _add_file(self, name: str, file: int | None) -> None:
        why = odd_name(name)
        if why or file is None:
            self.left_out.append(f"history {name[:200]!a}: {why or 'is not a regular file'}")
            return
        with self._files.open(f"history/{name}") as stream:
            while data := os.read(file, _BLOCK):
                stream.write(data)

    def finish(self, made_at: str) -> str:
        """Write the manifest; return its SHA-256."""
        twins = find_twins(self._files.written)
        if twins:
            raise ExportRefused(
                "", f"{twins[0]!a} and {twins[1]!a} are the same file on some systems: export them separately"
            )
        files = {name: FileEntry(**entry) for name, entry in sorted(self._files.written.items())}
        manifest = Manifest(FORMAT, made_at, version(), self._sessions, self._history, files)
        with self._files.open(MANIFEST) as stream:
            stream.write(to_json(manifest))
        return str(self._files.written[MANIFEST]["sha256"])
