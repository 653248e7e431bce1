"""The audit bundle: logs, checkpoints, reports and tables of sessions, with a manifest of hashes, for somebody who trusts nobody.

The layout is documented in the README and promised: `eventstore-audit/1`.
"""

import os
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from datetime import datetime
from importlib import resources
from itertools import chain
from pathlib import Path
from typing import Any, Literal

from eventstore.errors import ExportRefused
from eventstore.exporters import sheet, tables
from eventstore.exporters.questions import Audited, audit_session
from eventstore.exporters.report import Writer, write_html, write_markdown
from eventstore.exporters.tables import TableName
from eventstore.exporters.target import Files, FolderTarget, Target, ZipTarget, to_json, whole_or_not_at_all
from eventstore.ids import STORE_ID, check_log_id
from eventstore.log.base import EventLog
from eventstore.record import codec
from eventstore.release import version
from eventstore.sessions.manager import SessionManager
from eventstore.store.storage import SessionStorage
from projections import statistics

FORMAT = "eventstore-audit/1"
MANIFEST = "manifest.json"

Table = Callable[[Writer, EventLog, Sequence[Audited]], None]


def _table(name: TableName, form: Literal["csv", "json"]) -> Table:
    """Make what writes a table, of the events of each session up to the one that is reported on."""
    columns, rows_of = tables.TABLES[name]

    def write(stream: Writer, log: EventLog, sessions: Sequence[Audited]) -> None:
        rows = chain.from_iterable(rows_of(log, one.session_id, one.version) for one in sessions)
        for piece in sheet.to_csv(columns, rows, bom=True) if form == "csv" else sheet.to_json(columns, rows):
            stream.write(piece)

    return write


_NAMES: tuple[TableName, ...] = ("events", "calls", "usage")
TABLES: dict[str, Table] = {
    **{f"{name}.csv": _table(name, "csv") for name in _NAMES},
    **{f"{name}.json": _table(name, "json") for name in _NAMES},
}
"""The tables of a bundle: what writes each, by its name in the bundle."""


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
    session_ids: Iterable[str],
    output: Path | str,
    *,
    include_store: bool = False,
    made_at: datetime | None = None,
) -> Bundle:
    """Write a bundle of sessions to `output`: one file where it ends in `.zip`, else a folder that is not there yet.

    `include_store` adds the store's own log, as session `_store`. The same sessions and the same `made_at` (now, if none is
    given) give the same bytes. Events that are appended meanwhile are left out. The bundle appears whole or not at all, readable
    by its owner only; a file at `output` is replaced. Memory does not grow with the sessions.

    Raises SessionNotFound, LogDamaged, InvalidSessionId, and ExportRefused, also where a log is redacted meanwhile; then nothing
    was written.
    """
    storage = store.storage if isinstance(store, SessionManager) else store
    wanted = [check_log_id(one) for one in dict.fromkeys(session_ids)]
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
            digest = _write(Files(target), storage, sessions, codec.to_text(made_at) if made_at else codec.now())
        size = target.size_bytes()
    return Bundle(path, tuple(wanted), target.files, size, digest)


def _write(files: Files, storage: SessionStorage, sessions: Sequence[Audited], made_at: str) -> str:
    """Write all files, the manifest last; return its SHA-256."""
    told = [_write_session(files, storage, one) for one in sessions]
    with files.open("report.html") as stream:
        write_html(stream, sessions, made_at=made_at)
    with files.open("report.md") as stream:
        write_markdown(stream, sessions, made_at=made_at)
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
        "sessions": told,
        "files": dict(sorted(files.written.items())),
    }
    with files.open(MANIFEST) as stream:
        stream.write(to_json(manifest))
    return str(files.written[MANIFEST]["sha256"])


def _write_session(files: Files, storage: SessionStorage, one: Audited) -> dict[str, Any]:
    folder = f"sessions/{one.session_id}"
    log = f"{folder}/events.jsonl"
    with files.open(log) as stream:
        for chunk in storage.log.chunks(one.session_id, 0, one.version):
            stream.write(chunk)
    if files.written[log]["sha256"] != one.sha256:
        raise ExportRefused(
            one.session_id, "its log was changed meanwhile, by a redaction or a repair: export it again"
        )
    notes = []
    for name, note in storage.log.notes(one.session_id):
        if _size_of(name) <= one.version:
            notes.append(f"{folder}/checkpoints/{name}")
            with files.open(notes[-1]) as stream:
                stream.write(note)
    with files.open(f"{folder}/session.json") as stream:
        stream.write(to_json(_describe(one)))
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


def _describe(one: Audited) -> dict[str, Any]:
    """Tell what is known of a session without what was said in it."""
    known: dict[str, Any] = {}
    if one.index.kinds["session.created"]:
        known = one.index.summary.metadata.to_model(one.session_id).to_dict()
        known["statistics"] = statistics.to_dict(one.index.summary, one.session_id)
    return {
        "session_id": one.session_id,
        **known,
        "events_by_type": dict(sorted(one.index.kinds.items())),
        "redactions": [
            {name: getattr(removal, name) for name in removal.__slots__} for removal in one.index.removals()
        ],
    }
