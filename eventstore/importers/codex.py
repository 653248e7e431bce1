"""Codex CLI rollouts: `~/.codex/sessions/YYYY/MM/DD/rollout-<time>-<uuid>.jsonl`, lines `{timestamp, type, payload}`.

The response items hold the messages of the model and the results of tools. The event messages repeat them, so they are stored
without a meaning, except the token counts: `last_token_usage` is what one request used (totals restart within a file); its
`input` includes the cached part.
"""

import re
from pathlib import Path
from typing import Any

from eventstore import events as e
from eventstore.importers.meaning import (
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

FORMAT = "codex"
HOME = Path("~/.codex/sessions")
PATTERN = "rollout-*.jsonl"

_KINDS = {
    "input": "input_tokens",
    "cache_read": "cached_input_tokens",
    "output": "output_tokens",
    "reasoning": "reasoning_output_tokens",
}
_ROLES: dict[str, e.Role] = {"user": "user", "assistant": "assistant", "system": "system", "developer": "system"}
_WRAPPED = (
    "<environment_context>",
    "<user_instructions>",
    "<INSTRUCTIONS>",
    "# AGENTS.md",
    "<permissions",
    "<turn_aborted",
)
_REQUEST = "## My request for Codex:"
"""The heading of the user's prompt, after the context that an editor adds."""
_EXIT_CODE = re.compile(r"(?:Exit code:|exited with code) (-?\d+)")
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
    found = _UUID.search(path.stem)
    return found[0] if found else path.stem


class Codex(Translator):
    """Translates one rollout of Codex CLI."""

    format = FORMAT

    def __init__(self, session_id: str) -> None:
        self.time: str | None = None
        self._known: dict[str, Any] = {}
        self._titled = False
        self._open = OpenCalls()

    def placed(self, seq: int) -> None:
        """Ignore the number: no line of a rollout refers to an earlier one."""

    def unanswered(self) -> int:
        return len(self._open)

    def read(self, line: dict[str, Any]) -> Meaning:
        self.time = time_of(line.get("timestamp")) or self.time
        kind, payload = line.get("type"), line.get("payload")
        if not isinstance(payload, dict):
            kind, payload = ("response_item", line) if kind in _ITEMS else (kind, {})
        if kind == "session_meta":
            return Meaning(self._begun(payload))
        if kind == "turn_context":
            return Meaning(self._updated({"model": payload.get("model"), "cwd": payload.get("cwd")}))
        if kind == "event_msg" and payload.get("type") == "token_count":
            return Meaning(self._usage(payload.get("info")))
        item = _ITEMS.get(payload.get("type", "")) if kind == "response_item" else None
        if item is None:
            return Meaning(odd="" if isinstance(kind, str) or "id" in line or "record_type" in line else "has no type")
        return item(self, payload)

    # --- names and figures

    def _begun(self, meta: dict[str, Any]) -> list[e.Event]:
        git = meta.get("git")
        found = {"cwd": meta.get("cwd"), "version": meta.get("cli_version"), "originator": meta.get("originator")}
        found["git_branch"] = git.get("branch") if isinstance(git, dict) else None
        return self._updated(found)

    def _updated(self, metadata: dict[str, Any]) -> list[e.Event]:
        new = {
            name: value
            for name, value in metadata.items()
            if isinstance(value, str) and value and self._known.get(name) != value
        }
        self._known |= new
        return [e.SessionUpdated(custom_metadata=new)] if new else []

    def _usage(self, info: Any) -> list[e.Event]:
        usage = info.get("last_token_usage") if isinstance(info, dict) else None
        if not isinstance(usage, dict):
            return []
        counts = {kind: count_of(usage.get(name)) for kind, name in _KINDS.items()}
        tokens = {kind: count for kind, count in counts.items() if count is not None}
        return [e.UsageRecorded(tokens=tokens, model=self._known.get("model"))] if tokens else []

    # --- response items

    def _message(self, item: dict[str, Any]) -> Meaning:
        text = "\n".join(_part_text(part) for part in item["content"])
        role = _ROLES[item["role"]]
        wrapped = role == "user" and text.lstrip().startswith(_WRAPPED)
        found: list[e.Event] = [e.MessageAdded(role="system" if wrapped else role, content=text)]
        if role == "user" and not wrapped and not self._titled and text.strip():
            self._titled = True
            found.append(e.SessionUpdated(purpose=first_line(text.rpartition(_REQUEST)[2])))
        return Meaning(found)

    def _reasoning(self, item: dict[str, Any]) -> Meaning:
        parts = [*(item.get("summary") or ()), *(item.get("content") or ())]
        text = "\n\n".join(
            part["text"] for part in parts if isinstance(part, dict) and isinstance(part.get("text"), str)
        )
        return Meaning([e.ReasoningRecorded(content=text)] if text else [])

    def _called(self, item: dict[str, Any]) -> Meaning:
        given = item.get("arguments", item.get("input", item.get("action")))
        arguments = _json_or_text(given)
        name = item.get("name", "local_shell")
        call = ToolCall(_need_text(item["call_id"]), _need_text(name), arguments, self.time)
        message = e.MessageAdded(
            role="assistant", content=text_of(given), tool_name=call.tool_name, invocation_id=call.invocation_id
        )
        linked = e.InvocationLinked(invocation_id=call.invocation_id, tool_name=call.tool_name)
        return Meaning([message, linked], calls=[self._open.begin(call)])

    def _answered(self, item: dict[str, Any]) -> Meaning:
        invocation_id = _need_text(item["call_id"])
        call = self._open.end(invocation_id)
        text, success, measured_ms = _output(item.get("output"))
        duration = between_ms(call.time if call else None, self.time) if measured_ms is None else measured_ms
        error = first_line(text, 500) if success is False else None
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
    "reasoning": Codex._reasoning,
    "function_call": Codex._called,
    "custom_tool_call": Codex._called,
    "local_shell_call": Codex._called,
    "function_call_output": Codex._answered,
    "custom_tool_call_output": Codex._answered,
}


def _part_text(part: dict[str, Any]) -> str:
    text = part.get("text")
    return text if isinstance(text, str) else f"[{part['type'].removeprefix('input_')}]"


def _json_or_text(value: Any) -> Any:
    if not isinstance(value, str):
        return value
    found = decode(value.encode())
    return value if found is None else found


def _output(output: Any) -> tuple[str, bool | None, float | None]:
    """Return the text of a tool's output, and its success and duration in milliseconds if they are recorded."""
    if isinstance(output, list):
        return "\n".join(_part_text(part) for part in output), None, None
    found = output if isinstance(output, dict) else decode(output.encode()) if isinstance(output, str) else None
    if found is None:
        code = _EXIT_CODE.match(output) if isinstance(output, str) else None
        return text_of(output), None if code is None else code[1] == "0", None
    text = next((found[name] for name in ("output", "content") if isinstance(found.get(name), str)), text_of(output))
    metadata = found.get("metadata")
    metadata = metadata if isinstance(metadata, dict) else {}
    exit_code, seconds = metadata.get("exit_code"), metadata.get("duration_seconds")
    success = found.get("success") if exit_code is None else exit_code == 0
    duration = round(seconds * 1000.0, 3) if isinstance(seconds, int | float) and 0 <= seconds < 1e9 else None
    return text, success if isinstance(success, bool) else None, duration


def _need_text(value: object) -> str:
    if not isinstance(value, str):
        raise TypeError("a name or id is not text")
    return value
