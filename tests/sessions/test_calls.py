"""Calls in the log: their input, their result, and what becomes of them when something fails."""

import json
import os
import subprocess
import sys
from hashlib import sha256
from pathlib import Path
from typing import Any

import pytest

from eventstore import FileSystemSessionStorage, SessionManager
from eventstore import events as e
from eventstore.errors import AppendRefused, EventNotEncodable, HistoryRefused
from eventstore.integrity.verification import verify_all
from eventstore.secret_patterns import Patterns
from eventstore.store.rebuild import check_all, rebuild_all
from projections.calls import INLINE_BYTES

LARGE = "x" * INLINE_BYTES


@pytest.fixture
def begun(manager: SessionManager) -> SessionManager:
    manager.create_session("s")
    return manager


def of_calls(manager: SessionManager) -> list[Any]:
    return [event for event in manager.events("s") if isinstance(event, e.InvocationEvent)]


def test_a_call_is_two_events_with_its_input_and_its_result(begun: SessionManager) -> None:
    with begun.invocation("s", "transfer", {"to": "bob", "sum": (1, 2)}) as call:
        (started,) = of_calls(begun)
        call.result = ["done", None]
    started, ended = of_calls(begun)
    assert (started.type, started.tool_name, started.input) == (
        "invocation.started",
        "transfer",
        {"to": "bob", "sum": [1, 2]},
    )
    assert (ended.type, ended.result, ended.success, ended.duration_ms) == (
        "invocation.linked",
        ["done", None],
        True,
        call.duration_ms,
    )
    assert started.invocation_id == ended.invocation_id == call.invocation_id


def test_the_input_is_what_the_tool_was_given_whatever_it_does_with_it(begun: SessionManager) -> None:
    given = {"list": [1]}
    with begun.invocation("s", "sort", given) as call:
        given["list"].append(2)
    assert call.folder is not None
    assert begun.tool_history is not None
    assert begun.tool_history.read(call.folder).arguments == {"list": [1]}
    assert of_calls(begun)[0].input == {"list": [1]}


def test_a_call_that_has_not_ended_is_known_as_such_and_counts_once(begun: SessionManager) -> None:
    with begun.invocation("s", "grep", {}) as call:
        assert begun.storage.fold("s").invocations[call.invocation_id].is_open
    assert not begun.storage.fold("s").invocations[call.invocation_id].is_open
    found = begun.get_session_statistics("s")
    assert found is not None
    assert (found["total_invocations"], found["tools_used"]) == (1, ["grep"])


def test_a_running_call_is_seen_by_a_follower(begun: SessionManager) -> None:
    with begun.follow("s", after=1, live=False) as before:
        assert list(before) == []
    with (
        begun.invocation("s", "grep", {"q": "live"}),
        begun.follow("s", after=1, live=False) as follower,
    ):
        (seen,) = [one.event for one in follower]
    assert isinstance(seen, e.InvocationStarted)
    assert seen.input == {"q": "live"}


class Handle:
    def __repr__(self) -> str:
        raise AssertionError("nobody asks for this")


def test_an_input_that_cannot_be_encoded_is_an_error_with_its_path_and_the_tool_does_not_run(
    begun: SessionManager, tmp_path: Path
) -> None:
    ran = False
    with (
        pytest.raises(EventNotEncodable, match=r"input\.files\[3\]\.handle is of type Handle"),
        begun.invocation("s", "t", {"files": [1, 2, 3, {"handle": Handle()}]}),
    ):
        ran = True
    assert not ran
    assert of_calls(begun) == []
    assert not list(tmp_path.glob(".history/*"))


def test_a_result_that_cannot_be_encoded_is_an_error_with_its_path_and_the_call_has_ended(
    begun: SessionManager,
) -> None:
    with (
        pytest.raises(EventNotEncodable, match=r"result\.open\[0\] is of type Handle"),
        begun.invocation("s", "t") as call,
    ):
        call.result = {"open": [Handle()]}
    ended = of_calls(begun)[-1]
    assert (ended.success, ended.error) == (
        True,
        "the result is not recorded: $.result.open[0] is of type Handle, which has no JSON form",
    )
    assert not begun.storage.fold("s").invocations[call.invocation_id].is_open


def test_a_large_value_is_kept_with_the_log_and_the_event_has_its_size_and_hash(begun: SessionManager) -> None:
    with begun.invocation("s", "read", {"text": LARGE}) as call:
        call.result = LARGE
    started, ended = of_calls(begun)
    given, answered = json.dumps({"text": LARGE}, separators=(",", ":")).encode(), json.dumps(LARGE).encode()
    assert (started.input_bytes, started.input_sha256) == (len(given), sha256(given).hexdigest())
    assert (ended.result_bytes, ended.result_sha256) == (len(answered), sha256(answered).hexdigest())
    assert max(len(line) for line in begun.storage.log.lines("s")) < 1000
    log = begun.storage.log
    assert log.read_value("s", ended.result_sha256) == answered
    whole = [event for event in log.with_values("s", log.read("s")) if isinstance(event, e.InvocationEvent)]
    assert (getattr(whole[0], "input", None), getattr(whole[1], "result", None)) == ({"text": LARGE}, LARGE)
    assert call.folder is not None
    assert begun.tool_history is not None
    assert begun.tool_history.read(call.folder).result == LARGE


def test_a_value_of_exactly_the_limit_stays_in_the_line(begun: SessionManager) -> None:
    with begun.invocation("s", "read") as call:
        call.result = LARGE[2:]
    assert of_calls(begun)[-1].result == LARGE[2:]


def test_a_fork_reads_the_large_values_of_its_parent_also_when_that_is_gone(begun: SessionManager) -> None:
    with begun.invocation("s", "read") as call:
        call.result = LARGE
    digest = of_calls(begun)[-1].result_sha256
    begun.fork_session("s", new_id="f")
    begun.fork_session("f", new_id="g")
    log = begun.storage.log
    assert log.values("g") == []
    assert log.read_value("g", digest) == json.dumps(LARGE).encode()
    begun.delete_session("s")
    begun.delete_session("f")
    assert log.read_value("g", digest) == json.dumps(LARGE).encode()


def test_a_large_value_goes_to_the_trash_and_comes_back(begun: SessionManager) -> None:
    with begun.invocation("s", "read") as call:
        call.result = LARGE
    begun.trash.put("s")
    begun.trash.restore("s")
    assert begun.storage.log.read_value("s", of_calls(begun)[-1].result_sha256) == json.dumps(LARGE).encode()


def test_secrets_are_replaced_before_a_value_is_kept(manager: SessionManager) -> None:
    token = "ghp_" + "a1B2" * 9
    manager.secrets = Patterns()
    manager.create_session("s")
    with manager.invocation("s", "read", {"key": token}) as call:
        call.result = [LARGE, token]
    log = manager.storage.log
    started, ended = of_calls(manager)
    assert token not in json.dumps(started.input)
    assert token.encode() not in log.read_value("s", ended.result_sha256)
    assert call.folder is not None
    assert token not in (call.folder / "record.jsonl").read_text()


def test_a_history_that_cannot_be_written_loses_no_result(begun: SessionManager, tmp_path: Path) -> None:
    (tmp_path / ".history").rmdir() if (tmp_path / ".history").is_dir() else None
    (tmp_path / ".history").write_text("a file in its place")
    with pytest.warns(RuntimeWarning, match="has no folder"), begun.invocation("s", "grep", 1) as call:
        call.result = 2
    assert call.folder is None
    assert [getattr(one, name) for one, name in zip(of_calls(begun), ("input", "result"), strict=True)] == [1, 2]


def test_a_history_that_goes_away_during_a_call_loses_no_result(begun: SessionManager) -> None:
    call = begun.invocation("s", "grep").__enter__()
    assert call.folder is not None
    call.folder.rmdir()
    call.result = 2
    with pytest.warns(RuntimeWarning, match=r"record\.jsonl could not be written"):
        call.__exit__(None, None, None)
    assert of_calls(begun)[-1].result == 2


def test_a_call_without_a_session_names_a_history_that_cannot_be_written(begun: SessionManager) -> None:
    call = begun.invocation(None, "grep").__enter__()
    assert call.folder is not None
    call.folder.rmdir()
    call.result = 2
    with pytest.raises(HistoryRefused, match="is not kept"):
        call.__exit__(None, None, None)


def test_a_start_that_is_refused_leaves_no_folder(
    begun: SessionManager, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def refuse(*args: Any, **options: Any) -> Any:
        raise AppendRefused("s", "events.jsonl", 28)

    monkeypatch.setattr(begun.storage, "append", refuse)
    with pytest.raises(AppendRefused), begun.invocation("s", "grep"):
        raise AssertionError("the tool must not run")
    assert not list(tmp_path.glob(".history/*"))


def test_search_and_timeline_show_what_a_call_was_given_and_answered(begun: SessionManager) -> None:
    with begun.invocation("s", "lookup", {"q": "zanzibar"}) as call:
        call.result = "ouagadougou"
    assert [(hit.seq, hit.role) for hit in begun.search("zanzibar")] == [(2, "call")]
    assert [(hit.seq, hit.role) for hit in begun.search("ouagadougou")] == [(3, "call")]
    assert [hit.seq for hit in begun.search("lookup")] == [2]
    rows = [(row.what, row.text, row.tool_name) for row in begun.timeline("s")][1:]
    assert rows == [("starts", '{"q":"zanzibar"}', "lookup"), ("succeeded", "ouagadougou", "lookup")]


def test_search_finds_the_words_of_a_large_value(begun: SessionManager) -> None:
    with begun.invocation("s", "read") as call:
        call.result = "zanzibar " + LARGE
    assert [hit.seq for hit in begun.search("zanzibar")] == [3]


def test_a_call_whose_program_was_killed_has_its_input_and_no_end(tmp_path: Path) -> None:
    program = (
        "import os\n"
        "from eventstore import FileSystemSessionStorage, SessionManager\n"
        "manager = SessionManager(FileSystemSessionStorage('.sessions', '.history'))\n"
        "manager.create_session('s')\n"
        "with manager.invocation('s', 'grep', {'q': 1}):\n"
        "    os._exit(9)\n"
    )
    done = subprocess.run([sys.executable, "-c", program], cwd=tmp_path, env={**os.environ, "PYTHONWARNINGS": "error"})
    assert done.returncode == 9
    with SessionManager(FileSystemSessionStorage(tmp_path / ".sessions", tmp_path / ".history")) as manager:
        (call,) = manager.storage.fold("s").invocations.values()
        assert call.is_open
        assert (call.tool_name, of_calls(manager)[0].input) == ("grep", {"q": 1})


def test_show_prints_what_a_call_was_given_and_answered(tmp_path: Path) -> None:
    from commands import run

    with SessionManager(FileSystemSessionStorage(tmp_path / ".sessions", tmp_path / ".history")) as manager:
        manager.create_session("s")
        with manager.invocation("s", "lookup", {"q": "zanzibar"}) as call:
            call.result = "ouagadougou"
    shown = run("show", "s", cwd=tmp_path).stdout
    assert "zanzibar" in shown
    assert "ouagadougou" in shown
    (known,) = json.loads(run("show", "s", "--json", cwd=tmp_path).stdout)["calls"]
    assert (known["input"], known["result"], known["success"]) == ('{"q":"zanzibar"}', "ouagadougou", True)
    assert "zanzibar" in run("show", "s:2", cwd=tmp_path).stdout


@pytest.mark.parametrize("step", ["create", "start_invocation", "link_invocation", "write"])
@pytest.mark.parametrize("after", [False, True])
def test_a_program_that_dies_at_any_step_of_a_call_leaves_a_store_that_is_whole_and_rebuilt(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, step: str, after: bool
) -> None:
    manager = SessionManager(FileSystemSessionStorage(tmp_path / ".sessions", tmp_path / ".history"))
    manager.create_session("s")
    owner: Any = manager if "invocation" in step else manager.tool_history
    real = getattr(owner, step)

    def die(*args: Any, **options: Any) -> Any:
        if after:
            real(*args, **options)
        raise Died

    monkeypatch.setattr(owner, step, die)
    with pytest.raises(Died), manager.invocation("s", "grep", {"q": 1}) as call:
        call.result = "found"
    monkeypatch.undo()
    storage = manager.storage
    assert isinstance(storage, FileSystemSessionStorage)
    assert {one.outcome for one in verify_all(storage)} == {"whole"}
    list(rebuild_all(storage))
    assert [one.difference for one in check_all(storage)] == [""]
    ended = [event for event in of_calls(manager) if isinstance(event, e.InvocationLinked)]
    assert [event.result for event in ended] == (["found"] if step == "write" or (after and step[:4] == "link") else [])
    records = list(tmp_path.glob(".history/*/record.jsonl"))
    assert len(records) == len(ended)
    assert {one.outcome for one in verify_all(storage)} == {"whole"}


class Died(BaseException):
    """The program died here: nothing that catches errors may catch this."""
