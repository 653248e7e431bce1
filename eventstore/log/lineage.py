"""How forks depend on other logs: fork points, roots, and inherited events."""

from collections.abc import Iterator

from eventstore.errors import (
    SessionNotFound,
)
from eventstore.ids import check_log_id
from eventstore.log.base import BEGINNING, Head
from eventstore.log.guarded import Guarded
from eventstore.log.ingest import VerifiedLog
from eventstore.log.port import Backend, Missing, Reading
from eventstore.log.state import LogState, first_line
from eventstore.log.states import States
from eventstore.record import codec, hash_chain
from eventstore.record.fork_point import ForkPoint, read_fork_point
from eventstore.record.scan import Tip


class LogLineage:
    """Answers questions about forks and their parents."""

    def __init__(self, backend: Backend, max_event_bytes: int) -> None:
        self.backend, self._max_event_bytes = backend, max_event_bytes
        self._port = Guarded(backend)
        self._states = States(self._port, max_event_bytes)
        self.capabilities = backend.capabilities

    def fork_point(self, session_id: str) -> ForkPoint | None:
        """Return the fork point of a log; None if it holds all its events itself. Raises SessionNotFound."""
        state = self._states.of(check_log_id(session_id))
        line = self._first_line(session_id)
        point = read_fork_point(line)
        return point if point is not None and point.into == state.session_id else None

    def inherited(self, session_id: str) -> int:
        """Return how many events of a fork are its parent's, not copied; 0 if it is independent. Raises SessionNotFound."""
        point = self.fork_point(session_id)
        return point.seq if point else 0

    def root_of(self, session_id: str) -> str:
        """Return the root of a log's chain of hashes: of a fork the first log of its line of forks, else itself.

        Raises SessionNotFound.
        """
        state = self._states.of(check_log_id(session_id))
        return self._beginning(state)[1]

    def own_beginning(self, session_id: str) -> Head:
        """Return the position before the session's first own event: after the inherited events of a fork.

        Raises SessionNotFound, LogDamaged.
        """
        point = self.fork_point(session_id)
        return BEGINNING if point is None else Head(point.seq, "", point.digest.hex(), 0)

    def _first_line(self, name: str) -> bytes:
        line, _ = first_line(self._read(name).chunks, self._max_event_bytes)
        if not line.endswith(b"\n"):  # while the first line is incomplete, the fork point is not known
            raise SessionNotFound(self._states.of(name).session_id)
        return line[:-1]

    def _start(self, state: LogState) -> Tip:
        """Return the tip before the first line of a log that is not a fork by reference."""
        return self._beginning(state)[2]

    def _beginning(self, state: LogState) -> tuple[ForkPoint | None, str, Tip]:
        line = self._first_line(state.name)
        try:
            return state.beginning(line)
        except Missing:  # it was removed after its first line was read
            raise SessionNotFound(state.session_id) from None

    def _read(self, name: str) -> Reading:
        try:
            return self._port.read(name)
        except Missing:
            raise SessionNotFound(self._states.of(name).session_id) from None

    def _owner_of(self, session_id: str, version: int) -> tuple[str, str]:
        """Return the log that holds an event of a session itself, and the root of its chain."""
        state = self._states.verified(session_id)
        root = state.root
        return self._states.spans(state, version - 1, version)[0].log, root

    def _unrecorded(self, session_id: str, version: int) -> list[bytes]:
        """Find the redacted lines up to a version for which no line up to there records the redaction."""
        targets: set[int] = set()
        recorded: set[int] = set()
        state = self._states.verified(session_id)
        for owner, fork in self._states.lineage(state):
            lowest = fork.seq if fork else 0
            scan = owner.scan
            targets |= {seq for seq in (*scan.stubs, *scan.redactions) if seq <= version}
            recorded |= {seq for seq, at in scan.told_at.items() if at <= version}
            version = min(version, lowest)
        missing = sorted(targets - recorded)
        return [next(self._line(state, seq)) for seq in missing]

    def _line(self, state: LogState, seq: int) -> Iterator[bytes]:
        for chunk in self._states.lines(state, seq - 1, seq):
            yield from codec.lines(chunk)

    def _check_past(self, state: LogState, whole: VerifiedLog) -> None:
        """Raise LogDamaged if the events that a fork inherits are missing."""
        fork = whole.fork
        if fork is None:
            return
        try:
            parent = self._states.verified(fork.parent)
            there = next(self._line(parent, fork.seq), b"")
        except SessionNotFound:
            raise self._states.without_past(state, fork) from None
        parts = hash_chain.split(there)
        if parent.root != fork.root or parts is None or parts[1] != fork.digest:
            raise self._states.without_past(state, fork)
