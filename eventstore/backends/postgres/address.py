"""The address of a store in PostgreSQL: a URL, parsed into a connection and the schema of the tables."""

import re
from dataclasses import dataclass, field
from urllib.parse import parse_qsl, quote, urlencode, urlsplit

from eventstore.errors import InvalidSetting
from eventstore.ids import Fsync

_SCHEMA = re.compile(r"[a-z_][a-z0-9_]{0,47}")
_LEVELS: dict[str, Fsync] = {"always": "always", "everysec": "everysec", "no": "no"}
_OURS = ("schema", "fsync", "timeout", "connections")
_DEFAULT_TIMEOUT_SECONDS, _DEFAULT_CONNECTIONS = 30.0, 8
_WANTED = {
    "application_name": "eventstore",
    "connect_timeout": "10",
    "keepalives_count": "3",
    "keepalives_idle": "30",
    "keepalives_interval": "10",
    "target_session_attrs": "read-write",  # a replica with a delay would look like a log that was rolled back
}
_ALLOWED = "postgresql://[user[:password]@]host[:port]/database?schema=name&fsync=always&timeout=30&connections=8"


@dataclass(frozen=True)
class Address:
    """A store in PostgreSQL. `conninfo` is the argument for libpq, with the password; it is in no repr and no error.

    `timeout` is in seconds: how long an answer may take before the connection is closed.
    """

    conninfo: str = field(repr=False)
    shown: str
    schema: str
    fsync: Fsync
    timeout: float
    connections: int


def parse_address(url: str, *, fsync: Fsync | None = None) -> Address:
    """Read a URL. The query may have parameters of libpq, and `schema`, `fsync`, `timeout`, `connections` of eventstore.

    Several hosts, `host1:port,host2:port`, are the servers of one database: the one that accepts writes is used.
    `fsync` is the durability if the URL names none. Raises InvalidSetting, which shows no password.
    """
    try:
        parts = urlsplit(url)
        place = _place(parts.netloc.rpartition("@")[2])
        query = dict(parse_qsl(parts.query, keep_blank_values=True, strict_parsing=bool(parts.query)))
    except ValueError:
        raise InvalidSetting("store URL", "a URL that cannot be read", _ALLOWED) from None
    given = {name: query.pop(name) for name in _OURS if name in query}
    schema = given.get("schema", "eventstore")
    if not _SCHEMA.fullmatch(schema) or schema.startswith("pg_"):
        raise InvalidSetting("schema", schema, "a lower-case name of at most 48 letters, digits and _")
    level = _LEVELS.get(given.get("fsync", fsync or "always"))
    if level is None:
        raise InvalidSetting("fsync", given["fsync"], "always, everysec or no")
    timeout = _number(given, "timeout", _DEFAULT_TIMEOUT_SECONDS)
    query = {**_WANTED, "tcp_user_timeout": str(int(timeout * 1000)), **query}
    conninfo = f"postgresql://{parts.netloc}{parts.path}?{urlencode(query, quote_via=quote)}"
    return Address(
        conninfo,
        f"postgresql://{place}{parts.path}?schema={schema}",
        schema,
        level,
        timeout,
        int(_number(given, "connections", _DEFAULT_CONNECTIONS)),
    )


def _place(hosts: str) -> str:
    """Return the hosts of a URL as errors show them: one, or several separated by commas. Raises ValueError."""
    found = []
    for one in hosts.split(","):
        parts = urlsplit(f"//{one}")
        host, port = parts.hostname or "", parts.port
        found.append(f"{f'[{host}]' if ':' in host else host}{f':{port}' if port else ''}")
    return ",".join(found)


def _number(given: dict[str, str], name: str, default: float) -> float:
    text = given.get(name)
    if text is None:
        return default
    try:
        found = float(text)
    except ValueError:
        found = 0.0
    if not 1 <= found <= 100_000:
        raise InvalidSetting(name, text, "a number from 1 to 100000")
    return found
