"""What a backend promises of the lines of a log: append, tip, read, and two handles on one store."""

from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor

import pytest

from eventstore.errors import NotSupported
from eventstore.log.contract.stretch import Stretch, content
from eventstore.log.port import Backend, Exists, Missing, Moved, Swap, Tip

Again = Callable[[], Backend]


def with_life(tip: Tip, life: str) -> Tip:
    """Return the same place in another incarnation, or, with an empty one, in whichever has it."""
    return Tip(tip.digest, tip.offset, tip.seq, tip.at, life)


class LinesContract:
    """Appending lines and reading them."""

    def test_what_was_appended_is_read_to_the_byte(self, backend: Backend) -> None:
        """What was appended is read to the byte."""
        log = Stretch(backend, "s", "one")
        log.add("two", "three")
        assert content(backend, "s") == log.data

    def test_a_small_log_is_read_at_once_and_a_larger_one_is_not(self, backend: Backend) -> None:
        """A small log is read at once, and a larger one is not."""
        size = len(Stretch(backend, "s", "one", "two").data)
        assert backend.read_small("s", size) == content(backend, "s")
        assert backend.read_small("s", size - 1) is None
        with pytest.raises(Missing):
            backend.read_small("other", size)

    def test_an_append_returns_the_life_that_reads_return(self, backend: Backend) -> None:
        """An append returns the life that reads return."""
        log = Stretch(backend, "s", "one")
        assert log.tip.life
        assert backend.read("s").life == log.tip.life == log.add("two").life

    def test_a_new_log_is_made_once(self, backend: Backend) -> None:
        """A new log is made once."""
        log = Stretch(backend, "s", "one")
        data, tip = Stretch(backend, "s").seal("other")
        with pytest.raises(Exists):
            backend.append("s", data, expect=None, tip=tip)
        assert content(backend, "s") == log.data

    def test_a_log_that_is_not_there_is_missing(self, backend: Backend) -> None:
        """A log that is not there is missing."""
        data, tip = Stretch(backend, "s").seal("one")
        with pytest.raises(Missing):
            backend.append("s", data, expect=with_life(tip, "no such life"), tip=tip)
        for ask in (backend.tip, backend.read):
            with pytest.raises(Missing):
                ask("s")

    def test_an_append_behind_an_older_tip_is_moved_and_writes_nothing(self, backend: Backend) -> None:
        """An append after an older tip raises Moved and writes nothing."""
        log = Stretch(backend, "s", "one")
        data, tip = log.seal("late")
        stale = log.tip
        log.add("two")
        with pytest.raises(Moved):
            backend.append("s", data, expect=stale, tip=tip)
        assert content(backend, "s") == log.data

    def test_an_append_behind_a_tip_with_another_hash_is_moved(self, backend: Backend) -> None:
        """An append after a tip with another hash raises Moved."""
        log = Stretch(backend, "s", "one")
        log.add("two")
        data, tip = log.seal("x")
        end, first = log.tip, log.tips[0]
        for digest in (first.digest, b"\0" * 32):
            with pytest.raises(Moved):
                backend.append("s", data, expect=Tip(digest, end.offset, end.seq, end.at, end.life), tip=tip)
        assert content(backend, "s") == log.data

    def test_the_tip_is_where_the_last_append_ended(self, backend: Backend) -> None:
        """The tip is where the last append ended."""
        log = Stretch(backend, "s")
        for texts in (["one"], ["two", "three"], ["x" * 300_000], ["four"]):
            end = log.add(*texts)
            found = backend.tip("s")
            assert (found.digest, found.seq, found.offset) == (end.digest, end.seq, end.offset)

    def test_a_tip_that_was_read_can_be_appended_behind(self, backend: Backend) -> None:
        """A log can be appended to after a tip that was read."""
        log = Stretch(backend, "s", "one")
        data, tip = log.seal("two")
        here = with_life(backend.tip("s"), backend.read("s").life)
        backend.append("s", data, expect=here, tip=tip)
        assert backend.tip("s").seq == 2

    # --- reading

    def test_reading_behind_each_number_gives_the_rest(self, backend: Backend) -> None:
        """Reading after each number returns the rest."""
        log = Stretch(backend, "s", "one")
        log.add("two", "three")
        log.add("four")
        lines = log.lines()
        for after in range(5):
            assert content(backend, "s", after) == b"".join(lines[after:])
            assert backend.read("s", after).offset == sum(map(len, lines[:after]))

    def test_reading_behind_each_tip_gives_the_rest_whatever_its_offset_says(self, backend: Backend) -> None:
        """Reading after each tip returns the rest, whatever its offset is."""
        log = Stretch(backend, "s", "one")
        log.add("two", "three")
        log.add("four")
        for end in log.tips:
            rest = b"".join(log.lines()[end.seq :])
            assert content(backend, "s", end) == rest
            for offset in (0, 1, end.offset - 1, 10**12):
                assert content(backend, "s", Tip(end.digest, offset, end.seq, end.at)) == rest

    def test_reading_up_to_a_line_gives_at_least_that_line(self, backend: Backend) -> None:
        """Reading up to a line gives at least that line."""
        log = Stretch(backend, "s", *"abcdef")
        for upto in range(1, 7):
            found = b"".join(backend.read("s", 1, upto).chunks)
            assert found.startswith(b"".join(log.lines()[1:upto]))
            assert log.data[len(log.lines()[0]) :].startswith(found)

    def test_reading_behind_the_end_gives_nothing(self, backend: Backend) -> None:
        """Reading after the end returns nothing."""
        log = Stretch(backend, "s", "one")
        assert content(backend, "s", log.tip) == b""
        assert content(backend, "s", 1) == b""
        assert backend.read("s", log.tip).offset == backend.read("s", log.tip).end == len(log.data)

    def test_reading_behind_a_tip_that_the_log_does_not_have_is_moved(self, backend: Backend) -> None:
        """Reading after a tip that the log does not have raises Moved."""
        log = Stretch(backend, "s", "one")
        end = log.add("two")
        for wrong in (
            Tip(log.tips[0].digest, end.offset, end.seq),
            Tip(end.digest, end.offset, end.seq + 1),
            Tip(b"\0" * 32, end.offset, end.seq),
            with_life(end, "another life"),
        ):
            with pytest.raises(Moved):
                backend.read("s", wrong)

    def test_a_reading_ends_where_the_log_ended_at_the_call(self, backend: Backend) -> None:
        """A reading ends where the log ended at the call."""
        log = Stretch(backend, "s", "one")
        reading, before = backend.read("s"), log.data
        log.add("two")
        assert b"".join(reading.chunks) == before

    @pytest.mark.parametrize("mebibytes", [1, 2, 4])
    def test_a_long_line_is_one_line(self, backend: Backend, mebibytes: int) -> None:
        """A long line is one line."""
        log = Stretch(backend, "s", "one")
        log.add("x" * (mebibytes * 1024 * 1024))
        log.add("three")
        assert content(backend, "s") == log.data
        assert content(backend, "s", 2) == log.lines()[2]
        assert content(backend, "s", with_life(log.tips[1], "")) == log.lines()[2]
        assert backend.tip("s").seq == 3

    def test_many_lines_are_read_in_order(self, backend: Backend) -> None:
        """Many lines are read in order."""
        log = Stretch(backend, "s")
        for start in range(0, 1_000, 100):
            log.add(*map(str, range(start, start + 100)))
        assert content(backend, "s") == log.data
        assert content(backend, "s", 731) == b"".join(log.lines()[731:])

    # --- two handles on one store

    def test_another_handle_reads_what_this_one_appended_and_appends_behind_it(
        self, backend: Backend, again: Again
    ) -> None:
        """Another handle reads what this one appended, and appends after it."""
        log, other = Stretch(backend, "s", "one"), again()
        assert content(other, "s") == log.data
        log.add("two", backend=other)
        log.add("three")
        assert content(other, "s") == content(backend, "s") == log.data

    def test_of_two_handles_that_append_behind_one_tip_one_is_moved(self, backend: Backend, again: Again) -> None:
        """If two handles append after the same tip, one gets Moved."""
        log, other = Stretch(backend, "s", "one"), again()
        (mine, mine_end), (theirs, their_end) = log.seal("mine"), log.seal("theirs")
        other.append("s", theirs, expect=log.tip, tip=their_end)
        with pytest.raises(Moved):
            backend.append("s", mine, expect=log.tip, tip=mine_end)
        assert content(backend, "s") == log.data + theirs

    def test_a_log_that_was_deleted_and_made_again_is_another(self, backend: Backend, again: Again) -> None:
        """A log that was deleted and made again is another."""
        log, other = Stretch(backend, "s", "one"), again()
        data, tip = log.seal("two")
        assert other.delete("s", expect=None)
        other.append("s", log.data, expect=None, tip=with_life(log.tip, ""))
        assert other.read("s").life != log.tip.life
        with pytest.raises(Moved):
            backend.append("s", data, expect=log.tip, tip=tip)
        with pytest.raises(Moved):
            backend.read("s", log.tip)
        assert content(backend, "s") == log.data

    def test_a_log_that_was_moved_away_and_made_again_is_another(self, backend: Backend, again: Again) -> None:
        """A log that was moved away and made again is another."""
        log, other = Stretch(backend, "s", "one"), again()
        data, tip = log.seal("two")
        other.move("s", "_trash/s", expect=None)
        with pytest.raises(Missing):
            backend.append("s", data, expect=log.tip, tip=tip)
        fresh = Stretch(other, "s", "fresh")
        with pytest.raises(Moved):
            backend.append("s", data, expect=log.tip, tip=tip)
        assert content(backend, "s") == fresh.data
        assert content(backend, "_trash/s") == log.data

    def test_a_key_of_a_log_that_was_deleted_is_not_known(self, backend: Backend) -> None:
        """A key of a log that was deleted is not known."""
        if not backend.capabilities.keeps_tip:
            pytest.skip("the backend keeps no keys: the engine does")
        log = Stretch(backend, "s")
        data, tip = log.seal("one")
        backend.append("s", data, expect=None, tip=tip, keys=[("k", 1, 1)])
        assert backend.find_key("s", "k") == (1, 1)
        assert backend.find_key("s", "other") is None
        backend.delete("s", expect=None)
        Stretch(backend, "s", "fresh")
        assert backend.find_key("s", "k") is None

    def test_many_logs_are_appended_to_in_one_step_and_each_for_itself(self, backend: Backend, again: Again) -> None:
        """One step appends to each log that ends as expected; None is the answer for the others, and nothing is written there."""
        logs = [Stretch(backend, name, "one") for name in ("a", "moved", "gone", "remade", "b")]
        sealed = [log.seal("two", "x" * 5_000) for log in logs]
        swaps = [Swap(log.log, data, log.tip, tip) for log, (data, tip) in zip(logs, sealed, strict=True)]
        swaps[4] = swaps[4]._replace(keys=[("k", 2, 3)])
        if not backend.capabilities.joins_appends:
            with pytest.raises(NotSupported):
                backend.append_many(swaps)
            return
        other = again()
        logs[1].add("theirs", backend=other)
        for name in ("gone", "remade"):
            other.delete(name, expect=None)
        logs[3] = Stretch(other, "remade", "one")
        assert backend.append_many(swaps) == [logs[0].tip.life, None, None, None, logs[4].tip.life]
        for place in (0, 4):
            logs[place].took(*sealed[place])
        for place in (0, 1, 3, 4):
            assert content(again(), logs[place].log) == logs[place].data
        with pytest.raises(Missing):
            backend.read("gone")
        if backend.capabilities.keeps_tip:
            assert backend.find_key("b", "k") == (2, 3)
        data, tip = logs[0].seal("three")
        assert backend.append_many([Swap("a", data, logs[0].tip, tip)]) == [logs[0].tip.life]

    def test_of_many_threads_that_append_behind_one_tip_one_wins(self, backend: Backend) -> None:
        """If many threads append after the same tip, one wins."""
        log = Stretch(backend, "s", "one")
        sealed = [log.seal(str(number)) for number in range(8)]

        def append(piece: tuple[bytes, Tip]) -> bool:
            try:
                backend.append("s", piece[0], expect=log.tip, tip=piece[1])
            except Moved:
                return False
            return True

        with ThreadPoolExecutor(8) as pool:
            assert sum(pool.map(append, sealed)) == 1
        assert content(backend, "s").count(b"\n") == 2

    def test_what_was_acknowledged_is_there_after_close_and_another_opening(
        self, backend: Backend, again: Again
    ) -> None:
        """What was acknowledged is there after close and another opening."""
        log = Stretch(backend, "s", "one")
        data, tip = log.seal("two")
        tip.life = backend.append("s", data, expect=log.tip, tip=tip, sync=False)
        log.took(data, tip)
        backend.sync("s", tip)
        backend.flush()
        backend.close()
        backend.close()
        assert content(again(), "s") == log.data
        log.add("three")
        assert content(backend, "s") == log.data
