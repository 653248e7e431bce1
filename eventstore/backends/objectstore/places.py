"""The names of logs and the objects at them: heads, cached in memory by version, and names that are being moved.

A move has three steps. 1. The head is written at the new name as a reserved head. 2. The old head becomes a tombstone
with the new name; this step decides. 3. The reserved head becomes a head. After a crash, the tombstone decides what is
valid.
"""

import errno
import threading
from collections import OrderedDict
from dataclasses import replace
from typing import NamedTuple

from eventstore.backends.objectstore.head import Broken, Head, Tombstone, parse
from eventstore.backends.objectstore.keys import head_key, life_prefix
from eventstore.backends.objectstore.objects import Found, Lost, Objects, Version
from eventstore.log.port import Exists, Missing, Moved, Refused, Tip

_ATTEMPTS = 100


class Place(NamedTuple):
    """The object at a name: the head of the log there, None for no log; its content; its version, None for no object."""

    head: Head | None
    content: Head | Tombstone
    version: Version | None


class Places:
    """The heads of one store. Every change of one goes through `swap`."""

    def __init__(self, objects: Objects, cache_bytes: int) -> None:
        self.objects = objects
        self._cache_bytes = cache_bytes
        self._cached: OrderedDict[str, tuple[Head, Version, int]] = OrderedDict()
        self._size = 0
        self._mutex = threading.Lock()

    # --- reading

    def known(self, log: str) -> Place | None:
        """Return what was last read at a name; None if that is not known."""
        with self._mutex:
            found = self._cached.get(log)
            if found is None:
                return None
            self._cached.move_to_end(log)
            return Place(found[0], found[0], found[1])

    def find(self, log: str) -> Place:
        """Read the object at a name. Raises Refused."""
        known = self.known(log)
        if known is None or known.version is None:
            return self.judge(log, self.objects.get(head_key(log)))
        found = self.objects.get_new(head_key(log), known.version)
        return known if found is True else self.judge(log, found)

    def head(self, log: str) -> Head:
        """Return the head of a log. Raises Missing, Refused."""
        head = self.find(log).head
        if head is None:
            raise Missing(log)
        return head

    def judge(self, log: str, found: Found | None) -> Place:
        """Return the meaning of an object at a name."""
        self.forget(log)
        if found is None:
            return Place(None, Tombstone(), None)
        content = self._parse(log, found)
        if isinstance(content, Tombstone):
            return Place(None, content, found.version)
        if content.reserved:
            if not self._has_moved(content.reserved, log, content.base):
                return Place(None, content, found.version)
            content = replace(content, reserved="")
        self._keep(log, content, found.version, len(found.data))
        return Place(content, content, found.version)

    def _parse(self, log: str, found: Found) -> Head | Tombstone:
        try:
            return parse(found.data)
        except Broken:
            raise Refused(
                self.objects.where(head_key(log)), errno.EBADMSG, "this version cannot read this head"
            ) from None

    def _has_moved(self, log: str, to: str, base: str) -> bool:
        """Check whether a log was moved to a name, by its tombstone."""
        found = self.objects.get(head_key(log))
        content = None if found is None else self._parse(log, found)
        return isinstance(content, Tombstone) and (content.to, content.life) == (to, base)

    def forget(self, log: str) -> None:
        """Forget a name: the next call reads it again."""
        with self._mutex:
            _, _, size = self._cached.pop(log, (None, None, 0))
            self._size -= size

    def _keep(self, log: str, head: Head, version: Version, size: int) -> None:
        with self._mutex:
            _, _, before = self._cached.pop(log, (None, None, 0))
            self._cached[log] = head, version, size
            self._size += size - before
            while self._size > self._cache_bytes:
                _, (_, _, size) = self._cached.popitem(last=False)
                self._size -= size

    # --- changing

    def swap(self, log: str, content: Head | Tombstone, expect: Version | None) -> Version:
        """Write the object at a name. Raises Lost, Refused, Unclear."""
        data = content.render()
        try:
            version = self.objects.swap(head_key(log), data, expect)
        except (Lost, Refused):
            self.forget(log)
            raise
        if isinstance(content, Head) and not content.reserved:
            self._keep(log, content, version, len(data))
        else:
            self.forget(log)
        return version

    def create(self, log: str, head: Head) -> None:
        """Write the head of a new log. Raises Exists, Refused, Unclear."""
        place = Place(None, Tombstone(), None)  # a new name is written without reading first
        for _ in range(_ATTEMPTS):
            try:
                place = self._vacate(log, place)
                self.swap(log, head, place.version)
            except Lost as lost:
                place = self.judge(log, lost.found) if lost.key == head_key(log) else self.find(log)
                if place.head is not None:
                    raise Exists(log) from None
            else:
                return
        raise self._busy(log)

    def remove(self, log: str, expect: Tip | None) -> bool:
        """Delete a log and everything that belongs to it; return False if there was none. Raises Moved, Refused, Unclear."""
        place = self.find(log)
        for _ in range(_ATTEMPTS):
            if place.head is None:
                self._clean(log, place)
                return False
            if expect is not None and not place.head.ends_at(expect):
                raise Moved(log)
            grave = Tombstone(place.head.base)
            try:
                version = self.swap(log, grave, place.version)
            except Lost as lost:
                place = self.judge(log, lost.found)
                if lost.unclear and (place.head is None or place.head.base != grave.life):
                    self._clean(log, place)
                    return (
                        True  # it was removed, by this attempt or another one, and the log there now is a different one
                    )
                continue
            self._clean(log, Place(None, grave, version))
            return True
        raise self._busy(log)

    def move(self, log: str, to: str, expect: Tip | None) -> None:
        """Move a log to another name. Raises Missing, Exists, Moved, Refused, Unclear."""
        for _ in range(_ATTEMPTS):
            try:
                target = self.find(to)
                if target.head is not None:
                    raise Exists(to)
                target = self._vacate(to, target)
                place = self.find(log)  # after that: it may have rewritten the log
                if place.head is None:
                    raise Missing(log)
                if expect is not None and not place.head.ends_at(expect):
                    raise Moved(log)
                reserved = self.swap(to, replace(place.head, reserved=log), target.version)
                self.swap(log, Tombstone(place.head.base, to), place.version)
            except Lost:
                continue
            self._settle_reserved(to, place.head, reserved)
            return
        raise self._busy(log)

    def _settle_reserved(self, log: str, head: Head, version: Version) -> None:
        try:
            self.swap(log, head, version)
        except (Lost, Refused):  # another process did it or will do it: the tombstone has decided
            self.forget(log)

    def _vacate(self, log: str, place: Place) -> Place:
        """Make a name without a log writable, and return the object there. Raises Lost, Refused."""
        content = place.content
        if isinstance(content, Head):
            self._break(content.reserved, content.base)
            return place
        if content.to:
            self._complete(log, content)
            return place
        return self._clean(log, place)

    def _break(self, source: str, base: str) -> None:
        """Make sure that an interrupted move that reserved a name never continues: rewrite its log."""
        place = self.find(source)
        if place.head is not None and place.head.base == base:
            self.swap(source, place.head, place.version)

    def _complete(self, log: str, grave: Tombstone) -> None:
        """Turn the reserved head of a moved log into a head, before the tombstone that decides about it is removed."""
        found = self.objects.get(head_key(grave.to))
        content = None if found is None else self._parse(grave.to, found)
        if found is not None and isinstance(content, Head) and (content.reserved, content.base) == (log, grave.life):
            self.swap(grave.to, replace(content, reserved=""), found.version)

    def _clean(self, log: str, place: Place) -> Place:
        """Delete the remains of a deleted log. Raises Refused."""
        grave = place.content
        if not isinstance(grave, Tombstone) or not grave.life or grave.to:
            return place
        self.objects.delete([one.key for one in self.objects.listing(life_prefix(grave.life))])
        try:
            return Place(None, Tombstone(), self.swap(log, Tombstone(), place.version))
        except Lost as lost:
            return self.judge(log, lost.found)

    def _busy(self, log: str) -> Refused:
        return Refused(self.objects.where(head_key(log)), errno.EAGAIN, "other programs write all the time")
