"""Promises about complete logs: listing, removing, many writers at once, redaction."""

from concurrent.futures import ThreadPoolExecutor

import pytest

from eventstore.errors import (
    NotSupported,
    RedactionRefused,
    SessionNotFound,
    VersionConflict,
)
from eventstore.events import (
    DataCleared,
    EventRedacted,
    MessageAdded,
    RedactedEvent,
    SessionCreated,
    StoreSessionCreated,
)
from eventstore.ids import STORE_ID
from eventstore.log.base import Appended
from eventstore.log.contract.sample import said
from eventstore.log.engine import EventLog


class LifeContract:
    """From the first append of a log to its removal."""

    # --- sessions

    def test_sessions_are_listed_without_the_store_s_own_log(self, log: EventLog) -> None:
        """`ids` streams every session once; the store's own log can be read and is not among them."""
        for name in ("b", "a", "B"):
            log.append(name, [SessionCreated()], expected_version=0)
        log.append(STORE_ID, [StoreSessionCreated(session_id="a", first_hash="0" * 64)], expected_version=0)
        assert sorted(log.ids()) == ["B", "a", "b"]
        assert log.head(STORE_ID).version == 1

    def test_a_removed_session_is_gone(self, log: EventLog) -> None:
        """Removing returns whether there was a log; the id can be used again and begins at 1."""
        log.append("s", [SessionCreated(id="k")], expected_version=0)
        assert log.remove("s")
        assert not log.remove("s")
        assert not log.exists("s")
        assert log.append("s", [SessionCreated(id="k")], expected_version=0) == Appended(1, 1)

    def test_flush_and_close_keep_everything(self, log: EventLog) -> None:
        """Flushing and closing, also twice, loses nothing; the next append opens the log again."""
        log.append("s", [SessionCreated()], expected_version=0)
        log.flush()
        log.close()
        log.close()
        assert log.append("s", [said("a")]) == Appended(2, 2)

    # --- many at once

    def test_threads_neither_lose_nor_interleave(self, log: EventLog) -> None:
        """The events of each batch stay together, also with many threads."""
        log.append("s", [SessionCreated()], expected_version=0)
        with ThreadPoolExecutor(8) as pool:
            list(pool.map(lambda n: log.append("s", [said(f"{n}"), said(f"{n}")]), range(100)))
        texts = [event.content for event in log.read("s") if isinstance(event, MessageAdded)]
        assert texts[::2] == texts[1::2]
        assert sorted(map(int, texts[::2])) == list(range(100))

    def test_one_of_many_that_expect_the_same_version_wins(self, log: EventLog) -> None:
        """`expected_version` is compare and swap."""
        log.append("s", [SessionCreated()], expected_version=0)

        def append(n: int) -> bool:
            try:
                log.append("s", [said(str(n))], expected_version=1)
            except VersionConflict:
                return False
            return True

        with ThreadPoolExecutor(8) as pool:
            assert sum(pool.map(append, range(16))) == 1
        assert log.head("s").version == 2

    # --- going

    def test_what_goes_is_what_was_expected_to_go(self, log: EventLog) -> None:
        """A session that grew since it was read is neither removed nor moved to the trash."""
        log.append("s", [SessionCreated()], expected_version=0)
        log.append("s", [said("on")])
        for go in (log.remove, log.trash):
            with pytest.raises(VersionConflict):
                go("s", expected_version=1)
        assert log.head("s").version == 2
        log.restore(log.trash("s", expected_version=2))
        assert log.remove("s", expected_version=2)
        assert not log.remove("s", expected_version=2)

    # --- redaction

    def test_what_is_redacted_is_gone_and_the_chain_stays(self, log: EventLog) -> None:
        """The content of an event is removed; numbers, hashes, times and everything else stay, and an event records it."""
        log.append("s", [SessionCreated()], expected_version=0)
        log.append("s", [said("one"), said("two"), said("three")])
        before = list(log.read("s"))
        assert log.redact("s", [3], "a secret", {"actor": "ana"}) == Appended(5, 5)
        *found, told = log.read("s")
        assert b"two" not in b"".join(log.chunks("s"))
        assert [(event.seq, event.at, event.hash) for event in found] == [(one.seq, one.at, one.hash) for one in before]
        assert [event for event in found if event.seq != 3] == [event for event in before if event.seq != 3]
        stub = found[2]
        assert isinstance(stub, RedactedEvent)
        assert isinstance(told, EventRedacted)
        assert (stub.type, stub.leaf) == ("message.added", told.leaf)
        assert (told.target, told.reason, told.by) == (3, "a secret", {"actor": "ana"})

    def test_several_events_are_redacted_at_once(self, log: EventLog) -> None:
        """One append records all of them."""
        log.append("s", [SessionCreated(purpose="p")], expected_version=0)
        log.append("s", [said("one"), said("two")])
        assert log.redact("s", [3, 1, 2, 3], "all") == Appended(4, 6)
        assert [type(event) for event in log.read("s")] == [RedactedEvent] * 3 + [EventRedacted] * 3
        log.append("s", [said("on")])
        assert log.head("s").version == 7

    def test_a_key_outlives_the_content_it_came_with(self, log: EventLog) -> None:
        """An append with the key of a redacted one gets the first result, as before."""
        log.append("s", [SessionCreated()], expected_version=0)
        log.append("s", [said("a", "1"), said("b", "2")])
        log.redact("s", [2], "a secret")
        assert log.append("s", [said("a", "1"), said("b", "2")]) == Appended(2, 3, repeated=True)
        log.redact("s", [3], "a secret")
        assert log.append("s", [said("a", "1"), said("b", "2")]) == Appended(2, 3, repeated=True)

    def test_what_cannot_be_redacted_is_refused_and_nothing_changes(self, log: EventLog) -> None:
        """Refused are numbers that are not there, events without text, those of the log itself, and what was redacted before."""
        log.append("s", [SessionCreated()], expected_version=0)
        log.append("s", [said("one")])
        log.append("s", [DataCleared()])
        log.redact("s", [2], "a secret")
        log.fork("f", "s", 4, SessionCreated())
        lines = list(log.lines("s"))
        for seq in (0, 2, 3, 4, 5):
            with pytest.raises(RedactionRefused):
                log.redact("s", [1, seq], "a secret")
        with pytest.raises(RedactionRefused):
            log.redact("f", [5], "a secret")
        with pytest.raises(SessionNotFound):
            log.redact("t", [1], "a secret")
        assert list(log.lines("s")) == lines

    def test_a_fork_tells_of_what_is_redacted_in_its_past(self, log: EventLog) -> None:
        """An independent copy of a fork has no line with redacted content, and an event for each."""
        log.append("p", [SessionCreated()], expected_version=0)
        log.append("p", [said("one")])
        log.append("p", [said("two")])
        log.fork("f", "p", 3, SessionCreated())
        log.redact("p", [2, 3], "a secret")
        log.redact("f", [2], "a secret")
        log.make_whole("f")
        log.remove("p")
        found = list(log.read("f"))
        assert [event.seq for event in found if isinstance(event, RedactedEvent)] == [2, 3]
        assert [event.target for event in found if isinstance(event, EventRedacted)] == [2, 3]
        log.append("f", [said("on")])
        assert log.head("f").version == 7

    def test_a_fork_from_before_a_redaction_was_told_of_tells_of_it(self, log: EventLog) -> None:
        """A fork at a version that has a redacted line, but not the event that records it, begins with such a record."""
        log.append("p", [SessionCreated()], expected_version=0)
        log.append("p", [said("one")])
        log.append("p", [said("two")])
        log.redact("p", [2], "a secret")
        assert log.fork("f", "p", 3, SessionCreated()) == Appended(4, 5)
        assert log.fork("g", "f", 5, SessionCreated()) == Appended(6, 6)
        assert log.fork("h", "p", 4, SessionCreated()) == Appended(5, 5)
        assert [type(event) for event in log.read("f", 3)] == [SessionCreated, EventRedacted]
        for one in ("f", "g", "h"):
            log.make_whole(one)
        assert log.remove("p")
        for one in ("f", "g", "h"):
            assert [event.target for event in log.read(one) if isinstance(event, EventRedacted)] == [2]

    def test_whether_a_session_is_being_written_is_answered_or_refused(self, log: EventLog) -> None:
        """A backend that cannot show its writers never answers that there are none."""
        log.append("s", [SessionCreated()], expected_version=0)
        if log.capabilities.shows_writers:
            assert log.is_being_written("s")
        else:
            with pytest.raises(NotSupported, match="nothing was done"):
                log.is_being_written("s")

    def test_what_is_in_the_trash_is_redacted_there(self, log: EventLog) -> None:
        """A session in the trash is read and redacted by its name there, and is intact after it is restored."""
        log.append("s", [SessionCreated()], expected_version=0)
        log.append("s", [said("the secret text")])
        name = log.trash("s")
        assert b"the secret text" in b"".join(log.trashed_lines(name))
        assert log.redact("s", [2], "a secret", trashed=name) == Appended(3, 3)
        assert b"the secret text" not in b"".join(log.trashed_lines(name))
        log.restore(name)
