"""The file of a moment index, `moments.index` beside the log: a new program continues it instead of reading the log.

    8 bytes    `ESMOM01` and LF
    parts      each 8 bytes size, big-endian, and so many bytes of MessagePack
    32 bytes   SHA-256 of all before it

The first part is the `_Front`. The next three are what only new events need, and are decoded before the first of these: the calls
of the metadata as columns, its uses, and the tools of calls. Then come the other fields of `Moments`, in order. Sequences of
numbers are extensions: the code is that of `array`, the bytes are those of this machine.

The file is trusted as a snapshot is, see `snapshots`. It decides nothing, and is removed where the snapshot is. Reading and
writing take the memory of one part besides the index. A question about a long session writes it, no append does.
"""

import os
from array import array
from collections import deque
from collections.abc import Iterator
from contextlib import suppress
from dataclasses import fields, replace
from functools import partial
from hashlib import sha256
from operator import attrgetter, eq
from pathlib import Path
from types import GenericAlias
from typing import Any, get_type_hints

import msgspec

from eventstore.derived.log_folder import LogFolders, check_place
from eventstore.derived.snapshot_file import UNUSABLE, Damaged, Untrusted, code_fingerprint, look, open_file
from eventstore.derived.snapshots import MOMENTS
from eventstore.derived.state_cache import CachedState, Mark
from eventstore.log.base import Head
from eventstore.log.engine import EventLog
from projections import moments as moments_fold
from projections.invocations import Invocation
from projections.moments import Moments

LEAST_EVENTS = 20_000
"""Sessions with fewer events have no file: reading their logs takes about a tenth of a second."""

_MAGIC = b"ESMOM01\n"
_DIGEST, _SIZE = 32, 8


class _Front(msgspec.Struct, frozen=True, array_like=True):
    """The place in the log, and what made the file."""

    code: bytes
    session_id: str
    head: Head
    mark: Mark


class MomentFiles(LogFolders):
    """The files of moment indexes. Safe for threads and processes."""

    def __init__(self, log: EventLog, sessions_dir: Path) -> None:
        super().__init__(log, sessions_dir)
        self._written: dict[str, int] = {}

    def open(
        self, session_id: str, known: CachedState[Moments] | None = None, version: int | None = None
    ) -> CachedState[Moments] | None:
        """Fold an index from its file, or from one returned before, to the end of the log; None: build it from the log.

        Then the one returned before must not be used again, and a file that is not to be used is removed: it may have what was
        redacted since.
        """
        if version is not None:
            return None

        def read(folder: int, mark: Mark, version: int | None) -> CachedState[Moments]:
            return self._read(session_id, folder, mark)

        try:
            return self._continue(session_id, known, None, moments_fold.kept_projection, read)
        except Untrusted:
            self.forget(session_id)
            with suppress(OSError), self._folder(session_id) as folder:
                os.unlink(MOMENTS, dir_fd=folder)
        except UNUSABLE:
            pass
        return None

    def is_due(self, session_id: str, version: int) -> bool:
        """Return whether enough events are new to write the file: 20,000, and a 16th of all."""
        return version - self._written.get(session_id, 0) >= max(LEAST_EVENTS, version // 16)

    def write(self, session_id: str, fold: CachedState[Moments], mark: Mark | None) -> None:
        """Write the file of an index; `mark` is what `mark` returned before the fold. One that cannot be written is left out."""
        with suppress(*UNUSABLE):
            head = self._log.head(session_id)
            if mark is None or (head.version, head.hash) != (fold.head.version, fold.head.hash):
                return  # the log grew meanwhile: the next question tries it again
            self._written[session_id] = head.version
            fold.state.complete()
            front = _Front(code_fingerprint(moments=True), session_id, head, mark)
            self._replace(session_id, MOMENTS, fold._replace(head=head), mark, partial(_parts_of, front, fold.state))

    def check(self, session_id: str, head: Head) -> Iterator[str]:
        """Compare a file that would be used with the log, of which `head` is the verified end; yield the differences."""
        try:
            with self._folder(session_id) as folder, open_file(folder, MOMENTS) as file:
                parts = _parts_in(file)
                front = self._trusted(session_id, folder, look(folder), next(parts, b""))
                deque(parts, 0)
        except Damaged:
            yield f"{MOMENTS} is damaged, and not used"
            return
        except UNUSABLE:
            return
        if front.head.version <= head.version and not self._is_same(session_id, front):
            yield f"{MOMENTS} is not what the log gives at event {front.head.version}"

    def _is_same(self, session_id: str, front: _Front) -> bool:
        """Compare a file with what the log gives, part by part. One that was replaced in the meantime is not compared."""
        wanted = moments_fold.projection.fold(self._log.skim(session_id, 0, front.head.version))
        with suppress(*UNUSABLE), self._folder(session_id) as folder, open_file(folder, MOMENTS) as file:
            ours, theirs = _contents(front, wanted), _parts_in(file)
            return next(ours) != next(theirs, b"") or all(map(eq, ours, theirs))
        return True

    def forget(self, session_id: str) -> None:
        """Forget what was written of a session."""
        self._written.pop(session_id, None)

    def _read(self, session_id: str, folder: int, mark: Mark) -> CachedState[Moments]:
        with open_file(folder, MOMENTS) as file:
            parts = _parts_in(file)
            front = self._trusted(session_id, folder, mark, next(parts, b""))
            try:
                state = _state_of(parts)
            except (ValueError, OverflowError, msgspec.MsgspecError):
                raise Damaged from None
        self._written[session_id] = front.head.version
        return CachedState(front.head, state, front.mark)

    def _trusted(self, session_id: str, folder: int, mark: Mark, part: bytes) -> _Front:
        """Return the front if it fits this log and this code. Raises Untrusted, Damaged."""
        try:
            front = _FRONT.decode(part)
        except (ValueError, msgspec.MsgspecError):
            raise Damaged from None
        if (front.code, front.session_id) != (code_fingerprint(moments=True), session_id):
            raise Untrusted
        check_place(folder, front.head, front.mark, mark)
        return front


def _extension(value: Any) -> msgspec.msgpack.Ext:
    if not isinstance(value, array):
        raise TypeError(type(value))
    return msgspec.msgpack.Ext(ord(value.typecode), value.tobytes())


def _numbers(code: int, data: memoryview) -> "array[Any]":
    found = array(chr(code))
    found.frombytes(data)
    return found


def _as_numbers(kind: type, value: Any) -> Any:
    if not isinstance(value, array):
        raise ValueError(kind)
    return value


_encode = msgspec.msgpack.Encoder(enc_hook=_extension).encode
_FRONT = msgspec.msgpack.Decoder(_Front)
_USES = msgspec.msgpack.Decoder(dict[str, bytes])
_COLUMNS = tuple(GenericAlias(list, (kind,)) for kind in get_type_hints(Invocation).values())
_CALLS: msgspec.msgpack.Decoder[list[list[Any]]] = msgspec.msgpack.Decoder(GenericAlias(tuple, _COLUMNS))
_TOOLS = msgspec.msgpack.Decoder(dict[str, str])
_FIELDS = {
    one.name: msgspec.msgpack.Decoder(hint, ext_hook=_numbers, dec_hook=_as_numbers)
    for one, hint in zip(fields(Moments), get_type_hints(Moments).values(), strict=True)
    if one.name not in ("tool_of", "late")
}


def _parts_of(front: _Front, state: Moments) -> Iterator[bytes]:
    """Stream the bytes of a file."""
    digest = sha256(_MAGIC)
    yield _MAGIC
    for part in _contents(front, state):
        for piece in (len(part).to_bytes(_SIZE, "big"), part):
            digest.update(piece)
            yield piece
    yield digest.digest()


def _contents(front: _Front, state: Moments) -> Iterator[bytes]:
    calls = state.now.calls.values()
    yield _encode(front)
    yield _encode([list(map(attrgetter(name), calls)) for name in Invocation.__struct_fields__])
    yield _encode(state.now.uses)
    yield _encode(state.tool_of)
    kept = {"now": replace(state.now, calls={}, uses={}), "calls": replace(state.calls, known={})}
    for name in _FIELDS:
        yield _encode(kept.get(name) or getattr(state, name))


def _parts_in(file: int) -> Iterator[bytes]:
    """Stream the parts of a file. Raises Untrusted; Damaged, after the last part too; OSError."""
    place, end = len(_MAGIC), os.fstat(file).st_size - _DIGEST
    if os.pread(file, place, 0) != _MAGIC:
        raise Untrusted  # another format
    digest = sha256(_MAGIC)
    while place < end:
        size = os.pread(file, _SIZE, place)
        length = int.from_bytes(size, "big")
        if place + _SIZE + length > end:
            raise Damaged
        part = os.pread(file, length, place + _SIZE)
        place += _SIZE + length
        digest.update(size)
        digest.update(part)
        yield part
    if place != end or os.pread(file, _DIGEST, end) != digest.digest():
        raise Damaged


def _state_of(parts: Iterator[bytes]) -> Moments:
    """Return the index in the parts after the front. Raises as `_parts_in` does, and errors of decoding."""
    late = partial(_complete, next(parts, b""), next(parts, b""), next(parts, b""))
    state = Moments(**{name: decoder.decode(next(parts, b"")) for name, decoder in _FIELDS.items()}, late=late)
    deque(parts, 0)  # raises where the bytes are not those that were written
    for track in (state.token_kinds, *state.figures.values()):
        track.first = _frozen(track.first)
        if isinstance(track.values, list):
            track.values = [_frozen(value) for value in track.values]
    return state


def _complete(calls: bytes, uses: bytes, tools: bytes, state: Moments) -> None:
    state.now.calls = {one.invocation_id: one for one in map(Invocation, *_CALLS.decode(calls))}
    state.now.uses, state.tool_of = _USES.decode(uses), _TOOLS.decode(tools)
    lives = state.calls
    lives.known = {name: life for life, name in enumerate(lives.names) if not lives.died[life]}


def _frozen(value: Any) -> Any:
    return tuple(map(_frozen, value)) if isinstance(value, list) else value
