"""Appending to one log: decide, then write, in a compare-and-swap loop on the hash of its last event."""

import errno
from collections import ChainMap
from collections.abc import Iterator, Sequence
from contextlib import contextmanager, nullcontext, suppress
from typing import NamedTuple

from eventstore.errors import (
    EventStoreError,
    IdReused,
    LogDamaged,
    OutcomeUnknown,
    SessionNotFound,
    VersionConflict,
)
from eventstore.log.base import Appended, Outcome, types_of
from eventstore.log.batch import Batch, find_repeat, refuse_known, seal
from eventstore.log.healing import Healer
from eventstore.log.port import Key, Missing, Refused
from eventstore.log.state import LogState
from eventstore.record import clock, codec
from eventstore.record.scan import Scan, Tip

_ATTEMPTS = 100
_ALONE_AFTER = 3  # lost attempts, before the lock is held for one complete attempt


class Plan(NamedTuple):
    """Lines to write in one call, and the outcome of each of several appends if the write succeeds."""

    data: bytes
    tip: Tip
    keys: list[Key]
    outcomes: list[Outcome]


class Appender(Healer):
    """Appends to the logs of `States`. The caller holds the log's `writing`."""

    def where(self, state: LogState) -> str:
        """Return the place of a log, for error texts."""
        return self._backend.where(state.name)

    def append(
        self, state: LogState, appends: Sequence[tuple[Batch, int | None]], *, sync: bool = True
    ) -> list[Outcome]:
        """Append several batches, each with the version it expects, in one write; return the outcome of each."""
        try:
            outcomes = self._append(state, appends, sync=sync or not self._syncs_apart)
        except (EventStoreError, ValueError) as error:
            return [error] * len(appends)
        if sync and self._syncs_apart:
            try:
                self.sync(state)
            except OutcomeUnknown as failed:
                outcomes = [failed if isinstance(one, Appended) else one for one in outcomes]
        return outcomes

    def sync(self, state: LogState, tip: Tip | None = None) -> None:
        """Return when a log is durable up to a tip, or to its end, as the level asks. Raises OutcomeUnknown."""
        try:
            self._backend.sync(state.name, tip or state.scan.here)
        except Refused as error:
            raise self._states.unknown(state, error) from error
        except Missing:  # it was deleted in the meantime, with the appended events
            pass

    def extend(self, state: LogState, batches: Sequence[Batch], expected_version: int) -> Appended:
        """Append several batches of one caller, whose keys are all new, in one write. Raises as `EventLog.extend` does."""

        def check(scan: Scan) -> None:
            refuse_known(state.session_id, batches, scan.ids)
            self._check_version(
                state, scan.here.seq, expected_version
            )  # the expected version is that of all batches, not of the first

        appends: list[tuple[Batch, int | None]] = [
            (batches[0], expected_version),
            *((one, None) for one in batches[1:]),
        ]
        made: list[Appended] = []
        for outcome in self._append(state, appends, sync=True, check=check):
            if not isinstance(outcome, Appended):
                raise outcome
            made.append(outcome)
        if self._syncs_apart:
            self.sync(state)
        return Appended(made[0].first, made[-1].last)

    def write(
        self, state: LogState, events: Batch, *, expected_version: int | None = None, sync: bool = True
    ) -> Appended:
        """Append one batch to an existing log, of any version if none is expected. Raises as `EventLog.append` does."""
        (outcome,) = self.append(state, [(events, expected_version)], sync=sync)
        if isinstance(outcome, Appended):
            return outcome
        raise outcome

    def write_sealed(self, state: LogState, data: bytes, tip: Tip, keys: Sequence[Key]) -> int:
        """Append lines that were sealed elsewhere, as durable as the level asks; return the number of the last written line."""
        reached = self._swap(state, state.scan.here, data, tip, keys, sync=not self._syncs_apart)
        if reached == tip.seq and self._syncs_apart:
            self.sync(state, tip)
        return reached

    def begin(self, state: LogState, here: Tip, batch: Batch) -> Appended:
        """Begin a log after a position of another one. Raises VersionConflict if it exists already."""
        with state.scanning:
            state.forget()
            data, tip = seal(batch, here, max(clock.now(), here.at))
            for _ in range(_ATTEMPTS):
                if self._swap(state, None, data, tip, [], sync=True) == tip.seq:
                    break
                scan = self.ready(state)
                if scan.here.seq:
                    raise VersionConflict(state.session_id, 0, scan.here.seq, self._since(state, state.inherited))
                self._drop_fragment(state)
            else:
                raise self.too_busy(state)
            state.forget()  # its first line names the log that it continues
        if self._syncs_apart:
            self.sync(state, tip)
        return Appended(here.seq + 1, tip.seq)

    def too_busy(self, state: LogState) -> EventStoreError:
        """Make the error for a step that others came before, again and again."""
        where = self._backend.where(state.name)
        return self._states.refused(state, Refused(where, errno.EAGAIN, "other writers append all the time"))

    def _append(
        self,
        state: LogState,
        appends: Sequence[tuple[Batch, int | None]],
        *,
        sync: bool,
        check: object = None,
    ) -> list[Outcome]:
        outcomes: list[Outcome | None] = [None] * len(appends)
        with state.scanning:
            for attempt in range(_ATTEMPTS):
                again = attempt > 0 or check is not None
                left = [place for place, outcome in enumerate(outcomes) if outcome is None]
                pieces = appends if len(left) == len(appends) else [appends[place] for place in left]
                try:
                    with self._alone(state) if attempt >= _ALONE_AFTER else nullcontext():
                        found = self._attempt(state, pieces, sync=sync, again=again, check=check)
                except (EventStoreError, ValueError) as error:
                    if len(left) == len(appends):
                        raise
                    return self._with_error(state, outcomes, error)
                for place, outcome in zip(left, found, strict=True):
                    outcomes[place] = outcome
                settled = [outcome for outcome in outcomes if outcome is not None]
                if len(settled) == len(appends):
                    return settled
                if settled:
                    check = None  # the keys of the written lines are known here
        if any(isinstance(outcome, Appended) for outcome in outcomes):
            raise self._states.unknown(state, Refused(self._backend.where(state.name), errno.EAGAIN))
        raise self.too_busy(state)

    def _with_error(
        self, state: LogState, outcomes: Sequence[Outcome | None], error: EventStoreError | ValueError
    ) -> list[Outcome]:
        """Return the outcomes of appends of which only some were written before an error.

        Of those, `sync` can flush what was read again.
        """
        unknown = self._states.unknown(state, Refused(self._backend.where(state.name), errno.EIO))
        end = state.scan.here.seq
        known = [unknown if isinstance(one, Appended) and one.last > end else one for one in outcomes]
        return [error if one is None else one for one in known]

    @contextmanager
    def _alone(self, state: LogState) -> Iterator[None]:
        """Keep other writers out; a log that does not exist has no lock to take."""
        is_held = False
        try:
            with self._backend.lock(f"log/{state.name}"):
                is_held = True
                yield
        except Missing:
            if is_held:
                raise
        if not is_held:
            yield

    def _attempt(
        self,
        state: LogState,
        appends: Sequence[tuple[Batch, int | None]],
        *,
        sync: bool,
        again: bool,
        check: object,
    ) -> Sequence[Outcome | None]:
        """Decide, seal and swap once; None for appends that were not written because the log has moved on and must be read first.

        The earlier read is enough for a write: the swap fails if the log has moved on. It is not enough for a refusal or for
        the report of a repeat: other writers may have appended since, or replaced the log.
        """
        scan = state.scan
        plan = None if again or self._must_look(state, appends) else self._checked_plan(state, scan, appends, check)
        if plan is None or not plan.data:
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
            kept = [batch for (batch, _), outcome in decided if isinstance(outcome, Appended)]
            again_planned = self._plan(state, state.scan, [(batch, None) for batch in kept])
            plan = again_planned._replace(outcomes=_filled(plan.outcomes, again_planned.outcomes))
        here = state.scan.here
        expect = here if here.life else None
        reached = self._swap(state, expect, plan.data, plan.tip, plan.keys, sync=sync)
        if reached == here.seq:
            return [None] * len(appends)
        if reached < plan.tip.seq:
            return [one if isinstance(one, Appended) and one.last <= reached else None for one in plan.outcomes]
        self._moved_on(state, plan)
        return plan.outcomes

    def _must_look(self, state: LogState, appends: Sequence[tuple[Batch, int | None]]) -> bool:
        """Check whether the log must be read before planning."""
        scan = state.scan
        if not scan.here.life:
            return appends[0][1] != 0  # a new log is made without reading: only one writer can make it
        return scan.fault is not None or scan.unended is not None or bool(state.unfinished)

    def _checked_plan(
        self, state: LogState, scan: Scan, appends: Sequence[tuple[Batch, int | None]], check: object
    ) -> Plan | None:
        """Plan from the earlier read; None if a check refuses that."""
        try:
            if callable(check):
                check(scan)
        except IdReused:
            return None
        return self._plan(state, scan, appends)

    def _plan(self, state: LogState, scan: Scan, appends: Sequence[tuple[Batch, int | None]]) -> Plan:
        """Give each possible append its position, one after the other."""
        here, now = scan.here, clock.now()
        at = now if now > here.at else here.at
        parts: list[bytes] = []
        new: dict[str, tuple[int, int]] = {}
        outcomes: list[Outcome] = []
        for batch, expected_version in appends:
            try:
                repeat = self._find_repeat(state, scan, batch, new) if batch.ids else None
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
                new.update(dict.fromkeys(batch.ids, (here.seq + 1, after.seq)))
            outcomes.append(Appended(here.seq + 1, after.seq))
            parts.append(data)
            here = after
        keys = [(key, *place) for key, place in new.items()]
        return Plan(parts[0] if len(parts) == 1 else b"".join(parts), here, keys, outcomes)

    def _find_repeat(
        self, state: LogState, scan: Scan, batch: Batch, new: dict[str, tuple[int, int]]
    ) -> Appended | None:
        # `scan.ids` has all keys up to the end that the swap expects: if it succeeds, the log has no others
        return find_repeat(state.session_id, batch, ChainMap(new, scan.ids) if new else scan.ids)

    def _check_version(self, state: LogState, version: int, expected_version: int | None) -> None:
        if not version and expected_version != 0:
            raise SessionNotFound(state.session_id, appending=True)
        if expected_version is not None and expected_version != version:
            raise VersionConflict(state.session_id, expected_version, version, self._since(state, expected_version))

    def _since(self, state: LogState, after: int) -> tuple[str, ...]:
        """Return the types of the events that came in between; none if the log was replaced since it was read."""
        version = state.scan.here.seq
        if after < version:
            with suppress(LogDamaged, SessionNotFound):
                return types_of(self._states.lines(state, max(after, 0), min(version, after + 20)))
        return ()

    def _moved_on(self, state: LogState, plan: Plan) -> None:
        """Move the scan to the end of the written lines."""
        scan = state.scan
        scan.here, state.end = plan.tip, plan.tip.offset
        for key, first, last in plan.keys:
            scan.ids[key] = first, last
        if codec.REDACTION in plan.data:
            scan.note(codec.lines(plan.data))


def _filled(decided: list[Outcome], made: list[Outcome]) -> list[Outcome]:
    """Fill the final positions of appends into their outcomes."""
    rest = iter(made)
    return [next(rest) if isinstance(one, Appended) else one for one in decided]
