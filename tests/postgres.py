"""The PostgreSQL server of a run of tests, started when the first test asks for it, and stores in it, each in its own schema."""

import atexit
import os
from collections.abc import Callable
from contextlib import ExitStack
from functools import cache
from itertools import count

import psycopg
from breaking.postgres import pooler
from breaking.postgres_server import PostgresServer

from eventstore.backends.postgres.address import parse_address
from eventstore.backends.postgres.backend import PostgresBackend

_numbers = count(1)


@cache
def server() -> PostgresServer:
    """Start the server, once in this process. A test that needs it fails where there is none: it is never skipped."""
    found, process = PostgresServer(), os.getpid()
    atexit.register(lambda: found.stop() if os.getpid() == process else None)
    return found


@cache
def pooler_port() -> int:
    """Start pgbouncer in front of the server, once in this process."""
    running, process = ExitStack(), os.getpid()
    port = running.enter_context(pooler(server()))
    atexit.register(lambda: running.close() if os.getpid() == process else None)
    return port


def new_url(*, pooled: bool = False, timeout: int = 30) -> str:
    """Return the URL of an empty store."""
    schema = f"test_{os.getpid()}_{next(_numbers)}"
    return server().url(schema, port=pooler_port() if pooled else None, timeout=str(timeout))


_COUNTED = """
select coalesce(sum(calls), 0)::bigint from pg_stat_statements join pg_roles on pg_roles.oid = userid
where rolname = %s and query not like '%%pg_notify%%'"""


class Budget:
    """A store whose statements the server counts: by pg_stat_statements, for a role of its own, else by its log."""

    def __init__(self) -> None:
        self.name, self._base = f"budget_{os.getpid()}_{next(_numbers)}", server().url("x").partition("?")[0]
        if server().counts_statements:
            with psycopg.connect(self._base, autocommit=True) as beside:
                beside.execute("create extension if not exists pg_stat_statements")
                beside.execute(f"create role {self.name} superuser login".encode())
            self.url = new_url().replace("tester@", f"{self.name}@")
        else:
            self.url = f"{new_url()}&application_name={self.name}&options=-c%20log_statement%3Dall"

    def count(self, work: Callable[[], object]) -> int:
        """Count the statements of some work."""
        before = self._total()
        work()
        return self._total() - before

    def _total(self) -> int:
        if server().counts_statements:
            with psycopg.connect(self._base, autocommit=True) as beside:
                return int(beside.execute(_COUNTED, [self.name]).fetchall()[0][0])
        lines = (server().folder / "log").read_text("utf-8", "replace").splitlines()
        ours = (line for line in lines if f"] {self.name} LOG:" in line and "pg_notify" not in line)
        return sum("LOG:  execute" in line or "LOG:  statement:" in line for line in ours)


def new_backend() -> PostgresBackend:
    """Open an empty store."""
    return PostgresBackend(parse_address(new_url()))
