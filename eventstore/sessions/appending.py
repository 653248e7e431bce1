"""The methods that append one event to a session, for SessionManager and AsyncSessionManager."""

from abc import ABC, abstractmethod
from collections.abc import Mapping, Sequence
from datetime import datetime
from typing import TYPE_CHECKING, Any, Generic, TypedDict, TypeVar, Unpack

from msgspec import UNSET
from msgspec.structs import replace

from eventstore import events as e
from eventstore.ids import check_new_session_id
from eventstore.sessions import arguments
from eventstore.store.call_values import with_text
from eventstore.store.storage import SessionStorage
from projections.models import check_role

if TYPE_CHECKING:  # where secrets stay, nothing needs them
    from eventstore.secret_patterns import Patterns

R = TypeVar("R")


class AppendOptions(TypedDict, total=False):
    """The keyword arguments that every appending method accepts.

    - `id`: idempotency key. Repeating a call with the same key writes nothing and returns the first result.
    - `expected_version`: the version that the caller has read. Raises VersionConflict if the session has another version.
    - `by`: who acts (actor, tool, trace id). Its keys override those of the manager.
    - `occurred_at`: when it happened, if not now. A time without a zone is local time.
    """

    id: str
    expected_version: int
    by: Mapping[str, Any]
    occurred_at: datetime | str


class Appending(ABC, Generic[R]):
    """Appends events to the sessions of a storage. Methods return `R`: an Appended, or a coroutine that returns one.

    They raise SessionNotFound for an unknown session, EventRefused for a value that cannot be stored, VersionConflict and
    LogDamaged.
    """

    def __init__(
        self, storage: SessionStorage, *, by: Mapping[str, Any] | None = None, secrets: "Patterns | None" = None
    ) -> None:
        if not isinstance(storage, SessionStorage):
            raise TypeError(
                f"storage is a {type(storage).__name__}, not a SessionStorage: give a FileSystemSessionStorage or a "
                "MemorySessionStorage, or use SessionManager.from_settings()"
            )
        if secrets is not None:
            from eventstore.secret_patterns import Patterns  # where secrets stay, nothing needs them

            if not isinstance(secrets, Patterns):
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
        """Change metadata: `tags` replaces the old tags, `custom_metadata` is merged key by key, None changes nothing."""
        changed = e.SessionUpdated(
            purpose=UNSET if purpose is None else purpose,
            tags=UNSET if tags is None else arguments.tags(tags),
            custom_metadata=arguments.mapping("custom_metadata", custom_metadata),
        )
        return self._append("update_session_metadata", session_id, changed, options)

    def reopen_session(self, session_id: str, **options: Unpack[AppendOptions]) -> R:
        """Make an ended session active again."""
        return self._append("reopen_session", session_id, e.SessionReopened(), options)

    def pin_session(self, session_id: str, pinned: bool = True, **options: Unpack[AppendOptions]) -> R:
        """Exempt a session from cleanup; with `pinned=False`, no longer."""
        return self._append("pin_session", session_id, e.SessionPinned(pinned=pinned), options)

    def add_conversation_message(
        self,
        session_id: str,
        role: str,
        content: str | Sequence[Mapping[str, Any]],
        tool_name: str | None = None,
        invocation_id: str | None = None,
        **options: Unpack[AppendOptions],
    ) -> R:
        """Add a message. `role` is user, assistant, tool or system. Raises ValueError for another role.

        `content` is text, or a list of content blocks in the format of OpenAI or Anthropic: text, images, files. `conversation`
        gives them back. Images and files are stored as attachments of the log, each once.
        """
        text, blocks = arguments.content(content)
        message = e.MessageAdded(
            role=check_role(role), content=text, tool_name=tool_name, invocation_id=invocation_id, blocks=blocks
        )
        return self._append("add_conversation_message", session_id, message, options)

    def clear_conversation(self, session_id: str, **options: Unpack[AppendOptions]) -> R:
        """Empty the conversation. The log keeps the messages."""
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
        """Record tokens by kind, and their cost in the caller's currency. Raises ValueError.

        Usage with the same `key` is the same use: it counts by maximum and is not added up.
        """
        used = e.UsageRecorded(
            tokens=arguments.counts(tokens), cost=arguments.number("cost", cost), model=model, key=key
        )
        return self._append("record_usage", session_id, used, options)

    def set_data(self, session_id: str, key: str, value: Any, **options: Unpack[AppendOptions]) -> R:
        """Set a key of the session's own data to any JSON value."""
        return self._append("set_data", session_id, e.DataSet(key=key, value=value), options)

    def delete_data(self, session_id: str, key: str, **options: Unpack[AppendOptions]) -> R:
        """Delete a key of the session's own data. The event is recorded even if the key does not exist."""
        return self._append("delete_data", session_id, e.DataDeleted(key=key), options)

    def clear_data(self, session_id: str, **options: Unpack[AppendOptions]) -> R:
        """Delete all of the session's own data."""
        return self._append("clear_data", session_id, e.DataCleared(), options)

    @abstractmethod
    def _write(self, session_id: str, events: Sequence[e.Event], expected_version: int | None) -> R:
        """Replace secrets in events, and append them as one batch."""

    def _append(self, method: str, session_id: str, event: e.Event, options: AppendOptions) -> R:
        """Append one event for the public method `method`, with the keyword arguments of its caller."""
        if options:
            check_options(method, options)
        if options or self.by:
            event = replace(
                event,
                id=options.get("id"),
                by=self._who(options.get("by")),
                occurred_at=arguments.moment("occurred_at", options.get("occurred_at")),
            )
        expected = options.get("expected_version") if options else None
        if expected is not None:
            expected = arguments.integer("expected_version", expected)
        return self._write(session_id, [event], expected)

    def _batch(self, events: Sequence[e.Event], options: AppendOptions) -> tuple[list[e.Event], int | None]:
        """Check the events of `append`, and give them what its keyword arguments say; return them with the expected version."""
        check_options("append", options)
        batch = arguments.events("events", events)
        batch = [with_text(one) if isinstance(one, e.RecordPut) else one for one in batch]
        by, moment = options.get("by"), arguments.moment("occurred_at", options.get("occurred_at"))
        if by or self.by or moment is not None:
            given = arguments.mapping("by", by)
            batch = [
                replace(one, by={**self.by, **(one.by or {}), **given} or None, occurred_at=one.occurred_at or moment)
                for one in batch
            ]
        if options.get("id") is not None:
            batch[0] = replace(batch[0], id=options["id"])
        expected = options.get("expected_version")
        return batch, None if expected is None else arguments.integer("expected_version", expected)

    def _first_event(
        self, session_id: str, create: e.SessionCreated | bool, batch: Sequence[e.Event]
    ) -> e.SessionCreated:
        """Return the event that creates a session for `append`, before a batch. Raises as `checked` does."""
        from eventstore.store.stored_values import check_none_is_named  # programs that read create nothing

        check_new_session_id(session_id)
        check_none_is_named(batch)
        created = e.SessionCreated() if create is True else create
        if not isinstance(created, e.SessionCreated) or created.forked_from is not None:
            raise ValueError("create is neither True nor a SessionCreated of a new session; nothing was written")
        who = {**self.by, **(created.by or {})} or None
        return replace(arguments.checked(created), used_before=self.storage.was_used(session_id), by=who, id=None)

    def _who(self, by: Mapping[str, Any] | None) -> dict[str, Any] | None:
        return {**self.by, **arguments.mapping("by", by)} or None


def check_options(method: str, options: AppendOptions) -> None:
    """Raise TypeError for an unknown keyword argument, which names the public method, and ValueError for an empty id."""
    for name in options:
        if name not in AppendOptions.__annotations__:
            raise TypeError(f"SessionManager.{method}() got an unexpected keyword argument {name!r}")
    # It is the key of all callers that have none: the second append would be reported as a repeat.
    if options.get("id") == "":
        raise ValueError("id is empty; nothing was written: choose a text that no other append has, or leave it out")
