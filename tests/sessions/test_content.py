"""Messages of more than text: images, files and blocks go in and come out the same."""

import asyncio
import base64
import os
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from eventstore import (
    AsyncSessionManager,
    FileSystemSessionStorage,
    LogDamaged,
    MemorySessionStorage,
    Patterns,
    SessionManager,
)
from eventstore.events import MessageAdded, RecordPut, SessionCreated
from eventstore.exporters import export_archive, export_audit, verify
from eventstore.importers import import_archive
from eventstore.integrity import verify_session

PNG = base64.b64encode(os.urandom(6_000)).decode()
PDF = base64.b64encode(os.urandom(300_000)).decode()
OPENAI: list[dict[str, Any]] = [
    {"type": "text", "text": "Look at this"},
    {"type": "image_url", "image_url": {"url": f"data:image/png;base64,{PNG}", "detail": "high"}},
    {"type": "image_url", "image_url": {"url": "https://example.org/a.png"}},
    {"type": "input_audio", "input_audio": {"data": PNG, "format": "wav"}},
    {"type": "file", "file": {"filename": "a.pdf", "file_data": f"data:application/pdf;base64,{PDF}"}},
]
ANTHROPIC: list[dict[str, Any]] = [
    {"type": "text", "text": "Look at this", "cache_control": {"type": "ephemeral"}},
    {"type": "image", "source": {"type": "base64", "media_type": "image/png", "data": PNG}},
    {"type": "document", "title": "a.pdf", "source": {"type": "base64", "media_type": "application/pdf", "data": PDF}},
    {"type": "document", "source": {"type": "text", "media_type": "text/plain", "data": "plain"}},
    {"type": "something_new", "value": [1, None, {"a": "b"}]},
]


def test_blocks_of_openai_come_out_the_same(manager: SessionManager) -> None:
    manager.create_session("s")
    manager.add_conversation_message("s", "user", OPENAI)
    manager.add_conversation_message("s", "assistant", "I see")
    assert manager.conversation("s", format="openai") == [
        {"role": "user", "content": OPENAI},
        {"role": "assistant", "content": "I see"},
    ]
    plain = manager.conversation("s")[0]
    assert plain.blocks == OPENAI
    assert plain.content == "Look at this\n[image]\n[image]\n[audio]\n[file a.pdf]"
    assert manager.search("look")[0].seq == 2


def test_blocks_of_anthropic_come_out_the_same(manager: SessionManager) -> None:
    manager.create_session("s")
    manager.add_conversation_message("s", "user", ANTHROPIC)
    assert manager.conversation("s", format="anthropic")["messages"] == [{"role": "user", "content": ANTHROPIC}]


def test_blocks_are_converted_into_the_other_format(manager: SessionManager) -> None:
    manager.create_session("s")
    manager.add_conversation_message("s", "user", OPENAI)
    manager.add_conversation_message("s", "assistant", ANTHROPIC)
    (first,) = manager.conversation("s", format="anthropic")["messages"][:1]
    assert first["content"] == [
        {"type": "text", "text": "Look at this"},
        {"type": "image", "source": {"type": "base64", "media_type": "image/png", "data": PNG}},
        {"type": "image", "source": {"type": "url", "url": "https://example.org/a.png"}},
        {"type": "text", "text": "[audio]"},
        {
            "type": "document",
            "source": {"type": "base64", "media_type": "application/pdf", "data": PDF},
            "title": "a.pdf",
        },
    ]
    second = manager.conversation("s", format="openai")[1]["content"]
    assert second[1] == {"type": "image_url", "image_url": {"url": f"data:image/png;base64,{PNG}"}}
    assert second[2] == {
        "type": "file",
        "file": {"filename": "a.pdf", "file_data": f"data:application/pdf;base64,{PDF}"},
    }
    assert second[3:] == [{"type": "text", "text": "plain"}, ANTHROPIC[4]]


def test_a_tool_can_answer_with_an_image(manager: SessionManager) -> None:
    manager.create_session("s")
    manager.add_conversation_message("s", "user", "shoot")
    manager.add_conversation_message("s", "assistant", "{}", "camera", "i")
    manager.add_conversation_message("s", "tool", ANTHROPIC[:2], "camera", "i")
    result = manager.conversation("s", format="anthropic")["messages"][-1]["content"][0]
    assert result == {"type": "tool_result", "tool_use_id": "i", "content": ANTHROPIC[:2]}


CALLS: list[dict[str, Any]] = [
    {"type": "text", "text": "I take two pictures."},
    {"type": "tool_use", "id": "a", "name": "camera", "input": {"zoom": 2}, "cache_control": {"type": "ephemeral"}},
    {"type": "tool_use", "id": "b", "name": "camera", "input": {}},
]
RESULTS: list[dict[str, Any]] = [
    {"type": "tool_result", "tool_use_id": "b", "content": "broken", "is_error": True},
    {"type": "tool_result", "tool_use_id": "a", "content": ANTHROPIC[1:2]},
    {"type": "text", "text": "Well?"},
]


def test_calls_in_blocks_are_the_same_in_their_own_format(manager: SessionManager) -> None:
    manager.create_session("s")
    manager.add_conversation_message("s", "user", "shoot")
    manager.add_conversation_message("s", "assistant", CALLS)
    manager.add_conversation_message("s", "user", RESULTS)
    assert manager.conversation("s", format="anthropic")["messages"] == [
        {"role": "user", "content": [{"type": "text", "text": "shoot"}]},
        {"role": "assistant", "content": CALLS},
        {"role": "user", "content": [RESULTS[1], RESULTS[0], RESULTS[2]]},
    ]


def test_calls_in_blocks_are_tool_calls_with_their_results_behind_them(manager: SessionManager) -> None:
    manager.create_session("s")
    manager.add_conversation_message("s", "user", "shoot")
    manager.add_conversation_message("s", "assistant", CALLS)
    manager.add_conversation_message("s", "user", RESULTS)
    image = {"type": "image_url", "image_url": {"url": f"data:image/png;base64,{PNG}"}}
    assert manager.conversation("s", format="openai")[1:] == [
        {
            "role": "assistant",
            "content": CALLS[:1],
            "tool_calls": [
                {"id": "a", "type": "function", "function": {"name": "camera", "arguments": '{"zoom": 2}'}},
                {"id": "b", "type": "function", "function": {"name": "camera", "arguments": "{}"}},
            ],
        },
        {"role": "tool", "tool_call_id": "a", "content": [image]},
        {"role": "tool", "tool_call_id": "b", "content": "broken"},
        {"role": "user", "content": RESULTS[2:]},
    ]


def test_a_call_in_blocks_without_a_result_is_left_out_and_the_other_blocks_stay(manager: SessionManager) -> None:
    manager.create_session("s")
    manager.add_conversation_message("s", "user", "shoot")
    manager.add_conversation_message("s", "assistant", [*CALLS[1:], *ANTHROPIC[:2]])
    manager.add_conversation_message("s", "user", RESULTS[:1])
    shown = manager.conversation("s")
    assert [one.blocks for one in shown] == [None, [CALLS[2], *ANTHROPIC[:2]], RESULTS[:1]]
    assert shown[1].content == "[tool_use]\nLook at this\n[image]"
    assert [one.blocks for one in manager.conversation("s", at=3)] == [None, ANTHROPIC[:2]]
    assert [one["role"] for one in manager.conversation("s", format="openai")] == ["user", "assistant", "tool"]
    assert [one.blocks for one in manager.conversation("s", limit=2)] == [], "a turn is never cut within a call"


def test_a_file_is_kept_once_beside_the_log(manager: SessionManager) -> None:
    manager.create_session("s")
    manager.add_conversation_message("s", "user", OPENAI)
    manager.add_conversation_message("s", "user", ANTHROPIC)
    assert len(manager.storage.log.values("s")) == 2
    assert manager.head("s").size_bytes < 5_000
    fork = manager.fork_session("s")
    assert manager.conversation(fork, format="anthropic") == manager.conversation("s", format="anthropic")
    manager.delete_session("s")
    assert manager.conversation(fork)[0].blocks == OPENAI
    assert verify_session(manager.storage, fork).is_whole


def test_a_message_can_create_its_session_with_its_files(manager: SessionManager) -> None:
    message = MessageAdded(role="user", content="x", blocks=list(ANTHROPIC))
    manager.append("s", [message], create=SessionCreated(purpose="p"), expected_version=0)
    assert manager.conversation("s")[0].blocks == ANTHROPIC


def test_a_file_that_is_gone_is_damage(manager: SessionManager) -> None:
    manager.create_session("s")
    manager.add_conversation_message("s", "user", OPENAI)
    for digest in manager.storage.log.values("s"):
        manager.storage.log.remove_value("s", digest)
    with pytest.raises(LogDamaged):
        manager.conversation("s")
    session = manager.get_session("s")
    assert session is not None
    assert session.conversation[0].content.startswith("Look at this")


def test_a_file_of_a_redacted_message_is_removed(manager: SessionManager) -> None:
    manager.create_session("s")
    manager.add_conversation_message("s", "user", OPENAI)
    manager.add_conversation_message("s", "user", ANTHROPIC[1:2])
    manager.redactions.redact("s", [2], "private")
    assert len(manager.storage.log.values("s")) == 1
    assert manager.conversation("s")[0].blocks == ANTHROPIC[1:2]
    manager.redactions.redact("s", [3], "private")
    assert manager.storage.log.values("s") == []
    assert verify_session(manager.storage, "s").is_whole


def test_a_changed_file_is_damage(manager: SessionManager) -> None:
    manager.create_session("s")
    manager.add_conversation_message("s", "user", ANTHROPIC[1:2])
    (digest,) = manager.storage.log.values("s")
    manager.storage.log.backend.put_blob("s", f"values/{digest}", b"another")
    assert not verify_session(manager.storage, "s").is_whole


def test_files_go_along_in_archives_and_bundles(manager: SessionManager, tmp_path: Path) -> None:
    manager.create_session("s")
    manager.add_conversation_message("s", "user", OPENAI)
    manager.append("s", [RecordPut(stream="m", value="x" * 300_000)])
    archive, bundle = tmp_path / "a.zip", tmp_path / "b.zip"
    export_archive(manager.storage, archive, ["s"])
    with SessionManager(FileSystemSessionStorage(tmp_path / "s", tmp_path / "h")) as other:
        import_archive(other.storage, archive)
        assert other.conversation("s")[0].blocks == OPENAI
        assert other.records.list("s", "m")[0].value == "x" * 300_000
    export_audit(manager.storage, ["s"], bundle)
    done = subprocess.run([sys.executable, verify.__file__, bundle], capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stdout + done.stderr


def test_a_loaded_session_can_be_saved_with_its_blocks(manager: SessionManager) -> None:
    manager.create_session("s")
    manager.add_conversation_message("s", "user", OPENAI)
    session = manager.get_session("s")
    assert session is not None
    session.add_message("assistant", "more")
    manager.storage.save_session(session)
    assert [event.type for event in manager.events("s", after=2)] == ["message.added"]
    again = manager.get_session("s")
    assert again is not None
    again.conversation.insert(0, again.conversation[1])
    manager.storage.save_session(again)
    assert [one.blocks for one in manager.conversation("s")] == [None, OPENAI, None]


def test_the_bytes_of_an_image_are_no_secret_but_its_text_is() -> None:
    secret = "ghp_" + "a" * 36
    manager = SessionManager(MemorySessionStorage(), secrets=Patterns())
    manager.create_session("s")
    odd = base64.b64encode(b"\x00" * 3_000).decode() + "AKIA" + "A" * 16
    blocks: list[dict[str, Any]] = [
        {"type": "text", "text": secret},
        {"type": "image", "source": {"type": "base64", "data": odd}},
    ]
    manager.add_conversation_message("s", "user", blocks)
    shown = manager.conversation("s")[0]
    assert shown.blocks == [{"type": "text", "text": "[redacted:github-token]"}, blocks[1]]
    assert shown.content.startswith("[redacted:github-token]")


def test_the_async_manager_does_the_same() -> None:
    async def work() -> None:
        async with AsyncSessionManager(SessionManager(MemorySessionStorage())) as manager:
            await manager.create_session("s")
            await manager.add_conversation_message("s", "user", OPENAI)
            assert (await manager.conversation("s", format="openai"))[0]["content"] == OPENAI

    asyncio.run(asyncio.wait_for(work(), 60))


@pytest.mark.parametrize("content", [[], [1], [{"text": "x"}], {"type": "text"}, None, [{"type": 1}]])
def test_what_is_no_content_is_refused(content: Any) -> None:
    manager = SessionManager(MemorySessionStorage())
    manager.create_session("s")
    with pytest.raises(ValueError, match="content"):
        manager.add_conversation_message("s", "user", content)


TEXTS = st.text(max_size=6) | st.binary(min_size=3_072, max_size=3_500).map(
    lambda data: base64.b64encode(data).decode()
)
VALUES: st.SearchStrategy[Any] = st.recursive(
    TEXTS | st.none() | st.integers(-9, 9),
    lambda inner: (
        st.lists(inner, max_size=2) | st.dictionaries(st.sampled_from(["data", "source", "x"]), inner, max_size=2)
    ),
    max_leaves=4,
)
BLOCK = st.builds(lambda kind, value: {"type": kind, "value": value}, st.sampled_from(["text", "new"]), VALUES)
BLOCKS = st.lists(BLOCK, min_size=1, max_size=3)


@given(BLOCKS)
def test_any_blocks_come_out_the_same(blocks: list[Any]) -> None:
    manager = SessionManager(MemorySessionStorage())
    manager.create_session("s")
    manager.add_conversation_message("s", "user", blocks)
    assert manager.conversation("s")[0].blocks == blocks
    assert manager.conversation("s", format="openai")[0]["content"] == blocks
    assert manager.conversation("s", format="anthropic")["messages"][0]["content"] == blocks
