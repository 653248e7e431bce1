"""Import an archive that `export_archive` wrote. It is treated as hostile: everything is verified before anything is written."""

import os
import shutil
import stat
import struct
import zipfile
import zlib
from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from hashlib import sha256
from pathlib import Path, PurePosixPath
from typing import Any, BinaryIO, NamedTuple, NoReturn

import msgspec

from eventstore.backends.files.atomic_folder import ASIDE
from eventstore.errors import (
    EventStoreError,
    ImportRefused,
    InvalidSessionId,
    LogDamaged,
    SessionExists,
    SessionNotFound,
)
from eventstore.events import InvocationLinked
from eventstore.ids import STORE_ID, check_log_id
from eventstore.importers.archive_manifest import (
    FORMAT,
    MANIFEST,
    Manifest,
    SessionEntry,
    find_twins,
    odd_name,
    place_of,
)
from eventstore.log.ingest import Whole, verify_whole
from eventstore.record import codec, hash_chain
from eventstore.sessions.manager import SessionManager
from eventstore.store.known_redactions import Known, known_redactions, redacted_folders
from eventstore.store.removed_text import mark
from eventstore.store.storage import SessionStorage
from eventstore.store.storages import FileSystemSessionStorage
from eventstore.store.tool_history import RECORD, cleaned_record

MAX_FILES = 500_000
"""Archives with more files are refused: each file needs about 2 KB of memory."""
MAX_MANIFEST_BYTES = 200_000_000
"""Longer manifests are refused."""
MAX_RATIO = 250
"""Archives that unpack to over a gigabyte and over this multiple of their size are refused (zip bombs)."""

_RATIO_FLOOR_BYTES = 1 << 30
_BLOCK = 1 << 17
_ENTRY_BYTES = (
    46 + 2 * 4000
)  # an entry of the zip directory: its fixed part, then a name and extra fields of that length
_END = struct.Struct("<4s4H2LH")
_END_64 = struct.Struct("<4sQ2H2L4Q")
_LOCATOR = struct.Struct("<4sLQL")
_LINKED = b'{"type":"invocation.linked",'
_NEXT = "nothing was written: "


@dataclass(frozen=True)
class ImportedArchive:
    """The result of an import or a dry run: new sessions, existing sessions, numbers of new events and of tool call folders.

    A session is `skipped` if the store already has all of its events. `size_bytes` is the unpacked size.
    """

    path: Path
    sessions: tuple[str, ...]
    skipped: tuple[str, ...]
    events: int
    history: int
    size_bytes: int

    def to_dict(self) -> dict[str, Any]:
        """Return the fields as JSON values."""
        return {
            **vars(self),
            "path": str(self.path),
            "sessions": list(self.sessions),
            "skipped": list(self.skipped),
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
    """Import the sessions of an archive with their checkpoints, quarantine and tool calls. Logs stay byte for byte the same.

    First everything is read and verified: names, sizes, hashes, chains, forks, and conflicts with the store. Any fault raises an
    error, and nothing is written. Then each tool call folder and each session is written atomically. After a crash, import
    again: what is complete is skipped. An existing session is skipped if the store has all its events. It is refused if it is a
    different session, or if the archive has more events. `dry_run` verifies only. `on_session` is called with the id of each
    session and True if it is new.

    Events that this store has redacted are imported as redacted, and the records of their tool calls too; `again=True` imports
    them with their content. Modes and times of files are not kept: files have mode 0600 and the current time.

    Raises ImportRefused, or OSError if the disk is full.
    """
    storage = store.storage if isinstance(store, SessionManager) else store
    with _Opened(Path(path), max_ratio) as opened:
        checked = _check(opened, storage, {} if again else known_redactions(storage.log))
        if not dry_run:
            _write(opened, storage, checked, on_session, again=again)
    new = [checked.logs[one] for one in checked.new]
    return ImportedArchive(
        opened.path,
        tuple(checked.new),
        tuple(sorted(checked.logs.keys() - set(checked.new))),
        sum(one.head.version - one.inherited for one in new),
        len(checked.folders),
        sum(entry.size_bytes for entry in opened.manifest.files.values()),
    )


# --- the file


class _Opened:
    """An open archive with a valid file list and manifest. Raises ImportRefused."""

    def __init__(self, path: Path, max_ratio: int) -> None:
        self.path, self._max_ratio = path, max_ratio
        try:
            self._stream = path.open("rb")
        except OSError as error:
            self.refuse(f"it cannot be read: {error.strerror}", "check the path")
        try:
            size = self._size()
            self._zip = self._open_zip()
            self._entries = self._list(size)
            self.manifest = self._read_manifest()
            self._compare(size)
        except BaseException:
            self._stream.close()
            raise

    def __enter__(self) -> "_Opened":
        return self

    def __exit__(self, *error: object) -> None:
        self._zip.close()
        self._stream.close()

    def refuse(self, reason: str, advice: str = "get it again from its source") -> NoReturn:
        """Raise ImportRefused for this archive."""
        raise ImportRefused(str(self.path), 0, f"{reason}; {_NEXT}{advice}")

    def _size(self) -> int:
        found = os.fstat(self._stream.fileno())
        if not stat.S_ISREG(found.st_mode):
            self.refuse("it is not a regular file", "give the path of an archive")
        return found.st_size

    def _open_zip(self) -> zipfile.ZipFile:
        count, size = _directory_of(self._stream)
        if count is None:
            self.refuse(
                "it is not a complete zip file, or has extra bytes", "pass a file that `export --archive` wrote"
            )
        # zipfile reads the entire list into memory, so its size is checked first.
        if count > MAX_FILES or size > MAX_FILES * 400 or size > count * _ENTRY_BYTES + 100:
            self.refuse(
                f"it lists more than {MAX_FILES:,} files, or its list is too long", "export fewer sessions at once"
            )
        try:
            return zipfile.ZipFile(self._stream)
        except (zipfile.BadZipFile, NotImplementedError, ValueError, OSError, struct.error, UnicodeError):
            self.refuse("it is not a complete zip file")

    def _list(self, size: int) -> dict[str, zipfile.ZipInfo]:
        found: dict[str, zipfile.ZipInfo] = {}
        for one in self._zip.infolist():
            shown = f"its file {one.orig_filename[:200]!a}"
            why = odd_name(one.orig_filename) or _odd_entry(one, size)
            if why:
                self.refuse(f"{shown} {why}")
            if one.filename in found:
                self.refuse(f"{shown} is in it twice")
            found[one.filename] = one
        twins = find_twins(found)
        if twins:
            self.refuse(f"{twins[0][:200]!a} and {twins[1][:200]!a} are the same file on some systems")
        return found

    def _read_manifest(self) -> Manifest:
        entry = self._entries.pop(MANIFEST, None)
        if entry is None:
            self.refuse(f"it has no {MANIFEST}", "pass a file that `export --archive` wrote")
        if entry.file_size > MAX_MANIFEST_BYTES:
            self.refuse(f"its {MANIFEST} is longer than {MAX_MANIFEST_BYTES:,} bytes")
        try:
            data = b"".join(self._chunks(entry))
            form = msgspec.json.decode(data, type=dict[str, msgspec.Raw]).get("format", b"")
            if bytes(form) != msgspec.json.encode(FORMAT):
                self.refuse(f"its format is not {FORMAT}", "use the release that wrote it, or a later one")
            return msgspec.json.decode(data, type=Manifest)
        except (msgspec.DecodeError, UnicodeDecodeError, RecursionError) as error:
            self.refuse(f"its {MANIFEST} is invalid ({error})")

    def _compare(self, size: int) -> None:
        """Compare the manifest with the files, and refuse zip bombs."""
        files = self.manifest.files
        for name in sorted(files.keys() ^ self._entries.keys()):
            where = f"is in its {MANIFEST} only" if name in files else f"is not in its {MANIFEST}"
            self.refuse(f"the file {name[:200]!a} {where}")
        for name, entry in self._entries.items():
            if entry.file_size != files[name].size_bytes:
                self.refuse(f"the file {name[:200]!a} has another size than in its {MANIFEST}")
            if place_of(name) is None:
                self.refuse(f"the file {name[:200]!a} belongs to no session and no tool call")
        unpacked = sum(entry.file_size for entry in self._entries.values())
        if unpacked > _RATIO_FLOOR_BYTES and unpacked > self._max_ratio * size:
            self.refuse(
                f"it would unpack to {unpacked:,} bytes, {unpacked // max(size, 1)} times its size",
                "export the sessions again, or allow a larger ratio",
            )

    def read(self, name: str) -> Iterator[bytes]:
        """Stream a file. Raises ImportRefused at the end if its size or hash differs from the manifest."""
        listed, hashed, size = self.manifest.files[name], sha256(), 0
        for chunk in self._chunks(self._entries[name]):
            hashed.update(chunk)
            size += len(chunk)
            yield chunk
        if (size, hashed.hexdigest()) != (listed.size_bytes, listed.sha256):
            self.refuse(f"the file {name[:200]!a} has another hash than in its {MANIFEST}")

    def _chunks(self, entry: zipfile.ZipInfo) -> Iterator[bytes]:
        left = entry.file_size
        try:
            with self._zip.open(entry) as stream:
                while chunk := stream.read(_BLOCK):
                    left -= len(chunk)
                    if left < 0:
                        break
                    yield chunk
        except (
            zipfile.BadZipFile,
            zlib.error,
            OSError,
            ValueError,
            EOFError,
            NotImplementedError,
            RuntimeError,
            struct.error,
        ) as error:
            self.refuse(f"its file {entry.filename[:200]!a} cannot be unpacked ({type(error).__name__})")
        if left:
            self.refuse(f"its file {entry.filename[:200]!a} has another size than the archive lists")


def _directory_of(stream: BinaryIO) -> tuple[int | None, int]:
    """Return the number of files that a zip lists, or None, and the length of that list in bytes, without reading the list."""
    size = stream.seek(0, os.SEEK_END)
    if size < _END.size:
        return None, 0
    stream.seek(size - _END.size)
    mark, _, _, _, count, length, _, comment = _END.unpack(stream.read(_END.size))
    if mark != b"PK\5\6" or comment:
        return None, 0
    locator = size - _END.size - _LOCATOR.size
    if locator < 0:
        return count, length
    stream.seek(locator)
    mark, _, where, _ = _LOCATOR.unpack(stream.read(_LOCATOR.size))
    if mark != b"PK\6\7":
        return count, length
    if where != locator - _END_64.size:
        return None, 0
    stream.seek(where)
    mark, *_, count, length, _ = _END_64.unpack(stream.read(_END_64.size))
    return (count, length) if mark == b"PK\6\6" else (None, 0)


def _odd_entry(one: zipfile.ZipInfo, size: int) -> str | None:
    """Return why an entry of a zip is not an acceptable file, or None."""
    kind = stat.S_IFMT(one.external_attr >> 16)
    if kind not in (0, stat.S_IFREG) or one.external_attr & 0x10:
        return "is a link, a folder or a device"
    if one.filename != one.orig_filename:
        return "has two names"
    if one.flag_bits & 0x1:
        return "is encrypted"
    if one.compress_type not in (zipfile.ZIP_STORED, zipfile.ZIP_DEFLATED):
        return "has a compression method that is not supported"
    # Deflate reaches at most a factor of 1,032, so a larger size is false.
    if one.compress_size > size or one.file_size > one.compress_size * 1100 + 100:
        return "claims an impossible size"
    return None


# --- the first pass: verify, write nothing


class _Parent(NamedTuple):
    """The event that a fork was forked from."""

    log_id: str
    seq: int


@dataclass
class _Checked:
    """The verified contents of an archive: logs, the new ones (parents first), and tool call folders to create.

    `linked` are all folders that its logs refer to, `needed` those that new sessions refer to, `redacted` those of calls that
    this store has redacted.
    """

    logs: dict[str, Whole] = field(default_factory=dict)
    entries: dict[str, SessionEntry] = field(default_factory=dict)
    attachments: dict[str, list[str]] = field(default_factory=dict)
    new: list[str] = field(default_factory=list)
    linked: set[str] = field(default_factory=set)
    needed: set[str] = field(default_factory=set)
    folders: dict[str, list[str]] = field(default_factory=dict)
    redacted: set[str] = field(default_factory=set)


def _check(opened: _Opened, storage: SessionStorage, known: Known) -> _Checked:
    """Read and verify everything, and compare it with the store. Raises ImportRefused."""
    checked = _Checked()
    _check_entries(opened, checked)
    _check_logs(opened, storage, checked)
    for name in opened.manifest.files:
        if not name.endswith("/events.jsonl") or not name.startswith("sessions/"):
            for _ in opened.read(name):
                pass
    _check_forks(opened, storage, checked)  # needs the digests that _check_logs collected
    checked.new = _in_order(
        opened, checked, [one for one in checked.logs if not _is_here(opened, storage, checked, one)]
    )
    for log_id in checked.new if known else ():
        lines = (
            line for chunk in _complete_lines(opened.read(checked.entries[log_id].log)) for line in codec.lines(chunk)
        )
        checked.redacted |= redacted_folders(lines, known)
    _check_history(opened, storage, checked)
    _check_room(opened, storage)
    return checked


def _check_entries(opened: _Opened, checked: _Checked) -> None:
    for entry in opened.manifest.sessions:
        if entry.session_id in checked.entries:
            opened.refuse(f"session {entry.session_id[:128]!a} is in it twice")
        try:
            if check_log_id(entry.session_id) == STORE_ID:
                raise InvalidSessionId(STORE_ID, "it is the id of the registry")
            check_log_id(entry.root)
        except InvalidSessionId as error:
            opened.refuse(f"it has a session with an invalid id: {error.session_id[:128]!a}: {error.reason}")
        if entry.log not in opened.manifest.files:
            opened.refuse(f"session {entry.session_id!r} has no log in it")
        checked.entries[entry.session_id] = entry
        checked.attachments[entry.session_id] = []
    if not checked.entries:
        opened.refuse("there is no session in it")
    for name in opened.manifest.files:
        kind, what = place_of(name) or ("", "")
        if kind == "sessions" and what not in checked.entries:
            opened.refuse(f"the file {name[:200]!a} belongs to a session that is not in its {MANIFEST}")
        if kind == "sessions" and name != checked.entries[what].log:
            checked.attachments[what].append(name.split("/", 2)[2])


def _check_logs(opened: _Opened, storage: SessionStorage, checked: _Checked) -> None:
    wanted: dict[str, set[int]] = {one: set() for one in checked.entries}
    for entry in checked.entries.values():
        if entry.forked_from and entry.forked_from.session_id in wanted:
            wanted[entry.forked_from.session_id].add(entry.forked_from.seq)
        version = _version_here(opened, storage, entry.session_id)
        if 0 < version < entry.events:
            wanted[entry.session_id].add(version)
    for log_id, entry in checked.entries.items():
        root = None if entry.inherited else entry.root
        linked = set[str]()
        lines = _passing(opened.read(entry.log), linked)
        try:
            log = verify_whole(log_id, lines, root=root, wanted=wanted[log_id], file=entry.log)
        except InvalidSessionId as error:
            opened.refuse(f"session {log_id!r} is a fork of an invalid id: {error.reason}")
        except LogDamaged as error:
            reason = f"session {log_id!r} does not verify: {entry.log} line {error.line}: {error.reason}"
            raise ImportRefused(str(opened.path), 0, f"{reason}; {_NEXT}get it again from its source") from error
        origin = log.origin
        found = (origin.parent, origin.seq, origin.digest.hex()) if origin else None
        claimed = entry.forked_from
        if (
            (log.root, log.inherited, log.head.version, log.head.hash)
            != (entry.root, entry.inherited, entry.events, entry.head_hash)
        ) or found != (claimed and (claimed.session_id, claimed.seq, claimed.hash)):
            opened.refuse(f"session {log_id!r} differs from its entry in the {MANIFEST}")
        if not 0 <= entry.ended_events < 2**53:
            opened.refuse(f"session {log_id!r} has an invalid number in its {MANIFEST}")
        checked.logs[log_id] = log
        checked.linked |= linked
        if not _version_here(opened, storage, log_id):
            checked.needed |= linked


def _complete_lines(chunks: Iterator[bytes]) -> Iterator[bytes]:
    """Regroup chunks of any size into chunks of complete lines."""
    rest = b""
    for chunk in chunks:
        data, lf, rest = (rest + chunk).rpartition(b"\n")
        yield data + lf


def _passing(chunks: Iterator[bytes], linked: set[str]) -> Iterator[bytes]:
    """Pass the chunks of a log through, and add the tool call folders that it refers to to `linked`."""
    rest = b""
    for chunk in chunks:
        data, lf, rest = (rest + chunk).rpartition(b"\n")
        if _LINKED in data:
            for line in codec.lines(data + lf):
                event = codec.decode(line) if line.startswith(_LINKED) and codec.head(line) else None
                if isinstance(event, InvocationLinked) and event.invocation_dir:
                    linked.add(event.invocation_dir)
        if len(rest) > codec.MAX_EVENT_BYTES:
            rest = b""  # an endless line: the verification refuses it, here it must only not fill the memory
        yield chunk


def _version_here(opened: _Opened, storage: SessionStorage, log_id: str) -> int:
    try:
        return storage.log.head(log_id).version
    except SessionNotFound:
        return 0
    except LogDamaged as error:
        opened.refuse(
            f"session {log_id!r} is in the store and is damaged at line {error.line}", "repair or delete it first"
        )


def _is_here(opened: _Opened, storage: SessionStorage, checked: _Checked, log_id: str) -> bool:
    """Return True if the store has all events of a session. Refuses a different session, and one with more events."""
    version, log = _version_here(opened, storage, log_id), checked.logs[log_id]
    if not version:
        return False
    common = min(version, log.head.version)
    here = hash_chain.split(next(storage.log.lines(log_id, common - 1, common), b""))
    there = bytes.fromhex(log.head.hash) if common == log.head.version else _digest_at(checked, log_id, common)
    if here is None or here[1] != there:
        advice = "delete the session in the store, or export the others without this one"
        opened.refuse(f"a different session {log_id!r} is in the store", advice)
    if common < log.head.version:
        reason = f"session {log_id!r} has {version} events in the store and {log.head.version} in the archive"
        opened.refuse(reason, "delete the session in the store first")
    return True


def _digest_at(checked: _Checked, log_id: str, seq: int) -> bytes | None:
    """Return the digest of the chain at an event of a session in the archive, inherited events included; None if unknown."""
    seen: set[str] = set()
    while log_id in checked.logs and log_id not in seen:
        seen.add(log_id)
        log = checked.logs[log_id]
        if log.fork is None or seq > log.inherited:
            return log.digests.get(seq) if seq != log.head.version else bytes.fromhex(log.head.hash)
        if seq == log.inherited:
            return log.fork.digest
        log_id = log.fork.parent
    return None


def _check_forks(opened: _Opened, storage: SessionStorage, checked: _Checked) -> None:
    """Refuse a fork if its fork point is neither in the archive nor in the store."""
    for log_id, log in checked.logs.items():
        if log.fork is None:
            continue
        there = _past(storage, checked, _Parent(log.fork.parent, log.fork.seq), {log_id})
        if there != (log.fork.digest, log.root):
            opened.refuse(
                f"session {log_id!r} is forked from event {log.fork.seq} of session {log.fork.parent!r}, which is neither in "
                "the archive nor in the store",
                "export both together",
            )


def _past(storage: SessionStorage, checked: _Checked, parent: _Parent, seen: set[str]) -> tuple[bytes, str] | None:
    """Return the digest at an event of a session, in the archive or the store, and its root; None if unknown or a cycle."""
    while parent.log_id in checked.logs:
        log = checked.logs[parent.log_id]
        if parent.log_id in seen or parent.seq > log.head.version:
            return None
        seen.add(parent.log_id)
        if parent.seq > log.inherited:
            found = log.digests.get(parent.seq)
            return None if found is None else (found, log.root)
        assert log.fork is not None  # noqa: S101 - it has inherited events
        parent = _Parent(log.fork.parent, parent.seq)
    try:
        parts = hash_chain.split(next(storage.log.lines(parent.log_id, parent.seq - 1, parent.seq), b""))
        return None if parts is None else (parts[1], storage.log.root_of(parent.log_id))
    except (SessionNotFound, LogDamaged):
        return None


def _in_order(opened: _Opened, checked: _Checked, new: list[str]) -> list[str]:
    """Return the new sessions with parents before their forks. `_check_forks` has refused cycles."""
    left, order = dict.fromkeys(sorted(new)), dict[str, None]()
    for log_id in left:
        line = [log_id]
        while (fork := checked.logs[line[-1]].fork) is not None and fork.parent in left:
            line.append(fork.parent)
        order.update(dict.fromkeys(reversed(line)))
    return list(order)


def _check_history(opened: _Opened, storage: SessionStorage, checked: _Checked) -> None:
    """Assign the files of tool calls to their folders, and compare these with the store. A log must refer to each folder."""
    folders: dict[str, list[str]] = {folder: [] for folder in opened.manifest.history}
    for folder in folders:
        why = odd_name(folder) or (None if folder in checked.linked else "belongs to none of its sessions")
        if why is None and folder.split("/")[0] == ASIDE:
            why = "has a reserved name"
        if why is None and any(str(one) in folders for one in PurePosixPath(folder).parents):
            why = "is inside another"
        if why:
            opened.refuse(f"the folder {folder[:200]!a} of a tool call {why}")
    if len(folders) != len(opened.manifest.history) or find_twins(folders):
        opened.refuse("two folders of tool calls have the same name on some systems")
    for name in opened.manifest.files:
        kind, rest = place_of(name) or ("", "")
        if kind == "history":
            owner = next((one for one in map(str, PurePosixPath(rest).parents) if one in folders), None)
            if owner is None:
                opened.refuse(f"the file {name[:200]!a} is in no folder of a tool call")
            folders[owner].append(rest[len(owner) + 1 :])
    if folders and storage.history is None:
        opened.refuse("it has folders of tool calls, and this store has no history folder", "open the store with one")
    for folder, names in folders.items():
        needed = folder in checked.needed and folder not in checked.redacted  # the redacted record in the store differs
        if not _has_folder(opened, storage, folder, names, needed=needed):
            checked.folders[folder] = names


def _has_folder(opened: _Opened, storage: SessionStorage, folder: str, names: list[str], *, needed: bool) -> bool:
    """Return True if the store has the folder of a tool call. Refuses a different folder that a new session needs."""
    assert storage.history is not None  # noqa: S101 - checked before
    wanted = {name: opened.manifest.files[f"history/{folder}/{name}"].sha256 for name in names}
    try:
        found = storage.history.holds(folder, wanted)
    except (ValueError, OSError):
        found = False
    if found is False and needed:
        reason = f"the history has a different folder {folder!a} of a tool call"
        opened.refuse(reason, "move that folder away")
    return found is not None


def _check_room(opened: _Opened, storage: SessionStorage) -> None:
    """Refuse an archive that does not fit on the disk."""
    if not isinstance(storage, FileSystemSessionStorage):
        return
    there = next(
        one for one in (storage.sessions_dir.absolute(), *storage.sessions_dir.absolute().parents) if one.exists()
    )
    needed = sum(entry.size_bytes for entry in opened.manifest.files.values())
    if needed > shutil.disk_usage(there).free:
        opened.refuse(f"it needs {needed:,} bytes, and {there} has less free space", "free some space")


# --- the second pass: write


def _write(
    opened: _Opened,
    storage: SessionStorage,
    checked: _Checked,
    on_session: Callable[[str, bool], None],
    *,
    again: bool,
) -> None:
    """Write what was verified. Tool calls come before the sessions that link to them, parents before forks."""
    with _conflicts_as_refused(opened):
        for folder, names in checked.folders.items():
            assert storage.history is not None  # noqa: S101 - checked before
            files = ((name, opened.read(f"history/{folder}/{name}")) for name in names)
            storage.history.adopt(folder, _redacted(files) if folder in checked.redacted else files)
        for log_id in checked.new:
            entry = checked.entries[log_id]
            attachments = ((name, opened.read(f"{entry.folder}/{name}")) for name in checked.attachments[log_id])
            storage.adopt(
                checked.logs[log_id], opened.read(entry.log), attachments, ended=entry.ended_events, again=again
            )
            on_session(log_id, True)
        for log_id in sorted(checked.logs.keys() - set(checked.new)):
            storage.lineages.note_adopted(checked.logs[log_id])
            on_session(log_id, False)


def _redacted(files: Iterable[tuple[str, Iterable[bytes]]]) -> Iterator[tuple[str, Iterable[bytes]]]:
    """Pass the files of a tool call through, with its record redacted."""
    for name, chunks in files:
        yield name, [cleaned_record(b"".join(chunks), mark)] if name == RECORD else chunks


@contextmanager
def _conflicts_as_refused(opened: _Opened) -> Iterator[None]:
    """Turn errors of a concurrent change into ImportRefused. The first pass saw none, so something changed since."""
    try:
        yield
    except (SessionExists, FileExistsError, LogDamaged) as error:
        what = f"session {error.session_id!r}" if isinstance(error, EventStoreError) else "the folder of a tool call"
        raise ImportRefused(
            str(opened.path),
            0,
            f"{what} was changed or created by another program during the import; it was not imported, earlier ones were: "
            "import the archive again",
        ) from error
