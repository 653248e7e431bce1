"""A session without what was said: small enough to be kept for many sessions, whatever their length."""

from array import array
from dataclasses import dataclass, field
from typing import Any

from eventstore import events as e
from eventstore.record.message_run import MessageRun
from projections import data as data_fold
from projections import metadata as metadata_fold
from projections import tree
from projections.projection import Projection, Told


def _numbers() -> "array[int]":
    return array("q")


@dataclass(slots=True)
class State:
    """What is known at `version`.

    `spoken` are the seqs of the messages that the conversation holds. `rewritten_at`, `linked_at` and `kept_at` are the seqs of
    the last events that took messages away, told of a tool call, and changed the session's own data, `redacted_at` that of the
    last that told of a redaction; 0 where there was none.
    """

    version: int = 0
    metadata: metadata_fold.State = field(default_factory=metadata_fold.State)
    data: dict[str, Any] = field(default_factory=dict)
    spoken: "array[int]" = field(default_factory=_numbers)
    rewritten_at: int = 0
    linked_at: int = 0
    kept_at: int = 0
    redacted_at: int = 0

    def links(self) -> dict[str, str]:
        """Plan the session's tree, as `tree.plan` does."""
        return tree.plan(self.metadata.calls.values())

    def copy(self) -> "State":
        """Give an independent state."""
        return State(
            self.version,
            self.metadata.copy(),
            dict(self.data),  # no event changes a value in place
            self.spoken[:],
            self.rewritten_at,
            self.linked_at,
            self.kept_at,
            self.redacted_at,
        )


def apply(state: State, event: Told) -> None:
    """Take one event in."""
    metadata_fold.apply(state.metadata, event)
    if isinstance(event, MessageRun):
        state.spoken.extend(range(event.first, event.last + 1))
        state.version = event.last
        return
    state.version = event.seq
    kind = type(event)
    if kind is e.MessageAdded:
        state.spoken.append(event.seq)
    elif kind in _LINKING:
        state.linked_at = event.seq
    elif kind in _KEEPING:
        state.kept_at = event.seq
        data_fold.apply(state.data, event)
    elif kind is e.EventRedacted:
        state.redacted_at = event.seq
    elif isinstance(event, e.ConversationCleared):
        state.rewritten_at = event.seq
        del state.spoken[:]
    elif isinstance(event, e.ConversationRewound):
        state.rewritten_at = event.seq
        while state.spoken and state.spoken[-1] > event.to:
            state.spoken.pop()


_LINKING = frozenset([e.InvocationLinked, e.InvocationUnlinked])
_KEEPING = frozenset([e.DataSet, e.DataDeleted, e.DataCleared])

projection: Projection[State] = Projection(State, State.copy, apply)
"""All but the conversation."""
