"""Every operation of a log, at every call of the port, with every fault: what was acknowledged is there once."""

from collections.abc import Callable
from typing import NamedTuple

import pytest
from log.faulty import Fault, FaultyBackend, Killed, TornMemory, faults_of

from eventstore.backends.memory import MemoryBackend
from eventstore.errors import EventStoreError, OutcomeUnknown
from eventstore.events import MessageAdded, SessionCreated
from eventstore.ids import TRASH
from eventstore.log.base import Append, Appended
from eventstore.log.contract.sample import said
from eventstore.log.engine import EventLog
from eventstore.log.port import PortError
from eventstore.log.redact import record_redaction

Effects = dict[str, object]
"""What an operation was to do, by name, and what it reported: a result, an EventStoreError, or Killed."""


def texts(log: EventLog, name: str) -> list[str]:
    """List what was said in a log; nothing where there is none."""
    return [event.content for event in log.read(name) if isinstance(event, MessageAdded)] if log.exists(name) else []


def begin(log: EventLog) -> None:
    """Make the logs that the operations work on: `s`, `t`, a fork `f` of `s`, and `old` in the trash."""
    for name in ("s", "t", "old"):
        log.append(name, [SessionCreated()], expected_version=0)
        log.append(name, [said(f"{name} one", "one")])
        log.append(name, [said(f"{name} two"), said(f"{name} three")])
    log.fork("f", "s", 4, SessionCreated())
    log.append("f", [said("f own")])
    log.trash("old")


class Case(NamedTuple):
    """An operation: its effects, how often each is there afterwards, and what is done to the memory before."""

    effects: tuple[str, ...]
    run: Callable[[EventLog], object]
    times: Callable[[EventLog, str], int]
    prepare: Callable[[EventLog, TornMemory], object] = lambda log, inner: None


def count_text(name: str) -> Callable[[EventLog, str], int]:
    return lambda log, effect: texts(log, name).count(effect)


def append_many(log: EventLog) -> Effects:
    appends = [Append("s", [said("new s")]), Append("t", [said("new t")]), Append("s", [said("more s")])]
    written = log.append_many(appends)
    written.flush()
    return dict(zip(("new s", "new t", "more s"), written.outcomes, strict=True))


def ingest(log: EventLog) -> object:
    source = EventLog(MemoryBackend())
    source.append("n", [SessionCreated()], expected_version=0)
    source.append("n", [said("adopted")])
    return log.ingest("n", source.chunks("n"), [("checkpoints/000000000001-00000000.note", [b"x"])])


def record_only(log: EventLog, inner: TornMemory) -> None:
    """Leave a redaction that is recorded and not carried out, as a crash does."""
    line = next(log.lines("s", 1, 2))
    log.append("s", [record_redaction("s", 2, line, "a secret", None)])


def damage(log: EventLog, inner: TornMemory) -> None:
    found = inner._logs["t"]
    found.lines[1] = found.lines[1].replace(b"one", b"ONE")


def tear(log: EventLog, inner: TornMemory) -> None:
    inner.tear("s", b'{"type":"message.added","seq":5,"at":"20')


def lose_line_feed(log: EventLog, inner: TornMemory) -> None:
    found = inner._logs["s"]
    found.lines[-1] = found.lines[-1][:-1]
    found.size -= 1


def redacted(log: EventLog, effect: str) -> int:
    return int(effect not in texts(log, "s"))


def is_moved(there: str, gone: str) -> Callable[[EventLog, str], int]:
    """Count a log that was moved: it is at one of the two places, never at both or at none."""

    def count(log: EventLog, effect: str) -> int:
        names = {*log.ids(), *(TRASH + name for name in log.trashed())}
        assert (there in names) != (gone in names)
        return int(there in names)

    return count


CASES = {
    "append": Case(("new",), lambda log: log.append("s", [said("new")]), count_text("s")),
    "append with an id": Case(("new",), lambda log: log.append("s", [said("new", "k")]), count_text("s")),
    "append at a version": Case(
        ("new",), lambda log: log.append("s", [said("new")], expected_version=4), count_text("s")
    ),
    "append a batch": Case(("new", "last"), lambda log: log.append("s", [said("new"), said("last")]), count_text("s")),
    "create": Case(
        ("new",), lambda log: log.append("n", [SessionCreated(), said("new")], expected_version=0), count_text("n")
    ),
    "append to a fork": Case(("new",), lambda log: log.append("f", [said("new")]), count_text("f")),
    "append behind a torn tail": Case(("new",), lambda log: log.append("s", [said("new")]), count_text("s"), tear),
    "append behind a lost line feed": Case(
        ("new",), lambda log: log.append("s", [said("new")]), count_text("s"), lose_line_feed
    ),
    "append behind an open redaction": Case(
        ("new",), lambda log: log.append("s", [said("new")]), count_text("s"), record_only
    ),
    "extend": Case(
        ("new", "last"),
        lambda log: log.extend("s", [[said("new")], [said("last", "k")]], expected_version=4),
        count_text("s"),
    ),
    "append many": Case(
        ("new s", "new t", "more s"), append_many, lambda log, effect: texts(log, effect[-1]).count(effect)
    ),
    "fork": Case(("g",), lambda log: log.fork("g", "s", 2, SessionCreated()), lambda log, name: int(log.exists(name))),
    "fork of a fork": Case(
        ("g",), lambda log: log.fork("g", "f", 6, SessionCreated()), lambda log, name: int(log.exists(name))
    ),
    "make whole": Case(("f",), lambda log: log.make_whole("f"), lambda log, name: int(log.inherited(name) == 0)),
    "redact": Case(("s two",), lambda log: log.redact("s", [3], "a secret"), redacted),
    "ingest": Case(("adopted",), ingest, count_text("n")),
    "trash": Case(("t",), lambda log: log.trash("t"), is_moved("_trash/t", "t")),
    "trash at a version": Case(("t",), lambda log: log.trash("t", expected_version=4), is_moved("_trash/t", "t")),
    "restore": Case(("old",), lambda log: log.restore("old"), is_moved("old", "_trash/old")),
    "purge": Case(("old",), lambda log: log.purge("old"), lambda log, name: int(name not in log.trashed())),
    "remove": Case(("t",), lambda log: log.remove("t"), lambda log, name: int(not log.exists(name))),
    "remove at a version": Case(
        ("t",), lambda log: log.remove("t", expected_version=4), lambda log, name: int(not log.exists(name))
    ),
    "keep a note": Case(
        ("000000000001-00000000.note",),
        lambda log: log.keep_note("s", "000000000001-00000000.note", b"note"),
        lambda log, name: [one for one, _ in log.notes("s")].count(name),
    ),
}


def outcomes(case: Case, log: EventLog) -> Effects:
    """Run an operation, and return what it reported of each effect; nothing but an EventStoreError may come out."""
    try:
        found = case.run(log)
    except (EventStoreError, Killed) as error:
        return dict.fromkeys(case.effects, error)
    return found if isinstance(found, dict) else dict.fromkeys(case.effects, found)


class Run:
    """One operation on a store that was just made, by an engine that has seen it before (`warm`) or has not."""

    def __init__(self, case: Case, *, warm: bool) -> None:
        self.case, self.inner = case, TornMemory()
        self.faulty = FaultyBackend(self.inner)
        first = EventLog(self.faulty)
        begin(first)
        case.prepare(first, self.inner)
        self.log = first if warm else EventLog(self.faulty)

    def methods(self) -> list[str]:
        self.faulty.arm()
        outcomes(self.case, self.log)
        return self.faulty.methods

    def check(self, at: int, fault: Fault) -> bool:
        """Run with a fault at a call, and check what is there; False where the operation came not so far."""
        self.faulty.arm(at, fault)
        reported = outcomes(self.case, self.log)
        fired = self.faulty.fired
        self.faulty.settle()
        fresh = EventLog(self.inner)
        for effect, outcome in reported.items():
            found = self.case.times(fresh, effect)
            if isinstance(outcome, OutcomeUnknown | Killed):
                assert found in (0, 1), f"{effect} is there {found} times"
            elif isinstance(outcome, EventStoreError):
                assert found == 0, f"{effect} was refused, and is there: {outcome!r}"
            else:
                assert found == 1, f"{effect} was acknowledged, and is there {found} times"
        check_store(fresh)
        return fired > 0


def check_store(log: EventLog) -> None:
    """All reads, nothing is there twice, nothing that was there before is gone, and the next append works."""
    for name in [*log.ids(), *(TRASH + one for one in log.trashed())]:
        if name.startswith(TRASH):
            assert list(log.trashed_lines(name.removeprefix(TRASH)))
            continue
        if not log.exists(name):  # the first line is torn: nobody was told that it is there
            log.append(name, [SessionCreated()], expected_version=0)
        log.append(name, [said("next")])
        events = list(log.read(name))
        found = texts(log, name)
        assert len(found) == len(set(found))
        assert found[-1] == "next"
        assert [event.seq for event in events] == list(range(1, len(events) + 1))


@pytest.mark.parametrize("warm", [True, False], ids=["warm", "cold"])
@pytest.mark.parametrize("name", CASES)
def test_what_was_acknowledged_is_there_once_after_any_fault(name: str, warm: bool) -> None:
    case = CASES[name]
    methods = Run(case, warm=warm).methods()
    assert methods
    fired = 0
    for at, method in enumerate(methods, 1):
        for fault in faults_of(method, TornMemory.capabilities):
            try:
                fired += Run(case, warm=warm).check(at, fault)
            except (AssertionError, EventStoreError, PortError) as error:
                raise AssertionError(f"{name}: call {at} of {methods}, {fault}: {error!r}") from error
    assert fired >= 3 * len(methods)


def test_an_answer_that_is_lost_is_settled_by_the_hash_and_not_written_again() -> None:
    for fault in (Fault.LOST, Fault.MOVED, Fault.AGAIN):
        run = Run(CASES["append"], warm=True)
        run.faulty.arm(1, fault)
        assert run.log.append("s", [said("new")]) == Appended(5, 5)
        assert run.faulty.fired == 1
        assert run.faulty.methods.count("append") == 1
        assert texts(EventLog(run.inner), "s").count("new") == 1


def test_a_repair_that_fails_anywhere_keeps_every_byte_and_can_be_done_again() -> None:
    case = Case(("t two",), lambda log: log.repair("t", dry_run=False), count_text("t"), damage)
    fired = 0
    methods = Run(case, warm=False).methods()
    for at, method in enumerate(methods, 1):
        for fault in faults_of(method, TornMemory.capabilities):
            run = Run(case, warm=False)
            run.faulty.arm(at, fault)
            reported = outcomes(case, run.log)["t two"]
            fired += run.faulty.fired
            run.faulty.settle()
            fresh = EventLog(run.inner)
            fresh.repair("t", dry_run=False)
            blobs = b"".join(b"".join(run.inner.get_blob("t", one)) for one in run.inner.blobs("t"))
            kept = b"".join(fresh.chunks("t")) + blobs
            assert b"t two" in kept and b"t ONE" in kept, (at, fault)  # noqa: PT018 - both are parts of one log
            found = texts(fresh, "t").count("t two")
            assert found == 1 or (found == 0 and isinstance(reported, EventStoreError | Killed)), (at, fault)
            check_store(fresh)
    assert fired >= 2 * len(methods)
