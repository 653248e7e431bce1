"""One store: its registry, the state of its sessions, lists, trash and retention."""

from typing import TYPE_CHECKING

from eventstore.door import open_door

if TYPE_CHECKING:
    from eventstore.store.as_of import At as At
    from eventstore.store.copying import Copied as Copied
    from eventstore.store.copying import copy_sessions as copy_sessions
    from eventstore.store.copying import keep_copying as keep_copying
    from eventstore.store.engine_storage import EngineSessionStorage as EngineSessionStorage
    from eventstore.store.engine_storage import open_store as open_store
    from eventstore.store.local_storage import FileSystemSessionStorage as FileSystemSessionStorage
    from eventstore.store.local_storage import MemorySessionStorage as MemorySessionStorage
    from eventstore.store.pages import Page as Page
    from eventstore.store.retention import Expiry as Expiry
    from eventstore.store.retention import Trashed as Trashed
    from eventstore.store.storage import SessionStorage as SessionStorage
    from eventstore.store.tool_history import Record as Record
    from eventstore.store.tool_history import ToolHistory as ToolHistory

__getattr__, __dir__, __all__ = open_door(
    __name__,
    {
        "eventstore.store.as_of": "At",
        "eventstore.store.copying": "Copied copy_sessions keep_copying",
        "eventstore.store.engine_storage": "EngineSessionStorage open_store",
        "eventstore.store.pages": "Page",
        "eventstore.store.retention": "Expiry Trashed",
        "eventstore.store.storage": "SessionStorage",
        "eventstore.store.local_storage": "FileSystemSessionStorage MemorySessionStorage",
        "eventstore.store.tool_history": "Record ToolHistory",
    },
)
