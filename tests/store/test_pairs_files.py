"""Every two operations side by side on files, one call of the backend at a time, and every operation killed at each such call.

`test_pairs.py` does the same in memory, one call of the log at a time: there each step is a whole one.
"""

from collections.abc import Callable, Iterable, Iterator
from contextlib import AbstractContextManager, ExitStack, contextmanager, suppress
from functools import partial
from itertools import combinations_with_replacement
from pathlib import Path
from shutil import copytree
from typing import Any, TypeVar

import pytest
from log.faulty import Passing
from stepping import Gate, Killed, KillGate, Phase, Schedule, SteppingLock, orders
from store.test_pairs import ENDINGS, LARGE, OPERATIONS, WORLDS, check, fill, opened, run_two, worlds, wrong

from eventstore import EventLog, EventStoreError, FileSystemEventLog
from eventstore.backends.files.backend import FilesBackend
from eventstore.log.port import Backend

R = TypeVar("R")
MOST_ORDERS = 9
"""Orders that are tried for a pair: all of them take about two minutes of one core."""
CHANGES = {"append", "write_whole", "overwrite", "cut", "move", "delete", "put_blob", "delete_blob"}

pytestmark = [pytest.mark.long, pytest.mark.patient]


@pytest.fixture(autouse=True)
def small_lines(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("eventstore.store.call_values.INLINE_BYTES", len(LARGE) // 2)


class Locks:
    """The locks of one store, which two programs share: whoever waits for one is passed over."""

    def __init__(self, schedule: Schedule) -> None:
        self._schedule = schedule
        self._locks: dict[str, SteppingLock] = {}

    def held(self, names: Iterable[str]) -> AbstractContextManager[object]:
        held = ExitStack()
        for name in sorted(names):
            held.enter_context(self._locks.setdefault(name, SteppingLock(self._schedule)).held())
        return held


class OneByOne(Passing):
    """A backend whose calls wait at a gate. What takes the lock of a log inside a call takes it here first, to wait visibly."""

    def __init__(self, inner: Backend, gate: Gate, locks: Locks | None = None) -> None:
        super().__init__(inner)
        self._gate, self._locks = gate, locks

    def around(self, method: str, do: Callable[[], R], args: tuple[Any, ...] = ()) -> R:
        self._gate.step(method)
        if self._locks is None or method not in CHANGES:
            return do()
        given = do.args if isinstance(do, partial) else ()
        logs = given[:2] if method == "move" else given[:1]
        with self._locks.held(f"log/{log}" for log in logs):
            return do()

    @contextmanager
    def lock(self, name: str) -> Iterator[object]:
        with ExitStack() as held:
            if self._locks is not None:
                held.enter_context(self._locks.held([name]))
            yield held.enter_context(super().lock(name))


class Stores:
    """Stores on files, each begun by a copy of one that was made once for its world."""

    def __init__(self, folder: Path) -> None:
        self._folder, self._count = folder, 0

    def new(self, world: str) -> Path:
        made = self._folder / world
        if not made.exists():
            with FileSystemEventLog(made, fsync="no") as log:
                fill(log, world)
        self._count += 1
        found = self._folder / str(self._count)
        copytree(made, found, symlinks=True)
        return found


@pytest.fixture(scope="module")
def stores(tmp_path_factory: pytest.TempPathFactory) -> Stores:
    return Stores(tmp_path_factory.mktemp("pairs"))


def count_changes(stores: Stores, world: str, name: str, other: str) -> int:
    """Count the changes that an operation makes, alone or after another one: the greater number."""
    found = []
    for before in ([], [other]):
        folder, alone = stores.new(world), Schedule([], CHANGES)
        with FileSystemEventLog(folder, fsync="no") as log:
            for one in before:
                with suppress(EventStoreError, ValueError):
                    OPERATIONS[one](opened(log), "b")
        with EventLog(OneByOne(FilesBackend(folder, fsync="no"), alone, Locks(alone))) as stepping:
            alone.run(partial(OPERATIONS[name], opened(stepping, SteppingLock(alone)), "a"))
        found += alone.changed
    return max(found)


@pytest.mark.parametrize(
    ("one", "other"), list(combinations_with_replacement(OPERATIONS, 2)), ids=lambda name: name.replace(" ", "-")
)
def test_two_programs_side_by_side_leave_a_healthy_store_on_files(stores: Stores, one: str, other: str) -> None:
    done = 0
    chosen = worlds(one, other)
    for world in chosen:
        mine, theirs = count_changes(stores, world, one, other), count_changes(stores, world, other, one)
        for order in orders(mine, theirs, MOST_ORDERS // len(chosen), f"{one} {other} {world}"):
            run_side_by_side(stores.new(world), one, other, order, settled=done % 2 == 0)
            done += 1
    assert done > 0


def run_side_by_side(folder: Path, one: str, other: str, order: list[Phase], *, settled: bool) -> None:
    """Run an operation in each of two programs, whose engines know nothing of each other."""
    schedule = Schedule(order, CHANGES)
    locks, lock = Locks(schedule), SteppingLock(schedule)
    logs = [EventLog(OneByOne(FilesBackend(folder, fsync="no"), schedule, locks)) for _ in range(2)]
    managers = [opened(log, lock) for log in logs]
    for manager in managers if settled else ():
        manager.storage.settle()
    acknowledged = run_two(schedule, managers, one, other)
    for log in logs:
        log.close()
    with FileSystemEventLog(folder, fsync="no") as found:
        check(found, acknowledged, bool(ENDINGS & {one, other}), schedule.names)


@pytest.mark.parametrize("world", WORLDS)
@pytest.mark.parametrize("name", OPERATIONS)
def test_a_program_killed_at_any_call_leaves_files_that_the_next_writer_heals(
    stores: Stores, name: str, world: str
) -> None:
    allowed, was_killed = 0, True
    while was_killed:
        folder, gate, was_killed = stores.new(world), KillGate(allowed), False
        inner = FilesBackend(folder, fsync="no")
        log = EventLog(OneByOne(inner, gate))
        try:
            OPERATIONS[name](opened(log), "m")
        except Killed:
            was_killed = True
        except EventStoreError:
            pass
        inner.close()  # the dead hold no locks
        if was_killed:
            with FileSystemEventLog(folder, fsync="no") as found:
                check(found, ["first", "base"], name in ENDINGS, gate.names)
                opened(found).create_session("y")
                assert not wrong(found), gate.names
            allowed += 1
    assert allowed > 0
