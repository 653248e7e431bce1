"""Stepping: run operations side by side, one call at a time, in an order that the test chooses; or kill one at a call.

`Stepping(target, gate)` wraps any object: each call of one of its public methods waits until the gate lets it happen.
"""

import random
import threading
from collections.abc import Callable, Container, Iterator, Sequence
from contextlib import contextmanager
from itertools import product
from typing import Any, NamedTuple

_TIMEOUT_SECONDS = 60


class Killed(BaseException):
    """The process died here: nothing that catches errors may catch this."""


class Gate:
    """Lets every step happen. `steps` counts them, `names` keeps what was called."""

    def __init__(self) -> None:
        self.names: list[str] = []

    @property
    def steps(self) -> int:
        return len(self.names)

    def step(self, name: str) -> None:
        """Wait until this step may happen."""
        self.names.append(name)


class KillGate(Gate):
    """Kills whoever comes to a step after the first `allowed` ones, and again at every step after that."""

    def __init__(self, allowed: int) -> None:
        super().__init__()
        self._allowed = allowed

    def step(self, name: str) -> None:
        if self.steps >= self._allowed:
            raise Killed
        super().step(name)


class Phase(NamedTuple):
    """Let one actor run: to its end, or to a stop. Stop 2n is right after its n-th change, 2n + 1 right before the next one."""

    actor: int
    stop: int | None = None


class Schedule(Gate):
    """Lets the steps of several actors, each a thread, happen in the order given. One actor runs at a time.

    `changes` are the names of the methods that change something.
    """

    def __init__(self, order: Sequence[Phase], changes: Container[str]) -> None:
        super().__init__()
        self._order, self._changes = order, changes
        self.changed: list[int] = []
        self._next: list[str] = []
        self._changed = threading.Condition()
        self._actors: dict[int, int] = {}
        self._states: list[str] = []
        self._granted: int | None = None
        self._free: dict[int, Callable[[], bool]] = {}

    def run(self, *works: Callable[[], object]) -> list[BaseException | None]:
        """Run each in a thread of its own, and return what each raised."""
        raised: list[BaseException | None] = [None] * len(works)
        self._states, self._next, self.changed = ["running"] * len(works), [""] * len(works), [0] * len(works)

        def act(actor: int) -> None:
            with self._changed:
                self._actors[threading.get_ident()] = actor
            try:
                self.step("start")
                works[actor]()
            except BaseException as error:
                raised[actor] = error
            with self._changed:
                self._set(actor, "done")

        threads = [threading.Thread(target=act, args=(actor,), daemon=True) for actor in range(len(works))]
        for thread in threads:
            thread.start()
        self._direct()
        for thread in threads:
            thread.join(_TIMEOUT_SECONDS)
        return raised

    def _direct(self) -> None:
        """Let the phases happen, then whatever is left. An actor that cannot go on ends its phase."""
        with self._changed:
            self._wait(lambda: "running" not in self._states)
            for phase in self._order:
                while self._states[phase.actor] == "waiting" and not self._is_at(phase):
                    self._grant(phase.actor)
            while any(state != "done" for state in self._states):
                ready = [actor for actor, state in enumerate(self._states) if state == "waiting"]
                assert ready, f"nobody can go on: {self._states}"
                self._grant(ready[0])

    def _is_at(self, phase: Phase) -> bool:
        if phase.stop is None:
            return False
        before, wanted = phase.stop % 2, phase.stop // 2
        made = self.changed[phase.actor]
        return made > wanted or (made == wanted and (not before or self._next[phase.actor] in self._changes))

    def _grant(self, actor: int) -> None:
        self._granted = actor
        self.changed[actor] += self._next[actor] in self._changes
        self._set(actor, "running")
        self._wait(lambda: "running" not in self._states)

    def step(self, name: str) -> None:
        actor = self._actors.get(threading.get_ident())
        if actor is None:
            return
        with self._changed:
            self._next[actor] = name
            self._set(actor, "waiting")
            self._wait(lambda: self._granted == actor)
            self._granted = None
            self.names.append(f"{actor}:{name}")

    def block(self, is_free: Callable[[], bool]) -> None:
        """Wait, as an actor that cannot go on, until another one has made that true."""
        actor = self._actors[threading.get_ident()]
        with self._changed:
            self._free[actor] = is_free
            self._set(actor, "blocked")
            self._wait(is_free)

    def freed(self) -> None:
        """Let actors try again that waited for what is free now."""
        with self._changed:
            for actor, state in enumerate(self._states):
                if state == "blocked" and self._free[actor]():
                    self._set(actor, "running")

    def _set(self, actor: int, state: str) -> None:
        self._states[actor] = state
        self._changed.notify_all()

    def _wait(self, condition: Callable[[], bool]) -> None:
        assert self._changed.wait_for(condition, _TIMEOUT_SECONDS), f"stuck: {self._states} after {self.names}"


class Stepping:
    """An object whose public methods wait at a gate before they are called."""

    def __init__(self, target: Any, gate: Gate) -> None:
        self._target, self._gate = target, gate

    def __getattr__(self, name: str) -> Any:
        found = getattr(self._target, name)
        if name.startswith("_") or not callable(found):
            return found

        def call(*args: Any, **named: Any) -> Any:
            self._gate.step(name)
            return found(*args, **named)

        return call


class SteppingLock:
    """A lock that its holder may take again, and whose waiting actors the schedule knows of."""

    def __init__(self, schedule: Schedule) -> None:
        self._schedule, self._owner, self.depth = schedule, 0, 0

    @contextmanager
    def held(self, *, wait: bool = True) -> Iterator[bool]:
        me = threading.get_ident()
        if self._owner != me:
            self._schedule.step("lock")
            while self._owner:
                if not wait:
                    yield False
                    return
                self._schedule.block(lambda: not self._owner)
                self._schedule.step("lock")
            self._owner = me
        self.depth += 1
        try:
            yield True
        finally:
            self.depth -= 1
            if not self.depth:
                self._owner = 0
                self._schedule.freed()


def orders(one: int, other: int, most: int, seed: str) -> list[list[Phase]]:
    """List orders in which two actors, that make so many changes each, are stopped at most once each: at most `most`.

    They are stopped right before a change or right after one, since only there it matters. Where there are too many orders, a
    sample of them is taken that is the same each time.
    """
    found = []
    for first, last in product(range(2 * one + 2), range(2 * other + 2)):
        found.append([Phase(0, first), Phase(1, last), Phase(0), Phase(1)])
        found.append([Phase(1, last), Phase(0, first), Phase(1), Phase(0)])
    return found if len(found) <= most else random.Random(seed).sample(found, most)
