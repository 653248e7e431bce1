"""The figures of a session, as JSON values."""

from typing import Any

from projections import sum_range, summary
from projections.fold import Fold
from projections.models import SessionMetadata
from projections.summary import State

projection: Fold[State] = summary.projection
"""The figures come from the summary. Messages are counted in the current conversation, without cleared or rewound ones."""


def to_dict(state: State, session_id: str) -> dict[str, Any]:
    """Return the figures as JSON values: times as ISO text, `duration_seconds` from creation to the last update."""
    return show(state.metadata.to_model(session_id), len(state.spoken))


def add(figures: dict[str, Any], more: dict[str, Any]) -> dict[str, Any]:
    """Return figures with those of a sub-agent added: messages, calls, their duration, tokens, cost and tools. Times stay."""
    total = dict(figures)
    for name in ("total_invocations", "message_count"):
        total[name] += more[name]
    total["total_duration_ms"] = sum_range.real(total["total_duration_ms"] + more["total_duration_ms"])
    if more["estimated_cost"] is not None:
        total["estimated_cost"] = sum_range.real((total["estimated_cost"] or 0.0) + more["estimated_cost"])
    total["tools_used"] = list(dict.fromkeys([*total["tools_used"], *more["tools_used"]]))
    if more["token_usage"] is not None:
        tokens = dict(total["token_usage"] or {})
        for kind, count in more["token_usage"].items():
            tokens[kind] = sum_range.whole(tokens.get(kind, 0) + count)
        total["token_usage"] = tokens
    return total


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
