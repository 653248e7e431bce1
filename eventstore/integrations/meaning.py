"""The meaning of messages of frameworks: their text, and the events of a tool call."""

from collections.abc import Callable, Iterable, Iterator
from typing import Any

import msgspec
from msgspec.structs import replace

from eventstore.errors import EventNotEncodable, EventTooLarge
from eventstore.events import Event, InvocationLinked, InvocationStarted, MessageAdded
from eventstore.integrations.plain import plain
from eventstore.record.codec import prepare
from eventstore.sessions.arguments import checked

_MOST_ERROR, _MOST_TEXT = 500, 1_000_000


def meant(find: Callable[..., Iterable[Event]], *given: Any) -> list[Event]:
    """Return the events that data of a framework means by `find`, as a log holds them; none where it is not as expected.

    The data is kept besides, whatever it means: what cannot be an event is left out or cleaned, and a text that is too long for
    one is cut.
    """
    try:
        found = list(find(*given))
    except (ValueError, TypeError, KeyError, AttributeError, RecursionError):
        return []
    return [fit for one in found if (fit := _fitting(one) or _fitting(_cleaned(one))) is not None]


def _fitting(event: Event) -> Event | None:
    """Return an event as a log holds it; None if a log refuses it."""
    try:
        prepare(checked(event))
    except EventTooLarge:  # large inputs and results are kept beside the log, texts are not
        if not isinstance(event, MessageAdded):
            return event
        left = len(event.content) - _MOST_TEXT
        return replace(event, content=f"{event.content[:_MOST_TEXT]} [... {left} more characters]")
    except EventNotEncodable:
        return None
    return event


def _cleaned(event: Event) -> Event:
    known = {name: getattr(event, name) for name in event.__struct_fields__}
    return replace(event, **{name: plain(value) for name, value in known.items() if value is not msgspec.UNSET})


def text_of_parts(content: Any) -> str:
    """Return the text of a message's content: a text, or a list of parts, some of them with `text`."""
    if isinstance(content, str):
        return content
    if isinstance(content, list):
        texts = [
            part if isinstance(part, str) else part.get("text") for part in content if isinstance(part, str | dict)
        ]
        return "\n".join(text for text in texts if isinstance(text, str) and text)
    return ""


def call_began(call_id: str, name: str | None, given: Any) -> Iterator[Event]:
    """Stream the events for a call that a model requested: the assistant's message, and the start with the tool's input.

    The message has the arguments as JSON, which `conversation` gives to the next model. A text is JSON already.
    """
    shown = plain(given)
    said = shown if isinstance(shown, str) else "" if shown is None else msgspec.json.encode(shown).decode()
    yield MessageAdded(role="assistant", content=said, tool_name=name, invocation_id=call_id)
    yield InvocationStarted(invocation_id=call_id, tool_name=name, input=shown)


def call_ended(
    call_id: str, name: str | None, answer: Any, *, success: bool = True, error: Any = None
) -> Iterator[Event]:
    """Stream the events for what a tool answered: its message, and the end of the call.

    The error is the first line of `error`, or of the message. The message of an answer without text, such as a number or an
    object, is its JSON.
    """
    shown = plain(answer)
    said = text_of_parts(shown)
    if not said and shown not in (None, "", []):  # equal to none of them: 0 and False
        said = msgspec.json.encode(shown).decode()
    reason = None if success else (text_of_parts(plain(error)) or said).partition("\n")[0][:_MOST_ERROR]
    yield MessageAdded(role="tool", content=said, tool_name=name, invocation_id=call_id)
    yield InvocationLinked(invocation_id=call_id, success=success, error=reason, result=shown)
