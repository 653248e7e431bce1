"""Search in every script, inside of words, by project, and while the index is behind."""

import sqlite3
import unicodedata
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from eventstore import FileSystemSessionStorage, MemorySessionStorage, SessionManager
from eventstore import events as e
from eventstore.derived import search as index

TEXTS = {
    2: "请检查数据库连接池的配置、使用youer服务端",
    3: "データベースの接続に失敗しました",
    4: "로그인이 안 됩니다: 오류 코드 E0308",
    5: "ฐานข้อมูลไม่ทำงาน",
    6: "Le résumé et İstanbul, Подключение к базе",
    7: "call getUserById() and handleOAuthCallback in auth/token_refresh.py",
    8: "migration plans: the containers of PostgreSQL",
}


@pytest.fixture
def written(manager: SessionManager) -> SessionManager:
    manager.create_session("s")
    for text in TEXTS.values():
        manager.add_conversation_message("s", "user", text)
    return manager


def seqs(manager: SessionManager, text: str) -> list[int]:
    return [hit.seq for hit in manager.search(text)]


@pytest.mark.parametrize(
    ("query", "seq"),
    [
        ("数据库", 2),
        ("连接池", 2),
        ("数据", 2),
        ("池", 2),
        ("youer", 2),
        ("服务端", 2),
        ("データベース", 3),
        ("接続", 3),
        ("ﾃﾞｰﾀ", 3),
        ("로그인", 4),
        ("오류", 4),
        (unicodedata.normalize("NFD", "로그인"), 4),
        ("ฐานข้อมูล", 5),
        ("resume", 6),
        ("RÉSUMÉ", 6),
        ("istanbul", 6),
        ("подключ", 6),
        ("ключен", 6),
        ("getuser", 7),
        ("UserById", 7),
        ("handleOAuth", 7),
        ("OAuthCallback", 7),
        ("getUserById", 7),
        ("token_ref", 7),
        ("ken_refr", 7),
        ("migrat", 8),
        ("*tainer*", 8),
        ("stgre", 8),
    ],
)
def test_words_of_every_script_and_parts_of_words_are_found(written: SessionManager, query: str, seq: int) -> None:
    hits = written.search(query)
    assert [hit.seq for hit in hits] == [seq]
    ((start, end),) = hits[0].marks
    assert hits[0].snippet[start - 1] + hits[0].snippet[end] == "[]"


def test_characters_of_a_phrase_stand_next_to_each_other(written: SessionManager) -> None:
    assert seqs(written, "据数") == []
    assert seqs(written, "数据 配置") == [2]
    assert written.search("数据库")[0].snippet == "请检查[数据库]连接池的配置、使用youer服务端"


def test_whole_words_come_alone_and_parts_only_where_there_are_none(written: SessionManager) -> None:
    written.add_conversation_message("s", "assistant", "getuser is another function")
    assert written.search("getuser").found == "words"
    assert seqs(written, "getuser") == [9]
    assert sorted(seqs(written, "getuser*")) == [7, 9]
    assert written.search("migrat").found == "beginnings"
    assert written.search("tainer").found == "parts"
    some = written.search("migration plan for postgres")
    assert (some.found, [hit.seq for hit in some]) == ("some words", [8])
    assert written.search("100%").found == "words"
    assert seqs(written, "us_r*y") == []


def test_what_people_typed_comes_first(manager: SessionManager) -> None:
    manager.create_session("s", "Mend the login")
    manager.add_conversation_message("s", "tool", "login login login", "Bash", "i1")
    manager.add_conversation_message("s", "assistant", "the login, I see")
    manager.add_conversation_message(
        "s", "user", "Please look at why the login of some customers fails since monday " * 3
    )
    assert [hit.role for hit in manager.search("login")] == ["purpose", "user", "assistant", "tool"]
    assert [hit.role for hit in manager.search("ogi")] == ["user", "purpose", "assistant", "tool"]


def test_of_common_words_what_people_typed_comes_first(
    manager: SessionManager, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("eventstore.derived.search_query._RANKED", 3)
    manager.create_session("s")
    for role in ("user", "tool", "user", "tool", "tool"):
        manager.add_conversation_message("s", role, "hay", "Bash" if role == "tool" else None)
    assert [hit.seq for hit in manager.search("hay")] == [4, 2, 6, 5, 3]
    assert seqs(manager, "typed") == []


def test_hits_name_their_session_and_are_filtered_by_project_session_and_time(manager: SessionManager) -> None:
    for name, folder in (("a", "/home/ana/app"), ("b", "/home/ana/app/web"), ("c", "/srv/application"), ("d", None)):
        manager.create_session(name, f"Work of {name}")
        if folder:
            manager.storage.append(name, [e.SessionUpdated(custom_metadata={"cwd": folder})])
        manager.add_conversation_message(
            name, "user", "needle", occurred_at=f"2026-01-0{'abcd'.index(name) + 1}T00:00:00Z"
        )
    hit = manager.search("needle", session_id="b")[0]
    assert (hit.title, hit.project) == ("Work of b", "/home/ana/app/web")

    def found(**filters: str) -> list[str]:
        return sorted(hit.session_id for hit in manager.search("needle", **filters))  # type: ignore[arg-type]

    assert found(project="app") == ["a", "b"]
    assert found(project="/home/ana/app/") == ["a", "b"]
    assert found(project="/home/ana/app/web") == ["b"]
    assert found(project="ANA/app") == ["a", "b"]
    assert found(project="/app") == []
    assert found(until="2026-01-02T00:00:00Z") == ["a", "b"]
    assert found(since="2026-01-02", until="2026-01-03T00:00:00Z") == ["b", "c"]
    manager.storage.append("a", [e.SessionUpdated(purpose="New title", custom_metadata={"cwd": "/new"})])
    assert [hit.title for hit in manager.search("needle", project="new")] == ["New title"]


@given(st.text(min_size=1, max_size=40), st.data())
@settings(max_examples=60)
def test_any_part_of_any_text_finds_it(text: str, data: st.DataObject) -> None:
    start = data.draw(st.integers(0, len(text) - 1))
    part = text[start : data.draw(st.integers(start + 1, len(text)))]
    manager = SessionManager(MemorySessionStorage())
    manager.create_session("s")
    try:
        seq = manager.add_conversation_message("s", "user", text).last
    except ValueError:
        return  # lone surrogates
    hits = manager.search(part)
    for hit in hits:
        assert hit.seq == seq
        assert all(0 < start <= end < len(hit.snippet) for start, end in hit.marks)
    if part.isascii() and part.isalnum():
        assert hits


def test_a_search_answers_from_what_is_there_and_says_how_much_that_is(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(index, "_ROWS_AT_ONCE", 10)
    with FileSystemSessionStorage(tmp_path / ".sessions", tmp_path / ".history", fsync="no") as storage:
        manager = SessionManager(storage)
        for name in "abc":
            manager.create_session(name)
            storage.append(name, [e.MessageAdded(role="user", content=f"needle {n}") for n in range(25)])
        seen = list[int]()
        hits = manager.search("needle", limit=100, wait_s=0)
        while hits.indexing is not None:
            assert hits.indexing.total == 3
            seen.append(len(hits))
            hits = manager.search("needle", limit=100, wait_s=0)
        assert len(hits) == 75
        assert seen == sorted(set(seen))
        assert len(seen) > 3
        storage.append("a", [e.MessageAdded(role="user", content="needle")])
        assert len(manager.search("needle", limit=100, wait_s=0)) == 76


def test_a_search_stops_in_time_in_a_log_without_texts_too(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(index, "_EVENTS_AT_ONCE", 10)
    with FileSystemSessionStorage(tmp_path / ".sessions", tmp_path / ".history", fsync="no") as storage:
        manager = SessionManager(storage)
        manager.create_session("s")
        storage.append("s", [e.UsageRecorded(tokens={"input": n}) for n in range(100)])
        rounds = 1
        while manager.search("needle", wait_s=0).indexing is not None:
            rounds += 1
        assert rounds == 11
        storage.append("s", [e.MessageAdded(role="user", content="needle")])
        assert len(manager.search("needle", wait_s=0)) == 1


def test_no_transaction_has_more_than_a_slice_of_a_large_text(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(index, "_CHARACTERS_AT_ONCE", 1_000)
    with FileSystemSessionStorage(tmp_path / ".sessions", tmp_path / ".history", fsync="no") as storage:
        manager = SessionManager(storage)
        manager.create_session("s")
        text = " ".join(f"word{n}" for n in range(2_000))
        manager.add_conversation_message("s", "user", text)
        written = list[int]()
        original = index._add

        def add(base: sqlite3.Connection, rows: Sequence[Any]) -> None:
            written.append(sum(len(row[-1]) for row in rows))
            original(base, rows)

        monkeypatch.setattr(index, "_add", add)
        assert [hit.seq for hit in manager.search("word*")] == [2]
        assert 500 < max(written) <= 1_000
        assert manager.context("word1999", budget_tokens=10_000).endswith(text)
        assert seqs(manager, "word0") == seqs(manager, "word1999") == [2]


def test_what_a_kill_leaves_of_a_large_text_is_indexed_again(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(index, "_CHARACTERS_AT_ONCE", 1_000)
    monkeypatch.setattr(index, "_add", _dying(index._add, after=5))
    folders = tmp_path / ".sessions", tmp_path / ".history"
    with FileSystemSessionStorage(*folders, fsync="no") as storage:
        manager = SessionManager(storage)
        manager.create_session("s")
        manager.add_conversation_message("s", "user", " ".join(f"word{n}" for n in range(2_000)))
        with pytest.raises(KeyboardInterrupt):
            manager.search("word7")
    monkeypatch.undo()
    path = tmp_path / ".sessions" / "_catalog" / "search.db"
    assert count_of(path) > 1
    with FileSystemSessionStorage(*folders, fsync="no") as storage:
        assert seqs(SessionManager(storage), "word7") == [2]
        assert list(storage.check_caches()) == []


def count_of(path: Path) -> int:
    base = sqlite3.connect(path)
    try:
        (count,) = base.execute("SELECT count(*) FROM said").fetchone()
    finally:
        base.close()
    return int(count)


def _dying(function: object, after: int) -> object:
    left = [after]

    def call(*arguments: object) -> object:
        left[0] -= 1
        if left[0] < 0:
            raise KeyboardInterrupt
        return function(*arguments)  # type: ignore[operator]

    return call
