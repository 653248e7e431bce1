"""Conversations as input for a model: complete turns, complete tool calls, within a limit of messages or tokens."""

import json
from collections.abc import Callable, Iterator, Sequence
from collections.abc import Set as AbstractSet
from dataclasses import dataclass
from dataclasses import replace as replace_dataclass
from itertools import pairwise
from typing import Any, Literal, NamedTuple, TypeAlias, TypeVar

from msgspec.structs import replace as replace_struct

from eventstore.record.message_run import Message
from projections.content import result_of, text_of, tool_use_of
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

    A call is an assistant message with an `invocation_id`, and its result the next tool message with the same id; or a call is a
    `tool_use` block of an assistant message, and its result the next `tool_result` block with its id. A message of which blocks
    are left out has the others. A tool message without an id belongs to no call and stays.
    """
    halves: set[tuple[int, int | None]] = set()
    open_calls: dict[str, tuple[int, int | None]] = {}
    for place, message in enumerate(messages):
        for block, called, is_call in _halves(message):
            if is_call:
                if called in open_calls:
                    halves.add(open_calls[called])
                open_calls[called] = place, block
            elif open_calls.pop(called, None) is None:
                halves.add((place, block))
    halves.update(open_calls.values())
    if not halves:
        return list(messages)
    left_out: dict[int, set[int | None]] = {}
    for place, block in halves:
        left_out.setdefault(place, set()).add(block)
    rest = (_without(message, left_out.get(place, set())) for place, message in enumerate(messages))
    return [message for message in rest if message is not None]


def _halves(message: Message | ConversationMessage) -> Iterator[tuple[int | None, str, bool]]:
    """Stream the calls and results in a message: the block's number (None: the message is it), the id, whether it is a call."""
    if message.invocation_id is not None:
        if message.role in ("assistant", "tool"):
            yield None, message.invocation_id, message.role == "assistant"
        return
    find = tool_use_of if message.role == "assistant" else result_of
    for number, block in enumerate(message.blocks or ()):
        found = find(block)
        if found is not None:
            yield number, found, message.role == "assistant"


def _without(message: M, left_out: AbstractSet[int | None]) -> M | None:
    """Return a message without some of its blocks, or None if nothing is left."""
    if not left_out:
        return message
    kept = [number for number in range(len(message.blocks or ())) if number not in left_out]
    if None in left_out or not kept:
        return None
    blocks = [(message.blocks or [])[number] for number in kept]
    changed: dict[str, Any] = {"content": text_of(blocks), "blocks": blocks, "blobs": _moved(message.blobs, kept)}
    if isinstance(message, Message):
        return replace_struct(message, **changed)
    return replace_dataclass(message, **changed)


def _moved(blobs: list[Any] | None, kept: list[int]) -> list[Any] | None:
    """Return the files of the blocks that are kept, by the new numbers of their blocks."""
    places = {number: place for place, number in enumerate(kept)}
    paths = ((blob, blob["at"]) for blob in blobs or ())
    return [{**blob, "at": [places[path[0]], *path[1:]]} for blob, path in paths if path[0] in places] or None


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
        for _, invocation_id, is_call in _halves(message):
            if is_call:
                called[invocation_id] = place
            else:
                inside.update(range(called.pop(invocation_id, place) + 1, place + 1))
    starts = [place for place in starts if place not in inside]
    return list(pairwise([*starts, len(messages)]))


class _Call(NamedTuple):
    """A call, and the block that it is in Anthropic's format."""

    id: str
    name: str
    arguments: Any
    block: Any


class _Result(NamedTuple):
    """The content of a result, text or blocks, and the block that it is in Anthropic's format."""

    content: Any
    block: Any


@dataclass(frozen=True, slots=True)
class _Step:
    """One unit of model input: a text or blocks; parallel tool calls with their results; or blocks among which are calls.

    `calls` without `blocks` are calls that are messages. With `blocks`, these are the blocks of the message, the calls included.
    """

    role: str
    text: str = ""
    blocks: list[Any] | None = None
    calls: tuple[tuple[_Call, _Result], ...] = ()


def _steps(messages: Sequence[M]) -> Iterator[_Step]:
    """Pair each result with its call, and group calls that have no text between them."""
    results: dict[str, list[_Result]] = {}
    for message in messages:
        for block, called, is_call in _halves(message):
            if not is_call:
                results.setdefault(called, []).append(_result(message, called, block))
    group: tuple[tuple[_Call, _Result], ...] = ()
    for message in messages:
        found = list(_halves(message))
        calls = tuple((_call(message, called, block), results[called].pop(0)) for block, called, yes in found if yes)
        if message.role == "assistant" and message.invocation_id is not None:
            group += calls
            continue
        if message.role == "tool":
            continue  # added with its call; the formats have no place for a result without a call
        rest = message if calls else _without(message, {block for block, _, _ in found})
        if rest is None:
            continue  # nothing but results, which are added with their calls
        if group:
            yield _Step("assistant", calls=group)
            group = ()
        yield _Step(rest.role, rest.content, rest.blocks, calls)
    if group:
        yield _Step("assistant", calls=group)


def _call(message: Message | ConversationMessage, called: str, number: int | None) -> _Call:
    if number is not None and message.blocks is not None:
        block = message.blocks[number]
        return _Call(called, str(block.get("name") or "unknown"), block.get("input", {}), block)
    name, arguments = message.tool_name or "unknown", _arguments(message.content)
    return _Call(called, name, arguments, {"type": "tool_use", "id": called, "name": name, "input": arguments})


def _result(message: Message | ConversationMessage, called: str, number: int | None) -> _Result:
    if number is not None and message.blocks is not None:
        block = message.blocks[number]
        return _Result(block.get("content") or "", block)
    content = message.content if message.blocks is None else message.blocks
    shown = content if isinstance(content, str) else to_anthropic_blocks(content)
    return _Result(content, {"type": "tool_result", "tool_use_id": called, "content": shown})


def to_openai(messages: Sequence[M]) -> list[dict[str, Any]]:
    """Return a conversation as messages of OpenAI's chat completions, without incomplete tool calls.

    `tool_use` blocks become `tool_calls` of their message, and each `tool_result` block a message of the tool behind it.
    """
    shown: list[dict[str, Any]] = []
    for step in _steps(complete_calls(messages)):
        blocks = step.blocks
        if step.calls and blocks is not None:
            blocks = [block for block in blocks if tool_use_of(block) is None]
        content = step.text if blocks is None else to_openai_blocks(blocks)
        if not step.calls:
            shown.append({"role": step.role, "content": content})
            continue
        calls = [
            {
                "id": call.id,
                "type": "function",
                "function": {"name": call.name, "arguments": json.dumps(call.arguments)},
            }
            for call, _ in step.calls
        ]
        shown.append({"role": "assistant", "content": content or None, "tool_calls": calls})
        shown += [
            {
                "role": "tool",
                "tool_call_id": call.id,
                "content": to_openai_blocks(result.content) if isinstance(result.content, list) else result.content,
            }
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
            continue
        if step.blocks is not None:
            blocks = to_anthropic_blocks(step.blocks)
        elif step.calls:
            blocks = [call.block for call, _ in step.calls]
        else:
            blocks = [{"type": "text", "text": step.text}]
        for block in blocks:
            _append_block(shown, step.role, block)
        for _, result in step.calls:
            _append_block(shown, "user", result.block)
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
