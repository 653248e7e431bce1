"""Routes that read one session: its figures, timeline, conversation, calls and data as of any moment."""

from pathlib import PurePath
from typing import Annotated, Any, Literal

import msgspec
from msgspec import Meta

from eventstore.record.clock import moment_of
from eventstore.record.message_run import Message
from eventstore.server.problems import Refusal
from eventstore.server.route import Context, Request, Routes
from eventstore.server.seen import hash_at
from eventstore.server.shown import ShownRow, show_event, show_row
from eventstore.sessions.moments import Bucket
from projections.difference import Change
from projections.invocations import Invocation
from projections.moments import Kind

routes = Routes()
Limit = Annotated[int, Meta(ge=1, le=1000)]
Seq = Annotated[int, Meta(ge=0)]


class AtQuery(msgspec.Struct, forbid_unknown_fields=True):
    """`at` is a number of events, or a time; `recorded` compares the times of recording."""

    at: str | None = None
    recorded: bool = False


class About(msgspec.Struct):
    """A session as of `version`; `head` is its present version, `hash` the hash of that event.

    `ancestors` are the sessions it is a fork of, each with the version it was forked at.
    """

    version: int
    head: int
    hash: str
    session: dict[str, Any]
    figures: dict[str, Any]
    counts: dict[str, dict[str, int]]
    ancestors: list[tuple[str, int]]
    messages: int
    place: int


@routes.get("/sessions/{session_id}", query=AtQuery, result=About)
def about(context: Context, request: Request) -> About:
    """Return a session as of a moment: metadata, figures, counts by type, tool, role and kind."""
    moments, session_id, at = context.manager.moments, request.session_id, moment_of(request.query.at)
    version = moments.version(session_id, at, recorded=request.query.recorded)
    head = moments.version(session_id)
    metadata = moments.metadata(session_id, version)
    figures = moments.figures(session_id, version)
    ancestors = [(one.session_id, one.version) for one in moments.ancestors(session_id, version)]
    messages = int(figures["message_count"])
    return About(
        version,
        head,
        hash_at(context.manager, session_id, head),
        metadata.to_dict(),
        figures,
        moments.counts(session_id, version),
        ancestors,
        messages,
        messages,
    )


class TimelineQuery(msgspec.Struct, forbid_unknown_fields=True):
    """Which rows: `limit` after `after`, or before it with `dir=back`; of these types, tools, roles, kinds.

    Without `after` they are the first ones, or with `dir=back` the last ones.
    """

    after: Seq | None = None
    limit: Limit = 200
    dir: Literal["fwd", "back"] = "fwd"
    at: str | None = None
    types: list[str] | None = None
    tool: list[str] | None = None
    role: list[str] | None = None
    kind: list[Kind] | None = None
    text: Annotated[int, Meta(ge=0, le=10_000)] = 200


class Timeline(msgspec.Struct):
    """Rows in order. `version` is that of the session at the asked moment."""

    version: int
    rows: list[ShownRow]


@routes.get("/sessions/{session_id}/timeline", query=TimelineQuery, result=Timeline)
def timeline(context: Context, request: Request) -> Timeline:
    """Return rows of the timeline, one an event, with cut texts."""
    asked, moments = request.query, context.manager.moments
    version = moments.version(request.session_id, moment_of(asked.at))
    back = asked.dir == "back"
    rows = moments.timeline(
        request.session_id,
        (version + 1 if back else 0) if asked.after is None else asked.after,
        asked.limit,
        at=version,
        backwards=back,
        types=asked.types,
        tools=asked.tool,
        roles=asked.role,
        kinds=asked.kind,
    )
    return Timeline(version, [show_row(one, asked.text) for one in rows])


class EventQuery(msgspec.Struct, forbid_unknown_fields=True):
    """`raw` adds the foreign line that the event was imported from."""

    raw: bool = False


class OneEvent(msgspec.Struct):
    """One complete event, and its row in the timeline."""

    version: int
    row: ShownRow
    event: dict[str, Any]


@routes.get("/sessions/{session_id}/events/{seq}", query=EventQuery, result=OneEvent)
def event(context: Context, request: Request) -> OneEvent:
    """Return one complete event."""
    text = request.path["seq"]
    seq = int(text) if text.isascii() and text.isdecimal() and len(text) < 16 else 0
    version = context.manager.moments.version(request.session_id)
    if not 0 < seq <= version:
        raise Refusal(404, f"the session has no event {text[:20]!r}: it has events 1 to {version}", "No such event")
    found = next(context.manager.events(request.session_id, seq - 1, seq))
    rows = context.manager.moments.timeline(request.session_id, seq - 1, 1)
    return OneEvent(version, show_row(rows[0], 10_000), show_event(found, raw=request.query.raw))


class DensityQuery(msgspec.Struct, forbid_unknown_fields=True):
    """Into how many buckets, equal in events (`seq`) or in time."""

    buckets: Annotated[int, Meta(ge=1, le=2000)] = 400
    by: Literal["seq", "time"] = "seq"
    at: str | None = None


class Density(msgspec.Struct):
    """What happened in each part of a session, and where there is something to jump to: event numbers by kind.

    `more` counts the markers of a kind that are left out, because there are more than 500 of it.
    """

    version: int
    buckets: list[Bucket]
    markers: dict[str, list[int]]
    more: dict[str, int]


@routes.get("/sessions/{session_id}/density", query=DensityQuery, result=Density)
def density(context: Context, request: Request) -> Density:
    """Return the density of a session over its life, for a chart, with markers."""
    asked, moments = request.query, context.manager.moments
    version = moments.version(request.session_id, moment_of(asked.at))
    buckets = moments.density(request.session_id, asked.buckets, by=asked.by, at=version)
    markers, more = moments.markers(request.session_id, version, 500)
    return Density(version, buckets, markers, more)


class AtTimeQuery(msgspec.Struct, forbid_unknown_fields=True):
    """A time, RFC 3339."""

    time: str
    recorded: bool = False


class Version(msgspec.Struct):
    """A version: how many events there are."""

    version: int


@routes.get("/sessions/{session_id}/at", query=AtTimeQuery, result=Version)
def at_time(context: Context, request: Request) -> Version:
    """Return the version of a session at a time."""
    asked = request.query
    return Version(context.manager.moments.version(request.session_id, asked.time, recorded=asked.recorded))


class Values(msgspec.Struct):
    """A JSON object as of a version."""

    version: int
    values: dict[str, Any]


class Tree(msgspec.Struct):
    """The tree of links to tool calls: the place of each link, and what it points at, relative to the history.

    A target outside of the history is an empty text.
    """

    version: int
    links: dict[str, str]


@routes.get("/sessions/{session_id}/tree", query=AtQuery, result=Tree)
def tree(context: Context, request: Request) -> Tree:
    """Return the tree of a session's tool calls as of a moment."""
    moments, asked = context.manager.moments, request.query
    version = moments.version(request.session_id, moment_of(asked.at), recorded=asked.recorded)
    links = moments.tree(request.session_id, version)
    return Tree(version, {link: "" if PurePath(to).is_absolute() else to for link, to in links.items()})


@routes.get("/sessions/{session_id}/statistics", query=AtQuery, result=Values)
def statistics(context: Context, request: Request) -> Values:
    """Return the figures of a session as of a moment."""
    moments = context.manager.moments
    version = moments.version(request.session_id, moment_of(request.query.at), recorded=request.query.recorded)
    return Values(version, moments.figures(request.session_id, version))


@routes.get("/sessions/{session_id}/data", query=AtQuery, result=Values)
def data(context: Context, request: Request) -> Values:
    """Return the session's own data as of a moment."""
    moments = context.manager.moments
    version = moments.version(request.session_id, moment_of(request.query.at), recorded=request.query.recorded)
    return Values(version, moments.data(request.session_id, version))


class CallsQuery(msgspec.Struct, forbid_unknown_fields=True):
    """The last `limit` calls, with `before` those that began before that event."""

    at: str | None = None
    before: Seq | None = None
    limit: Annotated[int, Meta(ge=1, le=200)] = 50


class ShownCall(msgspec.Struct):
    """A tool call, and the event that began it."""

    seq: int
    call: Invocation


class Calls(msgspec.Struct):
    """Tool calls, in the order they began."""

    version: int
    calls: list[ShownCall]


@routes.get("/sessions/{session_id}/calls", query=CallsQuery, result=Calls)
def calls(context: Context, request: Request) -> Calls:
    """Return tool calls as of a moment, the latest last."""
    asked, moments = request.query, context.manager.moments
    version = moments.version(request.session_id, moment_of(asked.at))
    found = moments.calls(request.session_id, version, before=asked.before, limit=asked.limit)
    return Calls(version, [ShownCall(seq, call) for seq, call in found])


class ConversationQuery(msgspec.Struct, forbid_unknown_fields=True):
    """`limit` messages from place `first` on, from 0; without it the last ones. `around` is an event to have in the middle."""

    at: str | None = None
    first: Seq | None = None
    around: Seq | None = None
    limit: Annotated[int, Meta(ge=1, le=200)] = 50
    text: Annotated[int, Meta(ge=0, le=1_000_000)] = 20_000


class ShownMessage(msgspec.Struct, omit_defaults=True):
    """A message; `length` is that of its complete text; `content` is the beginning of it."""

    seq: int
    time: str
    role: str
    content: str
    length: int
    tool_name: str | None = None
    invocation_id: str | None = None


class ConversationWindow(msgspec.Struct):
    """Messages from place `first` on, of a conversation of `total`."""

    version: int
    total: int
    first: int
    messages: list[ShownMessage]


@routes.get("/sessions/{session_id}/conversation", query=ConversationQuery, result=ConversationWindow)
def conversation(context: Context, request: Request) -> ConversationWindow:
    """Return a part of the conversation as of a moment."""
    asked, moments = request.query, context.manager.moments
    version = moments.version(request.session_id, moment_of(asked.at))
    first = asked.first
    if asked.around is not None:
        first = max(moments.place(request.session_id, asked.around, version) - asked.limit // 2, 0)
    found = moments.messages(request.session_id, version, first=first, limit=asked.limit)
    shown = [_message(one, asked.text) for one in found.messages]
    return ConversationWindow(found.version, found.total, found.first, shown)


def _message(one: Message, characters: int) -> ShownMessage:
    text = one.content
    return ShownMessage(one.seq, one.time, one.role, text[:characters], len(text), one.tool_name, one.invocation_id)


class FindQuery(msgspec.Struct, forbid_unknown_fields=True):
    """A text to find after event `after`, ignoring case."""

    text: str
    after: Seq = 0
    at: str | None = None
    limit: Annotated[int, Meta(ge=1, le=200)] = 50


class FoundEvents(msgspec.Struct):
    """Events that contain the text. The search reached event `reached`; if `done` is false, continue after it."""

    version: int
    seqs: list[int]
    reached: int
    done: bool


@routes.get("/sessions/{session_id}/find", query=FindQuery, result=FoundEvents)
def find(context: Context, request: Request) -> FoundEvents:
    """Find a text in one session, up to 20,000 events at a time."""
    asked, moments = request.query, context.manager.moments
    version = moments.version(request.session_id, moment_of(asked.at))
    found = moments.find(request.session_id, asked.text, asked.after, at=version, limit=asked.limit)
    return FoundEvents(version, found.seqs, found.reached, found.done)


class NextQuery(msgspec.Struct, forbid_unknown_fields=True):
    """The next event after `start`, or before it with `dir=back`, of one of these kinds."""

    start: Seq = 0
    kind: list[Kind] = msgspec.field(default_factory=lambda: ["prompt"])
    dir: Literal["fwd", "back"] = "fwd"


class Next(msgspec.Struct):
    """An event to jump to; None if there is none."""

    version: int
    seq: int | None


@routes.get("/sessions/{session_id}/next", query=NextQuery, result=Next)
def following(context: Context, request: Request) -> Next:
    """Return the next prompt, error, call, redaction, fork, checkpoint, cut or end."""
    asked, moments = request.query, context.manager.moments
    seq = moments.seek(request.session_id, asked.start, asked.kind, backwards=asked.dir == "back")
    return Next(moments.version(request.session_id), seq)


class DiffQuery(msgspec.Struct, forbid_unknown_fields=True):
    """Two moments; without `b` until now. `limit` changes after the first `skip`."""

    a: str
    b: str | None = None
    skip: Seq = 0
    limit: Limit = 200


class Diff(msgspec.Struct):
    """What changed between two moments; `total` is the number of all changes."""

    version: int
    total: int
    changes: list[Change]


@routes.get("/sessions/{session_id}/diff", query=DiffQuery, result=Diff)
def diff(context: Context, request: Request) -> Diff:
    """Return the changes of a session between two moments."""
    asked = request.query
    a, b = moment_of(asked.a), moment_of(asked.b)
    found = context.manager.diff(request.session_id, 0 if a is None else a, b)
    return Diff(context.manager.moments.version(request.session_id, b), len(found), found[asked.skip :][: asked.limit])
