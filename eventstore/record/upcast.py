"""Upcasting: events that earlier releases wrote with another meaning are read with the present one.

Until 0.1, an imported Codex rollout had its tokens as Codex counts them: `input` included cached tokens, `output`
included reasoning tokens, and each report was one event, also if it repeated the report before. Such an event has no
key.
"""

from typing import TypeVar

import msgspec

from eventstore.events import Event, UsageRecorded

E = TypeVar("E", bound=Event)

MARK = b'"origin":{"format":"codex"'
_COUNTS = "input_tokens", "cached_input_tokens", "output_tokens", "reasoning_output_tokens"


class _Info(msgspec.Struct):
    total_token_usage: dict[str, object] | None = None


class _Payload(msgspec.Struct):
    info: _Info | None = None


class _Line(msgspec.Struct):
    payload: _Payload | None = None


_decode = msgspec.json.Decoder(_Line).decode


def upcast(event: E) -> E:
    """Return an event in its present form. Reports of the same total get the same key, so that they count once."""
    if not is_old(event):
        return event
    assert isinstance(event, UsageRecorded) and event.origin is not None  # noqa: S101, PT018 - as `is_old` says
    key = _key_of(event.origin.line)
    return msgspec.structs.replace(event, tokens=disjoint(event.tokens), key=key)


def is_old(event: Event) -> bool:
    """Return whether an event has its earlier meaning."""
    is_keyless = isinstance(event, UsageRecorded) and event.key is None
    return is_keyless and event.origin is not None and event.origin.format == "codex"


def disjoint(tokens: dict[str, int]) -> dict[str, int]:
    """Subtract the cached tokens from `input` and the reasoning tokens from `output`, so that the sum counts each once."""
    found = dict(tokens)
    for whole, part in (("input", "cache_read"), ("output", "reasoning")):
        if whole in found:
            found[whole] = max(found[whole] - found.get(part, 0), 0)
    return found


def _key_of(line: str | None) -> str | None:
    try:
        found = _decode(line or "")
    except (msgspec.DecodeError, RecursionError):
        return None
    total = found.payload and found.payload.info and found.payload.info.total_token_usage
    return ":".join(["total", *(str(total.get(name)) for name in _COUNTS)]) if total else None
