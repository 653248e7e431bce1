"""What lists of sessions are made of: pages, the sizes of logs, and what becomes of a session that cannot be read."""

import time
import warnings
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from typing import TypeAlias

from eventstore.derived.catalog import Sizes
from eventstore.errors import LogDamaged, NoSuchMoment, SessionNotFound
from eventstore.log.engine import EventLog
from eventstore.store.as_of import At, as_text
from projections.models import SessionMetadata

Track: TypeAlias = Callable[[Sequence[str]], Iterable[str]]
"""Gives ids back one by one, as what is to be done with each is done: a progress bar, say."""


def tell_damage(damage: LogDamaged) -> None:
    """Warn of a session that cannot be read and was left out of an answer."""
    warnings.warn(str(damage), RuntimeWarning, stacklevel=2)


@dataclass(frozen=True)
class Page:
    """Some of the sessions that fit, and the cursor that the next page is asked for with; None behind the last one."""

    sessions: list[SessionMetadata]
    cursor: str | None


class LogSizes(Sizes):
    """The sizes of logs that are no files: all are looked at each time."""

    def __init__(self, log: EventLog) -> None:
        self._log = log

    def state(self) -> str:
        return self.boot()

    def boot(self) -> str:
        return str(time.time_ns())

    def all(self) -> dict[str, int]:
        found = {name: self.size(name) for name in self._log.ids()}
        return {name: size for name, size in found.items() if size is not None}

    def size(self, session_id: str) -> int | None:
        try:
            return self._log.head(session_id).size_bytes
        except (SessionNotFound, LogDamaged):
            return None


def as_time(at: At) -> str:
    """Check that a moment is a time: a version is one session's. Raises NoSuchMoment."""
    if isinstance(at, int):
        raise NoSuchMoment(at, "sessions are listed as of a time; a version is one session's")
    return as_text(at)
