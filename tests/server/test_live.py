"""Streams: each event once and in order, from any cursor, over SSE and WebSocket, and what a stream says when it ends."""

import asyncio
import http.client
import json
import threading
from collections import Counter
from collections.abc import Iterator
from contextlib import ExitStack, closing
from typing import Any

import pytest
from server.serving import Client, fill, serving
from websockets.asyncio.client import connect
from websockets.exceptions import ConnectionClosed
from websockets.typing import Subprotocol

from eventstore import MemorySessionStorage, SessionManager


def sse(client: Client, path: str, last: str | None = None) -> Iterator[tuple[str, str, Any]]:
    """Yield (id, event, data) of a stream."""
    connection = http.client.HTTPConnection("127.0.0.1", client.port, timeout=30)
    headers = dict(client.headers) | ({"Last-Event-ID": last} if last else {})
    connection.request("GET", f"/api/v1{path}", headers=headers)
    answer = connection.getresponse()
    assert answer.status == 200, answer.read()
    fields: dict[str, str] = {}
    try:
        while line := answer.readline().decode():
            if line == "\n":
                if "data" in fields:
                    yield fields.get("id", ""), fields["event"], json.loads(fields["data"])
                fields = {}
            elif not line.startswith(":"):
                name, _, value = line.rstrip("\n").partition(": ")
                fields[name] = value
    finally:
        connection.close()


def take(stream: Iterator[tuple[str, str, Any]], count: int) -> list[tuple[str, str, Any]]:
    return [next(stream) for _ in range(count)]


def test_a_stream_goes_on_behind_the_last_event_id(manager: SessionManager) -> None:
    fill(manager, "s", 5)
    with serving(manager) as client:
        stream = sse(client, "/sessions/s/stream")
        first = take(stream, 10)
        assert [data["seq"] for _, _, data in first] == list(range(1, 11))
        assert first[1][1] == "message.added"
        assert "salt" not in first[1][2]
        stream.close()  # type: ignore[attr-defined]
        again = sse(client, "/sessions/s/stream", last=first[-1][0])
        assert [data["seq"] for _, _, data in take(again, 17)] == list(range(11, 28))
        manager.add_conversation_message("s", "user", "live")
        assert next(again)[2]["content"] == "live"
        again.close()  # type: ignore[attr-defined]
        late = sse(client, "/sessions/s/stream?after=27")
        assert next(late)[2]["seq"] == 28
        late.close()  # type: ignore[attr-defined]
        only = sse(client, "/sessions/s/stream?types=usage.recorded")
        assert next(only)[1] == "usage.recorded"
        only.close()  # type: ignore[attr-defined]
        assert client.send("GET", "/api/v1/sessions/none/stream")[0] == 404
        assert client.send("GET", "/api/v1/sessions/s/stream?after=nonsense")[0] == 422


def test_a_stream_shows_what_the_log_holds_now_also_where_another_client_was_shown_what_is_gone(
    manager: SessionManager,
) -> None:
    with serving(manager) as client:

        def shown(count: int) -> list[str | None]:
            stream = sse(client, "/sessions/s/stream")
            found = [data.get("content") or data.get("purpose") for _, _, data in take(stream, count)]
            stream.close()  # type: ignore[attr-defined]
            return found

        manager.create_session("s", "first")
        manager.add_conversation_message("s", "user", "a secret")
        assert shown(2) == ["first", "a secret"]
        manager.redactions.redact("s", 2, "a secret")
        assert shown(3) == ["first", None, None]
        manager.delete_session("s")
        manager.create_session("s", "second")
        manager.add_conversation_message("s", "user", "other")
        assert shown(2) == shown(2) == ["second", "other"]
        manager.trash.put("s")
        manager.create_session("s", "third")
        assert shown(1) == ["third"]
        manager.add_conversation_message("s", "user", "more")
        assert shown(2) == ["third", "more"]


def test_many_clients_at_different_places_have_each_event_once(manager: SessionManager) -> None:
    fill(manager, "s", 20)
    got: dict[int, list[int]] = {}

    def follow(client: Client, number: int) -> None:
        stream = sse(client, f"/sessions/s/stream?after={number * 5}")
        got[number] = [data["seq"] for _, _, data in take(stream, 202 - number * 5)]
        stream.close()  # type: ignore[attr-defined]

    with serving(manager) as client:
        threads = [threading.Thread(target=follow, args=(client, number)) for number in range(20)]
        for one in threads:
            one.start()
        for number in range(100):
            manager.add_conversation_message("s", "user", f"live {number}")
        for one in threads:
            one.join(60)
    assert got == {number: list(range(number * 5 + 1, 203)) for number in range(20)}


def test_all_sessions_are_streamed_with_a_cursor_of_all(manager: SessionManager) -> None:
    fill(manager, "s", 1)
    with serving(manager) as client:
        stream = sse(client, "/stream")
        first = take(stream, 7)
        assert {data["session_id"] for _, _, data in first} == {"s"}
        stream.close()  # type: ignore[attr-defined]
        manager.create_session("t")
        again = sse(client, "/stream", last=first[-1][0])
        _, _, data = next(again)
        assert (data["session_id"], data["event"]["type"]) == ("t", "session.created")
        again.close()  # type: ignore[attr-defined]


def test_a_stream_says_why_it_ends(manager: SessionManager) -> None:
    fill(manager, "s", 1)
    with serving(manager) as client:
        stream = sse(client, "/sessions/s/stream")
        take(stream, 7)
        manager.delete_session("s")
        assert next(stream)[1] in ("gone", "rolled_back")
        assert next(stream, None) is None
        fill(manager, "t", 1)
        stream = sse(client, "/sessions/t/stream")
        take(stream, 7)
    assert next(stream)[1] == "closing"


async def _socket(client: Client, work: Any) -> None:
    origin = f"http://127.0.0.1:{client.port}"
    async with connect(
        f"ws://127.0.0.1:{client.port}/api/v1/live",
        subprotocols=[Subprotocol("eventstore.v1")],
        origin=origin,  # type: ignore[arg-type]
    ) as socket:
        await socket.send(json.dumps({"token": client.started.token}))
        assert json.loads(await socket.recv()) == {"hello": True}
        await work(socket)


def test_a_socket_has_many_subscriptions(manager: SessionManager) -> None:
    fill(manager, "s", 1)
    fill(manager, "t", 1)

    async def work(socket: Any) -> None:
        await socket.send(json.dumps({"subscribe": {"id": 1, "session": "s", "after": 5}}))
        await socket.send(json.dumps({"subscribe": {"id": 2, "session": "t", "after": "now", "brief": True}}))
        await socket.send(json.dumps({"subscribe": {"id": 3, "changes": True}}))
        await socket.send(json.dumps({"subscribe": {"id": 4, "session": "none"}}))
        seen: dict[int, list[Any]] = {1: [], 2: [], 3: [], 4: []}

        async def until(done: Any) -> None:
            while not done():
                message = json.loads(await asyncio.wait_for(socket.recv(), 20))
                seen[message["sub"]].append(message)

        await until(lambda: seen[4] and seen[3] and seen[1])
        assert seen[4][0]["status"] == 404
        assert [one["seq"] for one in seen[1][0]["frames"]] == [6, 7]
        await asyncio.to_thread(manager.add_conversation_message, "t", "user", "hi")
        await until(lambda: seen[2] and any(one["changed"] is None or "t" in one["changed"] for one in seen[3]))
        frame = seen[2][0]["frames"][0]
        assert (frame["seq"], frame["type"], "event" in frame) == (8, "message.added", False)
        await socket.send(json.dumps({"unsubscribe": 2}))
        await socket.send(json.dumps({"ping": True}))
        assert json.loads(await asyncio.wait_for(socket.recv(), 20)) == {"pong": True}

    with serving(manager) as client:
        asyncio.run(_socket(client, work))


def test_a_subscription_that_ended_takes_no_place(manager: SessionManager) -> None:
    fill(manager, "s", 3)

    async def work(socket: Any) -> None:
        for number in range(33):
            await socket.send(json.dumps({"subscribe": {"id": number, "session": "none"}}))
            assert json.loads(await socket.recv())["status"] == 404
        await socket.send(json.dumps({"subscribe": {"id": 0, "session": "s"}}))
        assert json.loads(await socket.recv())["frames"]
        await socket.send("[" * 60_000)  # also what is nested too deeply ends no subscription
        assert json.loads(await socket.recv())["problem"]
        manager.set_data("s", "later", 1)
        assert json.loads(await socket.recv())["frames"]

    with serving(manager) as client:
        asyncio.run(_socket(client, work))


def test_no_more_than_eight_streams_of_all_sessions_begin_at_once() -> None:
    manager = SessionManager(MemorySessionStorage())
    fill(manager, "s", 1)
    with serving(manager) as client, ExitStack() as open_streams:
        connections = [
            open_streams.enter_context(closing(http.client.HTTPConnection("127.0.0.1", client.port, timeout=30)))
            for _ in range(30)
        ]
        for one in connections:
            one.connect()
        for one in connections:
            one.request("GET", "/api/v1/stream", headers=client.headers)
        answers = [open_streams.enter_context(one.getresponse()) for one in connections]
        assert Counter(one.status for one in answers) == {200: 8, 429: 22}


def test_a_socket_needs_host_origin_and_token(manager: SessionManager) -> None:
    async def refused(client: Client, origin: str | None, token: str) -> None:
        url = f"ws://127.0.0.1:{client.port}/api/v1/live"
        with pytest.raises((ConnectionClosed, Exception)):  # noqa: PT012 - the refusal comes at the handshake or after the token
            async with connect(url, origin=origin) as socket:  # type: ignore[arg-type]
                await socket.send(json.dumps({"token": token}))
                message = await asyncio.wait_for(socket.recv(), 10)
                raise AssertionError(message)

    with serving(manager) as client:
        own = f"http://127.0.0.1:{client.port}"
        asyncio.run(refused(client, "http://evil.test", client.started.token))
        asyncio.run(refused(client, f"http://127.0.0.1:{client.port + 1}", client.started.token))
        asyncio.run(refused(client, own, "wrong"))
