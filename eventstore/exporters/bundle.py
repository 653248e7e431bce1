"""The audit bundle: logs, checkpoints, reports and tables of sessions, with a manifest of hashes, for somebody who trusts nobody.

The layout is documented in the README and promised: `eventstore-audit/1`.
"""

import os
import shutil
import zipfile
from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from datetime import datetime
from hashlib import sha256
from importlib import resources
from itertools import chain
from pathlib import Path
from typing import IO, Any, Literal, Protocol

from msgspec import json

from eventstore import codec
from eventstore.errors import ExportRefused
from eventstore.exporters import tables
from eventstore.exporters.questions import Audited, audit_session
from eventstore.exporters.report import Writer, write_html, write_markdown
from eventstore.exporters.sheet import to_csv, to_json
from eventstore.exporters.tables import TableName
from eventstore.log.base import EventLog
from eventstore.manager import SessionManager
from eventstore.names import STORE_ID, check_log_id
from eventstore.release import VERSION
from eventstore.storage import SessionStorage
from projections import statistics

FORMAT = "eventstore-audit/1"
MANIFEST = "manifest.json"

_LONG_AGO = (1980, 1, 1, 0, 0, 0)
_BUFFER = 1 << 16

Table = Callable[[Writer, EventLog, Sequence[Audited]], None]


def _table(name: TableName, form: Literal["csv", "json"]) -> Table:
    """Make what writes a table, of the events of each session up to the one that is reported on."""
    columns, rows_of = tables.TABLES[name]

    def write(stream: Writer, log: EventLog, sessions: Sequence[Audited]) -> None:
        rows = chain.from_iterable(rows_of(log, one.session_id, one.version) for one in sessions)
        for piece in to_csv(columns, rows, bom=True) if form == "csv" else to_json(columns, rows):
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
    with _whole_or_not_at_all(path) as temporary:
        target: _Target = _Zip(temporary) if path.suffix == ".zip" else _Folder(temporary)
        with target:
            digest = _write(_Files(target), storage, sessions, codec.to_text(made_at) if made_at else codec.now())
        size = target.size_bytes()
    return Bundle(path, tuple(wanted), target.files, size, digest)


def _write(files: "_Files", storage: SessionStorage, sessions: Sequence[Audited], made_at: str) -> str:
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
        "eventstore": VERSION,
        "sessions": told,
        "files": dict(sorted(files.written.items())),
    }
    with files.open(MANIFEST) as stream:
        stream.write(_json(manifest))
    return str(files.written[MANIFEST]["sha256"])


def _write_session(files: "_Files", storage: SessionStorage, one: Audited) -> dict[str, Any]:
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
        stream.write(_json(_describe(one)))
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


def _json(value: Any) -> bytes:
    return json.format(json.encode(value), indent=2) + b"\n"


# --- where it goes


class _Target(Protocol):
    """A zip or a folder, while it is being written."""

    files: int

    def open(self, name: str) -> IO[bytes]: ...

    def size_bytes(self) -> int: ...

    def __enter__(self) -> "_Target": ...

    def __exit__(self, *error: object) -> None: ...


class _Zip:
    """One file, the same bytes each time: times are fixed, the order is that of writing."""

    def __init__(self, path: Path) -> None:
        self.files, self._path = 0, path
        self._stream = os.fdopen(os.open(path, os.O_RDWR | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC, 0o600), "w+b")
        self._zip = zipfile.ZipFile(self._stream, "w", zipfile.ZIP_DEFLATED)

    def open(self, name: str) -> IO[bytes]:
        self.files += 1
        told = zipfile.ZipInfo(name, _LONG_AGO)
        told.compress_type, told.create_system, told.external_attr = zipfile.ZIP_DEFLATED, 3, 0o100644 << 16
        return self._zip.open(told, "w", force_zip64=True)

    def size_bytes(self) -> int:
        return self._path.stat().st_size

    def __enter__(self) -> "_Zip":
        return self

    def __exit__(self, *error: object) -> None:
        with self._stream:
            self._zip.close()
            self._stream.flush()
            os.fsync(self._stream.fileno())


class _Folder:
    """A folder of the same layout."""

    def __init__(self, path: Path) -> None:
        self.files, self._path = 0, path
        path.mkdir(0o700)

    def open(self, name: str) -> IO[bytes]:
        self.files += 1
        path = self._path / name
        for folder in reversed(path.relative_to(self._path).parents[:-1]):
            (self._path / folder).mkdir(0o700, exist_ok=True)
        return os.fdopen(os.open(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC, 0o600), "wb")

    def size_bytes(self) -> int:
        return sum(path.stat().st_size for path in self._path.rglob("*") if path.is_file())

    def __enter__(self) -> "_Folder":
        return self

    def __exit__(self, *error: object) -> None:
        for path in [*self._path.rglob("*"), self._path]:
            _sync(path)


class _Hashing:
    """Bytes go through in pieces worth a call, are counted and hashed."""

    def __init__(self, stream: IO[bytes]) -> None:
        self._stream, self._hash, self._pieces, self._held = stream, sha256(), list[bytes](), 0
        self.size_bytes = 0

    def write(self, data: bytes, /) -> None:
        self._pieces.append(data)
        self._held += len(data)
        if self._held >= _BUFFER:
            self.flush()

    def flush(self) -> None:
        data = b"".join(self._pieces)
        self._pieces, self._held = [], 0
        self._hash.update(data)
        self.size_bytes += len(data)
        self._stream.write(data)

    def hexdigest(self) -> str:
        return self._hash.hexdigest()


class _Files:
    """The files of a bundle so far, with hash and size, as the manifest tells them."""

    def __init__(self, target: _Target) -> None:
        self._target = target
        self.written: dict[str, dict[str, Any]] = {}

    @contextmanager
    def open(self, name: str) -> Iterator[Writer]:
        """Begin a file; it is noted when it is whole."""
        with self._target.open(name) as stream:
            hashing = _Hashing(stream)
            yield hashing
            hashing.flush()
        self.written[name] = {"sha256": hashing.hexdigest(), "size_bytes": hashing.size_bytes}


@contextmanager
def _whole_or_not_at_all(path: Path) -> Iterator[Path]:
    """Lend a name beside `path`; what is there becomes `path` where the block ends well, and goes where it does not."""
    temporary = path.with_name(f".{path.name}.{os.getpid()}.new")
    _drop(temporary)
    try:
        yield temporary
        temporary.replace(path)
        _sync(path.parent)
    finally:
        _drop(temporary)


def _drop(path: Path) -> None:
    with suppress(FileNotFoundError):
        if path.is_dir() and not path.is_symlink():
            shutil.rmtree(path)
        else:
            path.unlink()


def _sync(path: Path) -> None:
    descriptor = os.open(path, os.O_RDONLY | os.O_CLOEXEC)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)
