"""Engines of storage on real servers: programs killed, servers killed, answers lost, handles that are stale."""

import os
import random
import signal
import sys
import time
import traceback
from collections import defaultdict
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from itertools import count
from pathlib import Path
from typing import NamedTuple

from breaking.case import Counts, folder, said
from breaking.proxy import Proxy
from eventstore import events as e
from eventstore.backends.open import open_backend
from eventstore.errors import AppendRefused, EventStoreError, OutcomeUnknown, ReadRefused, SessionNotFound
from eventstore.log.base import BEGINNING, Append, Appended, Head, Outcome
from eventstore.log.engine import EventLog

SESSIONS = ("a", "b", "c")
_WRITERS = 4


class Engine(NamedTuple):
    """A server of storage: `url` gives that of a store, by its name and the port it is reached through."""

    port: int
    url: Callable[[str, int], str]
    kill: Callable[[], None]
    start: Callable[[], None]


def opened(url: str) -> EventLog:
    """Open a log by URL, as a new program would."""
    return EventLog(open_backend(url))


class Told(NamedTuple):
    """The outcomes that writers got, by the text of a message: its place, or unknown."""

    accepted: dict[str, tuple[str, int]]
    unknown: set[str]


def kill_writers(engine: Engine, *, kills: int, accepted: int, server_kills: int, seed: int) -> Counts:
    """Let programs write through a proxy that fails, kill them and the server, and check their outcomes; in rounds."""
    counts = dict.fromkeys(("kills", "server_kills", "accepted", "unknown", "repeated_by_id", "followed", "cuts"), 0)
    rng, number = random.Random(seed), 0
    while counts["kills"] < kills or counts["accepted"] < accepted:
        number += 1
        with folder() as room:
            seconds = server_kills * number / max(kills // 10, 1) - counts["server_kills"] >= 1
            _round(engine, room, f"round_{seed}_{number}", rng, counts, kill_server=seconds or number == 1)
    return counts


def _round(engine: Engine, room: Path, store: str, rng: random.Random, counts: Counts, *, kill_server: bool) -> None:
    direct = engine.url(store, engine.port)
    with opened(direct) as log:
        for session in SESSIONS:
            log.append(session, [e.SessionCreated()], expected_version=0)
    proxy = Proxy(engine.port, room, per_mille=8, stall_seconds=3.0, seed=rng.randrange(10**9))
    through = engine.url(store, proxy.port)
    follower = _forked(lambda: _follow(direct, room / "followed", room / "end"))
    writers = {}
    try:
        for number in range(_WRITERS):
            writers[number] = _start(through, room, number, rng)
        number, until = _WRITERS, time.monotonic() + 120
        for kill in range(10):
            _wait_for_acks(room, rng.randrange(40, 160), until)
            victim = rng.choice(sorted(writers))
            _end(writers.pop(victim))
            counts["kills"] += 1
            if kill_server and kill == 5:
                engine.kill()
                time.sleep(rng.random() * 0.3)
                engine.start()
                counts["server_kills"] += 1
            writers[number] = _start(through, room, number, rng)
            number += 1
        _wait_for_acks(room, 60, until)
    finally:
        for child in writers.values():
            _end(child)
        counts["cuts"] += sum(proxy.counts().values())
        proxy.stop()
        with opened(direct) as log:  # behind these events no statement of a killed program is carried out any more
            for session in SESSIONS:
                log.append(session, [e.DataCleared()])
        (room / "end").touch()
    with opened(direct) as log:
        _check(log, room, counts)
        _, status = os.waitpid(follower, 0)
        assert status == 0, "the follower failed"
        _check_followed(log, room, counts)


# --- writers


def _start(url: str, room: Path, number: int, rng: random.Random) -> int:
    seed, with_ids = rng.randrange(10**9), number % 2 == 0
    return _forked(lambda: _write_for_ever(url, room / f"acks-{number}", number, seed, with_ids=with_ids))


def _write_for_ever(url: str, file: Path, number: int, seed: int, *, with_ids: bool) -> None:
    """Append messages, and note what came of each: one line is one write, which a kill of this program does not take back.

    Every third program appends to all sessions in one step.
    """
    rng, joins = random.Random(seed), number % 3 == 2
    told = os.open(file, os.O_WRONLY | os.O_CREAT | os.O_APPEND)
    log = opened(url)
    for turn in count(step=len(SESSIONS)):
        waiting = dict[str, Append]()
        for place, session in enumerate(SESSIONS if joins else (rng.choice(SESSIONS),)):
            text = f"w{number}.{turn + place}"
            more = [said(text + "+")] if rng.random() < 0.2 else []
            waiting[text] = Append(session, [said(text, text if with_ids else None), *more])
        while waiting:
            for text, (session, *_) in waiting.items():
                os.write(told, f"begun {text} {session}\n".encode())
            outcomes = _append(log, list(waiting.values()), joins=joins)
            for (text, (session, *_)), outcome in zip(list(waiting.items()), outcomes, strict=True):
                if isinstance(outcome, OutcomeUnknown):
                    if with_ids:
                        continue  # the same id: it is written once
                    os.write(told, f"unknown {text} {session}\n".encode())
                elif isinstance(outcome, AppendRefused | ReadRefused):
                    continue  # nothing was written
                else:
                    assert isinstance(outcome, Appended), outcome
                    word = "again" if outcome.repeated else "accepted"
                    os.write(told, f"{word} {text} {session} {outcome.first}\n".encode())
                del waiting[text]


def _append(log: EventLog, appends: list[Append], *, joins: bool) -> list[Outcome | None]:
    if joins:
        written = log.append_many(appends)
        written.flush()
        return written.outcomes
    try:
        return [log.append(*appends[0][:2])]
    except EventStoreError as error:
        return [error]


def _forked(work: Callable[[], None]) -> int:
    sys.stdout.flush()
    child = os.fork()
    if child:
        return child
    try:
        work()
    except BaseException:
        traceback.print_exc()
        os._exit(1)
    os._exit(0)


def _end(child: int) -> None:
    os.kill(child, signal.SIGKILL)
    os.waitpid(child, 0)


def _lines(room: Path) -> Iterator[list[str]]:
    for file in sorted(room.glob("acks-*")):
        for line in file.read_text().splitlines():
            yield line.split(" ")


def _wait_for_acks(room: Path, more: int, until: float) -> None:
    """Wait until writers got the outcomes of so many more appends."""
    wanted = sum(file.stat().st_size for file in room.glob("acks-*")) + more * 40
    while sum(file.stat().st_size for file in room.glob("acks-*")) < wanted and time.monotonic() < until:
        time.sleep(0.005)


# --- what must hold


def _told(room: Path, counts: Counts) -> tuple[Told, set[str]]:
    told, begun = Told({}, set()), set[str]()
    for word, text, session, *first in _lines(room):
        if word == "begun":
            begun.add(text)
        elif word == "unknown":
            told.unknown.add(text)
        else:
            told.accepted[text] = session, int(first[0])
            counts["repeated_by_id"] += word == "again"
    return told, begun


def _check(log: EventLog, room: Path, counts: Counts) -> None:
    """Compare the logs, verified to the end, with the outcomes: nothing is lost, doubled, misplaced, or out of order."""
    told, begun = _told(room, counts)
    counts["accepted"] += len(told.accepted)
    counts["unknown"] += len(told.unknown)
    places: dict[str, list[tuple[str, int]]] = defaultdict(list)
    for session in SESSIONS:
        before = dict[str, int]()
        for event in log.read(session):
            if not isinstance(event, e.MessageAdded):
                continue
            if event.content.endswith("+"):
                assert places[event.content[:-1]] == [(session, event.seq - 1)], "half a batch"
                continue
            places[event.content].append((session, event.seq))
            writer, _, turn = event.content.partition(".")
            assert before.get(writer, -1) < int(turn), f"{event.content} is out of order"
            before[writer] = int(turn)
    for text, found in places.items():
        assert len(found) == 1, f"{text} is there {len(found)} times"
        assert text in begun, f"nobody wrote {text}"
    for text, place in told.accepted.items():
        assert places[text] == [place], f"{text} was accepted at {place} and is at {places[text]}"


# --- followers


def _follow(url: str, file: Path, end: Path) -> None:
    """Follow by `changed`, and record each message as it comes; after the end, poll until nothing is new."""
    log = opened(url)
    found = os.open(file, os.O_WRONLY | os.O_CREAT | os.O_APPEND)
    token, places = None, dict[str, Head]()
    while True:
        is_end = end.exists()
        try:
            changes = log.changed(token)
            for name, text in changes.logs:
                if name in SESSIONS and text is not None:
                    _read_on(log, name, places, found)
        except (ReadRefused, OutcomeUnknown):
            time.sleep(0.01)
            continue
        is_first, token = token is None, changes.token
        if is_end and not is_first:
            return
        time.sleep(0.002)


def _read_on(log: EventLog, name: str, places: dict[str, Head], found: int) -> None:
    while True:
        data, place = log.resume(name, places.get(name, BEGINNING))
        if not data:
            return
        places[name] = place  # before the next call, which may fail
        os.write(found, b"".join(b"%s %s\n" % (name.encode(), line[-66:-2]) for line in data.split(b"\n")[:-1]))


def _check_followed(log: EventLog, room: Path, counts: Counts) -> None:
    """Each line came to the follower once, in its order."""
    seen: dict[str, list[str]] = defaultdict(list)
    for line in (room / "followed").read_text().splitlines():
        name, digest = line.split(" ")
        seen[name].append(digest)
    for session in SESSIONS:
        there = [line[-66:-2].decode() for line in log.lines(session)]
        twice, missed = len(seen[session]) - len(set(seen[session])), len(set(there) - set(seen[session]))
        assert seen[session] == there, f"{session} was followed wrongly: {twice} lines twice, {missed} missed"
        counts["followed"] += len(seen[session])


# --- stale handles


def stale_handles(url: str, rounds: int) -> Counts:
    """Delete, trash and create sessions again while a program has them open: its outcomes are true for the present log."""
    counts = dict.fromkeys(("rounds", "accepted", "not_found", "repeated"), 0)
    rng = random.Random(5)
    with opened(url) as mine, opened(url) as other:
        for number in range(rounds):
            with suppress(SessionNotFound):
                mine.append("s", [said("warm", "warm")])
            is_there = mine.exists("s")
            if is_there:
                rng.choice([other.remove, other.trash])("s")
            if rng.random() < 0.7:
                events: list[e.Event] = [e.SessionCreated()]
                if rng.random() < 0.3:
                    events.append(said("theirs", "warm"))
                other.append("s", events, expected_version=0)
            key = rng.choice([None, "warm", f"n{number}"])
            try:
                done = mine.append("s", [said(f"round {number}", key)])
            except SessionNotFound:
                assert not other.exists("s"), "refused, and the session is there"
                counts["not_found"] += 1
            else:
                with opened(url) as fresh:
                    found = next(fresh.read("s", done.last - 1, done.last))
                assert isinstance(found, e.MessageAdded)
                assert found.content == ("theirs" if done.repeated else f"round {number}"), "told of another log"
                counts["repeated" if done.repeated else "accepted"] += 1
            counts["rounds"] += 1
    return counts


# --- transactions that are held open


@contextmanager
def held_open(begin: Callable[[], Callable[[], None]]) -> Iterator[None]:
    """Keep something open in the server while the block runs."""
    end = begin()
    try:
        yield
    finally:
        end()


__all__ = ["Engine", "EventStoreError", "held_open", "kill_writers", "opened", "stale_handles"]
