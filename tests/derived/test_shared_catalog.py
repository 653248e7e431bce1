"""Lists from the table in PostgreSQL: the same as from the local catalogue, for all programs, at the cost of what changed."""

import threading
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import closing, contextmanager
from pathlib import Path
from typing import Any

import psycopg
import pytest
from postgres import Budget, new_url

from eventstore import SessionManager, open_store
from eventstore.backends.postgres.address import parse_address
from eventstore.derived.catalog import Catalog
from eventstore.derived.listing import Filter, Sort
from eventstore.errors import LogDamaged
from eventstore.store.storage import SessionStorage

pytestmark = pytest.mark.engines


@pytest.fixture
def url() -> str:
    return new_url()


@contextmanager
def opened(url: str, cache: Path) -> Iterator[SessionManager]:
    with SessionManager(open_store(url, cache_dir=cache)) as manager:
        yield manager


@pytest.fixture
def manager(url: str, tmp_path: Path) -> Iterator[SessionManager]:
    with opened(url, tmp_path / "ours") as manager:
        yield manager


@pytest.fixture
def other(url: str, tmp_path: Path) -> Iterator[SessionManager]:
    with opened(url, tmp_path / "theirs") as manager:
        yield manager


@pytest.fixture
def third(url: str, tmp_path: Path) -> Iterator[SessionManager]:
    with opened(url, tmp_path / "third") as manager:
        yield manager


@contextmanager
def beside(url: str) -> Iterator[psycopg.Connection]:
    address = parse_address(url)
    with psycopg.connect(address.conninfo, autocommit=True) as connection:
        connection.execute(f"set search_path to {address.schema}".encode())
        yield connection


def ids(manager: SessionManager) -> list[str]:
    return sorted(one.session_id for one in manager.storage.list_metadata(limit=None))


def not_damaged(damage: LogDamaged) -> None:
    raise damage


def fill(manager: SessionManager) -> None:
    """Make sessions that differ in whatever a list asks for, with texts that SQL has trouble with."""
    odd = ["nul\0 inside", "Größe ß", 'quote " and \\ and {', "100%", "\U0001f600"]
    for number in range(24):
        parent = {"parent_session": f"s{number - 1:02}"} if number % 5 == 4 else {}
        manager.create_session(
            f"s{number:02}",
            None if number % 7 == 0 else f"Purpose {odd[number % 5]}",
            odd[number % 3] if number % 4 else None,
            odd[number % 2 : number % 2 + number % 3],
            external_key=f"key {odd[number % 5]}" if number % 3 else None,
        )
        manager.update_session_metadata(f"s{number:02}", custom_metadata={**parent, "odd": odd[number % 5]})
        if number % 6 == 1:
            manager.record_usage(f"s{number:02}", {}, number / 3)
        if number % 5 == 2:
            manager.complete_session(f"s{number:02}")


FILTERS: list[dict[str, Any]] = [
    {},
    {"user_id": "nul\0 inside"},
    {"user_id": "Größe ß", "status": "active"},
    {"status": "completed"},
    {"status": "none\0"},
    {"tags": ["nul\0 inside"]},
    {"tags": ["Größe ß", 'quote " and \\ and {']},
    {"tags": ["of nobody"]},
    {"purpose": "PURPOSE"},
    {"purpose": "grösse"},
    {"purpose": "100%"},
    {"external_key": "key 100%"},
    {"external_prefix": "key "},
    {"external_prefix": "key nul\0"},
    {"parent": "s03"},
    {"parent": "s\0"},
    {"sub_agents": False},
    {"since": "2026", "until": "2999"},
]


def test_every_list_is_that_of_the_local_catalogue(manager: SessionManager) -> None:
    fill(manager)
    storage = manager.storage
    with closing(Catalog()) as local:
        orders: list[tuple[dict[str, Any], Sort, int | None]] = [
            ({}, "created", 5),
            ({}, "cost", 5),
            ({"tags": ["Größe ß"]}, "cost", None),
        ]
        for one, sort, limit in [*((one, "updated", 10) for one in FILTERS), *orders]:
            cursor, is_backwards = None, False
            while True:
                wanted = Filter(sort=sort, limit=limit, cursor=cursor, **one)
                found = storage.catalog.page(wanted, storage.log, storage._describe, not_damaged)
                assert found == local.page(wanted, storage.log, storage._describe, not_damaged), wanted
                assert storage.catalog.count(wanted) == local.count(wanted)
                is_backwards = is_backwards or found.cursor is None
                cursor = found.previous if is_backwards else found.cursor
                if cursor is None:
                    break


def test_what_one_program_read_no_other_reads_again(manager: SessionManager, tmp_path: Path) -> None:
    budget = Budget()
    with opened(budget.url, tmp_path / "first") as first:
        fill(first)
        assert len(first.list_sessions(limit=None)) == 24
    with opened(budget.url, tmp_path / "second") as second:
        second.storage.log.changed()
        assert budget.count(lambda: second.storage.list_metadata(limit=5)) == 2  # how far the table is, and the list
        assert budget.count(lambda: second.storage.list_metadata(limit=5)) == 1
        second.add_conversation_message("s03", "user", "hello")
        assert budget.count(lambda: second.storage.list_metadata(limit=5)) <= 5  # look, read, write, look
        assert second.storage.list_metadata(limit=1)[0].session_id == "s03"


def test_each_change_is_in_the_next_list_of_all(manager: SessionManager, other: SessionManager) -> None:
    fill(manager)
    assert ids(other) == ids(manager)
    other.update_session_metadata("s05", purpose="another")
    assert manager.storage.list_metadata(limit=1)[0].purpose == "another"
    manager.delete_session("s05")
    other.trash.put("s06")
    assert {"s05", "s06"}.isdisjoint(ids(manager))
    assert ids(other) == ids(manager)
    manager.trash.restore("s06")
    manager.create_session("s05", "made again")
    assert {"s05", "s06"} <= set(ids(other))
    assert not list(manager.storage.check_caches())


def test_lists_of_many_programs_beside_appends_end_right(
    manager: SessionManager, other: SessionManager, third: SessionManager
) -> None:
    fill(manager)
    stop = threading.Event()

    def append(number: int) -> None:
        for turn in range(15):
            manager.update_session_metadata(f"s{number:02}", purpose=f"turn {turn}")

    def list_often(one: SessionManager) -> None:
        while not stop.is_set():
            assert len(ids(one)) == 24

    with ThreadPoolExecutor(8) as pool:
        lists = [pool.submit(list_often, one) for one in (manager, other, third, third)]
        for work in [pool.submit(append, number) for number in range(4)]:
            work.result(120)
        stop.set()
        for work in lists:
            work.result(120)
        for one in (manager, other, third):
            found = {row.session_id: row.purpose for row in one.storage.list_metadata(limit=None)}
            assert [found[f"s{number:02}"] for number in range(4)] == ["turn 14"] * 4
    assert not list(manager.storage.check_caches())


def test_many_sessions_are_read_by_one_program_while_others_wait(
    manager: SessionManager, other: SessionManager, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("eventstore.derived.shared_catalog._MANY", 3)
    monkeypatch.setattr("eventstore.derived.shared_catalog._AT_ONCE", 5)
    fill(manager)
    read = list[str]()

    def counting(storage: SessionStorage) -> None:
        before = storage._describe

        def describe(session_id: str) -> dict[str, Any]:
            read.append(session_id)
            return before(session_id)

        monkeypatch.setattr(storage, "_describe", describe)

    counting(manager.storage)
    counting(other.storage)
    with ThreadPoolExecutor(2) as pool:
        assert all(len(found) == 24 for found in pool.map(ids, (manager, other)))
    assert sorted(read) == ids(manager)


def test_what_was_read_before_a_redaction_is_not_written_after_it(
    manager: SessionManager, other: SessionManager, url: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    manager.create_session("s", "the secret purpose")
    storage = other.storage
    before, read = storage._describe, list[str]()

    def describe(session_id: str) -> dict[str, Any]:
        found = before(session_id)
        if not read:
            manager.redactions.redact("s", [1], "it was a secret")
        read.append(found["purpose"])
        return found

    monkeypatch.setattr(storage, "_describe", describe)
    assert storage.list_metadata()[0].purpose is None
    assert read == ["the secret purpose", None]
    assert manager.storage.list_metadata()[0].purpose is None
    with beside(url) as connection:
        rows = connection.execute("select shown from catalog_1").fetchall()
        assert rows
        assert "secret purpose" not in str(rows)


def test_a_damaged_session_is_reported_by_each_list_and_the_others_are_there(
    manager: SessionManager, other: SessionManager, third: SessionManager, url: str
) -> None:
    fill(manager)
    with beside(url) as connection:
        connection.execute(
            "update lines set line = overlay(line placing 'x' from 30), xid = pg_current_xact_id()"
            " where stream = (select stream from logs where name = 's07')"
        )
    for one in (other, third, other):
        reported = list[LogDamaged]()
        found = one.storage.list_metadata(limit=None, on_damage=reported.append)
        assert [damage.session_id for damage in reported] == ["s07"]
        assert len(found) == 23


def test_a_catalogue_that_is_cleared_or_gone_is_made_anew(manager: SessionManager, url: str, tmp_path: Path) -> None:
    fill(manager)
    wanted = ids(manager)
    with opened(url, tmp_path / "theirs") as theirs:
        theirs.storage.clear_caches()
    assert ids(manager) == wanted
    with beside(url) as connection:
        connection.execute("drop table catalog_1")
    assert ids(manager) == wanted


def test_where_the_table_may_not_be_written_lists_are_right_all_the_same(
    manager: SessionManager, url: str, tmp_path: Path
) -> None:
    fill(manager)
    wanted = ids(manager)
    address = parse_address(url)
    role = f"reader_{address.schema}"
    with beside(url) as connection:
        connection.execute(f"create role {role} login".encode())
        connection.execute(f"grant usage on schema {address.schema} to {role}".encode())
        connection.execute(f"grant select on all tables in schema {address.schema} to {role}".encode())
    try:
        with opened(url.replace("tester@", f"{role}@"), tmp_path / "reader") as reader:
            assert ids(reader) == wanted
            manager.create_session("new")
            assert ids(reader) == sorted(["new", *wanted])
            assert reader.storage.catalog.count(Filter()) == 25
    finally:
        with beside(url) as connection:
            connection.execute(f"drop owned by {role}".encode())
            connection.execute(f"drop role {role}".encode())
