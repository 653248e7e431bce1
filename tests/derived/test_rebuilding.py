"""Rebuilding as a proof: what is made anew is the same to the byte, and whatever is not is named."""

import errno
import json
import sqlite3
from collections.abc import Callable
from itertools import count
from pathlib import Path
from typing import Any

import pytest

from eventstore import FileSystemSessionStorage, SessionManager
from eventstore.derived.analytics import Analytics
from eventstore.derived.catalog import Catalog
from eventstore.derived.search import Search
from eventstore.errors import OperationRefused
from eventstore.store.rebuild import Rebuilt, check_all, rebuild_all


def tree(folder: Path) -> dict[str, bytes]:
    return {
        str(path.relative_to(folder)): str(path.readlink()).encode() if path.is_symlink() else path.read_bytes()
        for path in sorted(folder.rglob("*"))
        if (path.is_symlink() or path.is_file()) and "_catalog" not in path.parts
    }


@pytest.fixture
def filled(files: FileSystemSessionStorage) -> FileSystemSessionStorage:
    manager = SessionManager(files)
    for name in ("a", "b", "c"):
        manager.create_session(name, f"purpose of {name}", tags=["t"])
        manager.add_conversation_message(name, "user", "hi")
        with manager.invocation(name, "grep", {}):
            pass
        manager.set_data(name, "k", 1)
    manager.fork_session("a", new_id="f")
    manager.add_conversation_message("f", "user", "more")
    files.flush()
    return files


def differences(storage: FileSystemSessionStorage) -> dict[str, str]:
    return {one.session_id: one.difference or one.damage for one in check_all(storage) if one.difference or one.damage}


@pytest.mark.parametrize("jobs", [1, 2])
def test_rebuilt_is_the_same_to_the_byte(
    filled: FileSystemSessionStorage, jobs: int, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("eventstore.store.processes._WORTH_A_PROCESS", 1)
    monkeypatch.setattr("eventstore.store.processes._AT_ONCE", 2)
    before, rows = tree(tmp_path / ".sessions"), filled.rows()
    assert list(check_all(filled, jobs)) == [Rebuilt(name) for name in "abcf"]
    assert list(rebuild_all(filled, jobs)) == [Rebuilt(name) for name in "abcf"]
    assert tree(tmp_path / ".sessions") == before
    assert filled.rows() == rows


@pytest.mark.parametrize("lasts", [True, False])
def test_a_session_that_grows_while_it_is_compared_is_no_difference(
    filled: FileSystemSessionStorage, monkeypatch: pytest.MonkeyPatch, tmp_path: Path, lasts: bool
) -> None:
    assert differences(filled) == {}
    _edit_row(tmp_path / ".sessions")
    manager, times = SessionManager(filled), count()

    def growing(real: Callable[..., Any]) -> Callable[..., Any]:
        def content(*given: Any) -> Any:
            found = real(*given)
            if lasts or next(times) < 2:
                manager.add_conversation_message("a", "user", "more")
                with manager.invocation("a", "grep", {}):
                    pass
            return found

        return content

    for kind in (Catalog, Search, Analytics):
        monkeypatch.setattr(kind, "content", growing(kind.content))
    assert differences(filled) == {"b": "the catalogue has another purpose"}


@pytest.mark.parametrize("name", ["search.db", "analytics.db", "catalog.db"])
def test_a_cache_that_another_program_writes_is_no_difference(
    filled: FileSystemSessionStorage, name: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """It is compared from memory, as it is asked then."""
    monkeypatch.setattr("eventstore.derived.cache_file.BUSY_SECONDS", 0.05)
    assert differences(filled) == {}
    filled.close()
    other = sqlite3.connect(tmp_path / ".sessions" / "_catalog" / name, isolation_level=None)
    try:
        other.execute("BEGIN EXCLUSIVE")
        with FileSystemSessionStorage(tmp_path / ".sessions", tmp_path / ".history") as storage:
            assert differences(storage) == {}
    finally:
        other.close()


def _edit(name: str, change: Callable[[bytes], bytes]) -> Callable[[Path], None]:
    def edit(folder: Path) -> None:
        path = folder / "b" / name
        path.write_bytes(change(path.read_bytes()))

    return edit


def _relink(folder: Path) -> None:
    (link,) = (folder / "b" / "invocations").iterdir()
    link.unlink()
    link.symlink_to("elsewhere")


def _edit_row(folder: Path) -> None:
    with sqlite3.connect(folder / "_catalog" / "catalog.db") as base:
        (shown,) = base.execute("SELECT shown FROM sessions WHERE session_id = 'b'").fetchone()
        known = json.loads(shown) | {"purpose": "forged"}
        base.execute("UPDATE sessions SET shown = ? WHERE session_id = 'b'", (json.dumps(known),))
    base.close()


@pytest.mark.parametrize(
    ("change", "named"),
    [
        (_edit("metadata.json", lambda data: data.replace(b"purpose of b", b"purpose of x")), "metadata.json"),
        (_edit("conversation.jsonl", lambda data: data.replace(b"hi", b"ho")), "conversation.jsonl"),
        (_edit("invocations.json", lambda data: data + b" "), "invocations.json"),
        (_edit("data.json", lambda data: data.replace(b"1", b"2")), "data.json"),
        (_relink, "invocations/"),
        (_edit_row, "the catalogue has another purpose"),
        (_edit("events.jsonl", lambda data: data.replace(b"hi", b"ho")), "is damaged"),
    ],
)
def test_what_is_not_what_the_log_gives_is_named(
    filled: FileSystemSessionStorage, change: Callable[[Path], None], named: str, tmp_path: Path
) -> None:
    assert differences(filled) == {}
    filled.close()
    change(tmp_path / ".sessions")
    with FileSystemSessionStorage(tmp_path / ".sessions", tmp_path / ".history") as fresh:
        ((name, text),) = differences(fresh).items()
        assert name == "b"
        assert named in text


def test_a_session_that_is_deleted_meanwhile_does_not_stop_a_rebuild(filled: FileSystemSessionStorage) -> None:
    with FileSystemSessionStorage(filled.sessions_dir, filled.history_dir, fsync="no") as storage:
        rebuilding = storage.rebuild()
        assert next(rebuilding) == "a"
        filled.delete_session("b")
        filled.trash_session("c")
        assert list(rebuilding) == ["f"]


def test_a_full_disk_is_named_with_the_session_that_was_not_rebuilt(
    filled: FileSystemSessionStorage, monkeypatch: pytest.MonkeyPatch
) -> None:
    def full(*_: object, **__: object) -> None:
        raise OSError(errno.ENOSPC, "No space left on device", "metadata.json")

    monkeypatch.setattr("eventstore.derived.file_views._replace", full)
    with pytest.raises(
        OperationRefused, match=r"was not rebuilt: No space left on device \(metadata.json\)"
    ) as refused:
        list(rebuild_all(filled))
    assert refused.value.errno == errno.ENOSPC
    monkeypatch.undo()
    assert list(rebuild_all(filled)) == [Rebuilt(name) for name in "abcf"]
    assert differences(filled) == {}
