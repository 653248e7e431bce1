"""Every two operations side by side, in every order of their steps, and every operation killed at each of its steps.

Afterwards the store verifies, at once or after one more write by another program; what was acknowledged is there once.
"""

from collections.abc import Callable, Iterator, Sequence
from contextlib import suppress
from datetime import UTC, datetime, timedelta
from functools import cache, partial
from itertools import combinations_with_replacement
from typing import Any, cast

import pytest
from stepping import Killed, KillGate, Phase, Schedule, Stepping, SteppingLock, orders

from eventstore import EventLog, EventStoreError, SessionManager, SessionNotFound, SessionStorage
from eventstore import events as e
from eventstore.backends.memory import MemoryEventLog
from eventstore.ids import STORE_ID, id_of
from eventstore.integrity import SigningKey, verify_all
from eventstore.log.ingest import verify_whole
from eventstore.record import codec

LARGE = "a long text " * 20
FEW_ORDERS, MANY_ORDERS = 9, 90
"""Orders of steps that are tried for a pair, in the short run and in the long one; where there are more they are drawn."""
KEY = SigningKey.generate("pairs.example")


def exported() -> bytes:
    """Make the log of a session `s` in another store."""
    other = SessionManager(SessionStorage(MemoryEventLog()))
    other.create_session("s", "from elsewhere")
    other.set_data("s", "adopted", 1)
    return b"".join(other.storage.log.chunks("s"))


EXPORTED = exported()


def purge(manager: SessionManager, mark: str) -> None:
    later = datetime.now(UTC) + timedelta(days=1)
    manager.storage.clean_up(manager.storage.plan_cleanup(datetime(2000, 1, 1, tzinfo=UTC), later))


def call(manager: SessionManager, mark: str) -> None:
    """Call a tool with an input and a result that are too large for a line."""
    with manager.invocation("s", mark, LARGE) as running:
        running.result = [LARGE, mark]


@pytest.fixture(autouse=True)
def small_lines(monkeypatch: pytest.MonkeyPatch) -> None:
    """Let values be large sooner, since each is hashed at every step."""
    monkeypatch.setattr("eventstore.store.call_values.INLINE_BYTES", len(LARGE) // 2)


OPERATIONS: dict[str, Callable[[SessionManager, str], object]] = {
    "append": lambda manager, mark: manager.set_data("s", mark, 1),
    "append batch": lambda manager, mark: manager.storage.append(
        "s", [e.DataSet(key=f"{mark}{n}", value=n) for n in range(3)]
    ),
    "fork": lambda manager, mark: manager.fork_session("s", new_id=f"n{mark}"),
    "fork to one id": lambda manager, mark: manager.fork_session("s", new_id="n"),
    "make whole": lambda manager, mark: manager.storage.log.make_whole("f"),
    "redact": lambda manager, mark: manager.redactions.redact("s", 2, "why"),
    "call": call,
    "redact call": lambda manager, mark: manager.redactions.redact("s", [4, 5], "why"),
    "trash": lambda manager, mark: manager.trash.put("s"),
    "restore": lambda manager, mark: manager.trash.restore("s"),
    "purge": purge,
    "delete": lambda manager, mark: manager.delete_session("s"),
    "create": lambda manager, mark: manager.create_session("s", mark),
    "ingest": lambda manager, mark: manager.storage.ingest(verify_whole("s", [EXPORTED]), [EXPORTED]),
    "checkpoint": lambda manager, mark: manager.proofs.sign_checkpoint("s", KEY),
}
ENDINGS = {"delete", "purge"}
WORLDS = ("there", "in the trash", "both")


def made(world: str) -> MemoryEventLog:
    """Make a store in memory."""
    log = MemoryEventLog()
    fill(log, world)
    return log


def fill(log: EventLog, world: str) -> None:
    """Make a session `s` and its fork `f`; `s` is there, in the trash, or one there and another in the trash."""
    manager = SessionManager(SessionStorage(log))
    manager.create_session("s", "first")
    manager.add_conversation_message("s", "user", "a secret")
    manager.set_data("s", "base", 1)
    call(manager, "called")
    manager.fork_session("s", new_id="f")
    if world != "there":
        manager.trash.put("s")
    if world == "both":
        manager.create_session("s", "second")
        manager.add_conversation_message("s", "user", "another secret")
        manager.set_data("s", "another base", 1)
        call(manager, "called again")


def opened(log: Any, lock: Any = None) -> SessionManager:
    storage = SessionStorage(cast("EventLog", log))
    if lock is not None:
        storage.registry.lock = lock
    return SessionManager(storage)


def written(log: EventLog) -> list[str]:
    """List the keys, purposes and started calls in all sessions `s`, there or in the trash."""
    lines = [line for name in log.trashed() if id_of(name) == "s" for line in log.trashed_lines(name)]
    if log.exists("s"):
        lines += log.lines("s")
    events = map(codec.decode, lines)
    return [
        str(getattr(event, {e.DataSet: "key", e.SessionCreated: "purpose"}.get(type(event), "tool_name")))
        for event in events
        if isinstance(event, e.DataSet | e.SessionCreated | e.InvocationStarted)
    ]


def wrong(log: EventLog) -> list[str]:
    verdicts = verify_all(SessionStorage(log))
    return [one.describe(with_keys=False) for one in verdicts if one.outcome in ("damaged", "tampered", "unreadable")]


def check(log: EventLog, acknowledged: list[str], gone: bool, trail: list[str]) -> None:
    """Verify the store, at once or after one more write, and find what was acknowledged once."""
    found = wrong(log)
    if found:
        opened(log).create_session("z")
        found = wrong(log)
    story = [(event.type, getattr(event, "session_id", ""), getattr(event, "name", "")) for event in log.read(STORE_ID)]
    assert not found, f"{trail}\n{story}"
    keys = written(log)
    for mark in acknowledged:
        assert keys.count(mark) == 1 or (gone and mark not in keys), f"{mark} in {keys} after {trail}"
    assert all(keys.count(key) == 1 for key in set(keys) - {"adopted", "from elsewhere"}), f"{keys} after {trail}"
    live_on(opened(log), trail)


def live_on(manager: SessionManager, trail: list[str]) -> None:
    """Use the id again, and bring back what is in the trash: what was recorded of a session holds for that one only."""
    log = manager.storage.log
    if not log.exists("s"):
        manager.create_session("s")
        assert not wrong(log), trail
    if log.trashed():
        manager.delete_session("s")
        with suppress(SessionNotFound):  # its purge was cut short, and is finished now
            manager.trash.restore("s")
        assert not wrong(log), trail


def marks(name: str, mark: str) -> list[str]:
    return {"append": [mark], "call": [mark], "append batch": [f"{mark}{n}" for n in range(3)], "create": [mark]}.get(
        name, []
    )


CHANGES = {"append", "extend", "fork", "ingest", "remove", "trash", "restore", "purge", "redact"} | {
    "keep_value",
    "remove_value",
}


@cache
def count_changes(world: str, name: str, other: str) -> int:
    """Count the changes that an operation makes, alone or after another one: the greater number."""
    found = []
    for before in ([], [other]):
        alone, log = Schedule([], CHANGES), made(world)
        for one in before:
            with suppress(EventStoreError):
                OPERATIONS[one](opened(log), "b")
        alone.run(partial(OPERATIONS[name], opened(Stepping(log, alone), SteppingLock(alone)), "a"))
        found += alone.changed
    return max(found)


def worlds(one: str, other: str) -> list[str]:
    """Choose the worlds in which two operations have anything to do with each other."""
    moving = {"trash", "restore", "purge", "delete", "create", "ingest"} & {one, other}
    return list(WORLDS) if moving else ["there"]


@pytest.mark.parametrize(
    ("one", "other"), list(combinations_with_replacement(OPERATIONS, 2)), ids=lambda name: name.replace(" ", "-")
)
def test_two_operations_side_by_side_leave_a_healthy_store(one: str, other: str) -> None:
    """Whatever the order of their steps, also where one of them is refused."""
    assert run_orders(one, other, FEW_ORDERS) > 0


@pytest.mark.long
@pytest.mark.patient
@pytest.mark.parametrize(
    ("one", "other"), list(combinations_with_replacement(OPERATIONS, 2)), ids=lambda name: name.replace(" ", "-")
)
def test_two_operations_side_by_side_in_most_orders_leave_a_healthy_store(one: str, other: str) -> None:
    """As above, and with more patience."""
    assert run_orders(one, other, MANY_ORDERS) > 0


def run_orders(one: str, other: str, most: int) -> int:
    """Run two operations in at most so many orders of their steps, and return in how many."""
    done = 0
    chosen = worlds(one, other)
    for world in chosen:
        mine, theirs = count_changes(world, one, other), count_changes(world, other, one)
        for order in orders(mine, theirs, most // len(chosen), f"{one} {other} {world}"):
            run_side_by_side(world, one, other, order, settled=done % 2 == 0)
            done += 1
    return done


def run_two(schedule: Schedule, managers: Sequence[SessionManager], one: str, other: str) -> list[str]:
    """Run an operation in each of two managers as a schedule says; return the texts that must be there afterwards."""
    works = [partial(OPERATIONS[one], managers[0], "a"), partial(OPERATIONS[other], managers[1], "b")]
    raised = schedule.run(*works)
    acknowledged = ["first", "base"]
    for name, mark, error in zip((one, other), "ab", raised, strict=True):
        assert error is None or isinstance(error, EventStoreError | ValueError), (error, schedule.names)
        acknowledged += [] if error is not None else marks(name, mark)
    return acknowledged


def run_side_by_side(world: str, one: str, other: str, order: list[Phase], *, settled: bool) -> None:
    """Run two managers, which have compared the registry with the logs already, or do that with the first change they make."""
    log = made(world)
    schedule = Schedule(order, CHANGES)
    lock, stepping = SteppingLock(schedule), Stepping(log, schedule)
    managers = [opened(stepping, lock) for _ in range(2)]
    for manager in managers if settled else ():
        manager.storage.settle()
    acknowledged = run_two(schedule, managers, one, other)
    check(log, acknowledged, bool(ENDINGS & {one, other}), schedule.names)


def killed(world: str, name: str) -> Iterator[tuple[MemoryEventLog, list[str]]]:
    """Run an operation again and again, killed at its first step, its second, ... until it comes to its end."""
    allowed = 0
    while True:
        log, gate = made(world), KillGate(allowed)
        try:
            OPERATIONS[name](opened(Stepping(log, gate)), "m")
        except Killed:
            yield log, gate.names
        except EventStoreError:
            return
        else:
            return
        allowed += 1


@pytest.mark.parametrize("world", WORLDS)
@pytest.mark.parametrize("name", OPERATIONS)
def test_an_operation_killed_at_any_step_leaves_a_store_that_the_next_writer_heals(name: str, world: str) -> None:
    kills = 0
    for log, trail in killed(world, name):
        kills += 1
        check(log, ["first", "base"], name in ENDINGS, trail)
        opened(log).create_session("y")
        assert not wrong(log), trail
    assert kills > 0
