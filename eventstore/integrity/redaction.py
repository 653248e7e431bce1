"""Redaction: what was said goes for good, out of the log and all that is made of it; what went, when, why and by whom stays.

A session's events may be in the files of others: of those it was forked from, of its forks, and of sessions in the trash. All are
redacted together, and each tells of it.
"""

from collections.abc import Callable, Collection, Iterable, Iterator, Sequence
from contextlib import suppress
from dataclasses import dataclass, field
from itertools import chain
from typing import Any, NamedTuple

from msgspec import json

from eventstore.errors import LogDamaged, RedactionRefused, SessionNotFound
from eventstore.events import Event, InvocationLinked, MessageAdded, RedactedEvent, StoreEventsRedacted
from eventstore.ids import TEMPLATE, id_of
from eventstore.log.batch import tell_redaction
from eventstore.record import codec
from eventstore.secret_patterns import Patterns, texts
from eventstore.store.pages import tell_damage
from eventstore.store.storage import SessionStorage

MARK = "[redacted]"
_SHORTEST_NEEDLE = 4
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

    Events that were redacted before are not among them. `left` names what it did not touch and somebody should look at.
    """

    session_id: str
    seqs: tuple[int, ...]
    logs: tuple[str, ...] = ()
    records: tuple[str, ...] = ()
    left: tuple[str, ...] = ()


class _Holder(NamedTuple):
    """A log that has the events, and the name it has in the trash, if it is there."""

    log_id: str
    trashed: str | None = None


@dataclass
class _Work:
    """What the redacted events held: texts to be sought elsewhere, and the folders of their calls, with what to do to each."""

    texts: set[str] = field(default_factory=set)
    calls: dict[str, None] = field(default_factory=dict)
    folders: dict[str, None] = field(default_factory=dict)

    def needles(self) -> list[bytes]:
        """Give the texts as they may stand in files, the longest first."""
        long = [text for text in self.texts if len(text) >= _SHORTEST_NEEDLE]
        found = {form for text in long for form in (json.encode(text)[1:-1], text.encode("utf-8", "replace"))}
        return sorted(found, key=len, reverse=True)


def plan_redactions(
    storage: SessionStorage,
    patterns: Patterns,
    session_ids: Collection[str] | None = None,
    on_damage: Callable[[LogDamaged], None] = tell_damage,
) -> Iterator[Redactable]:
    """Find what matches patterns, in the events and the tool calls' records of sessions (None: all, templates, the trash too).

    What a fork has of its parent is found there. Changes nothing. Raises SessionNotFound and LogDamaged for sessions that are
    named; of all, nothing is planned for one that cannot be read, and `on_damage` hears of it.
    """
    for holder in _all_logs(storage) if session_ids is None else map(_Holder, session_ids):
        try:
            found = list(_plan_one(storage, patterns, holder))
        except LogDamaged as damage:
            if session_ids is not None:
                raise
            on_damage(damage)
        except SessionNotFound:
            if session_ids is not None:
                raise  # of all: deleted meanwhile
        else:
            yield from found


def _plan_one(storage: SessionStorage, patterns: Patterns, holder: _Holder) -> Iterator[Redactable]:
    since = 0 if holder.trashed else storage.log.inherited(holder.log_id)
    calls: dict[str, str] = {}
    for line in _lines(storage, holder, since):
        event = codec.decode(line)
        if isinstance(event, InvocationLinked) and event.invocation_dir:
            calls[event.invocation_id] = event.invocation_dir
        labels = _labels(patterns, texts(event)) if not isinstance(event, RedactedEvent) else ()
        if labels:
            obstacle = _obstacle(holder.log_id, event.seq, line)
            name = holder.trashed or ""
            yield Redactable(holder.log_id, event.seq, event.type, labels, trashed=name, obstacle=obstacle)
    for folder in dict.fromkeys(calls.values()):
        yield from _plan_record(storage, patterns, holder, folder)


def _plan_record(storage: SessionStorage, patterns: Patterns, holder: _Holder, folder: str) -> Iterator[Redactable]:
    if storage.history is None:
        return
    try:
        record = storage.history.read(folder)
    except (OSError, ValueError):
        return
    labels = _labels(patterns, texts([record.arguments, record.result, record.error]))
    if labels:
        yield Redactable(holder.log_id, 0, "record", labels, folder, holder.trashed or "")


def _labels(patterns: Patterns, found: Iterable[str]) -> tuple[str, ...]:
    return tuple(dict.fromkeys(label for text in found for _, _, label in patterns.find(text)))


def _obstacle(session_id: str, seq: int, line: bytes) -> str:
    try:
        tell_redaction(session_id, seq, line, "", None)
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
    quarantine, and the records of the tool calls that the events tell of (with `patterns` only what matches in them). An event
    that came out of an imported line takes that line along. What was redacted before is gone over again.

    Raises RedactionRefused, where an event has no text, or is one that the log cannot do without; SessionNotFound, LogDamaged.
    Nothing is changed then.
    """
    if not reason or not reason.strip():
        raise RedactionRefused(session_id, min(seqs, default=0), "no reason was given")
    with storage.lineages.locked():
        asked = _Holder(session_id, trashed)
        wanted = sorted(_with_origins(storage, asked, set(seqs)))
        lines = {seq: _line(storage, asked, seq) for seq in wanted}
        work = _look_at(session_id, lines, by, reason)
        work.folders.update(_folders(storage, asked, work.calls))
        leaves = {seq: codec.leaf_of(line) for seq, line in lines.items()}
        holders = {one: _held(storage, one, leaves) for one in _relatives(storage, asked)}
        todo = {one: left for one, held in holders.items() if (left := _left_in(storage, one, held))}
        new = sorted({seq for left in todo.values() for seq in left})
        if new:
            told = StoreEventsRedacted(session_id=session_id, targets=tuple(new), reason=reason, by=by)
            storage.lineages.note(told)
        for one, left in sorted(todo.items(), key=lambda pair: not _inherits(storage, *pair)):
            _redact_in(storage, one, left, reason, by)
        for one, held in holders.items():
            if held:
                _redo(storage, one, work)
        storage.compact()
        records, untouched = _redact_records(storage, work, patterns)
    logs = tuple(one.log_id for one, held in holders.items() if held) if new else ()
    return Redacted(session_id, tuple(new), logs, tuple(records), tuple(untouched))


def redact_plan(
    storage: SessionStorage,
    plan: Iterable[Redactable],
    patterns: Patterns,
    reason: str,
    by: dict[str, Any] | None = None,
) -> list[Redacted]:
    """Carry out a plan: what has an obstacle is left out. Raises as `redact` does; what was done before that stays done."""
    seqs: dict[tuple[str, str], list[int]] = {}
    folders: dict[str, dict[str, None]] = {}
    for one in plan:
        if one.obstacle:
            continue
        if one.seq:
            seqs.setdefault((one.session_id, one.trashed), []).append(one.seq)
        else:
            folders.setdefault(one.session_id, {})[one.folder] = None
    done = [
        redact(storage, session_id, found, reason, by, trashed=trashed or None, patterns=patterns)
        for (session_id, trashed), found in seqs.items()
    ]
    for session_id, names in folders.items():
        storage.lineages.note(StoreEventsRedacted(session_id=session_id, targets=(), reason=reason, by=by))
        records, left = _clean_records(storage, names, patterns.replace)
        if records or left:
            done.append(Redacted(session_id, (), (), tuple(records), tuple(left)))
    return done


# --- which events, in which logs


def _lines(storage: SessionStorage, holder: _Holder, after: int = 0) -> Iterator[bytes]:
    if holder.trashed:
        return storage.log.trashed_lines(holder.trashed)
    return storage.log.lines(holder.log_id, after)


def _line(storage: SessionStorage, holder: _Holder, seq: int) -> bytes:
    """Read one line. Raises RedactionRefused where it is not there."""
    found = _line_or_none(storage, holder, seq)
    if found is None:
        raise RedactionRefused(holder.log_id, seq, "there is no such event")
    return found


def _line_or_none(storage: SessionStorage, holder: _Holder, seq: int) -> bytes | None:
    if seq < 1:
        return None
    if holder.trashed:
        return next((line for number, line in enumerate(_lines(storage, holder), 1) if number == seq), None)
    return next(storage.log.lines(holder.log_id, seq - 1, seq), None)


def _with_origins(storage: SessionStorage, holder: _Holder, seqs: set[int]) -> set[int]:
    """Add the events of the same append that hold the foreign lines the wanted ones came from."""
    found = set(seqs)
    for seq in seqs:
        event = codec.decode(_line(storage, holder, seq))
        if event.batch is None or event.origin is not None:
            continue
        first = seq - event.batch[0]
        for other in range(first, first + event.batch[1]):
            line = _line_or_none(storage, holder, other)
            if line is not None and codec.decode(line).origin is not None:
                found.add(other)
    return found


def _look_at(session_id: str, lines: dict[int, bytes], by: dict[str, Any] | None, reason: str) -> _Work:
    """See what the events hold, and that each can be redacted, unless it was before. Raises RedactionRefused."""
    work = _Work()
    for seq, line in lines.items():
        event = codec.decode(line)
        if isinstance(event, RedactedEvent):
            continue
        tell_redaction(session_id, seq, line, reason, by)
        work.texts.update(_own_texts(event))
        if isinstance(event, MessageAdded | InvocationLinked) and event.invocation_id is not None:
            work.calls[event.invocation_id] = None
    return work


def _folders(storage: SessionStorage, holder: _Holder, calls: Collection[str]) -> Iterator[tuple[str, None]]:
    """Find the folders of tool calls, of which the log tells anywhere."""
    if calls:
        for line in _lines(storage, holder):
            event = codec.decode(line) if line.startswith(_LINKED) else None
            if isinstance(event, InvocationLinked) and event.invocation_dir and event.invocation_id in calls:
                yield event.invocation_dir, None


def _own_texts(event: Event) -> Iterator[str]:
    """Stream what an event says, not the names that other events have too."""
    names = {getattr(event, name, None) for name in ("role", "tool_name", "invocation_id", "key", "model", "id")}
    return (text for text in texts(event) if text not in names)


def _all_logs(storage: SessionStorage) -> Iterator[_Holder]:
    log = storage.log
    names = chain(sorted(log.ids()), (TEMPLATE + name for name in storage.templates()))
    return chain(map(_Holder, names), (_Holder(id_of(name), name) for name in log.trashed()))


def _relatives(storage: SessionStorage, asked: _Holder) -> list[_Holder]:
    """List the logs that may have events of the one that is asked for, itself first."""
    if not storage.lineages.state().forks:
        return [asked]
    root = None if asked.trashed else storage.log.root_of(asked.log_id)
    others = (one for one in _all_logs(storage) if one != asked)
    return [asked, *(one for one in others if one.trashed or root is None or _root_of(storage, one) == root)]


def _root_of(storage: SessionStorage, holder: _Holder) -> str | None:
    with suppress(SessionNotFound, LogDamaged):
        return storage.log.root_of(holder.log_id)
    return None


def _held(storage: SessionStorage, holder: _Holder, leaves: dict[int, bytes | None]) -> list[int]:
    """Tell which of the events a log has, by their leaf hashes."""
    found = []
    with suppress(SessionNotFound, LogDamaged):
        for seq, leaf in leaves.items():
            line = _line_or_none(storage, holder, seq)
            if line is not None and codec.leaf_of(line) == leaf:
                found.append(seq)
    return found


# --- doing it


def _inherits(storage: SessionStorage, holder: _Holder, left: Sequence[int]) -> bool:
    """Tell whether a log has any of the events by reference: it tells of them first, before they go where they are."""
    return not holder.trashed and storage.log.inherited(holder.log_id) >= left[0]


def _redact_in(
    storage: SessionStorage, holder: _Holder, left: Sequence[int], reason: str, by: dict[str, Any] | None
) -> None:
    try:
        storage.log.redact(holder.log_id, left, reason, by, trashed=holder.trashed)
    except RedactionRefused:  # one that a crash had cut short was finished by this very look
        again = _left_in(storage, holder, left)
        if again == left:
            raise
        if again:
            storage.log.redact(holder.log_id, again, reason, by, trashed=holder.trashed)


def _left_in(storage: SessionStorage, holder: _Holder, held: Sequence[int]) -> list[int]:
    """Tell which of the events are still to be redacted in a log, or, where they are its parent's, to be told of."""
    inherited = 0 if holder.trashed or not held else storage.log.inherited(holder.log_id)
    left = [seq for seq in held if codec.read_stub(_line(storage, holder, seq)) is None]
    if inherited and held[0] <= inherited:
        telling = filter(None, map(codec.read_redaction, storage.log.lines(holder.log_id, held[0])))
        told = {one.target for one in telling}
        left += [seq for seq in held if seq <= inherited and seq not in told and seq not in left]
    return sorted(left)


def _redo(storage: SessionStorage, holder: _Holder, work: _Work) -> None:
    """Make anew what is made of a log, and scrub what repairs kept beside it."""
    storage.log.scrub(holder.log_id, work.needles(), trashed=holder.trashed)
    if holder.trashed:
        storage.forget_trashed_views(holder.trashed)
    else:
        storage.redone(holder.log_id)


def _redact_records(storage: SessionStorage, work: _Work, patterns: Patterns | None) -> tuple[list[str], list[str]]:
    """Redact the records of the calls that the events told of."""
    clean: Callable[[str], str] = patterns.replace if patterns else lambda text: MARK if text else text
    return _clean_records(storage, work.folders, clean)


def _clean_records(
    storage: SessionStorage, folders: Iterable[str], clean: Callable[[str], str]
) -> tuple[list[str], list[str]]:
    records, left = list[str](), list[str]()
    history = storage.history
    if history is None:
        return records, left
    for folder in folders:
        try:
            if history.redact(folder, clean):
                records.append(folder)
            left += [f"{folder}/{name}" for name in history.others(folder)]
        except FileNotFoundError:
            continue
        except (OSError, ValueError) as error:
            left.append(f"{folder}: {error}")
    return records, left
