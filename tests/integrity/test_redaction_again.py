"""A redaction lasts: the same content does not come back from the trash or from an archive, unless a person says so."""

import shutil
from collections.abc import Iterator
from pathlib import Path

import pytest

from eventstore import FileSystemSessionStorage, SessionManager
from eventstore import events as e
from eventstore.exporters.archive import export_archive
from eventstore.importers.archive import import_archive
from eventstore.integrity import verify_session, verify_store
from eventstore.log.ingest import verify_whole
from eventstore.record import tombstone

SECRET = "hunter2-the-secret"


def holding(root: Path) -> list[str]:
    return [
        str(path.relative_to(root))
        for path in sorted(root.rglob("*"))
        if path.is_file() and not path.is_symlink() and SECRET.encode() in path.read_bytes()
    ]


def assert_whole(manager: SessionManager) -> None:
    verdicts = [verify_session(manager.storage, one) for one in manager.storage.log.ids()]
    assert [finding for verdict in [*verdicts, verify_store(manager.storage)] for finding in verdict.findings] == []


@pytest.fixture
def root(tmp_path: Path) -> Path:
    return tmp_path / "store"


@pytest.fixture
def manager(root: Path) -> Iterator[SessionManager]:
    with SessionManager(FileSystemSessionStorage(root / ".sessions", root / ".history", fsync="no")) as made:
        made.create_session("s", purpose=SECRET)
        made.add_conversation_message("s", "user", SECRET)
        with made.invocation("s", "login", {"password": SECRET}) as call:
            call.result = SECRET
        made.add_conversation_message("s", "tool", SECRET, "login", call.invocation_id)
        made.add_conversation_message("s", "assistant", "done")
        yield made


def seqs_with(manager: SessionManager, session_id: str = "s") -> list[int]:
    lines = manager.storage.log.lines(session_id)
    return [seq for seq, line in enumerate(lines, 1) if SECRET.encode() in line]


@pytest.mark.parametrize("gone", ["deleted", "deleted with its calls", "trashed"])
def test_an_archive_does_not_bring_back_what_was_redacted(
    manager: SessionManager, root: Path, tmp_path: Path, gone: str
) -> None:
    export_archive(manager, tmp_path / "before.zip")
    secret = seqs_with(manager)
    manager.redactions.redact("s", secret, "a password", by={"actor": "ana"})
    if gone == "trashed":
        manager.trash.put("s")
    else:
        manager.delete_session("s", history=gone == "deleted with its calls")
    assert import_archive(manager, tmp_path / "before.zip").sessions == ("s",)
    manager.flush()
    assert holding(root) == []
    assert_whole(manager)
    events = list(manager.events("s"))
    assert [event.seq for event in events if isinstance(event, e.RedactedEvent)] == secret
    recorded = [event for event in events if isinstance(event, e.EventRedacted)]
    assert [event.target for event in recorded] == secret
    assert {event.reason for event in recorded} == {"a password"}
    assert [message.content for message in manager.conversation("s")] == ["done"]
    assert import_archive(manager, tmp_path / "before.zip").skipped == ("s",)
    manager.add_conversation_message("s", "user", "on")
    assert_whole(manager)


def test_forks_come_back_redacted_too(manager: SessionManager, root: Path, tmp_path: Path) -> None:
    secret = seqs_with(manager)
    manager.fork_session("s", new_id="f")
    manager.add_conversation_message("f", "user", "own")
    manager.fork_session("f", new_id="g")
    export_archive(manager, tmp_path / "before.zip")
    manager.redactions.redact("f", secret, "a password")
    for one in ("g", "f", "s"):
        manager.delete_session(one)
    import_archive(manager, tmp_path / "before.zip")
    manager.flush()
    assert holding(root) == []
    assert_whole(manager)
    manager.trash.put("s")
    assert_whole(manager)
    assert [message.content for message in manager.conversation("g")] == ["done", "own"]


def test_a_person_may_bring_it_back(manager: SessionManager, tmp_path: Path) -> None:
    export_archive(manager, tmp_path / "before.zip")
    secret = seqs_with(manager)
    manager.redactions.redact("s", secret, "by mistake")
    manager.delete_session("s", history=True)
    import_archive(manager, tmp_path / "before.zip", again=True)
    assert seqs_with(manager) == secret
    assert_whole(manager)


def test_a_longer_archive_does_not_bring_back_what_was_redacted(
    manager: SessionManager, root: Path, tmp_path: Path
) -> None:
    manager.create_session("q", purpose="clean")
    export_archive(manager, tmp_path / "short.zip", ["q"])
    with manager.invocation("q", "login", {"password": SECRET + "x" * 300_000}):
        pass
    manager.add_conversation_message("q", "user", "last: " + SECRET)
    manager.flush()
    export_archive(manager, tmp_path / "long.zip", ["q"])
    manager.redactions.redact("q", range(2, manager.storage.log.head("q").version + 1), "a password")
    manager.delete_session("q", history=True)
    manager.delete_session("s", history=True)
    import_archive(manager, tmp_path / "short.zip")
    assert manager.storage.log.head("q").version == 1
    assert import_archive(manager, tmp_path / "long.zip").sessions == ("q",)
    manager.flush()
    assert holding(root) == []
    assert_whole(manager)
    assert manager.conversation("q") == []


def test_a_recorded_redaction_that_the_copy_has_not_carried_out_is_carried_out(
    manager: SessionManager, tmp_path: Path
) -> None:
    with SessionManager(FileSystemSessionStorage(tmp_path / "t/s", tmp_path / "t/h", fsync="no")) as other:
        lines = [line + b"\n" for line in manager.storage.log.lines("s")]
        other.storage.ingest(verify_whole("s", lines), lines)
        seq = seqs_with(manager)[0]
        leaf = tombstone.leaf_of(lines[seq - 1].rstrip())
        assert leaf is not None
        manager.storage.log.append("s", [e.EventRedacted(target=seq, leaf=leaf.hex(), reason="r")])
        raw = b"".join(manager.storage.log.raw("s").chunks)
        assert raw.startswith(b"".join(lines))
        whole = verify_whole("s", [raw])
        assert set(whole.redactions) == {seq}
        other.storage.fast_forward(whole, lambda: [raw])
        kept = b"".join(other.storage.log.raw("s").chunks)
        assert (len(kept), kept.splitlines()[seq - 1] == lines[seq - 1].rstrip()) == (len(raw), False)


def test_a_fork_that_a_person_brings_back_records_what_is_redacted_in_its_parent(
    manager: SessionManager, root: Path, tmp_path: Path
) -> None:
    secret = seqs_with(manager)
    manager.templates.save("t", "s")
    manager.create_session("f", template="t")
    export_archive(manager, tmp_path / "before.zip")
    manager.redactions.redact("s", secret, "a password")
    manager.delete_session("f")
    assert import_archive(manager, tmp_path / "before.zip", again=True).sessions == ("f",)
    manager.flush()
    assert_whole(manager)
    recorded = [event.target for event in manager.events("f") if isinstance(event, e.EventRedacted)]
    assert recorded == secret
    assert [path for path in holding(root) if "/f/" in path] == []


def test_the_trash_does_not_bring_back_what_was_redacted(manager: SessionManager, root: Path, tmp_path: Path) -> None:
    secret = seqs_with(manager)
    manager.trash.put("s")
    shutil.copytree(root / ".sessions" / "_trash", tmp_path / "backup", symlinks=True)
    manager.trash.restore("s")
    manager.redactions.redact("s", secret, "a password")
    manager.trash.put("s")
    shutil.rmtree(root / ".sessions" / "_trash")
    shutil.copytree(tmp_path / "backup", root / ".sessions" / "_trash", symlinks=True)
    assert holding(root)
    manager.trash.restore("s")
    manager.flush()
    assert holding(root) == []
    assert verify_session(manager.storage, "s").findings == ()


def test_what_repairs_had_cut_comes_back_without_the_text(manager: SessionManager, root: Path, tmp_path: Path) -> None:
    path = root / ".sessions" / "s" / "events.jsonl"
    with path.open("ab") as stream:
        stream.write(b'{"type":"message.added","seq":8,"at":"2026-01-01T00:00:00.000000Z","content":"hunter2-the-se')
    manager.add_conversation_message("s", "user", "on")
    export_archive(manager, tmp_path / "before.zip")
    manager.redactions.redact("s", seqs_with(manager), "a password")
    manager.delete_session("s", history=True)
    import_archive(manager, tmp_path / "before.zip")
    manager.flush()
    assert [path for path in root.rglob("*") if path.is_file() and b"hunter2" in path.read_bytes()] == []
