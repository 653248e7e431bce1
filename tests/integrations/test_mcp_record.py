"""An MCP server whose tool calls are recorded, driven by the official client."""

import sys
from pathlib import Path
from typing import Any

import anyio
import pytest
from integrations.calls import calls_of
from mcp import Client, MCPError, StdioServerParameters
from mcp.server.mcpserver import MCPServer
from mcp.server.mcpserver.exceptions import ToolError

from eventstore import AsyncSessionManager, FileSystemSessionStorage, MemorySessionStorage, SessionManager
from eventstore.ids import session_id_for
from eventstore.integrations.mcp import record
from eventstore.integrations.tool_calls import META
from eventstore.sessions.call import Call


def served(manager: SessionManager | AsyncSessionManager, **options: Any) -> MCPServer[Any]:
    server: MCPServer[Any] = MCPServer("tools")

    @server.tool()
    def add(a: int, b: int) -> int:
        """Add."""
        if a == 9:
            raise ToolError("nine is too much")
        return a + b

    @server.tool()
    def whose(session_id: str) -> str:
        """Return an argument that has the name of ours."""
        return session_id

    @server.tool()
    async def wait() -> str:
        """Never end."""
        await anyio.sleep_forever()
        return ""

    record(server, manager, **options)
    return server


def run(work: Any) -> None:
    async def limited() -> None:
        with anyio.fail_after(60):
            await work()

    anyio.run(limited)


def only(manager: SessionManager) -> str:
    (session,) = manager.page_sessions().sessions
    return session.session_id


def test_a_call_is_recorded_with_its_input_and_result(manager: SessionManager) -> None:
    async def work() -> None:
        async with Client(served(manager)) as client:
            result = await client.call_tool("add", {"a": 1, "b": 2, "session_id": "s"})
            assert result.structured_content == {"result": 3}
            assert result.meta is not None
            assert result.meta[META] == "s"

    run(work)
    (call,) = calls_of(manager, "s")
    assert (call.known.tool_name, call.known.success) == ("add", True)
    assert call.input.value == {"a": 1, "b": 2}
    assert call.result.value["structuredContent"] == {"result": 3}
    metadata = manager.page_sessions(tags=["mcp"]).sessions[0]
    assert metadata.purpose == "MCP server tools"


def test_a_tool_that_fails_is_recorded_as_failed(manager: SessionManager) -> None:
    async def work() -> None:
        async with Client(served(AsyncSessionManager(manager))) as client:
            result = await client.call_tool("add", {"a": 9, "b": 2})
            assert result.is_error
            assert (await client.call_tool("nothing", {})).is_error

    run(work)
    first, second = calls_of(manager, only(manager))
    assert first.known.success is False
    assert "nine is too much" in (first.known.error or "")
    assert second.known.success is False


def test_the_session_is_named_by_argument_meta_or_made_up(manager: SessionManager) -> None:
    async def work() -> None:
        async with Client(served(manager)) as client:
            named: Any = {META: "user/1"}
            await client.call_tool("add", {"a": 1, "b": 1}, meta=named)
            made = [(await client.call_tool("add", {"a": 1, "b": 1})).meta or {} for _ in range(2)]
            assert made[0][META] == made[1][META]
            assert made[0][META].startswith("mcp_")
            assert manager.get_session(made[0][META]) is not None

    run(work)
    assert len(calls_of(manager, session_id_for("user/1"))) == 1
    assert manager.page_sessions(external_key="user/1").sessions[0].tags == ["mcp"]


def test_a_tool_that_has_an_argument_of_our_name_keeps_it(manager: SessionManager) -> None:
    async def work() -> None:
        async with Client(served(manager)) as client:
            result = await client.call_tool("whose", {"session_id": "mine"})
            assert result.structured_content == {"result": "mine"}
            tools = {tool.name: tool.input_schema for tool in (await client.list_tools()).tools}
            assert tools["add"]["properties"]["session_id"]["type"] == "string"
            assert "session_id" not in tools["add"]["required"]
            assert tools["whose"]["required"] == ["session_id"]

    run(work)
    assert calls_of(manager, "mine")[0].input.value == {"session_id": "mine"}


def test_a_call_that_is_cancelled_is_recorded_as_failed(manager: SessionManager) -> None:
    async def work() -> None:
        async with Client(served(manager)) as client:
            with anyio.move_on_after(0.5):
                await client.call_tool("wait", {"session_id": "s"})
            with anyio.fail_after(30):
                while not [one for one in calls_of(manager, "s") if one.known.success is False]:
                    await anyio.sleep(0.01)

    run(work)


def test_a_store_that_fails_stops_a_call_only_on_request(tmp_path: Path) -> None:
    class Broken(MemorySessionStorage):
        def append(self, *args: Any, **named: Any) -> Any:
            from eventstore.errors import AppendRefused

            raise AppendRefused("s", "disk", 28)

    async def work() -> None:
        async with Client(served(SessionManager(Broken()))) as client:
            result = await client.call_tool("add", {"a": 1, "b": 2, "session_id": "s"})
            assert result.structured_content == {"result": 3}
        async with Client(served(SessionManager(Broken()), required=True)) as client:
            with pytest.raises(MCPError):
                await client.call_tool("add", {"a": 1, "b": 2, "session_id": "s"})

    run(work)


@pytest.mark.parametrize("error", [ValueError("not for this store"), OSError("the history folder is full")])
@pytest.mark.parametrize("step", ["__enter__", "__exit__"])
def test_no_failure_of_the_record_reaches_a_client(
    manager: SessionManager, monkeypatch: pytest.MonkeyPatch, error: Exception, step: str
) -> None:
    def fail(*given: Any) -> Any:
        raise error

    monkeypatch.setattr(Call, step, fail)

    async def work() -> None:
        async with Client(served(manager)) as client:
            result = await client.call_tool("add", {"a": 1, "b": 2, "session_id": "s"})
            assert result.structured_content == {"result": 3}
            failed = await client.call_tool("add", {"a": 9, "b": 2, "session_id": "s"})
            assert failed.is_error
            assert "nine is too much" in str(failed.content)

    run(work)


def test_a_session_may_be_deleted_while_a_tool_runs(manager: SessionManager) -> None:
    server: MCPServer[Any] = MCPServer("tools")

    @server.tool()
    def forget(name: str) -> bool:
        """Delete a session."""
        return manager.delete_session(name)

    record(server, manager)

    async def work() -> None:
        async with Client(server) as client:
            for _ in range(2):
                result = await client.call_tool("forget", {"name": "s", "session_id": "s"})
                assert result.structured_content == {"result": True}

    run(work)


def test_what_is_no_manager_is_refused() -> None:
    with pytest.raises(TypeError, match="manager"):
        record(MCPServer("x"), "manager")  # type: ignore[arg-type]


SERVER = """
import sys
from mcp.server.mcpserver import MCPServer
from eventstore import FileSystemSessionStorage, SessionManager
from eventstore.integrations.mcp import record

server = MCPServer("tools")

@server.tool()
def add(a: int, b: int) -> int:
    return a + b

with SessionManager(FileSystemSessionStorage(sys.argv[1] + "/s", sys.argv[1] + "/h")) as manager:
    record(server, manager)
    server.run("stdio")
"""


def test_two_servers_on_stdio_share_a_session(tmp_path: Path) -> None:
    parameters = StdioServerParameters(command=sys.executable, args=["-c", SERVER, str(tmp_path)])

    async def work() -> None:
        async with Client(parameters) as one, Client(parameters) as other:
            for number in range(3):
                await one.call_tool("add", {"a": number, "b": 0, "session_id": "shared"})
                await other.call_tool("add", {"a": number, "b": 1, "session_id": "shared"})

    run(work)
    with SessionManager(FileSystemSessionStorage(tmp_path / "s", tmp_path / "h")) as manager:
        assert [one.input.value["a"] for one in calls_of(manager, "shared")] == [0, 0, 1, 1, 2, 2]
