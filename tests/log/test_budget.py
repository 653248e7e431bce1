"""How many calls of the port the everyday operations make, on a backend whose calls wait for a network."""

from log.faulty import CountingBackend

from eventstore.backends.memory import MemoryBackend
from eventstore.events import SessionCreated
from eventstore.log.contract.sample import said
from eventstore.log.engine import EventLog


def counted() -> tuple[EventLog, CountingBackend]:
    backend = CountingBackend(MemoryBackend(), blocking=True)
    log = EventLog(backend)
    log.append("s", [SessionCreated()], expected_version=0)
    log.append("s", [said("one")])
    backend.calls.clear()
    return log, backend


def test_an_append_to_a_log_that_is_known_is_one_call() -> None:
    log, backend = counted()
    log.append("s", [said("two", "k")], expected_version=2)
    assert backend.calls == {"append": 1}


def test_the_first_append_of_a_new_log_is_one_call() -> None:
    log, backend = counted()
    log.append("n", [SessionCreated()], expected_version=0)
    assert backend.calls == {"append": 1}


def test_what_is_new_is_read_in_one_call() -> None:
    log, backend = counted()
    place = log.head("s")
    EventLog(backend.inner).append("s", [said("two")])
    backend.calls.clear()
    assert log.resume("s", place)[1].version == 3
    assert backend.calls == {"read": 1}


def test_the_head_of_a_log_that_did_not_change_is_one_call() -> None:
    log, backend = counted()
    assert log.head("s").version == 2
    assert sum(backend.calls.values()) == 1


def test_what_changed_is_one_call() -> None:
    log, backend = counted()
    token = log.changed().token
    backend.calls.clear()
    assert log.changed(token).logs == []
    assert backend.calls == {"changed": 1}


def test_an_append_behind_the_append_of_another_is_three_calls() -> None:
    log, backend = counted()
    EventLog(backend.inner).append("s", [said("elsewhere")])
    log.append("s", [said("two")])
    assert backend.calls == {"append": 2, "read": 2}
