"""The storages there are: sessions in memory, and sessions in files with views that are written in the background."""

import os
import threading
import time
import warnings
import weakref
from collections.abc import Callable, Iterator, Sequence
from contextlib import suppress
from pathlib import Path
from typing import Any

from eventstore.backends.files.log import FileSystemEventLog
from eventstore.backends.memory import MemoryEventLog
from eventstore.derived.catalog import FOLDER
from eventstore.derived.file_views import Views
from eventstore.derived.snapshots import Snapshots
from eventstore.errors import EventStoreError, LogDamaged, SessionNotFound
from eventstore.events import Event, InvocationLinked
from eventstore.ids import TRASH, Fsync, check_session_id, file_name, id_of
from eventstore.log.base import Repair
from eventstore.store.as_of import At
from eventstore.store.lineages import Lineages
from eventstore.store.pages import tell_damage
from eventstore.store.storage import SessionStorage
from eventstore.store.tool_history import ToolHistory
from projections import statistics as statistics_fold
from projections.models import SessionMetadata

_VIEW_DELAY_SECONDS, _MOST_VIEW_DELAY_SECONDS = 0.1, 10.0
_VIEW_SHARE = 4  # views wait so many times as long as they took to write: appends keep four fifths of the time


class MemorySessionStorage(SessionStorage):
    """Sessions that live as long as the object; tool calls get folders below `history_dir` where one is given."""

    def __init__(self, history_dir: Path | str | None = None) -> None:
        super().__init__(MemoryEventLog())
        self.history = None if history_dir is None else ToolHistory(history_dir)


class FileSystemSessionStorage(SessionStorage):
    """Sessions in folders below `sessions_dir`, with views for people and links into `history_dir`.

    `fsync` is the durability of an append: `always`, `everysec` or `no`. Views are written 100 ms
    late; where writing them takes long, as with 100,000 tool calls, four times as late as it takes, at most 10 s.
    """

    def __init__(self, sessions_dir: Path | str, history_dir: Path | str, *, fsync: Fsync = "always") -> None:
        super().__init__(FileSystemEventLog(sessions_dir, fsync=fsync))
        self._list_with(Path(sessions_dir, FOLDER))
        self.lineages = Lineages(self.log, Path(sessions_dir))
        self.sessions_dir, self.history_dir = Path(sessions_dir), Path(history_dir)
        self.history = ToolHistory(history_dir)
        self.views = Views(self.log, Path(sessions_dir), Path(history_dir))
        self.snapshots = Snapshots(self.log, Path(sessions_dir))
        self._summaries.from_snapshot = self.snapshots.open
        self._begin()
        _OPEN.add(self)

    def _begin(self) -> None:
        self._stale: set[str] = set()
        self._due = threading.Condition()
        self._writer: threading.Thread | None = None
        self._view_delay = 0.0
        self._flushing = threading.RLock()

    def begin_in_child(self) -> None:
        """Let go of the threads and locks of the process that this one was forked from."""
        self._begin()
        self.lineages.begin_in_child()
        for one in self.caches():
            one.begin_in_child()

    def metadata(self, session_id: str) -> SessionMetadata:
        """Return what is known of one session: from its view or snapshot where that stands for the log as it is, else folded."""
        known = self.views.metadata(check_session_id(session_id))
        if known is None and not self._summaries.has(session_id):
            shown = self.snapshots.shown(session_id)
            known = None if shown is None else shown.to_model(session_id)
        return known or super().metadata(session_id)

    def statistics(self, session_id: str, at: At | None = None, *, recorded: bool = False) -> dict[str, Any]:
        """Give a session's figures, from its snapshot where there is one; what is in front of that is not verified then."""
        if at is None and not self._summaries.has(check_session_id(session_id)):
            shown = self.snapshots.shown(session_id)
            if shown is not None:
                return statistics_fold.show(shown.to_model(session_id), shown.messages)
        return super().statistics(session_id, at, recorded=recorded)

    def _changed(self, session_id: str, events: Sequence[Event]) -> None:
        for event in events:
            if isinstance(event, InvocationLinked) and event.invocation_dir:
                with suppress(OSError):  # the views are told of as soon as they are written, and the event is safe
                    self.views.link(session_id, f"invocations/{file_name(event.invocation_id)}", event.invocation_dir)
        if session_id in self._stale:
            return  # whoever takes it out reads the log after that
        with self._due:
            self._stale.add(session_id)
            if self._writer is None:
                self._writer = threading.Thread(
                    target=_write_views, args=(weakref.ref(self), self._view_delay), daemon=True
                )
                self._writer.start()

    def repair_session(self, session_id: str, *, dry_run: bool = True) -> Repair | None:
        """Plan how to set a damaged log right, or do it, views too; None where nothing is wrong. Raises SessionNotFound."""
        plan = super().repair_session(session_id, dry_run=dry_run)
        if plan is not None and not dry_run:
            self.views.remove(session_id)
            self.snapshots.remove(session_id)
            self._write_views(session_id)
        return plan

    def redo_views(self) -> int:
        """Write the views that do not stand for their logs as they are, say after a crash; return how many sessions had such."""
        stale = [session_id for session_id in self.log.ids() if self.views.metadata(session_id) is None]
        with self._due:
            self._stale.update(stale)
        self.flush_views()
        return len(stale)

    def check_views(self, session_id: str) -> Iterator[str]:
        """Compare views with what the log gives, where they stand for the log as it is; yield what differs."""
        fold = self._summaries.get_verified(check_session_id(session_id))
        yield from self.views.check(session_id, fold.state, fold.head)
        yield from self.snapshots.check(session_id, fold)

    def flush_views(self, session_id: str | None = None) -> None:
        """Write the views of one session, or of all that changed, at once, and the snapshots that are worth it."""
        self._flush_late(session_id)
        for one in self.snapshots.behind(session_id):
            with suppress(EventStoreError, OSError):
                self._write_snapshot(one, soon=True)

    def _flush_late(self, session_id: str | None = None) -> None:
        with self._flushing:
            with self._due:
                due = set(self._stale) if session_id is None else self._stale & {session_id}
                self._stale -= due
            for one in due:
                self._write_or_tell(one)

    def _write_or_tell(self, session_id: str) -> None:
        """Write views; where that fails the log is whole all the same, and the views are known to be stale."""
        try:
            self._write_views(session_id)
        except (SessionNotFound, LogDamaged):
            return
        except OSError as error:
            warnings.warn(
                f"views of session {session_id!r} could not be written ({error}); its log is whole: rebuild them later",
                RuntimeWarning,
                stacklevel=3,
            )

    def _write_views(self, session_id: str) -> None:
        fold = self._summaries.get_sized(session_id)
        self.views.write(session_id, fold.state, fold.head)
        self._write_snapshot(session_id)

    def _write_snapshot(self, session_id: str, *, soon: bool = False) -> None:
        mark = self.snapshots.mark(session_id)
        self.snapshots.write(session_id, self._summaries.get_sized(session_id), mark, soon=soon)

    def rebuild(self, on_damage: Callable[[LogDamaged], None] = tell_damage) -> Iterator[str]:
        """Settle the store, delete all views, rebuild them from the logs, and yield each session's id when it is done.

        The views of a damaged session stay as they are; `on_damage` is called for it.
        """
        self.settle()
        self.clear_caches()
        for session_id in sorted(self.log.ids()):
            try:
                self.rebuild_session(session_id)
            except SessionNotFound:
                continue  # deleted or moved meanwhile
            except LogDamaged as damage:
                on_damage(damage)
            else:
                yield session_id

    def rebuild_session(self, session_id: str) -> None:
        """Delete the views of one session and make them anew. Raises SessionNotFound, and LogDamaged: then they stay."""
        self._summaries.get_verified(check_session_id(session_id))
        self.views.remove(session_id)
        self.snapshots.remove(session_id)
        self._write_views(session_id)
        self._write_snapshot(session_id, soon=True)

    def _forget(self, session_id: str) -> None:
        self.snapshots.forget(session_id)
        super()._forget(session_id)

    def forget_trashed_views(self, name: str) -> None:
        """Remove what was made of a session that is in the trash; it is made anew when it comes back."""
        Views(self.log, self.sessions_dir / TRASH, self.history_dir).remove(name)
        self.snapshots.remove(id_of(name), trashed=name)

    def redone(self, session_id: str) -> None:
        """Make anew all that is kept of a session besides its log, after something in it was redacted."""
        super().redone(session_id)
        self.views.remove(session_id)
        self.snapshots.remove(session_id)
        self._write_or_tell(session_id)

    def delete_session(self, session_id: str, reason: str | None = None, *, history: bool = False) -> bool:
        """Delete a session for good, views and all, as `SessionStorage.delete_session` does; False where there was none."""
        with self._due:
            self._stale.discard(session_id)
        return super().delete_session(session_id, reason, history=history)


def _write_views(storage: "weakref.ref[FileSystemSessionStorage]", delay: float) -> None:
    """Write views a moment after the append that made them stale; end when nothing is left to write."""
    pause = threading.Event()
    while True:
        pause.wait(max(delay, _VIEW_DELAY_SECONDS))
        kept = storage()
        if kept is None:
            return
        began = time.perf_counter()
        with suppress(Exception):  # a view that cannot be written is seen to be stale and folded instead
            kept._flush_late()
        delay = kept._view_delay = min(_VIEW_SHARE * (time.perf_counter() - began), _MOST_VIEW_DELAY_SECONDS)
        with kept._due:
            if not kept._stale:
                kept._writer = None
                return
        del kept


# One hook for all storages: the interpreter cannot take a hook back, so one a storage would stay for ever.
_OPEN: "weakref.WeakSet[FileSystemSessionStorage]" = weakref.WeakSet()


def _begin_in_child() -> None:
    """Let no storage in a forked child wait for threads and locks of its parent."""
    for storage in list(_OPEN):
        storage.begin_in_child()


os.register_at_fork(after_in_child=_begin_in_child)
