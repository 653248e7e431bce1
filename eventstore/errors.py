"""Everything that can go wrong, as one tree.

    EventStoreError
    ├── InvalidSessionId      (ValueError)   a name that no session can have
    ├── SessionNotFound       (ValueError, LookupError)
    ├── SessionExists         (ValueError)
    ├── NoSuchMoment          (ValueError)   a version that was not reached, or what is no time
    ├── VersionConflict                      another writer appended first
    ├── EventRefused          (ValueError)   an event that cannot become a line
    │   ├── EventNotEncodable                a value JSON cannot hold faithfully
    │   ├── EventTooLarge                    a line over the limit
    │   └── IdReused                         an idempotency key that belongs to another append
    ├── RedactionRefused      (ValueError)   an event whose content cannot be removed
    ├── AppendRefused                        the system would not let an append happen
    ├── ReadRefused                          the system would not let a log be read
    ├── OutcomeUnknown                       an append that may or may not be stored
    ├── HandlePoisoned                       a log that a failed flush has made untrustworthy
    ├── OperationRefused                     the system would not let a session be deleted, trashed, restored, ...
    ├── NotSupported                         the backend, or the system, cannot do what was asked
    ├── LogDamaged                           bytes in a log that are not what was written
    │   ├── LogTampered                      a line blanked and nothing tells of it, or events that are not those signed
    │   └── NotARegularFile   (OSError)      a folder, link, pipe or device where a log should be
    ├── LogRolledBack                        a log that is not the one that was read before
    ├── CursorRefused         (ValueError)   a text that is no cursor, or one that nothing is known of any more
    ├── PositionNotSaved                     where a subscription stands could not be stored
    ├── ImportRefused         (ValueError)   a foreign file that cannot be taken in
    ├── ExportRefused         (ValueError)   a session that has no such export
    ├── KeyRefused            (ValueError)   a key to sign or to check with that cannot be used
    ├── CheckpointRefused     (ValueError)   a signed note that is not to be believed
    ├── ExtraMissing          (ImportError)  a package that an extra brings is not installed
    └── InvalidSetting        (ValueError)   a setting with a value it cannot have

Every error says what happened, to which session, what was not done and what to do next. Event content is never quoted.
"""

import os
from typing import Literal

from eventstore.release import install_hint


class EventStoreError(Exception):
    """The root: catch it to catch everything this package raises on purpose."""


class InvalidSessionId(EventStoreError, ValueError):
    """The text cannot be a session id. Nothing was read or written."""

    def __init__(self, session_id: str, reason: str) -> None:
        super().__init__(session_id, reason)
        self.session_id, self.reason = session_id, reason

    def __str__(self) -> str:
        shown = self.session_id if len(self.session_id) <= 80 else self.session_id[:77] + "..."
        return (
            f"invalid session id {shown!a}: {self.reason}; nothing was done: use 1-128 of "
            "A-Z a-z 0-9 . _ - with a letter or digit first and no dot last"
        )


class SessionNotFound(EventStoreError, ValueError, LookupError):
    """No session has this id, or it is in the trash (`in_trash`, where that was looked for). Nothing was written."""

    def __init__(self, session_id: str, *, in_trash: bool = False) -> None:
        super().__init__(session_id)
        self.session_id, self.in_trash = session_id, in_trash

    def __str__(self) -> str:
        if self.in_trash:
            return (
                f"session {self.session_id!r} is in the trash; nothing was done: bring it back with restore, or let cleanup "
                "delete it for good"
            )
        return f"session {self.session_id!r} not found; nothing was written: create it first, or check the id and the store"


class NoSuchMoment(EventStoreError, ValueError):
    """A question asked as of a version that the session has not reached, or of what is no moment. Nothing was answered."""

    def __init__(self, at: object, reason: str) -> None:
        super().__init__(at, reason)
        self.at, self.reason = at, reason

    def __str__(self) -> str:
        return f"no such moment: {str(self.at)[:80]!a}: {self.reason}; ask as of a version or a time that was"


class SessionExists(EventStoreError, ValueError):
    """A session with this id is there already. Nothing was written."""

    def __init__(self, session_id: str) -> None:
        super().__init__(session_id)
        self.session_id = session_id

    def __str__(self) -> str:
        return f"session {self.session_id!r} already exists; nothing was written: choose another id, or get the session"


class VersionConflict(EventStoreError):
    """Another writer appended first. This call wrote nothing.

    `since` holds the types of the events that came in between, oldest first, at most the last 20 of them.
    """

    def __init__(self, session_id: str, expected: int, actual: int, since: tuple[str, ...] = ()) -> None:
        super().__init__(session_id, expected, actual, since)
        self.session_id, self.expected, self.actual, self.since = session_id, expected, actual, since

    def __str__(self) -> str:
        between = f" (in between: {', '.join(self.since)})" if self.since else ""
        return (
            f"session {self.session_id!r} is at version {self.actual}, not {self.expected}{between}; "
            "nothing was written: read the new events, then append again"
        )


class EventRefused(EventStoreError, ValueError):
    """An event cannot become a line of the log. Nothing of its batch was written."""


class EventNotEncodable(EventRefused):
    """A value in the event has no faithful JSON. `path` is where, as in `$.content` or `$.value[2]`."""

    def __init__(self, event_type: str, path: str, reason: str) -> None:
        super().__init__(event_type, path, reason)
        self.event_type, self.path, self.reason = event_type, path, reason

    def __str__(self) -> str:
        return f"{self.event_type} event refused: {self.path} {self.reason}; nothing was written: change that value"


class EventTooLarge(EventRefused):
    """The encoded event is over the limit, both in bytes."""

    def __init__(self, event_type: str, size_bytes: int, limit_bytes: int) -> None:
        super().__init__(event_type, size_bytes, limit_bytes)
        self.event_type, self.size_bytes, self.limit_bytes = event_type, size_bytes, limit_bytes

    def __str__(self) -> str:
        return (
            f"{self.event_type} event refused: {self.size_bytes} bytes are over the limit of {self.limit_bytes}; "
            "nothing was written: keep large content in a file and record its path, or raise max_event_bytes"
        )


class IdReused(EventRefused):
    """A batch mixes idempotency keys that this session has seen with new ones, or keys of different appends."""

    def __init__(self, session_id: str, event_id: str) -> None:
        super().__init__(session_id, event_id)
        self.session_id, self.event_id = session_id, event_id

    def __str__(self) -> str:
        return (
            f"session {self.session_id!r} has seen id {self.event_id!r} in another append; nothing was written: "
            "repeat that append unchanged, or choose a new id"
        )


class AppendRefused(EventStoreError):
    """The system refused a step of an append: disk full, no permission, no descriptor, ... Nothing of it was kept."""

    def __init__(self, session_id: str, file: str, errno: int) -> None:
        super().__init__(session_id, file, errno)
        self.session_id, self.file, self.errno = session_id, file, errno

    def __str__(self) -> str:
        return (
            f"append to session {self.session_id!r} refused: {os.strerror(self.errno)} ({self.file}); nothing was written: "
            "append again when that is mended"
        )


class ReadRefused(EventStoreError):
    """The system refused to read: no permission, no connection, an error of the disk, ... Nothing was changed.

    `session_id` is empty where it was about all logs.
    """

    def __init__(self, session_id: str, file: str, errno: int) -> None:
        super().__init__(session_id, file, errno)
        self.session_id, self.file, self.errno = session_id, file, errno

    def __str__(self) -> str:
        what = f"session {self.session_id!r}" if self.session_id else "the store"
        return (
            f"{what} could not be read: {os.strerror(self.errno)} ({self.file}); nothing was changed: "
            "try again when the cause is removed"
        )


class OutcomeUnknown(EventStoreError):
    """An append was written, and flushing it failed: it may or may not survive. Appending again with the same `id` is safe."""

    def __init__(self, session_id: str, file: str, errno: int) -> None:
        super().__init__(session_id, file, errno)
        self.session_id, self.file, self.errno = session_id, file, errno

    def __str__(self) -> str:
        what = f"append to session {self.session_id!r}" if self.session_id else "what was appended"
        return (
            f"{what} may or may not be stored: {os.strerror(self.errno)} ({self.file}): "
            "open the store anew, and append again with the same id"
        )


class HandlePoisoned(EventStoreError):
    """Flushing this log failed before; no later success would mean anything. Nothing was written."""

    def __init__(self, session_id: str, file: str, errno: int) -> None:
        super().__init__(session_id, file, errno)
        self.session_id, self.file, self.errno = session_id, file, errno

    def __str__(self) -> str:
        return (
            f"append to session {self.session_id!r} refused: flushing failed before ({os.strerror(self.errno)}, {self.file}); "
            "nothing was written: open the store anew"
        )


class OperationRefused(EventStoreError):
    """The system refused a step of an operation on a session as a whole: no permission, disk full, ...

    `done` says what was not done to it, such as "deleted"; `file` is what the system named, `errno` its number.
    """

    def __init__(self, session_id: str, done: str, file: str, errno: int) -> None:
        super().__init__(session_id, done, file, errno)
        self.session_id, self.done, self.file, self.errno = session_id, done, file, errno

    def __str__(self) -> str:
        where = f" ({self.file})" if self.file else ""
        return (
            f"session {self.session_id!r} was not {self.done}: {os.strerror(self.errno)}{where}; the next writer finishes or "
            "takes back what was begun: try again when that is mended"
        )


class NotSupported(EventStoreError):
    """The backend, or the system, cannot do what was asked. Nothing was done.

    `where` names the backend's place, `cannot` what it cannot do, and `instead` what to do. `session_id` may be empty.
    """

    def __init__(self, session_id: str, where: str, cannot: str, instead: str) -> None:
        super().__init__(session_id, where, cannot, instead)
        self.session_id, self.where, self.cannot, self.instead = session_id, where, cannot, instead

    def __str__(self) -> str:
        session = f"session {self.session_id!r}: " if self.session_id else ""
        return f"{session}{self.where} cannot {self.cannot}; nothing was done: {self.instead}"


class LogDamaged(EventStoreError):
    """The log holds bytes that were not written by an append.

    `line` counts from 1, `offset_bytes` is where that line begins; the first `readable` events are whole, verified and committed.
    """

    def __init__(self, session_id: str, file: str, line: int, offset_bytes: int, reason: str, readable: int) -> None:
        super().__init__(session_id, file, line, offset_bytes, reason, readable)
        self.session_id, self.file, self.line = session_id, file, line
        self.offset_bytes, self.reason, self.readable = offset_bytes, reason, readable

    @property
    def seq(self) -> int:
        """The number that the event in that line should have: a log has one event a line."""
        return self.line

    def __str__(self) -> str:
        return (
            f"log of session {self.session_id!r} is damaged: {self.file} line {self.line}, byte {self.offset_bytes}: "
            f"{self.reason}; the first {self.readable} events are whole; nothing was changed: "
            "look at it with verify, set it right with repair"
        )


class LogTampered(LogDamaged):
    """What no accident explains: a line blanked as by a redaction of which no event tells, events that are not those signed."""


class NotARegularFile(LogDamaged, OSError):
    """Where a log or its folder should be is something else: a link, a pipe, a device. It was neither followed nor changed.

    Whoever goes on past a damaged log goes on past this one too; nothing of it is readable.
    """

    def __init__(self, path: str, kind: str, wanted: str = "a regular file", session_id: str = "") -> None:
        OSError.__init__(self, path, kind, wanted)
        self.path, self.kind, self.wanted, self.session_id = path, kind, wanted, session_id
        self.file, self.line, self.offset_bytes, self.readable = path, 1, 0, 0
        self.reason = f"{kind}, not {wanted}"

    def __reduce__(self) -> tuple[object, ...]:
        return type(self), (self.path, self.kind, self.wanted, self.session_id)

    def __str__(self) -> str:
        of = f"log of session {self.session_id!r}: " if self.session_id else ""
        return f"{of}{self.path} is {self.reason}; it was left alone: move it away, then try again"


class RedactionRefused(EventStoreError, ValueError):
    """The content of an event cannot be removed. Nothing was changed."""

    def __init__(self, session_id: str, seq: int, reason: str) -> None:
        super().__init__(session_id, seq, reason)
        self.session_id, self.seq, self.reason = session_id, seq, reason

    def __str__(self) -> str:
        return (
            f"event {self.seq} of session {self.session_id!r} cannot be redacted: {self.reason}; nothing was changed: "
            "leave it out, or delete the session"
        )


class LogRolledBack(EventStoreError):
    """A log that was read to event `seq` does not have that event any more: an older one, or another, was put in its place."""

    def __init__(self, session_id: str, seq: int, reason: str = "is gone or is another") -> None:
        super().__init__(session_id, seq, reason)
        self.session_id, self.seq, self.reason = session_id, seq, reason

    def __str__(self) -> str:
        return (
            f"log of session {self.session_id!r} is not the one that was read before: event {self.seq} {self.reason}; "
            "nothing was read on: find out who changed it, verify it against a checkpoint, or begin without a cursor"
        )


class CursorRefused(EventStoreError, ValueError):
    """A cursor cannot be gone on from. Nothing was read."""

    def __init__(self, cursor: str, reason: str) -> None:
        super().__init__(cursor, reason)
        self.cursor, self.reason = cursor, reason

    def __str__(self) -> str:
        return f"cursor {self.cursor[:80]!a} {self.reason}; nothing was read: give one that this store gave, or begin without"


class PositionNotSaved(EventStoreError):
    """The position of a subscription could not be stored. The one stored before is unchanged, and no event is lost."""

    def __init__(self, where: str, cause: str) -> None:
        super().__init__(where, cause)
        self.where, self.cause = where, cause

    def __str__(self) -> str:
        return (
            f"the position of a subscription was not saved in {self.where}: {self.cause}; the one saved before is unchanged: "
            "make it writable, then ask again"
        )


class ImportRefused(EventStoreError, ValueError):
    """A foreign file cannot be taken in. `line` counts from 1; 0 means the file as a whole."""

    def __init__(self, path: str, line: int, reason: str) -> None:
        super().__init__(path, line, reason)
        self.path, self.line, self.reason = path, line, reason

    def __str__(self) -> str:
        where = f"{self.path} line {self.line}" if self.line else self.path
        return f"cannot import {where}: {self.reason}"


class ExportRefused(EventStoreError, ValueError):
    """A session has nothing to give in the format asked for."""

    def __init__(self, session_id: str, reason: str) -> None:
        super().__init__(session_id, reason)
        self.session_id, self.reason = session_id, reason

    def __str__(self) -> str:
        what = f"session {self.session_id!r}" if self.session_id else "what was asked for"
        return f"cannot export {what}: {self.reason}; nothing was written"


class KeyRefused(EventStoreError, ValueError):
    """A key cannot be used, made or kept. `key` is its name or its file, never the key; `advice` is what to do next."""

    def __init__(self, key: str, reason: str, advice: str) -> None:
        super().__init__(key, reason, advice)
        self.key, self.reason, self.advice = key, reason, advice

    def __str__(self) -> str:
        shown = self.key if len(self.key) <= 200 else self.key[:197] + "..."
        return f"key {shown!a} refused: {self.reason}; nothing was signed or written: {self.advice}"


class CheckpointRefused(EventStoreError, ValueError):
    """A checkpoint, or the signed note around it, is not to be believed. Nothing of it was used.

    `kind` is "malformed" (it is no such note), "unknown" (nobody signed it whose key was given), or "forged" (the signature of a
    key that was given is wrong).
    """

    def __init__(self, kind: Literal["malformed", "unknown", "forged"], reason: str) -> None:
        super().__init__(kind, reason)
        self.kind, self.reason = kind, reason

    def __str__(self) -> str:
        advice = {
            "malformed": "get it again, byte for byte",
            "unknown": "give the verifier key of somebody who signed it",
            "forged": "do not trust it, and get it again from who signed it",
        }[self.kind]
        return f"checkpoint refused: {self.reason}; nothing of it was believed: {advice}"


class ExtraMissing(EventStoreError, ImportError):
    """Something needs a package that is not installed; `extra` is the extra of this one that brings it. Nothing was written."""

    def __init__(self, extra: str, what: str) -> None:
        super().__init__(extra, what)
        self.extra, self.what = extra, what

    def __str__(self) -> str:
        return (
            f"{self.what} needs the extra `{self.extra}`, which is not installed; nothing was written: "
            f"{install_hint(self.extra)}"
        )


class InvalidSetting(EventStoreError, ValueError):
    """A setting holds a value it cannot have. `name` is the environment variable."""

    def __init__(self, name: str, value: str, expected: str) -> None:
        super().__init__(name, value, expected)
        self.name, self.value, self.expected = name, value, expected

    def __str__(self) -> str:
        return f"{self.name}={self.value!r} is not {self.expected}: change it in the environment or in .env"
