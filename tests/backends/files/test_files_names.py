"""Logs in folders get, change and lose their names; what is no log is left alone; blobs, locks and changes."""

import os
import subprocess
import sys
import threading
from collections.abc import Callable, Iterator
from contextlib import closing
from pathlib import Path

import pytest
from port_lines import added, created, filled, said, sealed, text_of

from eventstore.backends.files.backend import FilesBackend
from eventstore.backends.files.locks import REGISTRY
from eventstore.errors import InvalidSessionId, NotARegularFile
from eventstore.events import SessionCreated
from eventstore.log.base import NO_LOG
from eventstore.log.port import Exists, Missing, Moved, Refused
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


# --- names


def test_a_log_moves_to_the_trash_and_back_as_itself(backend: FilesBackend, other: FilesBackend) -> None:
    tip = added(backend, created(backend), "a")
    backend.put_blob("s", "quarantine/kept.bin", b"kept")
    text_of(other)
    with pytest.raises(Moved):
        other.move("s", "_trash/s~2", expect=Tip(b"x" * 32, tip.offset, tip.seq))
    other.move("s", "_trash/s~2", expect=tip)
    assert (backend.trashed(), backend.changed().logs) == (["s~2"], [])
    for missing in (lambda: added(backend, tip, "b"), lambda: backend.move("s", "_trash/s~3", expect=None)):
        with pytest.raises(Missing):
            missing()
    assert backend.blobs("_trash/s~2") == ["quarantine/kept.bin"]
    backend.move("_trash/s~2", "s", expect=backend.tip("_trash/s~2"))
    added(backend, tip, "b")


def test_a_move_replaces_nothing(backend: FilesBackend, root: Path) -> None:
    created(backend)
    created(backend, "t")
    for there in ("t", "empty", "file"):
        if there == "empty":
            (root / there).mkdir()
        elif there == "file":
            (root / there).touch()
        with pytest.raises(Exists):
            backend.move("s", there, expect=None)
        with pytest.raises(Exists):
            backend.write_whole(there, filled(b"x\n", Tip(b"")), expect=None)
    assert backend.tip("s").seq == 1
    assert list((root / "empty").iterdir()) == []


RACE = """
import sys
from eventstore.backends.files.backend import FilesBackend
from eventstore.log.port import Exists, Missing, PortError
from eventstore.record.scan import Tip
backend, kind = FilesBackend(sys.argv[1]), sys.argv[2]
def run(n):
    log = f"s{n}"
    line = b'{"type":"session.created","seq":1,"at":"x","by":"%b"}\\n' % kind.encode()
    tip = Tip(b"x" * 32, len(line), 1)
    if kind == "create":
        backend.append(log, line, expect=None, tip=tip)
    elif kind == "import":
        backend.write_whole(log, lambda write: (write(line), tip)[1], expect=None)
    elif kind == "delete":
        return backend.delete("d" + log, expect=None)
    else:
        backend.move(f"_trash/{log}~{kind}", log, expect=None)
    return True
print("ready", flush=True)
sys.stdin.readline()
for n in range(40):
    try:
        print(int(run(n)), flush=True)
    except (Exists, Missing):
        print(0, flush=True)
"""


def test_of_those_who_make_or_restore_a_log_at_once_one_wins(backend: FilesBackend, root: Path) -> None:
    for n in range(40):
        for number in "23":
            created(backend, f"s{n}")
            backend.move(f"s{n}", f"_trash/s{n}~{number}", expect=None)
    outcomes = raced(root, "create", "create", "import", "2", "3")
    assert [sum(column) for column in zip(*outcomes, strict=True)] == [1] * 40
    for n in range(40):
        assert text_of(backend, f"s{n}").count(b"\n") == 1


def test_of_those_who_delete_a_log_at_once_one_did(backend: FilesBackend, root: Path) -> None:
    for n in range(40):
        created(backend, f"ds{n}")
    assert [sum(column) for column in zip(*raced(root, "delete", "delete", "delete"), strict=True)] == [1] * 40
    assert backend.changed().logs == []
    assert [path.name for path in (root / "_adopt").iterdir()] == []


def raced(root: Path, *kinds: str) -> list[list[int]]:
    """Run programs that begin at the same moment; return what each says of its 40 attempts."""
    runs = [
        subprocess.Popen(
            [sys.executable, "-c", RACE, str(root), kind], stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True
        )
        for kind in kinds
    ]
    for run in runs:
        assert run.stdout is not None
        assert run.stdout.readline() == "ready\n"
    for run in runs:
        assert run.stdin is not None
        run.stdin.write("go\n")
        run.stdin.flush()
    outcomes = []
    for run in runs:
        output, _ = run.communicate(timeout=100)
        assert run.returncode == 0
        outcomes.append([int(line) for line in output.split()])
    return outcomes


def test_a_deletion_is_seen_by_who_has_the_log_open(backend: FilesBackend, other: FilesBackend, root: Path) -> None:
    tip = created(backend)
    with pytest.raises(Moved):
        other.delete("s", expect=Tip(b"x" * 32, tip.offset, tip.seq))
    assert other.delete("s", expect=tip)
    assert not other.delete("s", expect=tip)
    with pytest.raises(Missing):
        added(backend, tip, "a")
    assert not (root / "s").exists()


# --- what is no log


def plant_folder(place: Path, _: Path) -> None:
    place.mkdir()


def plant_pipe(place: Path, _: Path) -> None:
    os.mkfifo(place)


def plant_link(place: Path, outside: Path) -> None:
    place.symlink_to(outside)


def plant_hard_link(place: Path, outside: Path) -> None:
    place.hardlink_to(outside)


@pytest.mark.parametrize("plant", [plant_folder, plant_pipe, plant_link, plant_hard_link])
def test_what_is_no_plain_file_is_neither_followed_nor_changed(
    backend: FilesBackend, root: Path, tmp_path: Path, plant: Callable[[Path, Path], None]
) -> None:
    outside = tmp_path / "outside"
    outside.write_bytes(b"mine\n")
    (root / "s").mkdir(parents=True)
    plant(root / "s" / "events.jsonl", outside)
    tip = Tip(b"x" * 32, 5, 1)
    for call in (
        lambda: backend.append("s", b"x\n", expect=None, tip=tip),
        lambda: backend.append("s", b"x\n", expect=tip, tip=tip),
        lambda: backend.overwrite("s", 1, 0, b"minE\n"),
        lambda: backend.cut("s", Tip(b"")),
        lambda: backend.move("s", "_trash/s", expect=None),
        lambda: backend.read("s"),
    ):
        with pytest.raises(NotARegularFile):
            call()
    assert [log for log, text in backend.changed().logs if text != NO_LOG] == ["s"]
    assert backend.delete("s", expect=None)
    assert not (root / "s").exists()
    assert outside.read_bytes() == b"mine\n"


def test_a_folder_that_is_a_link_is_not_followed(backend: FilesBackend, root: Path) -> None:
    tip = created(backend)
    (root / "t").symlink_to(root / "s")
    for call in (lambda: backend.read("t"), lambda: added(backend, tip, "a", log="t")):
        with pytest.raises(NotARegularFile):
            call()
    assert [log for log, text in backend.changed().logs if text != NO_LOG] == ["s"]
    assert backend.delete("t", expect=None)
    assert backend.tip("s") == tip


def test_names_that_lead_elsewhere_are_refused(backend: FilesBackend, root: Path) -> None:
    for name in ("..", "../x", "a/b", "_trash/..", "_trash/a/b", "", "_x", "/etc"):
        with pytest.raises(InvalidSessionId):
            backend.read(name)
        with pytest.raises(InvalidSessionId):
            backend.append(name, b"x\n", expect=None, tip=Tip(b""))
    created(backend)
    for name in ("../x", "a/../b", ".hidden", "events.jsonl", "checkpoints/", ""):
        with pytest.raises(Refused):
            backend.put_blob("s", name, b"x")
    for name in ("../x", "s/../..", "/etc", ".hidden"):
        for call in (backend.blobs, lambda one: backend.put_blob(one, "checkpoints/x", b"x")):
            with pytest.raises(Refused):
                call(name)
    assert sorted(path.name for path in root.iterdir() if path.name != "_changes") == ["s"]


# --- whole logs, blobs, locks


def test_a_whole_log_appears_with_its_blobs_or_not_at_all(backend: FilesBackend, root: Path) -> None:
    data, tip = sealed(Tip(first_hash("s")), SessionCreated(), said("a"))

    def failing(write: Callable[[bytes], None]) -> Tip:
        write(data)
        raise FileNotFoundError(2, "the caller's own")

    with pytest.raises(FileNotFoundError, match="the caller's own"):
        backend.write_whole("s", failing, expect=None)
    assert backend.changed().logs == []
    blobs = [("quarantine/a.bin", [b"x", b"y"])]
    tip.life = backend.write_whole("s", filled(data, tip), blobs, expect=None)
    assert b"".join(backend.get_blob("s", "quarantine/a.bin")) == b"xy"
    assert backend.tip("s") == tip
    tip = added(backend, tip, "b")
    with pytest.raises(Exists):
        backend.write_whole("s", filled(data, tip), expect=None)


def test_a_log_is_replaced_as_a_whole(backend: FilesBackend, other: FilesBackend, root: Path) -> None:
    tip = added(backend, created(backend), "a")
    backend.put_blob("s", "quarantine/a.bin", b"kept")
    reading = other.read("s")
    (root / "s" / ".events.jsonl.new").write_bytes(b"what a crash left" * 1000)
    data, after = sealed(Tip(first_hash("s")), SessionCreated(purpose="another"))
    stale = Tip(b"x" * 32, tip.offset, tip.seq)
    with pytest.raises(Moved):
        backend.write_whole("s", filled(data, after), expect=stale)
    after.life = backend.write_whole("s", filled(data, after), expect=tip)
    assert after.life != tip.life
    assert len(b"".join(reading.chunks)) == tip.offset
    assert text_of(other) == data
    assert sorted(path.name for path in (root / "s").iterdir()) == ["events.jsonl", "quarantine"]
    added(other, after, "b")
    with pytest.raises(Moved):
        added(backend, after, "c")


def test_blobs_are_written_whole_listed_and_deleted(backend: FilesBackend, root: Path, tmp_path: Path) -> None:
    created(backend)
    note = f"checkpoints/{1:012}-{'a' * 8}.note"
    for name in (note, "quarantine/b.bin"):
        backend.put_blob("s", name, b"old")
        backend.put_blob("s", name, b"new")
    assert backend.blobs("s") == [note, "quarantine/b.bin"]
    assert b"".join(backend.get_blob("s", note)) == b"new"
    backend.delete_blob("s", note)
    backend.delete_blob("s", note)
    with pytest.raises(Missing):
        backend.get_blob("s", note)
    for question in (backend.blobs, lambda log: backend.put_blob(log, "quarantine/b", b"")):
        with pytest.raises(Missing):
            question("t")
    assert backend.blobs("_cursors") == []
    backend.put_blob("_cursors", "f%20.json", b"1")
    backend.put_blob("", "meta.json", b"2")
    assert (backend.blobs("_cursors"), backend.blobs("")) == (["f%20.json"], ["meta.json"])
    (root / "s" / "quarantine" / "link").symlink_to(tmp_path)
    with pytest.raises(NotARegularFile):
        backend.get_blob("s", "quarantine/link")
    assert not list(root.rglob(".*"))


def test_a_lock_is_taken_again_inside_and_keeps_others_out(backend: FilesBackend, other: FilesBackend) -> None:
    tip = created(backend)
    text_of(other)
    for name in ("log/s", REGISTRY, "another"):
        entered = threading.Event()

        def enter(name: str = name, entered: threading.Event = entered) -> None:
            with other.lock(name):
                entered.set()

        with backend.lock(name):
            with backend.lock(name):
                thread = threading.Thread(target=enter)
                thread.start()
                if name == "log/s":
                    tip = added(backend, tip, "a")
            assert not entered.wait(0.05)
        assert entered.wait(30)
        thread.join()
    assert (backend.root / "_lock").exists()
    with pytest.raises(Missing), backend.lock("log/nowhere"):
        pass


def test_a_log_shows_that_a_program_has_it_open(backend: FilesBackend, root: Path) -> None:
    created(backend)
    with closing(FilesBackend(root)) as reader:
        text_of(reader)
        assert reader.is_open("s")
        backend.close()
        assert not reader.is_open("s")
        assert not reader.is_open("nowhere")
