"""The contract of backends, on memory, and through the wrappers of tests, which must change nothing."""

import pytest
from log.faulty import FaultyBackend, TornMemory

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
