"""The OpenAI Agents SDK: the items of its sessions, kept in the store.

`EventStoreSession(session_id, manager)` is a `Session` of `agents`. Each item is a record in the stream `items`; what it means
(a message, a tool call, its result) is appended in the same batch. The SDK need not be installed: its `Session` is a protocol.
"""

import asyncio
import sys
from collections.abc import Sequence
from typing import Any

from eventstore import events as e
from eventstore.errors import SessionNotFound
from eventstore.ids import session_id_for
from eventstore.integrations.meaning import call_began, call_ended, meant, text_of_parts
from eventstore.integrations.plain import packed, plain, unpacked
from eventstore.integrations.sessions import Stored, append_decided, finish, key_of, manager_of, stored
from eventstore.sessions.async_manager import AsyncSessionManager
from eventstore.sessions.manager import SessionManager
from eventstore.sessions.records import Item

_TAG = "openai-agents"
_ITEMS = "items"
_ROLES: dict[str, e.Role] = {"user": "user", "assistant": "assistant", "system": "system", "developer": "system"}


class EventStoreSession:
    """A `Session` of the OpenAI Agents SDK on any backend. Safe for threads, tasks and processes.

    Any text is a valid `session_id`. Popped or cleared items are removed for the SDK; the log keeps them, and `manager`
    can still read the past. `session_settings.limit` is the number of items that `get_items` returns without a limit.
    """

    def __init__(
        self, session_id: str, manager: SessionManager | AsyncSessionManager, session_settings: Any = None
    ) -> None:
        if isinstance(session_settings, dict):
            from agents.memory.session_settings import coerce_session_settings  # who has a dictionary has the SDK

            session_settings = coerce_session_settings(session_settings)
        self.session_id, self.session_settings = session_id, session_settings
        self._manager = manager_of(manager)
        self._external = key_of(_TAG, session_id)
        self._id = session_id_for(self._external)

    @property
    def stored_id(self) -> str:
        """The id of the session in the store."""
        return self._id

    async def get_items(self, limit: int | None = None) -> list[Any]:
        """Return the items in order, the latest `limit` of them."""
        if limit is None and self.session_settings is not None:
            limit = self.session_settings.limit
        return await asyncio.to_thread(self._get, limit)

    async def add_items(self, items: Sequence[Any]) -> None:
        """Append items, all or none."""
        if items:
            await finish(self._add, [packed(one, plain) for one in items])

    async def pop_item(self) -> Any:
        """Remove the last item and return it; None if there is none. No two callers get the same item."""
        return await finish(self._pop)

    async def clear_session(self) -> None:
        """Remove all items."""
        await finish(self._clear)

    def _get(self, limit: int | None) -> list[Any]:
        if limit is not None and limit <= 0:
            return []
        limit = None if limit is None else min(limit, sys.maxsize)
        try:
            return [unpacked(one) for one in stored(self._manager, self._id).values(_ITEMS, limit)]
        except SessionNotFound:
            return []

    def _add(self, items: Sequence[Any]) -> None:
        events: list[e.Event] = []
        for one in items:
            events += [e.RecordPut(stream=_ITEMS, value=one), *meant(_meaning, unpacked(one))]
        self._manager.append(self._id, events, create=e.SessionCreated(external_key=self._external, tags=(_TAG,)))

    def _pop(self) -> Any:
        popped: list[Item] = []

        def decide(now: Stored) -> list[e.Event]:
            last = now.last(_ITEMS)
            popped[:] = [] if last is None else [last]
            if last is None:
                return []
            events: list[e.Event] = [e.RecordRemoved(stream=_ITEMS, item=last.first)]
            said = [one for one in meant(_meaning, unpacked(last.value)) if isinstance(one, e.MessageAdded)]
            if said:
                events.append(e.ConversationRewound(to=self._end_without(last, said[-1])))
            return events

        append_decided(self._manager, self._id, decide)
        return unpacked(popped[0].value) if popped else None

    def _end_without(self, last: Item, said: e.MessageAdded) -> int:
        """Return the last event of the conversation without the last item, whose message a redaction may have moved."""
        try:
            messages = self._manager.storage.fold(self._id).conversation.messages
        except SessionNotFound:  # deleted since it was read
            return last.first
        if messages and (messages[-1].role, messages[-1].content) == (said.role, said.content):
            return messages[-1].seq - 1
        return last.first

    def _clear(self) -> None:
        def decide(now: Stored) -> list[e.Event]:
            if not now.has(_ITEMS):
                return []
            return [e.RecordRemoved(stream=_ITEMS), e.ConversationCleared()]

        append_decided(self._manager, self._id, decide)


def _meaning(item: Any) -> list[e.Event]:
    """Return the events of an item; none if its meaning is not certain."""
    if not isinstance(item, dict):
        return []
    kind, call_id = item.get("type", "message"), item.get("call_id")
    if kind == "message" and item.get("role") in _ROLES:
        text = text_of_parts(item.get("content"))
        return [e.MessageAdded(role=_ROLES[item["role"]], content=text)] if text else []
    if not isinstance(call_id, str) or not call_id:
        return []
    if kind == "function_call" and isinstance(item.get("name"), str):
        return list(call_began(call_id, item["name"], item.get("arguments")))
    if kind == "function_call_output":
        return list(call_ended(call_id, None, item.get("output")))
    return []
