"""Routes over all sessions: lists, search, figures, comparisons, the trash, jobs."""

from collections.abc import Iterator
from contextlib import suppress
from functools import partial
from itertools import islice
from typing import Annotated, Any, Literal

import msgspec
from msgspec import Meta

from eventstore.derived.analytics import By
from eventstore.errors import EventStoreError, SessionNotFound
from eventstore.ids import STORE_ID
from eventstore.integrity.verification import verify_session
from eventstore.release import version as release
from eventstore.server.jobs import Job, Progress
from eventstore.server.problems import Refusal
from eventstore.server.route import Context, NoQuery, Request, Routes
from eventstore.server.shown import ShownRow, show_event, show_row

routes = Routes()
_INDEXING_S = 0.3  # a search is typed: what is not indexed by then comes with the next one


class SessionsQuery(msgspec.Struct, forbid_unknown_fields=True):
    """Which sessions, as `SessionManager.page_sessions` takes them. `cursor` is that of a page, or its `previous`."""

    user: str | None = None
    status: Literal["active", "completed", "failed", "abandoned"] | None = None
    tag: list[str] | None = None
    purpose: str | None = None
    since: str | None = None
    until: str | None = None
    sort: Literal["updated", "created", "cost"] = "updated"
    limit: Annotated[int, Meta(ge=1, le=500)] = 50
    cursor: str | None = None


class Sessions(msgspec.Struct):
    """One page. `total` counts all that match; `damaged` are sessions that could not be read.

    `cursor` is for the page after it, `previous` for the page before it; null where there is none.
    """

    sessions: list[dict[str, Any]]
    total: int
    cursor: str | None
    previous: str | None
    damaged: list[str]


@routes.get("/sessions", query=SessionsQuery, result=Sessions)
def sessions(context: Context, request: Request) -> Sessions:
    """List sessions, one page of those that match."""
    asked = request.query
    damaged: list[str] = []

    page = context.manager.page_sessions(
        asked.user,
        asked.status,
        asked.tag,
        purpose=asked.purpose,
        since=asked.since,
        until=asked.until,
        sort=asked.sort,
        limit=asked.limit,
        cursor=asked.cursor,
        total=True,
        on_damage=lambda damage: damaged.append(damage.session_id),
    )
    found = [one.to_dict() for one in page.sessions]
    return Sessions(found, page.total or 0, page.cursor, page.previous, damaged[:100])


class Fork(msgspec.Struct):
    """A session of a tree of forks; `upto` events of it are its parent's."""

    session_id: str
    parent: str
    upto: int
    purpose: str | None = None
    status: str | None = None


class Forks(msgspec.Struct):
    """The tree that a session is in: its ancestors, the oldest first, and all that descend from the oldest."""

    root: str
    forks: list[Fork]


@routes.get("/sessions/{session_id}/forks", query=NoQuery, result=Forks)
def forks(context: Context, request: Request) -> Forks:
    """Return the tree of forks that a session is in."""
    storage = context.manager.storage
    context.manager.head(request.session_id)

    def look(state: Any) -> tuple[str, list[tuple[str, str, int]]]:
        root = request.session_id
        seen = {root}
        while (parent := state.parents.get(root)) is not None and parent not in seen:
            root = parent
            seen.add(root)
        names = state.descendants(root)[:2000]
        return root, [(one, state.parents.get(one, ""), state.forked_at.get(one, 0)) for one in names]

    root, found = storage.registry.look(look)
    shown = [Fork(name, parent, upto, *_described(context, name)) for name, parent, upto in found]
    return Forks(root, [Fork(root, "", 0, *_described(context, root)), *shown])


def _described(context: Context, session_id: str) -> tuple[str | None, str | None]:
    try:
        known = context.manager.storage.metadata(session_id)
    except Exception:  # a fork that cannot be read is still in the tree
        return None, None
    return known.purpose, known.status.value


class CompareQuery(msgspec.Struct, forbid_unknown_fields=True):
    """Two sessions, and how many rows of each to show after their last common event."""

    a: str
    b: str
    limit: Annotated[int, Meta(ge=0, le=200)] = 50


class Side(msgspec.Struct):
    """What one session did after the last common event, and the first rows of it."""

    session_id: str
    version: int
    branch: dict[str, Any]
    rows: list[ShownRow]


class Compared(msgspec.Struct):
    """Two sessions: their last common event, if they have one, and the first event in which they differ."""

    common: dict[str, Any] | None
    divergence: int
    sides: list[Side]


@routes.get("/compare", query=CompareQuery, result=Compared)
def compare(context: Context, request: Request) -> Compared:
    """Compare two sessions after their last common event."""
    asked, manager = request.query, context.manager
    found = manager.compare_branches(asked.a, asked.b)
    since = found.common.version if found.common else 0
    sides = [
        Side(
            branch.session_id,
            manager.moments.version(branch.session_id),
            msgspec.to_builtins(branch),
            [show_row(one) for one in manager.moments.timeline(branch.session_id, since, asked.limit)],
        )
        for branch in found.branches
    ]
    return Compared(found.common._asdict() if found.common else None, since + 1, sides)


class SearchQuery(msgspec.Struct, forbid_unknown_fields=True):
    """What to search for, as `SessionManager.search` takes it."""

    text: str
    user: str | None = None
    role: str | None = None
    tool: str | None = None
    since: str | None = None
    until: str | None = None
    project: str | None = None
    session: str | None = None
    limit: Annotated[int, Meta(ge=1, le=200)] = 30


class SearchHits(msgspec.Struct):
    """Hits, the best first. `indexing` is how much of the store was searched, if not all of it."""

    hits: list[dict[str, Any]]
    indexing: dict[str, int] | None
    damaged: list[str]


@routes.get("/search", query=SearchQuery, result=SearchHits)
def search(context: Context, request: Request) -> SearchHits:
    """Search the messages, purposes and calls of all sessions."""
    asked = request.query
    damaged: list[str] = []
    hits = context.manager.search(
        asked.text,
        user_id=asked.user,
        role=asked.role,
        tool=asked.tool,
        since=asked.since,
        until=asked.until,
        project=asked.project,
        session_id=asked.session,
        limit=asked.limit,
        wait_s=_INDEXING_S,
        on_damage=lambda damage: damaged.append(damage.session_id),
    )
    indexing = getattr(hits, "indexing", None)
    return SearchHits([one._asdict() for one in hits], None if indexing is None else indexing._asdict(), damaged[:100])


class AnalyticsQuery(msgspec.Struct, forbid_unknown_fields=True):
    """By what to sum, and which days, users and tags."""

    by: By = "day"
    user: str | None = None
    tag: str | None = None
    since: str | None = None
    until: str | None = None


class Analytics(msgspec.Struct):
    """One row for each day, user, tag, tool or model."""

    rows: list[dict[str, Any]]


@routes.get("/analytics", query=AnalyticsQuery, result=Analytics)
def analytics(context: Context, request: Request) -> Analytics:
    """Sum the figures of all sessions."""
    asked = request.query
    found = context.manager.analytics(
        asked.by, user_id=asked.user, tag=asked.tag, since=asked.since, until=asked.until, on_damage=lambda damage: None
    )
    return Analytics([one._asdict() for one in found])


class Trashed(msgspec.Struct):
    """What is in the trash."""

    sessions: list[dict[str, Any]]


@routes.get("/trash", query=NoQuery, result=Trashed)
def trashed(context: Context, request: Request) -> Trashed:
    """List the sessions in the trash, the newest first."""
    return Trashed([msgspec.to_builtins(one) for one in context.manager.trash.list()])


class Templates(msgspec.Struct):
    """The names of templates."""

    templates: list[str]


@routes.get("/templates", query=NoQuery, result=Templates)
def templates(context: Context, request: Request) -> Templates:
    """List the templates."""
    return Templates([str(getattr(one, "name", one)) for one in context.manager.templates.list()])


class StoreEventsQuery(msgspec.Struct, forbid_unknown_fields=True):
    """`limit` events after event `after`."""

    after: Annotated[int, Meta(ge=0)] = 0
    limit: Annotated[int, Meta(ge=1, le=1000)] = 200


class StoreEvents(msgspec.Struct):
    """Events of the store's own log in order. `version` is the number of all of them."""

    version: int
    events: list[dict[str, Any]]


@routes.get("/store/events", query=StoreEventsQuery, result=StoreEvents)
def store_events(context: Context, request: Request) -> StoreEvents:
    """Return what the store's own log records: sessions created, deleted, trashed, redacted, forked."""
    asked, manager = request.query, context.manager
    try:
        version = manager.head(STORE_ID).version
    except SessionNotFound:
        return StoreEvents(0, [])
    found = islice(manager.events(STORE_ID, min(asked.after, version)), asked.limit)
    return StoreEvents(version, [show_event(one) for one in found])


class JobBody(msgspec.Struct, forbid_unknown_fields=True):
    """What to do: verify sessions, find secrets in them, or list all sessions as of the time `at`."""

    kind: Literal["verify", "plan_redactions", "list_at"]
    session_ids: Annotated[list[str], Meta(max_length=1000)] = []
    at: str | None = None


@routes.post("/jobs", body=JobBody, result=Progress, status=202)
def start_job(context: Context, request: Request) -> Progress:
    """Start a job that changes nothing. It is counted in events to verify, else in sessions."""
    asked, manager = request.body, context.manager
    if (asked.kind == "list_at") == bool(asked.session_ids) or (asked.kind == "list_at") == (asked.at is None):
        raise Refusal(422, "list_at takes `at`, the others `session_ids`; nothing was done", "Wrong argument")
    results: list[Any] = []

    def verify(job: Job) -> Iterator[None]:
        versions = [_version(context, session_id) for session_id in asked.session_ids]
        job.total = sum(versions)
        for session_id, version in zip(asked.session_ids, versions, strict=True):
            before = job.done
            found = verify_session(manager.storage, session_id, on_read=partial(_reached, job, before))
            results.append(found.to_dict())
            job.done = before + version
            yield

    def find_secrets(job: Job) -> Iterator[None]:
        job.total = len(asked.session_ids)
        for session_id in asked.session_ids:
            results.extend(one.to_dict() for one in manager.redactions.plan(session_ids=[session_id]))
            job.done += 1
            yield

    def list_at(job: Job) -> Iterator[None]:
        cursor = None
        while True:
            page = manager.page_sessions(at=asked.at, cursor=cursor, total=True, on_damage=lambda damage: None)
            results.extend(one.to_dict() for one in page.sessions)
            job.done, job.total, cursor = len(results), page.total or 0, page.cursor
            yield
            if cursor is None:
                return

    steps = {"verify": verify, "plan_redactions": find_secrets, "list_at": list_at}[asked.kind]
    return context.jobs.start(asked.kind, steps, lambda: results).shown()


def _reached(job: Job, before: int, events: int) -> None:
    job.reached(before + events)


def _version(context: Context, session_id: str) -> int:
    """Return how many events a session has; 0 where that cannot be told, as of a damaged one."""
    with suppress(EventStoreError):
        return context.manager.head(session_id).version
    return 0


@routes.get("/jobs/{job_id}", result=Progress)
def get_job(context: Context, request: Request) -> Progress:
    """Return how far a job is, and its result when it is done."""
    return context.jobs.get(request.path["job_id"]).shown()


@routes.delete("/jobs/{job_id}", result=Progress)
def cancel_job(context: Context, request: Request) -> Progress:
    """Cancel a job at its next step."""
    return context.jobs.cancel(request.path["job_id"]).shown()


class Health(msgspec.Struct):
    """`status` is `ok`."""

    status: str


@routes.get("/health", query=NoQuery, result=Health)
def health(context: Context, request: Request) -> Health:
    """Report that the server runs, without any content."""
    return Health("ok")


class AboutServer(msgspec.Struct):
    """Whether it writes, its version, and the kind of its store."""

    writable: bool
    version: str
    backend: str


@routes.get("/about", query=NoQuery, result=AboutServer)
def server(context: Context, request: Request) -> AboutServer:
    """Return what this server may do, and its version."""
    kind = type(context.manager.storage.log.backend).__name__.removesuffix("Backend").lower()
    return AboutServer(context.writable, release(), kind)
