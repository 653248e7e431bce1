"""The file of a moment index: a new program goes on from it; wrong in no case, and nothing redacted stays in it."""

import os
import shutil
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
from histories import HISTORIES
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from eventstore import FileSystemEventLog, FileSystemSessionStorage, LogDamaged, SessionManager
from eventstore import events as e
from eventstore.derived.moment_file import MomentFiles
from eventstore.derived.snapshots import MOMENTS
from eventstore.derived.state_cache import CachedState
from eventstore.integrity.verification import verify_session
from projections import moments as moments_fold
from projections.moments import Moments

SECRET = "correct-horse-battery-staple"


@pytest.fixture(autouse=True)
def worth_it(monkeypatch: pytest.MonkeyPatch) -> None:
    """Let a file be worth it for any session."""
    monkeypatch.setattr("eventstore.derived.moment_file.LEAST_EVENTS", 1)


def opened(root: Path) -> FileSystemSessionStorage:
    return FileSystemSessionStorage(root / ".sessions", root / ".history", fsync="no")


def place(root: Path, session_id: str = "s") -> Path:
    return root / ".sessions" / session_id / MOMENTS


def log_of(root: Path) -> Path:
    return root / ".sessions" / "s" / "events.jsonl"


def append(root: Path, *events: e.Event) -> None:
    """Append as another program does that answers no question."""
    with FileSystemEventLog(root / ".sessions", fsync="no") as log:
        for event in events:
            log.append("s", [event])


def truth(root: Path) -> Moments:
    """Fold the whole log."""
    with FileSystemEventLog(root / ".sessions", fsync="no") as log:
        return moments_fold.projection.fold(log.read("s"))


def index_of(storage: FileSystemSessionStorage) -> Moments:
    """Ask for the index, with what only new events need."""
    found = storage.moments.get("s")
    found.complete()
    return found


def from_file(root: Path) -> CachedState[Moments] | None:
    """Continue the file as a new program does; None where the log is to be read."""
    storage = opened(root)
    found = MomentFiles(storage.log, storage.sessions_dir).open("s")
    if found is not None:
        found.state.complete()
    return found


def fill(root: Path) -> None:
    """Make a session with some of everything, and its file."""
    with opened(root) as storage:
        created = e.SessionCreated(purpose="p", tags=("t",), custom_metadata={"x": [1, None]})
        storage.append("s", [created], expected_version=0)
        storage.append("s", [e.MessageAdded(role="user", content="é\u2028")])
        storage.append("s", [e.MessageAdded(role="assistant", content="{}", tool_name="grep", invocation_id="b")])
        storage.append("s", [e.InvocationLinked(invocation_id="a", tool_name="git", duration_ms=3.0)])
        storage.append("s", [e.UsageRecorded(tokens={"input": 3}, cost=0.5, key="k")])
        storage.append("s", [e.DataSet(key="k", value={"v": None, "big": 2**64 - 1, "real": 1.0})])
        storage.append("s", [e.ConversationRewound(to=2)])
        storage.append("s", [e.DataDeleted(key="k")])
        storage.flush()
        assert not place(root).exists()
        storage.moments.get("s")
    assert place(root).is_file()


TAIL: list[e.Event] = [
    e.MessageAdded(role="user", content="more"),
    e.InvocationLinked(invocation_id="a", tool_name="sed", duration_ms=2.0, success=False),
    e.UsageRecorded(tokens={"input": 1, "output": 2}, cost=0.1, key="k"),
    e.DataSet(key="k", value=1),
    e.SessionUpdated(purpose="new", tags=("u",)),
    e.SessionCompleted(status="failed"),
]


@settings(suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(history=HISTORIES, data=st.data())
def test_a_file_and_the_tail_give_what_the_whole_log_gives(
    tmp_path: Path, history: list[e.Event], data: st.DataObject
) -> None:
    shutil.rmtree(tmp_path / "any", ignore_errors=True)
    root = tmp_path / "any"
    first, second = sorted(data.draw(st.tuples(st.integers(0, len(history)), st.integers(0, len(history)))))
    with opened(root) as storage:
        storage.append("s", [e.SessionCreated()], expected_version=0)
        for event in history[:first]:
            storage.append("s", [event])
        assert index_of(storage) == truth(root)
    found = from_file(root)
    assert found is not None
    assert (found.state, found.head.version) == (truth(root), first + 1)
    early, wanted = opened(root).moments.get("s"), truth(root)
    for version in range(first + 2):
        assert early.metadata_at(version) == wanted.metadata_at(version)
        assert (early.data.at(version), early.custom.at(version)) == (
            wanted.data.at(version),
            wanted.custom.at(version),
        )
        assert list(early.calls.alive(version)) == list(wanted.calls.alive(version))
        assert early.conversation.window(version, 0, 99) == wanted.conversation.window(version, 0, 99)
    append(root, *history[first:second])
    kept = opened(root)
    assert index_of(kept) == truth(root)
    append(root, *history[second:])
    assert index_of(kept) == truth(root)
    assert index_of(opened(root)) == truth(root)
    kept.append("s", [e.MessageAdded(role="user", content="")])
    assert index_of(kept) == truth(root)
    found = from_file(root)
    assert found is not None
    assert found.state == truth(root)
    assert list(MomentFiles(kept.log, kept.sessions_dir).check("s", kept.log.head("s"))) == []


def test_the_beginning_of_the_log_is_not_read_for_what_a_file_answers(tmp_path: Path) -> None:
    fill(tmp_path)
    append(tmp_path, *TAIL)
    wanted, before = truth(tmp_path), log_of(tmp_path).stat()
    data = bytearray(log_of(tmp_path).read_bytes())
    data[data.index(b'"p"') + 1] = ord("q")
    log_of(tmp_path).write_bytes(data)
    os.utime(log_of(tmp_path), ns=(before.st_atime_ns, before.st_mtime_ns))
    with opened(tmp_path) as storage:
        assert index_of(storage) == wanted
        assert SessionManager(storage).moments.metadata("s").total_invocations == 1
        assert not verify_session(storage, "s").is_whole


def test_what_a_file_names_is_read_and_verified_without_what_is_before_it(tmp_path: Path) -> None:
    """A new program verifies the lines that it shows, and not the whole log first."""
    fill(tmp_path)
    append(tmp_path, *[e.MessageAdded(role="user", content=f"message {n}") for n in range(30)])
    with opened(tmp_path) as storage:
        wanted = SessionManager(storage).moments.messages("s", limit=5)
    whole, times = log_of(tmp_path).read_bytes(), log_of(tmp_path).stat()
    begin = whole.index(b'"message 20"')
    start, end = whole.rindex(b"\n", 0, begin) + 1, whole.index(b"\n", begin)

    def flip(where: int) -> SessionManager:
        data = bytearray(whole)
        data[where] ^= 1
        log_of(tmp_path).write_bytes(data)
        os.utime(log_of(tmp_path), ns=(times.st_atime_ns, times.st_mtime_ns))
        return SessionManager(opened(tmp_path))

    assert flip(whole.index(b'"p"') + 1).moments.messages("s", limit=5) == wanted
    for where in range(start, end):
        with pytest.raises(LogDamaged):
            flip(where).moments.messages("s", first=20, limit=5)


@pytest.mark.parametrize("with_tail", [False, True])
def test_no_byte_of_a_file_can_change_or_go_and_with_it_an_answer(tmp_path: Path, with_tail: bool) -> None:
    fill(tmp_path)
    if with_tail:
        append(tmp_path, *TAIL)
    whole, wanted = place(tmp_path).read_bytes(), truth(tmp_path)
    storage = opened(tmp_path)

    def assert_refused(data: bytes | bytearray) -> None:
        place(tmp_path).write_bytes(data)
        assert MomentFiles(storage.log, storage.sessions_dir).open("s") is None
        assert not place(tmp_path).exists()

    for where in range(len(whole)):
        flipped = bytearray(whole)
        flipped[where] ^= 1 << where % 8
        assert_refused(flipped)
        if where % 7 == 0:
            assert_refused(whole[:where])
    assert_refused(whole + b"\0")
    place(tmp_path).write_bytes(whole)
    found = from_file(tmp_path)
    assert found is not None
    assert found.state == wanted


@pytest.mark.parametrize("change", ["damaged", "a lie"])
def test_a_file_that_is_wrong_is_told_by_verify_and_removed_by_rebuild(tmp_path: Path, change: str) -> None:
    fill(tmp_path)
    text = f"{MOMENTS} is damaged, and not used"
    with opened(tmp_path) as storage:
        if change == "damaged":
            whole = place(tmp_path).read_bytes()
            place(tmp_path).write_bytes(whole[:-1] + bytes([whole[-1] ^ 1]))
        else:
            files, mark = MomentFiles(storage.log, storage.sessions_dir), storage.snapshots.mark("s")
            lie = moments_fold.projection.fold(storage.log.read("s"))
            lie.now.total_invocations = 99
            files.write("s", CachedState(storage.log.head("s"), lie), mark)
            text = f"{MOMENTS} is not what the log gives at event 8"
    with opened(tmp_path) as storage:
        (finding,) = verify_session(storage, "s").findings
        assert (finding.part, finding.text) == ("views", text)
        list(storage.rebuild())
        assert not place(tmp_path).exists()
        assert verify_session(storage, "s").is_whole


def test_a_log_put_in_the_place_of_another_is_read_as_a_whole(tmp_path: Path) -> None:
    fill(tmp_path)
    older = log_of(tmp_path).read_bytes()
    append(tmp_path, *TAIL)
    with opened(tmp_path) as storage:
        storage.moments.get("s")
    with log_of(tmp_path).open("r+b") as file:  # rolled back in place
        file.truncate(len(older))
    assert index_of(opened(tmp_path)) == truth(tmp_path)
    append(tmp_path, *[e.MessageAdded(role="user", content="another past")] * 20)
    assert index_of(opened(tmp_path)) == truth(tmp_path)
    (tmp_path / "new").write_bytes(log_of(tmp_path).read_bytes())
    (tmp_path / "new").replace(log_of(tmp_path))
    assert from_file(tmp_path) is None
    assert index_of(opened(tmp_path)) == truth(tmp_path)


def test_other_code_reads_the_log(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    fill(tmp_path)
    assert from_file(tmp_path) is not None
    monkeypatch.setattr("eventstore.derived.moment_file.code_fingerprint", lambda moments: b"another release")
    assert from_file(tmp_path) is None
    assert index_of(opened(tmp_path)) == truth(tmp_path)


def test_an_index_that_the_log_has_left_behind_becomes_no_file(tmp_path: Path) -> None:
    fill(tmp_path)
    place(tmp_path).unlink()
    storage = opened(tmp_path)
    files = MomentFiles(storage.log, storage.sessions_dir)
    fold, before = CachedState(storage.log.head("s"), truth(tmp_path)), files.mark("s")
    append(tmp_path, *TAIL)
    for mark in (before, files.mark("s"), None):
        files.write("s", fold, mark)
        assert not place(tmp_path).exists()


def test_files_are_written_by_questions_about_long_sessions_only(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("eventstore.derived.moment_file.LEAST_EVENTS", 100)
    with opened(tmp_path) as storage:
        storage.append("s", [e.SessionCreated()], expected_version=0)
        storage.append("s", [TAIL[0]] * 98)
        storage.moments.get("s")
        assert not place(tmp_path).exists()
        storage.append("s", [TAIL[0]])
        storage.flush()
        assert not place(tmp_path).exists()
        storage.moments.get("s")
        first = place(tmp_path).read_bytes()
        storage.append("s", [TAIL[0]] * 99)
        storage.moments.get("s")
        assert place(tmp_path).read_bytes() == first
    with opened(tmp_path) as storage:
        storage.append("s", [TAIL[0]])
        storage.moments.get("s")
    assert place(tmp_path).read_bytes() != first
    assert index_of(opened(tmp_path)) == truth(tmp_path)


def test_a_fork_has_none_until_it_is_whole(tmp_path: Path) -> None:
    fill(tmp_path)
    with opened(tmp_path) as storage:
        manager = SessionManager(storage)
        manager.fork_session("s", new_id="f")
        manager.moments.version("f")
        assert not place(tmp_path, "f").exists()
        manager.delete_session("s")
        manager.add_conversation_message("f", "user", "all mine")
        manager.moments.version("f")
        assert place(tmp_path, "f").is_file()
        wanted = manager.moments.figures("f")
    assert SessionManager(opened(tmp_path)).moments.figures("f") == wanted


@pytest.mark.parametrize("plant", ["link", "folder", "pipe"])
def test_what_is_no_file_in_its_place_harms_nothing(tmp_path: Path, plant: str) -> None:
    fill(tmp_path)
    outside = tmp_path / "outside"
    place(tmp_path).rename(outside)
    kept = outside.read_bytes()
    for where in (place(tmp_path), place(tmp_path).with_name(f".{MOMENTS}.new")):
        where.unlink(missing_ok=True)
        {"link": lambda at: at.symlink_to(outside), "folder": Path.mkdir, "pipe": os.mkfifo}[plant](where)
    assert from_file(tmp_path) is None
    with opened(tmp_path) as storage:
        storage.append("s", TAIL)
        assert index_of(storage) == truth(tmp_path)
    assert outside.read_bytes() == kept
    assert not place(tmp_path).is_symlink()


def holding(root: Path) -> list[str]:
    return [str(path) for path in root.rglob("*") if path.is_file() and SECRET.encode() in path.read_bytes()]


def ran(root: Path, program: str) -> None:
    """Run a program with a manager of the store in a process of its own."""
    paths = f"{str(root / '.sessions')!r}, {str(root / '.history')!r}"
    begin = f"from eventstore import *\nmanager = SessionManager(FileSystemSessionStorage({paths}))\n"
    subprocess.run([sys.executable, "-c", f"{begin}{program}\nmanager.close()"], check=True, timeout=60)


@pytest.mark.parametrize("by_other", [True, False])
def test_a_redaction_leaves_no_file_with_what_was_redacted(tmp_path: Path, by_other: bool) -> None:
    with opened(tmp_path) as storage:
        manager = SessionManager(storage)
        manager.create_session("s")
        manager.set_data("s", "k", SECRET)
        manager.update_session_metadata("s", SECRET, custom_metadata={"x": SECRET})
        manager.moments.version("s")
        assert str(place(tmp_path)) in holding(tmp_path)
        place(tmp_path).with_name(f".{MOMENTS}.new").write_bytes(SECRET.encode())  # of a program that was killed
        if by_other:
            ran(tmp_path, "manager.redactions.redact('s', [2, 3], 'a secret')")
        else:
            manager.redactions.redact("s", [2, 3], "a secret")
        manager.flush()
        assert holding(tmp_path) == []
        assert index_of(storage) == truth(tmp_path)
        assert place(tmp_path).is_file()
        assert holding(tmp_path) == []
    assert SessionManager(opened(tmp_path)).moments.data("s") == {}


def test_an_index_from_before_a_redaction_is_not_written_after_it(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Also where the redaction comes between a look at the end of the log and the write."""
    with opened(tmp_path) as storage:
        manager = SessionManager(storage)
        manager.create_session("s")
        manager.set_data("s", "k", SECRET)
        files = MomentFiles(storage.log, storage.sessions_dir)
        mark, fold = files.mark("s"), CachedState(storage.log.head("s"), truth(tmp_path))
        ran(tmp_path, "manager.redactions.redact('s', [2], 'a secret')")
        for head in (storage.log.head("s"), fold.head):
            monkeypatch.setattr(storage.log, "head", lambda session_id, head=head: head)
            files.write("s", fold, mark)
            files.write("s", fold, files.mark("s"))
            assert holding(tmp_path) == []


def test_a_file_from_before_a_redaction_that_did_not_know_it_is_removed_by_the_next_question(tmp_path: Path) -> None:
    fill(tmp_path)
    with FileSystemEventLog(tmp_path / ".sessions", fsync="no") as log:
        log.append("s", [e.DataSet(key="k", value=SECRET)])
    with opened(tmp_path) as storage:
        storage.moments.get("s")
    with FileSystemEventLog(tmp_path / ".sessions", fsync="no") as log:
        log.redact("s", [9], "asked for")
    assert holding(tmp_path) == [str(place(tmp_path))]
    assert from_file(tmp_path) is None
    assert holding(tmp_path) == []
    assert index_of(opened(tmp_path)) == truth(tmp_path)
    assert holding(tmp_path) == []


def test_the_file_of_a_session_in_the_trash_is_removed_by_a_redaction(tmp_path: Path) -> None:
    with opened(tmp_path) as storage:
        manager = SessionManager(storage)
        manager.create_session("s")
        manager.set_data("s", "k", SECRET)
        manager.moments.version("s")
        manager.trash.put("s")
        (name,) = storage.log.trashed()
        assert (tmp_path / ".sessions" / "_trash" / name / MOMENTS).is_file()
        storage.forget_trashed_views(name)
        assert not (tmp_path / ".sessions" / "_trash" / name / MOMENTS).exists()
        manager.trash.restore("s")
        assert index_of(storage) == truth(tmp_path)


def test_a_deleted_session_leaves_none_and_a_new_one_is_not_the_old_one(tmp_path: Path) -> None:
    fill(tmp_path)
    with opened(tmp_path) as storage:
        kept: Any = place(tmp_path).read_bytes()
        storage.moments.get("s")
        storage.delete_session("s")
        assert not place(tmp_path).exists()
        storage.append("s", [e.SessionCreated(purpose="new")], expected_version=0)
        storage.append("s", [TAIL[0]] * 30)
        place(tmp_path).write_bytes(kept)
        assert index_of(storage) == truth(tmp_path)
    assert index_of(opened(tmp_path)) == truth(tmp_path)
