"""The manager: the ten methods of the original, and those beside them, on every backend."""

import asyncio
import sys
from collections.abc import Callable
from datetime import UTC, datetime
from hashlib import sha256
from pathlib import Path
from types import FrameType
from typing import Any

import pytest

from eventstore import (
    EventStoreError,
    FileSystemSessionStorage,
    InvalidSessionId,
    MemorySessionStorage,
    SessionExists,
    SessionManager,
    SessionNotFound,
    SessionStatus,
    ToolHistory,
    VersionConflict,
)

NOON = datetime(2026, 1, 2, 12, tzinfo=UTC)


def test_a_created_session_is_returned_and_found(manager: SessionManager) -> None:
    session = manager.create_session(purpose="p", user_id="u", tags=["a"])
    assert session.metadata.session_id.startswith("session_")
    assert (session.metadata.purpose, session.metadata.user_id, session.metadata.tags) == ("p", "u", ["a"])
    assert session.metadata.status is SessionStatus.ACTIVE
    assert manager.get_session(session.metadata.session_id) == session


def test_a_session_is_created_once(manager: SessionManager) -> None:
    manager.create_session("s", "first")
    with pytest.raises(SessionExists, match="already exists"):
        manager.create_session("s", "second")
    with pytest.raises(ValueError, match="already exists"):
        manager.create_session("s")
    session = manager.get_session("s")
    assert session is not None
    assert session.metadata.purpose == "first"


@pytest.mark.parametrize("name", ["", "../x", "a/b", "_store", "nul", "x" * 10_000])
def test_an_invalid_id_is_an_error(manager: SessionManager, name: str) -> None:
    with pytest.raises(InvalidSessionId):
        manager.create_session(name)
    with pytest.raises(ValueError, match="invalid session id"):
        manager.get_session(name)


CALLS: dict[str, Callable[[SessionManager], Any]] = {
    "start_invocation": lambda manager: manager.start_invocation("nope", "i", "t"),
    "link_invocation": lambda manager: manager.link_invocation("nope", "i", "t", Path("x")),
    "add_conversation_message": lambda manager: manager.add_conversation_message("nope", "user", "x"),
    "update_session_metadata": lambda manager: manager.update_session_metadata("nope", purpose="x"),
    "complete_session": lambda manager: manager.complete_session("nope"),
    "reopen_session": lambda manager: manager.reopen_session("nope"),
    "record_usage": lambda manager: manager.record_usage("nope", {"input": 1}),
    "set_data": lambda manager: manager.set_data("nope", "k", 1),
    "clear_conversation": lambda manager: manager.clear_conversation("nope"),
    "conversation": lambda manager: manager.conversation("nope"),
    "timeline": lambda manager: list(manager.timeline("nope")),
    "tree": lambda manager: manager.tree("nope"),
    "head": lambda manager: manager.head("nope"),
    "invocation": lambda manager: manager.invocation("nope", "t").__enter__(),
}


@pytest.mark.parametrize("call", CALLS.values(), ids=CALLS)
def test_an_unknown_session_is_an_error(manager: SessionManager, call: Callable[[SessionManager], Any]) -> None:
    with pytest.raises(SessionNotFound, match="'nope' not found"):
        call(manager)
    with pytest.raises(ValueError, match="not found"):
        call(manager)
    assert not manager.storage.session_exists("nope")


def test_an_unknown_session_is_none_where_it_is_asked_for(manager: SessionManager) -> None:
    assert manager.get_session("nope") is None
    assert manager.get_session_statistics("nope") is None
    assert manager.delete_session("nope") is False


def test_statistics_count_everything_once(manager: SessionManager, tmp_path: Path) -> None:
    manager.create_session("s", occurred_at=NOON)
    for _ in range(2):
        manager.link_invocation("s", "i", "grep", tmp_path / ".history" / "x", 10.5)
    manager.link_invocation("s", "j", "git", None, 1)
    manager.add_conversation_message("s", "user", "hi")
    manager.add_conversation_message("s", "tool", "ok", tool_name="grep", invocation_id="i")
    manager.record_usage("s", {"input": 5, "output": 1}, 0.25, "m", "k")
    manager.record_usage("s", {"input": 4, "output": 3}, 0.5, "m", "k")
    found = manager.get_session_statistics("s")
    assert found is not None
    assert list(found) == [
        "session_id", "status", "created_at", "updated_at", "duration_seconds", "total_invocations",
        "total_duration_ms", "tools_used", "message_count", "estimated_cost", "token_usage",
    ]  # fmt: skip
    assert (found["total_invocations"], found["total_duration_ms"], found["message_count"]) == (2, 11.5, 2)
    assert (found["tools_used"], found["estimated_cost"]) == (["grep", "git"], 0.5)
    assert found["token_usage"] == {"input": 5, "output": 3}
    assert found["created_at"] == "2026-01-02T12:00:00.000000+00:00"
    assert found["duration_seconds"] > 0


def test_metadata_is_merged_and_what_is_left_out_stays(manager: SessionManager) -> None:
    manager.create_session("s", "p", tags=["a"])
    manager.update_session_metadata("s", custom_metadata={"a": 1, "b": {"c": 2}})
    manager.update_session_metadata("s", tags=["new"], custom_metadata={"b": 3})
    session = manager.get_session("s")
    assert session is not None
    known = session.metadata
    assert (known.purpose, known.tags, known.custom_metadata) == ("p", ["new"], {"a": 1, "b": 3})


def test_a_session_ends_and_is_reopened(manager: SessionManager) -> None:
    manager.create_session("s")
    manager.complete_session("s")
    assert [one.metadata.session_id for one in manager.list_sessions(status=SessionStatus.COMPLETED)] == ["s"]
    manager.complete_session("s", SessionStatus.FAILED)
    manager.reopen_session("s")
    assert [one.metadata.session_id for one in manager.list_sessions(status="active")] == ["s"]
    with pytest.raises(ValueError, match="reopen_session"):
        manager.complete_session("s", "active")
    with pytest.raises(ValueError, match="finished"):
        manager.complete_session("s", "finished")


def test_data_and_conversation_can_be_cleared(manager: SessionManager) -> None:
    manager.create_session("s")
    manager.set_data("s", "a", [1])
    manager.set_data("s", "b", None)
    manager.delete_data("s", "a")
    manager.add_conversation_message("s", "user", "x")
    manager.clear_conversation("s")
    session = manager.get_session("s")
    assert session is not None
    assert (session.data, session.conversation) == ({"b": None}, [])
    manager.clear_data("s")
    assert manager.storage.fold("s").data == {}
    assert manager.conversation("s") == []


@pytest.mark.parametrize(
    "call",
    [
        lambda manager: manager.add_conversation_message("s", "robot", "x"),
        lambda manager: manager.add_conversation_message("s", "user", None),
        lambda manager: manager.add_conversation_message("s", "user", "\ud800"),
        lambda manager: manager.record_usage("s", {"input": -1}),
        lambda manager: manager.record_usage("s", {"input": 1.5}),
        lambda manager: manager.record_usage("s", {"input": True}),
        lambda manager: manager.record_usage("s", {}, cost=float("nan")),
        lambda manager: manager.record_usage("s", {}, cost=-1),
        lambda manager: manager.set_data("s", "k", float("inf")),
        lambda manager: manager.set_data("s", "k", b"x"),
        lambda manager: manager.update_session_metadata("s", tags="abc"),
        lambda manager: manager.update_session_metadata("s", custom_metadata={"x": object()}),
        lambda manager: manager.link_invocation("s", "i", "t", None, float("nan")),
        lambda manager: manager.link_invocation("s", "i", "t", None, -1),
        lambda manager: manager.link_invocation("s", "i", "t", None, "fast"),
        lambda manager: manager.link_invocation("s", 5, "t", None),
        lambda manager: manager.link_invocation("s", "i", 5, None),
        lambda manager: manager.record_usage("s", None),
        lambda manager: manager.set_data("s", 5, 1),
        lambda manager: manager.update_session_metadata("s", purpose=5),
        lambda manager: manager.add_conversation_message("s", "user", "x", tool_name=5),
        lambda manager: manager.add_conversation_message("s", "user", "x", id=5),
        lambda manager: manager.add_conversation_message("s", "user", "x", occurred_at="soon"),
    ],
)
def test_bad_input_is_an_error_and_writes_nothing(
    manager: SessionManager, call: Callable[[SessionManager], Any]
) -> None:
    manager.create_session("s")
    before = manager.head("s")
    with pytest.raises(ValueError):  # noqa: PT011 - each has its own sentence
        call(manager)
    assert manager.head("s") == before


def test_an_option_that_is_not_there_is_an_error(manager: SessionManager) -> None:
    manager.create_session("s")
    with pytest.raises(TypeError, match="nonsense"):
        manager.set_data("s", "k", 1, nonsense=1)  # type: ignore[call-arg]
    with pytest.raises(ValueError, match="tags"):
        manager.list_sessions(tags="abc")
    assert manager.head("s").version == 1


def test_options_are_written_with_the_event(storage: Any) -> None:
    manager = SessionManager(storage, by={"actor": "ann", "trace": "1"})
    manager.create_session("s")
    first = manager.add_conversation_message(
        "s", "user", "x", id="k", by={"trace": "2"}, occurred_at="2020-01-01T00:00:00Z"
    )
    again = manager.add_conversation_message("s", "user", "x", id="k")
    assert (again.first, again.repeated) == (first.first, True)
    with pytest.raises(VersionConflict):
        manager.set_data("s", "k", 1, expected_version=1)
    manager.set_data("s", "k", 1, expected_version=2)
    events = list(manager.events("s", 1))
    assert (events[0].id, events[0].by) == ("k", {"actor": "ann", "trace": "2"})
    assert events[0].occurred_at == "2020-01-01T00:00:00.000000Z"
    assert events[1].by == {"actor": "ann", "trace": "1"}


def test_old_sessions_are_cleaned_up(manager: SessionManager) -> None:
    manager.create_session("old", occurred_at="2020-01-01T00:00:00Z")
    manager.create_session("new")
    assert manager.cleanup_old_sessions(max_age_days=30) == 1
    assert [one.metadata.session_id for one in manager.list_sessions()] == ["new"]
    for bad in (-1, float("nan")):
        with pytest.raises(ValueError, match="max_age_days"):
            manager.cleanup_old_sessions(bad)
    assert manager.cleanup_old_sessions(0) == 1


def test_a_deleted_session_leaves_the_tools_folders(manager: SessionManager, tmp_path: Path) -> None:
    manager.create_session("s")
    with manager.invocation("s", "grep") as call:
        pass
    assert manager.delete_session("s") is True
    assert call.folder is not None
    assert (call.folder / "record.jsonl").is_file()
    assert manager.get_session("s") is None


# --- a tool's call


def test_a_call_is_timed_recorded_and_linked(manager: SessionManager) -> None:
    manager.create_session("s")
    with manager.invocation("s", "grep", {"q": 1}) as call:
        call.result = ["hit"]
    assert manager.tool_history is not None
    assert call.folder is not None
    record = manager.tool_history.read(call.folder)
    assert (record.tool, record.arguments, record.result, record.success) == ("grep", {"q": 1}, ["hit"], True)
    assert (record.session_id, record.invocation_id) == ("s", call.invocation_id)
    linked = manager.storage.fold("s").invocations[call.invocation_id]
    assert (linked.tool_name, linked.success, linked.duration_ms) == ("grep", True, record.duration_ms)
    assert manager.tree("s") == {f"invocations/{call.invocation_id}": call.folder.name}
    assert manager.tool_history.session_of(call.folder) == "s"


def test_an_exception_is_recorded_and_goes_on(manager: SessionManager) -> None:
    manager.create_session("s")
    with pytest.raises(KeyError), manager.invocation("s", "grep") as call:
        raise KeyError("x")
    linked = manager.storage.fold("s").invocations[call.invocation_id]
    assert (linked.success, linked.error) == (False, "KeyError: 'x'")


def test_a_call_without_a_session_is_recorded(manager: SessionManager) -> None:
    with manager.invocation(None, "grep", {}) as call:
        call.result = 1
    assert manager.tool_history is not None
    assert call.folder is not None
    assert manager.tool_history.read(call.folder).session_id is None


def test_a_call_to_an_unknown_session_does_no_work_and_leaves_no_folder(
    manager: SessionManager, tmp_path: Path
) -> None:
    worked = False
    with pytest.raises(SessionNotFound), manager.invocation("nope", "grep"):
        worked = True
    assert not worked
    assert not list(tmp_path.glob(".history/*"))


def test_calls_work_inside_async_code(manager: SessionManager) -> None:
    manager.create_session("s")

    async def call(n: int) -> None:
        with manager.invocation("s", "grep", n) as call:
            await asyncio.sleep(0)
            call.result = n

    async def all_of_them() -> None:
        await asyncio.gather(*(call(n) for n in range(20)))

    asyncio.run(all_of_them())
    found = manager.get_session_statistics("s")
    assert found is not None
    assert found["total_invocations"] == 20


def test_a_cancelled_call_is_recorded_as_failed(manager: SessionManager) -> None:
    manager.create_session("s")

    async def cancelled() -> None:
        with manager.invocation("s", "grep"):
            await asyncio.Event().wait()

    async def main() -> None:
        task = asyncio.create_task(cancelled())
        await asyncio.sleep(0)
        task.cancel()
        with pytest.raises(asyncio.CancelledError):
            await task

    asyncio.run(main())
    (call,) = manager.storage.fold("s").invocations.values()
    assert call.success is False
    assert (call.error or "").startswith("CancelledError")


def test_a_memory_store_without_a_history_makes_no_folders() -> None:
    manager = SessionManager(MemorySessionStorage())
    manager.create_session("s")
    with manager.invocation("s", "grep") as call:
        assert call.folder is None
    assert manager.storage.fold("s").invocations[call.invocation_id].success


def test_a_program_of_the_original_runs(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Paths as the original's own examples give them: relative to the working folder."""
    monkeypatch.chdir(tmp_path)
    manager = SessionManager(FileSystemSessionStorage(Path(".sessions"), Path(".history")))
    session = manager.create_session(purpose="Debug", user_id="user123", tags=["bug-fix"])
    name = session.metadata.session_id
    manager.link_invocation(
        session_id=name,
        invocation_id="inv_001",
        tool_name="git_tool",
        invocation_dir=Path(".history/2024-11-06_14-23-45_123456_git_tool"),
        duration_ms=150.5,
    )
    manager.close()
    link = tmp_path / ".sessions" / name / "invocations" / "inv_001"
    assert str(link.readlink()) == "../../../.history/2024-11-06_14-23-45_123456_git_tool"
    ToolHistory(tmp_path / ".history").path.mkdir()
    (tmp_path / ".history" / "2024-11-06_14-23-45_123456_git_tool").mkdir()
    assert link.is_dir()


def test_an_error_of_the_log_is_one_of_ours(manager: SessionManager) -> None:
    assert issubclass(SessionNotFound, EventStoreError)
    with pytest.raises(EventStoreError):
        manager.head("nope")


def test_a_session_with_a_time_that_nobody_can_read_hides_no_other(files: FileSystemSessionStorage) -> None:
    """A log from elsewhere may hold any text as `occurred_at`; the chain proves the bytes, not their sense."""
    manager = SessionManager(files)
    manager.create_session("good")
    manager.create_session("bad", occurred_at="2020-01-02T03:04:05Z")
    path = files.sessions_dir / "bad" / "events.jsonl"
    body, _, _ = path.read_bytes().partition(b',"hash":"')
    for text in (b"9999-12-31T23:59:59-05:00", b"nonsense", b"1-01-01T00:00:00.000000Z"):
        wrong = body.replace(b"2020-01-02T03:04:05.000000Z", text)
        first = sha256(b"eventstore/1\nbad").digest()
        digest = sha256(b"\1" + first + sha256(b"\0" + wrong).digest()).hexdigest()
        path.write_bytes(wrong + b',"hash":"' + digest.encode() + b'"}\n')
        with FileSystemSessionStorage(files.sessions_dir, files.history_dir) as storage:
            anew = SessionManager(storage)
            list(storage.rebuild())
            assert {one.metadata.session_id for one in anew.list_sessions()} == {"good", "bad"}
            assert len(list(anew.timeline("bad"))) == 1
            anew.trash.plan_cleanup(0)
            anew.analytics()
            assert anew.get_session_statistics("bad") is not None


def test_a_manager_may_be_used_again_after_it_was_closed(files: FileSystemSessionStorage) -> None:
    manager = SessionManager(files)
    manager.create_session("s")
    manager.close()
    assert manager.set_data("s", "k", 1).last == 2
    manager.close()
    manager.close()
    assert manager.data("s") == {"k": 1}


def test_a_message_takes_at_most_30_calls_of_functions(tmp_path: Path) -> None:
    """Counted and not timed: from `add_conversation_message` to the disk."""
    counted: list[list[str]] = []

    def count(frame: FrameType, event: str, argument: object) -> None:
        if event == "call":
            counted[-1].append(frame.f_code.co_qualname)

    with SessionManager(FileSystemSessionStorage(tmp_path / "s", tmp_path / "h")) as manager:
        manager.create_session("s")
        for _ in range(5):  # the fewest count: what other tests left may be collected in one of them
            counted.append([])
            sys.setprofile(count)
            try:
                manager.add_conversation_message("s", "user", "text")
            finally:
                sys.setprofile(None)
    calls = min(counted, key=len)
    assert 0 < len(calls) <= 30, calls
