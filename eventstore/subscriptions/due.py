"""Which sessions a subscription has to read: by looks at what changed, one call each, and by hints in between.

A hint may be missing or wrong, so there is a look from time to time without one. A look is believed, and from time to time it is
one at everything, for what was changed by hand or by a program that keeps no record of changes.
"""

import time
from collections.abc import Collection, Iterable
from heapq import heappop, heappush

from eventstore.errors import InvalidSessionId
from eventstore.ids import check_session_id
from eventstore.log.base import NO_LOG
from eventstore.log.engine import EventLog

_LOOK_SECONDS, _FULL_LOOK_SECONDS = 2.0, 60.0
_LOOK_SHARE, _HINTED_SHARE = 100, 20
"""The largest part of the time for polls without a hint, and after a hint that any session may have changed."""
_AGAIN_SECONDS, _AGAIN_UNTIL_SECONDS = 0.01, 2.0
"""A session that came is read again, each time after twice as long: what happens in a new folder may not be reported yet."""


class DueSessions:
    """The sessions that may hold something new, in the order to read them. `known` are those that were read before.

    Of one session a look is only to read it. For one thread, apart from `stop`.
    """

    def __init__(self, log: EventLog, session_id: str | None, known: Collection[str], *, live: bool) -> None:
        self._log, self._session_id, self._known = log, session_id, known
        self._watch = log.watch(session_id) if live else None
        self._due: dict[str, None] = {}
        self._seen: dict[str, str | None] = dict.fromkeys(known, "")  # a deleted one is due
        self._token: str | None = None
        self._next_look = self._hinted_look = self._next_full_look = 0.0
        self._again: list[tuple[float, float, str]] = []

    def __bool__(self) -> bool:
        return bool(self._due)

    def add(self, session_id: str) -> None:
        """Schedule a session to be read after the others."""
        self._due[session_id] = None

    def drop(self, session_ids: Iterable[str]) -> None:
        """Do not read sessions that were found to hold nothing new after the last look."""
        for session_id in session_ids:
            self._due.pop(session_id, None)

    def names(self) -> list[str]:
        """List the sessions that are due."""
        return list(self._due)

    def pop(self) -> str:
        """Take the session that is to be read next."""
        session_id = next(iter(self._due))
        del self._due[session_id]
        return session_id

    def look(self) -> None:
        """Find what changed since the last look, in one call."""
        began = time.monotonic()
        if self._session_id is not None:
            self._due[self._session_id] = None
        else:
            self._look_at_all(is_full=began >= self._next_full_look)
        now = time.monotonic()
        took = now - began
        self._hinted_look = now + _HINTED_SHARE * took
        self._next_look = now + max(_LOOK_SECONDS, _LOOK_SHARE * took)

    def _look_at_all(self, *, is_full: bool) -> None:
        began = time.monotonic()
        changes = self._log.changed(None if is_full else self._token)
        if is_full:
            now = time.monotonic()
            self._next_full_look = now + max(_FULL_LOOK_SECONDS, _LOOK_SHARE * (now - began))
        self._token = changes.token
        found = {name: text for name, text in changes.logs if is_session(name) and text != NO_LOG}
        if changes.complete:
            found |= dict.fromkeys(self._seen.keys() - found.keys())
        for name in sorted(found):
            if name not in self._seen or self._seen[name] != found[name]:
                self._seen[name] = found[name]
                self._due[name] = None

    def wait(self) -> None:
        """Wait for a hint, or until it is time to look without one; then look, if it is time."""
        assert self._watch is not None  # noqa: S101 - only who is live waits
        rest = min(self._next_look, self._again[0][0] if self._again else self._next_look) - time.monotonic()
        if rest > 0:
            hinted = self._watch.wait(rest)
            if hinted is None:
                self._next_look = min(self._next_look, self._hinted_look)
            else:
                for name in hinted:
                    self._hint(name)
        now = time.monotonic()
        while self._again and self._again[0][0] <= now:
            _, seconds, name = heappop(self._again)
            self._due[name] = None
            self._read_again(name, 2 * seconds)
        if now >= self._next_look:
            self.look()

    def _hint(self, name: str) -> None:
        if name in self._known or name == self._session_id:
            self._due[name] = None
        elif self._session_id is None and is_session(name):
            self._due[name] = None
            if not self._log.backend.capabilities.blocking:
                self._read_again(name, _AGAIN_SECONDS)

    def _read_again(self, name: str, seconds: float) -> None:
        if seconds < _AGAIN_UNTIL_SECONDS:
            heappush(self._again, (time.monotonic() + seconds, seconds, name))

    def stop(self) -> None:
        """Make a waiting call return at once, from any thread."""
        if self._watch is not None:
            self._watch.wake()

    def close(self) -> None:
        """Watch no longer."""
        if self._watch is not None:
            self._watch.close()


def is_session(name: str) -> bool:
    """Return whether a session may have that name."""
    try:
        check_session_id(name)
    except InvalidSessionId:
        return False
    return True
