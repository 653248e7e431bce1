"""Arguments of right and wrong types and of edge values: what comes back is an answer, or an error that names them."""

import asyncio
import inspect
import math
import warnings
from collections.abc import AsyncIterator, Iterator
from datetime import UTC, date, datetime, timedelta, timezone
from operator import attrgetter
from pathlib import Path
from typing import Any

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from eventstore import (
    AsyncSessionManager,
    EventStoreError,
    FileSystemSessionStorage,
    MemorySessionStorage,
    SessionManager,
)
from eventstore.events import DataSet
from eventstore.integrity import verify_store
from eventstore.sessions import Moments, Proofs, Redactions, Templates, Trash

EDGES: list[Any] = [
    None,
    True,
    0,
    1,
    3,
    -1,
    2**31,
    2**53,
    2**63,
    2**70,
    10**400,
    -(10**400),
    0.5,
    1e300,
    1e-308,
    -0.0,
    math.inf,
    math.nan,
    "",
    "s",
    "t",
    "user",
    "now",
    "\0",
    "\x1b[31m",
    "\ud800",
    "é" * 300,
    "x" * 3000,
    '"',
    "a* OR b",
    "NEAR(a b)",
    "../..",
    "_store",
    "5",
    "W1tb",
    "9999-12-31T23:59:59.999999Z",
    "9999-12-31T23:59:59-05:00",
    "0001-01-01T00:00:00+05:00",
    "2026-01-01",
    "2016-12-31T23:59:60Z",
    b"x",
    [],
    ["a"],
    ["\ud800"],
    [5],
    [1, 2],
    (1,),
    {"a": 1},
    {},
    {5: 5},
    {"a": math.nan},
    {"a": -1},
    {"x": 2**70},
    set(),
    object(),
    datetime.max,
    datetime.min,
    datetime.max.replace(tzinfo=timezone(timedelta(hours=-12))),
    datetime.min.replace(tzinfo=timezone(timedelta(hours=14))),
    datetime(2026, 1, 1, tzinfo=UTC),
    date(2026, 1, 1),
    timedelta.max,
]
NOT_FUZZED = {"close", "from_settings"}
PARTS: dict[str, type] = {
    "trash": Trash,
    "templates": Templates,
    "proofs": Proofs,
    "redactions": Redactions,
    "moments": Moments,
}


def methods_of(kind: type) -> list[str]:
    found = (name for name, _ in inspect.getmembers(kind, callable) if not name.startswith("_"))
    return sorted(name for name in found if name not in NOT_FUZZED)


METHODS = methods_of(SessionManager) + [f"{part}.{name}" for part, kind in PARTS.items() for name in methods_of(kind)]
ALLOWED = EventStoreError, ValueError
OPTIONS = ("id", "expected_version", "by", "occurred_at")


def parameters_of(name: str) -> tuple[list[str], list[str]]:
    """Name the arguments that a method needs, and those that it may be given."""
    needed = list[str]()
    optional = list[str]()
    part, _, method = name.rpartition(".")
    kind = PARTS[part] if part else SessionManager
    for one in list(inspect.signature(getattr(kind, method)).parameters.values())[1:]:
        if one.kind is one.VAR_KEYWORD:
            optional += OPTIONS if method != "subscribe" else ()
        elif one.name != "on_damage":
            (needed if one.default is one.empty else optional).append(one.name)
    return needed, optional


@st.composite
def calls(draw: st.DrawFn) -> tuple[str, dict[str, Any]]:
    """Draw a method and its arguments; mostly of a session that is there, and with few of the options."""
    name = draw(st.sampled_from(METHODS))
    needed, optional = parameters_of(name)
    given = {one: draw(st.sampled_from(EDGES)) for one in needed}
    if "session_id" in given and draw(st.integers(0, 3)):
        given["session_id"] = "s"
    if optional:
        for one in draw(st.lists(st.sampled_from(optional), unique=True, max_size=3)):
            given[one] = draw(st.sampled_from(EDGES))
    if name == "follow":
        given["live"] = False
    return name, given


def filled(manager: SessionManager) -> SessionManager:
    manager.create_session("s", "a purpose", "u", ["a"])
    manager.add_conversation_message("s", "user", "hello")
    manager.templates.save("t", "s")
    return manager


def use(found: Any) -> None:
    """Ask for all that a stream gives."""
    if isinstance(found, Iterator):
        for _ in found:
            pass
    if hasattr(found, "close"):
        found.close()


def check_whole(manager: SessionManager) -> None:
    """Look at all that is there in every way."""
    for session in manager.list_sessions(limit=None):
        name = session.metadata.session_id
        manager.get_session_statistics(name)
        manager.conversation(name)
        assert list(manager.timeline(name))
        manager.diff(name, 0)
    manager.analytics()
    manager.search("hello")
    manager.trash.plan_cleanup(0, 0)
    manager.flush()
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        assert verify_store(manager.storage).outcome in ("whole", "incomplete")


@settings(suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(st.lists(calls(), min_size=1, max_size=6))
def test_wrong_arguments_are_refused_by_name_and_leave_the_store_whole(made: list[tuple[str, dict[str, Any]]]) -> None:
    with warnings.catch_warnings(), filled(SessionManager(MemorySessionStorage())) as manager:
        warnings.simplefilter("ignore", RuntimeWarning)
        for name, given_ in made:
            try:
                use(attrgetter(name)(manager)(**given_))
            except ALLOWED:
                continue
        check_whole(manager)


@pytest.mark.parametrize("name", METHODS)
def test_each_argument_takes_every_edge_value_or_refuses_it(name: str, tmp_path: Path) -> None:
    needed, optional = parameters_of(name)
    usual = {"session_id": "s", "name": "t", "from_session": "s", "a": "s", "b": "s", "text": "hello", "role": "user"}
    storage = FileSystemSessionStorage(tmp_path / "sessions", tmp_path / "history", fsync="no")
    with warnings.catch_warnings(), filled(SessionManager(storage)) as manager:
        warnings.simplefilter("ignore", RuntimeWarning)
        for argument in [*needed, *optional]:
            for edge in EDGES:
                given_ = {one: usual.get(one, "x") for one in needed} | {argument: edge}
                if name == "follow":
                    given_["live"] = False
                try:
                    use(attrgetter(name)(manager)(**given_))
                except ALLOWED:
                    continue
        check_whole(manager)


@settings(suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(st.lists(calls(), min_size=1, max_size=6))
def test_awaited_calls_refuse_wrong_arguments_too(made: list[tuple[str, dict[str, Any]]]) -> None:
    async def call_all() -> None:
        manager = filled(SessionManager(MemorySessionStorage()))
        async with AsyncSessionManager(manager) as twin:
            for name, given_ in made:
                try:
                    await use_async(attrgetter(name)(twin)(**given_))
                except ALLOWED:
                    continue
            await twin.run(lambda: check_whole(manager))

    with warnings.catch_warnings():
        warnings.simplefilter("ignore", RuntimeWarning)
        asyncio.run(call_all())


async def use_async(found: Any) -> None:
    """Await an answer, or ask for all that a stream gives."""
    if isinstance(found, AsyncIterator):
        async for _ in found:
            pass
    elif inspect.isawaitable(found):
        await found


def test_a_wrong_keyword_names_the_method_that_was_called() -> None:
    manager = filled(SessionManager(MemorySessionStorage()))
    with pytest.raises(TypeError, match=r"SessionManager\.set_data\(\) got an unexpected keyword argument 'ide'"):
        manager.set_data("s", "k", 1, ide="x")  # type: ignore[call-arg]
    with pytest.raises(TypeError, match=r"SessionManager\.create_session\(\) got an unexpected keyword argument 'ide'"):
        manager.create_session("x", template="t", ide="x")  # type: ignore[call-arg]


def test_a_manager_of_something_else_than_a_storage_is_refused_at_once() -> None:
    with pytest.raises(TypeError, match="storage is a str, not a SessionStorage"):
        SessionManager("x")  # type: ignore[arg-type]


def test_a_session_made_of_a_template_takes_no_key_that_would_be_ignored() -> None:
    manager = filled(SessionManager(MemorySessionStorage()))
    with pytest.raises(ValueError, match="from a template accepts no id"):
        manager.create_session("x", template="t", id="key")
    assert manager.get_session("x") is None


@pytest.mark.parametrize("age", [1e9, 3_652_059, 1e300, 10**400])
def test_an_age_beyond_the_calendar_means_that_nothing_is_that_old(age: float, tmp_path: Path) -> None:
    with FileSystemSessionStorage(tmp_path / "s", tmp_path / "h", fsync="no") as storage:
        manager = filled(SessionManager(storage))
        assert manager.trash.plan_cleanup(age, age) == []
        assert manager.recover_sessions(age) == []


def test_two_appends_with_an_empty_id_are_not_taken_for_one(manager: SessionManager) -> None:
    manager.create_session("empty")
    for value in (1, 2):
        with pytest.raises(ValueError, match="id is empty; nothing was written"):
            manager.set_data("empty", "k", value, id="")
        with pytest.raises(ValueError, match="id is empty; nothing was written"):
            manager.append("empty", [DataSet(key="k", value=value)], id="")
    assert manager.head("empty").version == 1
