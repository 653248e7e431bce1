"""Appends of many threads share statements, and what each operation costs is counted by the server."""

import asyncio
import threading
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor

import psycopg
import pytest
from postgres import Budget, new_url

from eventstore import AsyncSessionManager, SessionManager, open_store
from eventstore.backends.postgres.address import parse_address
from eventstore.backends.postgres.backend import PostgresBackend
from eventstore.errors import AppendRefused, OutcomeUnknown, VersionConflict
from eventstore.events import MessageAdded, SessionCreated
from eventstore.log.base import Append
from eventstore.log.contract import said
from eventstore.log.engine import EventLog

pytestmark = pytest.mark.engines


def begin(log: EventLog, *names: str) -> None:
    for name in names:
        log.append(name, [SessionCreated()], expected_version=0)


def texts(log: EventLog, name: str) -> list[str]:
    return [event.content for event in log.read(name) if isinstance(event, MessageAdded)]


@pytest.fixture
def url() -> str:
    return new_url() + "&connections=3"


@pytest.fixture
def log(url: str) -> Iterator[EventLog]:
    with EventLog(PostgresBackend(parse_address(url))) as log:
        yield log


# --- together


def test_appends_of_many_threads_to_many_logs_are_there_once_and_in_order(log: EventLog, url: str) -> None:
    names = [f"s{number}" for number in range(24)]
    begin(log, *names)

    def work(name: str) -> None:
        for number in range(12):
            events = [said(f"{number}", f"k{number}" if number % 3 else None)]
            log.append(name, [*events, said(f"{number}+")] if number % 4 == 0 else events)

    with ThreadPoolExecutor(24) as pool:
        list(pool.map(work, names))
    wanted = [
        text for number in range(12) for text in ([f"{number}", f"{number}+"] if number % 4 == 0 else [f"{number}"])
    ]
    with EventLog(PostgresBackend(parse_address(url))) as fresh:
        for name in names:
            assert texts(fresh, name) == wanted
        assert log.append("s1", [said("1", "k1")]).repeated
    assert len(log.backend.changed().logs) == 24


def test_one_that_cannot_be_written_does_not_spoil_the_others(log: EventLog, url: str) -> None:
    names = [f"s{number}" for number in range(12)]
    begin(log, *names)
    address = parse_address(url)
    with psycopg.connect(address.conninfo) as beside:
        stream = log.backend.read("s3").life.partition(".")[0]
        beside.execute(
            f"alter table {address.schema}.lines add constraint bad check (stream <> {stream} or seq < 2)".encode()
        )
    with EventLog(PostgresBackend(address)) as other:
        other.append("s5", [said("theirs")])

    def work(name: str) -> int | type[Exception]:
        try:
            return log.append(name, [said("mine")], expected_version=1).last
        except (AppendRefused, VersionConflict) as error:
            return type(error)

    with ThreadPoolExecutor(12) as pool:
        found = dict(zip(names, pool.map(work, names), strict=True))
    assert found.pop("s3") is AppendRefused
    assert found.pop("s5") is VersionConflict
    assert set(found.values()) == {2}
    assert texts(log, "s3") == []
    assert texts(log, "s5") == ["theirs"]


@pytest.mark.timeout(60)
def test_who_holds_the_lock_of_one_log_appends_to_others_while_all_wait(log: EventLog) -> None:
    begin(log, "held0", "held1", "held2", "free")
    started = threading.Barrier(9, timeout=60)

    def wait_for_it(number: int) -> None:
        started.wait()
        log.append(f"held{number % 3}", [said(f"{number}")])

    with ThreadPoolExecutor(8) as pool:
        with log.backend.lock("log/held0"), log.backend.lock("log/held1"), log.backend.lock("log/held2"):
            waiting = [pool.submit(wait_for_it, number) for number in range(8)]
            started.wait()
            for number in range(5):
                assert log.append("free", [said(f"{number}")]).last == number + 2
            assert not any(one.done() for one in waiting)
        for one in waiting:
            one.result(60)
    assert sum(len(texts(log, f"held{number}")) for number in range(3)) == 8


def test_tasks_of_many_sessions_share_statements() -> None:
    budget, names = Budget(), [f"s{number}" for number in range(64)]
    manager = SessionManager(open_store(budget.url))
    for name in names:
        manager.create_session(name)

    async def main() -> None:
        async with AsyncSessionManager(manager, threads=8) as twin:

            async def work(name: str) -> None:
                for number in range(10):
                    await twin.add_conversation_message(name, "user", f"{number}", id=f"k{number}")

            await asyncio.gather(*map(work, names))

    assert budget.count(lambda: asyncio.run(main())) <= 64
    fresh = open_store(budget.url).log
    assert all(texts(fresh, name) == [f"{number}" for number in range(10)] for name in names)
    assert fresh.append("s9", [said("9", "k9")]).repeated


def test_commits_of_a_group_that_were_not_replicated_are_unknown(log: EventLog, url: str) -> None:
    names = [f"s{number}" for number in range(12)]
    begin(log, *names)
    address = parse_address(url)
    with psycopg.connect(address.conninfo, autocommit=True) as beside:
        beside.execute(f"set search_path to {address.schema}".encode())
        beside.execute(
            "create function warn() returns trigger language plpgsql as $$"
            " begin raise warning 'not replicated'; return new; end $$"
        )
        beside.execute("create trigger warn before insert on lines for each row execute function warn()")

    def work(name: str) -> None:
        with pytest.raises(OutcomeUnknown):
            log.append(name, [said("mine")])

    with ThreadPoolExecutor(12) as pool:
        list(pool.map(work, names))
    many = log.append_many([Append(name, [said("mine")]) for name in names])
    assert all(isinstance(one, OutcomeUnknown) for one in many.outcomes)


# --- what it costs


def test_each_operation_of_a_log_is_one_statement() -> None:
    budget = Budget()
    with EventLog(PostgresBackend(parse_address(budget.url))) as log:
        begin(log, "s")
        assert budget.count(lambda: begin(log, "t")) == 1
        assert budget.count(lambda: log.append("s", [said("one")])) == 1
        assert budget.count(lambda: log.append("s", [said("two", "key")])) == 1
        assert budget.count(lambda: log.append("s", [said("a"), said("b")], expected_version=3)) == 1
        token = log.changed().token
        assert budget.count(lambda: log.changed(token)) == 1
        assert budget.count(lambda: list(log.read("s"))) <= 2  # what is new, and the lines
        place = log.head("s")
        assert budget.count(lambda: log.resume("s", place)) == 1
        assert budget.count(lambda: log.tail_position("s")) == 1
    with EventLog(PostgresBackend(parse_address(budget.url))) as cold:
        cold.tail_position("s")
        assert budget.count(lambda: cold.head("s")) == 1


def test_a_list_where_nothing_changed_is_one_statement() -> None:
    budget = Budget()
    with SessionManager(open_store(budget.url)) as manager:
        for number in range(20):
            manager.create_session(f"s{number}")
        assert len(manager.list_sessions(limit=None)) == 20
        assert budget.count(lambda: manager.storage.list_metadata(limit=5)) == 1
