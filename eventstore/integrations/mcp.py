"""MCP servers: record every tool call of a server in a session.

server = MCPServer("tools")
record(server, manager)
"""

from collections.abc import Awaitable, Callable
from dataclasses import replace
from typing import Any

from eventstore.errors import ExtraMissing
from eventstore.integrations.tool_calls import ARGUMENT, ARGUMENT_SCHEMA, HEADER, META, ToolCalls, named_in
from eventstore.sessions.async_manager import AsyncSessionManager
from eventstore.sessions.manager import SessionManager

try:
    from mcp.server import Server
    from mcp.server.context import ServerRequestContext
    from mcp.server.mcpserver import MCPServer
except ImportError as missing:
    raise ExtraMissing("mcp", "recording an MCP server") from missing

Next = Callable[[ServerRequestContext[Any, Any]], Awaitable[Any]]


class Recorder:
    """Middleware that records the tool calls of an MCP server: see `record`."""

    def __init__(self, calls: ToolCalls, tools: Callable[[], Awaitable[list[Any]]] | None, *, offer: bool) -> None:
        self._calls, self._offer = calls, offer
        self._taking: dict[str, bool] = {}
        self._tools = tools

    async def __call__(self, ctx: ServerRequestContext[Any, Any], call_next: Next) -> Any:
        """Handle one message of a client."""
        if ctx.request_id is None:
            return await call_next(ctx)
        if ctx.method == "tools/list":
            return self._offering(await call_next(ctx))
        if ctx.method != "tools/call":
            return await call_next(ctx)
        params = dict(ctx.params or {})
        arguments = dict(params.get("arguments") or {})
        headers = getattr(ctx.request, "headers", None)
        given = (
            arguments.get(ARGUMENT),
            named_in(params.get("_meta")),
            headers.get(HEADER) if headers is not None else None,
        )
        handle = self._calls.handle(given, one_client=ctx.request is None)
        if not await self._takes_argument(str(params.get("name"))):
            arguments.pop(ARGUMENT, None)  # it is ours: the tool does not know it
            if params.get("arguments") is not None:
                params["arguments"] = arguments
        tool = str(params.get("name"))
        result = await self._calls.run(handle, tool, arguments, lambda: call_next(replace(ctx, params=params)))
        return _with_handle(result, handle)

    async def _takes_argument(self, tool: str) -> bool:
        """Return whether a tool has an argument of its own with the name of ours."""
        if tool not in self._taking and self._tools is not None:
            for one in await self._tools():
                self._taking[one.name] = ARGUMENT in one.input_schema.get("properties", {})
        return self._taking.get(tool, False)

    def _offering(self, result: Any) -> Any:
        """Add our argument to the tools of a list, and note which of them have one of that name."""
        tools = result.get("tools") if isinstance(result, dict) else None
        if not isinstance(tools, list):
            return result
        shown = []
        for tool in tools:
            schema = tool.get("inputSchema") if isinstance(tool, dict) else None
            properties = schema.get("properties", {}) if isinstance(schema, dict) else None
            if not isinstance(properties, dict) or schema is None:
                shown.append(tool)
                continue
            self._taking[str(tool.get("name"))] = takes = ARGUMENT in properties
            if self._offer and not takes:
                tool = {**tool, "inputSchema": {**schema, "properties": {**properties, ARGUMENT: ARGUMENT_SCHEMA}}}
            shown.append(tool)
        return {**result, "tools": shown}


def record(
    server: "MCPServer[Any] | Server[Any]",
    manager: SessionManager | AsyncSessionManager,
    *,
    session_id: str | None = None,
    offer: bool = True,
    required: bool = False,
) -> None:
    """Record each tool call of a server: input, result, error and duration, in the chain of a session.

    The session is named by the client, in this order: the argument `session_id` (the tool does not see it, unless it has one of
    that name), the key `eventstore/session_id` of `_meta`, the header `Mcp-Session-Id`. Any text is a name; the session is
    created when it is first used. Without a name, the calls of a client on stdio share one session (`session_id`, or a new one),
    and over HTTP each call has its own. The name is in `_meta` of every result, so that a client can continue it.

    A result with `isError` is recorded as a failure. With `offer` the tools of the server show the argument. If the store fails,
    the tool runs all the same and a warning is logged; with `required` the call fails instead.
    """
    tools = server.list_tools if isinstance(server, MCPServer) else None
    calls = ToolCalls(manager, server.name, session_id=session_id, required=required)
    server.middleware.append(Recorder(calls, tools, offer=offer))


def _with_handle(result: Any, handle: str) -> Any:
    if not isinstance(result, dict):
        return result
    meta = result.get("_meta")
    return {**result, "_meta": {**(meta if isinstance(meta, dict) else {}), META: handle}}
