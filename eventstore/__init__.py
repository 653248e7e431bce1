"""Session management for MCP servers and AI agents: every operation is one event in an append-only log.

Errors and events are imported at once; everything that stands on the projections is imported when it is first asked for, so
that `import eventstore` stays fast.
"""

from importlib import import_module
from typing import TYPE_CHECKING, Any

from eventstore.errors import (
    AppendRefused,
    CheckpointRefused,
    CursorRefused,
    EventNotEncodable,
    EventRefused,
    EventStoreError,
    EventTooLarge,
    ExportRefused,
    ExtraMissing,
    HandlePoisoned,
    IdReused,
    ImportRefused,
    InvalidSessionId,
    InvalidSetting,
    KeyRefused,
    LogDamaged,
    LogRolledBack,
    LogTampered,
    NoSuchMoment,
    NotARegularFile,
    OutcomeUnknown,
    PositionNotSaved,
    RedactionRefused,
    SessionExists,
    SessionNotFound,
    VersionConflict,
)
from eventstore.release import version as _version

if TYPE_CHECKING:
    from eventstore.backends.files.log import FileSystemEventLog
    from eventstore.backends.memory import MemoryEventLog
    from eventstore.derived.analytics import Figures
    from eventstore.derived.search import Hit
    from eventstore.exporters.archive import Archive, export_archive
    from eventstore.exporters.bundle import Bundle, export_audit
    from eventstore.exporters.questions import Audited, audit_session
    from eventstore.exporters.report import write_html, write_markdown
    from eventstore.importers.archive import Adopted, import_archive
    from eventstore.importers.transcript import Imported
    from eventstore.integrity.checkpoint import (
        Checkpoint,
        Note,
        SignatureLine,
        Signed,
        SigningKey,
        VerifierKey,
        open_note,
        parse_note,
        sign,
    )
    from eventstore.integrity.merkle import consistency_proof, inclusion_proof, verify_consistency, verify_inclusion
    from eventstore.integrity.redaction import Redactable, Redacted
    from eventstore.integrity.signing import Consistency, Inclusion
    from eventstore.integrity.verification import Finding, Verdict, verify_all, verify_session, verify_store
    from eventstore.log.base import Append, Appended, Head, Repair, Written
    from eventstore.log.engine import EventLog
    from eventstore.log.watch import Watch
    from eventstore.record.message_run import Message
    from eventstore.record.message_run import MessageRun as Messages
    from eventstore.record.salvage import Remnant
    from eventstore.secret_patterns import Patterns
    from eventstore.sessions.async_manager import AsyncSessionManager
    from eventstore.sessions.manager import Call, SessionManager
    from eventstore.settings import EnvironmentManager, Settings, env_manager, load_settings
    from eventstore.store.as_of import At
    from eventstore.store.pages import Page
    from eventstore.store.retention import Expiry, Trashed
    from eventstore.store.storage import SessionStorage
    from eventstore.store.storages import FileSystemSessionStorage, MemorySessionStorage
    from eventstore.store.tool_history import Record, ToolHistory
    from eventstore.subscriptions.subscription import Delivered, Subscription
    from projections.branches import Ancestor, Branch, Comparison
    from projections.difference import Change
    from projections.models import Conversation, ConversationMessage, Session, SessionMetadata, SessionStatus

    __version__: str

__all__ = [
    "Adopted",
    "Ancestor",
    "Append",
    "AppendRefused",
    "Appended",
    "Archive",
    "AsyncSessionManager",
    "At",
    "Audited",
    "Branch",
    "Bundle",
    "Call",
    "Change",
    "Checkpoint",
    "CheckpointRefused",
    "Comparison",
    "Consistency",
    "Conversation",
    "ConversationMessage",
    "CursorRefused",
    "Delivered",
    "EnvironmentManager",
    "EventLog",
    "EventNotEncodable",
    "EventRefused",
    "EventStoreError",
    "EventTooLarge",
    "Expiry",
    "ExportRefused",
    "ExtraMissing",
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
    "Inclusion",
    "InvalidSessionId",
    "InvalidSetting",
    "KeyRefused",
    "LogDamaged",
    "LogRolledBack",
    "LogTampered",
    "MemoryEventLog",
    "MemorySessionStorage",
    "Message",
    "Messages",
    "NoSuchMoment",
    "NotARegularFile",
    "Note",
    "OutcomeUnknown",
    "Page",
    "Patterns",
    "PositionNotSaved",
    "Record",
    "Redactable",
    "Redacted",
    "RedactionRefused",
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
    "SignatureLine",
    "Signed",
    "SigningKey",
    "Subscription",
    "ToolHistory",
    "Trashed",
    "Verdict",
    "VerifierKey",
    "VersionConflict",
    "Watch",
    "Written",
    "__version__",
    "audit_session",
    "consistency_proof",
    "env_manager",
    "export_archive",
    "export_audit",
    "import_archive",
    "inclusion_proof",
    "load_settings",
    "open_note",
    "parse_note",
    "sign",
    "verify_all",
    "verify_consistency",
    "verify_inclusion",
    "verify_session",
    "verify_store",
    "write_html",
    "write_markdown",
]

_HOMES = {
    "eventstore.derived.analytics": ("Figures",),
    "eventstore.sessions.async_manager": ("AsyncSessionManager",),
    "eventstore.subscriptions.subscription": ("Delivered", "Subscription"),
    "eventstore.integrity.checkpoint": (
        "Checkpoint",
        "Note",
        "SignatureLine",
        "Signed",
        "SigningKey",
        "VerifierKey",
        "open_note",
        "parse_note",
        "sign",
    ),
    "eventstore.exporters.archive": ("Archive", "export_archive"),
    "eventstore.exporters.bundle": ("Bundle", "export_audit"),
    "eventstore.exporters.questions": ("Audited", "audit_session"),
    "eventstore.exporters.report": ("write_html", "write_markdown"),
    "eventstore.store.tool_history": ("Record", "ToolHistory"),
    "eventstore.importers.archive": ("Adopted", "import_archive"),
    "eventstore.importers.transcript": ("Imported",),
    "eventstore.record.codec": ("Message", "Messages"),
    "eventstore.store.pages": ("Page",),
    "eventstore.log.base": ("Append", "Appended", "Head", "Repair", "Written"),
    "eventstore.log.engine": ("EventLog",),
    "eventstore.backends.files.log": ("FileSystemEventLog",),
    "eventstore.backends.memory": ("MemoryEventLog",),
    "eventstore.record.salvage": ("Remnant",),
    "eventstore.log.watch": ("Watch",),
    "eventstore.sessions.manager": ("Call", "SessionManager"),
    "eventstore.integrity.merkle": ("consistency_proof", "inclusion_proof", "verify_consistency", "verify_inclusion"),
    "eventstore.store.as_of": ("At",),
    "eventstore.secret_patterns": ("Patterns",),
    "eventstore.integrity.redaction": ("Redactable", "Redacted"),
    "eventstore.store.retention": ("Expiry", "Trashed"),
    "eventstore.derived.search": ("Hit",),
    "eventstore.settings": ("EnvironmentManager", "Settings", "env_manager", "load_settings"),
    "eventstore.integrity.signing": ("Consistency", "Inclusion"),
    "eventstore.store.storage": ("SessionStorage",),
    "eventstore.store.storages": ("FileSystemSessionStorage", "MemorySessionStorage"),
    "eventstore.integrity.verification": ("Finding", "Verdict", "verify_all", "verify_session", "verify_store"),
    "projections.branches": ("Ancestor", "Branch", "Comparison"),
    "projections.difference": ("Change",),
    "projections.models": ("Conversation", "ConversationMessage", "Session", "SessionMetadata", "SessionStatus"),
}
_HOME_OF = {name: home for home, names in _HOMES.items() for name in names}


def __getattr__(name: str) -> Any:
    """Import a public name when it is first asked for (PEP 562)."""
    if name == "__version__":
        return _version()
    home = _HOME_OF.get(name)
    if home is None:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    found = globals()[name] = getattr(import_module(home), name)
    return found


def __dir__() -> list[str]:
    return sorted(set(globals()) | set(__all__))
