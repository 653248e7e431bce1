"""A backend whose refusals to read come out as an error for callers; what it refuses to write is for the engine to judge."""

from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, contextmanager
from typing import ParamSpec, TypeVar

from eventstore.errors import ReadRefused
from eventstore.ids import TRASH, owner_of
from eventstore.log.base import Changes
from eventstore.log.port import Backend, Reading, Refused, Tip
from eventstore.log.watch import Watch

P = ParamSpec("P")
R = TypeVar("R")


class Guarded:
    """The backend of one engine. The calls that change nothing raise ReadRefused where the backend raises Refused."""

    def __init__(self, backend: Backend) -> None:
        self._backend = backend
        self.capabilities = backend.capabilities
        self.where = backend.where
        self.append, self.sync, self.write_whole = backend.append, backend.sync, backend.write_whole
        self.overwrite, self.cut, self.move, self.delete = backend.overwrite, backend.cut, backend.move, backend.delete
        self.put_blob, self.delete_blob = backend.put_blob, backend.delete_blob
        self.flush, self.close = backend.flush, backend.close

    def tip(self, log: str) -> Tip:
        """As the backend does; raises ReadRefused where that raises Refused."""
        return self._ask(log, self._backend.tip, log)

    def read(self, log: str, after: Tip | int = 0, upto: int | None = None) -> Reading:
        """As the backend does; raises ReadRefused where that raises Refused."""
        reading = self._ask(log, self._backend.read, log, after, upto)
        return reading._replace(chunks=self._stream(log, reading.chunks))

    def changed(self, since: str | None = None) -> Changes:
        """As the backend does; raises ReadRefused where that raises Refused."""
        return self._ask("", self._backend.changed, since)

    def trashed(self) -> list[str]:
        """As the backend does; raises ReadRefused where that raises Refused."""
        return self._ask(TRASH, self._backend.trashed)

    def find_key(self, log: str, key: str) -> tuple[int, int] | None:
        """As the backend does; raises ReadRefused where that raises Refused."""
        return self._ask(log, self._backend.find_key, log, key)

    @contextmanager
    def _locked(self, name: str) -> Iterator[object]:
        lock = self._ask(name, self._backend.lock, name)
        held = self._ask(name, lock.__enter__)
        try:
            yield held
        finally:
            lock.__exit__(None, None, None)

    def lock(self, name: str) -> AbstractContextManager[object]:
        """As the backend does; raises ReadRefused where that raises Refused."""
        return self._locked(name)

    def blobs(self, log: str) -> list[str]:
        """As the backend does; raises ReadRefused where that raises Refused."""
        return self._ask(log, self._backend.blobs, log)

    def get_blob(self, log: str, name: str) -> Iterator[bytes]:
        """As the backend does; raises ReadRefused where that raises Refused."""
        return self._stream(log, self._ask(log, self._backend.get_blob, log, name))

    def watch(self, log: str | None) -> Watch:
        """As the backend does; raises ReadRefused where that raises Refused."""
        return self._ask(log or "", self._backend.watch, log)

    def is_open(self, log: str) -> bool:
        """As the backend does; raises ReadRefused where that raises Refused."""
        return self._ask(log, self._backend.is_open, log)

    def _ask(self, log: str, ask: Callable[P, R], *args: P.args, **named: P.kwargs) -> R:
        try:
            return ask(*args, **named)
        except Refused as error:
            raise self._refused(log, error) from error

    def _stream(self, log: str, chunks: Iterator[bytes]) -> Iterator[bytes]:
        try:
            yield from chunks
        except Refused as error:
            raise self._refused(log, error) from error

    def _refused(self, log: str, error: Refused) -> ReadRefused:
        name = log.removeprefix("log/")
        session_id = owner_of(name) if name not in ("", TRASH) else ""
        return ReadRefused(session_id, error.where, error.errno or 5)
