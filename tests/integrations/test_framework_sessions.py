"""What integrations share: names of sessions, appends that decide by what is stored, and the events of a call."""

import asyncio
import threading
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st
from log.faulty import CountingBackend

from eventstore import EventLog, SessionManager, SessionNotFound, SessionStorage
from eventstore.backends.memory import MemoryBackend
from eventstore.events import (
    DataSet,
    Event,
    InvocationEvent,
    InvocationLinked,
    InvocationStarted,
    RecordPut,
    RecordRemoved,
    SessionCreated,
)
from eventstore.integrations.meaning import call_began, call_ended
from eventstore.integrations.sessions import (
    Stored,
    append_decided,
    finish,
    key_of,
    parts_of,
    sessions_named,
    stored,
    stored_or_nothing,
)


@given(st.lists(st.text(), min_size=1), st.lists(st.text(), min_size=1))
def test_no_two_lists_of_names_have_one_key(one: list[str], other: list[str]) -> None:
    assert parts_of(key_of(*one)) == one
    assert (key_of(*one) == key_of(*other)) == (one == other)


def test_who_decides_by_a_version_appends_to_no_other(manager: SessionManager) -> None:
    """Each of many writers counts on from what is stored: no number is there twice."""

    def count_on(_: int) -> None:
        def decide(now: Stored) -> list[Event]:
            known = manager.data("s", at=now.version) if now.version else {}
            return [DataSet(key="n", value=known.get("n", 0) + 1)]

        assert append_decided(manager, "s", decide, SessionCreated()) is not None

    with ThreadPoolExecutor(8) as pool:
        list(pool.map(count_on, range(40)))
    assert manager.data("s")["n"] == 40
    assert [event.value for event in manager.events("s") if isinstance(event, DataSet)] == list(range(1, 41))


def test_nothing_is_appended_where_nothing_is_decided(manager: SessionManager) -> None:
    assert append_decided(manager, "s", lambda now: None, SessionCreated()) is None
    assert stored_or_nothing(manager, "s").version == 0
    with pytest.raises(SessionNotFound):
        append_decided(manager, "s", lambda now: [DataSet(key="a")])


def test_who_decides_reads_what_is_new_once_however_much_is_asked() -> None:
    backend = CountingBackend(MemoryBackend())
    manager = SessionManager(SessionStorage(EventLog(backend)))

    def count_on(now: Stored) -> list[Event]:
        last = now.last("a")
        number = 0 if last is None else last.value + 1
        assert now.list("a") == [now.get("a", key) for key in now.keys("a")]
        assert now.has("a") == bool(now.keys("a"))
        return [RecordPut(stream="a", key=str(number), value=number)]

    append_decided(manager, "s", count_on, SessionCreated())
    for number in (1, 2, 3):
        backend.calls.clear()
        append_decided(manager, "s", count_on)
        assert backend.calls["read"] <= 2  # where the log ends, and the lines of the last append
        assert stored(manager, "s").last("a") == stored(manager, "s").get("a", str(number))


def test_sessions_are_found_by_the_beginning_of_their_names(manager: SessionManager) -> None:
    for name in ("a/1", "a/2", "a%/1", "b/1"):
        manager.append(
            f"s{len(list(sessions_named(manager, '')))}", [DataSet(key="k")], create=SessionCreated(external_key=name)
        )
    assert sorted(str(one.external_key) for one in sessions_named(manager, "a/")) == ["a/1", "a/2"]


def test_the_keys_of_a_stream_are_those_that_are_there(manager: SessionManager) -> None:
    puts = [RecordPut(stream="a", key=name, value=1) for name in ("x", "y", "z")]
    manager.append("s", puts, create=True)
    before = stored(manager, "s")
    manager.append("s", [RecordRemoved(stream="a", key="y")])
    assert list(stored(manager, "s").keys("a")) == ["x", "z"]
    assert list(before.keys("a")) == ["x", "y", "z"]
    assert not before.keys("b")
    assert before.streams() == ["a"]
    with pytest.raises(SessionNotFound):
        stored(manager, "t")


def test_values_are_given_in_order_and_the_newest_of_them(manager: SessionManager) -> None:
    values: list[Any] = [{"n": 1}, "two", None, ["x" * 300_000], 5]
    manager.append("s", [RecordPut(stream="a", value=one) for one in values], create=True)
    manager.append("s", [RecordPut(stream="b", value=one) for one in (b"\xff", "text", b"y" * 300_000)])
    assert stored(manager, "s").values("a") == values
    assert stored(manager, "s").values("a", 2) == values[-2:]
    assert stored(manager, "s").values("a", 0) == stored(manager, "s").values("c") == []
    assert stored(manager, "s").values("b") == [b"\xff", "text", b"y" * 300_000]
    assert [one.value for one in stored(manager, "s").list("a")] == values


@pytest.mark.parametrize("given", [{"n": 1}, '{"n": 1}'])
def test_a_call_is_given_to_the_next_model_with_its_arguments_and_its_answer(
    manager: SessionManager, given: Any
) -> None:
    """Whether the framework has the arguments as an object or as a text."""
    answer = [{"type": "text", "text": "no such file"}, {"type": "text", "text": "traceback"}]
    manager.append(
        "s", [*call_began("c", "git_log", given), *call_ended("c", None, answer, success=False)], create=True
    )
    asked, answered = manager.conversation("s", format="openai")
    assert asked["tool_calls"][0]["function"] == {"name": "git_log", "arguments": '{"n": 1}'}
    assert answered["content"] == "no such file\ntraceback"
    started, linked = (one for one in manager.events("s") if isinstance(one, InvocationEvent))
    assert isinstance(started, InvocationStarted)
    assert isinstance(linked, InvocationLinked)
    assert (started.input, linked.success, linked.error) == (given, False, "no such file")
    assert linked.result == answer


@pytest.mark.parametrize("fails", [False, True])
def test_a_change_that_is_cancelled_ends_before_its_call(fails: bool) -> None:
    """However often it is cancelled: so a later change is never overwritten by an earlier one."""
    told = list[object]()

    async def main() -> None:
        asyncio.get_running_loop().set_exception_handler(lambda _, context: told.append(context))
        may_end, began, done = threading.Event(), asyncio.Event(), list[str]()
        loop = asyncio.get_running_loop()

        def change() -> None:
            loop.call_soon_threadsafe(began.set)
            may_end.wait(60)
            done.append("changed")
            if fails:
                raise ValueError("refused")

        task = asyncio.create_task(finish(change))
        await began.wait()
        for _ in range(3):
            task.cancel()
            for _ in range(3):
                await asyncio.sleep(0)
            assert not task.done()
        may_end.set()
        with pytest.raises(asyncio.CancelledError):
            await task
        assert done == ["changed"]

    asyncio.run(main())
    assert told == []


def test_a_change_gives_its_result_or_error() -> None:
    assert asyncio.run(finish(lambda: 5)) == 5
    with pytest.raises(ValueError, match="invalid literal"):
        asyncio.run(finish(int, "x"))


@pytest.mark.parametrize("name", [None, 5, b"s"])
def test_a_name_that_is_no_text_is_refused_and_shown(name: Any) -> None:
    with pytest.raises(ValueError, match=r" is a \w+, not text: .*; nothing was done"):
        key_of("openai-agents", name)
