"""Claude Code: the conversation is the one that the agent has, and each odd block costs that block only."""

from pathlib import Path
from typing import Any

from transcripts import answer, call, claude, lines, second, usage

from eventstore import MemorySessionStorage, SessionManager, SessionStorage
from eventstore.importers import Imported
from eventstore.importers.formats import FORMATS
from eventstore.importers.transcript import import_transcript


def take(storage: SessionStorage, folder: Path, *objects: Any, name: str = "one") -> Imported:
    path = folder / f"{name}.jsonl"
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_bytes(lines(*objects))
    return import_transcript(storage, FORMATS["claude-code"], path)


def spoken(storage: SessionStorage, name: str = "one") -> list[tuple[str, str]]:
    return [(one.role, one.content) for one in storage.fold(name).conversation.messages]


def queue(operation: str, text: str, at: float, **more: Any) -> dict[str, Any]:
    return {"type": "queue-operation", "operation": operation, "content": text, "timestamp": second(at), **more}


def attached(text: Any, at: float, **more: Any) -> dict[str, Any]:
    content = {"type": "queued_command", "prompt": text, "commandMode": "prompt", **more}
    return {"type": "attachment", "uuid": f"t{at}", "timestamp": second(at), "attachment": content}


ASKED = claude("user", "u1", None, 1, "start")
CALLED = claude("assistant", "a1", "u1", 2, [call("c1", {"x": 1})], m_stop_reason="tool_use")
ANSWERED = claude("user", "u2", "a1", 5, [answer("c1", "ok")])
DONE = claude("assistant", "a2", "u2", 7, "done", m_stop_reason="end_turn")


def test_a_prompt_typed_while_the_agent_worked_is_there_once(tmp_path: Path) -> None:
    gone = [queue("enqueue", "wait", 3), queue("remove", "wait", 4, reason="absorbed_mid_turn")]
    wanted = [("user", "start"), ("assistant", '{"x":1}'), ("tool", "ok"), ("user", "wait"), ("assistant", "done")]
    for name, middle in {
        "both": [*gone, ANSWERED, attached("wait", 6)],
        "queue": [*gone, ANSWERED],
        "attachment": [ANSWERED, attached([{"type": "text", "text": "wait"}], 6)],
        "early": [attached("wait", 3), *gone, ANSWERED],
    }.items():
        with MemorySessionStorage() as alone:
            take(alone, tmp_path, ASKED, CALLED, *middle, DONE, name=name)
            assert spoken(alone, name) == wanted
            assert len(SessionManager(alone).search("wait")) == 1


def test_what_is_queued_for_the_agent_by_programs_is_no_prompt(storage: SessionStorage, tmp_path: Path) -> None:
    told = [attached("<x>", 6), attached("ended", 6, commandMode="task-notification"), queue("remove", "never", 6)]
    take(storage, tmp_path, ASKED, CALLED, ANSWERED, *told, DONE)
    assert [text for role, text in spoken(storage) if role == "user"] == ["start"]


def test_text_and_calls_of_one_line_keep_their_order(storage: SessionStorage, tmp_path: Path) -> None:
    blocks = [{"type": "text", "text": "first"}, call("c1", {}), {"type": "text", "text": "last"}]
    take(storage, tmp_path, ASKED, claude("assistant", "a1", "u1", 2, blocks))
    assert [text for _, text in spoken(storage)] == ["start", "first", "{}", "last"]


def test_an_odd_block_costs_that_block_only(storage: SessionStorage, tmp_path: Path) -> None:
    blocks = [3, {"type": "text", "text": "kept"}, {"type": "tool_use", "name": "Bash"}, {"type": "later"}]
    odd = claude("assistant", "a1", "u1", 2, blocks, m_usage=usage(5, 6), m_id="m")
    bare = claude("assistant", "a2", "a1", 3, "", m_usage=usage(1, 1), m_id="n")
    del bare["message"]["content"]
    result = take(storage, tmp_path, ASKED, odd, bare)
    assert spoken(storage) == [("user", "start"), ("assistant", "kept")]
    assert (storage.metadata("one").token_usage or {})["output"] == 7
    assert len(result.odd) == 2


def test_replies_that_were_replaced_or_taken_back_are_not_in_the_conversation(
    storage: SessionStorage, tmp_path: Path
) -> None:
    half = claude("assistant", "a1", "u1", 2, "Half a rep", m_usage=usage(1, 2), m_id="m", isAbortedMidStream=True)
    whole = claude("assistant", "a2", "u1", 3, "A reply", m_usage=usage(1, 2), m_id="n", supersedesUuids=["a1"])
    other = claude("assistant", "a3", "a2", 4, "Wrong")
    taken = {"type": "system", "uuid": "s1", "timestamp": second(5), "retractedMessageUuids": ["a3", "gone"]}
    take(storage, tmp_path, ASKED, half, whole, other, taken)
    assert spoken(storage) == [("user", "start"), ("assistant", "A reply")]
    assert (storage.metadata("one").token_usage or {})["output"] == 4


def test_after_a_compaction_the_conversation_is_its_summary_and_what_follows(
    storage: SessionStorage, tmp_path: Path
) -> None:
    boundary = {
        "type": "system", "subtype": "compact_boundary", "uuid": "s", "parentUuid": None, "timestamp": second(8),
    }  # fmt: skip
    summary = claude("user", "u3", "s", 8, "They built it.", isCompactSummary=True)
    take(storage, tmp_path, ASKED, CALLED, ANSWERED, DONE, boundary, summary, claude("user", "u4", "u3", 9, "go on"))
    assert spoken(storage) == [("user", "They built it."), ("user", "go on")]


def test_calls_of_the_server_are_calls(storage: SessionStorage, tmp_path: Path) -> None:
    asked = {"type": "server_tool_use", "id": "s1", "name": "web_search", "input": {"query": "okapi"}}
    told = {"type": "web_search_tool_result", "tool_use_id": "s1", "content": [{"type": "text", "text": "in Africa"}]}
    take(storage, tmp_path, ASKED, claude("assistant", "a1", "u1", 2, [asked, told]))
    (found,) = storage.fold("one").invocations.values()
    assert (found.tool_name, found.success) == ("web_search", True)


def test_an_id_that_was_used_before_is_another_call(storage: SessionStorage, tmp_path: Path) -> None:
    again = [
        claude("assistant", "a3", "u2", 8, [call("c1", {"x": 2})]),
        claude("user", "u3", "a3", 9, [answer("c1", "no")]),
    ]
    take(storage, tmp_path, ASKED, CALLED, ANSWERED, *again)
    assert list(storage.fold("one").invocations) == ["c1", "c1#2"]
    shown = SessionManager(storage).conversation("one", format="openai")
    assert [one["tool_call_id"] for one in shown if one["role"] == "tool"] == ["c1", "c1#2"]


def test_costs_are_what_the_file_says_once_a_response(storage: SessionStorage, tmp_path: Path) -> None:
    told = [
        claude("assistant", f"a{n}", "u1", n, "x", m_id=f"m{n > 3}", m_usage=usage(1, 1), costUSD=cost)
        for n, cost in ((2, 0.05), (3, 0.05), (4, 0.25), (5, "free"))
    ]
    take(storage, tmp_path, ASKED, *told)
    assert storage.metadata("one").estimated_cost == 0.3


def test_writes_to_the_cache_for_an_hour_are_known(storage: SessionStorage, tmp_path: Path) -> None:
    used = {**usage(1, 1), "cache_creation": {"ephemeral_5m_input_tokens": 3, "ephemeral_1h_input_tokens": 7}}
    take(storage, tmp_path, ASKED, claude("assistant", "a1", "u1", 2, "x", m_id="m", m_usage=used))
    (event,) = [one for one in storage.log.read("one") if one.type == "usage.recorded"]
    assert (getattr(event, "tokens")["cache_write"], getattr(event, "cache_write_hour")) == (10, 7)  # noqa: B009


def test_the_last_lines_say_how_a_session_ended(storage: SessionStorage, tmp_path: Path) -> None:
    stopped = claude("user", "u3", "u2", 6, [{"type": "text", "text": "[Request interrupted by user for tool use]"}])
    failed = claude("assistant", "a3", "u2", 6, "API Error: 529", isApiErrorMessage=True)
    for name, last, status in (
        ("done", [ANSWERED, DONE], "completed"),
        ("stopped", [stopped], "abandoned"),
        ("failed", [ANSWERED, failed], "failed"),
        ("asked", [ANSWERED, DONE, claude("user", "u5", "a2", 9, "and now?")], "abandoned"),
        ("going-on", [ANSWERED, claude("user", "u5", "u2", 9, "?", timestamp="2999-01-01T00:00:00Z")], "active"),
    ):
        take(storage, tmp_path, ASKED, CALLED, *last, name=name)
        assert storage.metadata(name).status.value == status, name
    take(storage, tmp_path, ASKED, CALLED, stopped, DONE, name="stopped")
    assert storage.metadata("stopped").status.value == "completed"
    assert take(storage, tmp_path, ASKED, CALLED, stopped, DONE, name="stopped").events == 0


def test_a_saved_output_is_the_result_of_its_call(storage: SessionStorage, tmp_path: Path) -> None:
    folder = tmp_path / "p" / "one" / "tool-results"
    folder.mkdir(parents=True)
    (folder / "c1.txt").write_text("line\n" * 100_000 + "the needle")
    preview = "<persisted-output>\nOutput too large. Full output saved to: /home/x/one/tool-results/c1.txt\n\nline\n"
    take(storage, tmp_path / "p", ASKED, CALLED, claude("user", "u2", "a1", 5, [answer("c1", preview)]), DONE)
    assert spoken(storage)[2] == ("tool", preview)
    (event,) = [one for one in storage.log.read("one") if one.type == "invocation.linked" and one.success]  # type: ignore[union-attr]
    (full,) = storage.log.with_values("one", [event])
    assert str(getattr(full, "result")).endswith("the needle")  # noqa: B009


def test_a_sub_agent_is_tagged_and_knows_its_call(storage: SessionStorage, tmp_path: Path) -> None:
    folder = tmp_path / "p" / "one" / "subagents"
    lines_of = [claude("user", "x1", None, 1, "look", agentId="a9", isSidechain=True)]
    folder.mkdir(parents=True)
    (folder / "agent-a9.meta.json").write_text('{"agentType":"Explore","toolUseId":"c1"}')
    (folder / "workflows").mkdir()
    (folder / "workflows" / "journal.jsonl").write_text('{"type":"started","key":"v2:1","agentId":"a9"}\n')
    take(storage, folder, *lines_of, name="agent-a9")
    known = storage.metadata("one.agent-a9")
    assert known.tags == ["claude-code", "sub-agent"]
    assert {
        "agent_type": "Explore",
        "parent_call": "c1",
        "parent_session": "one",
    }.items() <= known.custom_metadata.items()
    assert FORMATS["claude-code"].files(tmp_path / "p") == [folder / "agent-a9.jsonl"]
