"""Verify the content of an archive, and compare it with the store. Nothing is written here."""

import shutil
from collections.abc import Iterator
from dataclasses import dataclass, field
from graphlib import TopologicalSorter
from pathlib import PurePosixPath
from typing import NamedTuple

from eventstore.backends.files.atomic_folder import ASIDE
from eventstore.errors import ImportRefused, InvalidSessionId, LogDamaged, SessionNotFound
from eventstore.events import EventRedacted, SessionCompleted, SessionCreated, SessionUpdated
from eventstore.ids import STORE_ID, check_log_id
from eventstore.importers.archive_file import NEXT, OpenedArchive
from eventstore.importers.archive_manifest import MANIFEST, SessionEntry, find_twins, odd_name, place_of
from eventstore.importers.pieces import piece_of
from eventstore.integrity.redaction_import import Arriving, Here, look_here
from eventstore.log.ingest import VerifiedLog, verify_whole
from eventstore.log.redact import recorded_leaf
from eventstore.log.values import FOLDER as VALUES
from eventstore.record import codec, hash_chain
from eventstore.store.known_redactions import Known, redacted_folders
from eventstore.store.local_storage import FileSystemSessionStorage
from eventstore.store.storage import SessionStorage

_ADVICE = "delete the one that is here, or export without that one"
_OF_IMPORTS = SessionCreated, SessionUpdated, SessionCompleted
"""Events of an import that are not of one line."""


class _Parent(NamedTuple):
    """The last event that a fork shares with its parent."""

    log_id: str
    seq: int


@dataclass
class VerifiedArchive:
    """The verified content of an archive: its logs; the new ones; the folders of tool calls to create.

    `order` are the sessions to write, each after those that it needs. `grown` are sessions of which the archive has more
    events than the store, each with the number of those here. `same` are those that hold a transcript of which the store has
    all lines, imported here.

    `redactions` are those that are new here, by session; `arriving` are all, and `here` is what they remove in the store.

    Folders of tool calls: `linked` are those that its logs name, `needed` those that new sessions name,
    `redacted` those of calls that this store has redacted.
    """

    logs: dict[str, VerifiedLog] = field(default_factory=dict)
    entries: dict[str, SessionEntry] = field(default_factory=dict)
    attachments: dict[str, list[str]] = field(default_factory=dict)
    new: list[str] = field(default_factory=list)
    order: list[str] = field(default_factory=list)
    grown: dict[str, int] = field(default_factory=dict)
    same: set[str] = field(default_factory=set)
    redactions: dict[str, list[EventRedacted]] = field(default_factory=dict)
    arriving: Arriving = field(default_factory=Arriving)
    here: Here = field(default_factory=Here)
    linked: set[str] = field(default_factory=set)
    needed: set[str] = field(default_factory=set)
    folders: dict[str, list[str]] = field(default_factory=dict)
    redacted: set[str] = field(default_factory=set)


def verify_archive(opened: OpenedArchive, storage: SessionStorage, known: Known) -> VerifiedArchive:
    """Read and verify every file, and compare it with the store. Raises ImportRefused."""
    verified = VerifiedArchive()
    _check_entries(opened, verified)
    _check_logs(opened, storage, verified)
    for name in opened.manifest.files:
        if not name.endswith("/events.jsonl") or not name.startswith("sessions/"):
            for _ in opened.read(name):
                pass
    _check_forks(opened, storage, verified)
    new = {one for one in verified.logs if not _is_still_here(opened, storage, verified, one)}
    verified.order = _in_order(verified, new)
    verified.new = [one for one in verified.order if one in new]
    for log_id in verified.order:
        fork = verified.logs[log_id].fork
        if fork is not None and fork.parent in verified.same:
            opened.refuse(
                f"session {log_id!r} is a fork of {fork.parent!r}, which was imported here by itself", _ADVICE
            )
    for log_id in sorted(verified.logs.keys() - verified.same):
        log, redactions = verified.logs[log_id], verified.redactions[log_id]
        version = 0 if log_id in verified.new else verified.grown.get(log_id, log.head.version)
        verified.arriving.add(log, redactions, since=version)
        verified.redactions[log_id] = [one for one in redactions if one.seq > version]
    verified.here = look_here(storage, verified.arriving)
    for log_id in verified.order if known else ():
        lines = (
            line for chunk in _complete_lines(opened.read(verified.entries[log_id].log)) for line in codec.lines(chunk)
        )
        verified.redacted |= redacted_folders(lines, known)
    _check_history(opened, storage, verified)
    _check_room(opened, storage)
    return verified


def _check_entries(opened: OpenedArchive, verified: VerifiedArchive) -> None:
    for entry in opened.manifest.sessions:
        if entry.session_id in verified.entries:
            opened.refuse(f"session {entry.session_id[:128]!a} is in it twice")
        try:
            if check_log_id(entry.session_id) == STORE_ID:
                raise InvalidSessionId(STORE_ID, "the registry has this id")
            check_log_id(entry.root)
        except InvalidSessionId as error:
            opened.refuse(f"it has a session with an invalid id: {error.session_id[:128]!a}: {error.reason}")
        if entry.log not in opened.manifest.files:
            opened.refuse(f"session {entry.session_id!r} has no log in it")
        verified.entries[entry.session_id] = entry
        verified.attachments[entry.session_id] = []
    if not verified.entries:
        opened.refuse("there is no session in it")
    for name in opened.manifest.files:
        kind, what = place_of(name) or ("", "")
        if kind == "sessions" and what not in verified.entries:
            opened.refuse(f"the file {name[:200]!a} belongs to a session that is not in its {MANIFEST}")
        if kind == "sessions" and name != verified.entries[what].log:
            verified.attachments[what].append(name.split("/", 2)[2])
            digest = verified.attachments[what][-1].removeprefix(VALUES)
            if f"/{VALUES}" in name and opened.manifest.files[name].sha256 != digest:
                opened.refuse(f"the file {name[:200]!a} is not the value with the hash in its name")


def _check_logs(opened: OpenedArchive, storage: SessionStorage, verified: VerifiedArchive) -> None:
    wanted: dict[str, set[int]] = {one: set() for one in verified.entries}
    for entry in verified.entries.values():
        if entry.forked_from and entry.forked_from.session_id in wanted:
            wanted[entry.forked_from.session_id].add(entry.forked_from.seq)
        version = _version_here(opened, storage, entry.session_id)
        if 0 < version < entry.events:
            wanted[entry.session_id].add(version)
    for log_id, entry in verified.entries.items():
        root = None if entry.inherited else entry.root
        linked, redactions = set[str](), list[EventRedacted]()
        lines = _passing(opened.read(entry.log), linked, redactions)
        try:
            log = verify_whole(log_id, lines, root=root, wanted=wanted[log_id], file=entry.log)
        except InvalidSessionId as error:
            opened.refuse(f"session {log_id!r} is a fork of a session with an invalid id: {error.reason}")
        except LogDamaged as error:
            reason = f"session {log_id!r} does not verify: {entry.log} line {error.line}: {error.reason}"
            raise ImportRefused(
                str(opened.path), 0, f"{reason}; {NEXT}get it again from where it was written"
            ) from error
        origin = log.origin
        found_origin = (origin.parent, origin.seq, origin.digest.hex()) if origin else None
        claimed = entry.forked_from
        if (
            (log.root, log.inherited, log.head.version, log.head.hash)
            != (entry.root, entry.inherited, entry.events, entry.head_hash)
        ) or found_origin != (claimed and (claimed.session_id, claimed.seq, claimed.hash)):
            opened.refuse(f"session {log_id!r} differs from its entry in {MANIFEST}")
        if not 0 <= entry.ended_events < 2**53:
            opened.refuse(f"session {log_id!r} has an invalid number in its {MANIFEST}")
        verified.logs[log_id] = log
        verified.redactions[log_id] = redactions
        verified.linked |= linked
        if _version_here(opened, storage, log_id) < log.head.version:
            verified.needed |= linked


def _complete_lines(chunks: Iterator[bytes]) -> Iterator[bytes]:
    """Regroup chunks so that each one ends at the end of a line."""
    rest = b""
    for chunk in chunks:
        data, lf, rest = (rest + chunk).rpartition(b"\n")
        yield data + lf


def _passing(chunks: Iterator[bytes], linked: set[str], redactions: list[EventRedacted]) -> Iterator[bytes]:
    """Pass chunks of any size through, and collect the folders of tool calls that their events name, and redactions."""
    rest = b""
    for chunk in chunks:
        data, lf, rest = (rest + chunk).rpartition(b"\n")
        if codec.INVOCATION in data or codec.REDACTION in data:
            for line in codec.lines(data + lf):
                event = codec.read_invocation(line) if codec.head(line) else None
                if event is not None and event.invocation_dir:
                    linked.add(event.invocation_dir)
                redaction = codec.read_redaction(line)
                if redaction is not None and redaction.target < redaction.seq and recorded_leaf(redaction):
                    redactions.append(redaction)
        if len(rest) > codec.MAX_EVENT_BYTES:
            rest = b""
        yield chunk


def _version_here(opened: OpenedArchive, storage: SessionStorage, log_id: str) -> int:
    try:
        return storage.log.head(log_id).version
    except SessionNotFound:
        return 0
    except LogDamaged as error:
        opened.refuse(
            f"session {log_id!r} is here already and is damaged at line {error.line}", "repair or delete it first"
        )


def _is_still_here(opened: OpenedArchive, storage: SessionStorage, verified: VerifiedArchive, log_id: str) -> bool:
    try:
        return _is_here(opened, storage, verified, log_id)
    except SessionNotFound:  # trashed or deleted while it was read
        return False


def _is_here(opened: OpenedArchive, storage: SessionStorage, verified: VerifiedArchive, log_id: str) -> bool:
    """Return whether the store has a session, and note if the archive has more of its events. Refuse a different session."""
    version, log = _version_here(opened, storage, log_id), verified.logs[log_id]
    if not version:
        return False
    common = min(version, log.head.version)
    here = hash_chain.split(next(storage.log.lines(log_id, common - 1, common), b""))
    there = bytes.fromhex(log.head.hash) if common == log.head.version else _digest_at(verified, log_id, common)
    if here is None or here[1] != there:
        if not _is_same_transcript(opened, storage, verified, log_id):
            opened.refuse(f"a different session {log_id!r} is here already", _ADVICE)
        verified.same.add(log_id)
        return True
    if common < log.head.version:
        verified.grown[log_id] = version
    return True


def _is_same_transcript(opened: OpenedArchive, storage: SessionStorage, verified: VerifiedArchive, log_id: str) -> bool:
    """Return whether a session was made by nothing but an import of lines that are the first ones of the session here."""
    if verified.logs[log_id].fork is not None:
        return False
    ours = (event.origin for event in storage.log.read(log_id) if event.origin is not None)
    has_lines = is_imported = False
    for chunk in _complete_lines(opened.read(verified.entries[log_id].log)):
        for event in codec.decode_lines(chunk):
            place, size = event.batch or (0, 1)
            is_imported = (is_imported and place > 0) or isinstance(event, _OF_IMPORTS)
            if event.origin is not None:
                here, has_lines, is_imported = next(ours, None), True, True
                if here is None or (here.format, piece_of(here)) != (event.origin.format, piece_of(event.origin)):
                    return False
            if place == size - 1 and not is_imported:
                return False
    return has_lines


def _digest_at(verified: VerifiedArchive, log_id: str, seq: int) -> bytes | None:
    """Return the chain digest of an event of a session in the archive, also of an inherited event."""
    seen: set[str] = set()
    while log_id in verified.logs and log_id not in seen:
        seen.add(log_id)
        log = verified.logs[log_id]
        if log.fork is None or seq > log.inherited:
            return log.digests.get(seq) if seq != log.head.version else bytes.fromhex(log.head.hash)
        if seq == log.inherited:
            return log.fork.digest
        log_id = log.fork.parent
    return None


def _check_forks(opened: OpenedArchive, storage: SessionStorage, verified: VerifiedArchive) -> None:
    """Refuse a fork whose fork point is neither in the archive nor in the store."""
    for log_id, log in verified.logs.items():
        if log.fork is None:
            continue
        there = _past(storage, verified, _Parent(log.fork.parent, log.fork.seq), {log_id})
        if there != (log.fork.digest, log.root):
            opened.refuse(
                f"session {log_id!r} is a fork of event {log.fork.seq} of session {log.fork.parent!r}, which is neither in "
                "the archive nor in the store",
                "export both together",
            )


def _past(
    storage: SessionStorage, verified: VerifiedArchive, parent: _Parent, seen: set[str]
) -> tuple[bytes, str] | None:
    """Return the digest of an event, from the archive or else the store, and the root of its chain; None for a circle."""
    while parent.log_id in verified.logs:
        log = verified.logs[parent.log_id]
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


def _in_order(verified: VerifiedArchive, new: set[str]) -> list[str]:
    """Sort the sessions to write: parents come before their forks, since forks need what they inherit. There are no circles.

    Of two that are here already, the fork comes first where it inherits only what its parent here has: it records what was
    redacted in the parent, and a redaction that it does not record would look like tampering.
    """
    before: dict[str, list[str]] = {one: [] for one in sorted({*new, *verified.grown})}
    for log_id in before:
        fork = verified.logs[log_id].fork
        if fork is None or fork.parent not in before:
            continue
        if log_id in verified.grown and fork.seq <= verified.grown.get(fork.parent, 0):
            before[fork.parent].append(log_id)
        else:
            before[log_id].append(fork.parent)
    return list(TopologicalSorter(before).static_order())


def _check_history(opened: OpenedArchive, storage: SessionStorage, verified: VerifiedArchive) -> None:
    """Group the files of tool calls by folder. Each folder must be named by a log, and must not conflict with one here."""
    folders: dict[str, list[str]] = {folder: [] for folder in opened.manifest.history}
    for folder in folders:
        why = odd_name(folder) or (None if folder in verified.linked else "belongs to none of its sessions")
        if why is None and folder.split("/")[0] == ASIDE:
            why = "has a reserved name"
        if why is None and any(str(one) in folders for one in PurePosixPath(folder).parents):
            why = "is inside another"
        if why:
            opened.refuse(f"the folder {folder[:200]!a} of a tool call {why}")
    if len(folders) != len(opened.manifest.history) or find_twins(folders):
        opened.refuse("two folders of tool calls have the same name")
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
        # The record is redacted here, or will be, as it is in the archive: its hash differs.
        needed = folder in verified.needed - verified.redacted - verified.here.folders
        if not _has_folder(opened, storage, folder, names, needed=needed):
            verified.folders[folder] = names


def _has_folder(opened: OpenedArchive, storage: SessionStorage, folder: str, names: list[str], *, needed: bool) -> bool:
    """Return whether the store has the folder of a tool call. Refuse a different folder that a new session needs."""
    assert storage.history is not None  # noqa: S101 - verified before
    wanted = {name: opened.manifest.files[f"history/{folder}/{name}"].sha256 for name in names}
    try:
        found = storage.history.holds(folder, wanted)
    except (ValueError, OSError):
        found = False
    if found is False and needed:
        reason = f"the folder {folder!a} of a tool call is here already, with other content"
        opened.refuse(reason, "move the one that is here away")
    return found is not None


def _check_room(opened: OpenedArchive, storage: SessionStorage) -> None:
    """Refuse an archive that is larger than the free space."""
    if not isinstance(storage, FileSystemSessionStorage):
        return
    there = next(
        one for one in (storage.sessions_dir.absolute(), *storage.sessions_dir.absolute().parents) if one.exists()
    )
    log = sum(entry.size_bytes for entry in opened.manifest.files.values())
    if log > shutil.disk_usage(there).free:
        opened.refuse(f"it needs {log:,} bytes, and {there} has fewer", "free some space")
