"""The counts of `tools/bench/trip.py`."""

import shutil
import subprocess
import sys
from pathlib import Path

import pytest

import eventstore

PROGRAM = Path(eventstore.__file__).parents[1] / "tools" / "bench" / "trip.py"


def run(*arguments: str, path: str | None = None) -> subprocess.CompletedProcess[str]:
    environment = {"PATH": path} if path is not None else None
    command = [sys.executable, str(PROGRAM), *arguments]
    return subprocess.run(command, capture_output=True, text=True, timeout=100, env=environment)


def cells(done: subprocess.CompletedProcess[str]) -> list[str]:
    return [cell.strip() for cell in done.stdout.splitlines()[-1].strip("|").split("|")]


def test_one_message_is_one_write_and_one_flush() -> None:
    assert shutil.which("strace"), "strace is needed: install it"
    done = run("add_conversation_message")
    name, calls, functions, files, moves, system = cells(done)
    assert (done.returncode, name) == (0, "add_conversation_message")
    assert 0 < int(functions) <= int(calls)
    assert 1 < int(files) <= int(functions)
    assert int(moves) > 0
    assert {"write 1", "fdatasync 1"} <= set(system.partition(": ")[2].split(", "))


def test_without_strace_the_calls_of_python_are_counted_and_the_reason_is_printed(tmp_path: Path) -> None:
    done = run("create_session", path=str(tmp_path))
    assert done.stderr == "system calls are not counted: strace is not installed\n"
    assert cells(done)[-1] == "not counted"
    assert int(cells(done)[1]) > 0


def test_an_unknown_trip_is_refused_by_name() -> None:
    done = run("nothing")
    assert done.returncode == 2
    assert "no trip 'nothing'" in done.stderr


@pytest.mark.parametrize("name", ["get_session, one new event", "redact one event"])
def test_a_trip_counts_another_checkout(name: str, tmp_path: Path) -> None:
    (tmp_path / "eventstore").symlink_to(PROGRAM.parents[2] / "eventstore")
    (tmp_path / "projections").symlink_to(PROGRAM.parents[2] / "projections")
    done = run(name, "--path", str(tmp_path), path="")
    assert int(cells(done)[3]) > 1
