"""SessionMixin: an agent class whose `invoke` is recorded in a session.

class MyAgent(SessionMixin, SpecializedAgent): ...

agent = MyAgent(config)
agent.set_session_manager(session_manager)
agent.set_session(session.metadata.session_id)
await agent.invoke("Review this code")
"""

import asyncio
import inspect
import logging
from collections.abc import AsyncGenerator, Awaitable, Callable, Generator, Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from contextvars import ContextVar
from functools import partial, wraps
from typing import Any

from eventstore.events import Event, MessageAdded, UsageRecorded
from eventstore.integrations.plain import plain
from eventstore.integrations.sessions import finish, manager_of
from eventstore.sessions.async_manager import AsyncSessionManager
from eventstore.sessions.call import Call
from eventstore.sessions.manager import SessionManager

_TEXTS = ("content", "text", "output", "final_output", "output_text", "message", "result")
"""Where results of agents keep their text, the surest first."""
_TOKENS = {
    "input": ("input_tokens", "prompt_tokens", "input", "request_tokens"),
    "output": ("output_tokens", "completion_tokens", "output", "response_tokens"),
    "cache_read": ("cache_read_input_tokens", "cached_tokens", "cache_read", "cache_read_tokens"),
    "cache_write": ("cache_creation_input_tokens", "cache_write", "cache_write_tokens"),
    "reasoning": ("reasoning_tokens", "reasoning"),
}
"""How other libraries call our kinds of tokens."""
_USAGES = ("usage", "usage_metadata", "token_usage")
_MOST_DEPTH = 8
_logger = logging.getLogger(__name__)
_running: ContextVar[frozenset[int]] = ContextVar("eventstore_running", default=frozenset())
"""The agents whose `invoke` is running in this task: `super().invoke()` is the same call, not one more."""


class SessionMixin:
    """Records each `invoke` of an agent in a session: a call with input, result, error and duration, its messages and its usage.

    Use it as a decorator of any agent class. `invoke` may be a function or a coroutine function, of the class itself or
    inherited. Without a manager or a session nothing is recorded. `invocation(tool, arguments)` records the agent's own
    tool calls.

    An `invoke` that streams, a generator or an asynchronous one, is a call from its first step until it ends or is closed. Its
    items are the result, as one text where all are texts. If the beginning of a call cannot be recorded, the call is not made.
    If its end cannot be, for example because the session was deleted meanwhile, a warning is logged and the result is returned.

    Override `record_result` to record more, or something else, of a result. Other methods are recorded if a subclass names them
    in `recorded_methods`.
    """

    recorded_methods: Sequence[str] = ("invoke",)
    _session_manager: SessionManager | None = None
    _session_id: str | None = None

    def __init_subclass__(cls, **options: Any) -> None:
        super().__init_subclass__(**options)
        for name in cls.recorded_methods:
            method = getattr(cls, name, None)
            if callable(method) and not hasattr(method, "__eventstore_recorded__"):
                setattr(cls, name, _recorded(method))

    def set_session_manager(self, manager: SessionManager | AsyncSessionManager | None) -> None:
        """Record with this manager from now on; None: record nothing."""
        self._session_manager = None if manager is None else manager_of(manager)

    def set_session(self, session_id: str | None) -> None:
        """Record in this session from now on; None: record nothing."""
        self._session_id = session_id

    @property
    def session_id(self) -> str | None:
        """The session that is recorded in."""
        return self._session_id

    def invocation(self, tool_name: str, arguments: Any = None) -> Call:
        """Record a tool call of the agent: `with self.invocation("grep", {"pattern": "x"}) as call: call.result = ...`.

        Without a session the call is recorded in the tool history only. Raises ValueError without a manager.
        """
        if self._session_manager is None:
            raise ValueError("the agent has no session manager: call set_session_manager first")
        return self._session_manager.invocation(self._session_id, tool_name, plain(arguments))

    def record_result(self, result: Any) -> list[Event]:
        """Return the events that record a result: the message of the assistant, and the usage, where the result shows them."""
        events = list[Event]()
        text = text_of(result)
        if text:
            events.append(MessageAdded(role="assistant", content=text))
        used = usage_of(result)
        if used is not None:
            events.append(used)
        return events

    def _begin(self, name: str, args: tuple[Any, ...], named: Mapping[str, Any]) -> Call:
        manager, session_id = self._session_manager, self._session_id
        assert manager is not None  # noqa: S101 - asked before
        given: dict[str, Any] = {"arguments": plain(args)} if args else {}
        given |= plain(named)
        tool = type(self).__name__ if name == "invoke" else f"{type(self).__name__}.{name}"
        text = text_of(args[0]) if args else next(filter(None, map(text_of, named.values())), None)
        if text and session_id is not None:
            manager.append(session_id, [MessageAdded(role="user", content=text)])
        return manager.invocation(session_id, tool, given).__enter__()

    def _end(self, call: Call, result: Any = None, failed: BaseException | None = None) -> None:
        """Record the outcome of a call. An error of that is logged: the agent's work is done, and its result is not lost."""
        try:
            if failed is not None:
                call.__exit__(type(failed), failed, failed.__traceback__)
                return
            try:
                call.result = plain(result)
                events = self.record_result(result)
            finally:
                call.__exit__(None, None, None)
            if events and call.session_id is not None and self._session_manager is not None:
                self._session_manager.append(call.session_id, events)
        except Exception as error:  # also one of `record_result`
            _logger.warning("the end of a call of %s is not recorded: %s", call.tool_name, error)


@contextmanager
def _inside(agent: SessionMixin) -> Iterator[None]:
    """Mark an agent as running, in this task: what it calls of itself is the same call."""
    token = _running.set(_running.get() | {id(agent)})
    try:
        yield
    finally:
        _running.reset(token)


def _recorded(method: Callable[..., Any]) -> Callable[..., Any]:
    """Return a method that does the same and is recorded."""
    name = method.__name__

    def skips(agent: SessionMixin) -> bool:
        return agent._session_manager is None or agent._session_id is None or id(agent) in _running.get()

    if inspect.isgeneratorfunction(method) or inspect.isasyncgenfunction(method):
        passed_on: Callable[..., Any] = _streamed if inspect.isgeneratorfunction(method) else _async_streamed

        @wraps(method)
        def recorded_stream(self: SessionMixin, *args: Any, **named: Any) -> Any:
            stream = method(self, *args, **named)
            return stream if skips(self) else passed_on(self, lambda: self._begin(name, args, named), stream)

        recorded: Any = recorded_stream
    elif inspect.iscoroutinefunction(method):

        @wraps(method)
        async def recorded_async(self: SessionMixin, *args: Any, **named: Any) -> Any:
            if skips(self):
                return await method(self, *args, **named)
            return await _run_async(self, name, args, named, lambda: method(self, *args, **named))

        recorded = recorded_async
    else:

        @wraps(method)
        def recorded_sync(self: SessionMixin, *args: Any, **named: Any) -> Any:
            if skips(self):
                return method(self, *args, **named)
            call = self._begin(name, args, named)
            try:
                with _inside(self):
                    result = method(self, *args, **named)
            except BaseException as error:
                self._end(call, failed=error)
                raise
            if inspect.isawaitable(result):
                return _finish(self, call, result)
            if inspect.isgenerator(result):
                return _streamed(self, lambda: call, result)
            if inspect.isasyncgen(result):
                return _async_streamed(self, lambda: call, result)
            self._end(call, result)
            return result

        recorded = recorded_sync
    recorded.__eventstore_recorded__ = True
    return recorded  # type: ignore[no-any-return]


async def _run_async(
    agent: SessionMixin, name: str, args: tuple[Any, ...], named: Mapping[str, Any], work: Callable[[], Awaitable[Any]]
) -> Any:
    """Await an agent's method; all that is written is written in a thread."""
    call = await asyncio.to_thread(agent._begin, name, args, named)
    return await _finish(agent, call, work())


async def _finish(agent: SessionMixin, call: Call, work: Awaitable[Any]) -> Any:
    try:
        with _inside(agent):
            result = await work
    except BaseException as error:
        await finish(agent._end, call, failed=error)  # also that of a cancelled task
        raise
    if inspect.isasyncgen(result):
        return _async_streamed(agent, lambda: call, result)
    await finish(agent._end, call, result)
    return result


def _streamed(
    agent: SessionMixin, begin: Callable[[], Call], stream: Generator[Any, Any, Any]
) -> Generator[Any, Any, Any]:
    """Pass on what a generator of an agent yields and is sent, as one call."""
    call, items = begin(), list[Any]()
    step: Callable[[], Any] = partial(next, stream)
    try:
        while True:
            try:
                with _inside(agent):
                    item = step()
            except StopIteration as end:
                agent._end(call, _whole(items) if end.value is None else end.value)
                return end.value
            items.append(item)
            try:
                step = partial(stream.send, (yield item))
            except Exception as error:
                step = partial(stream.throw, error)
    except GeneratorExit:  # the reader has enough
        stream.close()
        agent._end(call, _whole(items))
        raise
    except BaseException as error:
        agent._end(call, failed=error)
        raise


async def _async_streamed(
    agent: SessionMixin, begin: Callable[[], Call], stream: AsyncGenerator[Any, Any]
) -> AsyncGenerator[Any, Any]:
    """Pass on what an asynchronous generator of an agent yields and is sent, as one call."""
    call, items = await asyncio.to_thread(begin), list[Any]()
    step: Callable[[], Awaitable[Any]] = partial(anext, stream)
    try:
        while True:
            try:
                with _inside(agent):
                    item = await step()
            except StopAsyncIteration:
                break
            items.append(item)
            try:
                step = partial(stream.asend, (yield item))
            except Exception as error:
                step = partial(stream.athrow, error)
    except GeneratorExit:  # the reader has enough
        await stream.aclose()
        await finish(agent._end, call, _whole(items))
        raise
    except BaseException as error:
        await stream.aclose()  # where this task was cancelled
        await finish(agent._end, call, failed=error)
        raise
    await finish(agent._end, call, _whole(items))


def _whole(items: list[Any]) -> Any:
    """Return what a stream of items gave together."""
    return "".join(items) if items and all(isinstance(one, str) for one in items) else items


def text_of(value: Any, depth: int = 0) -> str | None:
    """Return the text of a message or a result, where it shows one: itself, a list of parts, a `content`, a `text`, ..."""
    if isinstance(value, str):
        return value.encode("utf-8", "replace").decode()
    if value is None or callable(value) or depth > _MOST_DEPTH:
        return None
    if isinstance(value, list | tuple):
        return "\n".join(text for one in value if (text := text_of(one, depth + 1))) or None
    return next((text for name in _TEXTS if (text := text_of(_get(value, name), depth + 1))), None)


def usage_of(result: Any) -> UsageRecorded | None:
    """Return the usage that a result shows as `usage`, `usage_metadata` or `token_usage`, by our kinds; None without one.

    Of a list it is that of the last item that shows one.
    """
    if isinstance(result, list | tuple):  # a stream: its last items tell
        return next((found for one in reversed(result) if (found := usage_of(one)) is not None), None)
    used = next((one for name in _USAGES if (one := _get(result, name)) and not callable(one)), None)
    tokens = {kind: count for kind, names in _TOKENS.items() if (count := _count(used, names))}
    costs = (_get(result, "cost"), _get(used, "cost"), _get(result, "total_cost_usd"))
    cost = next((float(one) for one in costs if _is_number(one)), None)
    if not tokens and cost is None:
        return None
    model = _get(result, "model")
    return UsageRecorded(tokens=tokens, cost=cost, model=model if isinstance(model, str) else None)


def _count(found: Any, names: Iterable[str]) -> int:
    return next((count for name in names if _is_number(count := _get(found, name)) and isinstance(count, int)), 0)


def _get(value: Any, name: str) -> Any:
    return value.get(name) if isinstance(value, Mapping) else getattr(value, name, None)


def _is_number(value: Any) -> bool:
    return isinstance(value, int | float) and not isinstance(value, bool) and 0 <= value < float("inf")
