"""A tolerant decoder for the JSON of foreign files."""

import json
from typing import Any

import msgspec

_decode = msgspec.json.Decoder().decode


def decode(text: bytes) -> dict[str, Any] | None:
    """Decode one JSON object; None if the text is not one. Lone surrogates in it become `?`."""
    try:
        found = _decode(text)
    except (msgspec.DecodeError, UnicodeDecodeError, RecursionError):
        found = _decode_leniently(text)
    return found if isinstance(found, dict) else None


def _decode_leniently(text: bytes) -> Any:
    """Decode lone surrogates and integers of any size, which msgspec refuses but some tools write."""
    try:
        found = json.loads(text)
        return json.loads(json.dumps(found, ensure_ascii=False).encode("utf-8", "replace"))
    except (ValueError, RecursionError):
        return None
