"""Each rule of order has a test that fails without it: rules are broken one at a time, in this process."""

from collections.abc import Callable, Sequence
from typing import Any, NamedTuple, TypeVar

import pytest
from log.faulty import Passing, TornMemory, faults_of
from log.test_faults import CASES, Run, begin, record_only, texts
from log.test_interleavings import run

from eventstore.backends.memory import MemoryBackend, _Log
from eventstore.events import SessionCreated
from eventstore.log import engine, healing, moves, redact
from eventstore.log.append import Appender
from eventstore.log.base import Appended
from eventstore.log.batch import prepare
from eventstore.log.contract.life import LifeContract
from eventstore.log.contract.lines import LinesContract
from eventstore.log.contract.sample import said
from eventstore.log.engine import EventLog
from eventstore.log.port import Key, Moved, Tip, Unclear
from eventstore.log.redact import TombstoneCheck, overwrite_with_tombstone
from eventstore.log.state import LogState
from eventstore.record import codec

R = TypeVar("R")


def faults(*names: str) -> Callable[[], None]:
    """Run operations with every fault at every call."""

    def check() -> None:
        for name in names:
            for warm in (True, False):
                for at, method in enumerate(Run(CASES[name], warm=warm).methods(), 1):
                    for fault in faults_of(method, TornMemory.capabilities):
                        Run(CASES[name], warm=warm).check(at, fault)

    return check


class BeforeLock(Passing):
    """Does something once, just before the first lock is taken."""

    step: Callable[[], object] | None = None

    def around(self, method: str, do: Callable[[], R], args: tuple[Any, ...] = ()) -> R:
        if method == "lock" and self.step is not None:
            step, self.step = self.step, None
            step()
        return do()


def heal_elsewhere() -> None:
    """Another program cuts the torn tail and appends while this one waits for the lock to cut it."""
    inner = TornMemory()
    begin(EventLog(inner))
    inner.tear("s", b'{"type":"message.added","seq":5,"at":"20')
    backend = BeforeLock(inner)
    backend.step = lambda: EventLog(inner).append("s", [said("elsewhere")])
    EventLog(backend).append("s", [said("here")])
    assert texts(EventLog(inner), "s")[-2:] == ["elsewhere", "here"]


def open_redaction() -> None:
    inner = TornMemory()
    begin(EventLog(inner))
    record_only(EventLog(inner), inner)
    EventLog(inner).append("s", [said("next")])
    assert "s one" not in texts(EventLog(inner), "s")


def redact_during_copy() -> None:
    run(("make whole", "redact"), [0, 0, 0, 0, 1, 1, 0, 1, 1, 1, 1, 1, 0, 0, 1, 1, 1, 0])


def append_elsewhere() -> None:
    """Another program appends in between: nothing is lost."""
    inner = MemoryBackend()
    log, other = EventLog(inner), EventLog(inner)
    log.append("s", [SessionCreated()], expected_version=0)
    for number in range(4):
        (log, other)[number % 2].append("s", [said(str(number))])
    assert texts(EventLog(inner), "s") == ["0", "1", "2", "3"]


def contract(check: Callable[..., object], *args: Callable[[], object]) -> Callable[[], None]:
    def run_it() -> None:
        made = [make() for make in args]
        if len(made) == 2:
            made[1] = (lambda same: lambda: same)(made[0])
        check(*made)

    return run_it


def overwrite_first(
    self: EventLog, session_id: str, seqs: Sequence[int], reason: str, by: Any = None, *, trashed: Any = None
) -> Appended:
    state = self._states.verified(session_id)
    recorded = [self._record(state, seq, reason, by) for seq in seqs]
    for event in recorded:
        overwrite_with_tombstone(self._port, state, event.target, bytes.fromhex(event.leaf))
    with state.writing:
        return self._appender.write(state, prepare(recorded, codec.MAX_EVENT_BYTES))


def cut_at_once(self: Appender, state: LogState) -> bool:
    with self._backend.lock(f"log/{state.name}"):
        self.cut(state, "torn tail")
    return True


original_forget = LogState.forget


def forget_all_but_keys(self: LogState) -> None:
    ids = self.scan.ids if hasattr(self, "scan") else {}
    original_forget(self)
    self.scan.ids.update(ids)


def seal_again(
    self: Appender, state: LogState, here: Tip | None, data: bytes, tip: Tip, keys: Sequence[Key], **named: bool
) -> int:
    try:
        tip.life = self._backend.append(state.name, data, expect=here, tip=tip, keys=keys, **named)
    except (Moved, Unclear):
        return tip.seq - data.count(b"\n")
    return tip.seq


class Mutant(NamedTuple):
    """A rule that is broken: what is replaced by what, and the check that must fail then."""

    owner: object
    name: str
    instead: object
    check: Callable[[], None]


MUTANTS = {
    "Moved is believed without looking": Mutant(
        Appender, "_is_there", lambda self, state, tip: False, faults("append")
    ),
    "a lost answer is believed to mean written": Mutant(
        Appender, "_is_there", lambda self, state, tip: True, faults("append")
    ),
    "after a lost answer the lines are sealed anew": Mutant(Appender, "_swap", seal_again, faults("append")),
    "what a group wrote in part is forgotten": Mutant(
        Appender, "_reached", lambda self, state, data, tip: tip.seq - data.count(b"\n"), faults("append many")
    ),
    "a line is overwritten before that is recorded": Mutant(EventLog, "redact", overwrite_first, faults("redact")),
    "an open redaction is left open": Mutant(healing, "finish_redactions", lambda backend, state: None, open_redaction),
    "a tail is cut without reading it again": Mutant(Appender, "cut_tail", cut_at_once, heal_elsewhere),
    "the expected tip is not looked at": Mutant(
        MemoryBackend,
        "_expect",
        lambda self, log, tip: self._find(log),
        contract(LinesContract().test_an_append_behind_an_older_tip_is_moved_and_writes_nothing, MemoryBackend),
    ),
    "writers believe the end that they know": Mutant(
        MemoryBackend, "_expect", lambda self, log, tip: self._find(log), append_elsewhere
    ),
    "a log that was made again counts as the old one": Mutant(
        _Log,
        "ends_at",
        lambda self, tip: self.first + len(self.lines) - 1 == tip.seq and self._has(tip),
        contract(LinesContract().test_a_log_that_was_deleted_and_made_again_is_another, MemoryBackend, lambda: None),
    ),
    "a fork does not record what was redacted before": Mutant(
        EventLog,
        "_unrecorded",
        lambda self, session_id, version: [],
        contract(
            LifeContract().test_a_fork_from_before_a_redaction_was_told_of_tells_of_it,
            lambda: EventLog(MemoryBackend()),
        ),
    ),
    "a tombstone is copied without its record": Mutant(TombstoneCheck, "end", lambda self: None, redact_during_copy),
    "keys outlive their log": Mutant(
        LogState,
        "forget",
        forget_all_but_keys,
        contract(LifeContract().test_a_removed_session_is_gone, lambda: EventLog(MemoryBackend())),
    ),
    "a move that was made is not looked for": Mutant(
        moves, "_is_at", lambda backend, log, known: False, faults("trash", "restore")
    ),
    "an ingested log is not looked for": Mutant(engine, "ends_at", lambda backend, log, head: False, faults("ingest")),
    "a lost answer of an overwrite is not tried again": Mutant(redact, "_TRIES", 0, faults("redact")),
}


@pytest.mark.parametrize("name", MUTANTS)
def test_a_broken_rule_is_noticed(name: str, monkeypatch: pytest.MonkeyPatch) -> None:
    mutant = MUTANTS[name]
    mutant.check()
    monkeypatch.setattr(mutant.owner, mutant.name, mutant.instead)
    assert fails(mutant.check)


def fails(check: Callable[[], None]) -> bool:
    """Tell whether a check fails, by an assertion or by what a broken rule made of the log."""
    try:
        check()
    except (Exception, pytest.fail.Exception):
        return True
    return False
