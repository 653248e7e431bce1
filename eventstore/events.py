"""The event types of a session, one frozen class each.

Tags and fields never change, because stored logs contain them. The classes are public: `match event:` and `isinstance`
distinguish them apart, for type checkers too. Types of one's own are subclasses of `eventstore.CustomEvent`. A new
field needs a default. The log sets the envelope (`seq`, `at`, ...) when an event is appended; until then it is empty.
"""

from typing import Annotated, Any, ClassVar, Literal, TypeAlias, get_args

import msgspec
from msgspec import UNSET, UnsetType
from msgspec.structs import replace

Role: TypeAlias = Literal["user", "assistant", "tool", "system"]
Status: TypeAlias = Literal["active", "completed", "failed", "abandoned"]


class Origin(msgspec.Struct, frozen=True, omit_defaults=True):
    """The line of a foreign file from which an event was imported. All lines joined are the file.

    `line` is the text with its terminator. `line_base64` replaces it if the bytes are not UTF-8. A log may hold the line
    compressed, as `line_deflate` and `own_bytes` (`record/packed_origin.py`); an event that is read has `line` instead.
    """

    format: str
    line: str | None = None
    line_base64: str | None = None
    line_deflate: str | None = None
    own_bytes: int = 0


class Event(msgspec.Struct, frozen=True, kw_only=True, tag_field="type", omit_defaults=True):
    """The envelope: the fields that every event has.

    - `seq`: position in the session, from 1, without gaps; the session's version after this event.
    - `at`: when it was recorded, RFC 3339 UTC with microseconds; never decreases within a session.
    - `occurred_at`: when it happened, if that differs from `at`.
    - `v`: schema version of the type.
    - `id`: idempotency key chosen by the caller.
    - `batch`: (i, n): event i, from 0, of n events appended together.
    - `by`: who caused it (actor, tool, trace id).
    - `origin`: the foreign line it was imported from.
    - `salt`: 128 random bits, base64url, so that redacted text cannot be guessed from its hash.
    - `hash`: hash of the chain up to and including this event, 64 hex digits.
    """

    schema_version: ClassVar[int] = 1

    seq: int = 0
    at: str = ""
    occurred_at: str | None = None
    v: Annotated[int, msgspec.Meta(ge=1, le=1)] = 1
    id: str | None = None
    batch: tuple[int, int] | None = None
    by: dict[str, Any] | None = None
    origin: Origin | None = None
    salt: str | None = None
    hash: str = ""

    @property
    def type(self) -> str:
        """The tag on the wire, such as `message.added`."""
        return str(self.__struct_config__.tag)

    @property
    def time(self) -> str:
        """When it happened: `occurred_at` if set, else `at`."""
        return self.occurred_at or self.at


class SessionCreated(Event, frozen=True, kw_only=True, tag="session.created"):
    """The session was created. Always its first own event. A fork inherits its parent's values for fields that are not set.

    `used_before` is True if an earlier session, since deleted or trashed, had the same id. `external_key` is the name, any text,
    that another program has for the session.
    """

    purpose: str | None = None
    user_id: str | None = None
    tags: tuple[str, ...] = ()
    custom_metadata: dict[str, Any] = {}
    forked_from: dict[str, Any] | None = None
    used_before: bool = False
    external_key: str | None = None


class SessionUpdated(Event, frozen=True, kw_only=True, tag="session.updated"):
    """Metadata changed. Fields that are not set stay; `tags` replaces the old tags, `custom_metadata` is merged key by key."""

    purpose: str | None | UnsetType = UNSET
    tags: tuple[str, ...] | UnsetType = UNSET
    custom_metadata: dict[str, Any] = {}


class SessionCompleted(Event, frozen=True, kw_only=True, tag="session.completed"):
    """The session ended; `status` is how."""

    status: Status = "completed"
    reason: str | None = None


class SessionReopened(Event, frozen=True, kw_only=True, tag="session.reopened"):
    """An ended session is active again."""


class SessionPinned(Event, frozen=True, kw_only=True, tag="session.pinned"):
    """Retention keeps the session whatever its age; with `pinned` false, no longer."""

    pinned: bool = True


class SessionAdjusted(Event, frozen=True, kw_only=True, tag="session.adjusted"):
    """A session was saved with figures that no other event explains, or lost the event that explained them.

    The fields set here replace the folded ones.
    Durations in milliseconds, cost in the caller's currency, times RFC 3339. `custom_metadata` replaces, never merges.
    """

    created_at: str | UnsetType = UNSET
    updated_at: str | UnsetType = UNSET
    user_id: str | None | UnsetType = UNSET
    total_invocations: int | UnsetType = UNSET
    total_duration_ms: float | UnsetType = UNSET
    tools_used: tuple[str, ...] | UnsetType = UNSET
    estimated_cost: float | None | UnsetType = UNSET
    token_usage: dict[str, int] | None | UnsetType = UNSET
    custom_metadata: dict[str, Any] | UnsetType = UNSET
    external_key: str | None | UnsetType = UNSET


class MessageAdded(Event, frozen=True, kw_only=True, tag="message.added"):
    """A message of the conversation. Its order is the order of the log.

    With an `invocation_id`, an assistant message is a tool call (`content` is the JSON of its arguments) and a tool message
    is its result. A `copied` one is counted and found in the session that it was copied from.

    `blocks` are the content as it was given, if it is more than text; `content` is then its text. Of images and files the base64
    text is left empty in `blocks`, and `blobs` has one object for each: `at` (its path), `prefix` (`data:image/png;base64,`),
    `value_bytes` and `value_sha256` of the bytes, which are an attachment of the log.
    """

    role: Role
    content: str
    tool_name: str | None = None
    invocation_id: str | None = None
    copied: bool = False
    blocks: list[Any] | None = None
    blobs: list[Any] | None = None


class ReasoningRecorded(Event, frozen=True, kw_only=True, tag="reasoning.recorded"):
    """Reasoning of the model. Part of the timeline, not of the conversation."""

    content: str


class ConversationCleared(Event, frozen=True, kw_only=True, tag="conversation.cleared"):
    """The conversation is empty again; the log keeps the earlier messages."""


class ConversationRewound(Event, frozen=True, kw_only=True, tag="conversation.rewound"):
    """The conversation continues from an earlier point: messages recorded after event `to` are dropped from it."""

    to: int


class MessagesWithdrawn(Event, frozen=True, kw_only=True, tag="messages.withdrawn"):
    """Messages are no longer part of the conversation: those that were recorded as the events `targets`."""

    targets: tuple[int, ...]


class InvocationStarted(Event, frozen=True, kw_only=True, tag="invocation.started"):
    """A tool call began in this session. `invocation.linked` with the same `invocation_id` records how it ended.

    `input` is what the tool was given, any JSON value; left out where it is not known. A value over 256 KiB is not in the event
    but is an attachment of the log: `input_bytes` and `input_sha256` (hex) are the size and hash of its JSON text.
    `invocation_dir` is that of InvocationLinked.
    """

    invocation_id: str
    tool_name: str | None = None
    invocation_dir: str | None = None
    input: Any = UNSET
    input_bytes: int | None = None
    input_sha256: str | None = None
    copied: bool = False


class InvocationLinked(Event, frozen=True, kw_only=True, tag="invocation.linked"):
    """A tool was called in this session.

    A later event with the same `invocation_id` adds fields, such as the outcome; the call counts once. `invocation_dir` is
    relative to the history folder if it is inside it, else absolute. `duration_ms` is in milliseconds. `result` is what the
    tool answered, any JSON value; left out where it is not known. `result_bytes` and `result_sha256` are those of a result over
    256 KiB, as the input of InvocationStarted has them. A `copied` call counts in the session that it was copied from.
    `sub_session` is the session of the sub-agent that the call ran.
    """

    invocation_id: str
    tool_name: str | None = None
    invocation_dir: str | None = None
    duration_ms: float | None = None
    success: bool | None = None
    error: str | None = None
    result: Any = UNSET
    result_bytes: int | None = None
    result_sha256: str | None = None
    sub_session: str | None = None
    copied: bool = False


class InvocationUnlinked(Event, frozen=True, kw_only=True, tag="invocation.unlinked"):
    """A call was removed from the session, because the session was saved without it."""

    invocation_id: str


class UsageRecorded(Event, frozen=True, kw_only=True, tag="usage.recorded"):
    """The model used tokens or money.

    `tokens` counts by kind (`input`, `output`, `cache_read`, `cache_write`, `reasoning`, or the caller's own). No token is in two
    kinds: `input` is without the cached ones, `output` without those of reasoning. `cache_write_hour` is how many
    of `cache_write` were written for an hour, which costs more. Events with the same `key` describe the same use: they
    fold by maximum per field and are not added up. A `copied` use counts in the session that it was copied from.
    """

    tokens: dict[str, int] = {}
    cost: float | None = None
    model: str | None = None
    key: str | None = None
    cache_write_hour: int = 0
    copied: bool = False


class DataSet(Event, frozen=True, kw_only=True, tag="data.set"):
    """A key of the session's own data was set to `value`, any JSON value."""

    key: str
    value: Any = None


class DataDeleted(Event, frozen=True, kw_only=True, tag="data.deleted"):
    """A key of the session's own data was deleted."""

    key: str


class DataCleared(Event, frozen=True, kw_only=True, tag="data.cleared"):
    """All of the session's own data was deleted."""


class RecordPut(Event, frozen=True, kw_only=True, tag="record.put"):
    """A program put a value into one of its streams: lists and maps inside the session.

    Without `key` the value comes last in the list. With `key` it replaces the value of that key and keeps its place; a new key
    comes last. With `once` the first value of a key stays. With `first` it takes the place that this event had in the
    stream: so a value stays where it was when events of its stream are redacted. `value` is any JSON value; with `base64` it is
    the text of bytes.
    A value over 256 KiB is an attachment of the log: then `value_bytes` and `value_sha256` (hex) are set.
    """

    stream: str
    key: str | None = None
    value: Any = None
    once: bool = False
    first: int | None = None
    base64: bool = False
    value_bytes: int | None = None
    value_sha256: str | None = None


class RecordRemoved(Event, frozen=True, kw_only=True, tag="record.removed"):
    """A program removed values from its streams. The log keeps them.

    With `stream`: the value of `key`, or the value without a key that was put by event `item`, or the `last` value, or else all.
    With `prefix` instead: all values of all streams whose names begin with it.
    """

    stream: str | None = None
    key: str | None = None
    item: int | None = None
    last: bool = False
    prefix: str | None = None


class ForeignRecorded(Event, frozen=True, kw_only=True, tag="foreign.recorded"):
    """A foreign line that no event type describes. `origin` holds the line.

    `withheld_bytes` is the size of a line that is not kept, because a copy of it was redacted in this store before.
    """

    withheld_bytes: int = 0


class LogRepaired(Event, frozen=True, kw_only=True, tag="log.repaired"):
    """Damaged bytes were removed: `removed_bytes` from `offset_bytes` on, saved as the attachment `quarantine`."""

    offset_bytes: int
    removed_bytes: int
    quarantine: str
    reason: str


class EventRedacted(Event, frozen=True, kw_only=True, tag="event.redacted"):
    """The content of event `target` was, or is about to be, overwritten; `leaf` is its leaf hash, 64 hex digits.

    `target_type` and `target_at` repeat the type and time that the redacted line keeps, because its hash no longer covers them.
    `target_id`, `target_batch`, `target_origin_bytes` and `target_time` record the idempotency key, the place in its batch, the
    length of the foreign line and when it happened: the redacted line no longer has them.
    """

    target: int
    leaf: str
    reason: str
    target_type: str | None = None
    target_at: str | None = None
    target_id: str | None = None
    target_batch: tuple[int, int] | None = None
    target_origin_bytes: int | None = None
    target_time: str | None = None


class CheckpointSigned(Event, frozen=True, kw_only=True, tag="checkpoint.signed"):
    """A signer attested that the log had `size` events with the Merkle root `root` (base64). `note` is the signed text."""

    size: int
    root: str
    note: str


class StoreSessionCreated(Event, frozen=True, kw_only=True, tag="store.session_created"):
    """In the registry: a session was created. `first_hash` is the hash of its first event."""

    session_id: str
    first_hash: str


class StoreSessionForked(Event, frozen=True, kw_only=True, tag="store.session_forked"):
    """In the registry: a session or template is about to be forked from the first `upto` events of `parent`."""

    session_id: str
    parent: str
    upto: int


class StoreSessionDeleted(Event, frozen=True, kw_only=True, tag="store.session_deleted"):
    """In the registry: a session was deleted permanently. Its size in events and bytes and its last hash are recorded."""

    session_id: str
    events: int
    size_bytes: int
    head_hash: str
    reason: str | None = None


class StoreSessionTrashed(Event, frozen=True, kw_only=True, tag="store.session_trashed"):
    """In the registry: a session was moved to the trash as `name`. Its size and its last hash are recorded."""

    session_id: str
    name: str
    events: int
    size_bytes: int
    head_hash: str
    reason: str | None = None


class StoreSessionRestored(Event, frozen=True, kw_only=True, tag="store.session_restored"):
    """In the registry: a session was restored from the trash."""

    session_id: str
    name: str


class StoreTrashPurged(Event, frozen=True, kw_only=True, tag="store.trash_purged"):
    """In the registry: a session in the trash was deleted permanently."""

    session_id: str
    name: str


class StoreEventsRedacted(Event, frozen=True, kw_only=True, tag="store.events_redacted"):
    """In the registry: events of a session are about to be redacted in every copy that the store keeps.

    `leaves` are the leaf hashes (64 hex digits) of the events `targets`: they identify a copy that is restored later. `lines` are
    marks of the imported lines among them (32 hex digits, of ids and places, not of texts): they identify other copies of these.
    Where `whole` is given, a `store.redaction_finished` follows when all is done. It is true where the records of calls are to
    lose all of their content, false where only what patterns find.
    """

    session_id: str
    targets: tuple[int, ...]
    reason: str
    leaves: tuple[str, ...] = ()
    lines: tuple[str, ...] = ()
    whole: bool | None = None


class StoreRedactionFinished(Event, frozen=True, kw_only=True, tag="store.redaction_finished"):
    """In the registry: the redaction that its event `record` announced is done, in every log and all derived data."""

    session_id: str
    record: int


class StoreCheckpointSigned(Event, frozen=True, kw_only=True, tag="store.checkpoint_signed"):
    """In the registry: a signer attested that a session's log had `size` events with the Merkle root `root` (base64)."""

    session_id: str
    size: int
    root: str
    key: str


class UnknownEvent(Event, frozen=True, kw_only=True, tag="unknown"):
    """A verified event with a type or schema version that this release does not know. `raw` is its line without the LF."""

    known_as: str = ""
    raw: bytes = b""

    @property
    def type(self) -> str:
        """The tag in the stored line."""
        return self.known_as

    @property
    def fields(self) -> dict[str, Any]:
        """The event's own fields: the JSON object without the envelope. Empty for a redacted event."""
        try:
            raw: dict[str, Any] = msgspec.json.decode(self.raw, type=dict[str, Any])
        except (msgspec.DecodeError, RecursionError):  # a number, say, that Python cannot hold
            return {}
        return {name: value for name, value in raw.items() if name not in _ENVELOPE}


class RedactedEvent(UnknownEvent, frozen=True, kw_only=True, tag="redacted"):
    """A redacted event. `known_as` is its type, `leaf` the leaf hash of the removed event, 64 hex digits."""

    leaf: str = ""


_ENVELOPE = frozenset([*Event.__struct_fields__, "type", "redacted"])

AnyEvent: TypeAlias = (
    SessionCreated
    | SessionUpdated
    | SessionCompleted
    | SessionReopened
    | SessionPinned
    | SessionAdjusted
    | MessageAdded
    | ReasoningRecorded
    | ConversationCleared
    | ConversationRewound
    | MessagesWithdrawn
    | InvocationStarted
    | InvocationLinked
    | InvocationUnlinked
    | UsageRecorded
    | DataSet
    | DataDeleted
    | DataCleared
    | RecordPut
    | RecordRemoved
    | ForeignRecorded
    | LogRepaired
    | EventRedacted
    | CheckpointSigned
    | StoreSessionCreated
    | StoreSessionForked
    | StoreSessionDeleted
    | StoreSessionTrashed
    | StoreSessionRestored
    | StoreTrashPurged
    | StoreEventsRedacted
    | StoreRedactionFinished
    | StoreCheckpointSigned
)
"""Every event type that this release can write."""


def at_time(event: Event, time: str | None) -> Event:
    """Return the event with `occurred_at` set to `time`, RFC 3339; with None, return it unchanged."""
    return event if time is None else replace(event, occurred_at=time)


def with_origin(event: Event, origin: Origin) -> Event:
    """Return the event with `origin` set."""
    return replace(event, origin=origin)


InvocationEvent: TypeAlias = InvocationStarted | InvocationLinked
"""What is recorded of a tool call: its start, and its outcome."""

EVENT_TYPES: dict[str, type[Event]] = {str(kind.__struct_config__.tag): kind for kind in get_args(AnyEvent)}
"""Event class by tag."""
