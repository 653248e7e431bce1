"""Conversations as input for a model: complete turns, complete tool calls, within a limit of messages or tokens."""

import json
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from itertools import pairwise
from typing import Any, Literal, TypeAlias, TypeVar

from eventstore.record.message_run import Message
from projections.content import to_anthropic as to_anthropic_blocks
from projections.content import to_openai as to_openai_blocks
from projections.models import ConversationMessage

Format: TypeAlias = Literal["plain", "openai", "anthropic"]
M = TypeVar("M", Message, ConversationMessage)

BYTES_PER_TOKEN = 4
"""UTF-8 bytes per token in `estimate`: an average for English text. Other languages and code have fewer."""


def estimate(message: Message | ConversationMessage) -> int:
    """Estimate the tokens of a message: a quarter of its bytes, plus four for the role and separators."""
    return len(message.content.encode("utf-8", "replace")) // BYTES_PER_TOKEN + 4


def complete_calls(messages: Sequence[M]) -> list[M]:
    """Return the messages without tool calls that have no result, and without results that have no earlier call.

    A call is an assistant message with an `invocation_id`. Its result is the next tool message with the same id. A tool message
    without an id belongs to no call and stays.
    """
    halves: set[int] = set()
    open_calls: dict[str, int] = {}
    for place, message in enumerate(messages):
        called = message.invocation_id
        if called is None:
            continue
        if message.role == "assistant":
            if called in open_calls:
                halves.add(open_calls[called])
            open_calls[called] = place
        elif message.role == "tool" and open_calls.pop(called, None) is None:
            halves.add(place)
    halves.update(open_calls.values())
    return [message for place, message in enumerate(messages) if place not in halves]


def latest(
    messages: Sequence[M],
    limit: int | None = None,
    tokens: int | None = None,
    count: Callable[[M], int] = estimate,
) -> list[M]:
    """Return the latest complete turns of at most `limit` messages and `tokens` tokens, in order, without incomplete tool calls.

    A turn begins with a user message and ends before the next one. If the result of a call is in a later turn, the turns from the
    call to the result count as one. System messages at the start of the conversation are always kept, and count. `count`
    returns the tokens of a message.
    """
    complete = complete_calls(messages)
    opening = next((place for place, message in enumerate(complete) if message.role != "system"), len(complete))
    room = len(complete) if limit is None else limit - opening
    budget = None if tokens is None else tokens - sum(map(count, complete[:opening]))
    start = len(complete)
    for first, last in reversed(_turns(complete, opening)):
        turn = complete[first:last]
        room -= len(turn)
        if budget is not None:
            budget -= sum(map(count, turn))
        if room < 0 or (budget is not None and budget < 0):
            break
        start = first
    return complete[:opening] + complete[start:]


def _turns(messages: Sequence[Message | ConversationMessage], opening: int) -> list[tuple[int, int]]:
    """Return (start, end) of each turn. Turns that a tool call spans are joined."""
    starts = [place for place in range(opening, len(messages)) if place == opening or messages[place].role == "user"]
    called: dict[str, int] = {}
    inside: set[int] = set()
    for place, message in enumerate(messages):
        if message.invocation_id is None:
            continue
        if message.role == "assistant":
            called[message.invocation_id] = place
        elif message.role == "tool":
            inside.update(range(called.pop(message.invocation_id, place) + 1, place + 1))
    starts = [place for place in starts if place not in inside]
    return list(pairwise([*starts, len(messages)]))


@dataclass(frozen=True, slots=True)
class _Step:
    """One unit of model input: a text, or parallel tool calls with their results."""

    role: str
    text: str = ""
    blocks: list[Any] | None = None
    calls: "tuple[tuple[Message | ConversationMessage, Message | ConversationMessage], ...]" = ()


def _steps(messages: Iterable[Message | ConversationMessage]) -> list[_Step]:
    """Pair each result with its call, and group calls that have no text between them."""
    found = list(messages)
    results: dict[str, list[Message | ConversationMessage]] = {}
    for message in found:
        if message.role == "tool" and message.invocation_id is not None:
            results.setdefault(message.invocation_id, []).append(message)
    steps: list[_Step] = []
    for message in found:
        if message.role == "tool":
            continue  # added with its call; the formats have no place for a result without a call
        if message.role != "assistant" or message.invocation_id is None:
            steps.append(_Step(message.role, message.content, message.blocks))
            continue
        pair = (message, results[message.invocation_id].pop(0))
        if steps and steps[-1].calls:
            steps[-1] = _Step("assistant", calls=(*steps[-1].calls, pair))
        else:
            steps.append(_Step("assistant", calls=(pair,)))
    return steps


def _openai_content(message: "Message | ConversationMessage") -> Any:
    return message.content if message.blocks is None else to_openai_blocks(message.blocks)


def _anthropic_content(message: "Message | ConversationMessage") -> Any:
    return message.content if message.blocks is None else to_anthropic_blocks(message.blocks)


def to_openai(messages: Sequence[M]) -> list[dict[str, Any]]:
    """Return a conversation as messages of OpenAI's chat completions, without incomplete tool calls."""
    shown: list[dict[str, Any]] = []
    for step in _steps(complete_calls(messages)):
        if not step.calls:
            shown.append(
                {"role": step.role, "content": step.text if step.blocks is None else to_openai_blocks(step.blocks)}
            )
            continue
        calls = [
            {
                "id": call.invocation_id,
                "type": "function",
                "function": {"name": call.tool_name or "unknown", "arguments": json.dumps(_arguments(call.content))},
            }
            for call, _ in step.calls
        ]
        shown.append({"role": "assistant", "content": None, "tool_calls": calls})
        shown += [
            {"role": "tool", "tool_call_id": call.invocation_id, "content": _openai_content(result)}
            for call, result in step.calls
        ]
    return shown


def to_anthropic(messages: Sequence[M]) -> dict[str, Any]:
    """Return a conversation as `system` and `messages` of Anthropic's API, without incomplete tool calls.

    The API requires alternating roles, so consecutive messages of one role become one message with several blocks.
    """
    system: list[str] = []
    shown: list[dict[str, Any]] = []
    for step in _steps(complete_calls(messages)):
        if step.role == "system":
            system.append(step.text)
        elif not step.calls:
            for block in (
                [{"type": "text", "text": step.text}] if step.blocks is None else to_anthropic_blocks(step.blocks)
            ):
                _append_block(shown, step.role, block)
        else:
            for call, _ in step.calls:
                name, arguments = call.tool_name or "unknown", _arguments(call.content)
                _append_block(
                    shown,
                    "assistant",
                    {"type": "tool_use", "id": call.invocation_id, "name": name, "input": arguments},
                )
            for call, result in step.calls:
                _append_block(
                    shown,
                    "user",
                    {"type": "tool_result", "tool_use_id": call.invocation_id, "content": _anthropic_content(result)},
                )
    return {"system": "\n\n".join(system), "messages": shown}


def _append_block(shown: list[dict[str, Any]], role: str, block: dict[str, Any]) -> None:
    if shown and shown[-1]["role"] == role:
        shown[-1]["content"].append(block)
    else:
        shown.append({"role": role, "content": [block]})


def _arguments(content: str) -> dict[str, Any]:
    """Parse the arguments of a call. Text that is not a JSON object becomes the single argument `input`."""
    try:
        found = json.loads(content)
    except ValueError:
        found = None
    return found if isinstance(found, dict) else {"input": content}
