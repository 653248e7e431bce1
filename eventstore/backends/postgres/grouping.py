"""Appends of many threads, to different logs, in one statement: one connection and one commit serve all waiting callers.

The statement never waits for the lock or the row of a log: a log that another transaction holds is left out, and its
caller waits for it alone. So the holder of a lock can always append to other logs.
"""

import errno
import os
import threading
from collections.abc import Sequence
from itertools import chain, count
from typing import NamedTuple

from eventstore.backends.postgres.connections import Connection
from eventstore.backends.postgres.database import Database, Row
from eventstore.backends.postgres.lines import bigints, key_arrays, line_arrays
from eventstore.log.group import Group
from eventstore.log.port import Key, NotStored, PortError, Tip, Unclear

_LANES = 2  # while one waits for its commit, the other is filled and sent
_MOST = 64


class Piece(NamedTuple):
    """The append of one caller to the log `log`, whose incarnation is `stream`; `lock` is the number of that log's lock."""

    log: str
    stream: int
    expect: Tip
    tip: Tip
    lines: list[bytes]
    keys: Sequence[Key]
    lock: int

    @property
    def first(self) -> int:
        """The number of the first line."""
        return self.tip.seq - len(self.lines) + 1

    @property
    def size(self) -> int:
        """The bytes of all lines."""
        return sum(map(len, self.lines))


WRITTEN, MOVED, HELD = "written", "moved", "held"
"""The outcome of a piece: written; the log has another end or is another log; the log is held, so nothing was tried."""


class Lanes:
    """The appends in progress of one process."""

    def __init__(self, database: Database) -> None:
        self._database = database
        self._begin()

    def _begin(self) -> None:
        self._process = os.getpid()  # a forked process has none of the threads that hold locks here
        self._groups = [Group[Piece, str](threading.Lock(), self._lost) for _ in range(_LANES)]
        self._mutex, self._inside = threading.Lock(), 0
        self._turn = count()

    def _lost(self) -> Unclear:
        return Unclear(self._database.where, errno.EINTR, "the program was interrupted")

    def append(self, piece: Piece) -> str:
        """Append a piece, alone if no one else appends, else together with others. Raises as `Database.write` does."""
        if self._process != os.getpid():
            self._begin()
        # A lane that is free by chance is not taken for one piece: its commit would serve nobody else.
        with self._mutex:
            is_alone = not self._inside
            self._inside += 1
        try:
            if is_alone:
                return self._alone(piece)
            return self._groups[next(self._turn) % _LANES].do(piece, self._together)
        finally:
            with self._mutex:
                self._inside -= 1

    def _alone(self, piece: Piece) -> str:
        tip, expect = piece.tip, piece.expect
        log = [piece.lock, tip.seq, tip.at, tip.digest, piece.size, piece.stream, piece.log, expect.seq, expect.digest]
        level = self._database.commit_level()
        if len(piece.lines) == 1 and not piece.keys:
            query, args = self._database.sql_at(level).try_one, [*log, tip.seq, piece.lines[0], level]
        else:
            arrays = [*line_arrays(piece.first, piece.lines), *key_arrays(piece.keys)]
            query, args = self._database.sql_at(level).try_some, [*log, *arrays, level]
        row = self._database.write(piece.log, lambda one: one.execute(query, args, binary=True).fetchone())
        assert row is not None  # noqa: S101 - it returns one row, whatever happened
        return WRITTEN if row[0] is not None else MOVED if row[1] else HELD

    def _together(self, pieces: Sequence[Piece]) -> list[str | BaseException]:
        """Append for all waiting callers; a piece that cannot be in one statement with the others is left to its caller."""
        if len(pieces) == 1:
            return [self._try_alone(pieces[0])]
        taken: dict[int, Piece] = {}
        for piece in pieces:
            if len(taken) < _MOST:
                taken.setdefault(piece.stream, piece)
        try:
            written = self._write(list(taken.values()))
        except (NotStored, Unclear) as error:  # what was written may stay or not, for each of them
            kind = type(error)
            return [
                kind(error.where, error.errno, error.cause) if taken.get(one.stream) is one else HELD for one in pieces
            ]
        except PortError:
            return [HELD] * len(pieces)  # one of them, or all: each gets its own outcome
        return [WRITTEN if one.stream in written and taken.get(one.stream) is one else HELD for one in pieces]

    def append_many(self, pieces: Sequence[Piece]) -> set[int]:
        """Append pieces of one caller, each to another log, and return the streams where they are written; wait for no log.

        Raises NotStored and Unclear, for all of them.
        """
        try:
            if len(pieces) == 1:
                return {pieces[0].stream} if self._alone(pieces[0]) == WRITTEN else set()
            return self._write(pieces)
        except (NotStored, Unclear):
            raise
        except PortError:
            return set()  # one of them, or all: each is refused when it is appended alone

    def _try_alone(self, piece: Piece) -> str | BaseException:
        try:
            return self._alone(piece)
        except PortError as error:
            return error

    def _write(self, pieces: Sequence[Piece]) -> set[int]:
        """Write one piece to each of several logs; return the streams where it is written."""
        level = self._database.commit_level()
        lines, keys = [one for one in pieces for _ in one.lines], [one for one in pieces for _ in one.keys]
        args = [
            bigints(one.stream for one in pieces),
            [one.log for one in pieces],
            bigints(one.expect.seq for one in pieces),
            [one.expect.digest for one in pieces],
            bigints(one.tip.seq for one in pieces),
            [one.tip.at for one in pieces],
            [one.tip.digest for one in pieces],
            bigints(one.size for one in pieces),
            bigints(one.lock for one in pieces),
            bigints(one.stream for one in lines),
            bigints(chain.from_iterable(_numbers(one) for one in pieces)),
            bigints(chain.from_iterable(_behind(one) for one in pieces)),
            list(chain.from_iterable(one.lines for one in pieces)),
            bigints(one.stream for one in keys),
            *key_arrays([key for one in pieces for key in one.keys]),
            level,
        ]

        query = self._database.sql_at(level).append_many

        def do(connection: Connection) -> list[Row]:
            return connection.execute(query, args, binary=True).fetchall()

        return {stream for stream, _ in self._database.write(pieces[0].log, do)}


def _numbers(piece: Piece) -> range:
    return range(piece.first, piece.tip.seq + 1)


def _behind(piece: Piece) -> list[int]:
    """Return for each line how many bytes of the piece come after it."""
    found, left = [], piece.size
    for line in piece.lines:
        left -= len(line)
        found.append(left)
    return found
