"""Tool calls of Codex: names, outputs in their shapes, and what events report of a call besides its output."""

import re
from typing import Any, NamedTuple

from eventstore.importers.meaning import COMPLETED, Ending, decode, first_line, text_of

_NAMES = {
    "local_shell_call": "local_shell",
    "web_search_call": "web_search",
    "tool_search_call": "tool_search",
    "image_generation_call": "image_generation",
}
_EXIT_CODE = re.compile(r"(?:Exit code:|exited with code) (-?\d+)")
_WALL_TIME = re.compile(r"Wall time: ([0-9.]+) seconds")
_OUTPUT = re.compile(r"^Output:", re.MULTILINE)
_FAILED = re.compile(
    r"\s*(Script failed|apply_patch verification failed|Failed to apply patch|execution error|failed to parse function)",
    re.IGNORECASE,
)
_HEADER = 2_000  # characters in which the header of an output without an `Output:` line is looked for


class Output(NamedTuple):
    """The output of a call: its text, and its success and duration in milliseconds if it has them."""

    text: str
    success: bool | None
    duration_ms: float | None


class Reported(NamedTuple):
    """What an event reports of a call."""

    success: bool | None
    duration_ms: float | None
    error: str | None


def name_of(item: dict[str, Any]) -> Any:
    """Return the name of the called tool, with the server that has it: two servers may have tools of one name."""
    name, namespace = item.get("name") or _NAMES.get(item.get("type", ""), "tool"), item.get("namespace")
    if not isinstance(namespace, str) or not namespace or not isinstance(name, str) or name.startswith(namespace):
        return name
    return f"{namespace}{name}" if namespace.endswith(("__", ".", "/")) else f"{namespace}__{name}"


def json_or_text(value: Any) -> Any:
    """Return the object that a text holds as JSON, else the value."""
    if not isinstance(value, str):
        return value
    found = decode(value.encode("utf-8", "replace"))
    return value if found is None else found


def part_text(part: Any) -> str:
    """Return a part of a message or output as text. One that is not as it should be is shown as JSON."""
    if not isinstance(part, dict):
        return text_of(part)
    text = part.get("text")
    if isinstance(text, str):
        return text
    kind = part.get("type")
    return f"[{kind.removeprefix('input_')}]" if isinstance(kind, str) else text_of(part)


def read_output(output: Any) -> Output:
    """Read an output: a text with a header, JSON with an exit code, or a list of parts."""
    if isinstance(output, list):
        read = [_read_text(one["text"]) for one in output if isinstance(one, dict) and isinstance(one.get("text"), str)]
        success = next((one.success for one in read if one.success is not None), None)
        duration = next((one.duration_ms for one in read if one.duration_ms is not None), None)
        return Output("\n".join(map(part_text, output)), success, duration)
    if isinstance(output, str):
        return _read_text(output)
    return _read_object(output) if isinstance(output, dict) else Output(text_of(output), None, None)


def _read_text(text: str) -> Output:
    found = decode(text.encode("utf-8", "replace")) if text.lstrip().startswith("{") else None
    if found is not None:
        return _read_object(found, text)
    end = _OUTPUT.search(text)
    header = text[: end.start()] if end else text[:_HEADER]
    code, wall = _EXIT_CODE.search(header) if end else _EXIT_CODE.match(header), _WALL_TIME.search(header)
    success = None if code is None else code[1] == "0"
    if success is None and _FAILED.match(text):
        success = False
    try:
        duration = round(float(wall[1]) * 1000, 3) if wall and end else None
    except ValueError:
        duration = None
    return Output(text, success, duration)


def _read_object(found: dict[str, Any], whole: str | None = None) -> Output:
    texts = (found[name] for name in ("output", "content") if isinstance(found.get(name), str))
    text = next(texts, text_of(found) if whole is None else whole)
    metadata = found.get("metadata")
    metadata = metadata if isinstance(metadata, dict) else found
    exit_code, seconds = metadata.get("exit_code"), metadata.get("duration_seconds")
    success = found.get("success") if exit_code is None else exit_code == 0
    if found.get("isError") is True or found.get("is_error") is True:
        success = False
    duration = round(seconds * 1000.0, 3) if isinstance(seconds, int | float) and 0 <= seconds < 1e9 else None
    return Output(text, success if isinstance(success, bool) else None, duration)


def reported_of(payload: dict[str, Any]) -> Reported | None:
    """Return what an event reports of a call, None if it is about none."""
    kind = payload.get("type")
    if not isinstance(payload.get("call_id"), str) or not isinstance(kind, str) or not kind.endswith("_end"):
        return None
    success, error = payload.get("success"), payload.get("stderr") if kind == "patch_apply_end" else None
    code = payload.get("exit_code")
    if isinstance(code, int):
        success = code == 0
    result = payload.get("result")
    if isinstance(result, dict):
        answer = result.get("Ok", result)
        if isinstance(answer, dict) and isinstance(answer.get("isError", answer.get("is_error")), bool):
            success = not answer.get("isError", answer.get("is_error"))
        if "Err" in result:
            success, error = False, text_of(result["Err"])
    shown = first_line(error, 500) if isinstance(error, str) and error.strip() else None
    return Reported(success if isinstance(success, bool) else None, _milliseconds(payload.get("duration")), shown)


def _milliseconds(duration: Any) -> float | None:
    if not isinstance(duration, dict):
        return None
    seconds, nanos = duration.get("secs", 0), duration.get("nanos", 0)
    if not isinstance(seconds, int) or not isinstance(nanos, int) or not 0 <= seconds < 10**9:
        return None
    return round(seconds * 1000 + nanos / 1e6, 3)


def ending_of(payload: dict[str, Any], before: Ending) -> Ending:
    """Return how the session ended, if this event is the last one that records it."""
    kind = payload.get("type")
    if kind in ("turn_aborted", "task_aborted"):
        return Ending(
            "abandoned", f"turn aborted: {payload.get('reason')}" if payload.get("reason") else "turn aborted"
        )
    if kind in ("error", "stream_error"):
        return Ending("failed", first_line(text_of(payload.get("message") or "error"), 200))
    if kind in ("task_started", "turn_started"):
        return Ending("active", "")
    if kind in ("task_complete", "turn_complete") and before.status == "active":
        return COMPLETED
    return before
