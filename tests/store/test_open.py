"""Stores by URL: `open_store`, the settings and `--store` open the same store, and no error shows a password."""

import builtins
import sys
from pathlib import Path
from typing import Any

import pytest
from postgres import new_url

from eventstore import (
    FileSystemSessionStorage,
    MemorySessionStorage,
    SessionManager,
    SessionStorage,
    load_settings,
    open_store,
)
from eventstore.backends.memory import MemoryBackend
from eventstore.backends.open import SCHEMES, is_url
from eventstore.errors import EventStoreError, ExtraMissing, InvalidSetting, ReadRefused
from eventstore.store import EngineSessionStorage

SECRET = "hunter2"


@pytest.fixture
def server_url() -> str:
    return new_url()


def test_memory_is_a_store_of_this_object(tmp_path: Path) -> None:
    with open_store("memory:", history_dir=tmp_path) as store:
        assert isinstance(store, MemorySessionStorage)
        assert store.history is not None
        assert store.history.path == tmp_path


def test_a_file_url_opens_what_is_in_the_folder(tmp_path: Path) -> None:
    folder = tmp_path / "a folder"
    with SessionManager(open_store(f"file://{str(folder).replace(' ', '%20')}", fsync="no")) as manager:
        session_id = manager.create_session(purpose="by URL").metadata.session_id
    with FileSystemSessionStorage(folder / ".sessions", folder / ".history") as storage:
        assert storage.metadata(session_id).purpose == "by URL"
    with open_store(f"file://{folder}/.sessions") as again:
        assert list(again.log.ids()) == [session_id]


@pytest.mark.parametrize("url", ["file:relative", "file://host/path", "file:///p?x=1", "file:///a%00b", "memory:x"])
def test_a_url_that_is_half_understood_is_refused(url: str) -> None:
    with pytest.raises(InvalidSetting, match="the URL of a store"):
        open_store(url)


def test_a_path_is_answered_with_its_url(tmp_path: Path) -> None:
    with pytest.raises(InvalidSetting, match=f"as file://{tmp_path} is for that folder; nothing was opened"):
        open_store(str(tmp_path))


def test_an_unknown_scheme_names_what_can_be_opened_and_what_to_install() -> None:
    with pytest.raises(InvalidSetting) as refused:
        open_store(f"mysql://me:{SECRET}@host/base?password={SECRET}")
    assert SECRET not in str(refused.value)
    for one in ("file:", "memory:", "postgresql:", "extra `postgres`"):
        assert one in str(refused.value)


def test_an_engine_whose_packages_are_missing_names_its_extra(monkeypatch: pytest.MonkeyPatch) -> None:
    for name in [one for one in sys.modules if one.startswith(("psycopg", "eventstore.backends.postgres"))]:
        monkeypatch.delitem(sys.modules, name)
    real = builtins.__import__

    def without(name: str, *args: Any, **named: Any) -> Any:
        if name.partition(".")[0] == "psycopg":
            raise ModuleNotFoundError("No module named 'psycopg'", name="psycopg")
        return real(name, *args, **named)

    monkeypatch.setattr(builtins, "__import__", without)
    with pytest.raises(ExtraMissing, match=r"'\.\[postgres\]'"):
        open_store("postgresql://localhost/base")


@pytest.mark.parametrize("query", ["schema=UPPER", "schema=pg_x", "schema=a;b", "fsync=often", "timeout=soon", "=x&&"])
def test_a_wrong_part_of_a_url_is_named_and_the_password_is_not(query: str) -> None:
    with pytest.raises(InvalidSetting) as refused:
        open_store(f"postgresql://me:{SECRET}@localhost/base?{query}")
    assert SECRET not in str(refused.value)


def test_a_server_that_does_not_answer_is_a_refusal_without_a_password(tmp_path: Path) -> None:
    url = f"postgresql://me:{SECRET}@127.0.0.1:9/base?sslpassword={SECRET}"
    with pytest.raises(ReadRefused) as refused:
        open_store(url, cache_dir=tmp_path)
    error: BaseException | None = refused.value
    while error is not None:
        assert SECRET not in f"{error!s} {error!r} {error.args}"
        error = error.__cause__ or error.__context__
    assert "127.0.0.1:9" in str(refused.value)


@pytest.mark.parametrize(
    ("change", "named"),
    [
        (("/postgres?", "/nowhere?"), "nowhere"),
        (("tester@", f"nobody:{SECRET}@"), "nobody"),
        (("?", "?unknown=1&"), "URL"),
    ],
)
def test_why_a_server_refuses_is_named(server_url: str, tmp_path: Path, change: tuple[str, str], named: str) -> None:
    with pytest.raises(ReadRefused, match=named) as refused:
        open_store(server_url.replace(*change, 1), cache_dir=tmp_path)
    assert SECRET not in str(refused.value)


def test_settings_open_the_store_of_a_url_and_show_no_password(tmp_path: Path) -> None:
    url = f"postgresql://me:{SECRET}@127.0.0.1:9/base"
    settings = load_settings({"SESSION_STORAGE_URL": url, "SESSION_STORAGE_CACHE": str(tmp_path)})
    assert (settings.url, settings.backend, settings.cache_path) == (url, "postgresql", tmp_path)
    assert SECRET not in repr(settings)
    with pytest.raises(EventStoreError) as refused:
        SessionManager.from_settings(settings)
    assert SECRET not in str(refused.value)
    with SessionManager.from_settings(load_settings({"SESSION_STORAGE_URL": "memory:"})) as manager:
        assert isinstance(manager.storage, MemorySessionStorage)


@pytest.mark.parametrize(
    ("values", "named"),
    [
        ({"SESSION_STORAGE_BACKEND": "postgresql"}, "SESSION_STORAGE_URL"),
        ({"SESSION_STORAGE_BACKEND": "objects"}, "SESSION_STORAGE_URL"),
        ({"SESSION_STORAGE_BACKEND": "filesystem", "SESSION_STORAGE_URL": "memory:"}, "SESSION_STORAGE_BACKEND"),
        ({"SESSION_STORAGE_BACKEND": "objects", "SESSION_STORAGE_URL": "postgresql://h/b"}, "SESSION_STORAGE_BACKEND"),
    ],
)
def test_a_backend_without_its_url_or_with_another_ones_is_an_invalid_setting(
    values: dict[str, str], named: str
) -> None:
    with pytest.raises(InvalidSetting, match=f"^{named}="):
        load_settings(values)


def test_folders_and_urls_are_told_apart() -> None:
    for url in ("memory:", "file:///p", "postgresql://h/b", "unknown://x", *(f"{one}://x" for one in SCHEMES)):
        assert is_url(url)
    for path in ("folder", "/folder", "./a:b", "C", "a/b:c", ""):
        assert not is_url(path)


# --- on a real server: a few here, all tests of sessions with `-m engines`


def open_engine(url: str, folder: Path) -> SessionStorage:
    return open_store(url, cache_dir=folder / "cache", history_dir=folder / "history")


def test_two_programs_on_one_database_see_one_store(server_url: str, tmp_path: Path) -> None:
    with (
        SessionManager(open_engine(server_url, tmp_path / "one")) as one,
        SessionManager(open_engine(server_url, tmp_path / "two")) as two,
    ):
        session_id = one.create_session(purpose="shared", tags=["t"]).metadata.session_id
        two.add_conversation_message(session_id, "user", "hello from two")
        one.add_conversation_message(session_id, "assistant", "and from one")
        found = two.get_session(session_id)
        assert found is not None
        assert [message.content for message in found.conversation] == ["hello from two", "and from one"]
        assert [item.metadata.purpose for item in two.list_sessions(tags=["t"])] == ["shared"]
        assert [hit.session_id for hit in one.search("hello")] == [session_id]
        assert two.trash.put(session_id)
        assert one.list_sessions() == []
        one.trash.restore(session_id)
        assert two.delete_session(session_id)
        assert one.get_session(session_id) is None


def test_what_an_engine_cannot_do_is_declared(server_url: str, tmp_path: Path) -> None:
    with open_engine(server_url, tmp_path) as store:
        assert isinstance(store, EngineSessionStorage)
        assert not store.has_views
        assert store.log.capabilities.durable
        assert not store.log.capabilities.shows_writers
        assert store.local_folders()[0].is_relative_to(tmp_path / "cache")


def test_the_cache_of_a_store_can_be_deleted(server_url: str, tmp_path: Path) -> None:
    with SessionManager(open_engine(server_url, tmp_path)) as manager:
        manager.create_session("s", purpose="kept")
        assert [one.metadata.session_id for one in manager.list_sessions()] == ["s"]
        folder = manager.storage.local_folders()[0]
    for file in sorted(folder.rglob("*"), reverse=True):
        file.rmdir() if file.is_dir() else file.unlink()
    with SessionManager(open_engine(server_url, tmp_path)) as manager:
        assert [one.metadata.purpose for one in manager.list_sessions()] == ["kept"]


def test_commands_take_a_url(
    server_url: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    from eventstore.cli import main

    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("SESSION_STORAGE_CACHE", str(tmp_path / "cache"))

    def run(*arguments: str) -> tuple[int, str]:
        monkeypatch.setattr(sys, "argv", ["eventstore", *arguments])
        with pytest.raises(SystemExit) as ended:
            main()
        return int(ended.value.code or 0), "".join(capsys.readouterr())

    status, out = run("--store", server_url, "create", "--purpose", "from the shell")
    assert status == 0, out
    assert "from the shell" in run("list", "--store", server_url)[1]
    monkeypatch.setenv("SESSION_STORAGE_URL", server_url)
    assert "from the shell" in run("list")[1]
    assert run("verify", "--all")[0] == 0
    status, out = run("rebuild")
    assert status == 1
    assert "nothing to rebuild" in out
    assert not (tmp_path / ".sessions").exists()


def test_a_redaction_names_where_the_server_keeps_the_text_for_a_while(server_url: str, tmp_path: Path) -> None:
    with SessionManager(open_engine(server_url, tmp_path)) as manager:
        manager.create_session("s")
        manager.add_conversation_message("s", "user", "a secret text")
        done = manager.redactions.redact("s", 2, "a secret")
        assert any("VACUUM" in place for place in done.residue)
        assert manager.redactions.redact("s", 2, "a secret").residue == ()
    with SessionManager(open_store("memory:")) as memory:
        memory.create_session("s")
        memory.add_conversation_message("s", "user", "a secret text")
        assert memory.redactions.redact("s", 2, "a secret").residue == ()


def test_caches_of_an_engine_outlive_the_program(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    backend, cache = MemoryBackend(), tmp_path / "new" / "cache"
    with SessionManager(EngineSessionStorage(backend, cache_dir=cache)) as manager:
        manager.create_session("s", "to be found")
        assert len(manager.list_sessions()) == 1
    with EngineSessionStorage(backend, cache_dir=cache) as again:
        monkeypatch.setattr(again, "_describe", pytest.fail)
        assert [one.purpose for one in again.list_metadata()] == ["to be found"]
    assert {path.stat().st_mode & 0o777 for path in cache.rglob("*") if path.is_dir()} == {0o700}


def test_a_url_of_several_servers_uses_the_one_that_accepts_writes(server_url: str) -> None:
    place = server_url.partition("@")[2].partition("/")[0]
    url = server_url.replace(place, f"127.0.0.1:1,{place}")
    with SessionManager(open_store(url)) as manager:
        manager.create_session("s")
        assert f"127.0.0.1:1,{place}/" in repr(manager.storage.log.backend)
    with pytest.raises(InvalidSetting):
        open_store(server_url.replace(place, "127.0.0.1:1,host:port"))
