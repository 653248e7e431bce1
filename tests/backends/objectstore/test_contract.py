"""The contracts of backends and of logs, on objects in memory."""

from collections.abc import Callable, Iterator

import pytest
from obstore.store import MemoryStore

from eventstore import EventLog
from eventstore.backends.objectstore import ObjectOptions, ObjectsBackend
from eventstore.log.contract import BackendContract, EventLogContract
from eventstore.log.port import Backend

SIZES = [ObjectOptions(), ObjectOptions(tail_bytes=300, segment_bytes=20_000, merge=3)]


@pytest.fixture(params=SIZES, ids=["large", "small"])
def options(request: pytest.FixtureRequest) -> ObjectOptions:
    found = request.param
    assert isinstance(found, ObjectOptions)
    return found


@pytest.fixture
def store() -> MemoryStore:
    return MemoryStore()


class TestObjects(BackendContract):
    @pytest.fixture
    def backend(self, store: MemoryStore, options: ObjectOptions) -> Backend:
        return ObjectsBackend(store, options=options)

    @pytest.fixture
    def again(self, store: MemoryStore, options: ObjectOptions) -> Callable[[], Backend]:
        return lambda: ObjectsBackend(store, options=options)


class TestObjectsLog(EventLogContract):
    @pytest.fixture
    def log(self, store: MemoryStore, options: ObjectOptions) -> Iterator[EventLog]:
        with EventLog(ObjectsBackend(store, "some/prefix", options=options)) as log:
            yield log
