"""Content blocks of messages: images, files and other parts, in the formats of OpenAI and Anthropic.

A message keeps its blocks as given. In their own format they are returned unchanged. In the other format, each block
with a counterpart is converted, and any other becomes a text that names it. Calls and results (`tool_use`, `tool_result`)
are parts of messages in one format and messages in the other: `turns.py` converts them.
"""

from collections.abc import Iterator, Mapping, Sequence
from typing import Any

_OPENAI = frozenset(["image_url", "input_audio", "file", "refusal"])
_ANTHROPIC = frozenset(["image", "document", "search_result", "thinking", "redacted_thinking", "container_upload"])
_TYPE = "type"


def text_of(blocks: Sequence[Any]) -> str:
    """Return the text of blocks: that of text blocks, and `[image]`, `[file report.pdf]` and so on for others."""
    return "\n".join(_text_of(block) for block in blocks)


def to_openai(blocks: Sequence[Any]) -> list[Any]:
    """Return blocks as content parts of OpenAI's chat completions."""
    return [_to_openai(block) if _kind(block) in _ANTHROPIC else block for block in blocks]


def to_anthropic(blocks: Sequence[Any]) -> list[Any]:
    """Return blocks as content blocks of Anthropic's messages."""
    return [_to_anthropic(block) if _kind(block) in _OPENAI else block for block in blocks]


def tool_use_of(block: Any) -> str | None:
    """Return the id of a `tool_use` block of Anthropic's, None for any other block."""
    found = block.get("id") if _kind(block) == "tool_use" else None
    return found if isinstance(found, str) else None


def result_of(block: Any) -> str | None:
    """Return the id of the call whose `tool_result` block this is, None for any other block."""
    found = block.get("tool_use_id") if _kind(block) == "tool_result" else None
    return found if isinstance(found, str) else None


def with_data(blocks: Sequence[Any], data: Iterator[tuple[Sequence[str | int], str]]) -> list[Any]:
    """Return a copy of blocks with texts inserted at their paths."""
    found: Any = _copy(list(blocks))
    for path, text in data:
        place = found
        for step in path[:-1]:
            place = place[step]
        place[path[-1]] = text
    return found  # type: ignore[no-any-return]


def texts(value: Any, path: tuple[str | int, ...] = ()) -> Iterator[tuple[tuple[str | int, ...], str]]:
    """Stream every text in blocks with its path, keys left out."""
    if isinstance(value, str):
        yield path, value
    elif isinstance(value, Mapping):
        for key, item in value.items():
            yield from texts(item, (*path, key))
    elif isinstance(value, list | tuple):
        for place, item in enumerate(value):
            yield from texts(item, (*path, place))


def _copy(value: Any) -> Any:
    if isinstance(value, Mapping):
        return {key: _copy(item) for key, item in value.items()}
    if isinstance(value, list | tuple):
        return [_copy(item) for item in value]
    return value


def _kind(block: Any) -> str:
    found = block.get(_TYPE) if isinstance(block, Mapping) else None
    return found if isinstance(found, str) else ""


def _inner(block: Mapping[str, Any], name: str) -> Mapping[str, Any]:
    found = block.get(name)
    return found if isinstance(found, Mapping) else {}


def _text_of(block: Any) -> str:
    if isinstance(block, str):
        return block
    kind = _kind(block)
    if not isinstance(block, Mapping):
        return "[block]"
    for name in ("text", "refusal", "thinking"):
        if isinstance(block.get(name), str):
            return str(block[name])
    named = _inner(block, "file").get("filename") or block.get("title") or block.get("filename")
    what = {"image_url": "image", "input_image": "image", "input_audio": "audio", "input_file": "file"}.get(
        kind, kind or "block"
    )
    return f"[{what} {named}]" if isinstance(named, str) and named else f"[{what}]"


def _to_openai(block: Mapping[str, Any]) -> dict[str, Any]:
    source = _inner(block, "source")
    url, media, data = source.get("url"), source.get("media_type"), source.get("data")
    if _kind(block) == "image" and isinstance(url, str):
        return {"type": "image_url", "image_url": {"url": url}}
    if source.get("type") == "base64" and isinstance(media, str) and isinstance(data, str):
        inline = f"data:{media};base64,{data}"
        if _kind(block) == "image":
            return {"type": "image_url", "image_url": {"url": inline}}
        return {"type": "file", "file": {"filename": block.get("title") or "document", "file_data": inline}}
    if source.get("type") == "text" and isinstance(data, str):
        return {"type": "text", "text": data}
    return {"type": "text", "text": _text_of(block)}


def _to_anthropic(block: Mapping[str, Any]) -> dict[str, Any]:
    kind = _kind(block)
    if kind == "image_url":
        url = _inner(block, "image_url").get("url")
        if isinstance(url, str):
            return {"type": "image", "source": _source(url) or {"type": "url", "url": url}}
    if kind == "file":
        file = _inner(block, "file")
        source = _source(file.get("file_data"))
        if source is not None:
            title = file.get("filename")
            return {"type": "document", "source": source, **({"title": title} if isinstance(title, str) else {})}
    return {"type": "text", "text": _text_of(block)}


def _source(url: Any) -> dict[str, Any] | None:
    """Return a data URL as a source of Anthropic's; None for any other."""
    if not isinstance(url, str) or not url.startswith("data:"):
        return None
    head, comma, data = url.partition(",")
    media, _, coding = head.removeprefix("data:").partition(";")
    return {"type": "base64", "media_type": media, "data": data} if comma and coding == "base64" else None
