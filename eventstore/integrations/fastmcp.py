"""FastMCP: middleware that records every tool call of a server in a session.

server = FastMCP("tools", middleware=[RecordingMiddleware(manager)], session_state_store=EventStoreKeyValue(manager))

The state of FastMCP's sessions is kept by `EventStoreKeyValue` of `keyvalue.py`.
"""

from collections.abc import Sequence
from typing import Any

from eventstore.errors import ExtraMissing
from eventstore.integrations.plain import plain
from eventstore.integrations.tool_calls import ARGUMENT, ARGUMENT_SCHEMA, HEADER, META, ToolCalls, named_in
from eventstore.sessions.async_manager import AsyncSessionManager
from eventstore.sessions.manager import SessionManager

try:
    from fastmcp.server.middleware import Middleware
except ImportError:
    raise ExtraMissing("fastmcp", "eventstore.integrations.fastmcp") from None


class RecordingMiddleware(Middleware):
    """Records each tool call of a FastMCP server: input, result, error and duration, in the chain of a session.

    The session is named by the client, in this order: the argument `session_id` (the tool does not see it, unless it has one of
    that name), the key `eventstore/session_id` of `_meta`, the header `Mcp-Session-Id`. Any text is a name; the session is
    created when it is first used. Without a name, the calls of a client on stdio share one session, and over HTTP each
    has its own. The name is in `_meta` of every result. With `offer` the tools show the argument.

    `name` is that of the server in the purpose of a session that is created; without it, the server's own.

    A result with `is_error` is recorded as a failure. If the store fails, the tool runs all the same and a warning is
    logged; with `required` the call fails instead.
    """

    def __init__(
        self,
        manager: SessionManager | AsyncSessionManager,
        name: str | None = None,
        *,
        offer: bool = True,
        required: bool = False,
    ) -> None:
        self._calls = ToolCalls(manager, name or "", session_id=None, required=required)
        self._offer = offer

    async def on_call_tool(self, context: Any, call_next: Any) -> Any:
        """Record one call."""
        message, ctx = context.message, context.fastmcp_context
        arguments = dict(message.arguments or {})
        if not self._calls.name and ctx is not None:
            self._calls.name = ctx.fastmcp.name
        request = ctx.request_context if ctx is not None else None
        headers = getattr(getattr(request, "request", None), "headers", {})
        meta = getattr(request, "meta", None) or plain(message.meta)
        given = (arguments.get(ARGUMENT), named_in(meta), headers.get(HEADER))
        handle = self._calls.handle(given, one_client=getattr(request, "request", None) is None)
        if ARGUMENT in arguments and not await _takes_argument(ctx, message.name):
            del arguments[ARGUMENT]  # it is ours: the tool does not know it
            context = context.copy(message=message.model_copy(update={"arguments": arguments}))
        result = await self._calls.run(handle, message.name, arguments, lambda: call_next(context), _shown)
        return result.model_copy(update={"meta": {**(result.meta or {}), META: handle}})

    async def on_list_tools(self, context: Any, call_next: Any) -> Sequence[Any]:
        """Add our argument to the tools of a list."""
        tools = await call_next(context)
        return [_offering(one) for one in tools] if self._offer else list(tools)


def _offering(tool: Any) -> Any:
    properties = tool.parameters.get("properties", {})
    if ARGUMENT in properties:
        return tool
    return tool.model_copy(
        update={"parameters": {**tool.parameters, "properties": {**properties, ARGUMENT: ARGUMENT_SCHEMA}}}
    )


async def _takes_argument(ctx: Any, name: str) -> bool:
    """Return whether a tool has an argument of its own with the name of ours."""
    tool = await ctx.fastmcp.get_tool(name) if ctx is not None else None
    return tool is not None and ARGUMENT in tool.parameters.get("properties", {})


def _shown(result: Any) -> Any:
    """Return a result in the form that the protocol gives it."""
    content = [one.model_dump(mode="json", by_alias=True, exclude_none=True) for one in result.content]
    structured = plain(result.structured_content)
    return {
        "content": plain(content),
        **({} if structured is None else {"structuredContent": structured}),
        "isError": result.is_error,
    }
