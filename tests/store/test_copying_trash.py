"""Copies of the trash, and of what is stored with logs: large values and notes."""

import pytest
from log.faulty import CountingBackend
from store.copies import ANA, STEPS, called, content, filled, in_memory, problems, trash_of

from eventstore import Patterns, SessionManager, SessionStorage
from eventstore.backends.memory import MemoryBackend
from eventstore.integrity import verify_all
from eventstore.log.contract.sample import said
from eventstore.store import EngineSessionStorage, copy_sessions
from projections.calls import large_values

# --- large values and other attachments


@pytest.mark.parametrize("ids", [None, ["f"], ["late"]])
@pytest.mark.parametrize("step", ["trash", "trash and restore", "delete"])
def test_a_fork_that_became_independent_keeps_its_own_copy_of_large_values(step: str, ids: list[str] | None) -> None:
    first, second = in_memory(), in_memory()
    manager = SessionManager(first)
    manager.create_session("s")
    called(first, "s", "y")
    manager.fork_session("s", new_id="f")
    manager.fork_session("s", new_id="late")
    manager.templates.save("t", "s")
    copy_sessions(first, second)
    STEPS[step](first)
    for source, target in ((second, first), (first, second)):
        assert not copy_sessions(source, target, ids).refused
        assert problems(target) == {}


def test_a_value_that_the_source_has_lost_stays_in_the_copy() -> None:
    source, target = in_memory(), in_memory()
    filled(source)
    copy_sessions(source, target)
    (digest,) = source.log.values("t")
    source.log.remove_value("t", digest)
    copy_sessions(source, target)
    assert target.log.values("t") == [digest]


def test_the_values_of_a_redacted_event_are_removed_from_the_copy() -> None:
    source, target = in_memory(), in_memory()
    SessionManager(source).create_session("s")
    called(source, "s", "y")
    copy_sessions(source, target)
    (seq,) = (event.seq for event in source.log.read("s") if large_values(event))
    SessionManager(source).redactions.redact("s", [seq], "asked for")
    copy_sessions(source, target)
    assert source.log.values("s") == target.log.values("s") == []


# --- the trash


def trashed_store() -> SessionStorage:
    """A store in which one id was trashed twice and is used again, and a fork and a checkpoint are in the trash."""
    source = in_memory()
    filled(source)
    manager = SessionManager(source)
    for turn in ("first", "second"):
        manager.create_session("again", turn)
        manager.trash.put("again")
    manager.create_session("again", "third")
    manager.trash.put("t")
    manager.trash.put("f")
    return source


def test_the_trash_is_copied_and_once() -> None:
    source, target = trashed_store(), in_memory()
    done = copy_sessions(source, target)
    assert not done.refused
    assert trash_of(target) == trash_of(source)
    assert len(trash_of(target)) == 4
    assert content(target) == content(source)
    again = copy_sessions(source, target)
    assert (again.new, again.continued, again.refused) == ([], [], {})
    assert {one.outcome for one in verify_all(target, [ANA.verifier_key])} <= {"whole", "incomplete", "unproven"}
    for one in (source, target):
        one.restore_session("t")
    assert target.metadata("t") == source.metadata("t")


def test_the_trash_of_the_target_is_listed_once_where_nothing_is_new() -> None:
    source, backend = in_memory(), CountingBackend(MemoryBackend())
    target = EngineSessionStorage(backend)
    manager = SessionManager(source)
    for number in range(12):
        manager.create_session(f"s{number}")
        manager.trash.put(f"s{number}")
    copy_sessions(source, target)
    target.registry.settle_all()
    backend.calls.clear()
    assert copy_sessions(source, target).unchanged == 12
    assert backend.calls["trashed"] == 1


def test_what_went_to_the_trash_since_a_copy_goes_there_too_with_what_came() -> None:
    source, target = in_memory(), in_memory()
    filled(source)
    copy_sessions(source, target)
    source.append("s", [said("last words")])
    source.trash_session("s")
    done = copy_sessions(source, target)
    assert (done.continued, done.refused) == (["s"], {})
    assert trash_of(target) == trash_of(source)
    assert "s" not in target.log.ids()


def test_a_session_of_the_trash_does_not_disturb_another_one_of_its_id() -> None:
    source, target = in_memory(), in_memory()
    SessionManager(source).create_session("s", "theirs")
    source.trash_session("s")
    SessionManager(target).create_session("s", "ours")
    done = copy_sessions(source, target)
    assert list(done.refused) == ["s"]
    assert target.metadata("s").purpose == "ours"
    assert target.list_trash() == []


def test_a_redaction_in_the_trash_takes_the_text_from_the_copy_in_the_trash() -> None:
    source, target = in_memory(), in_memory()
    filled(source)
    source.trash_session("w")
    copy_sessions(source, target)
    assert b'"one"' in b"".join(target.log.trashed_lines("w"))
    manager, searched = SessionManager(source), Patterns({"text": "one"})
    manager.redactions.carry_out(manager.redactions.plan(searched, None), "asked for", searched)
    done = copy_sessions(source, target)
    assert "w" in done.continued
    assert b'"one"' not in b"".join(line for one in target.list_trash() for line in target.log.trashed_lines(one.name))
    assert trash_of(target) == trash_of(source)


# --- attachments of sessions in the trash


def test_what_a_session_got_before_it_went_to_the_trash_comes_with_its_values_and_notes() -> None:
    source, target = in_memory(), in_memory()
    SessionManager(source).create_session("s")
    copy_sessions(source, target)
    called(source, "s", "y")
    SessionManager(source).proofs.sign_checkpoint("s", ANA)
    source.trash_session("s")
    done = copy_sessions(source, target)
    assert (done.continued, done.refused) == (["s"], {})
    assert trash_of(target) == trash_of(source)
    assert len(target.log.trashed_attachments("s")) == 2
    target.restore_session("s")
    assert problems(target) == {}


def test_values_and_notes_that_an_earlier_copy_left_out_of_the_trash_are_added_but_not_those_redacted_there() -> None:
    source, target = in_memory(), in_memory()
    manager = SessionManager(source)
    for name in ("s", "t"):
        manager.create_session(name)
        called(source, name, "y")
        manager.proofs.sign_checkpoint(name, ANA)
        source.trash_session(name)
    copy_sessions(source, target)
    for name in target.log.trashed_attachments("s"):
        target.log.take_attachment("s", name, None, trashed="s")
    redactions, searched = SessionManager(target).redactions, Patterns({"text": "yyy"})
    redactions.carry_out((one for one in redactions.plan(searched, None) if one.trashed == "t"), "here only", searched)
    assert copy_sessions(source, target).unchanged == 2
    assert target.log.trashed_attachments("s") == source.log.trashed_attachments("s")
    assert target.log.values("t", trashed="t") == []


def test_a_longer_or_another_copy_in_the_trash_of_the_target_is_not_purged() -> None:
    source, target = in_memory(), in_memory()
    for name in ("long", "other"):
        SessionManager(source).create_session(name)
    copy_sessions(source, target)
    source.append("other", [said("there")])
    for storage in (target, source):
        for name in ("long", "other"):
            if storage is target:
                storage.append(name, [said("here")])
            storage.trash_session(name)
    kept = trash_of(target)
    done = copy_sessions(source, target)
    assert (done.new, done.continued, done.refused) == (["other"], [], {})
    assert [one for one in trash_of(target) if one in kept] == kept
    assert copy_sessions(source, target).unchanged == 2


def test_a_session_in_both_trashes_is_continued_there_though_its_id_is_used_again() -> None:
    source, target = trashed_store(), in_memory()
    copy_sessions(source, target)
    manager, searched = SessionManager(source), Patterns({"text": "first"})
    manager.redactions.carry_out(manager.redactions.plan(searched, None), "asked for", searched)
    done = copy_sessions(source, target)
    assert (done.new, done.refused) == ([], {})
    assert trash_of(target) == trash_of(source)
    assert content(target) == content(source)
    assert problems(target) == {}
