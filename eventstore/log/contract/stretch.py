"""Lines for the contract of backends: sealed as the engine does it, so that a backend that looks at them finds records."""

from collections.abc import Iterator

from eventstore.events import MessageAdded
from eventstore.log.batch import prepare, seal
from eventstore.log.port import Backend, Tip
from eventstore.record import clock, codec, hash_chain


class Stretch:
    """One incarnation of a log as its writer knows it: where it ends, and all its bytes."""

    def __init__(self, backend: Backend, log: str, *texts: str) -> None:
        self.backend, self.log = backend, log
        self.tip: Tip = Tip(hash_chain.first_hash(log))
        self.data = b""
        self.tips: list[Tip] = []
        if texts:
            self.add(*texts)

    @property
    def expect(self) -> Tip | None:
        """What the next append expects."""
        return self.tip if self.tip.life else None

    def seal(self, *texts: str) -> tuple[bytes, Tip]:
        """Seal one batch after the end, and write nothing."""
        events = [MessageAdded(role="user", content=text) for text in texts]
        return seal(prepare(events, codec.MAX_EVENT_BYTES), self.tip, max(clock.now(), self.tip.at))

    def add(self, *texts: str, backend: Backend | None = None) -> Tip:
        """Append one batch, by another handle where one is given; return where the log ends."""
        data, tip = self.seal(*texts)
        tip.life = (backend or self.backend).append(self.log, data, expect=self.expect, tip=tip)
        self.took(data, tip)
        return tip

    def took(self, data: bytes, tip: Tip) -> None:
        """Record that lines were appended."""
        self.data += data
        self.tip = tip
        self.tips.append(tip)

    def lines(self) -> list[bytes]:
        """List the lines, each with its LF."""
        return self.data.splitlines(keepends=True)


def content(backend: Backend, log: str, after: Tip | int = 0, upto: int | None = None) -> bytes:
    """Read a log, and check that what was announced is what came."""
    reading = backend.read(log, after, upto)
    data = b"".join(reading.chunks)
    assert len(data) == reading.end - reading.offset
    return data


def pieces(data: bytes, size: int = 97) -> Iterator[bytes]:
    """Cut bytes into pieces that end anywhere."""
    return (data[start : start + size] for start in range(0, len(data), size))
