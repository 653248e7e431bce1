"""What the store's own log tells: which sessions go on from which, which templates there are, what is in the trash."""

from dataclasses import dataclass, field

from eventstore import events as e
from eventstore.ids import TEMPLATE
from projections.projection import Projection, Told


@dataclass(slots=True)
class State:
    """What became of sessions.

    `parents` maps each session and template that was forked, and not deleted since, to what it was forked from; `trashed` maps
    names in the trash to when they came there; `used` maps the ids of sessions that were deleted or put in the trash to the most
    events that one of them had. `forks` counts how often a log went on from another; `there` are the ids of those that came into
    being and did not end.
    """

    parents: dict[str, str] = field(default_factory=dict)
    trashed: dict[str, str] = field(default_factory=dict)
    used: dict[str, int] = field(default_factory=dict)
    forks: int = 0
    there: set[str] = field(default_factory=set)

    def copy(self) -> "State":
        """Give an independent state."""
        return State(self.parents.copy(), self.trashed.copy(), self.used.copy(), self.forks, self.there.copy())

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
    if isinstance(event, e.StoreSessionCreated):
        state.there.add(event.session_id)
    elif isinstance(event, e.StoreSessionForked):
        state.parents[event.session_id] = event.parent
        state.forks += 1
    elif isinstance(event, e.StoreSessionDeleted):
        state.parents.pop(event.session_id, None)
        _ended(state, event)
    elif isinstance(event, e.StoreSessionTrashed):
        state.trashed[event.name] = event.at
        _ended(state, event)
    elif isinstance(event, e.StoreSessionRestored):
        state.trashed.pop(event.name, None)
        state.there.add(event.session_id)
    elif isinstance(event, e.StoreTrashPurged):
        state.trashed.pop(event.name, None)


def _ended(state: State, event: e.StoreSessionDeleted | e.StoreSessionTrashed) -> None:
    state.there.discard(event.session_id)
    state.used[event.session_id] = max(state.used.get(event.session_id, 0), event.events)


projection: Projection[State] = Projection(State, State.copy, apply)
"""Forks, templates, the trash, ids that were used."""
