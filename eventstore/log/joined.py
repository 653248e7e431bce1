"""Appends to several logs in one step of the backend; those that have to read or to wait first are left to be made alone."""

from collections.abc import Callable, Iterator, Sequence
from functools import partial
from itertools import chain, compress, takewhile
from typing import NamedTuple, TypeAlias

from eventstore.errors import EventStoreError
from eventstore.log.append import Appender, Plan
from eventstore.log.base import Appended, Outcome
from eventstore.log.batch import Batch
from eventstore.log.locking import release, run, try_lock
from eventstore.log.port import NotStored, Refused, Swap, Tip, Unclear
from eventstore.log.state import LogState

_MOST = 64  # logs in one step: the commit of all waits for the last of them

Pieces: TypeAlias = Sequence[tuple[Batch, int | None]]
Later: TypeAlias = Callable[[], list[Outcome]]
"""Makes the appends to one log, and returns their outcomes."""


class Taken(NamedTuple):
    """Appends to one log, planned with its locks held: `plan` begins at `here`. `place` is that of the log among several."""

    place: int
    state: LogState
    pieces: Pieces
    here: Tip
    plan: Plan


class JoinedAppender(Appender):
    """Appends to one log, or to many in one step."""

    def append_joined(self, groups: Sequence[tuple[LogState, Pieces]]) -> list[list[Outcome] | Later]:
        """Append to several logs, without waiting for one: return the outcomes of each, or a function that appends to it later.

        A log is left for later if someone else uses it here, if it must be read first, if the backend did not write to it, or if
        the answer of the backend was lost.
        """
        found: list[list[Outcome] | Later] = [partial(self._append_later, *group) for group in groups]
        for first in range(0, len(groups), _MOST):
            taken: list[Taken] = []
            held: list[Iterator[None]] = []  # each releases the locks of one log
            releasing = chain.from_iterable(held)
            try:
                for place, (state, pieces) in enumerate(groups[first : first + _MOST], first):
                    self._take(place, state, pieces, taken, held)
                if taken:
                    self._write(taken, found)
            finally:
                run(releasing)
        return found

    def _take(
        self, place: int, state: LogState, pieces: Pieces, taken: list[Taken], held: list[Iterator[None]]
    ) -> None:
        """Hold the locks of a log and plan its appends; do nothing if that has to wait."""
        locks, free = (state.writing, state.scanning), list[bool]()
        releasing: Iterator[None] = map(release, compress(locks, free))
        is_taken = False
        try:
            free.extend(takewhile(bool, map(try_lock, locks)))
            scan = state.scan
            if len(free) == len(locks) and scan.here.life and not self._must_look(state, pieces):
                plan = self._plan(state, scan, pieces)
                if plan.data:
                    taken.append(Taken(place, state, pieces, scan.here, plan))
                    held.append(releasing)
                    is_taken = True
        finally:
            if not is_taken:
                run(releasing)

    def _write(self, taken: list[Taken], found: list[list[Outcome] | Later]) -> None:
        swaps = [Swap(one.state.name, one.plan.data, one.here, one.plan.tip, one.plan.keys) for one in taken]
        try:
            lives = self._backend.append_many(swaps)
        except NotStored as error:
            for one in taken:
                one.state.forget()
                found[one.place] = [self._states.refused(one.state, error)] * len(one.pieces)
            return
        except Unclear as error:
            for one in taken:
                found[one.place] = partial(self.settle_later, one, error)
            return
        except Refused:  # certainly nothing was written: each is refused, or not, when it is appended alone
            return
        for one, life in zip(taken, lives, strict=True):
            if life is None:  # an attempt that the engine repeated may have written it
                found[one.place] = partial(self.settle_later, one)
            else:
                one.plan.tip.life = life
                self._moved_on(one.state, one.plan)
                found[one.place] = one.plan.outcomes

    def _append_later(self, state: LogState, pieces: Pieces) -> list[Outcome]:
        with state.writing:
            return self.append(state, pieces)

    def settle_later(self, taken: Taken, error: Unclear | None = None) -> list[Outcome]:
        """Write the same lines, if they are not there; `error` is that of the first attempt. Plan those anew that are missing.

        What is there is as durable as the level asks.
        """
        state, plan = taken.state, taken.plan
        with state.writing, state.scanning:
            try:
                is_apart = self._syncs_apart
                reached = self._swap(
                    state, taken.here, plan.data, plan.tip, plan.keys, sync=not is_apart, unclear=error
                )
                if is_apart and reached > taken.here.seq:
                    self.sync(state, plan.tip)
            except EventStoreError as failed:
                return [failed] * len(taken.pieces)
            if reached == plan.tip.seq:
                if state.scan.here is taken.here:
                    self._moved_on(state, plan)
                return plan.outcomes
        there = [one if isinstance(one, Appended) and one.last <= reached else None for one in plan.outcomes]
        missing = [piece for piece, one in zip(taken.pieces, there, strict=True) if one is None]
        rest = iter(self._append_later(state, missing))
        return [next(rest) if one is None else one for one in there]
