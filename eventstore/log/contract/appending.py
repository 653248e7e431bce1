"""What appends promise: batches, expected versions, idempotency keys, and logs that come from elsewhere."""

import pytest

from eventstore.errors import (
    EventNotEncodable,
    EventTooLarge,
    IdReused,
    InvalidSessionId,
    LogDamaged,
    SessionExists,
    SessionNotFound,
    VersionConflict,
)
from eventstore.events import (
    DataSet,
    Event,
    EventRedacted,
    MessageAdded,
    SessionCreated,
)
from eventstore.ids import STORE_ID
from eventstore.log.base import Append, Appended
from eventstore.log.contract.sample import said
from eventstore.log.engine import EventLog
from eventstore.record import codec


class AppendingContract:
    """Appending to logs."""

    # --- appending

    def test_a_session_begins_at_one(self, log: EventLog) -> None:
        """The first append of a session, at version 0, is given the number 1."""
        assert log.append("s", [SessionCreated()], expected_version=0) == Appended(1, 1)

    def test_numbers_are_dense(self, log: EventLog) -> None:
        """Each event's number is one more than that of the event before it."""
        log.append("s", [SessionCreated()], expected_version=0)
        assert log.append("s", [said("a"), said("b")]) == Appended(2, 3)
        assert log.append("s", [said("c")], expected_version=3) == Appended(4, 4)
        assert [event.seq for event in log.read("s")] == [1, 2, 3, 4]

    def test_what_was_appended_is_read(self, log: EventLog) -> None:
        """Fields, keys, actors and times of an event come back as they were given."""
        event = MessageAdded(
            role="tool", content="é\n\u2028\0", id="k", by={"actor": "a"}, occurred_at="2020-01-02T03:04:05Z"
        )
        log.append("s", [SessionCreated()], expected_version=0)
        log.append("s", [event])
        *_, found = log.read("s")
        assert isinstance(found, MessageAdded)
        assert (found.role, found.content, found.id, found.by) == ("tool", "é\n\u2028\0", "k", {"actor": "a"})
        assert found.occurred_at == "2020-01-02T03:04:05.000000Z"

    def test_the_log_stamps_what_is_its_own(self, log: EventLog) -> None:
        """Number, time, batch, salt and hash that a caller sets are not believed."""
        log.append("s", [SessionCreated(seq=9, at="1999", batch=(4, 5), salt="x", hash="y")], expected_version=0)
        (found,) = log.read("s")
        assert (found.seq, found.batch) == (1, None)
        assert found.at > "2020"
        assert len(found.hash) == 64

    def test_an_append_to_nothing_is_an_error(self, log: EventLog) -> None:
        """A session that is not there is never made by an append that did not expect version 0."""
        with pytest.raises(SessionNotFound, match="not found"):
            log.append("s", [said("a")])
        with pytest.raises(SessionNotFound):
            log.append("s", [said("a")], expected_version=3)
        assert not log.exists("s")

    def test_an_empty_append_is_an_error(self, log: EventLog) -> None:
        """An append of no events is a mistake of the caller."""
        with pytest.raises(ValueError, match="at least one event"):
            log.append("s", [], expected_version=0)

    @pytest.mark.parametrize("name", ["", ".", "..", "a/b", "a\0b", "a.", "nul", "COM1.txt", "-a", "x" * 129, "é"])
    def test_an_invalid_id_is_an_error_everywhere(self, log: EventLog, name: str) -> None:
        """No method takes a name that no session can have."""
        with pytest.raises(InvalidSessionId):
            log.append(name, [SessionCreated()], expected_version=0)
        with pytest.raises(InvalidSessionId):
            log.head(name)
        with pytest.raises(InvalidSessionId):
            log.chunks(name)
        with pytest.raises(InvalidSessionId):
            log.remove(name)

    def test_a_batch_is_refused_as_a_whole(self, log: EventLog) -> None:
        """If one event cannot become a line, its complete batch is refused."""
        log.append("s", [SessionCreated()], expected_version=0)
        with pytest.raises(EventNotEncodable, match=r"\$\.value"):
            log.append("s", [said("good"), DataSet(key="k", value=float("nan"))])
        with pytest.raises(EventTooLarge):
            log.append("s", [said("x" * codec.MAX_EVENT_BYTES)])
        assert log.head("s").version == 1

    def test_a_batch_says_so(self, log: EventLog) -> None:
        """Events that were appended together carry their place in the batch; one alone carries none."""
        log.append("s", [SessionCreated()], expected_version=0)
        log.append("s", [said("a"), said("b")])
        assert [event.batch for event in log.read("s")] == [None, (0, 2), (1, 2)]

    def test_time_never_goes_back(self, log: EventLog) -> None:
        """The time of recording never decreases inside a session."""
        log.append("s", [SessionCreated()], expected_version=0)
        for text in "abcdefgh":
            log.append("s", [said(text)])
        times = [event.at for event in log.read("s")]
        assert times == sorted(times)

    # --- complete logs from elsewhere

    def test_a_whole_log_is_taken_in_to_the_byte(self, log: EventLog) -> None:
        """An imported log has the same bytes, head, keys and attachments, and can be appended to."""
        log.append("s", [SessionCreated(), said("a", "key")], expected_version=0)
        data, head = b"".join(log.chunks("s")), log.head("s")
        note = ("checkpoints/000000000002-0011aabb.note", [b"no", b"te"])
        log.remove("s")
        assert log.ingest("s", [data[:10], data[10:]], [note]) == head == log.head("s")
        assert b"".join(log.chunks("s")) == data
        assert log.attachments("s") == [note[0]]
        assert b"".join(log.read_beside("s", note[0])) == b"note"
        assert log.append("s", [said("b")]) == Appended(3, 3)
        assert log.append("s", [SessionCreated(), said("a", "key")]).repeated

    def test_a_fork_is_taken_in_on_top_of_its_parent(self, log: EventLog) -> None:
        """Of a fork by reference only its own lines are ingested; without its parent it is refused."""
        log.append("s", [SessionCreated()], expected_version=0)
        log.append("s", [said("a")])
        log.fork("f", "s", 2, SessionCreated())
        log.append("f", [said("b")])
        whole, own, head = b"".join(log.chunks("f")), b"".join(log.chunks("f", 2)), log.head("f")
        log.remove("f")
        log.ingest("f", [own])
        assert (b"".join(log.chunks("f")), log.head("f"), log.root_of("f")) == (whole, head, "s")
        assert log.inherited("f") == 2
        log.remove("f")
        log.remove("s")
        with pytest.raises(LogDamaged, match="is missing"):
            log.ingest("f", [own])
        with pytest.raises(LogDamaged):
            log.ingest("f", [whole])
        log.ingest("f", [whole], root="s")
        assert (b"".join(log.chunks("f")), log.root_of("f"), log.inherited("f")) == (whole, "s", 0)

    def test_what_is_no_whole_log_is_not_taken_in(self, log: EventLog) -> None:
        """Bytes that do not verify to the last are refused, and nothing of them is there."""
        log.append("s", [SessionCreated()], expected_version=0)
        log.append("s", [said("a"), said("b")])
        data = b"".join(log.chunks("s"))
        log.remove("s")
        half_a_batch = data[: data.rindex(b"\n", 0, -1) + 1]
        for bad in (b"", b"x", data[:-1], data.replace(b'"b"', b'"c"'), data + b"x", data[5:], half_a_batch):
            with pytest.raises(LogDamaged):
                log.ingest("s", [bad])
        with pytest.raises(LogDamaged):
            log.ingest("t", [data])
        with pytest.raises(InvalidSessionId):
            log.ingest(STORE_ID, [data])
        with pytest.raises(ValueError, match="name"):
            log.ingest("s", [data], [("../x", [b"x"])])
        assert not list(log.ids())

    def test_a_log_that_is_there_is_not_replaced(self, log: EventLog) -> None:
        """Adopting an id that is taken is an error."""
        log.append("s", [SessionCreated()], expected_version=0)
        data = b"".join(log.chunks("s"))
        log.append("s", [said("a")])
        with pytest.raises(SessionExists):
            log.ingest("s", [data])
        assert log.head("s").version == 2

    # --- expected versions and idempotency

    def test_a_stale_append_writes_nothing_and_says_what_came_between(self, log: EventLog) -> None:
        """An append that expects an older version is refused and leaves the log as it was."""
        log.append("s", [SessionCreated()], expected_version=0)
        log.append("s", [said("a")])
        with pytest.raises(VersionConflict) as caught:
            log.append("s", [said("b")], expected_version=1)
        assert (caught.value.expected, caught.value.actual, caught.value.since) == (1, 2, ("message.added",))
        assert log.head("s").version == 2

    def test_a_session_is_created_once(self, log: EventLog) -> None:
        """An append at version 0 to a session that is there is a conflict."""
        log.append("s", [SessionCreated()], expected_version=0)
        with pytest.raises(VersionConflict):
            log.append("s", [SessionCreated()], expected_version=0)

    def test_a_version_from_the_future_is_a_conflict(self, log: EventLog) -> None:
        """An append that expects events that are not there is refused."""
        log.append("s", [SessionCreated()], expected_version=0)
        with pytest.raises(VersionConflict):
            log.append("s", [said("a")], expected_version=7)

    def test_the_same_key_again_returns_the_first_result(self, log: EventLog) -> None:
        """An append with a key seen before writes nothing, whatever version it expects."""
        log.append("s", [SessionCreated()], expected_version=0)
        first = log.append("s", [said("a", "k"), said("b")], expected_version=1)
        log.append("s", [said("c")])
        again = log.append("s", [said("a", "k"), said("b")], expected_version=1)
        assert again == Appended(first.first, first.last, repeated=True)
        assert log.head("s").version == 4

    def test_keys_of_different_appends_do_not_mix(self, log: EventLog) -> None:
        """A batch with a known key and a new one, or with keys of two appends, is refused."""
        log.append("s", [SessionCreated()], expected_version=0)
        log.append("s", [said("a", "k1")])
        log.append("s", [said("b", "k2")])
        for keys in (("k1", "new"), ("k1", "k2")):
            with pytest.raises(IdReused):
                log.append("s", [said("x", key) for key in keys])
        assert log.head("s").version == 3

    def test_keys_belong_to_their_session(self, log: EventLog) -> None:
        """The same key in two sessions is two keys."""
        for name in ("s", "t"):
            log.append(name, [SessionCreated(id="k")], expected_version=0)
        assert log.head("t").version == 1

    # --- several batches at once

    def test_several_batches_are_each_their_own(self, log: EventLog) -> None:
        """`extend` numbers and marks its batches as one append each would."""
        batches: list[list[Event]] = [[SessionCreated()], [said("a"), said("b")], [said("c", "k")]]
        assert log.extend("s", batches, expected_version=0) == Appended(1, 4)
        assert [event.batch for event in log.read("s")] == [None, (0, 2), (1, 2), None]
        assert log.append("s", [said("c", "k")]) == Appended(4, 4, repeated=True)
        assert log.extend("s", [[said("d")]], expected_version=4) == Appended(5, 5)

    def test_several_batches_are_refused_as_a_whole(self, log: EventLog) -> None:
        """A bad event, a stale version, a key that is known or comes twice: nothing of any batch is written."""
        log.append("s", [SessionCreated(), said("a", "k")], expected_version=0)
        with pytest.raises(EventNotEncodable):
            log.extend("s", [[said("b")], [DataSet(key="k", value=float("nan"))]], expected_version=2)
        with pytest.raises(VersionConflict):
            log.extend("s", [[said("b")], [said("c")], [said("d")]], expected_version=1)
        with pytest.raises(IdReused):
            log.extend("s", [[said("b")], [said("a", "k")]], expected_version=2)
        with pytest.raises(IdReused):
            log.extend("s", [[said("b", "new")], [said("c", "new")]], expected_version=2)
        with pytest.raises(SessionNotFound):
            log.extend("t", [[said("b")]], expected_version=1)
        with pytest.raises(ValueError, match="at least one"):
            log.extend("s", [], expected_version=2)
        assert log.head("s").version == 2

    def test_several_callers_are_served_together_and_each_for_itself(self, log: EventLog) -> None:
        """Of many appends each has its own outcome, in the order given, and the error of one is no other's."""
        log.append("s", [SessionCreated()], expected_version=0)
        written = log.append_many(
            [
                Append("s", [said("a")]),
                Append("nope", [said("b")]),
                Append("s", [said("c", "k"), said("d")]),
                Append("s", [said("late")], expected_version=1),
                Append("s", []),
                Append("s", [DataSet(key="k", value=float("nan"))]),
                Append("t", [SessionCreated()], expected_version=0),
                Append("s", [said("again", "k")]),
                Append("s", [said("e")], expected_version=4),
            ]
        )
        written.flush()
        kinds = [
            outcome if isinstance(outcome, Appended | None) else type(outcome).__name__ for outcome in written.outcomes
        ]
        assert kinds == [
            Appended(2, 2),
            "SessionNotFound",
            Appended(3, 4),
            "VersionConflict",
            "ValueError",
            "EventNotEncodable",
            Appended(1, 1),
            Appended(3, 4, repeated=True),
            Appended(5, 5),
        ]
        assert [event.content for event in log.read("s") if isinstance(event, MessageAdded)] == ["a", "c", "d", "e"]
        assert len(list(log.read("t"))) == 1

    # --- without waiting

    def test_what_is_appended_at_once_is_what_append_appends(self, log: EventLog) -> None:
        """Where nothing has to be waited for, the outcomes are those of `append_many`; elsewhere nothing is done."""
        log.append("s", [SessionCreated()], expected_version=0)
        wanted = [Append("s", [said("a")], 1), Append("s", [said("b"), said("c")]), Append("s", [said("d")], 4)]
        done = log.append_at_once("s", wanted)
        if done is None:
            assert not log.capabilities.at_once
            done = log.append_many(wanted)
        done.flush()
        assert done.outcomes == [Appended(2, 2), Appended(3, 4), Appended(5, 5)]
        assert [getattr(event, "content", "") for event in log.read("s")] == ["", *"abcd"]

    def test_what_cannot_be_appended_at_once_is_left(self, log: EventLog) -> None:
        """A key, a version that is not the present one, an event that is refused and an unknown session need a look."""
        log.append("s", [SessionCreated()], expected_version=0)
        for one in (
            Append("s", [said("a", "key")]),
            Append("s", [said("a")], 7),
            Append("s", []),
            Append("s", [DataSet(key="k", value={1: 2j})]),
            Append("s", [EventRedacted(target=1, leaf="x", reason="y")]),
            Append("t", [said("a")]),
        ):
            assert log.append_at_once(one.session_id, [Append(one.session_id, [said("b")]), one]) is None
        assert log.append_at_once("s", [Append("s", [said("x" * 200_000)]), Append("s", [said("y" * 200_000)])]) is None
        assert [event.seq for event in log.read("s")] == [1]
