"""Pages of lists, and the warning for a session that cannot be read."""

import warnings
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from typing import TypeAlias

from eventstore.errors import LogDamaged, NoSuchMoment
from eventstore.store.as_of import At, as_text
from projections.models import SessionMetadata

Track: TypeAlias = Callable[[Sequence[str]], Iterable[str]]
"""Yields the ids one by one, when each is to be processed: a progress bar, for example."""


def warn_damaged(damage: LogDamaged) -> None:
    """Warn of a session that cannot be read and is missing in an answer."""
    warnings.warn(str(damage), RuntimeWarning, stacklevel=2)


@dataclass(frozen=True)
class Page:
    """One page of the sessions that match, and the cursor of the next page; None after the last page.

    `total` is the number of sessions on all pages, if it was requested. `previous` is the cursor of the page before, whose last
    session comes right before the first one of this page; None where the list begins.
    """

    sessions: list[SessionMetadata]
    cursor: str | None
    total: int | None = None
    previous: str | None = None


def as_time(at: At) -> str:
    """Return a moment as text. Raises NoSuchMoment for a version, which belongs to one session."""
    if isinstance(at, int):
        raise NoSuchMoment(at, "sessions are listed as of a time; a version is one session's")
    return as_text(at)
