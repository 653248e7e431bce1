"""Copy sessions between stores, byte for byte: parents before their forks; a repeated copy copies only new events.

A copy has the same lines, numbers, times, hashes and keys, and the same attachments. So a checkpoint that was signed in
the source also proves the copy. The registry of the target records the copied sessions; the registry of the source is
not copied. The trash is copied before the sessions.
"""

import os
from collections.abc import Callable, Container, Iterable, Iterator
from contextlib import suppress
from dataclasses import dataclass, field
from functools import partial
from threading import Event as Flag

from eventstore.errors import EventStoreError, LogDamaged, LogTampered, SessionNotFound, VersionConflict
from eventstore.events import StoreEventsRedacted, StoreRedactionFinished
from eventstore.ids import STORE_ID, TEMPLATE, check_log_id
from eventstore.log.base import Head
from eventstore.log.ingest import verify_whole
from eventstore.record import codec
from eventstore.store.copied_redactions import (
    families,
    finish_redactions,
    redact_live,
    redact_trash,
    relatives_in_trash,
    take_redacted,
)
from eventstore.store.copying_attachments import Attachments, of_session
from eventstore.store.copying_trash import continue_live, copy_trashed, is_beginning
from eventstore.store.retention import Trashed
from eventstore.store.storage import SessionStorage

_ATTEMPTS = 5
_BLOCK = 1 << 16
_LOOK_SECONDS = 2.0


@dataclass
class Copied:
    """The result of a copy: ids of `new` and `continued` sessions, numbers of `unchanged` ones and of copied `events`.

    `refused` maps ids to the reasons why they were not copied, for example: in the target it is another session, or has
    more events.
    """

    new: list[str] = field(default_factory=list)
    continued: list[str] = field(default_factory=list)
    unchanged: int = 0
    events: int = 0
    refused: dict[str, str] = field(default_factory=dict)


def copy_sessions(
    source: SessionStorage,
    target: SessionStorage,
    session_ids: Iterable[str] | None = None,
    *,
    on_session: Callable[[str, str], None] = lambda session_id, outcome: None,
) -> Copied:
    """Copy sessions with their parents; by default all sessions and templates. A repeated call copies only new events.

    A session that the target already has is continued if its events are the first ones of the source's; else it is
    refused, and the others are copied. Events that the target knows as redacted are copied redacted. Where redactions
    come, all that shares events with the session is continued too, or redacted if only the target has it. `on_session` gets
    each id and `new`, `continued`, `unchanged` or `refused`. Raises SessionNotFound for an id that the source does not
    have; ReadRefused, AppendRefused.
    """
    copying = _Copying(source, target, on_session)
    if session_ids is None:
        copying.copy_trash()
    for session_id in _wanted(source, session_ids):
        copying.copy_with_parents(session_id)
    copying.redact_trash()
    return copying.done


def keep_copying(
    source: SessionStorage,
    target: SessionStorage,
    stop: Flag,
    *,
    on_session: Callable[[str, str], None] = lambda session_id, outcome: None,
) -> Copied:
    """Copy all sessions, then copy changes until `stop` is set. Sessions deleted from the source stay in the target."""
    token: str | None = None
    total, recorded = Copied(), _recorded(source)
    with source.log.watch() as watch:
        while True:
            changes = source.log.changed(token)
            copying = _Copying(source, target, on_session)
            names = [name for name, text in changes.logs if text is not None]
            before, recorded = recorded, _recorded(source) if STORE_ID in names else recorded
            is_removed = len(names) < len(changes.logs)  # perhaps to the trash
            if token is None or is_removed or _has_redactions(source, before, recorded):
                copying.copy_trash()
            for session_id in sorted(set(filter(_is_copied, names))):
                with suppress(SessionNotFound):  # it was deleted in the meantime
                    copying.copy_with_parents(session_id)
            copying.redact_trash()
            _add(total, copying.done)
            token = changes.token
            if stop.is_set():
                return total
            watch.wait(_LOOK_SECONDS)


def _recorded(storage: SessionStorage) -> int:
    """Return the number of events of the store's own log."""
    try:
        return storage.log.head(STORE_ID).version
    except SessionNotFound:
        return 0


def _has_redactions(storage: SessionStorage, after: int, upto: int) -> bool:
    """Return whether events of the store's own log record redactions, which may be in the trash: that reports no changes."""
    events = storage.log.read(STORE_ID, after, upto) if after < upto else ()
    return any(isinstance(one, StoreEventsRedacted | StoreRedactionFinished) for one in events)


def _is_copied(name: str) -> bool:
    return not name.startswith("_") or name.startswith(TEMPLATE)


def _add(total: Copied, more: Copied) -> None:
    total.new += more.new
    total.continued = list(dict.fromkeys([*total.continued, *more.continued]))
    total.unchanged = more.unchanged
    total.events += more.events
    for one in (*more.new, *more.continued):
        total.refused.pop(one, None)
    total.refused |= more.refused


def _wanted(source: SessionStorage, session_ids: Iterable[str] | None) -> list[str]:
    if session_ids is not None:
        found = sorted({check_log_id(one) for one in session_ids})
        for one in found:
            source.log.head(one)
        return found
    return sorted([*source.log.ids(), *(TEMPLATE + name for name in source.templates())])


class _Copying:
    """One copy from a store to another."""

    def __init__(self, source: SessionStorage, target: SessionStorage, on_session: Callable[[str, str], None]) -> None:
        self._source, self._target, self._on_session = source, target, on_session
        self._seen, self._reached = set[str](), set[str]()
        self._together, self._redacted = set[str](), set[str]()
        self._has_trash = False
        self._trashed: list[Trashed] | None = None
        self._families: dict[str, list[str]] | None = None
        self.done = Copied()

    def copy_with_parents(self, session_id: str) -> None:
        """Copy a session, its parents first."""
        line: list[str] = []
        wanted: str | None = session_id
        while wanted is not None and wanted not in self._seen:
            self._seen.add(wanted)
            line.append(wanted)
            point = self._source.log.fork_point(wanted)
            wanted = point.parent if point is not None else None
        for one in reversed(line):
            if one not in self._reached:
                self._copy_or_refuse(one)

    def copy_trash(self, ids: Container[str] | None = None) -> None:
        """Copy the trash, by default all of it, the oldest session first: before sessions that have those ids now."""
        self._has_trash = True
        trashed = [one for one in self._source.list_trash() if ids is None or one.session_id in ids]
        there = set(self._target.log.trashed()) if trashed else set()
        for one in reversed(trashed):
            with suppress(SessionNotFound):  # it was restored or purged in the meantime
                self._copy_or_refuse(one.name, partial(self._copy_trashed, one, there))

    def _copy_trashed(self, one: Trashed, there: set[str], name: str) -> str:
        told = [line for line in self._source.log.trashed_lines(name) if line.startswith(codec.REDACTION)]
        if told and one.session_id not in self._together and self._target.log.exists(one.session_id):
            self._copy_together(one.session_id)
        outcome, events = copy_trashed(self._source, self._target, one, there)
        if outcome != "unchanged":
            (self.done.new if outcome == "new" else self.done.continued).append(one.session_id)
            self.done.events += events
            if told:
                self._redact_others(one.session_id, self._source.log.trashed_root(name), told)
            self._copy_history(self._source.log.trashed_lines(name), again=bool(told))
        return outcome

    # --- redactions

    def _family(self, root: str) -> list[str]:
        """Return the sessions and templates that the target had at first and that may share events: forks come first."""
        if self._families is None:
            self._families = families(self._target)
        return self._families.get(root, [])

    def _copy_together(self, session_id: str, copy: Callable[[str], str] | None = None) -> str:
        """Copy all that may share events with a session of which redactions come, forks before their parents.

        A fork that did not record them first would seem tampered with, and would record them itself when its parent is
        moved or deleted; then it could not be continued. `copy` copies the session itself; return what came of that.
        """
        family, outcome = self._family(self._target.log.root_of(session_id)), "unchanged"
        self._together.update((session_id, *family))
        for one in family:
            if copy is not None and one == session_id:
                outcome = copy(one)
            elif not self._fits(one):
                for name in self._names_in_trash(one):  # it is moved later, if the trash is copied
                    told = [line for line in self._source.log.trashed_lines(name) if line.startswith(codec.REDACTION)]
                    self._redact_others(one, self._target.log.root_of(one), told)
                    self.done.events += continue_live(self._source, self._target, name)
            elif one not in self._reached:
                with suppress(SessionNotFound):  # it was deleted in the meantime
                    self._copy_or_refuse(one)
        return outcome

    def _fits(self, session_id: str) -> bool:
        """Return whether a session of the target can be continued with the one that the source has now."""
        try:
            return self._is_at(session_id, self._target.log.head(session_id), self._source.log.head(session_id))
        except (SessionNotFound, LogDamaged):
            return False

    def _names_in_trash(self, session_id: str) -> list[str]:
        """Return the names of what the source has in its trash that a session of the target can be continued with."""
        if self._trashed is None:
            self._trashed = self._source.list_trash()
        names = [one.name for one in self._trashed if one.session_id == session_id]
        try:
            head = self._target.log.head(session_id) if names else None
            return [name for name in names if head is not None and is_beginning(self._source, name, head)][:1]
        except (SessionNotFound, LogDamaged):
            return []

    def _redact_others(self, session_id: str, root: str, lines: Iterable[bytes]) -> None:
        """Redact what lines of a session record in logs that only the target has: these record it themselves."""
        self._redacted.add(root)
        self._target.registry.record_redactions(session_id, lines)
        others = [one for one in self._family(root) if one != session_id]
        redact_live(self._target, [one for one in others if not self._fits(one) and not self._names_in_trash(one)])

    def redact_trash(self) -> None:
        """Redact what came redacted also in the trash of the target."""
        found = relatives_in_trash(self._target, self._redacted) if self._redacted else []
        if found and not self._has_trash:
            self.copy_trash(found)
        redact_trash(self._target, found)

    def _copy_or_refuse(self, session_id: str, copy: Callable[[str], str] | None = None) -> None:
        if copy is None:
            self._reached.add(session_id)
        try:
            outcome = (copy or self._copy)(session_id)
        except SessionNotFound:
            raise
        except EventStoreError as error:
            self.done.refused[session_id] = str(error)
            outcome = "refused"
        if outcome == "unchanged":
            self.done.unchanged += 1
        self._on_session(session_id, outcome)

    def _copy(self, session_id: str) -> str:
        """Copy until the target has the events of the source; wait for a redaction in progress."""
        for attempt in range(_ATTEMPTS):
            try:
                return self._copy_once(session_id)
            except LogTampered:  # a line was redacted while it was read: its record comes after the lines read
                if attempt == _ATTEMPTS - 1:
                    raise
        raise AssertionError("the last attempt returns or raises")

    def _copy_once(self, session_id: str) -> str:
        try:
            here = self._target.log.head(session_id)
        except SessionNotFound:
            return self._begin(session_id)
        there = self._source.log.head(session_id)
        if not self._is_at(session_id, here, there):
            raise VersionConflict(session_id, there.version, here.version)
        is_behind, data = here.version < there.version, b""
        if is_behind:
            data = b"".join(self._source.log.chunks(session_id, here.version, there.version))
            if codec.REDACTION in data and session_id not in self._together:
                return self._copy_together(session_id, self._copy_once)
        self._attachments(session_id).take("values/", "quarantine/")
        if is_behind:
            self._take(session_id, here, data)
            self.done.continued.append(session_id)
            self.done.events += there.version - here.version
        else:
            finish_redactions(self._target, session_id)
        beside = self._attachments(session_id)
        beside.take("checkpoints/")
        beside.remove_unneeded()
        return "continued" if is_behind else "unchanged"

    def _take(self, session_id: str, here: Head, data: bytes) -> None:
        if codec.REDACTION in data:
            self._redact_others(session_id, self._target.log.root_of(session_id), codec.lines(data))
            take_redacted(self._target, session_id, here, data)
            self._copy_history(self._source.log.lines(session_id), again=True)
        else:
            self._target.take(session_id, here, data)
            self._copy_history(codec.lines(data))

    def _is_at(self, session_id: str, here: Head, there: Head) -> bool:
        """Return whether the target ends at an earlier state of the source."""
        if here.version >= there.version:
            return (here.version, here.hash) == (there.version, there.hash)
        line = next(self._source.log.lines(session_id, here.version - 1, here.version))
        return codec.decode(line).hash == here.hash

    def _begin(self, session_id: str) -> str:
        """Copy a session that the target does not have."""
        log = self._source.log
        after, root = log.inherited(session_id), log.root_of(session_id)
        upto, told = log.head(session_id).version, list[bytes]()
        chunks = _noting(log.chunks(session_id, after, upto), told)
        verified = verify_whole(session_id, chunks, root=None if after else root)
        if told:
            self._redact_others(session_id, root, told)
        attachments = ((name, log.read_beside(session_id, name)) for name in log.attachments(session_id))
        chunks = log.chunks(session_id, after, upto)
        self._target.ingest(verified, chunks, attachments, ended=self._source.ended(session_id))
        self.done.new.append(session_id)
        self.done.events += upto - after
        for chunk in log.chunks(session_id, after, upto) if self._source.history is not None else ():
            self._copy_history(codec.lines(chunk))
        return "new"

    def _attachments(self, session_id: str) -> Attachments:
        return Attachments(of_session(self._source.log, session_id), self._target.log, session_id)

    def _copy_history(self, lines: Iterable[bytes], again: bool = False) -> None:
        """Copy the folders of tool calls that lines name, if both stores have a place for them.

        `again`: a redaction was copied; then those that the target has are replaced.
        """
        source, target = self._source.history, self._target.history
        if source is None or target is None or source.path == target.path:
            return
        for folder in sorted({folder for line in lines if (folder := _folder_of(line))}):
            with suppress(FileNotFoundError, ValueError):  # it is missing, or not inside the history
                source.others(folder)
                if again:
                    target.remove(folder)
                with suppress(FileExistsError):
                    target.ingest(folder, _files(source.files(folder)))


def _noting(chunks: Iterable[bytes], told: list[bytes]) -> Iterator[bytes]:
    """Pass chunks of complete lines on, and collect the lines that record redactions."""
    for chunk in chunks:
        if codec.REDACTION in chunk:
            told += [line for line in codec.lines(chunk) if line.startswith(codec.REDACTION)]
        yield chunk


def _folder_of(line: bytes) -> str | None:
    event = codec.read_invocation(line) if line.startswith(codec.INVOCATION) else None
    return event.invocation_dir if event is not None else None


def _files(found: Iterable[tuple[str, int | None]]) -> Iterator[tuple[str, Iterator[bytes]]]:
    for name, file in found:
        if file is not None:
            yield name, iter(lambda file=file: os.read(file, _BLOCK), b"")  # type: ignore[misc]
