"""What a redaction would remove: a plan by patterns, and the logs that have the events."""

import re
from base64 import urlsafe_b64decode
from collections.abc import Callable, Collection, Container, Iterable, Iterator, Mapping
from contextlib import suppress
from dataclasses import dataclass, field
from functools import reduce
from itertools import chain, groupby, islice
from operator import or_
from typing import Any, NamedTuple, TypeVar

from eventstore.errors import LogDamaged, RedactionRefused, SessionNotFound
from eventstore.events import (
    Event,
    InvocationEvent,
    InvocationLinked,
    InvocationUnlinked,
    RecordPut,
    RedactedEvent,
    StoreEventsRedacted,
)
from eventstore.ids import TEMPLATE, id_of
from eventstore.log.redact import record_redaction
from eventstore.record import codec, tombstone
from eventstore.secret_patterns import Patterns, texts
from eventstore.store.pages import warn_damaged
from eventstore.store.storage import SessionStorage
from projections.calls import has_input
from projections.invocations import Invocation, merge

E = TypeVar("E", bound=Event)
_BASE64, _URL_SAFE = re.compile(r"[A-Za-z0-9+/_-]{16,}={0,2}"), str.maketrans("+/", "-_")
_PACKED = "it is inside of base64, where nothing can be replaced: redact the event by its number, or delete the session"


class Redactable(NamedTuple):
    """A match of a plan: event `seq` of a session or, if `seq` is 0, the record of a call in `folder`.

    `labels` are the kinds of secrets found, `shown` the beginning and end of each, so that the plan can be judged without them.
    `obstacle` is why the match cannot be redacted, if it cannot. `trashed` is the session's name in the trash, empty if it is
    not there. `patterns` found it, and remove it.
    """

    session_id: str
    seq: int
    type: str
    labels: tuple[str, ...]
    folder: str = ""
    trashed: str = ""
    obstacle: str = ""
    shown: tuple[str, ...] = ()
    patterns: Patterns | None = None

    def to_dict(self) -> dict[str, Any]:
        """Return what JSON can have: everything but the patterns, which may be the secrets themselves."""
        return {name: value for name, value in self._asdict().items() if name != "patterns"}


class Log(NamedTuple):
    """A log, and its name in the trash if it is there."""

    log_id: str
    trashed: str | None = None


@dataclass
class Copy:
    """A log that has the events. In a fork, the first `inherited` events are its parent's.

    `lines` are the lines of the events; `recorded` are the numbers of inherited events whose redaction the log records.
    """

    log: Log
    inherited: int
    lines: dict[int, bytes]
    recorded: set[int] = field(default_factory=set)

    def todo(self) -> list[int]:
        """List the events to redact, or, for the parent's events, to record as redacted."""
        return [
            seq
            for seq, line in self.lines.items()
            if tombstone.read_tombstone(line) is None or (seq <= self.inherited and seq not in self.recorded)
        ]

    def inherits(self) -> bool:
        """Return whether any of the events is its parent's."""
        return min(self.lines) <= self.inherited


def plan_redactions(
    storage: SessionStorage,
    patterns: Patterns,
    session_ids: Collection[str] | None = None,
    on_damage: Callable[[LogDamaged], None] = warn_damaged,
) -> Iterator[Redactable]:
    """Find what matches patterns, in the events and the tool calls' records of sessions (None: all, templates, the trash too).

    Events that a fork inherits are found in its parent. Changes nothing. Raises SessionNotFound and LogDamaged for
    named sessions. With None, a session that cannot be read is skipped and reported to `on_damage`.
    """
    for log in all_logs(storage) if session_ids is None else map(Log, session_ids):
        try:
            found = list(_plan_one(storage, patterns, log))
        except LogDamaged as damage:
            if session_ids is not None:
                raise
            on_damage(damage)
        except SessionNotFound:
            if session_ids is not None:
                raise  # with None: deleted in the meantime
        else:
            yield from found


def _plan_one(storage: SessionStorage, patterns: Patterns, log: Log) -> Iterator[Redactable]:
    since = inherited_of(storage, log)
    calls: dict[str, str] = {}
    derived = set[str]()
    for line in lines_of(storage, log, since):
        event = filled(storage, log, codec.decode(line))
        if isinstance(event, InvocationEvent) and event.invocation_dir:
            calls[event.invocation_id] = event.invocation_dir
        if has_input(event):
            derived.add(event.invocation_id)
        labels, shown = _found(patterns, event) if not isinstance(event, RedactedEvent) else ((), ())
        why_not = obstacle(log.log_id, event.seq, line) if labels else ""
        if not labels and isinstance(event, RecordPut):
            labels, shown = _found(patterns, list(_in_base64(event.value)))
            why_not = _PACKED
        if labels:
            name = log.trashed or ""
            yield Redactable(log.log_id, event.seq, event.type, labels, "", name, why_not, shown, patterns)
    # A record that is derived from events is cleaned with them.
    for folder in dict.fromkeys(folder for call, folder in calls.items() if call not in derived):
        yield from _plan_record(storage, patterns, log, folder)


def _plan_record(storage: SessionStorage, patterns: Patterns, log: Log, folder: str) -> Iterator[Redactable]:
    if storage.history is None:
        return
    try:
        record = storage.history.read(folder)
    except (OSError, ValueError):
        return
    labels, shown = _found(patterns, [record.arguments, record.result, record.error])
    if labels:
        yield Redactable(log.log_id, 0, "record", labels, folder, log.trashed or "", "", shown, patterns)


def _found(patterns: Patterns, value: Any) -> tuple[tuple[str, ...], tuple[str, ...]]:
    """Return the labels of what is found in a value, and how it is shown."""
    found = list(patterns.secrets(value))
    labels, shown = (dict.fromkeys(label for label, _ in found), dict.fromkeys(_masked(text) for _, text in found))
    return tuple(labels), tuple(shown)


def _in_base64(value: Any) -> Iterator[str]:
    """Stream what the base64 texts in a record hold, as text: savers of frameworks keep the bytes of a format of their own so."""
    if isinstance(value, bytes):
        yield value.decode("utf-8", "replace")
        return
    for text in texts(value, keys=False):
        if _BASE64.fullmatch(text):
            with suppress(ValueError):
                yield urlsafe_b64decode(text.translate(_URL_SAFE)).decode("utf-8", "replace")


def searched(plan: Iterable[Redactable], given: Patterns | None) -> Patterns:
    """Return what finds all that the entries of a plan found; for entries made by hand, also what is given, else `SECRETS`."""
    plan = list(plan)
    own = dict.fromkeys(one.patterns for one in plan if one.patterns is not None)
    if given is None and any(one.patterns is None for one in plan):
        given = Patterns()
    return reduce(or_, [*own, *([given] if given is not None else [])])


def check_found(
    storage: SessionStorage, log: Log, plan: Iterable[Redactable], patterns: Patterns, *, inside: bool
) -> None:
    """Raise RedactionRefused if an entry that does not know its patterns names a secret that these do not find.

    It would be kept with the rest of the event. With `inside`, they must find something.
    """
    for one in plan:
        line = next(lines_of(storage, log, one.seq - 1, one.seq), None) if one.patterns is None else None
        if line is None or isinstance(event := codec.decode(line), RedactedEvent):
            continue
        labels, _ = _found(patterns, filled(storage, log, event))
        if not set(one.labels) <= set(labels) or (inside and not labels):
            raise RedactionRefused(
                log.log_id, one.seq, "the patterns do not find in it what the plan did: give the plan's"
            )


def _masked(text: str) -> str:
    """Return the beginning and the end of a text, of a short one less, and how long it is."""
    kept = min(4, len(text) // 6)
    return f"{text[:kept]}…{text[-(kept // 2) :] if kept // 2 else ''} ({len(text)} characters)"


def obstacle(session_id: str, seq: int, line: bytes) -> str:
    """Return why a line cannot be redacted, or was redacted before; empty where it can be."""
    try:
        record_redaction(session_id, seq, line, "", None)
    except RedactionRefused as refused:
        return refused.reason
    return ""


def lines_of(storage: SessionStorage, log: Log, after: int = 0, upto: int | None = None) -> Iterator[bytes]:
    """Stream the lines of a log, also of one in the trash, without their LF. Raises SessionNotFound, LogDamaged."""
    if log.trashed is None:
        return storage.log.lines(log.log_id, after, upto)
    return islice(storage.log.trashed_lines(log.trashed), after, upto)


def all_logs(storage: SessionStorage) -> Iterator[Log]:
    """Stream all logs that have content: sessions, templates, the trash."""
    log = storage.log
    names = chain(sorted(log.ids()), (TEMPLATE + name for name in storage.templates()))
    return chain(map(Log, names), (Log(id_of(name), name) for name in log.trashed()))


def facts_lost(lines: Iterable[tuple[int, bytes]], gone: Container[int], calls: Container[str]) -> list[Event]:
    """Return events that record what a log would lose about some calls with the events `gone`: tool, folder, duration, success.

    That is for calls whose start is an event: their other events may all have free text.
    """
    before, after, started = dict[str, Invocation](), dict[str, Invocation](), set[str]()
    for seq, line in lines:
        event = codec.decode(line) if line.startswith(codec.INVOCATION) else None
        if isinstance(event, InvocationUnlinked):
            before.pop(event.invocation_id, None)
        if not isinstance(event, InvocationEvent) or event.invocation_id not in calls:
            continue
        name = event.invocation_id
        before[name] = merge(before.get(name), event)
        if has_input(event):
            started.add(name)
        if seq not in gone:
            after[name] = merge(after.get(name), event)
    found: list[Event] = []
    for name, call in before.items():
        known = after.get(name)
        lost = {one: getattr(call, one) for one in _FACTS if known is None or getattr(known, one) is None}
        if name in started and (known is None or any(value is not None for value in lost.values())):
            found.append(InvocationLinked(invocation_id=name, occurred_at=call.time, **lost))
    return found


_FACTS = ("tool_name", "invocation_dir", "duration_ms", "success")


def filled(storage: SessionStorage, log: Log, event: E) -> E:
    """Return an event with its large values filled in, as far as they exist."""
    with suppress(LogDamaged, SessionNotFound):
        (event,) = storage.log.with_values(log.log_id, [event], trashed=log.trashed)
    return event


def relatives(storage: SessionStorage, asked: Log) -> Iterator[Log]:
    """Stream the logs that may share events with the given log; the given log comes first.

    Without any fork in the store, only logs of the same id can: a session in the trash may also have come from an archive.
    """
    yield asked
    has_forks = storage.registry.state().forks > 0
    root = None if asked.trashed or not has_forks else storage.log.root_of(asked.log_id)
    for one in all_logs(storage):
        if one == asked or not (has_forks or one.log_id == asked.log_id):
            continue
        if one.trashed or root is None or _root_of(storage, one) in (None, root):
            yield one


def _root_of(storage: SessionStorage, log: Log) -> str | None:
    """Return the root of a log's chain; None if it cannot be read."""
    with suppress(SessionNotFound, LogDamaged):
        return storage.log.root_of(log.log_id)
    return None


def read_lines(storage: SessionStorage, log: Log, seqs: Iterable[int]) -> dict[int, bytes]:
    """Read lines by their numbers, neighbours in one read; skip missing ones."""
    found: dict[int, bytes] = {}
    wanted = sorted(seq for seq in seqs if seq > 0)
    runs = groupby(enumerate(wanted), key=lambda pair: pair[1] - pair[0])
    for run in ([seq for _, seq in pairs] for _, pairs in runs):
        found.update(zip(run, lines_of(storage, log, run[0] - 1, run[-1]), strict=False))
    return found


def read_with_origins(storage: SessionStorage, log: Log, seqs: Collection[int]) -> dict[int, bytes]:
    """Read lines, and the lines of the same append that have the foreign lines they came from. Raises RedactionRefused."""
    found = read_lines(storage, log, seqs)
    for seq in sorted(seqs):
        if seq not in found:
            raise RedactionRefused(log.log_id, seq, "there is no such event")
    batches = [(seq, event.batch) for seq, line in found.items() if (event := codec.decode(line)).batch]
    mates = {other for seq, batch in batches if batch for other in range(seq - batch[0], seq - batch[0] + batch[1])}
    for seq, line in read_lines(storage, log, mates - found.keys()).items():
        if codec.decode(line).origin is not None:
            found[seq] = line
    return dict(sorted(found.items()))


def inherited_of(storage: SessionStorage, log: Log) -> int:
    """Return how many events of a log are its parent's; a session in the trash has all events itself."""
    return 0 if log.trashed else storage.log.inherited(log.log_id)


def leaves_of(lines: Mapping[int, bytes]) -> set[bytes]:
    """Return the leaf hashes of lines."""
    return {leaf for line in lines.values() if (leaf := tombstone.leaf_of(line))}


def check_redactable(log_id: str, lines: Mapping[int, bytes]) -> None:
    """Raise RedactionRefused for a line that cannot be redacted, by its number; one that was redacted before is no error."""
    for seq, line in lines.items():
        if tombstone.read_tombstone(line) is None:
            record_redaction(log_id, seq, line, "", None)


def holder_of(storage: SessionStorage, record: StoreEventsRedacted) -> Log | None:
    """Return a log that has the events of a recorded redaction, or their tombstones: if it is there, the session's own."""
    first, leaves = min(record.targets), {bytes.fromhex(leaf) for leaf in record.leaves}
    for one in chain([Log(record.session_id)], all_logs(storage)):
        with suppress(SessionNotFound, LogDamaged):
            line = next(lines_of(storage, one, first - 1, first), None)
            if line is not None and tombstone.leaf_of(line) in leaves:
                return one
    return None
