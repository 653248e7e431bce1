"""How many requests the everyday operations make, and what comes of them when answers fail; counted by a server of HTTP."""

import errno
import os
from collections import Counter
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from contextlib import suppress

import pytest
from breaking.object_front import Answer, Fault, Front, MemoryObjects, Request

from eventstore import EventLog, SessionManager, open_store
from eventstore.backends.objectstore import objects
from eventstore.backends.objectstore.address import open_objects
from eventstore.errors import (
    AppendRefused,
    EventStoreError,
    OutcomeUnknown,
    ReadRefused,
    SessionExists,
    SessionNotFound,
)
from eventstore.events import MessageAdded, SessionCreated
from eventstore.log.base import Appended
from eventstore.log.contract.sample import said


@pytest.fixture
def open_log(front: Front) -> Callable[..., EventLog]:
    return lambda **query: EventLog(open_objects(front.url("p", **query)))


@pytest.fixture
def log(open_log: Callable[..., EventLog]) -> EventLog:
    log = open_log()
    log.append("s", [SessionCreated()], expected_version=0)
    log.append("s", [said("one")])
    return log


def texts(log: EventLog, name: str = "s") -> list[str]:
    return [event.content for event in log.read(name) if isinstance(event, MessageAdded)]


# --- the budget


def test_an_append_is_one_put(front: Front, log: EventLog) -> None:
    front.forget()
    log.append("s", [said("two", "k")], expected_version=2)
    assert front.counts() == {"PUT": 1}
    front.forget()
    log.append("n", [SessionCreated()], expected_version=0)
    assert front.counts() == {"PUT": 1}


def test_opening_a_log_is_one_get(front: Front, log: EventLog, open_log: Callable[..., EventLog]) -> None:
    fresh = open_log()
    front.forget()
    assert fresh.head("s").version == 2
    assert front.counts() == {"GET": 1}
    front.forget()
    fresh.append("s", [said("two")])
    assert front.counts() == {"PUT": 1}


def test_a_long_log_costs_little_more_than_one_put_an_append(front: Front, log: EventLog) -> None:
    front.forget()
    for _ in range(400):
        log.append("s", [said("x" * 300)])
    assert front.counts()["PUT"] <= 400 * 1.02
    assert set(front.counts()) == {"PUT"}
    assert max(len(one.body) for one in front.requests) < 34_000


def test_a_look_at_what_changed_is_one_list(front: Front, log: EventLog) -> None:
    token = log.changed().token
    front.forget()
    assert log.changed(token).logs == []
    assert front.counts() == {"LIST": 1}


def test_callers_who_come_together_are_written_together(front: Front, log: EventLog) -> None:
    log = EventLog(open_objects(front.url("p", write_seconds=2)))
    log.append("s", [said("first")])
    front.forget()
    with ThreadPoolExecutor(64) as pool:
        list(pool.map(lambda n: log.append("s", [said(f"{n}")]), range(256)))
    assert front.counts()["PUT"] <= 256 * 0.05
    assert sorted(texts(log)[-256:]) == sorted(map(str, range(256)))


# --- answers that fail


@pytest.mark.parametrize("fault", [one for one in Fault if one is not Fault.HALF])
def test_an_append_is_settled_whatever_happens_to_its_request(front: Front, log: EventLog, fault: Fault) -> None:
    with front.failing(fault):
        assert log.append("s", [said("two")]) == Appended(3, 3)
    assert log.append("s", [said("three")]) == Appended(4, 4)
    assert texts(EventLog(open_objects(front.url("p")))) == ["one", "two", "three"]


@pytest.mark.parametrize("fault", [one for one in Fault if one is not Fault.HALF])
def test_a_session_is_created_once_whatever_happens_to_its_request(front: Front, log: EventLog, fault: Fault) -> None:
    with front.failing(fault):
        log.append("n", [SessionCreated(), said("new")], expected_version=0)
    assert texts(EventLog(open_objects(front.url("p"))), "n") == ["new"]


@pytest.mark.parametrize("fault", [one for one in Fault if one is not Fault.HALF])
@pytest.mark.parametrize("number", range(3))
def test_a_move_is_made_whatever_happens_to_one_of_its_requests(
    front: Front, log: EventLog, fault: Fault, number: int
) -> None:
    with front.failing(*[None] * number, fault):
        name = log.trash("s")
    fresh = EventLog(open_objects(front.url("p")))
    assert fresh.trashed() == [name]
    assert not fresh.exists("s")
    fresh.restore(name)
    assert texts(fresh) == ["one"]


@pytest.mark.parametrize("kind", ["GET", "LIST"])
@pytest.mark.parametrize("fault", [Fault.HALF, Fault.SLOW_DOWN, Fault.CUT, Fault.LOST])
def test_a_read_that_breaks_off_is_made_again(
    front: Front, log: EventLog, fault: Fault, kind: str, open_log: Callable[..., EventLog]
) -> None:
    fresh = open_log()
    with front.failing(fault, fault, kind=kind):
        assert texts(fresh) == ["one"]
        assert list(fresh.ids()) == ["s"]


def test_an_append_of_a_server_that_is_gone_is_unknown_and_names_no_key(front: Front, log: EventLog) -> None:
    fresh = EventLog(open_objects(front.url("p", settle_seconds=0.2)))
    fresh.append("s", [said("two")])
    front.script = lambda request: Fault.CUT
    with pytest.raises(OutcomeUnknown) as unknown:
        fresh.append("s", [said("three")])
    with pytest.raises(ReadRefused) as refused:
        fresh.changed()
    for error in (unknown.value, refused.value):
        assert os.environ["AWS_SECRET_ACCESS_KEY"] not in f"{error} {error!r}"
    front.script = lambda request: None
    fresh.append("s", [said("four")])
    assert texts(fresh) == ["one", "two", "four"]


def test_a_store_that_was_never_reached_is_given_up_soon_and_one_that_has_answered_later(
    front: Front, log: EventLog, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(objects, "_UNREACHED_SECONDS", 0.1)
    fresh = EventLog(open_objects(front.url("p")))
    front.script = lambda request: Fault.CUT
    with pytest.raises(ReadRefused, match=r"requests? in 0\.\d s had no answer, or an error of the server") as refused:
        fresh.head("s")
    assert refused.value.errno == errno.ETIMEDOUT
    front.script = lambda request: None
    assert fresh.head("s").version == 2
    count = iter(range(8))  # with pauses that double, more than a store gets that never answered
    front.script = lambda request: None if next(count, None) is None else Fault.CUT
    assert not fresh.exists("other")


def test_a_store_that_refuses_is_said_to_refuse_and_nothing_was_written(front: Front, log: EventLog) -> None:
    fresh = EventLog(open_objects(front.url("p", settle_seconds=0.2)))
    assert fresh.head("s").version == 2
    with front.failing(Fault.SLOW_DOWN, Fault.PRECONDITION, kind="PUT"):
        fresh.append("s", [said("two")])
    front.script = lambda request: Fault.CONFLICT if request.kind == "PUT" else None
    with pytest.raises(EventStoreError) as refused:
        fresh.append("s", [said("three")])
    assert isinstance(refused.value, AppendRefused | OutcomeUnknown)
    front.script = lambda request: None
    assert texts(fresh) == ["one", "two"]


def test_a_refusal_after_a_lost_answer_does_not_mean_that_nothing_was_written(front: Front, log: EventLog) -> None:
    store, sent = front.answer, list[Request]()

    def answer(request: Request) -> Answer:
        """Carry out the first write when the second one comes, and refuse that one."""
        if request.kind != "PUT":
            return store(request)
        sent.append(request)
        if len(sent) == 1:
            raise ConnectionError
        store(sent[0])
        return Answer(403, {})

    front.answer = answer
    assert log.append("s", [said("two")]) == Appended(3, 3)
    assert texts(log) == ["one", "two"]


# --- what a killed program leaves


def kill_at(front: Front, number: int, kind: str = "PUT") -> Counter[str]:
    """From request `number` of a kind on, answer nothing any more: whoever asks is as good as killed."""
    seen: Counter[str] = Counter()

    def script(request: object) -> Fault | None:
        seen[request.kind] += 1  # type: ignore[attr-defined]
        return Fault.CUT if seen[kind] >= number else None

    front.script = script
    return seen


@pytest.mark.parametrize("number", range(1, 5))
@pytest.mark.parametrize("then", ["trash", "append", "remove", "restore", "create"])
def test_a_move_that_was_killed_leaves_a_log_at_one_of_its_names(
    front: Front, log: EventLog, number: int, then: str
) -> None:
    killed = EventLog(open_objects(front.url("p", settle_seconds=0.05)))
    killed.head("s")
    kill_at(front, number)
    with suppress(EventStoreError):
        killed.trash("s")
    front.script = lambda request: None
    fresh = EventLog(open_objects(front.url("p")))
    is_there, trashed = fresh.exists("s"), fresh.trashed()
    assert is_there != bool(trashed)
    assert is_there == (list(fresh.ids()) == ["s"])
    if then == "trash" and is_there:
        assert fresh.trash("s") == "s"
        assert list(fresh.trashed_lines("s"))
    elif then == "append" and is_there:
        fresh.append("s", [said("two")])
        assert texts(fresh) == ["one", "two"]
        assert fresh.trashed() == []
    elif then == "remove" and is_there:
        assert fresh.remove("s")
        assert (list(fresh.ids()), fresh.trashed()) == ([], [])
    elif then == "restore" and trashed:
        fresh.restore("s")
        assert texts(fresh) == ["one"]
        assert fresh.trashed() == []
    elif then == "create" and trashed:
        fresh.append("s", [SessionCreated(), said("other")], expected_version=0)
        assert texts(fresh) == ["other"]
        fresh = EventLog(open_objects(front.url("p")))
        with pytest.raises(SessionExists):
            fresh.restore("s")
        assert len(list(fresh.trashed_lines("s"))) == 2
        assert fresh.remove("s")
        fresh.restore("s")
        assert texts(fresh) == ["one"]


@pytest.mark.parametrize("number", range(1, 6))
def test_a_deletion_that_was_killed_is_completed_by_the_next_one_or_by_who_needs_the_name(
    front: Front, log: EventLog, number: int
) -> None:
    log.append("s", [said("x" * 40_000)])
    log.keep_note("s", "000000000001-00000000.note", b"note")
    killed = EventLog(open_objects(front.url("p", settle_seconds=0.05)))
    seen = Counter[str]()

    def script(request: object) -> Fault | None:
        seen["all"] += 1
        return Fault.CUT if seen["all"] > number else None

    front.script = script
    with suppress(EventStoreError):
        killed.remove("s")
    front.script = lambda request: None
    fresh = EventLog(open_objects(front.url("p")))
    fresh.remove("s")
    store = front.answer
    assert isinstance(store, MemoryObjects)
    assert [key for key in store.objects if "/l/" in key] == []
    with pytest.raises(SessionNotFound):
        fresh.head("s")


@pytest.mark.parametrize("number", range(1, 5))
def test_a_redaction_that_was_killed_is_carried_out_by_the_next_writer_and_leaves_no_text(
    front: Front, open_log: Callable[..., EventLog], number: int
) -> None:
    log = open_log(tail_bytes=400, lease_seconds=0.2)
    log.append("s", [SessionCreated()], expected_version=0)
    for text in ("secret text", "b" * 300, "c"):
        log.append("s", [said(text)])
    killed = EventLog(open_objects(front.url("p", settle_seconds=0.05)))
    killed.head("s")
    kill_at(front, number)
    try:
        killed.redact("s", [2], "why")
        is_recorded = True
    except EventStoreError:
        is_recorded = number > 1
    front.script = lambda request: None
    fresh = open_log(lease_seconds=0.2)
    fresh.append("s", [said("next")])
    store = front.answer
    assert isinstance(store, MemoryObjects)
    held = [key for key, data in store.objects.items() if b"secret text" in data]
    assert bool(held) != is_recorded
    assert texts(fresh)[-1] == "next"


def test_a_move_that_others_took_for_interrupted_does_not_go_on(front: Front, log: EventLog) -> None:
    name = log.trash("s")
    other = EventLog(open_objects(front.url("p")))

    def script(request: Request) -> None:
        """Create the log anew when its name is reserved, before the move is decided."""
        if request.kind == "PUT" and "/t/" in request.key:
            front.script = lambda request: None
            other.append("s", [SessionCreated(), said("other")], expected_version=0)

    front.script = script
    with pytest.raises(SessionExists):
        log.restore(name)
    assert texts(other) == ["other"]
    assert other.trashed() == [name]
    assert len(list(other.trashed_lines(name))) == 2


def test_a_creation_that_comes_late_does_not_bring_a_deleted_log_back(front: Front, log: EventLog) -> None:
    late = next(one for one in front.requests if one.kind == "PUT" and one.key.endswith("/s"))
    assert log.remove("s")
    assert front.answer(late).status == 412
    assert not EventLog(open_objects(front.url("p"))).exists("s")


def test_a_reader_learns_of_a_redaction_by_another(front: Front, log: EventLog) -> None:
    log.append("s", [said("a secret")])
    reader = EventLog(open_objects(front.url("p")))
    assert texts(reader) == ["one", "a secret"]
    log.redact("s", [3], "why")
    assert texts(reader) == ["one"]
    assert reader.append("s", [said("on")]) == Appended(5, 5)


def test_a_session_that_was_created_and_cannot_be_read_is_not_reported_as_unchanged(front: Front) -> None:
    begun = list[Request]()

    def script(request: Request) -> Fault | None:
        begun.extend([request] if request.kind == "PUT" and request.key.endswith("/n") else [])
        return Fault.SLOW_DOWN if begun and request not in begun else None

    with SessionManager(open_store(front.url("p", settle_seconds=0.1))) as manager:
        front.script = script
        with pytest.raises(OutcomeUnknown, match="'n' may or may not be stored"):
            manager.create_session("n", id="new")
        front.script = lambda request: None
        assert manager.create_session("n", id="new").version == 1
