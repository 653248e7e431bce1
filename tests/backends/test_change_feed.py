"""The change feed of logs in files: it misses no append, whatever becomes of its file, and refuses none."""

import multiprocessing
import os
import random
import resource
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from eventstore import FileSystemEventLog
from eventstore import events as e
from eventstore.backends.files import change_feed
from eventstore.log.base import Changes

SOME = e.DataSet(key="k", value=1)


@pytest.fixture
def logs(tmp_path: Path) -> Iterator[FileSystemEventLog]:
    with FileSystemEventLog(tmp_path / "logs", fsync="no") as log:
        for name in "abc":
            log.append(name, [e.SessionCreated()], expected_version=0)
        yield log


@pytest.fixture(autouse=True)
def believed(monkeypatch: pytest.MonkeyPatch) -> None:
    """Believe a feed at once, and check no mark twice: the rule alone has to do."""
    monkeypatch.setattr(change_feed, "SETTLING_SECONDS", 0.0)
    monkeypatch.setattr(change_feed, "LOOK_AFTER", 0)


def feed_of(log: FileSystemEventLog) -> Path:
    return log.root / change_feed.NAME


def names(found: Changes) -> list[str]:
    return [name for name, _ in found.logs]


def settled(log: FileSystemEventLog) -> str:
    """Ask until nothing is named any more, and return the token."""
    token = log.changed(None).token
    for _ in range(5):
        found = log.changed(token)
        token = found.token
        if not found.complete and not found.logs:
            return token
    raise AssertionError(found)


def test_only_the_logs_that_changed_are_looked_at(logs: FileSystemEventLog) -> None:
    token = settled(logs)
    logs.append("b", [SOME])
    found = logs.changed(token)
    assert (names(found), found.complete) == (["b"], False)
    for _ in range(4):
        found = logs.changed(found.token)
    assert (found.logs, found.complete) == ([], False)


def test_marks_before_a_look_are_checked_again_once_in_a_while(
    logs: FileSystemEventLog, monkeypatch: pytest.MonkeyPatch
) -> None:
    token = settled(logs)
    monkeypatch.setattr(change_feed, "SETTLING_SECONDS", 60.0)
    monkeypatch.setattr(change_feed, "CHECKING_SECONDS", 60.0)
    for name in "abc":
        logs.append(name, [SOME])
    for expected in (["a", "b", "c"], ["a", "b", "c"], [], []):  # the first read adds the look
        found = logs.changed(token)
        assert (names(found), found.complete) == (expected, False)
        token = found.token
    logs.append("b", [SOME])
    found = logs.changed(token)
    assert names(found) == ["b"]
    with (logs.root / "a" / "events.jsonl").open("ab") as file:
        file.write(b"of a writer that was killed in front of its second mark")
    monkeypatch.setattr(change_feed, "CHECKING_SECONDS", 0.0)
    again = logs.changed(found.token)
    assert names(again) == ["a", "b", "c"]


def test_appends_in_a_row_leave_one_mark(logs: FileSystemEventLog) -> None:
    settled(logs)
    logs.append("b", [SOME])
    size = feed_of(logs).stat().st_size
    for _ in range(100):
        logs.append("b", [SOME])
    assert feed_of(logs).stat().st_size == size


def test_each_of_two_readers_is_given_every_change(logs: FileSystemEventLog) -> None:
    tokens = [settled(logs), settled(logs)]
    for name in "abcab":
        logs.append(name, [SOME])
        for place, token in enumerate(tokens):
            found = logs.changed(token)
            assert name in names(found)
            tokens[place] = found.token


def _write(root: Path, seed: int, acknowledged: Any, seconds: float) -> None:
    choose, until = random.Random(seed), time.monotonic() + seconds
    with FileSystemEventLog(root, fsync="no") as log:
        while time.monotonic() < until:
            name = choose.choice("abc")
            log.append(name, [SOME])
            with acknowledged.get_lock():
                place = "abc".index(name)
                acknowledged[place] = max(acknowledged[place], log.head(name).size_bytes)


@pytest.mark.parametrize(("most_bytes", "settling"), [(1_000_000, 0.0), (1_500, 0.0), (1_000_000, 60.0)])
def test_no_append_of_any_process_is_missed(
    logs: FileSystemEventLog, monkeypatch: pytest.MonkeyPatch, most_bytes: int, settling: float
) -> None:
    """Three writers and a reader that looks all the time; with a small limit the feed is replaced again and again.

    The last reader never checks a mark before a look again.
    """
    known, token = dict[str, int](), logs.changed(None).token if settling else None
    if settling:
        monkeypatch.setattr(change_feed, "SETTLING_SECONDS", settling)
        monkeypatch.setattr(change_feed, "CHECKING_SECONDS", settling)
        known = dict.fromkeys("abc", 0)
    monkeypatch.setattr(change_feed, "MOST_BYTES", most_bytes)
    if most_bytes < 1_000_000:
        monkeypatch.setattr(change_feed, "SETTLING_SECONDS", 0.3)
    context = multiprocessing.get_context("fork")
    acknowledged = context.Array("q", 3)
    writers = [context.Process(target=_write, args=(logs.root, seed, acknowledged, 2.0)) for seed in range(3)]
    for one in writers:
        one.start()
    partial = 0
    while any(one.is_alive() for one in writers):
        expected = acknowledged[:]
        found = logs.changed(token)
        partial += not found.complete
        token = found.token
        known.update({name: int(text.split("-")[0]) for name, text in found.logs if text})
        for name, size in zip("abc", expected, strict=True):
            assert known[name] >= size
    for one in writers:
        one.join(200)
        assert one.exitcode == 0
    assert partial or most_bytes < 1_000_000


JUNK = [
    b"x1 12 s0\n",
    b"\0\0\0\n",
    b"\xff\xfe\n",
    b"99999999999999999999999 12 s0",
    b"?",
    b"-",
    b"\n-",
    b"\n../../etc\n",
    b"\r\n\x0b\x0c",
    "\u0662\n".encode(),
    b"n" * 100_000,
]


@pytest.mark.parametrize("junk", JUNK)
def test_garbage_in_the_feed_hides_no_change(logs: FileSystemEventLog, junk: bytes) -> None:
    token = settled(logs)
    for name in "abcabc":
        with feed_of(logs).open("ab") as file:
            file.write(junk)
        logs.append(name, [SOME])
        found = logs.changed(token)
        assert name in names(found)
        assert set(names(found)) <= set("abc")
        token = found.token


@pytest.mark.parametrize("keep", [0, 1, 500, 1024, -1])
def test_a_feed_that_was_cut_hides_no_change(logs: FileSystemEventLog, keep: int) -> None:
    token = settled(logs)
    for name in "abab":
        os.truncate(feed_of(logs), keep if keep >= 0 else feed_of(logs).stat().st_size - 1)
        logs.append(name, [SOME])
        found = logs.changed(token)
        assert name in names(found)
        token = found.token


def _put(kind: str, path: Path, outside: Path) -> None:
    path.unlink(missing_ok=True)
    if kind == "pipe":
        os.mkfifo(path)
    elif kind in ("folder", "full folder"):
        path.mkdir()
        if kind == "full folder":
            (path / "kept").touch()
    elif kind == "link":
        path.symlink_to(outside)
    elif kind == "hard link":
        path.hardlink_to(outside)
    elif kind == "socket":
        with socket.socket(socket.AF_UNIX) as made:
            made.bind(str(path))
    elif kind == "other file":
        path.write_bytes(b"something else\n")


@pytest.mark.parametrize(
    "kind", ["nothing", "pipe", "folder", "full folder", "link", "hard link", "socket", "other file"]
)
def test_whatever_stands_in_place_of_the_feed_hides_no_change(tmp_path: Path, kind: str) -> None:
    """It is replaced, or every log is looked at; what it leads to is left as it is."""
    outside = tmp_path / "outside"
    outside.write_bytes(b"theirs")
    with FileSystemEventLog(tmp_path / "logs", fsync="no") as log:
        log.append("a", [e.SessionCreated()], expected_version=0)
        token = log.changed(None).token
    _put(kind, feed_of(log), outside)
    with FileSystemEventLog(tmp_path / "logs", fsync="no") as ours, FileSystemEventLog(tmp_path / "logs") as theirs:
        for _ in range(3):
            ours.append("a", [SOME])
            found = theirs.changed(token)
            assert names(found) == ["a"]
            token = found.token
    assert outside.read_bytes() == b"theirs"
    if kind == "full folder":
        assert (feed_of(log) / "kept").exists()


def test_a_feed_that_was_moved_away_under_writers_hides_no_change(
    logs: FileSystemEventLog, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(change_feed, "SETTLING_SECONDS", 0.5)
    deadline = time.monotonic() + 100
    token = settled_in_time(logs, deadline)
    with FileSystemEventLog(logs.root) as theirs:
        logs.append("a", [SOME])
        feed_of(logs).rename(tmp_path / "moved")
        rounds, is_believed = 0, False
        while rounds < 100 or not is_believed:
            assert time.monotonic() < deadline, "the feed is never believed again"
            logs.append("a", [SOME])
            size = logs.head("a").size_bytes
            found = theirs.changed(token)
            assert dict(found.logs)["a"].startswith(f"{size}-")  # type: ignore[union-attr]
            token = found.token
            rounds, is_believed = rounds + 1, not found.complete


def settled_in_time(log: FileSystemEventLog, deadline: float) -> str:
    token = None
    while time.monotonic() < deadline:
        found = log.changed(token)
        token = found.token
        if not found.complete:
            return token
    raise AssertionError("the feed is never believed")


def test_a_mark_that_cannot_be_written_refuses_no_append_and_hides_none(tmp_path: Path) -> None:
    """With a limit on the size of files, as on a full disk: the log has room, the feed has none."""
    root = tmp_path / "logs"
    with FileSystemEventLog(root, fsync="no") as log:
        log.append("a", [e.SessionCreated()], expected_version=0)
        token = settled(log)
        for room in (0, 1, 2):
            with feed_of(log).open("ab") as file:
                file.write(b"\n" + b"n" * 9_000 + b"\n")  # of no log: it makes the feed larger than the log
            limit = feed_of(log).stat().st_size + room
            child = os.fork()
            if not child:
                status = 1
                try:
                    signal.signal(signal.SIGXFSZ, signal.SIG_IGN)
                    resource.setrlimit(resource.RLIMIT_FSIZE, (limit, limit))
                    log.append("a", [SOME])
                    status = 0
                finally:
                    os._exit(status)
            assert os.waitpid(child, 0)[1] == 0
            found = log.changed(token)
            assert "a" in names(found)
            token = settled(log)
            assert feed_of(log).stat().st_size < 9_000


def test_the_feed_does_not_grow_for_ever(logs: FileSystemEventLog, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(change_feed, "MOST_BYTES", 3_000)
    token = None
    for place in range(2_000):
        logs.append("abc"[place % 3], [SOME])
        found = logs.changed(token)
        token = found.token
    assert feed_of(logs).stat().st_size < 3_200


def test_a_writer_killed_behind_its_append_is_seen_in_time(
    logs: FileSystemEventLog, monkeypatch: pytest.MonkeyPatch
) -> None:
    """It is killed in front of its second mark, and a reader has looked in between."""
    token = settled(logs)
    monkeypatch.setattr(change_feed, "SETTLING_SECONDS", 60.0)
    feed = change_feed.ChangeFeed(logs.root)
    feed.before("a")
    found = logs.changed(token)
    before = dict(found.logs)["a"]
    with (logs.root / "a" / "events.jsonl").open("ab") as file:
        file.write(b"as if appended")
    feed.close()
    again = logs.changed(found.token)
    assert not again.complete
    assert dict(again.logs)["a"] != before


def test_a_session_that_was_copied_in_by_hand_is_seen(logs: FileSystemEventLog) -> None:
    token = settled(logs)
    folder = logs.root / "copied"
    folder.mkdir()
    (folder / "events.jsonl").write_bytes((logs.root / "a" / "events.jsonl").read_bytes())
    assert "copied" in names(logs.changed(token))


def test_after_the_system_was_started_again_every_log_is_looked_at(
    logs: FileSystemEventLog, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A power cut takes back what was not on stable storage."""
    token = settled(logs)
    monkeypatch.setattr(change_feed, "_boot", lambda: "another")
    assert logs.changed(token).complete


def test_a_feed_of_a_time_to_come_is_replaced(logs: FileSystemEventLog, monkeypatch: pytest.MonkeyPatch) -> None:
    token = settled(logs)
    now = time.time_ns()
    monkeypatch.setattr("time.time", lambda: now / 1e9 - 100_000.0)
    monkeypatch.setattr("time.time_ns", lambda: now - 10**14)
    for _ in range(2):
        logs.append("a", [SOME])
        found = logs.changed(token)
        assert "a" in names(found)
        token = found.token


@pytest.mark.skipif(os.geteuid() == 0, reason="root may write anywhere")
def test_a_reader_that_may_not_write_sees_every_change(logs: FileSystemEventLog) -> None:
    token = settled(logs)
    feed_of(logs).chmod(0o400)
    logs.append("a", [SOME])
    assert "a" in names(logs.changed(token))


def test_a_store_that_cannot_be_written_is_looked_at_as_a_whole(logs: FileSystemEventLog) -> None:
    logs.close()
    feed_of(logs).unlink()
    code = f"""
import os
from eventstore import FileSystemEventLog
real = os.open
def refuse(path, flags, *more, **options):
    if flags & (os.O_WRONLY | os.O_RDWR | os.O_CREAT):
        raise OSError(30, "Read-only file system")
    return real(path, flags, *more, **options)
os.open = refuse
log = FileSystemEventLog({str(logs.root)!r})
found = log.changed(None)
print(*[name for name, _ in log.changed(found.token).logs])
"""
    told = subprocess.run([sys.executable, "-c", code], check=True, capture_output=True, text=True)
    assert told.stdout == "a b c\n"
    assert not feed_of(logs).exists()


def test_the_feed_is_its_owner_s(logs: FileSystemEventLog) -> None:
    assert feed_of(logs).stat().st_mode & 0o777 == 0o600
