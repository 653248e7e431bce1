"""What a copied line has in common with the line that it was copied from, as keys of 16 bytes.

Claude Code copies lines with their uuid and time, and the ids of responses; sessions and folders are rewritten. Codex copies the
content of lines and gives them new times, so there a key identifies the line and all lines before it, from the start of the file.
"""

from collections.abc import Iterable
from hashlib import blake2b
from typing import Any, NamedTuple, Protocol

import msgspec

from eventstore.events import Event
from eventstore.importers.meaning import decode

_encode = msgspec.json.Encoder(order="sorted").encode


class Keys(NamedTuple):
    """The keys of a line. `line` is None for a line whose copies cannot be recognised.

    `use` is the key of the response whose tokens it reports. `tally` is that of a token count, whatever messages are before it.
    """

    line: bytes | None = None
    use: bytes | None = None
    tally: bytes | None = None
    is_reply: bool = True

    def all(self) -> list[bytes]:
        """Return the keys that there are."""
        return [key for key in (self.line, self.use, self.tally) if key is not None]


NO_KEYS = Keys()


class Identity(Protocol):
    """Finds the keys of the lines of one file, in order. `family` are the ids of the sessions that the file names as its own."""

    family: set[str]
    needs_family: bool
    """Whether lines are copies only of sessions with a common id: their content alone does not say so."""
    between: bool
    """Whether a line without keys between copies is one too."""

    def read(self, line: dict[str, Any]) -> Keys:
        """Return the keys of a line."""
        ...


class ClaudeIdentity:
    """Lines of Claude Code."""

    needs_family = False
    between = False

    def __init__(self, session_id: str) -> None:
        self.family = {session_id}

    def read(self, line: dict[str, Any]) -> Keys:
        """Return the keys of a line: of its uuid, time and content, and of the response that it is a part of."""
        kind, uuid, message = line.get("type"), line.get("uuid"), line.get("message")
        if kind == "queue-operation":
            return Keys(key_of(kind, line.get("timestamp"), line.get("operation"), line.get("content")))
        if not isinstance(uuid, str) or kind not in ("user", "assistant", "attachment"):
            return NO_KEYS
        if not isinstance(message, dict):
            return Keys(key_of(uuid, line.get("timestamp"), line.get("attachment")))
        use = None
        if message.get("id") and isinstance(message.get("usage"), dict):
            use = key_of("use", message["id"], line.get("requestId"))
        return Keys(key_of(uuid, line.get("timestamp"), message.get("role"), message.get("content")), use)


_PARTS = "type", "role", "content", "name", "namespace", "arguments", "input", "action", "call_id", "output"
_ADDED = "developer", "system"


class CodexIdentity:
    """Lines of a Codex rollout. Only rollouts that name each other, or the same third one, are compared."""

    needs_family = True
    between = True

    def __init__(self, session_id: str) -> None:
        self.family = {session_id}
        self._said = self._used = b"codex"
        self._total: Any = None
        self._is_inside = False

    def read(self, line: dict[str, Any]) -> Keys:
        """Return the keys of a line: of its content and that of all lines before it."""
        kind, payload = line.get("type"), line.get("payload")
        if not isinstance(payload, dict):
            kind, payload = "response_item", line
        if kind == "session_meta":
            if not self._is_inside:
                self.family |= set(relatives(payload))
            return NO_KEYS
        if kind == "event_msg" and payload.get("type") == "token_count":
            return self._count(payload.get("info"))
        if kind != "response_item" or payload.get("role") in _ADDED or payload.get("type") == "reasoning":
            return NO_KEYS
        parts = [payload.get(name) for name in _PARTS]
        if parts[0] is None or _is_context(payload):
            return NO_KEYS
        self._is_inside = True
        self._said = key_of(self._said, parts)
        return Keys(self._said, is_reply=payload.get("role") != "user")

    def _count(self, info: Any) -> Keys:
        total = info.get("total_token_usage") if isinstance(info, dict) else None
        if not isinstance(info, dict) or (total is not None and total == self._total):
            return NO_KEYS
        self._total = total
        self._used = key_of(self._used, total, info.get("last_token_usage"))
        return Keys(key_of(self._used, self._said), tally=self._used)


def relatives(meta: dict[str, Any]) -> Iterable[str]:
    """Return the ids that the first line of a rollout names: its own, and those of the sessions that it continues."""
    source = meta.get("source")
    spawn = source.get("subagent") if isinstance(source, dict) else None
    spawn = spawn.get("thread_spawn") if isinstance(spawn, dict) else None
    found = [meta.get("id"), meta.get("forked_from_id"), meta.get("parent_thread_id")]
    found.append(spawn.get("parent_thread_id") if isinstance(spawn, dict) else None)
    return [one for one in found if isinstance(one, str) and one]


def _is_context(payload: dict[str, Any]) -> bool:
    """Return whether the program adds an item in the user's name: forks may get other ones."""
    content = payload.get("content")
    first = content[0] if isinstance(content, list) and content and isinstance(content[0], dict) else {}
    return payload.get("role") == "user" and str(first.get("text", "")).lstrip().startswith("<")


def key_of(*parts: Any) -> bytes:
    """Return the hash of values as 16 bytes."""
    return blake2b(_encode(parts), digest_size=16).digest()


class EventKeys:
    """Finds the keys of the lines in the events of a session that was imported."""

    def __init__(self, kinds: dict[str, type[ClaudeIdentity] | type[CodexIdentity]]) -> None:
        self._kinds = kinds
        self._found: dict[str, Identity] = {}

    @property
    def family(self) -> set[str]:
        """All ids that the session's files name."""
        return set().union(*(one.family for one in self._found.values()))

    def keys(self, event: Event) -> list[bytes]:
        """Return the keys of the line that an event was imported from."""
        origin = event.origin
        if origin is None or origin.line is None or origin.format not in self._kinds:
            return []
        line = decode(origin.line.encode())
        if line is None:
            return []
        identity = self._found.setdefault(origin.format, self._kinds[origin.format](""))
        return identity.read(line).all()
