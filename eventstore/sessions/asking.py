"""Asking: the methods of the manager that read, as things are or as they were."""

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
    """Questions about one session, or two.

    They raise SessionNotFound and LogDamaged, and NoSuchMoment for a moment that is none.
    """

    storage: SessionStorage

    def get_session(self, session_id: str, at: At | None = None, *, recorded: bool = False) -> Session | None:
        """Return the session as a new object, or None: as it is, or as it was at a version or a time.

        A time in a question means the greatest time of the events so far, so that every answer is a prefix of the log;
        `recorded` asks when events were written down instead of when they happened. Raises NoSuchMoment.
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
        format: turns.Format = "plain",  # noqa: A002 - what it is
    ) -> Any:
        """Return the conversation as a model can be given it: whole turns, the latest that fit, and no half of a tool call.

        At most `limit` messages and about `tokens` tokens (four bytes each); messages of the system that open the conversation
        stay. A call without a result, say because the program died, and a result without a call are left out: `get_session`
        has them all. `plain` gives ConversationMessage, `openai` the messages of chat completions, `anthropic` an object of
        `system` and `messages`. Raises SessionNotFound, ValueError.
        """
        most, most_tokens = arguments.limit("limit", limit), arguments.limit("tokens", tokens)
        said = self.storage.fold(session_id, at, recorded=recorded).conversation.messages
        chosen = turns.latest(said, most, most_tokens)
        if format == "openai":
            return turns.to_openai(chosen)
        if format == "anthropic":
            return turns.to_anthropic(chosen)
        if format != "plain":
            raise ValueError(f"format {format!r} is not one of plain, openai, anthropic")
        return list(Conversation(chosen))

    def data(self, session_id: str, at: At | None = None, *, recorded: bool = False) -> dict[str, Any]:
        """Return the session's own data, as it is or was. Raises SessionNotFound."""
        return deepcopy(self.storage.summary(session_id, at, recorded=recorded).data)

    def get_session_statistics(
        self, session_id: str, at: At | None = None, *, recorded: bool = False
    ) -> dict[str, Any] | None:
        """Return a session's figures as JSON values, or None: durations in milliseconds or, where named so, seconds."""
        try:
            return self.storage.statistics(session_id, at, recorded=recorded)
        except SessionNotFound:
            return None

    def events(
        self, session_id: str, after: int = 0, at: At | None = None, *, recorded: bool = False
    ) -> Iterator[e.Event]:
        """Stream the events numbered from `after` + 1, in order, to the end or a moment. Raises SessionNotFound, LogDamaged."""
        first = arguments.whole("after", after)
        upto = None if at is None else self.storage.version_at(session_id, at, recorded=recorded)
        return self.storage.log.read(session_id, first, upto)

    def history(self, session_id: str, after: int = 0) -> Iterator[tuple[e.Event, Session]]:
        """Stream the events numbered from `after` + 1, each with the session as it was after it.

        Raises SessionNotFound, LogDamaged.
        """
        first = arguments.whole("after", after)
        events = self.storage.log.read(session_id, first)
        state = self.storage.fold(session_id, first).copy() if first else session_fold.projection.initial()
        return _with_states(session_id, events, state)

    def timeline(self, session_id: str, at: At | None = None, *, recorded: bool = False) -> Iterator[timeline.Row]:
        """Stream what happened, to the end or a moment, one row an event. Raises SessionNotFound, LogDamaged."""
        return timeline.rows(self.events(session_id, at=at, recorded=recorded))

    def tree(self, session_id: str, at: At | None = None, *, recorded: bool = False) -> dict[str, str]:
        """Return the session's links, `{link: target}`; targets are relative to the history folder, or absolute."""
        return self.storage.summary(session_id, at, recorded=recorded).links()

    def head(self, session_id: str) -> Head:
        """Tell where the session's log ends: version, time, hash, size. Raises SessionNotFound, LogDamaged."""
        return self.storage.log.head(session_id)

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

    def salvage(self, session_id: str) -> Iterator[Remnant]:
        """Stream all that is left of a damaged session, each piece with how much of it is proven. Raises SessionNotFound."""
        return self.storage.log.salvage(session_id)


class AskingAll:
    """Questions about all sessions. One that cannot be read hides no other: it is reported to `on_damage`, or as a warning."""

    storage: SessionStorage

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
        """List what is known of the sessions that fit all filters, a page of `limit`, without what was said in them.

        `tags` match any, `purpose` a part of it in any case, `since` and `until` the last update. The most recently updated come
        first, or the most recently `created`, or those with the greatest `cost`; then by id. `cursor` of a page asks for the
        next one.
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
        """Search messages, purposes and tool calls of all sessions; the best hits first, each with snippet and citation.

        All words are to be there, `"quoted ones"` next to each other; `word*` is a beginning. `role` is that of a message, or
        `purpose` or `call`; `since` when it happened; `at`, a time, searches what there was then.
        `on_damage` hears of sessions that cannot be read: they hide no other.
        """
        asked = Asked(
            text=arguments.query("text", text),
            user_id=arguments.text("user_id", user_id),
            role=arguments.text("role", role),
            tool=arguments.text("tool", tool),
            since=arguments.since(since),
            limit=arguments.whole("limit", limit),
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
        """Pack the best hits of a search for a prompt: whole texts under their citations, as many as fit about so many tokens."""
        budget = arguments.whole("budget_tokens", budget_tokens)
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
        """Sum up what sessions did by day, user, tag, tool or model: sessions, messages, calls, errors, time, tokens, cost.

        `since` and `until` are days in UTC, a date or such as `2026-01-31`, both included. What a fork inherits counts once,
        for its parent.
        `on_damage` hears of sessions that cannot be read: they hide no other.
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
        """Follow one session, or all: what was committed so far, then what is committed from now on, none lost, none repeated.

        Iterate over what is returned: each has `session_id`, `event` and `cursor`, a short text to give as `after` another time,
        to go on behind that event. `after` may also be "now", or of one session a number of events. Events come in whole batches,
        in order within a session; between sessions there is no order. With `name` the cursor is kept in the store under it, from
        the beginning on and whenever the next event is asked for, and taken up from there where `after` is not given: after a
        crash the last 100 ms may come again.

        `types` and `tools` of events, `user_id` and `tags` (any) of their sessions, and `since` when they were recorded narrow it
        down. Without `live` it ends where there is nothing new. A fork's past comes with its parent when all are followed. Raises
        SessionNotFound, CursorRefused, LogRolledBack where a log is not the one that the cursor was given for, LogDamaged; of all
        sessions `on_damage` is called with a damaged one, and the others go on. PositionNotSaved where a position with a name
        cannot be stored.
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
        kept = arguments.text("name", name)
        return Subscription(source, session_id, after, wanted, live=live, name=kept, on_damage=on_damage)


class Asking(AskingOne, AskingAll):
    """All questions."""


def _with_states(
    session_id: str, events: Iterator[e.Event], state: session_fold.State
) -> Iterator[tuple[e.Event, Session]]:
    for event in events:
        session_fold.projection.apply(state, event)
        yield event, state.to_model(session_id)
