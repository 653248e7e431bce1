"""The file of a snapshot: its format, how it is made from a folded state and read back.

    8 bytes    `ESSNAP1` and LF
    32 bytes   SHA-256 of the next two fields
    4 bytes    size of part 1, big-endian
    part 1     metadata, the count of messages, and the place in the log (`Front`)
    part 2     the first 8 bytes of the SHA-256 of each id of a call or use, sorted: shows whether a later one is new
    part 3     the rest of the summary: calls, uses, data, the numbers of the messages (`_Rest`)

When a snapshot is written and which one is trusted is decided in `snapshots`.
"""

import os
import pkgutil
import stat
import sys
from array import array
from bisect import bisect_left
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import replace
from functools import cache
from hashlib import sha256
from itertools import accumulate, chain
from operator import sub
from os import urandom
from typing import Any

import msgspec

from eventstore import release
from eventstore.backends.files.descriptor import READ
from eventstore.derived.state_cache import CachedState, Mark
from eventstore.errors import EventStoreError
from eventstore.log.base import Head
from projections import metadata as metadata_fold
from projections import summary as summary_fold
from projections.invocations import Invocation

PROJECTION = "summary"
LOG = "events.jsonl"
_MAGIC = b"ESSNAP1\n"
_FRONT_AT = len(_MAGIC) + 32 + 4
_FIRST_READ = 16 * 1024
_CODE = (
    ("projections", "projection.py"),
    ("projections", "summary.py"),
    ("projections", "metadata.py"),
    ("projections", "invocations.py"),
    ("projections", "usage.py"),
    ("projections", "data.py"),
    ("eventstore", "events.py"),
    ("eventstore.record", "codec.py"),
    ("eventstore.record", "message_run.py"),
    ("eventstore.record", "tombstone.py"),
    ("eventstore.derived", "snapshot_file.py"),
    ("eventstore.derived", "snapshots.py"),
    ("eventstore.derived", "log_folder.py"),
)
_MOMENTS_CODE = (
    ("projections", "moments.py"),
    ("projections", "track.py"),
    ("eventstore.derived", "moment_file.py"),
    ("eventstore.derived", "moment_index.py"),
)


class Untrusted(Exception):
    """The snapshot cannot be used: the log is read from its beginning."""


class Damaged(Untrusted):
    """The bytes of the snapshot are not those that were written."""


UNUSABLE = (Untrusted, EventStoreError, OSError, ValueError, OverflowError, RecursionError, msgspec.MsgspecError)
"""Errors of an unusable snapshot or of the log after it. A replay reports the cause."""


class Part(msgspec.Struct, frozen=True, array_like=True):
    """The size of a part in bytes, and its SHA-256."""

    size_bytes: int
    digest: bytes


class Front(msgspec.Struct, frozen=True, array_like=True):
    """Part 1: the place in the log, what is shown, and the sizes and hashes of the other parts."""

    projection: str
    code: bytes
    session_id: str
    head: Head
    mark: Mark
    metadata: metadata_fold.State
    messages: int
    ids: Part
    rest: Part


class _Call(msgspec.Struct, frozen=True, array_like=True, gc=False):
    invocation_id: str
    time: str
    tool_name: str | None
    invocation_dir: str | None
    duration_ms: float | None
    success: bool | None
    error: str | None
    started: bool
    sub_session: str | None


class _Rest(msgspec.Struct, frozen=True, array_like=True):
    """Part 3. `gaps` are the distances between the seqs of messages, each an integer of `width` (a typecode of `array`)."""

    calls: list[_Call]
    uses: dict[str, bytes]
    data: dict[str, Any]
    width: str
    gaps: bytes
    rewritten_at: int
    linked_at: int
    kept_at: int
    redacted_at: int


_front_decoder, _rest_decoder = msgspec.msgpack.Decoder(Front), msgspec.msgpack.Decoder(_Rest)
_encode = msgspec.msgpack.Encoder().encode


def _number() -> bytes:
    """Return the version of the package; random bytes where it is unknown, so that no other process uses the snapshots."""
    number = release.version()
    return urandom(16) if number == release.UNKNOWN else number.encode()


@cache
def code_fingerprint(*, moments: bool = False) -> bytes:
    """Return the SHA-256 of the source of all code that makes snapshots; of the release number where there is no source.

    With `moments`, also of the code that makes moment indexes.
    """
    found = sha256(f"{sys.byteorder} ".encode())
    for package, name in _CODE + (_MOMENTS_CODE if moments else ()):
        try:
            source = pkgutil.get_data(package, name)
        except OSError:
            source = None
        found.update(sha256(_number() if source is None else source).digest())
    return found.digest()


def look(folder: int) -> Mark:
    """Return the mark of the log in a session's folder. Raises Untrusted if it is not a plain file."""
    found = os.stat(LOG, dir_fd=folder, follow_symlinks=False)
    if not stat.S_ISREG(found.st_mode) or found.st_nlink != 1:
        raise Untrusted
    return Mark(found.st_ino, found.st_size, found.st_mtime_ns)


@contextmanager
def open_file(folder: int, name: str) -> Iterator[int]:
    """Yield the descriptor of a plain file, opened for reading. Raises Untrusted, OSError."""
    file = os.open(name, READ, dir_fd=folder)
    try:
        if not stat.S_ISREG(os.fstat(file).st_mode):
            raise Untrusted
        yield file
    finally:
        os.close(file)


def read_front(file: int) -> Front:
    """Read part 1 of a snapshot, with one call where it is small. Raises Untrusted, Damaged, OSError."""
    raw, size = os.pread(file, _FIRST_READ, 0), os.fstat(file).st_size
    end = _FRONT_AT + int.from_bytes(raw[_FRONT_AT - 4 : _FRONT_AT], "big")
    if not raw.startswith(_MAGIC):
        raise Untrusted  # another format
    if end > size:
        raise Damaged
    raw = raw[:end] if end <= len(raw) else os.pread(file, end, 0)
    digest_at = len(_MAGIC)
    if sha256(raw[digest_at + 32 :]).digest() != raw[digest_at : digest_at + 32]:
        raise Damaged
    front = _front_decoder.decode(raw[_FRONT_AT:])
    if size != end + front.ids.size_bytes + front.rest.size_bytes:
        raise Damaged
    return front


def read_part(file: int, front: Front, part: Part) -> bytes:
    """Read part 2 or part 3. They are the end of the file, in this order. Raises Damaged, OSError."""
    end = os.fstat(file).st_size - (front.rest.size_bytes if part is front.ids else 0)
    data = os.pread(file, part.size_bytes, end - part.size_bytes)
    if sha256(data).digest() != part.digest:
        raise Damaged
    return data


def parts_of(session_id: str, fold: CachedState[summary_fold.State], mark: Mark) -> list[bytes]:
    """Return the bytes of a snapshot, in pieces."""
    state = fold.state
    ids, rest = ids_of(state.metadata).tobytes(), _encode(_rest_of(state))
    front = Front(
        PROJECTION,
        code_fingerprint(),
        session_id,
        fold.head,
        mark,
        _shown_of(state),
        len(state.spoken),
        Part(len(ids), sha256(ids).digest()),
        Part(len(rest), sha256(rest).digest()),
    )
    shown = _encode(front)
    sized = len(shown).to_bytes(4, "big") + shown
    return [_MAGIC, sha256(sized).digest(), sized, ids, rest]


def holds(front: Front, state: summary_fold.State) -> bool:
    """Return whether a snapshot has the bytes that a state gives. Other bytes may mean the same, in another order."""
    if (front.metadata, front.messages) != (_shown_of(state), len(state.spoken)):
        return False
    try:
        rest = sha256(_encode(_rest_of(state))).digest()
    except UNUSABLE:
        return False
    return (front.ids.digest, front.rest.digest) == (sha256(ids_of(state.metadata).tobytes()).digest(), rest)


def _shown_of(state: summary_fold.State) -> metadata_fold.State:
    """Return the metadata of part 1."""
    return replace(state.metadata, calls={}, uses={})


def ids_of(metadata: metadata_fold.State) -> "array[int]":
    """Return part 2, in which `is_known` searches."""
    parts = [array("Q") for _ in range(64)]  # sorted one by one: a list of all takes five times the memory of an array
    for kind, texts in ((b"c", metadata.calls), (b"u", metadata.uses)):
        for text in texts:
            short = _short(kind, text)
            parts[short >> 58].append(short)
    return array("Q", chain.from_iterable(map(sorted, parts)))


def _short(kind: bytes, text: str) -> int:
    return int.from_bytes(sha256(kind + text.encode()).digest()[:8], "big")


def is_known(ids: "array[int]", kind: bytes, text: str) -> bool:
    """Return whether a snapshot has a call or use. It errs once in 10^14 with True, which costs a read of the full snapshot."""
    wanted = _short(kind, text)
    place = bisect_left(ids, wanted)
    return place < len(ids) and ids[place] == wanted


def _rest_of(state: summary_fold.State) -> _Rest:
    calls = [_Call(*(getattr(one, name) for name in _Call.__struct_fields__)) for one in state.metadata.calls.values()]
    gaps = _gaps(state.spoken)
    return _Rest(
        calls,
        state.metadata.uses,
        state.data,
        gaps.typecode,
        gaps.tobytes(),
        state.rewritten_at,
        state.linked_at,
        state.kept_at,
        state.redacted_at,
    )


def _gaps(seqs: "array[int]") -> "array[int]":
    """Return the distances between numbers, in the narrowest integers that hold them."""
    gaps = array("Q", map(sub, seqs, chain((0,), seqs)))  # no list: there may be a million
    width = next(code for code in "BHIQ" if max(gaps, default=0) < 1 << 8 * array(code).itemsize)
    return array(width, gaps)


def state_of(front: Front, raw: bytes) -> summary_fold.State:
    """Return the state in parts 1 and 3."""
    rest = _rest_decoder.decode(raw)
    gaps = array(rest.width, rest.gaps)
    metadata = replace(
        front.metadata,
        calls={
            one.invocation_id: Invocation(*(getattr(one, name) for name in _Call.__struct_fields__))
            for one in rest.calls
        },
        uses=rest.uses,
    )
    return summary_fold.State(
        front.head.version,
        metadata,
        rest.data,
        array("q", accumulate(gaps)),
        rest.rewritten_at,
        rest.linked_at,
        rest.kept_at,
        rest.redacted_at,
    )
