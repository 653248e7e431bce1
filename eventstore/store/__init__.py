"""One store: its registry, the state of its sessions, lists, trash and retention."""

from typing import TYPE_CHECKING

from eventstore.door import open_door

if TYPE_CHECKING:
    from eventstore.store.as_of import At as At
    from eventstore.store.pages import Page as Page
    from eventstore.store.retention import Expiry as Expiry
    from eventstore.store.retention import Trashed as Trashed
    from eventstore.store.storage import SessionStorage as SessionStorage
    from eventstore.store.storages import FileSystemSessionStorage as FileSystemSessionStorage
    from eventstore.store.storages import MemorySessionStorage as MemorySessionStorage
    from eventstore.store.tool_history import Record as Record
    from eventstore.store.tool_history import ToolHistory as ToolHistory

__getattr__, __dir__, __all__ = open_door(
    __name__,
    {
        "eventstore.store.as_of": "At",
        "eventstore.store.pages": "Page",
        "eventstore.store.retention": "Expiry Trashed",
        "eventstore.store.storage": "SessionStorage",
        "eventstore.store.storages": "FileSystemSessionStorage MemorySessionStorage",
        "eventstore.store.tool_history": "Record ToolHistory",
    },
)
