"""Strands Agents: sessions, agents and messages, and files of snapshots, kept in the store.

`EventStoreRepository(manager)` is a session repository: a session with the streams `session`, `agents`, `multi_agents` and
`messages/AGENT`. What a message means (text, tool uses and their results) is appended in the same batch.
`EventStoreStorage(manager)` is a storage of bytes by name.
"""

import builtins
from collections.abc import Iterator
from typing import Any

from eventstore import events as e
from eventstore.errors import EventStoreError, ExtraMissing, SessionNotFound
from eventstore.ids import session_id_for
from eventstore.integrations.meaning import call_began, call_ended, meant, text_of_parts
from eventstore.integrations.plain import packed, plain, unpacked
from eventstore.integrations.sessions import (
    Stored,
    append_decided,
    finish,
    key_of,
    manager_of,
    stored,
)
from eventstore.sessions.async_manager import AsyncSessionManager
from eventstore.sessions.manager import SessionManager

try:
    from strands.session.session_repository import SessionRepository
    from strands.storage.storage import Storage, _normalize_key, _normalize_prefix
    from strands.types.exceptions import SessionException, StorageError
    from strands.types.session import (
        Session,
        SessionAgent,
        SessionMessage,
        decode_bytes_values,
        encode_bytes_values,
    )
except ImportError:
    raise ExtraMissing("strands", "eventstore.integrations.strands") from None

_TAG, _STORAGE_TAG = "strands", "strands-storage"
_SESSION, _AGENTS, _TEAMS, _MESSAGES = "session", "agents", "multi_agents", "messages"
_FILES = "files"


class EventStoreRepository(SessionRepository):
    """A session repository on any backend. Safe for threads and processes.

    Several processes may write to one session; of two that create the same agent or message the first wins.
    """

    def __init__(self, manager: SessionManager | AsyncSessionManager) -> None:
        self._manager = manager_of(manager)

    def session_id_of(self, session_id: str) -> str:
        """Return the id in the store of a session of Strands."""
        return session_id_for(key_of(_TAG, session_id))

    # --- sessions

    def create_session(self, session: Any, **kwargs: Any) -> Any:
        """Create a session. Raises SessionException if it is there already.

        One whose record was redacted is created again, and has its agents and messages.
        """
        external = key_of(_TAG, session.session_id)
        put = e.RecordPut(stream=_SESSION, key=_SESSION, value=packed(session.to_dict(), plain))

        def decide(now: Stored) -> list[e.Event]:
            if now.has(_SESSION):
                raise SessionException(f"session {session.session_id} already exists; nothing was written")
            return [put]

        append_decided(
            self._manager,
            session_id_for(external),
            decide,
            e.SessionCreated(external_key=external, tags=(_TAG,)),
        )
        return session

    def read_session(self, session_id: str, **kwargs: Any) -> Any:
        """Return a session; None if there is none."""
        value = self._get(session_id, _SESSION, _SESSION)
        return None if value is None else Session.from_dict(value)

    def delete_session(self, session_id: str, **kwargs: Any) -> None:
        """Delete a session with all that is in it. Raises SessionException if there is none."""
        if not self._manager.delete_session(self.session_id_of(session_id)):
            raise SessionException(f"session {session_id} does not exist; nothing was deleted")

    # --- agents

    def create_agent(self, session_id: str, session_agent: Any, **kwargs: Any) -> None:
        """Add an agent to a session."""
        self._put(session_id, _AGENTS, session_agent.agent_id, session_agent.to_dict())

    def read_agent(self, session_id: str, agent_id: str, **kwargs: Any) -> Any:
        """Return an agent; None if there is none."""
        value = self._get(session_id, _AGENTS, agent_id)
        return None if value is None else SessionAgent.from_dict(value)

    def update_agent(self, session_id: str, session_agent: Any, **kwargs: Any) -> None:
        """Replace an agent. Nothing is written where only its time of update differs. Raises SessionException without it."""
        before = self._need(session_id, _AGENTS, session_agent.agent_id, f"agent {session_agent.agent_id}")
        session_agent.created_at = before["created_at"]
        after = unpacked(packed(session_agent.to_dict(), plain))
        if {**after, "updated_at": ""} != {**before, "updated_at": ""}:
            self._put(session_id, _AGENTS, session_agent.agent_id, after)

    # --- messages

    def create_message(self, session_id: str, agent_id: str, session_message: Any, **kwargs: Any) -> None:
        """Add a message of an agent."""
        value, said = session_message.to_dict(), meant(_meaning, session_message.message)
        self._put(session_id, key_of(_MESSAGES, agent_id), str(session_message.message_id), value, *said)

    def read_message(self, session_id: str, agent_id: str, message_id: int, **kwargs: Any) -> Any:
        """Return a message; None if there is none."""
        if not isinstance(message_id, int):
            raise ValueError(f"message_id=<{message_id}> | message id must be an integer")
        value = self._get(session_id, key_of(_MESSAGES, agent_id), str(message_id))
        return None if value is None else SessionMessage.from_dict(value)

    def update_message(self, session_id: str, agent_id: str, session_message: Any, **kwargs: Any) -> None:
        """Replace a message. The old one stays in the log: redact its event to remove it. Raises SessionException without it."""
        stream, key = key_of(_MESSAGES, agent_id), str(session_message.message_id)
        before = self._need(session_id, stream, key, f"message {key}")
        session_message.created_at = before["created_at"]
        self._put(session_id, stream, key, session_message.to_dict())

    def list_messages(
        self, session_id: str, agent_id: str, limit: int | None = None, offset: int = 0, **kwargs: Any
    ) -> list[Any]:
        """Return messages of an agent by number, at most `limit` after `offset`. Raises SessionException without the agent."""
        self._need(session_id, _AGENTS, agent_id, f"agent {agent_id}")
        values = stored(self._manager, self.session_id_of(session_id)).values(key_of(_MESSAGES, agent_id))
        found = sorted(map(unpacked, values), key=lambda one: int(one["message_id"]))
        wanted = found[offset:] if limit is None else found[offset : offset + limit]
        return [SessionMessage.from_dict(one) for one in wanted]

    # --- several agents

    def create_multi_agent(self, session_id: str, multi_agent: Any, **kwargs: Any) -> None:
        """Store the state of several agents."""
        self._put(session_id, _TEAMS, multi_agent.id, encode_bytes_values(multi_agent.serialize_state()))

    def read_multi_agent(self, session_id: str, multi_agent_id: str, **kwargs: Any) -> dict[str, Any] | None:
        """Return the state of several agents; None if there is none."""
        value = self._get(session_id, _TEAMS, multi_agent_id)
        return None if value is None else dict(decode_bytes_values(value))

    def update_multi_agent(self, session_id: str, multi_agent: Any, **kwargs: Any) -> None:
        """Replace the state of several agents. Raises SessionException if there is none."""
        self._need(session_id, _TEAMS, multi_agent.id, f"multi-agent state {multi_agent.id}")
        self.create_multi_agent(session_id, multi_agent)

    # --- records

    def _get(self, session_id: str, stream: str, key: str) -> Any:
        try:
            item = self._manager.records.get(self.session_id_of(session_id), stream, key)
        except SessionNotFound:
            return None
        return None if item is None else unpacked(item.value)

    def _need(self, session_id: str, stream: str, key: str, what: str) -> Any:
        found = self._get(session_id, stream, key)
        if found is None:
            raise SessionException(f"{what} in session {session_id} does not exist; nothing was written")
        return found

    def _put(self, session_id: str, stream: str, key: str, value: Any, *said: e.Event) -> None:
        events = [e.RecordPut(stream=stream, key=key, value=packed(value, plain)), *said]
        try:
            self._manager.append(self.session_id_of(session_id), events)
        except SessionNotFound:
            raise SessionException(f"session {session_id} does not exist; nothing was written") from None


class EventStoreStorage(Storage[str, str]):
    """A storage of bytes on any backend: one session, with a record for each key. Older bytes of a key stay in its log.

    `name` parts several storages in one store.
    """

    def __init__(self, manager: SessionManager | AsyncSessionManager, name: str = "default") -> None:
        self._manager, self._external = manager_of(manager), key_of(_STORAGE_TAG, name)
        self._id = session_id_for(self._external)

    async def write(self, key: str, data: bytes) -> None:
        """Store the bytes of a key. Raises StorageError for a key that is no name."""
        put = e.RecordPut(stream=_FILES, key=_normalize_key(key), value=bytes(data))
        created = e.SessionCreated(external_key=self._external, tags=(_STORAGE_TAG,))
        await self._do(lambda: self._manager.append(self._id, [put], create=created))

    async def read(self, key: str) -> bytes | None:
        """Return the bytes of a key; None if there are none."""
        name = _normalize_key(key)
        item = await self._do(lambda: self._manager.records.get(self._id, _FILES, name))
        return None if item is None else bytes(item.value)

    async def delete(self, key: str) -> None:
        """Remove a key. Nothing happens where it is not there."""
        removed = e.RecordRemoved(stream=_FILES, key=_normalize_key(key))
        await self._do(lambda: self._manager.append(self._id, [removed]))

    async def list(self, query: str = "") -> builtins.list[str]:
        """List the keys that begin with a text, sorted."""
        prefix = _normalize_prefix(query)
        found = await self._do(lambda: stored(self._manager, self._id).keys(_FILES))
        return sorted(one for one in found or () if one.startswith(prefix))

    async def _do(self, work: Any) -> Any:
        """Do it in a thread; None if nothing was stored yet."""
        try:
            return await finish(work)
        except SessionNotFound:
            return None
        except EventStoreError as error:
            raise StorageError(str(error)) from error


def _meaning(message: Any) -> Iterator[e.Event]:
    """Stream the events of a message."""
    role, content = message.get("role"), message.get("content") or []
    if role not in ("user", "assistant"):
        return
    text = text_of_parts(content)
    if text:
        yield e.MessageAdded(role=role, content=text)
    for block in content:
        use, result = block.get("toolUse"), block.get("toolResult")
        if use:
            yield from call_began(str(use.get("toolUseId")), use.get("name"), use.get("input"))
        if result:
            is_good = result.get("status") != "error"
            yield from call_ended(str(result.get("toolUseId")), None, result.get("content"), success=is_good)
