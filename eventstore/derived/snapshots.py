"""Snapshots: the folded summary of a long session at some event, so that a new program reads only the end of its log.

Each session has one file next to its log, `summary.snapshot`; the format is in `snapshot_file`. An append never writes it: the
writer of the views does, under the lock of the session's folder, when enough events are new. The file is replaced in one step and
not flushed: after a power cut it fails its checksum and is not used.

A snapshot is used only if the code that folds is the same to the byte, the log is the same file, unchanged or longer (inode,
size, time of change), and the log has the snapshot's hash at the snapshot's event. Else the log is read from its beginning. The
events after the snapshot are verified and folded. The events before it are not verified then: every read of them, the next append
of a new program and `verify` find damage there; questions that a snapshot answers do not.
"""

import os
from array import array
from collections.abc import Iterator
from contextlib import suppress
from dataclasses import dataclass
from functools import partial
from pathlib import Path

from eventstore import events as e
from eventstore.backends.files.atomic import temporary_name
from eventstore.backends.posix import fcntl
from eventstore.derived.log_folder import LogFolders, check_place
from eventstore.derived.snapshot_file import (
    PROJECTION,
    UNUSABLE,
    Damaged,
    Front,
    Untrusted,
    code_fingerprint,
    holds,
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
from projections.fold import FoldInput
from projections.models import SessionMetadata

NAME, MOMENTS = "summary.snapshot", "moments.index"
LEAST_EVENTS = 1_000
"""Sessions with at most this many events have no snapshot: reading their logs takes no longer than reading a snapshot."""

_SOON_EVENTS, _LATE_EVENTS = 100, 1_000
_CACHED = 1024


@dataclass(frozen=True, slots=True)
class Shown:
    """What is shown of a session: `metadata` without the calls and uses in the snapshot, and the number of messages.

    `ids` shows which calls and uses are new, where the log has events after the snapshot.
    """

    head: Head
    mark: Mark
    metadata: metadata_fold.State
    messages: int
    ids: "array[int] | None" = None

    def to_model(self, session_id: str) -> SessionMetadata:
        """Return the metadata as a public model."""
        return self.metadata.to_model(session_id)


class Snapshots(LogFolders):
    """The snapshots of all sessions below a sessions folder. Safe for threads and processes."""

    def __init__(self, log: EventLog, sessions_dir: Path) -> None:
        super().__init__(log, sessions_dir)
        self._shown: dict[str, Shown] = {}
        self._written: dict[str, int] = {}
        self._behind: set[str] = set()

    # --- reading

    def open(
        self, session_id: str, known: CachedState[summary_fold.State] | None = None, version: int | None = None
    ) -> CachedState[summary_fold.State] | None:
        """Fold a session from its snapshot, or from a state returned before, to its end or a version; None: replay it."""
        with suppress(*UNUSABLE):
            return self._continue(session_id, known, version, summary_fold.projection, partial(self._read, session_id))
        return None

    def shown(self, session_id: str) -> Shown | None:
        """Return what is shown of a session, from part 1 of its snapshot and the events after it; None: fold the full summary."""
        with suppress(*UNUSABLE):
            return self._show(session_id)
        return None

    def check(self, session_id: str, fold: CachedState[summary_fold.State]) -> Iterator[str]:
        """Compare a snapshot that would be used with the log, folded in `fold`; yield the differences."""
        try:
            with self._folder(session_id) as folder, open_file(folder, NAME) as file:
                front = _trusted(read_front(file), session_id, folder, look(folder))
                ids, rest = read_part(file, front, front.ids), read_part(file, front, front.rest)
                del rest  # a second state, to compare it with, takes as much memory as the first one
        except Damaged:
            yield f"{NAME} is damaged, and not used"
            return
        except UNUSABLE:
            return
        wanted = fold.state
        if front.head.version < fold.head.version:
            wanted = summary_fold.projection.fold(self._log.skim(session_id, 0, front.head.version))
        if not holds(front, wanted) and not self._is_same(session_id, front, ids, wanted):
            yield f"{NAME} is not what the log gives at event {front.head.version}"

    def _is_same(self, session_id: str, front: Front, ids: bytes, wanted: summary_fold.State) -> bool:
        """Compare what a snapshot means with a state. One that was replaced in the meantime is not compared."""
        try:
            with self._folder(session_id) as folder, open_file(folder, NAME) as file:
                if read_front(file) != front:
                    return True
                state = state_of(front, read_part(file, front, front.rest))
        except UNUSABLE:
            return True
        return (state, front.messages, ids) == (wanted, len(wanted.spoken), ids_of(wanted.metadata).tobytes())

    def _read(self, session_id: str, folder: int, mark: Mark, version: int | None) -> CachedState[summary_fold.State]:
        with open_file(folder, NAME) as file:
            front = _trusted(read_front(file), session_id, folder, mark)
            if version is not None and version < front.head.version:
                raise Untrusted
            return CachedState(front.head, state_of(front, read_part(file, front, front.rest)), front.mark)

    def _show(self, session_id: str) -> Shown:
        known = self._shown.get(session_id)
        with self._folder(session_id) as folder:
            mark = look(folder)
            if known is not None and known.mark == mark:
                return known
            if known is None or known.ids is None or not mark.follows(known.mark):
                with open_file(folder, NAME) as file:
                    front = _trusted(read_front(file), session_id, folder, mark)
                    ids = None
                    if mark.size_bytes > front.head.size_bytes:
                        ids = array("Q", read_part(file, front, front.ids))
                    known = Shown(front.head, mark, front.metadata, front.messages, ids)
        places = [known.head]
        if known.ids is not None:
            metadata, messages = known.metadata.copy(), known.messages
            for event in self._tail(session_id, places):
                messages = _count(messages, event, metadata, known.ids)
                metadata_fold.apply(metadata, event)
            known = Shown(places[-1], mark, metadata, messages, known.ids)
        if len(self._shown) >= _CACHED:
            self._shown.clear()
        self._shown[session_id] = known
        return known

    # --- writing

    def write(
        self, session_id: str, fold: CachedState[summary_fold.State], mark: Mark | None, *, soon: bool = False
    ) -> None:
        """Write the snapshot of a fold if enough events are new; `mark` is what `mark` returned before the fold.

        Enough are more than 1,000 and a 64th of all events; with `soon` more than 100 and a 1,024th. A snapshot that
        cannot be written is left out. A fork that reads its parent's log has no snapshot.
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
                self._replace(session_id, NAME, fold, mark, partial(parts_of, session_id, fold, mark))
                self._written[session_id] = version
                self._behind.discard(session_id)

    def behind(self, session_id: str | None = None) -> set[str]:
        """Return the sessions, of all or this one, with new events since their snapshot."""
        return set(self._behind) if session_id is None else self._behind & {session_id}

    def remove(self, session_id: str, *, trashed: str | None = None) -> None:
        """Delete a session's snapshot and moment index, after a redaction or before a rebuild.

        `trashed` is the session's name in the trash.
        """
        self.forget(session_id)
        folders = (session_id,) if trashed is None else (TRASH.rstrip("/"), trashed)
        with suppress(FileNotFoundError, NotADirectoryError), self._mutex, self._folder(*folders) as folder:
            fcntl.flock(folder, fcntl.LOCK_EX)
            for name in (NAME, temporary_name(NAME), MOMENTS, temporary_name(MOMENTS)):
                with suppress(FileNotFoundError, IsADirectoryError, PermissionError):
                    os.unlink(name, dir_fd=folder)

    def forget(self, session_id: str) -> None:
        """Drop the cached state of a session."""
        self._shown.pop(session_id, None)
        self._written.pop(session_id, None)
        self._behind.discard(session_id)

    def _version(self, session_id: str) -> int:
        """Return the event number of the usable snapshot; 0 without one."""
        with suppress(*UNUSABLE), self._folder(session_id) as folder, open_file(folder, NAME) as file:
            return _trusted(read_front(file), session_id, folder, look(folder)).head.version
        return 0


def _trusted(front: Front, session_id: str, folder: int, mark: Mark) -> Front:
    """Return the front if it fits this log and this code. Raises Untrusted."""
    if (front.projection, front.code, front.session_id) != (PROJECTION, code_fingerprint(), session_id):
        raise Untrusted
    check_place(folder, front.head, front.mark, mark)
    return front


def _count(messages: int, event: FoldInput, metadata: metadata_fold.State, ids: "array[int]") -> int:
    """Count messages on. Raises Untrusted for what cannot be event without what the snapshot knows of a call, use or message."""
    if isinstance(event, message_run.MessageRun):
        return messages + event.last - event.first + 1
    if isinstance(event, e.MessageAdded):
        return messages + 1
    if isinstance(event, e.ConversationCleared):
        return 0
    if isinstance(event, e.InvocationEvent):
        known = metadata.calls.get(event.invocation_id)
        renamed = known is not None and event.tool_name not in (None, known.tool_name)
        if renamed or (known is None and is_known(ids, b"c", event.invocation_id)):
            raise Untrusted
    elif isinstance(event, e.UsageRecorded):
        if event.key is not None and event.key not in metadata.uses and is_known(ids, b"u", event.key):
            raise Untrusted
    elif isinstance(event, e.InvocationUnlinked | e.ConversationRewound | e.MessagesWithdrawn):
        raise Untrusted
    return messages
