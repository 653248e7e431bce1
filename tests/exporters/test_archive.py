"""Archives: sessions that move between stores, and what is refused."""

import json
import os
import shutil
import signal
import stat
import struct
import subprocess
import sys
import zipfile
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from datetime import UTC, datetime
from hashlib import sha256
from pathlib import Path
from typing import Any

import pytest
from commands import clean_environment, run
from transcripts import claude_session, lines

from eventstore import (
    FileSystemSessionStorage,
    InvalidSessionId,
    LogDamaged,
    MemorySessionStorage,
    SessionExists,
    SessionManager,
    SessionNotFound,
    SessionStorage,
)
from eventstore import events as e
from eventstore.errors import ExportRefused, ImportRefused
from eventstore.exporters import export_archive
from eventstore.importers import archive_file, import_archive
from eventstore.importers.archive_manifest import find_twins, odd_name
from eventstore.importers.files import import_file
from eventstore.importers.formats import FORMATS
from eventstore.integrity import SigningKey, verify_all, verify_session, verify_store
from eventstore.log.ingest import verify_whole
from eventstore.record import codec, tombstone

MADE = datetime(2026, 1, 31, 12, tzinfo=UTC)
Files = dict[str, bytes]
Change = Callable[[dict[str, Any], Files], object]


@contextmanager
def another(folder: Path, *, memory: bool = False) -> Iterator[SessionStorage]:
    made = MemorySessionStorage(folder / "h") if memory else FileSystemSessionStorage(folder / "s", folder / "h")
    with made:
        yield made


def said(text: str) -> e.Event:
    return e.MessageAdded(role="user", content=text)


def begin(storage: SessionStorage, session_id: str, *texts: str) -> None:
    storage.append(session_id, [e.SessionCreated(purpose="p")], expected_version=0)
    for text in texts:
        storage.append(session_id, [said(text)])


def fill(storage: SessionStorage) -> None:
    """Make a session with a tool call and a redacted event, a fork of it, a fork of that, and a template."""
    manager = SessionManager(storage)
    begin(storage, "s", "hello", "my secret")
    assert storage.history is not None
    folder = storage.history.create("grep", MADE)
    (folder / "record.jsonl").write_text("{}\n")
    (folder / "more").mkdir()
    (folder / "more" / "a.bin").write_bytes(bytes(1000))
    storage.link_invocation("s", "i", folder)
    storage.log.redact("s", [3], "a secret")
    manager.fork_session("s", 4, "f")
    storage.append("f", [said("in the fork"), said("as a batch")])
    manager.fork_session("f", None, "g")
    storage.append("g", [said("in the fork of the fork")])
    storage.save_template("t", "s", 2, e.SessionCreated())
    storage.flush_views()


def logs(storage: SessionStorage) -> dict[str, bytes]:
    ids = [*storage.log.ids(), *(f"_template.{name}" for name in storage.templates())]
    return {one: b"".join(storage.log.chunks(one)) for one in sorted(ids)}


def assert_clean(storage: SessionStorage) -> None:
    for one in storage.log.ids():
        assert verify_session(storage, one).findings == ()
    if any(storage.log.ids()):
        assert verify_store(storage).findings == ()


def tree(folder: Path) -> dict[str, bytes]:
    return {str(one.relative_to(folder)): one.read_bytes() for one in sorted(folder.rglob("*")) if one.is_file()}


# --- there and back


@pytest.mark.parametrize("memory", [False, True])
def test_a_store_moves_whole_to_another(storage: SessionStorage, tmp_path: Path, memory: bool) -> None:
    fill(storage)
    done = export_archive(storage, tmp_path / "a.zip")
    assert done.sessions == ("_template.t", "f", "g", "s")
    assert done.left_out == ()
    assert stat.S_IMODE((tmp_path / "a.zip").stat().st_mode) == 0o600
    with another(tmp_path / "there", memory=memory) as target:
        taken = import_archive(target, tmp_path / "a.zip")
        assert set(taken.sessions) == set(done.sessions)
        assert (taken.skipped, taken.history) == ((), 1)
        assert logs(target) == logs(storage)
        assert tree(tmp_path / "there/h") == tree(tmp_path / ".history")
        assert_clean(target)
        for one in ("f", "g", "_template.t"):
            assert target.log.inherited(one) == storage.log.inherited(one) > 0
            assert target.log.root_of(one) == "s"
        assert target.templates() == ["t"]
        target.use_template("t", "new", e.SessionCreated())
        target.append("g", [said("goes on")])
        assert target.delete_session("s")
        assert b"".join(target.log.chunks("f")).startswith(logs(storage)["f"])
        assert_clean(target)


def test_views_lists_and_conversations_are_made_anew(files: FileSystemSessionStorage, tmp_path: Path) -> None:
    fill(files)
    export_archive(files, tmp_path / "a.zip")
    with another(tmp_path / "there") as target:
        import_archive(target, tmp_path / "a.zip")
        assert sorted(one.session_id for one in target.list_metadata()) == ["f", "g", "s"]
        assert (tmp_path / "there/s/s/metadata.json").is_file()
        assert (tmp_path / "there/s/s/tree/invocations/i").exists() or any((tmp_path / "there/s/s").rglob("i"))
        loaded, before = target.load_session("g"), files.load_session("g")
        assert loaded is not None
        assert before is not None
        assert loaded.conversation == before.conversation


def test_checkpoints_and_quarantine_go_along(files: FileSystemSessionStorage, tmp_path: Path) -> None:
    begin(files, "s", "a", "b")
    folder = files.sessions_dir / "s"
    note = SessionManager(files).proofs.sign_checkpoint("s", SigningKey.generate("k"))
    (kept,) = (folder / "checkpoints").iterdir()
    (folder / "checkpoints/odd").write_bytes(b"not a note\n")
    with (folder / "events.jsonl").open("ab") as stream:
        stream.write(b"torn")
    files.append("s", [said("c")])
    export_archive(files, tmp_path / "a.zip")
    with another(tmp_path / "there") as target:
        import_archive(target, tmp_path / "a.zip")
        there = tmp_path / "there/s/s"
        assert (there / "checkpoints" / kept.name).read_text("utf-8") == note
        assert tree(there / "quarantine") == tree(folder / "quarantine") != {}
        assert not (there / "checkpoints/odd").exists()
        assert_clean(target)
        for one in there.rglob("*"):
            if not one.is_symlink():
                assert stat.S_IMODE(one.stat().st_mode) & 0o077 == 0
    with another(tmp_path / "memory", memory=True) as target:
        import_archive(target, tmp_path / "a.zip")
        assert target.log.attachments("s") == files.log.attachments("s")
        assert_clean(target)


def test_the_same_sessions_give_the_same_bytes(storage: SessionStorage, tmp_path: Path) -> None:
    fill(storage)
    first = export_archive(storage, tmp_path / "a.zip", made_at=MADE)
    second = export_archive(
        SessionManager(storage), tmp_path / "b.zip", ["s", "g", "f", "s", "_template.t"], made_at=MADE
    )
    assert first.manifest_sha256 == second.manifest_sha256
    assert (tmp_path / "a.zip").read_bytes() == (tmp_path / "b.zip").read_bytes()
    with another(tmp_path / "there") as target:
        import_archive(target, tmp_path / "a.zip")
        export_archive(target, tmp_path / "c.zip", made_at=MADE)
    assert (tmp_path / "a.zip").read_bytes() == (tmp_path / "c.zip").read_bytes()


def test_a_fork_without_its_parent_goes_whole(storage: SessionStorage, tmp_path: Path) -> None:
    begin(storage, "s", "a")
    SessionManager(storage).fork_session("s", 2, "f")
    storage.append("f", [said("b")])
    SessionManager(storage).fork_session("f", 4, "g")
    export_archive(storage, tmp_path / "a.zip", ["f", "g"])
    with another(tmp_path / "there") as target:
        import_archive(target, tmp_path / "a.zip")
        assert (target.log.inherited("f"), target.log.inherited("g")) == (0, 4)
        assert {one: b"".join(storage.log.chunks(one)) for one in "fg"} == logs(target)
        assert target.log.root_of("g") == "s"
        assert_clean(target)
        export_archive(target, tmp_path / "b.zip")
    with another(tmp_path / "third") as target:
        import_archive(target, tmp_path / "b.zip")
        assert_clean(target)


def test_a_redacted_parent_must_come_along(files: FileSystemSessionStorage, tmp_path: Path) -> None:
    begin(files, "s", "a secret")
    SessionManager(files).fork_session("s", 2, "f")
    files.log.redact("s", [2], "r")
    with pytest.raises(ExportRefused, match="export that session too"):
        export_archive(files, tmp_path / "a.zip", ["f"])
    assert not list(tmp_path.glob("*.zip*"))
    SessionManager(files).redactions.redact("s", 2, "r")
    export_archive(files, tmp_path / "a.zip")
    with another(tmp_path / "there") as target:
        import_archive(target, tmp_path / "a.zip")
        assert logs(target) == logs(files)
        assert_clean(target)


def test_an_unfinished_redaction_is_not_exported(files: FileSystemSessionStorage, tmp_path: Path) -> None:
    begin(files, "s", "a secret")
    line = next(files.log.lines("s", 1, 2))
    leaf = tombstone.leaf_of(line)
    assert leaf is not None
    files.log.append("s", [e.EventRedacted(target=2, leaf=leaf.hex(), reason="r")])
    with pytest.raises(ExportRefused, match="event 2 has an unfinished redaction"):
        export_archive(files, tmp_path / "a.zip")
    with FileSystemSessionStorage(files.sessions_dir, files.history_dir) as again:
        again.append("s", [said("on")])
        export_archive(again, tmp_path / "a.zip")


def test_a_redaction_meanwhile_is_an_error(
    files: FileSystemSessionStorage, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    begin(files, "s", "a secret")
    read = files.log.chunks

    def chunks(session_id: str, after: int = 0, upto: int | None = None) -> Iterator[bytes]:
        if upto == 2:
            files.log.redact("s", [2], "meanwhile")
        return read(session_id, after, upto)

    monkeypatch.setattr(files.log, "chunks", chunks)
    with pytest.raises(ExportRefused, match="in the meantime"):
        export_archive(files, tmp_path / "a.zip")
    assert not list(tmp_path.glob("*zip*"))


def test_what_is_appended_meanwhile_is_left_out(
    storage: SessionStorage, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    begin(storage, "s", "a")
    chunks = storage.log.chunks

    def slow(session_id: str, after: int = 0, upto: int | None = None) -> Iterator[bytes]:
        if upto == 2:
            storage.log.append("s", [said("meanwhile")])
        return chunks(session_id, after, upto)

    monkeypatch.setattr(storage.log, "chunks", slow)
    export_archive(storage, tmp_path / "a.zip")
    monkeypatch.undo()
    with another(tmp_path / "there") as target:
        import_archive(target, tmp_path / "a.zip")
        assert target.log.head("s").version == 2


def test_what_was_deleted_before_is_remembered(storage: SessionStorage, tmp_path: Path) -> None:
    begin(storage, "s", *"abcdef")
    storage.delete_session("s")
    begin(storage, "s", "new")
    export_archive(storage, tmp_path / "a.zip")
    with another(tmp_path / "there") as target:
        import_archive(target, tmp_path / "a.zip")
        assert target.ended("s") == 7
        assert_clean(target)


def test_history_holds_regular_files_only_and_what_lies_elsewhere_is_told(
    files: FileSystemSessionStorage, tmp_path: Path
) -> None:
    begin(files, "s")
    assert files.history is not None
    folder = files.history.create("t", MADE)
    (tmp_path / "secret").write_text("secret")
    (folder / "link").symlink_to(tmp_path / "secret")
    (folder / "dir").symlink_to(tmp_path)
    os.mkfifo(folder / "pipe")
    (folder / "good").write_text("good")
    (files.history_dir / "outside").symlink_to(tmp_path)
    for number, name in enumerate([str(folder), "gone", "../x", "/etc", "outside", "_adopt/x", "a\0b"]):
        files.log.append(
            "s",
            [
                e.InvocationLinked(
                    invocation_id=str(number), invocation_dir=files.relative(name) if number == 0 else name
                )
            ],
        )
    done = export_archive(files, tmp_path / "a.zip")
    with zipfile.ZipFile(tmp_path / "a.zip") as opened:
        assert [name for name in opened.namelist() if name.startswith("history")] == [f"history/{folder.name}/good"]
    assert len(done.left_out) == 9
    assert "link" in " ".join(done.left_out)
    with another(tmp_path / "there") as target:
        import_archive(target, tmp_path / "a.zip")
        assert tree(tmp_path / "there/h") == {f"{folder.name}/good": b"good"}
        import_archive(target, tmp_path / "a.zip")
    assert import_archive(files, tmp_path / "a.zip").skipped == ("s",)


def test_nothing_to_export_is_an_error(storage: SessionStorage, tmp_path: Path) -> None:
    with pytest.raises(ExportRefused):
        export_archive(storage, tmp_path / "a.zip")
    with pytest.raises(SessionNotFound):
        export_archive(storage, tmp_path / "a.zip", ["no"])
    with pytest.raises(InvalidSessionId):
        export_archive(storage, tmp_path / "a.zip", ["_store"])
    with pytest.raises(InvalidSessionId):
        export_archive(storage, tmp_path / "a.zip", ["../x"])
    assert not list(tmp_path.glob("*.zip*"))


# --- sessions that are in the store already


def test_importing_twice_changes_nothing(storage: SessionStorage, tmp_path: Path) -> None:
    fill(storage)
    export_archive(storage, tmp_path / "a.zip")
    with another(tmp_path / "there") as target:
        assert import_archive(target, tmp_path / "a.zip", dry_run=True).history == 1
        assert not (tmp_path / "there/s").exists()
        import_archive(target, tmp_path / "a.zip")
        before, told = logs(target), target.log.head("_store")
        again = import_archive(target, tmp_path / "a.zip")
        assert (again.sessions, len(again.skipped), again.events, again.history) == ((), 4, 0, 0)
        assert (logs(target), target.log.head("_store")) == (before, told)
        target.append("s", [said("on")])
        SessionManager(target).redactions.redact("s", 2, "since")
        before = logs(target)
        assert len(import_archive(target, tmp_path / "a.zip").skipped) == 4
        assert logs(target) == before


def test_a_session_that_goes_on_further_gets_its_events_and_another_is_refused(
    storage: SessionStorage, tmp_path: Path
) -> None:
    begin(storage, "s", "a")
    export_archive(storage, tmp_path / "short.zip")
    storage.append("s", [said("b")])
    begin(storage, "u", "a")
    export_archive(storage, tmp_path / "long.zip")
    with another(tmp_path / "there") as target:
        import_archive(target, tmp_path / "short.zip")
        done = import_archive(target, tmp_path / "long.zip")
        assert (set(done.sessions), done.skipped, done.events) == ({"s", "u"}, (), 3)
        assert logs(target) == logs(storage)
        assert import_archive(target, tmp_path / "short.zip").skipped == ("s",)
        assert [one.outcome for one in verify_all(target)] == ["whole"] * 3
        target.append("s", [said("its own")])
        storage.append("s", [said("another")])
        export_archive(storage, tmp_path / "other.zip")
        with pytest.raises(ImportRefused, match="a different session 's' is here"):
            import_archive(target, tmp_path / "other.zip")
    with another(tmp_path / "other") as target:
        begin(target, "s", "x", "y", "z")
        before = logs(target)
        with pytest.raises(ImportRefused, match="a different session 's'"):
            import_archive(target, tmp_path / "long.zip")
        assert logs(target) == before


def test_a_fork_of_what_only_the_archive_has_is_imported_after_it(storage: SessionStorage, tmp_path: Path) -> None:
    manager = SessionManager(storage)
    begin(storage, "s", "a")
    manager.fork_session("s", 2, "k")
    export_archive(storage, tmp_path / "short.zip")
    storage.append("s", [said("b")])
    storage.append("k", [said("c")])
    manager.fork_session("s", 3, "f")
    manager.fork_session("k", 4, "a")
    export_archive(storage, tmp_path / "long.zip")
    with another(tmp_path / "there") as target:
        import_archive(target, tmp_path / "short.zip")
        assert set(import_archive(target, tmp_path / "long.zip").sessions) == {"s", "k", "f", "a"}
        assert logs(target) == logs(storage)
        assert_clean(target)


def test_a_transcript_that_was_imported_in_both_stores_stays_as_it_is(storage: SessionStorage, tmp_path: Path) -> None:
    """On two machines the same file was imported: neither is refused, also where the file had fewer lines then."""
    whole = lines(*claude_session())
    path, archive = tmp_path / "s.jsonl", tmp_path / "a.zip"
    path.write_bytes(whole[: whole.index(b"\n", len(whole) // 2) + 1])
    import_file(storage, FORMATS["claude-code"], path)
    begin(storage, "other", "a")
    export_archive(storage, archive)
    path.write_bytes(whole)
    with another(tmp_path / "there") as target:
        import_file(target, FORMATS["claude-code"], path)
        before = logs(target)["s"]
        done = import_archive(target, archive)
        assert (done.sessions, done.skipped, done.same) == (("other",), (), ("s",))
        assert logs(target)["s"] == before
        assert {one.outcome for one in verify_all(target)} == {"whole"}
    storage.append("s", [said("its own")])
    export_archive(storage, tmp_path / "b.zip")
    with another(tmp_path / "elsewhere") as target:
        import_file(target, FORMATS["claude-code"], path)
        with pytest.raises(ImportRefused, match="a different session 's'"):
            import_archive(target, tmp_path / "b.zip")


def test_a_fork_of_a_session_that_stays_as_it_is_here_is_refused(storage: SessionStorage, tmp_path: Path) -> None:
    path = tmp_path / "s.jsonl"
    path.write_bytes(lines(*claude_session()))
    import_file(storage, FORMATS["claude-code"], path)
    SessionManager(storage).fork_session("s", 2, "f")
    export_archive(storage, tmp_path / "a.zip")
    with another(tmp_path / "there") as target:
        import_file(target, FORMATS["claude-code"], path)
        with pytest.raises(ImportRefused, match="'f' is a fork of 's', which was imported here by itself"):
            import_archive(target, tmp_path / "a.zip")
        assert set(logs(target)) == {"s"}


def test_a_tool_call_folder_that_is_another_is_refused(storage: SessionStorage, tmp_path: Path) -> None:
    fill(storage)
    export_archive(storage, tmp_path / "a.zip")
    with another(tmp_path / "there") as target:
        assert target.history is not None
        target.history.create("grep", MADE)
        with pytest.raises(ImportRefused, match="is here already, with other content"):
            import_archive(target, tmp_path / "a.zip")
        assert not list(target.log.ids())


def test_a_fork_finds_its_parent_in_the_store(storage: SessionStorage, tmp_path: Path) -> None:
    fill(storage)
    path = export_archive(storage, tmp_path / "a.zip").path
    rewrite(path, drop_session("s"))
    with another(tmp_path / "there") as target:
        with pytest.raises(ImportRefused, match="neither in the archive nor in the store"):
            import_archive(target, path)
        export_archive(storage, tmp_path / "s.zip", ["s"])
        import_archive(target, tmp_path / "s.zip")
        import_archive(target, path)
        assert logs(target) == logs(storage)
        assert_clean(target)


# --- hostile archives


def contents(path: Path) -> tuple[dict[str, Any], Files]:
    with zipfile.ZipFile(path) as opened:
        files = {name: opened.read(name) for name in opened.namelist()}
    return json.loads(files.pop("manifest.json")), files


def write(path: Path, manifest: dict[str, Any], files: Files, *, tell: bool = True) -> None:
    if tell:
        manifest["files"] = {
            name: {"sha256": sha256(data).hexdigest(), "size_bytes": len(data)} for name, data in files.items()
        }
    with zipfile.ZipFile(path, "w", zipfile.ZIP_DEFLATED) as opened:
        for name, data in files.items():
            opened.writestr(name, data)
        opened.writestr("manifest.json", json.dumps(manifest))


def rewrite(path: Path, change: Change, *, tell: bool = True) -> None:
    manifest, files = contents(path)
    change(manifest, files)
    write(path, manifest, files, tell=tell)


def drop_session(session_id: str) -> Change:
    def change(manifest: dict[str, Any], files: Files) -> None:
        manifest["sessions"] = [one for one in manifest["sessions"] if one["session_id"] != session_id]
        del files[f"sessions/{session_id}/events.jsonl"]
        manifest["history"] = []
        for name in [one for one in files if one.startswith("history/")]:
            del files[name]

    return change


def drop_all(manifest: dict[str, Any], files: Files) -> None:
    manifest.update(sessions=[], history=[])
    files.clear()


def edit_log(session_id: str, change: Callable[[bytes], bytes]) -> Change:
    def edit(manifest: dict[str, Any], files: Files) -> None:
        name = f"sessions/{session_id}/events.jsonl"
        files[name] = change(files[name])

    return edit


def edit_entry(session_id: str, **fields: Any) -> Change:
    def edit(manifest: dict[str, Any], files: Files) -> None:
        next(one for one in manifest["sessions"] if one["session_id"] == session_id).update(fields)

    return edit


def add(name: str, data: bytes = b"x") -> Change:
    return lambda manifest, files: files.update({name: data})


def add_folder(name: str) -> Change:
    def change(manifest: dict[str, Any], files: Files) -> None:
        manifest["history"].append(name)
        files[f"history/{name}/f"] = b"x"

    return change


def add_session(name: str) -> Change:
    def change(manifest: dict[str, Any], files: Files) -> None:
        entry = next(one for one in manifest["sessions"] if one["session_id"] == "s")
        manifest["sessions"].append({**entry, "session_id": name})
        files[f"sessions/{name}/events.jsonl"] = files["sessions/s/events.jsonl"]

    return change


def untold(log: bytes) -> bytes:
    """Blank a line that nothing tells of."""
    lines = log.split(b"\n")
    stub = tombstone.make_tombstone(lines[1])
    assert stub is not None
    return b"\n".join([lines[0], stub, *lines[2:]])


HOSTILE: dict[str, tuple[Change, str]] = {
    "climbs": (add("../x"), "an empty part"),
    "climbs inside": (add("history/a/../../x"), "an empty part"),
    "absolute": (add("/etc/x"), "absolute"),
    "drive": (add("C:/x"), "drive"),
    "drive inside": (add("history/c:x"), "drive"),
    "backslash": (add("history\\x"), "backslash"),
    "control": (add("history/a\nb"), "control"),
    "folder": (add("history/a/"), "an empty part"),
    "dot": (add("history/./a"), "an empty part"),
    "to nothing": (add("x/y"), "belongs to no session"),
    "beside": (add("sessions/s/metadata.json"), "belongs to no session"),
    "log again": (add("sessions/s/events.jsonl/x"), "same file"),
    "case": (add("sessions/S/events.jsonl"), "same file"),
    "folder case": (add("History/x"), "same file"),
    "no session": (add("sessions/x/events.jsonl"), "not in its manifest"),
    "store": (add_session("_store"), "invalid id"),
    "bad id": (add_session("nul"), "invalid id"),
    "no log": (lambda manifest, files: files.pop("sessions/g/events.jsonl"), "no log"),
    "twice": (lambda manifest, files: manifest["sessions"].append(manifest["sessions"][0]), "twice"),
    "another's log": (add_session("x"), "verify"),
    "empty log": (edit_log("g", lambda log: b""), "no event"),
    "changed": (edit_log("s", lambda log: log.replace(b"hello", b"hullo")), "does not verify.*line 2"),
    "cut": (edit_log("s", lambda log: log[:-1]), "does not verify"),
    "half a batch": (edit_log("f", lambda log: log[: log.rindex(b"\n", 0, -1) + 1]), "does not verify"),
    "shorter": (edit_log("s", lambda log: log[: log.rindex(b"\n", 0, -1) + 1]), "differs from its entry|verify"),
    "first line gone": (edit_log("s", lambda log: log.split(b"\n", 1)[1]), "does not verify"),
    "stub": (edit_log("s", untold), "no event records"),
    "bomb line": (edit_log("s", lambda log: log + b"x" * (codec.MAX_EVENT_BYTES + 10)), "does not verify"),
    "parent gone": (drop_session("s"), "neither in the archive nor in the store"),
    "wrong head": (edit_entry("s", head_hash="0" * 64), "differs from its entry"),
    "wrong events": (edit_entry("s", events=99), "differs from its entry"),
    "wrong root": (edit_entry("s", root="x"), "chain is that of"),
    "wrong fork": (edit_entry("f", forked_from=None), "differs from its entry"),
    "wrong number": (edit_entry("s", ended_events=-1), "invalid number"),
    "unknown field": (edit_entry("s", x=1), "is invalid"),
    "climbing folder": (add_folder("../../x"), "an empty part"),
    "untold folder": (add_folder("x"), "belongs to none"),
    "aside": (add("sessions/_adopt/events.jsonl"), "not in its manifest"),
    "loose file": (add("history/x/y"), "in no folder"),
    "no sessions": (drop_all, "no session"),
    "format": (lambda manifest, files: manifest.update(format="eventstore-archive/2"), "format is not"),
    "no list": (lambda manifest, files: manifest.update(sessions={}), "is invalid"),
}


@pytest.fixture
def good(tmp_path: Path) -> Path:
    with another(tmp_path / "from") as source:
        fill(source)
        return export_archive(source, tmp_path / "a.zip").path


def refused(path: Path, tmp_path: Path, match: str) -> None:
    with another(tmp_path / "there") as target:
        with pytest.raises(ImportRefused, match=match) as caught:
            import_archive(target, path)
        assert "nothing was written" in str(caught.value)
        assert "hello" not in str(caught.value)
        assert not (tmp_path / "there").exists()


@pytest.mark.parametrize("name", HOSTILE)
def test_a_hostile_archive_is_refused_before_anything_is_written(good: Path, tmp_path: Path, name: str) -> None:
    change, match = HOSTILE[name]
    rewrite(good, change)
    refused(good, tmp_path, match)


def test_a_rewritten_archive_that_changes_nothing_is_taken(good: Path, tmp_path: Path) -> None:
    rewrite(good, lambda manifest, files: None)
    with another(tmp_path / "there") as target:
        assert len(import_archive(target, good).sessions) == 4


@pytest.mark.parametrize(
    ("change", "match"),
    [
        (add("history/x"), "not in its manifest"),
        (edit_log("s", lambda log: log + b"x"), "another size"),
        (edit_log("s", lambda log: log[:-2] + b"x\n"), "another hash|does not verify"),
        (lambda manifest, files: files.pop("sessions/g/events.jsonl"), "in its manifest.json only"),
    ],
)
def test_files_that_are_not_those_of_the_manifest_are_refused(
    good: Path, tmp_path: Path, change: Change, match: str
) -> None:
    rewrite(good, change, tell=False)
    refused(good, tmp_path, match)


def test_a_changed_file_of_a_tool_call_is_refused(good: Path, tmp_path: Path) -> None:
    def change(manifest: dict[str, Any], files: Files) -> None:
        name = next(one for one in files if one.endswith("a.bin"))
        files[name] = b"x" * len(files[name])

    rewrite(good, change, tell=False)
    refused(good, tmp_path, "another hash")


@pytest.mark.parametrize("kind", [stat.S_IFLNK, stat.S_IFDIR, stat.S_IFIFO, stat.S_IFCHR])
def test_links_folders_and_devices_are_refused(good: Path, tmp_path: Path, kind: int) -> None:
    manifest, files = contents(good)
    with zipfile.ZipFile(good, "w") as opened:
        for name, data in files.items():
            told = zipfile.ZipInfo(name)
            told.external_attr = (kind | 0o777 if name.endswith("a.bin") else stat.S_IFREG) << 16
            opened.writestr(told, data)
        opened.writestr("manifest.json", json.dumps(manifest))
    refused(good, tmp_path, "a link, a folder or a device")


@pytest.mark.filterwarnings("ignore:Duplicate name")
def test_a_name_that_is_there_twice_is_refused(good: Path, tmp_path: Path) -> None:
    with zipfile.ZipFile(good, "a") as opened:
        opened.writestr("sessions/s/events.jsonl", b"x")
    refused(good, tmp_path, "twice")


def test_a_name_with_nul_is_refused(good: Path, tmp_path: Path) -> None:
    rewrite(good, add("history/aXb"))
    good.write_bytes(good.read_bytes().replace(b"history/aXb", b"history/a\0b"))
    refused(good, tmp_path, "NUL|not a complete zip")


def test_what_says_a_wrong_size_is_refused(good: Path, tmp_path: Path) -> None:
    manifest, files = contents(good)
    name = next(one for one in files if one.endswith("a.bin"))
    files[name] = bytes(50_000)
    write(good, manifest, files)
    data = good.read_bytes().replace(struct.pack("<L", 50_000), struct.pack("<L", 1_000))
    manifest["files"][name]["size_bytes"] = 1000
    good.write_bytes(data)
    refused(good, tmp_path, "size|unpacked")


def test_bombs_are_refused(good: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(archive_file, "_RATIO_FLOOR_BYTES", 100_000)
    manifest, files = contents(good)
    name = next(one for one in files if one.endswith("a.bin"))
    files[name] = bytes(20_000_000)
    write(good, manifest, files)
    refused(good, tmp_path, "times its size")
    with another(tmp_path / "more") as target:
        assert import_archive(target, good, max_ratio=10_000).history == 1


def test_a_list_of_too_many_files_is_refused_before_it_is_read(
    good: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(archive_file, "MAX_FILES", 3)
    monkeypatch.setattr(zipfile, "ZipFile", None)
    refused(good, tmp_path, "more than 3 files")


def test_more_than_there_is_room_for_is_refused(good: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    usage = shutil.disk_usage(tmp_path)
    monkeypatch.setattr(shutil, "disk_usage", lambda path: usage._replace(free=10))
    refused(good, tmp_path, "free some space")


def test_what_is_no_archive_is_refused(good: Path, tmp_path: Path) -> None:
    data = good.read_bytes()
    for bad in (b"", b"x" * 100, data[:-1], data + b"x", data[:100], data[100:], b"PK\5\6" + bytes(18)):
        good.write_bytes(bad)
        refused(good, tmp_path, "not a complete zip|no manifest|cannot be|wrong|size")
    refused(tmp_path / "none.zip", tmp_path, "cannot be read")
    refused(tmp_path, tmp_path, "cannot be read|regular")


def test_any_byte_that_is_changed_is_noticed(good: Path, tmp_path: Path) -> None:
    data = good.read_bytes()
    with another(tmp_path / "sound") as target:
        import_archive(target, good)
        sound = logs(target)
    for place in range(0, len(data), 97):
        good.write_bytes(data[:place] + bytes([data[place] ^ 0x55]) + data[place + 1 :])
        with another(tmp_path / "memory", memory=True) as target:
            try:
                import_archive(target, good, dry_run=True)
            except ImportRefused:
                continue
            import_archive(target, good)  # a byte that means nothing, such as a time
            assert logs(target) == sound


def test_links_in_the_store_are_not_followed(good: Path, tmp_path: Path) -> None:
    (tmp_path / "away").mkdir()
    (tmp_path / "there/h").mkdir(parents=True)
    (tmp_path / "there/s").mkdir()
    (tmp_path / "there/s/_adopt").symlink_to(tmp_path / "away")
    (tmp_path / "there/h/_adopt").symlink_to(tmp_path / "away")
    with another(tmp_path / "there") as target, pytest.raises(OSError, match="_adopt"):
        import_archive(target, good)
    assert not list((tmp_path / "away").iterdir())


def test_names_are_judged() -> None:
    for name in ("a", "a b/ü", "history/2026_x/record.jsonl", "ab:y"):
        assert odd_name(name) is None
    for name in (
        "",
        "/a",
        "a//b",
        "a/",
        "..",
        "a/..",
        "a\\b",
        "a\0",
        "c:",
        "a/d:x",
        "x" * 300,
        "a\x7f",
        "\ud800",
        "a/" * 3000,
    ):
        assert odd_name(name)
    assert find_twins(["a/b", "a/c", "ab", "A0"]) is None
    for twins in (["a", "A"], ["a/x", "A/y"], ["a", "a/b"], ["a/b", "a"], ["é", "e\u0301"], ["ß", "SS"]):
        assert find_twins(twins)


# --- crashes

CRASH = """
import sys, time
from pathlib import Path
from eventstore import FileSystemSessionStorage
from eventstore.importers import import_archive
from eventstore.backends.files import atomic_folder as staging
put, made = staging.Stage.put, staging.Stage.open
count = int(sys.argv[3])
def stop(self, path):
    global count
    count -= 1
    if count < 0:
        print("now", flush=True)
        time.sleep(60)
    put(self, path)
staging.Stage.put = stop
with FileSystemSessionStorage(Path(sys.argv[2], "s"), Path(sys.argv[2], "h")) as storage:
    import_archive(storage, sys.argv[1])
"""


@pytest.mark.parametrize("puts", range(5))
def test_an_import_that_is_killed_leaves_nothing_half_and_can_go_on(good: Path, tmp_path: Path, puts: int) -> None:
    there = tmp_path / "there"
    arguments = [sys.executable, "-c", CRASH, str(good), str(there), str(puts)]
    with subprocess.Popen(arguments, stdout=subprocess.PIPE, env=clean_environment(tmp_path)) as child:
        assert child.stdout is not None
        assert child.stdout.readline() == b"now\n"
        child.send_signal(signal.SIGKILL)
    with another(tmp_path / "sound") as sound:
        import_archive(sound, good)
        wanted = logs(sound)
    with another(there) as target:
        found = logs(target)
        assert len(found) == max(puts - 1, 0)
        assert all(wanted[one] == log for one, log in found.items())
        assert (there / ("s" if puts else "h") / "_adopt/made").is_dir()
        assert_clean(target)
        done = import_archive(target, good)
        assert len(done.skipped) == max(puts - 1, 0)
        assert logs(target) == wanted
        assert_clean(target)
        assert tree(there / "h") == tree(tmp_path / "sound/h")
        assert not any((there / name / "_adopt").is_dir() and any((there / name / "_adopt").iterdir()) for name in "sh")


def test_an_import_killed_before_its_views_were_written_writes_them_when_it_is_repeated(
    good: Path, tmp_path: Path
) -> None:
    program = """
import os, sys
from pathlib import Path
from eventstore import FileSystemSessionStorage
from eventstore.importers import import_archive
FileSystemSessionStorage.flush_views = lambda *_: None
import_archive(FileSystemSessionStorage("s", "h"), Path(sys.argv[1]))
os._exit(9)
"""
    words = [sys.executable, "-c", program, str(good)]
    assert subprocess.run(words, cwd=tmp_path, check=False).returncode == 9
    with FileSystemSessionStorage(tmp_path / "s", tmp_path / "h") as storage:
        names = list(storage.log.ids())
        import_archive(storage, good)
    assert names
    assert all((tmp_path / "s" / name / "conversation.jsonl").exists() for name in names)


def test_a_crash_before_the_note_is_mended_by_importing_again(
    good: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    with another(tmp_path / "there") as target:
        monkeypatch.setattr(target.registry, "record_imported", lambda *_, **__: None)
        import_archive(target, good)
        monkeypatch.undo()
        assert verify_store(target).notes
        import_archive(target, good)
        assert_clean(target)


def test_a_fork_is_noted_before_it_is_there_so_that_its_parent_does_not_go_unnoticed(
    good: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    with another(tmp_path / "there") as target:
        ingest, told = target.log.ingest, dict[str, bool]()

        def watched(session_id: str, *arguments: Any, **named: Any) -> Any:
            if target.log.exists("_store"):
                noted = [one for one in target.log.read("_store") if isinstance(one, e.StoreSessionForked)]
                told[session_id] = session_id in [one.session_id for one in noted]
            return ingest(session_id, *arguments, **named)

        monkeypatch.setattr(target.log, "ingest", watched)
        import_archive(target, good)
        assert told == {"f": True, "g": True, "_template.t": True}


def test_a_log_that_is_not_the_one_that_was_verified_is_not_taken_in(storage: SessionStorage, tmp_path: Path) -> None:
    begin(storage, "s", "a")
    lines = [line + b"\n" for line in storage.log.lines("s")]
    whole = verify_whole("s", lines)
    assert (whole.head, whole.root, whole.fork) == (storage.log.head("s"), "s", None)
    with another(tmp_path / "there") as target:
        for other in (lines[:1], [*lines, b"x"], []):
            with pytest.raises(LogDamaged, match="nothing was changed"):
                target.ingest(whole, other)
        assert not list(target.log.ids())
        assert target.ingest(whole, lines) == whole.head
        with pytest.raises(SessionExists):
            target.ingest(whole, lines)


def test_an_archive_that_changes_after_it_was_verified_is_noticed(
    good: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    read, seen = archive_file.OpenedArchive.read, set[str]()

    def change(self: Any, name: str) -> Iterator[bytes]:
        again = name in seen
        seen.add(name)
        for chunk in read(self, name):
            yield chunk.replace(b"hello", b"hullo") if again else chunk

    monkeypatch.setattr(archive_file.OpenedArchive, "read", change)
    with another(tmp_path / "there") as target:
        with pytest.raises(ImportRefused, match="not imported"):
            import_archive(target, good)
        assert not list(target.log.ids())


# --- commands


def test_the_commands_move_a_store(tmp_path: Path) -> None:
    with FileSystemSessionStorage(tmp_path / "a/.sessions", tmp_path / "a/.history") as source:
        fill(source)
        wanted = logs(source)
    shown = run("export", "--archive", "x.zip", "--store", "a", cwd=tmp_path).stdout
    assert shown.startswith("x.zip: 4 sessions, ")
    assert shown.endswith("  manifest.json\n")
    assert "nothing written" in run("import", "--archive", "x.zip", "--dry-run", "--store", "b", cwd=tmp_path).stdout
    shown = run("import", "--archive", "x.zip", "--store", "b", cwd=tmp_path).stdout
    assert "4 sessions, " in shown
    assert "1 folder of tool calls imported" in shown
    assert "in the store already" in run("import", "--archive", "x.zip", "--store", "b", cwd=tmp_path).stdout
    run("verify", "--all", "--store", "b", cwd=tmp_path)
    with FileSystemSessionStorage(tmp_path / "b/.sessions", tmp_path / "b/.history") as target:
        assert logs(target) == wanted
    one = json.loads(run("export", "--archive", "y.zip", "s", "--json", "--store", "b", cwd=tmp_path).stdout)
    assert one["sessions"] == ["s"]
    two = json.loads(run("import", "--archive", "y.zip", "--json", "--store", "c", cwd=tmp_path).stdout)
    assert (two["sessions"], two["history"]) == (["s"], 1)


def test_the_commands_say_what_does_not_go_together(tmp_path: Path) -> None:
    assert "FORMAT is one of" in run("export", cwd=tmp_path, check=2).stderr
    assert "no transcript was found" in run("import", cwd=tmp_path, check=1).stderr
    assert "SESSION" in run("export", "events", cwd=tmp_path, check=2).stderr
    run("export", "nonsense", "s", cwd=tmp_path, check=2)
    run("import", "nonsense", cwd=tmp_path, check=2)
    run("import", "codex", "--archive", "x.zip", cwd=tmp_path, check=2)
    assert run("import", "codex", "--dry-run", cwd=tmp_path).stdout == ""
    assert "needs one file" in run("import", "codex", "--as", "x", cwd=tmp_path, check=2).stderr
    run("export", "--archive", "x.zip", "s", "--content", cwd=tmp_path, check=2)
    run("export", "events", "s", "--json", cwd=tmp_path, check=2)
    (tmp_path / "x.zip").write_bytes(b"no")
    shown = run("import", "--archive", "x.zip", cwd=tmp_path, check=1).stderr
    assert "nothing was written" in shown


def test_a_session_that_was_lost_comes_back_from_a_backup(files: FileSystemSessionStorage, tmp_path: Path) -> None:
    fill(files)
    export_archive(files, tmp_path / "a.zip")
    shutil.rmtree(files.sessions_dir / "g")
    with FileSystemSessionStorage(files.sessions_dir, files.history_dir) as again:
        assert verify_store(again).outcome == "tampered"
        assert import_archive(again, tmp_path / "a.zip").sessions == ("g",)
        assert_clean(again)
