"""Moments: what a session was as of any version or time, in milliseconds however long it is."""

from bisect import bisect_right
from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass
from operator import sub
from typing import Any, Literal, TypeAlias, get_args

import msgspec

from eventstore.errors import NoSuchMoment, SessionNotFound
from eventstore.events import MessageAdded
from eventstore.ids import check_session_id
from eventstore.record.message_run import Message
from eventstore.sessions import arguments
from eventstore.store.as_of import At, as_text
from eventstore.store.storage import SessionStorage
from projections import invocations as invocations_fold
from projections import moments as moments_fold
from projections import statistics, timeline, tree
from projections.branches import Ancestor
from projections.invocations import Invocation
from projections.models import SessionMetadata
from projections.moments import KINDS
from projections.timeline import Row

By: TypeAlias = Literal["seq", "time"]
_MOST, _MOST_BUCKETS = 10_000, 4_000


@dataclass(frozen=True, slots=True)
class Window:
    """Some messages of a conversation that had `total` of them; the first one had position `first`, from 0."""

    version: int
    total: int
    first: int
    messages: list[Message]


class Bucket(msgspec.Struct, frozen=True, gc=False):
    """What happened in the events after `after` up to `upto`; `time` is the greatest time up to then, RFC 3339.

    A saved session whose figures were adjusted may have less tokens or cost than before.
    """

    after: int
    upto: int
    time: str
    messages: int
    calls: int
    errors: int
    tokens: int
    cost: float


@dataclass(frozen=True, slots=True)
class Found:
    """A part of a search in one session: the events found, and how far it was searched; `done`: the search is complete."""

    seqs: list[int]
    reached: int
    done: bool


class Moments:
    """Any moment of a session: `manager.moments`. The first question about a session reads its log once.

    `at` is a version or a time, None means now; `recorded` compares the times of recording. The methods raise SessionNotFound,
    LogDamaged, and NoSuchMoment for an invalid `at`; ValueError for other wrong arguments.
    """

    def __init__(self, storage: SessionStorage) -> None:
        self._storage = storage

    def version(self, session_id: str, at: At | None = None, *, recorded: bool = False) -> int:
        """Return how many events the session had; 0 before the first. At a time that is all before the first later event."""
        return self._at(session_id, at, recorded=recorded)[1]

    def metadata(self, session_id: str, at: At | None = None, *, recorded: bool = False) -> SessionMetadata:
        """Return the metadata, as `get_session` has it."""
        index, version = self._begun(session_id, at, recorded=recorded)
        shown = index.metadata_at(version)
        shown.custom_metadata = self._storage.moments.values(session_id, index.custom.at(version))
        return shown.to_model(session_id)

    def figures(self, session_id: str, at: At | None = None, *, recorded: bool = False) -> dict[str, Any]:
        """Return the figures, as `get_session_statistics` does."""
        index, version = self._begun(session_id, at, recorded=recorded)
        known = index.metadata_at(version).to_model(session_id)
        return statistics.show(known, index.conversation.count(version))

    def data(self, session_id: str, at: At | None = None, *, recorded: bool = False) -> dict[str, Any]:
        """Return the session's own data. The price grows with the number of its keys."""
        index, version = self._begun(session_id, at, recorded=recorded)
        return self._storage.moments.values(session_id, index.data.at(version))

    def messages(
        self,
        session_id: str,
        at: At | None = None,
        *,
        first: int | None = None,
        limit: int = 50,
        recorded: bool = False,
    ) -> Window:
        """Return `limit` messages of the conversation, from place `first` on; without it the last ones.

        All messages are in it, also half tool calls: `conversation` makes input for a model of them.
        """
        index, version = self._at(session_id, at, recorded=recorded)
        count, most = index.conversation.count(version), _within("limit", limit, _MOST)
        start = max(count - most, 0) if first is None else arguments.integer("first", first)
        seqs = index.conversation.window(version, start, most)
        messages = [
            Message(
                one.seq,
                one.at,
                one.role,
                one.content,
                one.occurred_at,
                one.tool_name,
                one.invocation_id,
                one.blocks,
                one.blobs,
            )
            for one in self._storage.moments.events(session_id, seqs)
            if isinstance(one, MessageAdded)
        ]
        return Window(version, count, start, messages)

    def place(self, session_id: str, seq: int, at: At | None = None) -> int:
        """Return how many messages of the conversation are events up to `seq`: where to look for it in `messages`."""
        index, version = self._at(session_id, at)
        return index.conversation.place(version, arguments.integer("seq", seq))

    def calls(
        self,
        session_id: str,
        at: At | None = None,
        *,
        before: int | None = None,
        limit: int = 50,
        recorded: bool = False,
    ) -> list[tuple[int, Invocation]]:
        """Return the last `limit` tool calls, each with the event that began it, in order.

        With `before` those that began before that event.
        """
        index, version = self._at(session_id, at, recorded=recorded)
        bound, most = arguments.limit("before", before), _within("limit", limit, _MOST)
        chosen: list[tuple[int, list[int]]] = []
        for life in index.calls.alive(version, bound):
            if len(chosen) == most:
                break
            chosen.append((index.calls.born[life], index.calls.events(life, version)))
        events = {
            event.seq: event
            for event in self._storage.moments.events(session_id, sorted({seq for _, seqs in chosen for seq in seqs}))
        }
        found: list[tuple[int, Invocation]] = []
        for born, seqs in reversed(chosen):
            folded = invocations_fold.projection.fold(events[seq] for seq in seqs if seq in events)
            found += [(born, call) for call in folded.values()]
        return found

    def tree(self, session_id: str, at: At | None = None, *, recorded: bool = False) -> dict[str, str]:
        """Return the links to tool calls, as `SessionManager.tree` does. The price grows with the number of links."""
        index, version = self._begun(session_id, at, recorded=recorded)
        ended = index.types.lists.get("invocation.unlinked", ())
        linked, unlinked = (numbers[: bisect_right(numbers, version)] for numbers in (index.linked, ended))
        seqs = sorted([*linked, *unlinked]) if linked else []
        return tree.plan(invocations_fold.projection.fold(self._storage.moments.events(session_id, seqs)).values())

    def timeline(
        self,
        session_id: str,
        after: int = 0,
        limit: int = 200,
        *,
        at: At | None = None,
        backwards: bool = False,
        types: Collection[str] | None = None,
        tools: Collection[str] | None = None,
        roles: Collection[str] | None = None,
        kinds: Collection[str] | None = None,
    ) -> list[Row]:
        """Return the rows of the `limit` events after `after`, in order; `backwards` those before it.

        With `types`, `tools`, `roles` or `kinds` the events that are of one of them in each of these. Rows count the seconds
        since the session's first event, and name the tool of a call that was named before.
        """
        index, version = self._at(session_id, at)
        place, most = arguments.integer("after", after), _within("limit", limit, _MOST)
        wanted = {
            name: chosen
            for name, given in (("types", types), ("tools", tools), ("roles", roles), ("kinds", kinds))
            if (chosen := arguments.filters(name, given)) is not None
        }
        seqs = _chosen(index, wanted, place, most, version, backwards=backwards)
        state = timeline.State(start=index.start)
        rows: list[Row] = []
        for event in self._storage.moments.events(session_id, seqs):
            called, tool = getattr(event, "invocation_id", None), index.tool_name(event.seq)
            if called is not None and tool is not None:
                state.tools[called] = tool
            rows.append(timeline.row(state, event))
        return rows

    def counts(self, session_id: str, at: At | None = None) -> dict[str, dict[str, int]]:
        """Return how many events there were of each type, tool, role and kind, for filters."""
        index, version = self._at(session_id, at)
        lists = {"types": index.types, "tools": index.tools, "roles": index.roles, "kinds": index.kinds}
        return {name: one.counts(version) for name, one in lists.items()}

    def seek(self, session_id: str, seq: int, kinds: Collection[str], *, backwards: bool = False) -> int | None:
        """Return the next event after `seq` (`backwards`: the last one before it) of any of these kinds, or None.

        Kinds are `prompt`, `error`, `call`, `redaction`, `fork`, `checkpoint`, `cut` and `end`.
        """
        index, version = self._at(session_id, None)
        names, place = arguments.filters("kinds", kinds) or (), arguments.integer("seq", seq)
        for name in names:
            arguments.choice("kinds", name, KINDS)
        kinds_of = index.kinds
        found = kinds_of.before(names, place, 1) if backwards else kinds_of.after(names, place, 1, version)
        return found[0] if found else None

    def markers(
        self, session_id: str, at: At | None = None, most: int = 500
    ) -> tuple[dict[str, list[int]], dict[str, int]]:
        """Return the events of each kind that can be jumped to, and how many of a kind were left out because it has over `most`.

        Of such a kind `most` events are named that are spread over all of them.
        """
        index, version = self._at(session_id, at)
        limit = _within("most", most, _MOST)
        found: dict[str, list[int]] = {}
        left: dict[str, int] = {}
        for name, count in index.kinds.counts(version).items():
            numbers, some = index.kinds.lists[name], min(count, limit)
            found[name] = [numbers[place * count // some] for place in range(some)]
            if count > some:
                left[name] = count - some
        return found, left

    def ancestors(self, session_id: str, at: At | None = None) -> list[Ancestor]:
        """List the ancestors of a fork as of a moment, the oldest first; each with the version at which the next was forked."""
        index, version = self._at(session_id, at)
        return [Ancestor(*one) for one in index.metadata_at(version).forks]

    def density(
        self, session_id: str, buckets: int = 400, *, by: By = "seq", after: int = 0, at: At | None = None
    ) -> list[Bucket]:
        """Divide the events after `after` into at most `buckets`, equal in number of events, or in time, and sum up each."""
        index, version = self._at(session_id, at)
        count, start = _within("buckets", buckets, _MOST_BUCKETS), arguments.integer("after", after)
        arguments.choice("by", by, get_args(By))
        if not count or version <= start:
            return []
        edges = _edges(start, version, count) if by == "seq" else index.latest.parts(start, version, count)
        edges = [start, *dict.fromkeys(edge for edge in edges if edge > start)]
        sums = [map(sub, column[1:], column) for column in index.sums(edges)]
        return list(map(Bucket, edges, edges[1:], map(index.latest.text, edges[1:]), *sums))

    def find(
        self,
        session_id: str,
        text: str,
        after: int = 0,
        *,
        at: At | None = None,
        limit: int = 50,
        most_events: int = 20_000,
    ) -> Found:
        """Search the contents of events after `after` for a text, ignoring case, reading at most `most_events`."""
        index, version = self._at(session_id, at)
        wanted, place = arguments.query("text", text).casefold(), arguments.integer("after", after)
        most, room = _within("limit", limit, _MOST), arguments.integer("most_events", most_events)
        seqs: list[int] = []
        upto = min(version, place + room)
        if upto > place and index.version:
            for event in self._storage.log.read(session_id, place, upto):
                place = event.seq
                if wanted in _text_of(event).casefold():
                    seqs.append(event.seq)
                    if len(seqs) == most:
                        break
        return Found(seqs, place, place >= version)

    def _begun(self, session_id: str, at: At | None, *, recorded: bool) -> tuple[moments_fold.Moments, int]:
        index, version = self._at(session_id, at, recorded=recorded)
        if not version:
            raise SessionNotFound(session_id, not_begun=True)
        return index, version

    def _at(self, session_id: str, at: At | None, *, recorded: bool = False) -> tuple[moments_fold.Moments, int]:
        index = self._storage.moments.get(check_session_id(session_id))
        if at is None:
            return index, index.version
        if isinstance(at, int) and not isinstance(at, bool):
            if not 0 <= at <= index.version:
                raise NoSuchMoment(at, f"session {session_id!r} has {index.version} events")
            return index, at
        return index, min(index.version_at(as_text(at), recorded=recorded), index.version)


def _within(name: str, given: int, most: int) -> int:
    found = arguments.integer(name, given)
    if found > most:
        raise ValueError(f"{name} is {found}; at most {most} are given at once")
    return found


def _chosen(
    index: moments_fold.Moments,
    wanted: Mapping[str, Sequence[str]],
    place: int,
    limit: int,
    version: int,
    *,
    backwards: bool,
) -> list[int]:
    """Return the numbers of events that fit all filters, from their lists: the first filter is searched, the others are asked."""
    if not wanted:
        first = max(min(place, version + 1) - limit, 1) if backwards else place + 1
        return list(range(first, min(first + limit, (place if backwards else version + 1), version + 1)))
    lists = {"types": index.types, "tools": index.tools, "roles": index.roles, "kinds": index.kinds}
    (first_name, names), *others = wanted.items()
    found: list[int] = []
    while len(found) < limit:
        if backwards:
            some = lists[first_name].before(names, min(place, version + 1), limit)
        else:
            some = lists[first_name].after(names, place, limit, version)
        if not some:
            break
        fits = [seq for seq in some if all(lists[name].has(chosen, seq) for name, chosen in others)]
        found = fits[len(found) - limit :] + found if backwards else found + fits[: limit - len(found)]
        place = some[0] if backwards else some[-1]
    return found


def _edges(start: int, version: int, count: int) -> list[int]:
    total = version - start
    number = min(count, total)
    return [start + total * place // number for place in range(1, number + 1)]


def _text_of(event: Any) -> str:
    """Return the content of an event, as one text."""
    parts = (
        getattr(event, name, None) for name in ("content", "error", "tool_name", "purpose", "reason", "key", "model")
    )
    value = getattr(event, "value", None)
    return "\n".join([one for one in parts if isinstance(one, str)] + ([str(value)] if value is not None else []))
