"""Sub-agents that are recorded inside their parent's transcript: sessions of their own, appended before the parent's lines."""

from dataclasses import dataclass, field

from msgspec.structs import replace

from eventstore import events as e
from eventstore.errors import SessionNotFound
from eventstore.importers.meaning import Child
from eventstore.log.base import Append
from eventstore.store.storage import SessionStorage
from projections.models import SessionStatus


@dataclass
class Children:
    """The events of sub-agents that wait for the next append, and their sessions: begun by this import, or known before."""

    storage: SessionStorage
    waiting: list[Child] = field(default_factory=list)
    begun: set[str] = field(default_factory=set)
    known: set[str] = field(default_factory=set)

    def add(self, found: list[Child], time: str | None) -> None:
        """Take what a line says of sub-agents, at the time of the line."""
        for child in found:
            child.created = e.at_time(child.created, time)
            child.events = [e.at_time(event, time) for event in child.events]
        self.waiting += found

    def end(self, key: str, time: str | None) -> None:
        """Complete all sub-agents: their parent has ended. Those of earlier imports too, where a kill left them active."""
        created = {child.session_id: child.created for child in self.waiting}
        cut_short = {name for name in self.known - self.begun if self._is_active(name)}
        self.begun |= cut_short
        for name in self.begun | created.keys():
            ended = e.at_time(e.SessionCompleted(), time)
            self.waiting.append(Child(name, created.get(name, ended), [ended], key))

    def _is_active(self, name: str) -> bool:
        try:
            return self.storage.metadata(name).status == SessionStatus.ACTIVE
        except SessionNotFound:
            return False

    def flush(self) -> None:
        """Append what waits: the events of each session at once, and each line's events once only."""
        appends = list[Append]()
        for child in self.waiting:
            if child.session_id not in self.begun:
                self.begun.add(child.session_id)
                appends.append(Append(child.session_id, [replace(child.created, id="created")], 0))
            key = child.key
            events = [replace(event, id=f"{key}.{at}" if key else None) for at, event in enumerate(child.events)]
            appends.append(Append(child.session_id, events))
        self.waiting.clear()
        written = self.storage.append_many(appends, imported=True)
        written.flush()
        for outcome in written.outcomes:
            if isinstance(outcome, Exception):
                raise outcome
