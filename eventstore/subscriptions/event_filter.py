"""Which events a subscription delivers."""

from collections.abc import Callable, Collection, Sequence
from typing import NamedTuple

from eventstore.custom_events import ReadEvent
from eventstore.events import SessionAdjusted, SessionCreated, SessionUpdated
from projections.models import SessionMetadata

_DESCRIBING = (SessionCreated, SessionUpdated, SessionAdjusted)


class EventFilter(NamedTuple):
    """Which events a subscription delivers; all of these must fit.

    `types` and `tools` are those of the event; `user_id` and `tags` those of its session, as they are when it is delivered, tags
    any of them; `since` the time it was recorded, RFC 3339 UTC.
    """

    types: Collection[str] | None = None
    tools: Collection[str] | None = None
    user_id: str | None = None
    tags: Collection[str] | None = None
    since: str | None = None

    def check(self) -> "EventFilter":
        """Return itself. Raises ValueError for a text where several are wanted."""
        for name in ("types", "tools", "tags"):
            if isinstance(getattr(self, name), str):
                raise ValueError(f"{name} is not a list of texts")
        return self

    def fits(self, event: ReadEvent) -> bool:
        """Return whether an event fits, in any session."""
        return (
            (self.types is None or event.type in self.types)
            and (self.tools is None or getattr(event, "tool_name", None) in self.tools)
            and (self.since is None or event.at >= self.since)
        )


class SessionFilter:
    """Which sessions a subscription delivers events of, by what they are now."""

    def __init__(self, wanted: EventFilter, describe: Callable[[str], SessionMetadata]) -> None:
        self._wanted, self._describe = wanted, describe
        self._known: dict[str, SessionMetadata] = {}

    def fits(self, session_id: str, events: Sequence[ReadEvent]) -> bool:
        """Return whether a session fits. It is checked again if these new events may change the answer."""
        wanted = self._wanted
        if wanted.user_id is None and wanted.tags is None:
            return True
        known = self._known.get(session_id)
        if known is None or any(isinstance(event, _DESCRIBING) for event in events):
            known = self._known[session_id] = self._describe(session_id)
        return (wanted.user_id is None or known.user_id == wanted.user_id) and (
            wanted.tags is None or any(tag in known.tags for tag in wanted.tags)
        )
