"""The conversation as it stands: what was said and neither cleared nor rewound."""

from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any

from eventstore.events import ConversationCleared, ConversationRewound, MessageAdded
from eventstore.record.message_run import Message, MessageRun
from projections.projection import Projection, Told


@dataclass(slots=True)
class State:
    """MessageRun in order."""

    messages: list[Message] = field(default_factory=list)

    def copy(self) -> "State":
        """Give an independent state; messages are frozen and shared."""
        return State(self.messages.copy())


def _said(state: State, event: MessageAdded) -> None:
    state.messages.append(
        Message(event.seq, event.at, event.role, event.content, event.occurred_at, event.tool_name, event.invocation_id)
    )


def _said_in_a_row(state: State, events: MessageRun) -> None:
    state.messages += events.read()


def _cleared(state: State, event: ConversationCleared) -> None:
    state.messages.clear()


def _rewound(state: State, event: ConversationRewound) -> None:
    while state.messages and state.messages[-1].seq > event.to:
        state.messages.pop()


HANDLERS: dict[type[Told], Callable[[State, Any], None]] = {
    MessageAdded: _said,
    MessageRun: _said_in_a_row,
    ConversationCleared: _cleared,
    ConversationRewound: _rewound,
}


def apply(state: State, event: Told) -> None:
    """Take one event in."""
    handler = HANDLERS.get(type(event))
    if handler is not None:
        handler(state, event)


projection: Projection[State] = Projection(State, State.copy, apply)
"""MessageRun in order."""
