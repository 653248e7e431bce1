"""The logs of one engine object: the states of the last used ones, and how forks depend on parents."""

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
from eventstore.log.state import LogState, first_lines, whole_lines
from eventstore.record import hash_chain
from eventstore.record.fork_point import ForkPoint

_KEPT_STATES = 65_536
_ATTEMPTS = 5


class Span(NamedTuple):
    """Lines `after` + 1 to `upto` of one log, all of them its own, and the life in which they were verified, if they were."""

    log: str
    after: int
    upto: int
    life: str


class _Replaced(Exception):
    """Another life of the log is there than the one that was verified."""


class States:
    """The logs of a backend, each verified once per byte as long as its state is kept."""

    def __init__(self, backend: Backend, max_event_bytes: int) -> None:
        self.backend, self.max_event_bytes = backend, max_event_bytes
        self.known: OrderedDict[str, LogState] = OrderedDict()
        self._mutex = threading.Lock()
        _living.add(self)

    def of(self, name: str) -> LogState:
        """Return the state of a log; make it if there is none. Raises InvalidSessionId."""
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
        """Forget the least recently used logs, except those being appended to."""
        for name, state in list(self.known.items())[: _KEPT_STATES // 8]:
            if not state.writing.locked():
                del self.known[name]

    def drop(self, name: str) -> None:
        """Forget what is known about a log: it was deleted, or has another name."""
        with self._mutex:
            self.known.pop(name, None)

    def clear(self) -> None:
        """Forget everything, including locks: after a fork of the process."""
        self._mutex = threading.Lock()
        self.known.clear()

    def verified(self, name: str) -> LogState:
        """Return the state of a log that has events, verified to its end; the caller raises damage.

        Raises SessionNotFound, and LogDamaged if no event can be read.
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
        """Walk from a verified log through its parents, each with its fork point; the last has none.

        Each parent is verified, and must have the event at the child's fork point. Raises LogDamaged if a parent is missing, is
        another log, or leads in a circle.
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
            if wanted.seq > parent.inherited:  # its own event: it must be exactly that one
                with parent.scanning:
                    fits = wanted.seq <= parent.scan.here.seq and parent.digest_at(wanted.seq) == wanted.digest
            else:
                fits = parent.fork is not None and (wanted.seq < parent.fork.seq or wanted.digest == parent.fork.digest)
            if not fits:
                raise self.without_past(child, wanted)
            yield parent, parent.fork
            if parent.fork is None:
                return
            if wanted.seq < parent.fork.seq:  # older: look for it in the parent's parent
                wanted = wanted._replace(parent=parent.fork.parent)
            else:
                wanted, child = parent.fork, parent

    def spans(self, state: LogState, after: int, upto: int) -> list[Span]:
        """Divide the lines `after` + 1 to `upto` of a log by the logs that hold them, oldest first. Raises as `lineage` does."""
        found: list[Span] = []
        for owner, fork in self.lineage(state):
            lowest = fork.seq if fork else 0
            if upto > max(lowest, after):
                with owner.scanning:
                    here = owner.scan.here
                    found.append(Span(owner.name, max(lowest, after), upto, here.life if here.seq >= upto else ""))
            upto = min(upto, lowest)
            if upto <= after:
                break
        return found[::-1]

    def _own_lines(self, span: Span) -> Iterator[tuple[int, bytes]]:
        """Stream a span as chunks of complete lines, each with the number of its last line.

        Raises LogDamaged if lines that existed are missing, _Replaced.
        """
        state, after = self.of(span.log), span.after
        try:
            reading = self.backend.read(span.log, span.after, span.upto)
        except Missing:
            raise SessionNotFound(state.session_id) from None
        if reading.life != span.life:
            raise _Replaced
        for chunk in whole_lines(reading.chunks):
            last = hash_chain.last_number(chunk)
            if last is None or last >= span.upto:
                count, wanted = chunk.count(b"\n"), span.upto - after
                if count > wanted:
                    chunk, count = first_lines(chunk, wanted), wanted
                last = after + count
            after = last
            yield after, chunk
            if after >= span.upto:
                return
        raise self._missing(state, after + 1)

    def _missing(self, state: LogState, line: int) -> LogDamaged:
        where = self.backend.where(state.name)
        return LogDamaged(state.session_id, where, line, 0, "the line was read before and is missing now", line - 1)

    def lines(self, state: LogState, after: int, upto: int) -> Iterator[bytes]:
        """Stream lines of a verified log and of its parents, as chunks of complete lines.

        If a fork becomes independent in the meantime, because its parent is to be deleted, its own copy of the lines is read. If
        the log was deleted in the meantime and another one has its name, the lines of the first are gone: raises SessionNotFound.
        """
        with state.scanning:
            seq, digest = state.scan.here.seq, state.scan.here.digest
        attempts = 0
        while after < upto:
            try:
                for span in self.spans(state, after, upto):
                    for last, chunk in self._own_lines(span):
                        after = last
                        yield chunk
            except (LogDamaged, SessionNotFound):
                attempts += 1
                if attempts == _ATTEMPTS or not self._was_made_whole(state):
                    raise
            except _Replaced:  # a redaction gives some logs another life as well
                attempts += 1
                self.verified(state.name)
                with state.scanning:
                    if state.digest_at(seq) != digest:
                        raise SessionNotFound(state.session_id) from None
                    if attempts == _ATTEMPTS:
                        raise self._missing(state, state.scan.here.seq + 1) from None

    def _was_made_whole(self, state: LogState) -> bool:
        """Read again what a log was forked from; return False if that has not changed."""
        before = state.fork
        if before is None:
            return False
        self.verified(state.name)
        return state.fork != before

    def without_past(self, state: LogState, fork: ForkPoint) -> LogDamaged:
        """Return the error for a fork whose parent lacks the event at the fork point."""
        what = f"goes on from event {fork.seq} of session {fork.parent!r}, which is missing"
        return LogDamaged(state.session_id, self.backend.where(state.name), 1, 0, what, 0)

    def unknown(self, state: LogState, error: Refused | ReadRefused) -> OutcomeUnknown:
        """Return the error for a step that failed after an earlier step succeeded: the outcome is not known."""
        where = error.file if isinstance(error, ReadRefused) else error.where
        return OutcomeUnknown(state.session_id, where, error.errno or errno.EIO)

    def refused(self, state: LogState, error: Refused) -> EventStoreError:
        """Translate a backend's error into the error of an append."""
        if isinstance(error, NotStored | Unclear):
            return OutcomeUnknown(state.session_id, error.where, error.errno)
        if isinstance(error, Poisoned):
            return HandlePoisoned(state.session_id, error.where, error.errno)
        return AppendRefused(state.session_id, error.where, error.errno or errno.EIO)


_living: WeakSet[States] = WeakSet()


def _begin_in_child() -> None:
    """Forget all states in a forked child: threads that it does not have may hold their locks."""
    for states in list(_living):
        states.clear()


if hasattr(os, "register_at_fork"):
    os.register_at_fork(after_in_child=_begin_in_child)
