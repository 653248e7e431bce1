"""Which agent wrote a file, by its content."""

from collections import Counter
from collections.abc import Callable, Iterator
from typing import Any

from eventstore.importers import claude_code, codex, copilot, gemini, opencode, pi, qwen
from eventstore.importers.meaning import decode

_LOOKED_AT = 60  # lines
_CLAUDE_TYPES = frozenset(
    [
        "user", "assistant", "system", "summary", "progress", "attachment", "queue-operation", "file-history-snapshot",
        "custom-title", "ai-title", "tag", "last-prompt", "pr-link", "agent-name", "permission-mode",
    ]
)  # fmt: skip
_CODEX_TYPES = frozenset(
    [
        "session_meta",
        "response_item",
        "event_msg",
        "turn_context",
        "compacted",
        "world_state",
        "inter_agent_communication",
    ]
)
_CODEX_ITEMS = frozenset(["message", "reasoning", "function_call", "function_call_output", "local_shell_call"])


def _is_claude(line: dict[str, Any]) -> bool:
    if line.get("type") not in _CLAUDE_TYPES or qwen.is_line(line):
        return False
    message = line.get("message")
    is_said = line["type"] in ("user", "assistant")
    return isinstance(message, dict) if is_said else "data" not in line or line["type"] == "progress"


def _is_codex(line: dict[str, Any]) -> bool:
    kind = line.get("type")
    if isinstance(line.get("payload"), dict):
        return kind in _CODEX_TYPES or "timestamp" in line
    is_old_meta = "id" in line and "timestamp" in line and "instructions" in line
    is_old_item = kind in _CODEX_ITEMS and "parentId" not in line and "uuid" not in line
    return is_old_meta or is_old_item or line.get("record_type") == "state"


_TABLE: dict[str, tuple[str, Callable[[dict[str, Any]], bool]]] = {
    claude_code.FORMAT: ("Claude Code", _is_claude),
    codex.FORMAT: ("Codex", _is_codex),
    copilot.FORMAT: (copilot.AGENT, copilot.is_line),
    gemini.FORMAT: (gemini.AGENT, gemini.is_line),
    opencode.FORMAT: (opencode.AGENT, opencode.is_line),
    pi.FORMAT: (pi.AGENT, pi.is_line),
    qwen.FORMAT: (qwen.AGENT, qwen.is_line),
}
_OTHERS: dict[str, Callable[[dict[str, Any]], bool]] = {
    "a journal of a workflow of Claude Code": lambda line: line.get("type") in ("started", "result") and "key" in line,
    "Droid": lambda line: line.get("type") in ("session_start", "todo_state") and "uuid" not in line,
    "Kimi": lambda line: line.get("role") in ("_checkpoint", "_usage", "_system_prompt"),
    "Cursor": lambda line: set(line) == {"role", "message"},
    "Antigravity": lambda line: "step_index" in line and "source" in line,
}


def agent_of(form: str) -> str:
    """Return the name of the agent that writes a format."""
    return _TABLE[form][0]


def detect(head: bytes) -> str | None:
    """Return the format of a file, by its first bytes; None if it is of no known agent."""
    if opencode.is_database(head):
        return opencode.FORMAT
    counts = Counter[str]()
    for line in _objects(head):
        counts.update(form for form, (_, is_line) in _TABLE.items() if is_line(line))
    return max(counts, key=lambda form: counts[form]) if counts else None


def other_agent(head: bytes) -> str | None:
    """Return what wrote a file that is of no format that can be imported, if it is known."""
    counts = Counter(name for line in _objects(head) for name, is_line in _OTHERS.items() if is_line(line))
    return max(counts, key=lambda name: counts[name]) if counts else None


def has_lines(head: bytes, form: str) -> bool:
    """Return whether one of the first lines is of a format."""
    return any(_TABLE[form][1](line) for line in _objects(head))


def is_line(line: bytes, form: str) -> bool:
    """Return whether one line is of a format."""
    found = decode(line)
    return found is not None and _TABLE[form][1](found)


def is_transcript(head: bytes) -> bool:
    """Return whether the first lines have an object with a type, as those of all agents have."""
    return any(isinstance(line.get("type"), str) for line in _objects(head))


def _objects(head: bytes) -> Iterator[dict[str, Any]]:
    """Decode the first lines, one after the other: mostly the first says enough."""
    is_any = False
    for text in head.split(b"\n", _LOOKED_AT)[:_LOOKED_AT]:
        if (one := decode(text)) is not None:
            is_any = True
            yield one
    if is_any:
        return
    whole = decode(head) if head.lstrip().startswith(b"{") else None
    if whole is not None:
        yield whole
    elif b'"sessionId"' in head[:2_000] and b'"messages"' in head:  # a long file of the older shape of Gemini
        yield {"sessionId": "", "startTime": ""}
