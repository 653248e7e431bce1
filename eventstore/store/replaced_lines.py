"""What follows redacted events in a log: the rest of each, and its imported line without the secrets."""

from eventstore.events import Event, ForeignRecorded

NAME = "redacted."
"""Ids of events that keep the rest of redacted ones begin so; the number of the redacted event follows."""
_MARK, _HEAD_BYTES = NAME.encode(), 400


def may_be_kept(line: bytes) -> bool:
    """Return False for most lines of events of which `is_kept` is False, without decoding them."""
    return _MARK in line[:_HEAD_BYTES]


def is_kept(event: Event) -> bool:
    """Return whether a redaction appended the event, to keep something."""
    return event.id is not None and event.id.startswith(NAME)


def kept_event_of(event: Event) -> int | None:
    """Return the number of the redacted event whose rest an event is, None for any other event."""
    return kept_event_of_id(event.id)


def kept_event_of_id(name: str | None) -> int | None:
    """Return the number of the redacted event that the id of an event names, if it is the id of the rest of one."""
    number, dot, _ = (name or "").removeprefix(NAME).partition(".")
    is_rest = (name or "").startswith(NAME) and dot and number.isdecimal() and number.isascii()
    return int(number) if is_rest else None


def target_of(event: Event) -> int | None:
    """Return the number of the redacted event whose imported line an event has, None for any other event."""
    is_line = isinstance(event, ForeignRecorded) and event.origin is not None
    return target_of_id(event.id) if is_line else None


def target_of_id(name: str | None) -> int | None:
    """Return the number of the redacted event that the id of an event names, if it is the id of such a line."""
    number = (name or "").removeprefix(NAME)
    return int(number) if number != name and number.isdecimal() and number.isascii() else None
