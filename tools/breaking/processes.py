"""Processes: killed writers, and many writers and readers of one session."""

import os
import random
import signal
import time
from pathlib import Path

from breaking.case import Counts, contents, folder, opened, said
from eventstore import SessionNotFound, VersionConflict
from eventstore import events as e


def kill(full: bool) -> Counts:
    """Kill 1-4 writers at random moments: every accepted event is there once and in order, and the next writer can append."""
    kills = 10_000 if full else 250
    counts = {"kills": 0, "accepted": 0, "torn_tails": 0, "unacknowledged": 0}
    rng = random.Random(19)
    while counts["kills"] < kills or (full and counts["torn_tails"] < 300 and counts["kills"] < 4 * kills):
        with folder() as root:
            with opened(root) as log:
                log.append("s", [e.SessionCreated()], expected_version=0)
            acknowledged: set[str] = set()
            for turn in range(12):
                acknowledged |= _killed(root, rng, turn, counts)
                _holds(root, acknowledged, turn, counts)
            counts["accepted"] += len(acknowledged)
    return counts


def _killed(root: Path, rng: random.Random, turn: int, counts: Counts) -> set[str]:
    """Let writers write, kill them, and return the outcomes that they got."""
    children: list[tuple[int, int]] = []
    for writer in range(rng.randrange(1, 5)):
        reading, writing = os.pipe()
        child = os.fork()
        if not child:
            os.close(reading)
            _write_for_ever(root, f"{turn}.{writer}", writing, large=rng.random() < 0.6)
        os.close(writing)
        children.append((child, reading))
    _wait_for_a_bad_moment(root, rng)
    for child, _ in children:
        os.kill(child, signal.SIGKILL)
    told: set[str] = set()
    for child, reading in children:
        os.waitpid(child, 0)
        counts["kills"] += 1
        with os.fdopen(reading, "rb") as stream:
            told.update(line.decode() for line in stream.read().split(b"\n")[:-1])
    return told


def _wait_for_a_bad_moment(root: Path, rng: random.Random) -> None:
    """Wait a random time, or until the file grows: then a process is in the middle of a write."""
    if rng.random() < 0.3:
        time.sleep(rng.random() * 0.012)
        return
    path = root / "s" / "events.jsonl"
    size, rounds = path.stat().st_size, rng.randrange(1, 4)
    until = time.monotonic() + 0.1
    while rounds and time.monotonic() < until:
        now = path.stat().st_size
        rounds -= now != size
        size = now


def _write_for_ever(root: Path, name: str, writing: int, *, large: bool) -> None:
    try:
        log = opened(root)
        pad = "x" * (700_000 if large else 200)
        for n in range(10**9):
            log.append("s", [said(f"{name}.{n} {pad}"), said(f"{name}.{n}+ {pad}")])
            os.write(writing, f"{name}.{n}\n".encode())
    finally:
        os._exit(1)


def _holds(root: Path, acknowledged: set[str], turn: int, counts: Counts) -> None:
    with opened(root) as log:
        counts["torn_tails"] += log.tail("s") is not None
        log.append("s", [said(f"turn {turn}")])
        found = [text.partition(" ")[0] for text in contents(log)]
    firsts = [name for name in found if name != "turn" and not name.endswith("+")]
    assert [name + "+" for name in firsts] == [name for name in found if name.endswith("+")], "half a batch"
    assert len(set(firsts)) == len(firsts), "repeated"
    lost = acknowledged - set(firsts)
    assert not lost, f"lost {sorted(lost)[:5]}"
    counts["unacknowledged"] += len(set(firsts) - acknowledged)
    for writer in {name.rpartition(".")[0] for name in firsts}:
        numbers = [int(name.rpartition(".")[2]) for name in firsts if name.rpartition(".")[0] == writer]
        assert numbers == list(range(len(numbers))), "order lost"


def replaced(full: bool) -> Counts:
    """Delete and create again a session that a program has open: every accepted event is in the file at the path."""
    counts = {"rounds": 0, "accepted": 0, "refused": 0}
    with folder() as root, opened(root) as mine, opened(root) as other:
        mine.append("s", [e.SessionCreated()], expected_version=0)
        for n in range(1000 if full else 100):
            mine.append("s", [said("before")])
            other.remove("s")
            if n % 2:
                other.append("s", [e.SessionCreated()], expected_version=0)
            try:
                mine.append("s", [said(f"round {n}")])
                counts["accepted"] += 1
                with opened(root) as fresh:
                    assert contents(fresh)[-1] == f"round {n}", "swallowed by a file that is gone"
            except SessionNotFound:
                counts["refused"] += 1
                mine.append("s", [e.SessionCreated()], expected_version=0)
            counts["rounds"] += 1
    return counts


def writers(full: bool) -> Counts:
    """Let 16 processes append to one session, some by expected version, some killed, while followers read."""
    each = 10_000 if full else 150
    counts = {"events": 0, "conflicts": 0, "killed": 0, "followed": 0}
    with folder() as root:
        with opened(root) as log:
            log.append("s", [e.SessionCreated()], expected_version=0)
        children = [_forked(_append_all, root, f"w{n}", _share(n, each), _is_careful(n)) for n in range(16)]
        victims = [_forked(_append_all, root, f"v{n}", 10**9, False) for n in range(2)]
        followers = [_forked(_follow, root) for _ in range(2)]
        time.sleep(0.2)
        for child, _ in victims:
            os.kill(child, signal.SIGKILL)
            os.waitpid(child, 0)
            counts["killed"] += 1
        told = [_result(child, reading) for child, reading in children]
        counts["conflicts"] = sum(int(line) for line in told)
        with opened(root) as log:
            log.append("s", [said("end")])
            head = log.head("s")
            texts = contents(log)
        for n in range(16):
            mine = [text for text in texts if text.startswith(f"w{n} ")]
            assert mine == [f"w{n} {k}" for k in range(_share(n, each))], f"writer {n}"
        for child, reading in followers:
            assert _result(child, reading) == head.hash, "a follower saw another end"
            counts["followed"] += 1
        counts["events"] = head.version
    return counts


def _is_careful(n: int) -> bool:
    """Every fourth writer appends by expected version."""
    return n % 4 == 0


def _share(n: int, each: int) -> int:
    """Careful writers append less: where it is crowded each append takes them many tries."""
    return each // 50 + 1 if _is_careful(n) else each * 4 // 3 + 1


def _forked(work: object, *arguments: object) -> tuple[int, int]:
    reading, writing = os.pipe()
    child = os.fork()
    if child:
        os.close(writing)
        return child, reading
    os.close(reading)
    status = 1
    try:
        os.write(writing, str(work(*arguments)).encode())  # type: ignore[operator]
        status = 0
    finally:
        os._exit(status)


def _result(child: int, reading: int) -> str:
    with os.fdopen(reading, "rb") as stream:
        told = stream.read().decode()
    assert os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]) == 0, "a child failed"
    return told


def _append_all(root: Path, name: str, count: int, by_version: bool) -> int:
    conflicts = 0
    with opened(root) as log:
        for n in range(count):
            while True:
                expected = log.head("s").version if by_version else None
                try:
                    log.append("s", [said(f"{name} {n}")], expected_version=expected)
                except VersionConflict:
                    conflicts += 1
                else:
                    break
    return conflicts


def _follow(root: Path) -> str:
    """Continue reading from the last number until the end is reported; every number comes once."""
    seen, last = 0, ""
    with opened(root) as log:
        while True:
            for event in log.read("s", seen):
                assert event.seq == seen + 1
                seen, last = event.seq, event.hash
                if isinstance(event, e.MessageAdded) and event.content == "end":
                    return last
