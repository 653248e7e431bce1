"""What changed since a token: tokens are snapshots of the database, which define exactly the transactions already seen.

A growing number is not enough: a transaction may take its number first and commit last. A token is that of one run of one
server: after a failover or a crash, commits may be lost whose numbers are given again.
"""

import re

from eventstore.backends.postgres.database import Database, Row
from eventstore.log.base import Changes
from eventstore.log.port import Refused

_SNAPSHOT = re.compile(r"[0-9]{1,19}:[0-9]{1,19}:[0-9,]*", re.ASCII)


def changed(database: Database, since: str | None) -> Changes:
    """Return the logs whose lines, or whose name, were written by transactions that the token's snapshot did not see."""
    store = database.facts().store
    place = read_token(since, store)
    if place is not None:
        run, snapshot = place
        try:
            rows = database.ask("", database.sql.changed, [snapshot] * 4, prepare=False)
        except Refused as error:
            if "SQLSTATE 22" not in error.cause:  # a snapshot that PostgreSQL never gave
                raise
        else:
            if rows[0][6] == run:
                return _changes(rows, store, complete=False)
    return _changes(database.ask("", database.sql.all_logs, prepare=False), store, complete=True)


def read_token(token: str | None, store: str) -> tuple[str, str] | None:
    """Return the run of a server and the snapshot that a token of this store names; None for any other text."""
    before, _, rest = (token or "").partition(" ")
    run, _, snapshot = rest.partition(" ")
    return (run, snapshot) if before == store and _SNAPSHOT.fullmatch(snapshot) else None


def write_token(store: str, run: str, snapshot: str) -> str:
    """Write the token of a look."""
    return f"{store} {run} {snapshot}"


def _changes(rows: list[Row], store: str, *, complete: bool) -> Changes:
    logs = [(row[0], None if row[1] is None else f"{row[1]}.{row[2]}.{row[3]}.{row[4]}") for row in rows if row[0]]
    return Changes(logs, write_token(store, rows[0][6], rows[0][5]), complete)
