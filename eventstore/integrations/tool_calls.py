"""Tool calls of a server, recorded: which session a call belongs to, its begin and its end."""

import logging
import secrets
from collections.abc import Awaitable, Callable, Mapping, Sequence
from contextlib import suppress
from typing import Any

import anyio
import anyio.to_thread

from eventstore.errors import SessionExists, SessionNotFound
from eventstore.ids import session_id_for
from eventstore.integrations.plain import plain
from eventstore.integrations.sessions import manager_of
from eventstore.sessions.async_manager import AsyncSessionManager
from eventstore.sessions.call import Call
from eventstore.sessions.manager import SessionManager

ARGUMENT = "session_id"
"""The argument of a tool call that names the session."""
META = "eventstore/session_id"
"""The key of `_meta` that names the session, in calls and in their results."""
HEADER = "mcp-session-id"
"""The header in which clients of older versions of the protocol name their connection."""
ARGUMENT_SCHEMA = {
    "type": "string",
    "description": "Optional handle of the session that this call is recorded in, for example from an earlier result.",
}
"""What the tools of a server show of that argument."""
_MOST_HANDLE, _MOST_KNOWN = 512, 10_000
_logger = logging.getLogger(__name__)


class ToolFailed(Exception):
    """What is recorded as the error of a call whose result says that the tool failed."""


class ToolCalls:
    """Records the tool calls of a server with this name.

    `session_id` names the session of calls of one client that names none. If the store fails, the tool runs all the same and a
    warning is logged; with `required` the call fails instead.
    """

    def __init__(
        self, manager: SessionManager | AsyncSessionManager, name: str, *, session_id: str | None, required: bool
    ) -> None:
        self.name = name
        self._manager, self._required = manager_of(manager), required
        self._own = session_id
        self._known = set[str]()

    def handle(self, given: Sequence[Any], *, one_client: bool) -> str:
        """Return the name of the session that a call belongs to: the first text of those given, or made up."""
        for one in given:
            if isinstance(one, str) and 0 < len(one) <= _MOST_HANDLE:
                return one
        if one_client:  # as on stdio: its calls belong together
            self._own = self._own or _made_up()
        return self._own or _made_up()

    async def run(
        self,
        handle: str,
        tool: str,
        arguments: Any,
        work: Callable[[], Awaitable[Any]],
        shown: Callable[[Any], Any] = plain,
    ) -> Any:
        """Run a tool as a call in the session of a handle. `shown` makes JSON of its result."""
        call = await self._begin(handle, tool, arguments)
        if call is None:
            return await work()
        try:
            result = await work()
        except BaseException as error:
            await self._record_end(call, error)
            raise
        await self._end(call, result, shown)
        return result

    async def _begin(self, handle: str, tool: str, arguments: Any) -> Call | None:
        try:
            return await anyio.to_thread.run_sync(self._begin_now, handle, tool, plain(arguments))
        except Exception as error:  # whatever prevents the record, the tool runs all the same
            if self._required:
                raise
            _logger.warning("a call of tool %r is not recorded: %s", tool, error)
            return None

    def _begin_now(self, handle: str, tool: str, arguments: Any) -> Call:
        session_id = session_id_for(handle)
        if session_id not in self._known:
            self._create(session_id, handle)
        try:
            return self._manager.invocation(session_id, tool, arguments).__enter__()
        except SessionNotFound:  # it was deleted since
            self._create(session_id, handle)
            return self._manager.invocation(session_id, tool, arguments).__enter__()

    def _create(self, session_id: str, handle: str) -> None:
        external = None if handle == session_id else handle
        try:
            self._manager.head(session_id)
        except SessionNotFound:
            with suppress(SessionExists):  # another process was faster
                self._manager.create_session(session_id, f"MCP server {self.name}", tags=["mcp"], external_key=external)
        if len(self._known) >= _MOST_KNOWN:
            self._known.clear()
        self._known.add(session_id)

    async def _end(self, call: Call, result: Any, shown: Callable[[Any], Any]) -> None:
        failed: ToolFailed | None = None
        try:
            found = shown(result)
        except Exception as error:  # a result that cannot be shown is recorded as none
            _logger.warning("the result of a call of tool %r is not recorded: %s", call.tool_name, error)
            found = None
        if isinstance(found, dict):
            call.result = {name: value for name, value in found.items() if name not in ("_meta", "resultType")}
            if found.get("isError") or found.get("is_error"):
                failed = ToolFailed(_text_of(found.get("content")))
        else:
            call.result = found
        await self._record_end(call, failed)

    async def _record_end(self, call: Call, failed: BaseException | None) -> None:
        """Record the outcome. A tool that failed fails with its own error, whatever becomes of the record."""
        try:
            with anyio.CancelScope(shield=True):  # a cancelled call is recorded as failed
                await anyio.to_thread.run_sync(
                    call.__exit__, type(failed) if failed else None, failed, failed.__traceback__ if failed else None
                )
        except Exception as error:
            if self._required and (failed is None or isinstance(failed, ToolFailed)):
                raise
            _logger.warning("the result of a call of tool %r is not recorded: %s", call.tool_name, error)


def named_in(meta: Any) -> Any:
    """Return what the `_meta` of a call names as its session."""
    return meta.get(META) if isinstance(meta, Mapping) else None


def _made_up() -> str:
    return f"mcp_{secrets.token_hex(16)}"


def _text_of(content: Any) -> str:
    parts = [one.get("text", "") for one in content if isinstance(one, dict)] if isinstance(content, list) else []
    return "\n".join(part for part in parts if isinstance(part, str)) or "the tool reported an error"
