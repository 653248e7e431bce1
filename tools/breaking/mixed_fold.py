"""What `mixed` expects of a store, computed from the raw lines of its logs with `json` alone: none of our code is used."""

import json
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

_SILENT = {"log.repaired", "event.redacted", "checkpoint.signed", "session.pinned"}
Record = dict[str, Any]


def read_lines(path: Path) -> list[Record]:
    """Read a log's own lines; each must be complete."""
    data = path.read_bytes()
    assert data.endswith(b"\n"), f"{path} has a torn tail"
    return [json.loads(line) for line in data.split(b"\n")[:-1]]


@dataclass
class Logs:
    """The lines that each log has as its own: of sessions by id, of the trash by the name there."""

    sessions: dict[str, list[Record]]
    trashed: dict[str, list[Record]]
    store: list[Record]

    @classmethod
    def of(cls, root: Path) -> "Logs":
        """Read all logs below a sessions folder."""
        return cls(
            {one.name: read_lines(one / "events.jsonl") for one in _folders(root)},
            {one.name: read_lines(one / "events.jsonl") for one in _folders(root / "_trash")},
            read_lines(root / "_store" / "events.jsonl"),
        )

    def lives(self, session_id: str) -> Iterator[list[Record]]:
        """Yield the history of each log there is of a session id, that in the trash too."""
        if session_id in self.sessions:
            yield self.history(self.sessions[session_id])
        for name, lines in self.trashed.items():
            if name.partition("~")[0] == session_id:
                yield self.history(lines)

    def history(self, lines: list[Record]) -> list[Record]:
        """Return the inherited lines of a fork, then its own."""
        parts, own = [lines], lines
        upto = own[0]["seq"] - 1
        while upto > 0:
            own = self.sessions[own[0]["forked_from"]["session_id"]]
            parts.append([one for one in own if one["seq"] <= upto])
            upto = min(upto, own[0]["seq"] - 1)
        whole = [one for part in reversed(parts) for one in part]
        assert [one["seq"] for one in whole] == list(range(1, len(whole) + 1)), "numbers are not dense"
        return whole


def _folders(root: Path) -> list[Path]:
    return [one for one in sorted(root.iterdir()) if one.name[0] not in "._"] if root.is_dir() else []


@dataclass
class Known:
    """What is known of one session."""

    user_id: str | None = None
    purpose: str | None = None
    tags: list[str] = field(default_factory=list)
    created_at: str = ""
    updated_at: str = ""
    calls: dict[str, Record] = field(default_factory=dict)
    tools: list[str] = field(default_factory=list)
    tokens: dict[str, int] = field(default_factory=dict)
    cost: float | None = None
    data: Record = field(default_factory=dict)
    messages: list[str] = field(default_factory=list)
    errors: int = 0
    found: list[tuple[int, str]] = field(default_factory=list)
    _uses: dict[str, tuple[Record, float]] = field(default_factory=dict)


def fold(lines: list[Record]) -> Known:
    """Fold lines: those of a complete history, or only a session's own."""
    known = Known()
    for one in lines:
        kind = one["type"]
        if kind not in _SILENT and "redacted" not in one:
            time = str(one.get("occurred_at", one["at"]))
            known.created_at = known.created_at or time
            known.updated_at = max(known.updated_at, time)
        elif "redacted" in one and not known.created_at:
            known.created_at = known.updated_at = one["at"]
        if one.get("target_time") and one["target_type"] not in _SILENT:  # what was redacted happened all the same
            known.updated_at = max(known.updated_at, one["target_time"])
        if "redacted" not in one and kind in _FOLDS:
            _FOLDS[kind](known, one)
    return known


def _created(known: Known, one: Record) -> None:
    is_fork = "forked_from" in one
    if is_fork:
        known.created_at = one["at"]
    known.user_id = one.get("user_id") or (known.user_id if is_fork else None)
    known.purpose = one.get("purpose") or (known.purpose if is_fork else None)
    known.tags = one.get("tags") or (known.tags if is_fork else [])


def _message(known: Known, one: Record) -> None:
    known.messages.append(one["content"])
    known.found.append((one["seq"], one["content"]))


def _linked(known: Known, one: Record) -> None:
    call = known.calls.setdefault(one["invocation_id"], {"duration_ms": 0.0, "failed": False, "tool": None})
    call["duration_ms"] = one.get("duration_ms", call["duration_ms"])
    if "success" in one:
        call["failed"] = not one["success"]
    if one.get("tool_name") not in (None, *known.tools):
        known.tools.append(one["tool_name"])


def _used(known: Known, one: Record) -> None:
    tokens, cost, key = one.get("tokens", {}), one.get("cost"), one.get("key")
    before, paid = known._uses.get(key, ({}, 0.0)) if key is not None else ({}, 0.0)
    for kind, count in tokens.items():
        known.tokens[kind] = known.tokens.get(kind, 0) + max(count - before.get(kind, 0), 0)
    if cost is not None:
        known.cost = (known.cost or 0.0) + max(cost - paid, 0.0)
    if key is not None:
        most = {kind: max(before.get(kind, 0), tokens.get(kind, 0)) for kind in {**before, **tokens}}
        known._uses[key] = most, max(paid, cost or 0.0)


def _set(known: Known, one: Record) -> None:
    known.data[one["key"]] = one.get("value")


_FOLDS = {
    "session.created": _created,
    "message.added": _message,
    "invocation.started": _linked,
    "invocation.linked": _linked,
    "usage.recorded": _used,
    "data.set": _set,
}
