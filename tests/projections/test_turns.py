"""Conversations as a model is given them: never half a tool call, whatever is cut."""

from collections import Counter
from itertools import pairwise
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from eventstore import ConversationMessage, SessionManager
from eventstore.record import Message
from projections import turns

SAID = st.builds(
    lambda role, content, called: (role, content, called),
    st.sampled_from(["user", "assistant", "tool", "system"]),
    st.text(max_size=12),
    st.none() | st.sampled_from(["a", "b", "c"]),
)
CONVERSATIONS = st.lists(SAID, max_size=25).map(
    lambda said: [
        Message(seq, "2026-01-01T00:00:00.000000Z", role, content, None, "t", called)
        for seq, (role, content, called) in enumerate(said, 1)
    ]
)


TEXT = {"type": "text", "text": "t"}
CALLED = st.sampled_from(["a", "b", "c"])
CALL = CALLED.map(lambda called: {"type": "tool_use", "id": called, "name": "t", "input": {}})
RESULT = CALLED.map(lambda called: {"type": "tool_result", "tool_use_id": called, "content": "r"})
IN_BLOCKS = st.one_of(
    st.tuples(st.just("assistant"), st.lists(CALL | st.just(TEXT), min_size=1, max_size=4)),
    st.tuples(st.just("user"), st.lists(RESULT | st.just(TEXT), min_size=1, max_size=4)),
)


def message(seq: int, role: Any, content: str, called: str | None, blocks: list[Any] | None = None) -> Message:
    return Message(seq, "2026-01-01T00:00:00.000000Z", role, content, None, "t", called, blocks)


WITH_BLOCKS = st.lists(SAID | IN_BLOCKS.map(lambda one: (one[0], "t", None, one[1])), max_size=15).map(
    lambda said: [message(seq, *one) for seq, one in enumerate(said, 1)]
)


def halves(messages: list[Message]) -> list[int]:
    """Find calls without a result and results without a call, one by one."""
    found = []
    waiting: dict[str, list[int]] = {}
    for message in messages:
        if message.invocation_id is None or message.role not in ("assistant", "tool"):
            continue
        if message.role == "assistant":
            waiting.setdefault(message.invocation_id, []).append(message.seq)
        elif waiting.get(message.invocation_id):
            waiting[message.invocation_id].pop()
        else:
            found.append(message.seq)
    return found + [seq for left in waiting.values() for seq in left]


@given(CONVERSATIONS, st.none() | st.integers(0, 30), st.none() | st.integers(0, 200))
def test_no_half_of_a_tool_call_is_shown_whatever_is_cut(
    messages: list[Message], limit: int | None, tokens: int | None
) -> None:
    shown = turns.latest(messages, limit, tokens)
    assert halves(shown) == []
    assert [one.seq for one in shown] == sorted(one.seq for one in shown)
    opening = [one for one in shown if one.role == "system"]
    assert limit is None or len(shown) <= max(limit, len(opening))
    if limit is None and tokens is None:
        assert shown == turns.complete_calls(messages)


@given(CONVERSATIONS, st.integers(0, 30))
def test_turns_are_whole(messages: list[Message], limit: int) -> None:
    """What is shown behind the opening begins with a user's message, or is all there is."""
    whole = turns.complete_calls(messages)
    shown = turns.latest(messages, limit)
    opening = 0
    while opening < len(whole) and whole[opening].role == "system":
        opening += 1
    rest = shown[opening:]
    assert shown[:opening] == whole[:opening]
    assert rest == whole[len(whole) - len(rest) :]
    assert not rest or rest[0].role == "user" or len(rest) == len(whole) - opening


@given(CONVERSATIONS | WITH_BLOCKS)
def test_openai_gets_every_result_right_behind_its_calls(messages: list[Message]) -> None:
    shown = turns.to_openai(messages)
    waiting: list[str] = []
    for one in shown:
        if one["role"] == "tool":
            assert one["tool_call_id"] == waiting.pop(0)
        else:
            assert waiting == []
            waiting = [call["id"] for call in one.get("tool_calls", [])]
    assert waiting == []


@given(CONVERSATIONS | WITH_BLOCKS)
def test_anthropic_gets_alternating_roles_and_results_in_the_next_message(messages: list[Message]) -> None:
    shown = turns.to_anthropic(messages)["messages"]
    assert all(one["role"] != other["role"] for one, other in pairwise(shown))
    for place, one in enumerate(shown):
        called = Counter(block["id"] for block in one["content"] if block["type"] == "tool_use")
        following = shown[place + 1]["content"] if place + 1 < len(shown) else []
        results = Counter(block["tool_use_id"] for block in following if block["type"] == "tool_result")
        assert called == results, "each result stands in the message behind its call"


def test_a_conversation_is_given_in_each_format(manager: SessionManager) -> None:
    manager.create_session("s")
    manager.add_conversation_message("s", "system", "Be brief.")
    manager.add_conversation_message("s", "user", "What changed?")
    manager.add_conversation_message("s", "assistant", '{"since": "monday"}', "git_log", "call-1")
    manager.add_conversation_message("s", "tool", "e41c9d2", "git_log", "call-1")
    manager.add_conversation_message("s", "assistant", "One commit.")
    manager.add_conversation_message("s", "user", "Revert it.")
    manager.add_conversation_message("s", "assistant", "not JSON", "git_revert", "call-2")
    plain = manager.conversation("s")
    assert [one.content for one in plain] == [
        "Be brief.",
        "What changed?",
        '{"since": "monday"}',
        "e41c9d2",
        "One commit.",
        "Revert it.",
    ]
    assert all(isinstance(one, ConversationMessage) for one in plain)
    assert [one.content for one in manager.conversation("s", limit=3)] == ["Be brief.", "Revert it."]
    assert [one.content for one in manager.conversation("s", tokens=20)] == ["Be brief.", "Revert it."]
    assert manager.conversation("s", limit=2, at=5, format="openai") == [{"role": "system", "content": "Be brief."}]
    assert manager.conversation("s", format="openai")[2:4] == [
        {
            "role": "assistant",
            "content": None,
            "tool_calls": [
                {
                    "id": "call-1",
                    "type": "function",
                    "function": {"name": "git_log", "arguments": '{"since": "monday"}'},
                }
            ],
        },
        {"role": "tool", "tool_call_id": "call-1", "content": "e41c9d2"},
    ]
    anthropic = manager.conversation("s", format="anthropic")
    assert anthropic["system"] == "Be brief."
    assert [one["role"] for one in anthropic["messages"]] == ["user", "assistant", "user", "assistant", "user"]


def test_what_is_no_budget_or_format_is_an_error(manager: SessionManager) -> None:
    manager.create_session("s")
    wrong: Any = "yaml"
    with pytest.raises(ValueError, match="limit"):
        manager.conversation("s", limit=-1)
    with pytest.raises(ValueError, match="tokens"):
        manager.conversation("s", tokens=-1)
    with pytest.raises(ValueError, match="yaml"):
        manager.conversation("s", format=wrong)
