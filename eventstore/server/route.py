"""A route of the API: its path, what it takes, what it answers, and the function that does it in a thread."""

import re
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import Any, Literal, TypeAlias

import msgspec
from starlette.datastructures import Headers
from starlette.requests import HTTPConnection

from eventstore.server.jobs import Jobs
from eventstore.server.problems import Refusal
from eventstore.sessions.manager import SessionManager

PREFIX = "/api/v1"
EVENTS = ("text/event-stream",)
Header: TypeAlias = Literal["Idempotency-Key", "If-Match"]
"""A header that changes what a request does. A route refuses one that it cannot honour."""

_CONDITIONS: tuple[Header, ...] = ("Idempotency-Key", "If-Match")
_VERSION = re.compile(r'"?([0-9]{1,15})"?', re.ASCII)


class NoQuery(msgspec.Struct, forbid_unknown_fields=True):
    """No parameters."""


class NoBody(msgspec.Struct, forbid_unknown_fields=True):
    """An empty object."""


@dataclass(frozen=True)
class Context:
    """What routes work on."""

    manager: SessionManager
    jobs: Jobs
    writable: bool = False


@dataclass(frozen=True)
class Request:
    """A request: the parts of its path, its parameters, its body, and the headers that matter."""

    path: Mapping[str, str]
    query: Any
    body: Any = None
    key: str | None = None
    expected_version: int | None = None

    @property
    def session_id(self) -> str:
        """The session that the path names."""
        return self.path["session_id"]


@dataclass(frozen=True)
class Route:
    """One route. `query`, `body` and `result` are types that msgspec knows; the OpenAPI document is made from them.

    A route whose answer is not JSON has media types in `media`, and no `result`. `headers` are those that it honours.
    """

    method: Literal["GET", "POST", "DELETE"]
    path: str
    run: Callable[..., Any]
    query: type = NoQuery
    body: type | None = None
    result: Any = dict[str, Any]
    headers: tuple[Header, ...] = ()
    status: int = 200
    media: tuple[str, ...] = ()

    @property
    def summary(self) -> str:
        """What it does: the first line of its function."""
        return (self.run.__doc__ or "").strip().partition("\n")[0]


def read_conditions(route: Route, given: Headers) -> tuple[str | None, int | None]:
    """Read the idempotency key and the expected version of a request, None where it has none.

    `given` are its headers, their names in any case. Raises Refusal for a header that the route cannot honour, because the client
    relies on it.
    """
    for name in _CONDITIONS:
        if name in given and name not in route.headers:
            honoured = " and ".join(route.headers) or "neither Idempotency-Key nor If-Match"
            reason = f"{route.method} {route.path} does not take {name}; nothing was done: it takes {honoured}"
            raise Refusal(422, reason, "Wrong header")
        if len(given.getlist(name)) > 1:
            raise Refusal(422, f"{name} is given more than once; nothing was done: send one", "Wrong header")
    key, version = given.get("Idempotency-Key"), given.get("If-Match")
    # An empty one is the key of all clients that forgot theirs: the second append would be no more than a repeat.
    if key is not None and not key.strip():
        raise Refusal(
            422, "Idempotency-Key is empty; nothing was done: send a text of your own for each append", "Wrong header"
        )
    expected = None if version is None else _VERSION.fullmatch(version.strip())
    if version is not None and expected is None:
        raise Refusal(422, 'If-Match holds no version, such as "12"; nothing was done', "Wrong argument")
    return key, int(expected[1]) if expected else None


def query_of(request: HTTPConnection) -> dict[str, list[str]]:
    """Return the parameters of a request's URL."""
    found: dict[str, list[str]] = {}
    for name, value in request.query_params.multi_items():
        found.setdefault(name, []).append(value)
    return found


@dataclass
class Routes:
    """The routes of one subject, filled by decorators."""

    found: list[Route] = field(default_factory=list)

    def get(self, path: str, **given: Any) -> Callable[[Any], Any]:
        """Add a route that reads."""
        return self._add("GET", path, given)

    def post(self, path: str, **given: Any) -> Callable[[Any], Any]:
        """Add a route that does something."""
        return self._add("POST", path, given)

    def delete(self, path: str, **given: Any) -> Callable[[Any], Any]:
        """Add a route that ends something."""
        return self._add("DELETE", path, given)

    def _add(self, method: Any, path: str, given: dict[str, Any]) -> Callable[[Any], Any]:
        def add(run: Any) -> Any:
            self.found.append(Route(method, PREFIX + path, run, **given))
            return run

        return add
