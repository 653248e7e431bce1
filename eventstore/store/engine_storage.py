"""Sessions in a storage engine that hosts share, opened by URL: the data is there, and only caches are on this machine."""

import os
import weakref
from contextlib import suppress
from hashlib import sha256
from pathlib import Path

from eventstore.backends.open import URL, is_url, open_backend, scheme_of, shown
from eventstore.derived.catalog import FOLDER
from eventstore.errors import InvalidSetting, ReadRefused
from eventstore.ids import STORE_ID, Fsync
from eventstore.log.engine import EventLog
from eventstore.log.port import Backend
from eventstore.settings import Settings
from eventstore.store.local_storage import FileSystemSessionStorage, MemorySessionStorage
from eventstore.store.storage import SessionStorage
from eventstore.store.tool_history import ToolHistory

_APPLICATION = "eventstore"


class EngineSessionStorage(SessionStorage):
    """Sessions on any backend. Lists, search and figures are answered from caches in a folder of this machine.

    `cache_dir` is that folder; each store has its own folder below it, and deleting it loses no data. Without one, the
    caches are in memory. With a `history_dir`, tool calls get folders below it, on this machine. There are no views of
    the logs.
    """

    def __init__(
        self, backend: Backend, *, cache_dir: Path | str | None = None, history_dir: Path | str | None = None
    ) -> None:
        super().__init__(EventLog(backend))
        self.cache_dir: Path | None = None
        if cache_dir is not None:
            name = sha256(backend.where("").encode()).hexdigest()[:24]
            self.cache_dir = Path(os.path.abspath(cache_dir), name)
            with suppress(OSError):  # then the caches are in memory
                self.cache_dir.mkdir(0o700, parents=True, exist_ok=True)
            self._list_with(self.cache_dir / FOLDER)
        self.history = None if history_dir is None else ToolHistory(history_dir)
        _OPEN.add(self)

    def local_folders(self) -> list[Path]:
        return [self.cache_dir] if self.cache_dir is not None else []

    def begin_in_child(self) -> None:
        """Reset the locks of the parent process."""
        self.registry.begin_in_child()


def open_store(
    url: str,
    *,
    fsync: Fsync | None = None,
    cache_dir: Path | str | None = None,
    history_dir: Path | str | None = None,
) -> SessionStorage:
    """Open the store that a URL names, for `SessionManager(open_store(url))`.

    - `memory:`: sessions exist as long as the object;
    - `file:///path`: the folder that holds `.sessions` and `.history`;
    - `postgresql://user@host/database?schema=name`: PostgreSQL; missing tables are created;
    - `s3://bucket/prefix?endpoint=http://host:port`, `az://container/prefix?account=name`, `gs://bucket/prefix`: objects,
      with keys from the environment.

    `fsync` is the durability if the URL names none; by default `always`. `cache_dir` is for caches of stores on other
    hosts, by default the user's cache folder. `history_dir` is the folder for tool calls, if any; a `file:` store has
    its own. Raises InvalidSetting, ExtraMissing, and ReadRefused if the store cannot be reached. No error shows a
    password.
    """
    if not isinstance(url, str) or not url:
        what = f"is a {type(url).__name__}, not text" if url != "" else "is empty"
        raise ValueError(
            f"url {what}; nothing was opened: give one such as file:///path, memory: or postgresql://host/database"
        )
    name = scheme_of(url)
    if name == "memory":
        if url.rstrip("/") not in ("memory:", "MEMORY:"):
            raise InvalidSetting(URL, shown(url), "memory:, without anything after it")
        return MemorySessionStorage(history_dir)
    if name == "file":
        folder = _folder_of(url)
        return FileSystemSessionStorage(
            folder / ".sessions", history_dir or folder / ".history", fsync=fsync or "always"
        )
    if not name and "://" not in url:
        raise InvalidSetting(URL, url, f"a URL, as {Path(url).absolute().as_uri()} is for that folder")
    backend = open_backend(url, fsync=fsync)
    storage = EngineSessionStorage(backend, cache_dir=cache_dir or _default_cache(), history_dir=history_dir)
    try:
        storage.log.size_bytes(
            STORE_ID
        )  # the error is raised here, not in a later operation: the store cannot be reached, or may not be used
    except ReadRefused:
        storage.close()
        raise
    return storage


def _folder_of(url: str) -> Path:
    """Read the folder of a `file:` URL."""
    from urllib.parse import unquote, urlsplit

    parts = urlsplit(url)
    path = unquote(parts.path)
    if (
        parts.netloc not in ("", "localhost")
        or not path.startswith("/")
        or "\0" in path
        or parts.query
        or parts.fragment
    ):
        raise InvalidSetting(URL, shown(url), "file:///path/of/a/folder, with an absolute path and nothing else")
    folder = Path(path)
    return folder.parent if folder.name == ".sessions" else folder


def _default_cache() -> Path:
    from platformdirs import user_cache_path

    return user_cache_path(_APPLICATION, appauthor=False)


_OPEN: "weakref.WeakSet[EngineSessionStorage]" = weakref.WeakSet()


def _begin_in_child() -> None:
    for storage in list(_OPEN):
        storage.begin_in_child()


if hasattr(os, "register_at_fork"):
    os.register_at_fork(after_in_child=_begin_in_child)

__all__ = ["EngineSessionStorage", "is_url", "open_store"]


def open_configured(found: Settings) -> SessionStorage:
    """Open the store that settings name. Raises InvalidSetting."""
    if found.storage_enabled and found.url is not None:
        history = found.history_path if found.history_enabled else None
        return open_store(found.url, fsync=found.fsync, cache_dir=found.cache_path, history_dir=history)
    if found.storage_enabled and found.backend == "filesystem":
        return FileSystemSessionStorage(found.storage_path, found.history_path, fsync=found.fsync)
    return MemorySessionStorage(found.history_path)
