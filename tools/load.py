"""Everything at once, for a long time: writers, readers, a follower, lists and searches in processes of their own, on one store.

    python tools/load.py                                    # 20,000 sessions, 5,000,000 appends
    python tools/load.py --sessions 400 --appends 40000     # a minute

Prints the percentiles of each operation, with everything else running and with nothing else running; and at each tenth of the
run what the processes hold (memory, descriptors, threads) and the bytes of the store. It fails if an acknowledged event did not
reach the follower exactly once and in order, if a process holds more at the end than in the middle, or if the disk grows by more
an append at the end than in the middle.
"""

import argparse
import json
import math
import multiprocessing
import os
import random
import resource
import sys
import tempfile
import threading
import time
from collections import Counter
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field, replace
from multiprocessing.connection import Connection
from multiprocessing.synchronize import Event
from pathlib import Path
from typing import Any

from eventstore import FileSystemSessionStorage, SessionManager
from eventstore.log.base import Appended

TEXT = "The deploy failed again: the health check waits for a port that the new image does not open. " * 2
WORDS = ("deploy", "database", "timeout", "login", "invoice", "parser", "cache", "retry", "socket", "quota")
ACTIVE = 40
"""Sessions that one writer has at work at the same time."""
DESCRIPTORS = 1024
"""The limit of each process. A store keeps logs open up to a quarter of it."""
QUIET_SECONDS = 5.0
"""Nothing comes any more where nothing came for so long after the last write."""
PARTS = 10
"""Of the run, after each of which the processes are looked at."""
MOST_GROWTH = 1.25
"""How much more a process may hold at the end than in the middle of the run."""
SPARE = {"memory_mb": 24.0, "descriptors": DESCRIPTORS / 4, "threads": 4.0}
"""What does not count as growth: allocators and pools do not give back at once, and logs stay open up to a limit."""
SESSION_MB = 0.004
"""What a process may remember of each session that it has seen: where its log ends, and up to where it is verified."""
SPARE_BYTES = 16_000_000
"""The databases of lists and searches grow in steps."""


class Times:
    """How long calls took, by operation: a histogram with buckets of 3 %."""

    def __init__(self) -> None:
        self.counts: dict[str, Counter[int]] = {}

    @contextmanager
    def of(self, what: str) -> Iterator[None]:
        """Time what happens inside."""
        began = time.perf_counter_ns()
        yield
        took = time.perf_counter_ns() - began
        self.counts.setdefault(what, Counter())[round(math.log(took) / 0.03)] += 1

    def merge(self, other: "Times") -> None:
        """Add those of another process."""
        for what, counts in other.counts.items():
            self.counts.setdefault(what, Counter()).update(counts)

    def row(self, what: str) -> list[str]:
        """Return the count, and the percentiles in milliseconds, as texts."""
        counts = self.counts[what]
        total, texts = counts.total(), []
        for share in (0.5, 0.95, 0.99, 0.999, 1.0):
            left = share * total
            for bucket in sorted(counts):
                left -= counts[bucket]
                if left <= 0:
                    texts.append(f"{math.exp(bucket * 0.03) / 1e6:.3g}")
                    break
        return [f"{total:,}", *texts]


@dataclass(frozen=True)
class Plan:
    """What the processes are to do, the same for all. `made` counts the sessions of each writer, `stop` ends those who ask."""

    folder: Path
    fsync: Any
    writers: int
    sessions: int
    appends: int
    made: Any
    done: Any
    stop: Event

    def open(self) -> SessionManager:
        """Open the store."""
        return SessionManager(
            FileSystemSessionStorage(self.folder / ".sessions", self.folder / ".history", fsync=self.fsync)
        )

    def one_of_all(self, draw: random.Random) -> str | None:
        """Return the id of a session that exists, more often one of the newest; None while there is none."""
        writer = draw.randrange(self.writers)
        made = self.made[writer]
        if not made:
            return None
        last = min(made, ACTIVE) if draw.random() < 0.5 else made
        return name(writer, made - 1 - draw.randrange(last))


@dataclass
class Found:
    """What a process reports at its end."""

    times: Times = field(default_factory=Times)
    events: dict[str, int] = field(default_factory=dict)
    problems: list[str] = field(default_factory=list)


def name(writer: int, number: int) -> str:
    """Return the id of a session."""
    return f"w{writer}-{number:06d}"


# --- the processes


def write(plan: Plan, number: int, found: Found) -> None:
    """Create a share of the sessions, some at a time, and append to them until each has its events."""
    draw, manager = random.Random(number), plan.open()
    sessions, each = plan.sessions // plan.writers, plan.appends // plan.sessions
    left: dict[str, int] = {}
    with manager:
        while left or plan.made[number] < sessions:
            while len(left) < ACTIVE and plan.made[number] < sessions:
                one = name(number, plan.made[number])
                with found.times.of("create a session"):
                    manager.create_session(one, draw.choice(WORDS), f"user{draw.randrange(50)}", [draw.choice(WORDS)])
                plan.made[number] += 1
                left[one], found.events[one] = each, 1
            one = draw.choice(list(left))
            appended = append(manager, one, draw, found.times)
            found.events[one] = appended.last
            plan.done[number] += 1
            left[one] -= 1
            if not left[one]:
                del left[one]
                with found.times.of("end a session"):
                    found.events[one] = manager.complete_session(one).last


def append(manager: SessionManager, one: str, draw: random.Random, times: Times) -> Appended:
    """Append something that agents append."""
    kind, number = draw.random(), draw.randrange(10**9)
    if kind < 0.7:
        with times.of("append a message"):
            return manager.add_conversation_message(one, "user", f"{draw.choice(WORDS)} {number}: {TEXT}")
    if kind < 0.85:
        with times.of("append a call"):
            return manager.link_invocation(one, f"call-{number}", draw.choice(WORDS), None, 12.0, result={"n": number})
    if kind < 0.95:
        with times.of("append usage"):
            return manager.record_usage(one, {"input": number % 1000, "output": number % 100}, model="large")
    with times.of("append data"):
        return manager.set_data(one, draw.choice(WORDS), number)


def read(plan: Plan, number: int, found: Found) -> None:
    """Read sessions, by chance."""
    draw = random.Random(1000 + number)
    with plan.open() as manager:
        while not plan.stop.is_set():
            one = plan.one_of_all(draw)
            if one is None:
                plan.stop.wait(0.05)
                continue
            with found.times.of("statistics"):
                manager.get_session_statistics(one)
            with found.times.of("the last 20 messages"):
                manager.conversation(one, limit=20)
            version = manager.head(one).version
            with found.times.of("figures as of a moment"):
                manager.get_session_statistics(one, at=max(version // 2, 1))
            with found.times.of("a complete session"):
                manager.get_session(one)


def ask(plan: Plan, number: int, found: Found) -> None:
    """List and search."""
    draw = random.Random(2000 + number)
    with plan.open() as manager:
        while not plan.stop.is_set():
            with found.times.of("list 50"):
                manager.page_sessions(limit=50)
            with found.times.of("list 50 of a user"):
                manager.page_sessions(f"user{draw.randrange(50)}", limit=50)
            with found.times.of("search a word"):
                manager.search(f"{draw.choice(WORDS)}", limit=20, wait_s=0)
            plan.stop.wait(0.02)


def follow(plan: Plan, number: int, found: Found) -> None:
    """Follow all sessions until everything that was written has come, or nothing comes any more."""
    wanted: list[int] = []
    with plan.open() as manager, manager.follow() as subscription:

        def end() -> None:
            plan.stop.wait()
            made = [name(w, n) for w in range(plan.writers) for n in range(plan.made[w])]
            wanted.append(sum(manager.head(one).version for one in made))
            before = -1
            while before < sum(found.events.values()) < wanted[0]:
                before = sum(found.events.values())
                time.sleep(QUIET_SECONDS)
            subscription.stop()

        ending = threading.Thread(target=end)
        ending.start()
        for one in subscription:
            last = found.events.get(one.session_id, 0)
            if one.event.seq != last + 1:
                found.problems.append(f"{one.session_id}: event {one.event.seq} came after {last}")
            found.events[one.session_id] = one.event.seq
        ending.join()


def run(work: Callable[[Plan, int, Found], None], plan: Plan, number: int, pipe: Connection) -> None:
    """Run one process, and report."""
    resource.setrlimit(resource.RLIMIT_NOFILE, (DESCRIPTORS, resource.getrlimit(resource.RLIMIT_NOFILE)[1]))
    found = Found()
    try:
        work(plan, number, found)
    except Exception as error:  # the report says it; the parent decides
        found.problems.append(f"{work.__name__}: {type(error).__name__}: {error}")
    pipe.send(found)


class Process:
    """One process: its name, and what it holds."""

    def __init__(self, work: Callable[[Plan, int, Found], None], plan: Plan, number: int = 0) -> None:
        self.name = f"{work.__name__} {number}"
        self._pipe, theirs = multiprocessing.Pipe(duplex=False)
        self._process = multiprocessing.Process(target=run, args=(work, plan, number, theirs))
        self._process.start()
        theirs.close()

    @property
    def is_running(self) -> bool:
        """Whether it has not reported yet."""
        return not self._pipe.poll()

    def holds(self) -> dict[str, float]:
        """Return the memory (MB), the descriptors and the threads of the process."""
        place = Path(f"/proc/{self._process.pid}")
        status = dict(line.split(":", 1) for line in (place / "status").read_text().splitlines())
        return {
            "memory_mb": int(status["VmRSS"].split()[0]) / 1024,
            "descriptors": float(len(list((place / "fd").iterdir()))),
            "threads": float(status["Threads"]),
        }

    def end(self) -> Found:
        """Wait for the report."""
        found: Found = self._pipe.recv()
        self._process.join()
        return found


# --- the run


def size_of(folder: Path) -> int:
    """Return the bytes of all files in a folder."""
    total = 0
    for entry in os.scandir(folder):
        total += (
            size_of(Path(entry.path))
            if entry.is_dir(follow_symlinks=False)
            else entry.stat(follow_symlinks=False).st_size
        )
    return total


@dataclass
class Look:
    """What was seen at one moment of the run."""

    seconds: float
    appends: int
    sessions: int
    store_bytes: int
    held: dict[str, dict[str, float]]


def watch(plan: Plan, writers: list[Process], others: list[Process], began: float) -> list[Look]:
    """Look at the processes after each tenth of the appends, until the writers have ended."""
    looks: list[Look] = []
    while any(one.is_running for one in writers):
        done = sum(plan.done)
        if done >= (len(looks) + 1) * plan.appends / PARTS and len(looks) < PARTS - 1:
            running = [one for one in (*writers, *others) if one.is_running]
            held = {one.name: one.holds() for one in running}
            looks.append(Look(time.monotonic() - began, done, sum(plan.made), size_of(plan.folder), held))
            print_look(looks)
        time.sleep(0.1)
    held = {one.name: one.holds() for one in others if one.is_running}
    looks.append(Look(time.monotonic() - began, sum(plan.done), sum(plan.made), size_of(plan.folder), held))
    print_look(looks)
    return looks


def print_look(looks: list[Look]) -> None:
    """Print the last look."""
    now = looks[-1]
    before = looks[-2] if len(looks) > 1 else Look(0.0, 0, 0, 0, {})
    rate = (now.appends - before.appends) / max(now.seconds - before.seconds, 1e-9)
    held = "  ".join(
        f"{name}: {one['memory_mb']:.0f} MB {one['descriptors']:.0f} fd {one['threads']:.0f} th"
        for name, one in now.held.items()
    )
    print(
        f"{now.seconds:6.0f} s {now.appends:>9,} appends {rate:7,.0f}/s {now.store_bytes / 1e6:7.0f} MB  {held}",
        flush=True,
    )


def growth(looks: list[Look]) -> list[str]:
    """Return what grew from the middle of the run to its last look with all processes."""
    found = list[str]()
    if len(looks) < 4:  # it was too short to tell
        return found
    middle, last = looks[len(looks) // 2 - 1], looks[-2]
    for process, held in last.held.items():
        for what, value in held.items():
            was = middle.held.get(process, {}).get(what, value)
            known = SESSION_MB * (last.sessions - middle.sessions) if what == "memory_mb" else 0.0
            if value > was * MOST_GROWTH and value > was + SPARE[what] + known:
                found.append(f"{process} holds {value:.0f} {what}, and held {was:.0f} in the middle of the run")
    first = looks[0]
    before = (middle.store_bytes - first.store_bytes) / (middle.appends - first.appends)
    after = (last.store_bytes - middle.store_bytes) / (last.appends - middle.appends)
    if after > before * MOST_GROWTH and (after - before) * (last.appends - middle.appends) > SPARE_BYTES:
        found.append(f"an append takes {after:.0f} bytes of disk, and took {before:.0f} before the middle of the run")
    return found


def alone(plan: Plan, work: Callable[[Plan, int, Found], None], number: int, seconds: float) -> Times:
    """Run one process by itself."""
    plan.stop.clear()
    process = Process(work, plan, number)
    if work is not write:
        time.sleep(seconds)
        plan.stop.set()
    return process.end().times


def compare(loaded: Times, idle: Times) -> None:
    """Print the percentiles of both."""
    print("\n| operation | | count | median ms | 95 % | 99 % | 99.9 % | greatest |\n|---|---|---|---|---|---|---|---|")
    for what in loaded.counts:
        print(f"| {what} | under load | {' | '.join(loaded.row(what))} |")
        if what in idle.counts:
            print(f"| | alone | {' | '.join(idle.row(what))} |")


def main() -> int:
    """Run everything; return the exit status."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--sessions", type=int, default=20_000)
    parser.add_argument("--appends", type=int, default=5_000_000)
    parser.add_argument("--writers", type=int, default=2)
    parser.add_argument("--readers", type=int, default=1)
    parser.add_argument("--fsync", choices=["always", "everysec", "no"], default="no")
    parser.add_argument("--idle-seconds", type=float, default=5.0, help="how long each runs with nothing else running")
    parser.add_argument("--json", type=Path, help="write the looks to a file as well")
    given = parser.parse_args()
    with tempfile.TemporaryDirectory(dir=os.environ.get("BENCH_FOLDER")) as place:
        made, done = (multiprocessing.Array("q", given.writers + 1, lock=False) for _ in range(2))
        plan = Plan(
            Path(place), given.fsync, given.writers, given.sessions, given.appends, made, done, multiprocessing.Event()
        )
        plan.open().close()
        began = time.monotonic()
        follower = Process(follow, plan)
        others = [follower, *(Process(read, plan, n) for n in range(given.readers)), Process(ask, plan)]
        writers = [Process(write, plan, n) for n in range(given.writers)]
        looks = watch(plan, writers, others, began)
        plan.stop.set()
        loaded, written, problems = Times(), dict[str, int](), list[str]()
        for process in writers:
            found = process.end()
            loaded.merge(found.times)
            written |= found.events
            problems += found.problems
        for process in others:
            found = process.end()
            loaded.merge(found.times)
            problems += found.problems
            if process is follower:
                lost = [one for one in written if found.events.get(one) != written[one]]
                problems += [
                    f"{one}: {written[one]} events written, {found.events.get(one, 0)} delivered" for one in lost
                ]
        problems += growth(looks)
        idle = Times()
        for work in (read, ask):
            idle.merge(alone(plan, work, 7, given.idle_seconds))
        small = replace(plan, writers=1, sessions=min(ACTIVE, given.sessions), appends=min(ACTIVE * 500, given.appends))
        idle.merge(alone(small, write, given.writers, given.idle_seconds))
        compare(loaded, idle)
        if given.json:
            given.json.write_text(json.dumps([vars(one) for one in looks], indent=1))
        events = sum(written.values())
        rate = events / looks[-1].seconds
        print(f"\n{events:,} events of {len(written):,} sessions in {looks[-1].seconds:.0f} s, {rate:,.0f} a second")
    for one in problems[:20]:
        print(f"failed: {one}", file=sys.stderr)
    return 1 if problems else 0


if __name__ == "__main__":
    sys.exit(main())
