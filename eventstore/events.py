"""The catalogue: everything that can happen to a session, one frozen class each.

What is promised for ever is an event's tag and its fields; class names and this module may move. A new field needs a
default. The envelope (`seq`, `at`, ...) is stamped by the log when the event is appended and is left empty before.
"""

from typing import Annotated, Any, ClassVar, Literal, TypeAlias, get_args

import msgspec
from msgspec import UNSET, UnsetType
from msgspec.structs import replace

Role: TypeAlias = Literal["user", "assistant", "tool", "system"]
Status: TypeAlias = Literal["active", "completed", "failed", "abandoned"]


class Origin(msgspec.Struct, frozen=True, omit_defaults=True):
    """The piece of a foreign file that an event came from, terminator included: the pieces joined are the file.

    `line` is the text of the piece; `line_base64` stands in its place where the piece is not UTF-8.
    """

    format: str
    line: str | None = None
    line_base64: str | None = None


class Event(msgspec.Struct, frozen=True, kw_only=True, tag_field="type", omit_defaults=True):
    """What all events have.

    - `seq`: position in the session, from 1, dense; the session's version after this event.
    - `at`: when it was recorded, RFC 3339 UTC with microseconds; never goes back inside a session.
    - `occurred_at`: when it happened, where that is not when it was recorded.
    - `v`: schema version of the type.
    - `id`: idempotency key given by the caller.
    - `batch`: (i, n), the i-th from 0 of n events appended together.
    - `by`: who and from where (actor, tool, trace id).
    - `origin`: the foreign line it came from.
    - `salt`: 128 random bits, base64url, so that removed text cannot be guessed back from its hash.
    - `hash`: 64 hex digits, the chain up to and with this event.
    """

    version: ClassVar[int] = 1

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
        """When it happened: `occurred_at` where there is one, else `at`."""
        return self.occurred_at or self.at


class SessionCreated(Event, frozen=True, kw_only=True, tag="session.created"):
    """A session began. Always the first event that is its own; a fork has its parent's values where none are given.

    `used_before` tells that another session, deleted or in the trash since, had the same id.
    """

    purpose: str | None = None
    user_id: str | None = None
    tags: tuple[str, ...] = ()
    custom_metadata: dict[str, Any] = {}
    forked_from: dict[str, Any] | None = None
    used_before: bool = False


class SessionUpdated(Event, frozen=True, kw_only=True, tag="session.updated"):
    """Metadata changed: what is left out stays; `tags` replace the old ones, `custom_metadata` is merged key by key."""

    purpose: str | None | UnsetType = UNSET
    tags: tuple[str, ...] | UnsetType = UNSET
    custom_metadata: dict[str, Any] = {}


class SessionCompleted(Event, frozen=True, kw_only=True, tag="session.completed"):
    """The session ended, well or not."""

    status: Status = "completed"
    reason: str | None = None


class SessionReopened(Event, frozen=True, kw_only=True, tag="session.reopened"):
    """A session that had ended is active again."""


class SessionPinned(Event, frozen=True, kw_only=True, tag="session.pinned"):
    """The session is kept whatever its age, or, with `pinned` false, no longer."""

    pinned: bool = True


class SessionAdjusted(Event, frozen=True, kw_only=True, tag="session.adjusted"):
    """Somebody saved a session with figures that no other event explains; those given here replace the folded ones.

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


class MessageAdded(Event, frozen=True, kw_only=True, tag="message.added"):
    """Somebody said something. Order in the log is the order of the conversation.

    With an `invocation_id`, a message of the assistant is a tool call (`content` is the JSON of its arguments) and a
    message of the tool is its result.
    """

    role: Role
    content: str
    tool_name: str | None = None
    invocation_id: str | None = None


class ReasoningRecorded(Event, frozen=True, kw_only=True, tag="reasoning.recorded"):
    """The model thought aloud. Part of the timeline, not of the conversation."""

    content: str


class ConversationCleared(Event, frozen=True, kw_only=True, tag="conversation.cleared"):
    """The conversation starts over; the log keeps what was said."""


class ConversationRewound(Event, frozen=True, kw_only=True, tag="conversation.rewound"):
    """The conversation goes on from an earlier point: messages recorded after event `to` left it."""

    to: int


class InvocationLinked(Event, frozen=True, kw_only=True, tag="invocation.linked"):
    """A tool was called in this session.

    The same `invocation_id` again adds to what is known of the call (say its outcome) and counts once. `invocation_dir` is
    relative to the history folder where it lies inside it, else absolute. `duration_ms` is in milliseconds.
    """

    invocation_id: str
    tool_name: str | None = None
    invocation_dir: str | None = None
    duration_ms: float | None = None
    success: bool | None = None
    error: str | None = None


class InvocationUnlinked(Event, frozen=True, kw_only=True, tag="invocation.unlinked"):
    """A call was taken out of the session by somebody who saved the session without it."""

    invocation_id: str


class UsageRecorded(Event, frozen=True, kw_only=True, tag="usage.recorded"):
    """Tokens and money were used.

    `tokens` counts by kind (`input`, `output`, `cache_read`, `cache_write`, `reasoning`, or the caller's own). Events with
    the same `key` speak of the same use: they fold by maximum per field and never add twice.
    """

    tokens: dict[str, int] = {}
    cost: float | None = None
    model: str | None = None
    key: str | None = None


class DataSet(Event, frozen=True, kw_only=True, tag="data.set"):
    """A key of the session's own data got a value, any JSON."""

    key: str
    value: Any = None


class DataDeleted(Event, frozen=True, kw_only=True, tag="data.deleted"):
    """A key of the session's own data went away."""

    key: str


class DataCleared(Event, frozen=True, kw_only=True, tag="data.cleared"):
    """All of the session's own data went away."""


class ForeignRecorded(Event, frozen=True, kw_only=True, tag="foreign.recorded"):
    """A foreign line with no meaning of ours, kept whole in `origin`."""


class LogRepaired(Event, frozen=True, kw_only=True, tag="log.repaired"):
    """A torn tail was cut: `removed_bytes` from `offset_bytes` on, kept in the file `quarantine` beside the log."""

    offset_bytes: int
    removed_bytes: int
    quarantine: str
    reason: str


class EventRedacted(Event, frozen=True, kw_only=True, tag="event.redacted"):
    """The content of event `target` was, or is about to be, overwritten; `leaf` is its leaf hash, 64 hex digits.

    `target_type` and `target_at` are what its line still says, for no hash holds them any more. `target_id` and `target_batch`
    are the idempotency key and the place in its batch that it had, `target_origin_bytes` how long the foreign piece was that it
    came from: they are gone with it.
    """

    target: int
    leaf: str
    reason: str
    target_type: str | None = None
    target_at: str | None = None
    target_id: str | None = None
    target_batch: tuple[int, int] | None = None
    target_origin_bytes: int | None = None


class CheckpointSigned(Event, frozen=True, kw_only=True, tag="checkpoint.signed"):
    """Somebody signed that the log had `size` events with the Merkle root `root` (base64); `note` is the signed text."""

    size: int
    root: str
    note: str


class StoreSessionCreated(Event, frozen=True, kw_only=True, tag="store.session_created"):
    """In the store's own log: a session came into being; `first_hash` is the hash of its first event."""

    session_id: str
    first_hash: str


class StoreSessionForked(Event, frozen=True, kw_only=True, tag="store.session_forked"):
    """In the store's own log: a session or template is about to go on from the first `upto` events of `parent`."""

    session_id: str
    parent: str
    upto: int


class StoreSessionDeleted(Event, frozen=True, kw_only=True, tag="store.session_deleted"):
    """In the store's own log: a session was deleted for good, with the size and head it had."""

    session_id: str
    events: int
    size_bytes: int
    head_hash: str
    reason: str | None = None


class StoreSessionTrashed(Event, frozen=True, kw_only=True, tag="store.session_trashed"):
    """In the store's own log: a session was moved to the trash, where it is `name`, with the size and head it had."""

    session_id: str
    name: str
    events: int
    size_bytes: int
    head_hash: str
    reason: str | None = None


class StoreSessionRestored(Event, frozen=True, kw_only=True, tag="store.session_restored"):
    """In the store's own log: a session came back out of the trash."""

    session_id: str
    name: str


class StoreTrashPurged(Event, frozen=True, kw_only=True, tag="store.trash_purged"):
    """In the store's own log: a session in the trash was deleted for good."""

    session_id: str
    name: str


class StoreEventsRedacted(Event, frozen=True, kw_only=True, tag="store.events_redacted"):
    """In the store's own log: the content of events of a session is about to be removed, in all that is kept of it.

    `leaves` are the leaf hashes (64 hex digits) of the events `targets`: a copy that comes back is known by them.
    """

    session_id: str
    targets: tuple[int, ...]
    reason: str
    leaves: tuple[str, ...] = ()


class StoreCheckpointSigned(Event, frozen=True, kw_only=True, tag="store.checkpoint_signed"):
    """In the store's own log: somebody signed that a session's log had `size` events with the Merkle root `root` (base64)."""

    session_id: str
    size: int
    root: str
    key: str


class UnknownEvent(Event, frozen=True, kw_only=True, tag="unknown"):
    """A verified event of a type or schema version that this release does not know. `raw` is its line without the LF."""

    known_as: str = ""
    raw: bytes = b""

    @property
    def type(self) -> str:
        """The tag that the line carries."""
        return self.known_as


class RedactedEvent(UnknownEvent, frozen=True, kw_only=True, tag="redacted"):
    """A verified event whose content was removed. `known_as` is its type, `leaf` the leaf hash of what it was, 64 hex digits."""

    leaf: str = ""


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
    | InvocationLinked
    | InvocationUnlinked
    | UsageRecorded
    | DataSet
    | DataDeleted
    | DataCleared
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
    | StoreCheckpointSigned
)
"""Every event that a line of a log can hold, as this release knows them."""


def at_time(event: Event, time: str | None) -> Event:
    """Give an event the time at which it happened, RFC 3339; None leaves it as it is."""
    return event if time is None else replace(event, occurred_at=time)


def with_origin(event: Event, origin: Origin) -> Event:
    """Give an event the piece of a foreign file that it came from."""
    return replace(event, origin=origin)


EVENT_TYPES: dict[str, type[Event]] = {str(kind.__struct_config__.tag): kind for kind in get_args(AnyEvent)}
"""Class by tag."""
