"""CloudEvents 1.0 in JSON: each event of a session as one, with its line as the data.

| attribute | value |
|---|---|
| `id` | `<session id>/<seq>`; with `source` it names the event for ever |
| `source` | `urn:eventstore:session:<session id>` |
| `type` | `org.eventstore.` and the event's tag, such as `org.eventstore.message.added` |
| `subject` | the session id |
| `time` | when it happened, RFC 3339 |
| `seq`, `hash` | extensions: the event's number, and the hash that the chain has there |
| `data` | the line of the log, byte for byte |
"""

from collections.abc import Iterator, Sequence

import msgspec

from eventstore.exporters.records import Record, Source, records, sessions_of

MEDIA_TYPE = "application/cloudevents+json"
"""What a line is, sent on its own."""
BATCH_MEDIA_TYPE = "application/cloudevents-batch+json"
"""What a batch is."""

_PREFIX = "org.eventstore."


def export_cloudevents(source: Source, session_ids: str | Sequence[str], *, batch: bool = False) -> Iterator[bytes]:
    """Stream sessions as CloudEvents, one a line; with `batch` as one JSON array.

    Redacted and unknown events are told as they are. Raises SessionNotFound at the call, LogDamaged where the damage is reached.
    """
    sessions = sessions_of(source, session_ids)
    told = (
        _told(session_id, record)
        for log, session_id, version in sessions
        for record in records(log, session_id, 0, version)
    )
    return _batch(told) if batch else (one + b"\n" for one in told)


def _told(session_id: str, record: Record) -> bytes:
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


def _batch(told: Iterator[bytes]) -> Iterator[bytes]:
    before = b"[\n"
    for one in told:
        yield before + one
        before = b",\n"
    yield b"[]\n" if before == b"[\n" else b"\n]\n"
