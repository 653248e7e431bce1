"""Projection: the one fold loop."""

from collections.abc import Callable, Iterable
from dataclasses import dataclass
from typing import Any, Generic, TypeAlias, TypeVar

from eventstore.events import Event
from eventstore.record.message_run import MessageRun

S = TypeVar("S")
Told: TypeAlias = Event | MessageRun
"""What a fold takes in: an event, or messages in a row."""


@dataclass(frozen=True, slots=True)
class Projection(Generic[S]):
    """A fold of events into a state.

    `initial` makes the state before any event, `copy` an independent one, and `apply` takes one event into a state that the fold
    owns, or messages in a row where the projection need not look into each. Its law: `fold(b, fold(a)) == fold(a + b)`. A
    state handed in is never changed.
    """

    initial: Callable[[], S]
    copy: Callable[[S], S]
    apply: Callable[[S, Any], None]

    def fold(self, events: Iterable[Told], state: S | None = None) -> S:
        """Fold events, in the order of their log, into a new state that goes on from `state`."""
        owned = self.initial() if state is None else self.copy(state)
        apply = self.apply
        for event in events:
            apply(owned, event)
        return owned
