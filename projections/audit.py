"""A session for an auditor: who did what, when, with which tool, on what input, with what result; and what was removed.

Read a session twice: `projection` folds what only the whole can tell, then `entries` streams with its help.
"""

from collections import Counter, deque
from collections.abc import Iterable, Iterator
from copy import deepcopy
from dataclasses import dataclass, field
from typing import Any, Literal, TypeAlias

import msgspec
from msgspec import json

from eventstore import events as e
from projections import invocations, usage
from projections import summary as summary_fold
from projections.projection import Projection

Kind: TypeAlias = Literal["message", "call", "usage", "session", "data", "log", "redacted", "unknown"]
"""What an entry is about: something said, a tool call, tokens, the session itself, its data, its log, what nobody can read."""
State: TypeAlias = Literal["done", "unfinished", "unexplained"]
"""Of a redaction: told of and done; told of, but the text is still there; the text is gone and nothing fitting tells why."""

_HELD_ENTRIES, _HELD_CHARACTERS = 1000, 4_000_000
_MOST_NAMES = 1000


@dataclass(frozen=True, slots=True)
class Removal:
    """The content of event `target` was redacted: `type` and `at` are that event's, `told_in` the event that says so.

    `told_in` is 0, and the rest empty, where none does.
    """

    target: int
    state: State
    type: str = ""
    at: str = ""
    told_in: int = 0
    told_at: str = ""
    by: str = ""
    reason: str = ""


@dataclass(frozen=True, slots=True)
class Entry:
    """One thing that happened, told by the events `seqs`. Times are RFC 3339, `duration_ms` milliseconds.

    `time` is when it happened, `ended` when the last of it did. `input` and `result` of a call are None where the log has no
    such message. `tokens` and `cost` are what the event adds to the totals: a use told again adds nothing.
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
    """What only the whole session tells.

    `summary` gives the figures, the same as `get_session_statistics`; `parts` how many events speak of each call, `failed` which
    calls failed; `stubs` the redacted lines as (type, time, leaf); `told` the events that tell of redactions, by their target.
    Of `actors` and `models` at most the first 1,000 names are kept; each counts its events.
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
    stubs: dict[int, tuple[str, str, str]] = field(default_factory=dict)
    told: dict[int, list[e.EventRedacted]] = field(default_factory=dict)
    checkpoint: e.CheckpointSigned | None = None
    repairs: list[e.LogRepaired] = field(default_factory=list)
    unknown: int = 0

    def copy(self) -> "Index":
        """Give an independent state."""
        return deepcopy(self)

    def removal(self, target: int) -> Removal | None:
        """Tell of the redaction of an event; None where there is none."""
        stub, told = self.stubs.get(target), self.told.get(target, [])
        if stub is None and not told:
            return None
        fitting = [one for one in told if stub is None or one.leaf == stub[2]]
        one = fitting[0] if fitting else None
        state: State = "unfinished" if stub is None else "done" if one else "unexplained"
        kind, at = stub[:2] if stub else ("", "")
        if one is None:
            return Removal(target, state, kind, at)
        return Removal(target, state, kind, at, one.seq, one.time, _actor(one), one.reason)

    def removals(self) -> Iterator[Removal]:
        """Tell of all redactions, in the order of what was redacted."""
        for target in sorted({*self.stubs, *self.told}):
            found = self.removal(target)
            if found is not None:
                yield found


def apply(state: Index, event: e.Event) -> None:
    """Take one event in."""
    leaf = redacted_leaf(event)
    summary_fold.apply(state.summary, event)
    state.version, state.hash, state.last_at = event.seq, event.hash, event.at
    state.first_at = state.first_at or event.at
    state.kinds[event.type] += 1
    _count(state.actors, _actor(event))
    if leaf is not None:
        state.stubs[event.seq] = event.type, event.at, leaf
    elif isinstance(event, e.UnknownEvent):
        state.unknown += 1
    elif isinstance(event, e.EventRedacted):
        if event.target < event.seq:
            state.told.setdefault(event.target, []).append(event)
    elif isinstance(event, e.UsageRecorded):
        _count(state.models, event.model or "")
    elif isinstance(event, e.CheckpointSigned):
        state.checkpoint = event
    elif isinstance(event, e.LogRepaired):
        state.repairs.append(event)
    else:
        _count_call(state, event)


projection: Projection[Index] = Projection(Index, Index.copy, apply)
"""What the whole tells."""


def _count_call(state: Index, event: e.Event) -> None:
    invocation_id = _call_of(event)
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
    """Return the leaf, 64 hex digits, that a redacted line claims; None for any other event."""
    return event.leaf if isinstance(event, e.RedactedEvent) else None


def _call_of(event: e.Event) -> str | None:
    """Return the id of the tool call that an event is a part of."""
    if isinstance(event, e.InvocationLinked):
        return event.invocation_id
    if isinstance(event, e.MessageAdded) and event.role in ("assistant", "tool"):
        return event.invocation_id
    return None


# --- entries


@dataclass(slots=True)
class _Open:
    """A call of which not all is told yet."""

    first: e.Event
    left: int
    known: invocations.Invocation | None = None
    last: str = ""
    tool_name: str | None = None
    seqs: list[int] = field(default_factory=list)
    inputs: list[str] = field(default_factory=list)
    results: list[str] = field(default_factory=list)
    by: dict[str, Any] = field(default_factory=dict)
    is_late: bool = False

    def take(self, event: e.Event) -> int:
        """Take a part in; return how many characters it holds."""
        self.seqs.append(event.seq)
        self.left -= 1
        self.last = max(self.last, event.time)
        self.by = {**(event.by or {}), **self.by}
        if isinstance(event, e.InvocationLinked):
            self.known = invocations.merge(self.known, event)
            return 0
        if not isinstance(event, e.MessageAdded):
            return 0
        self.tool_name = self.tool_name or event.tool_name
        (self.inputs if event.role == "assistant" else self.results).append(event.content)
        return len(event.content)

    def close(self) -> Entry:
        """Tell the call as one entry."""
        known, actor = self.known, self.by.get("actor")
        success = known.success if known else None
        outcome = {None: "called a tool", True: "called a tool: succeeded", False: "called a tool: failed"}
        return Entry(
            seqs=tuple(self.seqs),
            time=self.first.time,
            ended=self.last,
            kind="call",
            who="assistant",
            what=outcome[success],
            actor=actor if isinstance(actor, str) else "",
            tool_name=(known.tool_name if known else None) or self.tool_name,
            input="\n".join(self.inputs) if self.inputs else None,
            result="\n".join(self.results) if self.results else None,
            error=known.error if known else None,
            folder=known.invocation_dir if known else None,
            invocation_id=_call_of(self.first),
            success=success,
            duration_ms=known.duration_ms if known else None,
            by=self.by,
        )


class _Held:
    """Entries in the order they began, held back while an earlier call is open; of too many the call waits alone."""

    def __init__(self) -> None:
        self._queue: deque[tuple[_Open | Entry, int]] = deque()
        self._characters = 0
        self._calls: dict[str, _Open] = {}

    def add(self, entry: Entry) -> Iterator[Entry]:
        """Add what is whole."""
        self._push(entry, len(entry.text))
        return self._ready()

    def add_part(self, invocation_id: str, event: e.Event, parts: int) -> Iterator[Entry]:
        """Add a part of a call that has so many."""
        call = self._calls.get(invocation_id)
        if call is None:
            call = self._calls[invocation_id] = _Open(event, parts)
            self._push(call, 0)
        size = call.take(event)
        if not call.is_late:
            self._characters += size
        if call.left <= 0:
            del self._calls[invocation_id]
            if call.is_late:
                yield call.close()
        yield from self._ready()

    def rest(self) -> Iterator[Entry]:
        """Give all that is still held, whole or not."""
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
                size = sum(map(len, one.inputs)) + sum(map(len, one.results))
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
    """Stream entries in the order they began; `index` is the fold of the same events.

    Memory holds no more than 1,000 entries or four million characters besides the calls that are open: a call that others
    would have to wait for longer comes when it is whole.
    """
    held, uses = _Held(), dict[str, usage.Use]()
    for event in events:
        invocation_id = _call_of(event)
        if invocation_id is not None:
            yield from held.add_part(invocation_id, event, index.parts[invocation_id])
        elif isinstance(event, e.UsageRecorded):
            added, use = usage.merge(uses.get(event.key) if event.key is not None else None, event.tokens, event.cost)
            if event.key is not None:
                uses[event.key] = use
            tokens, cost = {kind: count for kind, count in added.tokens.items() if count > 0}, added.cost
            what = "used tokens" if tokens or cost else "told again of a use: adds nothing"
            yield from held.add(_entry(event, "usage", "model", what, tokens=tokens, cost=cost, model=event.model))
        elif redacted_leaf(event) is not None:
            removal = index.removal(event.seq)
            yield from held.add(_entry(event, "redacted", "", f"redacted {event.type}", removal=removal))
        else:
            kind, who, what, text = _told(event)
            yield from held.add(_entry(event, kind, who, what, text))
    yield from held.rest()


def _entry(event: e.Event, kind: Kind, who: str, what: str, text: str = "", **more: Any) -> Entry:
    told = (event.seq,), event.time, event.time, kind, who, what, _actor(event), text
    return Entry(*told, by=event.by or {}, **more)


def _told(event: e.Event) -> tuple[Kind, str, str, str]:
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
    """Give an event's own fields as JSON, those that say nothing left out."""
    names = event.__struct_fields__[len(e.Event.__struct_fields__) :]
    own = {name: getattr(event, name) for name in names}
    told = {name: value for name, value in own.items() if value not in (None, (), {}, False, msgspec.UNSET)}
    return json.encode(told).decode() if told else ""


def _origin(event: e.Event) -> str:
    if event.origin is None:
        return ""
    return event.origin.line if event.origin.line is not None else f"(base64) {event.origin.line_base64}"
