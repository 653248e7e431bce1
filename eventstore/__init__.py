"""Session management for MCP servers and AI agents: every operation is one event in an append-only log.

Errors and events are imported at once; everything that stands on the projections is imported when it is first asked for, so
that `import eventstore` stays fast.
"""

from importlib import import_module
from typing import TYPE_CHECKING, Any

from eventstore.errors import (
    AppendRefused,
    EventNotEncodable,
    EventRefused,
    EventStoreError,
    EventTooLarge,
    ExportRefused,
    HandlePoisoned,
    IdReused,
    ImportRefused,
    InvalidSessionId,
    InvalidSetting,
    LogDamaged,
    NoSuchMoment,
    NotARegularFile,
    OutcomeUnknown,
    SessionExists,
    SessionNotFound,
    VersionConflict,
)
from eventstore.release import VERSION

if TYPE_CHECKING:
    from eventstore.analytics import Figures
    from eventstore.async_manager import AsyncSessionManager
    from eventstore.codec import Message, Messages
    from eventstore.exporters.bundle import Bundle, export_audit
    from eventstore.exporters.questions import Audited, audit_session
    from eventstore.exporters.report import write_html, write_markdown
    from eventstore.history import Record, ToolHistory
    from eventstore.importers.transcript import Imported
    from eventstore.log.base import Append, Appended, EventLog, Head, Repair, Written
    from eventstore.log.filesystem import FileSystemEventLog
    from eventstore.log.memory import MemoryEventLog
    from eventstore.log.salvage import Remnant
    from eventstore.manager import Call, SessionManager
    from eventstore.moments import At
    from eventstore.search import Hit
    from eventstore.settings import EnvironmentManager, Settings, env_manager, load_settings
    from eventstore.storage import Expiry, FileSystemSessionStorage, MemorySessionStorage, Page, SessionStorage
    from eventstore.verification import Finding, Verdict, verify_session, verify_store
    from projections.branches import Ancestor, Branch, Comparison
    from projections.difference import Change
    from projections.models import Conversation, ConversationMessage, Session, SessionMetadata, SessionStatus

__version__ = VERSION

__all__ = [
    "Ancestor",
    "Append",
    "AppendRefused",
    "Appended",
    "AsyncSessionManager",
    "At",
    "Audited",
    "Branch",
    "Bundle",
    "Call",
    "Change",
    "Comparison",
    "Conversation",
    "ConversationMessage",
    "EnvironmentManager",
    "EventLog",
    "EventNotEncodable",
    "EventRefused",
    "EventStoreError",
    "EventTooLarge",
    "Expiry",
    "ExportRefused",
    "Figures",
    "FileSystemEventLog",
    "FileSystemSessionStorage",
    "Finding",
    "HandlePoisoned",
    "Head",
    "Hit",
    "IdReused",
    "ImportRefused",
    "Imported",
    "InvalidSessionId",
    "InvalidSetting",
    "LogDamaged",
    "MemoryEventLog",
    "MemorySessionStorage",
    "Message",
    "Messages",
    "NoSuchMoment",
    "NotARegularFile",
    "OutcomeUnknown",
    "Page",
    "Record",
    "Remnant",
    "Repair",
    "Session",
    "SessionExists",
    "SessionManager",
    "SessionMetadata",
    "SessionNotFound",
    "SessionStatus",
    "SessionStorage",
    "Settings",
    "ToolHistory",
    "Verdict",
    "VersionConflict",
    "Written",
    "__version__",
    "audit_session",
    "env_manager",
    "export_audit",
    "load_settings",
    "verify_session",
    "verify_store",
    "write_html",
    "write_markdown",
]

_HOMES = {
    "eventstore.analytics": ("Figures",),
    "eventstore.async_manager": ("AsyncSessionManager",),
    "eventstore.exporters.bundle": ("Bundle", "export_audit"),
    "eventstore.exporters.questions": ("Audited", "audit_session"),
    "eventstore.exporters.report": ("write_html", "write_markdown"),
    "eventstore.history": ("Record", "ToolHistory"),
    "eventstore.importers.transcript": ("Imported",),
    "eventstore.codec": ("Message", "Messages"),
    "eventstore.log.base": ("Append", "Appended", "EventLog", "Head", "Repair", "Written"),
    "eventstore.log.filesystem": ("FileSystemEventLog",),
    "eventstore.log.memory": ("MemoryEventLog",),
    "eventstore.log.salvage": ("Remnant",),
    "eventstore.manager": ("Call", "SessionManager"),
    "eventstore.moments": ("At",),
    "eventstore.search": ("Hit",),
    "eventstore.settings": ("EnvironmentManager", "Settings", "env_manager", "load_settings"),
    "eventstore.storage": ("Expiry", "FileSystemSessionStorage", "MemorySessionStorage", "Page", "SessionStorage"),
    "eventstore.verification": ("Finding", "Verdict", "verify_session", "verify_store"),
    "projections.branches": ("Ancestor", "Branch", "Comparison"),
    "projections.difference": ("Change",),
    "projections.models": ("Conversation", "ConversationMessage", "Session", "SessionMetadata", "SessionStatus"),
}
_HOME_OF = {name: home for home, names in _HOMES.items() for name in names}


def __getattr__(name: str) -> Any:
    """Import a public name when it is first asked for (PEP 562)."""
    home = _HOME_OF.get(name)
    if home is None:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    found = globals()[name] = getattr(import_module(home), name)
    return found


def __dir__() -> list[str]:
    return sorted(set(globals()) | set(__all__))
