"""Which logs changed: heads are listed, and watches poll from time to time."""

import os
import threading
import time
from weakref import WeakSet

from eventstore.backends.objectstore.head import is_head
from eventstore.backends.objectstore.keys import HEADS, TRASHED, log_of
from eventstore.backends.objectstore.places import Places
from eventstore.ids import TRASH
from eventstore.log.base import Changes
from eventstore.log.watch import Bell


class Feed:
    """What one handle knows of the heads of a store. One request lists up to 1,000 of them."""

    def __init__(self, places: Places, poll_seconds: float) -> None:
        self._places, self._poll_seconds = places, poll_seconds
        self._name, self._number = os.urandom(8).hex(), 0
        self._texts: dict[str, str] = {}
        self._changes: dict[str, int] = {}
        self._looking = threading.Lock()
        self._bells: WeakSet[PollingWatch] = WeakSet()

    def changed(self, since: str | None) -> Changes:
        """List the heads, and return what changed since a token of this handle; all logs for any other token. Raises Refused."""
        with self._looking:
            now = self._list()
            self._number += 1
            for name in self._texts.keys() | now.keys():
                if self._texts.get(name) != now.get(name):
                    self._changes[name] = self._number
            self._texts = now
            token = f"{self._name}:{self._number}"
            name, _, number = (since or "").partition(":")
            if name != self._name or not number.isdecimal():
                return Changes(list(now.items()), token, complete=True)
            logs: list[tuple[str, str | None]] = [
                (one, now.get(one)) for one, at in self._changes.items() if at > int(number)
            ]
            return Changes(logs, token, complete=False)

    def _list(self) -> dict[str, str]:
        found: dict[str, str] = {}
        for one in self._places.objects.listing(HEADS):
            log, state = log_of(one.key), is_head(one.size)
            if state or (state is None and self._places.find(log).head is not None):
                found[log] = one.tag
        return found

    def trashed(self) -> list[str]:
        """List the logs in the trash, without `_trash/`. Raises Refused."""
        found: list[str] = []
        for one in self._places.objects.listing(TRASHED):
            log, state = log_of(one.key), is_head(one.size)
            if state or (state is None and self._places.find(log).head is not None):
                found.append(log.removeprefix(TRASH))
        return sorted(found)

    def ring(self, log: str) -> None:
        """Notify the watches in this process that a log changed."""
        for bell in list(self._bells):
            if bell.log in (None, log):
                bell.ring({log})

    def watch(self, log: str | None) -> "PollingWatch":
        """Watch one log, or all."""
        watch = PollingWatch(log, self._poll_seconds)
        self._bells.add(watch)
        return watch


class PollingWatch(Bell):
    """A watch that reports from time to time that any log may have changed: the waiting caller then checks, in one request."""

    def __init__(self, log: str | None, poll_seconds: float) -> None:
        super().__init__()
        self.log, self._poll_seconds = log, poll_seconds
        self._next = time.monotonic() + poll_seconds

    def wait(self, seconds: float) -> set[str] | None:
        rest = max(self._next - time.monotonic(), 0)
        found = super().wait(min(seconds, rest))
        if not found and found is not None and time.monotonic() >= self._next:
            found = None
        if found is None or rest == 0:
            self._next = time.monotonic() + self._poll_seconds
        return found
