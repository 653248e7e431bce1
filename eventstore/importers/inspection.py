"""Inspect and repair transcripts of other tools in place: incomplete lines, duplicates, unknown parents and calls."""

import json
import os
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from eventstore.errors import ImportRefused
from eventstore.importers.meaning import decode

_MOST_GLUED = 16  # objects searched per damaged line: bounds the work on hostile input


@dataclass(frozen=True)
class Flaw:
    """One fault: the line from 1, the byte at which it begins, its kind, and whether a repair fixes it (`mendable`).

    Kinds: `half line`, `NUL bytes`, `glued lines`, `no JSON object`, `duplicate`, `duplicate id`, `dangling parent`,
    `orphan result`.
    """

    line: int
    offset_bytes: int
    kind: str
    mendable: bool
    text: str = ""

    def to_dict(self) -> dict[str, Any]:
        """Return the fields as JSON values."""
        return dict(vars(self))


@dataclass
class _Seen:
    """The ids of the lines and calls read so far."""

    lines: dict[str, int] = field(default_factory=dict)
    calls: set[str] = field(default_factory=set)


def inspect(path: Path) -> Iterator[Flaw]:
    """Stream the faults of a transcript of Claude Code or Codex, in order. Raises ImportRefused if it cannot be read."""
    return (flaw for _, _, flaws in _judged(path) for flaw in flaws)


def mend(path: Path) -> Path:
    """Repair a transcript: drop lines that are not JSON objects, split concatenated objects, drop exact duplicates.

    The original file is kept in the same folder; its new path is returned. Raises ImportRefused; then nothing was changed.
    """
    kept = _free_name(path)
    temporary = path.with_name(f".{path.name}.new")
    try:
        with temporary.open("xb") as stream:
            for line, parts, flaws in _judged(path):
                stream.writelines(parts if any(flaw.mendable for flaw in flaws) else [line])
            stream.flush()
            os.fsync(stream.fileno())
        os.link(path, kept)
        temporary.replace(path)
    except OSError as error:
        raise ImportRefused(str(path), 0, f"{error.strerror}; nothing was changed") from None
    finally:
        temporary.unlink(missing_ok=True)
    return kept


def _free_name(path: Path) -> Path:
    number = 1
    while (kept := path.with_name(f"{path.name}.damaged-{number}")).exists():
        number += 1
    return kept


def _judged(path: Path) -> Iterator[tuple[bytes, list[bytes], list[Flaw]]]:
    """Stream each line, the lines that replace it, and its faults."""
    seen, offset = _Seen(), 0
    try:
        with path.open("rb") as stream:
            for number, line in enumerate(stream, 1):
                yield line, *_judge(line, number, offset, seen)
                offset += len(line)
    except OSError as error:
        raise ImportRefused(str(path), 0, f"{error.strerror}; nothing was changed") from None


def _judge(line: bytes, number: int, offset: int, seen: _Seen) -> tuple[list[bytes], list[Flaw]]:
    if not line.strip():
        return [line], []
    found = decode(line)
    if found is None:
        parts = _parts(line)
        for part in parts:
            list(_links(decode(part) or {}, part, seen))
        return parts, [Flaw(number, offset, _kind(line, parts), mendable=True)]
    end = line if line.endswith(b"\n") else line + b"\n"
    flaws = [Flaw(number, offset, kind, mendable, text) for kind, mendable, text in _links(found, line, seen)]
    if end is not line:
        flaws.append(Flaw(number, offset, "half line", mendable=True, text="a complete record without a line feed"))
    return [] if any(flaw.kind == "duplicate" for flaw in flaws) else [end], flaws


def _parts(line: bytes) -> list[bytes]:
    """Return the complete objects in a line of concatenated ones, or after a fragment."""
    text = line.strip(b"\0\n\r ").decode("utf-8", "replace")
    found: list[bytes] = []
    place = 0
    for _ in range(_MOST_GLUED):
        place = text.find('{"', place)
        if place < 0:
            break
        try:
            value, end = json.JSONDecoder().raw_decode(text, place)
        except (ValueError, RecursionError):
            place += 1
            continue
        if isinstance(value, dict) and ("type" in value or "timestamp" in value):
            found.append(text[place:end].encode() + b"\n")
        place = end
    return found


def _kind(line: bytes, parts: list[bytes]) -> str:
    if b"\0" in line:
        return "NUL bytes"
    if parts:
        return "glued lines"
    return "half line" if line.lstrip().startswith(b"{") else "no JSON object"


def _links(found: dict[str, Any], line: bytes, seen: _Seen) -> Iterator[tuple[str, bool, str]]:
    """Stream duplicate ids, parents that no earlier line has, and results without an earlier call."""
    uuid, parent = found.get("uuid"), found.get("parentUuid")
    if isinstance(uuid, str):
        same = hash(line.rstrip(b"\r\n"))  # 8 bytes per line instead of the line: transcripts can be gigabytes
        if seen.lines.get(uuid) == same:
            yield "duplicate", True, f"line {uuid} again"
        elif uuid in seen.lines:
            yield "duplicate id", False, f"another line has the uuid {uuid}"
        seen.lines.setdefault(uuid, same)
    if isinstance(parent, str) and parent not in seen.lines:
        yield "dangling parent", False, f"no earlier line has the uuid {parent}"
    for kind, call in _calls(found):
        if kind == "call":
            seen.calls.add(call)
        elif call not in seen.calls:
            yield "orphan result", False, f"no earlier call has the id {call}"


def _calls(found: dict[str, Any]) -> Iterator[tuple[str, str]]:
    message, payload = found.get("message"), found.get("payload")
    content = message.get("content") if isinstance(message, dict) else None
    for block in content if isinstance(content, list) else []:
        if isinstance(block, dict) and block.get("type") == "tool_use" and isinstance(block.get("id"), str):
            yield "call", block["id"]
        if isinstance(block, dict) and block.get("type") == "tool_result" and isinstance(block.get("tool_use_id"), str):
            yield "result", block["tool_use_id"]
    if isinstance(payload, dict) and isinstance(payload.get("call_id"), str) and found.get("type") == "response_item":
        yield "result" if str(payload.get("type")).endswith("_output") else "call", payload["call_id"]
