"""Recovering: where nobody can tell which sessions are being written, none is abandoned."""

import pytest

from eventstore import EventStoreError, FileSystemSessionStorage, SessionManager, SessionStorage
from eventstore.backends.files.backend import FilesBackend
from eventstore.errors import NotSupported
from eventstore.log.port import Capabilities


def refuses(storage: SessionStorage) -> None:
    manager = SessionManager(storage)
    manager.create_session("s")
    version = storage.log.head("s").version
    with pytest.raises(NotSupported, match="nothing was done: complete the sessions"):
        manager.recover_sessions(silent_hours=0)
    assert storage.log.head("s").version == version


def test_no_session_is_abandoned_where_writers_cannot_be_seen(
    storage: SessionStorage, monkeypatch: pytest.MonkeyPatch
) -> None:
    if isinstance(storage, FileSystemSessionStorage):  # another system than Linux
        hidden = Capabilities(torn_tails=True, shows_writers=False)
        monkeypatch.setattr(FilesBackend, "capabilities", hidden)
        storage = FileSystemSessionStorage(storage.sessions_dir, storage.history_dir)
        with pytest.raises(NotSupported):
            FilesBackend(storage.sessions_dir).is_open("s")
    with storage:
        refuses(storage)
    assert issubclass(NotSupported, EventStoreError)
