"""An honest store is never accused, whatever cut its steps short; a lie about what was redacted or held is always found."""

import json
import shutil
import signal
import subprocess
import sys
from collections.abc import Callable
from hashlib import sha256
from pathlib import Path

import pytest
from commands import run
from histories import HISTORIES
from hypothesis import given
from msgspec.structs import replace

from eventstore import FileSystemSessionStorage, MemorySessionStorage, SessionManager
from eventstore import events as e
from eventstore.errors import LogTampered
from eventstore.exporters import export_archive, export_audit
from eventstore.exporters import verify as verifier
from eventstore.exporters.tables import TableName, export_table
from eventstore.importers import import_archive
from eventstore.integrity import SigningKey, verify_all, verify_session, verify_store
from eventstore.record import hash_chain, tombstone

ANA = SigningKey.generate("ana")


def notes_of(storage: FileSystemSessionStorage) -> str:
    verdicts = verify_all(storage)
    assert {one.outcome for one in verdicts} == {"whole"}, [one.describe(with_keys=False) for one in verdicts]
    return "; ".join(note for one in verdicts for note in one.notes)


def stranger(bundle: Path, *arguments: str, cwd: Path) -> tuple[int, str]:
    command = [sys.executable, "-I", "-S", verifier.__file__, str(bundle), *arguments]
    done = subprocess.run(command, capture_output=True, text=True, check=False, timeout=60, cwd=cwd)
    assert not done.stderr
    return done.returncode, done.stdout


# --- the route of an auditor


@pytest.fixture
def audited(tmp_path: Path) -> Path:
    """A store with forks and templates, its key, and the folder of all notes that were kept."""
    with FileSystemSessionStorage(tmp_path / ".sessions", tmp_path / ".history") as storage:
        manager = SessionManager(storage)
        for name in ("s", "t"):
            manager.create_session(name, "find out")
            manager.add_conversation_message(name, "user", "hello there, all of you")
        manager.templates.save("start", "s")
        manager.create_session("u", template="start")
        manager.fork_session("s", 2, "f")
        manager.redactions.redact("f", [2], "asked for")
    (tmp_path / "audit.vkey").write_text(run("keygen", "ana", "-o", "audit.key", cwd=tmp_path).stdout)
    run("checkpoint", "--all", "--store-log", "--key", "audit.key", "--out", "kept", cwd=tmp_path)
    return tmp_path


def test_a_bundle_of_all_is_whole_for_an_auditor_with_all_the_notes(audited: Path) -> None:
    run("audit", "export", "--all", "-o", "bundle.zip", cwd=audited)
    status, text = stranger(Path("bundle.zip"), "--key", "audit.vkey", "--checkpoint", "kept", cwd=audited)
    assert status == 0, text
    assert "_template.start: whole" in text
    assert "_store: whole" in text
    assert "unproven" not in text


def test_a_bundle_of_some_sessions_is_not_accused_of_lacking_others(audited: Path) -> None:
    run("audit", "export", "s", "f", "-o", "bundle.zip", cwd=audited)
    pinned = ("--key", "audit.vkey", "--checkpoint", "kept")
    status, text = stranger(Path("bundle.zip"), *pinned, cwd=audited)
    assert status == 0, text
    assert text.count("kept checkpoints are of sessions that this bundle does not claim to contain") == 1
    assert "tampered" not in text
    status, text = stranger(Path("bundle.zip"), *pinned, "--all", cwd=audited)
    assert (status, text.count("is not in the bundle, and a checkpoint of it was kept outside")) == (4, 4)


def test_a_session_is_verified_alone_though_notes_of_all_are_given(audited: Path) -> None:
    text = run("verify", "s", "--key", "audit.vkey", "--checkpoint", "kept", cwd=audited).stdout
    assert [line.partition(":")[0] for line in text.splitlines()][:2] == ["s", "note"]
    assert "note: 5 kept checkpoints are of sessions that were not named" in text
    assert text.endswith("whole (exit status 0)\n")


def test_a_session_that_is_missing_from_a_bundle_of_all_is_found(audited: Path) -> None:
    run("audit", "export", "--all", "-o", "bundle", cwd=audited)
    manifest = json.loads((audited / "bundle" / "manifest.json").read_bytes())
    assert manifest["scope"] == "all"
    manifest["sessions"] = [one for one in manifest["sessions"] if one["session_id"] != "t"]
    for name in [name for name in manifest["files"] if not name.startswith("sessions/") and name != "verify.py"]:
        (audited / "bundle" / name).unlink()  # the tables hold what happened in it
        del manifest["files"][name]
    manifest["files"] = {name: one for name, one in manifest["files"].items() if not name.startswith("sessions/t/")}
    shutil.rmtree(audited / "bundle" / "sessions" / "t")
    (audited / "bundle" / "manifest.json").write_text(json.dumps(manifest))
    status, text = stranger(Path("bundle"), cwd=audited)
    assert (status, "session 't' is recorded in the store's own log, and not in the bundle" in text) == (5, True)
    assert stranger(Path("bundle"), "--checkpoint", "kept", cwd=audited)[0] == 4


def test_a_session_that_ended_after_its_note_was_kept_is_unproven_and_never_tampered(audited: Path) -> None:
    """Only its own signature proves the event that records the end, so nothing is whole; but nothing speaks of tampering."""
    with FileSystemSessionStorage(audited / ".sessions", audited / ".history") as storage:
        SessionManager(storage).delete_session("t")
    pinned = ("--key", "audit.vkey", "--checkpoint", "kept")
    for command in (("verify", "--all", *pinned), ("verify", "t", *pinned)):
        text = run(*command, cwd=audited, check=5).stdout
        assert "that it ended after a checkpoint of it was kept, and nothing proves that event" in text
        assert "tampered" not in text
    run("audit", "export", "--all", "-o", "bundle.zip", cwd=audited)
    status, text = stranger(Path("bundle.zip"), *pinned, cwd=audited)
    assert status == 5
    assert "records the end of session t, and no checkpoint proves it" in text
    assert "tampered" not in text
    run("checkpoint", "--store-log", "--key", "audit.key", "--out", "kept", cwd=audited)
    assert run("verify", "--all", *pinned, cwd=audited).stdout.endswith("whole (exit status 0)\n")


def test_notes_of_sessions_that_ended_are_not_held_against_those_that_came_after(audited: Path) -> None:
    with FileSystemSessionStorage(audited / ".sessions", audited / ".history") as storage:
        manager = SessionManager(storage)
        manager.delete_session("t")
        manager.delete_session("u")
        manager.create_session("u", "another one")
    run("checkpoint", "--all", "--store-log", "--key", "audit.key", "--out", "kept", cwd=audited)
    pinned = ("--key", "audit.vkey", "--checkpoint", "kept")
    run("audit", "export", "--all", "-o", "bundle.zip", cwd=audited)
    status, text = stranger(Path("bundle.zip"), *pinned, cwd=audited)
    assert (status, "2 kept checkpoints are of sessions that ended" in text) == (0, True), text
    assert run("verify", "--all", *pinned, cwd=audited).stdout.endswith("whole (exit status 0)\n")


def test_what_is_in_the_trash_is_held_against_its_notes_there(audited: Path) -> None:
    with FileSystemSessionStorage(audited / ".sessions", audited / ".history") as storage:
        SessionManager(storage).trash.put("t")
    pinned = ("--key", "audit.vkey", "--checkpoint", "kept")
    text = run("verify", "--all", *pinned, cwd=audited, check=5).stdout
    assert "it is in the trash as t, and the checkpoints that were kept outside fit it" in text
    path = audited / ".sessions" / "_trash" / "t" / "events.jsonl"
    path.write_bytes(path.read_bytes().replace(b"hello", b"HELLO"))
    run("verify", "--all", *pinned, cwd=audited, check=4)


def test_what_verify_says_of_an_unsigned_log_does_not_contradict_itself(audited: Path) -> None:
    text = run("verify", "s", cwd=audited).stdout
    assert "unproven" not in text
    assert "note: this shows damage, not who wrote it: anyone who can write the store can recompute all of it" in text
    assert text.endswith("whole (exit status 0)\n")


# --- tables and reports


def rewrite(folder: Path, name: str, old: bytes, new: bytes) -> None:
    """Change a file of a bundle, and make the manifest fit."""
    path = folder / name
    data = path.read_bytes()
    assert old in data
    path.write_bytes(data.replace(old, new, 1))
    manifest = json.loads((folder / "manifest.json").read_bytes())
    size, digest = path.stat().st_size, sha256(path.read_bytes()).hexdigest()
    manifest["files"][name] = {"sha256": digest, "size_bytes": size}
    (folder / "manifest.json").write_text(json.dumps(manifest))


@pytest.mark.parametrize(
    ("name", "old", "new"),
    [
        ("report.html", b"hello", b"HELLO"),
        ("report.html", b"<main>", b"<main><p>all is well</p>"),
        ("report.html", b"</style>", b"tr{display:none}</style>"),
        ("report.md", b"hello", b"HELLO"),
        ("events.csv", b"hello", b"HELLO"),
        ("events.json", b"hello", b"HELLO"),
        ("calls.csv", b"transfer", b"look_up"),
        ("calls.json", b"transfer", b"look_up"),
        ("usage.csv", b"1200", b"12"),
        ("usage.json", b"1200", b"12"),
        ("sessions/s/session.json", b"find out", b"find in"),
    ],
)
@pytest.mark.parametrize("pinned", [(), ("--key", "audit.vkey", "--checkpoint", "kept")])
def test_a_table_or_report_that_is_not_what_the_logs_give_is_found(
    tmp_path: Path, name: str, old: bytes, new: bytes, pinned: tuple[str, ...]
) -> None:
    with FileSystemSessionStorage(tmp_path / ".sessions", tmp_path / ".history", fsync="no") as storage:
        manager = SessionManager(storage)
        manager.create_session("s", "find out")
        manager.add_conversation_message("s", "assistant", "hello", "transfer", "inv_1")
        manager.link_invocation("s", "inv_1", "transfer", None, 12.0, success=True)
        manager.record_usage("s", {"input": 1200}, 0.0000125, "model-1", "turn")
        note = manager.proofs.sign_checkpoint("s", ANA)
        export_audit(storage, ["s"], tmp_path / "bundle")
    (tmp_path / "audit.vkey").write_text(ANA.verifier_key.to_text())
    (tmp_path / "kept").mkdir()
    (tmp_path / "kept" / "s.note").write_text(note)
    status, text = stranger(Path("bundle"), *pinned, cwd=tmp_path)
    assert (status, "tables and reports are what the logs give" in text) == (0, True), text
    rewrite(tmp_path / "bundle", name, old, new)
    status, text = stranger(Path("bundle"), *pinned, cwd=tmp_path)
    assert (status, f"altered: '{name}' is not what the logs give" in text) == (7, True), text
    manifest = json.loads((tmp_path / "bundle" / "manifest.json").read_bytes())
    del manifest["derived"]
    (tmp_path / "bundle" / "manifest.json").write_text(json.dumps(manifest))
    status, text = stranger(Path("bundle"), *pinned, cwd=tmp_path)
    assert (status, "not proven" in text) == (5 if pinned else 0, True), text


@given(history=HISTORIES)
def test_whatever_was_recorded_its_tables_and_reports_are_made_again_the_same(
    history: list[e.Event], tmp_path_factory: pytest.TempPathFactory
) -> None:
    manager = SessionManager(MemorySessionStorage())
    manager.create_session("s")
    for event in history:
        manager.storage.append("s", [replace(event, id=None)])
    manager.fork_session("s", new_id="f")
    path = tmp_path_factory.getbasetemp() / "history.zip"
    export_audit(manager, None, path)
    report = verifier.verify(path, [], [], 1 << 30)
    assert report.status == 0, list(report.lines())
    assert "tables and reports are what the logs give" in report.notes


def test_tables_of_a_bundle_agree_with_those_of_the_exporter(manager: SessionManager, tmp_path: Path) -> None:
    manager.create_session("s", "find out")
    manager.add_conversation_message("s", "assistant", '{"to": "bob"}', "transfer", "inv_1")
    manager.link_invocation("s", "inv_1", "transfer", None, 12.0, success=False, error="no money")
    manager.add_conversation_message("s", "tool", "=1+1", "transfer", "inv_1")
    for count in (7, 9):
        manager.record_usage("s", {"input": 1200, "output": count, "own": 3}, 0.0125, "model-1", "turn")
    manager.fork_session("s", new_id="f")
    done = export_audit(manager, ["s", "f"], tmp_path / "bundle")
    names: tuple[TableName, ...] = ("calls", "usage")
    for name in names:
        theirs = b"".join(export_table(manager, ["s", "f"], name, "csv"))
        assert (done.path / f"{name}.csv").read_bytes() == theirs


def test_the_report_of_a_bundle_runs_and_hides_nothing(manager: SessionManager, tmp_path: Path) -> None:
    manager.create_session("s")
    manager.add_conversation_message(
        "s", "user", "<script>alert(1)</script> \u202e {title} | `x` [a](http://b)\x1b[31m"
    )
    done = export_audit(manager, ["s"], tmp_path / "bundle")
    html, markdown = ((done.path / name).read_text("utf-8") for name in ("report.html", "report.md"))
    assert "<script" not in html
    assert "default-src 'none'" in html
    assert "{title}" in html
    for text in (html, markdown):
        assert not set(text) & set("\u202e\x1b")
        assert "u202e" in text
    assert "](http" not in markdown


# --- redactions


def forge(storage: FileSystemSessionStorage, seq: int, kind: bytes, **named: str) -> None:
    """Overwrite an event by hand with a tombstone of some type, and record it with an event of the log."""
    path = storage.sessions_dir / "s" / "events.jsonl"
    lines = path.read_bytes().split(b"\n")[:-1]
    line = lines[seq - 1]
    leaf, at = tombstone.leaf_of(line), json.loads(line)["at"]
    assert leaf is not None
    event = e.EventRedacted(
        target=seq, leaf=leaf.hex(), reason="made up", **({"target_at": at} | named if named else {})
    )
    storage.log.append("s", [event])
    storage.flush()
    lines = path.read_bytes().split(b"\n")[:-1]
    start, parts = hash_chain.line_start(line), hash_chain.split(line)
    assert start is not None
    assert parts is not None
    stub = tombstone.build_tombstone(start.replace(b"message.added", kind), leaf, parts[1], len(line))
    assert stub is not None
    lines[seq - 1] = stub
    path.write_bytes(b"".join(one + b"\n" for one in lines))


@pytest.fixture
def signed(files: FileSystemSessionStorage) -> FileSystemSessionStorage:
    """A session of three events, signed."""
    manager = SessionManager(files)
    manager.create_session("s")
    for n in range(2):
        manager.add_conversation_message("s", "user", f"a message that is long enough {n}")
    manager.proofs.sign_checkpoint("s", ANA)
    return files


@pytest.mark.parametrize(
    ("kind", "named"),
    [
        (b"data.cleared", {}),
        (b"message.added", {}),
        (b"data.cleared", {"target_type": "message.added"}),
    ],
)
def test_a_tombstone_in_a_signed_range_whose_type_nothing_confirms_is_tampering(
    signed: FileSystemSessionStorage, tmp_path: Path, kind: bytes, named: dict[str, str]
) -> None:
    forge(signed, 2, kind, **named)
    with FileSystemSessionStorage(signed.sessions_dir, signed.history_dir) as anew:
        for keys in ([], [ANA.verifier_key]):
            assert verify_session(anew, "s", keys=keys).outcome == "tampered"
        with pytest.raises(LogTampered):
            SessionManager(anew).proofs.sign_checkpoint("s", ANA)
    done = bundle_of(signed, tmp_path)
    for arguments in ((), ("--key", ANA.verifier_key.to_text())):
        status, text = stranger(done, *arguments, cwd=tmp_path)
        assert (status, "line 2, byte " in text) == (4, True), text


def bundle_of(storage: FileSystemSessionStorage, tmp_path: Path) -> Path:
    """Make a bundle of the logs as they lie there, which the exporter would refuse."""
    folder = tmp_path / "made"
    manifest: dict[str, object] = {"format": "eventstore-audit/1", "made_at": ""}
    sessions, listed = list[dict[str, object]](), dict[str, dict[str, object]]()
    for name in ("s", "_store"):
        data = (storage.sessions_dir / name / "events.jsonl").read_bytes()
        path = f"sessions/{name}/events.jsonl"
        (folder / path).parent.mkdir(parents=True)
        (folder / path).write_bytes(data)
        lines = data.split(b"\n")[:-1]
        one: dict[str, object] = {
            "session_id": name,
            "root": name,
            "log": path,
            "events": len(lines),
            "checkpoints": [],
        }
        sessions.append(one | {"head_hash": json.loads(lines[-1])["hash"]})
        listed[path] = {"sha256": sha256(data).hexdigest(), "size_bytes": len(data)}
    (folder / "manifest.json").write_text(json.dumps(manifest | {"sessions": sessions, "files": listed}))
    return folder


def test_a_redaction_that_the_store_s_own_log_does_not_record_is_never_whole(
    files: FileSystemSessionStorage, tmp_path: Path
) -> None:
    manager = SessionManager(files)
    manager.create_session("s")
    for n in range(3):
        manager.add_conversation_message("s", "user", f"a message that is long enough {n}")
    manager.redactions.redact("s", [2], "asked for")
    assert "recorded but not finished" not in notes_of(files)
    forge(files, 3, b"message.added", target_type="message.added")
    with FileSystemSessionStorage(files.sessions_dir, files.history_dir) as anew:
        (finding,) = [one for one in verify_session(anew, "s").findings if one.part != "views"]
    assert (finding.part, finding.outcome, "event 3 is redacted" in finding.text) == ("store", "damaged", True)
    status, text = stranger(bundle_of(files, tmp_path), cwd=tmp_path)
    assert (status, "event 3 is redacted, and the store's own log does not record that redaction" in text) == (3, True)


def test_a_redaction_is_known_in_forks_templates_and_where_it_came_with_an_archive(
    files: FileSystemSessionStorage, tmp_path: Path
) -> None:
    manager = SessionManager(files)
    manager.create_session("s")
    for n in range(3):
        manager.add_conversation_message("s", "user", f"a message that is long enough {n}")
    manager.fork_session("s", 3, "f")
    manager.redactions.redact("s", [2], "asked for")
    manager.fork_session("s", new_id="g")
    manager.templates.save("form", "f")
    manager.redactions.redact("g", [3], "asked for")
    manager.trash.put("f")
    manager.redactions.redact("s", [4], "asked for")
    manager.trash.restore("f")
    assert "not finished" not in notes_of(files)
    export_archive(files, tmp_path / "a.zip")
    export_audit(files, None, tmp_path / "b.zip")
    assert stranger(tmp_path / "b.zip", cwd=tmp_path)[0] == 0
    with FileSystemSessionStorage(tmp_path / "there", tmp_path / "history") as other:
        import_archive(other, tmp_path / "a.zip")
        assert "not finished" not in notes_of(other)
        SessionManager(other).redactions.redact("g", [4], "asked for")
        assert "not finished" not in notes_of(other)


def test_type_and_time_that_only_an_unproven_event_confirms_are_named(signed: FileSystemSessionStorage) -> None:
    SessionManager(signed).redactions.redact("s", [2], "asked for")
    found = verify_session(signed, "s", keys=[ANA.verifier_key])
    assert found.outcome == "incomplete"
    assert "type and time of redacted event 2 are confirmed by an unproven event only" in found.notes
    SessionManager(signed).proofs.sign_checkpoint("s", ANA)
    assert verify_session(signed, "s", keys=[ANA.verifier_key]).notes == ("1 redacted",)


# --- steps that were cut short

_KILL = """
import os, sys
from eventstore import FileSystemSessionStorage, SessionManager
storage = FileSystemSessionStorage(sys.argv[1], sys.argv[2])
manager = SessionManager(storage)
append = storage.log.append
def killed(session_id, events, **more):
    is_it = session_id == "_store" and any(event.type == sys.argv[3] for event in events)
    if is_it and sys.argv[4] == "before":
        os.kill(os.getpid(), 9)
    done = append(session_id, events, **more)
    if is_it:
        os.kill(os.getpid(), 9)
    return done
storage.log.append = killed
exec(sys.argv[5])
"""


def cut_short(files: FileSystemSessionStorage, tag: str, when: str, program: str) -> None:
    """Kill a process just before or just after the store's own log records a step of it."""
    command = [sys.executable, "-c", _KILL, str(files.sessions_dir), str(files.history_dir), tag, when, program]
    done = subprocess.run(command, check=False, timeout=60, capture_output=True)
    assert done.returncode == -signal.SIGKILL, done.stderr


@pytest.mark.parametrize("when", ["before", "after"])
@pytest.mark.parametrize(
    ("tag", "program"),
    [
        ("store.session_created", "manager.create_session('n')"),
        ("store.session_created", "manager.fork_session('s', new_id='n')"),
        ("store.session_forked", "manager.fork_session('s', new_id='n')"),
        ("store.session_created", "manager.templates.save('form', 's')"),
        ("store.session_trashed", "manager.trash.put('s')"),
        ("store.session_restored", "manager.trash.restore('t')"),
        ("store.session_deleted", "manager.delete_session('s')"),
        ("store.trash_purged", "manager.cleanup_old_sessions(10000, 0)"),
        ("store.events_redacted", "manager.redactions.redact('s', [2], 'why')"),
    ],
)
def test_a_kill_beside_the_record_of_a_step_leaves_a_store_that_is_whole(
    files: FileSystemSessionStorage, tag: str, program: str, when: str
) -> None:
    manager = SessionManager(files)
    for name in ("s", "t"):
        manager.create_session(name)
        manager.add_conversation_message(name, "user", "a message that is long enough")
    manager.trash.put("t")
    files.flush()
    cut_short(files, tag, when, program)
    with FileSystemSessionStorage(files.sessions_dir, files.history_dir) as anew:
        notes_of(anew)
        again = SessionManager(anew)
        if "restore" in program and again.get_session("t") is None:
            again.trash.restore("t")
        if "delete" in program or "trash.put" in program:
            again.delete_session("s")
        if "redact" in program:
            again.redactions.redact("s", [2], "why")
        assert "redact" not in notes_of(anew) or "not finished" not in notes_of(anew)


def test_a_log_without_a_byte_is_what_a_refused_creation_left_and_no_session(files: FileSystemSessionStorage) -> None:
    manager = SessionManager(files)
    manager.create_session("s")
    (files.sessions_dir / "n").mkdir()
    (files.sessions_dir / "n" / "events.jsonl").touch()
    with FileSystemSessionStorage(files.sessions_dir, files.history_dir) as anew:
        assert [one.session_id for one in verify_all(anew)] == ["s", "_store"]
        assert notes_of(anew) == ""
        SessionManager(anew).create_session("n")
        assert notes_of(anew) == ""


def test_a_store_that_changes_while_it_is_verified_is_not_accused(
    files: FileSystemSessionStorage, monkeypatch: pytest.MonkeyPatch
) -> None:
    manager = SessionManager(files)
    for name in "stu":
        manager.create_session(name)
        manager.add_conversation_message(name, "user", "a message that is long enough")
    steps: list[Callable[[], object]] = [
        lambda: manager.delete_session("s"),
        lambda: manager.redactions.redact("t", [2], "why"),
    ]
    trashed = files.log.trashed

    def meanwhile() -> list[str]:
        found = trashed()
        if steps:
            steps.pop(0)()
        return found

    monkeypatch.setattr(files.log, "trashed", meanwhile)
    assert verify_store(files).is_whole
    assert all(one.is_whole for one in verify_all(files))
    assert not steps
