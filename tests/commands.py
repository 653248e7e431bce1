"""Commands run as a user runs them: in a process of their own, with a clean environment.

Starting Python and importing takes longer than most commands do. `run` therefore asks a server, one for each process of tests,
that has everything imported and forks for each command.
"""

import atexit
import fcntl
import importlib
import json
import os
import pkgutil
import pty
import select
import struct
import subprocess
import sys
import tempfile
import termios
import time
from collections.abc import Sequence
from contextlib import suppress
from functools import cache
from pathlib import Path
from typing import Any

import pytest

import eventstore
from eventstore import cli

ROOT = Path(eventstore.__file__).parents[1]
PATIENCE_SECONDS = 60
HOSTILE = "a\x1b[31mred\x07\u202egnp.exe\x9b2J\r\x00\u2028\ue000end"
"""A text with characters that control a terminal."""


def clean_environment(home: Path) -> dict[str, str]:
    """Give an environment without settings, in which warnings are errors."""
    kept = {name: value for name, value in os.environ.items() if not name.startswith(("SESSION_", "TOOL_HISTORY"))}
    kept = {
        name: value
        for name, value in kept.items()
        if name not in ("NO_COLOR", "FORCE_COLOR", "PAGER") and name[:4] != "XDG_"
    }
    ours = {"PYTHONPATH": str(ROOT), "PYTHONWARNINGS": "error", "HOME": str(home), "TERM": "xterm-256color"}
    return (
        kept | ours | {"SESSION_STORAGE_PATH": ".sessions", "XDG_STATE_HOME": str(home.with_name(f"{home.name}-state"))}
    )


def run(*arguments: str | Path, cwd: Path, check: int = 0, **environment: str) -> subprocess.CompletedProcess[str]:
    """Run a command with a clean environment and expect its exit status. A variable with an empty value is not set."""
    with tempfile.TemporaryDirectory() as folder:
        out, err = Path(folder, "out"), Path(folder, "err")
        named = list(map(str, arguments))
        asked = {
            "arguments": named,
            "cwd": str(cwd),
            "environment": {name: value for name, value in (clean_environment(cwd) | environment).items() if value},
            "out": str(out),
            "err": str(err),
        }
        status = _ask(_server(os.getpid()), asked)
        result = subprocess.CompletedProcess(named, status, out.read_text("utf-8"), err.read_text("utf-8"))
    assert result.returncode == check, result.stderr
    assert "Traceback" not in result.stderr
    return result


def in_terminal(arguments: Sequence[str | Path], cwd: Path, width: int = 100) -> str:
    """Run a command on a terminal of some columns and return all that it shows."""
    leader, follower = pty.openpty()
    fcntl.ioctl(follower, termios.TIOCSWINSZ, struct.pack("HHHH", 40, width, 0, 0))
    os.set_blocking(leader, False)
    environment = clean_environment(cwd) | {"COLUMNS": str(width), "LINES": "40", "PAGER": "cat"}
    command = [sys.executable, "-m", "eventstore", *map(str, arguments)]
    with subprocess.Popen(command, cwd=cwd, env=environment, stdin=follower, stdout=follower, stderr=follower) as child:
        os.close(follower)
        shown = b""
        while True:
            select.select([leader], [], [], PATIENCE_SECONDS)
            try:
                block = os.read(leader, 65536)
            except OSError:
                break
            if not block:
                break
            shown += block
        child.wait(PATIENCE_SECONDS)
    os.close(leader)
    assert child.returncode == 0, shown
    return shown.decode()


def objects(text: str) -> list[Any]:
    """Decode lines of JSON."""
    return [json.loads(line) for line in text.splitlines()]


class Shell:
    """Runs commands in this process, which costs a twentieth of one of their own."""

    def __init__(self, folder: Path, patch: pytest.MonkeyPatch, capture: pytest.CaptureFixture[str]) -> None:
        self._patch, self._capture = patch, capture
        patch.chdir(folder)
        for name, value in clean_environment(folder).items():
            patch.setenv(name, value)
        for name in ("NO_COLOR", "FORCE_COLOR", "PAGER", "XDG_DATA_HOME", "XDG_STATE_HOME"):
            patch.delenv(name, raising=False)

    def go(self, folder: str) -> None:
        """Change the working folder."""
        self._patch.chdir(folder)

    def unset(self, *names: str) -> None:
        """Remove variables from the environment."""
        for name in names:
            self._patch.delenv(name, raising=False)

    def set_zone(self, zone: str) -> None:
        """Move to a time zone."""
        self._patch.setenv("TZ", zone)
        time.tzset()

    def __call__(self, *arguments: str, check: int | None = 0) -> tuple[str, str]:
        """Run a command and return its output and its errors. It must end with this status; None means any but 0."""
        self._patch.setattr(sys, "argv", ["eventstore", *arguments])
        with pytest.raises(SystemExit) as ended:
            cli.main()
        shown = self._capture.readouterr()
        assert ended.value.code == check or (check is None and ended.value.code), (arguments, shown)
        return shown.out, shown.err


# --- the server


@cache
def _server(of_process: int) -> "subprocess.Popen[str]":
    """Start the server of this process; it ends when its standard input does."""
    server = subprocess.Popen(
        [sys.executable, __file__],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        text=True,
        env=clean_environment(Path.home()),
    )
    atexit.register(server.communicate)
    return server


def _ask(server: "subprocess.Popen[str]", asked: dict[str, Any]) -> int:
    """Have the server run one command; return its exit status."""
    assert server.stdin is not None
    assert server.stdout is not None
    server.stdin.write(json.dumps(asked) + "\n")
    server.stdin.flush()
    ready, _, _ = select.select([server.stdout], [], [], PATIENCE_SECONDS)
    if not ready:
        server.kill()
        _server.cache_clear()
        raise TimeoutError(f"the command did not end: {asked['arguments']}")
    return int(server.stdout.readline())


def _serve() -> None:
    """Run commands in children until there is nobody to ask; a child returns from here to run its command."""
    for name in ("eventstore", "projections"):
        package = importlib.import_module(name)
        for module in pkgutil.walk_packages(package.__path__, name + "."):
            if not module.name.endswith(("__main__", ".contract")):
                with suppress(ImportError):  # its extra is not installed
                    importlib.import_module(module.name)
    for line in sys.stdin:
        child = os.fork()
        if not child:
            return _become(json.loads(line))
        _, status = os.waitpid(child, 0)
        print(os.waitstatus_to_exitcode(status), flush=True)  # noqa: T201 - the answer
    return None


def _become(asked: dict[str, Any]) -> None:
    """Run a command in this process, as `python -m eventstore` does."""
    for descriptor, path in ((0, os.devnull), (1, asked["out"]), (2, asked["err"])):
        flags = os.O_RDONLY if descriptor == 0 else os.O_WRONLY | os.O_CREAT
        opened = os.open(path, flags, 0o600)
        os.dup2(opened, descriptor)
        os.close(opened)
    os.chdir(asked["cwd"])
    os.environ.clear()
    os.environ.update(asked["environment"])
    sys.argv = ["eventstore", *asked["arguments"]]
    importlib.import_module("eventstore.cli").main()


if __name__ == "__main__":
    _serve()
