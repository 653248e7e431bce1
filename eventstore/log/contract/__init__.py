"""The contracts, as tests: `EventLogContract` for a log, `BackendContract` for what stores its lines. They need pytest.

A backend is done when it passes both. Each test is one sentence of the promise. Call
`pytest.register_assert_rewrite("eventstore.log.contract")` before the first import of this package, or failures name no values.

    class TestMyBackend(BackendContract):
        @pytest.fixture
        def open_backend(self, tmp_path):
            return lambda: MyBackend(tmp_path)

    class TestMyEventLog(EventLogContract):
        @pytest.fixture
        def log(self, tmp_path):
            with EventLog(MyBackend(tmp_path)) as log:
                yield log
"""

from collections.abc import Iterator

import pytest

from eventstore.log.contract.appending import AppendingContract
from eventstore.log.contract.life import LifeContract
from eventstore.log.contract.reading import ReadingContract
from eventstore.log.contract.sample import said
from eventstore.log.engine import EventLog

__all__ = ["EventLogContract", "said"]


class EventLogContract(AppendingContract, ReadingContract, LifeContract):
    """The promises of `EventLog`, for any backend."""

    @pytest.fixture
    def log(self) -> Iterator[EventLog]:
        """Yield an empty log; each backend gives its own."""
        raise NotImplementedError
