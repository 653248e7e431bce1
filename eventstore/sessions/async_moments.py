"""Moments for asyncio: `AsyncSessionManager.moments`. A test compares its signatures with those of `moments`."""

from collections.abc import Collection
from typing import Any

from eventstore.sessions.moments import Bucket, By, Found, Moments, Window
from eventstore.sessions.threads import Threads
from eventstore.store.as_of import At
from projections.branches import Ancestor
from projections.invocations import Invocation
from projections.models import SessionMetadata
from projections.timeline import Row


class AsyncMoments:
    """`Moments` for asyncio."""

    def __init__(self, moments: Moments, threads: Threads) -> None:
        self._moments, self._threads = moments, threads

    async def version(self, session_id: str, at: At | None = None, *, recorded: bool = False) -> int:
        """Await `Moments.version`."""
        return await self._threads.run(lambda: self._moments.version(session_id, at, recorded=recorded))

    async def metadata(self, session_id: str, at: At | None = None, *, recorded: bool = False) -> SessionMetadata:
        """Await `Moments.metadata`."""
        return await self._threads.run(lambda: self._moments.metadata(session_id, at, recorded=recorded))

    async def figures(self, session_id: str, at: At | None = None, *, recorded: bool = False) -> dict[str, Any]:
        """Await `Moments.figures`."""
        return await self._threads.run(lambda: self._moments.figures(session_id, at, recorded=recorded))

    async def data(self, session_id: str, at: At | None = None, *, recorded: bool = False) -> dict[str, Any]:
        """Await `Moments.data`."""
        return await self._threads.run(lambda: self._moments.data(session_id, at, recorded=recorded))

    async def messages(
        self,
        session_id: str,
        at: At | None = None,
        *,
        first: int | None = None,
        limit: int = 50,
        recorded: bool = False,
    ) -> Window:
        """Await `Moments.messages`."""
        return await self._threads.run(
            lambda: self._moments.messages(session_id, at, first=first, limit=limit, recorded=recorded)
        )

    async def place(self, session_id: str, seq: int, at: At | None = None) -> int:
        """Await `Moments.place`."""
        return await self._threads.run(lambda: self._moments.place(session_id, seq, at))

    async def calls(
        self,
        session_id: str,
        at: At | None = None,
        *,
        before: int | None = None,
        limit: int = 50,
        recorded: bool = False,
    ) -> list[tuple[int, Invocation]]:
        """Await `Moments.calls`."""
        return await self._threads.run(
            lambda: self._moments.calls(session_id, at, before=before, limit=limit, recorded=recorded)
        )

    async def tree(self, session_id: str, at: At | None = None, *, recorded: bool = False) -> dict[str, str]:
        """Await `Moments.tree`."""
        return await self._threads.run(lambda: self._moments.tree(session_id, at, recorded=recorded))

    async def timeline(
        self,
        session_id: str,
        after: int = 0,
        limit: int = 200,
        *,
        at: At | None = None,
        backwards: bool = False,
        types: Collection[str] | None = None,
        tools: Collection[str] | None = None,
        roles: Collection[str] | None = None,
        kinds: Collection[str] | None = None,
    ) -> list[Row]:
        """Await `Moments.timeline`."""
        return await self._threads.run(
            lambda: self._moments.timeline(
                session_id, after, limit, at=at, backwards=backwards, types=types, tools=tools, roles=roles, kinds=kinds
            )
        )

    async def counts(self, session_id: str, at: At | None = None) -> dict[str, dict[str, int]]:
        """Await `Moments.counts`."""
        return await self._threads.run(lambda: self._moments.counts(session_id, at))

    async def seek(self, session_id: str, seq: int, kinds: Collection[str], *, backwards: bool = False) -> int | None:
        """Await `Moments.seek`."""
        return await self._threads.run(lambda: self._moments.seek(session_id, seq, kinds, backwards=backwards))

    async def density(
        self, session_id: str, buckets: int = 400, *, by: By = "seq", after: int = 0, at: At | None = None
    ) -> list[Bucket]:
        """Await `Moments.density`."""
        return await self._threads.run(lambda: self._moments.density(session_id, buckets, by=by, after=after, at=at))

    async def find(
        self,
        session_id: str,
        text: str,
        after: int = 0,
        *,
        at: At | None = None,
        limit: int = 50,
        most_events: int = 20000,
    ) -> Found:
        """Await `Moments.find`."""
        return await self._threads.run(
            lambda: self._moments.find(session_id, text, after, at=at, limit=limit, most_events=most_events)
        )

    async def markers(
        self, session_id: str, at: At | None = None, most: int = 500
    ) -> tuple[dict[str, list[int]], dict[str, int]]:
        """Await `Moments.markers`."""
        return await self._threads.run(lambda: self._moments.markers(session_id, at, most))

    async def ancestors(self, session_id: str, at: At | None = None) -> list[Ancestor]:
        """Await `Moments.ancestors`."""
        return await self._threads.run(lambda: self._moments.ancestors(session_id, at))
