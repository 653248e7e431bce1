"""What PostgreSQL adds to the contracts: open transactions, locks, lost answers, warnings, restarts, forks of a process."""

import gc
import os
import threading
import time
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack, contextmanager
from itertools import count
from urllib.parse import quote

import psycopg
import pytest
from breaking.postgres import postgres_lost_tail
from interrupting import ends, interrupted_at
from postgres import new_url, server

from eventstore import SessionManager, open_store
from eventstore.backends.postgres.address import Address, parse_address
from eventstore.backends.postgres.backend import PostgresBackend
from eventstore.errors import AppendRefused, OperationRefused, OutcomeUnknown
from eventstore.events import MessageAdded, SessionCreated
from eventstore.ids import Fsync
from eventstore.log.base import Appended
from eventstore.log.contract import said
from eventstore.log.contract.stretch import Stretch, content
from eventstore.log.engine import EventLog
from eventstore.log.port import Moved, Tip

pytestmark = pytest.mark.engines


@pytest.fixture
def address() -> Address:
    return parse_address(new_url())


@pytest.fixture
def backend(address: Address) -> Iterator[PostgresBackend]:
    backend = PostgresBackend(address)
    yield backend
    backend.close()


@pytest.fixture
def other(address: Address) -> Iterator[PostgresBackend]:
    backend = PostgresBackend(address)
    yield backend
    backend.close()


@contextmanager
def session(address: Address) -> Iterator[psycopg.Connection]:
    """Connect beside the backend, in a transaction."""
    with psycopg.connect(address.conninfo) as connection:
        connection.execute(f"set search_path to {address.schema}".encode())
        yield connection


def texts(log: EventLog) -> list[str]:
    return [event.content for event in log.read("s") if isinstance(event, MessageAdded)]


# --- what changed


def test_a_transaction_that_commits_late_is_named_by_the_next_look(address: Address, backend: PostgresBackend) -> None:
    Stretch(backend, "late", "one")
    early = Stretch(backend, "early", "one")
    token = backend.changed().token
    with session(address) as held:
        held.execute(
            "update lines set xid = pg_current_xact_id() where stream = (select stream from logs where name = 'late')"
        )
        early.add("two")  # it takes its number later, and is committed first
        found = backend.changed(token)
        assert [name for name, _ in found.logs] == ["early"]
        assert backend.changed(found.token).logs == []
    late = backend.changed(found.token)
    assert [name for name, _ in late.logs] == ["late"]
    assert backend.changed(late.token).logs == []


def test_a_foreign_transaction_that_is_open_names_nothing_again(address: Address, backend: PostgresBackend) -> None:
    log = Stretch(backend, "s", "one")
    with session(address) as held:
        held.execute("select pg_current_xact_id()")
        token = backend.changed().token
        log.add("two")
        found = backend.changed(token)
        assert [name for name, _ in found.logs] == ["s"]
        assert backend.changed(found.token).logs == []


# --- incarnations


def test_a_key_of_a_log_in_the_trash_is_not_known_in_the_next_one(backend: PostgresBackend) -> None:
    log = Stretch(backend, "s")
    data, tip = log.seal("one")
    backend.append("s", data, expect=None, tip=tip, keys=[("k\0é", 1, 1)])
    assert backend.find_key("s", "k\0é") == (1, 1)
    backend.move("s", "_trash/s", expect=None)
    Stretch(backend, "s", "fresh")
    assert backend.find_key("s", "k\0é") is None
    assert backend.find_key("_trash/s", "k\0é") == (1, 1)


def test_what_another_program_overwrote_has_to_be_read_again(backend: PostgresBackend, other: PostgresBackend) -> None:
    log = Stretch(backend, "s", "one", "two")
    other.overwrite("s", 1, 0, log.lines()[0].replace(b"one", b"***"))
    with pytest.raises(Moved):
        backend.read("s", log.tip)
    log.add("three")  # the end is what it was
    with pytest.raises(Moved):
        backend.read("s", log.tip)


def test_keys_of_an_ingested_log_are_known(address: Address, backend: PostgresBackend) -> None:
    with EventLog(backend) as log:
        log.append("s", [SessionCreated()], expected_version=0)
        log.append("s", [said("a", "k1"), said("b", "k2")])
        log.append("s", [said("c", "k3")])
        log.redact("s", [4], "a secret")
        data = b"".join(log.chunks("s"))
        log.remove("s")
        log.ingest("s", [data])
        assert backend.find_key("s", "k1") == backend.find_key("s", "k2") == (2, 3)
        assert backend.find_key("s", "k3") == (4, 4)
        assert log.append("s", [said("a", "k1"), said("b", "k2")]) == Appended(2, 3, repeated=True)


# --- locks


def test_who_holds_the_lock_of_a_log_keeps_appends_of_others_out(
    backend: PostgresBackend, other: PostgresBackend
) -> None:
    log = Stretch(backend, "s", "one")
    data, tip = log.seal("theirs")
    with ThreadPoolExecutor(1) as pool:
        with backend.lock("log/s"):
            waiting = pool.submit(other.append, "s", data, expect=log.tip, tip=tip)
            with pytest.raises(TimeoutError):
                waiting.result(0.3)
            assert content(backend, "s") == log.data
        assert waiting.result(30) == log.tip.life
    assert content(backend, "s") == log.data + data


def test_as_many_locks_are_held_as_are_asked_for(address: Address) -> None:
    """More than there are connections for statements: a holder must be able to go on."""
    few = PostgresBackend(parse_address(new_url() + "&connections=2"))
    ready = threading.Barrier(6, timeout=60)

    def hold(number: int) -> int:
        with few.lock(f"log/s{number}"):
            ready.wait()
            return Stretch(few, f"s{number}", "one").tip.seq

    with ThreadPoolExecutor(6) as pool:
        assert list(pool.map(hold, range(6))) == [1] * 6
    few.close()


# --- what became of a write


def test_a_commit_that_was_not_replicated_is_unknown(address: Address, backend: PostgresBackend) -> None:
    """The server says so by a warning behind a success; here a trigger warns in its place."""
    with EventLog(backend) as log:
        log.append("s", [SessionCreated()], expected_version=0)
        with session(address) as beside:
            beside.execute(
                "create function warn() returns trigger language plpgsql as $$"
                " begin raise warning 'not replicated'; return new; end $$"
            )
            beside.execute("create trigger warn before insert on lines for each row execute function warn()")
        with pytest.raises(OutcomeUnknown):
            log.append("s", [said("a", "k")])
        with session(address) as beside:
            beside.execute("drop trigger warn on lines")
        assert log.append("s", [said("a", "k")]) == Appended(2, 2, repeated=True)


@pytest.mark.timeout(30)
def test_an_append_without_an_answer_in_time_is_unknown_and_may_still_come() -> None:
    url = new_url(timeout=1)
    with EventLog(PostgresBackend(parse_address(url))) as log:
        log.append("s", [SessionCreated()], expected_version=0)
        log.append("s", [said("one")])
        with session(parse_address(url)) as held:
            held.execute("select * from logs for update")
            with pytest.raises(OutcomeUnknown):
                log.append("s", [said("late", "k")])
        assert log.append("s", [said("late", "k")]).last == 3
        assert texts(log) == ["one", "late"]


def test_what_the_server_refuses_was_not_written(address: Address, backend: PostgresBackend) -> None:
    with EventLog(backend) as log:
        log.append("s", [SessionCreated()], expected_version=0)
        with session(address) as beside:
            beside.execute("alter table lines add constraint small check (seq < 2)")
        with pytest.raises(AppendRefused):
            log.append("s", [said("a")])
        with session(address) as beside:
            beside.execute("alter table lines drop constraint small")
        assert log.append("s", [said("a")]) == Appended(2, 2)


def test_connections_that_the_server_ended_are_replaced(address: Address, backend: PostgresBackend) -> None:
    with EventLog(backend) as log:
        log.append("s", [SessionCreated()], expected_version=0)
        for number in range(3):
            with session(address) as beside:
                beside.execute(
                    "select pg_terminate_backend(pid) from pg_stat_activity"
                    " where application_name = 'eventstore' and pid <> pg_backend_pid()"
                )
            assert log.append("s", [said(str(number))]).last == number + 2
        assert texts(log) == ["0", "1", "2"]


def test_a_program_goes_on_when_the_server_is_there_again(address: Address, backend: PostgresBackend) -> None:
    with EventLog(backend) as log, ThreadPoolExecutor(1) as pool:
        log.append("s", [SessionCreated()], expected_version=0)
        server().kill()
        waiting = pool.submit(log.append, "s", [said("a", "k")])
        server().start()
        assert waiting.result(60).last == 2
        assert texts(log) == ["a"]


def test_a_token_of_before_a_restart_names_all_logs(backend: PostgresBackend) -> None:
    """A crash may take the last commits of a server that does not wait for the disk: their numbers are given again."""
    with EventLog(backend) as log:
        log.append("s", [SessionCreated()], expected_version=0)
        token = log.changed().token
        assert not log.changed(token).complete
        server().kill()
        server().start()
        found = log.changed(token)
        assert found.complete
        assert not log.changed(found.token).complete


def test_a_token_that_saw_what_a_failover_lost_names_the_logs_that_lost_it() -> None:
    counts = postgres_lost_tail(False)
    assert counts["rolled_back"] == 3


# --- durability


@pytest.mark.parametrize(("fsync", "level"), [("always", "on"), ("everysec", "off"), ("no", "off")])
def test_the_level_of_durability_is_that_of_the_commit(fsync: Fsync, level: str) -> None:
    backend = PostgresBackend(parse_address(new_url() + f"&fsync={fsync}"))
    log = Stretch(backend, "s", "one")
    with backend._database.connections.use() as connection, connection.transaction():
        assert connection.execute(backend._sql.commit_level, [backend._database.commit_level()]).fetchone() == (level,)
    assert log.add("two").seq == 2
    backend.flush()
    backend.close()


# --- processes


@pytest.mark.timeout(60)
def test_a_forked_process_has_connections_of_its_own(backend: PostgresBackend) -> None:
    with EventLog(backend) as log:
        for name in ("s", "c"):
            log.append(name, [SessionCreated()], expected_version=0)
        with log.watch("s"):
            child = os.fork()
            if not child:
                try:
                    for number in range(40):
                        log.append("c", [said(f"child {number}")])
                    with log.watch("s"), backend.lock("x"):
                        os._exit(0)
                finally:
                    os._exit(1)
            for number in range(40):
                log.append("s", [said(f"parent {number}")])
            assert os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]) == 0
        assert texts(log) == [f"parent {number}" for number in range(40)]
        assert log.head("c").version == 41


def test_a_forked_process_does_not_release_what_another_thread_of_its_parent_holds(backend: PostgresBackend) -> None:
    """A child drops the locks of the threads that it does not have; it has their connections too."""
    held = ExitStack()
    with ThreadPoolExecutor(1) as pool:
        pool.submit(held.enter_context, backend.lock("x")).result()
        child = os.fork()
        if not child:
            held = ExitStack()
            gc.collect()
            os._exit(0)
        assert os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]) == 0
        with psycopg.connect(server().url("x").partition("?")[0]) as beside:
            (locks,) = beside.execute("select count(*) from pg_locks where locktype = 'advisory'").fetchone() or (0,)
        assert locks == 1
        pool.submit(held.close).result()


def test_tables_of_a_later_version_are_refused(address: Address, backend: PostgresBackend) -> None:
    backend.open()
    with session(address) as beside:
        beside.execute("update meta set value = '999' where name = 'version'")
    with EventLog(PostgresBackend(address)) as log, pytest.raises(AppendRefused):
        log.append("s", [SessionCreated()], expected_version=0)


def test_programs_that_open_an_empty_database_at_once_make_its_tables_once(address: Address) -> None:
    opened = [PostgresBackend(address) for _ in range(6)]
    with ThreadPoolExecutor(6) as pool:
        list(pool.map(PostgresBackend.open, opened))
    for number, backend in enumerate(opened):
        Stretch(backend, f"s{number}", "one")
        backend.close()
    assert len(opened[0].changed().logs) == 6
    opened[0].close()


def test_a_long_log_is_read_in_pages(backend: PostgresBackend) -> None:
    log = Stretch(backend, "s")
    log.add(*(f"{number} " + "x" * 4_000 for number in range(3_000)))  # by COPY, and more than a page
    assert content(backend, "s") == log.data
    assert backend.tip("s") == log.tip
    for after in (0, 1, 1_023, 1_024, 2_999, 3_000, 3_001):
        assert content(backend, "s", after) == b"".join(log.lines()[after:])
    assert backend.read("s", Tip(log.tip.digest, 0, 3_000)).end == len(log.data)


# --- what stays of removed text


def files_with(text: bytes) -> list[str]:
    """Name the tables of the server whose files hold a text, once everything is written out."""
    with psycopg.connect(server().url("x").partition("?")[0], autocommit=True) as beside:
        beside.execute("checkpoint")
    files = (path for path in (server().data / "base").rglob("*") if path.is_file())
    return [path.name for path in files if text in path.read_bytes()]


def test_a_vacuum_takes_redacted_text_from_the_files_of_the_tables() -> None:
    text = f"the secret {os.urandom(8).hex()}"
    with SessionManager(open_store(new_url())) as manager:
        manager.create_session("s", f"purpose: {text}")
        manager.add_conversation_message("s", "user", text * 3_000)  # large enough to be kept apart from its row
        assert manager.storage.list_metadata()[0].purpose
        before = manager.redactions.redact("s", [1, 2], "it was a secret").residue
        assert files_with(text.encode())
        left = manager.redactions.vacuum()
        assert files_with(text.encode()) == []
        assert set(left) < set(before)
        assert manager.storage.log.head("s").version > 2


def test_a_role_that_may_not_vacuum_is_told_that_the_text_is_still_there(address: Address) -> None:
    """The server skips a table of another owner, and reports a warning and no error."""
    text, role = f"the secret {os.urandom(8).hex()}", f"writer_{address.schema}"
    url = f"{address.shown}&connections=2".replace("//", f"//{role}@")
    with SessionManager(open_store(address.shown.replace("//", "//tester@"))) as owner:
        owner.create_session("s", f"purpose: {text}")
    with session(address) as beside:
        beside.execute(f"create role {role} login".encode())
        beside.execute(f"grant usage on schema {address.schema} to {role}".encode())
        beside.execute(f"grant all on all tables in schema {address.schema} to {role}".encode())
    with SessionManager(open_store(url)) as manager:
        manager.redactions.redact("s", [1], "it was a secret")
        with pytest.raises(OperationRefused, match="was not vacuumed: Operation not permitted"):
            manager.redactions.vacuum()
    assert files_with(text.encode())


def test_a_schema_that_an_administrator_made_needs_no_right_to_make_schemas(address: Address) -> None:
    role = f"guest_{address.schema}"
    with session(address) as beside:
        beside.execute(f"create role {role} login".encode())
        beside.execute(f"create schema {address.schema} authorization {role}".encode())
    with SessionManager(open_store(address.shown.replace("//", f"//{role}@"))) as manager:
        manager.create_session("s")
        assert [one.session_id for one in manager.storage.list_metadata()] == ["s"]


# --- forked processes


def backends_of(name: str) -> set[int]:
    """The processes of the server that serve an application."""
    with psycopg.connect(server().url("x").partition("?")[0]) as beside:
        rows = beside.execute("select pid from pg_stat_activity where application_name = %s", [name]).fetchall()
    return {pid for (pid,) in rows}


def test_a_forked_process_leaves_the_connections_of_its_parent_alone() -> None:
    name = f"forked {os.getpid()}"
    backend = PostgresBackend(parse_address(new_url() + f"&application_name={quote(name)}"))
    backend.open()
    with backend.lock("a lock"):
        before = backends_of(name)
    child = os.fork()
    if not child:
        status = 1
        try:
            del backend
            gc.collect()
            status = 0
        finally:
            os._exit(status)
    assert os.waitpid(child, 0)[1] == 0
    assert len(before) == 2
    backend.changed()
    with backend.lock("a lock"):
        assert backends_of(name) == before


def test_a_store_that_nobody_uses_any_more_leaves_no_connection() -> None:
    name = f"dropped {os.getpid()}"
    backend = PostgresBackend(parse_address(new_url() + f"&application_name={quote(name)}"))
    backend.open()
    assert backends_of(name)
    del backend
    gc.collect()
    until = time.monotonic() + 30
    while backends_of(name) and time.monotonic() < until:
        pass
    assert not backends_of(name)


@pytest.mark.filterwarnings(
    "ignore::pytest.PytestUnraisableExceptionWarning"
)  # psycopg closes a connection that is lost so
def test_a_ctrl_c_anywhere_takes_no_connection_away() -> None:
    backend = PostgresBackend(parse_address(f"{new_url(timeout=5)}&connections=1"))
    backend.changed()
    for number in count(1):
        if not interrupted_at(number, ("postgres/connections.py", "threading.py"), backend.changed):
            break
        assert ends(backend.changed), number
        backend.changed()  # raises after 5 s where the only connection is still in use
    assert number > 5
    backend.close()
    # those that a Ctrl-C took are closed here: psycopg would warn of them in another test
    for lost in gc.get_objects():
        if isinstance(lost, psycopg.Connection) and not lost.closed:
            lost.close()
