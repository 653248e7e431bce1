"""Appending: what a writer decides for one log, in a compare-and-swap loop on the hash of its last event."""

import errno
from collections.abc import Iterator, Sequence
from contextlib import ExitStack, contextmanager, nullcontext, suppress
from typing import NamedTuple

from eventstore.errors import (
    EventStoreError,
    IdReused,
    LogDamaged,
    SessionNotFound,
    VersionConflict,
)
from eventstore.log.base import Appended, Outcome, types_of
from eventstore.log.batch import Batch, find_repeat, refuse_known, seal
from eventstore.log.healing import Healer
from eventstore.log.port import Busy, Key, Missing, Refused
from eventstore.log.state import LogState
from eventstore.record import clock, codec
from eventstore.record.scan import Scan, Tip

_ATTEMPTS = 100
_ALONE_AFTER = 3  # attempts that others were faster than, before the lock is taken for a whole attempt
_TELLING = b'{"type":"event.redacted",'


class _Plan(NamedTuple):
    """Lines ready to be written in one go, and what becomes of each of several appends if they are."""

    data: bytes
    tip: Tip
    keys: list[Key]
    outcomes: list[Outcome]


class Appender(Healer):
    """Appends to the logs of `States`. Whoever calls holds the log's `writing`."""

    def where(self, state: LogState) -> str:
        """Name the place of a log for errors."""
        return self._backend.where(state.name)

    def append(
        self, state: LogState, appends: Sequence[tuple[Batch, int | None]], *, sync: bool = True
    ) -> list[Outcome]:
        """Append several batches, each with the version it expects, in one write; return what became of each."""
        try:
            outcomes = self._append(state, appends, sync=sync or not self._syncs_apart, wait=True)
        except (EventStoreError, ValueError) as error:
            return [error] * len(appends)
        if sync and self._syncs_apart:
            self.sync(state, outcomes)
        return outcomes

    def append_now(self, state: LogState, appends: Sequence[tuple[Batch, int | None]]) -> list[Outcome] | None:
        """Append as `append` does, without flushing; None where that would have to wait for anybody or read the log first."""
        try:
            return self._append(state, appends, sync=False, wait=False)
        except Busy:
            return None
        except (EventStoreError, ValueError) as error:
            return [error] * len(appends)

    def sync(self, state: LogState, outcomes: list[Outcome]) -> None:
        """Return when what was appended is durable as the level asks; where that fails the error is the outcome."""
        try:
            self._backend.sync(state.name, state.scan.here)
        except Refused as error:
            failed = self._states.unknown(state, error)
            outcomes[:] = [failed if isinstance(one, Appended) else one for one in outcomes]
        except Missing:  # it was deleted since, with what was appended
            pass

    def extend(self, state: LogState, batches: Sequence[Batch], expected_version: int) -> Appended:
        """Append several batches of one caller, whose keys are all new, in one write. Raises as `EventLog.extend` does."""

        def check(scan: Scan) -> None:
            refuse_known(state.session_id, batches, scan.ids)
            self._check_version(state, scan.here.seq, expected_version)  # it is that of all of them, not of the first

        appends: list[tuple[Batch, int | None]] = [
            (batches[0], expected_version),
            *((one, None) for one in batches[1:]),
        ]
        outcomes = self._append(state, appends, sync=True, wait=True, check=check)
        if self._syncs_apart:
            self.sync(state, outcomes)
        for outcome in outcomes:
            if not isinstance(outcome, Appended):
                raise outcome
        first, last = outcomes[0], outcomes[-1]
        assert isinstance(first, Appended) and isinstance(last, Appended)  # noqa: S101, PT018 - the loop has seen to it
        return Appended(first.first, last.last)

    def write(self, state: LogState, events: Batch, *, sync: bool = True) -> Appended:
        """Append one batch to a log that is there, whatever its version. Raises as `EventLog.append` does."""
        (outcome,) = self.append(state, [(events, None)], sync=sync)
        if isinstance(outcome, Appended):
            return outcome
        raise outcome

    def begin(self, state: LogState, here: Tip, batch: Batch) -> Appended:
        """Begin a log behind a place of another one. Raises VersionConflict where it is there already."""
        with state.scanning:
            state.forget()
            data, tip = seal(batch, here, max(clock.now(), here.at))
            for _ in range(_ATTEMPTS):
                if self._swap(state, None, data, tip, [], sync=True, wait=True) == tip.seq:
                    break
                scan = self.ready(state)
                if scan.here.seq:
                    raise VersionConflict(state.session_id, 0, scan.here.seq, self._since(state, state.inherited))
                self._drop_fragment(state)
            else:
                raise self._too_busy(state)
            state.forget()  # who it goes on from is read of its first line
        if self._syncs_apart:
            outcomes: list[Outcome] = [Appended(here.seq + 1, tip.seq)]
            self._sync_new(state, tip, outcomes)
            if not isinstance(outcomes[0], Appended):
                raise outcomes[0]
        return Appended(here.seq + 1, tip.seq)

    def _too_busy(self, state: LogState) -> EventStoreError:
        where = self._backend.where(state.name)
        return self._states.refused(state, Refused(where, errno.EAGAIN, "others append all the time"))

    def _sync_new(self, state: LogState, tip: Tip, outcomes: list[Outcome]) -> None:
        try:
            self._backend.sync(state.name, tip)
        except Refused as error:
            outcomes[0] = self._states.unknown(state, error)
        except Missing:  # it was removed meanwhile
            pass

    def _append(
        self,
        state: LogState,
        appends: Sequence[tuple[Batch, int | None]],
        *,
        sync: bool,
        wait: bool,
        check: object = None,
    ) -> list[Outcome]:
        outcomes: list[Outcome | None] = [None] * len(appends)
        with state.scanning:
            for attempt in range(_ATTEMPTS):
                again = attempt > 0 or check is not None
                left = [place for place, outcome in enumerate(outcomes) if outcome is None]
                pieces = appends if len(left) == len(appends) else [appends[place] for place in left]
                with self._alone(state) if attempt >= _ALONE_AFTER else nullcontext():
                    found = self._attempt(state, pieces, sync=sync, wait=wait, again=again, check=check)
                for place, outcome in zip(left, found, strict=True):
                    outcomes[place] = outcome
                settled = [outcome for outcome in outcomes if outcome is not None]
                if len(settled) == len(appends):
                    return settled
                if settled:
                    check = None  # the keys of what is written are known by now
        if any(isinstance(outcome, Appended) for outcome in outcomes):
            raise self._states.unknown(state, Refused(self._backend.where(state.name), errno.EAGAIN))
        raise self._too_busy(state)

    @contextmanager
    def _alone(self, state: LogState) -> Iterator[None]:
        """Keep other writers out; a log that is not there has no lock to take."""
        with ExitStack() as held:
            with suppress(Missing):
                held.enter_context(self._backend.lock(f"log/{state.name}"))
            yield

    def _attempt(
        self,
        state: LogState,
        appends: Sequence[tuple[Batch, int | None]],
        *,
        sync: bool,
        wait: bool,
        again: bool,
        check: object,
    ) -> Sequence[Outcome | None]:
        """Decide, seal and swap once; None for what was not written, as the log moved on and has to be read first.

        What was read before is enough to write by, since the swap fails where the log moved on. It is not enough to refuse by, or
        to report a repeat: others may have appended since, or replaced the log.
        """
        scan = state.scan
        plan = None if again or self._must_look(state, appends) else self._checked_plan(state, scan, appends, check)
        if plan is None or not plan.data:
            if not wait:
                raise Busy(state.name)
            scan = self.ready(state)
            if callable(check):
                check(scan)
            plan = self._plan(state, scan, appends)
            if not plan.data:
                return plan.outcomes
        if scan.fault is not None:
            if not self.cut_tail(state):
                return [None] * len(appends)
            decided = zip(appends, plan.outcomes, strict=True)
            kept = [batch for (batch, _), outcome in decided if isinstance(outcome, Appended) and not outcome.repeated]
            again_planned = self._plan(state, state.scan, [(batch, None) for batch in kept])
            plan = again_planned._replace(outcomes=_filled(plan.outcomes, again_planned.outcomes))
        here = state.scan.here
        expect = here if here.life else None
        reached = self._swap(state, expect, plan.data, plan.tip, plan.keys, sync=sync, wait=wait)
        if reached == here.seq:
            return [None] * len(appends)
        if reached < plan.tip.seq:
            return [one if isinstance(one, Appended) and one.last <= reached else None for one in plan.outcomes]
        self._moved_on(state, plan)
        return plan.outcomes

    def _must_look(self, state: LogState, appends: Sequence[tuple[Batch, int | None]]) -> bool:
        """Tell whether the log has to be read before anything can be planned."""
        scan = state.scan
        if not scan.here.life:
            return appends[0][1] != 0  # a new log is made without looking: only one can make it
        return scan.fault is not None or scan.unended is not None or bool(state.unfinished)

    def _checked_plan(
        self, state: LogState, scan: Scan, appends: Sequence[tuple[Batch, int | None]], check: object
    ) -> _Plan | None:
        """Plan by what was read before; None where a check refuses that."""
        try:
            if callable(check):
                check(scan)
        except IdReused:
            return None
        return self._plan(state, scan, appends)

    def _plan(self, state: LogState, scan: Scan, appends: Sequence[tuple[Batch, int | None]]) -> _Plan:
        """Give each append that can be made its place, one behind the other."""
        here, now = scan.here, clock.now()
        at = now if now > here.at else here.at
        parts: list[bytes] = []
        keys: list[Key] = []
        outcomes: list[Outcome] = []
        for batch, expected_version in appends:
            try:
                repeat = self._find_repeat(state, scan, batch, keys) if batch.ids else None
                if repeat is None:
                    if expected_version is not None or not here.seq:
                        self._check_version(state, here.seq, expected_version)
                    data, after = seal(batch, here, at)
            except (IdReused, VersionConflict, SessionNotFound) as error:
                outcomes.append(error)
                continue
            if repeat is not None:
                outcomes.append(repeat)
                continue
            if batch.ids:
                keys += [(key, here.seq + 1, after.seq) for key in batch.ids]
            outcomes.append(Appended(here.seq + 1, after.seq))
            parts.append(data)
            here = after
        return _Plan(parts[0] if len(parts) == 1 else b"".join(parts), here, keys, outcomes)

    def _find_repeat(self, state: LogState, scan: Scan, batch: Batch, pending: list[Key]) -> Appended | None:
        known = scan.ids
        if self._keeps_tip:
            found = {key: self._backend.find_key(state.name, key) for key in batch.ids}
            known = {key: place for key, place in found.items() if place is not None}
        if pending:
            known = known | {key: (first, last) for key, first, last in pending}
        return find_repeat(state.session_id, batch, known)

    def _check_version(self, state: LogState, version: int, expected_version: int | None) -> None:
        if not version and expected_version != 0:
            raise SessionNotFound(state.session_id)
        if expected_version is not None and expected_version != version:
            raise VersionConflict(state.session_id, expected_version, version, self._since(state, expected_version))

    def _since(self, state: LogState, after: int) -> tuple[str, ...]:
        """Name the types of the events that came in between; none where the log was replaced since it was read."""
        version = state.scan.here.seq
        if after < version:
            with suppress(LogDamaged, SessionNotFound):
                return types_of(self._states.lines(state, max(after, 0), min(version, after + 20)))
        return ()

    def _moved_on(self, state: LogState, plan: _Plan) -> None:
        """Move the scan behind what was written."""
        scan = state.scan
        scan.here, state.end = plan.tip, plan.tip.offset
        for key, first, last in plan.keys:
            scan.ids[key] = first, last
        if _TELLING in plan.data:
            scan.note(codec.lines(plan.data))


def _filled(decided: list[Outcome], made: list[Outcome]) -> list[Outcome]:
    """Put the places that appends have at last where they were decided on."""
    rest = iter(made)
    return [next(rest) if isinstance(one, Appended) and not one.repeated else one for one in decided]
