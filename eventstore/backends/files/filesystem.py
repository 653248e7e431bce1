"""Logs in folders: `<root>/<session id>/events.jsonl`, one file a session."""

import errno
import os
import resource
import threading
import weakref
from collections import OrderedDict
from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import suppress
from functools import partial
from itertools import chain
from pathlib import Path
from typing import Any

from msgspec.structs import replace

from eventstore.backends.files.atomic_folder import Stage, open_stage
from eventstore.backends.files.attachments import keep_note, remove_notes, remove_unfinished, scrub_quarantine
from eventstore.backends.files.change_feed import ChangeFeed
from eventstore.backends.files.descriptor import sync_folders
from eventstore.backends.files.file import LOG, LogFile
from eventstore.backends.files.lines import blocks, read_lines
from eventstore.backends.files.reading import FolderReader
from eventstore.backends.files.trash import remove_folder
from eventstore.backends.files.writing import (
    append_batch,
    append_batches,
    append_group,
    append_repair,
    check_version,
    cut_tail,
    finish_redactions,
    give,
    locked,
    ready,
    refused,
    restorable,
    seal_and_write,
)
from eventstore.errors import (
    EventStoreError,
    InvalidSessionId,
    NotARegularFile,
    RedactionRefused,
    SessionExists,
    SessionNotFound,
    VersionConflict,
)
from eventstore.events import Event, SessionCreated
from eventstore.ids import STORE_ID, Fsync, check_log_id, check_session_id, id_of, is_beside
from eventstore.log.base import Append, Appended, Changes, Head, Repair, Written, types_of
from eventstore.log.batch import Batch, prepare, prepare_many, tell_redaction, untold_redactions
from eventstore.log.ingest import Whole, verify_whole
from eventstore.record import codec
from eventstore.record.salvage import Remnant
from eventstore.record.scan import Scan

_CLOSED_PER_OPEN = 16


class FileSystemEventLog(FolderReader):
    """One folder a session below `root`, which is made when the first session is.

    `fsync` says when an append is on stable storage: `always` (before it returns), `everysec` (within a second) or `no` (when
    the operating system likes). At most `open_files` descriptors are kept open, by default a quarter of what the process may
    have and no more than 4096. Safe for threads, processes and fork.
    """

    def __init__(
        self,
        root: Path | str,
        *,
        fsync: Fsync = "always",
        max_event_bytes: int = codec.MAX_EVENT_BYTES,
        open_files: int | None = None,
    ) -> None:
        super().__init__(Path(os.path.abspath(root)), max_event_bytes)
        self.fsync: Fsync = fsync
        self._open_files = open_files or _usual_open_files()
        self._feed = ChangeFeed(self.root)
        self._forget()
        _drop_in_child(self)

    def _forget(self) -> None:
        """Begin with nothing open."""
        self._files: OrderedDict[str, LogFile] = OrderedDict()
        self._closed: OrderedDict[str, LogFile] = OrderedDict()
        self._mutex = threading.Lock()
        self._flusher: _Flusher | None = None

    def _begin_in_child(self) -> None:
        """Let go of all that a parent had open at a fork: its descriptors hold its locks."""
        for file in self._files.values():
            if file.descriptor >= 0:
                with suppress(OSError):
                    os.close(file.descriptor)
        self._feed.begin_in_child()
        self._forget()

    # --- appending

    def append(self, session_id: str, events: Sequence[Event], *, expected_version: int | None = None) -> Appended:
        batch = prepare(events, self._max_event_bytes)
        file = self._file(session_id)
        if self.fsync == "always":
            return file.group.do((batch, expected_version), partial(self._commit, file))
        result = append_batch(file, batch, expected_version)
        if self.fsync == "everysec":
            self._flush_soon()
        return result

    def _commit(self, file: LogFile, pieces: Sequence[tuple[Batch, int | None]]) -> list[Appended | BaseException]:
        """Append what several callers want of one session, and flush once."""
        if len(pieces) == 1:
            result = append_batch(file, *pieces[0])
            file.flush(file.written)
            return [result]
        written = Written([None] * len(pieces))
        self._write_group(file, [(place, *piece) for place, piece in enumerate(pieces)], written, wait=True)
        written.flush()
        return [outcome for outcome in written.outcomes if outcome is not None]

    def extend(self, session_id: str, batches: Sequence[Sequence[Event]], *, expected_version: int) -> Appended:
        prepared = prepare_many(batches, self._max_event_bytes)
        file = self._file(session_id)
        try:
            with locked(file, create=expected_version == 0):
                result = append_batches(file, prepared, expected_version)
                end = file.scan.here.offset
        except OSError as error:
            raise refused(file, error) from error
        self._flush_by_level(file, end)
        return result

    def fork(self, session_id: str, parent: str, version: int, event: SessionCreated) -> Appended:
        check_log_id(session_id)
        point, at = self._fork_point(session_id, parent, version)
        begun: list[Event] = [replace(event, forked_from=point.to_dict()), *self._untold_before(point.parent, version)]
        batch = prepare(begun, self._max_event_bytes)
        file = self._file(session_id)
        try:
            with locked(file, create=True):
                if file.verify(file.descriptor).here.seq or file.scan.fault:
                    since = types_of(read_lines(file.descriptor, 0, 20, file.scan.here.offset))
                    raise VersionConflict(session_id, 0, file.scan.here.seq, since)
                try:
                    file.begin_as_fork(point, at)
                    seal_and_write(file, file.scan, [batch])
                except BaseException:
                    file.scan = file.fresh()
                    raise
                end = file.scan.here.offset
        except OSError as error:
            raise refused(file, error) from error
        self._flush_by_level(file, end)
        return Appended(version + 1, version + len(begun))

    def make_whole(self, session_id: str) -> None:
        check_log_id(session_id)
        file = self._file(session_id)
        with locked(file, create=False):
            scan = ready(file)
            fork = file.fork
            if fork is None:
                return
            if scan.fault is not None:
                cut_tail(file, scan)
            lines = chain.from_iterable(map(codec.lines, self._inherited(file, fork, 0, fork.seq)))
            untold = untold_redactions(lines, scan.redactions)
            if untold:
                seal_and_write(file, scan, [prepare(untold, codec.MAX_EVENT_BYTES)])
            end = os.fstat(file.descriptor).st_size
            inherited = self._inherited(file, fork, 0, fork.seq)
            file.replace_by(chain(inherited, blocks(file.descriptor, 0, end)))

    def adopt(
        self,
        session_id: str,
        chunks: Iterable[bytes],
        beside: Iterable[tuple[str, Iterable[bytes]]] = (),
        *,
        root: str | None = None,
    ) -> Head:
        if check_log_id(session_id) == STORE_ID:
            raise InvalidSessionId(session_id, "it is that of the store's own log")
        file = self._file(session_id)
        with open_stage(self.root) as stage:
            whole = self._make_aside(stage, file, chunks, beside, root)
            self._check_past(file, whole)
            self._feed.before(session_id)
            try:
                stage.put(session_id)
            except OSError as error:
                if error.errno not in (errno.EEXIST, errno.ENOTEMPTY, errno.ENOTDIR):
                    raise
                raise SessionExists(session_id) from None
            finally:
                self._feed.after(session_id)
        if whole.redactions:
            with locked(file, create=False):
                ready(file)
        return whole.head

    def _make_aside(
        self,
        stage: Stage,
        file: LogFile,
        chunks: Iterable[bytes],
        beside: Iterable[tuple[str, Iterable[bytes]]],
        root: str | None,
    ) -> Whole:
        """Write a whole log, and what goes beside it, into a folder that is not in its place yet, and verify it on the way."""
        stage.begin()
        with stage.open(LOG) as write:
            passing = _passing(chunks, write)
            limit = self._max_event_bytes
            whole = verify_whole(file.session_id, passing, root=root, max_event_bytes=limit, file=file.text)
        for name, parts in beside:
            if not is_beside(name):
                raise ValueError(f"{name[:80]!a} is no name of a file beside a log")
            with stage.open(name) as write:
                for part in parts:
                    write(part)
        return whole

    def append_many(self, appends: Sequence[Append], *, wait: bool = True) -> Written:
        by_session: dict[str, list[int]] = {}
        for place, one in enumerate(appends):
            by_session.setdefault(one.session_id, []).append(place)
        written = Written([None] * len(appends))
        for session_id, places in by_session.items():
            self._append_group(session_id, [(place, appends[place]) for place in places], written, wait)
        return written

    def _append_group(self, session_id: str, group: list[tuple[int, Append]], written: Written, wait: bool) -> None:
        """Append what several callers want of one session, with its lock taken once."""
        prepared: list[tuple[int, Batch, int | None]] = []
        for place, one in group:
            try:
                prepared.append((place, prepare(one.events, self._max_event_bytes), one.expected_version))
            except (EventStoreError, ValueError) as error:
                written.outcomes[place] = error
        if prepared:
            try:
                file = self._file(session_id)
            except InvalidSessionId as error:
                give(written, prepared, error)
            else:
                self._write_group(file, prepared, written, wait=wait)

    def _write_group(
        self, file: LogFile, prepared: Sequence[tuple[int, Batch, int | None]], written: Written, *, wait: bool
    ) -> None:
        """Append batches of several callers, each at its place in `written`, with the lock taken once."""
        try:
            with locked(file, create=any(one[2] == 0 for one in prepared), wait=wait):
                append_group(file, prepared, written)
                end = file.scan.here.offset
        except BlockingIOError:
            return
        except OSError as error:
            give(written, prepared, refused(file, error))
            return
        except EventStoreError as error:
            give(written, prepared, error)
            return
        if self.fsync == "always":
            written.unflushed.append(([one[0] for one in prepared], lambda: file.flush(end)))
        elif self.fsync == "everysec":
            self._flush_soon()

    def _flush_by_level(self, file: LogFile, end: int) -> None:
        if self.fsync == "always":
            file.flush(end)
        elif self.fsync == "everysec":
            self._flush_soon()

    def _file(self, session_id: str) -> LogFile:
        """Find or make the file object of a session. Raises InvalidSessionId."""
        try:
            file = self._files[session_id]
            self._files.move_to_end(session_id)
        except KeyError:
            pass
        else:
            return file
        check_log_id(session_id)
        with self._mutex:
            known = self._files.get(session_id)
            if known is not None:
                return known
            file = self._files[session_id] = self._reopened(session_id)
            if len(self._files) > self._open_files:
                self._evict()
            return file

    def _reopened(self, session_id: str) -> LogFile:
        """Take up a file that was closed, with what was known of it, or begin anew."""
        if session_id in self._closed:
            return self._closed.pop(session_id)
        return LogFile(self.root, session_id, self._max_event_bytes, durable=self.fsync != "no", feed=self._feed)

    def _evict(self) -> None:
        """Close the files used longest ago, an eighth of them at a time; where their logs were verified to stays known."""
        for session_id, file in list(self._files.items())[: self._open_files // 8 + 1]:
            if file.writing.acquire(blocking=False):
                try:
                    if file.poison is None:
                        self._settle(file)
                        file.close()
                        self._closed[session_id] = self._files.pop(session_id)
                finally:
                    file.writing.release()
        while len(self._closed) > _CLOSED_PER_OPEN * self._open_files:
            self._closed.popitem(last=False)

    def _settle(self, file: LogFile) -> None:
        """Flush a file that is about to be closed, where its durability asks for it."""
        if self.fsync != "no":
            file.flush(file.written)

    def changed(self, since: str | None) -> Changes:
        return self._feed.changed(since)

    # --- ending

    def remove(self, session_id: str, *, expected_version: int | None = None) -> bool:
        check_log_id(session_id)
        file = self._file(session_id)
        try:
            with locked(file, create=False):
                if expected_version is not None:
                    check_version(file, file.verify(file.descriptor), expected_version)
                with file.open_folder(create=False) as folder:
                    remove_notes(folder)
                    os.unlink(LOG, dir_fd=folder)
                file.disown()
                remove_folder(file.path.parent)
                file.close()
        except SessionNotFound:
            return False
        except NotARegularFile:  # nobody can write to it: it goes as it is, and what it leads to stays
            folder_or_link = file.path.parent
            if folder_or_link.is_dir() and not folder_or_link.is_symlink():
                remove_folder(folder_or_link)
            else:
                folder_or_link.unlink(missing_ok=True)
        finally:
            self._feed.gone(session_id)
            with self._mutex:
                self._files.pop(session_id, None)
                self._closed.pop(session_id, None)
        sync_folders(self.root)
        return True

    def trash(self, session_id: str, *, expected_version: int | None = None) -> str:
        check_session_id(session_id)
        file = self._file(session_id)
        with locked(file, create=False):
            if expected_version is not None:
                check_version(file, file.verify(file.descriptor), expected_version)
            name = self._trash.take(session_id)
            self._feed.gone(session_id)
            file.close()
        with self._mutex:
            self._files.pop(session_id, None)
            self._closed.pop(session_id, None)
        return name

    def restore(self, name: str) -> str:
        session_id = id_of(name)
        self._feed.before(session_id)
        try:
            return self._trash.restore(name)
        finally:
            self._feed.after(session_id)

    def purge(self, name: str) -> bool:
        return self._trash.purge(name)

    # --- what is kept beside, what is redacted, and after damage

    def keep_note(self, session_id: str, name: str, note: bytes) -> None:
        file = self._file(session_id)
        try:
            with file.open_folder(create=False) as folder:
                keep_note(folder, name, note)
        except OSError as error:
            raise refused(file, error) from error

    def scrub(self, session_id: str, removed: Sequence[bytes], *, trashed: str | None = None) -> list[str]:
        file = self._file(session_id) if trashed is None else self._trash.file(trashed)
        try:
            with locked(file, create=False):
                cut_tail(file, ready(file))  # a torn tail is text too: it goes to quarantine first
                with file.open_folder(create=False) as folder:
                    remove_unfinished(folder, LOG)
                    return scrub_quarantine(folder, removed)
        except OSError as error:
            raise refused(file, error) from error
        finally:
            if trashed is not None:
                file.close()

    def redact(
        self,
        session_id: str,
        seqs: Sequence[int],
        reason: str,
        by: dict[str, Any] | None = None,
        *,
        trashed: str | None = None,
    ) -> Appended:
        file = self._file(session_id) if trashed is None else self._trash.file(trashed)
        try:
            with locked(file, create=False):
                return self._redact_locked(file, sorted(set(seqs)), reason, by)
        except OSError as error:
            raise refused(file, error) from error
        finally:
            if trashed is not None:
                file.close()

    def _redact_locked(self, file: LogFile, seqs: Sequence[int], reason: str, by: dict[str, Any] | None) -> Appended:
        scan = ready(file)
        check_version(file, scan, None)
        inherited = file.fork.seq if file.fork else 0
        told = []
        for seq in seqs:
            if not 1 <= seq <= scan.here.seq:
                raise RedactionRefused(file.session_id, seq, f"the session has {scan.here.seq} events")
            own = read_lines(file.descriptor, seq - 1, 1, scan.here.offset)
            line = b"".join(own if seq > inherited else self.chunks(file.session_id, seq - 1, seq))
            told.append(tell_redaction(file.session_id, seq, line[:-1], reason, by, inherited=seq <= inherited))
        batch = prepare(told, self._max_event_bytes)
        first = cut_tail(file, scan)
        seal_and_write(file, scan, [batch])
        file.flush(file.written)
        finish_redactions(file, scan)
        return Appended(first, scan.here.seq)

    def repair(self, session_id: str, *, dry_run: bool = True) -> Repair | None:
        check_log_id(session_id)
        file = self._file(session_id)
        with locked(file, create=False):
            scan = file.verify(file.descriptor)
            if scan.fault is None:
                return None
            found = list(self._behind(file, scan)) if not scan.fault.torn else []
            restored = restorable(found)
            plan = Repair(
                session_id,
                scan.fault.line,
                scan.here.offset,
                scan.fault.reason,
                os.fstat(file.descriptor).st_size - scan.here.offset,
                len(restored),
                len(found) - len(restored),
                scan.here.seq,
            )
            if not dry_run:
                append_repair(file, scan, restored)
        if not dry_run:
            file.flush(file.written)
        return plan

    def _behind(self, file: LogFile, scan: Scan) -> Iterator[Remnant]:
        found = self._salvage(file, os.dup(file.descriptor))
        return (remnant for remnant in found if remnant.offset_bytes >= scan.here.offset)

    def flush(self) -> None:
        with self._mutex:
            files = list(self._files.values())
        for file in files:
            file.flush(file.written)

    def close(self) -> None:
        if self._flusher is not None:
            self._flusher.stop()
            self._flusher = None
        with self._mutex:
            files = list(self._files.values())
            self._files.clear()
        for file in files:
            with file.writing:
                try:
                    if file.poison is None:
                        file.flush(file.written)
                finally:
                    file.close()
        self._feed.close()

    def _flush_soon(self) -> None:
        with self._mutex:
            if self._flusher is None:
                self._flusher = _Flusher(self)


def _passing(chunks: Iterable[bytes], write: Callable[[bytes], None]) -> Iterator[bytes]:
    """Write chunks on their way."""
    for chunk in chunks:
        write(chunk)
        yield chunk


def _usual_open_files() -> int:
    soft, _ = resource.getrlimit(resource.RLIMIT_NOFILE)
    return 4096 if soft == resource.RLIM_INFINITY else max(min(soft // 4, 4096), 16)


def _drop_in_child(log: FileSystemEventLog) -> None:
    """Let a forked child open everything anew: descriptors and locks of its parent are not its own."""
    kept = weakref.ref(log)

    def forget() -> None:
        found = kept()
        if found is not None:
            found._begin_in_child()

    os.register_at_fork(after_in_child=forget)


class _Flusher:
    """A thread that flushes a log once a second, until it is stopped or the log is gone."""

    def __init__(self, log: FileSystemEventLog) -> None:
        self._log = weakref.ref(log)
        self._stopped = threading.Event()
        self._thread = threading.Thread(target=self._run, name="eventstore-flush", daemon=True)
        self._thread.start()

    def stop(self) -> None:
        self._stopped.set()
        self._thread.join()

    def _run(self) -> None:
        while not self._stopped.wait(1.0):
            log = self._log()
            if log is None:
                return
            with suppress(EventStoreError):  # the file is poisoned: its next append raises
                log.flush()
            del log
