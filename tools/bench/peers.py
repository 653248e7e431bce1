"""The stores of agent libraries, as their documentation uses them. Each is left out where it is not installed."""

import asyncio
import os
import sqlite3
from collections.abc import Callable, Coroutine
from functools import cache
from importlib import import_module
from pathlib import Path
from typing import Any

from bench.adapters import DISK, MEMORY, Maker, Store


class OnLoop(Store):
    """A store whose methods are coroutines; it runs them on a loop of its own."""

    def open(self, folder: Path, sessions: int) -> None:
        self._loop = asyncio.new_event_loop()
        self._run(self._open(folder, sessions))

    def _run(self, work: Coroutine[Any, Any, Any]) -> Any:
        return self._loop.run_until_complete(work)

    async def _open(self, folder: Path, sessions: int) -> None:
        raise NotImplementedError

    def append(self, session: int, text: str) -> None:
        self._run(self.append_async(session, text))

    def close(self) -> None:
        self._loop.close()


class OpenAiAgents(OnLoop):
    """`SQLiteSession` of openai-agents, on a file: one object a session, all on one database."""

    name, durability = "openai-agents SQLiteSession", DISK

    async def _open(self, folder: Path, sessions: int) -> None:
        kind = import_module("agents").SQLiteSession
        self._sessions = [kind(str(session), folder / "sessions.db") for session in range(sessions)]

    async def append_async(self, session: int, text: str) -> None:
        await self._sessions[session].add_items([{"role": "user", "content": text}])

    def read(self, session: int) -> int:
        return len(self._run(self._sessions[session].get_items()))

    def close(self) -> None:
        for session in self._sessions:
            session.close()
        super().close()


class GoogleAdk(OnLoop):
    """The session services of google-adk: one in memory, one on SQLite."""

    def __init__(self, *, stored: bool) -> None:
        self.name = f"google-adk {'Sqlite' if stored else 'InMemory'}SessionService"
        self.durability = DISK if stored else MEMORY
        self._stored = stored

    async def _open(self, folder: Path, sessions: int) -> None:
        events, self._types = import_module("google.adk.events"), import_module("google.genai.types")
        self._event = events.Event
        if self._stored:
            module = import_module("google.adk.sessions.sqlite_session_service")
            self._service = module.SqliteSessionService(str(folder / "sessions.db"))
        else:
            self._service = import_module("google.adk.sessions").InMemorySessionService()
        self._sessions = [
            await self._service.create_session(app_name="a", user_id="u", session_id=str(session))
            for session in range(sessions)
        ]

    async def append_async(self, session: int, text: str) -> None:
        content = self._types.Content(role="user", parts=[self._types.Part(text=text)])
        await self._service.append_event(self._sessions[session], self._event(author="user", content=content))

    def read(self, session: int) -> int:
        found = self._run(self._service.get_session(app_name="a", user_id="u", session_id=str(session)))
        return len(found.events)


class EventSourcing(Store):
    """`eventsourcing` with SQLite: a session is an aggregate, a message an event."""

    name, durability = "eventsourcing, SQLite", DISK

    def open(self, folder: Path, sessions: int) -> None:
        domain, application = import_module("eventsourcing.domain"), import_module("eventsourcing.application")
        chat = _chat(domain)
        environment = {"PERSISTENCE_MODULE": "eventsourcing.sqlite", "SQLITE_DBNAME": str(folder / "events.db")}
        self._application = application.Application(env={**os.environ, **environment})
        self._chats = [chat() for _ in range(sessions)]
        for one in self._chats:
            self._application.save(one)

    def append(self, session: int, text: str) -> None:
        chat = self._chats[session]
        chat.say("user", text)
        self._application.save(chat)

    def read(self, session: int) -> int:
        return sum(1 for _ in self._application.events.get(self._chats[session].id)) - 1

    def close(self) -> None:
        self._application.close()


@cache
def _chat(domain: Any) -> Any:
    """Make the aggregate class, once the library is there."""

    class Chat(domain.Aggregate):  # type: ignore[misc]
        def __init__(self) -> None:
            self.count = 0

        @domain.event("Said")  # type: ignore[untyped-decorator]
        def say(self, role: str, content: str) -> None:
            self.count += 1

    return Chat


class LangGraph(Store):
    """`SqliteSaver` of langgraph: a checkpoint with the conversation so far, after each message."""

    name, durability = "langgraph SqliteSaver", DISK

    def open(self, folder: Path, sessions: int) -> None:
        self._connection = sqlite3.connect(folder / "checkpoints.db", check_same_thread=False)
        self._saver = import_module("langgraph.checkpoint.sqlite").SqliteSaver(self._connection)
        self._saver.setup()
        self._empty = import_module("langgraph.checkpoint.base").empty_checkpoint
        self._messages: list[list[dict[str, str]]] = [[] for _ in range(sessions)]

    def append(self, session: int, text: str) -> None:
        messages = self._messages[session]
        messages.append({"role": "user", "content": text})
        checkpoint = self._empty()
        checkpoint["channel_values"] = {"messages": list(messages)}
        checkpoint["channel_versions"] = {"messages": len(messages)}
        config = {"configurable": {"thread_id": str(session), "checkpoint_ns": ""}}
        self._saver.put(config, checkpoint, {"step": len(messages)}, {"messages": len(messages)})

    def read(self, session: int) -> int:
        found = self._saver.get({"configurable": {"thread_id": str(session)}})
        return len(found["channel_values"]["messages"])

    def close(self) -> None:
        self._connection.close()


_PEERS: dict[str, tuple[Callable[[], Store], ...]] = {
    "agents": (OpenAiAgents,),
    "google.adk": (lambda: GoogleAdk(stored=True), lambda: GoogleAdk(stored=False)),
    "eventsourcing": (EventSourcing,),
    "langgraph.checkpoint.sqlite": (LangGraph,),
}


def installed() -> tuple[list[Maker], list[str]]:
    """Find the peers that are installed; return their makers, and the modules that are missing."""
    found: list[Maker] = []
    missing = []
    for module, makers in _PEERS.items():
        try:
            import_module(module)
        except ImportError:
            missing.append(module)
        else:
            found += makers
    return found, missing
