"""Routes that change the store. Without `--write` they are refused; each is a POST with `application/json`.

`Idempotency-Key` is the id of the append: the same key again writes nothing. `If-Match: "<version>"` is the expected version.
A route names the headers that it honours, and refuses the others.
Text is removed only after a plan was shown: its hash has to come with the request.
"""

from hashlib import sha256
from typing import Annotated, Any, Literal

import msgspec
from msgspec import Meta

from eventstore.errors import SessionNotFound, VersionConflict
from eventstore.integrity.redaction_plan import Log, check_redactable, read_with_origins
from eventstore.log.base import Appended
from eventstore.record.clock import moment_of
from eventstore.server.problems import Refusal
from eventstore.server.route import Context, Header, NoBody, Request, Routes
from eventstore.store.lock import reading_after_change

routes = Routes()
APPEND: tuple[Header, ...] = ("Idempotency-Key", "If-Match")
Text = Annotated[str, Meta(min_length=1)]


def _options(request: Request) -> dict[str, Any]:
    found: dict[str, Any] = {"by": {"actor": "eventstore serve"}}
    if request.key is not None:
        found["id"] = request.key
    if request.expected_version is not None:
        found["expected_version"] = request.expected_version
    return found


def _version(context: Context, session_id: str) -> int:
    """Return the version of a session that was made just now."""
    with reading_after_change(session_id):
        return context.manager.head(session_id).version


class NewSession(msgspec.Struct, forbid_unknown_fields=True):
    """A session to create; without an id it gets a new one."""

    session_id: str | None = None
    purpose: str | None = None
    user_id: str | None = None
    tags: list[str] = []


class Made(msgspec.Struct):
    """A session that was made, and its number of events."""

    session_id: str
    version: int


@routes.post("/sessions", body=NewSession, result=Made, headers=("Idempotency-Key",), status=201)
def create(context: Context, request: Request) -> Made:
    """Create a session. With an `Idempotency-Key` its id has to be given: a new id would make another session."""
    asked, options = request.body, _options(request)
    if request.key is not None and asked.session_id is None:
        raise Refusal(
            422, "Idempotency-Key needs a session_id, so nothing was created: send both or none", "Wrong header"
        )
    made = context.manager.create_session(asked.session_id, asked.purpose, asked.user_id, asked.tags, **options)
    return Made(made.metadata.session_id, made.version)


class NewMessage(msgspec.Struct, forbid_unknown_fields=True):
    """A message to add."""

    role: Literal["user", "assistant", "tool", "system"]
    content: str
    tool_name: str | None = None
    invocation_id: str | None = None


@routes.post("/sessions/{session_id}/messages", body=NewMessage, result=Appended, headers=APPEND)
def add_message(context: Context, request: Request) -> Appended:
    """Add a message to the conversation."""
    asked = request.body
    return context.manager.add_conversation_message(
        request.session_id, asked.role, asked.content, asked.tool_name, asked.invocation_id, **_options(request)
    )


class NewUsage(msgspec.Struct, forbid_unknown_fields=True):
    """Tokens and cost to record; the same key again counts once."""

    tokens: dict[str, int] = {}
    cost: float | None = None
    model: str | None = None
    key: str | None = None


@routes.post("/sessions/{session_id}/usage", body=NewUsage, result=Appended, headers=APPEND)
def record_usage(context: Context, request: Request) -> Appended:
    """Record usage of a model."""
    asked = request.body
    return context.manager.record_usage(
        request.session_id, asked.tokens, cost=asked.cost, model=asked.model, key=asked.key, **_options(request)
    )


class NewData(msgspec.Struct, forbid_unknown_fields=True):
    """A key of the session's own data, and its value."""

    key: Text
    value: Any


@routes.post("/sessions/{session_id}/data", body=NewData, result=Appended, headers=APPEND)
def set_data(context: Context, request: Request) -> Appended:
    """Set a key of the session's own data."""
    asked = request.body
    return context.manager.set_data(request.session_id, asked.key, asked.value, **_options(request))


class NewFork(msgspec.Struct, forbid_unknown_fields=True):
    """Where to fork, a number of events or a time, and what the fork is for."""

    at: str | int | None = None
    new_id: str | None = None
    purpose: str | None = None


@routes.post("/sessions/{session_id}/fork", body=NewFork, result=Made, status=201)
def fork(context: Context, request: Request) -> Made:
    """Fork a session at a moment."""
    asked = request.body
    by = {"actor": "eventstore serve"}
    made = context.manager.fork_session(
        request.session_id, moment_of(asked.at), asked.new_id, purpose=asked.purpose, by=by
    )
    return Made(made, _version(context, made))


class Ending(msgspec.Struct, forbid_unknown_fields=True):
    """How the session ended."""

    status: Literal["completed", "failed", "abandoned"] = "completed"
    reason: str | None = None


@routes.post("/sessions/{session_id}/complete", body=Ending, result=Appended, headers=APPEND)
def complete(context: Context, request: Request) -> Appended:
    """End a session."""
    asked = request.body
    return context.manager.complete_session(request.session_id, asked.status, reason=asked.reason, **_options(request))


class Pin(msgspec.Struct, forbid_unknown_fields=True):
    """Whether retention keeps the session."""

    pinned: bool = True


@routes.post("/sessions/{session_id}/pin", body=Pin, result=Appended, headers=APPEND)
def pin(context: Context, request: Request) -> Appended:
    """Keep a session whatever its age, or no longer."""
    return context.manager.pin_session(request.session_id, request.body.pinned, **_options(request))


class PutAway(msgspec.Struct):
    """`trashed` is true."""

    trashed: bool


@routes.post("/sessions/{session_id}/trash", body=NoBody, result=PutAway)
def put_away(context: Context, request: Request) -> PutAway:
    """Move a session to the trash."""
    if not context.manager.trash.put(request.session_id):
        raise SessionNotFound(request.session_id)
    return PutAway(True)


class Restored(msgspec.Struct):
    """A session that is back, and its number of events."""

    restored: bool
    version: int


@routes.post("/sessions/{session_id}/restore", body=NoBody, result=Restored)
def restore(context: Context, request: Request) -> Restored:
    """Restore a session from the trash."""
    context.manager.trash.restore(request.session_id)
    return Restored(True, _version(context, request.session_id))


class RedactBody(msgspec.Struct, forbid_unknown_fields=True):
    """Which events to redact. Without `plan` the plan is shown; with its hash and a reason it is carried out."""

    seqs: Annotated[list[Annotated[int, Meta(ge=1)]], Meta(min_length=1, max_length=1000)]
    reason: str = ""
    plan: str | None = None


class ToRedact(msgspec.Struct):
    """An event that a redaction removes the text of."""

    seq: int
    type: str
    time: str


class Redacted(msgspec.Struct, omit_defaults=True):
    """The hash of a plan and its events. `done` says whether it was carried out; `left` is where text is still left then."""

    plan: str
    events: list[ToRedact]
    done: bool
    left: list[str] = []


@routes.post("/sessions/{session_id}/redact", body=RedactBody, result=Redacted, headers=("If-Match",))
def redact(context: Context, request: Request) -> Redacted:
    """Show what would be removed from a session, or remove it permanently."""
    asked, session_id, manager = request.body, request.session_id, context.manager
    head = manager.head(session_id)
    if request.expected_version not in (None, head.version):
        raise VersionConflict(session_id, request.expected_version, head.version)
    seqs = sorted(set(asked.seqs))
    check_redactable(session_id, read_with_origins(manager.storage, Log(session_id), seqs))
    events = list(manager.storage.moments.events(session_id, seqs))
    shown = [ToRedact(one.seq, one.type, one.time) for one in events]
    text = f"{session_id}\n" + "".join(f"{one.seq} {one.hash}\n" for one in events)
    plan = sha256(text.encode()).hexdigest()
    if asked.plan is None:
        return Redacted(plan, shown, done=False)
    if asked.plan != plan:
        raise Refusal(
            409, "the plan is not that of these events; nothing was done: ask for the plan again", "Other plan"
        )
    if not asked.reason.strip():
        raise Refusal(422, "a redaction needs a reason; nothing was done", "No reason")
    done = manager.redactions.redact(session_id, seqs, asked.reason, by={"actor": "eventstore serve"})
    context.jobs.drop()
    return Redacted(plan, shown, done=True, left=list(done.left))
