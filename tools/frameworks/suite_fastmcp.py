"""FastMCP: its tests of sessions with our key-value store, and a recorded server driven by its own client."""

import asyncio
import json
import os
import sys
import tarfile
from pathlib import Path
from typing import Any

from counted import run
from fastmcp import Client, FastMCP
from fastmcp.exceptions import ToolError
from fastmcp.server.sessions import SessionId, SessionProvider, get_session
from key_value.aio.stores import memory
from stores import FOLDER, makers

from eventstore import SessionManager
from eventstore.integrations.fastmcp import RecordingMiddleware
from eventstore.integrations.keyvalue import EventStoreKeyValue
from eventstore.integrations.tool_calls import META

sys.path.insert(0, str(Path(__file__).parents[2] / "tests"))

from integrations.calls import calls_of

TESTS = [
    f"tests/server/test_{name}.py" for name in ("sessions", "session_provider", "session_visibility", "event_store")
]


def served(manager: SessionManager) -> FastMCP:
    """Make a server with three tools."""
    server = FastMCP(
        "tools", middleware=[RecordingMiddleware(manager)], session_state_store=EventStoreKeyValue(manager)
    )

    @server.tool
    def add(a: int, b: int) -> int:
        if a == 9:
            raise ToolError("nine is too much")
        return a + b

    @server.tool
    def whose(session_id: str) -> str:
        return session_id

    @server.tool
    async def count(session_id: SessionId) -> int:
        session = await get_session(session_id)
        number = int(await session.get("n") or 0) + 1
        await session.set("n", number)
        return number

    server.add_provider(SessionProvider())
    return server


async def scenario(manager: SessionManager) -> list[bool]:
    """Call the tools; return what holds."""
    held: list[bool] = []
    async with Client(served(manager)) as client:
        tools = {one.name: one for one in await client.list_tools()}
        held.append(all("session_id" in one.input_schema["properties"] for one in tools.values()))
        result: Any = await client.call_tool("add", {"a": 1, "b": 2, "session_id": "user:1/a"})
        held += [result.data == 3, result.meta[META] == "user:1/a"]
        failed = await client.call_tool("add", {"a": 9, "b": 2, "session_id": "user:1/a"}, raise_on_error=False)
        held.append(failed.is_error)
        named = await client.call_tool("add", {"a": 3, "b": 4}, meta={META: "user:1/a"})
        held.append(named.meta[META] == "user:1/a")
        own = await client.call_tool("whose", {"session_id": "mine"})
        held += [own.data == "mine", own.meta[META] == "mine"]
        made = await client.call_tool("create_session", {})
        handles = [(await client.call_tool("add", {"a": 1, "b": 1})).meta[META], made.meta[META]]
        held.append(handles[0] == handles[1])  # the calls of one client belong together
    counted = []
    for _ in range(3):  # another server each time: what it knows is in the store
        async with Client(served(manager)) as client:
            counted.append(await client.call_tool("count", {"session_id": made.data}))
    held += [[one.data for one in counted] == [1, 2, 3], {one.meta[META] for one in counted} == {made.data}]
    (session,) = manager.page_sessions(external_key="user:1/a").sessions
    calls = calls_of(manager, session.session_id)
    held.append([call.known.success for call in calls] == [True, False, True])
    held.append([call.input.value for call in calls] == [{"a": 1, "b": 2}, {"a": 9, "b": 2}, {"a": 3, "b": 4}])
    shown = {"content": [{"type": "text", "text": "3"}], "structuredContent": {"result": 3}, "isError": False}
    held += [calls[0].result.value == shown, session.purpose == "MCP server tools"]
    held.append("nine is too much" in (calls[1].known.error or ""))
    held.append(len(calls_of(manager, "mine")) == 1)
    return held


class Ours(EventStoreKeyValue):
    """Made as the store in memory is, which FastMCP uses where it is given none."""

    make: Any = None

    def __init__(self, **options: Any) -> None:
        chosen: Any = {name: options.get(name) for name in ("default_collection", "seed")}
        super().__init__(type(self).make(), **chosen)


failures, passed = list[str](), 0
for name, make in makers().items():
    for number, held in enumerate(asyncio.run(scenario(make())), 1):
        passed += held
        failures += [] if held else [f"{name}: step {number}"]
(source,) = FOLDER.glob("fastmcp-*.tar.gz")
with tarfile.open(source) as archive:
    archive.extractall(FOLDER, filter="data")
os.chdir(source.with_name(source.name.removesuffix(".tar.gz")))
memory.MemoryStore = Ours  # type: ignore[misc, assignment, unused-ignore]
for name, make in makers().items():
    Ours.make = staticmethod(make)
    counted = run(TESTS, lambda _: True, "-o", "asyncio_mode=auto")
    passed += counted.passed
    failures += [f"{name}: {one}" for one in counted.failures]
print(json.dumps({"passed": passed, "failed": len(failures), "failures": failures, "tests": TESTS}))
sys.exit(1 if failures else 0)
