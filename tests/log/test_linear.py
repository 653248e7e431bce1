"""What costs its length and not its square: deep forks, long lines, many damaged lines. Counted by steps, not by the clock."""

from collections.abc import Callable, Iterator
from functools import cache

import pytest
from log.faulty import CountingBackend, Passing

from eventstore.backends.memory import MemoryBackend
from eventstore.events import SessionCreated
from eventstore.log.base import BEGINNING
from eventstore.log.batch import prepare, seal
from eventstore.log.contract.sample import said
from eventstore.log.engine import EventLog
from eventstore.log.port import Reading
from eventstore.record import codec, hash_chain
from eventstore.record.fork_point import ForkPoint
from eventstore.record.salvage import salvage
from eventstore.record.scan import Tip

AT = "2026-01-01T00:00:00.000000Z"


@cache
def forked(depth: int) -> MemoryBackend:
    """Make a chain of forks, each of the one before it: `f0` to `f<depth>`, with an event of its own each."""
    backend = MemoryBackend()
    here = Tip(hash_chain.first_hash("f0"))
    for number in range(depth + 1):
        name = f"f{number}"
        point = ForkPoint(f"f{number - 1}", here.seq, here.digest, "f0", name)
        event = SessionCreated(forked_from=point.to_dict() if number else None)
        data, here = seal(prepare([event], codec.MAX_EVENT_BYTES), Tip(here.digest, 0, here.seq), AT)
        backend.append(name, data, expect=None, tip=here)
    return backend


def resume_all(log: EventLog, name: str) -> int:
    place = BEGINNING
    while True:
        data, place = log.resume(name, place)
        if not data:
            return place.version


OPERATIONS: dict[str, Callable[[EventLog, str], int]] = {
    "read": lambda log, name: sum(1 for _ in log.read(name)),
    "head": lambda log, name: log.head(name).version,
    "append": lambda log, name: log.append(name, [said("on")]).last - 1,
    "raw": lambda log, name: sum(chunk.count(b"\n") for chunk in log.raw(name).chunks),
    "first event": lambda log, name: sum(1 for _ in log.read(name, 0, 1)) and log.head(name).version,
}


@pytest.mark.parametrize("operation", OPERATIONS)
def test_a_fork_10_000_deep_costs_ten_times_one_1_000_deep(operation: str) -> None:
    calls = {}
    for depth in (1_000, 10_000):
        backend = CountingBackend(forked(depth))
        log, name = EventLog(backend), f"f{depth}"
        if operation == "append":  # the chain is shared: append to a fork of its last
            name = f"leaf{depth}"
            log.fork(name, f"f{depth}", depth + 1, SessionCreated())
            assert OPERATIONS[operation](log, name) == depth + 2
            log.remove(name)
        else:
            assert OPERATIONS[operation](log, name) == depth + 1
        calls[depth] = sum(backend.calls.values())
    assert calls[10_000] <= 10.5 * calls[1_000]


def test_a_deep_fork_is_read_on_in_few_steps() -> None:
    backend = CountingBackend(forked(2_000))
    assert resume_all(EventLog(backend), "f2000") == 2_001
    assert backend.calls["read"] < 2_000 * 20


class SmallChunks(Passing):
    """Reads come in pieces of 4 KiB that end anywhere, and what was consumed is counted."""

    consumed = 0

    def read(self, log: str, after: Tip | int = 0, upto: int | None = None) -> Reading:
        reading = self.inner.read(log, after, upto)
        return reading._replace(chunks=self._cut(reading.chunks))

    def _cut(self, chunks: Iterator[bytes]) -> Iterator[bytes]:
        for chunk in chunks:
            for start in range(0, len(chunk), 4096):
                piece = chunk[start : start + 4096]
                self.consumed += len(piece)
                yield piece


def test_a_line_of_16_mb_is_read_by_its_number_once() -> None:
    backend = SmallChunks(MemoryBackend())
    log = EventLog(backend)
    log.append("s", [SessionCreated()], expected_version=0)
    log.append("s", [said("x" * (codec.MAX_EVENT_BYTES - 1024))])
    log.append("s", [said("behind")])
    size, backend.consumed = log.head("s").size_bytes, 0
    (line,) = log.lines("s", 1, 2)
    assert len(line) > codec.MAX_EVENT_BYTES - 1024
    assert backend.consumed <= size
    backend.consumed = 0
    assert log.point_at("s", 2).version == 2
    assert backend.consumed <= size
    log.redact("s", [2], "a secret")
    assert backend.consumed <= 8 * size


def damaged(count: int) -> list[tuple[int, bytes]]:
    """Make lines of which each was edited: none of their hashes fits."""
    here, lines, offset = Tip(hash_chain.first_hash("s")), [], 0
    for number in range(count):
        data, here = seal(prepare([said(f"text {number}")], codec.MAX_EVENT_BYTES), here, AT)
        edited = data[:-1].replace(b"text", b"TEXT").replace(hash_chain.split(data)[1].hex().encode(), b"0" * 64)  # type: ignore[index]
        lines.append((offset, edited))
        offset += len(data)
    return lines


def test_salvage_of_10_000_damaged_lines_costs_ten_times_that_of_1_000(monkeypatch: pytest.MonkeyPatch) -> None:
    hashes = 0
    next_hash = hash_chain.next_hash

    def counted(previous: bytes, leaf: bytes) -> bytes:
        nonlocal hashes
        hashes += 1
        return next_hash(previous, leaf)

    counts = {}
    for count in (1_000, 10_000):
        lines = damaged(count)
        monkeypatch.setattr(hash_chain, "next_hash", counted)
        hashes = 0
        assert sum(1 for _ in salvage(hash_chain.first_hash("s"), lines)) == count
        counts[count] = hashes
        monkeypatch.undo()
    assert 0 < counts[10_000] <= 10.5 * counts[1_000]


def test_a_record_behind_many_fragments_is_still_known_to_build_on_the_last_intact_one() -> None:
    first, here = seal(prepare([said("first")], codec.MAX_EVENT_BYTES), Tip(hash_chain.first_hash("s")), AT)
    last, _ = seal(prepare([said("last")], codec.MAX_EVENT_BYTES), here, AT)
    junk = [line for _, line in damaged(100)]
    found = list(salvage(hash_chain.first_hash("s"), enumerate([first[:-1], *junk, last[:-1]])))
    assert [found[0].standing, found[-1].standing] == ["proven", "linked"]


def test_repair_of_many_damaged_lines_keeps_them_and_goes_on() -> None:
    backend = MemoryBackend()
    log = EventLog(backend)
    log.append("s", [SessionCreated()], expected_version=0)
    log.extend("s", [[said(f"text {number}")] for number in range(3_000)], expected_version=1)
    found = backend._logs["s"]
    found.lines[1:2_001] = [line.replace(b"text", b"TEXT") for line in found.lines[1:2_001]]
    done = EventLog(backend).repair("s", dry_run=False)
    assert done is not None
    assert done.restored == 1_000
    assert EventLog(backend).append("s", [said("on")]).last == 1 + 1 + done.restored + 1
