"""Repair a damaged log: move everything after the damage to quarantine, and append again what can be proven."""

import errno
from collections.abc import Sequence

from msgspec.structs import replace

from eventstore.errors import AppendRefused, HandlePoisoned, OutcomeUnknown, ReadRefused, SessionNotFound
from eventstore.events import Event, UnknownEvent
from eventstore.log.append import Appender
from eventstore.log.base import Repair
from eventstore.log.batch import prepare
from eventstore.log.port import Backend, Missing, Moved, Refused, Unclear
from eventstore.log.state import LogState, numbered
from eventstore.record import codec
from eventstore.record.salvage import Remnant, salvage

_BATCH = 200


def plan_repair(appender: Appender, backend: Backend, state: LogState, *, dry_run: bool) -> Repair | None:
    """Plan how to repair a log, or do it; None if nothing is wrong. Raises SessionNotFound."""
    with backend.lock(f"log/{state.name}"), state.scanning:
        try:
            scan = state.catch_up()
        except Missing:
            raise SessionNotFound(state.session_id) from None
        fault = scan.fault
        if fault is None:
            return None
        found = [] if fault.torn else _behind(backend, state)
        restored = restorable(found)
        plan = Repair(
            state.session_id,
            fault.line,
            scan.here.offset,
            fault.reason,
            state.end - scan.here.offset,
            len(restored),
            len(found) - len(restored),
            scan.here.seq,
        )
        if not dry_run:
            reason = "torn tail" if fault.torn else f"damage: line {fault.line} {fault.reason}"
            _carry_out(appender, state, reason, restored)
    return plan


def _carry_out(appender: Appender, state: LogState, reason: str, restored: Sequence[Event]) -> None:
    """Cut, and append what can be restored. Raises AppendRefused if nothing was cut, else OutcomeUnknown."""
    where = appender.where(state)
    try:
        appender.cut(state, reason)
        for start in range(0, len(restored), _BATCH):
            batch = prepare(restored[start : start + _BATCH], codec.MAX_EVENT_BYTES * 2)
            appender.write(state, batch)
    except Unclear as error:
        raise OutcomeUnknown(state.session_id, error.where, error.errno) from error
    except Refused as error:  # only the cut raises it
        raise AppendRefused(state.session_id, error.where, error.errno or errno.EIO) from error
    except (Moved, Missing, AppendRefused, ReadRefused, HandlePoisoned, SessionNotFound) as error:
        raise OutcomeUnknown(state.session_id, where, errno.EAGAIN) from error


def _behind(backend: Backend, state: LogState) -> list[Remnant]:
    lines = numbered(backend.read(state.name).chunks, codec.MAX_EVENT_BYTES)
    found = salvage(state.first_digest, lines)
    return [one for one in found if one.offset_bytes >= state.scan.here.offset]


def restorable(remnants: Sequence[Remnant]) -> list[Event]:
    """Select the records after damage that can be appended again: proven or linked ones of types that this release knows."""
    found = (remnant.event() for remnant in remnants if remnant.standing in ("linked", "proven"))
    return [
        replace(event, occurred_at=event.time)
        for event in found
        if event is not None and not isinstance(event, UnknownEvent)
    ]
