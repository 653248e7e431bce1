"""Settings: the environment wins over `.env`, and a bad value names its variable."""

from pathlib import Path

import pytest

from eventstore import (
    FileSystemSessionStorage,
    MemorySessionStorage,
    SessionManager,
    Settings,
    env_manager,
    load_settings,
)
from eventstore.errors import InvalidSetting


@pytest.fixture(autouse=True)
def empty(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    for name in Settings.__dataclass_fields__:
        monkeypatch.delenv(name.upper(), raising=False)
    for name in ("PATH", "ENABLED", "BACKEND", "RETENTION_DAYS", "FSYNC"):
        monkeypatch.delenv(f"SESSION_STORAGE_{name}", raising=False)
        monkeypatch.delenv(f"TOOL_HISTORY_{name}", raising=False)


def test_defaults_are_those_of_the_original() -> None:
    assert load_settings() == Settings()
    assert (Settings().storage_path, Settings().history_path) == (Path(".sessions"), Path(".history"))
    assert (Settings().retention_days, Settings().backend, Settings().fsync) == (30, "filesystem", "always")


def test_the_environment_wins_over_the_file(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    Path(".env").write_text(
        "SESSION_STORAGE_PATH=from-file\nTOOL_HISTORY_PATH='h # not a comment'\nSESSION_RETENTION_DAYS=7\n"
    )
    monkeypatch.setenv("SESSION_STORAGE_PATH", "from-environment")
    found = load_settings()
    assert (found.storage_path, found.history_path) == (Path("from-environment"), Path("h # not a comment"))
    assert found.retention_days == 7


@pytest.mark.parametrize(
    ("name", "value"),
    [
        ("SESSION_STORAGE_ENABLED", "perhaps"),
        ("SESSION_STORAGE_BACKEND", "papyrus"),
        ("SESSION_STORAGE_RETENTION_DAYS", "-1"),
        ("SESSION_STORAGE_RETENTION_DAYS", "1e3"),
        ("SESSION_STORAGE_RETENTION_DAYS", "9" * 400),
        ("SESSION_RETENTION_DAYS", "soon"),
        ("SESSION_STORAGE_FSYNC", "sometimes"),
        ("TOOL_HISTORY_ENABLED", "2"),
        ("SESSION_STORAGE_PATH", "a\0b"),
    ],
)
def test_a_bad_value_is_an_error_that_names_the_variable(name: str, value: str) -> None:
    with pytest.raises(InvalidSetting, match=name):
        load_settings({name: value})


def test_an_empty_value_counts_as_not_given() -> None:
    assert load_settings({"SESSION_STORAGE_PATH": "", "TOOL_HISTORY_ENABLED": " "}) == Settings()


def test_a_file_that_is_not_text_is_an_error_that_names_it(tmp_path: Path) -> None:
    Path(".env").write_bytes(b"A=\xff\n")
    with pytest.raises(InvalidSetting, match=r"\.env"):
        load_settings()


def test_programs_of_the_original_ask_by_their_names(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("SESSION_STORAGE_RETENTION_DAYS", "5")
    assert env_manager.get_session_storage_path() == Path(".sessions")
    assert env_manager.get_session_retention_days() == 5
    assert env_manager.get_session_storage_backend() == "filesystem"
    assert env_manager.is_session_storage_enabled()
    assert env_manager.get_tool_history_path() == Path(".history")
    assert env_manager.is_tool_history_enabled()


def test_a_manager_opens_what_the_settings_name(tmp_path: Path) -> None:
    with SessionManager.from_settings(
        load_settings({"SESSION_STORAGE_PATH": "x", "TOOL_HISTORY_PATH": "y"})
    ) as manager:
        manager.create_session("s")
        assert isinstance(manager.storage, FileSystemSessionStorage)
    assert (tmp_path / "x" / "s" / "events.jsonl").is_file()


@pytest.mark.parametrize("name", ["SESSION_STORAGE_ENABLED", "SESSION_STORAGE_BACKEND"])
def test_nothing_is_kept_where_storage_is_off_or_in_memory(tmp_path: Path, name: str) -> None:
    value = "false" if name.endswith("ENABLED") else "memory"
    with SessionManager.from_settings(load_settings({name: value})) as manager:
        manager.create_session("s")
        assert isinstance(manager.storage, MemorySessionStorage)
    assert not (tmp_path / ".sessions").exists()


def test_no_folder_is_made_where_the_history_is_off(tmp_path: Path) -> None:
    with SessionManager.from_settings(load_settings({"TOOL_HISTORY_ENABLED": "no"})) as manager:
        manager.create_session("s")
        with manager.invocation("s", "grep") as call:
            assert call.folder is None
        assert call.invocation_id.startswith("inv_")
    assert not (tmp_path / ".history").exists()
