"""Sessions of the OpenAI Agents SDK, whose `Session` is a protocol: it need not be installed."""

import asyncio
from types import SimpleNamespace
from typing import Any

import pytest

from eventstore import AsyncSessionManager, MemorySessionStorage, Patterns, SessionManager
from eventstore.integrations.openai_agents import EventStoreSession

ITEMS: list[Any] = [
    {"role": "user", "content": "what changed?"},
    {"type": "function_call", "call_id": "c1", "name": "git_log", "arguments": '{"n": 1}'},
    {"type": "function_call_output", "call_id": "c1", "output": "3 commits"},
    {"type": "reasoning", "id": "r1", "summary": []},
    {"role": "assistant", "content": [{"type": "output_text", "text": "e41c9d2"}]},
]


def test_items_come_back_and_are_a_session_like_any_other(manager: SessionManager) -> None:
    session = EventStoreSession("user:1/a", manager)
    asyncio.run(session.add_items(ITEMS))
    assert asyncio.run(session.get_items()) == ITEMS
    assert asyncio.run(session.get_items(2)) == ITEMS[-2:]
    said = [(one.role, one.content) for one in manager.conversation(session.stored_id)]
    assert said == [
        ("user", "what changed?"),
        ("assistant", '{"n": 1}'),
        ("tool", "3 commits"),
        ("assistant", "e41c9d2"),
    ]
    figures = manager.get_session_statistics(session.stored_id)
    assert figures is not None
    assert (figures["total_invocations"], figures["tools_used"]) == (1, ["git_log"])
    assert {hit.session_id for hit in manager.search("commits")} == {session.stored_id}


def test_it_takes_the_manager_for_asyncio_and_nothing_else(manager: SessionManager) -> None:
    session = EventStoreSession("s", AsyncSessionManager(manager))
    asyncio.run(session.add_items(ITEMS))
    assert asyncio.run(session.get_items()) == ITEMS
    with pytest.raises(TypeError, match="manager is a MemorySessionStorage, not a SessionManager"):
        EventStoreSession("s", MemorySessionStorage())  # type: ignore[arg-type]


def test_what_is_popped_leaves_the_conversation_and_stays_in_the_log(manager: SessionManager) -> None:
    session = EventStoreSession("s", manager)
    asyncio.run(session.add_items(ITEMS))
    before = manager.head(session.stored_id).version
    assert asyncio.run(session.pop_item()) == ITEMS[-1]
    assert [one.role for one in manager.conversation(session.stored_id)] == ["user", "assistant", "tool"]
    assert manager.conversation(session.stored_id, at=before)[-1].content == "e41c9d2"
    asyncio.run(session.clear_session())
    assert (asyncio.run(session.get_items()), list(manager.conversation(session.stored_id))) == ([], [])


def test_a_redaction_leaves_items_where_they_are_and_the_last_can_still_be_popped(manager: SessionManager) -> None:
    token = "ghp_" + "a1B2" * 9
    session = EventStoreSession("s", manager)
    items: list[Any] = [
        {"role": "user", "content": one} for one in ("first", f"my token is {token}", "third", "fourth")
    ]
    asyncio.run(session.add_items(items))
    assert asyncio.run(session.pop_item()) == items.pop()
    manager.redactions.carry_out(manager.redactions.plan(), "asked to", inside=True)
    said = ["first", "my token is [redacted:github-token]", "third"]
    assert [one["content"] for one in asyncio.run(session.get_items())] == said
    assert [one.content for one in manager.conversation(session.stored_id)] == said
    assert asyncio.run(session.pop_item()) == items[-1]
    assert [one["content"] for one in asyncio.run(session.get_items())] == said[:-1]
    assert [one.content for one in manager.conversation(session.stored_id)] == said[:-1]


@pytest.mark.parametrize("size", [1, 20_000])
def test_a_secret_beside_half_a_surrogate_pair_is_found_and_the_rest_stays(manager: SessionManager, size: int) -> None:
    token = "ghp_" + "a1B2" * 9
    session = EventStoreSession("s", manager)
    item = {"role": "user", "content": f"{token} {'cut in an emoji ' * size}\ud83d", "n": 1 << 70}
    asyncio.run(session.add_items([item]))
    manager.redactions.carry_out(manager.redactions.plan(), "asked to", inside=True)
    clean = {**item, "content": item["content"].replace(token, "[redacted:github-token]")}  # type: ignore[attr-defined]
    assert asyncio.run(session.get_items()) == [clean]
    assert manager.redactions.plan() == []


def test_a_secret_beside_half_a_surrogate_pair_is_never_written_where_secrets_are_replaced() -> None:
    token = "ghp_" + "a1B2" * 9
    manager = SessionManager(MemorySessionStorage(), secrets=Patterns())
    session = EventStoreSession("s", manager)
    asyncio.run(session.add_items([{"role": "user", "content": f"{token} \ud83d"}]))
    assert asyncio.run(session.get_items())[0]["content"] == "[redacted:github-token] \ud83d"


def test_no_two_tasks_pop_one_item_and_none_is_lost(manager: SessionManager) -> None:
    sessions = [EventStoreSession("s", manager) for _ in range(4)]

    async def main() -> list[Any]:
        await asyncio.gather(
            *(one.add_items([{"role": "user", "content": str(n)}]) for n, one in enumerate(sessions * 5))
        )
        return await asyncio.gather(*(one.pop_item() for one in sessions * 6))

    popped = asyncio.run(main())
    assert sorted(one["content"] for one in popped if one) == sorted(map(str, range(20)))
    assert popped.count(None) == 4


def test_settings_limit_what_is_returned(manager: SessionManager) -> None:
    session = EventStoreSession("s", manager, SimpleNamespace(limit=1))
    assert asyncio.run(session.get_items()) == []
    asyncio.run(session.add_items(ITEMS))
    assert asyncio.run(session.get_items()) == ITEMS[-1:]
    assert asyncio.run(session.get_items(0)) == []
    assert asyncio.run(session.get_items(10**30)) == ITEMS


@pytest.mark.parametrize("value", ["half \ud83d", 2**70, [[[0]]], {"\ud83d": [-(2**65)]}], ids=ascii)
def test_what_a_log_refuses_in_an_item_comes_back_unchanged(value: Any) -> None:
    """JSON of other programs has it: a text that was cut in the middle of an emoji, or a large number."""
    manager = SessionManager(MemorySessionStorage())
    session = EventStoreSession("s", manager)
    items = [
        {"type": "function_call", "call_id": "c1", "name": "n", "arguments": value},
        {"role": "user", "content": value},
    ]
    asyncio.run(session.add_items([*items, ITEMS[0]]))
    assert asyncio.run(session.get_items()) == [*items, ITEMS[0]]
    assert [asyncio.run(session.pop_item()) for _ in range(2)] == [ITEMS[0], items[1]]
    figures = manager.get_session_statistics(session.stored_id)
    assert figures is not None
    assert figures["tools_used"] == ["n"]


@pytest.mark.parametrize(
    "item",
    [{"role": ["user"]}, {"role": "user", "content": "x" * 17_000_000}, {"type": {}, "call_id": "c"}],
    ids=["role", "size", "type"],
)
def test_an_item_is_kept_whatever_it_means(item: Any) -> None:
    session = EventStoreSession("s", SessionManager(MemorySessionStorage()))
    asyncio.run(session.add_items([item]))
    assert asyncio.run(session.get_items()) == [item]
    assert asyncio.run(session.pop_item()) == item
