"""The two storages: sessions in memory, and sessions in files with views written in the background."""

import os
import threading
import time
import warnings
import weakref
from collections.abc import Callable, Iterator, Sequence
from contextlib import suppress
from functools import partial
from itertools import repeat
from pathlib import Path
from typing import TYPE_CHECKING, Any

from eventstore.backends.files.log import FileSystemEventLog
from eventstore.derived.catalog import FOLDER
from eventstore.derived.file_views import FileViews
from eventstore.derived.snapshots import Snapshots
from eventstore.errors import EventStoreError, LogDamaged, SessionNotFound
from eventstore.events import Event, InvocationEvent
from eventstore.ids import TRASH, Fsync, check_session_id, file_name, id_of
from eventstore.log.base import Repair
from eventstore.store.as_of import At
from eventstore.store.call_records import write_records
from eventstore.store.lock import refusing
from eventstore.store.pages import warn_damaged
from eventstore.store.registry import Registry
from eventstore.store.storage import SessionStorage
from eventstore.store.tool_history import ToolHistory
from projections import statistics as statistics_fold
from projections.models import SessionMetadata

if TYPE_CHECKING:
    from eventstore.derived.moment_file import MomentFiles  # imported by who asks about moments

_VIEW_DELAY_SECONDS, _MOST_VIEW_DELAY_SECONDS = 0.1, 10.0
_VIEW_REST_SECONDS = 1.0  # between two writes of the views of one session, while appends to it keep coming
_VIEW_SHARE = 4  # views wait this many times as long as their last write took: appends keep 4/5 of the time


class MemorySessionStorage(SessionStorage):
    """Sessions that live as long as the object; with a `history_dir`, tool calls get folders below it."""

    def __init__(self, history_dir: Path | str | None = None) -> None:
        from eventstore.backends.memory import MemoryEventLog  # a store in files needs none

        super().__init__(MemoryEventLog())
        self.history = None if history_dir is None else ToolHistory(history_dir)


class FileSystemSessionStorage(SessionStorage):
    """Sessions in folders below `sessions_dir`, with views for people and links into `history_dir`.

    `fsync` is the durability of an append: `always`, `everysec` or `no`. Views are written 100 ms later, those of one session
    at most once a second; where a write takes long, as with 100,000 tool calls, after four times as long, at most 10 s.
    """

    def __init__(self, sessions_dir: Path | str, history_dir: Path | str, *, fsync: Fsync = "always") -> None:
        super().__init__(FileSystemEventLog(sessions_dir, fsync=fsync))
        self._list_with(Path(sessions_dir, FOLDER))
        self.registry = Registry(self.log, Path(sessions_dir))
        self.sessions_dir, self.history_dir = Path(sessions_dir), Path(history_dir)
        self.history = ToolHistory(history_dir)
        self.views = FileViews(self.log, Path(sessions_dir), Path(history_dir))
        self.snapshots = Snapshots(self.log, Path(sessions_dir))
        self._summaries.from_snapshot = self.snapshots.open
        self._begin()
        _OPEN.add(self)

    def _moment_files(self) -> "MomentFiles":
        from eventstore.derived.moment_file import MomentFiles

        return MomentFiles(self.log, self.sessions_dir)

    has_views = True

    def local_folders(self) -> list[Path]:
        return [self.sessions_dir]

    def _begin(self) -> None:
        self._stale: dict[str, bool] = {}  # whether all that is new in it was imported
        self._growing: set[str] = set()  # those that an import changed since the writer looked
        self._due = threading.Condition()
        self._writer: threading.Thread | None = None
        self._view_delay = 0.0
        self._resting: dict[str, float] = {}  # when the views of a session may be written again
        self._flushing = threading.RLock()

    def begin_in_child(self) -> None:
        """Reset the threads and locks of the parent process."""
        self._begin()
        self.registry.begin_in_child()

    def metadata(self, session_id: str) -> SessionMetadata:
        """Return a session's metadata: from an up-to-date view or snapshot, else folded."""
        known = self.views.metadata(check_session_id(session_id))
        if known is None and not self._summaries.has(session_id):
            shown = self.snapshots.shown(session_id)
            known = None if shown is None else shown.to_model(session_id)
        return known or super().metadata(session_id)

    def _described(self, session_ids: Sequence[str], jobs: int) -> Iterator[dict[str, Any] | None]:
        from concurrent.futures.process import BrokenProcessPool  # programs with few sessions start none

        from eventstore.store.processes import spread

        with suppress(BrokenProcessPool, OSError):  # none can be started, or one was killed: the rest is read here
            yield from spread(session_ids, partial(_describe_some, self.sessions_dir, self.history_dir), jobs)
        yield from repeat(None)

    def statistics(self, session_id: str, at: At | None = None, *, recorded: bool = False) -> dict[str, Any]:
        """Return a session's figures, from its snapshot if there is one; earlier events are not verified then."""
        if at is None and not self._summaries.has(check_session_id(session_id)):
            shown = self.snapshots.shown(session_id)
            if shown is not None:
                return statistics_fold.show(shown.to_model(session_id), shown.messages)
        return super().statistics(session_id, at, recorded=recorded)

    def _changed(self, session_id: str, events: Sequence[Event], *, imported: bool = False) -> None:
        for event in events:
            if isinstance(event, InvocationEvent) and event.invocation_dir:
                with suppress(OSError):  # the next write of the views repeats it
                    self.views.link(session_id, f"invocations/{file_name(event.invocation_id)}", event.invocation_dir)
        known = self._stale.get(session_id)
        if imported:
            self._growing.add(session_id)
        if known is False or (known and imported):
            return  # its writer has not read the log yet
        with self._due:
            self._stale[session_id] = imported and self._stale.get(session_id, True)
            if self._writer is None:
                self._writer = threading.Thread(
                    target=_write_views, args=(weakref.ref(self), self._view_delay), daemon=True
                )
                self._writer.start()

    def repair_session(self, session_id: str, *, dry_run: bool = True) -> Repair | None:
        """Plan or do the repair of a damaged log, and rebuild its views; None if nothing is wrong. Raises SessionNotFound."""
        plan = super().repair_session(session_id, dry_run=dry_run)
        if plan is not None and not dry_run:
            self.views.remove(session_id)
            self.snapshots.remove(session_id)
            self._write_views(session_id)
        return plan

    def redo_views(self) -> int:
        """Write outdated views, for example after a crash; return the number of sessions that had them."""
        stale = [session_id for session_id in self.log.ids() if self.views.metadata(session_id) is None]
        with self._due:
            self._stale |= dict.fromkeys(stale, False)
        self.flush_views()
        return len(stale)

    def renew_views(self, session_id: str, *, imported: bool = False) -> None:
        """Have the views of a session written, where a kill left them outdated. Nothing is done for a session that is gone.

        `imported`: a transcript of it is there, so that the views need no conversation.
        """
        if self.views.metadata(session_id) is None:
            self._changed(session_id, (), imported=imported)

    def check_views(self, session_id: str) -> Iterator[str]:
        """Compare up-to-date views, snapshots and moment indexes with the log; yield the differences."""
        fold = self._summaries.get_verified(check_session_id(session_id))
        yield from self.views.check(session_id, fold.state, fold.head)
        yield from self.snapshots.check(session_id, fold)
        yield from self._moment_files().check(session_id, fold.head)

    def flush_views(self, session_id: str | None = None) -> None:
        """Write the views of one session, or of all that changed, now, and the snapshots with enough new events."""
        self._flush_late(session_id)
        for one in self.snapshots.behind(session_id):
            with suppress(EventStoreError, OSError):
                self._write_snapshot(one, soon=True)

    def _flush_late(self, session_id: str | None = None) -> None:
        with self._flushing:
            with self._due:
                names = list(self._stale) if session_id is None else [session_id] if session_id in self._stale else []
                due = {name: self._stale.pop(name) for name in names}
            for one, imported in due.items():
                self._write_or_warn(one, imported=imported)

    def _flush_quiet(self) -> None:
        """Write outdated views, except of sessions whose views are new, or that an import changed since the last call.

        The state of the second would be folded again and again, and takes as much memory as the importer.
        """
        growing, self._growing = self._growing, set()
        now = time.monotonic()
        self._resting = {name: until for name, until in self._resting.items() if now < until}
        for name in [one for one in list(self._stale) if one not in growing and one not in self._resting]:
            self._flush_late(name)
            self._resting[name] = time.monotonic() + _VIEW_REST_SECONDS

    def _write_or_warn(self, session_id: str, *, imported: bool = False) -> None:
        """Write views, and warn where that fails: the log is intact, and the views are known to be outdated."""
        try:
            self._write_views(session_id, imported=imported)
        except (SessionNotFound, LogDamaged):
            return
        except OSError as error:
            warnings.warn(
                f"views of session {session_id!r} could not be written ({error}); its log is intact: rebuild them later",
                RuntimeWarning,
                stacklevel=3,
            )

    def _write_views(self, session_id: str, *, imported: bool = False) -> None:
        fold = self._summaries.get_sized(session_id)
        self.views.write(session_id, fold.state, fold.head, imported=imported)
        self._write_snapshot(session_id)

    def _write_snapshot(self, session_id: str, *, soon: bool = False) -> None:
        mark = self.snapshots.mark(session_id)
        self.snapshots.write(session_id, self._summaries.get_sized(session_id), mark, soon=soon)

    def rebuild(self, on_damage: Callable[[LogDamaged], None] = warn_damaged) -> Iterator[str]:
        """Settle the store, delete all views, rebuild them from the logs, and yield each session's id.

        The views of a damaged session stay as they are; `on_damage` is called for it.
        """
        self.settle()
        self.clear_caches()
        for session_id in sorted(self.log.ids()):
            try:
                self.rebuild_session(session_id)
            except SessionNotFound:
                continue  # deleted or moved in the meantime
            except LogDamaged as damage:
                on_damage(damage)
            else:
                yield session_id

    def rebuild_session(self, session_id: str) -> None:
        """Delete and rebuild the views of one session. Raises SessionNotFound, OperationRefused; LogDamaged: they stay."""
        with refusing(session_id, "rebuilt"):
            self._summaries.get_verified(check_session_id(session_id))
            self.views.remove(session_id)
            self.snapshots.remove(session_id)
            self._write_views(session_id)
            self._write_snapshot(session_id, soon=True)
            write_records(self.log, self.history, session_id)

    def _forget(self, session_id: str) -> None:
        self.snapshots.forget(session_id)
        super()._forget(session_id)

    def forget_trashed_views(self, name: str) -> None:
        """Remove the views and the snapshot of a session in the trash. They are rebuilt after a restore."""
        FileViews(self.log, self.sessions_dir / TRASH, self.history_dir).remove(name)
        self.snapshots.remove(id_of(name), trashed=name)

    def forget_derived(self, session_id: str) -> None:
        """Remove the views and the snapshot of a session, until `refresh_derived` or the next append writes them again."""
        super().forget_derived(session_id)
        self.views.remove(session_id)
        self.snapshots.remove(session_id)

    def refresh_derived(self, session_id: str) -> None:
        """Rebuild the views and drop the snapshot of a session, after a redaction."""
        super().refresh_derived(session_id)
        self._write_or_warn(session_id)

    def delete_session(self, session_id: str, reason: str | None = None, *, history: bool = False) -> bool:
        """Delete a session for good, views and all, as `SessionStorage.delete_session` does; False if there was none."""
        with self._due:
            self._stale.pop(session_id, None)
        return super().delete_session(session_id, reason, history=history)


def _write_views(storage: "weakref.ref[FileSystemSessionStorage]", delay: float) -> None:
    """Write outdated views a moment after the append; end when none is left."""
    pause = threading.Event()
    while True:
        pause.wait(max(delay, _VIEW_DELAY_SECONDS))
        kept = storage()
        if kept is None:
            return
        began = time.perf_counter()
        with suppress(Exception):  # an outdated view is noticed, and the log is folded instead
            kept._flush_quiet()
        delay = kept._view_delay = min(_VIEW_SHARE * (time.perf_counter() - began), _MOST_VIEW_DELAY_SECONDS)
        with kept._due:
            if not kept._stale:
                kept._writer = None
                return
        del kept


def _describe_some(sessions_dir: Path, history_dir: Path, names: Sequence[str]) -> list[dict[str, Any] | None]:
    """Read the metadata of some sessions in another process; None for those that cannot be read."""
    found = list[dict[str, Any] | None]()
    with FileSystemSessionStorage(sessions_dir, history_dir, fsync="no") as storage:
        for name in names:
            try:
                found.append(storage._describe(name))
            except EventStoreError:  # the caller reads it again, and says what is wrong
                found.append(None)
    return found


# One hook for all storages: the interpreter cannot remove a hook, so one per storage would stay for ever.
_OPEN: "weakref.WeakSet[FileSystemSessionStorage]" = weakref.WeakSet()


def _begin_in_child() -> None:
    """Reset all storages in a forked child: it has no threads, and locks may be held by threads of the parent."""
    for storage in list(_OPEN):
        storage.begin_in_child()


os.register_at_fork(after_in_child=_begin_in_child)
