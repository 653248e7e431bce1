"""Events and projections of programs: appended, read back, folded, followed."""

import asyncio
import inspect
import subprocess
import sys
import threading
from collections.abc import Iterator
from datetime import UTC, datetime
from enum import Enum
from pathlib import Path
from typing import Any, get_type_hints

import msgspec
import pytest
from hypothesis import given
from hypothesis import strategies as st

from eventstore import (
    AsyncSessionManager,
    CustomEvent,
    Delivered,
    EventRefused,
    FileSystemSessionStorage,
    MemorySessionStorage,
    Patterns,
    Projection,
    SessionManager,
    SessionNotFound,
    VersionConflict,
    custom_events,
)
from eventstore import events as e
from eventstore.custom_events import registered
from eventstore.errors import EventNotEncodable, IdReused
from eventstore.sessions.follow_options import FollowOptions, SubscribeOptions
from eventstore.subscriptions.handling import Handling


class Level(Enum):
    LOW = "low"
    HIGH = "high"


class Place(msgspec.Struct, frozen=True):
    region: str
    zones: list[int] = []


class Deployed(CustomEvent, tag="acme.deployed"):
    """A service was deployed."""

    service: str
    version: str = "1"
    place: Place | None = None
    level: Level = Level.LOW
    due: datetime | None = None
    notes: dict[str, Any] = msgspec.field(default_factory=dict)


class Failed(CustomEvent, tag="acme.ci.failed"):
    step: int


make: Any = type(CustomEvent)


def newest(state: dict[str, str], event: e.Event) -> dict[str, str]:
    match event:
        case Deployed(service=service, version=version):
            state[service] = version
        case e.MessageAdded(content=text):
            state["said"] = text
        case _:
            pass
    return state


NEWEST = Projection(initial=dict[str, str](), evolve=newest)
COUNT = Projection(initial=0, evolve=lambda state, event: state + isinstance(event, Deployed))


def test_an_event_of_ones_own_comes_back_typed(manager: SessionManager) -> None:
    due = datetime(2026, 1, 2, tzinfo=UTC)
    event = Deployed(
        service="api", version="2", place=Place("eu", [1]), level=Level.HIGH, due=due, notes={"a": [1, None]}
    )
    manager.append("s", [event, Failed(step=3)], create=True)
    _, deployed, failed = manager.events("s")
    assert isinstance(deployed, Deployed)
    assert (deployed.service, deployed.version, deployed.place) == ("api", "2", Place("eu", [1]))
    assert (deployed.level, deployed.due, deployed.notes) == (Level.HIGH, due, {"a": [1, None]})
    assert (deployed.type, failed.type, failed.seq, failed.batch) == ("acme.deployed", "acme.ci.failed", 3, (2, 3))


def test_a_program_without_the_class_reads_an_unknown_event_with_its_fields(tmp_path: Path) -> None:
    program = """
import sys
from eventstore import CustomEvent, FileSystemSessionStorage, SessionManager

class Gone(CustomEvent, tag="acme.gone"):
    what: str

with SessionManager(FileSystemSessionStorage(sys.argv[1], sys.argv[2])) as manager:
    manager.append("s", [Gone(what="it")], create=True)
"""
    folders = [str(tmp_path / "s"), str(tmp_path / "h")]
    subprocess.run([sys.executable, "-c", program, *folders], check=True)
    with SessionManager(FileSystemSessionStorage(*folders)) as manager:
        _, found = manager.events("s")
        assert isinstance(found, e.UnknownEvent)
        assert (found.type, found.fields) == ("acme.gone", {"what": "it"})


def test_appending_is_one_batch_and_creates_on_request(manager: SessionManager) -> None:
    with pytest.raises(SessionNotFound):
        manager.append("s", [Deployed(service="a")])
    first = manager.append(
        "s", [Deployed(service="a"), e.DataSet(key="k", value=1)], e.SessionCreated(purpose="p"), by={"actor": "x"}
    )
    assert (first.first, first.last) == (1, 3)
    second = manager.append("s", [Deployed(service="b")], create=True)
    assert (second.first, second.last) == (4, 4)
    session = manager.get_session("s")
    assert session is not None
    assert (session.metadata.purpose, session.data) == ("p", {"k": 1})
    assert [one.by for one in manager.events("s")] == [None, {"actor": "x"}, {"actor": "x"}, None]


def test_expected_version_decides(manager: SessionManager) -> None:
    manager.append("s", [Deployed(service="a")], create=True, expected_version=0)
    with pytest.raises(VersionConflict):
        manager.append("s", [Deployed(service="b")], create=True, expected_version=0)
    with pytest.raises(VersionConflict):
        manager.append("s", [Deployed(service="b")], expected_version=1)
    with pytest.raises(SessionNotFound):
        manager.append("t", [Deployed(service="b")], create=True, expected_version=1)
    assert manager.append("s", [Deployed(service="b")], expected_version=2).last == 3


def test_a_batch_with_a_key_is_stored_once(manager: SessionManager) -> None:
    events = [Deployed(service="a"), Failed(step=1)]
    first = manager.append("s", events, create=True, id="k")
    again = manager.append("s", events, create=True, id="k")
    assert (again.first, again.last, again.repeated) == (first.first, first.last, True)
    manager.append("s", [Failed(step=2)], id="l")
    with pytest.raises(IdReused):
        manager.append("s", [Deployed(service="a", id="k"), Failed(step=1, id="l")])
    assert manager.head("s").version == 4


def test_two_creators_at_once_make_one_session(manager: SessionManager) -> None:
    ready = threading.Barrier(4)

    def create(number: int) -> None:
        ready.wait()
        manager.append("s", [Failed(step=number)], create=True)

    threads = [threading.Thread(target=create, args=(number,)) for number in range(4)]
    for one in threads:
        one.start()
    for one in threads:
        one.join()
    events = list(manager.events("s"))
    assert [one.type for one in events].count("session.created") == 1
    assert sorted(one.step for one in events if isinstance(one, Failed)) == [0, 1, 2, 3]


@pytest.mark.parametrize(
    "given",
    [
        Deployed(service="a"),
        [],
        "text",
        [1],
        [e.SessionCreated()],
        [e.EventRedacted(target=1, leaf="0" * 64, reason="r")],
        [e.LogRepaired(offset_bytes=0, removed_bytes=1, quarantine="q", reason="r")],
        [e.StoreSessionRestored(session_id="s", name="n")],
    ],
)
def test_what_is_no_batch_is_refused(manager: SessionManager, given: Any) -> None:
    with pytest.raises(ValueError, match="nothing was written"):
        manager.append("s", given, create=True)
    assert manager.get_session("s") is None


@pytest.mark.parametrize(
    ("event", "path"),
    [
        (Deployed(service=1), "$.service"),  # type: ignore[arg-type]
        (Deployed(service="a", place=Place(region="r", zones=["x"])), "$.place.zones[0]"),  # type: ignore[list-item]
        (Deployed(service="a", notes={"a": float("nan")}), "$.notes.a"),
        (Deployed(service="\ud800"), "$.service"),
        (Deployed(service="a", notes={"a": object()}), "$.notes"),
        (Deployed(service="a", notes={"a": 2**70}), "$.notes.a"),
    ],
)
def test_a_value_that_does_not_fit_is_refused_with_its_place(event: Deployed, path: str) -> None:
    manager = SessionManager(MemorySessionStorage())
    with pytest.raises(EventNotEncodable) as caught:
        manager.append("s", [event], create=True)
    assert caught.value.path.startswith(path)
    assert manager.get_session("s") is None


def test_the_content_of_an_event_is_in_no_error() -> None:
    manager = SessionManager(MemorySessionStorage())
    with pytest.raises(EventRefused) as caught:
        manager.append("s", [Deployed(service="a", level="hush")], create=True)  # type: ignore[arg-type]
    assert "hush" not in str(caught.value)


@pytest.mark.parametrize("tag", ["deployed", "session.deployed", "Record.x", "a..b", "a.b c", "ä.b", "a." + "b" * 200])
def test_a_tag_that_could_be_ours_or_nobodys_is_refused(tag: str) -> None:
    with pytest.raises(TypeError, match="tag"):
        make("Bad", (CustomEvent,), {"__annotations__": {}}, tag=tag)
    assert tag not in registered()


def test_a_field_of_the_envelope_cannot_be_taken() -> None:
    for name in ("seq", "by", "type", "time", "hash"):
        with pytest.raises(TypeError, match=name):
            make("Bad", (CustomEvent,), {"__annotations__": {name: str}}, tag="acme.bad")


def test_two_classes_cannot_have_one_tag() -> None:
    with pytest.raises(TypeError, match=r"acme\.deployed"):

        class Other(CustomEvent, tag="acme.deployed"):
            pass


def test_a_class_without_a_tag_cannot_be_written(manager: SessionManager) -> None:
    class Untagged(CustomEvent):
        text: str

    class Tagged(Untagged, tag="acme.tagged"):
        more: int = 0

    with pytest.raises(TypeError, match="tag is missing"):
        Untagged(text="a")
    manager.append("s", [Tagged(text="a", more=1)], create=True)
    found = list(manager.events("s"))[-1]
    assert isinstance(found, Tagged)
    assert (found.text, found.more) == ("a", 1)


def test_a_class_that_is_defined_later_reads_what_is_stored(manager: SessionManager) -> None:
    def define(fields: dict[str, Any], **more: Any) -> Any:
        names = {"__annotations__": fields, "__module__": __name__, "__qualname__": "Later", **more}
        return make("Later", (CustomEvent,), names, tag="acme.later")

    first = define({"count": int})
    manager.append("s", [first(count=2)], create=True)
    second = define(
        {"number": int},
        schema_version=2,
        upcast=classmethod(lambda cls, raw, v: {**{k: raw[k] for k in raw if k != "count"}, "number": raw["count"]}),
    )
    manager.append("s", [second(number=3)])
    assert [one.number for one in manager.events("s") if isinstance(one, second)] == [2, 3]
    define({"count": int})
    older, newer = list(manager.events("s"))[1:]
    assert (older.type, newer.type) == ("acme.later", "acme.later")
    assert isinstance(newer, e.UnknownEvent)
    assert newer.fields == {"number": 3}


def test_an_event_that_does_not_fit_its_class_is_read_as_unknown(manager: SessionManager) -> None:
    def define(kind: type) -> Any:
        names = {"__annotations__": {"x": kind}, "__module__": __name__, "__qualname__": "Moved"}
        return make("Moved", (CustomEvent,), names, tag="acme.moved")

    manager.append("s", [define(str)(x="text")], create=True)
    define(int)
    found = list(manager.events("s"))[-1]
    assert isinstance(found, e.UnknownEvent)
    assert found.fields == {"x": "text"}


def test_secrets_are_replaced_in_events_of_ones_own() -> None:
    secret = "ghp_" + "a" * 36
    manager = SessionManager(MemorySessionStorage(), secrets=Patterns())
    manager.append("s", [Deployed(service="a", place=Place(region=secret), notes={"n": [secret]})], create=True)
    found = list(manager.events("s"))[-1]
    assert isinstance(found, Deployed)
    assert found.place == Place("[redacted:github-token]")
    assert found.notes == {"n": ["[redacted:github-token]"]}


def test_an_event_of_ones_own_can_be_redacted(manager: SessionManager) -> None:
    manager.append("s", [Deployed(service="hush"), Deployed(service="b")], create=True)
    assert manager.project("s", NEWEST) == {"hush": "1", "b": "1"}
    manager.redactions.redact("s", [2], reason="r")
    assert manager.project("s", NEWEST) == {"b": "1"}
    assert isinstance(list(manager.events("s"))[1], e.RedactedEvent)


# --- projections


def test_a_projection_is_folded_now_and_as_of_any_moment(manager: SessionManager) -> None:
    manager.append("s", [Deployed(service="a", version="1")], create=True)
    assert manager.project("s", NEWEST) == {"a": "1"}
    manager.append("s", [Deployed(service="a", version="2")])
    assert manager.project("s", NEWEST) == {"a": "2"}
    assert manager.project("s", NEWEST, at=2) == {"a": "1"}
    assert manager.project("s", COUNT) == 2
    with pytest.raises(SessionNotFound):
        manager.project("t", NEWEST)


def test_the_state_is_the_callers_and_the_initial_state_stays(manager: SessionManager) -> None:
    manager.append("s", [Deployed(service="a")], create=True)
    manager.append("t", [Deployed(service="b")], create=True)
    manager.project("s", NEWEST).clear()
    assert manager.project("s", NEWEST) == {"a": "1"}
    assert manager.project("t", NEWEST) == {"b": "1"}
    assert NEWEST.initial == {}


def test_only_new_events_are_folded(manager: SessionManager) -> None:
    seen = list[int]()

    def note(state: int, event: e.Event) -> int:
        seen.append(event.seq)
        return state + 1

    projection = Projection(initial=0, evolve=note)
    manager.append("s", [Deployed(service="a")], create=True)
    assert manager.project("s", projection) == 2
    manager.append("s", [Deployed(service="b")])
    assert manager.project("s", projection) == 3
    assert seen == [1, 2, 3]


def test_a_projection_sees_each_of_many_messages(manager: SessionManager) -> None:
    texts = Projection(
        initial=list[str](),
        evolve=lambda state, event: [*state, event.content] if isinstance(event, e.MessageAdded) else state,
    )
    manager.create_session("s")
    for number in range(100):
        manager.add_conversation_message("s", "user", f"message {number} " + "x" * 200)
    assert len(manager.project("s", texts)) == 100


@given(st.lists(st.sampled_from(["a", "b", "c"]), max_size=12), st.integers(0, 12))
def test_folding_on_from_a_cached_state_is_folding_all(services: list[str], cut: int) -> None:
    manager = SessionManager(MemorySessionStorage())
    manager.create_session("s")
    for number, service in enumerate(services):
        if number == cut:
            manager.project("s", NEWEST)
        manager.append("s", [Deployed(service=service, version=str(number))])
    assert manager.project("s", NEWEST) == NEWEST.fold(manager.events("s"))


def test_a_deleted_session_leaves_no_state(manager: SessionManager) -> None:
    manager.append("s", [Deployed(service="a")], create=True)
    manager.project("s", NEWEST)
    manager.delete_session("s")
    manager.append("s", [Deployed(service="b")], create=True)
    assert manager.project("s", NEWEST) == {"b": "1"}


def test_what_is_no_projection_is_refused(manager: SessionManager) -> None:
    with pytest.raises(ValueError, match="projection"):
        manager.project("s", newest)  # type: ignore[arg-type]


# --- subscriptions


def test_a_handler_goes_on_where_it_stood(manager: SessionManager) -> None:
    seen = list[str]()

    def handle(one: Delivered) -> None:
        assert isinstance(one.event, Deployed)
        if one.event.service == "b" and "b" not in seen:
            seen.append("b")
            raise RuntimeError("the mail server is away")
        seen.append(one.event.service)

    manager.append("s", [Deployed(service=name) for name in "abc"], create=True)

    def subscribe() -> Handling:
        return manager.subscribe("mailer", handle, types=["acme.deployed"], live=False)

    with pytest.raises(RuntimeError, match="away"):
        subscribe().run()
    assert subscribe().run() == 2
    assert seen == ["a", "b", "b", "c"]
    assert subscribe().run() == 0


def test_a_handler_runs_in_a_thread_until_the_block_ends(manager: SessionManager) -> None:
    done = threading.Event()
    with manager.subscribe("live", lambda one: done.set() if one.event.type == "acme.ci.failed" else None) as running:
        manager.append("s", [Failed(step=1)], create=True)
        assert done.wait(30)
    assert running.count == 2


def test_the_error_of_a_handler_is_raised_at_the_end_of_the_block(manager: SessionManager) -> None:
    manager.append("s", [Failed(step=1)], create=True)
    running = manager.subscribe("x", lambda one: 1 // 0, live=False).start()
    with pytest.raises(ZeroDivisionError):
        running.join(30)


def test_a_handler_can_stop_its_own_subscription(manager: SessionManager) -> None:
    manager.append("s", [Failed(step=number) for number in range(5)], create=True)
    running = manager.subscribe("x", lambda one: running.stop() if one.event.seq == 3 else None)
    assert running.run() == 3
    assert manager.subscribe("x", lambda one: None, live=False).run() == 3


@pytest.mark.parametrize("fails", [False, True])
def test_a_handling_runs_once(manager: SessionManager, fails: bool) -> None:
    seen = list[int]()

    def handle(one: Delivered) -> None:
        seen.append(one.event.seq)
        if fails:
            raise ZeroDivisionError

    manager.create_session("s")
    running = manager.subscribe("q", handle, live=False)
    if fails:
        with pytest.raises(ZeroDivisionError):
            running.run()
    else:
        assert running.run() == 1
    manager.add_conversation_message("s", "user", "hi")
    with pytest.raises(RuntimeError, match="has ended; nothing was handled: subscribe again with the same name"):
        running.run()
    assert seen == [1]
    assert running.count == (not fails)


def test_an_argument_that_subscribe_does_not_have_is_refused_by_its_name(manager: SessionManager) -> None:
    message = r"SessionManager\.subscribe\(\) got an unexpected keyword argument 'typo'"
    with pytest.raises(TypeError, match=message):
        manager.subscribe("q", print, typo=["x"])  # type: ignore[call-arg]

    async def work() -> None:
        async with AsyncSessionManager(manager) as many:
            with pytest.raises(TypeError, match=message):
                await many.subscribe("q", print, typo=["x"])  # type: ignore[call-arg]
            with pytest.raises(TypeError, match=r"SessionManager\.follow\(\) got an unexpected"):
                _ = [one async for one in many.follow("s", typo=["x"])]  # type: ignore[call-arg]

    asyncio.run(work())


def test_subscribe_has_the_keyword_arguments_of_follow() -> None:
    wanted = {
        name: one
        for name, one in inspect.signature(SessionManager.follow).parameters.items()
        if one.kind is one.KEYWORD_ONLY
    }
    assert FollowOptions.__annotations__.keys() == wanted.keys()
    assert {name: one.annotation for name, one in wanted.items()} == get_type_hints(FollowOptions)
    assert SubscribeOptions.__annotations__.keys() == wanted.keys() - {"name"}


# --- the awaited twin


def test_the_async_manager_does_the_same() -> None:
    async def work() -> None:
        async with AsyncSessionManager(SessionManager(MemorySessionStorage())) as manager:
            await asyncio.gather(*(manager.append("s", [Failed(step=n)], create=True) for n in range(8)))
            assert await manager.project("s", Projection(initial=0, evolve=lambda n, one: n + 1)) == 9
            first = await manager.append("t", [Deployed(service="a")], create=True, id="k", expected_version=0)
            again = await manager.append("t", [Deployed(service="a")], create=True, id="k", expected_version=0)
            assert (first.last, again.last, again.repeated) == (2, 2, True)
            with pytest.raises(VersionConflict):
                await manager.append("t", [Deployed(service="a")], create=True, expected_version=0)
            with pytest.raises(SessionNotFound):
                await manager.append("u", [Deployed(service="a")])
            seen = list[str]()

            async def handle(one: Delivered) -> None:
                await asyncio.sleep(0)
                seen.append(one.event.type)

            assert await manager.subscribe("n", handle, "t", live=False) == 2
            assert await manager.subscribe("n", lambda one: None, "t", live=False) == 0
            assert seen == ["session.created", "acme.deployed"]

    asyncio.run(asyncio.wait_for(work(), 60))


@pytest.fixture(autouse=True)
def forget() -> Iterator[None]:
    """Types that a test defines are there for that test only."""
    before = registered()
    yield
    custom_events._registered.clear()
    custom_events._registered.update(before)
    custom_events._changes += 1
