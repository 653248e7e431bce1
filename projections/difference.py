"""The differences between two states of a session."""

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Literal, TypeAlias

from projections.invocations import Invocation
from projections.models import SessionMetadata
from projections.session import State

Kind: TypeAlias = Literal["metadata", "tag", "custom_metadata", "message", "invocation", "data"]
_FIELDS = (
    "status",
    "user_id",
    "purpose",
    "total_invocations",
    "total_duration_ms",
    "tools_used",
    "estimated_cost",
    "token_usage",
    "created_at",
    "updated_at",
)


@dataclass(frozen=True, slots=True)
class Change:
    """One difference.

    `key` is, by `kind`: a metadata field, a tag, a key of the custom metadata or of the session's own data, the id of a call, or
    the seq of a message. `before` is None for an addition, `after` is None for a removal.
    """

    kind: Kind
    key: str | int
    before: Any = None
    after: Any = None


def compare(session_id: str, before: State, after: State) -> Iterator[Change]:
    """Stream the differences between two states of a session."""
    old, new = before.metadata.to_model(session_id), after.metadata.to_model(session_id)
    yield from _fields(old, new)
    yield from _tags(old.tags, new.tags)
    yield from _values("custom_metadata", old.custom_metadata, new.custom_metadata)
    yield from _messages(before, after)
    yield from _values("invocation", _shown(before.invocations), _shown(after.invocations))
    yield from _values("data", before.data, after.data)


def _fields(old: SessionMetadata, new: SessionMetadata) -> Iterator[Change]:
    was, now = old.to_dict(), new.to_dict()
    for name in _FIELDS:
        if was[name] != now[name]:
            yield Change("metadata", name, was[name], now[name])


def _tags(old: Sequence[str], new: Sequence[str]) -> Iterator[Change]:
    for tag in dict.fromkeys(old):
        if tag not in new:
            yield Change("tag", tag, before=tag)
    for tag in dict.fromkeys(new):
        if tag not in old:
            yield Change("tag", tag, after=tag)


def _values(kind: Kind, old: Mapping[str, Any], new: Mapping[str, Any]) -> Iterator[Change]:
    for key in {**old, **new}:
        if key not in old or key not in new or old[key] != new[key]:
            yield Change(kind, key, old.get(key), new.get(key))


def _messages(before: State, after: State) -> Iterator[Change]:
    old = {message.seq: message for message in before.conversation.messages}
    new = {message.seq: message for message in after.conversation.messages}
    for seq in sorted(old.keys() - new.keys()):
        yield Change("message", seq, before=f"{old[seq].role}: {old[seq].content}")
    for seq, message in new.items():
        if seq not in old:
            yield Change("message", seq, after=f"{message.role}: {message.content}")


def _shown(calls: Mapping[str, Invocation]) -> dict[str, Any]:
    return {
        one: {name: getattr(call, name) for name in call.__struct_fields__ if getattr(call, name) is not None}
        for one, call in calls.items()
    }
