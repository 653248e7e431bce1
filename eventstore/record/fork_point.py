"""Fork points: where a log continues another one, as its first own line records it."""

from typing import Any, Literal, NamedTuple

import msgspec


class ForkPoint(NamedTuple):
    """Where a log continues another one: after event `seq` of the log `parent`, whose digest there is `digest`.

    `root` is the log whose chain it is, the first one of the line of forks; `into` is the fork.
    """

    parent: str
    seq: int
    digest: bytes
    root: str
    into: str

    def to_dict(self) -> dict[str, Any]:
        """Return the fields as `session.created` has them."""
        return {
            "session_id": self.parent,
            "seq": self.seq,
            "hash": self.digest.hex(),
            "root": self.root,
            "into": self.into,
        }


class _Forking(msgspec.Struct, frozen=True):
    """The part of `session.created` that records a fork."""

    session_id: str
    seq: int
    hash: str
    root: str
    into: str


class _ForkLine(msgspec.Struct, frozen=True):
    type: Literal["session.created"]
    seq: int
    forked_from: _Forking


_fork_decoder = msgspec.json.Decoder(_ForkLine)


def read_fork_point(line: bytes) -> ForkPoint | None:
    """Read a fork point from the line that records it; None for any other line."""
    try:
        found = _fork_decoder.decode(line)
        told = found.forked_from
        digest = bytes.fromhex(told.hash)
    except (msgspec.DecodeError, ValueError, RecursionError):
        return None
    if len(digest) != 32 or found.seq != told.seq + 1:
        return None
    return ForkPoint(told.session_id, told.seq, digest, told.root, told.into)
