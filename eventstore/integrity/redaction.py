"""Redaction: the content of events is removed from logs and all that is derived from them; what, when, why and who stays.

Events of a session may be in other logs too: of its parents, its forks, and sessions in the trash. All are redacted together,
and each records it. Order: the store's own log records it; what needs the text to be found is cleaned; each log records it, on
stable storage, and is overwritten; what is derived is made anew; every file of the store is searched for what is left.
"""

import sqlite3
from collections.abc import Callable, Collection, Iterable, Iterator, Sequence
from contextlib import contextmanager, suppress
from dataclasses import dataclass, field, replace
from itertools import chain, groupby, islice
from pathlib import Path
from typing import Any, NamedTuple

from eventstore.backends.files.atomic_folder import clear_stage
from eventstore.derived.catalog import FOLDER as CATALOG
from eventstore.errors import EventStoreError, LogDamaged, RedactionRefused, SessionNotFound
from eventstore.events import InvocationLinked, MessageAdded, RedactedEvent, StoreEventsRedacted
from eventstore.ids import TEMPLATE, id_of
from eventstore.log.redact import record_redaction
from eventstore.record import codec, tombstone
from eventstore.secret_patterns import Patterns, texts
from eventstore.store.pages import warn_damaged
from eventstore.store.removed_text import Removed, find_left, mark, needle
from eventstore.store.storage import SessionStorage
from eventstore.store.storages import FileSystemSessionStorage

_LINKED = b'{"type":"invocation.linked"'


class Redactable(NamedTuple):
    """A place where a plan found something: event `seq` of a session, or, where `seq` is 0, the record of a call in `folder`.

    `labels` say what was found; `obstacle`, where there is one, why it cannot be redacted. `trashed` is the session's name in the
    trash, empty for one that is not there.
    """

    session_id: str
    seq: int
    type: str
    labels: tuple[str, ...]
    folder: str = ""
    trashed: str = ""
    obstacle: str = ""


@dataclass(frozen=True)
class Redacted:
    """What a redaction did: to which events (`seqs`) of a session, in which logs, in which records of tool calls.

    Events that were redacted before are not among them. `left` names what somebody should look at: files that tools left, files
    in which a removed text of 8 characters or more still stands, say because another event says the same, and what failed;
    calling again does the latter.
    """

    session_id: str
    seqs: tuple[int, ...]
    logs: tuple[str, ...] = ()
    records: tuple[str, ...] = ()
    left: tuple[str, ...] = ()


class _Log(NamedTuple):
    """A log, and the name it has in the trash, if it is there."""

    log_id: str
    trashed: str | None = None


def plan_redactions(
    storage: SessionStorage,
    patterns: Patterns,
    session_ids: Collection[str] | None = None,
    on_damage: Callable[[LogDamaged], None] = warn_damaged,
) -> Iterator[Redactable]:
    """Find what matches patterns, in the events and the tool calls' records of sessions (None: all, templates, the trash too).

    What a fork has of its parent is found there. Changes nothing. Raises SessionNotFound and LogDamaged for sessions that are
    named; of all, nothing is planned for one that cannot be read, and `on_damage` hears of it.
    """
    for log in _all_logs(storage) if session_ids is None else map(_Log, session_ids):
        try:
            found = list(_plan_one(storage, patterns, log))
        except LogDamaged as damage:
            if session_ids is not None:
                raise
            on_damage(damage)
        except SessionNotFound:
            if session_ids is not None:
                raise  # of all: deleted meanwhile
        else:
            yield from found


def _plan_one(storage: SessionStorage, patterns: Patterns, log: _Log) -> Iterator[Redactable]:
    since = 0 if log.trashed else storage.log.inherited(log.log_id)
    calls: dict[str, str] = {}
    for line in _lines(storage, log, since):
        event = codec.decode(line)
        if isinstance(event, InvocationLinked) and event.invocation_dir:
            calls[event.invocation_id] = event.invocation_dir
        labels = _labels(patterns, texts(event)) if not isinstance(event, RedactedEvent) else ()
        if labels:
            obstacle = _obstacle(log.log_id, event.seq, line)
            name = log.trashed or ""
            yield Redactable(log.log_id, event.seq, event.type, labels, trashed=name, obstacle=obstacle)
    for folder in dict.fromkeys(calls.values()):
        yield from _plan_record(storage, patterns, log, folder)


def _plan_record(storage: SessionStorage, patterns: Patterns, log: _Log, folder: str) -> Iterator[Redactable]:
    if storage.history is None:
        return
    try:
        record = storage.history.read(folder)
    except (OSError, ValueError):
        return
    labels = _labels(patterns, texts([record.arguments, record.result, record.error]))
    if labels:
        yield Redactable(log.log_id, 0, "record", labels, folder, log.trashed or "")


def _labels(patterns: Patterns, found: Iterable[str]) -> tuple[str, ...]:
    return tuple(dict.fromkeys(label for text in found for _, _, label in patterns.find(text)))


def _obstacle(session_id: str, seq: int, line: bytes) -> str:
    try:
        record_redaction(session_id, seq, line, "", None)
    except RedactionRefused as refused:
        return refused.reason
    return ""


def redact(
    storage: SessionStorage,
    session_id: str,
    seqs: Sequence[int],
    reason: str,
    by: dict[str, Any] | None = None,
    *,
    trashed: str | None = None,
    patterns: Patterns | None = None,
) -> Redacted:
    """Remove the content of events for good: from the log, and from all that was made of it or holds a copy.

    Those are the logs of forks, parents and templates, also in the trash; views, catalogue and search index, snapshots,
    quarantine, unfinished files of programs that were killed, and the records of the tool calls that the events belong to (with
    `patterns` only what matches in them). An event that was imported takes its foreign line along. On an event that was redacted
    before, this does what was left to do. What fails besides the logs is named in `left`, and is done by the next call.

    Raises RedactionRefused, where an event has no text, or is one that the log cannot do without; SessionNotFound, LogDamaged:
    nothing is changed then. AppendRefused where a log cannot be written: call again.
    """
    if not reason or not reason.strip():
        raise RedactionRefused(session_id, min(seqs, default=0), "no reason was given")
    with storage.registry.locked():
        one = _Redaction(storage, _Log(session_id, trashed), reason, by, patterns)
        done = one.run(set(seqs))
    return replace(done, left=(*done.left, *_still_there(storage, one.removed, done.left)))


def redact_plan(
    storage: SessionStorage,
    plan: Iterable[Redactable],
    patterns: Patterns,
    reason: str,
    by: dict[str, Any] | None = None,
) -> list[Redacted]:
    """Carry out a plan: what has an obstacle is left out. Raises as `redact` does; what was done before that stays done.

    The files of the store are searched once, at the end: what is still there is named in the `left` of the last result.
    """
    seqs: dict[_Log, list[int]] = {}
    folders: dict[str, dict[str, None]] = {}
    for one in plan:
        if one.obstacle:
            continue
        if one.seq:
            seqs.setdefault(_Log(one.session_id, one.trashed or None), []).append(one.seq)
        else:
            folders.setdefault(one.session_id, {})[one.folder] = None
    done, removed = list[Redacted](), Removed()
    for log, found in seqs.items():
        with storage.registry.locked():
            redaction = _Redaction(storage, log, reason, by, patterns)
            done.append(redaction.run(set(found)))
            removed.update(redaction.removed)
    for session_id, names in folders.items():
        storage.registry.note(StoreEventsRedacted(session_id=session_id, targets=(), reason=reason, by=by))
        records, left = _clean_records(storage, names, patterns.replace)
        if records or left:
            done.append(Redacted(session_id, (), (), tuple(records), tuple(left)))
    if done:
        known = {name for one in done for name in one.left}
        done[-1] = replace(done[-1], left=(*done[-1].left, *_still_there(storage, removed, known)))
    return done


# --- which events, in which logs


def _lines(storage: SessionStorage, log: _Log, after: int = 0, upto: int | None = None) -> Iterator[bytes]:
    if log.trashed is None:
        return storage.log.lines(log.log_id, after, upto)
    return islice(storage.log.trashed_lines(log.trashed), after, upto)


def _read(storage: SessionStorage, log: _Log, seqs: Iterable[int]) -> dict[int, bytes]:
    """Read lines by their numbers, neighbours at once; those that are not there are left out."""
    found: dict[int, bytes] = {}
    wanted = sorted(seq for seq in seqs if seq > 0)
    runs = groupby(enumerate(wanted), key=lambda pair: pair[1] - pair[0])
    for run in ([seq for _, seq in pairs] for _, pairs in runs):
        found.update(zip(run, _lines(storage, log, run[0] - 1, run[-1]), strict=False))
    return found


def _read_with_origins(storage: SessionStorage, log: _Log, seqs: Collection[int]) -> dict[int, bytes]:
    """Read lines, and those of the same append that hold the foreign lines they came from. Raises RedactionRefused."""
    found = _read(storage, log, seqs)
    for seq in sorted(seqs):
        if seq not in found:
            raise RedactionRefused(log.log_id, seq, "there is no such event")
    batches = [(seq, event.batch) for seq, line in found.items() if (event := codec.decode(line)).batch]
    mates = {other for seq, batch in batches if batch for other in range(seq - batch[0], seq - batch[0] + batch[1])}
    for seq, line in _read(storage, log, mates - found.keys()).items():
        if codec.decode(line).origin is not None:
            found[seq] = line
    return dict(sorted(found.items()))


def _all_logs(storage: SessionStorage) -> Iterator[_Log]:
    log = storage.log
    names = chain(sorted(log.ids()), (TEMPLATE + name for name in storage.templates()))
    return chain(map(_Log, names), (_Log(id_of(name), name) for name in log.trashed()))


def _relatives(storage: SessionStorage, asked: _Log) -> Iterator[_Log]:
    """Stream the logs that may have events of the one that is asked for, itself first.

    Without any fork in the store those are the ones of its id: what is in the trash may have been restored from an archive too.
    """
    yield asked
    has_forks = storage.registry.state().forks > 0
    root = None if asked.trashed or not has_forks else storage.log.root_of(asked.log_id)
    for one in _all_logs(storage):
        if one == asked or not (has_forks or one.log_id == asked.log_id):
            continue
        if one.trashed or root is None or _root_of(storage, one) in (None, root):
            yield one


def _root_of(storage: SessionStorage, log: _Log) -> str | None:
    """Name the log whose chain it is; None where that cannot be read."""
    with suppress(SessionNotFound, LogDamaged):
        return storage.log.root_of(log.log_id)
    return None


# --- doing it


@dataclass
class _Copy:
    """A log that has the events, some of them from its parent where it is a fork: the first `inherited` are its parent's.

    `lines` are those of the events, `recorded` the numbers of inherited events whose redaction the log records.
    """

    log: _Log
    inherited: int
    lines: dict[int, bytes]
    recorded: set[int] = field(default_factory=set)

    def todo(self) -> list[int]:
        """List the events to redact, or, where they are the parent's, to record as redacted."""
        return [
            seq
            for seq, line in self.lines.items()
            if tombstone.read_tombstone(line) is None or (seq <= self.inherited and seq not in self.recorded)
        ]

    def inherits(self) -> bool:
        """Tell whether any of the events is its parent's."""
        return min(self.lines) <= self.inherited


class _Redaction:
    """One redaction, with the store's lock held: what it found, and what it could not do."""

    def __init__(
        self, storage: SessionStorage, asked: _Log, reason: str, by: dict[str, Any] | None, patterns: Patterns | None
    ) -> None:
        self._storage, self._asked, self._reason, self._by = storage, asked, reason, by
        self._clean: Callable[[str], str] = patterns.replace if patterns else mark
        self.removed, self._calls = Removed(), set[str]()
        self._left: dict[str, None] = {}

    def run(self, seqs: Collection[int]) -> Redacted:
        """Redact. What needs the text comes before the logs lose it: a crash in between leaves it for the next call."""
        storage, asked = self._storage, self._asked
        lines = _read_with_origins(storage, asked, seqs)
        self._check(lines)
        copies = [copy for one in _relatives(storage, asked) if (copy := self._copy(one, lines)).lines]
        self._look_at(copies)
        folders = self._folders(copies)
        new = sorted({seq for copy in copies for seq in copy.todo()})
        if new:
            leaves = tuple(leaf.hex() for seq in new if (leaf := tombstone.leaf_of(lines[seq])))
            storage.registry.note(
                StoreEventsRedacted(
                    session_id=asked.log_id, targets=tuple(new), reason=self._reason, by=self._by, leaves=leaves
                )
            )
        for copy in copies:
            with self._noting(f"{_name(copy.log)}/quarantine"):
                storage.log.scrub(copy.log.log_id, self.removed.values(), trashed=copy.log.trashed)
        records, untouched = _clean_records(storage, folders, self._clean)
        self._redact_logs(copies)
        self._remove_derived(copies)
        self._check_catalog()
        logs = tuple(copy.log.log_id for copy in copies) if new else ()
        left = dict.fromkeys([*untouched, *self._left])
        return Redacted(asked.log_id, tuple(new), logs, tuple(records), tuple(left))

    @contextmanager
    def _noting(self, what: str) -> Iterator[None]:
        """Go on after an error, and name in `left` what was not done."""
        try:
            yield
        except (EventStoreError, OSError, ValueError, sqlite3.Error) as error:
            self._left[f"{what}: {error}"] = None

    def _check(self, lines: dict[int, bytes]) -> None:
        """Raise RedactionRefused for an event that cannot be redacted, unless it was redacted before."""
        for seq, line in lines.items():
            if tombstone.read_tombstone(line) is None:
                record_redaction(self._asked.log_id, seq, line, self._reason, self._by)

    def _copy(self, log: _Log, wanted: dict[int, bytes]) -> _Copy:
        """Read which of the events a log has; they are known by their leaf hashes."""
        if log == self._asked:
            return self._with_recorded(_Copy(log, self._inherited(log), wanted))
        lines: dict[int, bytes] = {}
        try:
            found = _read(self._storage, log, wanted)
            lines = {
                seq: line for seq, line in found.items() if tombstone.leaf_of(line) == tombstone.leaf_of(wanted[seq])
            }
            return self._with_recorded(_Copy(log, self._inherited(log) if lines else 0, lines))
        except SessionNotFound:
            return _Copy(log, 0, {})  # deleted meanwhile
        except LogDamaged as damage:
            self._left[f"{_name(log)}: {damage}"] = None
            return _Copy(log, 0, {})

    def _inherited(self, log: _Log) -> int:
        return 0 if log.trashed else self._storage.log.inherited(log.log_id)

    def _with_recorded(self, copy: _Copy) -> _Copy:
        if copy.lines and copy.inherits():
            after = _lines(self._storage, copy.log, min(copy.lines))
            copy.recorded = {one.target for one in map(codec.read_redaction, after) if one is not None}
        return copy

    def _look_at(self, copies: Iterable[_Copy]) -> None:
        """Collect what the events say, from any copy that still does."""
        seen = set[int]()
        for copy in copies:
            for seq, line in copy.lines.items():
                event = codec.decode(line)
                if seq in seen or isinstance(event, RedactedEvent):
                    continue
                seen.add(seq)
                self.removed.add(event)
                if isinstance(event, MessageAdded | InvocationLinked) and event.invocation_id is not None:
                    self._calls.add(event.invocation_id)

    def _folders(self, copies: Iterable[_Copy]) -> dict[str, None]:
        """Find the folders of the tool calls that the events belong to, wherever in the logs they are linked."""
        found: dict[str, None] = {}
        for copy in copies if self._calls else ():
            for line in _lines(self._storage, copy.log):
                event = codec.decode(line) if line.startswith(_LINKED) else None
                if isinstance(event, InvocationLinked) and event.invocation_dir and event.invocation_id in self._calls:
                    found[event.invocation_dir] = None
        return found

    def _redact_logs(self, copies: Iterable[_Copy]) -> None:
        """Redact in each log. Forks record it first: what their parent loses before would be tampering to them."""
        for copy in sorted(copies, key=lambda one: not one.inherits()):
            if not copy.todo():
                continue
            try:
                self._redact_log(copy)
            except (LogDamaged, SessionNotFound) as error:
                if copy.log == self._asked:
                    raise
                self._left[f"{_name(copy.log)}: {error}"] = None
            except EventStoreError as error:
                if copy.log == self._asked or copy.inherits():
                    raise
                self._left[f"{_name(copy.log)}: {error}"] = None

    def _redact_log(self, copy: _Copy) -> None:
        log, todo = copy.log, copy.todo()
        try:
            self._storage.log.redact(log.log_id, todo, self._reason, self._by, trashed=log.trashed)
        except RedactionRefused:  # a redaction that a crash cut short is finished by whoever locks the log
            copy.lines = _read(self._storage, log, copy.lines)
            again = self._with_recorded(copy).todo()
            if again == todo:
                raise
            if again:
                self._storage.log.redact(log.log_id, again, self._reason, self._by, trashed=log.trashed)

    def _remove_derived(self, copies: Iterable[_Copy]) -> None:
        """Make anew what is derived from the logs. Nothing in here may stop the rest."""
        storage = self._storage
        for copy in copies:
            with self._noting(f"{_name(copy.log)}: its views"):
                if copy.log.trashed:
                    storage.forget_trashed_views(copy.log.trashed)
                else:
                    storage.refresh_derived(copy.log.log_id)
        with self._noting("_adopt"):
            for root in _roots(storage):
                clear_stage(root)
        live = [copy.log.log_id for copy in copies if not copy.log.trashed]
        if not self._compact(live):
            with self._noting(CATALOG):
                storage.clear_caches()  # in use, or full: it is made anew by the next list

    def _compact(self, session_ids: Iterable[str]) -> bool:
        """Drop the sessions from lists, search and figures, and write their files anew; False where that failed."""
        try:
            self._storage.forget_found(session_ids)
            self._storage.compact()
        except (sqlite3.Error, OSError, EventStoreError):
            return False
        return True

    def _check_catalog(self) -> None:
        """Throw the catalogue away where a text is left in it: another program may have put it back meanwhile."""
        if isinstance(self._storage, FileSystemSessionStorage):
            names = [needle(name) for name in self.removed.names if not self._is_said(name)]
            with self._noting(CATALOG):
                if find_left([self._storage.sessions_dir / CATALOG], [*self.removed.needles(), *names]):
                    self._storage.clear_caches()

    def _is_said(self, name: str) -> bool:
        """Tell whether the log still has a name that a redacted event had too."""
        text = needle(name).pieces[0]
        return any(text in line for line in _lines(self._storage, self._asked))


def _still_there(storage: SessionStorage, removed: Removed, known: Collection[str]) -> list[str]:
    """Search every file of the store for texts; name those that hold one and are not known."""
    try:
        return [name for name in find_left(_roots(storage), removed.needles()) if name not in known]
    except OSError as error:
        return [f"the files of the store could not be searched: {error}"]


def _name(log: _Log) -> str:
    return f"_trash/{log.trashed}" if log.trashed else log.log_id


def _roots(storage: SessionStorage) -> list[Path]:
    """List the folders in which a store keeps files."""
    folders = [storage.sessions_dir] if isinstance(storage, FileSystemSessionStorage) else []
    return [*folders, *([storage.history.path] if storage.history is not None else [])]


def _clean_records(
    storage: SessionStorage, folders: Iterable[str], clean: Callable[[str], str]
) -> tuple[list[str], list[str]]:
    """Redact the records of tool calls; return their folders, and the names of what else lies there or failed."""
    records, left = list[str](), list[str]()
    history = storage.history
    for folder in folders if history is not None else ():
        assert history is not None  # noqa: S101 - asked before
        try:
            history.remove_unfinished(folder)
            left += [f"{folder}/{name}" for name in history.others(folder)]
            if history.redact(folder, clean):
                records.append(folder)
        except FileNotFoundError:
            continue
        except (OSError, ValueError) as error:
            left.append(f"{folder}: {error}")
    return records, left
