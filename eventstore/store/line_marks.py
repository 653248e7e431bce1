"""Marks of imported lines: the parts that all copies of a line share, and that reveal nothing of its content.

The registry keeps the marks of redacted lines, so that no import of another copy brings the text back. A mark is a hash of the id
and the time that an agent gave the line. Lines without an id are marked by their place: behind the line with the last id, or
in a Codex rollout behind its first line, for each session that the file names as its own or as the one that it goes on from.
"""

from collections.abc import Callable, Collection, Iterable, Iterator
from hashlib import sha256
from typing import Any

import msgspec

from eventstore.events import ForeignRecorded, RedactedEvent
from eventstore.record import codec
from eventstore.store.foreign_json import decode
from eventstore.store.replaced_lines import target_of

_PART_BYTES = 1 << 20  # a shorter piece of a file is no part of a longer line
_encode = msgspec.json.Encoder(order="sorted").encode
_IDS = "uuid", "id"
_OTHER_IDS = "leafUuid", "messageId", "sessionId"
_NAMES = "id", "forked_from_id", "parent_thread_id"
_NOT_SAID = "foreign.recorded", "session.updated", "usage.recorded", "session.created"


class LineMarks:
    """Reads the lines of one file in order, and marks each."""

    def __init__(self) -> None:
        self._family: set[str] = set()
        self._anchor = ""
        self._count = self._said = 0

    def read(self, line: dict[str, Any] | None) -> list[str]:
        """Return the marks of the next line; None is a line that cannot be decoded."""
        line = line or {}
        payload = line.get("payload")
        payload = payload if isinstance(payload, dict) else None
        if payload is not None and line.get("type") == "session_meta":
            self._begin(payload)
            return []
        name = next((one for key in _IDS if isinstance(one := line.get(key), str) and one), None)
        if name is not None and payload is None:
            self._anchor, self._count, self._said = name, 0, 0
            return [_mark("id", name, line.get("type"), line.get("timestamp"))]
        return list(self._places(line, payload))

    def skip(self, *, said: bool) -> None:
        """Skip a removed line. `said`: it was one of the conversation."""
        self._count += 1
        self._said += said

    def _begin(self, payload: dict[str, Any]) -> None:
        self._family |= {one for key in _NAMES if isinstance(one := payload.get(key), str)}
        self._count = self._said = 0

    def _places(self, line: dict[str, Any], payload: dict[str, Any] | None) -> Iterator[str]:
        """Yield the marks of a place: counted in all lines, and in those of the conversation, which copies keep more often."""
        own = line if payload is None else payload
        shape = line.get("type"), own.get("type"), own.get("role"), len(_encode(own))
        is_said = line.get("type") in ("response_item", "message", None)
        self.skip(said=is_said)
        names = {self._anchor or next((one for key in _OTHER_IDS if (one := line.get(key))), "")}
        for name in self._family or names - {""}:
            yield _mark("line", name, self._count, *shape)
            if is_said and self._family:
                yield _mark("said", name, self._said, *shape)


def _mark(*parts: Any) -> str:
    return sha256(_encode(parts)).hexdigest()[:32]


def marks_of(read: Callable[[], Iterable[bytes]], wanted: Collection[int]) -> tuple[str, ...]:
    """Return the marks of the imported lines that the `wanted` events of a log have, by their numbers.

    `read` returns all lines of the log, from its first on.
    """
    told = codec.read_redactions(read())
    gone = {one.target: one.target_type for one in told if one.target_origin_bytes is not None}
    reader, found = LineMarks(), dict[str, None]()
    text, is_wanted = b"", False
    for event in map(codec.decode, read()):
        if isinstance(event, RedactedEvent) and event.seq in gone:
            reader.skip(said=gone[event.seq] not in _NOT_SAID)
        elif isinstance(event, ForeignRecorded) and event.withheld_bytes:
            reader.skip(said=True)
        elif event.origin is not None and target_of(event) is None:
            piece = event.origin.line.encode() if event.origin.line is not None else b""
            text, is_wanted = text + piece, is_wanted or event.seq in wanted
            if piece.endswith(b"\n") or len(piece) < _PART_BYTES:
                marks = reader.read(decode(text))
                found |= dict.fromkeys(marks if is_wanted else ())
                text, is_wanted = b"", False
    return tuple(found)
