"""Locks with a name, for all processes: advisory locks that end with a transaction, so they work through a pooler."""

import os
import threading
from collections.abc import Iterator
from contextlib import contextmanager, suppress

import psycopg

from eventstore.backends.postgres.connections import Connection
from eventstore.backends.postgres.database import Database
from eventstore.backends.postgres.failures import translated

_TAKE = b"select set_config('idle_in_transaction_session_timeout', '0', true), pg_advisory_xact_lock(%s)"


class _Local:
    """The lock of a name inside this process: only one of its threads waits for the server."""

    def __init__(self) -> None:
        self.lock, self.users = threading.RLock(), 0


class Locks:
    """The locks that threads of this process hold."""

    def __init__(self, database: Database) -> None:
        self._database = database
        self._begin()

    def _begin(self) -> None:
        self._process = os.getpid()
        self._mutex = threading.Lock()
        self._local: dict[str, _Local] = {}
        self._mine = threading.local()

    def holds(self, name: str) -> bool:
        """Return whether this thread holds the lock."""
        return self._process == os.getpid() and name in getattr(self._mine, "names", ())

    @contextmanager
    def hold(self, name: str) -> Iterator[None]:
        """Hold the lock until the block ends.

        If the connection breaks in the meantime, the server may have given it to others. A forked child that leaves the block
        releases nothing: the lock is its parent's.
        """
        if self._process != os.getpid():
            self._begin()
        with self._mutex:
            local = self._local.setdefault(name, _Local())
            local.users += 1
        process = os.getpid()
        try:
            with local.lock:
                if self.holds(name):
                    yield
                else:
                    with self._on_server(name):
                        yield
        finally:
            if process == os.getpid():
                self._leave(name, local)

    def _leave(self, name: str, local: _Local) -> None:
        with self._mutex:
            local.users -= 1
            if not local.users:
                self._local.pop(name, None)

    @contextmanager
    def _on_server(self, name: str) -> Iterator[None]:
        number = self._database.number_of(name)
        lent = self._database.connections.use_for_lock()
        with translated(name, self._database.where):
            connection = lent.__enter__()
            try:
                _begin(connection, number)
            except BaseException:
                lent.__exit__(None, None, None)
                raise
        names: set[str] = self._mine.__dict__.setdefault("names", set())
        names.add(name)
        process = os.getpid()
        try:
            yield
        finally:
            names.discard(name)
            if process == os.getpid():  # a child has the same connection, and would end the transaction of its parent
                with suppress(psycopg.Error):
                    connection.execute(b"commit", prepare=False)
                lent.__exit__(None, None, None)


def _begin(connection: Connection, number: int) -> None:
    connection.execute(b"begin", prepare=False)
    connection.execute(_TAKE, [number])
