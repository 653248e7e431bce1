"""Views: the original's files beside the log, written from it and from nothing else."""

import json
import os
import shutil
import signal
import threading
import time
from collections.abc import Iterable
from functools import wraps
from pathlib import Path

import pytest
from histories import HISTORIES
from hypothesis import HealthCheck, given, settings

from eventstore import FileSystemSessionStorage, SessionManager
from eventstore import events as e
from eventstore.derived import file_views as views


@pytest.fixture(autouse=True)
def no_delay(monkeypatch: pytest.MonkeyPatch) -> None:
    """Let views be written only when a test asks: a warning of the thread that writes them would reach nobody."""
    monkeypatch.setattr("eventstore.store.local_storage._VIEW_DELAY_SECONDS", 3600.0)


@pytest.fixture
def manager(files: FileSystemSessionStorage) -> SessionManager:
    manager = SessionManager(files)
    manager.create_session("s", "p", tags=["t"])
    return manager


def snapshot(folder: Path) -> dict[str, bytes | str]:
    """Read a whole folder: the bytes of files, the targets of links."""
    found: dict[str, bytes | str] = {}
    for path in sorted(folder.rglob("*")):
        name = str(path.relative_to(folder))
        if path.is_symlink():
            found[name] = str(path.readlink())
        elif path.is_file():
            found[name] = path.read_bytes()
    return found


def fill(manager: SessionManager) -> None:
    manager.add_conversation_message("s", "user", "é\u2028")
    with manager.invocation("s", "grep", {"q": 1}) as call:
        call.result = 1
    manager.set_data("s", "k", {"v": None})
    manager.link_invocation("s", "later", "git", Path(".history") / "not there yet", 3)


def test_views_of_a_busy_session_rest_after_each_write(
    files: FileSystemSessionStorage, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    monkeypatch.setattr("eventstore.store.local_storage._VIEW_DELAY_SECONDS", 0.01)
    monkeypatch.setattr("eventstore.store.local_storage._VIEW_REST_SECONDS", 3600.0)
    manager = SessionManager(files)

    def version(session_id: str) -> int:
        stamp = tmp_path / ".sessions" / session_id / views.STAMP
        return int(json.loads(stamp.read_text())["version"]) if stamp.exists() else 0

    def wait_for(session_id: str) -> None:
        wanted = manager.head(session_id).version
        limit = time.monotonic() + 60
        while version(session_id) != wanted:
            assert time.monotonic() < limit
            threading.Event().wait(0.01)

    manager.create_session("s")
    wait_for("s")
    manager.add_conversation_message("s", "user", "one more")
    manager.create_session("other")
    wait_for("other")
    assert version("s") == manager.head("s").version - 1
    manager.flush()
    assert version("s") == manager.head("s").version


def test_a_session_has_the_files_of_the_original(manager: SessionManager, tmp_path: Path) -> None:
    fill(manager)
    manager.flush()
    folder = tmp_path / ".sessions" / "s"
    session = manager.get_session("s")
    assert session is not None
    assert json.loads((folder / "metadata.json").read_text()) == session.metadata.to_dict()
    lines = (folder / "conversation.jsonl").read_bytes().split(b"\n")[:-1]
    assert [json.loads(line) for line in lines] == [message.to_dict() for message in session.conversation]
    assert json.loads((folder / "invocations.json").read_text()) == session.invocation_ids
    assert json.loads((folder / "data.json").read_text()) == {"k": {"v": None}}
    (first, _) = session.invocation_ids
    link = folder / "invocations" / first
    assert str(link.readlink()) == f"../../../.history/{first}"
    assert (link / "record.jsonl").is_file()


def test_ids_of_calls_are_written_as_json_with_an_indent(manager: SessionManager, tmp_path: Path) -> None:
    ids = ["a", 'é"\\\n\u2028\x1b']
    for one in ids:
        manager.link_invocation("s", one, "git", None, 1)
    manager.flush()
    wanted = json.dumps(ids, ensure_ascii=False, indent=2) + "\n"
    assert (tmp_path / ".sessions" / "s" / "invocations.json").read_text("utf-8") == wanted


def test_a_session_without_data_or_calls_has_no_files_for_them(manager: SessionManager, tmp_path: Path) -> None:
    manager.set_data("s", "k", 1)
    manager.flush()
    manager.clear_data("s")
    manager.flush()
    assert sorted(path.name for path in (tmp_path / ".sessions" / "s").iterdir()) == [
        "conversation.jsonl", "events.jsonl", "invocations.json", "metadata.json", "views.json",
    ]  # fmt: skip


@settings(suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(history=HISTORIES)
def test_views_deleted_and_rebuilt_are_the_same_to_the_byte(tmp_path: Path, history: list[e.Event]) -> None:
    shutil.rmtree(tmp_path / "any", ignore_errors=True)
    with FileSystemSessionStorage(tmp_path / "any" / ".sessions", tmp_path / "any" / ".history", fsync="no") as storage:
        storage.append("s", [e.SessionCreated()], expected_version=0)
        for event in history:
            storage.append("s", [event])
            storage.flush_views()
        storage.flush_views()
        before = snapshot(tmp_path / "any")
        folder = tmp_path / "any" / ".sessions" / "s"
        for path in [*folder.glob("*.json"), folder / "conversation.jsonl"]:
            path.unlink()
        shutil.rmtree(folder / "invocations", ignore_errors=True)
        assert list(storage.rebuild()) == ["s"]
        assert snapshot(tmp_path / "any") == before


def test_a_new_program_writes_the_views_that_a_crash_left_behind(manager: SessionManager, tmp_path: Path) -> None:
    fill(manager)
    manager.flush()
    before = snapshot(tmp_path)
    folder = tmp_path / ".sessions" / "s"
    (folder / "metadata.json").write_text('{"session_id": "s", "purpose": "a lie"}')
    (folder / "conversation.jsonl").unlink()
    with FileSystemSessionStorage(tmp_path / ".sessions", tmp_path / ".history") as other:
        assert other.metadata("s").purpose == "p"
        assert [one.purpose for one in other.list_metadata()] == ["p"]
        list(other.rebuild())
    assert snapshot(tmp_path) == before


def test_views_follow_by_themselves_and_at_once_when_a_session_is_completed(
    manager: SessionManager, tmp_path: Path
) -> None:
    manager.complete_session("s", "failed")
    found = json.loads((tmp_path / ".sessions" / "s" / "metadata.json").read_text())
    assert found["status"] == "failed"


def test_a_link_is_there_when_the_call_is_linked(manager: SessionManager, tmp_path: Path) -> None:
    manager.link_invocation("s", "a/b", "git", tmp_path / ".history" / "x", 1)
    link = tmp_path / ".sessions" / "s" / "invocations" / "a%2Fb"
    assert str(link.readlink()) == "../../../.history/x"


def test_the_history_folder_itself_can_be_linked(manager: SessionManager, tmp_path: Path) -> None:
    manager.link_invocation("s", "i", "git", tmp_path / ".history" / "x" / "..", 1)
    link = tmp_path / ".sessions" / "s" / "invocations" / "i"
    assert os.path.realpath(link) == os.path.realpath(tmp_path / ".history")
    manager.flush()
    assert not list(manager.storage.check_views("s"))


def test_a_folder_elsewhere_is_linked_as_its_caller_named_it(manager: SessionManager, tmp_path: Path) -> None:
    manager.link_invocation("s", "i", "git", tmp_path / "elsewhere", 1)
    assert str((tmp_path / ".sessions" / "s" / "invocations" / "i").readlink()) == str(tmp_path / "elsewhere")


@pytest.mark.parametrize("target", ["..", "../outside", "a/../../outside", "x\0y"])
def test_no_link_leads_out_of_the_history_by_what_a_log_says(
    files: FileSystemSessionStorage, manager: SessionManager, tmp_path: Path, target: str
) -> None:
    files.append("s", [e.InvocationLinked(invocation_id="i", invocation_dir=target)])
    files.flush()
    assert not os.path.lexists(tmp_path / ".sessions" / "s" / "invocations" / "i")


def test_a_planted_link_is_not_written_through(manager: SessionManager, tmp_path: Path) -> None:
    outside = tmp_path / "outside"
    outside.mkdir()
    (outside / "mine").write_text("mine")
    folder = tmp_path / ".sessions" / "s"
    manager.flush()
    for name in ("metadata.json", "conversation.jsonl", "views.json", ".metadata.json.new"):
        (folder / name).unlink(missing_ok=True)
        (folder / name).symlink_to(outside / "mine")
    (folder / "invocations").symlink_to(outside)
    fill(manager)
    with pytest.warns(RuntimeWarning, match=r"views of session 's' could not be written .* its log is intact"):
        manager.flush()
    assert (outside / "mine").read_text() == "mine"
    assert [path.name for path in outside.iterdir()] == ["mine"]


def test_somebody_s_own_file_among_the_links_stays(manager: SessionManager, tmp_path: Path) -> None:
    fill(manager)
    manager.flush()
    own = tmp_path / ".sessions" / "s" / "invocations" / "note.txt"
    own.write_text("mine")
    list(manager.storage.rebuild())
    assert own.read_text() == "mine"


def test_a_system_without_links_keeps_working_and_says_so_once(
    manager: SessionManager, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def refuse(*_: object, **__: object) -> None:
        raise NotImplementedError("no links here")

    monkeypatch.setattr(os, "symlink", refuse)
    with pytest.warns(UserWarning, match="no symbolic links") as caught:  # noqa: PT031 - once for all of them
        fill(manager)
        manager.flush()
    assert len(caught) == 1
    assert json.loads((tmp_path / ".sessions" / "s" / "metadata.json").read_text())["total_invocations"] == 2


def test_a_target_that_is_too_long_for_a_link_prevents_no_other_link(
    manager: SessionManager, tmp_path: Path, recwarn: pytest.WarningsRecorder
) -> None:
    fill(manager)
    manager.link_invocation("s", "long", "grep", "deep/" * 2_000)
    manager.link_invocation("s", "short", "grep", "deep")
    manager.flush()
    assert len(list((tmp_path / ".sessions" / "s" / "invocations").iterdir())) == 3
    assert [str(one.message) for one in recwarn] == []


def test_the_conversation_is_appended_to_and_not_rewritten(manager: SessionManager, tmp_path: Path) -> None:
    path = tmp_path / ".sessions" / "s" / "conversation.jsonl"
    manager.add_conversation_message("s", "user", "a")
    manager.flush()
    before = path.stat().st_ino
    manager.add_conversation_message("s", "user", "b")
    manager.flush()
    assert path.stat().st_ino == before
    assert path.read_bytes().count(b"\n") == 2
    manager.clear_conversation("s")
    manager.flush()
    assert path.read_bytes() == b""


def test_a_child_of_the_process_never_keeps_a_lock_on_views(
    files: FileSystemSessionStorage, manager: SessionManager, monkeypatch: pytest.MonkeyPatch
) -> None:
    inside, never = threading.Event(), threading.Event()

    def replace_slowly(folder: int, name: str, parts: Iterable[bytes]) -> int:
        inside.set()
        never.wait(0.1)
        return views._replace.__wrapped__(folder, name, parts)  # type: ignore[attr-defined,no-any-return]

    monkeypatch.setattr(views, "_replace", wraps(views._replace)(replace_slowly))
    writing = threading.Thread(target=files.flush)
    writing.start()
    assert inside.wait(60)
    child = os.fork()
    if not child:
        signal.pause()
    try:
        writing.join(60)
        manager.update_session_metadata("s", purpose="again")
        again = threading.Thread(target=files.flush, daemon=True)
        again.start()
        again.join(60)
        assert not again.is_alive()
    finally:
        os.kill(child, signal.SIGKILL)
        os.waitpid(child, 0)


def test_the_views_of_a_session_that_an_import_is_filling_are_written_once_it_rests(
    manager: SessionManager, files: FileSystemSessionStorage, tmp_path: Path
) -> None:
    files.flush_views()
    (tmp_path / ".sessions" / "s" / "views.json").unlink()
    manager.create_session("other")
    for place in range(3):
        files.extend("s", [[e.MessageAdded(role="user", content=f"{place}")]], expected_version=1 + place)
        files._flush_quiet()
    assert not (tmp_path / ".sessions" / "s" / "views.json").exists()
    assert (tmp_path / ".sessions" / "other" / "views.json").exists()
    files._flush_quiet()
    assert json.loads((tmp_path / ".sessions" / "s" / "views.json").read_text())["version"] == 4


def test_views_that_are_written_again_while_they_are_compared_are_no_fault(
    manager: SessionManager, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Another program removed them, and writes them for the same version."""
    manager.add_conversation_message("s", "user", "hello")
    manager.flush()
    storage = manager.storage
    assert isinstance(storage, FileSystemSessionStorage)
    folder, real, pending = storage.sessions_dir / "s", views._read_stamp, ["remove"]

    def read_stamp(descriptor: int) -> object:
        stamp = real(descriptor)
        if pending:
            pending.pop()
            for name in (views.STAMP, views.METADATA, views.CONVERSATION):
                (folder / name).unlink()
        return stamp

    monkeypatch.setattr(views, "_read_stamp", read_stamp)
    assert list(storage.check_views("s")) == []
    assert not pending
    storage.refresh_derived("s")
    manager.flush()
    (folder / views.METADATA).write_text("{}")
    assert list(storage.check_views("s")) == ["metadata.json is not what the log gives"]
