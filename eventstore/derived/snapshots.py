"""Snapshots: the summary of a long session as it was at some event, so that a new program reads the tail of its log only.

One file beside the log, `summary.snapshot`, never written on the way of an append: by who writes the views, under the lock of the
session's folder, when it is worth it. It is made under a temporary name and renamed; two slots overwritten in place would save
a rename where nobody waits for one. It is not flushed: what a power cut leaves of it is not believed.

    8 bytes    `ESSNAP1` and LF
    32 bytes   SHA-256 of the two that follow
    4 bytes    size of the first part, big-endian
    part 1     what is shown: metadata and the count of messages, and for what it stands (`_Front`)
    part 2     what tells a new call or use from a known one: the first 8 bytes of SHA-256 of each id, sorted
    part 3     the rest of the summary: calls, uses, data, which messages there are (`_Rest`)

It is believed where the code that folds is the same to the byte, and the log is the same file, grown or untouched since (inode,
size, time of change), with the hash there that the snapshot stands for. Anything else means that the log is read from its
beginning. What follows in the log is verified and folded on top. Not verified then is what is in front of that place: damage
there is seen by every read of it, by the next append of a new program, and by `verify`, not by the questions that a snapshot
answers.
"""

import os
import pkgutil
import stat
import sys
import threading
from array import array
from bisect import bisect_left
from collections.abc import Iterable, Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass, replace
from functools import cache
from hashlib import sha256
from itertools import accumulate, pairwise
from os import urandom
from pathlib import Path
from typing import Any

import msgspec

from eventstore import events as e
from eventstore import release
from eventstore.backends.fork_safety import hold_while_forking
from eventstore.backends.posix import fcntl
from eventstore.derived.state_cache import Fold, Mark
from eventstore.errors import EventStoreError
from eventstore.ids import TRASH
from eventstore.log.base import Head
from eventstore.log.engine import EventLog
from eventstore.record import message_run
from projections import metadata as metadata_fold
from projections import summary as summary_fold
from projections.invocations import Invocation
from projections.models import SessionMetadata
from projections.projection import FoldInput

NAME = "summary.snapshot"
PROJECTION = "summary"
LEAST_EVENTS = 1_000
"""Sessions of so many events, and smaller ones, have no snapshot: to read them takes no longer than a snapshot's file."""

_SOON_EVENTS, _LATE_EVENTS = 100, 1_000
_MAGIC = b"ESSNAP1\n"
_FRONT_AT = len(_MAGIC) + 32 + 4
_FIRST_READ = 16 * 1024
_CACHED = 1024
_LOG = "events.jsonl"
_FOLDER = os.O_RDONLY | os.O_DIRECTORY | os.O_NOFOLLOW | os.O_CLOEXEC
_FILE = os.O_RDONLY | os.O_NOFOLLOW | os.O_NONBLOCK | os.O_CLOEXEC
_CODE = (
    ("projections", "projection.py"),
    ("projections", "summary.py"),
    ("projections", "metadata.py"),
    ("projections", "invocations.py"),
    ("projections", "data.py"),
    ("eventstore", "events.py"),
    ("eventstore.record", "codec.py"),
    ("eventstore.record", "message_run.py"),
    ("eventstore.record", "tombstone.py"),
    ("eventstore.derived", "snapshots.py"),
)


class _Untrusted(Exception):
    """A snapshot that is not to be believed, for whatever reason: the log is read from its beginning."""


class _Damaged(_Untrusted):
    """A snapshot with bytes that are not what was written."""


_WRONG = (_Untrusted, EventStoreError, OSError, ValueError, OverflowError, RecursionError, msgspec.MsgspecError)
"""What may be wrong with a snapshot, or with the log behind it. A replay then tells what it is."""


class _Part(msgspec.Struct, frozen=True, array_like=True):
    """The size of a part in bytes, and its SHA-256."""

    size_bytes: int
    digest: bytes


class _Front(msgspec.Struct, frozen=True, array_like=True):
    """Part 1: for what a snapshot stands, what is shown, and what the other parts have to be."""

    projection: str
    code: bytes
    session_id: str
    head: Head
    mark: Mark
    metadata: metadata_fold.State
    messages: int
    ids: _Part
    rest: _Part


class _Call(msgspec.Struct, frozen=True, array_like=True, gc=False):
    invocation_id: str
    time: str
    tool_name: str | None
    invocation_dir: str | None
    duration_ms: float | None
    success: bool | None
    error: str | None


class _Rest(msgspec.Struct, frozen=True, array_like=True):
    """Part 3. `gaps` are the distances between the seqs of messages, each an integer of `width` (a typecode of `array`)."""

    calls: list[_Call]
    uses: dict[str, bytes]
    data: dict[str, Any]
    width: str
    gaps: bytes
    rewritten_at: int
    linked_at: int
    kept_at: int
    redacted_at: int


_front_decoder, _rest_decoder = msgspec.msgpack.Decoder(_Front), msgspec.msgpack.Decoder(_Rest)
_encode = msgspec.msgpack.Encoder().encode


@dataclass(frozen=True, slots=True)
class Shown:
    """What is shown of a session: `metadata` without the calls and uses that the snapshot knows, and how many messages.

    `ids` tells those from new ones, where the log goes on behind the snapshot.
    """

    head: Head
    mark: Mark
    metadata: metadata_fold.State
    messages: int
    ids: "array[int] | None" = None

    def to_model(self, session_id: str) -> SessionMetadata:
        """Give the metadata as callers hold it."""
        return self.metadata.to_model(session_id)


def _number() -> bytes:
    """Return the version of the package; where no one knows it, what no other process returns: its snapshots are not used."""
    number = release.version()
    return urandom(16) if number == release.UNKNOWN else number.encode()


@cache
def code_fingerprint() -> bytes:
    """Give the SHA-256 of the source of all code that folds into a snapshot; of the release where there is no source."""
    found = sha256(f"{sys.byteorder} ".encode())
    for package, name in _CODE:
        try:
            source = pkgutil.get_data(package, name)
        except OSError:
            source = None
        found.update(sha256(_number() if source is None else source).digest())
    return found.digest()


class Snapshots:
    """The snapshots of all sessions below a sessions folder. Safe for threads and processes."""

    def __init__(self, log: EventLog, sessions_dir: Path) -> None:
        self._log, self._sessions_dir = log, Path(os.path.realpath(sessions_dir))
        self._shown: dict[str, Shown] = {}
        self._written: dict[str, int] = {}
        self._behind: set[str] = set()
        self._mutex = threading.Lock()
        hold_while_forking(self._mutex)

    # --- reading

    def open(
        self, session_id: str, known: Fold[summary_fold.State] | None = None, version: int | None = None
    ) -> Fold[summary_fold.State] | None:
        """Fold a session from its snapshot, or a fold that this gave before, to its end or a version; None means: replay it."""
        with suppress(*_WRONG):
            return self._open(session_id, known, version)
        return None

    def shown(self, session_id: str) -> Shown | None:
        """Tell what is shown of a session as it is, by the small part of its snapshot; None means: ask the whole."""
        with suppress(*_WRONG):
            return self._show(session_id)
        return None

    def mark(self, session_id: str) -> Mark | None:
        """Look at a session's log, before it is folded for `write`. None where there is no such file."""
        with suppress(*_WRONG), self._folder(session_id) as folder:
            return _look(folder)
        return None

    def check(self, session_id: str, fold: Fold[summary_fold.State]) -> Iterator[str]:
        """Compare a snapshot that would be believed with what the log gives, of which `fold` is the end; yield what differs."""
        try:
            with self._folder(session_id) as folder, _open_file(folder, NAME) as file:
                front = _believe(_read_front(file), session_id, folder, _look(folder))
                ids, rest = _read_part(file, front, front.ids), _read_part(file, front, front.rest)
                state = _state_of(front, rest)
        except _Damaged:
            yield f"{NAME} is damaged, and not used"
            return
        except _WRONG:
            return
        wanted = fold.state
        if front.head.version < fold.head.version:
            wanted = summary_fold.projection.fold(self._log.skim(session_id, 0, front.head.version))
        if (state, front.messages, ids) != (wanted, len(wanted.spoken), _ids_of(wanted.metadata).tobytes()):
            yield f"{NAME} is not what the log gives at event {front.head.version}"

    def _open(
        self, session_id: str, known: Fold[summary_fold.State] | None, version: int | None
    ) -> Fold[summary_fold.State]:
        with self._folder(session_id) as folder:
            mark = _look(folder)
            if known is not None and known.mark == mark and version in (None, known.head.version):
                return known
            if known is None or known.mark is None or not mark.follows(known.mark) or version is not None:
                with _open_file(folder, NAME) as file:
                    front = _believe(_read_front(file), session_id, folder, mark)
                    if version is not None and version < front.head.version:
                        raise _Untrusted
                    state = _state_of(front, _read_part(file, front, front.rest))
                    known = Fold(front.head, state, front.mark)
        places = [known.head]
        state = known.state
        if mark.size_bytes > known.head.size_bytes:
            state = summary_fold.projection.fold(self._tail(session_id, places, version), known.state)
        if version is not None and places[-1].version != version:
            raise _Untrusted
        return Fold(places[-1], state, mark)

    def _show(self, session_id: str) -> Shown:
        known = self._shown.get(session_id)
        with self._folder(session_id) as folder:
            mark = _look(folder)
            if known is not None and known.mark == mark:
                return known
            if known is None or known.ids is None or not mark.follows(known.mark):
                with _open_file(folder, NAME) as file:
                    front = _believe(_read_front(file), session_id, folder, mark)
                    ids = None
                    if mark.size_bytes > front.head.size_bytes:
                        ids = array("Q", _read_part(file, front, front.ids))
                    known = Shown(front.head, mark, front.metadata, front.messages, ids)
        places = [known.head]
        if known.ids is not None:
            metadata, messages = known.metadata.copy(), known.messages
            for told in self._tail(session_id, places):
                messages = _count(messages, told, metadata, known.ids)
                metadata_fold.apply(metadata, told)
            known = Shown(places[-1], mark, metadata, messages, known.ids)
        if len(self._shown) >= _CACHED:
            self._shown.clear()
        self._shown[session_id] = known
        return known

    def _tail(self, session_id: str, places: list[Head], version: int | None = None) -> Iterator[FoldInput]:
        """Stream what follows a place, verified from there, and move on the place.

        What tells of a redaction in front of it, or was redacted itself, has to be judged with all of the log.
        """
        began = places[-1].version
        while version is None or places[-1].version < version:
            here = places[-1]
            data, after = self._log.resume(session_id, here)
            if not data:
                return
            if version is not None and after.version > version:
                lines = data.split(b"\n", version - here.version)
                data, after = data[: len(data) - len(lines[-1])], Head(version, "", "", 0)
            for told in message_run.read_runs(data):
                if isinstance(told, e.RedactedEvent) or (isinstance(told, e.EventRedacted) and told.target <= began):
                    raise _Untrusted
                yield told
            places.append(after)

    # --- writing

    def write(self, session_id: str, fold: Fold[summary_fold.State], mark: Mark | None, *, soon: bool = False) -> None:
        """Write the snapshot of a fold where it is worth it; `mark` is what `mark` gave before the fold was made.

        That is behind more than 1,000 new events and a 64th of all; with `soon` behind 100 and a 1,024th. A snapshot
        that cannot be written is none. Of a session that goes on from another's log there is none.
        """
        version = fold.head.version
        if version <= LEAST_EVENTS or mark is None:
            return
        if session_id not in self._written:
            self._written[session_id] = self._version(session_id)
        behind = version - self._written[session_id]
        if not behind:
            self._behind.discard(session_id)
        elif 0 <= behind <= (max(_SOON_EVENTS, version // 1024) if soon else max(_LATE_EVENTS, version // 64)):
            self._behind.add(session_id)
        else:
            self._behind.add(session_id)
            with suppress(*_WRONG):
                self._write(session_id, fold, mark)
                self._written[session_id] = version
                self._behind.discard(session_id)

    def behind(self, session_id: str | None = None) -> set[str]:
        """Name the sessions, of all or this one, whose snapshots may be worth to be written before this program ends."""
        return set(self._behind) if session_id is None else self._behind & {session_id}

    def remove(self, session_id: str, *, trashed: str | None = None) -> None:
        """Delete a session's snapshot: events were redacted, or it is to be made anew. `trashed` is its name in the trash."""
        self.forget(session_id)
        folders = (session_id,) if trashed is None else (TRASH.rstrip("/"), trashed)
        with suppress(FileNotFoundError, NotADirectoryError), self._mutex, self._folder(*folders) as folder:
            fcntl.flock(folder, fcntl.LOCK_EX)
            for name in (NAME, f".{NAME}.new"):
                with suppress(FileNotFoundError, IsADirectoryError, PermissionError):
                    os.unlink(name, dir_fd=folder)

    def forget(self, session_id: str) -> None:
        """Drop what is kept of a session in memory."""
        self._shown.pop(session_id, None)
        self._written.pop(session_id, None)
        self._behind.discard(session_id)

    def _write(self, session_id: str, fold: Fold[summary_fold.State], mark: Mark) -> None:
        if mark.size_bytes != fold.head.size_bytes or self._log.inherited(session_id):
            raise _Untrusted
        parts = _parts_of(session_id, fold, mark)
        with self._mutex, self._folder(session_id) as folder:
            fcntl.flock(folder, fcntl.LOCK_EX)
            if _look(folder) != mark or fold.mark not in (None, mark):
                raise _Untrusted  # the log went on, or was changed, since it was folded
            _replace(folder, parts)

    def _version(self, session_id: str) -> int:
        """Tell at which event the snapshot stands that there is; 0 where there is none to believe."""
        with suppress(*_WRONG), self._folder(session_id) as folder, _open_file(folder, NAME) as file:
            return _believe(_read_front(file), session_id, folder, _look(folder)).head.version
        return 0

    @contextmanager
    def _folder(self, *names: str) -> Iterator[int]:
        """Lend a descriptor of a folder, walked to from the sessions folder without following any link."""
        folder = os.open(self._sessions_dir, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
        try:
            for name in names:
                inside = os.open(name, _FOLDER, dir_fd=folder)
                os.close(folder)
                folder = inside
            yield folder
        finally:
            os.close(folder)


def _look(folder: int) -> Mark:
    found = os.stat(_LOG, dir_fd=folder, follow_symlinks=False)
    if not stat.S_ISREG(found.st_mode) or found.st_nlink != 1:
        raise _Untrusted
    return Mark(found.st_ino, found.st_size, found.st_mtime_ns)


@contextmanager
def _open_file(folder: int, name: str) -> Iterator[int]:
    file = os.open(name, _FILE, dir_fd=folder)
    try:
        if not stat.S_ISREG(os.fstat(file).st_mode):
            raise _Untrusted
        yield file
    finally:
        os.close(file)


def _read_front(file: int) -> _Front:
    """Read the first part of a snapshot, with one call where it is small."""
    raw, size = os.pread(file, _FIRST_READ, 0), os.fstat(file).st_size
    end = _FRONT_AT + int.from_bytes(raw[_FRONT_AT - 4 : _FRONT_AT], "big")
    if not raw.startswith(_MAGIC):
        raise _Untrusted  # another format
    if end > size:
        raise _Damaged
    raw = raw[:end] if end <= len(raw) else os.pread(file, end, 0)
    digest_at = len(_MAGIC)
    if sha256(raw[digest_at + 32 :]).digest() != raw[digest_at : digest_at + 32]:
        raise _Damaged
    front = _front_decoder.decode(raw[_FRONT_AT:])
    if size != end + front.ids.size_bytes + front.rest.size_bytes:
        raise _Damaged
    return front


def _believe(front: _Front, session_id: str, folder: int, mark: Mark) -> _Front:
    """Return a front that stands for a place in this log, by this code."""
    if (front.projection, front.code, front.session_id) != (PROJECTION, code_fingerprint(), session_id):
        raise _Untrusted
    if mark != front.mark and not mark.follows(front.mark):
        raise _Untrusted
    end = b'"%b"}\n' % front.head.hash.encode("ascii")
    with _open_file(folder, _LOG) as log:
        if os.fstat(log).st_ino != mark.inode or os.pread(log, len(end), front.head.size_bytes - len(end)) != end:
            raise _Untrusted
    return front


def _read_part(file: int, front: _Front, part: _Part) -> bytes:
    """Read the second or third part: they are the end of the file, in this order."""
    end = os.fstat(file).st_size - (front.rest.size_bytes if part is front.ids else 0)
    data = os.pread(file, part.size_bytes, end - part.size_bytes)
    if sha256(data).digest() != part.digest:
        raise _Damaged
    return data


def _parts_of(session_id: str, fold: Fold[summary_fold.State], mark: Mark) -> list[bytes]:
    """Make the bytes of a snapshot."""
    state = fold.state
    ids, rest = _ids_of(state.metadata).tobytes(), _encode(_rest_of(state))
    front = _Front(
        PROJECTION,
        code_fingerprint(),
        session_id,
        fold.head,
        mark,
        replace(state.metadata, calls={}, uses={}),
        len(state.spoken),
        _Part(len(ids), sha256(ids).digest()),
        _Part(len(rest), sha256(rest).digest()),
    )
    shown = _encode(front)
    sized = len(shown).to_bytes(4, "big") + shown
    return [_MAGIC, sha256(sized).digest(), sized, ids, rest]


def _ids_of(metadata: metadata_fold.State) -> "array[int]":
    """Give what `_is_known` looks in."""
    return array(
        "Q", sorted([*(_short(b"c", one) for one in metadata.calls), *(_short(b"u", one) for one in metadata.uses)])
    )


def _short(kind: bytes, text: str) -> int:
    return int.from_bytes(sha256(kind + text.encode()).digest()[:8], "big")


def _is_known(ids: "array[int]", kind: bytes, text: str) -> bool:
    """Tell whether a snapshot has a call or use; wrongly yes once in 10^14, which costs a look at the whole."""
    wanted = _short(kind, text)
    place = bisect_left(ids, wanted)
    return place < len(ids) and ids[place] == wanted


def _count(messages: int, told: FoldInput, metadata: metadata_fold.State, ids: "array[int]") -> int:
    """Count messages on. Raises _Untrusted for what cannot be told without what the snapshot knows of a call, use or message."""
    if isinstance(told, message_run.MessageRun):
        return messages + told.last - told.first + 1
    if isinstance(told, e.MessageAdded):
        return messages + 1
    if isinstance(told, e.ConversationCleared):
        return 0
    if isinstance(told, e.InvocationLinked):
        known = metadata.calls.get(told.invocation_id)
        renamed = known is not None and told.tool_name not in (None, known.tool_name)
        if renamed or (known is None and _is_known(ids, b"c", told.invocation_id)):
            raise _Untrusted
    elif isinstance(told, e.UsageRecorded):
        if told.key is not None and told.key not in metadata.uses and _is_known(ids, b"u", told.key):
            raise _Untrusted
    elif isinstance(told, e.InvocationUnlinked | e.ConversationRewound):
        raise _Untrusted
    return messages


def _rest_of(state: summary_fold.State) -> _Rest:
    calls = [
        _Call(one.invocation_id, one.time, one.tool_name, one.invocation_dir, one.duration_ms, one.success, one.error)
        for one in state.metadata.calls.values()
    ]
    gaps = _gaps(state.spoken)
    return _Rest(
        calls,
        state.metadata.uses,
        state.data,
        gaps.typecode,
        gaps.tobytes(),
        state.rewritten_at,
        state.linked_at,
        state.kept_at,
        state.redacted_at,
    )


def _gaps(seqs: "array[int]") -> "array[int]":
    """Give the distances between numbers, in the narrowest integers that hold them."""
    gaps = [after - before for before, after in pairwise((0, *seqs))]
    width = next(code for code in "BHIQ" if max(gaps, default=0) < 1 << 8 * array(code).itemsize)
    return array(width, gaps)


def _state_of(front: _Front, raw: bytes) -> summary_fold.State:
    """Put the first and the third part together."""
    rest = _rest_decoder.decode(raw)
    gaps = array(rest.width, rest.gaps)
    metadata = replace(
        front.metadata,
        calls={
            one.invocation_id: Invocation(
                one.invocation_id, one.time, one.tool_name, one.invocation_dir, one.duration_ms, one.success, one.error
            )
            for one in rest.calls
        },
        uses=rest.uses,
    )
    return summary_fold.State(
        front.head.version,
        metadata,
        rest.data,
        array("q", accumulate(gaps)),
        rest.rewritten_at,
        rest.linked_at,
        rest.kept_at,
        rest.redacted_at,
    )


def _replace(folder: int, parts: Iterable[bytes]) -> None:
    """Write the file whole under a temporary name that is then the file's."""
    temporary = f".{NAME}.new"
    with suppress(FileNotFoundError):
        os.unlink(temporary, dir_fd=folder)
    flags = os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_NOFOLLOW | os.O_CLOEXEC
    with os.fdopen(os.open(temporary, flags, 0o600, dir_fd=folder), "wb") as stream:
        for part in parts:
            stream.write(part)
    os.replace(temporary, NAME, src_dir_fd=folder, dst_dir_fd=folder)
