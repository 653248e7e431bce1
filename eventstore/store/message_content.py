"""Images and files of messages: their bytes are stored as attachments of the log, once, by their hash."""

from binascii import Error, a2b_base64, b2a_base64
from collections.abc import Iterator
from typing import Any

from msgspec.structs import replace

from eventstore.events import Event, MessageAdded
from eventstore.log.values import LogValues
from eventstore.record.fields import check_value
from eventstore.record.message_run import Message
from projections.content import texts, with_data

LEAST_CHARACTERS = 4096
"""Shorter base64 stays in the event: a file of its own would take more room."""
_MOST_PREFIX = 200
_MARK = ";base64,"


def keep_files(log: LogValues, session_id: str, event: Event) -> Event:
    """Return a message whose base64 texts of 4,096 characters and more are values of the log, by their hash.

    Raises EventNotEncodable, SessionNotFound, AppendRefused.
    """
    if not isinstance(event, MessageAdded) or event.blocks is None or event.blobs is not None:
        return event
    check_value(event.blocks, event.type, "$.blocks", 1)
    blobs = [
        {
            "at": list(path),
            "prefix": prefix,
            "value_bytes": len(data),
            "value_sha256": log.keep_value(session_id, data),
        }
        for path, prefix, data in _files(event.blocks)
    ]
    if not blobs:
        return event
    shorter = with_data(event.blocks, ((blob["at"], "") for blob in blobs))  # type: ignore[misc]
    return replace(event, blocks=shorter, blobs=blobs)


def has_files(event: Event) -> bool:
    """Return whether a message has files that are stored as attachments of the log."""
    return isinstance(event, MessageAdded) and event.blocks is not None and any(_files(event.blocks))


def with_files(log: LogValues, session_id: str, message: Message) -> Message:
    """Return a message with its blocks as given. Raises LogDamaged if a file is missing or different."""
    if message.blocks is None or not message.blobs:
        return message

    def data() -> Iterator[tuple[list[str | int], str]]:
        for blob in message.blobs or ():
            found = log.verified_value(session_id, message.seq, blob["value_sha256"])
            yield blob["at"], blob["prefix"] + b2a_base64(found, newline=False).decode("ascii")

    return replace_blocks(message, with_data(message.blocks, data()))


def replace_blocks(message: Message, blocks: list[Any]) -> Message:
    """Return a message with other blocks, none of them stored elsewhere."""
    return replace(message, blocks=blocks, blobs=None)


def _files(blocks: list[Any]) -> Iterator[tuple[tuple[str | int, ...], str, bytes]]:
    """Stream (path, prefix, bytes) of each text that is base64, or a data URL with base64, and gives the same text again."""
    for path, text in texts(blocks):
        if len(text) < LEAST_CHARACTERS:
            continue
        prefix = ""
        if text.startswith("data:"):
            head, mark, _ = text[:_MOST_PREFIX].partition(_MARK)
            if not mark:
                continue
            prefix = head + mark
        coded = text[len(prefix) :]
        try:
            data = a2b_base64(coded)
        except (Error, ValueError):
            continue
        if b2a_base64(data, newline=False).decode("ascii") == coded:
            yield path, prefix, data
