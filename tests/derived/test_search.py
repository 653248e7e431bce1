"""Search: every hit is where it says, ranked, filtered, as of any time, and caught up at the cost of what is new."""

import sqlite3
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from eventstore import FileSystemSessionStorage, MemorySessionStorage, NoSuchMoment, SessionManager
from eventstore import events as e
from eventstore.derived.search import Search
from eventstore.record.tombstone import leaf_of

CREATED = e.SessionCreated()
WORDS = ["login", "token", "café", "grep", "x1"]


@pytest.fixture
def talked(manager: SessionManager) -> SessionManager:
    manager.create_session("a", "Why logins fail", "ana", occurred_at="2020-01-01T00:00:00Z")
    manager.add_conversation_message("a", "user", "The login fails since monday", occurred_at="2020-01-02T00:00:00Z")
    manager.add_conversation_message(
        "a", "assistant", '{"q": "token"}', "git_log", "i1", occurred_at="2020-01-03T00:00:00Z"
    )
    manager.add_conversation_message(
        "a", "tool", "e41 touches the token", "git_log", "i1", occurred_at="2020-01-03T00:00:00Z"
    )
    manager.link_invocation("a", "i1", "git_log", None, 1.0, occurred_at="2020-01-03T00:00:00Z")
    manager.create_session("b", None, "bo", occurred_at="2021-01-01T00:00:00Z")
    manager.add_conversation_message("b", "user", "login login login", occurred_at="2021-01-02T00:00:00Z")
    return manager


def places(manager: SessionManager, text: str, **filters: object) -> list[tuple[str, int]]:
    return [(hit.session_id, hit.seq) for hit in manager.search(text, **filters)]  # type: ignore[arg-type]


def test_hits_are_ranked_cited_and_shown_in_their_place(talked: SessionManager) -> None:
    hits = talked.search("login")
    assert [(hit.session_id, hit.seq) for hit in hits] == [("b", 2), ("a", 2)]
    assert hits[0].score > hits[1].score > 0
    assert hits[1].snippet == "The [login] fails since monday"
    assert hits[1].time == "2020-01-02T00:00:00.000000Z"
    assert places(talked, "logins") == [("a", 1)]
    assert places(talked, "log*", role="purpose") == [("a", 1)]
    assert places(talked, '"fails since"') == [("a", 2)]
    assert places(talked, '"since fails"') == []
    assert places(talked, "git_log", role="call") == [("a", 5)]


def test_filters_and_limits(talked: SessionManager) -> None:
    assert places(talked, "login", user_id="ana") == [("a", 2)]
    assert places(talked, "token", role="tool") == [("a", 4)]
    assert sorted(places(talked, "token", tool="git_log")) == [("a", 3), ("a", 4)]
    assert places(talked, "login", since="2020-06-01T00:00:00Z") == [("b", 2)]
    assert places(talked, "login", limit=1) == [("b", 2)]
    assert places(talked, "login", limit=0) == []


def test_a_search_as_of_a_time_finds_what_there_was(talked: SessionManager) -> None:
    assert places(talked, "login", at="2020-06-01T00:00:00Z") == [("a", 2)]
    assert places(talked, "token", at="2020-01-02T12:00:00Z") == []
    with pytest.raises(NoSuchMoment):
        talked.search("login", at=3)


def test_whatever_is_typed_is_words_and_no_operators(talked: SessionManager) -> None:
    for text in (
        "",
        "  ",
        '"',
        "***",
        "AND",
        "login AND",
        "(login",
        "a\ud800",
        "text:login",
        "login NEAR/2 x",
        "-login",
        "^",
        '""',
        "a\0b",
        "*x",
    ):
        talked.search(text)
    assert places(talked, "LOGIN fails") == [("a", 2)]


def test_what_is_new_is_found_and_what_is_gone_is_not(talked: SessionManager) -> None:
    assert places(talked, "needle") == []
    talked.add_conversation_message("b", "user", "a needle")
    assert places(talked, "needle") == [("b", 3)]
    talked.delete_session("b")
    assert places(talked, "needle") == []
    assert places(talked, "login") == [("a", 2)]
    talked.create_session("b", "a needle")
    assert places(talked, "needle") == [("b", 1)]
    talked.trash.put("b")
    assert places(talked, "needle") == []
    talked.trash.restore("b")
    assert places(talked, "needle") == [("b", 1)]


def test_a_context_packs_whole_texts_under_their_citations(talked: SessionManager) -> None:
    packed = talked.context("login")
    assert packed.startswith("[b:2] 2021-01-02T00:00:00.000000Z user\nlogin login login\n\n[a:2]")
    talked.add_conversation_message("a", "user", "login " + "x " * 4000)
    small = talked.context("login", 40)
    assert "x x x" not in small
    assert "[b:2]" in small
    assert talked.context("login", 0) == ""
    assert talked.context("login", user_id="ana", budget_tokens=40).startswith("[a:2]")


@given(
    st.lists(
        st.tuples(st.sampled_from(["s", "t"]), st.lists(st.sampled_from(WORDS), min_size=1, max_size=4)), max_size=12
    ),
    st.sampled_from(WORDS),
)
def test_every_message_with_the_word_is_found_and_no_other(said: list[tuple[str, list[str]]], word: str) -> None:
    manager = SessionManager(MemorySessionStorage())
    for name in "st":
        manager.create_session(name)
    expected = []
    for place, (session_id, words) in enumerate(said):
        seq = manager.add_conversation_message(session_id, "user", " ".join(words)).last
        if word in words:
            expected.append((session_id, seq))
        if place % 3 == 0:
            manager.search("nothing")
    assert sorted(places(manager, word, limit=100)) == sorted(expected)


def test_only_what_is_new_is_read(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    with FileSystemSessionStorage(tmp_path / ".sessions", tmp_path / ".history", fsync="no") as storage:
        manager = SessionManager(storage)
        manager.create_session("s")
        for _ in range(50):
            storage.append("s", [e.MessageAdded(role="user", content="hay")])
        assert len(manager.search("hay", limit=100)) == 50
        storage.append("s", [e.MessageAdded(role="user", content="needle")])
        read: list[int] = []
        original = storage.log.read

        def count(session_id: str, after: int = 0, upto: int | None = None) -> object:
            for event in original(session_id, after, upto):
                read.append(event.seq)
                yield event

        monkeypatch.setattr(storage.log, "read", count)
        assert places(manager, "needle") == [("s", 52)]
        assert min(read) >= 51


def test_the_index_is_made_anew_where_it_is_gone(tmp_path: Path) -> None:
    with FileSystemSessionStorage(tmp_path / ".sessions", tmp_path / ".history") as storage:
        manager = SessionManager(storage)
        manager.create_session("s", "a needle")
        assert places(manager, "needle") == [("s", 1)]
    path = tmp_path / ".sessions" / "_catalog" / "search.db"
    with sqlite3.connect(path) as base:
        base.execute("DROP TABLE said")
    base.close()
    with FileSystemSessionStorage(tmp_path / ".sessions", tmp_path / ".history") as storage:
        found = SessionManager(storage)
        assert places(found, "needle") == [("s", 1)]


def test_what_a_fork_inherits_is_found_once(talked: SessionManager) -> None:
    talked.fork_session("a", new_id="f")
    talked.add_conversation_message("f", "user", "login again")
    assert sorted(places(talked, "login")) == [("a", 2), ("b", 2), ("f", 7)]
    talked.delete_session("a")
    assert sorted(places(talked, "login")) == [("b", 2), ("f", 2), ("f", 7)]


def test_of_words_that_are_everywhere_the_newest_come_first(
    manager: SessionManager, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("eventstore.derived.search_query._RANKED", 5)
    manager.create_session("s")
    for n in range(8):
        manager.add_conversation_message("s", "user", "hay " * (n % 3 + 1))
    assert places(manager, "hay", limit=3) == [("s", 9), ("s", 8), ("s", 7)]


def test_many_small_sessions_share_transactions_and_a_session_that_grew_goes_on(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    with SessionManager(FileSystemSessionStorage(tmp_path / ".sessions", tmp_path / ".history", fsync="no")) as manager:
        for place in range(40):
            manager.create_session(f"s{place}", f"purpose{place}")
            manager.add_conversation_message(f"s{place}", "user", f"apple number{place}")
        written = list[int]()
        merge = Search._merge
        monkeypatch.setattr(Search, "_merge", lambda self: written.append(1) or merge(self))  # type: ignore[func-returns-value]
        assert len(manager.search("apple", limit=100)) == 40
        assert len(written) == 1
        manager.add_conversation_message("s7", "user", "apple again")
        manager.delete_session("s8")
        assert {hit.seq for hit in manager.search("apple", limit=100) if hit.session_id == "s7"} == {2, 3}
        assert not manager.search("number8")
        assert [hit.session_id for hit in manager.search("purpose9")] == ["s9"]


def test_a_redaction_that_a_crash_cut_short_hides_its_text_among_many_that_are_indexed_at_once(tmp_path: Path) -> None:
    with SessionManager(FileSystemSessionStorage(tmp_path / ".sessions", tmp_path / ".history", fsync="no")) as manager:
        log = manager.storage.log
        manager.append("s", [e.MessageAdded(role="user", content=f"apple n{n}") for n in range(120)], create=CREATED)
        for target in (30, 90):
            leaf = leaf_of(list(log.lines("s"))[target - 1])
            assert leaf is not None
            log.append("s", [e.EventRedacted(target=target, leaf=leaf.hex(), reason="cut short")])
            log.append("s", [e.MessageAdded(role="user", content=f"apple later{n}") for n in range(60)])
        found = {hit.seq for hit in manager.search("apple", limit=1_000)}
        told = {event.seq: event.target for event in manager.events("s") if isinstance(event, e.EventRedacted)}
        assert found == set(range(2, manager.storage.log.head("s").version + 1)) - told.keys() - set(told.values())
        assert not manager.search(f"n{30 - 2}")
        assert list(manager.storage.check_caches()) == []


def test_sessions_that_another_program_indexes_meanwhile_are_read_again(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    folders = tmp_path / ".sessions", tmp_path / ".history"
    with (
        SessionManager(FileSystemSessionStorage(*folders)) as manager,
        SessionManager(FileSystemSessionStorage(*folders)) as other,
    ):
        for place in range(4):
            manager.create_session(f"s{place}", f"apple {place}")
        write = Search._write_waiting

        def late(self: Search, waiting: Any) -> Any:
            monkeypatch.setattr(Search, "_write_waiting", write)
            assert len(other.search("apple")) == 4
            return write(self, waiting)

        monkeypatch.setattr(Search, "_write_waiting", late)
        assert len(manager.search("apple")) == 4
        assert list(manager.storage.check_caches()) == []


def test_results_and_errors_of_a_call_are_found_by_its_tool(tmp_path: Path) -> None:
    with FileSystemSessionStorage(tmp_path / ".sessions", tmp_path / ".history", fsync="no") as storage:
        manager = SessionManager(storage)
        manager.create_session("s")
        with manager.invocation("s", "grep", {"pattern": "needle"}) as call:
            assert len(manager.search("needle", tool="grep", wait_s=None)) == 1  # its end comes later
            call.result = "needleresult here"
        with manager.invocation("s", "Bash", {"command": "ls"}) as call:
            call.result = "needleresult there"
        found = manager.search("needleresult", tool="grep", wait_s=None)
        assert [(one.tool_name, one.role) for one in found] == [("grep", "call")]
        assert {one.tool_name for one in manager.search("needleresult", wait_s=None)} == {"grep", "Bash"}
        assert len(manager.search("grep", wait_s=None)) == 1  # a call is found once by the name of its tool
        assert manager.search("needleresult", tool="none", wait_s=None) == []
