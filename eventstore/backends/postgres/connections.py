"""Connections to one database: kept while idle, closed when an answer takes too long, never shared with a forked child."""

import os
import select
import socket
import threading
import time
import weakref
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from functools import partial
from operator import methodcaller
from queue import Empty, SimpleQueue
from typing import Any

import psycopg
from psycopg.conninfo import conninfo_to_dict
from psycopg.types.numeric import Int8BinaryDumper

from eventstore.backends.postgres.failures import WRONG_URL, NotConnected, is_lost
from eventstore.log.locking import run

Connection = psycopg.Connection[tuple[Any, ...]]
_SPARE_LOCK_CONNECTIONS = 2
_WATCH_SECONDS = 0.5
_FIRST_PAUSE_SECONDS, _MOST_PAUSE_SECONDS = 0.05, 1.0


class Connections:
    """At most `limit` connections for statements, which are short, and any number of connections for holding locks.

    A lock is held while its holder works, so it must not take a connection that this holder needs.
    """

    def __init__(self, conninfo: str, limit: int, timeout: float) -> None:
        self._conninfo, self._limit, self._timeout = conninfo, limit, timeout
        self._prepares: bool | None = None
        self._warned: set[int] = set()
        self._begin()

    def _begin(self) -> None:
        self._process = os.getpid()
        self._mutex = threading.Lock()
        self._permits: SimpleQueue[None] = SimpleQueue()
        for _ in range(self._limit):
            self._permits.put(None)
        self._idle: list[Connection] = []
        self._idle_for_locks: list[Connection] = []
        weakref.finalize(self, _close_all, self._process, [self._idle, self._idle_for_locks])
        self._deadlines: dict[Connection, float] = {}
        self._watcher: threading.Thread | None = None

    def _check_process(self) -> None:
        """Forget what a forked child has of its parent. psycopg closes no connection of another process."""
        if self._process != os.getpid():
            self._begin()

    def connect(self) -> Connection:
        """Open a separate connection, in autocommit. Raises NotConnected."""
        until = time.monotonic() + (0.0 if self._prepares is None else self._timeout)
        pause = _FIRST_PAUSE_SECONDS
        while True:
            try:
                found = psycopg.connect(
                    self._conninfo, autocommit=True, prepare_threshold=5 if self._prepares else None
                )
            except psycopg.Error as error:
                if time.monotonic() + pause > until:
                    raise NotConnected(_reason(error, self._conninfo)) from None
                time.sleep(pause)  # the server answered before: it is restarting, or another one takes over
                pause = min(pause * 2, _MOST_PAUSE_SECONDS)
            else:
                break
        found.adapters.register_dumper(
            int, Int8BinaryDumper
        )  # otherwise each size of a number is another statement to prepare
        found.add_notice_handler(partial(_note, self._warned, id(found)))  # not self: it would never be collected
        return found

    def opened(self, *, prepares: bool) -> None:
        """Record that the server answered, and whether statements may be prepared. From now on, connecting waits for it."""
        self._prepares = prepares
        with self._mutex:
            for connection in self._idle:
                connection.prepare_threshold = 5 if prepares else None

    def was_warned(self, connection: Connection) -> bool:
        """Return whether the server sent a warning since the connection was taken."""
        return id(connection) in self._warned

    @contextmanager
    def use(self, *, patient: bool = False) -> Iterator[Connection]:
        """Yield a connection for one statement or one transaction. `patient`: no time limit for an answer."""
        self._check_process()
        taken = list[None]()
        giving_back = map(self._permits.put, taken)
        permits = map(methodcaller("get", timeout=self._timeout), [self._permits])
        try:
            try:
                taken.extend(permits)  # in one call of C: no Ctrl-C comes between a permit and its entry here
            except Empty:
                raise NotConnected(f"all {self._limit} connections are in use") from None
            connection = self._take(self._idle)
            if not patient:
                self._set_deadline(connection)
            try:
                yield connection
            except BaseException as error:
                if is_lost(error):
                    self.drop_idle()
                raise
            finally:
                with self._mutex:
                    self._deadlines.pop(connection, None)
                self._give_back(connection, self._idle, self._limit)
        finally:
            run(giving_back)

    @contextmanager
    def use_for_lock(self) -> Iterator[Connection]:
        """Yield a connection that may be kept for long."""
        self._check_process()
        connection = self._take(self._idle_for_locks)
        try:
            yield connection
        finally:
            self._give_back(connection, self._idle_for_locks, _SPARE_LOCK_CONNECTIONS)

    def _take(self, idle: list[Connection]) -> Connection:
        while True:
            with self._mutex:
                if not idle:
                    break
                found = idle.pop()
            if not _is_readable(found):  # a waiting connection gets no data, except its end
                return found
            _close(found)
        return self.connect()

    def _give_back(self, connection: Connection, idle: list[Connection], limit: int) -> None:
        self._warned.discard(id(connection))
        if connection.closed or self._process != os.getpid():
            return
        if connection.info.transaction_status != psycopg.pq.TransactionStatus.IDLE:
            _close(connection)
            return
        with self._mutex:
            if len(idle) < limit:
                idle.append(connection)
                return
        _close(connection)

    def drop_idle(self) -> None:
        """Close all idle connections."""
        with self._mutex:
            dropped = [*self._idle, *self._idle_for_locks]
            self._idle.clear()
            self._idle_for_locks.clear()
        for one in dropped:
            _close(one)

    # --- missing answers

    def extend_deadline(self, connection: Connection) -> None:
        """Restart the waiting time: a part of the answer has come."""
        with self._mutex:
            if connection in self._deadlines:
                self._deadlines[connection] = time.monotonic() + self._timeout

    def _set_deadline(self, connection: Connection) -> None:
        with self._mutex:
            self._deadlines[connection] = time.monotonic() + self._timeout
            if self._watcher is None:
                self._watcher = threading.Thread(target=self._watch, name="eventstore-postgres-timeouts", daemon=True)
                self._watcher.start()

    def _watch(self) -> None:
        """Close connections whose answer is overdue: the waiting caller gets an error. It ends when no caller waits."""
        pause = threading.Event()
        quiet = 0
        while True:
            pause.wait(_WATCH_SECONDS)
            now = time.monotonic()
            with self._mutex:
                quiet = 0 if self._deadlines else quiet + 1
                if quiet > 20:
                    self._watcher = None
                    return
                overdue = [one for one, deadline in self._deadlines.items() if deadline < now]
                for one in overdue:
                    del self._deadlines[one]
                    _cut(one)


def _note(warned: set[int], connection: int, notice: psycopg.errors.Diagnostic) -> None:
    """Record a warning of the server: a commit that was not replicated is reported by one, after a success."""
    if notice.sqlstate == "01000" and notice.severity_nonlocalized == "WARNING":
        warned.add(connection)


def _close_all(process: int, kept: list[list[Connection]]) -> None:
    """Close connections that can no longer be used. A forked child does not touch the connections of its parent."""
    if process == os.getpid():
        for connections in kept:
            while connections:
                _close(connections.pop())


def _cut(connection: Connection) -> None:
    with suppress(OSError, psycopg.Error), socket.socket(fileno=os.dup(connection.pgconn.socket)) as ours:
        ours.shutdown(socket.SHUT_RDWR)


def _reason(error: psycopg.Error, conninfo: str) -> str:
    """Return the server's reason for the missing connection; not a reason about the URL, which may quote a part of it."""
    lines = str(error).strip().splitlines()
    text = "; ".join(line for line in lines if not line.startswith("\t"))  # those that begin so are advice
    if not isinstance(error, psycopg.OperationalError):
        return WRONG_URL
    with suppress(psycopg.Error):
        secrets = [value for name, value in conninfo_to_dict(conninfo).items() if "password" in name]
        if not any(str(secret) in text for secret in secrets if secret):
            return text[:300]
    return "no connection"


def _is_readable(connection: Connection) -> bool:
    try:
        poll = select.poll()
        poll.register(connection.pgconn.socket, select.POLLIN)
        return bool(poll.poll(0))
    except (OSError, ValueError, psycopg.Error):
        return True


def _close(connection: Connection) -> None:
    with suppress(psycopg.Error, OSError):
        connection.close()
