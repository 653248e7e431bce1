"""The stores that a suite runs on: URLs in its arguments, behind its folder."""

import os
import sys
from collections import deque
from collections.abc import Callable
from itertools import count
from pathlib import Path
from tempfile import mkdtemp

from eventstore import SessionManager, open_store

FOLDER = Path(sys.argv[1])
"""The folder of the suite: its environment, and what it downloaded."""
URLS = sys.argv[2:] or ["memory:"]
"""Each with `NUMBER` where an empty store has a name of its own."""
_MOST_OPEN = 8
_numbers = count(1)
_open: deque[SessionManager] = deque()


def new_manager(url: str) -> SessionManager:
    """Open an empty store. The oldest that are open are closed; they open again when they are used."""
    number = f"{os.getpid()}_{next(_numbers)}"  # one server has the stores of several suites
    if url == "files":
        url = Path(mkdtemp(dir=FOLDER)).as_uri()
    storage = open_store(url.replace("NUMBER", number), fsync="no", cache_dir=mkdtemp(dir=FOLDER))
    manager = SessionManager(storage)
    _open.append(manager)
    while len(_open) > _MOST_OPEN:
        _open.popleft().close()
    return manager


def makers() -> dict[str, Callable[[], SessionManager]]:
    """Return what opens an empty store, by the kind of the store."""
    return {url.partition(":")[0]: lambda url=url: new_manager(url) for url in URLS}  # type: ignore[misc]
