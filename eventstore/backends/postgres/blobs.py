"""Blobs in a table, in pieces: of a log, by its stream, or of the store, by a name that no log has."""

from collections.abc import Iterator

from eventstore.backends.postgres.connections import Connection
from eventstore.backends.postgres.database import Database
from eventstore.ids import TEMPLATE, TRASH
from eventstore.log.port import Missing

_PIECE_BYTES = 4 * 1024 * 1024


def is_store_wide(log: str) -> bool:
    """Return whether blobs exist without a log, such as positions of followers."""
    return log.startswith("_") and not log.startswith((TRASH, TEMPLATE))


def insert_pieces(connection: Connection, insert: bytes, home: str, name: str, data: bytes) -> None:
    """Write a new blob."""
    for piece, start in enumerate(range(0, max(len(data), 1), _PIECE_BYTES)):
        connection.execute(insert, [home, name, piece, data[start : start + _PIECE_BYTES]])


class BlobTable:
    """The blobs of one store."""

    def __init__(self, database: Database) -> None:
        self._database, self._sql = database, database.sql

    def names(self, log: str) -> list[str]:
        """List the blobs of a log, sorted. Raises Missing."""
        rows = self._database.ask(log, self._sql.blob_names, [self._home(log)])
        return [name for (name,) in rows]

    def _home(self, log: str) -> str:
        if is_store_wide(log):
            return log
        row = self._database.ask_one(log, self._sql.life, [log])
        if row is None:
            raise Missing(log)
        return str(row[0])

    def get(self, log: str, name: str) -> Iterator[bytes]:
        """Stream a blob, as it was at the call. Raises Missing."""
        rows = self._database.ask(name, self._sql.blob, [self._home(log), name])
        if not rows:
            raise Missing(name)
        return (data for (data,) in rows)

    def put(self, log: str, name: str, data: bytes) -> None:
        """Write a blob. The log stays while it is written, and may be appended to. Raises Missing, Refused."""

        def do(connection: Connection) -> None:
            with connection.transaction():
                connection.execute(self._sql.commit_level, [self._database.commit_level(durable=True)])
                home = log
                if not is_store_wide(log):
                    row = connection.execute(self._sql.stay, [log]).fetchone()
                    if row is None:
                        raise Missing(log)
                    home = str(row[0])
                connection.execute(self._sql.delete_blob, [home, name, name])
                insert_pieces(connection, self._sql.insert_blob, home, name, data)

        self._database.write(log, do)

    def delete(self, log: str, name: str) -> None:
        """Delete a blob, if it exists."""
        home = self._home(log)
        self._database.write(log, lambda connection: connection.execute(self._sql.delete_blob, [home, name, name]))
