"""A session without what was said: small enough to be kept for many sessions, whatever their length."""

from copy import deepcopy
from dataclasses import dataclass, field
from typing import Any

from eventstore import events as e
from projections import data as data_fold
from projections import metadata as metadata_fold
from projections import tree
from projections.projection import Projection


@dataclass(slots=True)
class State:
    """What is known at `version`; `rewritten_at` is the seq of the last event that took messages away, or 0."""

    version: int = 0
    metadata: metadata_fold.State = field(default_factory=metadata_fold.State)
    data: dict[str, Any] = field(default_factory=dict)
    rewritten_at: int = 0

    def links(self) -> dict[str, str]:
        """Plan the session's tree, as `tree.plan` does."""
        return tree.plan(self.metadata.calls.values())

    def copy(self) -> "State":
        """Give an independent state."""
        return State(self.version, self.metadata.copy(), deepcopy(self.data), self.rewritten_at)


_DATA = (e.DataSet, e.DataDeleted, e.DataCleared)
_REWRITING = (e.ConversationCleared, e.ConversationRewound)


def apply(state: State, event: e.Event) -> None:
    """Take one event in."""
    state.version = event.seq
    metadata_fold.apply(state.metadata, event)
    if isinstance(event, _DATA):
        data_fold.apply(state.data, event)
    elif isinstance(event, _REWRITING):
        state.rewritten_at = event.seq


projection: Projection[State] = Projection(State, State.copy, apply)
"""All but the conversation."""
