"""All errors of this package, as one tree.

    EventStoreError
    ├── InvalidSessionId      (ValueError)   a text that cannot be a session id
    ├── SessionNotFound       (ValueError, LookupError)
    ├── SessionExists         (ValueError)
    ├── NoSuchMoment          (ValueError)   a version the session has not reached, or an invalid time
    ├── VersionConflict                      another writer appended first
    ├── EventRefused          (ValueError)   an event that cannot be stored
    │   ├── EventNotEncodable                a value that JSON cannot represent exactly, or that no such event can have
    │   ├── EventTooLarge                    an event over the size limit
    │   └── IdReused                         an idempotency key used by another append
    ├── RedactionRefused      (ValueError)   an event that cannot be redacted
    ├── AppendRefused                        the system refused an append
    ├── ReadRefused                          the system refused to read a log
    ├── OutcomeUnknown                       an append may or may not be stored
    ├── HandlePoisoned                       an earlier flush of this log failed
    ├── ServingRefused                       the server did not start
    ├── OperationRefused                     the system refused to delete, trash or restore a session
    ├── HistoryRefused                       the system refused to write the history folder of tool calls
    ├── NotSupported                         the backend or the system does not support the operation
    ├── LogDamaged                           a log holds bytes that no append wrote
    │   ├── LogTampered                      a redaction that no event records, or a wrong signature
    │   └── NotARegularFile   (OSError)      a folder, link, pipe or device in the place of a log
    ├── LogRolledBack                        an event that was read before is missing or different
    ├── CursorRefused         (ValueError)   an invalid or expired cursor
    ├── PositionNotSaved                     the position of a subscription could not be stored
    ├── ImportRefused         (ValueError)   a foreign file that cannot be imported
    ├── ExportRefused         (ValueError)   a session that cannot be exported in this format
    ├── KeyRefused            (ValueError)   a signing or verifier key that cannot be used
    ├── CheckpointRefused     (ValueError)   a signed checkpoint that cannot be trusted
    ├── ExtraMissing          (ImportError)  an optional package is not installed
    └── InvalidSetting        (ValueError)   a setting with an invalid value

Every error states what happened, to which session, what was not done and what to do next. Event content is never quoted.
"""

import os
from typing import Literal

from eventstore.release import install_hint


class EventStoreError(Exception):
    """The base class of all errors that this package raises on purpose."""


class InvalidSessionId(EventStoreError, ValueError):
    """The text cannot be a session id, or the name of a `kind` that follows its rules. Nothing was read or written."""

    def __init__(self, session_id: str, reason: str, kind: str = "session id") -> None:
        super().__init__(session_id, reason, kind)
        self.session_id, self.reason, self.kind = session_id, reason, kind

    def __str__(self) -> str:
        shown = self.session_id if len(self.session_id) <= 80 else self.session_id[:77] + "..."
        return (
            f"invalid {self.kind} {shown!a}: {self.reason}; nothing was done: use 1-128 of "
            "A-Z a-z 0-9 . _ - with a letter or digit first and no dot last"
        )


class SessionNotFound(EventStoreError, ValueError, LookupError):
    """No session has this id, or it had no event then. Nothing was written.

    `in_trash` is True if it was found in the trash. `kind` is what was looked for, such as "template". `appending` is True for an
    append: it can create the session first; `not_begun` where the session had no event at the moment that was asked for.
    """

    def __init__(
        self,
        session_id: str,
        *,
        in_trash: bool = False,
        kind: str = "session",
        appending: bool = False,
        not_begun: bool = False,
    ) -> None:
        super().__init__(session_id)
        self.session_id, self.in_trash, self.kind, self.appending = session_id, in_trash, kind, appending
        self.not_begun = not_begun

    def __str__(self) -> str:
        if self.not_begun:
            return f"session {self.session_id!r} had no event at that moment; nothing was done: give a later one"
        if self.in_trash:
            return (
                f"session {self.session_id!r} is in the trash; nothing was done: bring it back with restore, or let cleanup "
                "delete it for good"
            )
        if self.appending:
            return f"session {self.session_id!r} not found; nothing was written: create it first, or check the id and the store"
        name = "id" if self.kind == "session" else "name"
        return f"{self.kind} {self.session_id!r} not found; nothing was done: check the {name} and the store"


class NoSuchMoment(EventStoreError, ValueError):
    """A query names a version that the session has not reached, or an invalid time. Nothing was returned.

    `argument` is the name of an argument that takes times only, or empty.
    """

    def __init__(self, at: object, reason: str, argument: str = "") -> None:
        super().__init__(at, reason, argument)
        self.at, self.reason, self.argument = at, reason, argument

    def __str__(self) -> str:
        shown = f"{str(self.at)[:80]!a}"
        if self.argument:
            return f"{self.argument} {shown} is not a time; nothing was returned: write it as 2026-01-31T12:00:00Z"
        return f"no such moment: {shown}: {self.reason}; give a version or a time that the session has reached"


class SessionExists(EventStoreError, ValueError):
    """A session with this id already exists. Nothing was written.

    `kind` is what exists, such as "template". `restoring` is True if it prevents restoring one from the trash.
    """

    def __init__(self, session_id: str, *, kind: str = "session", restoring: bool = False) -> None:
        super().__init__(session_id)
        self.session_id, self.kind, self.restoring = session_id, kind, restoring

    def __str__(self) -> str:
        exists = f"{self.kind} {self.session_id!r} already exists"
        if self.restoring:
            return f"{exists}; nothing was restored: if another one is in the trash, trash or delete this one first"
        if self.kind == "session":
            return f"{exists}; nothing was written: choose another id, or get the session"
        return f"{exists}; nothing was written: choose another name, or remove it first"


class VersionConflict(EventStoreError):
    """Another writer appended first. Nothing of this append was written.

    `since` holds the types of the events appended since `expected`, oldest first: at most the last 20.
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
    """An event cannot be stored. No event of its batch was written."""


class EventNotEncodable(EventRefused):
    """A value of the event has no exact JSON form, or no such event can have it. `path` is its place, such as `$.value[2]`."""

    def __init__(self, event_type: str, path: str, reason: str) -> None:
        super().__init__(event_type, path, reason)
        self.event_type, self.path, self.reason = event_type, path, reason

    def __str__(self) -> str:
        return f"{self.event_type} event refused: {self.path} {self.reason}; nothing was written: change that value"


class EventTooLarge(EventRefused):
    """The encoded event is larger than the limit. Both sizes are in bytes."""

    def __init__(self, event_type: str, size_bytes: int, limit_bytes: int) -> None:
        super().__init__(event_type, size_bytes, limit_bytes)
        self.event_type, self.size_bytes, self.limit_bytes = event_type, size_bytes, limit_bytes

    def __str__(self) -> str:
        return (
            f"{self.event_type} event refused: {self.size_bytes} bytes are over the limit of {self.limit_bytes}; "
            "nothing was written: keep large content in a file and record its path, or raise max_event_bytes"
        )


class IdReused(EventRefused):
    """A batch mixes idempotency keys that the session already has with new ones, or keys of different appends."""

    def __init__(self, session_id: str, event_id: str) -> None:
        super().__init__(session_id, event_id)
        self.session_id, self.event_id = session_id, event_id

    def __str__(self) -> str:
        return (
            f"session {self.session_id!r} already has id {self.event_id!r} from another append; nothing was written: "
            "repeat that append unchanged, or choose a new id"
        )


class AppendRefused(EventStoreError):
    """The system refused an append: disk full, no permission, no free descriptor, ... Nothing was written."""

    def __init__(self, session_id: str, file: str, errno: int) -> None:
        super().__init__(session_id, file, errno)
        self.session_id, self.file, self.errno = session_id, file, errno

    def __str__(self) -> str:
        return (
            f"append to session {self.session_id!r} refused: {os.strerror(self.errno)} ({self.file}); nothing was written: "
            "remove the cause, then append again"
        )


class ReadRefused(EventStoreError):
    """The system refused to read: no permission, no connection, a disk error, ... Nothing was changed.

    `session_id` is empty if the error concerns the store and no single session.
    """

    def __init__(self, session_id: str, file: str, errno: int) -> None:
        super().__init__(session_id, file, errno)
        self.session_id, self.file, self.errno = session_id, file, errno

    def __str__(self) -> str:
        # No session begins with _, but the logs of the store itself do.
        what = f"session {self.session_id!r}" if self.session_id[:1].isalnum() else "the store"
        return (
            f"{what} could not be read: {os.strerror(self.errno)} ({self.file}); nothing was changed: "
            "remove the cause, then try again"
        )


class OutcomeUnknown(EventStoreError):
    """It is not known whether an append, or what `done` names, survives. An append can be repeated with the same `id`."""

    def __init__(self, session_id: str, file: str, errno: int, done: str = "") -> None:
        super().__init__(session_id, file, errno, done)
        self.session_id, self.file, self.errno, self.done = session_id, file, errno, done

    def __str__(self) -> str:
        why = f"{os.strerror(self.errno)} ({self.file})"
        if self.done:
            return f"session {self.session_id!r} may or may not be {self.done}: {why}: open the store again and look"
        what = f"append to session {self.session_id!r}" if self.session_id else "what was appended"
        return f"{what} may or may not be stored: {why}: open the store again, then append again with the same id"


class HandlePoisoned(EventStoreError):
    """An earlier flush of this log failed, so a later success would prove nothing. Nothing was written."""

    def __init__(self, session_id: str, file: str, errno: int) -> None:
        super().__init__(session_id, file, errno)
        self.session_id, self.file, self.errno = session_id, file, errno

    def __str__(self) -> str:
        return (
            f"append to session {self.session_id!r} refused: an earlier flush failed ({os.strerror(self.errno)}, {self.file}); "
            "nothing was written: open the store again"
        )


class OperationRefused(EventStoreError):
    """The system refused to delete, trash, restore, ... a session: no permission, disk full, ...

    `done` is what was not done: "deleted", ..., or "locked" of the store. `file` and `errno` are what the system reported.
    """

    def __init__(self, session_id: str, done: str, file: str, errno: int) -> None:
        super().__init__(session_id, done, file, errno)
        self.session_id, self.done, self.file, self.errno = session_id, done, file, errno

    def __str__(self) -> str:
        where = f" ({self.file})" if self.file else ""
        what, then = f"session {self.session_id!r}", "the next writer completes or reverts the unfinished step"
        if self.done == "locked":
            what, then = "the store", "what needs its lock was not begun"
        return f"{what} was not {self.done}: {os.strerror(self.errno)}{where}; {then}: remove the cause, then try again"


class ServingRefused(EventStoreError):
    """The server did not start at `address`; `reason` is why, and what to do."""

    def __init__(self, address: str, reason: str) -> None:
        super().__init__(address, reason)
        self.address, self.reason = address, reason

    def __str__(self) -> str:
        return f"nothing is served at {self.address}: {self.reason}"


class HistoryRefused(EventStoreError):
    """The history folder cannot be written, and the tool call has no session that would record it."""

    def __init__(self, file: str, reason: str) -> None:
        super().__init__(file, reason)
        self.file, self.reason = file, reason

    def __str__(self) -> str:
        return (
            f"a tool call without a session could not be recorded in {self.file}: {self.reason}; its result is not kept: "
            "remove the cause, or give the call a session"
        )


class NotSupported(EventStoreError):
    """The backend or the system does not support the operation. Nothing was done.

    `where` names the store, `cannot` the unsupported operation, `instead` what to do next. `session_id` may be empty.
    """

    def __init__(self, session_id: str, where: str, cannot: str, instead: str) -> None:
        super().__init__(session_id, where, cannot, instead)
        self.session_id, self.where, self.cannot, self.instead = session_id, where, cannot, instead

    def __str__(self) -> str:
        session = f"session {self.session_id!r}: " if self.session_id else ""
        return f"{session}{self.where} cannot {self.cannot}; nothing was done: {self.instead}"


class LogDamaged(EventStoreError):
    """The log holds bytes that no append wrote.

    `line` counts from 1. `offset_bytes` is where that line begins. The first `readable` events are intact and verified.
    """

    def __init__(self, session_id: str, file: str, line: int, offset_bytes: int, reason: str, readable: int) -> None:
        super().__init__(session_id, file, line, offset_bytes, reason, readable)
        self.session_id, self.file, self.line = session_id, file, line
        self.offset_bytes, self.reason, self.readable = offset_bytes, reason, readable

    @property
    def seq(self) -> int:
        """The number of the event that belongs in this line. A log has one event per line."""
        return self.line

    def __str__(self) -> str:
        return (
            f"log of session {self.session_id!r} is damaged: {self.file} line {self.line}, byte {self.offset_bytes}: "
            f"{self.reason}; the first {self.readable} events are intact; nothing was changed: "
            "inspect it with verify, then fix it with repair"
        )


class LogTampered(LogDamaged):
    """Damage that no accident explains: a redacted line without its event.redacted, or a wrong signature."""


class NotARegularFile(LogDamaged, OSError):
    """A link, pipe or device is in the place of a log or its folder. It was neither followed nor changed.

    It is a LogDamaged, so code that skips damaged logs skips this one too. Nothing of it is readable.
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
        return f"{of}{self.path} is {self.reason}; it was not read or changed: move it away, then try again"


class RedactionRefused(EventStoreError, ValueError):
    """The event cannot be redacted. Nothing was changed."""

    def __init__(self, session_id: str, seq: int, reason: str, advice: str = "omit it, or delete the session") -> None:
        super().__init__(session_id, seq, reason, advice)
        self.session_id, self.seq, self.reason, self.advice = session_id, seq, reason, advice

    def __str__(self) -> str:
        what = f"event {self.seq} of session {self.session_id!r} cannot be redacted: {self.reason}"
        return f"{what}; nothing was changed: {self.advice}"


class LogRolledBack(EventStoreError):
    """Event `seq`, which was read before, is missing or different: the log was replaced by an older or another one."""

    def __init__(self, session_id: str, seq: int, reason: str = "is missing or different") -> None:
        super().__init__(session_id, seq, reason)
        self.session_id, self.seq, self.reason = session_id, seq, reason

    def __str__(self) -> str:
        return (
            f"log of session {self.session_id!r} is not the one that was read before: event {self.seq} {self.reason}; "
            "nothing more was read: find out who changed it, verify it against a checkpoint, or start without a cursor"
        )


class CursorRefused(EventStoreError, ValueError):
    """A cursor cannot be resumed from, or no position can have this name: then `kind` says so. Nothing was read."""

    def __init__(self, cursor: str, reason: str, kind: str = "cursor") -> None:
        super().__init__(cursor, reason, kind)
        self.cursor, self.reason, self.kind = cursor, reason, kind

    def __str__(self) -> str:
        if self.kind != "cursor":
            return f"{self.kind} {self.cursor[:80]!a} {self.reason}; nothing was read: choose another name"
        return f"cursor {self.cursor[:80]!a} {self.reason}; nothing was read: pass a cursor that this store returned, or none"


class PositionNotSaved(EventStoreError):
    """The position of a subscription could not be stored. The last stored position is unchanged; no event is lost."""

    def __init__(self, where: str, cause: str) -> None:
        super().__init__(where, cause)
        self.where, self.cause = where, cause

    def __str__(self) -> str:
        return (
            f"the position of a subscription was not saved in {self.where}: {self.cause}; the one saved before is unchanged: "
            "make it writable, then ask again"
        )


class ImportRefused(EventStoreError, ValueError):
    """A foreign file cannot be imported. `line` counts from 1; 0 means the entire file.

    `verb` is the requested operation, if it was another one.
    """

    def __init__(self, path: str, line: int, reason: str, verb: str = "import") -> None:
        super().__init__(path, line, reason, verb)
        self.path, self.line, self.reason, self.verb = path, line, reason, verb

    def __str__(self) -> str:
        where = f"{self.path} line {self.line}" if self.line else self.path
        return f"cannot {self.verb} {where}: {self.reason}"


class ExportRefused(EventStoreError, ValueError):
    """A session cannot be exported in the requested format. Nothing was written."""

    def __init__(self, session_id: str, reason: str) -> None:
        super().__init__(session_id, reason)
        self.session_id, self.reason = session_id, reason

    def __str__(self) -> str:
        what = f"session {self.session_id!r}" if self.session_id else "the requested sessions"
        return f"cannot export {what}: {self.reason}; nothing was written"


class KeyRefused(EventStoreError, ValueError):
    """A key cannot be used, created or stored. `key` is its name or file, never the secret; `advice` is what to do next."""

    def __init__(self, key: str, reason: str, advice: str) -> None:
        super().__init__(key, reason, advice)
        self.key, self.reason, self.advice = key, reason, advice

    def __str__(self) -> str:
        shown = self.key if len(self.key) <= 200 else self.key[:197] + "..."
        return f"key {shown!a} refused: {self.reason}; nothing was signed or written: {self.advice}"


class CheckpointRefused(EventStoreError, ValueError):
    """A checkpoint, or the signed note around it, cannot be trusted. Nothing of it was used.

    `kind` is "malformed" (not a signed note), "unknown" (no given key signed it) or "forged" (the signature of a given key is
    wrong).
    """

    def __init__(self, kind: Literal["malformed", "unknown", "forged"], reason: str) -> None:
        super().__init__(kind, reason)
        self.kind, self.reason = kind, reason

    def __str__(self) -> str:
        advice = {
            "malformed": "get an exact copy of it",
            "unknown": "pass the verifier key of one of its signers",
            "forged": "do not trust it, and get it again from its signer",
        }[self.kind]
        return f"checkpoint refused: {self.reason}; nothing of it was used: {advice}"


class ExtraMissing(EventStoreError, ImportError):
    """`what` needs a package that is not installed. `extra` is the extra that installs it. Nothing was written."""

    def __init__(self, extra: str, what: str) -> None:
        super().__init__(extra, what)
        self.extra, self.what = extra, what

    def __str__(self) -> str:
        return (
            f"{self.what} needs the extra `{self.extra}`, which is not installed; nothing was done: "
            f"{install_hint(self.extra)}"
        )


class InvalidSetting(EventStoreError, ValueError):
    """A setting has an invalid value. `name` is the environment variable, `expected` describes the allowed values."""

    def __init__(self, name: str, value: str, expected: str) -> None:
        super().__init__(name, value, expected)
        self.name, self.value, self.expected = name, value, expected

    def __str__(self) -> str:
        if not self.name.isupper():  # an argument, such as the URL of a store
            return f"{self.name} {self.value!r} is not {self.expected}; nothing was opened"
        return f"{self.name}={self.value!r} is not {self.expected}: change it in the environment or in .env"
