"""Fold: the one loop that folds events into a state that it owns."""

from collections.abc import Callable, Iterable
from typing import Any, Generic, NamedTuple, TypeAlias, TypeVar

from eventstore.events import Event
from eventstore.record.message_run import MessageRun

S = TypeVar("S")
FoldInput: TypeAlias = Event | MessageRun
"""The input of a fold: an event, or a run of messages."""


class Fold(NamedTuple, Generic[S]):
    """A fold of events into a state.

    `initial` returns the state before any event. `copy` returns an independent copy of a state. `apply` changes a state that the
    fold owns by one event, or by a run of messages if the projection does not read each message. The law:
    `fold(b, fold(a)) == fold(a + b)`. A state that is passed in is never changed.
    """

    initial: Callable[[], S]
    copy: Callable[[S], S]
    apply: Callable[[S, Any], None]

    def fold(self, events: Iterable[FoldInput], state: S | None = None) -> S:
        """Fold events, in log order, into a new state. Starts from a copy of `state`, or from `initial`."""
        owned = self.initial() if state is None else self.copy(state)
        apply = self.apply  # a local name: the loop runs once per event
        for event in events:
            apply(owned, event)
        return owned
