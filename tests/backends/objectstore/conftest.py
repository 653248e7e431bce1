"""What the tests of object storage share."""

from collections.abc import Iterator

import pytest
from breaking.object_front import Front, MemoryObjects
from breaking.object_server import environment


@pytest.fixture
def front() -> Iterator[Front]:
    """A server of HTTP in front of objects in memory, which counts requests and lets them fail."""
    environment()
    front = Front(MemoryObjects())
    yield front
    front.close()
