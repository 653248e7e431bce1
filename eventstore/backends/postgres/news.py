"""News of changes, as hints: NOTIFY in separate transactions, never inside appends, and LISTEN if there is no pooler.

NOTIFY takes a lock on the complete database until its transaction is committed, so appends with NOTIFY would queue.
"""

import os
import threading
from contextlib import suppress
from weakref import WeakSet

import psycopg

from eventstore.backends.postgres.database import Database
from eventstore.backends.postgres.failures import NotConnected
from eventstore.backends.postgres.feed import changed
from eventstore.log.port import PortError
from eventstore.log.watch import Bell, Watch

_COLLECT_SECONDS = 0.005
_LOOK_SECONDS = 0.1  # the time between polls through a pooler, which passes no notifications
_TICK_SECONDS = 0.25
_PAYLOAD_BYTES = 7_900  # PostgreSQL accepts less than 8,000
_NOTIFY = b"select set_config('synchronous_commit', 'off', true), pg_notify(%s, %s)"
_ANY = "*"


class _LogBell(Bell):
    """A watch on one log, or on all."""

    def __init__(self, log: str | None) -> None:
        super().__init__()
        self.log, self.is_closed = log, False

    def hear(self, names: set[str] | None) -> None:
        """Notify the watch if it watches one of the names; None means any."""
        found = names if self.log is None or names is None else names & {self.log}
        if found is None or found:
            self.ring(found)

    def close(self) -> None:
        self.is_closed = True


class News:
    """Changes of one store, for the watches in this process and for other processes."""

    def __init__(self, database: Database) -> None:
        self._database = database
        self._begin()

    def _begin(self) -> None:
        self._process = os.getpid()
        self._mutex = threading.Lock()
        self._bells: WeakSet[_LogBell] = WeakSet()
        self._pending: set[str] = set()
        self._teller: threading.Thread | None = None
        self._listener: threading.Thread | None = None

    def note(self, *names: str) -> None:
        """Report that logs changed: in this process at once, in others some milliseconds later."""
        if self._process != os.getpid():
            self._begin()
        self._ring(set(names))
        with self._mutex:
            self._pending.update(names)
            if self._teller is None:
                self._teller = threading.Thread(target=self._tell, name="eventstore-postgres-notify", daemon=True)
                self._teller.start()

    def _ring(self, names: set[str] | None) -> None:
        with self._mutex:
            bells = list(self._bells)
        for bell in bells:
            bell.hear(names)

    def _tell(self) -> None:
        pause, quiet = threading.Event(), 0
        while True:
            pause.wait(_COLLECT_SECONDS)
            quiet = 0 if self.send() else quiet + 1
            with self._mutex:
                if quiet > 40 and not self._pending:
                    self._teller = None
                    return

    def send(self) -> bool:
        """Notify other processes of pending changes; return False if there are none. A failure does no harm: they also poll."""
        with self._mutex:
            names, self._pending = sorted(self._pending), set()
        if not names:
            return False
        channel = self._channel()
        with suppress(psycopg.Error, NotConnected, PortError), self._database.connections.use() as connection:
            for payload in _payloads(names):
                connection.execute(_NOTIFY, [channel, payload])
        return True

    def _channel(self) -> str:
        return f"eventstore_{self._database.address.schema}"

    # --- listening

    def watch(self, log: str | None) -> Watch:
        """Watch one log, or all."""
        if self._process != os.getpid():
            self._begin()
        self._database.facts()
        bell = _LogBell(log)
        bell.ring(None)
        with self._mutex:
            self._bells.add(bell)
            if self._listener is None:
                self._listener = threading.Thread(target=self._hear, name="eventstore-postgres-listen", daemon=True)
                self._listener.start()
        return bell

    def _is_watched(self) -> bool:
        with self._mutex:
            for bell in list(self._bells):
                if bell.is_closed:
                    self._bells.discard(bell)
            if not self._bells:
                self._listener = None
            return self._listener is not None

    def _hear(self) -> None:
        pause = threading.Event()
        while self._is_watched():
            try:
                if self._database.facts().is_pooled:
                    self._look()
                else:
                    self._listen()
            except (psycopg.Error, NotConnected, PortError):
                self._ring(None)
                pause.wait(_TICK_SECONDS)

    def _listen(self) -> None:
        with self._database.connections.connect() as connection:
            connection.execute(f'listen "{self._channel()}"'.encode(), prepare=False)
            self._ring(None)  # earlier changes are not known
            while self._is_watched():
                for notice in connection.notifies(timeout=_TICK_SECONDS, stop_after=1):
                    self._ring(None if notice.payload == _ANY else set(notice.payload.split("\n")))

    def _look(self) -> None:
        pause, token = threading.Event(), changed(self._database, None).token
        self._ring(None)
        while self._is_watched():
            pause.wait(_LOOK_SECONDS)
            found = changed(self._database, token)
            token = found.token
            if found.logs:
                self._ring({name for name, _ in found.logs})


def _payloads(names: list[str]) -> list[str]:
    """Join as many names as fit into one notification."""
    found: list[str] = []
    for name in names:
        if found and len(found[-1]) + len(name) < _PAYLOAD_BYTES:
            found[-1] += "\n" + name
        else:
            found.append(name)
    return found
