"""Completion: what may stand in a place, and the scripts of the shells."""

import json
import shutil
import subprocess
import sys
from pathlib import Path

import command_table
import pytest
from commands import Shell, clean_environment, run

from eventstore import FileSystemSessionStorage, SessionManager
from eventstore.cli.shell import SCRIPTS

IDS = ("1af7fc5e-0000-4000-8000-000000000001", "1af9fc5e-0000-4000-8000-000000000002", "login-investigation")


@pytest.fixture
def shell(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> Shell:
    with FileSystemSessionStorage(tmp_path / ".sessions", tmp_path / ".history", fsync="no") as storage:
        manager = SessionManager(storage)
        for name in IDS:
            manager.create_session(name, f"purpose of {name[:4]}\n\x1b[31m", "ana", ["bug"])
            manager.update_session_metadata(name, custom_metadata={"cwd": "/home/ana/shop"})
    found = Shell(tmp_path, monkeypatch, capsys)
    found("list")
    return found


def answers(shell: Shell, *words: str) -> list[str]:
    return [line.partition("\t")[0] for line in shell("__complete", *words)[0].splitlines()]


@pytest.mark.parametrize(
    ("words", "wanted"),
    [
        (["ver"], ["verify"]),
        (["list", "--sta"], ["--status"]),
        (["list", "--status", "ac"], ["active"]),
        (["list", "--limit", "3", "--sor"], ["--sort"]),
        (["list", "--tag", ""], ["bug"]),
        (["list", "--user", "a"], ["ana"]),
        (["list", "--project", ""], ["shop"]),
        (["show", "1af9"], [IDS[1]]),
        (["show", "latest:"], ["latest:shop"]),
        (["compare", "1af9", "log"], [IDS[2]]),
        (["template", "sa"], ["save"]),
        (["template", "save", "x", "log"], [IDS[2]]),
        (["export", "mark"], ["markdown"]),
        (["export", "markdown", "log"], [IDS[2]]),
        (["--store"], ["--store"]),
        (["help", "ver"], ["verify"]),
        (["show", "--store", ""], ["file"]),
        (["nonsense", ""], []),
        (["template", "nonsense", ""], []),
    ],
)
def test_what_may_stand_there(shell: Shell, words: list[str], wanted: list[str]) -> None:
    assert answers(shell, *words) == wanted


def test_sessions_come_with_their_titles_the_latest_first(shell: Shell) -> None:
    lines = shell("__complete", "show", "")[0].splitlines()
    assert lines[:2] == ["latest\tthe session updated last", f"{IDS[2]}\tpurpose of logi \\x1b[31m"]
    assert {line.partition("\t")[0] for line in lines[1:]} == set(IDS)


def test_a_session_that_the_catalogue_does_not_know_yet_is_there(shell: Shell, tmp_path: Path) -> None:
    shell("create", "newest")
    assert answers(shell, "show", "new") == ["newest"]
    shutil.rmtree(tmp_path / ".sessions" / "_catalog")
    assert answers(shell, "show", "1af9") == [IDS[1]]


def test_what_completion_knows_of_options_is_what_the_commands_have() -> None:
    text = command_table.OPTIONS.read_text("utf-8")
    assert text == command_table.options(), "run python tools/command_table.py"
    assert "--status" in json.loads(text)["list"]["options"]


def modules_of(folder: Path, *words: str) -> tuple[str, set[str]]:
    """Run a command; return what it prints, and the modules that it loaded."""
    program = (
        f"import sys; sys.argv = {['eventstore', *words]!r};\n"
        "from eventstore.cli import main\n"
        "try: main()\nexcept SystemExit: pass\n"
        "print(*sys.modules, file=sys.stderr)"
    )
    done = subprocess.run(
        [sys.executable, "-c", program], env=clean_environment(folder), cwd=folder, capture_output=True, text=True
    )
    return done.stdout, set(done.stderr.split())


def test_an_answer_loads_no_click_and_no_store(tmp_path: Path) -> None:
    shown, modules = modules_of(tmp_path, "__complete", "show", "")
    assert shown.startswith("latest\t")
    assert not {"click", "msgspec", "rich", "eventstore.log.engine"} & modules


def test_a_list_that_is_current_opens_no_log(shell: Shell, tmp_path: Path) -> None:
    shell("list")
    shown, modules = modules_of(tmp_path, "list")
    assert IDS[2] in shown
    assert not {"msgspec", "rich", "wcwidth", "eventstore.log.engine", "eventstore.events"} & modules


_LATE = {
    *("logging", "zoneinfo", "gzip", "asyncio", "rich"),
    *("eventstore.integrity.signing", "eventstore.derived.moment_index"),
    *("eventstore.subscriptions.subscription", "eventstore.store.removed_text", "eventstore.sessions.records"),
}


@pytest.mark.parametrize(
    ("words", "ours"), [(("list",), 36), (("show", IDS[2]), 160), (("__complete", "show", ""), 12)]
)
def test_a_command_loads_what_it_uses_and_not_more(
    shell: Shell, tmp_path: Path, words: tuple[str, ...], ours: int
) -> None:
    """`ours` is the number of modules of the project that are loaded at most: one more costs every command about 1 ms."""
    shell("list")
    _, modules = modules_of(tmp_path, *words)
    assert not sorted(_LATE & modules)
    found = sorted(name for name in modules if name.partition(".")[0] in ("eventstore", "projections"))
    assert len(found) <= ours, found


@pytest.mark.parametrize("name", [name for name in SCRIPTS if shutil.which(name)])
def test_the_script_of_a_shell_completes_a_session(shell: Shell, tmp_path: Path, name: str) -> None:
    (tmp_path / "bin").mkdir()
    program = tmp_path / "bin" / "eventstore"
    program.write_text(f'#!/bin/sh\nexec {sys.executable} -m eventstore "$@"\n')
    program.chmod(0o700)
    (tmp_path / "script").write_text(run("completion", name, cwd=tmp_path).stdout)
    ask = {
        "bash": 'source ./script; COMP_WORDS=(eventstore show 1af9); COMP_CWORD=2; _eventstore; echo "${COMPREPLY[@]}"',
        "zsh": "compdef() { :; }; _describe() { print -l -- $found; }; words=(eventstore show 1af9); CURRENT=3; "
        "source ./script; _eventstore",
        "fish": "source ./script; complete -C 'eventstore show 1af9'",
    }[name]
    environment = clean_environment(tmp_path)
    environment["PATH"] = f"{tmp_path / 'bin'}:{environment['PATH']}"
    done = subprocess.run([name, "-c", ask], cwd=tmp_path, env=environment, capture_output=True, text=True, timeout=60)
    assert IDS[1] in done.stdout, done.stderr
    assert IDS[0] not in done.stdout
