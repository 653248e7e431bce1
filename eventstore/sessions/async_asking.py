"""The reading methods of the manager for asyncio, in threads. A test compares their signatures with those of `asking`."""

from collections.abc import AsyncIterator, Callable, Sequence
from datetime import date, datetime
from typing import TYPE_CHECKING, Any, Literal, overload

from eventstore import events as e
from eventstore.derived.listing import Sort
from eventstore.derived.search_query import SEARCH_WAIT_S, Hits
from eventstore.errors import LogDamaged
from eventstore.log.base import Head
from eventstore.sessions.asking import Asking
from eventstore.sessions.threads import Threads
from eventstore.store.as_of import At
from eventstore.store.pages import Page, warn_damaged
from eventstore.store.sub_agents import SubAgent
from projections.models import ConversationMessage, Session, SessionStatus
from projections.projection import Projection, S

if TYPE_CHECKING:  # as in `asking`
    from eventstore.derived.analytics import By, Figures
    from eventstore.record.salvage import Remnant
    from projections import timeline, turns
    from projections.branches import Ancestor, Comparison
    from projections.difference import Change


class AsyncAskingOne:
    """Queries about one session, or two: `AskingOne` for asyncio."""

    _asking: Asking
    _threads: Threads

    async def get_session(self, session_id: str, at: At | None = None, *, recorded: bool = False) -> Session | None:
        """Await `SessionManager.get_session`."""
        return await self._threads.run(lambda: self._asking.get_session(session_id, at, recorded=recorded))

    @overload
    async def conversation(
        self,
        session_id: str,
        limit: int | None = None,
        tokens: int | None = None,
        at: At | None = None,
        *,
        recorded: bool = False,
        format: Literal["plain"] = "plain",
    ) -> list[ConversationMessage]: ...

    @overload
    async def conversation(
        self,
        session_id: str,
        limit: int | None = None,
        tokens: int | None = None,
        at: At | None = None,
        *,
        recorded: bool = False,
        format: Literal["openai"],
    ) -> list[dict[str, Any]]: ...

    @overload
    async def conversation(
        self,
        session_id: str,
        limit: int | None = None,
        tokens: int | None = None,
        at: At | None = None,
        *,
        recorded: bool = False,
        format: Literal["anthropic"],
    ) -> dict[str, Any]: ...

    async def conversation(
        self,
        session_id: str,
        limit: int | None = None,
        tokens: int | None = None,
        at: At | None = None,
        *,
        recorded: bool = False,
        format: "turns.Format" = "plain",  # noqa: A002 - as in `asking`
    ) -> Any:
        """Await `SessionManager.conversation`."""
        ask: Any = self._asking.conversation
        return await self._threads.run(lambda: ask(session_id, limit, tokens, at, recorded=recorded, format=format))

    async def data(self, session_id: str, at: At | None = None, *, recorded: bool = False) -> dict[str, Any]:
        """Await `SessionManager.data`."""
        return await self._threads.run(lambda: self._asking.data(session_id, at, recorded=recorded))

    async def get_session_statistics(
        self, session_id: str, at: At | None = None, *, recorded: bool = False, with_sub_agents: bool = False
    ) -> dict[str, Any] | None:
        """Await `SessionManager.get_session_statistics`."""
        return await self._threads.run(
            lambda: self._asking.get_session_statistics(
                session_id, at, recorded=recorded, with_sub_agents=with_sub_agents
            )
        )

    async def sub_agents(self, session_id: str) -> list[SubAgent]:
        """Await `SessionManager.sub_agents`."""
        return await self._threads.run(lambda: self._asking.sub_agents(session_id))

    async def project(
        self, session_id: str, projection: Projection[S], at: At | None = None, *, recorded: bool = False
    ) -> S:
        """Await `SessionManager.project`."""
        return await self._threads.run(lambda: self._asking.project(session_id, projection, at, recorded=recorded))

    async def events(
        self, session_id: str, after: int = 0, at: At | None = None, *, recorded: bool = False
    ) -> AsyncIterator[e.Event]:
        """Iterate over `SessionManager.events`, without blocking the event loop."""
        async for one in self._threads.stream(lambda: self._asking.events(session_id, after, at, recorded=recorded)):
            yield one

    async def history(self, session_id: str, after: int = 0) -> AsyncIterator[tuple[e.Event, Session]]:
        """Iterate over `SessionManager.history`, without blocking the event loop."""
        async for one in self._threads.stream(lambda: self._asking.history(session_id, after)):
            yield one

    async def timeline(
        self, session_id: str, at: At | None = None, *, recorded: bool = False
    ) -> "AsyncIterator[timeline.Row]":
        """Iterate over `SessionManager.timeline`, without blocking the event loop."""
        async for one in self._threads.stream(lambda: self._asking.timeline(session_id, at, recorded=recorded)):
            yield one

    async def tree(self, session_id: str, at: At | None = None, *, recorded: bool = False) -> dict[str, str]:
        """Await `SessionManager.tree`."""
        return await self._threads.run(lambda: self._asking.tree(session_id, at, recorded=recorded))

    async def head(self, session_id: str) -> Head:
        """Await `SessionManager.head`."""
        return await self._threads.run(lambda: self._asking.head(session_id))

    async def diff(self, session_id: str, a: At, b: At | None = None, *, recorded: bool = False) -> "list[Change]":
        """Await `SessionManager.diff`."""
        return await self._threads.run(lambda: self._asking.diff(session_id, a, b, recorded=recorded))

    async def lineage(self, session_id: str) -> "list[Ancestor]":
        """Await `SessionManager.lineage`."""
        return await self._threads.run(lambda: self._asking.lineage(session_id))

    async def compare_branches(self, a: str, b: str) -> "Comparison":
        """Await `SessionManager.compare_branches`."""
        return await self._threads.run(lambda: self._asking.compare_branches(a, b))

    async def salvage(self, session_id: str) -> "AsyncIterator[Remnant]":
        """Iterate over `SessionManager.salvage`, without blocking the event loop."""
        async for one in self._threads.stream(lambda: self._asking.salvage(session_id)):
            yield one


class AsyncAskingAll:
    """Queries over all sessions: `AskingAll` for asyncio."""

    _asking: Asking
    _threads: Threads

    async def list_sessions(
        self,
        user_id: str | None = None,
        status: SessionStatus | str | None = None,
        tags: Sequence[str] | None = None,
        limit: int | None = 100,
        at: At | None = None,
    ) -> list[Session]:
        """Await `SessionManager.list_sessions`."""
        return await self._threads.run(lambda: self._asking.list_sessions(user_id, status, tags, limit, at))

    async def page_sessions(
        self,
        user_id: str | None = None,
        status: SessionStatus | str | None = None,
        tags: Sequence[str] | None = None,
        *,
        purpose: str | None = None,
        since: datetime | str | None = None,
        until: datetime | str | None = None,
        sort: Sort = "updated",
        limit: int | None = 100,
        cursor: str | None = None,
        external_key: str | None = None,
        external_prefix: str | None = None,
        at: At | None = None,
        total: bool = False,
        on_damage: Callable[[LogDamaged], None] = warn_damaged,
    ) -> Page:
        """Await `SessionManager.page_sessions`."""
        return await self._threads.run(
            lambda: self._asking.page_sessions(
                user_id,
                status,
                tags,
                purpose=purpose,
                since=since,
                until=until,
                sort=sort,
                limit=limit,
                cursor=cursor,
                external_key=external_key,
                external_prefix=external_prefix,
                at=at,
                total=total,
                on_damage=on_damage,
            )
        )

    async def search(
        self,
        text: str,
        *,
        user_id: str | None = None,
        role: str | None = None,
        tool: str | None = None,
        since: datetime | str | None = None,
        until: datetime | str | None = None,
        project: str | None = None,
        session_id: str | None = None,
        at: At | None = None,
        limit: int = 20,
        wait_s: float | None = SEARCH_WAIT_S,
        on_damage: Callable[[LogDamaged], None] = warn_damaged,
    ) -> Hits:
        """Await `SessionManager.search`."""
        return await self._threads.run(
            lambda: self._asking.search(
                text,
                user_id=user_id,
                role=role,
                tool=tool,
                since=since,
                until=until,
                project=project,
                session_id=session_id,
                at=at,
                limit=limit,
                wait_s=wait_s,
                on_damage=on_damage,
            )
        )

    async def context(
        self,
        text: str,
        budget_tokens: int = 2000,
        *,
        user_id: str | None = None,
        role: str | None = None,
        tool: str | None = None,
        since: datetime | str | None = None,
        project: str | None = None,
        at: At | None = None,
        limit: int = 20,
    ) -> str:
        """Await `SessionManager.context`."""
        return await self._threads.run(
            lambda: self._asking.context(
                text,
                budget_tokens,
                user_id=user_id,
                role=role,
                tool=tool,
                since=since,
                project=project,
                at=at,
                limit=limit,
            )
        )

    async def analytics(
        self,
        by: "By" = "day",
        *,
        user_id: str | None = None,
        tag: str | None = None,
        since: date | str | None = None,
        until: date | str | None = None,
        timezone: str = "UTC",
        on_damage: Callable[[LogDamaged], None] = warn_damaged,
    ) -> "list[Figures]":
        """Await `SessionManager.analytics`."""
        return await self._threads.run(
            lambda: self._asking.analytics(
                by, user_id=user_id, tag=tag, since=since, until=until, timezone=timezone, on_damage=on_damage
            )
        )
