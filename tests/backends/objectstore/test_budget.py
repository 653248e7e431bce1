"""The budget of requests, counted by the access log of a server that is not ours."""

from collections import Counter
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest
from breaking.object_server import MotoServer
from object_servers import new_prefix, server

from eventstore import EventLog, SessionManager, open_store
from eventstore.backends.objectstore.address import open_objects
from eventstore.events import SessionCreated
from eventstore.log.contract.sample import said

pytestmark = pytest.mark.engines


class Budget:
    """A log on moto, and the requests since the last question."""

    def __init__(self) -> None:
        found = server("moto")
        assert isinstance(found, MotoServer)
        self.server, self.prefix = found, new_prefix()
        self.url = found.url(self.prefix)
        self.log = self.again()
        self.log.append("s", [SessionCreated()], expected_version=0)
        self._before: Counter[str] = Counter()
        self.spent()

    def again(self) -> EventLog:
        return EventLog(open_objects(self.url))

    def spent(self) -> Counter[str]:
        now = self.server.requests(self.prefix)
        spent, self._before = now - self._before, now
        return spent


@pytest.fixture
def budget() -> Budget:
    return Budget()


def test_appending_opening_and_looking_cost_one_request_each(budget: Budget) -> None:
    for _ in range(10):
        budget.log.append("s", [said("x")])
    assert budget.spent() == {"PUT": 10}
    assert budget.again().head("s").version == 11
    assert budget.spent() == {"GET": 1}
    token = budget.log.changed().token
    budget.log.changed(token)
    assert budget.spent() == {"LIST": 2}


def test_64_callers_at_once_cost_a_twentieth_of_a_put_each_where_writes_are_paced(budget: Budget) -> None:
    log = EventLog(open_objects(budget.url + "&write_seconds=2"))
    log.append("s", [said("first")])
    budget.spent()
    with ThreadPoolExecutor(64) as pool:
        list(pool.map(lambda n: log.append("s", [said(str(n))]), range(640)))
    spent = budget.spent()
    assert spent["PUT"] <= 640 * 0.05
    assert set(spent) == {"PUT"}


def test_a_list_of_sessions_that_did_not_change_is_at_most_two_requests(budget: Budget, tmp_path: Path) -> None:
    with SessionManager(open_store(budget.url, cache_dir=tmp_path)) as manager:
        for name in ("a", "b"):
            manager.create_session(name)
        assert len(manager.storage.list_metadata()) == 3
        budget.spent()
        assert len(manager.storage.list_metadata()) == 3
    assert sum(budget.spent().values()) <= 2


def test_an_idle_follower_costs_one_request_a_look(budget: Budget) -> None:
    log, looks = EventLog(open_objects(budget.url + "&poll_seconds=0.05")), 10
    token = log.changed().token
    budget.spent()
    with log.watch() as watch:
        for _ in range(looks):
            while watch.wait(60) is not None:  # until it says that it is time to look
                pass
            token = log.changed(token).token
    assert budget.spent() == {"LIST": looks}
