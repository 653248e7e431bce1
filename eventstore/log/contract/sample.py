"""What the contracts of logs share: events to append, long logs, and waiting for a change."""

import time
from collections.abc import Callable

from eventstore.events import Event, MessageAdded, SessionCreated
from eventstore.log.base import Head
from eventstore.log.engine import EventLog
from eventstore.log.watch import Watch
from eventstore.record import codec


def said(text: str, key: str | None = None) -> Event:
    """Make a message of the user."""
    return MessageAdded(role="user", content=text, id=key)


def long_log(log: EventLog, name: str) -> list[bytes]:
    """Begin a session that is read in many pieces: single events, batches, long lines; return its lines."""
    log.append(name, [SessionCreated()], expected_version=0)
    log.append(name, [said("a"), said("b"), said("c")])
    log.append(name, [said("x" * 300_000), said("y" * 300_000)])
    log.extend(name, [[said(f"{n}")] for n in range(600)], expected_version=6)
    return list(log.lines(name))


def resumed(log: EventLog, name: str, place: Head) -> tuple[list[bytes], Head]:
    """Read on from a place to the end, piece by piece; return the lines and where they end."""
    found: list[bytes] = []
    while True:
        data, place = log.resume(name, place)
        if not data:
            return found, place
        found += codec.lines(data)


def await_change(watch: Watch, name: str, change: Callable[[], object]) -> None:
    """Make a change, and wait until a quiet watch reports it."""
    while watch.wait(0.3) != set():
        pass
    change()
    until = time.monotonic() + 60
    while time.monotonic() < until:
        told = watch.wait(1)
        if told is None or name in told:
            return
    raise AssertionError(f"no watch reported {name}")


def drained(watch: Watch) -> None:
    """Wait until a watch returns though nothing has changed and no time is up."""
    while watch.wait(60) != set():
        pass
