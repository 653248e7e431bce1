"""The reading methods of the manager, for the current state or an earlier one."""

from collections.abc import Callable, Collection, Iterator, Sequence
from copy import deepcopy
from datetime import date, datetime
from typing import Any, Literal, get_args, overload

from eventstore import events as e
from eventstore.derived.analytics import By, Figures
from eventstore.derived.catalog import Filter, Sort
from eventstore.derived.search import Asked, Hit, count_tokens, pack
from eventstore.errors import LogDamaged, SessionNotFound
from eventstore.log.base import Head
from eventstore.record import clock
from eventstore.record.salvage import Remnant
from eventstore.sessions import arguments
from eventstore.store.as_of import At
from eventstore.store.pages import Page, tell_damage
from eventstore.store.storage import SessionStorage
from eventstore.subscriptions.event_filter import EventFilter
from eventstore.subscriptions.subscription import Source, Subscription
from projections import branches, difference, timeline, turns
from projections import session as session_fold
from projections.branches import Ancestor, Comparison
from projections.difference import Change
from projections.models import Conversation, ConversationMessage, Session, SessionStatus


class AskingOne:
    """Queries about one session, or two.

    `at` is a version (int) or a time (datetime or RFC 3339 text); None means now. The methods raise SessionNotFound, LogDamaged,
    and NoSuchMoment for an invalid `at`.
    """

    storage: SessionStorage

    def get_session(self, session_id: str, at: At | None = None, *, recorded: bool = False) -> Session | None:
        """Return the session as a new object, now or as of a version or a time; None if it does not exist.

        As of a time means: the longest prefix of the log in which no event is later than that time. `recorded` compares the times
        of recording instead of `occurred_at`. Raises NoSuchMoment.
        """
        return self.storage.load_session(session_id, at, recorded=recorded)

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
        format: turns.Format = "plain",  # noqa: A002 - the clearest name for callers
    ) -> Any:
        """Return the conversation as input for a model: the latest complete turns that fit, without incomplete tool calls.

        It has at most `limit` messages and about `tokens` tokens (estimated as four bytes each). System messages at the start are
        always kept. A call without a result, for example after a crash, and a result without a call are left out; `get_session`
        returns all messages. `plain` returns ConversationMessage objects, `openai` the messages of chat completions,
        `anthropic` an object with `system` and `messages`. Raises SessionNotFound, ValueError.
        """
        most, most_tokens = arguments.limit("limit", limit), arguments.limit("tokens", tokens)
        messages = self.storage.fold(session_id, at, recorded=recorded).conversation.messages
        chosen = turns.latest(messages, most, most_tokens)
        if format == "openai":
            return turns.to_openai(chosen)
        if format == "anthropic":
            return turns.to_anthropic(chosen)
        if format != "plain":
            raise ValueError(f"format {format!r} is not one of plain, openai, anthropic")
        return list(Conversation(chosen))

    def data(self, session_id: str, at: At | None = None, *, recorded: bool = False) -> dict[str, Any]:
        """Return the session's own data, a JSON object. Raises SessionNotFound."""
        return deepcopy(self.storage.summary(session_id, at, recorded=recorded).data)

    def get_session_statistics(
        self, session_id: str, at: At | None = None, *, recorded: bool = False
    ) -> dict[str, Any] | None:
        """Return a session's figures as JSON values, or None if it does not exist. Units are in the names of durations."""
        try:
            return self.storage.statistics(session_id, at, recorded=recorded)
        except SessionNotFound:
            return None

    def events(
        self, session_id: str, after: int = 0, at: At | None = None, *, recorded: bool = False
    ) -> Iterator[e.Event]:
        """Stream the events numbered from `after` + 1, in order, up to `at`. Raises SessionNotFound, LogDamaged."""
        first = arguments.integer("after", after)
        upto = None if at is None else self.storage.version_at(session_id, at, recorded=recorded)
        return self.storage.log.read(session_id, first, upto)

    def history(self, session_id: str, after: int = 0) -> Iterator[tuple[e.Event, Session]]:
        """Stream the events numbered from `after` + 1, each with the session as of that event.

        Raises SessionNotFound, LogDamaged.
        """
        first = arguments.integer("after", after)
        events = self.storage.log.read(session_id, first)
        state = self.storage.fold(session_id, first).copy() if first else session_fold.projection.initial()
        return _with_states(session_id, events, state)

    def timeline(self, session_id: str, at: At | None = None, *, recorded: bool = False) -> Iterator[timeline.Row]:
        """Stream the timeline up to `at`, one row per event. Raises SessionNotFound, LogDamaged."""
        return timeline.rows(self.events(session_id, at=at, recorded=recorded))

    def tree(self, session_id: str, at: At | None = None, *, recorded: bool = False) -> dict[str, str]:
        """Return the links to tool calls as `{link: target}`. Targets are relative to the history folder, or absolute."""
        return self.storage.summary(session_id, at, recorded=recorded).links()

    def head(self, session_id: str) -> Head:
        """Return the end of the session's log: version, time, hash, size in bytes. Raises SessionNotFound, LogDamaged."""
        return self.storage.log.head(session_id)

    def diff(self, session_id: str, a: At, b: At | None = None, *, recorded: bool = False) -> list[Change]:
        """Return the differences of a session between `a` and `b`. 0 means before the first event; None for `b` means now.

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

    def lineage(self, session_id: str) -> list[Ancestor]:
        """List the ancestors of a fork, the oldest first, then the session; each with the number of its last common event."""
        state = self.storage.summary(session_id)
        return branches.lineage(session_id, state.metadata.forks, state.version)

    def compare_branches(self, a: str, b: str) -> Comparison:
        """Compare two sessions after their last common event: turns, tools, tokens, cost. Raises SessionNotFound."""
        common = branches.common_ancestor(self.lineage(a), self.lineage(b))
        since = common.version if common else 0
        one, other = (branches.summarize(each, self.events(each, since)) for each in (a, b))
        return Comparison(common, (one, other))

    def salvage(self, session_id: str) -> Iterator[Remnant]:
        """Stream every readable line of a damaged session, each with how much of it is verified. Raises SessionNotFound."""
        return self.storage.log.salvage(session_id)


class AskingAll:
    """Queries over all sessions. A session that cannot be read is skipped, and reported to `on_damage` or as a warning."""

    storage: SessionStorage

    def list_sessions(
        self,
        user_id: str | None = None,
        status: SessionStatus | str | None = None,
        tags: Sequence[str] | None = None,
        limit: int | None = 100,
        at: At | None = None,
    ) -> list[Session]:
        """List the sessions that match all filters, the most recently updated first. `tags` matches any of them.

        `limit=None` lists all. `at`, a time, lists the sessions that existed then, in their state of that time.
        """
        user, tagged = arguments.text("user_id", user_id), arguments.filters("tags", tags)
        return self.storage.list_sessions(user, status, tagged, arguments.limit("limit", limit), at)

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
        """List the metadata of the sessions that match all filters, in pages of `limit`.

        `tags` matches any of them, `purpose` a substring without case, `since` and `until` the last update. `sort` is `updated`
        or `created` (the most recent first) or `cost` (the highest first), then by id. Pass the `cursor` of a page to get the
        next.
        """
        first, last = arguments.since(since), arguments.since(until)
        found = Filter(
            user_id=arguments.text("user_id", user_id),
            status=None if status is None else SessionStatus(status).value,
            tags=arguments.filters("tags", tags),
            purpose=arguments.text("purpose", purpose),
            since=None if first is None else clock.to_iso(first),
            until=None if last is None else clock.to_iso(last),
            sort=arguments.choice("sort", sort, get_args(Sort)),
            limit=arguments.limit("limit", limit),
            cursor=arguments.text("cursor", cursor),
        )
        return self.storage.page(found, at=at)

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
        """Search messages, purposes and tool calls of all sessions. Returns the best hits first, each with snippet and citation.

        All words must match; `"quoted words"` must be adjacent; `word*` matches a prefix. `role` is the role of a message, or
        `purpose` or `call`. `since` is the earliest time. `at`, a time, searches the texts that existed then.
        Sessions that cannot be read are skipped and reported to `on_damage`.
        """
        asked = Asked(
            text=arguments.query("text", text),
            user_id=arguments.text("user_id", user_id),
            role=arguments.text("role", role),
            tool=arguments.text("tool", tool),
            since=arguments.since(since),
            limit=arguments.integer("limit", limit),
        )
        return self.storage.search(asked, at, on_damage)

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
        """Return the best hits of a search as text for a prompt: complete texts with citations, about `budget_tokens` at most."""
        budget = arguments.integer("budget_tokens", budget_tokens)
        hits = self.search(text, user_id=user_id, role=role, tool=tool, since=since, at=at, limit=limit)
        return pack(self.storage.texts_of(hits), budget, count_tokens)

    def analytics(
        self,
        by: By = "day",
        *,
        user_id: str | None = None,
        tag: str | None = None,
        since: date | str | None = None,
        until: date | str | None = None,
        on_damage: Callable[[LogDamaged], None] = tell_damage,
    ) -> list[Figures]:
        """Sum the figures of sessions by day, user, tag, tool or model: sessions, messages, calls, errors, time, tokens, cost.

        `since` and `until` are days in UTC, a date or a text such as `2026-01-31`, both included. Inherited events of a fork
        count once, for the parent. Sessions that cannot be read are skipped and reported to `on_damage`.
        """
        key, user = arguments.choice("by", by, get_args(By)), arguments.text("user_id", user_id)
        first, last = arguments.day("since", since), arguments.day("until", until)
        return self.storage.analytics(key, user, arguments.text("tag", tag), first, last, on_damage)

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
        """Follow one session, or all: every committed event, then every new one, exactly once and in order.

        Iterate over the result. Each item has `session_id`, `event` and `cursor`. Pass the cursor, a short text, as `after` to
        resume after that event. `after` may also be "now", or a number of events if one session is followed. Events come in
        complete batches and in order within a session; there is no order between sessions. With `name` the store saves the
        position under that name whenever the next event is requested, and resumes there if `after` is not given. After a
        crash, the events of the last 100 ms may be delivered again.

        Filters: `types` and `tools` of events, `user_id` and `tags` (any) of their sessions, `since` as the time of recording.
        With `live=False` the iteration ends at the last event. If all sessions are followed, inherited events of a fork come with
        the parent only. Raises SessionNotFound, CursorRefused, LogDamaged, and LogRolledBack if a log no longer matches the
        cursor. If all sessions are followed, a damaged one is reported to `on_damage` and the others continue. Raises
        PositionNotSaved if the position under `name` cannot be stored.
        """
        if not isinstance(after, str | int | None) or isinstance(after, bool):
            raise ValueError('after is neither a cursor, nor "now", nor a number of events; nothing was read')
        storage = self.storage
        source = Source(storage.log, storage.positions, storage.metadata, storage.ended)
        wanted = EventFilter(
            arguments.filters("types", types),
            arguments.filters("tools", tools),
            arguments.text("user_id", user_id),
            arguments.filters("tags", tags),
            arguments.since(since),
        )
        return Subscription(
            source, session_id, after, wanted, live=live, name=arguments.text("name", name), on_damage=on_damage
        )


class Asking(AskingOne, AskingAll):
    """All queries."""


def _with_states(
    session_id: str, events: Iterator[e.Event], state: session_fold.State
) -> Iterator[tuple[e.Event, Session]]:
    for event in events:
        session_fold.projection.apply(state, event)
        yield event, state.to_model(session_id)
