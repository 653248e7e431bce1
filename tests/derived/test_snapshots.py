"""Snapshots: the summary of a long session, gone on from by a new program; wrong in no case, and missed in none."""

import os
import shutil
from pathlib import Path
from typing import Any

import pytest
from histories import HISTORIES
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from msgspec.structs import replace

from eventstore import FileSystemEventLog, FileSystemSessionStorage, LogDamaged, SessionManager
from eventstore import events as e
from eventstore.derived.snapshot_file import code_fingerprint
from eventstore.derived.snapshots import NAME
from eventstore.derived.state_cache import CachedState
from eventstore.integrity.verification import verify_session
from eventstore.store.rebuild import check_all, rebuild_all
from projections import statistics as statistics_fold
from projections import summary as summary_fold


@pytest.fixture(autouse=True)
def no_delay(monkeypatch: pytest.MonkeyPatch) -> None:
    """Let views be written only when a test asks."""
    monkeypatch.setattr("eventstore.store.local_storage._VIEW_DELAY_SECONDS", 3600.0)


@pytest.fixture
def worth_it(monkeypatch: pytest.MonkeyPatch) -> None:
    """Let a snapshot of any session be worth it."""
    monkeypatch.setattr("eventstore.derived.snapshots.LEAST_EVENTS", 0)
    monkeypatch.setattr("eventstore.derived.snapshots._SOON_EVENTS", 0)


def opened(root: Path) -> FileSystemSessionStorage:
    return FileSystemSessionStorage(root / ".sessions", root / ".history", fsync="no")


def snapshot(root: Path) -> Path:
    return root / ".sessions" / "s" / NAME


def log_of(root: Path) -> Path:
    return root / ".sessions" / "s" / "events.jsonl"


def answers(root: Path) -> list[Any]:
    """Ask a new program what a snapshot answers, in this order, and what its log gives."""
    (root / ".sessions" / "s" / "views.json").unlink(missing_ok=True)  # it would answer first
    storage = opened(root)
    shown = [SessionManager(storage).get_session_statistics("s"), storage.metadata("s")]
    state = storage.summary("s")
    return [*shown, state, state.data, state.links()]


def truth(root: Path) -> list[Any]:
    """Fold the whole log."""
    with FileSystemEventLog(root / ".sessions", fsync="no") as log:
        state = summary_fold.projection.fold(log.read("s"))
    shown = statistics_fold.to_dict(state, "s")
    return [shown, state.metadata.to_model("s"), state, state.data, state.links()]


def append(root: Path, *events: e.Event) -> None:
    """Append as another program does that writes no views."""
    with FileSystemEventLog(root / ".sessions", fsync="no") as log:
        for event in events:
            log.append("s", [event])


def fill(root: Path) -> None:
    """Make a session with some of everything, and its snapshot."""
    with opened(root) as storage:
        manager = SessionManager(storage)
        manager.create_session("s", "p", tags=["t"])
        manager.add_conversation_message("s", "user", "é\u2028")
        manager.link_invocation("s", "a", "git", root / ".history" / "x", 3)
        manager.record_usage("s", {"input": 3}, cost=0.5, key="k")
        manager.set_data("s", "k", {"v": None, "big": 2**64 - 1, "real": 1.0})
    assert snapshot(root).is_file()


TAIL = [
    e.MessageAdded(role="user", content="more"),
    e.InvocationLinked(invocation_id="b", tool_name="grep", duration_ms=2.0),
    e.InvocationLinked(invocation_id="b", duration_ms=5.0),
    e.UsageRecorded(tokens={"input": 1}, cost=0.1, key="other"),
    e.SessionUpdated(purpose="new"),
    e.SessionCompleted(status="failed"),
]


KNOWN_AGAIN: dict[str, list[e.Event]] = {
    "a call": [e.InvocationLinked(invocation_id="a", duration_ms=9.0)],
    "a call's tool": [e.InvocationLinked(invocation_id="a", tool_name="sed")],
    "a new call's tool": [TAIL[1], e.InvocationLinked(invocation_id="b", tool_name="sed")],
    "the tool of the last call that used it": [
        e.InvocationLinked(invocation_id="b", tool_name="git"),
        e.InvocationLinked(invocation_id="b", tool_name="sed"),
    ],
    "a call undone": [e.InvocationUnlinked(invocation_id="a")],
    "a use": [e.UsageRecorded(tokens={"input": 4, "output": 1}, cost=0.7, key="k")],
    "a use by no name": [e.UsageRecorded(tokens={"input": 4}), e.UsageRecorded(cost=0.7)],
    "a new use": [e.UsageRecorded(tokens={"input": 4}, key="n"), e.UsageRecorded(tokens={"input": 6}, key="n")],
    "messages": [e.MessageAdded(role="user", content="x" * 200)] * 50,
    "messages taken back": [e.ConversationRewound(to=1)],
    "a new conversation": [e.ConversationCleared(), TAIL[0]],
    "figures set": [e.SessionAdjusted(total_invocations=7, tools_used=("x",), token_usage={"x": 1})],
    "all of it": TAIL,
}
WHOLE_ASKED = {
    "a call", "a call's tool", "a new call's tool", "the tool of the last call that used it", "a call undone", "a use",
    "messages taken back",
}  # fmt: skip


@pytest.mark.parametrize("told", KNOWN_AGAIN)
def test_what_follows_is_taken_in_by_the_small_part_or_by_the_whole(tmp_path: Path, worth_it: None, told: str) -> None:
    fill(tmp_path)
    append(tmp_path, *KNOWN_AGAIN[told])
    assert answers(tmp_path) == truth(tmp_path)
    assert (opened(tmp_path).snapshots.shown("s") is None) == (told in WHOLE_ASKED)
    kept = opened(tmp_path)
    kept.statistics("s")
    append(tmp_path, *KNOWN_AGAIN[told])
    assert kept.statistics("s") == truth(tmp_path)[0]
    assert kept.summary("s") == truth(tmp_path)[2]


@settings(suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(history=HISTORIES, data=st.data())
def test_a_snapshot_and_the_tail_give_what_the_whole_log_gives(
    tmp_path: Path, worth_it: None, history: list[e.Event], data: st.DataObject
) -> None:
    shutil.rmtree(tmp_path / "any", ignore_errors=True)
    root = tmp_path / "any"
    first, second = sorted(data.draw(st.tuples(st.integers(0, len(history)), st.integers(0, len(history)))))
    with opened(root) as storage:
        storage.append("s", [e.SessionCreated()], expected_version=0)
        for event in history[:first]:
            storage.append("s", [event])
    assert snapshot(root).is_file()
    assert answers(root) == truth(root)
    append(root, *history[first:second])
    assert answers(root) == truth(root)
    kept = opened(root)
    kept.statistics("s")
    is_whole = data.draw(st.booleans()) and bool(kept.summary("s"))
    append(root, *history[second:])
    assert kept.statistics("s") == truth(root)[0]
    assert not is_whole or kept.summary("s") == truth(root)[2]
    assert answers(root) == truth(root)
    redacted = [one for one in history[first:] if isinstance(one, e.EventRedacted) and one.target <= first + 1]
    assert (kept.snapshots.open("s") is None) == bool(redacted)
    kept.append("s", [e.MessageAdded(role="user", content="")])
    kept.close()
    assert answers(root) == truth(root)
    assert opened(root).snapshots.open("s") is not None


def test_the_beginning_of_the_log_is_not_read_for_what_a_snapshot_answers(tmp_path: Path, worth_it: None) -> None:
    fill(tmp_path)
    append(tmp_path, *TAIL)
    wanted, before = truth(tmp_path), log_of(tmp_path).stat()
    data = bytearray(log_of(tmp_path).read_bytes())
    data[data.index(b'"p"') + 1] = ord("q")
    log_of(tmp_path).write_bytes(data)
    os.utime(log_of(tmp_path), ns=(before.st_atime_ns, before.st_mtime_ns))
    assert answers(tmp_path) == wanted
    with opened(tmp_path) as storage:
        assert not verify_session(storage, "s").is_whole
        with pytest.raises(LogDamaged):
            storage.load_session("s")
        with pytest.raises(LogDamaged):
            storage.append("s", TAIL)


@pytest.mark.parametrize("grown", [False, True])
def test_a_log_changed_in_place_is_read_as_a_whole(tmp_path: Path, worth_it: None, grown: bool) -> None:
    fill(tmp_path)
    if grown:
        append(tmp_path, *TAIL)
    kept = opened(tmp_path)
    kept.statistics("s")
    place = -200 if grown else log_of(tmp_path).read_bytes().index(b'"p"') + 1
    data = bytearray(log_of(tmp_path).read_bytes())
    data[place] ^= 1
    log_of(tmp_path).write_bytes(data)
    os.utime(log_of(tmp_path))
    for storage in (kept, opened(tmp_path)):
        with pytest.raises(LogDamaged):
            storage.statistics("s")
        with pytest.raises(LogDamaged):
            storage.summary("s")


@pytest.mark.parametrize("with_tail", [False, True])
def test_no_byte_of_a_snapshot_can_change_or_go_and_with_it_an_answer(
    tmp_path: Path, worth_it: None, with_tail: bool
) -> None:
    fill(tmp_path)
    if with_tail:
        append(tmp_path, *TAIL)
    whole, wanted = snapshot(tmp_path).read_bytes(), truth(tmp_path)
    for place in range(len(whole)):
        flipped = bytearray(whole)
        flipped[place] ^= 1 << place % 8
        snapshot(tmp_path).write_bytes(flipped)
        assert answers(tmp_path) == wanted
        snapshot(tmp_path).write_bytes(whole[:place])
        assert answers(tmp_path) == wanted
    snapshot(tmp_path).write_bytes(whole + b"\0")
    assert answers(tmp_path) == wanted


def test_a_damaged_snapshot_is_told_by_verify_and_made_anew_by_rebuild(tmp_path: Path, worth_it: None) -> None:
    fill(tmp_path)
    whole = snapshot(tmp_path).read_bytes()
    snapshot(tmp_path).write_bytes(whole[:-1])
    with opened(tmp_path) as storage:
        (finding,) = verify_session(storage, "s").findings
        assert (finding.part, finding.text) == ("views", f"{NAME} is damaged, and not used")
        assert [one.difference for one in check_all(storage)] == [finding.text]
        assert [one.session_id for one in rebuild_all(storage)] == ["s"]
        assert [one.difference for one in check_all(storage)] == [""]
        assert verify_session(storage, "s").is_whole
    assert snapshot(tmp_path).read_bytes() == whole


@pytest.mark.parametrize("behind", [False, True])
def test_a_snapshot_that_lies_is_told_by_verify_and_made_anew_by_rebuild(
    tmp_path: Path, worth_it: None, behind: bool
) -> None:
    fill(tmp_path)
    with opened(tmp_path) as storage:
        snapshot(tmp_path).unlink()
        fold, mark = storage._summaries.get_verified("s"), storage.snapshots.mark("s")
        lie = fold.state.copy()
        lie.metadata.total_invocations = 99
        storage.snapshots.write("s", CachedState(fold.head, lie), mark, soon=True)
    if behind:
        append(tmp_path, TAIL[0])
    with opened(tmp_path) as storage:
        assert storage.statistics("s")["total_invocations"] == 99
        (finding,) = verify_session(storage, "s").findings
        assert finding.text == f"{NAME} is not what the log gives at event {fold.head.version}"
        assert [one.difference for one in check_all(storage)] == [finding.text]
        list(storage.rebuild())
        assert verify_session(storage, "s").is_whole
        assert storage.statistics("s")["total_invocations"] == 1
    assert answers(tmp_path) == truth(tmp_path)


def test_a_right_snapshot_is_compared_without_a_second_state(
    tmp_path: Path, worth_it: None, monkeypatch: pytest.MonkeyPatch
) -> None:
    fill(tmp_path)
    with opened(tmp_path) as storage:
        monkeypatch.setattr("eventstore.derived.snapshots.state_of", None)  # a call fails
        assert verify_session(storage, "s").is_whole


def test_a_snapshot_with_the_same_in_another_order_does_not_lie(tmp_path: Path, worth_it: None) -> None:
    fill(tmp_path)
    append(tmp_path, e.DataSet(key="other", value=1))
    with opened(tmp_path) as storage:
        snapshot(tmp_path).unlink()
        fold, mark = storage._summaries.get_verified("s"), storage.snapshots.mark("s")
        turned = fold.state.copy()
        turned.data = dict(reversed(turned.data.items()))
        storage.snapshots.write("s", CachedState(fold.head, turned), mark, soon=True)
        assert snapshot(tmp_path).exists()
        assert verify_session(storage, "s").is_whole


def test_a_log_put_in_the_place_of_another_is_read_as_a_whole(tmp_path: Path, worth_it: None) -> None:
    fill(tmp_path)
    older = log_of(tmp_path).read_bytes()
    append(tmp_path, *TAIL)
    with opened(tmp_path) as storage:
        list(storage.rebuild())
    with log_of(tmp_path).open("r+b") as file:  # rolled back in place
        file.truncate(len(older))
    assert answers(tmp_path) == truth(tmp_path)
    append(tmp_path, *[e.MessageAdded(role="user", content="another past")] * 20)
    assert answers(tmp_path) == truth(tmp_path)
    (tmp_path / "new").write_bytes(log_of(tmp_path).read_bytes())
    (tmp_path / "new").replace(log_of(tmp_path))
    assert answers(tmp_path) == truth(tmp_path)


def test_a_torn_tail_is_no_event_and_no_reason_to_read_all(tmp_path: Path, worth_it: None) -> None:
    fill(tmp_path)
    with log_of(tmp_path).open("ab") as file:
        file.write(b'{"type":"message.added","seq":')
    assert answers(tmp_path) == truth(tmp_path)
    assert opened(tmp_path).snapshots.shown("s") is not None
    append(tmp_path, *TAIL)
    assert answers(tmp_path) == truth(tmp_path)


def test_other_code_folds_anew(tmp_path: Path, worth_it: None, monkeypatch: pytest.MonkeyPatch) -> None:
    fill(tmp_path)
    assert opened(tmp_path).snapshots.shown("s") is not None
    monkeypatch.setattr("eventstore.derived.snapshots.code_fingerprint", lambda: b"another release")
    with opened(tmp_path) as storage:
        assert storage.snapshots.shown("s") is None
        assert storage.snapshots.open("s") is None
        assert verify_session(storage, "s").is_whole
    assert answers(tmp_path) == truth(tmp_path)


def test_without_its_source_a_release_is_known_by_its_number(monkeypatch: pytest.MonkeyPatch) -> None:
    kept = code_fingerprint()

    def refuse(package: str, name: str) -> bytes:
        raise FileNotFoundError(name)

    code_fingerprint.cache_clear()
    try:
        with monkeypatch.context() as patch:
            patch.setattr("pkgutil.get_data", refuse)
            other = code_fingerprint()
            code_fingerprint.cache_clear()
            patch.setattr("eventstore.release.version", lambda: "99")
            assert len({kept, other, code_fingerprint()}) == 3
    finally:
        code_fingerprint.cache_clear()
    assert code_fingerprint() == kept


def test_a_removed_snapshot_is_missed_by_nobody(tmp_path: Path, worth_it: None) -> None:
    fill(tmp_path)
    with opened(tmp_path) as storage:
        storage.snapshots.remove("s")
        storage.snapshots.remove("nobody")
    assert not snapshot(tmp_path).exists()
    assert answers(tmp_path) == truth(tmp_path)


def test_the_snapshot_of_a_session_in_the_trash_can_be_removed_too(tmp_path: Path, worth_it: None) -> None:
    fill(tmp_path)
    with opened(tmp_path) as storage:
        storage.trash_session("s")
        (name,) = storage.log.trashed()
        assert (tmp_path / ".sessions" / "_trash" / name / NAME).is_file()
        storage.snapshots.remove("s", trashed=name)
        assert not (tmp_path / ".sessions" / "_trash" / name / NAME).exists()
        storage.restore_session("s")
    assert answers(tmp_path) == truth(tmp_path)


def test_a_log_that_grew_and_is_older_is_read_as_a_whole(tmp_path: Path, worth_it: None) -> None:
    fill(tmp_path)
    append(tmp_path, *TAIL)
    os.utime(log_of(tmp_path), ns=(0, 0))
    assert opened(tmp_path).snapshots.shown("s") is None
    assert answers(tmp_path) == truth(tmp_path)


def test_a_fold_that_the_log_has_left_behind_becomes_no_snapshot(tmp_path: Path, worth_it: None) -> None:
    fill(tmp_path)
    snapshot(tmp_path).unlink()
    storage = opened(tmp_path)
    fold, before = storage._summaries.get_verified("s"), storage.snapshots.mark("s")
    append(tmp_path, *TAIL)
    for mark in (before, storage.snapshots.mark("s"), None):
        storage.snapshots.write("s", fold, mark, soon=True)
        assert not snapshot(tmp_path).exists()


def test_no_snapshot_is_written_of_small_sessions_and_none_for_few_events(tmp_path: Path) -> None:
    with opened(tmp_path) as storage:
        storage.append("s", [e.SessionCreated()], expected_version=0)
        storage.append("s", [TAIL[0]] * 999)
        storage.flush()
        assert not snapshot(tmp_path).exists()
        storage.append("s", [TAIL[0]])
        storage.flush()
        first = snapshot(tmp_path).read_bytes()
        storage.append("s", [TAIL[0]] * 100)
        storage.flush()
        assert snapshot(tmp_path).read_bytes() == first
        storage.append("s", [TAIL[0]])
        storage._flush_late()
        assert snapshot(tmp_path).read_bytes() == first
    assert snapshot(tmp_path).read_bytes() != first
    assert opened(tmp_path).snapshots.shown("s") is not None
    assert answers(tmp_path) == truth(tmp_path)


def test_a_link_planted_in_its_place_is_not_followed(tmp_path: Path, worth_it: None) -> None:
    fill(tmp_path)
    outside = tmp_path / "outside"
    outside.write_bytes(snapshot(tmp_path).read_bytes())
    kept = outside.read_bytes()
    for name in (NAME, f".{NAME}.new"):
        (tmp_path / ".sessions" / "s" / name).unlink(missing_ok=True)
        (tmp_path / ".sessions" / "s" / name).symlink_to(outside)
    assert opened(tmp_path).snapshots.shown("s") is None
    assert answers(tmp_path) == truth(tmp_path)
    with opened(tmp_path) as storage:
        storage.append("s", TAIL)
    assert outside.read_bytes() == kept
    assert not snapshot(tmp_path).is_symlink()
    assert answers(tmp_path) == truth(tmp_path)


@pytest.mark.parametrize("plant", [os.mkdir, os.mkfifo])
def test_what_is_no_file_in_its_place_harms_nothing(tmp_path: Path, worth_it: None, plant: Any) -> None:
    fill(tmp_path)
    snapshot(tmp_path).unlink()
    plant(snapshot(tmp_path))
    assert answers(tmp_path) == truth(tmp_path)
    with opened(tmp_path) as storage:
        storage.append("s", TAIL)
    assert answers(tmp_path) == truth(tmp_path)


def test_a_redaction_behind_a_snapshot_takes_what_it_had_away(tmp_path: Path, worth_it: None) -> None:
    with opened(tmp_path) as storage:
        storage.append("s", [e.SessionCreated(purpose="the secret")], expected_version=0)
        storage.append("s", [e.DataSet(key="k", value="the secret")])
        storage.append("s", [e.MessageAdded(role="user", content="x" * 99)])
    assert b"the secret" in snapshot(tmp_path).read_bytes()
    kept, verified = opened(tmp_path), opened(tmp_path)
    kept.summary("s")
    verified._summaries.get_verified("s")
    with FileSystemEventLog(tmp_path / ".sessions", fsync="no") as log:
        log.redact("s", [1, 2], "asked for")
    for storage in (kept, verified, opened(tmp_path)):
        assert "the secret" not in str(storage.summary("s"))
        assert "the secret" not in str(storage.statistics("s"))
    assert answers(tmp_path) == truth(tmp_path)
    verified.append("s", [TAIL[0]])
    verified.close()
    assert b"the secret" not in snapshot(tmp_path).read_bytes()
    assert answers(tmp_path) == truth(tmp_path)


def test_a_session_on_another_s_log_has_none_until_it_is_whole(tmp_path: Path, worth_it: None) -> None:
    fill(tmp_path)
    with opened(tmp_path) as storage:
        manager = SessionManager(storage)
        manager.fork_session("s", new_id="f")
        manager.add_conversation_message("f", "user", "mine")
        storage.flush()
        place = tmp_path / ".sessions" / "f" / NAME
        assert not place.exists()
        manager.delete_session("s")
        manager.add_conversation_message("f", "user", "all mine")
        storage.flush()
        assert place.is_file()
        wanted = manager.get_session_statistics("f")
    fresh = opened(tmp_path)
    assert fresh.snapshots.shown("f") is not None
    assert fresh.statistics("f") == wanted


def test_questions_as_of_a_version_behind_a_snapshot_go_on_from_it(tmp_path: Path, worth_it: None) -> None:
    fill(tmp_path)
    append(tmp_path, *TAIL)
    with FileSystemEventLog(tmp_path / ".sessions", fsync="no") as log:
        events = list(log.read("s"))
    for version in range(1, len(events) + 1):
        storage = opened(tmp_path)
        wanted = summary_fold.projection.fold(events[:version])
        assert storage.summary("s", version) == wanted
        found = opened(tmp_path).snapshots.open("s", None, version)
        assert (found is None) == (version < len(events) - len(TAIL))
        assert found is None or (found.state, found.head.version) == (wanted, version)


def test_a_session_made_anew_with_the_same_id_is_not_the_old_one(tmp_path: Path, worth_it: None) -> None:
    fill(tmp_path)
    with opened(tmp_path) as storage:
        storage.statistics("s")
        kept = snapshot(tmp_path).read_bytes()
        storage.delete_session("s")
        storage.append("s", [e.SessionCreated(purpose="new")], expected_version=0)
        storage.append("s", [replace(TAIL[0])] * 30)
        assert storage.statistics("s")["message_count"] == 30
    snapshot(tmp_path).write_bytes(kept)
    assert answers(tmp_path) == truth(tmp_path)
