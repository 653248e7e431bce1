"""Logs in memory: the executable definition of what a log does."""

import threading
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass, field
from os import urandom
from typing import Any
from weakref import WeakSet

from msgspec.structs import replace

from eventstore.errors import (
    InvalidSessionId,
    LogDamaged,
    RedactionRefused,
    SessionExists,
    SessionNotFound,
    VersionConflict,
)
from eventstore.events import Event, EventRedacted, SessionCreated
from eventstore.ids import STORE_ID, TEMPLATE, check_log_id, free_name, id_of, is_beside
from eventstore.log.base import Appended, Changes, EventLog, Head, types_of
from eventstore.log.batch import (
    Batch,
    find_repeat,
    prepare,
    prepare_many,
    refuse_known,
    seal,
    tell_redaction,
    untold_redactions,
)
from eventstore.log.ingest import Whole, verify_whole
from eventstore.log.watch import Bell, Watch
from eventstore.record import codec
from eventstore.record.fragment import blank
from eventstore.record.salvage import Remnant, salvage
from eventstore.record.scan import Position


@dataclass
class _Log:
    here: Position
    lines: list[bytes] = field(default_factory=list)
    ids: dict[str, tuple[int, int]] = field(default_factory=dict)
    root: str = ""
    inherited: int = 0
    beside: dict[str, bytes] = field(default_factory=dict)

    def take(self, batch: Batch) -> None:
        first = self.here.seq + 1
        data, self.here = seal(batch, self.here, max(codec.now(), self.here.at))
        self.lines += [line + b"\n" for line in codec.lines(data)]
        self.ids.update(dict.fromkeys(batch.ids, (first, self.here.seq)))


class MemoryEventLog(EventLog):
    """Logs that live as long as the object; one lock, safe for threads."""

    def __init__(self, *, max_event_bytes: int = codec.MAX_EVENT_BYTES) -> None:
        self._logs: dict[str, _Log] = {}
        self._trash: dict[str, _Log] = {}
        self._bells: WeakSet[Bell] = WeakSet()
        self._feed, self._count = urandom(16).hex(), 0
        self._changed_at: dict[str, int] = {}  # the count of all changes when a log last changed, in that order
        self._mutex = threading.Lock()
        self._max_event_bytes = max_event_bytes

    def append(self, session_id: str, events: Sequence[Event], *, expected_version: int | None = None) -> Appended:
        check_log_id(session_id)
        batch = prepare(events, self._max_event_bytes)
        with self._mutex:
            log = self._logs.get(session_id)
            if log is None:
                if expected_version != 0:
                    raise SessionNotFound(session_id)
                log = _Log(Position(codec.first_hash(session_id)))
            repeat = find_repeat(session_id, batch, log.ids)
            if repeat is not None:
                return repeat
            if expected_version is not None and expected_version != log.here.seq:
                since = types_of(log.lines[expected_version : expected_version + 20])
                raise VersionConflict(session_id, expected_version, log.here.seq, since)
            first = log.here.seq + 1
            log.take(batch)
            self._put(session_id, log)
            return Appended(first, log.here.seq)

    def extend(self, session_id: str, batches: Sequence[Sequence[Event]], *, expected_version: int) -> Appended:
        check_log_id(session_id)
        prepared = prepare_many(batches, self._max_event_bytes)
        with self._mutex:
            log = self._logs.get(session_id)
            if log is None:
                if expected_version != 0:
                    raise SessionNotFound(session_id)
                log = _Log(Position(codec.first_hash(session_id)))
            refuse_known(session_id, prepared, log.ids)
            if expected_version != log.here.seq:
                since = types_of(log.lines[expected_version : expected_version + 20])
                raise VersionConflict(session_id, expected_version, log.here.seq, since)
            for batch in prepared:
                log.take(batch)
            self._put(session_id, log)
            return Appended(expected_version + 1, log.here.seq)

    def inherited(self, session_id: str) -> int:
        with self._mutex:
            return self._find(session_id).inherited

    def root_of(self, session_id: str) -> str:
        with self._mutex:
            return self._find(session_id).root or session_id

    def make_whole(self, session_id: str) -> None:
        with self._mutex:
            log = self._find(session_id)
            log.here.offset += sum(map(len, log.lines[: log.inherited]))
            untold = untold_redactions(_bare(log.lines), {})
            log.inherited = 0
            if untold:
                log.take(prepare(untold, self._max_event_bytes))
            self._ring(session_id)

    def salvage(self, session_id: str) -> Iterator[Remnant]:
        with self._mutex:
            root = self._find(session_id).root or session_id
        return salvage(codec.first_hash(root), ((0, line) for line in self.lines(session_id)))

    def fork(self, session_id: str, parent: str, version: int, event: SessionCreated) -> Appended:
        check_log_id(session_id)
        point = self.point_at(parent, version)
        with self._mutex:
            before = self._find(parent)
            known = self._logs.get(session_id)
            if known is not None:
                raise VersionConflict(session_id, 0, known.here.seq, types_of(known.lines[:20]))
            root = before.root or parent
            told = codec.ForkPoint(parent, version, bytes.fromhex(point.hash), root, session_id)
            kept = before.lines[:version]
            here = Position(told.digest, 0, version, point.at)
            log = _Log(here, kept, root=root, inherited=version)
            begun = [replace(event, forked_from=told.to_dict()), *untold_redactions(_bare(kept), {})]
            log.take(prepare(begun, self._max_event_bytes))
            self._put(session_id, log)
            return Appended(version + 1, version + len(begun))

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
        data = b"".join(chunks)
        whole = verify_whole(session_id, [data], root=root, max_event_bytes=self._max_event_bytes)
        kept = {name: b"".join(parts) for name, parts in beside}
        if not all(map(is_beside, kept)):
            raise ValueError("a file has a name that none beside a log can have")
        with self._mutex:
            if session_id in self._logs:
                raise SessionExists(session_id)
            lines = self._past(whole) + [line + b"\n" for line in codec.lines(data)]
            here = Position(bytes.fromhex(whole.head.hash), whole.head.size_bytes, whole.head.version, whole.head.at)
            own_root = "" if whole.root == session_id else whole.root
            log = _Log(here, lines, whole.ids, own_root, whole.inherited, kept)
            for seq, leaf in whole.redactions.items():
                if codec.leaf_of(lines[seq - 1][:-1]) == leaf:
                    self._overwrite(log, seq)
            self._put(session_id, log)
        return whole.head

    def _past(self, whole: Whole) -> list[bytes]:
        """Give the lines that a fork goes on from."""
        if whole.fork is None:
            return []
        before = self._logs.get(whole.fork.parent, _Log(Position(b"")))
        lines = before.lines[: whole.inherited]
        parts = codec.split(lines[-1]) if len(lines) == whole.inherited else None
        if parts is None or parts[1] != whole.fork.digest or (before.root or whole.fork.parent) != whole.root:
            what = f"goes on from event {whole.inherited} of session {whole.fork.parent!r}, which is not there"
            raise LogDamaged(whole.session_id, "its log", 1, 0, what, 0)
        return lines

    def beside(self, session_id: str) -> list[str]:
        with self._mutex:
            return sorted(self._find(session_id).beside)

    def read_beside(self, session_id: str, name: str) -> Iterator[bytes]:
        with self._mutex:
            found = self._find(session_id).beside.get(name)
        if found is None:
            raise FileNotFoundError(name)
        return iter([found])

    def quarantine(self, session_id: str) -> list[str]:
        return [name for name in self.beside(session_id) if name.startswith("quarantine/")]

    def chunks(self, session_id: str, after: int = 0, upto: int | None = None) -> Iterator[bytes]:
        with self._mutex:
            lines = self._find(session_id).lines[max(after, 0) : upto]
        return (b"".join(lines[start : start + 256]) for start in range(0, len(lines), 256))

    def head(self, session_id: str) -> Head:
        with self._mutex:
            here = self._find(session_id).here
            return Head(here.seq, here.at, here.digest.hex(), here.offset)

    def ids(self) -> Iterator[str]:
        with self._mutex:
            return iter([one for one in self._logs if one != STORE_ID and not one.startswith(TEMPLATE)])

    def remove(self, session_id: str, *, expected_version: int | None = None) -> bool:
        check_log_id(session_id)
        with self._mutex:
            self._expect(session_id, expected_version)
            self._ring(session_id)
            return self._logs.pop(session_id, None) is not None

    def _expect(self, session_id: str, version: int | None) -> None:
        log = self._logs.get(session_id)
        if version is not None and log is not None and log.here.seq != version:
            raise VersionConflict(session_id, version, log.here.seq, types_of(log.lines[version : version + 20]))

    def trash(self, session_id: str, *, expected_version: int | None = None) -> str:
        with self._mutex:
            self._expect(session_id, expected_version)
            log = self._find(session_id)
            name = free_name(session_id, self._trash)
            self._trash[name] = log
            del self._logs[session_id]
            self._ring(session_id)
            return name

    def restore(self, name: str) -> str:
        session_id = id_of(name)
        with self._mutex:
            if name not in self._trash:
                raise SessionNotFound(name)
            if session_id in self._logs:
                raise SessionExists(session_id)
            self._put(session_id, self._trash.pop(name))
            return session_id

    def purge(self, name: str) -> bool:
        id_of(name)
        with self._mutex:
            return self._trash.pop(name, None) is not None

    def trashed(self) -> list[str]:
        with self._mutex:
            return sorted(self._trash)

    def changed(self, since: str | None) -> Changes:
        feed, _, count = (since or "").partition(" ")
        with self._mutex:
            token = f"{self._feed} {self._count}"
            if feed != self._feed or not (count.isascii() and count.isdecimal() and len(count) < 20):
                return Changes([(log, str(self._changed_at[log])) for log in self._logs], token, complete=True)
            found = list[tuple[str, str | None]]()
            for log, changed_at in reversed(self._changed_at.items()):
                if changed_at <= int(count):
                    break
                found.append((log, str(changed_at) if log in self._logs else None))
        return Changes(found, token, complete=False)

    def watch(self, session_id: str | None = None) -> Watch:
        if session_id is not None:
            check_log_id(session_id)
        bell = Bell()
        with self._mutex:
            self._bells.add(bell)
        return bell

    def _put(self, session_id: str, log: _Log) -> None:
        self._logs[session_id] = log
        self._ring(session_id)

    def _ring(self, session_id: str) -> None:
        self._count += 1
        self._changed_at.pop(session_id, None)
        self._changed_at[session_id] = self._count
        for bell in list(self._bells):
            bell.ring({session_id})

    def redact(
        self,
        session_id: str,
        seqs: Sequence[int],
        reason: str,
        by: dict[str, Any] | None = None,
        *,
        trashed: str | None = None,
    ) -> Appended:
        with self._mutex:
            log = self._find(session_id) if trashed is None else self._find_trashed(trashed)
            told = [self._tell(log, session_id, seq, reason, by) for seq in sorted(set(seqs))]
            first = log.here.seq + 1
            log.take(prepare(told, self._max_event_bytes))
            for event in told:
                self._overwrite(log, event.target)
            self._ring(session_id)
            return Appended(first, log.here.seq)

    def scrub(self, session_id: str, removed: Sequence[bytes], *, trashed: str | None = None) -> list[str]:
        with self._mutex:
            beside = (self._find(session_id) if trashed is None else self._find_trashed(trashed)).beside
            kept = {name: data for name, data in beside.items() if name.startswith("quarantine/")}
            changed = {name: new for name, data in kept.items() if (new := blank(data, removed)) != data}
            beside.update(changed)
            return sorted(changed)

    def _overwrite(self, log: _Log, seq: int) -> None:
        """Let a stub stand for a line, also in the forks that have it of this log."""
        line = log.lines[seq - 1]
        stub = codec.make_stub(line[:-1])
        if codec.read_stub(line[:-1]) is None and stub is not None:
            for one in (log, *(fork for fork in self._logs.values() if fork.inherited >= seq)):
                if one.lines[seq - 1] == line:
                    one.lines[seq - 1] = stub + b"\n"

    def _tell(self, log: _Log, session_id: str, seq: int, reason: str, by: dict[str, Any] | None) -> EventRedacted:
        if not 1 <= seq <= log.here.seq:
            raise RedactionRefused(session_id, seq, f"the session has {log.here.seq} events")
        return tell_redaction(session_id, seq, log.lines[seq - 1][:-1], reason, by, inherited=seq <= log.inherited)

    def trashed_lines(self, name: str) -> Iterator[bytes]:
        with self._mutex:
            return iter([line[:-1] for line in self._find_trashed(name).lines])

    def _find_trashed(self, name: str) -> _Log:
        id_of(name)
        if name not in self._trash:
            raise SessionNotFound(name)
        return self._trash[name]

    def flush(self) -> None:
        """Do nothing: there is no stable storage."""

    def close(self) -> None:
        """Do nothing: the logs stay for as long as the object."""

    def _find(self, session_id: str) -> _Log:
        check_log_id(session_id)
        try:
            return self._logs[session_id]
        except KeyError:
            raise SessionNotFound(session_id) from None


def _bare(lines: Iterable[bytes]) -> Iterator[bytes]:
    return (line[:-1] for line in lines)
