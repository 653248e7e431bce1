"""The meaning of LangChain's chat messages: messages, tool calls and usage of eventstore."""

from collections.abc import Iterator
from typing import Any

from eventstore import events as e
from eventstore.integrations.meaning import call_began, call_ended, text_of_parts

_ROLES: dict[str, e.Role] = {"human": "user", "ai": "assistant", "system": "system", "tool": "tool"}
_TOKENS = {"input_tokens": "input", "output_tokens": "output"}


def meaning_of(message: Any) -> Iterator[e.Event]:
    """Stream the events of a message; none for an unknown kind."""
    role = _ROLES.get(getattr(message, "type", ""))
    if role is None:
        return
    text = text_of_parts(message.content)
    if role == "tool":
        is_good = getattr(message, "status", "success") != "error"
        yield from call_ended(message.tool_call_id, message.name, message.content, success=is_good)
        return
    if text:
        yield e.MessageAdded(role=role, content=text)
    for call in getattr(message, "tool_calls", None) or ():
        if call.get("id"):
            yield from call_began(str(call["id"]), str(call.get("name") or "") or None, call.get("args"))
    usage = getattr(message, "usage_metadata", None)
    if usage:
        tokens = {ours: usage[theirs] for theirs, ours in _TOKENS.items() if isinstance(usage.get(theirs), int)}
        model = (getattr(message, "response_metadata", None) or {}).get("model_name")
        yield e.UsageRecorded(tokens=tokens, model=model if isinstance(model, str) else None, key=message.id)
