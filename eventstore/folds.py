"""Folds of many sessions, each gone on from where it was left."""

import threading
from collections import OrderedDict
from contextlib import suppress
from dataclasses import dataclass
from typing import Generic, TypeVar

from eventstore.events import EventRedacted
from eventstore.log.base import EventLog, Head
from projections.projection import Projection, Told

S = TypeVar("S")


@dataclass(frozen=True, slots=True)
class Fold(Generic[S]):
    """A state, and the end of the log that it stands for. The state is shared: nobody changes it."""

    head: Head
    state: S


class _Redacted(Exception):
    """Something was redacted that a known state may hold: it is to be folded anew."""


def _pass(event: Told) -> Told:
    if isinstance(event, EventRedacted):
        raise _Redacted
    return event


class Folds(Generic[S]):
    """The states of sessions under one projection. Safe for threads.

    Those asked for last are kept, as long as their sessions have no more than `most_events` events together.
    """

    def __init__(self, log: EventLog, projection: Projection[S], most_events: int) -> None:
        self._log, self._projection, self._most_events = log, projection, most_events
        self._kept: OrderedDict[str, Fold[S]] = OrderedDict()
        self._events = 0
        self._mutex = threading.Lock()

    def get(self, session_id: str) -> Fold[S]:
        """Fold a session up to its end. Raises SessionNotFound, LogDamaged."""
        head = self._log.head(session_id)
        with self._mutex:
            known = self._kept.get(session_id)
        if known is not None and known.head == head:
            return known
        found = Fold(head, self._go_on(session_id, known, head))
        self._keep(session_id, found)
        return found

    def get_at(self, session_id: str, version: int) -> S:
        """Fold a session up to a version. Raises SessionNotFound, LogDamaged."""
        found = self.get(session_id) if self._log.head(session_id).version == version else None
        return self._fold(session_id, version) if found is None or found.head.version != version else found.state

    def forget(self, session_id: str) -> None:
        """Drop what is kept of a session."""
        with self._mutex:
            self._drop(session_id)

    def _go_on(self, session_id: str, known: Fold[S] | None, head: Head) -> S:
        """Fold what came after a known state, if the log still is the one that state was folded from."""
        if known is not None and known.head.version < head.version:
            last = next(self._log.read(session_id, known.head.version - 1, known.head.version))
            if last.hash == known.head.hash:
                with suppress(_Redacted):
                    news = self._log.skim(session_id, known.head.version, head.version)
                    return self._projection.fold(map(_pass, news), known.state)
        return self._fold(session_id, head.version)

    def _fold(self, session_id: str, version: int) -> S:
        return self._projection.fold(self._log.skim(session_id, 0, version))

    def _keep(self, session_id: str, found: Fold[S]) -> None:
        with self._mutex:
            self._drop(session_id)
            self._kept[session_id] = found
            self._events += found.head.version
            while self._events > self._most_events:
                self._drop(next(iter(self._kept)))

    def _drop(self, session_id: str) -> None:
        gone = self._kept.pop(session_id, None)
        if gone is not None:
            self._events -= gone.head.version
