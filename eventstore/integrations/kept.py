"""What a framework asks for again and again: lists of sessions of which only what changed is read again, and values."""

import threading
from collections import OrderedDict
from collections.abc import Callable, Hashable
from typing import Generic, TypeVar

from eventstore.errors import LogDamaged, SessionNotFound
from eventstore.ids import STORE_ID, TEMPLATE
from eventstore.integrations.sessions import sessions_named
from eventstore.sessions.manager import SessionManager
from eventstore.store.pages import warn_damaged

K = TypeVar("K", bound=Hashable)
T = TypeVar("T")
_MOST_BYTES = 32 * 1024 * 1024
_MOST_SESSIONS, _MOST_NAMES = 50_000, 100_000
_MANY = 1_000  # sessions that are new: the catalogue knows their names at once


class _Entry(Generic[T]):
    """What was made of a session, None if it is to be made again; `text` differs if the session's log does."""

    __slots__ = ("made", "text")

    def __init__(self, made: T | None, text: str | None = None) -> None:
        self.made, self.text = made, text


class KeptLists(Generic[T]):
    """What `make` makes of each session whose external key begins with a text. Safe for threads.

    `make` is given the id and the external key of a session, and called again when its log has changed, whoever wrote.
    It raises SessionNotFound for one that is not there. At most 50,000 results are kept.
    """

    def __init__(self, manager: SessionManager, make: Callable[[str, str], T]) -> None:
        self._manager, self._make = manager, make
        self._lists: OrderedDict[str, dict[str, _Entry[T]]] = OrderedDict()
        self._externals: dict[str, str] = {}
        self._token: str | None = None
        self._mutex = threading.Lock()

    def of(self, prefix: str, tag: str | None = None) -> list[T]:
        """Return what is made of the sessions with this beginning of their external keys, in no particular order.

        `tag` is one that all of them have, if any. Damaged sessions are left out, with a warning.
        """
        with self._mutex:
            texts = self._look()
            entries = self._lists.pop(prefix, None)
            if entries is None:
                entries = {}
                for one in sessions_named(self._manager, prefix, tag and [tag]):
                    self._externals[one.session_id] = one.external_key or ""
                    entries[one.session_id] = _Entry(None, texts.get(one.session_id))
            found = []
            for session_id, entry in list(entries.items()):
                try:
                    if entry.made is None:
                        entry.made = self._make(session_id, self._externals[session_id])
                    found.append(entry.made)
                except SessionNotFound:  # deleted in the meantime
                    del entries[session_id]
                except LogDamaged as damage:  # as every list does
                    warn_damaged(damage)
            self._lists[prefix] = entries
            while sum(map(len, self._lists.values())) > _MOST_SESSIONS:
                self._lists.popitem(last=False)
            if len(self._externals) > _MOST_NAMES:
                self._clear()
            return found

    def _look(self) -> dict[str, str | None]:
        """Learn which logs changed, and return their texts. What is appended from here on, the next look reports."""
        changes = self._manager.storage.log.changed(self._token)
        logs = {name: text for name, text in changes.logs if name != STORE_ID and not name.startswith(TEMPLATE)}
        if changes.complete:
            logs.update((name, None) for name in self._externals.keys() - logs.keys())
        new = [name for name, text in logs.items() if text is not None and name not in self._externals]
        if self._token is None or len(new) > _MANY:
            self._clear()
        self._token = changes.token
        if not self._lists:
            return logs
        self._externals.update((name, self._external(name)) for name in new)
        for name, text in logs.items():
            external = self._externals.get(name, "") if text is not None else self._externals.pop(name, "")
            for prefix, entries in self._lists.items():
                entry = entries.get(name)
                if text is None:
                    entries.pop(name, None)
                elif entry is None and external.startswith(prefix):
                    entries[name] = _Entry(None, text)
                elif entry is not None and entry.text != text:
                    entry.made, entry.text = None, text
        return logs

    def _external(self, session_id: str) -> str:
        try:
            return self._manager.storage.metadata(session_id).external_key or ""
        except (SessionNotFound, LogDamaged):
            return ""

    def _clear(self) -> None:
        self._lists.clear()
        self._externals.clear()


class KeptValues(Generic[K, T]):
    """The values put last, at most 32 MB of them. Safe for threads. `size_of` gives the bytes of a value."""

    def __init__(self, size_of: Callable[[T], int]) -> None:
        self._size_of = size_of
        self._kept: OrderedDict[K, T] = OrderedDict()
        self._bytes = 0
        self._mutex = threading.Lock()

    def get(self, key: K) -> T | None:
        """Return the value of a key, or None."""
        with self._mutex:
            return self._kept.get(key)

    def put(self, key: K, value: T) -> None:
        """Keep a value, instead of an older one of that key."""
        with self._mutex:
            old = self._kept.pop(key, None)
            self._kept[key] = value
            self._bytes += self._size_of(value) - (0 if old is None else self._size_of(old))
            while self._bytes > _MOST_BYTES:
                _, gone = self._kept.popitem(last=False)
                self._bytes -= self._size_of(gone)
