"""Everything at once: programs do all kinds of operations on one store and are killed at random, and then all of it must hold."""

import fcntl
import json
import math
import os
import random
import selectors
import signal
import time
import warnings
from collections import Counter
from collections.abc import Iterator
from dataclasses import dataclass, field
from datetime import datetime
from pathlib import Path
from typing import Any

from breaking.case import Counts, folder
from breaking.mixed_fold import Known, Logs, Record, fold
from breaking.mixed_work import SESSIONS, WORDS, Worker, storage_of, work_for_ever
from eventstore import SessionManager
from eventstore.integrity import verify_all
from eventstore.store.rebuild import check_all

_WORKERS = 8
_LAST_STEPS = 120
_REPORTS = "reports.jsonl"
"""What the programs report that are not killed: in the folder of the store, but not part of it."""


@dataclass
class _Child:
    pid: int
    reading: int
    rest: bytes = b""


@dataclass
class _Reports:
    """What workers reported: `done` was read before the worker was killed, `begun` at any time."""

    done: list[Record] = field(default_factory=list)
    begun: list[Record] = field(default_factory=list)
    refused: Counter[str] = field(default_factory=Counter)
    warned: Counter[str] = field(default_factory=Counter)

    def take(self, one: Record, *, in_time: bool) -> None:
        assert "bad" not in one, one["bad"]
        if "do" in one:
            self.begun.append(one)
        elif "refused" in one:
            self.refused[f"{one['refused']}: {one['error']}"] += 1
        elif "warned" in one:
            self.warned[one["warned"]] += 1
        elif in_time:
            self.done.append(one)


def mixed(full: bool, seed: int = 43) -> Counts:
    """Do all kinds of operations in 8 programs that are killed at random: nothing accepted is lost, all that is derived fits."""
    kills = 300 if full else 10
    rng, reports = random.Random(seed), _Reports()
    counts = {"kills": 0, "accepted": 0, "kinds": 0, "checked": 0, "redacted": 0, "sessions": 0, "forks": 0, "hits": 0}
    with folder() as root:
        _in_fresh_program(_begin, root, seed)
        children = [_start(root, n, 0, seed) for n in range(_WORKERS)]
        try:
            while counts["kills"] < kills:
                _listen(children, reports, rng.uniform(0.01, 0.4))
                place = rng.randrange(_WORKERS)
                _kill(children[place], reports)
                counts["kills"] += 1
                children[place] = _start(root, place, counts["kills"], seed)
            _listen(children, reports, 0.5)
        finally:
            for child in children:
                os.kill(child.pid, signal.SIGKILL)
        for child in children:
            _kill(child, reports)
        counts["kinds"] = len({one["done"] for one in reports.done})
        _check(root, reports, seed, counts)
        counts["accepted"] = len(reports.done)
    return counts


# --- programs, and what they report


def _start(root: Path, place: int, turn: int, seed: int) -> _Child:
    reading, writing = os.pipe()
    pid = os.fork()
    if not pid:
        os.close(reading)
        work_for_ever(root, f"{place}x{turn}", f"{seed}.{place}.{turn}", writing)
    os.close(writing)
    return _Child(pid, reading)


def _listen(children: list[_Child], reports: _Reports, seconds: float) -> None:
    """Read reports for so long."""
    until = time.monotonic() + seconds
    with selectors.DefaultSelector() as chosen:
        for child in children:
            chosen.register(child.reading, selectors.EVENT_READ, child)
        while (left := until - time.monotonic()) > 0:
            for key, _ in chosen.select(left):
                data = os.read(key.fd, 1 << 16)
                if not data:
                    chosen.unregister(key.fd)  # it ended by itself: its last report says why, and `_kill` sees it
                _take(key.data, data, reports, in_time=True)


def _take(child: _Child, data: bytes, reports: _Reports, *, in_time: bool) -> None:
    *lines, child.rest = (child.rest + data).split(b"\n")
    for line in lines:
        reports.take(json.loads(line), in_time=in_time)


def _kill(child: _Child, reports: _Reports) -> None:
    os.kill(child.pid, signal.SIGKILL)
    _, status = os.waitpid(child.pid, 0)
    with os.fdopen(child.reading, "rb") as stream:
        _take(child, stream.read(), reports, in_time=False)
    assert os.WIFSIGNALED(status), "a program had failed before it was killed"


# --- what must hold


def _check(root: Path, reports: _Reports, seed: int, counts: Counts) -> None:
    damage = [text for text in reports.warned if "damaged" in text or "tampered" in text]
    assert not damage, f"a healthy store was called damaged: {damage[:3]}"
    _free_of_locks(root)
    _in_fresh_program(_go_on, root, seed)
    _free_of_locks(root)
    for line in (root / _REPORTS).read_bytes().splitlines():
        reports.take(json.loads(line), in_time=True)
    logs = Logs.of(root / "sessions")
    _nothing_lost(logs, reports, counts)
    counts["redacted"] = _nothing_left(root, reports)
    _in_fresh_program(_compare, root, seed)
    counts["sessions"] = len(logs.sessions)
    counts["forks"] = sum(one["type"] == "session.created" and "forked_from" in one for one in _all_lines(logs))
    counts["hits"] = sum(any(word in one.get("content", "") for word in WORDS) for one in _all_lines(logs))
    _no_temporary_files(root)


def _in_fresh_program(work: Any, root: Path, seed: int) -> None:
    """Do something in a new process, which must have the same descriptors open afterwards."""
    pid = os.fork()
    if not pid:
        try:
            before = _descriptors()
            work(root, seed)
            assert _descriptors() == before, f"left open: {_descriptors().items() - before.items()}"
        except BaseException:
            import traceback

            traceback.print_exc()
            os._exit(1)
        os._exit(0)
    assert os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1]) == 0, f"{work.__name__} failed: see above"


def _descriptors() -> dict[str, str]:
    found = {}
    for name in os.listdir("/proc/self/fd"):
        try:
            found[name] = os.readlink(f"/proc/self/fd/{name}")
        except FileNotFoundError:  # that of the listing itself
            continue
    return found


def _free_of_locks(root: Path) -> None:
    """Take every lock of the store; no process can hold one any more."""
    for path in root.rglob("*"):
        if path.is_file() and not path.is_symlink():
            with path.open("rb") as stream:
                fcntl.flock(stream, fcntl.LOCK_EX | fcntl.LOCK_NB)


def _worker(root: Path, manager: SessionManager, name: str, seed: int) -> Worker:
    """Make a worker that is not killed and writes its reports to a file."""

    def report(one: Record) -> None:
        with (root / _REPORTS).open("a") as stream:
            stream.write(json.dumps(one) + "\n")

    return Worker(manager, name, random.Random(seed), report)


def _begin(root: Path, seed: int) -> None:
    with storage_of(root) as storage:
        manager = SessionManager(storage)
        worker = _worker(root, manager, "first", seed)
        for n in range(0, SESSIONS, 2):
            worker.create(f"s{n}")
        for _ in range(_LAST_STEPS):
            worker.step()


def _go_on(root: Path, seed: int) -> None:
    """Continue as a new program does: one more event in each session, then all is intact; then more operations of every kind."""
    with storage_of(root) as storage:
        manager = SessionManager(storage)
        manager.create_session(f"last{seed}")
        for name in sorted(storage.log.ids()):
            manager.set_data(name, "last", 1)
        manager.flush()
        wrong = [verdict for verdict in verify_all(storage) if not verdict.is_whole]
        assert not wrong, wrong
        differing = [one for one in check_all(storage, 1) if one.damage or one.difference]
        assert not differing, differing
        worker = _worker(root, manager, "last", seed)
        for _ in range(_LAST_STEPS):
            worker.step()


def _nothing_lost(logs: Logs, reports: _Reports, counts: Counts) -> None:
    """Look for each event that was acknowledged: it is there once, in its session, unless that was deleted, or it redacted."""
    lives: dict[str, list[tuple[list[Record], dict[str, list[int]]]]] = {}
    for one in reports.done:
        if one.get("token"):
            found = lives.get(one["session"])
            if found is None:
                found = lives[one["session"]] = [(life, _tokens(life)) for life in logs.lives(one["session"])]
            counts["checked"] += _is_there(one, found, logs, reports)


def _tokens(life: list[Record]) -> dict[str, list[int]]:
    """Map each token to the numbers of the events that contain it."""
    found: dict[str, list[int]] = {}
    for one in life:
        for token in _said_in(one):
            found.setdefault(token, []).append(one["seq"])
    return found


def _said_in(one: Record) -> Iterator[str]:
    if "redacted" in one:
        return
    kind = one["type"]
    if kind == "session.created" and one.get("purpose"):
        yield one["purpose"].removeprefix("purpose ")
    elif kind == "message.added":
        yield one["content"].split()[0]
    elif kind in ("invocation.started", "invocation.linked"):
        yield one["invocation_id"]
    elif kind == "usage.recorded" and one.get("key"):
        yield one["key"]
    elif kind == "data.set" and isinstance(one.get("value"), dict):
        yield one["value"]["is"]


def _is_there(
    one: Record, lives: list[tuple[list[Record], dict[str, list[int]]]], logs: Logs, reports: _Reports
) -> bool:
    token = one["token"].removeprefix("purpose ")
    numbers = [tokens[token] for _, tokens in lives if token in tokens]
    is_call = one["done"] == "call"
    wanted = 2 if is_call else 1
    assert len(numbers) <= 1, f"{one} is in two logs of its session"
    if numbers and (len(numbers[0]) == wanted or (is_call and len(numbers[0]) > 2)):  # a redaction says its end again
        assert "seq" not in one or numbers[0] == [one["seq"]], f"{one} is elsewhere: {numbers[0]}"
        return True
    assert not numbers or len(numbers[0]) < wanted, f"{one} is there {len(numbers[0])} times"
    if _is_redacted(one, lives, reports):
        return False
    assert _was_deleted(one, logs, reports), f"lost: {one}, found {numbers}"
    return False


def _is_redacted(one: Record, lives: list[tuple[list[Record], dict[str, list[int]]]], reports: _Reports) -> bool:
    """Return whether the event is a tombstone that a redaction requested."""
    kinds = {"call": ("invocation.started", "invocation.linked"), "fork": ("session.created",)}
    for life, _ in lives:
        for line in life if "seq" not in one else life[one["seq"] - 1 : one["seq"]]:
            is_kind = one["done"] not in kinds or line["type"] in kinds[one["done"]]
            if "redacted" in line and is_kind and any(each.get("seq") == line["seq"] for each in reports.begun):
                return True
    return False


def _was_deleted(one: Record, logs: Logs, reports: _Reports) -> bool:
    """Return whether a process was deleting the session and the store's own log records that, later than the event."""
    asked = any(each["do"] == "delete" and each["session"] == one["session"] for each in reports.begun)
    kinds = ("store.session_deleted", "store.trash_purged")
    ends = [line for line in logs.store if line["type"] in kinds and line["session_id"] == one["session"]]
    return asked and any(_seconds(line["at"]) >= one["since"] for line in ends)


def _seconds(at: str) -> float:
    return datetime.fromisoformat(at).timestamp()


def _nothing_left(root: Path, reports: _Reports) -> int:
    """Look for texts whose redaction was acknowledged in every file of the store; return how many there were."""
    gone = {token for one in reports.done if one["done"] == "redact" for token in one["tokens"]}
    for path in root.rglob("*"):
        if path.is_file() and not path.is_symlink() and path.name != _REPORTS:
            data = path.read_bytes()
            left = [token for token in gone if token.encode() in data]
            assert not left, f"the text of {left} was redacted, and is left in {path}"
    return len(gone)


def _all_lines(logs: Logs) -> Iterator[Record]:
    return (one for lines in (*logs.sessions.values(), *logs.trashed.values()) for one in lines)


def _no_temporary_files(root: Path) -> None:
    """Look for files and folders that a killed program was making."""
    left = [path for path in root.rglob("*") if path.name.endswith((".new", ".tmp")) or path.parent.name == "_adopt"]
    assert not left, f"left behind: {left}"
    for path in (root / "sessions").iterdir():
        is_log = path.is_dir() and path.name[0] not in "_."
        assert not is_log or (path / "events.jsonl").stat().st_size, f"{path} holds no event"


def _compare(root: Path, seed: int) -> None:
    """Compare lists, search and figures with an independent fold, before and after all derived data was rebuilt."""
    logs = Logs.of(root / "sessions")
    whole = {name: fold(logs.history(lines)) for name, lines in logs.sessions.items()}
    own = {name: fold(lines) for name, lines in logs.sessions.items()}
    warnings.simplefilter("error")
    for _ in range(2):
        with storage_of(root) as storage:
            manager = SessionManager(storage)
            _compare_lists(manager, whole)
            _compare_search(manager, own)
            _compare_figures(manager, own)
            list(storage.rebuild())
            differing = [one for one in check_all(storage, 1) if one.damage or one.difference]
            assert not differing, differing


def _compare_lists(manager: SessionManager, expected: dict[str, Known]) -> None:
    found = {one.metadata.session_id: one for one in manager.list_sessions(limit=None)}
    assert found.keys() == expected.keys(), found.keys() ^ expected.keys()
    for name, known in expected.items():
        session, about = found[name], found[name].metadata
        assert (about.user_id, about.purpose, about.tags) == (known.user_id, known.purpose, known.tags), name
        times = [datetime.fromisoformat(one) for one in (known.created_at, known.updated_at)]
        assert [about.created_at, about.updated_at] == times, (name, about.created_at, about.updated_at, times)
        assert (about.total_invocations, sorted(about.tools_used)) == (len(known.calls), sorted(known.tools)), name
        assert (about.token_usage or {}, about.estimated_cost) == (known.tokens, known.cost), name
        assert [one.content for one in session.conversation] == known.messages, name
        assert session.data == known.data, name


def _compare_search(manager: SessionManager, expected: dict[str, Known]) -> None:
    for word in WORDS:
        found = [(hit.session_id, hit.seq) for hit in manager.search(word, limit=100_000, wait_s=None)]
        wanted = [(name, seq) for name, known in expected.items() for seq, text in known.found if word in text.split()]
        assert sorted(found) == sorted(wanted), f"{word}: {set(found) ^ set(wanted)}"


def _compare_figures(manager: SessionManager, expected: dict[str, Known]) -> None:
    rows = manager.analytics("tool")
    sums = [sum(getattr(row, name) for row in rows) for name in ("messages", "calls", "errors", "tokens", "cost")]
    calls = [call for known in expected.values() for call in known.calls.values()]
    wanted = [
        sum(len(known.messages) for known in expected.values()),
        len(calls),
        sum(call["failed"] for call in calls),
        sum(sum(known.tokens.values()) for known in expected.values()),
        sum(known.cost or 0.0 for known in expected.values()),
    ]
    assert sums == wanted, (sums, wanted)
    spent = sum(row.duration_ms for row in rows)
    assert math.isclose(spent, sum(call["duration_ms"] for call in calls), abs_tol=0.001), spent
