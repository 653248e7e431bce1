"""PostgreSQL on a real server: killed programs and servers, a proxy that fails, open transactions, stale handles, a pooler."""

import random
import subprocess
import tempfile
import threading
import time
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager, suppress
from pathlib import Path
from shutil import rmtree, which
from typing import Any

from breaking import engines
from breaking.case import Counts, said
from breaking.engines import opened
from breaking.postgres_server import PostgresServer, free_port, user_for_servers
from eventstore import events as e
from eventstore import open_store
from eventstore.errors import AppendRefused, LogRolledBack, OutcomeUnknown, ReadRefused
from eventstore.log.base import BEGINNING, Head
from eventstore.log.engine import EventLog


@contextmanager
def _server() -> Iterator[PostgresServer]:
    server = PostgresServer()
    try:
        yield server
    finally:
        server.stop()


def postgres(full: bool) -> Counts:
    """Kill programs and the PostgreSQL server, with a failing proxy: accepted events are there once, and followed once."""
    with _server() as server:
        engine = engines.Engine(
            server.port, lambda store, port: server.url(store, port=port, timeout="2"), server.kill, server.start
        )
        kills, accepted = (200, 20_000) if full else (10, 300)
        return engines.kill_writers(engine, kills=kills, accepted=accepted, server_kills=2, seed=11)


_REPLICATED: dict[str, Any] = {"wal_level": "replica", "max_wal_senders": "4", "hot_standby": "on"}


def postgres_failover(full: bool) -> Counts:
    """Kill a server under writers and promote its synchronous standby: accepted events are there once, at their numbers."""
    counts = dict.fromkeys(("failovers", "accepted"), 0)
    for number in range(20 if full else 1):
        primary = PostgresServer(**_REPLICATED)
        try:
            standby = PostgresServer(standby_of=primary, **_REPLICATED)
            try:
                _fail_over(primary, standby, random.Random(number), counts)
            finally:
                standby.stop()
        finally:
            primary.stop()
    return counts


def _fail_over(primary: PostgresServer, standby: PostgresServer, rng: random.Random, counts: Counts) -> None:
    import psycopg

    with psycopg.connect(primary.url("x").partition("?")[0], autocommit=True) as beside:
        beside.execute("alter system set synchronous_standby_names = '*'")
        beside.execute("select pg_reload_conf()")
    url = primary.url("failover", timeout="20").replace("127.0.0.1:", f"127.0.0.1:{standby.port},127.0.0.1:")
    stop, told = threading.Event(), list[tuple[str, str, int]]()
    with opened(url) as log, ThreadPoolExecutor(8) as pool:
        for name in ("s0", "s1", "s2"):
            log.append(name, [e.SessionCreated()], expected_version=0)
        writers = [pool.submit(_write_until, log, writer, stop, told) for writer in range(8)]
        try:
            wanted = rng.randrange(50, 300)
            _wait_until(lambda: len(told) >= wanted)
            primary.kill()
            standby.promote()
            counts["failovers"] += 1
            behind = len(told) + 50
            _wait_until(lambda: len(told) >= behind)
        finally:
            stop.set()
        for one in writers:
            one.result()
    with opened(standby.url("failover")) as log:
        for name in ("s0", "s1", "s2"):
            there = [one for one in log.read(name) if isinstance(one, e.MessageAdded)]
            places = {one.content: one.seq for one in there}
            assert len(places) == len(there), "an event is there twice"
            for _, text, seq in (one for one in told if one[0] == name):
                assert places.get(text) == seq, "an accepted event is not there"
    counts["accepted"] += len(told)


def postgres_lost_tail(full: bool) -> Counts:
    """Promote a standby that lacks the last commits: a token that saw them names every log that is not as it was then."""
    counts = dict.fromkeys(("failovers", "lost", "rolled_back"), 0)
    for number in range(10 if full else 1):
        primary = PostgresServer(**_REPLICATED)
        try:
            standby = PostgresServer(standby_of=primary, **_REPLICATED)
            try:
                _lose_tail(primary, standby, random.Random(number), counts)
            finally:
                standby.stop()
        finally:
            primary.stop()
    return counts


def _lose_tail(primary: PostgresServer, standby: PostgresServer, rng: random.Random, counts: Counts) -> None:
    names = [f"s{number}" for number in range(6)]
    url = primary.url("lost", timeout="20").replace("127.0.0.1:", f"127.0.0.1:{standby.port},127.0.0.1:")
    with opened(url) as log, open_store(url) as store:
        for name in names:
            log.append(name, [e.SessionCreated()], expected_version=0)
            log.append(name, [said("kept")])
        standby.stop_receiving(primary)
        lost = names[:3]
        for _ in range(rng.randrange(20, 60)):
            log.append(rng.choice(lost), [said("lost")])
            counts["lost"] += 1
        places = {name: log.tail_position(name) for name in names}
        token = log.changed().token
        assert {one.session_id for one in store.list_metadata(limit=None)} == set(names)
        primary.kill()
        standby.promote()
        counts["failovers"] += 1
        log.append("s5", [said("new")])  # it has the number of a transaction that was lost
        named = {name for name, _ in log.changed(token).logs}
        changed = {name for name in names if log.head(name) != places[name]}
        assert changed >= {"s5"}
        assert changed <= named, f"not named: {changed - named}"
        for name in sorted(changed - {"s5"}):
            try:
                log.resume(name, places[name])
            except LogRolledBack:
                counts["rolled_back"] += 1
            else:
                raise AssertionError("a follower was not told that events are gone")
        listed = {one.session_id: one for one in store.list_metadata(limit=None)}
        assert listed == {name: store.metadata(name) for name in names}, "a list shows what is gone"


def _write_until(log: EventLog, writer: int, stop: threading.Event, told: list[tuple[str, str, int]]) -> None:
    for turn in range(10**9):
        if stop.is_set():
            return
        name, text = f"s{turn % 3}", f"w{writer}.{turn}"
        with suppress(OutcomeUnknown, AppendRefused, ReadRefused):  # no server answers: the text may be there, or not
            told.append((name, text, log.append(name, [said(text)]).first))


def _wait_until(is_true: Callable[[], bool]) -> None:
    until = time.monotonic() + 120
    while not is_true():
        assert time.monotonic() < until, "the writers do not continue"
        time.sleep(0.01)


def postgres_stale(full: bool) -> Counts:
    """Delete, trash and create sessions again in PostgreSQL while they are open: outcomes are true for the new log."""
    with _server() as server:
        return engines.stale_handles(server.url("stale"), 1_000 if full else 60)


def postgres_gap(full: bool) -> Counts:
    """Hold transactions of PostgreSQL open while others commit and followers look: no event is missed, and none comes twice."""
    import psycopg

    counts = dict.fromkeys(("rounds", "followed", "late", "looks"), 0)
    rng = random.Random(3)
    with _server() as server, opened(server.url("gap")) as log:
        names = [f"s{number}" for number in range(4)]
        for name in names:
            log.append(name, [e.SessionCreated()], expected_version=0)
        places, token = dict[str, Head](), log.changed(None).token
        for name in names:
            places[name] = _drain(log, name, BEGINNING, counts)
        base = server.url("gap").partition("?")[0]
        for number in range(500 if full else 40):
            late = rng.choice(names)
            with psycopg.connect(base) as held, psycopg.connect(base) as other:
                other.execute("select pg_current_xact_id()")  # a transaction that has nothing to do with this store
                held.execute("select pg_current_xact_id()")
                _append_inside(log, held, late, f"late {number}")
                for _ in range(rng.randrange(1, 4)):
                    name = rng.choice([one for one in names if one != late])
                    log.append(name, [said(f"early {number}")])
                    token = _look(log, token, places, counts)
                held.commit()
                counts["late"] += 1
                token = _look(log, token, places, counts)
                assert places[late] == log.head(late), "a late commit was missed"
            counts["rounds"] += 1
        for name in names:
            assert places[name] == log.head(name), "an event was missed"
        assert not [name for name, _ in log.changed(token).logs], "something is new for ever"
    return counts


def _append_inside(log: EventLog, held: object, name: str, text: str) -> None:
    """Append in a transaction that stays open: the statement of the backend, on a connection of this program."""
    from eventstore.log.batch import prepare, seal
    from eventstore.record import clock, codec
    from eventstore.record.scan import Tip

    head = log.head(name)
    here = log.backend.tip(name)
    batch = prepare([said(text)], codec.MAX_EVENT_BYTES)
    line, tip = seal(batch, Tip(here.digest, here.offset, here.seq, here.at), max(clock.now(), head.at))
    stream = int(here.life.partition(".")[0])
    sql = log.backend._sql  # type: ignore[attr-defined]
    row = held.execute(  # type: ignore[attr-defined]
        sql.append_one,
        [tip.seq, tip.at, tip.digest, len(line), stream, name, here.seq, here.digest, None, None, tip.seq, line, None],
    ).fetchone()
    assert row is not None


def _look(log: EventLog, token: str, places: dict[str, Head], counts: Counts) -> str:
    found = log.changed(token)
    assert not found.complete
    counts["looks"] += 1
    for name, text in found.logs:
        assert text is not None
        before = places[name]
        places[name] = _drain(log, name, before, counts)
        assert places[name] != before, "named again without a change"
    return found.token


def _drain(log: EventLog, name: str, place: Head, counts: Counts) -> Head:
    while True:
        data, after = log.resume(name, place)
        if not data:
            return place
        counts["followed"] += data.count(b"\n")
        place = after


# --- a pooler


@contextmanager
def pooler(server: PostgresServer) -> Iterator[int]:
    """Run pgbouncer in transaction mode before a server; yields its port. Raises RuntimeError if it is not installed."""
    program = which("pgbouncer", path="/usr/sbin:/usr/bin:/usr/local/bin")
    if program is None:
        raise RuntimeError("there is no pgbouncer: apt-get install pgbouncer")
    room, port, user = Path(tempfile.mkdtemp(prefix="eventstore-pooler-")), free_port(), user_for_servers()
    try:
        (room / "users").write_text('"tester" ""\n')
        (room / "ini").write_text(
            f"[databases]\npostgres = host=127.0.0.1 port={server.port} dbname=postgres\n"
            f"[pgbouncer]\nlisten_addr = 127.0.0.1\nlisten_port = {port}\nauth_type = trust\nauth_file = {room}/users\n"
            "pool_mode = transaction\ndefault_pool_size = 4\nmax_client_conn = 200\nunix_socket_dir =\n"
            "ignore_startup_parameters = extra_float_digits,options\n"
        )
        if user is not None:
            for path in (room, room / "users", room / "ini"):
                path.chmod(0o755)
        process = subprocess.Popen(
            [program, "-q", str(room / "ini")],
            user=user.pw_uid if user else None,
            group=user.pw_gid if user else None,
            stdout=subprocess.DEVNULL,
            stderr=subprocess.DEVNULL,
        )
        try:
            _await(port)
            yield port
        finally:
            process.kill()
            process.wait()
    finally:
        rmtree(room, ignore_errors=True)


def _await(port: int) -> None:
    import socket

    until = time.monotonic() + 30
    while time.monotonic() < until:
        try:
            socket.create_connection(("127.0.0.1", port), 1).close()
        except OSError:
            time.sleep(0.02)
        else:
            return
    raise RuntimeError("pgbouncer did not start")


def postgres_pooler(full: bool) -> Counts:
    """Kill programs that write through pgbouncer in transaction mode: accepted events are there once, and locks hold."""
    with _server() as server, pooler(server) as port:
        engine = engines.Engine(
            port, lambda store, port: server.url(store, port=port, timeout="2"), lambda: None, lambda: None
        )
        kills, accepted = (100, 5_000) if full else (10, 300)
        counts = engines.kill_writers(engine, kills=kills, accepted=accepted, server_kills=0, seed=13)
        del counts["server_kills"]
        return counts
