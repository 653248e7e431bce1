"""The folders of logs: files beside a log that are made of it, and used only while it still has what they were made of.

What is in such a file, and when it is written, is not decided here: see `snapshots` and `moment_file`.
"""

import os
import threading
from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import TypeVar

from eventstore import events as e
from eventstore.backends.files.atomic import replace_file
from eventstore.backends.files.descriptor import FOLDER, LINKED_FOLDER
from eventstore.backends.posix import fcntl
from eventstore.derived.snapshot_file import LOG, UNUSABLE, Untrusted, look, open_file
from eventstore.derived.state_cache import CachedState, Mark
from eventstore.log.base import Head
from eventstore.log.engine import EventLog
from eventstore.log.locking import hold_while_forking
from eventstore.record import message_run
from projections.fold import Fold, FoldInput

S = TypeVar("S")


class LogFolders:
    """The folders of all sessions below a sessions folder. Safe for threads and processes."""

    def __init__(self, log: EventLog, sessions_dir: Path) -> None:
        self._log, self._sessions_dir = log, Path(os.path.realpath(sessions_dir))
        self._mutex = threading.RLock()
        hold_while_forking(self._mutex)

    def mark(self, session_id: str) -> Mark | None:
        """Return the mark of a session's log, to be taken before the fold for `write`. None if there is no file."""
        with suppress(*UNUSABLE), self._folder(session_id) as folder:
            return look(folder)
        return None

    def _continue(
        self,
        session_id: str,
        known: CachedState[S] | None,
        version: int | None,
        projection: Fold[S],
        read: Callable[[int, Mark, int | None], CachedState[S]],
    ) -> CachedState[S]:
        """Fold a session from the state in its file, or from a state that this returned before, to its end or a version.

        `read` reads the state from the folder, if it is trusted at this mark, and not after the version. Raises one of UNUSABLE.
        """
        with self._folder(session_id) as folder:
            mark = look(folder)
            if known is not None and known.mark == mark and version in (None, known.head.version):
                return known
            if known is None or known.mark is None or not mark.follows(known.mark) or version is not None:
                known = read(folder, mark, version)
        places = [known.head]
        state = known.state
        if mark.size_bytes > known.head.size_bytes:
            state = projection.fold(self._tail(session_id, places, version), known.state)
        if version is not None and places[-1].version != version:
            raise Untrusted
        return CachedState(places[-1], state, mark)

    def _tail(self, session_id: str, places: list[Head], version: int | None = None) -> Iterator[FoldInput]:
        """Stream the events after a place, verified from there, and append the reached places to `places`.

        Raises Untrusted for a tombstone, and for a redaction of an event before the place: then the log has to be read from its
        beginning.
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
            for event in message_run.read_runs(data):
                if isinstance(event, e.RedactedEvent) or (isinstance(event, e.EventRedacted) and event.target <= began):
                    raise Untrusted
                yield event
            places.append(after)

    def _replace(
        self, session_id: str, name: str, fold: CachedState[S], mark: Mark, parts: Callable[[], Iterable[bytes]]
    ) -> None:
        """Write the file of a fold, in pieces, if `mark`, from before the fold, still is that of the log.

        A fork that reads its parent's log has no such file. Raises one of UNUSABLE.
        """
        if mark.size_bytes != fold.head.size_bytes or self._log.inherited(session_id):
            raise Untrusted
        pieces = parts()
        with self._mutex, self._folder(session_id) as folder:
            fcntl.flock(folder, fcntl.LOCK_EX)
            if look(folder) != mark or fold.mark not in (None, mark):
                raise Untrusted  # the log grew or was changed since it was folded
            replace_file(name, pieces, folder=folder, durable=False)

    @contextmanager
    def _folder(self, *names: str) -> Iterator[int]:
        """Yield the descriptor of a folder below the sessions folder, opened without following any link."""
        folder = os.open(self._sessions_dir, LINKED_FOLDER)
        try:
            for name in names:
                inside = os.open(name, FOLDER, dir_fd=folder)
                os.close(folder)
                folder = inside
            yield folder
        finally:
            os.close(folder)


def check_place(folder: int, head: Head, was: Mark, mark: Mark) -> None:
    """Raise Untrusted unless the log in a folder, now at `mark`, still has the end that it had at the mark `was`."""
    if mark != was and not mark.follows(was):
        raise Untrusted
    end = b'"%b"}\n' % head.hash.encode("ascii")
    with open_file(folder, LOG) as log:
        if os.fstat(log).st_ino != mark.inode or os.pread(log, len(end), head.size_bytes - len(end)) != end:
            raise Untrusted
