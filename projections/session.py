"""The full state of a session, folded in one pass."""

from copy import deepcopy
from dataclasses import dataclass, field
from typing import Any

from projections import conversation as conversation_fold
from projections import metadata as metadata_fold
from projections import summary as summary_fold
from projections.fold import Fold, FoldInput
from projections.invocations import Invocation
from projections.models import Conversation, Session


@dataclass(slots=True)
class State:
    """The summary and the conversation."""

    summary: summary_fold.State = field(default_factory=summary_fold.State)
    conversation: conversation_fold.State = field(default_factory=conversation_fold.State)

    @property
    def version(self) -> int:
        """The seq of the last event, or 0."""
        return self.summary.version

    @property
    def metadata(self) -> metadata_fold.State:
        """The metadata of the session."""
        return self.summary.metadata

    @property
    def data(self) -> dict[str, Any]:
        """The session's own data."""
        return self.summary.data

    @property
    def invocations(self) -> dict[str, Invocation]:
        """Tool calls by id, in the order of their first link."""
        return self.summary.metadata.calls

    def links(self) -> dict[str, str]:
        """Return the symbolic links of the session, see `tree.plan`."""
        return self.summary.links()

    def copy(self) -> "State":
        """Return an independent state."""
        return State(self.summary.copy(), self.conversation.copy())

    def to_model(self, session_id: str) -> Session:
        """Return the session as the public object."""
        return Session(
            metadata=self.metadata.to_model(session_id),
            invocation_ids=list(self.invocations),
            conversation=Conversation(self.conversation.messages),
            data=deepcopy(self.data),
            version=self.version,
        )


def apply(state: State, event: FoldInput) -> None:
    """Apply one event, or one run of messages."""
    summary_fold.apply(state.summary, event)
    conversation_fold.apply(state.conversation, event)


projection: Fold[State] = Fold(State, State.copy, apply)
"""The full state."""
