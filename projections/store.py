"""What the store's own log tells: which sessions go on from which, and which templates there are."""

from dataclasses import dataclass, field

from eventstore import events as e
from eventstore.names import TEMPLATE
from projections.projection import Projection, Told


@dataclass(slots=True)
class State:
    """`parents` maps each session and template that was forked, and not deleted since, to what it was forked from."""

    parents: dict[str, str] = field(default_factory=dict)

    def copy(self) -> "State":
        """Give an independent state."""
        return State(self.parents.copy())

    def descendants(self, session_id: str) -> list[str]:
        """List what goes on from a session, or from what goes on from it, each in front of its own descendants."""
        found = [session_id]
        for one in found:
            found += [child for child, parent in self.parents.items() if parent == one and child not in found]
        return found[1:]

    def templates(self) -> list[str]:
        """List the names of templates."""
        return sorted(one.removeprefix(TEMPLATE) for one in self.parents if one.startswith(TEMPLATE))


def apply(state: State, event: Told) -> None:
    """Take one event in."""
    if isinstance(event, e.StoreSessionForked):
        state.parents[event.session_id] = event.parent
    elif isinstance(event, e.StoreSessionDeleted):
        state.parents.pop(event.session_id, None)


projection: Projection[State] = Projection(State, State.copy, apply)
"""Forks and templates."""
