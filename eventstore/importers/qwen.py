"""Qwen Code: `~/.qwen/projects/<folder>/chats/<id>.jsonl`, lines like those of Claude Code with contents like those of Gemini.

`{uuid, parentUuid, sessionId, timestamp, type, cwd, version, gitBranch, message{role, parts}, usageMetadata}`; type is one of
`user`, `assistant`, `tool_result` and `system`. The conversation is the path from the last line to the root.
"""

from pathlib import Path
from typing import Any

from eventstore import events as e
from eventstore.importers.meaning import Meaning, count_of, text_of, time_of
from eventstore.importers.plain import PlainTranslator, parts_text

FORMAT = "qwen"
HOME = Path("~/.qwen")
PATTERN = "chats/*.jsonl"
AGENT = "Qwen Code"

_NAMES = {"cwd": "cwd", "gitBranch": "git_branch", "version": "version", "model": "model"}


def session_id_of(path: Path, head: bytes) -> str:
    """Return the session id of a file, which is its name."""
    return path.stem


def is_line(line: dict[str, Any]) -> bool:
    """Return whether a line is of this format."""
    message = line.get("message")
    if "uuid" not in line or "sessionId" not in line:
        return False
    if isinstance(message, dict):
        return isinstance(message.get("parts"), list)
    return line.get("type") == "system" and "systemPayload" in line


class Qwen(PlainTranslator):
    """Translates the lines of one chat."""

    format = FORMAT

    def read(self, line: dict[str, Any]) -> Meaning:
        self.time = time_of(line.get("timestamp")) or self.time
        kind = line.get("type")
        if not isinstance(kind, str):
            return Meaning(odd="has no type")
        found = Meaning()
        found.events += self.at_node(line.get("uuid"), line.get("parentUuid"))
        if kind == "system":
            self._system(line, found)
        elif kind in ("user", "assistant", "tool_result"):
            self._message(line, kind, line["message"], found)
        return found

    def _message(self, line: dict[str, Any], kind: str, message: dict[str, Any], found: Meaning) -> None:
        texts, answers = list[str](), list[dict[str, Any]]()
        calls = list[dict[str, Any]]()
        for part in message["parts"]:
            if isinstance(part.get("functionCall"), dict):
                calls.append(part["functionCall"])
            elif isinstance(part.get("functionResponse"), dict):
                answers.append(part["functionResponse"])
            elif part.get("thought") and isinstance(part.get("text"), str):
                if part["text"].strip():
                    found.events.append(e.ReasoningRecorded(content=part["text"]))
            else:
                texts.append(parts_text([part]))
        text = "\n".join(texts)
        if text.strip():
            is_wrapped = kind == "user" and text.lstrip().startswith(("<", "This is the Qwen Code"))
            role: e.Role = "assistant" if kind == "assistant" else "system" if is_wrapped else "user"
            found.events.append(e.MessageAdded(role=role, content=text))
            if role == "user" and not text.lstrip().startswith("/"):
                found.events += self.titled(text)
        for call in calls:
            self.call(found, call["id"], call["name"], call.get("args"))
        for answer in answers:
            self._answer(line, answer, found)
        found.events += self._usage(line)
        found.events += self.updated({name: line.get(key) for key, name in _NAMES.items()})

    def _answer(self, line: dict[str, Any], answer: dict[str, Any], found: Meaning) -> None:
        response, told = answer.get("response"), line.get("toolCallResult")
        status = told.get("status") if isinstance(told, dict) else None
        failed = isinstance(response, dict) and "error" in response and "output" not in response
        if isinstance(response, dict):
            text = text_of(response.get("output", response.get("error", response)))
        else:
            text = "" if response is None else text_of(response)
        success = status == "success" if isinstance(status, str) else not failed
        self.answer(found, answer["id"], text, success=success)

    def _usage(self, line: dict[str, Any]) -> list[e.Event]:
        usage = line.get("usageMetadata")
        if not isinstance(usage, dict):
            return []
        names = ("promptTokenCount", "candidatesTokenCount", "cachedContentTokenCount", "thoughtsTokenCount")
        told, wrote, cached, thought = (count_of(usage.get(name)) or 0 for name in names)
        total = count_of(usage.get("totalTokenCount")) or 0
        if thought and total == told + wrote:  # some servers count the thoughts as output too
            wrote = max(wrote - thought, 0)
        tokens = {
            "input": max(told - cached, 0),
            "output": wrote,
            "cache_read": min(cached, told),
            "reasoning": thought,
        }
        model, key = line.get("model"), line.get("uuid")
        if not any(tokens.values()):
            return []
        return [
            e.UsageRecorded(
                tokens=tokens,
                model=model if isinstance(model, str) else None,
                key=key if isinstance(key, str) else None,
            )
        ]

    def _system(self, line: dict[str, Any], found: Meaning) -> None:
        payload = line.get("systemPayload")
        payload = payload if isinstance(payload, dict) else {}
        if line.get("subtype") == "chat_compression":
            history = payload.get("compressedHistory")
            if isinstance(history, list):
                found.events.append(e.ConversationCleared())
                for one in history:
                    text = parts_text([part for part in one.get("parts") or () if "text" in part])
                    if text.strip():
                        role: e.Role = "assistant" if one.get("role") == "model" else "user"
                        found.events.append(e.MessageAdded(role=role, content=text))
        elif line.get("subtype") == "custom_title":
            found.events += self.titled(payload.get("title"), 2)
