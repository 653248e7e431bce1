"""A redaction inside of texts: only the secret goes, and what was imported can still be exported."""

import json
from pathlib import Path

import pytest
from click.testing import CliRunner
from transcripts import answer, call, claude, lines, usage

from eventstore import FileSystemSessionStorage, Patterns, SessionManager, SessionStorage
from eventstore import events as e
from eventstore.cli.redaction import redact_command
from eventstore.exporters import export_conversation
from eventstore.exporters.transcript import export_transcript
from eventstore.importers.formats import FORMATS
from eventstore.importers.transcript import import_transcript
from eventstore.integrity import verify_session, verify_store

TOKEN = "ghp_" + "a1B2" * 9
MARK = "[redacted:github-token]"


def assert_whole(storage: SessionStorage) -> None:
    verdicts = [verify_session(storage, one) for one in storage.log.ids()]
    assert [finding for verdict in [*verdicts, verify_store(storage)] for finding in verdict.findings] == []


def told(manager: SessionManager, session_id: str = "s") -> list[tuple[str, str]]:
    session = manager.get_session(session_id)
    assert session is not None
    return [(one.role, one.content) for one in session.conversation]


def carry_out(manager: SessionManager, patterns: Patterns | None = None) -> None:
    plan = manager.redactions.plan(patterns)
    assert plan
    manager.redactions.carry_out(plan, "asked to", patterns, inside=True)
    assert manager.redactions.plan(patterns) == []


def test_only_the_secret_goes_and_the_conversation_keeps_its_order(manager: SessionManager) -> None:
    manager.create_session("s", f"use {TOKEN}", "ana", ["t"])
    manager.add_conversation_message("s", "user", "first", occurred_at="2026-01-01T00:00:00Z")
    manager.add_conversation_message("s", "user", f"my token is {TOKEN}, keep it", occurred_at="2026-01-02T00:00:00Z")
    manager.add_conversation_message("s", "assistant", "I will", occurred_at="2026-01-03T00:00:00Z")
    manager.set_data("s", "auth", {"token": TOKEN, "other": 1})
    with manager.invocation("s", "login", {"with": TOKEN, "user": "ana"}) as one:
        one.result = f"{TOKEN} is accepted"
    manager.record_usage("s", {"input": 5})
    before = manager.get_session_statistics("s")
    figures = manager.analytics("tool")
    carry_out(manager)
    assert told(manager) == [
        ("user", "first"), ("user", f"my token is {MARK}, keep it"), ("assistant", "I will"),
    ]  # fmt: skip
    session = manager.get_session("s")
    assert session is not None
    assert [one.timestamp.day for one in session.conversation] == [1, 2, 3]
    assert session.metadata.purpose == f"use {MARK}"
    assert (session.metadata.tags, session.metadata.user_id) == (["t"], "ana")
    assert manager.data("s") == {"auth": {"token": "[redacted:assigned-secret]", "other": 1}}
    assert not any(TOKEN.encode() in line for line in manager.storage.log.lines("s"))
    after = manager.get_session_statistics("s")
    assert before is not None
    assert after is not None
    same = ("message_count", "total_invocations", "tools_used", "token_usage", "updated_at", "duration_seconds")
    assert {name: after[name] for name in same} == {name: before[name] for name in same}
    assert [(row.key, row.messages, row.calls) for row in manager.analytics("tool")] == [
        (row.key, row.messages, row.calls) for row in figures
    ]
    assert len(manager.search("keep it")) == 1
    assert manager.search(TOKEN) == []
    calls = [one for one in manager.events("s") if isinstance(one, e.InvocationStarted | e.InvocationLinked)]
    assert f"{MARK} is accepted" in [getattr(one, "result", None) for one in calls]
    assert {"with": MARK, "user": "ana"} in [getattr(one, "input", None) for one in calls]
    assert_whole(manager.storage)


def test_a_name_that_was_changed_since_does_not_come_back(manager: SessionManager) -> None:
    manager.create_session("s", f"use {TOKEN}")
    manager.storage.append("s", [e.SessionUpdated(purpose="another", custom_metadata={"a": TOKEN, "b": TOKEN})])
    manager.storage.append("s", [e.SessionUpdated(custom_metadata={"a": "new"})])
    manager.add_conversation_message("s", "user", TOKEN)
    manager.clear_conversation("s")
    carry_out(manager)
    known = manager.storage.metadata("s")
    assert (known.purpose, known.custom_metadata) == ("another", {"a": "new", "b": MARK})
    assert told(manager) == []


def transcript() -> bytes:
    response = {"m_id": "msg_1", "m_model": "x", "requestId": "r1", "m_usage": usage(5, 1)}
    return lines(
        claude("user", "u1", None, 1, f"Deploy with {TOKEN} please"),
        claude("assistant", "a1", "u1", 2, [call("t1", {"command": "env", "password": "opensesame"})], **response),
        claude("user", "u2", "a1", 3, [answer("t1", f"DB_PASSWORD=hunter2\nTOKEN={TOKEN}\nHOME=/root")]),
        claude("assistant", "a2", "u2", 4, [{"type": "text", "text": "Done."}], m_usage=usage(6, 2), m_id="msg_2", m_model="x"),
        claude("user", "u3", "a1", 5, "no, go back"),
    )  # fmt: skip


@pytest.fixture
def imported(storage: SessionStorage, tmp_path: Path) -> SessionManager:
    path = tmp_path / "s.jsonl"
    path.write_bytes(transcript())
    import_transcript(storage, FORMATS["claude-code"], path)
    return SessionManager(storage)


def exported(storage: SessionStorage) -> bytes:
    return b"".join(export_transcript(storage, "s", "claude-code"))


def test_a_conversation_is_exported_in_its_order_and_once(manager: SessionManager) -> None:
    manager.create_session("s")
    for text in ("first", f"my token is {TOKEN}, keep it", "third"):
        manager.add_conversation_message("s", "user", text)
    with manager.invocation("s", "login", {"with": TOKEN}) as one:
        one.result = "accepted"
    manager.add_conversation_message("s", "user", "last")
    carry_out(manager)
    page = b"".join(export_conversation(manager, "s", "markdown")).decode()
    shown = ["first", f"my token is {MARK}, keep it", "third", f"with: {MARK}", "accepted", "last"]
    places = [page.index(text) for text in shown]
    assert places == sorted(places)
    assert [page.count(text) for text in shown] == [1] * len(shown)


def test_a_transcript_is_exported_with_only_the_secrets_replaced(imported: SessionManager, tmp_path: Path) -> None:
    storage, before = imported.storage, told(imported, "s")
    stats = imported.get_session_statistics("s")
    carry_out(imported)
    given, clean = exported(storage), transcript().decode()
    for secret, label in ((TOKEN, "github-token"), ("opensesame", "assigned-secret"), ("hunter2", "assigned-secret")):
        clean = clean.replace(f"TOKEN={secret}", "TOKEN=[redacted:assigned-secret]").replace(
            secret, f"[redacted:{label}]"
        )
    clean = clean.replace("TOKEN=[redacted:github-token]", "TOKEN=[redacted:assigned-secret]")
    assert [json.loads(line) for line in given.splitlines()] == [json.loads(line) for line in clean.splitlines()]
    assert [role for role, _ in told(imported, "s")] == [role for role, _ in before]
    after = imported.get_session_statistics("s")
    assert stats is not None
    assert after is not None
    for name in ("token_usage", "message_count", "total_invocations"):
        assert after[name] == stats[name]
    assert import_transcript(storage, FORMATS["claude-code"], tmp_path / "s.jsonl").events == 0
    assert exported(storage) == given
    assert_whole(storage)


def test_what_is_left_can_be_redacted_again_and_the_file_can_grow(imported: SessionManager, tmp_path: Path) -> None:
    carry_out(imported)
    carry_out(imported, Patterns({"name": "HOME=/root"}))
    given = exported(imported.storage)
    assert b"HOME=/root" not in given
    assert b"[redacted:name]" in given
    path = tmp_path / "s.jsonl"
    more = lines(claude("assistant", "a9", "u3", 9, [{"type": "text", "text": "as you like"}]))
    path.write_bytes(transcript() + more)
    import_transcript(imported.storage, FORMATS["claude-code"], path)
    assert exported(imported.storage) == given + more
    assert told(imported, "s")[-1] == ("assistant", "as you like")
    assert TOKEN not in str(told(imported, "s"))


def test_a_kill_between_the_two_steps_is_finished_by_the_next_call(
    imported: SessionManager, monkeypatch: pytest.MonkeyPatch
) -> None:
    plan = imported.redactions.plan()
    with monkeypatch.context() as patch:
        patch.setattr("eventstore.integrity.redaction.Redaction.run", _killed)
        with pytest.raises(KeyboardInterrupt):
            imported.redactions.carry_out(plan, "asked to", inside=True)
    version = imported.storage.log.head("s").version
    imported.redactions.carry_out(plan, "asked to", inside=True)
    kept = [one for one in imported.events("s") if one.id is not None and one.id.startswith("redacted.")]
    assert len(kept) == len({one.id for one in kept})
    assert imported.storage.log.head("s").version - version == len({one.seq for one in plan if one.seq}) or kept
    assert imported.redactions.plan() == []
    assert TOKEN.encode() not in exported(imported.storage)


def _killed(*_: object) -> None:
    raise KeyboardInterrupt


def test_the_command_keeps_the_rest_unless_it_is_told_otherwise(tmp_path: Path) -> None:
    store = ["--store", str(tmp_path)]
    with FileSystemSessionStorage(tmp_path / ".sessions", tmp_path / ".history") as storage:
        manager = SessionManager(storage)
        for name in "ab":
            manager.create_session(name)
            manager.add_conversation_message(name, "user", f"take {TOKEN} with you")
    run, ask = CliRunner().invoke, ["--secrets", "--yes", "--reason", "asked to", *store]
    assert run(redact_command, ["a", *ask]).exit_code == 0
    assert run(redact_command, ["b", "--whole", *ask]).exit_code == 0
    with FileSystemSessionStorage(tmp_path / ".sessions", tmp_path / ".history") as storage:
        manager = SessionManager(storage)
        assert told(manager, "a") == [("user", f"take {MARK} with you")]
        assert told(manager, "b") == []


def test_a_title_and_tags_keep_their_time_and_lose_the_secret(manager: SessionManager) -> None:
    manager.create_session("s", f"use {TOKEN}", tags=["t", f"tag {TOKEN}"], occurred_at="2026-01-01T00:00:00Z")
    manager.add_conversation_message("s", "user", "hello", occurred_at="2026-01-02T00:00:00Z")
    manager.set_data("s", "auth", TOKEN, occurred_at="2026-01-02T00:00:00Z")
    before = manager.storage.metadata("s")
    carry_out(manager)
    after = manager.storage.metadata("s")
    assert (after.purpose, after.tags) == (f"use {MARK}", ["t", f"tag {MARK}"])
    assert (after.updated_at, after.created_at) == (before.updated_at, before.created_at)
    assert manager.storage.fold("s").data["auth"] == MARK
    assert_whole(manager.storage)


def test_a_session_whose_title_loses_a_secret_is_found_by_its_external_key(manager: SessionManager) -> None:
    """Frameworks find their sessions by it."""
    manager.create_session("s", f"use {TOKEN}", external_key="acme/1")
    manager.fork_session("s", new_id="f")
    carry_out(manager)
    assert [one.session_id for one in manager.page_sessions(external_key="acme/1").sessions] == ["s"]
    assert manager.storage.metadata("f").external_key is None
    assert_whole(manager.storage)
