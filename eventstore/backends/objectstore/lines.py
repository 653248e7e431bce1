"""The lines of a log: sealed segments, which never change, and the tail in the head."""

import errno
import os
from collections.abc import Callable, Iterator, Sequence
from dataclasses import replace
from hashlib import sha256
from typing import NamedTuple

from eventstore.backends.objectstore.head import Head, Segment, line_at, place_behind
from eventstore.backends.objectstore.keys import life_prefix, segment_key
from eventstore.backends.objectstore.objects import Gone, Objects
from eventstore.backends.objectstore.options import ObjectOptions
from eventstore.log.port import Missing, Moved, Reading, Refused, Tip
from eventstore.record import hash_chain

_CHUNK_BYTES = 1024 * 1024
_ATTEMPTS = 100


class _Position(NamedTuple):
    """Where reading begins: the index of the segment (their number means the tail), and the byte of the log."""

    part: int
    offset: int


class Lines:
    """Reads and writes the segments of the logs of one store."""

    def __init__(self, objects: Objects, options: ObjectOptions, head_of: Callable[[str], Head]) -> None:
        self._objects, self._options, self._head_of = objects, options, head_of

    # --- reading

    def read(self, log: str, head: Head, after: Tip | int, upto: int | None) -> Reading:
        """Read after a place. Raises Moved, Refused; Gone if the head is not that of the log any more."""
        if not isinstance(after, int) and after.life not in ("", head.life):
            raise Moved(log)
        seq = after if isinstance(after, int) else after.seq
        index, start = self._segment_of(head, max(seq, head.first - 1) + 1)
        data: bytes | None = None
        if seq >= head.first:
            data, skip = self._behind(log, head, after, index)
        else:
            skip = 0
            if not isinstance(after, int):
                raise Moved(log)
        parts = [one.size for one in head.segments] + [len(head.tail)]
        last = self._last_part(head, upto)
        end = max(sum(parts[: last + 1]), start + skip)
        return Reading(head.life, start + skip, end, self._chunks(log, head, _Position(index, start + skip), end, data))

    def _segment_of(self, head: Head, seq: int) -> tuple[int, int]:
        """Return the index of the segment with a line (their number means the tail), and the first byte of that segment."""
        start = 0
        for index, one in enumerate(head.segments):
            if seq <= one.last:
                return index, start
            start += one.size
        return len(head.segments), start

    def _last_part(self, head: Head, upto: int | None) -> int:
        return len(head.segments) if upto is None else self._segment_of(head, upto)[0]

    def _behind(self, log: str, head: Head, after: Tip | int, index: int) -> tuple[bytes | None, int]:
        """Find the place after a line: the part with the next line, if it had to be read, and the byte in it.

        Raises Moved if the log does not have that tip.
        """
        seq = after if isinstance(after, int) else after.seq
        first = head.segments[index - 1].last + 1 if index else head.first
        if seq >= head.seq:  # at the end, or after it
            if not isinstance(after, int) and (seq, after.digest) != (head.seq, head.digest):
                raise Moved(log)
            return None, len(head.tail)
        if isinstance(after, int) and seq == first - 1:
            return None, 0
        if seq == first - 1:  # the tip is the last line of the part before
            before = self._part(log, head, index - 1)
            if not before.endswith(b',"hash":"%b"}\n' % after.digest.hex().encode()):  # type: ignore[union-attr]
                raise Moved(log)
            return None, 0
        data = self._part(log, head, index)
        found = line_at(data, seq - first + 1) if isinstance(after, int) else place_behind(data, first, after)
        if found is None:
            raise Moved(log)
        return data, found

    def _part(self, log: str, head: Head, index: int) -> bytes:
        """Read a segment, or the tail. Raises Gone if it is missing: the log was changed in the meantime."""
        if index == len(head.segments):
            return head.tail
        found = self._objects.get(segment_key(head.base, head.segments[index].name))
        if found is None:
            raise Gone(log)
        return found.data

    def _chunks(self, log: str, head: Head, here: _Position, end: int, data: bytes | None) -> Iterator[bytes]:
        """Stream the bytes from one position to another.

        Segments that were merged in the meantime are found at their new place.
        """
        index, position = here
        start = sum(one.size for one in head.segments[:index])
        while position < end:
            for _ in range(_ATTEMPTS):
                try:
                    data = self._part(log, head, index) if data is None else data
                    break
                except Gone:
                    head, index, start = self._again(log, head, position)
            if data is None or not data[position - start :]:
                raise Refused(self._objects.where(life_prefix(head.base)), errno.EIO, "a segment is missing")
            wanted = data[position - start : end - start]
            for place in range(0, len(wanted), _CHUNK_BYTES):
                yield wanted[place : place + _CHUNK_BYTES]
            position += len(wanted)
            start += len(data)
            index, data = index + 1, None

    def _again(self, log: str, head: Head, position: int) -> tuple[Head, int, int]:
        """Find a byte of a log in its present segments; refuse a log that was removed or is shorter now."""
        try:
            now = self._head_of(log)
        except Missing:
            now = None
        if now is None or now.base != head.base or now.size < position or now == head:
            raise Refused(self._objects.where(life_prefix(head.base)), errno.ESTALE, "it was removed while it was read")
        start = 0
        for index, one in enumerate(now.segments):
            if position < start + one.size:
                return now, index, start
            start += one.size
        return now, len(now.segments), start

    # --- writing

    def grown(self, head: Head, lines: bytes, tip: Tip) -> tuple[Head, "Sealed"]:
        """Return the head with lines added at its end; if its tail is full, tail and lines are sealed in a segment.

        Raises Refused.
        """
        tail = head.tail + lines
        if len(tail) <= self._options.tail_bytes:
            return head.with_end(tip, tail, head.segments), Sealed(head.base)
        new = self._seal(head.base, head.edits, tip.seq, tail)
        sealed = Sealed(head.base, [new.name])
        segments = self._merged(head, (*head.segments, new), sealed)
        return head.with_end(tip, b"", segments), sealed

    def _seal(self, base: str, edits: int, last: int, data: bytes) -> Segment:
        """Write a segment. Its name is unique, so that a writer that did not use it can delete it."""
        name = f"{edits:x}-{sha256(data).hexdigest()[:16]}-{os.urandom(4).hex()}"
        self._objects.put(segment_key(base, name), data)
        return Segment(last, len(data), name)

    def _merged(self, head: Head, segments: tuple[Segment, ...], sealed: "Sealed") -> tuple[Segment, ...]:
        """Merge the last segments while there are enough of about the same size."""
        while (run := self._run(segments)) and (parts := self._read_all(head.base, run)) is not None:
            one = self._seal(head.base, head.edits, run[-1].last, b"".join(parts))
            sealed.written.append(one.name)
            sealed.replaced += [old.name for old in run]
            segments = (*segments[: -len(run)], one)
        return segments

    def _run(self, segments: tuple[Segment, ...]) -> tuple[Segment, ...]:
        """Return the last segments to merge: enough of about the same size, or very many of any size."""
        for count, spread in ((self._options.merge, 4), (4 * self._options.merge, self._options.segment_bytes)):
            sizes = [one.size for one in segments[-count:]]
            if len(sizes) == count and sum(sizes) <= self._options.segment_bytes and max(sizes) <= spread * min(sizes):
                return segments[-count:]
        return ()

    def _read_all(self, base: str, run: Sequence[Segment]) -> list[bytes] | None:
        found = [self._objects.get(segment_key(base, one.name)) for one in run]
        return None if None in found else [one.data for one in found if one is not None]

    def drop(self, base: str, names: Sequence[str]) -> None:
        """Delete segments that no head names. Raises Refused."""
        self._objects.delete([segment_key(base, name) for name in names])

    def drop_older(self, head: Head) -> None:
        """Delete segments of earlier edits that a head does not name: no head of another writer can name them any more."""
        used = {one.name for one in head.segments}
        prefix = segment_key(head.base, "")
        names = [one.key.removeprefix(prefix) for one in self._objects.listing(prefix)]
        self.drop(head.base, [name for name in names if name not in used and _edits_of(name) < head.edits])

    def write_whole(self, base: str, edits: int, fill: Callable[[Callable[[bytes], None]], Tip]) -> Head:
        """Write the segments of a log from `fill`, and return its head. Errors of `fill` are raised, and nothing remains."""
        filler = _Filler(self, base, edits, self._options.segment_bytes)
        try:
            tip = fill(filler.write)
            return filler.end(tip, self._options.tail_bytes)
        except BaseException:
            self.drop(base, [one.name for one in filler.segments])
            raise

    def overwritten(self, log: str, head: Head, seq: int, offset: int, line: bytes) -> Head:
        """Return the head of a log with one line replaced; the new segment is written. Raises Moved, Gone, Refused."""
        if not head.first <= seq <= head.seq:
            raise Moved(log)
        index, start = self._segment_of(head, seq)
        data = self._part(log, head, index)
        place = offset - start
        if (
            place < 0
            or (place and data[place - 1 : place] != b"\n")
            or data.find(b"\n", place) + 1 != place + len(line)
        ):
            raise Moved(log)
        if hash_chain.line_number(data[place : place + len(line)]) != seq:
            raise Moved(log)
        data = data[:place] + line + data[place + len(line) :]
        edits = head.edits + 1
        if index == len(head.segments):
            return replace(head, tail=data, edits=edits)
        new = self._seal(head.base, edits, head.segments[index].last, data)
        segments = (*head.segments[:index], new, *head.segments[index + 1 :])
        return replace(head, segments=segments, edits=edits)

    def cut(self, log: str, head: Head, tip: Tip) -> tuple[Head, bytes]:
        """Return the head of the log cut after a tip, and the removed bytes. Raises Moved, Gone, Refused."""
        reading = self.read(log, head, head.first - 1 if tip.offset == 0 else Tip(tip.digest, seq=tip.seq), None)
        removed = b"".join(reading.chunks)
        index, start = self._segment_of(head, tip.seq + 1)
        kept = head.segments[:index]
        tail = head.tail if index == len(head.segments) else self._part(log, head, index)
        return head.with_end(tip, tail[: reading.offset - start], kept), removed


class Sealed:
    """The segments written for a head before its swap, and those that it does not name any more."""

    def __init__(self, base: str, written: list[str] | None = None) -> None:
        self.base, self.written, self.replaced = base, written or [], list[str]()


class _Filler:
    """Receives bytes in pieces of any size, and seals complete lines when there are enough for a segment."""

    def __init__(self, lines: Lines, base: str, edits: int, segment_bytes: int) -> None:
        self._lines, self._base, self._edits, self._limit = lines, base, edits, segment_bytes
        self._parts: list[bytes] = []
        self._size = self._count = 0
        self.segments: list[Segment] = []

    def write(self, piece: bytes) -> None:
        self._parts.append(piece)
        self._size += len(piece)
        if self._size >= self._limit and b"\n" in piece:
            whole, lf, rest = b"".join(self._parts).rpartition(b"\n")
            self._seal(whole + lf)
            self._parts, self._size = [rest], len(rest)

    def _seal(self, data: bytes) -> None:
        self._count += data.count(b"\n")
        self.segments.append(self._lines._seal(self._base, self._edits, self._count, data))

    def end(self, tip: Tip, tail_bytes: int) -> Head:
        tail = b"".join(self._parts)
        if len(tail) > tail_bytes:
            self._seal(tail)
            tail = b""
        first = tip.seq - self._count - tail.count(b"\n") + 1
        segments = tuple(one._replace(last=first - 1 + one.last) for one in self.segments)
        size = sum(one.size for one in segments) + len(tail)
        return Head(self._base, first, tip.seq, tip.digest, tip.at, size, segments, tail, self._edits)


def _edits_of(name: str) -> int:
    return int(name.partition("-")[0], 16)
