"""The contracts of backends and logs, on a real PostgreSQL."""

from collections.abc import Callable, Iterator

import pytest
from postgres import new_url

from eventstore.backends.postgres.address import parse_address
from eventstore.backends.postgres.backend import PostgresBackend
from eventstore.log.contract import BackendContract, EventLogContract
from eventstore.log.engine import EventLog
from eventstore.log.port import Backend

pytestmark = pytest.mark.engines


@pytest.fixture
def url() -> str:
    return new_url()


class TestPostgres(BackendContract):
    @pytest.fixture
    def backend(self, url: str) -> Iterator[Backend]:
        backend = PostgresBackend(parse_address(url))
        yield backend
        backend.close()

    @pytest.fixture
    def again(self, url: str) -> Iterator[Callable[[], Backend]]:
        opened: list[PostgresBackend] = []

        def open_again() -> Backend:
            opened.append(PostgresBackend(parse_address(url)))
            return opened[-1]

        yield open_again
        for backend in opened:
            backend.close()


class TestPostgresThroughPooler(TestPostgres):
    """Through pgbouncer in transaction mode."""

    @pytest.fixture
    def url(self) -> str:
        return new_url(pooled=True)


class TestPostgresEventLog(EventLogContract):
    @pytest.fixture
    def log(self, url: str) -> Iterator[EventLog]:
        with EventLog(PostgresBackend(parse_address(url))) as log:
            yield log
