"""The port on files when the system fails: full disks, flushes that fail, kills between two steps, forks, other systems."""

import errno
import fcntl
import os
import shutil
import threading
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import closing
from pathlib import Path

import pytest
from port_lines import added, created, filled, open_descriptors, said, sealed, text_of

from eventstore.backends.files.atomic import replace_path
from eventstore.backends.files.backend import FilesBackend
from eventstore.backends.files.lines import find_line
from eventstore.events import SessionCreated
from eventstore.log.port import Missing, Moved, NotStored, Poisoned, Refused, Unclear
from eventstore.record.hash_chain import first_hash
from eventstore.record.scan import Tip


class Killed(BaseException):
    """A program that dies here."""


@pytest.fixture
def root(tmp_path: Path) -> Path:
    return tmp_path / "logs"


@pytest.fixture
def backend(root: Path) -> Iterator[FilesBackend]:
    with closing(FilesBackend(root)) as backend:
        yield backend


def failing(code: int = errno.EIO) -> Callable[..., int]:
    def fail(*_: object, **__: object) -> int:
        raise OSError(code, os.strerror(code))

    return fail


def killing(*_: object, **__: object) -> None:
    raise Killed


def recorded(monkeypatch: pytest.MonkeyPatch, name: str) -> list[int]:
    """Have the sizes of the files noted that a call of the system flushes."""
    sizes: list[int] = []
    real = getattr(os, name)

    def noted(descriptor: int) -> None:
        sizes.append(os.fstat(descriptor).st_size)
        real(descriptor)

    monkeypatch.setattr(os, name, noted)
    return sizes


# --- writing


def test_a_write_that_is_short_is_finished(backend: FilesBackend, monkeypatch: pytest.MonkeyPatch) -> None:
    tip, write = created(backend), os.write
    with monkeypatch.context() as patch:
        patch.setattr(os, "write", lambda descriptor, data: write(descriptor, bytes(data)[:20]))
        tip = added(backend, tip, "a" * 100)
    assert backend.tip("s") == tip
    added(backend, tip, "b")


def test_a_write_that_fails_in_the_middle_leaves_nothing(
    backend: FilesBackend, root: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    tip, write = created(backend), os.write

    def full(descriptor: int, data: bytes) -> int:
        return write(descriptor, data[:20]) if len(data) > 200 else failing(errno.ENOSPC)()

    with monkeypatch.context() as patch:
        patch.setattr(os, "write", full)
        with pytest.raises(Refused) as caught:
            added(backend, tip, "a" * 50)
    assert (type(caught.value), caught.value.errno) == (Refused, errno.ENOSPC)
    assert caught.value.where == str(root / "s" / "events.jsonl")
    assert (root / "s" / "events.jsonl").stat().st_size == tip.offset
    added(backend, tip, "b")


@pytest.mark.parametrize("wrote", [0, 20])
def test_where_what_was_written_stays_nobody_says_that_nothing_was(
    backend: FilesBackend, monkeypatch: pytest.MonkeyPatch, wrote: int
) -> None:
    tip, write, left = created(backend), os.write, wrote

    def full(descriptor: int, data: bytes) -> int:
        nonlocal left
        size, left = left, 0
        return write(descriptor, data[:size]) if size else failing(errno.ENOSPC)()

    with monkeypatch.context() as patch:
        patch.setattr(os, "write", full)
        patch.setattr(os, "ftruncate", failing())
        with pytest.raises(Refused) as caught:
            added(backend, tip, "a")
    assert type(caught.value) is (Unclear if wrote else Refused)


@pytest.mark.parametrize("missing", [0, 1, 5])
def test_a_killed_append_is_cut_back_unless_readers_may_have_seen_it(
    backend: FilesBackend, root: Path, monkeypatch: pytest.MonkeyPatch, missing: int
) -> None:
    tip, write = created(backend), os.write

    def interrupted(descriptor: int, data: bytes) -> int:
        write(descriptor, data[: len(data) - missing])
        raise Killed

    with monkeypatch.context() as patch:
        patch.setattr(os, "write", interrupted)
        with pytest.raises(Killed):
            added(backend, tip, "a")
    end = backend.tip("s")
    assert (root / "s" / "events.jsonl").stat().st_size == end.offset
    assert end.seq == (tip.seq if missing else tip.seq + 1)
    with closing(FilesBackend(root)) as other, pytest.raises(Moved):  # the lock is free
        added(other, Tip(b"x" * 32, tip.offset, 1), "b")
    added(backend, end, "b")


# --- stable storage


def test_after_a_flush_that_failed_nothing_more_is_believed(
    backend: FilesBackend, root: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    tip, elsewhere = created(backend), created(backend, "t")
    with monkeypatch.context() as patch:
        patch.setattr(os, "fdatasync", failing())
        with pytest.raises(NotStored) as caught:
            added(backend, tip, "a")
    assert caught.value.errno == errno.EIO
    size = (root / "s" / "events.jsonl").stat().st_size
    with pytest.raises(Poisoned):
        added(backend, backend.tip("s"), "b")
    with pytest.raises(NotStored):
        backend.sync("s", backend.tip("s"))
    with pytest.raises(Poisoned):
        backend.move("s", "_trash/s", expect=None)
    with pytest.raises(Poisoned):
        backend.overwrite("s", 1, 0, b"x\n")
    assert (root / "s" / "events.jsonl").stat().st_size == size
    added(backend, elsewhere, "c", log="t")
    with closing(FilesBackend(root)) as fresh:
        added(fresh, fresh.tip("s"), "d")


def test_one_flush_does_for_all_who_wait_and_for_nobody_who_came_later(
    backend: FilesBackend, monkeypatch: pytest.MonkeyPatch
) -> None:
    first = created(backend)
    tips = [first]
    for n in range(8):
        tips.append(added(backend, tips[-1], str(n), sync=False))
    flushes, held, go_on, fdatasync = [], threading.Event(), threading.Event(), os.fdatasync

    def slow(descriptor: int) -> None:
        flushes.append(os.fstat(descriptor).st_size)
        held.set()
        assert go_on.wait(60)
        fdatasync(descriptor)

    monkeypatch.setattr(os, "fdatasync", slow)
    with ThreadPoolExecutor(9) as pool:
        waiting = [pool.submit(backend.sync, "s", tip) for tip in tips]
        assert held.wait(60)
        late = added(backend, tips[-1], "late", sync=False)
        waiting.append(pool.submit(backend.sync, "s", late))
        go_on.set()
        for one in waiting:
            one.result()
    assert flushes == [tips[-1].offset, late.offset]


def test_a_flush_of_what_was_cut_since_counts_for_nothing(
    backend: FilesBackend, root: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    tip = created(backend)
    with (root / "s" / "events.jsonl").open("ab") as stream:
        stream.write(b"torn" * 500)
    with closing(FilesBackend(root)) as late:  # it flushes what is torn, and somebody else cuts it
        with late.lock("log/s"):
            late.flush()
        backend.cut("s", tip)
        flushed = recorded(monkeypatch, "fdatasync")
        after = added(late, Tip(tip.digest, tip.offset, tip.seq, tip.at), "a")
    assert flushed[0] == after.offset


def test_a_new_log_is_answered_when_its_folders_are_durable(root: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    synced: set[tuple[int, int]] = set()
    fsync = os.fsync

    def noted(descriptor: int) -> None:
        found = os.fstat(descriptor)
        synced.add((found.st_dev, found.st_ino))
        fsync(descriptor)

    def are_synced(*folders: Path) -> bool:
        return {(one.stat().st_dev, one.stat().st_ino) for one in folders} <= synced

    monkeypatch.setattr(os, "fsync", noted)
    (root / "killed").mkdir(parents=True)  # whoever made it was killed before it was durable
    with closing(FilesBackend(root)) as backend:
        for log in ("s", "killed"):
            synced.clear()
            created(backend, log)
            assert are_synced(root, root / log)
    with closing(FilesBackend(root / "deeper" / "still")) as backend:
        created(backend)
        assert are_synced(root, root / "deeper", root / "deeper" / "still")


def test_everysec_flushes_by_itself(root: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    done, fdatasync = threading.Event(), os.fdatasync

    def noted(descriptor: int) -> None:
        fdatasync(descriptor)
        done.set()

    monkeypatch.setattr(os, "fdatasync", noted)
    with closing(FilesBackend(root, fsync="everysec")) as backend:
        created(backend)
        assert not done.is_set()
        assert done.wait(60)


def everything(backend: FilesBackend, root: Path) -> None:
    """Do all that forces bytes to stable storage."""
    first = created(backend)
    tip = added(backend, first, "a")
    line = text_of(backend, after=1).rstrip(b"\n")
    backend.overwrite("s", 2, first.offset, line)
    with (root / "s" / "events.jsonl").open("ab") as stream:
        stream.write(b"torn")
    backend.cut("s", tip)
    backend.put_blob("s", "quarantine/a", b"a")
    data, whole = sealed(Tip(first_hash("t")), SessionCreated(), said("a"))
    whole.life = backend.write_whole("t", filled(data, whole), expect=None)
    backend.write_whole("t", filled(data, whole), expect=whole)
    backend.move("t", "_trash/t", expect=None)
    assert backend.delete("_trash/t", expect=None)
    assert b"".join(backend.read("s").chunks).count(b"\n") == 2


def test_a_system_without_fdatasync_flushes_with_fsync(
    backend: FilesBackend, root: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.delattr(os, "fdatasync")
    everything(backend, root)
    flushed = recorded(monkeypatch, "fsync")
    added(backend, backend.tip("s"), "b")
    assert len(flushed) == 1


@pytest.mark.parametrize("supported", [True, False])
def test_a_drive_s_cache_is_emptied_where_the_system_can(
    backend: FilesBackend, root: Path, monkeypatch: pytest.MonkeyPatch, supported: bool
) -> None:
    full, asked, plain = 51_000, [], fcntl.fcntl

    def control(descriptor: int, command: int, *rest: bytes) -> object:
        if command != full:
            return plain(descriptor, command, *rest)
        asked.append(descriptor)
        return 0 if supported else failing(errno.ENOTSUP)()

    monkeypatch.delattr(os, "fdatasync")
    monkeypatch.setattr(fcntl, "F_FULLFSYNC", full, raising=False)
    monkeypatch.setattr(fcntl, "fcntl", control)
    everything(backend, root)
    fsynced = recorded(monkeypatch, "fsync")
    asked.clear()
    added(backend, backend.tip("s"), "b")
    assert (len(asked), len(fsynced)) == (1, 0 if supported else 1)


# --- kills between two steps


def test_a_cut_that_was_killed_has_lost_nothing(
    backend: FilesBackend, root: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    tip = created(backend)
    file = root / "s" / "events.jsonl"
    with file.open("ab") as stream:
        stream.write(b"torn")
    with monkeypatch.context() as patch:
        patch.setattr(os, "ftruncate", killing)
        with pytest.raises(Killed):
            backend.cut("s", tip)
    assert file.read_bytes().endswith(b"torn")
    cut = backend.cut("s", tip)
    assert b"".join(backend.get_blob("s", cut.quarantine)) == b"torn"


@pytest.mark.parametrize("step", ["rename", "fsync", "rmtree"])
def test_a_deletion_that_was_killed_happened_or_did_not(
    backend: FilesBackend, root: Path, monkeypatch: pytest.MonkeyPatch, step: str
) -> None:
    tip = created(backend)
    added(backend, tip, "a secret")
    (root / "_adopt").mkdir()
    with monkeypatch.context() as patch:
        patch.setattr(shutil if step == "rmtree" else os, step, killing)
        with pytest.raises(Killed):
            backend.delete("s", expect=None)
    there = step == "rename"
    assert [log for log, _ in backend.changed().logs] == (["s"] if there else [])
    assert (root / "s").exists() == there
    assert backend.delete("s", expect=None) == there
    created(backend, "t")
    backend.delete("t", expect=None)
    assert [path for path in root.rglob("*") if path.is_file() and path.name != "_changes"] == []


def test_a_file_that_was_being_replaced_is_the_old_one_or_the_new_one(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    path = tmp_path / "file"
    replace_path(path, b"old")
    for step in ("write", "fdatasync", "replace"):
        with monkeypatch.context() as patch:
            patch.setattr(os, step, failing(errno.ENOSPC))
            with pytest.raises(OSError, match="No space"):
                replace_path(path, b"newer")
        assert [one.read_bytes() for one in tmp_path.iterdir()] == [b"old"]
    (tmp_path / ".file.new").write_bytes(b"what a kill left")
    replace_path(path, [b"ne", b"w"])
    assert [one.read_bytes() for one in tmp_path.iterdir()] == [b"new"]
    assert path.stat().st_mode & 0o777 == 0o600


def test_writers_of_one_file_take_turns(tmp_path: Path) -> None:
    path = tmp_path / "file"
    texts = [bytes([byte]) * 200_000 for byte in b"abcdefgh"]
    before = open_descriptors()
    with ThreadPoolExecutor(8) as pool:
        for done in [pool.submit(replace_path, path, text, durable=False) for text in texts * 5]:
            done.result()
            assert path.read_bytes() in texts
    assert [one.name for one in tmp_path.iterdir()] == ["file"]
    assert open_descriptors() == before


def test_what_a_link_planted_in_the_way_leads_to_is_not_written(tmp_path: Path) -> None:
    mine = tmp_path / "mine"
    mine.write_bytes(b"mine")
    folder = tmp_path / "folder"
    folder.mkdir()
    for plant in (lambda one: one.symlink_to(mine), lambda one: one.hardlink_to(mine), os.mkfifo):
        for name in (".file.new", "file"):
            plant(folder / name)
            replace_path(folder / "file", b"new")
            assert [one.read_bytes() for one in folder.iterdir()] == [b"new"]
            (folder / "file").unlink()
    assert mine.read_bytes() == b"mine"


# --- forks of the process


def in_child(work: Callable[[], object]) -> int:
    child = os.fork()
    if not child:
        status = 1
        try:
            work()
            status = 0
        finally:
            os._exit(status)
    return os.waitstatus_to_exitcode(os.waitpid(child, 0)[1])


def test_a_child_and_its_parent_both_append(backend: FilesBackend, root: Path) -> None:
    before = open_descriptors()
    tip = created(backend)

    def work() -> None:
        assert open_descriptors() == before, "it has its parent's files open"
        added(backend, tip, "child")

    assert in_child(work) == 0
    with pytest.raises(Moved):
        added(backend, tip, "parent")
    added(backend, backend.tip("s"), "parent")


def test_a_child_does_not_let_go_of_its_parent_s_locks(backend: FilesBackend, root: Path) -> None:
    created(backend)
    with (root / "s" / "events.jsonl").open("rb") as log, backend.lock("log/s"):

        def leave() -> None:
            backend.close()

        assert in_child(leave) == 0
        with pytest.raises(BlockingIOError):
            fcntl.flock(log, fcntl.LOCK_EX | fcntl.LOCK_NB)
    added(backend, backend.tip("s"), "b")


def test_a_closed_backend_opens_again(backend: FilesBackend) -> None:
    tip = created(backend)
    backend.close()
    tip = added(backend, tip, "a")
    backend.close()
    assert backend.tip("s") == tip
    with pytest.raises(Missing):
        backend.tip("t")


# --- lines


def test_the_newest_lines_cost_as_much_in_a_long_log_as_in_a_short_one(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    reads, pread = list[int](), os.pread

    def counted(descriptor: int, size: int, offset: int) -> bytes:
        reads.append(size)
        return pread(descriptor, size, offset)

    monkeypatch.setattr("eventstore.backends.files.lines.os.pread", counted)
    counts = list[int]()
    for lines in (100, 10_000):
        file = tmp_path / f"{lines}"
        line = b'{"type":"data.set","seq":%d,"value":"' + b"x" * 100 + b'"}\n'
        file.write_bytes(b"".join(line % seq for seq in range(1, lines + 1)))
        descriptor = os.open(file, os.O_RDONLY)
        reads.clear()
        assert find_line(descriptor, lines - 3, file.stat().st_size) < file.stat().st_size
        os.close(descriptor)
        counts.append(len(reads))
        assert sum(reads) <= 8 * 1024
    assert counts == [2, 2]


def test_lines_are_found_among_long_ones_and_garbage(tmp_path: Path) -> None:
    lines, starts, offset = [], {}, 0
    for seq in range(1, 200):
        starts[seq] = offset
        lines.append(
            b'{"type":"x","seq":%d,"at":"t","c":"%b"}\n' % (seq, b"c" * (seq % 7 * (40_000 if seq % 50 == 0 else 90)))
        )
        if seq % 13 == 0:
            lines.append(b"garbage\n" * (seq % 5) + b"\0" * 600 + b"\n")
        offset = sum(map(len, lines))
    file = tmp_path / "file"
    file.write_bytes(b"".join(lines))
    with file.open("rb") as stream:
        descriptor = stream.fileno()
        for seq, start in starts.items():
            assert find_line(descriptor, seq, offset) == start
        assert find_line(descriptor, 200, offset) == offset
