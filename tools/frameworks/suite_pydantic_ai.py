"""A scenario and random operations on our conversation store and on Pydantic AI's in memory: both must answer the same."""

import asyncio
import json
import sys
from functools import partial
from random import Random
from typing import Any

from pydantic_ai import Agent
from pydantic_ai.conversation import Conversation
from pydantic_ai.conversation_store import ConversationConflict, ConversationStore, InMemoryConversationStore
from pydantic_ai.messages import ModelRequest, ModelResponse, TextPart, ToolCallPart, ToolReturnPart, UserPromptPart
from pydantic_ai.models.test import TestModel
from pydantic_ai.usage import RequestUsage
from random_steps import Side, Step, compare
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


def random_messages(rng: Random) -> list[Any]:
    """Make up to three messages of any kind."""
    usage = RequestUsage(input_tokens=3, output_tokens=1)
    call = ToolCallPart(tool_name="f", args=rng.choice([None, {"a": 1 << 70}, '{"a": 1}']), tool_call_id="t1")
    kinds = [
        ModelRequest(parts=[UserPromptPart(content=f"q{rng.randrange(9)}")]),
        ModelRequest(parts=[ToolReturnPart(tool_name="f", content={"x": [1, None]}, tool_call_id="t1")]),
        ModelResponse(parts=[TextPart(content="cut in an emoji \ud83d")]),
        ModelResponse(parts=[call], usage=usage, model_name="m", provider_response_id=rng.choice([None, "p1"])),
    ]
    return rng.choices(kinds, k=rng.randrange(4))


def shown(side: Side, conversation: Any) -> Any:
    """Return what a conversation is, with numbers in the place of ids that its store made up, and keep it."""
    if conversation is None:
        return None
    side.held[conversation.conversation_id] = conversation
    counted = conversation.usage, conversation.new_message_index, side.number(conversation.revision)
    return conversation.conversation_id, list(conversation.messages), *counted


def random_step(rng: Random) -> Step:
    """Return an operation on one of four conversations, on what of it is held, which may be out of date."""
    names, scopes = ["a", "b", "c/%", ""], [None, None, None, "ana", "eva"]
    name, other = rng.choice(names), rng.choice(names)
    scope, from_scope = rng.choice(scopes), rng.choice(scopes)
    limit, new, part = rng.choice([None, None, 0, 1, 3, -1]), random_messages(rng), rng.randrange(20)
    at: dict[str, Any] = {"at": rng.choice([0, 1, 2, 5])} if rng.random() < 0.6 else {}
    kind = rng.choice(["load", "load", "add", "rewrite", "save", "save", "branch", "fork", "delete", "list", "entries"])

    async def do(side: Side) -> Any:
        store = side.store
        held = side.held.setdefault(name, Conversation(conversation_id=name))
        entry = dict(enumerate(side.ids)).get(part, "none")
        place: dict[str, Any] = at or {"from_entry": entry}
        if kind == "load":
            return shown(side, await store.load(name, limit=limit, scope=scope))
        if kind == "add":
            held.messages += new
        elif kind == "rewrite":
            held.messages[part // 4 :] = new
            side.held[name] = Conversation(conversation_id=name, messages=held.messages, revision=held.revision)
        elif kind == "save":
            saved = await store.save(held, scope=scope)
            return [(side.number(one.id), side.number(one.parent_id), one.message) for one in saved], shown(side, held)
        elif kind == "branch":
            return shown(side, await store.branch(name, expected_revision=held.revision, scope=scope, **place))
        elif kind == "fork":
            named = {"new_conversation_id": other, "scope": scope, "source_scope": from_scope}
            return shown(side, await store.fork(name, **named, **place))
        elif kind == "delete":
            await store.delete(name, scope=scope)
        elif kind == "entries":
            found = await store.load_entries(name, limit=limit, scope=scope)
            return found and [(side.number(one.id), side.number(one.parent_id)) for one in found]
        else:
            records = await store.list_conversations(scope=scope, limit=limit)
            ids = [[one.head_id, one.forked_at, one.revision, *one.branches] for one in records]
            return [(one.conversation_id, one.scope, one.usage) for one in records], [map_ids(side, one) for one in ids]
        return None

    return do


def map_ids(side: Side, ids: list[str | None]) -> list[int | None]:
    """Return ids that a store made up as numbers."""
    return [side.number(one) for one in ids]


async def redacted(manager: Any) -> list[str]:
    """Redact each entry of a conversation with a fork and a branch; return what does not load as the rest."""
    wrong = list[str]()
    for place in range(8):
        name = f"c{place}"
        store = EventStoreConversations(manager)
        first = Conversation(conversation_id=name, messages=turns(1))
        ids = [one.id for one in await store.save(first)]
        call = ToolCallPart(tool_name="f", args={"a": 1}, tool_call_id="t1")
        result = ToolReturnPart(tool_name="f", content="r", tool_call_id="t1")
        first.messages += [*turns(1, "b"), ModelResponse(parts=[call]), ModelRequest(parts=[result]), *turns(1, "c")]
        ids += [one.id for one in await store.save(first)]
        fork = await store.fork(name, new_conversation_id=f"{name} fork")
        fork.messages += turns(1, "d")
        await store.save(fork)
        branch = await store.branch(name, at=6, expected_revision=first.revision)
        branch.messages += turns(1, "e")
        await store.save(branch)
        lost = [ids[place], ids[(place + 1) % 8]] if place % 2 else [ids[place]]
        session_id = store.session_id_of(name)
        seqs = [
            one.seq
            for one in manager.events(session_id)
            if getattr(one, "key", None) in lost and one.stream == "entries"
        ]
        manager.redactions.redact(session_id, seqs, "asked to")
        kept = [one for one, entry in zip(first.messages, ids, strict=True) if entry not in lost]
        shared = [one for one, entry in zip(branch.messages[:6], ids, strict=False) if entry not in lost]
        wanted = {name: shared + branch.messages[6:], f"{name} fork": kept + fork.messages[8:]}
        for same in (store, EventStoreConversations(manager)):
            for each, messages in wanted.items():
                now = await loaded(same, each)
                wrong += [] if now.messages == messages else [f"{each} without {place}"]
                wrong += [] if len((await loaded(same, each, limit=3)).messages) == 3 else [f"{each}: three of it"]
            back = await same.fork(
                name, from_entry=ids[7 if place < 6 else 5], new_conversation_id=f"{name} {same is store}"
            )
            wrong += [] if back.messages == kept[: len(back.messages)] else [f"{name}: a fork of a branch that it left"]
        result_of_run = await Agent(TestModel()).run("go on", conversation=await loaded(store, name))
        await store.save(result_of_run)
        wanted[name] = [*wanted[name], *result_of_run.new_messages()]
        wrong += [] if (await loaded(store, name)).messages == wanted[name] else [f"{name}: it did not go on"]
    return wrong


def stores_of(make: Any) -> list[EventStoreConversations]:
    """Return two conversation stores over an empty store."""
    manager = make()
    return [EventStoreConversations(manager), EventStoreConversations(manager)]


def main() -> int:
    """Run both on each store, and compare."""
    passed, differences = 0, list[Any]()
    theirs = asyncio.run(scenario(InMemoryConversationStore()))
    for name, make in makers().items():
        different = compare(InMemoryConversationStore, partial(stores_of, make), random_step)
        lost = asyncio.run(redacted(make()))
        passed, differences = passed + 60 - len(different) + (not lost), [*differences, *different, *lost]
        ours = asyncio.run(scenario(EventStoreConversations(make())))
        for number, (mine, other) in enumerate(zip(ours, theirs, strict=True), 1):
            passed += mine == other
            differences += [] if mine == other else [[name, number, mine, other]]
    print(json.dumps({"passed": passed, "failed": len(differences), "steps": differences}, default=str))
    return 1 if differences else 0


sys.exit(main())
