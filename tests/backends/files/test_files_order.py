"""The order of the calls of the system: what is on stable storage before what, and what is locked meanwhile."""

import errno
import os
from collections.abc import Iterator
from contextlib import closing
from pathlib import Path

import pytest
from os_calls import CUT, LOCK, RENAME, SYNC, UNLOCK, WRITE, OsCall, recorded
from port_lines import added, created, filled, said, sealed, text_of

from eventstore.backends.files.backend import FilesBackend
from eventstore.events import SessionCreated
from eventstore.ids import Fsync
from eventstore.log.contract.sample import said as message
from eventstore.log.engine import EventLog
from eventstore.log.port import NotStored
from eventstore.record.hash_chain import first_hash
from eventstore.record.scan import Tip

LOG = "s/events.jsonl"


@pytest.fixture
def root(tmp_path: Path) -> Path:
    return tmp_path / "logs"


@pytest.fixture
def backend(root: Path) -> Iterator[FilesBackend]:
    with closing(FilesBackend(root)) as backend:
        yield backend


# --- appending


def test_an_append_writes_under_the_lock_and_is_durable_when_it_returns(backend: FilesBackend, root: Path) -> None:
    tip = created(backend)
    with recorded(root) as calls:
        added(backend, tip, "a")
    mine = [one for one in calls.made if one.path == LOG]
    assert mine == [OsCall(LOCK, LOG), OsCall(WRITE, LOG), OsCall(UNLOCK, LOG), OsCall(SYNC, LOG)]


def test_a_new_log_in_a_root_that_a_killed_program_made_has_a_durable_root(root: Path) -> None:
    root.mkdir()
    with recorded(root.parent) as calls, closing(FilesBackend(root)) as backend:
        created(backend)
    calls.in_order((SYNC, "."), (SYNC, "logs"), (SYNC, "logs/s"), (WRITE, "logs/s/events.jsonl"))
    calls.in_order((WRITE, "logs/s/events.jsonl"), (SYNC, "logs/s/events.jsonl"))


def test_all_folders_of_a_new_root_are_durable(tmp_path: Path) -> None:
    with recorded(tmp_path) as calls, closing(FilesBackend(tmp_path / "a" / "b" / "c")) as backend:
        created(backend)
    synced = {one.path for one in calls.made if one.name == SYNC}
    assert {".", "a", "a/b", "a/b/c", "a/b/c/s", "a/b/c/s/events.jsonl"} <= synced


def test_a_log_is_marked_as_changing_before_it_changes(backend: FilesBackend, root: Path) -> None:
    created(backend, "t")
    with recorded(root) as calls:
        created(backend)
    calls.in_order((WRITE, "_changes"), (WRITE, LOG))


def test_a_look_during_an_append_is_followed_by_another_mark(
    backend: FilesBackend, root: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    tip = created(backend)
    write = os.write

    def looked_at(descriptor: int, data: bytes) -> int:
        with (root / "_changes").open("ab") as feed:  # a reader has seen everything up to here
            feed.write(b"\n?\n")
        return write(descriptor, data)

    feed = root / "_changes"
    monkeypatch.setattr(os, "write", lambda *args: looked_at(*args) if args[1].startswith(b"{") else write(*args))
    added(backend, tip, "a")
    assert b"\ns\n" in feed.read_bytes().rpartition(b"\n?\n")[2]


def test_what_is_closed_is_durable_first(root: Path) -> None:
    with closing(FilesBackend(root, fsync="everysec")) as backend:
        tip = created(backend)
        added(backend, tip, "a")
        with recorded(root) as calls:
            backend.close()
    assert OsCall(SYNC, LOG) in calls.made


# --- replacing


def test_a_replaced_file_is_durable_before_and_after_it_takes_its_place(backend: FilesBackend, root: Path) -> None:
    tip = added(backend, created(backend), "a")
    data, after = sealed(Tip(first_hash("s")), SessionCreated(purpose="another"))
    with recorded(root) as calls:
        backend.write_whole("s", filled(data, after), expect=tip)
    calls.in_order(
        (LOCK, LOG), (WRITE, "s/.events.jsonl.new"), (SYNC, "s/.events.jsonl.new"), (RENAME, LOG), (SYNC, "s")
    )
    calls.in_order((RENAME, LOG), (UNLOCK, LOG))


def test_a_fork_that_is_made_whole_is_durable_before_its_parent_may_go(root: Path) -> None:
    with EventLog(FilesBackend(root)) as log:
        log.append("s", [SessionCreated()], expected_version=0)
        log.append("s", [message("a")])
        log.fork("f", "s", 2, SessionCreated())
        with recorded(root) as calls:
            log.make_whole("f")
    file = "f/.events.jsonl.new"
    calls.in_order((WRITE, file), (SYNC, file), (RENAME, "f/events.jsonl"), (SYNC, "f"))


def test_a_blob_is_durable_when_it_is_there(backend: FilesBackend, root: Path) -> None:
    with recorded(root) as calls:
        backend.put_blob("_cursors", "n.cursor", b"1")
    calls.in_order((SYNC, "."), (RENAME, "_cursors/n.cursor"), (SYNC, "_cursors"))
    place = calls.first(RENAME, "_cursors/n.cursor")
    assert any(one.name == SYNC and one.path.startswith("_cursors/.") for one in calls.made[:place])
    with recorded(root) as calls:
        backend.delete_blob("_cursors", "n.cursor")
    assert calls.made == [OsCall(SYNC, "_cursors")]


# --- changing what stands there


@pytest.mark.parametrize("fsync", ["always", "no"])
def test_a_tail_is_cut_when_its_copy_is_durable(root: Path, fsync: Fsync) -> None:
    with closing(FilesBackend(root, fsync=fsync)) as backend:
        tip = created(backend)
        with (root / LOG).open("ab") as stream:
            stream.write(b"torn")
        (root / "s" / "quarantine").mkdir()  # whoever made it was killed before it was durable
        with recorded(root) as calls:
            name = backend.cut("s", tip).quarantine.partition("/")[2]
    copy, kept = f"s/quarantine/.{name}.new", f"s/quarantine/{name}"
    calls.in_order(
        (LOCK, LOG), (SYNC, copy), (RENAME, kept), (SYNC, "s/quarantine"), (CUT, LOG), (SYNC, LOG), (UNLOCK, LOG)
    )
    calls.in_order((SYNC, "s"), (CUT, LOG))


@pytest.mark.parametrize("fsync", ["always", "everysec", "no"])
def test_a_line_is_overwritten_when_all_that_is_behind_it_is_durable(root: Path, fsync: Fsync) -> None:
    with EventLog(FilesBackend(root, fsync=fsync)) as log:
        log.append("s", [SessionCreated()], expected_version=0)
        log.append("s", [message("a secret")])
        with recorded(root) as calls:
            log.redact("s", [2], "a reason")
    calls.in_order((WRITE, LOG), (SYNC, LOG), (WRITE, LOG), (SYNC, LOG))
    record = calls.first(WRITE, LOG)
    tombstone = calls.first(WRITE, LOG, record)
    calls.first(SYNC, LOG, tombstone)
    assert OsCall(SYNC, LOG) in calls.made[record:tombstone]


def test_a_record_that_could_not_be_stored_leaves_the_text(root: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def fail(descriptor: int) -> None:
        raise OSError(errno.EIO, os.strerror(errno.EIO))

    with closing(FilesBackend(root, fsync="no")) as backend:
        first = created(backend)
        added(backend, first, "a")
        before = (root / LOG).read_bytes()
        line = text_of(backend, after=1).replace(b'"a"', b'"b"')
        monkeypatch.setattr(os, "fdatasync", fail)
        with pytest.raises(NotStored):
            backend.overwrite("s", 2, first.offset, line)
        assert (root / LOG).read_bytes() == before
        monkeypatch.undo()


# --- names


def test_a_move_is_durable_with_all_that_was_appended(root: Path) -> None:
    with closing(FilesBackend(root, fsync="everysec")) as backend:
        created(backend)
        with recorded(root) as calls:
            backend.move("s", "_trash/s", expect=None)
    calls.in_order((LOCK, LOG), (SYNC, LOG), (RENAME, "_trash/s"), (UNLOCK, "_trash/s/events.jsonl"))
    moved = calls.first(RENAME, "_trash/s")
    assert {".", "_trash"} <= {one.path for one in calls.made[moved:] if one.name == SYNC}
    calls.in_order((SYNC, "."), (RENAME, "_trash/s"))  # the trash itself was made


def test_an_ingested_log_is_durable_before_it_is_seen(backend: FilesBackend, root: Path) -> None:
    data, tip = sealed(Tip(first_hash("s")), SessionCreated(), said("a"))
    with recorded(root) as calls:
        backend.write_whole("s", filled(data, tip), [("quarantine/a.bin", [b"x"])], expect=None)
    seen = calls.first(RENAME, "s")
    before = {one.path for one in calls.made[:seen] if one.name == SYNC}
    made = "_adopt/made"
    assert {f"{made}/events.jsonl", f"{made}/quarantine/a.bin", f"{made}/quarantine", made} <= before
    assert {".", "_adopt"} <= {one.path for one in calls.made[seen:] if one.name == SYNC}


def test_a_deletion_is_durable_and_seen_by_earlier_releases(backend: FilesBackend, root: Path) -> None:
    created(backend)
    with (root / LOG).open("rb") as held, recorded(root) as calls:
        assert backend.delete("s", expect=None)
        assert held.read().endswith(b"\n\0")
    gone = next(place for place, one in enumerate(calls.made) if one.name == RENAME)
    assert OsCall(SYNC, ".") in calls.made[gone:]
    calls.in_order((LOCK, LOG), calls.made[gone])


def test_a_log_that_was_replaced_under_its_writer_is_not_written_to(backend: FilesBackend, root: Path) -> None:
    tip = created(backend)
    whole = (root / LOG).read_bytes()
    (root / LOG).rename(root / "aside")
    (root / LOG).write_bytes(whole)
    added(backend, Tip(tip.digest, tip.offset, tip.seq, tip.at), "a")
    assert (root / "aside").read_bytes() == whole
    assert (root / LOG).stat().st_size > len(whole)
