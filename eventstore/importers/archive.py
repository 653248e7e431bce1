"""Taking in an archive that `export_archive` wrote, or somebody who wishes us ill: all is verified before anything is written."""

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
"""An archive with more files is refused: what is known of each is kept in memory, about 2 KB."""
MAX_MANIFEST_BYTES = 200_000_000
"""A longer manifest is refused."""
MAX_RATIO = 250
"""An archive that unpacks to over a gigabyte, and so many times its size, is refused unless more is allowed."""

_RATIO_FLOOR_BYTES = 1 << 30
_BLOCK = 1 << 17
_ENTRY_BYTES = 46 + 2 * 4000
_END = struct.Struct("<4s4H2LH")
_END_64 = struct.Struct("<4sQ2H2L4Q")
_LOCATOR = struct.Struct("<4sLQL")
_LINKED = b'{"type":"invocation.linked",'
_NEXT = "nothing was written: "


@dataclass(frozen=True)
class Adopted:
    """What was taken in of an archive, or would be: sessions, those that were there already, events, folders of tool calls.

    A session is `skipped` where the store has all of its events, and maybe more.
    """

    path: Path
    sessions: tuple[str, ...]
    skipped: tuple[str, ...]
    events: int
    history: int
    size_bytes: int

    def to_dict(self) -> dict[str, Any]:
        """Give the fields as JSON values."""
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
) -> Adopted:
    """Take in the sessions of an archive, with all that belongs to them; logs stay what they are to the byte.

    First all of it is read and verified: names, sizes, hashes, chains, forks, and that nothing here is in its way. What is wrong
    is an error, and nothing was written. Then each folder of a tool call and each session is made aside and put in its place in
    one step; a crash leaves none of them half, and importing again goes on. A session that is here already is skipped where all
    its events are here, and refused where it is another or has more events in the archive. `dry_run` verifies only. `on_session`
    hears of each session that is dealt with, and whether it is new.

    Events that the store knows to be redacted come in redacted, and the records of their tool calls too, unless `again` says that
    they are wanted back. Modes and times of files are not kept: 0600, and new.

    Raises ImportRefused; OSError where the disk is full.
    """
    storage = store.storage if isinstance(store, SessionManager) else store
    with _Opened(Path(path), max_ratio) as opened:
        checked = _check(opened, storage, {} if again else known_redactions(storage.log))
        if not dry_run:
            _take_in(opened, storage, checked, on_session, again=again)
    new = [checked.wholes[one] for one in checked.new]
    return Adopted(
        opened.path,
        tuple(checked.new),
        tuple(sorted(checked.wholes.keys() - set(checked.new))),
        sum(one.head.version - one.inherited for one in new),
        len(checked.folders),
        sum(entry.size_bytes for entry in opened.manifest.files.values()),
    )


# --- the file


class _Opened:
    """An archive whose list of files and whose manifest are what they should be. Raises ImportRefused."""

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

    def refuse(self, reason: str, advice: str = "get it again from where it was written") -> NoReturn:
        """Raise the error that says why the archive is not taken in."""
        raise ImportRefused(str(self.path), 0, f"{reason}; {_NEXT}{advice}")

    def _size(self) -> int:
        found = os.fstat(self._stream.fileno())
        if not stat.S_ISREG(found.st_mode):
            self.refuse("it is not a regular file", "give the path of an archive")
        return found.st_size

    def _open_zip(self) -> zipfile.ZipFile:
        count, size = _directory_of(self._stream)
        if count is None:
            self.refuse("it is not a whole zip file, or holds more than that", "give what `export --archive` wrote")
        if count > MAX_FILES or size > MAX_FILES * 400 or size > count * _ENTRY_BYTES + 100:
            self.refuse(
                f"it lists more than {MAX_FILES:,} files, or its list is too long", "export fewer sessions at once"
            )
        try:
            return zipfile.ZipFile(self._stream)
        except (zipfile.BadZipFile, NotImplementedError, ValueError, OSError, struct.error, UnicodeError):
            self.refuse("it is not a whole zip file")

    def _list(self, size: int) -> dict[str, zipfile.ZipInfo]:
        found: dict[str, zipfile.ZipInfo] = {}
        for one in self._zip.infolist():
            shown = f"its file {one.orig_filename[:200]!a}"
            why = odd_name(one.orig_filename) or _odd_entry(one, size)
            if why:
                self.refuse(f"{shown} {why}")
            if one.filename in found:
                self.refuse(f"{shown} is there twice")
            found[one.filename] = one
        twins = find_twins(found)
        if twins:
            self.refuse(f"{twins[0][:200]!a} and {twins[1][:200]!a} are one file on some systems")
        return found

    def _read_manifest(self) -> Manifest:
        told = self._entries.pop(MANIFEST, None)
        if told is None:
            self.refuse(f"it has no {MANIFEST}", "give what `export --archive` wrote")
        if told.file_size > MAX_MANIFEST_BYTES:
            self.refuse(f"its {MANIFEST} is longer than {MAX_MANIFEST_BYTES:,} bytes")
        try:
            data = b"".join(self._chunks(told))
            form = msgspec.json.decode(data, type=dict[str, msgspec.Raw]).get("format", b"")
            if bytes(form) != msgspec.json.encode(FORMAT):
                self.refuse(f"its format is not {FORMAT}", "use the release that wrote it, or a later one")
            return msgspec.json.decode(data, type=Manifest)
        except (msgspec.DecodeError, UnicodeDecodeError, RecursionError) as error:
            self.refuse(f"its {MANIFEST} is not what it should be ({error})")

    def _compare(self, size: int) -> None:
        """Compare what the manifest tells of files with what is there, and look for bombs."""
        files = self.manifest.files
        for name in sorted(files.keys() ^ self._entries.keys()):
            where = f"is in its {MANIFEST} only" if name in files else f"is not in its {MANIFEST}"
            self.refuse(f"the file {name[:200]!a} {where}")
        for name, entry in self._entries.items():
            if entry.file_size != files[name].size_bytes:
                self.refuse(f"the file {name[:200]!a} has another size than its {MANIFEST} tells")
            if place_of(name) is None:
                self.refuse(f"the file {name[:200]!a} belongs to nothing")
        whole = sum(entry.file_size for entry in self._entries.values())
        if whole > _RATIO_FLOOR_BYTES and whole > self._max_ratio * size:
            self.refuse(
                f"it would unpack to {whole:,} bytes, {whole // max(size, 1)} times its size",
                "export anew what is real",
            )

    def read(self, name: str) -> Iterator[bytes]:
        """Stream a file; its size and hash are those of the manifest, or it ends in ImportRefused."""
        told, hashed, size = self.manifest.files[name], sha256(), 0
        for chunk in self._chunks(self._entries[name]):
            hashed.update(chunk)
            size += len(chunk)
            yield chunk
        if (size, hashed.hexdigest()) != (told.size_bytes, told.sha256):
            self.refuse(f"the file {name[:200]!a} is not the one its {MANIFEST} tells of: its hash is another")

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
            self.refuse(f"its file {entry.filename[:200]!a} has another size than it says")


def _directory_of(stream: BinaryIO) -> tuple[int | None, int]:
    """Read how many files the end of a zip tells of, and how long its list of them is, in bytes: before anybody reads that."""
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
    """Say why an entry of a zip is not a plain file."""
    kind = stat.S_IFMT(one.external_attr >> 16)
    if kind not in (0, stat.S_IFREG) or one.external_attr & 0x10:
        return "is a link, a folder or a device"
    if one.filename != one.orig_filename:
        return "has two names"
    if one.flag_bits & 0x1:
        return "is encrypted"
    if one.compress_type not in (zipfile.ZIP_STORED, zipfile.ZIP_DEFLATED):
        return "is packed in a way that is not taken"
    if one.compress_size > size or one.file_size > one.compress_size * 1100 + 100:
        return "says that it is larger than it can be"
    return None


# --- the first pass: nothing is written


class _Parent(NamedTuple):
    """An event that a fork goes on from."""

    log_id: str
    seq: int


@dataclass
class _Checked:
    """What an archive holds, verified: logs, those that are new, parents first, and folders of tool calls to be made.

    `linked` are all folders that its logs tell of, `needed` those that new sessions tell of,
    `redacted` those of calls that this store knows to be redacted.
    """

    wholes: dict[str, Whole] = field(default_factory=dict)
    entries: dict[str, SessionEntry] = field(default_factory=dict)
    beside: dict[str, list[str]] = field(default_factory=dict)
    new: list[str] = field(default_factory=list)
    linked: set[str] = field(default_factory=set)
    needed: set[str] = field(default_factory=set)
    folders: dict[str, list[str]] = field(default_factory=dict)
    redacted: set[str] = field(default_factory=set)


def _check(opened: _Opened, storage: SessionStorage, known: Known) -> _Checked:
    """Read and verify all, and look at what is here already. Raises ImportRefused."""
    checked = _Checked()
    _check_entries(opened, checked)
    _check_logs(opened, storage, checked)
    for name in opened.manifest.files:
        if not name.endswith("/events.jsonl") or not name.startswith("sessions/"):
            for _ in opened.read(name):
                pass
    _check_forks(opened, storage, checked)
    checked.new = _in_order(
        opened, checked, [one for one in checked.wholes if not _is_here(opened, storage, checked, one)]
    )
    for log_id in checked.new if known else ():
        lines = (
            line for chunk in _whole_lines(opened.read(checked.entries[log_id].log)) for line in codec.lines(chunk)
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
                raise InvalidSessionId(STORE_ID, "it is that of the store's own log")
            check_log_id(entry.root)
        except InvalidSessionId as error:
            opened.refuse(f"it has a session that cannot be: {error.session_id[:128]!a}: {error.reason}")
        if entry.log not in opened.manifest.files:
            opened.refuse(f"session {entry.session_id!r} has no log in it")
        checked.entries[entry.session_id] = entry
        checked.beside[entry.session_id] = []
    if not checked.entries:
        opened.refuse("there is no session in it")
    for name in opened.manifest.files:
        kind, what = place_of(name) or ("", "")
        if kind == "sessions" and what not in checked.entries:
            opened.refuse(f"the file {name[:200]!a} is of a session that is not in its {MANIFEST}")
        if kind == "sessions" and name != checked.entries[what].log:
            checked.beside[what].append(name.split("/", 2)[2])


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
            whole = verify_whole(log_id, lines, root=root, wanted=wanted[log_id], file=entry.log)
        except InvalidSessionId as error:
            opened.refuse(f"session {log_id!r} goes on from one that cannot be: {error.reason}")
        except LogDamaged as error:
            reason = f"session {log_id!r} does not verify: {entry.log} line {error.line}: {error.reason}"
            raise ImportRefused(
                str(opened.path), 0, f"{reason}; {_NEXT}get it again from where it was written"
            ) from error
        origin = whole.origin
        told = (origin.parent, origin.seq, origin.digest.hex()) if origin else None
        claimed = entry.forked_from
        if (
            (whole.root, whole.inherited, whole.head.version, whole.head.hash)
            != (entry.root, entry.inherited, entry.events, entry.head_hash)
        ) or told != (claimed and (claimed.session_id, claimed.seq, claimed.hash)):
            opened.refuse(f"session {log_id!r} is not what its {MANIFEST} tells of it")
        if not 0 <= entry.ended_events < 2**53:
            opened.refuse(f"session {log_id!r} has a number in its {MANIFEST} that cannot be")
        checked.wholes[log_id] = whole
        checked.linked |= linked
        if not _version_here(opened, storage, log_id):
            checked.needed |= linked


def _whole_lines(chunks: Iterator[bytes]) -> Iterator[bytes]:
    """Cut chunks behind line ends."""
    rest = b""
    for chunk in chunks:
        data, lf, rest = (rest + chunk).rpartition(b"\n")
        yield data + lf


def _passing(chunks: Iterator[bytes], linked: set[str]) -> Iterator[bytes]:
    """Note which folders of tool calls a log tells of, while it goes by in pieces of any size."""
    rest = b""
    for chunk in chunks:
        data, lf, rest = (rest + chunk).rpartition(b"\n")
        if _LINKED in data:
            for line in codec.lines(data + lf):
                event = codec.decode(line) if line.startswith(_LINKED) and codec.head(line) else None
                if isinstance(event, InvocationLinked) and event.invocation_dir:
                    linked.add(event.invocation_dir)
        if len(rest) > codec.MAX_EVENT_BYTES:
            rest = b""
        yield chunk


def _version_here(opened: _Opened, storage: SessionStorage, log_id: str) -> int:
    try:
        return storage.log.head(log_id).version
    except SessionNotFound:
        return 0
    except LogDamaged as error:
        opened.refuse(
            f"session {log_id!r} is here already and is damaged at line {error.line}", "repair or delete it first"
        )


def _is_here(opened: _Opened, storage: SessionStorage, checked: _Checked, log_id: str) -> bool:
    """Tell whether all events of a session are here already. One that is another, or goes on further, is refused."""
    version, whole = _version_here(opened, storage, log_id), checked.wholes[log_id]
    if not version:
        return False
    common = min(version, whole.head.version)
    here = hash_chain.split(next(storage.log.lines(log_id, common - 1, common), b""))
    there = bytes.fromhex(whole.head.hash) if common == whole.head.version else _digest_at(checked, log_id, common)
    if here is None or here[1] != there:
        advice = "delete or rename the one that is here, or take that one out of the archive"
        opened.refuse(f"another session {log_id!r} is here already", advice)
    if common < whole.head.version:
        reason = f"session {log_id!r} is here with {version} events, and goes on to {whole.head.version} in the archive"
        opened.refuse(reason, "delete the one that is here first")
    return True


def _digest_at(checked: _Checked, log_id: str, seq: int) -> bytes | None:
    """Find the chain's digest at an event of a session in the archive, also one that it has of its parents there."""
    seen: set[str] = set()
    while log_id in checked.wholes and log_id not in seen:
        seen.add(log_id)
        whole = checked.wholes[log_id]
        if whole.fork is None or seq > whole.inherited:
            return whole.digests.get(seq) if seq != whole.head.version else bytes.fromhex(whole.head.hash)
        if seq == whole.inherited:
            return whole.fork.digest
        log_id = whole.fork.parent
    return None


def _check_forks(opened: _Opened, storage: SessionStorage, checked: _Checked) -> None:
    """Refuse a fork whose parent has not the event it goes on from, neither in the archive nor here."""
    for log_id, whole in checked.wholes.items():
        if whole.fork is None:
            continue
        there = _past(storage, checked, _Parent(whole.fork.parent, whole.fork.seq), {log_id})
        if there != (whole.fork.digest, whole.root):
            opened.refuse(
                f"session {log_id!r} goes on from event {whole.fork.seq} of session {whole.fork.parent!r}, which is neither in "
                "the archive nor here",
                "export both together",
            )


def _past(storage: SessionStorage, checked: _Checked, parent: _Parent, seen: set[str]) -> tuple[bytes, str] | None:
    """Find the digest at an event of a session, in the archive or else here, and whose chain it is; a circle has none."""
    while parent.log_id in checked.wholes:
        whole = checked.wholes[parent.log_id]
        if parent.log_id in seen or parent.seq > whole.head.version:
            return None
        seen.add(parent.log_id)
        if parent.seq > whole.inherited:
            found = whole.digests.get(parent.seq)
            return None if found is None else (found, whole.root)
        assert whole.fork is not None  # noqa: S101 - it has inherited events
        parent = _Parent(whole.fork.parent, parent.seq)
    try:
        parts = hash_chain.split(next(storage.log.lines(parent.log_id, parent.seq - 1, parent.seq), b""))
        return None if parts is None else (parts[1], storage.log.root_of(parent.log_id))
    except (SessionNotFound, LogDamaged):
        return None


def _in_order(opened: _Opened, checked: _Checked, new: list[str]) -> list[str]:
    """Put parents in front of what goes on from them; there are no circles."""
    left, order = dict.fromkeys(sorted(new)), dict[str, None]()
    for log_id in left:
        line = [log_id]
        while (fork := checked.wholes[line[-1]].fork) is not None and fork.parent in left:
            line.append(fork.parent)
        order.update(dict.fromkeys(reversed(line)))
    return list(order)


def _check_history(opened: _Opened, storage: SessionStorage, checked: _Checked) -> None:
    """Sort the files of tool calls into their folders, of which logs must tell, and look at what is here in their place."""
    folders: dict[str, list[str]] = {folder: [] for folder in opened.manifest.history}
    for folder in folders:
        why = odd_name(folder) or (None if folder in checked.linked else "is told of by none of its sessions")
        if why is None and folder.split("/")[0] == ASIDE:
            why = "has a name that is taken"
        if why is None and any(str(one) in folders for one in PurePosixPath(folder).parents):
            why = "is inside another"
        if why:
            opened.refuse(f"the folder {folder[:200]!a} of a tool call {why}")
    if len(folders) != len(opened.manifest.history) or find_twins(folders):
        opened.refuse("two folders of tool calls are one")
    for name in opened.manifest.files:
        kind, rest = place_of(name) or ("", "")
        if kind == "history":
            owner = next((one for one in map(str, PurePosixPath(rest).parents) if one in folders), None)
            if owner is None:
                opened.refuse(f"the file {name[:200]!a} is in no folder of a tool call")
            folders[owner].append(rest[len(owner) + 1 :])
    if folders and storage.history is None:
        opened.refuse("it has folders of tool calls, and this store has no history folder", "give the store one")
    for folder, names in folders.items():
        needed = (
            folder in checked.needed and folder not in checked.redacted
        )  # the record here is redacted: it is another
        if not _has_folder(opened, storage, folder, names, needed=needed):
            checked.folders[folder] = names


def _has_folder(opened: _Opened, storage: SessionStorage, folder: str, names: list[str], *, needed: bool) -> bool:
    """Tell whether the folder of a tool call is here. One that is another is refused where a new session needs it."""
    assert storage.history is not None  # noqa: S101 - checked before
    wanted = {name: opened.manifest.files[f"history/{folder}/{name}"].sha256 for name in names}
    try:
        found = storage.history.holds(folder, wanted)
    except (ValueError, OSError):
        found = False
    if found is False and needed:
        reason = f"the folder {folder!a} of a tool call is here already, and is another"
        opened.refuse(reason, "move the one that is here away")
    return found is not None


def _check_room(opened: _Opened, storage: SessionStorage) -> None:
    """Refuse what surely has no room."""
    if not isinstance(storage, FileSystemSessionStorage):
        return
    there = next(
        one for one in (storage.sessions_dir.absolute(), *storage.sessions_dir.absolute().parents) if one.exists()
    )
    whole = sum(entry.size_bytes for entry in opened.manifest.files.values())
    if whole > shutil.disk_usage(there).free:
        opened.refuse(f"it would take {whole:,} bytes, and {there} has less", "make room")


# --- the second pass


def _take_in(
    opened: _Opened,
    storage: SessionStorage,
    checked: _Checked,
    on_session: Callable[[str, bool], None],
    *,
    again: bool,
) -> None:
    """Write what was verified: the folders of tool calls, then sessions, parents first."""
    with _told_as_refused(opened):
        for folder, names in checked.folders.items():
            assert storage.history is not None  # noqa: S101 - checked before
            files = ((name, opened.read(f"history/{folder}/{name}")) for name in names)
            storage.history.adopt(folder, _redacted(files) if folder in checked.redacted else files)
        for log_id in checked.new:
            entry = checked.entries[log_id]
            beside = ((name, opened.read(f"{entry.folder}/{name}")) for name in checked.beside[log_id])
            storage.adopt(checked.wholes[log_id], opened.read(entry.log), beside, ended=entry.ended_events, again=again)
            on_session(log_id, True)
        for log_id in sorted(checked.wholes.keys() - set(checked.new)):
            storage.lineages.note_adopted(checked.wholes[log_id])
            on_session(log_id, False)


def _redacted(files: Iterable[tuple[str, Iterable[bytes]]]) -> Iterator[tuple[str, Iterable[bytes]]]:
    """Redact the record among the files of a tool call."""
    for name, chunks in files:
        yield name, [cleaned_record(b"".join(chunks), mark)] if name == RECORD else chunks


@contextmanager
def _told_as_refused(opened: _Opened) -> Iterator[None]:
    """Say what it means that something came in between, or that the archive was changed while it was read."""
    try:
        yield
    except (SessionExists, FileExistsError, LogDamaged) as error:
        what = f"session {error.session_id!r}" if isinstance(error, EventStoreError) else "the folder of a tool call"
        raise ImportRefused(
            str(opened.path),
            0,
            f"{what} was written by somebody else meanwhile, or what it goes on from is gone; it was not taken in, and what came "
            "before it was: import again",
        ) from error
