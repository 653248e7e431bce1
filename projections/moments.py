"""The moment index: every figure of a session as of any of its events, without folding the log again.

It is folded once, from the first event, by the same folds that answer for the present, and records each change. So its
answer for event n is the answer of those folds after n events. It has numbers and names, but no texts of messages.
"""

from array import array
from bisect import bisect_right
from collections.abc import Callable, Iterable, Sequence
from copy import copy, deepcopy
from dataclasses import dataclass, field, fields
from datetime import datetime, timedelta
from functools import lru_cache
from typing import Any, Literal, TypeAlias, get_args

import msgspec

from eventstore import events as e
from eventstore.record.message_run import MessageRun
from projections import metadata as metadata_fold
from projections import sum_range
from projections.fold import Fold, FoldInput
from projections.track import Lives, Postings, Seqs, Stack, Track, TrackedMap, counts, seqs

Kind: TypeAlias = Literal["prompt", "error", "call", "redaction", "fork", "checkpoint", "cut", "end"]
"""Kinds of events to jump to: a message of a user, a failure, the beginning of a call, a redaction, a fork point, a
checkpoint, a conversation that was cleared or rewound, an end of the session."""

KINDS: tuple[Kind, ...] = get_args(Kind)
_APART = frozenset(["updated_at", "token_usage", "custom_metadata", "calls", "uses", "began_redacted", "adjusted"])
_FIELDS = tuple(one.name for one in fields(metadata_fold.State) if one.name not in _APART)
_CHANGED: dict[type, tuple[str, ...]] = {
    e.InvocationStarted: ("total_invocations", "total_duration_ms", "tools_used"),
    e.InvocationLinked: ("total_invocations", "total_duration_ms", "tools_used"),
    e.InvocationUnlinked: ("total_invocations", "total_duration_ms", "tools_used"),
    e.UsageRecorded: ("estimated_cost",),
    e.ReasoningRecorded: (),
    e.DataSet: (),
}
"""The fields that events of the frequent types can change besides `created_at`; all other events may change any field."""


_TAGS: dict[type, str] = {kind: tag for tag, kind in e.EVENT_TYPES.items()}


class _Message(msgspec.Struct, frozen=True, gc=False, kw_only=True):
    """A message without its text."""

    seq: int
    at: str
    role: e.Role
    occurred_at: str | None = None
    tool_name: str | None = None
    invocation_id: str | None = None

    @property
    def time(self) -> str:
        return self.occurred_at or self.at


_messages = msgspec.json.Decoder(_Message)


@dataclass(slots=True)
class Clock:
    """Times of events: as microseconds if all are in the format of records, else as texts."""

    values: Any = field(default_factory=lambda: array("q"))
    second: str = ""
    began: int = 0

    def add(self, text: str) -> None:
        """Add the time of the next event."""
        values = self.values
        if text[:20] == self.second and len(text) == 27 and text[26] == "Z" and type(values) is array:
            part = text[20:26]
            if part.isdigit() and part.isascii():  # in the same second as the event before: nearly always
                values.append(self.began + int(part))
                return
        self._add_slowly(text)

    def _add_slowly(self, text: str) -> None:
        if isinstance(self.values, array):
            try:
                self.values.append(self._read(text))
            except (ValueError, OverflowError):
                self.values = [_write(one) for one in self.values]
                self.values.append(text)
        else:
            self.values.append(text)

    def lower(self, version: int, text: str) -> None:
        """Replace the time of an event by an earlier one."""
        self.add(text)
        last = self.values.pop()
        self.values[version - 1] = last

    def repeat(self) -> None:
        """Add the time of the last event again."""
        self.values.append(self.values[-1])

    def text(self, version: int) -> str:
        """Return the time of an event."""
        found = self.values[version - 1]
        return found if isinstance(found, str) else _write(found)

    def upto(self, moment: str) -> int:
        """Return how many events are not later than a moment, if times never decrease."""
        return bisect_right(self.values, self._read(moment) if isinstance(self.values, array) else moment)

    def parts(self, after: int, upto: int, count: int) -> list[int]:
        """Divide the events after `after` up to `upto` into `count` equal spans of time; return the last event of each, in order.

        If times cannot be compared as numbers, divide by the number of events.
        """
        if not isinstance(self.values, array):
            return [after + (upto - after) * place // count for place in range(1, count + 1)]
        first, last = self.values[after], self.values[upto - 1]
        edges = (first + (last - first) * place // count for place in range(1, count))
        return [min(max(bisect_right(self.values, edge), after), upto) for edge in edges] + [upto]

    def _read(self, text: str) -> int:
        if text[:20] != self.second:
            whole = datetime.fromisoformat(text[:19])
            if text[19:20] != "." or whole.isoformat() != text[:19]:
                raise ValueError(text)
            self.began = (whole - _EPOCH) // timedelta(microseconds=1)
            self.second = text[:20]
        part = text[20:26]
        if len(text) != 27 or text[26] != "Z" or not (part.isascii() and part.isdigit()):
            raise ValueError(text)
        return self.began + int(part)


_EPOCH = datetime(1970, 1, 1)


_MINUTES = [f"T{minute // 60:02}:{minute % 60:02}:" for minute in range(24 * 60)]


def _write(microseconds: int) -> str:
    """Write a time as records have it; twice as fast as `datetime` does."""
    minutes, rest = divmod(microseconds, 60_000_000)
    days, minute = divmod(minutes, 24 * 60)
    second, part = divmod(rest, 1_000_000)
    return f"{_day(days)}{_MINUTES[minute]}{second:02d}.{part:06d}Z"


@lru_cache(1024)
def _day(days: int) -> str:
    return (_EPOCH + timedelta(days)).date().isoformat()


def _fields() -> dict[str, Track[Any]]:
    initial = metadata_fold.State()
    return {name: Track(_frozen(getattr(initial, name))) for name in _FIELDS}


def _frozen(value: Any) -> Any:
    return tuple(value) if isinstance(value, list) else value


@dataclass(slots=True)
class Moments:
    """A session as of any of its events up to `version`.

    `latest` are the times of events, each at least the one before: "as of a time" compares them. `recorded` are the
    times of recording. `unknown` are those of the redacted events at the end: they happened then, or before, and no later
    than the next event. `conversation` are the messages, `calls` the tool calls, `kinds`, `types`, `tools` and `roles`
    the events of each kind, type, tool and role. `tools` are also in `tool_at` and `tool`, by number of the event, as a place
    in `tool_names`. `linked` are the events that gave a call a folder. `late` fills in what only new events need: the calls and
    uses of `now`, `tool_of`, and which calls have not ended.
    """

    version: int = 0
    start: str = ""
    now: metadata_fold.State = field(default_factory=metadata_fold.State)
    figures: dict[str, Track[Any]] = field(default_factory=_fields)
    updated: Track[str | None] = field(default_factory=lambda: Track(None))
    token_kinds: Track[tuple[str, ...] | None] = field(default_factory=lambda: Track(None))
    tokens: dict[str, Track[int]] = field(default_factory=dict)
    token_sum: Track[int] = field(default_factory=lambda: Track(0))
    custom: TrackedMap = field(default_factory=TrackedMap)
    data: TrackedMap = field(default_factory=TrackedMap)
    latest: Clock = field(default_factory=Clock)
    recorded: Clock = field(default_factory=Clock)
    latest_text: str = ""
    recorded_text: str = ""
    is_latest: bool = True
    unknown: list[str] = field(default_factory=list)
    conversation: Stack = field(default_factory=Stack)
    calls: Lives = field(default_factory=Lives)
    kinds: Postings = field(default_factory=Postings)
    types: Postings = field(default_factory=Postings)
    roles: Postings = field(default_factory=Postings)
    tools: Postings = field(default_factory=Postings)
    linked: Seqs = field(default_factory=seqs)
    tool_of: dict[str, str] = field(default_factory=dict)
    tool_at: Seqs = field(default_factory=seqs)
    tool: Seqs = field(default_factory=seqs)
    tool_names: list[str] = field(default_factory=list)
    tool_places: dict[str, int] = field(default_factory=dict)
    late: "Callable[[Moments], None] | None" = field(default=None, repr=False)

    def metadata_at(self, version: int) -> metadata_fold.State:
        """Return the metadata after event `version`, without its calls and uses."""
        shown = metadata_fold.State(**{name: track.at(version) for name, track in self.figures.items()})
        shown.tools_used = list(shown.tools_used)
        updated = self.updated.at(version)
        if version:
            shown.updated_at = self.latest.text(version) if updated is None else updated
        kinds = self.token_kinds.at(version)
        if kinds is not None:
            shown.token_usage = {kind: self.tokens[kind].at(version) for kind in kinds}
        return shown

    def version_at(self, moment: str, *, recorded: bool = False) -> int:
        """Return how many events had happened at a time in the format of records: all before the first later one."""
        return (self.recorded if recorded else self.latest).upto(moment)

    def tool_name(self, seq: int) -> str | None:
        """Return the tool of an event: the one it names, else the last earlier one of its call."""
        place = bisect_right(self.tool_at, seq) - 1
        return self.tool_names[self.tool[place]] if place >= 0 and self.tool_at[place] == seq else None

    def sums(self, versions: Sequence[int]) -> tuple[list[int], list[int], list[int], list[int], list[float]]:
        """Return the numbers of messages, calls, errors and tokens, and the cost, after each version. Versions increase."""
        messages, errors = self.types.lists.get("message.added", ()), self.kinds.lists.get("error", ())
        cost = [sum_range.real(one or 0.0) for one in self.figures["estimated_cost"].each(versions)]
        tokens = [sum_range.whole(one) for one in self.token_sum.each(versions)]
        return counts(messages, versions), counts(self.calls.born, versions), counts(errors, versions), tokens, cost

    def complete(self) -> None:
        """Fill in what only new events need, if that is still to be done."""
        if self.late is not None:
            late, self.late = self.late, None
            late(self)

    def copy(self) -> "Moments":
        """Return an independent index. The cost grows with its size: code that keeps an index continues it instead."""
        return deepcopy(self)


def apply(state: Moments, event: FoldInput) -> None:
    """Apply one event, or one run of messages."""
    if state.late is not None:
        state.complete()
    if isinstance(event, MessageRun):
        for message in _messages.decode_lines(event.lines):
            state.types.add(message.seq, "message.added")
            _note_time(state, message)
            _spoken(state, message)
        return
    kind = type(event)
    state.types.add(event.seq, _TAGS.get(kind) or event.type)
    _note_time(state, event)
    if isinstance(event, e.MessageAdded):
        _spoken(state, event)
        return
    seq = event.seq
    for name in _CHANGED.get(kind, _FIELDS):
        state.figures[name].set(seq, _frozen(getattr(state.now, name)))
    handler = _HANDLERS.get(kind)
    if handler is not None:
        handler(state, event)


def _note_time(state: Moments, event: "e.Event | _Message") -> None:
    """Fold the metadata, and record the times."""
    seq, time, now = event.seq, event.time, state.now
    created = now.created_at
    metadata_fold.apply(now, event)  # type: ignore[arg-type]  # it reads only the times of a message
    if now.created_at is not created:
        state.figures["created_at"].set(seq, now.created_at)
    if type(event) is e.RedactedEvent:
        state.unknown.append(event.at)
        state.latest.add(max(event.at, state.latest_text))
    else:
        if time > state.latest_text:
            state.latest_text = time
        for place, at in enumerate(state.unknown, state.version - len(state.unknown) + 1):
            if at > state.latest_text:
                state.latest.lower(place, state.latest_text)
        state.unknown.clear()
        state.latest.add(state.latest_text)
    if event.at == state.recorded_text:
        state.recorded.repeat()
    else:
        state.recorded_text = event.at
        state.recorded.add(event.at)
    is_latest = now.updated_at == state.latest_text and not state.unknown
    if state.is_latest is not is_latest or not is_latest:
        state.is_latest = is_latest
        state.updated.set(seq, None if is_latest else now.updated_at)
    if not state.start and type(event) is not e.RedactedEvent:
        state.start = time
    state.version = seq


def _spoken(state: Moments, event: "e.MessageAdded | _Message") -> None:
    seq, called = event.seq, event.invocation_id
    state.conversation.push(seq)
    state.roles.add(seq, event.role)
    if event.role == "user":
        state.kinds.add(seq, "prompt")
    _note_tool(state, seq, called, event.tool_name)


def _note_tool(state: Moments, seq: int, called: str | None, tool_name: str | None) -> None:
    """Record the tool of an event as `timeline` finds it, and the first event of a call."""
    if called is not None and called not in state.tool_of:
        state.kinds.add(seq, "call")
        state.tool_of[called] = ""
    if called is not None and tool_name is not None:
        state.tool_of[called] = tool_name
    known = tool_name or state.tool_of.get(called or "")
    if known:
        number = state.tool_places.setdefault(known, len(state.tool_places))
        if number == len(state.tool_names):
            state.tool_names.append(known)
        state.tool.append(number)
        state.tool_at.append(seq)
        state.tools.add(seq, known)


def _called(state: Moments, event: e.InvocationEvent) -> None:
    _note_tool(state, event.seq, event.invocation_id, event.tool_name)
    state.calls.change(event.seq, event.invocation_id)
    if event.invocation_dir is not None:
        state.linked.append(event.seq)
    if isinstance(event, e.InvocationLinked) and (event.success is False or event.error):
        state.kinds.add(event.seq, "error")


def _unlinked(state: Moments, event: e.InvocationUnlinked) -> None:
    state.calls.end(event.seq, event.invocation_id)


def _used(state: Moments, event: e.UsageRecorded) -> None:
    _note_tokens(state, event.seq, event.tokens)


def _note_tokens(state: Moments, seq: int, kinds: Iterable[str]) -> None:
    usage = state.now.token_usage
    known = state.token_kinds.at(seq)
    if usage is None or known is None or len(usage) != len(known) or tuple(usage) != known:
        state.token_kinds.set(seq, None if usage is None else tuple(usage))
    for kind in kinds:
        if usage is not None and kind in usage:
            track = state.tokens.get(kind)
            if track is None:
                track = state.tokens[kind] = Track(0)
            track.set(seq, usage[kind])
    state.token_sum.set(seq, sum(usage.values()) if usage else 0)


def _adjusted(state: Moments, event: e.SessionAdjusted) -> None:
    _note_tokens(state, event.seq, tuple(state.now.token_usage or ()))
    if event.custom_metadata is not msgspec.UNSET:
        state.custom.clear(event.seq)
        _customized(state, event.seq, event.custom_metadata)


def _created(state: Moments, event: e.SessionCreated) -> None:
    if event.forked_from is None:
        state.custom.clear(event.seq)
    else:
        state.kinds.add(event.seq, "fork")
    _customized(state, event.seq, event.custom_metadata)


def _updated(state: Moments, event: e.SessionUpdated) -> None:
    _customized(state, event.seq, event.custom_metadata)


def _customized(state: Moments, seq: int, values: dict[str, Any]) -> None:
    for key, value in values.items():
        state.custom.put(seq, key, msgspec.json.encode(value))


def _set(state: Moments, event: e.DataSet) -> None:
    state.data.put(event.seq, event.key, msgspec.json.encode(event.value))


def _deleted(state: Moments, event: e.DataDeleted) -> None:
    state.data.remove(event.seq, event.key)


def _cleared_data(state: Moments, event: e.DataCleared) -> None:
    state.data.clear(event.seq)


def _cleared(state: Moments, event: e.ConversationCleared) -> None:
    state.conversation.cut(event.seq, 0)
    state.kinds.add(event.seq, "cut")


def _rewound(state: Moments, event: e.ConversationRewound) -> None:
    state.conversation.cut(event.seq, event.to)
    state.kinds.add(event.seq, "cut")


def _withdrawn(state: Moments, event: e.MessagesWithdrawn) -> None:
    state.conversation.withdraw(event.seq, frozenset(event.targets))
    state.kinds.add(event.seq, "cut")


def _completed(state: Moments, event: e.SessionCompleted) -> None:
    state.kinds.add(event.seq, "end")
    if event.status == "failed":
        state.kinds.add(event.seq, "error")


def _redacted(state: Moments, event: e.EventRedacted) -> None:
    state.kinds.add(event.seq, "redaction")


def _signed(state: Moments, event: e.CheckpointSigned) -> None:
    state.kinds.add(event.seq, "checkpoint")


def _repaired(state: Moments, event: e.LogRepaired) -> None:
    state.kinds.add(event.seq, "error")


_HANDLERS: dict[type[e.Event], Any] = {
    e.SessionCreated: _created,
    e.SessionUpdated: _updated,
    e.SessionCompleted: _completed,
    e.SessionAdjusted: _adjusted,
    e.ConversationCleared: _cleared,
    e.ConversationRewound: _rewound,
    e.MessagesWithdrawn: _withdrawn,
    e.InvocationStarted: _called,
    e.InvocationLinked: _called,
    e.InvocationUnlinked: _unlinked,
    e.UsageRecorded: _used,
    e.DataSet: _set,
    e.DataDeleted: _deleted,
    e.DataCleared: _cleared_data,
    e.LogRepaired: _repaired,
    e.EventRedacted: _redacted,
    e.CheckpointSigned: _signed,
}

projection: Fold[Moments] = Fold(Moments, Moments.copy, apply)
"""The complete index."""

kept_projection: Fold[Moments] = Fold(Moments, copy, apply)
"""The same, for callers that own the given state and continue it: `copy` shares everything that grows."""
