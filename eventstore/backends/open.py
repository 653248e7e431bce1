"""Backends by URL. A new storage engine is a new line in `SCHEMES`."""

from collections.abc import Callable
from typing import NamedTuple
from urllib.parse import urlsplit

from eventstore.errors import ExtraMissing, InvalidSetting
from eventstore.ids import Fsync
from eventstore.log.port import Backend

URL = "the URL of a store"
"""The name, in errors, of the setting that a URL came from."""


class Scheme(NamedTuple):
    """How a store with such a URL is opened, and the extra of the distribution that it needs.

    `open` receives the URL, and the durability for a URL that names none. It imports what it needs itself.
    """

    extra: str
    what: str
    open: Callable[[str, Fsync | None], Backend]


def _open_postgres(url: str, fsync: Fsync | None) -> Backend:
    from eventstore.backends.postgres.address import parse_address
    from eventstore.backends.postgres.backend import PostgresBackend

    return PostgresBackend(parse_address(url, fsync=fsync))


def _open_objects(url: str, fsync: Fsync | None) -> Backend:
    from eventstore.backends.objectstore.address import open_objects

    return open_objects(url)


_OBJECTS = Scheme("objects", "a store in object storage", _open_objects)
_POSTGRES = Scheme("postgres", "a store in PostgreSQL", _open_postgres)
SCHEMES: dict[str, Scheme] = {
    "postgres": _POSTGRES,
    "postgresql": _POSTGRES,
    "s3": _OBJECTS,
    "az": _OBJECTS,
    "gs": _OBJECTS,
}
"""The schemes of engines. `file:` and `memory:` are not here: their stores have more than a backend."""


def open_backend(url: str, *, fsync: Fsync | None = None) -> Backend:
    """Open the backend that a URL names. No connection is made yet. Raises InvalidSetting, ExtraMissing."""
    name = scheme_of(url)
    scheme = SCHEMES.get(name)
    if scheme is None:
        raise InvalidSetting(URL, shown(url), _known())
    try:
        return scheme.open(url, fsync)
    except ImportError as error:
        if (error.name or "").partition(".")[0] == "eventstore":
            raise
        raise ExtraMissing(scheme.extra, scheme.what) from None


def scheme_of(url: str) -> str:
    """Return the scheme of a URL in lower case; empty if it has none, like a path."""
    name, colon, _ = url.partition(":")
    is_scheme = name.isascii() and name[:1].isalpha() and name.replace("+", "").replace("-", "").isalnum()
    return name.lower() if colon and is_scheme else ""


def is_url(text: str) -> bool:
    """Return whether a text names a store by URL, not by the path of a folder."""
    return "://" in text or scheme_of(text) in {"memory", "file", *SCHEMES}


def shown(url: str) -> str:
    """Return a URL without its user, password and query, so that it can be shown."""
    try:
        parts = urlsplit(url)
        host, port = parts.hostname or "", parts.port
    except ValueError:
        return f"{scheme_of(url)}:"
    return f"{parts.scheme}://{host}{f':{port}' if port else ''}{parts.path}"


def _known() -> str:
    """List the schemes that can be opened, with the extra that each needs."""
    extras: dict[str, list[str]] = {}
    for name, scheme in SCHEMES.items():
        extras.setdefault(scheme.extra, []).append(f"{name}:")
    listed = [f"{', '.join(names)} (install the extra `{extra}`)" for extra, names in extras.items()]
    return f"a URL that begins with one of file:, memory:, {', '.join(listed)}"
