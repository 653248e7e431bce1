"""EventLogContract: what every EventLog promises, one test per sentence. Needs pytest.

A backend is done when it passes: subclass in a test module and give it a `log` fixture that yields an empty log.

    class TestMyEventLog(EventLogContract):
        @pytest.fixture
        def log(self):
            with MyEventLog() as log:
                yield log
"""

import time
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from hashlib import sha256

import pytest

from eventstore.errors import (
    EventNotEncodable,
    EventTooLarge,
    IdReused,
    InvalidSessionId,
    LogDamaged,
    LogRolledBack,
    NoSuchMoment,
    RedactionRefused,
    SessionExists,
    SessionNotFound,
    VersionConflict,
)
from eventstore.events import (
    DataCleared,
    DataSet,
    Event,
    EventRedacted,
    MessageAdded,
    RedactedEvent,
    SessionCreated,
    StoreSessionCreated,
)
from eventstore.ids import STORE_ID
from eventstore.log.base import BEGINNING, Append, Appended, EventLog, Head
from eventstore.log.watch import Watch
from eventstore.record import codec


def said(text: str, key: str | None = None) -> Event:
    """Make a message of the user."""
    return MessageAdded(role="user", content=text, id=key)


def long_log(log: EventLog, name: str) -> list[bytes]:
    """Begin a session that is read in many pieces: single events, batches, long lines; return its lines."""
    log.append(name, [SessionCreated()], expected_version=0)
    log.append(name, [said("a"), said("b"), said("c")])
    log.append(name, [said("x" * 300_000), said("y" * 300_000)])
    log.extend(name, [[said(f"{n}")] for n in range(600)], expected_version=6)
    return list(log.lines(name))


def resumed(log: EventLog, name: str, place: Head) -> tuple[list[bytes], Head]:
    """Read on from a place to the end, piece by piece; return the lines and where they end."""
    found: list[bytes] = []
    while True:
        data, place = log.resume(name, place)
        if not data:
            return found, place
        found += codec.lines(data)


def await_change(watch: Watch, name: str, change: Callable[[], object]) -> None:
    """Make a change, and wait until a watch that was quiet tells of it."""
    while watch.wait(0.3) != set():
        pass
    change()
    until = time.monotonic() + 30
    while time.monotonic() < until:
        told = watch.wait(1)
        if told is None or name in told:
            return
    raise AssertionError(f"nobody told of {name}")


def drained(watch: Watch) -> None:
    """Wait until a watch returns though nothing has changed and no time is up."""
    while watch.wait(60) != set():
        pass


def changes(log: EventLog, since: str | None) -> tuple[dict[str, str | None], str]:
    """Ask what changed; give the texts by log, and the token of the next question."""
    found = log.changed(since)
    assert len(dict(found.logs)) == len(found.logs)
    return dict(found.logs), found.token


class EventLogContract:
    """The promises of `EventLog`, for any backend."""

    @pytest.fixture
    def log(self) -> Iterator[EventLog]:
        """Yield an empty log; each backend gives its own."""
        raise NotImplementedError

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
        """One event that cannot become a line keeps its whole batch out."""
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
        """The time of recording never goes back inside a session."""
        log.append("s", [SessionCreated()], expected_version=0)
        for text in "abcdefgh":
            log.append("s", [said(text)])
        times = [event.at for event in log.read("s")]
        assert times == sorted(times)

    # --- whole logs from elsewhere

    def test_a_whole_log_is_taken_in_to_the_byte(self, log: EventLog) -> None:
        """A log that is adopted has the same bytes, head, keys and files beside it, and goes on."""
        log.append("s", [SessionCreated(), said("a", "key")], expected_version=0)
        data, head = b"".join(log.chunks("s")), log.head("s")
        note = ("checkpoints/000000000002-0011aabb.note", [b"no", b"te"])
        log.remove("s")
        assert log.adopt("s", [data[:10], data[10:]], [note]) == head == log.head("s")
        assert b"".join(log.chunks("s")) == data
        assert log.beside("s") == [note[0]]
        assert b"".join(log.read_beside("s", note[0])) == b"note"
        assert log.append("s", [said("b")]) == Appended(3, 3)
        assert log.append("s", [SessionCreated(), said("a", "key")]).repeated

    def test_a_fork_is_taken_in_on_top_of_its_parent(self, log: EventLog) -> None:
        """Of a fork by reference only its own lines are adopted; without its parent it is refused."""
        log.append("s", [SessionCreated()], expected_version=0)
        log.append("s", [said("a")])
        log.fork("f", "s", 2, SessionCreated())
        log.append("f", [said("b")])
        whole, own, head = b"".join(log.chunks("f")), b"".join(log.chunks("f", 2)), log.head("f")
        log.remove("f")
        log.adopt("f", [own])
        assert (b"".join(log.chunks("f")), log.head("f"), log.root_of("f")) == (whole, head, "s")
        assert log.inherited("f") == 2
        log.remove("f")
        log.remove("s")
        with pytest.raises(LogDamaged, match="not there"):
            log.adopt("f", [own])
        with pytest.raises(LogDamaged):
            log.adopt("f", [whole])
        log.adopt("f", [whole], root="s")
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
                log.adopt("s", [bad])
        with pytest.raises(LogDamaged):
            log.adopt("t", [data])
        with pytest.raises(InvalidSessionId):
            log.adopt(STORE_ID, [data])
        with pytest.raises(ValueError, match="name"):
            log.adopt("s", [data], [("../x", [b"x"])])
        assert not list(log.ids())

    def test_a_log_that_is_there_is_not_replaced(self, log: EventLog) -> None:
        """Adopting an id that is taken is an error."""
        log.append("s", [SessionCreated()], expected_version=0)
        data = b"".join(log.chunks("s"))
        log.append("s", [said("a")])
        with pytest.raises(SessionExists):
            log.adopt("s", [data])
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
            log.extend("s", [[said("b")]], expected_version=1)
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

    def test_who_must_not_wait_is_served_or_told(self, log: EventLog) -> None:
        """Without waiting every append has an outcome, or None and nothing written: then it can be tried again."""
        log.append("s", [SessionCreated()], expected_version=0)
        appends = [Append("s", [said("a")]), Append("nope", [said("b")])]
        first = log.append_many(appends, wait=False)
        first.flush()
        left = [append for append, outcome in zip(appends, first.outcomes, strict=True) if outcome is None]
        again = log.append_many(left)
        again.flush()
        outcomes = [outcome for outcome in (*first.outcomes, *again.outcomes) if outcome is not None]
        assert sorted(type(outcome).__name__ for outcome in outcomes) == ["Appended", "SessionNotFound"]
        assert log.head("s").version == 2

    # --- reading

    def test_a_range_is_read(self, log: EventLog) -> None:
        """`after` is left out, `upto` is included, and a range beyond the end is empty."""
        log.append("s", [SessionCreated()], expected_version=0)
        for text in "abcd":
            log.append("s", [said(text)])
        assert [event.seq for event in log.read("s", 1, 3)] == [2, 3]
        assert [event.seq for event in log.read("s", 3)] == [4, 5]
        assert [event.seq for event in log.read("s", 0, 1)] == [1]
        assert list(log.read("s", 5)) == []
        assert list(log.read("s", 3, 2)) == []

    def test_skimming_tells_what_reading_tells(self, log: EventLog) -> None:
        """Messages in a row stand for the events between their numbers; all others are told one by one."""
        log.append("s", [SessionCreated()], expected_version=0)
        for count in (1, 40, 1, 60):
            log.append("s", [said("x" * 100) for _ in range(count)])
            log.append("s", [DataSet(key="k", value=count)])
        told: list[Event | codec.Message] = []
        for one in log.skim("s", 1):
            told += one.read() if isinstance(one, codec.Messages) else [one]
        read = list(log.read("s", 1))
        assert [(one.seq, one.at) for one in told] == [(event.seq, event.at) for event in read]
        assert any(isinstance(one, codec.Messages) for one in log.skim("s"))
        assert [event for event in told if isinstance(event, DataSet)] == [e for e in read if isinstance(e, DataSet)]

    def test_a_read_ends_where_the_log_ended_when_it_began(self, log: EventLog) -> None:
        """Events appended while a read is under way are not part of it."""
        log.append("s", [SessionCreated()], expected_version=0)
        events = log.read("s")
        chunks = log.chunks("s")
        log.append("s", [said("late")])
        assert [line.count(b"\n") for line in chunks] == [1]
        assert len(list(events)) in (1, 2)

    def test_a_session_that_is_not_there_is_an_error_at_once(self, log: EventLog) -> None:
        """Reading, asking for the head and streaming lines name the session that is not there."""
        for ask in (log.head, log.chunks):
            with pytest.raises(SessionNotFound, match="'nope' not found"):
                ask("nope")
        with pytest.raises(SessionNotFound):
            list(log.read("nope"))

    def test_a_head_is_that_of_the_last_line(self, log: EventLog) -> None:
        """The head tells the last event's number, time and hash, and the size of all lines."""
        log.append("s", [SessionCreated()], expected_version=0)
        log.append("s", [said("a"), said("b")])
        *_, last = log.read("s")
        head = log.head("s")
        assert (head.version, head.at, head.hash) == (3, last.at, last.hash)
        assert head.size_bytes == sum(map(len, log.chunks("s")))

    def test_every_line_proves_itself_its_place_and_its_session(self, log: EventLog) -> None:
        """The chain of each session's lines can be computed from their bytes and the session's id."""
        for name in ("s", "t"):
            log.append(name, [SessionCreated(purpose="p")], expected_version=0)
            log.append(name, [said("a"), said("b")])
            digest = sha256(b"eventstore/1\n" + name.encode()).digest()
            for line in log.lines(name):
                body, _, rest = line.rpartition(b',"hash":"')
                digest = sha256(b"\x01" + digest + sha256(b"\x00" + body).digest()).digest()
                assert rest == digest.hex().encode() + b'"}'

    # --- forks

    def test_a_fork_has_its_parent_s_past_and_a_future_of_its_own(self, log: EventLog) -> None:
        """Numbers and hashes go on from the parent's, and neither notices what the other does from then on."""
        log.append("s", [SessionCreated()], expected_version=0)
        log.append("s", [said("a")])
        past = list(log.read("s"))
        log.append("s", [said("b")])
        assert log.fork("f", "s", 2, SessionCreated(purpose="fork")) == Appended(3, 3)
        assert log.append("f", [said("c")], expected_version=3) == Appended(4, 4)
        log.append("s", [said("d")])
        fork = list(log.read("f"))
        assert fork[:2] == past
        assert [event.seq for event in fork] == [1, 2, 3, 4]
        assert isinstance(fork[2], SessionCreated)
        assert fork[2].forked_from is not None
        assert (fork[2].forked_from["session_id"], fork[2].forked_from["seq"]) == ("s", 2)
        digest = bytes.fromhex(past[-1].hash)
        for line in log.lines("f", 2):
            following = codec.verify(line, digest)
            assert following is not None
            digest = following
        assert log.head("f").version == 4
        assert [event.content for event in log.read("s") if isinstance(event, MessageAdded)] == ["a", "b", "d"]
        assert [event.content for event in log.read("f", 1) if isinstance(event, MessageAdded)] == ["a", "c"]
        assert [event.seq for event in log.read("f", 1, 3)] == [2, 3]
        assert [event.seq for event in log.read("f", 0, 1)] == [1]
        assert [event.seq for event in log.read("f", 3)] == [4]

    def test_a_fork_of_a_fork_outlives_both(self, log: EventLog) -> None:
        """Made whole, a fork needs no parent, and is the same to the byte."""
        log.append("s", [SessionCreated()], expected_version=0)
        log.append("s", [said("a"), said("b")])
        log.fork("f", "s", 3, SessionCreated())
        log.append("f", [said("c")])
        log.fork("g", "f", 5, SessionCreated())
        log.fork("h", "f", 1, SessionCreated())
        log.append("g", [said("d")])
        assert [log.root_of(name) for name in "sfgh"] == ["s"] * 4
        before = {name: list(log.lines(name)) for name in "fgh"}
        heads = {name: log.head(name)[:3] for name in "fgh"}
        for gone in ("s", "f"):
            for name in "fgh":
                log.make_whole(name)
            assert log.remove(gone)
        log.make_whole("g")
        assert {name: list(log.lines(name)) for name in "gh"} == {name: before[name] for name in "gh"}
        assert {name: log.head(name)[:3] for name in "gh"} == {name: heads[name] for name in "gh"}
        assert log.append("g", [said("e")]) == Appended(8, 8)
        assert [one.standing for one in log.salvage("g")] == ["proven"] * 8
        assert [log.inherited(name) for name in "gh"] == [0, 0]
        assert [log.root_of(name) for name in "gh"] == ["s", "s"]
        log.fork("i", "g", 8, SessionCreated())
        assert log.inherited("i") == 8
        assert len(list(log.read("i"))) == 9

    def test_a_fork_that_cannot_be_is_an_error_and_leaves_nothing(self, log: EventLog) -> None:
        """The parent has to be there, the version too and at the end of a batch, and the name has to be free."""
        log.append("s", [SessionCreated()], expected_version=0)
        log.append("s", [said("a"), said("b")])
        for version in (0, 2, 4, -1):
            with pytest.raises(NoSuchMoment):
                log.fork("f", "s", version, SessionCreated())
        with pytest.raises(SessionNotFound):
            log.fork("f", "nope", 1, SessionCreated())
        with pytest.raises(VersionConflict):
            log.fork("s", "s", 3, SessionCreated())
        with pytest.raises(InvalidSessionId):
            log.fork("a/b", "s", 3, SessionCreated())
        assert sorted(log.ids()) == ["s"]
        log.fork("f", "s", 3, SessionCreated())
        with pytest.raises(VersionConflict):
            log.fork("f", "s", 3, SessionCreated())

    # --- reading on, and watching

    def test_reading_on_from_any_place_gives_the_rest_once(self, log: EventLog) -> None:
        """`resume` reads on behind any event, inside a batch too, whatever it is told of the offset."""
        lines = long_log(log, "s")
        seqs = [1, 2, 3, 4, 5, 6, len(lines) - 1, len(lines)]
        for event in [event for event in log.read("s") if event.seq in seqs]:
            for hint in (0, 1, 70, 10**12, sum(map(len, lines[: event.seq])) + event.seq, len(lines[0])):
                data, end = resumed(log, "s", Head(event.seq, event.at, event.hash, hint))
                assert data == lines[event.seq :]
                assert (end.version, end.hash) == log.head("s")[:1] + log.head("s")[2:3]
        assert resumed(log, "s", BEGINNING)[0] == lines

    def test_what_is_read_on_ends_with_a_batch(self, log: EventLog) -> None:
        """Each piece is of whole batches, however long they are."""
        log.append("s", [SessionCreated()], expected_version=0)
        log.append("s", [said("x" * 900) for _ in range(700)])
        place = BEGINNING
        while True:
            data, place = log.resume("s", place)
            if not data:
                break
            last = codec.decode(data.splitlines()[-1])
            assert last.batch is None or last.batch[0] + 1 == last.batch[1]
        assert place.version == 701

    def test_where_nothing_is_new_nothing_is_read_and_later_it_is(self, log: EventLog) -> None:
        """At the end `resume` gives nothing and the same place; what is appended then comes from there."""
        log.append("s", [SessionCreated()], expected_version=0)
        _, end = log.resume("s")
        assert log.resume("s", end) == (b"", end)
        log.append("s", [said("a"), said("b")])
        data, further = log.resume("s", end)
        assert (data.count(b"\n"), further.version) == (2, 3)
        assert (further.size_bytes, further.hash) == (log.size_bytes("s"), log.head("s").hash)

    def test_another_log_is_not_read_on(self, log: EventLog) -> None:
        """Where a log does not have the event of the place, at its number and with its hash, `resume` says so."""
        long_log(log, "s")
        events = {event.seq: event for event in log.read("s")}
        top = max(events)
        for seq, digest in (
            (3, "0" * 64),
            (3, events[2].hash),
            (2, events[3].hash),
            (top + 1, events[top].hash),
            (3, "x"),
        ):
            for hint in (0, log.size_bytes("s")):
                with pytest.raises(LogRolledBack, match="'s'"):
                    log.resume("s", Head(seq, "", digest, hint))
        place = Head(4, "", events[4].hash, 0)
        log.remove("s")
        with pytest.raises(SessionNotFound):
            log.resume("s", place)
        long_log(log, "s")
        with pytest.raises(LogRolledBack):
            log.resume("s", place)

    def test_a_fork_is_read_on_over_its_borders(self, log: EventLog) -> None:
        """What a fork has of its parents is read on as if it were its own, from any event, before and after it is made whole."""
        long_log(log, "s")
        log.fork("f", "s", log.head("s").version - 1, SessionCreated())
        log.append("f", [said("c"), said("d")])
        log.fork("g", "f", log.head("f").version, SessionCreated())
        log.append("g", [said("e")])
        log.fork("h", "g", 4, SessionCreated())
        for name in "fgh":
            lines = list(log.lines(name))
            places = [Head(event.seq, "", event.hash, 0) for event in log.read(name)]
            borders = {place for place in places if place.version < 8 or place.version + 8 > len(places)}
            for _ in range(2):
                assert resumed(log, name, BEGINNING)[0] == lines
                for place in borders:
                    assert resumed(log, name, place)[0] == lines[place.version :]
                    _, further = log.resume(name, place)
                    assert resumed(log, name, further)[0] == lines[further.version :]
                log.make_whole(name)
        with pytest.raises(LogRolledBack):
            log.resume("g", log.head("s"))

    def test_a_fork_s_own_beginning_is_behind_what_it_inherits(self, log: EventLog) -> None:
        """`own_beginning` is the start of a session, and of a fork the place of the event that it goes on from."""
        log.append("s", [SessionCreated()], expected_version=0)
        log.append("s", [said("a")])
        last = log.head("s")
        log.fork("f", "s", 2, SessionCreated())
        log.fork("g", "f", 3, SessionCreated())
        assert log.own_beginning("s") == BEGINNING
        own = log.own_beginning("f")
        assert (own.version, own.hash) == (2, last.hash)
        assert log.own_beginning("g").version == 3
        assert [codec.decode(line).seq for line in resumed(log, "f", own)[0]] == [3]
        with pytest.raises(SessionNotFound):
            log.own_beginning("nope")
        log.make_whole("f")
        assert log.own_beginning("f") == BEGINNING

    def test_a_size_tells_of_each_change(self, log: EventLog) -> None:
        """`size_bytes` grows with each append, and is 0 for what is not there."""
        assert log.size_bytes("s") == 0
        sizes = [0]
        log.append("s", [SessionCreated()], expected_version=0)
        for _ in range(3):
            sizes.append(log.size_bytes("s"))
            log.append("s", [said("a")])
        assert sizes == sorted(set(sizes))
        log.remove("s")
        assert log.size_bytes("s") == 0
        for ask in (log.size_bytes, log.resume, log.own_beginning, log.watch):
            with pytest.raises(InvalidSessionId):
                ask("a/b")

    def test_a_peek_tells_where_to_read_on(self, log: EventLog) -> None:
        """`peek` gives the place behind the last batch, however long its lines are."""
        log.append("s", [SessionCreated()], expected_version=0)
        for texts in (["a"], ["b", "c"], ["x" * 200_000], ["d"]):
            log.append("s", [said(text) for text in texts])
            assert log.peek("s") == log.head("s")
        log.fork("f", "s", 3 - 1, SessionCreated())
        assert log.peek("f") == log.head("f")
        with pytest.raises(SessionNotFound):
            log.peek("nope")

    def test_a_watch_tells_of_what_changes(self, log: EventLog) -> None:
        """Whoever watches is told soon of an append, of one log or of any, of new ones and of those that go."""
        log.append("s", [SessionCreated()], expected_version=0)
        with log.watch("s") as one, log.watch() as every:
            for watch in (one, every):
                await_change(watch, "s", lambda: log.append("s", [said("a")]))
            await_change(every, "t", lambda: log.append("t", [SessionCreated()], expected_version=0))
            await_change(every, "t", lambda: log.remove("t"))

    def test_who_waits_can_be_woken(self, log: EventLog) -> None:
        """`wake` ends a wait of another thread, one that is still to begin too."""
        log.append("s", [SessionCreated()], expected_version=0)
        with log.watch() as watch, ThreadPoolExecutor(1) as pool:
            waiting = pool.submit(drained, watch)
            watch.wake()
            waiting.result(30)

    # --- sessions

    def test_sessions_are_listed_without_the_store_s_own_log(self, log: EventLog) -> None:
        """`ids` streams every session once; the store's own log can be read and is not among them."""
        for name in ("b", "a", "B"):
            log.append(name, [SessionCreated()], expected_version=0)
        log.append(STORE_ID, [StoreSessionCreated(session_id="a", first_hash="0" * 64)], expected_version=0)
        assert sorted(log.ids()) == ["B", "a", "b"]
        assert log.head(STORE_ID).version == 1

    def test_a_removed_session_is_gone(self, log: EventLog) -> None:
        """Removing tells whether there was something; the id can be used again and begins at 1."""
        log.append("s", [SessionCreated(id="k")], expected_version=0)
        assert log.remove("s")
        assert not log.remove("s")
        assert not log.exists("s")
        assert log.append("s", [SessionCreated(id="k")], expected_version=0) == Appended(1, 1)

    def test_flush_and_close_keep_everything(self, log: EventLog) -> None:
        """Flushing and closing, also twice, loses nothing; appending again opens the log anew."""
        log.append("s", [SessionCreated()], expected_version=0)
        log.flush()
        log.close()
        log.close()
        assert log.append("s", [said("a")]) == Appended(2, 2)

    # --- many at once

    def test_threads_neither_lose_nor_interleave(self, log: EventLog) -> None:
        """Batches of many threads stay whole and next to each other."""
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
        """A session that moved on since somebody looked is neither removed nor put in the trash."""
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
        """The content of an event goes for good; numbers, hashes, times and everything else stay, and an event tells of it."""
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
        """One append tells of all of them."""
        log.append("s", [SessionCreated(purpose="p")], expected_version=0)
        log.append("s", [said("one"), said("two")])
        assert log.redact("s", [3, 1, 2, 3], "all") == Appended(4, 6)
        assert [type(event) for event in log.read("s")] == [RedactedEvent] * 3 + [EventRedacted] * 3
        log.append("s", [said("on")])
        assert log.head("s").version == 7

    def test_a_key_outlives_the_content_it_came_with(self, log: EventLog) -> None:
        """An append with the key of a redacted one is told of the first result, as before."""
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
        """A fork that is made whole has no line of a redacted content, and an event for each."""
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
        """A fork to a version that has a redacted line, and not the event that tells of it, begins by telling."""
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

    def test_what_is_in_the_trash_is_redacted_there(self, log: EventLog) -> None:
        """A session in the trash is read and redacted by the name it has there, and is whole when it comes back."""
        log.append("s", [SessionCreated()], expected_version=0)
        log.append("s", [said("one")])
        name = log.trash("s")
        assert b"one" in b"".join(log.trashed_lines(name))
        assert log.redact("s", [2], "a secret", trashed=name) == Appended(3, 3)
        assert b"one" not in b"".join(log.trashed_lines(name))
        log.restore(name)
        assert [type(event) for event in log.read("s")] == [SessionCreated, RedactedEvent, EventRedacted]

    # --- what changed

    def test_what_changed_names_every_log_that_was_appended_to_since(self, log: EventLog) -> None:
        """Also the store's own, and one that began since."""
        log.append("a", [SessionCreated()], expected_version=0)
        log.append("b", [SessionCreated()], expected_version=0)
        all_of_them, token = changes(log, None)
        assert all_of_them.keys() == {"a", "b"}
        assert None not in all_of_them.values()
        version = 0
        for _ in range(3):
            log.append("a", [said("more")])
            version = log.extend("c", [[said("x")], [said("y")]], expected_version=version).last
            log.append(STORE_ID, [said("z")], expected_version=version // 2 - 1)
            found, token = changes(log, token)
            assert {"a", "c", STORE_ID} <= found.keys()
            assert found["a"] != all_of_them["a"]
            assert found.get("b", all_of_them["b"]) == all_of_them["b"]
            all_of_them.update(found)
        assert changes(log, None)[0] == all_of_them

    def test_a_log_that_is_gone_is_named_so_and_a_new_one_of_its_name_is_another(self, log: EventLog) -> None:
        """Whether it was removed or put in the trash."""
        log.append("a", [SessionCreated()], expected_version=0)
        before, token = changes(log, None)
        log.remove("a")
        found = log.changed(token)
        assert found.complete or dict(found.logs)["a"] is None
        assert not dict(found.logs).get("a")
        log.append("a", [SessionCreated()], expected_version=0)
        again, token = changes(log, found.token)
        assert again["a"] != before["a"]
        name = log.trash("a")
        gone, token = changes(log, token)
        assert gone.get("a") is None
        log.restore(name)
        assert changes(log, token)[0]["a"] is not None

    @pytest.mark.parametrize("token", ["", "x", "0", "a b c d e f", "\0", "9" * 5000, "1 2 3 4 5 nan"])
    def test_a_token_that_nobody_gave_asks_for_all_logs(self, log: EventLog, token: str) -> None:
        """Such as one of another store, or of a former run."""
        log.append("a", [SessionCreated()], expected_version=0)
        found = log.changed(token)
        assert found.complete
        assert [one for one, _ in found.logs] == ["a"]

    def test_forks_and_redactions_are_changes(self, log: EventLog) -> None:
        """Of the log that they append to."""
        log.append("a", [SessionCreated(), said("secret")], expected_version=0)
        before, token = changes(log, None)
        log.redact("a", [2], "why")
        log.fork("f", "a", 3, SessionCreated())
        found, token = changes(log, token)
        assert found["a"] != before["a"]
        assert found["f"] is not None
        log.make_whole("f")
        assert changes(log, token)[0]["f"] != found["f"]
