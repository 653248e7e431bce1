"""Looks: one call each, and enough to see all that happens, whatever hints say."""

import threading
import time
from collections import Counter
from contextlib import suppress
from typing import Any

import pytest

from eventstore import EventLog, FileSystemSessionStorage, SessionManager, SessionStorage, Subscription
from eventstore.backends.memory import MemoryBackend
from eventstore.errors import ReadRefused
from eventstore.log.contract import said
from eventstore.log.port import Refused
from eventstore.log.watch import Bell, Watch


class Counting(MemoryBackend):
    """Counts the calls of the port. Its watch is silent, and waits for next to no time."""

    def __init__(self) -> None:
        super().__init__()
        self.calls = Counter[str]()
        self.waits = 0

    def __getattribute__(self, name: str) -> Any:
        found = super().__getattribute__(name)
        if name in ("read", "tip", "changed", "append", "blobs", "get_blob", "put_blob", "find_key", "trashed"):
            self.calls[name] += 1
        return found

    def watch(self, log: str | None) -> Watch:
        return Silent(self)


class Silent(Bell):
    """A watch that never says anything; each wait lets the clock run on at once."""

    def __init__(self, backend: Counting) -> None:
        super().__init__()
        self._backend = backend

    def wait(self, seconds: float) -> set[str] | None:
        self._backend.waits += 1
        Clock.now += seconds
        return super().wait(0)


class Clock:
    """The clock of looks."""

    now = 1000.0


@pytest.fixture
def backend(monkeypatch: pytest.MonkeyPatch) -> Counting:
    monkeypatch.setattr("eventstore.subscriptions.due.time", type("T", (), {"monotonic": lambda: Clock.now}))
    return Counting()


def manager_of(backend: MemoryBackend, count: int = 0) -> SessionManager:
    manager = SessionManager(SessionStorage(EventLog(backend)))
    for n in range(count):
        manager.storage.log.append(f"s{n}", [said("a")], expected_version=0)
    return manager


@pytest.mark.parametrize(("session_id", "call"), [(None, "changed"), ("s7", "read")])
def test_an_idle_subscription_makes_one_call_a_look(backend: Counting, session_id: str | None, call: str) -> None:
    manager = manager_of(backend, 200)
    with manager.follow(session_id, "now") as subscription:
        stopper = threading.Thread(target=stop_after, args=(backend, 200, subscription))
        before = Clock.now
        backend.calls.clear()
        backend.waits = 0
        stopper.start()
        assert list(subscription) == []
        stopper.join()
        looks = (Clock.now - before) / 2
    assert backend.waits >= 200
    assert dict(backend.calls) == {call: pytest.approx(looks, abs=2)}


def stop_after(backend: Counting, waits: int, subscription: Subscription) -> None:
    until = time.monotonic() + 30
    while backend.waits < waits and time.monotonic() < until:
        pass
    subscription.stop()


def test_all_that_happens_is_seen_without_any_hint(backend: Counting) -> None:
    manager = manager_of(backend, 30)
    with manager.follow(None, "now") as subscription:
        manager.create_session("new")
        assert next(subscription).session_id == "new"
        for n in (3, 17):
            manager.storage.append(f"s{n}", [said("b")])
            assert next(subscription).session_id == f"s{n}"
        manager.delete_session("s3")
        manager.create_session("s3")
        found = next(subscription)
        assert (found.session_id, found.event.seq) == ("s3", 1)


def test_a_look_after_an_append_reads_only_what_changed(backend: Counting) -> None:
    manager = manager_of(backend, 200)
    with manager.follow(None, "now") as subscription:
        manager.storage.log.append("s4", [said("b")])
        backend.calls.clear()
        assert next(subscription).session_id == "s4"
        assert backend.calls == {"changed": 1, "read": 1}


@pytest.mark.parametrize("session_id", [None, "s7"])
@pytest.mark.parametrize("call", ["read", "changed"])
def test_what_the_backend_refused_to_read_comes_when_it_is_asked_again(
    backend: Counting, session_id: str | None, call: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    manager = manager_of(backend, 9)
    with manager.follow(session_id, "now") as subscription:
        manager.storage.log.append("s7", [said("b")])
        with monkeypatch.context() as broken:
            broken.setattr(Counting, call, refuse)
            with suppress(ReadRefused):
                assert next(subscription).event.seq == 2  # of one session no list of changes is needed
                return
        assert next(subscription).event.seq == 2


def refuse(*_: object) -> None:
    raise Refused("the disk", 5)


def test_what_no_feed_of_changes_names_is_found_by_a_look_at_everything(
    files: FileSystemSessionStorage, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A log that was written to by hand, where the system reports nothing."""
    monkeypatch.setattr("eventstore.subscriptions.due._FULL_LOOK_SECONDS", 0.1)
    monkeypatch.setattr("eventstore.subscriptions.due._LOOK_SECONDS", 0.05)
    monkeypatch.setattr("eventstore.backends.files.change_feed.SETTLING_SECONDS", 0.0)
    monkeypatch.setattr(files.log.backend, "watch", lambda log: Bell())
    manager = SessionManager(files)
    manager.create_session("s")
    path = files.sessions_dir / "s" / "events.jsonl"
    older = path.read_bytes()
    manager.storage.append("s", [said("a")])
    newer = path.read_bytes()
    path.write_bytes(older)
    with manager.follow() as subscription:
        assert next(subscription).event.seq == 1

        def append() -> None:
            with path.open("ab") as stream:
                stream.write(newer[len(older) :])

        timer = threading.Timer(0.3, append)
        timer.start()
        assert next(subscription).event.seq == 2
        timer.join()
