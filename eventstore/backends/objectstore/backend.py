"""The port on objects: each log has one head object that is swapped by version, and segments that never change."""

import errno
from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import AbstractContextManager, suppress
from typing import TYPE_CHECKING

from eventstore.backends.objectstore.feed import Feed
from eventstore.backends.objectstore.head import Head, new_base
from eventstore.backends.objectstore.keys import blob_prefix, head_key, store_blob_prefix
from eventstore.backends.objectstore.lines import Lines, Sealed
from eventstore.backends.objectstore.locks import Locks
from eventstore.backends.objectstore.objects import Gone, Lost, Objects
from eventstore.backends.objectstore.options import ObjectOptions
from eventstore.backends.objectstore.pace import Pace
from eventstore.backends.objectstore.places import Place, Places
from eventstore.errors import NotSupported
from eventstore.log.base import Changes
from eventstore.log.port import (
    UNKEPT_KEYS,
    UNSEEN_WRITERS,
    Backend,
    Capabilities,
    Cut,
    Exists,
    Key,
    Missing,
    Moved,
    PortError,
    Reading,
    Refused,
    Tip,
    Unclear,
)
from eventstore.log.watch import Watch

if TYPE_CHECKING:
    from obstore.store import ObjectStore

_ATTEMPTS = 100
_BLOB_CHUNK = 1024 * 1024


class ObjectsBackend(Backend):
    """Logs in an object store: a store opened by `obstore` without retries, and the prefix of all keys.

    `url` names the store in errors; it must not contain a secret. Safe for threads and for processes, each with its own object.
    """

    capabilities = Capabilities(blocking=True)

    def __init__(
        self, store: "ObjectStore", prefix: str = "", *, url: str = "objects:", options: ObjectOptions | None = None
    ) -> None:
        options = options or ObjectOptions()
        prefix = prefix.strip("/") + "/" if prefix.strip("/") else ""
        self._objects = Objects(store, prefix, url.rstrip("/"), options.settle_seconds)
        self._places = Places(self._objects, options.cache_bytes)
        self._lines = Lines(self._objects, options, self._places.head)
        self._locks = Locks(self._objects, options.lease_seconds)
        self._feed = Feed(self._places, options.poll_seconds)
        self._pace = Pace(options.write_seconds)
        self.capabilities = Capabilities(blocking=True, write_seconds=options.write_seconds)

    def __repr__(self) -> str:
        return f"ObjectsBackend({self._objects.url!r})"

    def where(self, log: str) -> str:
        return self._objects.where(head_key(log))

    # --- lines

    def tip(self, log: str) -> Tip:
        return self._places.head(log).tip()

    def read(self, log: str, after: Tip | int = 0, upto: int | None = None) -> Reading:
        for _ in range(_ATTEMPTS):
            with suppress(Gone):
                return self._lines.read(log, self._places.head(log), after, upto)
        raise self._gone(log)

    def append(
        self,
        log: str,
        lines: bytes,
        *,
        expect: Tip | None,
        tip: Tip,
        keys: Sequence[Key] = (),
        sync: bool = True,
    ) -> str:
        if expect is None:
            return self._begin(log, lines, tip)
        place, is_fresh, unclear = self._places.known(log), False, False
        for _ in range(_ATTEMPTS):
            if place is None:
                place, is_fresh = self._places.find(log), True
            if place.head is None or not place.head.ends_at(expect):
                if not is_fresh:
                    place = None
                    continue
                raise self._moved(log, place, expect, unclear=unclear)
            head, sealed = self._lines.grown(place.head, lines, tip)
            try:
                self._swap(log, head, place, sealed)
            except Lost as lost:
                place, is_fresh, unclear = self._places.judge(log, lost.found), True, unclear or lost.unclear
            else:
                return head.life
        raise self._busy(log)

    def _begin(self, log: str, lines: bytes, tip: Tip) -> str:
        """Make a new log. Raises Exists, Refused, Unclear."""
        base, first = new_base(), tip.seq - lines.count(b"\n") + 1
        empty = Head(base, first, first - 1, b"", "", 0)
        head, sealed = self._lines.grown(empty, lines, tip)
        try:
            self._places.create(log, head)
        except Unclear:
            raise
        except PortError:
            self._drop(sealed, sealed.written)
            raise
        self._feed.ring(log)
        return head.life

    def _moved(self, log: str, place: Place, expect: Tip, *, unclear: bool) -> PortError:
        """Return why lines cannot be appended; if an answer was lost and the log is another one now, the outcome is unknown."""
        base = expect.life.partition(".")[0]
        if unclear and (place.head is None or place.head.base != base):
            return Unclear(self.where(log), errno.ETIMEDOUT, "the answer was lost, and the log was removed afterwards")
        return Missing(log) if place.head is None else Moved(log)

    def _swap(self, log: str, head: Head, place: Place, sealed: Sealed) -> None:
        """Swap a head; then delete segments that it does not need any more or, on failure, the unused new ones.

        Raises Lost, ...
        """
        self._pace.wait(log)
        try:
            self._places.swap(log, head, place.version)
        except Unclear:
            raise
        except Lost as lost:
            now = self._places.judge(log, lost.found).head
            named = {one.name for one in now.segments} if now is not None else set()
            self._drop(sealed, [name for name in sealed.written if name not in named])
            raise
        except Refused:
            self._drop(sealed, sealed.written)
            raise
        self._drop(sealed, sealed.replaced)
        self._feed.ring(log)

    def _drop(self, sealed: Sealed, names: Sequence[str]) -> None:
        with suppress(PortError):  # an unused segment only takes space
            self._lines.drop(sealed.base, names)

    def sync(self, log: str, tip: Tip) -> None:
        """Do nothing: every answered write is durable."""

    # --- complete logs

    def write_whole(
        self,
        log: str,
        fill: Callable[[Callable[[bytes], None]], Tip],
        blobs: Iterable[tuple[str, Iterable[bytes]]] = (),
        *,
        expect: Tip | None,
    ) -> str:
        if expect is None:
            return self._write_new(log, fill, blobs)
        place = self._places.find(log)
        if place.head is None:
            raise Missing(log)
        if not place.head.ends_at(expect):
            raise Moved(log)
        head = self._lines.write_whole(place.head.base, place.head.edits + 1, fill)
        self._replace(log, head, place)
        return head.life

    def _replace(self, log: str, head: Head, place: Place) -> None:
        """Replace a head by one that was edited before its end, and delete its old segments. Raises Moved, ..."""
        before = {one.name for one in place.head.segments} if place.head is not None else set()
        written = [one.name for one in head.segments if one.name not in before]
        try:
            self._swap(log, head, place, Sealed(head.base, written))
        except Lost as lost:
            if lost.unclear:
                raise Unclear(self.where(log), errno.ETIMEDOUT, "the answer was lost") from None
            raise Moved(log) from None
        self._lines.drop_older(head)

    def _write_new(
        self,
        log: str,
        fill: Callable[[Callable[[bytes], None]], Tip],
        blobs: Iterable[tuple[str, Iterable[bytes]]],
    ) -> str:
        if self._places.find(log).head is not None:
            raise Exists(log)
        base = new_base()
        head = self._lines.write_whole(base, 0, fill)
        written: list[str] = []
        try:
            for name, pieces in blobs:
                written.append(blob_prefix(base) + name)
                self._objects.put(written[-1], b"".join(pieces))
            self._places.create(log, head)
        except Unclear:
            raise
        except BaseException:
            with suppress(PortError):
                self._lines.drop(base, [one.name for one in head.segments])
                self._objects.delete(written)
            raise
        self._feed.ring(log)
        return head.life

    def overwrite(self, log: str, seq: int, offset: int, line: bytes) -> None:
        for _ in range(_ATTEMPTS):
            place = self._places.find(log)
            if place.head is None:
                raise Missing(log)
            try:
                head = self._lines.overwritten(log, place.head, seq, offset, line)
                self._replace(log, head, place)
            except Gone:
                continue
            except Moved:
                now = self._places.find(log)
                if now.version == place.version:
                    raise
                continue
            return
        raise self._busy(log)

    def cut(self, log: str, tip: Tip) -> Cut:
        for _ in range(_ATTEMPTS):
            place = self._places.find(log)
            if place.head is None:
                raise Missing(log)
            try:
                head, removed = self._lines.cut(log, place.head, tip)
            except Gone:
                continue
            name = f"quarantine/{tip.offset}-{new_base()[:12]}.bin"
            key = blob_prefix(place.head.base) + name
            self._objects.put(key, removed)
            kept = {one.name for one in head.segments}
            sealed = Sealed(head.base)
            sealed.replaced = [one.name for one in place.head.segments if one.name not in kept]
            try:
                self._swap(log, head, place, sealed)
            except Lost as lost:
                if lost.unclear:
                    raise Unclear(self.where(log), errno.ETIMEDOUT, "the answer was lost") from None
                self._objects.delete([key])
                continue
            return Cut(name, len(removed))
        raise self._busy(log)

    def move(self, log: str, to: str, *, expect: Tip | None) -> None:
        self._places.move(log, to, expect)
        for one in (log, to):
            self._feed.ring(one)

    def delete(self, log: str, *, expect: Tip | None) -> bool:
        was_there = self._places.remove(log, expect)
        if was_there:
            self._feed.ring(log)
        return was_there

    def changed(self, since: str | None = None) -> Changes:
        return self._feed.changed(since)

    def trashed(self) -> list[str]:
        return self._feed.trashed()

    def find_key(self, log: str, key: str) -> tuple[int, int] | None:
        raise NotSupported(log, self._objects.url, UNKEPT_KEYS, "read the log")

    def lock(self, name: str) -> AbstractContextManager[object]:
        return self._locks.held(name)

    # --- blobs

    def blobs(self, log: str) -> list[str]:
        prefix = self._blob_prefix(log)
        return sorted(one.key.removeprefix(prefix) for one in self._objects.listing(prefix))

    def get_blob(self, log: str, name: str) -> Iterator[bytes]:
        found = self._objects.get(self._blob_prefix(log) + name)
        if found is None:
            raise Missing(name)
        data = found.data
        return (data[start : start + _BLOB_CHUNK] for start in range(0, len(data), _BLOB_CHUNK))

    def put_blob(self, log: str, name: str, data: bytes) -> None:
        prefix = self._blob_prefix(log)
        self._objects.put(prefix + name, data)
        try:
            gone = self._blob_prefix(log) != prefix
        except Missing:
            gone = True
        if gone:  # the log was deleted in the meantime, and nothing would delete this blob
            self._objects.delete([prefix + name])
            raise Missing(log)

    def delete_blob(self, log: str, name: str) -> None:
        with suppress(Missing):
            self._objects.delete([self._blob_prefix(log) + name])

    def _blob_prefix(self, log: str) -> str:
        """Return the key prefix of the blobs of a log. Raises Missing, Refused."""
        return store_blob_prefix(log) or blob_prefix(self._places.head(log).base)

    # --- the rest

    def watch(self, log: str | None) -> Watch:
        return self._feed.watch(log)

    def is_open(self, log: str) -> bool:
        raise NotSupported(log, self._objects.url, UNSEEN_WRITERS, "ask its writers")

    def flush(self) -> None:
        """Do nothing: every answered write is durable."""

    def close(self) -> None:
        """Do nothing: there are no handles."""

    def _gone(self, log: str) -> Refused:
        return Refused(self.where(log), errno.EIO, "a segment is missing")

    def _busy(self, log: str) -> Refused:
        return Refused(self.where(log), errno.EAGAIN, "other programs write all the time")
