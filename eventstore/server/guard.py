"""The guard: one ASGI layer before everything, also before static files and sockets.

It lets in only requests that name this very server as their host, that come from its own page or from no page, and, for `/api`,
that carry the token. It sets the headers that keep a browser from doing anything else with an answer. There is no cookie, so a
browser never sends credentials on its own, and there are no CORS headers, so no other origin can read an answer.
"""

import hmac
from collections.abc import Awaitable, Callable, Collection, MutableMapping
from typing import Any, TypeAlias

from eventstore.server.problems import Problem, answer
from eventstore.server.receiving import MOST_BODY_BYTES, too_large

Scope: TypeAlias = MutableMapping[str, Any]
Receive: TypeAlias = Callable[[], Awaitable[MutableMapping[str, Any]]]
Send: TypeAlias = Callable[[MutableMapping[str, Any]], Awaitable[None]]
App: TypeAlias = Callable[[Scope, Receive, Send], Awaitable[None]]

OPEN_PATHS = frozenset(["/api/v1/login", "/api/v1/health"])
"""Paths below /api that need no token: the one that returns the token for a code, and the one that returns no data."""

_POLICY = (
    "default-src 'none'; script-src 'self'; style-src 'self'; img-src 'self' data:; font-src 'self'; connect-src 'self'; "
    "base-uri 'none'; form-action 'none'; frame-ancestors 'none'; "
    "require-trusted-types-for 'script'; trusted-types eventstore dompurify"
)
HEADERS: tuple[tuple[bytes, bytes], ...] = (
    (b"content-security-policy", _POLICY.encode()),
    (b"x-content-type-options", b"nosniff"),
    (b"referrer-policy", b"no-referrer"),
    (b"cross-origin-resource-policy", b"same-origin"),
    (b"cross-origin-opener-policy", b"same-origin"),
    (b"x-frame-options", b"DENY"),
    (b"permissions-policy", b"camera=(), microphone=(), geolocation=()"),
)


class Guard:
    """Refuses what is not meant for this server or not allowed, before anything else sees it.

    `hosts` are the values of `Host` that are accepted. `schemes` are those of pages that may ask: `https` where TLS is in front.
    """

    def __init__(self, app: App, hosts: Collection[str], token: str, schemes: Collection[str] = ("http",)) -> None:
        self._app, self._hosts, self._token = app, frozenset(one.lower() for one in hosts), token.encode()
        self._origins = frozenset(f"{scheme}://{host}" for scheme in schemes for host in self._hosts)

    def is_token(self, given: str) -> bool:
        """Compare a token with ours, in the same time whatever it is."""
        return hmac.compare_digest(given.encode("utf-8", "replace"), self._token)

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Handle one request or socket."""
        if scope["type"] == "lifespan":
            await self._app(scope, receive, send)
            return
        problem = self._judge(scope)
        if scope["type"] == "websocket":
            if problem is not None:
                await receive()
                await send({"type": "websocket.close", "code": 4000 + problem.status, "reason": problem.title})
                return
            await self._app(scope, receive, send)
            return
        is_api = scope["path"].startswith("/api")

        async def send_guarded(message: MutableMapping[str, Any]) -> None:
            if message["type"] == "http.response.start":
                headers = [one for one in message.get("headers", ()) if one[0].lower() != b"server"]
                known = {one[0].lower() for one in headers}
                headers += [one for one in HEADERS if one[0] not in known]
                if is_api and b"cache-control" not in known:
                    headers.append((b"cache-control", b"no-store"))
                message["headers"] = headers
            await send(message)

        if problem is not None:
            await answer(problem)(scope, receive, send_guarded)
            return
        await self._app(scope, receive, send_guarded)

    def _judge(self, scope: Scope) -> Problem | None:
        headers: dict[bytes, list[bytes]] = {}
        for name, value in scope["headers"]:
            headers.setdefault(name.lower(), []).append(value)
        one = {name: values[0].decode("latin-1") for name, values in headers.items()}
        hosts = headers.get(b"host", [])
        if len(hosts) != 1 or one[b"host"].lower() not in self._hosts:
            return Problem("Wrong host", 421, "this server answers only to the names it was started with")
        is_socket = scope["type"] == "websocket"
        origin = one.get(b"origin")
        if len(headers.get(b"origin", [])) > 1 or (origin is not None and origin.lower() not in self._origins):
            return Problem("Other origin", 403, "pages of other origins may not ask this server")
        site = one.get(b"sec-fetch-site", "none")
        if site not in ("same-origin", "none") and not _is_link(scope, one):
            return Problem("Other site", 403, "pages of other sites may not ask this server")
        if is_socket or not scope["path"].startswith("/api") or scope["path"] in OPEN_PATHS:
            return None  # a socket sends its token as the first message: a browser can set no header for it
        given = one.get(b"authorization", "")
        if not given.lower().startswith("bearer ") or not self.is_token(given[7:].strip()):
            return Problem(
                "No token",
                401,
                "send the token of this server as `Authorization: Bearer TOKEN`: the one of --token-file, else that in "
                "_server/PORT.json of the sessions folder",
            )
        length = one.get(b"content-length", "0")
        if not length.isdecimal() or int(length) > MOST_BODY_BYTES:
            return too_large()
        return None


def _is_link(scope: Scope, headers: dict[bytes, str]) -> bool:
    """Return whether a request follows a link from another site to the page itself, which has no content."""
    return (
        scope["type"] == "http"
        and scope["method"] == "GET"
        and not scope["path"].startswith("/api")
        and headers.get(b"sec-fetch-mode") == "navigate"
        and headers.get(b"sec-fetch-dest") == "document"
    )
