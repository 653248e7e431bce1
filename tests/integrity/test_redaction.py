"""Redaction: a secret is in no byte of the store, and what was removed, when, why and by whom stays."""

import json
import subprocess
import sys
from contextlib import suppress
from datetime import UTC, datetime
from pathlib import Path

import pytest
from msgspec.structs import replace

from eventstore import (
    FileSystemSessionStorage,
    MemorySessionStorage,
    Patterns,
    SessionManager,
    SessionNotFound,
    SessionStorage,
)
from eventstore import events as e
from eventstore.errors import ExportRefused, LogTampered, RedactionRefused
from eventstore.exporters.transcript import export_transcript
from eventstore.importers.formats import FORMATS
from eventstore.importers.transcript import import_transcript
from eventstore.integrity import verify_session, verify_store
from eventstore.record import tombstone

SECRET = "hunter2-the-secret"
TOKEN = "ghp_" + "a1B2" * 9


def occurrences(root: Path, secret: str = SECRET) -> list[str]:
    """Name the files below a folder that hold a text, in whatever part of them."""
    forms = {secret.encode(), secret.encode("utf-16-le")}
    return [
        str(path.relative_to(root))
        for path in sorted(root.rglob("*"))
        if path.is_file() and not path.is_symlink() and any(form in path.read_bytes() for form in forms)
    ]


def assert_whole(storage: SessionStorage) -> None:
    verdicts = [verify_session(storage, one) for one in storage.log.ids()]
    assert [finding for verdict in [*verdicts, verify_store(storage)] for finding in verdict.findings] == []


@pytest.fixture
def told(manager: SessionManager) -> SessionManager:
    """Give a manager with a session that has a secret in several places."""
    manager.create_session("s", purpose="find it", tags=["t"])
    manager.add_conversation_message("s", "user", f"my password is {SECRET}")
    with manager.invocation("s", "login", {"password": SECRET}) as call:
        call.result = f"{SECRET} is accepted"
    manager.add_conversation_message("s", "tool", f"got {SECRET}", "login", call.invocation_id)
    manager.set_data("s", "auth", {"deep": [SECRET]})
    manager.add_conversation_message("s", "assistant", "done")
    return manager


def seqs_with(manager: SessionManager, session_id: str = "s", secret: str = SECRET) -> list[int]:
    lines = manager.storage.log.lines(session_id)
    return [seq for seq, line in enumerate(lines, 1) if secret.encode() in line]


def test_a_redacted_secret_is_in_no_byte_of_the_store(told: SessionManager, tmp_path: Path) -> None:
    told.search("password")
    told.list_sessions()
    told.flush()
    before = told.get_session_statistics("s")
    done = told.redactions.redact("s", seqs_with(told), "a password", by={"actor": "ana"})
    told.flush()
    assert occurrences(tmp_path) == []
    assert done.records
    assert done.left == ()
    assert told.search(SECRET) == []
    assert "done" in [message.content for message in told.conversation("s")]
    assert told.data("s") == {}
    after = told.get_session_statistics("s")
    assert before is not None
    assert after is not None
    for name in ("total_invocations", "tools_used", "total_duration_ms"):
        assert after[name] == before[name]
    assert_whole(told.storage)
    last = list(told.events("s"))[-1]
    assert isinstance(last, e.EventRedacted)
    assert (last.reason, last.by) == ("a password", {"actor": "ana"})


def test_what_was_made_in_another_program_is_made_anew_there(files: FileSystemSessionStorage, tmp_path: Path) -> None:
    one = SessionManager(files)
    one.create_session("s")
    one.add_conversation_message("s", "user", SECRET)
    with FileSystemSessionStorage(tmp_path / ".sessions", tmp_path / ".history", fsync="no") as storage:
        other = SessionManager(storage)
        assert len(other.conversation("s")) == 1
        assert len(other.search(SECRET)) == 1
        one.redactions.redact("s", 2, "a secret")
        assert other.conversation("s") == []
        assert other.search(SECRET) == []
        other.add_conversation_message("s", "user", "on")
        other.flush()
    assert occurrences(tmp_path) == []


def test_forks_parents_templates_and_the_trash_are_redacted_too(told: SessionManager, tmp_path: Path) -> None:
    secret = seqs_with(told)
    told.fork_session("s", new_id="child")
    told.fork_session("child", new_id="grandchild")
    told.fork_session("s", at=secret[0], new_id="early")
    told.fork_session("s", new_id="thrown")
    told.templates.save("shape", "s")
    told.create_session("made", template="shape")
    told.trash.put("thrown")
    told.storage.flush()
    done = told.redactions.redact("child", secret, "a password")
    told.flush()
    assert set(done.logs) == {"s", "child", "grandchild", "early", "thrown", "_template.shape", "made"}
    assert occurrences(tmp_path) == []
    told.trash.restore("thrown")
    told.delete_session("s")
    assert_whole(told.storage)
    for one in ("child", "grandchild", "early", "thrown", "made"):
        assert any(isinstance(event, e.RedactedEvent) for event in told.events(one))
        assert SECRET not in str(told.get_session(one))
    assert SECRET not in str(told.templates.get("shape"))


def test_copies_whose_parent_is_gone_are_found(told: SessionManager, tmp_path: Path) -> None:
    secret = seqs_with(told)
    told.fork_session("s", new_id="a")
    told.fork_session("a", new_id="b")
    told.fork_session("s", new_id="c")
    told.delete_session("a")
    told.delete_session("s")
    told.redactions.redact("b", secret, "a password")
    told.flush()
    assert not seqs_with(told, "c")
    assert occurrences(tmp_path) == []
    assert_whole(told.storage)


def test_a_session_in_the_trash_can_be_redacted_as_part_of_a_plan(manager: SessionManager, tmp_path: Path) -> None:
    manager.create_session("s")
    manager.add_conversation_message("s", "user", f"use {TOKEN}")
    manager.flush()
    manager.trash.put("s")
    (found,) = manager.redactions.plan()
    assert (found.session_id, found.seq, found.labels, found.trashed) == ("s", 2, ("github-token",), "s")
    manager.redactions.carry_out([found], "a token")
    assert occurrences(tmp_path, TOKEN) == []
    manager.trash.restore("s")
    assert_whole(manager.storage)


def test_a_plan_finds_secrets_in_events_and_in_records_and_changes_nothing(
    manager: SessionManager, tmp_path: Path
) -> None:
    manager.create_session("s", purpose=f"use {TOKEN}")
    with manager.invocation("s", "env") as call:
        call.result = {"GITHUB": TOKEN, "kept": "this"}
    manager.create_session("clean")
    plan = manager.redactions.plan()
    assert [(one.session_id, one.seq, one.type) for one in plan] == [
        ("s", 1, "session.created"),
        ("s", 3, "invocation.linked"),
    ]
    assert manager.head("s").version == 3
    manager.redactions.carry_out(plan, "tokens")
    manager.flush()
    assert occurrences(tmp_path, TOKEN) == []
    assert manager.redactions.plan() == []
    history = manager.tool_history
    assert history is not None
    assert history.read(next(tmp_path.glob(".history/*"))).result == {
        "GITHUB": "[redacted:github-token]",
        "kept": "this",
    }


def test_what_repairs_have_kept_is_scrubbed(files: FileSystemSessionStorage, tmp_path: Path) -> None:
    manager = SessionManager(files)
    manager.create_session("s")
    manager.add_conversation_message("s", "user", SECRET)
    with (tmp_path / ".sessions" / "s" / "events.jsonl").open("ab") as stream:
        stream.write(b'{"type":"message.added","content":"' + SECRET.encode())
    manager.add_conversation_message("s", "user", "on")
    assert any("quarantine" in one for one in occurrences(tmp_path))
    manager.redactions.redact("s", 2, "a secret")
    manager.flush()
    assert occurrences(tmp_path) == []


def test_files_that_a_tool_left_are_named_not_changed(told: SessionManager, tmp_path: Path) -> None:
    folder = next(tmp_path.glob(".history/*"))
    (folder / "output.txt").write_text(SECRET)
    done = told.redactions.redact("s", seqs_with(told), "a password")
    assert done.left == (f"{folder.name}/output.txt",)
    assert (folder / "output.txt").read_text() == SECRET


def test_redacting_again_goes_over_it_again(told: SessionManager) -> None:
    (first, *_) = seqs_with(told)
    told.redactions.redact("s", first, "a password")
    version = told.head("s").version
    again = told.redactions.redact("s", first, "another reason")
    assert (again.seqs, again.logs) == ((), ())
    assert told.head("s").version == version


def test_a_redaction_is_refused_without_a_reason_an_event_or_a_text(told: SessionManager) -> None:
    version = told.head("s").version
    told.clear_data("s")
    for seq, reason in ((2, " "), (99, "why"), (0, "why"), (version + 1, "why")):
        with pytest.raises(RedactionRefused):
            told.redactions.redact("s", [2, seq], reason)
    with pytest.raises(RedactionRefused, match="no reason was given; nothing was changed: give one"):
        told.redactions.redact("s", 2, "")
    with pytest.raises(SessionNotFound):
        told.redactions.redact("nope", 1, "why")
    assert told.head("s").version == version + 1


def test_the_line_that_an_event_was_imported_from_goes_with_it(manager: SessionManager, tmp_path: Path) -> None:
    manager.create_session("s")
    line = e.Origin("codex", line=f'{{"text":"{SECRET}"}}\n')
    said = e.MessageAdded(role="user", content=SECRET)
    manager.storage.append("s", [e.ForeignRecorded(origin=line), said])
    done = manager.redactions.redact("s", 3, "a secret")
    manager.flush()
    assert done.seqs == (2, 3)
    assert occurrences(tmp_path) == []


def test_a_line_that_was_blanked_by_hand_is_tampering(files: FileSystemSessionStorage, tmp_path: Path) -> None:
    manager = SessionManager(files)
    manager.create_session("s")
    manager.add_conversation_message("s", "user", SECRET)
    path = tmp_path / ".sessions" / "s" / "events.jsonl"
    before = path.read_bytes().split(b"\n")
    manager.redactions.redact("s", 2, "a secret")
    after = path.read_bytes().split(b"\n")
    path.write_bytes(b"\n".join([before[0], after[1], b""]))
    with pytest.raises(LogTampered):
        manager.head("s")


def test_secrets_are_replaced_before_they_are_written(tmp_path: Path) -> None:
    storage = FileSystemSessionStorage(tmp_path / ".sessions", tmp_path / ".history", fsync="no")
    with SessionManager(storage, secrets=Patterns(), by={"token": TOKEN}) as manager:
        manager.create_session("s", purpose=f"use {TOKEN}")
        manager.add_conversation_message("s", "user", f"postgres://me:{SECRET}@host/db and {TOKEN}")
        manager.set_data("s", "k", {TOKEN: [TOKEN]})
        with suppress(LookupError), manager.invocation("s", "env", {"t": TOKEN}) as call:
            call.result = {"odd": object, "t": TOKEN}
            raise LookupError(f"boom {TOKEN}")
        manager.fork_session("s", new_id="f", purpose=TOKEN)
        said = manager.conversation("s")
    assert said[0].content == "postgres://me:[redacted:url-password]@host/db and [redacted:github-token]"
    assert occurrences(tmp_path, TOKEN) == occurrences(tmp_path) == []


def test_memory_forgets_too() -> None:
    manager = SessionManager(MemorySessionStorage())
    manager.create_session("s")
    manager.add_conversation_message("s", "user", SECRET)
    manager.fork_session("s", new_id="f")
    manager.redactions.redact("f", 2, "a secret")
    assert SECRET.encode() not in b"".join([*manager.storage.log.chunks("s"), *manager.storage.log.chunks("f")])
    assert manager.conversation("s") == manager.conversation("f") == []


def test_a_transcript_with_redacted_lines_goes_on_growing_and_is_not_exported(
    manager: SessionManager, tmp_path: Path
) -> None:
    def line(n: int, role: str, text: str) -> str:
        message = {"role": role, "content": text}
        told = {"type": role, "uuid": f"u{n}", "parentUuid": f"u{n - 1}" if n else None, "sessionId": "t"}
        return json.dumps({**told, "timestamp": f"2026-01-01T00:00:0{n}Z", "message": message}) + "\n"

    path = tmp_path / "t.jsonl"
    path.write_text(line(0, "user", "hello") + line(1, "user", SECRET) + line(2, "user", "bye"))
    form = FORMATS["claude-code"]
    session_id = import_transcript(manager.storage, form, path).session_id
    manager.redactions.redact(session_id, seqs_with(manager, session_id), "a secret")
    with path.open("a") as stream:
        stream.write(line(3, "user", "again"))
    assert import_transcript(manager.storage, form, path).events > 0
    path.unlink()
    manager.flush()
    assert [message.content for message in manager.conversation(session_id)] == ["hello", "bye", "again"]
    assert occurrences(tmp_path) == []
    with pytest.raises(ExportRefused, match="redacted"):
        export_transcript(manager.storage, session_id, "claude-code")


def command(*arguments: str, cwd: Path, status: int = 0, text: str | None = None) -> subprocess.CompletedProcess[str]:
    found = subprocess.run(
        [sys.executable, "-m", "eventstore", *arguments],
        cwd=cwd,
        input=text,
        capture_output=True,
        text=True,
        timeout=60,
    )
    assert found.returncode == status, found.stderr
    return found


def test_the_command_shows_a_plan_and_does_it_when_told_to(files: FileSystemSessionStorage, tmp_path: Path) -> None:
    manager = SessionManager(files)
    manager.create_session("s")
    manager.add_conversation_message("s", "user", f"{TOKEN} and {SECRET}")
    manager.add_conversation_message("s", "user", "harmless")
    manager.close()
    shown = command("redact", "--all", "--secrets", cwd=tmp_path, status=1)
    assert "github-token" in shown.stdout
    assert TOKEN not in shown.stdout
    assert "nothing was changed" in shown.stderr
    assert occurrences(tmp_path, TOKEN)
    command("redact", "s", "--texts", "-", "--yes", cwd=tmp_path, status=2, text=SECRET)
    command("redact", "s", "--texts", "-", "--yes", "--reason", "why", "--by", "ana", cwd=tmp_path, text=SECRET + "\n")
    assert occurrences(tmp_path) == []
    assert occurrences(tmp_path, TOKEN)  # the rest of the message is kept
    assert "message.added" in command("redact", "s", "--event", "3", cwd=tmp_path, status=1).stdout
    command("redact", "s", "--event", "3", "--reason", "why", "--yes", cwd=tmp_path)
    refused = command("redact", "s", "--event", "99", "--reason", "why", "--yes", cwd=tmp_path, status=1)
    assert "no such event" in refused.stderr
    redacted = [event for event in manager.events("s") if isinstance(event, e.EventRedacted)]
    assert [event.by for event in redacted] == [{"actor": "ana"}, None, None]
    assert occurrences(tmp_path, "harmless") == []
    command("redact", "s", "--secrets", "--whole", "--reason", "why", "--yes", cwd=tmp_path)
    assert occurrences(tmp_path, TOKEN) == []
    assert command("redact", "s", "--secrets", cwd=tmp_path).stderr == "nothing was found\n"


def test_a_redaction_that_a_crash_cut_short_can_be_asked_for_again(
    files: FileSystemSessionStorage, tmp_path: Path
) -> None:
    manager = SessionManager(files)
    manager.create_session("s")
    for n in range(3):
        manager.add_conversation_message("s", "user", f"{n} {SECRET}")
    lines = list(files.log.lines("s"))
    leaf = tombstone.leaf_of(lines[1])
    assert leaf is not None
    files.log.append("s", [e.EventRedacted(target=2, leaf=leaf.hex(), reason="cut short")])
    with FileSystemSessionStorage(tmp_path / ".sessions", tmp_path / ".history", fsync="no") as storage:
        SessionManager(storage).redactions.redact("s", [2, 3, 4], "again")
        told = [event for event in storage.log.read("s") if isinstance(event, e.EventRedacted)]
    assert [(one.target, one.reason) for one in told] == [(2, "cut short"), (3, "again"), (4, "again")]
    assert occurrences(tmp_path) == []


@pytest.mark.parametrize("seq", range(1, 6))
@pytest.mark.parametrize("is_imported", [False, True], ids=["recorded", "imported"])
@pytest.mark.parametrize("adjusted", [False, True], ids=["", "adjusted"])
def test_a_redaction_neither_is_nor_takes_away_activity(
    manager: SessionManager, seq: int, is_imported: bool, adjusted: bool
) -> None:
    """Times, duration and the order of lists stay, whichever event goes, also where it was written long after it happened."""
    first = e.SessionCreated(purpose="p")
    events: list[e.Event] = [
        e.MessageAdded(role="user", content="a" * 99),
        e.SessionUpdated(purpose="a purpose that is long enough"),
        e.MessageAdded(role="user", content="b" * 99),
        e.MessageAdded(role="user", content="c" * 99),
    ]
    if is_imported:
        first = replace(first, occurred_at="2025-01-01T00:00:00.000000Z")
        events = [replace(one, occurred_at=f"2025-01-01T00:00:0{n}.000000Z") for n, one in enumerate(events, 1)]
    manager.append("s", events, create=first)
    if adjusted:
        manager.append("s", [e.SessionAdjusted(updated_at="2025-05-01T00:00:00.000000Z")])
    manager.create_session("later", occurred_at=datetime(2025, 2, 1, tzinfo=UTC))

    def shown() -> tuple[object, ...]:
        session, found = manager.get_session("s"), manager.get_session_statistics("s")
        assert session is not None
        assert found is not None
        known = session.metadata
        order = [one.session_id for one in manager.page_sessions().sessions]
        return known.created_at, known.updated_at, found["duration_seconds"], order

    before = shown()
    manager.redactions.redact("s", [seq], "asked for")
    assert shown() == before
    manager.redactions.redact("s", [seq % 5 + 1], "asked for")
    assert shown() == before
    assert_whole(manager.storage)


@pytest.mark.parametrize("pattern", ["", "z*", r"\b", "a|", "(?=s)", r"s\K"])
def test_a_pattern_that_fits_no_text_finds_nothing_and_ends(pattern: str) -> None:
    patterns = Patterns({"mine": pattern, "other": "secret"})
    found = [(4, 10, "other")]
    assert list(patterns.find("a z secret")) == (
        [(0, 1, "mine"), *found] if pattern == "a|" else [(2, 3, "mine"), *found] if pattern == "z*" else found
    )
    assert Patterns({"mine": "z*"}).replace("zz a z") == "[redacted:mine] a [redacted:mine]"
    with SessionManager(MemorySessionStorage(), secrets=Patterns({"mine": pattern})) as manager:
        manager.create_session("s", "some purpose")
        assert manager.head("s").version == 1


@pytest.mark.parametrize(
    ("pattern", "why"), [("[", "unterminated"), (5, "a int"), ("(?P<a>x)(?P<a>y)", "redefinition")]
)
def test_what_is_no_pattern_is_refused_by_its_label(pattern: object, why: str) -> None:
    with pytest.raises(ValueError, match=f"'mine' is .*{why}"):
        Patterns({"other": "x", "mine": pattern})  # type: ignore[dict-item]
