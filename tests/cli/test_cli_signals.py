"""Commands that are interrupted, and commands whose reader goes away."""

import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest
from commands import clean_environment, in_terminal, run

from eventstore import FileSystemSessionStorage, SessionManager

PATIENCE_SECONDS = 60


@pytest.fixture
def store(tmp_path: Path) -> Path:
    """A store with so many sessions that a rebuild starts processes."""
    with FileSystemSessionStorage(tmp_path / ".sessions", tmp_path / ".history", fsync="no") as storage:
        manager = SessionManager(storage)
        for number in range(420):
            manager.create_session(f"s{number}", "p")
    return tmp_path


def children(pid: int) -> list[str]:
    return Path(f"/proc/{pid}/task/{pid}/children").read_text().split()


@pytest.mark.skipif(sys.platform != "linux", reason="looks for the children in /proc")
@pytest.mark.parametrize("more", [[], ["--check"]])
def test_ctrl_c_ends_a_rebuild_and_its_processes_with_one_line(store: Path, more: list[str]) -> None:
    command = [sys.executable, "-m", "eventstore", "rebuild", "--jobs", "2", *more]
    child = subprocess.Popen(
        command, cwd=store, env=clean_environment(store), stderr=subprocess.PIPE, text=True, start_new_session=True
    )
    until = time.monotonic() + PATIENCE_SECONDS
    while len(children(child.pid)) < 3 and child.poll() is None and time.monotonic() < until:
        time.sleep(0.01)  # the two workers, and the tracker of their resources
    os.killpg(child.pid, signal.SIGINT)
    _, error = child.communicate(timeout=PATIENCE_SECONDS)
    assert (child.returncode, error) == (130, "eventstore: interrupted\n")
    assert "420 sessions rebuilt" in run("rebuild", cwd=store).stdout


@pytest.mark.parametrize(
    "words", ["list", "list --json", "replay s1", "search p", "export events s1", "trash", "--help"]
)
def test_a_reader_that_goes_away_is_no_error(store: Path, words: str) -> None:
    command = f"set -o pipefail; {sys.executable} -m eventstore {words} | head -n 1 >/dev/null"
    done = subprocess.run(
        ["bash", "-c", command], cwd=store, env=clean_environment(store), capture_output=True, text=True, timeout=60
    )
    assert (done.returncode, "Traceback" in done.stderr) == (0, False), done.stderr


def test_colour_is_as_the_user_wants_it(store: Path) -> None:
    assert "\x1b[" not in run("list", "--limit", "2", cwd=store).stdout
    forced = run("list", "--limit", "2", cwd=store, FORCE_COLOR="1").stdout
    assert "\x1b[" in forced
    assert "\t" not in forced
    assert "\x1b[" not in run("list", "--limit", "2", cwd=store, FORCE_COLOR="0").stdout
    assert "\x1b[" in in_terminal(["list", "--limit", "2"], store)
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr("commands.clean_environment", lambda home: {**clean_environment(home), "NO_COLOR": "1"})
        shown = in_terminal(["list", "--limit", "2"], store)
    assert "\x1b[" not in shown
    assert "\t" not in shown
