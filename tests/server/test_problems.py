"""What is answered to a wrong request: a problem with a status, that names the argument and what is allowed."""

import http.client
import json
from collections.abc import Iterator
from typing import Any

import pytest
from server.serving import Client, fill, serving

from eventstore import SessionManager
from eventstore.errors import SessionNotFound

LONG = "z" * 5000


@pytest.fixture
def client(manager: SessionManager) -> Iterator[Client]:
    fill(manager, "s", 1)
    with serving(manager, write=True) as found:
        yield found


def refused(client: Client, method: str, path: str, body: bytes | None = None, status: int = 422) -> str:
    """Send a request, and return the sentence of the problem that answers it."""
    connection = http.client.HTTPConnection("127.0.0.1", client.port, timeout=30)
    connection.request(method, f"/api/v1{path}", body, {**client.headers, "Content-Type": "application/json"})
    answer = connection.getresponse()
    found, kind = answer.read(), answer.getheader("content-type")
    connection.close()
    assert (answer.status, kind) == (status, "application/problem+json"), (method, path, answer.status, found)
    problem = json.loads(found)
    assert problem["status"] == status
    return str(problem["detail"])


def places(kind: dict[str, Any], components: dict[str, Any]) -> dict[str, Any]:
    return dict(components[kind["$ref"].rpartition("/")[2]]["properties"])


def test_every_parameter_and_field_is_named_where_it_is_wrong(client: Client) -> None:
    """Whatever is wrong: an unknown name, a type, a range. A long value is not repeated, and no sentence is that of a library."""
    document = client.get("/openapi.json")
    tried = 0
    for path, methods in document["paths"].items():
        path = path.removeprefix("/api/v1").format(session_id="s", seq="1", job_id="none")
        for method, operation in methods.items():
            schemas = {one["name"]: one["schema"] for one in operation["parameters"] if one["in"] == "query"}
            body = operation.get("requestBody")
            told = [(LONG[:30], refused(client, method.upper(), f"{path}?{LONG}=1", b"{}" if body else None))]
            for name, schema in schemas.items():
                if "string" not in json.dumps(schema) or "enum" in json.dumps(schema):
                    told.append((name, refused(client, method.upper(), f"{path}?{name}={LONG}")))
            fields = (
                places(body["content"]["application/json"]["schema"], document["components"]["schemas"]) if body else {}
            )
            for name in fields:
                if name != "value":  # takes any JSON value
                    asked = json.dumps({name: {LONG: [LONG]}}).encode()
                    told.append((name, refused(client, "POST", path, asked)))
            for name, detail in told:
                assert name in detail, detail
                assert len(detail) < 400
                assert not set("`$") & set(detail)
                assert detail.endswith("nothing was done")
            tried += len(told)
    assert tried > 90


@pytest.mark.parametrize(
    ("path", "detail"),
    [
        ("/sessions/s/timeline?limit=x", "parameter limit is not a whole number from 1 to 1000"),
        ("/sessions/s/timeline?limit=0", "parameter limit is not a whole number from 1 to 1000"),
        ("/sessions/s/timeline?dir=abc", "parameter dir is not one of back, fwd"),
        ("/sessions/s/timeline?after=-1", "parameter after is not a whole number of at least 0"),
        ("/sessions/s/timeline?after=1&after=2", "parameter 'after' was given 2 times"),
        ("/sessions/s?recorded=maybe", "parameter recorded is not true or false"),
        ("/sessions?status=null", "parameter status is not one of abandoned, active, completed, failed"),
        ("/sessions/s/timeline?after=null", "parameter after is not a whole number of at least 0"),
        ("/sessions/s/at", "parameter time is missing: it is a text"),
        ("/trash?a=1", "there is no parameter 'a': this takes none"),
        (
            "/sessions/s/next?kind=prompt&kind=zzz",
            "parameter kind[1] is not one of call, checkpoint, cut, end, error, fork, prompt, redaction",
        ),
        (
            "/sessions/s/export?kind=pdf",
            "parameter kind is not one of csv, events, html, md, otlp, report-html, report-md",
        ),
        ("/sessions/s/stream?x=1", "there is no parameter 'x': this takes after, types"),
    ],
)
def test_the_sentence_of_a_wrong_parameter(client: Client, path: str, detail: str) -> None:
    assert refused(client, "GET", path) == f"{detail}; nothing was done"


@pytest.mark.parametrize(
    ("path", "body", "detail"),
    [
        ("messages", b'{"role": "boss", "content": "x"}', "field role is not one of assistant, system, tool, user"),
        ("messages", b"{}", "field role is missing: it is one of assistant, system, tool, user"),
        ("usage", b'{"tokens": {"a": "b"}}', "field tokens[...] is not a whole number"),
        ("usage", b'{"cost": "x"}', "field cost is not a number"),
        ("data", b'{"key": "", "value": 1}', "field key is not a text that is not empty"),
        ("redact", b'{"seqs": []}', "field seqs is not a list of 1 to 1000, each a whole number of at least 1"),
        ("redact", b'{"seqs": [1, 0]}', "field seqs[1] is not a whole number of at least 1"),
        ("fork", b'{"at": [1]}', "field at is not a text or a whole number"),
        ("messages", b"[]", "the body is not a JSON object"),
        ("messages", b"{", "the body is not JSON"),
        ("messages", b'{"role": "\xff"}', "the body is not UTF-8"),
        (
            "messages",
            b'{"role": "user", "content": "\\\\ud83d \\ud83d\\ude00 \\ud83d"}',
            "a text in the body holds half of a surrogate pair, which is no character",
        ),
        ("messages", b'{"role": "user", "content": "\\\\ud83d \\ud83d\\ude00"', "the body is not JSON"),
        ("data", b'{"key": "k", "value": ' + b"[" * 100_000, "the body is nested too deeply"),
    ],
)
def test_the_sentence_of_a_wrong_body(client: Client, path: str, body: bytes, detail: str) -> None:
    assert refused(client, "POST", f"/sessions/s/{path}", body) == f"{detail}; nothing was done"


def test_a_method_that_a_path_does_not_take_is_told_which_it_takes(client: Client) -> None:
    for method in ("PUT", "PATCH", "DELETE", "OPTIONS", "BREW"):
        for path, allowed in (
            ("/sessions", "GET, HEAD, POST"),
            ("/sessions/s", "GET, HEAD"),
            ("/sessions/s/messages", "POST"),
            ("/sessions/s/export", "GET, HEAD"),
            ("/health", "GET, HEAD"),
        ):
            status, headers, body = client.send(method, f"/api/v1{path}")
            assert (status, headers["content-type"], headers["allow"]) == (405, "application/problem+json", allowed)
            assert allowed in json.loads(body)["detail"]
        refused(client, method, "/nothing", status=404)
    assert client.send("PUT", "/api/v1/jobs/1")[1]["allow"] == "DELETE, GET, HEAD"


def test_an_invalid_id_in_a_body_is_a_wrong_argument(client: Client, manager: SessionManager) -> None:
    for path, body in (("/sessions", {"session_id": "a/b"}), ("/sessions/s/fork", {"new_id": "_x"})):
        assert "invalid session id" in client.post(path, body, 422)["detail"]
    client.get("/sessions/_x", 404)
    client.get("/sessions/_x/export?kind=events", 404)
    client.get("/sessions/_x/stream", 404)
    assert client.get("/compare?a=s&b=_x", 422)["title"] == "InvalidSessionId"
    assert len(manager.list_sessions()) == 1


def test_what_does_not_exist_is_not_put_into_the_trash(client: Client) -> None:
    assert client.post("/sessions/nope/trash", {}, 404)["title"] == "SessionNotFound"
    assert client.post("/sessions/s/trash", {}) == {"trashed": True}
    client.post("/sessions/s/trash", {}, 404)


def test_a_plan_is_refused_where_it_could_not_be_carried_out(client: Client, manager: SessionManager) -> None:
    problem = client.post("/sessions/s/redact", {"seqs": [2, 99]}, 409)
    assert problem["title"] == "RedactionRefused"
    assert "event 99 of session 's' cannot be redacted: there is no such event" in problem["detail"]
    manager.redactions.redact("s", 2, "a secret")
    assert (
        "about the log itself"
        in client.post("/sessions/s/redact", {"seqs": [manager.head("s").version]}, 409)["detail"]
    )
    again = client.post("/sessions/s/redact", {"seqs": [2]})  # completes the steps that failed
    assert client.post("/sessions/s/redact", {"seqs": [2], "reason": "again", "plan": again["plan"]})["done"]


def test_a_fork_takes_a_number_of_events_as_a_number(client: Client) -> None:
    client.post("/sessions/s/fork", {"at": 2, "new_id": "number"}, 201)
    client.post("/sessions/s/fork", {"at": "2", "new_id": "digits"}, 201)
    assert client.get("/sessions/number")["ancestors"] == client.get("/sessions/digits")["ancestors"] == [["s", 2]]
    client.post("/sessions/s/fork", {"at": 99}, 422)


def test_before_its_first_event_a_session_is_not_missing(client: Client, manager: SessionManager) -> None:
    wanted = "session 's' had no event at that moment; nothing was done: give a later one"
    for path in ("", "/statistics", "/data"):
        for at in ("0", "2001-01-01T00:00:00Z"):
            assert client.get(f"/sessions/s{path}?at={at}", 422)["detail"] == wanted
        assert "not found" in client.get(f"/sessions/missing{path}?at=0", 404)["detail"]
    assert client.post("/sessions/s/fork", {"at": 0}, 422)["detail"] == wanted
    assert client.get("/sessions/s/timeline?at=0") == {"version": 0, "rows": []}
    assert manager.get_session("s", 0) is None
    assert manager.get_session_statistics("s", 0) is None
    for ask in (manager.data, manager.timeline, manager.conversation, manager.moments.figures, manager.fork_session):
        with pytest.raises(SessionNotFound, match="had no event at that moment") as found:
            list(ask("s", at=0))
        assert found.value.not_begun
