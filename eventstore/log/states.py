"""The logs of one engine object: their states, kept for those used last, and how forks hang together."""

import errno
import os
import threading
from collections import OrderedDict
from collections.abc import Iterator
from typing import NamedTuple
from weakref import WeakSet

from eventstore.errors import (
    AppendRefused,
    EventStoreError,
    HandlePoisoned,
    LogDamaged,
    OutcomeUnknown,
    ReadRefused,
    SessionNotFound,
)
from eventstore.ids import check_log_name
from eventstore.log.port import Backend, Missing, NotStored, Poisoned, Refused, Unclear
from eventstore.log.state import LogState, whole_lines
from eventstore.record.fork_point import ForkPoint

_KEPT_STATES = 65_536
_ATTEMPTS = 5


class Span(NamedTuple):
    """Lines `after` + 1 to `upto` of what one log says, which are all its own."""

    log: str
    after: int
    upto: int


class States:
    """The logs of a backend, each verified once per byte as long as its state is kept."""

    def __init__(self, backend: Backend, max_event_bytes: int) -> None:
        self.backend, self.max_event_bytes = backend, max_event_bytes
        self.known: OrderedDict[str, LogState] = OrderedDict()
        self._mutex = threading.Lock()
        _living.add(self)

    def of(self, name: str) -> LogState:
        """Find or make the state of a log. Raises InvalidSessionId."""
        try:
            state = self.known[name]
            self.known.move_to_end(name)
        except (KeyError, TypeError):
            pass
        else:
            return state
        check_log_name(name)
        with self._mutex:
            found = self.known.get(name)
            if found is None:
                found = self.known[name] = LogState(self.backend, name, self.max_event_bytes)
                if len(self.known) > _KEPT_STATES:
                    self._evict()
            return found

    def _evict(self) -> None:
        """Forget the logs used longest ago that nobody appends to."""
        for name, state in list(self.known.items())[: _KEPT_STATES // 8]:
            if not state.writing.locked():
                del self.known[name]

    def drop(self, name: str) -> None:
        """Forget what is known of a log: it is gone, or has another name."""
        with self._mutex:
            self.known.pop(name, None)

    def clear(self) -> None:
        """Forget everything, locks included: after a fork of the process."""
        self._mutex = threading.Lock()
        self.known.clear()

    def verified(self, name: str) -> LogState:
        """Return the state of a log that has events, verified to its end; damage is for the caller to raise.

        Raises SessionNotFound, and LogDamaged where not one event can be read.
        """
        state = self.of(name)
        with state.scanning:
            try:
                scan = state.catch_up()
            except Missing:
                state.forget()
                raise SessionNotFound(state.session_id) from None
            if scan.here.seq == state.inherited and scan.here.offset == 0:
                raise state.damage() or SessionNotFound(state.session_id)
        return state

    # --- forks

    def lineage(self, state: LogState) -> Iterator[tuple[LogState, ForkPoint | None]]:
        """Walk from a verified log to those it goes on from, each with its fork point; the last has none.

        Each parent is verified, and checked to hold the event that the child goes on from. Raises LogDamaged where a parent is
        gone, is another, or leads in a circle.
        """
        seen = {state.name}
        yield state, state.fork
        wanted, child = state.fork, state
        while wanted is not None:
            if wanted.parent in seen:
                raise self.without_past(child, wanted)
            seen.add(wanted.parent)
            try:
                parent = self.verified(wanted.parent)
            except SessionNotFound:
                raise self.without_past(child, wanted) from None
            if wanted.seq > parent.inherited:  # its own: it must be that very event
                with parent.scanning:
                    fits = wanted.seq <= parent.scan.here.seq and parent.digest_at(wanted.seq) == wanted.digest
            else:
                fits = parent.fork is not None and (wanted.seq < parent.fork.seq or wanted.digest == parent.fork.digest)
            if not fits:
                raise self.without_past(child, wanted)
            yield parent, parent.fork
            if parent.fork is None:
                return
            if wanted.seq < parent.fork.seq:  # older still: look for it where the parent has it from
                wanted = wanted._replace(parent=parent.fork.parent)
            else:
                wanted, child = parent.fork, parent

    def spans(self, state: LogState, after: int, upto: int) -> list[Span]:
        """Part the lines `after` + 1 to `upto` of a log by the logs that hold them, oldest first. Raises as `lineage` does."""
        found: list[Span] = []
        for owner, fork in self.lineage(state):
            lowest = fork.seq if fork else 0
            if upto > max(lowest, after):
                found.append(Span(owner.name, max(lowest, after), upto))
            upto = min(upto, lowest)
            if upto <= after:
                break
        return found[::-1]

    def own_lines(self, span: Span) -> Iterator[bytes]:
        """Stream a span as chunks of whole lines. Raises LogDamaged where lines are gone that were there."""
        state, left = self.of(span.log), span.upto - span.after
        try:
            reading = self.backend.read(span.log, span.after, span.upto)
        except Missing:
            raise SessionNotFound(state.session_id) from None
        for chunk in whole_lines(reading.chunks, left):
            left -= chunk.count(b"\n")
            yield chunk
        if left:
            line, where = span.upto - left + 1, self.backend.where(span.log)
            raise LogDamaged(state.session_id, where, line, 0, "the line is gone since it was read", line - 1)

    def lines(self, state: LogState, after: int, upto: int) -> Iterator[bytes]:
        """Stream lines of a verified log and of what it goes on from, as chunks of whole lines.

        A fork that is made whole meanwhile, because its parent is to go, is read on where it has the lines now.
        """
        attempts = 0
        while after < upto:
            try:
                for span in self.spans(state, after, upto):
                    for chunk in self.own_lines(span):
                        after += chunk.count(b"\n")
                        yield chunk
            except (LogDamaged, SessionNotFound):
                attempts += 1
                if attempts == _ATTEMPTS or not self._was_made_whole(state):
                    raise

    def _was_made_whole(self, state: LogState) -> bool:
        """Look again what a log goes on from; False where that is what was known."""
        before = state.fork
        if before is None:
            return False
        self.verified(state.name)
        return state.fork != before

    def without_past(self, state: LogState, fork: ForkPoint) -> LogDamaged:
        """Make the error for a fork whose parent does not hold what it goes on from."""
        what = f"goes on from event {fork.seq} of session {fork.parent!r}, which is not there"
        return LogDamaged(state.session_id, self.backend.where(state.name), 1, 0, what, 0)

    def unknown(self, state: LogState, error: Refused | ReadRefused) -> OutcomeUnknown:
        """Say that a step failed behind one that was made: what came of the whole is not known."""
        where = error.file if isinstance(error, ReadRefused) else error.where
        return OutcomeUnknown(state.session_id, where, error.errno or errno.EIO)

    def refused(self, state: LogState, error: Refused) -> EventStoreError:
        """Say what an error of the backend means for an append."""
        if isinstance(error, NotStored | Unclear):
            return OutcomeUnknown(state.session_id, error.where, error.errno)
        if isinstance(error, Poisoned):
            return HandlePoisoned(state.session_id, error.where, error.errno)
        return AppendRefused(state.session_id, error.where, error.errno or errno.EIO)


_living: WeakSet[States] = WeakSet()


def _begin_in_child() -> None:
    """Forget all states in a forked child: their locks may be held by threads that it does not have."""
    for states in list(_living):
        states.clear()


if hasattr(os, "register_at_fork"):
    os.register_at_fork(after_in_child=_begin_in_child)
