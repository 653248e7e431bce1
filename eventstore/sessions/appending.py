"""Appending: the methods that add one event to a session, the same for the manager and its async twin."""

from abc import ABC, abstractmethod
from collections.abc import Mapping, Sequence
from datetime import datetime
from typing import Any, Generic, TypedDict, TypeVar, Unpack

from msgspec import UNSET
from msgspec.structs import replace

from eventstore import events as e
from eventstore.ids import check_log_id
from eventstore.secret_patterns import Patterns
from eventstore.sessions import arguments
from eventstore.store.storage import SessionStorage
from projections.models import check_role

R = TypeVar("R")


class AppendOptions(TypedDict, total=False):
    """What every method that appends takes besides, by keyword.

    - `id`: idempotency key: the same call with the same key again writes nothing and returns the first result.
    - `expected_version`: the version that the caller decided on; VersionConflict where the session has moved on.
    - `by`: who and from where, laid over what the manager was made with.
    - `occurred_at`: when it happened, where that is not now; without a zone it is taken as local.
    """

    id: str
    expected_version: int
    by: Mapping[str, Any]
    occurred_at: datetime | str


class Appending(ABC, Generic[R]):
    """Adds events to the sessions of a storage. What each method returns is `R`: the numbers of the event, or these awaited.

    Methods raise SessionNotFound for an unknown session, EventRefused for what no event can hold, VersionConflict, LogDamaged.
    """

    def __init__(
        self, storage: SessionStorage, *, by: Mapping[str, Any] | None = None, secrets: Patterns | None = None
    ) -> None:
        if not isinstance(storage, SessionStorage):
            raise TypeError(
                f"storage is a {type(storage).__name__}, not a SessionStorage: give a FileSystemSessionStorage or a "
                "MemorySessionStorage, or use SessionManager.from_settings()"
            )
        if not isinstance(secrets, Patterns | None):
            raise TypeError(f"secrets is a {type(secrets).__name__}, not Patterns")
        self.storage = storage
        self.by = arguments.mapping("by", by)
        self.secrets = secrets

    def update_session_metadata(
        self,
        session_id: str,
        purpose: str | None = None,
        tags: Sequence[str] | None = None,
        custom_metadata: Mapping[str, Any] | None = None,
        **options: Unpack[AppendOptions],
    ) -> R:
        """Change what is given: `tags` replace the old ones, `custom_metadata` is merged key by key, None changes nothing."""
        changed = e.SessionUpdated(
            purpose=UNSET if purpose is None else purpose,
            tags=UNSET if tags is None else arguments.texts("tags", tags),
            custom_metadata=arguments.mapping("custom_metadata", custom_metadata),
        )
        return self._append("update_session_metadata", session_id, changed, options)

    def reopen_session(self, session_id: str, **options: Unpack[AppendOptions]) -> R:
        """Make a session that had ended active again."""
        return self._append("reopen_session", session_id, e.SessionReopened(), options)

    def pin_session(self, session_id: str, pinned: bool = True, **options: Unpack[AppendOptions]) -> R:
        """Keep a session whatever its age, or no longer."""
        return self._append("pin_session", session_id, e.SessionPinned(pinned=pinned), options)

    def add_conversation_message(
        self,
        session_id: str,
        role: str,
        content: str,
        tool_name: str | None = None,
        invocation_id: str | None = None,
        **options: Unpack[AppendOptions],
    ) -> R:
        """Add a message of the user, the assistant, a tool or the system. Raises ValueError for another role."""
        if not isinstance(content, str):
            raise ValueError(f"content is a {type(content).__name__}, not text; nothing was added")
        message = e.MessageAdded(
            role=check_role(role), content=content, tool_name=tool_name, invocation_id=invocation_id
        )
        return self._append("add_conversation_message", session_id, message, options)

    def clear_conversation(self, session_id: str, **options: Unpack[AppendOptions]) -> R:
        """Let the conversation start over; the log keeps what was said."""
        return self._append("clear_conversation", session_id, e.ConversationCleared(), options)

    def record_usage(
        self,
        session_id: str,
        tokens: Mapping[str, int],
        cost: float | None = None,
        model: str | None = None,
        key: str | None = None,
        **options: Unpack[AppendOptions],
    ) -> R:
        """Record tokens by kind and their cost. The same `key` again folds by maximum, never adds. Raises ValueError."""
        used = e.UsageRecorded(
            tokens=arguments.counts(tokens), cost=arguments.number("cost", cost), model=model, key=key
        )
        return self._append("record_usage", session_id, used, options)

    def set_data(self, session_id: str, key: str, value: Any, **options: Unpack[AppendOptions]) -> R:
        """Give a key of the session's own data a value, any JSON."""
        return self._append("set_data", session_id, e.DataSet(key=key, value=value), options)

    def delete_data(self, session_id: str, key: str, **options: Unpack[AppendOptions]) -> R:
        """Take a key of the session's own data away, whether it is there or not."""
        return self._append("delete_data", session_id, e.DataDeleted(key=key), options)

    def clear_data(self, session_id: str, **options: Unpack[AppendOptions]) -> R:
        """Take all of the session's own data away."""
        return self._append("clear_data", session_id, e.DataCleared(), options)

    @abstractmethod
    def _write(self, session_id: str, event: e.Event, expected_version: int | None) -> R:
        """Remove secrets from an event, and append it."""

    def _append(self, method: str, session_id: str, event: e.Event, options: AppendOptions) -> R:
        """Append one event for the public method of that name, with what its caller gave by keyword."""
        if options:
            check_options(method, options)
        check_log_id(session_id)
        if options or self.by:
            event = replace(
                event,
                id=options.get("id"),
                by=self._who(options.get("by")),
                occurred_at=arguments.moment("occurred_at", options.get("occurred_at")),
            )
        return self._write(session_id, event, arguments.limit("expected_version", options.get("expected_version")))

    def _who(self, by: Mapping[str, Any] | None) -> dict[str, Any] | None:
        return {**self.by, **arguments.mapping("by", by)} or None


def check_options(method: str, options: AppendOptions) -> None:
    """Refuse a keyword that no method takes; the error names the public method."""
    for name in options:
        if name not in AppendOptions.__annotations__:
            raise TypeError(f"SessionManager.{method}() got an unexpected keyword argument {name!r}")
