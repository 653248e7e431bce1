"""The log on the filesystem: torn tails, damage, faults of the system, other processes, hostile files."""

import errno
import multiprocessing
import os
import signal
import stat
import subprocess
import sys
import threading
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import closing
from pathlib import Path

import pytest
from msgspec.structs import replace

from eventstore import AppendRefused, FileSystemEventLog, LogDamaged, OutcomeUnknown, SessionNotFound
from eventstore import events as e
from eventstore.errors import HandlePoisoned, LogTampered, NotARegularFile
from eventstore.log.base import BEGINNING, Head
from eventstore.log.contract import said

WHOLE = 4


@pytest.fixture
def root(tmp_path: Path) -> Path:
    return tmp_path / "logs"


@pytest.fixture
def log(root: Path) -> Iterator[FileSystemEventLog]:
    with FileSystemEventLog(root, fsync="no") as log:
        yield log


@pytest.fixture
def file(log: FileSystemEventLog, root: Path) -> Path:
    """A log of four events: one alone, a batch of two, one alone."""
    log.append("s", [e.SessionCreated(purpose="p")], expected_version=0)
    log.append("s", [said("a"), said("b")])
    log.append("s", [said("c")])
    return root / "s" / "events.jsonl"


def anew(root: Path) -> FileSystemEventLog:
    return FileSystemEventLog(root, fsync="no")


def committed(data: bytes) -> int:
    """Count the events of whole batches in the first bytes of the log of `file`."""
    return {0: 0, 1: 1, 2: 1, 3: 3, 4: 4}[data.count(b"\n")]


def test_after_a_crash_at_any_byte_readers_see_the_longest_whole_prefix(root: Path, file: Path) -> None:
    whole = file.read_bytes()
    for size in range(1, len(whole)):
        file.write_bytes(whole[:size])
        complete = committed(whole[:size])
        with anew(root) as log:
            if complete:
                assert [event.seq for event in log.read("s")] == list(range(1, complete + 1))
            else:
                with pytest.raises(SessionNotFound):
                    log.chunks("s")
        assert file.read_bytes() == whole[:size], "a reader wrote"


def test_after_a_crash_at_any_byte_the_next_writer_keeps_what_it_cuts(root: Path, file: Path) -> None:
    whole = file.read_bytes()
    first = whole.index(b"\n") + 1
    for size in range(first, len(whole)):
        file.write_bytes(whole[:size])
        with anew(root) as log:
            before = log.head("s")
            log.append("s", [said("after")])
            events = list(log.read("s"))
            finished = whole[size : size + 1] == b"\n" and committed(whole[: size + 1]) > committed(whole[:size])
        kept = sorted((file.parent / "quarantine").glob("*")) if (file.parent / "quarantine").exists() else []
        repairs = [event for event in events if isinstance(event, e.LogRepaired)]
        assert len(repairs) == len(kept) == (0 if finished or whole[:size] == whole[: before.size_bytes] else 1)
        assert events[before.version - 1].hash == before.hash
        assert isinstance(events[-1], e.MessageAdded)
        if kept:
            assert kept[0].read_bytes() == whole[repairs[0].offset_bytes : size]
            assert repairs[0].removed_bytes == size - repairs[0].offset_bytes
            assert repairs[0].quarantine == f"quarantine/{kept[0].name}"
            kept[0].unlink()


@pytest.mark.parametrize("tail", [b"\0" * 4096, b"{", b'{"type":"message.added"', b"garbage\n", b"\0\n", b"\xff\xfe\n"])
def test_a_torn_tail_of_any_kind_is_cut(root: Path, file: Path, tail: bytes) -> None:
    with file.open("ab") as stream:
        stream.write(tail)
    with anew(root) as log:
        assert log.head("s").version == WHOLE
        log.append("s", [said("after")])
        assert [event.type for event in log.read("s", WHOLE)] == ["log.repaired", "message.added"]
    (kept,) = (file.parent / "quarantine").iterdir()
    assert kept.read_bytes() == tail


def test_a_batch_with_a_hole_is_torn(root: Path, file: Path) -> None:
    """A power cut can lose the middle of what was written at once: a batch is one write, and was not answered."""
    with anew(root) as log:
        before = log.head("s")
        log.append("s", [said("first " + "x" * 1600), said("second"), said("third")])
    whole = file.read_bytes()
    for start in range(before.size_bytes, len(whole) - 512, 7):
        file.write_bytes(whole[:start] + b"\0" * 512 + whole[start + 512 :])
        with anew(root) as log:
            assert log.head("s") == before
    with anew(root) as log:
        log.append("s", [said("after")])
        assert [event.type for event in log.read("s", WHOLE)] == ["log.repaired", "message.added"]


def test_one_byte_lost_in_the_last_record_is_damage_and_no_torn_tail(root: Path, file: Path) -> None:
    whole = file.read_bytes()
    file.write_bytes(whole[:-100] + b"\0" + whole[-99:])
    with anew(root) as log, pytest.raises(LogDamaged):
        log.append("s", [said("x")])


def test_damage_before_the_tail_is_never_cut_and_never_silent(root: Path, file: Path) -> None:
    whole = file.read_bytes()
    last = whole[:-1].rindex(b"\n") + 1
    starts = [0] + [place + 1 for place, byte in enumerate(whole[:last]) if byte == 10]
    for place in range(last):
        damaged = whole[:place] + bytes([whole[place] ^ 0x04]) + whole[place + 1 :]
        file.write_bytes(damaged)
        with anew(root) as log:
            with pytest.raises(LogDamaged) as caught:
                log.append("s", [said("x")])
            with pytest.raises(LogDamaged):
                log.head("s")
            with pytest.raises(LogDamaged):
                list(log.read("s"))
        error = caught.value
        assert error.offset_bytes in starts
        assert error.offset_bytes <= place
        assert error.line == damaged[: error.offset_bytes].count(b"\n") + 1
        assert file.read_bytes() == damaged


def test_what_is_before_the_damage_is_read(root: Path, file: Path) -> None:
    whole = file.read_bytes()
    place = whole.index(b'"content":"c"')
    file.write_bytes(whole[:place] + b"X" + whole[place + 1 :] + whole[whole[:-1].rindex(b"\n") + 1 :])
    with anew(root) as log:
        found: list[e.Event] = []
        with pytest.raises(LogDamaged) as caught:
            found.extend(log.read("s"))
    assert [event.seq for event in log.read("s", 0, 3)] == [1, 2, 3]
    assert caught.value.readable == 3


@pytest.mark.parametrize(
    "change",
    [
        lambda lines: [*lines[:3], lines[3], lines[3]],
        lambda lines: [lines[0], lines[2], lines[1], lines[3]],
        lambda lines: [lines[0], lines[3]],
        lambda lines: lines[1:],
    ],
    ids=["repeated", "swapped", "left out", "first gone"],
)
def test_whole_lines_out_of_place_are_damage(
    root: Path, file: Path, change: Callable[[list[bytes]], list[bytes]]
) -> None:
    lines = file.read_bytes().splitlines(keepends=True)
    file.write_bytes(b"".join(change(lines)))
    with anew(root) as log, pytest.raises(LogDamaged):
        log.append("s", [said("x")])


def test_a_log_of_another_session_is_damage(root: Path, file: Path) -> None:
    (root / "t").mkdir()
    (root / "t" / "events.jsonl").write_bytes(file.read_bytes())
    with anew(root) as log, pytest.raises(LogDamaged) as caught:
        log.append("t", [said("x")])
    assert (caught.value.session_id, caught.value.line, caught.value.offset_bytes) == ("t", 1, 0)
    assert "content" not in str(caught.value)


def test_a_last_record_that_lacks_only_its_line_feed_is_kept(root: Path, file: Path) -> None:
    file.write_bytes(file.read_bytes()[:-1])
    with anew(root) as log:
        log.append("s", [said("after")])
        assert [event.type for event in log.read("s", 3)] == ["message.added", "message.added"]


# --- faults of the system


def test_a_short_write_is_cut_back_and_an_error(
    log: FileSystemEventLog, file: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    whole = file.read_bytes()
    write = os.write

    def full(descriptor: int, data: bytes) -> int:
        if len(data) > 20:
            return write(descriptor, data[:20])
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))

    with monkeypatch.context() as patch:
        patch.setattr(
            os, "write", lambda descriptor, data: full(descriptor, bytes(data)) if len(data) > 20 else _no_space()
        )
        with pytest.raises(AppendRefused, match=r"No space.*nothing was written"):
            log.append("s", [said("lost" * 10)])
    assert file.read_bytes().startswith(whole)
    log.append("s", [said("kept")])
    assert [event.type for event in log.read("s")].count("message.added") == 4
    assert log.head("s").version == 5


def _no_space() -> int:
    raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))


def test_a_failed_flush_is_an_error_and_nothing_more_is_believed(root: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def fail(descriptor: int) -> None:
        raise OSError(errno.EIO, os.strerror(errno.EIO))

    with closing(FileSystemEventLog(root, fsync="always")) as log:
        log.append("s", [e.SessionCreated()], expected_version=0)
        with monkeypatch.context() as patch:
            patch.setattr(os, "fdatasync", fail)
            with pytest.raises(OutcomeUnknown, match="may or may not"):
                log.append("s", [said("a")])
        with pytest.raises(HandlePoisoned, match="open the store again"):
            log.append("s", [said("b")])
    with FileSystemEventLog(root, fsync="always") as log:
        log.append("s", [said("c")])


def test_every_append_is_flushed_before_it_returns(root: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    flushed: list[int] = []
    fdatasync = os.fdatasync

    def note(descriptor: int) -> None:
        flushed.append(os.fstat(descriptor).st_size)
        fdatasync(descriptor)

    monkeypatch.setattr(os, "fdatasync", note)
    with FileSystemEventLog(root, fsync="always") as log:
        log.append("s", [e.SessionCreated()], expected_version=0)
        for text in "abc":
            log.append("s", [said(text)])
            assert flushed[-1] == log.head("s").size_bytes


def test_everysec_flushes_by_itself(root: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    import threading

    done = threading.Event()
    fdatasync = os.fdatasync

    def note(descriptor: int) -> None:
        fdatasync(descriptor)
        done.set()

    monkeypatch.setattr(os, "fdatasync", note)
    with FileSystemEventLog(root, fsync="everysec") as log:
        log.append("s", [e.SessionCreated()], expected_version=0)
        assert done.wait(60)


# --- other processes


def append_many(root: Path, name: str, count: int) -> None:
    with FileSystemEventLog(root, fsync="no") as log:
        for n in range(count):
            log.append("s", [said(f"{name} {n}"), said(f"{name} {n}")])


def test_processes_neither_lose_nor_interleave(root: Path, log: FileSystemEventLog) -> None:
    log.append("s", [e.SessionCreated()], expected_version=0)
    spawn = multiprocessing.get_context("spawn")
    writers = [spawn.Process(target=append_many, args=(root, name, 100)) for name in "abcd"]
    for writer in writers:
        writer.start()
    append_many(root, "here", 100)
    for writer in writers:
        writer.join(60)
        assert writer.exitcode == 0
    texts = [event.content for event in log.read("s") if isinstance(event, e.MessageAdded)]
    assert texts[::2] == texts[1::2]
    for name in ("a", "b", "c", "d", "here"):
        assert [text for text in texts[::2] if text.startswith(name + " ")] == [f"{name} {n}" for n in range(100)]


WRITER = """
import sys
from eventstore import FileSystemEventLog
from eventstore.log.base import BEGINNING, Head
from eventstore.log.contract import said
log = FileSystemEventLog(sys.argv[1], fsync="no")
while True:
    print(log.append("s", [said("x" * 3000), said("y")]).last, flush=True)
"""


def test_a_killed_writer_loses_nothing_it_was_told_and_blocks_nobody(root: Path, log: FileSystemEventLog) -> None:
    log.append("s", [e.SessionCreated()], expected_version=0)
    for round_ in range(5):
        with subprocess.Popen([sys.executable, "-c", WRITER, str(root)], stdout=subprocess.PIPE) as writer:
            assert writer.stdout is not None
            accepted = [int(writer.stdout.readline()) for _ in range(20 + round_)]
            writer.send_signal(signal.SIGKILL)
            accepted += [int(line) for line in writer.stdout.read().split(b"\n")[:-1]]
        assert log.head("s").version >= accepted[-1]
        log.append("s", [said("next")])
    with anew(root) as fresh:
        assert [event.seq for event in fresh.read("s")] == list(range(1, log.head("s").version + 1))


def test_a_forked_child_and_its_parent_both_append(root: Path, log: FileSystemEventLog) -> None:
    log.append("s", [e.SessionCreated()], expected_version=0)
    child = os.fork()
    if not child:
        status = 1
        try:
            for n in range(50):
                log.append("s", [said(f"child {n}")])
            status = 0
        finally:
            os._exit(status)
    for n in range(50):
        log.append("s", [said(f"parent {n}")])
    assert os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]) == 0
    texts = [event.content for event in log.read("s") if isinstance(event, e.MessageAdded)]
    assert sorted(texts) == sorted([f"{who} {n}" for who in ("child", "parent") for n in range(50)])


def test_a_deletion_by_another_process_is_seen(root: Path, log: FileSystemEventLog, file: Path) -> None:
    with anew(root) as other:
        assert other.remove("s")
    with pytest.raises(SessionNotFound):
        log.append("s", [said("x")])
    log.append("s", [e.SessionCreated()], expected_version=0)
    assert log.head("s").version == 1


def test_keys_survive_a_restart(root: Path, log: FileSystemEventLog) -> None:
    log.append("s", [e.SessionCreated()], expected_version=0)
    first = log.append("s", [said("a", "k")])
    with anew(root) as fresh:
        assert fresh.append("s", [said("a", "k")]) == replace(first, repeated=True)


# --- hostile files


def plant_folder(place: Path, _: Path) -> None:
    place.mkdir()


def plant_pipe(place: Path, _: Path) -> None:
    os.mkfifo(place)


def plant_link(place: Path, outside: Path) -> None:
    place.symlink_to(outside)


def plant_dangling_link(place: Path, outside: Path) -> None:
    place.symlink_to(outside.with_name("nowhere"))


def plant_hard_link(place: Path, outside: Path) -> None:
    place.hardlink_to(outside)


@pytest.mark.parametrize("plant", [plant_folder, plant_pipe, plant_link, plant_dangling_link, plant_hard_link])
@pytest.mark.parametrize("expected", [None, 0])
def test_what_is_no_regular_file_is_neither_followed_nor_changed(
    root: Path, tmp_path: Path, plant: Callable[[Path, Path], None], expected: int | None
) -> None:
    outside = tmp_path / "outside"
    outside.write_bytes(b"mine\n")
    (root / "s").mkdir(parents=True)
    plant(root / "s" / "events.jsonl", outside)
    with anew(root) as log:
        with pytest.raises(NotARegularFile, match="not read or changed"):
            log.append("s", [e.SessionCreated()], expected_version=expected)
        with pytest.raises(NotARegularFile):
            log.head("s")
    assert outside.read_bytes() == b"mine\n"
    assert not outside.with_name("nowhere").exists()


@pytest.mark.parametrize("exists", [True, False])
def test_a_session_folder_that_is_a_link_is_not_followed(root: Path, tmp_path: Path, exists: bool) -> None:
    outside = tmp_path / "outside"
    outside.mkdir()
    if exists:
        with anew(outside.parent / "other") as other:
            other.append("s", [e.SessionCreated()], expected_version=0)
        outside = outside.parent / "other" / "s"
    root.mkdir()
    (root / "s").symlink_to(outside)
    before = {path: path.read_bytes() for path in outside.rglob("*") if path.is_file()}
    with anew(root) as log, pytest.raises((NotARegularFile, SessionNotFound)):
        log.append("s", [e.SessionCreated()], expected_version=0)
    assert {path: path.read_bytes() for path in outside.rglob("*") if path.is_file()} == before
    assert list(anew(root).ids()) == []


def test_files_and_folders_are_their_owner_s_alone(root: Path, file: Path) -> None:
    with file.open("ab") as stream:
        stream.write(b"torn")
    with anew(root) as log:
        log.append("s", [said("x")])
    for path in [root, *root.rglob("*")]:
        wanted = 0o700 if path.is_dir() else 0o600
        assert stat.S_IMODE(path.stat().st_mode) == wanted, path


def test_a_line_over_the_limit_is_named_and_takes_no_memory(root: Path, file: Path) -> None:
    whole = file.read_bytes()
    with file.open("ab") as stream:
        stream.write(b'{"type":"message.added","seq":5,"content":"' + b"x" * 40_000_000)
        stream.write(b'"}\n')
        stream.write(whole.splitlines(keepends=True)[-1])
    with anew(root) as log, pytest.raises(LogDamaged, match="longer than") as caught:
        log.append("s", [said("x")])
    assert (caught.value.line, caught.value.offset_bytes) == (5, len(whole))


def test_files_that_are_no_sessions_are_not_listed(root: Path, file: Path) -> None:
    (root / "note.txt").write_text("x")
    (root / "empty").mkdir()
    (root / ".hidden").mkdir()
    with anew(root) as log:
        assert list(log.ids()) == ["s"]


def test_a_long_log_is_read_from_its_middle(root: Path, log: FileSystemEventLog) -> None:
    log.append("s", [e.SessionCreated()], expected_version=0)
    for start in range(0, 5000, 100):
        log.append("s", [said(f"{start + n} " + "x" * (n * 7 % 400)) for n in range(100)])
    for after in (0, 1, 17, 2500, 4711, 4999, 5000):
        found = [event.seq for event in log.read("s", after, after + 3)]
        assert found == [seq for seq in (after + 1, after + 2, after + 3) if seq <= 5001]


def test_whoever_reads_while_others_append_disturbs_nobody(root: Path) -> None:
    """A reader verifies what is new: where an append stands is still the append's own to say."""
    stop = threading.Event()
    with FileSystemEventLog(root, fsync="no") as log:
        log.append("s", [e.SessionCreated()], expected_version=0)

        def read() -> None:
            while not stop.is_set():
                log.head("s")

        readers = [threading.Thread(target=read) for _ in range(3)]
        for reader in readers:
            reader.start()
        try:
            for seq in range(2, 3000):
                assert log.append("s", [said("x")]).last == seq
        finally:
            stop.set()
            for reader in readers:
                reader.join()
    assert [event.seq for event in anew(root).read("s")] == list(range(1, 3000))


def test_threads_that_wait_for_one_disk_share_its_flushes(root: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    flushes, slow, fdatasync = 0, threading.Event(), os.fdatasync

    def count(descriptor: int) -> None:
        nonlocal flushes
        flushes += 1
        slow.wait(0.002)  # a disk as slow as disks are
        fdatasync(descriptor)

    with FileSystemEventLog(root) as log, ThreadPoolExecutor(16) as pool:
        log.append("s", [e.SessionCreated()], expected_version=0)
        monkeypatch.setattr(os, "fdatasync", count)
        found = sorted(pool.map(lambda n: log.append("s", [said(str(n))]).first, range(320)))
    assert found == list(range(2, 322))
    assert flushes < 160


def test_a_flush_that_fails_is_the_error_of_all_who_waited_for_it(root: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    held, go_on = threading.Event(), threading.Event()

    def fail(descriptor: int) -> None:
        held.set()
        assert go_on.wait(60)
        raise OSError(errno.EIO, "no disk")

    log = FileSystemEventLog(root)
    log.append("s", [e.SessionCreated()], expected_version=0)
    monkeypatch.setattr(os, "fdatasync", fail)
    with ThreadPoolExecutor(4) as pool:
        first = pool.submit(log.append, "s", [said("a")])
        assert held.wait(60)
        others = [pool.submit(log.append, "s", [said("b")]) for _ in range(3)]
        go_on.set()
        assert isinstance(first.exception(), OutcomeUnknown)
        assert {type(other.exception()) for other in others} <= {OutcomeUnknown, HandlePoisoned}
        assert None not in [other.exception() for other in others]


def test_a_reader_that_saw_a_new_file_does_not_make_an_old_one_current(root: Path, log: FileSystemEventLog) -> None:
    """What is appended is in the file at the path, also where the same program has read that file before it appends."""
    log.append("s", [e.SessionCreated()], expected_version=0)
    with anew(root) as other:
        assert other.remove("s")
        other.append("s", [e.SessionCreated()], expected_version=0)
        other.append("s", [said("theirs")])
    assert log.head("s").version == 2
    assert log.append("s", [said("ours")]).last == 3
    with anew(root) as other:
        assert [event.content for event in other.read("s") if isinstance(event, e.MessageAdded)] == ["theirs", "ours"]


def _redacted(root: Path) -> tuple[Path, list[bytes], list[bytes]]:
    """Write a log, redact a message of it, and give its path and its lines before and after."""
    path = root / "s" / "events.jsonl"
    with FileSystemEventLog(root, fsync="no") as log:
        log.append("s", [e.SessionCreated()], expected_version=0)
        for n in range(5):
            log.append("s", [e.MessageAdded(role="user", content=f"secret {n}" * 20)])
        before = path.read_bytes().split(b"\n")
        log.redact("s", [3], "a secret")
    return path, before, path.read_bytes().split(b"\n")


def test_a_blanked_line_that_nothing_tells_of_is_tampering(tmp_path: Path) -> None:
    path, before, after = _redacted(tmp_path)
    path.write_bytes(b"\n".join([*before[:2], after[2], *before[3:]]))
    with FileSystemEventLog(tmp_path, fsync="no") as log:
        for _ in range(2):
            with pytest.raises(LogTampered, match=r"line 3, byte .*: the line is blanked, and no event records"):
                log.append("s", [e.DataCleared()])
        with pytest.raises(LogTampered):
            log.head("s")


def test_a_redaction_that_was_cut_short_is_finished_by_the_next_writer(tmp_path: Path) -> None:
    path, before, after = _redacted(tmp_path)
    stub, line = after[2], before[2]
    for cut in range(0, len(line) + 1, 7):
        path.write_bytes(b"\n".join([*after[:2], stub[:cut] + line[cut:], *after[3:]]))
        with FileSystemEventLog(tmp_path, fsync="no") as log:
            log.append("s", [e.DataCleared()])
            assert isinstance(list(log.read("s"))[2], e.RedactedEvent)
        assert path.read_bytes().split(b"\n")[2] == stub


def test_another_program_sees_a_redaction_and_goes_on(tmp_path: Path) -> None:
    with FileSystemEventLog(tmp_path, fsync="no") as one, FileSystemEventLog(tmp_path, fsync="no") as other:
        one.append("s", [e.SessionCreated()], expected_version=0)
        one.append("s", [e.MessageAdded(role="user", content="secret")])
        assert other.head("s").version == 2
        one.redact("s", [2], "a secret")
        assert b"secret" not in b"".join(other.chunks("s", 0, 2))
        other.append("s", [e.DataCleared()])
        assert one.head("s").version == 4


def test_a_torn_tail_is_not_read_on_yet_at_any_byte(log: FileSystemEventLog, file: Path) -> None:
    data = file.read_bytes()
    events = {event.seq: event for event in log.read("s")}
    for size in range(1, len(data)):
        file.write_bytes(data[:size])
        for seq in range(committed(data[:size]) + 1):
            start = sum(map(len, data.splitlines(keepends=True)[:seq]))
            for hint in {0, start}:
                place = Head(seq, "", events[seq].hash, hint) if seq else BEGINNING
                read, end = log.resume("s", place)
                assert not end.version or log.tail_position("s")[:1] == end[:1]
                assert (end.version, read) == (committed(data[:size]), data[start : start + len(read)])


def test_damage_behind_a_place_is_told_once_all_before_it_was_read_on(log: FileSystemEventLog, file: Path) -> None:
    log.append("s", [said("d")])
    data = file.read_bytes()
    file.write_bytes(data.replace(b'"content":"c"', b'"content":"C"'))
    read, end = log.resume("s")
    assert (read.count(b"\n"), end.version) == (3, 3)
    with pytest.raises(LogDamaged) as caught:
        log.resume("s", end)
    assert (caught.value.line, caught.value.readable) == (4, 3)


def test_a_fork_of_which_the_first_line_is_not_whole_has_not_begun(log: FileSystemEventLog, file: Path) -> None:
    log.fork("f", "s", 3, e.SessionCreated())
    own = log.own_beginning("f")
    path = file.parents[1] / "f" / file.name
    data = path.read_bytes()
    for size in (0, 1, 40, len(data) - 1):
        path.write_bytes(data[:size])
        with pytest.raises(SessionNotFound):
            log.own_beginning("f")
    path.write_bytes(data)
    assert log.own_beginning("f") == own


def test_a_redacted_line_that_says_another_type_or_time_is_tampering(tmp_path: Path) -> None:
    path, _, after = _redacted(tmp_path)
    stub = after[2]
    for old, new in ((b"message.added", b"message.addee"), (b'"at":"2', b'"at":"1')):
        path.write_bytes(b"\n".join([*after[:2], stub.replace(old, new), *after[3:]]))
        with FileSystemEventLog(tmp_path, fsync="no") as log, pytest.raises(LogDamaged):
            log.head("s")
    path.write_bytes(b"\n".join(after))
    with FileSystemEventLog(tmp_path, fsync="no") as log:
        assert log.head("s").version == 7


def test_damage_that_a_made_up_redaction_speaks_of_is_damage(tmp_path: Path) -> None:
    with FileSystemEventLog(tmp_path, fsync="no") as log:
        log.append("s", [e.SessionCreated()], expected_version=0)
        log.append("s", [e.MessageAdded(role="user", content="something")])
        log.append("s", [e.EventRedacted(target=2, leaf="no hash", reason="made up")])
    path = tmp_path / "s" / "events.jsonl"
    path.write_bytes(path.read_bytes().replace(b"something", b"everything"[:9]))
    with FileSystemEventLog(tmp_path, fsync="no") as log, pytest.raises(LogDamaged, match="line 2"):
        log.append("s", [e.DataCleared()])
