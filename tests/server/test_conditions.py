"""`If-Match` and `Idempotency-Key`: a route honours them, or refuses them and does nothing."""

import json
from collections.abc import Iterator

import pytest
from server.serving import Client, fill, serving

from eventstore import SessionManager

KEY, MATCH = "Idempotency-Key", "If-Match"
BODIES = {
    "/sessions": {"session_id": "new"},
    "/sessions/s/messages": {"role": "user", "content": "x"},
    "/sessions/s/usage": {"tokens": {"input": 5}},
    "/sessions/s/data": {"key": "k", "value": 1},
    "/sessions/s/fork": {"new_id": "branch"},
    "/sessions/s/complete": {},
    "/sessions/s/pin": {},
    "/sessions/s/trash": {},
    "/sessions/s/restore": {},
    "/sessions/s/redact": {"seqs": [2]},
    "/jobs": {"kind": "verify", "session_ids": ["s"]},
}


@pytest.fixture
def client(manager: SessionManager) -> Iterator[Client]:
    fill(manager, "s", 1)
    with serving(manager, write=True) as found:
        yield found


def ask(client: Client, path: str, headers: dict[str, str], body: object = None) -> tuple[int, dict[str, object]]:
    status, _, answer = client.send("POST", f"/api/v1{path}", BODIES[path] if body is None else body, headers)
    return status, json.loads(answer)


def test_each_route_honours_the_headers_that_the_document_lists_for_it_and_refuses_the_others(
    client: Client, manager: SessionManager
) -> None:
    """With `If-Match` of another version nothing is done; with a key that was used, nothing more."""
    paths = client.get("/openapi.json")["paths"]
    before = manager.head("s"), manager.list_sessions(), manager.trash.list()
    posts = {path: one["post"] for path, one in paths.items() if "post" in one}
    assert {path.replace("{session_id}", "s") for path in posts} == {f"/api/v1{path}" for path in BODIES}
    taken: dict[str, list[str]] = {KEY: [], MATCH: []}
    for path, operation in posts.items():
        path = path.removeprefix("/api/v1").replace("{session_id}", "s")
        listed = {one["name"] for one in operation["parameters"] if one["in"] == "header"}
        for name, value in ((MATCH, '"77"'), (KEY, "k")):
            if name in listed:
                taken[name].append(path)
                if name == KEY:
                    continue
            status, problem = ask(client, path, {name: value})
            assert (status, problem["title"]) == ((409, "VersionConflict") if name in listed else (422, "Wrong header"))
            assert "nothing was" in str(problem["detail"])
    assert before == (manager.head("s"), manager.list_sessions(), manager.trash.list())
    for path in taken[KEY]:
        first, again = ask(client, path, {KEY: path}), ask(client, path, {KEY: path})
        assert first[0] == again[0] in (200, 201)
        assert first[1] | {"repeated": True} == again[1] | {"repeated": True}
    assert len(taken[KEY]) == len(taken[MATCH]) == 6
    assert manager.head("s").version == before[0].version + 5


def test_a_redaction_is_not_carried_out_at_another_version(client: Client, manager: SessionManager) -> None:
    path, version = "/sessions/s/redact", manager.head("s").version
    plan = ask(client, path, {MATCH: f'"{version}"'})[1]["plan"]
    body = {"seqs": [2], "plan": plan, "reason": "a secret"}
    status, problem = ask(client, path, {MATCH: '"3"'}, body)
    assert (status, problem["title"]) == (409, "VersionConflict")
    assert not client.get("/sessions/s/events/2")["event"].get("redacted")
    assert ask(client, path, {MATCH: f'"{version}"'}, body)[1]["done"]


def test_a_key_creates_a_session_once_or_is_refused(client: Client, manager: SessionManager) -> None:
    status, problem = ask(client, "/sessions", {KEY: "k"}, {})
    assert (status, problem["title"]) == (422, "Wrong header")
    assert "session_id" in str(problem["detail"])
    assert len(manager.list_sessions()) == 1
    ask(client, "/sessions", {KEY: "k"})
    assert ask(client, "/sessions", {KEY: "other"})[0] == 409


def test_what_only_reads_refuses_them_too(client: Client) -> None:
    for path in ("/sessions/s", "/sessions/s/export?kind=events", "/sessions/s/stream", "/stream"):
        for name in (KEY, MATCH):
            status, headers, body = client.send("GET", f"/api/v1{path}", headers={name: '"1"'})
            assert (status, headers["content-type"]) == (422, "application/problem+json"), body


@pytest.mark.parametrize("name", [KEY, MATCH])
def test_a_header_that_is_given_twice_is_refused(client: Client, manager: SessionManager, name: str) -> None:
    before = manager.head("s")
    status, problem = ask(client, "/sessions/s/messages", {name: f'"{before.version}"', name.lower(): '"1"'})
    assert (status, problem["title"]) == (422, "Wrong header")
    assert f"{name} is given more than once; nothing was done" in str(problem["detail"])
    assert manager.head("s") == before


def test_a_redaction_drops_what_jobs_have_found(client: Client, manager: SessionManager) -> None:
    job = client.post("/jobs", {"kind": "plan_redactions", "session_ids": ["s"]}, 202)
    while (found := client.get(f"/jobs/{job['id']}"))["state"] in ("waiting", "running"):
        pass
    assert found["state"] == "done"
    plan = client.post("/sessions/s/redact", {"seqs": [2]})["plan"]
    client.get(f"/jobs/{job['id']}")
    client.post("/sessions/s/redact", {"seqs": [2], "plan": plan, "reason": "a secret"})
    assert "at a redaction" in client.get(f"/jobs/{job['id']}", 404)["detail"]
