"""ADK: its own tests of session services with ours in the place of theirs, and one scenario beside its service in memory."""

import asyncio
import json
import os
import sys
from contextlib import suppress
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import google.adk.sessions.database_session_service as in_database
import google.adk.sessions.in_memory_session_service as in_memory
from counted import run
from google.adk.errors.already_exists_error import AlreadyExistsError
from google.adk.events import Event, EventActions
from google.adk.sessions.base_session_service import GetSessionConfig
from stores import FOLDER, makers

from eventstore.integrations.adk import EventStoreSessionService

FILE = "tests/unittests/sessions/test_session_service.py"
WHO: dict[str, Any] = {"app_name": "app", "user_id": "ana/1"}
theirs_in_memory = in_memory.InMemorySessionService


class Ours(EventStoreSessionService):
    """Made as those of the vendor are."""

    make: Any = None

    def __init__(self, url: str = "") -> None:
        super().__init__(type(self).make())

    async def __aenter__(self) -> "Ours":
        return self

    async def __aexit__(self, *reason: object) -> None:
        """Nothing is to be closed."""

    async def close(self) -> None:
        """Nothing is to be closed."""


def is_of_any_service(item: Any) -> bool:
    """Return whether a test is about promises of every service; others are about tables, pools and files of one service."""
    if "session_service" in item.fixturenames:
        return "DATABASE" in item.name
    return str(item.name) in (
        "test_append_event_to_stale_session",
        "test_append_event_concurrent_stale_sessions_reject_stale_writer",
        "test_append_event_allows_timestamp_drift_for_current_session",
        "test_append_event_allows_markerless_current_session",
        "test_create_session_sequential_same_app_name",
    )


async def scenario(service: Any) -> list[Any]:
    """Use what newer tests of the vendor ask of each service; return what was answered, step by step."""
    first = await service.create_session(
        **WHO, session_id=" s1 ", state={"user:a": 1, "app:b": [2], "temp:c": 3, "d": 4}
    )
    said: list[Any] = [first.id, sorted(first.state.items(), key=str)]
    with suppress(AlreadyExistsError):
        said.append([await service.create_session(**WHO, session_id="s1"), "made twice"])
    second = await service.create_session(**WHO, session_id="s2")
    event = Event(author="user", invocation_id="i", timestamp=first.last_update_time + 10)
    event.actions = EventActions(state_delta={"user:a": 5, "temp:t": 6, "d": {"e": None}})
    again = event.model_copy(deep=True)
    await service.append_event(first, event)
    said.append(sorted(first.state.items(), key=str))
    del again.actions.state_delta["temp:t"]
    await service.append_event(first, again)
    twin = event.model_copy(update={"author": "agent"}, deep=True)
    for _ in range(2):  # a twin again is no other event
        await service.append_event(first, twin.model_copy(deep=True))
    await service.append_event(first, Event(author="agent", partial=True))
    found = await service.get_session(**WHO, session_id="\ts1\n")
    said += [found.events == [event, twin], sorted(found.state.items()), found.last_update_time == event.timestamp]
    listed = (await service.list_sessions(app_name="app")).sessions
    said += [[one.id for one in listed], [one.events for one in listed], sorted(listed[0].state.items())]
    for recent, since in ((1, None), (0, None), (5, event.timestamp + 1), (None, event.timestamp)):
        config = GetSessionConfig(num_recent_events=recent, after_timestamp=since)
        said.append(len((await service.get_session(**WHO, session_id="s1", config=config)).events))
    config = GetSessionConfig(after_timestamp=0)
    await service.append_event(second, Event(author="user", timestamp=-1))
    said.append(len((await service.get_session(**WHO, session_id="s2", config=config)).events))
    said += [await at_once(service, second), second.state]
    said += [await service.get_user_state(**WHO), await service.get_user_state(app_name="app", user_id="")]
    said.append((await service.list_sessions(app_name="app", user_id="")).sessions)
    await service.delete_session(**WHO, session_id=" s1")
    await service.delete_session(**WHO, session_id="nobody")
    try:
        await service.append_event(first, Event(author="user"))
    except ValueError as error:
        said.append(type(error).__name__)
    said += [await service.get_session(**WHO, session_id="s1"), (await service.get_user_state(**WHO))["a"]]
    said.append([one.id for one in (await service.list_sessions(**WHO)).sessions] == [second.id])
    return said


async def at_once(service: Any, session: Any) -> list[Any]:
    """Append from many tasks to one session object, as live agents do; return what went wrong, and what is stored."""
    events = [Event(author="agent", actions=EventActions(state_delta={str(n): n, "temp:n": n})) for n in range(20)]
    answers = await asyncio.gather(*(service.append_event(session, one) for one in events), return_exceptions=True)
    found = await service.get_session(**WHO, session_id=session.id)
    wrong = [type(one).__name__ for one in answers if isinstance(one, Exception)]
    return [wrong, found.events == session.events, found.events[-20:] == events, sorted(found.state)]


async def out_of_date(service: Any) -> bool:
    """Return whether an old object of a session that was made again is refused, and its event left as it was."""
    mine = {"app_name": "app", "user_id": "out of date", "session_id": "s"}
    event, first = Event(author="user", actions=EventActions(state_delta={"temp:a": 1})), Event(author="user")
    refused = 0
    for before in ([], [first]):
        old = await service.create_session(**mine)
        for one in before:
            await service.append_event(old, one)
        await service.delete_session(**mine)
        new = await service.create_session(**mine)
        for one in before:
            await service.append_event(new, one)
        with suppress(ValueError):
            await service.append_event(old, event)
            return False
        refused += "temp:a" not in old.state
        await service.append_event(new, event)
        refused += new.state.get("temp:a") == 1
        await service.delete_session(**mine)
        event.actions.state_delta["temp:a"] = 1
    return refused == 4


async def lost_between(service: Any) -> bool:
    """Return whether shared state is there after a crash between an event and its application."""
    session = await service.create_session(**WHO, session_id="s", state={"app:a": 1})
    settle, service._settle = service._settle, lambda place: None
    await service.append_event(
        session, Event(author="user", actions=EventActions(state_delta={"app:a": 2, "user:b": 3}))
    )
    service._settle = settle
    before = await service.get_user_state(**WHO)
    found = await service.get_session(**WHO, session_id="s")
    return not before and found.state == {"app:a": 2, "user:b": 3} == (await service.create_session(**WHO)).state


async def kept_by_a_redaction(service: Any) -> bool:
    """Return whether a redaction in one session leaves shared state as another one set it later."""
    keys = [{"app_name": "a", "user_id": "u", "session_id": one} for one in "st"]
    for key, value in zip(keys, ["ghp_" + "a1B2" * 9, "new"], strict=True):
        session = await service.create_session(**key)
        await service.append_event(session, Event(author="user", actions=EventActions(state_delta={"user:k": value})))
    redactions = service._manager.redactions
    redactions.carry_out(redactions.plan(), "asked to", inside=True)
    return all([(await service.get_session(**key)).state["user:k"] == "new" for key in keys])


async def odd_state(service: Any) -> bool:
    """Return whether state that a log refuses comes back: of a session, a user and an app."""
    who = {"app_name": "odd", "user_id": "u", "session_id": "s"}
    deep: Any = []
    for _ in range(150):
        deep = [deep]
    given = {"a": 1 << 70, "b": deep, "user:c": {"d": -(1 << 80)}, "app:e": [deep]}
    first = await service.create_session(**who, state=given)
    changed = {"a": 1 << 71, "user:c": 1 << 72, "app:f": 1 << 73}
    await service.append_event(first, Event(author="user", actions=EventActions(state_delta=dict(changed))))
    found = await service.get_session(**who)
    listed = (await service.list_sessions(app_name="odd")).sessions
    return found.state == {**given, **changed} == listed[0].state


def main() -> int:
    """Run both on each store; print the line of JSON."""
    theirs = asyncio.run(scenario(theirs_in_memory()))
    total = SimpleNamespace(passed=0, failures=list[str](), left_out=list[str]())
    os.chdir(FOLDER)
    for name, make in makers().items():
        Ours.make = staticmethod(make)
        for number, (mine, other) in enumerate(zip(asyncio.run(scenario(Ours())), theirs, strict=True), 1):
            total.passed += mine == other
            total.failures += [f"{name}: step {number}: {mine} for {other}"] if mine != other else []
        for promise in (lost_between, out_of_date, kept_by_a_redaction, odd_state):
            if asyncio.run(promise(Ours())):
                total.passed += 1
            else:
                total.failures.append(f"{name}: {promise.__name__}")
        if not (FOLDER / FILE).exists():
            continue
        in_database.DatabaseSessionService = Ours  # type: ignore[misc, assignment, unused-ignore]
        sys.modules.pop(Path(FILE).stem, None)  # it is imported anew, with the class of this store
        counted = run([FILE], is_of_any_service, "-o", "asyncio_mode=auto")
        total.passed += counted.passed
        total.failures += [f"{name}: {one}" for one in counted.failures]
        total.left_out = counted.left_out
    left_out = {"of theirs alone": total.left_out} if total.left_out else {FILE: "could not be downloaded"}
    print(json.dumps({"passed": total.passed, "failed": len(total.failures), "failures": total.failures, **left_out}))
    return 1 if total.failures else 0


sys.exit(main())
