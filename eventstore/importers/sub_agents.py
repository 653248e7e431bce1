"""Sub-agents inside a transcript: which call started one, and what their calls are in the session of the transcript.

The messages of such a sub-agent are a session of their own; its calls and usage count in the session of the transcript.
"""

from typing import Any

from msgspec.structs import replace

from eventstore import events as e
from eventstore.importers.meaning import decode


def calls_of(events: list[e.Event]) -> list[e.Event]:
    """Return the calls in the events of a sub-agent's line, with the input and the result that its messages have."""
    said = {
        (event.invocation_id, event.role): event.content
        for event in events
        if isinstance(event, e.MessageAdded) and event.invocation_id is not None
    }
    return [_told(event, said) for event in events if isinstance(event, e.InvocationLinked)]


def _told(event: e.InvocationLinked, said: dict[tuple[str, e.Role], str]) -> e.Event:
    given, answered = said.get((event.invocation_id, "assistant")), said.get((event.invocation_id, "tool"))
    if answered is not None:
        return replace(event, result=answered)
    if given is None:
        return event
    found = decode(given.encode())
    return e.InvocationStarted(
        invocation_id=event.invocation_id, tool_name=event.tool_name, input=given if found is None else found
    )


class Started:
    """The sub-agents that calls of a transcript started, as far as the transcript records them."""

    def __init__(self) -> None:
        self._by_prompt: dict[str, str] = {}
        self._sessions: dict[str, str] = {}

    def called(self, invocation_id: str, arguments: Any) -> None:
        """Remember a call that may start a sub-agent: its input has a prompt."""
        prompt = arguments.get("prompt") if isinstance(arguments, dict) else None
        if isinstance(prompt, str):
            self._by_prompt[prompt] = invocation_id

    def call_of(self, session_id: str, prompt: str) -> str | None:
        """Return the call that started a sub-agent with this first prompt, and remember the session of the sub-agent."""
        found = self._by_prompt.pop(prompt, None)
        if found is not None:
            self._sessions[found] = session_id
        return found

    def answered(self, event: e.Event, agent: str | None) -> e.Event:
        """Return the outcome of a call with the session of the sub-agent that it ran: `agent`, else what is remembered."""
        if not isinstance(event, e.InvocationLinked) or event.success is None:
            return event
        session = agent or self._sessions.pop(event.invocation_id, None)
        return event if session is None else replace(event, sub_session=session)
