"""The current conversation: the messages that were neither cleared, rewound nor withdrawn."""

from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any

from eventstore.events import ConversationCleared, ConversationRewound, MessageAdded, MessagesWithdrawn
from eventstore.record.message_run import Message, MessageRun
from projections.fold import Fold, FoldInput


@dataclass(slots=True)
class State:
    """The messages, in the order of the log."""

    messages: list[Message] = field(default_factory=list)

    def copy(self) -> "State":
        """Return an independent state. Messages are frozen, so they are shared."""
        return State(self.messages.copy())


def _added(state: State, event: MessageAdded) -> None:
    state.messages.append(
        Message(
            event.seq,
            event.at,
            event.role,
            event.content,
            event.occurred_at,
            event.tool_name,
            event.invocation_id,
            event.blocks,
            event.blobs,
        )
    )


def _added_run(state: State, events: MessageRun) -> None:
    state.messages += events.read()


def _cleared(state: State, event: ConversationCleared) -> None:
    state.messages.clear()


def _rewound(state: State, event: ConversationRewound) -> None:
    while state.messages and state.messages[-1].seq > event.to:
        state.messages.pop()


def _withdrawn(state: State, event: MessagesWithdrawn) -> None:
    targets = set(event.targets)
    state.messages = [message for message in state.messages if message.seq not in targets]


HANDLERS: dict[type[FoldInput], Callable[[State, Any], None]] = {
    MessageAdded: _added,
    MessageRun: _added_run,
    ConversationCleared: _cleared,
    ConversationRewound: _rewound,
    MessagesWithdrawn: _withdrawn,
}


def apply(state: State, event: FoldInput) -> None:
    """Apply one event, or one run of messages."""
    handler = HANDLERS.get(type(event))
    if handler is not None:
        handler(state, event)


projection: Fold[State] = Fold(State, State.copy, apply)
"""The current messages."""
