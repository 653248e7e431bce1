"""CloudEvents 1.0 in JSON: one CloudEvent per event of a session, with its line as the data.

| attribute | value |
|---|---|
| `id` | `<session id>/<seq>`; unique together with `source` |
| `source` | `urn:eventstore:session:<session id>` |
| `type` | `org.eventstore.` and the event's tag, such as `org.eventstore.message.added` |
| `subject` | the session id |
| `time` | when it happened, RFC 3339 |
| `seq`, `hash` | extensions: the event's number, and the hash of the chain up to it |
| `data` | the line of the log, byte for byte |
"""

from collections.abc import Iterator, Sequence

import msgspec

from eventstore.exporters.records import Record, Source, records, sessions_of

MEDIA_TYPE = "application/cloudevents+json"
"""The media type of one line."""
BATCH_MEDIA_TYPE = "application/cloudevents-batch+json"
"""The media type of a batch."""

_PREFIX = "org.eventstore."


def export_cloudevents(source: Source, session_ids: str | Sequence[str], *, batch: bool = False) -> Iterator[bytes]:
    """Stream sessions as CloudEvents, one per line; with `batch` as one JSON array.

    Redacted and unknown events are included with the line they have. Raises SessionNotFound at the call, LogDamaged when the
    iteration reaches the damage.
    """
    sessions = sessions_of(source, session_ids)
    found = (
        _cloud_event(session_id, record)
        for log, session_id, version in sessions
        for record in records(log, session_id, 0, version)
    )
    return _batch(found) if batch else (one + b"\n" for one in found)


def _cloud_event(session_id: str, record: Record) -> bytes:
    event = record.event
    head = msgspec.json.encode(
        {
            "specversion": "1.0",
            "id": f"{session_id}/{event.seq}",
            "source": f"urn:eventstore:session:{session_id}",
            "type": _PREFIX + event.type,
            "subject": session_id,
            "time": event.time,
            "datacontenttype": "application/json",
            "seq": event.seq,
            "hash": event.hash,
        }
    )
    return b'%b,"data":%b}' % (head[:-1], record.line)


def _batch(found: Iterator[bytes]) -> Iterator[bytes]:
    before = b"[\n"
    for one in found:
        yield before + one
        before = b",\n"
    yield b"[]\n" if before == b"[\n" else b"\n]\n"
