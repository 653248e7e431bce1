"""Logs in folders: `<root>/<session id>/events.jsonl`, one file a session."""

import errno
import os
import resource
import threading
import weakref
from collections import OrderedDict
from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import contextmanager, suppress
from functools import partial
from itertools import chain
from pathlib import Path
from typing import Any

from msgspec.structs import replace

from eventstore import codec
from eventstore.errors import (
    AppendRefused,
    EventStoreError,
    IdReused,
    InvalidSessionId,
    LogDamaged,
    LogRolledBack,
    RedactionRefused,
    SessionExists,
    SessionNotFound,
    VersionConflict,
)
from eventstore.events import Event, EventRedacted, SessionCreated, UnknownEvent
from eventstore.log.adoption import Whole, verify_whole
from eventstore.log.base import BEGINNING, Append, Appended, EventLog, Head, Raw, Repair, Written, types_of
from eventstore.log.batch import (
    Batch,
    find_repeat,
    prepare,
    prepare_many,
    refuse_known,
    seal,
    tell_redaction,
    told_before,
    untold_redactions,
)
from eventstore.log.beside import (
    keep_note,
    list_beside,
    list_quarantine,
    open_beside,
    read_notes,
    remove_notes,
    scrub_quarantine,
)
from eventstore.log.descriptor import is_being_written, sync_folders
from eventstore.log.file import LOG, LogFile
from eventstore.log.lines import CHUNK, blocks, first_lines, last_line, numbered_lines, read_lines
from eventstore.log.salvage import Remnant, salvage
from eventstore.log.scan import Position, Scan
from eventstore.log.watch import FolderWatch, Watch
from eventstore.names import STORE_ID, Fsync, check_log_id, check_session_id, free_name, id_of, is_beside
from eventstore.staging import Stage, open_stage

TRASH = "_trash"
_TELLING = b'{"type":"event.redacted",'
_REPAIR_BATCH = 200
_CLOSED_PER_OPEN = 16
_POLL_ONE_SECONDS, _POLL_ALL_SECONDS = 0.005, 0.25


class FileSystemEventLog(EventLog):
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
        self.root = Path(os.path.abspath(root))
        self.fsync: Fsync = fsync
        self._max_event_bytes, self._open_files = max_event_bytes, open_files or _usual_open_files()
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
        self._forget()

    # --- appending

    def append(self, session_id: str, events: Sequence[Event], *, expected_version: int | None = None) -> Appended:
        batch = prepare(events, self._max_event_bytes)
        file = self._file(session_id)
        if self.fsync == "always":
            return file.group.do((batch, expected_version), partial(self._commit, file))
        result = _append(file, batch, expected_version)
        if self.fsync == "everysec":
            self._flush_soon()
        return result

    def _commit(self, file: LogFile, pieces: Sequence[tuple[Batch, int | None]]) -> list[Appended | BaseException]:
        """Append what several callers want of one session, and flush once."""
        if len(pieces) == 1:
            result = _append(file, *pieces[0])
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
            with self._writing(file, create=expected_version == 0):
                result = _extend_locked(file, prepared, expected_version)
                end = file.scan.here.offset
        except OSError as error:
            raise _refused(file, error) from error
        self._flush_by_level(file, end)
        return result

    def fork(self, session_id: str, parent: str, version: int, event: SessionCreated) -> Appended:
        check_log_id(session_id)
        point, at = self._fork_point(session_id, parent, version)
        begun: list[Event] = [replace(event, forked_from=point.to_dict()), *self._untold_before(point.parent, version)]
        batch = prepare(begun, self._max_event_bytes)
        file = self._file(session_id)
        try:
            with self._writing(file, create=True):
                if file.verify(file.descriptor).here.seq or file.scan.fault:
                    since = types_of(read_lines(file.descriptor, 0, 20, file.scan.here.offset))
                    raise VersionConflict(session_id, 0, file.scan.here.seq, since)
                try:
                    file.begin_as_fork(point, at)
                    _seal_and_write(file, file.scan, [batch])
                except BaseException:
                    file.scan = file.fresh()
                    raise
                end = file.scan.here.offset
        except OSError as error:
            raise _refused(file, error) from error
        self._flush_by_level(file, end)
        return Appended(version + 1, version + len(begun))

    def _untold_before(self, log_id: str, version: int) -> list[EventRedacted]:
        """Make the events that a fork tells of redactions with, of which its past holds the result and not the telling."""
        stubs: dict[int, codec.Stub] = {}
        told: set[int] = set()
        while True:
            file = self._file(log_id)
            with file.open_to_read() as descriptor:
                scan, fork = file.verify(descriptor), file.fork
                stubs |= {seq: stub for seq, (stub, _) in scan.stubs.items() if seq <= version}
                told |= {seq for seq, at in scan.told_at.items() if at <= version}
            if fork is None:
                return [told_before(stubs[seq]) for seq in sorted(stubs.keys() - told)]
            log_id, version = fork.parent, min(version, fork.seq)

    def _fork_point(self, session_id: str, parent: str, version: int) -> tuple[codec.ForkPoint, str]:
        """Find the log that has the event a fork goes on from, its digest there, and when it was recorded."""
        there, root = self.point_at(parent, version), self._file(parent).root
        while (older := self._fork_of(parent)) is not None and older.seq >= version:
            parent = older.parent
        return codec.ForkPoint(parent, version, bytes.fromhex(there.hash), root, session_id), there.at

    def _fork_of(self, session_id: str) -> codec.ForkPoint | None:
        """Tell where a log goes on from another; None where it is whole. Raises SessionNotFound."""
        file = self._file(session_id)
        with file.open_aside() as descriptor:
            return file.beginning(descriptor, os.fstat(descriptor).st_size)[0]

    def inherited(self, session_id: str) -> int:
        check_log_id(session_id)
        fork = self._fork_of(session_id)
        return fork.seq if fork else 0

    def root_of(self, session_id: str) -> str:
        file = self._file(session_id)
        with file.open_aside() as descriptor:
            return file.beginning(descriptor, os.fstat(descriptor).st_size)[1]

    def make_whole(self, session_id: str) -> None:
        check_log_id(session_id)
        file = self._file(session_id)
        with self._writing(file, create=False):
            scan = _ready(file)
            fork = file.fork
            if fork is None:
                return
            if scan.fault is not None:
                _cut_tail(file, scan)
            lines = chain.from_iterable(map(codec.lines, self._inherited(file, fork, 0, fork.seq)))
            untold = untold_redactions(lines, scan.redactions)
            if untold:
                _seal_and_write(file, scan, [prepare(untold, codec.MAX_EVENT_BYTES)])
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
            try:
                stage.put(session_id)
            except OSError as error:
                if error.errno not in (errno.EEXIST, errno.ENOTEMPTY, errno.ENOTDIR):
                    raise
                raise SessionExists(session_id) from None
        if whole.redactions:
            with self._writing(file, create=False):
                _ready(file)
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

    def _check_past(self, file: LogFile, whole: Whole) -> None:
        """Raise LogDamaged where a fork goes on from what is not here."""
        fork = whole.fork
        if fork is not None:
            list(self._inherited(file, fork, fork.seq - 1, fork.seq))
            if self.root_of(fork.parent) != fork.root:
                raise _without_past(file, fork)

    def beside(self, session_id: str) -> list[str]:
        check_log_id(session_id)
        with self._file(session_id).open_folder(create=False) as folder:
            return list_beside(folder)

    def read_beside(self, session_id: str, name: str) -> Iterator[bytes]:
        check_log_id(session_id)
        with self._file(session_id).open_folder(create=False) as folder:
            descriptor = open_beside(folder, name)
        with os.fdopen(descriptor, "rb", buffering=0) as stream:
            while data := stream.read(CHUNK):
                yield data

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
                _give(written, prepared, error)
            else:
                self._write_group(file, prepared, written, wait=wait)

    def _write_group(
        self, file: LogFile, prepared: Sequence[tuple[int, Batch, int | None]], written: Written, *, wait: bool
    ) -> None:
        """Append batches of several callers, each at its place in `written`, with the lock taken once."""
        try:
            with self._writing(file, create=any(one[2] == 0 for one in prepared), wait=wait):
                _append_group_locked(file, prepared, written)
                end = file.scan.here.offset
        except BlockingIOError:
            return
        except OSError as error:
            _give(written, prepared, _refused(file, error))
            return
        except EventStoreError as error:
            _give(written, prepared, error)
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

    @contextmanager
    def _writing(self, file: LogFile, *, create: bool, wait: bool = True) -> Iterator[None]:
        """Hold the mutex and the lock of a log that is surely the file at its path.

        Raises BlockingIOError where it must not wait and would have to.
        """
        if not file.writing.acquire(blocking=wait):
            raise BlockingIOError(errno.EAGAIN, "somebody is appending", file.text)
        try:
            file.lock(create=create, wait=wait)
            try:
                with file.scanning:
                    yield
            finally:
                file.unlock()
        finally:
            file.writing.release()

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
        return LogFile(self.root, session_id, self._max_event_bytes, durable=self.fsync != "no")

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

    # --- reading: no lock, no change

    def chunks(self, session_id: str, after: int = 0, upto: int | None = None) -> Iterator[bytes]:
        check_log_id(session_id)
        file = self._file(session_id)
        after = max(after, 0)
        with file.open_to_read() as descriptor:
            scan = file.verify(descriptor)
            _need_events(scan, file)
            here, damage, fork = scan.here, file.damage(scan), file.fork
            inherited = fork.seq if fork else 0
            kept = os.dup(descriptor) if upto is None or upto > inherited else -1
        if upto is not None and upto <= here.seq:
            damage = None
        own = _stream(kept, max(after, inherited), upto, here.offset, damage) if kept >= 0 else iter(())
        if fork is None or after >= inherited:
            return own
        try:
            return chain(self._inherited(file, fork, after, inherited if upto is None else min(upto, inherited)), own)
        except LogDamaged:
            if kept >= 0:
                os.close(kept)
            if self._fork_of(session_id) == fork:
                raise
            return self.chunks(session_id, after, upto)  # made whole since it was opened, because its parent was to go

    def _inherited(self, file: LogFile, fork: codec.ForkPoint, after: int, upto: int) -> Iterator[bytes]:
        """Stream what a fork has of its parent, which must still be what it went on from."""
        parts = None
        with suppress(SessionNotFound):
            if self._has_own(fork):
                last = b"".join(self.chunks(fork.parent, fork.seq - 1, fork.seq))
                parts = codec.split(last)
        if parts is None or parts[1] != fork.digest:
            raise _without_past(file, fork)
        return self.chunks(fork.parent, after, upto)

    def _has_own(self, fork: codec.ForkPoint) -> bool:
        """Tell whether the event that a fork goes on from is its parent's own, or was inherited by way of other sessions only.

        A parent whose id was used again, for a session that goes on from its own fork, would lead in a circle.
        """
        seen = {fork.into}
        while fork.parent not in seen:
            seen.add(fork.parent)
            older = self._fork_of(fork.parent)
            if older is None or older.seq < fork.seq:
                return True
            fork = older
        return False

    def raw(self, session_id: str) -> Raw:
        file = LogFile(self.root, check_log_id(session_id), self._max_event_bytes, durable=False)
        with file.open_aside() as descriptor:
            fork, root, _ = file.beginning(descriptor, os.fstat(descriptor).st_size)
            kept = os.dup(descriptor)
        if fork is None:
            return Raw(root, 0, _raw(kept, iter(())))
        try:
            with suppress(SessionNotFound):
                if self._has_own(fork):
                    past = self.raw(fork.parent)
                    return Raw(root, fork.seq, _raw(kept, first_lines(past.chunks, fork.seq)))
            if self._fork_of(session_id) == fork:
                raise _without_past(file, fork)
        except BaseException:
            os.close(kept)
            raise
        os.close(kept)
        return self.raw(session_id)  # made whole since it was opened, because its parent was to go

    def resume(self, session_id: str, after: Head = BEGINNING) -> tuple[bytes, Head]:
        check_log_id(session_id)
        file = self._file(session_id)
        try:
            digest = bytes.fromhex(after.hash)
        except ValueError:
            raise LogRolledBack(session_id, after.version) from None
        with file.open_aside() as descriptor:
            size = os.fstat(descriptor).st_size
            offset = file.find(descriptor, after.version, digest, after.size_bytes) if after.version else None
            if offset is not None:
                place = Position(digest, offset, after.version, after.at)
            else:
                fork, _, place = file.beginning(descriptor, size)
                if not size:
                    raise SessionNotFound(session_id)
                if after.version < place.seq and fork is not None:
                    return self._resume_inherited(file, fork, after)
                if after.version and (after.version, digest) != (place.seq, place.digest):
                    raise LogRolledBack(session_id, after.version)
            data, here = file.read_on(descriptor, place)
        return data, Head(here.seq, here.at, here.digest.hex(), here.offset)

    def _resume_inherited(self, file: LogFile, fork: codec.ForkPoint, after: Head) -> tuple[bytes, Head]:
        """Read on in what a fork has of its parent, which must still be what it went on from, and no further."""
        data, here = b"", after
        with suppress(SessionNotFound):
            if self._has_own(fork):
                data, here = self.resume(fork.parent, after)
        if here.version > fork.seq:
            lines = data.split(b"\n")[: fork.seq - here.version - 1]
            behind = here.size_bytes - len(data)
            data = b"".join(line + b"\n" for line in lines)
            last = codec.decode(lines[-1])
            here = Head(last.seq, last.at, last.hash, behind + len(data))
        if not data or (here.version == fork.seq and bytes.fromhex(here.hash) != fork.digest):
            if self._fork_of(file.session_id) != fork:
                return self.resume(file.session_id, after)  # made whole meanwhile, because its parent was to go
            raise _without_past(file, fork)
        return data, here

    def own_beginning(self, session_id: str) -> Head:
        check_log_id(session_id)
        file = self._file(session_id)
        with file.open_aside() as descriptor:
            size = os.fstat(descriptor).st_size
            if not file.has_begun(descriptor, size):
                raise SessionNotFound(session_id)
            fork = file.beginning(descriptor, size)[0]
        return BEGINNING if fork is None else Head(fork.seq, "", fork.digest.hex(), 0)

    def size_bytes(self, session_id: str) -> int:
        check_log_id(session_id)
        try:
            return os.stat(f"{self.root}/{session_id}/{LOG}", follow_symlinks=False).st_size
        except OSError:
            return 0

    def watch(self, session_id: str | None = None) -> Watch:
        if session_id is not None:
            check_log_id(session_id)
        return FolderWatch(self.root, session_id, _POLL_ALL_SECONDS if session_id is None else _POLL_ONE_SECONDS)

    def head(self, session_id: str) -> Head:
        check_log_id(session_id)
        file = self._file(session_id)
        with file.open_to_read() as descriptor:
            scan = file.verify(descriptor)
            _need_events(scan, file)
            damage = file.damage(scan)
            if damage:
                raise damage
            here = scan.here
        return Head(here.seq, here.at, here.digest.hex(), here.offset)

    def peek(self, session_id: str) -> Head:
        check_log_id(session_id)
        with self._file(session_id).open_aside() as descriptor:
            found = last_line(descriptor, os.fstat(descriptor).st_size)
        parts = codec.split(found[0]) if found else None
        if found is None or parts is None:
            return self.head(session_id)
        last = codec.head(found[0])
        if last is None or (last.batch is not None and last.batch[0] + 1 < last.batch[1]):
            return self.head(session_id)
        return Head(last.seq, last.at, parts[1].hex(), found[1])

    def ids(self) -> Iterator[str]:
        try:
            entries = os.scandir(self.root)
        except FileNotFoundError:
            return
        with entries:
            for entry in entries:
                if _is_session(entry):
                    yield entry.name

    # --- ending

    def remove(self, session_id: str) -> bool:
        check_log_id(session_id)
        file = self._file(session_id)
        try:
            with self._writing(file, create=False):
                with file.open_folder(create=False) as folder:
                    remove_notes(folder)
                    os.unlink(LOG, dir_fd=folder)
                file.disown()
                _remove_folder(file.path.parent)
                file.close()
        except SessionNotFound:
            return False
        finally:
            with self._mutex:
                self._files.pop(session_id, None)
                self._closed.pop(session_id, None)
        sync_folders(self.root)
        return True

    def trash(self, session_id: str) -> str:
        check_session_id(session_id)
        file = self._file(session_id)
        with self._writing(file, create=False), self._open_trash(create=True) as (root, trash):
            name = free_name(session_id, os.listdir(trash))
            os.rename(session_id, name, src_dir_fd=root, dst_dir_fd=trash)
            os.fsync(trash)
            os.fsync(root)
            file.close()
        with self._mutex:
            self._files.pop(session_id, None)
            self._closed.pop(session_id, None)
        return name

    def restore(self, name: str) -> str:
        session_id = id_of(name)
        with self._open_trash(create=False) as (root, trash):
            if not os.path.lexists(self.root / TRASH / name):
                raise SessionNotFound(name)
            if os.path.lexists(self.root / session_id):
                raise SessionExists(session_id)
            os.rename(name, session_id, src_dir_fd=trash, dst_dir_fd=root)
            os.fsync(root)
            os.fsync(trash)
        return session_id

    def purge(self, name: str) -> bool:
        id_of(name)
        with self._open_trash(create=False) as (_, trash):
            if name not in os.listdir(trash):
                return False
            _remove_folder(self.root / TRASH / name)
            os.fsync(trash)
            return True

    def trashed(self) -> list[str]:
        try:
            with self._open_trash(create=False) as (_, trash):
                return sorted(os.listdir(trash))
        except SessionNotFound:
            return []

    @contextmanager
    def _open_trash(self, *, create: bool) -> Iterator[tuple[int, int]]:
        """Lend descriptors of the root and of the trash in it, which is no link."""
        root = os.open(self.root, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
        try:
            if create:
                with suppress(FileExistsError):
                    os.mkdir(TRASH, 0o700, dir_fd=root)
            try:
                trash = os.open(TRASH, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC | os.O_NOFOLLOW, dir_fd=root)
            except FileNotFoundError:
                raise SessionNotFound(TRASH) from None
            try:
                yield root, trash
            finally:
                os.close(trash)
        finally:
            os.close(root)

    # --- after damage

    def tail(self, session_id: str) -> str | None:
        check_log_id(session_id)
        file = self._file(session_id)
        with file.open_to_read() as descriptor:
            scan = file.verify(descriptor)
            left = os.fstat(descriptor).st_size - scan.here.offset
            if scan.missing_lf:
                return (
                    f"line {scan.here.seq + 1}, byte {scan.here.offset}: a whole record that lacks only its line feed"
                )
            if scan.fault is None or not scan.fault.torn:
                return None
            return f"line {scan.fault.line}, byte {scan.here.offset}: a torn tail of {left} bytes"

    def quarantine(self, session_id: str) -> list[str]:
        check_log_id(session_id)
        with self._file(session_id).open_folder(create=False) as folder:
            return list_quarantine(folder)

    def keep_note(self, session_id: str, name: str, note: bytes) -> None:
        file = self._file(session_id)
        try:
            with file.open_folder(create=False) as folder:
                keep_note(folder, name, note)
        except OSError as error:
            raise _refused(file, error) from error

    def notes(self, session_id: str) -> list[tuple[str, bytes]]:
        with self._file(session_id).open_folder(create=False) as folder:
            return read_notes(folder)

    def scrub(self, session_id: str, needles: Sequence[bytes], *, trashed: str | None = None) -> list[str]:
        file = self._file(session_id) if trashed is None else self._trashed_file(trashed)
        with file.open_folder(create=False) as folder:
            return scrub_quarantine(folder, needles)

    def salvage(self, session_id: str) -> Iterator[Remnant]:
        check_log_id(session_id)
        file = self._file(session_id)
        with file.open_to_read() as descriptor:
            file.verify(descriptor)
            kept = os.dup(descriptor)
        return self._salvage(file, kept)

    def _salvage(self, file: LogFile, descriptor: int) -> Iterator[Remnant]:
        with os.fdopen(descriptor, "rb", buffering=0):
            end = os.fstat(descriptor).st_size
            yield from salvage(file.first_digest, numbered_lines(descriptor, end, self._max_event_bytes))

    def redact(
        self,
        session_id: str,
        seqs: Sequence[int],
        reason: str,
        by: dict[str, Any] | None = None,
        *,
        trashed: str | None = None,
    ) -> Appended:
        file = self._file(session_id) if trashed is None else self._trashed_file(trashed)
        try:
            with self._writing(file, create=False):
                return self._redact_locked(file, sorted(set(seqs)), reason, by)
        except OSError as error:
            raise _refused(file, error) from error
        finally:
            if trashed is not None:
                file.close()

    def _redact_locked(self, file: LogFile, seqs: Sequence[int], reason: str, by: dict[str, Any] | None) -> Appended:
        scan = _ready(file)
        _check_version(file, scan, None)
        inherited = file.fork.seq if file.fork else 0
        told = []
        for seq in seqs:
            if not 1 <= seq <= scan.here.seq:
                raise RedactionRefused(file.session_id, seq, f"the session has {scan.here.seq} events")
            own = read_lines(file.descriptor, seq - 1, 1, scan.here.offset)
            line = b"".join(own if seq > inherited else self.chunks(file.session_id, seq - 1, seq))
            told.append(tell_redaction(file.session_id, seq, line[:-1], reason, by, inherited=seq <= inherited))
        batch = prepare(told, self._max_event_bytes)
        first = _cut_tail(file, scan)
        _seal_and_write(file, scan, [batch])
        file.flush(file.written)
        _finish_redactions(file, scan)
        return Appended(first, scan.here.seq)

    def _trashed_file(self, name: str) -> LogFile:
        session_id = id_of(name)
        with self._open_trash(create=False):
            return LogFile(self.root / TRASH, session_id, self._max_event_bytes, durable=True, folder=name)

    def trashed_lines(self, name: str) -> Iterator[bytes]:
        file = self._trashed_file(name)
        with file.open_to_read() as descriptor:
            scan = file.verify(descriptor)
            _need_events(scan, file)
            kept = os.dup(descriptor)
        for chunk in _stream(kept, 0, None, scan.here.offset, file.damage(scan)):
            yield from codec.lines(chunk)

    def repair(self, session_id: str, *, dry_run: bool = True) -> Repair | None:
        check_log_id(session_id)
        file = self._file(session_id)
        with self._writing(file, create=False):
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
            )
            if not dry_run:
                _append_repair(file, scan, restored)
        if not dry_run:
            file.flush(file.written)
        return plan

    def _behind(self, file: LogFile, scan: Scan) -> Iterator[Remnant]:
        found = self._salvage(file, os.dup(file.descriptor))
        return (remnant for remnant in found if remnant.offset_bytes >= scan.here.offset)

    def is_being_written(self, session_id: str) -> bool:
        check_log_id(session_id)
        with self._file(session_id).open_to_read() as descriptor:
            return is_being_written(descriptor)

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

    def _flush_soon(self) -> None:
        with self._mutex:
            if self._flusher is None:
                self._flusher = _Flusher(self)


def _give(written: Written, prepared: Sequence[tuple[int, Batch, int | None]], error: EventStoreError) -> None:
    """Let an error be the outcome of all that have none yet."""
    for place, _, _ in prepared:
        written.outcomes[place] = written.outcomes[place] or error


def _append(file: LogFile, batch: Batch, expected_version: int | None) -> Appended:
    """Append one batch, for one caller."""
    try:
        with file.writing:
            file.lock(create=expected_version == 0)
            try:
                with file.scanning:
                    return _append_locked(file, batch, expected_version)
            finally:
                file.unlock()
    except OSError as error:
        raise _refused(file, error) from error


def _append_locked(file: LogFile, batch: Batch, expected_version: int | None) -> Appended:
    scan = file.scan if file.is_verified() else _ready(file)
    if batch.ids:
        repeat = find_repeat(file.session_id, batch, scan.ids)
        if repeat is not None:
            return repeat
    if expected_version is not None or not scan.here.seq:
        _check_version(file, scan, expected_version)
    if scan.fault is not None:
        _cut_tail(file, scan)
    here = scan.here
    first, now = here.seq + 1, codec.now()
    data, after = seal(batch, here, now if now > here.at else here.at)
    file.write(data, here.offset)
    scan.here = after
    if batch.ids:
        scan.ids.update(dict.fromkeys(batch.ids, (first, after.seq)))
    return Appended(first, after.seq)


def _append_group_locked(file: LogFile, prepared: Sequence[tuple[int, Batch, int | None]], written: Written) -> None:
    """Append batches in order, those that ask for nothing with one write."""
    plain: list[tuple[int, Batch]] = []
    for place, batch, expected_version in prepared:
        if expected_version is None and not batch.ids:
            plain.append((place, batch))
            continue
        _append_plain_locked(file, plain, written)
        plain = []
        try:
            written.outcomes[place] = _append_locked(file, batch, expected_version)
        except (IdReused, VersionConflict, SessionNotFound) as error:
            written.outcomes[place] = error
    _append_plain_locked(file, plain, written)


def _append_plain_locked(file: LogFile, plain: Sequence[tuple[int, Batch]], written: Written) -> None:
    if not plain:
        return
    scan = file.scan if file.is_verified() else _ready(file)
    _check_version(file, scan, None)
    seq = _cut_tail(file, scan)
    _seal_and_write(file, scan, [batch for _, batch in plain])
    for place, batch in plain:
        last = seq + len(batch.pieces) - 1
        written.outcomes[place] = Appended(seq, last)
        seq = last + 1


def _extend_locked(file: LogFile, batches: Sequence[Batch], expected_version: int) -> Appended:
    scan = _ready(file)
    refuse_known(file.session_id, batches, scan.ids)
    _check_version(file, scan, expected_version)
    first = _cut_tail(file, scan)
    _seal_and_write(file, scan, batches)
    return Appended(first, scan.here.seq)


def _ready(file: LogFile) -> Scan:
    """Verify what others wrote, and raise what is damaged."""
    scan = file.verify(file.descriptor)
    if scan.missing_lf:
        file.finish_last_line()
        scan = file.verify(file.descriptor)
    if scan.fault is not None and not scan.fault.torn and _finish_torn_redaction(file, scan):
        scan = file.verify(file.descriptor)
    damage = file.damage(scan)
    if damage:
        raise damage
    _finish_redactions(file, scan)
    return scan


def _finish_redactions(file: LogFile, scan: Scan) -> None:
    """Overwrite what the log says was redacted, and a crash or somebody else left."""
    for seq in file.own_redactions(scan):
        if seq not in scan.stubs:
            file.redact(seq, scan.redactions[seq])
    file.is_unfinished = False


def _finish_torn_redaction(file: LogFile, scan: Scan) -> bool:
    """Overwrite a line again that a power cut left overwritten in part, if that is what is wrong."""
    assert scan.fault is not None  # noqa: S101 - asked before
    leaf = file.told_redaction(scan.fault.line)
    return leaf is not None and file.redact(scan.fault.line, leaf)


def _check_version(file: LogFile, scan: Scan, expected_version: int | None) -> None:
    version = scan.here.seq
    if not version and expected_version != 0:
        raise SessionNotFound(file.session_id)
    if expected_version is not None and expected_version != version:
        between = read_lines(file.descriptor, expected_version, 20, scan.here.offset)
        raise VersionConflict(file.session_id, expected_version, version, types_of(between))


def _cut_tail(file: LogFile, scan: Scan) -> int:
    """Cut a torn tail, record that, and return the number that comes next."""
    if scan.fault is not None:
        _seal_and_write(file, scan, [prepare([file.cut(scan, "torn tail")], codec.MAX_EVENT_BYTES)])
    return scan.here.seq + 1


def restorable(remnants: Sequence[Remnant]) -> list[Event]:
    """Pick the records behind damage that can be appended anew: those that are proven or linked and that this release knows."""
    found = (remnant.event() for remnant in remnants if remnant.standing in ("linked", "proven"))
    return [
        replace(event, occurred_at=event.time)
        for event in found
        if event is not None and not isinstance(event, UnknownEvent)
    ]


def _append_repair(file: LogFile, scan: Scan, restored: Sequence[Event]) -> None:
    """Cut what is behind the scan, record it, and append the restored events in batches."""
    assert scan.fault is not None  # noqa: S101 - callers repair only where there is a fault
    reason = "torn tail" if scan.fault.torn else f"damage: line {scan.fault.line} {scan.fault.reason}"
    events: list[Event] = [file.cut(scan, reason), *restored]
    for start in range(0, len(events), _REPAIR_BATCH):
        _seal_and_write(file, scan, [prepare(events[start : start + _REPAIR_BATCH], codec.MAX_EVENT_BYTES * 2)])


def _seal_and_write(file: LogFile, scan: Scan, batches: Sequence[Batch]) -> None:
    """Give batches their places, write them at once, and move the scan behind them."""
    here, at = scan.here, max(codec.now(), scan.here.at)
    parts: list[bytes] = []
    ids: dict[str, tuple[int, int]] = {}
    for batch in batches:
        first = here.seq + 1
        data, here = seal(batch, here, at)
        parts.append(data)
        ids.update(dict.fromkeys(batch.ids, (first, here.seq)))
    data = b"".join(parts)
    file.write(data, scan.here.offset)
    scan.here = here
    if _TELLING in data:
        scan.note(codec.lines(data))
    scan.ids.update(ids)


def _stream(descriptor: int, after: int, upto: int | None, end: int, damage: LogDamaged | None) -> Iterator[bytes]:
    """Read on from a descriptor, close it, and raise the damage where it is reached."""
    with os.fdopen(descriptor, "rb", buffering=0):
        yield from read_lines(descriptor, after, None if upto is None else max(upto - after, 0), end)
    if damage is not None:
        raise damage


def _passing(chunks: Iterable[bytes], write: Callable[[bytes], None]) -> Iterator[bytes]:
    """Write chunks on their way."""
    for chunk in chunks:
        write(chunk)
        yield chunk


def _raw(descriptor: int, before: Iterator[bytes]) -> Iterator[bytes]:
    """Read what comes before a file, and the file to the end that it has now, and close it."""
    with os.fdopen(descriptor, "rb", buffering=0):
        yield from before
        yield from blocks(descriptor, 0, os.fstat(descriptor).st_size)


def _need_events(scan: Scan, file: LogFile) -> None:
    if scan.here.seq == 0:
        raise file.damage(scan) or SessionNotFound(file.session_id)


def _without_past(file: LogFile, fork: codec.ForkPoint) -> LogDamaged:
    what = f"goes on from event {fork.seq} of session {fork.parent!r}, which is not there"
    return LogDamaged(file.session_id, file.text, 1, 0, what, 0)


def _remove_folder(folder: Path) -> None:
    """Remove a folder and all in it; a view written meanwhile is removed too."""
    import shutil  # brings five compressors along

    for last in (False, False, True):
        try:
            shutil.rmtree(folder)
        except OSError as error:
            if last or error.errno != errno.ENOTEMPTY:
                raise
        else:
            return


def _refused(file: LogFile, error: OSError) -> EventStoreError:
    """Say what an error of the system means for an append."""
    if isinstance(error, EventStoreError):
        return error
    return AppendRefused(file.session_id, file.text, error.errno or errno.EIO)


def _usual_open_files() -> int:
    soft, _ = resource.getrlimit(resource.RLIMIT_NOFILE)
    return 4096 if soft == resource.RLIM_INFINITY else max(min(soft // 4, 4096), 16)


def _is_session(entry: os.DirEntry[str]) -> bool:
    try:
        check_session_id(entry.name)
    except InvalidSessionId:
        return False
    return entry.is_dir(follow_symlinks=False) and os.path.lexists(os.path.join(entry.path, LOG))


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
