"""A proxy between a program and a server of storage that fails as networks do. It runs in a process of its own."""

import os
import random
import signal
import socket
import threading
import time
from collections import Counter
from contextlib import suppress
from pathlib import Path

_BLOCK = 1 << 16
FAULTS = ("cut", "halved", "stalled", "lost")
"""The connection ends; it ends inside a message; nothing passes for a while, then it ends; a request passes, and no answer."""


class Proxy:
    """Passes bytes on to a port of this machine; of `per_mille` of the blocks, one in a thousand fails in one of four ways.

    `stall_seconds` is how long nothing passes: longer than the timeout of the client.
    """

    def __init__(self, upstream: int, folder: Path, *, per_mille: float, stall_seconds: float, seed: int) -> None:
        self._upstream, self._per_mille, self._stall = upstream, per_mille, stall_seconds
        self._rng, self._file = random.Random(seed), folder / "proxy-faults"
        self._listener = socket.create_server(("127.0.0.1", 0), backlog=128)
        self.port: int = self._listener.getsockname()[1]
        self._child = os.fork()
        if not self._child:
            try:
                self._serve()
            finally:
                os._exit(1)
        self._listener.close()

    def counts(self) -> Counter[str]:
        """Count the faults so far."""
        letters = self._file.read_text() if self._file.exists() else ""
        return Counter({fault: letters.count(fault[0]) for fault in FAULTS})

    def stop(self) -> None:
        """End the proxy and all its connections."""
        os.kill(self._child, signal.SIGKILL)
        os.waitpid(self._child, 0)

    def _serve(self) -> None:
        self._told = os.open(self._file, os.O_WRONLY | os.O_CREAT | os.O_APPEND)
        while True:
            client, _ = self._listener.accept()
            try:
                server = socket.create_connection(("127.0.0.1", self._upstream), 5)
                server.settimeout(None)
            except OSError:
                client.close()
                continue
            pair = (client, server)
            threading.Thread(target=self._pump, args=(client, server, pair, False), daemon=True).start()
            threading.Thread(target=self._pump, args=(server, client, pair, True), daemon=True).start()

    def _pump(self, source: socket.socket, to: socket.socket, pair: tuple[socket.socket, ...], is_answer: bool) -> None:
        with suppress(OSError):
            while data := source.recv(_BLOCK):
                fault = self._draw(is_answer)
                if fault:
                    os.write(self._told, fault[:1].encode())
                    if fault == "halved":
                        to.sendall(data[: len(data) // 2])
                    elif fault == "stalled":
                        time.sleep(self._stall)
                    break
                to.sendall(data)
        for one in pair:
            with suppress(OSError):
                one.shutdown(socket.SHUT_RDWR)
        with suppress(OSError):
            source.close()

    def _draw(self, is_answer: bool) -> str:
        """Draw what happens to a block; nothing, most of the time."""
        if self._rng.random() * 1000 >= self._per_mille:
            return ""
        return self._rng.choice(FAULTS if is_answer else FAULTS[:3])
