"""After a redaction no file of the store holds the text, whatever crashes and copies left there before; else `left` names it."""

import os
import subprocess
import sys
import zipfile
from base64 import b64encode, urlsafe_b64encode
from collections.abc import Iterator
from pathlib import Path

import pytest

from eventstore import FileSystemSessionStorage, SessionManager
from eventstore import events as e
from eventstore.exporters.archive import export_archive
from eventstore.importers.archive import import_archive
from eventstore.integrity import verify_session, verify_store

SECRET = "hunter2-the-secret"


def opened(root: Path) -> SessionManager:
    return SessionManager(FileSystemSessionStorage(root / ".sessions", root / ".history", fsync="no"))


def holding(root: Path, secret: str = SECRET) -> list[str]:
    """Name the files of a store that hold a text, also one in their name."""
    return [
        str(path.relative_to(root))
        for path in sorted(root.rglob("*"))
        if path.is_file() and not path.is_symlink() and (secret.encode() in path.read_bytes() or secret in path.name)
    ]


def assert_whole(manager: SessionManager) -> None:
    verdicts = [verify_session(manager.storage, one) for one in manager.storage.log.ids()]
    assert [finding for verdict in [*verdicts, verify_store(manager.storage)] for finding in verdict.findings] == []


def killed(root: Path, program: str, at: str) -> None:
    """Run a program that dies, as by `kill -9`, when it is about to rename or replace the file or folder `at`."""
    code = f"""
import os, signal
from pathlib import Path
from eventstore import FileSystemSessionStorage, SessionManager
from eventstore.importers.archive import import_archive
real = os.replace, os.rename
def dying(call):
    def act(source, *args, **named):
        if str(source).endswith({at!r}):
            os.kill(os.getpid(), signal.SIGKILL)
        return call(source, *args, **named)
    return act
os.replace, os.rename = map(dying, real)
root = Path({str(root)!r})
manager = SessionManager(FileSystemSessionStorage(root / ".sessions", root / ".history"))
SECRET = {SECRET!r}
{program}
"""
    assert subprocess.run([sys.executable, "-c", code], check=False, timeout=60).returncode == -9


@pytest.fixture
def manager(tmp_path: Path) -> Iterator[SessionManager]:
    with opened(tmp_path) as made:
        yield made


def test_a_copy_in_the_trash_is_redacted_in_a_store_without_forks(manager: SessionManager, tmp_path: Path) -> None:
    manager.create_session("s")
    manager.add_conversation_message("s", "user", SECRET)
    export_archive(manager, tmp_path.parent / f"{tmp_path.name}.zip")
    for _ in range(2):
        manager.trash.put("s")
        import_archive(manager, tmp_path.parent / f"{tmp_path.name}.zip")
    done = manager.redactions.redact("s", 2, "a secret")
    manager.flush()
    assert done.logs == ("s", "s", "s")
    assert holding(tmp_path) == []
    assert_whole(manager)


def test_the_session_is_redacted_too_where_its_copy_in_the_trash_is_asked_for(
    manager: SessionManager, tmp_path: Path
) -> None:
    manager.create_session("s")
    manager.add_conversation_message("s", "user", "ghp_" + "a1B2" * 9)
    export_archive(manager, tmp_path.parent / f"{tmp_path.name}.zip")
    manager.trash.put("s")
    plan = manager.redactions.plan()
    import_archive(manager, tmp_path.parent / f"{tmp_path.name}.zip")
    manager.redactions.carry_out(plan, "a token")
    manager.flush()
    assert holding(tmp_path, "a1B2a1B2") == []


@pytest.mark.parametrize(
    ("program", "at", "seqs"),
    [
        ("manager.set_data('s', 'k', SECRET); manager.flush()", ".data.json.new", [2]),
        ("manager.create_session('new', purpose=SECRET); manager.flush()", ".metadata.json.new", [1]),
        (
            "manager.add_conversation_message('s', 'user', SECRET); manager.flush()\n"
            "manager.clear_conversation('s'); manager.add_conversation_message('s', 'user', SECRET); manager.flush()",
            ".conversation.jsonl.new",
            [2],
        ),
        (
            "manager.set_data('s', 'k', SECRET)\nfor n in range(1500): manager.set_data('s', 'n', n)\nmanager.flush()",
            ".summary.snapshot.new",
            [2],
        ),
        (
            "import eventstore.derived.moment_file as file\nfile.LEAST_EVENTS = 1\n"
            "manager.set_data('s', 'k', SECRET); manager.flush(); manager.moments.version('s')",
            ".moments.index.new",
            [2],
        ),
    ],
)
def test_unfinished_views_of_killed_programs_are_removed(
    manager: SessionManager, tmp_path: Path, program: str, at: str, seqs: list[int]
) -> None:
    manager.create_session("s")
    manager.flush()
    killed(tmp_path, program, at)
    assert holding(tmp_path)
    session_id = "new" if "'new'" in program else "s"
    wanted = [seq for seq, line in enumerate(manager.storage.log.lines(session_id), 1) if SECRET.encode() in line]
    done = manager.redactions.redact(session_id, wanted or seqs, "a secret")
    manager.flush()
    assert (holding(tmp_path), done.left) == ([], ())


def test_an_unfinished_copy_of_the_parent_is_removed(manager: SessionManager, tmp_path: Path) -> None:
    manager.create_session("s")
    manager.add_conversation_message("s", "user", SECRET)
    manager.fork_session("s", new_id="f")
    manager.flush()
    killed(tmp_path, "manager.delete_session('s')", ".events.jsonl.new")
    assert ".sessions/f/.events.jsonl.new" in holding(tmp_path)
    done = manager.redactions.redact("s", 2, "a secret")
    manager.flush()
    assert (holding(tmp_path), done.left) == ([], ())
    manager.trash.put("s")
    assert_whole(manager)


def test_an_unfinished_record_of_a_call_is_removed(manager: SessionManager, tmp_path: Path) -> None:
    manager.create_session("s")
    killed(tmp_path, "with manager.invocation('s', 'tool', {'a': SECRET}): pass", ".record.jsonl.new")
    assert holding(tmp_path)
    done = manager.redactions.redact("s", 2, "a secret")
    assert (holding(tmp_path), done.left) == ([], ())


def test_what_an_import_that_was_killed_left_is_removed_or_named(manager: SessionManager, tmp_path: Path) -> None:
    with opened(tmp_path.parent / f"{tmp_path.name}-from") as other:
        other.create_session("s")
        other.add_conversation_message("s", "user", SECRET)
        with other.invocation("s", "tool", {"a": SECRET}):
            pass
        path = export_archive(other, tmp_path.parent / f"{tmp_path.name}.zip").path
    killed(tmp_path, f"import_archive(manager, {str(path)!r})", "made")
    assert any("_adopt" in name for name in holding(tmp_path))
    manager.create_session("mine")
    manager.add_conversation_message("mine", "user", SECRET)
    done = manager.redactions.redact("mine", 2, "a secret")
    manager.flush()
    assert [name for name in holding(tmp_path) if Path(name).name not in "".join(done.left)] == []
    assert not any("_adopt" in name for name in holding(tmp_path))


def torn(root: Path, text: str, kept: int, session_id: str = "s") -> None:
    """Leave a record that was torn when so many bytes were written."""
    path = root / ".sessions" / session_id / "events.jsonl"
    before = path.stat().st_size
    with opened(root) as manager:
        manager.add_conversation_message(session_id, "user", text, id="k")
    os.truncate(path, before + kept)


TEXTS = [SECRET, 'card 4111-1111 "quoted" \\ é 東京 \n end', "7Zq", "é", "x" * 9000 + SECRET + "y" * 9000]


@pytest.mark.parametrize("text", TEXTS, ids=lambda text: str(len(text)))
def test_a_torn_record_keeps_nothing_of_the_text(tmp_path: Path, text: str) -> None:
    with opened(tmp_path / "whole") as manager:
        manager.create_session("s")
        path = tmp_path / "whole" / ".sessions" / "s" / "events.jsonl"
        before = path.stat().st_size
        manager.add_conversation_message("s", "user", text, id="k")
    line = path.read_bytes()[before:]
    start, end = line.index(b'"content":"') + len(b'"content":"'), line.index(b'","salt"')
    for kept in [*range(start + 1, end, max((end - start) // 6, 1)), end, len(line) - 3]:
        root = tmp_path / str(kept)
        with opened(root) as manager:
            manager.create_session("s")
        torn(root, text, kept)
        with opened(root) as manager:
            place = manager.add_conversation_message("s", "user", text, id="k")
            assert manager.redactions.redact("s", place.first, "a secret").left == ()
            manager.flush()
            (fragment,) = [one.read_bytes() for one in root.rglob("quarantine/*")]
            assert len(fragment) == kept
            assert fragment[:start].endswith(b'"content":"')
            assert fragment[start:end] == b"*" * len(line[start:kept][: end - start])
            assert_whole(manager)


def test_a_torn_tail_that_is_still_there_is_scrubbed(manager: SessionManager, tmp_path: Path) -> None:
    manager.create_session("s")
    place = manager.add_conversation_message("s", "user", SECRET)
    manager.flush()
    path = tmp_path / ".sessions" / "s" / "events.jsonl"
    with path.open("ab") as stream:
        stream.write(
            b'{"type":"message.added","seq":3,"at":"2026-01-01T00:00:00.000000Z","role":"user","content":"hunter2-t'
        )
    done = manager.redactions.redact("s", place.first, "a secret")
    manager.flush()
    assert done.left == ()
    assert holding(tmp_path, "hunter2") == []
    assert_whole(manager)


def test_exports_kept_in_the_store_are_named(manager: SessionManager, tmp_path: Path) -> None:
    manager.create_session("s")
    manager.add_conversation_message("s", "user", f"{SECRET} & <more>")
    (tmp_path / ".sessions" / "s" / "notes.html").write_text(f"<p>{SECRET} &amp; &lt;more&gt;")
    (tmp_path / ".sessions" / "exports").mkdir()
    (tmp_path / ".sessions" / "exports" / "all.csv").write_text(f"1,{SECRET} & <more>")
    (tmp_path / ".history").mkdir(exist_ok=True)
    (tmp_path / ".history" / "kept.txt").write_text(f"{SECRET} & <more>")
    export_archive(manager, tmp_path / ".sessions" / "backup.zip")
    with zipfile.ZipFile(tmp_path / ".sessions" / "backup.zip") as packed:
        assert any(SECRET.encode() in packed.read(name) for name in packed.namelist())
    done = manager.redactions.redact("s", 2, "a secret")
    assert set(done.left) == {"s/notes.html", "exports/all.csv", "kept.txt", "backup.zip"}


@pytest.mark.parametrize("before", range(4))
@pytest.mark.parametrize("secret", [SECRET, "a long secret, " * 40, "\u00fc\u00df?>" * 9])
def test_what_a_program_stores_as_base64_is_named(manager: SessionManager, before: int, secret: str) -> None:
    """As the savers of frameworks do: no pattern reads it."""
    for name in ("bytes", "base64", "url"):
        manager.create_session(name)
    raw = b"\x00" * before + b"\xda" + secret.encode() + b"\xff"
    manager.append("bytes", [e.RecordPut(stream="blobs", key="k", value=raw)])
    manager.append("base64", [e.RecordPut(stream="blobs", key="k", value={"data": b64encode(raw).decode()})])
    manager.append("url", [e.RecordPut(stream="blobs", key="k", value={"data": urlsafe_b64encode(raw).decode()})])
    manager.create_session("s")
    manager.add_conversation_message("s", "user", secret)
    done = manager.redactions.redact("s", 2, "a secret")
    assert set(done.left) == {f"{name}/events.jsonl" for name in ("bytes", "base64", "url")}


def test_another_event_that_says_the_same_is_named(manager: SessionManager, tmp_path: Path) -> None:
    for one in ("s", "t"):
        manager.create_session(one)
        manager.add_conversation_message(one, "user", SECRET)
    manager.flush()
    done = manager.redactions.redact("s", 2, "a secret")
    manager.flush()
    assert "t/events.jsonl" in done.left
    assert {name.removeprefix(".sessions/") for name in holding(tmp_path)} <= set(done.left)


def test_names_of_tools_models_and_keys_are_gone_too(manager: SessionManager, tmp_path: Path) -> None:
    manager.create_session("s")
    manager.record_usage("s", {"input": 1}, cost=1, model=f"{SECRET}-model")
    manager.link_invocation("s", "inv1", f"{SECRET}-tool", None, 1.0, success=False, error=f"{SECRET}-error")
    manager.set_data("s", f"{SECRET}-key", 1)
    manager.page_sessions()
    manager.search("tool")
    manager.analytics(by="tool")
    manager.analytics(by="model")
    manager.flush()
    assert holding(tmp_path)
    done = manager.redactions.redact("s", [2, 3, 4], "names")
    manager.flush()
    assert (holding(tmp_path), done.left) == ([], ())


def test_what_a_damaged_fork_holds_is_named(manager: SessionManager, tmp_path: Path) -> None:
    manager.create_session("s")
    manager.add_conversation_message("s", "user", SECRET)
    manager.fork_session("s", new_id="f")
    manager.trash.put("f")
    path = tmp_path / ".sessions" / "_trash" / "f" / "events.jsonl"
    data = path.read_bytes()
    path.write_bytes(data.replace(b'"session.created"', b'"session.Created"', 1))
    done = manager.redactions.redact("s", 2, "a secret")
    assert any("_trash/f" in name for name in done.left)
    assert isinstance(list(manager.events("s"))[1], e.RedactedEvent)


def test_the_remains_of_a_session_whose_deletion_was_cut_short_are_named(
    manager: SessionManager, tmp_path: Path
) -> None:
    manager.create_session("s")
    manager.add_conversation_message("s", "user", SECRET)
    manager.fork_session("s", new_id="f")
    manager.set_data("f", "k", 1)
    manager.flush()
    (tmp_path / ".sessions" / "f" / "events.jsonl").unlink()
    done = manager.redactions.redact("s", 2, "a secret")
    assert holding(tmp_path) == [f".sessions/{name}" for name in done.left]


def test_what_a_killed_copy_of_a_past_left_in_a_fork_holds_no_text_after_a_redaction_in_the_parent(
    manager: SessionManager, tmp_path: Path
) -> None:
    manager.create_session("s")
    manager.add_conversation_message("s", "user", SECRET)
    manager.fork_session("s", new_id="f")
    manager.add_conversation_message("f", "user", "open")
    manager.flush()
    killed(tmp_path, "manager.storage.log.make_whole('f')", ".events.jsonl.new")
    assert ".sessions/f/.events.jsonl.new" in holding(tmp_path)
    manager.redactions.redact("s", 2, "a secret")
    manager.flush()
    assert holding(tmp_path) == []
    assert_whole(manager)


def test_the_next_append_of_another_program_removes_what_a_killed_copy_of_a_past_left(
    manager: SessionManager, tmp_path: Path
) -> None:
    manager.create_session("s")
    manager.fork_session("s", new_id="f")
    manager.flush()
    killed(tmp_path, "manager.storage.log.make_whole('f')", ".events.jsonl.new")
    assert list(tmp_path.rglob(".*.new")) == [tmp_path / ".sessions" / "f" / ".events.jsonl.new"]
    with opened(tmp_path) as other:
        other.add_conversation_message("f", "user", "on")
    assert list(tmp_path.rglob(".*.new")) == []
    assert_whole(manager)


def test_a_text_in_a_compressed_line_of_another_event_is_named_in_left(manager: SessionManager) -> None:
    line = f'{{"text":"{SECRET}","rest":"{"0123456789" * 30}"}}\n'
    manager.append("s", [e.ForeignRecorded(origin=e.Origin("codex", line=line))], create=True)
    manager.append("s", [e.ForeignRecorded(origin=e.Origin("codex", line=line.replace("rest", "more")))])
    manager.flush()
    assert manager.redactions.redact("s", [2], "a secret").left == ("s/events.jsonl",)
    assert manager.redactions.redact("s", [3], "a secret").left == ()
