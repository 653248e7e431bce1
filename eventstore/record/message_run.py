"""Runs of messages, left undecoded: folds that only count them need not look into each."""

import re
from collections.abc import Iterable

import msgspec

from eventstore.events import AnyEvent, Role, UnknownEvent
from eventstore.record import codec, hash_chain


class Message(msgspec.Struct, frozen=True, gc=False):
    """What a conversation holds of one message: the fields of `message.added` that say when, who and what."""

    seq: int
    at: str
    role: Role
    content: str
    occurred_at: str | None = None
    tool_name: str | None = None
    invocation_id: str | None = None

    @property
    def time(self) -> str:
        """When it was said, RFC 3339."""
        return self.occurred_at or self.at


class MessageRun(msgspec.Struct, frozen=True, gc=False):
    """MessageRun in a row, numbered `first` to `last`, recorded from `since` to `until` and said when they were recorded.

    `lines` are theirs, to be read by those who want to know what was said.
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
_WORTH_SKIMMING = 4096  # bytes of messages in a row: fewer are decoded faster than told apart


def read_runs(chunk: bytes) -> Iterable[AnyEvent | UnknownEvent | MessageRun]:
    """Decode a chunk of whole verified lines, in order, but leave long rows of messages undecoded."""
    end = len(chunk)
    found: list[AnyEvent | UnknownEvent | MessageRun] = []
    done, row = 0, 0 if _MESSAGE.match(chunk) else chunk.find(b"\n") + 1
    for other in (*(line.start() + 1 for line in _NO_MESSAGE.finditer(chunk, 0, end - 1)), end):
        if other - row >= _WORTH_SKIMMING:
            found += codec.decode_lines(chunk[done:row])
            found.append(_in_a_row(chunk[row:other]))
            done = other
        row = chunk.find(b"\n", other) + 1
    found += codec.decode_lines(chunk[done:])
    return found


def _in_a_row(chunk: bytes) -> MessageRun:
    began, ended = hash_chain.LINE_START.match(chunk), hash_chain.LINE_START.match(chunk, chunk.rfind(b"\n", 0, -1) + 1)
    assert began is not None and ended is not None  # noqa: S101, PT018 - both were matched as messages before
    return MessageRun(int(began[1]), int(ended[1]), began[2].decode("ascii"), ended[2].decode("ascii"), chunk)
