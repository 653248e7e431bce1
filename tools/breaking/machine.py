"""A state machine: the log on the filesystem gives the same answers as the log in memory, whatever is done to both."""

import shutil
import tempfile
from pathlib import Path
from typing import Any

from hypothesis import HealthCheck, settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, initialize, rule, run_state_machine_as_test

from breaking.case import Counts, said
from eventstore import EventStoreError, FileSystemEventLog, MemoryEventLog
from eventstore import events as e

NAMES = st.sampled_from(["a", "b"])
KEYS = st.none() | st.sampled_from(["k1", "k2", "k3"])
STEPS = {"steps": 0, "errors": 0}


class Twins(RuleBasedStateMachine):
    """Two logs; every step is done to both."""

    def __init__(self) -> None:
        super().__init__()
        self.root = Path(tempfile.mkdtemp(prefix="eventstore-twins-"))
        self.memory = MemoryEventLog()
        self.files = FileSystemEventLog(self.root, fsync="no", open_files=1)

    def teardown(self) -> None:
        """Remove the folder."""
        self.files.close()
        shutil.rmtree(self.root)

    def same(self, ask: Any) -> None:
        """Ask both, and compare answers or errors."""
        STEPS["steps"] += 1
        answers = []
        for log in (self.memory, self.files):
            try:
                answers.append(ask(log))
            except EventStoreError as error:
                STEPS["errors"] += 1
                answers.append((type(error), str(error)))
        assert answers[0] == answers[1]

    @initialize()
    def begin(self) -> None:
        """Begin with both sessions there."""
        for name in ("a", "b"):
            self.same(lambda log, name=name: log.append(name, [e.SessionCreated()], expected_version=0))

    @rule(name=NAMES, key=KEYS)
    def create(self, name: str, key: str | None) -> None:
        """Create a session."""
        self.same(lambda log: log.append(name, [e.SessionCreated(id=key)], expected_version=0))

    @rule(
        name=NAMES, keys=st.lists(KEYS, min_size=1, max_size=3), version=st.sampled_from([None, None, None, 1, 2, 3, 5])
    )
    def append(self, name: str, keys: list[str | None], version: int | None) -> None:
        """Append a batch."""
        self.same(lambda log: log.append(name, [said("x", key) for key in keys], expected_version=version))

    @rule(name=NAMES, keys=st.lists(KEYS, min_size=1, max_size=3), version=st.integers(0, 9))
    def extend(self, name: str, keys: list[str | None], version: int) -> None:
        """Append several batches."""
        self.same(lambda log: log.extend(name, [[said("x", key), said("y")] for key in keys], expected_version=version))

    @rule(name=NAMES, after=st.integers(0, 9), upto=st.none() | st.integers(0, 9))
    def read(self, name: str, after: int, upto: int | None) -> None:
        """Read a range."""
        self.same(lambda log: [(one.type, one.seq, one.id, one.batch) for one in log.read(name, after, upto)])

    @rule(name=NAMES, dice=st.integers(0, 9))
    def remove(self, name: str, dice: int) -> None:
        """Remove a session, now and then."""
        if dice:
            return
        self.same(lambda log: log.remove(name))

    @rule()
    def look(self) -> None:
        """List sessions and versions."""
        self.same(lambda log: sorted((name, log.head(name).version) for name in log.ids()))

    @rule()
    def reopen(self) -> None:
        """Open the files anew."""
        self.files.close()
        self.files = FileSystemEventLog(self.root, fsync="no", open_files=1)

    @rule(name=NAMES, size=st.integers(1, 60))
    def tear(self, name: str, size: int) -> None:
        """Leave a torn tail behind, as a crash does: neither answer changes, but for what records the repair."""
        path = self.root / name / "events.jsonl"
        if path.exists():
            before = self.files.head(name)
            with path.open("ab") as stream:
                stream.write(b"\0" * size)
            assert self.files.head(name) == before
            with path.open("r+b") as stream:
                stream.truncate(before.size_bytes)


def machine(full: bool) -> Counts:
    """Do random steps on the file backend and on the memory backend: same answers, same errors."""
    STEPS.update(steps=0, errors=0)
    run_state_machine_as_test(
        Twins,
        settings=settings(
            max_examples=400 if full else 40,
            stateful_step_count=50,
            deadline=None,
            database=None,
            derandomize=True,
            suppress_health_check=list(HealthCheck),
        ),
    )
    return dict(STEPS)
