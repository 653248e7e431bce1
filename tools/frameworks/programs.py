"""Programs of agent frameworks with a scripted model, each of which goes on from what its session has.

Turn `n`: the user says `add n`, the model calls the tool `add` with n and n, and then says the sum. Each returns what the
framework itself has of the session in the end, without ids and times that it draws. Imports are inside: an environment has one
framework.
"""

import json
import os
from collections.abc import AsyncIterator, Callable, Coroutine
from pathlib import Path
from typing import Any, NamedTuple

from eventstore import SessionManager


class Program(NamedTuple):
    """A program: it is made before the process forks, and run in the child with a manager and the number of turns."""

    run: Callable[[SessionManager, int], Coroutine[Any, Any, list[Any]]]
    has_usage: bool = True
    has_messages: bool = True
    repeats_calls: bool = False


def said(text: str) -> int:
    """Return the number in what the user said."""
    return int(text.removeprefix("add "))


def langgraph() -> Program:
    """A graph of a model and a tool, invoked once for each turn; what was cut off is invoked again without input."""
    from langchain_core.messages import AIMessage, HumanMessage, ToolMessage
    from langgraph.graph import END, START, MessagesState, StateGraph

    from eventstore.integrations.langgraph import EventStoreSaver

    def model(state: Any) -> Any:
        last = state["messages"][-1]
        number = said(last.content) if last.type == "human" else int(last.content) // 2
        usage = {"input_tokens": 10, "output_tokens": 2, "total_tokens": 12}
        if last.type == "tool":
            return {"messages": [AIMessage(content=last.content, id=f"sum-{number}", usage_metadata=usage)]}
        call = {"name": "add", "args": {"a": number, "b": number}, "id": f"call-{number}"}
        return {"messages": [AIMessage(content="", id=f"ask-{number}", tool_calls=[call], usage_metadata=usage)]}

    def tools(state: Any) -> Any:
        (call,) = state["messages"][-1].tool_calls
        content = str(call["args"]["a"] + call["args"]["b"])
        answer = ToolMessage(content=content, name="add", tool_call_id=call["id"], id=f"answer-{call['id']}")
        return {"messages": [answer]}

    builder = StateGraph(MessagesState)
    builder.add_node("model", model)
    builder.add_node("tools", tools)
    builder.add_edge(START, "model")
    builder.add_conditional_edges("model", lambda state: "tools" if state["messages"][-1].tool_calls else END)
    builder.add_edge("tools", "model")

    async def run(manager: SessionManager, turns: int) -> list[Any]:
        saver = EventStoreSaver(manager)
        graph = builder.compile(checkpointer=saver)
        config: Any = {"configurable": {"thread_id": "t"}}
        while True:
            state = graph.get_state(config)
            messages = state.values.get("messages", [])
            done = sum(one.type == "human" for one in messages)
            # What a step has written is in the state, and `next` is empty, before the step has its checkpoint.
            found = saver.get_tuple(config)
            if state.next or (found is not None and found.pending_writes):
                graph.invoke(None, config, durability="sync")
            elif done == turns:
                return [[one.id, one.type, one.content] for one in messages]
            else:
                asked = HumanMessage(content=f"add {done}", id=f"human-{done}")
                graph.invoke({"messages": [asked]}, config, durability="sync")

    return Program(run)


def openai_agents() -> Program:
    """An agent with a session; the items of a turn that was cut off are popped, and the turn is done again."""
    from agents import Agent, ModelResponse, RunConfig, Runner, Usage, function_tool
    from agents.models.interface import Model
    from agents.testing import assistant_message, function_call

    from eventstore.integrations.openai_agents import EventStoreSession

    class Scripted(Model):
        async def get_response(self, system_instructions: Any, input: Any, *rest: Any, **more: Any) -> Any:  # noqa: A002
            last = input[-1]
            if last.get("type") == "function_call_output":
                output = assistant_message(str(last["output"]))
            else:
                number = said(last["content"])
                output = function_call("add", {"a": number, "b": number}, call_id=f"call-{number}")
            return ModelResponse(output=[output], usage=Usage(), response_id=None)

        def stream_response(self, *rest: Any, **more: Any) -> Any:
            raise NotImplementedError

    @function_tool
    def add(a: int, b: int) -> str:
        return str(a + b)

    async def run(manager: SessionManager, turns: int) -> list[Any]:
        agent = Agent(name="adder", model=Scripted(), tools=[add])
        session = EventStoreSession("s", manager)
        items = await session.get_items()
        while items and items[-1].get("role") != "assistant":
            popped = await session.pop_item()
            items = await session.get_items()
            if popped.get("role") == "user":
                break
        for number in range(sum(one.get("role") == "user" for one in items), turns):
            await Runner.run(agent, f"add {number}", session=session, run_config=RunConfig(tracing_disabled=True))
        return await session.get_items()

    return Program(run, has_usage=False)


def pydantic_ai() -> Program:
    """An agent whose conversation is saved after each turn; a turn that was cut off is done again."""
    from pydantic_ai import Agent
    from pydantic_ai.conversation import Conversation
    from pydantic_ai.messages import ModelResponse, TextPart, ToolCallPart
    from pydantic_ai.models.function import FunctionModel

    from eventstore.integrations.pydantic_ai import EventStoreConversations

    def model(messages: Any, info: Any) -> Any:
        part = messages[-1].parts[-1]
        if part.part_kind == "tool-return":
            return ModelResponse(parts=[TextPart(content=str(part.content))])
        number = said(part.content)
        call = ToolCallPart(tool_name="add", args={"a": number, "b": number}, tool_call_id=f"call-{number}")
        return ModelResponse(parts=[call])

    def add(a: int, b: int) -> int:
        return a + b

    async def run(manager: SessionManager, turns: int) -> list[Any]:
        agent = Agent(FunctionModel(model), tools=[add])
        store = EventStoreConversations(manager)
        while True:
            kept: Any = await store.load("c") or Conversation(conversation_id="c")
            done = sum(part.part_kind == "user-prompt" for one in kept.messages for part in one.parts)
            if done == turns:
                return [
                    [part.part_kind, str(getattr(part, "content", part))] for one in kept.messages for part in one.parts
                ]
            result = await agent.run(f"add {done}", message_history=list(kept.messages))
            kept.messages = result.all_messages()
            await store.save(kept)

    return Program(run)


def adk() -> Program:
    """An agent of a resumable app; an invocation that was cut off is resumed by its id."""
    from google.adk.agents import Agent
    from google.adk.apps.app import App, ResumabilityConfig
    from google.adk.models.base_llm import BaseLlm
    from google.adk.models.llm_response import LlmResponse
    from google.adk.runners import Runner
    from google.genai import types

    from eventstore.integrations.adk import EventStoreSessionService

    class Scripted(BaseLlm):
        async def generate_content_async(self, llm_request: Any, stream: bool = False) -> AsyncIterator[Any]:
            last = llm_request.contents[-1].parts[-1]
            if last.function_response:
                part = types.Part(text=str(last.function_response.response["result"]))
            else:
                number = said(last.text)
                call = types.FunctionCall(id=f"call-{number}", name="add", args={"a": number, "b": number})
                part = types.Part(function_call=call)
            used = types.GenerateContentResponseUsageMetadata(prompt_token_count=10, candidates_token_count=2)
            yield LlmResponse(content=types.Content(role="model", parts=[part]), usage_metadata=used)

    def add(a: int, b: int) -> int:
        return a + b

    async def run(manager: SessionManager, turns: int) -> list[Any]:
        service = EventStoreSessionService(manager)
        agent = Agent(name="adder", model=Scripted(model="scripted"), tools=[add])
        app = App(name="app", root_agent=agent, resumability_config=ResumabilityConfig(is_resumable=True))
        runner = Runner(app=app, session_service=service)
        who: dict[str, Any] = {"user_id": "ana", "session_id": "s"}
        while True:
            session = await service.get_session(app_name="app", **who)
            if session is None:
                session = await service.create_session(app_name="app", **who)
            asked = [one for one in session.events if one.author == "user" and one.content.parts[0].text]
            sums = [one for one in session.events if one.author != "user" and one.content and one.content.parts[0].text]
            if len(sums) == turns:
                parts = [part for one in session.events if one.content for part in one.content.parts]
                return [one.model_dump(mode="json", exclude_none=True) for one in parts]
            message = types.Content(role="user", parts=[types.Part(text=f"add {len(sums)}")])
            more = {"new_message": message} if len(asked) == len(sums) else {"invocation_id": asked[-1].invocation_id}
            async for _ in runner.run_async(**who, **more):
                pass

    return Program(run)


def strands() -> Program:
    """An agent with a repository of sessions; a call that was cut off is made by hand, and the turn goes on without a prompt."""
    from strands import Agent, tool
    from strands.models.model import Model
    from strands.session.repository_session_manager import RepositorySessionManager

    from eventstore.integrations.strands import EventStoreRepository

    class Scripted(Model):
        def update_config(self, **model_config: Any) -> None:
            raise NotImplementedError

        def get_config(self) -> Any:
            return {}

        def structured_output(self, *rest: Any, **more: Any) -> Any:
            raise NotImplementedError

        async def stream(self, messages: Any, *rest: Any, **more: Any) -> AsyncIterator[Any]:
            last = messages[-1]["content"][0]
            yield {"messageStart": {"role": "assistant"}}
            if "toolResult" in last:
                start: dict[str, Any] = {}
                delta: dict[str, Any] = {"text": last["toolResult"]["content"][0]["text"]}
            else:
                number = said(last["text"])
                start = {"toolUse": {"name": "add", "toolUseId": f"call-{number}"}}
                delta = {"toolUse": {"input": json.dumps({"a": number, "b": number})}}
            yield {"contentBlockStart": {"start": start}}
            yield {"contentBlockDelta": {"delta": delta}}
            yield {"contentBlockStop": {}}
            yield {"messageStop": {"stopReason": "tool_use" if start else "end_turn"}}

    @tool
    def add(a: int, b: int) -> str:
        """Add two numbers."""
        return str(a + b)

    async def run(manager: SessionManager, turns: int) -> list[Any]:
        kept = RepositorySessionManager("s", EventStoreRepository(manager))
        agent = Agent(agent_id="adder", model=Scripted(), tools=[add], session_manager=kept, callback_handler=None)
        for block in agent.messages[-1]["content"] if agent.messages else ():
            if "toolUse" in block:
                use = block["toolUse"]
                content = [{"text": add(**use["input"])}]
                result = {"toolUseId": use["toolUseId"], "status": "success", "content": content}
                answer: Any = {"role": "user", "content": [{"toolResult": result}]}
                agent.messages.append(answer)
                kept.append_message(answer, agent)
        if agent.messages and agent.messages[-1]["role"] == "user":
            await agent.invoke_async(None)
        for number in range(sum("text" in one["content"][0] for one in agent.messages) // 2, turns):
            await agent.invoke_async(f"add {number}")
        return [[one["role"], one["content"]] for one in agent.messages]

    return Program(run, has_usage=False)


def claude_agent() -> Program:
    """A transcript of Claude Code that is imported; an import that was cut off is done again."""
    from claude_agent_sdk import import_session_to_store, project_key_for_directory

    from eventstore.integrations.claude_agent import ClaudeSessionStore

    session_id = "11111111-1111-4111-8111-111111111111"

    def lines(turns: int) -> list[dict[str, Any]]:
        found: list[dict[str, Any]] = []

        def add(kind: str, name: str, message: Any) -> None:
            parent = found[-1]["uuid"] if found else None
            common = {"sessionId": session_id, "timestamp": "2026-01-01T00:00:00.000Z", "cwd": "/w", "version": "2"}
            found.append({"type": kind, "uuid": name, "parentUuid": parent, "message": message, **common})

        for number in range(turns):
            usage = {"input_tokens": 10, "output_tokens": 2}
            call = {"type": "tool_use", "id": f"call-{number}", "name": "add", "input": {"a": number, "b": number}}
            answer = {"type": "tool_result", "tool_use_id": f"call-{number}", "content": str(2 * number)}
            text = {"type": "text", "text": str(2 * number)}
            add("user", f"u{number}", {"role": "user", "content": f"add {number}"})
            for name, block in (("c", call), ("s", text)):
                message = {
                    "id": f"m{name}{number}",
                    "role": "assistant",
                    "model": "m",
                    "usage": usage,
                    "content": [block],
                }
                add("assistant", f"{name}{number}", message)
                if name == "c":
                    add("user", f"a{number}", {"role": "user", "content": [answer]})
        return found

    async def run(manager: SessionManager, turns: int) -> list[Any]:
        home = Path(os.environ["ROUND_FOLDER"], "home")
        os.environ["CLAUDE_CONFIG_DIR"] = str(home)
        key = project_key_for_directory(str(home))
        path = home / "projects" / key / f"{session_id}.jsonl"
        if not path.exists():
            path.parent.mkdir(parents=True, exist_ok=True)
            whole = path.with_suffix(".new")
            whole.write_text("".join(json.dumps(one) + "\n" for one in lines(turns)))
            whole.rename(path)
        store = ClaudeSessionStore(manager)
        await import_session_to_store(session_id, store, directory=str(home), batch_size=2)
        return await store.load({"project_key": key, "session_id": session_id}) or []

    return Program(run)


def fastmcp() -> Program:
    """A client of a recorded server; a call that it has no answer to is made again, as another call."""
    from fastmcp import Client, FastMCP
    from fastmcp.server.sessions import SessionId, SessionProvider, get_session

    from eventstore.integrations.fastmcp import RecordingMiddleware
    from eventstore.integrations.keyvalue import EventStoreKeyValue

    def served(manager: SessionManager) -> Any:
        store = EventStoreKeyValue(manager)
        server = FastMCP("sums", middleware=[RecordingMiddleware(manager)], session_state_store=store)

        @server.tool
        async def add(a: int, b: int, session_id: SessionId) -> int:
            await (await get_session(session_id)).set(str(a), a + b)
            return a + b

        @server.tool
        async def total(count: int, session_id: SessionId) -> int:
            session = await get_session(session_id)
            return sum([int(await session.get(str(number)) or 0) for number in range(count)])

        server.add_provider(SessionProvider())
        return server

    async def run(manager: SessionManager, turns: int) -> list[Any]:
        path = Path(os.environ["ROUND_FOLDER"], "answers.json")
        answers: list[Any] = json.loads(path.read_text()) if path.exists() else []
        async with Client(served(manager)) as client:
            while len(answers) <= turns:
                number = len(answers) - 1
                given = {"a": number, "b": number, "session_id": answers[0]} if answers else {}
                answers.append((await client.call_tool("add" if given else "create_session", given)).data)
                path.with_suffix(".new").write_text(json.dumps(answers))
                path.with_suffix(".new").rename(path)
            summed = await client.call_tool("total", {"count": turns, "session_id": answers[0]})
        return [answers[1:], summed.data]

    return Program(run, has_usage=False, has_messages=False, repeats_calls=True)


PROGRAMS: dict[str, Callable[[], Program]] = {
    "langgraph": langgraph,
    "openai_agents": openai_agents,
    "pydantic_ai": pydantic_ai,
    "adk": adk,
    "strands": strands,
    "claude_agent": claude_agent,
    "fastmcp": fastmcp,
}
