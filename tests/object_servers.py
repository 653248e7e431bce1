"""The servers of objects of a run of tests, started when the first test asks, and stores in them, each below its own prefix."""

import atexit
import os
from functools import cache
from itertools import count

from breaking.object_server import MotoServer, ObjectServer, SeaweedServer, environment
from obstore.store import MemoryStore

from eventstore.backends.objectstore import ObjectOptions, ObjectsBackend
from eventstore.backends.objectstore.address import open_objects

_numbers = count(1)


@cache
def server(kind: str) -> ObjectServer:
    """Start a server, `seaweed` or `moto`, once in this process. Where there is none the test fails: it is never skipped."""
    environment()
    found, process = (SeaweedServer if kind == "seaweed" else MotoServer)(), os.getpid()
    atexit.register(lambda: found.stop() if os.getpid() == process else None)
    return found


def new_prefix() -> str:
    """Return a prefix that nobody has."""
    return f"test-{os.getpid()}-{next(_numbers)}"


def new_url(kind: str, **query: object) -> str:
    """Return the URL of an empty store."""
    return server(kind).url(new_prefix()) + "".join(f"&{name}={value}" for name, value in query.items())


def new_seaweed_backend() -> ObjectsBackend:
    """Open an empty store on SeaweedFS."""
    return open_objects(new_url("seaweed", lease_seconds=2))


def new_memory_backend() -> ObjectsBackend:
    """Open an empty store in memory, with segments from the first lines on."""
    return ObjectsBackend(MemoryStore(), options=ObjectOptions(tail_bytes=2_000, merge=3, lease_seconds=2))
