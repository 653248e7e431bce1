"""Projection: how programs fold events into a state of their own."""

from collections.abc import Callable, Iterable
from copy import deepcopy
from dataclasses import dataclass
from typing import Generic, TypeVar

from eventstore.events import Event
from eventstore.record import codec
from eventstore.record.message_run import MessageRun
from projections.fold import Fold, FoldInput

S = TypeVar("S")


@dataclass(slots=True)
class Folded(Generic[S]):
    """A state of a Projection, held so that the state may be replaced."""

    state: S


@dataclass(frozen=True, eq=False)
class Projection(Generic[S]):
    """A fold of events into a state: `SessionManager.project` folds a session with it.

    `initial` is the state before any event. `evolve(state, event)` returns the state after the event. It may change the
    given state, or build a new one. It uses no clock, file, environment or randomness: the same events give the same
    state. It receives every event, also unknown types (`UnknownEvent`) and removed ones (`RedactedEvent`), and returns
    the state unchanged for irrelevant ones.

    States are copied with `copy` before they are kept or returned. For states that cannot be changed, pass
    `copy=lambda state: state`. Make a projection once, in a module: states are cached for each object.
    """

    initial: S
    evolve: Callable[[S, Event], S]
    copy: Callable[[S], S] = deepcopy

    def __post_init__(self) -> None:
        """Raise TypeError if a function is none."""
        for name in ("evolve", "copy"):
            given = getattr(self, name)
            if not callable(given):
                raise TypeError(f"{name} is a {type(given).__name__}, not a function")

    def fold(self, events: Iterable[Event]) -> S:
        """Fold events, in the order of the log, from the initial state."""
        return self.as_fold().fold(events).state

    def as_fold(self) -> Fold[Folded[S]]:
        """Return the same fold as the state cache uses it."""
        return Fold(
            lambda: Folded(self.copy(self.initial)), lambda folded: Folded(self.copy(folded.state)), self._apply
        )

    def _apply(self, folded: Folded[S], event: FoldInput) -> None:
        events = codec.decode_lines(event.lines) if isinstance(event, MessageRun) else (event,)
        for one in events:
            folded.state = self.evolve(folded.state, one)
