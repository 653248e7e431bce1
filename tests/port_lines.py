"""Lines for a port's backend: sealed events, appended with the tips they need."""

from collections.abc import Callable
from pathlib import Path

from eventstore.events import Event, MessageAdded, SessionCreated
from eventstore.log.batch import prepare, seal
from eventstore.log.port import Backend
from eventstore.record import codec
from eventstore.record.clock import now
from eventstore.record.hash_chain import first_hash
from eventstore.record.scan import Tip


def sealed(before: Tip, *events: Event) -> tuple[bytes, Tip]:
    return seal(prepare(events, codec.MAX_EVENT_BYTES), before, max(now(), before.at))


def said(text: str) -> Event:
    return MessageAdded(role="user", content=text)


def created(backend: Backend, log: str = "s") -> Tip:
    data, tip = sealed(Tip(first_hash(log)), SessionCreated(purpose="p"))
    tip.life = backend.append(log, data, expect=None, tip=tip)
    return tip


def added(backend: Backend, before: Tip, *texts: str, log: str = "s", sync: bool = True) -> Tip:
    data, tip = sealed(before, *map(said, texts))
    tip.life = backend.append(log, data, expect=before, tip=tip, sync=sync)
    return tip


def filled(data: bytes, tip: Tip) -> Callable[[Callable[[bytes], None]], Tip]:
    """Make what writes a whole log of these lines."""

    def fill(write: Callable[[bytes], None]) -> Tip:
        write(data)
        return tip

    return fill


def text_of(backend: Backend, log: str = "s", after: Tip | int = 0, upto: int | None = None) -> bytes:
    return b"".join(backend.read(log, after, upto).chunks)


def open_descriptors() -> int:
    return sum(1 for _ in Path("/dev/fd").iterdir())
