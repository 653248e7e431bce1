"""Made-up transcripts of Gemini CLI, Copilot CLI, pi, Qwen Code and OpenCode."""

import json
import sqlite3
from pathlib import Path
from typing import Any

from transcripts import second

from eventstore.importers import opencode


def gemini_messages() -> list[dict[str, Any]]:
    result = [{"functionResponse": {"id": "c1", "name": "read_file", "response": {"output": "3 commits"}}}]
    failed = [{"functionResponse": {"id": "c2", "name": "shell", "response": {"error": "no such file"}}}]
    calls = [
        {
            "id": "c1",
            "name": "read_file",
            "args": {"path": "x"},
            "result": result,
            "status": "success",
            "timestamp": second(5),
        },
        {
            "id": "c2",
            "name": "shell",
            "args": {"command": "cat y"},
            "result": failed,
            "status": "error",
            "timestamp": second(6),
        },
    ]
    used = {"input": 100, "output": 20, "cached": 60, "thoughts": 5, "tool": 0, "total": 125}
    return [
        {"id": "m1", "timestamp": second(1), "type": "user", "content": "Why do logins fail?"},
        {"id": "m2", "timestamp": second(4), "type": "gemini", "content": "", "toolCalls": calls,
         "thoughts": [{"subject": "Look", "description": "at the log", "timestamp": second(3)}], "tokens": used,
         "model": "gemini-x"},
        {"id": "m3", "timestamp": second(8), "type": "gemini", "content": "It was e41c9d2 — naïve.", "thoughts": [],
         "tokens": used, "model": "gemini-x"},
    ]  # fmt: skip


def gemini_file(count: int = 3, **header: Any) -> bytes:
    """Make a file of the older shape with the first messages."""
    messages = gemini_messages()[:count]
    begin = {"sessionId": "gem", "projectHash": "00ff", "startTime": second(0), "lastUpdated": second(count)}
    return json.dumps({**begin, "messages": messages, **header}, indent=2, ensure_ascii=False).encode()


def gemini_session() -> list[dict[str, Any]]:
    header = {
        "sessionId": "gem",
        "projectHash": "00ff",
        "startTime": second(0),
        "lastUpdated": second(0),
        "kind": "main",
    }
    first, calls, last = gemini_messages()
    running = {**calls, "toolCalls": [{**one, "status": "executing", "result": None} for one in calls["toolCalls"]]}
    return [header, first, {"$set": {"lastUpdated": second(2), "summary": "Logins mended"}}, running, calls, last]


def copilot(kind: str, at: float, name: str, parent: str | None, **data: Any) -> dict[str, Any]:
    return {"type": kind, "data": data, "id": name, "timestamp": second(at), "parentId": parent}


def copilot_session() -> list[dict[str, Any]]:
    calls = [{"toolCallId": "t1", "name": "bash", "arguments": {"command": "ls"}}]
    usage = {
        "inputTokens": 1000,
        "outputTokens": 50,
        "cacheReadTokens": 800,
        "cacheWriteTokens": 0,
        "reasoningTokens": 10,
    }
    return [
        copilot("session.start", 0, "e1", None, sessionId="cop", version=1, producer="copilot-agent", copilotVersion="1.0",
                context={"cwd": "/made/up", "branch": "main"}),
        copilot("session.model_change", 0.5, "e2", "e1", newModel="gpt-x"),
        copilot("user.message", 1, "e3", "e2", content="Why do logins fail?", transformedContent="<x>", attachments=[]),
        copilot("assistant.turn_start", 2, "e4", "e3", turnId="0"),
        copilot("assistant.message", 3, "e5", "e4", content="", reasoningText="Let me look.", toolRequests=calls),
        copilot("tool.execution_start", 3.5, "e6", "e5", toolCallId="t1", toolName="bash", arguments={"command": "ls"}),
        copilot("tool.execution_complete", 5, "e7", "e6", toolCallId="t1", success=False, error={"message": "denied"}),
        copilot("assistant.message", 6, "e8", "e7", content="looking deeper", toolRequests=[], parentToolCallId="t9"),
        copilot("assistant.message", 7, "e9", "e8", content="It was e41c9d2.", toolRequests=[]),
        copilot("session.shutdown", 8, "e10", "e9", shutdownType="routine", modelMetrics={"gpt-x": {"usage": usage}}),
    ]  # fmt: skip


def pi_entry(name: str, parent: str | None, at: float, role: str, content: Any, **more: Any) -> dict[str, Any]:
    message = {"role": role, "content": content, "timestamp": 1, **more}
    return {"type": "message", "id": name, "parentId": parent, "timestamp": second(at), "message": message}


def pi_session() -> list[dict[str, Any]]:
    usage = {"input": 12, "output": 7, "reasoning": 2, "cacheRead": 100, "cacheWrite": 3, "cost": {"total": 0.25}}
    call = {"type": "toolCall", "id": "t1", "name": "ls", "arguments": {"path": "."}}
    text = {"type": "text", "text": "It was e41c9d2."}
    return [
        {"type": "session", "version": 3, "id": "pie", "timestamp": second(0), "cwd": "/made/up"},
        {"type": "model_change", "id": "p1", "parentId": None, "timestamp": second(0), "provider": "x", "modelId": "pi-x"},
        pi_entry("p2", "p1", 1, "user", [{"type": "text", "text": "Why do logins fail?"}]),
        pi_entry("p3", "p2", 2, "assistant", [{"type": "thinking", "thinking": "Let me look."}, call], usage=usage, model="pi-x"),
        pi_entry("p4", "p3", 4, "toolResult", [{"type": "text", "text": "3 commits"}], toolCallId="t1", isError=True),
        pi_entry("p5", "p4", 5, "assistant", [{"type": "text", "text": "a first answer"}], model="pi-x"),
        pi_entry("p6", "p4", 6, "assistant", [text], model="pi-x"),
        {"type": "session_info", "id": "p7", "parentId": "p6", "timestamp": second(7), "name": "Logins mended"},
    ]  # fmt: skip


def qwen(name: str, parent: str | None, at: float, kind: str, parts: list[Any], **more: Any) -> dict[str, Any]:
    role = "model" if kind == "assistant" else "user"
    line = {
        "uuid": name,
        "parentUuid": parent,
        "sessionId": "qwe",
        "timestamp": second(at),
        "type": kind,
        "cwd": "/made/up",
    }
    return {**line, "version": "0.2", "gitBranch": "main", "message": {"role": role, "parts": parts}, **more}


def qwen_session() -> list[dict[str, Any]]:
    usage = {"promptTokenCount": 100, "candidatesTokenCount": 20, "cachedContentTokenCount": 60, "thoughtsTokenCount": 5,
             "totalTokenCount": 125}  # fmt: skip
    response = {"functionResponse": {"id": "t1", "name": "ls", "response": {"output": "3 commits"}}}
    return [
        qwen("q1", None, 1, "user", [{"text": "Why do logins fail?"}]),
        qwen("q2", "q1", 2, "assistant", [{"text": "Let me look.", "thought": True},
             {"functionCall": {"id": "t1", "name": "ls", "args": {"path": "."}}}], model="qwen-x", usageMetadata=usage),
        qwen("q3", "q2", 4, "tool_result", [response], toolCallResult={"callId": "t1", "status": "error"}),
        {"uuid": "q4", "parentUuid": "q3", "sessionId": "qwe", "timestamp": second(5), "type": "system",
         "subtype": "ui_telemetry", "systemPayload": {}},
        qwen("q5", "q4", 6, "assistant", [{"text": "It was e41c9d2."}], model="qwen-x"),
    ]  # fmt: skip


_SCHEMA = """
CREATE TABLE session (id TEXT PRIMARY KEY, project_id TEXT, parent_id TEXT, directory TEXT, title TEXT, version TEXT,
    time_created INTEGER, time_updated INTEGER);
CREATE TABLE message (id TEXT PRIMARY KEY, session_id TEXT, time_created INTEGER, time_updated INTEGER, data TEXT);
CREATE TABLE part (id TEXT PRIMARY KEY, message_id TEXT, session_id TEXT, time_created INTEGER, time_updated INTEGER, data TEXT);
"""
_BEGIN = 1_772_443_800_000


class OpenCodeDatabase:
    """A database of OpenCode that a test writes to."""

    def __init__(self, path: Path) -> None:
        self.path, self._count = path, 0
        self._run(_SCHEMA)

    def _run(self, script: str, *values: Any) -> None:
        base = sqlite3.connect(self.path)
        with base:
            base.execute(script, values) if values else base.executescript(script)
        base.close()

    def session(self, name: str, title: str, parent: str | None = None) -> None:
        self._count += 1
        row = name, "p", parent, "/made/up", title, "1.2", _BEGIN + self._count, _BEGIN
        self._run("INSERT OR REPLACE INTO session VALUES (?, ?, ?, ?, ?, ?, ?, ?)", *row)

    def message(self, name: str, session: str, at: float, **data: Any) -> None:
        when = _BEGIN + int(at * 1000)
        row = name, session, when, when, json.dumps({"time": {"created": when, "completed": when + 500}, **data})
        self._run("INSERT OR REPLACE INTO message VALUES (?, ?, ?, ?, ?)", *row)

    def part(self, name: str, message: str, session: str, at: float, **data: Any) -> None:
        when = _BEGIN + int(at * 1000)
        self._run(
            "INSERT OR REPLACE INTO part VALUES (?, ?, ?, ?, ?, ?)",
            name,
            message,
            session,
            when,
            when,
            json.dumps(data),
        )


def opencode_session(path: Path) -> OpenCodeDatabase:
    base = OpenCodeDatabase(path)
    base.session("ses_one", "Logins mended")
    base.message("m1", "ses_one", 1, role="user")
    base.part("p1", "m1", "ses_one", 1, type="text", text="Why do logins fail?")
    base.message("m2", "ses_one", 2, role="assistant", modelID="oc-x", cost=0.25)
    base.part("p2", "m2", "ses_one", 2, type="reasoning", text="Let me look.", time={"start": _BEGIN + 2000})
    state = {"status": "error", "input": {"command": "ls"}, "error": "denied",
             "time": {"start": _BEGIN + 3000, "end": _BEGIN + 4500}}  # fmt: skip
    base.part("p3", "m2", "ses_one", 3, type="tool", tool="bash", callID="t1", state=state)
    base.part("p4", "m2", "ses_one", 5, type="text", text="It was e41c9d2.")
    tokens = {"input": 40, "output": 20, "reasoning": 5, "cache": {"read": 60, "write": 1}}
    base.part("p5", "m2", "ses_one", 5, type="step-finish", tokens=tokens, cost=0.25)
    return base


def opencode_lines(path: Path) -> list[bytes]:
    """Return the lines that a session of OpenCode becomes."""
    ((_, found),) = opencode.sessions(opencode_session(path).path)
    return found


SESSIONS = {"gemini": gemini_session, "copilot": copilot_session, "pi": pi_session, "qwen": qwen_session}
