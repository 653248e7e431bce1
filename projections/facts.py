"""Usage facts: figures of a session by day, tool and model. They can be summed over sessions."""

from dataclasses import dataclass, field
from typing import NamedTuple

from eventstore.events import InvocationLinked, MessageAdded, UsageRecorded
from eventstore.record.message_run import MessageRun
from projections.projection import FoldInput, Projection


class Place(NamedTuple):
    """The key of a fact: the day (UTC, `2026-01-31`), and the tool and the model, or an empty text."""

    day: str
    tool: str = ""
    model: str = ""


@dataclass(slots=True)
class Fact:
    """Counts: messages, calls, failed calls, tokens (of all kinds, input, output); milliseconds in tools; cost."""

    messages: int = 0
    calls: int = 0
    errors: int = 0
    duration_ms: float = 0.0
    tokens: int = 0
    input_tokens: int = 0
    output_tokens: int = 0
    cost: float = 0.0


@dataclass(slots=True)
class _Call:
    place: Place
    duration_ms: float = 0.0
    failed: bool = False


@dataclass(slots=True)
class State:
    """Facts by place. `calls` and `uses` remember what was counted of each call id and usage key, so that none counts twice."""

    facts: dict[Place, Fact] = field(default_factory=dict)
    calls: dict[str, _Call] = field(default_factory=dict)
    uses: dict[str, tuple[dict[str, int], float]] = field(default_factory=dict)

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


def apply(state: State, event: FoldInput) -> None:
    """Apply one event, or one run of messages."""
    if isinstance(event, MessageRun):
        if event.since[:10] == event.until[:10]:  # all on one day: count them without decoding any
            state.at(Place(event.since[:10])).messages += event.last - event.first + 1
        else:
            for message in event.read():
                state.at(Place(message.time[:10])).messages += 1
    elif isinstance(event, MessageAdded):
        state.at(Place(event.time[:10])).messages += 1
    elif isinstance(event, InvocationLinked):
        _linked(state, event)
    elif isinstance(event, UsageRecorded):
        _used(state, event)


def _linked(state: State, event: InvocationLinked) -> None:
    """Count a call once: on the day of its first link, under the first tool name that a link gives."""
    call = state.calls.get(event.invocation_id)
    if call is None:
        call = state.calls[event.invocation_id] = _Call(Place(event.time[:10], event.tool_name or ""))
        state.at(call.place).calls += 1
    elif event.tool_name and not call.place.tool:
        _move(state, call, call.place._replace(tool=event.tool_name))
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
    """Count what a usage event adds to earlier ones of its key: events of one key count by maximum."""
    known, cost = state.uses.get(event.key, ({}, 0.0)) if event.key is not None else ({}, 0.0)
    more = {kind: max(count - known.get(kind, 0), 0) for kind, count in event.tokens.items()}
    fact = state.at(Place(event.time[:10], "", event.model or ""))
    fact.tokens += sum(more.values())
    fact.input_tokens += more.get("input", 0)
    fact.output_tokens += more.get("output", 0)
    fact.cost += max((event.cost or 0.0) - cost, 0.0)
    if event.key is not None:
        most = {kind: max(known.get(kind, 0), event.tokens.get(kind, 0)) for kind in {**known, **event.tokens}}
        state.uses[event.key] = most, max(cost, event.cost or 0.0)


projection: Projection[State] = Projection(State, State.copy, apply)
"""Facts by place."""
