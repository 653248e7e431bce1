"""The tests of Strands' repository session manager, of its source distribution, with our repository in the place of the mock.

Then random operations on its sessions in files, and on ours.
"""

import json
import os
import sys
import tarfile
from functools import partial
from importlib import import_module
from pathlib import Path
from random import Random
from tempfile import mkdtemp
from typing import Any, NamedTuple

from counted import run
from random_steps import Side, Step, compare
from stores import FOLDER, makers
from strands.session.file_session_manager import FileSessionManager
from strands.types.exceptions import SessionException
from strands.types.session import Session, SessionAgent, SessionMessage, SessionType

from eventstore.integrations.strands import EventStoreRepository

TESTS = ("tests/strands/session/test_repository_session_manager.py",)


class Ours(EventStoreRepository):
    """Made without arguments, as the mock is."""

    make: Any = None

    def __init__(self) -> None:
        super().__init__(type(self).make())


class Team(NamedTuple):
    """A team of agents, as far as it is stored."""

    id: str
    state: dict[str, Any]

    def serialize_state(self) -> dict[str, Any]:
        """Return its state."""
        return self.state


KINDS = ("create", "delete", "agent", "agent", "team", "message", "message", "message", "update", "read", "list")
CONTENTS: list[Any] = [
    [{"text": "hi"}],
    [{"text": ""}],
    [],
    [{"text": "a\x00b"}, {"image": {"format": "png", "source": {"bytes": b"\x00\xff"}}}],
    [{"toolUse": {"toolUseId": "t1", "name": "f", "input": {"a": 1 << 70}}}],
    [{"toolResult": {"toolUseId": "t1", "status": "error", "content": [{"json": {"a": None}}]}}],
]


def random_step(rng: Random) -> Step:
    """Return an operation on one of two sessions, with two agents and four messages each; on nothing that is not there."""
    session, agent, number = rng.choice("st"), rng.choice("ab"), rng.randrange(4)
    role, content, state = rng.choice(["user", "assistant"]), rng.choice(CONTENTS), {"n": rng.randrange(5)}
    limit, offset = rng.choice([None, 0, 1, 2]), rng.choice([0, 1, 5])
    kind = rng.choice(KINDS)

    async def do(side: Side) -> Any:
        store = side.store
        has_session = store.read_session(session) is not None
        has_agent = has_session and store.read_agent(session, agent) is not None
        message = SessionMessage(message={"role": role, "content": content}, message_id=number)  # type: ignore[typeddict-item]
        if kind == "create":
            return store.create_session(Session(session_id=session, session_type=SessionType.AGENT)).session_id
        if kind == "delete":
            return store.delete_session(session)
        if kind == "agent" and has_session:
            made = SessionAgent(agent_id=agent, state=state, conversation_manager_state={})
            return (store.update_agent if has_agent else store.create_agent)(session, made)
        if kind == "team" and has_session:
            known = store.read_multi_agent(session, agent)
            (store.create_multi_agent if known is None else store.update_multi_agent)(session, Team(agent, state))
            return known
        if kind == "message" and has_agent:
            return store.create_message(session, agent, message)
        if kind == "update":
            return store.update_message(session, agent, message)
        if kind == "read":
            found = store.read_message(session, agent, number)
            return [has_agent and store.read_agent(session, agent).state, found and found.message]
        return [one.message for one in store.list_messages(session, agent, limit, offset)] if kind == "list" else None

    return do


def repositories(make: Any) -> list[EventStoreRepository]:
    """Return two repositories over an empty store."""
    manager = make()
    return [EventStoreRepository(manager), EventStoreRepository(manager)]


def created_again(manager: Any) -> bool:
    """Return whether a session whose record was redacted can be created again, once, and has its messages."""
    ours, session = EventStoreRepository(manager), Session("s", SessionType.AGENT)
    ours.create_session(session)
    ours.create_agent("s", SessionAgent("a", {}, {}))
    ours.create_message("s", "a", SessionMessage({"role": "user", "content": [{"text": "hello"}]}, 0))
    session_id = ours.session_id_of("s")
    (seq,) = [one.seq for one in manager.events(session_id) if getattr(one, "stream", "") == "session"]
    manager.redactions.redact(session_id, [seq], "asked to")
    gone, _ = ours.read_session("s") is None, ours.create_session(session)
    try:
        ours.create_session(session)
    except SessionException:
        return gone and len(ours.list_messages("s", "a")) == 1 and ours.read_session("s") is not None
    return False


(source,) = FOLDER.glob("strands_agents-*.tar.gz")
with tarfile.open(source) as archive:
    archive.extractall(FOLDER, filter="data")
os.chdir(source.with_name(source.name.removesuffix(".tar.gz")))
sys.path.insert(0, str(Path.cwd()))
import_module("tests.fixtures.mock_session_repository").MockedSessionRepository = Ours  # type: ignore[attr-defined]
passed, failures = 0, list[str]()
for name, make in makers().items():
    different = compare(
        lambda: FileSessionManager("x", storage_dir=mkdtemp(dir=FOLDER)),
        partial(repositories, make),
        random_step,
    )
    passed, failures = passed + 60 - len(different), [*failures, *different]
    passed += created_again(make())
    failures += [] if created_again(make()) else [f"{name}: created_again"]
    Ours.make = staticmethod(make)
    counted = run(TESTS)
    passed += counted.passed
    failures += [f"{name}: {one}" for one in counted.failures]
print(json.dumps({"passed": passed, "failed": len(failures), "failures": failures, "tests": TESTS}))
sys.exit(1 if failures else 0)
