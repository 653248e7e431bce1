"""The state cache: one call of the log for a session, however long it is; what was redacted or made anew is folded again."""

import os
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from eventstore import FileSystemSessionStorage, MemoryEventLog, SessionManager, SessionStorage
from eventstore import events as e
from eventstore.derived.state_cache import StateCache
from projections import session as session_fold


class CountingLog(MemoryEventLog):
    """Counts how often it is asked for lines, and how many it gave."""

    def __init__(self) -> None:
        super().__init__()
        self.calls: list[str] = []

    def chunks(self, session_id: str, after: int = 0, upto: int | None = None) -> Any:
        self.calls.append(f"chunks after {after}")
        return super().chunks(session_id, after, upto)

    def head(self, session_id: str) -> Any:
        self.calls.append("head")
        return super().head(session_id)


@pytest.mark.parametrize("messages", [3, 600])
def test_a_session_costs_one_call_of_the_log(messages: int) -> None:
    log = CountingLog()
    manager = SessionManager(SessionStorage(log))
    manager.create_session("s")
    manager.storage.append("s", [e.MessageAdded(role="user", content=f"{n}") for n in range(messages)])
    for step in range(4):
        if step > 1:
            manager.add_conversation_message("s", "user", f"more {step}")
        log.calls.clear()
        session = manager.get_session("s")
        assert session is not None
        assert len(session.conversation) == messages + max(step - 1, 0)
        assert log.calls == [f"chunks after {max(session.version - 1 - (step > 1), 0) if step else 0}"]


def test_a_session_longer_than_the_cache_is_not_folded_anew_each_time() -> None:
    log = CountingLog()
    folds = StateCache(log, session_fold.projection, 10)
    for name in "ab":
        log.append(name, [e.SessionCreated()], expected_version=0)
        log.append(name, [e.DataSet(key="k", value=n) for n in range(50)])
        folds.get(name)
    log.calls.clear()
    log.append("b", [e.DataSet(key="k", value=[1])])
    assert folds.get("b").state.data == {"k": [1]}
    assert log.calls == ["chunks after 50"]
    assert not folds.has("a")


def test_a_log_that_did_not_change_is_not_asked_for_a_state_that_is_cached() -> None:
    log = CountingLog()
    folds = StateCache(log, session_fold.projection, 1_000)
    log.append("s", [e.SessionCreated(), e.DataSet(key="k", value=1)], expected_version=0)
    head = folds.get("s").head
    log.calls.clear()
    assert folds.get("s", head).state.data == {"k": 1}
    assert log.calls == []
    log.append("s", [e.DataSet(key="k", value=2)])
    assert folds.get("s").state.data == {"k": 2}
    assert folds.get("s", head).state.data == {"k": 2}  # the cached state ends elsewhere: the log is asked
    folds.forget("s")
    assert folds.get("s", head).state.data == {"k": 2}


def test_views_are_written_while_another_writer_appends_before_each_look_at_the_end(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    storage = FileSystemSessionStorage(tmp_path / ".sessions", tmp_path / ".history")
    other = SessionManager(FileSystemSessionStorage(tmp_path / ".sessions", tmp_path / ".history"))
    manager = SessionManager(storage)
    manager.create_session("s")
    manager.add_conversation_message("s", "user", "first")
    head, looks = storage.log.head, 0

    def appended_before(session_id: str) -> Any:
        nonlocal looks
        looks += 1
        assert looks < 20, "the end was asked for again and again"
        other.add_conversation_message("s", "user", f"after look {looks}")
        return head(session_id)

    monkeypatch.setattr(storage.log, "head", appended_before)
    storage.flush_views()
    shown = (tmp_path / ".sessions" / "s" / "conversation.jsonl").read_text()
    assert "after look 1" in shown
    monkeypatch.undo()
    storage.flush_views()
    assert list(storage.check_views("s")) == []


def test_a_state_that_was_handed_out_does_not_change() -> None:
    log = MemoryEventLog()
    folds = StateCache(log, session_fold.projection, 1_000)
    log.append("s", [e.SessionCreated(), e.DataSet(key="k", value={"a": [1]})], expected_version=0)
    before = folds.get("s").state
    session = before.to_model("s")
    session.data["k"]["a"].append(2)
    log.append("s", [e.DataSet(key="k", value=5), e.DataSet(key="j", value=6)])
    assert folds.get("s").state.data == {"k": 5, "j": 6}
    assert before.data == {"k": {"a": [1]}}


REDONE: list[Callable[[MemoryEventLog], object]] = [
    lambda log: log.redact("s", [2], "why"),
    lambda log: (log.remove("s"), log.append("s", [e.SessionCreated()], expected_version=0)),
    lambda log: (
        log.remove("s"),
        log.append("s", [e.SessionCreated(), *[e.DataSet(key="j", value=n) for n in range(9)]], expected_version=0),
    ),
]


@pytest.mark.parametrize("change", REDONE)
def test_a_log_that_is_another_one_is_folded_anew(change: Callable[[MemoryEventLog], object]) -> None:
    log = MemoryEventLog()
    folds = StateCache(log, session_fold.projection, 1_000)
    log.append("s", [e.SessionCreated(), e.MessageAdded(role="user", content="text")], expected_version=0)
    folds.get("s")
    change(log)
    fresh = StateCache(log, session_fold.projection, 1_000).get("s")
    assert folds.get("s").state == fresh.state
    assert folds.get_sized("s") == fresh


def test_views_of_a_fork_that_was_made_whole_stand_for_its_log(tmp_path: Path) -> None:
    with FileSystemSessionStorage(tmp_path / ".sessions", tmp_path / ".history", fsync="no") as storage:
        manager = SessionManager(storage)
        manager.create_session("p", "parent")
        manager.fork_session("p", new_id="f")
        manager.add_conversation_message("f", "user", "own")
        storage.flush_views("f")
        manager.delete_session("p")
        manager.add_conversation_message("f", "user", "more")
        storage.flush_views("f")
        assert storage.views.metadata("f") is not None
        assert list(storage.check_views("f")) == []


def test_opening_stores_adds_no_more_locks_to_forks(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    added: list[object] = []
    real = os.register_at_fork

    def count(**hooks: Any) -> None:
        if "before" in hooks:
            added.append(hooks)
        real(**hooks)

    monkeypatch.setattr(os, "register_at_fork", count)
    for place in range(3):
        FileSystemSessionStorage(tmp_path / f"{place}", tmp_path / "h").close()
    assert added == []
    child = os.fork()
    if not child:
        os._exit(0)
    assert os.waitpid(child, 0)[1] == 0
