"""Where subscriptions stand: kept in the backend, whatever it is, at a bounded cost, and read for as long as somebody may ask."""

import os
from collections.abc import Callable
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import pytest

from eventstore import (
    Delivered,
    EventLog,
    FileSystemSessionStorage,
    SessionManager,
    SessionStorage,
)
from eventstore.backends.memory import MemoryBackend
from eventstore.errors import CursorRefused, PositionNotSaved
from eventstore.log.contract import said
from eventstore.log.port import Refused
from eventstore.subscriptions.positions import today

Key = tuple[str, int]


class SmallDisk(MemoryBackend):
    """Counts what is written to blobs, and refuses to write any while it is full."""

    def __init__(self) -> None:
        super().__init__()
        self.puts, self.bytes, self.is_full = 0, 0, False

    def put_blob(self, log: str, name: str, data: bytes) -> None:
        if self.is_full:
            raise Refused(f"{log}/{name}", 28)
        self.puts, self.bytes = self.puts + 1, self.bytes + len(data)
        super().put_blob(log, name, data)


@pytest.fixture
def disk() -> SmallDisk:
    return SmallDisk()


def on(backend: MemoryBackend) -> SessionManager:
    """A manager of another program on the same store."""
    return SessionManager(SessionStorage(EventLog(backend)))


def key(one: Delivered) -> Key:
    return one.session_id, one.event.seq


def rest(manager: SessionManager, after: Any = None, **options: Any) -> list[Delivered]:
    with manager.follow(None, after, live=False, **options) as subscription:
        return list(subscription)


def create(manager: SessionManager, count: int, prefix: str = "s") -> None:
    for n in range(count):
        manager.storage.log.append(f"{prefix}{n}", [said("a")], expected_version=0)


def say(manager: SessionManager, session_id: str) -> None:
    manager.storage.log.append(session_id, [said("b")])


def journals(storage: SessionStorage) -> list[str]:
    return [name for name in storage.log.backend.blobs("_cursors") if name.endswith(".journal")]


def day(ago: int) -> str:
    return f"{datetime.now(UTC) - timedelta(days=ago):%Y%m%d}"


# --- what is written


def test_a_named_position_is_there_in_another_program_on_the_same_backend(disk: SmallDisk) -> None:
    manager = on(disk)
    create(manager, 20)
    assert len(rest(manager, name="n")) == 20
    say(manager, "s3")
    assert [key(one) for one in rest(on(disk), name="n")] == [("s3", 2)]
    with on(disk).follow("s3", name="one", live=False) as one:
        assert len(list(one)) == 2
    with on(disk).follow("s3", name="one", live=False) as one:
        assert list(one) == []


@pytest.mark.parametrize("after", [None, "now"])
def test_a_subscription_whose_cursor_nobody_asks_for_writes_nothing(disk: SmallDisk, after: str | None) -> None:
    manager = on(disk)
    create(manager, 1000)
    with manager.follow(None, after) as subscription:
        say(manager, "s7")
        create(manager, 1, "t")
        while key(next(subscription)) != ("t0", 1):
            pass
    assert disk.puts == 0
    assert disk.blobs("_cursors") == []


def test_cursors_of_few_sessions_need_no_journal(manager: SessionManager) -> None:
    create(manager, 8)
    everything = rest(manager)
    for place, one in enumerate(everything, 1):
        assert sorted(map(key, rest(manager, one.cursor))) == sorted(map(key, everything[place:]))
        assert len(one.cursor) < 600
    assert journals(manager.storage) == []


def test_every_cursor_of_many_sessions_goes_on_behind_its_event(manager: SessionManager) -> None:
    create(manager, 60)
    with manager.follow(live=False) as subscription:
        found = [(key(one), one.cursor) for one in subscription]
    for place, (_, cursor) in enumerate(found, 1):
        assert {key(one) for one in rest(manager, cursor)} == {one for one, _ in found[place:]}
        assert len(cursor) < 700
    assert len(journals(manager.storage)) == 1


def test_asking_for_every_cursor_costs_a_bounded_number_of_bytes_and_blobs(disk: SmallDisk) -> None:
    manager = on(disk)
    create(manager, 3000)
    with manager.follow(live=False) as subscription:
        cursors = [one.cursor for one in subscription]
    assert len(cursors) == 3000
    assert disk.puts <= 3000 / 8 + 1
    assert disk.bytes <= disk.puts * 64_000
    assert len(disk.blobs("_cursors")) <= 6
    assert len(rest(manager, cursors[-2])) == 1


def test_runs_from_cursor_to_cursor_write_little_and_read_few_journals(disk: SmallDisk) -> None:
    """A program that is started again and again keeps its cursor in a file of its own."""
    create(on(disk), 200)
    cursor, count = None, 0
    for n in range(100):
        manager = on(disk)
        for place in range(3):
            say(manager, f"s{(7 * n + place) % 200}")
        found = rest(manager, cursor)
        count += len(found)
        cursor = found[-1].cursor
    assert count == 200 + 300
    assert disk.puts <= 60
    assert rest(on(disk), cursor) == []


def test_subscriptions_of_one_program_share_the_journal_of_all_sessions(disk: SmallDisk) -> None:
    manager = on(disk)
    create(manager, 2000)
    with manager.follow(None, "now", live=False) as first:
        cursors = [first.cursor]
    once = disk.bytes
    for n in range(20):
        say(manager, f"s{n}")
        with manager.follow(None, "now", live=False) as other:
            cursors.append(other.cursor)
    assert disk.bytes - once < 20 * 4000 < once
    for place, cursor in enumerate(cursors):
        assert sorted(map(key, rest(manager, cursor))) == sorted((f"s{n}", 2) for n in range(place, 20))


def test_a_named_position_of_many_sessions_is_kept_at_a_bounded_cost(disk: SmallDisk) -> None:
    manager = on(disk)
    create(manager, 1000)
    seen = {key(one) for one in rest(manager, name="n")}
    before = disk.bytes
    for n in range(50):
        say(manager, f"s{n}")
        found = rest(manager, name="n")
        assert [key(one) for one in found] == [(f"s{n}", 2)]
    assert len(seen) == 1000
    assert (disk.bytes - before) / 50 < 30_000


def test_nothing_is_left_of_writing_a_position(files: FileSystemSessionStorage) -> None:
    manager = SessionManager(files)
    create(manager, 20)
    with manager.follow(name="n", live=False) as subscription:
        for one in subscription:
            assert one.cursor
    folder = files.sessions_dir / "_cursors"
    assert {path.suffix for path in folder.iterdir()} == {".cursor", ".journal"}
    assert folder.stat().st_mode & 0o77 == 0
    assert not [path for path in folder.iterdir() if path.stat().st_mode & 0o77]


# --- what goes wrong


def test_a_position_that_cannot_be_saved_is_an_error_and_the_one_before_stays(disk: SmallDisk) -> None:
    manager = on(disk)
    create(manager, 20)
    rest(manager, name="n")
    say(manager, "s1")
    disk.is_full = True
    with manager.follow(name="n", live=False) as subscription:
        found = subscription.take()
        subscription.mark_done(found[0])
        with pytest.raises(PositionNotSaved, match=r"not saved in memory, n\.cursor: No space left"):
            subscription.take()
        disk.is_full = False
    assert rest(manager, name="n") == []


def test_a_cursor_that_cannot_be_written_down_can_be_asked_for_again(disk: SmallDisk) -> None:
    manager = on(disk)
    create(manager, 30)
    with manager.follow(live=False) as subscription:
        found = list(subscription)
        disk.is_full = True
        with pytest.raises(PositionNotSaved):
            _ = found[20].cursor
        assert found[3].cursor
        disk.is_full = False
        behind = rest(manager, found[20].cursor)
    assert sorted(map(key, behind)) == sorted(map(key, found[21:]))


@pytest.mark.parametrize("which", ["the first", "the last"])
def test_a_cursor_whose_journal_was_lost_or_changed_is_refused(
    files: FileSystemSessionStorage, monkeypatch: pytest.MonkeyPatch, which: str
) -> None:
    monkeypatch.setattr("eventstore.subscriptions.journal._FULL_LINES", 4)
    manager = SessionManager(files)
    create(manager, 20)
    with manager.follow(live=False) as subscription:
        cursor = [one.cursor for one in subscription][-1]
    last = files.sessions_dir / "_cursors" / f"{cursor.split(':')[1]}.journal"
    assert last.read_bytes().startswith(b'{"after":')
    first = next(path for path in last.parent.glob("*.journal") if not path.read_bytes().startswith(b"{"))
    journal = first if which == "the first" else last
    data = journal.read_bytes()
    for wrong in (data[:9], data.replace(b'",1,', b'",0,'), b"", b"x" * len(data)):
        assert wrong != data
        journal.write_bytes(wrong)
        with pytest.raises(CursorRefused, match="changed or lost"):
            manager.follow(after=cursor)
    journal.unlink()
    with pytest.raises(CursorRefused, match="no journal"):
        manager.follow(after=cursor)


# --- for how long it is kept


def old_journal(manager: SessionManager, rename: Callable[[str], str]) -> tuple[str, str]:
    """Make a journal, and give it another name: return the cursor with that name, and the blob."""
    with manager.follow(live=False) as subscription:
        cursor = [one.cursor for one in subscription][-1]
    name = cursor.split(":")[1]
    backend = manager.storage.log.backend
    data = b"".join(backend.get_blob("_cursors", f"{name}.journal"))
    backend.delete_blob("_cursors", f"{name}.journal")
    backend.put_blob("_cursors", f"{rename(name)}.journal", data)
    return cursor.replace(name, rename(name)), f"{rename(name)}.journal"


def begin_another(manager: SessionManager) -> None:
    with manager.follow(live=False) as subscription:
        assert [one.cursor for one in subscription]


@pytest.mark.parametrize(("ago", "is_kept"), [(89, True), (119, True), (121, False)])
def test_journals_that_were_not_written_to_for_three_months_are_deleted(
    manager: SessionManager, ago: int, is_kept: bool
) -> None:
    create(manager, 20)
    cursor, blob = old_journal(manager, lambda name: f"{day(ago)}-{name.partition('-')[2]}")
    assert len(rest(manager, cursor)) == 0
    begin_another(manager)
    assert (blob in journals(manager.storage)) == is_kept
    assert len(journals(manager.storage)) == 1 + is_kept


def test_a_journal_that_a_named_position_needs_is_kept(manager: SessionManager) -> None:
    create(manager, 20)
    cursor, blob = old_journal(manager, lambda name: f"{day(400)}-{name.partition('-')[2]}")
    manager.storage.positions.save("n", cursor)
    begin_another(manager)
    assert blob in journals(manager.storage)
    assert rest(manager, name="n") == []


def test_a_cursor_of_an_old_journal_goes_on_without_adding_to_it(manager: SessionManager) -> None:
    create(manager, 20)
    cursor, blob = old_journal(manager, lambda name: f"{day(80)}-{name.partition('-')[2]}")
    create(manager, 20, "t")
    found = rest(manager, cursor)
    assert len(found) == 20
    with manager.follow(None, cursor, live=False) as subscription:
        behind = [one.cursor for one in subscription][14]
    manager.storage.log.backend.delete_blob("_cursors", blob)
    assert len(rest(manager, behind)) == 5


def test_a_subscription_that_runs_for_months_gives_cursors_that_last(
    manager: SessionManager, monkeypatch: pytest.MonkeyPatch
) -> None:
    create(manager, 20)
    with manager.follow() as subscription:
        for _ in range(20):
            first = next(subscription).cursor
        say(manager, "s1")
        second = next(subscription).cursor
        assert first.split(":")[1] == second.split(":")[1]
        monkeypatch.setattr("eventstore.subscriptions.journal.is_too_old", lambda day: day <= today())
        say(manager, "s2")
        third = next(subscription).cursor
    assert third.split(":")[1] != first.split(":")[1]
    manager.storage.log.backend.delete_blob("_cursors", f"{first.split(':')[1]}.journal")
    say(manager, "s3")
    assert [key(one) for one in rest(manager, third)] == [("s3", 2)]


def test_journals_of_0_1_0_are_deleted_three_months_after_they_were_first_seen(manager: SessionManager) -> None:
    create(manager, 20)
    backend = manager.storage.log.backend
    backend.put_blob("_cursors", "0123456789abcdef01234567.journal", b"")
    begin_another(manager)
    assert backend.blobs("_cursors")[0] == "0123456789abcdef01234567.journal"
    assert f"undated-{day(0)}" in backend.blobs("_cursors")
    backend.delete_blob("_cursors", f"undated-{day(0)}")
    backend.put_blob("_cursors", f"undated-{day(121)}", b"")
    begin_another(manager)
    begin_another(manager)
    assert all(name.startswith("20") for name in backend.blobs("_cursors"))


def test_cursors_of_0_1_0_are_read(manager: SessionManager) -> None:
    """Its journals had one line for each session, and its cursors one event behind that."""
    create(manager, 20)
    with manager.follow(live=False) as subscription:
        cursors = [one.cursor for one in subscription]
    name, size, check, place = cursors[-1].split(":", 4)[1:]
    data = b"".join(manager.storage.log.backend.get_blob("_cursors", f"{name}.journal"))
    manager.storage.log.backend.put_blob("_cursors", "0123456789abcdef01234567.journal", data)
    last = place.rpartition(",")[2]
    old = f"2:0123456789abcdef01234567:{size}:{check}:1:{last}"
    lines = data[: int(size)].count(b"\n")
    assert len(rest(manager, old)) == 20 - lines - 1
    assert len(rest(manager, f"2:0123456789abcdef01234567:{size}:{check}:")) == 20 - lines
    with manager.follow(None, old, live=False) as subscription:
        assert len(rest(manager, subscription.cursor)) == 20 - lines - 1


def test_named_positions_of_files_lie_below_the_sessions(tmp_path: Path) -> None:
    with FileSystemSessionStorage(tmp_path / "s", tmp_path / "h", fsync="no") as storage:
        create(SessionManager(storage), 2)
        rest(SessionManager(storage), name="n")
        assert (tmp_path / "s" / "_cursors" / "n.cursor").read_text("ascii").startswith("3::0::s0:1:")


def test_a_program_killed_while_it_saves_leaves_nothing_for_ever(files: FileSystemSessionStorage) -> None:
    manager = SessionManager(files)
    create(manager, 20)
    for _ in range(3):
        child = os.fork()
        if not child:
            try:
                os.replace = lambda *_, **__: os._exit(9)
                begin_another(manager)
            finally:
                os._exit(1)
        assert os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]) == 9
    folder = files.sessions_dir / "_cursors"
    assert [path.name for path in folder.iterdir()] == [".blob.new"]
    begin_another(manager)
    assert {path.suffix for path in folder.iterdir()} == {".journal"}
