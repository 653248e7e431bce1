"""The state of the registry: existing sessions, forks, the trash, ids of ended sessions."""

from dataclasses import dataclass, field
from typing import NamedTuple

from eventstore import events as e
from eventstore.ids import TEMPLATE
from projections.fold import Fold, FoldInput


class Life(NamedTuple):
    """One session under an id: the hash of its first own event, and the fork point (`parent`, `upto`) recorded before it.

    `first_hash` is empty if the registry never recorded the creation.
    """

    first_hash: str = ""
    parent: str = ""
    upto: int = 0


class TrashedSession(NamedTuple):
    """A session in the trash: since when (RFC 3339), and the size and last hash of its log."""

    since: str
    events: int
    size_bytes: int
    head_hash: str
    life: Life


@dataclass(slots=True)
class State:
    """The sessions of a store.

    - `parents`: parent by id, for sessions and templates that are forks and were not deleted.
    - `children`: the forks of each parent.
    - `trashed`: sessions in the trash by their name there. `purged`: names that were purged and not used again.
    - `used`: the ids that were deleted or trashed, with the largest number of events that a session of the id had.
    - `there`: the ids of existing sessions. `lives`: the last session of each id, existing or not.
    - `forked_at`: the number of inherited events of each fork.
    - `forks`: how often a log was forked.
    - `redacted_lines`: marks of the imported lines that were redacted.
    - `unfinished`: the redactions that are not done yet, by the number of the event that announced them: their sessions.
    - `unsettled_names` and `unsettled_ids`: names in the trash and ids whose last step a crash may have prevented; a writer who
      has compared them with the logs removes them.
    """

    parents: dict[str, str] = field(default_factory=dict)
    children: dict[str, dict[str, None]] = field(default_factory=dict)
    trashed: dict[str, TrashedSession] = field(default_factory=dict)
    purged: set[str] = field(default_factory=set)
    used: dict[str, int] = field(default_factory=dict)
    there: set[str] = field(default_factory=set)
    lives: dict[str, Life] = field(default_factory=dict)
    forked_at: dict[str, int] = field(default_factory=dict)
    forks: int = 0
    unsettled_names: set[str] = field(default_factory=set)
    unsettled_ids: set[str] = field(default_factory=set)
    redacted_lines: set[str] = field(default_factory=set)
    unfinished: dict[int, str] = field(default_factory=dict)

    def copy(self) -> "State":
        """Return an independent state."""
        return State(
            self.parents.copy(),
            {parent: children.copy() for parent, children in self.children.items()},
            self.trashed.copy(),
            self.purged.copy(),
            self.used.copy(),
            self.there.copy(),
            self.lives.copy(),
            self.forked_at.copy(),
            self.forks,
            self.unsettled_names.copy(),
            self.unsettled_ids.copy(),
            self.redacted_lines.copy(),
            self.unfinished.copy(),
        )

    def descendants(self, session_id: str) -> list[str]:
        """List the forks of a session and their forks, each before its own descendants. Linear in the number of descendants."""
        found, seen = [session_id], {session_id}
        for one in found:
            for child in self.children.get(one, ()):
                if child not in seen:
                    seen.add(child)
                    found.append(child)
        return found[1:]

    def templates(self) -> list[str]:
        """List the names of templates."""
        return sorted(one.removeprefix(TEMPLATE) for one in self.parents if one.startswith(TEMPLATE))


def apply(state: State, event: FoldInput) -> None:
    """Apply one event."""
    if isinstance(event, e.StoreSessionCreated):
        life = Life(event.first_hash, state.parents.get(event.session_id, ""), state.forked_at.get(event.session_id, 0))
        state.there.add(event.session_id)
        state.lives[event.session_id] = life
    elif isinstance(event, e.StoreSessionForked):
        _unlink(state, event.session_id)
        state.parents[event.session_id] = event.parent
        state.children.setdefault(event.parent, {})[event.session_id] = None
        state.forked_at[event.session_id] = event.upto
        state.forks += 1
    elif isinstance(event, e.StoreSessionDeleted):
        _unlink(state, event.session_id)
        _end(state, event)
        state.unsettled_ids.add(event.session_id)
    elif isinstance(event, e.StoreSessionTrashed):
        life = state.lives.get(event.session_id, Life())
        state.trashed[event.name] = TrashedSession(event.at, event.events, event.size_bytes, event.head_hash, life)
        state.purged.discard(event.name)
        _end(state, event)
        state.unsettled_names.add(event.name)
    elif isinstance(event, e.StoreSessionRestored):
        trashed = state.trashed.pop(event.name, None)
        state.there.add(event.session_id)
        if trashed is not None:
            state.lives[event.session_id] = trashed.life
        state.unsettled_names.add(event.name)
    elif isinstance(event, e.StoreTrashPurged):
        state.trashed.pop(event.name, None)
        state.purged.add(event.name)
        state.unsettled_names.add(event.name)
    elif isinstance(event, e.StoreEventsRedacted):
        state.redacted_lines.update(event.lines)
        if event.whole is not None and event.targets:
            state.unfinished[event.seq] = event.session_id
    elif isinstance(event, e.StoreRedactionFinished):
        state.unfinished.pop(event.record, None)


def _unlink(state: State, session_id: str) -> None:
    """Remove the fork point of a session, if there is one."""
    parent = state.parents.pop(session_id, None)
    state.forked_at.pop(session_id, None)
    if parent is not None:
        children = state.children[parent]
        del children[session_id]
        if not children:
            del state.children[parent]


def _end(state: State, event: e.StoreSessionDeleted | e.StoreSessionTrashed) -> None:
    state.there.discard(event.session_id)
    state.used[event.session_id] = max(state.used.get(event.session_id, 0), event.events)


projection: Fold[State] = Fold(State, State.copy, apply)
"""Forks, templates, the trash, ids that were used."""
