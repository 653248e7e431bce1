"""Google's Agent Development Kit (ADK): its sessions, kept in the store.

`EventStoreSessionService(manager)` is a session service. A session of ADK is a session with the streams `session` (who it is),
`state` and `events`. What an event means (text, tool calls and their results, usage) is appended in the same batch.
State of a user or an app is in a session of its own with the tag `adk-state`.
"""

import asyncio
import hashlib
from collections.abc import Iterator, Mapping
from contextlib import suppress
from itertools import islice
from typing import Any, NamedTuple
from weakref import WeakValueDictionary

import msgspec

from eventstore import events as e
from eventstore.errors import ExtraMissing, SessionNotFound
from eventstore.ids import session_id_for
from eventstore.integrations.kept import KeptLists
from eventstore.integrations.meaning import call_began, call_ended, meant
from eventstore.integrations.plain import packed, unpacked
from eventstore.integrations.sessions import Stored, append_decided, finish, key_of, manager_of, parts_of, stored
from eventstore.sessions.async_manager import AsyncSessionManager
from eventstore.sessions.manager import SessionManager

try:
    from google.adk.errors import StaleSessionError
    from google.adk.errors.already_exists_error import AlreadyExistsError
    from google.adk.errors.session_not_found_error import SessionNotFoundError
    from google.adk.events.event import Event
    from google.adk.platform import time as platform_time
    from google.adk.platform import uuid as platform_uuid
    from google.adk.sessions import BaseSessionService, Session, State
    from google.adk.sessions.base_session_service import ListSessionsResponse
    from pydantic_core import to_jsonable_python
except ImportError:
    raise ExtraMissing("adk", "eventstore.integrations.adk") from None

_TAG, _STATE_TAG = "adk", "adk-state"
_SESSION, _STATE, _EVENTS, _SHARED, _APPLIED = "session", "state", "events", "shared", "applied"
_PREFIXES = {"app": State.APP_PREFIX, "user": State.USER_PREFIX}


class EventStoreSessionService(BaseSessionService):
    """A session service of ADK on any backend. Safe for threads, tasks and processes.

    An event with its changes of the session's own state is one batch. Its changes of `app:` and `user:` state are in that batch
    too, and are then applied to the session that holds this state. After a crash between the two they are applied
    when the session is next read or written.
    """

    def __init__(self, manager: SessionManager | AsyncSessionManager) -> None:
        self._manager = manager_of(manager)
        self._listed, self._states = (
            KeptLists(self._manager, self._make_listed),
            KeptLists(self._manager, self._make_state),
        )
        self._turns = WeakValueDictionary[tuple[asyncio.AbstractEventLoop, _Place], asyncio.Lock]()

    def session_id_of(self, app_name: str, user_id: str, session_id: str) -> str:
        """Return the id in the store of a session of ADK."""
        return _Place.of(app_name, user_id, session_id).id

    async def create_session(
        self, *, app_name: str, user_id: str, state: dict[str, Any] | None = None, session_id: str | None = None
    ) -> Any:
        """Create a session. Raises AlreadyExistsError if there is one of that id."""
        place = _Place.of(app_name, user_id, session_id or "")
        if not place.session:
            place = place._replace(session=platform_uuid.new_uuid())
        return await finish(self._create, place, state or {})

    async def get_session(self, *, app_name: str, user_id: str, session_id: str, config: Any = None) -> Any:
        """Return a session with its events in order; None if there is none. `config` limits the events."""
        return await asyncio.to_thread(self._load, _Place.of(app_name, user_id, session_id), config)

    async def list_sessions(self, *, app_name: str, user_id: str | None = None) -> Any:
        """List the sessions of an app, or of one of its users, without events, the last updated last. Reads what changed."""
        return await asyncio.to_thread(self._list, app_name, user_id)

    async def delete_session(self, *, app_name: str, user_id: str, session_id: str) -> None:
        """Delete a session with its log. State of the user and the app stays."""
        await finish(self._delete, _Place.of(app_name, user_id, session_id))

    async def get_user_state(self, *, app_name: str, user_id: str) -> dict[str, Any]:
        """Return the state of a user, the keys without `user:`."""
        return await asyncio.to_thread(self._scope, _Scope("user", app_name, user_id))

    async def append_event(self, session: Any, event: Any) -> Any:
        """Append an event, and apply it to `session`. The same event again changes nothing.

        Tasks that share `session` take turns. Raises StaleSessionError if another writer appended since `session` was
        read, and SessionNotFoundError where it was deleted. The event is then as it was.
        """
        if event.partial:
            return event
        place = _Place(session.app_name, session.user_id, session.id)
        lasting = event.model_copy(update={"actions": event.actions and event.actions.model_copy()})
        lasting = self._trim_temp_delta_state(lasting)
        turn = self._turns.setdefault((asyncio.get_running_loop(), place), asyncio.Lock())
        async with turn:
            marker = await finish(self._append, place, session, lasting)
            if marker is None:
                return event
            session._storage_update_marker = marker
            session.last_update_time = event.timestamp
            return await super().append_event(session, event)

    # --- writing

    def _create(self, place: "_Place", state: Mapping[str, Any]) -> Any:
        parts, now = _parts(state), platform_time.get_time()
        described = {"time": now, "generation": platform_uuid.new_uuid()}
        events: list[e.Event] = [e.RecordPut(stream=_SESSION, key=_SESSION, value=described), *_puts(parts)]

        def decide(now: Stored) -> list[e.Event]:
            if now.version:
                raise AlreadyExistsError(f"session {place.session} already exists; nothing was written")
            return events

        append_decided(self._manager, place.id, decide, place.created())
        self._settle(place)
        return self._load(place, None)

    def _append(self, place: "_Place", session: Any, event: Any) -> str | None:
        value = _to_value(event)
        parts = _parts(event.actions.state_delta if event.actions else {})
        rest = [*_puts(parts), *meant(_meaning, event)]
        is_shared = any(parts[scope] for scope in _PREFIXES)
        generation = ""

        def decide(now: Stored) -> list[e.Event]:
            nonlocal generation
            if not now.version:
                raise SessionNotFoundError(f"session {place.session} does not exist; nothing was written")
            known, key = now.get(_EVENTS, event.id), event.id
            if known is not None:  # by another event of that id, unless it is the same
                key = f"{key} {hashlib.sha256(msgspec.json.encode(value)).hexdigest()}"
                if known.value == value or key in now.keys(_EVENTS):
                    return []
            _check_current(now, session)
            generation = _generation(now)
            if is_shared:
                self._settle(place)
            return [e.RecordPut(stream=_EVENTS, key=key, value=value), *rest]

        try:
            appended = append_decided(self._manager, place.id, decide)
        except SessionNotFound:  # deleted in the meantime
            raise SessionNotFoundError(f"session {place.session} does not exist; nothing was written") from None
        if appended is None:
            return None
        if is_shared:
            self._settle(place)
        return f"{generation} {appended.first}"

    def _settle(self, place: "_Place") -> None:
        """Apply the last changes of shared state in a session to where that state is, once."""
        here = stored(self._manager, place.id)
        for name in _PREFIXES:
            item = here.get(_SHARED, name)
            if item is None:
                continue
            change = here.get(_SHARED, f"{name} change") or item
            applied = [change.seq, _generation(here)]
            scope = _Scope(name, place.app, place.user)

            def decide(now: Stored, item: Any = item, own: Any = applied) -> list[e.Event]:
                known = now.get(_APPLIED, place.id)
                if known is not None and known.value[1] == own[1] and known.value[0] >= own[0]:
                    return []
                return [*_puts_of(unpacked(item.value)), e.RecordPut(stream=_APPLIED, key=place.id, value=own)]

            append_decided(self._manager, scope.id, decide, scope.created())

    def _delete(self, place: "_Place") -> None:
        with suppress(SessionNotFound):
            self._settle(place)
            self._manager.delete_session(place.id)

    # --- reading

    def _load(self, place: "_Place", config: Any) -> Any:
        try:
            self._settle(place)
            now = stored(self._manager, place.id)
            session = _session(now, place, self._shared(place))
            most = config.num_recent_events if config else None
            since = config.after_timestamp if config else None
            for entry in islice(reversed(now.entries(_EVENTS).values()), most):
                event = Event.model_validate_json(now.item(_EVENTS, entry).value if entry.base64 else now.text(entry))
                if since is not None and event.timestamp < since:
                    break
                session.events.append(event)
        except SessionNotFound:
            return None
        session.events.reverse()
        return session

    def _list(self, app: str, user: str | None) -> Any:
        names = (app,) if user is None else (app, user)
        found = self._listed.of(f"{key_of(_TAG, *names)}/", _TAG)
        shared = {one.place.user: dict[str, Any]() for one in found}
        if user is not None:
            shared[user] = self._shared(_Place(app, user, ""))
        else:
            app_state = _prefixed("app", self._scope(_Scope("app", app, "")))
            for external, state in self._states.of(f"{key_of(_STATE_TAG, app)}/", _STATE_TAG):
                shared[parts_of(external)[-1]] = _prefixed("user", msgspec.json.decode(state))
            for one in shared.values():
                one.update(app_state)
        sessions = [one.to_session(shared[one.place.user]) for one in found]
        sessions.sort(key=lambda one: (one.last_update_time, one.user_id, one.id))
        return ListSessionsResponse(sessions=sessions)

    def _make_listed(self, session_id: str, external: str) -> "_Listed":
        now, place = stored(self._manager, session_id), _Place(*parts_of(external)[1:])
        return _Listed(place, msgspec.json.encode(_state(now)), _updated(now), _marker(now))

    def _make_state(self, session_id: str, external: str) -> tuple[str, bytes]:
        return external, msgspec.json.encode(_state(stored(self._manager, session_id)))

    def _shared(self, place: "_Place") -> dict[str, Any]:
        scopes = {name: self._scope(_Scope(name, place.app, place.user)) for name in _PREFIXES}
        return {key: value for name, found in scopes.items() for key, value in _prefixed(name, found).items()}

    def _scope(self, scope: "_Scope") -> dict[str, Any]:
        try:
            return _state(stored(self._manager, scope.id))
        except SessionNotFound:
            return {}


class _Place(NamedTuple):
    """What names a session of ADK. Blanks around its id do not count."""

    app: str
    user: str
    session: str

    @classmethod
    def of(cls, app: str, user: str, session: str) -> "_Place":
        return cls(app, user, session.strip())

    @property
    def external(self) -> str:
        return key_of(_TAG, self.app, self.user, self.session)

    @property
    def id(self) -> str:
        return session_id_for(self.external)

    def created(self) -> e.SessionCreated:
        return e.SessionCreated(external_key=self.external, tags=(_TAG,), user_id=self.user or None)


class _Listed(NamedTuple):
    """A session in a list: its own state as JSON, when it was last updated, and which event was the last."""

    place: _Place
    state: bytes
    time: float
    marker: str

    def to_session(self, shared: Mapping[str, Any]) -> Any:
        """Make a new session. Its fields are as they were stored: they are not checked again."""
        session = Session.model_construct(
            id=self.place.session,
            app_name=self.place.app,
            user_id=self.place.user,
            state={**msgspec.json.decode(self.state), **shared},
            events=[],
            last_update_time=self.time,
        )
        session._storage_update_marker = self.marker
        return session


class _Scope(NamedTuple):
    """Whose state it is: of an app, or of one of its users."""

    name: str
    app: str
    user: str

    @property
    def external(self) -> str:
        return key_of(_STATE_TAG, self.app) if self.name == "app" else key_of(_STATE_TAG, self.app, self.user)

    @property
    def id(self) -> str:
        return session_id_for(self.external)

    def created(self) -> e.SessionCreated:
        return e.SessionCreated(external_key=self.external, tags=(_STATE_TAG,))


def _parts(state: Mapping[str, Any]) -> dict[str, dict[str, Any]]:
    """Divide changes of state by their owner. Temporary ones are left out. A value without a JSON form becomes text."""
    found: dict[str, dict[str, Any]] = {"app": {}, "user": {}, "session": {}}
    for key, value in state.items():
        scope = next((name for name, prefix in _PREFIXES.items() if key.startswith(prefix)), "session")
        if not key.startswith(State.TEMP_PREFIX):
            try:
                stored = to_jsonable_python(value, serialize_unknown=True, inf_nan_mode="null")
            except ValueError as error:  # bytes that are no UTF-8, a circle, very deep nesting
                raise ValueError(f"state {key!r} has no JSON form ({error}); nothing was written") from None
            found[scope][key.removeprefix(_PREFIXES.get(scope, ""))] = stored
    return found


def _puts_of(state: Mapping[str, Any]) -> list[e.Event]:
    return [e.RecordPut(stream=_STATE, key=key, value=packed(value)) for key, value in state.items()]


def _puts(parts: Mapping[str, Mapping[str, Any]]) -> list[e.Event]:
    own: list[e.Event] = _puts_of(parts["session"])
    for name in _PREFIXES:
        if parts[name]:
            own.append(e.RecordPut(stream=_SHARED, key=name, value=packed(parts[name])))
            # A redaction puts the value again, which is no new change: this event tells.
            own.append(e.RecordPut(stream=_SHARED, key=f"{name} change"))
    return own


def _prefixed(name: str, state: Mapping[str, Any]) -> dict[str, Any]:
    return {_PREFIXES[name] + key: value for key, value in state.items()}


def _session(now: Stored, place: _Place, shared: Mapping[str, Any]) -> Any:
    """Make a session without its events."""
    session = Session(
        id=place.session,
        app_name=place.app,
        user_id=place.user,
        state={**_state(now), **shared},
        last_update_time=_updated(now),
    )
    session._storage_update_marker = _marker(now)
    return session


def _updated(now: Stored) -> float:
    """Return the time of the last event, or else of the beginning."""
    last = now.last(_EVENTS)
    if last is not None:
        return float(unpacked(last.value)["timestamp"])
    begun = now.get(_SESSION, _SESSION)
    return float(begun.value["time"]) if begun is not None else 0.0


def _state(now: Stored) -> dict[str, Any]:
    return dict(zip(now.keys(_STATE), map(unpacked, now.values(_STATE)), strict=True))


def _check_current(now: Stored, session: Any) -> None:
    """Raise StaleSessionError unless `session` has the last event that is stored. Other events in the log do not count."""
    marker = session._storage_update_marker
    if marker is not None:
        is_current = marker == _marker(now)
    else:  # made by hand, or read by another service
        last = now.last(_EVENTS)
        is_current = (
            last is None
            or unpacked(last.value)["timestamp"] <= session.last_update_time
            or any(one.id == unpacked(last.value)["id"] for one in session.events[-1:])
        )
    if not is_current:
        raise StaleSessionError(
            f"session {session.id} was modified in storage since it was read; nothing was written: read it again"
        )


def _marker(now: Stored) -> str:
    """Name the last event, and which session it is of those that had this id."""
    last = next(reversed(now.entries(_EVENTS).values()), None)
    return f"{_generation(now)} {last.seq if last else 0}"


def _generation(now: Stored) -> str:
    described = now.value(_SESSION, _SESSION)
    return str(described["generation"]) if described else ""


def _to_value(event: Any) -> Any:
    """Return an event as JSON. Raises ValueError for one that has no JSON form."""
    try:
        return packed(msgspec.json.decode(event.model_dump_json(exclude_none=True)))
    except ValueError as error:  # a lone surrogate, bytes that are no UTF-8, a circle, very deep nesting
        raise ValueError(f"event {event.id!r} has no JSON form ({error}); nothing was written") from None


def _meaning(event: Any) -> Iterator[e.Event]:
    """Stream the events for an event of ADK. Thoughts of a model are left out."""
    parts = event.content.parts or [] if event.content else []
    text = "\n".join(one.text for one in parts if one.text and not one.thought)
    if text:
        yield e.MessageAdded(role="user" if event.author == "user" else "assistant", content=text)
    for one in parts:
        call, answer = one.function_call, one.function_response
        if call and call.id:
            yield from call_began(call.id, call.name, call.args)
        if answer and answer.id:
            failed = (answer.response or {}).get("error")
            yield from call_ended(answer.id, answer.name, answer.response, success=failed is None, error=failed)
    usage = event.usage_metadata
    if usage:
        cached = usage.cached_content_token_count or 0
        prompt = (usage.prompt_token_count or 0) + (usage.tool_use_prompt_token_count or 0)
        counts = {
            "input": max(prompt - cached, 0),
            "cache_read": cached,
            "output": usage.candidates_token_count or 0,
            "reasoning": usage.thoughts_token_count or 0,
        }
        tokens = {name: number for name, number in counts.items() if number or name in ("input", "output")}
        yield e.UsageRecorded(tokens=tokens, model=event.model_version, key=event.id)
