"""GitHub Copilot CLI: `~/.copilot/session-state/<id>/events.jsonl`, lines `{type, data, id, timestamp, parentId}`.

Messages with a `parentToolCallId` are those of a sub-agent. Tokens are recorded per request (`assistant.usage`) by some versions,
by others only when the program ends (`session.shutdown`), with cached tokens inside of the input.
"""

from pathlib import Path
from typing import Any

from eventstore import events as e
from eventstore.importers.meaning import Child, Meaning, count_of, decode, first_line, text_of, time_of
from eventstore.importers.plain import PlainTranslator, parts_text

FORMAT = "copilot"
HOME = Path("~/.copilot/session-state")
PATTERN = "events.jsonl"
AGENT = "Copilot CLI"

_KINDS = ("session.", "user.", "assistant.", "tool.", "subagent.", "hook.", "skill.", "system.", "abort")


def session_id_of(path: Path, head: bytes) -> str:
    """Return the session id of a file: the id in its first event, else the name of its folder."""
    for text in head.split(b"\n")[:20]:
        data = (decode(text) or {}).get("data")
        if isinstance(data, dict) and isinstance(data.get("sessionId"), str):
            return str(data["sessionId"])
    return path.parent.name if path.stem == "events" and path.parent.name else path.stem


def is_line(line: dict[str, Any]) -> bool:
    """Return whether a line is of this format."""
    kind = line.get("type")
    return isinstance(kind, str) and kind.startswith(_KINDS) and isinstance(line.get("data"), dict)


class Copilot(PlainTranslator):
    """Translates the events of one session."""

    format = FORMAT

    def __init__(self, session_id: str) -> None:
        super().__init__(session_id)
        self._begun: set[str] = set()
        self._has_usage = False
        self._reasoned = ""

    def read(self, line: dict[str, Any]) -> Meaning:
        self.time = time_of(line.get("timestamp")) or self.time
        kind, data = line.get("type"), line.get("data")
        if not isinstance(kind, str):
            return Meaning(odd="has no type")
        read = _READ.get(kind)
        if read is None or not isinstance(data, dict):
            return Meaning()
        found = Meaning()
        read(self, data, found)
        agent = data.get("parentToolCallId")
        if isinstance(agent, str) and agent:
            self._move_to_agent(found, agent, line)
        if kind == "session.shutdown":
            found.events += self._totals(data, line)
        return found

    def _move_to_agent(self, found: Meaning, agent: str, line: dict[str, Any]) -> None:
        """Move the messages of a sub-agent to a separate session. Its calls and usage stay here."""
        kept = e.MessageAdded, e.ReasoningRecorded
        events: list[e.Event] = [event for event in found.events if isinstance(event, kept)]
        found.events = [event for event in found.events if not isinstance(event, kept)]
        if not events:
            return
        prompt = next((event.content for event in events if isinstance(event, e.MessageAdded)), "")
        created = e.SessionCreated(
            purpose=first_line(prompt) or None,
            tags=(FORMAT, "sub-agent"),
            custom_metadata={"source": FORMAT, "parent_session": self._session_id, "told_in": "parent"},
        )
        found.children.append(Child(f"{self._session_id}.agent-{agent}", created, events, str(line.get("id") or "")))

    def _started(self, data: dict[str, Any], found: Meaning) -> None:
        context = data.get("context")
        context = context if isinstance(context, dict) else {}
        found.events += self.updated(
            {
                "cwd": context.get("cwd") or data.get("cwd"),
                "git_branch": context.get("branch"),
                "version": data.get("copilotVersion"),
                "model": data.get("selectedModel"),
            }
        )

    def _model(self, data: dict[str, Any], found: Meaning) -> None:
        found.events += self.updated({"model": data.get("newModel")})

    def _named(self, data: dict[str, Any], found: Meaning) -> None:
        found.events += self.titled(data.get("title"), 2)

    def _said_by_user(self, data: dict[str, Any], found: Meaning) -> None:
        text = parts_text(data["content"])
        found.events.append(e.MessageAdded(role="user", content=text))
        if not text.lstrip().startswith(("<", "/")):
            found.events += self.titled(text)

    def _said(self, data: dict[str, Any], found: Meaning) -> None:
        self._reasoning({"content": data.get("reasoningText")}, found)
        text = parts_text(data.get("content"))
        if text.strip():
            found.events.append(e.MessageAdded(role="assistant", content=text))
        for call in data.get("toolRequests") or ():
            self._call(call["toolCallId"], call["name"], call.get("arguments"), found)

    def _reasoning(self, data: dict[str, Any], found: Meaning) -> None:
        text = data.get("content")
        if isinstance(text, str) and text.strip() and text != self._reasoned:
            self._reasoned = text
            found.events.append(e.ReasoningRecorded(content=text))

    def _tool_started(self, data: dict[str, Any], found: Meaning) -> None:
        self._call(data["toolCallId"], data["toolName"], data.get("arguments"), found)

    def _call(self, name: str, tool: str, arguments: Any, found: Meaning) -> None:
        """Begin a call, which a message and an event of its own record in either order."""
        if name not in self._begun:
            self._begun.add(name)
            self.call(found, name, tool, arguments)

    def _tool_ended(self, data: dict[str, Any], found: Meaning) -> None:
        result, error = data.get("result"), data.get("error")
        if isinstance(result, dict):
            text = parts_text(result.get("content", result.get("detailedContent")))
        else:
            text = "" if result is None else text_of(result)
        told = error.get("message") if isinstance(error, dict) else error
        success = data.get("success")
        self.answer(
            found,
            data["toolCallId"],
            text or (told if isinstance(told, str) else ""),
            success=success if isinstance(success, bool) else None,
            error=told if isinstance(told, str) else None,
        )

    def _used(self, data: dict[str, Any], found: Meaning) -> None:
        tokens = _tokens(data)
        if tokens:
            self._has_usage = True
            model = data.get("model")
            found.events.append(e.UsageRecorded(tokens=tokens, model=model if isinstance(model, str) else None))

    def _totals(self, data: dict[str, Any], line: dict[str, Any]) -> list[e.Event]:
        """Return the usage that the program reports at its end, if no request reported it."""
        metrics = data.get("modelMetrics")
        if self._has_usage or not isinstance(metrics, dict):
            return []
        found: list[e.Event] = []
        for model, one in metrics.items():
            tokens = _tokens(one.get("usage")) if isinstance(one, dict) else {}
            if tokens:
                found.append(e.UsageRecorded(tokens=tokens, model=model, key=f"{line.get('id')}:{model}"))
        return found

    def _compacted(self, data: dict[str, Any], found: Meaning) -> None:
        text = data.get("summaryContent")
        if isinstance(text, str) and text.strip():
            found.events += [e.ConversationCleared(), e.MessageAdded(role="user", content=text)]

    def _nothing(self, data: dict[str, Any], found: Meaning) -> None:
        """Add no events; what is used is added by `read`."""


_READ = {
    "session.start": Copilot._started,
    "session.resume": Copilot._started,
    "session.context_changed": Copilot._started,
    "session.model_change": Copilot._model,
    "session.title_changed": Copilot._named,
    "session.compaction_complete": Copilot._compacted,
    "session.shutdown": Copilot._nothing,
    "user.message": Copilot._said_by_user,
    "assistant.message": Copilot._said,
    "assistant.reasoning": Copilot._reasoning,
    "assistant.usage": Copilot._used,
    "tool.execution_start": Copilot._tool_started,
    "tool.execution_complete": Copilot._tool_ended,
}


def _tokens(usage: Any) -> dict[str, int]:
    """Return tokens by kind without overlaps: the input that was recorded includes the cached, the output the reasoning."""
    if not isinstance(usage, dict):
        return {}
    names = ("inputTokens", "outputTokens", "cacheReadTokens", "cacheWriteTokens", "reasoningTokens")
    counts = [count_of(usage.get(name)) or 0 for name in names]
    told, wrote, read, written, thought = counts
    tokens = {
        "input": max(told - read - written, 0),
        "output": max(wrote - thought, 0),
        "cache_read": read,
        "cache_write": written,
        "reasoning": min(thought, wrote),
    }
    return tokens if any(counts) else {}
