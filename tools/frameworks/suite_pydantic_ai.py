"""One scenario on our conversation store and on Pydantic AI's own in memory: both must answer the same."""

import asyncio
import json
import sys
from typing import Any

from pydantic_ai.conversation import Conversation
from pydantic_ai.conversation_store import ConversationConflict, ConversationStore, InMemoryConversationStore
from pydantic_ai.messages import ModelRequest, ModelResponse, TextPart, ToolCallPart, ToolReturnPart, UserPromptPart
from stores import makers

from eventstore.integrations.pydantic_ai import EventStoreConversations


def turns(number: int, name: str = "q") -> list[Any]:
    """Make so many prompts with their answers."""
    return [
        message
        for one in range(number)
        for message in (
            ModelRequest(parts=[UserPromptPart(content=f"{name}{one}")]),
            ModelResponse(parts=[TextPart(content=f"{name}{one}, answered")]),
        )
    ]


async def conflicts(work: Any) -> bool:
    """Return whether it is refused as a conflict."""
    try:
        await work
    except ConversationConflict:
        return True
    return False


async def loaded(store: ConversationStore, name: str, **options: Any) -> Any:
    """Load a conversation that is there."""
    found = await store.load(name, **options)
    assert found is not None, name
    return found


async def scenario(store: ConversationStore) -> list[Any]:
    """Use everything; return what was answered, step by step."""
    first = Conversation(conversation_id="c1", messages=turns(2))
    said: list[Any] = [len(await store.save(first, scope="ana"))]
    second = await loaded(store, "c1")
    said.append(second.messages == first.messages)
    second.messages += [
        *turns(1, "more"),
        ModelResponse(parts=[ToolCallPart(tool_name="f", args={"a": 1}, tool_call_id="t1")]),
        ModelRequest(parts=[ToolReturnPart(tool_name="f", content="r", tool_call_id="t1")]),
    ]
    said.append(len(await store.save(second)))
    said.append(await conflicts(store.save(first)))
    said.append(len((await loaded(store, "c1", limit=3)).messages))
    said.append([await store.load("c1", scope="eva"), await store.load("nobody")])
    fork = await store.fork("c1", at=2, new_conversation_id="c2")
    fork.messages += turns(1, "fork")
    said.append(len(await store.save(fork)))
    said.append([one.conversation_id for one in await store.list_conversations()])
    await store.delete("c1")
    said.append([await store.load("c1"), len((await loaded(store, "c2")).messages)])
    revision = (await loaded(store, "c2")).revision
    branch = await store.branch("c2", at=1, expected_revision=revision)
    said.append([len(branch.messages), await conflicts(store.branch("c2", at=1, expected_revision=revision))])
    both = [Conversation(conversation_id="c3", messages=turns(1, name)) for name in "ab"]
    said.append(sorted(await asyncio.gather(*(conflicts(store.save(one)) for one in both))))
    said.append(len(await store.save(Conversation(conversation_id="c1", messages=turns(1)))))
    return said


async def main() -> int:
    """Run it on each store, and compare."""
    passed, differences = 0, list[Any]()
    theirs = await scenario(InMemoryConversationStore())
    for name, make in makers().items():
        ours = await scenario(EventStoreConversations(make()))
        for number, (mine, other) in enumerate(zip(ours, theirs, strict=True), 1):
            passed += mine == other
            differences += [] if mine == other else [[name, number, mine, other]]
    print(json.dumps({"passed": passed, "failed": len(differences), "steps": differences}, default=str))
    return 1 if differences else 0


sys.exit(asyncio.run(main()))
