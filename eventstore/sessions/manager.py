"""SessionManager: the main entry point of the package."""

from collections.abc import Callable, Mapping, Sequence
from functools import cached_property
from pathlib import Path
from types import TracebackType
from typing import Any, Self, Unpack, cast

from eventstore import events as e
from eventstore.errors import LogDamaged, SessionExists, VersionConflict
from eventstore.ids import check_session_id, new_session_id
from eventstore.log.base import Appended
from eventstore.secret_patterns import Patterns
from eventstore.sessions import arguments
from eventstore.sessions.appending import Appending, AppendOptions, check_options
from eventstore.sessions.asking import Asking
from eventstore.sessions.call import Call
from eventstore.sessions.proofs import Proofs
from eventstore.sessions.redactions import Redactions
from eventstore.sessions.templates import Templates, fork_version
from eventstore.sessions.trash import Trash
from eventstore.settings import Settings, load_settings
from eventstore.store.as_of import At
from eventstore.store.pages import tell_damage
from eventstore.store.storage import SessionStorage
from eventstore.store.storages import FileSystemSessionStorage, MemorySessionStorage
from projections.models import Session, SessionStatus


class SessionManager(Appending[Appended], Asking):
    """Sessions in a storage: create, append, query, list, end. Thread-safe.

    `by` says who acts (actor, tool, trace id); every event records it. With `secrets`, such as `Patterns()`, text that looks like
    a key, token or password is replaced before it is written, in events and in records of tool calls.

    Appending methods return the numbers of their events. They raise SessionNotFound for an unknown session, EventRefused for a
    value that cannot be stored, VersionConflict and LogDamaged. `trash`, `templates`, `proofs` and `redactions` group methods
    that are needed less often.
    """

    def __init__(
        self, storage: SessionStorage, *, by: Mapping[str, Any] | None = None, secrets: Patterns | None = None
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
    def proofs(self) -> Proofs:
        """Signed checkpoints, and proofs against them."""
        return Proofs(self.storage)

    @cached_property
    def redactions(self) -> Redactions:
        """Permanent removal of event content."""
        return Redactions(self.storage, self._who)

    @classmethod
    def from_settings(cls, settings: Settings | None = None) -> Self:
        """Open the store that the settings name. Without settings they are read from the environment and `.env`.

        Raises InvalidSetting.
        """
        if not isinstance(settings, Settings | None):
            raise TypeError(
                f"settings is a {type(settings).__name__}, not Settings: pass the result of load_settings()"
            )
        found = settings or load_settings()
        storage: SessionStorage
        if found.storage_enabled and found.backend == "filesystem":
            storage = FileSystemSessionStorage(found.storage_path, found.history_path, fsync=found.fsync)
        else:
            storage = MemorySessionStorage(found.history_path)
        manager = cls(storage, secrets=Patterns() if found.redact_secrets else None)
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
        **options: Unpack[AppendOptions],
    ) -> Session:
        """Create a session and return it. Without `session_id` a new id is generated. `template` names a template to start from.

        Raises InvalidSessionId, SessionExists if the id is in use, SessionNotFound if the template does not exist.
        """
        if session_id is not None:
            check_session_id(session_id)
        if template is not None:
            check_options("create_session", options)
            if left := sorted({"id", "occurred_at"} & set(options)):
                raise ValueError(f"a session from a template accepts no {' and no '.join(left)}; nothing was written")
            name = new_session_id() if session_id is None else session_id
            self.storage.use_template(template, name, self._created(purpose, user_id, tags, options.get("by")))
            return self.storage.fold(name).to_model(name)
        used = session_id is not None and self.storage.was_used(session_id)
        created = e.SessionCreated(
            purpose=purpose, user_id=user_id, tags=arguments.texts("tags", tags), used_before=used
        )
        name = new_session_id() if session_id is None else session_id
        try:
            options["expected_version"] = 0
            self._append("create_session", name, created, options)
        except VersionConflict:
            raise SessionExists(name) from None
        return self.storage.fold(name).to_model(name)

    def fork_session(
        self,
        session_id: str,
        at: At | None = None,
        new_id: str | None = None,
        *,
        recorded: bool = False,
        purpose: str | None = None,
        tags: Sequence[str] | None = None,
        by: Mapping[str, Any] | None = None,
    ) -> str:
        """Fork a session at a version or time, and return the id of the fork. Later changes of either do not affect the other.

        Takes the same time for any length: nothing is copied or folded. `purpose` and `tags` replace the parent's. Raises
        SessionNotFound, SessionExists, and NoSuchMoment, also for a version inside a batch.
        """
        name = new_session_id() if new_id is None else check_session_id(new_id)
        version = fork_version(self.storage, session_id, at, recorded=recorded)
        self.storage.fork_session(name, session_id, version, self._created(purpose, None, tags, by))
        return name

    def _created(
        self, purpose: str | None, user_id: str | None, tags: Sequence[str] | None, by: Mapping[str, Any] | None
    ) -> e.SessionCreated:
        who = self._who(by)
        created = e.SessionCreated(purpose=purpose, user_id=user_id, tags=arguments.texts("tags", tags), by=who)
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
        ended = SessionStatus(status)
        if ended is SessionStatus.ACTIVE:
            raise ValueError("a session cannot be completed as active; nothing was written: use reopen_session")
        result = self._append(
            "complete_session",
            session_id,
            e.SessionCompleted(status=cast("e.Status", ended.value), reason=reason),
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

        Sessions that have been in the trash for `grace_days` are deleted permanently. Pinned sessions are kept.
        """
        done = self.trash.clean_up(self.trash.plan_cleanup(max_age_days, grace_days))
        return sum(one.action == "trash" for one in done)

    def recover_sessions(
        self, silent_hours: float = 24, on_damage: Callable[[LogDamaged], None] = tell_damage
    ) -> list[str]:
        """End active sessions as abandoned if no program has them open and no event came for `silent_hours`; return their ids.

        Sessions that cannot be read are not changed, and are reported to `on_damage`. Raises NotSupported if the backend
        cannot tell which sessions are being written: in memory, and in files on systems other than Linux.
        """
        return self.storage.recover(arguments.length("silent_hours", silent_hours, "hours"), on_damage)

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
        **options: Unpack[AppendOptions],
    ) -> Appended:
        """Link a tool call to a session. Linking the same id again adds fields to the call, which counts once.

        `invocation_dir` may be a path that does not exist yet. `duration_ms` is in milliseconds.
        """
        linked = e.InvocationLinked(
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

        The call gets a folder in the history and is timed. At the end it is recorded with `call.result` or the exception, and
        linked to the session. With `session_id=None` it is only recorded. Raises SessionNotFound on entry.
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

    def _write(self, session_id: str, event: e.Event, expected_version: int | None) -> Appended:
        if self.secrets is not None:
            event = self.secrets.clean(event)
        return self.storage.append(session_id, [event], expected_version=expected_version)
