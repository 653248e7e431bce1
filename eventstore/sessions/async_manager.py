"""AsyncSessionManager: the methods of SessionManager for asyncio. What can take long runs in threads."""

import asyncio
import inspect
from collections.abc import AsyncIterator, Awaitable, Callable, Coroutine, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import asynccontextmanager
from functools import cached_property
from pathlib import Path
from typing import Any, Self, TypeVar, Unpack

from msgspec import UNSET

from eventstore.errors import LogDamaged, SessionNotFound
from eventstore.events import Event, SessionCreated
from eventstore.log.base import Appended
from eventstore.sessions.append_queue import AppendQueue
from eventstore.sessions.appending import Appending, AppendOptions
from eventstore.sessions.async_asking import AsyncAskingAll, AsyncAskingOne
from eventstore.sessions.async_moments import AsyncMoments
from eventstore.sessions.async_parts import AsyncProofs, AsyncRecords, AsyncRedactions, AsyncTemplates, AsyncTrash
from eventstore.sessions.call import Call
from eventstore.sessions.follow_options import FollowOptions, SubscribeOptions, check_names
from eventstore.sessions.joined_queue import JoinedQueue
from eventstore.sessions.manager import SessionManager
from eventstore.sessions.threads import Threads
from eventstore.settings import Settings
from eventstore.store.as_of import At
from eventstore.store.pages import warn_damaged
from eventstore.subscriptions.subscription import Delivered, Subscription
from projections.models import Session, SessionStatus

T = TypeVar("T")


class AsyncSessionManager(Appending[Coroutine[Any, Any, Appended]], AsyncAskingOne, AsyncAskingAll):
    """A manager for asyncio: the methods of SessionManager as coroutines. The event loop waits for no lock, flush or server.

    Appends of many tasks to one session are written and flushed together. Use `invocation` with `async with`, and `events`,
    `history`, `timeline`, `salvage` and `follow` with `async for`. Close the manager, or use it with `async with`.
    At most `threads` calls run at once.
    """

    def __init__(self, manager: SessionManager, *, threads: int = 32) -> None:
        if not isinstance(manager, SessionManager):
            raise TypeError(f"manager is a {type(manager).__name__}, not a SessionManager")
        super().__init__(manager.storage, secrets=manager.secrets)
        self.by = manager.by
        self.manager = self._asking = manager
        self._threads = Threads(threads)
        queue = JoinedQueue if manager.storage.log.capabilities.joins_appends else AppendQueue
        self._queue = queue(manager.storage, self._threads, manager.secrets)

    @classmethod
    def from_settings(cls, settings: Settings | None = None) -> Self:
        """Open the store that the settings name, as `SessionManager.from_settings` does."""
        return cls(SessionManager.from_settings(settings))

    async def run(self, work: Callable[[], T]) -> T:
        """Run a function in one of the threads."""
        return await self._threads.run(work)

    @cached_property
    def moments(self) -> AsyncMoments:
        """`SessionManager.moments`, awaited."""
        return AsyncMoments(self.manager.moments, self._threads)

    @cached_property
    def trash(self) -> AsyncTrash:
        """`SessionManager.trash`, awaited."""
        return AsyncTrash(self.manager.trash, self._threads)

    @cached_property
    def templates(self) -> AsyncTemplates:
        """`SessionManager.templates`, awaited."""
        return AsyncTemplates(self.manager.templates, self._threads)

    @cached_property
    def proofs(self) -> AsyncProofs:
        """`SessionManager.proofs`, awaited."""
        return AsyncProofs(self.manager.proofs, self._threads)

    @cached_property
    def records(self) -> AsyncRecords:
        """`SessionManager.records`, awaited."""
        return AsyncRecords(self.manager.records, self._threads)

    @cached_property
    def redactions(self) -> AsyncRedactions:
        """`SessionManager.redactions`, awaited."""
        return AsyncRedactions(self.manager.redactions, self._threads)

    async def create_session(
        self,
        session_id: str | None = None,
        purpose: str | None = None,
        user_id: str | None = None,
        tags: Sequence[str] | None = None,
        *,
        template: str | None = None,
        external_key: str | None = None,
        **options: Unpack[AppendOptions],
    ) -> Session:
        """Await `SessionManager.create_session`."""
        return await self._threads.run(
            lambda: self.manager.create_session(
                session_id, purpose, user_id, tags, template=template, external_key=external_key, **options
            )
        )

    async def append(
        self,
        session_id: str,
        events: Sequence[Event],
        create: SessionCreated | bool | None = None,
        **options: Unpack[AppendOptions],
    ) -> Appended:
        """Await `SessionManager.append`. Appends of several tasks to one session share a write."""
        batch, expected = self._batch(events, options)
        if not create or expected != 0:
            try:
                return await self._write(session_id, batch, expected)
            except SessionNotFound:
                if not create or expected is not None:
                    raise
        return await self._threads.run(lambda: self.manager.append(session_id, batch, create, **options))

    async def subscribe(
        self,
        name: str,
        handler: Callable[[Delivered], Awaitable[object]] | Callable[[Delivered], object],
        session_id: str | None = None,
        after: str | int | None = None,
        **options: Unpack[SubscribeOptions],
    ) -> int:
        """Handle events as `SessionManager.subscribe` does, in this task, until it is cancelled; return how many were handled.

        `handler` is a function or a coroutine function; it runs in the event loop.
        """
        check_names("subscribe", options, SubscribeOptions)
        if not callable(handler):
            raise ValueError(f"handler is a {type(handler).__name__}, not a function; nothing was read")
        count = 0
        async for one in self.follow(session_id, after, name=name, **options):
            result = handler(one)
            if inspect.isawaitable(result):
                await result
            count += 1
        return count

    async def fork_session(
        self,
        session_id: str,
        at: At | None = None,
        new_id: str | None = None,
        *,
        recorded: bool = False,
        purpose: str | None = None,
        tags: Sequence[str] | None = None,
        external_key: str | None = None,
        by: Mapping[str, Any] | None = None,
    ) -> str:
        """Await `SessionManager.fork_session`."""
        return await self._threads.run(
            lambda: self.manager.fork_session(
                session_id, at, new_id, recorded=recorded, purpose=purpose, tags=tags, external_key=external_key, by=by
            )
        )

    async def complete_session(
        self,
        session_id: str,
        status: SessionStatus | str = SessionStatus.COMPLETED,
        *,
        reason: str | None = None,
        **options: Unpack[AppendOptions],
    ) -> Appended:
        """Await `SessionManager.complete_session`."""
        return await self._threads.run(
            lambda: self.manager.complete_session(session_id, status, reason=reason, **options)
        )

    async def delete_session(self, session_id: str, *, history: bool = False) -> bool:
        """Await `SessionManager.delete_session`."""
        return await self._threads.run(lambda: self.manager.delete_session(session_id, history=history))

    async def cleanup_old_sessions(self, max_age_days: float = 30, grace_days: float = 7) -> int:
        """Await `SessionManager.cleanup_old_sessions`."""
        return await self._threads.run(lambda: self.manager.cleanup_old_sessions(max_age_days, grace_days))

    async def recover_sessions(
        self, silent_hours: float = 24, on_damage: Callable[[LogDamaged], None] = warn_damaged
    ) -> list[str]:
        """Await `SessionManager.recover_sessions`."""
        return await self._threads.run(lambda: self.manager.recover_sessions(silent_hours, on_damage))

    async def start_invocation(
        self,
        session_id: str,
        invocation_id: str,
        tool_name: str | None,
        tool_input: Any = UNSET,
        invocation_dir: Path | str | None = None,
        **options: Unpack[AppendOptions],
    ) -> Appended:
        """Await `SessionManager.start_invocation`."""
        return await self._threads.run(
            lambda: self.manager.start_invocation(
                session_id, invocation_id, tool_name, tool_input, invocation_dir, **options
            )
        )

    async def link_invocation(
        self,
        session_id: str,
        invocation_id: str,
        tool_name: str | None,
        invocation_dir: Path | str | None,
        duration_ms: float | None = None,
        *,
        success: bool | None = None,
        error: str | None = None,
        result: Any = UNSET,
        **options: Unpack[AppendOptions],
    ) -> Appended:
        """Await `SessionManager.link_invocation`."""
        return await self._threads.run(
            lambda: self.manager.link_invocation(
                session_id,
                invocation_id,
                tool_name,
                invocation_dir,
                duration_ms,
                success=success,
                error=error,
                result=result,
                **options,
            )
        )

    async def flush(self) -> None:
        """Await `SessionManager.flush`."""
        await self._threads.run(lambda: self.manager.flush())

    async def follow(
        self, session_id: str | None = None, after: str | int | None = None, **options: Unpack[FollowOptions]
    ) -> AsyncIterator[Delivered]:
        """Follow one session, or all, like `SessionManager.follow`. Uses its own thread, which ends with the iteration."""
        check_names("follow", options, FollowOptions)
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
            thread.submit(_close_all, made)  # also one that the thread creates after this was cancelled
            thread.shutdown(wait=False)

    @asynccontextmanager
    async def invocation(self, session_id: str | None, tool_name: str, arguments: Any = None) -> AsyncIterator[Call]:
        """Record a tool call, like `SessionManager.invocation`, with `async with`."""
        call = self.manager.invocation(session_id, tool_name, arguments)
        await self._threads.run(call.__enter__)
        try:
            yield call
        except BaseException as error:
            failed = error
            # Shielded: a cancelled task must still record the outcome of its call.
            await asyncio.shield(self._threads.run(lambda: call.__exit__(type(failed), failed, failed.__traceback__)))
            raise
        await self._threads.run(lambda: call.__exit__(None, None, None))

    async def close(self) -> None:
        """Flush, close files, and stop the threads."""
        await self._threads.run(self.manager.close)
        self._threads.close()

    async def __aenter__(self) -> Self:
        return self

    async def __aexit__(self, *_: object) -> None:
        await self.close()

    async def _write(self, session_id: str, events: Sequence[Event], expected_version: int | None) -> Appended:
        return await self._queue.append(session_id, events, expected_version)


def _close_all(followers: list[Subscription]) -> None:
    for one in followers:
        one.close()
