"""Object storage: requests and milliseconds of everyday operations, on SeaweedFS, compared with a plain conditional PUT.

`python tools/bench/objects.py` prints a table. Requests are counted by a server of HTTP in front, in a run of its own, since it
costs time.
"""

import sys
import time
from collections import Counter
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

sys.path[:0] = [str(Path(__file__).parents[2]), str(Path(__file__).parents[1])]

import obstore  # noqa: E402 - run as a file, from anywhere
from breaking.object_front import Forward, Front  # noqa: E402
from breaking.object_server import BUCKET, SeaweedServer, environment  # noqa: E402
from obstore.store import S3Store  # noqa: E402

from eventstore import EventLog  # noqa: E402
from eventstore import events as e  # noqa: E402
from eventstore.backends.objectstore.address import open_objects  # noqa: E402

_TEXT = "x" * 110  # lines of about 300 bytes
Work = Callable[[EventLog], int]
"""Something to measure, on a log that has the session `s`; it returns how many times it did it."""


def said() -> e.Event:
    """Make a message."""
    return e.MessageAdded(role="user", content=_TEXT)


def _one_caller(log: EventLog) -> int:
    for _ in range(400):
        log.append("s", [said()])
    return 400


def _callers(log: EventLog) -> int:
    with ThreadPoolExecutor(64) as pool:
        list(pool.map(lambda _: log.append("s", [said()]), range(1280)))
    return 1280


def _sessions(log: EventLog) -> int:
    with ThreadPoolExecutor(64) as pool:
        list(pool.map(lambda n: log.append(f"n{n % 64}", [said()], expected_version=0 if n < 64 else None), range(640)))
    return 640


def _batches(log: EventLog) -> int:
    for _ in range(20):
        log.append("s", [said() for _ in range(500)])
    return 10_000


def _read(log: EventLog) -> int:
    return sum(1 for _ in log.read("s"))


def _look(log: EventLog) -> int:
    token = log.changed().token
    for _ in range(20):
        assert not log.changed(token).logs
    return 21


WORKLOADS: dict[str, Work] = {
    "append, one caller": _one_caller,
    "append, 64 callers on one session": _callers,
    "append, 64 callers on 64 sessions": _sessions,
    "append batches of 500, an event": _batches,
    "open and read, an event": _read,
    "look at what changed": _look,
}


def main() -> None:
    """Run all, and print a table."""
    environment()
    server = SeaweedServer()
    front = Front(Forward(server.port))
    try:
        print("| what | milliseconds | requests |\n|---|---|---|")
        print(f"| a bare conditional PUT of 300 bytes | {_bare(server.endpoint):.2f} | PUT 1 |")
        for name, work in WORKLOADS.items():
            taken, _ = _run(server.url(f"time-{abs(hash(name))}"), work, Counter)
            _, counts = _run(front.url(f"count-{abs(hash(name))}"), work, front.counts, front.forget)
            print(
                f"| {name} | {taken:.3f} | {', '.join(f'{kind} {share:.3f}' for kind, share in sorted(counts.items()))} |"
            )
    finally:
        front.close()
        server.stop()


def _bare(endpoint: str) -> float:
    store = S3Store(BUCKET, endpoint=endpoint, region="us-east-1", client_options={"allow_http": True})
    made = obstore.put(store, "bare", b"x" * 300)
    began = time.perf_counter()
    for number in range(400):
        made = obstore.put(store, "bare", b"%300d" % number, mode={"e_tag": made["e_tag"]})
    return (time.perf_counter() - began) / 400 * 1000


def _run(
    url: str, work: Work, counts: Callable[[], "Counter[str]"], forget: Callable[[], None] = lambda: None
) -> tuple[float, dict[str, float]]:
    """Run on a store of its own; return milliseconds and requests for each time it was done."""
    log = EventLog(open_objects(url))
    log.append("s", [e.SessionCreated()], expected_version=0)
    if work is _read:
        log.append("s", [said() for _ in range(3000)])
        log = EventLog(open_objects(url))
    if work is _look:
        for number in range(300):
            log.append(f"s{number}", [e.SessionCreated()], expected_version=0)
    forget()
    began = time.perf_counter()
    times = work(log)
    taken = (time.perf_counter() - began) * 1000
    return taken / times, {kind: count / times for kind, count in counts().items()}


if __name__ == "__main__":
    main()
