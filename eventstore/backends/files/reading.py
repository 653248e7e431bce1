"""Logs in folders as one sees them who only reads: no lock, no change, and what a fork has of its past."""

import os
import stat
import sys
from abc import abstractmethod
from collections.abc import Iterator
from contextlib import suppress
from itertools import chain
from pathlib import Path

from eventstore.backends.files.attachments import list_beside, list_quarantine, open_beside, read_notes
from eventstore.backends.files.descriptor import is_being_written
from eventstore.backends.files.file import LOG, LogFile
from eventstore.backends.files.lines import CHUNK, blocks, first_lines, last_line, numbered_lines, read_lines
from eventstore.backends.files.trash import Trash
from eventstore.errors import InvalidSessionId, LogDamaged, LogRolledBack, SessionNotFound
from eventstore.events import EventRedacted
from eventstore.ids import check_log_id, check_session_id
from eventstore.log.base import BEGINNING, EventLog, Head, Raw
from eventstore.log.batch import told_before
from eventstore.log.ingest import Whole
from eventstore.log.watch import FolderWatch, Watch
from eventstore.record import codec
from eventstore.record.salvage import Remnant, salvage
from eventstore.record.scan import Position, Scan

_POLL_ONE_SECONDS, _POLL_ALL_SECONDS = 0.005, 0.25


class FolderReader(EventLog):
    """The half of a log in folders that reads: it takes no lock and changes nothing.

    What a file object knows of its log is shared with the half that writes, which says by `_file` where it is kept.
    """

    def __init__(self, root: Path, max_event_bytes: int) -> None:
        self.root, self._max_event_bytes = root, max_event_bytes
        self._trash = Trash(root, max_event_bytes)

    @abstractmethod
    def _file(self, session_id: str) -> LogFile:
        """Find or make the file object of a session. Raises InvalidSessionId."""

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

    # --- what is in the trash

    def trashed(self) -> list[str]:
        return self._trash.names()

    def trashed_lines(self, name: str) -> Iterator[bytes]:
        file = self._trash.file(name)
        with file.open_to_read() as descriptor:
            scan = file.verify(descriptor)
            _need_events(scan, file)
            kept = os.dup(descriptor)
        for chunk in _stream(kept, 0, None, scan.here.offset, file.damage(scan)):
            yield from codec.lines(chunk)

    # --- what a fork has of its past

    def inherited(self, session_id: str) -> int:
        check_log_id(session_id)
        fork = self._fork_of(session_id)
        return fork.seq if fork else 0

    def root_of(self, session_id: str) -> str:
        file = self._file(session_id)
        with file.open_aside() as descriptor:
            return file.beginning(descriptor, os.fstat(descriptor).st_size)[1]

    def _fork_of(self, session_id: str) -> codec.ForkPoint | None:
        """Tell where a log goes on from another; None where it is whole. Raises SessionNotFound."""
        file = self._file(session_id)
        with file.open_aside() as descriptor:
            return file.beginning(descriptor, os.fstat(descriptor).st_size)[0]

    def _fork_point(self, session_id: str, parent: str, version: int) -> tuple[codec.ForkPoint, str]:
        """Find the log that has the event a fork goes on from, its digest there, and when it was recorded."""
        there, root = self.point_at(parent, version), self._file(parent).root
        while (older := self._fork_of(parent)) is not None and older.seq >= version:
            parent = older.parent
        return codec.ForkPoint(parent, version, bytes.fromhex(there.hash), root, session_id), there.at

    def _untold_before(self, log_id: str, version: int) -> list[EventRedacted]:
        """Return the event.redacted events that a fork at a version lacks: what it has is redacted, or will be."""
        stubs: dict[int, codec.Stub] = {}
        told: set[int] = set()
        while True:
            file = self._file(log_id)
            with file.open_to_read() as descriptor:
                scan, fork = file.verify(descriptor), file.fork
                stubs |= {seq: stub for seq, (stub, _) in scan.stubs.items() if seq <= version}
                stubs |= {stub.seq: stub for stub in file.tombstones_to_come(descriptor, version)}
                told |= {seq for seq, at in scan.told_at.items() if at <= version}
            if fork is None:
                return [told_before(stubs[seq]) for seq in sorted(stubs.keys() - told)]
            log_id, version = fork.parent, min(version, fork.seq)

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

    def _check_past(self, file: LogFile, whole: Whole) -> None:
        """Raise LogDamaged where a fork goes on from what is not here."""
        fork = whole.fork
        if fork is not None:
            list(self._inherited(file, fork, fork.seq - 1, fork.seq))
            if self.root_of(fork.parent) != fork.root:
                raise _without_past(file, fork)

    # --- beside a log

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

    def quarantine(self, session_id: str) -> list[str]:
        check_log_id(session_id)
        with self._file(session_id).open_folder(create=False) as folder:
            return list_quarantine(folder)

    def notes(self, session_id: str) -> list[tuple[str, bytes]]:
        with self._file(session_id).open_folder(create=False) as folder:
            return read_notes(folder)

    # --- what is damaged

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

    def is_being_written(self, session_id: str) -> bool:
        check_log_id(session_id)
        with self._file(session_id).open_to_read() as descriptor:
            return is_being_written(descriptor)

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


def _stream(descriptor: int, after: int, upto: int | None, end: int, damage: LogDamaged | None) -> Iterator[bytes]:
    """Read on from a descriptor, close it, and raise the damage where it is reached."""
    with os.fdopen(descriptor, "rb", buffering=0):
        yield from read_lines(descriptor, after, None if upto is None else max(upto - after, 0), end)
    if damage is not None:
        raise damage


def _raw(descriptor: int, before: Iterator[bytes]) -> Iterator[bytes]:
    """Stream what comes before a file, and the file to its end, and close it."""
    with os.fdopen(descriptor, "rb", buffering=0):
        yield from before
        # To the end that the file has at last: a redaction going on is recorded behind the tombstone that was just read.
        yield from blocks(descriptor, 0, sys.maxsize)


def _need_events(scan: Scan, file: LogFile) -> None:
    if scan.here.seq == 0:
        raise file.damage(scan) or SessionNotFound(file.session_id)


def _without_past(file: LogFile, fork: codec.ForkPoint) -> LogDamaged:
    what = f"goes on from event {fork.seq} of session {fork.parent!r}, which is not there"
    return LogDamaged(file.session_id, file.text, 1, 0, what, 0)


def _is_session(entry: os.DirEntry[str]) -> bool:
    try:
        check_session_id(entry.name)
    except InvalidSessionId:
        return False
    if not entry.is_dir(follow_symlinks=False):
        return False
    try:
        found = os.lstat(os.path.join(entry.path, LOG))
    except OSError:
        return False
    # An empty log is what a creation leaves that was killed or refused: there is no session yet.
    return not stat.S_ISREG(found.st_mode) or found.st_size > 0
