"""`eventstore follow`, as people and programs run it."""

import json
import os
import select
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest
from commands import clean_environment, in_terminal, objects, run

from eventstore import FileSystemSessionStorage, SessionManager

ASKED = ("--store", "store")


@pytest.fixture
def manager(tmp_path: Path) -> Iterator[SessionManager]:
    """A store with two sessions, in a folder that commands run in."""
    folder = tmp_path / "store"
    with SessionManager(FileSystemSessionStorage(folder / ".sessions", folder / ".history", fsync="no")) as made:
        made.create_session("s", purpose="p\x1b[31m", user_id="ann", tags=["x"])
        made.create_session("t")
        for n in range(20):
            made.add_conversation_message("s", "user", f"text {n}")
        with made.invocation("t", "grep"):
            pass
        yield made


class Running:
    """A command that runs, and what it has printed."""

    def __init__(self, child: "subprocess.Popen[bytes]") -> None:
        self.child, self.shown = child, b""

    def is_readable(self, seconds: float) -> bool:
        """Wait a while for something to read."""
        assert self.child.stdout is not None
        return bool(select.select([self.child.stdout], [], [], seconds)[0])

    def lines(self, count: int) -> list[str]:
        """Wait for so many lines."""
        assert self.child.stdout is not None
        until = time.monotonic() + 60
        while self.shown.count(b"\n") < count:
            ready, _, _ = select.select([self.child.stdout], [], [], until - time.monotonic())
            assert ready, f"only {self.shown!r}"
            block = os.read(self.child.stdout.fileno(), 65536)
            assert block, f"it ended after {self.shown!r}"
            self.shown += block
        return self.shown.decode().splitlines()


@contextmanager
def running(cwd: Path, *arguments: str) -> Iterator[Running]:
    command = [sys.executable, "-m", "eventstore", "follow", *arguments, *ASKED]
    environment = clean_environment(cwd)
    with subprocess.Popen(command, cwd=cwd, env=environment, stdout=subprocess.PIPE, stderr=subprocess.PIPE) as child:
        try:
            yield Running(child)
        finally:
            child.kill()


def told(*arguments: str, cwd: Path) -> list[tuple[str, int]]:
    found = objects(run("follow", *arguments, "--no-wait", "--json", *ASKED, cwd=cwd).stdout)
    return [(one["session_id"], one["event"]["seq"]) for one in found]


def test_it_begins_with_the_last_events_and_goes_on(manager: SessionManager, tmp_path: Path) -> None:
    with running(tmp_path, "s") as command:
        assert [line.rpartition(" ")[2] for line in command.lines(10)] == [str(n) for n in range(10, 20)]
        manager.add_conversation_message("s", "user", "new")
        assert command.lines(11)[-1].endswith("user       says      new")
    assert told("s", cwd=tmp_path) == [("s", n) for n in range(13, 23)]
    assert told("s", "--lines", "all", cwd=tmp_path) == [("s", n) for n in range(1, 23)]
    assert told("s", "--lines", "0", cwd=tmp_path) == []
    assert told("s", "--lines", "99", "--type", "session.created", cwd=tmp_path) == [("s", 1)]
    assert told("s", "--lines", "2", "--type", "message.added", cwd=tmp_path) == [("s", 21), ("s", 22)]
    assert told("t", "--tool", "grep", "--lines", "1", cwd=tmp_path) == [("t", 3)]
    assert told("t", "--lines", "0", "--tool", "grep", cwd=tmp_path) == []


def test_all_sessions_are_followed_from_now_or_from_a_time_on(manager: SessionManager, tmp_path: Path) -> None:
    everything = told("--all", "--since", "2020-01-01", cwd=tmp_path)
    assert sorted(everything) == [("s", n) for n in range(1, 22)] + [("t", n) for n in range(1, 4)]
    assert {name for name, _ in told("--all", "--since", "2020-01-01", "--user", "ann", cwd=tmp_path)} == {"s"}
    assert {name for name, _ in told("--all", "--since", "2020-01-01", "--tag", "x", "--tag", "y", cwd=tmp_path)} == {
        "s"
    }
    assert told("--all", cwd=tmp_path) == []
    with running(tmp_path, "--all") as command:
        shown = False
        while not shown:  # until it has begun
            manager.set_data("t", "k", 1)
            shown = command.is_readable(0.2)
        manager.create_session("u", purpose="here")
        while "u                  +00:00.000 session    created   here" not in command.lines(2):
            command.lines(command.shown.count(b"\n") + 1)


def test_json_has_the_event_and_the_cursor_to_go_on_behind_it(manager: SessionManager, tmp_path: Path) -> None:
    found = objects(run("follow", "s", "--no-wait", "--json", *ASKED, cwd=tmp_path).stdout)
    assert list(found[0]) == ["session_id", "cursor", "event"]
    path = tmp_path / "store" / ".sessions" / "s" / "events.jsonl"
    assert [one["event"] for one in found] == [json.loads(line) for line in path.read_text().splitlines()[-10:]]
    cursor = found[3]["cursor"]
    assert [one.event.seq for one in manager.follow("s", cursor, live=False)] == list(range(16, 22))


@pytest.mark.parametrize("where", ["--cursor-file", "--name"])
@pytest.mark.parametrize("whom", ["s", "--all"])
def test_it_goes_on_behind_what_was_printed(manager: SessionManager, tmp_path: Path, whom: str, where: str) -> None:
    ask = (whom, where, "here", *(("--lines", "all") if whom == "s" else ("--since", "2020-01-01")))
    everything = told(*ask, cwd=tmp_path)
    assert len(everything) == (21 if whom == "s" else 24)
    assert told(*ask, cwd=tmp_path) == []
    manager.add_conversation_message("s", "user", "new")
    with running(tmp_path, whom, where, "here", "--json") as command:
        assert objects(command.lines(1)[0])[0]["event"]["seq"] == 22
        manager.add_conversation_message("s", "user", "new")
        command.lines(2)
        command.child.send_signal(signal.SIGINT)
        assert command.child.wait(60) == 130
    assert told(*ask, cwd=tmp_path) == []
    assert (tmp_path / "here").exists() == (where == "--cursor-file")


@pytest.mark.parametrize("where", ["--cursor-file", "--name"])
def test_a_first_run_that_saw_nothing_keeps_where_it_began(manager: SessionManager, tmp_path: Path, where: str) -> None:
    ask = ("--all", where, "here")
    assert told(*ask, cwd=tmp_path) == []
    manager.set_data("s", "k", 1)
    manager.create_session("new")
    assert sorted(told(*ask, cwd=tmp_path)) == [("new", 1), ("s", 22)]
    assert told(*ask, cwd=tmp_path) == []
    assert told("s", where, "one", "--lines", "0", cwd=tmp_path) == []
    manager.set_data("s", "k", 2)
    assert told("s", where, "one", cwd=tmp_path) == [("s", 23)]


def wait_until(condition: Callable[[], bool]) -> None:
    """Look every 10 ms whether a condition has come true, for a minute."""
    until = time.monotonic() + 60
    while not condition():
        assert time.monotonic() < until
        threading.Event().wait(0.01)


def kept(tmp_path: Path, where: str) -> Path:
    return (
        tmp_path / "here" if where == "--cursor-file" else tmp_path / "store" / ".sessions" / "_cursors" / "here.cursor"
    )


@pytest.mark.parametrize("how", [signal.SIGINT, signal.SIGKILL])
@pytest.mark.parametrize("where", ["--cursor-file", "--name"])
@pytest.mark.parametrize("saw", [False, True])
def test_a_live_run_that_ended_goes_on_where_it_was(
    manager: SessionManager, tmp_path: Path, how: signal.Signals, where: str, saw: bool
) -> None:
    ask = ("--all", where, "here", "--json")
    with running(tmp_path, *ask) as command:
        wait_until(lambda: kept(tmp_path, where).exists())
        began = kept(tmp_path, where).read_text()
        shown = []
        if saw:
            manager.create_session("three")
            manager.set_data("three", "k", 1)
            shown = [(one["session_id"], one["event"]["seq"]) for one in objects("\n".join(command.lines(2)))]
            assert shown == [("three", 1), ("three", 2)]
            wait_until(lambda: kept(tmp_path, where).read_text() != began)
        command.child.send_signal(how)
        command.child.wait(60)
    manager.set_data("t", "k", 1)
    manager.create_session("four")
    found = told(*ask[:3], cwd=tmp_path)
    assert set(found) - {("three", 2)} == {("t", 4), ("four", 1)}
    assert ("three", 2) not in found or how == signal.SIGKILL
    assert told(*ask[:3], cwd=tmp_path) == []


def test_ctrl_c_ends_it_without_a_word(manager: SessionManager, tmp_path: Path) -> None:
    with running(tmp_path, "s") as command:
        command.lines(10)
        command.child.send_signal(signal.SIGINT)
        assert command.child.wait(60) == 130
        assert command.child.stderr is not None
        assert command.child.stderr.read().strip() == b""


@pytest.mark.parametrize("touch", [False, True])
def test_a_pipe_that_nobody_reads_ends_it(manager: SessionManager, tmp_path: Path, touch: bool) -> None:
    with running(tmp_path, "s") as command:
        command.lines(10)
        assert command.child.stdout is not None
        command.child.stdout.close()
        if touch:
            manager.add_conversation_message("s", "user", "x" * 100_000)
        assert command.child.wait(60) == 0
        assert command.child.stderr is not None
        assert command.child.stderr.read() == b""


def test_what_cannot_be_followed_is_told(manager: SessionManager, tmp_path: Path) -> None:
    def refused(*arguments: str, check: int) -> str:
        return run("follow", *arguments, "--no-wait", *ASKED, cwd=tmp_path, check=check).stderr

    assert "'nope' not found" in refused("nope", check=1)
    assert "name a SESSION, or use --all" in refused(check=2)
    assert "name a SESSION, or use --all" in refused("s", "--all", check=2)
    assert "not both" in refused("s", "--name", "n", "--cursor-file", "c", check=2)
    assert "--lines" in refused("s", "--lines", "-1", check=2)
    assert "cursor file nowhere/c cannot be written" in refused("--all", "--cursor-file", "nowhere/c", check=1)
    assert "'bogus' is not an event type; the known types are" in refused("--all", "--type", "bogus", check=2)
    assert refused("--all", "--type", "our.own", check=0) == ""
    (tmp_path / "c").write_text("nonsense")
    assert "cursor 'nonsense' is no cursor" in refused("s", "--cursor-file", "c", check=1)
    path = tmp_path / "store" / ".sessions" / "s" / "events.jsonl"
    path.write_bytes(path.read_bytes().replace(b"text 3", b"text X"))
    result = run("follow", "--all", "--since", "2020-01-01", "--no-wait", "--json", *ASKED, cwd=tmp_path, check=1)
    assert "damaged" in result.stderr
    assert [one["event"]["seq"] for one in objects(result.stdout) if one["session_id"] == "s"] == [1, 2, 3, 4]
    assert {one["session_id"] for one in objects(result.stdout)} == {"s", "t"}


def test_it_is_harmless_in_a_terminal(manager: SessionManager, tmp_path: Path) -> None:
    shown = in_terminal(("follow", "s", "--lines", "all", "--no-wait", *ASKED), tmp_path)
    assert "\\x1b[31m" in shown
    assert "\x1b[31m" not in shown
    every = in_terminal(("follow", "--all", "--since", "2020-01-01", "--no-wait", *ASKED), tmp_path)
    assert all(len(line.split("\x1b[0m ", 1)[-1]) < 200 for line in every.splitlines())
