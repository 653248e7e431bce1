"""Workloads on complete stores: lists, forks, search, rebuilding. Only eventstore has them."""

import os
import random
import statistics
import subprocess
import sys
import time
from collections.abc import Callable, Sequence
from pathlib import Path

from bench.adapters import DISK, TEXT, Maker, bare_decode
from bench.measure import Row, Task, measure
from bench.workloads import long_session, repeat, scratch
from eventstore import FileSystemEventLog, FileSystemSessionStorage, SessionManager
from eventstore import events as e
from eventstore.derived.catalog import Catalog
from eventstore.derived.listing import Filter
from eventstore.derived.snapshots import NAME
from eventstore.store.rebuild import check_all, rebuild_all


def listing(makers: Sequence[Maker]) -> list[Row]:
    """Lists of 50 with filters, of 1,000, 10,000 and 100,000 sessions: first, warm, fresh, in a shell."""
    return [row for count in (1_000, 10_000, 100_000) for row in _list_of(count)]


def _list_of(count: int) -> list[Row]:
    with scratch() as folder:
        places = folder / ".sessions", folder / ".history"
        with FileSystemEventLog(places[0], fsync="no") as log:
            for place in range(count):
                created = e.SessionCreated(
                    purpose=f"purpose {place}", user_id=f"u{place % 100}", tags=(f"t{place % 50}",)
                )
                said = e.MessageAdded(role="user", content=TEXT)
                log.append(f"s{place:06}", [created, said], expected_version=0)

        def opened_anew() -> SessionManager:
            return SessionManager(FileSystemSessionStorage(*places, fsync="no"))

        def fresh() -> None:
            with opened_anew() as other:
                other.page_sessions("u5", "active", limit=50)

        def shell(times: int) -> None:
            environment = {**os.environ, "PYTHONPATH": str(Path(__file__).parents[2])}
            environment.pop("PYTHONDONTWRITEBYTECODE", None)
            command = [sys.executable, "-m", "eventstore", "list", "--user", "u5", "--limit", "50"]
            for _ in range(times):
                subprocess.run(command, check=True, stdout=subprocess.DEVNULL, cwd=folder, env=environment)

        with opened_anew() as manager, opened_anew() as other:
            began = time.perf_counter()
            manager.page_sessions(limit=50)
            first = (time.perf_counter() - began) * 1e6

            def after_an_append() -> None:
                other.update_session_metadata("s000005", purpose="new")
                assert manager.page_sessions(limit=1).sessions[0].session_id == "s000005"

            catalog, wanted = manager.storage.catalog, Filter("u5", "active", limit=50)
            assert isinstance(catalog, Catalog)
            tasks = {
                "warm": Task(
                    "50 of a user and status",
                    "",
                    repeat(lambda: manager.page_sessions("u5", "active", limit=50)),
                    target="2 ms",
                ),
                "sql": Task(
                    "the same, the query alone", "", repeat(lambda: catalog.find(wanted)), target="0.1 ms of SQL"
                ),
                "tag": Task("50 with a tag", "", repeat(lambda: manager.page_sessions(tags=["t7"], limit=50))),
                "append": Task(
                    "an append elsewhere, and the list that shows it", "", repeat(after_an_append), each=False
                ),
                "fresh": Task("a fresh object", "", repeat(fresh), each=False),
                "shell": Task("eventstore list --user", "", shell, target="50 ms", most=8, each=False),
            }
            rows = measure(f"list, {count:,} sessions", tasks, rounds=5)
        return [Row(f"list, {count:,} sessions", "the first: catalogue made", "", first), *rows]


_QUESTION = """
import sys, time
from eventstore import FileSystemSessionStorage, SessionManager
storage = FileSystemSessionStorage(*sys.argv[1:3], fsync="no")
manager = SessionManager(storage)
began = time.perf_counter()
manager.get_session_statistics("s")
print((time.perf_counter() - began) * 1e6)
"""


def opening(makers: Sequence[Maker]) -> list[Row]:
    """The first question for the statistics of a session of 1,000,000 events: with its snapshot, with a tail, without."""
    with long_session(1_000_000) as folder:
        places = folder / ".sessions", folder / ".history"
        snapshot = places[0] / "s" / NAME

        def ask() -> None:
            FileSystemSessionStorage(*places, fsync="no").statistics("s")

        with FileSystemSessionStorage(*places, fsync="no") as storage:
            storage.rebuild_session("s")
        size = snapshot.stat().st_size
        rows = _asked("its snapshot at the end", ask, places, 200, target="1 ms")
        rows[0].note = f"{size:,} bytes"
        with FileSystemEventLog(places[0], fsync="no") as log:
            for place in range(250):
                log.append("s", [e.MessageAdded(role="user", content=TEXT)])
                log.append("s", [e.InvocationLinked(invocation_id=f"i{place}", tool_name="grep", duration_ms=1.5)])
                log.append("s", [e.UsageRecorded(tokens={"input": 7}, cost=0.01, key=f"k{place}")])
                log.append("s", [e.MessageAdded(role="assistant", content=TEXT)])
        rows += _asked("its snapshot 1,000 events back", ask, places, 50, target="5 ms")
        snapshot.unlink()
        return rows + _asked("no snapshot: every hash verified", ask, places, 3)


def _asked(who: str, ask: Callable[[], None], places: tuple[Path, Path], count: int, target: str = "") -> list[Row]:
    """Time a question by a fresh object, and by fresh processes (imports left out)."""
    environment = {**os.environ, "PYTHONPATH": str(Path(__file__).parents[2])}
    command = [sys.executable, "-c", _QUESTION, *map(str, places)]
    anew = [_timed(ask) * 1e6 for _ in range(count)]
    processes = [
        float(subprocess.run(command, check=True, capture_output=True, env=environment).stdout)
        for _ in range(min(count, 15))
    ]
    workload = "statistics of 1,000,000 events"
    return [
        Row(workload, f"{who}; {how}", "", statistics.median(times), count=len(times), target=target)
        for how, times in (("a fresh object", anew), ("a fresh process", processes))
    ]


def branching(makers: Sequence[Maker]) -> list[Row]:
    """A fork of a session of 1,000,000 events, from its end and its middle, and what it takes on disk."""
    with (
        long_session(1_000_000) as folder,
        SessionManager(FileSystemSessionStorage(folder / ".sessions", folder / ".history")) as manager,
    ):
        manager.head("s")
        tasks = {
            "end": Task(
                "fork 1,000,000 events",
                DISK,
                repeat(lambda: manager.fork_session("s")),
                target="5 ms",
                most=50,
                each=False,
            ),
            "middle": Task(
                "fork the first half",
                DISK,
                repeat(lambda: manager.fork_session("s", 500_000)),
                target="5 ms",
                most=50,
                each=False,
            ),
        }
        rows = measure("fork", tasks, rounds=5)
        fork = manager.fork_session("s")
        size = (folder / ".sessions" / fork / "events.jsonl").stat().st_size
        rows[0].note = f"{size} bytes on disk"
        return rows


def searching(makers: Sequence[Maker]) -> list[Row]:
    """Full-text search over 1,000,000 messages of 15 words, some common and some rare."""
    words, draw = [f"w{place}" for place in range(20_000)], random.Random(1)

    def text() -> str:
        return " ".join(words[min(int(draw.expovariate(1 / 3000)), len(words) - 1)] for _ in range(15))

    with scratch() as folder:
        places = folder / ".sessions", folder / ".history"
        with FileSystemEventLog(places[0], fsync="no") as log:
            for place in range(100):
                log.append(f"s{place}", [e.SessionCreated()], expected_version=0)
                for _ in range(20):
                    log.append(f"s{place}", [e.MessageAdded(role="user", content=text()) for _ in range(500)])
        with SessionManager(FileSystemSessionStorage(*places, fsync="no")) as manager:
            began = time.perf_counter()
            manager.search("w5", wait_s=None)
            first = Row("search", "the first: 1,000,000 messages indexed", "", (time.perf_counter() - began) * 1e6)
            asked = {
                "a common word": "w5",
                "a rare word": "w15000",
                "two words": "w5 w6",
                "two in a row": '"w5 w6"',
                "a beginning": "w1*",
            }
            tasks = {
                name: Task(name, "", repeat(lambda query=query: manager.search(query)), target="20 ms", each=False)  # type: ignore[misc]
                for name, query in asked.items()
            }
            return [first, *measure("search", tasks, rounds=5)]


def rebuilding(makers: Sequence[Maker]) -> list[Row]:
    """Every view of 400 sessions of 2,500 messages, rebuilt and compared; times are those of one event, on all cores."""
    with scratch() as folder:
        places = folder / ".sessions", folder / ".history"
        with FileSystemEventLog(places[0], fsync="no") as log:
            for place in range(400):
                log.append(f"s{place}", [e.SessionCreated()], expected_version=0)
                for _ in range(5):
                    log.append(f"s{place}", [e.MessageAdded(role="user", content=TEXT)] * 500)
        with FileSystemSessionStorage(*places, fsync="no") as storage:
            count = 400 * 2501
            rows = []
            for name, work in (("rebuild", rebuild_all), ("rebuild --check", check_all)):
                for jobs in (1, os.cpu_count() or 1):
                    began = time.perf_counter()
                    assert not [one for one in work(storage, jobs) if one.damage or one.difference]
                    took = (time.perf_counter() - began) * 1e6 / count
                    rows.append(Row("rebuild", f"{name}, {jobs} processes", "", took, count=count))
            path = places[0] / "s0" / "events.jsonl"
            decode = min(_timed(lambda: bare_decode(path)) for _ in range(20)) * 1e6 / 2501
            for row in rows:
                row.note, row.target = f"{decode / row.median_us:.2f} of decoding alone on one core", "0.4 a core"
            return rows


def _timed(work: Callable[[], object]) -> float:
    began = time.perf_counter()
    work()
    return time.perf_counter() - began


STORES: dict[str, Callable[[Sequence[Maker]], list[Row]]] = {
    "list": listing,
    "fork": branching,
    "opening": opening,
    "search": searching,
    "rebuild": rebuilding,
}
