"""The audit bundle: logs, checkpoints, reports and tables of sessions, with a manifest of hashes, for independent verification.

The layout is documented in README.md of this folder and promised: `eventstore-audit/1`.
"""

import os
from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import ExitStack
from dataclasses import dataclass
from datetime import datetime
from hashlib import sha256
from importlib import resources
from pathlib import Path
from tempfile import TemporaryFile
from typing import IO, Any

from eventstore.errors import ExportRefused, SessionNotFound
from eventstore.exporters import verify
from eventstore.exporters.questions import Audited, audit_session
from eventstore.exporters.report import Writer
from eventstore.exporters.target import Files, FolderTarget, Target, ZipTarget, atomic_output, to_json
from eventstore.ids import STORE_ID, TEMPLATE, check_log_id
from eventstore.log.engine import EventLog
from eventstore.record import clock, codec
from eventstore.release import version
from eventstore.sessions.manager import SessionManager
from eventstore.store.storage import SessionStorage
from projections.calls import large_values

FORMAT = "eventstore-audit/1"
MANIFEST = "manifest.json"
_CHUNK = 1 << 20  # bytes copied at once
_TRIES = 100  # attempts to list all sessions while none is created or deleted

Table = Callable[[Writer, EventLog, Sequence[Audited]], None]
TABLES: dict[str, Table] = {}
"""Additional tables of a program: writer by file name in the bundle. `verify.py` reports these files as not proven."""


@dataclass(frozen=True)
class Bundle:
    """The result of an export: path, sessions, number of files, size, SHA-256 of the manifest (hex).

    Keep `manifest_sha256` elsewhere: it identifies this bundle later.
    """

    path: Path
    sessions: tuple[str, ...]
    files: int
    size_bytes: int
    manifest_sha256: str

    def to_dict(self) -> dict[str, Any]:
        """Return the fields as JSON values."""
        return {**vars(self), "path": str(self.path), "sessions": list(self.sessions)}


def export_audit(
    store: SessionStorage | SessionManager,
    session_ids: Iterable[str] | None,
    output: Path | str,
    *,
    include_store: bool = False,
    made_at: datetime | None = None,
) -> Bundle:
    """Write a bundle of sessions to `output`: a file if it ends in `.zip`, else a new folder.

    `session_ids=None` means all sessions, templates and the registry; only such a bundle claims to be complete. `include_store`
    adds the registry, as session `_store`. The same sessions and the same `made_at` (default: now) give the same bytes. Events
    appended during the export are not included. The bundle is written atomically and readable by its owner only; an existing
    file is replaced. Memory does not grow with the sessions.

    Raises SessionNotFound, LogDamaged, InvalidSessionId, and ExportRefused, also if a log is redacted in the meantime.
    Then nothing was written.
    """
    storage = store.storage if isinstance(store, SessionManager) else store
    is_all = session_ids is None
    wanted = _all_logs(storage) if session_ids is None else [check_log_id(one) for one in dict.fromkeys(session_ids)]
    if include_store and STORE_ID not in wanted:
        wanted.append(STORE_ID)
    if not wanted:
        raise ExportRefused("", "there are none in the store" if is_all else "no session was named")
    path = Path(output)
    if path.suffix != ".zip" and os.path.lexists(path):
        raise ExportRefused(", ".join(wanted), f"{path} already exists: choose another folder, or move it away")
    sessions = [audit_session(storage, one) for one in wanted]
    with atomic_output(path) as temporary:
        target: Target = ZipTarget(temporary) if path.suffix == ".zip" else FolderTarget(temporary)
        with target:
            when = clock.to_text(made_at) if made_at else clock.now()
            digest = _write(Files(target), storage, sessions, when, is_all=is_all)
        size = target.size_bytes()
    return Bundle(path, tuple(wanted), target.files, size, digest)


def _all_logs(storage: SessionStorage) -> list[str]:
    """List all logs of the store as of one version of the registry. Retries if the registry grows in the meantime."""
    for _ in range(_TRIES):
        before = _store_version(storage)
        names = [*storage.log.ids(), *(TEMPLATE + name for name in storage.templates())]
        found = sorted(one for one in names if storage.log.exists(one))
        if _store_version(storage) == before:
            return [*found, *([STORE_ID] if before else [])]
    raise ExportRefused(
        "", "sessions were created or deleted during every attempt: export again when the store is less busy"
    )


def _store_version(storage: SessionStorage) -> int:
    try:
        return storage.log.head(STORE_ID).version
    except SessionNotFound:
        return 0


def _write(files: Files, storage: SessionStorage, sessions: Sequence[Audited], made_at: str, *, is_all: bool) -> str:
    """Write all files, the manifest last; return its SHA-256."""
    entries = [_write_session(files, storage, one) for one in sessions]
    _write_derived(files, storage, sessions, made_at)
    for name, table in TABLES.items():
        with files.open(name) as stream:
            table(stream, storage.log, sessions)
    verifier = resources.files("eventstore.exporters").joinpath("verify.py")
    if verifier.is_file():
        with files.open("verify.py") as stream:
            stream.write(verifier.read_bytes())
    manifest = {
        "format": FORMAT,
        "made_at": made_at,
        "eventstore": version(),
        "scope": "all" if is_all else "selected",
        "derived": verify.DERIVED,
        "sessions": entries,
        "files": dict(sorted(files.written.items())),
    }
    with files.open(MANIFEST) as stream:
        stream.write(to_json(manifest))
    return str(files.written[MANIFEST]["sha256"])


def _write_derived(files: Files, storage: SessionStorage, sessions: Sequence[Audited], made_at: str) -> None:
    """Write tables, reports and figures with the code of `verify.py`, which derives them again to compare.

    All are derived in one pass, but a zip takes one file at a time, so the others go through temporary files.
    """
    with ExitStack() as stack:
        spools: dict[str, IO[bytes]] = {}

        def write(name: str, data: bytes) -> None:
            if name.startswith("sessions/"):
                with files.open(name) as stream:
                    stream.write(data)
                return
            if name not in spools:
                spools[name] = stack.enter_context(TemporaryFile())
            spools[name].write(data)

        facts = [_facts_of(storage, one) for one in sessions]
        made = verify.Derivation(facts, made_at, write)
        made.begin()
        for one, known in zip(sessions, facts, strict=True):
            made.session(known, _lines_of(storage, one))
        made.end()
        for name, spool in spools.items():
            spool.seek(0)
            with files.open(name) as stream:
                for chunk in iter(lambda spool=spool: spool.read(_CHUNK), b""):  # type: ignore[misc]
                    stream.write(chunk)


def _facts_of(storage: SessionStorage, one: Audited) -> verify.Facts:
    facts = verify.Facts(one.session_id, one.root)
    for line in _lines_of(storage, one):
        facts.take(verify.read_object(line), is_stub=verify.leaf_of(line)[1])
    return facts


def _lines_of(storage: SessionStorage, one: Audited) -> Iterator[bytes]:
    """Stream the lines that were audited. Raises ExportRefused if they have changed since."""
    seen = sha256()
    for chunk in storage.log.chunks(one.session_id, 0, one.version):
        seen.update(chunk)
        yield from codec.lines(chunk)
    if seen.hexdigest() != one.sha256:
        raise _changed(one)


def _changed(one: Audited) -> ExportRefused:
    reason = "its log was redacted or repaired in the meantime: export it again"
    return ExportRefused(one.session_id, reason)


def _write_session(files: Files, storage: SessionStorage, one: Audited) -> dict[str, Any]:
    folder = f"sessions/{one.session_id}"
    log = f"{folder}/events.jsonl"
    with files.open(log) as stream:
        for chunk in storage.log.chunks(one.session_id, 0, one.version):
            stream.write(chunk)
    if files.written[log]["sha256"] != one.sha256:
        raise _changed(one)
    for digest in _values_of(storage, one):
        try:
            text = storage.log.read_value(one.session_id, digest)
        except FileNotFoundError:
            text = b""
        if sha256(text).hexdigest() != digest:
            reason = (
                f"a value of a call, values/{digest}, is {'not what was recorded' if text else 'missing'}: verify the "
                "session"
            )
            raise ExportRefused(one.session_id, reason)
        with files.open(verify.value_file(one.session_id, digest)) as stream:
            stream.write(text)
    notes = []
    for name, note in storage.log.notes(one.session_id):
        if _size_of(name) <= one.version:
            notes.append(f"{folder}/checkpoints/{name}")
            with files.open(notes[-1]) as stream:
                stream.write(note)
    return {
        "session_id": one.session_id,
        "root": one.root,
        "log": log,
        "events": one.version,
        "head_hash": one.hash,
        "checkpoints": notes,
    }


def _values_of(storage: SessionStorage, one: Audited) -> list[str]:
    """Return the hashes of the large values of a session's calls."""
    found = (codec.read_valued(line) for line in _lines_of(storage, one))
    return sorted({digest for event in found for _, _, digest in large_values(event)})


def _size_of(name: str) -> int:
    """Return the number of events that a note covers, from its name. A note of more than the exported events is newer."""
    digits = name.partition("-")[0]
    return int(digits) if digits.isascii() and digits.isdecimal() else 0
