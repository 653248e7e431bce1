"""No error of the port reaches a caller: each public method of a log, on a backend that answers each call with each of them."""

from collections.abc import Callable, Iterator, Sequence
from dataclasses import replace
from inspect import isfunction
from typing import Any, TypeVar

import pytest
from log.faulty import JoiningMemory, Passing, TornMemory

from eventstore.backends.memory import MemoryBackend
from eventstore.errors import EventStoreError
from eventstore.events import DataSet, InvocationStarted, SessionCreated
from eventstore.log.base import Append
from eventstore.log.contract.sample import said
from eventstore.log.engine import EventLog
from eventstore.log.port import (
    Exists,
    Missing,
    Moved,
    NotStored,
    Poisoned,
    PortError,
    Reading,
    Refused,
    Swap,
    Tip,
    Unclear,
)

R = TypeVar("R")
MOST_CALLS = 60
ANSWERS: dict[str, Callable[[], PortError]] = {
    "missing": lambda: Missing("s"),
    "moved": lambda: Moved("s"),
    "exists": lambda: Exists("s"),
    "refused": lambda: Refused("disk", 28),
    "unclear": lambda: Unclear("disk", 110),
    "not stored": lambda: NotStored("disk", 5),
    "poisoned": lambda: Poisoned("disk", 5),
}
NOTE = "checkpoints/000000000001-00000000.note"


class Answering(Passing):
    """Answers the call number `at` with an error, or each from there on."""

    def __init__(self, inner: TornMemory, *, joins: bool = False, at_once: bool = False) -> None:
        super().__init__(inner)
        self.capabilities = replace(inner.capabilities, joins_appends=joins, at_once=at_once)
        self.calls = self.at = 0
        self.on = False
        self.error: Callable[[], PortError] | None = None

    def arm(self, at: int, error: Callable[[], PortError], *, on: bool) -> None:
        self.calls, self.at, self.error, self.on = 0, at, error, on

    def around(self, method: str, do: Callable[[], R], args: tuple[Any, ...] = ()) -> R:
        self.calls += 1
        if self.error is not None and (self.calls >= self.at if self.on else self.calls == self.at):
            raise self.error()
        return do()

    def read(self, log: str, after: Tip | int = 0, upto: int | None = None) -> Reading:
        found = super().read(log, after, upto)
        return found._replace(chunks=self._streaming(found.chunks))

    def get_blob(self, log: str, name: str) -> Iterator[bytes]:
        return self._streaming(super().get_blob(log, name))

    def append_at_once(self, log: str, lines: bytes, *, expect: Tip, tip: Tip) -> bool | None:
        def do() -> bool:
            self.inner.append(log, lines, expect=expect, tip=tip)
            return False

        return self.around("append_at_once", do)

    def append_many(self, swaps: Sequence[Swap]) -> list[str | None]:
        return self.around("append_many", lambda: JoiningMemory.append_many(self.inner, swaps))  # type: ignore[arg-type]

    def _streaming(self, chunks: Iterator[bytes]) -> Iterator[bytes]:
        """Answer at the first chunk too, and not only at the call."""
        self.around("chunk", lambda: None)
        yield from chunks

    def watch(self, log: str | None) -> Any:
        return self.around("watch", lambda: self.inner.watch(log))


def copied() -> tuple[bytes, EventLog]:
    """Make a longer copy of the log `c`."""
    other = EventLog(MemoryBackend())
    other.append("c", [SessionCreated()], expected_version=0)
    other.append("c", [said("one")])
    return b"".join(other.chunks("c")), other


WHOLE, COPY = copied()
FIRST = WHOLE[: WHOLE.index(b"\n") + 1]


def begin(log: EventLog, inner: TornMemory) -> None:
    """Make a log with a value, a note, a torn tail and a record in quarantine; a fork; a log in the trash; half a copy."""
    for name in ("s", "t", "old"):
        log.append(name, [SessionCreated()], expected_version=0)
        log.append(name, [said(f"{name} one", "one"), DataSet(key="a", value="x" * 100)])
    log.keep_note("s", NOTE.partition("/")[2], b"note")
    log.put_value("s", b'"large"')
    log.fork("f", "s", 3, SessionCreated())
    log.trash("old")
    log.ingest("c", [FIRST])
    inner.tear("s", b'{"type":"message.added","seq":4,"at":"20')
    log.append("s", [said("behind")])
    inner.tear("t", b'{"type":"message.added","seq":4,"at":"20')


def append_at_once(log: EventLog) -> None:
    written = log.append_at_once("s", [Append("s", [said("new")]), Append("s", [said("more")])])
    if written is not None:
        written.flush()


DIGEST = "eeda7ea4a8b6bff55b9f7a5a2f1a87f8de6ae3a5b1a8a0e7e7ad6b0ae5eac0d1"
CALLED = InvocationStarted(invocation_id="i", tool_name="t", input_bytes=7, input_sha256=DIGEST)


def append_many(log: EventLog) -> None:
    written = log.append_many([Append("s", [said("new")]), Append("t", [said("new")])])
    written.flush()
    for outcome in written.outcomes:
        if isinstance(outcome, Exception):
            raise outcome


CALLS: dict[str, list[Callable[[EventLog], object]]] = {
    "fork_point": [lambda log: log.fork_point("f")],
    "inherited": [lambda log: log.inherited("f")],
    "root_of": [lambda log: log.root_of("f")],
    "own_beginning": [lambda log: log.own_beginning("f")],
    "chunks": [lambda log: list(log.chunks("f"))],
    "small": [lambda log: log.small("s")],
    "lines": [lambda log: list(log.lines("f"))],
    "read": [lambda log: list(log.read("f"))],
    "skim": [lambda log: list(log.skim("f"))],
    "window": [lambda log: list(log.window("s", 1, 2)), lambda log: list(log.window("f", 0, 2))],
    "resume": [
        lambda log: log.resume("s"),
        lambda log: log.resume("f"),
        lambda log: log.resume("s", COPY.head("c")),
        lambda log: log.resume("c", EventLog.point_at(COPY, "c", 1)),
    ],
    "head": [lambda log: log.head("f")],
    "tail_position": [lambda log: log.tail_position("s")],
    "exists": [lambda log: log.exists("s")],
    "point_at": [lambda log: log.point_at("f", 1)],
    "batch_of": [lambda log: log.batch_of("f", 1)],
    "size_bytes": [lambda log: log.size_bytes("s")],
    "changed": [lambda log: log.changed()],
    "ids": [lambda log: list(log.ids())],
    "watch": [lambda log: log.watch("s").close()],
    "is_being_written": [lambda log: log.is_being_written("s")],
    "raw": [lambda log: list(log.raw("f").chunks)],
    "tail": [lambda log: log.tail("t")],
    "salvage": [lambda log: list(log.salvage("s"))],
    "append": [
        lambda log: log.append("s", [said("new")]),
        lambda log: log.append("t", [said("new", "k"), said("last")], expected_version=3),
        lambda log: log.append("n", [SessionCreated()], expected_version=0),
    ],
    "extend": [lambda log: log.extend("s", [[said("new")], [said("last", "k")]], expected_version=5)],
    "append_many": [append_many],
    "append_joined": [append_many],
    "append_at_once": [append_at_once],
    "attachments": [lambda log: log.attachments("s")],
    "read_beside": [lambda log: list(log.read_beside("s", NOTE))],
    "quarantine": [lambda log: log.quarantine("s")],
    "notes": [lambda log: log.notes("s")],
    "keep_note": [lambda log: log.keep_note("s", "x.note", b"n")],
    "scrub": [lambda log: log.scrub("s", [b"message"]), lambda log: log.scrub("t", [b"message"])],
    "trashed": [lambda log: log.trashed()],
    "trashed_root": [lambda log: log.trashed_root("old")],
    "trashed_attachments": [lambda log: log.trashed_attachments("old")],
    "read_trashed": [lambda log: list(log.read_trashed("old", NOTE))],
    "vacuum": [lambda log: log.vacuum()],
    "trashed_lines": [lambda log: list(log.trashed_lines("old"))],
    "remove": [lambda log: log.remove("s"), lambda log: log.remove("s", expected_version=0)],
    "trash": [lambda log: log.trash("s"), lambda log: log.trash("s", expected_version=5)],
    "restore": [lambda log: log.restore("old")],
    "purge": [lambda log: log.purge("old")],
    "keep_value": [lambda log: log.keep_value("s", b'"v"')],
    "put_value": [lambda log: log.put_value("s", b'"v"')],
    "settle_values": [lambda log: log.settle_values("s", [CALLED])],
    "read_value": [lambda log: log.read_value("f", log.values("s")[0])],
    "with_values": [lambda log: list(log.with_values("s", [CALLED]))],
    "verified_value": [lambda log: log.verified_value("s", 2, log.values("s")[0])],
    "values": [lambda log: log.values("s")],
    "remove_value": [lambda log: log.remove_value("s", log.values("s")[0])],
    "fast_forward": [lambda log: log.fast_forward("c", [WHOLE])],
    "take": [lambda log: log.take("c", COPY.point_at("c", 1)._replace(size_bytes=len(FIRST)), WHOLE[len(FIRST) :])],
    "take_attachment": [
        lambda log: log.take_attachment("s", NOTE, b"n"),
        lambda log: log.take_attachment("s", NOTE, None),
    ],
    "fork": [lambda log: log.fork("g", "f", 4, SessionCreated())],
    "make_whole": [lambda log: log.make_whole("f")],
    "mend": [lambda log: log.mend("s")],
    "finish_redactions": [lambda log: log.finish_redactions("s")],
    "compact": [lambda log: log.compact("s", [2], "why"), lambda log: log.compact("t", [2], "why")],
    "ingest": [lambda log: log.ingest("n", [], []), lambda log: log.ingest("d", log_of_d(), [(NOTE, [b"n"])])],
    "redact": [lambda log: log.redact("s", [2], "why"), lambda log: log.redact("f", [2, 3], "why")],
    "repair": [lambda log: log.repair("t"), lambda log: log.repair("t", dry_run=False)],
    "flush": [lambda log: log.flush()],
    "close": [lambda log: log.close()],
}
"""Each public method, with arguments that lead through its branches."""


def log_of_d() -> Iterator[bytes]:
    other = EventLog(MemoryBackend())
    other.append("d", [SessionCreated()], expected_version=0)
    return other.chunks("d")


def test_every_public_method_is_called() -> None:
    public = {name for name in dir(EventLog) if isfunction(getattr(EventLog, name)) and not name.startswith("_")}
    assert public == set(CALLS)


@pytest.mark.parametrize("warm", [True, pytest.param(False, marks=pytest.mark.long)], ids=["warm", "cold"])
@pytest.mark.parametrize("name", CALLS)
def test_a_caller_sees_no_error_of_the_port(name: str, warm: bool) -> None:
    for number, call in enumerate(CALLS[name]):
        for answer, error in ANSWERS.items():
            for on in (True, False):
                ask(name, number, call, warm, answer, error, on)


def ask(
    name: str,
    number: int,
    call: Callable[[EventLog], object],
    warm: bool,
    answer: str,
    error: Callable[[], PortError],
    on: bool,
) -> None:
    """Answer the first call, the second, ... until the method comes to its end before."""
    for at in range(1, MOST_CALLS):
        backend = Answering(TornMemory(), joins=name == "append_joined", at_once=name == "append_at_once")
        log = EventLog(backend)
        begin(log, backend.inner)  # type: ignore[arg-type]
        log = log if warm else EventLog(backend)
        backend.arm(at, error, on=on)
        try:
            call(log)
        except (EventStoreError, FileNotFoundError):
            pass
        except PortError as found:
            raise AssertionError(f"{name}, way {number}: call {at} answers {answer}, and so on: {on}") from found
        if backend.calls < at:
            return
