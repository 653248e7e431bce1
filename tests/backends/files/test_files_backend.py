"""The port on files: where logs end, who may write, what is read and overwritten."""

import fcntl
import os
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import closing
from itertools import count
from pathlib import Path

import pytest
from interrupting import ends, interrupted_at
from port_lines import added, created, open_descriptors, sealed, text_of

from eventstore.backends.files.backend import FilesBackend
from eventstore.errors import NotARegularFile
from eventstore.events import SessionCreated
from eventstore.log.port import Exists, Missing, Moved
from eventstore.record import tombstone
from eventstore.record.hash_chain import first_hash
from eventstore.record.scan import Tip


@pytest.fixture
def root(tmp_path: Path) -> Path:
    return tmp_path / "logs"


@pytest.fixture
def backend(root: Path) -> Iterator[FilesBackend]:
    with closing(FilesBackend(root)) as backend:
        yield backend


@pytest.fixture
def other(root: Path) -> Iterator[FilesBackend]:
    """Another program, as far as locks and files go."""
    with closing(FilesBackend(root)) as other:
        yield other


# --- appending


@pytest.mark.parametrize("file", ["handle.py", "locks.py", "backend.py", "folders.py", "contextlib.py"])
def test_a_ctrl_c_anywhere_in_a_block_with_locks_leaves_none_of_them_to_this_process(
    backend: FilesBackend, other: FilesBackend, file: str
) -> None:
    """It was unlocked by the next append of this process; a folder was closed twice, and the error of that came instead."""

    def work() -> None:
        with backend.lock("log/s"), backend.lock("log/s"), backend.lock("a"), backend.lock("a"):
            pass
        backend.delete("t", expect=None)

    tip = created(backend)
    for number in count(1):
        backend.append("t", b"x\n", expect=None, tip=tip)
        is_interrupted = interrupted_at(number, (file,), work)
        assert ends(lambda: work_of(other)), number
        if not is_interrupted:
            break
        for name in ("log/s", "a"):
            with backend.lock(name):
                pass
        assert ends(lambda: work_of(other)), number
        other.delete("t", expect=None)
    assert number > 5


def work_of(other: FilesBackend) -> None:
    """Take all locks."""
    with other.lock("log/s"), other.lock("a"):
        pass


def test_a_new_log_is_read_back_and_is_made_once(backend: FilesBackend, root: Path) -> None:
    tip = added(backend, created(backend), "a", "b")
    file = root / "s" / "events.jsonl"
    assert text_of(backend) == file.read_bytes()
    assert backend.tip("s") == tip
    with pytest.raises(Exists):
        created(backend)
    assert len(file.read_bytes()) == tip.offset


def test_an_append_elsewhere_than_at_the_end_writes_nothing(backend: FilesBackend, root: Path) -> None:
    first = created(backend)
    tip = added(backend, first, "a")
    forged = Tip(b"x" * 32, tip.offset, tip.seq, tip.at, tip.life)
    reborn = Tip(tip.digest, tip.offset, tip.seq, tip.at, "another life")
    for expect in (first, forged, reborn, Tip(tip.digest, tip.offset - 1, tip.seq)):
        with pytest.raises(Moved):
            backend.append("s", b"x\n", expect=expect, tip=tip)
    with pytest.raises(Missing):
        backend.append("t", b"x\n", expect=tip, tip=tip)
    assert (root / "s" / "events.jsonl").stat().st_size == tip.offset
    assert not (root / "t").exists()


def test_what_another_program_appended_moves_the_end(backend: FilesBackend, other: FilesBackend) -> None:
    tip = created(backend)
    theirs = added(other, other.tip("s"), "theirs")
    with pytest.raises(Moved):
        added(backend, tip, "ours")
    reading = backend.read("s", tip)
    assert (reading.offset, reading.end, reading.life) == (tip.offset, theirs.offset, tip.life)
    assert b"".join(reading.chunks).count(b"\n") == 1
    added(backend, theirs, "ours")


def test_a_log_that_was_deleted_and_made_anew_is_another(backend: FilesBackend, other: FilesBackend) -> None:
    """Also where the file system gives the new file the inode of the old one."""
    for _ in range(20):
        tip = created(backend)
        assert other.delete("s", expect=None)
        anew = created(other)
        assert anew.life != tip.life
        with pytest.raises(Moved):
            backend.append("s", b"x\n", expect=tip, tip=tip)
        with pytest.raises(Moved):
            backend.read("s", tip)
        backend.delete("s", expect=anew)


def test_an_append_costs_few_system_calls(backend: FilesBackend, monkeypatch: pytest.MonkeyPatch) -> None:
    tip = added(backend, created(backend), "a")
    calls: list[str] = []
    for module, name in [
        (os, "stat"),
        (os, "fstat"),
        (os, "write"),
        (os, "pread"),
        (os, "open"),
        (os, "fsync"),
        (os, "fdatasync"),
        (fcntl, "flock"),
    ]:
        real = getattr(module, name)

        def counted(*args: object, name: str = name, real: Callable[..., object] = real, **kwargs: object) -> object:
            calls.append(name)
            return real(*args, **kwargs)

        monkeypatch.setattr(module, name, counted)
    tip = added(backend, tip, "b")
    assert calls == ["flock", "stat", "write", "fstat", "flock", "fdatasync"]
    calls.clear()
    assert backend.read("s", tip).end == tip.offset
    assert calls == ["stat"]


def test_a_killed_creation_left_no_log(backend: FilesBackend, root: Path) -> None:
    (root / "s").mkdir(parents=True)
    (root / "s" / "events.jsonl").touch()
    for question in (backend.tip, backend.read):
        with pytest.raises(Missing):
            question("s")
    assert backend.changed().logs == []
    tip = created(backend)
    assert backend.tip("s") == tip
    backend.delete("s", expect=tip)
    (root / "s").mkdir()
    (root / "s" / "events.jsonl").touch()
    assert not backend.delete("s", expect=None)
    assert not (root / "s").exists()


def test_a_torn_tail_moves_the_end_until_it_is_cut_and_kept(backend: FilesBackend, root: Path) -> None:
    tip = added(backend, created(backend), "a")
    with (root / "s" / "events.jsonl").open("ab") as stream:
        stream.write(b'{"type":"mess')
    with pytest.raises(Moved):
        added(backend, tip, "b")
    assert backend.tip("s") == tip
    with backend.lock("log/s"):
        assert text_of(backend, "s", tip) == b'{"type":"mess'
        cut = backend.cut("s", tip)
        tip = added(backend, tip, "b")
    assert cut.removed_bytes == 13
    assert backend.blobs("s") == [cut.quarantine]
    assert b"".join(backend.get_blob("s", cut.quarantine)) == b'{"type":"mess'
    with pytest.raises(Moved):
        backend.cut("s", tip)


def test_a_tail_in_front_of_any_event_is_cut_and_the_log_is_made(backend: FilesBackend, root: Path) -> None:
    created(backend)
    file = root / "s" / "events.jsonl"
    file.write_bytes(file.read_bytes()[:-1])
    with backend.lock("log/s"):
        reading = backend.read("s")
        begin = Tip(first_hash("s"), life=reading.life)
        backend.cut("s", begin)
        data, tip = sealed(begin, SessionCreated())
        tip.life = backend.append("s", data, expect=begin, tip=tip)
    assert text_of(backend) == data
    added(backend, tip, "a")


def test_a_last_record_gets_the_line_feed_that_a_crash_took(backend: FilesBackend, root: Path) -> None:
    tip = added(backend, created(backend), "a")
    file = root / "s" / "events.jsonl"
    whole = file.read_bytes()
    file.write_bytes(whole[:-1])
    with pytest.raises(Moved):
        added(backend, tip, "b")
    text_of(backend)
    before = Tip(tip.digest, tip.offset - 1, tip.seq, tip.at, tip.life)
    backend.append("s", b"\n", expect=before, tip=tip)
    assert file.read_bytes() == whole
    added(backend, tip, "b")


# --- reading


def long_log(backend: FilesBackend) -> dict[int, Tip]:
    tips = {1: created(backend)}
    for seq in range(2, 300):
        tips[seq] = added(backend, tips[seq - 1], "x" * (seq * 37 % 900), sync=False)
    return tips


def test_a_tip_is_found_wherever_it_says_to_look_first(backend: FilesBackend) -> None:
    tips = long_log(backend)
    whole = text_of(backend)
    for seq in (1, 2, 17, 150, 299):
        for hint in (0, 1, tips[100].offset, tips[seq].offset, 10**9):
            reading = backend.read("s", Tip(tips[seq].digest, hint, seq))
            assert b"".join(reading.chunks) == whole[tips[seq].offset :]
    for forged in (
        Tip(tips[5].digest, tips[5].offset, 6),
        Tip(tips[299].digest, tips[299].offset, 300),
        Tip(b"", 0, 4),
    ):
        with pytest.raises(Moved):
            backend.read("s", forged)


def test_lines_are_found_by_their_numbers(backend: FilesBackend) -> None:
    tips = long_log(backend)
    whole = text_of(backend)
    for after in (-1, 0, 1, 2, 150, 298, 299, 10_000):
        start = tips[min(after, 299)].offset if after > 0 else 0
        assert text_of(backend, after=after) == whole[start:]
        some = text_of(backend, after=after, upto=after + 1)
        assert whole[start:].startswith(some)
        assert some.count(b"\n") or after >= 299


def test_few_bytes_are_read_to_find_a_line(backend: FilesBackend, monkeypatch: pytest.MonkeyPatch) -> None:
    long_log(backend)
    read, pread = 0, os.pread

    def counted(descriptor: int, size: int, offset: int) -> bytes:
        nonlocal read
        data = pread(descriptor, size, offset)
        read += len(data)
        return data

    monkeypatch.setattr(os, "pread", counted)
    for seq in (2, 100, 200, 290):
        read = 0
        text_of(backend, after=seq, upto=seq + 1)
        assert read < 80_000


def test_a_long_line_costs_no_more_than_a_few_times_its_bytes(
    backend: FilesBackend, monkeypatch: pytest.MonkeyPatch
) -> None:
    tip = created(backend)
    for text in ("a", "x" * 15_000_000, "b"):
        tip = added(backend, tip, text, sync=False)
    read, pread = 0, os.pread

    def counted(descriptor: int, size: int, offset: int) -> bytes:
        nonlocal read
        data = pread(descriptor, size, offset)
        read += len(data)
        return data

    monkeypatch.setattr(os, "pread", counted)
    assert text_of(backend, after=3).count(b"\n") == 1
    assert read < 4 * tip.offset
    read = 0
    assert backend.tip("s") == tip
    assert read < 100_000
    assert next(iter(backend.read("s", 0, 1).chunks)).startswith(b'{"type":"session.created"')
    assert read < 100_000


@pytest.mark.parametrize("batch", [["b", "c", "d"]])
def test_a_tip_is_never_inside_a_batch(backend: FilesBackend, root: Path, batch: list[str]) -> None:
    first = created(backend)
    added(backend, first, *batch)
    file = root / "s" / "events.jsonl"
    whole = file.read_bytes()
    for size in range(first.offset, len(whole)):
        file.write_bytes(whole[:size])
        assert backend.tip("s").seq == 1


def test_nothing_stays_open_however_a_reading_ends(backend: FilesBackend, root: Path) -> None:
    tip = created(backend)
    for _ in range(4):
        tip = added(backend, tip, "x" * 300_000)
    before = open_descriptors()
    backend.read("s")  # nobody reads it
    next(backend.read("s").chunks)  # somebody stops early
    kept = backend.read("s").chunks
    assert len(b"".join(kept)) == tip.offset
    assert open_descriptors() == before
    held = backend.read("s").chunks
    held.close()  # type: ignore[attr-defined]
    assert (list(held), open_descriptors()) == ([], before)
    for question in (backend.tip, backend.read, backend.blobs):
        with pytest.raises(Missing):
            question("nowhere")
    with pytest.raises(Moved):
        backend.read("s", Tip(b"x" * 32, 5, 2, life=tip.life))
    (root / "odd").symlink_to(root / "s")
    with pytest.raises(NotARegularFile):
        backend.read("odd")
    assert open_descriptors() == before


def test_few_files_stay_open_and_none_of_their_logs_is_forgotten(root: Path) -> None:
    with closing(FilesBackend(root, open_files=4)) as backend:
        before = open_descriptors()
        tips = {f"s{n}": created(backend, f"s{n}") for n in range(40)}
        for _ in range(2):
            for log, tip in tips.items():
                tips[log] = added(backend, tip, "a", log=log)
            assert open_descriptors() <= before + 5  # one is that of the feed of changes
    assert open_descriptors() <= before


# --- overwriting


def redacted(backend: FilesBackend, seq: int, offset: int) -> bytes:
    line = text_of(backend, after=seq - 1, upto=seq).partition(b"\n")[0]
    blank = tombstone.make_tombstone(line)
    assert blank is not None
    backend.overwrite("s", seq, offset, blank + b"\n")
    return blank


def test_a_line_is_overwritten_in_its_place(backend: FilesBackend, other: FilesBackend) -> None:
    first = created(backend)
    tip = added(backend, first, "a secret")
    text_of(other)
    blank = redacted(backend, 2, first.offset)
    assert text_of(backend, after=1) == blank + b"\n"
    tip = added(backend, tip, "b")  # whoever overwrote it goes on
    for seq, offset, line in (
        (2, first.offset, blank + b" \n"),
        (3, first.offset, blank + b"\n"),
        (2, first.offset + 1, blank[1:] + b"\n"),
        (3, tip.offset, blank + b"\n"),
    ):
        with pytest.raises(Moved):
            backend.overwrite("s", seq, offset, line)


def test_what_another_program_overwrote_has_to_be_read_again(backend: FilesBackend, other: FilesBackend) -> None:
    first = created(backend)
    tip = added(backend, first, "a secret")
    redacted(other, 2, first.offset)
    with pytest.raises(Moved):
        backend.read("s", tip)
    with pytest.raises(Moved):
        added(backend, tip, "b")
    assert (
        text_of(backend, after=Tip(tip.digest, tip.offset, tip.seq)) == b""
    )  # a cursor asks for nothing in front of it
    with pytest.raises(Moved):
        backend.read("s", tip)
    assert b"redacted" in text_of(backend)
    added(backend, tip, "b")


def test_appends_of_many_threads_and_backends_do_not_interleave(backend: FilesBackend, other: FilesBackend) -> None:
    created(backend)

    def append(one: FilesBackend) -> None:
        for _ in range(25):
            while True:
                tip = one.tip("s")
                tip.life = ""
                try:
                    added(one, tip, "x" * 3000, "y")
                    break
                except Moved:
                    continue

    with ThreadPoolExecutor(4) as pool:
        for done in [pool.submit(append, one) for one in (backend, other) * 2]:
            done.result()
    assert backend.tip("s").seq == 1 + 4 * 25 * 2
    assert text_of(backend).count(b"\n") == 201


def test_what_was_overwritten_is_noticed_however_many_logs_there_are(root: Path) -> None:
    with closing(FilesBackend(root, open_files=1)) as backend, closing(FilesBackend(root)) as other:
        first = created(backend)
        tip = added(backend, first, "a secret")
        for n in range(40):
            created(backend, f"s{n}")
        redacted(other, 2, first.offset)
        with pytest.raises(Moved):
            backend.read("s", tip)
