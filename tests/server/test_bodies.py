"""Bodies that are too long, stop, or never end; headers that are empty; streams that nobody reads."""

import json
import socket
from collections.abc import Iterator

import pytest
from server.serving import Client, serving

from eventstore import MemorySessionStorage, SessionManager
from eventstore.server import receiving

PATH = "/api/v1/sessions/s/data"


@pytest.fixture
def manager() -> Iterator[SessionManager]:
    with SessionManager(MemorySessionStorage()) as manager:
        manager.create_session("s")
        yield manager


@pytest.fixture
def client(manager: SessionManager) -> Iterator[Client]:
    with serving(manager, write=True) as client:
        yield client


def begin(client: Client, path: str, **headers: str) -> socket.socket:
    """Send the head of a request."""
    sent = {**client.headers, "Host": f"127.0.0.1:{client.port}", "Content-Type": "application/json"}
    sent |= {name.replace("_", "-"): value for name, value in headers.items()}
    raw = socket.create_connection(("127.0.0.1", client.port), timeout=20)
    head = f"POST {path} HTTP/1.1\r\n" + "".join(f"{name}: {value}\r\n" for name, value in sent.items())
    raw.sendall(head.encode() + b"\r\n")
    return raw


def status(raw: socket.socket) -> int:
    with raw.makefile("rb") as answer:
        return int(answer.readline().split()[1])


@pytest.mark.parametrize("path", [PATH, "/api/v1/login"])
def test_a_body_of_unknown_length_is_refused_where_it_passes_the_limit(
    client: Client, manager: SessionManager, monkeypatch: pytest.MonkeyPatch, path: str
) -> None:
    monkeypatch.setattr(receiving, "MOST_BODY_BYTES", 100_000)
    with begin(client, path, Transfer_Encoding="chunked") as raw:
        for _ in range(20):
            raw.sendall(b"2710\r\n" + b"x" * 10_000 + b"\r\n")
        assert status(raw) == 413
    assert manager.head("s").version == 1


def test_a_body_that_stops_is_refused_after_some_time(client: Client, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(receiving, "MOST_BODY_SECONDS", 0.2)
    with begin(client, PATH, Content_Length="20") as raw:
        raw.sendall(b"{")
        assert status(raw) == 408


def test_a_body_that_stops_does_not_keep_the_server_from_its_end(
    manager: SessionManager, capfd: pytest.CaptureFixture[str]
) -> None:
    with serving(manager, write=True) as client:
        raw = begin(client, PATH, Content_Length="20", Expect="100-continue")
        assert status(raw) == 100  # so the server waits for the body
    assert status(raw) == 503
    raw.close()
    assert capfd.readouterr().err == ""


def test_two_appends_with_an_empty_key_are_not_taken_for_one(client: Client, manager: SessionManager) -> None:
    for value in (1, 2):
        for key in ("", " \t"):
            code, _, body = client.send("POST", PATH, {"key": "k", "value": value}, {"Idempotency-Key": key})
            assert (code, json.loads(body)["detail"][:24]) == (422, "Idempotency-Key is empty")
    assert manager.head("s").version == 1


@pytest.mark.parametrize("path", ["/api/v1/stream", "/api/v1/sessions/s/stream"])
def test_the_head_of_a_stream_begins_none(client: Client, path: str) -> None:
    for _ in range(9):
        with socket.create_connection(("127.0.0.1", client.port), timeout=20) as raw:
            head = f"HEAD {path} HTTP/1.1\r\nHost: 127.0.0.1:{client.port}\r\nConnection: close\r\n"
            raw.sendall(f"{head}Authorization: {client.headers['Authorization']}\r\n\r\n".encode())
            with raw.makefile("rb") as answer:
                assert b"200" in answer.read()  # until the server closes the connection
