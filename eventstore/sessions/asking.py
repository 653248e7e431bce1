"""The reading methods of the manager, for the current state or an earlier one."""

from collections.abc import Callable, Collection, Iterator, Sequence
from contextlib import suppress
from copy import deepcopy
from datetime import date, datetime
from typing import TYPE_CHECKING, Any, Literal, Unpack, get_args, overload

from eventstore import events as e
from eventstore.derived.listing import Filter, Sort
from eventstore.derived.search_query import SEARCH_WAIT_S, Asked, Hits, count_tokens, pack
from eventstore.errors import LogDamaged, SessionNotFound
from eventstore.log.base import Head
from eventstore.record import clock
from eventstore.sessions import arguments
from eventstore.store.as_of import At
from eventstore.store.message_content import with_files
from eventstore.store.pages import Page, warn_damaged
from eventstore.store.storage import SessionStorage
from eventstore.store.sub_agents import SubAgent
from projections import session as session_fold
from projections import statistics
from projections.models import Conversation, ConversationMessage, Session, SessionStatus
from projections.projection import Projection, S

if TYPE_CHECKING:  # loaded by the method that is asked: a program that shows a session asks for few of them
    from eventstore.derived.analytics import By, Figures
    from eventstore.record.salvage import Remnant
    from eventstore.sessions.follow_options import SubscribeOptions
    from eventstore.subscriptions.handling import Handling
    from eventstore.subscriptions.subscription import Delivered, Subscription
    from projections import timeline, turns
    from projections.branches import Ancestor, Comparison
    from projections.difference import Change


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
        format: "turns.Format" = "plain",  # noqa: A002 - the clearest name for callers
    ) -> Any:
        """Return the conversation as input for a model: the latest complete turns that fit, without incomplete tool calls.

        It has at most `limit` messages and about `tokens` tokens (estimated as four bytes each). System messages at the start are
        always kept. A call without a result, for example after a crash, and a result without a call are left out; `get_session`
        returns all messages. `plain` returns ConversationMessage objects, `openai` the messages of chat completions,
        `anthropic` an object with `system` and `messages`. Raises SessionNotFound, ValueError.
        """
        from projections import turns

        most, most_tokens = arguments.limit("limit", limit), arguments.limit("tokens", tokens)
        messages = self.storage.fold(session_id, at, recorded=recorded).conversation.messages
        log = self.storage.log
        chosen = [with_files(log, session_id, one) for one in turns.latest(messages, most, most_tokens)]
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
        self, session_id: str, at: At | None = None, *, recorded: bool = False, with_sub_agents: bool = False
    ) -> dict[str, Any] | None:
        """Return a session's figures as JSON values, or None if it does not exist. Units are in the names of durations.

        `with_sub_agents` adds the figures of all sub-agents below it, now or as of a time; `sub_agents` is their number then.
        """
        try:
            found = self.storage.statistics(session_id, at, recorded=recorded)
        except SessionNotFound:
            return None
        return self._with_sub_agents(found, session_id, at, recorded=recorded) if with_sub_agents else found

    def _with_sub_agents(
        self, found: dict[str, Any], session_id: str, at: At | None, *, recorded: bool
    ) -> dict[str, Any]:
        if isinstance(at, int):
            raise ValueError("figures with sub-agents are as of a time, not of a number of events: give a time")
        count = 0
        for _, one in self.storage.all_sub_agents(session_id):
            with suppress(SessionNotFound):  # it began later, or was deleted in the meantime
                found = statistics.add(found, self.storage.statistics(one.session_id, at, recorded=recorded))
                count += 1
        return {**found, "sub_agents": count}

    def sub_agents(self, session_id: str) -> list[SubAgent]:
        """Return the sub-agents that calls of a session started, the oldest first, each with the call. Raises SessionNotFound."""
        return self.storage.sub_agents(session_id)

    def project(self, session_id: str, projection: Projection[S], at: At | None = None, *, recorded: bool = False) -> S:
        """Fold a session with a projection of the program, and return the state: a copy that the caller may change.

        The state is cached, so that the next call reads only the events after it. Raises SessionNotFound, and what
        `projection.evolve` raises.
        """
        if not isinstance(projection, Projection):
            raise ValueError(f"projection is a {type(projection).__name__}, not a Projection; nothing was read")
        return self.storage.project(session_id, projection, at, recorded=recorded)

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

    def timeline(self, session_id: str, at: At | None = None, *, recorded: bool = False) -> "Iterator[timeline.Row]":
        """Stream the timeline up to `at`, one row per event. Raises SessionNotFound, LogDamaged."""
        from projections import timeline

        return timeline.rows(self.events(session_id, at=at, recorded=recorded))

    def tree(self, session_id: str, at: At | None = None, *, recorded: bool = False) -> dict[str, str]:
        """Return the links to tool calls as `{link: target}`. Targets are relative to the history folder, or absolute."""
        return self.storage.summary(session_id, at, recorded=recorded).links()

    def head(self, session_id: str) -> Head:
        """Return the end of the session's log: version, time, hash, size in bytes. Raises SessionNotFound, LogDamaged."""
        return self.storage.log.head(session_id)

    def diff(self, session_id: str, a: At, b: At | None = None, *, recorded: bool = False) -> "list[Change]":
        """Return the differences of a session between `a` and `b`. 0 means before the first event; None for `b` means now.

        Raises SessionNotFound, LogDamaged, NoSuchMoment.
        """
        from projections import difference

        before, after = (self._state_at(session_id, at, recorded=recorded) for at in (a, b))
        return list(difference.compare(session_id, before, after))

    def _state_at(self, session_id: str, at: At | None, *, recorded: bool) -> session_fold.State:
        try:
            return self.storage.fold(session_id, at, recorded=recorded)
        except SessionNotFound:
            self.head(session_id)
            return session_fold.projection.initial()

    def lineage(self, session_id: str) -> "list[Ancestor]":
        """List the ancestors of a fork, the oldest first, then the session; each with the number of its last common event."""
        from projections import branches

        state = self.storage.summary(session_id)
        return branches.lineage(session_id, state.metadata.forks, state.version)

    def compare_branches(self, a: str, b: str) -> "Comparison":
        """Compare two sessions after their last common event: turns, tools, tokens, cost. Raises SessionNotFound."""
        from projections import branches

        common = branches.common_ancestor(self.lineage(a), self.lineage(b))
        since = common.version if common else 0
        one, other = (branches.summarize(each, self.events(each, since)) for each in (a, b))
        return branches.Comparison(common, (one, other))

    def salvage(self, session_id: str) -> "Iterator[Remnant]":
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
        external_key: str | None = None,
        external_prefix: str | None = None,
        at: At | None = None,
        total: bool = False,
        on_damage: Callable[[LogDamaged], None] = warn_damaged,
    ) -> Page:
        """List the metadata of the sessions that match all filters, in pages of `limit`.

        `tags` matches any of them, `purpose` a substring without case, `since` and `until` the last update. `sort` is `updated`
        or `created` (the most recent first) or `cost` (the highest first), then by id. Pass the `cursor` of a page as `cursor` to
        get the next, or its `previous` to get the one before: the `limit` sessions or less right before it, in the same order.
        `external_key` is the name that another program has for a session, `external_prefix` the beginning of such names.
        With `total`, the page has the number of matches on all pages. Sessions that cannot be read are reported to `on_damage`.
        """
        first, last = arguments.since("since", since), arguments.since("until", until)
        found = Filter(
            user_id=arguments.text("user_id", user_id),
            status=None if status is None else arguments.status(status).value,
            tags=arguments.filters("tags", tags),
            purpose=arguments.text("purpose", purpose),
            since=None if first is None else clock.to_iso(first),
            until=None if last is None else clock.to_iso(last),
            sort=arguments.choice("sort", sort, get_args(Sort)),
            limit=arguments.limit("limit", limit),
            cursor=arguments.text("cursor", cursor),
            external_key=arguments.text("external_key", external_key),
            external_prefix=arguments.text("external_prefix", external_prefix),
        )
        return self.storage.page(found, on_damage, at, total=total)

    def search(
        self,
        text: str,
        *,
        user_id: str | None = None,
        role: str | None = None,
        tool: str | None = None,
        since: datetime | str | None = None,
        until: datetime | str | None = None,
        project: str | None = None,
        session_id: str | None = None,
        at: At | None = None,
        limit: int = 20,
        wait_s: float | None = SEARCH_WAIT_S,
        on_damage: Callable[[LogDamaged], None] = warn_damaged,
    ) -> Hits:
        """Search messages, purposes and tool calls of all sessions. Returns the best hits first, each with snippet and citation.

        All words must match; `"quoted words"` must be adjacent; `word*` matches a beginning and `*word*` the inside of words.
        Where no message has all words, beginnings are searched, then parts of words, then messages with some of the words: the
        `found` of the result is the kind of match. Texts that people typed come first.

        `role` is the role of a message, or `purpose` or `call`. `since` and `until` are times, both included. `project` is a
        folder (from the root: that folder and those in it) or the name of one. `at`, a time, searches the texts of that time.

        The index is updated for at most `wait_s` seconds, with None until it is complete. Where it is not, `indexing` of the
        result is (done, total) in sessions, and the next search continues. Sessions that cannot be read are skipped and
        reported to `on_damage`.
        """
        asked = Asked(
            text=arguments.query("text", text),
            user_id=arguments.text("user_id", user_id),
            role=arguments.text("role", role),
            tool=arguments.text("tool", tool),
            since=arguments.since("since", since),
            limit=arguments.integer("limit", limit),
            project=arguments.text("project", project),
            session_id=arguments.text("session_id", session_id),
            until=arguments.since("until", until),
        )
        return self.storage.search(asked, at, on_damage, arguments.number("wait_s", wait_s))

    def context(
        self,
        text: str,
        budget_tokens: int = 2000,
        *,
        user_id: str | None = None,
        role: str | None = None,
        tool: str | None = None,
        since: datetime | str | None = None,
        project: str | None = None,
        at: At | None = None,
        limit: int = 20,
    ) -> str:
        """Return the best hits of a search as text for a prompt: complete texts with citations, about `budget_tokens` at most."""
        budget = arguments.integer("budget_tokens", budget_tokens)
        hits = self.search(
            text, user_id=user_id, role=role, tool=tool, since=since, project=project, at=at, limit=limit
        )
        return pack(self.storage.texts_of(hits), budget, count_tokens)

    def analytics(
        self,
        by: "By" = "day",
        *,
        user_id: str | None = None,
        tag: str | None = None,
        since: date | str | None = None,
        until: date | str | None = None,
        timezone: str = "UTC",
        on_damage: Callable[[LogDamaged], None] = warn_damaged,
    ) -> "list[Figures]":
        """Sum the figures of sessions: sessions, messages, calls, errors, time, tokens, cost.

        `by` is day, week, month, project, user, tag, tool, model, or total. Days are those of `timezone`, an IANA name or
        `local`. `since` and `until` are days, a date or a text such as `2026-01-31`, both included. Inherited events of a fork
        count once, for the parent. Sessions that cannot be read are skipped and reported to `on_damage`.
        """
        from eventstore.derived.analytics import By

        key, user = arguments.choice("by", by, get_args(By)), arguments.text("user_id", user_id)
        first, last = arguments.day("since", since), arguments.day("until", until)
        return self.storage.analytics(key, user, arguments.text("tag", tag), first, last, on_damage, timezone)

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
        on_damage: Callable[[LogDamaged], None] = warn_damaged,
    ) -> "Subscription":
        """Follow one session, or all: every committed event, then every new one, exactly once and in order.

        Iterate over the result. Each item has `session_id`, `event` and `cursor`. Pass the cursor, a short text, as `after` to
        resume after that event. `after` may also be "now", or a number of events if one session is followed. Events come in
        complete batches and in order within a session; there is no order between sessions. With `name` the store saves the
        position under that name whenever the next event is requested, and resumes there if `after` is not given. After a
        crash, the events of the last 100 ms may be delivered again.

        Filters: `types` and `tools` of events, `user_id` and `tags` (any) of their sessions, `since` as the time of recording.
        The iteration waits for events that are still to come, for ever, until `stop()` is called in another thread or in the
        loop. With `live=False` it ends at the last event. If all sessions are followed, inherited events of a fork come with
        the parent only. Raises SessionNotFound, CursorRefused, LogDamaged, and LogRolledBack if a log no longer matches the
        cursor. If all sessions are followed, a damaged one is reported to `on_damage` and the others continue. Raises
        PositionNotSaved if the position under `name` cannot be stored.
        """
        if not isinstance(after, str | int | None) or isinstance(after, bool):
            raise ValueError('after is neither a cursor, nor "now", nor a number of events; nothing was read')
        from eventstore.subscriptions.event_filter import EventFilter
        from eventstore.subscriptions.subscription import Source, Subscription

        storage = self.storage
        source = Source(storage.log, storage.positions, storage.metadata, storage.ended)
        wanted = EventFilter(
            arguments.filters("types", types),
            arguments.filters("tools", tools),
            arguments.text("user_id", user_id),
            arguments.filters("tags", tags),
            arguments.since("since", since),
        )
        return Subscription(
            source, session_id, after, wanted, live=live, name=arguments.text("name", name), on_damage=on_damage
        )

    def subscribe(
        self,
        name: str,
        handler: "Callable[[Delivered], object]",
        session_id: str | None = None,
        after: str | int | None = None,
        **options: "Unpack[SubscribeOptions]",
    ) -> "Handling":
        """Call `handler` for each event, in order, and keep the position under `name`, so that a later program continues there.

        Return a Handling: `run()` it in this thread, which returns only after `stop()`, or with `live=False` at the last event;
        or use it as a context manager, which runs it in a thread of its own.
        `session_id`, `after` and the other arguments are those of `follow`. An event counts as handled when `handler` returns.
        If it raises, the position stays before that event. After a crash, events of the last 100 ms may be handled again.
        """
        from eventstore.sessions.follow_options import SubscribeOptions, check_names
        from eventstore.subscriptions.handling import Handling

        check_names("subscribe", options, SubscribeOptions)
        if not callable(handler):
            raise ValueError(f"handler is a {type(handler).__name__}, not a function; nothing was read")
        return Handling(self.follow(session_id, after, name=arguments.needed_text("name", name), **options), handler)


class Asking(AskingOne, AskingAll):
    """All queries."""


def _with_states(
    session_id: str, events: Iterator[e.Event], state: session_fold.State
) -> Iterator[tuple[e.Event, Session]]:
    for event in events:
        session_fold.projection.apply(state, event)
        yield event, state.to_model(session_id)
