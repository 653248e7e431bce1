"""A state machine: the log on the filesystem gives the same answers as the log in memory, whatever is done to both.

Both have the engine in common, so what it decides is compared with a small model too: versions, and the keys that were used.
"""

import shutil
import tempfile
from pathlib import Path
from typing import Any

from hypothesis import HealthCheck, settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, initialize, rule, run_state_machine_as_test

from breaking.case import Counts, said
from eventstore import (
    Appended,
    EventStoreError,
    FileSystemEventLog,
    MemoryEventLog,
    SessionNotFound,
    VersionConflict,
)
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
        self.model: dict[str, tuple[int, dict[str, int]]] = {}

    def teardown(self) -> None:
        """Remove the folder."""
        self.files.close()
        shutil.rmtree(self.root)

    def same(self, ask: Any) -> Any:
        """Ask both, and compare answers or errors; return what both gave."""
        STEPS["steps"] += 1
        answers = []
        for log in (self.memory, self.files):
            try:
                answers.append(ask(log))
            except EventStoreError as error:
                STEPS["errors"] += 1
                answers.append((type(error), str(error)))
        assert answers[0] == answers[1]
        return answers[0]

    def added(self, name: str, keys: list[str | None], count: int, expected: int | None, found: Any) -> None:
        """Compare what became of an append of `count` events with the model, and move that on."""
        version, known = self.model.get(name, (0, dict[str, int]()))
        used = [key for key in keys if key is not None]
        if not known.keys() & used and len(set(used)) == len(used):
            if not version and expected != 0:
                assert found[0] is SessionNotFound, found
            elif expected not in (None, version):
                assert found[0] is VersionConflict, found
            else:
                assert (found.first, found.last) == (version + 1, version + count), found
        elif len(keys) == 1 and count == 1 and known.get(used[0]):
            assert (found.first, found.last) == (known[used[0]],) * 2, found
        if isinstance(found, Appended) and found.last > version:
            places = dict.fromkeys(
                used, found.first if count == 1 else 0
            )  # 0: among others, its place is not known here
            self.model[name] = found.last, {**places, **known}

    @initialize()
    def begin(self) -> None:
        """Begin with both sessions there."""
        for name in ("a", "b"):
            found = self.same(lambda log, name=name: log.append(name, [e.SessionCreated()], expected_version=0))
            self.added(name, [None], 1, 0, found)

    @rule(name=NAMES, key=KEYS)
    def create(self, name: str, key: str | None) -> None:
        """Create a session."""
        found = self.same(lambda log: log.append(name, [e.SessionCreated(id=key)], expected_version=0))
        self.added(name, [key], 1, 0, found)

    @rule(
        name=NAMES, keys=st.lists(KEYS, min_size=1, max_size=3), version=st.sampled_from([None, None, None, 1, 2, 3, 5])
    )
    def append(self, name: str, keys: list[str | None], version: int | None) -> None:
        """Append a batch."""
        found = self.same(lambda log: log.append(name, [said("x", key) for key in keys], expected_version=version))
        self.added(name, keys, len(keys), version, found)

    @rule(name=NAMES, keys=st.lists(KEYS, min_size=1, max_size=3), version=st.integers(0, 9))
    def extend(self, name: str, keys: list[str | None], version: int) -> None:
        """Append several batches."""
        batches = [[said("x", key), said("y")] for key in keys]
        found = self.same(lambda log: log.extend(name, batches, expected_version=version))
        self.added(name, keys, 2 * len(keys), version, found)

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
        self.model.pop(name, None)

    @rule()
    def look(self) -> None:
        """List sessions and versions."""
        self.same(lambda log: sorted((name, log.head(name).version) for name in log.ids()))

    @rule()
    def reopen(self) -> None:
        """Open the files again."""
        self.files.close()
        self.files = FileSystemEventLog(self.root, fsync="no", open_files=1)

    @rule(name=NAMES, size=st.integers(1, 60))
    def tear(self, name: str, size: int) -> None:
        """Leave a torn tail, as a crash does: answers do not change, except for the record of the repair."""
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
