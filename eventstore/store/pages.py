"""What lists of sessions are made of: pages, and what becomes of a session that cannot be read."""

import warnings
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from typing import TypeAlias

from eventstore.errors import LogDamaged, NoSuchMoment
from eventstore.store.as_of import At, as_text
from projections.models import SessionMetadata

Track: TypeAlias = Callable[[Sequence[str]], Iterable[str]]
"""Gives ids back one by one, as what is to be done with each is done: a progress bar, say."""


def warn_damaged(damage: LogDamaged) -> None:
    """Warn of a session that cannot be read and was left out of an answer."""
    warnings.warn(str(damage), RuntimeWarning, stacklevel=2)


@dataclass(frozen=True)
class Page:
    """Some of the sessions that fit, and the cursor that the next page is asked for with; None behind the last one."""

    sessions: list[SessionMetadata]
    cursor: str | None


def as_time(at: At) -> str:
    """Check that a moment is a time: a version is one session's. Raises NoSuchMoment."""
    if isinstance(at, int):
        raise NoSuchMoment(at, "sessions are listed as of a time; a version is one session's")
    return as_text(at)
