"""Claude Code transcripts: `~/.claude/projects/<folder>/<session>.jsonl`, one JSON object per line, without an official schema.

One model response spans several lines that repeat its usage, so usage is the maximum per field for each message id and request.
Older versions record sub-agents in the same file (`isSidechain`), newer ones in separate files.
"""

import re
from collections import OrderedDict
from pathlib import Path
from typing import Any, NamedTuple

from eventstore import events as e
from eventstore.importers.meaning import (
    Child,
    Meaning,
    OpenCalls,
    ToolAnswer,
    ToolCall,
    Translator,
    between_ms,
    count_of,
    decode,
    first_line,
    text_of,
    time_of,
)

FORMAT = "claude-code"
HOME = Path("~/.claude/projects")
PATTERN = "*.jsonl"

_KINDS = {
    "input": "input_tokens",
    "output": "output_tokens",
    "cache_read": "cache_read_input_tokens",
    "cache_write": "cache_creation_input_tokens",
}
_METADATA = {"cwd": "cwd", "gitBranch": "git_branch", "version": "version"}
# A title of a higher rank replaces one of a lower rank: set by the user, written by the model, first prompt, first command.
_TITLES = {"custom-title": ("customTitle", 4), "ai-title": ("aiTitle", 3), "summary": ("summary", 3)}
_COMMAND_RANK, _PROMPT_RANK = 1, 2
_COMMAND = re.compile(r"<command-name>([^<]+)</command-name>(?:.*<command-args>([^<]*)</command-args>)?", re.DOTALL)
_REMEMBERED = 20_000  # lines whose ids are kept: bounds memory; parents and repeated usage are a few lines back


class _Place(NamedTuple):
    """The position of a line: the number of its last event, and the number of prompts up to it."""

    seq: int
    prompts: int


class _Bounded(OrderedDict[str, Any]):
    """A mapping that drops its oldest entry when it is full."""

    def __setitem__(self, key: str, value: Any) -> None:
        super().__setitem__(key, value)
        if len(self) > _REMEMBERED:
            self.popitem(last=False)


def session_id_of(path: Path, head: bytes) -> str:
    """Return the session id of a file: its name without the ending; for a sub-agent the parent's id and `.agent-...`."""
    stem = path.stem
    if not stem.startswith("agent-"):
        return stem
    if path.parent.name == "subagents":
        return f"{path.parent.parent.name}.{stem}"
    ids = (line.get("sessionId") for text in head.split(b"\n") if (line := decode(text)))
    parent = next((one for one in ids if isinstance(one, str)), None)
    return f"{parent}.{stem}" if parent else stem


class ClaudeCode(Translator):
    """Translates one transcript of Claude Code."""

    format = FORMAT

    def __init__(self, session_id: str) -> None:
        self._session_id = session_id
        self._is_agent = ".agent-" in session_id
        self.time: str | None = None
        self._title, self._rank = "", 0
        self._known: dict[str, Any] = {}
        self._open = OpenCalls()
        self._used: dict[str, dict[str, int]] = _Bounded()
        self._places: dict[str, _Place] = _Bounded()
        self._agents: dict[str, str] = _Bounded()
        self._prompts = 0
        self._uuid: str | None = None

    def placed(self, seq: int) -> None:
        if self._uuid is not None:
            self._places[self._uuid] = _Place(seq, self._prompts)

    def unanswered(self) -> int:
        return len(self._open)

    def read(self, line: dict[str, Any]) -> Meaning:
        self.time = time_of(line.get("timestamp")) or self.time
        self._uuid = None
        kind = line.get("type")
        if kind in _TITLES:
            field, rank = _TITLES[kind]
            return Meaning(self._titled(line.get(field), rank))
        if kind not in ("user", "assistant"):
            return self._other(line)
        return self._message_line(line, kind)

    def _other(self, line: dict[str, Any]) -> Meaning:
        self._uuid = _text(line.get("uuid"))
        return Meaning(odd="" if isinstance(line.get("type"), str) else "has no type")

    def _message_line(self, line: dict[str, Any], kind: str) -> Meaning:
        message = line["message"]
        if not isinstance(message, dict):
            raise TypeError("message is not an object")
        found = Meaning()
        events = self._blocks(line, kind, message["content"], found)
        if line.get("isSidechain") and not self._is_agent:
            found.children += self._child(line, events)
            found.events = [event for event in events if isinstance(event, e.InvocationLinked)]
        else:
            self._uuid = _text(line.get("uuid"))
            found.events = self._rewound(line, events) + events
        found.events += self._usage(line, message) + self._updated(line, message)
        return found

    # --- messages

    def _blocks(self, line: dict[str, Any], kind: str, content: Any, found: Meaning) -> list[e.Event]:
        if isinstance(content, str):
            content = [{"type": "text", "text": content}]
        events: list[e.Event] = []
        texts: list[str] = []
        for block in content:
            shown = _shown(block)
            if shown is not None:
                texts.append(shown)
            elif block["type"] in ("thinking", "redacted_thinking"):
                events.append(e.ReasoningRecorded(content=text_of(block.get("thinking", ""))))
            elif block["type"] == "tool_use":
                events += self._called(block, found)
            elif block["type"] == "tool_result":
                events += self._answered(block, found)
            else:
                found.odd = f"has a block of unknown type {first_line(text_of(block['type']), 40)!r}"
        if texts:
            events.append(self._message(line, kind, "\n".join(texts)))
        return events

    def _message(self, line: dict[str, Any], kind: str, text: str) -> e.Event:
        role: e.Role = "assistant" if kind == "assistant" else "system" if line.get("isMeta") else "user"
        return e.MessageAdded(role=role, content=text)

    def _called(self, block: dict[str, Any], found: Meaning) -> list[e.Event]:
        call = ToolCall(_need_text(block, "id"), _need_text(block, "name"), block.get("input"), self.time)
        found.calls.append(self._open.begin(call))
        message = e.MessageAdded(
            role="assistant",
            content=text_of(call.arguments),
            tool_name=call.tool_name,
            invocation_id=call.invocation_id,
        )
        linked = e.InvocationLinked(invocation_id=call.invocation_id, tool_name=call.tool_name)
        return [message, linked]

    def _answered(self, block: dict[str, Any], found: Meaning) -> list[e.Event]:
        invocation_id = _need_text(block, "tool_use_id")
        call = self._open.end(invocation_id)
        text = _result_text(block.get("content"))
        failed = bool(block.get("is_error"))
        if call is None:
            found.odd = "is the result of a tool call that is not in the file"
        answer = ToolAnswer(
            invocation_id,
            text,
            between_ms(call.time if call else None, self.time),
            success=not failed,
            error=first_line(text, 500) if failed else None,
        )
        found.answers.append(answer)
        message = e.MessageAdded(
            role="tool", content=text, tool_name=call.tool_name if call else None, invocation_id=invocation_id
        )
        linked = e.InvocationLinked(
            invocation_id=invocation_id, duration_ms=answer.duration_ms, success=answer.success, error=answer.error
        )
        return [message, linked]

    def _rewound(self, line: dict[str, Any], events: list[e.Event]) -> list[e.Event]:
        """Record a rewind: a prompt whose parent is before an earlier prompt replaces that prompt."""
        if not _is_prompt(line, events):
            return []
        parent = self._places.get(_text(line.get("parentUuid")) or "")
        before, self._prompts = self._prompts, self._prompts + 1
        if parent is None or parent.prompts >= before:
            return []
        return [e.ConversationRewound(to=parent.seq)]

    # --- sub-agents inside the file

    def _child(self, line: dict[str, Any], events: list[e.Event]) -> list[Child]:
        """Return the messages of a sub-agent as a session of its own. Its tool calls and usage stay in the parent."""
        uuid = _text(line.get("uuid")) or ""
        agent = _text(line.get("agentId")) or self._agents.get(_text(line.get("parentUuid")) or "") or uuid[:8]
        self._agents[uuid] = agent
        events = [event for event in events if not isinstance(event, e.InvocationLinked)]
        if not events or not agent:
            return []
        prompt = next((event.content for event in events if isinstance(event, e.MessageAdded)), "")
        created = e.SessionCreated(
            purpose=first_line(prompt) or None,
            tags=(FORMAT, "sub-agent"),
            custom_metadata={"source": FORMAT, "parent_session": self._session_id, "told_in": "parent"},
        )
        return [Child(f"{self._session_id}.agent-{agent}", created, events, uuid)]

    # --- figures and names

    def _usage(self, line: dict[str, Any], message: dict[str, Any]) -> list[e.Event]:
        usage = message.get("usage")
        if not isinstance(usage, dict):
            return []
        counts = {kind: count_of(usage.get(name)) for kind, name in _KINDS.items()}
        tokens = {kind: count for kind, count in counts.items() if count is not None}
        key = f"{message.get('id')}:{line.get('requestId')}" if message.get("id") else None
        known = self._used.get(key, {}) if key else {}
        if not any(tokens.values()) or all(count <= known.get(kind, -1) for kind, count in tokens.items()):
            return []
        if key:
            self._used[key] = {kind: max(count, known.get(kind, 0)) for kind, count in tokens.items()}
        return [e.UsageRecorded(tokens=tokens, model=_text(message.get("model")), key=key)]

    def _updated(self, line: dict[str, Any], message: dict[str, Any]) -> list[e.Event]:
        metadata = {name: line.get(key) for key, name in _METADATA.items()}
        metadata["model"] = message.get("model") if message.get("model") != "<synthetic>" else None
        if self._is_agent:
            metadata["parent_session"] = self._session_id.partition(".agent-")[0]
        new = {
            name: value
            for name, value in metadata.items()
            if isinstance(value, str) and value and self._known.get(name) != value
        }
        self._known |= new
        changed: list[e.Event] = [e.SessionUpdated(custom_metadata=new)] if new else []
        if (line.get("type") == "user" and not line.get("isSidechain", False)) or self._is_agent:
            prompt = _prompt_text(line, message)
            command = _COMMAND.search(prompt)
            if command:
                changed += self._titled(" ".join(filter(None, command.groups())), _COMMAND_RANK)
            elif not prompt.lstrip().startswith(("<", "Caveat:", "[")):
                changed += self._titled(prompt, _PROMPT_RANK)
        return changed

    def _titled(self, title: object, rank: int) -> list[e.Event]:
        """Set the purpose to a title of a higher rank: one set by hand, then a summary, then the first prompt."""
        if not isinstance(title, str) or not title.strip() or rank < self._rank:
            return []
        if rank == self._rank and (rank <= _PROMPT_RANK or title == self._title):
            return []
        self._title, self._rank = title, rank
        return [e.SessionUpdated(purpose=first_line(title))]


def _is_prompt(line: dict[str, Any], events: list[e.Event]) -> bool:
    return not line.get("isMeta") and any(
        isinstance(event, e.MessageAdded) and event.role == "user" for event in events
    )


def _prompt_text(line: dict[str, Any], message: dict[str, Any]) -> str:
    """Return the first text of a prompt. Texts that the program adds in the user's name begin with a tag."""
    content = message.get("content")
    if isinstance(content, list):
        content = next((one.get("text") for one in content if isinstance(one, dict) and one.get("type") == "text"), "")
    return content if isinstance(content, str) and not line.get("isMeta") else ""


def _shown(block: dict[str, Any]) -> str | None:
    """Return a block as text, or None if it is a call, a result or reasoning."""
    kind = block["type"]
    if kind == "text":
        return _need_text(block, "text")
    if kind in ("image", "document"):
        source = block.get("source")
        media = source.get("media_type", kind) if isinstance(source, dict) else kind
        return f"[{kind}: {media}]"
    return None


def _result_text(content: Any) -> str:
    if isinstance(content, list):
        return "\n".join(_block_text(block) for block in content)
    return "" if content is None else text_of(content)


def _block_text(block: Any) -> str:
    shown = _shown(block) if isinstance(block, dict) and "type" in block else None
    return text_of(block) if shown is None else shown


def _text(value: object) -> str | None:
    return value if isinstance(value, str) else None


def _need_text(block: dict[str, Any], name: str) -> str:
    value = block[name]
    if not isinstance(value, str):
        raise TypeError(f"{name} is not text")
    return value
