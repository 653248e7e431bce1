"""The audit bundle: logs, checkpoints, reports and tables of sessions, with a manifest of hashes, for somebody who trusts nobody.

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
from eventstore.exporters.target import Files, FolderTarget, Target, ZipTarget, to_json, whole_or_not_at_all
from eventstore.ids import STORE_ID, TEMPLATE, check_log_id
from eventstore.log.engine import EventLog
from eventstore.record import clock, codec
from eventstore.release import version
from eventstore.sessions.manager import SessionManager
from eventstore.store.storage import SessionStorage

FORMAT = "eventstore-audit/1"
MANIFEST = "manifest.json"
_CHUNK = 1 << 20
_TRIES = 100  # to list all sessions while none begins or ends

Table = Callable[[Writer, EventLog, Sequence[Audited]], None]
TABLES: dict[str, Table] = {}
"""More tables, of a program's own: what writes each, by its name in the bundle. `verify.py` names them as not proven."""


@dataclass(frozen=True)
class Bundle:
    """A bundle that was written: where it is, its sessions, how many files it has, the SHA-256 of its manifest.

    Whoever keeps `manifest_sha256` elsewhere can tell later whether a bundle is the one.
    """

    path: Path
    sessions: tuple[str, ...]
    files: int
    size_bytes: int
    manifest_sha256: str

    def to_dict(self) -> dict[str, Any]:
        """Give the fields as JSON values."""
        return {**vars(self), "path": str(self.path), "sessions": list(self.sessions)}


def export_audit(
    store: SessionStorage | SessionManager,
    session_ids: Iterable[str] | None,
    output: Path | str,
    *,
    include_store: bool = False,
    made_at: datetime | None = None,
) -> Bundle:
    """Write a bundle of sessions to `output`: one file where it ends in `.zip`, else a folder that is not there yet.

    None instead of ids means all: sessions, templates and the store's own log; only such a bundle says that it holds all.
    `include_store` adds the store's own log, as session `_store`. The same sessions and the same `made_at` (now, if none is
    given) give the same bytes. Events that are appended meanwhile are left out. The bundle appears whole or not at all, readable
    by its owner only; a file at `output` is replaced. Memory does not grow with the sessions.

    Raises SessionNotFound, LogDamaged, InvalidSessionId, and ExportRefused, also where a log is redacted meanwhile; then nothing
    was written.
    """
    storage = store.storage if isinstance(store, SessionManager) else store
    is_all = session_ids is None
    wanted = _all_logs(storage) if session_ids is None else [check_log_id(one) for one in dict.fromkeys(session_ids)]
    if include_store and STORE_ID not in wanted:
        wanted.append(STORE_ID)
    if not wanted:
        raise ExportRefused("", "no session was named")
    path = Path(output)
    if path.suffix != ".zip" and os.path.lexists(path):
        raise ExportRefused(", ".join(wanted), f"{path} is there already: choose another folder, or move it away")
    sessions = [audit_session(storage, one) for one in wanted]
    with whole_or_not_at_all(path) as temporary:
        target: Target = ZipTarget(temporary) if path.suffix == ".zip" else FolderTarget(temporary)
        with target:
            when = clock.to_text(made_at) if made_at else clock.now()
            digest = _write(Files(target), storage, sessions, when, is_all=is_all)
        size = target.size_bytes()
    return Bundle(path, tuple(wanted), target.files, size, digest)


def _all_logs(storage: SessionStorage) -> list[str]:
    """List all that a bundle of everything holds, as the store's own log had it at one moment."""
    for _ in range(_TRIES):
        before = _store_version(storage)
        names = [*storage.log.ids(), *(TEMPLATE + name for name in storage.templates())]
        found = sorted(one for one in names if storage.log.exists(one))
        if _store_version(storage) == before:
            return [*found, *([STORE_ID] if before else [])]
    raise ExportRefused(
        "", "sessions came and went all the time; nothing was written: export again when there is less to do"
    )


def _store_version(storage: SessionStorage) -> int:
    try:
        return storage.log.head(STORE_ID).version
    except SessionNotFound:
        return 0


def _write(files: Files, storage: SessionStorage, sessions: Sequence[Audited], made_at: str, *, is_all: bool) -> str:
    """Write all files, the manifest last; return its SHA-256."""
    told = [_write_session(files, storage, one) for one in sessions]
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
        "sessions": told,
        "files": dict(sorted(files.written.items())),
    }
    with files.open(MANIFEST) as stream:
        stream.write(to_json(manifest))
    return str(files.written[MANIFEST]["sha256"])


def _write_derived(files: Files, storage: SessionStorage, sessions: Sequence[Audited], made_at: str) -> None:
    """Write tables, reports and figures by the rules of `verify.py`, which makes them again: in one pass, through files aside."""
    with ExitStack() as stack:
        aside: dict[str, IO[bytes]] = {}

        def write(name: str, data: bytes) -> None:
            if name.startswith("sessions/"):
                with files.open(name) as stream:
                    stream.write(data)
                return
            if name not in aside:
                aside[name] = stack.enter_context(TemporaryFile())
            aside[name].write(data)

        facts = [_facts_of(storage, one) for one in sessions]
        made = verify.Derivation(facts, made_at, write)
        made.begin()
        for one, known in zip(sessions, facts, strict=True):
            made.session(known, _lines_of(storage, one))
        made.end()
        for name, spool in aside.items():
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
    """Stream the lines that were audited. Raises ExportRefused where they are others now."""
    seen = sha256()
    for chunk in storage.log.chunks(one.session_id, 0, one.version):
        seen.update(chunk)
        yield from codec.lines(chunk)
    if seen.hexdigest() != one.sha256:
        raise _changed(one)


def _changed(one: Audited) -> ExportRefused:
    reason = "its log was changed meanwhile, by a redaction or a repair: export it again"
    return ExportRefused(one.session_id, reason)


def _write_session(files: Files, storage: SessionStorage, one: Audited) -> dict[str, Any]:
    folder = f"sessions/{one.session_id}"
    log = f"{folder}/events.jsonl"
    with files.open(log) as stream:
        for chunk in storage.log.chunks(one.session_id, 0, one.version):
            stream.write(chunk)
    if files.written[log]["sha256"] != one.sha256:
        raise _changed(one)
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


def _size_of(name: str) -> int:
    """Tell of how many events a note speaks, by its name; one that speaks of more than is exported came meanwhile."""
    digits = name.partition("-")[0]
    return int(digits) if digits.isascii() and digits.isdecimal() else 0
