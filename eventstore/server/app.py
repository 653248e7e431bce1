"""The application: the routes, the streams and the page, all protected by the guard."""

import secrets
import time
from collections.abc import AsyncIterator, Collection
from contextlib import asynccontextmanager
from typing import Any

import msgspec
from starlette.applications import Starlette
from starlette.concurrency import run_in_threadpool
from starlette.requests import Request as HttpRequest
from starlette.responses import Response
from starlette.routing import BaseRoute, Mount, WebSocketRoute
from starlette.routing import Route as HttpRoute
from starlette.types import Receive, Scope, Send
from starlette.websockets import WebSocket

from eventstore.release import version as release
from eventstore.server import listing, openapi, proven, reading, writing
from eventstore.server.arguments import read_body, read_query
from eventstore.server.exporting import KINDS, ExportQuery, export
from eventstore.server.guard import Guard
from eventstore.server.jobs import Jobs
from eventstore.server.live import Live
from eventstore.server.page import Page
from eventstore.server.problems import Refusal, answer, problem_of
from eventstore.server.receiving import receive_body
from eventstore.server.route import EVENTS, PREFIX, Context, Request, Route, query_of, read_conditions
from eventstore.server.seen import HEADER, check_seen
from eventstore.server.streams import Followers, Sockets, StoreStreamQuery, StreamQuery, stream_session
from eventstore.sessions.manager import SessionManager

_CODE_SECONDS = 300
_MOST_GUESSES = 20


class Access:
    """The token of one start of the server, and the codes that a browser swaps for it, each once and within five minutes."""

    def __init__(self, token: str | None = None) -> None:
        self.token = token or f"esv_{secrets.token_urlsafe(32)}"
        self._codes: dict[str, float] = {}
        self._guesses = 0

    def new_code(self) -> str:
        """Make a code."""
        code = secrets.token_urlsafe(24)
        self._codes[code] = time.monotonic() + _CODE_SECONDS
        return code

    def swap(self, code: str) -> str:
        """Return the token for a code, which is used up. Raises Refusal."""
        if self._guesses >= _MOST_GUESSES:
            raise Refusal(429, "too many wrong codes; start the server again", "Too many codes")
        ends = self._codes.pop(code, 0.0)
        if ends < time.monotonic():
            self._guesses += 1
            raise Refusal(
                401, "that code was used before, or is older than five minutes: start the server again", "No token"
            )
        return self.token


class _Login(msgspec.Struct, forbid_unknown_fields=True):
    code: str


class Application:
    """One server's application: `app` is what an ASGI server runs; `live` is there while it runs."""

    def __init__(
        self,
        manager: SessionManager,
        hosts: Collection[str],
        *,
        access: Access | None = None,
        write: bool = False,
        schemes: Collection[str] = ("http",),
    ) -> None:
        self.access = access or Access()
        self.live: Live | None = None
        self._context = Context(manager, Jobs(), write)
        found = [
            *reading.routes.found,
            *listing.routes.found,
            *proven.routes.found,
            *(writing.routes.found if write else ()),
        ]
        page, followers = Page(), Followers(manager)
        streams = [
            Route("GET", f"{PREFIX}/sessions/{{session_id}}/stream", stream_session, StreamQuery, media=EVENTS),
            Route("GET", f"{PREFIX}/sessions/{{session_id}}/export", export, ExportQuery, media=tuple(KINDS.values())),
            Route("GET", f"{PREFIX}/stream", followers.stream, StoreStreamQuery, media=EVENTS),
        ]
        self.routes: list[Route] = [*found, *streams]

        def endpoint(route: Route) -> Any:
            async def handle(request: HttpRequest) -> Response:
                try:
                    read_conditions(route, request.headers)
                    if request.method == "HEAD" and route.media == EVENTS:
                        return Response(media_type=EVENTS[0])  # a stream that nobody reads would never end
                    found: Response = await route.run(self._running(), request)
                    return found
                except Refusal as error:
                    return answer(error.problem)

            return handle

        async def sockets(socket: WebSocket) -> None:
            await handler.handle(self._running(), socket)

        self._inner = Starlette(
            routes=[
                *(HttpRoute(one.path, self._endpoint(one), methods=[one.method]) for one in found),
                HttpRoute(f"{PREFIX}/openapi.json", self._describe),
                HttpRoute(f"{PREFIX}/login", self._login, methods=["POST"]),
                *(HttpRoute(one.path, endpoint(one)) for one in streams),
                WebSocketRoute(f"{PREFIX}/live", sockets),
                *(
                    ()
                    if write
                    else (HttpRoute(one.path, self._refuse, methods=[one.method]) for one in writing.routes.found)
                ),
                Mount("/api", self._nothing),
                HttpRoute("/static/{name}", page.file),
                HttpRoute("/favicon.ico", page.icon),
                HttpRoute("/{rest:path}", page.index),
            ],
            lifespan=self._lifespan,
        )
        self.app = Guard(self._inner, hosts, self.access.token, schemes)
        handler = Sockets(self.app.is_token)

    def stop_streams(self) -> None:
        """End all streams, so that the server can end. On its event loop."""
        if self.live is not None:
            self.live.stop()

    def _running(self) -> Live:
        if self.live is None:
            raise Refusal(503, "the server is starting")
        return self.live

    @asynccontextmanager
    async def _lifespan(self, app: Starlette) -> AsyncIterator[None]:
        self.live = Live(self._context.manager)
        try:
            yield
        finally:
            self._context.jobs.close()
            await self.live.close()

    def _endpoint(self, route: Route) -> Any:
        async def handle(request: HttpRequest) -> Response:
            try:
                asked = await self._read(route, request)
                result = await run_in_threadpool(self._run, route, asked, request.headers.get(HEADER))
                return Response(msgspec.json.encode(result), route.status, media_type="application/json")
            except Exception as error:
                return answer(problem_of(error, request.path_params.get("session_id", "")))

        return handle

    def _run(self, route: Route, asked: Request, seen: str | None) -> Any:
        if seen is not None and "session_id" in asked.path:
            check_seen(self._context.manager, asked.session_id, seen)
        return route.run(self._context, asked)

    async def _read(self, route: Route, request: HttpRequest) -> Request:
        key, expected = read_conditions(route, request.headers)
        query = read_query(route.query, query_of(request))
        body = None if route.body is None else await self._body(request, route.body)
        return Request(request.path_params, query, body, key, expected)

    async def _body(self, request: HttpRequest, kind: Any) -> Any:
        sent = request.headers.get("content-type", "").partition(";")[0].strip().lower()
        if sent != "application/json":
            raise Refusal(415, "send application/json; nothing was done", "Wrong type")
        return read_body(kind, await receive_body(request, self._running().stopping))

    async def _login(self, request: HttpRequest) -> Response:
        try:
            asked = await self._body(request, _Login)
            return Response(msgspec.json.encode({"token": self.access.swap(asked.code)}), media_type="application/json")
        except Exception as error:
            return answer(problem_of(error))

    async def _describe(self, request: HttpRequest) -> Response:
        found = openapi.document(self.routes, release())
        return Response(msgspec.json.encode(found), media_type="application/json")

    async def _refuse(self, request: HttpRequest) -> Response:
        reason = "this server only reads; nothing was done: start it with --write to allow changes"
        return answer(Refusal(403, reason, "Read-only").problem)

    async def _nothing(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Answer what no route does: 405 if routes of the path take other methods, else 404."""
        if scope["type"] == "websocket":
            await WebSocket(scope, receive, send).close(4404, "no such path")
            return
        reason = "the API has no such path; see /api/v1/openapi.json"
        response = answer(Refusal(404, reason, "Not found").problem)
        methods = {method for one in self._inner.routes for method in _methods(one, scope)}
        if methods:
            allowed = ", ".join(sorted(methods))
            reason = f"this path takes {allowed}; nothing was done"
            response = answer(Refusal(405, reason, "Wrong method").problem)
            response.headers["Allow"] = allowed
        await response(scope, receive, send)


def _methods(route: BaseRoute, scope: Scope) -> Collection[str]:
    """Return the methods of a route if it has the path that was asked for."""
    is_api = isinstance(route, HttpRoute) and route.path.startswith(PREFIX) and route.path_regex.match(scope["path"])
    return getattr(route, "methods", None) or () if is_api else ()
