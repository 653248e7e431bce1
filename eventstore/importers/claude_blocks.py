"""The blocks of Claude Code's messages as text, prompts that were typed while the agent worked, and how a session ended."""

import re
from collections import Counter
from math import isfinite
from typing import Any

from eventstore import events as e
from eventstore.importers.meaning import COMPLETED, Ending, text_of

_FOR_THE_AGENT = "task-notification", "peer"
SAVED = re.compile(r"saved to: (\S[^\n]*)")
"""Where the full output of a call was saved, in the answer that the agent got."""
_INTERRUPTED = "[Request interrupted"


class QueuedPrompts:
    """Prompts that a person typed while the agent worked.

    An operation of the queue and an attachment may both report the same prompt.
    """

    def __init__(self) -> None:
        self._queue: list[str] = []
        self._waiting: list[e.Event] = []
        self._told: Counter[str] = Counter()

    def operation(self, line: dict[str, Any], now: bool, *, copied: bool) -> list[e.Event]:
        """Return the prompt that an operation of the queue gives to the agent; it waits if it cannot be shown now."""
        content, operation = line.get("content"), line.get("operation")
        if operation == "enqueue" and isinstance(content, str):
            self._queue = [*self._queue[-99:], content]
            return []
        if operation == "remove" and line.get("reason") == "absorbed_mid_turn":
            text = content if isinstance(content, str) else self._queue[0] if self._queue else ""
            if text in self._queue:
                self._queue.remove(text)
            if text and self._told[text] < 0:  # an attachment has reported it already
                self._told[text] += 1
            elif text:
                self._told[text] += 1
                return self._show(text, now, copied=copied)
        return []

    def attachment(self, attachment: Any, now: bool, *, copied: bool) -> list[e.Event]:
        """Return the prompt of an attachment, if a person typed it and no operation reported it."""
        if not isinstance(attachment, dict) or attachment.get("type") != "queued_command":
            return []
        origin = attachment.get("origin")
        kinds = attachment.get("commandMode"), origin.get("kind") if isinstance(origin, dict) else None
        text = result_text(attachment.get("prompt"))
        if any(kind in _FOR_THE_AGENT for kind in kinds) or not text.strip() or text.lstrip().startswith("<"):
            return []
        self._told[text] -= 1
        return self._show(text, now, copied=copied) if self._told[text] < 0 else []

    def waiting(self) -> list[e.Event]:
        """Return the prompts that waited for the results of calls. Each is a copy if the line was one that told it."""
        found, self._waiting = self._waiting, []
        return found

    def _show(self, text: str, now: bool, *, copied: bool) -> list[e.Event]:
        self._waiting.append(e.MessageAdded(role="user", content=text, copied=copied))
        return self.waiting() if now else []


def ending_of(line: dict[str, Any], kind: str, message: dict[str, Any], before: Ending) -> Ending:
    """Return how the session has ended if this is its last message."""
    if line.get("isMeta"):
        return before
    if line.get("isApiErrorMessage") or line.get("error"):
        return Ending("failed", "the model could not be reached or refused")
    if kind == "assistant":
        return COMPLETED if message.get("stop_reason") not in ("tool_use", "pause_turn") else Ending("active", "")
    if prompt_text(line, message).startswith(_INTERRUPTED) or line.get("interruptedMessageId"):
        return Ending("abandoned", "interrupted by the user")
    return Ending("active", "")


def cost_of(value: object) -> float | None:
    """Return a cost, or None if it is not a finite number from 0 on."""
    is_number = isinstance(value, int | float) and not isinstance(value, bool)
    return float(value) if is_number and isfinite(value) and value >= 0 else None  # type: ignore[arg-type, operator]


def list_of(value: object) -> list[Any]:
    """Return a list unchanged, and an empty one for anything else."""
    return value if isinstance(value, list) else []


def is_prompt(line: dict[str, Any], events: list[e.Event]) -> bool:
    """Return whether a line is a question of a person."""
    return not line.get("isMeta") and any(
        isinstance(event, e.MessageAdded) and event.role == "user" for event in events
    )


def prompt_text(line: dict[str, Any], message: dict[str, Any]) -> str:
    """Return the first text of a prompt. Texts that the program adds in the user's name begin with a tag."""
    content = message.get("content")
    if isinstance(content, list):
        content = next((one.get("text") for one in content if isinstance(one, dict) and one.get("type") == "text"), "")
    return content if isinstance(content, str) and not line.get("isMeta") else ""


def shown_block(block: dict[str, Any]) -> str | None:
    """Return a block as text, or None if it is a call, a result or reasoning."""
    kind = block["type"]
    if kind == "text":
        return need_text(block, "text")
    if kind in ("image", "document"):
        source = block.get("source")
        media = source.get("media_type", kind) if isinstance(source, dict) else kind
        return f"[{kind}: {media}]"
    return None


def result_text(content: Any) -> str:
    """Return the content of a result as text."""
    if isinstance(content, list):
        return "\n".join(_block_text(block) for block in content)
    return "" if content is None else text_of(content)


def _block_text(block: Any) -> str:
    shown = shown_block(block) if isinstance(block, dict) and "type" in block else None
    return text_of(block) if shown is None else shown


def text_or_none(value: object) -> str | None:
    """Return a text unchanged, and None for anything else."""
    return value if isinstance(value, str) else None


def need_text(block: dict[str, Any], name: str) -> str:
    """Return the text under a name. Raises KeyError, TypeError."""
    value = block[name]
    if not isinstance(value, str):
        raise TypeError(f"{name} is not text")
    return value
