"""Copies of sessions between stores: the same bytes, continued where they are, and what happens in between."""

import threading
from collections.abc import Callable
from contextlib import ExitStack
from pathlib import Path

import pytest
from log.faulty import Fault, FaultyBackend, Killed, TornMemory
from object_servers import new_memory_backend, new_seaweed_backend
from postgres import new_backend as new_postgres_backend
from store.copies import ANA, content, filled, in_memory

from eventstore import EventLog, FileSystemSessionStorage, SessionManager, SessionStorage
from eventstore.backends.memory import MemoryBackend
from eventstore.errors import LogDamaged, LogTampered, SessionNotFound, VersionConflict
from eventstore.events import MessageAdded, SessionCreated
from eventstore.integrity import verify_all, verify_session
from eventstore.integrity.redaction import redact
from eventstore.log.base import Appended
from eventstore.log.contract.sample import said
from eventstore.store import EngineSessionStorage, copy_sessions, keep_copying


def check_copy(source: SessionStorage, target: SessionStorage, notes: list[str]) -> None:
    assert content(target) == content(source)
    assert {one.outcome for one in verify_all(target, [ANA.verifier_key])} <= {"whole", "incomplete", "unproven"}
    for name, note in zip(("s", "t", "g"), notes, strict=True):
        found = verify_session(target, name, keys=[ANA.verifier_key], anchors=[note])
        assert (found.outcome, found.findings) in (("whole", ()), ("incomplete", ())), found.describe(with_keys=True)
        assert found.anchored_to
    assert target.log.append("t", [said("one", "key"), said("two")]) == Appended(2, 3, repeated=True)


def check_round(opened: ExitStack, tmp_path: Path, *between: Callable[[], SessionStorage]) -> None:
    first = opened.enter_context(
        FileSystemSessionStorage(tmp_path / "a/.sessions", tmp_path / "a/.history", fsync="no")
    )
    last = FileSystemSessionStorage(tmp_path / "b/.sessions", tmp_path / "b/.history", fsync="no")
    notes = filled(first)
    here: SessionStorage = first
    for target in [*(opened.enter_context(one()) for one in between), opened.enter_context(last)]:
        done = copy_sessions(here, target)
        assert not done.refused
        check_copy(first, target, notes)
        assert all(verify_session(target, one, keys=[ANA.verifier_key], anchors=notes).is_whole for one in "sg")
        again = copy_sessions(here, target)
        assert (again.new, again.continued, again.events, again.refused) == ([], [], 0, {})
        assert again.unchanged == len(done.new) == 7
        here = target


def test_files_objects_files_is_the_same_to_the_byte(tmp_path: Path) -> None:
    with ExitStack() as opened:
        check_round(opened, tmp_path, lambda: EngineSessionStorage(new_memory_backend()))


@pytest.mark.engines
def test_files_postgresql_seaweedfs_files_is_the_same_to_the_byte(tmp_path: Path) -> None:
    with ExitStack() as opened:
        check_round(
            opened,
            tmp_path,
            lambda: EngineSessionStorage(new_postgres_backend()),
            lambda: EngineSessionStorage(new_seaweed_backend()),
        )


Stores = tuple[SessionStorage, SessionStorage, list[str]]


@pytest.fixture
def stores() -> Stores:
    """A store that is filled, an empty one, and the checkpoints that were signed in the first."""
    source, target = in_memory(), in_memory()
    return source, target, filled(source)


def test_a_copy_goes_on_with_what_is_new_notes_forks_and_redactions_too(stores: Stores) -> None:
    source, target, notes = stores
    copy_sessions(source, target)
    source.append("s", [said("more", "k2")])
    SessionManager(source).redactions.redact("t", [4], "later")
    SessionManager(source).fork_session("s", 5, "late")
    SessionManager(source).proofs.sign_checkpoint("s", ANA)
    done = copy_sessions(source, target)
    assert (sorted(done.new), sorted(done.continued)) == (["late"], ["s", "t", "w"])
    assert b"a secret" not in b"".join(target.log.chunks("t"))
    check_copy(source, target, notes)
    assert target.log.append("s", [said("more", "k2")]).repeated


def test_a_session_brings_what_it_is_a_fork_of_and_nothing_else(stores: Stores) -> None:
    source, target, _ = stores
    assert sorted(copy_sessions(source, target, ["g"]).new) == ["f", "g", "s"]
    with pytest.raises(SessionNotFound):
        copy_sessions(source, target, ["nobody"])


def test_a_session_that_went_another_way_in_the_target_is_refused_and_the_others_are_copied(stores: Stores) -> None:
    source, target, _ = stores
    copy_sessions(source, target)
    target.append("s", [said("here")])
    target.append("t", [said("here")])
    source.append("t", [said("there")])
    source.append("u", [said("on")])
    done = copy_sessions(source, target)
    assert sorted(done.refused) == ["s", "t"]
    assert done.continued == ["u"]
    assert [event.content for event in target.log.read("s") if isinstance(event, MessageAdded)][-1] == "here"


def test_what_the_target_has_redacted_does_not_come_back(stores: Stores) -> None:
    source, target, _ = stores
    copy_sessions(source, target)
    manager = SessionManager(target)
    manager.redactions.redact("t", [4], "here only")
    manager.delete_session("t")
    copy_sessions(source, target, ["t"])
    assert b"a secret" not in b"".join(target.log.chunks("t"))


def test_a_copy_that_is_killed_anywhere_is_continued(stores: Stores) -> None:
    source, _, notes = stores
    number = 0
    while True:
        number += 5  # both kinds of kills, at each fifth call of the port
        inner = MemoryBackend()
        copy_sessions(source, in_memory(inner), ["u"])
        source.append("u", [said(f"more {number}")])
        faulty = FaultyBackend(inner)
        killed = EngineSessionStorage(faulty)
        faulty.arm(number, Fault.KILLED_AFTER if number % 2 else Fault.KILLED_BEFORE)
        try:
            copy_sessions(source, killed)
        except Killed:
            pass
        else:
            if not faulty.fired:
                break
        target = in_memory(inner)
        assert not copy_sessions(source, target).refused
        check_copy(source, target, notes)
    assert number > 30


def test_a_torn_piece_that_a_killed_copy_left_is_replaced_by_the_whole(stores: Stores) -> None:
    source, _, _ = stores
    inner = TornMemory()
    target = EngineSessionStorage(inner)
    copy_sessions(source, target)
    version = source.log.head("s").version
    source.append("s", [said("more")])
    data = b"".join(source.log.chunks("s", version))
    inner.tear("s", data[: len(data) // 2])
    assert not copy_sessions(source, target).refused
    assert content(target) == content(source)


def test_a_followed_store_is_copied_as_it_changes(stores: Stores) -> None:
    source, target, _ = stores
    stop, seen = threading.Event(), threading.Event()

    def note(session_id: str, outcome: str) -> None:
        if (session_id, outcome) == ("s", "continued"):
            seen.set()

    copied = threading.Thread(target=keep_copying, args=(source, target, stop), kwargs={"on_session": note})
    copied.start()
    while "s" not in set(target.log.ids()):
        stop.wait(0.01)
    source.append("s", [said("more")])
    assert seen.wait(60)
    stop.set()
    copied.join(60)
    assert content(target)["s"] == content(source)["s"]


def test_a_followed_redaction_in_the_trash_is_copied(stores: Stores) -> None:
    source, target, _ = stores
    SessionManager(source).create_session("gone")
    source.append("gone", [said("a secret")])
    source.trash_session("gone")
    stop, moved, seen = threading.Event(), threading.Event(), threading.Event()

    def note(session_id: str, outcome: str) -> None:
        if session_id.startswith("gone"):
            {"new": moved, "continued": seen}.get(outcome, moved).set()

    copied = threading.Thread(target=keep_copying, args=(source, target, stop), kwargs={"on_session": note})
    copied.start()
    assert moved.wait(60)
    (name,) = (one.name for one in source.list_trash() if one.session_id == "gone")
    redact(source, "gone", [2], "asked for", trashed=name)
    assert seen.wait(60)
    stop.set()
    copied.join(60)
    (name,) = (one.name for one in target.list_trash() if one.session_id == "gone")
    assert b"a secret" not in b"".join(target.log.trashed_lines(name))


# --- taking lines


@pytest.fixture
def pair(log: EventLog) -> tuple[EventLog, EventLog]:
    """A log, and another one that has its first two events."""
    source = EventLog(MemoryBackend())
    source.append("s", [SessionCreated()], expected_version=0)
    source.append("s", [said("one")])
    log.ingest("s", source.chunks("s"))
    return source, log


def test_lines_are_taken_behind_the_place_they_go_on_from_and_nowhere_else(pair: tuple[EventLog, EventLog]) -> None:
    source, log = pair
    place = log.head("s")
    source.append("s", [said("two", "k"), said("three")])
    source.append("s", [said("four")])
    data = b"".join(source.chunks("s", 2))
    assert log.take("s", place, data).version == 5
    assert list(log.lines("s")) == list(source.lines("s"))
    with pytest.raises(VersionConflict):
        log.take("s", place, data)
    with pytest.raises(SessionNotFound):
        log.take("t", place, data)
    assert log.append("s", [said("two", "k"), said("three")]).repeated


def test_lines_that_are_not_the_next_ones_are_refused_and_nothing_is_written(pair: tuple[EventLog, EventLog]) -> None:
    source, log = pair
    place = log.head("s")
    source.append("s", [said("two"), said("three")])
    source.append("s", [said("four")])
    data = b"".join(source.chunks("s", 2))
    lines = data.splitlines(keepends=True)
    for wrong in (data[:-1], lines[0], lines[2], data.replace(b"two", b"TWO"), lines[1] + lines[0], b"{}\n"):
        with pytest.raises(LogDamaged):
            log.take("s", place, wrong)
    source.redact("s", [3], "why")
    unrecorded = b"".join(source.chunks("s", 2, 5))
    with pytest.raises(LogTampered):
        log.take("s", place, unrecorded)
    assert log.head("s") == place
    assert log.take("s", place, b"".join(source.chunks("s", 2))).version == 6


def test_many_lines_are_taken_in_pieces_of_whole_batches(pair: tuple[EventLog, EventLog]) -> None:
    source, log = pair
    for _ in range(6):
        source.append("s", [said("x" * 900_000), said("y" * 900_000)])
    log.take("s", log.head("s"), b"".join(source.chunks("s", 2)))
    assert list(log.lines("s")) == list(source.lines("s"))
