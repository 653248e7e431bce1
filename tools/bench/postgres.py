"""Measure the store on PostgreSQL, and the server itself, in turns: `python tools/bench/postgres.py [--rounds N]`.

The server is started for this, with fsync on, in a temporary folder. Each line compares what we do with the bare statement.
"""

import argparse
import asyncio
import os
import statistics
import sys
import threading
import time
from base64 import urlsafe_b64encode
from binascii import hexlify
from collections.abc import Callable
from hashlib import sha256
from itertools import count
from pathlib import Path
from struct import Struct

sys.path[:0] = [str(Path(__file__).parents[2]), str(Path(__file__).parents[1])]

import psycopg  # noqa: E402 - run as a file, from anywhere
from breaking.postgres_server import PostgresServer  # noqa: E402
from msgspec.json import encode  # noqa: E402

from eventstore import AsyncSessionManager, EventLog, SessionManager, open_store  # noqa: E402
from eventstore.events import MessageAdded, SessionCreated  # noqa: E402

CALLERS, BULK = 64, 5_000
SLICE_SECONDS = 0.7
_LINE = b"x" * 299 + b"\n"
_TEXT = "x" * 60
_names = count(1)
_ROW, _SEALED = Struct("!hiqiqi"), Struct("!hiqiqiqi")

Timed = Callable[[], float]
"""Does something for a slice of time; returns how many microseconds one of it took."""


def message() -> MessageAdded:
    """Make a message whose line has about 300 bytes."""
    return MessageAdded(role="user", content=_TEXT)


class Bench:
    """A server with a bare table, and a store."""

    def __init__(self, server: PostgresServer) -> None:
        self.base, self.store_url = server.url("x").partition("?")[0], server.url("bench")
        self._numbers = count(1)
        with psycopg.connect(self.base, autocommit=True) as connection:
            connection.execute("create table raw (stream bigint, seq bigint, line bytea, primary key (stream, seq))")

    def raw_insert(self) -> Timed:
        """One connection inserts row by row, each committed."""
        connection = psycopg.connect(self.base, autocommit=True)
        return lambda: _repeat(lambda: self._insert(connection, 0))

    def _insert(self, connection: psycopg.Connection, stream: int) -> None:
        connection.execute("insert into raw values (%s, %s, %b)", [stream, next(self._numbers), _LINE])

    def append(self) -> Timed:
        """One caller appends to one session."""
        log = EventLog(open_store(self.store_url).log.backend)
        log.append("one", [SessionCreated()], expected_version=0)
        return lambda: _repeat(lambda: log.append("one", [message()]))

    def raw_inserters(self) -> Timed:
        """As many connections as callers insert, each in a thread, each row committed."""
        connections = [psycopg.connect(self.base, autocommit=True) for _ in range(CALLERS)]

        def work() -> float:
            done, until = [0] * CALLERS, time.perf_counter() + SLICE_SECONDS

            def insert(place: int) -> None:
                while time.perf_counter() < until:
                    self._insert(connections[place], place + 1)
                    done[place] += 1

            began = time.perf_counter()
            threads = [threading.Thread(target=insert, args=(place,)) for place in range(CALLERS)]
            for one in threads:
                one.start()
            for one in threads:
                one.join()
            return (time.perf_counter() - began) / sum(done) * 1e6

        return work

    def async_callers(self) -> Timed:
        """As many asyncio tasks append, each to a session of its own."""
        storage = open_store(self.store_url)
        with SessionManager(storage) as manager:
            names = [manager.create_session(f"async{number}").metadata.session_id for number in range(CALLERS)]

        async def run() -> float:
            done, until = 0, time.perf_counter() + SLICE_SECONDS
            asked = SessionManager(open_store(self.store_url))
            async with AsyncSessionManager(asked, threads=CALLERS) as manager:

                async def append(name: str) -> None:
                    nonlocal done
                    while time.perf_counter() < until:
                        await manager.add_conversation_message(name, "user", _TEXT)
                        done += 1

                await asyncio.gather(*(manager.add_conversation_message(name, "user", "warm") for name in names))
                began = time.perf_counter()
                until = began + SLICE_SECONDS
                await asyncio.gather(*map(append, names))
                return (time.perf_counter() - began) / done * 1e6

        return lambda: asyncio.run(run())

    def raw_copy(self) -> Timed:
        """COPY of rows, in one transaction."""
        connection = psycopg.connect(self.base, autocommit=True)

        def work() -> float:
            began = time.perf_counter()
            with connection.transaction(), connection.cursor().copy("copy raw from stdin (format binary)") as copy:
                rows = [b"PGCOPY\n\xff\r\n\0" + bytes(8)]
                for _ in range(BULK):
                    rows += [_ROW.pack(3, 8, -1, 8, next(self._numbers), len(_LINE)), _LINE]
                copy.write(b"".join([*rows, b"\xff\xff"]))
            return (time.perf_counter() - began) / BULK * 1e6

        return work

    def sealed_copy(self) -> Timed:
        """COPY by a bare program that encodes the events and computes the hashes, into the same columns with the same indexes."""
        connection = psycopg.connect(self.base, autocommit=True)
        connection.execute(
            "create table sealed (stream bigint, seq bigint, ends bigint, xid xid8 default pg_current_xact_id(), line bytea,"
            " primary key (stream, seq)); create index on sealed (xid)"
        )
        events = [message() for _ in range(BULK)]

        def work() -> float:
            stream, ends, digest, rows = next(self._numbers), 0, bytes(32), [b"PGCOPY\n\xff\r\n\0" + bytes(8)]
            began = time.perf_counter()
            for seq, event in enumerate(events, 1):
                salt = b'"salt":"%b"' % urlsafe_b64encode(os.urandom(16))[:22]
                body = b'{"seq":%d,"at":"2026-01-01T00:00:00.000000Z",%b,%b' % (seq, encode(event)[1:-1], salt)
                digest = sha256(b"\x01" + digest + sha256(b"\x00" + body).digest()).digest()
                line = b'%b,"hash":"%b"}\n' % (body, hexlify(digest))
                ends += len(line)
                rows += [_SEALED.pack(4, 8, stream, 8, seq, 8, ends, len(line)), line]
            with (
                connection.transaction(),
                connection.cursor().copy("copy sealed (stream, seq, ends, line) from stdin (format binary)") as copy,
            ):
                copy.write(b"".join([*rows, b"\xff\xff"]))
            return (time.perf_counter() - began) / BULK * 1e6

        return work

    def extend(self) -> Timed:
        """As many events, in one call of `extend`."""
        log = EventLog(open_store(self.store_url).log.backend)
        events = [[message()] for _ in range(BULK)]

        def work() -> float:
            name = f"bulk{next(_names)}"
            log.append(name, [SessionCreated()], expected_version=0)
            began = time.perf_counter()
            log.extend(name, events, expected_version=1)
            return (time.perf_counter() - began) / BULK * 1e6

        return work

    def ingest(self) -> Timed:
        """Import a complete log of as many events from elsewhere, verified."""
        log = EventLog(open_store(self.store_url).log.backend)
        log.append("source", [SessionCreated()], expected_version=0)
        log.extend("source", [[message()] for _ in range(BULK)], expected_version=1)
        data = list(log.chunks("source"))

        def work() -> float:
            log.remove("source")
            began = time.perf_counter()
            log.ingest("source", data)
            return (time.perf_counter() - began) / BULK * 1e6

        return work

    def read(self) -> Timed:
        """Read and verify a log of as many events, by a handle that does not know it."""
        log = EventLog(open_store(self.store_url).log.backend)
        log.append("read", [SessionCreated()], expected_version=0)
        log.extend("read", [[message()] for _ in range(BULK)], expected_version=1)

        def work() -> float:
            cold = EventLog(log.backend)
            began = time.perf_counter()
            assert cold.head("read").version == BULK + 1
            return (time.perf_counter() - began) / BULK * 1e6

        return work

    def raw_read(self) -> Timed:
        """Select as many lines."""
        connection = psycopg.connect(self.base, autocommit=True)

        def work() -> float:
            began = time.perf_counter()
            query = "select line from raw where stream = -1 order by seq limit %s"
            assert len(connection.execute(query, [BULK], binary=True).fetchall()) == BULK
            return (time.perf_counter() - began) / BULK * 1e6

        return work


def _repeat(work: Callable[[], object]) -> float:
    done, began = 0, time.perf_counter()
    while time.perf_counter() - began < SLICE_SECONDS:
        work()
        done += 1
    return (time.perf_counter() - began) / done * 1e6


def main() -> None:
    """Measure, and print a table."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--no-fsync", action="store_true", help="without forcing to disk: what the programs cost")
    asked = parser.parse_args()
    on = "off" if asked.no_fsync else "on"
    server = PostgresServer(fsync=on, full_page_writes=on, shared_buffers="128MB")
    try:
        bench = Bench(server)
        pairs = [
            ("append, one caller", bench.raw_insert(), bench.append()),
            (f"{CALLERS} callers, own sessions", bench.raw_inserters(), bench.async_callers()),
            (f"bulk of {BULK:,}: extend", bench.raw_copy(), bench.extend()),
            (f"bulk of {BULK:,}: extend, beside one that hashes", bench.sealed_copy(), bench.extend()),
            (f"bulk of {BULK:,}: ingest, verified", bench.raw_copy(), bench.ingest()),
            (f"read {BULK:,}, verified", bench.raw_read(), bench.read()),
        ]
        print("| what | the server alone, us | the store, us | ratio |\n|---|---|---|---|")
        for what, raw, ours in pairs:
            found = [(raw(), ours()) for _ in range(asked.rounds)]
            alone, store = (statistics.median(one) for one in zip(*found, strict=True))
            ratio = statistics.median(one / other for one, other in found)
            print(f"| {what} | {alone:,.0f} | {store:,.0f} | {ratio:.2f} |", flush=True)
    finally:
        server.stop()


if __name__ == "__main__":
    main()
