"""SessionManager: the one object that users hold."""

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
    """Sessions on a storage: create, append, ask, list, end. Safe for threads.

    `by` says who acts (actor, tool, trace id); it is written into every event. With `secrets`, such as `Patterns()`, what looks
    like a key, a token or a password is replaced by a mark before it is written, in events and in records of tool calls.

    Methods that append return the numbers of their events. They raise SessionNotFound for an unknown session, EventRefused for
    what no event can hold, VersionConflict and LogDamaged. `trash`, `templates`, `proofs` and `redactions` hold what is needed
    less often.
    """

    def __init__(
        self, storage: SessionStorage, *, by: Mapping[str, Any] | None = None, secrets: Patterns | None = None
    ) -> None:
        super().__init__(storage, by=by, secrets=secrets)
        self.tool_history = storage.history

    @cached_property
    def trash(self) -> Trash:
        """Sessions that were put aside, and the plan of what is old enough to be."""
        return Trash(self.storage)

    @cached_property
    def templates(self) -> Templates:
        """The pasts that sessions can be made of."""
        return Templates(self.storage, lambda: self._begun(None, None, None, None))

    @cached_property
    def proofs(self) -> Proofs:
        """Signed checkpoints, and proofs for whoever holds one."""
        return Proofs(self.storage)

    @cached_property
    def redactions(self) -> Redactions:
        """Removing the content of events for good."""
        return Redactions(self.storage, self._who)

    @classmethod
    def from_settings(cls, settings: Settings | None = None) -> Self:
        """Open the store that the settings name, read from the environment and `.env` where none are given.

        Raises InvalidSetting.
        """
        if not isinstance(settings, Settings | None):
            raise TypeError(f"settings is a {type(settings).__name__}, not Settings: give what load_settings() returns")
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
        """Create a session, with an id made up where none is given, and return it; `template` names the one to begin with.

        Raises InvalidSessionId, SessionExists where the id is taken, and SessionNotFound for the template.
        """
        if session_id is not None:
            check_session_id(session_id)
        if template is not None:
            check_options("create_session", options)
            if left := sorted({"id", "occurred_at"} & set(options)):
                raise ValueError(f"a session made of a template takes no {' and no '.join(left)}; nothing was written")
            name = new_session_id() if session_id is None else session_id
            self.storage.use_template(template, name, self._begun(purpose, user_id, tags, options.get("by")))
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
        """Begin a session with another's past, to a version or time, and return its id; neither notices the other from then on.

        Nothing is copied, and nothing folded, whatever the length. `purpose` and `tags` replace the parent's. Raises
        SessionNotFound, SessionExists, NoSuchMoment, also for a version inside a batch that was appended as one.
        """
        name = new_session_id() if new_id is None else check_session_id(new_id)
        version = fork_version(self.storage, session_id, at, recorded=recorded)
        self.storage.fork_session(name, session_id, version, self._begun(purpose, None, tags, by))
        return name

    def _begun(
        self, purpose: str | None, user_id: str | None, tags: Sequence[str] | None, by: Mapping[str, Any] | None
    ) -> e.SessionCreated:
        who = self._who(by)
        begun = e.SessionCreated(purpose=purpose, user_id=user_id, tags=arguments.texts("tags", tags), by=who)
        return begun if self.secrets is None else self.secrets.clean(begun)

    def complete_session(
        self,
        session_id: str,
        status: SessionStatus | str = SessionStatus.COMPLETED,
        *,
        reason: str | None = None,
        **options: Unpack[AppendOptions],
    ) -> Appended:
        """End a session as completed, failed or abandoned. Views are written before this returns."""
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
        """Delete a session for good, its tool calls' folders only where `history` says so; False where there was none.

        Folders that a fork of it refers to, and those outside the history folder, stay. Raises LogDamaged.
        """
        check_session_id(session_id)
        return self.storage.delete_session(session_id, "deleted by the caller", history=history)

    def cleanup_old_sessions(self, max_age_days: float = 30, grace_days: float = 7) -> int:
        """Put the sessions last updated more than `max_age_days` ago in the trash; return how many there were.

        What has been in the trash for `grace_days` is deleted for good. Pinned sessions stay.
        """
        done = self.trash.clean_up(self.trash.plan_cleanup(max_age_days, grace_days))
        return sum(one.action == "trash" for one in done)

    def recover_sessions(
        self, silent_hours: float = 24, on_damage: Callable[[LogDamaged], None] = tell_damage
    ) -> list[str]:
        """Mark active sessions as abandoned that no program has open and that were silent for so many hours; return their ids.

        `on_damage` hears of sessions that cannot be read: they stay as they are. Raises NotSupported where nobody can tell which
        sessions are being written: in memory, and in files on systems other than Linux.
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
        """Link a tool call to a session; the same id again adds to what is known of the call and counts once.

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
        """Wrap the work of a tool: `with manager.invocation(session_id, tool_name, arguments) as call:`.

        The call gets a folder in the history, is timed, recorded with `call.result` or the exception, and linked. Without a
        session it is recorded all the same. Works inside async code. Raises SessionNotFound on entry.
        """
        return Call(self, session_id, tool_name, arguments)

    def flush(self) -> None:
        """Return when events are on stable storage and views are written."""
        self.storage.flush()

    def close(self) -> None:
        """Flush, and close files. The manager stays usable: the next call opens what it needs again; closing twice is fine."""
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
