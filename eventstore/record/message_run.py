"""Runs of messages, not decoded: folds that only count messages need not decode each."""

import re
from collections.abc import Iterable
from typing import Any

import msgspec

from eventstore.custom_events import ReadEvent
from eventstore.events import Role
from eventstore.record import codec, hash_chain


class Message(msgspec.Struct, frozen=True, gc=False):
    """One message of a conversation: the fields of `message.added` for time, role and content."""

    seq: int
    at: str
    role: Role
    content: str
    occurred_at: str | None = None
    tool_name: str | None = None
    invocation_id: str | None = None
    blocks: list[Any] | None = None
    blobs: list[Any] | None = None

    @property
    def time(self) -> str:
        """The time of the message, RFC 3339."""
        return self.occurred_at or self.at


class MessageRun(msgspec.Struct, frozen=True, gc=False):
    """Consecutive messages, numbered `first` to `last`, recorded from `since` to `until`, without another time of their own.

    `lines` are their lines, for callers that need the content.
    """

    first: int
    last: int
    since: str
    until: str
    lines: bytes

    def read(self) -> list[Message]:
        """Decode the messages."""
        return _message_decoder.decode_lines(self.lines)


_message_decoder = msgspec.json.Decoder(Message)
_PLAIN_MESSAGE = (
    rb'\{"type":"message\.added","seq":[0-9]+,"at":".{27}","(?:b|ro)'  # next is `batch`, or `role`: no other head
)
_MESSAGE, _NO_MESSAGE = re.compile(_PLAIN_MESSAGE), re.compile(rb"\n(?!%b)" % _PLAIN_MESSAGE)
_WORTH_SKIMMING = 4096  # bytes of consecutive messages: fewer are decoded faster than separated


def read_runs(chunk: bytes) -> Iterable[ReadEvent | MessageRun]:
    """Decode a chunk of complete, verified lines, in order, but leave long runs of messages undecoded."""
    end = len(chunk)
    found: list[ReadEvent | MessageRun] = []
    done, row = 0, 0 if _MESSAGE.match(chunk) else chunk.find(b"\n") + 1
    for other in (*(line.start() + 1 for line in _NO_MESSAGE.finditer(chunk, 0, end - 1)), end):
        if other - row >= _WORTH_SKIMMING:
            found += codec.decode_lines(chunk[done:row], packed=True)
            found.append(_in_a_row(chunk[row:other]))
            done = other
        row = chunk.find(b"\n", other) + 1
    found += codec.decode_lines(chunk[done:], packed=True)
    return found


def _in_a_row(chunk: bytes) -> MessageRun:
    began, ended = hash_chain.LINE_START.match(chunk), hash_chain.LINE_START.match(chunk, chunk.rfind(b"\n", 0, -1) + 1)
    assert began is not None and ended is not None  # noqa: S101, PT018 - both were matched as messages before
    return MessageRun(int(began[1]), int(ended[1]), began[2].decode("ascii"), ended[2].decode("ascii"), chunk)
