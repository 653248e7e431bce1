"""Codex: every kind of call with its outcome, and the conversation that the agent has."""

import json
from pathlib import Path
from typing import Any

import pytest
from transcripts import codex, lines

from eventstore import SessionManager, SessionStorage
from eventstore.importers.formats import FORMATS
from eventstore.importers.transcript import import_transcript

NAME = "0199aaaa-0000-7000-8000-00000000c0de"
META = codex("session_meta", 0, id=NAME, cwd="/made/up", cli_version="9.9.9", originator="x")


def said(role: str, text: str, at: float = 1) -> dict[str, Any]:
    return codex("response_item", at, type="message", role=role, content=[{"type": "input_text", "text": text}])


def take(storage: SessionStorage, folder: Path, *objects: Any) -> None:
    path = folder / f"rollout-{NAME}.jsonl"
    path.write_bytes(lines(META, *objects))
    import_transcript(storage, FORMATS["codex"], path)


def call(name: str, call_id: str, at: float = 2, **more: Any) -> dict[str, Any]:
    return codex("response_item", at, type="function_call", name=name, arguments="{}", call_id=call_id, **more)


def output(call_id: str, text: Any, at: float = 3) -> dict[str, Any]:
    return codex("response_item", at, type="function_call_output", call_id=call_id, output=text)


HEADER = "Chunk ID: x\nWall time: 1.5000 seconds\nProcess exited with code {}\nOutput:\nexited with code 9\n"


@pytest.mark.parametrize(
    ("text", "success"),
    [
        (HEADER.format(2), False),
        (HEADER.format(0), True),
        ("Exit code: 3\nWall time: 0 seconds\nOutput:\n", False),
        ("Script failed: no such module", False),
        ("apply_patch verification failed: no match", False),
        ([{"type": "input_text", "text": json.dumps({"exit_code": 2, "output": "x"})}], False),
        (json.dumps({"output": "x", "metadata": {"exit_code": 0}}), True),
        ("the log says: exited with code 7", None),
    ],
)
def test_the_outcome_of_a_call_is_read_wherever_it_stands(
    storage: SessionStorage, tmp_path: Path, text: Any, success: bool | None
) -> None:
    take(storage, tmp_path, call("exec", "c1"), output("c1", text))
    (found,) = storage.fold(NAME).invocations.values()
    assert found.success is success
    if isinstance(text, str) and text.startswith("Chunk"):
        assert found.duration_ms == 1500.0


def test_every_kind_of_call_is_one(storage: SessionStorage, tmp_path: Path) -> None:
    search = {"type": "search", "query": "okapi"}
    ended = {"call_id": "m1", "duration": {"secs": 2, "nanos": 250_000_000}, "result": {"Ok": {"isError": True}}}
    patched = {"call_id": "p1", "success": False, "stderr": "no such hunk"}
    take(
        storage,
        tmp_path,
        codex("response_item", 1, type="web_search_call", id="w1", status="completed", action=search),
        codex("response_item", 1, type="tool_search_call", call_id="s1", arguments={"query": "calendar"}),
        codex("response_item", 2, type="tool_search_output", call_id="s1", status="completed", tools=[]),
        call("read_file", "m1", namespace="mcp__files__"),
        codex("event_msg", 3, type="mcp_tool_call_end", **ended),
        output("m1", "no such file"),
        codex("response_item", 4, type="image_generation_call", id="i1", status="completed", revised_prompt="x", result="AA=="),
        codex("response_item", 5, type="custom_tool_call", name="apply_patch", input="*** x", call_id="p1"),
        codex("response_item", 6, type="custom_tool_call_output", call_id="p1", output="done"),
        codex("event_msg", 7, type="patch_apply_end", **patched),
        codex("response_item", 8, type="agent_message", author="root", content=[{"type": "input_text", "text": "narwhal"}]),
    )  # fmt: skip
    found = list(storage.fold(NAME).invocations.values())
    assert [(one.tool_name, one.success) for one in found] == [
        ("web_search", True),
        ("tool_search", True),
        ("mcp__files__read_file", False),
        ("image_generation", True),
        ("apply_patch", False),
    ]
    assert (found[2].duration_ms, found[4].error) == (2250.0, "no such hunk")
    assert len(SessionManager(storage).search("narwhal")) == 1


def test_turns_that_were_rolled_back_are_not_in_the_conversation(storage: SessionStorage, tmp_path: Path) -> None:
    turns = [one for n in range(3) for one in (said("user", f"ask {n}"), said("assistant", f"say {n}"))]
    take(
        storage, tmp_path, *turns, codex("event_msg", 9, type="thread_rolled_back", num_turns=2), said("user", "other")
    )
    assert [one.content for one in storage.fold(NAME).conversation.messages] == ["ask 0", "say 0", "other"]


@pytest.mark.parametrize("is_list", [True, False])
def test_a_compaction_replaces_the_conversation_and_counts_nothing_twice(
    storage: SessionStorage, tmp_path: Path, is_list: bool
) -> None:
    kept = [
        {"type": "message", "role": "user", "content": [{"type": "input_text", "text": text}]}
        for text in ("ask", "the summary")
    ]
    payload = {"message": "", "replacement_history": kept} if is_list else {"message": "the summary"}
    take(
        storage,
        tmp_path,
        said("user", "ask"),
        said("assistant", "say"),
        codex("compacted", 5, **payload),
        said("user", "on"),
    )
    texts = [one.content for one in storage.fold(NAME).conversation.messages]
    assert texts == (["ask"] if is_list else []) + ["the summary", "on"]
    assert sum(row.messages for row in SessionManager(storage).analytics("model")) == 4


def test_the_title_is_what_a_person_asked_or_the_name_of_the_thread(storage: SessionStorage, tmp_path: Path) -> None:
    asked = [said("user", "<recommended_plugins>x</recommended_plugins>"), said("user", "fix the build")]
    take(storage, tmp_path, *asked)
    assert storage.metadata(NAME).purpose == "fix the build"
    take(storage, tmp_path, *asked, codex("event_msg", 5, type="thread_name_updated", thread_name="Builds"))
    assert storage.metadata(NAME).purpose == "Builds"


@pytest.mark.parametrize(
    ("last", "status"),
    [
        ([said("assistant", "done")], "completed"),
        ([codex("event_msg", 5, type="turn_aborted", reason="interrupted")], "abandoned"),
        ([codex("event_msg", 5, type="error", message="usage limit")], "failed"),
        ([call("exec", "c1")], "abandoned"),
    ],
)
def test_the_last_lines_say_how_a_session_ended(
    storage: SessionStorage, tmp_path: Path, last: list[Any], status: str
) -> None:
    take(storage, tmp_path, said("user", "go"), *last)
    assert storage.metadata(NAME).status.value == status


def test_a_compressed_rollout_is_the_same_session(storage: SessionStorage, tmp_path: Path) -> None:
    zstandard = pytest.importorskip("zstandard")
    take(storage, tmp_path, said("user", "go"))
    plain = tmp_path / f"rollout-{NAME}.jsonl"
    packed = plain.with_name(f"{plain.name}.zst")
    packed.write_bytes(zstandard.ZstdCompressor().compress(plain.read_bytes() + lines(said("assistant", "gone"))))
    assert FORMATS["codex"].files(tmp_path) == [plain, packed]
    assert import_transcript(storage, FORMATS["codex"], packed).session_id == NAME
    assert [one.content for one in storage.fold(NAME).conversation.messages] == ["go", "gone"]
