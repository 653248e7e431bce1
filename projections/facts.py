"""Usage facts: figures of a session by time, tool and model. They can be summed over sessions."""

from dataclasses import dataclass, field
from typing import NamedTuple

from eventstore.events import InvocationEvent, InvocationLinked, MessageAdded, UsageRecorded
from eventstore.record.message_run import MessageRun
from projections import usage
from projections.fold import Fold, FoldInput


class Place(NamedTuple):
    """The key of a fact: the quarter of an hour (UTC, `2026-01-31T10:45`), and the tool and the model, or an empty text.

    Every time zone begins its days with one of these quarters.
    """

    quarter: str
    tool: str = ""
    model: str = ""


@dataclass(slots=True)
class Fact:
    """Counts: messages, calls, failed calls, tokens (of all kinds, input, output); milliseconds in tools; cost.

    `unpriced_...` are the tokens of uses without a recorded cost; their output includes reasoning.
    """

    messages: int = 0
    calls: int = 0
    errors: int = 0
    duration_ms: float = 0.0
    tokens: int = 0
    input_tokens: int = 0
    output_tokens: int = 0
    cost: float = 0.0
    unpriced_input: int = 0
    unpriced_cache_read: int = 0
    unpriced_cache_write: int = 0
    unpriced_cache_write_hour: int = 0
    unpriced_output: int = 0


@dataclass(slots=True)
class _Call:
    place: Place
    duration_ms: float = 0.0
    failed: bool = False


@dataclass(slots=True)
class State:
    """Facts by place. `calls` and `uses` store what was counted for each call id and usage key, so that none counts twice."""

    facts: dict[Place, Fact] = field(default_factory=dict)
    calls: dict[str, _Call] = field(default_factory=dict)
    uses: dict[str, usage.Use] = field(default_factory=dict)
    hours: dict[str, int] = field(default_factory=dict)
    priced: set[str] = field(default_factory=set)

    def copy(self) -> "State":
        """Return an independent state."""
        from copy import deepcopy

        return deepcopy(self)

    def at(self, place: Place) -> Fact:
        """Return the fact of a place; create it if it does not exist."""
        found = self.facts.get(place)
        if found is None:
            found = self.facts[place] = Fact()
        return found


def quarter_of(time: str) -> str:
    """Return the quarter of an hour that a time is in: RFC 3339 in UTC."""
    minute = time[14:16]
    return f"{time[:14]}{int(minute) // 15 * 15:02d}" if minute.isdecimal() else time[:10]


def apply(state: State, event: FoldInput) -> None:
    """Apply one event, or one run of messages."""
    if isinstance(event, MessageRun):
        if quarter_of(event.since) == quarter_of(event.until):  # count them without decoding any
            state.at(Place(quarter_of(event.since))).messages += event.last - event.first + 1
        else:
            for message in event.read():
                state.at(Place(quarter_of(message.time))).messages += 1
    elif isinstance(event, MessageAdded):
        if not event.copied:
            state.at(Place(quarter_of(event.time))).messages += 1
    elif isinstance(event, InvocationEvent):
        if not event.copied:
            _linked(state, event)
    elif isinstance(event, UsageRecorded) and not event.copied:
        _used(state, event)


def _linked(state: State, event: InvocationEvent) -> None:
    """Count a call once: on the day it began or was first linked, under the first tool name that an event gives."""
    call = state.calls.get(event.invocation_id)
    if call is None:
        call = state.calls[event.invocation_id] = _Call(Place(quarter_of(event.time), event.tool_name or ""))
        state.at(call.place).calls += 1
    elif event.tool_name and not call.place.tool:
        _move(state, call, call.place._replace(tool=event.tool_name))
    if not isinstance(event, InvocationLinked):
        return
    fact = state.at(call.place)
    if event.duration_ms is not None:
        fact.duration_ms += event.duration_ms - call.duration_ms
        call.duration_ms = event.duration_ms
    if event.success is not None:
        fact.errors += (not event.success) - call.failed
        call.failed = not event.success


def _move(state: State, call: _Call, place: Place) -> None:
    old, new = state.at(call.place), state.at(place)
    for fact, sign in ((old, -1), (new, 1)):
        fact.calls += sign
        fact.errors += sign * call.failed
        fact.duration_ms += sign * call.duration_ms
    if old == Fact():
        del state.facts[call.place]
    call.place = place


def _used(state: State, event: UsageRecorded) -> None:
    """Count the figures that an event adds to those of earlier events with its key."""
    known = state.uses.get(event.key) if event.key is not None else None
    tokens = {kind: max(count, 0) for kind, count in event.tokens.items()}
    added, use = usage.merge(known, tokens, max(event.cost or 0.0, 0.0))
    fact = state.at(Place(quarter_of(event.time), "", event.model or ""))
    fact.tokens += sum(added.tokens.values())
    fact.input_tokens += added.tokens.get("input", 0)
    fact.output_tokens += added.tokens.get("output", 0)
    fact.cost += added.cost or 0.0
    _unpriced(state, event, fact, added, known)
    if event.key is not None:
        state.uses[event.key] = use


def _unpriced(state: State, event: UsageRecorded, fact: Fact, added: usage.Use, known: usage.Use | None) -> None:
    """Count the tokens of a use without a cost; subtract them again if the cost is recorded later."""
    hour = max(event.cache_write_hour, 0)
    if event.key is not None:
        before, state.hours[event.key] = state.hours.get(event.key, 0), max(hour, state.hours.get(event.key, 0))
        hour = state.hours[event.key] - before
    is_priced = event.key in state.priced
    if event.cost is not None and event.key is not None:
        state.priced.add(event.key)
    if event.cost is None and not is_priced:
        tokens, sign = added.tokens, 1
    elif known is not None and not is_priced:
        tokens, sign, hour = known.tokens, -1, state.hours.get(event.key or "", 0) - hour
    else:
        return
    fact.unpriced_input += sign * tokens.get("input", 0)
    fact.unpriced_cache_read += sign * tokens.get("cache_read", 0)
    fact.unpriced_cache_write += sign * tokens.get("cache_write", 0)
    fact.unpriced_cache_write_hour += sign * hour
    fact.unpriced_output += sign * (tokens.get("output", 0) + tokens.get("reasoning", 0))


projection: Fold[State] = Fold(State, State.copy, apply)
"""Facts by place."""
