from pathlib import Path
from collections.abc import Iterator
import pytest
from eventstore.backends.files.backend import FilesBackend
from eventstore.log.engine import EventLog
from eventstore.log.contract import EventLogContract
from eventstore.log.port import Backend

class TestFilesContract(EventLogContract):
    @pytest.fixture
    def log(self, tmp_path: Path) -> Iterator[EventLog]:
        backend: Backend = FilesBackend(tmp_path / "logs")
        log = EventLog(backend)
        yield log
        backend.close()
