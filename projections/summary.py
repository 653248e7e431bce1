"""A session without its messages: small enough to cache for many sessions of any length."""

from array import array
from dataclasses import dataclass, field
from typing import Any

from eventstore import events as e
from eventstore.record.message_run import MessageRun
from projections import data as data_fold
from projections import metadata as metadata_fold
from projections import tree
from projections.fold import Fold, FoldInput


def _numbers() -> "array[int]":
    return array("q")


@dataclass(slots=True)
class State:
    """The state at `version`.

    `spoken` are the seqs of the messages in the current conversation. The other fields are seqs, or 0 if there was no such event:
    `rewritten_at` of the last event that removed messages, `linked_at` of the last link of a tool call, `kept_at` of the last
    change of the session's own data, `redacted_at` of the last recorded redaction.
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
        """Return the symbolic links of the session, see `tree.plan`."""
        return tree.plan(self.metadata.calls.values())

    def copy(self) -> "State":
        """Return an independent state."""
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


def apply(state: State, event: FoldInput) -> None:
    """Apply one event, or one run of messages."""
    metadata_fold.apply(state.metadata, event)
    if isinstance(event, MessageRun):
        state.spoken.extend(range(event.first, event.last + 1))
        state.version = event.last
        return
    state.version = event.seq
    kind = type(event)
    if kind is e.MessageAdded:
        state.spoken.append(event.seq)
    elif kind in _LINK_EVENTS:
        state.linked_at = event.seq
    elif kind in _DATA_EVENTS:
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
    elif isinstance(event, e.MessagesWithdrawn):
        state.rewritten_at = event.seq
        targets = set(event.targets)
        state.spoken = array("q", (seq for seq in state.spoken if seq not in targets))


_LINK_EVENTS = frozenset([e.InvocationStarted, e.InvocationLinked, e.InvocationUnlinked])
_DATA_EVENTS = frozenset([e.DataSet, e.DataDeleted, e.DataCleared])

projection: Fold[State] = Fold(State, State.copy, apply)
"""Everything except the text of the conversation."""
