"""Writers of object storage, killed at random, over a network that cuts, loses and repeats, on a server that is killed too.

No program of this file opens a store in the process that starts the others: a client of objects does not survive a fork.
"""

import json
import os
import random
import select
import signal
import time
from collections import Counter
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from datetime import UTC, datetime, timedelta
from typing import Any

from breaking.case import Counts, said
from breaking.object_front import Fault, Forward, Front, MemoryObjects
from breaking.object_server import SeaweedServer, environment
from eventstore import EventLog
from eventstore import events as e
from eventstore.backends.objectstore.address import open_objects
from eventstore.errors import AppendRefused, EventStoreError, OutcomeUnknown, SessionNotFound
from eventstore.log.base import BEGINNING
from eventstore.record import clock, codec

_SESSIONS = ("a", "b", "c")
_SIZES = "&tail_bytes=4000&segment_bytes=200000&merge=4&lease_seconds=1&settle_seconds=20"
_QUIET_SECONDS = 60.0


class Child:
    """A process that runs a function, which writes lines to a pipe; killed with its parent's `kill`."""

    def __init__(self, run: Callable[[Callable[[str], None]], None]) -> None:
        reading, writing = os.pipe()
        self.pid = os.fork()
        if not self.pid:
            os.close(reading)
            status = 1
            try:
                run(lambda line: (os.write(writing, line.encode() + b"\n"), None)[1])
                status = 0
            finally:
                os._exit(status)
        os.close(writing)
        self._reading, self._rest, self._over = reading, b"", False

    def lines(self, seconds: float = 0.0) -> list[str]:
        """Return the complete lines that came since; wait so long for the first."""
        found: list[str] = []
        while not self._over and select.select([self._reading], [], [], 0 if found else seconds)[0]:
            data = os.read(self._reading, 1 << 16)
            self._over = not data
            *whole, self._rest = (self._rest + data).split(b"\n")
            found += [one.decode() for one in whole]
        return found

    def kill(self, number: int = signal.SIGKILL) -> list[str]:
        """End it, and return the rest of its output."""
        with suppress(ProcessLookupError):
            os.kill(self.pid, number)
        found: list[str] = []
        while not self._over:
            found += self.lines(_QUIET_SECONDS)
        os.waitpid(self.pid, 0)
        os.close(self._reading)
        return found

    def result(self) -> Any:
        """Wait for its end, and return its last line, as JSON."""
        found: list[str] = []
        while not self._over:
            found += self.lines(_QUIET_SECONDS)
        _, status = os.waitpid(self.pid, 0)
        os.close(self._reading)
        assert not status, "a child failed"
        return json.loads(found[-1])


@contextmanager
def _front(port: int, chance: int) -> Iterator[tuple[int, Child]]:
    """Run a front before a server in a process of its own."""

    def run(say: Callable[[str], None]) -> None:
        front = Front(Forward(port), chance=chance, seed=port)
        say(str(front.port))
        signal.sigwait([signal.SIGTERM])
        say(json.dumps({"faults": sum(front.faults.values()), "requests": len(front.requests)}))

    signal.pthread_sigmask(signal.SIG_BLOCK, [signal.SIGTERM])
    child = Child(run)
    signal.pthread_sigmask(signal.SIG_UNBLOCK, [signal.SIGTERM])
    (text,) = child.lines(_QUIET_SECONDS)
    try:
        yield int(text), child
    finally:
        with suppress(ProcessLookupError, OSError):
            os.kill(child.pid, signal.SIGKILL)
            os.waitpid(child.pid, 0)


def _write_for_ever(url: str, name: str, keyed: bool, skew_days: int, say: Callable[[str], None]) -> None:
    """Append to all sessions in turns, and report what was acknowledged. An unknown outcome is repeated if it has a key."""
    clock.now = lambda: clock.to_text(datetime.now(UTC) + timedelta(days=skew_days))
    log, rng, number = EventLog(open_objects(url)), random.Random(name), 0
    while True:
        session, text = rng.choice(_SESSIONS), f"{name}.{number}"
        while True:
            try:
                done = log.append(session, [said(text, text if keyed else None)])
            except AppendRefused:  # surely nothing was written: if it was, it is there twice now
                continue
            except OutcomeUnknown:
                if keyed:
                    continue
                say(json.dumps([session, text, 0]))
            else:
                say(json.dumps([session, text, done.first]))
            break
        number += 1


def _follow(url: str, upto: dict[str, int] | None, say: Callable[[str], None]) -> None:
    """Read from place to place; at the end report the hash of everything read."""
    log, places = EventLog(open_objects(url)), dict.fromkeys(_SESSIONS, BEGINNING)
    while True:
        for session in _SESSIONS:
            try:
                data, places[session] = log.resume(session, places[session])
            except EventStoreError:
                continue
            for line in codec.lines(data):
                event = codec.decode(line)
                say(json.dumps([session, event.seq, event.hash]))


def _truth(url: str, say: Callable[[str], None]) -> None:
    """Read all sessions as a new program does, verified, and return their content."""
    log, found = EventLog(open_objects(url)), {}
    for session in _SESSIONS:
        events = list(log.read(session))
        times = [event.at for event in events]
        assert times == sorted(times)
        texts = [event.content if isinstance(event, e.MessageAdded) else "" for event in events]
        found[session] = [texts, [event.hash for event in events]]
        log.append(session, [said("")])
    say(json.dumps(found))


def objects(full: bool) -> Counts:
    """Kill writers of SeaweedFS over a network that cuts, and the server too: nothing is lost, nothing is there twice."""
    environment()
    wanted, kills = (20_000, 200) if full else (300, 8)
    counts: Counts = dict.fromkeys(
        ("acknowledged", "kills", "server_kills", "unknown", "faults", "delivered", "skewed"), 0
    )
    server = SeaweedServer()
    try:
        for keyed in (True, False):
            _round(server, f"faults-{keyed}", keyed, wanted // 2, kills // 2, counts)
    finally:
        server.stop()
    return counts


def _round(server: SeaweedServer, prefix: str, keyed: bool, wanted: int, kills: int, counts: Counts) -> None:
    """Run writers and a follower until enough was acknowledged and killed; then compare with what is there."""
    direct = server.url(prefix) + _SIZES
    rng, told, delivered = random.Random(7), list[list[Any]](), list[list[Any]]()
    Child(lambda say: _begin(direct, say)).result()
    with _front(server.port, 10) as (port, front):
        url = server.url(prefix, f"http://127.0.0.1:{port}") + _SIZES

        def start(number: int) -> Child:
            skew = rng.choice((0, 0, -2, 2))
            counts["skewed"] += skew != 0
            return Child(lambda say: _write_for_ever(url, f"w{number}", keyed, skew, say))

        follower = Child(lambda say: _follow(url, None, say))
        writers, killed, server_killed = [start(number) for number in range(4)], 0, 0
        while sum(1 for one in told if one[2]) < wanted or killed < kills:
            for writer in writers:
                told += map(json.loads, writer.lines(0.05))
            delivered += map(json.loads, follower.lines())
            share = sum(1 for one in told if one[2]) / wanted
            if killed < kills * min(share, 1) or share >= 1:
                place = rng.randrange(len(writers))
                told += map(json.loads, writers[place].kill())
                killed += 1
                writers[place] = start(3 + killed)
            if server_killed < 1 and share > 0.5:
                server.kill()
                server.start()
                server_killed += 1
        for writer in writers:
            told += map(json.loads, writer.kill())
            killed += 1
        truth = Child(lambda say: _truth(direct, say)).result()
        _deliver_all(follower, delivered, {name: len(hashes) for name, (_, hashes) in truth.items()})
        delivered += map(json.loads, follower.kill())
        os.kill(front.pid, signal.SIGTERM)
        counts["faults"] += json.loads(front.lines(_QUIET_SECONDS)[-1])["faults"]
    _compare(truth, told, delivered)
    counts["acknowledged"] += sum(1 for one in told if one[2])
    counts["unknown"] += sum(1 for one in told if not one[2])
    counts["kills"] += killed
    counts["server_kills"] += server_killed
    counts["delivered"] += len(delivered)


def _begin(url: str, say: Callable[[str], None]) -> None:
    log = EventLog(open_objects(url))
    for session in _SESSIONS:
        log.append(session, [e.SessionCreated()], expected_version=0)
    say("1")


def _deliver_all(follower: Child, delivered: list[list[Any]], sizes: dict[str, int]) -> None:
    """Wait until the follower has come to the end."""
    until = time.monotonic() + _QUIET_SECONDS
    while time.monotonic() < until:
        reached = {session: seq for session, seq, _ in delivered}
        if all(reached.get(session, 0) >= size for session, size in sizes.items()):
            return
        delivered += map(json.loads, follower.lines(0.1))
    raise AssertionError("the follower does not come to the end")


def _compare(truth: dict[str, list[Any]], told: list[list[Any]], delivered: list[list[Any]]) -> None:
    """Check that what was acknowledged is there once, at its number, in each writer's order, and that followers saw just that."""
    for session, (texts, hashes) in truth.items():
        said_here = [text for text in texts if text]
        twice = [text for text, count in Counter(said_here).items() if count > 1]
        assert not twice, f"twice: {twice[:5]}"
        for _, text, seq in (one for one in told if one[0] == session and one[2]):
            assert texts[seq - 1] == text, f"lost or moved: {text} of {session} at {seq}"
        for writer in {text.partition(".")[0] for text in said_here}:
            numbers = [int(text.partition(".")[2]) for text in said_here if text.partition(".")[0] == writer]
            assert numbers == sorted(numbers), f"out of order: {writer}"
        came = [(seq, digest) for name, seq, digest in delivered if name == session][: len(hashes)]
        assert came == list(enumerate(hashes, 1)), f"a follower of {session} saw something else"


def stale(full: bool) -> Counts:
    """Delete, trash and make again in object storage what another handle knows: nothing is written into the wrong log."""
    environment()
    counts = {"rounds": 0, "accepted": 0, "refused": 0, "repeated": 0}
    front = Front(MemoryObjects())
    try:
        url = front.url("stale", tail_bytes=300, merge=3, lease_seconds=1)
        mine, other = EventLog(open_objects(url)), EventLog(open_objects(url))
        mine.append("s", [e.SessionCreated()], expected_version=0)
        for number in range(1000 if full else 150):
            with suppress(SessionNotFound):
                mine.append("s", [said("before", "key")])
            name = other.trash("s") if number % 3 else ""
            if not name:
                other.remove("s")
            if number % 2:
                other.append("s", [e.SessionCreated()], expected_version=0)
            key = "key" if number % 4 < 2 else None
            try:
                done = mine.append("s", [said(f"round {number}", key)])
                fresh = list(EventLog(open_objects(url)).read("s"))
                assert isinstance(fresh[-1], e.MessageAdded)
                assert (fresh[-1].content, fresh[-1].seq) == (f"round {number}", done.first), "written elsewhere"
                assert not done.repeated, "a key of the log that is gone is believed"
                counts["accepted"] += 1
                assert other.append("s", [said(f"round {number}", key)]).repeated == (key is not None)
                counts["repeated"] += key is not None
            except SessionNotFound:
                assert not number % 2
                counts["refused"] += 1
                mine.append("s", [e.SessionCreated()], expected_version=0)
            if name:
                other.purge(name)
            counts["rounds"] += 1
    finally:
        front.close()
    return counts


def answers(full: bool) -> Counts:
    """Answer requests of object storage with errors, late, twice or never, at random: all that is acknowledged is there once."""
    environment()
    counts: Counts = dict.fromkeys(("acknowledged", "refused", "unknown", *(one.name.lower() for one in Fault)), 0)
    for seed in range(20 if full else 3):
        front = Front(MemoryObjects(), seed=seed)
        try:
            url = front.url("p", tail_bytes=1500, merge=3, settle_seconds=3, lease_seconds=1)
            log, done, open_ones = EventLog(open_objects(url)), dict[str, int](), set[str]()
            log.append("s", [e.SessionCreated()], expected_version=0)
            front.chance = 250
            for number in range(200):
                text = f"{seed}.{number}"
                try:
                    done[text] = log.append("s", [said(text)]).first
                except AppendRefused:
                    counts["refused"] += 1
                except OutcomeUnknown:
                    open_ones.add(text)
                    counts["unknown"] += 1
            front.chance = 0
            fresh = EventLog(open_objects(url))
            found = {event.content: event.seq for event in fresh.read("s") if isinstance(event, e.MessageAdded)}
            assert len(found) == fresh.head("s").version - 1, "twice"
            assert done.items() <= found.items(), "lost"
            assert found.keys() - done.keys() <= open_ones, "refused, and there"
            counts["acknowledged"] += len(done)
            for fault, count in front.faults.items():
                counts[fault.name.lower()] += count
        finally:
            front.close()
    return counts
