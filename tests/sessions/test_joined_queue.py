"""Appends of asyncio tasks to many sessions share steps, where the store appends to many logs in one."""

import asyncio
import threading
from collections.abc import Coroutine, Sequence
from typing import Any

import pytest
from log.faulty import Fault, FaultyBackend, JoiningMemory

from eventstore import AsyncSessionManager, SessionManager, SessionNotFound, VersionConflict
from eventstore.errors import EventNotEncodable
from eventstore.events import DataSet, MessageAdded, RecordPut
from eventstore.log.engine import EventLog
from eventstore.log.port import Reading, Swap, Tip
from eventstore.sessions.joined_queue import JoinedQueue
from eventstore.store.storage import SessionStorage

NAMES = [f"s{number}" for number in range(64)]


class Held(JoiningMemory):
    """A memory whose steps wait until they may go on. `steps` has the names of each."""

    def __init__(self) -> None:
        super().__init__()
        self.go_on = threading.Event()
        self.steps: list[list[str]] = []

    def append_many(self, swaps: Sequence[Swap]) -> list[str | None]:
        self.steps.append([one.log for one in swaps])
        assert self.go_on.wait(60)
        return super().append_many(swaps)


class Slow(JoiningMemory):
    """A memory that reads one log only when it may."""

    slow = ""

    def __init__(self) -> None:
        super().__init__()
        self.go_on = threading.Event()

    def read(self, log: str, after: Tip | int = 0, upto: int | None = None) -> Reading:
        assert log != self.slow or self.go_on.wait(60)
        return super().read(log, after, upto)


def run(work: Coroutine[Any, Any, None]) -> None:
    asyncio.run(asyncio.wait_for(work, 60))


def managed(backend: JoiningMemory | FaultyBackend) -> SessionManager:
    manager = SessionManager(SessionStorage(EventLog(backend)))
    for name in NAMES:
        manager.create_session(name)
    return manager


def texts(manager: SessionManager, name: str) -> list[str]:
    return [event.content for event in manager.storage.log.read(name) if isinstance(event, MessageAdded)]


def test_tasks_of_many_sessions_share_steps() -> None:
    backend = Held()
    backend.go_on.set()
    manager = managed(backend)

    async def main() -> None:
        async with AsyncSessionManager(manager, threads=4) as twin:

            async def work(name: str) -> None:
                for number in range(10):
                    await twin.add_conversation_message(name, "user", f"{number}")

            await asyncio.gather(*map(work, NAMES))

    run(main())
    assert sum(map(len, backend.steps)) == 640
    assert len(backend.steps) <= 64
    for name in NAMES:
        assert texts(manager, name) == [f"{number}" for number in range(10)]


def test_tasks_of_one_session_keep_their_order_and_share_a_line_of_steps() -> None:
    backend = Held()
    backend.go_on.set()
    manager = managed(backend)

    async def main() -> None:
        async with AsyncSessionManager(manager) as twin:
            await asyncio.gather(*(twin.add_conversation_message("s0", "user", f"{number}") for number in range(100)))

    run(main())
    assert texts(manager, "s0") == [f"{number}" for number in range(100)]
    assert len(backend.steps) <= 2


def test_each_task_gets_its_own_error() -> None:
    manager = managed(JoiningMemory())

    async def main() -> None:
        async with AsyncSessionManager(manager, threads=1) as twin:
            found = await asyncio.gather(
                twin.add_conversation_message("s0", "user", "a"),
                twin.add_conversation_message("nope", "user", "b"),
                twin.add_conversation_message("s1", "user", "c", expected_version=7),
                twin.append("s1", [DataSet(key="k", value=float("nan"))]),
                twin.add_conversation_message("s1", "user", "d", id="once"),
                twin.add_conversation_message("s1", "user", "d", id="once"),
                return_exceptions=True,
            )
            kinds = [type(one) for one in found if isinstance(one, BaseException)]
            assert kinds == [SessionNotFound, VersionConflict, EventNotEncodable]
            assert [one.first for one in found if not isinstance(one, BaseException)] == [2, 2, 2]

    run(main())
    assert (texts(manager, "s0"), texts(manager, "s1")) == (["a"], ["d"])


def test_nobody_waits_for_a_session_that_has_to_be_read_first() -> None:
    backend = Slow()
    manager = managed(backend)
    EventLog(backend).append("s0", [MessageAdded(role="user", content="theirs")])
    backend.slow = "s0"

    async def main() -> None:
        async with AsyncSessionManager(manager, threads=3) as twin:
            first, *others = (asyncio.ensure_future(twin.add_conversation_message(name, "user", "x")) for name in NAMES)
            await asyncio.gather(*others)
            await asyncio.gather(*(twin.add_conversation_message(name, "user", "y") for name in NAMES[1:]))
            assert not first.done()
            backend.go_on.set()
            await first

    run(main())
    assert texts(manager, "s0") == ["theirs", "x"]


def test_sessions_that_have_to_wait_for_something_are_written_too() -> None:
    backend = JoiningMemory()
    manager = managed(backend)

    async def main() -> None:
        async with AsyncSessionManager(manager, threads=2) as twin:
            EventLog(backend).append("s0", [MessageAdded(role="user", content="theirs")])  # so it has to be read
            await asyncio.gather(*(twin.add_conversation_message(name, "user", "x") for name in NAMES))
            large = asyncio.ensure_future(
                twin.append("s1", [RecordPut(stream="r", key="k", value="v" * 400_000)])  # kept with the log
            )
            await twin.add_conversation_message("s2", "user", "y")
            await large

    run(main())
    assert texts(manager, "s0") == ["theirs", "x"]
    assert len(manager.storage.log.values("s1")) == 1


def test_a_task_that_is_cancelled_leaves_the_others_alone() -> None:
    backend = Held()
    manager = managed(backend)

    async def main() -> None:
        async with AsyncSessionManager(manager) as twin:
            tasks = [asyncio.ensure_future(twin.add_conversation_message(name, "user", "x")) for name in NAMES]
            while not backend.steps:
                await asyncio.sleep(0)
            tasks[0].cancel()
            backend.go_on.set()
            found = await asyncio.gather(*tasks, return_exceptions=True)
            assert isinstance(found[0], asyncio.CancelledError)
            assert not [one for one in found[1:] if isinstance(one, BaseException)]

    run(main())


@pytest.mark.parametrize("fault", [Fault.REFUSED, Fault.UNCLEAR, Fault.LOST])
def test_what_was_appended_is_there_once_whatever_happens_to_a_step(fault: Fault) -> None:
    backend = FaultyBackend(JoiningMemory())
    manager = managed(backend)
    backend.arm(1, fault)

    async def main() -> None:
        async with AsyncSessionManager(manager, threads=3) as twin:
            await asyncio.gather(*(twin.add_conversation_message(name, "user", "x") for name in NAMES))

    run(main())
    assert backend.fired == 1
    assert [texts(manager, name) for name in NAMES] == [["x"]] * 64


def test_a_manager_that_is_closed_refuses_and_no_task_waits_for_ever() -> None:
    manager = managed(JoiningMemory())

    async def main() -> None:
        twin = AsyncSessionManager(manager)
        await twin.close()
        with pytest.raises(RuntimeError):
            await twin.add_conversation_message("s0", "user", "x")

    run(main())


def test_event_loops_that_ended_while_their_appends_were_written_are_not_kept() -> None:
    backend = Held()
    manager = managed(backend)
    twin = AsyncSessionManager(manager)
    queue = twin._queue
    assert isinstance(queue, JoinedQueue)

    async def begin(steps: int) -> None:
        waiting = asyncio.ensure_future(twin.add_conversation_message(NAMES[steps], "user", "x"))
        while len(backend.steps) <= steps:
            await asyncio.sleep(0)
        assert not waiting.done()

    for steps in range(3):
        run(begin(steps))
        assert len(queue._loops) == len(queue._queues) == 1
    backend.go_on.set()
    run(twin.close())
