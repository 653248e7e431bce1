"""A session as a whole: everything else, folded together in one pass."""

from copy import deepcopy
from dataclasses import dataclass, field
from typing import Any

from eventstore import events as e
from projections import conversation, data, metadata, tree
from projections.invocations import Invocation
from projections.models import Session
from projections.projection import Projection


@dataclass(slots=True)
class State:
    """The states of the parts, and the `version` they stand for."""

    version: int = 0
    metadata: metadata.State = field(default_factory=metadata.State)
    conversation: conversation.State = field(default_factory=conversation.State)
    data: dict[str, Any] = field(default_factory=dict)

    @property
    def invocations(self) -> dict[str, Invocation]:
        """Tool calls by id, in the order of their first link."""
        return self.metadata.calls

    @property
    def rewritten_at(self) -> int:
        """The seq of the last event that took messages away."""
        return self.conversation.rewritten_at

    def links(self) -> dict[str, str]:
        """Plan the session's tree, as `tree.plan` does."""
        return tree.plan(self.invocations.values())

    def copy(self) -> "State":
        """Give an independent state."""
        return State(self.version, self.metadata.copy(), self.conversation.copy(), deepcopy(self.data))

    def to_model(self, session_id: str) -> Session:
        """Show the state as callers hold it."""
        return Session(
            metadata=self.metadata.to_model(session_id),
            invocation_ids=list(self.invocations),
            conversation=list(conversation.to_models(self.conversation.messages)),
            data=deepcopy(self.data),
            version=self.version,
        )


_PARTS = {
    e.MessageAdded: "conversation",
    e.ConversationCleared: "conversation",
    e.ConversationRewound: "conversation",
    e.DataSet: "data",
    e.DataDeleted: "data",
    e.DataCleared: "data",
}


def apply(state: State, event: e.Event) -> None:
    """Take one event in."""
    state.version = event.seq
    metadata.apply(state.metadata, event)
    part = _PARTS.get(type(event))
    if part == "conversation":
        conversation.apply(state.conversation, event)
    elif part == "data":
        data.apply(state.data, event)


projection: Projection[State] = Projection(State, State.copy, apply)
"""Everything at once."""
