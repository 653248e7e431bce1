"""SessionManager: the one object that users hold."""

import secrets
import time
from collections.abc import Callable, Collection, Iterable, Iterator, Mapping, Sequence
from contextlib import suppress
from copy import deepcopy
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from math import isfinite
from pathlib import Path
from types import TracebackType
from typing import Any, Literal, Self, TypedDict, Unpack, cast, overload

from msgspec import UNSET
from msgspec.structs import replace

from eventstore import events as e
from eventstore.derived.analytics import By, Figures
from eventstore.derived.catalog import Filter, Sort
from eventstore.derived.search import Asked, Hit, count_tokens, pack
from eventstore.errors import LogDamaged, SessionExists, SessionNotFound, VersionConflict
from eventstore.ids import new_session_id
from eventstore.integrity import redaction, signing
from eventstore.integrity.checkpoint import SigningKey
from eventstore.integrity.redaction import Redactable, Redacted
from eventstore.integrity.signing import Consistency, Inclusion
from eventstore.log.base import Appended, Head
from eventstore.record import clock
from eventstore.record.salvage import Remnant
from eventstore.secret_patterns import Patterns
from eventstore.settings import Settings, load_settings
from eventstore.store import as_of as moments
from eventstore.store.as_of import At
from eventstore.store.pages import Page, tell_damage
from eventstore.store.retention import Expiry, Trashed
from eventstore.store.storage import SessionStorage
from eventstore.store.storages import FileSystemSessionStorage, MemorySessionStorage
from eventstore.store.tool_history import Record, ToolHistory
from eventstore.subscriptions.event_filter import EventFilter
from eventstore.subscriptions.subscription import Source, Subscription
from projections import branches, difference, timeline, turns
from projections import session as session_fold
from projections.branches import Ancestor, Comparison
from projections.difference import Change
from projections.models import Conversation, ConversationMessage, Session, SessionStatus, check_role


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


class SessionManager:
    """Sessions on a storage: create, add to, ask, list, end. Safe for threads.

    `by` says who acts (actor, tool, trace id); it is written into every event. With `secrets`, such as `Patterns()`, what looks
    like a key, a token or a password is replaced by a mark before it is written, in events and in records of tool calls.

    Methods that append return the numbers of their events. They raise SessionNotFound for an unknown session, EventRefused for
    what no event can hold, VersionConflict and LogDamaged.
    """

    def __init__(
        self, storage: SessionStorage, *, by: Mapping[str, Any] | None = None, secrets: Patterns | None = None
    ) -> None:
        self.storage = storage
        self.by = dict(by or {})
        self.secrets = secrets
        self.tool_history = storage.history

    @classmethod
    def from_settings(cls, settings: Settings | None = None) -> Self:
        """Open the store that the settings name, read from the environment and `.env` where none are given.

        Raises InvalidSetting.
        """
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

    # --- the life of a session

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
        if template is not None:
            name = new_session_id() if session_id is None else session_id
            self.storage.use_template(template, name, self._begun(purpose, user_id, tags, options.get("by")))
            return self.storage.fold(name).to_model(name)
        used = session_id is not None and self.storage.was_used(session_id)
        created = e.SessionCreated(purpose=purpose, user_id=user_id, tags=_texts("tags", tags), used_before=used)
        name = new_session_id() if session_id is None else session_id
        try:
            options["expected_version"] = 0
            self._append(name, created, **options)
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
        name = new_session_id() if new_id is None else new_id
        version = self._fork_version(session_id, at, recorded=recorded)
        self.storage.fork_session(name, session_id, version, self._begun(purpose, None, tags, by))
        return name

    def _begun(
        self, purpose: str | None, user_id: str | None, tags: Sequence[str] | None, by: Mapping[str, Any] | None
    ) -> e.SessionCreated:
        who = {**self.by, **(by or {})} or None
        begun = e.SessionCreated(purpose=purpose, user_id=user_id, tags=_texts("tags", tags), by=who)
        return begun if self.secrets is None else self.secrets.clean(begun)

    def _fork_version(self, session_id: str, at: At | None, *, recorded: bool) -> int:
        """Find the version to go on from. A time in the middle of a batch means the end of the one before."""
        version = self.storage.version_at(session_id, at, recorded=recorded)
        if at is None or isinstance(at, int):
            return version
        (event,) = self.storage.log.read(session_id, version - 1, version)
        if event.batch is None or event.batch[0] + 1 == event.batch[1]:
            return version
        return version - event.batch[0] - 1

    def lineage(self, session_id: str) -> list[Ancestor]:
        """List the sessions that one goes on from, the first of the line first, and itself; each with its last event's number."""
        state = self.storage.summary(session_id)
        return branches.lineage(session_id, state.metadata.forks, state.version)

    def compare_branches(self, a: str, b: str) -> Comparison:
        """Compare what two sessions did since their past in common: turns, tools, tokens, cost. Raises SessionNotFound."""
        common = branches.common_ancestor(self.lineage(a), self.lineage(b))
        since = common.version if common else 0
        one, other = (branches.summarize(each, self.events(each, since)) for each in (a, b))
        return Comparison(common, (one, other))

    def save_template(self, name: str, from_session: str, at: At | None = None, *, recorded: bool = False) -> None:
        """Keep a session's past, to a version or time, as a template that sessions can be made of. Raises as `fork_session`."""
        version = self._fork_version(from_session, at, recorded=recorded)
        self.storage.save_template(name, from_session, version, self._begun(None, None, None, None))

    def list_templates(self) -> list[str]:
        """List the names of templates."""
        return self.storage.templates()

    def get_template(self, name: str) -> Session:
        """Return a template, as the session that would be made of it. Raises SessionNotFound."""
        return self.storage.load_template(name)

    def remove_template(self, name: str) -> bool:
        """Remove a template; sessions that were made of it stay as they are. False where there was none."""
        return self.storage.remove_template(name)

    def get_session(self, session_id: str, at: At | None = None, *, recorded: bool = False) -> Session | None:
        """Return the session as a new object, or None: as it is, or as it was at a version or a time.

        A time in a question means the greatest time of the events so far, so that every answer is a prefix of the log;
        `recorded` asks when events were written down instead of when they happened. Raises NoSuchMoment.
        """
        return self.storage.load_session(session_id, at, recorded=recorded)

    def update_session_metadata(
        self,
        session_id: str,
        purpose: str | None = None,
        tags: Sequence[str] | None = None,
        custom_metadata: Mapping[str, Any] | None = None,
        **options: Unpack[AppendOptions],
    ) -> Appended:
        """Change what is given: `tags` replace the old ones, `custom_metadata` is merged key by key, None changes nothing."""
        changed = e.SessionUpdated(
            purpose=UNSET if purpose is None else purpose,
            tags=UNSET if tags is None else _texts("tags", tags),
            custom_metadata=dict(custom_metadata or {}),
        )
        return self._append(session_id, changed, **options)

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
            session_id, e.SessionCompleted(status=cast("e.Status", ended.value), reason=reason), **options
        )
        self.storage.flush_views(session_id)
        return result

    def reopen_session(self, session_id: str, **options: Unpack[AppendOptions]) -> Appended:
        """Make a session that had ended active again."""
        return self._append(session_id, e.SessionReopened(), **options)

    def delete_session(self, session_id: str, *, history: bool = False) -> bool:
        """Delete a session for good, its tool calls' folders only where `history` says so; False where there was none.

        Folders that a fork of it refers to, and those outside the history folder, stay. Raises LogDamaged.
        """
        return self.storage.delete_session(session_id, "deleted by the caller", history=history)

    def pin_session(self, session_id: str, pinned: bool = True, **options: Unpack[AppendOptions]) -> Appended:
        """Keep a session whatever its age, or no longer."""
        return self._append(session_id, e.SessionPinned(pinned=pinned), **options)

    def plan_cleanup(
        self,
        max_age_days: float = 30,
        grace_days: float = 7,
        on_damage: Callable[[LogDamaged], None] = tell_damage,
    ) -> list[Expiry]:
        """Plan what `cleanup_old_sessions` would do, and why: what goes, and what is kept though it is old. Changes nothing.

        `on_damage` hears of sessions that cannot be read: they are left alone.
        """
        for name, days in (("max_age_days", max_age_days), ("grace_days", grace_days)):
            if not isfinite(days) or days < 0:
                raise ValueError(f"{name} is {days}, not a number of days from 0; nothing was deleted")
        now = datetime.now(UTC)
        cutoff, trashed_before = now - timedelta(days=max_age_days), now - timedelta(days=grace_days)
        return self.storage.plan_cleanup(cutoff, trashed_before, on_damage)

    def cleanup_old_sessions(self, max_age_days: float = 30, grace_days: float = 7) -> int:
        """Put the sessions last updated more than `max_age_days` ago in the trash; return how many there were.

        What has been in the trash for `grace_days` is deleted for good. Pinned sessions stay.
        """
        done = self.storage.clean_up(self.plan_cleanup(max_age_days, grace_days))
        return sum(one.action == "trash" for one in done)

    def trash_session(self, session_id: str) -> bool:
        """Put a session in the trash, out of which `restore_session` brings it back; False where there is none."""
        return self.storage.trash_session(session_id, "by the caller")

    def restore_session(self, session_id: str) -> None:
        """Bring the session that was last put in the trash under this id back. Raises SessionNotFound, SessionExists."""
        self.storage.restore_session(session_id)

    def list_trash(self) -> list[Trashed]:
        """List what is in the trash, what came there last first."""
        return self.storage.list_trash()

    def redact(
        self, session_id: str, seqs: int | Sequence[int], reason: str, *, by: Mapping[str, Any] | None = None
    ) -> Redacted:
        """Remove the content of events for good: out of the log, of its forks and copies, and of all that was made of it.

        What stays is that there was an event of that type, when, its hash, and who removed it and why: the chain and every
        checkpoint hold. An event that came out of an imported line takes the line along, one that tells of a tool call the record
        of that call. Raises RedactionRefused, where an event is not there, has no text, or is one that the log cannot do without,
        SessionNotFound, LogDamaged; nothing is changed then.
        """
        wanted = [seqs] if isinstance(seqs, int) else list(seqs)
        return redaction.redact(self.storage, session_id, wanted, reason, {**self.by, **(by or {})} or None)

    def plan_redactions(
        self,
        patterns: Patterns | None = None,
        session_ids: Collection[str] | None = None,
        on_damage: Callable[[LogDamaged], None] = tell_damage,
    ) -> list[Redactable]:
        """Find secrets in sessions, if none are named in all, the trash and templates too: in events and records of tool calls.

        `patterns` are those of `SECRETS` where none are given. Changes nothing; `redact_plan` carries it out. Where none
        are named, a session that cannot be read hides no other, and `on_damage` hears of it; one that is named raises LogDamaged.
        """
        return list(redaction.plan_redactions(self.storage, patterns or Patterns(), session_ids, on_damage))

    def redact_plan(
        self,
        plan: Iterable[Redactable],
        reason: str,
        patterns: Patterns | None = None,
        *,
        by: Mapping[str, Any] | None = None,
    ) -> list[Redacted]:
        """Carry out a plan made with these patterns; what has an obstacle is left out. Raises as `redact` does."""
        who = {**self.by, **(by or {})} or None
        return redaction.redact_plan(self.storage, plan, patterns or Patterns(), reason, who)

    def recover_sessions(
        self, silent_hours: float = 24, on_damage: Callable[[LogDamaged], None] = tell_damage
    ) -> list[str]:
        """Mark active sessions as abandoned that no program has open and that were silent for so many hours; return their ids.

        `on_damage` hears of sessions that cannot be read: they stay as they are.
        """
        if not isfinite(silent_hours) or silent_hours < 0:
            raise ValueError(f"silent_hours is {silent_hours}, not a number from 0; nothing was written")
        return self.storage.recover(timedelta(hours=silent_hours), on_damage)

    # --- what is said

    def add_conversation_message(
        self,
        session_id: str,
        role: str,
        content: str,
        tool_name: str | None = None,
        invocation_id: str | None = None,
        **options: Unpack[AppendOptions],
    ) -> Appended:
        """Add a message of the user, the assistant, a tool or the system. Raises ValueError for another role."""
        if not isinstance(content, str):
            raise ValueError(f"content is a {type(content).__name__}, not text; nothing was added")
        message = e.MessageAdded(
            role=check_role(role), content=content, tool_name=tool_name, invocation_id=invocation_id
        )
        return self._append(session_id, message, **options)

    def clear_conversation(self, session_id: str, **options: Unpack[AppendOptions]) -> Appended:
        """Let the conversation start over; the log keeps what was said."""
        return self._append(session_id, e.ConversationCleared(), **options)

    @overload
    def conversation(
        self,
        session_id: str,
        limit: int | None = None,
        tokens: int | None = None,
        at: At | None = None,
        *,
        recorded: bool = False,
        format: Literal["plain"] = "plain",
    ) -> list[ConversationMessage]: ...
    @overload
    def conversation(
        self,
        session_id: str,
        limit: int | None = None,
        tokens: int | None = None,
        at: At | None = None,
        *,
        recorded: bool = False,
        format: Literal["openai"],
    ) -> list[dict[str, Any]]: ...
    @overload
    def conversation(
        self,
        session_id: str,
        limit: int | None = None,
        tokens: int | None = None,
        at: At | None = None,
        *,
        recorded: bool = False,
        format: Literal["anthropic"],
    ) -> dict[str, Any]: ...
    def conversation(
        self,
        session_id: str,
        limit: int | None = None,
        tokens: int | None = None,
        at: At | None = None,
        *,
        recorded: bool = False,
        format: turns.Format = "plain",  # noqa: A002 - what it is
    ) -> Any:
        """Return the conversation as a model can be given it: whole turns, the latest that fit, and no half of a tool call.

        At most `limit` messages and about `tokens` tokens (four bytes each); messages of the system that open the conversation
        stay. A call without a result, say because the program died, and a result without a call are left out: `get_session`
        has them all. `plain` gives ConversationMessage, `openai` the messages of chat completions, `anthropic` an object of
        `system` and `messages`. Raises SessionNotFound, ValueError.
        """
        for name, given in (("limit", limit), ("tokens", tokens)):
            if given is not None and given < 0:
                raise ValueError(f"{name} is {given}, not a number from 0")
        said = self.storage.fold(session_id, at, recorded=recorded).conversation.messages
        chosen = turns.latest(said, limit, tokens)
        if format == "openai":
            return turns.to_openai(chosen)
        if format == "anthropic":
            return turns.to_anthropic(chosen)
        if format != "plain":
            raise ValueError(f"format {format!r} is not one of plain, openai, anthropic")
        return list(Conversation(chosen))

    # --- what tools did

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
            invocation_dir=self.storage.relative(invocation_dir),
            duration_ms=_at_least_nothing("duration_ms", duration_ms),
            success=success,
            error=error,
        )
        return self._append(session_id, linked, **options)

    def invocation(self, session_id: str | None, tool_name: str, arguments: Any = None) -> "Call":
        """Wrap the work of a tool: `with manager.invocation(session_id, tool_name, arguments) as call:`.

        The call gets a folder in the history, is timed, recorded with `call.result` or the exception, and linked. Without a
        session it is recorded all the same. Works inside async code. Raises SessionNotFound on entry.
        """
        return Call(self, session_id, tool_name, arguments)

    def record_usage(
        self,
        session_id: str,
        tokens: Mapping[str, int],
        cost: float | None = None,
        model: str | None = None,
        key: str | None = None,
        **options: Unpack[AppendOptions],
    ) -> Appended:
        """Record tokens by kind and their cost. The same `key` again folds by maximum, never adds. Raises ValueError."""
        used = e.UsageRecorded(tokens=_counts(tokens), cost=_at_least_nothing("cost", cost), model=model, key=key)
        return self._append(session_id, used, **options)

    # --- a session's own data

    def set_data(self, session_id: str, key: str, value: Any, **options: Unpack[AppendOptions]) -> Appended:
        """Give a key of the session's own data a value, any JSON."""
        return self._append(session_id, e.DataSet(key=key, value=value), **options)

    def delete_data(self, session_id: str, key: str, **options: Unpack[AppendOptions]) -> Appended:
        """Take a key of the session's own data away, whether it is there or not."""
        return self._append(session_id, e.DataDeleted(key=key), **options)

    def data(self, session_id: str, at: At | None = None, *, recorded: bool = False) -> dict[str, Any]:
        """Return the session's own data, as it is or was. Raises SessionNotFound."""
        return deepcopy(self.storage.summary(session_id, at, recorded=recorded).data)

    def clear_data(self, session_id: str, **options: Unpack[AppendOptions]) -> Appended:
        """Take all of the session's own data away."""
        return self._append(session_id, e.DataCleared(), **options)

    # --- questions

    def list_sessions(
        self,
        user_id: str | None = None,
        status: SessionStatus | str | None = None,
        tags: Sequence[str] | None = None,
        limit: int | None = 100,
        at: At | None = None,
    ) -> list[Session]:
        """List sessions that fit all filters, the most recently updated first; `tags` match any. None lists them all.

        `at`, a time, lists the sessions there were then, as they were.
        """
        return self.storage.list_sessions(user_id, status, tags, limit, at)

    def page_sessions(
        self,
        user_id: str | None = None,
        status: SessionStatus | str | None = None,
        tags: Sequence[str] | None = None,
        *,
        purpose: str | None = None,
        since: datetime | str | None = None,
        until: datetime | str | None = None,
        sort: Sort = "updated",
        limit: int | None = 100,
        cursor: str | None = None,
        at: At | None = None,
    ) -> Page:
        """List what is known of the sessions that fit all filters, a page of `limit`, without what was said in them.

        `tags` match any, `purpose` a part of it in any case, `since` and `until` the last update. The most recently updated come
        first, or the most recently `created`, or those with the greatest `cost`; then by id. `cursor` of a page asks for the
        next one.
        """
        if isinstance(tags, str):
            raise ValueError("tags is not a list of texts")
        wanted = None if status is None else SessionStatus(status).value
        first, last = (None if one is None else clock.to_iso(moments.as_text(one)) for one in (since, until))
        found = Filter(user_id, wanted, tags, purpose, first, last, sort, limit, cursor)
        return self.storage.page(found, at=at)

    def get_session_statistics(
        self, session_id: str, at: At | None = None, *, recorded: bool = False
    ) -> dict[str, Any] | None:
        """Return a session's figures as JSON values, or None: durations in milliseconds or, where named so, seconds."""
        try:
            return self.storage.statistics(session_id, at, recorded=recorded)
        except SessionNotFound:
            return None

    def search(
        self,
        text: str,
        *,
        user_id: str | None = None,
        role: str | None = None,
        tool: str | None = None,
        since: datetime | str | None = None,
        at: At | None = None,
        limit: int = 20,
        on_damage: Callable[[LogDamaged], None] = tell_damage,
    ) -> list[Hit]:
        """Search messages, purposes and tool calls of all sessions; the best hits first, each with snippet and citation.

        All words are to be there, `"quoted ones"` next to each other; `word*` is a beginning. `role` is that of a message, or
        `purpose` or `call`; `since` when it happened; `at`, a time, searches what there was then.
        `on_damage` hears of sessions that cannot be read: they hide no other.
        """
        first = None if since is None else moments.as_text(since)
        return self.storage.search(Asked(text, user_id, role, tool, first, limit), at, on_damage)

    def analytics(
        self,
        by: By = "day",
        *,
        user_id: str | None = None,
        tag: str | None = None,
        since: str | None = None,
        until: str | None = None,
        on_damage: Callable[[LogDamaged], None] = tell_damage,
    ) -> list[Figures]:
        """Sum up what sessions did by day, user, tag, tool or model: sessions, messages, calls, errors, time, tokens, cost.

        `since` and `until` are days (UTC, `2026-01-31`), both included. What a fork inherits counts once, for its parent.
        `on_damage` hears of sessions that cannot be read: they hide no other.
        """
        return self.storage.analytics(by, user_id, tag, since, until, on_damage)

    def context(
        self,
        text: str,
        budget_tokens: int = 2000,
        *,
        user_id: str | None = None,
        role: str | None = None,
        tool: str | None = None,
        since: datetime | str | None = None,
        at: At | None = None,
        limit: int = 20,
    ) -> str:
        """Pack the best hits of a search for a prompt: whole texts under their citations, as many as fit about so many tokens."""
        hits = self.search(text, user_id=user_id, role=role, tool=tool, since=since, at=at, limit=limit)
        return pack(self.storage.texts_of(hits), budget_tokens, count_tokens)

    def events(
        self, session_id: str, after: int = 0, at: At | None = None, *, recorded: bool = False
    ) -> Iterator[e.Event]:
        """Stream the events numbered from `after` + 1, in order, to the end or a moment. Raises SessionNotFound, LogDamaged."""
        upto = None if at is None else self.storage.version_at(session_id, at, recorded=recorded)
        return self.storage.log.read(session_id, after, upto)

    def follow(
        self,
        session_id: str | None = None,
        after: str | int | None = None,
        *,
        live: bool = True,
        name: str | None = None,
        types: Collection[str] | None = None,
        tools: Collection[str] | None = None,
        user_id: str | None = None,
        tags: Collection[str] | None = None,
        since: datetime | str | None = None,
        on_damage: Callable[[LogDamaged], None] = tell_damage,
    ) -> Subscription:
        """Follow one session, or all: what was committed so far, then what is committed from now on, none lost, none repeated.

        Iterate over what is returned: each has `session_id`, `event` and `cursor`, a short text to give as `after` another time,
        to go on behind that event. `after` may also be "now", or of one session a number of events. Events come in whole batches,
        in order within a session; between sessions there is no order. With `name` the cursor is kept in the store under it, from
        the beginning on and whenever the next event is asked for, and taken up from there where `after` is not given: after a
        crash the last 100 ms may come again.

        `types` and `tools` of events, `user_id` and `tags` (any) of their sessions, and `since` when they were recorded narrow it
        down. Without `live` it ends where there is nothing new. A fork's past comes with its parent when all are followed. Raises
        SessionNotFound, CursorRefused, LogRolledBack where a log is not the one that the cursor was given for, LogDamaged; of all
        sessions `on_damage` hears of a damaged one, and the others go on.
        """
        first = None if since is None else moments.as_text(since)
        storage = self.storage
        source = Source(storage.log, storage.positions, storage.metadata, storage.ended)
        wanted = EventFilter(types, tools, user_id, tags, first)
        return Subscription(source, session_id, after, wanted, live=live, name=name, on_damage=on_damage)

    def history(self, session_id: str, after: int = 0) -> Iterator[tuple[e.Event, Session]]:
        """Stream the events numbered from `after` + 1, each with the session as it was after it.

        Raises SessionNotFound, LogDamaged.
        """
        events = self.storage.log.read(session_id, after)
        state = self.storage.fold(session_id, after).copy() if after else session_fold.projection.initial()
        return _with_states(session_id, events, state)

    def diff(self, session_id: str, a: At, b: At | None = None, *, recorded: bool = False) -> list[Change]:
        """Tell what changed in a session between two moments; None means now, 0 before it began.

        Raises SessionNotFound, LogDamaged, NoSuchMoment.
        """
        before, after = (self._state_at(session_id, at, recorded=recorded) for at in (a, b))
        return list(difference.compare(session_id, before, after))

    def _state_at(self, session_id: str, at: At | None, *, recorded: bool) -> session_fold.State:
        try:
            return self.storage.fold(session_id, at, recorded=recorded)
        except SessionNotFound:
            self.head(session_id)
            return session_fold.projection.initial()

    def salvage(self, session_id: str) -> Iterator[Remnant]:
        """Stream all that is left of a damaged session, each piece with how much of it is proven. Raises SessionNotFound."""
        return self.storage.log.salvage(session_id)

    def timeline(self, session_id: str, at: At | None = None, *, recorded: bool = False) -> Iterator[timeline.Row]:
        """Stream what happened, to the end or a moment, one row an event. Raises SessionNotFound, LogDamaged."""
        return timeline.rows(self.events(session_id, at=at, recorded=recorded))

    def tree(self, session_id: str, at: At | None = None, *, recorded: bool = False) -> dict[str, str]:
        """Return the session's links, `{link: target}`; targets are relative to the history folder, or absolute."""
        return self.storage.summary(session_id, at, recorded=recorded).links()

    def head(self, session_id: str) -> Head:
        """Tell where the session's log ends: version, time, hash, size. Raises SessionNotFound, LogDamaged."""
        return self.storage.log.head(session_id)

    # --- what is signed, and proofs

    def sign_checkpoint(self, session_id: str, key: SigningKey) -> str:
        """Sign what a session is now, and return the note, for somebody who keeps it elsewhere; it is kept in the session too.

        Every byte is verified first. Where nothing but checkpoints came since the last one of this key, that one is returned. The
        store's own log is session `_store`: sign it last. Raises SessionNotFound, LogDamaged, and LogTampered where the log is
        not what this key signed before; nothing is signed then.
        """
        return signing.sign_checkpoint(self.storage, session_id, key)

    def checkpoints(self, session_id: str) -> list[str]:
        """List the signed notes of a session, the newest last; no signature is checked. Raises SessionNotFound, LogDamaged."""
        return signing.checkpoints(self.storage, session_id)

    def prove_inclusion(self, session_id: str, seq: int, size: int | None = None) -> Inclusion:
        """Prove to whoever has a checkpoint of `size` events (None: all there are now) that event `seq` is one of them.

        Raises NoSuchMoment, SessionNotFound, LogDamaged.
        """
        return signing.prove_inclusion(self.storage, session_id, seq, size)

    def prove_consistency(self, session_id: str, old: int, new: int | None = None) -> Consistency:
        """Prove to whoever has checkpoints of `old` and `new` events (None: all there are now) that one begins with the other.

        Raises NoSuchMoment, SessionNotFound, LogDamaged.
        """
        return signing.prove_consistency(self.storage, session_id, old, new)

    # --- ends

    def flush(self) -> None:
        """Return when events are on stable storage and views are written."""
        self.storage.flush()

    def close(self) -> None:
        """Flush, and let go of files."""
        self.storage.close()

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()

    def _append(self, session_id: str, event: e.Event, **options: Unpack[AppendOptions]) -> Appended:
        if options or self.by:
            event = self._stamped(event, **options)
        if self.secrets is not None:
            event = self.secrets.clean(event)
        return self._append_event(session_id, event, options.get("expected_version"))

    def _append_event(self, session_id: str, event: e.Event, expected_version: int | None) -> Appended:
        return self.storage.append(session_id, [event], expected_version=expected_version)

    def _stamped(
        self,
        event: e.Event,
        *,
        id: str | None = None,  # noqa: A002 - the record's own name
        expected_version: int | None = None,
        by: Mapping[str, Any] | None = None,
        occurred_at: datetime | str | None = None,
    ) -> e.Event:
        return replace(event, id=id, by={**self.by, **(by or {})} or None, occurred_at=_moment(occurred_at))


@dataclass
class Call:
    """A tool call under way. Set `result` before the block ends; `folder` is its own, for whatever it leaves behind.

    `folder` is None where there is no history folder; `duration_ms` and `success` are known when the block has ended.
    """

    manager: SessionManager
    session_id: str | None
    tool_name: str
    arguments: Any
    invocation_id: str = ""
    folder: Path | None = None
    result: Any = None
    duration_ms: float | None = None
    success: bool | None = None
    _began: datetime = field(default_factory=lambda: datetime.now(UTC), repr=False)
    _clock: float = field(default=0.0, repr=False)

    def __enter__(self) -> Self:
        self._began = datetime.now(UTC)
        if self.session_id is not None:
            self.manager.head(self.session_id)
        history = self.manager.tool_history
        self.folder = history.create(self.tool_name, self._began) if history else None
        self.invocation_id = self.folder.name if self.folder else f"inv_{secrets.token_hex(16)}"
        self._link()
        self._clock = time.perf_counter()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.duration_ms = (time.perf_counter() - self._clock) * 1000
        self.success = error is None
        told = None if error is None else f"{type(error).__name__}: {error}".encode(errors="replace").decode()
        try:
            self._record(self.manager.tool_history, told)
            self._link(told)
        except Exception as failed:
            if error is None:
                raise
            error.add_note(f"besides, this tool call could not be recorded: {failed}")

    def _record(self, history: ToolHistory | None, error: str | None) -> None:
        if history is None or self.folder is None:
            return
        record = Record(
            tool=self.tool_name,
            arguments=self.arguments,
            result=self.result,
            timestamp=self._began.isoformat(timespec="microseconds"),
            duration_ms=self.duration_ms or 0.0,
            success=bool(self.success),
            error=error,
            session_id=self.session_id,
            invocation_id=self.invocation_id,
        )
        secrets = self.manager.secrets
        history.write(self.folder, record, secrets.replace if secrets else None)

    def _link(self, error: str | None = None) -> None:
        if self.session_id is not None:
            self.manager.link_invocation(
                self.session_id,
                self.invocation_id,
                self.tool_name,
                self.folder,
                self.duration_ms,
                success=self.success,
                error=error,
            )


def _with_states(
    session_id: str, events: Iterator[e.Event], state: session_fold.State
) -> Iterator[tuple[e.Event, Session]]:
    for event in events:
        session_fold.projection.apply(state, event)
        yield event, state.to_model(session_id)


def _moment(given: datetime | str | None) -> str | None:
    if given is None:
        return None
    moment = given if isinstance(given, datetime) else clock.to_datetime(given)
    return clock.to_text(moment)


def _texts(name: str, given: Sequence[str] | None) -> tuple[str, ...]:
    if isinstance(given, str) or not all(isinstance(one, str) for one in given or ()):
        raise ValueError(f"{name} is not a list of texts; nothing was written")
    return tuple(given or ())


def _counts(tokens: Mapping[str, int]) -> dict[str, int]:
    if not isinstance(tokens, Mapping):
        raise ValueError("tokens are not numbers by kind; nothing was written")
    for kind, count in tokens.items():
        whole = isinstance(count, int) and not isinstance(count, bool)
        if not isinstance(kind, str) or not whole or not 0 <= count < 2**63:
            raise ValueError(f"tokens of kind {kind!r} are not a whole number from 0; nothing was written")
    return dict(tokens)


def _at_least_nothing(name: str, number: float | None) -> float | None:
    if number is None:
        return None
    with suppress(TypeError, ValueError):
        if isfinite(number) and number >= 0:
            return float(number)
    raise ValueError(f"{name} is not a number from 0; nothing was written")
