"""Inspect and repair transcripts of other tools in place: incomplete lines, duplicates, unknown parents and calls."""

import json
import os
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, BinaryIO

from eventstore.errors import ImportRefused
from eventstore.importers import detect
from eventstore.importers.meaning import decode

_HEAD_BYTES = 1 << 20
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


def inspect(path: Path, form: str) -> Iterator[Flaw]:
    """Stream the faults of a transcript of a format, in order. Raises ImportRefused if it cannot be read, or no line is of it."""
    _check_format(path, form)
    return (flaw for _, _, flaws in _judged(path) for flaw in flaws)


def mend(path: Path, form: str) -> Path:
    """Repair a transcript: drop lines that are not JSON objects, split concatenated objects, drop exact duplicates.

    The original file is kept in the same folder; its new path is returned. Raises ImportRefused; then nothing was changed.
    """
    _check_format(path, form)
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
        raise _refused(path, error) from None
    finally:
        temporary.unlink(missing_ok=True)
    return kept


def _check_format(path: Path, form: str) -> None:
    """Raise ImportRefused for a file without a line of a format: to repair it would be to empty it."""
    try:
        with path.open("rb") as stream:
            head = stream.read(_HEAD_BYTES)
            found = detect.detect(head)
            if detect.has_lines(head, form) and found in (form, None):
                return
            if found is None and any(detect.is_line(line, form) for line in _again(stream)):
                return
    except OSError as error:
        raise _refused(path, error) from None
    agent = detect.agent_of(form)
    if not head:
        reason = "the file is empty"
    elif found is not None:
        reason = f"it is not a transcript of {agent}, but of {detect.agent_of(found)}: use --format {found}"
    else:
        reason = f"no line of it is of {agent}"
    raise ImportRefused(str(path), 0, f"{reason}; nothing was changed", "inspect")


def _refused(path: Path, error: OSError) -> ImportRefused:
    return ImportRefused(str(path), 0, f"{error.strerror}; nothing was changed", "inspect")


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
            for number, line in enumerate([] if _is_one_object(path, stream.read(_HEAD_BYTES)) else _again(stream), 1):
                yield line, *_judge(line, number, offset, seen)
                offset += len(line)
    except OSError as error:
        raise _refused(path, error) from None


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
    names = ("uuid", "parentUuid") if "uuid" in found or "parentId" not in found else ("id", "parentId")
    uuid, parent = found.get(names[0]), found.get(names[1])
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
    yield from _other_calls(found, message, content)
    if isinstance(payload, dict) and isinstance(payload.get("call_id"), str) and found.get("type") == "response_item":
        yield "result" if str(payload.get("type")).endswith("_output") else "call", payload["call_id"]


def _other_calls(found: dict[str, Any], message: Any, content: Any) -> Iterator[tuple[str, str]]:
    """Stream the calls and results in a line of pi, Qwen, Copilot or Gemini."""
    data, kind = found.get("data"), found.get("type")
    for block in content if isinstance(content, list) else []:
        if isinstance(block, dict) and block.get("type") == "toolCall" and isinstance(block.get("id"), str):
            yield "call", block["id"]
    if isinstance(message, dict):
        if message.get("role") == "toolResult" and isinstance(message.get("toolCallId"), str):
            yield "result", message["toolCallId"]
        for part in message["parts"] if isinstance(message.get("parts"), list) else []:
            for name, what in (("functionCall", "call"), ("functionResponse", "result")):
                one = part.get(name) if isinstance(part, dict) else None
                if isinstance(one, dict) and isinstance(one.get("id"), str):
                    yield what, one["id"]
    if isinstance(data, dict) and kind in ("assistant.message", "tool.execution_start", "tool.execution_complete"):
        requests = data.get("toolRequests")
        for one in requests if isinstance(requests, list) else []:
            if isinstance(one, dict) and isinstance(one.get("toolCallId"), str):
                yield "call", one["toolCallId"]
        if isinstance(data.get("toolCallId"), str):
            yield "result" if kind == "tool.execution_complete" else "call", data["toolCallId"]


def _is_one_object(path: Path, head: bytes) -> bool:
    """Return whether a file is one JSON object on many lines, as the older files of Gemini CLI are."""
    if decode(head.split(b"\n", 1)[0]) is not None or not head.lstrip().startswith(b"{"):
        return False
    return decode(head if len(head) < _HEAD_BYTES else path.read_bytes()) is not None


def _again(stream: BinaryIO) -> BinaryIO:
    stream.seek(0)
    return stream
