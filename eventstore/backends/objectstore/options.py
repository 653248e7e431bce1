"""The sizes and times of an object store. All may be changed at any time: stored objects record their own sizes."""

from dataclasses import dataclass


@dataclass(frozen=True)
class ObjectOptions:
    """How logs are stored, and how long requests are tried.

    - `tail_bytes`: the size of the lines in a log's head; more become a segment. Each append rewrites the head;
    - `segment_bytes`: segments are merged up to this size;
    - `merge`: so many segments of about the same size become one;
    - `cache_bytes`: the size of the heads that are kept in memory, so that an append need not read first;
    - `settle_seconds`: how long a request is repeated after a failure or a lost answer; at most 5 s before the first answer;
    - `lease_seconds`: a lock whose holder does not renew it for so long is free;
    - `write_seconds`: the least time between two writes of one head, for stores that allow one write a second: appends
    in the meantime are written together;
    - `poll_seconds`: the time between two polls of a follower.
    """

    tail_bytes: int = 32 * 1024
    segment_bytes: int = 8 * 1024 * 1024
    merge: int = 16
    cache_bytes: int = 64 * 1024 * 1024
    settle_seconds: float = 30.0
    lease_seconds: float = 30.0
    write_seconds: float = 0.0
    poll_seconds: float = 1.0
