"""Copies of sessions in the trash: continued where the target has them, else imported and moved to its trash."""

from collections.abc import Iterable, Iterator
from itertools import islice
from typing import NamedTuple

from eventstore.errors import SessionNotFound, VersionConflict
from eventstore.ids import id_of
from eventstore.log.base import Head
from eventstore.log.ingest import VerifiedLog, verify_whole
from eventstore.record import codec, hash_chain
from eventstore.store.copied_redactions import finish_redactions, take_redacted
from eventstore.store.copying_attachments import Attachments, lines_of, of_trash
from eventstore.store.retention import Expiry, Trashed
from eventstore.store.storage import SessionStorage

__all__ = ["copy_trashed"]

_REASON = "it was in the trash of the store that it was copied from"
_ALL = ("values/", "quarantine/", "checkpoints/")


class _Place(NamedTuple):
    """A log of the target that may be the copy: its name in the trash, None for a live session, and its end.

    `has_all`: it has the last event of the source.
    """

    name: str | None
    head: Head
    has_all: bool


def copy_trashed(source: SessionStorage, target: SessionStorage, one: Trashed, names: set[str]) -> tuple[str, int]:
    """Copy a session of the trash; return what came of it, `new`, `continued` or `unchanged`, and how many events came.

    `names` is what was last listed of the trash of the target; it is listed again where its registry knows more.

    If the target has a session of that id with the same first events, that session is continued and moved to the trash;
    copies in the trash that have only the first of its events are purged then. Else a copy in the trash is continued there.
    Raises VersionConflict if the target has only another session of that id, SessionNotFound if the session is no longer in
    the trash of the source, LogDamaged, LogTampered.
    """
    verified = verify_whole(id_of(one.name), _chunks(source, one.name), root=source.log.trashed_root(one.name))
    with target.registry.locked():
        return _TrashCopy(source, target, one.name, verified).run(names)


def continue_live(source: SessionStorage, target: SessionStorage, name: str) -> int:
    """Continue a session of the target with the events that the source has in its trash; return their number.

    It is not moved. Raises VersionConflict if the session does not have the first events of the source's; SessionNotFound.
    """
    verified = verify_whole(id_of(name), _chunks(source, name), root=source.log.trashed_root(name))
    return _TrashCopy(source, target, name, verified).continue_live()


def is_beginning(source: SessionStorage, name: str, head: Head) -> bool:
    """Return whether a session in the trash of the source has an event of this number and hash. Raises SessionNotFound."""
    lines = islice(source.log.trashed_lines(name), max(head.version - 1, 0), head.version)
    return _hash_of(next(lines, b"")) == head.hash


class _TrashCopy:
    """The copy of one session of the trash. The lock of the target is held."""

    def __init__(self, source: SessionStorage, target: SessionStorage, name: str, verified: VerifiedLog) -> None:
        self._source, self._target, self._name, self._verified = source, target, name, verified
        self._session_id, self._head = verified.session_id, verified.head

    def run(self, names: set[str]) -> tuple[str, int]:
        """Copy, and return the outcome and the number of events."""
        found = self._in_trash(names)
        for other in found:
            if other.head_hash == self._head.hash:
                self._complete(other.name)
                return "unchanged", 0
        places = [self._place(other.name, self._target.log.trashed_lines(other.name)) for other in found]
        for place in places:
            if place.has_all:
                self._complete(place.name)
                return "unchanged", 0
        live = self._live()
        is_same = live is not None and self._is_beginning(live.head)
        begun = [one for one in places if self._is_beginning(one.head)]
        if begun and not is_same:
            return "continued", self._continue(max(begun, key=lambda one: one.head.version))
        if live is None:
            self._begin()
        elif not is_same:
            raise VersionConflict(self._session_id, self._head.version, live.head.version)
        came = self._head.version if live is None else self._continue(live)
        self._target.trash_session(self._session_id, _REASON)
        self._purge([other for other in found if other.name in {one.name for one in begun}])
        return ("new" if live is None else "continued"), came

    def continue_live(self) -> int:
        """Continue the session of the target, and return the number of events that came."""
        head = self._target.log.head(self._session_id)
        if not self._is_beginning(head):
            raise VersionConflict(self._session_id, self._head.version, head.version)
        return self._continue(_Place(None, head, has_all=False))

    def _in_trash(self, names: set[str]) -> list[Trashed]:
        """Return the copies of the session in the trash of the target."""
        first, session_id = self._verified.first_hash, self._session_id
        found = self._target.registry.look(
            lambda state: [
                Trashed(session_id, name, one.since, one.events, one.size_bytes, one.head_hash)
                for name, one in state.trashed.items()
                if one.life.first_hash == first and id_of(name) == session_id
            ]
        )
        if any(one.name not in names for one in found):  # another copy, or an earlier step of this one, put it there
            names |= set(self._target.log.trashed())
        return [one for one in found if one.name in names]

    def _place(self, name: str | None, lines: Iterable[bytes]) -> _Place:
        seq, size, last, has_all = 0, 0, "", False
        for seq, line in enumerate(lines, 1):
            size += len(line) + 1
            last = _hash_of(line)
            has_all = has_all or (seq == self._head.version and last == self._head.hash)
        return _Place(name, Head(seq, "", last, size), has_all)

    def _live(self) -> _Place | None:
        """Return the session of the target that has the id now."""
        try:
            head = self._target.log.head(self._session_id)
        except SessionNotFound:
            return None
        return _Place(None, head, (head.version, head.hash) == (self._head.version, self._head.hash))

    def _is_beginning(self, head: Head) -> bool:
        return is_beginning(self._source, self._name, head)

    def _begin(self) -> None:
        log, name = self._source.log, self._name
        attachments = ((one, log.read_trashed(name, one)) for one in log.trashed_attachments(name))
        self._target.ingest(self._verified, _chunks(self._source, name), attachments)

    def _continue(self, place: _Place) -> int:
        """Append the missing events to a log of the target, with what belongs to them; return their number."""
        target, session_id, trashed = self._target, self._session_id, place.name
        self._attachments(trashed).take("values/", "quarantine/")
        lines = list(islice(self._source.log.trashed_lines(self._name), place.head.version, None))
        data = b"".join(line + b"\n" for line in lines)
        if codec.REDACTION in data:
            take_redacted(target, session_id, place.head, data, trashed=trashed)
        elif lines:
            target.take(session_id, place.head, data, trashed=trashed)
        else:
            finish_redactions(target, session_id, trashed=trashed)
        beside = self._attachments(trashed)
        beside.take("checkpoints/")
        beside.remove_unneeded()
        return len(lines)

    def _complete(self, trashed: str | None) -> None:
        """Finish what a killed copy left: redactions, and attachments, unless the target has redacted events since."""
        finish_redactions(self._target, self._session_id, trashed=trashed)
        beside = self._attachments(trashed)
        beside.remove_unneeded()
        if beside.lacks_any:
            head = self._place(trashed, lines_of(self._target.log, self._session_id, trashed)).head
            if (head.version, head.hash) == (self._head.version, self._head.hash):
                beside.take(*_ALL)

    def _attachments(self, trashed: str | None) -> Attachments:
        return Attachments(of_trash(self._source.log, self._name), self._target.log, self._session_id, trashed)

    def _purge(self, found: Iterable[Trashed]) -> None:
        self._target.clean_up(
            [
                Expiry(old.session_id, "purge", _REASON, name=old.name, head_hash=old.head_hash, since=old.since)
                for old in found
            ]
        )


def _hash_of(line: bytes) -> str:
    parts = hash_chain.split(line)
    return "" if parts is None else parts[1].hex()


def _chunks(source: SessionStorage, name: str) -> Iterator[bytes]:
    return (line + b"\n" for line in source.log.trashed_lines(name))
