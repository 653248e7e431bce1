"""Logs in PostgreSQL: one row for each log, which is swapped, and one row for each line, which stays.

An append is one statement, so it is atomic. The row of the log has number and hash of the last line; it is updated only if it
still has those that the caller expects. `stream` numbers incarnations, so no one writes into the successor of a log.
"""

from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import AbstractContextManager

from eventstore.backends.postgres.address import Address
from eventstore.backends.postgres.blobs import BlobTable
from eventstore.backends.postgres.connections import Connection
from eventstore.backends.postgres.database import Database, Row
from eventstore.backends.postgres.feed import changed
from eventstore.backends.postgres.grouping import HELD, WRITTEN, Lanes, Piece
from eventstore.backends.postgres.lines import (
    COPY_BEGIN,
    COPY_END,
    copy_rows,
    digest_of,
    key_arrays,
    line_arrays,
    split,
)
from eventstore.backends.postgres.locks import Locks
from eventstore.backends.postgres.news import News
from eventstore.backends.postgres.tables import DerivedTables
from eventstore.backends.postgres.whole import Whole
from eventstore.errors import NotSupported
from eventstore.ids import TRASH
from eventstore.log.base import Changes
from eventstore.log.port import (
    UNSEEN_WRITERS,
    Backend,
    Capabilities,
    Cut,
    Exists,
    Key,
    Missing,
    Moved,
    Reading,
    Swap,
    Tip,
)
from eventstore.log.watch import Watch

_BULK_LINES = 200  # from here on COPY is faster than a statement with arrays
_BULK_BYTES = 1024 * 1024  # a longer append is written alone: the commits of others would wait for it
_PAGE_LINES, _PAGE_BYTES = 4096, 4 * 1024 * 1024
_LAST = 2**62


class PostgresBackend(Backend):
    """The logs of one schema of one database. Safe for threads, processes and forks of a process."""

    capabilities = Capabilities(
        keeps_tip=True,
        keeps_tables=True,
        joins_appends=True,
        blocking=True,
        residue=("dead rows of the tables, until VACUUM", "the write-ahead log, replicas and backups of the server"),
    )

    def __init__(self, address: Address) -> None:
        self._database = Database(address)
        self._sql = self._database.sql
        self._blobs, self._locks = BlobTable(self._database), Locks(self._database)
        self._news = News(self._database)
        self._whole, self._lanes = Whole(self._database), Lanes(self._database)

    def __repr__(self) -> str:
        return f"PostgresBackend({self._database.where!r})"

    def open(self) -> None:
        """Connect, and create missing tables. Raises Refused."""
        self._database.facts()

    def where(self, log: str) -> str:
        return self._database.where

    # --- reading

    def tip(self, log: str) -> Tip:
        row = self._database.ask_one(log, self._sql.tip, [log])
        if row is None:
            raise Missing(log)
        stream, rewrites, first, version, at, digest, size = row
        if version < first:
            raise Moved(log)
        return Tip(digest, size, version, at, f"{stream}.{rewrites}")

    def read(self, log: str, after: Tip | int = 0, upto: int | None = None) -> Reading:
        number = after if isinstance(after, int) else after.seq
        last = _LAST if upto is None else upto
        args = [number, number, number, min(last, number + _PAGE_LINES), _PAGE_BYTES, number, log]
        row = self._database.ask_one(log, self._sql.read, args)
        if row is None:
            raise Missing(log)
        stream, rewrites, first, version, _, size, ends, _, data, reached = row
        life = f"{stream}.{rewrites}"
        if isinstance(after, Tip) and not _has(row, after, life):
            raise Moved(log)
        offset = size if number >= version else 0 if number < first else ends or 0
        data = data or b""
        if not data or reached >= min(last, version):
            return Reading(life, offset, offset + len(data), iter([data] if data else []))
        return Reading(life, offset, size, self._pages(log, stream, version, offset, data, reached))

    def _pages(self, log: str, stream: int, version: int, ends: int, data: bytes, last: int) -> Iterator[bytes]:
        """Stream the first page and the next ones; end early if the log was deleted in the meantime."""
        while True:
            yield data
            ends += len(data)
            if last >= version:
                return
            args = [stream, last, min(version, last + _PAGE_LINES), ends + _PAGE_BYTES, last + 1]
            row = self._database.ask(log, self._sql.page, args)[0]
            if row[0] is None:
                return
            data, last = row

    def find_key(self, log: str, key: str) -> tuple[int, int] | None:
        row = self._database.ask_one(log, self._sql.find_key, [log, key.encode("utf-8", "surrogatepass")])
        return (row[0], row[1]) if row else None

    def changed(self, since: str | None = None) -> Changes:
        return changed(self._database, since)

    def trashed(self) -> list[str]:
        return [name for (name,) in self._database.ask(TRASH, self._sql.trashed)]

    # --- appending

    def append(
        self,
        log: str,
        lines: bytes,
        *,
        expect: Tip | None,
        tip: Tip,
        keys: Sequence[Key] = (),
        sync: bool = True,
    ) -> str:
        pieces = split(lines)
        first = tip.seq - len(pieces) + 1
        if expect is None:
            level = self._database.commit_level()
            args = [
                log,
                first,
                tip.seq,
                tip.at,
                tip.digest,
                len(lines),
                *line_arrays(first, pieces),
                *key_arrays(keys),
                level,
            ]
            query = self._database.sql_at(level).create
            rows = self._database.write(log, lambda one: one.execute(query, args, binary=True).fetchall())
            if not rows:
                raise Exists(log)
            self._news.note(log)
            return f"{rows[0][0]}.0"
        piece = self._piece(log, pieces, expect, tip, keys)
        is_done = None
        if self._is_joined(piece):
            outcome = self._lanes.append(piece)
            is_done = None if outcome == HELD else outcome == WRITTEN
        if is_done is None:
            is_done = self._append_alone(piece)
        if not is_done:
            raise Missing(log) if self._database.ask_one(log, self._sql.life, [log]) is None else Moved(log)
        self._news.note(log)
        return expect.life

    def append_many(self, swaps: Sequence[Swap]) -> list[str | None]:
        pieces = [self._piece(one.log, split(one.lines), one.expect, one.tip, one.keys) for one in swaps]
        joined = [one for one in pieces if self._is_joined(one)]
        written = self._lanes.append_many(joined) if joined else set()
        self._news.note(*(one.log for one in joined if one.stream in written))
        return [one.expect.life if piece.stream in written else None for one, piece in zip(swaps, pieces, strict=True)]

    def _piece(self, log: str, lines: list[bytes], expect: Tip, tip: Tip, keys: Sequence[Key]) -> Piece:
        return Piece(log, _stream_of(expect.life), expect, tip, lines, keys, self._database.number_of(f"log/{log}"))

    def _is_joined(self, piece: Piece) -> bool:
        """Return whether an append shares statements with others. The holder of the log's lock does not take it again."""
        return len(piece.lines) < _BULK_LINES and piece.size < _BULK_BYTES and not self._locks.holds(f"log/{piece.log}")

    def _append_alone(self, piece: Piece) -> bool:
        """Append, and wait for the holder of the log's lock or row; the holder of the lock itself does not wait."""
        log, tip, expect, pieces, keys = piece.log, piece.tip, piece.expect, piece.lines, piece.keys
        level = self._database.commit_level()
        lock = None if self._locks.holds(f"log/{log}") else piece.lock
        place = [piece.stream, log, expect.seq, expect.digest, lock, lock]
        swap: list[object] = [tip.seq, tip.at, tip.digest, piece.size, *place]
        if len(pieces) >= _BULK_LINES:
            return self._database.write(
                log, lambda one: self._copy(one, swap, piece.first, pieces, keys, level), patient=True
            )
        if len(pieces) == 1 and not keys:
            return self._swap(log, self._sql.append_one, [*swap, tip.seq, pieces[0], level])
        return self._swap(log, self._sql.append, [*swap, *line_arrays(piece.first, pieces), *key_arrays(keys), level])

    def _swap(self, log: str, query: bytes, args: list[object]) -> bool:
        waits = not self._locks.holds(f"log/{log}")
        return bool(self._database.write(log, lambda one: one.execute(query, args).fetchall(), waits=waits))

    def _copy(
        self,
        connection: Connection,
        swap: list[object],
        first: int,
        pieces: list[bytes],
        keys: Sequence[Key],
        level: str | None,
    ) -> bool:
        """Append many lines in one transaction."""
        with connection.transaction():
            row = connection.execute(self._sql.swap, [*swap, level], binary=True).fetchone()
            if row is None:
                return False
            stream, size = row[0], row[1] - sum(map(len, pieces))
            with connection.cursor().copy(self._sql.copy_lines) as copy:
                copy.write(COPY_BEGIN + b"".join(copy_rows(stream, first, size, pieces)) + COPY_END)
            if keys:
                connection.execute(self._sql.add_keys, [stream, *key_arrays(keys)])
        return True

    def sync(self, log: str, tip: Tip) -> None:
        """Do nothing: an append is committed, at the level of the store, when it returns."""

    # --- complete logs

    def write_whole(
        self,
        log: str,
        fill: Callable[[Callable[[bytes], None]], Tip],
        blobs: Iterable[tuple[str, Iterable[bytes]]] = (),
        *,
        expect: Tip | None,
    ) -> str:
        stream = self._whole.write(log, fill, blobs, expect)
        self._news.note(log)
        return f"{stream}.0"

    def overwrite(self, log: str, seq: int, offset: int, line: bytes) -> None:
        level = self._database.commit_level(durable=True)
        args = [log, line, seq, offset + len(line), len(line)]

        def do(connection: Connection) -> bool:
            with connection.transaction():
                connection.execute(self._sql.commit_level, [level])
                return connection.execute(self._sql.overwrite, args).fetchone() is not None

        if not self._database.write(log, do):
            raise Missing(log) if self._database.ask_one(log, self._sql.life, [log]) is None else Moved(log)
        self._news.note(log)

    def cut(self, log: str, tip: Tip) -> Cut:
        found = self._whole.cut(log, tip)
        self._news.note(log)
        return found

    def move(self, log: str, to: str, *, expect: Tip | None) -> None:
        self._whole.move(log, to, expect)
        self._news.note(log, to)

    def delete(self, log: str, *, expect: Tip | None) -> bool:
        is_done = self._whole.delete(log, expect)
        if is_done:
            self._news.note(log)
        return is_done

    # --- blobs, locks and changes

    def lock(self, name: str) -> AbstractContextManager[object]:
        return self._locks.hold(name)

    def blobs(self, log: str) -> list[str]:
        return self._blobs.names(log)

    def get_blob(self, log: str, name: str) -> Iterator[bytes]:
        return self._blobs.get(log, name)

    def put_blob(self, log: str, name: str, data: bytes) -> None:
        self._blobs.put(log, name, data)

    def delete_blob(self, log: str, name: str) -> None:
        self._blobs.delete(log, name)

    def tables(self) -> DerivedTables:
        return DerivedTables(self._database)

    def watch(self, log: str | None) -> Watch:
        return self._news.watch(log)

    def is_open(self, log: str) -> bool:
        raise NotSupported(log, self._database.where, UNSEEN_WRITERS, "ask its writers")

    def flush(self) -> None:
        self._database.write("", lambda connection: connection.execute(self._sql.flush))

    def vacuum(self) -> tuple[str, ...]:
        self._database.vacuum()
        return self.capabilities.residue[1:]

    def close(self) -> None:
        self._news.send()
        self._database.connections.drop_idle()


def _stream_of(life: str) -> int:
    number = life.partition(".")[0]
    return int(number) if number.isdecimal() and len(number) < 19 else -1


def _has(row: Row, tip: Tip, life: str) -> bool:
    """Return whether a log, as it was read, has a tip."""
    _, _, first, version, digest, _, _, end_of_line, _, _ = row
    if tip.life not in ("", life) or not first <= tip.seq <= version:
        return False
    return tip.digest == (digest if tip.seq == version else digest_of(end_of_line or b""))
