"""The figures of a session, as JSON values."""

from typing import Any

from projections import summary
from projections.models import SessionMetadata
from projections.projection import Projection
from projections.summary import State

projection: Projection[State] = summary.projection
"""The figures come from the summary. Messages are counted in the current conversation, without cleared or rewound ones."""


def to_dict(state: State, session_id: str) -> dict[str, Any]:
    """Return the figures as JSON values: times as ISO text, `duration_seconds` from creation to the last update."""
    return show(state.metadata.to_model(session_id), len(state.spoken))


def show(known: SessionMetadata, messages: int) -> dict[str, Any]:
    """Return the figures of a session with this metadata and this number of messages."""
    shown = known.to_dict()
    return {
        "session_id": known.session_id,
        "status": shown["status"],
        "created_at": shown["created_at"],
        "updated_at": shown["updated_at"],
        "duration_seconds": (known.updated_at - known.created_at).total_seconds(),
        "total_invocations": known.total_invocations,
        "total_duration_ms": known.total_duration_ms,
        "tools_used": shown["tools_used"],
        "message_count": messages,
        "estimated_cost": known.estimated_cost,
        "token_usage": shown["token_usage"],
    }
