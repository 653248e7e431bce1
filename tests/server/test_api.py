"""The API, asked over HTTP: it answers what the manager answers, on both backends."""

import errno
import json
import threading
from collections.abc import Callable
from itertools import count
from pathlib import Path
from typing import Any
from urllib.parse import quote

import pytest
from click.testing import CliRunner
from server.serving import fill, serving

from eventstore import SessionManager, open_store
from eventstore.cli.transcript import export_command
from eventstore.errors import ReadRefused
from eventstore.events import MessageAdded, SessionCreated
from eventstore.exporters import export_otlp, export_table
from eventstore.integrity import SigningKey, Verdict, verify_consistency, verify_inclusion
from eventstore.server import listing


def test_every_reading_route_answers_what_the_manager_does(manager: SessionManager) -> None:
    fill(manager, "s")
    manager.fork_session("s", 50, "f")
    manager.add_conversation_message("f", "user", "another way")
    with serving(manager) as client:
        page = client.get("/sessions?limit=1")
        assert page["total"] == 2
        more = client.get(f"/sessions?limit=1&cursor={page['cursor']}")
        assert {page["sessions"][0]["session_id"], more["sessions"][0]["session_id"]} == {"s", "f"}
        assert client.get(f"/sessions?limit=1&cursor={more['previous']}") == page
        assert client.get("/sessions?user=ana&status=completed")["total"] == 0
        about = client.get("/sessions/s?at=52")
        assert (about["version"], about["head"]) == (52, 152)
        assert about["figures"] == manager.get_session_statistics("s", 52)
        assert client.get("/sessions/f")["ancestors"] == [["s", 50]]
        rows = client.get("/sessions/s/timeline?after=10&limit=5")["rows"]
        assert [row["seq"] for row in rows] == [11, 12, 13, 14, 15]
        assert [row.get("tool") for row in rows] == [None, None, "grep", "grep", "grep"]
        back = client.get("/sessions/s/timeline?after=10&limit=2&dir=back&tool=grep&role=tool")["rows"]
        assert [row["seq"] for row in back] == [5]
        assert client.get("/sessions/s/timeline?limit=2&kind=error&types=invocation.linked")["rows"][0]["failed"]
        event = client.get("/sessions/s/events/2")
        assert event["event"]["content"] == "ask 0"
        assert "salt" not in event["event"]
        density = client.get("/sessions/s/density?buckets=10")
        assert sum(one["messages"] for one in density["buckets"]) == 90
        assert density["markers"]["prompt"][:2] == [2, 7]
        when = manager.get_session("s", 20).metadata.updated_at.isoformat()  # type: ignore[union-attr]
        assert client.get(f"/sessions/s/at?time={quote(when)}")["version"] >= 20
        assert client.get("/sessions/s/statistics?at=9")["values"] == manager.get_session_statistics("s", 9)
        assert client.get("/sessions/s/data")["values"] == {"mood": {"now": "good"}}
        assert client.get("/sessions/s/data?at=9")["values"] == {}
        calls = client.get("/sessions/s/calls?limit=2&at=30")["calls"]
        assert [one["call"]["invocation_id"] for one in calls] == ["c4", "c5"]
        talk = client.get("/sessions/s/conversation?limit=3&at=20")
        assert (talk["total"], talk["first"]) == (12, 9)
        assert client.get("/sessions/s/conversation?around=12&limit=4")["messages"][1]["seq"] == 12
        assert client.get("/sessions/s/find?text=NEEDLE&limit=1")["seqs"] == [5]
        assert client.get("/sessions/s/next?start=2&kind=prompt")["seq"] == 7
        assert client.get("/sessions/s/next?start=7&kind=prompt&dir=back")["seq"] == 2
        diff = client.get("/sessions/s/diff?a=150&b=152")
        assert diff["total"] == len(manager.diff("s", 150, 152))
        proof = client.get("/sessions/s/proof")
        assert (proof["version"], proof["hash"]) == (152, manager.head("s").hash)
        tree = client.get("/sessions/f/forks")
        assert (tree["root"], [one["session_id"] for one in tree["forks"]]) == ("s", ["s", "f"])
        compared = client.get("/compare?a=s&b=f")
        assert (compared["common"]["version"], compared["divergence"]) == (50, 51)
        assert [side["rows"][0]["seq"] for side in compared["sides"]] == [51, 51]
        hits = client.get("/search?text=needle&limit=3")
        assert len(hits["hits"]) == 3
        assert "grep" in {row["key"] for row in client.get("/analytics?by=tool")["rows"]}
        assert client.get("/trash") == {"sessions": []}
        assert client.get("/templates") == {"templates": []}
        assert client.get("/about")["writable"] is False


def test_the_last_rows_come_without_a_place_to_begin_at(manager: SessionManager) -> None:
    fill(manager, "s", 5)
    with serving(manager) as client:
        rows = client.get("/sessions/s/timeline?dir=back&limit=3")["rows"]
        version = manager.head("s").version
        assert [one["seq"] for one in rows] == [version - 2, version - 1, version]
        earlier = client.get("/sessions/s/timeline?dir=back&limit=3&at=9")["rows"]
        assert [one["seq"] for one in earlier] == [7, 8, 9]
        for path in ("/sessions/s/stream?type=message", "/stream?users=ana", "/sessions/s/export?kind=pdf"):
            problem = client.get(path, 422)
            assert problem["title"] == "Wrong argument"


def test_problems_have_a_status_and_our_sentence(manager: SessionManager) -> None:
    fill(manager, "s", 1)
    with serving(manager) as client:
        for path, status in (
            ("/sessions/none", 404),
            ("/sessions/..%2f_store", 404),
            ("/sessions/_store", 404),
            ("/sessions/s?at=99", 422),
            ("/sessions/s?at=yesterday", 422),
            ("/sessions/s?nonsense=1", 422),
            ("/sessions/s/timeline?limit=0", 422),
            ("/sessions/s/timeline?limit=100000", 422),
            ("/sessions/s/events/99", 404),
            ("/sessions?cursor=x", 422),
            ("/nothing", 404),
            ("/jobs/none", 404),
        ):
            found, headers, body = client.send("GET", f"/api/v1{path}")
            assert found == status, (path, body)
            assert headers["content-type"] == "application/problem+json"
            problem = json.loads(body)
            assert problem["status"] == status
            assert problem["detail"]
        for path in ("/sessions", "/sessions/s/messages"):
            found, headers, body = client.send("POST", f"/api/v1{path}", {})
            assert (found, headers["content-type"]) == (403, "application/problem+json")
            assert "--write" in json.loads(body)["detail"]
        assert client.send("POST", "/api/v1/nothing", {})[0] == 404


def test_changes_need_write_and_follow_versions_and_keys(manager: SessionManager) -> None:
    fill(manager, "s", 1)
    with serving(manager, write=True) as client:
        made = client.post("/sessions", {"session_id": "n", "purpose": "new"}, 201)
        assert made == {"session_id": "n", "version": 1}
        client.post("/sessions", {"session_id": "n"}, 409)
        message = {"role": "user", "content": "hello"}
        first = client.post("/sessions/n/messages", message, Idempotency_Key="k", If_Match='"1"')
        again = client.post("/sessions/n/messages", message, Idempotency_Key="k")
        assert (first["first"], again["first"], again["repeated"]) == (2, 2, True)
        assert client.post("/sessions/n/messages", message, 409, If_Match='"1"')["title"] == "VersionConflict"
        client.post("/sessions/n/messages", {"role": "boss", "content": "x"}, 422)
        client.post("/sessions/n/usage", {"tokens": {"input": 5}, "cost": 0.1, "model": "m"})
        client.post("/sessions/n/data", {"key": "k", "value": [1]})
        assert client.post("/sessions/n/fork", {"at": "2", "new_id": "m"}, 201)["version"] == 3
        client.post("/sessions/n/pin", {})
        client.post("/sessions/n/complete", {"status": "failed", "reason": "stuck"})
        plan = client.post("/sessions/n/redact", {"seqs": [2]})
        assert not plan["done"]
        client.post("/sessions/n/redact", {"seqs": [2], "plan": "0" * 64, "reason": "x"}, 409)
        client.post("/sessions/n/redact", {"seqs": [2], "plan": plan["plan"]}, 422)
        done = client.post("/sessions/n/redact", {"seqs": [2], "plan": plan["plan"], "reason": "a secret"})
        assert done["done"]
        assert client.get("/sessions/n/events/2")["event"]["redacted"]
        assert client.get("/sessions/n/proof")["redactions"][0]["reason"] == "a secret"
        assert client.post("/sessions/s/trash", {})["trashed"]
        assert len(client.get("/trash")["sessions"]) == 1
        assert client.post("/sessions/s/restore", {})["restored"]
        status, _, body = client.send("POST", "/api/v1/sessions", headers={"Content-Type": "text/plain"})
        assert status == 415, body


def test_a_job_verifies_and_says_how_far_it_is(manager: SessionManager) -> None:
    fill(manager, "s", 3)
    with serving(manager) as client:
        job = client.post("/jobs", {"kind": "verify", "session_ids": ["s"]}, 202)
        while job["state"] in ("waiting", "running"):
            job = client.get(f"/jobs/{job['id']}")
        assert job["state"] == "done", job
        assert job["result"][0]["outcome"] == "whole"
        assert job["done"] == job["total"] == manager.head("s").version
        assert client.send("DELETE", f"/api/v1/jobs/{job['id']}")[0] == 200


def test_a_job_is_cancelled_inside_of_a_session(manager: SessionManager, monkeypatch: pytest.MonkeyPatch) -> None:
    """The verification of a long session says from time to time how far it is, and ends there."""
    fill(manager, "s", 3)
    reached = threading.Event()

    def verify(storage: object, session_id: str, on_read: Callable[[int], None]) -> Verdict:
        for events in count(1):
            on_read(events)
            reached.set()
        raise AssertionError

    monkeypatch.setattr(listing, "verify_session", verify)
    with serving(manager) as client:
        job = client.post("/jobs", {"kind": "verify", "session_ids": ["s"]}, 202)
        assert reached.wait(30)
        client.send("DELETE", f"/api/v1/jobs/{job['id']}")
        while job["state"] in ("waiting", "running"):
            job = client.get(f"/jobs/{job['id']}")
        assert job["state"] == "cancelled"


def test_exports_are_attachments_that_no_browser_shows(manager: SessionManager) -> None:
    fill(manager, "s", 2)
    with serving(manager) as client:
        for kind in ("html", "md", "report-html", "report-md", "events"):
            status, headers, body = client.send("GET", f"/api/v1/sessions/s/export?kind={kind}")
            assert status == 200
            assert headers["content-disposition"].startswith("attachment")
            assert headers["content-security-policy"].startswith("sandbox")
            assert b"ask 0" in body
            assert b'"salt"' not in body


def test_pages_and_conversations_are_the_files_of_the_command(tmp_path: Path) -> None:
    with SessionManager(open_store((tmp_path / "store").as_uri())) as manager, serving(manager) as client:
        fill(manager, "s", 2)
        for kind, form in (("html", "html"), ("md", "markdown")):
            name = tmp_path / kind
            words = [form, "s", "--store", str(tmp_path / "store"), "-o", str(name)]
            CliRunner().invoke(export_command, words, catch_exceptions=False)
            assert client.send("GET", f"/api/v1/sessions/s/export?kind={kind}")[2] == name.read_bytes()


def test_a_report_has_what_sub_agents_did(manager: SessionManager) -> None:
    fill(manager, "s", 2)
    with manager.invocation("s", "Task", {}) as call:
        custom = {"parent_session": "s", "parent_call": call.invocation_id}
        said = MessageAdded(role="user", content="dig deeper")
        manager.append("below", [said], create=SessionCreated(custom_metadata=custom), expected_version=0)
    with serving(manager) as client:
        for kind in ("report-html", "report-md"):
            assert b"dig deeper" in client.send("GET", f"/api/v1/sessions/s/export?kind={kind}")[2]


def test_traces_and_tables_are_what_the_exporters_write(manager: SessionManager) -> None:
    fill(manager, "s", 2)
    with serving(manager) as client:
        for query, wanted in (
            ("kind=otlp", export_otlp(manager, "s")),
            ("kind=otlp&content=true", export_otlp(manager, "s", content=True)),
            ("kind=csv", export_table(manager, "s")),
            ("kind=csv&table=calls", export_table(manager, "s", "calls")),
        ):
            status, headers, body = client.send("GET", f"/api/v1/sessions/s/export?{query}")
            assert (status, body) == (200, b"".join(wanted))
            assert headers["content-disposition"].startswith("attachment")


def test_proofs_convince_a_stranger(manager: SessionManager) -> None:
    fill(manager, "s", 2)
    key = SigningKey.generate("audit.example.com")
    note = manager.proofs.sign_checkpoint("s", key)
    with serving(manager) as client:
        assert client.get("/sessions/s/checkpoints")["notes"] == [note]
        found = client.get("/sessions/s/inclusion?seq=3")["proof"]
        hashes = [bytes.fromhex(one) for one in found["hashes"]]
        leaf, root = bytes.fromhex(found["leaf"]), bytes.fromhex(found["root"])
        assert verify_inclusion(leaf, found["index"], found["size"], hashes, root)
        assert not verify_inclusion(leaf, found["index"] + 1, found["size"], hashes, root)
        found = client.get("/sessions/s/consistency?old=4&new=9")["proof"]
        roots = bytes.fromhex(found["old_root"]), bytes.fromhex(found["new_root"])
        assert verify_consistency(4, 9, *roots, [bytes.fromhex(one) for one in found["hashes"]])
        assert client.get("/sessions/s/inclusion?seq=999", 422)["title"] == "NoSuchMoment"
        client.get("/sessions/s/inclusion?seq=0", 422)


def test_the_tree_of_a_moment_and_the_events_of_the_store(manager: SessionManager) -> None:
    fill(manager, "s", 4)
    with serving(manager) as client:
        assert client.get("/store/events")["events"][0]["session_id"] == "s"
        assert client.get("/store/events?after=1") == {"version": 1, "events": []}
        for at in (5, 10, manager.head("s").version):
            answer = client.get(f"/sessions/s/tree?at={at}")
            assert (answer["version"], set(answer["links"])) == (at, set(manager.tree("s", at)))
            assert not any(target.startswith("/") for target in answer["links"].values())


def test_all_sessions_as_of_a_time_are_listed_by_a_job(manager: SessionManager) -> None:
    for name in ("early", "late"):
        manager.create_session(name, "p")
    manager.add_conversation_message("early", "user", "later")
    then = manager.get_session("early", 1)
    assert then is not None
    with serving(manager) as client:
        asked = {"kind": "list_at", "at": then.metadata.updated_at.isoformat()}
        job = client.post("/jobs", asked, 202)["id"]
        while (state := client.get(f"/jobs/{job}"))["state"] in ("waiting", "running"):
            pass
        assert [(one["session_id"], one["updated_at"]) for one in state["result"]] == [
            ("early", then.metadata.to_dict()["updated_at"])
        ]
        for wrong in ({"kind": "list_at"}, {"kind": "verify"}, {"kind": "verify", "session_ids": ["early"], "at": "1"}):
            assert client.post("/jobs", wrong, 422)["title"] == "Wrong argument"


def test_the_openapi_document_describes_every_route(manager: SessionManager) -> None:
    """Each answer of the tour fits the schema that the document gives for it."""
    fill(manager, "s", 2)
    with serving(manager, write=True) as client:
        found = client.get("/openapi.json")
        assert found["openapi"] == "3.1.0"
        paths = found["paths"]
        assert len(paths) > 30
        for path, methods in paths.items():
            for operation in methods.values():
                assert operation["summary"], path
                names = {one["name"] for one in operation["parameters"] if one["in"] == "path"}
                assert names == {part[1:-1] for part in path.split("/") if part.startswith("{")}
        text = json.dumps(found)
        references = {part.split('"')[0] for part in text.split("#/components/schemas/")[1:]}
        assert references <= set(found["components"]["schemas"])
        schema: dict[str, Any] = found["components"]["schemas"]["Timeline"]
        assert set(client.get("/sessions/s/timeline")) == set(schema["properties"])


def test_a_fork_that_was_made_and_cannot_be_read_is_not_reported_as_unchanged(
    manager: SessionManager, monkeypatch: pytest.MonkeyPatch
) -> None:
    fill(manager, "s", 1)

    def fail(session_id: str) -> None:
        raise ReadRefused(session_id, "a file", errno.EIO)

    with serving(manager, write=True) as client:
        monkeypatch.setattr(manager, "head", fail)
        problem = client.post("/sessions/s/fork", {"new_id": "f"}, status=503)
        assert problem["title"] == "OutcomeUnknown"
