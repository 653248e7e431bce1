"""Our stores beside each framework's own, in one run: `python speed.py FOLDER [SIZE...]`, in an environment with all of them.

For each size: milliseconds for one more message, for loading all of them, and for listing so many sessions of one message;
and how many bytes a message takes on disk. All wait for the disk, as they do by default. One line of JSON for each.
"""

import asyncio
import json
import sys
import time
from collections.abc import Awaitable, Callable
from pathlib import Path
from tempfile import mkdtemp
from typing import Any, NamedTuple

from eventstore import FileSystemSessionStorage, SessionManager

TIMES = 20


class Store(NamedTuple):
    """How to add the message of a number to a session, load a session, and list all.

    `at_once` is how many messages are added together where a session is only filled.
    """

    add: Callable[[str, int], Awaitable[Any]]
    load: Callable[[str], Awaitable[Any]]
    list: Callable[[], Awaitable[Any]] | None
    at_once: int = 1


_managers: list[SessionManager] = []


def ours_on(folder: Path) -> SessionManager:
    """Open a store on files."""
    _managers.append(SessionManager(FileSystemSessionStorage(folder / "s", folder / "h")))
    return _managers[-1]


def settle() -> None:
    """Wait for the view files of what was filled in without a pause."""
    for manager in _managers:
        manager.flush()


def openai_agents(folder: Path, *, is_ours: bool) -> Store:
    """Sessions of the OpenAI Agents SDK, beside SQLiteSession, which lists none."""
    from agents import SQLiteSession

    from eventstore.integrations.openai_agents import EventStoreSession

    manager, known = ours_on(folder), dict[str, Any]()

    def session(name: str) -> Any:
        if name not in known:
            known[name] = EventStoreSession(name, manager) if is_ours else SQLiteSession(name, folder / "sessions.db")
        return known[name]

    async def add(name: str, number: int) -> None:
        await session(name).add_items([{"role": "user", "content": f"message {number} " + "x" * 200}])

    async def load(name: str) -> Any:
        return await session(name).get_items()

    return Store(add, load, None)


def adk(folder: Path, *, is_ours: bool) -> Store:
    """Sessions of ADK, beside SqliteSessionService."""
    from google.adk.events import Event
    from google.adk.sessions.sqlite_session_service import SqliteSessionService
    from google.genai import types

    from eventstore.integrations.adk import EventStoreSessionService

    service: Any = (
        EventStoreSessionService(ours_on(folder)) if is_ours else SqliteSessionService(str(folder / "sessions.db"))
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


def langgraph(folder: Path, *, is_ours: bool) -> Store:
    """Checkpoints of LangGraph, beside SqliteSaver, with a channel of all messages that grows by one. It lists checkpoints."""
    import sqlite3

    from langchain_core.messages import HumanMessage
    from langgraph.checkpoint.base import empty_checkpoint
    from langgraph.checkpoint.sqlite import SqliteSaver

    from eventstore.integrations.langgraph import EventStoreSaver

    connection = sqlite3.connect(folder / "checkpoints.db", check_same_thread=False)
    saver: Any = EventStoreSaver(ours_on(folder)) if is_ours else SqliteSaver(connection)
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


def strands(folder: Path, *, is_ours: bool) -> Store:
    """Sessions of Strands, beside FileSessionManager; its interface lists none."""
    from strands.session.file_session_manager import FileSessionManager
    from strands.types.session import Session, SessionAgent, SessionMessage, SessionType

    from eventstore.integrations.strands import EventStoreRepository

    theirs: Any = None if is_ours else FileSessionManager("first", storage_dir=str(folder))
    repository: Any = EventStoreRepository(ours_on(folder)) if is_ours else theirs
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


def main(folder: Path, sizes: list[int]) -> None:
    """Measure all, and print a line for each."""
    for make in (openai_agents, adk, langgraph, strands):
        for size in sizes:
            line: dict[str, Any] = {"framework": make.__name__, "messages": size}
            for name, is_ours in (("theirs", False), ("ours", True)):
                room, other = Path(mkdtemp(dir=folder)), Path(mkdtemp(dir=folder))
                line[name] = asyncio.run(measure(make(room, is_ours=is_ours), room, size))
                line[name] |= asyncio.run(measure_list(make(other, is_ours=is_ours), size))
            print(json.dumps(line), flush=True)


main(Path(sys.argv[1]), [int(one) for one in sys.argv[2:]] or [100, 1_000])
