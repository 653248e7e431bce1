"""Server-sent events and the WebSocket: the two ways to `Live`."""

import asyncio
from collections.abc import AsyncIterator, Callable
from contextlib import suppress
from functools import partial
from typing import Any

import msgspec
from starlette.concurrency import run_in_threadpool
from starlette.requests import Request
from starlette.responses import Response, StreamingResponse
from starlette.websockets import WebSocket, WebSocketDisconnect

from eventstore.errors import EventStoreError
from eventstore.server.arguments import read_query
from eventstore.server.live import Client, Live
from eventstore.server.problems import Refusal, answer, problem_of
from eventstore.server.route import EVENTS, query_of
from eventstore.server.shown import show_event
from eventstore.sessions.manager import SessionManager

PROTOCOL = "eventstore.v1"
_BEAT_SECONDS = (
    30.0  # proxies end what is silent for a minute; a beat costs 0.7 ms, so 1,000 idle clients take 2 % of a core
)
_HELLO_SECONDS = 10.0
_MOST_SUBSCRIPTIONS, MOST_SOCKETS, _MOST_FOLLOWERS = 32, 64, 8
_GATHER_SECONDS = 0.1


def _position(text: str | None) -> str | int | None:
    if text is None or text == "":
        return None
    return int(text) if text.isascii() and text.isdecimal() and len(text) < 16 else text


def _line(cursor: str, kind: str, data: bytes) -> bytes:
    return b"id: %b\nevent: %b\ndata: %b\n\n" % (cursor.encode(), kind.encode(), data)


class StreamQuery(msgspec.Struct, forbid_unknown_fields=True):
    """`after` is a cursor, a number of events, or `now`; the header `Last-Event-ID` goes before it."""

    after: str | None = None
    types: list[str] = []


class StoreStreamQuery(msgspec.Struct, forbid_unknown_fields=True):
    """`after` is a cursor of all sessions, or `now`; the header `Last-Event-ID` goes before it."""

    after: str | None = None
    types: list[str] = []
    tool: list[str] = []
    user: str | None = None
    tag: list[str] = []


async def stream_session(live: Live, request: Request) -> Response:
    """Stream the events of one session. `Last-Event-ID`, or `after`, is a cursor, a number of events, or `now`."""
    try:
        asked = read_query(StreamQuery, query_of(request))
        given = request.headers.get("last-event-id") or asked.after
        client = Client(request.path_params["session_id"], asked.types or None)
        await live.begin(client, _position(given))
    except (EventStoreError, Refusal, ValueError) as error:
        return answer(problem_of(error, request.path_params["session_id"]))
    return _sse(_frames(live, client))


async def _frames(live: Live, client: Client) -> AsyncIterator[bytes]:
    try:
        yield b"retry: 1000\n\n"
        while True:
            found = await client.take(_BEAT_SECONDS)
            if found:
                yield b"".join(_line(one.cursor, one.type, one.data) for one in found)
            elif client.end is not None:
                yield _line("", client.end, msgspec.json.encode({"detail": client.detail})).replace(b"id: \n", b"")
                return
            else:
                yield b": beat\n\n"
    finally:
        live.leave(client)


def _sse(frames: AsyncIterator[bytes]) -> StreamingResponse:
    headers = {"cache-control": "no-store", "x-accel-buffering": "no"}
    return StreamingResponse(frames, media_type=EVENTS[0], headers=headers)


class Followers:
    """Streams of all sessions: each is a subscription in a thread of its own, so there are few."""

    def __init__(self, manager: SessionManager) -> None:
        self._manager, self._running = manager, 0

    async def stream(self, live: Live, request: Request) -> Response:
        """Stream the events of all sessions, with a cursor of all."""
        if self._running >= _MOST_FOLLOWERS:
            return answer(Refusal(429, f"{_MOST_FOLLOWERS} streams of all sessions are open: end one").problem)

        def begin() -> Any:
            asked = read_query(StoreStreamQuery, query_of(request))
            return self._manager.follow(
                None,
                request.headers.get("last-event-id") or asked.after,
                types=asked.types or None,
                tools=asked.tool or None,
                user_id=asked.user,
                tags=asked.tag or None,
                on_damage=lambda damage: None,
            )

        self._running += 1  # before the wait, so that no more than the limit begin at once
        try:
            subscription = await run_in_threadpool(begin)
        except BaseException as error:
            self._running -= 1
            if isinstance(error, EventStoreError | Refusal | ValueError):
                return answer(problem_of(error))
            raise
        return _sse(self._lines(live, subscription))

    async def _lines(self, live: Live, subscription: Any) -> AsyncIterator[bytes]:
        def take() -> bytes:
            shown = []
            for one in subscription.take():
                data = msgspec.json.encode({"session_id": one.session_id, "event": show_event(one.event)})
                shown.append(_line(one.cursor, one.event.type, data))
            return b"".join(shown)

        taking: asyncio.Future[bytes] | None = None
        try:
            yield b"retry: 1000\n\n"
            while not live.stopping.is_set():
                taking = taking or asyncio.ensure_future(run_in_threadpool(take))
                stopping: asyncio.Future[Any] = asyncio.ensure_future(live.stopping.wait())
                both: list[asyncio.Future[Any]] = [taking, stopping]
                await asyncio.wait(both, timeout=_BEAT_SECONDS, return_when=asyncio.FIRST_COMPLETED)
                stopping.cancel()
                if taking.done():
                    data, taking = taking.result(), None
                    yield data or b": beat\n\n"
                else:
                    yield b": beat\n\n"
            yield b'event: closing\ndata: {"detail":"the server stops"}\n\n'
        finally:
            self._running -= 1
            subscription.stop()
            if taking is not None:
                with suppress(Exception):
                    await taking
            subscription.close()


class _Subscribe(msgspec.Struct, forbid_unknown_fields=True):
    """Ask for a session, or with `changes` for the ids of all sessions that change. `brief` sends numbers and types only."""

    id: int
    session: str | None = None
    changes: bool = False
    after: str | int | None = None
    types: list[str] | None = None
    brief: bool = False


class _Message(msgspec.Struct, forbid_unknown_fields=True):
    token: str | None = None
    subscribe: _Subscribe | None = None
    unsubscribe: int | None = None
    ping: bool | None = None


class Sockets:
    """The WebSockets of a server."""

    def __init__(self, is_token: Callable[[str], bool]) -> None:
        self._is_token, self._open = is_token, 0

    async def handle(self, live: Live, socket: WebSocket) -> None:
        """Serve one socket: its first message is the token, then any number of subscriptions."""
        if self._open >= MOST_SOCKETS:
            await socket.close(4429, "too many sockets")
            return
        offered = socket.scope.get("subprotocols", [])
        await socket.accept(PROTOCOL if PROTOCOL in offered else None)
        self._open += 1
        work = _Socket(live, socket)
        try:
            first = await asyncio.wait_for(_read(socket), _HELLO_SECONDS)
            if first is None or first.token is None or not self._is_token(first.token):
                await socket.close(4401, "no token")
                return
            await socket.send_text('{"hello":true}')
            await work.run()
        except (TimeoutError, WebSocketDisconnect, RuntimeError):
            pass
        finally:
            self._open -= 1
            work.end()
            with suppress(Exception):
                await socket.close(1001 if live.stopping.is_set() else 1000)


async def _read(socket: WebSocket) -> _Message | None:
    try:
        return msgspec.json.decode(await socket.receive_text(), type=_Message)
    except (msgspec.DecodeError, KeyError, RecursionError):
        return None


class _Socket:
    """One socket with its subscriptions."""

    def __init__(self, live: Live, socket: WebSocket) -> None:
        self._live, self._socket = live, socket
        self._tasks: dict[int, asyncio.Task[None]] = {}
        self._sending = asyncio.Lock()

    async def run(self) -> None:
        """Handle messages until the client or the server disconnects."""
        stopping = asyncio.ensure_future(self._live.stopping.wait())
        try:
            while True:
                reading = asyncio.ensure_future(_read(self._socket))
                await asyncio.wait([reading, stopping], return_when=asyncio.FIRST_COMPLETED)
                if stopping.done():
                    reading.cancel()
                    with suppress(BaseException):
                        await reading
                    return
                await self._handle(reading.result())
        finally:
            stopping.cancel()

    async def _handle(self, message: _Message | None) -> None:
        if message is None:
            await self._send({"problem": "that is no message of this protocol"})
        elif message.subscribe is not None:
            asked = message.subscribe
            self._drop(asked.id)
            if len(self._tasks) >= _MOST_SUBSCRIPTIONS or (asked.session is None) is not asked.changes:
                await self._send(
                    {"sub": asked.id, "end": "refused", "detail": "too many, or neither session nor changes"}
                )
                return
            work = self._changes(asked) if asked.changes else self._session(asked)
            task = self._tasks[asked.id] = asyncio.ensure_future(work)
            task.add_done_callback(partial(self._ended, asked.id))
        elif message.unsubscribe is not None:
            self._drop(message.unsubscribe)
        elif message.ping:
            await self._send({"pong": True})

    def end(self) -> None:
        """End all subscriptions."""
        for number in list(self._tasks):
            self._drop(number)

    def _ended(self, number: int, task: asyncio.Task[None]) -> None:
        if self._tasks.get(number) is task:  # no later subscription with the same number
            del self._tasks[number]

    def _drop(self, number: int) -> None:
        task = self._tasks.pop(number, None)
        if task is not None:
            task.cancel()

    async def _send(self, value: Any) -> None:
        async with self._sending:
            await self._socket.send_text(msgspec.json.encode(value).decode())

    async def _session(self, asked: _Subscribe) -> None:
        client = Client(asked.session or "", asked.types)
        try:
            await self._live.begin(client, asked.after)
        except (EventStoreError, ValueError) as error:
            problem = problem_of(error, client.session_id)
            await self._send({"sub": asked.id, "end": "refused", "status": problem.status, "detail": problem.detail})
            return
        try:
            while True:
                found = await client.take(_BEAT_SECONDS)
                frames = [
                    {"cursor": one.cursor, "seq": one.seq, "type": one.type}
                    | ({} if asked.brief else {"event": msgspec.Raw(one.data)})
                    for one in found
                ]
                if frames:
                    await self._send({"sub": asked.id, "frames": frames})
                elif client.end is not None:
                    await self._send({"sub": asked.id, "end": client.end, "detail": client.detail})
                    return
        except (WebSocketDisconnect, RuntimeError):
            pass
        finally:
            self._live.leave(client)

    async def _changes(self, asked: _Subscribe) -> None:
        """Send the ids of sessions that changed, gathered for a moment; null where it may be any."""
        changed: set[str] | None = set()
        rung = asyncio.Event()

        def note(names: set[str] | None) -> None:
            nonlocal changed
            changed = None if names is None or changed is None else changed | names
            rung.set()

        end = self._live.watch(note)
        try:
            await self._send({"sub": asked.id, "changed": []})
            while True:
                await rung.wait()
                await asyncio.sleep(_GATHER_SECONDS)
                found, changed = changed, set()
                rung.clear()
                await self._send({"sub": asked.id, "changed": None if found is None else sorted(found)[:1000]})
        except (WebSocketDisconnect, RuntimeError):
            pass
        finally:
            end()
