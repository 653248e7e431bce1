"""The workloads: what every store is given to do, and what only ours has."""

import asyncio
import multiprocessing
import os
import shutil
import statistics
import subprocess
import sys
import tempfile
import threading
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import replace
from functools import partial
from itertools import cycle, islice
from pathlib import Path

from bench.adapters import (
    DISK,
    MEMORY,
    OURS,
    PAGE_CACHE,
    PLAIN,
    TEXT,
    Limit,
    Maker,
    OurCalls,
    OursByLog,
    OursByManager,
    SharedFlush,
    Store,
    Wal,
    bare_decode,
)
from bench.measure import ROUNDS, Row, Task, measure
from bench.peers import OnLoop, OpenAiAgents
from eventstore import FileSystemEventLog, FileSystemSessionStorage, SessionManager
from eventstore import events as e
from eventstore.ids import Fsync
from projections import metadata, session, summary

_TARGETS = {
    "eventstore log, fsync=no": ("limit: os.write", "0.22"),
    "eventstore manager, fsync=no": ("limit: os.write", "0.15"),
    "eventstore manager, fsync=always": ("limit: os.write + fdatasync", "0.85"),
}


@contextmanager
def scratch() -> Iterator[Path]:
    """Yield a folder on the disk of this checkout, which must not be a memory file system."""
    folder = Path(tempfile.mkdtemp(prefix="eventstore-bench-", dir=os.environ.get("BENCH_FOLDER")))
    try:
        yield folder
    finally:
        shutil.rmtree(folder, ignore_errors=True)


@contextmanager
def opened(makers: Sequence[Maker], sessions: int = 1) -> Iterator[list[Store]]:
    """Make stores, each in a folder of its own."""
    with scratch() as folder:
        stores = []
        for place, maker in enumerate(makers):
            store = maker()
            own = folder / str(place)
            own.mkdir()
            store.open(own, sessions)
            stores.append(store)
        try:
            yield stores
        finally:
            for store in stores:
                store.close()


def _reference(store: Store) -> str:
    """Name what a store is compared with: the limit at its durability, or the page cache's where it promises less."""
    return "limit: os.write + fdatasync" if store.durability == DISK else "limit: os.write"


def repeat(work: Callable[[], object]) -> Callable[[int], None]:
    """Make work that is done so many times of work that is done once."""

    def repeated(count: int) -> None:
        for _ in range(count):
            work()

    return repeated


def _appending(store: Store) -> Callable[[int], None]:
    append = store.append

    def work(count: int) -> None:
        for _ in range(count):
            append(0, TEXT)

    return work


def append(makers: Sequence[Maker]) -> list[Row]:
    """One message at a time to one session."""
    calls = [partial(OurCalls, flushed=flushed) for flushed in (False, True)]
    with opened([*makers, *calls]) as stores:
        tasks = {
            store.name: Task(
                store.name,
                store.durability,
                _appending(store),
                "" if store.is_reference else _reference(store),
                _TARGETS.get(store.name, ("", ""))[1],
                most=100_000 // ROUNDS,
            )
            for store in stores
        }
        rows = measure("append, one session", tasks)
    ours = {row.who: row.median_us for row in rows if row.who.startswith("eventstore manager")}
    for row in rows:
        if not row.who.startswith(("eventstore", "limit", "the system calls")):
            mine = ours[
                "eventstore manager, fsync=always" if row.durability == DISK else "eventstore manager, fsync=no"
            ]
            most = ours["eventstore manager, fsync=no"]
            row.note = (
                f"ours as durable: {row.median_us / mine:.1f}x as fast; our fsync=no: {row.median_us / most:.0f}x"
            )
    return rows


def round_robin(makers: Sequence[Maker]) -> list[Row]:
    """One message at a time to each of 1,000 sessions in turn, against one session of the same store."""
    rows: list[Row] = []
    with opened(makers, 1000) as stores:
        tasks: dict[str, Task] = {}
        for store in stores:
            turns = cycle(range(1000))

            def work(count: int, store: Store = store, turns: Iterator[int] = turns) -> None:
                for place in islice(turns, count):
                    store.append(place, TEXT)

            tasks[store.name + " alone"] = Task(store.name, store.durability, _appending(store), most=5000, each=False)
            target = "0.6" if store.name.startswith("eventstore") else ""
            tasks[store.name] = Task(store.name, store.durability, work, store.name + " alone", target, most=5000)
            work(1000)
        found = measure("append, 1,000 sessions in turn", tasks)
    for row in found:
        if row.reference:
            row.reference = "itself, one session"
            rows.append(row)
    return rows


def batches(makers: Sequence[Maker]) -> list[Row]:
    """Batches of 100 messages; times are those of one message."""
    texts = [TEXT] * 100
    chosen = [maker for maker in makers if isinstance(maker(), Limit | OursByLog | Wal)]
    with opened(chosen) as stores:
        tasks = {}
        for store in stores:
            work = repeat(lambda store=store: store.append_batch(0, texts))  # type: ignore[misc]
            target = "1.2" if store.name == "eventstore log, fsync=no" else ""
            reference = "limit, one at a time" if not store.is_reference else ""
            tasks[store.name] = Task(store.name, store.durability, work, reference, target, most=500, per_call=100)
        limit = next(store for store in stores if store.is_reference and store.durability == PAGE_CACHE)
        tasks["limit, one at a time"] = Task("limit: os.write, one at a time", PAGE_CACHE, _appending(limit))
        return measure("append, batches of 100", tasks)


def growth(makers: Sequence[Maker]) -> list[Row]:
    """What one append costs when the session has so many messages; slow stores stop where a step takes over 20 seconds."""
    rows = []
    with opened([maker for maker in makers if not maker().is_reference]) as stores:
        for store in stores:
            length, costs = 0, {}
            for wanted in (100, 1_000, 10_000, 100_000):
                began = time.perf_counter()
                while length < wanted and time.perf_counter() - began < 20:
                    store.append(0, TEXT)
                    length += 1
                if length < wanted:
                    break
                window = []
                for _ in range(5):
                    began = time.perf_counter()
                    for _ in range(100):
                        store.append(0, TEXT)
                    window.append((time.perf_counter() - began) * 1e4)
                    length += 100
                costs[wanted] = statistics.median(window)
            first, last = costs[100], costs[max(costs)]
            flat = f"{last / first:.2f}x from 100 to {max(costs):,}"
            target = "1.2x" if store.name.startswith("eventstore") else ""
            rows.append(
                Row(
                    "growth with length",
                    store.name,
                    store.durability,
                    last,
                    target=target,
                    note=flat,
                    extra={str(k): v for k, v in costs.items()},
                )
            )
    return rows


def read(makers: Sequence[Maker]) -> list[Row]:
    """All messages of a session of 10,000 as the store's own objects; times are those of one message."""
    count = 10_000
    chosen = [maker for maker in makers if not maker().is_reference]
    with opened(chosen) as stores:
        readable = []
        for store in stores:
            began = time.perf_counter()
            for _ in range(count):
                store.append(0, TEXT)
                if time.perf_counter() - began > 40:
                    break
            found = store.read(0)
            readable.append((store, found))
        tasks = {}
        for store, found in readable:
            work = repeat(lambda store=store: store.read(0))  # type: ignore[misc]
            tasks[store.name] = Task(
                store.name, store.durability, work, "eventstore log, fsync=no", per_call=found, each=False
            )
        return _against_ours(measure("read back", tasks, rounds=5))


@contextmanager
def long_session(count: int = 200_000) -> Iterator[Path]:
    """Yield a sessions folder with one long session, appended one message at a time."""
    with scratch() as folder:
        with FileSystemEventLog(folder / ".sessions", fsync="no") as log:
            log.append("s", [e.SessionCreated()], expected_version=0)
            message = [e.MessageAdded(role="user", content=TEXT)]
            for _ in range(count):
                log.append("s", message)
        yield folder


def folds(makers: Sequence[Maker]) -> list[Row]:
    """Reading and folding a session of 200,000 messages; times are those of one event, ratios against a bare decode."""
    count = 200_001
    with long_session(count - 1) as folder, FileSystemEventLog(folder / ".sessions", fsync="no") as log:
        path = folder / ".sessions" / "s" / "events.jsonl"
        log.head("s")

        def drain() -> None:
            for _ in log.read("s"):
                pass

        works: dict[str, tuple[Callable[[], object], str]] = {
            "bare msgspec decode": (lambda: bare_decode(path), ""),
            "stream as typed events": (drain, "0.7"),
            "fold to statistics": (lambda: summary.projection.fold(log.skim("s")), "0.9"),
            "fold to metadata": (lambda: metadata.projection.fold(log.skim("s")), "1.3"),
            "load a full Session": (lambda: session.projection.fold(log.skim("s")).to_model("s"), "0.45"),
        }
        tasks = {
            name: Task(
                name, "", repeat(work), "bare msgspec decode" if target else "", target, per_call=count, each=False
            )
            for name, (work, target) in works.items()
        }
        rows = measure("read and fold", tasks)
        opening = []
        for _ in range(3):
            with FileSystemEventLog(folder / ".sessions") as fresh:
                began = time.perf_counter()
                fresh.head("s")
                opening.append((time.perf_counter() - began) * 1e6 / count)
        rows.append(
            Row("read and fold", "first look: every hash verified", "", statistics.median(opening), count=count)
        )
    return rows


def seek(makers: Sequence[Maker]) -> list[Row]:
    """The end of a session of 1,000,000 messages, and any of its events; times are those of one question."""
    with long_session(1_000_000) as folder, FileSystemEventLog(folder / ".sessions", fsync="no") as log:
        version = log.head("s").version
        places = cycle(range(1, version, 7919))

        def any_event() -> None:
            seq = next(places)
            (event,) = log.read("s", seq - 1, seq)
            assert event.seq == seq

        tasks = {
            "the last 50 messages": Task(
                "the last 50 messages", "", repeat(lambda: list(log.read("s", version - 50))), target="300 us"
            ),
            "any event by its seq": Task("any event by its seq", "", repeat(any_event), target="300 us"),
            "head": Task("version, hash, size", "", repeat(lambda: log.head("s"))),
        }
        return measure("1,000,000 messages", tasks)


def writers(makers: Sequence[Maker]) -> list[Row]:
    """Many writers: threads, tasks and processes, on one session and on many; times are those of one message."""
    rows = []
    limit = "limit: os.write + fdatasync"
    levels: tuple[tuple[Fsync, str], ...] = (("always", limit), ("no", "limit: os.write"))
    for fsync, reference in levels:
        chosen: list[Maker] = [
            partial(OursByManager, fsync),
            partial(Limit, flushed=True),
            partial(Limit, flushed=False),
            SharedFlush,
        ]
        with opened(chosen, 64) as (ours, flushed, plain, shared):
            tasks = {
                flushed.name: Task(flushed.name, DISK, _appending(flushed), most=500),
                plain.name: Task(plain.name, PAGE_CACHE, _appending(plain)),
            }
            for count, many in ((16, False), (16, True)):
                where = "16 sessions" if many else "one session"
                target = "4" if fsync == "always" and not many else ""
                tasks[f"threads {many}"] = Task(
                    f"{count} threads, {where}",
                    ours.durability,
                    _threads(ours, count, many=many),
                    reference,
                    target,
                    per_call=count * 50,
                    each=False,
                )
            for count in (1, 16, 64, 256):
                target = {16: "7", 64: "18", 256: "35"}.get(count, "") if fsync == "always" else ""
                tasks[f"tasks {count}"] = Task(
                    f"{count} asyncio callers, one session",
                    ours.durability,
                    _tasks(ours, count),
                    reference,
                    target,
                    per_call=count * max(1024 // count, 4),
                    each=False,
                )
                if fsync == "always":
                    who = f"{count} asyncio callers, a bare write and flush"
                    work, times = _tasks(shared, count), count * max(1024 // count, 4)
                    tasks[who] = Task(who, DISK, work, reference, per_call=times, each=False)
            tasks["tasks many"] = Task(
                "64 asyncio callers, 64 sessions",
                ours.durability,
                _tasks(ours, 64, many=True),
                reference,
                per_call=64 * 16,
                each=False,
            )
            rows += measure(f"writers, fsync={fsync}", tasks, rounds=5)
        rows += _processes(fsync)
    rows += _peer_tasks(makers)
    return rows


def _threads(store: Store, count: int, *, many: bool, each: int = 50) -> Callable[[int], None]:
    def work(times: int) -> None:
        def one(place: int) -> None:
            for _ in range(times * each):
                store.append(place if many else 0, TEXT)

        threads = [threading.Thread(target=one, args=(place,)) for place in range(count)]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()

    return work


def _tasks(store: Store, count: int, *, many: bool = False) -> Callable[[int], None]:
    each = max(1024 // count, 4)

    async def main(times: int) -> None:
        async def one(place: int) -> None:
            for _ in range(times * each):
                await store.append_async(place if many else 0, TEXT)

        await asyncio.gather(*(one(place) for place in range(count)))

    loop = getattr(store, "_loop", None)

    def work(times: int) -> None:
        if loop is not None:
            loop.run_until_complete(main(times))
        else:
            asyncio.run(main(times))

    return work


def _peer_tasks(makers: Sequence[Maker]) -> list[Row]:
    """Compare with the peers that have coroutines: 64 callers, on one session and with a session each."""
    peers = [maker for maker in makers if isinstance(maker(), OnLoop)]
    rows = []
    for many in (False, True):
        chosen = [maker for maker in peers if many or isinstance(maker(), OpenAiAgents)]
        with opened([*chosen, lambda: OursByManager("always")], 64) as stores:
            tasks = {}
            for store in stores:
                work = _tasks(store, 64, many=many)
                ours = "eventstore manager, fsync=always"
                tasks[store.name] = Task(store.name, store.durability, work, ours, per_call=64 * 16, each=False)
            where = "64 sessions" if many else "one session"
            rows += measure(f"64 asyncio callers, {where}", tasks, rounds=3)
    return _against_ours(rows)


def _against_ours(rows: Sequence[Row]) -> list[Row]:
    """Return how many times faster eventstore is than each of the others."""
    for row in rows:
        if row.ratio and row.who != row.reference:
            row.note = f"ours: {1 / row.ratio:.1f}x as fast"
        row.ratio, row.reference = None, ""
    return list(rows)


def _append_in_process(
    folder: Path, fsync: Fsync, place: int, count: int, gate: "multiprocessing.synchronize.Barrier"
) -> None:
    with FileSystemEventLog(folder, fsync=fsync) as log:
        message = [e.MessageAdded(role="user", content=TEXT)]
        gate.wait()
        for _ in range(count):
            log.append(f"s{place}", message)


def _processes(fsync: Fsync) -> list[Row]:
    rows = []
    context = multiprocessing.get_context("spawn")
    for many in (False, True):
        with scratch() as folder:
            with FileSystemEventLog(folder, fsync="no") as log:
                for place in range(4):
                    log.append(f"s{place}", [e.SessionCreated()], expected_version=0)
            count = 2_000 if fsync == "always" else 20_000
            gate = context.Barrier(5)
            work = [
                context.Process(target=_append_in_process, args=(folder, fsync, place if many else 0, count, gate))
                for place in range(4)
            ]
            for process in work:
                process.start()
            gate.wait()
            began = time.perf_counter()
            for process in work:
                process.join()
            took = (time.perf_counter() - began) / (4 * count) * 1e6
            where = "4 sessions" if many else "one session"
            rows.append(
                Row(
                    f"writers, fsync={fsync}",
                    f"4 processes, {where}",
                    DISK if fsync == "always" else PAGE_CACHE,
                    took,
                    count=4 * count,
                )
            )
    return rows


def size(makers: Sequence[Maker]) -> list[Row]:
    """Bytes on disk a message, after 2,000 messages of one session."""
    rows = []
    for maker in makers:
        store = maker()
        if store.durability == MEMORY or store.is_reference:
            continue
        with scratch() as folder:
            store.open(folder, 1)
            for _ in range(2000):
                store.append(0, TEXT)
            store.close()
            total = sum(path.stat().st_size for path in folder.rglob("*") if path.is_file())
            log = sum(path.stat().st_size for path in folder.rglob("events.jsonl") if path.parent.name == "s0")
            note = f"{total / 2000:.0f} bytes a message on disk" + (
                f", {log / 2000:.0f} of them the log" if log else ""
            )
            rows.append(Row("size", store.name, store.durability, 0.0, note=note))
    return rows


def start(makers: Sequence[Maker]) -> list[Row]:
    """Starting programs, against Python that does nothing."""
    with scratch() as folder:
        SessionManager(FileSystemSessionStorage(folder / ".sessions", folder / ".history")).create_session("s")
        environment = {name: value for name, value in os.environ.items() if name != "PYTHONDONTWRITEBYTECODE"}
        environment["PYTHONPATH"] = str(Path(__file__).parents[2])

        def program(*arguments: str) -> Callable[[int], None]:
            def work(count: int) -> None:
                for _ in range(count):
                    subprocess.run(
                        [sys.executable, *arguments], check=True, stdout=subprocess.DEVNULL, cwd=folder, env=environment
                    )

            return work

        tasks = {
            "bare": Task("python -c pass", "", program("-c", "pass"), each=False),
            "import": Task(
                "import eventstore", "", program("-c", "import eventstore"), "bare", "30 ms over bare", each=False
            ),
            "help": Task("eventstore --help", "", program("-m", "eventstore", "--help"), "bare", "3.5x", each=False),
            "list": Task("eventstore list", "", program("-m", "eventstore", "list"), "bare", "4.5x", each=False),
        }
        rows = measure("start", {name: replace(task, most=8) for name, task in tasks.items()})
    bare = rows[0].median_us
    for row in rows[1:]:
        row.note = f"{row.median_us / bare:.1f}x bare, {(row.median_us - bare) / 1000:.0f} ms more"
        row.ratio, row.reference = None, ""
    return rows


WORKLOADS: dict[str, Callable[[Sequence[Maker]], list[Row]]] = {
    "append": append,
    "round-robin": round_robin,
    "batches": batches,
    "growth": growth,
    "writers": writers,
    "read": read,
    "folds": folds,
    "seek": seek,
    "size": size,
    "start": start,
}
PLAIN_AND_OURS: tuple[Maker, ...] = (*PLAIN, *OURS)
