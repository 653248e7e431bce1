"""Archives and the trash."""

from pathlib import Path

import pytest

from eventstore import SessionManager
from eventstore.errors import SessionExists
from eventstore.exporters.archive import export_archive
from eventstore.importers.archive import import_archive
from eventstore.integrity import verify_all


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
