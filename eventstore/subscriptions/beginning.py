"""Where a subscription begins: at a cursor, after a number of events, now, or at a time."""

from collections.abc import Iterable
from contextlib import suppress

from eventstore.errors import CursorRefused, LogDamaged, SessionNotFound
from eventstore.ids import check_session_id
from eventstore.log.base import BEGINNING, Head
from eventstore.log.engine import EventLog
from eventstore.record import codec
from eventstore.subscriptions.cursor import Cursor, Places, parse

NOW = "now"


def cursor_of_all(after: str | int | None) -> Cursor | None:
    """Read where a subscription to all sessions begins; None: before all events, or according to `skipped`.

    Raises CursorRefused.
    """
    if after is None or after == NOW:
        return None
    if isinstance(after, int):
        raise CursorRefused(str(after), "is a number of events, which only one session has")
    cursor = parse(after)
    if cursor.mark is None:
        raise CursorRefused(after, "is one of one session")
    return cursor


def places_of_one(log: EventLog, session_id: str, after: str | int | None) -> Places:
    """Find where a subscription to one session begins. Raises CursorRefused, SessionNotFound, LogDamaged, LogRolledBack."""
    check_session_id(session_id)
    if isinstance(after, int):
        return _behind(log, session_id, after)
    log.own_beginning(session_id)  # raises where there is no such session
    if after is None or after == NOW:
        return {}
    cursor = parse(after)
    if cursor.mark is not None:
        raise CursorRefused(after, "is one of all sessions")
    if session_id not in cursor.moves:
        raise CursorRefused(after, f"is one of session {next(iter(cursor.moves))!r}")
    return cursor.moves


def _behind(log: EventLog, session_id: str, count: int) -> Places:
    log.head(session_id)
    if count == 0:
        return {}
    last = next(log.read(session_id, count - 1, count), None) if count > 0 else None
    if last is None:
        raise CursorRefused(str(count), f"is no number of events that session {session_id!r} has had")
    return {session_id: Head(count, "", last.hash, 0)}


def first_place(log: EventLog, session_id: str, since: str | None, *, is_alone: bool) -> Head:
    """Find where a session begins: with what was recorded since a time, or with its first event; of all, its first own event.

    Raises SessionNotFound, and LogDamaged if not even the beginning can be read.
    """
    if since is not None:
        return in_front_of(log, session_id, since, is_alone=is_alone)
    return BEGINNING if is_alone else log.own_beginning(session_id)


def in_front_of(log: EventLog, session_id: str, since: str | None, *, is_alone: bool) -> Head:
    """Find the place before the first event recorded since a time; None means the end. Raises as `first_place` does."""
    with suppress(LogDamaged):
        last = log.tail_position(session_id)
        if since is None or last.at < since:
            return last
    place = first_place(log, session_id, None, is_alone=is_alone)
    with suppress(LogDamaged):
        while True:
            data, end = log.resume(session_id, place)
            offset = max(end.size_bytes - len(data), 0)
            for event, line in zip(codec.decode_lines(data), codec.lines(data), strict=True):
                if since is not None and event.at >= since:
                    return place
                offset += len(line) + 1
                place = Head(event.seq, event.at, event.hash, offset)
            if not data:
                break
    return place


def skipped(log: EventLog, session_ids: Iterable[str], since: str | None, *, is_alone: bool) -> Places:
    """Find where sessions begin when all that was recorded before a time is left out; None means now."""
    found: Places = {}
    for one in session_ids:
        with suppress(SessionNotFound, LogDamaged):  # it is reported when it is read
            found[one] = in_front_of(log, one, since, is_alone=is_alone)
    return found
