"""One store in one database: queries, writes, and the meaning of its errors."""

import errno
import hashlib
import os
import threading
from collections.abc import Callable, Sequence
from typing import Any, TypeVar

import psycopg
from psycopg import errors, sql

from eventstore.backends.postgres.address import Address
from eventstore.backends.postgres.connections import Connection, Connections
from eventstore.backends.postgres.failures import NotConnected, is_lost, translate, translated
from eventstore.backends.postgres.schema import Facts, NewerStore, open_schema
from eventstore.backends.postgres.statements import Statements
from eventstore.log.port import NotStored, Refused

R = TypeVar("R")
Row = tuple[Any, ...]
_TRIES = 3


class Database:
    """The tables of one store. The first query is sent when it is needed."""

    def __init__(self, address: Address) -> None:
        self.address, self.where = address, address.shown
        self.sql = Statements(address.schema)
        self._keeps_level = Statements(address.schema, sets_level=False)
        self.connections = Connections(address.conninfo, address.connections, address.timeout)
        self._facts: Facts | None = None
        self._opening, self._process = threading.Lock(), os.getpid()

    def facts(self) -> Facts:
        """Open the store the first time: create missing tables. Raises Refused."""
        if self._facts is not None:
            return self._facts
        if self._process != os.getpid():  # a thread of the parent may hold the lock
            self._opening, self._process = threading.Lock(), os.getpid()
        with self._opening:
            if self._facts is None:
                try:
                    with self.connections.use(patient=True) as connection:
                        found = open_schema(connection, self.address.schema)
                except NewerStore:
                    cause = "its tables were made by a later version of this program"
                    raise Refused(self.where, 0, cause) from None
                except (psycopg.Error, NotConnected) as error:
                    raise translate(error, "", self.where) from None
                self.connections.opened(prepares=not found.is_pooled)
                self._facts = found
        return self._facts

    def commit_level(self, *, durable: bool = False) -> str | None:
        """Return the `synchronous_commit` that a transaction needs, None for that of the server. Never less than requested."""
        commits = self.facts().commits
        if durable or self.address.fsync == "always":
            return "on" if commits == "off" else None
        return None if commits == "off" else "off"

    def sql_at(self, level: str | None) -> Statements:
        """Return the statements that commit at a level, as `commit_level` returned it."""
        return self._keeps_level if level is None else self.sql

    def number_of(self, name: str) -> int:
        """Return the number of the advisory lock of a name; no other store of this database has it."""
        text = f"{self.facts().store}\0{self.address.schema}\0{name}"
        return int.from_bytes(hashlib.sha256(text.encode()).digest()[:8], "big", signed=True)

    # --- queries

    def ask(self, log: str, query: bytes, args: Sequence[object] = (), *, prepare: bool | None = None) -> list[Row]:
        """Run a query that changes nothing; repeat it if the connection breaks. Raises Refused."""
        self.facts()
        for attempt in range(1, _TRIES + 1):
            try:
                with self.connections.use() as connection:
                    return connection.execute(query, args, binary=True, prepare=prepare).fetchall()
            except (psycopg.Error, NotConnected) as error:
                if attempt == _TRIES or not is_lost(error):
                    raise translate(error, log, self.where) from None
        raise AssertionError

    def ask_one(self, log: str, query: bytes, args: Sequence[object] = ()) -> Row | None:
        """Query one row; None if there is none."""
        rows = self.ask(log, query, args)
        return rows[0] if rows else None

    def vacuum(self) -> None:
        """Rewrite all tables of the store without their dead rows. Raises Refused, Unclear."""
        tables = "select tablename from pg_tables where schemaname = %s order by 1"
        for (name,) in self.ask("", tables.encode(), [self.address.schema]):
            query = sql.SQL("vacuum (full) {}").format(sql.Identifier(self.address.schema, name))
            with translated("", self.where), self.connections.use(patient=True) as connection:
                connection.execute(query, prepare=False)
                if self.connections.was_warned(connection):  # a table of another owner is skipped, and that is no error
                    raise Refused(self.where, errno.EPERM, f"the server did not vacuum {name}")

    # --- writing

    def write(self, log: str, do: Callable[[Connection], R], *, patient: bool = False, waits: bool = False) -> R:
        """Run a statement or a transaction that writes. It is repeated only if the server certainly undid it.

        A warning after a commit means that a synchronous replica does not have it: it is unknown whether it stays. Raises
        Refused, Unclear, NotStored, Moved. With `waits`, which may wait for a lock, it takes no connection that the holder may
        need.
        """
        self.facts()
        with translated(log, self.where):
            for attempt in range(1, _TRIES + 1):
                try:
                    lent = self.connections.use_for_lock() if waits else self.connections.use(patient=patient)
                    with lent as connection:
                        found = do(connection)
                        if self.connections.was_warned(connection):
                            raise NotStored(self.where, 0, "the server warned that it may not be replicated")
                        return found
                except (errors.DeadlockDetected, errors.SerializationFailure):
                    if attempt == _TRIES:
                        raise
        raise AssertionError
