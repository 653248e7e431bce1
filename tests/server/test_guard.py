"""The guard: whatever is not meant for this server, or not allowed, gets nothing."""

import socket
from urllib.parse import urlsplit
from urllib.request import urlopen

import pytest
from server.serving import Client, fill, serving

from eventstore import MemorySessionStorage, SessionManager
from eventstore.errors import ServingRefused
from eventstore.server import Server

PATHS = ["/", "/static/index.html", "/api/v1/health", "/api/v1/sessions", "/api/v1/sessions/s/stream", "/favicon.ico"]


@pytest.fixture
def client():  # type: ignore[no-untyped-def]
    with SessionManager(MemorySessionStorage()) as manager:
        fill(manager, "s", 1)
        with serving(manager) as found:
            yield found


@pytest.mark.parametrize("path", PATHS)
def test_only_the_names_of_this_server_are_answered(client: Client, path: str) -> None:
    port = client.port
    for host in (
        "evil.test",
        f"evil.test:{port}",
        f"127.0.0.1:{port + 1}",
        "127.0.0.1",
        f"127.0.0.1.evil.test:{port}",
        "",
    ):
        assert client.send("GET", path, headers={"Host": host})[0] in (400, 421), host
    for host in (f"localhost:{port}", f"LOCALHOST:{port}", f"[::1]:{port}"):
        assert client.send("GET", "/api/v1/health", headers={"Host": host})[0] == 200
    with socket.create_connection(("127.0.0.1", port)) as raw:
        raw.sendall(f"GET {path} HTTP/1.1\r\nHost: 127.0.0.1:{port}\r\nHost: evil.test\r\n\r\n".encode())
        assert raw.recv(100).split()[1] in (b"400", b"421")


@pytest.mark.parametrize("path", PATHS)
def test_pages_of_other_origins_get_nothing_even_with_the_token(client: Client, path: str) -> None:
    port = client.port
    for headers in (
        {"Origin": "null"},
        {"Origin": "https://evil.test"},
        {"Origin": f"http://127.0.0.1:{port + 1}"},
        {"Origin": f"https://127.0.0.1:{port}"},
        {"Sec-Fetch-Site": "cross-site"},
        {"Sec-Fetch-Site": "same-site"},
        {"Sec-Fetch-Site": "cross-site", "Sec-Fetch-Mode": "no-cors", "Sec-Fetch-Dest": "script"},
    ):
        assert client.send("GET", path, headers=headers)[0] == 403, headers


def test_a_link_from_elsewhere_opens_the_page_and_nothing_else(client: Client) -> None:
    link = {"Sec-Fetch-Site": "cross-site", "Sec-Fetch-Mode": "navigate", "Sec-Fetch-Dest": "document"}
    assert client.send("GET", "/", headers=link)[0] == 200
    assert client.send("GET", "/api/v1/sessions", headers=link)[0] == 403
    assert client.send("GET", "/", headers=link | {"Sec-Fetch-Dest": "iframe"})[0] == 403


def test_the_api_needs_the_token(client: Client) -> None:
    for path in ("/api/v1/sessions", "/api/v1/sessions/s", "/api/v1/openapi.json", "/api/v1/stream", "/api/nothing"):
        assert client.send("GET", path, token=False)[0] == 401
        assert client.send("GET", path, headers={"Authorization": "Bearer wrong"})[0] == 401
        assert client.send("GET", f"{path}?token={client.started.token}", token=False)[0] == 401
    assert "_server/PORT.json" in client.send("GET", "/api/v1/sessions", token=False)[2].decode()
    assert client.send("GET", "/api/v1/health", token=False)[2] == b'{"status":"ok"}'


def test_a_code_is_swapped_for_the_token_once(client: Client) -> None:
    code = client.started.page.partition("#code=")[2]
    status, _, body = client.send("POST", "/api/v1/login", {"code": code}, token=False)
    assert (status, client.started.token in body.decode()) == (200, True)
    assert client.send("POST", "/api/v1/login", {"code": code}, token=False)[0] == 401
    found = [client.send("POST", "/api/v1/login", {"code": f"guess{n}"}, token=False)[0] for n in range(25)]
    assert found[-1] == 429


def test_every_answer_forbids_the_browser_the_rest(client: Client) -> None:
    for path in ("/", "/static/index.html", "/api/v1/sessions", "/api/v1/none", "/static/none"):
        _, headers, _ = client.send("GET", path)
        policy = headers["content-security-policy"]
        assert "default-src 'none'" in policy
        assert "require-trusted-types-for 'script'" in policy
        assert "unsafe" not in policy
        assert headers["x-content-type-options"] == "nosniff"
        assert headers["referrer-policy"] == "no-referrer"
        assert "access-control-allow-origin" not in headers
        assert "set-cookie" not in headers
        assert "server" not in headers
        if path.startswith("/api"):
            assert headers["cache-control"] == "no-store"


def test_a_body_over_the_limit_is_refused() -> None:
    with SessionManager(MemorySessionStorage()) as manager, serving(manager, write=True) as client:
        headers = {"Content-Length": str(17 * 1024 * 1024), "Content-Type": "application/json"}
        with socket.create_connection(("127.0.0.1", client.port)) as raw:
            sent = {**client.headers, **headers, "Host": f"127.0.0.1:{client.port}"}
            head = "POST /api/v1/sessions HTTP/1.1\r\n" + "".join(f"{k}: {v}\r\n" for k, v in sent.items())
            raw.sendall(head.encode() + b"\r\n")
            assert raw.recv(100).split()[1] == b"413"


def test_another_address_needs_a_token_and_names() -> None:
    with SessionManager(MemorySessionStorage()) as manager:
        with pytest.raises(ServingRefused, match=r"not the loopback .*: give --token-file and --allow-host"):
            Server(manager, host="0.0.0.0", port=0)  # noqa: S104 - it is refused
        with serving(manager) as client, pytest.raises(ServingRefused, match="in use"):
            Server(manager, port=client.port)


@pytest.mark.parametrize("host", ["127.0.0.1", "127.0.0.2", "localhost", "::1"])
def test_the_address_that_is_told_is_the_one_that_answers(host: str) -> None:
    """At `::1` it told 127.0.0.1, where nothing listened."""
    with SessionManager(MemorySessionStorage()) as manager, serving(manager, host=host) as client:
        assert urlsplit(client.started.url).hostname == host
        with urlopen(f"{client.started.url}/api/v1/health", timeout=20) as answer:  # noqa: S310 - http
            assert answer.status == 200
