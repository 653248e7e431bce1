"""Crashes in the middle of a redaction: the log is intact, and either has the text as before, or nothing of it."""

import os
import random
import shutil
import signal
import subprocess
import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from breaking.case import Counts, folder, opened, said
from eventstore import FileSystemSessionStorage, LogDamaged, SessionManager
from eventstore import events as e
from eventstore.integrity import verify_session, verify_store

SECRET = b"the-secret-of-the-log"
PROGRAM = """
import sys
from eventstore import FileSystemSessionStorage, SessionManager
manager = SessionManager(FileSystemSessionStorage(sys.argv[1] + "/s", sys.argv[1] + "/h"))
manager.head("s"), manager.search("nothing")
print("ready", flush=True)
manager.redactions.redact("s", [2, 4], "a secret")
"""


def redact(full: bool) -> Counts:
    """Cut a redaction short at every byte and every call that changes a file, and kill it: no text is ever left."""
    counts = {"states": 0, "untouched": 0, "finished": 0, "steps": 0, "killed": 0, "done_again": 0}
    rng = random.Random(41)
    with folder() as root:
        states, line = _states(root, rng, 2000 if full else 60)
        path = root / "s" / "events.jsonl"
        for state in states:
            path.write_bytes(state)
            _goes_on(root, line, counts)
    _cut_at_each_call(1 if full else 3, counts)
    for n in range(300 if full else 5):
        with folder() as root:
            _kill(root, rng.random() * 0.02 if n else 0.0, counts)
    return counts


def _states(root: Path, rng: random.Random, mixed: int) -> tuple[Iterator[bytes], int]:
    """Return the possible states of the file after a crash, and the number of the line to redact."""
    path = root / "s" / "events.jsonl"
    with opened(root) as log:
        log.append("s", [e.SessionCreated()], expected_version=0)
        log.append("s", [said("one"), said(SECRET.decode() * 30), said("three")])
        log.append("s", [said("four")])
        before = path.read_bytes()
        log.redact("s", [3], "a secret")
        after = path.read_bytes()

    def states() -> Iterator[bytes]:
        told = before + after[len(before) :]
        yield from (told[:cut] for cut in range(len(before), len(told) + 1))
        first = next(place for place in range(len(before)) if before[place] != after[place])
        last = next(place for place in reversed(range(len(before))) if before[place] != after[place])
        for cut in range(first, last + 2):
            yield after[:cut] + told[cut:]
            yield told[:cut] + after[cut:]
        for _ in range(mixed):
            size = rng.choice([1, 8, 64, 512])
            parts = [rng.choice([after, told])[at : at + size] for at in range(0, len(told), size)]
            yield b"".join(parts)

    return states(), 3


def _goes_on(root: Path, line: int, counts: Counts) -> None:
    counts["states"] += 1
    path = root / "s" / "events.jsonl"
    with opened(root) as log:
        try:
            list(log.read("s"))
        except LogDamaged as damage:
            named = damage.line
        else:
            named = line
        assert named == line, "another line is named"
        log.append("s", [said("on")])
        events = list(log.read("s"))
    told = any(isinstance(event, e.EventRedacted) for event in events)
    assert isinstance(events[line - 1], e.RedactedEvent) == told, "told of and done are not the same"
    assert (SECRET in path.read_bytes()) != told, "something of the text is left"
    assert SECRET[:8] not in path.read_bytes() or not told, "a part of the text is left"
    counts["finished" if told else "untouched"] += 1


class _Killed(BaseException):
    """Raised in a killed program: nothing in it continues."""


_CHANGING = ("write", "pwrite", "replace", "rename", "unlink", "ftruncate", "mkdir", "rmdir", "symlink")


@contextmanager
def _dying(after: int) -> Iterator[list[str]]:
    """Let so many calls that change files pass; the next raises, and each after that. Yields the names of the calls made."""
    made: list[str] = []
    real = {name: getattr(os, name) for name in _CHANGING}

    def dying(name: str) -> Callable[..., Any]:
        def call(*args: Any, **named: Any) -> Any:
            if len(made) >= after:
                raise _Killed
            made.append(name)
            return real[name](*args, **named)

        return call

    for name in _CHANGING:
        setattr(os, name, dying(name))
    try:
        yield made
    finally:
        for name, function in real.items():
            setattr(os, name, function)


def _cut_at_each_call(step: int, counts: Counts) -> None:
    """Redact in a copy of one store again and again, each time killed one call later, and once more by a new program."""
    with folder() as root:
        seqs = _furnish(root / "store")
        calls = 1 << 30
        done = 0
        while done < calls:
            copy = root / f"copy{done}"
            shutil.copytree(root / "store", copy, symlinks=True)
            manager = _store(copy)
            with _dying(done) as made:
                try:
                    manager.redactions.redact("s", seqs, "a secret")
                    calls = len(made)
                except _Killed:
                    counts["steps"] += 1
            del manager
            with _store(copy) as again:
                _assert_no_tampering(again)
                again.redactions.redact("s", seqs, "a secret, again")
                again.flush()
                again.search("words")
                _assert_clean(again, copy)
            shutil.rmtree(copy)
            done += step


def _furnish(root: Path) -> list[int]:
    """Make a store with a text in every place that a redaction has to clean; return the numbers of the events that contain it."""
    text = SECRET.decode()
    with _store(root) as manager:
        manager.create_session("s", purpose=f"{text} words")
        manager.add_conversation_message("s", "user", text)
        path = root / "s" / "s" / "events.jsonl"
        size = path.stat().st_size
        manager.add_conversation_message("s", "user", f"{text} torn", id="k")
        manager.flush()
    os.truncate(path, size + 130)
    with _store(root) as manager:
        manager.add_conversation_message("s", "user", f"{text} torn", id="k")
        with manager.invocation("s", "tool", {"a": text}) as call:
            call.result = text
        manager.add_conversation_message("s", "tool", text, invocation_id=call.invocation_id)
        manager.fork_session("s", new_id="f")
        manager.fork_session("f", new_id="g")
        manager.templates.save("t", "s")
        manager.fork_session("s", new_id="h")
        manager.trash.put("h")
        manager.set_data("s", "k", text)
        manager.flush()
        manager.search("words")
        manager.analytics()
        seqs = [seq for seq, line in enumerate(manager.storage.log.lines("s"), 1) if SECRET in line]
    (root / "s" / "f" / ".events.jsonl.new").write_bytes(SECRET)
    (root / "s" / "s" / ".data.json.new").write_bytes(SECRET)
    (root / "s" / "_adopt" / "made").mkdir(parents=True)
    (root / "s" / "_adopt" / "made" / "events.jsonl").write_bytes(SECRET)
    return seqs


def _kill(root: Path, after_seconds: float, counts: Counts) -> None:
    with _store(root) as manager:
        manager.create_session("s", purpose="p")
        manager.add_conversation_message("s", "user", SECRET.decode())
        manager.fork_session("s", new_id="f")
        manager.fork_session("f", new_id="g")
        manager.trash.put("g")
        manager.add_conversation_message("s", "user", "between")
        manager.set_data("s", "k", SECRET.decode())
        manager.list_sessions()
        manager.search("secret")
    child = subprocess.Popen([sys.executable, "-c", PROGRAM, str(root)], stdout=subprocess.PIPE)
    assert child.stdout is not None
    child.stdout.readline()
    try:
        child.wait(after_seconds)
    except subprocess.TimeoutExpired:
        child.send_signal(signal.SIGKILL)
        child.wait()
        counts["killed"] += 1
    with _store(root) as manager:
        manager.redactions.redact("s", [2, 4], "a secret, again")
        manager.flush()
        _assert_clean(manager, root)
    counts["done_again"] += 1


def _assert_no_tampering(manager: SessionManager) -> None:
    """Assert that every log is what it should be, though a redaction was cut short."""
    for one in manager.storage.log.ids():
        wrong = [finding for finding in verify_session(manager.storage, one).findings if finding.part == "log"]
        assert not wrong, wrong


def _assert_clean(manager: SessionManager, root: Path) -> None:
    """Assert that everything is intact and that no file of the store contains the text."""
    for one in manager.storage.log.ids():
        verdict = verify_session(manager.storage, one)
        assert verdict.is_whole, verdict
    assert not verify_store(manager.storage).findings
    left = [path for path in root.rglob("*") if path.is_file() and SECRET[:9] in path.read_bytes()]
    assert not left, f"the text is left in {left}"


def _store(root: Path) -> SessionManager:
    return SessionManager(FileSystemSessionStorage(root / "s", root / "h"))
