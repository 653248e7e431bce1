"""pi: `~/.pi/agent/sessions/<folder>/<time>_<id>.jsonl`, a header `session` and entries that form a tree by `parentId`.

The conversation is the path from the last entry to the root. OpenClaw writes the same lines.
"""

from pathlib import Path
from typing import Any

from eventstore import events as e
from eventstore.importers.meaning import Meaning, count_of, decode, time_of
from eventstore.importers.plain import PlainTranslator, parts_text

FORMAT = "pi"
HOME = Path("~/.pi/agent/sessions")
PATTERN = "*.jsonl"
AGENT = "pi"

_ENTRIES = frozenset(
    [
        "session", "message", "model_change", "thinking_level_change", "compaction", "branch_summary", "custom", "custom_message",
        "label", "session_info",
    ]
)  # fmt: skip


def session_id_of(path: Path, head: bytes) -> str:
    """Return the session id of a file: the id in its header, else its name."""
    header = decode(head.split(b"\n", 1)[0]) or {}
    found = header.get("id") if header.get("type") == "session" else None
    return found if isinstance(found, str) else path.stem


def is_line(line: dict[str, Any]) -> bool:
    """Return whether a line is of this format."""
    kind, message = line.get("type"), line.get("message")
    if kind == "session":
        return "id" in line and ("cwd" in line or "version" in line)
    if "uuid" in line or "payload" in line or kind not in _ENTRIES:
        return False
    return "parentId" in line and (kind != "message" or (isinstance(message, dict) and "role" in message))


class Pi(PlainTranslator):
    """Translates the entries of one session."""

    format = FORMAT

    def __init__(self, session_id: str) -> None:
        super().__init__(session_id)
        self._messages: list[int] = []
        self._starts: dict[str, int] = {}
        self._behind: list[int] = []

    def placed(self, seq: int) -> None:
        self._messages += [seq - behind for behind in self._behind]
        self._behind = []
        super().placed(seq)

    def read(self, line: dict[str, Any]) -> Meaning:
        self.time = time_of(line.get("timestamp")) or self.time
        kind = line.get("type")
        if not isinstance(kind, str):
            return Meaning(odd="has no type")
        if kind == "session":
            parent = line.get("parentSession")
            names = {"cwd": line.get("cwd"), "forked_from": parent, "model": line.get("modelId")}
            return Meaning(self.updated(names))
        found = Meaning()
        found.events += self.at_node(line.get("id"), line.get("parentId"))
        if isinstance(line.get("id"), str):
            self._starts[line["id"]] = self._last
        self._entry(line, kind, found)
        last = len(found.events) - 1
        self._behind = [last - index for index, one in enumerate(found.events) if isinstance(one, e.MessageAdded)]
        return found

    def _entry(self, line: dict[str, Any], kind: str, found: Meaning) -> None:
        if kind == "message":
            self._message(line, line["message"], found)
        elif kind == "model_change":
            found.events += self.updated({"model": line.get("modelId")})
        elif kind == "session_info":
            found.events += self.titled(line.get("name"), 2)
        elif kind == "compaction":
            self._compacted(line, found)
        elif kind == "branch_summary" and isinstance(line.get("summary"), str):
            found.events.append(e.MessageAdded(role="user", content=line["summary"]))
        elif kind == "custom_message" and line.get("content") is not None:
            found.events.append(e.MessageAdded(role="system", content=parts_text(line["content"])))

    def _message(self, line: dict[str, Any], message: dict[str, Any], found: Meaning) -> None:
        role = message["role"]
        if role == "user":
            text = parts_text(message["content"])
            found.events.append(e.MessageAdded(role="user", content=text))
            if not text.lstrip().startswith(("<", "/")):
                found.events += self.titled(text)
        elif role == "assistant":
            self._assistant(line, message, found)
        elif role == "toolResult":
            failed = bool(message.get("isError"))
            self.answer(found, message["toolCallId"], parts_text(message.get("content")), success=not failed)
        elif role == "bashExecution":
            self._ran(line, message, found)
        elif isinstance(message.get("summary"), str):
            found.events.append(e.MessageAdded(role="user", content=message["summary"]))

    def _assistant(self, line: dict[str, Any], message: dict[str, Any], found: Meaning) -> None:
        texts = list[str]()
        content = message.get("content")
        for part in content if isinstance(content, list) else [{"type": "text", "text": parts_text(content)}]:
            kind = part.get("type")
            if kind == "thinking":
                if isinstance(part.get("thinking"), str) and part["thinking"].strip():
                    found.events.append(e.ReasoningRecorded(content=part["thinking"]))
            elif kind == "toolCall":
                if texts:
                    found.events.append(e.MessageAdded(role="assistant", content="\n".join(texts)))
                    texts = []
                self.call(found, part["id"], part["name"], part.get("arguments"))
            else:
                texts.append(parts_text([part]))
        if "".join(texts).strip():
            found.events.append(e.MessageAdded(role="assistant", content="\n".join(texts)))
        found.events += self._usage(line, message) + self.updated({"model": message.get("model")})

    def _ran(self, line: dict[str, Any], message: dict[str, Any], found: Meaning) -> None:
        """Add a command that the user ran."""
        name = f"bash-{line.get('id')}"
        self.call(found, name, "bash", {"command": message.get("command")})
        code = message.get("exitCode")
        success = code == 0 if isinstance(code, int) else False if message.get("cancelled") else None
        self.answer(found, name, parts_text(message.get("output")), success=success)

    def _usage(self, line: dict[str, Any], message: dict[str, Any]) -> list[e.Event]:
        usage = message.get("usage")
        if not isinstance(usage, dict):
            return []
        names = ("input", "output", "cacheRead", "cacheWrite", "reasoning")
        told, wrote, read, written, thought = (count_of(usage.get(name)) or 0 for name in names)
        tokens = {
            "input": told,
            "output": max(wrote - thought, 0),
            "cache_read": read,
            "cache_write": written,
            "reasoning": min(thought, wrote),
        }
        cost = usage.get("cost")
        total = cost.get("total") if isinstance(cost, dict) else None
        model = message.get("model")
        if not any(tokens.values()):
            return []
        return [
            e.UsageRecorded(
                tokens=tokens,
                model=model if isinstance(model, str) else None,
                key=str(line["id"]) if line.get("id") else None,
                cost=float(total) if isinstance(total, int | float) and 0 <= total < 1e9 else None,
            )
        ]

    def _compacted(self, line: dict[str, Any], found: Meaning) -> None:
        """Replace the messages before the first kept entry by a summary."""
        kept = line.get("firstKeptEntryId")
        limit = self._starts.get(kept, 0) if isinstance(kept, str) else 0
        withdrawn = tuple(seq for seq in self._messages if seq <= limit)
        if withdrawn:
            self._messages = [seq for seq in self._messages if seq > limit]
            found.events.append(e.MessagesWithdrawn(targets=withdrawn))
        if isinstance(line.get("summary"), str):
            found.events.append(e.MessageAdded(role="user", content=line["summary"]))
