"""Copies of redactions: the text stays nowhere in the target, the target is honest, and the next copy continues."""

from collections.abc import Iterator
from contextlib import suppress
from pathlib import Path

import pytest
from log.faulty import Fault, FaultyBackend, Killed
from store.copies import STEPS, called, in_memory, problems, trash_of

from eventstore import FileSystemSessionStorage, Patterns, SessionManager, SessionStorage
from eventstore.backends.memory import MemoryBackend
from eventstore.log.contract.sample import said
from eventstore.store import EngineSessionStorage, copy_sessions
from projections.calls import large_values

SECRET = "hunter2secretword"
Stores = tuple[FileSystemSessionStorage, FileSystemSessionStorage]


@pytest.fixture
def stores(tmp_path: Path) -> Iterator[Stores]:
    """Two empty stores in files."""
    with (
        FileSystemSessionStorage(tmp_path / "a/.sessions", tmp_path / "a/.history", fsync="no") as source,
        FileSystemSessionStorage(tmp_path / "b/.sessions", tmp_path / "b/.history", fsync="no") as target,
    ):
        yield source, target


def begin(source: SessionStorage) -> None:
    """Make a session with the secret, between two that share events with it: p <- s <- f <- g, and a template of s."""
    manager = SessionManager(source)
    manager.create_session("p", "find out")
    manager.fork_session("p", new_id="s")
    source.append("s", [said(f"my password={SECRET} ok"), said("two")])
    manager.fork_session("s", new_id="f")
    source.append("f", [said("own")])
    manager.fork_session("f", new_id="g")
    manager.templates.save("t", "s")


def copied(stores: Stores) -> Stores:
    """Return the stores with a copy of what `begin` makes."""
    begin(stores[0])
    copy_sessions(*stores)
    return stores


def redact(source: SessionStorage) -> None:
    """Redact the secret wherever the store has it."""
    manager, searched = SessionManager(source).redactions, Patterns({"text": SECRET})
    assert [one for one in manager.carry_out(manager.plan(searched, None), "asked for", searched) if one.seqs]


def left_in(target: FileSystemSessionStorage) -> list[str]:
    """Name the files that contain the secret."""
    target.flush_views()
    root = target.sessions_dir.parent
    files = sorted(path for path in root.rglob("*") if path.is_file())
    return [str(path.relative_to(root)) for path in files if SECRET.encode() in path.read_bytes()]


def use(target: SessionStorage) -> None:
    """Make what is derived: lists and the search."""
    target.list_metadata(limit=None)
    assert list(SessionManager(target).search(SECRET))


@pytest.mark.parametrize("here", STEPS)
@pytest.mark.parametrize("there", ["nothing", "trash and restore", "delete parent"])
def test_a_redaction_takes_the_text_from_all_of_the_copy_and_the_copy_goes_on(
    here: str, there: str, stores: Stores
) -> None:
    source, target = copied(stores)
    use(target)
    STEPS[here](source)
    STEPS[there](target)
    redact(source)
    assert copy_sessions(source, target).refused == {}
    assert left_in(target) == []
    assert problems(target) == {}
    assert trash_of(target) == trash_of(source)
    for name in source.log.ids():
        source.append(name, [said("more")])
    again = copy_sessions(source, target)
    assert (again.refused, sorted(again.continued)) == ({}, sorted(source.log.ids()))
    assert problems(target) == {}
    assert copy_sessions(source, target).events == 0


@pytest.mark.parametrize("asked", ["p", "s", "f", "g"])
@pytest.mark.parametrize("here", STEPS)
def test_a_copy_of_one_session_brings_its_redactions_to_all_that_share_its_events(
    here: str, asked: str, stores: Stores
) -> None:
    source, target = copied(stores)
    use(target)
    STEPS[here](source)
    redact(source)
    if asked in source.log.ids():
        assert copy_sessions(source, target, [asked]).refused == {}
        assert problems(target) == {}
        if asked != "p":
            assert left_in(target) == []
    assert copy_sessions(source, target).refused == {}
    assert left_in(target) == []
    assert problems(target) == {}


def test_forks_and_copies_that_only_the_target_has_record_the_redaction_themselves(stores: Stores) -> None:
    source, target = copied(stores)
    manager = SessionManager(target)
    manager.fork_session("f", new_id="mine")
    manager.fork_session("mine", new_id="nested")
    manager.templates.save("own", "s")
    target.append("g", [said("another way")])
    manager.fork_session("s", new_id="gone")
    target.trash_session("gone")
    use(target)
    redact(source)
    done = copy_sessions(source, target)
    assert list(done.refused) == ["g"]
    assert left_in(target) == []
    assert problems(target) == {}
    assert list(copy_sessions(source, target).refused) == ["g"]
    target.restore_session("gone")
    assert problems(target) == {}


def test_what_the_target_has_trashed_loses_the_text_too(stores: Stores) -> None:
    source, target = copied(stores)
    target.trash_session("s")
    redact(source)
    assert copy_sessions(source, target).refused == {}
    assert left_in(target) == []
    assert problems(target) == {}


def test_the_record_and_the_value_of_a_redacted_call_go_and_the_folders_of_other_calls_stay(stores: Stores) -> None:
    source, target = stores
    SessionManager(source).create_session("s")
    called(source, "s", "y")
    with SessionManager(source).invocation("s", "read", {}) as call:
        call.result = SECRET
    copy_sessions(source, target)
    assert left_in(target)
    assert source.history is not None
    for folder, _ in list(source.history.records()):
        source.history.remove(folder)
    redact(source)
    (seq,) = (event.seq for event in source.log.read("s") if large_values(event))
    SessionManager(source).redactions.redact("s", [seq], "asked for")
    copy_sessions(source, target)
    assert left_in(target) == []
    assert target.log.values("s") == []
    assert target.history is not None
    assert len(list(target.history.records())) == 2
    assert problems(target) == {}


@pytest.mark.parametrize("here", ["nothing", "delete parent", "trash", "trash both", "delete"])
def test_a_copy_of_a_redaction_that_is_killed_anywhere_is_finished_by_the_next(
    here: str,
) -> None:
    source, before = in_memory(), MemoryBackend()
    begin(source)
    called(source, "s", SECRET)
    copy_sessions(source, in_memory(before))
    STEPS[here](source)
    redact(source)
    number = 0
    while True:
        number += 11  # both kinds of kills, at each eleventh call of the port
        inner = MemoryBackend()
        copy_sessions(in_memory(before), in_memory(inner))
        faulty = FaultyBackend(inner)
        faulty.arm(number, Fault.KILLED_AFTER if number % 2 else Fault.KILLED_BEFORE)
        with suppress(Killed):
            copy_sessions(source, EngineSessionStorage(faulty))
        if not faulty.fired:
            break
        target = in_memory(inner)
        assert copy_sessions(source, target).refused == {}
        assert problems(target) == {}
        assert not [one for one in named(target) if SECRET.encode() in b"".join(target.log.lines(one))]
        assert all(list(target.log.lines(one)) == list(source.log.lines(one)) for one in named(source))
        assert trash_of(target) == trash_of(source)
    assert number > 100


def named(storage: SessionStorage) -> list[str]:
    """List sessions and templates."""
    return [*storage.log.ids(), *(f"_template.{one}" for one in storage.templates())]


def test_a_fork_that_becomes_independent_carries_out_a_redaction_that_was_not_finished_in_its_parent() -> None:
    source = in_memory()
    begin(source)
    source.log.redact("f", [3], "asked for")
    source.log.make_whole("f")
    assert SECRET.encode() not in b"".join(source.log.lines("f"))
    assert SECRET.encode() in b"".join(source.log.lines("s"))
