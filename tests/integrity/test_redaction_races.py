"""Redaction beside other programs: no reader calls it tampering, no fork is broken by it, and nothing of SQLite stops it."""

import os
import sqlite3
import subprocess
import sys
import threading
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from eventstore import FileSystemSessionStorage, SessionManager
from eventstore import events as e
from eventstore.ids import STORE_ID
from eventstore.integrity import verify_session, verify_store
from eventstore.record import tombstone

SECRET = "hunter2-the-secret"


def opened(root: Path) -> SessionManager:
    return SessionManager(FileSystemSessionStorage(root / ".sessions", root / ".history", fsync="no"))


@pytest.fixture
def one(tmp_path: Path) -> Iterator[SessionManager]:
    with opened(tmp_path) as manager:
        manager.create_session("s")
        manager.add_conversation_message("s", "user", SECRET)
        manager.set_data("s", "k", 1)
        yield manager


def holding(root: Path) -> list[str]:
    return [str(path) for path in root.rglob("*") if path.is_file() and SECRET.encode() in path.read_bytes()]


def before_the_first_read(monkeypatch: pytest.MonkeyPatch, act: Callable[[], object]) -> None:
    """Let something happen when a file is first read from: its size was taken before."""
    real, pending = os.pread, [act]

    def pread(descriptor: int, size: int, offset: int) -> bytes:
        if pending:
            pending.pop()()
        return real(descriptor, size, offset)

    monkeypatch.setattr(os, "pread", pread)


READERS: dict[str, Callable[[SessionManager], object]] = {
    "events": lambda manager: list(manager.events("s")),
    "head": lambda manager: manager.head("s"),
    "verify": lambda manager: verify_session(manager.storage, "s").findings,
    "list": lambda manager: [one.session_id for one in manager.page_sessions().sessions],
}


@pytest.mark.parametrize("reader", READERS)
@pytest.mark.parametrize("knows", [False, True])
def test_a_reader_that_meets_a_redaction_finds_no_tampering(
    one: SessionManager, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, reader: str, knows: bool
) -> None:
    with opened(tmp_path) as other:
        if knows:
            other.head("s")
            one.set_data("s", "k", 2)
        before_the_first_read(monkeypatch, lambda: one.redactions.redact("s", 2, "a secret"))
        found = READERS[reader](other)
        assert found != [] or reader == "verify"
        if reader == "verify":
            assert found == () or found == []
        assert verify_session(other.storage, "s").is_whole


def test_a_fork_made_by_a_program_that_read_its_parent_before_a_redaction_is_whole(
    one: SessionManager, tmp_path: Path
) -> None:
    with opened(tmp_path) as other:
        other.redactions.redact("s", 2, "a secret")
    one.fork_session("s", at=3, new_id="f")
    one.fork_session("f", at=2, new_id="g")
    with opened(tmp_path) as fresh:
        for session_id in ("s", "f", "g"):
            assert verify_session(fresh.storage, session_id).findings == ()
        fresh.trash.put("s")
        for session_id in ("f", "g"):
            assert verify_session(fresh.storage, session_id).findings == ()


def test_a_fork_of_a_log_whose_redaction_a_crash_cut_short_is_whole_when_that_is_finished(
    one: SessionManager, tmp_path: Path
) -> None:
    line = next(one.storage.log.lines("s", 1, 2))
    leaf = tombstone.leaf_of(line)
    assert leaf is not None
    known = e.StoreEventsRedacted(session_id="s", targets=(2,), leaves=(leaf.hex(),), reason="cut short")
    one.storage.log.append(STORE_ID, [known])
    one.storage.log.append("s", [e.EventRedacted(target=2, leaf=leaf.hex(), reason="cut short")])
    with opened(tmp_path) as other:
        other.fork_session("s", at=3, new_id="f")
        other.set_data("s", "k", 3)
        assert verify_session(other.storage, "f").findings == ()
        assert verify_session(other.storage, "s").findings == ()
    assert not [name for name in holding(tmp_path) if name.endswith("events.jsonl")]


def test_a_catalogue_in_use_does_not_stop_a_redaction(one: SessionManager, tmp_path: Path) -> None:
    one.search(SECRET)
    one.page_sessions()
    blocker = sqlite3.connect(tmp_path / ".sessions" / "_catalog" / "catalog.db", isolation_level=None)
    blocker.execute("BEGIN IMMEDIATE")
    try:
        done = one.redactions.redact("s", 2, "a secret")
        one.flush()
    finally:
        blocker.close()
    assert done.seqs == (2,)
    assert done.left == ()
    assert holding(tmp_path) == []
    assert one.search(SECRET) == []
    assert verify_session(one.storage, "s").findings == verify_store(one.storage).findings == ()


@pytest.mark.parametrize("step", ["views", "snapshots", "search", "catalog", "history", "clear"])
def test_what_fails_in_a_derived_step_is_named_and_done_by_the_next_call(
    one: SessionManager, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, step: str
) -> None:
    storage = one.storage
    assert isinstance(storage, FileSystemSessionStorage)
    assert storage.history is not None
    one.add_conversation_message("s", "user", f"more {SECRET}")
    one.search("more")
    one.flush()

    def fail(*_: object, **__: object) -> None:
        raise OSError(5, "the disk failed")

    with monkeypatch.context() as patch:
        place, name = {
            "views": (storage.views, "remove"),
            "snapshots": (storage.snapshots, "remove"),
            "search": (storage._search, "forget"),
            "catalog": (storage.catalog, "scrub"),
            "history": (storage.history, "redact"),
            "clear": (storage.catalog, "clear"),
        }[step]
        patch.setattr(place, name, fail)
        if step == "clear":
            patch.setattr(storage.catalog, "scrub", fail)
        done = one.redactions.redact("s", [2, 4], "a secret")
    assert all(isinstance(event, e.RedactedEvent) for event in list(one.events("s"))[1:4:2])
    named = {Path(name).name for name in done.left}
    assert {Path(path).name for path in holding(tmp_path)} <= named
    again = one.redactions.redact("s", [2, 4], "a secret")
    one.flush()
    assert (again.seqs, again.left) == ((), ())
    assert holding(tmp_path) == []


WORKER = """
import sys
from pathlib import Path
from eventstore import FileSystemSessionStorage, SessionManager
root = Path(sys.argv[1])
manager = SessionManager(FileSystemSessionStorage(root / ".sessions", root / ".history", fsync="no"))
print("ready", flush=True)
n = 0
while not (root / "stop").exists():
    n += 1
    if sys.argv[2] == "search":
        try:
            manager.search("words")
        except Exception as error:
            print(type(error).__name__, flush=True)
    else:
        for session_id in ("s", "t"):
            list(manager.events(session_id))
            manager.get_session(session_id)
            manager.add_conversation_message(session_id, "user", f"other words {n}")
manager.close()
"""


def test_redactions_beside_readers_and_searchers_leave_nothing(tmp_path: Path) -> None:
    with opened(tmp_path) as manager:
        manager.create_session("s")
        manager.create_session("t")
        others = [
            subprocess.Popen(
                [sys.executable, "-c", WORKER, str(tmp_path), what],
                stdout=subprocess.PIPE,
                stderr=subprocess.PIPE,
                text=True,
            )
            for what in ("search", "read")
        ]
        for other in others:
            assert other.stdout is not None
            assert other.stdout.readline() == "ready\n"
        removed = []
        for n in range(6):
            session_id, text = ("s", "t")[n % 2], f"tokq{n}q-{SECRET} words"
            place = manager.add_conversation_message(session_id, "user", text)
            done = manager.redactions.redact(session_id, place.first, "a secret")
            assert done.seqs == (place.first,)
            removed.append(text)
        (tmp_path / "stop").touch()
        errors = [other.communicate(timeout=60)[1] for other in others]
        assert errors == ["", ""]
        manager.search("words")
        manager.flush()
    with opened(tmp_path) as manager:
        for session_id in ("s", "t"):
            assert verify_session(manager.storage, session_id).findings == ()
    assert [name for name in holding(tmp_path) if "_catalog" not in name] == []


def test_two_threads_may_redact_at_once(one: SessionManager, tmp_path: Path) -> None:
    for n in range(6):
        one.add_conversation_message("s", "user", f"{n} {SECRET}")
    seqs = range(4, 10)
    with opened(tmp_path) as other:
        threads = [
            threading.Thread(
                target=lambda manager=manager: [manager.redactions.redact("s", seq, "why") for seq in seqs]
            )
            for manager in (one, other)
        ]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
    one.redactions.redact("s", 2, "why")
    one.flush()
    recorded = [event.target for event in one.events("s") if isinstance(event, e.EventRedacted)]
    assert sorted(recorded) == [2, *seqs]
    assert holding(tmp_path) == []
