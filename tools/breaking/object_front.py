"""A front of HTTP for stores of objects: it counts requests, and does to their answers what networks and servers do.

Behind it is a small store in memory that speaks as much S3 as is needed, or a real server to which requests are passed on.
"""

import http.client
import random
import socket
import threading
import time
from collections import Counter
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from enum import StrEnum
from hashlib import md5
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import NamedTuple
from urllib.parse import parse_qs, unquote, urlsplit
from xml.sax.saxutils import escape, unescape

BUCKET = "bucket"


class Request(NamedTuple):
    """One request: `target` is the path with its query, `key` the object's key, empty for the bucket itself."""

    method: str
    target: str
    headers: Mapping[str, str]
    body: bytes

    @property
    def key(self) -> str:
        return unquote(urlsplit(self.target).path).removeprefix(f"/{BUCKET}").removeprefix("/")

    @property
    def kind(self) -> str:
        """Its method; `LIST` for a list of keys."""
        return "LIST" if self.method == "GET" and not self.key else self.method


class Answer(NamedTuple):
    """What a store answers."""

    status: int
    headers: dict[str, str]
    body: bytes = b""


class Fault(StrEnum):
    """What happens to a request."""

    CONFLICT = "409, nothing is done"
    PRECONDITION = "412, nothing is done"
    SLOW_DOWN = "503, nothing is done"
    FAILS_AFTER = "500, and it is done"
    CUT = "the connection is cut, nothing is done"
    LOST = "it is done, and the connection is cut"
    TWICE = "it is done, then again by a client that lost the answer, which gets the second one"
    LATE = "the connection is cut, and it is done a moment later"
    HALF = "half of the answer, then the connection is cut"


class MemoryObjects:
    """A bucket in memory: GET, PUT with If-Match and If-None-Match, DELETE, lists of keys."""

    def __init__(self) -> None:
        self.objects: dict[str, bytes] = {}
        self._mutex = threading.Lock()

    def __call__(self, request: Request) -> Answer:
        with self._mutex:
            return self._answer(request, request.key)

    def _answer(self, request: Request, key: str) -> Answer:
        if not key:
            query = parse_qs(urlsplit(request.target).query, keep_blank_values=True)
            return self._delete_many(request.body) if request.method == "POST" else self._list(query)
        old = self.objects.get(key)
        if request.method == "PUT":
            wanted = request.headers.get("if-match")
            if wanted is not None and old is None:
                return Answer(404, {})
            if (wanted is not None and wanted != _tag(old)) or ("if-none-match" in request.headers and old is not None):
                return Answer(412, {})
            self.objects[key] = request.body
            return Answer(200, {"ETag": _tag(request.body)})
        if request.method == "DELETE":
            self.objects.pop(key, None)
            return Answer(204, {})
        if old is None:
            return Answer(404, {})
        headers = {"ETag": _tag(old), "Last-Modified": "Fri, 27 Nov 2026 00:00:00 GMT"}
        if request.headers.get("if-none-match") == _tag(old):
            return Answer(304, headers)
        return Answer(200, headers, old)

    def _delete_many(self, body: bytes) -> Answer:
        keys = [unescape(part.partition("</Key>")[0]) for part in body.decode().split("<Key>")[1:]]
        for key in keys:
            self.objects.pop(key, None)
        rows = "".join(f"<Deleted><Key>{escape(key)}</Key></Deleted>" for key in keys)
        return Answer(200, {"Content-Type": "application/xml"}, f"<DeleteResult>{rows}</DeleteResult>".encode())

    def _list(self, query: dict[str, list[str]]) -> Answer:
        prefix, after = query.get("prefix", [""])[0], query.get("continuation-token", [""])[0]
        keys = sorted(key for key in self.objects if key.startswith(prefix) and key > after)
        page, more = keys[:1000], len(keys) > 1000
        rows = "".join(
            f"<Contents><Key>{escape(key)}</Key><LastModified>2026-11-27T00:00:00.000Z</LastModified>"
            f"<ETag>{escape(_tag(self.objects[key]))}</ETag><Size>{len(self.objects[key])}</Size></Contents>"
            for key in page
        )
        token = f"<NextContinuationToken>{escape(page[-1])}</NextContinuationToken>" if more else ""
        rest = f"<IsTruncated>{str(more).lower()}</IsTruncated>{token}{rows}"
        text = f"<ListBucketResult><Name>{BUCKET}</Name>{rest}</ListBucketResult>"
        return Answer(200, {"Content-Type": "application/xml"}, text.encode())


def _tag(data: bytes | None) -> str:
    return "" if data is None else f'"{md5(data).hexdigest()}"'  # noqa: S324 - as S3 makes them


class Forward:
    """Passes requests on to a real server."""

    def __init__(self, port: int) -> None:
        self.port = port
        self._threads = threading.local()

    def __call__(self, request: Request) -> Answer:
        connection: http.client.HTTPConnection | None = getattr(self._threads, "connection", None)
        if connection is None:
            connection = self._threads.connection = http.client.HTTPConnection("127.0.0.1", self.port, timeout=30)
        try:
            headers = {name: value for name, value in request.headers.items() if name != "connection"}
            connection.request(request.method, request.target, request.body, headers)
            found = connection.getresponse()
            return Answer(found.status, dict(found.getheaders()), found.read())
        except (OSError, http.client.HTTPException):
            connection.close()
            raise ConnectionError from None


class Front:
    """A server of HTTP on a free port. `chance` is how many of 1,000 requests suffer a fault; `script` is asked first."""

    def __init__(self, answer: Callable[[Request], Answer], *, chance: int = 0, seed: int = 0) -> None:
        self.answer, self.chance = answer, chance
        self.script: Callable[[Request], Fault | None] = lambda request: None
        self.requests: list[Request] = []
        self.faults: Counter[Fault] = Counter()
        self._random = random.Random(seed)
        self._server = _Server(("127.0.0.1", 0), _Handler)
        self._server.front = self
        self.port: int = self._server.server_address[1]
        self._thread = threading.Thread(target=self._server.serve_forever, args=(0.05,), daemon=True)
        self._thread.start()

    def url(self, prefix: str, **query: object) -> str:
        """Return the URL of the store through this front."""
        rest = "".join(f"&{name}={value}" for name, value in query.items())
        return f"s3://{BUCKET}/{prefix}?endpoint=http://127.0.0.1:{self.port}&region=us-east-1{rest}"

    def counts(self) -> Counter[str]:
        """Count the requests since the last `forget`, by kind: the access log."""
        return Counter(one.kind for one in self.requests)

    def forget(self) -> None:
        """Restart counting."""
        self.requests.clear()

    @contextmanager
    def failing(self, *faults: Fault | None, kind: str = "PUT", key: str = "") -> Iterator[None]:
        """Let the next requests of a kind, whose key holds a text, suffer these faults, one each; None for none."""
        left = list(faults)

        def script(request: Request) -> Fault | None:
            return left.pop(0) if left and request.kind == kind and key in request.key else None

        self.script = script
        yield
        self.script = lambda request: None
        assert not left, f"nobody came for {left}"

    def fault_for(self, request: Request) -> Fault | None:
        """Decide what happens to a request."""
        fault = self.script(request)
        if fault is None and self.chance and self._random.randrange(1000) < self.chance:
            fault = self._random.choice([one for one in Fault if one is not Fault.TWICE or request.method == "PUT"])
        if fault is not None:
            self.faults[fault] += 1
        return fault

    def close(self) -> None:
        """End the server."""
        self._server.shutdown()
        self._server.server_close()
        self._thread.join()


class _Server(ThreadingHTTPServer):
    daemon_threads = True
    request_queue_size = 128
    front: Front

    def handle_error(self, request: object, client_address: object) -> None:
        """Do not report connections that are cut: this program cuts them on purpose."""


class _Handler(BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"
    server: _Server

    def setup(self) -> None:
        super().setup()
        self.connection.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)

    def log_message(self, format: str, *args: object) -> None:  # noqa: A002 - its name in the base class
        """Log nothing."""

    def _do(self) -> None:
        front = self.server.front
        body = self.rfile.read(int(self.headers.get("Content-Length") or 0))
        headers = {name.lower(): value for name, value in self.headers.items()}
        request = Request(self.command, self.path, headers, body)
        front.requests.append(request)
        fault = front.fault_for(request)
        try:
            self._suffer(front.answer, request, fault)
        except ConnectionError:
            self._cut()

    def _suffer(self, answer: Callable[[Request], Answer], request: Request, fault: Fault | None) -> None:
        refused = {Fault.CONFLICT: 409, Fault.PRECONDITION: 412, Fault.SLOW_DOWN: 503}
        if fault in refused:
            self._send(Answer(refused[fault], {}))
        elif fault is Fault.CUT:
            self._cut()
        elif fault is Fault.LATE:
            threading.Thread(target=_late, args=(answer, request), daemon=True).start()
            self._cut()
        else:
            found = answer(request)
            if fault is Fault.LOST:
                self._cut()
            elif fault is Fault.FAILS_AFTER:
                self._send(Answer(500, {}))
            elif fault is Fault.TWICE:
                self._send(answer(request))
            else:
                self._send(found, half=fault is Fault.HALF)

    do_GET = do_PUT = do_POST = do_DELETE = do_HEAD = _do  # noqa: N815 - their names in the base class

    def _send(self, answer: Answer, *, half: bool = False) -> None:
        skipped = ("content-length", "transfer-encoding", "connection", "date", "server")
        self.send_response(answer.status)
        for name, value in answer.headers.items():
            if name.lower() not in skipped:
                self.send_header(name, value)
        self.send_header("Content-Length", str(len(answer.body)))
        self.end_headers()
        if self.command != "HEAD":
            self.wfile.write(answer.body[: len(answer.body) // 2] if half else answer.body)
        if half:
            self._cut()

    def _cut(self) -> None:
        self.close_connection = True
        self.connection.shutdown(socket.SHUT_RDWR)


def _late(answer: Callable[[Request], Answer], request: Request) -> None:
    """Do a request in the store it was sent to: the front may have another one by now."""
    time.sleep(0.02)
    try:
        answer(request)
    except ConnectionError:
        return
