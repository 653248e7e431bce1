"""What happens now: events of sessions to any number of clients, each with a bounded queue, from any cursor on.

All clients of a session that have caught up share one channel: one read of the log, one encoding. A client that is behind reads
on its own until it stands where the channel does. A client that does not take what it is sent is told so and let go: it comes
back with the cursor of the last event it has.
"""

import asyncio
from collections import deque
from collections.abc import Callable, Collection, Sequence
from contextlib import suppress
from dataclasses import dataclass, field
from typing import Any, Literal, TypeAlias

import msgspec
from starlette.concurrency import run_in_threadpool

from eventstore.errors import CursorRefused, LogDamaged, LogRolledBack, SessionNotFound
from eventstore.log.base import Head
from eventstore.record import codec
from eventstore.server.shown import show_event
from eventstore.sessions.manager import SessionManager
from eventstore.subscriptions.beginning import places_of_one
from eventstore.subscriptions.cursor import Cursor
from eventstore.subscriptions.hub import Hub

End: TypeAlias = Literal["gone", "rolled_back", "damaged", "behind", "closing"]
"""Why a stream ends: no such session any more, another log under its id, damage, a client too slow, the server stops."""

MOST_QUEUED_BYTES = 1024 * 1024


class Frame(msgspec.Struct, frozen=True):
    """One event as it is sent: its cursor, its number and type, and its JSON."""

    cursor: str
    seq: int
    type: str
    data: bytes


@dataclass(eq=False)
class Client:
    """One stream of one client. `types` are the types of events it wants; None means all."""

    session_id: str
    types: Collection[str] | None = None
    after: int = 0
    end: End | None = None
    detail: str = ""
    _queue: deque[Frame] = field(default_factory=deque)
    _size: int = 0
    _changed: asyncio.Event = field(default_factory=asyncio.Event)
    _room: asyncio.Event = field(default_factory=asyncio.Event)

    def offer(self, frames: Sequence[Frame]) -> None:
        """Queue frames; if the queue is full, the stream ends as `behind`."""
        for frame in frames:
            if self.end is not None:
                return
            if frame.seq <= self.after:
                continue
            self.after = frame.seq
            if self.types is not None and frame.type not in self.types:
                continue
            if self._size > MOST_QUEUED_BYTES:
                self.finish("behind", "the client took too little of what it was sent: go on from its last cursor")
                return
            self._queue.append(frame)
            self._size += len(frame.data)
        self._changed.set()

    async def wait_for_room(self) -> None:
        """Return when the queue is half empty: for reading on without losing the client."""
        while self._size > MOST_QUEUED_BYTES // 2 and self.end is None:
            self._room.clear()
            await self._room.wait()

    def finish(self, end: End, detail: str = "") -> None:
        """End the stream after the queued frames."""
        if self.end is None:
            self.end, self.detail = end, detail
        self._changed.set()
        self._room.set()

    async def take(self, seconds: float) -> list[Frame]:
        """Return what is queued, waiting for it for so long; nothing if there is none, or at the end."""
        if not self._queue and self.end is None:
            self._changed.clear()
            with suppress(TimeoutError):
                await asyncio.wait_for(self._changed.wait(), seconds)
        found = list(self._queue)
        self._queue.clear()
        self._size = 0
        self._room.set()
        return found


@dataclass(eq=False)
class _Channel:
    place: Head
    clients: set[Client] = field(default_factory=set)
    task: "asyncio.Task[None] | None" = None
    again: bool = False


class Live:
    """The streams of a server over `manager`. It lives on one event loop; only `poke` is called from another thread."""

    def __init__(self, manager: SessionManager) -> None:
        self.manager, self._log = manager, manager.storage.log
        self._loop = asyncio.get_running_loop()
        self._hub = Hub(self._log)
        self._channels: dict[str, _Channel] = {}
        self._clients: set[Client] = set()
        self._tasks: set[asyncio.Task[Any]] = set()
        self._watchers: dict[object, Callable[[set[str] | None], None]] = {}
        self._listener = self._hub.listen(None, self._poke)
        self.stopping = asyncio.Event()

    def watch(self, notify: Callable[[set[str] | None], None]) -> Callable[[], None]:
        """Call `notify` with the sessions that may have changed; the returned function ends that."""
        key = object()
        self._watchers[key] = notify
        return lambda: self._watchers.pop(key, None) and None

    def stop(self) -> None:
        """End all streams. On the loop."""
        self.stopping.set()
        for client in self._clients:
            client.finish("closing", "the server stops")

    def stop_soon(self) -> None:
        """End all streams, asked from a signal or another thread."""
        with suppress(RuntimeError):  # the loop is closed
            self._loop.call_soon_threadsafe(self.stop)

    async def close(self) -> None:
        """End all streams, and the watch."""
        self.stop()
        for task in list(self._tasks):
            task.cancel()
        await run_in_threadpool(self._hub.close)

    async def begin(self, client: Client, after: str | int | None) -> None:
        """Find where a stream begins. Raises CursorRefused, SessionNotFound, LogDamaged, LogRolledBack."""
        places = await run_in_threadpool(self._place, client.session_id, after)
        client.after = places.version
        self._clients.add(client)
        if self.stopping.is_set():
            client.finish("closing", "the server stops")
        task = asyncio.ensure_future(self._join(client, places))
        self._tasks.add(task)
        task.add_done_callback(self._tasks.discard)

    def leave(self, client: Client) -> None:
        """Remove a client that disconnected."""
        self._clients.discard(client)
        client.finish("closing")
        channel = self._channels.get(client.session_id)
        if channel is not None:
            channel.clients.discard(client)
            if not channel.clients and channel.task is None:
                self._channels.pop(client.session_id, None)

    def _place(self, session_id: str, after: str | int | None) -> Head:
        if after == "now":
            return self._log.head(session_id)
        found = places_of_one(self._log, session_id, after)
        place = found.get(session_id)
        if place is None:
            return Head(0, "", "", 0)
        if place.version:
            self._log.resume(session_id, place)  # raises where the log is another one now
        return place

    async def _join(self, client: Client, place: Head) -> None:
        """Read for a client until it reaches the position of its session's channel."""
        session_id = client.session_id
        try:
            while client.end is None:
                channel = self._channels.get(session_id)
                if channel is None:
                    channel = self._channels[session_id] = _Channel(place)
                if channel.place.version <= place.version:
                    channel.clients.add(client)
                    self._wake(session_id)
                    return
                data, end = await run_in_threadpool(self._log.resume, session_id, place)
                if not data:
                    await asyncio.sleep(0.01)  # the channel is ahead of a log that is being created again
                    continue
                client.offer(self._frames(session_id, data, end))
                place = end
                await client.wait_for_room()
        except Exception as error:
            self._finish(client, error)

    def _poke(self, names: set[str] | None) -> None:
        with suppress(RuntimeError):  # the loop is closed
            self._loop.call_soon_threadsafe(self._wake_all, names)

    def _wake_all(self, names: set[str] | None) -> None:
        for session_id in list(self._channels) if names is None else names & self._channels.keys():
            self._wake(session_id)
        for notify in list(self._watchers.values()):
            notify(names)

    def _wake(self, session_id: str) -> None:
        channel = self._channels[session_id]
        channel.again = True
        if channel.task is None:
            channel.task = asyncio.ensure_future(self._run(session_id, channel))

    async def _run(self, session_id: str, channel: _Channel) -> None:
        """Read what is new in a session, and give it to all of its clients."""
        try:
            while channel.again and channel.clients:
                channel.again = False
                while True:
                    data, end = await run_in_threadpool(self._log.resume, session_id, channel.place)
                    if not data:
                        break
                    frames = self._frames(session_id, data, end)
                    channel.place = end
                    for client in list(channel.clients):
                        client.offer(frames)
        except Exception as error:
            for client in list(channel.clients):
                self._finish(client, error)
            channel.clients.clear()
        finally:
            channel.task = None
            if not channel.clients and self._channels.get(session_id) is channel:
                del self._channels[session_id]

    def _frames(self, session_id: str, data: bytes, end: Head) -> list[Frame]:
        offset = max(end.size_bytes - len(data), 0)
        found: list[Frame] = []
        for event, line in zip(codec.decode_lines(data), codec.lines(data), strict=True):
            offset += len(line) + 1
            cursor = str(Cursor(None, {session_id: Head(event.seq, event.at, event.hash, offset)}))
            found.append(Frame(cursor, event.seq, event.type, msgspec.json.encode(show_event(event))))
        return found

    def _finish(self, client: Client, error: Exception) -> None:
        if isinstance(error, SessionNotFound):
            client.finish("gone", str(error))
        elif isinstance(error, LogRolledBack | CursorRefused):
            client.finish("rolled_back", str(error))
        elif isinstance(error, LogDamaged):
            client.finish("damaged", str(error))
        else:
            client.finish("closing", type(error).__name__)
