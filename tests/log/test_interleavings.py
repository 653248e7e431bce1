"""Each two operations on one store, step by step, in every order and with a kill after each step."""

import random
from collections.abc import Callable, Iterator
from contextlib import suppress
from itertools import combinations

import pytest
from log.faulty import Killed
from log.stepping import Program, Schedule, Stepping, run_both

from eventstore.backends.memory import MemoryBackend
from eventstore.errors import EventStoreError, LogDamaged
from eventstore.events import EventRedacted, MessageAdded, SessionCreated
from eventstore.log.base import Appended
from eventstore.log.contract.sample import said
from eventstore.log.engine import EventLog
from eventstore.log.port import Missing

FEW, MANY = 8, 120
"""Orders of steps that are tried for a pair, in the short run and in the long one; where there are more they are drawn."""


def begin(log: EventLog) -> None:
    """Make a session `s`, its fork `f`, and `old` in the trash."""
    for name in ("s", "old"):
        log.append(name, [SessionCreated()], expected_version=0)
        log.append(name, [said(f"{name} one")])
        log.append(name, [said(f"{name} two"), said(f"{name} three")])
    log.fork("f", "s", 2, SessionCreated())
    log.trash("old")


def ingest(log: EventLog) -> object:
    source = EventLog(MemoryBackend())
    source.append("n", [SessionCreated()], expected_version=0)
    source.append("n", [said("adopted")])
    return log.ingest("n", source.chunks("n"))


def say(name: str, *texts: str) -> Callable[[EventLog, str], object]:
    return lambda log, who: log.append(name, [said(f"{text} {who}") for text in texts])


def read(log: EventLog, name: str = "s", after: int = 0) -> list[str]:
    """Read messages: all are of the session that was there first, or of one that was created after it."""
    found = [event.content for event in log.read(name, after) if isinstance(event, MessageAdded)]
    is_other = [text.startswith("another") for text in found]
    assert all(is_other) or not any(is_other), found
    return found


def replace(log: EventLog, who: str) -> Appended:
    """Remove `s`, and create a shorter session of its name."""
    log.trash("s")
    log.append("s", [SessionCreated(purpose=who)], expected_version=0)
    return log.append("s", [said(f"another {who}")])


OPERATIONS: dict[str, Callable[[EventLog, str], object]] = {
    "append": say("s", "single"),
    "batch": say("s", "first", "second"),
    "append to the fork": say("f", "forked"),
    "fork": lambda log, who: log.fork(f"g{who}", "s", 4, SessionCreated()),
    "fork to one name": lambda log, who: log.fork("g", "s", 2, SessionCreated()),
    "make whole": lambda log, who: log.make_whole("f"),
    "redact": lambda log, who: log.redact("s", [2], "a secret"),
    "trash": lambda log, who: log.trash("s"),
    "restore": lambda log, who: log.restore("old"),
    "purge": lambda log, who: log.purge("old"),
    "remove": lambda log, who: log.remove("s"),
    "create": lambda log, who: log.append("n", [SessionCreated(purpose=who)], expected_version=0),
    "create where one was": lambda log, who: log.append("s", [SessionCreated(purpose=who)], expected_version=0),
    "ingest": lambda log, who: ingest(log),
    "read": lambda log, who: read(log),
    "read a part": lambda log, who: read(log, after=2),
    "read the fork": lambda log, who: read(log, "f"),
    "replace": replace,
}
REMOVING = {"trash", "remove", "purge", "replace"}
READING = {"read", "read a part"}


def program(operation: str, who: str, *, warm: bool) -> Program:
    """Make a program that does one operation; a `warm` one has read the sessions before."""

    def run_it(backend: Stepping) -> object:
        log = EventLog(backend)
        if warm:
            backend.takes_turns = False
            for name in ("s", "f"):
                with suppress(EventStoreError):
                    log.head(name)
            backend.takes_turns = True
        return OPERATIONS[operation](log, who)

    return run_it


def orders(first: int, second: int, most: int) -> Iterator[list[int]]:
    """Give the orders of so many steps of one and of the other: all, or a sample that is always the same."""
    every = [set(places) for places in combinations(range(first + second), first)] if first + second < 14 else None
    chosen = random.Random(f"{first} {second}")
    if every is None:
        for _ in range(most):
            yield [int(chosen.random() * (first + second) >= first) for _ in range(first + second)]
        return
    for places in every if len(every) <= most else chosen.sample(every, most):
        yield [0 if place in places else 1 for place in range(first + second)]


def steps_of(operation: str) -> int:
    inner = MemoryBackend()
    begin(EventLog(inner))
    schedule = Schedule([])
    run_both(inner, schedule, (program(operation, "0", warm=False), lambda backend: None))
    return schedule.steps[0]


STEPS: dict[str, int] = {}


def run(pair: tuple[str, str], turns: list[int], kill: int | None = None, *, warm: bool = False) -> bool:
    """Run a pair in one order, check the store, and tell whether somebody was killed."""
    inner = MemoryBackend()
    begin(EventLog(inner))
    programs = (program(pair[0], "0", warm=warm), program(pair[1], "1", warm=warm))
    outcomes = run_both(inner, Schedule(turns, kill), programs)
    for outcome in outcomes:
        if isinstance(outcome, BaseException) and not isinstance(outcome, EventStoreError | Killed):
            raise outcome
    check(EventLog(inner), pair, outcomes)
    return any(isinstance(outcome, Killed) for outcome in outcomes)


def check(log: EventLog, pair: tuple[str, str], outcomes: list[object]) -> None:
    """All reads, nothing is there twice, and what was appended to a log that is still there is in it, in its place."""
    removing = bool(REMOVING & set(pair))
    for name in list(log.ids()):
        is_fork_without_past = removing and log.inherited(name) > 0
        if is_fork_without_past:  # whoever removes a parent makes its forks whole before: that is a floor further up
            continue
        log.append(name, [said(f"next in {name}")])
        found = [event.content for event in log.read(name) if isinstance(event, MessageAdded)]
        assert len(found) == len(set(found)), found
        assert found[-1] == f"next in {name}"
        assert all(one.standing == "proven" for one in log.salvage(name))
        recorded = [event for event in log.read(name) if isinstance(event, EventRedacted)]
        assert not recorded or "s one" not in found
    for operation, outcome in zip(pair, outcomes, strict=True):
        is_read = operation in READING or (operation == "read the fork" and not removing)
        assert not is_read or not isinstance(outcome, LogDamaged), outcome
    trashed = {name: list(log.trashed_lines(name)) for name in log.trashed()}
    for who, (operation, outcome) in enumerate(zip(pair, outcomes, strict=True)):
        if isinstance(outcome, Appended) and operation in ("append", "batch", "append to the fork"):
            target = "f" if operation == "append to the fork" else "s"
            wanted = {"append": "single", "batch": "first", "append to the fork": "forked"}[operation] + f" {who}"
            where = [content(log, target), b"".join(b"".join(lines) for lines in trashed.values())]
            there = sum(text.count(wanted.encode()) for text in where)
            assert there == 1 or (removing and there == 0 and "remove" in pair), (wanted, there)


def content(log: EventLog, name: str) -> bytes:
    """Return a log's own lines; nothing where there is none."""
    try:
        return b"".join(log.backend.read(name).chunks)
    except Missing:
        return b""


def try_orders(first: str, second: str, most: int) -> int:
    """Run two operations in at most so many orders of their steps, and return in how many."""
    tried = 0
    for turns in orders(STEPS[first], STEPS[second], most):
        try:
            run((first, second), turns, warm=tried % 2 == 1)
        except Exception as error:
            raise AssertionError(f"{first} and {second}, in the order {turns}: {error!r}") from error
        tried += 1
    return tried


@pytest.fixture(autouse=True, scope="module")
def _count_steps() -> None:
    STEPS.update({operation: steps_of(operation) for operation in OPERATIONS})


@pytest.mark.parametrize("first", OPERATIONS)
def test_two_operations_leave_a_whole_store_in_every_order_of_their_steps(first: str) -> None:
    """In the short run in some orders of each two; which of them comes first does not matter then."""
    names = list(OPERATIONS)
    for second in names[names.index(first) :]:
        assert try_orders(first, second, FEW) > 0


@pytest.mark.long
@pytest.mark.patient
@pytest.mark.parametrize("first", OPERATIONS)
def test_two_operations_leave_a_whole_store_in_most_orders_of_their_steps(first: str) -> None:
    for second in OPERATIONS:
        assert try_orders(first, second, MANY) > 0


@pytest.mark.parametrize("first", OPERATIONS)
def test_an_operation_killed_at_any_step_leaves_a_whole_store_to_another_one(first: str) -> None:
    killed = 0
    for second in OPERATIONS:
        for kill in range(1, STEPS[first] + 1):
            turns = [0] * kill + [1] * STEPS[second]
            try:
                killed += run((first, second), turns, kill)
            except Exception as error:
                raise AssertionError(f"{first} killed at step {kill}, then {second}: {error!r}") from error
    assert killed == STEPS[first] * len(OPERATIONS)
