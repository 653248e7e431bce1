"""Made-up transcripts of the shapes that agents write."""

import json
from typing import Any

START = "2026-03-02T09:30:00.000Z"


def lines(*objects: Any) -> bytes:
    return b"".join(json.dumps(one, ensure_ascii=False, separators=(",", ":")).encode() + b"\n" for one in objects)


def second(n: float) -> str:
    return f"2026-03-02T09:{30 + int(n) // 60:02d}:{n % 60:06.3f}Z"


def claude(kind: str, uuid: str, parent: str | None, at: float, content: Any, **more: Any) -> dict[str, Any]:
    """Make a user or assistant line of Claude Code; `message` fields other than content begin with `m_`."""
    message = {name[2:]: value for name, value in more.items() if name.startswith("m_")}
    line = {name: value for name, value in more.items() if not name.startswith("m_")}
    return {
        "parentUuid": parent,
        "isSidechain": False,
        "cwd": "/made/up",
        "sessionId": "one",
        "version": "9.9.9",
        "gitBranch": "main",
        "type": kind,
        "message": {"role": kind, "content": content, **message},
        "uuid": uuid,
        "timestamp": second(at),
        **line,
    }


def usage(read: int, wrote: int) -> dict[str, int]:
    return {
        "input_tokens": read,
        "output_tokens": wrote,
        "cache_read_input_tokens": 100,
        "cache_creation_input_tokens": 10,
    }


def call(name: str, arguments: Any, tool: str = "Bash") -> dict[str, Any]:
    return {"type": "tool_use", "id": name, "name": tool, "input": arguments}


def answer(name: str, content: Any, **more: Any) -> dict[str, Any]:
    return {"type": "tool_result", "tool_use_id": name, "content": content, **more}


def claude_session() -> list[dict[str, Any]]:
    """Make a session: a prompt, thoughts, two calls of which one fails, usage repeated on each line of a response."""
    response = {"m_id": "msg_1", "m_model": "made-up-1", "requestId": "req_1"}
    return [
        {"type": "file-history-snapshot", "messageId": "x", "snapshot": {}},
        claude("user", "u1", None, 1, "Why do logins fail?"),
        claude(
            "assistant", "a1", "u1", 3, [{"type": "thinking", "thinking": "Let me look.", "signature": "s"}],
            m_usage=usage(5, 1), **response,
        ),
        claude("assistant", "a2", "a1", 4, [call("t1", {"command": "git log"})], m_usage=usage(5, 40), **response),
        {"type": "progress", "uuid": "p1", "parentUuid": "a2", "timestamp": second(5), "data": {}},
        claude("user", "u2", "a2", 6.5, [answer("t1", [{"type": "text", "text": "3 commits"}])]),
        claude("assistant", "a3", "u2", 7, [call("t2", {"file": "x"}, "Read")], m_usage=usage(6, 20), m_id="msg_2",
               m_model="made-up-1", requestId="req_2"),
        claude("user", "u3", "a3", 7.25, [answer("t2", "no such file", is_error=True)]),
        claude("assistant", "a4", "u3", 9, [{"type": "text", "text": "It was e41c9d2."}], m_usage=usage(7, 30),
               m_id="msg_3", m_model="made-up-1", requestId="req_3"),
    ]  # fmt: skip


def codex(kind: str, at: float, **payload: Any) -> dict[str, Any]:
    return {"timestamp": second(at), "type": kind, "payload": payload}


def codex_session() -> list[dict[str, Any]]:
    """Make a rollout: its meta line, a prompt, a call, reasoning, token counts, an answer."""
    text = {"type": "input_text", "text": "Why do logins fail?"}
    context = {"type": "input_text", "text": "<environment_context>made up</environment_context>"}
    used = {
        "input_tokens": 500,
        "cached_input_tokens": 300,
        "output_tokens": 40,
        "reasoning_output_tokens": 8,
        "total_tokens": 540,
    }
    twice = {name: 2 * count for name, count in used.items()}
    output = json.dumps({"output": "3 commits\n", "metadata": {"exit_code": 0, "duration_seconds": 0.25}})
    failed = json.dumps({"output": "no such file", "metadata": {"exit_code": 1, "duration_seconds": 0}})
    return [
        codex("session_meta", 0, id="0199aaaa-0000-7000-8000-00000000c0de", cwd="/made/up", cli_version="9.9.9",
              originator="codex_cli", git={"branch": "main"}, instructions=None),
        codex("response_item", 1, type="message", role="user", content=[context]),
        codex("response_item", 1, type="message", role="user", content=[text]),
        codex("event_msg", 1, type="user_message", message="Why do logins fail?"),
        codex("turn_context", 1, cwd="/made/up", model="made-up-2"),
        codex("response_item", 2, type="reasoning", summary=[{"type": "summary_text", "text": "Let me look."}]),
        codex("response_item", 3, type="function_call", name="shell", arguments='{"command":["git","log"]}',
              call_id="c1"),
        codex("response_item", 3.5, type="function_call_output", call_id="c1", output=output),
        codex("event_msg", 4, type="token_count", info={"last_token_usage": used, "total_token_usage": used}),
        codex("response_item", 5, type="function_call", name="shell", arguments="not json", call_id="c2"),
        codex("response_item", 6, type="function_call_output", call_id="c2", output=failed),
        codex("event_msg", 7, type="token_count", info={"last_token_usage": used, "total_token_usage": twice}),
        codex("event_msg", 7.1, type="token_count", info={"last_token_usage": used, "total_token_usage": twice}),
        codex("event_msg", 7, type="token_count", info=None),
        codex("response_item", 8, type="message", role="assistant", content=[{"type": "output_text", "text": "It was."}]),
    ]  # fmt: skip
