"""The async twin: the same methods, and an event loop that never waits for a disk."""

import asyncio
import inspect
import os
import threading
from collections.abc import Coroutine
from pathlib import Path
from typing import Any

import pytest

from eventstore import AsyncSessionManager, FileSystemSessionStorage, SessionManager, SessionNotFound


def run(work: Coroutine[Any, Any, None]) -> None:
    asyncio.run(asyncio.wait_for(work, 60))


def test_it_has_every_method_of_the_manager() -> None:
    def public(kind: type) -> set[str]:
        return {name for name, thing in vars(kind).items() if not name.startswith("_") and inspect.isfunction(thing)}

    assert public(SessionManager) <= public(AsyncSessionManager)
    for name in public(SessionManager) - {"invocation", "close"}:
        assert inspect.getdoc(getattr(AsyncSessionManager, name)) == inspect.getdoc(getattr(SessionManager, name))


def test_it_does_what_the_manager_does(manager: SessionManager) -> None:
    async def main() -> None:
        async with AsyncSessionManager(manager) as twin:
            session = await twin.create_session("s", purpose="p", tags=["t"])
            assert session.metadata.purpose == "p"
            await twin.add_conversation_message("s", "user", "hi", id="k")
            again = await twin.add_conversation_message("s", "user", "hi", id="k")
            assert again.repeated
            async with twin.invocation("s", "grep", {"q": 1}) as call:
                call.result = 1
            statistics = await twin.get_session_statistics("s")
            assert statistics is not None
            assert (statistics["total_invocations"], statistics["message_count"]) == (1, 1)
            assert [event.seq async for event in twin.events("s")] == [1, 2, 3, 4]
            with pytest.raises(SessionNotFound):
                await twin.set_data("nope", "k", 1)
            with pytest.raises(SessionNotFound):
                _ = [row async for row in twin.timeline("nope")]

    run(main())


def test_an_exception_inside_a_call_is_recorded(manager: SessionManager) -> None:
    async def main() -> None:
        twin = AsyncSessionManager(manager)
        await twin.create_session("s")
        with pytest.raises(KeyError):
            async with twin.invocation("s", "grep"):
                raise KeyError("x")
        await twin.close()

    run(main())
    (call,) = manager.storage.fold("s").invocations.values()
    assert (call.success, call.error) == (False, "KeyError: 'x'")


def test_the_event_loop_turns_while_a_flush_hangs(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A disk that takes its time blocks the tasks that wait for it, and no other."""
    hung, go_on = threading.Event(), threading.Event()
    fdatasync = os.fdatasync

    def hang(descriptor: int) -> None:
        hung.set()
        assert go_on.wait(30)
        fdatasync(descriptor)

    async def main() -> None:
        manager = SessionManager(FileSystemSessionStorage(tmp_path / "s", tmp_path / "h"))
        async with AsyncSessionManager(manager) as twin:
            await twin.create_session("s")
            monkeypatch.setattr(os, "fdatasync", hang)
            waiting = asyncio.ensure_future(twin.add_conversation_message("s", "user", "x"))
            while not hung.is_set():
                await asyncio.sleep(0)
            turns = 0
            for _ in range(1000):
                await asyncio.sleep(0)
                turns += 1
            assert not waiting.done()
            go_on.set()
            await waiting
            assert turns == 1000

    run(main())


def test_many_tasks_share_their_flushes(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    flushes = 0
    fdatasync = os.fdatasync

    slow = threading.Event()

    def count(descriptor: int) -> None:
        nonlocal flushes
        flushes += 1
        slow.wait(0.002)  # a disk as slow as disks are, also where the test runs on memory
        fdatasync(descriptor)

    monkeypatch.setattr(os, "fdatasync", count)

    async def main() -> None:
        manager = SessionManager(FileSystemSessionStorage(tmp_path / "s", tmp_path / "h"))
        async with AsyncSessionManager(manager) as twin:
            await twin.create_session("s")
            await asyncio.gather(*(twin.add_conversation_message("s", "user", str(n)) for n in range(400)))
            assert (await twin.head("s")).version == 401

    run(main())
    assert flushes < 200
