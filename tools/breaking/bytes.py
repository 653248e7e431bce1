"""Bytes: a log cut at every byte, each bit flipped, bytes set, removed and doubled, nine kinds of damage, misplaced lines."""

import random
from collections.abc import Callable
from functools import cache
from pathlib import Path

from breaking.case import Counts, contents, folder, opened, said, sample
from eventstore import LogDamaged, SessionNotFound
from eventstore import events as e
from eventstore.record import clock, codec, hash_chain
from eventstore.record.salvage import salvage
from eventstore.record.scan import Scan, Tip


def scanned(data: bytes, session_id: str = "s") -> Scan:
    """Verify bytes as a log does."""
    scan = Scan(Tip(hash_chain.first_hash(session_id)))
    scan.feed([data])
    return scan


def committed(lines: list[bytes]) -> list[int]:
    """List the end, in bytes, of each complete batch."""
    ends, offset = [0], 0
    for line in lines:
        offset += len(line)
        head = codec.head(line)
        assert head is not None
        if head.batch is None or head.batch[0] + 1 == head.batch[1]:
            ends.append(offset)
    return ends


def cut(full: bool) -> Counts:
    """Cut the log at every byte: readers see the longest valid prefix, the next writer keeps the cut bytes and appends."""
    counts = {"cuts": 0, "through_writer": 0, "quarantined": 0, "accepted": 0}
    with folder() as root:
        path = sample(root, 150 if full else 30)
        whole = path.read_bytes()
        lines = whole.splitlines(keepends=True)
        ends = committed(lines)
        tail = len(whole) - len(lines[-1])
        step = 1 if full else 3
        for size in range(0, len(whole), step):
            best = max(end for end in ends if end <= size)
            assert scanned(whole[:size]).here.offset == best, f"cut at {size}"
            counts["cuts"] += 1
            if size > tail or size % 97 == 0:
                _through_writer(root, path, whole[:size], best, counts)
    return counts


def _through_writer(root: Path, path: Path, data: bytes, best: int, counts: Counts) -> None:
    path.write_bytes(data)
    with opened(root) as log:
        try:
            before = contents(log)
        except SessionNotFound:
            assert best == 0
            return
        log.append("s", [said("after the cut")])
        counts["accepted"] += 1
        after = contents(log)
        finished = len(after) > len(before) + 1  # a complete record that lacked only its line feed
        assert after[: len(before)] == before
        assert after[-1] == "after the cut"
        kept = log.quarantine("s")
        assert finished or bool(kept) == (len(data) > best), f"cut at {len(data)}"
        for name in kept:
            file = path.parent / name
            assert file.read_bytes() == data[best:]
            file.unlink()
            counts["quarantined"] += 1
    counts["through_writer"] += 1


def flip(full: bool) -> Counts:
    """Change one byte at a time: every change is found and its line named, and none before the tail counts as torn."""
    counts = {"changes": 0, "found": 0, "torn_tails": 0, "harmless": 0}
    rng = random.Random(7)
    for n in range(16 if full else 1):
        with folder() as root:
            whole = sample(root, 6, batch=2 + n % 4, size=20 + n).read_bytes()
        last = whole[:-1].rindex(b"\n") + 1
        for place in range(len(whole)):
            for changed in _changes(whole, place, rng):
                if changed != whole:
                    counts["changes"] += 1
                    _found(whole, changed, place, last, counts)
    return counts


def _changes(whole: bytes, place: int, rng: random.Random) -> list[bytes]:
    before, byte, after = whole[:place], whole[place], whole[place + 1 :]
    flipped = [bytes([byte ^ 1 << bit]) for bit in range(8)]
    put = [b"\0", b"\xff", b"\n", bytes([rng.randrange(256)]), b"", bytes([byte, byte])]
    return [before + new + after for new in (*flipped, *put)]


def _found(whole: bytes, changed: bytes, place: int, last: int, counts: Counts) -> None:
    scan = scanned(changed)
    start = whole.rfind(b"\n", 0, place) + 1
    if scan.fault is None:
        # The last line feed was lost (the next writer gives it back), or nothing but it was doubled.
        assert scan.unended is not None, f"byte {place}: not found"
        counts["harmless"] += 1
        return
    counts["found"] += 1
    end = _next(whole, place)
    assert scan.here.offset <= start or changed[start:end] == whole[start:end], f"byte {place}"
    assert scan.here.offset in _batch_ends(whole), f"byte {place}: a part of a batch was taken for the whole"
    assert scan.fault.offset_bytes in (start, _next(whole, place)), f"byte {place}: named {scan.fault.offset_bytes}"
    if scan.fault.torn:
        counts["torn_tails"] += 1
        assert place >= last - 1, f"byte {place}: damage in the middle passed for a torn tail"


@cache
def _batch_ends(whole: bytes) -> frozenset[int]:
    ends, offset = {0}, 0
    for line in whole.splitlines(keepends=True):
        offset += len(line)
        head = codec.head(line)
        assert head is not None
        if head.batch is None or head.batch[0] + 1 == head.batch[1]:
            ends.add(offset)
    return frozenset(ends)


def _next(whole: bytes, place: int) -> int:
    found = whole.find(b"\n", place)
    return len(whole) if found < 0 else found + 1


def _hashless(rng: random.Random, lines: list[bytes], n: int) -> list[bytes]:
    at = -rng.randrange(5, 60)
    return [*lines[:n], lines[n][:at] + b"?" + lines[n][at + 1 :], *lines[n + 1 :]]


def _changed(rng: random.Random, lines: list[bytes], n: int) -> list[bytes]:
    at = rng.randrange(1, len(lines[n]) - 80)
    return [*lines[:n], lines[n][:at] + bytes([lines[n][at] ^ 1]) + lines[n][at + 1 :], *lines[n + 1 :]]


CLASSES: dict[str, Callable[[random.Random, list[bytes], int], list[bytes]]] = {
    "stub_glued_to_next": lambda rng, lines, n: [
        *lines[:n], lines[n][: rng.randrange(1, len(lines[n]))] + lines[n + 1], *lines[n + 2 :],
    ],
    "missing_line_feed": lambda rng, lines, n: [*lines[:n], lines[n] + lines[n + 1], *lines[n + 2 :]],
    "nul_run": lambda rng, lines, n: [*lines[:n], b"\0" * rng.randrange(1, 5000), *lines[n:]],
    "nul_inside": lambda rng, lines, n: [*lines[:n], lines[n][:30] + b"\0" * 64 + lines[n][94:], *lines[n + 1 :]],
    "half_line": lambda rng, lines, n: [*lines[:n], lines[n][: rng.randrange(1, len(lines[n]))], *lines[n + 1 :]],
    "line_gone": lambda rng, lines, n: [*lines[:n], *lines[n + 1 :]],
    "line_changed": _changed,
    "hash_changed": _hashless,
    "junk_between": lambda rng, lines, n: [*lines[:n], rng.randbytes(40).replace(b"\n", b""), *lines[n:]],
}  # fmt: skip


def classes(full: bool) -> Counts:
    """Damage logs in nine ways: every undamaged record is returned, none is invented, and the damage is always reported."""
    counts = {"logs": 0, "records": 0, "returned": 0, "fragments": 0}
    rng = random.Random(11)
    with folder() as root:
        whole = sample(root, 12, size=20).read_bytes().split(b"\n")[:-1]
    for _ in range(10_000 // len(CLASSES) + 1 if full else 120):
        for name, damage in CLASSES.items():
            lines = damage(rng, whole, rng.randrange(1, len(whole) - 2))
            data = b"\n".join(lines) + b"\n"
            fault = scanned(data).fault
            assert fault is not None, f"{name}: not found"
            assert not fault.torn, f"{name}: passed for a torn tail"
            _salvaged(name, whole, data, counts)
    return counts


def _salvaged(name: str, whole: list[bytes], data: bytes, counts: Counts) -> None:
    found = list(salvage(hash_chain.first_hash("s"), _numbered(data)))
    kept = {remnant.raw for remnant in found}
    for remnant in found:
        good = remnant.standing in ("proven", "linked")
        assert not good or remnant.raw in whole, f"{name}: invented {remnant.raw[:60]!r}"
        counts["returned"] += good
        counts["fragments"] += remnant.standing == "damaged"
    for line in whole:
        if line in data:
            counts["records"] += 1
            assert line in kept, f"{name}: lost {line[:60]!r}"
    counts["logs"] += 1


def _numbered(data: bytes) -> list[tuple[int, bytes]]:
    numbered, offset = [], 0
    for line in data.split(b"\n")[:-1]:
        numbered.append((offset, line))
        offset += len(line) + 1
    return numbered


def swap(full: bool) -> Counts:
    """Put complete lines and complete files in wrong places: each is reported as damage or as a finding."""
    rounds = 1000 if full else 40
    counts = {"swapped": 0, "dropped": 0, "repeated": 0, "reordered": 0, "files": 0, "put_back": 0}
    rng = random.Random(13)
    with folder() as root:
        lines = sample(root, 12, size=20).read_bytes().splitlines(keepends=True)
    for _ in range(rounds):
        one, other = sorted(rng.sample(range(len(lines) - 1), 2))
        swapped = lines.copy()
        swapped[one], swapped[other] = swapped[other], swapped[one]
        shuffled = lines.copy()
        while shuffled == lines:
            rng.shuffle(shuffled)
        for kind, changed in {
            "swapped": swapped,
            "dropped": lines[:one] + lines[one + 1 :],
            "repeated": [*lines[:other], lines[one], *lines[other:]],
            "reordered": shuffled,
        }.items():
            fault = scanned(b"".join(changed)).fault
            assert fault is not None, kind
            assert not fault.torn, kind
            counts[kind] += 1
    _swap_files(rounds // 10, counts)
    return counts


def _swap_files(rounds: int, counts: Counts) -> None:
    from eventstore import FileSystemSessionStorage, SessionManager
    from eventstore.integrity import verify_session, verify_store

    for n in range(max(rounds, 4)):
        with folder() as root, FileSystemSessionStorage(root / "s", root / "h", fsync="no") as storage:
            manager = SessionManager(storage)
            for name in ("a", "b"):
                manager.create_session(name, occurred_at="2020-01-01T00:00:00Z")
                manager.add_conversation_message(name, "user", str(n))
            old = (root / "s" / "a" / "events.jsonl").read_bytes()
            manager.add_conversation_message("a", "user", "more")
            storage.flush()
            (root / "s" / "a" / "events.jsonl").write_bytes(old)
            assert not verify_session(storage, "a").is_whole
            counts["put_back"] += 1
            (root / "s" / "a" / "events.jsonl").write_bytes((root / "s" / "b" / "events.jsonl").read_bytes())
            try:
                list(opened(root / "s").read("a"))
            except LogDamaged:
                counts["files"] += 1
            (root / "s" / "b").rename(root / "s" / "c")
            store = verify_store(storage)
            assert [one.session_id for one in store.findings] == ["b"], store.findings
            assert any("session c" in note for note in store.notes), store.notes
            assert not verify_session(storage, "a").is_whole
            assert not verify_session(storage, "c").is_whole


def shifted_clock(full: bool) -> Counts:
    """Set the clock anywhere from 1971 to 2099 before each append: `at` never goes back, order is by seq, all is read."""
    counts = {"events": 0, "backward": 0}
    rng = random.Random(17)
    now = clock.now
    try:
        with folder() as root, opened(root) as log:
            log.append("s", [e.SessionCreated()], expected_version=0)
            before = ""
            for n in range(1000 if full else 300):
                told = f"{rng.randrange(1971, 2099)}-01-02T03:04:05.{rng.randrange(10**6):06d}Z"
                counts["backward"] += told < before
                before = told
                clock.now = lambda told=told: told  # type: ignore[misc]
                log.append("s", [said(str(n))])
                counts["events"] += 1
            times = [event.at for event in log.read("s")]
            assert times == sorted(times)
            assert contents(log) == [str(n) for n in range(counts["events"])]
    finally:
        clock.now = now
    assert counts["backward"] > 0
    return counts
