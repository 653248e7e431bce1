"""Promises of a backend about complete logs: replacing, moving, deleting, blobs, locks, and changes."""

import threading
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import suppress

import pytest

from eventstore.errors import NotSupported
from eventstore.log.contract.sample import await_change
from eventstore.log.contract.stretch import Stretch, content, pieces
from eventstore.log.port import Backend, Exists, Missing, Moved, Tip

Again = Callable[[], Backend]
NOTE = "checkpoints/000000000001-00000000.note"
OTHER_NOTE = "checkpoints/000000000002-00000000.note"


class Interrupted(Exception):
    """Raised while a complete log is being written."""


def whole(data: bytes, end: Tip) -> Callable[[Callable[[bytes], None]], Tip]:
    """Return a function that fills a log, in pieces of any size."""

    def fill(write: Callable[[bytes], None]) -> Tip:
        for piece in pieces(data):
            write(piece)
        return Tip(end.digest, end.offset, end.seq, end.at)

    return fill


def named(backend: Backend, since: str | None = None) -> dict[str, str | None]:
    """Return what changed, by name."""
    return dict(backend.changed(since).logs)


class WholeLogsContract:
    """Writing, changing and removing complete logs and their blobs."""

    # --- written completely

    def test_a_log_written_whole_is_seen_at_the_end_and_not_before(self, backend: Backend, again: Again) -> None:
        """A complete log is visible only after all of it was written."""
        log, other, seen = Stretch(backend, "t", "one"), again(), []

        def fill(write: Callable[[bytes], None]) -> Tip:
            write(log.data[:10])
            seen.append(named(other).get("s"))
            with pytest.raises(Missing):
                other.read("s")
            write(log.data[10:])
            return Tip(log.tip.digest, log.tip.offset, log.tip.seq, log.tip.at)

        life = backend.write_whole("s", fill, [(NOTE, [b"no", b"te"])], expect=None)
        assert seen == [None]
        assert content(other, "s") == log.data
        assert other.read("s").life == life
        assert b"".join(other.get_blob("s", NOTE)) == b"note"

    def test_what_fill_raises_comes_out_and_nothing_is_written(self, backend: Backend) -> None:
        """What fill raises comes out and nothing is written."""

        def fill(write: Callable[[bytes], None]) -> Tip:
            write(b"half")
            raise Interrupted

        with pytest.raises(Interrupted):
            backend.write_whole("s", fill, expect=None)
        with pytest.raises(Missing):
            backend.read("s")
        log = Stretch(backend, "s", "one")
        with pytest.raises(Interrupted):
            backend.write_whole("s", fill, expect=log.tip)
        assert content(backend, "s") == log.data

    def test_a_log_that_is_there_is_not_written_whole_as_a_new_one(self, backend: Backend) -> None:
        """An existing log is not replaced by a new complete one."""
        log, other = Stretch(backend, "s", "one"), Stretch(backend, "t", "other")
        with pytest.raises(Exists):
            backend.write_whole("s", whole(other.data, other.tip), expect=None)
        assert content(backend, "s") == log.data

    def test_replacing_a_log_keeps_its_blobs_and_needs_its_tip(self, backend: Backend) -> None:
        """Replacing a log keeps its blobs and needs its tip."""
        log, other = Stretch(backend, "s", "one"), Stretch(backend, "t", "other", "lines")
        backend.put_blob("s", NOTE, b"note")
        stale = log.tip
        log.add("two")
        with pytest.raises(Moved):
            backend.write_whole("s", whole(other.data, other.tip), expect=stale)
        assert content(backend, "s") == log.data
        backend.write_whole("s", whole(other.data, other.tip), expect=log.tip)
        assert content(backend, "s") == other.data
        assert backend.blobs("s") == [NOTE]
        with pytest.raises(Missing):
            backend.write_whole("u", whole(other.data, other.tip), expect=log.tip)

    # --- overwritten and cut

    def test_a_line_is_overwritten_in_its_place_only(self, backend: Backend) -> None:
        """A line is overwritten in its place only."""
        log = Stretch(backend, "s", "one", "two", "three")
        first, second, third = log.lines()
        new = second.replace(b"two", b"***")
        backend.overwrite("s", 2, len(first), new)
        assert content(backend, "s") == first + new + third
        for seq, offset, line in ((2, len(first), new[1:]), (1, len(first), new), (2, 3, new), (9, len(first), new)):
            with pytest.raises(Moved):
                backend.overwrite("s", seq, offset, line)
        with pytest.raises(Missing):
            backend.overwrite("t", 1, 0, first)
        assert content(backend, "s") == first + new + third

    def test_a_reader_with_a_life_learns_of_an_overwritten_line(self, backend: Backend) -> None:
        """A reader with a life learns of an overwritten line."""
        log = Stretch(backend, "s", "one", "two")
        first, second = log.lines()
        log.add("three")
        backend.overwrite("s", 2, len(first), second.replace(b"two", b"***"))
        try:
            found = content(backend, "s", log.tip)
        except Moved:
            found = b""
        assert found == b""

    def test_what_is_cut_is_kept_in_a_blob(self, backend: Backend) -> None:
        """What is cut is kept in a blob."""
        log = Stretch(backend, "s", "one")
        here = log.tip
        log.add("two", "three")
        cut = backend.cut("s", here)
        first, *behind = log.lines()
        assert content(backend, "s") == first
        assert cut.removed_bytes == len(b"".join(behind))
        assert cut.quarantine in backend.blobs("s")
        assert b"".join(backend.get_blob("s", cut.quarantine)) == b"".join(behind)
        with pytest.raises(Moved):
            backend.cut("s", log.tip)
        with pytest.raises(Missing):
            backend.cut("t", here)

    # --- moved and deleted

    def test_a_moved_log_has_its_lines_and_blobs_under_the_other_name(self, backend: Backend, again: Again) -> None:
        """A moved log has its lines and blobs under the other name."""
        log, other = Stretch(backend, "s", "one"), again()
        backend.put_blob("s", NOTE, b"note")
        backend.move("s", "_trash/s~2", expect=log.tip)
        assert other.trashed() == ["s~2"]
        assert content(other, "_trash/s~2") == log.data
        assert b"".join(other.get_blob("_trash/s~2", NOTE)) == b"note"
        with pytest.raises(Missing):
            other.read("s")
        other.move("_trash/s~2", "s", expect=None)
        assert backend.trashed() == []
        assert content(backend, "s") == log.data

    def test_nothing_moves_onto_a_log_or_from_another_tip(self, backend: Backend) -> None:
        """Nothing moves onto a log or from another tip."""
        log, other = Stretch(backend, "s", "one"), Stretch(backend, "_trash/s", "other")
        with pytest.raises(Exists):
            backend.move("s", "_trash/s", expect=None)
        stale = log.tip
        log.add("two")
        with pytest.raises(Moved):
            backend.move("s", "_trash/s~2", expect=stale)
        with pytest.raises(Missing):
            backend.move("t", "_trash/t", expect=None)
        assert content(backend, "s") == log.data
        assert content(backend, "_trash/s") == other.data
        assert backend.trashed() == ["s"]

    def test_a_log_is_deleted_with_its_blobs_and_once(self, backend: Backend, again: Again) -> None:
        """A log is deleted with its blobs and once."""
        log = Stretch(backend, "s", "one")
        backend.put_blob("s", NOTE, b"note")
        stale = log.tip
        log.add("two")
        with pytest.raises(Moved):
            backend.delete("s", expect=stale)
        assert content(backend, "s") == log.data
        assert backend.delete("s", expect=log.tip)
        assert not again().delete("s", expect=None)
        with pytest.raises(Missing):
            backend.blobs("s")
        Stretch(backend, "s", "fresh")
        assert backend.blobs("s") == []

    # --- blobs

    def test_blobs_are_listed_sorted_replaced_as_a_whole_and_deleted(self, backend: Backend, again: Again) -> None:
        """Blobs are listed in order, replaced completely, and deleted."""
        Stretch(backend, "s", "one")
        for name, data in ((OTHER_NOTE, b"b"), (NOTE, b"old"), (NOTE, b"x" * 300_000)):
            backend.put_blob("s", name, data)
        assert again().blobs("s") == [NOTE, OTHER_NOTE]
        assert b"".join(again().get_blob("s", NOTE)) == b"x" * 300_000
        backend.delete_blob("s", NOTE)
        backend.delete_blob("s", NOTE)
        assert backend.blobs("s") == [OTHER_NOTE]
        with pytest.raises(Missing):
            backend.get_blob("s", NOTE)

    def test_blobs_of_a_log_that_is_not_there_are_missing(self, backend: Backend) -> None:
        """Blobs of a log that is not there are missing."""
        with pytest.raises(Missing):
            backend.blobs("s")
        with pytest.raises(Missing):
            backend.get_blob("s", NOTE)
        with pytest.raises(Missing):
            backend.put_blob("s", NOTE, b"x")

    # --- locks

    def test_a_lock_keeps_others_out_and_lets_its_thread_in_again(self, backend: Backend, again: Again) -> None:
        """A lock keeps others out and lets its thread in again."""
        for log in ("s", "t"):
            Stretch(backend, log, "one")
        other, inside, done = again(), threading.Event(), threading.Event()

        def wait_for_it() -> None:
            inside.set()
            with other.lock("log/s"):
                done.set()

        with ThreadPoolExecutor(1) as pool:
            with backend.lock("log/s"), backend.lock("log/s"):
                waiting = pool.submit(wait_for_it)
                assert inside.wait(60)
                assert not done.wait(0.05)
                with other.lock("log/t") if backend is other else backend.lock("log/t"):
                    pass
            waiting.result(30)
        assert done.is_set()

    def test_who_holds_the_lock_of_a_log_appends_to_it(self, backend: Backend) -> None:
        """Who holds the lock of a log appends to it."""
        log = Stretch(backend, "s", "one")
        with backend.lock("log/s"):
            log.add("two")
        assert content(backend, "s") == log.data

    # --- what changed

    def test_everything_changed_since_nothing_or_an_unknown_token(self, backend: Backend) -> None:
        """Everything changed since nothing or an unknown token."""
        Stretch(backend, "s", "one")
        Stretch(backend, "t", "one")
        Stretch(backend, "_trash/u", "one")
        for since in (None, "", "no such token", "é:0"):
            assert sorted(name for name, text in named(backend, since).items() if text) == ["s", "t"]

    def test_where_nothing_changed_nothing_is_named_and_later_it_is(self, backend: Backend, again: Again) -> None:
        """Where nothing changed nothing is named and later it is."""
        log, other = Stretch(backend, "s", "one"), again()
        Stretch(backend, "t", "one")
        token = backend.changed().token
        token = backend.changed(token).token
        before = named(backend)["s"]
        log.add("two", backend=other)
        found = named(backend, token)
        assert found["s"] not in (None, before)

    def test_each_change_of_a_log_changes_its_text(self, backend: Backend, again: Again) -> None:
        """Each change of a log changes its text."""
        log, other = Stretch(backend, "s", "one"), again()
        for step in self._steps(backend, log, other):
            before = backend.changed()
            step()
            found = backend.changed(before.token)
            text = dict(found.logs).get("s")
            assert found.complete or "s" in dict(found.logs)
            assert text != dict(before.logs).get("s")
            assert named(backend).get("s") == text

    def _steps(self, backend: Backend, log: Stretch, other: Backend) -> Iterator[Callable[[], object]]:
        data = log.data
        yield lambda: log.add("two")
        yield lambda: log.add("three", backend=other)
        yield lambda: backend.overwrite("s", 1, 0, log.lines()[0].replace(b"one", b"***"))
        yield lambda: other.delete("s", expect=None)
        yield lambda: other.append("s", data, expect=None, tip=Tip(b"\1" * 32, len(data), 1))
        yield lambda: other.move("s", "_trash/s", expect=None)
        yield lambda: other.move("_trash/s", "s", expect=None)

    def test_a_log_that_is_gone_is_named_with_none_or_not_named_where_all_are(
        self, backend: Backend, again: Again
    ) -> None:
        """A removed log is named with None, or not named if all logs are."""
        Stretch(backend, "s", "one")
        token = backend.changed().token
        again().delete("s", expect=None)
        found = backend.changed(token)
        assert found.logs == ([] if found.complete and not found.logs else [("s", None)])

    def test_a_watch_reports_what_changes(self, backend: Backend, again: Again) -> None:
        """A watch reports what changes."""
        log, other = Stretch(backend, "s", "one"), again()
        with backend.watch("s") as one, backend.watch(None) as every:
            for watch in (one, every):
                await_change(watch, "s", lambda: log.add("more", backend=other))
            await_change(every, "s", lambda: other.delete("s", expect=None))

    # --- capabilities

    def test_a_place_is_named_without_a_password(self, backend: Backend) -> None:
        """A place is named without a password."""
        assert backend.where("s")
        assert "password" not in backend.where("s")

    def test_whether_a_log_is_open_is_answered_or_said_to_be_unknown(self, backend: Backend) -> None:
        """Whether a log is open is answered or said to be unknown."""
        log = Stretch(backend, "s", "one")
        if backend.capabilities.shows_writers:
            assert backend.is_open("s")
            with suppress(Missing):
                assert not backend.is_open("t")
        else:
            with pytest.raises(NotSupported):
                backend.is_open(log.log)
        if not backend.capabilities.keeps_tip:
            with pytest.raises(NotSupported):
                backend.find_key("s", "k")
