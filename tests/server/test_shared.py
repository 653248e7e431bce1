"""Two servers on one PostgreSQL: what one writes the other serves, live too."""

from collections.abc import Iterator
from contextlib import ExitStack
from pathlib import Path

import postgres
import pytest
from server.serving import Client, fill, serving
from server.test_live import sse, take

from eventstore import SessionManager, open_store

pytestmark = pytest.mark.engines


@pytest.fixture
def servers(tmp_path: Path) -> Iterator[tuple[Client, Client]]:
    """Two servers with caches of their own, as on two hosts."""
    url = postgres.new_url()
    with ExitStack() as stack:
        managers = [
            stack.enter_context(SessionManager(open_store(url, cache_dir=tmp_path / name))) for name in ("one", "two")
        ]
        fill(managers[0], "s", 10)
        first, second = (stack.enter_context(serving(manager, write=True)) for manager in managers)
        yield first, second


def test_both_servers_answer_the_same(servers: tuple[Client, Client]) -> None:
    for path in (
        "/sessions",
        "/sessions/s",
        "/sessions/s?at=20",
        "/sessions/s/timeline?after=5&limit=20",
        "/sessions/s/conversation?at=30",
        "/sessions/s/calls",
        "/sessions/s/data",
        "/sessions/s/density",
        "/sessions/s/diff?a=3&b=40",
        "/sessions/s/proof",
    ):
        first, second = (one.get(path) for one in servers)
        assert first == second, path


def test_what_one_server_writes_the_other_one_streams_once(servers: tuple[Client, Client]) -> None:
    first, second = servers
    head = first.get("/sessions/s")["head"]
    streams = [sse(one, f"/sessions/s/stream?after={head}") for one in servers]
    for number in range(10):
        servers[number % 2].post("/sessions/s/messages", {"role": "user", "content": f"message {number}"}, 200)
    for stream in streams:
        found = [(data["seq"], data["content"]) for _, _, data in take(stream, 10)]
        assert found == [(head + 1 + number, f"message {number}") for number in range(10)]
        stream.close()  # type: ignore[attr-defined]
    second.post("/sessions", {"session_id": "made-there", "purpose": "by the second"}, 201)
    assert first.get("/sessions/made-there")["session"]["purpose"] == "by the second"
    assert {one["session_id"] for one in first.get("/sessions")["sessions"]} == {"s", "made-there"}


def test_what_one_server_redacts_the_other_one_does_not_show(servers: tuple[Client, Client]) -> None:
    first, second = servers
    before = second.get("/sessions/s/events/2")["event"]
    assert before["content"] == "ask 0"
    plan = first.post("/sessions/s/redact", {"seqs": [2]})
    first.post("/sessions/s/redact", {"seqs": [2], "plan": plan["plan"], "reason": "a secret"})
    for client in servers:
        assert "content" not in client.get("/sessions/s/events/2")["event"]
        _, _, body = client.send("GET", "/api/v1/sessions/s/conversation?limit=500")
        assert b'"ask 0"' not in body
