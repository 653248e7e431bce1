"""Measuring: rounds in turns, medians, 99th percentiles, ratios within the run."""

import gc
import statistics
import time
from collections.abc import Callable, Mapping
from dataclasses import asdict, dataclass, field
from typing import Any

ROUNDS = 7
SLICE_SECONDS = 0.15
TAIL_SECONDS = 1.0


@dataclass
class Row:
    """One figure: what was done by whom, at which durability, how long one took (microseconds), against what.

    `ratio` is how many times faster than the reference of the run, of the same round: the median over rounds.
    """

    workload: str
    who: str
    durability: str
    median_us: float
    p99_us: float | None = None
    count: int = 0
    reference: str = ""
    ratio: float | None = None
    target: str = ""
    note: str = ""
    extra: dict[str, Any] = field(default_factory=dict)

    def to_dict(self) -> dict[str, Any]:
        """Return the row as JSON values."""
        return {name: value for name, value in asdict(self).items() if value not in (None, "", {})}


@dataclass
class Task:
    """Something to be timed: `work(n)` does it n times. `most` is how often it may be done in one round."""

    who: str
    durability: str
    work: Callable[[int], object]
    reference: str = ""
    target: str = ""
    most: int = 20_000
    per_call: int = 1
    each: bool = True


def measure(workload: str, tasks: Mapping[str, Task], *, rounds: int = ROUNDS) -> list[Row]:
    """Time tasks in turns, several rounds; each is compared with its reference in the same round."""
    counts = {name: _calibrate(task) for name, task in tasks.items()}
    times: dict[str, list[float]] = {name: [] for name in tasks}
    for _ in range(rounds):
        for name, task in tasks.items():
            gc.collect()
            began = time.perf_counter()
            task.work(counts[name])
            times[name].append((time.perf_counter() - began) / counts[name] / task.per_call * 1e6)
    rows = []
    for name, task in tasks.items():
        ratio = None
        if task.reference in times:
            pairs = zip(times[task.reference], times[name], strict=True)
            ratio = statistics.median(reference / mine for reference, mine in pairs)
        rows.append(
            Row(
                workload,
                task.who,
                task.durability,
                statistics.median(times[name]),
                _tail(task, counts[name]) if task.each else None,
                counts[name] * rounds * task.per_call,
                tasks[task.reference].who if task.reference in tasks else "",
                ratio,
                task.target,
            )
        )
    return rows


def _calibrate(task: Task) -> int:
    """Find how often the work fits a slice of a round."""
    began = time.perf_counter()
    task.work(1)
    first = time.perf_counter() - began
    if first > SLICE_SECONDS:
        return 1
    few = max(min(int(0.02 / max(first, 1e-7)), task.most), 1)
    began = time.perf_counter()
    task.work(few)
    each = (time.perf_counter() - began) / few
    return max(min(int(SLICE_SECONDS / max(each, 1e-7)), task.most), 1)


def _tail(task: Task, count: int) -> float | None:
    """Time calls one by one for their 99th percentile; None if there are too few to have one."""
    found: list[int] = []
    until = time.perf_counter() + TAIL_SECONDS
    while len(found) < min(count, 3000) and time.perf_counter() < until:
        began = time.perf_counter_ns()
        task.work(1)
        found.append(time.perf_counter_ns() - began)
    if len(found) < 100:
        return None
    found.sort()
    return found[int(len(found) * 0.99)] / 1000 / task.per_call
