"""Sessions as mutable Python objects. Changes reach the store only when the session is saved."""

from collections.abc import Iterable, Mapping, MutableSequence, Sequence
from copy import deepcopy
from dataclasses import dataclass, field
from datetime import UTC, datetime
from enum import StrEnum
from typing import Any, Self, get_args, overload

from eventstore.events import Role
from eventstore.record.clock import read_time, to_datetime, to_utc
from eventstore.record.message_run import Message


class SessionStatus(StrEnum):
    """The status of a session."""

    ACTIVE = "active"
    COMPLETED = "completed"
    FAILED = "failed"
    ABANDONED = "abandoned"


@dataclass(eq=False)
class ConversationMessage:
    """One message. `role` is user, assistant, tool or system; a `timestamp` without a zone is local time.

    A stored message has its timestamp in UTC; before that it stays as given. Two messages are equal if their fields are
    equal; timestamps are equal if they are the same moment. `blocks` are the content as given, if it is more than text.
    In a loaded session, the bytes of its files are left out, and `blobs` has their places;
    `SessionManager.conversation` returns everything.
    """

    role: str
    content: str
    timestamp: datetime
    tool_name: str | None = None
    invocation_id: str | None = None
    blocks: list[Any] | None = None
    blobs: list[Any] | None = None

    def __post_init__(self) -> None:
        check_role(self.role)
        _zoned(self.timestamp, "timestamp")

    __hash__ = None  # type: ignore[assignment]

    def __eq__(self, other: object) -> bool:
        if not isinstance(other, ConversationMessage):
            return NotImplemented
        return self._values() == other._values()

    def _values(self) -> tuple[object, ...]:
        stored = self.blocks, self.blobs
        return self.role, self.content, to_utc(self.timestamp), self.tool_name, self.invocation_id, *stored

    def to_dict(self) -> dict[str, Any]:
        """Return the fields as JSON values, the time as ISO text; optional fields only if they are set."""
        found = {"role": self.role, "content": self.content, "timestamp": _iso(self.timestamp)}
        optional: dict[str, Any] = {
            "tool_name": self.tool_name,
            "invocation_id": self.invocation_id,
            "blocks": self.blocks,
            "blobs": self.blobs,
        }
        return found | {name: value for name, value in optional.items() if value is not None}

    @classmethod
    def from_dict(cls, data: Mapping[str, Any]) -> Self:
        """Read what `to_dict` returned. Raises ValueError naming the field that is missing or wrong."""
        return cls(
            role=_need(data, "role"),
            content=_need(data, "content"),
            timestamp=_time(data, "timestamp"),
            tool_name=data.get("tool_name"),
            invocation_id=data.get("invocation_id"),
            blocks=data.get("blocks"),
            blobs=data.get("blobs"),
        )


class Conversation(MutableSequence[ConversationMessage]):
    """The messages of a session, as a list. Each object is created at its first access, so that long sessions open fast."""

    __slots__ = ("_items",)
    __hash__ = None  # type: ignore[assignment]

    def __init__(self, messages: Iterable[ConversationMessage | Message] = ()) -> None:
        self._items: list[ConversationMessage | Message] = list(messages)

    @overload
    def __getitem__(self, index: int) -> ConversationMessage: ...
    @overload
    def __getitem__(self, index: slice) -> list[ConversationMessage]: ...
    def __getitem__(self, index: int | slice) -> ConversationMessage | list[ConversationMessage]:
        if isinstance(index, slice):
            return [self[place] for place in range(*index.indices(len(self._items)))]
        item = self._items[index]
        if isinstance(item, Message):
            item = self._items[index] = ConversationMessage(
                item.role,
                item.content,
                read_time(item.time, item.at),
                item.tool_name,
                item.invocation_id,
                deepcopy(item.blocks),
                deepcopy(item.blobs),
            )
        return item

    @overload
    def __setitem__(self, index: int, value: ConversationMessage) -> None: ...
    @overload
    def __setitem__(self, index: slice, value: Iterable[ConversationMessage]) -> None: ...
    def __setitem__(self, index: Any, value: Any) -> None:
        self._items[index] = value

    def __delitem__(self, index: int | slice) -> None:
        del self._items[index]

    def __len__(self) -> int:
        return len(self._items)

    def insert(self, index: int, value: ConversationMessage) -> None:
        """Insert a message before `index`."""
        self._items.insert(index, value)

    def begins_with(self, other: Sequence[ConversationMessage]) -> bool:
        """Return True if the first messages are those of another conversation."""
        if len(other) > len(self._items):
            return False
        if not isinstance(other, Conversation):
            return all(self[place] == one for place, one in enumerate(other))
        return all(
            mine is theirs or self[place] == other[place]
            for place, (mine, theirs) in enumerate(zip(self._items, other._items, strict=False))
        )

    def __eq__(self, other: object) -> bool:
        if not isinstance(other, Conversation | list):
            return NotImplemented
        return len(self) == len(other) and self.begins_with(other)

    def __add__(self, other: Iterable[ConversationMessage]) -> list[ConversationMessage]:
        return [*self, *other]

    def __repr__(self) -> str:
        return repr(list(self))


@dataclass
class SessionMetadata:
    """The metadata of a session. Durations are in milliseconds, tokens are counted by kind."""

    session_id: str
    created_at: datetime
    updated_at: datetime
    status: SessionStatus = SessionStatus.ACTIVE
    user_id: str | None = None
    purpose: str | None = None
    tags: list[str] = field(default_factory=list)
    total_invocations: int = 0
    total_duration_ms: float = 0.0
    tools_used: list[str] = field(default_factory=list)
    estimated_cost: float | None = None
    token_usage: dict[str, int] | None = None
    custom_metadata: dict[str, Any] = field(default_factory=dict)
    pinned: bool = False
    external_key: str | None = None

    def __post_init__(self) -> None:
        self.created_at = _zoned(self.created_at, "created_at")
        self.updated_at = _zoned(self.updated_at, "updated_at")
        if type(self.status) is not SessionStatus:
            self.status = SessionStatus(self.status)

    def to_dict(self) -> dict[str, Any]:
        """Return the fields as JSON values: times as ISO text, the status as its value; `pinned`, `external_key` only if set."""
        optional: dict[str, Any] = {"pinned": True} if self.pinned else {}
        if self.external_key is not None:
            optional["external_key"] = self.external_key
        return {
            "session_id": self.session_id,
            "created_at": _iso(self.created_at),
            "updated_at": _iso(self.updated_at),
            "status": self.status.value,
            "user_id": self.user_id,
            "purpose": self.purpose,
            "tags": list(self.tags),
            "total_invocations": self.total_invocations,
            "total_duration_ms": self.total_duration_ms,
            "tools_used": list(self.tools_used),
            "estimated_cost": self.estimated_cost,
            "token_usage": None if self.token_usage is None else dict(self.token_usage),
            "custom_metadata": dict(self.custom_metadata),
            **optional,
        }

    @classmethod
    def from_dict(cls, data: Mapping[str, Any]) -> Self:
        """Read what `to_dict` returned; optional fields may be missing. Raises ValueError naming the field."""
        usage = data.get("token_usage")
        return cls(
            session_id=_need(data, "session_id"),
            created_at=_time(data, "created_at"),
            updated_at=_time(data, "updated_at"),
            status=data.get("status", "active"),
            user_id=data.get("user_id"),
            purpose=data.get("purpose"),
            tags=list(data.get("tags") or ()),
            total_invocations=data.get("total_invocations") or 0,
            total_duration_ms=data.get("total_duration_ms") or 0.0,
            tools_used=list(data.get("tools_used") or ()),
            estimated_cost=data.get("estimated_cost"),
            token_usage=None if usage is None else dict(usage),
            custom_metadata=dict(data.get("custom_metadata") or {}),
            pinned=bool(data.get("pinned")),
            external_key=data.get("external_key"),
        )


@dataclass
class Session:
    """A session: metadata, calls, conversation and own data. Changes reach the store only when it is saved."""

    metadata: SessionMetadata
    invocation_ids: list[str] = field(default_factory=list)
    conversation: MutableSequence[ConversationMessage] = field(default_factory=Conversation)
    data: dict[str, Any] = field(default_factory=dict)
    version: int = field(default=0, compare=False, repr=False)
    _durations: dict[str, float] = field(default_factory=dict, compare=False, repr=False)

    def add_invocation(self, invocation_id: str, duration_ms: float | None = None) -> None:
        """Add a tool call, with its duration in milliseconds if known. The same id again changes nothing."""
        if invocation_id in self.invocation_ids:
            return
        self.invocation_ids.append(invocation_id)
        self.metadata.total_invocations += 1
        if duration_ms is not None:
            self._durations[invocation_id] = duration_ms
            self.metadata.total_duration_ms += duration_ms
        self._touch()

    def duration_of(self, invocation_id: str) -> float | None:
        """Return the duration given to `add_invocation`, in milliseconds, or None."""
        return self._durations.get(invocation_id)

    def add_message(
        self, role: str, content: str, tool_name: str | None = None, invocation_id: str | None = None
    ) -> ConversationMessage:
        """Add a message with the current time. Raises ValueError for an unknown role."""
        message = ConversationMessage(role, content, self._touch(), tool_name, invocation_id)
        self.conversation.append(message)
        return message

    def get(self, key: str, default: Any = None) -> Any:
        """Return the value of `key` in the session's own data, or `default`."""
        return self.data.get(key, default)

    def set(self, key: str, value: Any) -> None:
        """Set a key of the session's own data to any JSON value."""
        self.data[key] = value
        self._touch()

    def delete(self, key: str) -> bool:
        """Delete a key of the session's own data. Returns False if it did not exist."""
        if key not in self.data:
            return False
        del self.data[key]
        self._touch()
        return True

    def clear_data(self) -> None:
        """Delete all of the session's own data."""
        self.data.clear()
        self._touch()

    def to_dict(self) -> dict[str, Any]:
        """Return everything as JSON values."""
        return {
            "metadata": self.metadata.to_dict(),
            "invocation_ids": list(self.invocation_ids),
            "conversation": [message.to_dict() for message in self.conversation],
            "data": dict(self.data),
        }

    @classmethod
    def from_dict(cls, data: Mapping[str, Any]) -> Self:
        """Read what `to_dict` returned. Raises ValueError naming the field that is missing or wrong."""
        return cls(
            metadata=SessionMetadata.from_dict(_need(data, "metadata")),
            invocation_ids=list(data.get("invocation_ids") or ()),
            conversation=Conversation(ConversationMessage.from_dict(one) for one in data.get("conversation") or ()),
            data=dict(data.get("data") or {}),
        )

    def _touch(self) -> datetime:
        """Set `updated_at` to now. This object belongs to the caller and is not a fold, so it may read the clock."""
        now = datetime.now(UTC)
        self.metadata.updated_at = max(self.metadata.updated_at, now)
        return now


_ROLES = get_args(Role)


def check_role(role: str) -> Role:
    """Validate the role of a message and return it. Raises ValueError."""
    if role not in _ROLES:
        raise ValueError(f"role {role!r} is not one of {', '.join(_ROLES)}; nothing was added")
    return role  # type: ignore[return-value]  # a cast is one more call for each message


def _zoned(moment: datetime, name: str) -> datetime:
    if not isinstance(moment, datetime):
        raise ValueError(f"{name} is a {type(moment).__name__}, not a datetime")
    if moment.tzinfo is UTC:
        return moment
    try:
        return to_utc(moment)
    except ValueError:
        raise ValueError(f"{name} is outside the years 1 to 9999 in UTC") from None


def _iso(moment: datetime) -> str:
    return moment.isoformat(timespec="microseconds")


def _need(data: Mapping[str, Any], name: str) -> Any:
    try:
        return data[name]
    except KeyError:
        raise ValueError(f"{name} is missing") from None


def _time(data: Mapping[str, Any], name: str) -> datetime:
    value = _need(data, name)
    if isinstance(value, datetime):
        return value
    try:
        return to_datetime(value)
    except (TypeError, ValueError):
        raise ValueError(f"{name} is not an ISO time") from None
