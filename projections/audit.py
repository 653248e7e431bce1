"""A session for an auditor: who did what, when, with which tool, input and result; and what was redacted.

Two passes over the events: `projection` folds an index of the session, then `entries` streams entries with this index.
"""

from collections import Counter, deque
from collections.abc import Iterable, Iterator
from copy import deepcopy
from dataclasses import dataclass, field
from typing import Any, Literal, TypeAlias

import msgspec
from msgspec import json

from eventstore import events as e
from projections import calls, usage
from projections import summary as summary_fold
from projections.fold import Fold

Kind: TypeAlias = Literal["message", "call", "usage", "session", "data", "log", "redacted", "unknown"]
"""The subject of an entry: a message, a tool call, usage, the session, its data, its log, a redaction, an unknown event."""
State: TypeAlias = Literal["done", "unfinished", "unexplained"]
"""A redaction is `done`; recorded but `unfinished`, so the text is still there; or `unexplained`: the text is missing, but no
matching event records it."""

# Bounds on memory: entries wait in order after an unfinished call only up to these limits.
_HELD_ENTRIES, _HELD_CHARACTERS = 1000, 4_000_000
_MOST_NAMES = 1000  # actors and models are chosen by the writer, so their number is unbounded


@dataclass(frozen=True, slots=True)
class Removal:
    """The redaction of event `target`. `type` and `at` are those of the redacted event.

    `recorded_in` is the seq of the event that records the redaction, `recorded_at` its time, `by` its actor. They are 0 and
    empty if no event records it.
    """

    target: int
    state: State
    type: str = ""
    at: str = ""
    recorded_in: int = 0
    recorded_at: str = ""
    by: str = ""
    reason: str = ""


@dataclass(frozen=True, slots=True)
class Entry:
    """One action, recorded by the events `seqs`. Times are RFC 3339, `duration_ms` is in milliseconds.

    `time` is the time of the first event, `ended` that of the last. `input` and `result` of a call are None if the log does not
    have them. `tokens` and `cost` are what the event adds to the totals: a repeated usage event adds nothing.
    """

    seqs: tuple[int, ...]
    time: str
    ended: str
    kind: Kind
    who: str
    what: str
    actor: str = ""
    text: str = ""
    tool_name: str | None = None
    input: str | None = None
    result: str | None = None
    error: str | None = None
    folder: str | None = None
    invocation_id: str | None = None
    success: bool | None = None
    duration_ms: float | None = None
    tokens: dict[str, int] = field(default_factory=dict)
    cost: float | None = None
    model: str | None = None
    removal: Removal | None = None
    by: dict[str, Any] = field(default_factory=dict)


@dataclass(slots=True)
class Index:
    """Facts of the entire session that single entries need.

    - `summary`: the figures, the same as `get_session_statistics`.
    - `parts`: the number of events of each call. `failed`: the calls that failed.
    - `tombstones`: the redacted events as (type, time, leaf), by seq.
    - `redactions`: the events that record redactions, by their target.
    - `actors` and `models`: the number of events by name, for at most the first 1,000 names.
    """

    summary: summary_fold.State = field(default_factory=summary_fold.State)
    version: int = 0
    first_at: str = ""
    last_at: str = ""
    hash: str = ""
    kinds: Counter[str] = field(default_factory=Counter)
    actors: Counter[str] = field(default_factory=Counter)
    models: Counter[str] = field(default_factory=Counter)
    parts: Counter[str] = field(default_factory=Counter)
    failed: set[str] = field(default_factory=set)
    tombstones: dict[int, tuple[str, str, str]] = field(default_factory=dict)
    redactions: dict[int, list[e.EventRedacted]] = field(default_factory=dict)
    checkpoint: e.CheckpointSigned | None = None
    repairs: list[e.LogRepaired] = field(default_factory=list)
    unknown: int = 0

    def copy(self) -> "Index":
        """Return an independent state."""
        return deepcopy(self)

    def removal(self, target: int) -> Removal | None:
        """Return the redaction of an event, or None if it was not redacted."""
        tombstone, recorded = self.tombstones.get(target), self.redactions.get(target, [])
        if tombstone is None and not recorded:
            return None
        matching = [one for one in recorded if tombstone is None or one.leaf == tombstone[2]]
        one = matching[0] if matching else None
        state: State = "unfinished" if tombstone is None else "done" if one else "unexplained"
        kind, at = tombstone[:2] if tombstone else ("", "")
        if one is None:
            return Removal(target, state, kind, at)
        return Removal(target, state, kind, at, one.seq, one.time, _actor(one), one.reason)

    def removals(self) -> Iterator[Removal]:
        """Stream all redactions, in the order of the redacted events."""
        for target in sorted({*self.tombstones, *self.redactions}):
            found = self.removal(target)
            if found is not None:
                yield found


def apply(state: Index, event: e.Event) -> None:
    """Apply one event."""
    leaf = redacted_leaf(event)
    summary_fold.apply(state.summary, event)
    state.version, state.hash, state.last_at = event.seq, event.hash, event.at
    state.first_at = state.first_at or event.at
    state.kinds[event.type] += 1
    _count(state.actors, _actor(event))
    if leaf is not None:
        state.tombstones[event.seq] = event.type, event.at, leaf
    elif isinstance(event, e.UnknownEvent):
        state.unknown += 1
    elif isinstance(event, e.EventRedacted):
        if event.target < event.seq:
            state.redactions.setdefault(event.target, []).append(event)
    elif isinstance(event, e.UsageRecorded):
        _count(state.models, event.model or "")
    elif isinstance(event, e.CheckpointSigned):
        state.checkpoint = event
    elif isinstance(event, e.LogRepaired):
        state.repairs.append(event)
    else:
        _count_call(state, event)


projection: Fold[Index] = Fold(Index, Index.copy, apply)
"""The index of a session."""


def _count_call(state: Index, event: e.Event) -> None:
    invocation_id = calls.call_of(event)
    if invocation_id is not None:
        state.parts[invocation_id] += 1
        if isinstance(event, e.InvocationLinked) and event.success is not None:
            (state.failed.discard if event.success else state.failed.add)(invocation_id)


def _count(names: Counter[str], name: str) -> None:
    if name and (name in names or len(names) < _MOST_NAMES):
        names[name] += 1


def _actor(event: e.Event) -> str:
    actor = (event.by or {}).get("actor")
    return actor if isinstance(actor, str) else ""


def redacted_leaf(event: e.Event) -> str | None:
    """Return the leaf hash, 64 hex digits, of a redacted event; None for any other event."""
    return event.leaf if isinstance(event, e.RedactedEvent) else None


# --- entries


@dataclass(slots=True)
class _Open:
    """A call some of whose events are still to come. `left` is their number."""

    call: calls.Call
    left: int
    last: str = ""
    seqs: list[int] = field(default_factory=list)
    characters: int = 0
    by: dict[str, Any] = field(default_factory=dict)
    is_late: bool = False

    def add(self, event: e.Event) -> int:
        """Add an event of the call; return the number of characters it holds."""
        self.call.add(event)
        self.seqs.append(event.seq)
        self.left -= 1
        self.last = max(self.last, event.time)
        self.by = {**(event.by or {}), **self.by}
        held = _held(event)
        self.characters += held
        return held

    def close(self) -> Entry:
        """Return the call as one entry."""
        call, known, actor = self.call, self.call.known, self.by.get("actor")
        success = known.success
        outcome = {None: "called a tool", True: "called a tool: succeeded", False: "called a tool: failed"}[success]
        return Entry(
            seqs=tuple(self.seqs),
            time=call.start,
            ended=self.last,
            kind="call",
            who="assistant",
            what="called a tool: no end recorded" if known.is_open else outcome,
            actor=actor if isinstance(actor, str) else "",
            tool_name=call.tool_name,
            input=call.input.text,
            result=call.result.text,
            error=known.error,
            folder=known.invocation_dir,
            invocation_id=call.invocation_id,
            success=success,
            duration_ms=known.duration_ms,
            by=self.by,
        )


def _held(event: e.Event) -> int:
    """Return about how many characters of input or result an event of a call holds."""
    if isinstance(event, e.MessageAdded):
        return len(event.content)
    values = (getattr(event, name, msgspec.UNSET) for name in ("input", "result"))
    return sum(
        len(one) if isinstance(one, str) else 0 if one is msgspec.UNSET else len(json.encode(one)) for one in values
    )


class _Held:
    """Entries in the order they began, held back while an earlier call is open.

    When too many wait, they are released and the open call becomes `is_late`: it follows once it is complete.
    """

    def __init__(self) -> None:
        self._queue: deque[tuple[_Open | Entry, int]] = deque()
        self._characters = 0
        self._calls: dict[str, _Open] = {}

    def add(self, entry: Entry) -> Iterator[Entry]:
        """Add a complete entry; stream the entries that can be released."""
        self._push(entry, len(entry.text))
        return self._ready()

    def add_part(self, invocation_id: str, event: e.Event, parts: int) -> Iterator[Entry]:
        """Add one of `parts` events of a call; stream the entries that can be released."""
        call = self._calls.get(invocation_id)
        if call is None:
            call = self._calls[invocation_id] = _Open(calls.Call(invocation_id, event.seq, event.time), parts)
            self._push(call, 0)
        size = call.add(event)
        if not call.is_late:
            self._characters += size
        if call.left <= 0:
            del self._calls[invocation_id]
            if call.is_late:
                yield call.close()
        yield from self._ready()

    def rest(self) -> Iterator[Entry]:
        """Stream everything still held, complete or not."""
        late = [call for call in self._calls.values() if call.is_late]
        for one in [*late, *(one for one, _ in self._queue)]:
            yield one.close() if isinstance(one, _Open) else one

    def _push(self, one: _Open | Entry, size: int) -> None:
        self._queue.append((one, size))
        self._characters += size

    def _ready(self) -> Iterator[Entry]:
        while self._queue:
            one, size = self._queue[0]
            if isinstance(one, _Open):
                size = one.characters
                is_full = len(self._queue) > _HELD_ENTRIES or self._characters > _HELD_CHARACTERS
                if one.left > 0 and not is_full:
                    return
            self._queue.popleft()
            self._characters -= size
            if isinstance(one, Entry):
                yield one
            elif one.left <= 0:
                yield one.close()
            else:
                one.is_late = True


def entries(events: Iterable[e.Event], index: Index) -> Iterator[Entry]:
    """Stream the entries in the order they began. `index` is the fold of the same events.

    Memory holds at most 1,000 entries or four million characters, plus the open calls. A call that would make others wait
    longer comes later, when it is complete.
    """
    held, uses = _Held(), dict[str, usage.Use]()
    for event in events:
        invocation_id = calls.call_of(event)
        if invocation_id is not None:
            yield from held.add_part(invocation_id, event, index.parts[invocation_id])
        elif isinstance(event, e.UsageRecorded):
            added, use = usage.merge(uses.get(event.key) if event.key is not None else None, event.tokens, event.cost)
            if event.key is not None:
                uses[event.key] = use
            tokens, cost = {kind: count for kind, count in added.tokens.items() if count > 0}, added.cost
            what = "used tokens" if tokens or cost else "repeats earlier usage: adds nothing"
            yield from held.add(_entry(event, "usage", "model", what, tokens=tokens, cost=cost, model=event.model))
        elif redacted_leaf(event) is not None:
            removal = index.removal(event.seq)
            yield from held.add(_entry(event, "redacted", "", f"redacted {event.type}", removal=removal))
        else:
            kind, who, what, text = _describe(event)
            yield from held.add(_entry(event, kind, who, what, text))
    yield from held.rest()


def _entry(event: e.Event, kind: Kind, who: str, what: str, text: str = "", **more: Any) -> Entry:
    first = (event.seq,), event.time, event.time, kind, who, what, _actor(event), text
    return Entry(*first, by=event.by or {}, **more)


def _describe(event: e.Event) -> tuple[Kind, str, str, str]:
    match event:
        case e.MessageAdded():
            return "message", event.role, "said", event.content
        case e.ReasoningRecorded():
            return "message", "assistant", "thought", event.content
        case e.SessionCreated():
            return "session", "session", "forked" if event.forked_from else "created", _fields(event)
        case e.SessionCompleted():
            return "session", "session", f"ended: {event.status}", event.reason or ""
        case e.ForeignRecorded():
            return "unknown", "import", "kept a foreign line", _origin(event)
        case e.LogRepaired():
            cut = f"{event.removed_bytes:,} bytes from byte {event.offset_bytes:,} moved to {event.quarantine}"
            return "log", "log", "repaired", f"{cut}: {event.reason}"
        case e.EventRedacted():
            return "redacted", "log", f"redacted event {event.target}", event.reason
        case e.CheckpointSigned():
            return "log", "log", f"checkpoint over {event.size:,} events", event.note
        case e.UnknownEvent():
            text = event.raw.decode("utf-8", "backslashreplace")
            return "unknown", "unknown", f"{event.known_as}: not known to this release", text
        case _:
            kind: Kind = "data" if event.type.startswith("data.") else "session"
            return kind, "store" if event.type.startswith("store.") else "session", _named(event), _fields(event)


def _named(event: e.Event) -> str:
    noun, _, verb = event.type.partition(".")
    return verb.replace("_", " ") if noun in ("session", "store") else f"{noun} {verb}"


def _fields(event: e.Event) -> str:
    """Return the fields of an event without its envelope as JSON text, without empty ones."""
    names = event.__struct_fields__[len(e.Event.__struct_fields__) :]
    own = {name: getattr(event, name) for name in names}
    shown = {name: value for name, value in own.items() if value not in (None, (), {}, False, msgspec.UNSET)}
    return json.encode(shown).decode() if shown else ""


def _origin(event: e.Event) -> str:
    if event.origin is None:
        return ""
    return event.origin.line if event.origin.line is not None else f"(base64) {event.origin.line_base64}"
