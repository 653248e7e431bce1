"""SessionManager: the main entry point of the package."""

from collections.abc import Callable, Mapping, Sequence
from functools import cached_property
from pathlib import Path
from types import TracebackType
from typing import TYPE_CHECKING, Any, Self, Unpack

from msgspec import UNSET
from msgspec.structs import replace

from eventstore import events as e
from eventstore.errors import LogDamaged, SessionExists, SessionNotFound, VersionConflict
from eventstore.ids import check_new_session_id, check_session_id, new_session_id
from eventstore.log.base import Appended
from eventstore.sessions import arguments
from eventstore.sessions.appending import Appending, AppendOptions, check_options
from eventstore.sessions.asking import Asking
from eventstore.sessions.call import Call
from eventstore.sessions.templates import Templates, fork_version
from eventstore.sessions.trash import Trash
from eventstore.settings import Settings, load_settings
from eventstore.store.as_of import At
from eventstore.store.call_values import is_large, made_ready
from eventstore.store.engine_storage import open_configured
from eventstore.store.lock import reading_after_change
from eventstore.store.pages import warn_damaged
from eventstore.store.storage import SessionStorage
from projections.models import Session, SessionStatus

if TYPE_CHECKING:  # loaded when they are first asked for: most programs, and most commands, need none of them
    from eventstore.secret_patterns import Patterns
    from eventstore.sessions.moments import Moments
    from eventstore.sessions.proofs import Proofs
    from eventstore.sessions.records import Records
    from eventstore.sessions.redactions import Redactions


class SessionManager(Appending[Appended], Asking):
    """Sessions in a storage: create, append, query, list, end. Thread-safe.

    `by` is who acts (actor, tool, trace id); every event records it. With `secrets`, such as `Patterns()`, text that looks like
    a key, token or password is replaced before it is written, in events and in records of tool calls.

    Appending methods return the numbers of their events. They raise SessionNotFound for an unknown session, EventRefused for a
    value that cannot be stored, VersionConflict and LogDamaged. `trash`, `templates`, `proofs`, `redactions` and `moments`
    group methods that are needed less often.
    """

    def __init__(
        self, storage: SessionStorage, *, by: Mapping[str, Any] | None = None, secrets: "Patterns | None" = None
    ) -> None:
        super().__init__(storage, by=by, secrets=secrets)
        self.tool_history = storage.history

    @cached_property
    def trash(self) -> Trash:
        """Trashed sessions and retention."""
        return Trash(self.storage)

    @cached_property
    def templates(self) -> Templates:
        """Templates: saved beginnings of sessions."""
        return Templates(self.storage, lambda: self._created(None, None, None, None))

    @cached_property
    def proofs(self) -> "Proofs":
        """Signed checkpoints, and proofs against them."""
        from eventstore.sessions.proofs import Proofs

        return Proofs(self.storage)

    @cached_property
    def records(self) -> "Records":
        """Lists and maps that programs keep inside sessions."""
        from eventstore.sessions.records import Records

        return Records(self.storage, self.append)

    @cached_property
    def redactions(self) -> "Redactions":
        """Permanent removal of event content."""
        from eventstore.sessions.redactions import Redactions

        return Redactions(self.storage, self._who)

    @cached_property
    def moments(self) -> "Moments":
        """Any moment of a long session, in milliseconds: figures, parts of the conversation, of the calls, of the timeline."""
        from eventstore.sessions.moments import Moments

        return Moments(self.storage)

    @classmethod
    def from_settings(cls, settings: Settings | None = None) -> Self:
        """Open the store that the settings name. Without settings they are read from the environment and `.env`.

        Raises InvalidSetting.
        """
        if not isinstance(settings, Settings | None):
            raise TypeError(f"settings is a {type(settings).__name__}, not Settings: pass that of load_settings()")
        found = settings or load_settings()
        manager = cls(open_configured(found), secrets=_patterns() if found.redact_secrets else None)
        if not found.history_enabled:
            manager.tool_history = None
        return manager

    def create_session(
        self,
        session_id: str | None = None,
        purpose: str | None = None,
        user_id: str | None = None,
        tags: Sequence[str] | None = None,
        *,
        template: str | None = None,
        external_key: str | None = None,
        **options: Unpack[AppendOptions],
    ) -> Session:
        """Create a session and return it. Without `session_id` a new id is generated.

        `template` names a template to start from. `external_key`, any text, is the name that another program has for the session.

        Raises InvalidSessionId, SessionExists if the id is in use, SessionNotFound if the template does not exist.
        """
        key = arguments.text("external_key", external_key)
        name = new_session_id() if session_id is None else check_new_session_id(session_id)
        if template is not None:
            check_options("create_session", options)
            if left := sorted({"id", "occurred_at"} & set(options)):
                raise ValueError(f"a session from a template accepts no {' and no '.join(left)}; nothing was written")
            created = replace(self._created(purpose, user_id, tags, options.get("by")), external_key=key)
            self.storage.use_template(template, name, created)
            return _read_created(self.storage, name)
        used = session_id is not None and self.storage.was_used(session_id)
        created = e.SessionCreated(
            purpose=purpose, user_id=user_id, tags=arguments.tags(tags), used_before=used, external_key=key
        )
        try:
            options["expected_version"] = 0
            self._append("create_session", name, created, options)
        except VersionConflict:
            raise SessionExists(name) from None
        return _read_created(self.storage, name)

    def append(
        self,
        session_id: str,
        events: Sequence[e.Event],
        create: e.SessionCreated | bool | None = None,
        **options: Unpack[AppendOptions],
    ) -> Appended:
        """Append events of any type as one batch: all are stored, or none. Return the numbers of the first and the last.

        With `create` a session that does not exist is created by the same batch: its first event is then `create`, or an empty
        SessionCreated for True. `id` is the idempotency key of the batch. `by` and `occurred_at` are those of every event.
        `expected_version=0` means: only if the session does not exist.

        Raises SessionNotFound, VersionConflict, EventRefused, and ValueError for events that only the store itself writes.
        """
        batch, expected = self._batch(events, options)
        if not create:
            return self._write(session_id, batch, expected)
        while True:
            if expected != 0:
                try:
                    return self._write(session_id, batch, expected)
                except SessionNotFound:
                    if expected is not None:
                        raise
            first = self._first_event(session_id, create, batch)
            try:
                if not any(map(is_large, batch)):
                    return self._write(session_id, [first, *batch], 0)
                # A large value is kept with the log, which has to be there first.
                self._write(session_id, [first], 0)
                expected = None if expected is None else 1
            except VersionConflict:  # another writer created it first: append to its session
                if expected is not None:
                    raise

    def fork_session(
        self,
        session_id: str,
        at: At | None = None,
        new_id: str | None = None,
        *,
        recorded: bool = False,
        purpose: str | None = None,
        tags: Sequence[str] | None = None,
        external_key: str | None = None,
        by: Mapping[str, Any] | None = None,
    ) -> str:
        """Fork a session at a version or time, and return the id of the fork. Later changes of either do not affect the other.

        Takes the same time for any length: nothing is copied or folded. `purpose` and `tags` replace the parent's,
        `external_key` is its own. Raises SessionNotFound, SessionExists, and NoSuchMoment, also for a version inside a batch.
        """
        name = new_session_id() if new_id is None else check_new_session_id(new_id)
        version = fork_version(self.storage, session_id, at, recorded=recorded)
        key = arguments.text("external_key", external_key)
        created = replace(self._created(purpose, None, tags, by), external_key=key)
        self.storage.fork_session(name, session_id, version, created)
        return name

    def _created(
        self, purpose: str | None, user_id: str | None, tags: Sequence[str] | None, by: Mapping[str, Any] | None
    ) -> e.SessionCreated:
        who = self._who(by)
        created = e.SessionCreated(purpose=purpose, user_id=user_id, tags=arguments.tags(tags), by=who)
        return created if self.secrets is None else self.secrets.clean(created)

    def complete_session(
        self,
        session_id: str,
        status: SessionStatus | str = SessionStatus.COMPLETED,
        *,
        reason: str | None = None,
        **options: Unpack[AppendOptions],
    ) -> Appended:
        """End a session as completed, failed or abandoned. The view files are written before this returns."""
        ended = arguments.end(status)
        result = self._append(
            "complete_session",
            session_id,
            e.SessionCompleted(status=ended.value, reason=reason),
            options,
        )
        self.storage.flush_views(session_id)
        return result

    def delete_session(self, session_id: str, *, history: bool = False) -> bool:
        """Delete a session permanently; with `history` also the folders of its tool calls. False if it did not exist.

        Folders that a fork refers to, and folders outside the history folder, are kept. Raises LogDamaged.
        """
        check_session_id(session_id)
        return self.storage.delete_session(session_id, "deleted by the caller", history=history)

    def cleanup_old_sessions(self, max_age_days: float = 30, grace_days: float = 7) -> int:
        """Move the sessions last updated more than `max_age_days` ago to the trash; return their number.

        Imported sessions count from their import, where that is later. Pinned sessions are kept. Sessions that have been in the
        trash for `grace_days` are deleted permanently.
        """
        done = self.trash.clean_up(self.trash.plan_cleanup(max_age_days, grace_days))
        return sum(one.action == "trash" for one in done)

    def recover_sessions(
        self, silent_hours: float = 24, on_damage: Callable[[LogDamaged], None] = warn_damaged
    ) -> list[str]:
        """End active sessions as abandoned if no program has them open and no event came for `silent_hours`; return their ids.

        Sessions that cannot be read are not changed, and are reported to `on_damage`. Raises NotSupported if the backend
        cannot tell which sessions are being written: in memory, and in files on systems other than Linux.
        """
        return self.storage.recover(arguments.length("silent_hours", silent_hours, "hours"), on_damage)

    def start_invocation(
        self,
        session_id: str,
        invocation_id: str,
        tool_name: str | None,
        tool_input: Any = UNSET,
        invocation_dir: Path | str | None = None,
        **options: Unpack[AppendOptions],
    ) -> Appended:
        """Record that a tool call began, with its input, any JSON value. `link_invocation` records how it ended.

        A call that began and never ended is running, or its program died. An input over 256 KiB is kept with the log.
        """
        started = e.InvocationStarted(
            invocation_id=invocation_id,
            tool_name=tool_name,
            invocation_dir=self.storage.relative(arguments.path("invocation_dir", invocation_dir)),
            input=tool_input,
        )
        return self._append("start_invocation", session_id, started, options)

    def link_invocation(
        self,
        session_id: str,
        invocation_id: str,
        tool_name: str | None,
        invocation_dir: Path | str | None,
        duration_ms: float | None = None,
        *,
        success: bool | None = None,
        error: str | None = None,
        result: Any = UNSET,
        **options: Unpack[AppendOptions],
    ) -> Appended:
        """Link a tool call to a session. Linking the same id again adds fields to the call, which counts once.

        `invocation_dir` may be a path that does not exist yet. `duration_ms` is in milliseconds. `result` is what the tool
        answered, any JSON value; one over 256 KiB is kept with the log, and the event holds its size and SHA-256.
        """
        linked = e.InvocationLinked(
            result=result,
            invocation_id=invocation_id,
            tool_name=tool_name,
            invocation_dir=self.storage.relative(arguments.path("invocation_dir", invocation_dir)),
            duration_ms=arguments.number("duration_ms", duration_ms),
            success=success,
            error=error,
        )
        return self._append("link_invocation", session_id, linked, options)

    def invocation(self, session_id: str | None, tool_name: str, arguments: Any = None) -> "Call":
        """Record a tool call: `with manager.invocation(session_id, tool_name, arguments) as call:`.

        The call gets a folder in the history and is timed. Its start is recorded with the arguments, its end with `call.result`
        or the exception: two events of the session, from which the `record.jsonl` in the folder is derived. With
        `session_id=None` there is only that file. Raises on entry SessionNotFound, and EventNotEncodable for arguments that JSON
        cannot hold; at the end EventNotEncodable for such a result: that the call ended is recorded then, without it.
        """
        return Call(self, session_id, tool_name, arguments)

    def flush(self) -> None:
        """Write all events to stable storage, and write the view files."""
        self.storage.flush()

    def close(self) -> None:
        """Flush, and close all files. The manager stays usable: the next call reopens what it needs. Closing twice is allowed."""
        self.storage.close()

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()

    def _write(self, session_id: str, events: Sequence[e.Event], expected_version: int | None) -> Appended:
        ready = made_ready(self.storage.log, session_id, events, self.secrets)
        return self.storage.append(session_id, ready, expected_version=expected_version)


def _read_created(storage: SessionStorage, session_id: str) -> Session:
    with reading_after_change(session_id):
        return storage.fold(session_id).to_model(session_id)


def _patterns() -> "Patterns":
    from eventstore.secret_patterns import Patterns

    return Patterns()
