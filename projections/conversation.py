"""The conversation as it stands: what was said and neither cleared nor rewound."""

from collections.abc import Iterable, Iterator
from dataclasses import dataclass, field

from eventstore.codec import to_datetime
from eventstore.events import ConversationCleared, ConversationRewound, Event, MessageAdded
from projections.models import ConversationMessage
from projections.projection import Projection


@dataclass(slots=True)
class State:
    """Messages in order, as their events."""

    messages: list[MessageAdded] = field(default_factory=list)

    def copy(self) -> "State":
        """Give an independent state; the events are frozen and shared."""
        return State(self.messages.copy())


def apply(state: State, event: Event) -> None:
    """Take one event in."""
    if isinstance(event, MessageAdded):
        state.messages.append(event)
    elif isinstance(event, ConversationCleared):
        state.messages.clear()
    elif isinstance(event, ConversationRewound):
        while state.messages and state.messages[-1].seq > event.to:
            state.messages.pop()


def to_models(messages: Iterable[MessageAdded]) -> Iterator[ConversationMessage]:
    """Show messages as callers hold them, said when they were said."""
    for message in messages:
        yield ConversationMessage(
            message.role, message.content, to_datetime(message.time), message.tool_name, message.invocation_id
        )


projection: Projection[State] = Projection(State, State.copy, apply)
"""Messages in order."""
