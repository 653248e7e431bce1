"""As of a moment: a version or a time, as the number of events until then."""

from collections.abc import Iterator
from datetime import UTC, datetime, timedelta
from typing import TypeAlias

from eventstore.errors import NoSuchMoment
from eventstore.events import Event, RedactedEvent
from eventstore.log.engine import EventLog
from eventstore.record import clock
from eventstore.record.message_run import Message, MessageRun

At: TypeAlias = int | str | datetime
"""A version (the number of events), or a time: a datetime or RFC 3339 text; without a zone it is local time."""


def version_at(log: EventLog, session_id: str, at: At, *, recorded: bool = False) -> int:
    """Return the number of a session's events at a moment; 0 before its first event.

    The answer is always a prefix of the log: it ends before the first event of a later time. `recorded` compares the times of
    writing instead of the times of happening. A redacted event, of which only the first is left, ends it only if what follows
    is later too. Raises NoSuchMoment for an invalid moment and for a version that the session
    has not reached, SessionNotFound, LogDamaged.
    """
    if isinstance(at, int) and not isinstance(at, bool):
        version = log.head(session_id).version
        if not 0 <= at <= version:
            raise NoSuchMoment(at, f"session {session_id!r} has {version} event{'' if version == 1 else 's'}")
        return at
    moment = as_text(at)
    version = 0
    for seq, time, is_known in _times(log, session_id, moment, recorded=recorded):
        if time <= moment:
            version = seq
        elif is_known:
            break
    return version


def as_text(at: At, argument: str = "") -> str:
    """Return a time in the format of records. Raises NoSuchMoment for an invalid one, with the argument that it is given for."""
    try:
        if isinstance(at, datetime):
            return clock.to_text(at)
        if isinstance(at, str):
            return clock.to_text(clock.to_datetime(at))
    except ValueError:
        pass
    raise NoSuchMoment(at, "it is neither a number of events nor an RFC 3339 time", argument)


def ago(length: timedelta) -> datetime:
    """Return the UTC time `length` ago; the first possible time where that would be before the year 1."""
    try:
        return datetime.now(UTC) - length
    except OverflowError:
        return datetime.min.replace(tzinfo=UTC)


def _times(log: EventLog, session_id: str, moment: str, *, recorded: bool) -> Iterator[tuple[int, str, bool]]:
    """Stream numbers of events, their times, and whether these are known; of a run of messages before `moment`, only the last.

    Of a redacted event only the time of writing is known: it happened then, or before.
    """
    for one in log.skim(session_id):
        if not isinstance(one, MessageRun):
            yield one.seq, _time(one, recorded=recorded), recorded or not isinstance(one, RedactedEvent)
        elif one.until <= moment:
            yield one.last, one.until, True
        else:
            for message in one.read():
                yield message.seq, _time(message, recorded=recorded), True


def _time(event: Event | Message, *, recorded: bool) -> str:
    return event.at if recorded else event.time
