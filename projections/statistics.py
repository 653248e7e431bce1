"""A session's figures, as programs read them."""

from typing import Any

from projections import summary
from projections.models import SessionMetadata
from projections.projection import Projection
from projections.summary import State

projection: Projection[State] = summary.projection
"""Figures come from the summary: the count of messages is that of the conversation as it stands."""


def to_dict(state: State, session_id: str) -> dict[str, Any]:
    """Give the figures as JSON values: times as ISO text, `duration_seconds` from creation to the last update."""
    return show(state.metadata.to_model(session_id), len(state.spoken))


def show(known: SessionMetadata, messages: int) -> dict[str, Any]:
    """Give the figures of a session of which this is known, and that has so many messages."""
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
