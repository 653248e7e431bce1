"""Codex CLI rollouts: `~/.codex/sessions/YYYY/MM/DD/rollout-<time>-<uuid>.jsonl`, lines `{timestamp, type, payload}`.

The response items hold the messages of the model and the results of tools. The event messages repeat them, so they are stored
without a meaning, except the token counts (`codex_usage.py`). The first `session_meta` is that of the session; a fork and a
sub-agent then repeat those of their parents, and with them the lines that they begin with.
"""

import re
from contextlib import suppress
from pathlib import Path
from typing import Any

from msgspec.structs import replace

from eventstore import events as e
from eventstore.importers.codex_calls import (
    Output,
    Reported,
    ending_of,
    json_or_text,
    name_of,
    part_text,
    read_output,
    reported_of,
)
from eventstore.importers.codex_usage import TokenCounts
from eventstore.importers.identity import key_of
from eventstore.importers.meaning import (
    ACTIVE,
    COMPLETED,
    Ending,
    Meaning,
    OpenCalls,
    ToolAnswer,
    ToolCall,
    Translator,
    between_ms,
    decode,
    first_line,
    text_of,
    time_of,
)

FORMAT = "codex"
HOME = Path("~/.codex/sessions")
PATTERN = "rollout-*.jsonl"

_ROLES: dict[str, e.Role] = {"user": "user", "assistant": "assistant", "system": "system", "developer": "system"}
_WRAPPED = (
    "<environment_context>",
    "<user_instructions>",
    "<INSTRUCTIONS>",
    "# AGENTS.md",
    "<permissions",
    "<turn_aborted",
)
_TAGGED = re.compile(r"\s*<[a-z_]+[ >]")
"""The beginning of what a program adds in the user's name: it is no title."""
_REPLAY_MS = 1000.0  # a fork copies its parent's lines at once; no person types that fast
_REQUEST = "## My request for Codex:"
"""The heading of the user's prompt, after the context that an editor adds."""
_UUID = re.compile(r"[0-9a-f]{8}-(?:[0-9a-f]{4}-){3}[0-9a-f]{12}$")


def session_id_of(path: Path, head: bytes) -> str:
    """Return the session id of a file: the id in its `session_meta`, else the uuid at the end of its name, else its name."""
    for text in head.split(b"\n"):
        line = decode(text) or {}
        payload = (
            line.get("payload") if line.get("type") == "session_meta" else line if "instructions" in line else None
        )
        if isinstance(payload, dict) and isinstance(payload.get("id"), str):
            return str(payload["id"])
    stem = path.name.removesuffix(".zst").removesuffix(".jsonl")
    found = _UUID.search(stem)
    return found[0] if found else stem


class Codex(Translator):
    """Translates one rollout of Codex CLI."""

    format = FORMAT
    is_copy = False

    def __init__(self, session_id: str) -> None:
        self.time: str | None = None
        self._known: dict[str, Any] = {}
        self._titled = False
        self._begun_at: str | None = None
        self._is_child = False
        self._open = OpenCalls()
        self._counts = TokenCounts()
        self._reported: dict[str, Reported] = {}
        self._seq = self._line_at = 0
        self._turns: list[int] = []
        self._said: set[bytes] = set()
        self._ending = ACTIVE

    def placed(self, seq: int) -> None:
        self._seq = seq

    def unanswered(self) -> int:
        return len(self._open)

    def ending(self) -> Ending:
        return self._ending

    def read(self, line: dict[str, Any]) -> Meaning:
        self.time = time_of(line.get("timestamp")) or self.time
        kind, payload = line.get("type"), line.get("payload")
        if not isinstance(payload, dict):
            kind, payload = ("response_item", line) if kind in _ITEMS else (kind, {})
        self._line_at = self._seq
        if kind == "session_meta":
            return Meaning(self._begun(payload))
        if kind == "turn_context":
            cwd = None if "cwd" in self._known else payload.get("cwd")
            return Meaning(self._updated({"model": payload.get("model"), "cwd": cwd}))
        if kind == "compacted":
            return Meaning(self._compacted(payload))
        if kind == "event_msg":
            return Meaning(self._event(payload))
        item = _ITEMS.get(payload.get("type", "")) if kind == "response_item" else None
        if item is None:
            return Meaning(odd="" if isinstance(kind, str) or "id" in line or "record_type" in line else "has no type")
        return item(self, payload)

    # --- names and figures

    def _begun(self, meta: dict[str, Any]) -> list[e.Event]:
        """Return the content of the first `session_meta`. Later ones belong to the sessions that this one continues."""
        if self._begun_at is not None:
            self._is_child = True
            return []
        self._begun_at = self.time or ""
        git, source = meta.get("git"), meta.get("source")
        found = {"cwd": meta.get("cwd"), "version": meta.get("cli_version"), "originator": meta.get("originator")}
        found["git_branch"] = git.get("branch") if isinstance(git, dict) else None
        found["forked_from"] = meta.get("forked_from_id")
        spawn = _inside(source, "subagent", "thread_spawn")
        parent = meta.get("parent_thread_id") or spawn.get("parent_thread_id")
        found |= {
            "parent_session": parent,
            "agent_name": spawn.get("agent_nickname"),
            "agent_type": spawn.get("agent_role"),
        }
        self._is_child = bool(parent or found["forked_from"])
        events = self._updated(found)
        if spawn or (isinstance(source, dict) and "subagent" in source):
            events.append(e.SessionUpdated(tags=(FORMAT, "sub-agent")))
        return events

    def _is_replay(self) -> bool:
        """Return whether a line is one of another session: a copy, or written in the first second of a fork."""
        if not self._is_child:
            return False
        after_ms = between_ms(self._begun_at or None, self.time)
        return self.is_copy or (after_ms is not None and after_ms < _REPLAY_MS)

    def _updated(self, metadata: dict[str, Any]) -> list[e.Event]:
        new = {
            name: value
            for name, value in metadata.items()
            if isinstance(value, str) and value and self._known.get(name) != value
        }
        self._known |= new
        return [e.SessionUpdated(custom_metadata=new)] if new else []

    # --- events

    def _event(self, payload: dict[str, Any]) -> list[e.Event]:
        kind = payload.get("type")
        if kind == "token_count":
            return self._counts.read(payload.get("info"), self._known.get("model"))
        if kind == "thread_name_updated" and isinstance(payload.get("thread_name"), str):
            self._titled = True
            return [e.SessionUpdated(purpose=first_line(payload["thread_name"]))]
        if kind == "thread_rolled_back":
            return self._rolled_back(payload.get("num_turns"))
        self._ending = ending_of(payload, self._ending)
        reported = reported_of(payload)
        return self._reports(payload["call_id"], reported) if reported is not None else []

    def _reports(self, call_id: str, reported: Reported) -> list[e.Event]:
        """Remember what an event reports of a call; if its result was read before, add it."""
        if self._open.is_open(call_id):
            self._reported[call_id] = reported
            return []
        invocation_id = self._open.last(call_id)
        if invocation_id is None or not (reported.success is False or reported.duration_ms is not None):
            return []
        success = False if reported.success is False else None
        return [
            e.InvocationLinked(
                invocation_id=invocation_id, success=success, duration_ms=reported.duration_ms, error=reported.error
            )
        ]

    def _rolled_back(self, turns: Any) -> list[e.Event]:
        """Take the last turns back."""
        if not isinstance(turns, int) or not turns > 0 or not self._turns:
            return []
        to = self._turns[max(len(self._turns) - turns, 0)]
        del self._turns[max(len(self._turns) - turns, 0) :]
        return [e.ConversationRewound(to=to)]

    def _compacted(self, payload: dict[str, Any]) -> list[e.Event]:
        """Replace the conversation by what is left of it: the messages of a list, or a summary."""
        found: list[e.Event] = [e.ConversationCleared()]
        kept = payload.get("replacement_history")
        for item in kept if isinstance(kept, list) else ():
            with suppress(ValueError, TypeError, KeyError, AttributeError):
                if item["type"] == "message":
                    found.append(self._said_by(item)[0])
        if len(found) == 1 and isinstance(payload.get("message"), str):
            found.append(e.MessageAdded(role="user", content=payload["message"]))
        self._turns = []
        return found

    # --- response items

    def _said_by(self, item: dict[str, Any]) -> tuple[e.MessageAdded, bool]:
        """Return a message, and whether a person wrote it. One that was there before a compaction counted there."""
        parts = item["content"] if isinstance(item["content"], list) else [{"text": item["content"]}]
        text = "\n".join(map(part_text, parts))
        role = _ROLES[item["role"]]
        wrapped = role == "user" and text.lstrip().startswith(_WRAPPED)
        key = key_of(role, text)
        message = e.MessageAdded(role="system" if wrapped else role, content=text, copied=key in self._said)
        self._said.add(key)
        return message, role == "user" and not wrapped

    def _message(self, item: dict[str, Any]) -> Meaning:
        message, is_prompt = self._said_by(item)
        text = message.content
        found: list[e.Event] = [replace(message, copied=False)]
        if is_prompt:
            self._turns.append(self._line_at)
            self._ending = ACTIVE
        elif message.role == "assistant":
            self._ending = COMPLETED
        title = text.rpartition(_REQUEST)[2]
        if is_prompt and not self._titled and title.strip() and not _TAGGED.match(title) and not self._is_replay():
            self._titled = True
            found.append(e.SessionUpdated(purpose=first_line(title)))
        return Meaning(found)

    def _told(self, item: dict[str, Any]) -> Meaning:
        """Return a message between agents: for a child, its parent has the role of the user."""
        text = "\n".join(map(part_text, item["content"]))
        to_this = self._is_child and item.get("author") in ("root", "/root")
        return Meaning([e.MessageAdded(role="user" if to_this else "assistant", content=text)])

    def _reasoning(self, item: dict[str, Any]) -> Meaning:
        parts = [*(item.get("summary") or ()), *(item.get("content") or ())]
        text = "\n\n".join(
            part["text"] for part in parts if isinstance(part, dict) and isinstance(part.get("text"), str)
        )
        return Meaning([e.ReasoningRecorded(content=text)] if text else [])

    def _called(self, item: dict[str, Any]) -> Meaning:
        given, name = item.get("arguments", item.get("input", item.get("action"))), name_of(item)
        call = self._open.begin(ToolCall(_need_text(item["call_id"]), _need_text(name), json_or_text(given), self.time))
        self._ending = ACTIVE
        message = e.MessageAdded(
            role="assistant", content=text_of(given), tool_name=call.tool_name, invocation_id=call.invocation_id
        )
        linked = e.InvocationLinked(invocation_id=call.invocation_id, tool_name=call.tool_name)
        return Meaning([message, linked], calls=[call])

    def _answered(self, item: dict[str, Any]) -> Meaning:
        output = item.get("output", item.get("tools"))
        return self._end(_need_text(item["call_id"]), read_output(output), item.get("status"))

    def _served(self, item: dict[str, Any]) -> Meaning:
        """Return a call that the model's provider carried out: one line is the call and its outcome."""
        call_id = item.get("call_id") or item.get("id") or f"{item['type']}-{self._line_at}"
        given = item.get("action") or {"prompt": item.get("revised_prompt")}
        found = self._called({**item, "call_id": call_id, "arguments": given})
        text = "[image]" if item.get("result") else str(item.get("status") or "")
        ended = self._end(call_id, Output(text, None, None), item.get("status") or "completed")
        return Meaning(found.events + ended.events, calls=found.calls, answers=ended.answers)

    def _end(self, call_id: str, output: Output, status: Any) -> Meaning:
        call = self._open.end(call_id)
        invocation_id = call.invocation_id if call else call_id
        reported = self._reported.pop(call_id, Reported(None, None, None))
        text, success, measured_ms = output
        if reported.success is False or (success is None and status in ("failed", "incomplete")):
            success = False
        if success is None:
            success = reported.success if reported.success is not None else True if status == "completed" else None
        measured_ms = reported.duration_ms if reported.duration_ms is not None else measured_ms
        duration = between_ms(call.time if call else None, self.time) if measured_ms is None else measured_ms
        error = (reported.error or first_line(text, 500)) if success is False else None
        message = e.MessageAdded(
            role="tool", content=text, tool_name=call.tool_name if call else None, invocation_id=invocation_id
        )
        linked = e.InvocationLinked(invocation_id=invocation_id, duration_ms=duration, success=success, error=error)
        return Meaning(
            [message, linked],
            answers=[ToolAnswer(invocation_id, text, duration, success, error)],
            odd="" if call else "is the result of a tool call that is not in the file",
        )


_ITEMS = {
    "message": Codex._message,
    "agent_message": Codex._told,
    "reasoning": Codex._reasoning,
    "function_call": Codex._called,
    "custom_tool_call": Codex._called,
    "local_shell_call": Codex._called,
    "tool_search_call": Codex._called,
    "web_search_call": Codex._served,
    "image_generation_call": Codex._served,
    "function_call_output": Codex._answered,
    "custom_tool_call_output": Codex._answered,
    "tool_search_output": Codex._answered,
}


def _inside(value: Any, *names: str) -> dict[str, Any]:
    """Return the object that is inside objects under these names, or an empty one."""
    for name in names:
        value = value.get(name) if isinstance(value, dict) else None
    return value if isinstance(value, dict) else {}


def _need_text(value: object) -> str:
    if not isinstance(value, str):
        raise TypeError("a name or id is not text")
    return value
