"""Session management for MCP servers and AI agents: every operation is one event in an append-only log.

Here are the names of everyday use. More are in `eventstore.errors`, `eventstore.events`, `eventstore.integrity` (proofs and
verification), `eventstore.exporters`, `eventstore.importers`, `eventstore.sessions`, `eventstore.store`, `eventstore.log`.
"""

from typing import TYPE_CHECKING

from eventstore.door import open_door

if TYPE_CHECKING:
    from eventstore.backends.files.log import FileSystemEventLog as FileSystemEventLog
    from eventstore.backends.memory import MemoryEventLog as MemoryEventLog
    from eventstore.custom_events import CustomEvent as CustomEvent
    from eventstore.derived.analytics import Figures as Figures
    from eventstore.derived.search import Hit as Hit
    from eventstore.errors import AppendRefused as AppendRefused
    from eventstore.errors import EventRefused as EventRefused
    from eventstore.errors import EventStoreError as EventStoreError
    from eventstore.errors import InvalidSessionId as InvalidSessionId
    from eventstore.errors import LogDamaged as LogDamaged
    from eventstore.errors import NoSuchMoment as NoSuchMoment
    from eventstore.errors import OutcomeUnknown as OutcomeUnknown
    from eventstore.errors import SessionExists as SessionExists
    from eventstore.errors import SessionNotFound as SessionNotFound
    from eventstore.errors import VersionConflict as VersionConflict
    from eventstore.log.base import Appended as Appended
    from eventstore.log.base import Head as Head
    from eventstore.log.engine import EventLog as EventLog
    from eventstore.release import __version__ as __version__
    from eventstore.secret_patterns import Patterns as Patterns
    from eventstore.sessions.async_manager import AsyncSessionManager as AsyncSessionManager
    from eventstore.sessions.call import Call as Call
    from eventstore.sessions.manager import SessionManager as SessionManager
    from eventstore.settings import EnvironmentManager as EnvironmentManager
    from eventstore.settings import Settings as Settings
    from eventstore.settings import env_manager as env_manager
    from eventstore.settings import load_settings as load_settings
    from eventstore.store.as_of import At as At
    from eventstore.store.engine_storage import open_store as open_store
    from eventstore.store.local_storage import FileSystemSessionStorage as FileSystemSessionStorage
    from eventstore.store.local_storage import MemorySessionStorage as MemorySessionStorage
    from eventstore.store.pages import Page as Page
    from eventstore.store.storage import SessionStorage as SessionStorage
    from eventstore.store.tool_history import Record as Record
    from eventstore.store.tool_history import ToolHistory as ToolHistory
    from eventstore.subscriptions.subscription import Delivered as Delivered
    from eventstore.subscriptions.subscription import Subscription as Subscription
    from projections.difference import Change as Change
    from projections.models import Conversation as Conversation
    from projections.models import ConversationMessage as ConversationMessage
    from projections.models import Session as Session
    from projections.models import SessionMetadata as SessionMetadata
    from projections.models import SessionStatus as SessionStatus
    from projections.projection import Projection as Projection

__getattr__, __dir__, __all__ = open_door(
    __name__,
    {
        "eventstore.backends.files.log": "FileSystemEventLog",
        "eventstore.backends.memory": "MemoryEventLog",
        "eventstore.custom_events": "CustomEvent",
        "eventstore.derived.analytics": "Figures",
        "eventstore.derived.search": "Hit",
        "eventstore.errors": "AppendRefused EventRefused EventStoreError InvalidSessionId LogDamaged "
        "NoSuchMoment OutcomeUnknown SessionExists SessionNotFound VersionConflict",
        "eventstore.log.base": "Appended Head",
        "eventstore.log.engine": "EventLog",
        "eventstore.release": "__version__",
        "eventstore.secret_patterns": "Patterns",
        "eventstore.sessions.async_manager": "AsyncSessionManager",
        "eventstore.sessions.call": "Call",
        "eventstore.sessions.manager": "SessionManager",
        "eventstore.settings": "EnvironmentManager Settings env_manager load_settings",
        "eventstore.store.as_of": "At",
        "eventstore.store.engine_storage": "open_store",
        "eventstore.store.pages": "Page",
        "eventstore.store.storage": "SessionStorage",
        "eventstore.store.local_storage": "FileSystemSessionStorage MemorySessionStorage",
        "eventstore.store.tool_history": "Record ToolHistory",
        "eventstore.subscriptions.subscription": "Delivered Subscription",
        "projections.difference": "Change",
        "projections.models": "Conversation ConversationMessage Session SessionMetadata SessionStatus",
        "projections.projection": "Projection",
    },
)
