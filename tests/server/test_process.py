"""`eventstore serve` as a process: killed and started again, no client loses or repeats an event; ended, it says nothing."""

import asyncio
import http.client
import json
import signal
import socket
import stat
import subprocess
import sys
import threading
from collections.abc import Iterator
from contextlib import suppress
from pathlib import Path
from typing import Any

import pytest
from server.serving import serving
from websockets.asyncio.client import connect
from websockets.exceptions import ConnectionClosed, InvalidHandshake

from eventstore import FileSystemSessionStorage, SessionManager

EVENTS = 600


def free_port() -> int:
    with socket.socket() as one:
        one.bind(("127.0.0.1", 0))
        port: int = one.getsockname()[1]
        return port


@pytest.fixture
def store(tmp_path: Path) -> Iterator[tuple[Path, SessionManager]]:
    storage = FileSystemSessionStorage(tmp_path / ".sessions", tmp_path / ".history", fsync="no")
    with SessionManager(storage) as manager:
        manager.create_session("s")
        yield tmp_path, manager


class Serving:
    """The command in a process, always on the same port and with the same token."""

    def __init__(self, folder: Path) -> None:
        self.folder, self.port, self.token = folder, free_port(), "t" * 40
        self.token_file = folder / "token"
        self.token_file.touch(0o600)
        self.token_file.write_text(self.token)
        self.process: subprocess.Popen[bytes] | None = None

    def start(self) -> None:
        arguments = [
            "--store",
            str(self.folder),
            "serve",
            "--port",
            str(self.port),
            "--token-file",
            str(self.token_file),
        ]
        self.process = subprocess.Popen(
            [sys.executable, "-m", "eventstore", *arguments], stdout=subprocess.PIPE, stderr=subprocess.PIPE
        )
        assert self.process.stdout is not None
        assert b"#code=" in self.process.stdout.readline()

    def end(self, number: int = signal.SIGKILL) -> tuple[bytes, bytes]:
        assert self.process is not None
        self.process.send_signal(number)
        return self.process.communicate(timeout=20)


def follow_sse(serving: Serving, got: list[int], done: threading.Event) -> None:
    """Follow as any client of server-sent events does: come back with the last id."""
    last = ""
    while not done.is_set() and len(got) < EVENTS + 1:
        connection = http.client.HTTPConnection("127.0.0.1", serving.port, timeout=5)
        with suppress(OSError, http.client.HTTPException):
            headers = {"Authorization": f"Bearer {serving.token}"} | ({"Last-Event-ID": last} if last else {})
            connection.request("GET", "/api/v1/sessions/s/stream", headers=headers)
            answer = connection.getresponse()
            cursor = ""
            while len(got) < EVENTS + 1 and (line := answer.readline()):
                if line.startswith(b"id: "):
                    cursor = line[4:].strip().decode()
                elif line.startswith(b'data: {"type"'):
                    got.append(json.loads(line[6:])["seq"])
                    last = cursor
        connection.close()


async def follow_socket(serving: Serving, got: list[int], done: threading.Event) -> None:
    last: str | None = None
    url, origin = f"ws://127.0.0.1:{serving.port}/api/v1/live", f"http://127.0.0.1:{serving.port}"
    while not done.is_set() and len(got) < EVENTS + 1:
        with suppress(OSError, ConnectionClosed, InvalidHandshake, TimeoutError):
            async with connect(url, origin=origin) as one:  # type: ignore[arg-type]
                await one.send(json.dumps({"token": serving.token}))
                await one.recv()
                await one.send(json.dumps({"subscribe": {"id": 1, "session": "s", "after": last}}))
                while len(got) < EVENTS + 1:
                    message: Any = json.loads(await asyncio.wait_for(one.recv(), 5))
                    for frame in message.get("frames", []):
                        got.append(frame["seq"])
                        last = frame["cursor"]


def test_five_kills_while_somebody_writes(store: tuple[Path, SessionManager]) -> None:
    """A writer at work, the server killed five times: both clients have each event once and in order."""
    folder, manager = store
    serving, done = Serving(folder), threading.Event()
    serving.start()
    lines: list[int] = []
    frames: list[int] = []
    clients = [
        threading.Thread(target=follow_sse, args=(serving, lines, done)),
        threading.Thread(target=lambda: asyncio.run(follow_socket(serving, frames, done))),
    ]
    for one in clients:
        one.start()
    try:
        for number in range(EVENTS):
            manager.add_conversation_message("s", "user", f"message {number}")
            if number % 100 == 50 and number < 500:
                serving.end()
                serving.start()
        for one in clients:
            one.join(60)
    finally:
        done.set()
        serving.end()
    assert lines == list(range(1, EVENTS + 2))
    assert frames == list(range(1, EVENTS + 2))


def test_it_ends_at_once_and_says_nothing_though_streams_are_open(store: tuple[Path, SessionManager]) -> None:
    folder, _ = store
    serving = Serving(folder)
    serving.start()
    note = folder / ".sessions" / "_server" / f"{serving.port}.json"
    assert stat.S_IMODE(note.stat().st_mode) == 0o600
    assert json.loads(note.read_text())["token"] == serving.token
    streams = []
    connections = []
    for _ in range(3):
        connection = http.client.HTTPConnection("127.0.0.1", serving.port, timeout=20)
        connection.request("GET", "/api/v1/sessions/s/stream", headers={"Authorization": f"Bearer {serving.token}"})
        connections.append(connection)
        streams.append(connection.getresponse())
        assert streams[-1].readline() == b"retry: 1000\n"
    _, errors = serving.end(signal.SIGTERM)
    assert b"Traceback" not in errors
    assert errors.decode().splitlines() == ["read-only; end it with Ctrl-C"]
    assert all(b"event: closing" in one.read() for one in streams)
    for one in connections:
        one.close()
    assert not note.exists()
    assert list(note.parent.iterdir()) == []


def test_the_note_is_in_no_list_and_no_archive(store: tuple[Path, SessionManager]) -> None:
    from eventstore.exporters import export_archive

    folder, manager = store
    serving = Serving(folder)
    serving.start()
    try:
        assert [one.metadata.session_id for one in manager.list_sessions()] == ["s"]
        made = folder / "all.zip"
        export_archive(manager, made)
        assert serving.token.encode() not in made.read_bytes()
    finally:
        serving.end()


def test_a_store_that_may_only_be_read_is_served(store: tuple[Path, SessionManager]) -> None:
    folder, manager = store
    (folder / "file").touch()  # no folder can be made in it, by nobody
    with pytest.warns(RuntimeWarning, match="was not written"), serving(manager, folder=folder / "file") as client:
        assert client.get("/sessions/s")["version"] == 1
