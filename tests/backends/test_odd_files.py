"""A session whose log is no regular file is told of, and hides no other."""

import os
from collections.abc import Callable
from pathlib import Path

import pytest
from commands import Shell, run

from eventstore import FileSystemSessionStorage, LogDamaged, SessionManager
from eventstore.backends.files.folders import Folders
from eventstore.errors import AppendRefused, InvalidSetting, NotARegularFile
from eventstore.log.port import Missing
from eventstore.store import rebuild as rebuilding


def _link(log: Path) -> None:
    log.rename(log.parents[3] / "elsewhere.jsonl")
    log.symlink_to(log.parents[3] / "elsewhere.jsonl")


def _pipe(log: Path) -> None:
    log.unlink()
    os.mkfifo(log)


def _folder_link(log: Path) -> None:
    log.parent.rename(log.parents[3] / "elsewhere")
    log.parent.symlink_to(log.parents[3] / "elsewhere")


ODD = {"link": _link, "pipe": _pipe, "folder link": _folder_link}


@pytest.fixture(params=ODD)
def odd(request: pytest.FixtureRequest, tmp_path: Path) -> Path:
    """A store in which session `odd` has something else where its log should be."""
    storage = FileSystemSessionStorage(tmp_path / "store" / ".sessions", tmp_path / "store" / ".history", fsync="no")
    with storage:
        for name in ("good", "odd"):
            SessionManager(storage).create_session(name, purpose=f"hello {name}")
    make: Callable[[Path], None] = ODD[request.param]
    make(tmp_path / "store" / ".sessions" / "odd" / "events.jsonl")
    return tmp_path


@pytest.mark.parametrize(
    "words",
    [
        ["list"],
        ["search", "hello"],
        ["redact", "--all", "--pattern", "hello", "--reason", "x", "--yes"],
        ["cleanup", "--days", "0", "--yes"],
        ["recover", "--silent-hours", "0"],
        ["follow", "--all", "--no-wait", "--since", "2020-01-01"],
        ["rebuild"],
        ["rebuild", "--check"],
    ],
    ids=" ".join,
)
def test_a_log_that_is_no_file_is_told_of_and_hides_no_other(odd: Path, words: list[str]) -> None:
    of_folders = (odd / "store" / ".sessions" / "odd").is_symlink() and words[0] in ("redact", "follow", "rebuild")
    found = run("--store", "store", *words, cwd=odd, check=0 if of_folders else 1)
    assert ("'odd'" in found.stderr) is not of_folders
    assert "Warning" not in found.stderr
    assert "good" in found.stdout or "1 session" in found.stdout or "1 moved" in found.stderr


def test_figures_leave_out_what_cannot_be_read_and_say_so(odd: Path) -> None:
    with FileSystemSessionStorage(odd / "store" / ".sessions", odd / "store" / ".history") as storage:
        SessionManager(storage).add_conversation_message("good", "user", "hi")
    found = run("--store", "store", "analytics", "--json", cwd=odd, check=1)
    assert '"messages":1' in found.stdout.replace(" ", "")
    assert found.stderr.count("\n") == 1
    assert "'odd'" in found.stderr


def test_it_can_be_deleted_and_what_it_leads_to_stays(odd: Path) -> None:
    run("--store", "store", "delete", "odd", "--yes", cwd=odd)
    assert not os.path.lexists(odd / "store" / ".sessions" / "odd")
    assert list(odd.glob("elsewhere*")) or not list(odd.glob("else*"))
    assert "odd" not in run("--store", "store", "list", cwd=odd).stderr


@pytest.mark.parametrize("words", [["export", "--archive", "a.zip"], ["audit", "export", "--all", "-o", "a.zip"]])
def test_an_export_of_all_is_refused_whole_and_names_what_hinders(tmp_path: Path, words: list[str]) -> None:
    with FileSystemSessionStorage(tmp_path / ".sessions", tmp_path / ".history", fsync="no") as storage:
        for name in ("good", "odd"):
            SessionManager(storage).create_session(name)
    _link(tmp_path / ".sessions" / "odd" / "events.jsonl")
    found = run("--store", ".", *words, cwd=tmp_path, check=1)
    assert "other than 'odd'" in found.stderr
    assert not (tmp_path / "a.zip").exists()


def test_it_is_one_of_the_damaged_for_programs_too(files: FileSystemSessionStorage) -> None:
    manager = SessionManager(files)
    for name in ("good", "odd"):
        manager.create_session(name, purpose="hello")
    files.flush()
    log = files.sessions_dir / "odd" / "events.jsonl"
    log.unlink()
    log.mkdir()
    heard: list[LogDamaged] = []
    with FileSystemSessionStorage(files.sessions_dir, files.history_dir) as anew:
        other = SessionManager(anew)
        assert [hit.session_id for hit in other.search("hello", on_damage=heard.append)] == ["good"]
        assert other.redactions.plan(session_ids=None, on_damage=heard.append) == []
        assert [one.session_id for one in other.trash.plan_cleanup(0, on_damage=heard.append)] == ["good"]
        assert other.recover_sessions(0, heard.append) == []
        assert [one.session_id for one in rebuilding.check_all(anew) if one.damage] == ["odd"]
        with pytest.raises(NotARegularFile, match="not read or changed"):
            other.redactions.plan(session_ids=["odd"])
    assert {one.session_id for one in heard} == {"odd"}
    assert {type(one) for one in heard} == {NotARegularFile}


def test_a_working_folder_that_was_deleted_is_named_as_the_cause(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "gone").mkdir()
    monkeypatch.chdir(tmp_path / "gone")
    with FileSystemSessionStorage(".sessions", ".history", fsync="no") as storage:
        (tmp_path / "gone").rmdir()
        with pytest.raises(InvalidSetting, match=r"folder '\.sessions' .* the working folder does not exist any more"):
            FileSystemSessionStorage(".sessions", ".history")
        os.chdir(tmp_path)
        assert SessionManager(storage).create_session("s").metadata.session_id == "s"  # the folder is made again


def test_a_folder_that_cannot_be_made_is_no_lasting_race(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """As in /proc, or where the folder is deleted again and again: the reason is that it is not there, not other writers."""

    def make_nothing(self: Folders, name: str, flags: int = 0, *, create: bool = False) -> int:
        raise Missing(name)

    monkeypatch.setattr(Folders, "open_log", make_nothing)
    with (
        FileSystemSessionStorage(tmp_path / ".sessions", tmp_path / ".history", fsync="no") as storage,
        pytest.raises(AppendRefused, match=r"No such file or directory \(.*events\.jsonl\); nothing was written"),
    ):
        SessionManager(storage).create_session("s")


def test_a_command_in_a_deleted_working_folder_says_so(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    shell = Shell(tmp_path, monkeypatch, capsys)
    (tmp_path / "gone").mkdir()
    shell.go("gone")
    (tmp_path / "gone").rmdir()
    error = shell("--store", ".", "create", check=1)[1]
    assert "the working folder does not exist any more" in error
    assert "the output could not be written" not in error
