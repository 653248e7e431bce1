"""Following: how long after an append another process has the event, and what it costs to wait. Only ours has it."""

import json
import os
import random
import statistics
import subprocess
import sys
import time
from collections.abc import Callable, Sequence
from pathlib import Path

from bench.adapters import TEXT, Maker
from bench.measure import Row
from bench.workloads import scratch
from eventstore import FileSystemEventLog
from eventstore import events as e

_APPENDS, _IDLE_SECONDS = 400, 10.0
_FOLLOWER = """
import json, sys, time
from eventstore import FileSystemSessionStorage, SessionManager
folder, name, after = sys.argv[1], sys.argv[2] or None, int(sys.argv[3])
manager = SessionManager(FileSystemSessionStorage(folder + "/.sessions", folder + "/.history", fsync="no"))
began, left, found = time.perf_counter(), after, []
with manager.follow(name) as follower:
    for one in follower:
        now = time.monotonic_ns()
        if left:
            left -= 1
            if not left:
                print(time.perf_counter() - began, flush=True)
            continue
        found.append([one.event.seq, now])
        if one.event.type == "session.completed":
            break
print(json.dumps(found))
"""


def following(makers: Sequence[Maker]) -> list[Row]:
    """From append's return to delivery in another process, 10 to 30 ms apart, of one session and of all; then waiting."""
    return [row for count in (10, 10_000) for row in _with(count)]


def _with(count: int) -> list[Row]:
    rows = []
    with scratch() as folder, FileSystemEventLog(folder / ".sessions", fsync="no") as log:
        for place in range(count):
            log.append(f"s{place:05}", [e.SessionCreated()], expected_version=0)
        for place, name in enumerate(("s00000", "")):
            what = f"{'one' if name else 'all'} of {count:,} sessions"
            before = log.head("s00000").version if name else sum(log.head(one).version for one in log.ids())
            rows += _follow(log, folder, name or "s00001", name, before, what, place)
    return rows


def _follow(
    log: FileSystemEventLog, folder: Path, written: str, followed: str, before: int, what: str, seed: int
) -> list[Row]:
    """Append to a session, and measure a follower of it, or of all."""
    draw = random.Random(seed)
    command = [sys.executable, "-c", _FOLLOWER, str(folder), followed, str(before)]
    environment = {**os.environ, "PYTHONPATH": str(Path(__file__).parents[2])}
    with subprocess.Popen(command, env=environment, stdout=subprocess.PIPE, text=True) as child:
        assert child.stdout is not None
        caught_up = float(child.stdout.readline())
        time.sleep(2.5)  # until the system tells of changes
        share = _share_of(child.pid)
        returned = {}
        for _ in range(_APPENDS):
            seq = log.append(written, [e.MessageAdded(role="user", content=TEXT)]).last
            returned[seq] = time.monotonic_ns()
            time.sleep(draw.uniform(0.01, 0.03))
        log.append(written, [e.SessionCompleted(status="completed")])
        delivered = dict(json.loads(child.stdout.read()))
    late = sorted((delivered[seq] - at) / 1000 for seq, at in returned.items())
    note = f"waiting takes {share:.1%} of a core; caught up in {caught_up:.2g} s"
    return [
        Row(
            "follow",
            what,
            "",
            statistics.median(late),
            late[int(len(late) * 0.99)],
            len(late),
            target="4 ms, 99 %: 12 ms, 5 % of a core",
            note=note,
        )
    ]


def _share_of(child: int) -> float:
    """Measure which share of a core a process takes."""
    before, began = _seconds_of(child), time.monotonic()
    time.sleep(_IDLE_SECONDS)
    return (_seconds_of(child) - before) / (time.monotonic() - began)


def _seconds_of(child: int) -> float:
    fields = Path(f"/proc/{child}/stat").read_text("ascii").rpartition(")")[2].split()
    return (int(fields[11]) + int(fields[12])) / os.sysconf("SC_CLK_TCK")


FOLLOWING: dict[str, Callable[[Sequence[Maker]], list[Row]]] = {"follow": following}
