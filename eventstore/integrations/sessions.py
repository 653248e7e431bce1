"""Sessions of other programs: found by their names, and appended to by what they hold."""

import asyncio
from collections.abc import Awaitable, Callable, Iterator, Sequence, Set
from typing import Any, TypeVar, cast

from eventstore.errors import SessionNotFound, VersionConflict
from eventstore.events import Event, SessionCreated
from eventstore.log.base import Appended
from eventstore.sessions.manager import SessionManager
from eventstore.sessions.records import item_of
from projections.models import SessionMetadata

R = TypeVar("R")


def version_of(manager: SessionManager, session_id: str) -> int:
    """Return the version of a session; 0 if there is none. Raises LogDamaged."""
    try:
        return manager.head(session_id).version
    except SessionNotFound:
        return 0


def append_decided(
    manager: SessionManager,
    session_id: str,
    decide: Callable[[int], Sequence[Event] | None],
    create: SessionCreated | None = None,
) -> Appended | None:
    """Append the events that `decide` returns for a version of the session, and for no other version.

    `decide` is called again where another writer was faster. It is given 0 if there is no session: then `create` begins one.
    None or no events: nothing is appended. Raises what `decide` and `SessionManager.append` raise.
    """
    while True:
        version = version_of(manager, session_id)
        events = decide(version)
        if not events:
            return None
        if not version and create is None:
            raise SessionNotFound(session_id)
        try:
            return manager.append(session_id, events, create=create, expected_version=version)
        except VersionConflict:
            continue
        except SessionNotFound:  # deleted since its version was read
            if create is None:
                raise


def sessions_named(
    manager: SessionManager, prefix: str, tags: Sequence[str] | None = None
) -> Iterator[SessionMetadata]:
    """Stream the sessions whose external key begins with `prefix`, the last updated first."""
    cursor = None
    while True:
        page = manager.page_sessions(external_prefix=prefix, tags=tags, limit=1_000, cursor=cursor)
        yield from page.sessions
        cursor = page.cursor
        if cursor is None:
            return


def stored_keys(manager: SessionManager, session_id: str, stream: str, at: int | None = None) -> Set[str]:
    """Return the keys of a stream whose records all have one, in order, without reading them. Raises SessionNotFound."""
    return cast("Set[str]", manager.storage.records(session_id, at).streams.get(stream, {}).keys())


def stored_values(manager: SessionManager, session_id: str, stream: str, at: int | None = None) -> Callable[[str], Any]:
    """Return what gives the value of a key of a stream, None for one that is not there, all of the same moment.

    Only values that are asked for are read. Raises SessionNotFound.
    """
    entries = manager.storage.records(session_id, at).streams.get(stream, {})

    def value_of(key: str) -> Any:
        entry = entries.get(key)
        return None if entry is None else item_of(manager.storage, session_id, stream, entry).value

    return value_of


def key_of(*parts: str) -> str:
    """Join names of any text to one external key, so that no two lists of names give the same.

    `/` parts them; in a part `%` and `/` are written as `%25` and `%2F`.
    """
    return "/".join(part.replace("%", "%25").replace("/", "%2F") for part in parts)


def parts_of(external_key: str) -> list[str]:
    """Split a key made by `key_of`."""
    return [part.replace("%2F", "/").replace("%25", "%") for part in external_key.split("/")]


async def finish(work: Awaitable[R]) -> R:
    """Await a change to its end, also if the caller is cancelled in the meantime: a thread cannot be stopped half way."""
    task = asyncio.ensure_future(work)
    try:
        return await asyncio.shield(task)
    except asyncio.CancelledError:
        await asyncio.wait([task])
        raise
