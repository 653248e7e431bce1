"""Projection: the one fold loop."""

from collections.abc import Callable, Iterable
from dataclasses import dataclass
from typing import Generic, TypeVar

from eventstore.events import Event

S = TypeVar("S")


@dataclass(frozen=True, slots=True)
class Projection(Generic[S]):
    """A fold of events into a state.

    `initial` makes the state before any event, `copy` an independent one, and `apply` takes one event into a state that the fold
    owns. Its law: `fold(b, fold(a)) == fold(a + b)`. A state handed in is never changed.
    """

    initial: Callable[[], S]
    copy: Callable[[S], S]
    apply: Callable[[S, Event], None]

    def fold(self, events: Iterable[Event], state: S | None = None) -> S:
        """Fold events, in the order of their log, into a new state that goes on from `state`."""
        owned = self.initial() if state is None else self.copy(state)
        apply = self.apply
        for event in events:
            apply(owned, event)
        return owned
