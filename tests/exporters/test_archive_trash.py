"""Archives and the trash."""

from collections.abc import Callable
from itertools import count
from pathlib import Path
from typing import Any

import pytest

from eventstore import SessionManager
from eventstore.errors import ImportRefused, SessionExists
from eventstore.exporters.archive import export_archive
from eventstore.importers import archive, archive_check
from eventstore.importers.archive import import_archive
from eventstore.integrity import verification, verify_all


def test_a_session_is_not_restored_over_the_same_one_from_an_archive(manager: SessionManager, tmp_path: Path) -> None:
    """The one in the trash stays there, with its record: nothing was moved."""
    manager.create_session("s")
    manager.set_data("s", "k", 1)
    manager.flush()
    export_archive(manager, tmp_path / "s.zip")
    manager.trash.put("s")
    import_archive(manager, tmp_path / "s.zip")
    before = manager.trash.list()
    with pytest.raises(SessionExists):
        manager.trash.restore("s")
    assert manager.trash.list() == before
    assert before[0].events == 2
    assert all(one.is_whole for one in verify_all(manager.storage))


def after_a_call(
    monkeypatch: pytest.MonkeyPatch, module: object, name: str, act: Callable[[], object], number: int = 1
) -> None:
    """Let something happen when a function has been called for the first time, or a later one."""
    real, calls = getattr(module, name), count(1)

    def then(*arguments: Any, **options: Any) -> Any:
        found = real(*arguments, **options)
        if next(calls) == number:
            act()
        return found

    monkeypatch.setattr(module, name, then)


@pytest.mark.parametrize("events_here", [1, 2, 3])
def test_a_session_that_is_trashed_while_it_is_imported_is_not_recorded_as_there(
    manager: SessionManager, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, events_here: int
) -> None:
    """Whether the archive has as many events, more or fewer. `verify` called the store tampered: a session was missing."""
    manager.create_session("s")
    export_archive(manager, tmp_path / "1.zip")
    manager.set_data("s", "k", 1)
    export_archive(manager, tmp_path / "2.zip")
    manager.set_data("s", "k", 2)
    if events_here < 3:
        manager.trash.put("s")
        import_archive(manager, tmp_path / f"{events_here}.zip")
    after_a_call(monkeypatch, archive, "verify_archive", lambda: manager.trash.put("s"))
    try:
        import_archive(manager, tmp_path / "2.zip")
    except ImportRefused:
        assert events_here == 1  # it was to be continued
    assert not manager.storage.log.exists("s")
    assert all(one.is_whole for one in verify_all(manager.storage))
    import_archive(manager, tmp_path / "2.zip")
    assert manager.head("s").version == 2
    assert all(one.is_whole for one in verify_all(manager.storage))


def test_a_session_that_is_trashed_while_it_is_compared_is_imported(
    manager: SessionManager, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    manager.create_session("s")
    export_archive(manager, tmp_path / "s.zip")
    after_a_call(monkeypatch, archive_check, "_version_here", lambda: manager.trash.put("s"), 3)
    assert import_archive(manager, tmp_path / "s.zip").sessions == ("s",)
    assert all(one.is_whole for one in verify_all(manager.storage))


def test_a_session_that_is_trashed_and_imported_again_while_all_are_verified_is_not_accused(
    manager: SessionManager, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    manager.create_session("s")
    export_archive(manager, tmp_path / "s.zip")
    real = verification._verify_at_rest

    def meanwhile(*arguments: Any) -> Any:
        manager.trash.put("s")
        found = real(*arguments)
        import_archive(manager, tmp_path / "s.zip")
        return found

    monkeypatch.setattr(verification, "_verify_at_rest", meanwhile)
    assert all(one.is_whole for one in verify_all(manager.storage))
