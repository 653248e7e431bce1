"""Reading a log's bytes with suspicion: where the committed prefix ends, and whether what follows is torn or damaged."""

from collections.abc import Iterator
from dataclasses import dataclass, field
from typing import NamedTuple

from eventstore import codec


class Fault(NamedTuple):
    """Bytes that are not what was written: `line` from 1, `offset_bytes` of its beginning, and why."""

    line: int
    offset_bytes: int
    reason: str


@dataclass(slots=True)
class Scan:
    """A verified position in one log, moved forward by feeding it bytes.

    `offset`, `seq`, `digest`, `at` describe the end of the last whole committed batch. `ids` maps each idempotency key to
    the first and last seq of the append it came with. `fault` is set at the first line that does not fit; the scan
    goes no further then.
    """

    digest: bytes
    max_line_bytes: int = codec.MAX_EVENT_BYTES
    offset: int = 0
    seq: int = 0
    at: str = ""
    ids: dict[str, tuple[int, int]] = field(default_factory=dict)
    fault: Fault | None = None

    def feed(self, chunks: Iterator[bytes]) -> bytes:
        """Read chunks that begin at `offset` until they end or a line does not fit.

        Returns the bytes behind the last whole committed batch that were seen: empty for a clean log.
        """
        rest = b""
        for chunk in chunks:
            rest = self._advance(rest + chunk if rest else chunk)
            if self.fault:
                break
            if len(rest) > self.max_line_bytes and b"\n" not in rest[-self.max_line_bytes :]:
                self.fault = Fault(self.seq + 1, self.offset, f"line over {self.max_line_bytes} bytes")
                break
        return rest

    def _advance(self, data: bytes) -> bytes:
        """Take in the whole committed batches at the start of `data`; return the rest."""
        start, offset, seq, digest, at = 0, self.offset, self.seq, self.digest, self.at
        batch_end, pending = seq + 1, []
        while (end := data.find(b"\n", start)) >= 0:
            line = data[start:end]
            reason, head, found = _judge(line, seq + 1, at, digest)
            if reason is None and head is not None and (seq + 1 < batch_end) != (head.batch is not None and head.batch[0] > 0):
                reason = "batch is broken off"
            if reason is not None or head is None or found is None:
                self.fault = Fault(seq + 1, offset, reason or "is not a record")
                break
            start, offset, seq, digest, at = end + 1, offset + len(line) + 1, seq + 1, found, head.at
            if head.batch is not None and head.batch[0] == 0:
                batch_end = seq + head.batch[1]
            if head.id is not None:
                first = seq - (head.batch[0] if head.batch else 0)
                pending.append((head.id, (first, first + (head.batch[1] if head.batch else 1) - 1)))
            if seq + 1 >= batch_end:
                for key, place in pending:
                    self.ids.setdefault(key, place)
                pending.clear()
                self.offset, self.seq, self.digest, self.at = offset, seq, digest, at
                committed, batch_end = start, seq + 1
                rest_from = committed
                continue
        else:
            return data[self._cut(data, start) :]
        return data[self._cut(data, start) :]

    def _cut(self, data: bytes, start: int) -> int:
        raise NotImplementedError


def _judge(line: bytes, seq: int, at: str, digest: bytes) -> tuple[str | None, codec.Head | None, bytes | None]:
    raise NotImplementedError
