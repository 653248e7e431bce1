"""Each operation of the port, with each fault at each of its requests: its answer is right, or nobody can know."""

from collections.abc import Callable
from itertools import count

import pytest
from breaking.object_front import Fault, Front, MemoryObjects, Request
from interrupting import ends, interrupted_at
from obstore.store import MemoryStore

from eventstore.backends.objectstore import ObjectOptions, ObjectsBackend
from eventstore.backends.objectstore.address import open_objects
from eventstore.backends.objectstore.keys import lock_key
from eventstore.log.contract.stretch import Stretch, content
from eventstore.log.port import Exists, Missing, Moved, Tip

NOTE = "checkpoints/000000000001-00000000.note"
FAULTS = [one for one in Fault if one is not Fault.HALF]
# A text long enough that it never stands in a salt or a digest by chance.
TEXT, STARS = b"x" * 500, b"*" * 500
SMALL = {"tail_bytes": 600, "merge": 3, "lease_seconds": 1}


class Case:
    """A store with a log `s` of three lines in segments and a tail, a note beside it, and a log in the trash."""

    def __init__(self, front: Front) -> None:
        self.front, self.objects = front, MemoryObjects()
        front.answer, front.script = self.objects, lambda request: None
        self.backend = self.again()
        self.log = Stretch(self.backend, "s", "one")
        self.log.add(TEXT.decode())
        self.log.add("three")
        self.backend.put_blob("s", NOTE, b"note")
        Stretch(self.backend, "old", "old")
        self.backend.move("old", "_trash/old", expect=None)

    def again(self) -> ObjectsBackend:
        return open_objects(self.front.url("p", **SMALL))

    def append(self) -> None:
        data, tip = self.log.seal("four" * 100)
        assert self.backend.append("s", data, expect=self.log.tip, tip=tip) == self.log.tip.life
        assert content(self.again(), "s") == self.log.data + data

    def create(self) -> None:
        data, tip = Stretch(self.backend, "n").seal("new")
        life = self.backend.append("n", data, expect=None, tip=tip)
        assert self.again().read("n").life == life
        assert content(self.again(), "n") == data

    def create_over_a_tombstone(self) -> None:
        data, tip = Stretch(self.backend, "old").seal("new")
        self.backend.append("old", data, expect=None, tip=tip)
        assert content(self.again(), "old") == data
        assert self.again().trashed() == ["old"]

    def write_whole(self) -> None:
        def fill(write: Callable[[bytes], None]) -> Tip:
            write(self.log.data)
            end = self.log.tip
            return Tip(end.digest, end.offset, end.seq, end.at)

        self.backend.write_whole("w", fill, [(NOTE, [b"note"])], expect=None)
        assert content(self.again(), "w") == self.log.data
        assert self.again().blobs("w") == [NOTE]

    def overwrite(self) -> None:
        first, second, _ = self.log.lines()
        self.backend.overwrite("s", 2, len(first), second.replace(TEXT, STARS))
        assert content(self.again(), "s") == self.log.data.replace(TEXT, STARS)
        assert not any(TEXT[:10] in data for data in self.objects.objects.values())

    def cut(self) -> None:
        first, *rest = self.log.lines()
        cut = self.backend.cut("s", self.log.tips[0])
        assert content(self.again(), "s") == first
        assert b"".join(self.again().get_blob("s", cut.quarantine)) == b"".join(rest)

    def move(self) -> None:
        self.backend.move("s", "_trash/s", expect=self.log.tip)
        assert content(self.again(), "_trash/s") == self.log.data
        with pytest.raises(Missing):
            self.again().read("s")

    def delete(self) -> None:
        assert self.backend.delete("s", expect=self.log.tip)
        assert not [key for key in self.objects.objects if "/l/" in key]
        with pytest.raises(Missing):
            self.again().read("s")

    def blobs(self) -> None:
        self.backend.put_blob("s", NOTE, b"other")
        assert b"".join(self.again().get_blob("s", NOTE)) == b"other"
        self.backend.delete_blob("s", NOTE)
        assert self.again().blobs("s") == []

    def lock(self) -> None:
        with self.backend.lock("log/s"):
            pass
        with self.again().lock("log/s"):
            pass

    def look(self) -> None:
        assert [name for name, text in self.backend.changed().logs if text] == ["s"]
        assert self.backend.trashed() == ["old"]


OPERATIONS = [name for name, value in vars(Case).items() if callable(value) and not name.startswith("_")]
OPERATIONS.remove("again")


@pytest.fixture
def case(front: Front) -> Case:
    return Case(front)


@pytest.mark.parametrize("name", OPERATIONS)
def test_an_operation_has_one_outcome_whatever_happens_to_one_of_its_requests(front: Front, name: str) -> None:
    case = Case(front)
    front.forget()
    getattr(case, name)()
    count = min(len(front.requests), 8)
    assert count
    for fault in FAULTS:
        for number in range(count):
            case = Case(front)
            try:
                _fail_at(front, number, fault)
                getattr(case, name)()
                front.script = lambda request: None
                _check(case)
            except Exception as error:
                raise AssertionError(f"{name}: request {number} of {count}, {fault}: {error!r}") from error


def _fail_at(front: Front, number: int, fault: Fault) -> None:
    left = [number]

    def script(request: Request) -> Fault | None:
        left[0] -= 1
        return fault if left[0] == -1 else None

    front.script = script


def _check(case: Case) -> None:
    """Whatever was done: each log can be read, and each is at one name."""
    fresh = case.again()
    names = {name for name, text in fresh.changed().logs if text} | {f"_trash/{one}" for one in fresh.trashed()}
    assert not {"s", "_trash/s"} <= names
    for name in names:
        content(fresh, name)


def test_who_loses_against_another_is_told_so_and_leaves_no_segment(case: Case) -> None:
    data, tip = case.log.seal("y" * 700)
    other = case.again()
    other.read("s")
    case.log.add("four", backend=other)
    before = {key for key in case.objects.objects if "/s/" in key}
    with pytest.raises(Moved):
        case.backend.append("s", data, expect=case.log.tips[-2], tip=tip)
    with pytest.raises(Exists):
        case.backend.append("s", data, expect=None, tip=tip)
    assert {key for key in case.objects.objects if "/s/" in key} == before


def test_segments_are_merged_and_what_was_merged_goes(case: Case) -> None:
    for number in range(40):
        case.log.add(f"{number}" * 150)
    assert content(case.again(), "s") == case.log.data
    assert sum(1 for key in case.objects.objects if "/s/" in key) <= 9


def test_a_reading_goes_on_where_segments_were_merged_or_lines_overwritten_meanwhile(case: Case) -> None:
    for number in range(5):
        case.log.add(f"{number}" * 150)
    before = case.log.data
    reading = case.again().read("s")
    chunks = [next(reading.chunks)]
    for number in range(30):
        case.log.add(f"{number}" * 150)
    first, second, _ = case.log.lines()[:3]
    case.backend.overwrite("s", 2, len(first), second.replace(TEXT, STARS))
    chunks += reading.chunks
    assert b"".join(chunks) in (before, before.replace(TEXT, STARS))


def test_the_lock_of_a_killed_holder_is_free_after_its_lease(case: Case) -> None:
    case.backend._objects.swap("k/log/s", b"somebody who was killed", None)
    with case.backend.lock("log/s"):
        assert not case.objects.objects["p/k/log/s"].startswith(b"somebody")


def test_a_ctrl_c_anywhere_in_a_lock_lets_its_lease_end() -> None:
    """A thread renewed it for as long as the process lived, and all others waited; or this process took none any more."""
    objects = MemoryStore()

    def opened() -> ObjectsBackend:
        return ObjectsBackend(objects, options=ObjectOptions(lease_seconds=0.05))

    def held(backend: ObjectsBackend) -> None:
        with backend.lock("a"), backend.lock("a"):
            pass

    backend = opened()
    for number in count(1):
        if not interrupted_at(number, ("objectstore/locks.py", "contextlib.py"), lambda: held(backend)):
            break
        for one in (opened(), backend):
            assert ends(lambda: held(one)), number  # noqa: B023 - used at once
        with backend.lock("a"):
            assert not bytes(objects.get(lock_key("a")).bytes()).startswith(b"free"), number
    assert number > 10
