"""Special places: pipes and devices as output, folders that may not be read or are gone, logs that are lost."""

import os
import re
import resource
import signal
import sqlite3
import stat
import subprocess
import sys
import threading
from pathlib import Path
from typing import Any

import pytest
from commands import Shell, objects, run

from eventstore import FileSystemSessionStorage, SessionManager
from eventstore.errors import ReadRefused
from eventstore.importers.formats import FORMATS


@pytest.fixture
def shell(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> Shell:
    """A store with two sessions, `one` and `two`."""
    with FileSystemSessionStorage(tmp_path / ".sessions", tmp_path / ".history", fsync="no") as storage:
        manager = SessionManager(storage)
        for name in ("one", "two"):
            manager.create_session(name, f"purpose of {name}")
            manager.add_conversation_message(name, "user", "hello")
    return Shell(tmp_path, monkeypatch, capsys)


@pytest.mark.parametrize("force", [[], ["--force"]])
def test_a_pipe_is_written_to_and_stays_one(shell: Shell, tmp_path: Path, force: list[str]) -> None:
    pipe, got = tmp_path / "pipe", list[bytes]()
    os.mkfifo(pipe)
    reader = threading.Thread(target=lambda: got.append(pipe.read_bytes()))
    reader.start()
    shell("export", "csv", "one", "-o", str(pipe), *force)
    reader.join(30)
    assert b"message.added" in got[0]
    assert stat.S_ISFIFO(pipe.stat().st_mode)


def test_what_needs_a_file_refuses_a_pipe_and_a_device(shell: Shell, tmp_path: Path) -> None:
    os.mkfifo(tmp_path / "pipe.zip")
    for words in (
        ["export", "--archive", str(tmp_path / "pipe.zip")],
        ["audit", "export", "one", "-o", "/dev/null", "--force"],
        ["export", "parquet", "one", "-o", "/dev/null", "--force"],
    ):
        assert "is a pipe or a device; nothing was written" in shell(*words, check=1)[1]
    assert stat.S_ISCHR(Path("/dev/null").stat().st_mode)


def test_an_empty_store_option_is_no_store(shell: Shell) -> None:
    assert "nothing was done" in shell("delete", "one", "--yes", "--store", "", check=2)[1]
    assert len(objects(shell("list", "--json")[0])) == 2


def test_a_lost_log_is_named_by_all_that_would_leave_it_out(shell: Shell, tmp_path: Path) -> None:
    (tmp_path / ".sessions" / "one" / "events.jsonl").unlink()
    missing = "session 'one' is missing"
    assert missing in shell("export", "--archive", "all.zip")[1]
    assert missing in shell("export", "csv", "--all")[1]
    assert missing in shell("audit", "export", "--all", "-o", "audit.zip")[1]
    assert missing in shell("copy", "--from", str(tmp_path), "--to", str(tmp_path / "other"))[1]
    assert "the log of 1 session is gone or empty: one" in shell("doctor", check=1)[0]
    assert missing not in shell("export", "csv", "two")[1]
    assert "has no log any more, and was not deleted" in shell("show", "one", check=1)[1]


@pytest.mark.parametrize("command", [["copy", "--from", "{place}", "--to", "."], ["mirror", "{place}", "./x/.."]])
def test_a_store_is_not_copied_onto_itself(shell: Shell, tmp_path: Path, command: list[str]) -> None:
    (tmp_path / "x").mkdir()
    told = shell(*(one.format(place=tmp_path) for one in command), check=2)[1]
    assert "are the same store; nothing was copied" in told


def test_folders_that_may_not_be_read_or_are_gone_hide_no_other_file(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    form = FORMATS["claude-code"]
    for name in ("a", "b", "c"):
        (tmp_path / name).mkdir()
        (tmp_path / name / "t.jsonl").write_text("{}\n")
    scan = os.scandir

    def refusing(path: str) -> object:
        if Path(path).name == "a":
            raise FileNotFoundError(2, "No such file or directory", path)
        if Path(path).name == "b":
            raise PermissionError(13, "Permission denied", path)
        return scan(path)

    monkeypatch.setattr(os, "scandir", refusing)
    with pytest.warns(RuntimeWarning, match="b was not looked at: Permission denied"):
        assert form.files(tmp_path) == [tmp_path / "c" / "t.jsonl"]


def test_sessions_that_may_not_be_read_are_not_called_absent(
    shell: Shell, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    scan = os.scandir

    def refusing(path: object) -> object:
        if str(path).endswith(".sessions"):
            raise PermissionError(13, "Permission denied", str(path))
        return scan(path)  # type: ignore[call-overload]

    monkeypatch.setattr(os, "scandir", refusing)
    assert "Permission denied" in shell("list", "--user", "nobody", check=1)[1]


@pytest.fixture
def unreadable(monkeypatch: pytest.MonkeyPatch) -> None:
    """Refuse to list the folder of the sessions, which root could."""
    scan = os.scandir

    def refusing(path: object = ".") -> object:
        if str(path).endswith(".sessions"):
            raise PermissionError(13, "Permission denied", str(path))
        return scan(path)  # type: ignore[call-overload]

    monkeypatch.setattr(os, "scandir", refusing)


@pytest.mark.usefixtures("unreadable")
def test_no_command_takes_sessions_that_may_not_be_read_for_none(shell: Shell, tmp_path: Path) -> None:
    for command in (["follow", "--all", "--no-wait"], ["serve", "--port", "0"], ["recover"], ["verify", "--all"]):
        assert "Permission denied" in shell(*command, check=1)[1], command
    assert f"you may not read {tmp_path}/.sessions" in shell("doctor", check=1)[0]
    assert "sessions    you may not read that folder" in shell("where")[0]


@pytest.mark.usefixtures("unreadable")
def test_a_program_that_may_not_read_the_folder_gets_an_error_not_an_empty_list(tmp_path: Path) -> None:
    (tmp_path / ".sessions").mkdir()
    with FileSystemSessionStorage(tmp_path / ".sessions", tmp_path / ".history") as storage:
        manager = SessionManager(storage)
        for ask in (manager.list_sessions, lambda: list(manager.follow(live=False))):
            with pytest.raises(ReadRefused, match="Permission denied"):
                ask()


def test_following_all_of_a_store_that_is_not_there_says_where_it_looks(shell: Shell, tmp_path: Path) -> None:
    errors = shell("--store", str(tmp_path / "typo"), "follow", "--all", "--no-wait")[1]
    assert f"no sessions in {tmp_path}/typo/.sessions" in errors
    assert not shell("follow", "--all", "--no-wait")[1]


@pytest.mark.parametrize(
    "command", [["export", "markdown", "one", "-o"], ["export", "--archive"], ["audit", "export", "--all", "-o"]]
)
def test_output_that_cannot_be_written_to_the_end_is_named(shell: Shell, tmp_path: Path, command: list[str]) -> None:
    shell("list")
    before, out = resource.getrlimit(resource.RLIMIT_FSIZE), tmp_path / "out.zip"
    resource.setrlimit(resource.RLIMIT_FSIZE, (100, before[1]))  # bytes; an error of writing, as on a full disk
    try:
        errors = shell(*command, str(out), check=1)[1]
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, before)
    assert f"File too large: {out}; the command was not carried out" in errors
    assert not out.exists()


def test_the_caches_of_a_store_on_a_read_only_medium_are_whole(shell: Shell, monkeypatch: pytest.MonkeyPatch) -> None:
    shell("list")
    shell("search", "hello")
    real = sqlite3.connect

    def connect(place: str, **options: Any) -> Any:
        if "mode=ro" in str(place) and "immutable" not in place:  # as where no file can be made beside it
            raise sqlite3.OperationalError("unable to open database file")
        return real(place, **options)

    monkeypatch.setattr("os.access", lambda path, mode: not mode & os.W_OK)
    monkeypatch.setattr("sqlite3.connect", connect)
    out = shell("doctor")[0]
    assert "2 caches looked at" in out
    assert "the store is read-only for you" in out
    assert "rebuild" not in out


def test_a_cache_that_is_being_written_is_not_called_damaged(shell: Shell, tmp_path: Path) -> None:
    shell("list")
    other = sqlite3.connect(tmp_path / ".sessions" / "_catalog" / "catalog.db", isolation_level=None)
    try:
        other.execute("PRAGMA journal_mode=DELETE")
        other.execute("BEGIN EXCLUSIVE")
        assert "catalog.db is being written" in shell("doctor")[0]
    finally:
        other.close()


def test_a_repair_of_a_store_without_sessions_finds_nothing(tmp_path: Path) -> None:
    (tmp_path / ".sessions").mkdir()
    assert run("repair", "--all", cwd=tmp_path).stdout == "no faults found\n"


def test_a_server_of_tools_ends_at_once_at_ctrl_c(tmp_path: Path) -> None:
    command = [sys.executable, "-m", "eventstore", "--store", str(tmp_path), "mcp"]
    with subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=subprocess.PIPE) as program:
        assert program.stdin is not None
        assert program.stdout is not None
        program.stdin.write(
            b'{"jsonrpc":"2.0","id":1,"method":"initialize","params":{"protocolVersion":"2025-03-26","capabilities":{},'
            b'"clientInfo":{"name":"t","version":"1"}}}\n'
        )
        program.stdin.flush()
        assert b'"result"' in program.stdout.readline()
        program.send_signal(signal.SIGINT)
        assert program.wait(30) == 130
        assert program.stderr is not None
        assert b"Traceback" not in program.stderr.read()


def test_a_watch_of_transcripts_ends_silently_at_ctrl_c(tmp_path: Path) -> None:
    (tmp_path / "transcripts").mkdir()
    command = [sys.executable, "-m", "eventstore", "--store", str(tmp_path), "import", "--watch", "transcripts"]
    with subprocess.Popen(command, stderr=subprocess.PIPE, cwd=tmp_path) as program:
        assert program.stderr is not None
        assert b"watching 1 folder" in program.stderr.readline()
        program.send_signal(signal.SIGINT)
        program.wait(30)
        told = program.stderr.read()
    assert b"KeyboardInterrupt" not in told
    assert b"Traceback" not in told


def test_a_lock_that_is_refused_says_that_nothing_was_begun(shell: Shell, tmp_path: Path) -> None:
    lock = tmp_path / ".sessions" / "_lock"
    lock.unlink(missing_ok=True)
    lock.mkdir()  # also root cannot open it to write
    wanted = "the store was not locked: Is a directory (.sessions/_lock); what needs its lock was not begun"
    for command in (["fork", "one", "three"], ["trash", "one"], ["template", "save", "t", "one"]):
        assert wanted in shell(*command, check=1)[1]
    assert "three" not in shell("list")[0]


def test_a_watch_counts_the_folders_that_are_not_there_yet(tmp_path: Path) -> None:
    (tmp_path / ".codex" / "sessions").mkdir(parents=True)
    command = [sys.executable, "-m", "eventstore", "--store", str(tmp_path), "import", "--watch"]
    home = {**os.environ, "HOME": str(tmp_path)}
    with subprocess.Popen(command, stderr=subprocess.PIPE, cwd=tmp_path, env=home) as program:
        assert program.stderr is not None
        told = next(line for line in program.stderr if b"watching" in line)
        program.send_signal(signal.SIGINT)
        program.wait(30)
    assert re.search(rb"watching 1 folder, waiting for \d+ more to appear", told)


def test_a_redaction_names_at_most_twenty_files_that_keep_the_text(shell: Shell, tmp_path: Path) -> None:
    with SessionManager(FileSystemSessionStorage(tmp_path / ".sessions", tmp_path / ".history", fsync="no")) as manager:
        for number in range(30):
            manager.create_session(f"s{number}")
            manager.add_conversation_message(f"s{number}", "user", "the same words in every one of these sessions")
    error = shell("redact", "s0", "--event", "2", "--reason", "asked to", "--yes")[1].splitlines()
    assert sum("inspect it yourself" in line for line in error) == 20
    assert error[20:] == ["eventstore: not changed, inspect them yourself: 38 more files; --json names all"]


def test_a_redaction_names_what_forks_have_in_events_of_their_own(shell: Shell, tmp_path: Path) -> None:
    with SessionManager(FileSystemSessionStorage(tmp_path / ".sessions", tmp_path / ".history", fsync="no")) as manager:
        manager.add_conversation_message("one", "user", "needle in the parent")
        manager.fork_session("one", new_id="branch")
        manager.add_conversation_message("branch", "user", "needle in the branch")
    words = ["redact", "one", "--pattern", "needle", "--reason", "asked to", "--yes"]
    assert "events of their own: branch:5; name them too, or use --all" in shell(*words)[1]
    shell("redact", "one", "branch", *words[2:])
    assert "needle" not in shell("show", "branch")[0]
    assert "events of their own" not in shell("redact", "one", "--pattern", "needle")[1]
