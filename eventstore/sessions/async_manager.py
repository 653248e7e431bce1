"""AsyncSessionManager: the manager's methods, awaited. The work happens in threads: the event loop never waits for a disk."""

import asyncio
from collections.abc import AsyncIterator, Awaitable, Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import asynccontextmanager
from typing import Any, Concatenate, ParamSpec, Self, TypeVar, cast

from eventstore.events import Event
from eventstore.log.base import Appended
from eventstore.sessions.append_queue import Commits
from eventstore.sessions.manager import Call, SessionManager
from eventstore.subscriptions.subscription import Delivered, Subscription

P = ParamSpec("P")
R = TypeVar("R")
_THREADS = 32
_CHUNK = 256


def _awaited(
    method: Callable[Concatenate[SessionManager, P], R],
) -> Callable[Concatenate["AsyncSessionManager", P], Awaitable[R]]:
    """Make the awaited twin of a method."""

    async def twin(self: "AsyncSessionManager", /, *arguments: P.args, **options: P.kwargs) -> R:
        return await self.run(lambda: method(self.manager, *arguments, **options))

    twin.__name__, twin.__doc__ = method.__name__, method.__doc__
    return twin


def _committed(
    method: Callable[Concatenate[SessionManager, P], Appended],
) -> Callable[Concatenate["AsyncSessionManager", P], Awaitable[Appended]]:
    """Make the awaited twin of a method that appends one event: appends of one turn of the loop are committed together."""

    async def twin(self: "AsyncSessionManager", /, *arguments: P.args, **options: P.kwargs) -> Appended:
        return await cast("asyncio.Future[Appended]", method(self._planner, *arguments, **options))

    twin.__name__, twin.__doc__ = method.__name__, method.__doc__
    return twin


class _Planner(SessionManager):
    """Makes events as its manager does, and leaves them to commits: what its methods return is still to come."""

    def __init__(self, manager: SessionManager, commits: Commits) -> None:
        super().__init__(manager.storage, secrets=manager.secrets)
        self.by, self._commits = manager.by, commits

    def _append_event(self, session_id: str, event: Event, expected_version: int | None) -> Appended:
        return cast("Appended", self._commits.append(session_id, [event], expected_version=expected_version))


def _streamed(
    method: Callable[Concatenate[SessionManager, P], Iterator[R]],
) -> Callable[Concatenate["AsyncSessionManager", P], AsyncIterator[R]]:
    """Make the twin of a method that streams."""

    async def twin(self: "AsyncSessionManager", /, *arguments: P.args, **options: P.kwargs) -> AsyncIterator[R]:
        found = await self.run(lambda: method(self.manager, *arguments, **options))
        while chunk := await self.run(lambda: [one for one, _ in zip(found, range(_CHUNK), strict=False)]):
            for one in chunk:
                yield one

    twin.__name__, twin.__doc__ = method.__name__, method.__doc__
    return twin


def _close_all(followers: list[Subscription]) -> None:
    for one in followers:
        one.close()


class AsyncSessionManager:
    """A SessionManager for asyncio: the same methods with the same arguments, results and errors, awaited.

    A call that is cancelled may still happen: append again with the same `id`. Appends of many tasks share their flushes.
    `manager` is the manager underneath; both may be used at once.
    """

    def __init__(self, manager: SessionManager, *, threads: int = _THREADS) -> None:
        self.manager = manager
        self._pool = ThreadPoolExecutor(threads, thread_name_prefix="eventstore")
        self._planner = _Planner(manager, Commits(manager.storage, self._pool))

    async def run(self, work: Callable[[], R]) -> R:
        """Do any work in one of the threads."""
        return await asyncio.get_running_loop().run_in_executor(self._pool, work)

    create_session = _awaited(SessionManager.create_session)
    fork_session = _awaited(SessionManager.fork_session)
    lineage = _awaited(SessionManager.lineage)
    compare_branches = _awaited(SessionManager.compare_branches)
    save_template = _awaited(SessionManager.save_template)
    list_templates = _awaited(SessionManager.list_templates)
    get_template = _awaited(SessionManager.get_template)
    remove_template = _awaited(SessionManager.remove_template)
    get_session = _awaited(SessionManager.get_session)
    update_session_metadata = _committed(SessionManager.update_session_metadata)
    complete_session = _awaited(SessionManager.complete_session)
    reopen_session = _committed(SessionManager.reopen_session)
    delete_session = _awaited(SessionManager.delete_session)
    pin_session = _committed(SessionManager.pin_session)
    plan_cleanup = _awaited(SessionManager.plan_cleanup)
    list_trash = _awaited(SessionManager.list_trash)
    cleanup_old_sessions = _awaited(SessionManager.cleanup_old_sessions)
    trash_session = _awaited(SessionManager.trash_session)
    restore_session = _awaited(SessionManager.restore_session)
    redact = _awaited(SessionManager.redact)
    plan_redactions = _awaited(SessionManager.plan_redactions)
    redact_plan = _awaited(SessionManager.redact_plan)
    recover_sessions = _awaited(SessionManager.recover_sessions)
    add_conversation_message = _committed(SessionManager.add_conversation_message)
    clear_conversation = _committed(SessionManager.clear_conversation)
    conversation = _awaited(SessionManager.conversation)
    link_invocation = _awaited(SessionManager.link_invocation)
    record_usage = _committed(SessionManager.record_usage)
    set_data = _committed(SessionManager.set_data)
    delete_data = _committed(SessionManager.delete_data)
    clear_data = _committed(SessionManager.clear_data)
    list_sessions = _awaited(SessionManager.list_sessions)
    page_sessions = _awaited(SessionManager.page_sessions)
    analytics = _awaited(SessionManager.analytics)
    search = _awaited(SessionManager.search)
    context = _awaited(SessionManager.context)
    get_session_statistics = _awaited(SessionManager.get_session_statistics)
    tree = _awaited(SessionManager.tree)
    data = _awaited(SessionManager.data)
    diff = _awaited(SessionManager.diff)
    head = _awaited(SessionManager.head)
    sign_checkpoint = _awaited(SessionManager.sign_checkpoint)
    checkpoints = _awaited(SessionManager.checkpoints)
    prove_inclusion = _awaited(SessionManager.prove_inclusion)
    prove_consistency = _awaited(SessionManager.prove_consistency)
    flush = _awaited(SessionManager.flush)
    events = _streamed(SessionManager.events)
    history = _streamed(SessionManager.history)
    timeline = _streamed(SessionManager.timeline)
    salvage = _streamed(SessionManager.salvage)

    async def follow(
        self, session_id: str | None = None, after: str | int | None = None, **options: Any
    ) -> AsyncIterator[Delivered]:
        """Follow one session, or all, as `SessionManager.follow` does, with a thread of its own; it ends with the iteration."""
        thread = ThreadPoolExecutor(1, thread_name_prefix="eventstore-follow")
        loop = asyncio.get_running_loop()
        made: list[Subscription] = []
        try:
            await loop.run_in_executor(thread, lambda: made.append(self.manager.follow(session_id, after, **options)))
            follower = made[0]
            while found := await loop.run_in_executor(thread, follower.take):
                for one in found:
                    yield one
                    follower.mark_done(one)
        finally:
            for follower in made:
                follower.stop()
            thread.submit(_close_all, made)  # one too that is made after this was cancelled
            thread.shutdown(wait=False)

    follow.__doc__ = SessionManager.follow.__doc__

    @asynccontextmanager
    async def invocation(self, session_id: str | None, tool_name: str, arguments: Any = None) -> AsyncIterator[Call]:
        """Wrap the work of a tool, as `SessionManager.invocation` does, with `async with`."""
        call = self.manager.invocation(session_id, tool_name, arguments)
        await self.run(call.__enter__)
        try:
            yield call
        except BaseException as error:
            failed = error
            await asyncio.shield(self.run(lambda: call.__exit__(type(failed), failed, failed.__traceback__)))
            raise
        await self.run(lambda: call.__exit__(None, None, None))

    async def close(self) -> None:
        """Flush, let go of files, and end the threads."""
        await self.run(self.manager.close)
        self._pool.shutdown(wait=False)

    async def __aenter__(self) -> Self:
        return self

    async def __aexit__(self, *_: object) -> None:
        await self.close()
