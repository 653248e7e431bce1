"""What readers are promised: ranges, forks, reading on from a place, and watching."""

from concurrent.futures import ThreadPoolExecutor
from hashlib import sha256

import pytest

from eventstore.errors import (
    InvalidSessionId,
    LogRolledBack,
    NoSuchMoment,
    SessionNotFound,
    VersionConflict,
)
from eventstore.events import (
    DataSet,
    Event,
    MessageAdded,
    RedactedEvent,
    SessionCreated,
)
from eventstore.log.base import BEGINNING, Appended, Head
from eventstore.log.contract.sample import await_change, drained, long_log, resumed, said
from eventstore.log.engine import EventLog
from eventstore.record import codec, hash_chain
from eventstore.record.message_run import Message, MessageRun


class ReadingContract:
    """Reading logs and their forks."""

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
        """A run of messages represents the events between its numbers; all other events are returned one by one."""
        log.append("s", [SessionCreated()], expected_version=0)
        for count in (1, 40, 1, 60):
            log.append("s", [said("x" * 100) for _ in range(count)])
            log.append("s", [DataSet(key="k", value=count)])
        told: list[Event | Message] = []
        for one in log.skim("s", 1):
            told += one.read() if isinstance(one, MessageRun) else [one]
        read = list(log.read("s", 1))
        assert [(one.seq, one.at) for one in told] == [(event.seq, event.at) for event in read]
        assert any(isinstance(one, MessageRun) for one in log.skim("s"))
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
        """The head has the last event's number, time and hash, and the size of all lines."""
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
        """Numbers and hashes continue those of the parent, and from then on both are independent."""
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
            following = hash_chain.verify(line, digest)
            assert following is not None
            digest = following
        assert log.head("f").version == 4
        assert [event.content for event in log.read("s") if isinstance(event, MessageAdded)] == ["a", "b", "d"]
        assert [event.content for event in log.read("f", 1) if isinstance(event, MessageAdded)] == ["a", "c"]
        assert [event.seq for event in log.read("f", 1, 3)] == [2, 3]
        assert [event.seq for event in log.read("f", 0, 1)] == [1]
        assert [event.seq for event in log.read("f", 3)] == [4]

    def test_a_fork_of_a_fork_outlives_both(self, log: EventLog) -> None:
        """An independent copy of a fork needs no parent, and has the same bytes."""
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
        """`resume` continues after any event, inside a batch too, whatever the offset is."""
        lines = long_log(log, "s")
        seqs = [1, 2, 3, 4, 5, 6, len(lines) - 1, len(lines)]
        for event in [event for event in log.read("s") if event.seq in seqs]:
            for hint in (0, 1, 70, 10**12, sum(map(len, lines[: event.seq])) + event.seq, len(lines[0])):
                data, end = resumed(log, "s", Head(event.seq, event.at, event.hash, hint))
                assert data == lines[event.seq :]
                assert (end.version, end.hash) == log.head("s")[:1] + log.head("s")[2:3]
        assert resumed(log, "s", BEGINNING)[0] == lines

    def test_what_is_read_on_ends_with_a_batch(self, log: EventLog) -> None:
        """Each piece has complete batches, however long they are."""
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
        """If a log does not have the event of the place, with its number and hash, `resume` raises an error."""
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
        """Inherited events of a fork are read like its own, from any event, before and after the fork becomes independent."""
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
        """`own_beginning` is the start of a session, and for a fork the place of the event at its fork point."""
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
        """`tail_position` returns the place after the last batch, however long its lines are."""
        log.append("s", [SessionCreated()], expected_version=0)
        for texts in (["a"], ["b", "c"], ["x" * 200_000], ["d"]):
            log.append("s", [said(text) for text in texts])
            assert log.tail_position("s") == log.head("s")
        log.fork("f", "s", 3 - 1, SessionCreated())
        assert log.tail_position("f") == log.head("f")
        with pytest.raises(SessionNotFound):
            log.tail_position("nope")

    def test_a_watch_tells_of_what_changes(self, log: EventLog) -> None:
        """A watch soon reports an append, of one log or of any, new logs and removed logs."""
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
            watch.wake()
            pool.submit(drained, watch).result(30)
            waiting = pool.submit(drained, watch)
            watch.wake()
            waiting.result(30)


class WindowContract:
    """Reading some lines of a log that may not have been read."""

    def test_a_window_has_the_lines_that_the_whole_log_has_there(self, log: EventLog) -> None:
        """Whether this program has read the log or not, and also of a fork and where events were redacted."""
        lines = [line + b"\n" for line in long_log(log, "s")]
        log.fork("f", "s", 300, SessionCreated())
        log.append("f", [said("own")])
        for after, upto in (
            (0, 1),
            (0, 9),
            (2, 3),
            (4, 6),
            (5, 40),
            (299, len(lines)),
            (len(lines) - 1, len(lines)),
            (7, 7),
        ):
            for reader in (EventLog(log.backend), log):
                assert b"".join(reader.window("s", after, upto)) == b"".join(lines[after:upto])
        assert b"".join(EventLog(log.backend).window("f", 2, 300)) == b"".join(lines[2:300])
        assert len(b"".join(EventLog(log.backend).window("f", 299, 302)).splitlines()) == 3
        log.redact("s", [9], "asked for")
        (found,) = codec.decode_lines(b"".join(EventLog(log.backend).window("s", 8, 9)))
        assert isinstance(found, RedactedEvent)
        with pytest.raises(SessionNotFound):
            list(log.window("nope", 3, 4))
