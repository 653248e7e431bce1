"""The contract of backends, on memory, on files, and through the wrappers of tests, which must change nothing."""

from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
from log.faulty import FaultyBackend, JoiningMemory, TornMemory

from eventstore.backends.files.backend import FilesBackend
from eventstore.backends.memory import MemoryBackend
from eventstore.log.contract import BackendContract
from eventstore.log.port import Backend


class TestMemory(BackendContract):
    @pytest.fixture
    def backend(self) -> Backend:
        return MemoryBackend()


class TestTornMemory(BackendContract):
    @pytest.fixture
    def backend(self) -> Backend:
        return FaultyBackend(TornMemory())


class TestJoiningMemory(BackendContract):
    @pytest.fixture
    def backend(self) -> Backend:
        return FaultyBackend(JoiningMemory())


class TestFiles(BackendContract):
    @pytest.fixture
    def backend(self, tmp_path: Path) -> Iterator[Backend]:
        backend = FilesBackend(tmp_path / "logs", fsync="no")
        yield backend
        backend.close()

    @pytest.fixture
    def again(self, tmp_path: Path) -> Iterator[Callable[[], Backend]]:
        opened: list[FilesBackend] = []

        def open_again() -> Backend:
            opened.append(FilesBackend(tmp_path / "logs", fsync="no"))
            return opened[-1]

        yield open_again
        for backend in opened:
            backend.close()
