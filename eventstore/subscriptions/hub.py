"""Hub: one watch for any number of listeners.

A listener is only notified that a session may have changed; it continues reading from its own position. So no event is
lost with a hint, and a thousand listeners cost one thread. What was read is not kept here: it may be redacted at any time.
"""

import threading
from collections.abc import Callable
from contextlib import suppress
from typing import TypeAlias

from eventstore.errors import EventStoreError
from eventstore.log.engine import EventLog

Notify: TypeAlias = Callable[[set[str] | None], None]
"""Called with the ids of sessions that may have changed, or None for any; in the hub's thread, so it must not wait."""

_LOOK_SECONDS = 2.0


class Listener:
    """Receives notifications of changes, of one session or of all; `close` ends it."""

    def __init__(self, hub: "Hub", session_id: str | None, notify: Notify) -> None:
        self._hub, self.session_id, self.notify = hub, session_id, notify

    def close(self) -> None:
        """Stop receiving notifications."""
        self._hub.drop(self)


class Hub:
    """Watches a log for all listeners of a process. Safe for threads. `close` ends its thread."""

    def __init__(self, log: EventLog, look_seconds: float = _LOOK_SECONDS) -> None:
        self._log, self._look_seconds = log, look_seconds
        self._mutex = threading.Lock()
        self._one: dict[str, list[Listener]] = {}
        self._all: list[Listener] = []
        self._ended = threading.Event()
        self._watch = log.watch(None)
        self._token: str | None = None
        self._thread = threading.Thread(target=self._run, name="eventstore-hub", daemon=True)
        self._thread.start()

    def listen(self, session_id: str | None, notify: Notify) -> Listener:
        """Report changes of a session, or of any with None, from now on."""
        listener = Listener(self, session_id, notify)
        with self._mutex:
            (self._all if session_id is None else self._one.setdefault(session_id, [])).append(listener)
        return listener

    def drop(self, listener: Listener) -> None:
        """End a listener."""
        with self._mutex:
            known = self._all if listener.session_id is None else self._one.get(listener.session_id, [])
            with suppress(ValueError):
                known.remove(listener)
            if listener.session_id is not None and not known:
                self._one.pop(listener.session_id, None)

    def close(self) -> None:
        """Stop watching, and wait for the thread."""
        self._ended.set()
        self._watch.wake()
        self._thread.join(5)
        self._watch.close()

    def _run(self) -> None:
        with suppress(EventStoreError, OSError):
            self._token = self._log.changed(None).token
        while not self._ended.is_set():
            hinted = self._watch.wait(self._look_seconds)
            if not self._ended.is_set():
                self._tell(hinted or self._look(), is_any=hinted is None)

    def _look(self) -> set[str]:
        """Ask the log itself what changed: a hint may be missing."""
        try:
            found = self._log.changed(self._token)
        except (EventStoreError, OSError):
            return set()
        first, self._token = self._token is None, found.token
        return set() if first or found.complete else {name for name, _ in found.logs}

    def _tell(self, changed: set[str], *, is_any: bool) -> None:
        if not changed and not is_any:
            return
        with self._mutex:
            if is_any:
                told = [one for listeners in self._one.values() for one in listeners]
            else:
                told = [one for name in changed for one in self._one.get(name, ())]
            told += self._all
        for one in told:
            one.notify(None if is_any else changed)
