"""Events that name a value which is stored with the log already, by size and SHA-256: checked before an append writes them.

Such an event is read from a log and appended again, or a program made it. Where the value is not there, the log would be damaged.
"""

import re
from collections.abc import Sequence
from hashlib import sha256

import msgspec

from eventstore.errors import EventNotEncodable
from eventstore.events import Event, MessageAdded, RecordPut
from eventstore.log.values import LogValues
from projections.calls import VALUE_OF
from projections.content import texts

_DIGEST = re.compile(r"[0-9a-f]{64}")
_NO_VALUE = (None, msgspec.UNSET)
_ABSENT = "names a value that is not stored with this session: append the value itself"


def check_none_is_named(events: Sequence[Event]) -> None:
    """Refuse events that name a stored value: their session does not exist yet, so nothing is stored with it.

    Raises EventNotEncodable.
    """
    for event in events:
        if isinstance(event, MessageAdded) and event.blobs is not None:
            raise EventNotEncodable(event.type, "$.blobs", _ABSENT)
        if type(event) in VALUE_OF:
            name, _, digest = VALUE_OF[type(event)]
            if getattr(event, digest) is not None and getattr(event, name) in _NO_VALUE:
                raise EventNotEncodable(event.type, f"$.{digest}", _ABSENT)


def check_named(log: LogValues, session_id: str, event: Event) -> None:
    """Check that the value which an event names is stored with the log, or with a parent; store it with the log itself.

    A parent can be deleted, and then a fork keeps only the values of the events that it inherits. Raises EventNotEncodable,
    SessionNotFound, AppendRefused.
    """
    name, size_field, digest_field = VALUE_OF[type(event)]
    size, digest = getattr(event, size_field), getattr(event, digest_field)
    if digest is None:
        raise EventNotEncodable(event.type, f"$.{size_field}", f"is set without {digest_field}")
    if getattr(event, name) not in _NO_VALUE:
        raise EventNotEncodable(event.type, f"$.{name}", f"is set, and so is {digest_field}: leave one of them out")
    text = _stored(log, session_id, event.type, f"$.{digest_field}", digest)
    if size != len(text):
        raise EventNotEncodable(event.type, f"$.{size_field}", "is not the size of the stored value")
    if not (isinstance(event, RecordPut) and event.base64):
        try:
            msgspec.json.decode(text)
        except (msgspec.DecodeError, RecursionError):
            raise EventNotEncodable(event.type, f"$.{digest_field}", "names a value that is not JSON") from None
    log.keep_value(session_id, text)


def check_files(log: LogValues, session_id: str, event: MessageAdded) -> None:
    """Check the `blobs` of a message as `check_named` does: each is at a text of `blocks`. Raises as that does."""
    places = {path for path, _ in texts(event.blocks or [])}
    if not isinstance(event.blobs, list):
        raise EventNotEncodable(event.type, "$.blobs", "is not a list")
    for number, blob in enumerate(event.blobs):
        path = f"$.blobs[{number}]"
        if not isinstance(blob, dict):
            raise EventNotEncodable(event.type, path, "is not an object")
        text = _stored(log, session_id, event.type, f"{path}.value_sha256", blob.get("value_sha256"))
        if blob.get("value_bytes") != len(text):
            raise EventNotEncodable(event.type, f"{path}.value_bytes", "is not the size of the stored value")
        if not isinstance(blob.get("prefix"), str):
            raise EventNotEncodable(event.type, f"{path}.prefix", "is not text")
        place = blob.get("at")
        if not isinstance(place, list | tuple) or tuple(place) not in places:
            raise EventNotEncodable(event.type, f"{path}.at", "is not the path of a text in blocks")
        log.keep_value(session_id, text)


def check_saved(log: LogValues, session_id: str, events: Sequence[Event], *, is_new: bool) -> None:
    """Check the files of messages that are saved with a session: they may be those of another one. Raises as `check_named`."""
    if is_new:
        check_none_is_named(events)
        return
    for event in events:
        if isinstance(event, MessageAdded) and event.blobs is not None:
            check_files(log, session_id, event)


def _stored(log: LogValues, session_id: str, event_type: str, path: str, digest: object) -> bytes:
    """Return a stored value. Raises EventNotEncodable if the log does not have it, SessionNotFound."""
    if not isinstance(digest, str) or not _DIGEST.fullmatch(digest):
        raise EventNotEncodable(event_type, path, "is not a SHA-256 of 64 hex digits in lower case")
    try:
        text = log.read_value(session_id, digest)
    except FileNotFoundError:
        text = b""
    if sha256(text).hexdigest() != digest:
        raise EventNotEncodable(event_type, path, _ABSENT)
    return text
