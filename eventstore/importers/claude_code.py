"""Claude Code transcripts: `~/.claude/projects/<folder>/<session>.jsonl`, one JSON object per line, without an official schema.

One model response spans several lines that repeat its usage, so usage is the maximum per field for each message id and request.
Older versions record sub-agents in the same file (`isSidechain`), newer ones in separate files.
"""

import re
from collections import OrderedDict
from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import Any, NamedTuple

from msgspec import UNSET

from eventstore import events as e
from eventstore.importers.claude_blocks import (
    SAVED,
    QueuedPrompts,
    cost_of,
    ending_of,
    is_prompt,
    list_of,
    need_text,
    prompt_text,
    result_text,
    shown_block,
    text_or_none,
)
from eventstore.importers.homes import saved_output
from eventstore.importers.meaning import (
    ACTIVE,
    Child,
    Ending,
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
from eventstore.importers.sub_agents import Started, calls_of

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
    """The position of a line: the number of its last event, the number of prompts up to it, and the number of its events."""

    seq: int
    prompts: int
    size: int = 0


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


def attach(translator: Translator, path: Path) -> None:
    """Let the translator read the outputs that were saved next to a transcript."""
    assert isinstance(translator, ClaudeCode)  # noqa: S101 - the format has no other
    translator.saved = partial(saved_output, path)


class ClaudeCode(Translator):
    """Translates one transcript of Claude Code."""

    format = FORMAT
    is_copy = False

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
        self._started = Started()
        self._prompts = 0
        self._uuid: str | None = None
        self._size = 0
        self._queued = QueuedPrompts()
        self._ending = ACTIVE
        self.saved: Callable[[str], str | None] = lambda name: None
        self._costs: dict[str, float] = _Bounded()

    def placed(self, seq: int) -> None:
        if self._uuid is not None:
            self._places[self._uuid] = _Place(seq, self._prompts, self._size)

    def unanswered(self) -> int:
        return len(self._open)

    def ending(self) -> Ending:
        return self._ending

    def read(self, line: dict[str, Any]) -> Meaning:
        self.time = time_of(line.get("timestamp")) or self.time
        self._uuid = None
        kind = line.get("type")
        if kind in _TITLES:
            field, rank = _TITLES[kind]
            return Meaning(self._titled(line.get(field), rank))
        if kind == "queue-operation":
            return Meaning(self._queued.operation(line, self._now(), copied=self.is_copy))
        found = self._message_line(line, kind) if kind in ("user", "assistant") else self._other(line)
        found.events = self._withdrawn(line) + found.events
        # An inherited line has its place in another session, where fewer names may have been new.
        counted = [one for one in found.events if not (self.is_copy and isinstance(one, e.SessionUpdated))]
        self._size = len(counted)
        return found

    def _now(self) -> bool:
        """Return whether a prompt can be shown now: not between a call and its result."""
        return not len(self._open)

    def _other(self, line: dict[str, Any]) -> Meaning:
        self._uuid = text_or_none(line.get("uuid"))
        if line.get("type") == "attachment":
            return Meaning(self._queued.attachment(line.get("attachment"), self._now(), copied=self.is_copy))
        if line.get("subtype") == "compact_boundary" and not line.get("isSidechain"):
            return Meaning([e.ConversationCleared()])
        return Meaning(odd="" if isinstance(line.get("type"), str) else "has no type")

    def _withdrawn(self, line: dict[str, Any]) -> list[e.Event]:
        """Withdraw the messages of lines that this one replaces or takes back."""
        named = [*list_of(line.get("supersedesUuids")), *list_of(line.get("retractedMessageUuids"))]
        places = [place for uuid in named if isinstance(uuid, str) and (place := self._places.get(uuid)) is not None]
        targets = {seq for place in places for seq in range(place.seq - place.size + 1, place.seq + 1)}
        return [e.MessagesWithdrawn(targets=tuple(sorted(targets)))] if targets else []

    def _message_line(self, line: dict[str, Any], kind: str) -> Meaning:
        message = line["message"]
        if not isinstance(message, dict):
            raise TypeError("message is not an object")
        found = Meaning()
        events = self._blocks(line, kind, message.get("content"), found)
        if line.get("isSidechain") and not self._is_agent:
            found.children += self._child(line, events)
            found.events = calls_of(events)
        else:
            self._uuid = text_or_none(line.get("uuid"))
            agent = self._agent_of(line)
            events = [self._started.answered(event, agent) for event in events]
            waiting = self._queued.waiting() if self._now() or kind == "assistant" else []
            found.waited = waiting
            events = waiting + events if kind == "assistant" else events + waiting
            found.events = self._rewound(line, events) + events
            self._ending = ACTIVE if found.calls else ending_of(line, kind, message, self._ending)
        found.events += self._usage(line, message) + self._updated(line, message)
        return found

    # --- messages

    def _blocks(self, line: dict[str, Any], kind: str, content: Any, found: Meaning) -> list[e.Event]:
        """Return the events of the blocks of a message, in their order; texts next to each other are one message."""
        if isinstance(content, str):
            content = [{"type": "text", "text": content}]
        if not isinstance(content, list):
            found.odd = "has no content"
            return []
        events: list[e.Event] = []
        texts: list[str] = []
        for block in content:
            try:
                shown = shown_block(block)
                more = self._block(block, found) if shown is None else []
            except (ValueError, TypeError, KeyError, AttributeError, RecursionError) as error:
                found.odd = (
                    f"has a block whose fields do not match its type ({type(error).__name__}): it has no meaning"
                )
                continue
            if shown is not None:
                texts.append(shown)
                continue
            if texts and more:
                events.append(self._message(line, kind, "\n".join(texts)))
                texts = []
            events += more
        if texts:
            events.append(self._message(line, kind, "\n".join(texts)))
        return events

    def _block(self, block: dict[str, Any], found: Meaning) -> list[e.Event]:
        """Return the events of a block that is not shown as text."""
        kind = block["type"]
        if kind in ("thinking", "redacted_thinking"):
            return [e.ReasoningRecorded(content=text_of(block.get("thinking", "")))]
        if kind in ("tool_use", "server_tool_use", "mcp_tool_use"):
            return self._called(block, found)
        if isinstance(kind, str) and kind.endswith("tool_result"):
            return self._answered(block, found)
        found.odd = f"has a block of unknown type {first_line(text_of(kind), 40)!r}"
        return []

    def _message(self, line: dict[str, Any], kind: str, text: str) -> e.Event:
        role: e.Role = "assistant" if kind == "assistant" else "system" if line.get("isMeta") else "user"
        return e.MessageAdded(role=role, content=text)

    def _called(self, block: dict[str, Any], found: Meaning) -> list[e.Event]:
        call = ToolCall(need_text(block, "id"), need_text(block, "name"), block.get("input"), self.time)
        call = self._open.begin(call)
        found.calls.append(call)
        self._started.called(call.invocation_id, block.get("input"))
        message = e.MessageAdded(
            role="assistant",
            content=text_of(call.arguments),
            tool_name=call.tool_name,
            invocation_id=call.invocation_id,
        )
        linked = e.InvocationLinked(invocation_id=call.invocation_id, tool_name=call.tool_name)
        return [message, linked]

    def _answered(self, block: dict[str, Any], found: Meaning) -> list[e.Event]:
        invocation_id = need_text(block, "tool_use_id")
        call = self._open.end(invocation_id)
        invocation_id = call.invocation_id if call else invocation_id
        text = result_text(block.get("content"))
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
            invocation_id=invocation_id,
            duration_ms=answer.duration_ms,
            success=answer.success,
            error=answer.error,
            result=self._saved(text),
        )
        return [message, linked]

    def _saved(self, text: str) -> Any:
        """Return the full output of a call whose answer has only its beginning, from the file next to the transcript."""
        found = SAVED.search(text) if text.lstrip().startswith("<persisted-output>") else None
        full = self.saved(found[1]) if found else None
        return UNSET if full is None else full

    def _rewound(self, line: dict[str, Any], events: list[e.Event]) -> list[e.Event]:
        """Record a rewind: a prompt whose parent is before an earlier prompt replaces that prompt."""
        if not is_prompt(line, events):
            return []
        parent = self._places.get(text_or_none(line.get("parentUuid")) or "")
        before, self._prompts = self._prompts, self._prompts + 1
        if parent is None or parent.prompts >= before:
            return []
        return [e.ConversationRewound(to=parent.seq)]

    # --- sub-agents inside the file

    def _child(self, line: dict[str, Any], events: list[e.Event]) -> list[Child]:
        """Return the messages of a sub-agent as a session of its own. Its tool calls and usage stay in the parent."""
        uuid = text_or_none(line.get("uuid")) or ""
        agent = (
            text_or_none(line.get("agentId"))
            or self._agents.get(text_or_none(line.get("parentUuid")) or "")
            or uuid[:8]
        )
        self._agents[uuid] = agent
        events = [event for event in events if not isinstance(event, e.InvocationLinked)]
        if not events or not agent:
            return []
        prompt = next((event.content for event in events if isinstance(event, e.MessageAdded)), "")
        name = f"{self._session_id}.agent-{agent}"
        call = self._started.call_of(name, prompt)
        created = e.SessionCreated(
            purpose=first_line(prompt) or None,
            tags=(FORMAT, "sub-agent"),
            custom_metadata={"source": FORMAT, "parent_session": self._session_id, "told_in": "parent"}
            | ({} if call is None else {"parent_call": call}),
        )
        return [Child(name, created, events, uuid)]

    def _agent_of(self, line: dict[str, Any]) -> str | None:
        """Return the session of the sub-agent whose result a line has, which is recorded in a file of its own."""
        result = line.get("toolUseResult")
        agent = result.get("agentId") if isinstance(result, dict) else None
        return f"{self._session_id}.agent-{agent}" if isinstance(agent, str) and agent else None

    # --- figures and names

    def _usage(self, line: dict[str, Any], message: dict[str, Any]) -> list[e.Event]:
        usage = message.get("usage")
        if not isinstance(usage, dict):
            return []
        counts = {kind: count_of(usage.get(name)) for kind, name in _KINDS.items()}
        tokens = {kind: count for kind, count in counts.items() if count is not None}
        key = f"{message.get('id')}:{line.get('requestId')}" if message.get("id") else None
        known = self._used.get(key, {}) if key else {}
        cost = cost_of(line.get("costUSD"))
        is_more_cost = cost is not None and (not key or cost > self._costs.get(key, -1.0))
        if tokens == known and not is_more_cost:  # as most lines of a response repeat it
            return []
        is_more = any(tokens.values()) and any(count > known.get(kind, -1) for kind, count in tokens.items())
        if not is_more and not is_more_cost:
            return []
        if key:
            self._used[key] = {kind: max(count, known.get(kind, 0)) for kind, count in tokens.items()}
            if cost is not None:
                self._costs[key] = max(cost, self._costs.get(key, 0.0))
        hour = usage.get("cache_creation")
        hour = count_of(hour.get("ephemeral_1h_input_tokens")) if isinstance(hour, dict) else 0
        model = text_or_none(message.get("model"))
        return [e.UsageRecorded(tokens=tokens, model=model, key=key, cost=cost, cache_write_hour=hour or 0)]

    def _updated(self, line: dict[str, Any], message: dict[str, Any]) -> list[e.Event]:
        found = [(name, line.get(key)) for key, name in _METADATA.items()]
        found.append(("model", message.get("model") if message.get("model") != "<synthetic>" else None))
        source = line.get("forkedFrom")
        found.append(("forked_from", source.get("sessionId") if isinstance(source, dict) else None))
        if self._is_agent:
            found.append(("parent_session", self._session_id.partition(".agent-")[0]))
        new = {
            name: value for name, value in found if value != self._known.get(name) and isinstance(value, str) and value
        }
        changed: list[e.Event] = []
        if new:
            self._known |= new
            changed.append(e.SessionUpdated(custom_metadata=new))
        is_asked = line.get("type") == "user" and not line.get("isSidechain", False) and "forkedFrom" not in line
        if is_asked or self._is_agent:
            prompt = prompt_text(line, message)
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
