"""Complete logs: written in one piece, cut, moved and deleted, each in one transaction."""

from collections.abc import Callable, Iterable

from eventstore.backends.postgres.blobs import insert_pieces
from eventstore.backends.postgres.connections import Connection
from eventstore.backends.postgres.database import Database, Row
from eventstore.backends.postgres.lines import Copier, digest_of, key_arrays
from eventstore.ids import TRASH
from eventstore.log.port import Cut, Exists, Missing, Moved, Tip

Fill = Callable[[Callable[[bytes], None]], Tip]


class Whole:
    """Operations that change more than the end of a log."""

    def __init__(self, database: Database) -> None:
        self._database, self._sql = database, database.sql

    def write(self, log: str, fill: Fill, blobs: Iterable[tuple[str, Iterable[bytes]]], expect: Tip | None) -> int:
        """Write a complete log, and return its stream. The lines are written first, under a stream number that no log has yet."""
        kept = [(name, b"".join(pieces)) for name, pieces in blobs] if expect is None else []
        (stream,) = self._database.ask(log, self._sql.take_stream)[0]

        def do(connection: Connection) -> None:
            with connection.transaction():
                connection.execute(self._sql.commit_level, [self._database.commit_level(durable=True)])
                with connection.cursor().copy(self._sql.copy_lines) as copy:

                    def write(data: bytes) -> None:
                        copy.write(data)
                        self._database.connections.extend_deadline(connection)

                    copier = Copier(stream, write)
                    end = fill(copier.feed)
                    copier.end()
                self._name(connection, log, stream, copier, end, expect)
                for name, data in kept:
                    insert_pieces(connection, self._sql.insert_blob, str(stream), name, data)

        self._database.write(log, do, patient=True)
        return int(stream)

    def _name(
        self, connection: Connection, log: str, stream: int, copier: Copier, end: Tip, expect: Tip | None
    ) -> None:
        """Give the lines their name: after the commit, others see them."""
        first = end.seq - copier.count + 1
        if copier.count and copier.first != first:
            self._number_anew(connection, stream, first - copier.first)
        if copier.keys:
            connection.execute(self._sql.add_keys, [stream, *key_arrays(copier.keys)])
        if expect is None:
            values = [stream, log, first, end.seq, end.at, end.digest, copier.size]
            if connection.execute(self._sql.begin_whole, values).fetchone() is None:
                raise Exists(log)
            return
        before = self._hold(connection, log, expect)[0]
        values = [stream, first, end.seq, end.at, end.digest, copier.size, log, before, expect.seq, expect.digest]
        if connection.execute(self._sql.replace_whole, values).fetchone() is None:
            raise Moved(log)
        connection.execute(self._sql.drop_stream, [before, before])
        connection.execute(self._sql.move_blobs, [str(stream), str(before)])
        self._note(connection, log)

    def _number_anew(self, connection: Connection, stream: int, by: int) -> None:
        connection.execute(self._sql.number_anew, [by, stream])
        connection.execute(self._sql.number_anew, [0, stream])

    def _hold(self, connection: Connection, log: str, expect: Tip | None) -> Row:
        """Lock a log against changes until the transaction ends. Raises Missing, and Moved if it is not as expected."""
        row = connection.execute(self._sql.hold, [log], binary=True).fetchone()
        if row is None:
            raise Missing(log)
        stream, _, first, version, digest, _ = row
        if expect is None:
            return row
        if expect == Tip(b""):
            if version >= first:
                raise Moved(log)
        elif (expect.life.partition(".")[0], expect.seq, expect.digest) != (str(stream), version, digest):
            raise Moved(log)
        return row

    def _note(self, connection: Connection, *names: str) -> None:
        """Record a change for `changed`: there is no new line that would show it."""
        kept = sorted(
            name for name in names if not name.startswith(TRASH)
        )  # in a fixed order, so that no two transactions wait for each other
        if kept:
            connection.execute(self._sql.note, [kept])

    def cut(self, log: str, tip: Tip) -> Cut:
        """Move the lines after a tip to a blob. Raises Missing, Moved."""

        def do(connection: Connection) -> Cut:
            with connection.transaction():
                connection.execute(self._sql.commit_level, [self._database.commit_level(durable=True)])
                stream, rewrites, first, _, _, _ = self._hold(connection, log, None)
                start = tip.seq if tip.offset else first - 1
                if tip.offset:
                    row = connection.execute(self._sql.line, [stream, tip.seq], binary=True).fetchone()
                    if (
                        row is None
                        or digest_of(row[0]) != tip.digest
                        or tip.life.partition(".")[0] not in ("", str(stream))
                    ):
                        raise Moved(log)
                args = [stream, start]
                rows = connection.execute(self._sql.lines_behind, args, binary=True).fetchall()
                removed = b"".join(line for (line,) in rows)
                name = f"quarantine/{stream}-{rewrites}-{tip.offset}.bin"
                insert_pieces(connection, self._sql.insert_blob, str(stream), name, removed)
                connection.execute(self._sql.cut_lines, args)
                end = [start, tip.at, tip.digest, tip.offset, stream]
                connection.execute(self._sql.cut_log, [stream, start, *end])
                self._note(connection, log)
                return Cut(name, len(removed))

        return self._database.write(log, do)

    def move(self, log: str, to: str, expect: Tip | None) -> None:
        """Move a log to another name. Raises Missing, Exists, Moved."""

        def do(connection: Connection) -> None:
            with connection.transaction():
                connection.execute(self._sql.commit_level, [self._database.commit_level(durable=True)])
                stream = self._hold(connection, log, expect)[0]
                if connection.execute(self._sql.life, [to]).fetchone() is not None:
                    raise Exists(to)
                connection.execute(self._sql.move, [to, stream])
                self._note(connection, log, to)

        try:
            self._database.write(log, do)
        except Moved:
            if expect is None:  # the name was taken between the check and the move
                raise Exists(to) from None
            raise

    def delete(self, log: str, expect: Tip | None) -> bool:
        """Delete a log, with its lines, keys and blobs; return False if there is none. Raises Moved."""

        def do(connection: Connection) -> None:
            with connection.transaction():
                connection.execute(self._sql.commit_level, [self._database.commit_level(durable=True)])
                stream = self._hold(connection, log, expect)[0]
                connection.execute(self._sql.delete, [stream])
                connection.execute(self._sql.drop_stream, [stream, stream])
                connection.execute(self._sql.delete_blob, [str(stream), None, None])
                self._note(connection, log)

        try:
            self._database.write(log, do, patient=True)
        except Missing:
            return False
        return True
