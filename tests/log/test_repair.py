"""Verify, salvage, repair, recover: what is known of damage, and how a log is set right without losing a byte."""

import os
import subprocess
import sys
from collections.abc import Callable
from datetime import timedelta
from pathlib import Path

import pytest

from eventstore import FileSystemSessionStorage, LogDamaged, SessionManager, SessionStatus, SessionStorage
from eventstore import events as e
from eventstore.integrity import verify_session, verify_store
from eventstore.log.contract import said
from eventstore.record import hash_chain
from eventstore.record.salvage import salvage

COUNT = 12


@pytest.fixture
def path(files: FileSystemSessionStorage, tmp_path: Path) -> Path:
    """A log of twelve events, a batch of three among them, with its views."""
    manager = SessionManager(files)
    manager.create_session("s", "p")
    for n in range(4):
        manager.add_conversation_message("s", "user", f"message {n}")
    files.append("s", [said("batch 0"), said("batch 1"), said("batch 2")])
    manager.link_invocation("s", "i", "grep", tmp_path / ".history" / "x", 1)
    manager.set_data("s", "k", 1)
    manager.record_usage("s", {"input": 3}, key="u")
    manager.complete_session("s")
    files.flush()
    return tmp_path / ".sessions" / "s" / "events.jsonl"


def anew(path: Path) -> FileSystemSessionStorage:
    return FileSystemSessionStorage(path.parents[1], path.parents[2] / ".history", fsync="no")


def lines_of(path: Path) -> list[bytes]:
    return path.read_bytes().split(b"\n")[:-1]


def texts(storage: SessionStorage) -> list[str]:
    return [event.content for event in storage.log.read("s") if isinstance(event, e.MessageAdded)]


def test_a_whole_session_is_whole(files: FileSystemSessionStorage, path: Path) -> None:
    verdict = verify_session(files, "s")
    assert (verdict.events, verdict.is_whole, verdict.hash) == (COUNT, True, files.log.head("s").hash)
    assert verify_store(files).is_whole


def test_a_session_that_is_not_there_is_never_whole(storage: SessionStorage) -> None:
    verdict = verify_session(storage, "nope")
    assert not verdict.is_whole
    assert verdict.findings[0].text == "has no event"
    assert not verify_store(storage).is_whole


def test_verify_names_damage_by_line_and_byte(path: Path) -> None:
    lines = lines_of(path)
    offset = sum(len(line) + 1 for line in lines[:4])
    path.write_bytes(path.read_bytes().replace(b"message 3", b"message 9"))
    (finding,) = verify_session(anew(path), "s").findings
    assert finding.part == "log"
    assert f"line 5, byte {offset}" in finding.text


@pytest.mark.parametrize("name", ["metadata.json", "conversation.jsonl", "invocations.json", "data.json"])
def test_verify_finds_a_view_that_is_not_what_the_log_gives(path: Path, name: str) -> None:
    view = path.with_name(name)
    view.write_bytes(view.read_bytes().replace(b"e", b"E", 1) + b" ")
    (finding,) = verify_session(anew(path), "s").findings
    assert (finding.part, finding.text) == ("views", f"{name} is not what the log gives")


def test_verify_finds_a_link_that_leads_elsewhere_and_a_log_put_back(path: Path) -> None:
    link = path.parent / "invocations" / "i"
    link.unlink()
    link.symlink_to("/tmp")  # noqa: S108 - only named
    assert "does not lead" in verify_session(anew(path), "s").findings[0].text
    path.write_bytes(b"\n".join(lines_of(path)[:5]) + b"\n")
    assert "an older log was restored" in verify_session(anew(path), "s").findings[0].text


def test_verify_finds_a_torn_tail_and_a_repair_cut_short(path: Path) -> None:
    with path.open("ab") as stream:
        stream.write(b'{"type":"mess')
    (tail,) = verify_session(anew(path), "s").findings
    assert tail.part == "tail"
    assert "13 bytes" in tail.text
    (path.parent / "quarantine").mkdir()
    (path.parent / "quarantine" / "x.bin").write_bytes(b"x")
    assert [finding.part for finding in verify_session(anew(path), "s").findings] == ["tail", "quarantine"]


def test_verify_asks_the_store_s_own_log(files: FileSystemSessionStorage, path: Path) -> None:
    SessionManager(files).create_session("t")
    files.log.append("u", [e.SessionCreated()], expected_version=0)
    lines = lines_of(path)
    path.parent.rename(path.parents[1] / "gone")
    found = {(one.session_id, one.text.split(" ")[1]) for one in verify_store(anew(path)).findings}
    assert found == {("s", "missing,")}, "a session that the registry does not know yet is one that a crash explains"
    (path.parents[1] / "gone").rename(path.parent)
    with anew(path) as storage:
        storage.log.remove("t")
        storage.log.append("t", [e.SessionCreated()], expected_version=0)
        told = {one.session_id: one.text for one in verify_store(storage).findings}
    assert "another" in told["t"]
    assert lines_of(path) == lines


# --- salvage


def drop(lines: list[bytes]) -> list[bytes]:
    return lines[:4] + lines[5:]


def flip(lines: list[bytes]) -> list[bytes]:
    return [*lines[:4], lines[4].replace(b"message 3", b"message X"), *lines[5:]]


def cut(lines: list[bytes]) -> list[bytes]:
    return [*lines[:4], lines[4][:40], *lines[5:]]


def glue_stub(lines: list[bytes]) -> list[bytes]:
    return [*lines[:4], lines[4][:40] + lines[5], *lines[6:]]


def glue(lines: list[bytes]) -> list[bytes]:
    return [*lines[:4], lines[4] + lines[5], *lines[6:]]


def nul(lines: list[bytes]) -> list[bytes]:
    return [*lines[:4], b"\0" * 512 + lines[4], *lines[5:]]


def junk(lines: list[bytes]) -> list[bytes]:
    return [*lines[:4], b"junk", b"", *lines[4:]]


def hashless(lines: list[bytes]) -> list[bytes]:
    return [*lines[:4], lines[4][:-20] + b"zz" + lines[4][-18:], *lines[5:]]


DAMAGES = [drop, flip, cut, glue_stub, glue, nul, junk, hashless]


@pytest.mark.parametrize("damage", DAMAGES)
def test_salvage_gives_every_record_that_is_whole_and_invents_none(
    path: Path, damage: Callable[[list[bytes]], list[bytes]]
) -> None:
    whole = lines_of(path)
    path.write_bytes(b"\n".join(damage(whole)) + b"\n")
    with anew(path) as storage:
        found = list(storage.log.salvage("s"))
    whole_ones = [remnant.raw for remnant in found if remnant.standing in ("proven", "linked")]
    kept = [remnant.raw for remnant in found]
    assert [raw for raw in whole_ones if raw not in whole] == []
    untouched = [line for line in whole if line in b"\n".join(damage(whole))]
    assert [line for line in untouched if line not in kept] == []
    assert [remnant.standing for remnant in found[:4]] == ["proven"] * 4
    assert found[-1].standing == ("proven" if damage is glue else "linked")
    assert found[-1].event() is not None
    data = path.read_bytes()
    assert all(data[one.offset_bytes : one.offset_bytes + len(one.raw)] == one.raw for one in found)


def test_salvage_of_a_whole_log_is_the_log(path: Path) -> None:
    with anew(path) as storage:
        found = list(SessionManager(storage).salvage("s"))
    assert [(one.standing, one.raw) for one in found] == [("proven", line) for line in lines_of(path)]
    memory = list(salvage(hash_chain.first_hash("s"), enumerate(lines_of(path))))
    assert [one.raw for one in memory] == lines_of(path)


# --- repair


@pytest.mark.parametrize("damage", DAMAGES)
def test_repair_shows_its_plan_keeps_every_byte_and_sets_the_log_right(
    path: Path, damage: Callable[[list[bytes]], list[bytes]]
) -> None:
    whole = lines_of(path)
    damaged = b"\n".join(damage(whole)) + b"\n"
    path.write_bytes(damaged)
    with anew(path) as storage:
        plan = storage.repair_session("s")
        assert plan is not None
        assert path.read_bytes() == damaged
        assert not (path.parent / "quarantine").exists()
        assert storage.repair_session("s", dry_run=False) == plan
        assert storage.repair_session("s") is None
        assert verify_session(storage, "s").is_whole
        (kept,) = (path.parent / "quarantine").iterdir()
        assert path.read_bytes()[: plan.offset_bytes] + kept.read_bytes() == damaged
        events = list(storage.log.read("s"))
        assert isinstance(events[4], e.LogRepaired)
        assert events[4].removed_bytes == plan.removed_bytes == len(kept.read_bytes())
        assert len(events) == 5 + plan.restored
        behind_a_gap = damage in (drop, cut, glue_stub)  # the first record behind a lost one proves nothing
        assert texts(storage)[-3:] == [texts(storage)[-3] if behind_a_gap else "batch 0", "batch 1", "batch 2"]
        assert "batch 0" not in texts(storage) or not behind_a_gap
        assert storage.metadata("s").status is SessionStatus.COMPLETED
        times = [event.time for event in events[5:]]
        assert times == sorted(times)
        assert events[-1].occurred_at is not None


def test_a_batch_that_lost_a_part_keeps_the_others(path: Path) -> None:
    whole = lines_of(path)
    path.write_bytes(b"\n".join([*whole[:6], whole[6].replace(b"batch 1", b"batch X"), *whole[7:]]) + b"\n")
    with anew(path) as storage:
        storage.repair_session("s", dry_run=False)
        assert texts(storage) == [*(f"message {n}" for n in range(4)), "batch 0", "batch 2"]
        assert verify_session(storage, "s").is_whole


def test_a_log_changed_in_place_is_seen_by_a_program_that_has_it_open(
    files: FileSystemSessionStorage, path: Path
) -> None:
    assert files.fold("s").version == COUNT
    stat = path.stat()
    path.write_bytes(path.read_bytes().replace(b"message 3", b"message 9"))
    os.utime(path, ns=(stat.st_atime_ns, stat.st_mtime_ns + 1))
    with pytest.raises(LogDamaged):
        files.fold("s")


def test_repair_of_a_torn_tail_is_what_the_next_writer_does(path: Path) -> None:
    with path.open("ab") as stream:
        stream.write(b'{"type":"mess')
    with anew(path) as storage:
        plan = storage.repair_session("s", dry_run=False)
        assert plan is not None
        assert (plan.removed_bytes, plan.restored) == (13, 0)
        assert verify_session(storage, "s").is_whole


def test_an_append_to_a_damaged_log_is_refused_until_it_is_repaired(path: Path) -> None:
    path.write_bytes(b"\n".join(flip(lines_of(path))) + b"\n")
    with anew(path) as storage:
        manager = SessionManager(storage)
        with pytest.raises(LogDamaged):
            manager.set_data("s", "k", 2)
        storage.repair_session("s", dry_run=False)
        manager.set_data("s", "k", 2)
        assert storage.fold("s").data == {"k": 2}


# --- recover

HOLDER = """
import sys
from eventstore import FileSystemSessionStorage, SessionManager
manager = SessionManager(FileSystemSessionStorage(sys.argv[1], sys.argv[2]))
manager.create_session("held")
print("open", flush=True)
sys.stdin.read()
"""


def test_only_sessions_whose_program_is_gone_are_abandoned(files: FileSystemSessionStorage, tmp_path: Path) -> None:
    manager = SessionManager(files)
    command = [sys.executable, "-c", HOLDER, str(tmp_path / ".sessions"), str(tmp_path / ".history")]
    with subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE) as holder:
        assert holder.stdout is not None
        assert holder.stdout.readline() == b"open\n"
        with anew(tmp_path / ".sessions" / "held" / "events.jsonl") as other:
            SessionManager(other).create_session("left")
            SessionManager(other).create_session("done")
            SessionManager(other).complete_session("done")
        assert manager.recover_sessions(silent_hours=1) == []
        assert manager.recover_sessions(silent_hours=0) == ["left"]
        holder.kill()
        holder.wait()
    assert files.recover(timedelta(0)) == ["held"]
    assert {one.session_id: one.status.value for one in files.list_metadata()} == {
        "held": "abandoned",
        "left": "abandoned",
        "done": "completed",
    }
    *_, last = manager.events("held")
    assert isinstance(last, e.SessionCompleted)
    assert "no program has it open" in (last.reason or "")
    with pytest.raises(ValueError, match="silent_hours"):
        manager.recover_sessions(-1)


def test_views_left_behind_by_a_crash_are_redone(path: Path) -> None:
    with anew(path) as storage:
        storage.log.append("s", [said("by a program that died")])
    with anew(path) as storage:
        assert storage.redo_views() == 1
        assert storage.redo_views() == 0
        assert b"that died" in path.with_name("conversation.jsonl").read_bytes()
        assert verify_session(storage, "s").is_whole
