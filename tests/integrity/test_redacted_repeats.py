"""What redactions append again is redacted with the event that it repeats, in every log; what only looks like it is not."""

import pytest

from eventstore import SessionManager
from eventstore.events import RecordPut, RecordRemoved
from eventstore.integrity import verify_session

TOKEN = "ghp_" + "a1B2" * 9
CLEAN = "x [redacted:github-token]"


def texts(manager: SessionManager, session_id: str) -> list[str]:
    return [one.content for one in manager.conversation(session_id)]


def say_and_clean(manager: SessionManager, *more: str) -> None:
    """Record messages, fork the session as `f`, and redact inside the first one: the others are appended again."""
    manager.create_session("s")
    for text in (f"x {TOKEN}", *more):
        manager.add_conversation_message("s", "user", text)
    manager.fork_session("s", new_id="f")
    manager.redactions.carry_out(manager.redactions.plan(), "a secret", inside=True)


def test_of_two_messages_with_the_same_text_only_the_named_one_is_redacted(manager: SessionManager) -> None:
    say_and_clean(manager, "yes", "yes")
    manager.redactions.redact("s", 3, "asked to")
    assert texts(manager, "s") == [CLEAN, "yes"]


@pytest.mark.parametrize("asked", ["s", "f"])
def test_a_message_that_was_appended_again_is_redacted_from_the_fork_and_from_its_parent(
    manager: SessionManager, asked: str
) -> None:
    say_and_clean(manager, "private words", "stays")
    manager.redactions.redact(asked, 3, "asked to")
    assert texts(manager, "s") == [CLEAN, "stays"]
    assert texts(manager, "f") == ["stays"]
    for session_id in "sf":
        assert not any(b"private words" in line for line in manager.storage.log.lines(session_id))
        assert verify_session(manager.storage, session_id).is_whole


def test_of_two_equal_values_only_the_named_one_is_redacted(manager: SessionManager) -> None:
    manager.create_session("s")
    manager.append("s", [RecordPut(stream="q", value=value) for value in "xxy"])
    manager.append("s", [RecordRemoved(stream="q", last=True)])
    manager.redactions.redact("s", 4, "puts the second value again")
    manager.redactions.redact("s", 2, "asked to")
    assert [(one.value, one.first) for one in manager.records.list("s", "q")] == [("x", 3)]


def test_a_value_keeps_its_place_in_a_fork_when_the_removal_before_it_is_redacted_as_well(
    manager: SessionManager,
) -> None:
    """The fork inherits a removal that a redaction appended. It is not needed any more once the removed value is redacted."""
    manager.create_session("s")
    manager.append("s", [RecordPut(stream="q", key="k", value="old")])
    manager.append("s", [RecordRemoved(prefix="q")])
    manager.redactions.redact("s", 3, "asked to")
    manager.fork_session("s", new_id="f")
    manager.append("f", [RecordPut(stream="q", key=key, value="new") for key in ("l", "k")])
    before = manager.records.list("f", "q")
    manager.redactions.redact("s", 2, "asked to")
    assert manager.records.list("f", "q") == before


def test_what_is_left_of_a_value_inside_is_redacted_from_the_fork_too_that_had_it_once_more(
    manager: SessionManager,
) -> None:
    """Both logs have their own copy of the value, and of each copy the rest: the ids of redacted events lead to the same one."""
    manager.create_session("s")
    manager.append("s", [RecordPut(stream="q", key="k", value=value) for value in ("first", f"x {TOKEN}")])
    manager.fork_session("s", new_id="f")
    manager.redactions.redact("s", 2, "moves the value")
    manager.redactions.carry_out(manager.redactions.plan(), "a secret", inside=True)
    ((number, value),) = [(one.seq, one.value) for one in manager.records.list("s", "q")]
    assert [one.value for one in manager.records.list("f", "q")] == [value] == [CLEAN]
    manager.redactions.redact("s", number, "asked to")
    assert manager.records.list("s", "q") == manager.records.list("f", "q") == []
