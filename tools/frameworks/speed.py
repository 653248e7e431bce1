"""Our stores beside each framework's own, in one run: `python speed.py FOLDER [NAME...] [SIZE...]`, in an environment with all.

For each framework and size: milliseconds for one more message, for loading all of them, and for listing so many sessions of one
message; and how many bytes a message takes on disk. Ours wait for the disk, as they do by default. Where theirs do not, or are in
memory, ours are measured that way as well. One line of JSON for each.
"""

import asyncio
import json
import sys
import time
from collections.abc import Awaitable, Callable
from pathlib import Path
from tempfile import mkdtemp
from typing import Any, NamedTuple

from eventstore import FileSystemSessionStorage, MemorySessionStorage, SessionManager

TIMES = 20
DISK, FILES, MEMORY = "disk", "files", "memory"
"""What an append waits for: the disk, the files of the operating system, or nothing that outlives the process."""


class Store(NamedTuple):
    """How to add the message of a number to a session, load a session, and list all.

    `at_once` is how many messages are added together where a session is only filled.
    """

    add: Callable[[str, int], Awaitable[Any]]
    load: Callable[[str], Awaitable[Any]]
    list: Callable[[], Awaitable[Any]] | None
    at_once: int = 1


_managers: list[SessionManager] = []


def ours_on(folder: Path, durability: str) -> SessionManager:
    """Open a store that waits for so much."""
    fsync: Any = "always" if durability == DISK else "no"
    storage = (
        MemorySessionStorage()
        if durability == MEMORY
        else FileSystemSessionStorage(folder / "s", folder / "h", fsync=fsync)
    )
    _managers.append(SessionManager(storage))
    return _managers[-1]


def settle() -> None:
    """Wait for the view files of what was filled in without a pause."""
    for manager in _managers:
        manager.flush()


def openai_agents(folder: Path, ours: str | None) -> Store:
    """Sessions of the OpenAI Agents SDK, beside SQLiteSession, which lists none."""
    from agents import SQLiteSession

    from eventstore.integrations.openai_agents import EventStoreSession

    manager, known = ours and ours_on(folder, ours), dict[str, Any]()

    def session(name: str) -> Any:
        if name not in known:
            known[name] = EventStoreSession(name, manager) if manager else SQLiteSession(name, folder / "sessions.db")
        return known[name]

    async def add(name: str, number: int) -> None:
        await session(name).add_items([{"role": "user", "content": f"message {number} " + "x" * 200}])

    async def load(name: str) -> Any:
        return await session(name).get_items()

    return Store(add, load, None)


def adk(folder: Path, ours: str | None) -> Store:
    """Sessions of ADK, beside SqliteSessionService."""
    from google.adk.events import Event
    from google.adk.sessions.sqlite_session_service import SqliteSessionService
    from google.genai import types

    from eventstore.integrations.adk import EventStoreSessionService

    service: Any = (
        EventStoreSessionService(ours_on(folder, ours)) if ours else SqliteSessionService(str(folder / "sessions.db"))
    )
    known = dict[str, Any]()
    who = {"app_name": "app", "user_id": "ana"}

    async def add(name: str, number: int) -> None:
        if name not in known:
            known[name] = await service.create_session(**who, session_id=name)
        part = types.Part(text=f"message {number} " + "x" * 200)
        event = Event(author="user", invocation_id="i", content=types.Content(role="user", parts=[part]))
        await service.append_event(known[name], event)

    async def load(name: str) -> Any:
        return (await service.get_session(**who, session_id=name)).events

    async def listed() -> Any:
        return (await service.list_sessions(**who)).sessions

    return Store(add, load, listed)


def langgraph(folder: Path, ours: str | None) -> Store:
    """Checkpoints of LangGraph, beside SqliteSaver, with a channel of all messages that grows by one. It lists checkpoints."""
    import sqlite3

    from langchain_core.messages import HumanMessage
    from langgraph.checkpoint.base import empty_checkpoint
    from langgraph.checkpoint.sqlite import SqliteSaver

    from eventstore.integrations.langgraph import EventStoreSaver

    connection = sqlite3.connect(folder / "checkpoints.db", check_same_thread=False)
    saver: Any = EventStoreSaver(ours_on(folder, ours)) if ours else SqliteSaver(connection)
    messages, configs = dict[str, list[Any]](), dict[str, Any]()

    async def add(name: str, number: int) -> None:
        kept = messages.setdefault(name, [])
        for one in range(len(kept), number + 1):
            kept.append(HumanMessage(content=f"message {one} " + "x" * 200, id=f"{name}-{one}"))
        version = f"{len(kept):032}.0"
        checkpoint = {
            **empty_checkpoint(),
            "channel_values": {"messages": kept},
            "channel_versions": {"messages": version},
        }
        config = configs.get(name) or {"configurable": {"thread_id": name, "checkpoint_ns": ""}}
        configs[name] = saver.put(config, checkpoint, {"source": "loop", "step": number}, {"messages": version})

    async def load(name: str) -> Any:
        found = saver.get_tuple({"configurable": {"thread_id": name, "checkpoint_ns": ""}})
        return found.checkpoint["channel_values"]["messages"]

    async def listed() -> Any:
        return list(saver.list(None))

    return Store(add, load, listed, 500)


def strands(folder: Path, ours: str | None) -> Store:
    """Sessions of Strands, beside FileSessionManager; its interface lists none."""
    from strands.session.file_session_manager import FileSessionManager
    from strands.types.session import Session, SessionAgent, SessionMessage, SessionType

    from eventstore.integrations.strands import EventStoreRepository

    theirs: Any = None if ours else FileSessionManager("first", storage_dir=str(folder))
    repository: Any = EventStoreRepository(ours_on(folder, ours)) if ours else theirs
    known = set[str]()

    async def add(name: str, number: int) -> None:
        if name not in known:
            known.add(name)
            repository.create_session(Session(session_id=name, session_type=SessionType.AGENT))
            repository.create_agent(name, SessionAgent(agent_id="a", state={}, conversation_manager_state={}))
        content: Any = [{"text": f"message {number} " + "x" * 200}]
        repository.create_message(name, "a", SessionMessage({"role": "user", "content": content}, number))

    async def load(name: str) -> Any:
        return repository.list_messages(name, "a")

    return Store(add, load, None)


def claude_agent(folder: Path, ours: str | None) -> Store:
    """Transcripts of the Claude Agent SDK, beside InMemorySessionStore."""
    from claude_agent_sdk import InMemorySessionStore

    from eventstore.integrations.claude_agent import ClaudeSessionStore

    store: Any = ClaudeSessionStore(ours_on(folder, ours)) if ours else InMemorySessionStore()

    async def add(name: str, number: int) -> None:
        line = {
            "type": "user",
            "uuid": f"{name}-{number}",
            "timestamp": "2026-01-01T00:00:00.000Z",
            "message": {"role": "user", "content": f"message {number} " + "x" * 200},
        }
        await store.append({"project_key": "p", "session_id": name}, [line])

    async def load(name: str) -> Any:
        return await store.load({"project_key": "p", "session_id": name})

    async def listed() -> Any:
        return await store.list_sessions("p")

    return Store(add, load, listed)


def pydantic_ai(folder: Path, ours: str | None) -> Store:
    """Conversations of Pydantic AI, beside InMemoryConversationStore."""
    from pydantic_ai.conversation import Conversation
    from pydantic_ai.conversation_store import InMemoryConversationStore
    from pydantic_ai.messages import ModelRequest, UserPromptPart

    from eventstore.integrations.pydantic_ai import EventStoreConversations

    store: Any = EventStoreConversations(ours_on(folder, ours)) if ours else InMemoryConversationStore()
    known = dict[str, Any]()

    async def add(name: str, number: int) -> None:
        if name not in known:
            known[name] = Conversation(conversation_id=name, messages=[])
        text = f"message {number} " + "x" * 200
        known[name].messages.append(ModelRequest(parts=[UserPromptPart(content=text)]))
        await store.save(known[name])

    async def load(name: str) -> Any:
        return (await store.load(name)).messages

    async def listed() -> Any:
        return await store.list_conversations()

    return Store(add, load, listed)


def keyvalue(folder: Path, ours: str | None) -> Store:
    """The key-value store that FastMCP keeps the state of sessions in, beside MemoryStore. It lists collections."""
    from key_value.aio.stores.memory import MemoryStore

    from eventstore.integrations.keyvalue import EventStoreKeyValue

    store: Any = (
        EventStoreKeyValue(ours_on(folder, ours)) if ours else MemoryStore(max_entries_per_collection=10_000_000)
    )
    known = dict[str, list[str]]()

    async def add(name: str, number: int) -> None:
        known.setdefault(name, []).append(f"k{number}")
        await store.put(f"k{number}", {"text": f"message {number} " + "x" * 200}, collection=name)

    async def load(name: str) -> Any:
        return await store.get_many(known[name], collection=name)

    async def listed() -> Any:
        return await store.collections()

    return Store(add, load, listed)


MAKERS: dict[str, tuple[Callable[[Path, str | None], Store], str]] = {
    "openai_agents": (openai_agents, DISK),
    "adk": (adk, DISK),
    "langgraph": (langgraph, DISK),
    "strands": (strands, FILES),
    "claude_agent": (claude_agent, MEMORY),
    "pydantic_ai": (pydantic_ai, MEMORY),
    "keyvalue": (keyvalue, MEMORY),
}
"""How to make the stores of a framework, and what an append to theirs waits for."""


async def measure(store: Store, folder: Path, size: int) -> dict[str, float]:
    """Measure one store at one size."""
    for number in range(store.at_once - 1, size, store.at_once):
        await store.add("s", number)
    if size % store.at_once:
        await store.add("s", size - 1)
    settle()
    before = _bytes(folder)
    append = await _each(lambda number: store.add("s", size + number), TIMES)
    grown = (_bytes(folder) - before) / TIMES
    found = {
        "append_ms": append,
        "load_ms": await _each(lambda _: store.load("s"), 5),
        "bytes_per_message": round(grown),
    }
    assert len(await store.load("s")) == size + TIMES
    return found


async def measure_list(store: Store, size: int) -> dict[str, float]:
    """Measure how an empty store lists sessions, after so many of one message were added; nothing where it lists none."""
    if store.list is None:
        return {}
    for number in range(size):
        await store.add(f"s{number}", 0)
    settle()
    assert len(await store.list()) == size
    listing = store.list
    return {"list_ms": await _each(lambda _: listing(), 3)}


async def _each(work: Callable[[int], Awaitable[Any]], times: int) -> float:
    """Return the median of milliseconds."""
    taken = []
    for number in range(times):
        began = time.perf_counter()
        await work(number)
        taken.append(time.perf_counter() - began)
    return round(sorted(taken)[times // 2] * 1_000, 2)


def _bytes(folder: Path) -> int:
    return sum(path.stat().st_size for path in folder.rglob("*") if path.is_file())


def main(folder: Path, names: list[str], sizes: list[int]) -> None:
    """Measure all, and print a line for each."""
    for name in names or MAKERS:
        make, durability = MAKERS[name]
        for size in sizes:
            line: dict[str, Any] = {"framework": name, "messages": size}
            for who, ours in {"theirs": None, f"ours, {durability}": durability, f"ours, {DISK}": DISK}.items():
                room, other = Path(mkdtemp(dir=folder)), Path(mkdtemp(dir=folder))
                line[who] = asyncio.run(measure(make(room, ours), room, size))
                line[who] |= asyncio.run(measure_list(make(other, ours), size))
            print(json.dumps(line), flush=True)


main(
    Path(sys.argv[1]),
    [one for one in sys.argv[2:] if not one.isdigit()],
    [int(one) for one in sys.argv[2:] if one.isdigit()] or [100, 1_000],
)
