"""A real server in a thread, and a client for it."""

import http.client
import json
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

from eventstore import SessionManager
from eventstore.server import Server, Started


class Client:
    """Plain HTTP with the token."""

    def __init__(self, started: Started) -> None:
        self.started, self.port = started, started.port
        self.headers = {"Authorization": f"Bearer {started.token}"}

    def send(
        self, method: str, path: str, body: Any = None, headers: dict[str, str] | None = None, token: bool = True
    ) -> tuple[int, dict[str, str], bytes]:
        connection = http.client.HTTPConnection("127.0.0.1", self.port, timeout=30)
        sent = dict(self.headers) if token else {}
        data = None
        if body is not None:
            data = json.dumps(body).encode()
            sent["Content-Type"] = "application/json"
        sent |= headers or {}
        try:
            connection.request(method, path, data, sent)
            answer = connection.getresponse()
            return answer.status, {name.lower(): value for name, value in answer.getheaders()}, answer.read()
        finally:
            connection.close()

    def get(self, path: str, status: int = 200) -> Any:
        found, _, body = self.send("GET", f"/api/v1{path}")
        assert found == status, (found, body)
        return json.loads(body)

    def post(self, path: str, body: Any, status: int = 200, **headers: str) -> Any:
        found, _, answer = self.send(
            "POST", f"/api/v1{path}", body, {k.replace("_", "-"): v for k, v in headers.items()}
        )
        assert found == status, (found, answer)
        return json.loads(answer)


@contextmanager
def serving(manager: SessionManager, **options: Any) -> Iterator[Client]:
    """Serve a manager while the block runs."""
    started: list[Started] = []
    ready = threading.Event()

    def say(one: Started) -> None:
        started.append(one)
        ready.set()

    server = Server(manager, port=0, ready=say, **options)
    thread = threading.Thread(target=server.run, daemon=True)
    thread.start()
    assert ready.wait(30)
    try:
        yield Client(started[0])
    finally:
        server.stop()
        thread.join(20)
        assert not thread.is_alive()


def fill(manager: SessionManager, session_id: str, turns: int = 30) -> None:
    """A session with prompts, calls of which some fail, usage and data."""
    manager.create_session(session_id, f"purpose of {session_id}", "ana", ["x"])
    for turn in range(turns):
        manager.add_conversation_message(session_id, "user", f"ask {turn}")
        manager.add_conversation_message(session_id, "assistant", "{}", tool_name="grep", invocation_id=f"c{turn}")
        error = "no" if turn % 7 == 6 else None
        manager.link_invocation(session_id, f"c{turn}", "grep", None, 5.0, success=error is None, error=error)
        manager.add_conversation_message(session_id, "tool", "found the needle", invocation_id=f"c{turn}")
        manager.record_usage(session_id, {"input": 10, "output": turn}, cost=0.5, key=f"k{turn}")
    manager.set_data(session_id, "mood", {"now": "good"})
