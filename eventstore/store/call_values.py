"""Events before an append: secrets are replaced; large values of calls and records, and files, become attachments of the log."""

from binascii import a2b_base64, b2a_base64
from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

import msgspec
from msgspec import UNSET
from msgspec.structs import replace

from eventstore.events import Event, InvocationEvent, MessageAdded, RecordPut
from eventstore.log.values import LogValues
from eventstore.record.fields import check_value
from eventstore.store.message_content import has_files, keep_files
from projections.calls import INLINE_BYTES, VALUE_OF

if TYPE_CHECKING:  # where secrets stay, nothing needs them
    from eventstore.secret_patterns import Patterns


def made_ready(log: LogValues, session_id: str, events: Sequence[Event], secrets: "Patterns | None") -> list[Event]:
    """Return events ready for a log: files of messages and large values become attachments of the log, secrets are replaced.

    Raises as `keep_files` and `set_aside` do, and EventNotEncodable for an event that names a value which is not stored.
    """
    ready: list[Event] = []
    for event in events:
        made = event
        # First of all: the bytes of an image are no text with secrets.
        if isinstance(made, MessageAdded):
            if made.blobs is not None:
                from eventstore.store.stored_values import check_files  # few events name a stored value

                check_files(log, session_id, made)
            elif made.blocks is not None:
                made = keep_files(log, session_id, made)
        if secrets is not None:
            made = secrets.clean(made)
        fields = VALUE_OF.get(type(made))
        if fields is not None:
            given = made
            made = set_aside(log, session_id, made)
            if given is made and (getattr(made, fields[1]) is not None or getattr(made, fields[2]) is not None):
                from eventstore.store.stored_values import check_named

                check_named(log, session_id, made)
        ready.append(made)
    return ready


def is_ready(events: Sequence[Event]) -> bool:
    """Return whether `made_ready` only replaces secrets in events: none of them has files, or values that may be large."""
    for event in events:
        if type(event) in VALUE_OF:
            return False
        if isinstance(event, MessageAdded) and (event.blobs is not None or event.blocks is not None):
            return False
    return True


def set_aside(log: LogValues, session_id: str, event: Event) -> Event:
    """Return an event whose values fit into a line: one over 256 KiB is kept with the log, and the event has size and hash.

    If the event is refused afterwards, the stored value stays; it does no harm, because no event names it. Raises
    EventNotEncodable with the path of a value that JSON cannot hold, SessionNotFound, AppendRefused.
    """
    if type(event) not in VALUE_OF:
        return event
    if isinstance(event, RecordPut):
        return _set_aside_value(log, session_id, event)
    fields: dict[str, Any] = {}
    for name in ("input", "result"):
        value = getattr(event, name, UNSET)
        if value is UNSET:
            continue
        check_value(value, event.type, f"$.{name}", 1)
        text = msgspec.json.encode(value)
        if len(text) > INLINE_BYTES:
            fields |= {name: UNSET, f"{name}_bytes": len(text), f"{name}_sha256": log.keep_value(session_id, text)}
    return replace(event, **fields) if fields else event


def _set_aside_value(log: LogValues, session_id: str, event: RecordPut) -> RecordPut:
    """Return a record whose value fits into a line. Bytes are stored unchanged, and as base64 in a line."""
    if event.value_sha256 is not None:
        return event
    if event.base64:
        text = a2b_base64(event.value)
    else:
        check_value(event.value, event.type, "$.value", 1)
        text = msgspec.json.encode(event.value)
    if len(text) <= INLINE_BYTES:
        return event
    return replace(event, value=None, value_bytes=len(text), value_sha256=log.keep_value(session_id, text))


def with_text(event: RecordPut) -> RecordPut:
    """Return a record whose value, if it is bytes, is text in the form of a line."""
    if not isinstance(event.value, bytes | bytearray | memoryview):
        return event
    return replace(event, value=b2a_base64(event.value, newline=False).decode("ascii"), base64=True)


def is_large(event: Event) -> bool:
    """Return whether a value of an event is too large for a line."""
    if has_files(event):
        return True
    if isinstance(event, RecordPut) and event.base64:
        return len(event.value or "") > INLINE_BYTES
    values = [getattr(event, name, None) for name in ("value", "input", "result")]
    if not isinstance(event, RecordPut | InvocationEvent) or not any(
        isinstance(one, str | list | dict) for one in values
    ):
        return False
    try:
        return any(len(msgspec.json.encode(one)) > INLINE_BYTES for one in values if one is not UNSET)
    except (TypeError, ValueError, RecursionError, OverflowError):
        return False  # it cannot be stored at all
