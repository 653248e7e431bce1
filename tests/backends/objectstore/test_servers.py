"""The contracts of backends and of logs, on real servers of objects."""

from collections.abc import Callable, Iterator

import pytest
from object_servers import new_url

from eventstore import EventLog
from eventstore.backends.objectstore.address import open_objects
from eventstore.log.contract import BackendContract, EventLogContract
from eventstore.log.port import Backend

pytestmark = pytest.mark.engines
SMALL = {"tail_bytes": 300, "segment_bytes": 20_000, "merge": 3}


@pytest.fixture(params=["seaweed", "moto"])
def url(request: pytest.FixtureRequest) -> str:
    return new_url(request.param, **(SMALL if request.param == "moto" else {}))


class TestServers(BackendContract):
    @pytest.fixture
    def backend(self, url: str) -> Backend:
        return open_objects(url)

    @pytest.fixture
    def again(self, url: str) -> Callable[[], Backend]:
        return lambda: open_objects(url)


class TestServersLog(EventLogContract):
    @pytest.fixture
    def log(self, url: str) -> Iterator[EventLog]:
        with EventLog(open_objects(url)) as log:
            yield log
