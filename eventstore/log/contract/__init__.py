"""The contracts, as tests: `EventLogContract` for a log, `BackendContract` for what stores its lines. They need pytest.

A backend is done when it passes both. Each test is one sentence of the promise. Call
`pytest.register_assert_rewrite("eventstore.log.contract")` before the first import of this package, or failures name no values.

    class TestMyBackend(BackendContract):
        @pytest.fixture
        def backend(self, tmp_path):
            return MyBackend(tmp_path)

        @pytest.fixture
        def again(self, tmp_path):
            return lambda: MyBackend(tmp_path)

    class TestMyEventLog(EventLogContract):
        @pytest.fixture
        def log(self, tmp_path):
            with EventLog(MyBackend(tmp_path)) as log:
                yield log
"""

from collections.abc import Callable, Iterator

import pytest

from eventstore.log.contract.appending import AppendingContract
from eventstore.log.contract.changing import ChangingContract
from eventstore.log.contract.life import LifeContract
from eventstore.log.contract.lines import LinesContract
from eventstore.log.contract.reading import ReadingContract, WindowContract
from eventstore.log.contract.sample import said
from eventstore.log.contract.whole_logs import WholeLogsContract
from eventstore.log.engine import EventLog
from eventstore.log.port import Backend

__all__ = ["BackendContract", "EventLogContract", "said"]


class EventLogContract(AppendingContract, ReadingContract, WindowContract, LifeContract, ChangingContract):
    """The promises of `EventLog`, for any backend."""

    @pytest.fixture
    def log(self) -> Iterator[EventLog]:
        """Yield an empty log; each backend gives its own."""
        raise NotImplementedError


class BackendContract(LinesContract, WholeLogsContract):
    """The promises of the port, for any backend. What it declares it cannot do is not asked of it."""

    @pytest.fixture
    def backend(self) -> Iterator[Backend]:
        """Yield an empty backend."""
        raise NotImplementedError

    @pytest.fixture
    def again(self, backend: Backend) -> Callable[[], Backend]:
        """Return what opens the same store once more; the same object where `capabilities.shared` is False."""
        return lambda: backend
