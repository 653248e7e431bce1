"""Run the server: bind the loopback address, say where it is, serve until a signal, end at once."""

import json
import os
import signal
import socket
import threading
import warnings
from collections.abc import Callable, Collection, Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path
from types import FrameType

import uvicorn

from eventstore.errors import ServingRefused
from eventstore.server.address import is_local, listen, local_names, shown
from eventstore.server.app import Access, Application
from eventstore.sessions.manager import SessionManager


@dataclass(frozen=True)
class Started:
    """A server that listens: its address, the token of its API, and the address that opens the page once."""

    url: str
    token: str
    page: str
    port: int


class _Server(uvicorn.Server):
    """Ends the streams before it waits for open connections: they would never end by themselves."""

    def __init__(self, config: uvicorn.Config, application: Application, ready: Callable[[], None]) -> None:
        super().__init__(config)
        self._application, self._ready = application, ready

    @contextmanager
    def capture_signals(self) -> Iterator[None]:
        """End at a signal, and return: uvicorn would raise it again, and the process would die before it has cleaned up."""
        if threading.current_thread() is not threading.main_thread():
            yield
            return
        before = {one: signal.signal(one, self.handle_exit) for one in (signal.SIGINT, signal.SIGTERM)}
        try:
            yield
        finally:
            for one, handler in before.items():
                signal.signal(one, handler)

    async def startup(self, sockets: list[socket.socket] | None = None) -> None:
        await super().startup(sockets)
        if self.started:
            self._ready()

    def handle_exit(self, sig: int, frame: FrameType | None) -> None:
        super().handle_exit(sig, frame)
        self.end()

    def end(self) -> None:
        """End, from any thread."""
        self.should_exit = True
        live = self._application.live
        if live is not None:
            live.stop_soon()


class Server:
    """A server that is bound to its address and runs when `run` is called. Raises ServingRefused if it cannot be bound.

    Another address than the loopback needs a `token` and `allow_hosts`, the names that clients use, as a TLS proxy
    before it sends them in `Host`. With `folder` the address and the token are written to `folder/PORT.json`, readable
    by this user only, while it runs. `ready` is called once it listens. Port 0 takes a free one.
    """

    def __init__(
        self,
        manager: SessionManager,
        *,
        host: str = "127.0.0.1",
        port: int = 8321,
        write: bool = False,
        allow_hosts: Collection[str] = (),
        token: str | None = None,
        folder: Path | None = None,
        ready: Callable[[Started], None] = lambda started: None,
    ) -> None:
        is_ours = is_local(host)
        if not is_ours and not (token and allow_hosts):
            reason = (
                "it is not the loopback address: give --token-file and --allow-host (in Python `token` and `allow_hosts`), "
                "and put TLS in front"
            )
            raise ServingRefused(shown(host, port), reason)
        self._socket = listen(host, port)
        self.port: int = self._socket.getsockname()[1]
        ours = local_names(host, self.port) if is_ours else frozenset[str]()
        self._access = Access(token)
        schemes = ("http", "https") if allow_hosts else ("http",)
        application = Application(manager, {*allow_hosts, *ours}, access=self._access, write=write, schemes=schemes)
        self._url = f"http://{shown(host, self.port)}"
        self._note, self._ready = _Note(folder, self.port), ready
        config = uvicorn.Config(
            application.app,
            log_level="error",
            access_log=False,
            server_header=False,
            proxy_headers=False,
            lifespan="on",
            ws="websockets-sansio",
            ws_max_size=64 * 1024,
            timeout_graceful_shutdown=3,
        )
        self._server = _Server(config, application, self._say)

    def run(self) -> None:
        """Serve until a signal, or `stop`."""
        try:
            self._server.run(sockets=[self._socket])
        finally:
            self._socket.close()
            self._note.remove()

    def stop(self) -> None:
        """Let `run` end, from any thread."""
        self._server.end()

    def _say(self) -> None:
        started = Started(self._url, self._access.token, f"{self._url}/#code={self._access.new_code()}", self.port)
        self._note.write(started)
        self._ready(started)


class _Note:
    """The file in which programs of the same user find the address of the server."""

    def __init__(self, folder: Path | None, port: int) -> None:
        self._path = None if folder is None else folder / f"{port}.json"

    def write(self, started: Started) -> None:
        """Write it, readable by this user only. A store that may only be read is served without it."""
        if self._path is None:
            return
        try:
            self._put(self._path, started)
        except OSError as error:
            text = f"{self._path} was not written ({error.strerror}): programs find neither address nor token there"
            warnings.warn(text, RuntimeWarning, stacklevel=2)

    @staticmethod
    def _put(path: Path, started: Started) -> None:
        path.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
        with suppress(FileNotFoundError):
            path.unlink()
        flags = os.O_WRONLY | os.O_CREAT | os.O_EXCL | getattr(os, "O_NOFOLLOW", 0)
        with os.fdopen(os.open(path, flags, 0o600), "w") as file:
            json.dump({"url": started.url, "token": started.token, "pid": os.getpid()}, file)

    def remove(self) -> None:
        """Remove it."""
        if self._path is not None:
            with suppress(OSError):
                self._path.unlink()
