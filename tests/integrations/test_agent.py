"""Agents whose calls are recorded."""

import asyncio
from collections.abc import AsyncGenerator, Generator
from contextlib import aclosing
from dataclasses import dataclass, field
from typing import Any, TypeVar

import pytest
from integrations.calls import calls_of

from eventstore import AsyncSessionManager, MemorySessionStorage, SessionManager, SessionNotFound
from eventstore.events import Event
from eventstore.integrations.agent import SessionMixin, text_of, usage_of
from projections.models import Session


class AgentConfig:
    model = "m"


class SpecializedAgent:
    """Any agent class."""

    def __init__(self, config: AgentConfig) -> None:
        self.config = config

    async def invoke(self, message: str) -> dict[str, Any]:
        await asyncio.sleep(0)
        return {
            "content": f"reviewed: {message}",
            "model": self.config.model,
            "usage": {"input_tokens": 3, "output_tokens": 2},
        }


class MyAgent(SessionMixin, SpecializedAgent):
    pass


def loaded(manager: SessionManager, session_id: str) -> Session:
    session = manager.get_session(session_id)
    assert session is not None
    return session


def test_the_example_of_the_original_system_runs(manager: SessionManager) -> None:
    session_manager, config = manager, AgentConfig()

    async def main() -> None:
        # Create session
        session = session_manager.create_session(session_id="s", purpose="Code review")

        # Use with agent
        agent = MyAgent(config)
        agent.set_session_manager(session_manager)
        agent.set_session(session.metadata.session_id)

        # All agent invocations now tracked in session
        await agent.invoke("Review this code")

    asyncio.run(main())
    found = loaded(manager, "s")
    assert [(one.role, one.content) for one in found.conversation] == [
        ("user", "Review this code"),
        ("assistant", "reviewed: Review this code"),
    ]
    assert found.metadata.tools_used == ["MyAgent"]
    assert found.metadata.token_usage == {"input": 3, "output": 2}
    assert found.metadata.total_duration_ms > 0
    (call,) = calls_of(manager, "s")
    assert (call.known.success, call.input.value, call.result.value["model"]) == (
        True,
        {"arguments": ["Review this code"]},
        "m",
    )


Agent = TypeVar("Agent", bound=SessionMixin)


def recorded(agent: Agent, manager: SessionManager) -> Agent:
    agent.set_session_manager(manager)
    agent.set_session("s")
    return agent


class Plain(SessionMixin):
    fails: BaseException | None = None

    def invoke(self, message: str, *, deep: bool = False) -> str:
        if self.fails:
            raise self.fails
        with self.invocation("grep", {"pattern": message}) as call:
            call.result = 2
        return "two" if deep else "one"


def test_a_synchronous_agent_with_its_own_tool_calls(manager: SessionManager) -> None:
    manager.create_session("s")
    agent = Plain()
    agent.set_session_manager(manager)
    agent.set_session("s")
    assert agent.session_id == "s"
    assert agent.invoke("x", deep=True) == "two"
    assert [one.known.tool_name for one in calls_of(manager, "s")] == ["Plain", "grep"]
    agent.set_session(None)
    agent.invoke("y")
    assert loaded(manager, "s").metadata.total_invocations == 2


def test_the_error_of_an_agent_is_recorded_and_raised(manager: SessionManager) -> None:
    manager.create_session("s")
    agent = Plain()
    agent.set_session_manager(AsyncSessionManager(manager))
    agent.set_session("s")
    agent.fails = ZeroDivisionError("no")
    with pytest.raises(ZeroDivisionError):
        agent.invoke("x")
    (call,) = calls_of(manager, "s")
    assert (call.known.success, call.known.error) == (False, "ZeroDivisionError: no")
    assert [one.role for one in loaded(manager, "s").conversation] == ["user"]
    agent.set_session("nothing")
    with pytest.raises(SessionNotFound):
        agent.invoke("x")


def test_a_cancelled_agent_is_recorded_as_failed(manager: SessionManager) -> None:
    class Slow(SessionMixin):
        async def invoke(self, message: str) -> None:
            started.set()
            await asyncio.Event().wait()

    async def main() -> None:
        manager.create_session("s")
        agent = Slow()
        agent.set_session_manager(manager)
        agent.set_session("s")
        task = asyncio.create_task(agent.invoke("x"))
        await started.wait()
        task.cancel()
        with pytest.raises(asyncio.CancelledError):
            await task

    started = asyncio.Event()
    asyncio.run(main())
    assert [one.known.success for one in calls_of(manager, "s")] == [False]


def test_one_invoke_is_one_call_however_many_classes_it_passes(manager: SessionManager) -> None:
    class Base(SessionMixin):
        def invoke(self, message: str) -> Any:
            return message.upper()

    class Inner(Base):
        def invoke(self, message: str) -> Any:
            return super().invoke(message)

    class Outer(Inner):
        def invoke(self, message: str) -> Any:
            async def later() -> Any:
                return super(Outer, self).invoke(message)

            return later()

    async def main() -> Any:
        agent = Outer()
        agent.set_session_manager(manager)
        agent.set_session("s")
        return await agent.invoke("a")

    manager.create_session("s")
    assert asyncio.run(main()) == "A"
    assert [one.known.tool_name for one in calls_of(manager, "s")] == ["Outer"]


class Streaming(SessionMixin):
    """Streams words, and what it is sent."""

    def invoke(self, message: str) -> Generator[str, str | None, str | None]:
        for word in message.split():
            if word == "fail":
                raise LookupError("no such word")
            sent = yield word + " "
            if sent:
                yield sent.upper() + " "
        return None


class Sub(Streaming):
    def invoke(self, message: str) -> Generator[str, str | None, str | None]:
        yield "so: "
        return (yield from super().invoke(message))


class AsyncStreaming(SessionMixin):
    async def invoke(self, message: str) -> AsyncGenerator[Any, None]:
        for word in message.split():
            await asyncio.sleep(0)
            if word == "fail":
                raise LookupError("no such word")
            yield {"text": word}
        yield {"text": "end", "usage": {"input_tokens": 5, "output_tokens": 1}}


class Returning(AsyncStreaming):
    """Returns a stream, and is none itself."""

    recorded_methods = ("ask",)

    async def ask(self, message: str) -> AsyncGenerator[Any, None]:
        return self.invoke(message)


def test_a_stream_is_one_call_until_it_ends(manager: SessionManager) -> None:
    manager.create_session("s")
    agent = recorded(Sub(), manager)
    stream = agent.invoke("one two")
    assert calls_of(manager, "s") == []
    assert next(stream) == "so: "
    assert [one.known.success for one in calls_of(manager, "s")] == [None]
    assert [next(stream), stream.send("more"), *stream] == ["one ", "MORE ", "two "]
    (call,) = calls_of(manager, "s")
    assert (call.known.success, call.result.value) == (True, "so: one MORE two ")
    said = [one.content for one in loaded(manager, "s").conversation]
    assert said == ["one two", "so: one MORE two "]
    with pytest.raises(LookupError, match="no such word"):
        list(agent.invoke("one fail"))
    assert "no such word" in (calls_of(manager, "s")[1].known.error or "")
    closed = agent.invoke("one two")
    next(closed)
    closed.close()
    assert (calls_of(manager, "s")[2].known.success, calls_of(manager, "s")[2].result.value) == (True, "so: ")


def test_an_asynchronous_stream_is_one_call_until_it_ends(manager: SessionManager) -> None:
    manager.create_session("s")

    async def main() -> None:
        agent = recorded(AsyncStreaming(), manager)
        assert [one["text"] async for one in agent.invoke("one two")] == ["one", "two", "end"]
        with pytest.raises(LookupError):
            _ = [one async for one in agent.invoke("one fail")]
        async with aclosing(agent.invoke("one two")) as stream:
            assert await anext(stream) == {"text": "one"}
        assert [one["text"] async for one in await recorded(Returning(), manager).ask("three")] == ["three", "end"]

    asyncio.run(main())
    first, second, third, fourth = calls_of(manager, "s")
    assert (first.known.success, len(first.result.value)) == (True, 3)
    assert second.known.success is False
    assert (third.known.success, third.result.value) == (True, [{"text": "one"}])
    assert (fourth.known.success, fourth.result.value[0]) == (True, {"text": "three"})
    assert loaded(manager, "s").metadata.token_usage == {"input": 10, "output": 2}


def test_what_an_agent_did_is_not_lost_with_the_record_of_its_end(
    manager: SessionManager, caplog: pytest.LogCaptureFixture
) -> None:
    class Deleting(SessionMixin):
        def invoke(self, message: str) -> str:
            manager.delete_session("s")
            if message == "fail":
                raise LookupError("its own error")
            return "done"

        async def ask(self, message: str) -> str:
            return self.invoke(message)

        recorded_methods = ("invoke", "ask")

    manager.create_session("s")
    assert recorded(Deleting(), manager).invoke("go") == "done"
    assert "is not recorded" in caplog.text
    manager.create_session("s")
    with pytest.raises(LookupError, match="its own error"):
        recorded(Deleting(), manager).invoke("fail")
    manager.create_session("s")
    assert asyncio.run(recorded(Deleting(), manager).ask("go")) == "done"


def test_an_error_of_record_result_leaves_the_result_and_ends_the_call(
    manager: SessionManager, caplog: pytest.LogCaptureFixture
) -> None:
    class Odd(Plain):
        def record_result(self, result: Any) -> list[Event]:
            raise ValueError("nothing fits")

    manager.create_session("s")
    assert recorded(Odd(), manager).invoke("go")
    assert "is not recorded: nothing fits" in caplog.text
    assert [one.known.success for one in calls_of(manager, "s")] == [True, True]  # grep, and the agent


def test_other_methods_are_recorded_on_request() -> None:
    class Streaming(SessionMixin):
        recorded_methods = ("invoke", "run")

        def run(self, *, prompt: str) -> object:
            return object()

    manager = SessionManager(MemorySessionStorage())
    manager.create_session("s")
    agent = Streaming()
    agent.set_session_manager(manager)
    agent.set_session("s")
    agent.run(prompt="p")
    assert loaded(manager, "s").metadata.tools_used == ["Streaming.run"]
    assert [one.content for one in loaded(manager, "s").conversation] == ["p"]


def test_what_is_no_manager_is_refused() -> None:
    with pytest.raises(TypeError, match="manager"):
        Plain().set_session_manager("x")  # type: ignore[arg-type]
    with pytest.raises(ValueError, match="set_session_manager"):
        Plain().invoke("x")


@dataclass
class Usage:
    prompt_tokens: int = 4
    completion_tokens: int = 5


@dataclass
class Result:
    final_output: str = "text"
    usage: Usage = field(default_factory=Usage)
    cost: float = 0.5


def test_texts_and_usage_are_found_in_results_of_many_kinds() -> None:
    assert text_of({"content": [{"type": "text", "text": "a"}, {"type": "image"}, "b"]}) == "a\nb"
    assert text_of(Result()) == "text"
    assert text_of(object()) is None
    used = usage_of(Result())
    assert used is not None
    assert (used.tokens, used.cost) == ({"input": 4, "output": 5}, 0.5)
    assert usage_of("text") is None
    assert usage_of({"usage": {}}) is None
