"""Sessions of other programs: found by their names, and appended to by what they hold."""

import asyncio
from collections.abc import Callable, Iterator, Sequence, Set
from itertools import islice
from typing import Any, ParamSpec, TypeVar, cast

from eventstore.errors import SessionNotFound, VersionConflict
from eventstore.events import Event, SessionCreated
from eventstore.log.base import BEGINNING, Appended, Head
from eventstore.sessions.async_manager import AsyncSessionManager
from eventstore.sessions.manager import SessionManager
from eventstore.sessions.records import Item, item_of, text_of, value_of, values_of
from projections.models import SessionMetadata
from projections.records import Entry, Place, State

P = ParamSpec("P")
R = TypeVar("R")
_AT_ONCE = 10_000  # each page asks which logs changed


def manager_of(given: SessionManager | AsyncSessionManager) -> SessionManager:
    """Return the manager that an integration was given, or that of one for asyncio. Raises TypeError for anything else."""
    manager = given.manager if isinstance(given, AsyncSessionManager) else given
    if not isinstance(manager, SessionManager):
        raise TypeError(f"manager is a {type(manager).__name__}, not a SessionManager")
    return manager


class Stored:
    """The streams of a session as they are at one version, read once; nothing at version 0, where there is no session.

    Values are decoded when they are asked for.
    """

    def __init__(self, manager: SessionManager, session_id: str, state: State, head: Head = BEGINNING) -> None:
        self._storage, self._session_id, self._state = manager.storage, session_id, state
        self.head = head
        """The end of the log at that version; its size is not always known."""

    @property
    def version(self) -> int:
        """The version of the session."""
        return self._state.version

    def streams(self, prefix: str = "") -> Sequence[str]:
        """Return the names of the streams that hold anything and begin with a text."""
        return [name for name in self._state.streams if name.startswith(prefix)]

    def has(self, stream: str) -> bool:
        """Return whether a stream holds anything."""
        return stream in self._state.streams

    def keys(self, stream: str) -> Set[str]:
        """Return the keys of a stream whose records all have one, in order, without reading them."""
        return cast("Set[str]", self.entries(stream).keys())

    def entries(self, stream: str) -> dict[Place, Entry]:
        """Return the entries of a stream in order, without reading their values. Do not change it."""
        return self._state.streams.get(stream, {})

    def get(self, stream: str, key: str) -> Item | None:
        """Return the item of a key, or None. Raises SessionNotFound, LogDamaged."""
        entry = self.entries(stream).get(key)
        return None if entry is None else self.item(stream, entry)

    def value(self, stream: str, key: str) -> Any:
        """Return the value of a key; None if it is not there. Raises SessionNotFound, LogDamaged."""
        entry = self.entries(stream).get(key)
        return None if entry is None else value_of(self._storage, self._session_id, entry)

    def values(self, stream: str, newest: int | None = None) -> list[Any]:
        """Return the values of a stream in order, at most the `newest` ones. Raises SessionNotFound, LogDamaged."""
        entries = list(islice(reversed(self.entries(stream).values()), newest))
        return values_of(self._storage, self._session_id, entries[::-1])

    def item(self, stream: str, entry: Entry) -> Item:
        """Return an entry of a stream with its value. Raises SessionNotFound, LogDamaged."""
        return item_of(self._storage, self._session_id, stream, entry)

    def text(self, entry: Entry) -> bytes:
        """Return the value of an entry as JSON. Raises SessionNotFound, LogDamaged."""
        return text_of(self._storage, self._session_id, entry)

    def list(self, stream: str) -> list[Item]:
        """Return the items of a stream in order. Raises SessionNotFound, LogDamaged."""
        return [self.item(stream, one) for one in self.entries(stream).values()]

    def last(self, stream: str) -> Item | None:
        """Return the last item of a stream; None if it is empty. Raises SessionNotFound, LogDamaged."""
        entry = next(reversed(self.entries(stream).values()), None)
        return None if entry is None else self.item(stream, entry)


def stored(manager: SessionManager, session_id: str, head: Head | None = None) -> Stored:
    """Return what the streams of a session hold now. Raises SessionNotFound, LogDamaged.

    `head` is that of an earlier answer, for a caller who knows that the log did not change since: it is not read then.
    """
    found = manager.storage.records_to(session_id, head)
    return Stored(manager, session_id, found.state, found.head)


def stored_or_nothing(manager: SessionManager, session_id: str) -> Stored:
    """Return what the streams of a session hold now; nothing, at version 0, where there is none. Raises LogDamaged."""
    try:
        return stored(manager, session_id)
    except SessionNotFound:
        return Stored(manager, session_id, State())


def append_decided(
    manager: SessionManager,
    session_id: str,
    decide: Callable[[Stored], Sequence[Event] | None],
    create: SessionCreated | None = None,
) -> Appended | None:
    """Append the events that `decide` returns for what is stored, and for no other version of the session.

    `decide` is called again where another writer was faster. Version 0 means that there is no session: then `create` begins one.
    None or no events: nothing is appended. Raises what `decide` and `SessionManager.append` raise.
    """
    while True:
        now = stored_or_nothing(manager, session_id)
        events = decide(now)
        if not events:
            return None
        if not now.version and create is None:
            raise SessionNotFound(session_id)
        try:
            return manager.append(session_id, events, create=create, expected_version=now.version)
        except VersionConflict:
            continue
        except SessionNotFound:  # deleted since it was read
            if create is None:
                raise


def sessions_named(
    manager: SessionManager, prefix: str, tags: Sequence[str] | None = None
) -> Iterator[SessionMetadata]:
    """Stream the sessions whose external key begins with `prefix`, the last updated first."""
    cursor = None
    while True:
        page = manager.page_sessions(external_prefix=prefix, tags=tags, limit=_AT_ONCE, cursor=cursor)
        yield from page.sessions
        cursor = page.cursor
        if cursor is None:
            return


def key_of(*parts: str) -> str:
    """Join names of any text to one external key, so that no two lists of names give the same.

    `/` parts them; in a part `%` and `/` are written as `%25` and `%2F`. Raises ValueError if one is not text.
    """
    try:
        joined = "/".join(parts)
    except TypeError:
        wrong = next(part for part in parts if not isinstance(part, str))
        raise ValueError(
            f"{wrong!r} is a {type(wrong).__name__}, not text: names of sessions and users, and parts of keys, are texts; "
            "nothing was done"
        ) from None
    if "%" not in joined and joined.count("/") == len(parts) - 1:
        return joined
    return "/".join(part.replace("%", "%25").replace("/", "%2F") for part in parts)


def parts_of(external_key: str) -> list[str]:
    """Split a key made by `key_of`."""
    if "%" not in external_key:
        return external_key.split("/")
    return [part.replace("%2F", "/").replace("%25", "%") for part in external_key.split("/")]


async def finish(change: Callable[P, R], *given: P.args, **named: P.kwargs) -> R:
    """Make a change in a thread, and await its end however often the caller is cancelled: a thread cannot be stopped half way.

    So no change is made after the call that made it has ended, and none is written over a later one.
    """
    task = asyncio.ensure_future(asyncio.to_thread(change, *given, **named))
    cancelled: asyncio.CancelledError | None = None
    while not task.done():
        try:
            await asyncio.wait([task])
        except asyncio.CancelledError as error:  # anyio cancels again until the scope is left
            cancelled = error
    if cancelled is None:
        return task.result()
    if not task.cancelled():
        task.exception()  # asked for, or the loop reports it
    raise cancelled
