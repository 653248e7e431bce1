"""A wrapper of a backend: it allows only the errors of the port, and turns refused reads into errors for callers."""

import errno
from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import AbstractContextManager, contextmanager
from itertools import chain
from typing import ParamSpec, TypeAlias, TypeVar

from eventstore.errors import ReadRefused, SessionNotFound
from eventstore.ids import TRASH, owner_of
from eventstore.log.base import Changes
from eventstore.log.port import (
    Backend,
    Cut,
    Exists,
    Missing,
    Moved,
    PortError,
    Reading,
    Refused,
    Swap,
    Tables,
    Tip,
    Unclear,
)
from eventstore.log.watch import Watch

P = ParamSpec("P")
R = TypeVar("R")
Expected: TypeAlias = tuple[type[PortError], ...]


class Guarded:
    """The backend of one engine. Each call may raise the errors that `Backend` documents; the engine handles those.

    Calls that only read raise ReadRefused for any other error, and also if the backend raises Refused. Calls that write
    raise Unclear for any other error. `append` and `append_at_once` may raise anything: they are passed through unchanged.
    """

    def __init__(self, backend: Backend) -> None:
        self._backend = backend
        self.capabilities = backend.capabilities
        self.where = backend.where
        self.append, self.append_at_once = backend.append, backend.append_at_once

    # --- what changes nothing

    def tip(self, log: str) -> Tip:
        """As the backend does; Moved for a log whose end is damaged."""
        return self._ask(log, (Missing, Moved), self._backend.tip, log)

    def read(self, log: str, after: Tip | int = 0, upto: int | None = None) -> Reading:
        """As the backend does. A log that is removed while its chunks are read raises SessionNotFound."""
        expected: Expected = (Missing,) if isinstance(after, int) else (Missing, Moved)
        reading = self._ask(log, expected, self._backend.read, log, after, upto)
        return reading._replace(chunks=self._stream(log, reading.chunks))

    def read_small(self, log: str, most_bytes: int) -> bytes | None:
        """As the backend does."""
        return self._ask(log, (Missing,), self._backend.read_small, log, most_bytes)

    def changed(self, since: str | None = None) -> Changes:
        """As the backend does."""
        return self._ask("", (), self._backend.changed, since)

    def trashed(self) -> list[str]:
        """As the backend does."""
        return self._ask(TRASH, (), self._backend.trashed)

    def find_key(self, log: str, key: str) -> tuple[int, int] | None:
        """As the backend does."""
        return self._ask(log, (), self._backend.find_key, log, key)

    @contextmanager
    def _locked(self, name: str) -> Iterator[object]:
        lock = self._ask(name, (Missing,), self._backend.lock, name)
        held = self._ask(name, (Missing,), lock.__enter__)
        try:
            yield held
        finally:
            lock.__exit__(None, None, None)

    def lock(self, name: str) -> AbstractContextManager[object]:
        """As the backend does; Missing where it is that of a log that is not there."""
        return self._locked(name)

    def blobs(self, log: str) -> list[str]:
        """As the backend does."""
        return self._ask(log, (Missing,), self._backend.blobs, log)

    def get_blob(self, log: str, name: str) -> Iterator[bytes]:
        """As the backend does; what is missing is so at the call."""
        chunks = self._ask(log, (Missing,), self._backend.get_blob, log, name)
        first = self._ask(log, (Missing,), next, chunks, b"")
        return chain([first], self._stream(log, chunks))

    def watch(self, log: str | None) -> Watch:
        """As the backend does."""
        return self._ask(log or "", (), self._backend.watch, log)

    def is_open(self, log: str) -> bool:
        """As the backend does."""
        return self._ask(log, (Missing,), self._backend.is_open, log)

    # --- what changes something

    def append_many(self, swaps: Sequence[Swap]) -> list[str | None]:
        """As the backend does."""
        return self._do("", (), self._backend.append_many, swaps)

    def sync(self, log: str, tip: Tip) -> None:
        """As the backend does; Missing for a log that was deleted since."""
        self._do(log, (Missing,), self._backend.sync, log, tip)

    def write_whole(
        self,
        log: str,
        fill: Callable[[Callable[[bytes], None]], Tip],
        blobs: Iterable[tuple[str, Iterable[bytes]]] = (),
        *,
        expect: Tip | None,
    ) -> str:
        """As the backend does."""
        expected: Expected = (Exists,) if expect is None else (Missing, Moved)
        return self._do(log, expected, self._backend.write_whole, log, fill, blobs, expect=expect)

    def overwrite(self, log: str, seq: int, offset: int, line: bytes) -> None:
        """As the backend does."""
        self._do(log, (Missing, Moved), self._backend.overwrite, log, seq, offset, line)

    def cut(self, log: str, tip: Tip) -> Cut:
        """As the backend does."""
        return self._do(log, (Missing, Moved), self._backend.cut, log, tip)

    def move(self, log: str, to: str, *, expect: Tip | None) -> None:
        """As the backend does."""
        expected: Expected = (Missing, Exists) if expect is None else (Missing, Exists, Moved)
        self._do(log, expected, self._backend.move, log, to, expect=expect)

    def delete(self, log: str, *, expect: Tip | None) -> bool:
        """As the backend does."""
        return self._do(log, () if expect is None else (Moved,), self._backend.delete, log, expect=expect)

    def put_blob(self, log: str, name: str, data: bytes) -> None:
        """As the backend does."""
        self._do(log, (Missing,), self._backend.put_blob, log, name, data)

    def delete_blob(self, log: str, name: str) -> None:
        """As the backend does."""
        self._do(log, (Missing,), self._backend.delete_blob, log, name)

    def flush(self) -> None:
        """As the backend does."""
        self._do("", (), self._backend.flush)

    def tables(self) -> Tables:
        """As the backend does."""
        return self._backend.tables()

    def vacuum(self) -> tuple[str, ...]:
        """As the backend does."""
        return self._do("", (), self._backend.vacuum)

    def close(self) -> None:
        """As the backend does."""
        self._do("", (), self._backend.close)

    # --- answers

    def _ask(self, log: str, expected: Expected, ask: Callable[P, R], *args: P.args, **named: P.kwargs) -> R:
        try:
            return ask(*args, **named)
        except expected:
            raise
        except PortError as error:
            raise self._refused(log, error) from error

    def _do(self, log: str, expected: Expected, do: Callable[P, R], *args: P.args, **named: P.kwargs) -> R:
        try:
            return do(*args, **named)
        except expected:
            raise
        except Refused:
            raise
        except PortError as error:
            raise Unclear(self._place(log), errno.EPROTO, f"the backend answered {type(error).__name__}") from error

    def _stream(self, log: str, chunks: Iterator[bytes]) -> Iterator[bytes]:
        try:
            yield from chunks
        except Missing:
            raise SessionNotFound(owner_of(log)) from None
        except PortError as error:
            raise self._refused(log, error) from error

    def _refused(self, log: str, error: PortError) -> ReadRefused:
        name = log.removeprefix("log/")
        session_id = owner_of(name) if name not in ("", TRASH) else ""
        if isinstance(error, Refused):
            return ReadRefused(session_id, error.where, error.errno or errno.EIO)
        return ReadRefused(session_id, self._place(name), errno.EPROTO)

    def _place(self, name: str) -> str:
        return self.where(name) if name not in ("", TRASH) else "the store"
