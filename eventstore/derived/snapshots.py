"""Snapshots: the summary of a long session as it was at some event, so that a new program reads the tail of its log only.

One file beside the log, `summary.snapshot`, never written on the way of an append: by who writes the views, under the lock of the
session's folder, when it is worth it. It is made under a temporary name and renamed; two slots overwritten in place would save
a rename where nobody waits for one. It is not flushed: what a power cut leaves of it is not believed.

    8 bytes    `ESSNAP1` and LF
    32 bytes   SHA-256 of the two that follow
    4 bytes    size of the first part, big-endian
    part 1     what is shown: metadata and the count of messages, and for what it stands (`Front`)
    part 2     what tells a new call or use from a known one: the first 8 bytes of SHA-256 of each id, sorted
    part 3     the rest of the summary: calls, uses, data, which messages there are (`_Rest`)

It is believed where the code that folds is the same to the byte, and the log is the same file, grown or untouched since (inode,
size, time of change), with the hash there that the snapshot stands for. Anything else means that the log is read from its
beginning. What follows in the log is verified and folded on top. Not verified then is what is in front of that place: damage
there is seen by every read of it, by the next append of a new program, and by `verify`, not by the questions that a snapshot
answers.
"""

import fcntl
import os
import threading
from array import array
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path

from eventstore import events as e
from eventstore.backends.files.atomic import replace_file, temporary_name
from eventstore.backends.files.descriptor import FOLDER, LINKED_FOLDER
from eventstore.backends.fork_safety import hold_while_forking
from eventstore.derived.snapshot_file import (
    LOG,
    PROJECTION,
    UNUSABLE,
    Damaged,
    Front,
    Untrusted,
    code_fingerprint,
    ids_of,
    is_known,
    look,
    open_file,
    parts_of,
    read_front,
    read_part,
    state_of,
)
from eventstore.derived.state_cache import CachedState, Mark
from eventstore.ids import TRASH
from eventstore.log.base import Head
from eventstore.log.engine import EventLog
from eventstore.record import message_run
from projections import metadata as metadata_fold
from projections import summary as summary_fold
from projections.models import SessionMetadata
from projections.projection import Told

NAME = "summary.snapshot"
LEAST_EVENTS = 1_000
"""Sessions of so many events, and smaller ones, have no snapshot: to read them takes no longer than a snapshot's file."""

_SOON_EVENTS, _LATE_EVENTS = 100, 1_000
_CACHED = 1024


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
        self, session_id: str, known: CachedState[summary_fold.State] | None = None, version: int | None = None
    ) -> CachedState[summary_fold.State] | None:
        """Fold a session from its snapshot, or a fold that this gave before, to its end or a version; None means: replay it."""
        with suppress(*UNUSABLE):
            return self._open(session_id, known, version)
        return None

    def shown(self, session_id: str) -> Shown | None:
        """Tell what is shown of a session as it is, by the small part of its snapshot; None means: ask the whole."""
        with suppress(*UNUSABLE):
            return self._show(session_id)
        return None

    def mark(self, session_id: str) -> Mark | None:
        """Look at a session's log, before it is folded for `write`. None where there is no such file."""
        with suppress(*UNUSABLE), self._folder(session_id) as folder:
            return look(folder)
        return None

    def check(self, session_id: str, fold: CachedState[summary_fold.State]) -> Iterator[str]:
        """Compare a snapshot that would be believed with what the log gives, of which `fold` is the end; yield what differs."""
        try:
            with self._folder(session_id) as folder, open_file(folder, NAME) as file:
                front = _believe(read_front(file), session_id, folder, look(folder))
                ids, rest = read_part(file, front, front.ids), read_part(file, front, front.rest)
                state = state_of(front, rest)
        except Damaged:
            yield f"{NAME} is damaged, and not used"
            return
        except UNUSABLE:
            return
        wanted = fold.state
        if front.head.version < fold.head.version:
            wanted = summary_fold.projection.fold(self._log.skim(session_id, 0, front.head.version))
        if (state, front.messages, ids) != (wanted, len(wanted.spoken), ids_of(wanted.metadata).tobytes()):
            yield f"{NAME} is not what the log gives at event {front.head.version}"

    def _open(
        self, session_id: str, known: CachedState[summary_fold.State] | None, version: int | None
    ) -> CachedState[summary_fold.State]:
        with self._folder(session_id) as folder:
            mark = look(folder)
            if known is not None and known.mark == mark and version in (None, known.head.version):
                return known
            if known is None or known.mark is None or not mark.follows(known.mark) or version is not None:
                with open_file(folder, NAME) as file:
                    front = _believe(read_front(file), session_id, folder, mark)
                    if version is not None and version < front.head.version:
                        raise Untrusted
                    state = state_of(front, read_part(file, front, front.rest))
                    known = CachedState(front.head, state, front.mark)
        places = [known.head]
        state = known.state
        if mark.size_bytes > known.head.size_bytes:
            state = summary_fold.projection.fold(self._tail(session_id, places, version), known.state)
        if version is not None and places[-1].version != version:
            raise Untrusted
        return CachedState(places[-1], state, mark)

    def _show(self, session_id: str) -> Shown:
        known = self._shown.get(session_id)
        with self._folder(session_id) as folder:
            mark = look(folder)
            if known is not None and known.mark == mark:
                return known
            if known is None or known.ids is None or not mark.follows(known.mark):
                with open_file(folder, NAME) as file:
                    front = _believe(read_front(file), session_id, folder, mark)
                    ids = None
                    if mark.size_bytes > front.head.size_bytes:
                        ids = array("Q", read_part(file, front, front.ids))
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

    def _tail(self, session_id: str, places: list[Head], version: int | None = None) -> Iterator[Told]:
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
                    raise Untrusted
                yield told
            places.append(after)

    # --- writing

    def write(
        self, session_id: str, fold: CachedState[summary_fold.State], mark: Mark | None, *, soon: bool = False
    ) -> None:
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
            with suppress(*UNUSABLE):
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
            for name in (NAME, temporary_name(NAME)):
                with suppress(FileNotFoundError, IsADirectoryError, PermissionError):
                    os.unlink(name, dir_fd=folder)

    def forget(self, session_id: str) -> None:
        """Drop what is kept of a session in memory."""
        self._shown.pop(session_id, None)
        self._written.pop(session_id, None)
        self._behind.discard(session_id)

    def _write(self, session_id: str, fold: CachedState[summary_fold.State], mark: Mark) -> None:
        if mark.size_bytes != fold.head.size_bytes or self._log.inherited(session_id):
            raise Untrusted
        parts = parts_of(session_id, fold, mark)
        with self._mutex, self._folder(session_id) as folder:
            fcntl.flock(folder, fcntl.LOCK_EX)
            if look(folder) != mark or fold.mark not in (None, mark):
                raise Untrusted  # the log went on, or was changed, since it was folded
            replace_file(NAME, parts, folder=folder, durable=False)

    def _version(self, session_id: str) -> int:
        """Tell at which event the snapshot stands that there is; 0 where there is none to believe."""
        with suppress(*UNUSABLE), self._folder(session_id) as folder, open_file(folder, NAME) as file:
            return _believe(read_front(file), session_id, folder, look(folder)).head.version
        return 0

    @contextmanager
    def _folder(self, *names: str) -> Iterator[int]:
        """Lend a descriptor of a folder, walked to from the sessions folder without following any link."""
        folder = os.open(self._sessions_dir, LINKED_FOLDER)
        try:
            for name in names:
                inside = os.open(name, FOLDER, dir_fd=folder)
                os.close(folder)
                folder = inside
            yield folder
        finally:
            os.close(folder)


def _believe(front: Front, session_id: str, folder: int, mark: Mark) -> Front:
    """Return a front that stands for a place in this log, by this code."""
    if (front.projection, front.code, front.session_id) != (PROJECTION, code_fingerprint(), session_id):
        raise Untrusted
    if mark != front.mark and not mark.follows(front.mark):
        raise Untrusted
    end = b'"%b"}\n' % front.head.hash.encode("ascii")
    with open_file(folder, LOG) as log:
        if os.fstat(log).st_ino != mark.inode or os.pread(log, len(end), front.head.size_bytes - len(end)) != end:
            raise Untrusted
    return front


def _count(messages: int, told: Told, metadata: metadata_fold.State, ids: "array[int]") -> int:
    """Count messages on. Raises Untrusted for what cannot be told without what the snapshot knows of a call, use or message."""
    if isinstance(told, message_run.MessageRun):
        return messages + told.last - told.first + 1
    if isinstance(told, e.MessageAdded):
        return messages + 1
    if isinstance(told, e.ConversationCleared):
        return 0
    if isinstance(told, e.InvocationLinked):
        known = metadata.calls.get(told.invocation_id)
        renamed = known is not None and told.tool_name not in (None, known.tool_name)
        if renamed or (known is None and is_known(ids, b"c", told.invocation_id)):
            raise Untrusted
    elif isinstance(told, e.UsageRecorded):
        if told.key is not None and told.key not in metadata.uses and is_known(ids, b"u", told.key):
            raise Untrusted
    elif isinstance(told, e.InvocationUnlinked | e.ConversationRewound):
        raise Untrusted
    return messages
